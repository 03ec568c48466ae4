"""Spans in a trial: which bytes of a document are learned from and scored, and which are only read.

A sample may have a column ``spans`` (curate.train.spans), and the bytes of spans with ``loss=False`` are *masked*: read
as history, never predicted, in no bits per byte. In training they still use up the budget, which counts what is read.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import BadInput
from curate.train import spans as spans_

SPANS = "spans"

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def spans_of(path: Path) -> list[str]:
    """The column of spans, in a list that is empty where a file has none."""
    return [SPANS] if SPANS in pq.read_schema(path).names else []


def segments(texts: pa.ChunkedArray, spans: pa.ChunkedArray, where: str) -> spans_.Segments:
    """Texts cut at the borders of their spans.

    Raises:
        BadInput: spans that do not fit their text.
    """
    one = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], texts.type)
    try:
        return spans_.read(spans, one, where=where)
    except ValueError as error:
        raise BadInput(
            str(error), where="trial inputs", fix="make spans last, for the very text that they stand beside"
        ) from error


def counted(texts: pa.ChunkedArray, spans: pa.ChunkedArray | None, where: str) -> Bools | None:
    """Which bytes of texts count, one text after the other, bool (bytes,); None where all do."""
    if spans is None:
        return None
    cut = segments(texts, spans, where)
    if all(label.loss for label in cut.labels):
        return None
    return np.repeat(np.array([label.loss for label in cut.labels])[cut.label], cut.stop - cut.start)


def sizes(texts: pa.ChunkedArray, spans: pa.ChunkedArray, where: str) -> Ints:
    """Bytes of each text that count, int64 (texts,)."""
    cut = segments(texts, spans, where)
    weights = (cut.stop - cut.start) * np.array([label.loss for label in cut.labels])[cut.label]
    return np.bincount(cut.document, weights=weights, minlength=len(texts)).astype(np.int64)


def pieces(text: str, spans: pa.ChunkedArray, where: str) -> list[str]:
    """One text in the pieces that it is tokenised in."""
    cut = segments(pa.chunked_array([pa.array([text], pa.large_string())]), spans, where)
    data = text.encode()
    return [data[a:b].decode() for a, b in zip(cut.start.tolist(), cut.stop.tolist(), strict=True)]


def check(inputs: Mapping[str, Path]) -> None:
    """Look at the spans of everything that is trained on, before anything is trained.

    Raises:
        BadInput: spans that do not fit their text.
    """
    for name, path in sorted(inputs.items()):
        if name.partition(":")[0] in ("arm", "replay") and spans_of(path):
            for start, batch in _batches(path):
                texts, spans = (pa.chunked_array([batch[column]]) for column in ("text", SPANS))
                segments(texts, spans, f"input {name!r}, behind row {start:,}" if start else f"input {name!r}")


def _batches(path: Path) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Texts and spans of a file, with the row that each batch begins at."""
    at = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=10_000, columns=["text", SPANS]):
        yield at, batch
        at += len(batch)
