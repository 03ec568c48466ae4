"""What is kept in memory between steps: bounded, let go at the end, and the same as what would be decoded."""

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate import exact, held, minhash, outputs, select, sources
from curate.columns import TEXT
from curate.engines.dask import Dask
from curate.engines.local import Local
from curate.parts import fragments
from curate.plan import plan, read, write
from curate.run import run
from curate.store import Store

get = Store.get_table


def text(*values):
    return pa.chunked_array([pa.array(values, TEXT)])


SIZE = text("abcd", "ef").get_total_buffer_size()


def test_what_came_first_stays_and_the_bound_holds():
    with held.keeping(2 * SIZE):
        for name in "abc":
            held.put(name, {"text": text("abcd", "ef")})
        assert held.get("a", "text").to_pylist() == ["abcd", "ef"]
        assert held.get("b", "text") is not None
        assert held.get("c", "text") is None
        held.forget("a")
        held.put("c", {"text": text("abcd", "ef")})
        assert held.get("a", "text") is None
        assert held.get("c", "text") is not None
    assert held.get("c", "text") is None


def test_nothing_is_kept_outside():
    held.put("a", {"text": text("abcd")})
    assert held.get("a", "text") is None


def test_a_column_is_counted_once():
    with held.keeping(2 * SIZE):
        held.put("a", {"text": text("abcd", "ef")})
        held.put("a", {"text": text("abcd", "ef")})
        held.put("b", {"text": text("abcd", "ef")})
        assert held.get("b", "text") is not None


def test_a_sidecar_is_decoded_once_and_forgotten_at_the_end(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    for k in range(2):
        store.put_table(f"steps/x/p/{k}.parquet", pa.table({"row": [1 - k], "value": [k], "other": ["o"]}))
    asked = []
    monkeypatch.setattr(Store, "get_table", lambda at, path, names: asked.append((path, names)) or get(at, path, names))
    with held.keeping(1 << 20):
        for names in (["row", "value"], ["row", "value"], ["other", "row"]):
            found = fragments(store, "steps/x/p", names)
            assert found.column_names == names
            assert found["row"].to_pylist() == [0, 1]
    ones = [f"steps/x/p/{k}.parquet" for k in range(2)]
    assert asked == [(one, ["row", "value"]) for one in ones] + [(one, ["other"]) for one in ones]
    fragments(store, "steps/x/p", ["row"])
    assert len(asked) == 6


def test_only_an_engine_of_this_process_keeps_anything():
    assert Local(2).holds > Local(1).holds > 0 and not hasattr(Dask, "holds")


def carry_out(where, holds):
    engine = Local(2)
    engine.holds = holds
    docs = read(sources.parquet(str(where / "in"))).then(exact.duplicates).then(minhash.near_duplicates)
    docs = docs.keep(pl.col("near_copy_of").is_null(), because="near_duplicate")
    mix = docs.select(select.uniform(label="all"), rows=1000)
    store = Store(str(where / f"store-{holds}"))
    return run(plan(write({"all": mix})), name="t", store=store, open_engine=lambda: engine).manifest


def test_a_run_does_not_depend_on_it(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(3):
        texts = [f"{i} document {j} and " * (j % 7) for j in range(50)]
        pq.write_table(pa.table({"id": [f"{i}-{j}" for j in range(50)], "text": texts}), tmp_path / f"in/{i}.parquet")
    nothing, some, everything = (carry_out(tmp_path, holds) for holds in (0, 4000, 1 << 20))
    assert nothing["values"] == some["values"] == everything["values"]
    assert [s["bytes_hash"] for s in nothing["mixes"]["all"]["shards"]] == [
        s["bytes_hash"] for s in everything["mixes"]["all"]["shards"]
    ]
    assert not held._columns


def test_shards_straight_from_the_parts_are_those_of_the_exchange(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for i in range(3):
        texts = [f"{i} é document {j} and " * (j % 7) for j in range(50)]
        pq.write_table(pa.table({"id": [f"{i}-{j}" for j in range(50)], "text": texts}), tmp_path / f"in/{i}.parquet")

    def written(way):
        monkeypatch.setattr(outputs, "straight", lambda parts, shards: way)
        docs = read(sources.parquet(str(tmp_path / "in"))).then(exact.duplicates)
        docs = docs.keep(pl.col("text_bytes") != 0, because="empty")
        mixes = {
            "some": docs.select(select.uniform(label="some"), bytes=9000),
            "copies": docs.select(select.uniform(label="copies"), bytes=60_000),
            "none": docs.select(select.uniform(label="none"), bytes=1),
        }
        store = Store(str(tmp_path / str(way)))
        found = run(plan(write(mixes, shard_bytes=3000)), name="t", store=store, open_engine=Local).manifest["mixes"]
        assert max(len(mix["shards"]) for mix in found.values()) > 2
        rows = {name: store.names(f"{mix['home']}/rows") for name, mix in found.items()}
        where = {(m, r): store.read(f"{found[m]['home']}/rows/{r}") for m, each in rows.items() for r in each}
        return {name: mix["shards"] for name, mix in found.items()}, where

    assert written(True) == written(False)
