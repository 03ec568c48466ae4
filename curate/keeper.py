"""Which row of a group of copies is kept.

Rows are put in order by the columns of a policy, then by the keyed hash of (seed, label, key), then by key, then by
address; the first row of each group is kept. The hash comes before the key and the address so that a tie is broken by
chance and not by where a document came from; rows with equal keys are interchangeable, so that the address decides
nothing that can be seen.

A policy is a tuple of column names, most important first:

    keep_by = ("-text_bytes",)              the longest text
    keep_by = ("-edu:float32", "id")        the highest score, then the smallest id

A minus sign puts the largest value first. Standard columns (``curate.columns.STANDARD``) have the type they always
have; the type of any other column follows a colon and is ``float64`` where none is given. Null and NaN come last
whichever the direction: a row without a score is never preferred for it.

Cost: one sort of the rows that have a copy, about 40 bytes a row. Used by ``exact`` and ``minhash``.
"""

from collections.abc import Sequence

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
    "text": TEXT,
}


def policy(keep_by: Sequence[str]) -> list[tuple[str, pa.DataType, bool]]:
    """The entries of a policy as (column, type, largest first). Raises UnknownSetting for one that makes no sense."""
    entries = []
    for entry in keep_by:
        name, colon, kind = entry.removeprefix("-").partition(":")
        if not name or (colon and kind not in TYPES):
            raise UnknownSetting(
                f"{entry!r} is not an entry of a keeper policy",
                where=f"keep_by={tuple(keep_by)!r}",
                fix=f"write 'name', '-name' (largest first) or '-name:type', with one of the types {', '.join(TYPES)}",
            )
        if colon and name in STANDARD and TYPES[kind] != STANDARD[name]:
            raise UnknownSetting(
                f"{name!r} is a standard column of type {STANDARD[name]}, not {kind}",
                where=f"keep_by={tuple(keep_by)!r}",
                fix=f"leave the type out: {entry.partition(':')[0]!r}",
            )
        entries.append((name, STANDARD.get(name) or TYPES[kind or "float64"], entry.startswith("-")))
    return entries


def policy_reads(keep_by: Sequence[str]) -> dict[str, pa.DataType]:
    """Columns that ``keepers`` needs beside the address: the policy's, and ``key``."""
    return {"key": KEY, **{name: kind for name, kind, _ in policy(keep_by)}}


def keepers(
    rows: pa.Table, group: NDArray[np.uint64], keep_by: Sequence[str], *, label: str, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row, the row of its group that is kept, and how many rows the group has.

    Args:
        rows: n rows with ``address`` and the columns of ``policy_reads(keep_by)``.
        group: integers (n,); rows that share one are copies of each other.
        keep_by: the policy (see the module's story).
        label: what ties are broken for.
        seed: the pipeline's seed.

    Returns:
        Two int64 arrays (n,): the position in ``rows`` of the kept row, and the group's size.
    """
    _, number, size = np.unique(group, return_inverse=True, return_counts=True)
    kept = np.arange(len(group), dtype=np.int64)
    rest = np.flatnonzero(size[number] > 1)     # a row alone is its own keeper, and most rows are alone
    if len(rest):
        rows, mine = rows.take(pa.array(rest)), number[rest]
        keys = halves(rows["key"])
        order: list[NDArray[np.generic]] = [mine]
        for name, _, largest_first in policy(keep_by):
            order += _ascending(rows[name], largest_first)
        order += [keyed(keys, label=label, seed=seed), keys[:, 0], keys[:, 1], rows[ADDRESS].to_numpy()]
        ranked = np.lexsort(order[::-1])        # lexsort's last key is its most important one
        starts = np.flatnonzero(np.diff(mine[ranked], prepend=-1))
        first = np.empty(len(size), dtype=np.int64)
        first[mine[ranked[starts]]] = rest[ranked[starts]]
        kept[rest] = first[mine]
    return kept, size[number].astype(np.int64)


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
