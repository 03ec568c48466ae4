"""Reading: files become parts, rows get keys, and what cannot be read is quarantined.

A task reads one file, once. Every piece becomes a part, named by a hash of its content; its base sidecar holds what
every document carries. A piece of a Parquet file stays where it is, anything else is rewritten as Parquet in the
store. The record of a file is remembered by (source settings, path, size, token), so that an unchanged file is never
read again.

A key is XXH3-128 over the id, the source, the text and all other columns, each with its length.

A MANY stage makes parts in the same way (``Replace``): each new row keeps its parent's address and source columns and
gets a key and an id of its own. A parent that could not be replaced is quarantined with its error; one that nothing is
left of is dropped; both are kept by part, row and id. ``compact`` makes parts of the rows that are left (``Rewrite``),
which stay the same rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate import held
from curate.columns import BYTES, INT64, KEY, PARENT, QUARANTINED, ROW, TEXT
from curate.dataset import Bad, File, Member, Piece, Source
from curate.errors import RowsLost
from curate.hashing import digest, value_hash
from curate.identity import plain
from curate.parts import VALUES, Columns, Part, View, living_rows
from curate.passes import DROPPED, Compute, conform, invoke
from curate.stage import arrow_type
from curate.store import Store
from curate.xxh3 import hash_strings

NO_ROWS_LEFT = "no_rows_left"
VERSION = "1"  # of what reading makes of a piece; part of a file's record
QUARANTINE = pa.schema(
    [("file", TEXT), ("offset", INT64), ("length", INT64), ("rows", INT64), ("row", INT64), ("error", TEXT)]
)
REPLACED = pa.schema([*QUARANTINE, ("part", TEXT), ("id", TEXT)])  # rows are counted from the start of the part


def record_path(source: Source, file: File) -> str:
    """Where the record of a file lies."""
    source = source.own if isinstance(source, Member) else source
    what = [VERSION, type(source).__qualname__, plain(dict(source.identity())), file.path, file.size, file.token]
    return f"inputs/{digest(what)}.json"


@dataclass(frozen=True)
class Ingest:
    """The task that reads one file and returns its record: parts, counts, and where its quarantine lies."""

    store: Store

    def __call__(self, item: tuple[Source, File]) -> dict[str, Any]:
        """Read a file into parts."""
        source, file = item
        parts: list[dict[str, Any]] = []
        bad: list[Bad] = []
        bad_rows: list[tuple[int, int, str]] = []
        for piece in source.read(file):
            bad += piece.bad
            if piece.table.num_rows:
                part = store_part(self.store, piece)
                parts.append(part)
                bad_rows += [(len(parts) - 1, row, error) for row, error in sorted(piece.bad_rows.items())]
        path = record_path(source, file)
        record = {
            "parts": parts,
            "living": sum(p["living"] for p in parts),
            "rows": sum(p["rows"] for p in parts) + sum(b.rows for b in bad if b.rows > 0),
            "text_bytes": sum(p["text_bytes"] for p in parts),
            "quarantined": len(bad_rows) + sum(b.rows for b in bad if b.rows > 0),
            "uncounted": sum(b.rows < 0 for b in bad),
            "quarantine": None,
        }
        if bad or bad_rows:
            record["quarantine"] = path.replace(".json", ".quarantine.parquet")
            self.store.put_table(record["quarantine"], _quarantine(file, bad, bad_rows, parts))
        return dict(self.store.put_json(path, record))


@dataclass(frozen=True)
class Replace:
    """The task of a MANY stage: the living rows of a part become a new part; returns its record, as ``Ingest`` does.

    What was quarantined and dropped lies under ``lost``, in a file for each part that lost something.
    """

    store: Store
    compute: Compute
    lost: str

    def __call__(self, view: View) -> dict[str, Any]:
        """Replace the rows of one part."""
        columns = Columns(self.store, view)
        rows = living_rows(self.store, view)
        stage = self.compute.stage
        made = invoke(self.compute, self.store, columns.get(list(stage.reads(self.compute.config)), rows))
        promised = {ROW: INT64} | {n: arrow_type(c) for n, c in stage.writes(self.compute.config).items()}
        made = conform(made, promised, None, stage.name, view.part.file.path, {QUARANTINED: TEXT})
        made = made.take(pa.array(np.argsort(made[ROW].to_numpy(), kind="stable")))
        at = made[ROW].to_numpy()
        if len(at) and not 0 <= at[0] <= at[-1] < len(rows):
            raise RowsLost(
                f"{stage.name} was given {len(rows)} rows and names row {at[-1]}",
                where=view.part.file.path,
                fix="`row` is an index into the table that the stage was given",
            )
        errors: dict[int, str] = {}
        if QUARANTINED in made.column_names:
            failed = made.filter(made[QUARANTINED].is_valid())
            for row, error in zip(failed[ROW].to_pylist(), failed[QUARANTINED].to_pylist(), strict=True):
                errors.setdefault(row, error)
            made = made.filter(pa.array(~np.isin(at, list(errors)))).drop_columns(QUARANTINED)
            at = made[ROW].to_numpy()
        for name in {"id", "text"} & set(promised):
            if made[name].null_count:
                raise RowsLost(
                    f"{stage.name} wrote {made[name].null_count} rows without {name!r}",
                    where=view.part.file.path,
                    fix="leave such rows out, or write an empty text",
                )
        source = view.part.source
        own = source.own if isinstance(source, Member) else source  # whatever other sources there are
        carried = tuple(dict.fromkeys(["id", "text", "source", *own.columns, "extra"]))
        parents = columns.get([c for c in carried if c not in promised], rows[at])
        table = pa.table({n: made[n] if n in promised else parents[n] for n in (*carried, *promised) if n != ROW})
        number = np.arange(len(at)) - np.searchsorted(at, at)
        if "id" not in promised:
            ids = pc.binary_join_element_wise(table["id"], pa.array(number).cast(TEXT), pa.scalar("#", TEXT))
            table = table.set_column(table.column_names.index("id"), "id", ids)
        held.forget(view.part.of)
        part = store_part(self.store, Piece(table.append_column(PARENT, _addresses(view, rows[at]))))
        gone = np.setdiff1d(np.arange(len(rows)), [*at, *errors])
        ids = columns.get(["id"], rows)["id"]
        if len(gone):
            lost = [rows[gone], ids.take(pa.array(gone)).combine_chunks()]
            why = [pa.array([word] * len(gone), TEXT) for word in (self.compute.label, NO_ROWS_LEFT)]
            self.store.put_table(self._at("dropped", view), pa.table([*lost, *why], schema=DROPPED))
        if errors:
            self.store.put_table(self._at(QUARANTINED, view), _replaced(view, rows, ids, errors))
        return {
            "parts": [part] if len(at) else [],
            "rows_in": len(rows),
            "rows_kept": len(np.unique(at)),
            "childless": len(gone),
            "quarantined": len(errors),
            "quarantine": self._at(QUARANTINED, view) if errors else None,
        }

    def _at(self, what: str, view: View) -> str:
        return f"{self.lost}/{what}/{view.part.name}.parquet"


@dataclass(frozen=True)
class Rewrite:
    """The task of ``compact``: the living rows of some parts become one new part, with all their columns.

    Keys are not made anew, for the rows are the same. Columns of steps go to a sidecar under ``home``.
    """

    store: Store
    home: str
    base: tuple[str, ...]
    steps: tuple[str, ...]

    def __call__(self, group: tuple[str, tuple[View, ...]]) -> dict[str, Any]:
        """Rewrite a group of parts."""
        _, views = group
        tables = []
        for view in views:
            rows = living_rows(self.store, view)
            names = ["text", "extra", *(n for n in self.base if n in view.columns), *self.steps]
            table = Columns(self.store, view).get(names, rows)
            if PARENT not in view.columns:
                table = table.append_column(PARENT, _addresses(view, rows))
            tables.append(table)
            held.forget(view.part.of)
        table = pa.concat_tables(tables).combine_chunks()
        if not table.num_rows:
            return {"parts": [], "rows_in": 0}
        row = pa.array(np.arange(table.num_rows), INT64)
        base = table.select(list(self.base)).add_column(0, ROW, row)
        of = digest([value_hash(base), table.num_rows, "compact"])
        self.store.put_table(f"parts/{of}/base.parquet", base)
        self.store.put_table(f"parts/{of}/rows.parquet", table.select(["text", "extra"]))
        if self.steps:
            columns = table.select(list(self.steps)).add_column(0, ROW, row)
            columns = columns.replace_schema_metadata({VALUES: value_hash(columns)})
            self.store.put_table(f"{self.home}/{of}/0.parquet", columns)
        part = {
            "of": of,
            "groups": None,
            "rows": table.num_rows,
            "living": table.num_rows,
            "text_bytes": int(pc.sum(table["text_bytes"]).as_py() or 0),
        }
        return {"parts": [part], "rows_in": table.num_rows}


def _addresses(view: View, rows: np.ndarray) -> pa.Array:
    """Addresses of rows as text, "part:row"."""
    return pc.binary_join_element_wise(
        pa.scalar(view.part.name, TEXT), pa.array(rows).cast(TEXT), pa.scalar(":", TEXT)
    )


def store_part(store: Store, piece: Piece) -> dict[str, Any]:
    """Publish what every row of a piece carries, and its rows where they must be rewritten; returns its entry."""
    lives = np.ones(piece.table.num_rows, dtype=bool)
    lives[list(piece.bad_rows)] = False
    rows = np.flatnonzero(lives)
    table = piece.table.combine_chunks()
    living = table if lives.all() else table.take(pa.array(rows))
    declared = [n for n in table.column_names if n not in {"id", "text", "source", "extra"}]
    sizes = pc.binary_length(living["text"])
    base = pa.table(
        {
            ROW: pa.array(rows, INT64),
            "id": living["id"],
            "key": keys(living),
            "source": living["source"],
            "text_bytes": sizes.cast(INT64),
            **{n: living[n] for n in declared},
        }
    )
    of = digest([value_hash(base), table.num_rows, sorted(piece.bad_rows.items())])
    store.put_table(f"parts/{of}/base.parquet", base)
    if piece.groups is None:
        store.put_table(f"parts/{of}/rows.parquet", table)
    held.put(of, {name: table[name] for name in ("text", "extra")})
    return {
        "of": of,
        "groups": None if piece.groups is None else list(piece.groups),
        "rows": table.num_rows,
        "living": len(rows),
        "text_bytes": int(pc.sum(sizes).as_py() or 0),
    }


def keys(docs: pa.Table) -> pa.Array:
    """128-bit keys of documents, binary(16): one hash a row over every column, names and lengths included."""
    head = docs.select(sorted(n for n in docs.column_names if n != "text"))
    head = head.cast(pa.schema([(f.name, _json_type(f.type)) for f in head.schema])) if _has_binary(head) else head
    lines = pl.DataFrame(head).select(pl.struct(pl.all()).struct.json_encode()).to_series().cast(pl.Binary)
    out = np.empty((docs.num_rows, 2), dtype=">u8")
    out[:, 0], out[:, 1] = hash_strings(lines.to_arrow().cast(BYTES), followed_by=docs["text"].cast(BYTES))
    return pa.FixedSizeBinaryArray.from_buffers(KEY, docs.num_rows, [None, pa.py_buffer(out.tobytes())])


def _has_binary(table: pa.Table) -> bool:
    return any(pa.types.is_binary(t) or pa.types.is_large_binary(t) for t in table.schema.types)


def _json_type(kind: pa.DataType) -> pa.DataType:
    return TEXT if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else kind


def _quarantine(
    file: File, bad: Sequence[Bad], bad_rows: Sequence[tuple[int, int, str]], parts: Sequence[dict[str, Any]]
) -> pa.Table:
    """One line a lost byte range (row -1) or row (offset -1; the row is counted from the start of the file)."""
    starts = np.concatenate([[0], np.cumsum([p["rows"] for p in parts])]).astype(int)
    rows = [(b.file, b.offset, b.length, b.rows, -1, b.error) for b in bad]
    rows += [(file.path, -1, -1, 1, int(starts[p]) + row, error) for p, row, error in bad_rows]
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), QUARANTINE, strict=True)], schema=QUARANTINE
    )


def _replaced(view: View, rows: np.ndarray, ids: pa.ChunkedArray, errors: Mapping[int, str]) -> pa.Table:
    """One line a row of a part that a MANY stage could not replace."""
    found = [
        (view.part.file.path, -1, -1, 1, int(rows[i]), error, view.part.name, ids[i].as_py())
        for i, error in sorted(errors.items())
    ]
    columns = zip(*found, strict=True)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, REPLACED, strict=True)], schema=REPLACED)


def parts_of(records: Sequence[tuple[Source, File, dict[str, Any]]]) -> list[Part]:
    """All parts of a listing, sorted by name; repeats of the same content are numbered in order of their path."""
    found = sorted(
        (
            (entry["of"], file.path, k, entry, source, file)
            for source, file, record in records
            for k, entry in enumerate(record["parts"])
        ),
        key=lambda x: x[:3],
    )
    parts, repeats = [], 0
    for i, (of, _, _, entry, source, file) in enumerate(found):
        repeats = repeats + 1 if i and found[i - 1][0] == of else 0
        groups = None if entry["groups"] is None else tuple(entry["groups"])
        parts.append(
            Part(
                f"{of}-{repeats}" if repeats else of,
                of,
                source,
                file,
                groups,
                entry["rows"],
                entry["living"],
                entry["text_bytes"],
            )
        )
    return sorted(parts, key=lambda p: p.name)
