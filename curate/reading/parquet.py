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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from curate.dataset import Bad, File, Piece
from curate.errors import BadData
from curate.reading.rows import OTHERS, Broken, Rows, Wanted, cut_rows, decoding, join_rows, lengths
from curate.reading.tabular import Layout, layout_of

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
        yield _Opened(wanted, file, opened, layout_of(wanted, schema, file))


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


class _Opened:
    """An open Parquet file and what its footer tells."""

    def __init__(self, wanted: Wanted, file: File, opened: pq.ParquetFile, layout: Layout) -> None:
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
        names = self.layout.made_of(columns)
        if not names:  # ids that are made, say: Arrow gives no batch of no columns
            yield self.layout.rows({}, range(first, first + size), columns)
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
            yield self.layout.rows({name: batch.column(name) for name in names}, at, columns)
            seen += batch.num_rows
        if seen != size:
            raise Broken(f"it holds {seen} rows, the footer says {size}")

    def lost(self, group: int, rows: int, why: Broken) -> Bad:
        """Rows of a row group; its bytes are those from its first page on, as many as its columns have."""
        columns = [self.metadata.row_group(group).column(i) for i in range(self.metadata.num_columns)]
        starts = [c.dictionary_page_offset if c.has_dictionary_page else c.data_page_offset for c in columns]
        size = sum(c.total_compressed_size for c in columns)
        return Bad(self.file.path, min(starts), size, rows, f"row group {group} cannot be decoded: {why}")
