"""Rows that a MANY stage replaces: every parent is replaced, dropped or quarantined, and can be looked up."""

import pyarrow as pa
import pytest
from test_run import carry_out, mix
from toys import Lists, letters, most_frequent_first

from curate import report, select
from curate.columns import INT64, QUARANTINED, ROW, TEXT
from curate.errors import BadData, BadPlan, RowsLost
from curate.explain import stories
from curate.plan import Mix, check, plan, read, write
from curate.stage import Grain, stage
from curate.store import Store

FILES = {"one": ("an apple", "", "BAD plum", "a pear"), "two": ("BAD", "a fig")}


@stage(reads={"text": TEXT}, writes={"text": TEXT}, grain=Grain.MANY, version="1")
def careful(docs: pa.Table) -> pa.Table:
    """One row a word; a text that starts with BAD has words, and two errors, and is quarantined by the first."""
    rows, words, errors = [], [], []
    for i, text in enumerate(docs["text"].to_pylist()):
        for word in text.split():
            rows.append(i)
            words.append(word)
            errors.append(None)
        if text.startswith("BAD"):
            rows += [i, i]
            words += [None, None]
            errors += [f"cannot read {len(text)} letters", "second"]
    return pa.table({ROW: pa.array(rows, INT64), "text": pa.array(words, TEXT), QUARANTINED: pa.array(errors, TEXT)})


def careful_plan(files=FILES):
    return plan(write({"most": Mix(read(Lists(files)).then(careful).then(most_frequent_first), "copies")}))


def test_every_parent_is_accounted_for(tmp_path):
    outcome = carry_out(tmp_path, careful_plan())
    step = {s["label"]: s for s in outcome.manifest["steps"]}["test_replace.careful"]
    assert (step["rows"], step["rows_out"], step["dropped"], step["quarantined"]) == (6, 6, {"no_rows_left": 1}, 2)
    assert sorted(mix(tmp_path, outcome)["text"].to_pylist()) == ["a", "a", "an", "apple"]
    store = Store(str(tmp_path))
    lines = [line for path in step["quarantine"] for line in store.get_table(path).to_pylist()]
    assert sorted((r["file"], r["row"], r["id"], r["error"]) for r in lines) == [
        ("one", 2, "one:2", "cannot read 8 letters"),
        ("two", 0, "two:0", "cannot read 3 letters"),
    ]
    again = carry_out(tmp_path, careful_plan())
    assert again.computed == 0 and again.manifest == outcome.manifest


def test_the_quarantined_and_the_dropped_can_be_looked_up(tmp_path):
    outcome = carry_out(tmp_path, careful_plan())
    store = Store(str(tmp_path))

    def fate(document):
        [story] = stories(store, outcome.manifest, document)
        return dict(story.facts)["fate"]

    assert fate("one:2") == "quarantined by test_replace.careful: cannot read 8 letters"
    assert fate("one:1") == "dropped by test_replace.careful: no_rows_left"
    assert fate("one:0") == "lives"
    told = report.page(store, outcome.folder, outcome.manifest)
    assert "cannot read 8 letters" in told and "2 rows quarantined" in told


def test_a_run_may_stop_at_the_first(tmp_path):
    with pytest.raises(BadData, match="could not replace 2 rows, the first: cannot read"):
        carry_out(tmp_path / "first", careful_plan(), on_error="fail")
    carry_out(tmp_path / "second", careful_plan())
    with pytest.raises(BadData, match="could not replace 2 rows"):
        carry_out(tmp_path / "second", careful_plan(), on_error="fail")
    carry_out(tmp_path / "clean", careful_plan({"one": ("an apple", "")}), on_error="fail")


def test_a_part_may_be_quarantined_whole(tmp_path):
    docs = read(Lists({"one": ("BAD", "BAD")})).then(careful)
    outcome = carry_out(tmp_path, plan(write({"most": docs.select(select.uniform(label="r"), rows=2)})))
    step = {s["label"]: s for s in outcome.manifest["steps"]}["test_replace.careful"]
    assert (step["rows_out"], step["quarantined"], outcome.manifest["mixes"]["most"]["rows"]) == (0, 2, 0)


@stage(reads={"text": TEXT}, writes={"text": TEXT, QUARANTINED: TEXT}, grain=Grain.MANY, version="1")
def takes_the_name(docs: pa.Table) -> pa.Table:
    """Never called."""
    return docs


@stage(reads={"text": TEXT}, writes={"text": TEXT}, grain=Grain.MANY, version="1")
def of_another_type(docs: pa.Table) -> pa.Table:
    """Says with numbers what went wrong."""
    return pa.table({ROW: pa.array([0], INT64), "text": docs["text"][:1], QUARANTINED: pa.array([1], INT64)})


def test_the_column_is_no_column(tmp_path):
    with pytest.raises(BadPlan, match="quarantined"):
        check(plan(write({"m": Mix(read(Lists(FILES)).then(takes_the_name).then(most_frequent_first), "copies")})))
    docs = read(Lists({"one": ("a",)})).then(of_another_type).then(letters)
    with pytest.raises(RowsLost, match="'quarantined' as"):
        carry_out(tmp_path, plan(write({"m": Mix(docs.then(most_frequent_first), "copies")})))
