"""Lines, paragraphs or sentences that many documents share: found by counting documents, removed from the text.

Menus, notices and templates are the same text in many pages that are otherwise different; no document is a copy of
another, yet every one of them repeats the same lines.

1. ``line_hashes`` (EACH) cuts each text into units and hashes every unit after a folding (``curate.folding``). With
   ``run=3`` and sentences, every run of three sentences is hashed, as C4 does.
2. ``repeated`` (rounds) exchanges, for each part, its distinct hashes, in how many of its documents each occurs, and
   the first of them by the policy. What ``min_documents`` documents share is repeated, and is taken out of all of them
   (``keep="none"``) or of all but the first (``keep="first"``). Answers go back to the parts as byte spans.
3. ``cut.spans`` (MANY, in ``curate.cut``) takes the spans out of the text.

Published forms, as settings:

CCNet           ``unit="line", fold="ccnet", min_documents=2, keep="first", within=True``: Wenzek et al. 2020, section
                4.1, over shards of 5 GB; here over all documents.
C4              ``unit="sentence", run=3, fold="none", min_documents=2, keep="first", within=True``: Raffel et al. 2020,
                section 2.2 ("all but one of any three-sentence span").
Llama 3         ``unit="line", min_documents=7, keep="none"``: lines in more than 6 documents, in buckets of 30 million
                documents (Dubey et al. 2024, section 3.1.1); the default of ``min_documents``.

*Line*: up to and with a line feed. *Paragraph*: lines up to and with the blank ones after them. *Sentence*: up to a
character of ``text.TERMINAL_MARKS`` and closing quotes or brackets that white space follows, with that white space, or
up to a line feed.

Two different units share a 64-bit hash (half of XXH3-128) with probability 2**-64: among n distinct ones the expected
number of such pairs is n**2 / 2**65, 0.03 for 1e9.

Cost: 12 bytes a unit beside the text; 20 bytes a distinct unit and part exchanged, with ``keep="first"`` the key and
the policy's columns too. A unit in every document of a part is one record, so frequent lines cost no more than others.
Nothing is gathered in one place. Elsewhere: repeated lines within a document (``quality``), spans that respect no
line (``substring``), streams (``bloom``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from curate.columns import ADDRESS, INT32, TEXT, UINT64
from curate.errors import UnknownSetting
from curate.folding import FOLDINGS, fold, folding
from curate.keeper import keepers, policy, policy_reads, ranks
from curate.stage import Grain, PerPart, Rows, stage
from curate.text import SPACE, TERMINAL, Bytes, Int, Offsets, classes, next_character, string_buffers
from curate.xxh3 import hash128

UNITS = ("line", "paragraph", "sentence")
KEEP = ("first", "none")
CLOSING = "\"')]}»”’」』）】"  # may stand between the end of a sentence and white space


@dataclass(frozen=True, kw_only=True)
class Lines:
    """What is compared: the settings of ``line_hashes``, which no other setting changes.

    Args:
        unit: ``"line"``, ``"paragraph"`` or ``"sentence"`` (see the module's story).
        run: units in a row that are compared together; blank lines count.
        fold: how units are written for comparison, one of ``folding.FOLDINGS``; white space at the ends never counts.
        min_characters: folded characters that a run must have to be compared, at least 1.
    """

    unit: str = "line"
    run: int = 1
    fold: str = "space"
    min_characters: int = 1

    def __post_init__(self) -> None:
        for name, known in (("unit", UNITS), ("fold", FOLDINGS)):
            if getattr(self, name) not in known:
                raise UnknownSetting(
                    f"{name} is {getattr(self, name)!r}", where="Lines", fix=f"use one of: {', '.join(known)}"
                )
        for name in ("run", "min_characters"):
            if getattr(self, name) < 1:
                raise UnknownSetting(f"{name} is {getattr(self, name)}", where="Lines", fix="give 1 or more")


@dataclass(frozen=True, kw_only=True)
class RepeatedLines(Lines):
    """What is compared, what counts as repeated, and which copies go.

    Args:
        min_documents: documents that must have a unit for it to be repeated.
        keep: ``"first"``: the first document by the policy keeps it; ``"none"``: no document does.
        within: later copies of a unit in one document go too, in however many documents it occurs.
        keep_by: policy of columns that says which document is the first; see ``curate.keeper``.
        keep_whole: sources whose documents are never edited, and come first.
        keep_where: a boolean column whose true rows are never edited, and come first.
        seed: the pipeline's seed.
        label: names the hash that breaks ties.
    """

    min_documents: int = 7
    keep: str = "first"
    within: bool = False
    keep_by: tuple[str, ...] = ()
    keep_whole: tuple[str, ...] = ()
    keep_where: str = ""
    seed: int = 0
    label: str = "lines"

    def __post_init__(self) -> None:
        super().__post_init__()
        policy(self.keep_by)
        if self.keep not in KEEP:
            raise UnknownSetting(f"keep is {self.keep!r}", where="RepeatedLines", fix=f"use one of: {', '.join(KEEP)}")
        if self.min_documents < 2:
            raise UnknownSetting(
                f"min_documents is {self.min_documents}",
                where="RepeatedLines",
                fix="give 2 or more: a unit of one document is not repeated across documents",
            )

    def each(self) -> Lines:
        """The settings of ``line_hashes``."""
        return Lines(unit=self.unit, run=self.run, fold=self.fold, min_characters=self.min_characters)


# ---- units --------------------------------------------------------------------------------------------------------

_CLOSES = np.uint8(128)  # beside the classes of curate.text


@lru_cache(maxsize=1)
def _classes() -> Bytes:
    """The classes of ``curate.text``, and ``_CLOSES`` for the characters of CLOSING."""
    table = classes() & np.uint8(127)
    table[[ord(c) for c in CLOSING]] |= _CLOSES
    return table


@njit(cache=True, nogil=True)
def _line(data: Bytes, i: Int, end: Int) -> Int:
    while i < end:
        i += 1
        if data[i - 1] == 10:
            break
    return i


@njit(cache=True, nogil=True)
def _paragraph(data: Bytes, i: Int, end: Int, table: Bytes) -> Int:
    inked = False
    blank = False
    while i < end:
        stop = _line(data, i, end)
        empty = True
        k = i
        while k < stop and empty:
            point, k = next_character(data, k, stop)
            empty = bool(table[point] & SPACE)
        if not empty and blank and inked:
            break
        inked |= not empty
        blank = empty
        i = stop
    return i


@njit(cache=True, nogil=True)
def _sentence(data: Bytes, i: Int, end: Int, table: Bytes) -> Int:
    ended = False  # a terminal mark was last, closing marks aside
    while i < end:
        point, i = next_character(data, i, end)
        if point == 10:
            return i
        kind = table[point]
        if kind & TERMINAL:
            ended = True
        elif ended and kind & SPACE:
            while i < end and data[i] != 10:  # the white space after it
                following, after = next_character(data, i, end)
                if not table[following] & SPACE:
                    return i
                i = after
            return i + 1 if i < end else i
        elif not kind & _CLOSES:
            ended = False
    return i


@njit(cache=True, nogil=True)
def _hash_units(offsets, data, unit, run, least, fold_table, table):  # type: ignore[no-untyped-def]
    """Per unit of every text: the hash of the run that begins there (0: not compared), and where the unit ends.

    Returns hashes, uint64; ends in bytes from the text's start, int32; and where texts begin in both, int32 (n + 1,).
    """
    hashes = np.empty(1 << 12, np.uint64)
    lengths = np.empty(1 << 12, np.int64)
    ends = np.empty(1 << 12, np.int32)
    at = np.zeros(len(offsets), np.int32)
    out = np.empty(1 << 12, np.uint8)
    scratch = np.empty(8, np.uint64)
    count = 0
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        first = count
        i = start
        while i < end:
            if unit == 0:
                stop = _line(data, i, end)
            elif unit == 1:
                stop = _paragraph(data, i, end, table)
            else:
                stop = _sentence(data, i, end, table)
            if count == len(hashes):
                more = np.empty(2 * count, np.uint64)
                more[:count] = hashes
                hashes = more
                longer = np.empty(2 * count, np.int64)
                longer[:count] = lengths
                lengths = longer
                later = np.empty(2 * count, np.int32)
                later[:count] = ends
                ends = later
            if 2 * (stop - i) + 8 > len(out):
                out = np.empty(4 * (stop - i) + 8, np.uint8)
            size, length = fold(data, i, stop, fold_table, out)
            value, _ = hash128(out, 0, size, scratch)
            hashes[count] = value
            lengths[count] = length
            ends[count] = stop - start
            count += 1
            i = stop
        for k in range(first, count):  # in place: the run that begins at k needs k and those after it
            value = hashes[k]
            length = lengths[k]
            if k + run > count:
                length = 0
            else:
                for j in range(k + 1, k + run):
                    value = (value ^ (value >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + hashes[j]
                    length += lengths[j]
            hashes[k] = np.uint64(0) if length < least else max(value, np.uint64(1))
        at[row + 1] = count
    return hashes[:count].copy(), ends[:count].copy(), at


@stage(
    reads={"text": TEXT},
    writes={"line_hashes": pa.list_(UINT64), "line_ends": pa.list_(INT32)},
    grain=Grain.EACH,
    version="1",
)
def line_hashes(docs: pa.Table, config: Lines) -> pa.Table:
    """For each unit of a text the hash of the run that begins there, and the byte of the text at which the unit ends.

    The hash is 0 where nothing is compared: too few characters, or too few units left. A null text has no units.
    """
    offsets, data = string_buffers(docs["text"])
    hashes, ends, at = _hash_units(
        offsets, data, UNITS.index(config.unit), config.run, config.min_characters, folding(config.fold), _classes()
    )
    return pa.table(
        {
            "line_hashes": pa.ListArray.from_arrays(pa.array(at, INT32), pa.array(hashes)),
            "line_ends": pa.ListArray.from_arrays(pa.array(at, INT32), pa.array(ends)),
        }
    )


# ---- counting documents -------------------------------------------------------------------------------------------


def _list(column: pa.ChunkedArray) -> tuple[Offsets, npt.NDArray[np.generic]]:
    """A list column as offsets, int64 (n + 1,) from 0, and values; null is an empty list."""
    array = column.combine_chunks()
    sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    values = array.flatten().to_numpy(zero_copy_only=False)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)]), values


@njit(cache=True, nogil=True)
def _slots(n):  # type: ignore[no-untyped-def]
    """Free slots, int64 (a power of two above 2 n,), -1 each."""
    size = 16
    while size < 2 * n:
        size *= 2
    return np.full(size, -1, np.int64)


@njit(cache=True, nogil=True, inline="always")
def _find(slots, keys, key):  # type: ignore[no-untyped-def]
    """The slot of ``key``, or the free one where it belongs; ``slots`` hold positions in ``keys``."""
    mask = np.uint64(len(slots) - 1)
    at = (key ^ (key >> np.uint64(32))) & mask
    while slots[at] >= 0 and keys[slots[at]] != key:
        at = (at + np.uint64(1)) & mask
    return at


@njit(cache=True, nogil=True)
def _count(offsets, hashes, rank):  # type: ignore[no-untyped-def]
    """The distinct hashes of a part in order of appearance, in how many rows each is, and the first row by rank."""
    slots = _slots(len(hashes))
    distinct = np.empty(len(hashes), np.uint64)
    rows = np.empty(len(hashes), np.int32)
    last = np.empty(len(hashes), np.int32)
    best = np.empty(len(hashes), np.int64)
    count = 0
    for row in range(len(offsets) - 1):
        for k in range(offsets[row], offsets[row + 1]):
            if hashes[k] == 0:
                continue
            at = _find(slots, distinct, hashes[k])
            found = slots[at]
            if found < 0:
                slots[at] = count
                distinct[count] = hashes[k]
                rows[count] = 1
                last[count] = row
                best[count] = row
                count += 1
            elif last[found] != row:
                rows[found] += 1
                last[found] = row
                if rank[row] < rank[best[found]]:
                    best[found] = row
    return distinct[:count].copy(), rows[:count].copy(), best[:count].copy()


def _emit(docs: pa.Table, config: RepeatedLines) -> pa.Table:
    """One record for each distinct hash of the part: its documents, and the first of them with what the policy reads.

    With ``keep="none"`` which document is the first says nothing, and its address only names the part.
    """
    offsets, hashes = _list(docs["line_hashes"])
    if config.keep == "first":
        rank, _ = ranks(docs, config.keep_by, label=config.label, seed=config.seed, **_whole(config))
    else:
        rank = np.arange(len(docs))
    distinct, rows, best = _count(offsets, hashes, rank)
    carried = docs.select([ADDRESS, *_policy(config)]).take(pa.array(best))
    return carried.append_column("hash", pa.array(distinct)).append_column("documents", pa.array(rows))


def _collect(records: pa.Table, config: RepeatedLines) -> pa.Table:
    """The repeated hashes, once for each part that has them, with the address of the document that keeps them."""
    hashes = records["hash"].to_numpy()
    start = np.flatnonzero(np.diff(hashes, prepend=np.uint64(0)) != 0)  # sorted, and no hash is 0
    total = np.add.reduceat(records["documents"].to_numpy().astype(np.int64), start) if len(start) else start
    parts = np.diff(start, append=len(hashes))
    records = records.filter(pa.array(np.repeat(total >= config.min_documents, parts)))
    address = records[ADDRESS].to_numpy()
    kept = pa.nulls(len(records), UINT64)
    if config.keep == "first":
        group = records["hash"].to_numpy()
        first, _ = keepers(records, group, config.keep_by, label=config.label, seed=config.seed, **_whole(config))
        kept = pa.array(address[first], UINT64)
    return pa.table({ADDRESS: address, "hash": records["hash"], "kept": kept})


@njit(cache=True, nogil=True)
def _flag(offsets, hashes, ends, run, address, safe, repeated, kept, keeps, within):  # type: ignore[no-untyped-def]
    """Spans of each row that go: flat (start, end) pairs, int32, and their offsets, int32 (n + 1,)."""
    slots = _slots(len(repeated))
    for i in range(len(repeated)):
        slots[_find(slots, repeated, repeated[i])] = i
    seen = _slots(len(hashes) if within else 0)
    distinct = np.empty(len(hashes) if within else 0, np.uint64)
    last = np.empty(len(hashes) if within else 0, np.int64)
    count = 0
    spans = np.empty(2 * len(hashes), np.int32)
    at = np.zeros(len(address) + 1, np.int32)
    n = 0
    for row in range(len(address)):
        first = n
        for k in range(offsets[row], offsets[row + 1]):
            if hashes[k] == 0 or safe[row]:
                continue
            found = slots[_find(slots, repeated, hashes[k])]
            goes = found >= 0 and not (keeps and kept[found] == address[row])
            if within:
                place = _find(seen, distinct, hashes[k])
                if seen[place] < 0:
                    seen[place] = count
                    distinct[count] = hashes[k]
                    last[count] = row
                    count += 1
                elif last[seen[place]] == row:
                    goes = True
                else:
                    last[seen[place]] = row
            if not goes:
                continue
            begin = ends[k - 1] if k > offsets[row] else 0
            stop = ends[k + run - 1]
            if run > 1 and n > first and begin <= spans[n - 1]:
                spans[n - 1] = stop
                continue
            spans[n] = begin
            spans[n + 1] = stop
            n += 2
        at[row + 1] = n
    return spans[:n].copy(), at


def _answer(docs: pa.Table, config: RepeatedLines, repeated: pa.Table) -> pa.Table:
    offsets, hashes = _list(docs["line_hashes"])
    _, ends = _list(docs["line_ends"])
    _, safe = ranks(docs, (), label=config.label, seed=config.seed, **_whole(config))
    spans, at = _flag(
        offsets,
        hashes,
        ends,
        config.run,
        docs[ADDRESS].to_numpy(),
        safe,
        repeated["hash"].to_numpy(),
        repeated["kept"].fill_null(0).to_numpy(),
        config.keep == "first",
        config.within,
    )
    return pa.table({"repeated_lines": pa.ListArray.from_arrays(pa.array(at, INT32), pa.array(spans))})


def _policy(config: RepeatedLines) -> dict[str, pa.DataType]:
    return policy_reads(config.keep_by, **_whole(config)) if config.keep == "first" else {}


def _whole(config: RepeatedLines) -> dict[str, Any]:
    return {"keep_whole": config.keep_whole, "keep_where": config.keep_where}


def _repeated_reads(config: RepeatedLines) -> Mapping[str, pa.DataType]:
    lists = {"line_hashes": pa.list_(UINT64), "line_ends": pa.list_(INT32)}
    return lists | policy_reads(config.keep_by, **_whole(config))


@stage(
    reads=_repeated_reads,
    writes={"repeated_lines": pa.list_(INT32)},
    grain=Grain.GROUP,
    rounds=True,
    each=line_hashes,
    version="1",
)
def repeated(rows: Rows, config: RepeatedLines) -> PerPart:
    """The spans of each text that go because other documents have them: ``cut.spans`` takes them out.

    ``repeated_lines`` holds byte positions in the text, start and end in turn, in order and without overlap: one span a
    unit, or one a stretch of overlapping runs where ``run`` is above 1. It is empty where nothing goes.
    """
    found = rows.exchange_to_parts(
        _emit, _collect, reads=("line_hashes", *_policy(config)), by="hash", label="lines", given=config
    )
    reads = ("line_hashes", "line_ends", "key", *_policy(RepeatedLines(**_whole(config))))
    return PerPart(_answer, tuple(dict.fromkeys(reads)), config, found)
