"""Pieces between newlines, as spans of bytes, and what repeats among them."""

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.text import INK, Bytes, Int, Offsets, first_equal, next_character, read_span


@njit(cache=True, nogil=True)
def between_runs(data: Bytes, start: Int, end: Int, newlines: int) -> Offsets:
    """The pieces, int64 (m, 2), between runs of at least so many newlines; at least one, perhaps empty."""
    most = 1
    for k in range(start, end):
        most += data[k] == 0x0A
    spans = np.empty((most, 2), dtype=np.int64)
    spans[0, 0] = start
    m = 0
    i: Int = start
    while i < end:
        if data[i] != 0x0A:
            i += 1
            continue
        run = i
        while i < end and data[i] == 0x0A:
            i += 1
        if i - run >= newlines:
            spans[m, 1] = run
            m += 1
            spans[m, 0] = i
    spans[m, 1] = end
    return spans[: m + 1]


@njit(cache=True, nogil=True)
def between(data: Bytes, start: Int, end: Int, newlines: int) -> Offsets:
    """The pieces, int64 (m, 2), that ``str.split`` gives for exactly so many newlines (one or two)."""
    most = 1
    for k in range(start, end):
        most += data[k] == 0x0A
    spans = np.empty((most, 2), dtype=np.int64)
    spans[0, 0] = start
    m = 0
    i: Int = start
    while i + newlines <= end:
        if data[i] != 0x0A or data[i + newlines - 1] != 0x0A:
            i += 1
            continue
        spans[m, 1] = i
        i += newlines
        m += 1
        spans[m, 0] = i
    spans[m, 1] = end
    return spans[: m + 1]


@njit(cache=True, nogil=True)
def trim(data: Bytes, spans: Offsets, table: Bytes) -> Offsets:
    """The pieces without whitespace at their ends, empty ones left out."""
    kept = 0
    for k in range(len(spans)):
        first: Int = -1
        last: Int = -1
        i = spans[k, 0]
        while i < spans[k, 1]:
            point, after = next_character(data, i, spans[k, 1])
            if table[point] & INK:
                if first < 0:
                    first = i
                last = after
            i = after
        if first >= 0:
            spans[kept, 0] = first
            spans[kept, 1] = last
            kept += 1
    return spans[:kept]


@njit(cache=True, nogil=True)
def inked(data: Bytes, spans: Offsets, table: Bytes) -> Offsets:
    """The pieces with something in them."""
    kept = 0
    for k in range(len(spans)):
        _, _, seen, _ = read_span(data, spans[k, 0], spans[k, 1], table)
        if seen & INK:
            spans[kept] = spans[k]
            kept += 1
    return spans[:kept]


@njit(cache=True, nogil=True)
def count_copies(data: Bytes, spans: Offsets, table: Bytes, out: npt.NDArray[np.int64]) -> None:
    """Write pieces, their characters, pieces that occur more than once, theirs, first copies, theirs to ``out``."""
    m = len(spans)
    keys = np.empty(m, dtype=np.uint64)
    lengths = np.empty(m, dtype=np.int64)
    for k in range(m):
        keys[k], lengths[k], _, _ = read_span(data, spans[k, 0], spans[k, 1], table)
    first = np.empty(m, dtype=np.int32)
    first_equal(keys, first)
    copies = np.zeros(m, dtype=np.int32)
    for k in range(m):
        copies[first[k]] += 1
    out[0] = m
    for k in range(m):
        out[1] += lengths[k]
        if copies[first[k]] > 1:
            out[2] += 1
            out[3] += lengths[k]
        if first[k] == k:
            out[4] += 1
            out[5] += lengths[k]


@njit(cache=True, nogil=True)
def ends_with(data: Bytes, start: Int, end: Int, suffix: Bytes) -> bool:
    """Does ``data[start:end]`` end with the bytes of ``suffix``, ASCII letters compared in lower case?"""
    if end - start < suffix.size:
        return False
    for k in range(suffix.size):
        byte = data[end - suffix.size + k]
        if byte != suffix[k] and not (0x41 <= byte <= 0x5A and byte + 0x20 == suffix[k]):
            return False
    return True
