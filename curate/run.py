"""Carrying out a plan: walk it, reuse what is stored, compute the rest on an engine, and account for every row.

Nodes are evaluated as they are needed. A chain of EACH stages and keeps between two barriers becomes one pass; the EACH
half of a later global stage joins the pass before it (``ahead``), so that text is decoded once. A global step is
identified by what it reads and by the set of living rows; an artifact by its content. The run's folder is named by the
plan and the listing of its inputs, so whether a run is complete is known before anything is read.
"""

import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from curate import __version__
from curate.columns import ADDRESS, PARENT, STANDARD, unpack
from curate.dataset import File
from curate.engines import Engine
from curate.errors import BadData, CurateError, GuardFailed, PartFailed, RowsLost, StaleVersion
from curate.exchange import Answer, Home, StoredRows, groups, index_of, put_buckets
from curate.hashing import digest, merge
from curate.identity import code_version, plain, source_hash, stable_name
from curate.ingest import Ingest, Replace, parts_of, record_path
from curate.learn import STANDARD_SAMPLE, Learn, Texts, Work, in_order, without_timing
from curate.mixes import Scatter, Shard, cut_shards, weigh
from curate.order import Cut, sample_cut
from curate.parts import BASE, DOCUMENT, Part, View
from curate.passes import Compute, Decide, Pass
from curate.plan import Apply, Conclude, Fit, Gather, Keep, Known, Node, Plan, Read, Write, above, check, read_above, walk
from curate.stage import Grain, Needs, PerPart, Rule, Score, Stage, arrow_type
from curate.store import Store

NOTHING = Needs()


class Watch(Protocol):
    """Who is told of progress."""

    def begin(self, label: str, items: int, weight: int) -> None:
        """A task starts on some items, ``weight`` bytes of text in all."""

    def advance(self, label: str, items: int, rows: int, weight: int) -> None:
        """Items are done."""

    def end(self, label: str, outcome: str) -> None:
        """The task is done, and how: computed, reused, and why."""


class Silent:
    """Nobody is told."""

    def begin(self, label: str, items: int, weight: int) -> None:
        """Nothing."""

    def advance(self, label: str, items: int, rows: int, weight: int) -> None:
        """Nothing."""

    def end(self, label: str, outcome: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class State:
    """A frame as evaluated: its parts, who lives, where columns lie and what they are.

    ``living`` is the directory of what was dropped so far (None before the first drop), ``who`` identifies the living
    rows, ``alive`` counts them by part.
    """

    parts: tuple[Part, ...]
    living: str | None
    who: str
    alive: tuple[int, ...]
    places: Mapping[str, str]
    ids: Mapping[str, str]

    @property
    def rows(self) -> int:
        """Living rows."""
        return sum(self.alive)

    def views(self) -> list[View]:
        """The parts as tasks see them."""
        return [
            View(part, i, f"{self.living}/{part.name}.parquet" if self.living else None, self.places)
            for i, part in enumerate(self.parts)
        ]


@dataclass(frozen=True)
class Recorded:
    """A task whose receipt is published, so that it is never carried out again."""

    task: Callable[[Any], dict[str, Any]]
    store: Store
    receipts: str

    def __call__(self, item: tuple[str, Any]) -> dict[str, Any]:
        """Carry out the task on (name, item)."""
        name, inner = item
        return dict(self.store.put_json(f"{self.receipts}/{name}.json", self.task(inner)))


@dataclass
class Runner:
    """Evaluates the nodes of one plan; see ``run``."""

    plan: Plan
    store: Store
    open_engine: Callable[[], Engine]
    watch: Watch = field(default_factory=Silent)
    on_error: str = "quarantine"
    before: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known: dict[int, Known] = check(self.plan)
        self.nodes = list(walk(self.plan))
        self.labels = labels(self.nodes)
        self.below: dict[int, list[Node]] = {}
        for node in self.nodes:
            for upper in above(node):
                self.below.setdefault(id(upper), []).append(node)
        self.states: dict[int, State] = {}
        self.contents: dict[int, tuple[str, str]] = {}
        self.steps: dict[str, dict[str, Any]] = {}
        self.listings: dict[int, list[File]] = {}
        self._engine: Engine | None = None
        self._computed = 0

    @property
    def engine(self) -> Engine:
        """The engine, opened when the first task needs it."""
        if self._engine is None:
            self._engine = self.open_engine()
        return self._engine

    # ── carrying out ─────────────────────────────────────────────────────────────────────────────────────────────

    def carry(
        self, task: Callable[[Any], dict[str, Any]], items: Sequence[tuple[str, Any]], *, label: str, receipts: str,
        needs: Needs = NOTHING, weights: Sequence[int] | None = None, why: str = "",
    ) -> list[dict[str, Any]]:
        """Receipts of a task on items, in their order; stored ones are read, the others carried out."""
        stored = {n.removesuffix(".json") for n in self.store.names(receipts)} if items else set()
        weights = weights or [0] * len(items)
        found: list[dict[str, Any] | None] = [None] * len(items)
        todo = []
        for i, (name, _) in enumerate(items):
            if name in stored:
                found[i] = self.store.get_json(f"{receipts}/{name}.json") | {"stored": True}
            else:
                todo.append(i)
        if todo:
            self.watch.begin(label, len(todo), sum(weights[i] for i in todo))
            recorded = Recorded(task, self.store, receipts)
            named = [(items[i][0], items[i]) for i in todo]
            try:
                for at, receipt in self.engine.map(recorded, named, label=label, needs=needs):
                    i = todo[at]
                    found[i] = receipt
                    self.watch.advance(label, 1, int(receipt.get("rows_in", receipt.get("rows", 0)) or 0), weights[i])
            except (CurateError, KeyboardInterrupt):
                raise
            except Exception as error:  # noqa: BLE001 - the one place that turns any failure into a named part
                raise PartFailed(f"{label} failed: {type(error).__name__}: {error}", where=label,
                                 fix="the traceback above names the line; fix it and run again, finished parts are kept"
                                 ) from error
            self._computed += len(todo)
        outcome = f"{len(todo)} computed, {len(items) - len(todo)} reused" + (f" ({why})" if why and todo else "")
        self.watch.end(label, outcome)
        return [r for r in found if r is not None]

    def note(self, node: Node, entry: Mapping[str, Any]) -> None:
        """Write a step's entry for the manifest."""
        label = self.labels[id(node)]
        self.steps[label] = {"label": label, "where": node.where, **entry}

    def why(self, node: Node, made_of: Mapping[str, Any]) -> str:
        """Why a step is computed: what differs from the last run of this pipeline."""
        old = self.before.get(self.labels[id(node)], {}).get("made_of")
        if old is None:
            return "first time"
        changed = [k for k in made_of if made_of[k] != old.get(k)]
        return ", ".join(f"{k} changed" for k in changed) if changed else "rows or parts that were missing"

    # ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────

    def state(self, node: Node) -> State:
        """Evaluate a frame."""
        if id(node) in self.states:
            return self.states[id(node)]
        if isinstance(node, Read):
            state = self._read(node)
        elif isinstance(node, Apply) and node.stage.grain is not Grain.EACH:
            state = self._replace(node) if node.stage.grain is Grain.MANY else self._global(node)
        else:
            state = self._pass(node)
        self.states[id(node)] = state
        return state

    def listing(self, node: Read) -> list[File]:
        """The files of a source, listed once a run, in an order that does not depend on the listing."""
        if id(node) not in self.listings:
            self.listings[id(node)] = sorted(node.source.listing(), key=lambda f: f.path)
        return self.listings[id(node)]

    def _read(self, node: Read) -> State:
        files = self.listing(node)
        paths = [record_path(node.source, f) for f in files]
        items = [(p.removeprefix("inputs/").removesuffix(".json"), f) for p, f in zip(paths, files, strict=True)]
        label = self.labels[id(node)]
        records = self.carry(Ingest(self.store, node.source), items, label=label, receipts="inputs",
                             weights=[f.size for f in files])
        bad = sum(r["quarantined"] for r in records)
        uncounted = sum(r["uncounted"] for r in records)
        if (bad or uncounted) and self.on_error == "fail":
            first = next(r["quarantine"] for r in records if r["quarantine"])
            row = self.store.get_table(first).slice(0, 1).to_pylist()[0]
            raise BadData(f"{bad} rows and {uncounted} byte ranges cannot be read: {row['error']}",
                          where=f"{row['file']}, byte {row['offset']}, row {row['row']}",
                          fix="repair the file, or run with --on-error quarantine")
        parts = tuple(parts_of(node.source, list(zip(files, records, strict=True))))
        places = dict.fromkeys(STANDARD, BASE) | dict.fromkeys(node.source.columns, BASE) | {
            "text": DOCUMENT, "extra": DOCUMENT}
        self.note(node, {
            "kind": "read", "files": len(files), "parts": len(parts), "rows_in": sum(r["rows"] for r in records),
            "rows_out": sum(p.living for p in parts), "quarantined": bad, "uncounted": uncounted,
            "quarantine": [r["quarantine"] for r in records if r["quarantine"]],
            "text_bytes": sum(p.text_bytes for p in parts), "values": merge([p.name for p in parts]),
        })
        return State(parts, None, digest(["all"]), tuple(p.living for p in parts), places, dict.fromkeys(places, "read"))

    def _chain(self, node: Node) -> tuple[State, list[Apply | Keep]]:
        """The nearest evaluated frame above, and the EACH stages and keeps from there to ``node``."""
        chain: list[Apply | Keep] = []
        while id(node) not in self.states and (
            isinstance(node, Keep) or (isinstance(node, Apply) and node.stage.grain is Grain.EACH)
        ):
            chain.append(node)
            node = node.above
        return self.state(node), chain[::-1]

    def _ahead(self, node: Node, ids: Mapping[str, str]) -> list[Apply]:
        """EACH halves of later global stages that read nothing from the barriers between."""
        found: list[Apply] = []
        todo = list(self.below.get(id(node), []))
        while todo:
            below = todo.pop(0)
            if not isinstance(below, Apply | Keep) or (isinstance(below, Apply) and below.stage.grain is Grain.MANY):
                continue
            todo += self.below.get(id(below), [])
            if isinstance(below, Apply) and below.stage.grain is Grain.EACH and below.stage.load is None:
                halves = [n for n in self.below.get(id(below), []) if isinstance(n, Apply) and n.stage.each is below.stage]
                if halves and set(below.stage.reads(below.config)) <= set(ids):
                    found.append(below)
        return found

    def _pass(self, node: Node) -> State:
        state, chain = self._chain(node)
        ids, places, who = dict(state.ids), dict(state.places), state.who
        steps: list[Compute | Decide] = []
        made: list[dict[str, Any]] = []
        needs = NOTHING
        for step in chain:
            label = self.labels[id(step)]
            if isinstance(step, Apply):
                compute, made_of, written = self._compute(step, ids)
                steps.append(compute)
                ids |= written
                places |= dict.fromkeys(written, compute.home)
                needs = Needs(gpus=max(needs.gpus, step.stage.needs.gpus))
                made.append(made_of)
            else:
                self._guard(step)
                made_of = {"rules": digest(plain([[r.keep, r.because] for r in step.rules])),
                           "reads": {n: ids[n] for r in step.rules for n in r.keep.meta.root_names()}}
                who = digest([who, label, made_of["rules"], sorted(made_of["reads"].items())])
                steps.append(Decide(label, step.rules))
                made.append(made_of)
        ahead = [s for s in self._ahead(node, ids) if s not in chain]
        extra = [self._compute(step, ids)[0] for step in ahead]
        living = state.living if who == state.who else f"living/{who}"
        task = Pass(self.store, (*steps, *extra), None if living == state.living else living)
        name = digest([state.who, who, [s.home if isinstance(s, Compute) else s.label for s in task.steps]])
        label = " + ".join(dict.fromkeys(s.label for s in task.steps))
        reasons = "; ".join(f"{s.label}: {self.why(n, m)}" for s, n, m in zip(steps, chain, made, strict=True))
        views = state.views()
        receipts = self.carry(task, [(v.part.name, v) for v in views], label=label, receipts=f"receipts/{name}",
                              needs=needs, weights=[v.part.text_bytes for v in views], why=reasons)
        alive = tuple(r["rows_out"] for r in receipts)
        if tuple(r["rows_in"] for r in receipts) != state.alive:
            raise RowsLost(f"{label}: {sum(r['rows_in'] for r in receipts)} rows in, {state.rows} before",
                           where=node.where, fix="files of the store were removed; use a new one")
        for i, (step, made_of) in enumerate(zip(chain, made, strict=True)):
            entries = [r["steps"][i] | ({"computed": 0} if "stored" in r else {}) for r in receipts]
            self.note(step, fold(entries) | {
                "kind": "keep" if isinstance(step, Keep) else "stage", "made_of": made_of})
        return State(state.parts, living, who, alive, places, ids)

    def _compute(self, step: Apply, ids: Mapping[str, str]) -> tuple[Compute, dict[str, Any], dict[str, str]]:
        """A stage as part of a pass, what it is made of, and the ids of its columns."""
        stage, config = step.stage, step.config
        artifacts = {name: self.content(fit) for name, fit in step.artifacts.items()}
        made_of = {
            "code": f"{stable_name(stage.fn)} {code_version(stage.fn, stage.version)}",
            "settings": plain(config), "numerics": plain(stage.numerics),
            "reads": {n: ids[n] for n in stage.reads(config)},
            "artifacts": {name: content for name, (content, _) in artifacts.items()},
        }
        identity = digest(made_of)
        home = f"steps/{stage.name}-{identity}"
        compute = Compute(self.labels[id(step)], home, stage, config, {n: path for n, (_, path) in artifacts.items()})
        return compute, made_of, dict.fromkeys(stage.writes(config), identity)

    def _guard(self, step: Keep) -> None:
        """Try rules on the guard frame first; stop where they would drop too much of it."""
        if step.guard is None:
            return
        state = self.state(step.guard)
        label = f"{self.labels[id(step)]} on the target"
        who = digest([state.who, label, plain([[r.keep, r.because] for r in step.rules]), sorted(state.ids.items())])
        views = state.views()
        receipts = self.carry(Pass(self.store, (Decide(label, step.rules),), None), [(v.part.name, v) for v in views],
                              label=label, receipts=f"receipts/{who}")
        entry = fold([r["steps"][0] for r in receipts])
        self.steps[label] = {"label": label, "where": step.where, "kind": "guard"} | entry
        dropped = sum(entry["dropped"].values())
        if dropped > step.guard_share * state.rows:
            worst = ", ".join(f"{k} {n}" for k, n in sorted(entry["dropped"].items(), key=lambda kv: -kv[1]))
            raise GuardFailed(
                f"the rules would drop {dropped} of {state.rows} documents of the target ({worst})", where=step.where,
                fix="choose a profile that fits the target, or raise guard_share",
            )

    def _global(self, node: Apply) -> State:
        state = self.state(node.above)
        stage, config, label = node.stage, node.config, self.labels[id(node)]
        made_of = {
            "code": f"{stable_name(stage.fn)} {code_version(stage.fn, stage.version)}", "settings": plain(config),
            "reads": {n: state.ids[n] for n in stage.reads(config)}, "living": state.who,
            "parts": merge([p.name for p in state.parts]),
            "each": code_version(stage.each.fn, stage.each.version) if stage.each else None,
        }
        identity = digest(made_of)
        home = f"steps/{stage.name}-{identity}"
        types = {name: arrow_type(kind) for name, kind in stage.writes(config).items()}
        views = state.views()
        why = self.why(node, made_of)
        done = f"{home}/done.json"
        if self.store.exists(done):
            reported = self.store.get_json(done)
            receipts = [self.store.get_json(f"{home}/receipts/{v.part.name}.json") for v in views]
            self.watch.end(label, f"0 computed, {len(views)} reused")
        else:
            rows = StoredRows(self.store, home, views, state.rows, self.carry, label)
            task = self._answer(node, rows, home, types)
            receipts = self.carry(task, [(v.part.name, v) for v in views], label=label, receipts=f"{home}/receipts", why=why)
            reported = self.store.put_json(done, rows.reported)
        if tuple(r["rows"] for r in receipts) != state.alive:
            raise RowsLost(f"{label} answered {sum(r['rows'] for r in receipts)} of {state.rows} rows", where=node.where,
                           fix="files of the store were removed; use a new one")
        self.note(node, {"kind": "global", "rows": state.rows, "report": reported, "made_of": made_of,
                         "values": merge([r["values"] for r in receipts])})
        return replace(state, places={**state.places, **dict.fromkeys(types, home)},
                       ids={**state.ids, **dict.fromkeys(types, identity)})

    def _answer(self, node: Apply, rows: StoredRows, home: str, types: Mapping[str, pa.DataType]) -> Answer | Home:
        """Carry out a global stage up to the point where answers go home."""
        stage, config = node.stage, node.config
        if stage.rounds:
            answer = stage.on(rows, config)
            if isinstance(answer, PerPart):
                return Answer(self.store, home, types, answer)
            ordinals = unpack(answer[ADDRESS].to_numpy())[0]
            put_buckets(self.store, f"{home}/answers", answer, ordinals)
            files = [f"{home}/answers"]
        else:
            call = Grouped(stage, config)
            by = stage.by if stage.grain is Grain.GROUP else "everything"
            files = rows.through_files(call.emit, call.collect, reads=list(stage.reads(config)), by=str(by), label="rows",
                                       given=None, alongside=None, homing=True)
        ranges = {k: tuple(v) for k, v in index_of(self.store, files).items()}
        return Home(self.store, home, types, ranges, every=not stage.rounds)

    def _replace(self, node: Apply) -> State:
        state = self.state(node.above)
        compute, made_of, _ = self._compute(node, state.ids)
        source = read_above(node).source
        carried = tuple(dict.fromkeys(["id", "text", "source", *source.columns, "extra"]))
        made_of |= {"living": state.who}
        views = state.views()
        label = self.labels[id(node)]
        records = self.carry(Replace(self.store, compute, carried), [(v.part.name, v) for v in views], label=label,
                             receipts=f"{compute.home}/parts-{state.who}", weights=[v.part.text_bytes for v in views],
                             why=self.why(node, made_of))
        if tuple(r["rows_in"] for r in records) != state.alive:
            raise RowsLost(f"{label}: {sum(r['rows_in'] for r in records)} rows in, {state.rows} before",
                           where=node.where, fix="files of the store were removed; use a new one")
        parts = tuple(parts_of(source, [(v.part.file, r) for v, r in zip(views, records, strict=True)]))
        columns = [*STANDARD, *source.columns, PARENT, *node.stage.writes(node.config)]
        places = dict.fromkeys(columns, BASE) | {"text": DOCUMENT, "extra": DOCUMENT}
        childless = sum(r["childless"] for r in records)
        self.note(node, {"kind": "replace", "rows": state.rows, "rows_out": sum(p.living for p in parts),
                         "text_bytes": sum(p.text_bytes for p in parts), "made_of": made_of,
                         "dropped": {"no_rows_left": childless} if childless else {},
                         "values": merge([p.name for p in parts])})
        return State(parts, None, digest(["all"]), tuple(p.living for p in parts), places, dict.fromkeys(places, "read"))

    # ── samples, artifacts, experiments ──────────────────────────────────────────────────────────────────────────

    def gather(self, node: Gather, reads: Iterable[str]) -> str:
        """The path of a sample's Parquet file."""
        state = self.state(node.above)
        label = self.labels[id(node)]
        columns = tuple(dict.fromkeys([*STANDARD_SAMPLE, *reads]))
        made_of = {"living": state.who, "parts": merge([p.name for p in state.parts]), "label": node.label,
                   "budget": [node.cost, node.amount], "columns": {c: state.ids[c] for c in columns}}
        home = f"steps/sample-{digest(made_of)}"
        path = f"{home}/sample.parquet"
        if not self.store.exists(path):
            views = state.views()
            cut: Cut | None = None
            if node.amount is not None:
                rows = StoredRows(self.store, home, views, state.rows, self.carry, label)
                cut = sample_cut(rows, cost=node.cost, budget=node.amount, label=node.label, seed=0)
            receipts = self.carry(Texts(self.store, home, cut, columns), groups(views), label=label,
                                  receipts=f"{home}/receipts", why=self.why(node, made_of))
            table = pa.concat_tables([self.store.get_table(r["path"]) for r in receipts])
            self.store.put_table(path, in_order(table, node.label, 0))
        else:
            self.watch.end(label, "reused")
        meta = f"{home}/sample.json"
        if not self.store.exists(meta):
            table = self.store.get_table(path)
            published = self.store.put_table(path, table)
            self.store.put_json(meta, {"rows": table.num_rows, "values": published.values,
                                       "text_bytes": int(pa.compute.sum(table["text_bytes"]).as_py() or 0)})
        self.note(node, {"kind": "sample", "made_of": made_of, "path": path, **self.store.get_json(meta)})
        return path

    def content(self, node: Fit) -> tuple[str, str]:
        """An artifact's content hash and the directory of its files."""
        if id(node) in self.contents:
            return self.contents[id(node)]
        bases = {name: self.content(base) for name, base in node.bases.items()}
        sample = self.gather(node.sample, node.fitter.reads)
        label = self.labels[id(node)]
        made_of = {
            "code": f"{stable_name(node.fitter.fn)} {code_version(node.fitter.fn, node.fitter.version)}",
            "settings": plain(node.config), "numerics": plain(node.fitter.numerics),
            "sample": self.steps[self.labels[id(node.sample)]]["values"],
            "bases": {name: content for name, (content, _) in bases.items()},
        }
        home = f"artifacts/{node.fitter.name}-{digest(made_of)}"
        task = Learn(self.store, home, node.fitter, node.config, sample, {n: path for n, (_, path) in bases.items()})
        [receipt] = self.carry(task, [("artifact", label)], label=label, receipts=home, needs=node.fitter.needs,
                               why=self.why(node, made_of))
        self.note(node, {"kind": "fit", "made_of": made_of, "values": receipt["content"], "report": receipt["metrics"]})
        self.contents[id(node)] = receipt["content"], f"{home}/{receipt['content']}"
        return self.contents[id(node)]

    def conclude(self, node: Conclude) -> dict[str, Any]:
        """Carry out an experiment."""
        inputs, contents = {}, {}
        for name, value in node.inputs.items():
            if isinstance(value, Fit):
                contents[name], inputs[name] = self.content(value)
            else:
                inputs[name] = self.gather(value, node.experiment.reads)
                contents[name] = self.steps[self.labels[id(value)]]["values"]
        label = self.labels[id(node)]
        experiment = node.experiment
        made_of = {"code": f"{stable_name(experiment.conclude)} {code_version(experiment.conclude, experiment.version)}",
                   "settings": plain(node.config), "numerics": plain(experiment.numerics), "inputs": contents}
        home = f"steps/{experiment.name}-{digest(made_of)}"
        local = {k: self.store.local_copy(path) for k, path in inputs.items()}
        done = f"{home}/conclusion.json"
        if self.store.exists(done):
            self.watch.end(label, "reused")
        else:
            jobs = experiment.jobs(node.config, local)
            receipts = self.carry(Work(self.store, home, experiment, node.config, inputs), [(digest(j), j) for j in jobs],
                                  label=label, receipts=f"{home}/receipts", needs=experiment.needs,
                                  why=self.why(node, made_of))
            results = [self.store.get_json(r["path"]) for r in receipts]
            self.store.put_json(done, experiment.conclude(node.config, jobs, results, local))
        conclusion = dict(self.store.get_json(done))
        self.note(node, {"kind": "trial", "made_of": made_of, "path": done, "values": digest(without_timing(conclusion))})
        return conclusion

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, node: Write, name: str) -> dict[str, Any]:
        """Write one mix; returns what the manifest says of it."""
        frame, column = node.mixes[name]
        state = self.state(frame)
        known = self.known[id(frame)].columns
        scores = [n for n, kind in known.items() if isinstance(kind, Score) or n == "tokens"]
        declared = [n for n, place in state.places.items() if place == BASE and n not in STANDARD]
        columns = tuple(dict.fromkeys(["id", "text", "source", *declared, "extra", *(node.columns or scores)]))
        made_of = {"living": state.who, "parts": merge([p.name for p in state.parts]), "mix": state.ids[column],
                   "columns": {c: state.ids[c] for c in columns}, "shard_bytes": node.shard_bytes, "seed": node.seed}
        home = f"steps/write-{digest(made_of)}"
        label = f"{self.labels[id(node)]} {name}"
        done = f"{home}/done.json"
        if self.store.exists(done):
            entry = dict(self.store.get_json(done))
            self.watch.end(label, "reused")
        else:
            views = state.views()
            rows = StoredRows(self.store, home, views, state.rows, self.carry, label)
            tables = rows.map(weigh, reads=["key", "text_bytes", column], label="weigh", given=(column, node.seed))
            starts, count, _ = cut_shards(tables, node.shard_bytes)
            scatter = Scatter(self.store, f"{home}/scatter", column, columns, tuple(starts.tolist()), node.seed)
            sent = self.carry(scatter, groups(views), label=f"{label} scatter", receipts=f"{home}/scatter-receipts",
                              why=self.why(node, made_of))
            found = index_of(self.store, [r["path"] for r in sent])
            items = [(f"{shard:05d}", (shard, tuple(found[shard]))) for shard in found]
            shards = self.carry(Shard(self.store, home, columns, len(starts)), items, label=f"{label} shards",
                                receipts=f"{home}/receipts")
            written = sum(s["rows"] for s in shards)
            if written != count:
                raise RowsLost(f"{label}: {count} copies selected, {written} written", where=node.where,
                               fix="files of the store were removed; use a new one")
            entry = dict(self.store.put_json(done, {"rows": count, "shards": shards, "home": home,
                                                    "text_bytes": sum(s["text_bytes"] for s in shards)}))
        entry |= {"frame": self.labels[id(frame)], "columns": list(columns), "column": column, "selection": self._chosen(frame, column),
                  "funnel": self._funnel(frame), "values": merge([s["values"] for s in entry["shards"]])}
        self.steps[label] = {"label": label, "where": node.where, "kind": "write", "made_of": made_of,
                             "rows": entry["rows"], "values": entry["values"]}
        return entry

    def _chosen(self, frame: Node, column: str) -> str | None:
        """The label of the step that wrote a mix's column."""
        while not isinstance(frame, Read):
            if isinstance(frame, Apply) and column in frame.stage.writes(frame.config):
                return self.labels[id(frame)]
            frame = above(frame)[0]
        return None

    def _funnel(self, frame: Node) -> list[str]:
        """Labels of the steps of a frame's own line, reading first."""
        line = []
        while True:
            line.append(self.labels[id(frame)])
            if isinstance(frame, Read):
                return line[::-1]
            frame = above(frame)[0]

    def continued(self, node: Node) -> bool:
        """Whether a later frame of the same rows was evaluated."""
        below = [n for n in self.below.get(id(node), []) if isinstance(n, Apply | Keep) and node is n.above]
        return any(id(n) in self.states or self.continued(n) for n in below)

    def close(self) -> None:
        """Let go of the engine."""
        if self._engine is not None:
            self._engine.close()


@dataclass(frozen=True)
class Grouped:
    """A GROUP or WHOLE stage as the two halves of an exchange."""

    stage: Stage
    config: Any

    def emit(self, table: pa.Table, given: Any) -> pa.Table:
        """The rows themselves; for WHOLE, all under one key."""
        if self.stage.grain is Grain.WHOLE:
            return table.append_column("everything", pa.array([0] * table.num_rows, pa.int64()))
        return table

    def collect(self, table: pa.Table, given: Any) -> pa.Table:
        """The stage's answers, held to its declaration."""
        table = table.select([ADDRESS, *self.stage.reads(self.config)])
        result = self.stage.on(table, self.config)
        if result.num_rows != table.num_rows:
            raise RowsLost(f"{self.stage.name} was given {table.num_rows} rows and answered {result.num_rows}",
                           where=self.stage.name, fix="a GROUP or WHOLE stage answers every row once")
        return result.select([ADDRESS, *self.stage.writes(self.config)])


def labels(nodes: Sequence[Node]) -> dict[int, str]:
    """A name for people for every node, unique in the plan."""
    names: dict[int, str] = {}
    seen: dict[str, int] = {}
    for node in nodes:
        match node:
            case Read():
                name = f"read {node.source.name}"
            case Apply():
                name = node.stage.name
            case Keep():
                reasons = list(dict.fromkeys(r.because for r in node.rules))
                name = f"keep ({reasons[0]}{', …' if len(reasons) > 1 else ''})"
            case Gather():
                name = f"sample {node.label}"
            case Fit():
                name = f"fit {node.fitter.name}"
            case Write():
                name = "write"
            case _:
                name = "trial"
        seen[name] = seen.get(name, 0) + 1
        names[id(node)] = name if seen[name] == 1 else f"{name} #{seen[name]}"
    return names


def fold(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries of one step for all parts as one: sums, and one hash of the values."""
    out: dict[str, Any] = {"rows": sum(e["rows"] for e in entries),
                           "timing": {"seconds": sum(e["timing"]["seconds"] for e in entries)}}
    if entries and "dropped" in entries[0]:
        out |= {"dropped": _sum(e["dropped"] for e in entries), "in": _sum(e["in"] for e in entries), "lost": {}}
        for entry in entries:
            for reason, weights in entry["lost"].items():
                out["lost"][reason] = _sum([out["lost"].get(reason, {}), weights])
        out["rows_out"] = out["rows"] - sum(out["dropped"].values())
    else:
        out["computed"] = sum(e["computed"] for e in entries)
        out["reused"] = out["rows"] - out["computed"]
        out["values"] = merge([e["values"] for e in entries])
    return out


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for name, n in count.items():
            total[name] = total.get(name, 0) + n
    return total


# ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def plan_identity(runner: Runner) -> str:
    """What a plan is, with the listing of its inputs: known before anything is read."""
    ids: dict[int, str] = {}
    for node in runner.nodes:
        upper = [ids[id(n)] for n in above(node)]
        match node:
            case Read():
                files = [[f.path, f.size, f.token] for f in runner.listing(node)]
                what: Any = ["read", plain(dict(node.source.identity())), files]
            case Apply():
                what = ["apply", stable_name(node.stage.fn), code_version(node.stage.fn, node.stage.version),
                        plain(node.config), list(node.artifacts)]
            case Keep():
                what = ["keep", plain([[r.keep, r.because] for r in node.rules]), node.guard_share]
            case Gather():
                what = ["gather", node.label, node.cost, node.amount]
            case Fit():
                what = ["fit", stable_name(node.fitter.fn), code_version(node.fitter.fn, node.fitter.version),
                        plain(node.config), list(node.bases)]
            case Write():
                what = ["write", [[k, c] for k, (_, c) in node.mixes.items()], list(node.columns), node.shard_bytes,
                        node.seed, plain(dict(node.card))]
            case Conclude():
                e = node.experiment
                what = ["conclude", stable_name(e.conclude), code_version(e.conclude, e.version), plain(node.config),
                        list(node.inputs)]
            case _:
                what = None
        ids[id(node)] = digest([what, upper])
    return digest([ids[id(n)] for n in runner.plan.outputs])


def check_versions(runner: Runner, same_code: bool) -> None:
    """Stop where a stage's source changed and its version did not; remember the sources of new versions."""
    for node in runner.nodes:
        if isinstance(node, Apply):
            functions = [(node.stage.fn, node.stage.version)]
        elif isinstance(node, Fit):
            functions = [(node.fitter.fn, node.fitter.version)]
        elif isinstance(node, Conclude):
            functions = [(node.experiment.conclude, node.experiment.version)]
        else:
            continue
        for fn, version in functions:
            if version is None:
                continue
            name = f"versions/{stable_name(fn).replace(':', '.')}@{version}"
            mine = source_hash(fn)
            known = runner.store.names(name)
            if known and f"{mine}.json" not in known and not same_code:
                raise StaleVersion(
                    f"the source of {stable_name(fn)} changed, its version is still {version!r}", where=node.where,
                    fix="bump the version where the output changed, or say --same-code where it did not",
                )
            if f"{mine}.json" not in known:
                runner.store.put_json(f"{name}/{mine}.json", {"source": mine})


@dataclass(frozen=True)
class Outcome:
    """What a run left: its folder in the store, its manifest, and whether anything was computed."""

    folder: str
    manifest: dict[str, Any]
    computed: int


def run(
    plan: Plan, *, name: str, store: Store, open_engine: Callable[[], Engine], watch: Watch | None = None,
    config: str = "", on_error: str = "quarantine", same_code: bool = False, finish: Callable[..., None] | None = None,
) -> Outcome:
    """Carry out a plan.

    Args:
        plan: what to do.
        name: the pipeline's name; with the plan's identity it names the run's folder.
        store: where results live.
        open_engine: opens the engine; called only where something has to be computed.
        watch: who is told of progress.
        config: the pipeline's settings as TOML, kept with the run.
        on_error: ``"quarantine"`` what cannot be read, or ``"fail"``.
        same_code: the sources changed, their outputs did not.
        finish: called with (store, folder, manifest) before the manifest is published: writes cards and reports.

    Returns the outcome; a complete run is found by its manifest, and nothing is computed again.

    Raises CurateError with its place and its remedy.
    """
    store.check_writable()
    runner = Runner(plan, store, open_engine, watch or Silent(), on_error, _latest(store, name))
    check_versions(runner, same_code)
    folder = f"runs/{name}-{plan_identity(runner)}"
    if store.exists(f"{folder}/manifest.json"):
        return Outcome(folder, dict(store.get_json(f"{folder}/manifest.json")), 0)
    began = time.time()
    store.publish(f"{folder}/config.toml", config.encode())
    store.put_json(f"{folder}/environment.json", environment())
    store.put_json(f"{folder}/plan.json", [
        {"label": runner.labels[id(n)], "where": n.where, "kind": type(n).__name__.lower(),
         "above": [runner.labels[id(a)] for a in above(n)]} for n in runner.nodes])
    try:
        mixes, trials = {}, {}
        for node in plan.outputs:
            if isinstance(node, Write):
                mixes |= {mix: runner.write(node, mix) | {"card": dict(node.card)} for mix in node.mixes}
        for node in plan.outputs:
            if isinstance(node, Conclude):
                trials[runner.labels[id(node)]] = runner.conclude(node)
        for node in plan.outputs:
            if isinstance(node, Fit):
                runner.content(node)
        for mix, entry in mixes.items():
            for shard in entry["shards"]:
                store.link(f"{entry['home']}/{shard['name']}", f"{folder}/mixes/{mix}/{shard['name']}")
        accounts = account(runner, folder)
        manifest = {
            "name": name, "folder": folder, "curate": __version__, "steps": list(runner.steps.values()), "mixes": mixes,
            "trials": trials, "frames": accounts,
            "values": digest([[s["label"], s.get("values")] for s in runner.steps.values()]
                             + [[m, e["values"]] for m, e in mixes.items()]),
            "timing": {"began": began, "seconds": time.time() - began, "engine": runner.engine.name,
                       "workers": runner.engine.workers},
        }
        if finish is not None:
            finish(store, folder, manifest)
    finally:
        runner.close()
    return Outcome(folder, dict(store.put_json(f"{folder}/manifest.json", manifest)), max(1, runner._computed))


def account(runner: Runner, folder: str) -> list[dict[str, str]]:
    """Where the rows of every frame can be looked up: the frames that mixes are chosen from, and those nothing follows."""
    chosen = {id(frame) for node in runner.plan.outputs if isinstance(node, Write) for frame, _ in node.mixes.values()}
    entries = []
    for node in runner.nodes:
        state = runner.states.get(id(node))
        if state is None or (runner.continued(node) and id(node) not in chosen):
            continue
        label = runner.labels[id(node)]
        path = f"{folder}/frames/{digest(label)}.json"
        runner.store.put_json(path, {
            "label": label, "living": state.living, "places": dict(state.places), "funnel": runner._funnel(node),
            "scores": {n: {"keep": c.keep.value, "unit": c.unit} for n, c in runner.known[id(node)].columns.items()
                       if isinstance(c, Score)},
            "parts": [{"name": p.name, "of": p.of, "file": p.file.path, "rows": p.rows, "living": p.living, "alive": n,
                       "groups": p.groups} for p, n in zip(state.parts, state.alive, strict=True)],
        })
        entries.append({"label": label, "path": path})
    return entries


def environment() -> dict[str, Any]:
    """What was installed and where it ran; no variable of the environment is recorded, for they hold secrets."""
    import importlib.metadata

    names = ("curate", "numpy", "pyarrow", "polars", "numba", "fsspec", "dask", "distributed", "torch", "tokenizers",
             "transformers", "datatrove", "spacy")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": sys.version.split()[0], "platform": platform.platform(), "packages": found}


def _latest(store: Store, name: str) -> dict[str, Any]:
    """The steps of the last complete run of a pipeline, by label."""
    found = []
    for folder in store.names("runs"):
        path = f"runs/{folder}/manifest.json"
        if folder.rsplit("-", 1)[0] == name and store.exists(path):
            found.append(json.loads(store.read(path)))
    if not found:
        return {}
    latest = max(found, key=lambda m: m["timing"]["began"])
    return {s["label"]: s for s in latest["steps"]}


def rules_of(nodes: Sequence[Node]) -> list[Rule]:
    """All rules of a plan, in order."""
    return [rule for node in nodes if isinstance(node, Keep) for rule in node.rules]


def local_store(path: str | Path) -> Store:
    """A store in a local directory."""
    return Store(str(Path(path).absolute()))
