"""LoRA: finetuning by low-rank additions to frozen matrices (Hu et al. 2021, section 4.1).

A linear layer W0 (out, in) becomes

    h = W0 x + alpha / r * B A x,        A (r, in), B (out, r)

of which only A and B learn. A starts uniform as ``nn.Linear`` does (Kaiming, a = sqrt 5), drawn from a seed and the
layer's name; B starts at zero, so that the model is at first what it was.

    attach(model, Lora(r=16, targets=("q_proj", "v_proj")))
    loop.fit(model, ...)                            # trains what requires a gradient: the adapters
    save(model, Path("adapter"))                    # PEFT's files
    merge(model)                                    # or: a plain model again, as fast as before

Files are those of PEFT (``adapter_config.json``, ``adapter_model.safetensors``). The adapter of a ``Decoder`` is
written for the model that ``exporting.export`` writes, where queries, keys and values are matrices of their own: they
share A, and B is cut into their rows. So PEFT opens it on that directory, and ``load`` puts it back together.

It works on linear layers of ``Decoder`` and of models of ``transformers`` (their ``Conv1D``, as in GPT-2, too), never
on the head, which the loss reads directly. Cost: two narrow products a layer, and no gradient or optimizer state for
the frozen matrices. Not here: biases that learn, DoRA, other ranks for some layers; such adapters are refused.
"""

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from curate.train import exporting
from curate.train.huggingface import HuggingFace
from curate.train.model import Decoder

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PARTS = ("lora_A", "lora_B")
PREFIX = "base_model.model."         # how PEFT names what lies inside its own model

@dataclass(frozen=True, kw_only=True)
class Lora:
    """Which layers learn, and how much.

    Args:
        r: rank.
        alpha: the addition is multiplied by alpha / r.
        dropout: share of a layer's inputs that the addition does not see in training. It is drawn from torch's
            generator, so with it a resumed run is not bit-equal.
        targets: patterns (``*`` and ``?``) of layer names, whole (``model.layers.0.self_attn.q_proj``) or their last
            part (``q_proj``). ``("*",)`` is every linear layer but the head.
    """

    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        if self.r < 1 or not 0 <= self.dropout < 1 or not math.isfinite(self.alpha) or not self.targets:
            raise ValueError(f"{self} is no adapter: r is at least 1, dropout below 1, and targets name a layer")


class LoraLinear(nn.Module):
    """A frozen linear layer with its addition.

    Args:
        base: ``nn.Linear``, or ``Conv1D`` of transformers, whose matrix lies the other way.
        lora: settings.
        generator: A is drawn from it.
    """

    def __init__(self, base: nn.Module, lora: Lora, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.turned = type(base).__name__ == "Conv1D"
        self.scale, self.dropout = lora.alpha / lora.r, lora.dropout
        matrix: Tensor = base.weight  # type: ignore[assignment]
        rows, columns = matrix.shape[::-1] if self.turned else matrix.shape
        bound = columns**-0.5  # Kaiming uniform with a = sqrt 5: gain sqrt(1/3), times sqrt(3 / inputs)
        first = torch.empty(lora.r, columns).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Linear(columns, lora.r, bias=False, device="meta")
        self.lora_B = nn.Linear(lora.r, rows, bias=False, device="meta")
        self.lora_A.weight = nn.Parameter(first.to(matrix.device))
        self.lora_B.weight = nn.Parameter(torch.zeros(rows, lora.r, device=matrix.device))

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gave, and the addition; (..., in) to (..., out)."""
        out: Tensor = self.base(x)
        seen = F.dropout(x.to(self.lora_A.weight.dtype), self.dropout, self.training)
        return out + (self.lora_B(self.lora_A(seen)) * self.scale).to(out.dtype)

    def addition(self) -> Tensor:
        """B A times alpha / r, in the shape of the layer's matrix."""
        product = self.lora_B.weight @ self.lora_A.weight * self.scale
        return product.t() if self.turned else product

    @property
    def weight(self) -> Tensor:
        """The matrix with its addition, for code that reads a layer's matrix instead of calling the layer."""
        matrix: Tensor = self.base.weight  # type: ignore[assignment]
        return matrix + self.addition().to(matrix.dtype)

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        found: Tensor | None = getattr(self.base, "bias", None)
        return found


def attach(model: nn.Module, lora: Lora = Lora(), *, seed: int = 0) -> list[str]:
    """Freeze a model and give the layers that ``lora.targets`` names something to learn.

    Args:
        model: a ``Decoder`` or ``HuggingFace``.
        lora: settings.
        seed: of the matrices A.

    Returns:
        names of the layers.

    Raises:
        ValueError: adapters are attached already, or no layer has such a name.
    """
    inner = _inner(model)
    if any(True for _ in _adapters(inner)):
        raise ValueError("the model has adapters already; merge them first (lora.merge), or open it anew")
    linear = _linear(inner, model)
    names = [n for n in linear if any(fnmatchcase(n, t) or fnmatchcase(_last(n), t) for t in lora.targets)]
    if not names:
        raise ValueError(
            f"no linear layer is called {' or '.join(lora.targets)}; layers here end in: "
            f"{', '.join(sorted({_last(n) for n in linear}))}"
        )
    model.requires_grad_(False)
    for name in names:
        # One hash of both: torch's generator on a CPU looks at 32 bits of a seed only.
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
        _put(inner, name, LoraLinear(linear[name], lora, generator))
    return names


def merge(model: nn.Module) -> None:
    """Add the additions to the matrices: the model is plain again, and all of it can learn.

    Raises:
        ValueError: no adapters are attached.
    """
    inner = _inner(model)
    found = dict(_adapters(inner))
    if not found:
        raise ValueError("the model has no adapters to merge; attach or load some first")
    with torch.no_grad():
        for name, layer in found.items():
            matrix: Tensor = layer.base.weight  # type: ignore[assignment]
            matrix.copy_(matrix.to(torch.float32) + layer.addition().to(torch.float32))
            _put(inner, name, layer.base)
    model.requires_grad_(True)


def save(model: nn.Module, out: Path, *, base: str = "") -> None:
    """Write the adapters in PEFT's form.

    Args:
        model: with adapters.
        out: a directory.
        base: what PEFT is to open below them: the directory (or the name) of the model they were made for.

    Raises:
        ValueError: no adapters are attached.
    """
    found = dict(_adapters(_inner(model)))
    if not found:
        raise ValueError("the model has no adapters to save; attach some first")
    some = next(iter(found.values()))
    tensors = {f"{name}.{part}": getattr(layer, part).weight for name, layer in found.items() for part in PARTS}
    if isinstance(model, Decoder):
        tensors = dict(_apart(tensors, model))
    names = sorted({name.rpartition(".lora_")[0] for name in tensors})
    r = some.lora_A.weight.shape[0]
    described = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": r, "lora_alpha": some.scale * r, "lora_dropout": some.dropout, "target_modules": names,
        "fan_in_fan_out": some.turned, "bias": "none", "init_lora_weights": True, "use_rslora": False,
        "use_dora": False, "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {},
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    plain = {f"{PREFIX}{n}.weight": t.detach().float().cpu().contiguous().clone() for n, t in sorted(tensors.items())}
    save_file(plain, out / WEIGHTS, metadata={"format": "pt"})


def load(model: nn.Module, path: Path) -> list[str]:
    """Attach the adapters of a directory that ``save`` or PEFT wrote.

    Returns:
        names of the layers.

    Raises:
        FileNotFoundError: no adapter.
        ValueError: an adapter of another kind or for another model; or, on a ``Decoder``, one whose queries, keys and
            values do not share A.
    """
    if not (path / CONFIG).is_file() or not (path / WEIGHTS).is_file():
        raise FileNotFoundError(f"{path} holds no {CONFIG} with {WEIGHTS}; give what lora.save or PEFT wrote")
    described = json.loads((path / CONFIG).read_text())
    odd = [key for key in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern") if described.get(key)]
    odd += [key for key, wanted in (("peft_type", "LORA"), ("bias", "none")) if described.get(key, wanted) != wanted]
    if odd:
        raise ValueError(f"the adapter in {path} sets {', '.join(odd)}, which is not read here; merge it with PEFT")
    tensors = {name.removeprefix(PREFIX).removesuffix(".weight"): t for name, t in load_file(path / WEIGHTS).items()}
    if isinstance(model, Decoder):
        tensors = dict(_together(tensors, model, path))
    r, alpha = int(described["r"]), float(described["lora_alpha"])
    if described.get("use_rslora"):
        alpha *= math.sqrt(r)
    inner, names = _inner(model), sorted({name.rpartition(".lora_")[0] for name in tensors})
    lost = [name for name in names if name not in _linear(inner, model)]
    if lost:
        raise ValueError(f"the adapter in {path} has layers that the model lacks ({lost[0]}); open the model it names")
    dropout = float(described.get("lora_dropout", 0.0))
    attached = attach(model, Lora(r=r, alpha=alpha, dropout=dropout, targets=tuple(names)))
    with torch.no_grad():
        for name, layer in _adapters(inner):
            for part in PARTS:
                mine, theirs = getattr(layer, part).weight, tensors[f"{name}.{part}"]
                if mine.shape != theirs.shape:
                    raise ValueError(
                        f"{name}.{part} in {path} has the shape {tuple(theirs.shape)}, the model needs "
                        f"{tuple(mine.shape)}; open the model that the adapter names"
                    )
                mine.copy_(theirs)
    return attached


def _inner(model: nn.Module) -> nn.Module:
    """The module that layers are named in: of a wrapper, the model of ``transformers``, as PEFT does."""
    return model.model if isinstance(model, HuggingFace) else model


def _linear(inner: nn.Module, model: nn.Module) -> dict[str, nn.Module]:
    """Linear layers by name, without the head."""
    head = model.model.get_output_embeddings() if isinstance(model, HuggingFace) else None
    return {
        name: module for name, module in inner.named_modules()
        if (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D") and module is not head
    }  # fmt: skip


def _adapters(inner: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    return ((name, module) for name, module in inner.named_modules() if isinstance(module, LoraLinear))


def _put(inner: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(inner.get_submodule(parent), last, module)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _apart(tensors: Mapping[str, Tensor], model: Decoder) -> Iterator[tuple[str, Tensor]]:
    """A Decoder's adapters under the names of its exported form: each piece has the whole A, and its rows of B."""
    for name, value in tensors.items():
        _, i, layer, part = name.split(".")
        rows = exporting.apart(layer, value, model.config.heads) if part == "lora_B" else {}
        for piece in exporting.PIECES[layer]:
            yield f"model.layers.{i}.{piece}.{part}", rows.get(piece, value)


def _together(tensors: Mapping[str, Tensor], model: Decoder, path: Path) -> Iterator[tuple[str, Tensor]]:
    """The other way round, where it exists."""
    left = dict(tensors)
    for i in range(model.config.layers):
        for layer, names in exporting.PIECES.items():
            whole = [f"model.layers.{i}.{piece}" for piece in names]
            if not any(f"{name}.lora_A" in left for name in whole):
                continue
            lost = [f"{name}.{part}" for name in whole for part in PARTS if f"{name}.{part}" not in left]
            if lost:
                raise ValueError(
                    f"the adapter in {path} lacks {lost[0]}, which is one matrix with {whole[0]} here; open the "
                    "exported directory with huggingface.open_model and load the adapter there"
                )
            first, rows = ([left.pop(f"{name}.{part}") for name in whole] for part in PARTS)
            if not all(torch.equal(a, first[0]) for a in first):
                raise ValueError(
                    f"in {path} the parts of layer {i}'s {layer} ({', '.join(names)}) do not share A, as one matrix "
                    "must; open the exported directory with huggingface.open_model and load the adapter there"
                )
            yield f"blocks.{i}.{layer}.lora_A", first[0]
            yield f"blocks.{i}.{layer}.lora_B", exporting.together(layer, rows, model.config.heads)
    if left:
        raise ValueError(f"the adapter in {path} has layers that the model lacks ({min(left)}); open what it names")
