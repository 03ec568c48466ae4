"""Scaling laws: published numbers, planted ones, an independent optimiser, and compute multipliers that are known."""

import math

import numpy as np
import pytest

from curate.train.laws import ComputeMultiplier, Law, Runs, compute_multiplier, fit

CHINCHILLA = Law(e=1.69, a=406.4, b=410.7, alpha=0.34, beta=0.28)    # Hoffmann et al. 2022, equation 10
UNROUNDED = Law(e=1.6934, a=406.4, b=410.7, alpha=0.3392, beta=0.2849)   # in its source (Besiroglu et al. 2024)
SIZES = (44e6, 150e6, 400e6, 1.2e9, 3e9, 10e9)
TOKENS = (1e9, 5e9, 20e9, 80e9, 300e9)


def runs(law: Law, noise: float = 0.0, seed: int = 0) -> Runs:
    rng = np.random.default_rng(seed)
    rows = [(n, d, law.loss(n, d) * math.exp(noise * rng.normal())) for n in SIZES for d in TOKENS]
    return Runs.of(rows)


def test_the_form_gives_the_published_losses():
    """Gopher (280B, 300B tokens) .052 + .251 + 1.69 = 1.993; Chinchilla (70B, 1.4T) .083 + .163 + 1.69 = 1.936.

    As worked out from equation 10 in "chinchilla's wild implications" (nostalgebraist 2022).
    """
    assert CHINCHILLA.loss(280e9, 300e9) == pytest.approx(1.993, abs=1e-3)
    assert CHINCHILLA.loss(70e9, 1.4e12) == pytest.approx(1.936, abs=1e-3)


def test_published_exponents_of_size():
    """Approach 3: N grows as C^.46 and D as C^.54 (Hoffmann et al. 2022, table 2); refitted, .513 (Besiroglu)."""
    assert UNROUNDED.size_exponent == pytest.approx(0.46, abs=5e-3)
    refitted = Law(e=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658)
    assert refitted.size_exponent == pytest.approx(0.513, abs=1e-3)


def test_the_optimum_is_one():
    n, d = CHINCHILLA.optimum(1e21)
    assert 6 * n * d == pytest.approx(1e21)
    for factor in (0.9, 1.1):
        assert CHINCHILLA.loss(n * factor, d / factor) > CHINCHILLA.frontier(1e21)
    assert CHINCHILLA.compute(CHINCHILLA.frontier(1e21)) == pytest.approx(1e21)
    assert CHINCHILLA.compute(1.69) == math.inf
    k = (CHINCHILLA.frontier(1e18) - 1.69) / (CHINCHILLA.frontier(1e22) - 1.69)
    assert k == pytest.approx(1e4**CHINCHILLA.gamma)


@pytest.mark.parametrize("law", [CHINCHILLA, Law(e=0.6, a=40.0, b=3_000.0, alpha=0.25, beta=0.45)])
def test_planted_laws_are_found(law: Law):
    got = fit(runs(law))
    assert (got.e, got.a, got.b, got.alpha, got.beta) == pytest.approx(
        (law.e, law.a, law.b, law.alpha, law.beta), rel=1e-6
    )
    assert got.residual < 1e-9


def test_noise_and_a_run_that_went_wrong_pull_little():
    noisy = runs(CHINCHILLA, noise=0.003)
    got = fit(noisy)
    assert (got.alpha, got.beta, got.e) == pytest.approx((0.34, 0.28, 1.69), rel=0.1)
    noisy.loss[7] *= 1.3
    robust = fit(noisy)
    assert (robust.alpha, robust.beta, robust.e) == pytest.approx((got.alpha, got.beta, got.e), rel=0.05)


def test_an_independent_optimiser_finds_nothing_better():
    """L-BFGS by torch, as the paper used it, from the truth and from where the fit ended."""
    torch = pytest.importorskip("torch")
    noisy = runs(CHINCHILLA, noise=0.004, seed=3)
    n, d, y = (torch.log(torch.tensor(column)) for column in (noisy.n, noisy.d, noisy.loss))

    def cost(p):
        terms = torch.stack([p[0] - p[3] * n, p[1] - p[4] * d, p[2].expand(len(n))])
        return torch.nn.functional.huber_loss(torch.logsumexp(terms, 0), y, delta=1e-3, reduction="sum")

    def start(law: Law):
        return torch.tensor(
            [math.log(law.a), math.log(law.b), math.log(law.e), law.alpha, law.beta], dtype=torch.float64
        ).requires_grad_()

    got = fit(noisy)
    ours = cost(start(got)).item()
    for law in (CHINCHILLA, got):
        p = start(law)
        optimiser = torch.optim.LBFGS([p], max_iter=1_000, tolerance_grad=1e-14, tolerance_change=1e-16,
                                      line_search_fn="strong_wolfe")  # fmt: skip

        def closure(p=p, optimiser=optimiser):
            optimiser.zero_grad()
            loss = cost(p)
            loss.backward()
            return loss.detach()

        optimiser.step(closure)
        assert ours <= cost(p).item() * (1 + 1e-6)


def saved(noise: float, seed: int) -> tuple[ComputeMultiplier, float]:
    """A mix whose data term is a fifth smaller, and what that is worth."""
    better = Law(e=1.69, a=406.4, b=410.7 * 0.8, alpha=0.34, beta=0.28)
    true = CHINCHILLA.compute(better.frontier(1e21)) / 1e21
    got = compute_multiplier(
        runs(CHINCHILLA, noise, seed), runs(better, noise, seed + 100), at=1e21, draws=100, seed=seed
    )  # fmt: skip
    return got, true


def test_a_compute_multiplier_that_is_known():
    exact, true = saved(0.0, 0)
    assert (exact.estimate, exact.low, exact.high) == pytest.approx((true, true, true), rel=1e-4)
    assert exact.text == f"{true:.2f}"
    noisy, _ = saved(0.002, 1)
    assert noisy.low < true < noisy.high
    assert noisy.high / noisy.low < 1.5


def test_intervals_of_compute_hold_the_truth():
    held = sum(got.low <= true <= got.high for got, true in (saved(0.003, seed) for seed in range(8)))
    assert held >= 6


def test_beyond_the_baselines_runs_nothing_is_told():
    better = Law(e=1.4, a=300.0, b=300.0, alpha=0.34, beta=0.28)
    got = compute_multiplier(runs(CHINCHILLA), runs(better), draws=20)
    assert got.at == pytest.approx(6 * 10e9 * 300e9)
    assert got.text == "> 1"


def test_too_few_runs_are_refused():
    good = runs(CHINCHILLA)
    with pytest.raises(ValueError, match="9 runs of 2 sizes"):
        fit(Runs(good.n[:9], good.d[:9], good.loss[:9]))
    one_size = Runs(np.full(30, 1e9), good.d, good.loss)
    with pytest.raises(ValueError, match="1 sizes"):
        fit(one_size)
    with pytest.raises(ValueError, match="not positive"):
        fit(Runs(good.n, good.d, good.loss * math.nan))
    with pytest.raises(ValueError, match="name one of theirs"):
        compute_multiplier(good, good, at=1e30)
