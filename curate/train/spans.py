"""The column ``spans``: which bytes of a text are whose, in which language, and whether the loss counts them.

    spans: list<struct<start: int64, stop: int64, role: string, language: string, code: bool, loss: bool>>

A span is ``text.encode()[start:stop]``. Spans of a row stand in the order of the text and do not overlap; what none of
them covers is plain text, which the loss counts. ``start`` and ``stop`` are needed; without the others a span has role
and language "", is no code, and counts. A row without spans is plain.

``read`` checks all of that and says of the first span that is wrong in which row it stands and what is wrong with it.
``Segments`` are the text cut at every border of a span: each is tokenised by itself, so that no token belongs to two
and a mask is exact to the byte. The price is that a token of the uncut text may fall apart at a border; and tokenizers
that put a space in front of every text (older SentencePiece ones) put one in front of every segment.

Elsewhere: making spans from chats (curate/chats.py), tokens (tokenising.py).
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.train.data import PLAIN, Label

TYPE = pa.list_(
    pa.struct(
        {
            "start": pa.int64(), "stop": pa.int64(), "role": pa.large_string(), "language": pa.large_string(),
            "code": pa.bool_(), "loss": pa.bool_(),
        }
    )
)  # fmt: skip


class Segments(NamedTuple):
    """Texts cut at the borders of their spans. No segment is empty.

    Args:
        document: int64 (n,), the row that a segment is of; not decreasing.
        start: int64 (n,), its first byte in the text.
        stop: int64 (n,), the byte behind its last one.
        label: int64 (n,), its kind, an index into ``labels``.
        labels: the kinds; the first one is plain.
    """

    document: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    label: np.ndarray
    labels: tuple[Label, ...]


def read(spans: pa.Array | pa.ChunkedArray, texts: pa.Array, *, where: str = "") -> Segments:
    """The segments of texts with spans.

    Args:
        spans: the column, a list of structs a row; null for none.
        texts: strings, as many; null for the empty text.
        where: what to name in an error beside the row, for example the file.

    Raises:
        ValueError: a column of another type; a span without start or stop, that is empty, leaves the text, cuts a
            character in two, or overlaps the one before it.
    """
    place = f"{where}, " if where else ""
    if isinstance(spans, pa.ChunkedArray):
        spans = spans.combine_chunks()
    kind = spans.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        raise ValueError(f"{place}spans are of type {kind}; write them as list<struct<start: int64, stop: int64, ...>>")
    fields = {kind.value_type.field(i).name for i in range(kind.value_type.num_fields)}
    if not {"start", "stop"} <= fields:
        raise ValueError(f"{place}spans have the fields {sorted(fields)}; give each at least start and stop, in bytes")
    sizes = pc.fill_null(pc.list_value_length(spans), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    document = np.repeat(np.arange(len(spans)), sizes)
    first = np.cumsum(sizes) - sizes
    values = spans.flatten()
    ends = (_field(values, name, pa.int64(), None, fields, place) for name in ("start", "stop"))
    start, stop = (column.to_numpy(zero_copy_only=False) for column in ends)
    offsets, data = _bytes(texts)
    length = np.diff(offsets)
    _check(start, stop, document, first, offsets, data, place)
    label, labels = _labels(values, fields, place)

    # Between two spans, before the first and after the last there may be plain text: a gap in front of every span, and
    # one at the end of every text.
    n, rows = len(document), len(sizes)
    before = np.zeros(n, dtype=np.int64)
    before[1:] = stop[:-1]
    before[first[sizes > 0]] = 0
    behind = np.zeros(rows, dtype=np.int64)
    behind[sizes > 0] = stop[(first + sizes - 1)[sizes > 0]]
    at = 2 * np.arange(n) + document  # of the gap in front of each span; its span follows
    tail = 2 * (first + sizes) + np.arange(rows)
    out = np.empty((4, 2 * n + rows), dtype=np.int64)
    out[:, at] = document, before, start, np.zeros(n, dtype=np.int64)
    out[:, at + 1] = document, start, stop, label
    out[:, tail] = np.arange(rows), behind, length, np.zeros(rows, dtype=np.int64)
    out = out[:, out[2] > out[1]]
    return Segments(out[0], out[1], out[2], out[3], labels)


def _field(values: pa.Array, name: str, kind: pa.DataType, default: object, fields: set[str], place: str) -> pa.Array:
    """A field of the spans; null is the default."""
    if name not in fields:
        return pa.repeat(pa.scalar(default, kind), len(values))
    column = pc.struct_field(values, name)
    try:
        column = column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{place}the field {name!r} of spans is {column.type}; write it as {kind} ({error})") from None
    if default is None and column.null_count:
        raise ValueError(f"{place}{column.null_count} spans have no {name!r}; give each one, in bytes of UTF-8")
    return column if default is None else pc.fill_null(column, default)


def _check(
    start: np.ndarray, stop: np.ndarray, document: np.ndarray, first: np.ndarray, offsets: np.ndarray,
    data: np.ndarray, place: str,
) -> None:  # fmt: skip
    """Raise for the first span that cannot be."""
    length = np.diff(offsets)[document]
    begin = offsets[document]

    def inside_character(at: np.ndarray) -> np.ndarray:
        inner = (at > 0) & (at < length)
        out = np.zeros(len(at), dtype=bool)
        out[inner] = data[(begin + at)[inner]] & 0xC0 == 0x80
        return out

    earlier = np.zeros(len(start), dtype=np.int64)
    earlier[1:] = stop[:-1]
    number = np.arange(len(start)) - first[document]
    earlier[number == 0] = 0
    for wrong, what in (
        (start < 0, "begins before the text"),
        (stop <= start, "is empty; leave it out"),
        (stop > length, "reaches beyond the text; were they made for another text?"),
        (start < earlier, "overlaps the one before it, or stands before it; put them in order"),
        (inside_character(start) | inside_character(stop), "cuts a character in two; offsets are bytes of UTF-8"),
    ):
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"{place}row {document[i]}: span {number[i]} ({start[i]} to {stop[i]} of {length[i]} bytes) {what}"
            )


def _labels(values: pa.Array, fields: set[str], place: str) -> tuple[np.ndarray, tuple[Label, ...]]:
    """The kind of each span, and the kinds."""
    columns = [
        pc.dictionary_encode(_field(values, name, kind, default, fields, place))
        for name, kind, default in (
            ("role", pa.large_string(), ""), ("language", pa.large_string(), ""),
            ("code", pa.bool_(), False), ("loss", pa.bool_(), True),
        )
    ]  # fmt: skip
    codes = np.zeros(len(values), dtype=np.int64)
    for column in columns:
        codes = codes * max(1, len(column.dictionary)) + column.indices.to_numpy()
    _, where, inverse = np.unique(codes, return_index=True, return_inverse=True)
    fields_of = [column.take(pa.array(where, pa.int64())).to_pylist() for column in columns]
    kinds = [Label(*kind) for kind in zip(*fields_of, strict=True)]
    labels = (PLAIN, *sorted(set(kinds) - {PLAIN}))
    place_of = {label: i for i, label in enumerate(labels)}
    return np.array([place_of[kind] for kind in kinds], dtype=np.int64)[inverse.reshape(-1)], labels


def _bytes(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets, int64 (n + 1,), into the bytes of texts; null as the empty text."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    texts = pc.fill_null(texts.cast(pa.large_string()), "")
    if len(texts) == 0:
        return np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.uint8)
    _, offsets, data = texts.buffers()
    at = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return at, np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
