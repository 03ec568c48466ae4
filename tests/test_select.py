"""Mixes: by hand, and the laws that make them fair controls."""

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import select
from curate.columns import FLOAT32, FLOAT64, INT32, INT64, KEY, TEXT
from curate.errors import BadData, BadPlan, WrongDirection
from curate.stage import Direction, Score
from curate.testing import run_rounds

HIGH, LOW = Direction.HIGH, Direction.LOW
COLOR = Score(FLOAT32, LOW, "nats/token", "mean")
EDU = Score(FLOAT64, HIGH, "probability", "none")


def documents(
    tokens: list[int], *, score: list[float | None] | None = None, source: list[str] | None = None,
    text_bytes: list[int] | None = None, **mixes: list[int],
) -> pa.Table:  # fmt: skip
    n = len(tokens)
    return pa.table({
        "key": pa.array([(i * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128).to_bytes(16, "big") for i in range(n)], KEY),
        "tokens": pa.array(tokens, INT64),
        "color": pa.array(score or [0.0] * n, FLOAT32),
        "source": pa.array(source or ["web"] * n, TEXT),
        "text_bytes": pa.array(text_bytes or [4 * t for t in tokens], INT64),
        **{name: pa.array(copies, INT32) for name, copies in mixes.items()},
    })  # fmt: skip


def mix(selection: select.Selection, *parts: pa.Table) -> tuple[list[int], dict[str, Any]]:
    """The copies, and what was reported; a stage is handed what it reads and nothing else."""
    config = selection.config
    reads = selection.stage.reads(config)
    answer, rows = run_rounds(selection.stage, [t.select(list(reads)).cast(pa.schema(reads)) for t in parts], config)
    assert {name: answer.schema.field(name).type for name in selection.stage.writes(config)} == {config.column: INT32}
    return answer[config.column].to_pylist(), rows.reported


def test_the_best_rows_under_a_token_budget():
    """Low is good: 0.1 costs 3 and 0.2 costs 4; the next, 0.3, would make 9 of 8."""
    docs = documents([4, 3, 1, 2], score=[0.2, 0.1, 0.9, 0.3])
    chosen = select.top("color").with_budget(tokens=8).with_columns({"color": COLOR})
    copies, report = mix(chosen, docs[:2], docs[2:])
    assert copies == [1, 1, 0, 0]
    assert report["cut_value"] == pytest.approx(0.2)
    assert {k: report[k] for k in ("rows", "cost", "budget", "shortfall", "share", "unit")} == {
        "rows": 2, "cost": 7, "budget": 8, "shortfall": 1, "share": 0.7, "unit": "tokens",
    }  # fmt: skip


def test_rows_without_a_score_are_in_neither_end():
    docs = documents([1, 1, 1, 1], score=[None, 0.5, float("nan"), 0.1])
    for inverse in (False, True):
        chosen = select.top("color", inverse=inverse).with_budget(rows=10).with_columns({"color": COLOR})
        copies, report = mix(chosen, docs)
        assert copies == [0, 1, 0, 1]
        assert report["no_score"] == 2


def test_units():
    docs = documents([10, 20, 30], score=[3, 2, 1], text_bytes=[1, 1, 5])
    best = select.top("color", keep=HIGH)
    assert mix(best.with_budget(bytes=2), docs)[0] == [1, 1, 0]
    assert mix(best.with_budget(rows=1), docs)[0] == [1, 0, 0]
    assert mix(best.with_budget(share=0.5), docs)[0] == [1, 1, 0]            # 30 of 60 tokens
    assert mix(best.with_budget(share=0.4999), docs)[0] == [1, 0, 0]
    assert mix(best.with_budget(share=0), docs)[0] == [0, 0, 0]


def test_directions_are_the_scores_own_unless_stated():
    columns = {"color": COLOR, "edu": EDU, "words": INT64}
    assert select.top("color").config.directions() == {}
    assert select.top("color").with_columns(columns).config.directions() == {"color": LOW}
    assert select.top("edu").with_columns(columns).config.reads()["edu"] == FLOAT64
    assert select.top("color", inverse=True).with_columns(columns).config.directions() == {"color": HIGH}
    assert select.top("color", keep=HIGH).with_columns(columns).config.directions() == {"color": HIGH}
    assert select.top("words").with_columns(columns).config.keep is None
    assert select.uniform(label="r").with_columns(columns).config.directions() == {}
    with pytest.raises(WrongDirection, match="good end"):
        select.top("color", keep=LOW, inverse=True).with_columns(columns)


def test_the_inverse_takes_the_other_end():
    docs = documents([1] * 4, score=[0.2, 0.1, 0.9, 0.3])
    best = select.top("color", column="best").with_budget(tokens=2).with_columns({"color": COLOR})
    worst = select.top("color", inverse=True).with_budget(tokens=2).with_columns({"color": COLOR})
    assert mix(best, docs)[0] == [1, 1, 0, 0]
    assert mix(worst, docs)[0] == [0, 0, 1, 1]


def test_a_second_draw_is_disjoint():
    docs = documents([1] * 500)
    first, _ = mix(select.uniform(label="random").with_budget(tokens=100), docs)
    docs = docs.append_column("copies_random", pa.array(first, INT32))
    again = select.uniform(label="again", without="copies_random", column="copies_again").with_budget(tokens=100)
    second, report = mix(again, docs[:200], docs[200:])
    assert sum(first) == sum(second) == 100
    assert not any(a and b for a, b in zip(first, second, strict=True))
    assert report["outside"] == 100


def test_a_matched_draw_has_the_shares_of_the_sources():
    rng = np.random.default_rng(0)
    source = rng.choice(["web", "books", "wiki", "unused"], 2000, p=[0.6, 0.2, 0.1, 0.1]).tolist()
    tokens = rng.integers(1, 20, 2000).tolist()
    chosen = [int(s == "books" or (s == "web" and i % 7 == 0)) for i, s in enumerate(source)]
    docs = documents(tokens, source=source, copies_color=chosen)
    draw = select.matched(to="copies_color", label="like", column="copies_like")
    copies, report = mix(draw, docs[:700], docs[700:])
    spent = {s: sum(t for t, x, c in zip(tokens, source, copies, strict=True) if c and x == s) for s in set(source)}
    wanted = {s: sum(t for t, x, c in zip(tokens, source, chosen, strict=True) if c and x == s) for s in set(source)}
    assert spent["books"] == wanted["books"]                                     # all books are in the mix
    assert abs(spent["web"] - wanted["web"]) < 20                                # within one document
    assert spent["wiki"] == spent["unused"] == 0
    assert copies != chosen
    assert sum(spent.values()) <= report["budget"] == sum(wanted.values())
    assert report["strata"] == 2
    half, report = mix(draw.with_budget(tokens=1001), docs)                      # the same shares of another budget
    assert report["budget"] == 1001
    books = sum(t for t, x, c in zip(tokens, source, half, strict=True) if c and x == "books")
    assert books == pytest.approx(1001 * wanted["books"] / sum(wanted.values()), abs=20)


def test_a_matched_draw_has_the_deciles_of_length():
    rng = np.random.default_rng(1)
    sizes = np.exp(rng.normal(7, 1, 6000)).astype(int) + 1
    chosen = (rng.random(6000) < np.where(sizes > 2000, 0.3, 0.02)).astype(int)         # long texts are preferred
    docs = documents((sizes // 4 + 1).tolist(), text_bytes=sizes.tolist(), copies_color=chosen.tolist())
    copies, report = mix(select.matched(to="copies_color", by="length", label="like"), docs[:999], docs[999:])
    drawn = np.array(copies) > 0
    assert report["strata"] == 10
    assert report["strata_exhausted"] == 0
    assert report["cost"] == pytest.approx(report["budget"], rel=0.002)
    assert sizes[drawn].min() >= sizes[chosen > 0].min() * 0.99
    assert sizes[drawn].max() <= sizes[chosen > 0].max() * 1.01
    for q in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert np.quantile(sizes[drawn], q) == pytest.approx(np.quantile(sizes[chosen > 0], q), rel=0.1)
    assert np.median(sizes[drawn]) > 1.5 * np.median(sizes)                             # a uniform draw would not do


@pytest.fixture
def shape_of(tmp_path):
    def learned(table, by):
        config = select.Shape(by=by)
        reads = [*select.shape.reads, "key"]
        parts = [select.shape.of_part(t.select(reads), config, {}) for t in (table[:3], table[3:])]
        out = tmp_path / by
        out.mkdir()
        return out, select.shape(pa.concat_tables(parts), config, out)

    return learned


def drawn(pool, like, amount):
    config = select.Like(label="like", amount=amount)
    answer, rows = run_rounds(select.take_like, [pool.select(list(config.reads()))], config, like=like)
    return np.array(answer[config.column].to_pylist()), rows.reported


def test_a_draw_like_other_documents_has_their_sources(shape_of):
    """They have 300 bytes of books and 100 of the web, so a draw of 800 takes 600 and 200."""
    other = documents([25] * 4, source=["book", "web", "book", "book"])
    like, learned = shape_of(other, "source")
    assert learned == {"rows": 4, "bytes": 400, "strata": 2}
    pool = documents([5] * 300, source=["web", "book", "code"] * 100)
    copies, report = drawn(pool, like, 800)
    taken = np.array(pool["source"].to_pylist())[copies > 0].tolist()
    assert {name: 20 * taken.count(name) for name in ("web", "book", "code")} == {"web": 200, "book": 600, "code": 0}
    assert report["cost"] == 800 and report["unit"] == "text_bytes"


def test_a_draw_like_other_documents_has_their_lengths(shape_of):
    other = documents([1] * 40, text_bytes=[*range(100, 120), *range(200, 220)])
    like, _ = shape_of(other, "length")
    pool = documents([1] * 2000, text_bytes=[100 + i % 200 for i in range(2000)])
    copies, report = drawn(pool, like, 20_000)
    sizes = np.array(pool["text_bytes"].to_pylist())[copies > 0]
    # Deciles 1 to 5 end at 119; the sixth reaches from there to 203, so that lengths between them take part in it.
    assert sizes.min() >= 100 and sizes.max() <= 219
    short = sizes[sizes <= 119].sum() / sizes.sum()
    assert abs(short - sum(range(100, 120)) / (sum(range(100, 120)) + sum(range(200, 220)))) < 0.02
    assert report["shortfall"] < 220


def test_a_draw_like_nothing_is_refused(shape_of):
    like, _ = shape_of(documents([1] * 4, text_bytes=[0] * 4), "source")
    with pytest.raises(BadData, match="to draw after is empty"):
        drawn(documents([5] * 3), like, 10)


def test_what_a_matched_draw_lacks_is_reported():
    docs = documents([5, 5, 1, 1], source=["a", "a", "b", "b"], copies_x=[1, 1, 0, 1])
    draw = select.matched(to="copies_x", label="like")
    copies, report = mix(draw.with_budget(tokens=40), docs)
    assert copies == [1, 1, 1, 1]
    assert (report["strata_exhausted"], report["shortfall_exhausted"], report["shortfall"]) == (2, 28, 28)
    with pytest.raises(BadData, match="is empty"):
        mix(draw, documents([1, 1], copies_x=[0, 0]))


@given(amount=st.integers(0, 10**15), weights=st.lists(st.integers(0, 10**12), min_size=1).filter(sum))
def test_shares_sum_to_the_amount(amount, weights):
    parts = select.shared(amount, weights)
    assert sum(parts) == amount
    assert all(abs(p * sum(weights) - amount * w) < sum(weights) for p, w in zip(parts, weights, strict=True))


@given(st.lists(st.integers(0, 2**50), min_size=1))
def test_length_buckets_keep_the_order_to_one_percent(sizes):
    sizes = np.array(sorted(sizes), dtype=np.int64)
    buckets = select.length_bucket(sizes)
    assert (np.diff(buckets) >= 0).all()
    same = np.flatnonzero(np.diff(buckets) == 0)
    assert (sizes[same + 1] <= sizes[same] * (1 + 1 / 128)).all()


def test_length_buckets_by_hand():
    """255 is the last exact size; 256 and 257 share a bucket; 512..515 share one, 128 buckets an octave."""
    assert select.length_bucket(np.array([0, 1, 255, 256, 257, 258, 512, 515, 516])).tolist() == [
        0, 1, 255, 256, 256, 257, 384, 384, 385,
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 9), min_size=1, max_size=30), at=st.integers(0, 30), amount=st.integers(0, 200),
    kind=st.sampled_from(["top", "uniform", "source", "length"]),
)  # fmt: skip
def test_a_partition_changes_nothing_and_no_budget_is_passed(tokens, at, amount, kind):
    docs = documents(tokens, score=[t % 3 for t in tokens], source=["ab"[t % 2] for t in tokens], x=[1] * len(tokens))
    if kind in ("source", "length") and not sum(tokens):
        return
    chosen = {
        "top": select.top("color", keep=HIGH), "uniform": select.uniform(label="r"),
        "source": select.matched(to="x", label="r"), "length": select.matched(to="x", by="length", label="r"),
    }[kind].with_budget(tokens=amount)  # fmt: skip
    whole, report = mix(chosen, docs)
    assert mix(chosen, docs[:at], docs[at:]) == (whole, report)
    spent = sum(t for t, c in zip(tokens, whole, strict=True) if c)
    assert spent == report["cost"] <= amount
    assert pickle.loads(pickle.dumps(chosen.config)) == chosen.config


def test_wrong_budgets_are_errors():
    with pytest.raises(BadPlan, match="budget"):
        select.uniform(label="r").with_budget(words=3)
    with pytest.raises(BadPlan, match="whole"):
        select.uniform(label="r").with_budget(tokens=1.5)
    with pytest.raises(BadPlan, match="share"):
        select.uniform(label="r").with_budget(share=1.5)
    with pytest.raises(BadPlan, match="without a budget"):
        mix(select.uniform(label="r"), documents([1]))
    with pytest.raises(BadPlan, match="which end"):
        mix(select.top("color").with_budget(rows=1), documents([1]))
