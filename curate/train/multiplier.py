"""The data multiplier: how much more of the baseline's data would have done what the mix did.

The baseline is trained at several budgets D, each properly annealed, best at 1/4, 1/2, 1 and 2 times the trial's D0,
and its loss is fitted as

    L(D) = E + b D^-beta,      E >= 0,  beta from .05 to 1,     least squares of log L.

The mix's loss at D0 is then read off that curve: D* = ((L_mix - E) / b)^(-1 / beta) and m = D* / D0. A multiplier of 2
says that twice the data of the baseline would have been as good. Between the budgets tried this is interpolation;
beyond them a power law with three free numbers says whatever it likes, so a number outside is told as "> 2" or "< 1/4"
only.

The interval is a parametric bootstrap: the losses are drawn around their means with their errors, each draw is fitted
and read off anew, and the percentiles are taken of log m. Where the losses come from seeds (``from_seeds``) the draws
have the seeds' own covariance, since a baseline at D and at D/2 shares documents, initialisation and luck, and
Student's tails for their number. Few seeds have heavy tails; where the contrast of the mix with the baseline has pooled
its noise (statistics.py), the draws have that noise and its degrees. Evaluation documents are shared by all losses, and
what they do to one they do nearly to all; ``item_covariance`` measures what is left.

With fewer than four budgets three numbers cannot be told from noise; then the local slope is used, and said:

    ln m = (L_baseline(D0) - L_mix) / (-dL / d ln D)

Known answers (tests, benchmarks/trial_nulls.py): the baseline's own distribution trained on 2 D0 and declared as D0
gives 2 within its interval; half of the bytes at random gives clearly less than 1.
Cost: 2,000 fits at once, some tenths of a second. NumPy only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curate.train.statistics import Contrast, Floats, Ints, resample

SLOWEST, FASTEST = 0.05, 1.0  # beta
POINTS = 4  # budgets below which no curve is fitted
STEPS = 40  # of the fit at most, from the best point of the grid


class Power(NamedTuple):
    """L(x) = E + b x^-beta, x in units of D0; each number an array where many curves were fitted."""

    e: Floats
    b: Floats
    beta: Floats

    def loss(self, x: Floats) -> Floats:
        """The loss at x times D0."""
        return self.e + self.b * x**-self.beta

    def scale(self, loss: Floats) -> Floats:
        """The x whose loss this is; infinite where the curve never gets there."""
        rest = (loss - self.e) / self.b
        with np.errstate(over="ignore"):
            return np.where(rest > 0, np.exp(-np.log(np.maximum(rest, 1e-300)) / self.beta), np.inf)


@dataclass(frozen=True, kw_only=True)
class Multiplier:
    """How much of the baseline's data the mix's is worth.

    Args:
        estimate: m; above the largest budget tried, or below the smallest, only that it is so is known.
        low: lower end of the interval, infinite where no amount of the baseline's data would do.
        high: upper end.
        level: of the interval.
        text: the three as they may be told: ``1.42 (1.13 to > 2)``.
        method: ``"curve"`` or ``"local slope"``.
        fit: E, b and beta with D in units of D0; None for the local slope.
        range: the smallest and largest budget in units of D0.
        doubling: percent that the baseline's loss falls from D0 / 2 to D0 (curve) or a doubling (slope).
    """

    estimate: float
    low: float
    high: float
    level: float
    text: str
    method: str
    fit: tuple[float, float, float] | None
    range: tuple[float, float]
    doubling: float


def multiplier(
    scales: Sequence[float] | Floats,
    losses: Sequence[float] | Floats,
    candidate: float,
    *,
    se: Sequence[float] | Floats | None = None,
    candidate_se: float = 0.0,
    covariance: Floats | None = None,
    degrees: float = math.inf,
    draws: int = 2_000,
    seed: int = 0,
    level: float = 0.95,
) -> Multiplier:
    """The multiplier of a mix.

    Args:
        scales: the baseline's budgets in units of the mix's own, each once, for example (1/4, 1/2, 1, 2).
        losses: the baseline's loss at each, bits per byte.
        candidate: the mix's loss at its budget.
        se: standard error of each loss, independent of each other; instead of ``covariance``.
        candidate_se: the same of the mix's.
        covariance: float64 (points + 1, points + 1) of the losses and, last, the mix's.
        degrees: of freedom that the errors rest on; draws have Student's tails then.
        draws: of the bootstrap.
        seed: of the bootstrap.
        level: of the interval.

    Raises:
        ValueError: fewer than two budgets, losses that are not positive numbers, or a baseline that more data does not
            help, in which nothing can be read off.
    """
    x = np.asarray(scales, dtype=np.float64)
    mean = np.append(np.asarray(losses, dtype=np.float64), candidate)
    _check(x, mean)
    if covariance is None:
        errors = np.zeros(len(x)) if se is None else np.asarray(se, dtype=np.float64)
        covariance = np.diag(np.append(errors, candidate_se) ** 2)
    drawn = _draw(mean, np.asarray(covariance, dtype=np.float64), degrees, draws, seed)
    every = np.concatenate([mean[None], drawn])
    fitted = None
    if len(x) >= POINTS:
        method = "curve"
        curve = fit(x, every[:, :-1])
        m = curve.scale(every[:, -1])
        fitted = (float(curve.e[0]), float(curve.b[0]), float(curve.beta[0]))
        half, whole = (curve.loss(np.array(at))[0] for at in (0.5, 1.0))
        doubling = 100 * float(half - whole) / float(half)
    else:
        method = "local slope"
        here, slope = _line(x, every[:, :-1])
        m = np.exp(np.clip(_safe_ratio(here - every[:, -1], -slope), -700, 700))
        m = np.where(m >= 1e300, np.inf, m)
        doubling = 100 * -float(slope[0]) * math.log(2) / float(here[0])
    ordered = np.sort(m[1:])
    out = (1 - level) / 2
    low, high = (float(ordered[round(q * (len(ordered) - 1))]) for q in (out, 1 - out))
    span = (float(x.min()), float(x.max()))
    return Multiplier(
        estimate=float(m[0]), low=low, high=high, level=level, text=_text(float(m[0]), low, high, span), method=method,
        fit=fitted, range=span, doubling=doubling,
    )  # fmt: skip


def from_seeds(
    scales: Sequence[float] | Floats,
    losses: Floats,
    candidate: Floats,
    *,
    like: Contrast | None = None,
    item: Floats | None = None,
    draws: int = 2_000,
    seed: int = 0,
    level: float = 0.95,
) -> Multiplier:
    """The multiplier from each seed's losses, whose covariance the draws have, with n - 1 degrees.

    Args:
        scales: the baseline's budgets in units of the mix's own.
        losses: float64 (seeds, points), the baseline's.
        candidate: float64 (seeds,), the mix's at the same seeds.
        like: the contrast of the mix with the baseline at equal budgets and the same seeds. Where it has pooled its
            noise, the draws are scaled to it and have its degrees.
        item: covariance that evaluation documents add, from ``item_covariance``.
        draws: of the bootstrap.
        seed: of the bootstrap.
        level: of the interval.
    """
    together = np.column_stack([losses, candidate]).astype(np.float64)
    n = len(together)
    if n < 2:
        raise ValueError(
            f"{n} seeds say nothing about noise; give the baseline and the mix at least two, the same ones"
        )
    covariance, degrees = np.cov(together, rowvar=False) / n, n - 1.0
    if like is not None and (own := float(np.var(like.deltas, ddof=1))) > 0:
        covariance, degrees = covariance * (like.sd**2 / own), like.sd_degrees
    mean = together.mean(axis=0)
    return multiplier(
        scales, mean[:-1], float(mean[-1]), covariance=covariance if item is None else covariance + item,
        degrees=degrees, draws=draws, seed=seed, level=level,
    )  # fmt: skip


def item_covariance(nats: Floats, size: Ints, *, clusters: Ints, resamples: int = 2_000, seed: int = 0) -> Floats:
    """What other evaluation documents would do to all losses together: bootstrap covariance, (points, points).

    Args:
        nats: float64 (points, documents), averaged over seeds; the mix's last.
        size: bytes, int64 (documents,).
        clusters: int64 (documents,), drawn together.
        resamples: how many.
        seed: of the bootstrap.
    """
    g = int(clusters.max()) + 1
    sums = [np.bincount(clusters, row, minlength=g).astype(np.float64) for row in (*nats, size)]
    totals = resample(np.stack(sums, axis=1), resamples, seed)
    bpb = totals[:, :-1] / (math.log(2) * totals[:, -1:])
    return np.cov(bpb, rowvar=False) * g / (g - 1)


def fit(scales: Floats, losses: Floats) -> Power:
    """Fit one curve to each row of losses, float64 (curves, points): least squares of log L within the bounds.

    E, b and beta lie in a long curved valley, where every method crawls. The same curves described by their loss at the
    smallest budget, at the largest, and by beta are nearly straight in all three, so Levenberg and Marquardt's steps
    arrive after a few; all curves take them at once, each from the best point of a grid of (E / b, beta). E = 0 is
    tried by itself, a straight line in log L and log D.
    """
    x, y = np.asarray(scales, dtype=np.float64), np.log(np.atleast_2d(losses))
    order = np.argsort(x)
    x, y = x[order], y[:, order]
    beta, first, last, error = _improve(x, y, *_start(x, y))
    top, low = x[0] ** -beta, x[-1] ** -beta
    b = (np.exp(first) - np.exp(last)) / (top - low)
    e = np.maximum(np.exp(last) - b * low, 0.0)
    lx = np.log(x) - np.log(x).mean()
    away = y - y.mean(axis=1, keepdims=True)
    slope = np.clip(-(away @ lx) / (lx @ lx), SLOWEST, FASTEST)
    level = y.mean(axis=1) + slope * np.log(x).mean()
    plain = ((y - level[:, None] + slope[:, None] * np.log(x)) ** 2).sum(axis=1) <= error
    return Power(np.where(plain, 0.0, e), np.where(plain, np.exp(level), b), np.where(plain, slope, beta))


def _start(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """The best of a grid of E / b and beta, for which log b is a mean: beta, and log L at both ends."""
    q, beta = (g.ravel() for g in np.meshgrid(np.geomspace(1e-3, 1e3, 61), np.geomspace(SLOWEST, FASTEST, 40)))
    shapes = np.log(q[:, None] + x[None, :] ** -beta[:, None])
    centred = shapes - shapes.mean(axis=1, keepdims=True)
    away = y - y.mean(axis=1, keepdims=True)
    best = np.empty(len(y), dtype=np.int64)
    for at in range(0, len(y), 1_000):
        best[at : at + 1_000] = ((centred**2).sum(axis=1) - 2 * away[at : at + 1_000] @ centred.T).argmin(axis=1)
    level = (y - shapes[best]).mean(axis=1)
    return beta[best], level + shapes[best, 0], level + shapes[best, -1]


def _improve(x: Floats, y: Floats, beta: Floats, first: Floats, last: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Levenberg and Marquardt's steps on (log L at the smallest budget, at the largest, beta), and the squared errors.

    With w the share of the smallest budget's loss in a point's, L = w L_first + (1 - w) L_last.
    """
    lx = np.log(x)
    theta = np.column_stack([first, last, beta])

    def bounded(t: Floats) -> Floats:
        """E >= 0 is beta >= log(L_first / L_last) / log(D_last / D_first); losses do not rise with data."""
        start = np.maximum(t[:, 0], t[:, 1] + 1e-9)
        least = np.maximum((start - t[:, 1]) / (lx[-1] - lx[0]), SLOWEST)
        return np.column_stack([start, t[:, 1], np.minimum(np.maximum(t[:, 2], least), FASTEST)])

    def curve(t: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Residuals, w, its derivative by beta, and L."""
        g = np.exp(-t[:, 2:3] * lx)
        dg = -lx * g
        span, dspan = g[:, :1] - g[:, -1:], dg[:, :1] - dg[:, -1:]
        w = (g - g[:, -1:]) / span
        dw = (dg - dg[:, -1:]) / span - w * dspan / span
        loss = w * np.exp(t[:, :1]) + (1 - w) * np.exp(t[:, 1:2])
        return y - np.log(loss), w, dw, loss

    theta = bounded(theta)
    r, w, dw, loss = curve(theta)
    error = (r**2).sum(axis=1)
    damping = np.full(len(theta), 1e-3)
    for _ in range(STEPS):
        one, two = np.exp(theta[:, :1]), np.exp(theta[:, 1:2])
        jacobian = np.stack([w * one / loss, (1 - w) * two / loss, dw * (one - two) / loss], axis=2)
        gradient = np.einsum("kpi,kp->ki", jacobian, r)
        normal = np.einsum("kpi,kpj->kij", jacobian, jacobian)
        size = np.maximum(np.einsum("kii->ki", normal), 1e-12)
        normal[:, range(3), range(3)] += damping[:, None] * size + 1e-15
        tried = bounded(theta + np.linalg.solve(normal, gradient[..., None])[..., 0])
        new = curve(tried)
        less = (new[0] ** 2).sum(axis=1)
        better = less < error
        if (np.where(better, error - less, 0.0) <= 1e-14).all() and (damping > 1e3).all():
            break
        theta, error = np.where(better[:, None], tried, theta), np.minimum(less, error)
        r, w, dw, loss = (np.where(better[:, None], a, b) for a, b in zip(new, (r, w, dw, loss), strict=True))
        damping = np.clip(np.where(better, damping / 10, damping * 10), 1e-12, 1e8)
    return theta[:, 2], theta[:, 0], theta[:, 1], error


def _line(x: Floats, losses: Floats) -> tuple[Floats, Floats]:
    """A straight line in ln D: the loss at D0, and the slope."""
    lx = np.log(x)
    away = lx - lx.mean()
    slope = losses @ away / (away @ away)
    return losses.mean(axis=1) - slope * lx.mean(), slope


def _safe_ratio(a: Floats, b: Floats) -> Floats:
    """The ratio a / b where b is positive; else infinite in the direction of a, as a flat baseline never gets there."""
    return np.where(b > 0, a / np.where(b > 0, b, 1.0), np.sign(a) * np.inf)


def _check(x: Floats, mean: Floats) -> None:
    if len(x) < 2 or len(x) != len(mean) - 1 or len(set(x.tolist())) < len(x) or not (x > 0).all():
        raise ValueError(
            f"budgets {x.tolist()} with {len(mean) - 1} losses; give at least two different ones, a loss each"
        )
    if not (np.isfinite(mean).all() and (mean > 0).all()):
        raise ValueError(f"losses {mean.tolist()} are not all positive numbers; train the failed runs anew")
    if mean[:-1][x.argmax()] >= mean[:-1][x.argmin()]:
        raise ValueError(
            f"the baseline's loss does not fall from {x.min():g} to {x.max():g} times the budget, so that no amount of "
            "its data can be read off; train it on larger budgets"
        )


def _draw(mean: Floats, covariance: Floats, degrees: float, draws: int, seed: int) -> Floats:
    """Draws around the mean with a covariance, Student's where degrees are finite; losses stay positive."""
    rng = np.random.Generator(np.random.PCG64(seed))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    z = rng.standard_normal((draws, len(mean))) @ root.T
    if math.isfinite(degrees):
        z *= np.sqrt(degrees / rng.chisquare(degrees, draws))[:, None]
    return np.maximum(mean + z, mean * 1e-3)


def _text(estimate: float, low: float, high: float, span: tuple[float, float]) -> str:
    """The estimate and its interval; what lies outside the budgets tried is only said to lie outside."""

    def tell(m: float) -> str:
        if m > span[1] * (1 + 1e-9):
            return f"> {span[1]:g}"
        if m < span[0] * (1 - 1e-9):
            return f"< {_fraction(span[0])}"
        return f"{m:.2f}"

    ends = (tell(low), tell(high))
    return tell(estimate) if ends[0] == ends[1] == tell(estimate) else f"{tell(estimate)} ({ends[0]} to {ends[1]})"


def _fraction(x: float) -> str:
    return f"1/{1 / x:g}" if x < 1 and (1 / x).is_integer() else f"{x:g}"
