"""Connected components of rows that are joined by pairs."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.errors import RunError

U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

LIMIT = 10**8  # rows with a partner that one process joins


@njit(cache=True, nogil=True)
def _join(a, b, n):  # type: ignore[no-untyped-def]
    """The smallest row of each row's component, (n,): union-find with path halving (Tarjan and van Leeuwen 1984)."""
    parent = np.arange(n)
    for k in range(len(a)):
        x, y = a[k], b[k]
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        while parent[y] != y:
            parent[y] = parent[parent[y]]
            y = parent[y]
        if x < y:
            parent[y] = x
        elif y < x:
            parent[x] = y
    for x in range(n):  # a parent is never larger than its child, so that it is final before it
        parent[x] = parent[parent[x]]
    return parent


def distinct(values: Any) -> Any:
    """What ``np.unique`` gives, by sorting in place; numpy 2.3 and later hash, ten times slower for millions."""
    values.sort()
    first = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def components(a: U64, b: U64) -> tuple[U64, I64, I64, I64]:
    """Connected components of the rows that occur in pairs.

    Args:
        a: addresses, uint64 (pairs,).
        b: addresses, uint64 (pairs,).

    Returns:
        The distinct addresses in order, (n,); the positions of ``a`` and of ``b`` among them, (pairs,); and for each
        address the position of the smallest one of its component, (n,).

    Raises:
        RunError: more than ``LIMIT`` rows have a partner.
    """
    rows = distinct(np.concatenate([a, b]))
    if len(rows) > LIMIT:
        raise RunError(
            f"{len(rows):,} rows have a candidate partner; one process joins at most {LIMIT:,}",
            where="minhash.near_duplicates",
            fix="drop exact copies first (exact.duplicates), raise `threshold` or `rows`, or curate sources one by one",
        )
    at_a, at_b = np.searchsorted(rows, a), np.searchsorted(rows, b)
    return rows, at_a, at_b, _join(at_a, at_b, len(rows))


def weakest_links(a: I64, b: I64, jaccard: npt.NDArray[np.float64], cluster: I64, wanted: I64) -> list[float]:
    """For each wanted cluster, the weakest pair of its strongest chains.

    Any two rows of the cluster are joined by a chain of pairs that are all at least so similar, and for some two no
    chain does better: the smallest edge of a maximum spanning tree.

    Args:
        a: positions of rows, (pairs,).
        b: positions of rows, (pairs,).
        jaccard: of each pair.
        cluster: of each row, as ``components`` gives it.
        wanted: clusters, in any order.
    """
    chosen = np.flatnonzero(np.isin(cluster[a], wanted))
    chosen = chosen[np.argsort(-jaccard[chosen], kind="stable")]
    weakest = _weakest(a[chosen], b[chosen], jaccard[chosen], cluster)
    return [float(weakest[c]) for c in wanted]


@njit(cache=True, nogil=True)
def _weakest(a, b, jaccard, cluster):  # type: ignore[no-untyped-def]
    """The similarity of the last pair that joined anything, by cluster; pairs come strongest first."""
    parent = np.arange(len(cluster))
    last = np.ones(len(cluster), np.float64)
    for k in range(len(a)):
        x, y = a[k], b[k]
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        while parent[y] != y:
            parent[y] = parent[parent[y]]
            y = parent[y]
        if x != y:
            parent[max(x, y)] = min(x, y)
            last[cluster[a[k]]] = jaccard[k]
    return last
