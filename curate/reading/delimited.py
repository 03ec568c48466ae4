"""CSV: rows of texts, read once and rewritten.

1. Lines come as in JSON Lines (streams.py); Python's ``csv`` takes as many of them as a row needs, because text in
   quotes may hold newlines, and the file is never held.
2. The first row names the columns, unless they are given. All values are texts; declared columns are cast by Arrow, and
   an empty value is null there, as it is for an id; in ``extra`` it is left out. A text may be empty.
3. Lost, each with its range of bytes: a row of another number of values than there are names, text behind a closing
   quote, bytes that are not UTF-8, a row that goes on for more than ROW_BYTES. It goes on with the line behind; a quote
   that is never closed takes with it what stands up to the next quote, and of how many rows that was nothing is known.

Offsets in a compressed file are offsets in what it decompresses to, and the error says so.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from fsspec.core import url_to_fs

from curate.columns import TEXT
from curate.dataset import Bad, File, Piece
from curate.reading import streams
from curate.reading.rows import Broken, Rows, Wanted, compression, cut_rows, file_name
from curate.reading.tabular import Layout, layout_of

ROW_BYTES = 256_000_000
BATCH_ROWS, BATCH_CHARS = 8192, 8_000_000


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How values stand in a line. ``header`` names the columns of files whose first row does not.

    Without a delimiter it is a tab in files that are called ``.tsv`` and a comma in others.
    """

    delimiter: str | None = None
    quote: str = '"'
    header: tuple[str, ...] | None = None


def read(wanted: Wanted, file: File, dialect: Dialect) -> Iterator[Piece]:
    """The pieces of a CSV file, none of them left in place.

    Raises:
        BadInput: a column that is asked for is not there.
    """
    bad: list[Bad] = []
    for rows in cut_rows(_batches(wanted, file, dialect, bad), wanted.part_bytes):
        yield Piece(rows.table, rows.bad, tuple(bad))
        bad.clear()
    if bad:
        yield Piece(wanted.schema.empty_table(), bad=tuple(bad))


def _batches(wanted: Wanted, file: File, dialect: Dialect, bad: list[Bad]) -> Iterator[Rows]:
    fs, path = url_to_fs(file.path)
    packed = compression(file.path)
    note = " (decompressed offset)" if packed else ""
    delimiter = dialect.delimiter or ("\t" if ".tsv" in file_name(file.path).lower() else ",")
    taken: list[list[str]] = []
    number, chars = 0, 0
    with fs.open(path, "rb") as handle:
        found = _rows(streams.lines(streams.DECOMPRESS[packed](handle)), delimiter, dialect.quote)
        names, layout = dialect.header, None
        for row in found:
            if isinstance(row.values, Broken):
                bad.append(Bad(file.path, row.offset, row.length, row.rows, str(row.values) + note))
                continue
            if names is None:
                names = tuple(row.values)
                continue
            if len(set(names)) < len(names):
                bad.append(Bad(file.path, 0, file.size, -1, "two columns have one name"))
                return
            layout = layout or layout_of(wanted, pa.schema([(name, TEXT) for name in names]), file)
            if len(row.values) != len(names):
                why = f"{len(row.values)} values, where there are {len(names)} columns"
                bad.append(Bad(file.path, row.offset, row.length, row.rows, why + note))
                continue
            taken.append(row.values)
            chars += row.length
            if len(taken) >= BATCH_ROWS or chars >= BATCH_CHARS:
                yield _table(layout, names, taken, number)
                number, taken, chars = number + len(taken), [], 0
        if layout is not None and names is not None:
            yield _table(layout, names, taken, number)


@dataclass(frozen=True)
class _Row:
    """A row, or why it is none; where it stands, and how many rows are lost with it."""

    values: list[str] | Broken
    offset: int
    length: int
    rows: int


def _rows(lines: Iterator[tuple[int, int, bytes | Broken | None]], delimiter: str, quote: str) -> Iterator[_Row]:
    """The rows of a file, blank lines left out."""
    feed = _Feed(lines)
    csv.field_size_limit(ROW_BYTES)  # of the whole process: its default is 128 kB
    reader = csv.reader(feed, delimiter=delimiter, quotechar=quote, strict=True)
    while True:
        feed.begin()
        values: list[str] | Broken | None
        try:
            values = next(reader)
        except StopIteration:
            values = None
        except csv.Error as error:
            values = Broken(f"not CSV: {error}")
        if feed.broken is not None:
            yield _Row(Broken(f"the file breaks off: {feed.broken}"), feed.offset, -1, -1)
            return
        if values is None:
            return
        if feed.count == 0 or values == []:
            continue
        if feed.invalid:
            values = Broken("not UTF-8")
        yield _Row(values, feed.offset, feed.length, 1 if feed.count == 1 or isinstance(values, list) else -1)


class _Feed:
    """Lines for ``csv``, as text; remembers which the current row was given."""

    def __init__(self, lines: Iterator[tuple[int, int, bytes | Broken | None]]) -> None:
        self._lines = lines
        self.broken: Broken | None = None
        self._first = True
        self.begin()

    def begin(self) -> None:
        """A new row begins."""
        self.offset, self.length, self.count, self.invalid = -1, 0, 0, False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        offset, length, line = next(self._lines)
        self.offset = offset if self.offset < 0 else self.offset
        if isinstance(line, Broken):
            self.broken = line
            raise StopIteration
        self.count += 1
        self.length = offset + length - self.offset
        if line is None or self.length > ROW_BYTES:
            raise csv.Error(f"a row of more than {ROW_BYTES} bytes")
        if self._first:
            line, self._first = line.removeprefix(b"\xef\xbb\xbf"), False
        try:
            return line.decode() + "\n"
        except UnicodeDecodeError:
            self.invalid = True
            return line.decode(errors="replace") + "\n"


def _table(layout: Layout, names: Sequence[str], taken: list[list[str]], first: int) -> Rows:
    """Rows of values; where empty means nothing, they become null."""
    wanted = layout.wanted
    kept = {wanted.text, *(name for name, kind in wanted.columns.items() if kind == TEXT)}
    raw = {}
    for i, name in enumerate(names):
        values = pa.array([row[i] for row in taken], TEXT)
        raw[name] = values if name in kept else pc.if_else(pc.equal(values, ""), pa.scalar(None, TEXT), values)
    return layout.rows(raw, range(first, first + len(taken)), wanted.schema.names)
