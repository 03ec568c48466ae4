"""Verification: every candidate pair is compared by the true Jaccard index of its shingles' 64-bit hashes.

Components over candidate pairs say who must meet whom: each row's shingle hashes travel once to its component, where
every pair is compared. A component with more than ``BLOCK`` shingles is verified in blocks, and rows with partners in
several blocks travel to each of them.

Cost: the shingles of candidate rows are exchanged once, 8 bytes each.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.columns import ADDRESS
from curate.errors import RunError
from curate.near.clusters import components, distinct
from curate.near.settings import MinHash
from curate.near.signing import sets_of

I64: TypeAlias = npt.NDArray[np.int64]

BLOCK = 1 << 23  # shingles verified at once: 64 MB


def itinerary(pairs: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Which row travels to which blocks, and with which partners it is compared there.

    Args:
        pairs: as ``candidates.meet`` makes them; a pair may repeat.

    Returns:
        A table with ``address``, ``blocks`` (list) and ``partners`` (list: addresses to be compared with in the first
        of the blocks), and numbers for the report.
    """
    a, b, n = (pairs[name].to_numpy() for name in ("a", "b", "n"))
    left_out = a == b
    numbers = {"buckets_over_cap": int(left_out.sum()), "pairs_not_compared": int(n[left_out].sum())}
    a, b, n = a[~left_out], b[~left_out], n[~left_out]
    rows, at_a, at_b, root = components(a, b)
    weight = np.zeros(len(rows), dtype=np.int64)  # shingles of each row, or somewhat more
    np.maximum.at(weight, at_a, n)
    np.maximum.at(weight, at_b, n)
    both = distinct(at_a << 32 | at_b)
    at_a, at_b = both >> 32, both & 0xFFFFFFFF
    by_component = np.argsort(root[at_a], kind="stable")
    at_a, at_b = at_a[by_component], at_b[by_component]

    # All pairs of one `a` lie together and share a block. A component within the limit is one block; a larger one is
    # cut where the shingles of its rows, counted again for every pair they are in, reach the limit.
    start = np.flatnonzero(np.diff(at_a, prepend=-1))
    home = at_a[start]
    cost = weight[home] + np.add.reduceat(weight[at_b], start) if len(start) else weight[home]
    before = np.cumsum(cost) - cost
    opens = np.diff(root[home], prepend=-1) != 0
    before -= np.maximum.accumulate(np.where(opens, before, 0))
    large = np.bincount(root, weights=weight, minlength=len(rows))[root[home]] > BLOCK
    slab = np.where(large, before // BLOCK, 0)
    block = np.cumsum(opens | (np.diff(slab, prepend=0) != 0)) - 1
    numbers |= {
        "candidate_pairs": len(at_a),
        "candidate_rows": len(rows),
        "components": int(opens.sum()),
        "largest_component": int(np.bincount(root).max(initial=0)),
    }

    # Each row's blocks, its home first where it has one: there it meets its partners.
    pair_block = np.repeat(block, np.diff(start, append=len(at_a)))
    home_block = np.full(len(rows), -1)
    home_block[home] = block
    row, to = np.concatenate([home, at_b]), np.concatenate([block, pair_block])
    trips = distinct(row << 32 | np.where(to == home_block[row], 0, to + 1))  # by row, home first
    row, to = trips >> 32, trips & 0xFFFFFFFF
    to = np.where(to == 0, home_block[row], to - 1)
    each = np.arange(len(rows) + 1)
    blocks = pa.LargeListArray.from_arrays(np.searchsorted(row, each), pa.array(to.astype(np.uint64)))
    by_home = np.argsort(at_a, kind="stable")
    met = pa.array(rows[at_b[by_home]])
    partners = pa.LargeListArray.from_arrays(np.searchsorted(at_a[by_home], each), met)
    return pa.table({ADDRESS: rows, "blocks": blocks, "partners": partners}), numbers


def lists(column: pa.ChunkedArray) -> tuple[I64, npt.NDArray[np.generic]]:
    """A list column without nulls as offsets, int64 (n + 1,) from 0, and values."""
    array = column.combine_chunks()
    if len(array) == 0:
        return np.zeros(1, np.int64), np.empty(0, np.uint64)
    offsets = array.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], array.flatten().to_numpy()


def pack(docs: pa.Table, config: MinHash) -> pa.Table:
    """One record for each row and block: the row's shingle hashes, and in its first block its partners."""
    values, offsets = sets_of(docs["text"], config)
    first, blocks = lists(docs["blocks"])
    row = np.repeat(np.arange(len(docs)), np.diff(first))
    sets = pa.LargeListArray.from_arrays(offsets, pa.array(values))
    if len(row) > len(docs):
        sets = sets.take(pa.array(row))
    partner_at, partners = lists(docs["partners"])
    met = np.zeros(len(row) + 1, dtype=np.int64)  # partners of each record: all of the row's in its first block
    met[first[:-1] + 1] = np.diff(partner_at)
    met = np.cumsum(met)
    return pa.table(
        {
            "block": blocks,
            ADDRESS: docs[ADDRESS].to_numpy()[row],
            "set": sets,
            "partners": pa.LargeListArray.from_arrays(met, pa.array(partners)),
        }
    )


def verify(records: pa.Table, config: MinHash) -> pa.Table:
    """The pairs of whole blocks that reach the threshold: ``a`` < ``b``, and ``jaccard``."""
    a, b, jaccard, lost = _compare(
        records["block"].to_numpy(),
        records[ADDRESS].to_numpy(),
        *lists(records["set"]),
        *lists(records["partners"]),
        config.threshold,
    )
    if lost:
        raise RunError(
            f"{lost} candidate partners did not arrive in the block of their pair",
            where="minhash.near_duplicates",
            fix="report it: an exchange lost records",
        )
    return pa.table({"a": a, "b": b, "jaccard": jaccard})


@njit(cache=True, nogil=True)
def _compare(block, address, set_at, sets, partner_at, partners, threshold):  # type: ignore[no-untyped-def]
    """See ``verify``; records with equal ``block`` lie next to each other."""
    a = np.empty(len(partners), np.uint64)
    b = np.empty(len(partners), np.uint64)
    jaccard = np.empty(len(partners), np.float64)
    count = 0
    lost = 0
    high = 0
    while high < len(block):
        low = high
        while high < len(block) and block[high] == block[low]:
            high += 1
        by_address = low + np.argsort(address[low:high])
        known = address[by_address]
        for i in range(low, high):
            for k in range(partner_at[i], partner_at[i + 1]):
                found = np.searchsorted(known, partners[k])
                if found == len(known) or known[found] != partners[k]:
                    lost += 1
                    continue
                j = by_address[found]
                similarity = jaccard_index(sets[set_at[i] : set_at[i + 1]], sets[set_at[j] : set_at[j + 1]], threshold)
                if similarity >= threshold:
                    a[count], b[count], jaccard[count] = address[i], address[j], similarity
                    count += 1
    return a[:count], b[:count], jaccard[:count], lost


@njit(cache=True, nogil=True)
def jaccard_index(x, y, threshold):  # type: ignore[no-untyped-def]
    """The Jaccard index of two sorted sets, or -1 as soon as it cannot reach the threshold."""
    total = len(x) + len(y)
    need = np.int64(threshold / (1 + threshold) * total)
    while need > 0 and (need - 1) / (total - need + 1) >= threshold:
        need -= 1
    while need / (total - need) < threshold:
        need += 1
    spare_x, spare_y = len(x) - need, len(y) - need  # elements of each that may be missing from the other
    i = j = shared = 0
    while i < len(x) and j < len(y) and spare_x >= 0 and spare_y >= 0:
        if x[i] == y[j]:
            shared += 1
            i += 1
            j += 1
        elif x[i] < y[j]:
            spare_x -= 1
            i += 1
        else:
            spare_y -= 1
            j += 1
    if shared < need:
        return -1.0
    return shared / (total - shared)
