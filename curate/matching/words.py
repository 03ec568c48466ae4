"""What a word is where copies are looked for: runs of letters and digits in one form, and the hash of each.

Words are without case and accents and without characters that do not show, so that layout, punctuation, emphasis and
the many ways to write one letter do not hide a copy. Scripts that write no spaces (Han, kana, Thai, Lao, Burmese,
Khmer) count one word a character.

Elsewhere: what a word is for quality measures and near-duplicates (text.py, minhash.py).
"""

# mypy: disable-error-code="assignment, call-arg"
# (integers in kernels are numba's)

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.columns import TEXT
from curate.text import next_character, string_buffers

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

# Blocks of scripts without spaces between words, in hexadecimal.
ALONE_BLOCKS = """
    E00-EFF 1000-109F 1780-17FF 3005-3007 3040-30FF 31F0-31FF 3400-4DBF 4E00-9FFF F900-FAFF FF66-FF9F 20000-3FFFF
"""
APOSTROPHE = "\u02bc"    # a letter to Unicode, and written in place of the two that are punctuation
SILENT_CATEGORIES = ("Mn", "Mc", "Me", "Cf")     # accents and vowel signs; joiners, soft hyphens, marks of direction
ALONE = 1 << 30          # a word by itself
SILENT = 1 << 29         # as if it were not there: it neither makes nor ends a word
POINT = (1 << 29) - 1
FOLD_SIZE = 0x40000      # no letter or digit has a code point from here on

K1 = np.uint64(0x9E3779B97F4A7C15)        # odd constants: the golden ratio, and a prime of xxHash
K2 = np.uint64(0xC2B2AE3D27D4EB4F)
SPACE = np.uint8(32)


@cache
def folding() -> U32:
    """For each code point, uint32 (FOLD_SIZE,), the character it counts as, with ALONE; or SILENT; or 0: in no word.

    A character counts as the lower case of its compatibility decomposition (Unicode, normal form KD) without marks,
    where that is a single character, so that one letter is one letter in whatever form it comes.
    """
    table = np.zeros(FOLD_SIZE, dtype=np.uint32)
    for point in range(FOLD_SIZE):
        character = chr(point)
        if unicodedata.category(character) in SILENT_CATEGORIES:
            table[point] = SILENT
        elif character.isalnum() and character != APOSTROPHE:
            parts = unicodedata.normalize("NFKD", character) if point > 127 else character
            bare = [c for c in parts if unicodedata.category(c) not in SILENT_CATEGORIES]
            folded = (bare[0] if len(bare) == 1 else character).lower()[0]
            if not bare:
                table[point] = SILENT
            elif folded.isalnum():         # an accent that stands on a space is no letter
                table[point] = ord("σ" if folded == "ς" else folded)
    for block in ALONE_BLOCKS.split():
        first, last = (int(end, 16) for end in block.split("-"))
        table[(table >= first) & (table <= last)] |= ALONE
    table.flags.writeable = False
    return table


@njit(cache=True, nogil=True)
def finish(x: np.uint64) -> np.uint64:
    """The finaliser of splitmix64, as in ``curate.hashing.mix64``."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def next_word(data: U8, i: int, end: int, fold: U32) -> tuple[int, int, np.uint64]:
    """The first byte of the next word, the byte after it, and its hash; the first byte is -1 if there is none."""
    value = np.uint64(0)
    start = -1
    while i < end:
        point, after = next_character(data, i, end)
        folded = fold[point] if point < FOLD_SIZE else np.uint32(0)
        if folded == 0:
            if start >= 0:
                break
            i = after
            continue
        if folded == SILENT:
            i = after
            continue
        if start >= 0 and folded & ALONE:
            break
        if start < 0:
            start = i
        value = (value ^ np.uint64(folded & POINT)) * K2
        value ^= value >> np.uint64(32)
        i = after
        if folded & ALONE:
            break
    return start, i, finish(value + K1)


@njit(cache=True, nogil=True)
def put(into: U8, at: int, point: np.int64) -> int:
    """Write a code point as UTF-8; the byte after it."""
    if point < 0x80:
        into[at] = point
        return at + 1
    if point < 0x800:
        into[at] = 0xC0 | (point >> 6)
        into[at + 1] = 0x80 | (point & 0x3F)
        return at + 2
    if point < 0x10000:
        into[at] = 0xE0 | (point >> 12)
        into[at + 1] = 0x80 | ((point >> 6) & 0x3F)
        into[at + 2] = 0x80 | (point & 0x3F)
        return at + 3
    into[at] = 0xF0 | (point >> 18)
    into[at + 1] = 0x80 | ((point >> 12) & 0x3F)
    into[at + 2] = 0x80 | ((point >> 6) & 0x3F)
    into[at + 3] = 0x80 | (point & 0x3F)
    return at + 4


@njit(cache=True, nogil=True)
def normalise(offsets: I64, data: U8, fold: U32, starts: I64, into: U8) -> None:
    """Write each text's words, a space between two: text ``t`` becomes ``into[starts[t]:starts[t + 1]]``."""
    at = 0
    for t in range(offsets.size - 1):
        starts[t] = at
        i = offsets[t]
        while True:
            start, i, _ = next_word(data, i, offsets[t + 1], fold)
            if start < 0:
                break
            if at > starts[t]:
                into[at] = SPACE
                at += 1
            while start < i:
                point, start = next_character(data, start, i)
                if fold[point] != SILENT:
                    at = put(into, at, np.int64(fold[point] & POINT))
    starts[offsets.size - 1] = at


def buffers(texts: pa.ChunkedArray | pa.Array) -> tuple[I64, U8]:
    """``string_buffers``, always read-only: a kernel is compiled again for arrays that can be written to."""
    offsets, data = string_buffers(texts)
    offsets.flags.writeable = data.flags.writeable = False
    return offsets, data


def normalised(texts: pa.ChunkedArray) -> pa.Array:
    """The words of each text, lower-cased, a space between two; large_string (n,), "" for null."""
    offsets, data = buffers(texts)
    starts = np.empty(len(offsets), dtype=np.int64)
    into = np.empty(2 * int(offsets[-1] - offsets[0]), dtype=np.uint8)     # three bytes may become four, with a space
    normalise(offsets, data, folding(), starts, into)
    parts = [None, pa.py_buffer(starts), pa.py_buffer(into[: starts[-1]].copy())]
    return pa.Array.from_buffers(TEXT, len(starts) - 1, parts)


@njit(cache=True, nogil=True)
def ring(words: int) -> int:
    """Slots of a ring for at least as many words: a power of two, so that word ``k`` is in slot ``k & (slots - 1)``."""
    slots = 1
    while slots < words:
        slots *= 2
    return slots


@njit(cache=True, nogil=True)
def hash_of(hashes: U64, last: int, words: int) -> np.uint64:
    """The hash of a run of words that ends with word ``last``; ``hashes`` is a ring."""
    value = np.uint64(0)
    for k in range(last - words + 1, last + 1):
        value = value * K1 + hashes[k & (hashes.size - 1)]
    return finish(value + np.uint64(words) * K2)
