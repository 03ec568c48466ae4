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
interval is Student's, with the degrees of freedom of the two parts combined (Welch 1947, Satterthwaite 1946).

Few seeds leave few degrees, so the noise of the A/A comparison (two random draws, each seed) is pooled in: n - 1
further degrees. Where arms are equally noisy, a contrast with weights w varies in proportion to sum w^2: 2 for one
arm against another, 1.5 for one arm against the mean of two, which is how the baseline that comparisons share is
counted. The assumption is tested in the direction that would hurt: where the contrast is noisier than A/A (F test, p
< .2), only its own noise is used.

NumPy only; quantiles are solved from the incomplete beta function (DLMF 8.17).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

POWER = 0.8
SUSPICIOUS = 0.2  # below this p, a contrast noisier than A/A is not pooled with it
CHUNK = 1 << 22  # indices drawn at a time by the bootstrap


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One difference in percent of the baseline, with its interval.

    Args:
        estimate: mean over seeds; positive means cheaper than what it is compared with.
        low: lower end of the interval.
        high: upper end.
        level: of the interval, for example .95.
        p: two-sided, that the difference is 0.
        se: standard error, both sources.
        se_seed: its part from seeds.
        se_item: its part from evaluation documents.
        sd: SD of one seed's difference that ``se_seed`` rests on.
        sd_degrees: degrees of freedom of ``sd``.
        degrees: degrees of freedom of the interval.
        noise: where ``sd`` comes from: ``"pooled with A/A"`` or ``"own seeds"``.
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
    sd_degrees: int
    degrees: float
    noise: str
    deltas: tuple[float, ...]


def contrast(
    deltas: Sequence[float] | Floats,
    *,
    spread: float,
    item_se: float,
    clusters: int,
    aa: Sequence[float] | Floats | None = None,
    level: float = 0.95,
) -> Contrast:
    """The interval of a difference.

    Args:
        deltas: the difference at each seed, at least two.
        spread: sum of the squared weights of its arms, see above.
        item_se: SE over evaluation documents, from ``item_errors``.
        clusters: how many documents, or clusters, that SE rests on.
        aa: the A/A difference (spread 2) at each seed, whose noise is pooled in; None leaves the contrast's own.
        level: of the interval.
    """
    own = np.asarray(deltas, dtype=np.float64)
    if len(own) < 2:
        raise ValueError("a contrast needs at least two seeds")
    variance, degrees, noise = float(own.var(ddof=1)), len(own) - 1, "own seeds"
    if aa is not None:
        other = np.asarray(aa, dtype=np.float64)
        reference, more = float(other.var(ddof=1)) * spread / 2, len(other) - 1
        if f_tail(variance, reference, degrees, more) >= SUSPICIOUS:
            variance = (degrees * variance + more * reference) / (degrees + more)
            degrees, noise = degrees + more, "pooled with A/A"
    se_seed = math.sqrt(variance / len(own))
    se, df = combine(se_seed, degrees, item_se, clusters - 1)
    estimate = float(own.mean())
    half = t_quantile((1 + level) / 2, df) * se
    p = t_tail(abs(estimate) / se, df) if se > 0 else float(estimate == 0)
    return Contrast(
        estimate=estimate, low=estimate - half, high=estimate + half, level=level, p=p, se=se, se_seed=se_seed,
        se_item=item_se, sd=math.sqrt(variance), sd_degrees=degrees, degrees=df, noise=noise,
        deltas=tuple(float(x) for x in own),
    )  # fmt: skip


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


def detectable(sd: float, seeds: int, degrees: float, item_se: float, clusters: int, level: float = 0.95) -> float:
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


def seeds_needed(sd: float, item_se: float, delta: float) -> int | None:
    """Seeds after which a difference of ``delta`` is seen four times in five: (2.8 sd / delta)^2 where SE_item is 0.

    None where no number of seeds is enough, because the evaluation documents are too few.
    """
    room = (delta / 2.8) ** 2 - item_se**2
    return max(2, math.ceil(sd**2 / room)) if room > 0 else None


def t_tail(t: float, degrees: float) -> float:
    """Two-sided tail of Student's t: P(abs(T) > t), for t >= 0."""
    return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


@lru_cache(maxsize=4096)
def t_quantile(p: float, degrees: float) -> float:
    """Student's t quantile, for p between .5 and 1."""
    if not 0.5 <= p < 1:
        raise ValueError(f"p must be at least .5 and below 1, not {p}")
    low, high = 0.0, 1.0
    while t_tail(high, degrees) / 2 > 1 - p:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, degrees) / 2 > 1 - p else (low, middle)
    return (low + high) / 2


def f_tail(variance: float, reference: float, degrees: float, degrees_reference: float) -> float:
    """P(F > variance / reference): whether a variance is larger than a reference by chance."""
    if variance == 0:
        return 1.0
    whole = degrees_reference * reference + degrees * variance
    return incomplete_beta(degrees_reference / 2, degrees / 2, degrees_reference * reference / whole)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    # Evaluated from the front (modified Lentz): f = 1 + d1/(1 + d2/(1 + ...)), the answer is front / (a f).
    tiny = 1e-300
    f, c, d = 1.0, 1.0, 0.0
    for i in range(1, 10_000):
        m = i // 2
        top = m * (b - m) * x if i % 2 == 0 else -(a + m) * (a + b + m) * x
        term = top / ((a + i - 1) * (a + i))
        d = 1 + term * d
        d = 1 / (d if abs(d) > tiny else tiny)
        c = 1 + term / c
        c = c if abs(c) > tiny else tiny
        f *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(log_front) / (a * f)
