"""What is measured: the documents that are scored, and bits per byte."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import BadInput, BadPlan
from curate.trials.settings import Trial

FEWEST_DOCUMENTS = 50


def evaluation(config: Trial, inputs: Mapping[str, Path]) -> pa.Table:
    """The documents to score: ``text`` and ``cluster``, int64 from 0 (the file's ``group``, or one a document)."""
    name = f"target:{config.split}"
    if name not in inputs:
        raise BadPlan(f"a trial without {name!r}", where="trial inputs", fix="give the target's held-out documents")
    path = Path(inputs[name])
    columns = [c for c in ("text", "group", "module") if c in pq.read_schema(path).names][:2]
    table = pq.read_table(path, columns=columns)
    table = table.filter(pc.greater(pc.binary_length(table["text"]), 0)).slice(0, config.documents)
    if len(table) < FEWEST_DOCUMENTS:
        raise BadInput(
            f"{len(table)} documents to score, and fewer than {FEWEST_DOCUMENTS} say nothing", where=str(path),
            fix=f"give at least {FEWEST_DOCUMENTS} documents that are not empty (200 or more is better)",
        )  # fmt: skip
    alone = pa.array([f"\x00{i}" for i in range(len(table))])
    group = pc.coalesce(table[columns[1]].cast(pa.string()), alone) if len(columns) > 1 else alone
    cluster = pc.index_in(group, value_set=pc.unique(group))
    return pa.table({"text": table["text"].cast(pa.large_string()), "cluster": cluster.cast(pa.int64())})


def bpb(nats: Any, size: Any) -> Any:
    """Bits per byte."""
    return nats / (np.log(2) * size)
