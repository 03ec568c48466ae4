"""What a verdict is worth in the company of all others on the same test documents: the store's ledger.

Verdicts on the target's test split are put on record in ``STORE/ledger/`` when a run is complete, and the run says how
each stands among all that were given on those documents: how many there are, its p adjusted by Holm for all of them,
and its interval at the level that a new verdict would need. Verdicts on validation documents choose: none is recorded.

Each entry is a file of its own, named by the hash of what it says and published once: so a ledger is kept wherever a
store can be, object stores included, and two runs that end at once lose nothing. The single file ``STORE/ledger.jsonl``
of earlier versions is read with it.

Elsewhere: the ledger itself (curate/train/ledger.py); the verdict (trial.py).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from curate.store import Store
from curate.train import journal
from curate.train.ledger import Ledger, Verdict
from curate.train.statistics import Contrast, at

FOLDER = "ledger"
FILE = "ledger.jsonl"  # of earlier versions
DIRECTIONS = ("closer", "farther", "better", "worse")


@dataclass(frozen=True)
class Shelf:
    """A store's entries, one file each."""

    store: Store

    def read(self) -> list[dict[str, Any]]:
        """See ``curate.train.ledger.Entries``.

        Raises:
            ValueError: an entry that does not say what it said when it was written.
        """
        old = journal.entries(FILE, self.store.read(FILE)) if self.store.exists(FILE) else []
        names = [f"{FOLDER}/{name}" for name in self.store.names(FOLDER)]
        found = zip(names, self.store.get_jsons(names), strict=True)
        new = [entry for name, said in found for entry in journal.entries(name, f"{json.dumps(said)}\n".encode())]
        known = {entry["id"] for entry in old}
        return [*old, *sorted((e for e in new if e["id"] not in known), key=lambda e: (e["date"], e["id"]))]

    def add(self, facts: Sequence[Mapping[str, Any]]) -> list[str]:
        """See ``curate.train.ledger.Entries``."""
        known = {entry["id"] for entry in self.read()}
        lines = dict(journal.line(fact) for fact in facts)
        return [
            name for name, said in lines.items()
            if name not in known and self.store.publish(f"{FOLDER}/{name}.json", said)
        ]  # fmt: skip


def settle(store: Store, folder: str, manifest: Mapping[str, Any]) -> None:
    """Put a run's verdicts on record, and beside each trial's conclusion as ``standing``: mix to what is known."""
    for label, trial in manifest["trials"].items():
        tests = sorted(trial["test_sets"].values())
        if trial["settings"]["split"] != "test" or not tests:
            continue
        ledger = Ledger(Shelf(store))
        name = f"{folder}, {label}"
        first = next(iter(trial["instruments"].values()))
        contrasts = {mix: against["random"] for mix, against in first["against"].items()}
        given = [
            Verdict(
                mix=mix, test_sets=tuple(tests), verdict=verdict["verdict"], estimate=contrasts[mix]["estimate"],
                low=contrasts[mix]["low"], high=contrasts[mix]["high"], level=contrasts[mix]["level"],
                p=contrasts[mix]["p"], directional=verdict["verdict"].startswith(DIRECTIONS),
            )
            for mix, verdict in trial["verdicts"].items()
        ]  # fmt: skip
        ledger.record(name, given)
        trial["standing"] = {v.mix: standing(ledger, name, v, contrasts[v.mix], len(given)) for v in given}


def standing(ledger: Ledger, trial: str, verdict: Verdict, contrast: Mapping[str, Any], mixes: int) -> dict[str, Any]:
    """A verdict among all on its test sets, the most used of which counts."""
    test = max(verdict.test_sets, key=ledger.uses)
    of_all = ledger.standing(test)
    mine = next(s for s in of_all if s.trial == trial and s.verdict.mix == verdict.mix)
    level = ledger.level(verdict.test_sets, mixes=mixes, trial=trial)
    names = {field.name for field in fields(Contrast)}
    widened = at(Contrast(**{k: v for k, v in contrast.items() if k in names}), level)
    before = ledger.uses(test, but=trial)
    out = {
        "verdicts_before": before,
        "adjusted_p": mine.adjusted,
        "stands": mine.stands,
        "level": level,
        "interval": [widened.low, widened.high],
    }
    return out | {"sentence": sentence(verdict, out)}


def sentence(verdict: Verdict, found: Mapping[str, Any]) -> str:
    """The same in words; empty for the first verdict on a test set, which is what it says it is."""
    before = found["verdicts_before"]
    if not before:
        return ""
    times = "once" if before == 1 else f"{before} times"
    low, high = found["interval"]
    said = (
        f"{verdict.mix}: these test documents were used {times} before; at the level that is left "
        f"({100 * found['level']:.4g} %) the interval is {low:+.2f} to {high:+.2f}"
    )
    if not verdict.directional:
        return f"{said}."
    p = f"(p {found['adjusted_p']:.3g} by Holm)"
    if found["stands"]:
        return f"{said}; among all verdicts on them this one stands {p}."
    return (
        f"{said}; among all verdicts on them this one does not stand {p}. Choose on validation documents, and keep the "
        "test documents for the last."
    )
