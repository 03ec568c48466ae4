"""Passes: a chain of EACH stages and keeps is one task a part; text is decoded once, stored sidecars are skipped.

A stage's sidecar is identified by what the stage is and reads, never by which rows live: it covers the rows that were
alive when it was made, and a later pass adds a fragment for rows that were missing. What a pass leaves for the next is
the list of rows dropped so far, each with the step and the reason.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate.columns import INT64, ROW, TEXT
from curate.errors import RowsLost
from curate.hashing import digest, value_hash
from curate.parts import VALUES, Columns, View, fragments, living_rows
from curate.stage import Rule, Stage, arrow_type
from curate.store import Store

NOTHING: Mapping[str, pa.DataType] = {}
DROPPED = pa.schema([(ROW, INT64), ("id", TEXT), ("step", TEXT), ("because", TEXT)])


@dataclass(frozen=True)
class Compute:
    """An EACH stage in a pass: ``home`` is the directory of its sidecars."""

    label: str
    home: str
    stage: Stage
    config: Any
    artifacts: Mapping[str, str]


@dataclass(frozen=True)
class Decide:
    """A keep in a pass."""

    label: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Pass:
    """The task: carry a part through the steps; ``living`` is the directory of what was dropped after them, if any was.

    Returns a receipt: rows in and out, and for every step what it computed or dropped.
    """

    store: Store
    steps: tuple[Compute | Decide, ...]
    living: str | None

    def __call__(self, view: View) -> dict[str, Any]:
        """Carry one part through the steps."""
        columns = Columns(self.store, view)
        rows = start = living_rows(self.store, view)
        gone = []
        entries: list[dict[str, Any]] = []
        weights = ["text_bytes", *(["tokens"] if "tokens" in view.columns else [])]
        places = dict(view.columns)
        for step in self.steps:
            began = time.perf_counter()
            columns.view = View(view.part, view.ordinal, view.dropped, places)
            if isinstance(step, Compute):
                entry = compute(self.store, step, columns, rows)
                places |= dict.fromkeys(step.stage.writes(step.config), step.home)
                if "tokens" in places and "tokens" not in weights:
                    weights.append("tokens")
            else:
                rows, lost, entry = decide(step, columns, rows, weights)
                gone += lost
            entries.append(entry | {"label": step.label, "timing": {"seconds": time.perf_counter() - began}})
        if self.living is not None:
            self._leave(view, gone)
        dropped = sum(sum(e.get("dropped", {}).values()) for e in entries)
        if len(start) != len(rows) + dropped:
            raise RowsLost(
                f"{len(start)} rows in, {len(rows)} out, {dropped} dropped in part {view.part.name}",
                where=view.part.file.path,
                fix="report this: a pass must conserve rows",
            )
        return {"rows_in": len(start), "rows_out": len(rows), "steps": entries}

    def _leave(self, view: View, gone: list[pa.Table]) -> None:
        before = [self.store.get_table(view.dropped)] if view.dropped else []
        table = pa.concat_tables([DROPPED.empty_table(), *before, *gone]).sort_by(ROW)
        self.store.put_table(f"{self.living}/{view.part.name}.parquet", table)


def compute(store: Store, step: Compute, columns: Columns, rows: np.ndarray) -> dict[str, Any]:
    """Make sure that a step's sidecar covers ``rows``; compute what is missing as a new fragment."""
    home = f"{step.home}/{columns.view.part.name}"
    made = 0
    while len(missing := np.setdiff1d(rows, _held(store, home), assume_unique=True)) or not store.names(home):
        reads = list(step.stage.reads(step.config))
        table = call(step, store, columns.get(reads, missing), where=columns.view.part.file.path)
        if len(missing) == len(rows):
            for name in table.column_names:
                columns.put(name, rows, table[name])
        table = table.add_column(0, ROW, pa.array(missing, INT64))
        table = table.replace_schema_metadata({VALUES: value_hash(table)})
        store.put_table(f"{home}/{len(store.names(home))}.parquet", table)
        made += len(missing)
    return {"rows": len(rows), "computed": made, "values": values_of(store, home, rows)}


def values_of(store: Store, home: str, rows: np.ndarray) -> str:
    """One hash over a sidecar's values at ``rows``, whatever else it covers and in however many fragments."""
    names = store.names(home)
    if len(names) == 1:
        with store.open(f"{home}/{names[0]}") as file:
            found = pq.ParquetFile(file)
            if found.metadata.num_rows == len(rows):
                return str((found.schema_arrow.metadata or {})[VALUES].decode())
    table = fragments(store, home, None)
    at = np.searchsorted(table[ROW].to_numpy(), rows)
    return value_hash(table.take(pa.array(at)).replace_schema_metadata(None))


def _held(store: Store, home: str) -> np.ndarray:
    names = store.names(home)
    if not names:
        return np.empty(0, dtype=np.int64)
    return np.sort(np.concatenate([store.get_table(f"{home}/{n}", [ROW])[ROW].to_numpy() for n in names]))


_thread = threading.local()


def call(step: Compute, store: Store, table: pa.Table, where: str) -> pa.Table:
    """Call an EACH stage on what it reads, and hold it to what it declared."""
    promised = {name: arrow_type(kind) for name, kind in step.stage.writes(step.config).items()}
    return conform(invoke(step, store, table), promised, table.num_rows, step.stage.name, where)


def invoke(step: Compute, store: Store, table: pa.Table) -> Any:
    """Call a stage with its settings and its model."""
    model = [] if step.stage.load is None else [model_of(step, step.stage.load, store)]
    return step.stage.on(table, step.config, *model)


def model_of(step: Compute, load: Callable[..., Any], store: Store) -> Any:
    """A stage's model, opened once per worker, a thread of its own included; the last two are kept."""
    models: dict[str, Any] = _thread.__dict__.setdefault("models", {})
    name = digest([step.home, sorted(step.artifacts.items())])
    if name not in models:
        while len(models) >= 2:
            models.pop(next(iter(models)))
        paths = {k: store.local_copy(path) for k, path in step.artifacts.items()}
        models[name] = load(step.config, **paths)
    return models[name]


def conform(
    result: Any,
    promised: Mapping[str, pa.DataType],
    rows: int | None,
    who: str,
    where: str,
    beside: Mapping[str, pa.DataType] = NOTHING,
) -> pa.Table:
    """A stage's result as it was declared, or an error that says what differs; columns ``beside`` may be missing."""
    if not isinstance(result, pa.Table):
        raise RowsLost(f"{who} returned {type(result).__name__}, not a table", where=where, fix="return a pa.Table")
    if rows is not None and result.num_rows != rows:
        raise RowsLost(
            f"{who} was given {rows} rows and returned {result.num_rows}",
            where=where,
            fix="an EACH stage returns one row for each row, in order",
        )
    promised = {**promised, **{n: kind for n, kind in beside.items() if n in result.column_names}}
    if set(result.column_names) != set(promised):
        raise RowsLost(
            f"{who} declares {sorted(promised)} and returned {sorted(result.column_names)}",
            where=where,
            fix="make the declaration and the function agree",
        )
    for name, kind in promised.items():
        if result[name].type != kind:
            raise RowsLost(
                f"{who} declares {name!r} as {kind} and returned {result[name].type}",
                where=where,
                fix="make the declaration and the function agree",
            )
    return result.select(list(promised))


def decide(
    step: Decide, columns: Columns, rows: np.ndarray, weights: list[str]
) -> tuple[np.ndarray, list[pa.Table], dict[str, Any]]:
    """Apply rules in order; the first that does not hold gives the reason."""
    names = sorted({n for rule in step.rules for n in rule.keep.meta.root_names()})
    known = columns.get(sorted({*names, *weights}), rows)
    frame = pl.DataFrame(known)
    which = np.full(len(rows), -1)
    for i, rule in enumerate(step.rules):
        holds = frame.select(rule.keep.alias("keep"))["keep"]
        holds = pl.repeat(holds[0], len(rows), eager=True) if len(holds) == 1 != len(rows) else holds
        fails = ~holds.fill_null(False).to_numpy()
        which[fails & (which < 0)] = i
    entry: dict[str, Any] = {"rows": len(rows), "dropped": {}, "in": {}, "lost": {}}
    for weight in weights:
        entry["in"][weight] = int(frame[weight].sum() or 0)
    lost = []
    for i, rule in enumerate(step.rules):
        at = np.flatnonzero(which == i)
        if len(at):
            entry["dropped"][rule.because] = entry["dropped"].get(rule.because, 0) + len(at)
            sums = {w: int(frame[w].gather(at).sum() or 0) for w in weights}
            before = entry["lost"].get(rule.because, {})
            entry["lost"][rule.because] = {w: before.get(w, 0) + n for w, n in sums.items()}
            lost.append(
                pa.table(
                    [
                        pa.array(rows[at], INT64),
                        columns.get(["id"], rows[at])["id"].combine_chunks(),
                        pa.array([step.label] * len(at), TEXT),
                        pa.array([rule.because] * len(at), TEXT),
                    ],
                    schema=DROPPED,
                )
            )
    return rows[which < 0], lost, entry
