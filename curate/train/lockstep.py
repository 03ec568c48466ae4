"""Several runs as they move in lockstep: what steps.py is for one, with a number a replica wherever that has one.

A step is: the batches of all feeds, one behind the other; the losses, one a replica, and the gradient of their sum,
which is to each replica's weights the gradient of its own; each replica's norm, clipped; the optimizers.

Where one rate and AdamW serve all, the optimizer moves the stacked weights, as few tensors as one model has. Otherwise
it moves views of them, each replica's as the weights of a Decoder.

Elsewhere: the loop around it (stack.py), the model (stacked.py).
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from curate.train.feed import Feed
from curate.train.feeding import Feeder, Part
from curate.train.hardware import autocast
from curate.train.metrics import History
from curate.train.model import Decoder
from curate.train.schedule import Schedule
from curate.train.stacked import Stacked
from curate.train.steps import optimizers
from curate.train.training import Training

CPU = torch.device("cpu")


class Uneven(ValueError):
    """Feeds whose batches of one step have different shapes."""


@dataclass(frozen=True)
class Parts:
    """What all replicas compute in one forward pass; see feeding.Part.

    Args:
        tokens: int64 (replicas * rows, width).
        targets: int64 (replicas * rows, width).
        documents: int32 (replicas * rows, width), None where every row is one context.
        weights: float32 (replicas * rows, width), None for all alike.
        shares: of each replica's loss, float32 (replicas,); None where this is all of it.
    """

    tokens: Tensor
    targets: Tensor
    documents: Tensor | None
    weights: Tensor | None
    shares: Tensor | None

    @staticmethod
    def of(parts: Sequence[Part]) -> "Parts":
        """One part of each replica, all of one shape."""
        documents = weights = shares = None
        if any(part.documents is not None for part in parts):
            documents = torch.cat([
                torch.zeros_like(p.tokens, dtype=torch.int32) if p.documents is None else p.documents for p in parts
            ])
        if any(part.weights is not None for part in parts):
            weights = torch.cat([torch.ones(p.tokens.shape) if p.weights is None else p.weights for p in parts])
        if any(part.share != 1.0 for part in parts):
            shares = torch.tensor([part.share for part in parts])
        tokens, targets = (torch.cat([getattr(part, name) for part in parts]) for name in ("tokens", "targets"))
        return Parts(tokens, targets, documents, weights, shares)

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Parts":
        """The same with each tensor moved."""
        tensors = (self.tokens, self.targets, self.documents, self.weights, self.shares)
        return Parts(*(None if t is None else move(t) for t in tensors))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Step:
    """A step of all replicas; ``tokens`` are those that count in the loss, of each."""

    parts: list[Parts]
    tokens: list[int]


class Feeders:
    """The steps of all feeds, on the device; on a GPU the next one is made and pinned while this one is computed.

    Args:
        feeds: one a replica.
        names: of the replicas.
        device: where to.
        vocab: ids are below it.
        micro: at most so many tokens of a replica in a part.
    """

    def __init__(
        self, feeds: Sequence[Feed], names: Sequence[str], device: torch.device, vocab: int, micro: int | None
    ) -> None:
        self.each = [Feeder(feed, CPU, vocab, micro=micro) for feed in feeds]
        self.names, self.device = names, device
        self._thread = ThreadPoolExecutor(1) if device.type == "cuda" else None
        self._next: tuple[int, Future[Step]] | None = None

    def step(self, number: int, stop: int) -> Step:
        """One step; on a GPU the one behind it is prepared, if it is before ``stop``.

        Raises:
            Uneven: batches of different shapes.
            ValueError: a batch that cannot be trained on.
        """
        if self._thread is None:
            return self._made(number)
        ready = self._next[1].result() if self._next is not None and self._next[0] == number else self._made(number)
        self._next = (number + 1, self._thread.submit(self._made, number + 1)) if number + 1 < stop else None
        there = [part.moved(lambda t: t.to(self.device, non_blocking=True)) for part in ready.parts]
        return Step([replace(p, tokens=p.tokens.long(), targets=p.targets.long()) for p in there], ready.tokens)

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _made(self, number: int) -> Step:
        """The step in this machine's memory."""
        steps = []
        for name, feeder in zip(self.names, self.each, strict=True):
            try:
                steps.append(feeder.step(number, 0))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        shapes = {tuple(tuple(part.tokens.shape) for part in step.parts) for step in steps}
        if len(shapes) > 1:
            raise Uneven(
                f"the batches of step {number} differ in shape between {', '.join(self.names)}; train them one by one"
            )
        parts = [Parts.of(some) for some in zip(*(step.parts for step in steps), strict=True)]
        if self._thread is not None:
            parts = [replace(p, tokens=p.tokens.int(), targets=p.targets.int()) for p in parts]
            parts = [part.moved(lambda t: t.pin_memory()) for part in parts]
        return Step(parts, [step.tokens for step in steps])


class Replicas(nn.Module):
    """Some replicas of a stack as decoders, whose weights are views of the stacked ones.

    Args:
        stacked: the stack.
        models: decoders of its shape, one a replica; they are copied.
        chosen: which replicas.
    """

    def __init__(self, stacked: Stacked, models: Sequence[Decoder], chosen: Sequence[int]) -> None:
        super().__init__()
        self.each = nn.ModuleList(copy.deepcopy(models[r]) for r in chosen)
        self.pairs: list[tuple[nn.Parameter, nn.Parameter, int]] = []  # view, what it is a view of, replica
        whole = dict(stacked.named_parameters())
        for r, made in zip(chosen, self.each, strict=True):
            for name, p in made.named_parameters():
                p.data = whole[name].data[r]
                self.pairs.append((p, whole[name], r))

    @property
    def row_parts(self) -> dict[str, tuple[int, ...]]:
        """The matrices in a parameter, for Muon (Decoder.row_parts)."""
        return {
            f"each.{i}.{name}": rows
            for i, made in enumerate(self.each) if isinstance(made, Decoder)
            for name, rows in made.row_parts.items()
        }  # fmt: skip

    def hand_over(self) -> None:
        """Give the views the gradients of the stacked weights."""
        for view, whole, r in self.pairs:
            view.grad = None if whole.grad is None else whole.grad[r]


class Runs:
    """Models on their way through their feeds.

    Args:
        models: the replicas, on their device; copied, until ``give``.
        training: settings.
        feeds: what each reads.
        rates: each one's peak rate.
        names: of the replicas.
    """

    def __init__(
        self, models: Sequence[Decoder], training: Training, feeds: Sequence[Feed], rates: Sequence[float],
        names: Sequence[str],
    ) -> None:  # fmt: skip
        self.models, self.training, self.rates, self.names = models, training, rates, names
        self.stacked = Stacked(models)
        self.device = self.stacked.turns.device
        self.parameters = list(self.stacked.parameters())
        self.feeders = Feeders(feeds, names, self.device, self.stacked.config.vocab, training.micro)
        self.histories = [History.empty() for _ in models]
        self.broken: dict[int, str] = {}
        self._views: list[Replicas] = []
        self._sums: list[Tensor] = []
        self._recent: list[tuple[Tensor, Tensor, list[int]]] = []
        if training.optimizer == "adamw" and len(set(rates)) == 1:
            self.optimizers = optimizers(self.stacked, replace(training, lr=rates[0]))
            return
        self.optimizers = []
        for rate in dict.fromkeys(rates):
            views = Replicas(self.stacked, models, [r for r, own in enumerate(rates) if own == rate])
            self._views.append(views)
            self.optimizers += optimizers(views, replace(training, lr=rate))

    def step(self, number: int, factor: float, stop: int) -> None:
        """One step of all, at a factor of the peak rates; no step from ``stop`` on will follow."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        step = self.feeders.step(number, stop)
        total: Tensor | None = None
        for part in step.parts:
            with autocast(self.device, self.training.precision):
                stream = self.stacked(part.tokens, part.documents)
                losses = self.stacked.mean_nats(stream, part.targets, part.weights, z_loss=self.training.z_loss)
            losses = losses if part.shares is None else losses * part.shares
            losses.sum().backward()  # type: ignore[no-untyped-call]
            total = losses.detach() if total is None else total + losses.detach()
        norms = clip(self.parameters, self.training.clip)
        for views in self._views:
            views.hand_over()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for p in self.parameters:
            p.grad = None
        if total is not None:
            self._recent.append((total, norms, step.tokens))

    def collect(self, schedule: Schedule) -> int:
        """Read the steps since the last time into the curves, and name what broke; how many they are."""
        if not self._recent:
            return 0
        losses, norms, tokens = zip(*self._recent, strict=True)
        self._recent.clear()
        loss, norm = (torch.stack(x).float().cpu() for x in (losses, norms))
        counted = torch.tensor(tokens)
        fine = (loss.isfinite() & norm.isfinite()).T
        for r, history in enumerate(self.histories):
            first = len(history)
            history.add(loss[:, r].numpy(), norm[:, r].numpy(), counted[:, r].numpy())
            if r in self.broken or bool(fine[r].all()):
                continue
            at = int((~fine[r]).nonzero()[0])
            what = "gradient" if bool(loss[at, r].isfinite()) else "loss"
            self.broken[r] = (
                f"{self.names[r]}: the {what} is no longer a number at step {first + at + 1} of {schedule.steps}, "
                f"learning rate {self.rates[r] * schedule.factor(first + at):.2e}; lower the learning rate (for all "
                "runs that are compared)"
            )
        return len(tokens)

    def decoders(self) -> list[Decoder]:
        """Each replica as it is now: its weights are views."""
        made = Replicas(self.stacked, self.models, range(len(self.models)))
        return [decoder for decoder in made.each if isinstance(decoder, Decoder)]

    def remember(self) -> None:
        """Add the weights as they are to the average."""
        with torch.no_grad():
            self._sums = self._sums or [torch.zeros_like(p) for p in self.parameters]
            for kept, p in zip(self._sums, self.parameters, strict=True):
                kept.add_(p)

    def average(self, states: int) -> None:
        """Give the stack the average of the weights remembered."""
        with torch.no_grad():
            for kept, p in zip(self._sums, self.parameters, strict=True):
                p.copy_(kept / states)

    def give(self) -> None:
        """Give each model the weights of its replica."""
        whole = dict(self.stacked.named_parameters())
        with torch.no_grad():
            for r, model in enumerate(self.models):
                for name, p in model.named_parameters():
                    p.copy_(whole[name][r])

    def close(self) -> None:
        """End what prepares batches."""
        self.feeders.close()


def clip(parameters: Sequence[Tensor], most: float) -> Tensor:
    """Shrink the gradient of each replica whose norm is above ``most`` to it; their norms before, float32 (replicas,).

    As torch.nn.utils.clip_grad_norm_ does for one model.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    each = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads])
    norms = torch.linalg.vector_norm(each, dim=0)
    shrink = (most / (norms + 1e-6)).clamp(max=1.0)
    for g in grads:
        g.mul_(shrink.view(-1, *[1] * (g.ndim - 1)))
    return norms
