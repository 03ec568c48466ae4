"""What became of one document: where it is from, what every step wrote of it, what dropped it, where it went.

Ids are the source's and may repeat, so there is a story for every row that has the id. The rows are found in the id
column of the parts' base sidecars alone; what is told of them is read from the sidecars of their own parts. A row that
a step dropped has no numbers of later steps. Addresses of other rows (``near_copy_of``, the parent of a replaced row)
are told as those rows' ids.

Cost: one read of the id column of every part, and one of each score column that the row has (for its rank).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import PARENT, QUARANTINED, ROW, STANDARD, UINT64, unpack
from curate.hashing import digest
from curate.parts import BASE, DOCUMENT
from curate.store import Store
from curate.telling import lookup
from curate.telling.lookup import FrameRecord
from curate.telling.present import number, selection_step, settings_of

MOST_COPIES = 20  # copies of a row in a mix whose places are told


@dataclass(frozen=True)
class Story:
    """One row's story.

    Args:
        frame: label of the step that the row comes from.
        facts: what, and its value, in the order of the pipeline.
    """

    frame: str
    facts: list[tuple[str, str]]


def stories(store: Store, manifest: Mapping[str, Any], document_id: str) -> list[Story]:
    """A story for every row of a run with this id; empty where no row has it (what was quarantined has no id).

    Args:
        store: where the run lies.
        manifest: of the run.
        document_id: matched exactly.
    """
    out = []
    for family in families(lookup.frames(store, manifest)):
        first = family[0]
        known: dict[str, list[int]] = {}
        for part, record in enumerate(first.parts):
            if record.of not in known:
                base = store.get_table(f"parts/{record.of}/base.parquet", [ROW, "id"])
                known[record.of] = base.filter(pc.equal(base["id"], document_id))[ROW].to_pylist()
            for row in known[record.of]:
                out.append(Story(origin(manifest, first), Teller(store, manifest, family, part, row).facts()))
    return out


def families(frames: Mapping[str, FrameRecord]) -> list[list[FrameRecord]]:
    """Frames that share their rows, whose stories are one story."""
    found: dict[tuple[str, ...], list[FrameRecord]] = {}
    for frame in frames.values():
        found.setdefault((frame.funnel[0], *(p.name for p in frame.parts)), []).append(frame)
    return list(found.values())


def origin(manifest: Mapping[str, Any], frame: FrameRecord) -> str:
    """The step that the rows of a frame come from: the last that read or replaced rows."""
    kinds = {s["label"]: s["kind"] for s in manifest["steps"]}
    return next(label for label in reversed(frame.funnel) if kinds[label] in ("read", "replace"))


@dataclass(frozen=True)
class Teller:
    """Tells the story of one row.

    Args:
        store: where the run lies.
        manifest: of the run.
        family: the frames that hold the row.
        part: ordinal of its part.
        row: its number in the part.
    """

    store: Store
    manifest: Mapping[str, Any]
    family: Sequence[FrameRecord]
    part: int
    row: int

    @property
    def address(self) -> int:
        """The row's address."""
        return lookup.addresses(self.part, np.array([self.row]))[0]

    def facts(self) -> list[tuple[str, str]]:
        """Everything, in the order of the pipeline."""
        facts = self.place()
        for label, columns in self.columns_by_step():
            facts += self.values(label, columns)
        return facts + self.fate() + self.scores() + self.samples() + self.mixes()

    # ── where it is from ─────────────────────────────────────────────────────────────────────────────────────────

    def place(self) -> list[tuple[str, str]]:
        """File and row, part, key, and what the source told."""
        frame = self.family[0]
        part = frame.parts[self.part]
        pieces = sum(p.file == part.file for p in frame.parts)
        if part.groups is not None:
            groups = f"{part.groups[0]}" if len(part.groups) == 1 else f"{part.groups[0]} to {part.groups[-1]}"
            where = f"row {self.row:,} of row groups {groups}"
        else:
            where = f"row {self.row:,}" + (f" of part {part.name}, one of {pieces} of this file" if pieces > 1 else "")
        names = [n for n, place in frame.places.items() if place == BASE]
        [base] = lookup.at(self.store, frame, [self.address], names)
        facts = [
            ("file", f"{part.file}, {where}"),
            ("part", f"{part.name}, {part.rows:,} rows"),
            ("key", base["key"].hex()),
            ("source", base["source"] or "(none)"),
            ("text", f"{base['text_bytes']:,} bytes"),
        ]
        facts += [(n, shown(v)) for n, v in base.items() if n not in (*STANDARD, PARENT)]
        if base.get(PARENT):
            facts.append(("made from", self.parent(base[PARENT])))
        return facts

    def parent(self, text: str) -> str:
        """The row that this one was made from, by its id where that frame is known."""
        name, _, row = text.rpartition(":")
        of = name.rsplit("-", 1)[0]
        path = next(
            (f"parts/{x}/base.parquet" for x in (name, of) if self.store.exists(f"parts/{x}/base.parquet")), None
        )
        if path is None:
            return text
        base = self.store.get_table(path, [ROW, "id"])
        found = base.filter(pc.equal(base[ROW], int(row)))["id"].to_pylist()
        return f"{found[0]}  (part {name}, row {int(row):,})" if found else text

    # ── what steps wrote ─────────────────────────────────────────────────────────────────────────────────────────

    def columns_by_step(self) -> list[tuple[str, dict[str, str]]]:
        """Steps in the order of the funnel, each with its columns and their places, of all frames of the family."""
        homes = {digest(s["made_of"]): s["label"] for s in self.manifest["steps"] if "made_of" in s}
        order = list(dict.fromkeys(label for frame in self.family for label in frame.funnel))
        found: dict[str, dict[str, str]] = {}
        for frame in self.family:
            for column, place in frame.places.items():
                if place not in (BASE, DOCUMENT):
                    label = homes.get(place.rsplit("-", 1)[-1], place.rsplit("/", 1)[-1])
                    found.setdefault(label, {}).setdefault(column, place)
        return sorted(found.items(), key=lambda kv: order.index(kv[0]) if kv[0] in order else len(order))

    def values(self, label: str, columns: Mapping[str, str]) -> list[tuple[str, str]]:
        """What one step wrote of the row; nothing where the row was dropped before."""
        frame = self.family[0]
        lines = []
        for place in dict.fromkeys(columns.values()):
            names = [n for n, p in columns.items() if p == place]
            for table in lookup.sidecar(self.store, frame, self.part, place, names):
                mine = table.filter(pc.equal(table[ROW], self.row))
                for name in names if mine.num_rows else ():
                    if scalar(mine.schema.field(name).type):
                        lines.append(f"{name} {self.told(name, mine[name][0])}")
        return [(label, "\n".join(lines))] if lines else []

    def told(self, name: str, found: pa.Scalar) -> str:
        """A value; the address of another row as that row's id."""
        value = found.as_py()
        if value is None or found.type != UINT64:
            return shown(value)
        part, row = (int(x[0]) for x in unpack(np.array([value], dtype=np.uint64)))
        frame = self.family[0]
        moved = frame.places[name].startswith("steps/compact-") if name in frame.places else False  # of older parts
        if moved or not name.endswith(("_copy_of", "_cluster")) or part >= len(frame.parts):
            return f"{value:016x}"
        whose = lookup.at(self.store, frame, [value], ["id"])[0]["id"]
        return f"{whose}  (part {frame.parts[part].name}, row {row:,})"

    # ── what became of it ────────────────────────────────────────────────────────────────────────────────────────

    def fate(self) -> list[tuple[str, str]]:
        """The step and the reason that dropped it, or that it lives; by frame where these differ.

        Where mixes were chosen from the rows, their frames count; that a sample of a mix leaves out what the mix does
        is no fate.
        """
        chosen = {entry["frame"] for entry in self.manifest["mixes"].values()}
        found: dict[str, list[str]] = {}
        for frame in [f for f in self.family if f.label in chosen] or self.family:
            gone = lookup.dropped(self.store, frame, self.part)
            mine = gone.filter(pc.equal(gone[ROW], self.row)).to_pylist()
            said = f"dropped by {mine[0]['step']}: {mine[0]['because']}" if mine else self.replaced()
            found.setdefault(said, []).append(frame.label)
        if len(found) == 1:
            return [("fate", said) for said in found]
        return [("fate", f"{said}  (in {', '.join(labels)})") for said, labels in found.items()]

    def replaced(self) -> str:
        """What became of a living row where a later step replaced the rows of its part."""
        name = self.family[0].parts[self.part].name
        for step in self.manifest["steps"]:
            if step["kind"] != "replace":
                continue
            for what in ("dropped", QUARANTINED):
                path = f"{step['lost']}/{what}/{name}.parquet"
                if self.store.exists(path):
                    found = self.store.get_table(path)
                    mine = found.filter(pc.equal(found[ROW], self.row)).to_pylist()
                    if mine and what == QUARANTINED:
                        return f"quarantined by {step['label']}: {mine[0]['error']}"
                    if mine:
                        return f"dropped by {step['label']}: {mine[0]['because']}"
        return "lives"

    def scores(self) -> list[tuple[str, str]]:
        """The rank of the row by every score that it has, among the rows that live, and the cuts."""
        facts = []
        seen: set[str] = set()
        for frame in self.family:
            gone = lookup.dropped(self.store, frame, self.part)
            if pc.any(pc.equal(gone[ROW], self.row)).as_py():
                continue
            for name, about in frame.scores.items():
                if frame.places[name] in seen or frame.places[name] in (BASE, DOCUMENT):
                    continue
                [mine] = lookup.at(self.store, frame, [self.address], [name])
                if mine[name] is None or mine[name] != mine[name]:
                    continue
                better, scored = self.rank(frame, name, mine[name], about["keep"] == "high")
                text = f"{shown(mine[name])} {about['unit']}: {better:,} of {scored:,} rows are better"
                facts.append((f"score {name}", f"{text} ({about['keep']} values are kept){self.cuts(name)}"))
            seen |= {frame.places[name] for name in frame.scores}
        return facts

    def rank(self, frame: FrameRecord, name: str, mine: float, high: bool) -> tuple[int, int]:
        """How many living rows are better, and how many have the score at all."""
        better = scored = 0
        for part in range(len(frame.parts)):
            column = lookup.columns(self.store, frame, part, [name])[name].cast(pa.float64())
            values = column.fill_null(float("nan")).to_numpy()
            values = values[~np.isnan(values)]
            scored += len(values)
            better += int((values > mine).sum() if high else (values < mine).sum())
        return better, scored

    def cuts(self, name: str) -> str:
        """The cuts of the mixes that were chosen by a score."""
        out = ""
        for mix in self.manifest["mixes"]:
            step = selection_step(self.manifest, mix)
            if settings_of(step).get("score") == name and "cut_value" in step.get("report", {}):
                out += f"; the cut of {mix} is {shown(step['report']['cut_value'])}"
        return out

    def samples(self) -> list[tuple[str, str]]:
        """The samples that hold the row: what models were trained on it, and what they were tested on."""
        [mine] = lookup.at(self.store, self.family[0], [self.address], ["key"])
        facts = []
        for step in self.manifest["steps"]:
            if step["kind"] == "sample":
                keys = self.store.get_table(step["path"], ["key"])["key"]
                if pc.any(pc.equal(keys, pa.scalar(mine["key"], keys.type))).as_py():
                    facts.append((step["label"], f"holds it, one of {step['rows']:,} documents"))
        return facts

    def mixes(self) -> list[tuple[str, str]]:
        """The mixes, with copies and their places in the shards."""
        facts = []
        frames = {frame.label: frame for frame in self.family}
        for mix, entry in self.manifest["mixes"].items():
            if entry["frame"] not in frames:
                continue
            [mine] = lookup.at(self.store, frames[entry["frame"]], [self.address], [entry["column"]])
            copies = mine[entry["column"]] or 0
            places = self.places(entry) if copies else []
            if not places:
                facts.append((f"mix {mix}", "not in it"))
                continue
            more = f", and {copies - len(places):,} more" if copies > len(places) else ""
            facts.append((f"mix {mix}", f"{copies} {'copies' if copies > 1 else 'copy'}: {'; '.join(places)}{more}"))
        return facts

    def places(self, entry: Mapping[str, Any]) -> list[str]:
        """Where a mix holds the row."""
        out: list[str] = []
        for name, shard in zip(self.store.names(f"{entry['home']}/rows"), entry["shards"], strict=True):
            addresses = self.store.get_table(f"{entry['home']}/rows/{name}")["address"].to_numpy()
            out += [
                f"{shard['name']}, row {row:,}" for row in np.flatnonzero(addresses == np.uint64(self.address)).tolist()
            ]
            if len(out) >= MOST_COPIES:
                break
        return out[:MOST_COPIES]


def scalar(kind: pa.DataType) -> bool:
    """Whether a column's value fits on a line."""
    return not pa.types.is_nested(kind)


def shown(value: Any) -> str:
    """A column's value for people; hashes in hex, numbers in full."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return f"{value:.7g}"
    return number(value) if value is None or isinstance(value, bool | int) else str(value)
