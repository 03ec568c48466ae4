"""What every kind of file comes to: rows of ``id``, ``text``, ``source``, the declared columns and ``extra``.

``Wanted`` says which columns of a file these are made of. A row whose value is missing or does not cast stays in the
table, with a null there, and its number goes into ``bad`` with the reason; bytes that give no row are ``Broken``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import TEXT

OTHERS = 4                  # a piece may hold this many times part_bytes in all columns together
ENDINGS = {
    ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".csv": "csv", ".tsv": "csv", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".warc": "warc", ".wet": "warc",
}
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
SHARD = re.compile(r"[-_.]?[0-9]{2,}([-_.]of[-_.][0-9]+)?([-_.][0-9a-f]{8,})?$")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which columns of a file make a row.

    Args:
        id: the column of ids; None makes all ids. ``"id"`` need not be there.
        text: the column of texts.
        source: the column of sources, or None for ``constant_source``, else a column ``source``, else the file's name.
        constant_source: one source for all rows, or None.
        columns: further columns, with the types that they are cast to.
        part_bytes: text of a piece, at most, but for a single row that is longer.
    """

    id: str | None = "id"
    text: str = "text"
    source: str | None = None
    constant_source: str | None = None
    columns: Mapping[str, pa.DataType] = field(default_factory=dict)
    part_bytes: int

    @property
    def schema(self) -> pa.Schema:
        """The columns of every piece."""
        return pa.schema({"id": TEXT, "text": TEXT, "source": TEXT, **self.columns, "extra": TEXT})


class Rows(NamedTuple):
    """Some rows, and why some of them are bad, by their number in the table."""

    table: pa.Table
    bad: dict[int, str]


class Broken(Exception):
    """Bytes that cannot be decoded; the message says why, without the data."""


@contextmanager
def decoding() -> Iterator[None]:
    """Raise ``Broken`` for bytes that cannot be decoded; errors that may pass (a lost connection) stay as they are.

    Arrow reports a broken page as an OSError too, but one without a system's error number.
    """
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise
        raise Broken((str(error).splitlines() or [type(error).__name__])[0][:200]) from error


def file_name(path: str) -> str:
    """A file's name without its folder."""
    return PurePosixPath(path.split("?")[0] if path.startswith("http") else path).name


def compression(path: str) -> str:
    """One of COMPRESSIONS, or empty."""
    return next((ending for ending in COMPRESSIONS if file_name(path).lower().endswith(ending)), "")


def file_kind(path: str) -> str | None:
    """A kind of ENDINGS by the file's ending, or None."""
    name = file_name(path).lower()
    return ENDINGS.get(PurePosixPath(name.removesuffix(compression(path))).suffix)


def stem(path: str) -> str:
    """The source that a file's name tells: without endings and shard numbers, or its folder's where nothing is left.

    ``web-00003-of-00100.parquet`` is ``web``, ``wiki/0001.jsonl.gz`` is ``wiki``.
    """
    name = PurePosixPath(file_name(path))
    while name.suffix.lower() in (*ENDINGS, *COMPRESSIONS):
        name = name.with_suffix("")
    return SHARD.sub("", name.name) or PurePosixPath(path).parent.name or name.name


def join_rows(rows: Sequence[Rows]) -> Rows:
    """One table of several; at least one."""
    starts = np.cumsum([0, *(len(each.table) for each in rows)]).tolist()
    bad = {start + row: why for start, each in zip(starts, rows, strict=False) for row, why in each.bad.items()}
    return Rows(pa.concat_tables([each.table for each in rows]).combine_chunks(), bad)


def cut_rows(rows: Iterable[Rows], part_bytes: int) -> Iterator[Rows]:
    """The same rows in tables of at most ``part_bytes`` of text, and OTHERS times that of text and extra together.

    Where it cuts does not depend on how the rows came. A row that is longer has a table of its own.
    """
    waiting: list[Rows] = []
    room = part_bytes
    for each in rows:
        texts = lengths(each.table["text"])
        ends = np.cumsum(np.maximum(texts, (texts + lengths(each.table["extra"])) // OTHERS))
        start, taken = 0, 0
        while start < len(ends):
            end = int(np.searchsorted(ends, taken + room, side="right"))
            if end <= start and not waiting:
                end = start + 1
            if end > start:
                bad = {row - start: why for row, why in each.bad.items() if start <= row < end}
                waiting.append(Rows(each.table.slice(start, end - start), bad))
                room -= int(ends[end - 1]) - taken
                start, taken = end, int(ends[end - 1])
            if start < len(ends):
                yield join_rows(waiting)
                waiting, room = [], part_bytes
    if waiting:
        yield join_rows(waiting)


def lengths(texts: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Bytes of each text, 0 for null, int64 (n,)."""
    found: npt.NDArray[np.int64] = pc.fill_null(pc.cast(pc.binary_length(texts), pa.int64()), 0).to_numpy()
    return found


def cast_values(array: pa.Array, kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """Arrow's safe cast, value by value; the positions of what does not cast, which become null.

    Raises:
        pa.ArrowNotImplementedError: there is no such cast at all.
    """
    try:
        return pc.cast(array, kind), []
    except pa.ArrowInvalid:
        if len(array) <= 1:
            return pa.nulls(len(array), kind), list(range(len(array)))
    half = len(array) // 2
    left, bad_left = cast_values(array.slice(0, half), kind)
    right, bad_right = cast_values(array.slice(half), kind)
    return pa.concat_arrays([left, right]), [*bad_left, *(half + at for at in bad_right)]
