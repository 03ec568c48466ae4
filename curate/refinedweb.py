r"""RefinedWeb's line-wise corrections, as DCLM wrote them down, and the rule that drops a page that needed too many.

    docs.then(refinedweb.correct).keep(refinedweb.profile("refinedweb@dclm"))

RefinedWeb (Penedo et al. 2023, section 3.1 and appendix G.2) corrects lines after extraction. Falcon's code is not
public; the steps and numbers are those of DCLM (``baselines_configs/dclm_baseline_refinedweb.yaml``), on lines cut at
"\n", each step on what the one before left, the page stripped of whitespace around it after every step but the fourth:

1. lines of which more than half of the characters are upper case go;
2. lines of digits only go;
3. counters ("3 likes") go;
4. lines of one word go (an empty line stays).
   In lines of at most ten words, and a line with nothing left then goes:
5. "items in cart" is taken out wherever it stands;
6. "Read more..." at the end is (DCLM's dots are a pattern's, so any three characters stand for them);
7. "Sign-in" at the start is.

Case is ignored as ``re.IGNORECASE`` does, by which "ſ" is an "s". Words are counted as fastText cuts them (at ASCII
whitespace), those that begin with a letter or digit. ``correct`` edits and counts; the profile drops a page of whose
words more than 5 % were removed, and one without words.

Cost: 90 MB of text a CPU second. Elsewhere: URLs and blank lines, which DCLM removes before (edits.py), C4 (c4.py).
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numba import njit

from curate.columns import FLOAT64, INT64, ROW, TEXT
from curate.editing.characters import (
    DECIMAL,
    DIGIT,
    NO_WORD,
    SPACE,
    UPPER,
    WORDLY,
    Counts,
    column,
    kinds_of_characters,
    strip_page,
)
from curate.errors import UnknownSetting
from curate.stage import Grain, Rule, stage
from curate.text import Bytes, Int, Offsets, next_character, string_buffers


@dataclass(frozen=True, kw_only=True)
class RefinedWeb:
    """The numbers of RefinedWeb's corrections, as DCLM set them.

    Args:
        max_uppercase: share of a line's characters; a line with more goes.
        max_digits: the same, for digits.
        min_words: a line with fewer goes, an empty line does not.
        short_line: words; only lines of at most so many have phrases taken out.
    """

    max_uppercase: float = 0.5
    max_digits: float = 0.999999
    min_words: int = 2
    short_line: int = 10


UPPERCASE, DIGITS, COUNTERS, SHORT, EMPTIED, PHRASES, WORDS, WORDS_LEFT = range(8)
_REFINED = (
    "refinedweb_uppercase_lines",    # removed for their upper case
    "refinedweb_digit_lines",
    "refinedweb_counter_lines",
    "refinedweb_short_lines",
    "refinedweb_emptied_lines",      # removed because a phrase was all that stood in them
    "refinedweb_phrases",            # phrases taken out
    "refinedweb_words",              # of the page as it came
    "refinedweb_words_left",
)


@stage(
    reads={"text": TEXT},
    writes={"text": TEXT, **dict.fromkeys(_REFINED, INT64), "refinedweb_removed_share": FLOAT64},
    grain=Grain.MANY,
    version="1",
)
def correct(docs: pa.Table, config: RefinedWeb) -> pa.Table:
    """The text after RefinedWeb's corrections and what they removed; a row a page, none dropped.

    ``refinedweb_removed_share`` is the share of the page's words that is gone, 1 for a page without words (DCLM drops
    those too). A null text is an empty one.
    """
    offsets, data = string_buffers(docs["text"])
    n = len(offsets) - 1
    counts = np.zeros((n, len(_REFINED)), dtype=np.int64)
    out = np.empty(offsets[-1] - offsets[0], dtype=np.uint8)
    ends = np.zeros(n + 1, dtype=np.int64)
    limits = (config.max_uppercase, config.max_digits, config.min_words, config.short_line)
    _refine(offsets, data, *kinds_of_characters(), limits, counts, out, ends)
    before = counts[:, WORDS]
    gone = np.where(before > 0, (before - counts[:, WORDS_LEFT]) / np.maximum(before, 1), 1.0)
    return pa.table({
        ROW: pa.array(np.arange(n)),
        "text": column(out, ends),
        **{name: pa.array(counts[:, i]) for i, name in enumerate(_REFINED)},
        "refinedweb_removed_share": pa.array(gone),
    })  # fmt: skip


def _letters(text: str) -> Bytes:
    return np.frombuffer(text.encode(), dtype=np.uint8)


_COUNTED = ("likes", "shares", "comments", "retweets", "reposts", "quotes", "bookmarks", "upvotes", "downvotes",
            "downloads", "views", "followers")  # fmt: skip
_COUNTED_LETTERS = _letters("".join(_COUNTED))
_COUNTED_STARTS = np.cumsum([0, *map(len, _COUNTED)])
_IN_CART = _letters("items in cart")
_READ_MORE = _letters("read more")
_SIGN_IN = _letters("sign-in")


@njit(cache=True, nogil=True)
def _begins(data: Bytes, at: Int, end: Int, phrase: Bytes, folds: Bytes) -> Int:
    """The byte after ``phrase`` if it stands at ``data[at]`` in any case, else -1."""
    for k in range(phrase.size):
        if at >= end:
            return -1
        point, at = next_character(data, at, end)
        if folds[point] != phrase[k]:
            return -1
    return at


@njit(cache=True, nogil=True)
def _is_counter(data: Bytes, start: Int, end: Int, kinds: Bytes, lower: Bytes) -> bool:
    r"""``^\W*\d[\d,.]*[kmb]?\s+(likes|...)\W*$``, in lower case; no place in it can be read in two ways."""
    i = start
    point: Int = 0
    after: Int = i
    while i < end:
        point, after = next_character(data, i, end)
        if not kinds[point] & NO_WORD:
            break
        i = after
    if i == end or not kinds[point] & DECIMAL:
        return False
    while i < end:
        point, after = next_character(data, i, end)
        if not (kinds[point] & DECIMAL or point == 0x2C or point == 0x2E):
            break
        i = after
    if i < end and (lower[point] == 0x6B or lower[point] == 0x6D or lower[point] == 0x62):
        i = after
    spaced = i
    while i < end:
        point, after = next_character(data, i, end)
        if not kinds[point] & SPACE:
            break
        i = after
    if i == spaced:
        return False
    found: Int = -1
    for k in range(_COUNTED_STARTS.size - 1):
        found = _begins(data, i, end, _COUNTED_LETTERS[_COUNTED_STARTS[k] : _COUNTED_STARTS[k + 1]], lower)
        if found >= 0:
            break
    if found < 0:
        return False
    while found < end:
        point, found = next_character(data, found, end)
        if not kinds[point] & NO_WORD:
            return False
    return True


@njit(cache=True, nogil=True)
def _words_at_most(data: Bytes, start: Int, end: Int, kinds: Bytes, most: Int) -> Int:
    """Words of a line, cut at whitespace; counting stops above ``most``."""
    words: Int = 0
    inside = False
    while start < end and words <= most:
        point, start = next_character(data, start, end)
        space = (kinds[point] & SPACE) != 0
        words += not space and not inside
        inside = not space
    return words


@njit(cache=True, nogil=True)
def _count_words(data: Bytes, start: Int, end: Int, kinds: Bytes) -> Int:
    """Runs of bytes without ASCII whitespace or NUL (as fastText cuts) that begin with a letter or digit."""
    words: Int = 0
    inside = False
    while start < end:
        byte = data[start]
        if byte == 0x20 or 0x09 <= byte <= 0x0D or byte == 0:
            inside = False
            start += 1
            continue
        if inside:
            start += 1
            continue
        point, start = next_character(data, start, end)
        words += (kinds[point] & WORDLY) != 0
        inside = True
    return words


@njit(cache=True, nogil=True)
def _without_phrase(page: Bytes, start: Int, end: Int, which: int, kinds: Bytes, folds: Bytes) -> tuple[Int, Int, Int]:
    """A line without "items in cart" (0), "read more..." at its end (1) or "sign-in" at its start (2), in place.

    Returns where it starts and ends now, and how many phrases were taken out.
    """
    if which == 2:
        stop = _begins(page, start, end, _SIGN_IN, folds)
        if stop < 0:
            return start, end, 0
        if stop < end:
            point, after = next_character(page, stop, end)
            if kinds[point] & SPACE:
                stop = after
        return stop, end, 1
    to = start
    found = 0
    i = start
    while i < end:
        point, after = next_character(page, i, end)
        at = after if kinds[point] & SPACE else i
        stop = -1
        for _ in range(2):               # after a character of whitespace, or at it
            stop = _begins(page, at, end, _IN_CART if which == 0 else _READ_MORE, folds)
            if which == 1 and stop >= 0:
                for _ in range(3):
                    if stop < 0 or stop >= end:
                        stop = -1
                    else:
                        _, stop = next_character(page, stop, end)
                if stop != end:
                    stop = -1
            if stop >= 0 or at == i:
                break
            at = i
        if stop >= 0:
            found += 1
            i = stop
            continue
        while i < after:
            page[to] = page[i]
            to += 1
            i += 1
    return start, to, found


@njit(cache=True, nogil=True)
def _refine(
    offsets: Offsets,
    data: Bytes,
    kinds: Bytes,
    lower: Bytes,
    folds: Bytes,
    limits: tuple[float, float, int, int],
    counts: Counts,
    out: Bytes,
    ends: Offsets,
) -> None:
    """Fill ``counts`` and write the edited texts to ``out``; text ``i`` ends at ``ends[i + 1]``."""
    max_uppercase, max_digits, min_words, short_line = limits
    starts = np.empty(1 << 8, dtype=np.int64)
    stops = np.empty(1 << 8, dtype=np.int64)
    page = np.empty(1 << 12, dtype=np.uint8)
    w: Int = 0
    for row in range(len(counts)):
        count = counts[row]
        size = offsets[row + 1] - offsets[row]
        while page.size < size:
            page = np.empty(2 * page.size, dtype=np.uint8)
        m = 1
        for i in range(size):
            page[i] = data[offsets[row] + i]
            m += page[i] == 0x0A
        while starts.size < m:
            starts = np.empty(2 * starts.size, dtype=np.int64)
            stops = np.empty(starts.size, dtype=np.int64)
        count[WORDS] = _count_words(page, 0, size, kinds)
        last: Int = 0
        begin: Int = 0
        for i in range(size + 1):
            if i == size or page[i] == 0x0A:
                starts[last] = begin
                stops[last] = i
                last += 1
                begin = i + 1
        first: Int = 0
        for step in range(7):
            kept: Int = first
            for k in range(first, last):
                a = starts[k]
                b = stops[k]
                stays: bool | np.bool_ = True
                if a < b and step <= 1:
                    bit = UPPER if step == 0 else DIGIT
                    has: Int = 0
                    of: Int = 0
                    at = a
                    while at < b:
                        point, at = next_character(page, at, b)
                        has += (kinds[point] & bit) != 0
                        of += 1
                    stays = has / of <= (max_uppercase if step == 0 else max_digits)
                    count[UPPERCASE if step == 0 else DIGITS] += not stays
                elif step == 2:
                    stays = not _is_counter(page, a, b, kinds, lower)
                    count[COUNTERS] += not stays
                elif a < b and step == 3:
                    stays = _words_at_most(page, a, b, kinds, min_words) >= min_words
                    count[SHORT] += not stays
                elif a < b and _words_at_most(page, a, b, kinds, short_line) <= short_line:
                    a, b, found = _without_phrase(page, a, b, step - 4, kinds, folds)
                    count[PHRASES] += found
                    stays = _words_at_most(page, a, b, kinds, 0) > 0
                    count[EMPTIED] += not stays
                if stays:
                    starts[kept] = a
                    stops[kept] = b
                    kept += 1
            last = kept
            if step != 3:
                first, last = strip_page(page, starts, stops, first, last, kinds)
        begin = w
        for k in range(first, last):
            if k > first:
                out[w] = 0x0A
                w += 1
            for i in range(starts[k], stops[k]):
                out[w] = page[i]
                w += 1
        count[WORDS_LEFT] = _count_words(out, begin, w, kinds)
        ends[row + 1] = w


PROFILES: Mapping[str, tuple[Rule, ...]] = {
    "refinedweb@dclm": (Rule(pl.col("refinedweb_removed_share") <= 0.05, "word_removal_ratio_filter"),),
}


def profile(*names: str) -> tuple[Rule, ...]:
    """The rules of named profiles, in order.

    Args:
        names: ``refinedweb@dclm``: at most 5 % of the page's words were removed; after ``correct``.

    Raises:
        UnknownSetting: there is no such profile.
    """
    for name in names:
        if name not in PROFILES:
            near = difflib.get_close_matches(name, PROFILES, n=1)
            raise UnknownSetting(f"there is no profile {name!r}", where=f"refinedweb.profile({name!r})",
                                 fix=f"did you mean {near[0]!r}?" if near else
                                 f"use one of: {', '.join(PROFILES)}")  # fmt: skip
    return tuple(rule for name in names for rule in PROFILES[name])
