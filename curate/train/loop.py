"""The training loop: a feed in, a trained model and its curve out; the same code on a CPU, a GPU and several of them.

    result = fit(model, Training(lr=3e-3), feed)                      # any feed, any model of the interface below
    result = train(Config(vocab=2048), Training(tokens=500_000), ids)    # the short way: a stream of ids

A model is a ``torch.nn.Module`` with ``config.vocab``, ``forward(tokens, documents=None)``, which returns a stream, and
``mean_nats(stream, targets, weights=None)``, which returns the loss: the Decoder of model.py, or any causal model of
``transformers`` (huggingface.py). Only parameters that ask for a gradient are trained, kept and counted, so that an
adapter on a frozen model trains by the same loop.

A run is decided by (initial weights, settings, feed, seed). Nothing is drawn from a generator that others use; with one
thread on one kind of CPU a run repeats bit by bit, and a run that was killed and continues from its checkpoint has the
curve, bit by bit, of one that was left alone: the state of weights and optimizers is kept exactly, and a feed needs
none.

Cost: see Decoder.flops_per_token; a step of the default settings is 1,024 tokens, about 20 ms on one core. The loop
reads nothing back from the device but at every ``line``-th step.
Elsewhere: rates (schedule.py), optimizers (optim.py), parts of batches (feeding.py), several devices (distributed.py),
files (checkpoint.py, metrics.py), branches of a run (branches.py), the command (__main__.py).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from curate.train import checkpoint as files
from curate.train.compiling import compiled
from curate.train.data import Order
from curate.train.feed import Feed
from curate.train.feeding import StreamFeed
from curate.train.hardware import mfu, threads
from curate.train.metrics import Board, Clock, Curve, Line, Watch
from curate.train.model import Config, Decoder
from curate.train.schedule import Schedule
from curate.train.steps import Run
from curate.train.training import Result, Training

__all__ = ["Evaluate", "Progress", "Result", "Training", "fit", "train"]

Progress = Callable[[int, int, float], None]
Evaluate = Callable[[nn.Module], np.ndarray]


def train(
    config: Config,
    training: Training,
    ids: np.ndarray,
    *,
    seed: int = 0,
    init: Path | None = None,
    checkpoint: Path | None = None,
    metrics: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Train a decoder on a stream of token ids.

    Args:
        config: its shape.
        training: how.
        ids: uint16 or uint32 (n,), see data.pack.
        seed: of weights and order.
        init: a directory of a model to start from (the optimizer starts anew).
        checkpoint: a file to continue from where it exists, and to write to every few steps and at the end.
        metrics: a JSON-lines file to write: step, tokens, rate, mean loss and norm, every few steps.
        progress: called with (steps done, steps, mean loss) every few steps.

    Raises:
        ValueError: too little text, ids outside the vocabulary, an initial model of another shape, or a checkpoint of
            another run.
        FloatingPointError: the loss is no longer a number.
    """
    windows = Order(len(ids), config.context, training.batch, seed).windows
    if int(ids.max()) >= config.vocab:
        raise ValueError(f"token id {ids.max()} is outside a vocabulary of {config.vocab}; use the tokenizer's size")
    feed = StreamFeed(ids, config.context, training.batch, seed, training.steps(config.context, windows))
    model = Decoder(config, seed=seed) if init is None else _opened(init, config)
    watch = None if progress is None else (lambda line: progress(line.step, line.steps, line.loss))
    return fit(model, training, feed, checkpoint=checkpoint, metrics=metrics, watch=watch)


def fit(
    model: nn.Module,
    training: Training,
    feed: Feed,
    *,
    seed: int = 0,
    steps: int | None = None,
    schedule: Schedule | None = None,
    stop: int | None = None,
    start: Path | None = None,
    onward: bool = False,
    checkpoint: Path | None = None,
    metrics: Path | None = None,
    tensorboard: Path | None = None,
    watch: Watch | None = None,
    evaluate: Evaluate | None = None,
    evaluations: int = 1,
) -> Result:
    """Train a model on a feed.

    On several ranks (``distributed.joined``) all call it with the same arguments; the first one writes the files.

    Args:
        model: what is trained, in place; moved to the device of ``training``.
        training: how.
        feed: what is read.
        seed: of dropout, where the model has any.
        steps: of the run; None for all of the feed's.
        schedule: of the rate, instead of the one that ``training`` describes.
        stop: leave off after so many steps of the run, to go on another time. None for its end.
        start: a checkpoint, usually a kept one, whose weights and optimizers the run starts with.
        onward: whether the run goes on where ``start`` is, in step number, curve and feed; otherwise it counts from 0.
        checkpoint: a file to continue from where it exists, and to write to every few steps and at the end.
        metrics: a JSON-lines file to write: step, tokens, rate, mean loss and norm, every few steps.
        tensorboard: a directory for TensorBoard's files.
        watch: called with a Line every few steps (on the first rank).
        evaluate: called with the model, which gives numbers, for example the nats of each document.
        evaluations: 1 for the model as it is returned; more for so many states near the end of the decay, the last one
            included, whose mean has less noise.

    Raises:
        ValueError: a setting or a batch that cannot be, or a checkpoint of another run.
        FileNotFoundError: no checkpoint to start from.
        FloatingPointError: the loss or the gradient is no longer a number.
    """
    plan = schedule if schedule is not None else training.over(feed.steps if steps is None else steps)
    end = plan.steps if stop is None else min(stop, plan.steps)
    if plan.steps > feed.steps:
        raise ValueError(f"a run of {plan.steps} steps reads a feed of {feed.steps}; ask for fewer, or a longer feed")
    if training.keep_every is not None and checkpoint is None:
        raise ValueError("keep_every keeps checkpoints beside the checkpoint; name one")
    with ExitStack() as stack:
        stack.enter_context(threads(training.threads))
        stack.enter_context(_training(model.to(training.device), training))
        size = feed.batch(0).tokens if training.compile == "auto" else 0
        stack.enter_context(
            compiled(model, on=training.compile, steps=plan.steps, tokens=size, precision=training.precision)
        )
        run = Run(model, training, feed, seed)
        stack.callback(run.close)
        if start is not None:
            _begin(run, start, onward)
        identity: dict[str, Any] = {}
        if checkpoint is not None:
            identity = json.loads(json.dumps(run.identity(plan, evaluations)))
            kept = files.load_run(checkpoint, identity, model)
            if kept is not None:
                run.restore(kept)
        told = _Told(run, plan, metrics, tensorboard, watch)
        stack.callback(told.close)
        averaged = plan.late(training.average) if training.average > 1 else []
        evaluated = plan.late(evaluations) if evaluations > 1 and evaluate is not None else []
        for number in range(run.done, end):
            run.step(number, plan.factor(number), end)
            done = number + 1
            if done in averaged:
                run.remember()
            if done in evaluated and evaluate is not None:
                with told.clock.stopped():
                    run.evaluations[done] = _measured(model, evaluate)
            saving = checkpoint is not None and (done % training.checkpoint_every == 0 or done == end)
            keeping = training.keep_every is not None and done % training.keep_every == 0 and plan.constant(done)
            if done % training.line == 0 or done == end or saving or keeping:
                told.tell()
            if saving and checkpoint is not None:
                files.save_run(checkpoint, run.state(), done, identity)
            if keeping and checkpoint is not None:
                files.save_run(kept_path(checkpoint, done), run.state(), done, identity)
        speed = told.speed()
        if end == plan.steps and averaged:
            run.average(len(averaged))
        if end == plan.steps and evaluate is not None and not evaluated:
            run.evaluations = {end: _measured(model, evaluate)}
    return Result(
        model=model, losses=run.history.losses, norms=run.history.norms, tokens=int(run.history.tokens.sum()),
        epochs=feed.epochs * run.done / feed.steps, evaluations=run.evaluations, **speed,
    )  # fmt: skip


def kept_path(checkpoint: Path, step: int) -> Path:
    """Where ``Training.keep_every`` keeps the checkpoint of a step."""
    return checkpoint.with_name(f"{checkpoint.stem}.step-{step}{checkpoint.suffix}")


@contextmanager
def _training(model: nn.Module, training: Training) -> Iterator[None]:
    """The model as it is while it is trained; torch's own generators are left as they were."""
    mode, drawn = model.training, torch.get_rng_state()
    there = torch.cuda.get_rng_state() if training.device.startswith("cuda") else None
    recompute = getattr(model, "recompute", None)
    if training.recompute and recompute is None:
        raise ValueError(f"{type(model).__name__} cannot compute activations again; set recompute to False")
    model.train()
    if recompute is not None and training.recompute:
        recompute(True)
    try:
        yield
    finally:
        if recompute is not None and training.recompute:
            recompute(False)
        model.train(mode)
        torch.set_rng_state(drawn)
        if there is not None:
            torch.cuda.set_rng_state(there)


def _begin(run: Run, start: Path, onward: bool) -> None:
    """Put a run where a kept checkpoint is."""
    same = json.loads(json.dumps(dict(run.feed.identity()))) if onward else {}
    kept = files.load_run(start, same, run.model)
    if kept is None:
        raise FileNotFoundError(f"there is no checkpoint {start} to start from; train with keep_every, or name another")
    run.restore(kept, onward=onward)


def _measured(model: nn.Module, evaluate: Evaluate) -> np.ndarray:
    """What ``evaluate`` gives, float64, for the model as it is used."""
    model.eval()
    with torch.no_grad():
        out = np.asarray(evaluate(model), dtype=np.float64)
    model.train()
    return out


class _Told:
    """What a run tells, and how fast it is."""

    def __init__(
        self, run: Run, plan: Schedule, metrics: Path | None, tensorboard: Path | None, watch: Watch | None
    ) -> None:
        self.run, self.plan = run, plan
        first = run.me.first
        self.curve = Curve(metrics, plan, run.training.lr, run.training.line) if metrics and first else None
        self.board = Board(tensorboard) if tensorboard and first else None
        self.watch = watch if first else None
        self.before = int(run.history.tokens.sum())
        self.clock = Clock()
        if self.curve is not None:
            self.curve.write(run.history)

    def tell(self) -> None:
        """Read the steps since the last time, and write a line."""
        run, history = self.run, self.run.history
        new = run.collect(self.plan)
        if self.curve is not None:
            self.curve.write(history)
        if new == 0 or (self.board is None and self.watch is None):
            return
        speed, done = self.speed(), len(history)
        left = (self.plan.steps - done) * history.tokens[-new:].mean() / speed["tokens_per_second"]
        line = Line(
            step=done, steps=self.plan.steps, tokens=int(history.tokens.sum()),
            lr=run.training.lr * self.plan.factor(done - 1),
            loss=float(history.losses[-new:].mean(dtype=np.float64)),
            norm=float(history.norms[-new:].mean(dtype=np.float64)),
            tokens_per_second=speed["tokens_per_second"], mfu=speed["mfu"], seconds_left=float(left),
        )  # fmt: skip
        if self.board is not None:
            self.board.write(line)
        if self.watch is not None:
            self.watch(line)

    def speed(self) -> dict[str, Any]:
        """Seconds and throughput since the run began here."""
        seconds, cpu_seconds = self.clock.read()
        tokens = int(self.run.history.tokens.sum()) - self.before
        per_second = tokens / max(seconds, 1e-9)
        flops, each = getattr(self.run.model, "flops_per_token", None), per_second / self.run.me.count
        used = None if flops is None else mfu(flops, each, self.run.device, self.run.training.precision)
        return {
            "seconds": seconds, "cpu_seconds": cpu_seconds, "tokens_per_second": per_second,
            "tokens_per_cpu_second": tokens / max(cpu_seconds, 1e-9), "mfu": used,
        }  # fmt: skip

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self.board is not None:
            self.board.close()


def _opened(init: Path, config: Config) -> Decoder:
    """The model to start from, refused where its shape is another."""
    model = files.load(init)
    if model.config != config:
        raise ValueError(f"the model in {init} has the shape {model.config}, not {config}; train with its own shape")
    return model
