"""Small sources and stages that the machine's tests are made of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.artifact import fitter
from curate.columns import ADDRESS, FLOAT32, INT32, INT64, TEXT, UINT64
from curate.dataset import Bad, File, Piece
from curate.stage import Direction, Grain, PerPart, Rows, Score, stage


@dataclass(frozen=True)
class Lists:
    """Documents given as lists: file name to texts. ``None`` is a null text, ``bytes`` a range that cannot be read."""

    files: Mapping[str, tuple[str | None, ...]]
    name: str = "lists"
    columns: Mapping[str, pa.DataType] = field(default_factory=dict)
    part_rows: int = 3
    reverse: bool = False

    def listing(self) -> list[File]:
        names = sorted(self.files, reverse=self.reverse)
        return [File(n, sum(len(t or "") for t in self.files[n]), "t") for n in names]

    def read(self, file: File) -> Iterator[Piece]:
        texts = self.files[file.path]
        for start in range(0, len(texts), self.part_rows):
            piece = texts[start : start + self.part_rows]
            bad = {i: "text is null" for i, t in enumerate(piece) if t is None}
            table = pa.table(
                {
                    "id": pa.array([f"{file.path}:{start + i}" for i in range(len(piece))], TEXT),
                    "text": pa.array(piece, TEXT),
                    "source": pa.array([file.path] * len(piece), TEXT),
                    "extra": pa.nulls(len(piece), TEXT),
                }
            )
            yield Piece(table, bad)
        if file.path.startswith("broken"):
            yield Piece(
                pa.table(
                    {
                        "id": pa.array([], TEXT),
                        "text": pa.array([], TEXT),
                        "source": pa.array([], TEXT),
                        "extra": pa.array([], TEXT),
                    }
                ),
                {},
                (Bad(file.path, 10, 5, 1, "not JSON"),),
            )

    def reread(self, file: File, groups: tuple[int, ...], columns: list[str]) -> pa.Table:
        raise AssertionError("lists are rewritten")

    def identity(self) -> Mapping[str, object]:
        return {"part_rows": self.part_rows}


@dataclass(frozen=True, kw_only=True)
class Count:
    """Settings of ``letters``."""

    letter: str = "a"


@stage(reads={"text": TEXT}, writes={"letters": INT64}, grain=Grain.EACH, version="1")
def letters(docs: pa.Table, config: Count) -> pa.Table:
    """How often a letter occurs."""
    counts = pa.compute.count_substring(docs["text"], config.letter)
    return pa.table({"letters": counts.cast(INT64)})


@stage(reads={"text": TEXT}, writes={"size": INT64}, grain=Grain.EACH, version="1")
def size(docs: pa.Table) -> pa.Table:
    """Bytes of the text."""
    return pa.table({"size": pa.compute.binary_length(docs["text"]).cast(INT64)})


@stage(reads={"size": INT64}, writes={"same_size": INT64}, grain=Grain.GROUP, by="size", each=size, version="1")
def same_size(docs: pa.Table) -> pa.Table:
    """How many rows have this size."""
    values, inverse, counts = np.unique(docs["size"].to_numpy(), return_inverse=True, return_counts=True)
    return pa.table({ADDRESS: docs[ADDRESS], "same_size": pa.array(counts[inverse], INT64)})


@stage(reads={"size": INT64}, writes={"rank": INT64}, grain=Grain.WHOLE, version="1")
def rank(docs: pa.Table) -> pa.Table:
    """Rank by (size, address)."""
    order = np.lexsort((docs[ADDRESS].to_numpy(), docs["size"].to_numpy()))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return pa.table({ADDRESS: docs[ADDRESS], "rank": ranks})


def _emit(table: pa.Table, given: Any) -> pa.Table:
    first = pa.compute.utf8_slice_codeunits(table["text"], 0, 1)
    codes = [ord(c) if c else 0 for c in first.to_pylist()]
    return pa.table({ADDRESS: table[ADDRESS], "first": pa.array(codes, UINT64)})


def _collect(table: pa.Table, given: Any) -> pa.Table:
    values, counts = np.unique(table["first"].to_numpy(), return_counts=True)
    return pa.table({"first": values, "count": counts})


def _is_most(table: pa.Table, given: int) -> pa.Table:
    codes = _emit(table, None)["first"].to_numpy()
    return pa.table({"copies": pa.array((codes == given).astype(np.int32), INT32)})


@stage(reads={"text": TEXT}, writes={"copies": INT32}, grain=Grain.WHOLE, rounds=True, version="1")
def most_frequent_first(rows: Rows) -> PerPart:
    """Choose the rows whose first letter is the most frequent (the smallest letter of those)."""
    counts = rows.exchange(_emit, _collect, reads=["text"], by="first", label="letters")
    best = max(zip(counts["count"].to_pylist(), (-c for c in counts["first"].to_pylist()), strict=True))
    rows.report({"letter": chr(-best[1]), "rows": best[0]})
    return PerPart(_is_most, ("text",), -best[1])


@fitter(reads={"text": TEXT}, version="1")
def longest(docs: pa.Table, config: Count, out: Path) -> dict[str, float]:
    """Remember the length of the longest text."""
    length = pa.compute.max(pa.compute.binary_length(docs["text"])).as_py()
    (out / "length.txt").write_text(str(length))
    return {"length": float(length)}


def open_length(config: Count, against: Path) -> int:
    return int((against / "length.txt").read_text())


@stage(
    reads={"text": TEXT},
    writes={"share": Score(FLOAT32, Direction.HIGH, "of the longest", "none")},
    grain=Grain.EACH,
    load=open_length,
    version="1",
)
def share(docs: pa.Table, config: Count, length: int) -> pa.Table:
    """Length as a share of the longest."""
    return pa.table(
        {"share": pa.compute.divide(pa.compute.binary_length(docs["text"]).cast(FLOAT32), float(length)).cast(FLOAT32)}
    )


@stage(reads={"text": TEXT}, writes={"text": TEXT, "word": INT64}, grain=Grain.MANY, version="1")
def words(docs: pa.Table) -> pa.Table:
    """One row a word, numbered; a text without words has no row."""
    split = [(i, k, w) for i, text in enumerate(docs["text"].to_pylist()) for k, w in enumerate(text.split())]
    rows, numbers, found = zip(*split, strict=True) if split else ((), (), ())
    return pa.table({"row": pa.array(rows, INT64), "text": pa.array(found, TEXT), "word": pa.array(numbers, INT64)})


@stage(reads={"text": TEXT}, writes={"tokens": INT64}, grain=Grain.EACH, version="1")
def tokens(docs: pa.Table) -> pa.Table:
    """A token a byte."""
    return pa.table({"tokens": pa.compute.binary_length(docs["text"]).cast(INT64)})
