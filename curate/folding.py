"""Texts as they are compared: lower-cased, white space collapsed, or as CCNet does it. One table of code points each.

A *folding* says what becomes of each code point: it is written as another one, dropped, or taken for white space, of
which a run is written as one space. White space at both ends is never written. One code point becomes at most one, so
that a kernel folds a text in one walk.

``none``    every character as it is.
``space``   lower-cased (``str.lower`` of the character, its first character where there are several), white space
            collapsed.
``ccnet``   as CCNet compares paragraphs (Wenzek et al. 2020, section 4.1; cc_net/text_normalizer.py, function
            normalize_for_dedup): lower-cased, digits as 0, control characters and its list of marks dropped.

Used by ``exact`` and ``lines``.
"""

from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from curate.kernels import njit
from curate.text import SPACE, Bytes, Int, classes, code_points, next_character

Folding: TypeAlias = npt.NDArray[np.uint32]

FOLDINGS = ("none", "space", "ccnet")
_DROP = np.uint32(1 << 30)
_COLLAPSE = np.uint32(1 << 31)
_STRIP = np.uint32(1 << 29)  # white space that is written as it is, but not at the ends
_POINT = np.uint32((1 << 21) - 1)
# The marks that CCNet drops, and control characters.
_CCNET = """
    0-1F 7F-9F AB B4 BB 2013-2014 2019 201C-201E 2026 2236 2501 25BA 3001-3002 3008-300B 300C-300D 3010-3011 FF01 FF05
    FF08-FF09 FF0C FF0E FF11 FF1A-FF1B FF1F FF5E
"""


@lru_cache(maxsize=3)
def folding(name: str) -> Folding:
    """What becomes of every code point, uint32 (0x110000,), for one of FOLDINGS."""
    table = np.arange(0x110000, dtype=np.uint32)
    if name != "none":
        for point in range(0x110000):
            lower = chr(point).lower()
            if len(lower) > 1 or ord(lower) != point:
                table[point] = ord(lower[0])
    space = classes() & SPACE != 0
    if name == "space":
        table[space] = _COLLAPSE
    else:
        table[space] |= _STRIP
    if name == "ccnet":
        table[[point for point in range(0x110000) if chr(point).isdecimal()]] = ord("0")
        table[[point for point in code_points(_CCNET) if not space[point]]] = _DROP
        table[[point for point in code_points(_CCNET) if space[point]]] = _DROP | _STRIP
    return table


@njit(cache=True, nogil=True)
def write_character(out: Bytes, at: Int, point: Int) -> Int:
    """Write a code point as UTF-8; returns the position after it."""
    if point < 0x80:
        out[at] = point
        return at + 1
    if point < 0x800:
        out[at] = 0xC0 | (point >> 6)
        out[at + 1] = 0x80 | (point & 0x3F)
        return at + 2
    if point < 0x10000:
        out[at] = 0xE0 | (point >> 12)
        out[at + 1] = 0x80 | ((point >> 6) & 0x3F)
        out[at + 2] = 0x80 | (point & 0x3F)
        return at + 3
    out[at] = 0xF0 | (point >> 18)
    out[at + 1] = 0x80 | ((point >> 12) & 0x3F)
    out[at + 2] = 0x80 | ((point >> 6) & 0x3F)
    out[at + 3] = 0x80 | (point & 0x3F)
    return at + 4


@njit(cache=True, nogil=True)
def fold(data: Bytes, start: Int, end: Int, table: Folding, out: Bytes) -> tuple[Int, Int]:
    """Write ``data[start:end]`` folded to ``out`` and return its bytes and characters.

    ``out`` has room for twice the bytes and 8.
    """
    n: Int = 0
    length: Int = 0
    kept: Int = 0  # what is written up to the last character that is not white space
    kept_length: Int = 0
    space = False
    i = start
    while i < end:
        point, i = next_character(data, i, end)
        char = table[point]
        if char < _STRIP:
            if space:
                out[n] = 32
                n += 1
                length += 1
                space = False
            n = write_character(out, n, np.int64(char))
            length += 1
            kept = n
            kept_length = length
        elif char & _COLLAPSE:
            space = bool(n > 0)
        elif not char & _DROP and n > 0:
            n = write_character(out, n, np.int64(char & _POINT))
            length += 1
    return kept, kept_length
