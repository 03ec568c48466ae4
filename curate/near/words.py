r"""Words, shingles and minima of our own signatures, as kernels over Arrow buffers.

A word is a run of letters, digits and underscores of the lower-cased text (Python's ``\w+``); a document's shingles
are its distinct runs of ``ngram`` words, or all its words as one shingle where it has fewer.

Each shingle is hashed to 64 bits: a polynomial over its words' hashes, rolled from one to the next, and finished. The
minima are of ``h * scale + shift`` modulo 2**32 over the high halves h: 32 bits are enough to find pairs, which are
verified by the 64-bit hashes.

Simplified: final sigma counts as sigma, and which characters are letters follows the Unicode tables of the running
Python. Cost: over 150 MB of text a second and core for 112 minima.
"""

from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.hashing import mix64
from curate.text import next_character

U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
U8: TypeAlias = npt.NDArray[np.uint8]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]

_K1 = np.uint64(0x9E3779B97F4A7C15)  # odd constants: the golden ratio, and primes of xxHash
_K2 = np.uint64(0xC2B2AE3D27D4EB4F)
_K3 = np.uint64(0x165667B19E3779F9)
_WIDE = np.uint64(1 << 40)  # marks a character outside ASCII; no run of ASCII word bytes has this byte
_ENDS = np.uint32(1 << 31)  # in the folding table: the word ends after this character
_HIGH = 0x40000  # no letter or digit lies in the planes from here on


@cache
def _folding() -> npt.NDArray[np.uint32]:
    """For each code point, uint32 (0x40000,), its lower-case form, or 0 where it is no part of a word."""
    table = np.zeros(_HIGH, dtype=np.uint32)
    for point in range(_HIGH):
        char = chr(point)
        if char.isalnum() or char == "_":
            table[point] = ord(char.lower()[0])
    table[0x130] |= _ENDS  # dotted capital I is lower-cased as i and a combining dot, which is no letter
    table[ord("ς")] = ord("σ")  # str.lower chooses between them by context
    return table


@njit(cache=True, nogil=True, inline="always")
def _absorb(h: np.uint64, x: np.uint64) -> np.uint64:
    h = (h ^ x) * _K2
    return h ^ (h >> np.uint64(32))


@njit(cache=True, nogil=True, inline="always")
def _finish(x: np.uint64) -> np.uint64:
    """The finaliser of splitmix64, as in ``curate.hashing.mix64``."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _shingle(data, start, end, fold, ngram, ring, out):  # type: ignore[no-untyped-def]
    """Hash every shingle of one text, repeats included.

    A word's hash absorbs up to eight ASCII characters at a time, so that short words have distinct hashes. A shingle's
    hash is a polynomial of its words' hashes, rolled from one to the next, and finished.

    Args:
        data: bytes, uint8.
        start: first byte of the text.
        end: byte after its last.
        fold: ``_folding()``.
        ngram: words in a shingle.
        ring: scratch, uint64 (ngram,).
        out: scratch, uint64, for the hashes; a larger one takes its place where it is too small.

    Returns:
        The hashes' array and how many it holds.
    """
    oldest = np.uint64(1)  # the weight of the word that leaves the window: _K1 ** ngram
    for _ in range(ngram):
        oldest *= _K1
    ring[:] = 0
    window = np.uint64(0)
    words = 0
    count = 0
    slot = 0
    i = start
    while i < end:
        h = np.uint64(0)
        held = np.uint64(0)  # ASCII characters not yet absorbed, one a byte
        holds = 0
        inside = False
        while i < end:
            c = data[i]
            if c < 128:
                i += 1
                char = fold[c]
                if char == 0:
                    if inside:
                        break
                    continue
                inside = True
                held = (held << np.uint64(8)) | np.uint64(char)
                holds += 1
                if holds == 8:
                    h = _absorb(h, held)
                    held = np.uint64(0)
                    holds = 0
                continue
            point, i = next_character(data, i, end)
            char = fold[point] if point < _HIGH else np.uint32(0)
            if char == 0:
                if inside:
                    break
                continue
            inside = True
            if holds:
                h = _absorb(h, held)
                held = np.uint64(0)
                holds = 0
            h = _absorb(h, np.uint64(char & ~_ENDS) | _WIDE)
            if char & _ENDS:
                break
        if not inside:
            break
        word = _absorb(h, held)
        window = window * _K1 + word - ring[slot] * oldest
        ring[slot] = word
        slot = slot + 1 if slot + 1 < ngram else 0
        words += 1
        if words >= ngram:
            if count == len(out):
                grown = np.empty(2 * count, np.uint64)
                grown[:count] = out
                out = grown
            out[count] = _finish(window)
            count += 1
    if 0 < words < ngram:
        out[0] = _finish(window + np.uint64(words) * _K3)
        count = 1
    return out, count


@njit(cache=True, nogil=True)
def unique(hashes, count, seen, out):  # type: ignore[no-untyped-def]
    """The distinct ones of ``hashes[:count]``, at the start of ``out``, and how many they are.

    Args:
        hashes: uint64.
        count: how many of them.
        seen: scratch, uint64; a larger one takes its place where it is too small.
        out: uint64 (>= count,).

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

    One function at a time runs over a stretch of hashes that stays in the nearest cache.
    """
    ring = np.empty(ngram, np.uint64)
    out = np.empty(1 << 12, np.uint64)
    seen = np.empty(1 << 13, np.uint64)
    distinct = np.empty(1 << 12, np.uint64)
    high = np.empty(2048, np.uint32)
    for doc in range(len(offsets) - 1):
        out, count = _shingle(data, offsets[doc], offsets[doc + 1], fold, ngram, ring, out)
        least = minima[doc]
        least[:] = 0xFFFFFFFF
        if count > len(distinct):
            distinct = np.empty(len(out), np.uint64)
        seen, found = unique(out, count, seen, distinct)
        counts[doc] = found
        for first in range(0, found, 2048):
            stretch = high[: min(2048, found - first)]  # a loop from 0 is vectorised
            for j in range(len(stretch)):
                stretch[j] = np.uint32(distinct[first + j] >> np.uint64(32))
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
                key = _absorb(key, np.uint64(minima[doc, k]))
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
    ring = np.empty(ngram, np.uint64)
    out = np.empty(1 << 12, np.uint64)
    seen = np.empty(1 << 13, np.uint64)
    starts = np.empty(1 << 12, np.int64)
    distinct = np.empty(1 << 12, np.uint64)
    # A word and what ends it are two bytes or more. What is not written to takes no memory.
    sets = np.empty((offsets[-1] - offsets[0]) // 2 + len(offsets), np.uint64)
    ends = np.zeros(len(offsets), np.int64)
    total = 0
    for doc in range(len(offsets) - 1):
        out, count = _shingle(data, offsets[doc], offsets[doc + 1], fold, ngram, ring, out)
        if count > len(distinct):
            distinct = np.empty(len(out), np.uint64)
        seen, found = unique(out, count, seen, distinct)
        starts = _sort(distinct[:found], starts, sets[total : total + found])
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
    _minima(offsets, data, _folding(), ngram, constants[0::2] | np.uint32(1), constants[1::2], least, counts)
    return least, counts


def shingle_sets(offsets: I64, data: U8, ngram: int) -> tuple[U64, I64]:
    """The sorted distinct shingle hashes of n texts, one after the other, and their offsets, int64 (n + 1,)."""
    hashes, ends = _shingle_sets(offsets, data, _folding(), ngram)
    return hashes, ends
