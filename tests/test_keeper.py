"""Keeper policies: what is kept, and what a tie is broken by."""

import hashlib
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.columns import BOOL, FLOAT32, FLOAT64, INT64, KEY, TEXT, UINT64
from curate.errors import UnknownSetting
from curate.keeper import keepers, policy, policy_reads


def rows(**columns: object) -> pa.Table:
    """Rows with the given columns, an address each, and a key from the id."""
    ids = columns["id"]
    keys = [hashlib.md5(str(i).encode()).digest() for i in ids]
    return pa.table({"address": pa.array(range(len(ids)), UINT64), "key": pa.array(keys, KEY), **columns})


def kept(table: pa.Table, group: list[int], *keep_by: str, seed: int = 0) -> list[int]:
    got, _ = keepers(table, np.array(group, np.uint64), keep_by, label="test", seed=seed)
    return got.tolist()


def test_a_row_alone_is_kept_and_groups_are_counted():
    table = rows(id=["a", "b", "c", "d"])
    got, size = keepers(table, np.array([7, 3, 7, 7], np.uint64), ("id",), label="test", seed=0)
    assert got.tolist() == [0, 1, 0, 0]
    assert size.tolist() == [3, 1, 3, 3]


def test_the_policy_is_read_from_left_to_right():
    table = rows(id=["a", "b", "c"], text_bytes=pa.array([5, 9, 9], INT64))
    assert kept(table, [0, 0, 0], "-text_bytes", "-id") == [2, 2, 2]
    assert kept(table, [0, 0, 0], "-text_bytes", "id") == [1, 1, 1]
    assert kept(table, [0, 0, 0], "text_bytes") == [0, 0, 0]


@pytest.mark.parametrize("entry", ["score", "-score"])
def test_a_row_without_a_score_is_never_preferred(entry):
    table = rows(id=["a", "b", "c"], score=pa.array([None, 0.5, math.nan], FLOAT64))
    assert kept(table, [0, 0, 0], entry) == [1, 1, 1]


def test_the_smallest_integer_survives_being_turned_round():
    table = rows(id=["a", "b"], n=pa.array([-(2**63), 2**63 - 1], INT64))
    assert kept(table, [0, 0], "n:int64") == [0, 0]
    assert kept(table, [0, 0], "-n:int64") == [1, 1]


def test_flags_and_texts_have_an_order():
    table = rows(id=["a", "b"], clean=pa.array([False, True]), licence=pa.array(["mit", "apache"], TEXT))
    assert kept(table, [0, 0], "-clean:bool") == [1, 1]
    assert kept(table, [0, 0], "licence:text") == [1, 1]
    assert kept(table, [0, 0], "-licence:text") == [0, 0]


def test_ties_are_broken_by_chance_and_not_by_id():
    """The first id is kept in about half of many tied pairs, and another seed chooses otherwise."""
    n = 2000
    table = rows(id=[f"{i:05}" for i in range(n)])
    group = [i // 2 for i in range(n)]
    first = np.array(kept(table, group))[::2] == np.arange(0, n, 2)
    assert 0.45 < first.mean() < 0.55
    assert kept(table, group) != kept(table, group, seed=1)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rows_changes_nothing(pairs, random):
    ids = [f"doc{i}" for i in range(len(pairs))]
    table = rows(id=ids, text_bytes=pa.array([b for _, b in pairs], INT64))
    group = [g for g, _ in pairs]
    order = list(range(len(pairs)))
    random.shuffle(order)
    straight = {ids[i]: ids[k] for i, k in enumerate(kept(table, group, "-text_bytes"))}
    shuffled = kept(table.take(order), [group[i] for i in order], "-text_bytes")
    assert {ids[order[i]]: ids[order[k]] for i, k in enumerate(shuffled)} == straight


def test_an_order_of_sources():
    """Values that are not named come after those that are, null last."""
    table = rows(id=["a", "b", "c", "d"], source=pa.array(["web", "books", "wiki", None], TEXT))
    assert kept(table, [0, 0, 0, 0], "source in wiki, books") == [2] * 4
    assert kept(table.slice(0, 2), [0, 0], "source in wiki, books") == [1] * 2
    assert kept(table.take([0, 3]), [0, 0], "source in wiki, books") == [0] * 2
    same = rows(id=["a", "b"], source=pa.array(["web", "web"], TEXT), text_bytes=pa.array([1, 2], INT64))
    assert kept(same, [0, 0], "source in web", "-text_bytes") == [1, 1]


def test_the_newest():
    days = ["2024-01-31", "2024-06-07", None]
    written = pa.array(days, TEXT)
    assert kept(rows(id=["a", "b", "c"], date=written), [0, 0, 0], "-date:text") == [1] * 3
    assert kept(rows(id=["a", "b", "c"], date=written.cast(pa.date32())), [0, 0, 0], "-date:date") == [1] * 3
    seconds = pa.array([0, 10**15, None], pa.timestamp("us", "UTC"))
    assert kept(rows(id=["a", "b", "c"], seen=seconds), [0, 0, 0], "-seen:timestamp") == [1] * 3
    assert kept(rows(id=["a", "b", "c"], seen=seconds), [0, 0, 0], "seen:timestamp") == [0] * 3


def safe(table: pa.Table, group: list[int], *keep_by: str, **whole: object) -> list[int]:
    got, size = keepers(table, np.array(group, np.uint64), keep_by, label="test", seed=0, **whole)
    assert size.tolist() == [group.count(g) for g in group]
    return got.tolist()


def test_what_a_has_is_removed_from_b_and_a_stays_whole():
    """Two rows of wiki are copies of each other, and stay; the longer one stands for the row of web."""
    table = rows(
        id=["w1", "w2", "b1", "b2", "b3"],
        source=pa.array(["wiki", "wiki", "web", "web", "web"], TEXT),
        text_bytes=pa.array([5, 6, 9, 8, 7], INT64),
    )
    assert safe(table, [0, 0, 0, 1, 1], "-text_bytes", keep_whole=("wiki",)) == [0, 1, 1, 3, 3]
    assert safe(table, [0] * 5, "-text_bytes", keep_whole=("wiki", "web")) == [0, 1, 2, 3, 4]
    assert safe(table, [0] * 5, "-text_bytes", keep_whole=("none such",)) == [2] * 5


def test_rows_that_a_column_protects():
    table = rows(id=["a", "b", "c"], gold=pa.array([None, True, False]), text_bytes=pa.array([3, 2, 1], INT64))
    assert safe(table, [0, 0, 0], "-text_bytes", keep_where="gold") == [1, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=12))
def test_a_kept_row_is_its_own_keeper_and_no_source_kept_whole_loses_one(drawn):
    table = rows(id=[str(i) for i in range(len(drawn))], source=pa.array([s for _, s in drawn], TEXT))
    group = [g for g, _ in drawn]
    got = safe(table, group, keep_whole=("a",))
    for i, k in enumerate(got):
        assert group[k] == group[i]
        assert got[k] == k
        if drawn[i][1] == "a":
            assert k == i
        elif "a" in [s for g, s in drawn if g == group[i]]:
            assert drawn[k][1] == "a"
        else:
            assert len({got[j] for j in range(len(group)) if group[j] == group[i]}) == 1


def test_reads_follow_the_policy():
    assert policy_reads(()) == {"key": KEY}
    assert policy_reads(("-text_bytes", "id", "-edu:float32", "rank")) == {
        "key": KEY, "text_bytes": INT64, "id": TEXT, "edu": FLOAT32, "rank": FLOAT64,
    }


def test_reads_follow_what_is_kept_whole():
    assert policy_reads((), keep_whole=("wiki",)) == {"key": KEY, "source": TEXT}
    assert policy_reads(("licence in mit, apache",), keep_where="gold") == {"key": KEY, "licence": TEXT, "gold": BOOL}


@pytest.mark.parametrize(
    "entry",
    ["", "-", ":float32", "edu:decimal", "text_bytes:float64", "source in ", "source in a, a", "-x in a", "key in a"],
)
def test_an_entry_that_makes_no_sense_says_how_to_fix_it(entry):
    with pytest.raises(UnknownSetting, match="fix: "):
        policy((entry,))
