"""Dataset decomposition (Pouransari et al. 2024, arXiv 2405.13226): rows of one document each, in powers of two.

A document is cut into pieces whose lengths are powers of two, the longest first: the binary digits of its length. Each
piece goes to the *bucket* of its length. A step takes rows of one bucket, more of them the shorter they are, so that
every step has as many tokens. No row is padded, none holds two documents, and attention costs what the documents cost.
Pieces below the smallest bucket are left out, and counted.

    feed = Decomposed(tokens, tokens_per_step=1 << 16, smallest=256, largest=8192, curriculum="grow_p2", cycles=8)

*Which bucket a step takes* is drawn with a probability proportional to the steps that are left in it times its odds:
``grow_p2`` prefers short rows (odds 32, 16, 8, 4, 2, 1 from 256 to 8,192), so that rows grow on average. Every bucket
is dealt out to ``cycles`` equal parts of the epoch, each of which goes through the lengths anew; the paper takes 8.
At 1B weights and 137B tokens it reports a regular average of 54.4 against 51.5 for concatenated rows of 8,192, in 244
against 304 GPU hours; two seeds.

What differs from the released code (apple/ml-dataset-decomposition, scripts/make_dd_buckets.py). There a piece takes
2^k + 1 ids out of a document and predicts all but the first; here pieces share that one id with the piece before (the
separator with the document's beginning), so that every token is predicted once: the pieces of a document of n tokens
and its end are the binary digits of n + 1. There buckets are read in whole shards; here in steps. There documents
of twice the largest bucket and more are cut at random (rows half as long are twice as likely, so that such cuts give
each length as many tokens); here they give as many of the largest as they can, or ``long="random"``.

Order: pieces of a bucket come in a fresh permutation each epoch, from (seed, epoch); with an ordering (orders.py) in
the order of its documents. A step is answered from its number alone. Memory: 40 bytes a piece.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from curate.train.data import Tokens, permutation
from curate.train.feed import Batch
from curate.train.feeds import Layout
from curate.train.orders import Ordering, keyed
from curate.train.packing import Pieces

CURRICULA: dict[str, int | float] = {  # how much likelier a bucket is than the next longer one
    "uniform": 1, "grow_p2": 2, "grow_p100": 100, "shrink_p100": 1 / 100,
}  # fmt: skip
LONG = ("whole", "random")


class Buckets(NamedTuple):
    """Pieces by the power of two of their length.

    Args:
        pieces: see packing.Pieces, sorted by bucket and in it by document.
        offsets: int64 (buckets + 1,): bucket i, of rows of ``smallest << i`` tokens, is the pieces between two of them.
        dropped: tokens in no piece.
    """

    pieces: Pieces
    offsets: np.ndarray
    dropped: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What decomposition did to an epoch.

    Args:
        tokens: to predict in all documents, ends included.
        rows: by the length of a row.
        steps: by the length of a row.
        short: tokens dropped because their piece is below the smallest bucket.
        left: tokens of rows that did not fill a step of their bucket; other ones each epoch.
    """

    tokens: int
    rows: Mapping[int, int]
    steps: Mapping[int, int]
    short: int
    left: int

    def __str__(self) -> str:
        lengths = ", ".join(f"{n:,} of {length}" for length, n in self.rows.items())
        share = (self.short + self.left) / max(1, self.tokens)
        return (
            f"rows: {lengths}; dropped {share:.2%} of {self.tokens:,} tokens "
            f"({self.short:,} in short pieces, {self.left:,} in steps that were not full)"
        )


def decompose(
    lengths: np.ndarray, smallest: int, largest: int, *, random: np.ndarray | None = None, seed: int = 0
) -> Buckets:
    """Cut documents of so many predicted tokens into powers of two.

    Args:
        lengths: int64 (documents,).
        smallest: of the powers; shorter pieces are dropped.
        largest: of the powers.
        random: uint64 (documents,), what each document is known by: those of twice ``largest`` and more give pieces of
            random powers until they are shorter. None: as many of ``largest`` as they can.
        seed: of those.
    """
    left = np.asarray(lengths, dtype=np.int64).copy()
    done = np.zeros_like(left)
    powers = largest.bit_length() - smallest.bit_length() + 1
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(powers)]

    def cut(bucket: int, mine: np.ndarray) -> None:
        found[bucket].append((mine, done[mine]))
        done[mine] += smallest << bucket
        left[mine] -= smallest << bucket

    if random is not None:
        drawn = 0
        while len(mine := np.flatnonzero(left >= 2 * largest)):
            # Odds halve from one power to the next: so is the highest set bit of a uniform number distributed, from the
            # top.
            uniform = keyed(random[mine], seed, "decompose", drawn) % np.uint64((1 << powers) - 1) + np.uint64(1)
            drawn_buckets = powers - 1 - np.floor(np.log2(uniform.astype(np.float64))).astype(np.int64)
            for b in range(powers):
                cut(b, mine[drawn_buckets == b])
            drawn += 1
    else:
        many = left // largest
        mine = np.repeat(np.arange(len(left)), many)
        number = np.arange(len(mine)) - np.repeat(np.cumsum(many) - many, many)
        found[-1].append((mine, number * largest))
        done, left = many * largest, left % largest
    for b in range(powers - 1, -1, -1):
        cut(b, np.flatnonzero(left >= smallest << b))
    document, first, size, counts = [], [], [], []
    for b, pairs in enumerate(found):
        mine, begins = (np.concatenate(some) for some in zip(*pairs, (np.empty(0, np.int64),) * 2, strict=True))
        order = np.lexsort((begins, mine))
        document.append(mine[order])
        first.append(begins[order])
        size.append(np.full(len(mine), smallest << b))
        counts.append(len(mine))
    pieces = Pieces(np.concatenate(document), np.concatenate(first), np.concatenate(size))
    return Buckets(pieces, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]), int(left.sum()))


def schedule(steps: np.ndarray, odds: np.ndarray, cycles: int, seed: int, epoch: int) -> np.ndarray:
    """Which bucket each step of an epoch takes, int64 (steps,).

    Args:
        steps: int64 (buckets,), how many each has.
        odds: float64 (buckets,).
        cycles: parts of the epoch, each with its share of every bucket.
        seed: of the draws.
        epoch: likewise.
    """
    out = np.empty(int(steps.sum()), dtype=np.int64)
    uniform = keyed(np.arange(len(out), dtype=np.uint64), seed, "bucket", epoch) / 2.0**64
    at = 0
    for cycle in range(cycles):
        left = (cycle + 1) * steps // cycles - cycle * steps // cycles
        while left.any():
            ends = np.cumsum(left * odds)
            bucket = min(int(np.searchsorted(ends, uniform[at] * ends[-1], side="right")), len(left) - 1)
            while not left[bucket]:  # a draw at the very end of the scale, where rounding leads too far
                bucket -= 1
            out[at] = bucket
            left[bucket] -= 1
            at += 1
    return out


class Decomposed:
    """Rows of one document each, of a length that is a power of two and changes from step to step.

    Args:
        tokens: the documents.
        tokens_per_step: predicted in every step; a multiple of ``largest``.
        smallest: shortest rows, a power of two.
        largest: longest rows, a power of two.
        curriculum: one of CURRICULA, or the odds of each bucket, the shortest rows first.
        cycles: parts of an epoch that each go through the lengths.
        long: ``whole`` or ``random``, how documents longer than the largest rows are cut (see above).
        epochs: how often the text is read, where ``steps`` is None.
        steps: how many steps there are.
        order: which documents an epoch reads, in which order; None for all, permuted.
        end: documents are followed by a separator, which is predicted.
        plain: metadata is left out.
        seed: of permutations and draws.

    Raises:
        ValueError: lengths that are no powers of two, a step that is no multiple of rows, odds that are none, or too
            little text for a step.
    """

    def __init__(
        self, tokens: Tokens, tokens_per_step: int, *, smallest: int = 256, largest: int = 8192,
        curriculum: str | Sequence[float] = "grow_p2", cycles: int = 8, long: str = "whole", epochs: float = 1.0,
        steps: int | None = None, order: Ordering | None = None, end: bool = True, plain: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        if min(smallest, largest) < 1 or smallest & (smallest - 1) or largest & (largest - 1) or smallest > largest:
            raise ValueError(f"rows of {smallest} to {largest} tokens: give two powers of two, the smaller one first")
        if tokens_per_step < 1 or tokens_per_step % largest:
            raise ValueError(f"steps of {tokens_per_step} tokens do not hold whole rows of {largest}; give a multiple")
        if cycles < 1 or long not in LONG:
            raise ValueError(f"{cycles} cycles, long={long!r}: give at least one cycle, and one of: {', '.join(LONG)}")
        if order is not None and order.documents != tokens.documents:
            raise ValueError(f"the order is of {order.documents} documents, the tokens are {tokens.documents}")
        self.tokens, self.tokens_per_step, self.smallest, self.largest = tokens, tokens_per_step, smallest, largest
        self.cycles, self.long, self.order, self.seed = cycles, long, order, seed
        buckets = largest.bit_length() - smallest.bit_length() + 1
        self.odds = _odds(curriculum, buckets)
        self._rows = np.array([tokens_per_step // (smallest << b) for b in range(buckets)], dtype=np.int64)
        self._layout = Layout(tokens, end, plain)
        self._cut = lru_cache(maxsize=2)(self._decomposed)
        self._planned = lru_cache(maxsize=2)(self._schedule)
        self._ends: list[int] = []
        if not self._steps_of(0).any():
            raise ValueError(
                f"{len(tokens.ids)} ids fill no step of {tokens_per_step} tokens in rows of one length; "
                "give more text, smaller steps or shorter rows"
            )
        if steps is None:
            whole, part = divmod(epochs, 1.0)
            steps = self._end_of(int(whole) - 1) if whole else 0
            if part:
                steps += int(np.ceil(part * (self._end_of(int(whole)) - steps)))
        self._steps = max(1, steps)

    def _decomposed(self, epoch: int) -> tuple[np.ndarray, Buckets]:
        sequence = np.arange(self.tokens.documents) if self.order is None else self.order.sequence(epoch)
        known = None
        if self.long == "random":
            known = sequence.astype(np.uint64) if self.tokens.keys is None else self.tokens.keys[sequence, 0]
        lengths = self._layout.lengths(sequence)
        return sequence, decompose(lengths, self.smallest, self.largest, random=known, seed=self.seed)

    def _of(self, epoch: int) -> tuple[np.ndarray, Buckets]:
        return self._cut(0 if self.order is None else epoch)

    def _steps_of(self, epoch: int) -> np.ndarray:
        return np.diff(self._of(epoch)[1].offsets) // self._rows

    def _end_of(self, epoch: int) -> int:
        """Steps up to the end of an epoch, those before it included."""
        while len(self._ends) <= epoch:
            more = int(self._steps_of(len(self._ends)).sum())
            if not more:
                raise ValueError(f"epoch {len(self._ends)} of the order fills no step; give it more documents")
            self._ends.append((self._ends[-1] if self._ends else 0) + more)
        return self._ends[epoch]

    def _schedule(self, epoch: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Of each step the bucket, and how many of its bucket came before; of each bucket the order of its pieces."""
        steps = self._steps_of(epoch)
        bucket = schedule(steps, self.odds, self.cycles, self.seed, epoch)
        before = np.empty(len(bucket), dtype=np.int64)
        for b, count in enumerate(steps.tolist()):
            before[bucket == b] = np.arange(count)
        sizes = np.diff(self._of(epoch)[1].offsets).tolist()
        seeds = self.seed * len(sizes)
        orders = [
            permutation(n, seeds + b, epoch) if self.order is None else np.arange(n) for b, n in enumerate(sizes)
        ]
        return bucket, before, orders

    # -------------------------------------------------------------------------------------------------- as a feed

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self._steps

    @property
    def epochs(self) -> float:
        """How often the text is read, on average, by the tokens that it has."""
        total = int(self._layout.lengths(np.arange(self.tokens.documents)).sum())
        return self._steps * self.tokens_per_step / total

    @property
    def report(self) -> Report:
        """What decomposition did to the first epoch."""
        sequence, buckets = self._of(0)
        rows, steps = np.diff(buckets.offsets), self._steps_of(0)
        lengths = [self.smallest << b for b in range(len(rows))]
        left = (rows - steps * self._rows) * lengths
        return Report(
            tokens=int(self._layout.lengths(sequence).sum()), rows=dict(zip(lengths, rows.tolist(), strict=True)),
            steps=dict(zip(lengths, steps.tolist(), strict=True)), short=buckets.dropped, left=int(left.sum()),
        )  # fmt: skip

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        epoch = 0
        while self._end_of(epoch) <= step:
            epoch += 1
        step -= self._end_of(epoch - 1) if epoch else 0
        sequence, buckets = self._of(epoch)
        bucket, before, orders = self._planned(epoch)
        b = int(bucket[step])
        rows = int(self._rows[b])
        some = orders[b][int(before[step]) * rows :][:rows] + buckets.offsets[b]
        document, first, size = (column[some] for column in buckets.pieces)
        return self._layout.fill(sequence[document], first, size, np.arange(rows + 1), self.smallest << b, masked=False)

    def identity(self) -> Mapping[str, Any]:
        """What decides every batch."""
        return {
            "feed": "Decomposed", "tokens": self.tokens.identity(), "tokens_per_step": self.tokens_per_step,
            "smallest": self.smallest, "largest": self.largest, "odds": self.odds.tolist(), "cycles": self.cycles,
            "long": self.long, "order": None if self.order is None else dict(self.order.identity()),
            "end": self._layout.end, "plain": self._layout.plain, "seed": self.seed,
        }  # fmt: skip


def _odds(curriculum: str | Sequence[float], buckets: int) -> np.ndarray:
    if isinstance(curriculum, str):
        if curriculum not in CURRICULA:
            raise ValueError(f"there is no curriculum {curriculum!r}; use one of: {', '.join(CURRICULA)}, or odds")
        return float(CURRICULA[curriculum]) ** np.arange(buckets - 1, -1, -1)
    odds = np.array(curriculum, dtype=np.float64)
    if odds.shape != (buckets,) or not (odds > 0).all() or not np.isfinite(odds).all():
        raise ValueError(f"{len(odds)} odds for {buckets} lengths of rows: give each a positive one, short ones first")
    return odds
