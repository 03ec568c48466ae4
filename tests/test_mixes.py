"""A mix that is written in an order: its values climb from shard to shard, equal ones are shuffled, nothing is lost."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_run import carry_out, mix
from toys import Count, Lists, letters

from curate import buckets, card, exchange, mixes, outputs, select
from curate.columns import FLOAT64, INT32, INT64, KEY, TEXT
from curate.engines.dask import Dask
from curate.engines.local import Local
from curate.errors import BadPlan, MissingColumn
from curate.mixes import COPY, PLACE, WORD, Marks, Placing, fewest, mark, marks_for
from curate.plan import Mix, check, plan, read, write
from curate.run import run
from curate.stage import Grain, stage
from curate.store import Store

law = settings(deadline=None, max_examples=60)
FILES = {name: tuple(f"{'a' * (i % 7)} {name}{i}" for i in range(40)) for name in ("one", "two", "three")}


@stage(reads={"text": TEXT}, writes={"value": FLOAT64, "twice": INT32}, grain=Grain.EACH, version="1")
def valued(docs: pa.Table) -> pa.Table:
    """Half the number of letters a, nothing where there are none; two copies of every row with three of them."""
    count = np.array([text.count("a") for text in docs["text"].to_pylist()])
    value = pa.array(count / 2 - 1, mask=count == 0)
    return pa.table({"value": value, "twice": pa.array(np.where(count == 3, 2, 1).astype(np.int32))})


def recipe(order=None, files=FILES, shard_bytes=200, **source):
    docs = read(Lists(files, **({"part_rows": 15} | source))).then(valued).then(letters, Count())
    chosen = Mix(docs, "twice") if order is None else Mix(docs, "twice").ordered(order)
    return plan(write({"m": chosen}, columns=["value", "letters"], shard_bytes=shard_bytes))


def written(where, p):
    return mix(where, carry_out(where, p), "m")


def test_values_climb_and_a_row_without_one_comes_last(tmp_path):
    """36 rows of 120 have 0 to 6 letters each (18 no letter at all, 17 the others), three of them in two copies."""
    up, down = (written(tmp_path / name, recipe(name)) for name in ("value", "-value"))
    plain = written(tmp_path / "shuffled", recipe())
    for table in (up, down):
        assert sorted(table["id"].to_pylist()) == sorted(plain["id"].to_pylist())
    found = up["value"].to_pylist()
    without = found.count(None)
    assert without == 18 and found[-without:] == [None] * without
    assert found[:-without] == sorted(found[:-without])
    fallen = down["value"].to_pylist()
    assert fallen[-without:] == [None] * without
    assert fallen[:-without] == sorted(fallen[:-without], reverse=True)
    threes = [i for i, n in zip(up["id"].to_pylist(), up["letters"].to_pylist(), strict=True) if n == 3]
    assert all(threes.count(i) == 2 for i in threes)


def test_equal_values_are_shuffled_and_not_left_by_source(tmp_path):
    up = written(tmp_path, recipe("letters"))
    for n in range(7):
        sources = [s for s, m in zip(up["source"].to_pylist(), up["letters"].to_pylist(), strict=True) if m == n]
        changes = sum(a != b for a, b in itertools.pairwise(sources))
        assert changes > 4, f"{len(sources)} rows of three sources change source {changes} times"


def test_an_order_by_a_constant_is_the_shuffle(tmp_path):
    files = {name: tuple(text.replace("a", "") for text in texts) for name, texts in FILES.items()}
    assert written(tmp_path / "a", recipe("letters", files)).equals(written(tmp_path / "b", recipe(None, files)))


def test_the_order_does_not_depend_on_parts_or_listing(tmp_path):
    first = written(tmp_path / "a", recipe("value"))
    assert first.equals(written(tmp_path / "b", recipe("value", part_rows=7)))
    assert first.equals(written(tmp_path / "c", recipe("value", reverse=True)))


def test_two_levels_and_the_straight_way_give_the_same_bytes(tmp_path, monkeypatch):
    straight = carry_out(tmp_path / "straight", recipe("-value")).manifest
    monkeypatch.setattr(outputs, "STRAIGHT_READS", 0)
    one = carry_out(tmp_path / "one", recipe("-value")).manifest
    monkeypatch.setattr(buckets, "MOST", 2)
    monkeypatch.setattr(exchange, "MOST", 2)
    monkeypatch.setattr(exchange, "GROUP_BYTES", 1)
    monkeypatch.setattr(exchange, "GROUP_MOST", 1)
    monkeypatch.setattr(exchange, "MERGE", 2)
    two = carry_out(tmp_path / "two", recipe("-value")).manifest
    assert straight["values"] == one["values"] == two["values"]
    assert len(one["mixes"]["m"]["shards"]) > 4
    assert (tmp_path / "one" / "steps").exists() and one["mixes"]["m"]["order"] == "-value"


def test_an_order_on_dask(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "STRAIGHT_READS", 0)
    there = run(recipe("-value"), name="toy", store=Store(str(tmp_path / "a")), open_engine=lambda: Dask(workers=2))
    assert there.manifest["values"] == carry_out(tmp_path / "b", recipe("-value")).manifest["values"]


def test_a_second_run_computes_nothing_and_another_order_only_the_mix(tmp_path):
    store = Store(str(tmp_path))
    run(recipe("value"), name="toy", store=store, open_engine=Local)
    assert run(recipe("value"), name="toy", store=store, open_engine=Local).computed == 0
    other = run(recipe("-value"), name="toy", store=store, open_engine=Local)
    steps = {s["label"]: s for s in other.manifest["steps"]}
    assert other.computed > 0
    assert steps["write m"]["made_of"]["order"][0] == "-value"


ODD = ("place", "word", "copy", "index")


@stage(reads={"text": TEXT}, writes=dict.fromkeys(ODD, INT64), grain=Grain.EACH, version="1")
def odd(docs: pa.Table) -> pa.Table:
    """Columns with the words of the writing: the length of the text."""
    return pa.table(dict.fromkeys(ODD, pa.compute.binary_length(docs["text"]).cast(INT64)))


def test_columns_may_have_the_words_of_the_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "STRAIGHT_READS", 0)
    docs = read(Lists(FILES, part_rows=15)).then(valued).then(odd)
    found = written(tmp_path, plan(write({"m": Mix(docs, "twice").ordered("word")}, columns=ODD, shard_bytes=200)))
    lengths = [len(text) for text in found["text"].to_pylist()]
    assert lengths == sorted(lengths)
    assert all(found[name].to_pylist() == lengths for name in ODD)


def test_an_order_is_checked_before_the_run():
    docs = read(Lists(FILES, part_rows=15)).then(valued)
    with pytest.raises(MissingColumn, match="letters"):
        check(plan(write({"m": Mix(docs, "twice").ordered("letters")})))
    with pytest.raises(BadPlan, match="cannot be ordered by 'source'"):
        check(plan(write({"m": Mix(docs, "twice").ordered("-source")})))
    both = docs.select(select.uniform(label="u"), rows=3)
    check(plan(write({"up": both.ordered("value"), "any": both})))


# ── places ───────────────────────────────────────────────────────────────────────────────────────────────────────────

NUMBERS = st.one_of(
    st.lists(st.one_of(st.none(), st.floats(allow_nan=True)), max_size=20).map(lambda v: pa.array(v, FLOAT64)),
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=20).map(lambda v: pa.array(v, INT64)),
    st.lists(st.one_of(st.none(), st.integers(0, 2**64 - 1)), max_size=20).map(lambda v: pa.array(v, pa.uint64())),
)


def placed(values, order, copies=None):
    n = len(values)
    return Placing("c", 0, order).of(
        pa.table({
            "key": pa.array([i.to_bytes(16, "big") for i in range(n)], KEY),
            "c": pa.array([1] * n if copies is None else copies, INT32),
            "v": values,
        })
    )  # fmt: skip


@given(NUMBERS, st.sampled_from(["v", "-v"]))
@law
def test_words_sort_as_the_values_do(values, order):
    words = placed(values, order)[WORD].to_pylist()
    plain = [None if v is None or v != v else v for v in values.to_pylist()]
    some = [(w, v) for w, v in zip(words, plain, strict=True) if v is not None]
    for w, v in some:
        for x, u in some:
            assert (w < x) == (v < u if order == "v" else v > u)
    last = [w for w, v in zip(words, plain, strict=True) if v is None]
    assert all(w == 2**64 - 1 for w in last)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 12))
@law
def test_marks_cut_places_as_a_count_does(values, most):
    copies = placed(pa.array(values, INT64), "v")
    parts = [copies.select([WORD, PLACE]).slice(i, 7) for i in range(0, len(copies), 7)]
    kept = fewest(pa.concat_tables([fewest(p, (None, most)) for p in parts]), (None, most))
    assert kept.equals(fewest(copies.select([WORD, PLACE]), (None, most)))  # the same sample, however the parts are cut
    marks = Marks.among([kept])
    pairs = sorted(zip(kept[WORD].to_pylist(), kept[PLACE].to_pylist(), strict=True))
    rows = list(zip(copies[WORD].to_pylist(), copies[PLACE].to_pylist(), strict=True))
    assert marks(copies).tolist() == [sum(p <= row for p in pairs) for row in rows]
    assert marks.buckets == len(pairs) + 1
    cut = marks.before(np.array([0, 1, len(pairs)]))
    assert cut(copies).tolist() == [sum(p <= row for p in (pairs[0], pairs[-1])) for row in rows]


def test_shards_are_even_whatever_the_values():
    """All equal, nearly all equal, and over 600 orders of magnitude."""
    rng = np.random.default_rng(0)
    many = [
        np.ones(20_000),
        np.where(rng.random(20_000) < 0.01, rng.random(20_000), 0),
        10.0 ** rng.uniform(-300, 300, 20_000),
    ]
    for values in many:
        table = pa.table({
            "key": pa.array([bytes(k) for k in rng.integers(0, 256, (20_000, 16), dtype=np.uint8)], KEY),
            "c": pa.array(np.ones(20_000, dtype=np.int32)),
            "v": values,
            "text_bytes": pa.array(np.full(20_000, 10), INT64),
        })  # fmt: skip
        placing = Placing("c", 0, "v")
        marks = Marks.among([mark(table, (placing, marks_for(200_000, 20_000)))])
        starts, rows, total = mixes.cut_shards([mixes.weigh(table, (placing, marks))], 20_000)
        assert (len(starts), rows, total) == (10, 20_000, 200_000)
        sizes = np.bincount(mixes.route(starts, marks)(placing.of(table)), minlength=10)
        assert sizes.min() > 1800 and sizes.max() < 2200  # of 2,000; a step between two of 4,096 marks is 5


def test_copies_of_a_row_have_places_of_their_own():
    found = placed(pa.array([1.0, 2.0]), "-v", copies=[3, 0])
    assert found[COPY].to_pylist() == [0, 1, 2]
    assert len(set(found[PLACE].to_pylist())) == 3
    assert len(set(found[WORD].to_pylist())) == 1


def test_the_card_says_in_which_order_the_shards_are(tmp_path):
    docs = read(Lists(FILES, part_rows=15)).then(valued)
    chosen = Mix(docs, "twice")
    outcome = carry_out(tmp_path, plan(write({"up": chosen.ordered("value"), "any": chosen})))
    cards = {name: " ".join(card.loading(name, outcome.manifest["mixes"][name]["order"])) for name in ("up", "any")}
    assert "in the order of `value`, from the smallest value up, equal values shuffled" in cards["up"]
    assert "one global shuffle" in cards["any"]


@law
@given(st.lists(st.lists(st.text("aé🐍", max_size=9), min_size=1), min_size=1, max_size=4), st.randoms())
def test_texts_of_several_parts_are_gathered_in_one_order(parts, random):
    chosen = [np.sort([random.randrange(len(part)) for _ in range(random.randrange(6))]).astype(int) for part in parts]
    wanted = [part[i] for part, rows in zip(parts, chosen, strict=True) for i in rows]
    order = random.sample(range(len(wanted)), len(wanted))
    columns = [pa.chunked_array([pa.array(["before", *part], TEXT).slice(1)]) for part in parts]
    found = mixes._gathered(list(zip(columns, chosen, strict=True)), np.array(order, dtype=np.int64))
    found.validate(full=True)
    assert found.to_pylist() == [wanted[i] for i in order]
