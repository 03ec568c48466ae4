"""Near-duplicates whose pairs no process could hold: everything stays in files, and the engine joins it.

1. Candidate pairs stay where their buckets were (``candidates.meet``).
2. *Components* by alternating stars (Kiveris, Lattanzi, Mirrokni, Rastogi and Vassilvitskii 2014, "Connected components
   in MapReduce and beyond"): a large star joins each row's larger neighbours to its smallest one, a small star its
   smaller ones; when neither changes anything, every row is joined to the smallest of its component. Each star is one
   exchange of 16 bytes an edge; a dozen rounds are usual, O(log(rows) ** 2) are proven enough.
3. Each pair is verified where its component lies: in one block, or, in a component of more than ``BLOCK`` shingles, in
   the one that a hash of the pair's first row chooses. Every row's shingles travel once to each of its blocks.
4. Clusters are components over verified pairs, by the same stars.

Names of clusters, what is kept and what is counted are those of ``minhash.near_duplicates``; the report does not tell
the sizes of candidate components and the weakest pairs of the largest clusters.

Limits: the neighbours of one row, and the rows of one cluster, are one group of an exchange, 4 GiB: 2.5e8 neighbours,
4e7 rows. The process that runs the pipeline holds receipts, and 16 bytes for each component of more than ``BLOCK``
shingles.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate.columns import ADDRESS
from curate.hashing import mix64
from curate.near import verification
from curate.near.candidates import band_records, meet
from curate.near.settings import MinHash
from curate.near.verification import pack, verify
from curate.stage import InFiles, Rows, ToParts

MOST_ROUNDS = 200  # of stars; more would be a mistake of ours


class Found(NamedTuple):
    """The rows of clusters: ``address``, and ``near_cluster``, the smallest address of each; numbers for the report."""

    clusters: ToParts
    numbers: dict[str, int]


def near_clusters(rows: Rows, config: MinHash) -> Found:
    """Clusters over verified pairs, found in files."""
    pairs = rows.exchange_in_files(
        band_records,
        _meet,
        reads=("minhash", "shingles"),
        by="band",
        label="bands",
        given=config,
        count=("over", "left_out"),
    )
    homes = rows.exchange_to_parts(_by_first, _once, by=ADDRESS, label="pairs by row", of=pairs)
    numbers = {
        "buckets_over_cap": pairs.sums.get("over", 0),
        "pairs_not_compared": pairs.sums.get("left_out", 0),
        "candidate_pairs": homes.rows,
    }
    if config.verify:
        joined = components(rows, pairs, "candidates")
        numbers["candidate_rows"] = joined.rows
        large = rows.exchange(
            _weights, _large, by="component", label="large components", alongside=joined, beside=homes
        )
        trips = rows.exchange_to_parts(
            _trips, _itineraries, by="to_row", label="trips", given=large, alongside=joined, beside=homes
        )
        pairs = rows.exchange_in_files(
            pack, verify, reads=("text",), by="block", label="pairs", given=config, alongside=trips
        )
        numbers["verified_pairs"] = pairs.rows
    return Found(components(rows, pairs, "clusters", "near_cluster"), numbers)


def _meet(records: pa.Table, config: MinHash) -> pa.Table:
    found = meet(records, config)
    over = found["a"].to_numpy() == found["b"].to_numpy()
    found = found.append_column("over", pa.array(over.astype(np.int64)))
    return found.append_column("left_out", pa.array(np.where(over, found["n"].to_numpy(), 0)))


# ---- components ---------------------------------------------------------------------------------------------------


def components(rows: Rows, pairs: InFiles, label: str, name: str = "component") -> ToParts:
    """For each row of the pairs (``a``, ``b``) the smallest address of its component, as the column ``name``."""
    edges = pairs
    for k in range(MOST_ROUNDS):
        large = rows.exchange_in_files(
            _both_ways, _large_star, by="u", label=f"{label}, large star {k + 1}", of=edges, count=("changed",)
        )
        edges = rows.exchange_in_files(
            _downwards, _small_star, by="u", label=f"{label}, small star {k + 1}", of=large, count=("changed",)
        )
        if not large.sums.get("changed", 0) + edges.sums.get("changed", 0):
            break
    return rows.exchange_to_parts(_members, _named, by=ADDRESS, label=f"{label}, rows", of=edges, given=name)


def _both_ways(edges: pa.Table, given: None) -> pa.Table:
    a, b = _ends(edges)
    return pa.table({"u": np.concatenate([a, b]), "v": np.concatenate([b, a])})


def _downwards(edges: pa.Table, given: None) -> pa.Table:
    a, b = _ends(edges)
    return pa.table({"u": np.maximum(a, b), "v": np.minimum(a, b)})


def _ends(edges: pa.Table) -> tuple[Any, Any]:
    a, b = edges["a"].to_numpy(), edges["b"].to_numpy()
    real = a != b  # a record of what a bucket left out is no edge
    return a[real], b[real]


def _neighbours(records: pa.Table) -> tuple[Any, Any, Any, Any]:
    """Distinct records by (u, v); where groups start; and each record's smallest neighbour of u, or u itself."""
    u, v = records["u"].to_numpy(), records["v"].to_numpy()
    order = np.lexsort((v, u))
    u, v = u[order], v[order]
    new = np.ones(len(u), dtype=bool)
    new[1:] = (u[1:] != u[:-1]) | (v[1:] != v[:-1])
    u, v = u[new], v[new]
    starts = np.ones(len(u), dtype=bool)
    starts[1:] = u[1:] != u[:-1]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(u)), 0))
    return u, v, starts, np.minimum(v[first], u)


def _edges(a: Any, b: Any, changed: Any) -> pa.Table:
    return pa.table({"a": a, "b": b, "changed": np.asarray(changed).astype(np.int64)})


def _large_star(records: pa.Table, given: None) -> pa.Table:
    u, v, _, least = _neighbours(records)
    larger = v > u
    return _edges(v[larger], least[larger], least[larger] != u[larger])


def _small_star(records: pa.Table, given: None) -> pa.Table:
    u, v, starts, least = _neighbours(records)
    others = v != least
    a = np.concatenate([u[starts], v[others]])
    return _edges(a, np.concatenate([least[starts], least[others]]), np.arange(len(a)) >= starts.sum())


def _members(edges: pa.Table, name: str) -> pa.Table:
    a, b = _ends(edges)
    joined = np.unique(np.stack([np.concatenate([a, b]), np.concatenate([b, b])], axis=1), axis=0)
    return pa.table({ADDRESS: joined[:, 0], "component": joined[:, 1]})


def _named(records: pa.Table, name: str) -> pa.Table:
    new = np.diff(records[ADDRESS].to_numpy().astype(np.int64), prepend=-1) != 0  # repeats say the same
    return records.filter(pa.array(new)).rename_columns([ADDRESS, name])


# ---- who travels where --------------------------------------------------------------------------------------------


def _by_first(pairs: pa.Table, given: None) -> pa.Table:
    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    real = a != b
    return pa.table({ADDRESS: a[real], "partner": b[real], "n": pairs["n"].to_numpy()[real]})


def _once(records: pa.Table, given: None) -> pa.Table:
    a, b = records[ADDRESS].to_numpy(), records["partner"].to_numpy()
    order = np.lexsort((b, a))
    new = np.ones(len(a), dtype=bool)
    new[1:] = (a[order][1:] != a[order][:-1]) | (b[order][1:] != b[order][:-1])
    return records.take(pa.array(order[new]))


def _component_of(docs: pa.Table, pairs: pa.Table) -> Any:
    address = docs[ADDRESS].to_numpy()
    order = np.argsort(address)
    at = order[np.searchsorted(address, pairs[ADDRESS].to_numpy(), sorter=order)]
    return docs["component"].to_numpy()[at]


def _weights(docs: pa.Table, given: None, pairs: pa.Table) -> pa.Table:
    """By component, the shingles of its rows (those that are the first of a pair), and those of all its pairs."""
    if not len(pairs):
        empty = np.empty(0, np.uint64)
        return pa.table({"component": empty, "of_rows": empty.astype(np.int64), "of_pairs": empty.astype(np.int64)})
    component, a, n = _component_of(docs, pairs), pairs[ADDRESS].to_numpy(), pairs["n"].to_numpy()
    found, at = np.unique(component, return_inverse=True)
    of_pairs, of_rows = np.zeros(len(found), np.int64), np.zeros(len(found), np.int64)
    np.add.at(of_pairs, at, n)
    order = np.lexsort((n, a))
    last = np.append(a[order][1:] != a[order][:-1], True)
    np.add.at(of_rows, at[order[last]], n[order[last]])
    return pa.table({"component": found, "of_rows": of_rows, "of_pairs": of_pairs})


def _large(records: pa.Table, given: None) -> pa.Table:
    """The components that are verified in several blocks, and in how many."""
    component = records["component"].to_numpy()
    found, at = np.unique(component, return_inverse=True)
    of_rows, of_pairs = np.zeros(len(found), np.int64), np.zeros(len(found), np.int64)
    np.add.at(of_rows, at, records["of_rows"].to_numpy())
    np.add.at(of_pairs, at, records["of_pairs"].to_numpy())
    large = of_rows > verification.BLOCK
    return pa.table({"component": found[large], "blocks": -(-of_pairs[large] // verification.BLOCK)})


def _trips(docs: pa.Table, large: pa.Table, pairs: pa.Table) -> pa.Table:
    """Two records a pair: its first row is at home in the block and meets the second, which travels there."""
    a, b = pairs[ADDRESS].to_numpy(), pairs["partner"].to_numpy()
    component = _component_of(docs, pairs) if len(pairs) else a
    known = large["component"].to_numpy()
    order = np.argsort(known)
    at = np.searchsorted(known, component, sorter=order)
    at = np.where(at < len(known), at, 0)
    blocks = np.ones(len(a), np.uint64)
    if len(known):
        hit = known[order[at]] == component
        blocks = np.where(hit, large["blocks"].to_numpy()[order[at]].astype(np.uint64), blocks)
    block = mix64(component ^ mix64(mix64(a) % blocks))
    n = len(a)
    return pa.table(
        {
            "to_row": np.concatenate([a, b]),
            "to_block": np.concatenate([block, block]),
            "guest": np.repeat(np.array([0, 1], np.int64), n),
            "meets": np.concatenate([b, b]),
        }
    )


def _itineraries(records: pa.Table, large: pa.Table) -> pa.Table:
    """For each row its blocks, its home first, and whom it meets at home (see ``verification.pack``)."""
    row, block = records["to_row"].to_numpy(), records["to_block"].to_numpy()
    guest, meets = records["guest"].to_numpy(), records["meets"].to_numpy()
    order = np.lexsort((meets, block, guest, row))
    row, block, guest, meets = row[order], block[order], guest[order], meets[order]
    starts = np.ones(len(row), dtype=bool)
    starts[1:] = row[1:] != row[:-1]
    number = np.cumsum(starts) - 1
    # A row's blocks, each once: its home comes first in order, and is not visited again as a guest.
    by_block = np.lexsort((guest, block, row))
    again = np.zeros(len(row), dtype=bool)
    again[1:] = (row[by_block][1:] == row[by_block][:-1]) & (block[by_block][1:] == block[by_block][:-1])
    first = np.ones(len(row), dtype=bool)
    first[by_block] = ~again
    rows = int(starts.sum())
    blocks_at = np.append(0, np.cumsum(np.bincount(number[first], minlength=rows)))
    home = guest == 0
    partners_at = np.append(0, np.cumsum(np.bincount(number[home], minlength=rows)))
    return pa.table(
        {
            ADDRESS: row[starts],
            "blocks": pa.LargeListArray.from_arrays(blocks_at.astype(np.int64), pa.array(block[first])),
            "partners": pa.LargeListArray.from_arrays(partners_at.astype(np.int64), pa.array(meets[home])),
        }
    )
