"""All spans of a column in one walk, and the column with the spans replaced.

``find`` walks every text once for ``@`` and once for digits, ``+``, ``(`` and ``:``; at each of these the functions of
``addresses`` and ``numbers`` look at one place. An e-mail address wins over what lies in it; of two numbers the one
that starts first wins, and at the same place the one with the strictest check. Spans of a text do not overlap and are
in order.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.finding import addresses, numbers
from curate.finding.addresses import AT, COLON, DIGIT, Flags, Hashes
from curate.finding.numbers import OPEN, PLUS
from curate.text import Bytes, Int, Offsets, string_buffers

KINDS = ("email", "ipv4", "ipv6", "iban", "card", "ssn", "phone")
EMAIL, IPV4, IPV6, IBAN, CARD, SSN, PHONE = range(len(KINDS))

Spans = Offsets          # int64 (m, 4): row, first byte in ``data``, the byte after the last, kind

_TRIGGER = DIGIT.copy()
_TRIGGER[[PLUS, OPEN, COLON]] = True


def find(texts: pa.Array | pa.ChunkedArray, kinds: tuple[str, ...], *, datatrove: bool = False) -> tuple[Spans, int]:
    """Spans of these kinds in the order of the rows, int64 (m, 4), and the number of texts. A null is an empty text.

    With ``datatrove`` e-mail and IPv4 addresses are what its expressions match, and there are no others.
    """
    offsets, data = string_buffers(texts)
    wanted = np.array([kind in kinds for kind in KINDS])
    table = addresses.characters()
    four, four_public, six, six_public = addresses.public()
    spans = _find(offsets, data, wanted, datatrove, table, four, four_public, six, six_public)
    return spans, len(offsets) - 1


def count(spans: Spans, rows: int) -> npt.NDArray[np.int64]:
    """Spans by row and kind, int64 (rows, kinds)."""
    counts = np.zeros((rows, len(KINDS)), dtype=np.int64)
    np.add.at(counts, (spans[:, 0], spans[:, 3]), 1)
    return counts


def replace(texts: pa.Array | pa.ChunkedArray, spans: Spans, by: dict[str, tuple[str, ...]]) -> pa.Array:
    """The texts with every span replaced; nulls stay.

    Args:
        texts: the column.
        spans: of that column, see ``find``.
        by: kind to replacements, taken in turn within a text, from the first one again in the next.
    """
    offsets, data = string_buffers(texts)  # as in ``find``: spans are positions in these bytes
    words = [[w.encode() for w in by.get(kind, ("",))] for kind in KINDS]
    flat = [w for some in words for w in some]
    ends = np.cumsum([0, *map(len, flat)]).astype(np.int64)
    first = np.cumsum([0, *map(len, words)]).astype(np.int64)
    letters = np.frombuffer(b"".join(flat), dtype=np.uint8)
    where, out = _replace(offsets, data, spans, letters, ends, first)
    valid = None if texts.null_count == 0 else pa.array(np.asarray(texts.is_valid())).buffers()[1]
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(where), pa.py_buffer(out), valid, texts.null_count)


@njit(cache=True, nogil=True)
def _grown(spans: Spans) -> Spans:
    out = np.empty((2 * len(spans), 4), dtype=np.int64)
    out[: len(spans)] = spans
    return out


@njit(cache=True, nogil=True)
def _next_at(data: Bytes, i: Int, end: Int) -> Int:
    while i < end and data[i] != AT:
        i += 1
    return i


@njit(cache=True, nogil=True)
def _next_trigger(data: Bytes, i: Int, end: Int) -> Int:
    while i < end and not _TRIGGER[data[i]]:
        i += 1
    return i


@njit(cache=True, nogil=True)
def _find(
    offsets: Offsets,
    data: Bytes,
    wanted: Flags,
    datatrove: bool,
    table: Bytes,
    four: Hashes,
    four_public: Flags,
    six: Hashes,
    six_public: Flags,
) -> Spans:
    spans = np.empty((256, 4), dtype=np.int64)
    mails = np.empty((256, 4), dtype=np.int64)
    m = 0
    for row in range(offsets.size - 1):
        start = offsets[row]
        end = offsets[row + 1]
        n_mails = 0
        if wanted[EMAIL]:
            low: Int = start
            at = _next_at(data, start, end)
            while at < end:
                if datatrove:
                    first, stop = addresses.datatrove_email(data, at, low, start, end, table)
                else:
                    first, stop = addresses.email(data, at, low, start, end, table)
                if stop > 0:
                    if n_mails == len(mails):
                        mails = _grown(mails)
                    mails[n_mails] = (row, first, stop, EMAIL)
                    n_mails += 1
                    low = stop
                at = _next_at(data, at + 1, end)
        k = 0
        i: Int = start
        while i < end or k < n_mails:
            edge = mails[k, 1] if k < n_mails else end
            i = _next_trigger(data, i, edge)
            if m == len(spans):
                spans = _grown(spans)
            if i >= edge:
                if k == n_mails:
                    break
                spans[m] = mails[k]
                m += 1
                i = mails[k, 2]
                k += 1
                continue
            first, stop, kind = (
                _datatrove_number(data, i, edge, wanted, four, four_public)
                if datatrove
                else _number(data, i, start, end, wanted, table, four, four_public, six, six_public)
            )
            if kind >= 0 and stop <= edge and (m == 0 or spans[m - 1, 0] != row or first >= spans[m - 1, 2]):
                spans[m] = (row, first, stop, kind)
                m += 1
            i = max(stop, i + 1)
            if not datatrove and stop < 0 and DIGIT[data[i - 1]]:
                while i < edge and DIGIT[data[i]]:   # nothing starts within a number
                    i += 1
    return spans[:m]


@njit(cache=True, nogil=True)
def _datatrove_number(
    data: Bytes, i: Int, end: Int, wanted: Flags, four: Hashes, four_public: Flags
) -> tuple[Int, Int, int]:
    """The match at byte ``i``: where it starts and ends (-1: no match), its kind (-1: matched, but not public)."""
    if not wanted[IPV4] or not DIGIT[data[i]]:
        return i, -1, -1
    stop, is_public = addresses.datatrove_ipv4(data, i, end, four, four_public)
    return i, stop, IPV4 if is_public else -1


@njit(cache=True, nogil=True)
def _number(
    data: Bytes,
    i: Int,
    start: Int,
    end: Int,
    wanted: Flags,
    table: Bytes,
    four: Hashes,
    four_public: Flags,
    six: Hashes,
    six_public: Flags,
) -> tuple[Int, Int, int]:
    """What lies at byte ``i``: where it starts and ends (-1: nothing), and its kind."""
    if data[i] == COLON:
        if wanted[IPV6]:
            first, stop = addresses.ipv6(data, i, start, end, table, six, six_public)
            if stop > 0:
                return first, stop, IPV6
        return i, -1, -1
    if DIGIT[data[i]]:
        if wanted[IBAN]:
            first, stop = numbers.iban(data, i, start, end, table)
            if stop > 0:
                return first, stop, IBAN
        if wanted[IPV4]:
            first, stop = addresses.ipv4(data, i, start, end, table, four, four_public)
            if stop > 0:
                return first, stop, IPV4
        if wanted[CARD]:
            first, stop = numbers.card(data, i, start, end, table)
            if stop > 0:
                return first, stop, CARD
        if wanted[SSN]:
            first, stop = numbers.ssn(data, i, start, end, table)
            if stop > 0:
                return first, stop, SSN
    if wanted[PHONE]:
        first, stop = numbers.phone(data, i, start, end, table)
        if stop > 0:
            return first, stop, PHONE
    return i, -1, -1


@njit(cache=True, nogil=True)
def _replace(
    offsets: Offsets, data: Bytes, spans: Spans, letters: Bytes, ends: Offsets, first: Offsets
) -> tuple[Offsets, Bytes]:
    n = offsets.size - 1
    turns = np.zeros(first.size, dtype=np.int64)
    chosen = np.empty(len(spans), dtype=np.int64)
    size = offsets[n] - offsets[0]
    row = -1
    for k in range(len(spans)):
        if spans[k, 0] != row:
            row = spans[k, 0]
            turns[:] = 0
        kind = spans[k, 3]
        chosen[k] = first[kind] + turns[kind] % (first[kind + 1] - first[kind])
        turns[kind] += 1
        size += ends[chosen[k] + 1] - ends[chosen[k]] - (spans[k, 2] - spans[k, 1])
    where = np.empty(n + 1, dtype=np.int64)
    out = np.empty(size, dtype=np.uint8)
    at = 0
    k = 0
    for row in range(n):
        where[row] = at
        i = offsets[row]
        while k < len(spans) and spans[k, 0] == row:
            gap = spans[k, 1] - i
            out[at : at + gap] = data[i : i + gap]
            at += gap
            width = ends[chosen[k] + 1] - ends[chosen[k]]
            out[at : at + width] = letters[ends[chosen[k]] : ends[chosen[k] + 1]]
            at += width
            i = spans[k, 2]
            k += 1
        gap = offsets[row + 1] - i
        out[at : at + gap] = data[i : i + gap]
        at += gap
    where[n] = at
    return where, out
