"""compact(): the same rows in new parts."""

import polars as pl
import pyarrow as pa
import pytest
from test_run import FILES, carry_out, mix
from test_together import Priced
from toys import Count, Lists, letters, most_frequent_first, same_size, size, words

from curate import evaluate, sources
from curate.columns import INT64
from curate.engines.dask import Dask
from curate.explain import stories
from curate.plan import Mix, check, plan, read, write
from curate.run import run
from curate.stage import Grain, stage
from curate.store import Store


def survivors(files=FILES, compacted=True, least=1, source=None):
    docs = read(source or Lists(files)).then(letters, Count()).then(same_size)
    docs = docs.keep(pl.col("letters") >= least, because="few")
    docs = docs.compact() if compacted else docs
    docs = docs.then(size).keep(pl.col("size") > 2, because="short").then(most_frequent_first)
    return plan(write({"most": Mix(docs, "copies")}, columns=["letters", "same_size", "size"]))


def test_it_is_the_same_rows(tmp_path):
    with_ = carry_out(tmp_path / "with", survivors())
    without = carry_out(tmp_path / "without", survivors(compacted=False))
    assert mix(tmp_path / "with", with_).equals(mix(tmp_path / "without", without))
    steps = {s["label"]: s for s in with_.manifest["steps"]}
    assert (steps["compact"]["rows"], steps["compact"]["parts"]) == (8, 1)
    dropped = {s["label"]: s["dropped"] for s in without.manifest["steps"] if "dropped" in s}
    assert {s["label"]: s["dropped"] for s in with_.manifest["steps"] if "dropped" in s} == dropped
    assert carry_out(tmp_path / "with", survivors()).computed == 0


def test_parts_follow_from_the_text_that_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "COMPACT_BYTES", 12)
    many = carry_out(tmp_path / "many", survivors())
    assert {s["label"]: s for s in many.manifest["steps"]}["compact"]["parts"] > 2
    monkeypatch.undo()
    one = carry_out(tmp_path / "one", survivors())

    def rows(where, outcome):
        return sorted(map(repr, mix(where, outcome).to_pylist()))

    assert rows(tmp_path / "many", many) == rows(tmp_path / "one", one)


def test_measured_columns_are_not_measured_again(tmp_path):
    carry_out(tmp_path, survivors(compacted=False))
    steps = {s["label"]: s for s in carry_out(tmp_path, survivors()).manifest["steps"]}
    assert steps["toys.letters"]["computed"] == 0
    docs = read(Lists(FILES)).then(size).compact().then(same_size)  # its EACH half stands above already
    assert [n.stage.name for n in _stages(docs.node)] == ["toys.same_size", "toys.size"]
    known = check(plan(write({"m": Mix(docs.then(most_frequent_first), "copies")})))
    assert {"size", "parent", "same_size"} <= set(known[id(docs.node)].columns)


def _stages(node):
    while hasattr(node, "above"):
        if hasattr(node, "stage"):
            yield node
        node = node.above


def test_a_row_can_be_followed_back(tmp_path):
    outcome = carry_out(tmp_path, survivors())
    told = stories(Store(str(tmp_path)), outcome.manifest, "two:0")
    assert [dict(s.facts)["file"].split(",")[0] for s in told] == ["two", "survivors of 6 parts"]
    assert dict(told[0].facts)["fate"] == "lives"
    assert dict(told[1].facts)["fate"] == "dropped by keep (short): short"
    assert dict(told[1].facts)["made from"].startswith("two:0  (part ")


def test_after_rows_were_replaced(tmp_path):
    docs = read(Lists({"f": ("an apple", "", "a pear and a plum")})).then(words).compact().then(letters)
    columns = ["word", "parent"]
    docs = docs.then(most_frequent_first)
    outcome = carry_out(tmp_path, plan(write({"most": Mix(docs, "copies")}, columns=columns)))
    found = {(r["id"], r["text"], r["word"], r["parent"].split(":")[1]) for r in mix(tmp_path, outcome).to_pylist()}
    assert ("f:0#1", "apple", 1, "0") in found


def test_several_sources(tmp_path):
    source = sources.together(Lists(FILES), Priced({"three": ("ananas", "fig", "date")}, name="priced"))
    outcome = carry_out(tmp_path, survivors(source=source))
    prices = {r["text"]: r["price"] for r in mix(tmp_path, outcome).to_pylist()}
    assert prices["ananas"] == 0 and prices["apple"] is None


@pytest.mark.parametrize("files", [{"a": ("b",)}, {"a": ()}, {"a": (None,)}])
def test_nothing_left(tmp_path, files):
    docs = read(Lists(files)).then(letters).keep(pl.col("letters") > 0, because="few").compact().then(size)
    docs = docs.then(same_size).then(all_of_them)
    assert carry_out(tmp_path, plan(write({"m": Mix(docs, "n")}))).manifest["mixes"]["m"]["rows"] == 0



@stage(reads={"size": INT64}, writes={"n": pa.int32()}, grain=Grain.EACH, version="1")
def all_of_them(docs: pa.Table) -> pa.Table:
    """Every row once."""
    return pa.table({"n": pa.array([1] * docs.num_rows, pa.int32())})


def test_the_same_bytes_on_dask(tmp_path):
    local = carry_out(tmp_path / "local", survivors())
    store = Store(str(tmp_path / "dask"))
    dask = run(survivors(), name="toy", store=store, open_engine=lambda: Dask(workers=2))
    assert dask.manifest["values"] == local.manifest["values"]
