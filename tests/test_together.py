"""Several sources as one frame: columns of some, null in the others; one more source recomputes nothing."""

import json
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_run import FILES, carry_out, mix
from toys import Count, Lists, letters, most_frequent_first, size, words

from curate import select, sources
from curate.columns import FLOAT64, INT64, TEXT
from curate.errors import BadPlan
from curate.explain import stories
from curate.plan import Mix, check, plan, read, write
from curate.store import Store

OTHERS = {"three": ("ananas", "olive", "date", "apple"), "four": ("papaya",)}


@dataclass(frozen=True)
class Priced(Lists):
    """Lists with a column: the price of a text, and perhaps its stock."""

    columns: dict[str, pa.DataType] = field(default_factory=lambda: {"price": INT64})

    def read(self, file):
        for piece in super().read(file):
            table = piece.table
            for name, kind in self.columns.items():
                table = table.append_column(name, pa.array(range(table.num_rows), kind))
            yield type(piece)(table, piece.bad_rows, piece.bad)

    def identity(self):
        return {"part_rows": self.part_rows, "priced": sorted(self.columns)}


def fruit(*more):
    return sources.together(Lists(FILES, part_rows=2), Priced(OTHERS, name="priced"), *more)


def frame(source):
    return read(source).then(letters, Count()).keep(pl.col("letters") > 0, because="few").then(size)


def written(source, *columns):
    docs = frame(source)
    return plan(write({"most": docs.select(select.uniform(label="r"), rows=99)}, columns=list(columns)))


def test_columns_of_some_are_null_in_the_others(tmp_path):
    outcome = carry_out(tmp_path, written(fruit()))
    rows = {(r["id"], r["text"]): r["price"] for r in mix(tmp_path, outcome).to_pylist()}
    assert rows[("three:0", "ananas")] == 0 and rows[("three:2", "date")] == 2 and rows[("four:0", "papaya")] == 0
    assert rows[("one:0", "apple")] is None and rows[("three:3", "apple")] == 0  # first row of its part
    steps = {s["label"]: s for s in outcome.manifest["steps"]}
    assert steps["read lists + priced"]["rows_in"] == 21 and steps["read lists + priced"]["quarantined"] == 2


def test_a_rule_sees_the_nulls(tmp_path):
    docs = frame(fruit()).keep(pl.col("price").is_null() | (pl.col("price") > 0), because="free")
    outcome = carry_out(tmp_path, plan(write({"m": Mix(docs.then(most_frequent_first), "copies")}, columns=["price"])))
    [step] = [s for s in outcome.manifest["steps"] if s["label"] == "keep (free)"]
    assert step["dropped"] == {"free": 3}  # ananas, the later apple, papaya


def computed(outcome):
    return {s["label"]: s["computed"] for s in outcome.manifest["steps"] if "computed" in s}


def test_one_more_source_recomputes_nothing_of_the_others(tmp_path):
    carry_out(tmp_path, written(fruit()))
    stock = Priced({"five": ("banana", "fig", "aa")}, columns={"stock": FLOAT64, "price": INT64}, name="stock")
    outcome = carry_out(tmp_path, written(fruit(stock)))
    assert computed(outcome) == {"toys.letters": 3, "toys.size": 2}
    rows = {(r["id"], r["text"]): (r["price"], r["stock"]) for r in mix(tmp_path, outcome).to_pylist()}
    assert rows[("five:2", "aa")] == (2, 2.0) and rows[("one:0", "apple")] == (None, None)
    assert rows[("three:0", "ananas")] == (0, None)
    alone = carry_out(tmp_path, written(Lists(FILES, part_rows=2)))
    assert set(computed(alone).values()) == {0}
    fresh = carry_out(tmp_path / "fresh", written(fruit(stock)))
    assert fresh.manifest["values"] == outcome.manifest["values"]


def test_the_order_of_sources_changes_nothing(tmp_path):
    one = carry_out(tmp_path / "1", written(sources.together(Lists(FILES), Priced(OTHERS, name="priced"))))
    two = carry_out(tmp_path / "2", written(sources.together(Priced(OTHERS, name="priced"), Lists(FILES))))
    assert mix(tmp_path / "1", one).to_pylist() == mix(tmp_path / "2", two).to_pylist()


def test_replaced_rows_keep_what_their_source_declares(tmp_path):
    def split(source):
        docs = read(source).then(words).then(letters, Count())
        return plan(write({"most": docs.select(select.uniform(label="r"), rows=99)}, columns=["parent", "word"]))

    carry_out(tmp_path, split(fruit()))
    more = Priced({"five": ("a b", "c")}, columns={"stock": FLOAT64}, name="stock")
    outcome = carry_out(tmp_path, split(fruit(more)))
    assert computed(outcome) == {"toys.letters": 3}
    rows = {(r["id"], r["price"], r["stock"]) for r in mix(tmp_path, outcome).to_pylist()}
    assert {("five:0#1", None, 0.0), ("three:0#0", 0, None), ("one:0#0", None, None)} <= rows


def test_a_document_can_be_explained(tmp_path):
    outcome = carry_out(tmp_path, written(fruit()))
    [story] = stories(Store(str(tmp_path)), outcome.manifest, "one:0")
    assert dict(story.facts)["price"] == "–" and dict(story.facts)["fate"] == "lives"


def test_types_must_agree():
    with pytest.raises(BadPlan, match=r"priced declares 'price' as int64, other as double"):
        fruit(Priced({}, columns={"price": FLOAT64}, name="other"))
    with pytest.raises(BadPlan, match="no source"):
        sources.together()


def test_it_is_a_source_like_any_other():
    source = sources.together(fruit(), Lists({"z": ("a",)}))
    assert len(source.members) == 3 and dict(source.columns) == {"price": INT64}
    assert [f.path for f in source.listing()] == ["broken", "one", "two", "four", "three", "z"]
    [piece] = source.read(source.listing()[-1])
    assert piece.table["text"].to_pylist() == ["a"]
    many = sources.together(*(Lists({}, name=str(i)) for i in range(5)))
    assert many.name == "0 + 4 sources"


def test_files_of_several_formats(tmp_path):
    """Parquet left in place and JSON Lines, each with its own names of columns."""
    pq.write_table(pa.table({"body": ["an apple", "a pear"], "when": [1, 2]}), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": t, "lang": "en"}) + "\n" for t in ("a fig", "aa")))
    source = sources.together(
        sources.parquet(str(tmp_path / "a.parquet"), text="body", columns={"when": INT64}),
        sources.jsonl(str(tmp_path / "b.jsonl"), columns={"lang": TEXT}),
    )
    outcome = carry_out(tmp_path / "store", written(source))
    rows = {r["text"]: (r["when"], r["lang"]) for r in mix(tmp_path / "store", outcome).to_pylist()}
    assert rows == {"an apple": (1, None), "a pear": (2, None), "a fig": (None, "en"), "aa": (None, "en")}
    [step] = [s for s in outcome.manifest["steps"] if s["kind"] == "read"]
    assert step["rows_out"] == 4
    known = check(written(source))
    assert {"when", "lang"} <= set(next(iter(known.values())).columns)
