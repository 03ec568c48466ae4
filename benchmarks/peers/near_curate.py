"""Near-duplicates by this project, every pair verified; a pipeline for ``curate run``."""

from dataclasses import dataclass

import polars as pl

from curate import minhash, select, sources
from curate.plan import Plan, plan, read, write


@dataclass(frozen=True, kw_only=True)
class Near:
    """Settings: where the documents are."""

    source: str = "data"


def pipeline(config: Near) -> Plan:
    """Documents without near copies, written."""
    docs = read(sources.parquet(config.source)).then(minhash.near_duplicates)
    docs = docs.keep(pl.col("near_copy_of").is_null(), because="near_duplicate")
    return plan(write({"kept": docs.select(select.uniform(label="all"), bytes=1 << 60)}, shard_bytes=32 << 20))
