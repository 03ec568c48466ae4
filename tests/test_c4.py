"""C4's edits and judgements: against datatrove's own filter, and against plain references written from the programs."""

import re

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import c4, sentences
from curate.columns import TEXT
from curate.errors import UnknownSetting

law = settings(deadline=None, max_examples=120)

PIECES = (
    "The cat sat on the mat.", "Is it so?", "No end mark", "It ends...", 'He said "yes."', "It's the boys'", "“Well.”",
    "Wow!", "[1]", "[12]", "[]", "[edit]", "[citation needed]", "[x]", "[٣]", "[1", "java", "JavaScript", "lorem ipsum",
    "LOREM", " ipsum", "{", "Terms of Use", "our PrivacY policy", "cooKie policy", "uses Cookies", "u\u017fe cookies",
    "javascr\u0130pt", "javascr\u0131pt", "\n", "\n\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028",
    "\u2029", " ", "  ", "\t", "\xa0", "\u3000", "…", "...", "x" * 1001, "é" * 1000, "two words.", "a b c d e.", "。",
    ".", "'",
)  # fmt: skip
pages = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3), st.just(" ")), max_size=16).map("".join)
some = st.lists(pages, min_size=1, max_size=3)


def edit(values, **config):
    return pl.from_arrow(c4.edit(pa.table({"text": pa.array(values, TEXT)}), c4.C4(**config)))


def reasons(table, name):
    failing = pl.lit(None, dtype=pl.String)
    for rule in reversed(c4.profile(name)):
        failing = pl.when(rule.keep.fill_null(False)).then(failing).otherwise(pl.lit(rule.because))
    return table.select(failing.alias("because"))["because"].to_list()


# --- datatrove --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"end_marks": ()}, {"filter_no_terminal_punct": False}),  # as FineWeb had it
        ({"min_words": 0, "citations": False, "max_word_length": 0, "policy": False},
         {"min_words_per_line": -1, "remove_citations": False, "max_word_length": -1, "filter_policy": False}),
        ({"lorem_ipsum": False, "javascript": False, "curly_bracket": False},
         {"filter_lorem_ipsum": False, "filter_javascript": False, "filter_curly_bracket": False}),
    ],
    ids=["default", "no end marks", "few rules", "no page rules"],
)  # fmt: skip
def test_datatrove(ours, theirs):
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter

    oracle = C4QualityFilter(**theirs)

    @law
    @given(some)
    def agrees(values):
        table = edit(values, tool="datatrove", **ours)
        for value, text, because in zip(values, table["text"], reasons(table, "c4@datatrove"), strict=True):
            doc = Document(text=value, id="x")
            answer = oracle.filter(doc)
            assert because == (None if answer is True else answer[1])
            if because is None:
                assert text == doc.text
            if because in ("lorem_ipsum", "curly_bracket"):
                assert text == value

    agrees()


def test_the_paragraph_filter():
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4ParagraphFilter

    oracle = C4ParagraphFilter()
    values = ["", "é" * 200, "\n".join(["é" * 200] * 3), "\n".join(["é" * 200, "x" * 199, "y" * 200]),
              "\n" * 5 + "\n".join(["語" * 201] * 4)]  # fmt: skip
    table = pl.from_arrow(c4.paragraphs(pa.table({"text": pa.array([*values, None], TEXT)})))
    assert table["c4_long_paragraphs"].to_list() == [0, 1, 3, 2, 4, None]
    for value, because in zip(values, reasons(table, "mc4@datatrove"), strict=False):
        answer = oracle.filter(Document(text=value, id="x"))
        assert because == (None if answer is True else answer[1])


# --- The original and DCLM, from a plain reading of their programs ----------------------------------------------------


@pytest.fixture
def punkt(monkeypatch):
    """Punkt without parameters stands for the English one, whose data does not come with NLTK."""
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    model = PunktSentenceTokenizer()
    monkeypatch.setattr(sentences, "_punkt", lambda where: model)
    sentences._threads.__dict__.pop("punkt", None)
    yield model
    sentences._threads.__dict__.pop("punkt", None)


CITED = re.compile(r"\[(?:\d*|edit|citation needed)\]")


def original(page, split):
    """What the original makes of a page: the reason it is dropped for, or None, and its text."""
    if len(page) > 190_000:
        return "contenttoolong", page
    kept, found = [], 0
    for line in map(str.strip, page.splitlines()):
        plain = CITED.sub("", line)
        low = plain.lower()
        if max(map(len, line.split()), default=0) > 1000 or not re.search(r'[.?!"]\Z', plain):
            continue
        if plain.endswith("...") or len(plain.split()) < 5:
            continue
        if "lorem ipsum" in low:
            return "loremipsum", page
        if "javascript" in low:
            continue
        if "{" in plain:
            return "squigglybracket", page
        if any(phrase in low for phrase in c4.POLICY):
            continue
        found += len(split(plain))
        kept.append(plain)
    return ("toofewsentences" if found < 3 else None), "\n".join(kept).strip()


def test_original(punkt):
    @law
    @given(some)
    def agrees(values):
        table = edit(values, tool="original")
        got = zip(reasons(table, "c4@original"), table["text"], strict=True)
        assert list(got) == [original(value, punkt.tokenize) for value in values]

    agrees()


def dclm(page, split):
    """What DCLM's steps make of a page: the reason it is dropped for, or None."""
    if not 1 <= len(page) <= 190_000:
        return "page_length_filter_char", None
    lines = [line for line in page.split("\n") if max(map(len, line.split()), default=0) <= 1000]
    lines = [CITED.sub("", line) for line in lines]
    lines = [line for line in lines if not line or re.search(r'[.!?"\u2026]\s*$', line)]
    lines = [line for line in lines if not re.search(r"(\.\.\.|\u2026)\s*$", line)]
    lines = [line for line in lines if not line or len(line.split()) >= 5]
    if "lorem ipsum" in "\n".join(lines).lower():
        return "substring_filter_lorem_ipsum", None
    lines = [line for line in lines if not re.search("javascript", line, re.I)]
    if any("{" in line for line in lines):
        return "substring_filter_curly_bracket", None
    lines = [line for line in lines if not re.search("|".join(c4.POLICY), line, re.I)]
    text = "\n".join(lines).strip()
    return ("page_length_filter_sentence" if sum(bool(s.strip()) for s in split(text)) < 3 else None), text


def test_dclm(punkt):
    @law
    @given(some)
    def agrees(values):
        table = edit(values, tool="dclm")
        got = zip(values, reasons(table, "c4@dclm"), table["text"], strict=True)
        for value, because, text in got:
            expected, left = dclm(value, punkt.tokenize)
            assert because == expected
            assert text == (value if left is None and value else left or "")

    agrees()


# --- By hand ----------------------------------------------------------------------------------------------------------

PAGE = """The first line is a sentence of words.[1] And here is another one.
Menu
This line is rather short. No?
Please enable JavaScript to see this wonderful page.
By this you agree to our terms of use and everything.
It went on and on and on...
The last line ends here, and that is all."""


def test_by_hand():
    table = edit([PAGE, None], sentences="marks")
    row = table.row(0, named=True)
    assert row["text"] == (
        "The first line is a sentence of words. And here is another one.\n"
        "This line is rather short. No?\n"
        "The last line ends here, and that is all."
    )
    assert row["c4_lines"] == 7 and row["c4_kept_lines"] == 3 and row["c4_citations"] == 1
    assert row["c4_unmarked_lines"] == 2 and row["c4_javascript_lines"] == 1 and row["c4_policy_lines"] == 1
    assert row["c4_short_lines"] == row["c4_long_word_lines"] == row["c4_lorem_ipsum"] == row["c4_curly_bracket"] == 0
    assert row["c4_sentences"] == 5 and row["c4_characters"] == len(PAGE)
    assert row["c4_bytes_removed"] == len(PAGE) - len(row["text"])
    assert table.row(1, named=True)["text"] == "" and table.row(1, named=True)["c4_lines"] == 0


def test_the_two_minima_are_swapped_in_datatrove():
    """Three words make a line for datatrove and five for the original; five sentences a page, and three."""
    four_words = "There are four words.\n" * 3
    assert edit([four_words])["c4_kept_lines"].to_list() == [0]
    kept = edit([four_words], tool="datatrove")
    assert kept["c4_kept_lines"].to_list() == [3] and reasons(kept, "c4@datatrove") == ["too_few_sentences"]


def test_what_condemned_a_page_is_what_came_first():
    fine = "This is a line of five words.\n"
    lorem, curly = "Lorem ipsum dolor sit amet {.\n", "Here is one { more.\n"
    values = [fine * 3 + lorem + curly, fine * 3 + curly + lorem]
    assert reasons(edit(values), "c4") == ["lorem_ipsum", "curly_bracket"]


def test_settings_are_checked():
    with pytest.raises(UnknownSetting, match="no C4 of 'dolma'"):
        c4.C4(tool="dolma")
    with pytest.raises(UnknownSetting, match="end mark 'ab'"):
        c4.C4(end_marks=("ab",))
    with pytest.raises(UnknownSetting, match="did you mean 'c4@datatrove'"):
        c4.profile("c4@datatrov")
