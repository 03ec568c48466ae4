"""Writing a mix: the one text exchange.

A row's place is the rank of a keyed hash of (seed, key, copy): a global shuffle that depends on nothing but the seed
and the rows. Shards are ranges of that hash, cut by cumulative bytes of text at a resolution of 1/1,048,576 of the
range, which is the most shards that there can be. Map tasks write their rows sorted by shard, a collect task a shard
sorts them by (hash, key, copy) and publishes one Parquet file that readers like: zstd, row groups of about 32 MiB,
statistics and a page index. A small mix, or one whose texts are in memory, goes without the map tasks: each shard takes
its rows from the parts, with the same result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.buckets import Layout, Shelf, put_buckets
from curate.columns import ADDRESS
from curate.hashing import halves, keyed
from curate.parts import Columns, View, living_rows
from curate.store import Store

DIGIT = 20
LABEL = "write"
DATASET_LEVEL = 3  # of zstd, for what is kept and sent around


def places(keys: np.ndarray, copies: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """For every copy of every row: the row's index and its uint64 place in the shuffle."""
    index = np.repeat(np.arange(len(copies)), copies)
    number = np.arange(len(index)) - np.repeat(np.cumsum(copies) - copies, copies)
    return index, keyed(keys[index], label=LABEL, seed=seed, copy=number)


def weigh(table: pa.Table, given: tuple[str, int]) -> pa.Table:
    """Bytes of text and rows by the first DIGIT bits of the place, for the rows of a part."""
    column, seed = given
    copies = table[column].fill_null(0).to_numpy()
    index, place = places(halves(table["key"]), copies, seed)
    digit = (place >> np.uint64(64 - DIGIT)).astype(np.int64)
    return _sums(digit, table["text_bytes"].to_numpy()[index], np.ones(len(digit), dtype=np.int64))


def add_weights(table: pa.Table, given: tuple[str, int]) -> pa.Table:
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
        digit = (table["place"].to_numpy() >> np.uint64(64 - DIGIT)).astype(np.int64)
        return np.searchsorted(np.array(self.starts), digit, side="right") - 1


@dataclass(frozen=True)
class Scatter:
    """The task that sends the rows of some parts to their shards."""

    store: Store
    home: str
    column: str
    columns: tuple[str, ...]
    layout: Layout
    seed: int

    def __call__(self, group: tuple[str, tuple[View, ...]]) -> dict[str, Any]:
        """Send the chosen rows of a group of parts."""
        name, views = group
        tables = []
        for view in views:
            columns = Columns(self.store, view)
            rows = living_rows(self.store, view)
            copies = columns.get([self.column], rows)[self.column].fill_null(0).to_numpy()
            rows, copies = rows[copies > 0], copies[copies > 0]
            index, place = places(halves(columns.get(["key"], rows)["key"]), copies, self.seed)
            number = np.arange(len(index)) - np.repeat(np.cumsum(copies) - copies, copies)
            order = np.argsort(self.layout.first(pa.table({"place": place})), kind="stable")  # texts move once
            table = columns.get(["key", *self.columns], rows, with_address=True).take(pa.array(index[order]))
            table = table.append_column("place", pa.array(place[order]))
            tables.append(table.append_column("copy", pa.array(number[order])))
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
        order = _order(table["place"].to_numpy(), halves(table["key"]), table["copy"].to_numpy())
        out = table.select(list(self.columns)).take(pa.array(order))
        return _publish(self.store, self.home, shard, self.count, out, table[ADDRESS].to_numpy()[order])


@dataclass(frozen=True)
class Straight:
    """The task that publishes one shard straight from the parts, which it reads all: for a mix of few of them.

    Where texts are still in memory (``held``), or there is one shard, that is less work than to scatter them. A text
    is copied once, from where it was decoded to its place in the shard.
    """

    store: Store
    home: str
    column: str
    columns: tuple[str, ...]
    views: tuple[View, ...]
    starts: tuple[int, ...]
    seed: int

    def __call__(self, shard: int) -> dict[str, Any]:
        """Publish the rows of one shard."""
        route = ByPlace(self.starts)
        others = [n for n in self.columns if n != "text"]
        found: list[tuple[Any, ...]] = []
        texts: list[pa.Array] = []
        before = 0
        for view in self.views:
            columns = Columns(self.store, view)
            rows = living_rows(self.store, view)
            copies = columns.get([self.column], rows)[self.column].fill_null(0).to_numpy()
            keys = halves(columns.get(["key"], rows)["key"])
            index, place = places(keys, copies, self.seed)
            mine = np.flatnonzero(route(pa.table({"place": place})) == shard)
            if len(mine):
                number = np.arange(len(index)) - np.repeat(np.cumsum(copies) - copies, copies)
                index = index[mine]
                table = columns.get(others, rows, with_address=True).take(pa.array(index))
                found.append((place[mine], keys[index], number[mine], before + rows[index], table))
                texts += columns.get(["text"], np.arange(view.part.rows))["text"].chunks
                before += view.part.rows
        place, keys, number, at = (np.concatenate([each[i] for each in found]) for i in range(4))
        order = _order(place, keys, number)
        table = pa.concat_tables([each[4] for each in found]).take(pa.array(order))
        text = pa.chunked_array(texts).take(pa.array(at[order]))
        out = pa.table({n: text if n == "text" else table[n] for n in self.columns})
        return _publish(self.store, self.home, shard, len(self.starts), out, table[ADDRESS].to_numpy())


def _order(place: np.ndarray, keys: np.ndarray, copy: np.ndarray) -> np.ndarray:
    """The order of rows in a shard: place, then key, then copy."""
    return np.lexsort((copy, keys[:, 1], keys[:, 0], place))


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
