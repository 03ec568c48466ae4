"""Where documents are, as values: sources, files, pieces of files, parts. No I/O happens here.

A source lists files and knows how to read one file as *pieces*. Reading a file is the only moment at which bad data
may appear, so a piece also tells what could not be read (``Bad``). The rule that cuts a file into pieces sees that
file alone.

Several sources become one frame (``together``): each file is read by its own source, with that source's identity, so
that one more source recomputes nothing of the others; a column that a source does not declare is null in its rows.

A piece of a Parquet file stays where it is (``groups`` names its row groups); a piece of anything else is handed over
as a table and rewritten once as a Parquet part in the store.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from curate.errors import BadPlan


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


# ── several sources as one ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Owned(File):
    """A file of one of several sources: ``member`` is that source's place among them."""

    member: int


@dataclass(frozen=True)
class Member:
    """One of several sources: what it reads is its own, ``columns`` are those of all."""

    own: Source
    columns: Mapping[str, pa.DataType]

    @property
    def name(self) -> str:
        """The source's own."""
        return self.own.name

    def listing(self) -> list[File]:
        """The source's own files."""
        return self.own.listing()

    def read(self, file: File) -> Iterator[Piece]:
        """The pieces of one file, without the columns of other sources."""
        return self.own.read(file)

    def reread(self, file: File, groups: tuple[int, ...], columns: list[str]) -> pa.Table:
        """Some columns of a piece that was left in place."""
        return self.own.reread(file, groups, columns)

    def identity(self) -> Mapping[str, object]:
        """The source's own: which others there are decides nothing of what it reads."""
        return self.own.identity()


@dataclass(frozen=True)
class Together:
    """Several sources as one; made by ``together``."""

    members: tuple[Source, ...]

    @property
    def name(self) -> str:
        """The names of the sources, or the first one and how many more."""
        names = [m.name for m in self.members]
        return " + ".join(names) if len(names) < 4 else f"{names[0]} + {len(names) - 1} sources"

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """The declared columns of all sources."""
        return {name: kind for member in self.members for name, kind in member.columns.items()}

    def member(self, file: File) -> Member:
        """The source of a listed file."""
        if not isinstance(file, Owned):
            raise BadPlan(f"{file.path} is none of its files", where=self.name, fix="read what listing() gives")
        return Member(self.members[file.member], self.columns)

    def listing(self) -> list[File]:
        """The files of every source, in the order of the sources."""
        return [
            Owned(file.path, file.size, file.token, i) for i, m in enumerate(self.members) for file in m.listing()
        ]

    def read(self, file: File) -> Iterator[Piece]:
        """The pieces of one file as its own source gives them."""
        return self.member(file).read(file)

    def reread(self, file: File, groups: tuple[int, ...], columns: list[str]) -> pa.Table:
        """Some columns of a piece that was left in place."""
        return self.member(file).reread(file, groups, columns)

    def identity(self) -> Mapping[str, object]:
        """The identities of all sources."""
        return {"together": [[type(m).__qualname__, dict(m.identity())] for m in self.members]}


def together(*sources: Source) -> Together:
    """Several sources (other formats, other column mappings) as one.

    A column that only some sources declare is null in the rows of the others. Each file is read, and identified, as by
    its own source alone.

    Raises:
        BadPlan: there is no source, or two declare a column with different types.
    """
    members = tuple(m for s in sources for m in (s.members if isinstance(s, Together) else (s,)))
    if not members:
        raise BadPlan("together() was given no source", where="sources.together", fix="name at least one")
    declared: dict[str, tuple[pa.DataType, Source]] = {}
    for member in members:
        for name, kind in member.columns.items():
            before, first = declared.setdefault(name, (kind, member))
            if before != kind:
                raise BadPlan(
                    f"{first.name} declares {name!r} as {before}, {member.name} as {kind}",
                    where="sources.together",
                    fix=f"declare {name!r} with one type in all sources, or leave it out where it is something else",
                )
    return Together(members)


def source_of(source: Source, file: File) -> Source:
    """The source that reads a file: one of several, or the source itself."""
    return source.member(file) if isinstance(source, Together) else source
