"""Language models learned from a sample: the two models that a loss ratio compares.

``train`` makes a small model from nothing, on a sample of the corpus: the *prior*. ``finetune`` starts from its
weights, with a new optimizer, and reads the target for one epoch: the *conditional* model (CoLoR-Filter, Brandfonbrener
et al. 2024, section 3; the paper uses 150 million weights and 3.1 billion tokens, the defaults here 0.15 million and
1.5 million, to be done on one core in half a minute).

The prior may also be any causal language model that ``transformers`` wrote, given as a directory: ``base=given(DIR)``.
It keeps its own tokenizer and separator, all its weights learn or only adapters of low rank (curate/train/lora.py), and
what is written is again such a directory, adapters merged.

An artifact is a directory. Of a small model: ``weights.safetensors``; ``config.json`` with the shape, the id of the
separator and the settings. Of a model of transformers: what ``save_pretrained`` writes, ``finetune.json`` with the
settings, and ``adapter/``, the adapters alone, where there were any. Of both: ``tokenizer.json``, a copy;
``metrics.jsonl``, the loss curve. Both models of a pair share the tokenizer, since losses per token cannot be compared
otherwise.

Documents are read in the order of the sample, one behind the other with the separator before each, in windows that
cross their borders. Null and empty texts are left out.

Cost: 50,000 to 60,000 tokens a CPU-second with the defaults, 90,000 in bfloat16 where the CPU has it. Memory: the
sample's ids, 2 or 4 bytes a token.
Elsewhere: the trainer (curate/train), the scores (loss_ratio.py), tokenizers (curate/tokens.py).
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curate.artifact import fitter
from curate.columns import TEXT
from curate.errors import BadInput, BadPlan
from curate.stage import Numerics
from scorers.encoding import TOKENIZER, encode, open_tokenizer, separator_of

if TYPE_CHECKING:
    from curate.train.loop import Result, Training

METRICS = "metrics.jsonl"
ABOUT = "finetune.json"
AT_ONCE = 4096           # tokens of a pass through a model of transformers; a batch is done in parts
LONGEST = 1024           # tokens of a window, where a model of transformers has more and nothing else is asked for
NUMERICS = Numerics(
    device="cpu", dtype="the setting precision", threads=1, batch="windows in an order drawn from the seed"
)


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A model trained from nothing. The defaults suit one core and half a minute.

    Args:
        width: of the stream.
        layers: of attention and SwiGLU.
        heads: attention heads; width is a multiple of twice as many.
        hidden: width inside the SwiGLU.
        context: tokens seen at once.
        tokens: tokens to train on; where the sample holds fewer it is read again.
        batch: windows a step.
        lr: peak learning rate of the matrices; it rises for 5 % of the steps and falls over the last 20 %.
        embedding_lr: how many times that for the embedding.
        weight_decay: of the matrices.
        seed: of weights and order.
        precision: ``float32``, or ``bfloat16``, which is 1.5 times as fast on CPUs that have it and slow on others.
    """

    width: int = 48
    layers: int = 2
    heads: int = 2
    hidden: int = 128
    context: int = 64
    tokens: int = 1_500_000
    batch: int = 16
    lr: float = 5e-3
    embedding_lr: float = 4.0
    weight_decay: float = 0.1
    seed: int = 0
    precision: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """A model trained further, with its own shape and tokenizer, from its weights and a new optimizer.

    Args:
        epochs: how often the sample is read; the paper reads it once.
        batch: windows a step.
        lr: peak learning rate of the matrices. None for 2e-3, or for a model of transformers 2e-5, or 2e-4 where only
            adapters learn.
        embedding_lr: how many times that for the embedding. None for 4, or for a model of transformers 1.
        weight_decay: of the matrices.
        seed: of the order, and of adapters.
        precision: ``float32``, or ``bfloat16``, which is 1.5 times as fast on CPUs that have it and slow on others.
        context: tokens of a window; None for as many as the model has, of a model of transformers 1,024 at most.
        rank: rank of adapters that learn in place of the weights; 0 for the weights themselves.
        alpha: adapters are multiplied by alpha / rank.
        targets: patterns of the names of layers that have adapters; ``*`` is every matrix but embedding and head.
    """

    epochs: float = 1.0
    batch: int = 16
    lr: float | None = None
    embedding_lr: float | None = None
    weight_decay: float = 0.1
    seed: int = 0
    precision: str = "float32"
    context: int | None = None
    rank: int = 0
    alpha: float = 16.0
    targets: tuple[str, ...] = ("*",)


@fitter(reads={"text": TEXT}, extras=("train",), numerics=NUMERICS, version="1")
def train(docs: pa.Table, config: LanguageModel, out: Path, tokenizer: Path) -> dict[str, Any]:
    """Train a model on the texts.

    Args:
        docs: the sample.
        config: shape and settings.
        out: the artifact's directory.
        tokenizer: a directory with ``tokenizer.json``, which has a special token to separate documents.

    Returns:
        numbers for the report: weights, tokens, epochs, first and last loss in nats a token, tokens a CPU-second.

    Raises:
        BadPlan: a shape or a precision that is none, or a sample that does not fill one window.
        BadInput: no tokenizer, or one without a special token.
    """
    from curate.train import checkpoint
    from curate.train.loop import Training
    from curate.train.loop import train as run
    from curate.train.model import Config

    where = "lm.train"
    opened = open_tokenizer(tokenizer, where=where)
    try:
        shape = Config(
            vocab=opened.get_vocab_size(), width=config.width, layers=config.layers, heads=config.heads,
            hidden=config.hidden, context=config.context,
        )  # fmt: skip
    except ValueError as error:
        raise BadPlan(str(error), where=where, fix="change LanguageModel") from error
    training = Training(
        tokens=config.tokens, batch=config.batch, lr=config.lr, embedding_lr=config.embedding_lr,
        weight_decay=config.weight_decay, precision=config.precision,
    )  # fmt: skip
    separator = separator_of(opened, where=where)
    ids = _ids(docs, opened, separator, shape.context, training, where)
    result = run(shape, training, ids, seed=config.seed, metrics=out / METRICS)
    checkpoint.save(result.model, out, separator=separator, settings=asdict(config), loss=result.tail())
    shutil.copyfile(tokenizer / TOKENIZER, out / TOKENIZER)
    return _report(result)


@fitter(reads={"text": TEXT}, extras=("train",), numerics=NUMERICS, version="2")
def finetune(docs: pa.Table, config: Finetune, out: Path, base: Path) -> dict[str, Any]:
    """Train a model further on the texts, usually the target's.

    Args:
        docs: the sample.
        config: settings.
        out: the artifact's directory.
        base: the artifact of a model, or a directory that ``save_pretrained`` of transformers wrote; its shape and its
            tokenizer are kept.

    Returns:
        numbers for the report, as for ``train``; ``weights`` are those that learned.

    Raises:
        BadPlan: a precision or adapters that are none, or a sample that does not fill one window.
        BadInput: ``base`` is no model, or one that cannot be opened here.
    """
    from curate.train import checkpoint, exporting, lora, opening
    from curate.train.feeding import StreamFeed
    from curate.train.huggingface import HuggingFace
    from curate.train.loop import Training, fit

    where = "lm.finetune"
    if not opening.is_model(base):
        raise BadInput(
            f"{base} holds no model", where=where,
            fix="give as base= what lm.train has learned, or a directory that save_pretrained() of transformers wrote",
        )  # fmt: skip
    try:
        model = opening.open_any(base, context=config.context, most=LONGEST)
        separator = opening.separator_of(base)
    except (ValueError, FileNotFoundError) as error:
        raise BadInput(f"the base cannot be opened: {error}", where=where, fix="give another base=") from error
    theirs = isinstance(model, HuggingFace)
    lr, embedding_lr = (2e-4 if config.rank else 2e-5, 1.0) if theirs else (2e-3, 4.0)
    training = Training(
        epochs=config.epochs, batch=config.batch, lr=lr if config.lr is None else config.lr,
        embedding_lr=embedding_lr if config.embedding_lr is None else config.embedding_lr,
        weight_decay=config.weight_decay, precision=config.precision, micro=AT_ONCE if theirs else None,
    )  # fmt: skip
    context = model.config.context if config.context is None else config.context
    ids = _ids(docs, open_tokenizer(base, where=where), separator, context, training, where)
    if config.rank:
        try:
            chosen = lora.Lora(r=config.rank, alpha=config.alpha, targets=config.targets)
            lora.attach(model, chosen, seed=config.seed)
        except ValueError as error:
            raise BadPlan(str(error), where=where, fix="change Finetune.rank or Finetune.targets") from error
    weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
    feed = StreamFeed(ids, context, config.batch, config.seed, training.steps(context, (len(ids) - 1) // context))
    result = fit(model, training, feed, metrics=out / METRICS)
    if config.rank:
        lora.save(model, out / "adapter")
        lora.merge(model)
    about = {"settings": asdict(config), "loss": result.tail()}
    if isinstance(model, HuggingFace) or exporting.is_export(base):
        exporting.export(model, out, tokenizer=base, separator=separator)
        (out / ABOUT).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")
    else:
        checkpoint.save(model, out, separator=separator, **about)
        shutil.copyfile(base / TOKENIZER, out / TOKENIZER)
    return {**_report(result), "weights": weights}


def _ids(docs: pa.Table, opened: Any, separator: int, context: int, training: "Training", where: str) -> np.ndarray:
    """The sample as one stream of ids, refused before a model is trained on too few."""
    from curate.train.data import pack
    from curate.train.hardware import PRECISIONS

    if training.precision not in PRECISIONS:
        raise BadPlan(
            f"precision {training.precision!r} does not exist", where=where, fix=f"use one of: {', '.join(PRECISIONS)}"
        )
    ids = pack((d for d in encode(opened, docs["text"]) if len(d)), separator).ids
    if len(ids) < context + 1:
        raise BadPlan(
            f"a sample of {len(ids)} tokens does not fill one window of {context} tokens", where=where,
            fix="give a larger sample, or make the context shorter",
        )  # fmt: skip
    return ids


def _report(result: "Result") -> dict[str, Any]:
    return {
        "weights": sum(p.numel() for p in result.model.parameters()),
        "tokens": result.tokens,
        "epochs": round(result.epochs, 3),
        "first_loss": float(result.losses[0]),
        "last_loss": result.tail(),
        "cpu_seconds": round(result.cpu_seconds, 2),
        "tokens_per_cpu_second": round(result.tokens_per_cpu_second),
    }
