"""Where documents are, as values: sources, files, pieces of files, parts. No I/O happens here.

A source lists files and knows how to read one file as *pieces*. Reading a file is the only moment at which bad data
may appear, so a piece also tells what could not be read (``Bad``). The rule that cuts a file into pieces sees that
file alone.

A piece of a Parquet file stays where it is (``groups`` names its row groups); a piece of anything else is handed over
as a table and rewritten once as a Parquet part in the store.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class File:
    """One input file: ``token`` is the store's checksum, or else the modification time; it changes with the content."""

    path: str
    size: int
    token: str


@dataclass(frozen=True)
class Bad:
    """Bytes that could not be read as rows.

    Args:
        file: path or URL.
        offset: first byte (for a Parquet row group: where its first column starts), or -1 where unknown.
        length: number of bytes, or -1 where unknown.
        rows: rows lost, or -1 where they cannot be counted.
        error: what was wrong, without the text itself.
    """

    file: str
    offset: int
    length: int
    rows: int
    error: str


@dataclass(frozen=True)
class Piece:
    """A run of rows of one file.

    Args:
        table: columns ``id``, ``text``, ``source``, the declared columns and ``extra`` (JSON text of every other
            column, or null), for every row, bad ones included (with nulls).
        bad_rows: row numbers in ``table`` that may not live, int, with their error.
        bad: byte ranges of the file that gave no row.
        groups: row groups, for Parquet read in place; None where ``table`` must be rewritten.
    """

    table: pa.Table
    bad_rows: Mapping[int, str] = field(default_factory=dict)
    bad: tuple[Bad, ...] = ()
    groups: tuple[int, ...] | None = None


class Source(Protocol):
    """Where documents come from: a frozen, picklable value."""

    @property
    def name(self) -> str:
        """What it is, for people."""
        ...

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """The declared columns, beside the standard ones."""
        ...

    def listing(self) -> list[File]:
        """The files, in any order. Raises BadInput where there is none."""
        ...

    def read(self, file: File) -> Iterator[Piece]:
        """The pieces of one file, each at most ``part_bytes`` of text, in order; bounded memory."""
        ...

    def reread(self, file: File, groups: tuple[int, ...], columns: list[str]) -> pa.Table:
        """Some columns of a piece that was left in place, exactly as ``read`` gave them."""
        ...

    def identity(self) -> Mapping[str, object]:
        """Everything that decides what ``read`` returns for a file, as JSON-able values."""
        ...
