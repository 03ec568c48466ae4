"""Mixes: which rows to train on, under a budget.

    mixes = {"random":  docs.select(select.uniform(label="random"), tokens=N),
             "color":   docs.select(select.top("color"), tokens=N),
             "inverse": docs.select(select.top("color", inverse=True, column="copies_inverse"), tokens=N)}

A selection writes a column of copies, int32: 1 for a row that is in the mix, 0 for one that is not. Several mixes live
on one frame under several column names. Rows are taken in a total order until the next one would pass the budget
(order.py says how, in bounded memory), so a mix falls short of its budget by less than the document that ends it.

``top``      the best rows by a score: what a method proposes. ``inverse=True`` takes the wrong end on purpose, as a
             negative control that must not beat a random draw.
``uniform``  rows by keyed hash alone: the baseline. ``without`` another mix it is a second, disjoint draw; how far the
             two differ after training is the noise of a comparison.
``matched``  a random draw with the same share of every source, or of every decile of length, as another mix. A score
             that does no better than this has chosen sources or lengths, not documents.
``take_like``  the same after documents that are not on this frame, in bytes of text:
             ``docs.then(select.take_like, select.Like(label=..., amount=BYTES), like=fit(select.shape, ...))``.

Ties break by a keyed hash of (seed, label, key): by nothing that could be a preference.

Cost: two to four passes over the narrow columns; ``matched`` and shares of the tokens need one more before.
Elsewhere: scores (scorers/), tokens (tokens.py), the comparison of mixes (trial.py).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.artifact import fitter
from curate.columns import FLOAT32, FLOAT64, INT32, INT64, KEY, TEXT
from curate.errors import BadData, BadPlan, WrongDirection
from curate.order import Cut, Order, Strata, cut, selected
from curate.stage import ColumnType, Direction, Grain, PerPart, Rows, Score, Stage, stage

FLOATS = {"float32": FLOAT32, "float64": FLOAT64}
UNITS: dict[str, str | None] = {"tokens": "tokens", "bytes": "text_bytes", "rows": None, "share": "tokens"}
DECILES = 10
SHAPE = "shape.parquet"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The settings that all selections share; the budget is filled in by ``Selection.with_budget``.

    Args:
        label: what the randomness is for; unique in a plan.
        seed: the pipeline's seed.
        column: the column of copies to write.
        cost: the integer column that counts against the budget, or None to count rows.
        amount: the most that the mix may cost.
        share: in place of ``amount``, the share of what all rows cost.
    """

    label: str
    seed: int = 0
    column: str = "copies"
    cost: str | None = "tokens"
    amount: int | None = None
    share: float | None = None

    def directions(self) -> dict[str, Direction]:
        """Scores it uses, and the end of each that it takes."""
        return {}

    def reads(self) -> dict[str, pa.DataType]:
        """Columns it reads."""
        return {"key": KEY} | ({self.cost: INT64} if self.cost else {})

    def writes(self) -> dict[str, ColumnType]:
        """Columns it writes."""
        return {self.column: INT32}


@dataclass(frozen=True, kw_only=True)
class Top(Budget):
    """The best rows by a score.

    Args:
        score: the score column.
        score_type: ``"float32"`` or ``"float64"``.
        keep: the end that is taken; None until the score's own direction is filled in (``Selection.with_columns``).
        inverse: whether the wrong end is meant.
    """

    score: str
    score_type: Literal["float32", "float64"] = "float32"
    keep: Direction | None = None
    inverse: bool = False

    def directions(self) -> dict[str, Direction]:
        """The end that is taken."""
        return {self.score: self.keep} if self.keep else {}

    def reads(self) -> dict[str, pa.DataType]:
        """The key, the cost and the score."""
        return super().reads() | {self.score: FLOATS[self.score_type]}


@dataclass(frozen=True, kw_only=True)
class Uniform(Budget):
    """Rows whatever their content.

    Args:
        without: a column of copies; rows that are in that mix are left out.
    """

    without: str | None = None

    def reads(self) -> dict[str, pa.DataType]:
        """The key, the cost and the other mix."""
        return super().reads() | ({self.without: INT32} if self.without else {})


@dataclass(frozen=True, kw_only=True)
class Matched(Budget):
    """A random draw shaped like another mix; without a budget of its own it has that mix's cost, stratum by stratum.

    Args:
        to: the other mix's column of copies.
        by: what has the same shares: ``"source"``, or ``"length"`` for deciles of the bytes of its texts.
    """

    to: str
    by: Literal["source", "length"] = "source"

    def reads(self) -> dict[str, pa.DataType]:
        """The key, the cost, the other mix and what is matched."""
        return super().reads() | {self.to: INT32} | ({"source": TEXT} if self.by == "source" else {"text_bytes": INT64})


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What of a collection is learned, to draw another one after it.

    Args:
        by: ``"source"``, or ``"length"`` for the bytes of its texts.
    """

    by: Literal["source", "length"] = "source"


@dataclass(frozen=True, kw_only=True)
class Like(Budget):
    """A random draw shaped like documents that are not on this frame; its budget is in bytes of text.

    Args:
        cost: bytes of text, what a ``shape`` is made of.
    """

    cost: str | None = "text_bytes"

    def reads(self) -> dict[str, pa.DataType]:
        """The key, bytes of text, and what a shape may be of."""
        return super().reads() | {"source": TEXT, "text_bytes": INT64}


@dataclass(frozen=True)
class Selection:
    """A rule that makes a mix: a stage with its settings."""

    stage: Stage
    config: Top | Uniform | Matched

    def with_budget(self, **budget: float) -> "Selection":
        """The same under a budget.

        Args:
            budget: one of ``tokens=``, ``bytes=``, ``rows=`` (the most that the mix may cost, int) and ``share=`` (of
                the tokens of all rows, 0 to 1).
        """
        where = f"selection {self.config.label!r}"
        if len(budget) != 1 or not set(budget) <= set(UNITS):
            raise BadPlan(f"a budget of {budget!r}", where=where, fix="give one of tokens=, bytes=, rows= or share=")
        ((unit, amount),) = budget.items()
        if unit == "share":
            if not 0 <= amount <= 1:
                raise BadPlan(f"a share of {amount!r}", where=where, fix="give a number from 0 to 1")
            return Selection(self.stage, replace(self.config, cost=UNITS[unit], amount=None, share=float(amount)))
        if amount < 0 or int(amount) != amount:
            raise BadPlan(f"{unit}={amount!r} is not a whole number", where=where, fix="give 0, 1, 2, ...")
        return Selection(self.stage, replace(self.config, cost=UNITS[unit], amount=int(amount), share=None))

    def with_columns(self, columns: Mapping[str, ColumnType]) -> "Selection":
        """The same with what the frame's columns say: the type and the direction of the score.

        Raises:
            WrongDirection: ``inverse=True`` with the score's good end stated.
        """
        config = self.config
        score = columns.get(config.score) if isinstance(config, Top) else None
        if not isinstance(config, Top) or not isinstance(score, Score):
            return self                           # the check of the plan says what is wrong with the column
        keep = config.keep
        if keep is None:
            worse = Direction.LOW if score.keep is Direction.HIGH else Direction.HIGH
            keep = worse if config.inverse else score.keep
        elif config.inverse and keep is score.keep:
            raise WrongDirection(
                f"inverse=True, and yet the good end of {config.score!r} ({keep.value}) is to be taken",
                where=f"selection {config.label!r}", fix="leave out keep=, or inverse=True",
            )  # fmt: skip
        kind: Literal["float32", "float64"] = "float64" if score.type == FLOAT64 else "float32"
        return Selection(self.stage, replace(config, keep=keep, score_type=kind))


def top(
    score: str,
    *,
    keep: Direction | None = None,
    inverse: bool = False,
    label: str | None = None,
    seed: int = 0,
    column: str = "copies",
) -> Selection:
    """The best rows by a score.

    Args:
        score: a score column.
        keep: the end to take; by default the score's own. Stating it guards against a score whose meaning has changed.
        inverse: take the wrong end, as a negative control.
        label: of the keyed hash that breaks ties; default ``"top-"`` and the score.
        seed: the pipeline's seed.
        column: the column of copies to write.
    """
    return Selection(
        take_top,
        Top(score=score, keep=keep, inverse=inverse, label=label or f"top-{score}", seed=seed, column=column),
    )


def uniform(*, label: str, without: str | None = None, seed: int = 0, column: str = "copies") -> Selection:
    """A random draw.

    Args:
        label: what the randomness is for; two draws of one label are the same draw.
        without: a column of copies whose rows are left out, for a second, disjoint draw.
        seed: the pipeline's seed.
        column: the column of copies to write.
    """
    return Selection(take_uniform, Uniform(label=label, without=without, seed=seed, column=column))


def matched(
    *, to: str, by: Literal["source", "length"] = "source", label: str, seed: int = 0, column: str = "copies"
) -> Selection:
    """A random draw with the shares of another mix.

    Args:
        to: that mix's column of copies, on the same frame.
        by: ``"source"``, or ``"length"`` for the deciles of its documents' bytes of text.
        label: what the randomness is for.
        seed: the pipeline's seed.
        column: the column of copies to write.
    """
    return Selection(take_matched, Matched(to=to, by=by, label=label, seed=seed, column=column))


@stage(reads=Top.reads, writes=Top.writes, grain=Grain.WHOLE, rounds=True, version="1")
def take_top(rows: Rows, config: Top) -> PerPart:
    """The best rows by a score until the next would pass the budget; rows without a score are never taken."""
    if config.keep is None:
        raise BadPlan(
            f"which end of {config.score!r} is good is not known", where=f"selection {config.label!r}",
            fix="say keep=Direction.HIGH or Direction.LOW, or rank by a column that is declared as a Score",
        )  # fmt: skip
    order = Order(label=config.label, seed=config.seed, score=config.score, keep=config.keep)
    found = cut(rows, order=order, cost=config.cost, budgets=[_amount(rows, config)])
    return _answer(rows, config, found, {} if found.value is None else {"cut_value": found.value})


@stage(reads=Uniform.reads, writes=Uniform.writes, grain=Grain.WHOLE, rounds=True, version="1")
def take_uniform(rows: Rows, config: Uniform) -> PerPart:
    """Rows by keyed hash until the next would pass the budget."""
    strata = Strata(fn=_not_in, reads=(config.without,), given=config.without) if config.without else None
    order = Order(label=config.label, seed=config.seed)
    return _answer(
        rows, config, cut(rows, order=order, cost=config.cost, budgets=[_amount(rows, config)], strata=strata), {}
    )


@stage(reads=Matched.reads, writes=Matched.writes, grain=Grain.WHOLE, rounds=True, version="1")
def take_matched(rows: Rows, config: Matched) -> PerPart:
    """Random rows with another mix's cost in each of its sources or length deciles, as far as there are rows.

    The deciles are those of the mix's documents, with edges rounded to within 1 % of a length; texts shorter or longer
    than all of the mix are in none. With a budget of its own, the mix's shares of that budget. Each stratum is right to
    within one document, and their sum falls short of the budget by less than one.
    """
    by_what, reads = (_by_source, "source") if config.by == "source" else (_by_length, "text_bytes")
    shares = _sum(rows.map(by_what, reads=_named(config, reads), label=f"{config.by}s", given=config))
    strata, costs = _strata(config.by, shares)
    if not sum(costs):
        raise BadData(
            f"the mix in {config.to!r} is empty", where=f"selection {config.label!r}",
            fix="give that mix a budget that holds at least one document",
        )  # fmt: skip
    budgets = costs if config.amount is None and config.share is None else shared(_amount(rows, config), costs)
    return _shaped(rows, config, strata, budgets)


def _shape_of_part(docs: pa.Table, config: Shape) -> pa.Table:
    sizes = docs["text_bytes"].fill_null(0).to_numpy()
    what = docs["source"].fill_null("") if config.by == "source" else length_bucket(sizes)
    return _grouped(what, np.ones(docs.num_rows, dtype=np.int64), sizes)


@fitter(reads={"source": TEXT, "text_bytes": INT64}, part=_shape_of_part, version="1")
def shape(found: pa.Table, config: Shape, out: Path) -> dict[str, Any]:
    """How a collection's bytes of text lie over its sources, or its lengths: what ``like`` draws after."""
    shares = _sum([found])
    table = pa.table({
        "what": pa.array([str(what) for what in shares], TEXT),
        "copies": pa.array([copies for copies, _ in shares.values()], INT64),
        "cost": pa.array([cost for _, cost in shares.values()], INT64),
    })  # fmt: skip
    pq.write_table(table.replace_schema_metadata({"by": config.by}), out / SHAPE)
    return {"rows": sum(table["copies"].to_pylist()), "bytes": sum(table["cost"].to_pylist()), "strata": len(table)}


@stage(reads=Like.reads, writes=Like.writes, grain=Grain.WHOLE, rounds=True, version="1")
def take_like(rows: Rows, config: Like, like: Path) -> PerPart:
    """Random rows under a budget of bytes, with the shares of the collection whose ``shape`` is given."""
    table = pq.read_table(like / SHAPE)
    by = (table.schema.metadata or {}).get(b"by", b"").decode()
    names = table["what"].to_pylist()
    pairs = zip(table["copies"].to_pylist(), table["cost"].to_pylist(), strict=True)
    what: list[Any] = names if by == "source" else [int(name) for name in names]
    strata, costs = _strata(by, dict(zip(what, pairs, strict=True)))
    if not sum(costs):
        raise BadData(
            "the collection to draw after is empty", where=f"selection {config.label!r}",
            fix="fit select.shape on documents that have text",
        )  # fmt: skip
    return _shaped(rows, config, strata, shared(_amount(rows, config), costs))


def _strata(by: str, shares: Mapping[Any, tuple[int, int]]) -> tuple[Strata, list[int]]:
    """The strata of a mix, sources or deciles of length, and what the mix spends in each."""
    if by == "source":
        names = sorted(name for name, (_, cost) in shares.items() if cost)
        return Strata(fn=_source_of, reads=("source",), given=tuple(names)), [shares[name][1] for name in names]
    edges = _deciles({bucket: copies for bucket, (copies, _) in shares.items() if copies})
    stratum = _stratum_of(np.array(list(shares), dtype=np.int64), edges)
    costs = [0] * (len(edges) - 1)
    for s, (_, cost) in zip(stratum.tolist(), shares.values(), strict=True):
        if s >= 0:
            costs[s] += cost
    return Strata(fn=_length_of, reads=("text_bytes",), given=edges), costs


def _shaped(rows: Rows, config: Budget, strata: Strata, budgets: list[int]) -> PerPart:
    """A random draw with a budget for each stratum."""
    order = Order(label=config.label, seed=config.seed)
    found = cut(rows, order=order, cost=config.cost, budgets=budgets, strata=strata, fill=True)
    short = [t for t in found.taken if t.rows == t.all_rows and t.cost < t.budget]
    return _answer(rows, config, found, {
        "strata": len(budgets),
        "strata_exhausted": len(short),
        "shortfall_exhausted": sum(t.budget - t.cost for t in short),
    })  # fmt: skip


def shared(amount: int, weights: list[int]) -> list[int]:
    """An amount in whole parts proportional to weights, by largest remainder (ties: the first); sums to the amount."""
    total = sum(weights)
    parts = [amount * w // total for w in weights]
    first = sorted(range(len(weights)), key=lambda i: (-(amount * weights[i] % total), i))
    for i in first[: amount - sum(parts)]:
        parts[i] += 1
    return parts


def _amount(rows: Rows, config: Budget) -> int:
    if config.amount is not None:
        return config.amount
    if config.share is None:
        raise BadPlan(
            "a selection without a budget", where=f"selection {config.label!r}",
            fix="give one: docs.select(..., tokens=N)",
        )  # fmt: skip
    if config.cost is None:
        total = rows.count
    else:
        tables = rows.map(_total, reads=[config.cost], label="total", given=config.cost)
        total = sum(table["total"][0].as_py() for table in tables)
    return int(total * Fraction(repr(config.share)))


def _total(table: pa.Table, cost: str) -> pa.Table:
    return pa.table({"total": pa.array([pc.sum(table[cost], min_count=0).as_py()], INT64)})


def _answer(rows: Rows, config: Budget, found: Cut, more: dict[str, float | int | str]) -> PerPart:
    """Report what was taken, and leave the copies to the parts."""
    budget, everything = sum(t.budget for t in found.taken), sum(t.all_cost for t in found.taken)
    rows.report({
        "rows": found.rows,
        "cost": found.total,
        "unit": config.cost or "rows",
        "budget": budget,
        "shortfall": budget - found.total,
        "share": found.total / everything if everything else 0.0,
        "no_score": found.no_score,
        "no_cost": found.no_cost,
        "outside": found.outside,
        **more,
    })  # fmt: skip
    return PerPart(_copies, found.reads, (found, config.column))


def _copies(table: pa.Table, given: tuple[Cut, str]) -> pa.Table:
    found, column = given
    return pa.table({column: pa.array(selected(table, found).astype(np.int32))})


def _not_in(table: pa.Table, column: str) -> np.ndarray:
    return np.where(table[column].fill_null(0).to_numpy() > 0, -1, 0)


def _named(config: Matched, what: str) -> list[str]:
    return list(dict.fromkeys([what, config.to, *([config.cost] if config.cost else [])]))


def _in_mix(table: pa.Table, config: Matched) -> tuple[np.ndarray, np.ndarray]:
    """Copies and cost of each row in the other mix, int64 (n,)."""
    copies = table[config.to].fill_null(0).to_numpy().astype(np.int64)
    cost = table[config.cost].fill_null(0).to_numpy() if config.cost else np.ones(table.num_rows, dtype=np.int64)
    return copies, copies * cost


def _by_source(table: pa.Table, config: Matched) -> pa.Table:
    return _grouped(table["source"].fill_null(""), *_in_mix(table, config))


def _by_length(table: pa.Table, config: Matched) -> pa.Table:
    return _grouped(length_bucket(table["text_bytes"].to_numpy()), *_in_mix(table, config))


def _grouped(what: pa.ChunkedArray | np.ndarray, copies: np.ndarray, cost: np.ndarray) -> pa.Table:
    """What occurs in the mix, with its copies and their cost."""
    table = pa.table({"what": what, "copies": copies, "cost": cost})
    table = table.filter(pc.field("copies") > 0).group_by("what").aggregate([("copies", "sum"), ("cost", "sum")])
    return table.select(["what", "copies_sum", "cost_sum"]).rename_columns(["what", "copies", "cost"])


def _sum(tables: list[pa.Table]) -> dict[Any, tuple[int, int]]:
    copies: Counter[Any] = Counter()
    cost: Counter[Any] = Counter()
    for table in tables:
        for what, n, c in zip(*(table[name].to_pylist() for name in ("what", "copies", "cost")), strict=True):
            copies[what] += n
            cost[what] += c
    return {what: (copies[what], cost[what]) for what in sorted(copies)}


def _source_of(table: pa.Table, names: tuple[str, ...]) -> np.ndarray:
    at = pc.index_in(table["source"].fill_null(""), value_set=pa.array(names, TEXT))
    return np.asarray(at.fill_null(-1))


def _length_of(table: pa.Table, edges: tuple[int, ...]) -> np.ndarray:
    return _stratum_of(length_bucket(table["text_bytes"].to_numpy()), edges)


def length_bucket(sizes: np.ndarray) -> np.ndarray:
    """Sizes >= 0, int64 (n,), as buckets that are exact below 256 and 1/128 of an octave above, int64 (n,).

    The bucket is the exponent followed by the seven bits after the leading one: a floating-point number's own steps.
    """
    exponent = np.maximum(np.frexp(sizes.astype(np.float64))[1].astype(np.int64) - 8, 0)
    return (exponent << 7) + (sizes >> exponent)


def _deciles(copies: Mapping[int, int]) -> tuple[int, ...]:
    """Edges of the deciles of buckets with these numbers of copies: stratum s holds edges[s] < bucket <= edges[s + 1].

    The first edge is one below the least bucket. Deciles that end in the same bucket become one.
    """
    buckets = sorted(copies)
    if not buckets:
        return (0, 0)
    before = np.cumsum([copies[b] for b in buckets])
    ends = [buckets[int(np.searchsorted(before * DECILES, k * int(before[-1])))] for k in range(1, DECILES + 1)]
    return (buckets[0] - 1, *sorted(set(ends)))


def _stratum_of(buckets: np.ndarray, edges: tuple[int, ...]) -> np.ndarray:
    stratum = np.searchsorted(np.array(edges), buckets, side="left") - 1
    return np.where(stratum < len(edges) - 1, stratum, -1)
