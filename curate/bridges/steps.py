"""A stage of ours inside a pipeline of datatrove; imported where datatrove is installed.

Documents are taken from the stream in batches, made into an Arrow table with the columns that the stage and the rules
read, and given back with what the stage wrote in their metadata. Since the grain of an EACH or MANY stage is a law, the
size of a batch changes nothing.

Columns come from the document: ``id`` and ``text``; ``source`` from its metadata, or ""; ``text_bytes`` is counted;
``key`` is a hash of id and text; every other column from the metadata value of that name, null where there is none.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.batching import batched
from datatrove.utils.typeshelper import StatHints

from curate.columns import INT64, KEY, QUARANTINED, ROW, TEXT
from curate.errors import BadData, BadPlan
from curate.stage import Grain, Rule, Stage, arrow_type


class Curated(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """A stage with rules as a step; made by ``bridges.datatrove.as_step``, which tells the arguments."""

    type = "🔻 - FILTER"

    def __init__(
        self,
        stage: Stage,
        config: Any,
        rules: Sequence[Rule],
        *,
        batch: int,
        write: bool,
        exclusion_writer: Any,
        artifacts: dict[str, Any],
    ) -> None:
        if stage.rounds or stage.grain not in (Grain.EACH, Grain.MANY):
            raise BadPlan(
                f"{stage.name} has to see many documents at once", where="datatrove.as_step",
                fix="use an EACH or MANY stage; global steps run in a plan",
            )  # fmt: skip
        if batch < 1:
            raise BadPlan(f"batches of {batch} documents", where="datatrove.as_step", fix="give batch=1 or more")
        self.name = f"curate {stage.name}"
        super().__init__()
        self.stage, self.rules, self.batch, self.write = stage, tuple(rules), batch, write
        self.config = config if config is not None or stage.config_type is None else stage.config_type()
        self.exclusion_writer = exclusion_writer
        self.artifacts = {name: Path(path) for name, path in artifacts.items()}
        self.model: list[Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"model": None}           # opened anew in every worker

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Pass on what the rules keep."""
        if self.model is None:
            load = self.stage.load
            self.model = [] if load is None else [load(self.config, **self.artifacts)]
        with self.exclusion_writer or contextlib.nullcontext() as writer:
            for documents in batched(data, self.batch):
                with self.track_time("batch"):
                    kept, dropped = self._applied(list(documents))
                self.stat_update(StatHints.total, value=len(documents))
                for document, because in dropped:
                    self.stat_update(StatHints.dropped, f"dropped_{because}")
                    if writer is not None:
                        document.metadata["filter_reason"] = because
                        writer.write(document, rank)
                for document in kept:
                    self.stat_update(StatHints.forwarded)
                    self.update_doc_stats(document)
                    yield document

    def _applied(self, documents: list[Document]) -> tuple[list[Document], list[tuple[Document, str]]]:
        """The documents that are kept, and those that are not with the reason."""
        reads = self.stage.reads(self.config)
        written = {name: arrow_type(kind) for name, kind in self.stage.writes(self.config).items()}
        table = _table(documents, reads)
        result = self.stage.on(table, self.config, *(self.model or []))
        if self.stage.grain is Grain.MANY:
            made, dropped = self._children(documents, result)
        else:
            made, dropped = documents, []
        values = {name: result[name] for name in written}
        if QUARANTINED in result.column_names:
            values = {name: column.filter(result[QUARANTINED].is_null()) for name, column in values.items()}
        if self.write:
            for name in written.keys() - {"text", "id"}:
                for document, value in zip(made, values[name].to_pylist(), strict=True):
                    document.metadata[name] = value
        why = self._decided(made, values)
        kept = [document for document, because in zip(made, why, strict=True) if because is None]
        gone = [(document, because) for document, because in zip(made, why, strict=True) if because is not None]
        return kept, dropped + gone

    def _children(
        self, documents: list[Document], result: pa.Table
    ) -> tuple[list[Document], list[tuple[Document, str]]]:
        """The documents that a MANY stage made, and the parents that have none."""
        rows = result[ROW].to_pylist()
        errors = result[QUARANTINED].to_pylist() if QUARANTINED in result.column_names else [None] * len(rows)
        bad = {row: error for row, error in zip(rows, errors, strict=True) if error is not None}
        many = np.bincount(np.array(rows, dtype=np.int64), minlength=len(documents))
        names = result.column_names
        seen: dict[int, int] = {}
        made = []
        for i, row in enumerate(rows):
            if row in bad:
                continue
            parent, nth = documents[row], seen.get(row, 0)
            seen[row] = nth + 1
            made.append(
                Document(
                    text=result["text"][i].as_py() if "text" in names else parent.text,
                    id=parent.id if many[row] == 1 else f"{parent.id}#{nth}",
                    media=parent.media, metadata=dict(parent.metadata),
                )
            )  # fmt: skip
        for row, error in bad.items():
            documents[row].metadata["error"] = error
        gone = [(documents[row], "quarantined") for row in sorted(bad)]
        return made, gone + [(d, "no_rows_left") for row, d in enumerate(documents) if not many[row]]

    def _decided(self, documents: list[Document], values: dict[str, pa.ChunkedArray]) -> list[str | None]:
        """For each document the first rule that does not hold, or None."""
        why: list[str | None] = [None] * len(documents)
        if not self.rules or not documents:
            return why
        names = sorted({name for rule in self.rules for name in rule.keep.meta.root_names()} - set(values))
        table = _table(documents, dict.fromkeys(names))
        columns = {name: table[name] for name in names} | values
        frame = pl.DataFrame(pa.table(columns))
        for rule in reversed(self.rules):
            holds = frame.select(rule.keep.alias("keep"))["keep"]
            holds = pl.repeat(holds[0], len(documents), eager=True) if len(holds) != len(documents) else holds
            for row in np.flatnonzero(~holds.fill_null(False).to_numpy()).tolist():
                why[row] = rule.because
        return why


def _table(documents: Sequence[Document], reads: dict[str, pa.DataType | None]) -> pa.Table:
    """Documents as columns; a type of None is what Arrow finds in the metadata."""
    out: dict[str, pa.Array] = {}
    for name, kind in reads.items():
        match name:
            case "id":
                out[name] = pa.array([d.id for d in documents], TEXT)
            case "text":
                out[name] = pa.array([d.text for d in documents], TEXT)
            case "source":
                out[name] = pa.array([str(d.metadata.get(name) or "") for d in documents], TEXT)
            case "text_bytes":
                out[name] = pa.array([len(d.text.encode()) for d in documents], INT64)
            case "key":
                keys = [xxhash.xxh3_128_digest(f"{d.id}\0{d.text}".encode()) for d in documents]
                out[name] = pa.array(keys, KEY)
            case _:
                try:
                    out[name] = pa.array([d.metadata.get(name) for d in documents], kind)
                except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                    raise BadData(f"metadata {name!r} is no {kind}: {error}", where="datatrove.as_step",
                                  fix="convert it in a step before this one") from error  # fmt: skip
    return pa.table(out)
