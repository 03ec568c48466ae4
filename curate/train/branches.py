r"""Branches of a run: points of a learning curve, and anneals, at the price of their decays.

What a model has learned shows only when its rate has fallen, so a curve of loss against tokens needs a whole schedule
for each of its points. With a constant phase (schedule.py) the points share it: one *trunk* runs at the peak, and a
branch leaves it for each point, where that point's decay begins (Hägele et al. 2024).

    trunk   |-- warm-up --|------------------ constant ------------------|
    1/4                       \ 1/4
    1/2                               \ 1/2
    1                                                \ 1

A point is what training to that length alone gives, bit by bit on a CPU: same warm-up, same batches, same rates. With
a decay of a fifth, the points at 1/4 and 1/2 of a run cost .15 of it, and 1/4, 1/2, 1 and 2 together 2.35 of it, where
four runs would cost 3.75.

An *anneal* starts from a kept checkpoint of the constant phase and lets the rate fall over another feed: what is a
source worth at the end of training? (Llama 3, section 3.1.3; Blakeney et al. 2024.)
"""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from curate.train.distributed import ranks
from curate.train.feed import Feed
from curate.train.loop import Evaluate, fit
from curate.train.metrics import Watch
from curate.train.schedule import Schedule
from curate.train.training import Result, Training

SHARES = (0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of a learning curve: a run of its length, with its own decay.

    Args:
        share: of the whole run.
        steps: of this one.
        tokens: that it was trained on.
        losses: mean nats of each of its steps' tokens, float32 (steps,); branches share what the trunk did.
        evaluation: what ``evaluate`` gave for its model, float64, the mean where there were several; None without.
    """

    share: float
    steps: int
    tokens: int
    losses: np.ndarray
    evaluation: np.ndarray | None


def curve(
    model: nn.Module,
    training: Training,
    feed: Feed,
    *,
    steps: int,
    shares: Sequence[float] = SHARES,
    evaluate: Evaluate | None = None,
    evaluations: int = 1,
    seed: int = 0,
    folder: Path | None = None,
    watch: Watch | None = None,
) -> list[Point]:
    """Train to several lengths at once.

    Args:
        model: what is trained; in the end it is the longest run's.
        training: how; ``warmup`` is a share of the whole run for every point, ``decay`` a share of each point's own.
        feed: what is read; it has at least as many steps as the longest point.
        steps: of the whole run, share 1.
        shares: of it, one a point.
        evaluate: called with the model of each point (``fit``).
        evaluations: for each point (``fit``).
        seed: of dropout.
        folder: where checkpoints stay, so that a curve that was killed goes on where it was; None for a temporary one.
            On several ranks one is needed that all of them see.
        watch: called with a Line every few steps of trunk and branches.

    Returns:
        the points, by length.

    Raises:
        ValueError: a schedule without a constant phase, a point that decays before it is warm, or a feed that is too
            short.
    """
    if training.schedule != "wsd":
        raise ValueError(f"a {training.schedule} has no constant phase to branch from; use schedule='wsd'")
    if folder is None and ranks().count > 1:
        raise ValueError("a curve on several ranks needs a folder that all of them see; name one")
    lengths = {share: max(1, round(share * steps)) for share in sorted(shares)}
    warmup = training.warmup * steps
    trunk = Schedule(steps=max(lengths.values()), warmup=warmup)
    alone = replace(training, keep_every=None)
    points = []
    with ExitStack() as stack:
        where = folder if folder is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        before: Path | None = None
        for share, length in lengths.items():
            plan = Schedule(steps=length, warmup=warmup, decay=training.decay * length, floor=training.floor)
            if plan.falling < warmup:
                raise ValueError(
                    f"a run of {length} steps decays from step {plan.falling} on, before it is warm at step {warmup:g}"
                    "; leave the share out, or warm up faster"
                )
            here = where / f"trunk-{plan.falling}.safetensors"
            if plan.falling:
                fit(
                    model, alone, feed, schedule=trunk, stop=plan.falling, start=before, onward=True, seed=seed,
                    checkpoint=here, watch=watch,
                )  # fmt: skip
            result = fit(
                model, alone, feed, schedule=plan, start=here if plan.falling else None, onward=True, seed=seed,
                checkpoint=where / f"branch-{length}.safetensors", evaluate=evaluate, evaluations=evaluations,
                watch=watch,
            )  # fmt: skip
            before = here if plan.falling else before
            points.append(Point(
                share=share, steps=length, tokens=result.tokens, losses=result.losses,
                evaluation=result.evaluation if evaluate is not None else None,
            ))  # fmt: skip
    return points


def anneal(
    model: nn.Module,
    training: Training,
    feed: Feed,
    start: Path,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    metrics: Path | None = None,
    watch: Watch | None = None,
    evaluate: Evaluate | None = None,
    evaluations: int = 1,
) -> Result:
    """Train on from a kept checkpoint while the rate falls from its peak, over all of a feed.

    Args:
        model: of the checkpoint's shape; its weights are replaced.
        training: how; its ``lr`` is the peak of the constant phase, ``warmup`` and ``decay`` are not used.
        feed: what is read.
        start: a checkpoint that ``Training.keep_every`` kept (loop.kept_path).
        seed: of dropout.
        checkpoint: as for ``fit``.
        metrics: as for ``fit``.
        watch: as for ``fit``.
        evaluate: as for ``fit``.
        evaluations: as for ``fit``.
    """
    plan = Schedule(steps=feed.steps, decay=feed.steps, floor=training.floor)
    alone = replace(training, keep_every=None)
    return fit(
        model, alone, feed, schedule=plan, start=start, seed=seed, checkpoint=checkpoint, metrics=metrics,
        watch=watch, evaluate=evaluate, evaluations=evaluations,
    )  # fmt: skip
