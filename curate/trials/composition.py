"""Instrument 0: what an arm is made of, and which scored documents stand in it."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.text import string_buffers
from curate.train import overlap
from curate.trials.cutting import read
from curate.trials.metrics import evaluation
from curate.trials.settings import Trial

NEAR = 0.8  # share of a document's 13-grams above which it is called a near copy


def describe_input(job: dict[str, Any], config: Trial, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Instrument 0: what an arm's trained rows are, and what of the test documents stands in all of its rows."""
    search = None
    sharing = searched = 0
    if job["input"] != f"target:{config.split}":
        search = overlap.Search(overlap.prints(*string_buffers(evaluation(config, inputs)["text"])))
        for batch in pq.ParquetFile(inputs[job["input"]]).iter_batches(batch_size=10_000, columns=["text"]):
            sharing += search.look(overlap.prints(*string_buffers(batch["text"])))
            searched += len(batch)
    out = describe(read(inputs, job["input"], ["text", "source"], 0, job["rows"], job["without"]))
    if search is not None:
        share = search.share()
        out["test_documents"] = {
            "whole": int(search.whole.sum()), "near": int((share >= NEAR).sum()), "mean_share": float(share.mean()),
            "touched": int((share > 0).sum()), "sharing": sharing, "searched": searched,
        }  # fmt: skip
    return out


def describe(rows: pa.Table) -> dict[str, Any]:
    """Lengths, shares of sources by bytes, compressed size, exact copies."""
    offsets, data = string_buffers(rows["text"])
    size = np.diff(offsets)
    total = int(size.sum())
    if total == 0:
        return {"documents": len(rows), "bytes": 0}
    shares = pa.table({"source": rows["source"], "bytes": size}).group_by("source").aggregate([("bytes", "sum")])
    shares = shares.sort_by([("bytes_sum", "descending"), ("source", "ascending")])
    named = zip(shares["source"].to_pylist(), shares["bytes_sum"].to_pylist(), strict=True)
    head = data[int(offsets[0]) : int(offsets[0]) + min(total, 1_000_000)].tobytes()
    return {
        "documents": len(rows),
        "bytes": total,
        "length": {f"p{q}": float(np.percentile(size, q)) for q in (10, 25, 50, 75, 90)},
        "sources": {str(name): n / total for name, n in named},
        "compression": len(head) / len(zlib.compress(head, 6)),
        "copies": 1 - pc.count_distinct(rows["text"]).as_py() / len(rows),
    }
