"""Feeds made of feeds: one after the other, or side by side in every batch.

``Relay``   legs by their share of the steps: metadata for 90 % and then plain text (MeCo), a curriculum and then a
            shuffle, a base mix and then the one to anneal on.
``Beside``  the rows of several feeds in each batch, so that their shares hold in every step: a mix with a share of
            replay, or base and candidate in an anneal test.

Both are feeds themselves, so they nest. A relay's schedule of the learning rate is one for the whole run: where a leg
is meant to be annealed on, its share should be that of the decay.

Elsewhere: mixtures of domains by tokens, in one order of documents (orders.Mixture).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.train.feed import Batch, Feed


@dataclass(frozen=True, kw_only=True, eq=False)
class Leg:
    """A part of a run.

    Args:
        feed: what it reads.
        share: of the run's steps.
        start: the step of ``feed`` that it begins with; None to go on where the last leg with this very feed stopped,
            or at 0 where there was none.
    """

    feed: Feed
    share: float
    start: int | None = None


class Relay:
    """Feeds one after the other.

    Args:
        legs: in order; their shares are divided by their sum.
        steps: of the whole run.

    Raises:
        ValueError: a leg without a step, or one that asks its feed for more steps than it has.
    """

    def __init__(self, legs: Sequence[Leg], steps: int) -> None:
        if not legs or any(leg.share <= 0 for leg in legs):
            raise ValueError(f"Relay: shares {[leg.share for leg in legs]}; give at least one leg, and shares above 0")
        total = sum(leg.share for leg in legs)
        ends = [round(steps * sum(leg.share for leg in legs[: i + 1]) / total) for i in range(len(legs))]
        self.legs, self._steps = tuple(legs), steps
        self.borders = (0, *ends)
        self._starts: list[int] = []
        stopped: dict[int, int] = {}
        for number, leg in enumerate(legs):
            length = self.borders[number + 1] - self.borders[number]
            start = leg.start if leg.start is not None else stopped.get(id(leg.feed), 0)
            stopped[id(leg.feed)] = start + length
            if length < 1:
                raise ValueError(f"Relay: leg {number} has a share of {leg.share} and no step of {steps}; give it more")
            if start < 0 or start + length > leg.feed.steps:
                raise ValueError(
                    f"Relay: leg {number} reads steps {start} to {start + length} of a feed that has "
                    f"{leg.feed.steps}; give the feed more epochs, or the leg a smaller share"
                )
            self._starts.append(start)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self._steps

    @property
    def epochs(self) -> float:
        """How often the legs read their texts, added up: as if all had the same text."""
        lengths = np.diff(self.borders)
        return float(sum(leg.feed.epochs * n / leg.feed.steps for leg, n in zip(self.legs, lengths, strict=True)))

    def at(self, step: int) -> tuple[int, int]:
        """The leg of a step, and the step of that leg's feed."""
        if not 0 <= step < self._steps:
            raise ValueError(f"step {step} of a relay of {self._steps}; ask for 0 to {self._steps - 1}")
        leg = int(np.searchsorted(self.borders, step, side="right")) - 1
        return leg, self._starts[leg] + step - self.borders[leg]

    def batch(self, step: int) -> Batch:
        """The batch of a step, 0 to steps - 1."""
        leg, own = self.at(step)
        return self.legs[leg].feed.batch(own)

    def identity(self) -> Mapping[str, Any]:
        """The legs' identities and where each begins."""
        legs = [
            {"until": until, "start": start, "feed": dict(leg.feed.identity())}
            for leg, start, until in zip(self.legs, self._starts, self.borders[1:], strict=True)
        ]
        return {"feed": "relay", "legs": legs}


class Beside:
    """The rows of several feeds in each batch. All must have rows of the same width, and so many steps.

    A share is a number of rows: of feeds with 12 and 4 rows a batch the second has a quarter. Padding of one feed
    beside another that has none makes its share of the tokens smaller.

    Args:
        feeds: in the order of their rows.

    Raises:
        ValueError: no feeds, or different numbers of steps.
    """

    def __init__(self, feeds: Sequence[Feed]) -> None:
        if not feeds or len({feed.steps for feed in feeds}) != 1:
            raise ValueError(f"Beside: feeds of {[f.steps for f in feeds]} steps; give feeds that have equally many")
        self.feeds = tuple(feeds)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.feeds[0].steps

    @property
    def epochs(self) -> float:
        """How often the text is read on average: the feeds' own, weighed by the ids of their first batches."""
        sizes = [feed.batch(0).ids.size for feed in self.feeds]
        # A feed read e times holds size / e of text for each size it gives.
        return sum(sizes) / sum(n / feed.epochs for n, feed in zip(sizes, self.feeds, strict=True))

    def batch(self, step: int) -> Batch:
        """The batch of a step, 0 to steps - 1.

        Raises:
            ValueError: rows of different widths.
        """
        batches = [feed.batch(step) for feed in self.feeds]
        shapes = [b.ids.shape for b in batches]
        if len({width for _, width in shapes}) != 1:
            raise ValueError(f"Beside: rows of {[w for _, w in shapes]} ids at step {step}; give feeds of one width")
        ids = np.concatenate([b.ids for b in batches])
        documents = weights = None
        if any(b.documents is not None for b in batches):
            documents = np.concatenate(
                [np.zeros(s, dtype=np.int32) if b.documents is None else b.documents
                 for b, s in zip(batches, shapes, strict=True)]
            )  # fmt: skip
        if any(b.weights is not None for b in batches):
            weights = np.concatenate(
                [np.ones((n, w - 1), dtype=np.float32) if b.weights is None else b.weights
                 for b, (n, w) in zip(batches, shapes, strict=True)]
            )  # fmt: skip
        return Batch(ids, documents, weights)

    def identity(self) -> Mapping[str, Any]:
        """The feeds' identities."""
        return {"feed": "beside", "feeds": [dict(feed.identity()) for feed in self.feeds]}
