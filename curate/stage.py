"""The one abstraction: a function on an Arrow table that declares what it reads, writes and how a table may be cut.

    @stage(reads={"text": TEXT}, writes={"words": INT64}, grain=Grain.EACH, version="1")
    def word_count(docs: pa.Table, config: WordCount) -> pa.Table: ...

A stage is handed a table with exactly the columns it reads, and hands back a table with exactly the columns it writes.

EACH     ``fn(docs, config)`` returns one row for each row, in the same order.
MANY     ``fn(docs, config)`` returns a table with ``row`` (int64 index into ``docs``) and what it writes. A row of
         ``docs`` that it does not name is dropped (``no_rows_left``). It may return a column ``quarantined`` (TEXT)
         beside: where that is not null, the named row of ``docs`` could not be replaced; it goes to the quarantine with
         that error, and whatever else was returned for it is ignored.
GROUP    ``fn(group, config)`` is handed all rows that share ``by``, whole groups at a time, with their ``address``;
         it returns ``address`` and what it writes, for every row.
WHOLE    the same with all rows at once: narrow columns only.
rounds   ``fn(rows, config, **artifacts)`` is a short program over *all* living rows, for methods that need several
         exchanges (near-duplicates, exact selection). It runs where the run was started and sees only small tables.
         The path of an artifact may be handed on to workers in ``given``.

``load(config, **artifacts)`` opens a model once per worker; the function is then ``fn(docs, config, model)``.
``artifacts`` are paths of directories, named as they were given to ``.then(..., prior=..., conditional=...)``.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import polars as pl
import pyarrow as pa

from curate.errors import BadPlan


class Grain(Enum):
    """Where a table may be cut."""

    EACH = "one row in, one row out: columns are added"
    MANY = "one row in, any number out: rows are replaced"
    GROUP = "rows that share `by` arrive together: columns are added, and go home by address"
    WHOLE = "all rows arrive at once, in narrow columns: columns are added, and go home by address"


class Direction(Enum):
    """Which end of a score to keep."""

    HIGH = "high"
    LOW = "low"


@dataclass(frozen=True)
class Score:
    """The type of a score column: a float that knows how to read it. Null and NaN mean ``no_score``.

    Args:
        type: ``FLOAT32`` or ``FLOAT64``.
        keep: the end that selection keeps.
        unit: for example ``"nats/token"`` or ``"probability"``.
        reduction: how token or sentence values became one number: ``"mean"``, ``"sum"`` or ``"none"``.
    """

    type: pa.DataType
    keep: Direction
    unit: str
    reduction: str


ColumnType: TypeAlias = pa.DataType | Score
Reads: TypeAlias = Mapping[str, pa.DataType] | Callable[[Any], Mapping[str, pa.DataType]]
Writes: TypeAlias = Mapping[str, ColumnType] | Callable[[Any], Mapping[str, ColumnType]]


@dataclass(frozen=True)
class Needs:
    """What a worker must have to carry out a task. ``extras`` are names from pyproject's optional dependencies.

    ``alone``: no other task may run in the same process meanwhile.
    """

    gpus: int = 0
    alone: bool = False
    extras: tuple[str, ...] = ()


@dataclass(frozen=True)
class Numerics:
    """What a model's numbers depend on beside its weights; part of the identity of what it writes."""

    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1
    batch: str = "rows of the part, in order"


@dataclass(frozen=True)
class Rule:
    """A polars expression that is true for rows to keep, and the reason that is stored with those it drops.

    A null result drops the row with the reason too: nothing passes a rule that could not be evaluated.
    """

    keep: pl.Expr
    because: str


class Rows(Protocol):
    """All living rows of a frame, as a ``rounds`` stage sees them. Functions passed in are top-level and pure.

    Tables handed to ``fn`` and ``emit`` hold ``address`` (uint64) and the columns named in ``reads``.
    ``given`` is any small picklable value; it is handed on as second argument.
    """

    count: int

    def map(
        self,
        fn: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str],
        label: str,
        given: Any = None,
        merge: Callable[[pa.Table, Any], pa.Table] | None = None,
    ) -> list[pa.Table]:
        """One small table a part, in part order.

        With ``merge``, at most one table in all: ``merge(table, given)`` makes one table of several, one after the
        other, and is called again on what it made, so that nothing grows with the number of parts. It must not matter
        where a division is made.
        """
        ...

    def exchange(
        self,
        emit: Callable[..., pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str] = (),
        by: str,
        label: str,
        given: Any = None,
        alongside: "pa.Table | ToParts | None" = None,
        beside: "ToParts | None" = None,
        of: "InFiles | None" = None,
        pieces: bool = False,
    ) -> pa.Table:
        """Bring records together by key, through files; gather what ``collect`` makes of them.

        Args:
            emit: turns a part's rows into records with the column ``by`` (an integer type).
            collect: is handed whole groups (all records that share ``by``), many groups at a time, sorted by
                (``by``, part, order of emission); its results are concatenated in bucket order. It must not depend
                on which groups share a call.
            reads: columns of the rows that ``emit`` sees.
            by: the record column to bring together.
            label: names this exchange; unique within the stage.
            given: passed to both functions.
            alongside: a table with ``address`` (unique), or what ``exchange_to_parts`` left: ``emit`` then sees only
                these rows, with its columns added.
            beside: results of an earlier exchange that wait with the parts: ``emit`` is then called with a third
                argument, a table of those that belong to the part.
            of: what an exchange left in files, in place of the rows (so without the three above): ``emit`` is handed
                its results, some at a time.
            pieces: a group that is too large for one call (256 MiB) may be handed over in consecutive pieces, which are
                counted in the report. Without it, one above 4 GiB is an error that names the key and its size.
        """
        ...

    def exchange_in_files(
        self,
        emit: Callable[..., pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str] = (),
        by: str,
        label: str,
        given: Any = None,
        alongside: "pa.Table | ToParts | None" = None,
        beside: "ToParts | None" = None,
        of: "InFiles | None" = None,
        pieces: bool = False,
        count: Sequence[str] = (),
    ) -> "InFiles":
        """The same, with results that stay in files and are the input of further exchanges (``of=``).

        So a method may go on until nothing changes, whatever the number of results: components over 1e10 pairs, say, by
        label propagation. ``count`` names integer columns of the results whose sums are told (``InFiles.sums``).
        """
        ...

    def exchange_to_parts(
        self,
        emit: Callable[..., pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str] = (),
        by: str,
        label: str,
        given: Any = None,
        alongside: "pa.Table | ToParts | None" = None,
        beside: "ToParts | None" = None,
        of: "InFiles | None" = None,
        pieces: bool = False,
        count: Sequence[str] = (),
    ) -> "ToParts":
        """The same, with results that carry an ``address`` (repeats allowed) and are left in files by its part.

        Nothing is gathered where the run was started; ``PerPart(..., beside=...)`` hands each part its own results.
        Where no address repeats, they may also be the ``alongside`` of another exchange, or the stage's answer.
        """
        ...

    def report(self, numbers: Mapping[str, float | int | str]) -> None:
        """Numbers for the step's entry in the run's report."""
        ...


class InFiles(Protocol):
    """Results of an exchange that stay in files."""

    @property
    def rows(self) -> int:
        """How many results there are."""
        ...

    @property
    def sums(self) -> Mapping[str, int]:
        """Of the columns that ``count`` named."""
        ...


class ToParts(InFiles, Protocol):
    """Results of an exchange that wait for the parts they belong to."""


@dataclass(frozen=True)
class PerPart:
    """An answer that a ``rounds`` stage leaves to the parts: ``fn(table, given)`` gives what it writes, row by row.

    With ``beside``, what ``Rows.exchange_to_parts`` returned, it is ``fn(table, given, results)``: a table of the
    results whose address lies in the part, in the order of their exchange's buckets.
    """

    fn: Callable[..., pa.Table]
    reads: tuple[str, ...]
    given: Any = None
    beside: ToParts | None = None


@dataclass(frozen=True)
class Stage:
    """A function with its declaration; call it like the function."""

    fn: Callable[..., Any]
    reads_: Reads
    writes_: Writes
    grain: Grain
    by: str | None = None
    rounds: bool = False
    each: "Stage | None" = None
    load: Callable[..., Any] | None = None
    needs: Needs = Needs()
    numerics: Numerics | None = None
    version: str | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self.fn(*args, **kwargs)

    def on(self, first: Any, config: Any, *model: Any, **artifacts: Path) -> Any:
        """Call the function on a table with its settings, if it takes any, and its model, if it has one.

        A ``rounds`` stage is called on rows, with the paths of its artifacts.
        """
        return self.fn(first, *([] if self.config_type is None else [config]), *model, **artifacts)

    def __reduce__(self) -> tuple[Any, ...]:
        # By name: the module attribute is the stage, so its bare function could not be found by name.
        return find, (self.fn.__module__, self.fn.__qualname__)

    @property
    def __name__(self) -> str:
        return str(self.fn.__name__)

    @property
    def name(self) -> str:
        """``module.function`` with the last word of the module, as people say it."""
        return f"{self.fn.__module__.rsplit('.', 1)[-1]}.{self.fn.__name__}"

    @property
    def config_type(self) -> type | None:
        """The dataclass of the second parameter, or None where the function takes only the table."""
        return config_type(self.fn)

    def reads(self, config: Any) -> dict[str, pa.DataType]:
        """Columns it reads, given its settings."""
        return dict(self.reads_(config) if callable(self.reads_) else self.reads_)

    def writes(self, config: Any) -> dict[str, ColumnType]:
        """Columns it writes, given its settings."""
        return dict(self.writes_(config) if callable(self.writes_) else self.writes_)


def stage(
    *,
    reads: Reads,
    writes: Writes,
    grain: Grain,
    by: str | None = None,
    rounds: bool = False,
    each: Stage | None = None,
    load: Callable[..., Any] | None = None,
    gpus: int = 0,
    extras: Sequence[str] = (),
    numerics: Numerics | None = None,
    version: str | None = None,
) -> Callable[[Callable[..., Any]], Stage]:
    """Declare a stage.

    Args:
        reads: column name to Arrow type, or a function of the settings that gives it.
        writes: column name to Arrow type or ``Score``, or a function of the settings that gives it.
        grain: where a table may be cut.
        by: for GROUP, the column whose equal values arrive together.
        rounds: the function is a program over ``Rows`` (see above).
        each: an EACH stage that must run before: the half that needs no other rows. It has the same settings, or those
            that their method ``each()`` returns, so that a setting of the other half recomputes nothing of it.
        load: opens a model once per worker.
        gpus: devices a worker must have.
        extras: optional dependencies (names in pyproject) that the stage needs.
        numerics: for stages with a model: what the numbers depend on.
        version: bump it when the output changes. Without one, the stage is versioned by its source.
    """
    if grain is Grain.GROUP and by is None and not rounds:
        raise BadPlan("a GROUP stage needs `by`", where="@stage(...)", fix="add by='column'")

    def declare(fn: Callable[..., Any]) -> Stage:
        return Stage(
            fn=fn,
            reads_=reads,
            writes_=writes,
            grain=grain,
            by=by,
            rounds=rounds,
            each=each,
            load=load,
            needs=Needs(gpus=gpus, alone=numerics is not None, extras=tuple(extras)),
            numerics=numerics,
            version=version,
        )

    return declare


def find(module: str, name: str) -> Any:
    """What stands under a name in a module; how stages and fitters travel to workers."""
    return getattr(importlib.import_module(module), name)


def config_type(fn: Callable[..., Any]) -> type | None:
    """The dataclass that annotates a function's second parameter, if there is one."""
    parameters = list(inspect.signature(fn, eval_str=True).parameters.values())
    if len(parameters) < 2:
        return None
    kind = parameters[1].annotation
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def arrow_type(column: ColumnType) -> pa.DataType:
    """The Arrow type of a written column, score or not."""
    return column.type if isinstance(column, Score) else column
