"""Repeated substrings: every byte that lies in a span of ``min_bytes`` bytes which occurs twice in the corpus.

What Lee et al. (2022, "Deduplicating Training Data Makes Language Models Better", section 4.1, ExactSubstr) find with
one suffix array over all text is found here without one, and as exactly, by winnowing (Schleimer, Wilkerson and Aiken
2003, "Winnowing", section 3): of the hashes of a window's short pieces one is the least, the window's *anchor*; equal
windows have equal anchors at equal places.

1. ``anchors`` (EACH) slides a window of ``min_bytes`` bytes over each text and keeps the anchors, one for about every
   75 bytes (pieces have a quarter of the window's bytes).
2. Anchors meet by hash. One that occurs once in the corpus belongs to no repeated window, and is out.
3. Around each occurrence of the others lies its *context*: all windows that have it for an anchor, at most twice
   ``min_bytes`` bytes. Contexts of one anchor meet, and their windows are compared, byte by byte. Contexts that are
   equal as a whole travel once a part, so that a template in every document costs one context a part.
4. The answer of each text is the union of its repeated windows, as byte spans, shrunk to whole characters.
   ``cut.spans`` (MANY, in ``curate.cut``) takes them out.

Which copy goes:

``keep="first"``  windows that occur earlier too: in a document before this one by the policy, or before in this one. A
                  byte that lies in the first occurrence of a repeated window stays, so that every repeated window stays
                  whole in one place.
``keep="none"``   every occurrence, the first one too: what the released code of Lee et al. does
                  (google-research/deduplicate-text-datasets, README, section "Collecting the duplicates together").
                  They deduplicated twice, because the cuts join what was apart.

The unit is the byte. Lee et al. take 50 tokens of byte-pair encoding, about 200 bytes of English, which is the default
here; their code's guide takes 100 bytes. Windows lie within one document.

Exact: hashes only say who meets; two windows count as one where their bytes are equal. Tests compare with a naive
search, and benchmarks/dedup_others.py with a suffix array.

Cost: about 70 MB of text a second and core for anchors; one anchor of 8 bytes for 75 bytes of text is stored, and
exchanged with its address; contexts are about 3.5 times the repeated text, and travel compressed. Nothing is gathered
in one place. Elsewhere: repeated lines (``lines``), near copies (``minhash``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from curate.columns import ADDRESS, BOOL, BYTES, INT32, TEXT, UINT64
from curate.errors import UnknownSetting
from curate.hashing import mix64
from curate.keeper import policy, policy_reads, ranks
from curate.stage import Grain, PerPart, Rows, stage
from curate.text import string_buffers
from curate.xxh3 import hash128

KEEP = ("first", "none")


@dataclass(frozen=True, kw_only=True)
class Windows:
    """What is compared: the settings of ``anchors``, which no other setting changes.

    Args:
        min_bytes: bytes of UTF-8 that a span must have to count as repeated, at least 4.
    """

    min_bytes: int = 200

    def __post_init__(self) -> None:
        if self.min_bytes < 4:
            raise UnknownSetting(f"min_bytes is {self.min_bytes}", where="Substring", fix="give 4 bytes or more")


@dataclass(frozen=True, kw_only=True)
class Substring(Windows):
    """What counts as repeated, and which copies go.

    Args:
        keep: ``"first"`` or ``"none"`` (see the module's story).
        keep_by: policy of columns that says which document is the first; see ``curate.keeper``.
        keep_whole: sources whose documents are never edited, and come first.
        keep_where: a boolean column whose true rows are never edited, and come first.
        seed: the pipeline's seed.
        label: names the hash that breaks ties.
    """

    keep: str = "first"
    keep_by: tuple[str, ...] = ()
    keep_whole: tuple[str, ...] = ()
    keep_where: str = ""
    seed: int = 0
    label: str = "substring"

    def __post_init__(self) -> None:
        super().__post_init__()
        policy(self.keep_by)
        if self.keep not in KEEP:
            raise UnknownSetting(f"keep is {self.keep!r}", where="Substring", fix=f"use one of: {', '.join(KEEP)}")

    def each(self) -> Windows:
        """The settings of ``anchors``."""
        return Windows(min_bytes=self.min_bytes)


def _piece(config: Windows) -> int:
    """Bytes of a piece, of whose hashes the least is the anchor.

    Longer pieces are repeated less often by chance; shorter ones leave fewer anchors.
    """
    return max(1, config.min_bytes // 4)


# ---- anchors: EACH --------------------------------------------------------------------------------------------------

_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
_SPREAD = np.uint64(0xBF58476D1CE4E5B9)


@njit(cache=True, nogil=True, inline="always")
def _finish(x):  # type: ignore[no-untyped-def]
    """Spread a rolling hash over all bits, one to one: its low bits come from the last bytes alone."""
    x = (x ^ (x >> np.uint64(32))) * _SPREAD
    return x ^ (x >> np.uint64(29))


@njit(cache=True, nogil=True)
def _weight(size):  # type: ignore[no-untyped-def]
    """The factor of the byte that leaves a rolling hash over ``size`` bytes."""
    weight = np.uint64(1)
    for _ in range(size):
        weight *= _BASE
    return weight


@njit(cache=True, nogil=True)
def _winnow(data, start, end, window, piece, held, found):  # type: ignore[no-untyped-def]
    """The anchors of ``data[start:end]`` in order.

    Args:
        data: bytes.
        start: the text's first byte.
        end: the byte after its last.
        window: bytes of a window.
        piece: bytes of a piece.
        held: scratch, uint64, more than twice the pieces of a window: hashes of the last pieces, next to each other.
        found: scratch, uint64 (m, 3); a larger one takes its place where it is too small.

    Returns:
        ``found`` and how many rows it has: the hash; where its piece begins, and where the first window begins that has
        it for an anchor, both from the text's start. Of equal least hashes the leftmost counts.
    """
    size = end - start
    count = 0
    if size < window:
        return found, 0
    pieces = window - piece + 1  # of a window
    leaves = _weight(piece)
    value = np.uint64(0)
    for i in range(piece):
        value = value * _BASE + np.uint64(data[start + i])
    base = 0  # held[0] is the hash of this piece
    i = 0  # the next piece
    best = -1
    last = -1  # the anchor that was found last
    least = np.uint64(0)
    total = size - piece + 1
    while i < total:
        keep = min(i - base, pieces - 1)  # hashes that a window to come needs
        for k in range(keep):
            held[k] = held[i - base - keep + k]
        base = i - keep
        stop = min(total, base + len(held))
        for k in range(i, stop):  # the hash of piece k, then roll on
            held[k - base] = _finish(value)
            if k + 1 < total:
                value = value * _BASE + np.uint64(data[start + k + piece]) - np.uint64(data[start + k]) * leaves
        for k in range(i, stop):
            begins = k - pieces + 1  # the window that this piece completes
            new = held[k - base]
            if best < 0 or new < least:
                best = k
                least = new
            elif best < begins:
                least = held[begins - base]
                for j in range(begins - base + 1, k - base + 1):
                    least = min(least, held[j])
                best = begins
                while held[best - base] != least:
                    best += 1
            if best != last and begins >= 0:
                if count == len(found):
                    grown = np.empty((2 * count, 3), np.uint64)
                    grown[:count] = found
                    found = grown
                found[count, 0] = least
                found[count, 1] = best
                found[count, 2] = begins
                count += 1
                last = best
        i = stop
    return found, count


@njit(cache=True, nogil=True)
def _all_anchors(offsets, data, window, piece):  # type: ignore[no-untyped-def]
    """The anchors' hashes of every text, uint64, and where each text's begin, int32 (n + 1,)."""
    held = np.empty(2 * window + 2048, np.uint64)
    found = np.empty((1 << 10, 3), np.uint64)
    hashes = np.empty(1 << 12, np.uint64)
    at = np.zeros(len(offsets), np.int32)
    total = 0
    for row in range(len(offsets) - 1):
        found, count = _winnow(data, offsets[row], offsets[row + 1], window, piece, held, found)
        if total + count > len(hashes):
            grown = np.empty(2 * (total + count), np.uint64)
            grown[:total] = hashes[:total]
            hashes = grown
        hashes[total : total + count] = found[:count, 0]
        total += count
        at[row + 1] = total
    return hashes[:total].copy(), at


@stage(reads={"text": TEXT}, writes={"anchors": pa.list_(UINT64)}, grain=Grain.EACH, version="1")
def anchors(docs: pa.Table, config: Windows) -> pa.Table:
    """The anchors of each text's windows, in order, repeats included; none where the text is shorter than a window."""
    offsets, data = string_buffers(docs["text"])
    hashes, at = _all_anchors(offsets, data, config.min_bytes, _piece(config))
    return pa.table({"anchors": pa.ListArray.from_arrays(pa.array(at, INT32), pa.array(hashes))})


# ---- which anchors are repeated -------------------------------------------------------------------------------------


def _list(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """A list column as offsets, int64 (n + 1,) from 0, and values; null is an empty list."""
    array = column.combine_chunks()
    sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    values = array.flatten().to_numpy(zero_copy_only=False)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)]), values


@njit(cache=True, nogil=True)
def _distinct(offsets, hashes):  # type: ignore[no-untyped-def]
    """The distinct hashes of each row, the row of each, and whether it occurs once (1) or more often (2)."""
    values = np.empty(len(hashes), np.uint64)
    rows = np.empty(len(hashes), np.int64)
    times = np.empty(len(hashes), np.uint8)
    count = 0
    for row in range(len(offsets) - 1):
        ordered = np.sort(hashes[offsets[row] : offsets[row + 1]])
        for k in range(len(ordered)):
            if k > 0 and ordered[k] == ordered[k - 1]:
                times[count - 1] = 2
                continue
            values[count] = ordered[k]
            rows[count] = row
            times[count] = 1
            count += 1
    return values[:count].copy(), rows[:count].copy(), times[:count].copy()


def _send_anchors(docs: pa.Table, config: Substring) -> pa.Table:
    values, rows, times = _distinct(*_list(docs["anchors"]))
    return pa.table({"anchor": values, ADDRESS: docs[ADDRESS].to_numpy()[rows], "times": times})


def _repeated(records: pa.Table, config: Substring) -> pa.Table:
    """Who has an anchor that occurs more than once."""
    anchor = records["anchor"].to_numpy()
    start = np.flatnonzero(np.concatenate([[True], anchor[1:] != anchor[:-1]])) if len(anchor) else np.empty(0, int)
    total = np.add.reduceat(records["times"].to_numpy().astype(np.int64), start) if len(start) else start
    often = np.repeat(total > 1, np.diff(start, append=len(anchor)))
    return records.select(["anchor", ADDRESS]).filter(pa.array(often))


def _as_they_are(records: pa.Table, config: Substring) -> pa.Table:
    return records


def _by_row(records: pa.Table, config: Substring) -> pa.Table:
    """One row for each address: its repeated anchors, sorted."""
    address, anchor = records[ADDRESS].to_numpy(), records["anchor"].to_numpy()
    order = np.lexsort((anchor, address))
    address, anchor = address[order], anchor[order]
    start = np.flatnonzero(np.concatenate([[True], address[1:] != address[:-1]])) if len(address) else np.empty(0, int)
    lists = pa.LargeListArray.from_arrays(np.append(start, len(anchor)).astype(np.int64), pa.array(anchor))
    return pa.table({ADDRESS: address[start], "repeated": lists})


# ---- contexts -------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _occurrences(offsets, data, repeated_at, repeated, window, piece):  # type: ignore[no-untyped-def]
    """Where repeated anchors occur: int64 (m, 4) of row, first window, piece and last window, and the anchors."""
    held = np.empty(2 * window + 2048, np.uint64)
    found = np.empty((1 << 10, 3), np.uint64)
    places = np.empty((1 << 12, 4), np.int64)
    hashes = np.empty(1 << 12, np.uint64)
    total = 0
    for row in range(len(offsets) - 1):
        found, count = _winnow(data, offsets[row], offsets[row + 1], window, piece, held, found)
        mine = repeated[repeated_at[row] : repeated_at[row + 1]]
        for k in range(count):
            at = np.searchsorted(mine, found[k, 0])
            if at == len(mine) or mine[at] != found[k, 0]:
                continue
            if total == len(hashes):
                more = np.empty((2 * total, 4), np.int64)
                more[:total] = places
                places = more
                grown = np.empty(2 * total, np.uint64)
                grown[:total] = hashes
                hashes = grown
            places[total, 0] = row
            places[total, 1] = found[k, 2]
            places[total, 2] = found[k, 1]
            last = offsets[row + 1] - offsets[row] - window
            places[total, 3] = np.int64(found[k + 1, 2]) - 1 if k + 1 < count else last
            hashes[total] = found[k, 0]
            total += 1
    return places[:total].copy(), hashes[:total].copy()


@njit(cache=True, nogil=True)
def _same_bytes(a, at_a, b, at_b, size):  # type: ignore[no-untyped-def]
    for k in range(size):
        if a[at_a + k] != b[at_b + k]:
            return False
    return True


@njit(cache=True, nogil=True)
def _stand_for(offsets, data, places, window, rank):  # type: ignore[no-untyped-def]
    """For each context of a part, the one that stands for all that are equal to it: the first by rank, then place.

    Returns its number, int64 (m,), and how many each stands for.
    """
    m = len(places)
    size = 16
    while size < 2 * m:
        size *= 2
    slots = np.full(size, -1, np.int64)
    mask = np.uint64(size - 1)
    values = np.empty(m, np.uint64)
    example = np.empty(m, np.int64)  # of each class
    best = np.empty(m, np.int64)
    copies = np.zeros(m, np.int64)
    of = np.empty(m, np.int64)
    scratch = np.empty(8, np.uint64)
    classes = 0
    for i in range(m):
        row, a, p, b = places[i]
        start = offsets[row] + a
        length = b - a + window
        value, _ = hash128(data, start, start + length, scratch)
        value ^= np.uint64(p - a)
        at = value & mask
        while slots[at] >= 0:
            c = slots[at]
            j = example[c]
            if values[c] == value and places[j, 2] - places[j, 1] == p - a and places[j, 3] - places[j, 1] == b - a:
                if _same_bytes(data, start, data, offsets[places[j, 0]] + places[j, 1], length):
                    break
            at = (at + np.uint64(1)) & mask
        if slots[at] < 0:
            slots[at] = classes
            values[classes] = value
            example[classes] = i
            best[classes] = i
            classes += 1
        c = slots[at]
        of[i] = c
        copies[c] += 1
        if rank[row] < rank[places[best[c], 0]]:
            best[c] = i
    first = np.empty(m, np.int64)
    count = np.empty(m, np.int64)
    for i in range(m):
        first[i] = best[of[i]]
        count[i] = copies[of[i]]
    return first, count


@njit(cache=True, nogil=True)
def _pack(offsets, data, places, chosen, window):  # type: ignore[no-untyped-def]
    """The bytes of chosen contexts one after the other, and their offsets, int64 (k + 1,)."""
    at = np.zeros(len(chosen) + 1, np.int64)
    for k in range(len(chosen)):
        at[k + 1] = at[k] + places[chosen[k], 3] - places[chosen[k], 1] + window
    out = np.empty(at[-1], np.uint8)
    for k in range(len(chosen)):
        start = offsets[places[chosen[k], 0]] + places[chosen[k], 1]
        out[at[k] : at[k + 1]] = data[start : start + at[k + 1] - at[k]]
    return out, at


def _send_contexts(docs: pa.Table, config: Substring) -> pa.Table:
    """The contexts of a part's repeated anchors, each once; and the spans of those that another one stands for.

    A context has ``copies`` of 1 or 2 (or more). A span, whose every window occurs earlier in this part, has 0 and no
    bytes; neighbouring spans are one, and meet nobody: their anchor is made of the address.
    """
    offsets, data = string_buffers(docs["text"])
    window = config.min_bytes
    places, hashes = _occurrences(offsets, data, *_list(docs["repeated"]), window, _piece(config))
    rank, _ = _rank(docs, config)
    first, copies = _stand_for(offsets, data, places, window, rank)
    mine = np.arange(len(first))
    chosen = np.flatnonzero(first == mine)
    out, at = _pack(offsets, data, places, chosen, window)

    row, start, end = places[:, 0], places[:, 1], places[:, 3] + window
    other = np.flatnonzero(first != mine)  # in order of row and start
    opens = np.ones(len(other), dtype=bool)
    opens[1:] = (row[other][1:] != row[other][:-1]) | (start[other][1:] > end[other][:-1])
    spans = other[opens]
    ends = end[other[np.append(np.flatnonzero(opens)[1:], len(other)) - 1]] if len(other) else end[:0]

    rows = np.concatenate([row[chosen], row[spans]])
    address = docs[ADDRESS].to_numpy()
    empty = np.full(len(spans), at[-1])
    table = pa.table(
        {
            "anchor": np.concatenate([hashes[chosen], mix64(address[row[spans]])]),
            ADDRESS: address[rows],
            "start": pa.array(np.concatenate([start[chosen], start[spans]]), INT32),
            "end": pa.array(np.concatenate([end[chosen], ends]), INT32),
            "copies": pa.array(np.concatenate([np.minimum(copies[chosen], 2), np.zeros(len(spans), int)]), INT32),
            "context": pa.LargeBinaryArray.from_buffers(
                BYTES, len(rows), [None, pa.py_buffer(np.concatenate([at, empty])), pa.py_buffer(out)]
            ),
        }
    )
    carried = docs.select(list(_policy(config))).take(pa.array(rows))
    for name in carried.column_names:
        table = table.append_column(name, carried[name])
    return table


@njit(cache=True, nogil=True)
def _windows(anchor, copies, offsets, data, rank, window, keeps):  # type: ignore[no-untyped-def]
    """Compare the windows of contexts that share an anchor.

    Returns:
        Runs of windows of one kind, int64 (m, 4): the context, its first window's offset, the last one's, and 1 where
        the windows are the first ones of their kind, 0 where they are later ones (or where none is to be kept).
    """
    leaves = _weight(window)
    runs = np.empty((1 << 10, 4), np.int64)
    total = 0
    slots = np.empty(16, np.int64)
    high = 0
    while high < len(anchor):
        low = high
        while high < len(anchor) and anchor[high] == anchor[low]:
            high += 1
        many = 0
        for r in range(low, high):
            if copies[r] > 0:
                many += offsets[r + 1] - offsets[r] - window + 1
        size = 16
        while size < 2 * many:
            size *= 2
        if size > len(slots):
            slots = np.empty(size, np.int64)
        slots[:size] = -1
        mask = np.uint64(size - 1)
        values = np.empty(many, np.uint64)
        example = np.empty((many, 2), np.int64)  # of each class: context and offset
        count = np.zeros(many, np.int64)
        best = np.empty(many, np.int64)
        of = np.empty(many, np.int64)  # the class of each window
        classes = 0
        n = 0
        for r in range(low, high):
            if copies[r] == 0:
                continue
            begin = offsets[r]
            length = offsets[r + 1] - begin
            value = np.uint64(0)
            for k in range(window - 1):
                value = value * _BASE + np.uint64(data[begin + k])
            before = -1  # the class of the window one byte before
            for o in range(length - window + 1):
                value = value * _BASE + np.uint64(data[begin + o + window - 1])
                if o > 0:
                    value -= np.uint64(data[begin + o - 1]) * leaves
                mixed = _finish(value)
                at = mixed & mask
                while slots[at] >= 0:
                    c = slots[at]
                    if values[c] == mixed:
                        other = offsets[example[c, 0]] + example[c, 1]
                        follows = (
                            before >= 0
                            and example[c, 0] == example[before, 0]
                            and example[c, 1] == example[before, 1] + 1
                        )
                        if follows:  # all but the last byte have been compared
                            if data[other + window - 1] == data[begin + o + window - 1]:
                                break
                        elif _same_bytes(data, begin + o, data, other, window):
                            break
                    at = (at + np.uint64(1)) & mask
                if slots[at] < 0:
                    slots[at] = classes
                    values[classes] = mixed
                    example[classes, 0] = r
                    example[classes, 1] = o
                    best[classes] = r
                    classes += 1
                c = slots[at]
                before = c
                of[n] = c
                n += 1
                count[c] += copies[r]
                if rank[r] < rank[best[c]]:
                    best[c] = r
        n = 0
        for r in range(low, high):
            if copies[r] == 0:
                continue
            kind = -1  # of the run that is open
            for o in range(offsets[r + 1] - offsets[r] - window + 1):
                c = of[n]
                n += 1
                now = -1 if count[c] < 2 else (1 if keeps and best[c] == r else 0)
                if now >= 0 and now == kind:
                    runs[total - 1, 2] = o
                elif now >= 0:
                    if total == len(runs):
                        grown = np.empty((2 * total, 4), np.int64)
                        grown[:total] = runs
                        runs = grown
                    runs[total, 0] = r
                    runs[total, 1] = o
                    runs[total, 2] = o
                    runs[total, 3] = now
                    total += 1
                kind = now
    return runs[:total].copy()


def _compare(records: pa.Table, config: Substring) -> pa.Table:
    """Spans of each row: repeated windows that are the first ones (``first``) and those that are later ones."""
    offsets, data = string_buffers(records["context"])
    rank, _ = _rank(records, config)
    copies = records["copies"].to_numpy()
    runs = _windows(records["anchor"].to_numpy(), copies, offsets, data, rank, config.min_bytes, config.keep == "first")
    address, start = records[ADDRESS].to_numpy(), records["start"].to_numpy().astype(np.int64)
    spans = np.flatnonzero(copies == 0)
    at = runs[:, 0]
    return pa.table(
        {
            ADDRESS: np.concatenate([address[at], address[spans]]),
            "start": pa.array(np.concatenate([start[at] + runs[:, 1], start[spans]]), INT32),
            "end": pa.array(
                np.concatenate([start[at] + runs[:, 2] + config.min_bytes, records["end"].to_numpy()[spans]]), INT32
            ),
            "first": pa.array(np.concatenate([runs[:, 3] == 1, np.zeros(len(spans), dtype=bool)]), BOOL),
        }
    )


# ---- answers --------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _unite(offsets, data, safe, row, start, end, first):  # type: ignore[no-untyped-def]
    """Flat (start, end) pairs of what goes from each text, int32, and their offsets, int32 (n + 1,).

    ``row`` is sorted. A byte goes where a later window covers it and no first one; spans shrink to whole characters.
    """
    rows = len(offsets) - 1
    out = np.empty(1 << 10, np.int32)
    at = np.zeros(rows + 1, np.int32)
    n = 0
    k = 0
    for r in range(rows):
        low = k
        while k < len(row) and row[k] == r:
            k += 1
        if k > low and not safe[r]:
            size = offsets[r + 1] - offsets[r]
            later = np.zeros(size + 1, np.int32)
            stays = np.zeros(size + 1, np.int32)
            for j in range(low, k):
                into = stays if first[j] else later
                into[start[j]] += 1
                into[end[j]] -= 1
            going = np.int32(0)
            staying = np.int32(0)
            opened = -1
            for i in range(size + 1):
                going += later[i]
                staying += stays[i]
                goes = i < size and going > 0 and staying == 0
                if goes and opened < 0:
                    opened = i
                elif not goes and opened >= 0:
                    a, b = opened, i
                    opened = -1
                    while a < b and data[offsets[r] + a] & 0xC0 == 0x80:
                        a += 1
                    while b > a and b < size and data[offsets[r] + b] & 0xC0 == 0x80:
                        b -= 1
                    if a == b:
                        continue
                    if n + 2 > len(out):
                        grown = np.empty(2 * len(out), np.int32)
                        grown[:n] = out[:n]
                        out = grown
                    out[n] = a
                    out[n + 1] = b
                    n += 2
        at[r + 1] = n
    return out[:n].copy(), at


def _answer(docs: pa.Table, config: Substring, found: pa.Table) -> pa.Table:
    offsets, data = string_buffers(docs["text"])
    _, safe = ranks(
        docs, (), label=config.label, seed=config.seed, keep_whole=config.keep_whole, keep_where=config.keep_where
    )
    address = docs[ADDRESS].to_numpy()
    by_address = np.argsort(address)
    row = by_address[np.searchsorted(address, found[ADDRESS].to_numpy(), sorter=by_address)]
    order = np.argsort(row, kind="stable")
    start, end, first = (found[name].to_numpy()[order] for name in ("start", "end", "first"))
    spans, at = _unite(offsets, data, safe, row[order], start, end, first)
    return pa.table({"repeated_spans": pa.ListArray.from_arrays(pa.array(at, INT32), pa.array(spans))})


def _rank(rows: pa.Table, config: Substring) -> tuple[npt.NDArray[np.int64], Any]:
    """The order of rows by the policy; where no copy is kept it decides nothing, and is that of the table."""
    if config.keep == "none":
        return np.arange(len(rows)), None
    return ranks(
        rows,
        config.keep_by,
        label=config.label,
        seed=config.seed,
        keep_whole=config.keep_whole,
        keep_where=config.keep_where,
    )


def _policy(config: Substring) -> dict[str, pa.DataType]:
    if config.keep == "none":
        return {}
    return policy_reads(config.keep_by, keep_whole=config.keep_whole, keep_where=config.keep_where)


def _spans_reads(config: Substring) -> Mapping[str, pa.DataType]:
    carried = policy_reads(config.keep_by, keep_whole=config.keep_whole, keep_where=config.keep_where)
    return {"text": TEXT, "anchors": pa.list_(UINT64), **carried}


@stage(
    reads=_spans_reads,
    writes={"repeated_spans": pa.list_(INT32)},
    grain=Grain.GROUP,
    rounds=True,
    each=anchors,
    version="1",
)
def repeated(rows: Rows, config: Substring) -> PerPart:
    """The spans of each text that go because they are repeated: ``cut.spans`` takes them out.

    ``repeated_spans`` holds byte positions in the text, start and end in turn, in order and without overlap, at whole
    characters; it is empty where nothing goes.
    """
    met = rows.exchange_in_files(
        _send_anchors, _repeated, reads=("anchors",), by="anchor", label="anchors", given=config
    )
    mine = rows.exchange_to_parts(_as_they_are, _by_row, of=met, by=ADDRESS, label="rows", given=config)
    found = rows.exchange_to_parts(
        _send_contexts,
        _compare,
        reads=("text", *_policy(config)),
        by="anchor",
        label="contexts",
        given=config,
        alongside=mine,
    )
    safe = policy_reads((), keep_whole=config.keep_whole, keep_where=config.keep_where)
    return PerPart(_answer, ("text", *safe), config, found)
