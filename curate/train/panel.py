"""Several targets, several comparisons: one primary number, and what its company costs.

A trial declares one primary number before it runs: the mean over targets, each counted once, of the percent saved on
it. Targets share seeds, so the seeds' part of its error is taken from each seed's mean over targets (what a lucky
initialisation does to all targets at once does not average out); their documents are others, so the documents' parts
add as independent: SE_item^2 = sum of the targets' SE_item^2 / targets^2.

Everything else is secondary and pays for its number:

Holm            (1979) of k comparisons sorted by p, the j-th smallest is multiplied by k - j + 1, and none may be
                smaller than the one before. The chance that any true null is rejected is at most alpha, whatever the
                dependence. The interval shown for a comparison has the level at which Holm decided it, so it leaves 0
                out exactly where the adjusted p is at most alpha. Such intervals are made to decide; to hold all true
                values at once, 95 times in 100, takes the simultaneous ones (Bonferroni, level 1 - alpha / k).
guards          a domain that loses more than twice delta, with its Holm interval below 0, is a cost, named beside
                the verdict and never hidden in a mean.

A claim about a *method* is about the next mix that it would make, so the spread between mixes is part of its error:
``method_contrast`` takes at least three mixes that the method made anew (rescored with another seed or sample). With
only the seeds of training in it, the interval would cover 43 to 67 % where mixes vary four times as much as runs
(simulated; 95 to 98 % as it is).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curate.train.statistics import (
    Contrast,
    Floats,
    Ints,
    Prior,
    at,
    contrast,
    differences,
    half_of_squares,
    item_errors,
    p_of,
)

BASELINE = ("random", "random'")
AA = {"random": 1.0, "random'": -1.0}
FEWEST_MIXES = 3
_ONE = "\x00documents"  # an arm that costs 1 a document: what scores are divided by


@dataclass(frozen=True, kw_only=True)
class Target:
    """What every arm scored on the documents of one target.

    Args:
        nats: arm to float64 (seeds, documents), the same seeds in every target of a panel.
        clusters: int64 (documents,), numbers from 0 on, each used; documents of one number are drawn together.
        relative: differences are in percent of the baseline's total. False: ``nats`` are scores of which more is
            better, between 0 and 1 (accuracy, probability of the right answer), and differences are in points:
            100 times the mean, again positive where the mix is better.
    """

    nats: Mapping[str, Floats]
    clusters: Ints
    relative: bool = True


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One comparison over a panel.

    Args:
        all: of the mean over targets.
        each: of each target alone; not adjusted for their number (``adjust``).
    """

    all: Contrast
    each: dict[str, Contrast]


def compare(
    targets: Mapping[str, Target],
    pairs: Mapping[str, Mapping[str, float]],
    *,
    baseline: Sequence[str] = BASELINE,
    aa: Mapping[str, float] | None = None,
    prior: Prior | None = None,
    priors: Mapping[str, Prior] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Compared]:
    """Each comparison over all targets and over each alone.

    Args:
        targets: by name.
        pairs: comparisons by name, arm to weight: what has positive weight is compared with what has negative. A mix
            against random: {"random": .5, "random'": .5, "mix": -1}.
        baseline: arms whose mean cost is the unit, 100 percent.
        aa: weights of the A/A difference that noise is pooled from, for example ``AA``; None pools none.
        prior: noise on record of the mean over targets.
        priors: the same of single targets.
        level: of every interval.
        resamples: of the bootstrap over documents.
        seed: of the bootstrap.

    Raises:
        ValueError: no target, arms or seeds that differ between targets, or a cost that is not a number.
    """
    seeds = _check(targets, [*pairs.values(), *([aa] if aa else [])], baseline)
    weights = [*pairs.values(), *([aa] if aa else [])]
    deltas = np.empty((len(targets), len(weights), seeds))
    errors = np.empty((len(targets), len(weights)))
    for t, target in enumerate(targets.values()):
        nats, unit, sign = (target.nats, baseline, 1.0) if target.relative else (_scores(target), [_ONE], -1.0)
        signed = [{arm: sign * w for arm, w in pair.items()} for pair in weights]
        deltas[t] = [differences(nats, pair, unit) for pair in signed]
        errors[t] = item_errors(nats, signed, unit, clusters=target.clusters, resamples=resamples, seed=seed)
    degrees = np.array([int(target.clusters.max()) for target in targets.values()], dtype=np.float64)
    out = {}
    for i, (name, pair) in enumerate(pairs.items()):
        spread = float(sum(w * w for w in pair.values()))
        each = {
            target: contrast(
                deltas[t, i], spread=spread, item_se=float(errors[t, i]), clusters=degrees[t] + 1,
                aa=deltas[t, -1] if aa else None, prior=(priors or {}).get(target), level=level,
            )
            for t, target in enumerate(targets)
        }  # fmt: skip
        se, df = _mean_error(errors[:, i], degrees)
        both = contrast(
            deltas[:, i].mean(axis=0), spread=spread, item_se=se, clusters=df + 1,
            aa=deltas[:, -1].mean(axis=0) if aa else None, prior=prior, level=level,
        )  # fmt: skip
        out[name] = Compared(all=both, each=each)
    return out


def gate(
    targets: Mapping[str, Target],
    *,
    weights: Mapping[str, float] = AA,
    baseline: Sequence[str] = BASELINE,
    level: float = 0.99,
    resamples: int = 10_000,
    seed: int = 0,
) -> Contrast:
    """The A/A test: two random draws, with their own noise alone. A trial whose gate leaves 0 out gives no verdict."""
    return compare(
        targets, {"aa": weights}, baseline=baseline, level=level, resamples=resamples, seed=seed
    )["aa"].all  # fmt: skip


def _check(targets: Mapping[str, Target], weights: Sequence[Mapping[str, float]], baseline: Sequence[str]) -> int:
    """How many seeds all targets have."""
    if not targets:
        raise ValueError("a panel without a target; give at least one")
    needed = {*baseline, *(arm for pair in weights for arm in pair)}
    if len({target.relative for target in targets.values()}) > 1:
        raise ValueError("a panel of costs and scores, whose mean has no unit; compare them in panels of their own")
    seeds = set()
    for name, target in targets.items():
        if len(target.clusters) == 0 or int(target.clusters.max()) < 1:
            raise ValueError(f"target {name!r} is one cluster of documents, which shows no error; score several")
        if missing := sorted(needed - set(target.nats)):
            raise ValueError(f"target {name!r} was not scored by {', '.join(missing)}; score every arm on every target")
        for arm in needed:
            values = target.nats[arm]
            if values.shape[1] != len(target.clusters):
                raise ValueError(
                    f"{arm!r} scored {values.shape[1]} documents of target {name!r}, which has {len(target.clusters)}"
                )
            if not np.isfinite(values).all():
                raise ValueError(
                    f"{arm!r} on target {name!r} has a cost that is not a number; train that seed of all arms anew"
                )
            seeds.add(values.shape[0])
    if len(seeds) > 1:
        raise ValueError(f"arms have {sorted(seeds)} seeds; a comparison is paired, so give every arm the same ones")
    return int(seeds.pop())


def _scores(target: Target) -> dict[str, Floats]:
    shape = next(iter(target.nats.values())).shape
    return {**target.nats, _ONE: np.ones(shape)}


def _mean_error(errors: Floats, degrees: Floats) -> tuple[float, float]:
    """SE of the mean of independent targets, with its degrees of freedom (Satterthwaite)."""
    square = float((errors**2).sum())
    df = square**2 / float((errors**4 / degrees).sum()) if square > 0 else float(degrees.sum())
    return math.sqrt(square) / len(errors), df


@dataclass(frozen=True, kw_only=True)
class Adjusted:
    """One of several comparisons, adjusted for their number.

    Args:
        p: by Holm; at most alpha exactly where low to high leaves 0 out.
        low: lower end at the level at which Holm decided.
        high: upper end.
        level: that level.
        simultaneous_low: lower end of the interval that, together with all others, holds every true value.
        simultaneous_high: upper end.
    """

    p: float
    low: float
    high: float
    level: float
    simultaneous_low: float
    simultaneous_high: float


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm 1979), in the order given."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    out = [0.0] * len(p)
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p) - rank) * p[i]))
        out[i] = least
    return out


def holm_levels(p: Sequence[float], alpha: float = 0.05) -> list[float]:
    """The level of the interval that decides each comparison as Holm does, in the order given.

    After the first one that is kept nothing more is rejected, so those after it have its level.
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    out = [0.0] * len(p)
    left = len(p)
    going = True
    for rank, i in enumerate(order):
        if going:
            left = len(p) - rank
            going = p[i] <= alpha / left
        out[i] = 1 - alpha / left
    return out


def adjust(contrasts: Mapping[str, Contrast], alpha: float = 0.05) -> dict[str, Adjusted]:
    """All comparisons of one family, adjusted together."""
    p = [c.p for c in contrasts.values()]
    out = {}
    for (name, c), adjusted, level in zip(contrasts.items(), holm(p), holm_levels(p, alpha), strict=True):
        one, all_ = at(c, level), at(c, 1 - alpha / len(p))
        out[name] = Adjusted(
            p=adjusted, low=one.low, high=one.high, level=level, simultaneous_low=all_.low, simultaneous_high=all_.high
        )
    return out


def costs(guards: Mapping[str, Contrast], delta: float, alpha: float = 0.05) -> dict[str, bool]:
    """Which guard domains are a cost: worse by more than 2 delta, and the Holm interval lies below 0."""
    adjusted = adjust(guards, alpha)
    return {name: c.estimate < -2 * delta and adjusted[name].high < 0 for name, c in guards.items()}


@dataclass(frozen=True, kw_only=True)
class MethodContrast:
    """A difference between a method and a baseline, percent, with the spread of the method's mixes in its interval.

    Args:
        estimate: mean over mixes and seeds.
        low: lower end.
        high: upper end.
        level: of the interval.
        p: two-sided, that the difference is 0.
        se: standard error, all sources.
        se_mix: its part from mixes: the spread of their means, each of which carries its runs' noise.
        se_seed: its part from seeds that mixes share (the baseline's runs), beyond what is in ``se_mix`` already.
        se_item: its part from evaluation documents.
        sd_mix: SD between mixes, their runs' noise taken off; 0 where that explains all.
        mixes: each mix's mean over seeds.
        degrees: degrees of freedom of the spread between mixes.
    """

    estimate: float
    low: float
    high: float
    level: float
    p: float
    se: float
    se_mix: float
    se_seed: float
    se_item: float
    sd_mix: float
    mixes: tuple[float, ...]
    degrees: float


def method_contrast(deltas: Floats, *, item_se: float, clusters: float, level: float = 0.95) -> MethodContrast:
    """What a method does, from several mixes that it made.

    Mixes and seeds are crossed and both are samples: with mean squares of mixes, seeds and what is left over,

        se_mix^2 = MS_mix / (k n),   se_seed^2 = max(MS_seed - MS_rest, 0) / (k n)

    and the interval's half is the root of (t_(k-1) se_mix)^2 + (t_(n-1) se_seed)^2 + (t se_item)^2.

    Args:
        deltas: float64 (mixes, seeds), each the percent saved against the same baseline at that seed.
        item_se: of the contrast of the baseline with the mean of the mixes, from ``item_errors``.
        clusters: how many documents, or clusters, that SE rests on.
        level: of the interval.

    Raises:
        ValueError: fewer than three mixes or two seeds.
    """
    x = np.asarray(deltas, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] < FEWEST_MIXES or x.shape[1] < 2:
        raise ValueError(
            f"differences of shape {x.shape}: a claim about a method needs at least {FEWEST_MIXES} mixes that it made "
            "anew and 2 seeds; with fewer, claim it of the mix"
        )
    k, n = x.shape
    item_se, clusters = float(item_se), float(clusters)
    mixes, seeds, mean = x.mean(axis=1), x.mean(axis=0), float(x.mean())
    rest = x - mixes[:, None] - seeds[None, :] + mean
    ms_mix = n * float(mixes.var(ddof=1))
    ms_seed = k * float(seeds.var(ddof=1))
    ms_rest = float((rest**2).sum()) / ((k - 1) * (n - 1))
    se_mix = math.sqrt(ms_mix / (k * n))
    se_seed = math.sqrt(max(ms_seed - ms_rest, 0.0) / (k * n))
    parts = ((se_mix, k - 1.0), (se_seed, n - 1.0), (item_se, clusters - 1.0))
    half = half_of_squares(parts, 1 - level)
    se = math.sqrt(se_mix**2 + se_seed**2 + item_se**2)
    p = p_of(lambda alpha: half_of_squares(parts, alpha), abs(mean)) if se > 0 else float(mean == 0)
    return MethodContrast(
        estimate=mean, low=mean - half, high=mean + half, level=level, p=p, se=se, se_mix=se_mix, se_seed=se_seed,
        se_item=item_se, sd_mix=math.sqrt(max(ms_mix - ms_rest, 0.0) / n), mixes=tuple(float(m) for m in mixes),
        degrees=k - 1.0,
    )  # fmt: skip
