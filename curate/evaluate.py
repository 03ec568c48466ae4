"""Evaluating frames: what is stored is reused, the rest is computed on an engine, and every row is accounted for.

A chain of EACH stages and keeps between two barriers becomes one pass; the EACH half of a later global stage joins
the pass before it, so that text is decoded once. A global step is identified by what it reads and by the set of
living rows. Whatever a step returns is held against what the step before it left: a difference is an error, never a
smaller number.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from curate import held
from curate.columns import ADDRESS, KEY, PARENT, STANDARD
from curate.dataset import File, source_of
from curate.engines import Engine
from curate.errors import BadData, CurateError, GuardFailed, PartFailed, RowsLost
from curate.exchange import Answer, Home, StoredRows
from curate.hashing import digest, merge
from curate.identity import code_version, plain, stable_name
from curate.ingest import NO_ROWS_LEFT, Ingest, Replace, Rewrite, parts_of, record_path
from curate.parts import BASE, DOCUMENT, Part, View
from curate.passes import Compute, Decide, Pass
from curate.plan import (
    Apply,
    Compact,
    Fit,
    Gather,
    Given,
    Keep,
    Known,
    Node,
    Plan,
    Read,
    Write,
    above,
    check,
    read_above,
    walk,
)
from curate.stage import Grain, Needs, PerPart, Stage, arrow_type
from curate.store import Overtaken, Store

NOTHING = Needs()
BATCH_ITEMS = 16  # small parts of a task, so that what it returns stays below 10 kB
BATCH_BYTES = 4 << 20  # of text
COMPACT_BYTES = 64 << 20  # of living text in a part that `compact` writes
NARROW = 32  # a task on narrow columns weighs so much less than one on texts


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

    def __call__(self, batch: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        """Carry out the task on some (name, item), one after the other."""
        try:
            with self.store.together():
                return {"receipts": [self._one(name, item) for name, item in batch]}
        except Overtaken:  # by another run, with other values: theirs count, and are found now
            return {"receipts": [self._one(name, item) for name, item in batch]}

    def _one(self, name: str, item: Any) -> dict[str, Any]:
        return dict(self.store.put_json(f"{self.receipts}/{name}.json", self.task(item)))


@dataclass
class Runner:
    """Evaluates the frames of one plan.

    Args:
        plan: what is asked for; checked here.
        store: where results are and go.
        open_engine: opens the engine, when the first task needs it.
        artifact: gives a fit's content hash and directory (outputs.content; here frames only open them).
        watch: who is told of progress.
        on_error: ``"quarantine"`` what cannot be read, or ``"fail"``.
        before: the steps of the last complete run of this pipeline, by label, to say why something is computed.
    """

    plan: Plan
    store: Store
    open_engine: Callable[[], Engine]
    artifact: Callable[["Runner", Fit | Given], tuple[str, str]]
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
        self.early: dict[int, int] = {}  # rows that a hoisted step was computed for in an earlier pass
        self.listings: dict[int, list[File]] = {}
        self.opened: Engine | None = None
        self.kept = ExitStack()
        self.computed = 0

    @property
    def engine(self) -> Engine:
        """The engine, opened when the first task needs it."""
        if self.opened is None:
            self.opened = self.open_engine()
            self.kept.enter_context(held.keeping(getattr(self.opened, "holds", 0)))
        return self.opened

    # ── carrying out ─────────────────────────────────────────────────────────────────────────────────────────────

    def carry(
        self,
        task: Callable[[Any], dict[str, Any]],
        items: Sequence[tuple[str, Any]],
        *,
        label: str,
        receipts: str,
        needs: Needs = NOTHING,
        weights: Sequence[int] | None = None,
        why: str = "",
        tell: Callable[[Sequence[dict[str, Any]]], str] | None = None,
    ) -> list[dict[str, Any]]:
        """Receipts of a task on items, in their order; stored ones are read, the others carried out."""
        stored = {n.removesuffix(".json") for n in self.store.names(receipts)} if items else set()
        weights = weights or [0] * len(items)
        found: list[dict[str, Any] | None] = [None] * len(items)
        have = [i for i, (name, _) in enumerate(items) if name in stored]
        todo = [i for i, (name, _) in enumerate(items) if name not in stored]
        for i, receipt in zip(
            have, self.store.get_jsons([f"{receipts}/{items[i][0]}.json" for i in have]), strict=True
        ):
            found[i] = receipt | {"stored": True}
        if todo:
            self.watch.begin(label, len(todo), sum(weights[i] for i in todo))
            recorded = Recorded(task, self.store, receipts)
            batches = list(batched(todo, weights))
            named = [(", ".join(items[i][0] for i in b), [items[i] for i in b]) for b in batches]
            try:
                for at, batch in self.engine.map(recorded, named, label=label, needs=needs):
                    for i, receipt in zip(batches[at], batch["receipts"], strict=True):
                        found[i] = receipt
                        rows = int(receipt.get("rows_in", receipt.get("rows", 0)) or 0)
                        self.watch.advance(label, 1, rows, weights[i])
            except (CurateError, KeyboardInterrupt):
                raise
            except Exception as error:
                raise PartFailed(
                    f"{label} failed: {type(error).__name__}: {error}",
                    where=label,
                    fix="the traceback names the line; fix it and run again, finished parts are kept",
                ) from error
            self.computed += len(todo)
        done = [r for r in found if r is not None]
        outcome = f"{len(todo)} computed, {len(items) - len(todo)} reused" + (f" ({why})" if why and todo else "")
        self.watch.end(label, f"{outcome}\n{tell(done)}" if tell is not None and todo else outcome)
        return done

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
        elif isinstance(node, Compact):
            state = self._compact(node)
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
        owners = [source_of(node.source, f) for f in files]
        items = [
            (record_path(source, f).removeprefix("inputs/").removesuffix(".json"), (source, f))
            for source, f in zip(owners, files, strict=True)
        ]
        label = self.labels[id(node)]
        records = self.carry(
            Ingest(self.store),
            items,
            label=label,
            receipts="inputs",
            weights=[max(1, f.size) for f in files],
        )
        bad = sum(r["quarantined"] for r in records)
        uncounted = sum(r["uncounted"] for r in records)
        if (bad or uncounted) and self.on_error == "fail":
            first = next(r["quarantine"] for r in records if r["quarantine"])
            raise quarantined(self.store, label, bad, uncounted, first)
        parts = tuple(parts_of(list(zip(owners, files, records, strict=True))))
        total, living = sum(r["rows"] for r in records), sum(p.living for p in parts)
        if total != living + bad:
            raise RowsLost(
                f"{label}: {total} rows in, {living} living and {bad} quarantined",
                where=node.where,
                fix="report this: a source must account for every row of a piece",
            )
        places = (
            dict.fromkeys(STANDARD, BASE)
            | dict.fromkeys(node.source.columns, BASE)
            | {"text": DOCUMENT, "extra": DOCUMENT}
        )
        self.note(
            node,
            {
                "kind": "read",
                "files": len(files),
                "parts": len(parts),
                "rows_in": sum(r["rows"] for r in records),
                "rows_out": sum(p.living for p in parts),
                "quarantined": bad,
                "uncounted": uncounted,
                "quarantine": [r["quarantine"] for r in records if r["quarantine"]],
                "text_bytes": sum(p.text_bytes for p in parts),
                "values": merge([p.name for p in parts]),
            },
        )
        return State(
            parts, None, digest(["all"]), tuple(p.living for p in parts), places, dict.fromkeys(places, "read")
        )

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
                halves = [
                    n for n in self.below.get(id(below), []) if isinstance(n, Apply) and n.stage.each is below.stage
                ]
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
                needs = Needs(gpus=max(needs.gpus, step.stage.needs.gpus), alone=needs.alone or step.stage.needs.alone)
                made.append(made_of)
            else:
                self._guard(step)
                made_of = {
                    "rules": digest(plain([[r.keep, r.because] for r in step.rules])),
                    "reads": {n: ids[n] for r in step.rules for n in r.keep.meta.root_names()},
                }
                who = digest([who, label, made_of["rules"], sorted(made_of["reads"].items())])
                steps.append(Decide(label, step.rules))
                made.append(made_of)
        ahead = [s for s in self._ahead(node, ids) if s not in chain]
        early = [self._compute(step, ids) for step in ahead]
        extra = [compute for compute, _, _ in early]
        living = state.living if who == state.who else f"living/{who}"
        task = Pass(self.store, (*steps, *extra), None if living == state.living else living)
        # A receipt counts tokens where they are known, so a pass that knows them is another than one that does not.
        name = digest([state.who, who, state.ids.get("tokens"), [getattr(s, "home", s.label) for s in task.steps]])
        names = list(dict.fromkeys(s.label for s in task.steps))
        label = " + ".join(names if len(names) < 3 else [names[0], "…", names[-1]])
        causes = [self.why(n, m) for n, m in zip([*chain, *ahead], [*made, *(m for _, m, _ in early)], strict=True)]
        views = state.views()
        receipts = self.carry(
            task,
            [(v.part.name, v) for v in views],
            label=label,
            receipts=f"receipts/{name}",
            needs=needs,
            weights=[v.part.text_bytes for v in views],
            tell=lambda found: told(task.steps, causes, found),
        )
        alive = tuple(r["rows_out"] for r in receipts)
        if tuple(r["rows_in"] for r in receipts) != state.alive:
            raise RowsLost(
                f"{label}: {sum(r['rows_in'] for r in receipts)} rows in, {state.rows} before",
                where=node.where,
                fix="files of the store were removed; use a new one",
            )
        for i, step in enumerate(ahead, start=len(steps)):
            self.early[id(step)] = sum(r["steps"][i]["computed"] for r in receipts if "stored" not in r)
        for i, (step, made_of) in enumerate(zip(chain, made, strict=True)):
            entries = [r["steps"][i] | ({"computed": 0} if "stored" in r else {}) for r in receipts]
            entry = fold(entries, keep=isinstance(step, Keep)) | {"made_of": made_of}
            if early_rows := self.early.get(id(step)):
                entry |= {"computed": early_rows, "reused": max(0, entry["rows"] - early_rows)}
            if isinstance(step, Keep):
                entry |= {"kind": "keep", "rules": [{"because": r.because, "keep": str(r.keep)} for r in step.rules]}
            else:
                entry |= {"kind": "stage"}
            self.note(step, entry)
        return State(state.parts, living, who, alive, places, ids)

    def _compute(self, step: Apply, ids: Mapping[str, str]) -> tuple[Compute, dict[str, Any], dict[str, str]]:
        """A stage as part of a pass, what it is made of, and the ids of its columns."""
        stage, config = step.stage, step.config
        artifacts = {name: self.artifact(self, fit) for name, fit in step.artifacts.items()}
        made_of = {
            "code": f"{stable_name(stage.fn)} {code_version(stage.fn, stage.version)}",
            "settings": plain(config),
            "numerics": plain(stage.numerics),
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
        receipts = self.carry(
            Pass(self.store, (Decide(label, step.rules),), None),
            [(v.part.name, v) for v in views],
            label=label,
            receipts=f"receipts/{who}",
        )
        entry = fold([r["steps"][0] for r in receipts], keep=True)
        self.steps[label] = {"label": label, "where": step.where, "kind": "guard"} | entry
        dropped = sum(entry["dropped"].values())
        if dropped > step.guard_share * state.rows:
            worst = ", ".join(f"{k} {n}" for k, n in sorted(entry["dropped"].items(), key=lambda kv: -kv[1]))
            raise GuardFailed(
                f"the rules would drop {dropped} of {state.rows} documents of the target ({worst})",
                where=step.where,
                fix="choose a profile that fits the target, or raise guard_share",
            )

    def _global(self, node: Apply) -> State:
        state = self.state(node.above)
        stage, config, label = node.stage, node.config, self.labels[id(node)]
        artifacts = {name: self.artifact(self, fit) for name, fit in node.artifacts.items()}
        made_of = {
            "code": f"{stable_name(stage.fn)} {code_version(stage.fn, stage.version)}",
            "settings": plain(config),
            "reads": {n: state.ids[n] for n in stage.reads(config)},
            "living": state.who,
            "parts": merge([p.name for p in state.parts]),
            "each": code_version(stage.each.fn, stage.each.version) if stage.each else None,
            "artifacts": {name: content for name, (content, _) in artifacts.items()},
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
            types_read = {"key": KEY, **stage.reads(config)}
            rows = StoredRows(self.store, home, views, types_read, state.rows, self.carry, label)
            paths = {name: self.store.local_copy(path) for name, (_, path) in artifacts.items()}
            task = self._answer(node, rows, home, types, paths)
            receipts = self.carry(
                task,
                [(v.part.name, v) for v in views],
                label=label,
                receipts=f"{home}/receipts",
                weights=[1 + v.part.text_bytes // NARROW for v in views],
                why=why,
            )
            reported = self.store.put_json(done, rows.reported)
        if tuple(r["rows"] for r in receipts) != state.alive:
            raise RowsLost(
                f"{label} answered {sum(r['rows'] for r in receipts)} of {state.rows} rows",
                where=node.where,
                fix="files of the store were removed; use a new one",
            )
        self.note(
            node,
            {
                "kind": "global",
                "rows": state.rows,
                "report": reported,
                "made_of": made_of,
                "values": merge([r["values"] for r in receipts]),
            },
        )
        return replace(
            state,
            places={**state.places, **dict.fromkeys(types, home)},
            ids={**state.ids, **dict.fromkeys(types, identity)},
        )

    def _answer(
        self, node: Apply, rows: StoredRows, home: str, types: Mapping[str, pa.DataType], artifacts: Mapping[str, Path]
    ) -> Answer | Home:
        """Carry out a global stage up to the point where answers go home."""
        stage, config = node.stage, node.config
        if stage.rounds:
            answer = stage.on(rows, config, **artifacts)
            if isinstance(answer, PerPart):
                return Answer(self.store, home, types, answer)
        else:
            call = Grouped(stage, config)
            by = stage.by if stage.grain is Grain.GROUP else "everything"
            answer = rows.exchange_to_parts(
                call.emit, call.collect, reads=list(stage.reads(config)), by=str(by), label="rows"
            )
        return Home(self.store, home, types, rows.shelf_of(answer), every=not stage.rounds)

    def _replace(self, node: Apply) -> State:
        state = self.state(node.above)
        compute, made_of, _ = self._compute(node, state.ids)
        source = read_above(node).source
        made_of |= {"living": state.who}
        views = state.views()
        label = self.labels[id(node)]
        lost = f"{compute.home}/lost-{state.who}"
        records = self.carry(
            Replace(self.store, compute, lost),
            [(v.part.name, v) for v in views],
            label=label,
            receipts=f"{compute.home}/records-{state.who}",
            weights=[v.part.text_bytes for v in views],
            why=self.why(node, made_of),
        )
        if tuple(r["rows_in"] for r in records) != state.alive:
            raise RowsLost(
                f"{label}: {sum(r['rows_in'] for r in records)} rows in, {state.rows} before",
                where=node.where,
                fix="files of the store were removed; use a new one",
            )
        kept, childless, bad = (sum(r[n] for r in records) for n in ("rows_kept", "childless", "quarantined"))
        if kept + childless + bad != state.rows:
            raise RowsLost(
                f"{label}: {state.rows} rows in, {kept} replaced, {childless} dropped and {bad} quarantined",
                where=node.where,
                fix="report this: replacing rows must account for every one",
            )
        if bad and self.on_error == "fail":
            raise quarantined(self.store, label, bad, 0, next(r["quarantine"] for r in records if r["quarantine"]))
        parts = tuple(parts_of([(v.part.source, v.part.file, r) for v, r in zip(views, records, strict=True)]))
        columns = [*STANDARD, *source.columns, PARENT, *node.stage.writes(node.config)]
        places = dict.fromkeys(columns, BASE) | {"text": DOCUMENT, "extra": DOCUMENT}
        self.note(
            node,
            {
                "kind": "replace",
                "rows": state.rows,
                "rows_out": sum(p.living for p in parts),
                "text_bytes": sum(p.text_bytes for p in parts),
                "made_of": made_of,
                "dropped": {NO_ROWS_LEFT: childless} if childless else {},
                "lost": lost,
                "quarantined": bad,
                "uncounted": 0,
                "quarantine": [r["quarantine"] for r in records if r["quarantine"]],
                "values": merge([p.name for p in parts]),
            },
        )
        return State(
            parts, None, digest(["all"]), tuple(p.living for p in parts), places, dict.fromkeys(places, "read")
        )

    def _compact(self, node: Compact) -> State:
        state = self.state(node.above)
        label, views = self.labels[id(node)], state.views()
        base = tuple(sorted({n for n, place in state.places.items() if place == BASE} | {PARENT}))
        steps = tuple(sorted(n for n, place in state.places.items() if place not in (BASE, DOCUMENT)))
        made_of = {
            "living": state.who,
            "parts": merge([p.name for p in state.parts]),
            "columns": {n: state.ids[n] for n in steps},
        }
        home = f"steps/compact-{digest(made_of)}"
        items = survivors(views, state.alive)
        records = self.carry(
            Rewrite(self.store, home, base, steps),
            items,
            label=label,
            receipts=f"{home}/receipts",
            weights=[sum(v.part.text_bytes for v in group) for _, (_, group) in items],
            why=self.why(node, made_of),
        )
        rows = sum(r["rows_in"] for r in records)
        if rows != state.rows:
            raise RowsLost(
                f"{label}: {rows} rows in, {state.rows} before",
                where=node.where,
                fix="files of the store were removed; use a new one",
            )
        source = read_above(node).source
        files = [File(f"survivors of {len(group)} parts", 0, name) for name, (_, group) in items]
        parts = tuple(parts_of([(source, file, r) for file, r in zip(files, records, strict=True)]))
        self.note(
            node,
            {
                "kind": "compact",
                "rows": rows,
                "parts": len(parts),
                "made_of": made_of,
                "values": merge([p.name for p in parts]),
            },
        )
        places = dict.fromkeys(base, BASE) | dict.fromkeys(steps, home) | {"text": DOCUMENT, "extra": DOCUMENT}
        alive = tuple(p.living for p in parts)
        return State(parts, None, digest(["all"]), alive, places, {**dict.fromkeys(places, "read"), **state.ids})

    def chosen(self, frame: Node, column: str) -> str | None:
        """The label of the step that wrote a mix's column."""
        while not isinstance(frame, Read):
            if isinstance(frame, Apply) and column in frame.stage.writes(frame.config):
                return self.labels[id(frame)]
            frame = above(frame)[0]
        return None

    def funnel(self, frame: Node) -> list[str]:
        """Labels of the steps of a frame's own line, reading first."""
        line = []
        while True:
            line.append(self.labels[id(frame)])
            if isinstance(frame, Read):
                return line[::-1]
            frame = above(frame)[0]

    def continued(self, node: Node) -> bool:
        """Whether a later frame of the same rows was evaluated."""
        below = [
            n
            for n in self.below.get(id(node), [])
            if isinstance(n, Apply | Keep)
            and node is n.above
            and not (isinstance(n, Apply) and n.stage.grain is Grain.MANY)
        ]
        return any(id(n) in self.states or self.continued(n) for n in below)

    def close(self) -> None:
        """Let go of the engine, and of what was kept in memory."""
        self.kept.close()
        if self.opened is not None:
            self.opened.close()


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
        if table.num_rows == 0:
            writes = self.stage.writes(self.config).items()
            return pa.schema([(ADDRESS, pa.uint64()), *((n, arrow_type(kind)) for n, kind in writes)]).empty_table()
        result = self.stage.on(table, self.config)
        if result.num_rows != table.num_rows:
            raise RowsLost(
                f"{self.stage.name} was given {table.num_rows} rows and answered {result.num_rows}",
                where=self.stage.name,
                fix="a GROUP or WHOLE stage answers every row once",
            )
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
            case Compact():
                name = "compact"
            case Keep():
                reasons = list(dict.fromkeys(r.because for r in node.rules))
                name = f"keep ({reasons[0]}{', …' if len(reasons) > 1 else ''})"
            case Gather():
                name = f"sample {node.label}"
            case Fit():
                name = f"fit {node.fitter.name}"
            case Given():
                name = f"given {node.path.name}"
            case Write():
                name = "write"
            case _:
                name = "trial"
        seen[name] = seen.get(name, 0) + 1
        names[id(node)] = name if seen[name] == 1 else f"{name} #{seen[name]}"
    return names


def quarantined(store: Store, label: str, rows: int, uncounted: int, path: str) -> BadData:
    """The error of a run that stops at what cannot be read or replaced, with the first of it."""
    first = store.get_table(path).slice(0, 1).to_pylist()[0]
    if "part" in first:
        what = f"{label} could not replace {rows:,} row{'s' if rows != 1 else ''}, the first: {first['error']}"
        where = f"{first['file']}, part {first['part']}, row {first['row']}, id {first['id']}"
    else:
        ranges = f" and {uncounted:,} byte ranges" if uncounted else ""
        what = f"{rows:,} row{'s' if rows != 1 else ''}{ranges} cannot be read, the first: {first['error']}"
        at = f"byte {first['offset']:,}" if first["offset"] >= 0 else f"row {first['row']:,}"
        where = f"{first['file']}, {at}"
    return BadData(
        what,
        where=where,
        fix="repair the file, or run with --on-error quarantine",
    )


def survivors(views: Sequence[View], alive: Sequence[int]) -> list[tuple[str, tuple[str, tuple[View, ...]]]]:
    """Parts in groups that have about COMPACT_BYTES of living text, each with a name that its parts decide."""
    found: list[list[View]] = []
    held = 0.0
    for view, rows in zip(views, alive, strict=True):
        size = view.part.text_bytes * rows / max(1, view.part.living)
        if not found or held + size > COMPACT_BYTES:
            found.append([])
            held = 0.0
        found[-1].append(view)
        held += size
    named = [(digest([v.part.name for v in group]), tuple(group)) for group in found]
    return [(name, (name, group)) for name, group in named]


def batched(items: Sequence[int], weights: Sequence[int]) -> Iterable[list[int]]:
    """Items in batches: several small parts are one task, and what has no weight is a task of its own.

    Batches change nothing but the number of tasks, for every item has a receipt of its own.
    """
    batch: list[int] = []
    held = 0
    for i in items:
        if batch and (len(batch) == BATCH_ITEMS or held + weights[i] > BATCH_BYTES or not weights[i]):
            yield batch
            batch, held = [], 0
        batch.append(i)
        held += weights[i] or BATCH_BYTES
    if batch:
        yield batch


def told(steps: Sequence[Compute | Decide], causes: Sequence[str], receipts: Sequence[Mapping[str, Any]]) -> str:
    """What each step of a pass did, a line a step: reused, or computed for how many rows, and why."""
    lines = []
    for i, (step, why) in enumerate(zip(steps, causes, strict=True)):
        entries = [r["steps"][i] for r in receipts if "stored" not in r]
        if isinstance(step, Decide):
            dropped = sum(sum(r["steps"][i]["dropped"].values()) for r in receipts)
            lines.append(f"  {step.label}: {dropped:,} dropped")
        else:
            rows = sum(e["computed"] for e in entries)
            lines.append(f"  {step.label}: " + (f"computed for {rows:,} rows ({why})" if rows else "reused"))
    return "\n".join(lines)


def fold(entries: Sequence[Mapping[str, Any]], *, keep: bool) -> dict[str, Any]:
    """The entries of one stage or keep for all parts as one: sums, and for a stage one hash of the values."""
    out: dict[str, Any] = {
        "rows": sum(e["rows"] for e in entries),
        "timing": {"seconds": sum(e["timing"]["seconds"] for e in entries)},
    }
    if keep:
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
