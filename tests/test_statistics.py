"""The statistics of a trial: tables of quantiles, coverage of the intervals, false alarms, the item bootstrap."""

import math

import numpy as np
import pytest

from curate.train.quantiles import (
    beta_quantile,
    binomial_interval,
    f_tail,
    incomplete_beta,
    t_point,
    t_quantile,
    t_tail,
)
from curate.train.statistics import (
    Prior,
    at,
    bits_per_byte,
    combine,
    contrast,
    detectable,
    differences,
    item_errors,
    power,
    resample,
    seeds_needed,
)  # fmt: skip

BASE = ("random", "random'")
MIX = {"random": 0.5, "random'": 0.5, "mix": -1.0}
AA = {"random": 1.0, "random'": -1.0}


@pytest.mark.parametrize(
    ("degrees", "p975", "p995"), [(1, 12.706, 63.657), (2, 4.303, 9.925), (3, 3.182, 5.841), (4, 2.776, 4.604), (8,
    2.306, 3.355), (30, 2.042, 2.750),
     (120, 1.980, 2.617)],
)  # fmt: skip
def test_t_quantiles_of_the_printed_table(degrees: int, p975: float, p995: float):
    assert t_quantile(0.975, degrees) == pytest.approx(p975, abs=6e-4)
    assert t_quantile(0.995, degrees) == pytest.approx(p995, abs=6e-4)


def test_half_widths_of_three_five_and_eight_seeds():
    """The plain t interval's half-width in SDs: 2.48 at n = 3, 1.24 at 5, .84 at 8."""
    got = [t_quantile(0.975, n - 1) / math.sqrt(n) for n in (3, 5, 8)]
    assert got == pytest.approx([2.48, 1.24, 0.84], abs=5e-3)


def test_tails():
    assert t_tail(0.0, 5) == pytest.approx(1.0)
    assert t_tail(1.0, 1) == pytest.approx(0.5)                      # Cauchy: 1 - 2 atan(1) / pi
    table = [(19.00, 2), (6.388, 4), (3.438, 8)]
    assert [f_tail(f, 1.0, d, d) for f, d in table] == pytest.approx([0.05] * 3, abs=1e-4)
    assert f_tail(0.0, 0.0, 4, 4) == 1.0
    assert f_tail(1.0, 0.0, 4, 4) == 0.0
    assert incomplete_beta(2, 3, 0.4) == pytest.approx(0.5248)       # 1 - sum of binomial(4, k) .4^k .6^(4-k), k < 2
    with pytest.raises(ValueError, match="p must be"):
        t_quantile(0.2, 3)
    with pytest.raises(ValueError, match="tail"):
        t_point(0.0, 3)


@pytest.mark.parametrize("degrees", [0.7, 1, 2.5, 12, 300])
@pytest.mark.parametrize("tail", [1.0, 0.5, 0.05, 1e-3, 1e-9])
def test_a_point_has_its_tail(tail: float, degrees: float):
    assert t_tail(t_point(tail, degrees), degrees) == pytest.approx(tail, rel=1e-9)


def test_exact_intervals_of_shares():
    """None of n: the upper end is 1 - .025^(1/n). Eight of ten: .4439 to .9748, as printed in tables."""
    assert binomial_interval(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))
    assert binomial_interval(10, 10) == pytest.approx((0.025**0.1, 1.0))
    assert binomial_interval(8, 10) == pytest.approx((0.4439, 0.9748), abs=5e-5)
    assert beta_quantile(0.5248, 2, 3) == pytest.approx(0.4)
    with pytest.raises(ValueError, match="share"):
        binomial_interval(3, 2)


def simulate(seeds: int, spread_of_mix: float, trials: int, rng: np.random.Generator, true: float = 0.0) -> np.ndarray:
    """Contrasts of Gaussian arms: (estimate, low, high) each, float64 (trials, 3)."""
    out = []
    for _ in range(trials):
        base, mix = rng.normal(size=(2, seeds)), rng.normal(size=seeds) * spread_of_mix - true
        c = contrast(base.mean(axis=0) - mix, spread=1.5, item_se=0.0, clusters=400, aa=base[0] - base[1])
        out.append((c.estimate, c.low, c.high))
    return np.array(out)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_pooled_interval_covers(seeds: int):
    got = simulate(seeds, 1.0, 3_000, np.random.default_rng(seeds), true=2.0)
    assert 0.935 <= ((got[:, 1] <= 2) & (2 <= got[:, 2])).mean() <= 0.97


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_plain_interval_covers(seeds: int):
    rng = np.random.default_rng(seeds)
    hits = 0
    for _ in range(3_000):
        c = contrast(rng.normal(size=seeds), spread=1.5, item_se=0.0, clusters=400)
        hits += c.low <= 0 <= c.high
    assert 0.93 <= hits / 3_000 <= 0.97


def test_noise_on_record_gives_three_seeds_the_width_of_twelve_degrees():
    """Pooled with 10 degrees: half-width 1.26 SD at n = 3, 1.56 at 2, where 2.48 and 8.98 stood (own seeds)."""
    for deltas, half in (([-1.0, 0.0, 1.0], 1.258), ([-math.sqrt(0.5), math.sqrt(0.5)], 1.556)):
        c = contrast(deltas, spread=2.0, item_se=0.0, clusters=100, prior=Prior(1.0, 10))
        assert (c.noise, c.sd) == ("pooled with the registry", pytest.approx(1.0))
        assert c.high - c.estimate == pytest.approx(half, abs=1e-3)
    both = contrast([-1.0, 0, 1], spread=1.5, item_se=0.0, clusters=100, prior=Prior(2.0, 10), aa=[-2.0, 0, 2])
    assert both.noise == "pooled with A/A and the registry"
    assert both.sd**2 == pytest.approx((2 * 1 + 2 * 4 * 0.75 + 10 * 4 * 0.75) / 14)
    loud = contrast([-1.0, 0, 1], spread=1.5, item_se=0.0, clusters=100, prior=Prior(0.1, 10), aa=[-1.0, 0, 1])
    assert loud.noise == "pooled with A/A"                           # this trial is noisier than what is on record
    alone = contrast([-9.0, 0, 9], spread=1.5, item_se=0.0, clusters=100, prior=Prior(0.1, 10))
    assert alone.noise == "own seeds"


def test_two_halves_are_added_as_squares_where_seeds_are_few():
    c = contrast([0.0, 1.0, 2.0], spread=1.5, item_se=0.5, clusters=101)
    assert c.high - c.estimate == pytest.approx(math.hypot(4.3027 / math.sqrt(3), 1.98397 * 0.5), rel=1e-4)
    assert at(c, 1 - c.p).low == pytest.approx(0, abs=1e-9)          # the p value is the interval's
    assert contrast([1e9, 1e9 + 1, 1e9 + 2], spread=1.5, item_se=0.5, clusters=101).p < 1e-15


def test_another_level_is_another_width_of_the_same_thing():
    c = contrast([1.0, 2.0, 4.0, 3.0, 2.0], spread=1.5, item_se=0.3, clusters=100)
    wide = at(c, 0.99)
    assert (wide.estimate, wide.se, wide.p) == (c.estimate, c.se, c.p)
    assert wide.high - wide.estimate == pytest.approx(t_quantile(0.995, c.degrees) * c.se)
    assert at(c, 1 - c.p).low == pytest.approx(0, abs=1e-9)


def test_bits_per_byte_counts_bytes_not_documents():
    nats = np.log(2) * np.array([[8.0, 40.0], [16.0, 32.0]])
    assert bits_per_byte(nats, np.array([1, 23])) == pytest.approx([2.0, 2.0])
    with pytest.raises(ValueError, match="without a byte"):
        bits_per_byte(nats, np.array([0, 0]))


def test_a_noisier_mix_is_not_pooled_away():
    """Pooled with A/A, arms of 3 SDs would be covered 80 times in 100; the test for noise brings that above 90."""
    got = simulate(5, 3.0, 3_000, np.random.default_rng(0))
    assert ((got[:, 1] <= 0) & (0 <= got[:, 2])).mean() >= 0.91
    noisy = contrast([0, 9, -9, 8, -8], spread=1.5, item_se=0.1, clusters=99, aa=[0.1, -0.1, 0.2, 0.0, 0.1])
    assert (noisy.noise, noisy.sd_degrees) == ("own seeds", 4)


def test_interval_with_both_sources_of_error_has_the_right_width():
    """Draw seed noise and document noise together; the interval must cover the truth."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(1_000):
        item = rng.normal() * 0.7                                    # what these documents happen to favour
        base, mix = rng.normal(size=(2, 3)), rng.normal(size=3)
        c = contrast(base.mean(axis=0) - mix + item, spread=1.5, item_se=0.7, clusters=300, aa=base[0] - base[1])
        hits += c.low <= 0 <= c.high
    assert 0.93 <= hits / 1_000 <= 0.97


def test_pooling_counts_the_shared_baseline():
    """Var(mix - mean of two) : Var(one - other) = 1.5 : 2, so A/A noise enters scaled by 3/4. By hand."""
    c = contrast([0.0, 2.0], spread=1.5, item_se=0.0, clusters=100, aa=[-2.0, 2.0])
    assert c.sd**2 == pytest.approx((1 * 2.0 + 1 * 8.0 * 0.75) / 2)  # own variance 2, A/A variance 8
    assert (c.noise, c.sd_degrees) == ("pooled with A/A", 2)
    assert c.degrees == pytest.approx(2)
    assert c.se == pytest.approx(math.sqrt(4.0 / 2))
    assert c.high - c.estimate == pytest.approx(t_quantile(0.975, 2) * c.se)


def test_false_alarms_of_two_hundred_trials():
    """200 trials of nothing at all, SDs as measured for the n-gram: seed 1.7 %, document noise .2 %."""
    rng = np.random.default_rng(2024)
    alarms = 0
    for _ in range(200):
        base, mix, item = rng.normal(size=(2, 5)) * 1.35, rng.normal(size=5) * 1.35, rng.normal() * 0.2
        c = contrast(base.mean(axis=0) - mix + item, spread=1.5, item_se=0.2, clusters=300, aa=base[0] - base[1])
        alarms += not c.low <= 0 <= c.high
    assert 6 <= alarms <= 14                                         # 3 to 7 %


def test_differences_are_percent_of_the_baseline():
    nats = {"random": np.array([[6.0, 4.0], [5.0, 5.0]]), "random'": np.array([[10.0, 0.0], [4.0, 6.0]]),
            "mix": np.array([[5.0, 4.0], [4.0, 4.0]])}               # totals 10, 10; 10, 10; 9, 8  # fmt: skip
    assert differences(nats, MIX, BASE) == pytest.approx([10.0, 20.0])
    assert differences(nats, AA, BASE) == pytest.approx([0.0, 0.0])


def test_item_errors_agree_with_the_linearised_ratio():
    """SE of a ratio of sums: sqrt(n / (n - 1) sum (d - R x)^2) / sum x (Cochran 1977, 6.4), percent."""
    rng = np.random.default_rng(3)
    size = rng.lognormal(6, 1, 300)
    nats = {arm: rng.normal(1, 0.02, (3, 300)) * size for arm in ("random", "random'", "mix")}
    d = (nats["random"] + nats["random'"]).mean(axis=0) / 2 - nats["mix"].mean(axis=0)
    x = (nats["random"] + nats["random'"]).mean(axis=0) / 2
    ratio = d.sum() / x.sum()
    linear = 100 * math.sqrt(300 / 299 * ((d - ratio * x) ** 2).sum()) / x.sum()
    [got] = item_errors(nats, [MIX], BASE, clusters=np.arange(300), resamples=4_000)
    assert got == pytest.approx(linear, rel=0.05)


def test_clusters_are_drawn_whole():
    """Ten copies of each document are no more evidence than one."""
    rng = np.random.default_rng(4)
    nats = {arm: rng.normal(100, 5, (2, 60)) for arm in ("random", "random'", "mix")}
    copied = {arm: np.repeat(x, 10, axis=1) for arm, x in nats.items()}
    once = item_errors(nats, [MIX, AA], BASE, clusters=np.arange(60), resamples=2_000)
    many = item_errors(copied, [MIX, AA], BASE, clusters=np.repeat(np.arange(60), 10), resamples=2_000)
    assert many == pytest.approx(once)
    naive = item_errors(copied, [MIX, AA], BASE, clusters=np.arange(600), resamples=2_000)
    assert naive[0] == pytest.approx(once[0] / math.sqrt(10), rel=0.15)


def test_resamples_are_the_same_every_time_and_fair():
    values = np.eye(5)
    one, two = resample(values, 20_000, seed=1), resample(values, 20_000, seed=1)
    assert (one == two).all()
    assert (one.sum(axis=1) == 5).all()
    assert one.mean(axis=0) == pytest.approx(np.ones(5), abs=0.03)
    assert one.var(axis=0) == pytest.approx(np.full(5, 0.8), abs=0.04)  # binomial(5, 1/5)


def test_combined_degrees():
    assert combine(3.0, 4, 0.0, 99) == pytest.approx((3.0, 4.0))
    assert combine(0.0, 4, 2.0, 99) == pytest.approx((2.0, 99.0))
    assert combine(3.0, 2, 4.0, 98) == pytest.approx((5.0, 625 / (81 / 2 + 256 / 98)))
    assert combine(0.0, 4, 0.0, 99) == (0.0, 4.0)


def test_seeds_needed_and_what_can_be_seen():
    assert seeds_needed(3.0, 0.0, 3.0) == 8                          # (2.8 * 3 / 3)^2 = 7.84
    assert seeds_needed(0.1, 0.0, 3.0) == 2
    assert seeds_needed(3.0, 0.0, 3.0, level=1 - 0.05 / 8) == 13     # (2.734 + .842)^2 = 12.8: eight mixes share 5 %
    assert seeds_needed(1.0, 1.1, 3.0) is None                       # documents alone cost more than delta / 2.8
    assert detectable(1.0, 4, 1e9, 0.0, 100) == pytest.approx((1.95996 + 0.84162) / 2, abs=1e-4)
    assert detectable(1.0, 3, 4, 0.0, 100) > detectable(1.0, 3, 40, 0.0, 100)


def test_power_is_what_detectable_says():
    """Four in five where the noise is pooled; one trial in ten falls back on its own seeds and sees a little less."""
    assert power(detectable(1.3, 4, 8, 0.4, 100), 1.3, 4, 8, 0.4, 100) == pytest.approx(0.8)
    assert power(0.0, 1.0, 9, 8, 0.0, 100) == pytest.approx(0.025)
    effect = detectable(math.sqrt(1.5), 5, 8, 0.0, 400)
    got = simulate(5, 1.0, 2_000, np.random.default_rng(9), true=effect)
    assert 0.70 <= (got[:, 1] > 0).mean() <= 0.82


def test_one_seed_is_refused():
    with pytest.raises(ValueError, match="at least two seeds"):
        contrast([1.0], spread=1.5, item_se=0.1, clusters=100)
