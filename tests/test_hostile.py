"""Conservation on hostile input: whatever is broken, every row is accounted for, and the quarantine names its place."""

import gzip
import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import exact, minhash, quality, select, sources
from curate.columns import INT64
from curate.engines.local import Local
from curate.errors import BadData
from curate.plan import plan, read, write
from curate.run import run
from curate.store import Store


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    where = tmp_path_factory.mktemp("inputs")
    lines = [
        json.dumps({"id": "a", "text": "a plain document with words enough to stay in the corpus", "n": 1}).encode(),
        b'{"id": "b", "text": "cut off',
        json.dumps({"id": "c", "text": None, "n": 1}).encode(),
        json.dumps({"id": "d", "text": "", "n": 1}).encode(),
        b'{"id": "e", "text": "not \xff UTF-8", "n": 1}',
        json.dumps({"id": "f", "text": "does not cast", "n": "seven"}).encode(),
        b"[1, 2]",
        json.dumps({"id": "a", "text": "another document under the same id, which is allowed", "n": 2}).encode(),
    ]
    (where / "broken.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    big = "one two three four five six seven eight nine ten\n" * 1_050_000
    with gzip.open(where / "big.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(json.dumps({"id": "big", "text": big, "n": 3}).encode() + b"\n")
    good = pa.table({"id": ["p", "q"], "text": ["a Parquet document of its own", "and a second one"], "n": [1, 2]})
    pq.write_table(good, where / "good.parquet")
    data = (where / "good.parquet").read_bytes()
    (where / "truncated.parquet").write_bytes(data[: len(data) // 2])
    return where


def recipe(inputs):
    docs = read(sources.any_file(str(inputs), columns={"n": INT64}))
    docs = docs.then(quality.measure).keep(quality.profile("light"))
    docs = docs.then(exact.duplicates).keep(pl.col("exact_copy_of").is_null(), because="exact_duplicate")
    docs = docs.then(minhash.near_duplicates).keep(pl.col("near_copy_of").is_null(), because="near_duplicate")
    return plan(write({"all": docs.select(select.uniform(label="all"), rows=100)}, columns=["n"]))


def test_every_row_is_accounted_for(inputs, tmp_path):
    store = Store(str(tmp_path))
    outcome = run(recipe(inputs), name="hostile", store=store, open_engine=Local)
    steps = outcome.manifest["steps"]
    reading = steps[0]
    # 8 lines, 1 big one, 2 rows of good Parquet; the truncated file's rows cannot be counted, and it says so.
    assert (reading["rows_in"], reading["quarantined"], reading["uncounted"]) == (11, 5, 1)
    assert reading["rows_out"] == 6
    dropped = sum(sum(s.get("dropped", {}).values()) for s in steps)
    assert reading["rows_out"] == dropped + outcome.manifest["mixes"]["all"]["rows"]
    assert {"empty", "dup_line_frac"} == {r for s in steps for r in s.get("dropped", {})}
    quarantine = pa.concat_tables([store.get_table(path) for path in reading["quarantine"]]).to_pylist()
    found = {(q["file"].rsplit("/", 1)[-1], q["rows"]): q for q in quarantine}
    assert len(quarantine) == 6
    assert ("truncated.parquet", -1) in found
    assert all(q["error"] and (q["offset"] >= 0 or q["row"] >= 0) for q in quarantine)
    offsets = sorted(q["offset"] for q in quarantine if q["file"].endswith("broken.jsonl") and q["offset"] >= 0)
    data = (inputs / "broken.jsonl").read_bytes()
    assert data[offsets[0] :].startswith(b'{"id": "b"')
    assert not any("UTF-8\"" in q["error"] for q in quarantine)


def test_or_the_run_stops(inputs, tmp_path):
    with pytest.raises(BadData) as caught:
        run(recipe(inputs), name="hostile", store=Store(str(tmp_path)), open_engine=Local, on_error="fail")
    assert "byte" in str(caught.value)
    assert "--on-error quarantine" in str(caught.value)
