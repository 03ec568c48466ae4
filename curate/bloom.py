"""Bloom filters (Bloom 1970): what was seen before, in 10 to 20 bits an item, for streams and for corpora long gone.

1. ``build`` (a fitter over a whole frame, in partial results) hashes documents, URLs or lines to 64 bits and sets their
   bits. Setting bits has no order, so the filter does not depend on that of parts; ``base=`` adds to an earlier filter
   of the same size.
2. ``seen`` and ``seen_lines`` (EACH) look documents or lines up in a filter. An item that was put in is always found;
   one that was not is found with the false-positive rate.

For n items and a rate p the filter has ``m = -n ln p / (ln 2)**2`` bits and ``k = m / n ln 2 = -log2 p`` hashes (Broder
and Mitzenmacher 2004, section 2). Bit i of an item is ``(a + i b) mod m`` with a and b made of its hash (Kirsch and
Mitzenmacher 2006), by a true modulus: datatrove 0.10 masks with the number of bytes instead, which at 2**20 bytes
leaves 2 of 8,388,608 positions in use, so that everything counts as seen (pipeline/dedup/bloom_filter.py, get_indexes).

The report tells the rate that follows from the share of bits set, and the rate measured with items that were never put
in. A filter filled beyond its size is an error.

An artifact is ``filter.bin`` (bit i is bit i % 8 of byte i // 8) and ``filter.json``; workers map the file to memory.

Cost: 8 bytes a distinct item of each part while the filter is built, in one process; m / 8 bytes after; k cache misses
a look-up. Elsewhere: exact counting of lines (``lines``), copies of documents with a policy for the one to keep
(``exact``).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.artifact import fitter
from curate.columns import BOOL, INT32, TEXT
from curate.errors import BadData, UnknownSetting
from curate.folding import FOLDINGS, Folding, fold, folding
from curate.hashing import mix64
from curate.stage import Grain, stage
from curate.text import Bytes, Hashes, Offsets, string_buffers
from curate.xxh3 import hash128

OF = ("document", "line")
PROBES = 200_000  # items never put in, with which the rate is measured
LEAST_BITS = 1 << 12  # in fewer bits, chance alone moves the rate to twice what was asked for
FILTER, HEADER = "filter.bin", "filter.json"


@dataclass(frozen=True, kw_only=True)
class Items:
    """What is put in and looked up; both must agree.

    Args:
        of: ``"document"``, the whole text, or ``"line"``, every line of it.
        fold: how it is written for comparison, one of ``folding.FOLDINGS``; white space at the ends never counts.
        min_characters: folded characters that an item must have; shorter ones are neither put in nor found.
    """

    of: str = "document"
    fold: str = "space"
    min_characters: int = 1

    def __post_init__(self) -> None:
        for name, known in (("of", OF), ("fold", FOLDINGS)):
            if getattr(self, name) not in known:
                raise UnknownSetting(
                    f"{name} is {getattr(self, name)!r}", where="bloom.Items", fix=f"use one of: {', '.join(known)}"
                )
        if self.min_characters < 1:
            raise UnknownSetting(f"min_characters is {self.min_characters}", where="bloom.Items", fix="give 1 or more")


@dataclass(frozen=True, kw_only=True)
class Bloom(Items):
    """What is put in, and how large the filter is.

    Args:
        expected_items: distinct items that the filter will hold, those of later additions included; 0 for those of this
            frame.
        false_positive_rate: share of unseen items that are taken for seen when so many are in.
    """

    expected_items: int = 0
    false_positive_rate: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.expected_items < 0:
            raise UnknownSetting(f"expected_items is {self.expected_items}", where="Bloom", fix="give 0 or more")
        if not 0 < self.false_positive_rate < 1:
            raise UnknownSetting(
                f"false_positive_rate is {self.false_positive_rate}", where="Bloom", fix="give a rate between 0 and 1"
            )


def size(items: int, rate: float) -> tuple[int, int]:
    """Bits, at least LEAST_BITS, and hashes for so many items at a false-positive rate."""
    bits = max(LEAST_BITS, math.ceil(-items * math.log(rate) / math.log(2) ** 2))
    return bits, max(1, round(-math.log2(rate)))


# ---- kernels --------------------------------------------------------------------------------------------------------

_A, _B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)


@njit(cache=True, nogil=True, inline="always")
def _finish(x):  # type: ignore[no-untyped-def]
    """The finaliser of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def insert(filter: Bytes, bits: int, hashes: int, items: Hashes) -> None:
    """Set the bits of items, uint64 (n,), in a filter, uint8 (ceil(bits / 8),)."""
    m = np.uint64(bits)
    for item in items:
        a = _finish(item + _A)
        b = _finish(item ^ _B) | np.uint64(1)
        for _ in range(hashes):
            at = a % m
            filter[at >> np.uint64(3)] |= np.uint8(1) << np.uint8(at & np.uint64(7))
            a += b


@njit(cache=True, nogil=True)
def _holds(filter, bits, hashes, item):  # type: ignore[no-untyped-def]
    a = _finish(item + _A)
    b = _finish(item ^ _B) | np.uint64(1)
    for _ in range(hashes):
        at = a % np.uint64(bits)
        if not (filter[at >> np.uint64(3)] >> np.uint8(at & np.uint64(7))) & 1:
            return False
        a += b
    return True


@njit(cache=True, nogil=True)
def contains(filter: Bytes, bits: int, hashes: int, items: Hashes) -> npt.NDArray[np.bool_]:
    """Which items, uint64 (n,), have all their bits set."""
    found = np.empty(len(items), np.bool_)
    for i in range(len(items)):
        found[i] = _holds(filter, bits, hashes, items[i])
    return found


@njit(cache=True, nogil=True)
def _items(offsets, data, table, least, lines):  # type: ignore[no-untyped-def]
    """Of every document or line: its hash, whether it is long enough, its row, and its span in the row's text."""
    hashes = np.empty(1 << 10, np.uint64)
    spans = np.empty((1 << 10, 4), np.int64)  # row, first byte, byte after the last, long enough
    out = np.empty(1 << 12, np.uint8)
    scratch = np.empty(8, np.uint64)
    count = 0
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        i = start
        while True:
            stop = end
            if lines:
                if i >= end:
                    break
                stop = i
                while stop < end and (stop == i or data[stop - 1] != 10):
                    stop += 1
            if 2 * (stop - i) + 8 > len(out):
                out = np.empty(4 * (stop - i) + 8, np.uint8)
            if count == len(hashes):
                more = np.empty(2 * count, np.uint64)
                more[:count] = hashes
                hashes = more
                longer = np.empty((2 * count, 4), np.int64)
                longer[:count] = spans
                spans = longer
            written, length = fold(data, i, stop, table, out)
            hashes[count], _ = hash128(out, 0, written, scratch)
            spans[count, 0] = row
            spans[count, 1] = i - start
            spans[count, 2] = stop - start
            spans[count, 3] = length >= least
            count += 1
            i = stop
            if not lines:
                break
    return hashes[:count].copy(), spans[:count].copy()


def _hashed(text: pa.ChunkedArray, config: Items) -> tuple[Hashes, npt.NDArray[np.int64]]:
    offsets: Offsets
    offsets, data = string_buffers(text)
    table: Folding = folding(config.fold)
    hashes, spans = _items(offsets, data, table, config.min_characters, config.of == "line")
    return hashes, spans


# ---- building -------------------------------------------------------------------------------------------------------


def _part(docs: pa.Table, config: Bloom) -> pa.Table:
    """The distinct hashes of a part's items."""
    hashes, spans = _hashed(docs["text"], config)
    return pa.table({"item": np.unique(hashes[spans[:, 3] == 1])})


@fitter(reads={"text": TEXT}, version="1", part=_part)
def build(found: pa.Table, config: Bloom, out: Path, base: Path | None = None) -> dict[str, float | int]:
    """Put the items of a whole frame in a filter; ``base`` is an earlier one that it continues.

    Returns what the report tells: distinct items put in now, bits, hashes, the share of bits set, the false-positive
    rate that follows from it, and the rate measured with ``PROBES`` items that nobody put in.

    Raises:
        BadData: the filter is so full that the rate is more than twice what was asked for; or ``base`` was made with
            other settings.
    """
    items = np.unique(found["item"].to_numpy()) if found.num_rows else np.empty(0, np.uint64)
    if base is None:
        bits, hashes = size(config.expected_items or len(items), config.false_positive_rate)
        filter = np.zeros(-(-bits // 8), dtype=np.uint8)
    else:
        earlier = Filter.open(base)
        earlier.check(config, "base")
        bits, hashes = earlier.bits, earlier.hashes
        filter = np.array(earlier.filter)
    insert(filter, bits, hashes, items)
    fill = int(np.unpackbits(filter).sum()) / bits
    rate = fill**hashes
    if rate > 2 * config.false_positive_rate:
        raise BadData(
            f"the filter takes {rate:.2g} of unseen items for seen, asked for were {config.false_positive_rate:g}",
            where="bloom.build",
            fix="build it anew with expected_items= that counts all additions, or a larger false_positive_rate",
        )
    probes = mix64(np.arange(PROBES, dtype=np.uint64) + np.uint64(0x5851F42D4C957F2D))
    probes = probes[~np.isin(probes, items)]
    header = {"bits": bits, "hashes": hashes, "items": asdict(_of(config))}
    (out / FILTER).write_bytes(filter.tobytes())
    (out / HEADER).write_text(json.dumps(header, sort_keys=True), encoding="utf-8")
    return {
        "items": len(items),
        "bits": bits,
        "hashes": hashes,
        "fill": fill,
        "false_positive_rate": rate,
        "measured_false_positive_rate": float(contains(filter, bits, hashes, probes).mean()),
    }


def _of(config: Items) -> Items:
    return Items(of=config.of, fold=config.fold, min_characters=config.min_characters)


# ---- looking up -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filter:
    """A filter that is mapped to memory."""

    filter: Bytes
    bits: int
    hashes: int
    items: Mapping[str, object]

    @staticmethod
    def open(folder: Path) -> "Filter":
        """The filter in a folder that ``build`` wrote."""
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        filter = np.memmap(folder / FILTER, dtype=np.uint8, mode="r")
        if len(filter) != -(-header["bits"] // 8):
            raise BadData(
                f"{FILTER} has {len(filter)} bytes, its header says {header['bits']} bits",
                where=str(folder),
                fix="build the filter again",
            )
        return Filter(filter, header["bits"], header["hashes"], header["items"])

    def check(self, config: Items, what: str) -> None:
        """Raise BadData where the filter holds other items than the settings describe."""
        if self.items != asdict(_of(config)):
            raise BadData(
                f"the filter was built with {dict(self.items)}, and the settings are {asdict(_of(config))}",
                where=f"bloom, {what}=",
                fix="look up with the settings that it was built with",
            )


def open_filter(config: Items, filter: Path) -> Filter:
    """The filter that a stage looks items up in."""
    found = Filter.open(filter)
    found.check(config, "filter")
    return found


@stage(reads={"text": TEXT}, writes={"seen": BOOL}, grain=Grain.EACH, load=open_filter, version="1")
def seen(docs: pa.Table, config: Items, filter: Filter) -> pa.Table:
    """Whether each text is in the filter (``of="document"``), or each of its lines that is long enough (``"line"``).

    False where nothing is long enough to be looked up.
    """
    hashes, spans = _hashed(docs["text"], config)
    long = spans[:, 3] == 1
    rows = spans[long, 0]
    there = contains(filter.filter, filter.bits, filter.hashes, hashes[long])
    asked = np.bincount(rows, minlength=docs.num_rows)
    return pa.table({"seen": pa.array((asked > 0) & (np.bincount(rows[there], minlength=docs.num_rows) == asked))})


@stage(reads={"text": TEXT}, writes={"seen_lines": pa.list_(INT32)}, grain=Grain.EACH, load=open_filter, version="1")
def seen_lines(docs: pa.Table, config: Items, filter: Filter) -> pa.Table:
    """The lines of each text that are in the filter, as byte spans: ``cut.spans`` takes them out.

    With ``of="document"`` the span is the whole text, where it was seen.
    """
    hashes, spans = _hashed(docs["text"], config)
    goes = (spans[:, 3] == 1) & contains(filter.filter, filter.bits, filter.hashes, hashes)
    at = np.concatenate([np.zeros(1, np.int64), np.cumsum(2 * np.bincount(spans[goes, 0], minlength=docs.num_rows))])
    flat = spans[goes, 1:3].astype(np.int32).ravel()
    return pa.table({"seen_lines": pa.ListArray.from_arrays(pa.array(at, INT32), pa.array(flat))})
