"""Exchanges: rows brought together by key through files in the store, and answers brought home by address.

A map task carries a group of parts and writes one file, its records sorted by bucket, with an index of byte ranges
beside it; a collect task makes one range read in each map file and is handed whole groups. Everything is published
once, so an exchange survives lost workers and is taken up where it was left. The number of buckets follows from the
amount of data, never from workers; at most 1,000 map files and 1,000 buckets.

Answers come home the same way: what a collect task returns is written sorted by part, and a homing task a group of
parts reads its ranges, lays the answers beside the living rows, and publishes the sidecar. Every row gets one answer,
null included; an answer for a row that does not live, or a second one, is an error.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from curate.columns import ADDRESS, INT64, ROW, unpack
from curate.errors import RowsLost
from curate.hashing import digest, mix64, value_hash
from curate.parts import VALUES, Columns, View, living_rows
from curate.stage import PerPart
from curate.store import Store

BUCKET_BYTES = 64 << 20
WITHIN = " · "  # between a step's label and that of a task within it
MOST = 1000  # map files, and buckets, of one exchange


class Carry(Protocol):
    """How a run carries out a task on many items and remembers each receipt: ``run.Runner.carry``."""

    def __call__(
        self, task: Callable[[Any], dict[str, Any]], items: Sequence[tuple[str, Any]], *, label: str, receipts: str
    ) -> list[dict[str, Any]]:
        """Receipts in the order of the items; ``items`` are (name, item)."""
        ...


# ── bucketed files ───────────────────────────────────────────────────────────────────────────────────────────────────


def put_buckets(store: Store, path: str, table: pa.Table, buckets: np.ndarray) -> dict[str, Any]:
    """Publish a table sorted by bucket (stable), each bucket an Arrow stream of its own, and the index beside it."""
    order = np.argsort(buckets, kind="stable")
    table = table.take(pa.array(order)).combine_chunks()
    found, starts = np.unique(buckets[order], return_index=True)
    sink, index = io.BytesIO(), []
    for bucket, start, end in zip(found, starts, np.append(starts, len(order))[1:], strict=True):
        at = sink.tell()
        piece = table.slice(int(start), int(end - start))
        with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(piece)
        index.append([int(bucket), at, sink.tell() - at, int(end - start), piece.nbytes])
    store.publish(path, sink.getvalue())
    store.put_json(f"{path}.index", index)
    return {"path": path, "rows": table.num_rows}


def read_buckets(store: Store, ranges: Iterable[tuple[str, int, int]]) -> list[pa.Table]:
    """The tables at (path, start, length), in order."""
    return [
        pa.ipc.open_stream(store.read_range(path, start, start + length)).read_all() for path, start, length in ranges
    ]


def index_of(store: Store, paths: Sequence[str]) -> dict[int, list[tuple[str, int, int]]]:
    """Bucket to its ranges in all files, in the order of the files."""
    found: dict[int, list[tuple[str, int, int]]] = {}
    for path, index in zip(paths, store.get_jsons([f"{path}.index" for path in paths]), strict=True):
        for bucket, start, length, _, _ in index:
            found.setdefault(bucket, []).append((path, start, length))
    return dict(sorted(found.items()))


# ── the tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Emit:
    """Map a group of parts to one bucketed file."""

    store: Store
    home: str
    fn: Callable[[pa.Table, Any], pa.Table]
    reads: tuple[str, ...]
    by: str
    buckets: int
    given: Any
    alongside: Mapping[int, tuple[tuple[str, int, int], ...]] | None

    def __call__(self, group: tuple[str, tuple[View, ...]]) -> dict[str, Any]:
        """Emit the records of some parts."""
        name, views = group
        tables = []
        for view in views:
            columns = Columns(self.store, view)
            rows = living_rows(self.store, view)
            if self.alongside is None:
                tables.append(self.fn(columns.get(self.reads, rows, with_address=True), self.given))
            elif ranges := self.alongside.get(view.ordinal):
                beside = pa.concat_tables(read_buckets(self.store, ranges)).sort_by(ADDRESS)
                at = unpack(beside[ADDRESS].to_numpy())[1]
                if not np.isin(at, rows, assume_unique=True).all():
                    raise RowsLost(
                        f"a row of part {view.part.name} is named that does not live",
                        where=self.home,
                        fix="`alongside` may name living rows only",
                    )
                table = columns.get(self.reads, at, with_address=True)
                for column in beside.column_names:
                    if column != ADDRESS:
                        table = table.append_column(column, beside[column])
                tables.append(self.fn(table, self.given))
        if not tables:
            return {"path": None, "rows": 0}
        records = pa.concat_tables(tables)
        if records[self.by].null_count:
            raise RowsLost(
                f"{records[self.by].null_count} records have no {self.by!r} to be brought together by",
                where=self.home,
                fix="drop rows without it first, or write a value for them",
            )
        keys = records[self.by].to_numpy().astype(np.uint64)
        return put_buckets(self.store, f"{self.home}/map-{name}", records, mix64(keys) % np.uint64(self.buckets))


@dataclass(frozen=True)
class Collect:
    """Hand whole groups of one bucket to ``fn``; leave the result by part of its addresses, or as one bucket."""

    store: Store
    home: str
    fn: Callable[[pa.Table, Any], pa.Table]
    by: str
    given: Any
    homing: bool

    def __call__(self, item: tuple[int, tuple[tuple[str, int, int], ...]]) -> dict[str, Any]:
        """Collect one bucket."""
        bucket, ranges = item
        records = pa.concat_tables(read_buckets(self.store, ranges)).combine_chunks()
        records = records.take(pa.array(np.argsort(records[self.by].to_numpy(), kind="stable")))
        result = self.fn(records, self.given)
        where = unpack(result[ADDRESS].to_numpy())[0] if self.homing else np.zeros(result.num_rows, dtype=np.int64)
        receipt = put_buckets(self.store, f"{self.home}/out-{bucket:05d}", result, where)
        return receipt | {"records": records.num_rows}


@dataclass(frozen=True)
class Map:
    """One small table a part."""

    store: Store
    home: str
    fn: Callable[[pa.Table, Any], pa.Table]
    reads: tuple[str, ...]
    given: Any

    def __call__(self, group: tuple[str, tuple[View, ...]]) -> dict[str, Any]:
        """Map some parts."""
        name, views = group
        tables, which = [], []
        for i, view in enumerate(views):
            rows = living_rows(self.store, view)
            table = self.fn(Columns(self.store, view).get(self.reads, rows, with_address=True), self.given)
            tables.append(table)
            which.append(np.full(table.num_rows, i))
        return put_buckets(self.store, f"{self.home}/map-{name}", pa.concat_tables(tables), np.concatenate(which)) | {
            "parts": len(views)
        }


@dataclass(frozen=True)
class Home:
    """Bring answers home: publish a step's sidecar for some parts."""

    store: Store
    home: str
    types: Mapping[str, pa.DataType]
    ranges: Mapping[int, tuple[tuple[str, int, int], ...]]
    every: bool

    def __call__(self, view: View) -> dict[str, Any]:
        """Lay the answers beside the living rows of one part; rows without one get null."""
        rows = living_rows(self.store, view)
        found = read_buckets(self.store, self.ranges.get(view.ordinal, ()))
        schema = pa.schema([(ADDRESS, pa.uint64()), *self.types.items()])
        answers = pa.concat_tables([schema.empty_table(), *(t.select(schema.names).cast(schema) for t in found)])
        at = unpack(answers[ADDRESS].to_numpy())[1]
        if len(np.unique(at)) != len(at) or not np.isin(at, rows).all() or (self.every and len(at) != len(rows)):
            raise RowsLost(
                f"{len(at)} answers for {len(rows)} rows of part {view.part.name}",
                where=self.home,
                fix="a GROUP or WHOLE stage answers every row it is given exactly once",
            )
        take = np.full(len(rows), -1)
        take[np.searchsorted(rows, at)] = np.arange(len(at))
        index = pa.array(take, mask=take < 0)
        return leave(self.store, self.home, view, rows, answers.drop_columns(ADDRESS).take(index))


@dataclass(frozen=True)
class Waiting:
    """Results of an exchange, by the ordinal of the part that they belong to (``stage.ToParts``)."""

    ranges: Mapping[int, tuple[tuple[str, int, int], ...]]
    empty: pa.Table
    rows: int


@dataclass(frozen=True)
class Answer:
    """Compute a rounds stage's answer part by part."""

    store: Store
    home: str
    types: Mapping[str, pa.DataType]
    answer: PerPart

    def __call__(self, view: View) -> dict[str, Any]:
        """The answer of one part."""
        rows = living_rows(self.store, view)
        table = Columns(self.store, view).get(self.answer.reads, rows, with_address=True)
        beside = []
        if isinstance(self.answer.beside, Waiting):
            found = read_buckets(self.store, self.answer.beside.ranges.get(view.ordinal, ()))
            beside = [pa.concat_tables([self.answer.beside.empty, *found]).combine_chunks()]
        result = self.answer.fn(table, self.answer.given, *beside)
        if result.num_rows != len(rows):
            raise RowsLost(
                f"{result.num_rows} answers for {len(rows)} rows of part {view.part.name}",
                where=self.home,
                fix="a PerPart answer has one row for each row",
            )
        result = result.select(list(self.types)).cast(pa.schema(list(self.types.items())))
        return leave(self.store, self.home, view, rows, result)


def leave(store: Store, home: str, view: View, rows: np.ndarray, table: pa.Table) -> dict[str, Any]:
    """Publish a global step's sidecar of one part."""
    table = table.add_column(0, ROW, pa.array(rows, INT64))
    values = value_hash(table)
    store.put_table(f"{home}/{view.part.name}/0.parquet", table.replace_schema_metadata({VALUES: values}))
    return {"rows": len(rows), "values": values}


# ── rows, as a rounds stage sees them ────────────────────────────────────────────────────────────────────────────────


@dataclass
class StoredRows:
    """``Rows`` over the parts of a frame, on any engine; ``types`` are the columns that may be read."""

    store: Store
    home: str
    views: Sequence[View]
    types: Mapping[str, pa.DataType]
    count: int
    carry: Carry
    label: str
    reported: dict[str, float | int | str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def map(
        self, fn: Callable[[pa.Table, Any], pa.Table], *, reads: Sequence[str], label: str, given: Any = None
    ) -> list[pa.Table]:
        """See ``stage.Rows.map``."""
        home = self._place(label, reads)
        receipts = self.carry(
            Map(self.store, home, fn, tuple(reads), given),
            groups(self.views),
            label=f"{self.label}{WITHIN}{label}",
            receipts=f"{home}/receipts",
        )
        tables: list[pa.Table] = []
        for receipt in receipts:
            found = index_of(self.store, [receipt["path"]])
            for i in range(receipt["parts"]):
                tables += read_buckets(self.store, found[i]) if i in found else []
        return tables

    def exchange(
        self,
        emit: Callable[[pa.Table, Any], pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str],
        by: str,
        label: str,
        given: Any = None,
        alongside: pa.Table | None = None,
    ) -> pa.Table:
        """See ``stage.Rows.exchange``."""
        files = self.through_files(
            emit, collect, reads=reads, by=by, label=label, given=given, alongside=alongside, homing=False
        )
        tables = [
            t
            for path in files
            for ranges in index_of(self.store, [path]).values()
            for t in read_buckets(self.store, ranges)
        ]
        if not tables:
            return self._no_result(emit, collect, reads, given, alongside)
        return pa.concat_tables(tables).combine_chunks()

    def exchange_to_parts(
        self,
        emit: Callable[[pa.Table, Any], pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str],
        by: str,
        label: str,
        given: Any = None,
        alongside: pa.Table | None = None,
    ) -> Waiting:
        """See ``stage.Rows.exchange_to_parts``."""
        files = self.through_files(
            emit, collect, reads=reads, by=by, label=label, given=given, alongside=alongside, homing=True
        )
        rows = sum(entry[3] for index in self.store.get_jsons([f"{path}.index" for path in files]) for entry in index)
        ranges = {ordinal: tuple(found) for ordinal, found in index_of(self.store, files).items()}
        return Waiting(ranges, self._no_result(emit, collect, reads, given, alongside), rows)

    def _no_result(
        self,
        emit: Callable[[pa.Table, Any], pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        reads: Sequence[str],
        given: Any,
        alongside: pa.Table | None,
    ) -> pa.Table:
        return collect(emit(self._nothing(reads, alongside), given), given).slice(0, 0)

    def _nothing(self, reads: Sequence[str], alongside: pa.Table | None) -> pa.Table:
        """No row, with the columns that ``emit`` would see."""
        schema = pa.schema([(ADDRESS, pa.uint64()), *((name, self.types[name]) for name in reads)])
        table = schema.empty_table()
        if alongside is not None:
            for name in alongside.column_names:
                if name != ADDRESS:
                    table = table.append_column(name, alongside.slice(0, 0)[name])
        return table

    def through_files(
        self,
        emit: Callable[[pa.Table, Any], pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str],
        by: str,
        label: str,
        given: Any,
        alongside: pa.Table | None,
        homing: bool,
    ) -> list[str]:
        """The files that the collect tasks left, in bucket order."""
        home = self._place(label, reads)
        beside = None
        if alongside is not None:
            ordinals = unpack(alongside[ADDRESS].to_numpy())[0]
            put_buckets(self.store, f"{home}/alongside", alongside, ordinals)
            beside = {k: tuple(v) for k, v in index_of(self.store, [f"{home}/alongside"]).items()}
        task = Emit(self.store, home, emit, tuple(reads), by, self._buckets(reads, alongside), given, beside)
        mapped = self.carry(task, groups(self.views), label=f"{self.label}{WITHIN}{label}", receipts=f"{home}/receipts")
        found = index_of(self.store, [r["path"] for r in mapped if r["path"]])
        items = [(f"{bucket:05d}", (bucket, tuple(ranges))) for bucket, ranges in found.items()]
        collected = self.carry(
            Collect(self.store, home, collect, by, given, homing),
            items,
            label=f"{self.label}{WITHIN}{label} collect",
            receipts=f"{home}/receipts-collect",
        )
        sent, read = sum(r["rows"] for r in mapped), sum(r["records"] for r in collected)
        if sent != read:
            raise RowsLost(
                f"{self.label}{WITHIN}{label}: {sent} records sent, {read} read",
                where=self.store.url,
                fix="files of the store were removed; use a new one",
            )
        return [r["path"] for r in collected]

    def report(self, numbers: Mapping[str, float | int | str]) -> None:
        """See ``stage.Rows.report``."""
        self.reported.update(numbers)

    def _place(self, label: str, reads: Sequence[str]) -> str:
        if undeclared := set(reads) - set(self.types):
            raise RowsLost(
                f"{self.label} reads {sorted(undeclared)}, which it does not declare",
                where=self.home,
                fix="name every column in reads=",
            )
        if label in self.used:
            raise RowsLost(f"{self.label} uses the label {label!r} twice", where=self.home, fix="choose another label")
        self.used.add(label)
        return f"{self.home}/exchange/{label}"

    def _buckets(self, reads: Sequence[str], alongside: pa.Table | None) -> int:
        """How many buckets: from rows and bytes alone."""
        if alongside is not None:
            share = alongside.num_rows / max(1, self.count)
            size = alongside.nbytes
        else:
            share, size = 1.0, 512 * self.count
        if "text" in reads:
            size += int(share * 2 * sum(v.part.text_bytes for v in self.views))
        return int(min(MOST, max(1, -(-size // BUCKET_BYTES))))


def groups(views: Sequence[View], most_bytes: int = 32 << 20) -> list[tuple[str, tuple[str, tuple[View, ...]]]]:
    """Parts in groups of about ``most_bytes`` of text, at most MOST groups; each with a name that its parts decide."""
    total = sum(v.part.text_bytes for v in views)
    limit = max(most_bytes, -(-total // MOST))
    found: list[list[View]] = []
    held = 0
    for view in views:
        if not found or held + view.part.text_bytes > limit:
            found.append([])
            held = 0
        found[-1].append(view)
        held += view.part.text_bytes
    named = [(digest([v.part.name for v in g]), tuple(g)) for g in found]
    return [(name, (name, group)) for name, group in named]
