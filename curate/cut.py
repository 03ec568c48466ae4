"""Spans taken out of texts: what ``lines`` and ``substring`` found, and anything else that names bytes of a text.

    docs.then(lines.repeated, config).then(cut.spans, cut.Cut(column="repeated_lines", counted="lines"))

An edited text is what is left, in order. Where a cut would join two words (no white space on either side), a line feed
is put between them. A *fragment*, what is left between two cuts or between a cut and an end of the text, is taken out
too where it is shorter than ``min_fragment``. An edited text loses white space at its ends; one in which only white
space is left has no row any more, and its document is dropped as ``no_rows_left``. A text without spans is left exactly
as it is.

Cost: one copy of the text. The columns measured before are gone, as after every stage that replaces rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from curate.columns import INT32, INT64, ROW, TEXT
from curate.errors import BadData, UnknownSetting
from curate.stage import Grain, stage
from curate.text import SPACE, classes, next_character, string_buffers


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Which spans are taken out.

    Args:
        column: holds the spans: bytes of the text, start and end in turn, in order and without overlap; null is none.
        counted: what a span is, in the name of the column that counts them: ``"lines"`` gives ``lines_removed``.
        min_fragment: bytes that a piece beside a cut must have, white space at its ends aside, to be left.
    """

    column: str
    counted: str = "spans"
    min_fragment: int = 0

    def __post_init__(self) -> None:
        if self.min_fragment < 0:
            raise UnknownSetting(f"min_fragment is {self.min_fragment}", where="Cut", fix="give 0 or more bytes")


@njit(cache=True, nogil=True)
def _last_character(data, start, end):  # type: ignore[no-untyped-def]
    """Where the last character of ``data[start:end]`` begins."""
    i = end - 1
    while i > start and (data[i] & 0xC0) == 0x80:
        i -= 1
    return i


@njit(cache=True, nogil=True)
def _strip(data, start, end, table):  # type: ignore[no-untyped-def]
    """``data[start:end]`` without white space at its ends, as (start, end)."""
    while start < end:
        point, after = next_character(data, start, end)
        if not table[point] & SPACE:
            break
        start = after
    while start < end:
        before = _last_character(data, start, end)
        point, _ = next_character(data, before, end)
        if not table[point] & SPACE:
            break
        end = before
    return start, end


@njit(cache=True, nogil=True)
def _without(offsets, data, at, spans, least, table):  # type: ignore[no-untyped-def]
    """The texts without their spans.

    Returns bytes, uint8; offsets, int64 (n + 1,); which texts are left, bool (n,); bytes taken out, int64 (n,); and the
    number of a row whose spans do not lie in order within its text, at whole characters, or -1.
    """
    rows = len(offsets) - 1
    out = np.empty(offsets[rows] - offsets[0] + len(spans), np.uint8)
    ends = np.zeros(rows + 1, np.int64)
    left = np.ones(rows, np.bool_)
    removed = np.zeros(rows, np.int64)
    n = 0
    for row in range(rows):
        start, end = offsets[row], offsets[row + 1]
        first, last = at[row], at[row + 1]
        begin = n
        if first == last:
            out[n : n + end - start] = data[start:end]
            n += end - start
            ends[row + 1] = n
            continue
        position = start
        for k in range(first, last + 2, 2):
            stop = start + spans[k] if k < last else end
            if stop < position or stop > end or (k < last and not spans[k] <= spans[k + 1] <= end - start):
                return out, ends, left, removed, row
            if (stop < end and data[stop] & 0xC0 == 0x80) or (position < end and data[position] & 0xC0 == 0x80):
                return out, ends, left, removed, row
            a, b = _strip(data, position, stop, table)
            if b > a and b - a >= least:
                if n > begin:
                    point, _ = next_character(data, position, stop)
                    before, _ = next_character(out, _last_character(out, begin, n), n)
                    if not table[point] & SPACE and not table[before] & SPACE:
                        out[n] = 10
                        n += 1
                out[n : n + stop - position] = data[position:stop]
                n += stop - position
            if k < last:
                position = start + spans[k + 1]
        a, b = _strip(out, begin, n, table)
        for k in range(b - a):
            out[begin + k] = out[a + k]
        n = begin + b - a
        left[row] = b > a
        removed[row] = end - start - (b - a)
        ends[row + 1] = n
    return out[:n], ends, left, removed, -1


def _spans_reads(config: Cut) -> Mapping[str, pa.DataType]:
    return {"text": TEXT, config.column: pa.list_(INT32)}


def _spans_writes(config: Cut) -> Mapping[str, pa.DataType]:
    return {"text": TEXT, f"{config.counted}_removed": INT64, "bytes_removed": INT64}


@stage(reads=_spans_reads, writes=_spans_writes, grain=Grain.MANY, version="1")
def spans(docs: pa.Table, config: Cut) -> pa.Table:
    """Each text without its spans; how many spans went, and by how many bytes the text became shorter.

    Raises:
        BadData: the spans of a text overlap, reach beyond it or cut a character: they were found in another text.
    """
    offsets, data = string_buffers(docs["text"])
    column = docs[config.column].combine_chunks()
    sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    at: npt.NDArray[np.int64] = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    flat = column.flatten().fill_null(-1).to_numpy(zero_copy_only=False)
    odd = np.flatnonzero(sizes % 2)  # a start without an end: not for the kernel, which reads them in twos
    if len(odd):
        bad = int(odd[0])
    else:
        out, ends, left, removed, bad = _without(offsets, data, at, flat, config.min_fragment, classes())
    if bad >= 0:
        raise BadData(
            f"the spans in {config.column!r} do not lie in order within their text",
            where=f"cut.spans, row {bad} of a part",
            fix="find them again in the text as it is now: another stage replaced it since",
        )
    text = pa.LargeStringArray.from_buffers(docs.num_rows, pa.py_buffer(ends), pa.py_buffer(out))
    rows = np.flatnonzero(left)
    table = pa.table(
        {
            ROW: pa.array(np.arange(docs.num_rows), INT64),
            "text": text,
            f"{config.counted}_removed": pa.array(sizes // 2, INT64),
            "bytes_removed": pa.array(removed, INT64),
        }
    )
    return table if len(rows) == docs.num_rows else table.take(pa.array(rows))
