"""Rows of a finished run, looked up again: which of them live, what is known of each, and its text.

A run leaves ``frames/*.json`` for every frame that a mix was chosen from or that nothing follows: its parts, where each
column lies, and where what was dropped is listed. From that alone, without the pipeline, this module reads

    columns    of any rows of a part, null where a step never saw the row because it was dropped before
    dropped    the rows that a frame lost, each with the step and the reason
    texts      of a few rows: from the store, or from the input file where that was left in place

Nothing here scans without a bound: ``spread`` chooses parts by a limit on rows, evenly over the sorted part names,
which are hashes of content and so as good as drawn by lot.

Elsewhere: reading during a run, where a missing row is an error (parts.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import held
from curate.columns import ROW, address, unpack
from curate.parts import BASE
from curate.passes import DROPPED
from curate.store import Store


@dataclass(frozen=True)
class PartRecord:
    """A part as a frame of a finished run remembers it (see ``parts.Part``); ``alive`` counts the frame's rows in it.

    ``text`` is the column of the input file that holds the texts, where the part was left in place.
    """

    name: str
    of: str
    file: str
    rows: int
    living: int
    alive: int
    groups: tuple[int, ...] | None
    text: str = "text"


@dataclass(frozen=True)
class FrameRecord:
    """A frame of a finished run.

    Args:
        label: of its last step.
        living: directory of what was dropped up to there, or None.
        places: column to ``"base"``, ``"document"`` or the directory of a step.
        funnel: labels of its steps, reading first.
        scores: score column to its ``keep`` (high or low) and ``unit``.
        parts: in the order of their ordinals.
    """

    label: str
    living: str | None
    places: Mapping[str, str]
    funnel: tuple[str, ...]
    scores: Mapping[str, Mapping[str, str]]
    parts: tuple[PartRecord, ...]


def frame_of(value: Mapping[str, Any]) -> FrameRecord:
    """A frame from its JSON record."""
    parts = tuple(
        PartRecord(
            p["name"],
            p["of"],
            p["file"],
            p["rows"],
            p["living"],
            p["alive"],
            None if p["groups"] is None else tuple(p["groups"]),
            p.get("text", "text"),
        )
        for p in value["parts"]
    )
    return FrameRecord(value["label"], value["living"], value["places"], tuple(value["funnel"]), value["scores"], parts)


def frames(store: Store, manifest: Mapping[str, Any]) -> dict[str, FrameRecord]:
    """The frames of a run by their labels, in the order of the plan."""
    return {entry["label"]: frame_of(store.get_json(entry["path"])) for entry in manifest["frames"]}


@dataclass(frozen=True)
class Finished:
    """A finished run with its frames: ``steps`` and ``frames`` by label, in the order of the plan."""

    store: Store
    folder: str
    manifest: Mapping[str, Any]
    frames: Mapping[str, FrameRecord]
    steps: Mapping[str, Mapping[str, Any]]

    def chosen(self, frame: FrameRecord) -> dict[str, str]:
        """The mixes that were chosen from a frame: name to column of copies."""
        entries = self.manifest["mixes"].items()
        return {name: entry["column"] for name, entry in entries if entry["frame"] == frame.label}

    def told(self) -> list[FrameRecord]:
        """The frames that are told of: those of the mixes, or all where there is no mix."""
        labels = dict.fromkeys(entry["frame"] for entry in self.manifest["mixes"].values())
        return [self.frames[label] for label in labels] or list(self.frames.values())


def opened(store: Store, folder: str, manifest: Mapping[str, Any]) -> Finished:
    """A finished run, opened."""
    steps = {s["label"]: s for s in manifest["steps"]}
    return Finished(store, folder, manifest, frames(store, manifest), steps)


def spread(frame: FrameRecord, rows: int, parts: int = 1 << 30) -> list[int]:
    """Ordinals of parts that together hold at most ``rows`` living rows: all, or as many as fit, evenly spread."""
    alive = [p.alive for p in frame.parts]
    wanted = min(len(alive), parts)
    while wanted > 1:
        chosen = [i * len(alive) // wanted for i in range(wanted)]
        total = sum(alive[i] for i in chosen)
        if total <= rows:
            return chosen
        wanted = min(wanted - 1, max(1, wanted * rows // total))
    return list(range(wanted))


# ── rows and columns ─────────────────────────────────────────────────────────────────────────────────────────────────


def dropped(store: Store, frame: FrameRecord, part: int) -> pa.Table:
    """The rows of a part that the frame lost: ``row``, ``step``, ``because``."""
    if frame.living is None:
        return DROPPED.empty_table()
    return store.get_table(f"{frame.living}/{frame.parts[part].name}.parquet")


def living(store: Store, frame: FrameRecord, part: int) -> np.ndarray:
    """Row numbers of a part that live in the frame, int64, ascending."""
    rows = store.get_table(f"parts/{frame.parts[part].of}/base.parquet", [ROW])[ROW].to_numpy()
    gone = dropped(store, frame, part)[ROW].to_numpy()
    return np.setdiff1d(rows, gone, assume_unique=True) if len(gone) else np.asarray(rows)


def columns(
    store: Store, frame: FrameRecord, part: int, names: Iterable[str], rows: np.ndarray | None = None
) -> pa.Table:
    """Columns of some rows of a part (by default the living ones), in the order asked for; null where nobody wrote one.

    Args:
        store: where the run is.
        frame: the frame.
        part: the part's ordinal.
        names: columns, none of which may lie in the document.
        rows: row numbers, any order.
    """
    if rows is None:
        rows = living(store, frame, part)
    by_place: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        by_place.setdefault(frame.places[name], []).append(name)
    found: dict[str, pa.ChunkedArray] = {}
    for place, wanted in by_place.items():
        for table in sidecar(store, frame, part, place, wanted):
            held = table[ROW].to_numpy()
            order = np.argsort(held, kind="stable")
            at = np.minimum(np.searchsorted(held, rows, sorter=order), max(len(held) - 1, 0))
            at = order[at] if len(held) else at
            absent = held[at] != rows if len(held) else np.ones(len(rows), dtype=bool)
            index = pa.array(at, mask=absent)
            for name in set(wanted) & set(table.column_names):  # a source of several may not declare it
                mine = table[name].take(index)
                found[name] = pc.coalesce(found[name], mine) if name in found else mine
    return pa.table({name: found[name] if name in found else pa.nulls(len(rows)) for name in dict.fromkeys(names)})


def sidecar(store: Store, frame: FrameRecord, part: int, place: str, names: Sequence[str]) -> list[pa.Table]:
    """The fragments of what one step (or reading) left for a part, each with ``row``; none where it saw no row."""
    if place == BASE:
        return [store.get_table(f"parts/{frame.parts[part].of}/base.parquet", [ROW, *names])]
    home = f"{place}/{frame.parts[part].name}"
    return [store.get_table(f"{home}/{name}", [ROW, *names]) for name in store.names(home)]


def at(store: Store, frame: FrameRecord, addresses: Sequence[int], names: Iterable[str]) -> list[dict[str, Any]]:
    """The columns of a few rows by address, one dictionary a row, in the order asked for."""
    names = list(names)
    parts, rows = unpack(np.array(addresses, dtype=np.uint64))
    out: list[dict[str, Any]] = [{} for _ in addresses]
    for part in np.unique(parts).tolist():
        where = np.flatnonzero(parts == part)
        for i, values in zip(where.tolist(), columns(store, frame, part, names, rows[where]).to_pylist(), strict=True):
            out[i] = values
    return out


def addresses(part: int, rows: np.ndarray) -> list[int]:
    """Addresses of rows of a part."""
    return address(part, rows).tolist()


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def texts(store: Store, frame: FrameRecord, wanted: Iterable[int]) -> dict[int, str | None]:
    """The texts of a few rows by address; None where the input file is gone or has changed.

    One part's texts are decoded at a time, and only once.
    """
    addresses = np.array(sorted(set(wanted)), dtype=np.uint64)
    parts, rows = unpack(addresses)
    out: dict[int, str | None] = {}
    for part in np.unique(parts).tolist():
        mine = rows[parts == part]
        column = _document(store, frame.parts[part])
        values = [None] * len(mine) if column is None else column.take(pa.array(mine)).to_pylist()
        out |= dict(zip(addresses[parts == part].tolist(), values, strict=True))
    return out


def _document(store: Store, part: PartRecord) -> pa.ChunkedArray | None:
    """All texts of a part."""
    if (kept := held.get(part.of, "text")) is not None:
        return kept
    if part.groups is None:
        return store.get_table(f"parts/{part.of}/rows.parquet", ["text"])["text"]
    try:
        with fsspec.open(part.file, "rb") as file, pq.ParquetFile(file) as opened:
            if part.text not in opened.schema_arrow.names or max(part.groups) >= opened.num_row_groups:
                return None
            table = opened.read_row_groups(list(part.groups), columns=[part.text], use_threads=False)
    except (OSError, pa.ArrowInvalid):
        return None
    return table[part.text] if table.num_rows == part.rows else None


# ── what a frame is made of ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Holding:
    """Documents of one source: how many, and their bytes of text."""

    documents: int
    text_bytes: int


def by_source(
    store: Store, frame: FrameRecord, chosen: Mapping[str, str], parts: Sequence[int]
) -> dict[str, dict[str, Holding]]:
    """What each source holds in the pool as it was read (``""``) and in mixes.

    Args:
        store: where the run is.
        frame: the frame that the mixes were chosen from.
        chosen: name to column of copies.
        parts: ordinals of the parts to look at.

    Returns name to source to what it holds, the largest in bytes first; ties by name.
    """
    tables: dict[str, list[pa.Table]] = {name: [] for name in ("", *chosen)}
    for part in parts:
        base = store.get_table(f"parts/{frame.parts[part].of}/base.parquet", ["source", "text_bytes"])
        ones = pa.array(np.ones(base.num_rows, dtype=np.int64))
        tables[""].append(_sums(base, ones))
        if chosen:
            table = columns(store, frame, part, ["source", "text_bytes", *chosen.values()])
            for name, column in chosen.items():
                tables[name].append(_sums(table, table[column].fill_null(0).cast(pa.int64())))
    return {name: _added(found) for name, found in tables.items()}


def _sums(table: pa.Table, copies: pa.Array | pa.ChunkedArray) -> pa.Table:
    sizes = pc.multiply(table["text_bytes"], copies)
    found = pa.table({"source": table["source"].fill_null(""), "documents": copies, "text_bytes": sizes})
    return found.group_by("source").aggregate([("documents", "sum"), ("text_bytes", "sum")])


def _added(tables: Sequence[pa.Table]) -> dict[str, Holding]:
    if not tables:
        return {}
    table = pa.concat_tables(tables).group_by("source").aggregate([("documents_sum", "sum"), ("text_bytes_sum", "sum")])
    rows = zip(*(table[n].to_pylist() for n in ("source", "documents_sum_sum", "text_bytes_sum_sum")), strict=True)
    found = sorted((r for r in rows if r[1]), key=lambda r: (-r[2], r[0]))
    return {source: Holding(documents, size) for source, documents, size in found}
