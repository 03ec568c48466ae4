"""Which row of a group of copies is kept.

Rows are put in order by the columns of a policy, then by the keyed hash of (seed, label, key), then by key, then by
address; the first row of each group is kept. The hash comes before the key and the address so that a tie is broken by
chance and not by where a document came from; rows with equal keys are interchangeable, so that the address decides
nothing that can be seen.

A policy is a tuple of column names, most important first:

    keep_by = ("-text_bytes",)              the longest text
    keep_by = ("-edu:float32", "id")        the highest score, then the smallest id
    keep_by = ("-date:text",)               the newest, where dates are written as 2024-06-07 (or ``:timestamp``)
    keep_by = ("source in wiki, books",)    from the first of these sources, then from others

A minus sign puts the largest value first. Standard columns (``curate.columns.STANDARD``) have the type they always
have; the type of any other column follows a colon and is ``float64`` where none is given. Null and NaN come last
whichever the direction: a row without a score is never preferred for it. ``name in a, b, c`` prefers the values of a
text column in this order; all others come after them, alike.

``keep_whole`` names sources, and ``keep_where`` a boolean column, whose rows are never copies: where a group has such
rows, they are all kept, and every other row of it is a copy of the best of them. So what A has is removed from B, and A
stays whole.

Cost: one sort of the rows that have a copy, about 40 bytes a row. Used by ``exact`` and ``minhash``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.columns import ADDRESS, BOOL, FLOAT32, FLOAT64, INT32, INT64, KEY, STANDARD, TEXT, UINT64
from curate.errors import UnknownSetting
from curate.hashing import halves, keyed

TYPES: dict[str, pa.DataType] = {
    "bool": BOOL,
    "int32": INT32,
    "int64": INT64,
    "uint64": UINT64,
    "float32": FLOAT32,
    "float64": FLOAT64,
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "text": TEXT,
}


@dataclass(frozen=True)
class Entry:
    """One entry of a policy: the column, its type, which end comes first, or which values do, in order."""

    name: str
    type: pa.DataType
    largest_first: bool = False
    values: tuple[str, ...] = ()


def policy(keep_by: Sequence[str]) -> list[Entry]:
    """The entries of a policy. Raises UnknownSetting for one that makes no sense."""
    return [_entry(entry, f"keep_by={tuple(keep_by)!r}") for entry in keep_by]


def _entry(entry: str, where: str) -> Entry:
    name, among, values = entry.partition(" in ")
    if among:
        listed = tuple(v.strip() for v in values.split(","))
        if not name.strip() or name.startswith("-") or not all(listed) or len(set(listed)) < len(listed):
            raise UnknownSetting(
                f"{entry!r} is not an order of values",
                where=where,
                fix="write 'name in first, second, third', each value once",
            )
        kind = STANDARD.get(name.strip(), TEXT)
        if kind != TEXT:
            raise UnknownSetting(
                f"{name.strip()!r} is a column of type {kind}, and only texts have an order of values",
                where=where,
                fix="write 'name' or '-name'",
            )
        return Entry(name.strip(), TEXT, values=listed)
    name, colon, kind_name = entry.removeprefix("-").partition(":")
    if not name or (colon and kind_name not in TYPES):
        raise UnknownSetting(
            f"{entry!r} is not an entry of a keeper policy",
            where=where,
            fix=f"write 'name', '-name' (largest first), '-name:type' with one of the types {', '.join(TYPES)}, or "
            "'name in first, second'",
        )
    if colon and name in STANDARD and TYPES[kind_name] != STANDARD[name]:
        raise UnknownSetting(
            f"{name!r} is a standard column of type {STANDARD[name]}, not {kind_name}",
            where=where,
            fix=f"leave the type out: {entry.partition(':')[0]!r}",
        )
    return Entry(name, STANDARD.get(name) or TYPES[kind_name or "float64"], entry.startswith("-"))


def policy_reads(
    keep_by: Sequence[str], *, keep_whole: Sequence[str] = (), keep_where: str = ""
) -> dict[str, pa.DataType]:
    """Columns that ``keepers`` needs beside the address: those of the policy and of what is kept whole, and ``key``."""
    return {
        "key": KEY,
        **{entry.name: entry.type for entry in policy(keep_by)},
        **({"source": STANDARD["source"]} if keep_whole else {}),
        **({keep_where: BOOL} if keep_where else {}),
    }


def keepers(
    rows: pa.Table,
    group: NDArray[np.uint64],
    keep_by: Sequence[str],
    *,
    label: str,
    seed: int,
    keep_whole: Sequence[str] = (),
    keep_where: str = "",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row, the row of its group that is kept in its place, and how many rows the group has.

    Args:
        rows: n rows with ``address`` and the columns of ``policy_reads(...)``.
        group: integers (n,); rows that share one are copies of each other.
        keep_by: the policy (see the module's story).
        label: what ties are broken for.
        seed: the pipeline's seed.
        keep_whole: sources whose rows are all kept.
        keep_where: a boolean column; rows where it is true are all kept. Null is false.

    Returns:
        Two int64 arrays (n,): the position in ``rows`` of the kept row (a row's own where it is kept), and the group's
        size.
    """
    _, number, size = np.unique(group, return_inverse=True, return_counts=True)
    kept = np.arange(len(group), dtype=np.int64)
    rest = np.flatnonzero(size[number] > 1)     # a row alone is its own keeper, and most rows are alone
    if len(rest):
        rows, mine = rows.take(pa.array(rest)), number[rest]
        safe = _kept_whole(rows, keep_whole, keep_where)
        order = [mine, *_order(rows, safe, keep_by, label, seed)]
        ranked = np.lexsort(order[::-1])        # lexsort's last key is its most important one
        starts = np.flatnonzero(np.diff(mine[ranked], prepend=-1))
        first = np.empty(len(size), dtype=np.int64)
        first[mine[ranked[starts]]] = rest[ranked[starts]]
        kept[rest] = np.where(safe, rest, first[mine])
    return kept, size[number].astype(np.int64)


def ranks(
    rows: pa.Table,
    keep_by: Sequence[str],
    *,
    label: str,
    seed: int,
    keep_whole: Sequence[str] = (),
    keep_where: str = "",
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For methods where a row meets several groups: each row's place in the policy's order, and what is kept whole.

    Arguments are those of ``keepers``. Of any group, the row with the smallest rank is the one that ``keepers`` keeps.

    Returns:
        The rank, int64 (n,), from 0; and bool (n,): the row is kept whatever the policy says.
    """
    safe = _kept_whole(rows, keep_whole, keep_where)
    rank = np.empty(len(rows), dtype=np.int64)
    rank[np.lexsort(_order(rows, safe, keep_by, label, seed)[::-1])] = np.arange(len(rows))
    return rank, safe


def _order(
    rows: pa.Table, safe: NDArray[np.bool_], keep_by: Sequence[str], label: str, seed: int
) -> list[NDArray[np.generic]]:
    """What rows are sorted by, the most important first."""
    keys = halves(rows["key"])
    order: list[NDArray[np.generic]] = [~safe]
    for entry in policy(keep_by):
        column = rows[entry.name]
        order += _preferred(column, entry.values) if entry.values else _ascending(column, entry.largest_first)
    return [*order, keyed(keys, label=label, seed=seed), keys[:, 0], keys[:, 1], rows[ADDRESS].to_numpy()]


def _kept_whole(rows: pa.Table, keep_whole: Sequence[str], keep_where: str) -> NDArray[np.bool_]:
    """Which rows are kept whatever the policy says."""
    safe = np.zeros(len(rows), dtype=bool)
    if keep_whole:
        safe |= np.asarray(pc.is_in(rows["source"], value_set=pa.array(list(keep_whole), TEXT)))
    if keep_where:
        safe |= np.asarray(rows[keep_where].fill_null(False))
    return safe


def _preferred(column: pa.ChunkedArray, values: Sequence[str]) -> list[NDArray[np.generic]]:
    """Two arrays (n,) that sort a text column by a list of values: null or not, and the place in the list."""
    place = pc.fill_null(pc.index_in(column, value_set=pa.array(list(values), TEXT)), len(values))
    return [~np.asarray(column.combine_chunks().is_valid()), place.to_numpy()]


def _ascending(column: pa.ChunkedArray, largest_first: bool) -> list[NDArray[np.generic]]:
    """Two arrays (n,) that sort a column with what is missing last: missing or not, and the value."""
    column = column.combine_chunks()
    if pa.types.is_floating(column.type):
        value = column.fill_null(np.nan).to_numpy(zero_copy_only=False)
        missing = np.isnan(value)
        return [missing, np.where(missing, 0, -value if largest_first else value)]
    missing = ~np.asarray(column.is_valid())
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        kind = pa.int8() if pa.types.is_boolean(column.type) else column.type
        value = column.cast(kind).fill_null(0).to_numpy(zero_copy_only=False)
    else:
        value = pc.rank(column, tiebreaker="dense").to_numpy().astype(np.int64)
    # ~x reverses the order of integers, as -x does, without overflow at the smallest one
    return [missing, np.where(missing, 0, ~value if largest_first else value)]
