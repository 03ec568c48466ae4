"""Samples with their texts, artifacts learned from them, and experiments on them.

A sample is chosen by the exact cut (order.py), its texts are gathered once and published as one Parquet file in
keyed-hash order. A fitter writes its artifact into scratch; the files are published under the hash of their content,
and ``artifact.json`` says which hash counts: the first to publish it wins, whatever is built on it is identified by it.
An experiment's jobs are tasks like any other, each result published under the hash of its job and inputs.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.artifact import Experiment, Fitter
from curate.columns import ADDRESS
from curate.hashing import digest, files_hash, halves, keyed
from curate.order import Cut, selected
from curate.parts import Columns, View, living_rows
from curate.store import Store

STANDARD_SAMPLE = ("key", "id", "source", "text", "text_bytes")


@dataclass(frozen=True)
class Texts:
    """The task that fetches the chosen rows of some parts, texts included."""

    store: Store
    home: str
    cut: Cut | None
    columns: tuple[str, ...]

    def __call__(self, group: tuple[str, tuple[View, ...]]) -> dict[str, Any]:
        """Publish the chosen rows of a group of parts."""
        name, views = group
        tables = []
        for view in views:
            columns = Columns(self.store, view)
            rows = living_rows(self.store, view)
            if self.cut is not None:
                table = columns.get([c for c in self.cut.reads if c != ADDRESS], rows, with_address=True)
                rows = rows[selected(table, self.cut)]
            tables.append(columns.get(self.columns, rows))
        path = f"{self.home}/{name}.parquet"
        published = self.store.put_table(path, pa.concat_tables(tables))
        return {"path": path, "rows": published.rows}


def in_order(table: pa.Table, label: str, seed: int) -> pa.Table:
    """Rows by (keyed hash, key): an order that depends on their content alone."""
    keys = halves(table["key"])
    return table.take(pa.array(np.lexsort((keys[:, 1], keys[:, 0], keyed(keys, label=label, seed=seed)))))


@dataclass(frozen=True)
class Learn:
    """The task that fits one artifact."""

    store: Store
    home: str
    fitter: Fitter
    config: Any
    sample: str
    bases: Mapping[str, str]

    def __call__(self, name: str) -> dict[str, Any]:
        """Fit, publish, and say what counts."""
        docs = self.store.get_table(self.sample, list(dict.fromkeys(["id", "source", *self.fitter.reads])))
        with tempfile.TemporaryDirectory(prefix="curate-fit-") as scratch:
            out = Path(scratch)
            bases = {k: self.store.local_copy(path) for k, path in self.bases.items()}
            metrics = self.fitter(docs, self.config, out, **bases) or {}
            content = files_hash(out)
            for path in sorted(p for p in out.rglob("*") if p.is_file()):
                self.store.publish(f"{self.home}/{content}/{path.relative_to(out).as_posix()}", path.read_bytes())
        return dict(self.store.put_json(f"{self.home}/artifact.json", {"content": content, "metrics": metrics}))


@dataclass(frozen=True)
class Work:
    """The task that carries out one job of an experiment."""

    store: Store
    home: str
    experiment: Experiment
    config: Any
    inputs: Mapping[str, str]

    def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do the job and publish its result."""
        inputs = {k: self.store.local_copy(path) for k, path in self.inputs.items()}
        path = f"{self.home}/job-{digest(job)}.json"
        self.store.put_json(path, self.experiment.work(job, self.config, inputs))
        return {"path": path}


def without_timing(value: Any) -> Any:
    """A JSON value without what is keyed ``timing``: how long something took is not part of what it is."""
    if isinstance(value, dict):
        return {k: without_timing(v) for k, v in value.items() if k != "timing"}
    return [without_timing(v) for v in value] if isinstance(value, list) else value
