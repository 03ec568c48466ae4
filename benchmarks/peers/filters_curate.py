"""All numbers of Gopher, its repetitions, C4 and FineWeb, stored, and their rules; a pipeline for ``curate run``."""

from dataclasses import dataclass

from curate import c4, quality, select, sources
from curate.plan import Plan, plan, read, write


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Settings: where the documents are."""

    source: str = "data"


def pipeline(config: Filters) -> Plan:
    """Documents that pass, as C4 leaves their lines, in FineWeb's order; FineWeb used C4 without its end mark rule."""
    docs = read(sources.parquet(config.source))
    docs = docs.then(quality.measure, quality.QualityMeasure(profiles=("gopher_repetition", "gopher")))
    docs = docs.keep(quality.profile("gopher_repetition", "gopher"))
    docs = docs.then(c4.edit, c4.C4(end_marks=())).keep(c4.profile("c4"))
    docs = docs.then(quality.measure, quality.QualityMeasure(profiles=("fineweb",))).keep(quality.profile("fineweb"))
    return plan(write({"kept": docs.select(select.uniform(label="all"), bytes=1 << 60)}, shard_bytes=32 << 20))
