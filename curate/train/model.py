"""A small decoder of the Llama family (Touvron et al. 2023), written so that it is fast where it is small.

Tokens are embedded; each layer adds causal attention with rotary positions (Su et al. 2021) and a SwiGLU (Shazeer 2020)
to the stream, each on the RMS-normalised stream (Zhang and Sennrich 2019); the normalised stream meets the embedding
again (or a head of its own) for the logits. Norms have no gain: a gain before a matrix is part of the matrix. So it is
exactly a Llama whose gains are one, and ``export_hf`` writes it as one that ``transformers`` opens.

What makes it fast, in the order of what it gains:

1. The logits are never whole. The cross-entropy takes some rows at a time and makes the gradient while it has them
   (the head is most of a small model), so its memory is that of one block of rows.
2. One matrix for queries, keys and values, one for gate and up.
3. RMS norm and SwiGLU are functions with their derivative written out, since the chains of small operations that
   autograd would record cost as much as the matrices do.
4. A rotation is one complex product on a CPU, and attention is whichever of two ways is faster (``attend``).

Elsewhere: the training loop (loop.py), losses of documents (score.py), files (checkpoint.py).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

ROWS = 256               # rows of logits at a time on a CPU: 2 MB for 2,048 words, which is what a core's cache holds
ROWS_GPU = 16384


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


class _CrossEntropy(torch.autograd.Function):
    """Mean nats of ``targets`` (n,) under softmax(x @ head.T), x (n, d); the gradient is made on the way forward.

    ``dtype`` is that of the matrix products; softmax and sums are float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, head: Tensor, targets: Tensor, dtype: torch.dtype, rows: int) -> Tensor:
        n = len(targets)
        grad_x = torch.empty_like(x)
        grad_head = torch.zeros_like(head)
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        into = head.to(dtype)
        room = torch.empty((min(rows, n), len(head)), device=x.device)
        for start in range(0, n, rows):
            block = x[start : start + rows].to(dtype)
            wanted = targets[start : start + rows].unsqueeze(1)
            logits = room[: len(block)]
            _product(block, into.t(), logits)
            torch.log_softmax(logits, 1, out=logits)
            total -= logits.gather(1, wanted).sum(dtype=torch.float64)
            grad = logits.exp_()  # softmax, less one at the target
            grad.scatter_add_(1, wanted, torch.full(wanted.shape, -1.0, device=x.device))
            grad = grad.to(dtype)
            _product(grad, into, grad_x[start : start + rows])
            if dtype == torch.float32:
                grad_head.addmm_(grad.t(), block)
            else:
                grad_head += grad.t() @ block
        ctx.save_for_backward(grad_x.div_(n), grad_head.div_(n))
        return (total / n).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_x, grad_head = ctx.saved_tensors
        return grad_x * grads[0], grad_head * grads[0], None, None, None


def _product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """``out = a @ b``; ``out`` is float32, whatever the product's own type."""
    if a.dtype == out.dtype:
        torch.mm(a, b, out=out)
    else:
        out.copy_(a @ b)


class Block(nn.Module):
    """One layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.eps = config.heads, config.eps
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.gate_up = nn.Linear(config.width, 2 * config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        """The stream (B, T, width) after this layer; ``turns`` as in Decoder."""
        qkv = self.qkv(rms_norm(x, self.eps)).view(*x.shape[:2], 3, self.heads, -1)
        q, k = rotate(qkv[:, :, :2], turns).transpose(1, 3).unbind(2)  # each (B, heads, T, size)
        v = qkv[:, :, 2].transpose(1, 2)
        mixed = attend(q.to(v.dtype), k.to(v.dtype), v)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(swiglu(self.gate_up(rms_norm(x, self.eps))))


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotary positions: turn each pair of neighbours of x (B, T, 2, heads, size) by its angle, in float32.

    Args:
        x: queries and keys.
        turns: cosine and sine of each pair's angle, (T, 2, heads, size / 2, 2).
    """
    pairs = x.float().view(*x.shape[:-1], -1, 2)
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turns)).flatten(-2)
    a, b = pairs.unbind(-1)
    cos, sin = turns.unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention over (B, heads, T, size).

    It is torch's own, but in bfloat16 training on a CPU, where its backward pass was measured to be the slowest part of
    a step: by the formula a whole step is 1.15 times (width 128) to 1.5 times (width 48) as fast.
    """
    if v.device.type == "cpu" and v.dtype != torch.float32 and torch.is_grad_enabled():
        return _attend_by_formula(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _attend_by_formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    future = torch.full((q.shape[2], k.shape[2]), -torch.inf, device=v.device).triu(1)
    weights = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + future, -1)
    return weights.to(v.dtype) @ v


class Decoder(nn.Module):
    """The model; weights are drawn from ``seed`` alone, the same on every device.

    Matrices start normal with deviation 0.5 / sqrt(inputs), embeddings with 0.02, and the matrices that write to the
    stream at zero, so that every layer starts as the identity.
    """

    turns: Tensor

    def __init__(self, config: Config, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = self.embedding if config.tied else nn.Embedding(config.vocab, config.width)
        size = config.width // config.heads
        rates = config.rope_base ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles = torch.outer(torch.arange(config.context, dtype=torch.float64), rates)
        turns = torch.stack((angles.cos(), angles.sin()), -1).float()[:, None, None]
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
    def flops_per_token(self) -> int:
        """Floating-point operations of a training step per token: 6 a matrix weight, head included, and 6LTd for
        causal attention over a whole context. A forward pass takes a third.
        """
        c = self.config
        matrices = c.layers * (4 * c.width**2 + 3 * c.width * c.hidden) + c.vocab * c.width
        return 6 * matrices + 6 * c.layers * c.context * c.width

    def forward(self, tokens: Tensor) -> Tensor:
        """The normalised stream, float32 (B, T, width), of token ids (B, T); T is at most ``context``.

        Raises:
            ValueError: more positions than the context.
        """
        if tokens.shape[1] > self.config.context:
            raise ValueError(
                f"{tokens.shape[1]} positions do not fit a context of {self.config.context}; use shorter windows"
            )
        x = self.embedding(tokens)
        turns = self.turns[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, turns)
        return rms_norm(x, self.config.eps)

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits of the next token at each position, (B, T, vocab): for a look at a model, not for training."""
        return self(tokens) @ self.head.weight.t()

    def mean_nats(self, stream: Tensor, targets: Tensor) -> Tensor:
        """Mean nats of targets (B, T), with a gradient, from what ``forward`` returned. Heeds autocast."""
        device = stream.device.type
        dtype, rows = _product_type(device), ROWS if device == "cpu" else ROWS_GPU
        with torch.autocast(device, enabled=False):
            loss: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
                stream.flatten(0, 1), self.head.weight, targets.flatten(), dtype, rows
            )
        return loss

    @torch.inference_mode()
    def nats(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Nats of each target, float32 (B, T), forward only. Heeds autocast."""
        device = tokens.device.type
        dtype, rows = _product_type(device), ROWS if device == "cpu" else ROWS_GPU
        stream, wanted = self(tokens).flatten(0, 1), targets.flatten().unsqueeze(1)
        out = torch.empty(len(wanted), device=stream.device)
        room = torch.empty((min(rows, len(wanted)), self.config.vocab), device=stream.device)
        with torch.autocast(device, enabled=False):
            into = self.head.weight.to(dtype).t()
            for start in range(0, len(wanted), rows):
                block = stream[start : start + rows].to(dtype)
                logits = room[: len(block)]
                _product(block, into, logits)
                torch.log_softmax(logits, 1, out=logits)
                torch.neg(logits.gather(1, wanted[start : start + rows]).squeeze(1), out=out[start : start + rows])
        return out.view(targets.shape)


def _product_type(device: str) -> torch.dtype:
    """The type that autocast gives to matrix products on a device."""
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32


def export_hf(model: Decoder, out: Path) -> None:
    """Write the model so that ``transformers.LlamaForCausalLM.from_pretrained(out)`` opens it, with the same losses.

    Llama's files keep the two halves of a rotated pair half a head apart, so the rows of queries and keys are put in
    that order.
    """
    c, ours = model.config, dict(model.named_parameters())
    tensors = {"model.embed_tokens": model.embedding.weight, "model.norm": torch.ones(c.width)}
    if not c.tied:
        tensors["lm_head"] = model.head.weight
    for i in range(c.layers):
        q, k, v = ours[f"blocks.{i}.qkv.weight"].chunk(3)
        gate, up = ours[f"blocks.{i}.gate_up.weight"].chunk(2)
        layer = {
            "self_attn.q_proj": _halves_apart(q, c.heads), "self_attn.k_proj": _halves_apart(k, c.heads),
            "self_attn.v_proj": v, "self_attn.o_proj": ours[f"blocks.{i}.out.weight"],
            "mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": ours[f"blocks.{i}.down.weight"],
            "input_layernorm": torch.ones(c.width), "post_attention_layernorm": torch.ones(c.width),
        }  # fmt: skip
        tensors |= {f"model.layers.{i}.{name}": value for name, value in layer.items()}
    described = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_act": "silu",
        "vocab_size": c.vocab, "hidden_size": c.width, "intermediate_size": c.hidden, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "num_key_value_heads": c.heads, "max_position_embeddings": c.context,
        "rms_norm_eps": c.eps, "rope_theta": c.rope_base, "tie_word_embeddings": c.tied,
        "attention_bias": False, "mlp_bias": False, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    plain = {f"{name}.weight": value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    save_file(plain, out / "model.safetensors", metadata={"format": "pt"})


def _halves_apart(rows: Tensor, heads: int) -> Tensor:
    """Rows (heads * size, d) with each head's even rows before its odd ones."""
    return rows.view(heads, -1, 2, rows.shape[1]).transpose(1, 2).flatten(0, 2)
