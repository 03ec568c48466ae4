"""Parquet: rows that stay where they are.

1. The footer tells how much text each row group holds. Consecutive groups become as few runs of at most ``part_bytes``
   as can be, and these as even as can be, so that two workers share a file of 72 MB as 36 and 36, not as 64 and 8.
2. Groups are decoded in batches; each batch becomes rows, a column at a time, by rules that see a row alone: so
   rereading some columns of some groups gives exactly what reading gave.
3. A row group of more than GIANT times ``part_bytes``, by the footer or, as dictionaries hide from a footer how long
   texts are, as it is decoded, is handed over in pieces without ``groups``, to be rewritten: workers can then share it,
   and none must hold it.
4. A group that cannot be decoded is lost whole, with the rows that the footer promises; of a giant one, the rest is.
   Page checksums are looked at where they were written.

Arrow does not look whether text is UTF-8 when it reads; here it is looked at, in all columns.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from curate.columns import TEXT
from curate.dataset import Bad, File, Piece
from curate.errors import BadData, BadInput
from curate.reading import jsontext
from curate.reading.rows import (
    OTHERS,
    Broken,
    Rows,
    Wanted,
    cast_values,
    cut_rows,
    decoding,
    file_name,
    join_rows,
    lengths,
    stem,
)

GIANT = 4                   # a row group of more than this many part_bytes is rewritten
BATCH_ROWS = 8192           # rows decoded at a time, at most
BUFFER = 8_000_000          # bytes of a column read at a time


def read(wanted: Wanted, file: File) -> Iterator[Piece]:
    """The pieces of a Parquet file; see the module's story.

    Raises:
        BadInput: a column that is asked for is not there, or of a type that cannot be what it should.
    """
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(_open(wanted, file))
        except Broken as why:
            lost = Bad(file.path, 0, file.size, -1, f"not a Parquet file that can be read: {why}")
            yield Piece(wanted.schema.empty_table(), bad=(lost,))
            return
        yield from _pieces(opened)


def reread(wanted: Wanted, file: File, groups: tuple[int, ...], columns: Sequence[str]) -> pa.Table:
    """Some columns of some row groups, exactly as ``read`` gave them.

    Raises:
        BadData: the file cannot be decoded any more.
    """
    try:
        with _open(wanted, file) as opened:
            rows = [each for group in groups for each in opened.batches(group, columns)]
    except Broken as why:
        raise BadData(f"a file that was read before cannot be decoded: {why}", where=file.path,
                      fix="restore the file, or run again: it is listed anew") from why
    empty = pa.schema([wanted.schema.field(name) for name in columns]).empty_table()
    return join_rows([Rows(empty, {}), *rows]).table


@contextmanager
def _open(wanted: Wanted, file: File) -> Iterator["_Opened"]:
    """An open file; raises Broken where it is not one."""
    fs, path = url_to_fs(file.path)
    with ExitStack() as stack:
        where = path if isinstance(fs, LocalFileSystem) else stack.enter_context(fs.open(path, "rb"))
        with decoding():
            # With a buffer Arrow decodes a column as it is read; else it would first hold the whole row group.
            opened = stack.enter_context(
                pq.ParquetFile(where, pre_buffer=False, buffer_size=BUFFER, page_checksum_verification=True)
            )
            schema = opened.schema_arrow
        if len(set(schema.names)) < len(schema.names):
            raise Broken("two columns have one name")
        yield _Opened(wanted, file, opened, _layout(wanted, schema, file))


def _pieces(opened: "_Opened") -> Iterator[Piece]:
    """Runs of row groups left in place; giant ones in tables."""
    limit = opened.wanted.part_bytes
    for run in runs(opened.weights, limit):
        held = _Held(opened.wanted)
        for group in run:
            batches = opened.batches(group, opened.wanted.schema.names)
            giant = opened.weights[group] > GIANT * limit
            taken: deque[Rows] = deque()
            weight = 0
            try:
                while not giant and (rows := next(batches, None)) is not None:
                    taken.append(rows)
                    weight += max(int(lengths(rows.table["text"]).sum()), rows.table.nbytes // OTHERS)
                    giant = weight > GIANT * limit
            except Broken as why:
                held.bad.append(opened.lost(group, opened.sizes[group], why))
                continue
            if giant:
                yield from held.pieces()
                held = _Held(opened.wanted)
                yield from _giant(opened, group, chain(_emptied(taken), batches))
                continue
            if held.weight + weight > limit:  # only where the footer told less
                yield from held.pieces()
                held = _Held(opened.wanted)
            held.rows += taken
            held.groups.append(group)
            held.weight += weight
        yield from held.pieces()


def _emptied(taken: deque[Rows]) -> Iterator[Rows]:
    """What was taken, let go as it is handed on."""
    while taken:
        yield taken.popleft()


def _giant(opened: "_Opened", group: int, batches: Iterable[Rows]) -> Iterator[Piece]:
    """A row group in pieces to be rewritten; if it breaks, what was decoded lives."""
    bad: list[Bad] = []

    def until_broken() -> Iterator[Rows]:
        left = opened.sizes[group]
        try:
            for rows in batches:
                left -= len(rows.table)
                yield rows
        except Broken as why:
            bad.append(opened.lost(group, left, why))

    for rows in cut_rows(until_broken(), opened.wanted.part_bytes):
        yield Piece(rows.table, rows.bad)
    if bad:
        yield Piece(opened.wanted.schema.empty_table(), bad=tuple(bad))


class _Held:
    """A piece in the making: row groups to leave in place, and those that could not be read."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.rows: list[Rows] = []
        self.groups: list[int] = []
        self.bad: list[Bad] = []
        self.weight = 0

    def pieces(self) -> Iterator[Piece]:
        """The piece, if there is anything to tell."""
        if self.rows:
            rows = join_rows(self.rows)
            yield Piece(rows.table, rows.bad, tuple(self.bad), tuple(self.groups))
        elif self.bad:
            yield Piece(self.wanted.schema.empty_table(), bad=tuple(self.bad))


def runs(weights: Sequence[int], limit: int) -> list[list[int]]:
    """Consecutive row groups in as few runs below the limit as can be, and these as even as can be.

    Even means that the heaviest is as light as it can be, found by bisection. A group that weighs more than the limit
    is a run of its own.
    """
    def packed(most: int) -> list[list[int]]:
        found: list[list[int]] = []
        room = -1
        for group, weight in enumerate(weights):
            if not found or weight > room:
                found.append([])
                room = most
            found[-1].append(group)
            room -= weight
        return found

    count = len(packed(limit))
    low, high = 0, limit
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(packed(middle)) <= count else (middle + 1, high)
    return packed(low)


class _Layout(NamedTuple):
    """Which column of the file becomes what; None for what is made."""

    id: str | None
    text: str
    source: str | None
    others: tuple[str, ...]


def _layout(wanted: Wanted, schema: pa.Schema, file: File) -> _Layout:
    """Find the columns; raises BadInput for one that is asked for and not there, or cannot be what it should."""
    def wrong(what: str, fix: str) -> BadInput:
        return BadInput(f"{what}; its columns are {', '.join(schema.names)}", where=file.path, fix=fix)

    def checked(name: str, fix: str, *, integers: bool) -> str:
        if name not in schema.names:
            raise wrong(f"there is no column {name!r}", fix)
        kind = schema.field(name).type
        if not (_is_text(kind) or (integers and _is_integer(kind))):
            raise wrong(f"column {name!r} is {kind}, not text", fix)
        return name

    text = checked(wanted.text, "name the column of texts: text='...'", integers=False)
    id_ = wanted.id if wanted.id != "id" or "id" in schema.names else None
    if id_ is not None:
        checked(id_, "name the column of ids, id='...', or let them be made, id=None", integers=True)
    source = wanted.source
    if source is None and wanted.constant_source is None and "source" in schema.names:
        source = "source"
    if source is not None:
        fix = "name the column of sources: source='...', or one source for all: constant_source='...'"
        checked(source, fix, integers=True)
    for name, kind in wanted.columns.items():
        if name not in schema.names:
            raise wrong(f"there is no column {name!r}", "declare one of its columns")
        try:
            pc.cast(pa.array([], schema.field(name).type), kind)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise wrong(f"column {name!r} is {schema.field(name).type}, which does not cast to {kind}",
                        "declare another type") from error
    used = {id_, text, source, *wanted.columns}
    return _Layout(id_, text, source, tuple(name for name in schema.names if name not in used))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    asked = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
             pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_null)
    return any(is_it(kind) for is_it in asked)


def _is_integer(kind: pa.DataType) -> bool:
    return _is_integer(kind.value_type) if pa.types.is_dictionary(kind) else bool(pa.types.is_integer(kind))


class _Opened:
    """An open Parquet file and what its footer tells."""

    def __init__(self, wanted: Wanted, file: File, opened: pq.ParquetFile, layout: _Layout) -> None:
        self.wanted, self.file, self.opened, self.layout = wanted, file, opened, layout
        self.metadata = opened.metadata
        groups = [self.metadata.row_group(group) for group in range(self.metadata.num_row_groups)]
        at = [i for i in range(self.metadata.num_columns) if opened.schema.column(i).path == layout.text]
        self.sizes = [group.num_rows for group in groups]
        self.weights = [
            max(sum(group.column(i).total_uncompressed_size for i in at), group.total_byte_size // OTHERS)
            for group in groups
        ]

    def batches(self, group: int, columns: Sequence[str]) -> Iterator[Rows]:
        """The rows of a row group, in batches of about a quarter of a piece, as far as the footer tells."""
        first, size = sum(self.sizes[:group]), self.sizes[group]
        names = self._made_of(columns)
        if not names:  # ids that are made, say: Arrow gives no batch of no columns
            yield self._rows({}, range(first, first + size), columns)
            return
        count = max(1, min(BATCH_ROWS, size * (self.wanted.part_bytes // 4) // max(self.weights[group], 1)))
        batches = self.opened.iter_batches(count, row_groups=[group], columns=names, use_threads=False)
        seen = 0
        while True:
            with decoding():
                batch = next(batches, None)
            if batch is None:
                break
            at = range(first + seen, first + seen + batch.num_rows)
            yield self._rows({name: batch.column(name) for name in names}, at, columns)
            seen += batch.num_rows
        if seen != size:
            raise Broken(f"it holds {seen} rows, the footer says {size}")

    def lost(self, group: int, rows: int, why: Broken) -> Bad:
        """Rows of a row group; its bytes are those from its first page on, as many as its columns have."""
        columns = [self.metadata.row_group(group).column(i) for i in range(self.metadata.num_columns)]
        starts = [c.dictionary_page_offset if c.has_dictionary_page else c.data_page_offset for c in columns]
        size = sum(c.total_compressed_size for c in columns)
        return Bad(self.file.path, min(starts), size, rows, f"row group {group} cannot be decoded: {why}")

    def _made_of(self, columns: Sequence[str]) -> list[str]:
        """The file's columns that some columns of a piece are made of."""
        layout = self.layout
        made_of: dict[str, Sequence[str | None]] = {
            "id": [layout.id], "text": [layout.text], "source": [layout.source], "extra": layout.others,
            **{name: [name] for name in self.wanted.columns},
        }
        return list(dict.fromkeys(name for each in columns for name in made_of[each] if name is not None))

    def _rows(self, raw: Mapping[str, pa.Array], at: range, columns: Sequence[str]) -> Rows:
        """The rows ``at`` of the file; each column follows from those that it is made of, and from the row alone."""
        bad: dict[int, str] = {}

        def spoil(rows: Iterable[int], why: str) -> None:
            for row in rows:
                bad[row] = f"{bad[row]}; {why}" if row in bad else why

        def clean(name: str) -> pa.Array:
            array = raw[name]
            array, invalid = valid(_as_text(array) if _is_text(array.type) else array)
            spoil(invalid, f"column {name!r} is not valid UTF-8")
            return array

        made: dict[str, pa.Array] = {}
        for name in columns:
            if name == "text":
                made[name] = clean(self.layout.text)
                spoil([row for row in np.flatnonzero(made[name].is_null()).tolist() if row not in bad], "text is null")
            elif name == "id":
                own = None if self.layout.id is None else _integers_as_text(clean(self.layout.id))
                if own is None or own.null_count:
                    file = file_name(self.file.path)
                    numbered = pa.array([f"{file}:{row}" for row in at], TEXT)
                    own = numbered if own is None else pc.coalesce(own, numbered)
                made[name] = own
            elif name == "source":
                constant = self.wanted.constant_source
                made[name] = pa.repeat(pa.scalar(stem(self.file.path) if constant is None else constant, TEXT), len(at))
                if self.layout.source is not None:
                    made[name] = pc.fill_null(_integers_as_text(clean(self.layout.source)), "")
            elif name == "extra":
                made[name] = jsontext.objects({other: clean(other) for other in self.layout.others}, len(at))
            else:
                kind = self.wanted.columns[name]
                made[name], lost = cast_values(clean(name), kind)
                spoil(lost, f"column {name!r}: {raw[name].type} does not cast to {kind}")
        return Rows(pa.table(made, schema=pa.schema([self.wanted.schema.field(name) for name in columns])), bad)


def _as_text(array: pa.Array) -> pa.Array:
    """Text or bytes as large_string, not looked at."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type) or pa.types.is_binary_view(array.type):
        return pc.cast(array, pa.large_binary()).view(TEXT)
    return pc.cast(array, TEXT)


def _integers_as_text(array: pa.Array) -> pa.Array:
    return pc.cast(array.dictionary_decode() if pa.types.is_dictionary(array.type) else array, TEXT)


def valid(array: pa.Array) -> tuple[pa.Array, list[int]]:
    """The array with null where a string, nested ones included, is not UTF-8; and where that is."""
    if _is_valid(array):
        return array, []
    invalid = [at for at in range(len(array)) if not _is_valid(array.take(pa.array([at])))]
    lost = set(invalid)
    return array.take(pa.array([None if at in lost else at for at in range(len(array))], pa.int64())), invalid


def _is_valid(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
