"""What a directory of ``transformers`` says of its model: looked at without a weight being read.

Whatever cannot be used is refused here, with what to do instead. Nothing is fetched and no code of the directory is
run: local files only, safetensors only (a pickle is a program), architectures of the installed ``transformers`` only.
The tokenizer is ``tokenizer.json``.

The *separator*, the token before each document, is the directory's token for the beginning of a text, or for the end
where there is none; that is what such models have seen before a document.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKENIZER = "tokenizer.json"
CONFIG, ONE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SEPARATORS = ("<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "<bos>", "<s>", "</s>", "[SEP]")


@dataclass(frozen=True, kw_only=True)
class About:
    """What a directory says of its model.

    Args:
        architecture: the class of ``transformers``, for example ``LlamaForCausalLM``.
        vocab: rows of the head; token ids are below.
        context: the most positions it is used with at once.
        width: of the stream.
        layers: of the model.
        separator: id of the token that stands before each document.
    """

    architecture: str
    vocab: int
    context: int
    width: int
    layers: int
    separator: int


def inspect(path: Path, *, context: int | None = None, separator: int | None = None) -> About:
    """Look at a directory without reading its weights. Every directory that cannot be used is refused here.

    Args:
        path: the directory.
        context: positions to use; None for all that the model was made for. More are possible with rotary positions.
        separator: id of the token before each document; None for the directory's own.

    Raises:
        FileNotFoundError: no directory, or a file is missing.
        ValueError: weights that are pickles or quantised, a model that is not causal or that ``transformers`` does not
            know, a tokenizer without ``tokenizer.json`` or with more tokens than the model, or no separator or context.
    """
    return described(path, context, separator)[0]


def described(path: Path, context: int | None, separator: int | None) -> tuple[About, Any]:
    """What ``inspect`` returns, and the configuration of ``transformers``, its context set."""
    raw = _read(path)
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = raw["model_type"]
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        own = " It brings code of its own, which is not run." if "auto_map" in raw else ""
        raise ValueError(
            f"{path} holds a model of type {kind!r}, of which the installed transformers knows no causal language "
            f"model.{own} Upgrade transformers, or use a model of a type that it has"
        )
    if "quantization_config" in raw:
        raise ValueError(f"the weights in {path} are quantised, and cannot be trained; use those they were made from")
    _weights_are_safe(path)
    config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    text = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"{path} holds an encoder and a decoder; use a model that is a decoder alone")
    longest = getattr(text, "max_position_embeddings", None)
    if context is None and longest is None:
        raise ValueError(f"{path}/config.json names no longest position; give the context to use, context=1024 say")
    rotary = getattr(text, "rope_parameters", None) or getattr(text, "rope_theta", None)
    if context is None:
        context = longest or 0
    if context < 1 or (longest is not None and context > longest and not rotary):
        raise ValueError(f"the model in {path} has {longest} positions; a context of {context} is impossible, use less")
    if longest is not None and context > longest:
        text.max_position_embeddings = context
    tokens = open_tokenizer(path)
    if tokens.get_vocab_size() > text.vocab_size:
        raise ValueError(
            f"the tokenizer in {path} has {tokens.get_vocab_size()} tokens and the model {text.vocab_size} rows; "
            "resize the model's embedding with transformers (resize_token_embeddings), and save both again"
        )
    if separator is None:
        separator = _separator(path, text, tokens)
    if not 0 <= separator < text.vocab_size:
        raise ValueError(f"the separator {separator} is no token of {path}; give an id below {text.vocab_size}")
    about = About(
        architecture=MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind], vocab=text.vocab_size, context=context,
        width=text.hidden_size, layers=text.num_hidden_layers, separator=separator,
    )  # fmt: skip
    return about, config


def _read(path: Path) -> dict[str, Any]:
    """config.json of a directory of ``transformers``."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no directory; give one that save_pretrained() wrote (nothing is fetched)")
    if not (path / CONFIG).is_file():
        if (path / "adapter_config.json").is_file():
            raise FileNotFoundError(
                f"{path} holds an adapter without its model; open the model that it names, then lora.load(model, path)"
            )
        raise FileNotFoundError(f"{path} holds no config.json; give a directory that save_pretrained() wrote")
    raw: dict[str, Any] = json.loads((path / CONFIG).read_text())
    if "model_type" not in raw:
        raise ValueError(
            f"{path}/config.json names no model_type, so transformers did not write it; "
            "open a model of this trainer with checkpoint.load"
        )
    return raw


def is_huggingface(path: Path) -> bool:
    """Whether a directory has the ``config.json`` of ``transformers`` (its weights are not looked at)."""
    file = path / CONFIG
    return file.is_file() and "model_type" in json.loads(file.read_text())


def _weights_are_safe(path: Path) -> None:
    """Refuse pickles, and files that an index names and that are not there."""
    if (path / ONE).is_file():
        return
    if (path / INDEX).is_file():
        files = sorted(set(json.loads((path / INDEX).read_text())["weight_map"].values()))
        missing = [name for name in files if not (path / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{path} lacks {', '.join(missing)}, which {INDEX} names; copy the whole directory")
        return
    pickles = sorted(p.name for p in path.glob("*.bin")) + sorted(p.name for p in path.glob("*.pt*"))
    if pickles:
        raise ValueError(
            f"{path} has weights as pickles only ({pickles[0]}), which can run any code when they are opened; convert "
            "them where you trust them, AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OTHER_DIR)"
        )
    raise FileNotFoundError(f"{path} holds no {ONE} and no {INDEX}; copy the weights beside config.json")


def open_tokenizer(path: Path) -> Any:
    """The ``tokenizers.Tokenizer`` of a directory: no truncation, no padding; special tokens in a text are text.

    Raises:
        ValueError: the directory has no ``tokenizer.json``.
    """
    from tokenizers import Tokenizer

    if not (path / TOKENIZER).is_file():
        raise ValueError(
            f"{path} holds no {TOKENIZER}; write one with AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR), "
            "which turns the older formats into it"
        )
    opened = Tokenizer.from_file(str(path / TOKENIZER))
    opened.no_truncation()
    opened.no_padding()
    opened.encode_special_tokens = True
    return opened


def _separator(path: Path, text: Any, tokens: Any) -> int:
    """The token before a document: begin of text, else end of text, else a special token known by its name."""
    for name in ("bos_token_id", "eos_token_id"):
        found = getattr(text, name, None)
        found = found[0] if isinstance(found, list) and found else found
        if isinstance(found, int) and 0 <= found < text.vocab_size:
            return found
    known = known_separator(tokens)
    if known is None:
        raise ValueError(f"{path} names no token that begins or ends a text; give the id that separates documents")
    return known


def known_separator(tokens: Any) -> int | None:
    """The first of SEPARATORS that a tokenizer has as a special token, else its first special token; None without."""
    special = {token.content: i for i, token in sorted(tokens.get_added_tokens_decoder().items()) if token.special}
    known = [special[name] for name in SEPARATORS if name in special]
    return int(known[0]) if known else min(special.values(), default=None)
