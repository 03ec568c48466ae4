"""Losses of documents: how many nats a model needs for the tokens of each, forward only.

A *window* says which tokens of a document are predicted, and from what:

``blocks``   the document is cut into blocks of T tokens, and every token is predicted from those before it in its
             block and the one token before the block (for the first block: the separator). Each token counts once.
             ``most`` limits the blocks: that many, evenly spread from the first on.
``head``     the first block alone.
``chunk``    as in CoLoR-Filter (Brandfonbrener et al. 2024, and their code): blocks of T tokens of which the first is
             not predicted, so T - 1 count; the tail that fills no block is left out. There, blocks are cut from the
             concatenation of all documents. Here a document stands alone, so one that is shorter than T tokens is
             taken as one short block, and one of fewer than two tokens has nothing to predict.

What a document gets does not depend on which documents are scored with it: every batch of a width has the same number
of rows (missing ones are filled in and thrown away), so each row meets the same arithmetic, whatever stands beside it.

Each document stands alone in its row, so a model that was trained on documents packed with masks sees here what it saw
there (attention.py).

Cost: a third of training. Rows are sorted by width, a few widths at most 64 tokens apart, so little is computed for
padding, and the head is computed for real tokens only, a block of rows at a time (crossentropy.py). Memory: the batch,
whatever the number of documents.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from curate.train.compiling import compiled
from curate.train.data import Tokens
from curate.train.hardware import autocast, threads
from curate.train.model import Decoder

WINDOWS = ("blocks", "head", "chunk")
WIDTHS = 4               # rows are as wide as the window, or 1/4, 2/4 or 3/4 of it; of a window of more than
STEP = 64                # 4 times so many tokens, a multiple of so many


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which tokens are predicted (see above).

    Args:
        kind: one of WINDOWS.
        tokens: T; None for the model's context.
        most: blocks of a document at most; None for all.
    """

    kind: str = "blocks"
    tokens: int | None = None
    most: int | None = None


class Losses(NamedTuple):
    """Of each document: nats, float64 (n,), over the tokens predicted, int64 (n,)."""

    nats: np.ndarray
    tokens: np.ndarray


class Spans(NamedTuple):
    """Runs of predicted tokens: the document, the first token's place in it, and how many; each int64 (spans,)."""

    document: np.ndarray
    first: np.ndarray
    size: np.ndarray


def spans(lengths: np.ndarray, kind: str, tokens: int, most: int | None = None) -> Spans:
    """Which tokens a window predicts in documents of so many tokens, int64 (n,).

    Raises:
        ValueError: a window that does not exist.
    """
    if kind not in WINDOWS or tokens < 2 or (most is not None and most < 1):
        raise ValueError(
            f"there is no window {kind!r} of {tokens} tokens, {most} at most; use one of: {', '.join(WINDOWS)}"
        )
    if kind == "chunk":
        blocks = np.maximum(lengths // tokens, lengths >= 2)
    else:
        blocks = -(-lengths // tokens)
    kept = np.minimum(blocks, 1 if kind == "head" else blocks if most is None else most)
    document = np.repeat(np.arange(len(lengths)), kept)
    nth = np.arange(len(document)) - np.repeat(np.cumsum(kept) - kept, kept)
    start = nth * blocks[document] // kept[document] * tokens
    end = np.minimum(start + tokens, lengths[document])
    first = start + 1 if kind == "chunk" else start
    return Spans(document, first, end - first)


def nll(
    model: nn.Module,
    documents: Tokens,
    *,
    window: Window = Window(),
    batch: int | None = None,
    precision: str = "float32",
    cpu_threads: int = 1,
    compile: bool = False,
) -> Losses:
    """Losses of documents under a model, on the device that the model is on.

    Metadata and spans that the loss leaves out are read and not counted: ``Tokens.scored`` has the bytes of the rest.

    Args:
        model: a Decoder, or another model with ``config.context`` and ``nats`` (huggingface.py).
        documents: packed with the separator that the model was trained with.
        window: which tokens are predicted.
        batch: tokens of a batch; None for 4,096 on a CPU and 131,072 on a GPU.
        precision: ``float32`` or ``bfloat16``.
        cpu_threads: of torch, where the model is on a CPU.
        compile: compile the layers (compiling.py): some ten seconds first, then about a third faster in bfloat16 on a
            CPU. It moves losses by the rounding of ``precision``, so it is a choice and not a matter of size.

    Raises:
        ValueError: a window that does not exist or is longer than the model's context, or nothing to compile with.
    """
    scored: Any = model
    context = int(scored.config.context)
    width = window.tokens or context
    if width > context:
        raise ValueError(f"a window of {width} tokens is longer than the model's context of {context}")
    plan = spans(documents.lengths, window.kind, width, window.most)
    device = next(model.parameters()).device
    sums, counts = np.zeros(len(plan.size), dtype=np.float64), np.zeros(len(plan.size), dtype=np.int64)
    if batch is None:
        batch = 4096 if device.type == "cpu" else 131_072
    # In the stream a document stands behind its separator, so the token before the first predicted one is at `first`.
    begin = documents.offsets[plan.document] + plan.first
    picks = isinstance(model, Decoder)
    with threads(cpu_threads), autocast(device, precision), compiled(model, on=compile, scoring=True):
        for some, rows, columns in _batches(plan.size, width, batch):
            filled = np.concatenate([some, np.full(rows - len(some), some[0])])
            at = np.minimum(begin[filled][:, None] + np.arange(columns + 1), len(documents.ids) - 1)
            ids = torch.from_numpy(documents.ids[at].astype(np.int64)).to(device)
            predicted = np.arange(columns) < plan.size[filled][:, None]
            predicted[len(some) :] = False
            if (counted := documents.loss(at[:, 1:])) is not None:
                predicted &= counted > 0
            if picks:
                nats = scored.nats(ids[:, :-1], ids[:, 1:], wanted=torch.from_numpy(predicted).to(device))
            else:
                nats = scored.nats(ids[:, :-1], ids[:, 1:])
            sums[some] = np.where(predicted, nats.cpu().numpy(), 0.0).sum(axis=1, dtype=np.float64)[: len(some)]
            counts[some] = predicted.sum(axis=1)[: len(some)]
    n = len(documents.lengths)
    return Losses(
        np.bincount(plan.document, weights=sums, minlength=n),
        np.bincount(plan.document, weights=counts, minlength=n).astype(np.int64),
    )


def _batches(sizes: np.ndarray, width: int, batch: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Numbers of spans, how many rows their batch has, and their common width; a width always has as many rows."""
    step = min(STEP, -(-width // WIDTHS))
    widths = np.minimum(-(-sizes // step) * step, width)
    for columns in np.unique(widths).tolist():
        mine = np.flatnonzero(widths == columns)
        rows = max(1, batch // columns)
        for start in range(0, len(mine), rows):
            yield mine[start : start + rows], rows, columns


def bits_per_byte(nats: float, size: int) -> float:
    """Bits a byte of text takes, given nats over all its tokens and its size in UTF-8 bytes."""
    return nats / (math.log(2) * size)
