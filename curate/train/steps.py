"""A run as it moves: model, optimizers, curve and place in the feed, which can be kept and put back.

A step is: the batch, in parts (feeding.py); the loss of each part and its gradient, added up; the gradient's norm,
clipped; the optimizers. Losses and norms stay on the device until they are ``collected``.

Dropout, where a model has any, is drawn from (seed, step, rank) alone, so that a run that continues draws the same.
"""

import zlib
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from curate.train import optim
from curate.train.checkpoint import fitted, restore, state, trained
from curate.train.distributed import ranks, spread, summed, unsynced, whole
from curate.train.feed import Feed
from curate.train.feeding import Feeder
from curate.train.hardware import autocast
from curate.train.metrics import History
from curate.train.schedule import Schedule
from curate.train.training import FREE, Training

CURVE = ("losses", "norms", "tokens")


class Objective(nn.Module):
    """The loss of a part as one module, so that ranks and splits see all that a model's weights are used for."""

    def __init__(self, model: nn.Module, z_loss: float) -> None:
        super().__init__()
        self.model = model
        self.extra = {"z_loss": z_loss} if z_loss else {}

    def forward(self, tokens: Tensor, targets: Tensor, documents: Tensor | None, weights: Tensor | None) -> Tensor:
        """Mean nats of ``targets``, weighted."""
        model: Any = self.model
        stream = model(tokens) if documents is None else model(tokens, documents)
        if weights is None:
            loss: Tensor = model.mean_nats(stream, targets, **self.extra)
        else:
            loss = model.mean_nats(stream, targets, weights, **self.extra)
        return loss


class Run:
    """A model on its way through a feed.

    Args:
        model: on its device.
        training: settings.
        feed: what is read.
        seed: of dropout.
    """

    def __init__(self, model: nn.Module, training: Training, feed: Feed, seed: int) -> None:
        self.model, self.training, self.feed, self.seed, self.me = model, training, feed, seed, ranks()
        self.device = next(model.parameters()).device
        self.objective = spread(Objective(model, training.z_loss), model, training.parallel, self.me)
        self.parameters = list(trained(model).values())
        if not self.parameters:
            raise ValueError(f"no parameter of {type(model).__name__} asks for a gradient; there is nothing to train")
        self.optimizers = optimizers(model, training)
        vocab: int = getattr(model, "config").vocab  # noqa: B009  a Module's attributes are Tensors to a type checker
        self.feeder = Feeder(feed, self.device, vocab, micro=training.micro, me=self.me)
        self.history = History.empty()
        self.evaluations: dict[int, np.ndarray] = {}
        self._sums: dict[str, Tensor] = {}
        self._recent: list[tuple[Tensor, Tensor, int]] = []

    @property
    def done(self) -> int:
        """Steps done."""
        return len(self.history) + len(self._recent)

    def step(self, number: int, factor: float, stop: int) -> None:
        """One step, at a factor of the peak rates; no step from ``stop`` on will follow."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        step = self.feeder.step(number, stop)
        self._seed(number)
        total: Tensor | None = None
        for i, part in enumerate(step.parts):
            with unsynced(self.objective, self.model, last=i == len(step.parts) - 1):
                with autocast(self.device, self.training.precision):
                    loss = self.objective(part.tokens, part.targets, part.documents, part.weights)
                scale = part.share * self.me.count  # ranks' gradients are averaged
                (loss if scale == 1.0 else loss * scale).backward()
            mine = loss.detach() if part.share == 1.0 else loss.detach() * part.share
            total = mine if total is None else total + mine
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.training.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if total is not None:
            self._recent.append((total, whole(norm), step.tokens))

    def _seed(self, number: int) -> None:
        """Seed what dropout draws from (``torch.manual_seed`` does the same in 90 microseconds instead of one).

        torch's generator on a CPU heeds 32 bits of a seed, so the three numbers are hashed into them.
        """
        mixed = zlib.crc32(f"{self.seed} {number} {self.me.rank}".encode())
        torch.default_generator.manual_seed(mixed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(mixed)

    def collect(self, schedule: Schedule) -> int:
        """Read the steps since the last time into the curve; how many they are.

        Raises:
            FloatingPointError: a loss or a gradient that is no number.
        """
        if not self._recent:
            return 0
        losses, norms, tokens = zip(*self._recent, strict=True)
        self._recent.clear()
        first = len(self.history)
        loss = summed(torch.stack(losses)).float().cpu().numpy()
        norm = torch.stack(norms).float().cpu().numpy()
        self.history.add(loss, norm, np.array(tokens))
        wrong = np.flatnonzero(~(np.isfinite(loss) & np.isfinite(norm)))
        if len(wrong):
            at = int(wrong[0])
            what = "gradient" if np.isfinite(loss[at]) else "loss"
            rate = self.training.lr * schedule.factor(first + at)
            raise FloatingPointError(
                f"the {what} is no longer a number at step {first + at + 1} of {schedule.steps}, learning rate "
                f"{rate:.2e}; lower the learning rate (for all runs that are compared)"
            )
        return len(tokens)

    def remember(self) -> None:
        """Add the weights as they are to the average."""
        with torch.no_grad():
            for name, p in trained(self.model).items():
                kept = self._sums.setdefault(name, torch.zeros_like(p, dtype=torch.float32))
                kept.add_(p)

    def average(self, states: int) -> None:
        """Give the model the average of the weights remembered."""
        with torch.no_grad():
            for name, p in trained(self.model).items():
                p.copy_(self._sums[name] / states)

    def state(self) -> dict[str, Tensor]:
        """All that the rest of the run depends on, by name."""
        curve = {f"curve.{name}": torch.from_numpy(getattr(self.history, name)) for name in CURVE}
        seen = {f"evaluation.{at}": torch.from_numpy(np.ascontiguousarray(x)) for at, x in self.evaluations.items()}
        sums = {f"average.{name}": value for name, value in self._sums.items()}
        return {**state(self.model, self.optimizers), **sums, **curve, **seen}

    def restore(self, tensors: Mapping[str, Tensor], *, onward: bool = True) -> None:
        """Put back what ``state`` gave; without its curve where the run does not go ``onward``.

        Raises:
            ValueError: it is of another model or optimizer.
        """
        restore(tensors, self.model, self.optimizers)
        if not onward:
            return
        self.history = History(*(whole(tensors[f"curve.{name}"]).cpu().numpy() for name in CURVE))
        self._sums = {
            name: fitted(tensors[f"average.{name}"], p).clone()
            for name, p in trained(self.model).items()
            if f"average.{name}" in tensors
        }
        self.evaluations = {
            int(name.partition(".")[2]): value.numpy()
            for name, value in tensors.items()
            if name.startswith("evaluation.")
        }

    def identity(self, schedule: Schedule, evaluations: int) -> dict[str, Any]:
        """What decides the run from here, as JSON-able values; the model holds its initial weights."""
        started = 0
        for p in self.model.parameters():
            started = zlib.crc32(whole(p.detach()).cpu().reshape(-1).view(torch.uint8).numpy().tobytes(), started)
        settings = {key: value for key, value in asdict(self.training).items() if key not in FREE}
        config = getattr(self.model, "config", None)
        shape: Any = type(self.model).__name__
        if is_dataclass(config) and not isinstance(config, type):  # where a model was read from decides nothing
            shape = {name: value for name, value in asdict(config).items() if not isinstance(value, Path)}
        return {
            "shape": shape, "settings": settings, "schedule": asdict(schedule), "initial weights": started,
            "dropout": self.seed, "evaluations": evaluations, **self.feed.identity(),
        }  # fmt: skip

    def close(self) -> None:
        """End what prepares batches."""
        self.feeder.close()


def optimizers(model: nn.Module, training: Training) -> list[torch.optim.Optimizer]:
    """What moves the weights of a model, as the settings say; each group carries its peak rate as ``peak``."""
    lr, embedding, betas, decay = training.lr, training.embedding_lr, training.betas, training.weight_decay
    if training.optimizer == "muon":
        return optim.muon(
            model, lr=lr, embedding_lr=embedding, betas=betas, weight_decay=decay, momentum=training.muon_momentum
        )
    return [optim.adamw(model, lr=lr, embedding_lr=embedding, betas=betas, weight_decay=decay)]
