"""datatrove, both ways: its filters and formatters as stages, and our stages as its steps.

    quality, config = datatrove.as_stage(GopherQualityFilter(min_doc_words=20))
    docs = docs.then(quality, config).keep(datatrove.rules(config, "gopher_short_doc"))

    docs = docs.then(*datatrove.as_stage(PIIFormatter(remove_ips=False)))

A filter becomes ``filtered`` (EACH), which asks it about every document and drops nothing: it writes

``NAME_keep``        the filter's answer
``NAME_reason``      why not, where it says so
``NAME_metadata``    what the filter added to the document's metadata or changed there, as a JSON object, or null
``NAME_error``       what was wrong, where ``errors="mark"``; NAME_keep is then null, which no rule lets pass

and a column for each name in ``adds``. A formatter becomes ``edited`` (MANY), which replaces the texts.

Some filters edit too (C4QualityFilter cuts lines out). What a filter did to the text would be lost without a word, so
``filtered`` refuses it unless ``edits=True`` says that the edit is known: let ``rules`` drop documents, with their
reasons, and then ``edited`` with the same settings write the texts that the filter made.

The settings of both stages are a ``Step``: the class and its arguments as values, found and checked by ``as_stage``,
and the version of datatrove (of a filter of your own: a hash of its source). So another argument is another step, a
worker makes its own object, and nothing made at run time has to travel.

``as_step`` goes the other way: an EACH or MANY stage with the rules that read its columns becomes a ``PipelineStep``
for any executor of datatrove; see bridges/steps.py.

Cost: that of the filter, about 5 microseconds a document for going there and back.
Elsewhere: our own form of datatrove's filters, the same decisions many times as fast (quality.py).
"""

import importlib.metadata
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from curate.bridges import settings
from curate.bridges.memory import Memory
from curate.columns import BOOL, FLOAT64, INT64, QUARANTINED, ROW, TEXT
from curate.errors import BadData, BadInput, BadPlan, MissingExtra
from curate.stage import ColumnType, Grain, Rule, Stage, stage

TYPES = {"text": TEXT, "int": INT64, "float": FLOAT64, "bool": BOOL}
UNTOLD = ("stats", "exclusion_writer")       # attributes that are no part of what a step does
# What a filter raises about one document; an error of the machine (no memory, no file) is none of these.
ABOUT_A_DOCUMENT = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A filter or formatter as settings; made by ``as_stage``.

    Args:
        of: its class, ``module:name``.
        arguments: what the class is called with, JSON-able (see bridges/settings.py).
        version: of datatrove, or a hash of the class's source.
        name: begins the names of the columns.
        metadata: columns that the step finds in the metadata of a document, and their types: text, int, float, bool.
        adds: names in the metadata that become columns, and their types; null where the step wrote none.
        edits: a filter may change the text, and its edit is dealt with.
        errors: raise what a step raises about a document, or mark the document.
    """

    of: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    version: str
    name: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    adds: Mapping[str, str] = field(default_factory=dict)
    edits: bool = False
    errors: Literal["raise", "mark"] = "raise"

    def __post_init__(self) -> None:
        odd = [kind for kind in (*self.metadata.values(), *self.adds.values()) if kind not in TYPES]
        if odd or self.errors not in ("raise", "mark"):
            raise BadPlan(
                f"{odd[0] if odd else self.errors!r} in the settings of {self.of}", where="datatrove.as_stage",
                fix=f"types are {', '.join(TYPES)}; errors is 'raise' or 'mark'",
            )  # fmt: skip

    def reads(self) -> dict[str, pa.DataType]:
        """The document, and what goes into its metadata."""
        return {"id": TEXT, "text": TEXT, **{name: TYPES[kind] for name, kind in self.metadata.items()}}

    def added(self) -> dict[str, ColumnType]:
        """The columns of ``adds``."""
        return {f"{self.name}_{name}": TYPES[kind] for name, kind in self.adds.items()}

    def answers(self) -> dict[str, ColumnType]:
        """What ``filtered`` writes."""
        kinds = {"keep": BOOL, "reason": TEXT, "metadata": TEXT, "error": TEXT}
        return {f"{self.name}_{what}": kind for what, kind in kinds.items()} | self.added()

    def texts(self) -> dict[str, ColumnType]:
        """What ``edited`` writes."""
        return {"text": TEXT} | self.added()


def as_stage(
    step: Any,
    arguments: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
    adds: Mapping[str, str] | None = None,
    edits: bool = False,
    errors: Literal["raise", "mark"] = "raise",
) -> tuple[Stage, Step]:
    """A filter or formatter as a stage and its settings: ``docs.then(*as_stage(GopherQualityFilter()))``.

    Args:
        step: an object, or a class with ``arguments``.
        arguments: what to call the class with.
        name: begins the names of the columns; the class's name in small letters if not given.
        metadata: columns to hand over as metadata, name to type (text, int, float, bool), as ``{"url": "text"}``.
        adds: metadata that the step writes and that shall be columns, name to type.
        edits: the filter changes texts, and ``edited`` follows.
        errors: raise an error about a document, or mark the document and go on.

    Raises:
        BadPlan: neither a filter nor a formatter, or no stable identity.
        MissingExtra: datatrove, or a package that the step needs, is not installed.
    """
    filters, formatters = _kinds()
    kind = step if isinstance(step, type) else type(step)
    if not issubclass(kind, (filters, formatters)):
        raise BadPlan(
            f"{kind.__name__} is neither a filter nor a formatter of datatrove", where="datatrove.as_stage",
            fix="readers, writers and steps over many documents have counterparts here: see docs/bridges.md",
        )  # fmt: skip
    if getattr(step, "exclusion_writer", None) is not None or "exclusion_writer" in (arguments or {}):
        raise BadPlan(f"{kind.__name__} has an exclusion_writer", where="datatrove.as_stage",
                      fix="leave it out: a run keeps every dropped document with its reason")  # fmt: skip
    found = settings.described(step, arguments, without=UNTOLD)
    short = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.__name__).lower()
    config = Step(
        of=found["of"], arguments=found["with"], version=_version(kind), name=short,
        metadata=dict(metadata or {}), adds=dict(adds or {}), edits=edits, errors=errors,
    )  # fmt: skip
    return (filtered if issubclass(kind, filters) else edited), config


def rules(config: Step, *reasons: str) -> list[Rule]:
    """Rules that keep what a filter keeps: one for each reason that is named, one for all others.

    Args:
        config: of the filter, from ``as_stage``.
        reasons: reasons that the filter gives, to be told apart in the report.
    """
    keep, reason = pl.col(f"{config.name}_keep"), pl.col(f"{config.name}_reason")
    named = [Rule(keep | reason.is_null() | (reason != why), because=f"{config.name}:{why}") for why in reasons]
    return [*named, Rule(keep, because=config.name)]


def _kinds() -> tuple[type, type]:
    try:
        from datatrove.pipeline.filters.base_filter import BaseFilter
        from datatrove.pipeline.formatters.base import BaseFormatter
    except ImportError as error:
        raise MissingExtra(f"datatrove is not installed: {error}", where="bridges.datatrove",
                           fix="pip install 'curate[datatrove]'") from error  # fmt: skip
    return BaseFilter, BaseFormatter


def _version(kind: type) -> str:
    """What stands for the code of a class: datatrove's version, and the source of what is not datatrove's."""
    version = f"datatrove {importlib.metadata.version('datatrove')}"
    if kind.__module__.split(".")[0] == "datatrove":
        return version
    return f"{version}, source {settings.source(kind)}"


# --- The stages -----------------------------------------------------------------------------------------------------


class Opened:
    """A step in a worker, with what it may remember."""

    def __init__(self, config: Step) -> None:
        self.step = settings.built({"of": config.of, "with": config.arguments})
        if (found := _version(type(self.step))) != config.version:
            raise BadInput(f"{config.of} is of {found}, and the plan was made with {config.version}", where=config.of,
                           fix="install the same version on every worker")  # fmt: skip
        self.is_filter = isinstance(self.step, _kinds()[0])
        self.memory = Memory(self.step)
        self.lock = threading.Lock()             # counters are put back before a document, by one thread at a time


def open_step(config: Step) -> Opened:
    """Make the step."""
    return Opened(config)


@dataclass
class _Answer:
    """What a step made of one document."""

    keep: bool | None
    reason: str | None
    text: str
    metadata: dict[str, Any]
    error: str | None = None


def _ask(config: Step, opened: Opened, docs: pa.Table) -> list[_Answer]:
    """The step's answer about every document."""
    from datatrove.data import Document

    columns = {name: docs[name].to_pylist() for name in config.metadata}
    answers = []
    for row, (name, text) in enumerate(zip(docs["id"].to_pylist(), docs["text"].to_pylist(), strict=True)):
        before = {key: values[row] for key, values in columns.items() if values[row] is not None}
        document = Document(text=text or "", id=name or "", metadata=dict(before))
        with opened.lock:
            opened.memory.restore()
            try:
                answers.append(_answer(opened, document, before))
            except ABOUT_A_DOCUMENT as error:
                said = f"{type(error).__name__}: {error}"
                if config.errors == "raise":
                    raise BadData(
                        f"{config.of} raised about document {name!r}: {said}", where=f"datatrove.{config.name}",
                        fix="hand over what it looks for with metadata=, or give as_stage errors='mark'",
                    ) from error  # fmt: skip
                answers.append(_Answer(None, None, text or "", {}, said))
    opened.memory.check(config.of)
    return answers


def _answer(opened: Opened, document: Any, before: Mapping[str, Any]) -> _Answer:
    keep, reason = True, None
    if opened.is_filter:
        [result] = opened.step.filter_batch([document])
        keep, reason = result if isinstance(result, tuple) else (result, None)
    else:
        document.text = opened.step.format(document.text)
    new = {k: v for k, v in document.metadata.items() if k not in before or before[k] != v}
    return _Answer(bool(keep), None if keep or reason is None else str(reason), document.text, new)


def _columns(config: Step, answers: Sequence[_Answer]) -> dict[str, pa.Array]:
    """The columns of ``adds``."""
    out = {}
    for name, kind in config.adds.items():
        values = [_plain(answer.metadata.get(name)) for answer in answers]
        try:
            out[f"{config.name}_{name}"] = pa.array(values).cast(TYPES[kind])
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise BadData(f"{config.of} wrote {name!r} that is no {kind}: {error}", where=f"datatrove.{config.name}",
                          fix=f"give another type in adds: {', '.join(TYPES)}") from error  # fmt: skip
    return out


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@stage(
    reads=Step.reads, writes=Step.answers, grain=Grain.EACH, load=open_step, extras=("datatrove",), version="1",
)  # fmt: skip
def filtered(docs: pa.Table, config: Step, opened: Opened) -> pa.Table:
    """What a filter of datatrove says about each document; nothing is dropped (see the module's story)."""
    answers = _ask(config, opened, docs)
    texts = docs["text"].to_pylist()
    if not config.edits and any(a.error is None and a.text != (t or "") for a, t in zip(answers, texts, strict=True)):
        raise BadData(
            f"{config.of} changed a text, which this stage would lose", where=f"datatrove.{config.name}",
            fix="give as_stage edits=True, and after the rules .then(datatrove.edited, config)",
        )  # fmt: skip
    told = [json.dumps(a.metadata, default=_plain, sort_keys=True) if a.metadata else None for a in answers]
    return pa.table({
        f"{config.name}_keep": pa.array([a.keep for a in answers], BOOL),
        f"{config.name}_reason": pa.array([a.reason for a in answers], TEXT),
        f"{config.name}_metadata": pa.array(told, TEXT),
        f"{config.name}_error": pa.array([a.error for a in answers], TEXT),
        **_columns(config, answers),
    })  # fmt: skip


@stage(
    reads=Step.reads, writes=Step.texts, grain=Grain.MANY, load=open_step, extras=("datatrove",), version="1",
)  # fmt: skip
def edited(docs: pa.Table, config: Step, opened: Opened) -> pa.Table:
    """Texts as a formatter, or a filter that edits, leaves them; what the filter drops has no row.

    A document that the step raises an error about is quarantined where ``errors`` is ``"mark"``.
    """
    answers = _ask(config, opened, docs)
    rows = [row for row, answer in enumerate(answers) if answer.keep is not False]
    kept = [answers[row] for row in rows]
    return pa.table({
        ROW: pa.array(rows, INT64),
        "text": pa.array([a.text for a in kept], TEXT),
        **_columns(config, kept),
        QUARANTINED: pa.array([a.error for a in kept], TEXT),
    })  # fmt: skip


# --- The other way --------------------------------------------------------------------------------------------------


def as_step(
    stage: Stage,
    config: Any = None,
    rules: Sequence[Rule] = (),
    *,
    batch: int = 1_000,
    write: bool = True,
    exclusion_writer: Any = None,
    **artifacts: Any,
) -> Any:
    """An EACH or MANY stage, and the rules that read its columns, as a step for datatrove's executors.

    Args:
        stage: what to apply.
        config: its settings; those of the stage itself if not given.
        rules: the first that does not hold drops the document with its reason.
        batch: documents that are made into one table.
        write: put the stage's columns into the documents' metadata.
        exclusion_writer: a writer of datatrove for dropped documents, with ``filter_reason`` in their metadata.
        artifacts: directories for a stage that opens a model, named as for ``.then``.

    Returns:
        A ``datatrove.pipeline.base.PipelineStep``. Statistics: total, forwarded, dropped, dropped_REASON.

    Raises:
        BadPlan: a stage that has to see more than one document.
    """
    _kinds()
    from curate.bridges.steps import Curated

    return Curated(
        stage, config, rules, batch=batch, write=write, exclusion_writer=exclusion_writer, artifacts=artifacts
    )
