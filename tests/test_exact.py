"""Exact copies: equality on 128 bits, and the row that is kept."""

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.columns import INT64, KEY, TEXT, UINT64
from curate.errors import UnknownSetting
from curate.exact import Exact, ExactUrl, canonical_url, content_hash, duplicates, url_duplicates, url_hash

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


@settings(deadline=None)  # the kernels compile once
@given(texts, st.data(), st.booleans())
def test_a_cut_changes_no_hash(strings, data, normalise):
    table, config = docs(strings).select(["text"]), Exact(normalise=normalise)
    cut = data.draw(st.integers(0, len(strings)))
    halves = [content_hash(table.slice(0, cut), config), content_hash(table.slice(cut), config)]
    assert pa.concat_tables(halves).to_pylist() == content_hash(table, config).to_pylist()


@settings(deadline=None)
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


@settings(deadline=None)
@given(st.lists(st.text(), max_size=6))
def test_a_normalised_text_is_what_python_says(strings):
    """Lower-cased by character, split at white space and joined by single spaces."""
    plain = [" ".join("".join(c.lower()[0] for c in s).split()) for s in strings]
    expected = content_hash(docs(plain), Exact())
    assert content_hash(docs(strings), Exact(normalise=True)).equals(expected)


SAME = [
    ("http://Example.COM/a", "https://example.com/a"),
    ("http://www.example.com:80/", "example.com"),
    ("https://user:pw@example.com:443/a#part", "https://example.com/a"),
    ("http://example.com/%7Esmith/home.html", "http://example.com/~smith/home.html"),  # RFC 3986, 6.2.2.2
    ("http://example.com/a%c2%b1b", "http://example.com/a%C2%B1b"),  # RFC 3986, 6.2.2.1
    ("http://example.com/\u00b1", "http://example.com/%c2%b1"),
    ("http://example.com/a/b/c/./../../g", "http://example.com/a/g"),  # RFC 3986, 5.2.4
    ("http://example.com/a/", "http://example.com/a"),
    ("http://example.com/?b=2&a=1&utm_source=feed&GCLID=x", "http://example.com?a=1&b=2"),
    (" http://example.com/a b\n", "http://example.com/a%20b"),
]
OTHER = [
    ("http://example.com/a", "http://example.com/A"),
    ("http://example.com/a", "http://example.org/a"),
    ("http://example.com:8080/", "http://example.com/"),
    ("http://example.com/a?x=1", "http://example.com/a?x=2"),
    ("http://example.com/a%2Fb", "http://example.com/a/b"),  # a reserved character means something else escaped
    ("ftp://example.com/a", "http://example.com/a"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_urls_that_are_the_same(one, other):
    assert canonical_url(one) == canonical_url(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_urls_that_differ(one, other):
    assert canonical_url(one) != canonical_url(other)


@given(st.text(max_size=40))
def test_any_text_has_a_canonical_form(text):
    assert isinstance(canonical_url(text), str)


def test_what_the_query_decides():
    one, other = "http://h/p?a=1&b=2", "http://h/p?b=2&a=1"
    assert canonical_url(one, "as_it_is") != canonical_url(other, "as_it_is")
    assert canonical_url(one, "none") == canonical_url("http://h/p", "none")


def test_pages_of_one_url():
    urls = ["http://a.org/x", "https://www.a.org/x/", None, "", None, "http://a.org/y"]
    table = docs(list("uvwxyz")).append_column("page", pa.array(urls, TEXT))
    config = ExactUrl(column="page", keep_by=("id",))
    hashes = url_hash(table.select(["page", "key"]), config.each())
    for name in hashes.column_names:
        table = table.append_column(name, hashes[name])
    answer = url_duplicates(table.select(["address", *url_duplicates.reads(config)]), config).sort_by("address")
    assert answer["url_copy_of"].to_pylist() == [None, 0, None, None, None, None]
    assert answer["url_copies"].to_pylist() == [2, 2, 1, 1, 1, 1]


def test_an_unknown_query_is_an_error():
    with pytest.raises(UnknownSetting, match="query"):
        ExactUrl(query="drop")
