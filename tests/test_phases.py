"""Feeds made of feeds, with feeds that say which step of whom was read."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.train.feed import Batch
from curate.train.phases import Beside, Leg, Relay


@dataclass(frozen=True, eq=False)
class Told:
    """Rows filled with 100 times its number plus the step."""

    number: int
    steps: int
    rows: int = 2
    width: int = 4
    epochs: float = 1.0
    masked: bool = False

    def batch(self, step):
        assert 0 <= step < self.steps
        ids = np.full((self.rows, self.width + 1), 100 * self.number + step, dtype=np.uint16)
        if not self.masked:
            return Batch(ids)
        documents = np.ones(ids.shape, dtype=np.int32)
        return Batch(ids, documents, np.full((self.rows, self.width), 0.5, dtype=np.float32))

    def identity(self):
        return {"told": self.number, "steps": self.steps}


def read(feed):
    return [int(feed.batch(step).ids[0, 0]) for step in range(feed.steps)]


def test_nine_tenths_and_then_the_rest():
    """The border of MeCo's cool-down: 36,000 of 40,000 steps, here 9 of 10."""
    relay = Relay([Leg(feed=Told(1, 20), share=0.9), Leg(feed=Told(2, 5), share=0.1)], steps=10)
    assert read(relay) == [100, 101, 102, 103, 104, 105, 106, 107, 108, 200]
    assert relay.borders == (0, 9, 10)
    assert (relay.at(8), relay.at(9)) == ((0, 8), (1, 0))
    big = Relay([Leg(feed=Told(1, 36_000), share=0.9), Leg(feed=Told(2, 4_000), share=0.1)], steps=40_000)
    assert (big.at(35_999), big.at(36_000)) == ((0, 35_999), (1, 0))
    assert relay.epochs == pytest.approx(9 / 20 + 1 / 5)


def test_a_leg_goes_on_where_its_feed_was_left():
    base, other = Told(1, 9), Told(2, 9)
    legs = [Leg(feed=base, share=1), Leg(feed=other, share=1), Leg(feed=base, share=1)]
    assert read(Relay(legs, steps=6)) == [100, 101, 200, 201, 102, 103]
    legs[2] = Leg(feed=base, share=1, start=0)
    assert read(Relay(legs, steps=6)) == [100, 101, 200, 201, 100, 101]


@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=5), st.integers(120, 400))
@settings(deadline=None, max_examples=40)
def test_shares_hold_to_a_step(shares, steps):
    relay = Relay([Leg(feed=Told(i, 400), share=s) for i, s in enumerate(shares)], steps=steps)
    lengths = np.diff(relay.borders)
    assert lengths.sum() == steps
    assert (abs(lengths - steps * np.array(shares) / sum(shares)) <= 1).all()


def test_identities_hold_what_decides():
    def made(share=0.5, steps=4, start=None):
        return Relay([Leg(feed=Told(1, 9), share=share), Leg(feed=Told(2, 9), share=0.5, start=start)], steps=steps)

    told = [json.dumps(dict(r.identity())) for r in (made(), made(), made(1.5), made(steps=6), made(start=1))]
    assert told[0] == told[1]
    assert len(set(told)) == 4
    # A share that gives the same steps is the same run.
    assert made(0.51).identity() == made().identity()


def test_rows_stand_beside_each_other():
    both = Beside([Told(1, 3, rows=3), Told(2, 3, rows=1, masked=True)])
    batch = both.batch(2)
    assert batch.ids[:, 0].tolist() == [102, 102, 102, 202]
    assert batch.documents.tolist() == [[0] * 5] * 3 + [[1] * 5]
    assert batch.weights.tolist() == [[1.0] * 4] * 3 + [[0.5] * 4]
    assert Beside([Told(1, 3), Told(2, 3)]).batch(0).documents is None
    assert both.steps == 3


def test_epochs_beside_each_other_are_weighed_by_their_text():
    """15 ids of a feed that is read once and 5 of one that is read 5 times: 20 of 15 + 1."""
    assert Beside([Told(1, 3, rows=3), Told(2, 3, rows=1, epochs=5.0)]).epochs == 20 / 16


def test_they_nest():
    anneal = Beside([Told(1, 9, rows=1), Told(2, 9, rows=1)])
    relay = Relay([Leg(feed=Told(3, 9), share=3), Leg(feed=anneal, share=1)], steps=4)
    assert relay.batch(3).ids[:, 0].tolist() == [100, 200]
    assert json.loads(json.dumps(relay.identity())) == relay.identity()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Relay([], 5), "at least one leg"),
        (lambda: Relay([Leg(feed=Told(1, 9), share=0)], 5), "above 0"),
        (lambda: Relay([Leg(feed=Told(1, 9), share=1)], 10), "steps 0 to 10 of a feed that has 9"),
        (lambda: Relay([Leg(feed=Told(1, 9), share=1, start=-1)], 4), "steps -1 to 3"),
        (lambda: Relay([Leg(feed=Told(1, 9), share=9), Leg(feed=Told(2, 9), share=0.1)], 5), "no step of 5"),
        (lambda: Relay([Leg(feed=Told(1, 9), share=1)], 5).batch(5), "ask for 0 to 4"),
        (lambda: Beside([]), "give feeds"),
        (lambda: Beside([Told(1, 3), Told(2, 4)]), "equally many"),
        (lambda: Beside([Told(1, 3), Told(2, 3, width=5)]).batch(0), "one width"),
    ],
)
def test_what_cannot_be_read_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
