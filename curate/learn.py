"""Samples with their texts, artifacts learned from them, and experiments on them.

A sample is chosen by the exact cut (order.py), its texts are gathered once and published as one Parquet file in
keyed-hash order. A fitter writes its artifact into scratch; the files are published under the hash of their content,
and ``artifact.json`` says which hash counts: the first to publish it wins, whatever is built on it is identified by it.
A fitter with partial results has no sample: a task a part publishes each, under what decides it.
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
from curate.columns import ADDRESS, KEY
from curate.errors import RowsLost
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
            rows = chosen_rows(self.store, view, columns, self.cut)
            tables.append(columns.get(self.columns, rows))
        path = f"{self.home}/{name}.parquet"
        published = self.store.put_table(path, pa.concat_tables(tables))
        return {"path": path, "rows": published.rows}


def chosen_rows(store: Store, view: View, columns: Columns, cut: Cut | None) -> np.ndarray:
    """Numbers of the living rows of a part that a sample takes; all where there is no cut."""
    rows = living_rows(store, view)
    if cut is None:
        return rows
    table = columns.get([c for c in cut.reads if c != ADDRESS], rows, with_address=True)
    return np.asarray(rows[selected(table, cut)])


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
    sample: str | tuple[str, ...]
    bases: Mapping[str, str]

    def __call__(self, name: str) -> dict[str, Any]:
        """Fit, publish, and say what counts."""
        bases = {k: self.store.local_copy(path) for k, path in self.bases.items()}
        docs = self._partial(bases) if isinstance(self.sample, tuple) else self._sampled(self.sample)
        with tempfile.TemporaryDirectory(prefix="curate-fit-") as scratch:
            out = Path(scratch)
            metrics = self.fitter(docs, self.config, out, **bases) or {}
            content = files_hash(out)
            for path in sorted(p for p in out.rglob("*") if p.is_file()):
                self.store.publish(f"{self.home}/{content}/{path.relative_to(out).as_posix()}", path.read_bytes())
        return dict(self.store.put_json(f"{self.home}/artifact.json", {"content": content, "metrics": metrics}))

    def _sampled(self, path: str) -> pa.Table:
        return self.store.get_table(path, list(dict.fromkeys(["id", "source", *self.fitter.reads])))

    def _partial(self, bases: Mapping[str, Path]) -> pa.Table:
        """The partial results, in part order; where there is no part, that of no row."""
        if self.sample:
            return pa.concat_tables([self.store.get_table(path) for path in self.sample])
        types = {"key": KEY, **self.fitter.reads}
        return self.fitter.of_part(pa.schema(list(types.items())).empty_table(), self.config, bases)


@dataclass(frozen=True)
class Partial:
    """The task that publishes a fitter's partial result for one part; of its chosen rows, where there is a cut."""

    store: Store
    home: str
    fitter: Fitter
    config: Any
    cut: Cut | None
    bases: Mapping[str, str]

    def __call__(self, view: View) -> dict[str, Any]:
        """The partial result of one part."""
        columns = Columns(self.store, view)
        rows = chosen_rows(self.store, view, columns, self.cut)
        docs = columns.get(list(dict.fromkeys(["key", *self.fitter.reads])), rows)
        found = self.fitter.of_part(
            docs, self.config, {k: self.store.local_copy(path) for k, path in self.bases.items()}
        )
        if not isinstance(found, pa.Table):
            raise RowsLost(
                f"the part= of {self.fitter.name} returned {type(found).__name__}, not a table",
                where=view.part.file.path,
                fix="return a pa.Table",
            )
        published = self.store.put_table(f"{self.home}/{view.part.name}.parquet", found)
        return {"path": published.path, "rows": len(rows), "values": published.values}


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
