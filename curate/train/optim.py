"""Optimizers: AdamW (Loshchilov and Hutter 2019), and Muon (Jordan et al. 2024) for the matrices.

Parameters are of three kinds. *Tables*, embedding and head, learn faster than the rest: each row of an embedding is
moved only by the steps in which its token occurs (measured for the smallest model: 0.07 bits per byte lower at equal
time), and they are not decayed. *Vectors*, gains and biases, are not decayed either. All else are *matrices*.

Muon moves a matrix by its momentum made orthogonal: all singular values, which differ by orders of magnitude in a
gradient, are brought near 1 by five steps of a Newton-Schulz iteration, a polynomial that needs matrix products only.
The move is scaled by 0.2 sqrt(longer side) (Liu et al. 2025, "Muon is scalable", section 2.2), so that its root mean
square is that of a move of AdamW, and a learning rate means the same for both. Matrices of one shape are made
orthogonal together, in one batched product. Where a model keeps several matrices in one parameter (queries, keys and
values; gate and up), it may say so (``row_parts``), and each is made orthogonal alone: together, the strong one would
decide.

Cost of Muon: 5 (4 r^2 c + 2 r^3) floating-point operations a matrix of r rows and c >= r columns and a step, whatever
the batch: under a percent for large batches, 6 to 12 % of a small step on a CPU. State: one number a weight, AdamW two.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from curate.train.distributed import like, whole

HEADS = ("head", "lm_head")
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # steep at zero; singular values end between about 0.7 and 1.2
TINY = 1e-7


def kinds(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Matrices, tables and vectors of a model, those that are trained."""
    tables = {
        id(p)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) or name.rpartition(".")[2] in HEADS
        for p in module.parameters(recurse=False)
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim >= 2 and id(p) not in tables]
    vectors = [p for p in trained if p.ndim < 2 and id(p) not in tables]
    return matrices, [p for p in trained if id(p) in tables], vectors


def adamw(
    model: nn.Module, *, lr: float, embedding_lr: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """The optimizer; each group carries its peak as ``peak``.

    Args:
        model: what is trained.
        lr: peak for matrices.
        embedding_lr: how many times that for embedding and head.
        betas: decay of the two moments.
        weight_decay: of matrices.
    """
    matrices, tables, vectors = kinds(model)
    groups = [
        {"params": matrices, "lr": lr, "peak": lr, "weight_decay": weight_decay},
        {"params": tables, "lr": lr * embedding_lr, "peak": lr * embedding_lr, "weight_decay": 0.0},
        {"params": vectors, "lr": lr, "peak": lr, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], betas=betas, fused=True)


def muon(
    model: nn.Module, *, lr: float, embedding_lr: float, betas: tuple[float, float], weight_decay: float,
    momentum: float,
) -> list[torch.optim.Optimizer]:  # fmt: skip
    """Muon for the matrices and AdamW for the rest; arguments as for ``adamw``, and Muon's momentum.

    Raises:
        ValueError: the model has no matrix to train.
    """
    matrices, tables, vectors = kinds(model)
    if not matrices:
        raise ValueError(f"muon needs matrices, and no parameter of {type(model).__name__} is one; use adamw")
    parts: Mapping[str, Sequence[int]] = getattr(model, "row_parts", {})
    named = dict(model.named_parameters())
    first = Muon(
        [{"params": matrices, "lr": lr, "peak": lr, "weight_decay": weight_decay}], momentum=momentum,
        parts={named[name]: tuple(rows) for name, rows in parts.items() if name in named},
    )  # fmt: skip
    groups = [
        {"params": tables, "lr": lr * embedding_lr, "peak": lr * embedding_lr, "weight_decay": 0.0},
        {"params": vectors, "lr": lr, "peak": lr, "weight_decay": 0.0},
    ]
    rest = [g for g in groups if g["params"]]
    return [first, torch.optim.AdamW(rest, betas=betas, fused=True)] if rest else [first]


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, with decoupled weight decay; state: ``momentum``, one number a weight.

    Args:
        groups: of parameters with two axes (or more: the last two are a matrix), each with ``lr`` and ``weight_decay``.
        momentum: share of the momentum that a step keeps; the move looks ahead (Nesterov).
        parts: for a parameter that holds several matrices one under the other, the rows of each.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, momentum: float, parts: Mapping[Tensor, tuple[int, ...]] | None = None
    ) -> None:
        super().__init__(groups, {"momentum": momentum})
        self.parts = {} if parts is None else dict(parts)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            pieces: list[Tensor] = []
            for p in moved:
                kept = self.state[p].setdefault("momentum", torch.zeros_like(p))
                kept.mul_(group["momentum"]).add_(p.grad)
                ahead = whole(torch.add(p.grad, kept, alpha=group["momentum"]))
                pieces += torch.split(ahead, list(self.parts.get(p, (len(ahead),))))
            made = iter(orthogonal(pieces))
            for p in moved:
                rows = [next(made) for _ in self.parts.get(p, (0,))]
                move = torch.cat(rows) if len(rows) > 1 else rows[0]
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(like(p, move.to(p.dtype)), alpha=group["lr"])


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Each matrix with its singular values near 1, times 0.2 sqrt(longer side); those of one shape together.

    The arithmetic is bfloat16 on a GPU and float32 on a CPU.
    """
    same: dict[tuple[int, ...], list[int]] = {}
    for i, m in enumerate(matrices):
        same.setdefault(tuple(m.shape), []).append(i)
    out: list[Tensor] = [torch.empty(0)] * len(matrices)
    for shape, members in same.items():
        stack = torch.stack([matrices[i] for i in members])
        for i, made in zip(members, newton_schulz(stack).mul_(0.2 * max(shape[-2:]) ** 0.5), strict=True):
            out[i] = made
    return out


def newton_schulz(stack: Tensor, steps: int = 5) -> Tensor:
    """Matrices (..., r, c) made nearly orthogonal: x becomes a x + b (x x') x + c (x x')^2 x, so many times over."""
    a, b, c = NEWTON_SCHULZ
    x = stack.flatten(0, -3)
    norm = torch.linalg.matrix_norm(x, keepdim=True)
    x = (x / (norm + TINY)).to(torch.bfloat16 if x.device.type == "cuda" else torch.float32)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(stack.shape)
