"""Exact copies by this project; a pipeline for ``curate run``."""

from dataclasses import dataclass

import polars as pl

from curate import exact, select, sources
from curate.plan import Plan, plan, read, write


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Settings: where the documents are."""

    source: str = "data"


def pipeline(config: Exact) -> Plan:
    """Documents without copies, written."""
    docs = read(sources.parquet(config.source)).then(exact.duplicates)
    docs = docs.keep(pl.col("exact_copy_of").is_null(), because="exact_duplicate")
    return plan(write({"kept": docs.select(select.uniform(label="all"), bytes=1 << 60)}, shard_bytes=32 << 20))
