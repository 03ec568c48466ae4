"""Edges of the machine: nothing to read, nothing left, one enormous row, a store with a history."""

import polars as pl
import pyarrow as pa
import pytest
from test_run import FILES, carry_out, recipe
from toys import Count, Lists, letters, longest, most_frequent_first, same_size, share, size, tokens

from curate import exact, minhash, quality, select
from curate.columns import ADDRESS, INT64, TEXT
from curate.errors import BadData, BadPlan
from curate.plan import Mix, check, fit, plan, read, write
from curate.stage import Grain, stage

TEXTS = ("the cat sat on the mat and looked at the rain", "another text", "and a third, longer one than that")


def whole(files):
    docs = read(Lists(files)).then(quality.measure).keep(quality.profile("light"))
    docs = docs.then(exact.duplicates).keep(pl.col("exact_copy_of").is_null(), because="exact_duplicate")
    docs = docs.then(minhash.near_duplicates).keep(pl.col("near_copy_of").is_null(), because="near_duplicate")
    return plan(write({"m": docs.select(select.uniform(label="r"), rows=2)}))


@pytest.mark.parametrize(
    ("files", "rows"),
    [
        ({"a": TEXTS}, 2),
        ({"a": TEXTS[:1]}, 1),
        ({"a": ("", " ")}, 0),
        ({"a": (None, None)}, 0),
        ({"a": ()}, 0),
        ({"a": (), "b": TEXTS}, 2),
    ],
)
def test_little_or_nothing_to_do(tmp_path, files, rows):
    assert carry_out(tmp_path, whole(files)).manifest["mixes"]["m"]["rows"] == rows


@pytest.mark.parametrize("seed", range(6))
def test_shards_are_numbered_without_a_gap(tmp_path, seed):
    docs = read(Lists({"a": ("x" * 10, "y" * 400)}))
    mix = docs.select(select.uniform(label="r"), rows=2)
    shards = carry_out(tmp_path, plan(write({"m": mix}, shard_bytes=250, seed=seed))).manifest["mixes"]["m"]["shards"]
    names = [s["name"] for s in shards]
    assert names == [f"data/train-{i:05d}-of-{len(names):05d}.parquet" for i in range(len(names))]


@pytest.mark.parametrize("first", [1, 2])
def test_the_hash_of_a_run_does_not_depend_on_the_stores_history(tmp_path, first):
    def after(least):
        docs = read(Lists(FILES)).then(letters).keep(pl.col("letters") >= least, because="few").then(size)
        return plan(write({"m": Mix(docs.then(most_frequent_first), "copies")}))

    carry_out(tmp_path / "used", after(first))
    used, fresh = carry_out(tmp_path / "used", after(3 - first)), carry_out(tmp_path / "fresh", after(3 - first))
    assert used.manifest["values"] == fresh.manifest["values"]


@pytest.mark.parametrize(
    "rule",
    [
        pl.col("letters") >= pl.col("letters").mean(),
        pl.col("letters").mean() > 1,
        pl.col("letters").rank() > 2,
        pl.col("letters").is_duplicated(),
        pl.len() > 3,
        pl.col("letters").sum().over("source") > 1,
    ],
)
def test_a_rule_that_looks_at_several_rows_is_refused(rule):
    docs = read(Lists(FILES)).then(letters).keep(rule, because="odd")
    with pytest.raises(BadPlan, match="odd"):
        check(plan(write({"m": Mix(docs.then(most_frequent_first), "copies")})))


@stage(reads={"source": TEXT}, writes={"of_source": INT64}, grain=Grain.GROUP, by="source", version="1")
def of_source(docs: pa.Table) -> pa.Table:
    return pa.table({ADDRESS: docs[ADDRESS], "of_source": pa.array([docs.num_rows] * docs.num_rows, INT64)})


def test_what_is_missing_is_said_before_the_start():
    docs = read(Lists(FILES))
    model = fit(longest, Count(), docs)
    for frame in (
        docs.then(share, Count()),
        docs.then(share, Count(), agianst=model),
        docs.then(letters, Count(), against=model),
        docs.then(of_source),
    ):
        with pytest.raises(BadPlan):
            check(plan(write({"m": Mix(frame.then(most_frequent_first), "copies")})))


def test_bad_data_stops_a_complete_run_too(tmp_path):
    carry_out(tmp_path, recipe())
    with pytest.raises(BadData):
        carry_out(tmp_path, recipe(), on_error="fail")


def test_a_setting_of_one_half_recomputes_nothing_of_the_other(tmp_path):
    def deduplicated(**near):
        docs = read(Lists({"a": TEXTS, "b": TEXTS[:2]})).then(
            exact.duplicates, exact.Exact(keep_by=near.pop("keep_by", ()))
        )
        docs = docs.then(minhash.near_duplicates, minhash.MinHash(**near))
        return plan(write({"m": docs.select(select.uniform(label="r"), rows=3)}))

    carry_out(tmp_path, deduplicated())
    steps = {s["label"]: s for s in carry_out(tmp_path, deduplicated(threshold=0.9, keep_by=("id",))).manifest["steps"]}
    assert steps["minhash.signatures"]["computed"] == 0
    assert steps["exact.content_hash"]["computed"] == 0
    steps = {s["label"]: s for s in carry_out(tmp_path, deduplicated(bands=7)).manifest["steps"]}
    assert steps["minhash.signatures"]["computed"] == 5


def test_the_log_says_of_every_step_what_was_done_and_why(tmp_path):
    class Said(list):
        def begin(self, label, items, weight):
            pass

        def advance(self, label, items, rows, weight):
            pass

        def end(self, label, outcome):
            self.append(outcome)

    def counted(least, letter="a"):
        docs = read(Lists(FILES)).then(letters, Count(letter=letter)).keep(pl.col("letters") >= least, because="few")
        return plan(write({"m": Mix(docs.then(most_frequent_first), "copies")}))

    carry_out(tmp_path, counted(1))
    said = Said()
    carry_out(tmp_path, counted(2), watch=said)
    assert any("toys.letters: reused" in s and "keep (few): " in s for s in said)
    said = Said()
    carry_out(tmp_path, counted(2, "p"), watch=said)
    assert any("toys.letters: computed for 14 rows (settings changed)" in s for s in said)


def test_the_funnel_counts_tokens_whatever_ran_before(tmp_path):
    """A pass that was carried out before tokens were known is not taken for one that counts them."""

    def counted(known):
        docs = read(Lists(FILES))
        docs = (docs.then(tokens) if known else docs).then(
            same_size
        )  # a barrier, so that tokens are a pass of their own
        docs = docs.then(letters).keep(pl.col("letters") > 0, because="few").then(most_frequent_first)
        return plan(write({"m": Mix(docs, "copies")}, columns=["letters"]))

    carry_out(tmp_path, counted(known=False))
    steps = {s["label"]: s for s in carry_out(tmp_path, counted(known=True)).manifest["steps"]}
    assert steps["keep (few)"]["in"]["tokens"] == steps["keep (few)"]["in"]["text_bytes"] > 0


def test_near_copies_at_scale_are_those_of_one_process(tmp_path, monkeypatch):
    files = {name: tuple(f"{name} {'the cat sat on the mat ' * (2 + i % 3)} {i}" for i in range(7)) for name in "abc"}
    near = minhash.MinHash(bands=30, rows=1, ngram=2, threshold=0.5)

    def made():
        docs = read(Lists(files)).then(minhash.near_duplicates, near)
        docs = docs.keep(pl.col("near_copy_of").is_null(), because="near_duplicate")
        return plan(write({"m": docs.select(select.uniform(label="r"), rows=99)}, columns=["near_cluster_size"]))

    one = carry_out(tmp_path / "one", made())
    monkeypatch.setattr(minhash, "AT_ONCE", 0)
    all_ = carry_out(tmp_path / "all", made())
    assert one.manifest["mixes"]["m"]["values"] == all_.manifest["mixes"]["m"]["values"]
    assert 0 < one.manifest["mixes"]["m"]["rows"] < 21
