"""Repeated lines, paragraphs and sentences: against plain Python, and in a pipeline to the edited text."""

import hashlib
import re
from collections import Counter, defaultdict
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.columns import INT32, KEY, TEXT
from curate.cut import Cut, spans
from curate.errors import BadData, UnknownSetting
from curate.folding import folding
from curate.lines import Lines, RepeatedLines, line_hashes, repeated
from curate.testing import run_rounds

law = settings(deadline=None)  # kernels compile once


def docs(texts, sources=None):
    ids = [f"doc{i}" for i in range(len(texts))]
    return pa.table(
        {
            "id": pa.array(ids, TEXT),
            "key": pa.array([hashlib.md5(i.encode()).digest() for i in ids], KEY),
            "source": pa.array(sources or ["web"] * len(ids), TEXT),
            "text": pa.array(texts, TEXT),
        }
    )


def units(texts, config):
    """The units of each text, as the kernel cuts it."""
    found = line_hashes(docs(texts).select(["text"]), config)["line_ends"].to_pylist()
    cut = []
    for text, ends in zip(texts, found, strict=True):
        raw = text.encode()
        cut.append([raw[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)])
    return cut


def edited(texts, config, cuts=(), sources=None):
    """The texts without what is repeated; None where nothing is left."""
    table = docs(texts, sources)
    halves = line_hashes(table.select(["text"]), config.each())
    for name in halves.column_names:
        table = table.append_column(name, halves[name])
    ends = [0, *sorted(cuts), len(texts)]
    parts = [table.slice(a, b - a) for a, b in pairwise(ends)]
    parts = [p.select(list(repeated.reads(config))) for p in parts]
    answer, _ = run_rounds(repeated, parts, config)
    answer = answer.sort_by("address")
    assert answer["repeated_lines"].type == pa.list_(INT32)
    made = spans(
        pa.table({"text": table["text"], "repeated_lines": answer["repeated_lines"]}),
        Cut(column="repeated_lines", counted="lines"),
    )
    left = dict(zip(made["row"].to_pylist(), made["text"].to_pylist(), strict=True))
    return [left.get(i) for i in range(len(texts))]


# ---- units ----------------------------------------------------------------------------------------------------------


def test_lines_end_with_a_line_feed():
    assert units(["a\nb\r\n\nc", "", "\n"], Lines()) == [["a\n", "b\r\n", "\n", "c"], [], ["\n"]]


def test_paragraphs_end_with_blank_lines():
    assert units(["a\nb\n \n\nc\n\n", "\n\na"], Lines(unit="paragraph")) == [["a\nb\n \n\n", "c\n\n"], ["\n\na"]]


def test_sentences_end_with_a_mark_and_white_space():
    text = 'He said "no." Then 3.5 e.g. this!  New。\nLine'
    assert units([text], Lines(unit="sentence")) == [['He said "no." ', "Then 3.5 e.g. ", "this!  ", "New。\n", "Line"]]


@law
@given(
    st.lists(st.text(alphabet='ab.\n \u2028é。")', max_size=30), max_size=4),
    st.sampled_from(["line", "paragraph", "sentence"]),
)
def test_units_are_the_text(texts, unit):
    assert ["".join(parts) for parts in units(texts, Lines(unit=unit))] == texts


# ---- what counts as the same ----------------------------------------------------------------------------------------


def same(one, other, **settings):
    found = line_hashes(docs([one, other]).select(["text"]), Lines(**settings))["line_hashes"].to_pylist()
    return found[0] == found[1]


def test_foldings():
    assert same("Share  THIS\n", "share this", fold="space")
    assert not same("Share  this", "share this", fold="none")
    assert same(" share this\t", "share this", fold="none")
    assert same("Page 12 of 340", "page 00 of 999", fold="ccnet")
    assert same("Ещё… 12", "ещё 99", fold="ccnet")


def ccnet(line):
    """What cc_net/text_normalizer.py does to a line before it is hashed, said again from its description."""
    line = line.strip().lower()
    line = re.sub(r"\d", "0", line)
    marks = "，。、„”“«»１」「《》´∶：？！（）；–—．～’…━〈〉【】％►"
    return "".join(c for c in line if c not in marks and not (ord(c) < 32 or 127 <= ord(c) < 160))


@law
@given(st.text(alphabet="aÀß 1٣,.，»…\t\x85İ\u2003", max_size=12), st.text(alphabet="aÀ 0,.…", max_size=12))
def test_ccnet_folding_is_ccnet_s(one, other):
    """Lower-casing by character and stripping at the end set it apart from ``str``; neither occurs in these letters."""
    one, other = one.replace("İ", "i"), other
    if ccnet(one).strip() and ccnet(other).strip():
        assert same(one, other, fold="ccnet") == (ccnet(one).strip() == ccnet(other).strip())


def test_every_character_folds_to_one():
    for name in ("none", "space", "ccnet"):
        assert len(folding(name)) == 0x110000
    assert folding("space")[ord("Σ")] == ord("σ")
    assert folding("none")[ord("Σ")] == ord("Σ")


def test_too_short_is_not_compared():
    found = line_hashes(docs(["ab\n\n  \nabc"]).select(["text"]), Lines(min_characters=3))
    assert [h != 0 for h in found["line_hashes"][0].as_py()] == [False, False, False, True]


# ---- what goes ------------------------------------------------------------------------------------------------------

MENU = "Home | News | Contact\n"


def test_a_line_of_many_documents_goes_from_all_of_them():
    texts = [f"{MENU}Story {i}.\nSHARE this" for i in "abc"]
    got = edited(texts, RepeatedLines(min_documents=3, keep="none"))
    assert got == ["Story a.", "Story b.", "Story c."]
    assert edited(texts, RepeatedLines(min_documents=4, keep="none")) == texts


def test_the_first_by_the_policy_keeps_it():
    texts = [f"{MENU}Story {i}." for i in "abc"]
    got = edited(texts, RepeatedLines(min_documents=2, keep_by=("-id",)))
    assert got == ["Story a.", "Story b.", f"{MENU}Story c."]


def test_documents_are_counted_and_not_occurrences():
    texts = ["x y\nx y\nx y", "x y", "z"]
    assert edited(texts, RepeatedLines(min_documents=3, keep="none")) == texts
    assert edited(texts, RepeatedLines(min_documents=3, within=True)) == ["x y", "x y", "z"]


def test_what_a_whole_source_has_goes_from_the_others():
    texts = ["a line\nb", "a line\nc", "a line\nd"]
    config = RepeatedLines(min_documents=2, keep_whole=("books",), keep_by=("id",))
    assert edited(texts, config, sources=["web", "books", "books"]) == ["b", "a line\nc", "a line\nd"]
    assert edited(texts, config, (1, 2), sources=["web", "books", "books"]) == ["b", "a line\nc", "a line\nd"]


def test_three_sentence_spans():
    """Raffel et al. 2020, 2.2: 'we discarded all but one of any three-sentence span occurring more than once'."""
    shared = "One is here. Two is there. Three is gone."
    texts = [f"First words. {shared}", f"{shared} Last words.", "One is here. Two is there. Other."]
    config = RepeatedLines(unit="sentence", run=3, fold="none", min_documents=2, keep_by=("id",))
    assert edited(texts, config) == [texts[0], "Last words.", texts[2]]


def test_overlapping_runs_are_one_span():
    five = "A a. B b. C c. D d. E e."
    config = RepeatedLines(unit="sentence", run=3, min_documents=2, keep_by=("id",))
    assert edited([five, f"Before. {five} After."], config) == [five, "Before. After."]


LETTERS = st.lists(st.text(alphabet="ab\n", max_size=8), max_size=6)


@law
@given(
    LETTERS,
    st.lists(st.integers(0, 6), max_size=2),
    st.sampled_from(["first", "none"]),
    st.booleans(),
    st.integers(2, 3),
)
def test_against_plain_python(texts, cuts, keep, within, least):
    holders = defaultdict(set)
    for i, text in enumerate(texts):
        for line in text.split("\n"):
            holders[line.strip()].add(i)
    expected = []
    for i, text in enumerate(texts):
        lines, left, seen = re.findall(r"[^\n]*\n|[^\n]+", text), [], Counter()
        for line in lines:
            name = line.strip()
            goes = bool(name) and len(holders[name]) >= least and (keep == "none" or i != min(holders[name]))
            goes |= bool(name) and within and seen[name] > 0
            seen[name] += 1
            left += [] if goes else [line]
        expected.append(text if len(left) == len(lines) else "".join(left).strip() or None)
    config = RepeatedLines(min_documents=least, keep=keep, within=within, keep_by=("id",))
    assert edited(texts, config, [min(c, len(texts)) for c in cuts]) == expected


@pytest.mark.parametrize(
    "wrong", [{"unit": "word"}, {"fold": "lower"}, {"run": 0}, {"keep": "last"}, {"min_documents": 1}]
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(UnknownSetting, match=next(iter(wrong))):
        RepeatedLines(**wrong)


# ---- cutting --------------------------------------------------------------------------------------------------------


def cut(text, *at, **settings):
    table = pa.table({"text": pa.array([text], TEXT), "s": pa.array([list(at)], pa.list_(INT32))})
    made = spans(table, Cut(column="s", **settings)).to_pylist()
    return (made[0]["text"], made[0]["spans_removed"], made[0]["bytes_removed"]) if made else None


def test_a_cut_joins_no_words():
    assert cut("abcXXdef", 3, 5) == ("abc\ndef", 1, 1)
    assert cut("abc XXdef", 4, 6) == ("abc def", 1, 2)
    assert cut("éXX猫", 2, 4) == ("é\n猫", 1, 1)


def test_fragments_and_what_is_left():
    assert cut("long enough XX no YY long enough", 12, 14, 18, 20, min_fragment=5)[0] == "long enough  long enough"
    assert cut("XX no", 0, 2, min_fragment=3) is None
    assert cut(" XX ", 1, 3) is None
    assert cut("  untouched ") == ("  untouched ", 0, 0)
    assert cut("") == ("", 0, 0)


@pytest.mark.parametrize("at", [(2, 9), (3, 2), (0, 2, 1, 3), (1,), (1, 2)])
def test_spans_of_another_text_are_an_error(at):
    with pytest.raises(BadData, match="in order"):
        cut("é12", *at)
