"""Fitters in partial results, and global stages that take artifacts."""

import json
import pickle
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from test_run import FILES, carry_out, mix
from toys import Count, Lists, letters, longest, most_frequent_first

from curate import select
from curate.artifact import fitter
from curate.columns import ADDRESS, INT32, INT64, TEXT
from curate.engines.dask import Dask
from curate.errors import BadPlan
from curate.hashing import files_hash
from curate.plan import Mix, check, fit, given, plan, read, write
from curate.run import run
from curate.stage import Grain, PerPart, Rows, stage
from curate.store import Store
from curate.testing import run_fitter, run_rounds

CALLS: list[int] = []


def sizes(docs: pa.Table, config: Count, least: Path | None = None) -> pa.Table:
    """Key and bytes of the texts that hold the letter, and are not shorter than an artifact says."""
    CALLS.append(docs.num_rows)
    assert docs.column_names == ["key", "text"]
    shortest = int((least / "length.txt").read_text()) if least else 0
    length = pc.binary_length(docs["text"]).cast(INT64)
    mine = pc.and_(pc.match_substring(docs["text"], config.letter), pc.greater_equal(length, shortest))
    return pa.table({"key": docs["key"], "size": length}).filter(mine)


@fitter(reads={"text": TEXT}, part=sizes, version="1")
def all_sizes(found: pa.Table, config: Count, out: Path, least: Path | None = None) -> dict[str, float]:
    """The bytes of all texts with a letter, in the order of their parts."""
    assert found.column_names == ["key", "size"]
    (out / "length.txt").write_text(" ".join(map(str, found["size"].to_pylist())))
    return {"texts": found.num_rows}


@stage(reads={"text": TEXT}, writes={"rank": INT64, "copies": INT32}, grain=Grain.WHOLE, rounds=True, version="1")
def by_size(rows: Rows, config: Count, against: Path) -> PerPart:
    """The rank of the text's bytes in the artifact; the path travels to workers."""
    rows.report({"known": len((against / "length.txt").read_text().split())})
    return PerPart(_rank, ("text",), against)


def _rank(docs: pa.Table, against: Path) -> pa.Table:
    known = sorted(int(x) for x in (against / "length.txt").read_text().split())
    ranks = [sum(k < len(t.encode()) for k in known) for t in docs["text"].to_pylist()]
    return pa.table({"rank": pa.array(ranks, INT64), "copies": pa.array([1] * len(ranks), INT32)})


def partial_plan(files=None, letter="a", least=1, rows=None, **source):
    docs = read(Lists(files or FILES, **source)).then(letters, Count())
    docs = docs.keep(pl.col("letters") >= least, because="few")
    sample = docs if rows is None else docs.sample(rows=rows, label="some")
    model = fit(all_sizes, Count(letter=letter), sample)
    return plan(write({"most": Mix(docs.then(by_size, Count(), against=model), "copies")}, columns=["rank"]))


def fitted(outcome):
    [step] = [s for s in outcome.manifest["steps"] if s["kind"] == "fit"]
    return step


def test_a_fitter_sees_partial_results_in_part_order(tmp_path):
    CALLS.clear()
    outcome = carry_out(tmp_path, partial_plan())
    parts = CALLS.copy()
    # apple, banana, avocado, apple, aa, grape, apricot, pear
    assert fitted(outcome)["report"] == {"texts": 8} and sum(parts) == 8 and len(parts) > 3
    ranks = {r["text"]: r["rank"] for r in mix(tmp_path, outcome).to_pylist()}
    assert ranks == {"aa": 0, "pear": 1, "apple": 2, "grape": 2, "banana": 5, "avocado": 6, "apricot": 6}
    [ranked] = [s for s in outcome.manifest["steps"] if s["label"] == "test_learn.by_size"]
    assert ranked["report"] == {"known": 8}
    assert ranked["made_of"]["artifacts"] == {"against": fitted(outcome)["values"]}


def test_one_more_file_is_the_only_one_computed(tmp_path):
    carry_out(tmp_path, partial_plan())
    CALLS.clear()
    more = carry_out(tmp_path, partial_plan(FILES | {"three": ("ananas", "olive", "date", "quince")}))
    assert sorted(CALLS) == [0, 2]  # ananas and date; quince, a part of its own, has no a
    fresh = carry_out(tmp_path / "fresh", partial_plan(FILES | {"three": ("ananas", "olive", "date", "quince")}))
    assert fitted(more)["values"] == fitted(fresh)["values"]
    assert more.manifest["values"] == fresh.manifest["values"]


def test_other_settings_are_another_result(tmp_path):
    first = carry_out(tmp_path, partial_plan())
    assert fitted(carry_out(tmp_path, partial_plan(letter="p")))["report"] == {"texts": 5}  # with an a too
    CALLS.clear()
    fewer = carry_out(tmp_path, partial_plan(least=2))  # other rows live
    assert sum(CALLS) == 3 and fitted(fewer)["values"] != fitted(first)["values"]


def test_a_sample_may_be_seen_in_parts(tmp_path):
    CALLS.clear()
    outcome = carry_out(tmp_path, partial_plan(rows=3))
    assert fitted(outcome)["report"] == {"texts": 3} and sum(CALLS) == 3


def test_a_frame_without_rows_has_a_partial_result(tmp_path):
    docs = read(Lists({"a": (None,)}))
    model = fit(all_sizes, Count(), docs)
    docs = docs.then(by_size, Count(), against=model)
    outcome = carry_out(tmp_path, plan(write({"m": docs.select(select.uniform(label="r"), rows=2)})))
    assert fitted(outcome)["report"] == {"texts": 0}


def test_bases_reach_both_halves(tmp_path):
    docs = read(Lists(FILES))
    first = fit(longest, Count(), docs.keep(pl.col("text_bytes") <= 4, because="long"))
    model = fit(all_sizes, Count(), docs, least=first)
    outcome = carry_out(tmp_path, plan(write({"m": Mix(docs.then(by_size, Count(), against=model), "copies")})))
    [step] = [s for s in outcome.manifest["steps"] if s["label"] == "fit test_learn.all_sizes"]
    assert step["report"] == {"texts": 7}  # all that are at least as long as pear, but for aa


def test_what_does_not_fit_is_said_before_the_start(tmp_path):
    docs = read(Lists(FILES))
    model = fit(longest, Count(), docs)
    for frame in (
        docs.then(by_size, Count()),
        docs.then(by_size, Count(), against=model, other=model),
        docs.then(most_frequent_first, against=model),
    ):
        with pytest.raises(BadPlan, match="artifacts"):
            check(plan(write({"m": Mix(frame, "copies")})))


def test_the_same_bytes_on_dask(tmp_path):
    local = carry_out(tmp_path / "local", partial_plan())
    store = Store(str(tmp_path / "dask"))
    dask = run(partial_plan(), name="toy", store=store, open_engine=lambda: Dask(workers=2))
    assert dask.manifest["values"] == local.manifest["values"]


def test_in_memory(tmp_path):
    """What a stage's author tests with: cuts change neither the artifact nor the answer."""
    texts = ["apple", "fig", "banana", "pear", "plum"]
    keys = pa.array([bytes([i]) * 16 for i in range(5)], pa.binary(16))
    table = pa.table({"key": keys, "text": pa.array(texts, TEXT), "id": pa.array(texts, TEXT)})
    found = {
        run_fitter(all_sizes, parts, Count(), tmp_path / str(i))["texts"]: files_hash(tmp_path / str(i))
        for i, parts in enumerate(([table], [table[:2], table[2:]], [table[:0], table]))
    }
    assert list(found) == [3] and files_hash(tmp_path / "0") == files_hash(tmp_path / "1") == found[3]
    answer, rows = run_rounds(by_size, [table[:2], table[2:]], Count(), against=tmp_path / "0")
    assert answer.sort_by(ADDRESS)["rank"].to_pylist() == [1, 0, 2, 0, 0]
    assert rows.reported == {"known": 3}


def test_a_path_of_a_remote_store_travels(tmp_path):
    """A copy of an artifact is opened from the own copy of the process that it is sent to."""
    store = Store("memory://test-learn")
    store.publish("artifacts/x/deep/length.txt", b"7")
    path = store.local_copy("artifacts/x")
    deep = path / "deep"
    kind, (url, where, inside) = deep.__reduce__()
    assert (url, where, inside) == (store, "artifacts/x", "deep")
    assert (pickle.loads(pickle.dumps(deep)) / "length.txt").read_text() == "7"
    assert (kind(url, where, ".") / "deep" / "length.txt").read_text() == "7"
    assert pickle.loads(pickle.dumps(deep.parent.parent)) == path.parent  # no copy: a path like any other
    assert given(tmp_path).path == tmp_path


@fitter(reads={"text": TEXT}, version="1")
def copied(docs: pa.Table, config: None, out: Path) -> None:
    """The bytes of the sample's texts."""
    (out / "sizes.txt").write_text(" ".join(str(len(text.encode())) for text in docs["text"].to_pylist()))


@pytest.mark.parametrize("budget", [{"bytes": 12}, {}, {"rows": 2}], ids=str)
def test_a_sample_says_what_it_is_a_sample_of(tmp_path, budget):
    docs = read(Lists(FILES)).then(letters, Count()).keep(pl.col("letters") >= 1, because="few")
    outcome = carry_out(tmp_path, plan(fit(copied, None, docs.sample(label="some", **budget))))
    [sample] = [s for s in outcome.manifest["steps"] if s["kind"] == "sample"]
    said = (pq.read_schema(Path(tmp_path) / sample["path"]).metadata or {}).get(b"curate.of")
    if "rows" in budget:
        assert said is None  # that draw counts rows alone
    else:  # apple, banana, avocado, apple, aa, grape, apricot, pear
        assert json.loads(said) == {"rows": 8, "bytes": 5 + 6 + 7 + 5 + 2 + 5 + 7 + 4}
        assert (sample["text_bytes"] <= 12) == bool(budget)
