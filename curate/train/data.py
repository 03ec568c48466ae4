"""Token ids as one array, and the order in which a training run sees them.

Documents stand one after the other, each behind a separator; so the first token of a document is predicted from the
separator, in training and in scoring alike. A training example is a window of ``context + 1`` ids of that stream, at
multiples of ``context``, and crosses the borders of documents (as in CoLoR-Filter, Brandfonbrener et al. 2024): each
id is predicted once an epoch. The order is a permutation per epoch, drawn from (seed, epoch) alone, so a run needs no
state to continue at any step.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True)
class Tokens:
    """Documents as token ids.

    Args:
        ids: uint16 or uint32 (n,), the stream; document i is ``ids[offsets[i] : offsets[i + 1]]``, the first of which
            is the separator.
        offsets: int64 (documents + 1,).
    """

    ids: np.ndarray
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, int64 (documents,), without the separator."""
        return np.diff(self.offsets) - 1

    def first(self, count: int) -> "Tokens":
        """The documents that the first ``count`` ids of the stream hold, the last one cut."""
        count = min(count, len(self.ids))
        whole = int(np.searchsorted(self.offsets, count, side="left"))
        return Tokens(self.ids[:count], np.append(self.offsets[:whole], count))

    def save(self, out: Path) -> None:
        """Write ``ids.npy`` and ``offsets.npy`` into a directory."""
        out.mkdir(parents=True, exist_ok=True)
        np.save(out / "ids.npy", self.ids)
        np.save(out / "offsets.npy", self.offsets)

    @staticmethod
    def open(path: Path) -> "Tokens":
        """What ``save`` wrote; the ids stay on disk and are read where they are used."""
        return Tokens(np.load(path / "ids.npy", mmap_mode="r"), np.load(path / "offsets.npy"))


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
            # Seeds of neighbouring numbers give unrelated streams: torch's generator spreads a seed over its state.
            generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
            self._epoch, self._permutation = epoch, torch.randperm(self.windows, generator=generator).numpy()
        return self._permutation
