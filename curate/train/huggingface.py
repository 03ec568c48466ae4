"""Any causal language model of a directory that ``transformers`` wrote, as a model that is trained and scored here.

    model = open_model(Path("SmolLM2-135M"), context=1024)
    model.nats(tokens, targets)                         # as a Decoder's
    model.save(Path("finetuned"))                       # a directory that transformers, vLLM, lm-eval open

The wrapper offers what a ``Decoder`` offers (``forward``, ``mean_nats``, ``nats``, ``config``), so the loop, the scores
and the trial know no difference. What it adds to the model of ``transformers``:

1. The logits are never whole: loss and gradient of the head are made some rows at a time, as in model.py.
2. Documents that share a row do not see each other. Where positions that start anew make the architecture mask its
   attention (``transformers`` does so for most of them), a row is one pass; where they do not (recurrent models,
   attention with fixed biases), each document is a row of its own, which is right for every causal model and costs the
   padding. Which of the two holds is tried when a model is opened, and so are three promises that its name alone does
   not give: no token sees the future, all its weights were in the files, and its logits are the head's product (with a
   scale and a soft cap, where its configuration names them).
3. Dropout is off in training too, so that a run is decided by its seed. What is saved keeps the original's settings.

Cost: that of the model in ``transformers``. Memory: weights, and with ``checkpointing`` one layer's activations more
than the stream between layers. Elsewhere: what may be opened (directory.py), adapters (lora.py), our own decoder in
this form (exporting.py).
"""

import copy
import inspect
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curate.train.directory import TOKENIZER, About, described
from curate.train.hardware import PRECISIONS

LOGITS = 1 << 22         # logits at a time on a CPU: 16 MB
LOGITS_GPU = 1 << 28
TOKENIZER_FILES = (
    TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model", "chat_template.jinja",
)  # fmt: skip


@dataclass(frozen=True)
class Head:
    """How logits come from the stream: cap * tanh(scale * (x @ weight.T + bias) / cap), without a cap where it is 0."""

    scale: float = 1.0
    cap: float = 0.0

    def logits(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Logits float32 (n, vocab) of x (n, width)."""
        out = F.linear(x, weight, bias).float()
        if self.scale != 1.0:
            out = out * self.scale
        return out if self.cap == 0.0 else torch.tanh(out / self.cap) * self.cap


def open_model(
    path: Path,
    device: str = "cpu",
    dtype: str = "float32",
    *,
    context: int | None = None,
    separator: int | None = None,
    checkpointing: bool = False,
) -> "HuggingFace":
    """Open a model on a device.

    Args:
        path: a directory that ``save_pretrained`` wrote.
        device: ``cpu`` or ``cuda``.
        dtype: of the weights, ``float32`` or ``bfloat16``. Train all weights in float32 (arithmetic in bfloat16 is a
            setting of the loop); bfloat16 halves the memory of weights that are only read, as below adapters.
        context: positions to use; None for all that the model was made for.
        separator: id of the token before each document; None for the directory's own.
        checkpointing: keep only the stream between layers in training, and compute the rest again: less memory, a third
            more work.

    Raises:
        FileNotFoundError: as ``inspect``.
        ValueError: as ``inspect``; or weights that are missing, a model whose tokens see the future, or logits that are
            not the head's product.
    """
    if dtype not in PRECISIONS:
        raise ValueError(f"dtype {dtype!r} does not exist; use one of: {', '.join(PRECISIONS)}")
    about, config = described(path, context, separator)
    opened = HuggingFace(path, about, _loaded(path, config, dtype).to(device), config)
    opened.recompute(checkpointing)
    return opened


def _loaded(path: Path, config: Any, dtype: str) -> Any:
    """The model of ``transformers``, its dropout off."""
    from transformers import AutoModelForCausalLM

    quiet = copy.deepcopy(config)
    for part in {id(c): c for c in (quiet, quiet.get_text_config())}.values():
        for name in _dropouts(part):
            setattr(part, name, 0.0)
    with _no_progress():
        opened: Any = AutoModelForCausalLM.from_pretrained(
            path, config=quiet, dtype=PRECISIONS[dtype], local_files_only=True, trust_remote_code=False,
            use_safetensors=True, output_loading_info=True,
        )  # fmt: skip
    model, how = opened
    lacking = sorted(how["missing_keys"]) + sorted(str(k) for k in how["mismatched_keys"])
    if lacking:
        raise ValueError(
            f"the files in {path} lack weights of the model ({', '.join(lacking[:3])}"
            f"{', ...' if len(lacking) > 3 else ''}), which would be drawn at random; copy the whole directory"
        )
    return model


def _dropouts(config: Any) -> list[str]:
    """Names of the settings of a configuration that are a share of things to leave out."""
    return [
        name for name, value in vars(config).items()
        if isinstance(value, float) and ("dropout" in name or name.endswith(("pdrop", "layerdrop")))
    ]  # fmt: skip


@contextmanager
def _no_progress() -> Iterator[None]:
    """Without the bars of ``transformers``, which know nothing of ours."""
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


class _Loss(torch.autograd.Function):
    """Weighted mean nats of targets (n,) under a head of x (n, width); gradients are made on the way forward.

    The derivative of a block's loss is autograd's own, so any form of the head is right; what is kept is one gradient
    of each input. ``z_loss`` times the squared log of the softmax's denominator is in the gradient, not in the value.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, counts: Tensor, head: Head,
        dtype: torch.dtype, rows: int, z_loss: float,
    ) -> Tensor:  # fmt: skip
        learns = [want and t is not None for t, want in zip((x, weight, bias), ctx.needs_input_grad[:3], strict=True)]
        matrix = weight.detach().to(dtype).requires_grad_(learns[1])
        offset = None if bias is None else bias.detach().to(dtype).requires_grad_(learns[2])
        given = [t for t, learn in zip((x, weight, bias), learns, strict=True) if learn and t is not None]
        grads = [torch.zeros(t.shape, dtype=torch.float32, device=t.device) for t in given]
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        norm = counts.sum(dtype=torch.float64).clamp_min(torch.finfo(torch.float32).tiny)
        for start in range(0, len(targets), rows):
            cut = slice(start, start + rows)
            block = x[cut].detach().to(dtype).requires_grad_(learns[0])
            with torch.enable_grad():
                logits = head.logits(block, matrix, offset)
                nats = F.cross_entropy(logits, targets[cut], reduction="none")
                part = (nats * counts[cut]).sum()
                aim = part if z_loss == 0.0 else part + z_loss * (logits.logsumexp(1).square() * counts[cut]).sum()
            total += part.detach()
            inputs = [t for t, learn in zip((block, matrix, offset), learns, strict=True) if learn and t is not None]
            if inputs:
                for t, whole, made in zip(inputs, grads, torch.autograd.grad(aim, inputs), strict=True):
                    (whole[cut] if t is block else whole).add_(made)
        ctx.save_for_backward(*(g.div_(norm).to(t.dtype) for g, t in zip(grads, given, strict=True)))
        ctx.learns = learns
        return (total / norm).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        mine = iter(ctx.saved_tensors)
        three = [next(mine) * grads[0] if learn else None for learn in ctx.learns]
        return (*three, None, None, None, None, None, None)


class HuggingFace(nn.Module):
    """A causal language model of ``transformers`` with the interface of ``Decoder``.

    Args:
        path: its directory, which its tokenizer is copied from when it is saved.
        config: what ``inspect`` found.
        model: the model of ``transformers``.
        original: its configuration as it is saved, with dropout.

    Raises:
        ValueError: its tokens see the future, or its logits are not the head's product.
    """

    def __init__(self, path: Path, config: About, model: Any, original: Any) -> None:
        super().__init__()
        self.path, self.config, self.model, self.original = path, config, model, original
        named = model.config.get_text_config()
        times, over = getattr(named, "logit_scale", None), getattr(named, "logits_scaling", None)
        cap = getattr(named, "final_logit_softcapping", None)
        self.form = Head(scale=float(times or 1.0) / float(over or 1.0), cap=float(cap or 0.0))
        self.packs, self.recomputes = self._tried(), False

    def recompute(self, on: bool) -> None:
        """Whether training keeps the stream between layers only, and computes the rest again.

        Raises:
            ValueError: the architecture cannot.
        """
        if on and not self.model.supports_gradient_checkpointing:
            raise ValueError(f"{self.config.architecture} cannot recompute its activations; use smaller batches")
        if on != self.recomputes:
            verb = "enable" if on else "disable"
            # transformers 5 has a new name for it, and warns of the old one.
            change = getattr(self.model, f"activation_checkpointing_{verb}", None)
            change = change or getattr(self.model, f"gradient_checkpointing_{verb}")
            change({"use_reentrant": False}) if on else change()
            self.recomputes = on

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.parameters())

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations of a training step per token: 6 a weight that is multiplied with (the embedding is
        not, the head is), and 6LTd for causal attention over a whole context.
        """
        c = self.config
        table, head = self.model.get_input_embeddings().weight, self.model.get_output_embeddings().weight
        multiplied = self.weights - (0 if table is head else table.numel())
        return 6 * multiplied + 6 * c.layers * c.context * c.width

    def forward(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """The stream that the head reads, (B, T, width), in the type that the model computes it in.

        Args:
            tokens: int64 (B, T); T is at most ``config.context``.
            documents: int32 (B, T); attention and positions stay within runs of an equal number.

        Raises:
            ValueError: more positions than the context.
        """
        if tokens.shape[1] > self.config.context:
            raise ValueError(
                f"{tokens.shape[1]} positions do not fit a context of {self.config.context}; use shorter windows"
            )
        if documents is None:
            return self._stream(tokens)
        first = _first(documents)
        places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        places = places - torch.where(first, places, 0).cummax(1).values
        return self._stream(tokens, places) if self.packs else self._apart(tokens, first, places)

    def _stream(self, tokens: Tensor, places: Tensor | None = None) -> Tensor:
        where = {} if places is None else {"position_ids": places}
        # No cache: it is of no use here, and with one the masks of packed documents are not made.
        out = self.model.base_model(input_ids=tokens, use_cache=False, return_dict=True, **where)
        stream: Tensor = out.last_hidden_state
        return stream

    def _apart(self, tokens: Tensor, first: Tensor, places: Tensor) -> Tensor:
        """The stream of documents that stand alone, each a row, filled up behind its end, which it does not see."""
        run, place = first.flatten().cumsum(0) - 1, places.flatten()
        count, longest = int(run[-1]) + 1, int(place.max()) + 1
        grid = torch.zeros((count, longest), dtype=tokens.dtype, device=tokens.device)
        grid[run, place] = tokens.flatten()
        rows = max(1, tokens.numel() // longest)
        stream = torch.cat([self._stream(grid[start : start + rows]) for start in range(0, count, rows)])
        return stream[run, place].view(*tokens.shape, -1)

    def logits(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """Logits of the next token at each position, float32 (B, T, vocab): for a look at a model, not for training."""
        weight, bias = self._head()
        return self.form.logits(self(tokens, documents).to(weight.dtype), weight, bias)

    def mean_nats(
        self, stream: Tensor, targets: Tensor, weights: Tensor | None = None, *, z_loss: float = 0.0
    ) -> Tensor:
        """Mean nats of targets (B, T), with a gradient, from what ``forward`` returned. Heeds autocast.

        Args:
            stream: (B, T, width).
            targets: int64 (B, T).
            weights: float32 (B, T), how much each counts; 0 where a target is not trained on. None for all alike.
            z_loss: weight of the squared log of the softmax's denominator, in the gradient alone.
        """
        kind, wanted = stream.device.type, targets.flatten()
        weight, bias = self._head()
        counts = torch.ones(len(wanted), device=stream.device) if weights is None else weights.flatten().float()
        # A target that does not count may be any number, padding for one.
        wanted = torch.where(counts > 0, wanted, 0)
        dtype = _product_type(kind, weight.dtype)
        with torch.autocast(kind, enabled=False):
            loss: Tensor = _Loss.apply(  # type: ignore[no-untyped-call]
                stream.flatten(0, 1), weight, bias, wanted, counts, self.form, dtype, self._rows(kind), z_loss
            )
        return loss

    @torch.inference_mode()
    def nats(
        self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, wanted: Tensor | None = None
    ) -> Tensor:
        """Nats of each target, float32 (B, T), forward only. Heeds autocast.

        Args:
            tokens: int64 (B, T).
            targets: int64 (B, T).
            documents: as for ``forward``.
            wanted: bool (B, T), which targets; the others get 0, and no logits are made for them. None for all.
        """
        kind = tokens.device.type
        weight, bias = self._head()
        dtype, rows = _product_type(kind, weight.dtype), self._rows(kind)
        stream = self(tokens, documents).flatten(0, 1)
        nats = torch.zeros(targets.numel(), device=tokens.device)
        at = torch.arange(len(nats), device=tokens.device) if wanted is None else wanted.flatten().nonzero().squeeze(1)
        with torch.autocast(kind, enabled=False):
            weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
            for some in torch.split(at, rows):
                logits = self.form.logits(stream[some].to(dtype), weight, bias)
                nats[some] = F.cross_entropy(logits, targets.flatten()[some], reduction="none")
        return nats.view(targets.shape)

    def save(self, out: Path) -> None:
        """Write a directory that ``transformers`` opens: weights, configuration and the tokenizer's files.

        Raises:
            ValueError: adapters are attached.
        """
        if any(".lora_A." in name for name, _ in self.named_parameters()):
            raise ValueError("adapters are attached; merge them (lora.merge), or save them alone (lora.save)")
        out.mkdir(parents=True, exist_ok=True)
        quiet, self.model.config = self.model.config, self.original
        try:
            with _no_progress():
                self.model.save_pretrained(out)
        finally:
            self.model.config = quiet
        for name in TOKENIZER_FILES:
            if (self.path / name).is_file() and out.resolve() != self.path.resolve():
                shutil.copyfile(self.path / name, out / name)

    def _head(self) -> tuple[Tensor, Tensor | None]:
        """Matrix and offset of the head."""
        out = self.model.get_output_embeddings()
        return out.weight, getattr(out, "bias", None)

    def _rows(self, device: str) -> int:
        return int(max(64, (LOGITS if device == "cpu" else LOGITS_GPU) // self.config.vocab))

    @torch.no_grad()
    def _tried(self) -> bool:
        """Whether documents can share a row; the promises of ``open_model`` are tried on the way, on six tokens."""
        self.model.eval()
        half = min(3, self.config.context // 2)
        ids = (torch.arange(2 * half, device=next(self.parameters()).device) * 7919 + 1) % self.config.vocab
        other = torch.cat([ids[:half], ids[half:].flip(0).roll(1) + 1]) % self.config.vocab
        close = 1e-3 if next(self.parameters()).dtype == torch.float32 else 0.1
        if half == 0:
            return False
        whole = self._stream(ids[None])
        if _apart_by(self._stream(other[None])[:, :half], whole[:, :half]) > close * float(whole.abs().mean()):
            raise ValueError(f"in {self.path} a token sees the ones after it; use a causal language model")
        theirs = self.model(input_ids=ids[None], use_cache=False).logits.float()
        if _apart_by(self.logits(ids[None]), theirs) > close * float(theirs.abs().mean()):
            raise ValueError(
                f"{self.config.architecture} makes its logits in a way that is not known here; use another architecture"
            )
        if "position_ids" not in inspect.signature(self.model.base_model.forward).parameters:
            return False
        alone = self._stream(ids[None, half:])
        unaware = _apart_by(whole[:, half:], alone)
        packed = self._stream(ids[None], torch.arange(2 * half, device=ids.device)[None] % half)
        # A model in which context does not matter yet cannot show that it keeps documents apart.
        return unaware > 0 and _apart_by(packed[:, half:], alone) < close * unaware


def _product_type(device: str, weights: torch.dtype) -> torch.dtype:
    """The type of matrix products: autocast's, or that of the weights."""
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weights


def _first(documents: Tensor) -> Tensor:
    """Where runs of an equal number begin, bool (B, T)."""
    first = torch.ones_like(documents, dtype=torch.bool)
    first[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return first


def _apart_by(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().mean())
