"""Instrument 1: an interpolated byte n-gram trained on one chunk of an arm."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from curate.train import ngram
from curate.trials.cutting import Share, first_bytes_of, repeat
from curate.trials.encoding import encode, open_tokenizer
from curate.trials.metrics import Scored, ngram_nats, outcome
from curate.trials.settings import Trial


def ngram_job(
    share: Share, budget: int, config: Trial, inputs: Mapping[str, Path], scored: Sequence[Scored]
) -> dict[str, Any]:
    """Count the n-grams of one chunk, read as often as its share says, and score everything with them."""
    offsets, data = first_bytes_of(*share.text(), int(np.ceil(budget / share.epochs)))
    unique, once = int((np.diff(offsets) > 0).sum()), int(offsets[-1] - offsets[0])
    offsets, data = repeat(offsets, data, budget)
    size = int(offsets[-1] - offsets[0])
    counted = share.counted()
    if counted is not None:
        counted = np.resize(counted[:once], size)  # as the text: from the first byte on, again and again
    costs = ngram_nats(ngram.train(offsets, data, counted=counted), scored)
    tokens = None
    if "tokenizer" in inputs:
        texts = [data[a:b].tobytes().decode() for a, b in pairwise(offsets.tolist())]
        tokens = sum(len(ids) for ids in encode(open_tokenizer(inputs), texts))
    trained = {"bytes": size, "tokens": tokens, "documents": unique, "epochs": share.epochs}
    if counted is not None:
        trained["predicted"] = int(counted.sum())
    return {**outcome(config, scored, [c[-1] for c in costs], costs), "trained": trained}
