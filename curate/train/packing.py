"""Which documents share a row: best-fit packing, exact and fast, and the other layouts.

*Best-fit packing* (Ding et al. 2024, "Fewer Truncations Improve Language Modeling", section 3). A document that is
longer than a row is cut into pieces; no other is. Pieces are taken from the longest to the shortest, and each goes into
the fullest row that still has room for it, a new one where none has (best-fit decreasing). Rows hold a few thousand
tokens and documents come in all lengths, so next to nothing stays empty.

The paper finds the fullest row with a tree over the residuals, document by document. Here a whole length is placed at
once. Of the rows with room for a piece of size s, the fullest, with residual r, takes pieces of that size until it has
no room left: a row that was the fullest with room stays it. So a class of rows with residual r takes ``r // s`` pieces
each, in the order of r, and the last of them fewer; what is left opens rows that take ``capacity // s``. That gives
the same multiset of residuals as one piece after the other (a test compares), at a cost of O(N + sum over the lengths
that occur of the residuals that occur): about 10 million documents a CPU second with plain NumPy. Where nearly every
piece has a length of its own (the windows of an ordering) one piece after the other is faster: 3 million a second.

Layout of a row. A piece stands in it as the token before it (at a document's beginning its separator), then its
tokens: so every token is predicted once, a document's first one from its separator, and the rest of a long document
from its own last token, as in scoring (score.py, ``blocks``). Where ends are learned, a document is followed by a
separator of its own: under attention masks the separator of the next document belongs to the next document. In a row
of ``context + 1`` ids, a document of up to ``context`` predicted tokens stays whole.

``cut_stream`` is another layout: documents one after the other, cut into windows whatever borders they cross.
``cut_heads`` begins every row with a document and leaves out what the row cannot hold of its last one (Gao et al. 2025;
``pack_complete`` in princeton-pli/MeCo, datatools/mds_pack_data.py). Power-of-two buckets are in decomposition.py,
batches in feeds.py.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

DENSE = 8                # items for each size that occurs, from which whole sizes are placed at once


class Pieces(NamedTuple):
    """Runs of predicted tokens, of one document each; int64 (pieces,).

    Args:
        document: the place of the document in the sequence that was packed.
        first: the first predicted token's place in the document (0: the first after the separator).
        size: how many are predicted.
    """

    document: np.ndarray
    first: np.ndarray
    size: np.ndarray


@dataclass(frozen=True)
class Rows:
    """Pieces, sorted by row and in it by document.

    Args:
        pieces: see there.
        offsets: int64 (rows + 1,), row r holds ``pieces[offsets[r] : offsets[r + 1]]``.
    """

    pieces: Pieces
    offsets: np.ndarray

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.offsets) - 1


@dataclass(frozen=True, kw_only=True)
class Report:
    """What packing did to an epoch.

    Args:
        documents: that were packed; repeated ones count again.
        tokens: to predict in all of them, ends included.
        pieces: after long documents were cut.
        rows: that hold them.
        fewest: a lower bound on rows: all ids divided by what a row holds.
        waste: share of the ids of all rows that is padding.
        truncated: documents that would have fitted a row and were cut; in ``cut_heads``, those that lost their end.
        split: documents longer than a row, which any layout must cut.
        dropped: tokens that are in no row.
    """

    documents: int
    tokens: int
    pieces: int
    rows: int
    fewest: int
    waste: float
    truncated: int
    split: int
    dropped: int

    def __str__(self) -> str:
        return (
            f"{self.documents:,} documents in {self.rows:,} rows (at least {self.fewest:,}): {self.waste:.3%} padding, "
            f"{self.truncated:,} truncated, {self.split:,} longer than a row, {self.dropped:,} tokens dropped"
        )


def best_fit(sizes: np.ndarray, capacity: int) -> tuple[np.ndarray, int]:
    """Best-fit decreasing: the bin of each item, int64 (n,), and how many bins there are.

    Bins are numbered in the order in which they were opened, so the longest items come first. The multiset of what
    is left in the bins is that of taking items one by one; which of several equal items goes into which of several
    equally full bins is decided by their numbers.

    Args:
        sizes: integers (n,), from 1 to ``capacity``.
        capacity: of a bin.

    Raises:
        ValueError: an item that fits no bin, or has no size.
    """
    sizes = np.asarray(sizes)
    if len(sizes) == 0:
        return np.empty(0, dtype=np.int64), 0
    low, high = int(sizes.min()), int(sizes.max())
    if low < 1 or high > capacity:
        raise ValueError(f"sizes from {low} to {high} do not fit bins of {capacity}; cut the larger ones")
    counts = np.bincount(sizes, minlength=high + 1)
    # NumPy's stable sort of 16-bit numbers is a radix sort.
    order = np.argsort((high - sizes).astype(np.uint16 if high < 1 << 16 else np.int64), kind="stable")
    out = np.empty(len(sizes), dtype=np.int64)
    if len(sizes) < DENSE * np.count_nonzero(counts):
        out[order], bins = _one_by_one(sizes[order].tolist(), capacity)
        return out, bins
    placed = np.empty(len(sizes), dtype=np.int64)  # bins of the items in that order
    shelves: list[list[np.ndarray]] = [[] for _ in range(capacity + 1)]  # open bins by residual
    held = np.zeros(capacity + 1, dtype=np.int64)  # how many they are
    at = bins = 0
    for size in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[size])
        residuals = size + np.flatnonzero(held[size:])
        if len(residuals):
            fit = residuals // size
            room = np.cumsum(fit * held[residuals])
            full = int(np.searchsorted(room, left, side="right"))  # so many classes are used up
            for residual, each in zip(residuals[:full].tolist(), fit[:full].tolist(), strict=True):
                shelf = shelves[residual]
                shelves[residual] = []
                for some in shelf:
                    placed[at : at + each * len(some)] = some if each == 1 else np.repeat(some, each)
                    at += each * len(some)
                shelves[residual - each * size].extend(shelf)
                held[residual - each * size] += held[residual]
                held[residual] = 0
            left -= int(room[full - 1]) if full else 0
            if full < len(residuals) and left:
                residual, each = int(residuals[full]), int(fit[full])
                used, rest = divmod(left, each)
                whole = np.concatenate(shelves[residual])
                _put(placed, at, whole[: used + (rest > 0)], each, left)
                at += left
                shelves[residual] = [whole[used + (rest > 0) :]]
                held[residual] -= used + (rest > 0)
                _shelve(shelves, held, residual - each * size, whole[:used])
                if rest:
                    _shelve(shelves, held, residual - rest * size, whole[used : used + 1])
                left = 0
        if left:
            each = capacity // size
            opened = np.arange(bins, bins - (-left // each))
            used, rest = divmod(left, each)
            _put(placed, at, opened, each, left)
            _shelve(shelves, held, capacity - each * size, opened[:used])
            if rest:
                _shelve(shelves, held, capacity - rest * size, opened[used:])
            at += left
            bins += len(opened)
    out[order] = placed
    return out, bins


def _one_by_one(sizes: list[int], capacity: int) -> tuple[list[int], int]:
    """The bins of items that come from the largest to the smallest, and how many there are."""
    left: list[int] = []  # residuals of the open bins, ascending, and beside them the bins
    opened: list[int] = []
    placed = []
    bins = 0
    for size in sizes:
        at = bisect_left(left, size)
        if at < len(left):
            residual, mine = left.pop(at) - size, opened.pop(at)
        else:
            residual, mine, bins = capacity - size, bins, bins + 1
        placed.append(mine)
        if residual:
            at = bisect_right(left, residual)
            left.insert(at, residual)
            opened.insert(at, mine)
    return placed, bins


def _put(placed: np.ndarray, at: int, bins: np.ndarray, each: int, items: int) -> None:
    """Place items, ``each`` into every bin in turn, the last of which may get fewer."""
    placed[at : at + items] = bins if each == 1 else np.repeat(bins, each)[:items]


def _shelve(shelves: list[list[np.ndarray]], held: np.ndarray, residual: int, bins: np.ndarray) -> None:
    if len(bins):
        shelves[residual].append(bins)
        held[residual] += len(bins)


def cut_documents(lengths: np.ndarray, most: int) -> Pieces:
    """Documents of so many predicted tokens in pieces of at most ``most``; one without any gives no piece."""
    blocks = -(-lengths // most)
    document = np.repeat(np.arange(len(lengths)), blocks)
    block = np.arange(len(document)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    first = block * most
    return Pieces(document, first, np.minimum(most, lengths[document] - first))


def best_fit_rows(lengths: np.ndarray, context: int, window: int | None = None) -> Rows:
    """Documents of so many predicted tokens, best-fit packed into rows of ``context + 1`` ids.

    Args:
        lengths: int64 (documents,), in the order of reading.
        context: tokens predicted in a row.
        window: documents that are packed together; rows follow in the order of their windows, and within one in that
            of their first document. None packs all together.
    """
    pieces = cut_documents(lengths, context)
    if window is None or len(lengths) <= window:
        bins, count = best_fit(pieces.size + 1, context + 1)
    else:
        ends = np.searchsorted(pieces.document, np.arange(window, len(lengths) + window, window))
        bins = np.empty(len(pieces.size), dtype=np.int64)
        count = start = 0
        for end in ends.tolist():
            some, more = best_fit(pieces.size[start:end] + 1, context + 1)
            bins[start:end] = some + count
            count, start = count + more, end
    if window is not None and len(bins):
        # The first piece of each bin, in the order of reading, names its place.
        first = np.full(count, len(bins), dtype=np.int64)
        np.minimum.at(first, bins, np.arange(len(bins)))
        rank = np.empty(count, dtype=np.int64)
        rank[np.argsort(first)] = np.arange(count)
        bins = rank[bins]
    return group(pieces, bins, count)


def group(pieces: Pieces, bins: np.ndarray, count: int) -> Rows:
    """Pieces by their bins, int64 (pieces,), each bin's in the order in which they were given."""
    number = len(bins)
    order = np.sort(bins * number + np.arange(number)) % number if number else bins  # a stable argsort, and a fast one
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.bincount(bins, minlength=count))])
    return Rows(Pieces(*(column[order] for column in pieces)), offsets)


def cut_stream(lengths: np.ndarray, context: int) -> Rows:
    """Laid-out documents (each its separator and ``lengths`` predicted tokens) one after the other, cut into rows.

    Rows begin at multiples of ``context`` ids and hold ``context + 1``: the last id of one is the first of the next,
    so each is predicted once. What does not fill a row at the end is in none.

    A row that begins with a document's last id, or ends with a separator, holds a piece that predicts nothing.
    """
    ends = np.cumsum(lengths + 1)
    starts = ends - (lengths + 1)
    total = int(ends[-1]) if len(ends) else 0
    begins = np.arange(max(0, (total - 1) // context)) * context
    stops = begins + context + 1
    first = np.searchsorted(ends, begins, side="right")
    last = np.searchsorted(starts, stops, side="left")
    count = last - first
    row = np.repeat(np.arange(len(begins)), count)
    document = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + first[row]
    low = np.maximum(begins[row], starts[document])
    high = np.minimum(stops[row], ends[document])
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(count)])
    return Rows(Pieces(document, low - starts[document], high - low - 1), offsets)


def cut_heads(lengths: np.ndarray, context: int) -> Rows:
    """Rows of ``context + 1`` ids that each begin with a document and take the next ones until they are full.

    What a row cannot hold of its last document is in none: so whatever stands at a document's head, such as metadata,
    stands in front of all that is read of it. The last row of an epoch may not be full.
    """
    ends = np.cumsum(lengths + 1)
    starts = ends - (lengths + 1)
    # The first document behind a row that begins with each one; then the chain of those that do begin one.
    behind = (np.searchsorted(ends, starts + context + 1) + 1).tolist()
    heads, at = [], 0
    while at < len(lengths):
        heads.append(at)
        at = behind[at]
    offsets = np.minimum(np.array([*heads, at], dtype=np.int64), len(lengths))
    room = np.repeat(starts[offsets[:-1]] + context + 1, np.diff(offsets))
    size = np.minimum(ends, room) - starts - 1
    return Rows(Pieces(np.arange(len(lengths)), np.zeros_like(size), size), offsets)


def report(lengths: np.ndarray, rows: Rows, context: int, dropped: int = 0) -> Report:
    """What packing did; ``lengths`` as for best_fit_rows."""
    cut = np.bincount(rows.pieces.document[rows.pieces.size > 0], minlength=len(lengths)) > 1
    ids = int((rows.pieces.size + 1).sum())
    room = len(rows) * (context + 1)
    return Report(
        documents=len(lengths), tokens=int(lengths.sum()), pieces=len(rows.pieces.size), rows=len(rows),
        fewest=-(-ids // (context + 1)), waste=1 - ids / room if room else 0.0,
        truncated=int((cut & (lengths <= context)).sum()), split=int((lengths > context).sum()),
        dropped=dropped,
    )  # fmt: skip
