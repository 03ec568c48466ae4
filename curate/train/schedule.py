"""The learning rate over a run: warm-up, then constant and linear to zero (WSD), or a cosine.

The constant phase of WSD (Hu et al. 2024, MiniCPM, section 4; Hägele et al. 2024) does not know how long the run will
be, so one run can be branched into runs of several lengths, each with a decay of its own (branches.py). A cosine
(Loshchilov and Hutter 2017) falls from the first step after the warm-up and fits one length only.

A rate is never zero: the last step of a fall to zero still moves a little, since a step without a rate is wasted.
"""

import math
from dataclasses import dataclass

SHAPES = ("wsd", "cosine")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What the peak learning rate is multiplied with at each step.

    Args:
        steps: of the whole run.
        warmup: steps that rise linearly to 1; need not be whole.
        decay: steps, the last ones, that fall linearly; need not be whole. A cosine falls over all that the warm-up
            leaves.
        shape: ``wsd`` or ``cosine``.
        floor: share of the peak towards which the rate falls.

    Raises:
        ValueError: another shape, no steps, or a floor outside 0 to 1.
    """

    steps: int
    warmup: float = 0.0
    decay: float = 0.0
    shape: str = "wsd"
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"schedule {self.shape!r} does not exist; use one of: {', '.join(SHAPES)}")
        if self.steps < 1 or min(self.warmup, self.decay) < 0 or not 0 <= self.floor <= 1:
            raise ValueError(f"{self} is no schedule: it needs a step, no negative share, and a floor from 0 to 1")

    def factor(self, step: int) -> float:
        """The factor at a step, 0 to steps - 1."""
        rising = (step + 1) / self.warmup if self.warmup else 1.0
        if self.shape == "cosine":
            done = max(0.0, step - self.warmup) / max(1.0, self.steps - self.warmup)
            left = (1 + math.cos(math.pi * done)) / 2
        else:
            left = min(1.0, (self.steps - step) / self.decay) if self.decay else 1.0
        return min(1.0, rising, self.floor + (1 - self.floor) * left)

    @property
    def falling(self) -> int:
        """The first step whose rate is below the peak after the warm-up; ``steps`` where none is."""
        if self.shape == "cosine":
            return min(self.steps, math.floor(self.warmup) + 1)
        first = max(0, math.floor(self.steps - self.decay))
        while first < self.steps and self.steps - first >= self.decay:
            first += 1
        return first

    def constant(self, step: int) -> bool:
        """Whether the state before a step belongs to the constant phase, from which a run can be branched."""
        return self.shape == "wsd" and self.warmup <= step <= self.falling

    def late(self, count: int) -> list[int]:
        """So many numbers of steps done, evenly spaced over the last quarter of the fall, the last one ``steps``.

        The states there differ by little but noise, so averaging their weights or their evaluations takes noise away
        (Heineman et al. 2025 average evaluations; Kaddour 2022, LAWA, weights).
        """
        span = max((self.steps - self.falling) / 4, count)
        return sorted({max(1, self.steps - round(i * span / count)) for i in range(count)})
