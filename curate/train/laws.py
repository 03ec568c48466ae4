"""Scaling laws over model sizes and tokens, and how much compute a mix saves along them.

Approach 3 of Hoffmann et al. (2022, "Training compute-optimal large language models", section 3.3 and appendix D.3):

    L(N, D) = E + A / N^alpha + B / D^beta

fitted as the log of a sum of exponentials, with a = ln A, b = ln B, e = ln E,

    minimise   sum of Huber(logsumexp(a - alpha ln N, b - beta ln D, e) - ln L),     delta = 1e-3,

from the paper's grid of 4,500 starts. Residuals are usually larger than 1e-3, so this is nearly the sum of their
absolute values, and a run that went wrong pulls little. In place of L-BFGS each start takes reweighted Gauss-Newton
steps (Huber's own algorithm, 1964; damped by Levenberg and Marquardt's rule), all starts at once as arrays: the paper's
own optimiser is known to have stopped early (Besiroglu et al. 2024), and here the result of the best starts is carried
on until nothing moves.

From a law follow, with C = 6 N D operations, the best size and tokens for a compute, the frontier
L(C) = E + K C^-gamma with gamma = alpha beta / (alpha + beta), and its inverse. The *compute multiplier* of a mix at
C is the compute with which the baseline's frontier reaches what the mix reaches with C, over C. Its interval is a
bootstrap of the runs of both, each draw fitted anew; beyond the compute that the baseline's runs cover only "> x" is
told.

Five numbers take runs: at least 10, over at least three sizes and three token counts. Fewer say nothing about N and D
apart; there the data multiplier (multiplier.py) reads one size's curve.
Cost: tens of milliseconds for a fit of 30 runs, a second or two for a bootstrap of 1,000 draws. NumPy only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from curate.train.statistics import Floats

DELTA = 1e-3
FEWEST = 10  # runs
FEWEST_OF_EACH = 3  # sizes, and token counts
STARTS = tuple(
    product(
        np.arange(0, 30, 5.0),
        np.arange(0, 30, 5.0),
        np.arange(-1, 1.5, 0.5),
        np.arange(0, 2.5, 0.5),
        np.arange(0, 2.5, 0.5),
    )
)  # of a, b, e, alpha, beta
FLOPS = 6.0  # a parameter and token, forward and backward
STUCK = 30  # steps without a gain after which a fit has converged


@dataclass(frozen=True, kw_only=True)
class Law:
    """L(N, D) = E + A / N^alpha + B / D^beta, nats or bits, whatever the losses were.

    Args:
        e: what no size and no data takes away.
        a: of size.
        b: of data.
        alpha: exponent of size.
        beta: exponent of data.
        residual: root mean square of the log residuals, 0 where the law was not fitted.
    """

    e: float
    a: float
    b: float
    alpha: float
    beta: float
    residual: float = 0.0

    def loss(self, n: float, d: float) -> float:
        """The loss of n parameters after d tokens."""
        return self.e + self.a * n**-self.alpha + self.b * d**-self.beta

    @property
    def gamma(self) -> float:
        """Exponent of compute along the frontier."""
        return self.alpha * self.beta / (self.alpha + self.beta)

    @property
    def size_exponent(self) -> float:
        """The best N grows as C to this power (a in the paper's table 2), the best D with what is left to 1."""
        return self.beta / (self.alpha + self.beta)

    def optimum(self, compute: float) -> tuple[float, float]:
        """Parameters and tokens that make the least loss of a compute of C = 6 N D."""
        g = (self.alpha * self.a / (self.beta * self.b)) ** (1 / (self.alpha + self.beta))
        n = g * (compute / FLOPS) ** self.size_exponent
        return n, compute / FLOPS / n

    def frontier(self, compute: float) -> float:
        """The least loss of a compute."""
        return self.loss(*self.optimum(compute))

    def compute(self, loss: float) -> float:
        """The compute whose least loss this is; infinite where no compute reaches it."""
        if loss <= self.e:
            return math.inf
        log = math.log((loss - self.e) / (self.frontier(1.0) - self.e)) / -self.gamma
        return math.exp(log) if log < 700 else math.inf


@dataclass(frozen=True)
class Runs:
    """Finished runs: parameters, tokens and final loss of each, float64 (runs,)."""

    n: Floats
    d: Floats
    loss: Floats

    @classmethod
    def of(cls, rows: Sequence[tuple[float, float, float]]) -> "Runs":
        """From rows of (parameters, tokens, loss)."""
        n, d, loss = np.array(rows, dtype=np.float64).reshape(-1, 3).T
        return cls(n, d, loss)

    @property
    def compute(self) -> Floats:
        """Operations of each, 6 N D."""
        return FLOPS * self.n * self.d


def fit(runs: Runs, *, delta: float = DELTA) -> Law:
    """The law of runs of one mix.

    Raises:
        ValueError: fewer than 10 runs, three sizes or three token counts, or values that are not positive numbers.
    """
    _check(runs)
    x, y = _logs(runs), np.log(runs.loss)
    weights = np.ones((1, len(y)))
    starts = np.array(STARTS)
    cost = _cost(starts, x, y, weights, delta)
    chosen = starts[np.argsort(cost, kind="stable")[:200]]
    theta, cost = _descend(chosen, x, y, weights, delta, 60)
    theta, cost = _descend(theta[np.argsort(cost, kind="stable")[:8]], x, y, weights, delta, 2_000)
    return _law(theta[cost.argmin()], x, y)


@dataclass(frozen=True, kw_only=True)
class ComputeMultiplier:
    """How much compute of the baseline a mix's compute is worth.

    Args:
        estimate: the ratio; above 1 the mix saves.
        low: lower end of the interval.
        high: upper end.
        level: of the interval.
        at: the mix's compute.
        text: the three as they may be told, within what the baseline's runs cover.
        laws: of the baseline and of the mix.
    """

    estimate: float
    low: float
    high: float
    level: float
    at: float
    text: str
    laws: tuple[Law, Law]


def compute_multiplier(
    baseline: Runs, candidate: Runs, *, at: float | None = None, draws: int = 1_000, seed: int = 0, level: float = 0.95
) -> ComputeMultiplier:
    """The compute multiplier of a mix.

    Args:
        baseline: its runs.
        candidate: the mix's.
        at: compute of the mix; None for the largest that runs of both reach.
        draws: of the bootstrap.
        seed: of the bootstrap.
        level: of the interval.

    Raises:
        ValueError: too few runs of either, or a compute that the mix's runs do not reach.
    """
    laws = fit(baseline), fit(candidate)
    most = min(float(baseline.compute.max()), float(candidate.compute.max()))
    at = most if at is None else at
    low_c, high_c = float(candidate.compute.min()), float(candidate.compute.max())
    if not low_c <= at <= high_c * (1 + 1e-9):
        raise ValueError(
            f"a compute of {at:.3g}, where the mix's runs have {low_c:.3g} to {high_c:.3g}; name one of theirs"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = [_redraw(runs, law, draws, rng) for runs, law in zip((baseline, candidate), laws, strict=True)]
    ratios = np.sort([one.compute(two.frontier(at)) / at for one, two in zip(*drawn, strict=True)])
    out = (1 - level) / 2
    low, high = (float(ratios[round(q * (len(ratios) - 1))]) for q in (out, 1 - out))
    estimate = laws[0].compute(laws[1].frontier(at)) / at
    span = (float(baseline.compute.min()) / at, float(baseline.compute.max()) / at)

    def tell(m: float) -> str:
        return f"> {span[1]:.2g}" if m > span[1] * 1.01 else f"< {span[0]:.2g}" if m < span[0] * 0.99 else f"{m:.2f}"

    ends = (tell(low), tell(high))
    text = tell(estimate) if ends[0] == ends[1] == tell(estimate) else f"{tell(estimate)} ({ends[0]} to {ends[1]})"
    return ComputeMultiplier(estimate=estimate, low=low, high=high, level=level, at=at, text=text, laws=laws)


def _redraw(runs: Runs, law: Law, draws: int, rng: np.random.Generator) -> list[Law]:
    """Laws of resampled runs, each begun at the law of all and a few steps around it."""
    x, y = _logs(runs), np.log(runs.loss)
    picked = rng.integers(0, len(y), (draws, len(y)))
    weights = np.stack([np.bincount(row, minlength=len(y)) for row in picked]).astype(np.float64)
    start = np.array([math.log(law.a), math.log(law.b), math.log(law.e), law.alpha, law.beta])
    best, least = np.tile(start, (draws, 1)), np.full(draws, np.inf)
    for shift in (0.0, 0.1, -0.1):
        begun = start + shift * np.array([math.log(runs.n.mean()), math.log(runs.d.mean()), 0.0, 1.0, 1.0])
        theta, cost = _descend(np.tile(begun, (draws, 1)), x, y, weights, DELTA, 150)
        better = cost < least
        best, least = np.where(better[:, None], theta, best), np.minimum(cost, least)
    return [_law(theta, x, y) for theta in best]


def _check(runs: Runs) -> None:
    columns = (runs.n, runs.d, runs.loss)
    if not all(np.isfinite(c).all() and (c > 0).all() for c in columns):
        raise ValueError(
            "runs with parameters, tokens or losses that are not positive numbers; leave out what diverged"
        )
    sizes, tokens = len(set(runs.n.tolist())), len(set(runs.d.tolist()))
    if len(runs.n) < FEWEST or sizes < FEWEST_OF_EACH or tokens < FEWEST_OF_EACH:
        raise ValueError(
            f"{len(runs.n)} runs of {sizes} sizes and {tokens} token counts cannot tell five numbers apart; give at "
            f"least {FEWEST} over {FEWEST_OF_EACH} of each, or read one size's curve (multiplier.py)"
        )


def _logs(runs: Runs) -> Floats:
    return np.stack([np.log(runs.n), np.log(runs.d)])


def _law(theta: Floats, x: Floats, y: Floats) -> Law:
    a, b, e, alpha, beta = (float(t) for t in theta)
    residual = _terms(theta[None], x)[1][0] - y
    return Law(
        e=math.exp(e),
        a=math.exp(a),
        b=math.exp(b),
        alpha=alpha,
        beta=beta,
        residual=float(np.sqrt((residual**2).mean())),
    )


def _terms(theta: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Shares of the three terms, (starts, 3, runs), and the log of their sum, (starts, runs)."""
    a, b, e, alpha, beta = (theta[:, i, None] for i in range(5))
    logs = np.stack([a - alpha * x[0], b - beta * x[1], np.broadcast_to(e, (len(theta), x.shape[1]))], axis=1)
    top = logs.max(axis=1)
    parts = np.exp(logs - top[:, None])
    whole = parts.sum(axis=1)
    return parts / whole[:, None], top + np.log(whole)


def _huber(r: Floats, delta: float) -> Floats:
    size = np.abs(r)
    return np.where(size <= delta, r * r / 2, delta * (size - delta / 2))


def _cost(theta: Floats, x: Floats, y: Floats, weights: Floats, delta: float) -> Floats:
    return (weights * _huber(_terms(theta, x)[1] - y, delta)).sum(axis=1)


def _descend(theta: Floats, x: Floats, y: Floats, weights: Floats, delta: float, steps: int) -> tuple[Floats, Floats]:
    """Reweighted, damped Gauss-Newton steps from every start; weights (1 or starts, runs). Returns ends and costs."""
    damping = np.full(len(theta), 1e-2)
    shares, fitted = _terms(theta, x)
    r = fitted - y
    cost = (weights * _huber(r, delta)).sum(axis=1)
    idle = 0
    for _ in range(steps):
        w = weights * delta / np.maximum(np.abs(r), delta)
        jacobian = np.stack(
            [shares[:, 0], shares[:, 1], shares[:, 2], -x[0] * shares[:, 0], -x[1] * shares[:, 1]], axis=2
        )
        weighted = jacobian * w[:, :, None]
        normal = np.matmul(weighted.transpose(0, 2, 1), jacobian)
        gradient = np.matmul(weighted.transpose(0, 2, 1), r[:, :, None])
        diagonal = np.einsum("kii->ki", normal)
        normal[:, range(5), range(5)] += damping[:, None] * np.maximum(diagonal, 1e-12) + 1e-14
        tried = theta - np.clip(np.linalg.solve(normal, gradient)[..., 0], -5, 5)
        new_shares, fitted = _terms(tried, x)
        left = fitted - y
        less = (weights * _huber(left, delta)).sum(axis=1)
        better = less < cost
        gain = np.where(better, cost - less, 0.0).max(initial=0.0)
        idle = idle + 1 if gain <= 1e-12 * max(float(cost.min()), 1e-300) else 0
        theta, r = np.where(better[:, None], tried, theta), np.where(better[:, None], left, r)
        shares = np.where(better[:, None, None], new_shares, shares)
        cost = np.where(better, less, cost)
        damping = np.clip(np.where(better, damping / 3, damping * 3), 1e-10, 1e8)
        if idle >= STUCK:
            break
    return theta, cost
