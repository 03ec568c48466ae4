"""Exact cuts against a naive sort of everything, whatever the partition and the number of passes."""

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.columns import ADDRESS, FLOAT32, FLOAT64, INT64, KEY
from curate.errors import BadData, BadPlan
from curate.hashing import halves, keyed
from curate.order import Cut, Order, Strata, cut, sample_cut, score_of, score_words, selected
from curate.stage import Direction
from curate.testing import MemoryRows

HIGH, LOW = Direction.HIGH, Direction.LOW
NAN, INF = float("nan"), float("inf")


def key(i: int) -> bytes:
    return (i * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128).to_bytes(16, "big")


def table(rows: list[dict[str, Any]], score: pa.DataType = FLOAT64) -> pa.Table:
    columns = {"key": ([key(r["k"]) for r in rows], KEY), "score": ([r["s"] for r in rows], score)}
    columns |= {"tokens": ([r["c"] for r in rows], INT64), "group": ([r["g"] for r in rows], INT64)}
    return pa.table({name: pa.array(values, kind) for name, (values, kind) in columns.items()})


def parts_of(rows: list[dict[str, Any]], ends: list[int]) -> list[pa.Table]:
    whole = table(rows)
    ends = [0, *sorted(min(e, len(rows)) for e in ends), len(rows)]
    return [whole[a:b] for a, b in pairwise(ends)]


def taken_of(rows: MemoryRows, found: Cut) -> list[bool]:
    return [bool(x) for t in rows.parts for x in selected(t.select([ADDRESS, *found.reads]), found)]


def naive(rows: list[dict[str, Any]], order: Order, budget: int) -> list[bool]:
    """Sort everything; take until the next would pass the budget."""
    hashes = keyed(halves(table(rows)["key"]), label=order.label, seed=order.seed).tolist()
    sign = -1 if order.keep is HIGH else 1
    places = []
    for i, row in enumerate(rows):
        if row["c"] is not None and (order.score is None or (row["s"] is not None and row["s"] == row["s"])):
            places.append((sign * row["s"] if order.score else 0, hashes[i], key(row["k"]), i))
    taken, spent = [False] * len(rows), 0
    for *_, i in sorted(places):
        if spent + rows[i]["c"] > budget:
            break
        spent += rows[i]["c"]
        taken[i] = True
    return taken


ROW = st.fixed_dictionaries({
    "k": st.integers(0, 30),
    "s": st.sampled_from([None, NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 5e-324, 1e-9]) | st.floats(),
    "c": st.sampled_from([0, 0, 1, 2, 5, None]) | st.integers(0, 1000),
    "g": st.integers(-1, 2),
})  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(ROW, max_size=40), ends=st.lists(st.integers(0, 40), max_size=4), budget=st.integers(0, 3000),
    keep=st.sampled_from([HIGH, LOW]), score=st.sampled_from([None, "score"]), gather=st.sampled_from([1, 3, 10**6]),
)  # fmt: skip
def test_a_cut_equals_a_sort_of_everything(rows, ends, budget, keep, score, gather):
    order = Order(label="mix", seed=3, score=score, keep=keep)
    memory = MemoryRows(parts_of(rows, ends))
    found = cut(memory, order=order, cost="tokens", budgets=[budget], gather=gather)
    want = naive(rows, order, budget)
    assert taken_of(memory, found) == want
    assert found.rows == sum(want)
    assert found.total == sum(r["c"] for r, w in zip(rows, want, strict=True) if w)
    assert found.taken[0].all_rows + found.no_score + found.no_cost + found.outside == len(rows)
    assert taken_of(memory, pickle.loads(pickle.dumps(found))) == want


def group_of(part: pa.Table, given: int) -> np.ndarray:
    return part["group"].to_numpy() + given


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(ROW, max_size=40), ends=st.lists(st.integers(0, 40), max_size=4),
    budgets=st.lists(st.integers(0, 2000), min_size=3, max_size=3), gather=st.sampled_from([1, 2, 10**6]),
)  # fmt: skip
def test_strata_are_cuts_of_their_own(rows, ends, budgets, gather):
    order = Order(label="mix", score="score")
    memory = MemoryRows(parts_of(rows, ends))
    strata = Strata(fn=group_of, reads=("group",), given=0)
    found = cut(memory, order=order, cost="tokens", budgets=budgets, strata=strata, gather=gather)
    got = np.array(taken_of(memory, found), dtype=bool)
    group = np.array([r["g"] for r in rows], dtype=int)
    for g, budget in enumerate(budgets):
        assert got[group == g].tolist() == naive([r for r in rows if r["g"] == g], order, budget)
    assert not got[group == -1].any()
    assert found.outside == (group == -1).sum()


def test_by_hand():
    """Costs 3, 3, 3 under a budget of 7: two rows; a cheap row behind the first that would pass stays out."""
    scores, costs = [0.1, 0.9, 0.5, 0.4, 0.3], [3, 3, 3, 3, 1]
    rows = [{"k": i, "s": s, "c": c, "g": 0} for i, (s, c) in enumerate(zip(scores, costs, strict=True))]
    memory = MemoryRows([table(rows)])
    high = cut(memory, order=Order(label="m", score="score"), cost="tokens", budgets=[7])
    assert taken_of(memory, high) == [False, True, True, False, False]
    assert (high.rows, high.total, high.value) == (2, 6, 0.5)
    low = cut(memory, order=Order(label="m", score="score", keep=LOW), cost="tokens", budgets=[7])
    assert taken_of(memory, low) == [True, False, False, True, True]
    assert (low.rows, low.total, low.value) == (3, 7, 0.4)
    rows_only = cut(memory, order=Order(label="m", score="score"), cost=None, budgets=[4])
    assert taken_of(memory, rows_only) == [False, True, True, True, True]


def test_a_budget_over_the_total_takes_all_and_says_what_there_was():
    rows = [{"k": i, "s": s, "c": 2, "g": 0} for i, s in enumerate([3.0, None, 1.0, NAN, 2.0])]
    memory = MemoryRows([table(rows)])
    found = cut(memory, order=Order(label="m", score="score"), cost="tokens", budgets=[1000])
    assert taken_of(memory, found) == [True, False, True, False, True]
    assert (found.value, found.no_score, found.taken[0].all_cost) == (1.0, 2, 6)


def test_nothing_to_take():
    empty = MemoryRows([table([]), table([])])
    found = cut(empty, order=Order(label="m"), cost="tokens", budgets=[10])
    assert (found.rows, found.total, found.value) == (0, 0, None)
    one = MemoryRows([table([{"k": 1, "s": 1.0, "c": 5, "g": 0}])])
    assert taken_of(one, cut(one, order=Order(label="m", score="score"), cost="tokens", budgets=[4])) == [False]


def test_many_equal_rows_are_cut_among_themselves():
    """Rows with the same key and score differ by address only, and still no more are taken than the budget allows."""
    rows = [{"k": 7, "s": 1.0, "c": 1, "g": 0}] * 100
    memory = MemoryRows(parts_of(rows, [30, 60]))
    found = cut(memory, order=Order(label="m", score="score"), cost="tokens", budgets=[42], gather=5)
    assert taken_of(memory, found) == [True] * 42 + [False] * 58


def test_many_rows_take_few_passes(monkeypatch):
    """A score of five values and 20,000 rows, found by narrowing to at most 100 rows: the passes follow log(rows)."""
    n = 20_000
    keys = halves(pa.array([key(i) for i in range(n)], KEY))
    score = (np.arange(n) % 5).astype(np.float64)
    whole = pa.table({"key": pa.array([key(i) for i in range(n)], KEY), "score": score})
    memory = MemoryRows([whole[:7000], whole[7000:]])
    labels = []
    original = memory.map

    def spy(fn, **kwargs):
        labels.append(kwargs["label"])
        return original(fn, **kwargs)

    monkeypatch.setattr(memory, "map", spy)
    found = cut(memory, order=Order(label="m", score="score"), cost=None, budgets=[5000], gather=100)
    assert found.rows == 5000
    assert found.value == 3.0
    got = np.array(taken_of(memory, found))
    assert got[score == 4].all()
    assert got[score == 3].sum() == 1000
    hashes = keyed(keys, label="m")
    assert hashes[got & (score == 3)].max() < hashes[~got & (score == 3)].min()
    assert labels == ["cut-0", "cut-1", "cut-2", "cut-3"]            # score, hash, hash again, the rows left


def test_a_sample_is_a_uniform_draw_by_keyed_hash():
    rows = [{"k": i, "s": None, "c": 10, "g": 0} for i in range(2000)]
    memory = MemoryRows(parts_of(rows, [1000]))
    one = taken_of(memory, sample_cut(memory, cost="tokens", budget=5000, label="a", seed=0))
    two = taken_of(memory, sample_cut(memory, cost="tokens", budget=5000, label="b", seed=0))
    assert sum(one) == sum(two) == 500
    assert 70 < sum(x and y for x, y in zip(one, two, strict=True)) < 180       # 125 expected of independent draws
    smaller = taken_of(memory, sample_cut(memory, cost="tokens", budget=2500, label="a", seed=0))
    assert all(y for x, y in zip(smaller, one, strict=True) if x)    # a part of the larger one


@given(st.lists(st.floats(allow_nan=False)), st.sampled_from([HIGH, LOW]))
def test_score_words_keep_the_order_and_come_back(values, keep):
    scores = np.array(values, dtype=np.float64)
    words = score_words(scores, keep)
    by_word = scores[np.argsort(words, kind="stable")].tolist()
    assert by_word == sorted(values, reverse=keep is HIGH)
    assert [score_of(int(w), keep) for w in words] == values


def test_words_of_scores_by_hand():
    """1.0 is 0x3ff0000000000000 (IEEE 754), -1.0 the same with the sign bit."""
    assert score_words(np.array([1.0, -1.0]), LOW).tolist() == [0xBFF0000000000000, 0x400FFFFFFFFFFFFF]
    zero = score_words(np.array([0.0, -0.0]), HIGH)
    assert zero[0] == zero[1] == 0x7FFFFFFFFFFFFFFF


def test_float32_scores():
    rows = [{"k": i, "s": s, "c": 1, "g": 0} for i, s in enumerate([0.1, 0.2, None, 0.3])]
    memory = MemoryRows([table(rows, FLOAT32)])
    found = cut(memory, order=Order(label="m", score="score"), cost="tokens", budgets=[2])
    assert taken_of(memory, found) == [False, True, False, True]
    assert found.value == pytest.approx(0.2)


def test_wrong_use_is_an_error():
    memory = MemoryRows([table([{"k": 1, "s": 1.0, "c": -5, "g": 4}])])
    with pytest.raises(BadData, match="holds -5"):
        cut(memory, order=Order(label="m"), cost="tokens", budgets=[1])
    with pytest.raises(BadPlan, match="budgets"):
        cut(memory, order=Order(label="m"), cost="tokens", budgets=[1, 2])
    with pytest.raises(BadPlan, match="budgets"):
        cut(memory, order=Order(label="m"), cost="tokens", budgets=[-1])
    strata = Strata(fn=group_of, reads=("group",), given=0)
    with pytest.raises(BadData, match="numbered 4 to 4"):
        cut(memory, order=Order(label="m"), cost=None, budgets=[1, 2], strata=strata)


def test_strata_can_be_filled_up_to_the_sum():
    """Two strata of documents that cost 4, 10 each: 2 + 2 documents leave 4 over, and one more document fits."""
    rows = [{"k": i, "s": 1.0, "c": 4, "g": i % 2} for i in range(20)]
    memory = MemoryRows(parts_of(rows, [7]))
    strata = Strata(fn=group_of, reads=("group",), given=0)
    for gather in (1, 100):
        both = dict(order=Order(label="m"), cost="tokens", budgets=[10, 10], strata=strata, gather=gather)
        assert [t.rows for t in cut(memory, **both).taken] == [2, 2]
        filled = cut(memory, fill=True, **both)
        assert [t.rows for t in filled.taken] == [3, 2]
        assert sum(taken_of(memory, filled)) == filled.rows == 5
        assert filled.total == 20
