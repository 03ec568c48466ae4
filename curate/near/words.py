"""Shingles and minima of our own signatures, as kernels over Arrow buffers.

A document's shingles are its distinct runs of ``ngram`` words, or all its words as one shingle where it has fewer; what
a word is, and its hash, is said in ``near/cutting.py``.

Each shingle is hashed to 64 bits: a polynomial over its words' hashes, rolled from one to the next, and finished. The
minima are of ``h * scale + shift`` modulo 2**32 over the high halves h: 32 bits are enough to find pairs, which are
verified by the 64-bit hashes.

Cost: over 300 MB of text a second and core for 112 minima.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from curate.hashing import mix64
from curate.kernels import njit
from curate.near.cutting import absorb, folding, hash_words

U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
U8: TypeAlias = npt.NDArray[np.uint8]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]

_K1 = np.uint64(0x9E3779B97F4A7C15)  # odd constants: the golden ratio, and a prime of xxHash
_K3 = np.uint64(0x165667B19E3779F9)
_STRETCH = 2048  # hashes that one function after the other runs over: they stay in the nearest cache
_WIDTH = 64  # a multiple of what vector instructions take at once


@njit(cache=True, nogil=True, inline="always")
def _finish(x: np.uint64) -> np.uint64:
    """The finaliser of splitmix64, as in ``curate.hashing.mix64``."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _shingle(words, count, ngram, out):  # type: ignore[no-untyped-def]
    """Hash every shingle of one text, repeats included.

    Args:
        words: hashes of words, uint64.
        count: how many of them.
        ngram: words in a shingle.
        out: uint64 (>= count,), for the hashes.

    Returns:
        How many there are.
    """
    if count == 0:
        return 0
    window = np.uint64(0)
    for k in range(min(count, ngram)):
        window = window * _K1 + words[k]
    if count < ngram:
        out[0] = _finish(window + np.uint64(count) * _K3)
        return 1
    out[0] = _finish(window)
    oldest = np.uint64(1)  # the weight of the word that leaves the window: _K1 ** ngram
    for _ in range(ngram):
        oldest *= _K1
    for k in range(ngram, count):
        window = window * _K1 + words[k] - words[k - ngram] * oldest
        out[k - ngram + 1] = _finish(window)
    return count - ngram + 1


@njit(cache=True, nogil=True)
def unique(hashes, count, seen, out):  # type: ignore[no-untyped-def]
    """The distinct ones of ``hashes[:count]``, at the start of ``out``, and how many they are.

    Args:
        hashes: uint64.
        count: how many of them.
        seen: scratch, uint64; a larger one takes its place where it is too small.
        out: uint64 (>= count,); may be ``hashes`` itself.

    Returns:
        ``seen`` and the number of distinct hashes.
    """
    size = 16
    while size < 2 * count:
        size *= 2
    if size > len(seen):
        seen = np.empty(size, np.uint64)
    seen[:size] = 0
    mask = np.uint64(size - 1)
    found = 0
    zero = False
    for j in range(count):
        h = hashes[j]
        if h == 0:  # marks a free slot
            if not zero:
                out[found] = h
                found += 1
                zero = True
            continue
        at = h & mask
        while seen[at] != 0 and seen[at] != h:
            at = (at + np.uint64(1)) & mask
        out[found] = h  # written over by the next one where it is known
        found += seen[at] == 0
        seen[at] = h
    return seen, found


@njit(cache=True, nogil=True)
def _minima(offsets, data, fold, ngram, scale, shift, minima, counts):  # type: ignore[no-untyped-def]
    """Minima, uint32 (n, functions), and distinct shingles, int32 (n,), of n texts, written to the last two arguments.

    One function at a time runs over a stretch of hashes, filled up with one of them so that no few are left over.
    """
    last = np.empty(64, np.uint8)
    words = np.empty(1 << 12, np.uint64)
    hashes = np.empty(1 << 12, np.uint64)
    seen = np.empty(1 << 13, np.uint64)
    high = np.empty(_STRETCH, np.uint32)
    for doc in range(len(offsets) - 1):
        most = (offsets[doc + 1] - offsets[doc] + 1) // 2
        if most > len(words):  # what is not written to takes no memory
            words, hashes = np.empty(most, np.uint64), np.empty(most, np.uint64)
        count = hash_words(data, offsets[doc], offsets[doc + 1], fold, last, words)
        count = _shingle(words, count, ngram, hashes)
        seen, found = unique(hashes, count, seen, hashes)
        counts[doc] = found
        least = minima[doc]
        least[:] = 0xFFFFFFFF
        for first in range(0, found, _STRETCH):
            held = min(_STRETCH, found - first)
            full = (held + _WIDTH - 1) // _WIDTH * _WIDTH
            for j in range(held):
                high[j] = np.uint32(hashes[first + j] >> np.uint64(32))
            for j in range(held, full):
                high[j] = high[0]
            stretch = high[:full]  # a loop from 0 is vectorised
            for k in range(len(scale)):
                m = least[k]
                by = scale[k]
                plus = shift[k]
                for j in range(len(stretch)):
                    m = min(m, np.uint32(stretch[j] * by + plus))
                least[k] = m


@njit(cache=True, nogil=True)
def fold_bands(minima, bands, rows, keys):  # type: ignore[no-untyped-def]
    """Fold minima, unsigned (n, bands * rows), into band keys, written to ``keys``, uint64 (n, bands)."""
    for doc in range(len(minima)):
        for band in range(bands):
            key = _finish(np.uint64(band + 1) * _K1)  # so that no two bands share a key
            for k in range(band * rows, (band + 1) * rows):
                key = absorb(key, np.uint64(minima[doc, k]))
            keys[doc, band] = _finish(key)


@njit(cache=True, nogil=True)
def _sort(hashes, starts, out):  # type: ignore[no-untyped-def]
    """Distinct hashes in order, written to ``out``: dealt out by their first bits, which leaves little to move.

    Args:
        hashes: uint64 (n,), distinct and evenly spread, as finished hashes are.
        starts: scratch, int64; a larger one takes its place where it is too small.
        out: uint64 (n,).

    Returns:
        ``starts``.
    """
    bits = 4
    while (1 << bits) < len(hashes):
        bits += 1
    buckets = 1 << bits
    shift = np.uint64(64 - bits)
    if buckets >= len(starts):
        starts = np.empty(buckets + 1, np.int64)
    starts[: buckets + 1] = 0
    for h in hashes:
        starts[(h >> shift) + np.uint64(1)] += 1
    for bucket in range(buckets):
        starts[bucket + 1] += starts[bucket]
    for h in hashes:
        bucket = h >> shift
        out[starts[bucket]] = h
        starts[bucket] += 1
    for j in range(1, len(hashes)):
        h = out[j]
        k = j
        while k > 0 and out[k - 1] > h:
            out[k] = out[k - 1]
            k -= 1
        out[k] = h
    return starts


@njit(cache=True, nogil=True)
def _shingle_sets(offsets, data, fold, ngram):  # type: ignore[no-untyped-def]
    """The sorted distinct shingle hashes of each text, one after the other, and their offsets, int64 (n + 1,)."""
    last = np.empty(64, np.uint8)
    words = np.empty(1 << 12, np.uint64)
    hashes = np.empty(1 << 12, np.uint64)
    seen = np.empty(1 << 13, np.uint64)
    starts = np.empty(1 << 12, np.int64)
    # A word and what ends it are two bytes or more. What is not written to takes no memory.
    sets = np.empty((offsets[-1] - offsets[0]) // 2 + len(offsets), np.uint64)
    ends = np.zeros(len(offsets), np.int64)
    total = 0
    for doc in range(len(offsets) - 1):
        most = (offsets[doc + 1] - offsets[doc] + 1) // 2
        if most > len(words):
            words, hashes = np.empty(most, np.uint64), np.empty(most, np.uint64)
        count = hash_words(data, offsets[doc], offsets[doc + 1], fold, last, words)
        count = _shingle(words, count, ngram, hashes)
        seen, found = unique(hashes, count, seen, hashes)
        starts = _sort(hashes[:found], starts, sets[total : total + found])
        total += found
        ends[doc + 1] = total
    return sets[:total], ends


def minima(offsets: I64, data: U8, functions: int, ngram: int, seed: int) -> tuple[U32, I32]:
    """Minima, uint32 (n, functions), and numbers of distinct shingles, int32 (n,), of n texts.

    Without a word a text has no shingle; its minima are all ones.
    """
    n = len(offsets) - 1
    start = mix64(np.full(1, seed % 2**64, dtype=np.uint64))
    numbers = np.arange(1, 2 * functions + 1, dtype=np.uint64)
    constants = (mix64(numbers * _K1 ^ start) >> np.uint64(32)).astype(np.uint32)
    least, counts = np.empty((n, functions), dtype=np.uint32), np.empty(n, dtype=np.int32)
    _minima(offsets, data, folding(), ngram, constants[0::2] | np.uint32(1), constants[1::2], least, counts)
    return least, counts


def shingle_sets(offsets: I64, data: U8, ngram: int) -> tuple[U64, I64]:
    """The sorted distinct shingle hashes of n texts, one after the other, and their offsets, int64 (n + 1,)."""
    hashes, ends = _shingle_sets(offsets, data, folding(), ngram)
    return hashes, ends
