"""The training loop: tokens in, a model and its loss curve out; the same code on a CPU and on a GPU.

    tokens = data.pack(lists_of_ids, separator=0)
    result = train(Config(vocab=2048), Training(tokens=500_000), tokens.ids, seed=0)
    checkpoint.save(result.model, Path("model"))

A run is decided by (shape, settings, seed, ids, initial weights). Weights and order come from generators of its own;
with one thread on one kind of CPU it repeats bit by bit, and a run that was killed and continues from its checkpoint
has the loss curve, bit by bit, of one that was left alone.

Cost: see Decoder.flops_per_token; a step of the default settings is 1,024 tokens, about 20 ms on one core.
"""

import json
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curate.train import checkpoint as files
from curate.train.data import Order
from curate.train.hardware import autocast, threads
from curate.train.model import Config, Decoder
from curate.train.optim import adamw, factor

LINE_EVERY = 10          # steps a line of metrics

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained. The defaults suit the default shape on a CPU.

    Args:
        tokens: tokens to predict, rounded up to whole steps; None for whole epochs. More than the text has means that
            it is read again.
        epochs: how often the text is read, where ``tokens`` is None.
        batch: windows a step.
        lr: peak learning rate of the matrices.
        embedding_lr: how many times that for embedding and head.
        warmup: share of the steps in which the rate rises.
        decay: share of the steps, the last ones, in which it falls to zero.
        weight_decay: of matrices, as in AdamW.
        betas: of AdamW.
        clip: largest norm of a gradient.
        precision: ``float32`` or ``bfloat16`` (hardware.py).
        device: ``cpu`` or ``cuda``.
        threads: of torch on a CPU; results repeat for the same number only.
        compile: translate the model with torch.compile: 15 to 50 seconds first, then 1.2 to 1.5 times as fast.
        checkpoint_every: steps between checkpoints, where one is asked for.
    """

    tokens: int | None = None
    epochs: float = 1.0
    batch: int = 16
    lr: float = 5e-3
    embedding_lr: float = 4.0
    warmup: float = 0.05
    decay: float = 0.2
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 1
    compile: bool = False
    checkpoint_every: int = 200

    def steps(self, context: int, windows: int) -> int:
        """Steps of a run over a text of so many windows."""
        asked = self.tokens if self.tokens is not None else self.epochs * windows * context
        return max(1, -(-int(asked) // (self.batch * context)))


@dataclass(frozen=True)
class Result:
    """A trained model and how it went.

    Args:
        model: on the device it was trained on.
        losses: mean nats of each step's tokens, float32 (steps,), those before an interruption included.
        tokens: tokens predicted in all.
        epochs: how often the text was read.
        seconds: wall-clock seconds, of this process.
        cpu_seconds: CPU seconds, of this process.
        tokens_per_second: by the wall clock, of this process.
        tokens_per_cpu_second: the same by CPU time.
    """

    model: Decoder
    losses: np.ndarray
    tokens: int
    epochs: float
    seconds: float
    cpu_seconds: float
    tokens_per_second: float
    tokens_per_cpu_second: float

    def tail(self, share: float = 0.1) -> float:
        """Mean loss over the last steps, a share of all."""
        return float(self.losses[-max(1, int(share * len(self.losses))) :].mean(dtype=np.float64))


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
        metrics: a JSON-lines file to write: step, tokens, rate and mean loss, every few steps.
        progress: called with (steps done, steps, loss) every few steps.

    Raises:
        ValueError: too little text, ids outside the vocabulary, an initial model of another shape, or a checkpoint of
            another run.
        FloatingPointError: the loss is no longer a number.
    """
    order = Order(len(ids), config.context, training.batch, seed)
    if int(ids.max()) >= config.vocab:
        raise ValueError(f"token id {ids.max()} is outside a vocabulary of {config.vocab}; use the tokenizer's size")
    steps = training.steps(config.context, order.windows)
    with threads(training.threads):
        model = (Decoder(config, seed=seed) if init is None else _opened(init, config)).to(training.device)
        optimizer = adamw(
            model, lr=training.lr, embedding_lr=training.embedding_lr, betas=training.betas,
            weight_decay=training.weight_decay,
        )  # fmt: skip
        run = {} if checkpoint is None else _identity(config, training, ids, seed, model)
        losses = np.empty(0, dtype=np.float32)
        if checkpoint is not None and checkpoint.exists():
            losses = files.load_run(checkpoint, model, optimizer, run).numpy()
        first = len(losses)
        recent: list[torch.Tensor] = []
        stream = torch.compile(model) if training.compile else model
        fetch = _fetcher(ids, order, training.device)
        curve = None if metrics is None else Curve(metrics, training, config.context, steps)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        for step in range(first, steps):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor(step, steps, training.warmup, training.decay)
            windows = fetch(step)
            with autocast(windows.device, training.precision):
                loss = model.mean_nats(stream(windows[:, :-1]), windows[:, 1:])
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip)
            optimizer.step()
            optimizer.zero_grad()
            recent.append(loss.detach())
            done = step + 1
            saving = checkpoint is not None and (done % training.checkpoint_every == 0 or done == steps)
            if done % LINE_EVERY == 0 or done == steps or saving:
                losses = np.append(losses, torch.stack(recent).cpu().numpy())
                recent.clear()
                if not np.isfinite(losses[-LINE_EVERY:]).all():
                    raise FloatingPointError(
                        f"the loss is no longer a number after {done} of {steps} steps; lower the learning rate"
                    )
                if curve is not None:
                    curve.write(losses)
                if progress is not None:
                    progress(done, steps, float(losses[-1]))
            if saving and checkpoint is not None:
                files.save_run(checkpoint, model, optimizer, torch.from_numpy(losses), run)
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - begun_cpu
    now = (steps - first) * training.batch * config.context
    total = steps * training.batch * config.context
    return Result(
        model=model, losses=losses, tokens=total, epochs=total / (order.windows * config.context),
        seconds=seconds, cpu_seconds=cpu_seconds,
        tokens_per_second=now / max(seconds, 1e-9), tokens_per_cpu_second=now / max(cpu_seconds, 1e-9),
    )  # fmt: skip


class Curve:
    """The JSON-lines file of a run: one line every LINE_EVERY steps and one at the end, without times.

    Args:
        path: written from the start, also by a run that continues.
        training: its settings.
        context: tokens of a window.
        steps: of the whole run.
    """

    def __init__(self, path: Path, training: Training, context: int, steps: int) -> None:
        self.path, self.training, self.steps = path, training, steps
        self._tokens = training.batch * context
        self._written = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def write(self, losses: np.ndarray) -> None:
        """Add the lines that the losses so far, float32 (steps done,), complete."""
        with self.path.open("a") as file:
            while self._written < len(losses):
                done = min(self._written + LINE_EVERY, self.steps)
                if done > len(losses):
                    break
                rate = self.training.lr * factor(done - 1, self.steps, self.training.warmup, self.training.decay)
                mean = float(losses[self._written : done].mean(dtype=np.float64))
                line = {"step": done, "tokens": done * self._tokens, "lr": rate, "loss": mean}
                file.write(json.dumps(line) + "\n")
                self._written = done


def _opened(init: Path, config: Config) -> Decoder:
    """The model to start from, refused where its shape is another."""
    model = files.load(init)
    if model.config != config:
        raise ValueError(f"the model in {init} has the shape {model.config}, not {config}; train with its own shape")
    return model


def _identity(config: Config, training: Training, ids: np.ndarray, seed: int, model: Decoder) -> dict[str, Any]:
    """What decides a run, as JSON gives it back; ``model`` holds the initial weights."""
    started = 0
    for p in model.parameters():
        started = zlib.crc32(p.detach().cpu().numpy().tobytes(), started)
    settings = asdict(training)
    del settings["checkpoint_every"]
    text = [len(ids), zlib.crc32(ids.tobytes())]
    run = {"shape": asdict(config), "settings": settings, "seed": seed, "text": text, "initial weights": started}
    plain: dict[str, Any] = json.loads(json.dumps(run))
    return plain


def _fetcher(ids: np.ndarray, order: Order, device: str) -> Callable[[int], torch.Tensor]:
    """A function from a step to its windows, int64 (batch, context + 1); on a GPU the ids live there."""
    reach = np.arange(order.context + 1)
    if device == "cpu":
        return lambda step: torch.from_numpy(ids[order.starts(step)[:, None] + reach].astype(np.int64))
    there = torch.from_numpy(ids.astype(np.int64 if ids.dtype == np.uint32 else np.int32)).to(device)
    reached = torch.from_numpy(reach).to(device)
    return lambda step: there[torch.from_numpy(order.starts(step)).to(device)[:, None] + reached].long()
