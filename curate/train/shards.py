r"""Tokens in the files of other trainers: Megatron-LM, OLMo, nanotron; with the copies and the order of a mix.

    write("megatron", tokens, Path("shards"), order=order.sequence(0))

All three keep documents one after the other, each closed by the separator, here the end of text; a separator in front,
as in this project's streams, is not written. The order is that of the store, or any sequence of document numbers, which
may repeat them. Shards are cut between documents. All numbers are little-endian.

``megatron``   ``NAME-00000.bin``: ids, uint16 or int32. ``NAME-00000.idx``: the 9 bytes ``MMIDIDX\0\0``; version 1,
               uint64; the code of the type of ids, uint8 (8 for uint16, 4 for int32); how many sequences, uint64; how
               many entries the document index has, uint64; the length of each sequence, int32; the byte at which each
               begins, int64; the document index, int64: the first sequence of each document, and a last entry. A
               document is one sequence. (NVIDIA/Megatron-LM, megatron/core/datasets/indexed_dataset.py.) It reads
               ``--data-path .../NAME-00000``, the path without its ending.
``olmo``       ``token_ids_part_00000.npy``: ids, uint16 or uint32, without NumPy's header. ``….csv.gz``: a line a
               document: first id, last id + 1, its key in hex, the name of the dataset, its place in the order, from 1.
               (allenai/dolma, python/dolma/tokenizer/memmap_writer.py; allenai/OLMo-core, src/olmo_core/data/utils.py.)
               With masked spans, ``labels_mask_part_00000.npy``: a byte an id, 1 where the loss counts it.
``nanotron``   ``00000_NAME.ds``: ids, uint16 or uint32. ``….ds.index``: where each document ends, in ids, uint64.
               ``….ds.metadata``: the tokenizer and the bytes of an id, the number of ids, the same for people.
               (huggingface/datatrove, pipeline/tokens/tokenizer.py; huggingface/nanotron, docs/nanoset.md.) With masked
               spans, ``….ds.loss``: a byte an id, 1 where the loss counts it.

Beside them lies ``shards.json``: kind, identity of the tokens, separator, and each file with its documents and ids.

Memory: a block of ids, and 8 bytes a document of a shard. Elsewhere: a written mix as shards (curate/shards.py).
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from curate.train.data import Tokens, published

ABOUT = "shards.json"
KINDS = ("megatron", "olmo", "nanotron")
SHARD_TOKENS = 1 << 29
BLOCK_TOKENS = 1 << 22
MEGATRON_CODES = {"<u2": 8, "<i4": 4}


@dataclass(frozen=True)
class Shard:
    """A shard that was written.

    Args:
        path: of its ids.
        documents: that it holds.
        tokens: ids, the separators included.
    """

    path: Path
    documents: int
    tokens: int


@dataclass(frozen=True)
class _Laid:
    """The documents of a shard: numbers, and where each ends in its ids."""

    tokens: Tokens
    documents: np.ndarray
    first: int
    ends: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        lengths = self.tokens.offsets[self.documents + 1] - self.tokens.offsets[self.documents]
        object.__setattr__(self, "ends", np.cumsum(lengths))

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Where the ids of the shard lie in the stream, block by block, and those whose loss decides over them: a
        closing separator is the document's own, and counts if its last token does.
        """
        start = 0
        while start < len(self.documents):
            before = int(self.ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(self.ends, before + BLOCK_TOKENS, side="right")))
            base = self.tokens.offsets[self.documents[start:stop]]
            ends = self.ends[start:stop] - before
            lengths = np.diff(ends, prepend=0)
            at = np.arange(ends[-1]) + np.repeat(base + 1 - (ends - lengths), lengths)
            decides = at.copy()
            at[ends - 1] = base
            decides[ends - 1] = base + lengths - 1
            yield at, decides
            start = stop


def write(
    kind: str, tokens: Tokens, out: Path, *, order: np.ndarray | None = None, shard_tokens: int = SHARD_TOKENS,
    name: str = "tokens", tokenizer: str = "",
) -> list[Shard]:  # fmt: skip
    """Write documents as shards into a new folder, whole or not at all.

    Args:
        kind: one of KINDS.
        tokens: the documents.
        out: the folder.
        order: document numbers, int64; None for all, in the order of the store.
        shard_tokens: a shard is closed before the document that would make it longer.
        name: of the dataset, in the names of files (megatron, nanotron) or their lines (olmo).
        tokenizer: its name, for nanotron's metadata.

    Raises:
        ValueError: a kind that does not exist, no document, numbers out of range, a folder that holds something; masks
            of spans, which Megatron's format cannot hold.
    """
    if kind not in KINDS:
        raise ValueError(f"there are no shards of kind {kind!r}; use one of: {', '.join(KINDS)}")
    documents = np.arange(tokens.documents) if order is None else np.asarray(order, dtype=np.int64)
    if not len(documents):
        raise ValueError("no documents to write; an empty order, or a store without any")
    if documents.min() < 0 or documents.max() >= tokens.documents:
        raise ValueError(f"the order names document {documents.max()} of {tokens.documents}; make it for these tokens")
    if kind == "megatron" and tokens.marks is not None and not all(label.loss for label in tokens.labels):
        raise ValueError("megatron shards hold no masks, and some spans have loss=False; write olmo or nanotron shards")
    put: Callable[[_Laid, Path, int], Path] = {
        "megatron": lambda laid, folder, number: _megatron(laid, folder / f"{name}-{number:05d}"),
        "olmo": lambda laid, folder, number: _olmo(laid, folder, number, name),
        "nanotron": lambda laid, folder, number: _nanotron(laid, folder / f"{number:05d}_{name}.ds", tokenizer),
    }[kind]
    out, shards = Path(out), []
    with published(out) as folder:
        for number, (first, stop) in enumerate(_cuts(tokens, documents, shard_tokens)):
            laid = _Laid(tokens, documents[first:stop], first)
            path = put(laid, folder, number)
            shards.append(Shard(out / path.name, stop - first, int(laid.ends[-1])))
        about = {
            "kind": kind, "tokens": tokens.identity(), "tokenizer": tokenizer, "separator": tokens.separator,
            "shards": [{"file": s.path.name, "documents": s.documents, "tokens": s.tokens} for s in shards],
        }  # fmt: skip
        (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return shards


def _cuts(tokens: Tokens, documents: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Runs of documents that fit a shard, at least one each."""
    ends = np.cumsum(tokens.offsets[documents + 1] - tokens.offsets[documents])
    start = 0
    while start < len(documents):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield start, stop
        start = stop


def _ids(laid: _Laid, path: Path, kind: str) -> None:
    with path.open("wb") as file:
        for at, _ in laid.blocks():
            file.write(laid.tokens.ids[at].astype(kind).data)


def _mask(laid: _Laid, path: Path) -> None:
    """A byte an id, 1 where the loss counts it; no file where it counts all."""
    if laid.tokens.loss(np.zeros(0, dtype=np.int64)) is None:
        return
    with path.open("wb") as file:
        for _, decides in laid.blocks():
            file.write(np.asarray(laid.tokens.loss(decides), dtype=np.uint8).data)


def _megatron(laid: _Laid, stem: Path) -> Path:
    kind = "<u2" if laid.tokens.ids.dtype.itemsize == 2 else "<i4"
    path = stem.with_name(f"{stem.name}.bin")
    _ids(laid, path, kind)
    lengths = np.diff(laid.ends, prepend=0)
    count = len(lengths)
    with stem.with_name(f"{stem.name}.idx").open("wb") as file:
        file.write(b"MMIDIDX\x00\x00")
        file.write(np.array([1], dtype="<u8").data)
        file.write(np.array([MEGATRON_CODES[kind]], dtype="u1").data)
        file.write(np.array([count, count + 1], dtype="<u8").data)
        file.write(lengths.astype("<i4").data)
        file.write(((laid.ends - lengths) * np.dtype(kind).itemsize).astype("<i8").data)
        file.write(np.arange(count + 1, dtype="<i8").data)
    return path


def _olmo(laid: _Laid, folder: Path, number: int, name: str) -> Path:
    path = folder / f"token_ids_part_{number:05d}.npy"
    _ids(laid, path, _unsigned(laid.tokens))
    _mask(laid, folder / f"labels_mask_part_{number:05d}.npy")
    keys = laid.tokens.keys
    with (
        path.with_suffix(".csv.gz").open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, 0) as packed,  # without a name and a time, so that the bytes are the same
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        lines = csv.writer(text)
        start = 0
        for i, end in enumerate(laid.ends.tolist()):
            document = int(laid.documents[i])
            key = str(document) if keys is None else f"{int(keys[document, 0]):016x}{int(keys[document, 1]):016x}"
            lines.writerow((start, end, key, name, laid.first + i + 1))
            start = end
    return path


def _nanotron(laid: _Laid, path: Path, tokenizer: str) -> Path:
    kind = _unsigned(laid.tokens)
    size = np.dtype(kind).itemsize
    _ids(laid, path, kind)
    _mask(laid, path.with_name(f"{path.name}.loss"))
    path.with_name(f"{path.name}.index").write_bytes(laid.ends.astype("<u8").tobytes())
    total = int(laid.ends[-1])
    about = "\n".join([f"{tokenizer or f'Unknown Tokenizer|{size}'}|{size}", str(total), in_words(total)])
    path.with_name(f"{path.name}.metadata").write_text(about, encoding="utf-8")
    return path


def _unsigned(tokens: Tokens) -> str:
    return "<u2" if tokens.ids.dtype.itemsize == 2 else "<u4"


def in_words(tokens: int) -> str:
    """A number of tokens with three digits and the prefix of its size: 1.50 kT, 12.3 GT."""
    rounded = float(f"{tokens:.2e}")
    power = math.floor(math.log10(rounded)) if tokens > 0 else 0
    prefix = ("", "k", "M", "G", "T", "P", "E")[power // 3]
    return f"{rounded / 10 ** (power // 3 * 3):.{max(0, 2 - power % 3)}f} {prefix}T"
