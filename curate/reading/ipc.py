"""Arrow IPC, files and streams (``.arrow``, Feather 2): record batches, read once and rewritten.

1. A file is a stream between two marks, so both are read as streams, one record batch at a time, and dictionaries as
   they come; nothing is mapped into memory.
2. Arrow trusts what it reads: offsets of a damaged batch could point anywhere. So each batch is checked in full before
   a value is looked at. One that fails is lost, with its bytes, and the next is read; where what stands there is no
   message, the rest of the file is lost. Text that is not UTF-8 is its row's, as in Parquet.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pyarrow as pa
from fsspec.core import url_to_fs

from curate.dataset import Bad, File, Piece
from curate.reading.rows import Broken, Rows, Wanted, cut_rows, decoding
from curate.reading.tabular import layout_of

MAGIC = b"ARROW1\0\0"
SLICE = 8192                # rows of a batch made into rows at a time
NO_BATCH = 1 << 36          # bytes that no buffer of a batch has


def read(wanted: Wanted, file: File) -> Iterator[Piece]:
    """The pieces of an Arrow file, none of them left in place.

    Raises:
        BadInput: a column that is asked for is not there, or of a type that cannot be what it should.
    """
    bad: list[Bad] = []
    for rows in cut_rows(_batches(wanted, file, bad), wanted.part_bytes):
        yield Piece(rows.table, rows.bad, tuple(bad))
        bad.clear()
    if bad:
        yield Piece(wanted.schema.empty_table(), bad=tuple(bad))


def _batches(wanted: Wanted, file: File, bad: list[Bad]) -> Iterator[Rows]:
    fs, path = url_to_fs(file.path)
    with fs.open(path, "rb") as handle:
        if handle.read(len(MAGIC)) != MAGIC:
            handle.seek(0)
        where, number = 0, 0
        try:
            with decoding(), _sensible():
                reader = pa.ipc.open_stream(_Clipped(handle, file.size))
                for each in reader.schema:
                    _name(each)
            if len(set(reader.schema.names)) < len(reader.schema.names):
                raise Broken("two columns have one name")
        except Broken as why:
            bad.append(Bad(file.path, 0, file.size, -1, f"not an Arrow file that can be read: {why}"))
            return
        layout = layout_of(wanted, reader.schema, file)
        names = layout.made_of(wanted.schema.names)
        while True:
            where = handle.tell()
            try:
                with decoding(), _sensible():
                    batch = reader.read_next_batch()
            except StopIteration:
                return
            except Broken as why:
                end = handle.tell()
                if end <= where == file.size and bad:  # it took the rest with it
                    return
                if end <= where:
                    bad.append(Bad(file.path, where, file.size - where, -1, f"the file breaks off: {why}"))
                    return
                bad.append(Bad(file.path, where, end - where, -1, f"a record batch cannot be decoded: {why}"))
                continue
            try:
                for name in names:
                    _check(batch.column(name))
            except pa.ArrowInvalid as error:
                told = f"a damaged batch: {str(error).splitlines()[0][:200]}"
                bad.append(Bad(file.path, where, handle.tell() - where, batch.num_rows, told))
                number += batch.num_rows
                continue
            for start in range(0, batch.num_rows, SLICE):
                piece = batch.slice(start, SLICE)
                at = range(number + start, number + start + piece.num_rows)
                yield layout.rows({name: piece.column(name) for name in names}, at, wanted.schema.names)
            number += batch.num_rows


def _name(each: pa.Field) -> str:
    """A field's name; raises UnicodeDecodeError where it, or one below it, is not text."""
    kind = each.type
    for below in ("value_field", "key_field", "item_field"):
        if hasattr(kind, below):
            _name(getattr(kind, below))
    for i in range(kind.num_fields if pa.types.is_struct(kind) else 0):
        _name(kind.field(i))
    return str(each.name)


class _Clipped:
    """A file of which no more is asked than it has: a damaged length would have the buffer allocated first."""

    closed = False

    def __init__(self, handle: IO[bytes], size: int) -> None:
        self._handle, self._size = handle, size

    def read(self, count: int = -1) -> bytes:
        left = self._size - self._handle.tell()
        return self._handle.read(count if self._size < 0 or 0 <= count <= left else max(left, 0))

    def tell(self) -> int:
        return self._handle.tell()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """The handle is closed by who opened it."""


@contextmanager
def _sensible() -> Iterator[None]:
    """Raise ``Broken`` where memory is asked for that no batch has: a length was damaged. Else memory is short."""
    try:
        yield
    except MemoryError as error:
        asked = [int(size) for size in re.findall(r"size (-?[0-9]+)", str(error))]
        if not asked or 0 <= max(asked) < NO_BATCH:
            raise
        raise Broken("a length beyond all measure") from error


def _check(array: pa.Array) -> None:
    """Raise ArrowInvalid for buffers that do not fit together; whether text is UTF-8 is left to its rows."""
    kind = array.type
    if pa.types.is_string(kind):
        array = array.view(pa.binary())
    elif pa.types.is_large_string(kind):
        array = array.view(pa.large_binary())
    array.validate(full=True)
