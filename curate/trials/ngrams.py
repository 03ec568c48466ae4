"""Instrument 1: an interpolated byte n-gram trained on one chunk of an arm."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.text import string_buffers
from curate.train import ngram
from curate.trials.cutting import first_bytes
from curate.trials.encoding import encode, open_tokenizer
from curate.trials.metrics import bpb
from curate.trials.settings import Trial


def ngram_job(
    job: dict[str, Any], config: Trial, inputs: Mapping[str, Path], rows: pa.ChunkedArray, documents: pa.ChunkedArray
) -> dict[str, Any]:
    """Count one chunk's n-grams and score the documents with them."""
    offsets, data = first_bytes(rows, job["budget"])
    test = string_buffers(documents)
    costs = ngram.nats(ngram.train(offsets, data), *test)
    size = np.diff(test[0])
    tokens = None
    if "tokenizer" in inputs:
        texts = [data[a:b].tobytes().decode() for a, b in pairwise(offsets.tolist())]
        tokens = sum(len(ids) for ids in encode(open_tokenizer(inputs), texts))
    return {
        "nats": costs[-1].tolist(),
        "bytes": size.tolist(),
        "orders": bpb(costs.sum(axis=1), size.sum()).tolist(),
        "trained": {
            "bytes": int(offsets[-1] - offsets[0]), "tokens": tokens, "documents": int((np.diff(offsets) > 0).sum()),
        },
    }  # fmt: skip
