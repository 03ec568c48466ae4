"""Train a model from the command line, on one device or several.

    python -m curate.train mix/data --out run --preset 1M --tokenizer tokenizer --tokens 20M
    python -m curate.train mix/data --out run ... --resume                # goes on where it was, bit by bit on a CPU
    torchrun --nproc-per-node 8 -m curate.train mix/data --out run --preset 350M --set device=cuda --set parallel=fsdp

What is read: Parquet files with a column ``text``, folders of them, or one store of tokens (tokenising.py). What is
written, into ``--out``:

    tokens/                  the store, made once
    checkpoint.safetensors   the run as it is; with FSDP2 a folder beside it
    metrics.jsonl            step, tokens, rate, loss and norm of the gradient, every few steps
    model/                   weights, shape and tokenizer
    run.json                 settings, device, versions, throughput

It needs torch, numpy, pyarrow and safetensors; tokenizers for a tokenizer other than ``bytes``, transformers to train
one of its models further.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import torch

from curate.train import checkpoint, feeds, loop, metrics, opening, score, tokenising
from curate.train.data import Tokens
from curate.train.directory import TOKENIZER
from curate.train.distributed import barrier, joined, ranks, whole
from curate.train.model import Decoder
from curate.train.presets import PRESETS
from curate.train.training import Training

PACKINGS = {"best-fit": feeds.BestFit, "concatenate": feeds.Concatenated, "headed": feeds.Headed}
UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
RECORD = "run.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the arguments say; the exit status."""
    asked = _parser().parse_args(arguments)
    try:
        with joined(_settings(asked, Training()).device):
            _run(asked)
    except (ValueError, FileNotFoundError, FloatingPointError, ModuleNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _run(asked: argparse.Namespace) -> None:
    """The run of this rank."""
    out: Path = asked.out
    first = ranks().first
    saved = out / "checkpoint.safetensors"
    begun = saved.exists() or saved.with_name(saved.name + checkpoint.SHARDS).exists()
    if begun and not asked.resume:
        raise ValueError(f"{out} holds a run already; go on with --resume, or name another --out")
    tokens = _tokens(asked, first)
    preset = PRESETS[asked.preset]
    source = _tokenizer(asked)
    if asked.init is not None:
        model: Any = opening.open_any(asked.init)
    else:
        vocab = max(tokens.separator + 1, tokenising.open_encoder(asked.tokenizer).vocabulary)
        model = Decoder(preset.config(vocab=vocab), seed=asked.seed)
    if asked.init is not None and not any(pair.startswith("lr=") for pair in asked.set):
        raise ValueError("--init trains a finished model further, a preset's rate is for a new one; give --set lr=RATE")
    embedding_lr = preset.embedding_lr if asked.init is None else 1.0
    base = Training(lr=preset.lr, embedding_lr=embedding_lr, batch=preset.batch, tokens=asked.tokens)
    training = _settings(asked, base)
    context, size = model.config.context, training.batch * model.config.context
    steps = None if training.tokens is None else max(1, -(-training.tokens // size))
    feed = PACKINGS[asked.packing](
        tokens, context, training.batch, epochs=training.epochs, steps=steps, seed=asked.seed
    )  # fmt: skip
    if first:
        sys.stderr.write(
            f"{model.weights:,} weights, {feed.steps:,} steps of {size:,} tokens, {feed.epochs:.2f} epochs of "
            f"{tokens.documents:,} documents; {feed.report}\n"
        )
    result = loop.fit(
        model, training, feed, seed=asked.seed, checkpoint=saved, metrics=out / "metrics.jsonl",
        tensorboard=asked.tensorboard, watch=metrics.Screen(),
    )  # fmt: skip
    _write(out, model, asked.init, source, tokens.separator, result.tail())
    record: dict[str, Any] = {
        "preset": asked.preset, "training": asdict(training), "feed": feed.identity(), "steps": feed.steps,
        "tokens": result.tokens, "epochs": result.epochs, "loss": result.tail(), "seconds": result.seconds,
        "tokens_per_second": result.tokens_per_second, "tokens_per_cpu_second": result.tokens_per_cpu_second,
        "mfu": result.mfu, "ranks": ranks().count, "device": _device(training.device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }  # fmt: skip
    if asked.evaluate is not None:
        record["bits_per_byte"] = _bits_per_byte(asked, model, source, training)
    if first:
        if result.tokens_per_second > 0 or not (out / RECORD).exists():  # a finished run keeps its own throughput
            (out / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
        speed = f"{result.tokens_per_second:,.0f} tokens/s, {result.tokens_per_cpu_second:,.0f} a CPU-second"
        cost = f"; {record['bits_per_byte']:.4f} bits a byte of {asked.evaluate}" if asked.evaluate is not None else ""
        sys.stderr.write(f"loss {result.tail():.4f}; {speed}{cost}; the model is in {out / 'model'}\n")


def _tokens(asked: argparse.Namespace, first: bool) -> Tokens:
    """The store: the one that is named, or one made of the texts by the first rank."""
    if len(asked.data) == 1 and (Path(asked.data[0]) / "offsets.npy").is_file():
        return Tokens.open(Path(asked.data[0]))
    store = asked.out / "tokens"
    if first:
        tokenising.tokenise(asked.data, _tokenizer(asked), store, text=asked.text, workers=asked.workers)
    barrier()
    return Tokens.open(store)


def _tokenizer(asked: argparse.Namespace) -> str | Path:
    """That of the model to start from, where it has one (a model of bytes has none)."""
    if asked.init is not None and (asked.init / TOKENIZER).is_file():
        init: Path = asked.init
        return init
    return str(asked.tokenizer)


def _write(
    out: Path, model: Any, init: Path | None, tokenizer: str | Path, separator: int, loss: float
) -> None:
    """The model as a directory that opens anywhere; all ranks call it."""
    if isinstance(model, Decoder):
        checkpoint.save(model, out / "model", separator=separator, loss=loss)
        if ranks().first and (Path(tokenizer) / TOKENIZER).is_file():
            shutil.copyfile(Path(tokenizer) / TOKENIZER, out / "model" / TOKENIZER)
        return
    weights = {name: whole(p.detach()).cpu() for name, p in model.named_parameters()}
    if ranks().first and init is not None:  # a split model cannot write itself, one like it can
        plain: Any = opening.open_any(init)
        with torch.no_grad():
            for name, p in plain.named_parameters():
                p.copy_(weights[name])
        plain.save(out / "model")
    barrier()


def _bits_per_byte(asked: argparse.Namespace, model: Any, source: str | Path, training: Training) -> float:
    """What held-out texts cost the model."""
    texts = [str(text) for batch in _texts(asked.evaluate, asked.text) for text in batch]
    documents = tokenising.encode(texts, source, tokenising.separator_of(source))
    model.eval()
    losses = score.nll(model, documents, precision=training.precision)
    return score.bits_per_byte(float(losses.nats.sum()), sum(len(text.encode()) for text in texts))


def _texts(path: Path, column: str) -> list[list[str]]:
    import pyarrow.parquet as pq

    return [pq.read_table(file, columns=[column])[column].drop_null().to_pylist() for file in tokenising.listed(path)]


def _settings(asked: argparse.Namespace, base: Training) -> Training:
    """The settings, with what ``--set`` changes.

    Raises:
        ValueError: a setting that does not exist, or a value of another type.
    """
    kinds = get_type_hints(Training)
    known = {f.name: f.default for f in fields(Training)}
    changes: dict[str, Any] = {}
    for pair in asked.set:
        name, equals, value = pair.partition("=")
        if name not in known or not equals:
            raise ValueError(f"--set {pair}: there is no setting {name!r}; use NAME=VALUE, NAME of: {', '.join(known)}")
        changes[name] = _value(name, value, str(kinds[name]))
    if MISSING in known.values():
        raise ValueError("a setting of Training has no default; give it one")
    return replace(base, **changes)


def _value(name: str, value: str, kind: str) -> Any:
    """A setting's value, from text, by the type of its field."""
    if value == "None":
        return None
    try:
        if "bool" in kind and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if "tuple" in kind:
            return tuple(float(x) for x in value.split(","))
        if "int" in kind:
            return count(value)
        return float(value) if "float" in kind else value
    except ValueError as error:
        raise ValueError(f"--set {name}={value}: not a value of type {kind}; write it as Python does") from error


def count(text: str) -> int:
    """A number such as ``500``, ``1e6`` or ``20M``."""
    unit = UNITS.get(text[-1:].upper(), 1.0)
    return round(float(text[:-1] if unit != 1.0 else text) * unit)


def _device(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {os.cpu_count()} cores"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m curate.train", description="Train a language model on Parquet texts or a store of tokens."
    )
    parser.add_argument("data", nargs="+", help="Parquet files, folders of them, or one store of tokens")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="cpu", help="shape and rates")
    parser.add_argument("--init", type=Path, help="a model to train further: its shape and tokenizer are kept")
    parser.add_argument("--tokenizer", default="bytes", help="folder with tokenizer.json, or bytes")
    parser.add_argument("--tokens", type=count, help="tokens to train on, such as 20M; else epochs (--set epochs=2)")
    parser.add_argument("--packing", choices=sorted(PACKINGS), default="best-fit", help="how documents fill rows")
    parser.add_argument("--text", default="text", help="column of the texts")
    parser.add_argument("--workers", type=int, default=1, help="processes that tokenise")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of Training")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="write TensorBoard's files there")
    parser.add_argument("--evaluate", type=Path, metavar="PARQUET", help="texts whose bits per byte are told last")
    return parser


if __name__ == "__main__":
    sys.exit(main())
