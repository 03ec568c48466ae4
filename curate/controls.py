"""Control tokens by a score: which documents, or which of their sentences, a model is told are good.

*Conditional training* (Korbak et al. 2023, arXiv 2302.08582) scores every sentence, and puts a token ``good`` in front
of those at or below a threshold and ``bad`` in front of the others, so that a model learns what both look like and is
asked for one at use. Here the score may be any column of a pipeline, of documents or of sentences; two halves or any
number of buckets.

    docs = docs.then(difficulty.read)
    docs = docs.then(controls.mark_shares, Shares(column="mtld", type="float64", good="high"))    # the better half
    mix = docs.select(...)
    write({"mix": mix}, columns=["spans"])

``mark``         (EACH) writes ``spans`` by edges that are given: published thresholds, or those of an earlier corpus.
``mark_shares``  (WHOLE) finds the edges first, quantiles of all scores; they stand in the run's report.
``of_pieces``    scores sentences or lines: an EACH stage of one's own calls it with what measures a text.

The text stays as it is: a role of a span (docs/tokens.md) is all that is written, and tokenising puts its control token
in front (``controls=``, train/encoders.py). So duplicates, lengths and contamination are those of the text, and scores
still stand for selection. A column ``spans`` that a pipeline has already (chats.py) cannot be marked as well.

What is left out (``drop``) is decided by a hash of the document's key and the number of its sentence. A null score, and
NaN, gets no token, nor does an empty text.

Cost: ``of_pieces`` cuts 15 MB of text a CPU second, ``mark`` takes 8 million sentences; ``mark_shares`` holds 16 bytes
for each different score in one process.
Elsewhere: the rule and how a model is asked (train/conditioning.py), metadata in front of documents (metadata.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import FLOAT32, FLOAT64, INT64, KEY, TEXT
from curate.errors import UnknownSetting
from curate.hashing import halves
from curate.stage import ColumnType, Grain, PerPart, Rows, stage
from curate.train.conditioning import CUTS, Controls, edges_of
from curate.train.spans import TYPE as SPANS

PIECES = pa.list_(pa.struct({"start": INT64, "stop": INT64, "score": FLOAT64}))
TYPES: Mapping[str, pa.DataType] = {"pieces": PIECES, "float32": FLOAT32, "float64": FLOAT64, "int64": INT64}


@dataclass(frozen=True, kw_only=True)
class _Roles:
    """What both stages are told.

    Args:
        column: of the scores.
        type: ``pieces`` (of sentences: what ``of_pieces`` gives), or of documents ``float32``, ``float64``, ``int64``.
        good: which scores are good, ``low`` or ``high``.
        roles: names of the buckets, the best first.
        drop: the share of the tokens that is left out; 0.01 in the paper, for code 0.1.
        seed: of what is left out.
    """

    column: str
    type: str = "pieces"
    good: Literal["low", "high"] = "low"
    roles: tuple[str, ...] = ("good", "bad")
    drop: float = 0.01
    seed: int = 0

    def check(self, edges: tuple[float, ...]) -> Controls:
        """The rule at these edges."""
        where = f"{type(self).__name__}(...)"
        if self.type not in TYPES:
            raise UnknownSetting(f"type={self.type!r}", where=where, fix=f"use one of: {', '.join(TYPES)}")
        try:
            return Controls(edges=edges, roles=self.roles, good=self.good, drop=self.drop, seed=self.seed)
        except ValueError as error:
            raise UnknownSetting(str(error), where=where, fix="see curate/controls.py") from None

    def reads(self) -> dict[str, pa.DataType]:
        """The scores, and by what a document and its end are known."""
        return {"key": KEY, "text_bytes": INT64, self.column: TYPES[self.type]}

    def writes(self) -> dict[str, ColumnType]:
        """The spans."""
        return {"spans": SPANS}


@dataclass(frozen=True, kw_only=True)
class Marks(_Roles):
    """Buckets between given edges.

    Args:
        edges: from the good end on, one fewer than roles; a score at an edge is on the better side. Published: 0.00056
            for a toxicity model's probability, 0 for pieces of personal data and for errors of style a character.
    """

    edges: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        self.check(self.edges)


@dataclass(frozen=True, kw_only=True)
class Shares(_Roles):
    """Buckets by their shares.

    Args:
        shares: of all scores, from the good end up to each edge: (0.5,) for halves, (0.25, 0.5, 0.75) for quarters.
            Where many scores are equal, a bucket is larger than its share, and the next one smaller.
    """

    shares: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        self.check(self.at(np.arange(1.0, 3.0), np.ones(2)))

    def at(self, scores: np.ndarray, counts: np.ndarray) -> tuple[float, ...]:
        """The edges among scores that occur so often; anywhere where there is none."""
        if len(scores) == 0:
            return (0.0,) * len(self.shares)
        try:
            return edges_of(scores, self.shares, self.good, counts)
        except ValueError as error:
            raise UnknownSetting(str(error), where="Shares(...)", fix="for example shares=(0.5,)") from None

    def marks(self, edges: tuple[float, ...]) -> Marks:
        """The same with edges."""
        return Marks(edges=edges, **{f.name: getattr(self, f.name) for f in fields(_Roles)})


def of_pieces(
    docs: pa.Table, measure: Callable[[pa.Table], pa.Array | pa.ChunkedArray | np.ndarray], by: str = "sentences"
) -> pa.Array:
    """Scores of the sentences or lines of documents, a PIECES array, a row a document.

    Args:
        docs: with ``text``, and whatever else ``measure`` reads.
        measure: is handed all sentences as a table with the columns of ``docs``, each beside its document's values, and
            gives a number for each; null for none. Any EACH stage can be called.
        by: ``sentences`` or ``lines``.
    """
    if by not in CUTS:
        raise UnknownSetting(f"by={by!r}", where="of_pieces(...)", fix=f"use one of: {', '.join(CUTS)}")
    pieces: list[str] = []
    counts = np.zeros(docs.num_rows, dtype=np.int64)
    for row, text in enumerate(docs["text"].to_pylist()):
        found = CUTS[by](text or "")
        pieces += found
        counts[row] = len(found)
    document = np.repeat(np.arange(docs.num_rows), counts)
    texts = pa.array(pieces, TEXT)
    sizes = pc.binary_length(texts).cast(INT64)
    table = docs.take(pa.array(document)).set_column(docs.schema.get_field_index("text"), "text", texts)
    if "text_bytes" in docs.column_names:
        table = table.set_column(docs.schema.get_field_index("text_bytes"), "text_bytes", sizes)
    scores = measure(table.combine_chunks())
    if len(scores) != len(pieces):
        raise ValueError(f"of_pieces: {len(scores)} scores for {len(pieces)} {by}; measure must give one for each row")
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    ends = np.cumsum(sizes.to_numpy())
    before = np.concatenate([np.zeros(1, dtype=np.int64), ends])[offsets[:-1]]  # bytes of all documents before
    stops = ends - np.repeat(before, counts)
    found = pa.StructArray.from_arrays(
        [pa.array(stops - sizes.to_numpy()), pa.array(stops), _flat(scores)], fields=list(PIECES.value_type)
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), found).cast(PIECES)


def _flat(scores: pa.Array | pa.ChunkedArray | np.ndarray) -> pa.Array:
    """Numbers as doubles, in one piece."""
    if isinstance(scores, np.ndarray):
        return pa.array(scores).cast(FLOAT64)
    return (scores.combine_chunks() if isinstance(scores, pa.ChunkedArray) else scores).cast(FLOAT64)


@stage(reads=Marks.reads, writes=Marks.writes, grain=Grain.EACH, version="1")
def mark(docs: pa.Table, config: Marks) -> pa.Table:
    """The spans of each document: the whole of it, or its sentences, by the role of their score."""
    keys = halves(docs["key"])[:, 0]
    document, start, stop, scores, numbers = _scored(docs, config)
    bucket = config.check(config.edges).buckets(scores, keys[document], numbers)
    told = (bucket >= 0) & (stop > start)
    spans = pa.StructArray.from_arrays(
        [
            pa.array(start[told]), pa.array(stop[told]), pa.array(config.roles, TEXT).take(pa.array(bucket[told])),
            *(pa.repeat(pa.scalar(value, kind), int(told.sum()))
              for value, kind in (("", TEXT), (False, pa.bool_()), (True, pa.bool_()))),
        ],
        fields=list(SPANS.value_type),
    )  # fmt: skip
    counts = np.bincount(document[told], minlength=docs.num_rows)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    return pa.table({"spans": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), spans).cast(SPANS)})


def _scored(docs: pa.Table, config: _Roles) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What is scored: document, first byte, byte behind it, score (NaN for none), number in the document; (n,) each."""
    column = docs[config.column].combine_chunks()
    if config.type != "pieces":
        rows = np.arange(docs.num_rows)
        size = docs["text_bytes"].fill_null(0).to_numpy()
        scores = column.cast(FLOAT64).to_numpy(zero_copy_only=False)
        return rows, np.zeros_like(rows), size, scores, np.zeros_like(rows)
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    document = np.repeat(np.arange(docs.num_rows), counts)
    found = column.flatten()
    # A piece without a place is as good as empty: nothing is told of it.
    first, last = (pc.struct_field(found, name) for name in ("start", "stop"))
    start, stop = pc.coalesce(first, last, 0).to_numpy(), pc.fill_null(last, 0).to_numpy()
    scores = pc.struct_field(found, "score").to_numpy(zero_copy_only=False)
    return document, start, stop, scores, np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)


@stage(reads=Shares.reads, writes=Shares.writes, grain=Grain.WHOLE, rounds=True, version="1")
def mark_shares(rows: Rows, config: Shares) -> PerPart:
    """The same by quantiles of all scores.

    Reported are ``edge ROLE``, the worst score of each bucket but the last, and ``scores``, how many there are.
    """
    tables = rows.map(_occurring, reads=[config.column], label="scores", given=config, merge=_together)
    scores, counts = (
        np.concatenate([t[name].to_numpy() for t in tables]) if tables else np.zeros(0) for name in ("score", "count")
    )
    edges = config.at(scores, counts)
    told = dict(zip((f"edge {role}" for role in config.roles), edges, strict=False)) if len(scores) else {}
    rows.report({**told, "scores": int(counts.sum())})
    return PerPart(_marked, tuple(config.reads()), config.marks(edges))


def _marked(docs: pa.Table, given: Marks) -> pa.Table:
    return mark.fn(docs, given)


def _occurring(docs: pa.Table, given: Shares) -> pa.Table:
    """Which scores a part has, and how often."""
    column = docs[given.column].combine_chunks()
    if given.type == "pieces":
        column = pc.struct_field(column.flatten(), "score")
    scores = column.cast(FLOAT64).to_numpy(zero_copy_only=False)
    found, counts = np.unique(scores[~np.isnan(scores)], return_counts=True)
    return pa.table({"score": found, "count": counts.astype(np.int64)})


def _together(found: pa.Table, given: Any) -> pa.Table:
    summed = found.group_by("score", use_threads=False).aggregate([("count", "sum")]).sort_by("score")
    return pa.table({"score": summed["score"], "count": summed["count_sum"]})
