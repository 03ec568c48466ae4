"""Words on a list: whole words, phrases, case, scripts without spaces."""

import gzip
import unicodedata

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import wordlists
from curate.errors import BadInput, UnknownSetting
from curate.wordlists import WordLists


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    (folder / "en").write_text("# made up\ndarn\nblue moon\nblue\nmuck-raker\n", encoding="utf-8")
    (folder / "de.txt").write_text("Mistgroß\nÜbel\n", encoding="utf-8")
    (folder / "zh.gz").write_bytes(gzip.compress("坏话\n".encode()))
    (folder / "th").write_text("น้ำ\n", encoding="utf-8")
    (folder / "README.md").write_text("the\n", encoding="utf-8")
    return folder


def asked(folder, *texts, by=None, **config):
    columns = {"text": pa.array(texts, pa.large_string())}
    config = WordLists(by="language" if by else None, **config)
    if by:
        columns["language"] = pa.array(by, pa.large_string())
    return wordlists.measure(pa.table(columns), config, wordlists.open_lists(config, folder)).to_pylist()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("darn", 1),
        ("Oh DARN it, darn!", 2),
        ("darned, undarn, darn_it", 0),
        ("darn-it", 1),
        ("a blue\n moon", 1),                    # the phrase, and not the word in it
        ("blue, moon", 1),                       # marks between words do not count
        ("blue moons", 1),                       # the word
        ("muck raker", 1),
        ("MISTGROSS mistgroß Mistgroẞ", 3),      # full case folding
        ("U\u0308BEL übel", 2),                  # decomposed
        ("这是坏话吗", 1),                         # inside a run
        ("坏的话", 0),
        ("ดื่มน้ำแล้ว", 1),
        ("README the", 0),
        ("", 0),
        (" \n…", 0),
    ],
)
def test_what_is_found(folder, text, found):
    assert asked(folder, text)[0]["listed"] == found


def test_numbers(folder):
    """Five words, three of them in two items, which are different."""
    assert asked(folder, "darn that blue moon again", None, "darn darn") == [
        {"listed": 2, "listed_distinct": 2, "listed_per_1000": 400.0, "listed_share": 0.6},
        {"listed": None, "listed_distinct": None, "listed_per_1000": None, "listed_share": None},
        {"listed": 2, "listed_distinct": 1, "listed_per_1000": 1000.0, "listed_share": 1.0},
    ]


def test_only_the_lists_of_some_languages(folder):
    assert asked(folder, "darn Übel", languages=("de",), name="de")[0]["de"] == 1


def test_the_list_of_the_text_s_own_language(folder):
    rows = asked(folder, *["darn Übel 坏话"] * 4, by=["en", "zh", "fr", None])
    assert [row["listed"] for row in rows] == [1, 1, 0, 0]
    assert [row["listed_per_1000"] for row in rows[:2]] == [250.0, 250.0]


def test_a_missing_list_is_named(folder, tmp_path):
    with pytest.raises(BadInput, match="for fr"):
        asked(folder, "a", languages=("fr",))
    with pytest.raises(BadInput, match="holds no list"):
        asked(tmp_path, "a")


def test_rules():
    frame = pl.DataFrame({"listed": [0, 2], "listed_per_1000": [0.0, 2.5]})
    assert frame.select(wordlists.at_most(per_1000=2.0).keep).to_series().to_list() == [True, False]
    assert frame.select(wordlists.at_most(found=2).keep).to_series().to_list() == [True, True]
    with pytest.raises(UnknownSetting):
        wordlists.at_most()


def reference(text, items):
    """The obvious way: words as tuples of folded strings, longest item first at every place."""
    words, current = [], ""
    alone = {chr(p) for p in wordlists.code_points(wordlists.UNSPACED)}
    after_alone = False
    for c in text:
        mark = unicodedata.category(c) in ("Mn", "Mc", "Me")
        if mark and after_alone:
            words[-1] += c.casefold()
        elif c in alone and c.isalnum():
            words += [current] * bool(current) + [c.casefold()]
            current, after_alone = "", True
        elif mark or c.isalnum() or c == "_":
            current, after_alone = current + c.casefold(), False
        else:
            words += [current] * bool(current)
            current, after_alone = "", False
    words += [current] * bool(current)
    found = inside = k = 0
    while k < len(words):
        n = max((len(i) for i in items if tuple(words[k : k + len(i)]) == i), default=0)
        found, inside, k = found + (n > 0), inside + n, k + max(n, 1)
    return found, inside, len(words)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from("aAbß_ ,.1坏话น้ำé\u0301ſİ"), max_size=25).map("".join), st.text(max_size=10))
def test_as_the_obvious_way(text, more):
    items = wordlists._items(["a", "a b", "b a b", "坏话", "ss", "น้"])
    tuples = [("a",), ("a", "b"), ("b", "a", "b"), ("坏", "话"), ("ss",), ("น้",)]
    got = wordlists.measure(pa.table({"text": pa.array([text + more], pa.large_string())}), WordLists(), {"": items})
    found, inside, words = reference(text + more, tuples)
    assert got["listed"].to_pylist() == [found]
    assert got["listed_share"].to_pylist() == [inside / max(words, 1)]
