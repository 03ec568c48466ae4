"""N-grams of words that occur more than once, compared word by word, as three tools count them.

An n-gram can occur twice only if both (n-1)-grams in it do, so each longer n looks at survivors only. What is written
for n from 2 to 4, of the n-grams that occur most often, is the characters of all copies of the first one (dolma) and
of the longest one (DCLM; 0 if none occurs twice) and where the first one starts (NeMo Curator); for n from 5 to 10 the
characters of all words in a repeated n-gram (DCLM), those of all copies, overlaps counted again, and of all n-grams
(dolma), and those of copies after the first, overlaps counted once and with the spaces between words (NeMo Curator).
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.text import Int, Words, first_equal, plus, times

FIRST_TOP = 0            # three columns, n = 2, 3, 4
LONGEST_TOP = 3
TOP_PLACE = 6            # the word where the first of the most frequent starts
TOP_LENGTH = 9           # characters of its words
COVERED = 12             # six columns, n = 5..10
ALL_COPIES = 18
LATER_COPIES = 24
ALL_GRAMS = 30
GRAMS = 36

_STRIDE = np.uint64(0x0B7E151628AED2A6)          # of the polynomial over words; any number below PRIME does


@njit(cache=True, nogil=True)
def count_grams(words: Words, n: Int, out: npt.NDArray[np.int64]) -> None:
    """Fill ``out``, int64 (GRAMS,), which is 0."""
    hashes, _, lengths, _ = words
    before = np.empty(n + 1, dtype=np.int64)     # characters of the words before word i
    before[0] = 0
    for i in range(n):
        before[i + 1] = before[i] + lengths[i]
    places = np.arange(n)                        # where a gram may start that occurs twice
    keys = hashes[:n].copy()                     # of the gram there
    first = np.empty(n, dtype=np.int32)
    copies = np.empty(n, dtype=np.int32)
    twice = np.ones(n + 1, dtype=np.bool_)       # by place: the shorter gram there occurs twice
    m = n
    for size in range(2, 11):
        if n < size:
            return
        kept = 0
        for k in range(m):
            i = places[k]
            if i + size <= n and twice[i] and twice[i + 1]:
                places[kept] = i
                keys[kept] = plus(times(keys[k], _STRIDE), hashes[i + size - 1])
                kept += 1
        m = kept
        first_equal(keys[:m], first)
        copies[:m] = 0
        for k in range(m):
            copies[first[k]] += 1
        twice[:] = False
        for k in range(m):
            if copies[first[k]] > 1:
                twice[places[k]] = True
        if size <= 4:
            most: Int = 1
            best: Int = 0
            for k in range(m):
                if copies[k] > most:
                    most = copies[k]
                    best = places[k]
            longest: Int = 0
            if most > 1:
                for k in range(m):
                    if copies[k] == most:
                        longest = max(longest, before[places[k] + size] - before[places[k]])
            length = before[best + size] - before[best]
            out[FIRST_TOP + size - 2] = most * length
            out[LONGEST_TOP + size - 2] = most * longest
            out[TOP_PLACE + size - 2] = best
            out[TOP_LENGTH + size - 2] = length
            continue
        covered: Int = 0     # the word after the last repeated gram
        later: Int = 0       # the word after the last copy
        for k in range(m):
            if copies[first[k]] < 2:
                continue
            i = places[k]
            out[COVERED + size - 5] += before[i + size] - before[max(i, covered)]
            out[ALL_COPIES + size - 5] += before[i + size] - before[i]
            covered = i + size
            if first[k] != k:
                new = i + size - max(i, later)
                out[LATER_COPIES + size - 5] += before[i + size] - before[max(i, later)] + min(new, size - 1)
                later = i + size
        for i in range(n - size + 1):
            out[ALL_GRAMS + size - 5] += before[i + size] - before[i]
