"""Exchanges: rows brought together by key through files in the store, and answers brought home by address.

A map task carries a group of parts and writes one bucketed file (``buckets``); a collect task reads its bucket from all
of them and is handed whole groups. Everything is published once, so an exchange survives lost workers and is taken up
where it was left. The number of buckets follows from the amount of data, never from workers; above 1,000 files or
buckets there are two levels. A bucket that is too large for one call is split by a second hash, whole groups
together; a single group that is too large is an error that names it, or comes in pieces where the stage can do with
them.

Answers come home the same way: what a collect task returns is written sorted by part, and a homing task a part reads
its ranges, lays the answers beside the living rows, and publishes the sidecar. Every row gets one answer, null
included; an answer for a row that does not live, or a second one, is an error.

What the process that runs the pipeline holds is a receipt a task: a few hundred bytes a group of parts and a bucket.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.buckets import (
    MOST,
    ByKey,
    ByPart,
    Carry,
    Layout,
    Limits,
    Shelf,
    TooLarge,
    layout,
    one_file,
    put_buckets,
    read_buckets,
    read_file,
    shelve,
    whole_groups,
)
from curate.columns import ADDRESS, INT64, ROW, unpack
from curate.errors import BadPlan, PartFailed, RowsLost
from curate.hashing import digest, value_hash
from curate.parts import VALUES, Columns, View, living_rows
from curate.stage import InFiles, PerPart, ToParts
from curate.store import Store

BUCKET_BYTES = 64 << 20
SPLIT_BYTES = 4 * BUCKET_BYTES  # a bucket that is larger is handed out in several calls
KEY_BYTES = 4 << 30  # records of one value of the key, in one call
GROUP_BYTES = 32 << 20  # text of the parts that one task sends
GROUP_MOST = 256 << 20  # the same where there would otherwise be too many tasks
NARROW = 8  # times as much, where no text is read
MERGE = 64  # small tables that one task merges
WITHIN = " · "  # between a step's label and that of a task within it


# ── the tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Emit:
    """Map a group of parts, or of files that an earlier exchange left, to one bucketed file."""

    store: Store
    home: str
    fn: Callable[..., pa.Table]
    reads: tuple[str, ...]
    by: str
    given: Any
    layout: Layout
    alongside: Shelf | None = None
    beside: "Left | None" = None

    def __call__(self, group: tuple[str, tuple[View, ...] | tuple[str, ...]]) -> dict[str, Any]:
        """Emit the records of some parts or files."""
        name, inputs = group
        tables = []
        for each in inputs:
            table = pa.concat_tables(read_file(self.store, each)) if isinstance(each, str) else self._rows(each)
            if table is not None:
                own = [] if self.beside is None or isinstance(each, str) else [self.beside.of(each)]
                tables.append(self.fn(table, self.given, *own))
        if not tables:
            return {"path": None, "rows": 0}
        records = pa.concat_tables(tables)
        if records[self.by].null_count:
            raise RowsLost(
                f"{records[self.by].null_count} records have no {self.by!r} to be brought together by",
                where=self.home,
                fix="drop rows without it first, or write a value for them",
            )
        return put_buckets(self.store, f"{self.home}/map-{name}", records, self.layout.first(records))

    def _rows(self, view: View) -> pa.Table | None:
        """The living rows of a part, or those that something lies beside; None where that is no row."""
        columns = Columns(self.store, view)
        rows = living_rows(self.store, view)
        if self.alongside is None:
            return columns.get(self.reads, rows, with_address=True)
        found = self.alongside.read(view.ordinal)
        if not found:
            return None
        beside = pa.concat_tables(found).sort_by(ADDRESS)
        at = unpack(beside[ADDRESS].to_numpy())[1]
        if (at[1:] == at[:-1]).any() or not np.isin(at, rows, assume_unique=True).all():
            raise RowsLost(
                f"a row of part {view.part.name} is named that does not live, or twice",
                where=self.home,
                fix="`alongside` may name living rows only, each once",
            )
        table = columns.get(self.reads, at, with_address=True)
        for column in beside.column_names:
            if column != ADDRESS:
                table = table.append_column(column, beside[column])
        return table


@dataclass(frozen=True)
class Collect:
    """Hand whole groups of one bucket to ``fn``; leave the result by part of its addresses, or as one bucket."""

    store: Store
    home: str
    fn: Callable[[pa.Table, Any], pa.Table]
    by: str
    given: Any
    shelf: Shelf
    limits: Limits
    out: Layout | None
    pieces: bool
    count: tuple[str, ...]

    def __call__(self, item: tuple[int, int]) -> dict[str, Any]:
        """Collect one bucket, of so many bytes."""
        bucket, size = item
        results, records, cut = [], 0, 0
        try:
            for group, piece in whole_groups(
                self.store, self.shelf.ranges(bucket), size, self.by, self.limits, self.pieces
            ):
                records += group.num_rows
                cut += piece
                results.append(self.fn(group, self.given))
        except TooLarge as error:
            raise PartFailed(
                f"{error.size / 2**30:.1f} GiB of records share {self.by} = {error.key}, more than one task may hold "
                f"({self.limits.group / 2**30:.1f} GiB)",
                where=self.home,
                fix="drop rows that are all alike first (empty texts, one template), or choose a finer key; a WHOLE "
                "stage has one key for all rows: write it with `rounds`",
            ) from error
        result = pa.concat_tables(results).combine_chunks()
        self.store.publish(f"{self.home}/schema", result.schema.serialize().to_pybytes())
        where = np.zeros(result.num_rows, dtype=np.int64) if self.out is None else self.out.first(result)
        receipt = put_buckets(self.store, f"{self.home}/out-{bucket:06d}", result, where)
        sums = {name: int(pc.sum(result[name]).as_py() or 0) for name in self.count}
        return receipt | {"records": records, "pieces": cut, "sums": sums}


@dataclass(frozen=True)
class Map:
    """One small table a part, or one for a group of parts."""

    store: Store
    home: str
    fn: Callable[[pa.Table, Any], pa.Table]
    reads: tuple[str, ...]
    given: Any
    merge: Callable[[pa.Table, Any], pa.Table] | None

    def __call__(self, group: tuple[str, tuple[View, ...]]) -> dict[str, Any]:
        """Map some parts."""
        name, views = group
        tables, which = [], []
        for i, view in enumerate(views):
            rows = living_rows(self.store, view)
            table = self.fn(Columns(self.store, view).get(self.reads, rows, with_address=True), self.given)
            tables.append(table)
            which.append(np.full(table.num_rows, i))
        table, numbers = pa.concat_tables(tables), np.concatenate(which)
        if self.merge is not None:
            table = self.merge(table, self.given)
            numbers = np.zeros(table.num_rows, dtype=np.int64)
        return put_buckets(self.store, f"{self.home}/map-{name}", table, numbers) | {"parts": len(views)}


@dataclass(frozen=True)
class Merge:
    """Merge the tables of some files into one."""

    store: Store
    home: str
    fn: Callable[[pa.Table, Any], pa.Table]
    given: Any

    def __call__(self, item: tuple[str, tuple[str, ...]]) -> dict[str, Any]:
        """Merge, in the order of the files."""
        name, paths = item
        table = self.fn(pa.concat_tables([t for path in paths for t in read_file(self.store, path)]), self.given)
        return put_buckets(self.store, f"{self.home}/merged-{name}", table, np.zeros(table.num_rows, dtype=np.int64))


@dataclass(frozen=True)
class Home:
    """Bring answers home: publish a step's sidecar for some parts."""

    store: Store
    home: str
    types: Mapping[str, pa.DataType]
    shelf: Shelf
    every: bool

    def __call__(self, view: View) -> dict[str, Any]:
        """Lay the answers beside the living rows of one part; rows without one get null."""
        rows = living_rows(self.store, view)
        found = self.shelf.read(view.ordinal)
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
class Left:
    """What an exchange left in files: ``stage.InFiles``, and with ``shelf``, by part, ``stage.ToParts``."""

    paths: tuple[str, ...]
    weights: tuple[int, ...]
    empty: pa.Table
    rows: int
    sums: Mapping[str, int]
    shelf: Shelf | None

    @property
    def bytes(self) -> int:
        """Of the results, not compressed."""
        return sum(self.weights)

    def of(self, view: View) -> pa.Table:
        """The results that belong to a part."""
        if self.shelf is None:
            raise BadPlan("results were not left by part", where=view.part.name, fix="use exchange_to_parts")
        return pa.concat_tables([self.empty, *self.shelf.read(view.ordinal)]).combine_chunks()


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
        beside = [self.answer.beside.of(view)] if isinstance(self.answer.beside, Left) else []
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
        self,
        fn: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str],
        label: str,
        given: Any = None,
        merge: Callable[[pa.Table, Any], pa.Table] | None = None,
    ) -> list[pa.Table]:
        """See ``stage.Rows.map``."""
        home = self._place(label, reads)
        receipts = self.carry(
            Map(self.store, home, fn, tuple(reads), given, merge),
            groups(self.views, narrow="text" not in reads),
            label=f"{self.label}{WITHIN}{label}",
            receipts=f"{home}/receipts",
        )
        level = 0
        while merge is not None and len(receipts) > 1:
            paths = [tuple(r["path"] for r in receipts[i : i + MERGE]) for i in range(0, len(receipts), MERGE)]
            receipts = self.carry(
                Merge(self.store, home, merge, given),
                [(digest([level, *some]), (digest([level, *some]), some)) for some in paths],
                label=f"{self.label}{WITHIN}{label} merge",
                receipts=f"{home}/receipts-merge-{level}",
            )
            level += 1
        if merge is not None:
            return [t for receipt in receipts for t in read_file(self.store, receipt["path"])]
        tables: list[pa.Table] = []
        for receipt in receipts:
            index = self.store.get_json(f"{receipt['path']}.index")
            tables += read_buckets(self.store, [(receipt["path"], start, length) for _, start, length, _, _ in index])
        return tables

    def exchange(
        self,
        emit: Callable[..., pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str] = (),
        by: str,
        label: str,
        given: Any = None,
        alongside: pa.Table | ToParts | None = None,
        beside: ToParts | None = None,
        of: InFiles | None = None,
        pieces: bool = False,
    ) -> pa.Table:
        """See ``stage.Rows.exchange``."""
        left = self.through_files(
            emit, collect, reads=reads, by=by, label=label, given=given, alongside=alongside, beside=beside,
            of=of, pieces=pieces,
        )  # fmt: skip
        found = [t for path in left.paths for t in read_file(self.store, path)]
        return pa.concat_tables([left.empty, *found]).combine_chunks()

    def exchange_in_files(
        self,
        emit: Callable[..., pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str] = (),
        by: str,
        label: str,
        given: Any = None,
        alongside: pa.Table | ToParts | None = None,
        beside: ToParts | None = None,
        of: InFiles | None = None,
        pieces: bool = False,
        count: Sequence[str] = (),
    ) -> Left:
        """See ``stage.Rows.exchange_in_files``."""
        return self.through_files(
            emit, collect, reads=reads, by=by, label=label, given=given, alongside=alongside, beside=beside,
            of=of, pieces=pieces, count=count,
        )  # fmt: skip

    def exchange_to_parts(
        self,
        emit: Callable[..., pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str] = (),
        by: str,
        label: str,
        given: Any = None,
        alongside: pa.Table | ToParts | None = None,
        beside: ToParts | None = None,
        of: InFiles | None = None,
        pieces: bool = False,
        count: Sequence[str] = (),
    ) -> Left:
        """See ``stage.Rows.exchange_to_parts``."""
        return self.through_files(
            emit, collect, reads=reads, by=by, label=label, given=given, alongside=alongside, beside=beside,
            of=of, pieces=pieces, count=count, homing=True,
        )  # fmt: skip

    def through_files(
        self,
        emit: Callable[..., pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str],
        by: str,
        label: str,
        given: Any = None,
        alongside: pa.Table | ToParts | None = None,
        beside: ToParts | None = None,
        of: InFiles | None = None,
        pieces: bool = False,
        count: Sequence[str] = (),
        homing: bool = False,
    ) -> Left:
        """One exchange: send, make readable by bucket, collect, and where asked make the results readable by part."""
        home = self._place(label, reads)
        said = f"{self.label}{WITHIN}{label}"
        shelf, nothing, size = self._inputs(home, reads, alongside, of)
        waiting = beside if isinstance(beside, Left) else None
        if of is not None and waiting is not None:
            raise BadPlan(f"{said}: `of` stands in place of the rows", where=home, fix="leave out beside=")
        if isinstance(of, Left):
            items: Sequence[tuple[str, Any]] = file_groups(of)
        else:
            items = groups(self.views, narrow="text" not in reads)
        route = ByKey(by, int(max(1, -(-size // BUCKET_BYTES))))
        plan = layout(route, len(items))
        emitting = Emit(self.store, home, emit, tuple(reads), by, given, plan, shelf, waiting)
        mapped = self.carry(emitting, items, label=said, receipts=f"{home}/receipts")
        shelf = shelve(self.store, home, [r["path"] for r in mapped if r["path"]], plan, self.carry, said)
        sizes, rows = shelf.sizes()
        full = np.flatnonzero(rows).tolist()
        out = layout(ByPart(max(1, len(self.views))), len(full)) if homing else None
        limits = Limits(BUCKET_BYTES, SPLIT_BYTES, KEY_BYTES)
        collected = self.carry(
            Collect(self.store, home, collect, by, given, shelf, limits, out, pieces, tuple(count)),
            [(f"{bucket:06d}", (bucket, int(sizes[bucket]))) for bucket in full],
            label=f"{said} collect",
            receipts=f"{home}/receipts-collect",
        )
        sent, read = sum(r["rows"] for r in mapped), sum(r["records"] for r in collected)
        if sent != read:
            raise RowsLost(
                f"{said}: {sent} records sent, {read} read",
                where=self.store.url,
                fix="files of the store were removed; use a new one",
            )
        if cut := sum(r["pieces"] for r in collected):
            self.report({f"{label}_pieces_of_large_groups": cut})
        paths = tuple(r["path"] for r in collected)
        if paths:
            empty = pa.ipc.read_schema(pa.py_buffer(self.store.read(f"{home}/schema"))).empty_table()
        else:
            own = [] if waiting is None else [waiting.empty]
            empty = collect(emit(nothing, given, *own), given).slice(0, 0)
        return Left(
            paths,
            tuple(r["bytes"] for r in collected),
            empty,
            sum(r["rows"] for r in collected),
            {name: sum(r["sums"][name] for r in collected) for name in count},
            None if out is None else shelve(self.store, f"{home}/home", paths, out, self.carry, f"{said} home"),
        )

    def _inputs(
        self, home: str, reads: Sequence[str], alongside: pa.Table | ToParts | None, of: InFiles | None
    ) -> tuple[Shelf | None, pa.Table, int]:
        """What lies beside the rows, an empty table as ``emit`` will see it, and about how many bytes are sent."""
        if of is not None:
            if reads or alongside is not None or not isinstance(of, Left):
                raise BadPlan(
                    f"{self.label}: `of` stands in place of the rows", where=home, fix="leave out reads= and alongside="
                )
            return None, of.empty, 2 * of.bytes
        nothing = pa.schema([(ADDRESS, pa.uint64()), *((name, self.types[name]) for name in reads)]).empty_table()
        shelf, share, size = None, 1.0, 512 * self.count
        if alongside is not None:
            if isinstance(alongside, Left):
                shelf, columns, rows, size = alongside.shelf, alongside.empty, alongside.rows, alongside.bytes
                if shelf is None:
                    raise BadPlan(
                        f"{self.label}: `alongside` was not left by part", where=home, fix="use exchange_to_parts"
                    )
            elif isinstance(alongside, pa.Table):
                shelf = one_file(self.store, f"{home}/alongside", alongside, ByPart(max(1, len(self.views))))
                columns, rows, size = alongside.slice(0, 0), alongside.num_rows, alongside.nbytes
            share = rows / max(1, self.count)
            for name in columns.column_names:
                if name != ADDRESS:
                    nothing = nothing.append_column(name, columns[name])
        if "text" in reads:
            size += int(share * 2 * sum(v.part.text_bytes for v in self.views))
        return shelf, nothing, size

    def shelf_of(self, answer: pa.Table | ToParts) -> Shelf:
        """A stage's answers, readable by part."""
        if isinstance(answer, Left) and answer.shelf is not None:
            return answer.shelf
        if not isinstance(answer, pa.Table):
            raise BadPlan(
                f"{self.label} answered {type(answer).__name__}",
                where=self.home,
                fix="return a table, a PerPart, or what exchange_to_parts left",
            )
        return one_file(self.store, f"{self.home}/answers", answer, ByPart(max(1, len(self.views))))

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


def groups(views: Sequence[View], *, narrow: bool = False) -> list[tuple[str, tuple[str, tuple[View, ...]]]]:
    """Parts in groups of about GROUP_BYTES of text, each with a name that its parts decide.

    A group grows so that there are at most MOST of them, up to GROUP_MOST; above, there are more groups. Where only
    narrow columns are read, both are NARROW times as much: a task and its files cost as much as a million narrow rows.
    """
    total = sum(v.part.text_bytes for v in views)
    times = NARROW if narrow else 1
    limit = max(GROUP_BYTES * times, min(-(-total // MOST), GROUP_MOST * times))
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


def file_groups(left: Left) -> list[tuple[str, tuple[str, tuple[str, ...]]]]:
    """The files of an exchange in groups of about BUCKET_BYTES, each with a name that its files decide."""
    found: list[list[str]] = []
    held = 0
    for path, weight in zip(left.paths, left.weights, strict=True):
        if not found or held + weight > BUCKET_BYTES:
            found.append([])
            held = 0
        found[-1].append(path)
        held += weight
    named = [(digest(group), tuple(group)) for group in found]
    return [(name, (name, group)) for name, group in named]
