"""From a feed to the device: the rows of a rank, cut into parts that fit, with what each counts in the step's loss.

The loss of a step is the weighted mean over all tokens of its batch. A batch that is computed in parts, one after the
other on one device or side by side on several, gives the same: each part's own mean is multiplied by its share of the
batch's weight, and the shares sum to 1. (Plain averages of means are wrong as soon as parts hold unequal numbers of
tokens that count; Hugging Face's trainer had that error until 2024, see unsloth's report on gradient accumulation.)

A batch with documents never trains across them: a token counts for nothing where it belongs to another document than
the token it is predicted from, and where it is padding.

On a GPU the next batch is made and pinned by a thread while this one is computed.
"""

import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curate.train.data import Order
from curate.train.distributed import ALONE, Ranks
from curate.train.feed import Batch, Feed


class StreamFeed:
    """Windows of a stream of ids, in an order drawn from a seed (data.Order); they cross the borders of documents.

    Args:
        ids: uint16 or uint32 (n,), see data.pack.
        context: tokens predicted in a window.
        batch: windows a step.
        seed: of the order.
        steps: how many.

    Raises:
        ValueError: the stream does not fill one window.
    """

    def __init__(self, ids: np.ndarray, context: int, batch: int, seed: int, steps: int) -> None:
        self.ids, self.order = ids, Order(len(ids), context, batch, seed)
        self._steps, self._reach = steps, np.arange(context + 1)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self._steps

    @property
    def epochs(self) -> float:
        """How often the stream is read."""
        return self._steps * self.order.batch / self.order.windows

    def batch(self, step: int) -> Batch:
        """The windows of a step."""
        return Batch(self.ids[self.order.starts(step)[:, None] + self._reach])

    def identity(self) -> Mapping[str, Any]:
        """What decides every window; ``steps`` only says how many are read."""
        text = [len(self.ids), zlib.crc32(self.ids.tobytes())]
        return {"text": text, "seed": self.order.seed, "windows": [self.order.batch, self.order.context]}


@dataclass(frozen=True)
class Part:
    """What is computed in one forward pass.

    Args:
        tokens: int64 (rows, width).
        targets: int64 (rows, width).
        documents: int32 (rows, width), of ``tokens``; None where rows are one context.
        weights: float32 (rows, width), None for all alike.
        share: of the step's loss; all parts of all ranks sum to 1.
    """

    tokens: Tensor
    targets: Tensor
    documents: Tensor | None
    weights: Tensor | None
    share: float

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Part":
        """The part with each of its tensors moved."""
        documents = None if self.documents is None else move(self.documents)
        weights = None if self.weights is None else move(self.weights)
        return Part(move(self.tokens), move(self.targets), documents, weights, self.share)


@dataclass(frozen=True)
class Step:
    """A step as one rank computes it.

    Args:
        parts: equally many on every rank.
        tokens: that count in the loss, of the whole batch.
    """

    parts: list[Part]
    tokens: int


class Feeder:
    """The steps of a feed, on the device.

    Args:
        feed: what is read.
        device: where to.
        vocab: ids are below it.
        micro: at most so many tokens (rows times width) in a part; None for the rank's whole share.
        me: which rank of how many.
    """

    def __init__(
        self, feed: Feed, device: torch.device, vocab: int, *, micro: int | None = None, me: Ranks = ALONE
    ) -> None:
        self.feed, self.device, self.vocab, self.micro, self.me = feed, device, vocab, micro, me
        self._thread = ThreadPoolExecutor(1) if device.type == "cuda" else None
        self._next: tuple[int, Future[Step]] | None = None

    def step(self, number: int, stop: int) -> Step:
        """One step; on a GPU the one behind it is prepared, if it is before ``stop``.

        Raises:
            ValueError: ids outside the vocabulary, or a batch in which nothing counts.
        """
        if self._thread is None:
            return self._made(number)
        ready = self._next[1].result() if self._next is not None and self._next[0] == number else self._made(number)
        self._next = (number + 1, self._thread.submit(self._made, number + 1)) if number + 1 < stop else None
        return Step([self._sent(part) for part in ready.parts], ready.tokens)

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _made(self, number: int) -> Step:
        """The step in this machine's memory."""
        batch = self.feed.batch(number)
        if int(batch.ids.max()) >= self.vocab:
            raise ValueError(
                f"token id {int(batch.ids.max())} in step {number} is outside a vocabulary of {self.vocab}; use the "
                "tokenizer's size"
            )
        weights = counting(batch)
        size = batch.ids.shape[0] * (batch.ids.shape[1] - 1)
        total = float(size) if weights is None else float(weights.sum(dtype=np.float64))
        if total <= 0:
            raise ValueError(f"no token of step {number} counts in the loss; leave such rows out of the feed")
        parts = [self._part(batch, weights, rows, total) for rows in self._rows(*batch.ids.shape)]
        return Step(parts, size if weights is None else int((weights > 0).sum()))

    def _rows(self, rows: int, width: int) -> list[np.ndarray]:
        """Row numbers of this rank's parts; an empty one where others have a row more."""
        most = -(-rows // self.me.count)
        fit = most if self.micro is None else max(1, self.micro // (width - 1))
        mine = np.array_split(np.arange(rows), self.me.count)[self.me.rank]
        return np.array_split(mine, -(-most // fit))

    def _part(self, batch: Batch, weights: np.ndarray | None, rows: np.ndarray, total: float) -> Part:
        chosen = rows if len(rows) else np.zeros(1, dtype=np.int64)
        ids = torch.from_numpy(batch.ids[chosen].astype(np.int64 if self.device.type == "cpu" else np.int32))
        mine = None if weights is None else weights[chosen]
        counts = float(len(rows) * (batch.ids.shape[1] - 1)) if mine is None else float(mine.sum(dtype=np.float64))
        if not len(rows) or counts == 0:  # computed, since ranks meet in it, and counted as nothing
            mine, counts = None, 0.0
        documents = None
        if batch.documents is not None:
            documents = torch.from_numpy(np.ascontiguousarray(batch.documents[chosen, :-1], dtype=np.int32))
        return self._pinned(Part(
            ids[:, :-1], ids[:, 1:], documents, None if mine is None else torch.from_numpy(mine), counts / total,
        ))  # fmt: skip

    def _pinned(self, part: Part) -> Part:
        if self._thread is None:
            return part
        return part.moved(lambda t: t.contiguous().pin_memory())

    def _sent(self, part: Part) -> Part:
        there = part.moved(lambda t: t.to(self.device, non_blocking=True))
        return replace(there, tokens=there.tokens.long(), targets=there.targets.long())


def counting(batch: Batch) -> np.ndarray | None:
    """What each predicted token counts, float32 (rows, width); None where all count alike."""
    if batch.documents is None:
        return None if batch.weights is None else np.ascontiguousarray(batch.weights, dtype=np.float32)
    inside = (batch.documents[:, 1:] == batch.documents[:, :-1]) & (batch.documents[:, 1:] >= 0)
    if batch.weights is not None:
        return np.where(inside, batch.weights, 0).astype(np.float32)
    return None if inside.all() else inside.astype(np.float32)
