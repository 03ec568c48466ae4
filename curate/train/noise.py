"""Noise on record: how much two trainings on two random draws differ, for each instrument and size.

Three seeds say little about noise (2 degrees of freedom; the interval is 2.48 SD wide to each side). But what is
measured is the same every time: the difference of two random draws, seed by seed. A registry keeps these differences
from every A/A comparison that was ever made with an instrument, and gives a trial the noise it may add to its own:

    SD           the root of the mean variance of the comparisons on record, weighted by their degrees of freedom
    degrees      at most 10, and no more than the comparisons agree on: noise differs between targets and corpora, and
                 if their variances scatter more than chance makes them, what is known about the next one's is worth
                 fewer degrees. The number is Smyth's (2004, section 6.2): variances that are themselves drawn from a
                 scaled inverse chi-square of d degrees have log variances whose variance is
                 trigamma(n / 2) + trigamma(d / 2), which is solved for d.

With 10 degrees three seeds have an interval of 1.26 SD. Whether a trial's noise is what is on record is tested each
time (statistics.contrast), so a registry that does not fit can widen nothing and narrows nothing for long.

A *setting* says what makes noise comparable: metric, instrument, size of the model, budget, unit and hardware. Noise is
taken from entries with the same setting and a budget within a factor of 1.25, scaled by the root of the ratio. For
planning (``expected``) the nearest budgets on record are scaled as far as need be.

The file is a journal (journal.py): an entry is one A/A comparison with its seeds' differences, named by the hash of
what it says and of what was compared, so no repeat counts twice. The entries that come with the package were measured
by ``benchmarks/noise.py``; a store adds its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from curate.train import journal
from curate.train.statistics import Floats, Prior

SHIPPED = Path(__file__).parent / "noise.jsonl"
DEGREES = 10.0
NEAR = 1.25  # budgets whose ratio is larger are not pooled
ENOUGH = 4  # comparisons from which their scatter is judged


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What makes noise comparable.

    Args:
        metric: what was measured, for example ``"bpb"`` on one target's text, ``"bpb mean of 3"`` over three.
        instrument: ``"ngram"``, ``"transformer"``.
        parameters: of the model, embeddings included; 0 for the n-gram.
        budget: of one run.
        unit: of the budget, ``"bytes"`` or ``"tokens"``.
        hardware: ``"any"`` where it cannot matter, else ``"cpu"`` or ``"cuda"``.
    """

    metric: str
    instrument: str
    parameters: int
    budget: int
    unit: str
    hardware: str

    def kind(self) -> tuple[str, str, int, str, str]:
        """All but the budget."""
        return self.metric, self.instrument, self.parameters, self.unit, self.hardware


@dataclass(frozen=True)
class Comparison:
    """One A/A comparison on record: percent differences (spread 2) at each seed."""

    setting: Setting
    deltas: tuple[float, ...]
    of: Mapping[str, Any]

    @property
    def degrees(self) -> int:
        """Seeds less one."""
        return len(self.deltas) - 1

    @property
    def variance(self) -> float:
        """Of one seed's difference, percent squared."""
        return float(np.var(self.deltas, ddof=1))


class Registry:
    """Comparisons on record: those of the package and those of a file of one's own."""

    def __init__(self, entries: Sequence[Mapping[str, Any]], path: Path | None = None) -> None:
        self.path = path
        self.entries = {entry["id"]: _comparison(entry) for entry in entries}

    @classmethod
    def open(cls, path: Path | None = None, *, shipped: bool = True) -> "Registry":
        """Open a registry.

        Args:
            path: a journal of one's own, which need not exist yet; None for the shipped entries alone.
            shipped: whether the package's entries count too.

        Raises:
            FileNotFoundError: a package without its entries, whose intervals would be others than those of a whole one.
        """
        if shipped and not SHIPPED.exists():
            raise FileNotFoundError(f"{SHIPPED} is missing: this installation is not whole; install it anew")
        entries = journal.read(SHIPPED) if shipped else []
        return cls([*entries, *(journal.read(path) if path else [])], path)

    def add(self, setting: Setting, deltas: Sequence[float] | Floats, *, of: Mapping[str, Any]) -> bool:
        """Put an A/A comparison on record; True where it was not there yet.

        Args:
            setting: what was compared how.
            deltas: the percent difference at each seed, at least two.
            of: what makes this comparison another one than the next: hashes of the draws and of the target, seeds.
        """
        if self.path is None:
            raise ValueError("this registry has no file; open it with a path to put comparisons on record")
        entry = record(setting, deltas, of=of)
        name = journal.identity(entry)
        if name in self.entries:
            return False
        journal.add(self.path, [entry])
        self.entries[name] = _comparison(entry)
        return True

    def prior(
        self, setting: Setting, degrees: float = DEGREES, *, but: Mapping[str, Any] | None = None
    ) -> Prior | None:
        """The noise that a trial of this setting may pool; None where none was measured near it.

        Args:
            setting: of the trial.
            degrees: the most that it may count for.
            but: what the trial's own comparison was put on record as (``of``), which it must not count twice.
        """
        near = [x for x in self._kind(setting) if 1 / NEAR <= x.setting.budget / setting.budget <= NEAR]
        found = [x for x in near if but is None or dict(x.of) != dict(but)]
        return pool(found, setting.budget, degrees)

    def expected(self, setting: Setting) -> Prior | None:
        """The noise to plan with: of the nearest budget on record, scaled by the root of the ratio, however far."""
        kind = self._kind(setting)
        if not kind:
            return None
        budget = min({x.setting.budget for x in kind}, key=lambda b: (abs(math.log(b / setting.budget)), b))
        return pool([x for x in kind if x.setting.budget == budget], setting.budget)

    def _kind(self, setting: Setting) -> list[Comparison]:
        return [x for x in self.entries.values() if x.setting.kind() == setting.kind()]

    def lines(self) -> list[str]:
        """What is on record, a line a setting."""
        out = []
        settings = {x.setting: None for x in self.entries.values()}
        for setting in sorted(settings, key=lambda s: (*s.kind(), s.budget)):
            same = [x for x in self.entries.values() if x.setting == setting]
            found = pool(same, setting.budget)
            if found is not None:
                out.append(
                    f"{setting.metric}, {setting.instrument} ({setting.parameters:,} parameters, {setting.hardware}), "
                    f"{setting.budget:,} {setting.unit}: SD {found.sd:.2f} %, worth {found.degrees:.0f} degrees, from "
                    f"{len(same)} comparisons"
                )
        return out


def record(setting: Setting, deltas: Sequence[float] | Floats, *, of: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison as an entry of a journal."""
    values = [float(x) for x in deltas]
    if len(values) < 2 or not all(math.isfinite(x) for x in values):
        raise ValueError(f"differences {values} are not at least two numbers; compare two draws at each of two seeds")
    if setting.budget <= 0:
        raise ValueError(f"a budget of {setting.budget} {setting.unit}; say what each run was trained on")
    return {**asdict(setting), "deltas": values, "of": dict(of), "date": datetime.now(UTC).strftime("%Y-%m-%d")}


def _comparison(entry: Mapping[str, Any]) -> Comparison:
    names = Setting.__dataclass_fields__
    return Comparison(Setting(**{name: entry[name] for name in names}), tuple(entry["deltas"]), entry["of"])


def pool(comparisons: Sequence[Comparison], budget: int, most: float = DEGREES) -> Prior | None:
    """One SD from many comparisons, at a budget, and how many degrees it is worth; None of none."""
    if not comparisons:
        return None
    variances = np.array([x.variance * x.setting.budget / budget for x in comparisons])
    degrees = np.array([x.degrees for x in comparisons], dtype=np.float64)
    total = float(degrees.sum())
    sd = math.sqrt(float((variances * degrees).sum()) / total)
    worth = min(most, total, agreement(variances, degrees))
    return Prior(sd, worth)


def agreement(variances: Floats, degrees: Floats) -> float:
    """Degrees of freedom that variances of one kind are worth for the next of that kind; infinite where they agree.

    Fewer than four cannot show how they scatter, and are taken at their own degrees.
    """
    positive = variances > 0
    if positive.sum() < ENOUGH:
        return math.inf
    logs, d = np.log(variances[positive]), degrees[positive]
    logs = logs - np.array([digamma(x / 2) - math.log(x / 2) for x in d])  # the bias that few degrees give a log
    chance = float(np.mean([trigamma(x / 2) for x in d]))
    more = float(logs.var(ddof=1)) - chance
    return 2 * trigamma_inverse(more) if more > 0 else math.inf


def digamma(x: float) -> float:
    """The derivative of log gamma, by recurrence and its asymptotic series (DLMF 5.5.2, 5.11.2)."""
    out = 0.0
    while x < 10:
        out -= 1 / x
        x += 1
    y = 1 / (x * x)
    return out + math.log(x) - 1 / (2 * x) - y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y / 240)))


def trigamma(x: float) -> float:
    """The second derivative of log gamma (DLMF 5.15.5, 5.15.8)."""
    out = 0.0
    while x < 10:
        out += 1 / (x * x)
        x += 1
    y = 1 / (x * x)
    return out + 1 / x + y / 2 + y / x * (1 / 6 - y * (1 / 30 - y * (1 / 42 - y / 30)))


def trigamma_inverse(value: float) -> float:
    """The x whose trigamma this is, for value > 0, by bisection of its logarithm."""
    low, high = math.log(1e-6), math.log(1e9)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if trigamma(math.exp(middle)) > value else (low, middle)
    return math.exp((low + high) / 2)
