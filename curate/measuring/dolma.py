"""Counts as dolma takes them (Soldaini et al. 2024; allenai/dolma, ``python/dolma/taggers/gopher.py``).

Words are runs without whitespace; shares of characters are of those in words. Nothing is stripped: a line may be empty
or begin with a space. Of a repeated line or n-gram every copy counts, overlaps again and again. The tagger
``gopher_v2`` cuts lines at runs of newlines, ``gopher_v1`` at each; nothing else differs between them.
"""

import numpy as np
from numba import njit

from curate.measuring.grams import ALL_COPIES, ALL_GRAMS, FIRST_TOP, GRAMS, count_grams
from curate.measuring.pieces import between, between_runs, count_copies
from curate.text import LETTER as HAS_LETTER
from curate.text import (
    TOO_SMALL,
    Bytes,
    Hashes,
    Int,
    Memo,
    Offsets,
    Words,
    classes,
    hash_bytes,
    new_words,
    next_character,
    split_words,
    word_memo,
)

WORDS = 0
WORD_CHARACTERS = 1
TWICE_MEDIAN = 2         # of the words' characters
SYMBOL_WORDS = 3         # words with "#" or "…" in them
LETTER_WORDS = 4
STOP_WORDS = 5           # occurrences, in lower case
LINES = 6                # of gopher_v1: six columns, see pieces.count_copies
BULLET_LINES = 12        # of those, the ones that start with "*" or "-"
ELLIPSIS_LINES = 13      # of those, the ones that end with "…"
LINES_V2 = 14            # eight columns more for gopher_v2
BULLET_LINES_V2 = 20
ELLIPSIS_LINES_V2 = 21
TOP_GRAMS = 22           # three columns
REPEATED_GRAMS = 25      # six
ALL_GRAMS_CHARACTERS = 31  # six
COUNTS = 37

_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


def count(offsets: Offsets, data: Bytes, *, repetition: bool) -> Offsets:
    """Counts, int64 (n, COUNTS); with ``repetition`` also those of n-grams."""
    counts = np.zeros((len(offsets) - 1, COUNTS), dtype=np.int64)
    spelled = [np.frombuffer(word.encode(), dtype=np.uint8) for word in _WORDS]
    stops = np.array([hash_bytes(letters, 0, len(letters)) for letters in spelled], dtype=np.uint64)
    _count(offsets, data, classes(), *word_memo("whitespace").begin(), stops, repetition, counts)
    return counts


@njit(cache=True, nogil=True)
def _count(
    offsets: Offsets,
    data: Bytes,
    table: Bytes,
    memo: Memo,
    waiting: Offsets,
    stops: Hashes,
    repetition: bool,
    counts: Offsets,
) -> None:
    words = new_words(1 << 12)
    grams = np.empty(GRAMS, dtype=np.int64)
    histogram = np.zeros(1 << 10, dtype=np.int64)
    for row in range(len(counts)):
        start = offsets[row]
        end = offsets[row + 1]
        out = counts[row]
        n = split_words(data, start, end, table, memo, waiting, words)
        while n == TOO_SMALL:
            words = new_words(2 * words.sizes.size)
            n = split_words(data, start, end, table, memo, waiting, words)
        _count_words(words, n, stops, histogram, out)
        _count_symbols(data, start, end, table, out)
        _count_lines(data, between(data, start, end, 1), table, out[LINES:])
        _count_lines(data, between_runs(data, start, end, 1), table, out[LINES_V2:])
        if repetition:
            grams[:] = 0
            count_grams(words, n, grams)
            out[TOP_GRAMS : TOP_GRAMS + 3] = grams[FIRST_TOP : FIRST_TOP + 3]
            out[REPEATED_GRAMS : REPEATED_GRAMS + 6] = grams[ALL_COPIES : ALL_COPIES + 6]
            out[ALL_GRAMS_CHARACTERS : ALL_GRAMS_CHARACTERS + 6] = grams[ALL_GRAMS : ALL_GRAMS + 6]


@njit(cache=True, nogil=True)
def _count_words(words: Words, n: Int, stops: Hashes, histogram: Offsets, out: Offsets) -> None:
    hashes, sizes, lengths, kinds = words
    out[WORDS] = n
    histogram[:] = 0
    top = histogram.size - 1
    for i in range(n):
        out[WORD_CHARACTERS] += lengths[i]
        out[LETTER_WORDS] += (kinds[i] & HAS_LETTER) != 0
        histogram[min(lengths[i], top)] += 1
        if sizes[i] <= 4:
            for j in range(stops.size):
                out[STOP_WORDS] += hashes[i] == stops[j]
    if n == 0:
        return
    # The two middle words in order of length; the same one where n is odd.
    if 2 * histogram[top] >= n:
        ordered = np.sort(lengths[:n])
        out[TWICE_MEDIAN] = np.int64(ordered[(n - 1) // 2]) + np.int64(ordered[n // 2])
        return
    passed = 0
    for length in range(top):
        for place in ((n - 1) // 2, n // 2):
            if passed <= place < passed + histogram[length]:
                out[TWICE_MEDIAN] += length
        passed += histogram[length]


@njit(cache=True, nogil=True)
def _count_symbols(data: Bytes, start: Int, end: Int, table: Bytes, out: Offsets) -> None:
    found = False
    i: Int = start
    while i < end:
        point, i = next_character(data, i, end)
        if table[point] & 1:  # SPACE
            found = False
        elif not found and (point == 0x23 or point == 0x2026):
            found = True
            out[SYMBOL_WORDS] += 1


@njit(cache=True, nogil=True)
def _count_lines(data: Bytes, lines: Offsets, table: Bytes, out: Offsets) -> None:
    count_copies(data, lines, table, out)
    for k in range(len(lines)):
        first = lines[k, 0]
        end = lines[k, 1]
        if end > first:
            out[BULLET_LINES - LINES] += data[first] == 0x2A or data[first] == 0x2D
        if end - first >= 3:
            out[ELLIPSIS_LINES - LINES] += (
                data[end - 3] == 0xE2 and data[end - 2] == 0x80 and data[end - 1] == 0xA6
            )
