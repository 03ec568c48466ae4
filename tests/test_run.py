"""The laws of a run: rows are conserved, the bytes are the same, what is stored is not computed again."""

import polars as pl
import pyarrow as pa
import pytest
from toys import Count, Lists, letters, longest, most_frequent_first, rank, same_size, share, words

from curate.engines.local import Local
from curate.errors import BadData, BadInput, GuardFailed, MissingColumn
from curate.plan import Mix, check, fit, given, plan, read, write
from curate.run import run
from curate.store import Store

FILES = {
    "one": ("apple", "banana", "avocado", "", "cherry", "apple"),
    "two": ("aa", "b", None, "grape", "apricot", "zucchini", "fig"),
    "broken": ("plum", "pear"),
}


def recipe(files=None, letter="a", least=1, **source):
    docs = read(Lists(files or FILES, **source)).then(letters, Count(letter=letter))
    docs = docs.keep(pl.col("letters") >= least, because="too_few_letters").then(same_size).then(rank)
    model = fit(longest, Count(), docs.sample(rows=4, label="longest"))
    docs = docs.then(share, Count(), against=model).then(most_frequent_first)
    return plan(write({"most": Mix(docs, "copies")}, columns=["share", "rank", "same_size"]))


def carry_out(where, p, **options):
    return run(p, name="toy", store=Store(str(where)), open_engine=Local, **options)


def mix(where, outcome, name="most"):
    entry = outcome.manifest["mixes"][name]
    tables = [Store(str(where)).get_table(f"{outcome.folder}/mixes/{name}/{s['name']}") for s in entry["shards"]]
    return pa.concat_tables(tables)


def test_a_run_end_to_end(tmp_path):
    outcome = carry_out(tmp_path, recipe())
    steps = {s["label"]: s for s in outcome.manifest["steps"]}
    reading = steps["read lists"]
    assert reading["rows_in"] == 16 and reading["rows_out"] == 14 and reading["quarantined"] == 2
    dropped = steps["keep (too_few_letters)"]["dropped"]
    assert dropped == {"too_few_letters": 6}  # "", cherry, b, zucchini, fig, plum
    table = mix(tmp_path, outcome)
    assert sorted(table["text"].to_pylist()) == ["aa", "apple", "apple", "apricot", "avocado"]
    sizes = dict(zip(table["text"].to_pylist(), table["same_size"].to_pylist(), strict=True))
    assert sizes == {"aa": 1, "apple": 3, "apricot": 2, "avocado": 2}
    # Rows alive by size: aa, pear, (apple, apple, grape), banana, (avocado, apricot).
    ranks = {text: set() for text in table["text"].to_pylist()}
    for row in table.to_pylist():
        ranks[row["text"]].add(row["rank"])
    assert ranks["aa"] == {0}
    assert ranks["apple"] < {2, 3, 4}
    assert ranks["avocado"] | ranks["apricot"] == {6, 7}


def test_a_complete_run_computes_nothing(tmp_path):
    first = carry_out(tmp_path, recipe())

    def never():
        raise AssertionError("the engine was opened")

    second = run(recipe(), name="toy", store=Store(str(tmp_path)), open_engine=never)
    assert second.computed == 0 and second.manifest == first.manifest


def test_the_bytes_do_not_depend_on_the_listing(tmp_path):
    hashes = {carry_out(tmp_path / str(r), recipe(reverse=r)).manifest["values"] for r in (False, True)}
    assert len(hashes) == 1


def test_a_changed_threshold_recomputes_no_measurement(tmp_path):
    carry_out(tmp_path, recipe())
    steps = {s["label"]: s for s in carry_out(tmp_path, recipe(least=2)).manifest["steps"]}
    assert steps["toys.letters"]["computed"] == 0 and steps["toys.letters"]["reused"] == 14
    assert steps["toys.size"]["computed"] == 0


def test_one_more_file_computes_its_own_parts(tmp_path):
    carry_out(tmp_path, recipe())
    more = recipe(FILES | {"three": ("ananas", "olive")})
    steps = {s["label"]: s for s in carry_out(tmp_path, more).manifest["steps"]}
    assert steps["toys.letters"]["computed"] == 2 and steps["toys.letters"]["reused"] == 14


def test_bad_data_can_stop_the_run(tmp_path):
    with pytest.raises(BadData, match="cannot be read"):
        carry_out(tmp_path, recipe(), on_error="fail")


def test_a_guard_stops_before_anything_is_dropped(tmp_path):
    target = read(Lists({"t": ("apple", "kiwi", "fig")}, name="target")).then(letters)
    docs = read(Lists(FILES)).then(letters).keep(pl.col("letters") > 0, because="no_a", guard=target)
    with pytest.raises(GuardFailed, match="2 of 3 documents"):
        carry_out(tmp_path, plan(write({"m": Mix(docs.then(most_frequent_first), "copies")})))


def test_replaced_rows_keep_their_parents(tmp_path):
    docs = read(Lists({"f": ("an apple", "", "a pear and a plum")})).then(words).then(letters).then(most_frequent_first)
    outcome = carry_out(tmp_path, plan(write({"most": Mix(docs, "copies")}, columns=["parent", "word"])))
    step = {s["label"]: s for s in outcome.manifest["steps"]}["toys.words"]
    assert (step["rows"], step["rows_out"], step["dropped"]) == (3, 7, {"no_rows_left": 1})
    rows = mix(tmp_path, outcome).to_pylist()
    assert sorted((r["id"], r["text"], r["word"], r["parent"].split(":")[1]) for r in rows) == [
        ("f:0#0", "an", 0, "0"),
        ("f:0#1", "apple", 1, "0"),
        ("f:2#0", "a", 0, "2"),
        ("f:2#2", "and", 2, "2"),
        ("f:2#3", "a", 3, "2"),
    ]


def test_a_column_measured_before_the_text_changed_is_unknown():
    docs = read(Lists(FILES)).then(letters).then(words).keep(pl.col("letters") > 0, because="stale")
    with pytest.raises(MissingColumn, match="letters"):
        check(plan(write({"m": Mix(docs.then(most_frequent_first), "copies")})))


def test_an_artifact_may_be_given(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "length.txt").write_text("10")
    docs = read(Lists(FILES)).then(share, Count(), against=given(tmp_path / "made")).then(most_frequent_first)
    outcome = carry_out(tmp_path / "store", plan(write({"most": Mix(docs, "copies")}, columns=["share"])))
    shares = {r["text"]: r["share"] for r in mix(tmp_path / "store", outcome).to_pylist()}
    assert shares["avocado"] == pytest.approx(0.7)
    with pytest.raises(BadInput, match="no directory"):
        check(plan(write({"m": Mix(read(Lists(FILES)).then(share, against=given("/nowhere")), "x")})))
