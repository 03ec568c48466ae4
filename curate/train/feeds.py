"""Batches from documents: packed rows, and rows cut from the stream, in any order of the documents.

    tokens = tokenising.tokenise("mix/data", "tokenizer", Path("tokens"))
    feed = feeds.BestFit(tokens, context=1024, batch=32, epochs=2)
    print(feed.report)
    loop.fit(model, training, feed)

``BestFit``        documents whole, packed by best fit (packing.py); attention and positions stay inside a document.
``Concatenated``   the stream cut at multiples of ``context``. Rows cross the borders of documents; ``masked`` keeps
                   attention and positions inside a document all the same.
``Headed``         rows begin with a document and lose what they cannot hold of their last one: MeCo's own packing.
``Decomposed``     (decomposition.py) rows of one document each, in powers of two.

Where attention is masked (always in ``BestFit`` and ``Headed``), a document stands behind its separator and, with
``end``, in front of one of its own: so the model learns from the first token on, and learns where texts end. Predicted
are the tokens of a document and its end. Without masks the next document's separator is the end. Metadata
(``Tokens.prefix``) and masked spans are read and not predicted; ``plain`` leaves the metadata out altogether. The end
of a document counts if its last token does.

Without an ordering (orders.py) every epoch reads all documents, and its rows come in a fresh permutation drawn from
(seed, epoch). With one, its documents are packed in its order, epoch by epoch, and rows stay in that order; best fit
then packs a window of documents at a time, so that what belongs at the beginning stays there.

A step is answered from its number alone. Memory: 40 bytes a piece; ids are read from where they lie.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from curate.train import packing
from curate.train.data import Tokens, permutation
from curate.train.feed import Batch
from curate.train.orders import Ordering, Shuffled
from curate.train.packing import Report, Rows

WINDOW_ROWS = 256        # rows that a window of an ordering fills, where none is given: padding is 0.2 to 0.4 % then


@dataclass(frozen=True)
class Layout:
    """How documents stand in rows.

    Args:
        tokens: the documents.
        end: a document is followed by a separator of its own.
        plain: metadata is left out.
    """

    tokens: Tokens
    end: bool
    plain: bool

    def lengths(self, documents: np.ndarray) -> np.ndarray:
        """Tokens to predict in these documents, their ends included, int64."""
        sizes = self.tokens.offsets[documents + 1] - self.tokens.offsets[documents] - 1 + self.end
        return sizes - self._skip(documents)

    def _skip(self, documents: np.ndarray) -> np.ndarray:
        if self.plain and self.tokens.prefix is not None:
            return self.tokens.prefix[documents]
        return np.zeros(len(documents), dtype=np.int64)

    def fill(
        self, documents: np.ndarray, first: np.ndarray, size: np.ndarray, offsets: np.ndarray, width: int, masked: bool,
    ) -> Batch:  # fmt: skip
        """A batch of rows of ``width`` predicted positions.

        Args:
            documents: int64 (pieces,), document numbers, row by row.
            first: int64 (pieces,), see packing.Pieces.
            size: likewise.
            offsets: int64 (rows + 1,), see packing.Rows.
            width: of the rows.
            masked: whether attention stays inside a piece.
        """
        tokens, rows = self.tokens, len(offsets) - 1
        held = size + 1
        before = np.cumsum(held) - held
        piece = np.repeat(np.arange(len(held)), held)
        row = np.repeat(np.arange(rows), np.diff(offsets))
        column = before - before[np.minimum(offsets[row], len(held) - 1)]
        at = np.repeat(row * (width + 1) + column - before, held) + np.arange(len(piece))
        # Places in a laid-out document: 0 the separator, 1 the first token after it, the last one perhaps the end.
        place = np.arange(len(piece)) + np.repeat(first - before, held)
        base, skip = tokens.offsets[documents], self._skip(documents)
        stop = np.repeat(tokens.offsets[documents + 1], held)
        source = np.repeat(base, held) + place + np.where(place > 0, np.repeat(skip, held), 0)
        closing = source == stop
        ids = np.full(rows * (width + 1), tokens.separator, dtype=tokens.ids.dtype)
        ids[at] = tokens.ids[np.where(closing, np.repeat(base, held), source)]
        counted = tokens.loss(np.where(closing, stop - 1, source))
        if not masked:
            weights = None
            if counted is not None:
                weights = np.zeros(len(ids), dtype=np.float32)
                weights[at] = counted
                weights = np.ascontiguousarray(weights.reshape(rows, -1)[:, 1:])
            return Batch(ids.reshape(rows, -1), None, weights)
        numbers = np.full(len(ids), -1, dtype=np.int32)
        numbers[at] = np.repeat(np.arange(len(held)) - offsets[row], held)
        weights = np.zeros(len(ids), dtype=np.float32)
        weights[at] = 1.0 if counted is None else counted
        weights[at[before]] = 0.0  # the first id of a piece is not predicted
        return Batch(
            ids.reshape(rows, -1), numbers.reshape(rows, -1), np.ascontiguousarray(weights.reshape(rows, -1)[:, 1:])
        )


class _Epochs:
    """Rows counted through all epochs: what ``BestFit`` and ``Concatenated`` share."""

    masked: bool

    def __init__(
        self, tokens: Tokens, context: int, batch: int, *, epochs: float, steps: int | None, order: Ordering | None,
        layout: Layout, seed: int,
    ) -> None:  # fmt: skip
        if order is not None and order.documents != tokens.documents:
            raise ValueError(
                f"the order is of {order.documents} documents, the tokens are {tokens.documents}; make it for these"
            )
        if min(context, batch) < 1:
            raise ValueError(f"rows of {context} tokens, {batch} a step, hold nothing; give at least one of each")
        self.tokens, self.context, self.batch_rows, self.order, self.seed = tokens, context, batch, order, seed
        self._layout = layout
        self._packed = lru_cache(maxsize=2)(self._pack)
        self._permuted = lru_cache(maxsize=2)(self._permutation)
        self._ends: list[int] = []  # rows up to the end of each epoch
        self._shares: list[float] = []  # of all tokens, what an epoch reads
        self._all = max(1, int(layout.lengths(np.arange(tokens.documents)).sum()))
        if len(self._epoch(0)[1]) == 0:
            raise ValueError(
                f"{len(tokens.ids)} ids do not fill a row of {context} + 1; give more text or a shorter context"
            )
        if steps is None:
            whole, part = divmod(epochs, 1.0)
            rows = self._end_of(int(whole) - 1) if whole else 0
            if part:
                rows += int(np.ceil(part * (self._end_of(int(whole)) - rows)))
            steps = max(1, -(-rows // batch))
        self._steps = steps

    # -------------------------------------------------------------------------------------------- rows of an epoch

    def _rows_of(self, lengths: np.ndarray) -> Rows:
        raise NotImplementedError

    def _pack(self, epoch: int) -> tuple[np.ndarray, Rows]:
        """The documents of an epoch, int64, and its rows; without an ordering the same in every epoch."""
        sequence = np.arange(self.tokens.documents) if self.order is None else self.order.sequence(epoch)
        return sequence, self._rows_of(self._layout.lengths(sequence))

    def _epoch(self, epoch: int) -> tuple[np.ndarray, Rows]:
        return self._packed(0 if self.order is None else epoch)

    def _permutation(self, epoch: int) -> np.ndarray:
        return permutation(len(self._epoch(epoch)[1]), self.seed, epoch)

    def _end_of(self, epoch: int) -> int:
        """Rows up to the end of an epoch, those before it included."""
        while len(self._ends) <= epoch:
            sequence, rows = self._epoch(len(self._ends))
            self._ends.append((self._ends[-1] if self._ends else 0) + len(rows))
            self._shares.append(int(self._layout.lengths(sequence).sum()) / self._all)
            if len(rows) == 0:
                raise ValueError(f"epoch {len(self._ends) - 1} of the order fills no row; give it more documents")
        return self._ends[epoch]

    # -------------------------------------------------------------------------------------------------- as a feed

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self._steps

    @property
    def epochs(self) -> float:
        """How often the text is read, on average; an epoch that leaves documents out is less than one."""
        rows, epoch, read = self._steps * self.batch_rows, 0, 0.0
        while rows > self._end_of(epoch):
            read += self._shares[epoch]
            epoch += 1
        begin = self._end_of(epoch - 1) if epoch else 0
        return read + self._shares[epoch] * (rows - begin) / (self._end_of(epoch) - begin)

    @property
    def report(self) -> Report:
        """What packing did to the first epoch."""
        sequence, rows = self._epoch(0)
        return self._report(self._layout.lengths(sequence), rows)

    def _report(self, lengths: np.ndarray, rows: Rows) -> Report:
        return packing.report(lengths, rows, self.context)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        at = np.arange(step * self.batch_rows, (step + 1) * self.batch_rows)
        batches = []
        epoch = 0
        while self._end_of(epoch) <= at[0]:
            epoch += 1
        while len(at):
            end, begin = self._end_of(epoch), self._end_of(epoch - 1) if epoch else 0
            mine = at[at < end] - begin
            at = at[len(mine) :]
            batches.append(self._filled(epoch, mine))
            epoch += 1
        if len(batches) == 1:
            return batches[0]
        parts = [
            None if getattr(batches[0], name) is None else np.concatenate([getattr(b, name) for b in batches])
            for name in ("ids", "documents", "weights")
        ]
        return Batch(parts[0], parts[1], parts[2])  # type: ignore[arg-type]

    def _filled(self, epoch: int, numbers: np.ndarray) -> Batch:
        """Rows of an epoch, by their place in it."""
        sequence, rows = self._epoch(epoch)
        if self.order is None:
            numbers = self._permuted(epoch)[numbers]
        starts, counts = rows.offsets[numbers], np.diff(rows.offsets)[numbers]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        pieces = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
        document, first, size = (column[pieces] for column in rows.pieces)
        return self._layout.fill(sequence[document], first, size, offsets, self.context, self.masked)

    def identity(self) -> Mapping[str, Any]:
        """What decides every batch."""
        return {
            "feed": type(self).__name__, "tokens": self.tokens.identity(), "context": self.context,
            "batch": self.batch_rows, "end": self._layout.end, "plain": self._layout.plain, "masked": self.masked,
            "order": None if self.order is None else dict(self.order.identity()), "seed": self.seed,
        }  # fmt: skip


class BestFit(_Epochs):
    """Rows of whole documents, packed by best fit; only a document longer than a row is cut.

    Args:
        tokens: the documents.
        context: tokens predicted in a row.
        batch: rows a step.
        epochs: how often the text is read, where ``steps`` is None.
        steps: how many steps there are.
        order: which documents an epoch reads, in which order; None for all, in permuted rows.
        window: documents packed together where there is an order; None for as many as fill 256 rows.
        end: documents are followed by a separator, which is predicted.
        plain: metadata is left out.
        seed: of the permutations.

    Raises:
        ValueError: no document, an order of other documents, or rows that hold nothing.
    """

    masked = True

    def __init__(
        self, tokens: Tokens, context: int, batch: int, *, epochs: float = 1.0, steps: int | None = None,
        order: Ordering | None = None, window: int | None = None, end: bool = True, plain: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        self.window = window
        layout = Layout(tokens, end, plain)
        super().__init__(tokens, context, batch, epochs=epochs, steps=steps, order=order, layout=layout, seed=seed)

    def _rows_of(self, lengths: np.ndarray) -> Rows:
        window = None
        if self.order is not None:
            room = WINDOW_ROWS * (self.context + 1) * len(lengths)
            window = self.window or max(1, room // max(1, int(lengths.sum()) + len(lengths)))
        return packing.best_fit_rows(lengths, self.context, window)

    def identity(self) -> Mapping[str, Any]:
        """What decides every batch."""
        return {**super().identity(), "window": self.window}


class Headed(_Epochs):
    """Rows that begin with a document and hold the next ones whole; the last one is cut, and its rest left out.

    So no token is read without the head of its document, its metadata for example, in the same row: the packing of
    MeCo (Gao et al. 2025). The price is what is left out, most of the text where documents are much longer than a row:
    look at ``report``. Without an order the documents are shuffled anew each epoch, so that others lose their ends.

    Args:
        tokens: the documents.
        context: tokens predicted in a row.
        batch: rows a step.
        epochs: how often the text is read, where ``steps`` is None.
        steps: how many steps there are.
        order: which documents an epoch reads, in which order; None for a shuffle.
        end: documents are followed by a separator, which is predicted.
        plain: metadata is left out.
        seed: of the shuffle.

    Raises:
        ValueError: no document, an order of other documents, or rows that hold nothing.
    """

    masked = True

    def __init__(
        self, tokens: Tokens, context: int, batch: int, *, epochs: float = 1.0, steps: int | None = None,
        order: Ordering | None = None, end: bool = True, plain: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        if order is None and tokens.documents:
            order = shuffled(tokens, seed)
        layout = Layout(tokens, end, plain)
        super().__init__(tokens, context, batch, epochs=epochs, steps=steps, order=order, layout=layout, seed=seed)

    def _rows_of(self, lengths: np.ndarray) -> Rows:
        return packing.cut_heads(lengths, self.context)

    def _report(self, lengths: np.ndarray, rows: Rows) -> Report:
        size = rows.pieces.size  # one piece a document, in their order
        report = packing.report(lengths, rows, self.context, dropped=int((lengths - size).sum()))
        return replace(report, truncated=int(((size < lengths) & (lengths <= self.context)).sum()))


def shuffled(tokens: Tokens, seed: int) -> Shuffled:
    """A shuffle of documents, which it knows by their keys where they have some."""
    keys = None if tokens.keys is None else np.ascontiguousarray(tokens.keys[:, 0])
    return Shuffled(documents=tokens.documents, seed=seed, keys=keys)


class Concatenated(_Epochs):
    """Rows cut from the documents one after the other, at multiples of ``context``; the tail of an epoch is left out.

    Without an order and without masks these are the windows of ``data.Order``.

    Args:
        tokens: the documents.
        context: tokens predicted in a row.
        batch: rows a step.
        epochs: how often the text is read, where ``steps`` is None.
        steps: how many steps there are.
        order: which documents an epoch reads, in which order; None for all, in permuted rows.
        masked: attention and positions stay inside a document; each is then followed by a separator of its own.
        plain: metadata is left out.
        seed: of the permutations.

    Raises:
        ValueError: less than a row of text, an order of other documents, or rows that hold nothing.
    """

    def __init__(
        self, tokens: Tokens, context: int, batch: int, *, epochs: float = 1.0, steps: int | None = None,
        order: Ordering | None = None, masked: bool = False, plain: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        self.masked = masked
        layout = Layout(tokens, masked, plain)
        super().__init__(tokens, context, batch, epochs=epochs, steps=steps, order=order, layout=layout, seed=seed)

    def _rows_of(self, lengths: np.ndarray) -> Rows:
        return packing.cut_stream(lengths, self.context)

    def _report(self, lengths: np.ndarray, rows: Rows) -> Report:
        total = int((lengths + 1).sum())
        return packing.report(lengths, rows, self.context, dropped=max(0, total - len(rows) * self.context - 1))
