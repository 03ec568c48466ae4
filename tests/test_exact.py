"""Exact copies: equality on 128 bits, and the row that is kept."""

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.columns import INT64, KEY, TEXT, UINT64
from curate.errors import UnknownSetting
from curate.exact import Exact, content_hash, duplicates

texts = st.lists(st.sampled_from(["a", "A", " a", "a\n", "b", "", None, "ß\u00a0ß", "ß ß"]), max_size=12)


def docs(strings: list[str | None]) -> pa.Table:
    ids = [f"doc{i}" for i in range(len(strings))]
    return pa.table(
        {
            "address": pa.array(range(len(ids)), UINT64),
            "id": pa.array(ids, TEXT),
            "key": pa.array([hashlib.md5(i.encode()).digest() for i in ids], KEY),
            "text": pa.array(strings, TEXT),
            "text_bytes": pa.array([len((s or "").encode()) for s in strings], INT64),
        }
    )


def copies(table: pa.Table, config: Exact) -> dict[str, tuple[str | None, int]]:
    """For each id, the id it is a copy of and how many rows have its text."""
    hashes = content_hash(table.select(["text"]), config)
    for name in hashes.column_names:
        table = table.append_column(name, hashes[name])
    answer = duplicates(table.select(["address", *duplicates.reads(config)]), config)
    assert answer.schema == pa.schema({"address": UINT64, **duplicates.writes(config)})
    name = dict(zip(table["address"].to_pylist(), table["id"].to_pylist(), strict=True))
    return {name[r["address"]]: (name.get(r["exact_copy_of"]), r["exact_copies"]) for r in answer.to_pylist()}


def test_hash_of_the_empty_text():
    """XXH3-128 of no bytes with seed 0, from the test vectors of xxHash's specification."""
    got = content_hash(docs([""]), Exact())
    assert got["content_hash"].to_pylist() == [0x99AA06D3014798D8]
    assert got["content_check"].to_pylist() == [0x6001C324468D497F]


def test_one_text_is_kept_and_the_others_point_at_it():
    got = copies(docs(["x", "y", "x", "x "]), Exact(keep_by=("id",)))
    assert got == {"doc0": (None, 2), "doc1": (None, 1), "doc2": ("doc0", 2), "doc3": (None, 1)}


def test_normalised_texts_differ_in_case_and_white_space_only():
    table = docs(["The  Cat\n", " the\u00a0cat", "thecat", "the cat!"])
    got = copies(table, Exact(normalise=True, keep_by=("-text_bytes", "id")))
    assert got == {"doc0": (None, 2), "doc1": ("doc0", 2), "doc2": (None, 1), "doc3": (None, 1)}
    assert {n for _, n in copies(table, Exact()).values()} == {1}


def test_a_missing_text_is_an_empty_text():
    got = copies(docs([None, "", "x"]), Exact(keep_by=("id",)))
    assert got == {"doc0": (None, 2), "doc1": ("doc0", 2), "doc2": (None, 1)}


def test_equality_is_decided_on_both_halves():
    table = docs(["x", "y", "z"]).append_column("content_hash", pa.array([5, 5, 5], UINT64))
    table = table.append_column("content_check", pa.array([1, 2, 1], UINT64))
    got = duplicates(table.select(["address", "content_hash", "content_check", "key", "id"]), Exact(keep_by=("id",)))
    assert got.sort_by("address")["exact_copy_of"].to_pylist() == [None, None, 0]


@given(texts, st.data(), st.booleans())
def test_a_cut_changes_no_hash(strings, data, normalise):
    table, config = docs(strings).select(["text"]), Exact(normalise=normalise)
    cut = data.draw(st.integers(0, len(strings)))
    halves = [content_hash(table.slice(0, cut), config), content_hash(table.slice(cut), config)]
    assert pa.concat_tables(halves).to_pylist() == content_hash(table, config).to_pylist()


@given(texts, st.randoms(use_true_random=False))
def test_copies_are_the_rows_with_the_same_text(strings, random):
    table = docs(strings)
    got = copies(table, Exact())
    for name, text in zip(table["id"].to_pylist(), strings, strict=True):
        twins = {n for n, t in zip(table["id"].to_pylist(), strings, strict=True) if (t or "") == (text or "")}
        assert got[name][1] == len(twins)
        assert len({n for n in twins if got[n][0] is None}) == 1
        assert {got[n][0] for n in twins} <= twins | {None}
    order = list(range(len(strings)))
    random.shuffle(order)
    assert copies(table.take(pa.array(order, pa.int64())), Exact()) == got


def test_a_bad_policy_is_found_when_the_settings_are_made():
    with pytest.raises(UnknownSetting, match="edu:decimal"):
        Exact(keep_by=("edu:decimal",))
