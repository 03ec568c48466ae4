"""A trained model as a directory that others open: transformers, vLLM, lm-eval, lighteval.

    export(model, Path("out"), tokenizer=Path("tokenizer"))
    AutoModelForCausalLM.from_pretrained("out")        # the same losses, to rounding
    load(Path("out"))                                  # the same decoder, to the bit

A ``Decoder`` is a Llama whose norms have gain one, and is written as ``LlamaForCausalLM``; with normalised queries and
keys it is a Qwen3 (each head's queries and keys are normalised before the rotation) whose gains are one, and is written
as ``Qwen3ForCausalLM``. Two things differ in the files: their matrices are apart (queries, keys, values; gate, up), and
the two halves of a rotated pair stand half a head apart, so the rows of queries and keys change places. Both are undone
exactly by ``load``.

The separator of documents is written as the token that begins and ends a text: so a server stops where a document
ends, and an evaluation that has no context puts it before the text, as in training.

Files: ``config.json``, ``model.safetensors``, ``generation_config.json``, and with a tokenizer ``tokenizer.json``,
``tokenizer_config.json``, ``special_tokens_map.json``. Needs safetensors, and ``tokenizers`` where there is one; not
``transformers``. Elsewhere: models that transformers made (huggingface.py), our own form of files (checkpoint.py).
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from curate.train.directory import CONFIG, ONE, TOKENIZER, known_separator, open_tokenizer
from curate.train.huggingface import HuggingFace
from curate.train.model import Config, Decoder

LLAMA, QWEN = "LlamaForCausalLM", "Qwen3ForCausalLM"


def export(
    model: Decoder | HuggingFace, out: Path, *, tokenizer: Path | None = None, separator: int | None = None
) -> None:
    """Write a model as ``transformers`` would.

    Args:
        model: a decoder; or an opened model of transformers, which brings its own tokenizer and separator.
        out: a directory, made where it is missing.
        tokenizer: a directory with the ``tokenizer.json`` that the decoder was trained with; without it the directory
            can be opened, but not be given text.
        separator: id of the token between documents; None for the one that the tokenizer is known to have.

    Raises:
        ValueError: no tokenizer in the directory, one with more tokens than the model, or no such separator.
    """
    if isinstance(model, HuggingFace):
        model.save(out)
        return
    opened = None if tokenizer is None else open_tokenizer(tokenizer)
    if opened is not None and opened.get_vocab_size() > model.config.vocab:
        raise ValueError(
            f"the tokenizer in {tokenizer} has {opened.get_vocab_size()} tokens and the model {model.config.vocab}; "
            "give the one that the model was trained with"
        )
    if separator is None and opened is not None:
        separator = known_separator(opened)
    if separator is not None and not 0 <= separator < model.config.vocab:
        raise ValueError(f"the separator {separator} is no token of a vocabulary of {model.config.vocab}")
    out.mkdir(parents=True, exist_ok=True)
    save_file(_theirs(model), out / ONE, metadata={"format": "pt"})
    _write(out / CONFIG, _described(model.config, separator))
    _write(out / "generation_config.json", {"bos_token_id": separator, "eos_token_id": separator})
    if opened is not None and tokenizer is not None:
        if tokenizer.resolve() != out.resolve():
            shutil.copyfile(tokenizer / TOKENIZER, out / TOKENIZER)
        token = None if separator is None else opened.id_to_token(separator)
        named = {} if token is None else {"bos_token": token, "eos_token": token, "pad_token": token}
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": model.config.context,
            "clean_up_tokenization_spaces": False, **named,
        }  # fmt: skip
        _write(out / "tokenizer_config.json", settings)
        _write(out / "special_tokens_map.json", named)


def load(path: Path, device: str = "cpu") -> Decoder:
    """The decoder of a directory that ``export`` wrote, its weights equal to the bit.

    Raises:
        FileNotFoundError: no configuration or no weights.
        ValueError: a model that is no ``Decoder``: another architecture, or gains that are not one.
    """
    if not (path / CONFIG).is_file() or not (path / ONE).is_file():
        raise FileNotFoundError(f"{path} holds no config.json with {ONE}; give a directory that exporting.export wrote")
    config = _shape(path, json.loads((path / CONFIG).read_text()))
    kept = load_file(path / ONE)
    model = Decoder(config)
    with torch.no_grad():
        for name, value in _ours(kept, config, path).items():
            model.get_parameter(name).copy_(value)
    return model.to(device)


def is_export(path: Path) -> bool:
    """Whether ``load`` opens a directory, judged by its configuration alone."""
    file = path / CONFIG
    return file.is_file() and "curate" in json.loads(file.read_text()) and (path / ONE).is_file()


def halves_apart(rows: Tensor, heads: int) -> Tensor:
    """Rows (heads * size, d) with each head's even rows before its odd ones."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).transpose(1, 2).flatten(0, 2)


def halves_together(rows: Tensor, heads: int) -> Tensor:
    """The other way round: the rows that ``halves_apart`` made of, in their own order."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).transpose(1, 2).flatten(0, 2)


def apart(layer: str, rows: Tensor, heads: int) -> dict[str, Tensor]:
    """The matrices that the files have for one of a block's, (rows, d): named as in the files, within their layer."""
    if layer == "qkv":
        q, k, v = rows.chunk(3)
        q, k = halves_apart(q, heads), halves_apart(k, heads)
        return {"self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v}
    if layer == "gate_up":
        gate, up = rows.chunk(2)
        return {"mlp.gate_proj": gate, "mlp.up_proj": up}
    return {{"out": "self_attn.o_proj", "down": "mlp.down_proj"}[layer]: rows}


def together(layer: str, pieces: list[Tensor], heads: int) -> Tensor:
    """What ``apart`` took apart; pieces in its order."""
    if layer == "qkv":
        q, k, v = pieces
        return torch.cat([halves_together(q, heads), halves_together(k, heads), v])
    return torch.cat(pieces)


PIECES = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"), "down": ("mlp.down_proj",),
}  # fmt: skip


def _gains(config: Config) -> dict[str, int]:
    """The gains that the files have and the decoder has not, all one: name to length."""
    size = config.width // config.heads
    norms = {"input_layernorm": config.width, "post_attention_layernorm": config.width}
    if config.qk_norm:
        norms |= {"self_attn.q_norm": size, "self_attn.k_norm": size}
    return {"model.norm": config.width} | {
        f"model.layers.{i}.{name}": length for i in range(config.layers) for name, length in norms.items()
    }


def _theirs(model: Decoder) -> dict[str, Tensor]:
    """Weights by the names of the files."""
    c = model.config
    tensors = {"model.embed_tokens": model.embedding.weight}
    if not c.tied:
        tensors["lm_head"] = model.head.weight
    for i in range(c.layers):
        for layer in PIECES:
            pieces = apart(layer, model.get_parameter(f"blocks.{i}.{layer}.weight"), c.heads)
            tensors |= {f"model.layers.{i}.{name}": value for name, value in pieces.items()}
    tensors |= {name: torch.ones(length) for name, length in _gains(c).items()}
    return {f"{name}.weight": value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _ours(kept: dict[str, Tensor], config: Config, path: Path) -> dict[str, Tensor]:
    """Weights by the names of the decoder."""
    left = dict(kept)

    def take(name: str) -> Tensor:
        if f"{name}.weight" not in left:
            raise ValueError(f"{path / ONE} has no {name}.weight; copy the whole directory that exporting.export wrote")
        return left.pop(f"{name}.weight").float()

    odd = [name for name in _gains(config) if not bool((take(name) == 1).all())]
    if odd:
        raise ValueError(f"{odd[0]} in {path} has gains that are not one; open it with huggingface.open_model")
    tensors = {"embedding.weight": take("model.embed_tokens")}
    if not config.tied:
        tensors["head.weight"] = take("lm_head")
    for i in range(config.layers):
        for layer, names in PIECES.items():
            pieces = [take(f"model.layers.{i}.{name}") for name in names]
            tensors[f"blocks.{i}.{layer}.weight"] = together(layer, pieces, config.heads)
    if left:
        raise ValueError(f"{min(left)} in {path} is no weight of a Decoder; open it with huggingface.open_model")
    return tensors


def _described(config: Config, separator: int | None) -> dict[str, Any]:
    """``config.json``."""
    c = config
    kind = {"architectures": [QWEN if c.qk_norm else LLAMA], "model_type": "qwen3" if c.qk_norm else "llama"}
    rope = {"rope_type": "default", "rope_theta": c.rope_base}
    return kind | {
        "dtype": "float32", "torch_dtype": "float32", "hidden_act": "silu", "vocab_size": c.vocab,
        "hidden_size": c.width, "intermediate_size": c.hidden, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "num_key_value_heads": c.heads, "head_dim": c.width // c.heads,
        "max_position_embeddings": c.context, "rms_norm_eps": c.eps, "rope_theta": c.rope_base,
        "rope_parameters": rope, "tie_word_embeddings": c.tied, "attention_bias": False, "mlp_bias": False,
        "bos_token_id": separator, "eos_token_id": separator, "curate": {"format": 1},
    }  # fmt: skip


def _shape(path: Path, described: dict[str, Any]) -> Config:
    """The decoder's shape in a ``config.json``; whatever else ``export`` writes must stand there as it does."""
    wanted = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    rope = described.get("rope_parameters") or {}  # transformers 4 has its base beside it
    described = {"rope_theta": rope.get("rope_theta"), **described}
    try:
        vocab, width, hidden, layers, heads = (int(described[key]) for key in wanted)
        config = Config(
            vocab=vocab, width=width, hidden=hidden, layers=layers, heads=heads,
            context=int(described["max_position_embeddings"]), tied=bool(described["tie_word_embeddings"]),
            rope_base=float(described["rope_theta"]), eps=float(described["rms_norm_eps"]),
            qk_norm=described["model_type"] == "qwen3",
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}/config.json describes no Decoder ({error!r}); use huggingface.open_model") from error
    free = {"bos_token_id", "eos_token_id", "dtype", "torch_dtype", "curate"}
    mine = _described(config, None) | {"rope_scaling": None, "use_sliding_window": False}
    odd = sorted(key for key in mine.keys() - free if described.get(key, mine[key]) != mine[key])
    if odd:
        raise ValueError(f"{path} holds no Decoder ({', '.join(odd)} differ); open it with huggingface.open_model")
    return config


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
