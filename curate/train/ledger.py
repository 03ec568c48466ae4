"""The ledger: every verdict that was given, on which test documents, and what became of it at a larger scale.

A test set that has been looked at is worth less. Twenty mixes tried on the same documents give one that is better by
luck, and nobody who sees only that trial can tell. The ledger counts the verdicts on each test set, by the hash of its
documents, and makes all verdicts on it one family for Holm (panel.py):

    the first verdict on a test set has its own level; with k verdicts on record the next trial's intervals have level
    1 - .05 / (k + number of its mixes), which is what Holm asks of the smallest p of so many (``level``);
    ``standing`` adjusts all verdicts on a test set together. An earlier one whose adjusted p has risen above .05 is
    withdrawn there: a verdict is a claim in the company of all that were tried.

So at any time the chance that a test set's standing verdicts contain a false one is at most .05. (A verdict that was
announced when it was first and withdrawn later was announced all the same: choose on validation documents, and keep
the test set for the few that are left.)

A verdict is *checked* when the comparison is made again at a larger scale, and its direction either held or did not.
After 20 checked verdicts the ledger tells how often they hold, with an exact binomial interval: the tool's own decision
accuracy, as DataDecide (Magnusson et al. 2025) measures it for published proxies (about 80 % of pairs from 150 million
weights to a billion). Verdicts without a direction (equivalent, inconclusive, none) are counted as uses of the test set
and nothing else.

It is kept in a journal (journal.py), a file on this machine, or in whatever reads and adds entries as one does
(``Entries``); the same trial told twice counts once.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from curate.train import journal
from curate.train.panel import holm
from curate.train.quantiles import binomial_interval

ALPHA = 0.05
ENOUGH = 20  # checked verdicts before an accuracy is told


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One mix's verdict, as a trial gives it.

    Args:
        mix: its name in the trial.
        test_sets: hashes of the documents it was judged on.
        verdict: in words.
        estimate: percent saved; its sign is the direction.
        low: lower end of the interval.
        high: upper end.
        level: of the interval.
        p: two-sided, of the primary contrast.
        directional: whether the verdict claims a direction ("closer", "farther", "better", "worse").
    """

    mix: str
    test_sets: tuple[str, ...]
    verdict: str
    estimate: float
    low: float
    high: float
    level: float
    p: float
    directional: bool


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A verdict among all others on its test set.

    Args:
        id: of its entry.
        trial: that gave it.
        verdict: as given.
        adjusted: its p by Holm over all verdicts on the test set.
        stands: it claimed a direction and still may.
    """

    id: str
    trial: str
    verdict: Verdict
    adjusted: float
    stands: bool


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How often verdicts with a direction held at a larger scale.

    Args:
        held: how many did.
        checked: of how many.
        low: lower end of the exact interval (95 %) of the share.
        high: upper end.
    """

    held: int
    checked: int
    low: float
    high: float


class Entries(Protocol):
    """Where entries are kept: facts that are only ever added to, each once, by the hash of what it says."""

    def read(self) -> list[dict[str, Any]]:
        """All entries, the earlier ones first, each with its ``id``."""
        ...

    def add(self, facts: Sequence[Mapping[str, Any]]) -> list[str]:
        """Add those that are not there yet; the ids of what was new, in order."""
        ...


@dataclass(frozen=True)
class File:
    """A journal on this machine."""

    path: Path

    def read(self) -> list[dict[str, Any]]:
        """See ``Entries``."""
        return journal.read(self.path)

    def add(self, facts: Sequence[Mapping[str, Any]]) -> list[str]:
        """See ``Entries``."""
        return journal.add(self.path, facts)


class Ledger:
    """The verdicts on record; each call reads them anew, as others may have added to them."""

    def __init__(self, kept: Path | Entries) -> None:
        self.kept: Entries = File(kept) if isinstance(kept, Path) else kept

    def record(self, trial: str, verdicts: Sequence[Verdict], *, about: Mapping[str, Any] | None = None) -> int:
        """Put a trial's verdicts on record; how many were not there yet.

        Args:
            trial: the identity of the trial (the hash of its inputs and settings): told again, it counts once.
            verdicts: one a mix.
            about: what else should be kept (scale, device, code version); part of what is said.
        """
        return len(self.kept.add([self._entry(trial, v, about) for v in verdicts]))

    def confirm(self, verdict: str, *, held: bool, scale: str, note: str = "") -> bool:
        """Put on record what became of a verdict at a larger scale; True where that was not known yet.

        Args:
            verdict: the id of its entry.
            held: whether the larger comparison has the same sign.
            scale: of that comparison, for example "1.2B, 30B tokens".
            note: where it is written down.

        Raises:
            ValueError: no such verdict, or one that claimed no direction.
        """
        known = {entry["id"]: entry for entry in self._entries("verdict")}
        if verdict not in known:
            raise ValueError(f"no verdict {verdict!r} is on record; ids are listed by `standing`")
        if not known[verdict]["directional"]:
            raise ValueError(f"{verdict!r} claimed no direction ({known[verdict]['verdict']}): nothing could hold")
        entry = {"kind": "confirmation", "of": verdict, "held": held, "scale": scale, "note": note, "date": _now()}
        return bool(self.kept.add([entry]))

    def uses(self, test: str, *, but: str | None = None) -> int:
        """How many verdicts were given on a test set, those of one trial left out where ``but`` names it."""
        return sum(1 for e in self._entries("verdict") if test in e["test_sets"] and e["trial"] != but)

    def level(self, tests: Iterable[str], *, mixes: int = 1, trial: str | None = None, alpha: float = ALPHA) -> float:
        """The level of a trial's intervals: 1 - alpha / (verdicts given on the most used of its test sets + its mixes).

        Args:
            tests: hashes of the test sets that decide.
            mixes: verdicts that the trial will give.
            trial: its identity, so that a trial repeated is not widened by itself.
            alpha: of a family.
        """
        return 1 - alpha / (max((self.uses(test, but=trial) for test in tests), default=0) + mixes)

    def standing(self, test: str, alpha: float = ALPHA) -> list[Standing]:
        """All verdicts on a test set, in the order in which they were given, adjusted together."""
        entries = [e for e in self._entries("verdict") if test in e["test_sets"]]
        adjusted = holm([e["p"] for e in entries])
        return [
            Standing(
                id=e["id"], trial=e["trial"], verdict=_verdict(e), adjusted=a, stands=e["directional"] and a <= alpha
            )
            for e, a in zip(entries, adjusted, strict=True)
        ]

    def accuracy(self, *, enough: int = ENOUGH) -> Accuracy | None:
        """How often verdicts held; None before ``enough`` were checked. The latest word on a verdict counts."""
        latest = {e["of"]: e["held"] for e in self._entries("confirmation")}
        if len(latest) < max(1, enough):
            return None
        held = sum(latest.values())
        low, high = binomial_interval(held, len(latest))
        return Accuracy(held=held, checked=len(latest), low=low, high=high)

    def lines(self) -> list[str]:
        """The ledger for the terminal: uses of each test set, and the accuracy or how far it is from being told."""
        tests = dict.fromkeys(test for e in self._entries("verdict") for test in e["test_sets"])
        out = []
        for test in tests:
            standing = self.standing(test)
            given = sum(s.verdict.directional for s in standing)
            out.append(
                f"test set {test}: {len(standing)} verdicts, {given} with a direction, of which "
                f"{sum(s.stands for s in standing)} stand; the next interval has level {100 * self.level([test]):.4g} %"
            )
        found = self.accuracy()
        if found is None:
            checked = len({e["of"] for e in self._entries("confirmation")})
            out.append(
                f"{checked} verdicts were checked at a larger scale; how often they hold is told from {ENOUGH} on"
            )
        else:
            share, low, high = (100 * x for x in (found.held / found.checked, found.low, found.high))
            out.append(
                f"of {found.checked} verdicts checked at a larger scale {found.held} held: "
                f"{share:.0f} % (95 % interval {low:.0f} to {high:.0f} %)"
            )
        return out

    def _entries(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.kept.read() if entry["kind"] == kind]

    def _entry(self, trial: str, v: Verdict, about: Mapping[str, Any] | None) -> dict[str, Any]:
        if not (math.isfinite(v.p) and 0 <= v.p <= 1):
            raise ValueError(f"the verdict on {v.mix!r} has p = {v.p}, which is no probability; give the contrast's p")
        if not v.test_sets:
            raise ValueError(f"the verdict on {v.mix!r} names no test set; give its documents' hashes")
        values = {name: getattr(v, name) for name in Verdict.__dataclass_fields__}
        return {
            "kind": "verdict", "trial": trial, **values, "test_sets": sorted(v.test_sets), "about": dict(about or {}),
            "date": _now(),
        }  # fmt: skip


def _verdict(entry: Mapping[str, Any]) -> Verdict:
    values = {name: entry[name] for name in Verdict.__dataclass_fields__}
    return Verdict(**{**values, "test_sets": tuple(entry["test_sets"])})


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
