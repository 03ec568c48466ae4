"""A small decoder of the Llama family (Touvron et al. 2023), written so that it is fast where it is small.

Tokens are embedded; each layer adds causal attention with rotary positions (Su et al. 2021) and a SwiGLU (Shazeer 2020)
to the stream, each on the RMS-normalised stream (Zhang and Sennrich 2019); the normalised stream meets the embedding
again (or a head of its own) for the logits. Norms have no gain: a gain before a matrix is part of the matrix. So it is
exactly a Llama whose gains are one, and with normalised queries and keys exactly a Qwen3 whose gains are one; as such
``transformers`` opens it (exporting.py).

What makes it fast, in the order of what it gains:

1. The logits are never whole (crossentropy.py).
2. One matrix for queries, keys and values, one for gate and up.
3. RMS norm and SwiGLU are functions with their derivative written out, since the chains of small operations that
   autograd would record cost as much as the matrices do. Where a layer is compiled they are plain formulas, which a
   compiler fuses better than a function it cannot see into.
4. A rotation is one complex product on a CPU, and attention is whichever kernel is faster (attention.py).

With ``recompute`` a layer keeps only its input until its gradient is due, and is then computed once more: a third more
arithmetic for memory that hardly grows with depth.

Elsewhere: sizes to start from (presets.py), compilation (compiling.py), the training loop (loop.py), losses of
documents (score.py), files (checkpoint.py).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from curate.train import attention, crossentropy
from curate.train.attention import attend, rotate
from curate.train.compiling import translated


@dataclass(frozen=True, kw_only=True)
class Config:
    """The shape of a decoder.

    The defaults reach the lowest bits per byte in 10 to 15 CPU-seconds with a byte-level BPE of 2,048 (152 thousand
    weights): at that budget wider and deeper ones see too few tokens, and smaller ones hold too little.

    Args:
        vocab: number of token ids.
        width: of the stream.
        layers: blocks of attention and SwiGLU.
        heads: attention heads; they divide the width into even parts.
        hidden: width inside the SwiGLU.
        context: the most positions it sees at once.
        tied: whether the embedding is the head too.
        rope_base: the longest wavelength of the rotary positions, over 2 pi.
        eps: added to the mean square in the norms.
        qk_norm: whether queries and keys of each head are normalised too (Dehghani et al. 2023). It bounds the scores
            of attention by sqrt(size of a head), so that high learning rates do not diverge (Wortsman et al. 2023); the
            presets for a GPU have it.
    """

    vocab: int
    width: int = 48
    layers: int = 2
    heads: int = 2
    hidden: int = 128
    context: int = 64
    tied: bool = True
    rope_base: float = 10_000.0
    eps: float = 1e-5
    qk_norm: bool = False

    def __post_init__(self) -> None:
        smallest = min(self.vocab, self.width, self.layers, self.heads, self.hidden, self.context)
        if smallest < 1 or self.width % (2 * self.heads):
            raise ValueError(f"{self} is no decoder: all sizes must be positive, and width a multiple of 2 * heads")


class _RMSNorm(torch.autograd.Function):
    """x / sqrt(mean(x²) + eps) over the last axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        y, scale = ctx.saved_tensors
        along = torch.linalg.vecdot(grads[0], y).unsqueeze(-1).mul_(-1 / y.shape[-1])
        return torch.addcmul(grads[0], y, along).mul_(scale), None


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """Normalise the last axis of x, float32: x / sqrt(mean(x²) + eps)."""
    if torch.compiler.is_compiling():  # a compiler fuses the formula better than it fuses a function it cannot see into
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    out: Tensor = _RMSNorm.apply(x, eps)  # type: ignore[no-untyped-call]
    return out


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up, where gate and up are the halves of the last axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        gate, up = x.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate, up = x.chunk(2, -1)
        out = torch.empty_like(x)
        out_gate, out_up = out.chunk(2, -1)
        torch.mul(F.silu(gate), grads[0], out=out_up)
        torch.ops.aten.silu_backward.grad_input(grads[0] * up, gate, grad_input=out_gate)
        return out


def swiglu(x: Tensor) -> Tensor:
    """The gated product silu(gate) * up, where gate and up are the halves of the last axis of x."""
    if torch.compiler.is_compiling():
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up
    out: Tensor = _SwiGLU.apply(x)  # type: ignore[no-untyped-call]
    return out


class Block(nn.Module):
    """One layer. ``compiled`` is when it is: "", "training" or "always" (compiling.py)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.eps, self.qk_norm = config.heads, config.eps, config.qk_norm
        self.compiled = ""
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.gate_up = nn.Linear(config.width, 2 * config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor, turns: Tensor, mask: Any = None) -> Tensor:
        """The stream (B, T, width) after this layer; ``turns`` as in ``rotate``, ``mask`` as in ``attend``."""
        if self.compiled and torch.is_grad_enabled():
            out: Tensor = translated(layer)(self, x, turns, mask)
        elif self.compiled == "always" and x.device.type == "cpu":  # for all widths at once, which the formula is not
            q, k, v = translated(opened, dynamic=True)(self, x, turns)
            out = translated(closed, dynamic=True)(self, x, attend(q, k, v, mask))
        elif self.compiled == "always":
            out = translated(layer, dynamic=True)(self, x, turns, mask)
        else:
            out = layer(self, x, turns, mask)
        return out


def layer(block: Block, x: Tensor, turns: Tensor, mask: Any) -> Tensor:
    """What a Block does: a function, so that all blocks share its translation."""
    q, k, v = opened(block, x, turns)
    return closed(block, x, attend(q, k, v, mask))


def opened(block: Block, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A layer up to its attention: queries, keys and values, each (B, heads, T, size)."""
    qkv = block.qkv(rms_norm(x, block.eps)).view(*x.shape[:2], 3, block.heads, -1)
    qk = rms_norm(qkv[:, :, :2].float(), block.eps) if block.qk_norm else qkv[:, :, :2]
    q, k = rotate(qk, turns).transpose(1, 3).unbind(2)
    v = qkv[:, :, 2].transpose(1, 2)
    return q.to(v.dtype), k.to(v.dtype), v


def closed(block: Block, x: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a layer, from what attention has mixed, (B, heads, T, size)."""
    x = x + block.out(mixed.transpose(1, 2).flatten(2))
    return x + block.down(swiglu(block.gate_up(rms_norm(x, block.eps))))


class Decoder(nn.Module):
    """The model; weights are drawn from ``seed`` alone, the same on every device.

    Matrices start normal with deviation 0.5 / sqrt(inputs), embeddings with 0.02, and the matrices that write to the
    stream at zero, so that every layer starts as the identity.

    Its parameters, all matrices: ``embedding`` and, unless tied, ``head`` (vocab, width); in each of ``blocks`` ``qkv``
    (3 width, width), rows of queries, keys, values by head, the two rows of a rotated pair side by side; ``out``
    (width, width); ``gate_up`` (2 hidden, width); ``down`` (width, hidden).
    """

    turns: Tensor

    def __init__(self, config: Config, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.compiled = ""
        self.recomputing = False
        self.embedding = nn.Embedding(config.vocab, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = self.embedding if config.tied else nn.Embedding(config.vocab, config.width)
        turns = attention.angles(config.context, config.width // config.heads, config.rope_base)[:, None, None]
        # One copy a head, so that the product runs over contiguous memory.
        self.register_buffer("turns", turns.repeat(1, 2, config.heads, 1, 1), persistent=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith(("out.weight", "down.weight")):
                    weight.zero_()
                else:
                    spread = 0.02 if name.startswith(("embedding", "head")) else 0.5 * weight.shape[1] ** -0.5
                    weight.normal_(0.0, spread, generator=generator)

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.parameters())

    @property
    def row_parts(self) -> dict[str, tuple[int, ...]]:
        """Parameters that hold several matrices one below the other, and the rows of each."""
        c = self.config
        parts: dict[str, tuple[int, ...]] = {}
        for i in range(c.layers):
            parts |= {f"blocks.{i}.qkv.weight": (c.width,) * 3, f"blocks.{i}.gate_up.weight": (c.hidden,) * 2}
        return parts

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations of a training step per token, with a whole context a row: 6N + 6LTd.

        A multiplication and an addition are two. N counts the weights of matrix products: the layers and the head, not
        the embedding. Each of them is used once forward and twice backward. Attention is causal: a query meets
        T / 2 keys on average, in two products. A forward pass takes a third. Norms, rotation, softmax and optimizer are
        left out, as is usual, and so is what ``recompute`` does twice.
        """
        c = self.config
        return 6 * self._products + 6 * c.layers * c.context * c.width

    @property
    def flops_per_token_published(self) -> int:
        """The same with attention as if every query met every key: 6N + 12LTd (PaLM, Chowdhery et al. 2022, appendix B;
        nanoGPT, llm.c, nanochat). Use it beside published figures.
        """
        c = self.config
        return 6 * self._products + 12 * c.layers * c.context * c.width

    @property
    def _products(self) -> int:
        c = self.config
        return c.layers * (4 * c.width**2 + 3 * c.width * c.hidden) + c.vocab * c.width

    def recompute(self, on: bool) -> None:
        """Keep a layer's input only while training, and compute the layer again when its gradient is due."""
        self.recomputing = on

    def forward(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """The normalised stream, float32 (B, T, width).

        Args:
            tokens: ids (B, T); T is at most ``context``.
            documents: the number of the document that each token is in, integer (B, T), see attention.py; None where a
                row is one context.

        Raises:
            ValueError: more positions than the context.
        """
        turns, mask = self.places(tokens, documents)
        x = self.embedding(tokens)
        for block in self.blocks:
            if self.recomputing and torch.is_grad_enabled():
                x = checkpoint(block, x, turns, mask, use_reentrant=False)
            else:
                x = block(x, turns, mask)
        return rms_norm(x, self.config.eps)

    def places(self, tokens: Tensor, documents: Tensor | None) -> tuple[Tensor, Any]:
        """How far positions are turned (``rotate``), and who sees whom (``attend``)."""
        if tokens.shape[1] > self.config.context:
            raise ValueError(
                f"{tokens.shape[1]} positions do not fit a context of {self.config.context}; use shorter windows"
            )
        if documents is None:
            return self.turns[: tokens.shape[1]], None
        small = self.config.width // self.config.heads < attention.SMALLEST
        layout = attention.rows(documents, flex=False if small else None)
        return self.turns[:, :1, :1][layout.positions], layout.mask

    def logits(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """Logits of the next token at each position, (B, T, vocab): for a look at a model, not for training."""
        return self(tokens, documents) @ self.head.weight.t()

    def mean_nats(
        self, stream: Tensor, targets: Tensor, weights: Tensor | None = None, *, z_loss: float = 0.0
    ) -> Tensor:
        """Mean nats of targets, with a gradient, from what ``forward`` returned. Heeds autocast.

        Args:
            stream: (B, T, width).
            targets: ids (B, T).
            weights: how much each target counts, (B, T), not negative; None for all alike. Where all are 0, so is the
                mean.
            z_loss: how strongly the gradient pulls log Z, the logarithm of the softmax's sum, towards 0, by the
                penalty z_loss * (log Z)² (PaLM, section 5: 1e-4). The value stays the nats alone, so that curves with
                and without it can be compared.
        """
        return crossentropy.mean_nats(
            stream.flatten(0, 1), self.head.weight, targets.flatten(), None if weights is None else weights.flatten(),
            z_loss=z_loss, compiled=bool(self.compiled),
        )  # fmt: skip

    @torch.inference_mode()
    def nats(
        self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, wanted: Tensor | None = None
    ) -> Tensor:
        """Nats of each target, float32 (B, T), forward only. Heeds autocast.

        Args:
            tokens: ids (B, T).
            targets: ids (B, T).
            documents: as for ``forward``.
            wanted: bool (B, T), which targets are asked for; the head is not computed for the others, whose nats are 0.
        """
        stream = self(tokens, documents).flatten(0, 1)
        asked = None if wanted is None else wanted.flatten()
        out = crossentropy.nats(
            stream, self.head.weight, targets.flatten(), asked, compiled=self.compiled == "always"
        )
        return out.view(targets.shape)
