"""The row of each cluster that is kept, by the policy of the settings; and the largest clusters, for the report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import ADDRESS, INT64, UINT64
from curate.hashing import halves, keyed
from curate.keeper import keepers, policy_reads
from curate.near.settings import MinHash
from curate.stage import Rows

SHOWN_CLUSTERS = 5  # in the report
SHOWN_ROWS = 4  # of each


def keeper_reads(config: MinHash) -> dict[str, pa.DataType]:
    """Columns that decide what is kept."""
    return policy_reads(config.keep_by, keep_whole=config.keep_whole, keep_where=config.keep_where)


def as_rows(docs: pa.Table, given: Any) -> pa.Table:
    """Rows as they are."""
    return docs


def keep(records: pa.Table, config: MinHash) -> pa.Table:
    """The answers of whole clusters, and what the report needs to show some of them."""
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
    keys = halves(records["key"])
    chance = keyed(keys, label=config.label, seed=config.seed)
    is_kept = kept == np.arange(len(kept))
    order = np.lexsort((address, keys[:, 1], keys[:, 0], chance, ~is_kept, cluster))
    new = np.diff(cluster[order].astype(np.int64), prepend=-1) != 0
    first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - first
    mark = np.empty(len(order), np.uint64)
    mark[order] = chance[order][first]
    return pa.table(
        {
            ADDRESS: address,
            "near_copy_of": pa.array(address[kept], UINT64, mask=is_kept),
            "near_cluster": cluster,
            "near_cluster_size": pa.array(size, INT64),
            "head": (place == 0).astype(np.int64),  # one a cluster
            "place": place,  # in its cluster, what is kept first
            "mark": mark,  # of the cluster, by chance
        }
    )


def answers(kept: pa.Table, given: Any) -> pa.Table:
    """What ``minhash.near_duplicates`` writes, of what ``keep`` found."""
    return kept.select([ADDRESS, "near_copy_of", "near_cluster", "near_cluster_size"])


# ---- the largest clusters, for the report -------------------------------------------------------------------------


def largest_of(answer: pa.Table) -> pa.Table:
    """Some rows of the largest clusters, cluster by cluster: what is kept first, and a few others."""
    few = answer.filter(pc.less(answer["place"], SHOWN_ROWS))
    heads = few.filter(pc.equal(few["place"], 0))
    order = np.lexsort((heads["mark"].to_numpy(), -heads["near_cluster_size"].to_numpy()))[:SHOWN_CLUSTERS]
    rank = pc.index_in(few["near_cluster"], value_set=heads["near_cluster"].combine_chunks().take(pa.array(order)))
    few = few.append_column("rank", rank).filter(rank.is_valid())
    few = few.sort_by([("rank", "ascending"), ("place", "ascending")])
    return pa.table({
        ADDRESS: few[ADDRESS],
        "cluster": few["near_cluster"],
        "size": few["near_cluster_size"],
        "rank": few["rank"].cast(INT64),
    })  # fmt: skip


def large_ones(answer: pa.Table, given: Any) -> pa.Table:
    """Of some rows those that the report may show: the largest clusters of all are among the largest of any rows."""
    few = answer.filter(pc.less(answer["place"], SHOWN_ROWS))
    order = np.lexsort((few["mark"].to_numpy(), -few["near_cluster_size"].to_numpy()))
    largest = few["near_cluster"].take(pa.array(order)).unique()[:SHOWN_CLUSTERS]
    return few.filter(pc.is_in(few["near_cluster"], value_set=largest))


def told(rows: Rows, largest: pa.Table, links: Sequence[float] | None) -> dict[str, str]:
    """The largest clusters in words; ``links`` are their weakest ones, where they are known."""
    named = rows.exchange(
        as_rows, as_it_is, reads=("id",), by=ADDRESS, label="largest", alongside=largest.select([ADDRESS])
    )
    ids = dict(zip(named[ADDRESS].to_pylist(), named["id"].to_pylist(), strict=True))
    said: dict[str, str] = {}
    for rank in range(len(largest["cluster"].unique())):
        mine = largest.filter(pc.equal(largest["rank"], rank))
        kept, *others = [repr(ids[a]) for a in mine[ADDRESS].to_pylist()]
        size = mine["size"][0].as_py()
        weakest = f", every row joined by pairs of {links[rank]:.3f} or more" if links is not None else ""
        more = ", …" if size > len(mine) else ""
        said[f"cluster {rank + 1}"] = f"{size:,} rows{weakest}; {kept} stays; {', '.join(others)}{more}"
    return said


def as_it_is(records: pa.Table, given: Any) -> pa.Table:
    """Records as they are."""
    return records
