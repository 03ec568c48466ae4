"""The data multiplier: curves that are known, intervals that hold the truth, and what is told outside the budgets."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.train import ngram
from curate.train.multiplier import Power, fit, from_seeds, item_covariance, multiplier
from curate.train.statistics import Prior, contrast

QUARTERS = np.array([0.25, 0.5, 1.0, 2.0])
KNOWN = 1 + 1.5 * QUARTERS**-0.2


def test_a_curve_by_hand():
    """L = 1 + D^-1/2: 5, 3, 2 and 1.5 at 1/16, 1/4, 1 and 4, so a loss of 1.5 at D0 is worth 4, one of 3 a quarter."""
    scales, losses = (1 / 16, 1 / 4, 1, 4), (5.0, 3.0, 2.0, 1.5)
    m = multiplier(scales, losses, 1.5)
    assert (m.estimate, m.low, m.high) == pytest.approx((4, 4, 4), rel=1e-6)
    assert m.fit == pytest.approx((1, 1, 0.5), rel=1e-6)
    assert (m.method, m.text) == ("curve", "4.00")
    assert m.doubling == pytest.approx(100 * (math.sqrt(2) - 1) / (1 + math.sqrt(2)))
    assert multiplier(scales, losses, 3.0).estimate == pytest.approx(0.25, rel=1e-6)
    assert multiplier(scales, losses, 0.9).estimate == math.inf       # below E: no amount of data would do


@settings(deadline=None)
@given(st.floats(0, 3), st.floats(0.1, 3), st.floats(0.06, 0.98))
def test_planted_curves_are_read_off_right(e: float, b: float, beta: float):
    """E, b and beta lie in a long valley; what lies between the points is found all the same."""
    x = np.array([0.25, 0.5, 1, 2])
    curve = fit(x, (e + b * x**-beta)[None])
    at = np.array([0.3, 0.7, 1.4])
    assert curve.loss(at) == pytest.approx(e + b * at**-beta, rel=1e-7)
    assert float(curve.scale(np.array([e + b * 1.7**-beta]))[0]) == pytest.approx(1.7, rel=1e-5)


def test_a_fit_stays_within_its_bounds_and_does_not_depend_on_its_company():
    rng = np.random.default_rng(0)
    losses = KNOWN * (1 + rng.normal(0, 0.1, (300, 4)))
    many = fit(QUARTERS, losses)
    assert (many.e >= 0).all() and (many.beta >= 0.05).all() and (many.beta <= 1).all()
    for i in (0, 17, 299):
        one = fit(QUARTERS, losses[i : i + 1])
        assert [float(x[0]) for x in one] == pytest.approx([float(x[i]) for x in many], rel=1e-6)


def squared(curve: Power, losses: np.ndarray) -> np.ndarray:
    fitted = np.array([curve.loss(np.array(x)) for x in QUARTERS]).T
    return ((np.log(losses) - np.log(fitted)) ** 2).sum(axis=1)


def test_no_point_of_a_fine_grid_fits_better():
    rng = np.random.default_rng(1)
    losses = KNOWN * (1 + rng.normal(0, 1, (40, 4)) * np.repeat([0.002, 0.02], 20)[:, None])
    got = squared(fit(QUARTERS, losses), losses)
    best = np.full(40, np.inf)
    for beta in np.linspace(0.05, 1, 200):
        for q in [0, *np.geomspace(1e-3, 1e2, 200)]:
            shape = np.log(q + QUARTERS**-beta)
            rest = np.log(losses) - shape
            best = np.minimum(best, rest.var(axis=1) * 4)
    assert (got <= best + 1e-9).all()


def test_the_local_slope_by_hand():
    """6 % a doubling, 1 % gained: 2^(1/6), about 1.12."""
    slope = 0.06 / math.log(2)
    m = multiplier((0.5, 1.0), (1 + slope * math.log(2), 1.0), 0.99)
    assert (m.method, m.fit) == ("local slope", None)
    assert m.estimate == pytest.approx(2 ** (1 / 6))
    assert m.doubling == pytest.approx(6)
    assert multiplier((0.5, 1.0), (1.06, 1.0), 0.9).text == "> 1"     # told no further than was tried


def test_what_lies_outside_is_only_said_to_lie_outside():
    far = multiplier(QUARTERS, KNOWN, 1.9, se=[0.001] * 4, candidate_se=0.001)
    assert far.text == "> 2"
    near = multiplier(QUARTERS, KNOWN, 1 + 1.5 * 1.7**-0.2, se=[0.02] * 4, candidate_se=0.02)
    assert near.text.startswith("1.70 (1.") and near.text.endswith(" to > 2)")
    worse = multiplier(QUARTERS, KNOWN, 3.5, se=[0.001] * 4, candidate_se=0.001)
    assert worse.text == "< 1/4"


def simulate(rng: np.random.Generator, worth: float, seeds: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Losses of a baseline whose budgets share each seed's luck, and of a mix worth so many times its data."""
    luck = rng.normal(0, 0.01, (seeds, 1))
    baseline = KNOWN * (1 + luck + rng.normal(0, 0.004, (seeds, 4)))
    return baseline, (1 + 1.5 * worth**-0.2) * (1 + rng.normal(0, 0.01, seeds))


@pytest.mark.parametrize("worth", [0.5, 1.0, 2.0])
def test_intervals_hold_the_truth(worth: float):
    rng = np.random.default_rng(3)
    held = 0
    for i in range(30):
        m = from_seeds(QUARTERS, *simulate(rng, worth), draws=150, seed=i)
        held += m.low <= worth <= m.high
    assert 0.87 <= held / 30


def test_doubled_data_gives_two():
    m = from_seeds(QUARTERS, *simulate(np.random.default_rng(5), 2.0))
    assert 1.4 <= m.low <= 2 <= m.high <= 2.9


def test_pooled_noise_makes_the_interval_of_few_seeds_narrower_and_still_hold():
    """Three seeds: pooled with the A/A difference and noise on record, the tails are those of 14 degrees."""
    rng = np.random.default_rng(9)
    held, narrower = 0, []
    for i in range(30):
        one, mix = simulate(rng, 1.5, seeds=3)
        two, _ = simulate(rng, 1.0, seeds=3)
        both = (one + two) / 2
        scale = 100 / both[:, 2].mean()
        c = contrast(scale * (both[:, 2] - mix), spread=1.5, item_se=0.0, clusters=300, aa=scale * (one - two)[:, 2],
                     prior=Prior(math.sqrt(2) * 1.08, 10))  # fmt: skip
        m = from_seeds(QUARTERS, both, mix, like=c, draws=150, seed=i)
        held += m.low <= 1.5 <= m.high
        alone = from_seeds(QUARTERS, both, mix, draws=150, seed=i)
        narrower.append(math.log(m.high / m.low) / math.log(alone.high / alone.low))
    assert held >= 25
    assert np.median(narrower) < 0.8


def test_draws_are_the_same_every_time():
    given_ = simulate(np.random.default_rng(6), 1.3)
    assert from_seeds(QUARTERS, *given_) == from_seeds(QUARTERS, *given_)
    assert from_seeds(QUARTERS, *given_, seed=1) != from_seeds(QUARTERS, *given_)


def test_documents_add_what_they_do_not_do_to_all_alike():
    """Losses in a fixed ratio have correlation 1, and their SE is that of a ratio of sums."""
    rng = np.random.default_rng(7)
    size = rng.integers(50, 500, 200)
    nats = rng.normal(1, 0.1, 200) * size
    c = item_covariance(np.stack([nats, 1.1 * nats]), size, clusters=np.arange(200), resamples=4_000)
    assert c[0, 1] / math.sqrt(c[0, 0] * c[1, 1]) == pytest.approx(1)
    assert c[1, 1] / c[0, 0] == pytest.approx(1.21)
    d = nats - nats.sum() / size.sum() * size
    assert math.sqrt(c[0, 0]) == pytest.approx(math.sqrt((d**2).sum()) / size.sum() / math.log(2), rel=0.06)
    flat = from_seeds(QUARTERS, *simulate(rng, 1.0), seed=2)
    one = np.full((5, 5), 1e-4)                                      # all losses move together
    assert from_seeds(QUARTERS, *simulate(np.random.default_rng(7), 1.0), item=one).low > 0
    assert flat.low < 1 < flat.high


def test_what_cannot_be_read_off_is_refused():
    with pytest.raises(ValueError, match="at least two different"):
        multiplier((1.0,), (2.0,), 1.9)
    with pytest.raises(ValueError, match="at least two different"):
        multiplier((1.0, 1.0), (2.0, 2.0), 1.9)
    with pytest.raises(ValueError, match="not all positive"):
        multiplier((0.5, 1.0), (2.0, math.nan), 1.9)
    with pytest.raises(ValueError, match="does not fall"):
        multiplier((0.5, 1.0), (2.0, 2.0), 1.9)
    with pytest.raises(ValueError, match="at least two, the same"):
        from_seeds(QUARTERS, KNOWN[None], np.array([2.0]))


def test_known_answers_of_an_ngram():
    """The same text, twice as much of it, is worth 2; with half of it noise, clearly less than 1."""
    rng = np.random.default_rng(8)
    words = [bytes(rng.integers(97, 123, n).tolist()) for n in rng.integers(2, 9, 20_000)]
    share = 1 / np.arange(3, 20_003)

    def text(size: int) -> np.ndarray:
        """Words as Zipf has them, so that there is always something left to learn."""
        drawn = rng.choice(20_000, size // 4, p=share / share.sum())
        return np.frombuffer(b" ".join([words[i] for i in drawn])[:size], dtype=np.uint8)

    test = text(20_000)

    def bpb(train: np.ndarray) -> float:
        model = ngram.train(np.array([0, len(train)]), train)
        return float(ngram.nats(model, np.array([0, len(test)]), test)[-1].sum()) / math.log(2) / len(test)

    unit = 40_000
    baseline, doubled, noisy = np.empty((4, 4)), np.empty(4), np.empty(4)
    for seed in range(4):
        whole = text(2 * unit)
        baseline[seed] = [bpb(whole[: int(x * unit)]) for x in QUARTERS]
        doubled[seed] = bpb(text(2 * unit))
        noise = rng.integers(0, 256, unit // 2).astype(np.uint8)
        noisy[seed] = bpb(np.concatenate([text(unit // 2), noise]))
    two = from_seeds(QUARTERS, baseline, doubled)
    assert two.low <= 2 <= two.high
    assert 1.4 <= two.low and two.high <= 2.9
    assert from_seeds(QUARTERS, baseline, noisy).high < 0.8
