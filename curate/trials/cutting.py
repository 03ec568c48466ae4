"""Arms cut into chunks: disjoint, consecutive, of equal budgets across arms, one a seed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import BadInput
from curate.text import string_buffers
from curate.trials.arms import BASELINES
from curate.trials.encoding import encode, open_tokenizer
from curate.trials.settings import Trial


@dataclass(frozen=True)
class Chunks:
    """Where arms are cut for one instrument.

    Args:
        budget: bytes or tokens of every chunk.
        cuts: arm to the row ranges of its chunks.
        used: rows at the head of random whose documents random' may not hold.
    """

    budget: int
    cuts: dict[str, list[tuple[int, int]]]
    used: int

    def without(self, arm: str) -> int:
        """Rows at the head of random whose documents an arm may not hold."""
        return self.used if arm == "random'" else 0


class _Sizes:
    """Sizes of an arm's documents, in its order; counted only as far as they are asked for."""

    def __init__(self, batches: Iterator[np.ndarray]) -> None:
        self.batches = batches
        self.sizes = np.empty(0, dtype=np.int64)

    def cut(self, budget: int, chunks: int, leave: np.ndarray | None = None) -> list[tuple[int, int]] | None:
        """Row ranges of consecutive chunks, each the fewest rows that hold the budget; None where there are too few.

        Args:
            budget: size of each chunk.
            chunks: how many.
            leave: rows that do not count, bool, for all rows of the arm.
        """
        while (out := self._cut(budget, chunks, leave)) is None:
            more = next(self.batches, None)
            if more is None:
                return None
            self.sizes = np.concatenate([self.sizes, more])
        return out

    def _cut(self, budget: int, chunks: int, leave: np.ndarray | None) -> list[tuple[int, int]] | None:
        sizes = self.sizes if leave is None else np.where(leave[: len(self.sizes)], 0, self.sizes)
        ends = np.cumsum(sizes)
        out = []
        start = 0
        for _ in range(chunks):
            stop = int(np.searchsorted(ends, (ends[start - 1] if start else 0) + budget)) + 1
            if stop > len(ends):
                return None
            out.append((start, stop))
            start = stop
        return out


def plan_of(instrument: str, config: Trial, arms: Sequence[str], inputs: Mapping[str, Path]) -> Chunks:
    """Cut all arms alike: the asked budget, or the largest that every arm can fill."""
    sizes = {arm: _Sizes(_sizes(instrument, arm, inputs)) for arm in arms}
    first, second = (pq.read_table(inputs[f"arm:{arm}"], columns=["key"])["key"].combine_chunks() for arm in BASELINES)
    place = pc.index_in(second, value_set=first).fill_null(len(first)).to_numpy(zero_copy_only=False)
    chunks = config.repeats(instrument)

    def attempt(budget: int) -> Chunks | None:
        cuts: dict[str, list[tuple[int, int]]] = {}
        used = 0
        for arm in arms:
            ranges = sizes[arm].cut(budget, chunks, place < used if arm == "random'" else None)
            if ranges is None:
                return None
            cuts[arm] = ranges
            used = ranges[-1][1] if arm == "random" else used
        return Chunks(budget, cuts, used)

    low, high = 0, config.budget(instrument)
    best = attempt(high)
    if best is None:
        while high - low > max(1, low // 1_000):
            middle = (low + high) // 2
            if (found := attempt(middle)) is None:
                high = middle
            else:
                best, low = found, middle
    if best is None:
        raise BadInput(
            f"an arm is too small to be cut into {chunks} chunks for the {instrument}", where="trial inputs",
            fix="give the arms more documents: random, random' (beside those of random) and each mix",
        )  # fmt: skip
    return best


def _sizes(instrument: str, arm: str, inputs: Mapping[str, Path]) -> Iterator[np.ndarray]:
    """Bytes, or tokens, of an arm's documents, batch by batch, int64."""
    file = pq.ParquetFile(inputs[f"arm:{arm}"])
    if instrument == "ngram":
        for batch in file.iter_batches(columns=["text_bytes"]):
            yield batch["text_bytes"].to_numpy()
    else:
        tokenizer = open_tokenizer(inputs)
        for batch in file.iter_batches(batch_size=1_000, columns=["text"]):
            # one more for the separator that stands before each document
            yield np.array([len(ids) + 1 for ids in encode(tokenizer, batch["text"].to_pylist())], dtype=np.int64)


def read(
    inputs: Mapping[str, Path], name: str, columns: list[str], start: int, stop: int | None, without: int
) -> pa.Table:
    """Rows [start, stop) of an input, without those whose key stands in the first ``without`` rows of random."""
    extra = ["key"] if without else []
    schema = pq.read_schema(inputs[name])
    batches = list(_batches(inputs[name], [*columns, *extra], start, stop))
    table = pa.Table.from_batches(batches, pa.schema([schema.field(c) for c in [*columns, *extra]]))
    if without:
        taken = pa.Table.from_batches(list(_batches(inputs["arm:random"], ["key"], 0, without)))["key"]
        table = table.filter(pc.invert(pc.is_in(table["key"], value_set=taken.combine_chunks())))
    return table.select(columns)


def _batches(path: Path, columns: list[str], start: int, stop: int | None) -> Iterator[pa.RecordBatch]:
    """Rows [start, stop) of a Parquet file, to its end where ``stop`` is None."""
    at = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=columns):
        if stop is not None and at >= stop:
            return
        end = len(batch) if stop is None else min(stop - at, len(batch))
        if at + len(batch) > start:
            first = max(start - at, 0)
            yield batch.slice(first, end - first)
        at += len(batch)


def first_bytes(texts: pa.ChunkedArray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and data of the documents, cut to ``budget`` bytes, or up to 3 less: no character is split."""
    offsets, data = string_buffers(texts)
    end = min(int(offsets[0]) + budget, int(offsets[-1]))
    while offsets[0] < end < offsets[-1] and data[end] & 0xC0 == 0x80:  # in the middle of a UTF-8 character
        end -= 1
    return np.minimum(offsets, end), data
