"""From texts to tokens: Parquet files tokenised once, into a store that every run reads.

    tokens = tokenise("mix/data", Path("tokenizer"), Path("tokens"), workers=8)
    tokens = tokenise(["a.parquet", "b/*.parquet"], "bytes", Path("tokens"))

Row i of the files, in the order of their sorted paths, is document i. Beside ``text`` these columns are read where they
exist: ``key`` (16 bytes; without it, a hash of the text), ``spans`` (spans.py), and the column named as ``prefix``,
metadata that is put in front of the text: tokenised apart from it, read by the model and never predicted.

*Control tokens* (conditioning.py): with ``controls={"good": 2048, "bad": 2049}`` every span whose role is named stands
behind its token, which no text spells; it is predicted as its span is, and has no bytes.

The tokenizer (encoders.py) is a directory with ``tokenizer.json``, or ``bytes``. Special tokens are not added, and a
text that spells one out is text.

Files are cut into jobs at row groups, jobs are tokenised on their own (by ``workers`` processes) into files of their
own, and these are put together in order: so the store does not depend on the number of workers, and memory is a few
batches of text a worker, whatever the size of the corpus. Asked for a store that is there already and was made from the
same files, tokenizer and settings, ``tokenise`` opens it.

Cost: that of the tokenizer, about 5 MB of text a second and core; 40 MB with ``bytes``. Two bytes a token (four where
the vocabulary has more than 65,536), 48 a document, and one a token where there are spans or metadata.
"""

import glob
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.train import spans as spans_
from curate.train.data import (
    BLOCK,
    PLAIN,
    Hashed,
    Label,
    Tokens,
    describe,
    identity_of,
    published,
    read_about,
)
from curate.train.directory import TOKENIZER
from curate.train.encoders import BYTES, Encoder, checked_controls, controls_of, open_encoder, separator_of

METADATA = Label(role="metadata", loss=False)
JOB_BYTES = 256 << 20    # of uncompressed columns, at most, unless a row group is larger
BATCH_BYTES = 1 << 20    # of text that is tokenised at a time
READ_BYTES = 8 << 20     # of uncompressed columns that are read at a time
MOST_LABELS = 256
COLUMNS = {"lengths": "<i8", "keys": "<u8", "sizes": "<i8", "scored": "<i8", "prefix": "<i8", "marks": "u1"}

Source = str | Path | Sequence[str | Path]

__all__ = ["BYTES", "Encoder", "Source", "controls_of", "encode", "listed", "open_encoder", "separator_of", "tokenise"]


# ------------------------------------------------------------------------------------------------------------ a batch


@dataclass(frozen=True)
class _Encoded:
    """A batch of documents: ids (with separators), ids of each, and the columns of ``Tokens``."""

    ids: np.ndarray
    lengths: np.ndarray
    keys: np.ndarray
    sizes: np.ndarray
    scored: np.ndarray
    prefix: np.ndarray
    marks: np.ndarray
    labels: tuple[Label, ...]


def _encode(
    encoder: Encoder, texts: pa.Array, spans: pa.Array | None, prefixes: pa.Array | None, keys: pa.Array | None,
    controls: Mapping[str, int], where: str,
) -> _Encoded:  # fmt: skip
    rows = len(texts)
    texts = pc.fill_null(texts.cast(pa.large_string()), "").cast(pa.large_binary())
    plain: list[bytes] = texts.to_pylist()
    sizes = np.fromiter(map(len, plain), dtype=np.int64, count=rows)
    labels: tuple[Label, ...]
    if spans is None:
        document, pieces, label, labels = np.arange(rows), plain, np.zeros(rows, dtype=np.int64), (PLAIN,)
        scored = sizes
    else:
        cut = spans_.read(spans, texts.cast(pa.large_string()), where=where)
        document, label, labels = cut.document, cut.label, cut.labels
        parts = zip(cut.document.tolist(), cut.start.tolist(), cut.stop.tolist(), strict=True)
        pieces = [plain[d][a:b] for d, a, b in parts]
        counted = np.array([x.loss for x in labels])[label]
        scored = np.bincount(document, weights=(cut.stop - cut.start) * counted, minlength=rows).astype(np.int64)
    before = np.zeros(0, dtype=np.int64)
    if prefixes is not None:
        named: list[bytes] = pc.fill_null(prefixes.cast(pa.large_string()), "").cast(pa.large_binary()).to_pylist()
        labels = labels if METADATA in labels else (*labels, METADATA)
        before = np.arange(rows)
        order = np.argsort(np.concatenate([before, document]), kind="stable")
        both = [*named, *pieces]
        pieces = [both[i] for i in order.tolist()]
        label = np.concatenate([np.full(rows, labels.index(METADATA)), label])[order]
        document = np.concatenate([before, document])[order]
    ids, lengths = _in_batches(encoder, pieces)
    if controls:
        first = np.array([controls.get(x.role, -1) for x in labels])[label]
        ids, lengths = _led(ids, lengths, first)
    each = np.bincount(document, weights=lengths, minlength=rows).astype(np.int64)
    out = np.full(len(ids) + rows, encoder.separator, dtype=np.uint32)
    body = np.ones(len(out), dtype=bool)
    body[np.cumsum(each + 1) - (each + 1)] = False
    out[body] = ids
    marks = np.zeros(len(out), dtype=np.uint8)
    _room(len(labels), where)
    marks[body] = np.repeat(label, lengths)
    metadata = np.zeros(rows, dtype=np.int64)
    if len(before):
        metadata = lengths[np.searchsorted(document, before, side="left")]
    return _Encoded(out, each, _keys(keys, plain, where), sizes, scored, metadata, marks, labels)


def _led(ids: np.ndarray, lengths: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pieces behind one more id each, where ``first`` (pieces,) is one and not -1."""
    led = first >= 0
    lengths = lengths + led
    out = np.empty(int(lengths.sum()), dtype=np.uint32)
    body = np.ones(len(out), dtype=bool)
    at = (np.cumsum(lengths) - lengths)[led]
    body[at] = False
    out[at], out[body] = first[led], ids
    return out, lengths


def _room(labels: int, where: str) -> None:
    if labels > MOST_LABELS:
        raise ValueError(f"{where}: {labels} kinds of spans, a store holds {MOST_LABELS}; use fewer roles")


def _in_batches(encoder: Encoder, pieces: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of texts and how many each has; few texts are handed to the encoder at a time."""
    ends = np.cumsum(np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces)))
    found: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.int64))]
    start = 0
    while start < len(pieces):
        behind = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, behind + BATCH_BYTES, side="right")))
        found.append(encoder(pieces[start:stop]))
        start = stop
    ids, lengths = zip(*found, strict=True)
    return np.concatenate(ids), np.concatenate(lengths)


def _keys(keys: pa.Array | None, texts: list[bytes], where: str) -> np.ndarray:
    """Halves of the keys, uint64 (n, 2), big-endian; without a column, of a hash of each text."""
    if keys is None:
        raw = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in texts)
    else:
        given = keys.to_pylist()
        if not all(isinstance(key, bytes) and len(key) == 16 for key in given):
            raise ValueError(f"{where}: a key is not of 16 bytes; name another column as key, or none with key=''")
        raw = b"".join(given)
    return np.frombuffer(raw, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def encode(
    texts: Sequence[str] | pa.Array, tokenizer: str | Path, separator: int | None = None, *,
    spans: pa.Array | None = None, prefixes: Sequence[str | None] | pa.Array | None = None,
    keys: pa.Array | None = None, controls: Mapping[str, int] | None = None,
) -> Tokens:  # fmt: skip
    """Texts as tokens, in memory; by the same rules as ``tokenise``.

    Args:
        texts: the documents.
        tokenizer: a directory with ``tokenizer.json``, or ``bytes``.
        separator: the id before each document; None for the tokenizer's own.
        spans: a column of spans (spans.py), one row a text.
        prefixes: metadata in front of each text; null for none.
        keys: 16 bytes each; None for hashes of the texts.
        controls: by role of a span, the token that it stands behind.

    Raises:
        ValueError: spans, keys or control tokens that are none, or not as many prefixes as texts.
    """
    encoder = open_encoder(tokenizer, separator)
    told = checked_controls(controls, encoder)
    array = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
    named = prefixes if prefixes is None or isinstance(prefixes, pa.Array) else pa.array(prefixes, pa.large_string())
    for name, column in (("prefixes", named), ("spans", spans), ("keys", keys)):
        if column is not None and len(column) != len(array):
            raise ValueError(f"{len(column)} {name} for {len(array)} texts; give one each")
    done = _encode(encoder, array, spans, named, keys, told, "texts")
    labels, table = _kinds([done.labels])
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(done.lengths + 1)])
    return Tokens(
        done.ids.astype(_dtype(encoder, told)), offsets,
        keys=done.keys, sizes=done.sizes, scored=done.scored, prefix=done.prefix if named is not None else None,
        marks=table[0][done.marks] if len(labels) > 1 else None, labels=labels,
    )  # fmt: skip


def _dtype(encoder: Encoder, controls: Mapping[str, int]) -> np.dtype[Any]:
    vocabulary = max([encoder.vocabulary, *(i + 1 for i in controls.values())])
    return np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")


# -------------------------------------------------------------------------------------------------------------- files


@dataclass(frozen=True)
class _Job:
    """Row groups of a file, to be tokenised into a folder of their own."""

    path: Path
    groups: tuple[int, ...]
    out: Path
    tokenizer: str
    separator: int | None
    columns: Mapping[str, str | None]
    controls: Mapping[str, int]


def tokenise(
    texts: Source, tokenizer: str | Path, out: Path, *, text: str = "text", key: str = "key", spans: str = "spans",
    prefix: str | None = None, controls: Mapping[str, int] | None = None, separator: int | None = None,
    workers: int = 1,
) -> Tokens:  # fmt: skip
    """Tokenise Parquet files into a store, or open it if it is there.

    Args:
        texts: a file, a folder (with all below it), a pattern, or several of them.
        tokenizer: a directory with ``tokenizer.json``, or ``bytes``.
        out: the folder of the store.
        text: name of the column of texts; null is an empty text.
        key: name of the column of keys, if it exists.
        spans: name of the column of spans, if it exists.
        prefix: name of the column of metadata; null is none.
        controls: by role of a span, the token that it stands behind (``controls_of`` finds some).
        separator: the id before each document; None for the tokenizer's own.
        workers: processes. They are spawned: a script that asks for several runs under ``if __name__ == "__main__"``.

    Raises:
        FileNotFoundError: no file matches.
        ValueError: a column that is needed and not there or of another type, spans or keys that are none, or ``out``
            holds something else.
    """
    files = listed(texts)
    encoder = open_encoder(tokenizer, separator)
    columns = {"text": text, "key": key or None, "spans": spans or None, "prefix": prefix}
    told = checked_controls(controls, encoder)
    made = {
        "tokenizer": _named(tokenizer), "separator": encoder.separator, "columns": columns, "controls": told or None,
        "files": [[path.name, path.stat().st_size, _footer(path)] for path in files],
    }  # fmt: skip
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        return _reopened(out, made)
    try:
        with published(out) as folder:
            job = partial(_Job, tokenizer=str(tokenizer), separator=separator, columns=columns, controls=told)
            jobs = list(_jobs(files, folder / "parts", job))
            if workers > 1 and len(jobs) > 1:
                with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
                    labels = list(pool.map(_work, jobs))
            else:
                labels = [_work(job) for job in jobs]
            _join([job.out for job in jobs], labels, folder, _dtype(encoder, told), prefix is not None, made)
    except FileExistsError:
        return _reopened(out, made)  # another process was first, with the same or with something else
    return Tokens.open(out)


def listed(texts: Source) -> list[Path]:
    """The Parquet files of a file, folder or pattern, or several, sorted by path; hidden files are none.

    Raises:
        FileNotFoundError: nothing matches.
    """
    found: set[Path] = set()
    for one in [texts] if isinstance(texts, str | Path) else texts:
        path = Path(one)
        if path.is_dir():
            mine = {p for p in path.rglob("*.parquet") if not _hidden(p.relative_to(path))}
        elif path.is_file():
            mine = {path}
        else:
            mine = {Path(p) for p in glob.glob(str(one), recursive=True) if Path(p).is_file()}  # noqa: PTH207
        if not mine:
            raise FileNotFoundError(f"no Parquet file at {one}; name a file, a folder that holds some, or a pattern")
        found |= mine
    return sorted(found)


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _reopened(out: Path, made: Mapping[str, Any]) -> Tokens:
    """The store that is there, if it is the one that is asked for."""
    before = read_about(out).get("made", {})
    other = sorted(name for name in made if before.get(name) != json.loads(json.dumps(made[name])))
    if other:
        raise ValueError(f"{out} was made from other {', '.join(other)}; name another folder, or remove it")
    return Tokens.open(out)


def _named(tokenizer: str | Path) -> str:
    if str(tokenizer) == BYTES:
        return BYTES
    path = Path(tokenizer)
    file = path if path.name == TOKENIZER else path / TOKENIZER
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


def _footer(path: Path) -> str:
    """A hash of a file's end, where Parquet keeps sizes, places and statistics of its columns."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        return hashlib.blake2b(file.read(), digest_size=16).hexdigest()


def _jobs(files: list[Path], parts: Path, job: Callable[..., _Job]) -> Iterator[_Job]:
    number = 0
    for path in files:
        about = pq.read_metadata(path)
        groups: list[int] = []
        size = 0
        for group in range(about.num_row_groups):
            groups.append(group)
            size += about.row_group(group).total_byte_size
            if size >= JOB_BYTES or group == about.num_row_groups - 1:
                yield job(path=path, groups=tuple(groups), out=parts / f"{number:06d}")
                number, groups, size = number + 1, [], 0


def _work(job: _Job) -> tuple[Label, ...]:
    """Tokenise a job into its folder, as raw little-endian files; return the kinds of tokens, by their marks."""
    encoder = open_encoder(job.tokenizer, job.separator)
    file = pq.ParquetFile(job.path)
    names = set(file.schema_arrow.names)
    wanted = {role: name for role, name in job.columns.items() if name is not None and name in names}
    for role in ("text", "prefix"):
        if job.columns[role] is not None and role not in wanted:
            raise ValueError(f"{job.path} has no column {job.columns[role]!r}; it has: {', '.join(sorted(names))}")
    rows = sum(file.metadata.row_group(g).num_rows for g in job.groups)
    size = sum(file.metadata.row_group(g).total_byte_size for g in job.groups)
    batch = max(1, min(1 << 16, READ_BYTES * rows // max(1, size)))
    labels: dict[Label, int] = {PLAIN: 0}
    job.out.mkdir(parents=True)
    opened = {name: (job.out / name).open("wb") for name in ("ids", *COLUMNS)}
    done = sum(file.metadata.row_group(g).num_rows for g in range(job.groups[0]))
    try:
        for table in file.iter_batches(batch, list(job.groups), list(wanted.values()), use_threads=False):
            columns = {role: table.column(name) for role, name in wanted.items()}
            if "prefix" in columns:
                _text(columns["prefix"], f"{job.path}, column {job.columns['prefix']!r}", "prefix")
            where = f"{job.path}, batch of rows from {done}"
            encoded = _encode(
                encoder, _text(columns["text"], where), columns.get("spans"), columns.get("prefix"), columns.get("key"),
                job.controls, where,
            )  # fmt: skip
            for label in encoded.labels:
                labels.setdefault(label, len(labels))
            _room(len(labels), where)
            marks = np.array([labels[label] for label in encoded.labels], dtype=np.uint8)[encoded.marks]
            opened["ids"].write(encoded.ids.astype(_dtype(encoder, job.controls)).data)
            for name, kind in COLUMNS.items():
                column = marks if name == "marks" else getattr(encoded, name)
                opened[name].write(np.ascontiguousarray(column.astype(kind)).data)
            done += table.num_rows
    finally:
        for written in opened.values():
            written.close()
    return tuple(labels)


def _text(column: pa.Array, where: str, argument: str = "text") -> pa.Array:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise ValueError(f"{where}: the texts are of type {kind}; name the column of strings with {argument}=")
    return column


def _join(
    parts: list[Path], labels: list[tuple[Label, ...]], folder: Path, dtype: np.dtype[Any], prefixed: bool,
    made: Mapping[str, Any],
) -> None:  # fmt: skip
    """Put the files of all jobs together, in order, a block at a time, and describe the whole."""
    kinds, tables = _kinds(labels)
    hashes = []
    for name in ("ids", "offsets", "keys", "sizes", "scored", "prefix", "marks"):
        if (name == "prefix" and not prefixed) or (name == "marks" and len(kinds) == 1):
            continue
        kind = dtype if name == "ids" else np.dtype(COLUMNS["lengths" if name == "offsets" else name])
        source = "lengths" if name == "offsets" else name
        hashed, last = Hashed(name), 0
        total = sum((part / source).stat().st_size for part in parts) // kind.itemsize + (name == "offsets")
        with (folder / f"{name}.npy").open("wb") as file:
            _header(file, kind, (total // 2, 2) if name == "keys" else (total,))
            if name == "offsets":
                _append(file, np.zeros(1, dtype=kind), hashed)
            for part, table in zip(parts, tables, strict=True):
                for block in _blocks(part / source, kind):
                    if name == "offsets":
                        block = last + np.cumsum(block + 1)
                        last = int(block[-1])
                    elif name == "marks":
                        block = table[block]
                    _append(file, block, hashed)
                (part / source).unlink()
        hashes.append(hashed.hexdigest())
    for part in parts:
        for left in part.iterdir():
            left.unlink()
        part.rmdir()
    if parts:
        parts[0].parent.rmdir()
    describe(folder, identity_of(hashes, kinds), kinds, made=made)


def _kinds(labels: list[tuple[Label, ...]]) -> tuple[tuple[Label, ...], list[np.ndarray]]:
    """The kinds of all parts, and for each part which of them its own are, uint8 (its kinds,)."""
    kinds = (PLAIN, *sorted({label for some in labels for label in some} - {PLAIN}))
    _room(len(kinds), "all files together")
    number = {label: i for i, label in enumerate(kinds)}
    return kinds, [np.array([number[label] for label in own], dtype=np.uint8) for own in labels]


def _header(file: BinaryIO, kind: np.dtype[Any], shape: tuple[int, ...]) -> None:
    about = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)


def _append(file: BinaryIO, block: np.ndarray, hashed: Hashed) -> None:
    file.write(np.ascontiguousarray(block).data)
    hashed.update(block)


def _blocks(path: Path, kind: np.dtype[Any]) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        while block := file.read(BLOCK * kind.itemsize):
            yield np.frombuffer(block, dtype=kind)
