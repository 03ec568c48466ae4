"""Exchanges at other sizes: two levels, split buckets and merged tables give the same bytes as the simple form."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from test_run import FILES, carry_out, mix, recipe
from toys import Lists, same_size

from curate import buckets, exact, exchange, minhash, select
from curate.buckets import (
    ByKey,
    Limits,
    TooLarge,
    layout,
    put_buckets,
    shelve,
    stable_order,
    taken,
    whole_groups,
)
from curate.columns import ADDRESS, INT64, UINT64
from curate.engines.dask import Dask
from curate.errors import BadPlan, PartFailed
from curate.hashing import mix64
from curate.plan import Mix, plan, read, write
from curate.run import run
from curate.stage import Grain, Rows, stage
from curate.store import Store
from curate.testing import MemoryRows, run_rounds

MANY = {f"f{i:02d}": tuple(f"{'abcdefg'[(i * k) % 7] * (1 + k % 5)} {i}" for k in range(4)) for i in range(12)}


@pytest.fixture
def small(monkeypatch):
    """Limits so small that a dozen parts need two levels of everything."""
    monkeypatch.setattr(buckets, "MOST", 2)
    monkeypatch.setattr(exchange, "MOST", 2)
    monkeypatch.setattr(exchange, "GROUP_BYTES", 1)
    monkeypatch.setattr(exchange, "GROUP_MOST", 1)
    monkeypatch.setattr(exchange, "BUCKET_BYTES", 2000)
    monkeypatch.setattr(exchange, "MERGE", 2)


def near(files):
    docs = read(Lists(files, part_rows=2)).then(exact.duplicates).then(minhash.near_duplicates)
    docs = docs.then(same_size)
    columns = ["exact_copies", "near_cluster_size", "same_size"]
    mix = docs.select(select.uniform(label="r"), rows=20)
    return plan(write({"m": mix}, columns=columns, shard_bytes=40))


@pytest.mark.parametrize("make", [recipe, lambda: recipe(MANY), lambda: near(MANY), lambda: near(FILES)])
def test_two_levels_give_the_same_bytes(tmp_path, make, small, monkeypatch):
    two = carry_out(tmp_path / "two", make()).manifest
    monkeypatch.undo()
    one = carry_out(tmp_path / "one", make()).manifest
    assert two["values"] == one["values"]
    found = {p.name.split("-")[0] for p in (tmp_path / "two" / "steps").rglob("exchange/**/*") if p.is_file()}
    assert {"mid", "run"} & found, "the limits were not small enough to matter"


def test_two_levels_on_dask(tmp_path, small, monkeypatch):
    def never():
        raise AssertionError("the engine was opened")

    store = Store(str(tmp_path / "two"))
    two = run(near(MANY), name="toy", store=store, open_engine=lambda: Dask(workers=2)).manifest
    assert run(near(MANY), name="toy", store=store, open_engine=never).computed == 0
    monkeypatch.undo()
    assert two["values"] == carry_out(tmp_path / "one", near(MANY)).manifest["values"]


@pytest.mark.parametrize(("files", "count"), [(1, 1), (2, 2), (2, 3), (3, 2), (5, 1), (7, 9), (4, 4), (9, 30)])
def test_a_bucket_holds_its_records_in_order(tmp_path, monkeypatch, files, count):
    monkeypatch.setattr(buckets, "MOST", 2 if files * count < 200 else 6)
    store, route = Store(str(tmp_path)), ByKey("k", count)
    keys = np.arange(60, dtype=np.uint64) * 7919 % 23
    table = pa.table({"k": keys, "n": np.arange(60)})
    chosen = layout(route, files)
    assert (chosen.run is None) == (files <= buckets.MOST and count <= buckets.MOST)
    paths = []
    for i, piece in enumerate(np.array_split(np.arange(60), files)):
        some = table.take(pa.array(piece))
        paths.append(put_buckets(store, f"x/map-{i}", some, chosen.first(some))["path"])

    def carry(task, items, **_):
        return [task(item) for _, item in items]

    shelf = shelve(store, "x", paths, chosen, carry, "test")
    sizes, rows = shelf.sizes()
    assert int(rows.sum()) == 60 and (sizes[rows > 0] > 0).all()
    for bucket in range(count):
        wanted = table.filter(pa.array(route(table) == bucket))["n"].to_pylist()
        assert [n for t in shelf.read(bucket) for n in t["n"].to_pylist()] == wanted
    assert shelf.read(10**6) == []


def test_a_large_bucket_is_split_into_whole_groups(tmp_path):
    store = Store(str(tmp_path))
    keys = np.concatenate([np.arange(200) % 50, np.full(400, 7)]).astype(np.uint64)
    keys = keys[np.argsort(np.arange(600) * 7919 % 601)]
    tables = [pa.table({"k": keys[i::3], "n": np.arange(600)[i::3]}) for i in range(3)]
    paths = [put_buckets(store, f"{i}", t, np.zeros(len(t), int))["path"] for i, t in enumerate(tables)]
    ranges = [(p, *store.get_json(f"{p}.index")[0][1:3]) for p in paths]
    size, width = 16 * 600, 16
    whole = pa.concat_tables(tables)

    def of(key, found):
        return [n for t, _ in found for n in t.filter(pc.equal(t["k"], key))["n"].to_pylist()]

    for limits in (Limits(800, 900, 10**6), Limits(200, 200, 10**6), Limits(10**6, 10**6, 10**6)):
        found = list(whole_groups(store, ranges, size, "k", limits, pieces=False))
        assert sum(t.num_rows for t, _ in found) == 600
        for key in range(50):
            assert sum(key in t["k"].to_pylist() for t, _ in found) == 1, "a group is in one call"
            assert of(key, found) == whole.filter(pc.equal(whole["k"], key))["n"].to_pylist()
        assert all((np.diff(t["k"].to_numpy().astype(int)) >= 0).all() for t, _ in found)
    limits = Limits(100 * width, 110 * width, 300 * width)
    with pytest.raises(TooLarge) as raised:
        list(whole_groups(store, ranges, size, "k", limits, pieces=False))
    assert raised.value.key == 7 and raised.value.size == pytest.approx(404 * width)
    found = list(whole_groups(store, ranges, size, "k", limits, pieces=True))
    assert of(7, found) == whole.filter(pc.equal(whole["k"], 7))["n"].to_pylist()
    assert [piece for _, piece in found].count(True) == 3 and max(t.num_rows for t, _ in found) <= 334


def test_a_group_that_is_too_large_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "BUCKET_BYTES", 50)
    monkeypatch.setattr(exchange, "SPLIT_BYTES", 100)
    monkeypatch.setattr(exchange, "KEY_BYTES", 200)
    docs = read(Lists({"a": tuple("x" * 3 for _ in range(40))})).then(same_size)
    with pytest.raises(PartFailed, match=r"records share size = 3, more than one task may hold"):
        carry_out(tmp_path, plan(write({"m": docs.select(select.uniform(label="r"), rows=2)})))


# ── components by label propagation, in files until nothing changes ──────────────────────────────────────────────────


def _edges(rows: pa.Table, given: Any) -> pa.Table:
    """The key by which rows belong together: the last letter."""
    letter = [ord(t[-1]) for t in rows["text"].to_pylist()]
    return pa.table({"by": pa.array(letter, UINT64), ADDRESS: rows[ADDRESS]})


def _table(edges: set[tuple[int, int]]) -> pa.Table:
    """Edges, with a mark by whose sum two sets of them can be told apart."""
    found = sorted(edges)
    a, b = (np.array([e[i] for e in found], np.uint64) for i in (0, 1))
    mark = (mix64(mix64(a) ^ b) >> np.uint64(32)).astype(np.int64)
    return pa.table({"a": a, "b": b, "mark": np.where(a == b, 0, mark)})


def _groups(records: pa.Table, value: str) -> list[tuple[int, list[int]]]:
    found: dict[int, list[int]] = {}
    for by, to in zip(records["by"].to_pylist(), records[value].to_pylist(), strict=True):
        found.setdefault(by, []).append(to)
    return list(found.items())


def _chain(records: pa.Table, given: Any) -> pa.Table:
    """Each row of a group is joined to itself and to the next one: a path, the slowest case there is."""
    edges = set()
    for _, rows in _groups(records, ADDRESS):
        edges |= {(row, row) for row in rows} | set(itertools.pairwise(rows))
    return _table(edges)


def _both(edges: pa.Table, given: Any) -> pa.Table:
    a, b = edges["a"].to_numpy(), edges["b"].to_numpy()
    return pa.table({"by": np.concatenate([a, b]), "to": np.concatenate([b, a])})


def _large_star(records: pa.Table, given: Any) -> pa.Table:
    """Kiveris et al. 2014: every neighbour above a node is joined to the least of its neighbourhood."""
    edges = set()
    for node, near in _groups(records, "to"):
        edges |= {(node, node)} | {(to, min(node, *near)) for to in near if to > node}
    return _table(edges)


def _down(edges: pa.Table, given: Any) -> pa.Table:
    a, b = edges["a"].to_numpy(), edges["b"].to_numpy()
    return pa.table({"by": np.maximum(a, b), "to": np.minimum(a, b)})


def _small_star(records: pa.Table, given: Any) -> pa.Table:
    """Every neighbour below a node, and the node, is joined to the least of them."""
    edges = set()
    for node, near in _groups(records, "to"):
        edges |= {(node, node)} | {(to, min(near)) for to in [*near, node]}
    return _table(edges)


def _by_row(edges: pa.Table, given: Any) -> pa.Table:
    return pa.table({"by": edges["a"], "root": edges["b"]})


def _least(records: pa.Table, given: Any) -> pa.Table:
    found = records.group_by("by").aggregate([("root", "min")]).sort_by("by")
    return pa.table({ADDRESS: found["by"], "component": found["root_min"]})


def _with_size(rows: pa.Table, given: Any) -> pa.Table:
    return rows


def _count(records: pa.Table, given: Any) -> pa.Table:
    values, inverse, counts = np.unique(records["component"].to_numpy(), return_inverse=True, return_counts=True)
    return pa.table({ADDRESS: records[ADDRESS], "component": values[inverse], "members": counts[inverse]})


@stage(reads={"text": pa.large_string()}, writes={"component": UINT64, "members": INT64}, grain=Grain.GROUP,
       rounds=True, version="1")  # fmt: skip
def components(rows: Rows) -> Any:
    """Rows whose texts end alike, found without anything being gathered."""
    edges = rows.exchange_in_files(_edges, _chain, reads=["text"], by="by", label="edges", count=["mark"])
    turn = 0
    before: dict[str, int] = {}
    while before != edges.sums:
        before = dict(edges.sums)
        edges = rows.exchange_in_files(_both, _large_star, of=edges, by="by", label=f"large {turn}")
        edges = rows.exchange_in_files(_down, _small_star, of=edges, by="by", label=f"small {turn}", count=["mark"])
        turn += 1
    found = rows.exchange_to_parts(_by_row, _least, of=edges, by="by", label="roots")
    rows.report({"rows": found.rows, "turns": turn})
    return rows.exchange_to_parts(_with_size, _count, by="component", label="members", alongside=found)


def joined(files):
    return plan(write({"m": Mix(read(Lists(files, part_rows=3)).then(components).then(ones), "n")},
                      columns=["component", "members"]))  # fmt: skip


@stage(reads={"members": INT64}, writes={"n": pa.int32()}, grain=Grain.EACH, version="1")
def ones(docs: pa.Table) -> pa.Table:
    """Every row once."""
    return pa.table({"n": np.ones(docs.num_rows, np.int32)})


ENDS = {f"f{i:02d}": tuple(f"{k}{'abcab'[(i + k) % 5]}" for k in range(5)) for i in range(8)}


def test_components_until_nothing_changes(tmp_path, small, monkeypatch):
    outcome = carry_out(tmp_path / "two", joined(ENDS))
    rows = mix(tmp_path / "two", outcome, "m").to_pylist()
    assert len(rows) == 40 and {(r["text"][-1], r["members"]) for r in rows} == {("a", 16), ("b", 16), ("c", 8)}
    assert len({r["component"] for r in rows}) == 3
    [step] = [s for s in outcome.manifest["steps"] if s["label"] == "test_exchange.components"]
    assert step["report"]["rows"] == 40 and step["report"]["turns"] > 1
    monkeypatch.undo()
    assert carry_out(tmp_path / "one", joined(ENDS)).manifest["values"] == outcome.manifest["values"]
    dask = run(joined(ENDS), name="toy", store=Store(str(tmp_path / "dask")), open_engine=lambda: Dask(workers=2))
    assert dask.manifest["values"] == outcome.manifest["values"]


def test_components_in_memory():
    parts = [pa.table({"text": pa.array(texts, pa.large_string())}) for texts in ENDS.values()]
    answer, _ = run_rounds(components, parts, None)
    again, _ = run_rounds(components, [pa.concat_tables(parts[:3]), *parts[3:]], None, buckets=1)
    assert sorted(answer["members"].to_pylist()) == sorted(again["members"].to_pylist()) == [8] * 8 + [16] * 32


def test_what_stands_in_place_of_rows_stands_alone(tmp_path):
    @stage(reads={"text": pa.large_string()}, writes={"n": pa.int32()}, grain=Grain.GROUP, rounds=True, version="1")
    def wrong(rows: Rows) -> pa.Table:
        """Asks for columns of rows that it does not send."""
        left = rows.exchange_in_files(_edges, _chain, reads=["text"], by="by", label="edges")
        return rows.exchange(_both, _large_star, of=left, reads=["text"], by="by", label="again")

    wrong.fn.__qualname__ = "wrong"
    docs = Mix(read(Lists(ENDS)).then(wrong), "n")
    with pytest.raises(BadPlan, match="in place of the rows"):
        carry_out(tmp_path, plan(write({"m": docs})))


def test_tables_of_parts_are_merged():
    rows = MemoryRows([pa.table({"x": [i, i]}) for i in range(5)])

    def one(table, given):
        return pa.table({"sum": [pc.sum(table["x"]).as_py()]})

    def merged(table, given):
        return pa.table({"sum": [pc.sum(table["sum"]).as_py()]})

    [found] = rows.map(one, reads=["x"], label="sums", merge=merged)
    assert found["sum"].to_pylist() == [20]


@pytest.mark.parametrize("rows", [0, 1, 2, 40, 2000])
def test_taken_and_stable_order_are_those_of_arrow_and_numpy(rows):
    chance = np.random.default_rng(rows)
    for most in (1, 3, 1 << 40):
        keys = chance.integers(0, most, rows).astype(np.uint64)
        assert stable_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()
    ends = np.append(0, np.cumsum(chance.integers(0, 5, rows)))
    lists = pa.LargeListArray.from_arrays(ends, pa.array(chance.integers(0, 9, ends[-1]).astype(np.uint64)))
    table = pa.table({"key": keys, "set": lists, "text": pa.array([str(i) for i in range(rows)])})
    for each in (table, table.slice(rows // 3)):
        order = chance.permutation(len(each))[: max(1, rows - 5)]
        assert taken(each, order).equals(each.take(pa.array(order)))
