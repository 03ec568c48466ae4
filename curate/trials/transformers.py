"""Instrument 2: a small transformer trained on one chunk of an arm, over the tokenizer that all arms share."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import BadData, BadInput
from curate.text import string_buffers
from curate.train import ngram
from curate.trials.encoding import encode, open_tokenizer, read_so_far, separator_of
from curate.trials.metrics import bpb
from curate.trials.settings import Trial


def transformer_job(
    job: dict[str, Any], config: Trial, inputs: Mapping[str, Path], rows: pa.ChunkedArray, documents: pa.ChunkedArray
) -> dict[str, Any]:
    """Train on the first tokens of one chunk, each once, and score the documents; the same for n-grams of its text."""
    from curate.train import data, loop, model, score

    tokenizer = open_tokenizer(inputs)
    separator = separator_of(tokenizer)
    texts = rows.to_pylist()
    step = config.batch * config.context
    tokens = (job["budget"] - 1) // step * step
    stream = data.pack(encode(tokenizer, texts), separator).first(tokens + 1)
    shape = model.Config(
        vocab=tokenizer.get_vocab_size(), width=config.width, layers=config.layers, heads=config.heads,
        hidden=config.hidden, context=config.context,
    )  # fmt: skip
    training = loop.Training(tokens=tokens, batch=config.batch, lr=config.lr)
    try:
        result = loop.train(shape, training, stream.ids, seed=config.seed + job["seed"])
    except FloatingPointError as error:
        raise BadData(
            f"the transformer diverged on arm {job['arm']!r}, seed {job['seed']}: {error}", where="work of a trial",
            fix="lower Trial.lr; every arm is then trained again, as none may be dropped for one bad seed",
        ) from error
    wanted = documents.to_pylist()
    ids = encode(tokenizer, wanted)
    if tokenizer.decode_batch(ids, skip_special_tokens=False) != wanted:
        raise BadInput(
            "the tokenizer loses text, so that its bits per byte mean nothing", where="input 'tokenizer'",
            fix="use a byte-level one, such as tokens.train_bpe fits",
        )  # fmt: skip
    nats = score.nll(result.model, data.pack(ids, separator)).nats
    read = read_so_far(tokenizer, texts, stream.lengths)
    offsets, bytes_read = string_buffers(pa.array(read, pa.large_string()))
    test = string_buffers(documents)
    size = np.diff(test[0])
    orders = ngram.nats(ngram.train(offsets, bytes_read), *test).sum(axis=1)
    return {
        "nats": nats.tolist(),
        "bytes": size.tolist(),
        "orders": bpb(orders, size.sum()).tolist(),
        "trained": {"bytes": int(offsets[-1]), "tokens": tokens, "documents": len(read)},
        "curve": _curve(result.losses, step),
    }


def _curve(losses: np.ndarray, step: int, points: int = 20) -> list[list[float]]:
    """The learning curve: tokens seen, and the mean nats a token of the steps up to there since the point before."""
    ends = np.unique(np.linspace(0, len(losses), points + 1).round().astype(int))
    return [[float(b * step), float(losses[a:b].mean(dtype=np.float64))] for a, b in pairwise(ends.tolist())]
