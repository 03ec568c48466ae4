"""Instrument 0: what an arm is made of, and which scored documents stand in it."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.text import string_buffers
from curate.train import overlap
from curate.trials import masks
from curate.trials.cutting import REPLAY, read
from curate.trials.metrics import Scored, primary_of
from curate.trials.settings import Trial

NEAR = 0.8  # share of a document's 13-grams above which it is called a near copy


def composition_job(
    job: Mapping[str, Any], config: Trial, inputs: Mapping[str, Path], scored: Sequence[Scored]
) -> dict[str, Any]:
    """What an input's trained rows are, and what of everything scored stands in all of its rows."""
    name = job["input"]
    columns = ["text", "source", *masks.spans_of(Path(inputs[name]))]
    rows = read(inputs, name, columns, 0, job["rows"], job["without"])
    out = describe(rows)
    if masks.SPANS in columns and out["bytes"]:
        counts = masks.sizes(rows["text"], rows[masks.SPANS], f"input {name!r}")
        out["masked"] = 1 - int(counts.sum()) / out["bytes"]
    if not searched(name, config):
        return out
    decides = primary_of(config, scored)
    primary = _Search(decides)
    others = [(s, _Search([s])) for s in scored if s not in decides]
    documents = 0
    for batch in pq.ParquetFile(inputs[name]).iter_batches(batch_size=10_000, columns=["text"]):
        table = overlap.prints(*string_buffers(batch["text"]))
        for search in (primary, *(search for _, search in others)):
            search.look(table)
        documents += len(batch)
    out["test_documents"] = primary.found() | {"searched": documents}
    if others:
        out["beside"] = {f"{s.kind}:{s.name}": search.found() for s, search in others}
    return out


def searched(name: str, config: Trial) -> bool:
    """Whether an input is searched for what is scored: all that is trained on or selected by, and no scored one."""
    kind, _, rest = name.partition(":")
    return kind in ("arm", REPLAY) or (kind == "target" and rest.rpartition("/")[2] != config.split)


class _Search:
    """Looks for some of what is scored, and counts who shares 13 words with it."""

    def __init__(self, wanted: Sequence[Scored]) -> None:
        quoted = pa.chunked_array([piece for s in wanted for piece in s.quoted.chunks], pa.large_string())
        self.search = overlap.Search(overlap.prints(*string_buffers(quoted)))
        self.sharing = 0

    def look(self, table: overlap.Prints) -> None:
        """Look into a table."""
        self.sharing += self.search.look(table)

    def found(self) -> dict[str, Any]:
        """How many stand whole, or nearly, in what was looked at."""
        share = self.search.share()
        return {
            "whole": int(self.search.whole.sum()), "near": int((share >= NEAR).sum()),
            "mean_share": float(share.mean()), "touched": int((share > 0).sum()), "sharing": self.sharing,
        }  # fmt: skip


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
