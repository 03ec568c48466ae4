"""What a stage's author needs for tests: rows in memory that obey the same laws as rows in a store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.artifact import Fitter
from curate.columns import ADDRESS, address, unpack
from curate.stage import InFiles, PerPart, Stage, ToParts


class MemoryRows:
    """``Rows`` over a list of tables, one a part; records what was reported. For tests and small tools."""

    def __init__(self, parts: Sequence[pa.Table], buckets: int = 3) -> None:
        self.parts = [
            t if ADDRESS in t.column_names else t.append_column(ADDRESS, pa.array(address(i, np.arange(len(t)))))
            for i, t in enumerate(parts)
        ]
        self.count = sum(len(t) for t in parts)
        self.buckets = buckets
        self.reported: dict[str, float | int | str] = {}

    def map(
        self,
        fn: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str],
        label: str,
        given: Any = None,
        merge: Callable[[pa.Table, Any], pa.Table] | None = None,
    ) -> list[pa.Table]:
        """See ``Rows.map``; what is merged is merged in twos."""
        found = [fn(t.select([ADDRESS, *reads]), given) for t in self.parts]
        if merge is None:
            return found
        found = [merge(t, given) for t in found]
        while len(found) > 1:
            found = [merge(pa.concat_tables(found[i : i + 2]), given) for i in range(0, len(found), 2)]
        return found

    def exchange(
        self,
        emit: Callable[..., pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str] = (),
        by: str,
        label: str,
        given: Any = None,
        alongside: pa.Table | ToParts | None = None,
        beside: ToParts | None = None,
        of: InFiles | None = None,
        pieces: bool = False,
    ) -> pa.Table:
        """See ``Rows.exchange``; no group is too large here."""
        emitted = []
        for t in self.parts if of is None else _pieces(of):
            own = [beside.of(t)] if isinstance(beside, MemoryResults) else []
            if of is None:
                t = _with(t.select([ADDRESS, *reads]), alongside)
            emitted.append(emit(t, given, *own))
        records = pa.concat_tables(emitted).combine_chunks()
        key = records[by].to_numpy()
        bucket = key.astype(np.uint64) % np.uint64(self.buckets)
        out = []
        for b in range(self.buckets):
            at = np.flatnonzero(bucket == b)
            at = at[np.argsort(key[at], kind="stable")]
            out.append(collect(records.take(at), given))
        return pa.concat_tables(out).combine_chunks()

    def exchange_in_files(
        self,
        emit: Callable[..., pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str] = (),
        by: str,
        label: str,
        given: Any = None,
        alongside: pa.Table | ToParts | None = None,
        beside: ToParts | None = None,
        of: InFiles | None = None,
        pieces: bool = False,
        count: Sequence[str] = (),
    ) -> "MemoryResults":
        """See ``Rows.exchange_in_files``."""
        found = self.exchange(
            emit, collect, reads=reads, by=by, label=label, given=given, alongside=alongside, beside=beside, of=of
        )
        return MemoryResults(found, {name: int(pc.sum(found[name]).as_py() or 0) for name in count})

    def exchange_to_parts(
        self,
        emit: Callable[..., pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str] = (),
        by: str,
        label: str,
        given: Any = None,
        alongside: pa.Table | ToParts | None = None,
        beside: ToParts | None = None,
        of: InFiles | None = None,
        pieces: bool = False,
        count: Sequence[str] = (),
    ) -> "MemoryResults":
        """See ``Rows.exchange_to_parts``."""
        return self.exchange_in_files(
            emit, collect, reads=reads, by=by, label=label, given=given, alongside=alongside, beside=beside, of=of,
            count=count,
        )  # fmt: skip

    def report(self, numbers: Mapping[str, float | int | str]) -> None:
        """See ``Rows.report``."""
        self.reported.update(numbers)


@dataclass(frozen=True)
class MemoryResults:
    """What ``MemoryRows.exchange_in_files`` and ``exchange_to_parts`` found."""

    table: pa.Table
    sums: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """See ``stage.InFiles``."""
        return int(self.table.num_rows)

    def of(self, part: pa.Table) -> pa.Table:
        """The results that belong to a part."""
        mine = np.isin(unpack(self.table[ADDRESS].to_numpy())[0], unpack(part[ADDRESS].to_numpy())[0])
        return self.table.filter(pa.array(mine))


def _with(rows: pa.Table, alongside: pa.Table | ToParts | None) -> pa.Table:
    """The rows that ``alongside`` names, with its columns; all where there is none."""
    beside = alongside.table if isinstance(alongside, MemoryResults) else alongside
    if not isinstance(beside, pa.Table):
        return rows
    at = pc.index_in(rows[ADDRESS], value_set=beside[ADDRESS].combine_chunks())
    rows, mine = rows.filter(at.is_valid()), beside.take(at.drop_null())
    for name in beside.column_names:
        if name != ADDRESS:
            rows = rows.append_column(name, mine[name])
    return rows


def _pieces(of: InFiles) -> list[pa.Table]:
    """Results that were left, in two pieces, so that nobody counts on having them all."""
    if not isinstance(of, MemoryResults):
        raise TypeError(f"{type(of).__name__} was not left by MemoryRows")
    half = of.rows // 2
    return [of.table.slice(0, half), of.table.slice(half)]


def run_rounds(
    stage: Stage, parts: Sequence[pa.Table], config: Any, buckets: int = 3, **artifacts: Path
) -> tuple[pa.Table, MemoryRows]:
    """Carry out a ``rounds`` stage in memory; the answer has ``address`` and what it writes, for the rows answered.

    ``artifacts`` are directories, named as the stage's parameters.
    """
    rows = MemoryRows(parts, buckets)
    answer = stage.on(rows, config, **artifacts)
    if isinstance(answer, PerPart):
        tables = []
        for t in rows.parts:
            beside = [answer.beside.of(t)] if isinstance(answer.beside, MemoryResults) else []
            got = answer.fn(t.select([ADDRESS, *answer.reads]), answer.given, *beside)
            tables.append(got.append_column(ADDRESS, t[ADDRESS]) if ADDRESS not in got.column_names else got)
        answer = pa.concat_tables(tables)
    return answer.table if isinstance(answer, MemoryResults) else answer, rows


def run_fitter(
    fitter: Fitter, parts: Sequence[pa.Table], config: Any, out: Path, **bases: Path
) -> Mapping[str, float | int | str]:
    """Fit in memory over a frame's parts, by partial results where the fitter has them; returns its numbers."""
    if fitter.part is not None:
        parts = [fitter.of_part(t.select(list(dict.fromkeys(["key", *fitter.reads]))), config, bases) for t in parts]
    out.mkdir(parents=True, exist_ok=True)
    return dict(fitter(pa.concat_tables(parts), config, out, **bases) or {})
