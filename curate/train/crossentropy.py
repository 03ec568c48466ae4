"""The loss of a large vocabulary without its logits: cross-entropy some rows at a time.

The head is most of a small model, and whole logits are most of its memory: 4,096 tokens of 8,192 words are 134 MB, and
their gradient as much again. Here a block of rows is multiplied, its loss and at once its gradient are made, and the
block is forgotten. So the gradient is made on the way forward, and the way back only multiplies it by a number. Memory
is that of one block; the time is that of the plain formula, or less.

A block is as large as a core's cache on a CPU, or where its softmax is compiled (compiling.py) as 32 MB of bfloat16:
then two passes read the logits and write their gradient, up to a factor a row that the matrix products take over, and
each exponential is taken once.

Rows of weight 0 are not multiplied at all on a CPU (padding, masked spans).
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from curate.train.compiling import translated

ROWS = 256               # rows of logits at a time on a CPU: 2 MB for 2,048 words, which is what a core's cache holds
ROWS_GPU = 16384
LOGITS = 1 << 24         # logits at a time, where the softmax is compiled on a CPU


def mean_nats(
    x: Tensor, head: Tensor, targets: Tensor, weights: Tensor | None = None, *, z_loss: float = 0.0,
    compiled: bool = False,
) -> Tensor:  # fmt: skip
    """Mean nats of targets under softmax(x @ head.T), with a gradient. Heeds autocast; softmax and sums are float32.

    Args:
        x: float32 (n, d).
        head: float32 (vocab, d).
        targets: ids (n,).
        weights: float (n,), not negative: sum(weights * nats) / sum(weights), 0 where all are 0. None for all alike.
        z_loss: weight of (log Z)² in the gradient; the value is without it.
        compiled: whether the softmax is compiled.
    """
    device = x.device.type
    dtype = product_type(device)
    kept = None
    if weights is not None:
        weights = weights.float()
        if device == "cpu":
            kept = weights.nonzero().squeeze(1)
            x, targets, weights = x[kept], targets[kept], weights[kept]
    with torch.autocast(device, enabled=False):
        loss: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
            x, head, targets, weights, dtype, z_loss, compiled
        )
    return loss


def nats(
    x: Tensor, head: Tensor, targets: Tensor, wanted: Tensor | None = None, *, compiled: bool = False
) -> Tensor:
    """Nats of each target, float32 (n,), without a gradient; 0 where ``wanted``, bool (n,), is false. Heeds autocast.

    What a row gets does not depend on how many are wanted: all blocks of one n are of one size.
    """
    device = x.device.type
    dtype, n = product_type(device), len(targets)
    size = min(ROWS if device == "cpu" else ROWS_GPU, n)
    asked = None
    if wanted is not None:
        asked = wanted.nonzero().squeeze(1)
        short = -len(asked) % max(size, 1)
        x, targets = F.pad(x[asked], (0, 0, 0, short)), F.pad(targets[asked], (0, short))
    out = torch.empty(len(targets), device=x.device)
    room = torch.empty((size, len(head)), device=x.device)
    with torch.autocast(device, enabled=False):
        into = head.to(dtype).t()
        for start, end in _blocks(len(targets), size):
            logits, at = room[: end - start], targets[start:end].unsqueeze(1)
            if compiled:
                product = x[start:end].to(dtype) @ into
                out[start:end] = translated(_fused_nats, dynamic=True)(product, targets[start:end])
                continue
            _product(x[start:end].to(dtype), into, logits)
            torch.log_softmax(logits, 1, out=logits)
            torch.neg(logits.gather(1, at).squeeze(1), out=out[start:end])
    if asked is None:
        return out
    return torch.zeros(n, device=x.device).index_copy_(0, asked, out[: len(asked)])


def product_type(device: str) -> torch.dtype:
    """The type that autocast gives to matrix products on a device."""
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32


class _CrossEntropy(torch.autograd.Function):
    """See ``mean_nats``; ``dtype`` is that of the matrix products."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, head: Tensor, targets: Tensor, weights: Tensor | None, dtype: torch.dtype,
        z_loss: float, compiled: bool,
    ) -> Tensor:  # fmt: skip
        n = len(targets)
        grad_x = torch.empty_like(x)
        grad_head = torch.zeros_like(head)
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        into = head.to(dtype)
        if x.device.type != "cpu":
            size = ROWS_GPU
        else:
            size = max(ROWS, LOGITS // len(head)) if compiled else ROWS
        softmax = _compiled_softmax if compiled else _softmax
        for start, end in _blocks(n, size):
            block = x[start:end].to(dtype)
            weight = None if weights is None else weights[start:end]
            lost, grad, factor = softmax(block, into, targets[start:end], weight, z_loss)
            total += lost
            _product(grad, into, grad_x[start:end])
            if factor is not None:
                grad_x[start:end].mul_(factor)
                block = (block * factor).to(dtype)
            if dtype == torch.float32:
                grad_head.addmm_(grad.t(), block)
            else:
                grad_head += grad.t() @ block
        # Without weights, or with weights of 0 only, by a number that the device need not be asked for.
        count: Any = n if weights is None else weights.sum(dtype=torch.float64).clamp(min=1e-30)
        scale: Any = n if weights is None else count.float()
        ctx.save_for_backward(grad_x.div_(scale), grad_head.div_(scale))
        return (total / count).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None, None, None]:
        grad_x, grad_head = ctx.saved_tensors
        return grad_x * grads[0], grad_head * grads[0], None, None, None, None, None


def _softmax(
    block: Tensor, into: Tensor, targets: Tensor, weight: Tensor | None, z_loss: float
) -> tuple[Tensor, Tensor, None]:
    """The sum of a block's nats, float64, the gradient of its logits in the type of ``block``, and no factor."""
    at = targets.unsqueeze(1)
    logits = torch.empty((len(block), len(into)), device=block.device)
    _product(block, into.t(), logits)
    there = logits.gather(1, at) if z_loss else None
    torch.log_softmax(logits, 1, out=logits)
    sure = logits.gather(1, at)
    lost = sure if weight is None else sure * weight.unsqueeze(1)
    grad = logits.exp_()  # softmax, less one at the target
    if there is not None:
        grad.mul_(1 + 2 * z_loss * (there - sure))  # there - sure = log Z
    grad.scatter_add_(1, at, torch.full(at.shape, -1.0, device=block.device))
    if weight is not None:
        grad.mul_(weight.unsqueeze(1))
    return -lost.sum(dtype=torch.float64), grad.to(block.dtype), None


def _compiled_softmax(
    block: Tensor, into: Tensor, targets: Tensor, weight: Tensor | None, z_loss: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, fused, from logits that the product has left in the type of ``block``.

    The gradient lacks a factor a row, float32 (rows, 1), so that the sum need not be known when it is written.
    """
    if weight is None:
        weight = torch.ones(len(block), device=block.device)
    powers, most, total, at = translated(_fused, dynamic=True)(block @ into.t(), targets)
    log_z = most + total.log()
    pull = (1 + 2 * z_loss * log_z) / total
    # powers * pull is the softmax's part of the gradient; minus one at the target is minus 1 / pull there.
    # Put there by index: scatter_ copies all of the powers twice.
    there = (torch.exp(at - most) - 1 / pull).to(powers.dtype).squeeze(1)
    powers.index_put_((torch.arange(len(block), device=block.device), targets), there)
    weight = weight.unsqueeze(1)
    return ((log_z - at) * weight).sum(dtype=torch.float64), powers, pull * weight


def _fused(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """exp(logits - most) in the type of the logits; of each row the most, the sum, and the target's logit, float32."""
    exact = logits.float()
    most = exact.amax(1, keepdim=True)
    powers = torch.exp(exact - most)
    return powers.to(logits.dtype), most, powers.sum(1, keepdim=True), exact.gather(1, targets.unsqueeze(1))


def _fused_nats(logits: Tensor, targets: Tensor) -> Tensor:
    exact = logits.float()
    most = exact.amax(1, keepdim=True)
    log_z = most + torch.log(torch.exp(exact - most).sum(1, keepdim=True))
    return (log_z - exact.gather(1, targets.unsqueeze(1))).squeeze(1)


def _blocks(n: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, size):
        yield start, min(start + size, n)


def _product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """``out = a @ b``; ``out`` is float32, whatever the product's own type."""
    if a.dtype == out.dtype:
        torch.mm(a, b, out=out)
    else:
        out.copy_(a @ b)
