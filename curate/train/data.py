"""Documents as token ids: one stream, what is known of each document, and the same on disk.

Documents stand one after the other, each behind a separator; so the first token of a document is predicted from the
separator, in training and in scoring alike. ``Tokens`` holds them; beside the ids it may know of each document its key,
its bytes and how many of its first tokens are metadata, and of each token what kind it is (``Label``): whose turn of a
chat it belongs to, which language, and whether the loss counts it. A kind takes one byte a token, and none where all
tokens are plain.

A *store* is the same in a directory: NumPy files and a description that is written last. It is put in place whole or
not at all, opened in no time whatever its size, and read from where it is used (memory-mapped). ``identity`` names the
content, in memory and on disk alike.

Elsewhere: making a store from Parquet files (tokenising.py), rows of a batch from documents (feeds.py, packing.py),
other projects' formats (shards.py).

``Order`` is the plain reading of a stream: a training example is a window of ``context + 1`` ids, at multiples of
``context``, and crosses the borders of documents (as in CoLoR-Filter, Brandfonbrener et al. 2024): each id is predicted
once an epoch. The order is a permutation per epoch, drawn from (seed, epoch) alone, so a run needs no state to continue
at any step.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1               # of a store
ABOUT = "about.json"
BLOCK = 1 << 22          # ids hashed or copied at a time


@dataclass(frozen=True, order=True)
class Label:
    """A kind of token.

    Args:
        role: whose words they are (``user``, ``assistant``, ``metadata``, …); empty for plain text.
        language: of the text, natural or programming; empty where it is not known.
        code: whether it is source code.
        loss: whether the loss counts them.
    """

    role: str = ""
    language: str = ""
    code: bool = False
    loss: bool = True


PLAIN = Label()


@dataclass(frozen=True)
class Tokens:
    """Documents as token ids. All but the first two may be missing.

    Args:
        ids: uint16 or uint32 (n,), the stream; document i is ``ids[offsets[i] : offsets[i + 1]]``, the first of which
            is the separator. It may lie on disk.
        offsets: int64 (documents + 1,).
        keys: uint64 (documents, 2), the halves of each row's 128-bit key; copies of a row share it.
        sizes: int64 (documents,), UTF-8 bytes of each text, metadata not counted.
        scored: int64 (documents,), of them, the bytes whose tokens the loss counts: what bits per byte divide by.
        prefix: int64 (documents,), how many tokens after the separator are metadata, put in front of the text.
        marks: uint8 (n,), for each id which of ``labels`` it has.
        labels: the kinds of tokens; the first one is plain.
        digest: the identity, where it is known already.
    """

    ids: np.ndarray
    offsets: np.ndarray
    keys: np.ndarray | None = None
    sizes: np.ndarray | None = None
    scored: np.ndarray | None = None
    prefix: np.ndarray | None = None
    marks: np.ndarray | None = None
    labels: tuple[Label, ...] = (PLAIN,)
    digest: str | None = field(default=None, repr=False, compare=False)

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, int64 (documents,), without the separator."""
        return np.diff(self.offsets) - 1

    @property
    def separator(self) -> int:
        """The id in front of each document.

        Raises:
            ValueError: there is no document.
        """
        if not self.documents:
            raise ValueError("a stream without documents has no separator; give it at least one document")
        return int(self.ids[self.offsets[0]])

    def loss(self, at: np.ndarray) -> np.ndarray | None:
        """Whether the loss counts the ids at these places of the stream: float32 of its shape, 1 or 0; None if all."""
        if self.marks is None or all(label.loss for label in self.labels):
            return None
        return np.array([label.loss for label in self.labels], dtype=np.float32)[self.marks[at]]

    def first(self, count: int) -> "Tokens":
        """The documents that the first ``count`` ids of the stream hold, the last one cut."""
        count = min(count, len(self.ids))
        whole = int(np.searchsorted(self.offsets, count, side="left"))
        offsets = np.append(self.offsets[:whole], count)
        return Tokens(
            self.ids[:count], offsets,
            keys=None if self.keys is None else self.keys[:whole],
            prefix=None if self.prefix is None else np.minimum(self.prefix[:whole], np.diff(offsets) - 1),
            marks=None if self.marks is None else self.marks[:count], labels=self.labels,
        )  # fmt: skip

    def take(self, documents: np.ndarray) -> "Tokens":
        """These documents, by number, in this order; a number may come up again."""
        documents = np.asarray(documents, dtype=np.int64)
        lengths = np.diff(self.offsets)[documents]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        ids = np.empty(int(offsets[-1]), dtype=self.ids.dtype)
        marks = None if self.marks is None else np.empty(len(ids), dtype=self.marks.dtype)
        start = 0
        while start < len(documents):  # places take eight bytes a token, so only those of some documents at a time
            stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + BLOCK, side="right")) - 1)
            a, b = int(offsets[start]), int(offsets[stop])
            from_ = np.repeat(self.offsets[documents[start:stop]] - offsets[start:stop], lengths[start:stop])
            at = np.arange(a, b) + from_
            ids[a:b] = self.ids[at]
            if marks is not None and self.marks is not None:
                marks[a:b] = self.marks[at]
            start = stop
        per_document = {
            name: None if array is None else array[documents]
            for name, array in (("keys", self.keys), ("sizes", self.sizes), ("scored", self.scored),
                                ("prefix", self.prefix))
        }  # fmt: skip
        return Tokens(ids, offsets, **per_document, marks=marks, labels=self.labels)

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """The arrays that there are, by name, in a fixed order."""
        for name in ("ids", "offsets", "keys", "sizes", "scored", "prefix", "marks"):
            array = getattr(self, name)
            if array is not None:
                yield name, array

    def identity(self) -> str:
        """32 hex digits that name the content: equal in memory and on disk, other for any other id, key or mark."""
        if self.digest is not None:
            return self.digest
        hashes = []
        for name, array in self.arrays():
            hashed = Hashed(name)
            for start in range(0, len(array), BLOCK):
                hashed.update(array[start : start + BLOCK])
            hashes.append(hashed.hexdigest())
        return identity_of(hashes, self.labels)

    def save(self, out: Path) -> None:
        """Write a store into a directory, which is new or empty, whole or not at all.

        Raises:
            ValueError: the directory holds something.
        """
        with published(out) as folder:
            for name, array in self.arrays():
                np.save(folder / f"{name}.npy", array)
            describe(folder, self.identity(), self.labels)

    @staticmethod
    def open(path: Path) -> "Tokens":
        """What ``save`` or ``tokenising.tokenise`` wrote; arrays stay on disk and are read where they are used.

        Raises:
            FileNotFoundError: there is no store.
            ValueError: it is of another format.
        """
        about = read_about(path)
        names = ("ids", "offsets", "keys", "sizes", "scored", "prefix", "marks")
        files = {name: path / f"{name}.npy" for name in names if (path / f"{name}.npy").exists()}
        arrays = {name: np.load(file, mmap_mode="r" if about["documents"] else None) for name, file in files.items()}
        labels = tuple(Label(**label) for label in about["labels"])
        return Tokens(**arrays, labels=labels, digest=about["identity"])


class Hashed:
    """The hash of an array, fed block by block; the same whatever the blocks."""

    def __init__(self, name: str) -> None:
        self._hash = hashlib.blake2b(name.encode(), digest_size=16)

    def update(self, block: np.ndarray) -> None:
        """Take in the next elements, little-endian."""
        self._hash.update(np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")).view(np.uint8).data)

    def hexdigest(self) -> str:
        """32 hex digits of what was taken in."""
        return self._hash.hexdigest()


def identity_of(hashes: Sequence[str], labels: Sequence[Label]) -> str:
    """The identity of a store, from the hashes of its arrays in the order of ``Tokens.arrays``, and its labels."""
    text = json.dumps([FORMAT, list(hashes), [asdict(label) for label in labels]])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def describe(folder: Path, identity: str, labels: Sequence[Label], **more: Any) -> None:
    """Write a store's description, its last file."""
    ids = np.load(folder / "ids.npy", mmap_mode=None if (folder / "ids.npy").stat().st_size < 4096 else "r")
    offsets = np.load(folder / "offsets.npy", mmap_mode="r")
    about = {
        "format": FORMAT, "identity": identity, "documents": len(offsets) - 1, "ids": len(ids),
        "dtype": str(ids.dtype), "labels": [asdict(label) for label in labels], **more,
    }  # fmt: skip
    (folder / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_about(path: Path) -> dict[str, Any]:
    """The description of a store: format, identity, documents, ids, dtype, labels, and how it was made.

    Raises:
        FileNotFoundError: there is no store.
        ValueError: it is of another format.
    """
    if not (path / ABOUT).is_file():
        raise FileNotFoundError(f"{path} holds no tokens ({ABOUT} is missing); make them with tokenising.tokenise")
    about: dict[str, Any] = json.loads((path / ABOUT).read_text(encoding="utf-8"))
    if about.get("format") != FORMAT:
        raise ValueError(f"{path} is of format {about.get('format')}, read here is {FORMAT}; tokenise the text again")
    return about


@contextmanager
def published(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` when the block ends well and is removed when it does not.

    A process that is killed leaves the folder behind, ``.NAME.….unfinished`` beside ``out``.

    Raises:
        ValueError: ``out`` holds something already.
        FileExistsError: another process put something there meanwhile.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already; name a new folder, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".unfinished", dir=out.parent))
    try:
        yield folder
        for file in folder.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        folder.chmod(0o755)
        try:
            folder.replace(out)
        except OSError as error:
            if out.is_dir() and any(out.iterdir()):
                raise FileExistsError(f"{out} was filled by another process meanwhile; name a new folder") from error
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pack(documents: Iterable[Sequence[int] | np.ndarray], separator: int) -> Tokens:
    """Documents, token ids without special tokens, as one stream. Ids below 65,536 take two bytes each, others four."""
    pieces = [np.asarray(d, dtype=np.uint32) for d in documents]
    lengths = np.fromiter((len(p) + 1 for p in pieces), dtype=np.int64, count=len(pieces))
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    ids = np.full(int(offsets[-1]), separator, dtype=np.uint32)
    if pieces:
        body = np.ones(len(ids), dtype=bool)
        body[offsets[:-1]] = False
        ids[body] = np.concatenate(pieces)
    return Tokens(ids.astype(np.uint16) if len(ids) == 0 or ids.max() < 1 << 16 else ids, offsets)


class Order:
    """Which windows each step sees.

    Args:
        ids: length of the stream.
        context: tokens predicted in a window.
        batch: windows a step.
        seed: of the permutations.

    Raises:
        ValueError: the stream does not fill one window.
    """

    def __init__(self, ids: int, context: int, batch: int, seed: int) -> None:
        self.windows = (ids - 1) // context
        if self.windows < 1:
            raise ValueError(f"{ids} ids do not fill a window of {context} + 1; give more text or a shorter context")
        self.context, self.batch, self.seed = context, batch, seed
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def starts(self, step: int) -> np.ndarray:
        """Where the windows of a step begin in the stream, int64 (batch,). Epochs follow each other without a gap."""
        at = np.arange(step * self.batch, (step + 1) * self.batch, dtype=np.int64)
        out = np.empty(self.batch, dtype=np.int64)
        for epoch in np.unique(at // self.windows):
            mine = at // self.windows == epoch
            out[mine] = self._of(int(epoch))[at[mine] % self.windows]
        return out * self.context

    def _of(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch, self._permutation = epoch, permutation(self.windows, self.seed, epoch)
        return self._permutation


def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """The numbers below ``count`` in the order that (seed, epoch) gives, int64 (count,)."""
    import torch

    # Seeds of neighbouring numbers give unrelated streams: torch's generator spreads a seed over its state. It has 32
    # bits of it on a CPU, so larger numbers are hashed into them.
    number = (seed << 20) + epoch
    if number >= 1 << 32:
        number = zlib.crc32(f"{seed} {epoch}".encode())
    return torch.randperm(count, generator=torch.Generator().manual_seed(number)).numpy()
