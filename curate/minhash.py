r"""Near copies by MinHash and banding (Broder 1997; Leskovec, Rajaraman and Ullman 2014, chapter 3), pairs verified.

A word is a run of letters, digits and underscores of the lower-cased text (Python's ``\w+``); a document's shingles
are its distinct runs of five words, or all its words as one shingle where it has fewer. The similarity of two
documents is the Jaccard index of their shingles. (``like="datatrove"`` takes datatrove's words and shingles.)

1. ``signatures`` (EACH): 112 minima of hashed shingles, folded into 14 band keys of 8 minima each. Documents of
   similarity s share a band with probability ``1 - (1 - s**8)**14``: 0.924 at 0.8, 0.9996 at 0.9 (``collision_table``).
2. Rows that share a band key meet and become candidate pairs (``near/candidates.py``).
3. Every candidate pair is verified by its true Jaccard index (``near/verification.py``).
4. Clusters are components over verified pairs: two rows of one cluster are joined by a chain of pairs that all reach
   the threshold, though they themselves may lie below it (``near/clusters.py``). The report shows the largest.
5. A policy (``curate.keeper``) chooses the row of each cluster that is kept; the rows of some sources may all be kept.

Cost: signatures run at over 150 MB of text a second and core; 28 bytes a row and band are exchanged; the shingles of
candidate rows are exchanged once, 8 bytes each. The pairs are gathered in the process that runs the pipeline, at about
90 bytes a pair *and band* that they share; 1e8 rows with a partner are its stated limit, and it stops with an error
above.

Elsewhere: exact copies (``exact``); copies of what an earlier run had (``seen``).
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from curate.columns import ADDRESS, INT32, INT64, TEXT, UINT64
from curate.keeper import keepers, policy_reads
from curate.near.candidates import band_records, meet
from curate.near.clusters import components
from curate.near.curve import collision, collision_table, half_point, quoted_point
from curate.near.settings import MinHash, Signature
from curate.near.signing import band_keys, minima_of
from curate.near.verification import itinerary, pack, verify
from curate.stage import Grain, Rows, stage

__all__ = [
    "MinHash",
    "Signature",
    "collision",
    "collision_table",
    "half_point",
    "minima_of",
    "near_duplicates",
    "near_pairs",
    "quoted_point",
    "signatures",
]


@stage(reads={"text": TEXT}, writes={"minhash": pa.list_(UINT64), "shingles": INT32}, grain=Grain.EACH, version="1")
def signatures(docs: pa.Table, config: Signature) -> pa.Table:
    """Band keys and the number of distinct shingles.

    A text without a shingle (without a word; like datatrove, with fewer words than a shingle) has null and 0 and is
    never a near copy.
    """
    least, counts = minima_of(docs["text"], config)
    signed = counts > 0
    keys = band_keys(least, config)
    ends = np.concatenate([np.zeros(1, np.int32), np.cumsum(signed * config.bands, dtype=np.int32)])
    minhash = pa.ListArray.from_arrays(ends, pa.array(keys[signed].ravel()), mask=pa.array(~signed))
    return pa.table({"minhash": minhash, "shingles": pa.array(counts, INT32)})


def near_pairs(rows: Rows, config: MinHash) -> tuple[pa.Table, dict[str, int]]:
    """The pairs that count, in order, and numbers for the report.

    Pairs have ``a`` < ``b`` (addresses) and ``jaccard`` (float64): verified, or null where ``config.verify`` is off.
    """
    pairs = rows.exchange(band_records, meet, reads=("minhash", "shingles"), by="band", label="bands", given=config)
    trips, numbers = itinerary(pairs)
    if not config.verify:
        at = np.repeat(trips[ADDRESS].to_numpy(), trips["partners"].combine_chunks().value_lengths().to_numpy())
        met = trips["partners"].combine_chunks().flatten()
        found = pa.table({"a": at, "b": met, "jaccard": pa.nulls(len(at), pa.float64())})
        return found.sort_by([("a", "ascending"), ("b", "ascending")]), numbers
    verified = rows.exchange(pack, verify, reads=("text",), by="block", label="pairs", given=config, alongside=trips)
    return verified.sort_by([("a", "ascending"), ("b", "ascending")]), numbers | {"verified_pairs": len(verified)}


# ---- the row to keep: by cluster ----------------------------------------------------------------------------------


def _near_duplicates_reads(config: MinHash) -> Mapping[str, pa.DataType]:
    return {"text": TEXT, "minhash": pa.list_(UINT64), "shingles": INT32, **_keeper_reads(config)}


def _keeper_reads(config: MinHash) -> dict[str, pa.DataType]:
    return policy_reads(config.keep_by, keep_whole=config.keep_whole, keep_where=config.keep_where)


@stage(
    reads=_near_duplicates_reads,
    writes={"near_copy_of": UINT64, "near_cluster": UINT64, "near_cluster_size": INT64},
    grain=Grain.GROUP,
    rounds=True,
    each=signatures,
    version="1",
)
def near_duplicates(rows: Rows, config: MinHash) -> pa.Table:
    """Which row each row is a near copy of, and its cluster.

    ``near_copy_of`` is the address of the row that is kept, null for that row itself. ``near_cluster`` names the
    cluster by its smallest address and ``near_cluster_size`` counts its rows. All three are null for a row without a
    near copy.

    The report counts candidate pairs (distinct), pairs verified, pairs that buckets over the cap left out (summed over
    bands: a pair may be left out in one and compared in another), components and clusters.

    Raises:
        RunError: more than ``LIMIT`` rows have a candidate partner.
    """
    pairs, numbers = near_pairs(rows, config)
    members, _, _, root = components(pairs["a"].to_numpy(), pairs["b"].to_numpy())
    sizes = np.bincount(root)
    numbers |= {
        "clusters": int((sizes > 0).sum()),
        "clustered_rows": len(members),
        "largest_cluster": int(sizes.max(initial=0)),
    }
    rows.report(numbers)
    clusters = pa.table({ADDRESS: members, "near_cluster": members[root]})
    return rows.exchange(
        _emit,
        _keep,
        reads=tuple(_keeper_reads(config)),
        by="near_cluster",
        label="clusters",
        given=config,
        alongside=clusters,
    )


def _emit(docs: pa.Table, config: MinHash) -> pa.Table:
    return docs


def _keep(records: pa.Table, config: MinHash) -> pa.Table:
    address, cluster = records[ADDRESS].to_numpy(), records["near_cluster"].to_numpy()
    kept, size = keepers(
        records,
        cluster,
        config.keep_by,
        label=config.label,
        seed=config.seed,
        keep_whole=config.keep_whole,
        keep_where=config.keep_where,
    )
    return pa.table(
        {
            ADDRESS: address,
            "near_copy_of": pa.array(address[kept], UINT64, mask=kept == np.arange(len(kept))),
            "near_cluster": cluster,
            "near_cluster_size": pa.array(size, INT64),
        }
    )
