"""Bucketed files: how records get from the tasks that make them to the tasks that need them, through the store.

A task that sends writes one file, its records sorted by bucket, with an index of byte ranges beside it. The indexes of
up to 1,000 files become one *lot*, in which a reader finds the ranges of its bucket in one row; then it makes one range
read in each file, and opens no footer. Up to 1,000 files and 1,000 buckets that is all.

Above, there are two levels. The first files are sorted by runs of consecutive buckets; for each lot of them and each
run, a task sorts the records of the run by bucket into a file of its own; and the files of a run, one a lot, are a lot
again. So no task opens more than 1,000 files or writes more than 1,000 buckets, and the order of records in a bucket
(that of the files, and within a file that of the table) is the same as with one level.

Where there are n files and b buckets, the requests are about n * b with one level, and with two (n + b) times
the number of runs. The process that starts all this holds a name a file and a size a bucket.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from curate.columns import ADDRESS, unpack
from curate.hashing import digest, mix64
from curate.kernels import njit, worth_loading
from curate.store import Store, combined

MOST = 1000  # files of a lot, and buckets of a file
SHORT = 32  # equal keys that are put in order one by one


class Carry(Protocol):
    """How a run carries out a task on many items and remembers each receipt: ``evaluate.Runner.carry``."""

    def __call__(
        self, task: Callable[[Any], dict[str, Any]], items: Sequence[tuple[str, Any]], *, label: str, receipts: str
    ) -> list[dict[str, Any]]:
        """Receipts in the order of the items; ``items`` are (name, item)."""
        ...


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def put_buckets(store: Store, path: str, table: pa.Table, buckets: np.ndarray) -> dict[str, Any]:
    """Publish a table sorted by bucket (stable), each bucket an Arrow stream of its own, and the index beside it.

    A table without rows is bucket 0, so that its schema is not lost.
    """
    if len(buckets) and (buckets[:-1] > buckets[1:]).any():
        small = 0 <= buckets.min() and buckets.max() < 1 << 16  # numpy deals out 16 bits, and merges what is longer
        order = np.argsort(buckets.astype(np.uint16) if small else buckets, kind="stable")
        table, buckets = taken(table, order), buckets[order]
    table = combined(table)
    found, starts = np.unique(buckets, return_index=True) if len(buckets) else (np.zeros(1, int), np.zeros(1, int))
    sink, index = io.BytesIO(), []
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)
    for bucket, start, end in zip(found, starts, np.append(starts, len(buckets))[1:], strict=True):
        at = sink.tell()
        piece = table.slice(int(start), int(end - start))
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(piece)
        index.append([int(bucket), at, sink.tell() - at, int(end - start), piece.nbytes])
    store.publish(path, sink.getvalue())
    store.put_json(f"{path}.index", index)
    return {"path": path, "rows": table.num_rows, "bytes": table.nbytes}


def read_buckets(store: Store, ranges: Sequence[tuple[str, int, int]]) -> list[pa.Table]:
    """The tables at (path, start, length), in order."""
    return [
        pa.ipc.open_stream(store.read_range(path, start, start + length)).read_all() for path, start, length in ranges
    ]


def read_file(store: Store, path: str) -> list[pa.Table]:
    """All tables of a bucketed file, in order."""
    return read_buckets(store, [(path, start, length) for _, start, length, _, _ in store.get_json(f"{path}.index")])


# ── where a record goes ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ByKey:
    """The bucket of a record: a hash of its integer column."""

    column: str
    buckets: int

    def __call__(self, table: pa.Table) -> np.ndarray:
        """Buckets, int64 (n,)."""
        keys = table[self.column].to_numpy().astype(np.uint64)
        return (mix64(keys) % np.uint64(self.buckets)).astype(np.int64)


@dataclass(frozen=True)
class ByPart:
    """The bucket of a record: the ordinal of its address' part."""

    buckets: int

    def __call__(self, table: pa.Table) -> np.ndarray:
        """Buckets, int64 (n,)."""
        return unpack(table[ADDRESS].to_numpy())[0]


class Route(Protocol):
    """Says to which bucket each record of a table goes."""

    @property
    def buckets(self) -> int:
        """How many buckets there are."""
        ...

    def __call__(self, table: pa.Table) -> np.ndarray:
        """Buckets, int64 (n,)."""
        ...


@dataclass(frozen=True)
class Layout:
    """One level (``run`` None), or two, of which the first brings together ``run`` consecutive buckets."""

    route: Route
    run: int | None

    def first(self, table: pa.Table) -> np.ndarray:
        """The number under which a sender's file holds each record."""
        buckets = self.route(table)
        return buckets if self.run is None else buckets // self.run

    @property
    def firsts(self) -> int:
        """How many such numbers there are."""
        return self.route.buckets if self.run is None else -(-self.route.buckets // self.run)


def layout(route: Route, files: int) -> Layout:
    """How many levels it takes to send that many files to the route's buckets."""
    if route.buckets <= MOST and files <= MOST:
        return Layout(route, None)
    lots = -(-files // MOST)
    runs = min(MOST, max(-(-route.buckets // max(1, lots)), -(-route.buckets // MOST)))
    return Layout(route, -(-route.buckets // runs))


# ── lots ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Index:
    """The task that makes a lot of some files: their names, the bytes of each bucket, and a row of ranges a bucket."""

    store: Store
    home: str
    buckets: int
    start: int = 0

    def __call__(self, item: tuple[str, tuple[str, ...]]) -> dict[str, Any]:
        """Publish the lot; its buckets are counted from ``start``."""
        name, paths = item
        ranges = np.zeros((self.buckets, len(paths), 2), dtype=np.int64)
        sizes = np.zeros((2, self.buckets), dtype=np.int64)
        for i, index in enumerate(self.store.get_jsons([f"{path}.index" for path in paths])):
            for bucket, start, length, rows, size in index:
                ranges[bucket - self.start, i] = start, length
                sizes[:, bucket - self.start] += size, rows
        path = f"{self.home}/lot-{name}"
        self.store.put_json(f"{path}.files", list(paths))
        self.store.publish(path, sizes.tobytes() + ranges.tobytes())
        return {"path": path}


@dataclass(frozen=True)
class Shelf:
    """Where the records of every bucket lie: lots of ``width`` consecutive buckets each. Small and picklable."""

    store: Store
    lots: tuple[str, ...]
    width: int

    def sizes(self) -> np.ndarray:
        """Bytes (not compressed) and rows of every bucket, int64 (2, buckets)."""
        found = [np.frombuffer(self.store.read_range(lot, 0, 16 * self.width), np.int64) for lot in self.lots]
        return np.concatenate([f.reshape(2, -1) for f in found], axis=1) if found else np.zeros((2, 0), np.int64)

    def ranges(self, bucket: int) -> list[tuple[str, int, int]]:
        """(path, start, length) of a bucket's records, in the order of the files."""
        lot = bucket // self.width
        if lot >= len(self.lots):
            return []
        paths = _files(self.store, self.lots[lot])
        start = 16 * self.width + bucket % self.width * 16 * len(paths)
        row = np.frombuffer(self.store.read_range(self.lots[lot], start, start + 16 * len(paths)), np.int64)
        return [(p, int(at), int(n)) for p, (at, n) in zip(paths, row.reshape(-1, 2), strict=True) if n]

    def read(self, bucket: int) -> list[pa.Table]:
        """The records of a bucket, one table a file."""
        return read_buckets(self.store, self.ranges(bucket))


@lru_cache(maxsize=64)
def _files(store: Store, lot: str) -> list[str]:
    return list(store.get_json(f"{lot}.files"))


@dataclass(frozen=True)
class Regroup:
    """The task between two levels: the records of one run of buckets in one lot, sorted by bucket."""

    shelf: Shelf
    home: str
    layout: Layout

    def __call__(self, item: tuple[str, int]) -> dict[str, Any]:
        """Publish one file."""
        name, run = item
        table = pa.concat_tables(self.shelf.read(run))
        return put_buckets(self.shelf.store, f"{self.home}/mid-{name}", table, self.layout.route(table))


def shelve(store: Store, home: str, paths: Sequence[str], plan: Layout, carry: Carry, label: str) -> Shelf:
    """Make the records of files that were written by ``plan.first`` readable by bucket."""
    lots = [tuple(paths[i : i + MOST]) for i in range(0, len(paths), MOST)]
    named = [(digest([home, *lot]), lot) for lot in lots]
    if plan.run is None:
        index = Index(store, home, plan.firsts)
        return Shelf(store, tuple(index(item)["path"] for item in named), plan.firsts)  # one lot at most
    width = plan.run
    task = Index(store, home, plan.firsts)
    indexed = carry(task, [(n, (n, lot)) for n, lot in named], label=f"{label} index", receipts=f"{home}/receipts-lots")
    runs: dict[int, list[str]] = {}
    for at, (name, receipt) in enumerate(zip((n for n, _ in named), indexed, strict=True)):
        shelf = Shelf(store, (receipt["path"],), plan.firsts)
        full = np.flatnonzero(shelf.sizes()[1]).tolist()
        mids = [(f"{at:04d}-{run:04d}", (f"{name}-{run:04d}", run)) for run in full]
        receipts = f"{home}/receipts-mid-{at:04d}"
        moved = carry(Regroup(shelf, home, plan), mids, label=f"{label} regroup", receipts=receipts)
        for run, mid in zip(full, moved, strict=True):
            runs.setdefault(run, []).append(mid["path"])
    names = [f"run-{run:04d}" for run in range(plan.firsts)]
    items = [(n, (n, tuple(runs.get(run, ())), run * width)) for run, n in enumerate(names)]
    done = carry(Fine(store, home, width), items, label=f"{label} index by bucket", receipts=f"{home}/receipts-runs")
    return Shelf(store, tuple(r["path"] for r in done), width)


@dataclass(frozen=True)
class Fine:
    """The task that makes a lot of the files of one run of buckets."""

    store: Store
    home: str
    width: int

    def __call__(self, item: tuple[str, tuple[str, ...], int]) -> dict[str, Any]:
        """Publish the lot."""
        name, paths, start = item
        return Index(self.store, self.home, self.width, start)((name, paths))


def one_file(store: Store, path: str, table: pa.Table, route: Route) -> Shelf:
    """A table that this process holds, readable by bucket."""
    put_buckets(store, path, table, route(table))
    index = Index(store, path.rpartition("/")[0], route.buckets)
    return Shelf(store, (index((path.rpartition("/")[2], (path,)))["path"],), route.buckets)


# ── a bucket in whole groups ─────────────────────────────────────────────────────────────────────────────────────────


def whole_groups(
    store: Store, ranges: Sequence[tuple[str, int, int]], size: int, by: str, limits: "Limits", pieces: bool
) -> Iterator[tuple[pa.Table, bool]]:
    """The records of a bucket as tables of whole groups, sorted by (``by``, file, order in the file).

    Args:
        store: where they lie.
        ranges: of the bucket.
        size: its bytes.
        by: whose equal values make a group.
        limits: a bucket above ``limits.split`` bytes is handed out in several tables, chosen by a second hash.
        pieces: whether a group above ``limits.split`` may be handed out in pieces; the second value says what is one.

    Raises:
        TooLarge: a group above ``limits.group`` bytes that may not be cut.
    """
    if size <= limits.split:
        yield _sorted(read_buckets(store, ranges), by), False
        return
    count = -(-size // limits.bucket)
    sizes = np.zeros(count)
    for table in _each(store, ranges):
        width = table.nbytes / max(1, table.num_rows)
        sizes += np.bincount(_second(table, by, count), minlength=count) * width
    for sub in range(count):
        if sizes[sub] <= limits.split:
            yield _sorted([t.filter(pa.array(_second(t, by, count) == sub)) for t in _each(store, ranges)], by), False
            continue
        heavy = _heavy(store, ranges, by, count, sub, limits)
        light = [
            t.filter(pa.array((_second(t, by, count) == sub) & ~np.isin(_keys(t, by), list(heavy))))
            for t in _each(store, ranges)
        ]
        yield _sorted(light, by), False
        for key, weight in sorted(heavy.items()):
            if weight > limits.group and not pieces:
                raise TooLarge(key, weight)
            held: list[pa.Table] = []
            for table in _each(store, ranges):
                held.append(table.filter(pa.array(_keys(table, by) == key)))
                if pieces and sum(t.nbytes for t in held) > limits.bucket:
                    yield pa.concat_tables(held).combine_chunks(), True
                    held = []
            if held:
                yield pa.concat_tables(held).combine_chunks(), pieces


@dataclass(frozen=True)
class Limits:
    """Bytes of a bucket as it should be, of one that is split, and of the largest group that is handed out whole."""

    bucket: int
    split: int
    group: int


class TooLarge(Exception):
    """One value of the key has more bytes of records than a task may hold."""

    def __init__(self, key: int, size: float) -> None:
        super().__init__(key, size)
        self.key, self.size = key, size


def _each(store: Store, ranges: Sequence[tuple[str, int, int]]) -> Iterator[pa.Table]:
    for one in ranges:
        yield read_buckets(store, [one])[0]


def _keys(table: pa.Table, by: str) -> np.ndarray:
    return np.asarray(table[by].to_numpy())


def _second(table: pa.Table, by: str, count: int) -> np.ndarray:
    """A hash that the first one says nothing of."""
    first = mix64(_keys(table, by).astype(np.uint64))
    return (mix64(first ^ np.uint64(0x9E3779B97F4A7C15)) % np.uint64(count)).astype(np.int64)


def _heavy(
    store: Store,
    ranges: Sequence[tuple[str, int, int]],
    by: str,
    count: int,
    sub: int,
    limits: Limits,
) -> dict[int, float]:
    """Keys of the ``sub``-th of ``count`` tables with more than ``limits.bucket`` bytes of records, and how many."""
    sizes: dict[int, float] = {}
    for table in _each(store, ranges):
        keys, counts = np.unique(_keys(table, by)[_second(table, by, count) == sub], return_counts=True)
        width = table.nbytes / max(1, table.num_rows)
        for key, number in zip(keys.tolist(), counts.tolist(), strict=True):
            sizes[key] = sizes.get(key, 0) + number * width
    return {key: size for key, size in sizes.items() if size > limits.bucket}


def _sorted(tables: Sequence[pa.Table], by: str) -> pa.Table:
    records = pa.concat_tables(tables).combine_chunks()
    keys = records[by].to_numpy()
    if len(keys) and (keys[:-1] > keys[1:]).any():
        records = taken(records, stable_order(keys))
    return records


# ── sorting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def stable_order(keys: np.ndarray) -> np.ndarray:
    """What ``np.argsort(keys, kind="stable")`` gives, for keys of which few are equal.

    numpy's other sort uses wide registers where there are some and is then several times as fast; what it leaves in
    any order, the places of equal keys, is put in order afterwards.
    """
    if not worth_loading(len(keys)):
        return np.argsort(keys, kind="stable")
    order = np.argsort(keys)
    _settle(keys, order)
    return order


@njit(cache=True, nogil=True)
def _settle(keys, order):  # type: ignore[no-untyped-def]
    """Put the places of equal keys in order."""
    high = 0
    while high < len(order):
        low = high
        while high < len(order) and keys[order[high]] == keys[order[low]]:
            high += 1
        if high - low > SHORT:
            order[low:high] = np.sort(order[low:high])
            continue
        for i in range(low + 1, high):
            place, k = order[i], i
            while k > low and order[k - 1] > place:
                order[k] = order[k - 1]
                k -= 1
            order[k] = place


def taken(table: pa.Table, order: np.ndarray) -> pa.Table:
    """The rows of a table of one chunk a column in another order; Arrow itself is slow where lists are long."""
    columns = []
    for column in table.columns:
        if pa.types.is_large_list(column.type) and column.type.value_type == pa.uint64() and column.num_chunks == 1:
            lists = column.chunk(0)
            if not lists.null_count and not lists.values.null_count:
                offsets, values = lists.offsets.to_numpy(), lists.values.to_numpy()
                ends = np.zeros(len(order) + 1, dtype=np.int64)
                np.cumsum((offsets[1:] - offsets[:-1])[order], out=ends[1:])
                out = np.empty(int(ends[-1]), dtype=np.uint64)
                _gather(offsets, values, order, ends, out)
                columns.append(pa.LargeListArray.from_arrays(pa.array(ends), pa.array(out), type=column.type))
                continue
        columns.append(column.take(pa.array(order)))
    return pa.Table.from_arrays(columns, schema=table.schema)


@njit(cache=True, nogil=True)
def _gather(offsets, values, order, ends, out):  # type: ignore[no-untyped-def]
    """The lists at ``order``, one after the other."""
    for i in range(len(order)):
        start = offsets[order[i]]
        for k in range(ends[i + 1] - ends[i]):
            out[ends[i] + k] = values[start + k]
