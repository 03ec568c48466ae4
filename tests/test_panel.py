"""Several targets and several comparisons: the mean over targets, Holm, guards, claims about a method."""

import json
import math
from dataclasses import asdict
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.train.panel import AA, Target, adjust, compare, costs, gate, holm, holm_levels, method_contrast
from curate.train.quantiles import t_quantile
from curate.train.statistics import Contrast, Prior, contrast, differences, item_errors

BASE = ("random", "random'")
MIX = {"random": 0.5, "random'": 0.5, "mix": -1.0}


def arms(rng: np.random.Generator, documents: int, seeds: int = 3, gain: float = 0.0) -> dict[str, np.ndarray]:
    """Costs around 100 a document, with noise of seeds and of documents."""
    item = rng.normal(0, 3, documents)
    return {
        arm: 100 + item + rng.normal(0, 1, (seeds, 1)) + rng.normal(0, 0.5, (seeds, documents)) - g
        for arm, g in (("random", 0), ("random'", 0), ("mix", gain))
    }


# ------------------------------------------------------------------------------------------------------------- targets


def test_the_mean_over_targets_counts_each_once_by_hand():
    """A target of two documents saves 10 and 20 %, one of three saves 0 and 4 %: the mean is 5 and 12 %."""
    one = Target(nats={"random": np.array([[6.0, 4.0], [5.0, 5.0]]), "random'": np.array([[10.0, 0.0], [4.0, 6.0]]),
                       "mix": np.array([[5.0, 4.0], [4.0, 4.0]])}, clusters=np.array([0, 1]))  # fmt: skip
    two = Target(nats={"random": np.full((2, 3), 50.0), "random'": np.full((2, 3), 50.0),
                       "mix": np.array([[50.0, 50, 50], [48, 48, 48]])}, clusters=np.array([0, 1, 2]))  # fmt: skip
    got = compare({"one": one, "two": two}, {"mix": MIX}, resamples=500)["mix"]
    assert got.each["one"].deltas == pytest.approx((10, 20))
    assert got.each["two"].deltas == pytest.approx((0, 4))
    assert got.all.deltas == pytest.approx((5, 12))
    assert got.all.estimate == pytest.approx(8.5)
    assert got.all.se_item == pytest.approx(got.each["one"].se_item / 2)     # the other's documents all agree


def test_one_target_is_the_plain_contrast():
    rng = np.random.default_rng(0)
    nats, clusters = arms(rng, 80), np.arange(80) // 2
    got = compare({"t": Target(nats=nats, clusters=clusters)}, {"mix": MIX}, aa=AA, resamples=1_000)["mix"]
    errors = item_errors(nats, [MIX], BASE, clusters=clusters, resamples=1_000)
    plain = contrast(differences(nats, MIX, BASE), spread=1.5, item_se=errors[0], clusters=40,
                     aa=differences(nats, AA, BASE))  # fmt: skip
    for c in (got.all, got.each["t"]):
        assert (c.estimate, c.low, c.high, c.p) == pytest.approx((plain.estimate, plain.low, plain.high, plain.p))


def test_documents_of_several_targets_are_independent_seeds_are_not():
    """k targets that share the luck of a seed: documents' error falls with sqrt k, seeds' does not."""
    rng = np.random.default_rng(1)
    nats = arms(rng, 200)
    one = compare({"a": Target(nats=nats, clusters=np.arange(200))}, {"mix": MIX}, resamples=2_000)["mix"].all
    four = compare(
        {name: Target(nats=nats, clusters=np.arange(200)) for name in "abcd"}, {"mix": MIX}, resamples=2_000
    )["mix"].all  # fmt: skip
    assert four.se_item == pytest.approx(one.se_item / 2)
    assert four.se_seed == pytest.approx(one.se_seed)
    assert four.item_degrees == pytest.approx(4 * 199)                # Satterthwaite, four equal parts


def test_scores_are_compared_in_points_and_more_is_better():
    right = {"random": np.array([[0.0, 1, 0, 1], [0, 0, 1, 1]]), "random'": np.array([[1.0, 0, 1, 0], [1, 1, 0, 0]]),
             "mix": np.array([[1.0, 1, 1, 0], [1, 1, 1, 1]])}          # 50, 50 %; 75 and 100 %  # fmt: skip
    got = compare({"quiz": Target(nats=right, clusters=np.arange(4), relative=False)}, {"mix": MIX}, resamples=200)
    assert got["mix"].all.deltas == pytest.approx((25, 50))


def test_the_gate_stands_on_its_own_noise():
    rng = np.random.default_rng(2)
    target = {"t": Target(nats=arms(rng, 60), clusters=np.arange(60))}
    c = gate(target, resamples=500)
    assert (c.noise, c.level) == ("own seeds", 0.99)
    assert c.deltas == pytest.approx(tuple(differences(target["t"].nats, AA, BASE)))


def test_what_is_told_is_plain():
    """No number of NumPy's, which JSON would refuse."""
    rng = np.random.default_rng(8)
    targets = {name: Target(nats=arms(rng, 30), clusters=np.arange(30)) for name in ("a", "b")}
    found = compare(targets, {"mix": MIX}, aa=AA, prior=Prior(1.0, 3.5), resamples=50, level=np.float64(0.9))["mix"]
    told = [found, *adjust(found.each).values(), method_contrast(np.eye(3), item_se=np.float64(0.1), clusters=30)]
    for x in told:
        assert json.loads(json.dumps(asdict(x))).keys() == asdict(x).keys()
    assert json.dumps(costs(found.each, 1.0))


def test_noise_on_record_is_used_for_the_mean_and_for_each():
    rng = np.random.default_rng(3)
    targets = {name: Target(nats=arms(rng, 60), clusters=np.arange(60)) for name in ("a", "b")}
    got = compare(targets, {"mix": MIX}, prior=Prior(3.0, 10), priors={"b": Prior(3.0, 8)}, resamples=300)["mix"]
    assert got.all.sd_degrees == 12
    assert got.each["b"].sd_degrees == 10
    assert got.each["a"].noise == "own seeds"


def test_the_mean_over_targets_covers():
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(400):
        targets = {name: Target(nats=arms(rng, 40), clusters=np.arange(40)) for name in ("a", "b")}
        c = compare(targets, {"mix": MIX}, aa=AA, resamples=150)["mix"].all
        hits += c.low <= 0 <= c.high
    assert 0.92 <= hits / 400 <= 0.99


def test_what_cannot_be_compared_is_refused():
    rng = np.random.default_rng(5)
    good = arms(rng, 10)
    ten = np.arange(10)
    with pytest.raises(ValueError, match="without a target"):
        compare({}, {"mix": MIX})
    with pytest.raises(ValueError, match="not scored by other"):
        compare({"t": Target(nats=good, clusters=ten)}, {"other": {"random": 1, "other": -1}})
    with pytest.raises(ValueError, match="one cluster"):
        compare({"t": Target(nats=good, clusters=ten * 0)}, {"mix": MIX})
    both = {"t": Target(nats=good, clusters=ten), "s": Target(nats=good, clusters=ten, relative=False)}
    with pytest.raises(ValueError, match="no unit"):
        compare(both, {"mix": MIX})
    with pytest.raises(ValueError, match="10 documents of target 't', which has 9"):
        compare({"t": Target(nats=good, clusters=ten[:9])}, {"mix": MIX})
    with pytest.raises(ValueError, match=r"\[2, 3\] seeds"):
        compare({"t": Target(nats={**good, "mix": good["mix"][:2]}, clusters=ten)}, {"mix": MIX})
    with pytest.raises(ValueError, match="not a number"):
        compare({"t": Target(nats={**good, "mix": good["mix"] * math.nan}, clusters=ten)}, {"mix": MIX})


# ---------------------------------------------------------------------------------------------------------------- Holm


def test_holm_by_hand():
    """.005 x 4, .01 x 3, .03 x 2, .04 x 1, and never smaller than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    assert holm_levels([0.01, 0.04, 0.03, 0.005]) == pytest.approx([1 - 0.05 / 3, 0.975, 0.975, 1 - 0.05 / 4])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_laws(p: list[float]):
    adjusted, levels = holm(p), holm_levels(p)
    assert all(a >= q for a, q in zip(adjusted, p, strict=True))
    for a, q, level in zip(adjusted, p, levels, strict=True):
        assert (a <= 0.05) == (q <= 1 - level) or abs(a - 0.05) < 1e-9
    assert sorted(range(len(p)), key=lambda i: (p[i], adjusted[i])) == sorted(range(len(p)), key=lambda i: p[i])


def test_holm_does_not_depend_on_the_order():
    p = [0.012, 0.3, 0.011, 0.02]
    want = dict(zip(p, holm(p), strict=True))
    for other in permutations(p):
        assert dict(zip(other, holm(other), strict=True)) == pytest.approx(want)


def plain(estimate: float, se: float) -> Contrast:
    return contrast([estimate, estimate], spread=2, item_se=se, clusters=20_000)


def test_adjusted_intervals_say_what_the_adjusted_p_says():
    """z = 2.9, 2.3, 2.1, .4: p = .0037, .0214, .0357, .689; Holm .015, .064, .071, .689."""
    found = adjust({name: plain(z, 1.0) for name, z in (("a", 2.9), ("b", 2.3), ("c", -2.1), ("d", 0.4))})
    assert [x.p for x in found.values()] == pytest.approx([0.0149, 0.0643, 0.0715, 0.689], abs=5e-4)
    assert found["a"].low > 0 and found["b"].low < 0 and found["c"].high > 0
    assert found["a"].simultaneous_low == pytest.approx(2.9 - 2.498, abs=1e-3)     # z of 1 - .05 / 8
    assert found["b"].level == pytest.approx(1 - 0.05 / 3)
    for x in found.values():
        assert (x.p <= 0.05) == (not x.low <= 0 <= x.high)


def test_simultaneous_intervals_hold_all_and_holm_alarms_are_rare():
    rng = np.random.default_rng(6)
    held = alarms = 0
    for _ in range(1_000):
        found = adjust({str(i): plain(z, 1.0) for i, z in enumerate(rng.normal(size=4))})
        held += all(x.simultaneous_low <= 0 <= x.simultaneous_high for x in found.values())
        alarms += any(x.p <= 0.05 for x in found.values())
    assert held / 1_000 == pytest.approx(0.95, abs=0.025)
    assert alarms / 1_000 == pytest.approx(0.05, abs=0.025)


def test_guards_that_lose_much_and_surely_are_costs():
    guards = {"much": plain(-9, 1), "little": plain(-4, 0.5), "unsure": plain(-9, 6), "gain": plain(9, 1)}
    assert costs(guards, delta=3.0) == {"much": True, "little": False, "unsure": False, "gain": False}


# -------------------------------------------------------------------------------------------------------------- method


def test_a_method_by_hand():
    """Mixes 1, 2, 6 at both seeds, seeds alike: se is that of three numbers, SD sqrt 7, and t has 2 degrees."""
    c = method_contrast(np.array([[1.0, 1.0], [2.0, 2.0], [6.0, 6.0]]), item_se=0.0, clusters=100)
    assert (c.estimate, c.mixes, c.degrees) == (3.0, (1.0, 2.0, 6.0), 2)
    assert (c.se_mix, c.se_seed, c.sd_mix) == pytest.approx((math.sqrt(7 / 3), 0.0, math.sqrt(7)))
    assert c.high - c.estimate == pytest.approx(t_quantile(0.975, 2) * math.sqrt(7 / 3))


def test_a_claim_about_a_method_takes_three_mixes():
    with pytest.raises(ValueError, match="at least 3 mixes"):
        method_contrast(np.ones((2, 5)), item_se=0.1, clusters=100)
    with pytest.raises(ValueError, match="2 seeds"):
        method_contrast(np.ones((3, 1)), item_se=0.1, clusters=100)


@pytest.mark.parametrize(("mixes", "between"), [(3, 0.0), (3, 4.0), (5, 1.5)])
def test_a_method_is_covered_whatever_its_mixes_vary(mixes: int, between: float):
    """Truth 0; the baseline's seeds are shared, mixes and runs differ. An interval of seeds alone is too narrow."""
    rng = np.random.default_rng(7)
    hits = naive = 0
    for _ in range(500):
        x = rng.normal(0, math.sqrt(0.5), (1, 5)) + rng.normal(0, between, (mixes, 1)) + rng.normal(size=(mixes, 5))
        c = method_contrast(x, item_se=0.0, clusters=300)
        hits += c.low <= 0 <= c.high
        seeds = contrast(x.mean(axis=0), spread=1.5, item_se=0.0, clusters=300)
        naive += seeds.low <= 0 <= seeds.high
    assert 0.93 <= hits / 500 <= 0.995
    if between == 4.0:
        assert naive / 500 <= 0.6
