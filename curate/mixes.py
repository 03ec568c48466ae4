"""Writing a mix: the one text exchange.

A row's place is the rank of a keyed hash of (seed, key, copy): a global shuffle that depends on nothing but the seed
and the rows. Shards are ranges of that hash, cut by cumulative bytes of text at a resolution of 1/1,048,576 of the
range, which is the most shards that there can be. Map tasks write their rows sorted by shard, a collect task a shard
sorts them by (hash, key, copy) and publishes one Parquet file that readers like: zstd, row groups of about 32 MiB,
statistics and a page index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

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
    sizes = np.zeros(1 << DIGIT, dtype=np.int64)
    np.add.at(sizes, digit, table["text_bytes"].to_numpy()[index])
    counts = np.bincount(digit, minlength=1 << DIGIT)
    at = np.flatnonzero(counts)
    return pa.table({"digit": at, "bytes": sizes[at], "rows": counts[at]})


def add_weights(table: pa.Table, given: tuple[str, int]) -> pa.Table:
    """What ``weigh`` found for several parts, as one."""
    digits = table["digit"].to_numpy()
    sums = {name: np.zeros(1 << DIGIT, dtype=np.int64) for name in ("bytes", "rows")}
    for name, total in sums.items():
        np.add.at(total, digits, table[name].to_numpy())
    at = np.flatnonzero(sums["rows"])
    return pa.table({"digit": at, **{name: total[at] for name, total in sums.items()}})


def cut_shards(tables: Sequence[pa.Table], shard_bytes: int) -> tuple[np.ndarray, int, int]:
    """First digit of every shard, int64 (shards,); total rows; total bytes. Every shard has a row, if there are any."""
    sizes = np.zeros(1 << DIGIT, dtype=np.int64)
    counts = np.zeros(1 << DIGIT, dtype=np.int64)
    for table in tables:
        np.add.at(sizes, table["digit"].to_numpy(), table["bytes"].to_numpy())
        np.add.at(counts, table["digit"].to_numpy(), table["rows"].to_numpy())
    total = int(sizes.sum())
    shards = max(1, -(-total // shard_bytes))
    before = np.cumsum(sizes) - sizes
    targets = np.arange(shards) * total // shards
    starts = np.unique(np.searchsorted(before, targets, side="left").clip(0, (1 << DIGIT) - 1))
    held = np.add.reduceat(counts, starts)
    return starts[held > 0] if held.any() else starts[:1], int(counts.sum()), total


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
    """The task that publishes one shard."""

    store: Store
    home: str
    columns: tuple[str, ...]
    shelf: Shelf
    count: int

    def __call__(self, shard: int) -> dict[str, Any]:
        """Sort the rows of a shard and publish it."""
        table = pa.concat_tables(self.shelf.read(shard))
        keys = halves(table["key"])
        order = np.lexsort((table["copy"].to_numpy(), keys[:, 1], keys[:, 0], table["place"].to_numpy()))
        out = table.select(list(self.columns)).take(pa.array(order))
        name = f"data/train-{shard:05d}-of-{self.count:05d}.parquet"
        published = self.store.put_table(f"{self.home}/{name}", out, DATASET_LEVEL)
        where = table[ADDRESS].to_numpy()[order]
        self.store.put_table(f"{self.home}/rows/{shard:05d}.parquet", pa.table({ADDRESS: where}))
        text_bytes = int(pa.compute.sum(pa.compute.binary_length(out["text"])).as_py() or 0)
        return {
            "name": name,
            "rows": published.rows,
            "bytes": published.bytes,
            "bytes_hash": published.bytes_hash,
            "values": published.values,
            "text_bytes": text_bytes,
        }
