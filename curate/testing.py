"""What a stage's author needs for tests: rows in memory that obey the same laws as rows in a store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.artifact import Fitter
from curate.columns import ADDRESS, address, unpack
from curate.stage import PerPart, Stage


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
        self, fn: Callable[[pa.Table, Any], pa.Table], *, reads: Sequence[str], label: str, given: Any = None
    ) -> list[pa.Table]:
        """See ``Rows.map``."""
        return [fn(t.select([ADDRESS, *reads]), given) for t in self.parts]

    def exchange(
        self,
        emit: Callable[[pa.Table, Any], pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str],
        by: str,
        label: str,
        given: Any = None,
        alongside: pa.Table | None = None,
    ) -> pa.Table:
        """See ``Rows.exchange``."""
        emitted = []
        for t in self.parts:
            t = t.select([ADDRESS, *reads])
            if alongside is not None:
                at = pc.index_in(t[ADDRESS], value_set=alongside[ADDRESS].combine_chunks())
                t, mine = t.filter(at.is_valid()), alongside.take(at.drop_null())
                for name in alongside.column_names:
                    if name != ADDRESS:
                        t = t.append_column(name, mine[name])
            emitted.append(emit(t, given))
        records = pa.concat_tables(emitted).combine_chunks()
        key = records[by].to_numpy()
        bucket = key.astype(np.uint64) % np.uint64(self.buckets)
        out = []
        for b in range(self.buckets):
            at = np.flatnonzero(bucket == b)
            at = at[np.argsort(key[at], kind="stable")]
            out.append(collect(records.take(at), given))
        return pa.concat_tables(out).combine_chunks()

    def exchange_to_parts(
        self,
        emit: Callable[[pa.Table, Any], pa.Table],
        collect: Callable[[pa.Table, Any], pa.Table],
        *,
        reads: Sequence[str],
        by: str,
        label: str,
        given: Any = None,
        alongside: pa.Table | None = None,
    ) -> "MemoryResults":
        """See ``Rows.exchange_to_parts``."""
        return MemoryResults(
            self.exchange(emit, collect, reads=reads, by=by, label=label, given=given, alongside=alongside)
        )

    def report(self, numbers: Mapping[str, float | int | str]) -> None:
        """See ``Rows.report``."""
        self.reported.update(numbers)


@dataclass(frozen=True)
class MemoryResults:
    """What ``MemoryRows.exchange_to_parts`` found."""

    table: pa.Table

    @property
    def rows(self) -> int:
        """See ``stage.ToParts``."""
        return int(self.table.num_rows)

    def of(self, part: pa.Table) -> pa.Table:
        """The results that belong to a part."""
        mine = np.isin(unpack(self.table[ADDRESS].to_numpy())[0], unpack(part[ADDRESS].to_numpy())[0])
        return self.table.filter(pa.array(mine))


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
    return answer, rows


def run_fitter(
    fitter: Fitter, parts: Sequence[pa.Table], config: Any, out: Path, **bases: Path
) -> Mapping[str, float | int | str]:
    """Fit in memory over a frame's parts, by partial results where the fitter has them; returns its numbers."""
    if fitter.part is not None:
        parts = [fitter.of_part(t.select(list(dict.fromkeys(["key", *fitter.reads]))), config, bases) for t in parts]
    out.mkdir(parents=True, exist_ok=True)
    return dict(fitter(pa.concat_tables(parts), config, out, **bases) or {})
