"""From web archives to a clean mix, in FineWeb's order (Penedo et al. 2024, section 3): main text, language, Gopher's
rules, C4's edits, FineWeb's rules, copies, near copies, personal data.

curate run pipelines/web.py --set source='crawl/*.warc.gz' --engine dask
"""

from dataclasses import dataclass

import polars as pl

from curate import c4, exact, language, minhash, pages, pii, quality, select, sources
from curate.plan import Plan, plan, read, write


@dataclass(frozen=True, kw_only=True)
class Web:
    """Settings of the recipe.

    Args:
        source: a path, glob or URL of WARC files.
        extract: how a page becomes text.
        language: the language to keep, as CLD2 names it.
        language_above: the share of a page's text that must be in it.
        edit: C4's edits; FineWeb left out the rule that a line ends in an end mark.
        near: how near-duplicates are found; the longest text is kept.
        mask: how personal data is masked.
        shard_bytes: bytes of text a shard.
    """

    source: str = "crawl/*.warc.gz"
    extract: pages.Extract = pages.Extract(extractor="trafilatura", favor="precision")
    language: str = "en"
    language_above: float = 0.65
    edit: c4.C4 = c4.C4(end_marks=())
    near: minhash.MinHash = minhash.MinHash(keep_by=("-text_bytes",))
    mask: pii.Mask = pii.Mask()
    shard_bytes: int = 128 << 20


def pipeline(config: Web) -> Plan:
    """From pages to a clean mix."""
    docs = read(sources.warc(config.source)).then(pages.extract, config.extract)
    docs = docs.then(language.identify).keep(language.only(config.language, above=config.language_above))
    docs = docs.then(quality.measure).keep(quality.profile("gopher_repetition", "gopher"))
    docs = docs.then(c4.edit, config.edit).keep(c4.profile("c4"))
    docs = docs.then(quality.measure).keep(quality.profile("fineweb"))
    docs = docs.then(exact.duplicates).keep(pl.col("exact_copy_of").is_null(), because="exact_duplicate")
    docs = docs.then(minhash.near_duplicates, config.near)
    docs = docs.keep(pl.col("near_copy_of").is_null(), because="near_duplicate")
    docs = docs.then(pii.mask, config.mask)
    mix = docs.select(select.uniform(label="clean"), bytes=1 << 60)
    return plan(write({"clean": mix}, shard_bytes=config.shard_bytes))
