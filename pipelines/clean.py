"""Cleaning alone, without a model: measure, filter, drop exact and near copies, draw a random mix, write.

curate run pipelines/clean.py --set source='s3://bucket/crawl/*.parquet' --engine dask
"""

from dataclasses import dataclass

import polars as pl

from curate import exact, minhash, quality, select, sources
from curate.plan import Plan, plan, read, write


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Settings of the cleaning.

    Args:
        source: a path, glob or URL of Parquet or JSON Lines files.
        text: the name of the text column.
        profile: quality rules by which documents are kept (``quality.profile``).
        words: what the quality measures take for a word; profiles of datatrove need ``spacy``.
        near: how near-duplicates are found.
        mix_bytes: bytes of text to draw; everything that is left by default.
        shard_bytes: bytes of text a shard.
    """

    source: str = "data/*.parquet"
    text: str = "text"
    profile: str = "light"
    words: str = "whitespace"
    near: minhash.MinHash = minhash.MinHash(keep_by=("-text_bytes",))
    mix_bytes: int = 1 << 60
    shard_bytes: int = 128 << 20


def pipeline(config: Clean) -> Plan:
    """From documents to a clean mix."""
    docs = read(sources.any_file(config.source, text=config.text))
    docs = docs.then(quality.measure, quality.QualityMeasure(words=config.words)).keep(quality.profile(config.profile))
    docs = docs.then(exact.duplicates).keep(pl.col("exact_copy_of").is_null(), because="exact_duplicate")
    docs = docs.then(minhash.near_duplicates, config.near)
    docs = docs.keep(pl.col("near_copy_of").is_null(), because="near_duplicate")
    mix = docs.select(select.uniform(label="clean"), bytes=config.mix_bytes)
    return plan(write({"clean": mix}, columns=["exact_copies", "near_cluster_size"], shard_bytes=config.shard_bytes))
