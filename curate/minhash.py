r"""Near copies by MinHash and banding (Broder 1997; Leskovec, Rajaraman and Ullman 2014, chapter 3), pairs verified.

A word is a run of letters, digits and underscores of the lower-cased text (Python's ``\w+``); a document's shingles
are its distinct runs of five words, or all its words as one shingle where it has fewer. The similarity of two
documents is the Jaccard index of their shingles. (``like="datatrove"`` takes datatrove's words and shingles.)

1. ``signatures`` (EACH): 112 minima of hashed shingles, folded into 16 band keys of 7 minima each. Documents of
   similarity s share a band with probability ``1 - (1 - s**7)**16``: 0.977 at 0.8, 0.99997 at 0.9
   (``collision_table``).
2. Rows that share a band key meet and become candidate pairs (``near/candidates.py``).
3. Every candidate pair is verified by its true Jaccard index (``near/verification.py``).
4. Clusters are components over verified pairs: two rows of one cluster are joined by a chain of pairs that all reach
   the threshold, though they themselves may lie below it (``near/clusters.py``). The report shows the largest.
5. A policy (``curate.keeper``) chooses the row of each cluster that is kept; the rows of some sources may all be kept.

A new crawl is compared with older ones by an *index* of their signatures, without their texts (``near/index.py``):
``index`` makes one, or a larger one of an older one; ``seen_before`` asks it about every document.

Cost: signatures run at over 300 MB of text a second and core; 28 bytes a row and band are exchanged; the shingles of
candidate rows are exchanged once, 8 bytes each. The pairs are gathered in the process that runs the pipeline, at about
90 bytes a pair *and band* that they share, where the frame has up to ``AT_ONCE`` rows; those of a larger frame stay in
files and are joined on the engine (``near/at_scale.py``), with the same result.

Elsewhere: exact copies (``exact``).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.artifact import fitter
from curate.columns import ADDRESS, INT32, INT64, TEXT, UINT64
from curate.near.at_scale import near_clusters
from curate.near.candidates import band_records, meet
from curate.near.clusters import components, weakest_links
from curate.near.curve import collision, collision_table, half_point, quoted_point
from curate.near.index import Index, Opened, Seen, ask, build, entries, open_index, seen_columns, seen_reads
from curate.near.keeping import answers, as_it_is, as_rows, keep, keeper_reads, large_ones, largest_of, told
from curate.near.settings import MinHash, Signature
from curate.near.signing import band_keys, minima_of
from curate.near.verification import itinerary, pack, verify
from curate.stage import Grain, Rows, ToParts, stage

__all__ = [
    "Index",
    "MinHash",
    "Seen",
    "Signature",
    "collision",
    "collision_table",
    "half_point",
    "index",
    "minima_of",
    "near_duplicates",
    "near_pairs",
    "open_index",
    "quoted_point",
    "seen_before",
    "signatures",
]


AT_ONCE = 2 * 10**7  # rows of a frame whose pairs are gathered; those of more stay in files


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
    return {"id": TEXT, "text": TEXT, "minhash": pa.list_(UINT64), "shingles": INT32, **keeper_reads(config)}


@stage(
    reads=_near_duplicates_reads,
    writes={"near_copy_of": UINT64, "near_cluster": UINT64, "near_cluster_size": INT64},
    grain=Grain.GROUP,
    rounds=True,
    each=signatures,
    version="2",
)
def near_duplicates(rows: Rows, config: MinHash) -> pa.Table | ToParts:
    """Which row each row is a near copy of, and its cluster.

    ``near_copy_of`` is the address of the row that is kept, null for that row itself. ``near_cluster`` names the
    cluster by its smallest address and ``near_cluster_size`` counts its rows. All three are null for a row without a
    near copy.

    The report counts candidate pairs (distinct), pairs verified, pairs that buckets over the cap left out (summed over
    bands: a pair may be left out in one and compared in another), components and clusters, and shows the largest
    clusters: their size, the similarity that the weakest pair of the strongest chains has, and a few ids.
    """
    if rows.count > AT_ONCE:
        return _at_scale(rows, config)
    pairs, numbers = near_pairs(rows, config)
    members, at_a, at_b, root = components(pairs["a"].to_numpy(), pairs["b"].to_numpy())
    answer = rows.exchange(
        as_rows,
        keep,
        reads=tuple(keeper_reads(config)),
        by="near_cluster",
        label="kept",
        given=config,
        alongside=pa.table({ADDRESS: members, "near_cluster": members[root]}),
    )
    largest = largest_of(answer)
    wanted = np.searchsorted(members, largest["cluster"].unique().to_numpy())
    links = weakest_links(at_a, at_b, pairs["jaccard"].to_numpy(), root, wanted) if config.verify else None
    sizes = np.bincount(root)
    numbers |= {
        "clusters": int((sizes > 0).sum()),
        "clustered_rows": len(members),
        "largest_cluster": int(sizes.max(initial=0)),
    }
    rows.report({**numbers, **told(rows, largest, links)})
    return answers(answer, config)


def _at_scale(rows: Rows, config: MinHash) -> ToParts:
    """The same, with everything left in files (``near/at_scale.py``)."""
    found = near_clusters(rows, config)
    kept = rows.exchange_in_files(
        as_rows,
        keep,
        reads=tuple(keeper_reads(config)),
        by="near_cluster",
        label="kept",
        given=config,
        alongside=found.clusters,
        count=("head",),
    )
    largest = largest_of(rows.exchange(large_ones, as_it_is, by="near_cluster", label="large clusters", of=kept))
    numbers = found.numbers | {
        "clusters": kept.sums.get("head", 0),
        "clustered_rows": kept.rows,
        "largest_cluster": int(largest["size"].to_numpy().max(initial=0)),
    }
    rows.report({**numbers, **told(rows, largest, None)})
    return rows.exchange_to_parts(answers, as_it_is, by=ADDRESS, label="answers", of=kept)


# ---- copies of what an earlier run had ----------------------------------------------------------------------------


@fitter(reads={"id": TEXT, "text": TEXT}, part=entries, version="1")
def index(found: pa.Table, config: Index, out: Path, old: Path | None = None) -> dict[str, float]:
    """An index of the signatures of all documents of a frame, for ``seen_before``; see ``curate.near.index``.

    ``old`` is an index of other documents that is to be part of the new one; documents that it has are not added again.
    """
    return build(found, config, out, old)


@stage(
    reads=seen_reads,
    writes=seen_columns,
    grain=Grain.EACH,
    each=signatures,
    load=open_index,
    version="1",
)
def seen_before(docs: pa.Table, config: Seen, index: Opened) -> pa.Table:
    """Which document of an index each document is a near copy of.

    ``seen_copy_of`` is the id of the nearest one that reaches the threshold (of equals the one with the smallest key),
    null where there is none. Beside it stands ``seen_jaccard`` (their true Jaccard index, over 64-bit hashes of
    shingles), ``seen_jaccard_estimate`` (the share of equal minima) or ``seen_bands`` (shared bands, nothing verified):
    as ``config.by`` says.
    """
    return ask(docs, config, index)
