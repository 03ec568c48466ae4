"""Hostile pages kill nothing: whatever stands in an archive, its good pages come out, and every row is counted."""

import gc
import resource
from collections import Counter

import hostile_pages
import pyarrow.parquet as pq
import pytest

from curate import pages
from curate.engines.local import Local
from curate.pages import Extract
from curate.plan import plan, read, write
from curate.run import run
from curate.select import uniform
from curate.sources import warc
from curate.store import Store


def archives(folder, count, each=1000):
    """Archives of ``count`` members; how many of each kind."""
    kinds = Counter()
    for first in range(0, count, each):
        with (folder / f"crawl-{first:06}.warc.gz").open("wb") as out:
            for i in range(first, min(first + each, count)):
                kind, content = hostile_pages.member(i)
                kinds[kind] += 1
                out.write(content)
    return kinds


def carried_through(tmp_path, count, config, record_bytes):
    """Run the pages through extraction; the manifest's steps and the texts by id."""
    (tmp_path / "crawl").mkdir()
    kinds = archives(tmp_path / "crawl", count)
    source = warc(str(tmp_path / "crawl"), record_bytes=record_bytes)
    docs = read(source).then(pages.extract, config)
    store = Store(str(tmp_path / "store"))
    outcome = run(plan(write({"all": docs.select(uniform(label="all"), rows=10**6)})), name="hostile", store=store,
                  open_engine=Local)  # fmt: skip
    mix = outcome.manifest["mixes"]["all"]
    texts = {}
    for shard in mix["shards"]:
        table = pq.read_table(tmp_path / "store" / mix["home"] / shard["name"], columns=["id", "text"])
        texts |= dict(zip(*table.to_pydict().values(), strict=True))
    return kinds, outcome.manifest["steps"], texts


def check(tmp_path, count, config, record_bytes="8MB"):
    kinds, steps, texts = carried_through(tmp_path, count, config, record_bytes)
    reading, extraction = steps[0], next(step for step in steps if step["label"] == "pages.extract")
    for i in range(0, count, 10):
        assert hostile_pages.MARK.format(i) in texts[f"<urn:page:{i}>"], f"good page {i} is not whole"
    dropped = sum(extraction["dropped"].values())
    assert extraction["rows"] == reading["rows_out"] == extraction["rows_out"] + dropped + extraction["quarantined"]
    assert reading["uncounted"] > 0  # garbage, and members that cannot be opened
    assert reading["quarantined"] > 0
    assert extraction["quarantined"] > 0
    assert len(kinds) > 20
    return kinds, reading, extraction


def test_some_hostile_pages(tmp_path):
    check(tmp_path, 130, Extract(cpu_seconds=0.4))


@pytest.mark.slow
@pytest.mark.parametrize("extractor", ["resiliparse", "trafilatura"])
def test_ten_thousand_hostile_pages(tmp_path, extractor):
    gc.collect()
    kinds, reading, extraction = check(tmp_path, 10_000, Extract(extractor=extractor, cpu_seconds=2.0), "110MB")
    assert kinds["100 MB attribute"] == 2
    print(kinds, {name: reading[name] for name in ("rows_in", "rows_out", "quarantined", "uncounted")},
          {name: extraction[name] for name in ("rows", "rows_out", "dropped", "quarantined")},
          resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # fmt: skip
