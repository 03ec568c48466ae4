"""Several decoders of one shape as one: each parameter is stacked along a leading axis, the replicas.

    stacked = Stacked([Decoder(config, seed=s) for s in range(9)])
    stacked.blocks[0].qkv.weight                       # (9, 3 width, width), under the name that it has in a Decoder

A batch is the replicas' batches one behind the other, rows (replicas * B, T). All that a decoder does besides products
with its matrices treats each row alone: norms, rotation, attention and its masks, SwiGLU. So the layers are the
Decoder's own code over a larger batch; only what holds weights differs: a matrix becomes one batched product, the
embedding looks a token up in its replica's rows, the loss is one number a replica. Nothing mixes replicas, so a
gradient, too, is what the replica's own would be, but for the order of sums; one that is no longer a number harms no
other.

What it is for: a small model's step is hundreds of kernels that a large GPU finishes before the next one is launched.
Nine models in lockstep launch as many kernels as one.

Elsewhere: training with it (stack.py), what a layer computes (model.py).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curate.train import crossentropy
from curate.train.compiling import translated
from curate.train.model import Block, Decoder, layer, rms_norm

MATRICES = ("qkv", "out", "gate_up", "down")
FEWEST = 32              # rows of a replica in a block of logits, however many replicas there are


class Matrices(nn.Module):
    """A linear layer of each replica, without bias.

    Args:
        weights: one a replica, (outputs, inputs).
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([w.detach() for w in weights]))

    def forward(self, x: Tensor) -> Tensor:
        """The rows of x (replicas * B, T, inputs) times their replica's matrix, (replicas * B, T, outputs)."""
        rows = x.reshape(len(self.weight), -1, x.shape[-1])
        return torch.bmm(rows, self.weight.mT).view(*x.shape[:-1], -1)


class Tables(nn.Embedding):
    """An embedding of each replica; still an Embedding to whoever asks for its kind (optim.kinds).

    Args:
        weights: one a replica, (vocab, width).
    """

    starts: Tensor

    def __init__(self, weights: Sequence[Tensor]) -> None:
        vocab, width = weights[0].shape
        super().__init__(vocab, width, _weight=weights[0].detach())
        self.weight = nn.Parameter(torch.stack([w.detach() for w in weights]))
        starts = torch.arange(len(weights), device=self.weight.device).unsqueeze(1) * vocab
        self.register_buffer("starts", starts, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Rows of the tokens (replicas * B, T), each from its replica's table."""
        rows = tokens.reshape(len(self.weight), -1) + self.starts
        return F.embedding(rows, self.weight.flatten(0, 1)).view(*tokens.shape, -1)


class Stacked(Decoder):
    """Decoders of one shape in lockstep; parameters are copies, named as in a Decoder, with the replicas in front.

    ``forward`` takes and gives rows of all replicas, (replicas * B, T). Where it is compiled (compiling.py), all layers
    are one graph; with ``recompute`` each layer is one.

    Args:
        models: the replicas, on one device.

    Raises:
        ValueError: decoders of different shapes.
    """

    def __init__(self, models: Sequence[Decoder]) -> None:
        shapes = {model.config for model in models}
        if len(shapes) != 1:
            raise ValueError(f"{len(shapes)} shapes cannot be stacked; train decoders of one shape together")
        with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made; nobody else should notice
            super().__init__(models[0].config)
        self.to(models[0].turns.device)
        self.replicas = len(models)
        own = [dict(model.named_parameters()) for model in models]

        def weights(name: str) -> list[Tensor]:
            return [parameters[f"{name}.weight"] for parameters in own]

        for i, block in enumerate(self.blocks):
            for name in MATRICES:
                setattr(block, name, Matrices(weights(f"blocks.{i}.{name}")))
        self.embedding = Tables(weights("embedding"))
        self.head = self.embedding if self.config.tied else Tables(weights("head"))

    @property
    def row_parts(self) -> dict[str, tuple[int, ...]]:
        """None: the first axis is the replicas. A replica's own decoder names its parts."""
        return {}

    def forward(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """The normalised streams, float32 (replicas * B, T, width); arguments as of a Decoder, rows of all replicas."""
        if not self.compiled or not torch.is_grad_enabled() or self.recomputing:
            return super().forward(tokens, documents)
        turns, mask = self.places(tokens, documents)
        out: Tensor = translated(_stream)(self, tokens, turns, mask)
        return out

    def mean_nats(
        self, stream: Tensor, targets: Tensor, weights: Tensor | None = None, *, z_loss: float = 0.0
    ) -> Tensor:
        """Mean nats of each replica's targets, float32 (replicas,), with a gradient; arguments as of a Decoder."""
        each = self.replicas
        return mean_nats(
            stream.reshape(each, -1, stream.shape[-1]), self.head.weight, targets.reshape(each, -1),
            None if weights is None else weights.reshape(each, -1), z_loss=z_loss, compiled=bool(self.compiled),
        )  # fmt: skip

    def logits(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """Logits of the next token at each position, (replicas * B, T, vocab)."""
        stream = self(tokens, documents)
        rows = stream.reshape(self.replicas, -1, stream.shape[-1])
        return torch.bmm(rows, self.head.weight.mT).view(*stream.shape[:-1], -1)

    @torch.inference_mode()
    def nats(
        self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, wanted: Tensor | None = None
    ) -> Tensor:
        """Nats of each target, float32 (replicas * B, T), forward only; arguments as of a Decoder."""
        each = self.replicas
        streams = self(tokens, documents).reshape(each, -1, self.config.width)
        asked = [None] * each if wanted is None else list(wanted.reshape(each, -1))
        out = [
            crossentropy.nats(streams[r], self.head.weight[r], targets.reshape(each, -1)[r], asked[r])
            for r in range(each)
        ]
        return torch.stack(out).view(targets.shape)


def _stream(model: Stacked, tokens: Tensor, turns: Tensor, mask: Any) -> Tensor:
    """All layers in one graph."""
    x = model.embedding(tokens)
    for block in model.blocks:
        if isinstance(block, Block):
            x = layer(block, x, turns, mask)
    return rms_norm(x, model.config.eps)


def mean_nats(
    x: Tensor, heads: Tensor, targets: Tensor, weights: Tensor | None = None, *, z_loss: float = 0.0,
    compiled: bool = False,
) -> Tensor:  # fmt: skip
    """crossentropy.mean_nats of each replica, in blocks of rows that hold some of every replica.

    Rows of weight 0 are multiplied too: replicas may have unequal numbers of them.

    Args:
        x: float32 (replicas, n, d).
        heads: float32 (replicas, vocab, d).
        targets: ids (replicas, n).
        weights: float (replicas, n), not negative; None for all alike.
        z_loss: as there.
        compiled: whether the softmax is compiled.

    Returns:
        float32 (replicas,).
    """
    device = x.device.type
    dtype = crossentropy.product_type(device)
    with torch.autocast(device, enabled=False):
        losses: Tensor = _CrossEntropies.apply(  # type: ignore[no-untyped-call]
            x, heads, targets, None if weights is None else weights.float(), dtype, z_loss, compiled
        )
    return losses


class _CrossEntropies(torch.autograd.Function):
    """See ``mean_nats``; ``dtype`` is that of the matrix products."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, heads: Tensor, targets: Tensor, weights: Tensor | None, dtype: torch.dtype,
        z_loss: float, compiled: bool,
    ) -> Tensor:  # fmt: skip
        replicas, n = targets.shape
        grad_x = torch.empty_like(x)
        grad_heads = torch.zeros_like(heads)
        total = torch.zeros(replicas, dtype=torch.float64, device=x.device)
        into = heads.to(dtype)
        size = _rows(replicas, heads.shape[1], x.device.type, compiled)
        softmax = translated(_formula, dynamic=True) if compiled else _softmax
        for start in range(0, n, size):
            end = min(start + size, n)
            block = x[:, start:end].to(dtype)
            weight = None if weights is None else weights[:, start:end]
            product = torch.bmm(block, into.mT)
            lost, grad = softmax(product if compiled else product.float(), targets[:, start:end], weight, z_loss)
            total += lost.sum(1, dtype=torch.float64)
            grad = grad.to(dtype)
            grad_x[:, start:end] = torch.bmm(grad, into)
            if dtype == torch.float32:
                grad_heads.baddbmm_(grad.mT, block)
            else:
                grad_heads += torch.bmm(grad.mT, block)
        count: Any = n if weights is None else weights.sum(1, dtype=torch.float64).clamp(min=1e-30)
        scale: Any = n if weights is None else count.float()[:, None, None]
        ctx.save_for_backward(grad_x.div_(scale), grad_heads.div_(scale))
        return (total / count).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None, None, None]:
        grad_x, grad_heads = ctx.saved_tensors
        scale = grads[0][:, None, None]
        return grad_x * scale, grad_heads * scale, None, None, None, None, None


def _rows(replicas: int, vocab: int, device: str, compiled: bool) -> int:
    """Rows of each replica in a block: together as many as a block of one decoder has."""
    if device != "cpu":
        most = crossentropy.ROWS_GPU
    else:
        most = max(crossentropy.ROWS, crossentropy.LOGITS // vocab) if compiled else crossentropy.ROWS
    return max(FEWEST, most // replicas)


def _softmax(logits: Tensor, targets: Tensor, weight: Tensor | None, z_loss: float) -> tuple[Tensor, Tensor]:
    """Nats, times their weights, (replicas, rows), and the gradient of the logits, in their place."""
    at = targets.unsqueeze(2)
    there = logits.gather(2, at) if z_loss else None
    torch.log_softmax(logits, 2, out=logits)
    sure = logits.gather(2, at)
    grad = logits.exp_()  # softmax, less one at the target
    if there is not None:
        grad.mul_(1 + 2 * z_loss * (there - sure))  # there - sure = log Z
    grad.scatter_add_(2, at, torch.full(at.shape, -1.0, device=logits.device))
    lost = -sure.squeeze(2)
    if weight is not None:
        grad.mul_(weight.unsqueeze(2))
        lost = lost * weight
    return lost, grad


def _formula(logits: Tensor, targets: Tensor, weight: Tensor | None, z_loss: float) -> tuple[Tensor, Tensor]:
    """The same, for a compiler to fuse: two passes over the logits, and the gradient in their own type."""
    exact, at = logits.float(), targets.unsqueeze(2)
    log_z = exact.logsumexp(2, keepdim=True)
    lost = (log_z - exact.gather(2, at)).squeeze(2)
    grad = torch.exp(exact - log_z) * (1 + 2 * z_loss * log_z)
    grad = grad - (torch.arange(logits.shape[2], device=logits.device) == at).float()
    if weight is not None:
        grad, lost = grad * weight.unsqueeze(2), lost * weight
    return lost, grad.to(logits.dtype)
