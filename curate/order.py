"""Exact cuts: the rows that come first in a total order and together cost no more than a budget.

A row's *place* is five uint64 words, compared from left to right: its score (so coded that the better score is the
smaller word), a keyed hash, the two halves of its key, its address. Ties of the score are thus broken by a keyed hash,
never by an id or a position, which would choose by source; rows with equal keys are interchangeable, and only among
them the address decides. Rows are taken in this order up to the first one that would pass the budget; it and all that
come after it stay out. Null or NaN is no score: such a row is never taken, at either end.

Finding the place of the cut takes bounded memory. Each pass over the narrow columns sums rows and costs in buckets of
one word's range (a radix select with sums in place of ranks), takes the buckets that fit whole, and narrows the search
to the least and greatest word that occur in the bucket where the budget is crossed; a bucket with one word only moves
on to the next word, so a score of few values costs one pass. Once the crossing buckets hold few enough rows
(``gather``), these rows are fetched and the cut is finished on them. All sums are integers, so neither the partition
nor the number of buckets can change the result.

Cost: key, score and cost column are read once a pass: two passes up to ``gather`` rows, three or four for 10^9 rows.
A pass returns at most 2^16 buckets a part, 36 bytes each, and no more of them than narrowing to ``gather`` needs
(2^12 for 10^9 rows); they are added up on workers, as a tree. The last pass returns 56 bytes for each of the ``gather``
rows.

With ``strata``, each row draws on the budget of its own stratum; there is one cut in each, found in the same passes.
Every stratum then falls short by a part of a document; ``fill`` takes the rows at which the strata stopped as long as
the sum of the budgets allows, so that the whole is as close to its budget as a single cut.

Elsewhere: which rule makes a mix (select.py); shards and their order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate.columns import ADDRESS
from curate.errors import BadData, BadPlan
from curate.hashing import halves, keyed
from curate.stage import Direction, Rows

GATHER = 1_000_000
WORDS = 5
TOP = 2**64 - 1
SIGN = np.uint64(1 << 63)
MOST_BUCKETS = 1 << 22                            # over all strata: 128 MB of sums in the process that searches
NO_SCORE, NO_COST, OUTSIDE = -1, -2, -3           # why a row takes no part; in place of a bucket's number


@dataclass(frozen=True, kw_only=True)
class Order:
    """The total order in which rows are taken.

    Args:
        label: what the randomness is for; unique in a plan.
        seed: the pipeline's seed.
        score: a float column, or None for a uniform draw (by the keyed hash alone).
        keep: the end of the score that comes first.
    """

    label: str
    seed: int = 0
    score: str | None = None
    keep: Direction = Direction.HIGH


@dataclass(frozen=True, kw_only=True)
class Strata:
    """Which budget a row draws on.

    Args:
        fn: top-level function of (table, given) that returns stratum numbers, int (n,); -1 for a row in none.
        reads: the columns that it reads.
        given: a small picklable value.
    """

    fn: Callable[[pa.Table, Any], np.ndarray]
    reads: tuple[str, ...]
    given: Any = None


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What was taken of one stratum.

    Args:
        budget: the most that the rows taken may cost (with ``fill``, plus less than one row).
        rows: rows taken.
        cost: what they cost.
        all_rows: rows that could have been taken.
        all_cost: what those cost.
        last: every row whose place is at or before this one is taken; None where no row is.
    """

    budget: int
    rows: int
    cost: int
    all_rows: int
    all_cost: int
    last: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where a total order is cut; small and picklable. ``selected(table, cut)`` says which rows it takes.

    Args:
        order: the order of the rows.
        cost: the integer column that counts against the budget, or None where each row costs 1.
        strata: which budget a row draws on, or None for a single budget.
        taken: what was taken, one entry a stratum.
        no_score: rows without a score.
        no_cost: rows with a score and without a cost; never taken.
        outside: rows in no stratum.
    """

    order: Order
    cost: str | None
    strata: Strata | None
    taken: tuple[Taken, ...]
    no_score: int
    no_cost: int
    outside: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns, beside the address, that ``selected`` needs."""
        return _reads(self.order, self.cost, self.strata)

    @property
    def rows(self) -> int:
        """Rows taken."""
        return sum(t.rows for t in self.taken)

    @property
    def total(self) -> int:
        """What the rows taken cost."""
        return sum(t.cost for t in self.taken)

    @property
    def value(self) -> float | None:
        """The last score taken; None where there is no score, nothing was taken, or there are several strata."""
        if self.order.score is None or len(self.taken) != 1 or self.taken[0].last is None:
            return None
        return score_of(self.taken[0].last[0], self.order.keep)


def cut(
    rows: Rows,
    *,
    order: Order,
    cost: str | None,
    budgets: Sequence[int],
    strata: Strata | None = None,
    fill: bool = False,
    name: str = "cut",
    gather: int = GATHER,
) -> Cut:
    """Find where the budgets end.

    Args:
        rows: all living rows.
        order: the order in which they are taken.
        cost: an integer column without negative values, or None: each row costs 1. A row whose cost is null stays out.
        budgets: the most that the rows taken may cost, one a stratum; a single one without ``strata``.
        strata: which budget a row draws on.
        fill: take the row at which a stratum stopped, largest gap first, where it fits the sum of all budgets.
        name: begins the labels of the passes; unique within a stage.
        gather: the number of rows, at least 1, at which the search fetches rows and ends.

    Raises:
        BadPlan: no budget, a negative one, or several without strata.
        BadData: a negative cost.
    """
    if not budgets or min(budgets) < 0 or (strata is None and len(budgets) != 1):
        raise BadPlan(
            f"budgets {list(budgets)!r} for {'no' if strata is None else 'the'} strata",
            where=f"selection {order.label!r}",
            fix="give one budget of 0 or more for each stratum, and a single one where there are no strata",
        )
    found = [_Found(int(b)) for b in budgets]
    reads = _reads(order, cost, strata)
    left_out = {NO_SCORE: 0, NO_COST: 0, OUTSIDE: 0}
    passes = 0
    inside = rows.count
    while passes == 0 or inside > gather:
        bits = min(max((inside // gather).bit_length() + 2, 8), 16, (MOST_BUCKETS // len(found)).bit_length() - 1)
        search = _Search.of(order, cost, strata, found, max(bits, 1))
        tables = rows.map(_histogram, reads=reads, label=f"{name}-{passes}", given=search, merge=_added)
        sums = _merge(tables, len(found) << search.bits)
        if passes == 0:
            left_out = sums.left_out
            for s, stratum in enumerate(found):
                mine = slice(s << search.bits, (s + 1) << search.bits)
                stratum.all_rows, stratum.all_cost = int(sums.rows[mine].sum()), int(sums.cost[mine].sum())
        for s, stratum in enumerate(found):
            if stratum.open:
                stratum.narrow(sums, slice(s << search.bits, (s + 1) << search.bits))
        inside = sum(stratum.inside for stratum in found if stratum.open)
        passes += 1
    if inside:
        search = _Search.of(order, cost, strata, found, 1)
        _finish(found, rows.map(_fetch, reads=reads, label=f"{name}-{passes}", given=search, merge=_as_they_are))
    if fill:
        _fill(found)
    return Cut(
        order=order, cost=cost, strata=strata, taken=tuple(stratum.taken() for stratum in found),
        no_score=left_out[NO_SCORE], no_cost=left_out[NO_COST], outside=left_out[OUTSIDE],
    )  # fmt: skip


def sample_cut(rows: Rows, *, cost: str | None, budget: int, label: str, seed: int) -> Cut:
    """A uniform draw under a budget: rows by keyed hash, whatever their content.

    Args:
        rows: all living rows.
        cost: an integer column (``tokens``, ``text_bytes``), or None to count rows.
        budget: the most that the sample may cost.
        label: what the sample is for; unique in a plan.
        seed: the pipeline's seed.
    """
    return cut(rows, order=Order(label=label, seed=seed), cost=cost, budgets=[budget])


def selected(table: pa.Table, cut: Cut) -> np.ndarray:
    """Which rows of a part are taken, bool (n,).

    Args:
        table: ``address`` and the columns named in ``cut.reads``.
        cut: where the order is cut.
    """
    part = _Part.of(table, cut.order, cut.cost, cut.strata, len(cut.taken))
    none = (0,) * WORDS
    last = np.array([t.last or none for t in cut.taken], dtype=np.uint64)[part.stratum]
    before = np.zeros(len(part.at), dtype=bool)
    same = np.ones(len(part.at), dtype=bool)
    for word, end in zip(part.words, last.T, strict=True):
        before |= same & (word < end)
        same &= word == end
    mask = np.zeros(table.num_rows, dtype=bool)
    mask[part.at] = (before | same) & np.array([t.last is not None for t in cut.taken])[part.stratum]
    return mask


def score_words(scores: np.ndarray, keep: Direction) -> np.ndarray:
    """Scores, float64 (n,) without NaN, as uint64 (n,) that sort the better score first; -0.0 is 0.0.

    Reading the bits of a float as an integer keeps the order of positive numbers and reverses that of negative ones
    (IEEE 754); so negative numbers have all bits flipped, the others the sign alone.
    """
    bits = (scores + 0.0).view(np.uint64)
    ascending = np.where(bits & SIGN, ~bits, bits | SIGN)
    return ~ascending if keep is Direction.HIGH else ascending


def score_of(word: int, keep: Direction) -> float:
    """The score that ``score_words`` codes as ``word``."""
    ascending = np.uint64(word) ^ np.uint64(TOP if keep is Direction.HIGH else 0)
    bits = ascending ^ SIGN if ascending & SIGN else ~ascending
    return float(np.array([bits]).view(np.float64)[0])


def _reads(order: Order, cost: str | None, strata: Strata | None) -> tuple[str, ...]:
    named = ("key", order.score, cost, *(strata.reads if strata else ()))
    return tuple(dict.fromkeys(column for column in named if column is not None))


@dataclass(frozen=True)
class _Part:
    """The rows of a part that can be taken: their positions (m,), places (5, m), costs (m,) and strata (m,)."""

    at: np.ndarray
    words: np.ndarray
    cost: np.ndarray
    stratum: np.ndarray
    left_out: dict[int, int]

    @classmethod
    def of(cls, table: pa.Table, order: Order, cost: str | None, strata: Strata | None, count: int) -> "_Part":
        n = table.num_rows
        scores = np.zeros(n) if order.score is None else _numbers(table[order.score], pa.float64(), np.nan)
        costs = np.ones(n, dtype=np.int64)
        costed = np.ones(n, dtype=bool)
        if cost is not None:
            costs = _numbers(table[cost], pa.int64(), 0)
            costed = np.asarray(table[cost].is_valid())
            if n and costs.min() < 0:
                raise BadData(
                    f"column {cost!r} counts against a budget and holds {costs.min()}",
                    where=f"selection {order.label!r}, row {int(costs.argmin())} of a part",
                    fix="use a column of sizes: text_bytes, tokens",
                )
        numbers = np.zeros(n, dtype=np.int64)
        if strata is not None:
            numbers = np.asarray(strata.fn(table, strata.given), dtype=np.int64)
        if n and not -1 <= numbers.min() <= numbers.max() < count:
            raise BadData(
                f"strata are numbered {numbers.min()} to {numbers.max()}, and there are {count} budgets",
                where=f"selection {order.label!r}",
                fix="number the strata from 0, and give each a budget; -1 stands for a row in none",
            )
        scored = ~np.isnan(scores)
        at = np.flatnonzero(scored & costed & (numbers >= 0))
        keys = halves(table["key"])[at]
        words = np.zeros((WORDS, len(at)), dtype=np.uint64)
        if order.score is not None:
            words[0] = score_words(scores[at], order.keep)
        words[1] = keyed(keys, label=order.label, seed=order.seed)
        words[2:4] = keys.T
        words[4] = _numbers(table[ADDRESS], pa.uint64(), 0)[at]
        left_out = {
            OUTSIDE: int((numbers < 0).sum()),
            NO_SCORE: int(((numbers >= 0) & ~scored).sum()),
            NO_COST: int(((numbers >= 0) & scored & ~costed).sum()),
        }
        return cls(at, words, costs[at], numbers[at], left_out)


def _numbers(column: pa.ChunkedArray, kind: pa.DataType, null: float) -> np.ndarray:
    return np.asarray(column.cast(kind).fill_null(pa.scalar(null, kind)))


@dataclass(frozen=True)
class _Search:
    """What a pass looks for, one entry a stratum: rows are inside where ``fixed[:depth]`` are their first words and the
    next word is within [low, high]; ``depth`` is -1 where nothing is left to find.
    """

    order: Order
    cost: str | None
    strata: Strata | None
    bits: int
    depth: np.ndarray
    fixed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, order: Order, cost: str | None, strata: Strata | None, found: "list[_Found]", bits: int) -> "_Search":
        return cls(
            order, cost, strata, bits,
            depth=np.array([len(f.fixed) if f.open else -1 for f in found]),
            fixed=np.array([f.fixed + (0,) * (WORDS - len(f.fixed)) for f in found], dtype=np.uint64),
            low=np.array([f.low for f in found], dtype=np.uint64),
            high=np.array([f.high for f in found], dtype=np.uint64),
            shift=np.array([max((f.high - f.low).bit_length() - bits, 0) for f in found], dtype=np.uint64),
        )  # fmt: skip

    def look(self, table: pa.Table) -> tuple[_Part, np.ndarray, np.ndarray]:
        """A part's rows, which of them are inside (indices, (m,)) and the word that is searched, of those (m,)."""
        part = _Part.of(table, self.order, self.cost, self.strata, len(self.depth))
        depth = self.depth[part.stratum]
        inside = depth >= 0
        for w in range(WORDS):
            word = part.words[w]
            inside &= (depth <= w) | (word == self.fixed[part.stratum, w])
            inside &= (depth != w) | ((word >= self.low[part.stratum]) & (word <= self.high[part.stratum]))
        at = np.flatnonzero(inside)
        return part, at, part.words[depth[at], at]


def _histogram(table: pa.Table, search: _Search) -> pa.Table:
    """Rows, costs, least and greatest word of each bucket that occurs; reasons to be left out have negative numbers."""
    part, at, word = search.look(table)
    stratum = part.stratum[at]
    bucket = ((word - search.low[stratum]) >> search.shift[stratum]).astype(np.int64) + (stratum << search.bits)
    order = np.argsort(bucket, kind="stable")
    bucket, word, cost = bucket[order], word[order], part.cost[at][order]
    starts = np.flatnonzero(np.r_[True, bucket[1:] != bucket[:-1]][: len(bucket)])
    reasons = list(part.left_out)
    nothing = np.zeros(len(reasons), dtype=np.int64)

    def reduced(ufunc: np.ufunc, values: np.ndarray) -> np.ndarray:
        return ufunc.reduceat(values, starts) if len(starts) else values[:0]

    return pa.table({
        "bucket": np.r_[np.array(reasons), bucket[starts]].astype(np.int32),
        "rows": np.r_[np.array(list(part.left_out.values())), np.diff(np.r_[starts, len(bucket)])].astype(np.int64),
        "cost": np.r_[nothing, reduced(np.add, cost)].astype(np.int64),
        "low": np.r_[nothing.astype(np.uint64), reduced(np.minimum, word)],
        "high": np.r_[nothing.astype(np.uint64), reduced(np.maximum, word)],
    })  # fmt: skip


def _added(table: pa.Table, search: _Search) -> pa.Table:
    """The histograms of several parts, one after the other, as one."""
    columns = {name: table[name].to_numpy() for name in table.column_names}
    order = np.argsort(columns["bucket"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    starts = np.flatnonzero(np.diff(columns["bucket"], prepend=OUTSIDE - 1))
    ways = {"bucket": np.minimum, "rows": np.add, "cost": np.add, "low": np.minimum, "high": np.maximum}
    return pa.table({name: way.reduceat(columns[name], starts) for name, way in ways.items()})


def _as_they_are(table: pa.Table, search: _Search) -> pa.Table:
    return table


def _fetch(table: pa.Table, search: _Search) -> pa.Table:
    """The rows of a part that are still inside."""
    part, at, _ = search.look(table)
    columns = {f"word{w}": part.words[w, at] for w in range(WORDS)}
    return pa.table({"stratum": part.stratum[at], **columns, "cost": part.cost[at]})


@dataclass(frozen=True)
class _Sums:
    rows: np.ndarray
    cost: np.ndarray
    low: np.ndarray
    high: np.ndarray
    left_out: dict[int, int]


def _merge(parts: list[pa.Table], buckets: int) -> _Sums:
    """The sums of all parts, by bucket."""
    rows, cost = np.zeros(buckets, dtype=np.int64), np.zeros(buckets, dtype=np.int64)
    low, high = np.full(buckets, TOP, dtype=np.uint64), np.zeros(buckets, dtype=np.uint64)
    left_out = {NO_SCORE: 0, NO_COST: 0, OUTSIDE: 0}
    for table in parts:
        columns = {name: table[name].to_numpy() for name in table.column_names}
        bucket = columns["bucket"]
        for b, n in zip(bucket[bucket < 0].tolist(), columns["rows"][bucket < 0].tolist(), strict=True):
            left_out[b] += n
        at = bucket[bucket >= 0]                  # a bucket occurs once in a part, so indexing adds each row
        rows[at] += columns["rows"][bucket >= 0]
        cost[at] += columns["cost"][bucket >= 0]
        low[at] = np.minimum(low[at], columns["low"][bucket >= 0])
        high[at] = np.maximum(high[at], columns["high"][bucket >= 0])
    return _Sums(rows, cost, low, high, left_out)


class _Found:
    """How far the search is in one stratum: what is surely taken, and the range of places where the cut lies."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.rows = self.cost = self.all_rows = self.all_cost = self.inside = 0
        self.last: tuple[int, ...] | None = None
        self.fixed: tuple[int, ...] = ()
        self.low, self.high = 0, TOP
        self.open = True
        self.next: tuple[int, ...] | None = None  # the row at which the stratum stopped, and its cost
        self.next_cost = 0

    def narrow(self, sums: _Sums, mine: slice) -> None:
        """Take the buckets that fit whole, and go into the first that does not."""
        rows, cost = sums.rows[mine], sums.cost[mine]
        crossing = int(np.searchsorted(np.cumsum(cost), self.budget - self.cost, side="right"))
        self.rows += int(rows[:crossing].sum())
        self.cost += int(cost[:crossing].sum())
        whole = np.flatnonzero(rows[:crossing])
        if len(whole):
            self.last = self._through(int(sums.high[mine][whole[-1]]))
        if crossing == len(rows):
            self.open = False
            return
        self.inside = int(rows[crossing])
        self.low, self.high = int(sums.low[mine][crossing]), int(sums.high[mine][crossing])
        if self.inside == 1:                      # it crosses the budget, so it stays out
            self.next, self.next_cost = self._through(self.high), int(cost[crossing])
        if self.low == self.high:
            self.fixed, self.low, self.high = (*self.fixed, self.low), 0, TOP
        self.open = self.inside > 1 and len(self.fixed) < WORDS

    def finish(self, words: np.ndarray, cost: np.ndarray) -> None:
        """End the search with the rows that are inside: places (n, 5) in order, costs (n,)."""
        total = np.cumsum(cost)
        n = int(np.searchsorted(total, self.budget - self.cost, side="right"))
        if n:
            self.rows += n
            self.cost += int(total[n - 1])
            self.last = tuple(int(w) for w in words[n - 1])
        if n < len(cost):
            self.next, self.next_cost = tuple(int(w) for w in words[n]), int(cost[n])
        self.open = False

    def _through(self, word: int) -> tuple[int, ...]:
        """The place of the last row with this word, where no row lies between it and the next bucket."""
        return (*self.fixed, word, *(TOP,) * (WORDS - len(self.fixed) - 1))

    def taken(self) -> Taken:
        return Taken(
            budget=self.budget, rows=self.rows, cost=self.cost,
            all_rows=self.all_rows, all_cost=self.all_cost, last=self.last,
        )  # fmt: skip


def _finish(found: list[_Found], parts: list[pa.Table]) -> None:
    """Sort the rows fetched by stratum and place, and end the search in each stratum."""
    table = pa.concat_tables(parts)
    stratum, cost = table["stratum"].to_numpy(), table["cost"].to_numpy()
    words = np.stack([table[f"word{w}"].to_numpy() for w in range(WORDS)], axis=1)
    order = np.lexsort((*words.T[::-1], stratum))
    stratum, cost, words = stratum[order], cost[order], words[order]
    for s in np.unique(stratum).tolist():
        a, b = np.searchsorted(stratum, [s, s + 1])
        found[s].finish(words[a:b], cost[a:b])


def _fill(found: list[_Found]) -> None:
    """Take the rows at which the strata stopped, largest gap first, where they fit the sum of all budgets."""
    left = sum(f.budget - f.cost for f in found)
    for f in sorted(found, key=lambda f: f.cost - f.budget):
        if f.next is not None and f.next_cost <= left:
            left -= f.next_cost
            f.rows, f.cost, f.last = f.rows + 1, f.cost + f.next_cost, f.next
