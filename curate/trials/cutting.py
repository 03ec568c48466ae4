"""Arms cut into chunks: disjoint, consecutive, of equal budgets across arms, one a seed.

*Epochs.* A tiny trial reads everything once, and so favours cuts so strict that the training they are meant for would
have to repeat them. With ``final_tokens`` each arm's unique text shrinks until it is repeated in the trial as often as
there; budgets, which count what is read, stay equal. How much text the whole mix has is in the metadata of its sample
(``curate.of``, JSON with ``bytes``); a sample without it is taken to be the whole mix, a control as large as its mix.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import BadInput
from curate.text import string_buffers
from curate.trials import masks, told
from curate.trials.arms import BASELINES, arms_of
from curate.trials.encoding import encode, encode_spans, open_tokenizer
from curate.trials.settings import MOST_EPOCHS, Trial, sample_bytes

OF = b"curate.of"
REPLAY = "replay"
BYTES_A_TOKEN = 4.0  # where no tokenizer is given
LOOKED_AT = 1_000_000  # bytes of random from which the bytes of a token are taken
LEAST = 0.5  # of the budget that all else allows, which a control must fill


@dataclass(frozen=True)
class Repeated:
    """How often an arm is read, in the trial and in the training it is meant for.

    Args:
        whole_bytes: of the whole mix that the arm was drawn from.
        known: whether that stood in the sample; else the sample is taken to be all.
        of_random: that size as a share of what random was drawn from: what the mix keeps, where random is the pool.
        at_final: epochs at the final budget, below 1 where it does not use the mix up; None without a final budget.
        epochs: in the trial.
    """

    whole_bytes: int
    known: bool
    of_random: float
    at_final: float | None
    epochs: float


@dataclass(frozen=True)
class Chunks:
    """Where arms are cut for one instrument.

    Args:
        budget: bytes or tokens that are read of every chunk.
        cuts: arm to the row ranges of its chunks; ``replay`` among them where a base is trained on.
        used: rows at the head of random whose documents random' may not hold.
        repeated: arm to how often it is read.
        left_out: arms that were asked for where possible, and are too small.
    """

    budget: int
    cuts: dict[str, list[tuple[int, int]]]
    used: int
    repeated: Mapping[str, Repeated] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def run(self, arm: str, seed: int) -> dict[str, Any]:
        """What a run needs to know of its chunk; JSON-able."""
        start, stop = self.cuts[arm][seed]
        out = {"arm": arm, "seed": seed, "start": start, "stop": stop, "without": self.without(arm)}
        if (epochs := self.repeated[arm].epochs) > 1:
            out["epochs"] = epochs
        if REPLAY in self.cuts:
            out["replay"] = list(self.cuts[REPLAY][seed])
        return out

    def without(self, arm: str) -> int:
        """Rows at the head of random whose documents an arm may not hold."""
        return self.used if arm == "random'" else 0


def repeated_of(config: Trial, arms: Sequence[str], inputs: Mapping[str, Path]) -> dict[str, Repeated]:
    """How often each arm is read."""
    whole = {arm: _whole(inputs[f"arm:{arm}"]) for arm in arms}
    for arm, mix in arms_of(inputs).controls.items():
        if arm in whole and mix in whole:
            whole[arm] = whole[mix]  # a control stands for a mix of that size, not for the sample that was drawn of it
    pool = whole["random"][0]
    if config.final_tokens is None:
        return {arm: Repeated(size, known, size / pool, None, 1.0) for arm, (size, known) in whole.items()}
    final = config.final_tokens * config.share * bytes_a_token(inputs)
    return {
        arm: Repeated(size, known, size / pool, final / size, min(MOST_EPOCHS, max(1.0, final / size)))
        for arm, (size, known) in whole.items()
    }


def _whole(path: Path) -> tuple[int, bool]:
    """Bytes of the mix that a sample was drawn from, and whether the sample says so."""
    file = pq.ParquetFile(path)
    said = (file.schema_arrow.metadata or {}).get(OF)
    if said is not None:
        return max(1, int(json.loads(said)["bytes"])), True
    sizes = sum(int(pc.sum(batch["text_bytes"]).as_py() or 0) for batch in file.iter_batches(columns=["text_bytes"]))
    return max(1, sizes), False


def bytes_a_token(inputs: Mapping[str, Path]) -> float:
    """Bytes of a token, from the head of random; 4 without a tokenizer."""
    if "tokenizer" not in inputs and "base" not in inputs:
        return BYTES_A_TOKEN
    tokenizer = open_tokenizer(inputs)
    size = tokens = 0
    for batch in pq.ParquetFile(inputs["arm:random"]).iter_batches(batch_size=200, columns=["text"]):
        texts = batch["text"].to_pylist()
        size += sum(len(text.encode()) for text in texts)
        tokens += sum(len(ids) + 1 for ids in encode(tokenizer, texts))
        if size >= LOOKED_AT:
            break
    return size / tokens if tokens else BYTES_A_TOKEN


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


def plan_of(
    instrument: str, config: Trial, arms: Sequence[str], inputs: Mapping[str, Path], controls: Sequence[str] = ()
) -> Chunks:
    """Cut all arms alike: the asked budget, or the largest that every arm can fill.

    Args:
        instrument: whose unit budgets are in.
        config: settings.
        arms: that must be cut.
        inputs: by name.
        controls: arms that are left out where they cannot fill half of what all others can: a pool that holds nothing
            of a mix's sources has no draw with those sources, and is no reason not to judge the mix.

    Raises:
        BadInput: an arm that cannot be cut at all.
    """
    cutter = _Cutter(instrument, config, [*arms, *controls], inputs)
    best = cutter.best(arms)
    if best is None:
        raise _too_small(cutter, arms, inputs)
    fits = [arm for arm in controls if cutter.fits(arm, int(np.ceil(LEAST * best.budget)))]
    if fits:
        best = cutter.best([*arms, *fits]) or best
    return replace(best, left_out=tuple(arm for arm in controls if arm not in fits))


def _too_small(cutter: "_Cutter", arms: Sequence[str], inputs: Mapping[str, Path]) -> BadInput:
    """The error for arms that cannot be cut, with what each holds."""
    said, shortened = [], False
    for arm in [arm for arm in (*arms, *cutter.replay) if not cutter.fits(arm, 1)] or arms:
        held = pq.read_metadata(inputs[cutter.input_of(arm)]).num_rows
        whole = 0 if arm == REPLAY else cutter.repeated[arm].whole_bytes
        shortened |= whole > 2 * sample_bytes(cutter.config)
        said.append(f"{arm} ({held} documents)")
    long_ = (
        "; samples end before the document that would pass their budget, so split documents of many megabytes"
        if shortened else ""
    )  # fmt: skip
    return BadInput(
        f"{', '.join(said)}: too small to be cut into {cutter.chunks} chunks for the {cutter.instrument}",
        where="trial inputs",
        fix=f"give more documents: random, random' (beside those of random) and each mix{long_}",
    )


class _Cutter:
    """Arms of one instrument, to be cut at this budget or that."""

    def __init__(self, instrument: str, config: Trial, arms: Sequence[str], inputs: Mapping[str, Path]) -> None:
        self.instrument = instrument
        self.config = config
        self.chunks = config.repeats(instrument)
        self.repeated = repeated_of(config, arms, inputs)
        share = config.share if instrument == "transformer" and REPLAY in inputs else 1.0
        self.replay = [REPLAY] if share < 1 else []
        self.parts = {arm: share / self.repeated[arm].epochs for arm in arms} | dict.fromkeys(self.replay, 1 - share)
        self.sizes = {arm: _Sizes(_sizes(instrument, self.input_of(arm), config, inputs)) for arm in self.parts}
        first, second = (
            pq.read_table(inputs[f"arm:{arm}"], columns=["key"])["key"].combine_chunks() for arm in BASELINES
        )
        self.place = pc.index_in(second, value_set=first).fill_null(len(first)).to_numpy(zero_copy_only=False)

    @staticmethod
    def input_of(arm: str) -> str:
        """The name of an arm's input."""
        return REPLAY if arm == REPLAY else f"arm:{arm}"

    def cut(self, arm: str, budget: int, leave: np.ndarray | None = None) -> list[tuple[int, int]] | None:
        """An arm's chunks of a run's budget; None where it holds too little."""
        return self.sizes[arm].cut(int(np.ceil(budget * self.parts[arm])), self.chunks, leave)

    def fits(self, arm: str, budget: int) -> bool:
        """Whether an arm fills its chunks."""
        return self.cut(arm, budget) is not None

    def attempt(self, arms: Sequence[str], budget: int) -> Chunks | None:
        """All arms cut alike; None where one holds too little."""
        cuts: dict[str, list[tuple[int, int]]] = {}
        used = 0
        for arm in (*arms, *self.replay):
            ranges = self.cut(arm, budget, self.place < used if arm == "random'" else None)
            if ranges is None:
                return None
            cuts[arm] = ranges
            used = ranges[-1][1] if arm == "random" else used
        return Chunks(budget, cuts, used, self.repeated)

    def best(self, arms: Sequence[str]) -> Chunks | None:
        """The asked budget, or the largest that every arm can fill; None where one cannot be cut at all."""
        low, high = 0, self.config.budget(self.instrument)
        best = self.attempt(arms, high)
        if best is None:
            while high - low > max(1, low // 1_000):
                middle = (low + high) // 2
                if (found := self.attempt(arms, middle)) is None:
                    high = middle
                else:
                    best, low = found, middle
        return best


def _sizes(instrument: str, name: str, config: Trial, inputs: Mapping[str, Path]) -> Iterator[np.ndarray]:
    """Bytes, or tokens, of an input's documents, batch by batch, int64; without metadata, as some are read."""
    file = pq.ParquetFile(inputs[name])
    if instrument == "ngram":
        for batch in file.iter_batches(columns=["text_bytes"]):
            yield batch["text_bytes"].to_numpy()
    else:
        tokenizer = open_tokenizer(inputs)
        spans = masks.spans_of(Path(inputs[name]))
        for batch in file.iter_batches(batch_size=1_000, columns=["text", *spans]):
            # one more for the separator that stands before each document
            if spans and name.removeprefix("arm:") in config.told:
                of = told.encode(config, inputs, batch["text"], batch[masks.SPANS], None, f"input {name!r}")
                yield np.diff(of.offsets)
            elif spans:
                yield np.diff(encode_spans(inputs, batch["text"], batch[masks.SPANS], f"input {name!r}").offsets)
            else:
                texts = batch["text"].to_pylist()
                yield np.array([len(ids) + 1 for ids in encode(tokenizer, texts)], dtype=np.int64)


@dataclass(frozen=True)
class Share:
    """What one run reads.

    Args:
        arm: whose chunk it is.
        rows: the chunk's documents.
        epochs: how often they are read.
        part: of what the run reads, the share that comes from the arm.
        replay: documents that give the rest.
        spans: of the chunk's documents; None where they have none.
        replay_spans: of those that give the rest.
        told: whether the arm is told what it reads.
        metadata: of the chunk's documents, where it is told them.
    """

    arm: str
    rows: pa.ChunkedArray
    epochs: float = 1.0
    part: float = 1.0
    replay: pa.ChunkedArray | None = None
    spans: pa.ChunkedArray | None = None
    replay_spans: pa.ChunkedArray | None = None
    told: bool = False
    metadata: pa.ChunkedArray | None = None

    @property
    def named(self) -> str:
        """Where the chunk's documents come from, for errors."""
        return f"input 'arm:{self.arm}'"

    def counted(self) -> masks.Bools | None:
        """Which bytes of the chunk's documents count, bool (bytes,); None where all do."""
        return masks.counted(self.rows, self.spans, self.named)

    def text(self) -> tuple[np.ndarray, np.ndarray]:
        """The chunk's documents as offsets and bytes."""
        return string_buffers(self.rows)

    def texts(self) -> list[str]:
        """The chunk's documents."""
        return list(self.rows.to_pylist())

    def replayed(self) -> list[str]:
        """The documents that give the rest."""
        return [] if self.replay is None else list(self.replay.to_pylist())


def share_of(run: Mapping[str, Any], config: Trial, inputs: Mapping[str, Path]) -> Share:
    """What a run of a job reads (``Chunks.run``); ``and`` names a second chunk that stands behind the first."""
    chunks = [run, *([run["and"]] if "and" in run else [])]
    rows, spans = _documents(inputs, [(f"arm:{c['arm']}", c["start"], c["stop"], c["without"]) for c in chunks])
    if run["arm"] in config.told:
        path = Path(inputs[f"arm:{run['arm']}"])
        metadata = None
        if told.has_metadata(path):
            of = read(inputs, f"arm:{run['arm']}", [told.METADATA], run["start"], run["stop"], run["without"])
            metadata = of[told.METADATA]
        return Share(run["arm"], rows, spans=spans, told=True, metadata=metadata)
    if "replay" not in run:
        return Share(run["arm"], rows, run.get("epochs", 1.0), spans=spans)
    replay, replay_spans = _documents(inputs, [(REPLAY, *run["replay"], 0)])
    return Share(run["arm"], rows, run.get("epochs", 1.0), config.share, replay, spans, replay_spans)


def _documents(
    inputs: Mapping[str, Path], chunks: Sequence[tuple[str, int, int, int]]
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    """Texts of chunks (input, start, stop, without) one behind the other, and their spans where any chunk has some."""
    tables = [read(inputs, chunk[0], ["text", *masks.spans_of(Path(inputs[chunk[0]]))], *chunk[1:]) for chunk in chunks]
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")
    return table["text"], table[masks.SPANS] if masks.SPANS in table.column_names else None


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
    return first_bytes_of(*string_buffers(texts), budget)


def first_bytes_of(offsets: np.ndarray, data: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of documents as offsets and data."""
    end = min(int(offsets[0]) + budget, int(offsets[-1]))
    while offsets[0] < end < offsets[-1] and data[end] & 0xC0 == 0x80:  # in the middle of a UTF-8 character
        end -= 1
    return np.minimum(offsets, end), data
