"""Writing a mix: the one text exchange.

A row's place is the rank of a keyed hash of (seed, key, copy): a global shuffle that depends on nothing but the seed
and the rows. Shards are ranges of that hash, cut by cumulative bytes of text at a resolution of 1/1,048,576 of the
range, which is the most shards that there can be. Map tasks write their rows sorted by shard, a collect task a shard
sorts them by (hash, key, copy) and publishes one Parquet file that readers like: zstd, row groups of about 32 MiB,
statistics and a page index. A small mix, or one whose texts are in memory, goes without the map tasks: each shard takes
its rows from the parts, with the same result.

A mix with an order has places of two words: its column's value, so coded that integers compare as the values do, and
then that hash, so that equal values are shuffled and not left by source. Values may be distributed in any way, so its
shards are cut between *marks*, the places of a random sample of its rows, eight a shard or more. That takes one more
pass over the narrow columns. A row without a value comes last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.buckets import Layout, Shelf, put_buckets
from curate.columns import ADDRESS, TEXT
from curate.hashing import halves, keyed, mix64
from curate.kernels import njit, worth_loading
from curate.order import SIGN, TOP, score_words
from curate.parts import Columns, View, living_rows
from curate.stage import Direction
from curate.store import Store
from curate.text import Bytes, Offsets, string_buffers

DIGIT = 20
LABEL = "write"
DATASET_LEVEL = 3  # of zstd, for what is kept and sent around
FEWEST_MARKS, MOST_MARKS = 1 << 12, 1 << 17
MARKS_A_SHARD = 8
INDEX, COPY, PLACE, WORD = (f"mix {name}" for name in ("index", "copy", "place", "word"))  # beside columns of any name


@dataclass(frozen=True)
class Placing:
    """How the copies of a mix are placed.

    Args:
        column: how many copies of each row.
        seed: of the shuffle.
        order: the column to order by, with a ``-`` before its name from the largest value down; None for a shuffle.
    """

    column: str
    seed: int
    order: str | None = None

    @property
    def reads(self) -> list[str]:
        """The columns that places follow from."""
        return ["key", self.column, *([ordered_by(self.order)] if self.order else [])]

    def of(self, table: pa.Table) -> pa.Table:
        """A row a copy: INDEX of its row, COPY (its number) and PLACE, with an order WORD too."""
        copies = table[self.column].fill_null(0).to_numpy()
        index = np.repeat(np.arange(len(copies)), copies)
        number = np.arange(len(index)) - np.repeat(np.cumsum(copies) - copies, copies)
        place = keyed(halves(table["key"])[index], label=LABEL, seed=self.seed, copy=number)
        found = pa.table({INDEX: index, COPY: number, PLACE: place})
        if self.order is None:
            return found
        return found.append_column(WORD, pa.array(_words(table[ordered_by(self.order)], self.order)[index]))


def ordered_by(order: str) -> str:
    """The column of an order."""
    return order.removeprefix("-")


def _words(values: pa.ChunkedArray, order: str) -> np.ndarray:
    """Numbers as uint64 (n,) that sort as the order asks; null and NaN come last."""
    null = np.asarray(values.is_null())
    if pa.types.is_unsigned_integer(values.type):
        words = values.fill_null(0).cast(pa.uint64()).to_numpy()
    elif pa.types.is_integer(values.type):
        words = values.fill_null(0).cast(pa.int64()).to_numpy().view(np.uint64) ^ SIGN
    else:
        numbers = values.fill_null(np.nan).cast(pa.float64()).to_numpy()
        null = np.isnan(numbers)
        words = score_words(np.where(null, 0, numbers), Direction.LOW)
    return np.where(null, np.uint64(TOP), ~words if order.startswith("-") else words)


def mark(table: pa.Table, given: tuple[Placing, int]) -> pa.Table:
    """The places, word and hash, of a random sample of the copies."""
    return fewest(given[0].of(table).select([WORD, PLACE]), given)


def fewest(table: pa.Table, given: tuple[Placing, int]) -> pa.Table:
    """As many marks as there are to be: those with the smallest hash of their hash, which says nothing of it."""
    place = table[PLACE].to_numpy()
    order = np.lexsort((table[WORD].to_numpy(), place, mix64(place)))
    return table.take(pa.array(order[: given[1]]))


@dataclass(frozen=True)
class Marks:
    """Places between which an ordered mix may be cut, sorted: ``words`` and ``places``, uint64 (n,) as bytes."""

    words: bytes
    places: bytes

    @classmethod
    def among(cls, tables: Sequence[pa.Table]) -> "Marks":
        """What ``mark`` found."""
        words, places = (np.concatenate([t[n].to_numpy() for t in tables]) for n in (WORD, PLACE))
        order = np.lexsort((places, words))
        return cls(words[order].tobytes(), places[order].tobytes())

    def before(self, starts: np.ndarray) -> "Marks":
        """Those at which shards start, given the first digit of every shard."""
        at = starts[1:] - 1
        words, places = (np.frombuffer(b, dtype=np.uint64) for b in (self.words, self.places))
        return Marks(words[at].tobytes(), places[at].tobytes())

    @property
    def buckets(self) -> int:
        """How many stretches they cut places into."""
        return len(self.words) // 8 + 1

    def __call__(self, table: pa.Table) -> np.ndarray:
        """How many marks are at or before each place, int64 (n,)."""
        words, places = (np.frombuffer(b, dtype=np.uint64) for b in (self.words, self.places))
        n = len(words)
        words, places = np.append(words, table[WORD].to_numpy()), np.append(places, table[PLACE].to_numpy())
        order = np.lexsort((np.arange(len(words)) >= n, places, words))
        out = np.empty(len(words), dtype=np.int64)
        out[order] = np.cumsum(order < n)
        return out[n:]


def marks_for(text_bytes: int, shard_bytes: int) -> int:
    """How many marks a mix of so much text, at most, should have."""
    return min(max(FEWEST_MARKS, MARKS_A_SHARD * -(-text_bytes // shard_bytes)), MOST_MARKS)


def weigh(table: pa.Table, given: tuple[Placing, Marks | None]) -> pa.Table:
    """Bytes of text and rows by digit: the first DIGIT bits of the place, or how many marks are before it."""
    placing, marks = given
    copies = placing.of(table)
    digit = _digits(copies) if marks is None else marks(copies)
    sizes = table["text_bytes"].to_numpy()[copies[INDEX].to_numpy()]
    return _sums(digit, sizes, np.ones(len(digit), dtype=np.int64))


def _digits(table: pa.Table) -> np.ndarray:
    return (table[PLACE].to_numpy() >> np.uint64(64 - DIGIT)).astype(np.int64)


def add_weights(table: pa.Table, given: Any) -> pa.Table:
    """What ``weigh`` found for several parts, as one."""
    return _sums(*(table[name].to_numpy() for name in ("digit", "bytes", "rows")))


def _sums(digit: np.ndarray, sizes: np.ndarray, rows: np.ndarray) -> pa.Table:
    """Sums by digit, of those that occur, in order."""
    order = np.argsort(digit, kind="stable")
    digit = digit[order]
    first = np.flatnonzero(np.diff(digit, prepend=-1))
    sums = {"bytes": sizes, "rows": rows}
    return pa.table({
        "digit": digit[first],
        **{name: np.add.reduceat(each[order], first) if len(first) else each for name, each in sums.items()},
    })  # fmt: skip


def cut_shards(tables: Sequence[pa.Table], shard_bytes: int) -> tuple[np.ndarray, int, int]:
    """First digit of every shard, int64 (shards,); total rows; total bytes. Every shard has a row, if there are any."""
    weights = [pa.table({n: np.empty(0, np.int64) for n in ("digit", "bytes", "rows")}), *tables]
    digit, sizes, rows = (pa.concat_tables(weights)[name].to_numpy() for name in ("digit", "bytes", "rows"))
    found = _sums(digit, sizes, rows)
    digit, sizes, rows = (found[name].to_numpy() for name in ("digit", "bytes", "rows"))
    total = int(sizes.sum())
    shards = max(1, -(-total // shard_bytes))
    targets = np.arange(shards) * total // shards
    # A shard starts at the first digit that has at least its target before it.
    after = np.append(digit + 1, 1 << DIGIT)[np.searchsorted(np.cumsum(sizes), targets, side="left")]
    starts = np.unique(np.where(targets > 0, after, 0).clip(0, (1 << DIGIT) - 1))
    held = np.diff(np.searchsorted(digit, np.append(starts, 1 << DIGIT)))
    return starts[held > 0] if held.any() else starts[:1], int(rows.sum()), total


@dataclass(frozen=True)
class ByPlace:
    """The shard of a copy: shards are ranges of places, each from one of ``starts`` on."""

    starts: tuple[int, ...]

    @property
    def buckets(self) -> int:
        """How many shards there are."""
        return len(self.starts)

    def __call__(self, table: pa.Table) -> np.ndarray:
        """Shards, int64 (n,)."""
        return np.searchsorted(np.array(self.starts), _digits(table), side="right") - 1


def route(starts: np.ndarray, marks: Marks | None) -> ByPlace | Marks:
    """The shard of a copy, given the first digit of every shard."""
    return ByPlace(tuple(starts.tolist())) if marks is None else marks.before(starts)


@dataclass(frozen=True)
class Scatter:
    """The task that sends the rows of some parts to their shards."""

    store: Store
    home: str
    placing: Placing
    columns: tuple[str, ...]
    layout: Layout

    def __call__(self, group: tuple[str, tuple[View, ...]]) -> dict[str, Any]:
        """Send the chosen rows of a group of parts."""
        name, views = group
        tables = []
        for view in views:
            columns = Columns(self.store, view)
            rows = living_rows(self.store, view)
            copies = self.placing.of(columns.get(self.placing.reads, rows))
            copies = copies.take(pa.array(np.argsort(self.layout.first(copies), kind="stable")))  # texts move once
            used, index = np.unique(copies[INDEX].to_numpy(), return_inverse=True)
            table = columns.get(["key", *self.columns], rows[used], with_address=True).take(pa.array(index))
            for column in copies.column_names[1:]:
                table = table.append_column(column, copies[column])
            tables.append(table)
        records = pa.concat_tables(tables)
        return put_buckets(self.store, f"{self.home}/map-{name}", records, self.layout.first(records))


@dataclass(frozen=True)
class Shard:
    """The task that publishes one shard of what was scattered."""

    store: Store
    home: str
    columns: tuple[str, ...]
    shelf: Shelf
    count: int

    def __call__(self, shard: int) -> dict[str, Any]:
        """Sort the rows of a shard and publish it."""
        table = pa.concat_tables(self.shelf.read(shard))
        order = _order(table, halves(table["key"]))
        out = table.select(list(self.columns)).take(pa.array(order))
        return _publish(self.store, self.home, shard, self.count, out, table[ADDRESS].to_numpy()[order])


@dataclass(frozen=True)
class Straight:
    """The task that publishes one shard straight from the parts, which it reads all: for a mix of few of them.

    Where texts are still in memory (``held``), or there is one shard, that is less work than to scatter them.
    """

    store: Store
    home: str
    placing: Placing
    columns: tuple[str, ...]
    views: tuple[View, ...]
    route: ByPlace | Marks

    def __call__(self, shard: int) -> dict[str, Any]:
        """Publish the rows of one shard."""
        others = [n for n in self.columns if n != "text"]
        found: list[tuple[pa.Table, np.ndarray, pa.Table]] = []
        texts: list[tuple[pa.ChunkedArray, np.ndarray]] = []
        for view in self.views:
            columns = Columns(self.store, view)
            rows = living_rows(self.store, view)
            read = columns.get(self.placing.reads, rows)
            copies = self.placing.of(read)
            copies = copies.take(pa.array(np.flatnonzero(self.route(copies) == shard)))
            if copies.num_rows:
                index = copies[INDEX].to_numpy()
                table = columns.get(others, rows, with_address=True).take(pa.array(index))
                texts.append((columns.get(["text"], np.arange(view.part.rows))["text"], rows[index]))
                found.append((copies, halves(read["key"])[index], table))
        order = _order(pa.concat_tables([each[0] for each in found]), np.concatenate([each[1] for each in found]))
        table = pa.concat_tables([each[2] for each in found]).combine_chunks().take(pa.array(order))
        out = table.append_column("text", _gathered(texts, order)).select(list(self.columns))
        return _publish(self.store, self.home, shard, self.route.buckets, out, table[ADDRESS].to_numpy())


def _gathered(texts: Sequence[tuple[pa.ChunkedArray, np.ndarray]], order: np.ndarray) -> pa.Array:
    """Of several columns of text, each with the rows that are wanted of it, all those in one order; each moves once."""
    buffers = [(*string_buffers(column), rows) for column, rows in texts]
    sizes = np.concatenate([offsets[rows + 1] - offsets[rows] for offsets, _, rows in buffers])
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[order])])
    starts = np.empty(len(order), np.int64)
    starts[order] = ends[:-1]
    out = np.empty(int(ends[-1]), np.uint8)
    first = 0
    lay_out = _lay_out if worth_loading(len(order)) else _lay_out_one_by_one
    for offsets, data, rows in buffers:
        lay_out(offsets, data, rows, starts[first : first + len(rows)], out)
        first += len(rows)
    return pa.Array.from_buffers(TEXT, len(order), [None, pa.py_buffer(ends), pa.py_buffer(out)])


@njit(cache=True, nogil=True)
def _lay_out(offsets, data, rows, starts, out):  # type: ignore[no-untyped-def]
    """Copy the strings at ``rows`` to where each of them starts."""
    for i in range(len(rows)):
        first = offsets[rows[i]]
        at = starts[i]
        for k in range(offsets[rows[i] + 1] - first):
            out[at + k] = data[first + k]


def _lay_out_one_by_one(offsets: Offsets, data: Bytes, rows: np.ndarray, starts: np.ndarray, out: Bytes) -> None:
    """The same without a kernel."""
    source, target = memoryview(data.data), memoryview(out.data)
    begins, ends = offsets[rows].tolist(), offsets[rows + 1].tolist()
    for begin, end, at in zip(begins, ends, starts.tolist(), strict=True):
        target[at : at + end - begin] = source[begin:end]


def _order(copies: pa.Table, keys: np.ndarray) -> np.ndarray:
    """The order of rows in a shard: word and place, then key, then copy."""
    words = [copies[WORD].to_numpy()] if WORD in copies.column_names else []
    return np.lexsort((copies[COPY].to_numpy(), keys[:, 1], keys[:, 0], copies[PLACE].to_numpy(), *words))


def _publish(store: Store, home: str, shard: int, count: int, out: pa.Table, where: np.ndarray) -> dict[str, Any]:
    """Publish a shard and the addresses of its rows."""
    name = f"data/train-{shard:05d}-of-{count:05d}.parquet"
    published = store.put_table(f"{home}/{name}", out, DATASET_LEVEL)
    store.put_table(f"{home}/rows/{shard:05d}.parquet", pa.table({ADDRESS: where}))
    text_bytes = int(pc.sum(pc.binary_length(out["text"])).as_py() or 0)
    return {
        "name": name,
        "rows": published.rows,
        "bytes": published.bytes,
        "bytes_hash": published.bytes_hash,
        "values": published.values,
        "text_bytes": text_bytes,
    }
