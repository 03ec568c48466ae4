"""Edits of lines and URLs: against plain readings of DCLM's patterns, over odd Unicode."""

import re

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import edits, refinedweb
from curate.columns import TEXT
from curate.errors import BadInput, UnknownSetting

law = settings(deadline=None, max_examples=150)


def table(values):
    return pa.table({"text": pa.array(values, TEXT)})


# --- RefinedWeb -------------------------------------------------------------------------------------------------------

PIECES = (
    "\n", "\n", "\n\n", " ", "  ", "\t", "\xa0", "\u3000", "\r", "\x85", "\x00", "3 likes", "12,5K Views!",
    "* 7 shares", "٣ comments", "3.5k  followers…", "4\u212a likes", "3 LİKES", "5 likeſ", "items in cart",
    "ITEMS in Cart",
    "two", "İtems ın cart", "Read more...", "read more now", "READ MORE…..", "Read more", "Sign-in", "sıgn-in ",
    "ſign-in\t", "NOT QUIET", "half UPPER case", "12345", "²³", "١٢", "a", "word", "of mice and men",
    "one two three four five six",
    "(?)", "_x", "É", "…", "猫", "ǅ",
)  # fmt: skip
pages = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3), st.just(" ")), max_size=14).map("".join)
COUNTER = re.compile(
    r"^\W*\d[\d,.]*[kmb]?\s+(likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads|views"
    r"|followers)\W*$"
)
CUTS = (re.compile(r"\s?items in cart", re.I), re.compile(r"\s?read more...$", re.I), re.compile(r"^sign-in\s?", re.I))


def words(text):
    """As fastText cuts them: runs without ASCII whitespace or NUL, that begin with a letter or digit."""
    return sum(w[0].isalnum() for w in re.split(r"[ \n\r\t\v\f\0]+", text) if w)


def share(test, line):
    return sum(map(test, line)) / len(line)


def corrected(page):
    lines = [x for x in page.split("\n") if not x or share(str.isupper, x) <= 0.5]
    lines = [x for x in "\n".join(lines).strip().split("\n") if not x or share(str.isdigit, x) <= 0.999999]
    lines = [x for x in "\n".join(lines).strip().split("\n") if not COUNTER.search(x.lower())]
    lines = [x for x in "\n".join(lines).strip().split("\n") if not x or len(x.split()) >= 2]
    for pattern in CUTS:
        kept = []
        for line in lines:
            left = pattern.sub("", line) if len(line.split()) <= 10 else line
            if len(line.split()) > 10 or not line or left.strip():
                kept.append(left)
        lines = "\n".join(kept).strip().split("\n")
    return "\n".join(lines)


@law
@given(st.lists(pages, min_size=1, max_size=3))
def test_refinedweb(values):
    got = pl.from_arrow(refinedweb.correct(table(values), refinedweb.RefinedWeb()))
    assert got["text"].to_list() == [corrected(value) for value in values]
    assert got["refinedweb_words"].to_list() == [words(value) for value in values]
    assert got["refinedweb_words_left"].to_list() == [words(text) for text in got["text"]]


def test_refinedweb_by_hand():
    page = "MENU AND MORE\nA fine line of text here.\n12 likes\nRead more...\n2024\nAlone\n\nIt ends. Read more...\n"
    got = pl.from_arrow(refinedweb.correct(table([page, None]), refinedweb.RefinedWeb()))
    row = got.row(0, named=True)
    assert row["text"] == "A fine line of text here.\n\nIt ends."
    assert all(row[f"refinedweb_{rule}_lines"] == 1 for rule in ("uppercase", "digit", "counter", "short", "emptied"))
    assert row["refinedweb_phrases"] == 2
    assert (row["refinedweb_words"], row["refinedweb_words_left"]) == (19, 8)
    (rule,) = refinedweb.profile("refinedweb@dclm")
    assert rule.because == "word_removal_ratio_filter"
    assert got.select(keep=rule.keep)["keep"].to_list() == [False, False]
    assert got["refinedweb_removed_share"].to_list() == [11 / 19, 1.0]


def test_one_word_in_twenty_may_go():
    """DCLM drops a page only if *more* than 5 % of its words went."""
    nineteen = " ".join(["word"] * 19)
    values = [nineteen + "\nMore", nineteen[5:] + "\nMore"]
    got = pl.from_arrow(refinedweb.correct(table(values), refinedweb.RefinedWeb()))
    (rule,) = refinedweb.profile("refinedweb@dclm")
    assert got.select(keep=rule.keep)["keep"].to_list() == [True, False]
    with pytest.raises(UnknownSetting, match="did you mean"):
        refinedweb.profile("refinedweb@dcl")


# --- URLs and newlines ------------------------------------------------------------------------------------------------

TLDS = ("com", "de", "co", "th", "uk", "xn--p1ai")
URLS = (
    "http://a.com", "https://www.x.de/p?q=1&r=(2)", "ftp://f.co.uk", "a.com", "a.commerce", "x@y.de,", "(http://b.de)",
    "В.com", "a.COM", ".com", "a..com", "a.co_m", "a.com猫", "猫.com", "10.0.0.1", "http://1.2.3.4:80/x", "1.2.3",
    "v1.2.3.4", "999.1.1.1.1", "The ", "\u0174.de", "é.de", "a.de-b", "b.xn--p1ai", "x" * 300 + ".com", " ", "  ",
    " " * 12, "\n",
    "\n\n\n\n", "\xa0", "text", "2001.02.03.04.05", "1.2.3.٤", "_1.2.3.4",
)  # fmt: skip
with_urls = st.lists(st.one_of(st.sampled_from(URLS), st.text(max_size=2), st.just(" ")), max_size=10).map("".join)
TLD = "|".join(TLDS)
URL = re.compile(
    rf"\s{{0,10}}(?:((https?|ftp)://))?[-a-zA-Z0-9@:%._\+~#=]{{1,256}}\.({TLD})\b([-a-zA-Z0-9()@:%_\+.~#?&//=]*)"
)
IP = re.compile(
    r"\s{0,10}\b((https?|ftp)://)?(?:[0-2]?[0-9]{1,2}\.){3}[0-2]?[0-9]{1,2}[-a-zA-Z0-9()@:%_\+.~#?&//=]*"
)


@law
@given(st.lists(with_urls, min_size=1, max_size=3), st.sampled_from(["all", "dclm"]))
def test_tidy(values, urls):
    got = pl.from_arrow(edits.tidy(table(values), edits.Tidy(urls=urls, tlds=TLDS)))
    expected = []
    for text in values:
        if urls == "all" or re.match(TLD, text, re.I):
            text = URL.sub("", text)
        expected.append(re.sub(r"\n{3,}", "\n\n", IP.sub("", text)))
    assert got["text"].to_list() == expected


def test_tidy_by_hand(tmp_path):
    page = "See  https://example.com/a?b=c, or 127.0.0.1 now.\n\n\n\nBye"
    got = pl.from_arrow(edits.tidy(table([page, None]), edits.Tidy()))
    assert got["text"].to_list() == ["See, or now.\n\nBye", ""]
    assert got["tidy_urls"].to_list() == [1, 0] and got["tidy_addresses"].to_list() == [1, 0]
    assert got["tidy_newlines"].to_list() == [2, 0]
    as_dclm = pl.from_arrow(edits.tidy(table([page, "Th" + page]), edits.Tidy(urls="dclm", tlds=TLDS)))
    assert as_dclm["tidy_urls"].to_list() == [0, 1]  # "See" begins with none of the domains, "ThSee" with th
    left = pl.from_arrow(edits.tidy(table([page]), edits.Tidy(urls="none", newlines=0)))
    assert left["text"].to_list() == [page]
    (tmp_path / "tlds.txt").write_text("# comment\nCOM\n\nde\n")
    assert edits.tlds_from(tmp_path / "tlds.txt") == ("com", "de")
    with pytest.raises(BadInput, match="cannot be read"):
        edits.tlds_from(tmp_path / "none.txt")
    with pytest.raises(UnknownSetting, match="no way 'some'"):
        edits.Tidy(urls="some")


# --- Rules of one's own -----------------------------------------------------------------------------------------------


def drop(values, **config):
    return pl.from_arrow(edits.drop_lines(table(values), edits.DropLines(**config)))


@law
@given(st.lists(pages, min_size=1, max_size=3), st.booleans())
def test_drop_lines(values, strip):
    got = drop(values, where="words < 2 AND characters > 0 OR uppercase > 0.5 OR digits >= 1", pattern="(?i)sign-in$",
               strip=strip)  # fmt: skip

    def goes(line):
        few = len(line.split()) < 2 and len(line) > 0
        return bool(line) and (few or share(str.isupper, line) > 0.5 or share(str.isdigit, line) >= 1
                               or bool(re.search(r"(?i:s|ſ)(?i:i)gn-(?i:i)n\Z", line, re.I | re.A)))  # fmt: skip

    for value, text, lines, size in zip(values, *(got[c] for c in got.columns[1:]), strict=True):
        kept = [line for line in value.split("\n") if not goes(line)]
        gone = [line for line in value.split("\n") if goes(line)]
        assert text == ("\n".join(kept).strip() if strip else "\n".join(kept))
        assert (lines, size) == (len(gone), sum(len(line.encode()) for line in gone))


def test_drop_lines_by_hand():
    page = "Title\nShare this page\nA line that stays.\nFooter"
    got = drop([page, None], where="number = of - 1", pattern="^Share this", name="mine")
    assert got["text"].to_list() == ["Title\nA line that stays.", ""]
    assert got["mine_lines"].to_list() == [2, 1] and got["mine_line_bytes"].to_list() == [21, 0]


def test_a_rule_is_checked_when_it_is_written():
    with pytest.raises(UnknownSetting, match="nothing says"):
        edits.DropLines()
    with pytest.raises(UnknownSetting, match="cannot be read"):
        edits.DropLines(where="wrods < 2")
    with pytest.raises(UnknownSetting, match="cannot be read"):
        edits.DropLines(pattern="(")
