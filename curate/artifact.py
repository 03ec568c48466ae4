"""Things learned from a corpus: fitters make artifacts, experiments draw conclusions.

An *artifact* is a directory of files, published once; whatever uses it is identified by the hash of its files.

    @fitter(reads={"text": TEXT}, extras=("train",), version="1")
    def train(docs: pa.Table, config: LanguageModel, out: Path, base: Path | None = None) -> dict[str, float]: ...

A fitter sees one table: a sample whose size the pipeline declared, in an order that depends only on its content (keyed
hash, then key). It writes files under ``out`` and returns numbers for the report. It must be deterministic for given
numerics. Other artifacts arrive as keyword paths.

A fitter over a whole frame works in partial results instead of a sample. ``part(docs, config, **bases)`` is called on
the living rows of every part, on any worker (columns of ``reads``, and ``key``), and returns a narrow table: a few
bytes a row at most. The fitter is then handed the concatenation of those tables, in part order, in place of documents;
``bases`` of ``part`` are those of the fitter that it names. What is learned must not depend on where parts are cut.

    @fitter(reads={"text": TEXT}, part=hashes, version="1")
    def filter(found: pa.Table, config: Bloom, out: Path) -> dict[str, float]: ...

An *experiment* is many independent jobs over the same inputs and one conclusion drawn from their results:

    trial = Experiment(jobs=plan_jobs, work=do_job, conclude=verdict, reads={...}, version="1")

``jobs(config, inputs)`` lists JSON-able dicts, ``work(job, config, inputs)`` carries one out in any worker and returns
a JSON-able dict, ``conclude(config, jobs, results, inputs)`` returns the JSON-able conclusion. ``inputs`` maps names to
paths: a Parquet file for a sample (columns ``key``, ``id``, ``source``, ``text``, ``text_bytes`` and what ``reads``
asks for, rows in keyed-hash order), a directory for an artifact. ``takes`` names columns that a sample has where its
frame does. ``tables(config, jobs, results, inputs)`` are worth keeping beside the conclusion, by path: each run finds
them in its folder.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.errors import BadPlan
from curate.stage import Needs, Numerics, config_type, find


@dataclass(frozen=True)
class Fitter:
    """A function from a sample (or from partial results) to a directory of files, with its declaration."""

    fn: Callable[..., dict[str, Any] | None]
    reads: Mapping[str, pa.DataType]
    needs: Needs
    numerics: Numerics | None
    version: str | None
    part: Callable[..., pa.Table] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self.fn(*args, **kwargs)

    def of_part(self, docs: pa.Table, config: Any, bases: Mapping[str, Path]) -> pa.Table:
        """The partial result of some rows, with those artifacts that ``part`` names."""
        if self.part is None:
            raise BadPlan(f"{self.name} has no partial results", where=self.name, fix="declare part=")
        return self.part(docs, config, **{name: bases[name] for name in names_after(self.part, 2) if name in bases})

    def __reduce__(self) -> tuple[Any, ...]:
        return find, (self.fn.__module__, self.fn.__qualname__)

    @property
    def name(self) -> str:
        """``module.function`` with the last word of the module."""
        return f"{self.fn.__module__.rsplit('.', 1)[-1]}.{self.fn.__name__}"

    @property
    def config_type(self) -> type | None:
        """The dataclass of the second parameter."""
        return config_type(self.fn)


def fitter(
    *,
    reads: Mapping[str, pa.DataType],
    gpus: int = 0,
    extras: Sequence[str] = (),
    numerics: Numerics | None = None,
    version: str | None = None,
    part: Callable[..., pa.Table] | None = None,
) -> Callable[[Callable[..., dict[str, Any] | None]], Fitter]:
    """Declare a fitter; arguments as for ``stage``, and ``part``, the function that gives partial results."""

    def declare(fn: Callable[..., dict[str, Any] | None]) -> Fitter:
        return Fitter(fn, reads, Needs(gpus=gpus, alone=True, extras=tuple(extras)), numerics, version, part)

    return declare


def names_after(fn: Callable[..., Any], before: int) -> list[str]:
    """Names of a function's parameters after the first ``before``: the artifacts that it takes."""
    return list(inspect.signature(fn).parameters)[before:]


Tables = Callable[[Any, list[dict[str, Any]], list[dict[str, Any]], Mapping[str, Path]], Mapping[str, pa.Table]]


@dataclass(frozen=True)
class Experiment:
    """Independent jobs over the same inputs, and the conclusion drawn from them (see the module's story)."""

    jobs: Callable[[Any, Mapping[str, Path]], list[dict[str, Any]]]
    work: Callable[[dict[str, Any], Any, Mapping[str, Path]], dict[str, Any]]
    conclude: Callable[[Any, list[dict[str, Any]], list[dict[str, Any]], Mapping[str, Path]], dict[str, Any]]
    reads: Mapping[str, pa.DataType]
    needs: Needs = field(default_factory=Needs)
    numerics: Numerics | None = None
    version: str | None = None
    takes: tuple[str, ...] = ()
    tables: Tables | None = None

    @property
    def name(self) -> str:
        """``module.function`` of its conclusion."""
        return f"{self.conclude.__module__.rsplit('.', 1)[-1]}.{self.conclude.__name__}"
