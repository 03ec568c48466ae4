"""Loss ratios: how much easier a text became for a model that has read the target.

``color`` is CoLoR-Filter (Brandfonbrener et al. 2024, algorithm 1). A small model, the *prior*, has learned from a
sample of the corpus; a copy of it, the *conditional* model, has then read the target. With L the mean nats a token,

    color = L(prior) - L(conditional)

and high values are kept. (The paper writes the negative and keeps the lowest.) It is a rank, not a sign: on most of a
general corpus the conditional model is the worse one, so most values are below zero (appendix I.1). Both losses are
written too; ``conditional_loss`` alone is the paper's baseline "conditional only", and prefers whatever is easy.

1. A text is encoded and cut into blocks as the window says (curate/train/score.py).
2. Both models meet the same batches, of the same shape and in the same precision; each token's nats are summed.
3. Means over the tokens predicted; their difference.

Means, not sums: documents differ in length. Their noise does too, so ``color_tokens`` says over how many tokens the
mean was taken, and ``color_share`` what share of the text they are. There is no term for diversity: drop duplicates
first.

Either model may be a directory that ``transformers`` wrote (``given(DIR)``), read with its own tokenizer; a pair shares
architecture and tokenizer.

Cost: for the default models and window about 1 MB of text a CPU-second, of which a fifth is encoding; with every token
scored a third of that. Memory: the ids of 16 MB of text. Elsewhere: fitting both models (lm.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import FLOAT32, INT32, TEXT
from curate.errors import BadInput, BadPlan
from curate.stage import Direction, Grain, Numerics, Score, stage
from scorers.encoding import TOKENIZER, encode, open_tokenizer

if TYPE_CHECKING:
    from curate.train.data import Tokens
    from curate.train.huggingface import HuggingFace
    from curate.train.model import Decoder
    from curate.train.score import Window

AT_ONCE = 8192           # documents scored together
LONGEST = 1024           # tokens of a window, where the models have more and nothing else is asked for
LONGEST_TOKEN = 16       # characters: of a text's head so many are encoded for each token of the window


@dataclass(frozen=True, kw_only=True)
class Color:
    """What of a text is scored.

    Args:
        window: ``blocks``, ``head`` or ``chunk`` (curate/train/score.py); ``chunk`` is the paper's.
        tokens: tokens of a block; None for the models' context, but 1,024 at most.
        most: blocks of a document at most, evenly spread over it; None for all of it.
        precision: ``float32``, or ``bfloat16``, which is faster on CPUs that have it and slow on others.
    """

    window: str = "blocks"
    tokens: int | None = None
    most: int | None = 2
    precision: str = "float32"


@dataclass(frozen=True)
class Pair:
    """Two models that can be compared, opened."""

    prior: "Decoder | HuggingFace"
    conditional: "Decoder | HuggingFace"
    tokenizer: Any
    separator: int
    window: "Window"


def open_pair(config: Color, prior: Path, conditional: Path) -> Pair:
    """Open both models, once a worker.

    Args:
        config: settings of the stage.
        prior: what lm.train has learned, or a directory of transformers.
        conditional: what lm.finetune has made of it.

    Raises:
        BadInput: no model, or two that differ in tokenizer or shape.
        BadPlan: a window or a precision that does not exist, or a window that does not fit the models.
    """
    from curate.train import opening
    from curate.train.hardware import PRECISIONS
    from curate.train.score import Window, spans

    where = "loss_ratio.color"
    if config.precision not in PRECISIONS:
        raise BadPlan(
            f"precision {config.precision!r} does not exist", where=where, fix=f"use one of: {', '.join(PRECISIONS)}"
        )
    for path in (prior, conditional):
        if not opening.is_model(path):
            raise BadInput(
                f"{path} holds no model", where=where,
                fix="give what lm.train and lm.finetune have learned, or directories of transformers",
            )  # fmt: skip
    tokenizer = open_tokenizer(prior, where=where)
    open_tokenizer(conditional, where=where)
    if (prior / TOKENIZER).read_bytes() != (conditional / TOKENIZER).read_bytes():
        raise BadInput(
            "prior and conditional have different tokenizers, so losses a token cannot be compared", where=where,
            fix="make the conditional model with lm.finetune(..., base=prior)",
        )  # fmt: skip
    try:
        models = [opening.open_any(path).eval() for path in (prior, conditional)]
        separator = opening.separator_of(prior)
    except (ValueError, FileNotFoundError) as error:
        raise BadInput(f"a model cannot be opened: {error}", where=where, fix="give other models") from error
    if models[0].config != models[1].config:
        raise BadInput(
            f"prior and conditional have different shapes: {models[0].config} and {models[1].config}", where=where,
            fix="make the conditional model with lm.finetune(..., base=prior)",
        )  # fmt: skip
    context = models[0].config.context
    tokens = min(context, LONGEST) if config.tokens is None else config.tokens
    try:
        spans(np.zeros(0, dtype=np.int64), config.window, tokens, config.most)
    except ValueError as error:
        raise BadPlan(str(error), where=where, fix="change Color.window, Color.tokens or Color.most") from error
    if tokens > context:
        raise BadPlan(
            f"a window of {tokens} tokens is longer than the models' context of {context}", where=where,
            fix=f"set Color.tokens to {context} or less, or train models with a longer context",
        )  # fmt: skip
    window = Window(kind=config.window, tokens=tokens, most=config.most)
    return Pair(models[0], models[1], tokenizer, separator, window)


@stage(
    reads={"text": TEXT},
    writes={
        "color": Score(FLOAT32, Direction.HIGH, "nats/token", "mean"),
        "conditional_loss": Score(FLOAT32, Direction.LOW, "nats/token", "mean"),
        "prior_loss": Score(FLOAT32, Direction.LOW, "nats/token", "mean"),
        "color_tokens": INT32,
        "color_share": FLOAT32,
    },
    grain=Grain.EACH,
    load=open_pair,
    extras=("train",),
    numerics=Numerics(
        device="cpu", dtype="the setting precision", threads=1,
        batch="4096 tokens of blocks of one width, filled up to a fixed number of rows",
    ),
    version="1",
)  # fmt: skip
def color(docs: pa.Table, config: Color, pair: Pair) -> pa.Table:
    """CoLoR of each text, float32, high is near the target; null where the window holds no token to predict.

    Also the losses it is the difference of, the tokens they are means over (int32, 0 for none), and the share of the
    text's tokens that they are (null for a text without tokens; for the window ``head`` estimated from its start).
    """
    from curate.train.data import pack
    from curate.train.score import nll

    head = config.window == "head"
    characters = LONGEST_TOKEN * (pair.window.tokens or 0) if head else None
    ids = encode(pair.tokenizer, docs["text"], characters)
    means: list[np.ndarray] = []
    for documents in _packed(ids, pair.separator, pack):
        prior = nll(pair.prior, documents, window=pair.window, precision=config.precision)
        conditional = nll(pair.conditional, documents, window=pair.window, precision=config.precision)
        means.append(np.stack([prior.nats, conditional.nats, prior.tokens, documents.lengths]))
    nats, after, tokens, length = np.concatenate([np.empty((4, 0)), *means], axis=1)
    if head:
        length *= _whole(docs["text"], characters or 0)
    none = tokens == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        before, after, share = nats / tokens, after / tokens, tokens / length
    return pa.table(
        {
            "color": pa.array((before - after).astype(np.float32), mask=none),
            "conditional_loss": pa.array(after.astype(np.float32), mask=none),
            "prior_loss": pa.array(before.astype(np.float32), mask=none),
            "color_tokens": pa.array(tokens.astype(np.int32)),
            "color_share": pa.array(share.astype(np.float32), mask=length == 0),
        }
    )


def _packed(ids: Iterator[np.ndarray], separator: int, pack: Any) -> "Iterator[Tokens]":
    """Documents in order, many at a time."""
    while some := list(islice(ids, AT_ONCE)):
        yield pack(some, separator)


def _whole(texts: pa.ChunkedArray, characters: int) -> np.ndarray:
    """How many times as long as its first so many characters each text is, float64 (n,), at least 1."""
    length = pc.fill_null(pc.utf8_length(texts), 0).to_numpy().astype(np.float64)
    return np.maximum(length / characters, 1.0)
