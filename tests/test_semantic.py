"""Copies in meaning: SemDeDup's order and comparison, against matrices in float64."""

import hashlib
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.columns import FLOAT32, KEY
from curate.errors import BadData, UnknownSetting
from curate.semantic import Semantic, centroids, duplicates
from curate.testing import run_rounds


def rows(vectors):
    d = len(next(v for v in vectors if v is not None))
    keys = [hashlib.md5(str(i).encode()).digest() for i in range(len(vectors))]
    return pa.table({"embedding": pa.array(vectors, pa.list_(FLOAT32, d)), "key": pa.array(keys, KEY)})


def copies(vectors, cuts=(), **settings):
    """For each row, the row that it is a copy of (None: it stays), and its similarity."""
    table = rows(vectors)
    ends = [0, *cuts, len(vectors)]
    parts = [table.slice(a, b - a) for a, b in pairwise(ends)]
    config = Semantic(dimensions=table["embedding"].type.list_size, **{"clusters": 1} | settings)
    answer, _ = run_rounds(duplicates, parts, config)
    addresses = {}
    for p, part in enumerate(parts):
        addresses |= {(p << 32) | i: ends[p] + i for i in range(part.num_rows)}
    found = {addresses[r["address"]]: r for r in answer.to_pylist()}
    return [addresses.get(found[i]["semantic_copy_of"]) for i in range(len(vectors))], found


def at(*degrees):
    return [[np.cos(np.radians(d)), np.sin(np.radians(d))] for d in degrees]


def test_the_farthest_from_the_centroid_stays():
    """Abbas et al. 2023, section 3: of duplicates the one with the lowest similarity to the centroid is kept.

    The centroid of 0, 2 and 40 degrees lies at 14, nearest to 2, farthest from 40: the order is 40, 0, 2.
    """
    assert copies(at(0, 2, 40), eps=0.01)[0] == [None, 0, None]
    assert copies(at(0, 2, 40), eps=0.01, keep="easy")[0] == [1, None, None]


def test_a_chain_by_both_comparisons():
    """0, 10, 20 and 60 degrees: neighbours are similar by cos 10 = 0.985, ends by cos 20 = 0.940; easy: 20, 10, 0."""
    chain = at(0, 10, 20, 60)
    assert copies(chain, eps=0.03, keep="easy", against="any")[0] == [1, 2, None, None]
    assert copies(chain, eps=0.03, keep="easy", against="kept")[0] == [None, 2, None, None]


def test_length_says_nothing():
    assert copies([[3.0, 0.0], [0.5, 0.0], [0.0, 1.0]], eps=0.001)[0].count(None) == 2


def test_rows_without_an_embedding_are_in_no_cluster():
    got, found = copies([[1.0, 0.0], None, [0.0, 0.0], [float("nan"), 1.0], [1.0, 0.0]])
    assert [found[i]["semantic_cluster_size"] for i in range(5)] == [2, None, None, None, 2]
    assert got.count(None) == 4
    with pytest.raises(BadData, match="no row has an embedding"):
        copies([[0.0, 0.0]])


def test_a_large_cluster_is_compared_in_runs():
    same = [[1.0, 0.0]] * 10
    assert copies(same, most=3)[0].count(None) == 4
    assert copies(same)[0].count(None) == 1


def test_clusters_keep_what_belongs_together():
    vectors = [*at(0, 1, 2), *at(90, 91), *at(180)]
    _, found = copies(vectors, clusters=3, rounds=20)
    named = [found[i]["semantic_cluster"] for i in range(6)]
    assert named[0] == named[1] == named[2] != named[3] == named[4] != named[5]
    assert [found[i]["semantic_cluster_size"] for i in range(6)] == [3, 3, 3, 2, 2, 1]


VECTORS = st.lists(st.lists(st.integers(-3, 3).map(float), min_size=3, max_size=3), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(VECTORS, st.sampled_from(["any", "kept"]), st.sampled_from([0.02, 0.3]))
def test_against_a_matrix(vectors, against, eps):
    """In one cluster and in the order that similarity to the centroid gives, by the whole matrix in float64."""
    usable = [i for i, v in enumerate(vectors) if any(v)]
    if not usable:
        return
    got, found = copies(vectors, against=against, eps=eps, rounds=1)
    unit = np.array(vectors)[usable]
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    matrix = unit @ unit.T
    if np.abs(matrix - (1 - eps)).min() < 1e-5:
        return
    kept = [i for i in usable if got[i] is None]
    for i in usable:
        if got[i] is not None:
            assert matrix[usable.index(i), usable.index(got[i])] > 1 - eps
            assert found[i]["semantic_similarity"] == pytest.approx(
                matrix[usable.index(i), usable.index(got[i])], abs=1e-5
            )
    if against == "kept":
        assert all(got[got[i]] is None for i in usable if got[i] is not None)
        pairs = [matrix[usable.index(a), usable.index(b)] for a in kept for b in kept if a < b]
        assert all(p <= 1 - eps for p in pairs)


@settings(deadline=None, max_examples=20)
@given(VECTORS, st.integers(0, 12))
def test_parts_change_nothing(vectors, cut):
    if any(any(v) for v in vectors):
        cut = min(cut, len(vectors))
        assert copies(vectors, (cut,), clusters=2)[0] == copies(vectors, clusters=2)[0]


def test_k_means_ends_at_the_means():
    vectors = np.array([*at(0, 10), *at(90, 100)], dtype=np.float32)
    found = centroids(vectors[[0, 2, 1, 3]], 2, 10)
    angles = sorted(np.degrees(np.arctan2(found[:, 1], found[:, 0])))
    assert angles == pytest.approx([5, 95], abs=1e-3)


@pytest.mark.parametrize("wrong", [{"keep": "best"}, {"against": "all"}, {"eps": 3.0}, {"clusters": 0}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(UnknownSetting, match=next(iter(wrong))):
        Semantic(**wrong)
