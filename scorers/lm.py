"""Small language models learned from a sample: the two models that a loss ratio compares.

``train`` makes a model from nothing, on a sample of the corpus: the *prior*. ``finetune`` starts from its weights, with
a new optimizer, and reads the target for one epoch: the *conditional* model (CoLoR-Filter, Brandfonbrener et al. 2024,
section 3; the paper uses 150 million weights and 3.1 billion tokens, the defaults here 0.15 million and 1.5 million, to
be done on one core in half a minute).

An artifact is a directory: ``weights.safetensors``; ``config.json`` with the shape, the id of the separator and the
settings; ``tokenizer.json``, a copy; ``metrics.jsonl``, the loss curve. Both models share the tokenizer, since losses
per token cannot be compared otherwise.

Documents are read in the order of the sample, one behind the other with the separator before each, in windows that
cross their borders. Null and empty texts are left out.

Cost: 50,000 to 60,000 tokens a CPU-second with the defaults, 90,000 in bfloat16 where the CPU has it. Memory: the
sample's ids, 2 or 4 bytes a token.
Elsewhere: the trainer (curate/train), the scores (loss_ratio.py), tokenizers (curate/tokens.py).
"""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate.artifact import fitter
from curate.columns import TEXT
from curate.errors import BadInput, BadPlan
from curate.stage import Numerics
from scorers.encoding import TOKENIZER, encode, open_tokenizer, separator_of

if TYPE_CHECKING:
    from curate.train.loop import Result, Training

METRICS = "metrics.jsonl"
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
        lr: peak learning rate of the matrices.
        embedding_lr: how many times that for the embedding.
        weight_decay: of the matrices.
        seed: of the order.
        precision: ``float32``, or ``bfloat16``, which is 1.5 times as fast on CPUs that have it and slow on others.
    """

    epochs: float = 1.0
    batch: int = 16
    lr: float = 2e-3
    embedding_lr: float = 4.0
    weight_decay: float = 0.1
    seed: int = 0
    precision: str = "float32"


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
    from curate.train.loop import Training
    from curate.train.model import Config

    opened = open_tokenizer(tokenizer, where="lm.train")
    try:
        shape = Config(
            vocab=opened.get_vocab_size(), width=config.width, layers=config.layers, heads=config.heads,
            hidden=config.hidden, context=config.context,
        )  # fmt: skip
    except ValueError as error:
        raise BadPlan(str(error), where="lm.train", fix="change LanguageModel") from error
    training = Training(
        tokens=config.tokens, batch=config.batch, lr=config.lr, embedding_lr=config.embedding_lr,
        weight_decay=config.weight_decay, precision=config.precision,
    )  # fmt: skip
    return _fit(docs, shape, training, config.seed, out, tokenizer, None, asdict(config), "lm.train")


@fitter(reads={"text": TEXT}, extras=("train",), numerics=NUMERICS, version="1")
def finetune(docs: pa.Table, config: Finetune, out: Path, base: Path) -> dict[str, Any]:
    """Train a model further on the texts, usually the target's.

    Args:
        docs: the sample.
        config: settings.
        out: the artifact's directory.
        base: the artifact of a model; its shape and its tokenizer are kept.

    Returns:
        numbers for the report, as for ``train``.

    Raises:
        BadPlan: a precision that is none, or a sample that does not fill one window.
        BadInput: ``base`` is no model.
    """
    from curate.train import checkpoint
    from curate.train.loop import Training
    from curate.train.model import Config

    if not (base / checkpoint.WEIGHTS).is_file():
        raise BadInput(f"{base} holds no model", where="lm.finetune", fix="give as base= what lm.train has learned")
    shape = Config(**checkpoint.read_about(base)["model"])
    training = Training(
        epochs=config.epochs, batch=config.batch, lr=config.lr, embedding_lr=config.embedding_lr,
        weight_decay=config.weight_decay, precision=config.precision,
    )  # fmt: skip
    return _fit(docs, shape, training, config.seed, out, base, base, asdict(config), "lm.finetune")


def _fit(
    docs: pa.Table, shape: Any, training: "Training", seed: int, out: Path, tokenizer: Path, init: Path | None,
    settings: dict[str, Any], where: str,
) -> dict[str, Any]:  # fmt: skip
    """Encode, train, write the artifact."""
    from curate.train import checkpoint
    from curate.train.data import pack
    from curate.train.hardware import PRECISIONS
    from curate.train.loop import train as run

    if training.precision not in PRECISIONS:
        raise BadPlan(
            f"precision {training.precision!r} does not exist", where=where, fix=f"use one of: {', '.join(PRECISIONS)}"
        )
    opened = open_tokenizer(tokenizer, where=where)
    separator = separator_of(opened, where=where)
    ids = pack((d for d in encode(opened, docs["text"]) if len(d)), separator).ids
    if len(ids) < shape.context + 1:
        raise BadPlan(
            f"a sample of {len(ids)} tokens does not fill one window of {shape.context} tokens", where=where,
            fix="give a larger sample, or make the context shorter",
        )  # fmt: skip
    result = run(shape, training, ids, seed=seed, init=init, metrics=out / METRICS)
    checkpoint.save(result.model, out, separator=separator, settings=settings, loss=result.tail())
    shutil.copyfile(tokenizer / TOKENIZER, out / TOKENIZER)
    return _report(result)


def _report(result: "Result") -> dict[str, Any]:
    return {
        "weights": result.model.weights,
        "tokens": result.tokens,
        "epochs": round(result.epochs, 3),
        "first_loss": float(result.losses[0]),
        "last_loss": result.tail(),
        "cpu_seconds": round(result.cpu_seconds, 2),
        "tokens_per_cpu_second": round(result.tokens_per_cpu_second),
    }
