"""Dataset decomposition: powers of two, tokens conserved, steps of one size, odds as asked for."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.train import data, decomposition
from curate.train.decomposition import Decomposed, decompose, schedule
from curate.train.orders import Sorted, Subset

SEP = 9999


def numbered(lengths):
    ids = np.arange(sum(lengths), dtype=np.uint32)
    return data.pack(np.split(ids, np.cumsum(lengths)[:-1]), SEP)


def test_pieces_are_the_binary_digits():
    """Every length from 1 to 20,000: its bits from 2^8 to 2^13, above that as many of 8,192 as it has."""
    lengths = np.arange(1, 20_001)
    buckets = decompose(lengths, 256, 8192)
    rows = np.diff(buckets.offsets)
    assert rows.tolist() == [sum(n >> k & 1 for n in range(1, 20_001)) for k in range(8, 13)] + [
        sum(n >> 13 for n in range(1, 20_001))
    ]
    assert buckets.dropped == sum(n & 255 for n in range(1, 20_001))
    assert int(buckets.pieces.size.sum()) + buckets.dropped == lengths.sum()


def test_cuts_worked_out_by_hand():
    """13 = 8 + 4 + 1: with rows of 2 to 8, the last one is dropped; 21 = 8 + 8 + 4 + 1; 3 = 2 + 1."""
    buckets = decompose(np.array([13, 21, 3]), 2, 8)
    pieces = list(zip(*(column.tolist() for column in buckets.pieces), strict=True))
    assert buckets.offsets.tolist() == [0, 1, 3, 6]
    assert pieces == [(2, 0, 2), (0, 8, 4), (1, 16, 4), (0, 0, 8), (1, 0, 8), (1, 8, 8)]
    assert buckets.dropped == 3


@settings(max_examples=100)
@given(
    lengths=st.lists(st.integers(0, 300), max_size=20), low=st.integers(0, 3), more=st.integers(0, 3),
    random=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
def test_no_token_is_in_two_pieces_and_few_are_in_none(lengths, low, more, random, seed):
    lengths = np.array(lengths, dtype=np.int64)
    known = np.arange(len(lengths), dtype=np.uint64) if random else None
    buckets = decompose(lengths, 1 << low, 1 << (low + more), random=known, seed=seed)
    document, first, size = buckets.pieces
    seen = Counter((d, f + i) for d, f, n in zip(document, first, size, strict=True) for i in range(n))
    assert set(seen.values()) <= {1}
    assert all(0 <= place < lengths[d] for d, place in seen)
    assert len(seen) + buckets.dropped == lengths.sum()
    assert buckets.dropped == (lengths & ((1 << low) - 1)).sum()


def test_random_cuts_give_each_length_as_many_tokens():
    """Rows of 1 to 8, documents much longer: each of four lengths gets a quarter of the tokens; the odds halve."""
    lengths, known = np.full(2000, 1024), np.arange(2000, dtype=np.uint64)
    buckets = decompose(lengths, 1, 8, random=known)
    tokens = np.diff(buckets.offsets) * np.array([1, 2, 4, 8])
    assert tokens / tokens.sum() == pytest.approx([0.25] * 4, rel=0.02)
    other = decompose(lengths, 1, 8, random=known, seed=1)
    assert not np.array_equal(buckets.pieces.size, other.pieces.size)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(1, 6), st.integers(0, 5), st.integers(0, 3))
def test_every_cycle_has_its_share_of_every_bucket(steps, cycles, seed, epoch):
    steps = np.array(steps, dtype=np.int64)
    order = schedule(steps, 2.0 ** -np.arange(len(steps)), cycles, seed, epoch)
    assert np.bincount(order, minlength=len(steps)).tolist() == steps.tolist()
    at = 0
    for cycle in range(cycles):
        share = (cycle + 1) * steps // cycles - cycle * steps // cycles
        mine = order[at : at + int(share.sum())]
        assert np.bincount(mine, minlength=len(steps)).tolist() == share.tolist()
        at += len(mine)


def test_the_odds_of_the_first_step():
    """Remaining steps times odds: 10 x 4, 20 x 2, 20 x 1 of 100."""
    first = [int(schedule(np.array([10, 20, 20]), np.array([4.0, 2.0, 1.0]), 1, seed, 0)[0]) for seed in range(1500)]
    assert np.bincount(first) / 1500 == pytest.approx([0.4, 0.4, 0.2], abs=0.04)


def test_short_rows_come_first():
    steps = np.full(6, 60)
    for name, falls in (("grow_p2", -1), ("grow_p100", -1), ("shrink_p100", 1)):
        odds = decomposition._odds(name, 6)
        order = schedule(steps, odds, 1, 0, 0)
        means = [np.flatnonzero(order == b).mean() for b in range(6)]
        assert all(np.sign(b - a) == -falls for a, b in pairwise(means)), name
    assert decomposition._odds("grow_p2", 6).tolist() == [32, 16, 8, 4, 2, 1]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_an_epoch_reads_every_full_row_once(draw):
    lengths = draw.draw(st.lists(st.integers(0, 40), min_size=30, max_size=60).filter(lambda found: sum(found) > 100))
    tokens = numbered(lengths)
    long = draw.draw(st.sampled_from(["whole", "random"]))
    seed = draw.draw(st.integers(0, 9))
    settings = {"smallest": 2, "largest": 8, "cycles": 3, "epochs": 2, "long": long, "seed": seed}
    feed, again = Decomposed(tokens, 8, **settings), Decomposed(tokens, 8, **settings)
    report = feed.report
    per_epoch = feed.steps // 2
    assert sum(report.steps.values()) == per_epoch
    assert sum(n * length for length, n in report.rows.items()) + report.short == report.tokens == sum(lengths) + len(
        lengths
    )
    for epoch in range(2):
        seen = Counter()
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            batch = feed.batch(step)
            assert batch.tokens == 8
            assert batch.documents is None and batch.weights is None
            seen.update((a, b) for row in batch.ids.tolist() for a, b in pairwise(row))
        inner = {pair: n for pair, n in seen.items() if SEP not in pair}
        assert all(n == 1 and b == a + 1 for (a, b), n in inner.items())
        assert seen.total() == report.tokens - report.short - report.left
    for step in reversed(range(feed.steps)):
        assert np.array_equal(again.batch(step).ids, feed.batch(step).ids)


def test_epochs_differ_and_orders_are_followed():
    tokens = numbered([40] * 50)
    feed = Decomposed(tokens, 16, smallest=4, largest=16, epochs=2)
    batches = [feed.batch(s).ids.tolist() for s in range(feed.steps)]
    assert batches[: feed.steps // 2] != batches[feed.steps // 2 :]
    scores = np.arange(50, dtype=float)[::-1]
    ordered = Decomposed(
        tokens, 16, smallest=4, largest=16, order=Sorted(documents=50, scores=scores, easy="low"), cycles=1
    )
    longest = [row for s in range(ordered.steps) for row in ordered.batch(s).ids.tolist() if len(row) == 17]
    assert [row[1] // 40 for row in longest] == sorted((row[1] // 40 for row in longest), reverse=True)
    some = Decomposed(tokens, 16, smallest=4, largest=16, order=Subset(documents=50, share=0.5), epochs=2)
    assert 0.85 < some.epochs < 1.05
    assert some.identity() != feed.identity()


def test_a_report_in_words():
    feed = Decomposed(numbered([4, 8, 12]), 8, smallest=4, largest=8, end=False)
    assert str(feed.report) == (
        "rows: 2 of 4, 2 of 8; dropped 0.00% of 24 tokens (0 in short pieces, 0 in steps that were not full)"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"smallest": 3}, "give two powers of two"),
        ({"smallest": 16, "largest": 8}, "give two powers of two"),
        ({"tokens_per_step": 12}, "do not hold whole rows of 8"),
        ({"curriculum": "steep"}, "no curriculum 'steep'; use one of: uniform, grow_p2"),
        ({"curriculum": [1, 2]}, "2 odds for 3 lengths"),
        ({"curriculum": [1, 2, 0]}, "3 odds for 3 lengths"),
        ({"cycles": 0}, "at least one cycle"),
        ({"long": "never"}, "long='never'"),
        ({"tokens_per_step": 800}, "fill no step of 800"),
        ({"order": Subset(documents=4, share=0.5)}, "the order is of 4 documents, the tokens are 3"),
    ],
)
def test_what_cannot_be_decomposed(given, message):
    with pytest.raises(ValueError, match=message):
        Decomposed(numbered([4, 8, 12]), **{"tokens_per_step": 8, "smallest": 2, "largest": 8, **given})
