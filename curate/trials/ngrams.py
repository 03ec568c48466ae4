"""Instrument 1: an interpolated byte n-gram trained on one chunk of an arm."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from curate.train import ngram
from curate.trials.cutting import Share, first_bytes_of
from curate.trials.encoding import encode, open_tokenizer
from curate.trials.metrics import Scored, ngram_nats, outcome
from curate.trials.settings import Trial


def ngram_job(
    share: Share, budget: int, config: Trial, inputs: Mapping[str, Path], scored: Sequence[Scored]
) -> dict[str, Any]:
    """Count the n-grams of one chunk and score everything with them.

    A chunk that is to be read several times is counted once. Counts that are multiplied make the discount of unseen
    words too small: text read twice would cost a tenth of all bits and more, where a network loses next to nothing
    (Muennighoff et al. 2023: up to four readings are almost as good as new text). Counted once, a second reading is
    worth nothing: repetition at its worst, and said so.
    """
    offsets, data = first_bytes_of(*share.text(), int(np.ceil(budget / share.epochs)))
    documents, once = int((np.diff(offsets) > 0).sum()), int(offsets[-1] - offsets[0])
    size = once if share.epochs == 1 else budget
    counted = share.counted()
    if counted is not None:
        counted = counted[:once]
    costs = ngram_nats(ngram.train(offsets, data, counted=counted), scored)
    tokens = None
    if "tokenizer" in inputs:
        texts = [data[a:b].tobytes().decode() for a, b in pairwise(offsets.tolist())]
        tokens = round(sum(len(ids) for ids in encode(open_tokenizer(inputs), texts)) * size / max(1, once))
    trained = {"bytes": size, "tokens": tokens, "documents": documents, "epochs": share.epochs}
    if counted is not None:
        trained["predicted"] = round(int(counted.sum()) * size / max(1, once))
    return {**outcome(config, scored, [c[-1] for c in costs], costs), "trained": trained}
