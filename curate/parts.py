"""Parts as tasks see them: reading some columns of the living rows, whatever file each column lies in.

A column lies in one of three places: the base sidecar of the part (``id``, ``key``, ``source``, ``text_bytes``,
declared columns), the document itself (``text``, ``extra``: in the input file, or rewritten in the store), or a
step's sidecar, whose fragments each carry a ``row`` column. Whoever reads gets rows in part order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate import held
from curate.columns import ADDRESS, ROW, address
from curate.dataset import File, Source
from curate.errors import BadInput, RowsLost
from curate.store import Store

DOCUMENT = "document"
BASE = "base"
VALUES = b"curate.values"


@dataclass(frozen=True)
class Part:
    """A piece of one file. ``name`` is a hash of its content (with a number where it repeats); ``of`` is that hash.

    ``rows`` counts all rows, ``living`` those that were not quarantined at reading; ``text_bytes`` is theirs.
    """

    name: str
    of: str
    source: Source
    file: File
    groups: tuple[int, ...] | None
    rows: int
    living: int
    text_bytes: int


@dataclass(frozen=True)
class View:
    """One part of a frame: where its columns lie, and which rows live.

    ``columns`` maps a name to ``"base"``, ``"document"`` or the directory of a step; ``dropped`` is the file of rows
    that were dropped so far, or None.
    """

    part: Part
    ordinal: int
    dropped: str | None
    columns: Mapping[str, str]


def base_path(part: Part) -> str:
    """Where a part's base sidecar lies."""
    return f"parts/{part.of}/base.parquet"


def rows_path(part: Part) -> str:
    """Where the rows of a rewritten part lie."""
    return f"parts/{part.of}/rows.parquet"


def living_rows(store: Store, view: View) -> np.ndarray:
    """Row numbers that live, int64, ascending."""
    rows = _base(store, view.part, [ROW])[ROW].to_numpy()
    if view.dropped is None:
        return np.asarray(rows)
    gone = _kept(store, view.dropped, f"{store.url}/{view.dropped}", [ROW])[ROW].to_numpy()
    return np.setdiff1d(rows, gone, assume_unique=True)


class Columns:
    """The columns of one part, read when asked for; the text is decoded once."""

    def __init__(self, store: Store, view: View) -> None:
        self.store, self.view = store, view
        self._held: dict[str, tuple[np.ndarray | None, pa.ChunkedArray]] = {}

    def put(self, name: str, rows: np.ndarray, values: pa.ChunkedArray) -> None:
        """Remember a column that was just computed."""
        self._held[name] = (rows, values)

    def forget(self) -> None:
        """Let go of everything."""
        self._held.clear()

    def get(self, names: Sequence[str], rows: np.ndarray, *, with_address: bool = False) -> pa.Table:
        """The columns at ``rows`` (ascending row numbers), in that order; optionally with addresses."""
        self._load([n for n in names if not self._covers(n, rows)])
        table = pa.table({n: _at(*self._held[n], rows, n, self.view) for n in names})
        if with_address:
            here = pa.array(address(self.view.ordinal, rows))
            table = table.add_column(0, ADDRESS, here) if names else pa.table({ADDRESS: here})
        return table

    def _covers(self, name: str, rows: np.ndarray) -> bool:
        if name not in self._held:
            return False
        held = self._held[name][0]
        return held is None or bool(np.isin(rows, held, assume_unique=True).all())

    def _load(self, names: list[str]) -> None:
        by_place: dict[str, list[str]] = {}
        for name in names:
            by_place.setdefault(self.view.columns[name], []).append(name)
        part = self.view.part
        for place, wanted in sorted(by_place.items()):
            if place == BASE:
                table = _base(self.store, part, [ROW, *wanted])
                rows = table[ROW].to_numpy()
                for name in set(wanted) - set(table.column_names):  # only other sources declare it
                    table = table.append_column(name, pa.nulls(len(rows), part.source.columns[name]))
            elif place == DOCUMENT:
                table, rows = self._documents(wanted), None
            else:
                table = fragments(self.store, f"{place}/{part.name}", [ROW, *wanted])
                rows = table[ROW].to_numpy()
            for name in wanted:
                self._held[name] = (rows, table[name])

    def _documents(self, wanted: list[str]) -> pa.Table:
        part = self.view.part
        kept = {name: column for name in wanted if (column := held.get(part.of, name)) is not None}
        if len(kept) == len(wanted):
            return pa.table(kept)
        if part.groups is None:
            table = self.store.get_table(rows_path(part), wanted)
        else:
            table = part.source.reread(part.file, part.groups, wanted)
        if table.num_rows != part.rows:
            raise BadInput(
                f"{part.file.path} has changed since it was listed",
                where=part.file.path,
                fix="leave inputs alone during a run, then run again",
            )
        held.put(part.of, {name: table[name] for name in wanted})
        return table


def _base(store: Store, part: Part, columns: Sequence[str]) -> pa.Table:
    """Columns of a part's base sidecar, those that it has."""
    return _kept(store, base_path(part), part.of, columns)


def _kept(store: Store, path: str, of: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a published file, those that it has, from memory where they are kept there under ``of``."""
    found = {name: column for name in columns if (column := held.get(of, name)) is not None}
    if len(found) < len(columns):
        read = store.get_table(path, [name for name in columns if name not in found])
        found |= {name: read[name] for name in read.column_names}
        held.put(of, {name: read[name] for name in read.column_names})
    return pa.table({name: found[name] for name in columns if name in found})


def fragments(store: Store, directory: str, columns: Sequence[str] | None) -> pa.Table:
    """All fragments of a sidecar, in row order; some of its columns, or all."""
    paths = [f"{directory}/{name}" for name in store.names(directory)]
    if columns is None:
        tables = [store.get_table(path) for path in paths]
    else:
        tables = [_kept(store, path, f"{store.url}/{path}", columns) for path in paths]
    if not tables:
        raise RowsLost(
            f"{directory} has no sidecar", where=store.url, fix="files of the store were removed; use a new one"
        )
    table = pa.concat_tables(tables)
    return table if len(tables) == 1 else table.take(np.argsort(table[ROW].to_numpy(), kind="stable"))


def _at(held: np.ndarray | None, values: pa.ChunkedArray, rows: np.ndarray, name: str, view: View) -> pa.ChunkedArray:
    """Values at row numbers; ``held`` None means that every row is there."""
    if held is None:
        if len(rows) == len(values):
            return values
        return values.take(pa.array(rows))
    if len(held) == len(rows) and np.array_equal(held, rows):
        return values
    at = np.searchsorted(held, rows)
    if (len(held) == 0 and len(rows)) or (at >= len(held)).any() or (held[np.minimum(at, len(held) - 1)] != rows).any():
        raise RowsLost(
            f"{name!r} is missing for rows of part {view.part.name}",
            where=view.part.file.path,
            fix="files of the store were removed; use a new one",
        )
    return values.take(pa.array(at))
