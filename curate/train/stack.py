"""Runs in lockstep: all arms and seeds of a trial train at once in one process, as one stacked model.

    results = together(models, training, feeds)          # stacked where that pays and can be, else one by one

Each replica has its own initial weights (``Decoder(config, seed=...)``), its own feed, and with ``lr`` its own rate. It
ends where ``loop.fit`` alone would have taken it, within floating point: products are batched over replicas
(stacked.py), gradients are clipped by each replica's own norm, AdamW moves each weight by its own gradient, the
schedule is shared. With rates of their own, and under Muon, the usual optimizers move views of the stack.

A replica whose loss is no longer a number is named, and the others go on as if it were not there.

*When it pays* (``pays``): on a GPU that one replica does not fill. Training a model of width d moves about 180 d bytes
a token and layer and computes 72 d² operations, so that below a width of some 500 the kernels of one large GPU wait for
its memory, and with less than some 16,000 tokens a step for being launched. From 100,000 tokens on nothing should be
gained. This is derived from data sheets and from what others report; none of it was measured (benchmarks/stacking.py
does it where there is a GPU). On a CPU replicas are processes of one thread each, and stacking is for tests.

*When it can be* (``apart`` says why not): plain decoders of one shape in one process, feeds with equally many steps and
batches of one shape. Adapters and models of ``transformers`` train one by one. A stack writes no checkpoints, so one
that was killed begins again.

Memory: replicas times what one run needs; ``together`` cuts very large stacks (FULL).
Elsewhere: one run (loop.py), its settings (training.py), the steps (lockstep.py), the model (stacked.py).
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from curate.train import loop
from curate.train.compiling import compiled
from curate.train.distributed import ranks
from curate.train.feed import Feed
from curate.train.hardware import mfu, threads
from curate.train.lockstep import Runs, Uneven
from curate.train.metrics import Clock, Line, Watch
from curate.train.model import Config, Decoder
from curate.train.schedule import Schedule
from curate.train.stacked import MATRICES
from curate.train.training import Result, Training

WIDEST = 256             # wider, one replica's products are enough for a large GPU
LARGEST = 16_384         # tokens of a replica's step; more of them are, too
FULL = 262_144           # tokens of a stacked step; more replicas only need more memory


class Diverged(FloatingPointError):
    """Some replicas are no longer numbers; the message names them.

    Args:
        outcomes: of all replicas: a result, in words why there is none, or None where it was not finished.
    """

    def __init__(self, outcomes: Sequence[Result | str | None]) -> None:
        super().__init__("; ".join(outcome for outcome in outcomes if isinstance(outcome, str)))
        self.outcomes = list(outcomes)

    @property
    def results(self) -> list[Result | None]:
        """Of all replicas, in their order; None for those that broke or were not finished."""
        return [None if isinstance(outcome, str) else outcome for outcome in self.outcomes]


def pays(config: Config, *, replicas: int, tokens: int, device: str) -> bool:
    """Whether stacking should be faster than one by one: derived, not measured (see above).

    Args:
        config: the shape of the decoders.
        replicas: how many.
        tokens: of a step of one of them, or of a part of it (``Training.micro``).
        device: ``cpu`` or ``cuda``.
    """
    return torch.device(device).type == "cuda" and replicas > 1 and config.width <= WIDEST and tokens <= LARGEST


def apart(models: Sequence[nn.Module], training: Training, feeds: Sequence[Feed]) -> str | None:
    """Why runs cannot be stacked; None where they can, as far as is known before batches are read.

    Raises:
        ValueError: another number of feeds than of models, or none.
    """
    if not models or len(models) != len(feeds):
        raise ValueError(f"{len(models)} models and {len(feeds)} feeds are no runs; give each model a feed")
    if not all(_plain(model) for model in models):
        return "some are not plain decoders whose weights are all trained"
    if len({getattr(model, "config") for model in models}) > 1:  # noqa: B009  Tensors to a type checker
        return "their shapes differ"
    if len({feed.steps for feed in feeds}) > 1:
        return "their feeds have different numbers of steps"
    if ranks().count > 1:
        return "several processes share each run"
    if training.keep_every is not None:
        return "keep_every asks for checkpoints, and a stack writes none"
    return None


def fit(
    models: Sequence[Decoder],
    training: Training,
    feeds: Sequence[Feed],
    *,
    lr: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    steps: int | None = None,
    schedule: Schedule | None = None,
    watch: Watch | None = None,
    evaluate: loop.Evaluate | None = None,
    evaluations: int = 1,
    patient: bool = True,
) -> list[Result]:
    """Train several decoders in lockstep, each on its own feed.

    A result is that of ``loop.fit``, but for time: ``seconds`` are those of the stack, and CPU seconds, rates and MFU
    are the replica's share, so that they add up to the stack's.

    Args:
        models: what is trained; weights are given back at the end, and not at all where the stack fails.
        training: how, all alike.
        feeds: what each reads.
        lr: each replica's peak rate, instead of ``training.lr``.
        names: of the replicas, for errors: an arm and a seed.
        steps: of the run; None for all of the feeds'.
        schedule: of the rate, instead of the one that ``training`` describes.
        watch: called with a Line every few steps: tokens of all replicas, means of their losses and norms, the highest
            rate.
        evaluate: called with each replica, a Decoder (``loop.fit``).
        evaluations: as for ``loop.fit``.
        patient: whether the others go on to their end when a replica breaks; otherwise all stop there.

    Raises:
        ValueError: runs that cannot be stacked (``apart``), or a setting or batch that cannot be.
        Uneven: batches of one step that differ in shape.
        Diverged: replicas whose loss or gradient is no longer a number.
    """
    reason = apart(models, training, feeds)
    if reason is not None:
        raise ValueError(f"these runs cannot be stacked: {reason}; use stack.together, or loop.fit for each")
    called, rates = _named(names, len(models)), _rates(lr, training, len(models))
    plan = schedule if schedule is not None else training.over(feeds[0].steps if steps is None else steps)
    if plan.steps > feeds[0].steps:
        raise ValueError(f"a run of {plan.steps} steps reads feeds of {feeds[0].steps}; ask for fewer, or longer feeds")
    return _whole(_lockstep(models, training, feeds, rates, called, plan, watch, evaluate, evaluations, patient))


def together(
    models: Sequence[nn.Module],
    training: Training,
    feeds: Sequence[Feed],
    *,
    on: bool | str = "auto",
    lr: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    steps: int | None = None,
    schedule: Schedule | None = None,
    watch: Watch | None = None,
    evaluate: loop.Evaluate | None = None,
    evaluations: int = 1,
    patient: bool = True,
) -> list[Result]:
    """Train several models, each on its own feed: in lockstep where that pays, one by one otherwise.

    Args:
        models: what is trained, in place.
        training: how, all alike.
        feeds: what each reads.
        on: True for a stack wherever there can be one, False for none, ``auto`` for where it pays.
        lr: as for ``fit``.
        names: as for ``fit``.
        steps: as for ``fit``.
        schedule: as for ``fit``.
        watch: as for ``fit``; one by one as for ``loop.fit``, run after run.
        evaluate: as for ``fit``.
        evaluations: as for ``fit``.
        patient: as for ``fit``.

    Raises:
        ValueError: what cannot be, as in ``loop.fit``.
        Diverged: replicas whose loss or gradient is no longer a number.
    """
    if on not in (True, False, "auto"):
        raise ValueError(f"on={on!r} is no choice; use True, False or 'auto'")
    stacks = apart(models, training, feeds) is None and on is not False
    called, rates = _named(names, len(models)), _rates(lr, training, len(models))
    size = feeds[0].batch(0).ids[:, 1:].size
    if stacks and on == "auto":
        part = size if training.micro is None else min(size, training.micro)
        config: Any = getattr(models[0], "config")  # noqa: B009
        stacks = pays(config, replicas=len(models), tokens=part, device=training.device)
    given: dict[str, Any] = {
        "steps": steps, "schedule": schedule, "watch": watch, "evaluate": evaluate, "evaluations": evaluations,
    }  # fmt: skip
    most = max(2, FULL // size) if stacks else 1
    out: list[Result | str | None] = []
    for start in range(0, len(models), most):
        some = slice(start, start + most)
        done = None
        if stacks and len(models[some]) > 1:
            done = _stacked(models[some], training, feeds[some], rates[some], called[some], given, patient)
        if done is None:
            for model, feed, rate, name in zip(models[some], feeds[some], rates[some], called[some], strict=True):
                out.append(_alone(model, replace(training, lr=rate), feed, name, given))
                if not patient and isinstance(out[-1], str):
                    return _whole([*out, *[None] * (len(models) - len(out))])
        else:
            out += done
    return _whole(out)


def _stacked(
    models: Sequence[Any], training: Training, feeds: Sequence[Feed], rates: Sequence[float], names: Sequence[str],
    given: dict[str, Any], patient: bool,
) -> list[Result | str | None] | None:  # fmt: skip
    """What becomes of runs in lockstep; None where their batches do not allow it, and no model was changed."""
    try:
        return [*fit(models, training, feeds, lr=rates, names=names, patient=patient, **given)]
    except Uneven:
        return None
    except Diverged as error:
        if not patient:
            raise
        return error.outcomes


def _alone(model: nn.Module, training: Training, feed: Feed, name: str, given: dict[str, Any]) -> Result | str:
    """The result of one run, or in words why there is none."""
    try:
        return loop.fit(model, training, feed, **given)
    except FloatingPointError as error:
        return f"{name}: {error}"


def _whole(outcomes: Sequence[Result | str | None]) -> list[Result]:
    """The results, if all are there."""
    results = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    if len(results) < len(outcomes):
        raise Diverged(outcomes)
    return results


def _lockstep(
    models: Sequence[Decoder], training: Training, feeds: Sequence[Feed], rates: Sequence[float], names: Sequence[str],
    plan: Schedule, watch: Watch | None, evaluate: loop.Evaluate | None, evaluations: int, patient: bool,
) -> list[Result | str | None]:  # fmt: skip
    """Train to the end of the plan, or until every replica is broken."""
    with ExitStack() as stack:
        stack.enter_context(threads(training.threads))
        for model in models:
            model.to(training.device)
        run = Runs(models, training, feeds, rates, names)
        stack.callback(run.close)
        run.stacked.recompute(training.recompute)
        size = len(models) * feeds[0].batch(0).tokens if training.compile == "auto" else 0
        stack.enter_context(compiled(
            run.stacked, on=training.compile, steps=plan.steps, tokens=size, precision=training.precision
        ))  # fmt: skip
        averaged = plan.late(training.average) if training.average > 1 else []
        evaluated = plan.late(evaluations) if evaluations > 1 and evaluate is not None else []
        seen: list[dict[int, np.ndarray]] = [{} for _ in models]
        clock = Clock()
        for number in range(plan.steps):
            run.step(number, plan.factor(number), plan.steps)
            done = number + 1
            if done in averaged:
                run.remember()
            if done in evaluated and evaluate is not None:
                with clock.stopped():
                    _measure(run, evaluate, done, seen)
            if done % training.line == 0 or done == plan.steps:
                new = run.collect(plan)
                if run.broken and (not patient or len(run.broken) == len(models)):
                    return [run.broken.get(r) for r in range(len(models))]
                if watch is not None:
                    watch(_line(run, plan, new, clock))
        seconds, cpu_seconds = clock.read()
        if averaged:
            run.average(len(averaged))
        if evaluate is not None and not evaluated:
            _measure(run, evaluate, plan.steps, seen)
        run.give()
    out: list[Result | str | None] = []
    for r, (model, feed, history) in enumerate(zip(models, feeds, run.histories, strict=True)):
        tokens, share = int(history.tokens.sum()), cpu_seconds / len(models)
        per_second = tokens / max(seconds, 1e-9)
        out.append(run.broken[r] if r in run.broken else Result(
            model=model, losses=history.losses, norms=history.norms, tokens=tokens,
            epochs=feed.epochs * plan.steps / feed.steps, seconds=seconds, cpu_seconds=share,
            tokens_per_second=per_second, tokens_per_cpu_second=tokens / max(share, 1e-9),
            mfu=mfu(model.flops_per_token, per_second, run.device, training.precision), evaluations=seen[r],
        ))  # fmt: skip
    return out


def _measure(run: Runs, evaluate: loop.Evaluate, done: int, seen: list[dict[int, np.ndarray]]) -> None:
    """Note what ``evaluate`` gives for each replica as it is, but for those that broke."""
    with torch.no_grad():
        for r, decoder in enumerate(run.decoders()):
            if r in run.broken:
                continue
            seen[r][done] = np.asarray(evaluate(decoder.eval()), dtype=np.float64)


def _line(run: Runs, plan: Schedule, new: int, clock: Clock) -> Line:
    """Where the stack is, by means over the replicas that are numbers."""
    fine = [history for r, history in enumerate(run.histories) if r not in run.broken]
    done, tokens = len(fine[0]), sum(int(history.tokens.sum()) for history in run.histories)
    per_second = tokens / max(clock.read()[0], 1e-9)
    return Line(
        step=done, steps=plan.steps, tokens=tokens, lr=max(run.rates) * plan.factor(done - 1),
        loss=float(np.mean([history.losses[-new:] for history in fine], dtype=np.float64)),
        norm=float(np.mean([history.norms[-new:] for history in fine], dtype=np.float64)),
        tokens_per_second=per_second,
        mfu=mfu(run.stacked.flops_per_token, per_second, run.device, run.training.precision),
        seconds_left=(plan.steps - done) * tokens / done / per_second,
    )  # fmt: skip


def _plain(model: nn.Module) -> bool:
    """Whether a model is a Decoder as it is made: no adapter, nothing frozen."""
    return (
        type(model) is Decoder
        and all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
        and all(type(getattr(block, name)) is nn.Linear for block in model.blocks for name in MATRICES)
    )


def _named(names: Sequence[str] | None, count: int) -> list[str]:
    """A name for each replica."""
    if names is not None and len(names) != count:
        raise ValueError(f"{len(names)} names for {count} replicas; give each one")
    return [f"replica {i + 1} of {count}" for i in range(count)] if names is None else list(names)


def _rates(lr: Sequence[float] | None, training: Training, count: int) -> list[float]:
    """The peak rate of each replica."""
    if lr is not None and len(lr) != count:
        raise ValueError(f"{len(lr)} learning rates for {count} replicas; give each one")
    return [training.lr] * count if lr is None else list(lr)
