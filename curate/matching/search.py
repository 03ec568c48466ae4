"""Looking documents up in an index: every feature that a document holds, and what that proves.

``search`` finds features: a rolling hash of the last words, two filters of bits, then the words themselves, so that no
hit is an accident of hashing. ``weigh`` walks the hits of a document in order and keeps for every text of an item

*a place*      hits of which none begins more than ``gap`` words after the one before ends,
*covered*      the words of the text that stand in the place, in a shared n-gram, each counted once,
*a run*        words in a row of the document that stand in a row in the text.

Memory: a few numbers for every word of the items, however long a document is and however often it repeats them.
"""

# mypy: disable-error-code="assignment, call-arg"
# (integers in kernels are numba's)

from typing import NamedTuple

import numpy as np
from numba import njit

from curate.matching.features import Index
from curate.matching.words import (
    I64,
    K1,
    K2,
    POINT,
    SILENT,
    SPACE,
    U8,
    U32,
    U64,
    finish,
    folding,
    hash_of,
    next_word,
    ring,
)
from curate.text import next_character


@njit(cache=True, nogil=True)
def _may_hold(bits: U64, shift: np.uint64, value: np.uint64) -> bool:
    at = value >> shift
    return (bits[np.int64(at >> np.uint64(6))] >> (at & np.uint64(63))) & np.uint64(1) != 0


@njit(cache=True, nogil=True)
def _is_run(data: U8, i: int, end: int, fold: U32, words: U8, a: int, b: int) -> bool:
    """Whether the words of ``data[i:end]`` are ``words[a:b]``."""
    while True:
        start, i, _ = next_word(data, i, end, fold)
        if start < 0:
            return a >= b
        while start < i:
            point, start = next_character(data, start, i)
            if fold[point] == SILENT:
                continue
            if a >= b:
                return False
            other, a = next_character(words, a, b)
            if np.int64(fold[point] & POINT) != other:
                return False
        if a < b:
            if words[a] != SPACE:
                return False
            a += 1


@njit(cache=True, nogil=True)
def _look_up(table, shift, value, data, start, end, fold):  # type: ignore[no-untyped-def]
    """The feature with this hash whose words are those of ``data[start:end]``, or -1."""
    prefix = np.int64(value >> shift)
    for k in range(table.directory[prefix], table.directory[prefix + 1]):
        if table.hashes[k] == value and _is_run(data, start, end, fold, table.words, table.starts[k], table.ends[k]):
            return k
    return -1


@njit(cache=True, nogil=True)
def _shift(size: int) -> np.uint64:
    """How far a hash is shifted to become an index below ``size``, a power of two."""
    bits = 0
    while (1 << bits) < size:
        bits += 1
    return np.uint64(64 - bits)


@njit(cache=True, nogil=True)
def search(offsets, data, fold, table):  # type: ignore[no-untyped-def]
    """Every feature in every text, int64 (5, found), ordered by text and last word.

    Rows: the text, the position of the first word, the feature, the first byte in the text and the byte after.

    Memory: a ring of ``n`` words, however long a text is.
    """
    found = np.empty((5, 1024), dtype=np.int64)
    count = 0
    n = table.n
    m = table.min_words
    bits, tails, sizes = table.bits, table.tails, table.sizes
    hashes = np.empty(ring(n), dtype=np.uint64)
    starts = np.empty(ring(n), dtype=np.int64)
    last = hashes.size - 1
    place = _shift(table.directory.size - 1)
    in_bits = _shift(bits.size * 64)
    in_tails = _shift(tails.size * 64)
    leaves_n = np.uint64(1)                # the weight of a word when it leaves the window of n words
    leaves_m = np.uint64(1)
    for k in range(n):
        leaves_n *= K1
        if k < m:
            leaves_m *= K1
    for t in range(offsets.size - 1):
        words = 0
        run = np.uint64(0)
        tail = np.uint64(0)
        i = offsets[t]
        while True:
            start, i, value = next_word(data, i, offsets[t + 1], fold)
            if start < 0:
                break
            if sizes.size:
                tail = tail * K1 + value
                if words >= m:
                    tail -= hashes[(words - m) & last] * leaves_m
            run = run * K1 + value
            if words >= n:
                run -= hashes[(words - n) & last] * leaves_n
            hashes[words & last] = value
            starts[words & last] = start
            words += 1
            if found.shape[1] < count + 1 + sizes.size:
                larger = np.empty((5, 2 * found.shape[1] + sizes.size), dtype=np.int64)
                larger[:, :count] = found[:, :count]
                found = larger
            if words >= n:
                key = finish(run + np.uint64(n) * K2)
                if _may_hold(bits, in_bits, key):
                    k = _look_up(table, place, key, data, starts[(words - n) & last], i, fold)
                    if k >= 0:
                        found[0, count], found[1, count], found[2, count] = t, words - n, k
                        found[3, count], found[4, count] = starts[(words - n) & last] - offsets[t], i - offsets[t]
                        count += 1
            if sizes.size and words >= m and _may_hold(tails, in_tails, finish(tail + np.uint64(m) * K2)):
                for size in sizes:
                    if size <= words:
                        key = hash_of(hashes, words - 1, size)
                        if _may_hold(bits, in_bits, key):
                            k = _look_up(table, place, key, data, starts[(words - size) & last], i, fold)
                            if k >= 0:
                                found[0, count], found[1, count], found[2, count] = t, words - size, k
                                found[3, count] = starts[(words - size) & last] - offsets[t]
                                found[4, count] = i - offsets[t]
                                count += 1
    return found[:, :count]


@njit(cache=True, nogil=True)
def weigh(hits, first, texts, at, sizes, base, units, item, words, items, gap, run, share, out):  # type: ignore[no-untyped-def]
    """Follow the hits of each document through the texts that have them (see the module's story).

    It writes to ``out``, int64 (6, documents), what ``Evidence`` calls run, text, covered, feature, start and end, and
    returns its ``found``.
    """
    place = np.zeros(base.size, dtype=np.int64)          # of each text: its place, numbered over all; 0: none yet
    ends = np.zeros(base.size, dtype=np.int64)           # the word of the document after its last hit
    held = np.zeros(base.size, dtype=np.int64)           # words of the text in the place
    begin = np.zeros((2, base.size), dtype=np.int64)     # the place's first byte, and its first feature
    longest = np.zeros(base.size, dtype=np.int64)
    inside = np.zeros(words, dtype=np.int64)             # of each word of a text: the last place that covered it
    chain = np.zeros((2, words), dtype=np.int64)         # the last hit that begins here, and the hits in a row up to it
    last = np.full(items, -1, dtype=np.int64)            # the last document in which an item was found
    found = np.empty((2, 64), dtype=np.int64)
    count, places, opened = 0, 0, 0                      # places up to ``opened`` belong to documents before this one
    document = np.int64(-1)
    for h in range(hits.shape[1]):
        t, position, feature = hits[0, h], hits[1, h], hits[2, h]
        if t != document:
            document, opened = t, places
        size = sizes[feature]
        here = (t << 32) + position + 1                  # a word of a document as one number, never 0
        for p in range(first[feature + 1] - 1, first[feature] - 1, -1):   # in a text the later words first: see chain
            text = texts[p]
            if place[text] <= opened or position - ends[text] > gap:
                places += 1
                place[text] = places
                held[text] = 0
                longest[text] = 0
                begin[0, text], begin[1, text] = hits[3, h], feature
            ends[text] = position + size
            start = base[text] + at[p]
            for w in range(start, start + size):
                if inside[w] != place[text]:
                    inside[w] = place[text]
                    held[text] += 1
            row = 1
            if at[p] > 0 and chain[0, start - 1] == here - 1:
                row = chain[1, start - 1] + 1
            chain[0, start], chain[1, start] = here, row
            in_row = size + row - 1
            longest[text] = max(longest[text], in_row)
            out[0, t] = max(out[0, t], in_row)
            best = out[1, t]
            mine = held[text] * np.int64(units[best] if best >= 0 else 1)
            other = out[2, t] * np.int64(units[text])
            if (
                best < 0
                or mine > other
                or (mine == other and held[text] > out[2, t])
                or (mine == other and held[text] == out[2, t] and item[text] < item[best])
            ):
                out[1, t], out[2, t] = text, held[text]
                out[3, t], out[4, t], out[5, t] = begin[1, text], begin[0, text], hits[4, h]
            if last[item[text]] != t and (longest[text] >= run or held[text] >= share * units[text]):
                last[item[text]] = t
                if count == found.shape[1]:
                    larger = np.empty((2, 2 * count), dtype=np.int64)
                    larger[:, :count] = found
                    found = larger
                found[0, count], found[1, count] = t, item[text]
                count += 1
    return found[:, :count]


class Evidence(NamedTuple):
    """What each document shares with the items.

    Args:
        ngrams: positions in the document at which a feature begins, int64 (documents,).
        run: words of the longest run shared with one text, int64 (documents,).
        text: the text of which the largest share was found, or -1, int64 (documents,).
        covered: its words in that place, int64 (documents,).
        feature: the feature with which the place begins, int64 (documents,).
        start: first byte of the place in the document, int64 (documents,).
        end: the byte after it, int64 (documents,).
        found: document and item of what passes as a copy, int64 (2, found); each pair once, by document, then item.
    """

    ngrams: I64
    run: I64
    text: I64
    covered: I64
    feature: I64
    start: I64
    end: I64
    found: I64


def evidence(offsets: I64, data: U8, index: Index, *, gap: int, run: int, share: float) -> Evidence:
    """What documents share with the items of an index.

    Args:
        offsets: of the documents in ``data``, int64 (documents + 1,).
        data: their bytes.
        index: the items.
        gap: words without a hit after which a place ends.
        run: an item is found where so many words in a row are shared,
        share: or this share of the words of one of its texts, in one place.
    """
    hits = search(offsets, data, folding(), index.table)
    documents = len(offsets) - 1
    out = np.zeros((6, documents), dtype=np.int64)
    out[1] = -1
    if hits.shape[1] == 0:
        return Evidence(np.zeros(documents, dtype=np.int64), *out, np.empty((2, 0), dtype=np.int64))
    found = weigh(
        hits, index.first, index.texts, index.at, index.sizes, index.base, index.units, index.item, index.words,
        len(index.ids), gap, run, share, out,
    )  # fmt: skip
    order = np.lexsort((hits[1], hits[0]))
    begins = np.flatnonzero(np.any(np.diff(hits[:2, order], axis=1, prepend=-1), axis=0))
    positions = np.bincount(hits[0, order[begins]], minlength=documents)
    return Evidence(positions, *out, found[:, np.lexsort((found[1], found[0]))])
