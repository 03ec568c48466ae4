"""What a run tells while it goes: a line every few steps, for files and for people.

The JSON-lines file holds what the run decides (step, tokens, rate, loss, norm of the gradient) and no times, so that
it is the same for a run that was killed and continued. Throughput belongs to the screen and to TensorBoard.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from curate.train.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Line:
    """The state of a run after some steps.

    Args:
        step: steps done.
        steps: of the whole run.
        tokens: trained on so far.
        lr: peak learning rate of the matrices times the schedule's factor, at the last of the steps.
        loss: mean over the steps since the last line.
        norm: mean norm of the gradient before clipping, over the same steps.
        tokens_per_second: of this process, since its first step.
        mfu: share of the device's peak arithmetic that is used; None where it is not known.
        seconds_left: at that speed.
    """

    step: int
    steps: int
    tokens: int
    lr: float
    loss: float
    norm: float
    tokens_per_second: float
    mfu: float | None
    seconds_left: float


Watch = Callable[[Line], None]


@dataclass
class History:
    """What happened in each step so far.

    Args:
        losses: mean nats, float32 (steps,).
        norms: of the gradient before clipping, float32 (steps,).
        tokens: that counted in the loss, int64 (steps,).
    """

    losses: np.ndarray
    norms: np.ndarray
    tokens: np.ndarray

    @staticmethod
    def empty() -> "History":
        """Of a run that has not begun."""
        return History(np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.losses)

    def add(self, losses: np.ndarray, norms: np.ndarray, tokens: np.ndarray) -> None:
        """Append some steps."""
        self.losses = np.append(self.losses, losses.astype(np.float32))
        self.norms = np.append(self.norms, norms.astype(np.float32))
        self.tokens = np.append(self.tokens, tokens.astype(np.int64))


class Clock:
    """Seconds and CPU seconds of training."""

    def __init__(self) -> None:
        self.begun, self.begun_cpu = time.perf_counter(), time.process_time()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Time that is not training's."""
        at, at_cpu = time.perf_counter(), time.process_time()
        yield
        self.begun += time.perf_counter() - at
        self.begun_cpu += time.process_time() - at_cpu

    def read(self) -> tuple[float, float]:
        """Both, since the beginning."""
        return time.perf_counter() - self.begun, time.process_time() - self.begun_cpu


class Curve:
    """The JSON-lines file of a run: one line every few steps and one at the end, without times.

    Args:
        path: written from the start, also by a run that continues.
        schedule: of the run.
        lr: its peak.
        every: steps a line.
    """

    def __init__(self, path: Path, schedule: Schedule, lr: float, every: int) -> None:
        self.path, self.schedule, self.lr, self.every = path, schedule, lr, every
        self._written = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def write(self, history: History) -> None:
        """Add the lines that the steps so far complete."""
        with self.path.open("a") as file:
            while self._written < len(history):
                done = min(self._written + self.every, self.schedule.steps)
                if done > len(history):
                    break
                some = slice(self._written, done)
                line = {
                    "step": done,
                    "tokens": int(history.tokens[:done].sum()),
                    "lr": self.lr * self.schedule.factor(done - 1),
                    "loss": float(history.losses[some].mean(dtype=np.float64)),
                    "grad_norm": float(history.norms[some].mean(dtype=np.float64)),
                }
                file.write(json.dumps(line) + "\n")
                self._written = done


class Board:
    """The same, and throughput, for TensorBoard.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"TensorBoard files in {path} need the package tensorboard; pip install tensorboard, or leave them out"
            ) from error
        self._writer: Any = SummaryWriter(str(path))

    def write(self, line: Line) -> None:
        """Add a point to each curve."""
        points = {"loss": line.loss, "grad_norm": line.norm, "lr": line.lr, "tokens_per_second": line.tokens_per_second}
        if line.mfu is not None:
            points["mfu"] = line.mfu
        for name, value in points.items():
            self._writer.add_scalar(name, value, line.step)

    def close(self) -> None:
        """Write what is not yet written."""
        self._writer.close()


class Screen:
    """A line of text for people: rewritten in place on a terminal, one every few seconds in a log.

    Args:
        out: where to.
        seconds: between two lines of a log.
    """

    def __init__(self, out: TextIO | None = None, seconds: float = 10.0) -> None:
        self.out = sys.stderr if out is None else out
        self.live = self.out.isatty()
        self.seconds = 0.2 if self.live else seconds
        self._last = -np.inf

    def __call__(self, line: Line) -> None:
        """Show a line, unless one was shown a moment ago."""
        now, over = time.monotonic(), line.step == line.steps
        if not over and now - self._last < self.seconds:
            return
        self._last = now
        text = shown(line)
        self.out.write(f"\r\x1b[2K{text}" if self.live else f"{text}\n")
        if self.live and over:
            self.out.write("\n")
        self.out.flush()


def shown(line: Line) -> str:
    """For example ``step 400/1,000  loss 3.215  lr 5.0e-03  |g| 0.41  52,000 tokens/s  12 % MFU  0:14 left``."""
    minutes, seconds = divmod(round(line.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    used = "" if line.mfu is None else f"  {100 * line.mfu:.1f} % MFU"
    return (
        f"step {line.step:,}/{line.steps:,}  loss {line.loss:.4f}  lr {line.lr:.1e}  |g| {line.norm:.2f}  "
        f"{line.tokens_per_second:,.0f} tokens/s{used}  {left} left"
    )
