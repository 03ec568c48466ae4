"""Counts as DCLM takes them (Li et al. 2024; mlfoundations/dclm, ``baselines/mappers/filters/content_filters.py``).

Words are runs without whitespace, except in two places: the length of a page counts fastText's words (cut at ASCII
whitespace and NUL) that begin with a letter or a digit, and n-grams are over the words of Unicode's annex 29
(``unicode``). Lines and paragraphs are cut at one and two newlines and stripped; empty ones are left out. Of repeated
ones every copy counts, the first too, and a text with a single one has none.
"""

import numpy as np
from numba import njit

from curate.measuring.grams import COVERED, GRAMS, LONGEST_TOP, count_grams
from curate.measuring.pieces import between_runs, count_copies, ends_with, trim
from curate.measuring.unicode import STARTS_WORD, marks, split_unicode_words, word_breaks
from curate.text import INK, LETTER, Bytes, Int, Offsets, classes, new_words, next_character

WORDS = 0                # runs without whitespace
WORD_CHARACTERS = 1
LETTER_WORDS = 2         # with a letter
STOP_WORDS = 3           # occurrences, upper and lower case
FASTTEXT_WORDS = 4
SYMBOLS = 5              # "#", "...", ". . ." and "…", each counted without overlap
LINES = 6
BULLET_LINES = 7
ELLIPSIS_LINES = 8
LINE_COPIES = 9          # six columns: see pieces.count_copies
PARAGRAPH_COPIES = 15
WORDS_UAX29 = 21
CHARACTERS_UAX29 = 22    # in those
TOP_GRAMS = 23           # three columns
REPEATED_GRAMS = 26      # six
COUNTS = 32

_ELLIPSES = tuple(np.frombuffer(mark.encode(), dtype=np.uint8) for mark in ("...", ". . .", "…"))
_STOPS = tuple(
    np.frombuffer(word.encode(), dtype=np.uint8)
    for word in ("the", "be", "to", "of", "and", "that", "have", "with")
)


def count(offsets: Offsets, data: Bytes, *, basics: bool, repetition: bool) -> Offsets:
    """Counts, int64 (n, COUNTS); the columns up to ELLIPSIS_LINES are ``basics``, the others ``repetition``."""
    counts = np.zeros((len(offsets) - 1, COUNTS), dtype=np.int64)
    _count(offsets, data, classes(), marks(), word_breaks(), basics, repetition, counts)
    return counts


@njit(cache=True, nogil=True)
def is_stop_word(data: Bytes, start: Int, end: Int) -> bool:
    """Is ``data[start:end]`` one of Gopher's stop words, in lower case or not?"""
    for word in _STOPS:
        if word.size == end - start and ends_with(data, start, end, word):
            return True
    return False


@njit(cache=True, nogil=True)
def _count(
    offsets: Offsets,
    data: Bytes,
    table: Bytes,
    starts: Bytes,
    breaks: Bytes,
    basics: bool,
    repetition: bool,
    counts: Offsets,
) -> None:
    words = new_words(1 << 12)
    grams = np.empty(GRAMS, dtype=np.int64)
    for row in range(len(counts)):
        start = offsets[row]
        end = offsets[row + 1]
        out = counts[row]
        if basics:
            _count_basics(data, start, end, table, starts, out)
        if not repetition:
            continue
        count_copies(data, trim(data, between_runs(data, start, end, 1), table), table, out[LINE_COPIES:])
        count_copies(data, trim(data, between_runs(data, start, end, 2), table), table, out[PARAGRAPH_COPIES:])
        while words.sizes.size < end - start:
            words = new_words(2 * words.sizes.size)
        n = split_unicode_words(data, start, end, breaks, words)
        out[WORDS_UAX29] = n
        for i in range(n):
            out[CHARACTERS_UAX29] += words.lengths[i]
        grams[:] = 0
        count_grams(words, n, grams)
        out[TOP_GRAMS : TOP_GRAMS + 3] = grams[LONGEST_TOP : LONGEST_TOP + 3]
        out[REPEATED_GRAMS : REPEATED_GRAMS + 6] = grams[COVERED : COVERED + 6]


@njit(cache=True, nogil=True)
def _count_basics(data: Bytes, start: Int, end: Int, table: Bytes, starts: Bytes, out: Offsets) -> None:
    word: Int = -1           # where the current word starts
    letters = False
    apart = True             # the next character begins a word of fastText's
    dots = 0                 # full stops in a row up to here
    spaced = 0               # of ". . .", the bytes found up to here
    i: Int = start
    while i < end:
        point, after = next_character(data, i, end)
        kind = np.int64(table[point])
        cuts = point == 0x20 or 0x09 <= point <= 0x0D or point == 0
        if cuts:
            apart = True
        elif apart:
            out[FASTTEXT_WORDS] += (starts[point] & STARTS_WORD) > 0
            apart = False
        dots = dots + 1 if point == 0x2E else 0
        if point == 0x2E:
            spaced = spaced + 1 if spaced % 2 == 0 else 1
        elif point == 0x20 and spaced % 2 == 1:
            spaced += 1
        else:
            spaced = 0
        if spaced == 5:
            out[SYMBOLS] += 1
            spaced = 0
        out[SYMBOLS] += point == 0x23 or point == 0x2026 or (dots > 0 and dots % 3 == 0)
        if kind & INK:
            if word < 0:
                word = i
            out[WORD_CHARACTERS] += 1
            letters |= (kind & LETTER) != 0
        if word >= 0 and (not kind & INK or after == end):
            until = after if kind & INK else i
            out[WORDS] += 1
            out[LETTER_WORDS] += letters
            out[STOP_WORDS] += is_stop_word(data, word, until)
            word = -1
            letters = False
        i = after
    lines = trim(data, between_runs(data, start, end, 1), table)
    out[LINES] = len(lines)
    for k in range(len(lines)):
        point, _ = next_character(data, lines[k, 0], lines[k, 1])
        out[BULLET_LINES] += point == 0x25CF or point == 0x2022 or point == 0x2A or point == 0x2D
        for mark in _ELLIPSES:
            if ends_with(data, lines[k, 0], lines[k, 1], mark):
                out[ELLIPSIS_LINES] += 1
                break
