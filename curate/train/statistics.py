"""The statistics of a trial: a difference, its two errors, its interval, and what could be seen at all.

Arms are compared by their cost on the same evaluation documents: ``nats[arm]``, float64 (seeds, documents). A
*contrast* is a weighted sum of arms, for example {random: 1/2, random': 1/2, mix: -1}, in percent of the baseline's
cost: bytes cancel in the ratio, so bits per byte and nats give the same number. Positive means that the mix costs
less.

Two errors are independent, and both are in every interval:

    SE^2 = s_seed^2 / n  +  SE_item^2

``s_seed`` is the SD over seeds of the contrast (training and the draw of documents); ``SE_item`` is the bootstrap SE
over evaluation documents, or clusters of them, of the seed-averaged contrast, by the ratio estimator (sums over
sums). Seeds are never resampled: a percentile bootstrap of three seeds covers 74 % where it says 95 %. Instead the
interval is Student's, with the degrees of freedom of the two parts combined (Welch 1947, Satterthwaite 1946). Where
the seeds' part has fewer than 4 degrees that approximation is too narrow (it takes a small s_seed that came by chance
for a sure one: simulated, an interval of 95 % from three seeds covers 92 %, from two 88 %); there the parts' own halves
are added as squares, half^2 = (t_seed SE_seed)^2 + (t_item SE_item)^2, which is exact where either part rules and
never covers less than it says (Banerjee 1960).

Few seeds leave few degrees, so noise that was measured on the same kind of difference is pooled in: of the A/A
comparison (two random draws, each seed; n - 1 further degrees), and of earlier A/A comparisons of the same instrument
(noise.py; at most 10). Where arms are equally noisy, a contrast with weights w varies in proportion to sum w^2: 2 for
one arm against another, 1.5 for one arm against the mean of two, which is how the baseline that comparisons share is
counted. The assumption is tested in the direction that would hurt: a contrast that is visibly noisier than what it
would be pooled with (F test, p < .1) stands on its own seeds, and an A/A comparison that is out of proportion to the
record (p < .02) leaves the record out. The price of tests that decide is known from simulation
(benchmarks/trial_nulls.py): equally noisy arms are called different in 4.5 to 5.2 % of the trials that say 5 %, a mix
1.5 times as noisy as random in 5 to 8 %, one three times as noisy in 5 to 12 %.

Elsewhere: several targets and several contrasts (panel.py), noise on record (noise.py), quantiles (quantiles.py).
NumPy only.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curate.train.quantiles import f_tail, t_point, t_quantile, t_tail

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

POWER = 0.8
SUSPICIOUS = 0.1  # below this p, a contrast noisier than its reference is not pooled with it
LOUD = 0.02  # below this p, an A/A comparison noisier than the record is not pooled with it
FEW = 4  # below so many degrees of the seeds' part, the halves of the two parts are added as squares
CHUNK = 1 << 22  # indices drawn at a time by the bootstrap


class Prior(NamedTuple):
    """Noise that was measured before.

    Args:
        sd: SD of one seed's A/A difference (one arm against another), percent.
        degrees: how many degrees of freedom it is worth here.
    """

    sd: float
    degrees: float


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One difference in percent of the baseline, with its interval.

    Args:
        estimate: mean over seeds; positive means cheaper than what it is compared with.
        low: lower end of the interval.
        high: upper end.
        level: of the interval, for example .95.
        p: two-sided, that the difference is 0; below 1 - level exactly where the interval excludes 0.
        se: standard error, both sources.
        se_seed: its part from seeds.
        se_item: its part from evaluation documents.
        sd: SD of one seed's difference that ``se_seed`` rests on.
        sd_degrees: degrees of freedom of ``sd``.
        item_degrees: degrees of freedom of ``se_item``.
        degrees: degrees of freedom of the interval.
        noise: where ``sd`` comes from: ``"own seeds"``, or pooled ``"with A/A"``, ``"with the registry"``, or both.
        deltas: each seed's difference.
    """

    estimate: float
    low: float
    high: float
    level: float
    p: float
    se: float
    se_seed: float
    se_item: float
    sd: float
    sd_degrees: float
    item_degrees: float
    degrees: float
    noise: str
    deltas: tuple[float, ...]


def contrast(
    deltas: Sequence[float] | Floats,
    *,
    spread: float,
    item_se: float,
    clusters: float,
    aa: Sequence[float] | Floats | None = None,
    prior: Prior | None = None,
    level: float = 0.95,
) -> Contrast:
    """The interval of a difference.

    Args:
        deltas: the difference at each seed, at least two.
        spread: sum of the squared weights of its arms, see above.
        item_se: SE over evaluation documents, from ``item_errors``.
        clusters: how many documents, or clusters, that SE rests on.
        aa: the A/A difference (spread 2) at each seed, whose noise is pooled in; None leaves the contrast's own.
        prior: noise measured before (noise.Registry.prior), pooled in likewise.
        level: of the interval.
    """
    own = np.asarray(deltas, dtype=np.float64)
    if len(own) < 2:
        raise ValueError(f"a contrast of {len(own)} seeds has no noise to judge it by; give at least two seeds")
    variance, degrees, noise = _noise(own, spread, aa, prior)
    return interval(
        own, se_seed=math.sqrt(variance / len(own)), sd=math.sqrt(variance), sd_degrees=float(degrees),
        se_item=float(item_se), item_degrees=float(clusters) - 1, noise=noise, level=float(level),
    )  # fmt: skip


def _noise(
    own: Floats, spread: float, aa: Sequence[float] | Floats | None, prior: Prior | None
) -> tuple[float, float, str]:
    """Variance of one seed's difference, its degrees, and what was pooled for it."""
    variance, degrees = float(own.var(ddof=1)), float(len(own) - 1)
    reference, more, names = 0.0, 0.0, []
    if prior is not None and prior.degrees > 0:
        reference, more, names = prior.sd**2 * spread / 2, prior.degrees, ["the registry"]
    if aa is not None:
        other = np.asarray(aa, dtype=np.float64)
        here, n = float(other.var(ddof=1)) * spread / 2, float(len(other) - 1)
        if more and f_tail(here, reference, n, more) >= LOUD:
            reference, more, names = (n * here + more * reference) / (n + more), n + more, ["A/A", *names]
        else:
            reference, more, names = here, n, ["A/A"]
    if not names or f_tail(variance, reference, degrees, more) < SUSPICIOUS:
        return variance, degrees, "own seeds"
    pooled = (degrees * variance + more * reference) / (degrees + more)
    return pooled, degrees + more, f"pooled with {' and '.join(names)}"


def interval(
    deltas: Floats,
    *,
    se_seed: float,
    sd: float,
    sd_degrees: float,
    se_item: float,
    item_degrees: float,
    noise: str,
    level: float,
) -> Contrast:
    """A contrast whose two standard errors are known, as ``contrast`` has found them."""
    estimate = float(deltas.mean())
    se, degrees = combine(se_seed, sd_degrees, se_item, item_degrees)
    parts = _Parts(se_seed, sd_degrees, se_item, item_degrees, se, degrees)
    half = parts.half(1 - level)
    return Contrast(
        estimate=estimate, low=estimate - half, high=estimate + half, level=level, p=parts.p(abs(estimate)), se=se,
        se_seed=se_seed, se_item=se_item, sd=sd, sd_degrees=sd_degrees, item_degrees=item_degrees,
        degrees=min(degrees, sd_degrees) if parts.few else degrees, noise=noise,
        deltas=tuple(float(x) for x in deltas),
    )  # fmt: skip


def at(c: Contrast, level: float) -> Contrast:
    """The same difference with the interval of another level."""
    return interval(
        np.array(c.deltas), se_seed=c.se_seed, sd=c.sd, sd_degrees=c.sd_degrees, se_item=c.se_item,
        item_degrees=c.item_degrees, noise=c.noise, level=level,
    )  # fmt: skip


class _Parts(NamedTuple):
    """Two standard errors with their degrees, and what they make together."""

    se_seed: float
    sd_degrees: float
    se_item: float
    item_degrees: float
    se: float
    degrees: float

    @property
    def few(self) -> bool:
        return self.sd_degrees < FEW and self.se_seed > 0 < self.se_item

    def half(self, alpha: float) -> float:
        """Half the interval that leaves out ``alpha``, both ends together."""
        if not self.few:
            return t_point(alpha, self.degrees) * self.se
        return half_of_squares(((self.se_seed, self.sd_degrees), (self.se_item, self.item_degrees)), alpha)

    def p(self, estimate: float) -> float:
        """The p value of which ``half`` is the inverse."""
        if self.se == 0:
            return float(estimate == 0)
        return p_of(self.half, estimate) if self.few else t_tail(estimate / self.se, self.degrees)


def half_of_squares(parts: Sequence[tuple[float, float]], alpha: float) -> float:
    """Half an interval from independent (standard error, degrees): the root of the sum of their squared halves."""
    return math.sqrt(sum((t_point(alpha, degrees) * se) ** 2 for se, degrees in parts if se > 0))


def p_of(half: Callable[[float], float], estimate: float) -> float:
    """The p value at which an interval of half-width ``half(p)`` ends at 0, for estimate >= 0."""
    low, high = -50.0, 0.0  # of ln p
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if half(math.exp(middle)) < estimate else (middle, high)
    return math.exp(high)


def differences(nats: Mapping[str, Floats], weights: Mapping[str, float], baseline: Sequence[str]) -> Floats:
    """The contrast at each seed, percent, float64 (seeds,): weighted totals over the baseline's mean total."""
    total = {arm: x.sum(axis=1) for arm, x in nats.items()}
    scale = float(np.mean([total[arm].mean() for arm in baseline]))
    seeds = len(total[baseline[0]])
    return 100 / scale * sum((w * total[arm] for arm, w in weights.items()), np.zeros(seeds))


def item_errors(
    nats: Mapping[str, Floats],
    contrasts: Sequence[Mapping[str, float]],
    baseline: Sequence[str],
    *,
    clusters: Ints,
    resamples: int,
    seed: int = 0,
) -> list[float]:
    """Bootstrap SE of each contrast over evaluation documents, percent.

    All contrasts see the same resamples, and the baseline is resampled with them. The plain bootstrap is too small by
    sqrt((g - 1) / g) with g clusters, which is put right.

    Args:
        nats: arm to float64 (seeds, documents).
        contrasts: arm to weight, one mapping each.
        baseline: arms whose mean is the unit.
        clusters: int64 (documents,), equal numbers are drawn together; 0 to g - 1, each used.
        resamples: how many.
        seed: of the bootstrap.
    """
    arms = list(nats)
    g = int(clusters.max()) + 1
    sums = [np.bincount(clusters, nats[arm].mean(axis=0), minlength=g).astype(np.float64) for arm in arms]
    totals = resample(np.stack(sums, axis=1), resamples, seed)
    scale = totals[:, [arms.index(arm) for arm in baseline]].mean(axis=1)
    correction = math.sqrt(g / (g - 1))
    errors = []
    for weights in contrasts:
        w = np.array([weights.get(arm, 0.0) for arm in arms])
        errors.append(float((100 * (totals @ w) / scale).std(ddof=1)) * correction)
    return errors


def bits_per_byte(nats: Floats, size: Ints) -> Floats:
    """Bits per byte at each seed, float64 (seeds,): all nats over all bytes, so a long document counts as it is long.

    Args:
        nats: float64 (seeds, documents).
        size: bytes of what was scored, int64 (documents,): a document's text (P2), or a gold answer's (P1).
    """
    total = float(size.sum())
    if total <= 0:
        raise ValueError("bits per byte of documents without a byte; leave empty documents out before scoring")
    return nats.sum(axis=-1) / (math.log(2) * total)


def resample(values: Floats, resamples: int, seed: int) -> Floats:
    """Sums of rows drawn with replacement, as many as there are, float64 (resamples, columns).

    Indices come from the raw stream of PCG64, which NumPy promises never to change.
    """
    n = len(values)
    stream = np.random.PCG64(seed)
    out = np.empty((resamples, values.shape[1]))
    step = max(1, CHUNK // n)
    for at in range(0, resamples, step):
        rows = min(step, resamples - at)
        drawn = ((stream.random_raw(rows * n) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32)
        cell = drawn.astype(np.int64) + np.repeat(np.arange(rows) * n, n)
        out[at : at + rows] = np.bincount(cell, minlength=rows * n).reshape(rows, n) @ values
    return out


def combine(se_seed: float, degrees_seed: float, se_item: float, degrees_item: float) -> tuple[float, float]:
    """Two independent standard errors as one, with its degrees of freedom (Welch-Satterthwaite)."""
    square = se_seed**2 + se_item**2
    if square == 0:
        return 0.0, float(degrees_seed)
    return math.sqrt(square), square**2 / (se_seed**4 / degrees_seed + se_item**4 / degrees_item)


def detectable(sd: float, seeds: int, degrees: float, item_se: float, clusters: float, level: float = 0.95) -> float:
    """The smallest true difference, percent, whose interval excludes 0 four times in five, where the noise is pooled.

    Args:
        sd: SD of one seed's difference.
        seeds: how many will be averaged.
        degrees: degrees of freedom of ``sd`` in the analysis.
        item_se: SE over evaluation documents.
        clusters: of evaluation documents.
        level: of the interval.
    """
    se, df = combine(sd / math.sqrt(seeds), degrees, item_se, clusters - 1)
    return (t_quantile((1 + level) / 2, df) + t_quantile(POWER, df)) * se


def power(
    effect: float, sd: float, seeds: int, degrees: float, item_se: float, clusters: float, level: float = 0.95
) -> float:
    """The chance that an interval lies above 0 where the true difference is ``effect``; arguments as ``detectable``'s.

    The estimate's own distribution is taken as a shifted Student's, as there: power(detectable(...)) is .8.
    """
    se, df = combine(sd / math.sqrt(seeds), degrees, item_se, clusters - 1)
    if se == 0:
        return float(effect > 0)
    beyond = effect / se - t_quantile((1 + level) / 2, df)
    return 1 - t_tail(beyond, df) / 2 if beyond >= 0 else t_tail(-beyond, df) / 2


def seeds_needed(sd: float, item_se: float, delta: float, level: float = 0.95) -> int | None:
    """Seeds after which a difference of ``delta`` is seen four times in five: (2.8 sd / delta)^2 where SE_item is 0.

    2.8 is the sum of the normal quantiles of 97.5 % and 80 %; it is larger at higher levels, as several mixes share
    them. None where no number of seeds is enough, because the evaluation documents are too few.
    """
    both = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(POWER)
    room = (delta / both) ** 2 - item_se**2
    return max(2, math.ceil(sd**2 / room)) if room > 0 else None
