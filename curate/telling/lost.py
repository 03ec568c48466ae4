"""What could not be read or replaced, by cause: the quarantine in a few lines.

One cause is one error, the numbers in it left out ("not UTF-8 at byte … of the line"), with how many rows it took, how
many byte ranges of which nobody knows how many rows they held, and the first place where it happened. A corpus
whose texts are called otherwise than the pipeline thinks loses every row for one cause, which must be seen at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.store import Store

FILES = 500  # of the quarantine that are looked at for a step


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One error that took rows: how many, how many byte ranges beside, and the first place."""

    error: str
    rows: int
    ranges: int
    where: str


def causes(store: Store, step: Mapping[str, Any]) -> list[Cause]:
    """The causes of a step's quarantine, those that took most first; of the first FILES files of it."""
    tables = [store.get_table(path) for path in step.get("quarantine", [])[:FILES]]
    if not tables:
        return []
    lost = pl.concat([pl.DataFrame(table).select("file", "offset", "row", "rows", "error") for table in tables])
    found = (
        lost.with_columns(pl.col("error").str.replace_all(r"\b\d+\b", "…").alias("cause"))
        .group_by("cause", maintain_order=True)
        .agg(
            pl.col("rows").filter(pl.col("rows") > 0).sum().alias("count"),
            (pl.col("rows") < 0).sum().alias("ranges"),
            pl.len().alias("lines"),
            pl.col("file", "offset", "row", "error").first(),
        )
        .sort("count", "ranges", descending=True, maintain_order=True)
    )
    return [
        Cause(
            error=one["error"] if one["lines"] == 1 else one["cause"],
            rows=one["count"], ranges=one["ranges"],
            where=", ".join(filter(None, (one["file"], place(one["offset"], one["row"])))),
        )
        for one in found.to_dicts()
    ]  # fmt: skip


def place(offset: int, row: int) -> str:
    """Where in a file: a byte, a row, or nothing where neither is known."""
    return f"byte {offset:,}" if offset >= 0 else f"row {row:,}" if row >= 0 else ""


def amount(rows: int, ranges: int) -> str:
    """How much was lost, in words."""
    said = [f"{rows:,} row{'s' if rows != 1 else ''}"] if rows or not ranges else []
    if ranges:
        said.append(f"{ranges:,} byte range{'s' if ranges != 1 else ''} (rows not known)")
    return " and ".join(said)
