"""What the commands do: load a pipeline, run it with progress, show what came of it.

Kept apart from ``cli`` so that ``curate --help`` answers before anything heavy is imported.
"""

import importlib
import importlib.metadata
import inspect
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from curate.errors import BadInput, BadPlan
from curate.evaluate import Runner
from curate.exchange import WITHIN
from curate.outputs import content
from curate.plan import Apply, Compact, Conclude, Fit, Gather, Keep, Plan, Read, Write, above, check
from curate.run import Outcome, check_versions
from curate.run import run as carry_out
from curate.settings import dump, load
from curate.stage import Direction, Grain, Score
from curate.store import Store
from curate.telling import lost, slips

console = Console() if sys.stdout.isatty() else Console(width=120)
MOST_THREADS = 4  # of an engine without processes of its own, where nothing else is said
BARRIERS = {Grain.EACH: "", Grain.MANY: ", new parts"}  # what a pass ends at
CAUSES = 4  # of the quarantine that are told at the end of a run
QUICK = 1.0  # seconds; a task within a step that was quicker gets no line of its own
ARROWS = {Direction.HIGH: " ↑", Direction.LOW: " ↓"}


# ── loading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def load_pipeline(file: Path, sets: list[str], config: Path | None, store: Store) -> tuple[str, Any, Plan]:
    """A pipeline's name, its settings and its plan."""
    if not file.is_file():
        raise BadInput(f"there is no file {file}", where="curate", fix="give the path of a pipeline, or `curate init`")
    sys.path.insert(0, str(file.parent.absolute()))
    module = _own(file, "cannot be imported", importlib.import_module, file.stem)
    if Path(module.__file__ or "").absolute() != file.absolute():
        raise BadPlan(
            f"another module is called {file.stem!r}: {module.__file__}", where=str(file), fix="rename the file"
        )
    make: Callable[..., Plan] | None = getattr(module, "pipeline", None)
    if make is None:
        raise BadPlan(f"{file} defines no function pipeline(config)", where=str(file), fix="see `curate init`")
    parameters = list(inspect.signature(make, eval_str=True).parameters.values())
    settings = None
    if parameters:
        kind = parameters[0].annotation
        if not (isinstance(kind, type) and is_dataclass(kind)):
            raise BadPlan(
                f"the parameter {parameters[0].name!r} of pipeline() is not annotated with a dataclass",
                where=str(file),
                fix="write def pipeline(config: Settings) -> Plan, Settings being a frozen dataclass",
            )
        settings = load(kind, config, sets)
        calibrate = getattr(module, "calibrate", None)
        if calibrate is not None:
            settings = _calibrated(file.stem, settings, calibrate, store)
    plan = _own(file, "fails", make, *([settings] if parameters else []))
    if not isinstance(plan, Plan):
        raise BadPlan(
            f"pipeline() returned {type(plan).__name__}, not a plan",
            where=str(file),
            fix="end it with return plan(...)",
        )
    return file.stem, settings, plan


def _own(file: Path, verb: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call into the user's file; an ordinary mistake in it is told with the line where it was made."""
    try:
        return call(*arguments)
    except (
        ImportError,
        SyntaxError,
        ArithmeticError,
        AttributeError,
        LookupError,
        NameError,
        TypeError,
        ValueError,
    ) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == file.name]
        lines += [error.lineno] if isinstance(error, SyntaxError) else []
        where = f"{file}:{lines[-1]}" if lines else str(file)
        fix = slips.meant(error, sys.modules.get(file.stem)) or "repair that line"
        raise BadPlan(f"{file} {verb}: {type(error).__name__}: {error}", where=where, fix=fix) from error


def _calibrated(name: str, settings: Any, calibrate: Callable[[Any], Any], store: Store) -> Any:
    """Settings with what the machine's speed decides, chosen once for a store."""
    from curate.hashing import digest
    from curate.settings import as_json, loads

    path = f"calibration/{name}-{digest(as_json(settings))}.toml"
    if not store.exists(path):
        store.publish(path, dump(calibrate(settings)).encode())
    return loads(type(settings), store.read(path).decode(), where=path)


# ── run ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def run(
    file: Path,
    engine: str,
    cluster: str | None,
    workers: int | None,
    memory: str,
    sets: list[str],
    config: Path | None,
    out: str,
    on_error: str,
    same_code: bool,
) -> None:
    """``curate run``."""
    store = store_at(out)
    name, settings, plan = load_pipeline(file, sets, config, store)
    how = engine_of(engine, cluster, workers, memory, file)
    show(carried_out(name, settings, plan, store, how, on_error=on_error, same_code=same_code), store)


def store_at(out: str) -> Store:
    """The store that ``--out`` names; it can be written to."""
    store = Store(out if "://" in out else str(Path(out).absolute()))
    store.check_writable()
    return store


def carried_out(
    name: str,
    settings: Any,
    plan: Plan,
    store: Store,
    open_engine: Callable[[], Any],
    *,
    on_error: str,
    same_code: bool,
) -> Outcome:
    """A plan's run, with progress, verdicts, cards and its report."""
    if on_error not in {"quarantine", "fail"}:
        raise BadPlan(f"--on-error {on_error!r}", where="--on-error", fix="say quarantine or fail")
    said = logging.getLogger("curate")
    said.setLevel(logging.INFO)
    if not any(isinstance(handler, Said) for handler in said.handlers):
        said.addHandler(Said())
    if not compiled():
        console.print(
            f"kernels are compiled on first use, once for this version of curate (10 to 40 s): {kernel_cache()}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    take_pages()
    with watching() as watch:
        return carry_out(
            plan,
            name=name,
            store=store,
            open_engine=open_engine,
            watch=watch,
            config=dump(settings) if settings is not None else "",
            on_error=on_error,
            same_code=same_code,
            finish=finish,
        )


def take_pages() -> None:
    """Let Arrow take its memory from jemalloc, where it was built with it and nothing else is asked for.

    Its default gives large blocks back to the system as soon as they are free and faults them in again: measured on
    two cores, a tenth of the CPU time of finding near-duplicates, and runs that differ by as much.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ and "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())


def kernel_cache() -> Path:
    """Where compiled kernels are kept (``curate/__init__.py``); ``NUMBA_CACHE_DIR`` chooses another place."""
    return Path(os.environ["NUMBA_CACHE_DIR"])


def compiled() -> bool:
    """Whether kernels of this version were compiled on this machine before."""
    return next(kernel_cache().rglob("*.nbi"), None) is not None


def engine_of(name: str, cluster: str | None, workers: int | None, memory: str, file: Path) -> Callable[[], Any]:
    """How to open an engine; it is opened only where something has to be computed."""
    if name == "local":
        from curate.engines.local import Local

        return lambda: Local(workers or min(MOST_THREADS, os.cpu_count() or 1))
    if name == "dask":

        def open_dask() -> Any:
            from curate.engines.dask import Dask

            return Dask(cluster, workers, file, memory)

        return open_dask
    raise BadPlan(f"there is no engine {name!r}", where="--engine", fix="say local or dask")


def finish(store: Store, folder: str, manifest: dict[str, Any]) -> None:
    """Verdicts, cards and the report, before the manifest."""
    from curate import card, report, standing

    standing.settle(store, folder, manifest)
    if manifest["trials"]:
        store.put_json(f"{folder}/trial.json", manifest["trials"])
    for mix in manifest["mixes"]:
        store.publish(f"{folder}/mixes/{mix}/README.md", card.card(manifest, mix, store).encode())
    store.publish(f"{folder}/report.html", report.page(store, folder, manifest).encode())


class Said(logging.Handler):
    """What modules have to say while they work, such as the effect that a trial can detect."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        console.print(record.getMessage(), highlight=False, markup=False, soft_wrap=True)


def watching() -> "Plain | Rich":
    """Progress for whoever looks: bars on a terminal, lines elsewhere."""
    return Rich() if console.is_terminal else Plain()


class Plain:
    """One line when a step ends; for logs and pipes."""

    def __enter__(self) -> "Plain":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def begin(self, label: str, items: int, weight: int) -> None:
        """Remember when it began."""
        self.began, self.weight, self.rows = time.perf_counter(), weight, 0

    def advance(self, label: str, items: int, rows: int, weight: int) -> None:
        """Count."""
        self.rows += rows

    def end(self, label: str, outcome: str) -> None:
        """Say what was done."""
        if WITHIN in label and time.perf_counter() - getattr(self, "began", 0.0) < QUICK:
            return
        speed = ""
        if hasattr(self, "began") and not outcome.startswith("0 computed") and outcome != "reused":
            seconds = time.perf_counter() - self.began
            speed = f"  {seconds:.1f} s" + (
                f", {self.weight / 1e6 / max(seconds, 1e-9):.1f} MB/s" if self.weight else ""
            )
        first, _, more = outcome.partition("\n")
        print(f"{label}: {first}{speed}" + (f"\n{more}" if more else ""), flush=True)


class Rich:
    """A bar a step, with rows and megabytes a second and the time left."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[speed]}", style="cyan"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self.tasks: dict[str, tuple[TaskID, float]] = {}
        self.sums: dict[str, list[int]] = {}

    def __enter__(self) -> "Rich":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def begin(self, label: str, items: int, weight: int) -> None:
        """A bar appears."""
        self.tasks[label] = self.progress.add_task(label[:48], total=items, speed=""), time.perf_counter()
        self.sums[label] = [0, 0]

    def advance(self, label: str, items: int, rows: int, weight: int) -> None:
        """The bar moves."""
        task, began = self.tasks[label]
        sums = self.sums[label]
        sums[0] += rows
        sums[1] += weight
        seconds = max(time.perf_counter() - began, 1e-9)
        speed = f"{sums[0] / seconds:,.0f} rows/s" if sums[0] else ""
        speed += f"  {sums[1] / 1e6 / seconds:.1f} MB/s" if sums[1] else ""
        self.progress.update(task, advance=items, speed=speed)

    def end(self, label: str, outcome: str) -> None:
        """The bar becomes a line."""
        found = self.tasks.pop(label, None)
        if found is not None:
            self.progress.remove_task(found[0])
        if WITHIN in label and (found is None or time.perf_counter() - found[1] < QUICK):
            return
        seconds = f" in {time.perf_counter() - found[1]:.1f} s" if found else ""
        first, _, more = outcome.partition("\n")
        more = f"\n[dim]{escape(more)}[/]" if more else ""
        self.progress.console.print(f"{escape(label)}  {escape(first)}{seconds}{more}", highlight=False)


def funnel(manifest: dict[str, Any], mix: str) -> Table:
    """Documents, text and tokens left after every step of a mix's line."""
    steps = {s["label"]: s for s in manifest["steps"]}
    entry = manifest["mixes"][mix]
    table = Table(title=f"{mix}: from source to mix", title_justify="left")
    for name, justify in (
        ("step", "left"),
        ("documents", "right"),
        ("text", "right"),
        ("tokens", "right"),
        ("dropped", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for label in entry["funnel"]:
        step = steps[label]
        if step["kind"] == "read":
            lost_here = step["quarantined"], step["uncounted"]
            note = f"quarantined: {lost.amount(*lost_here)}" if any(lost_here) else ""
            table.add_row(label, f"{step['rows_out']:,}", megabytes(step["text_bytes"]), "", note)
        elif step["kind"] == "replace":
            losses = [f"{k} {n:,}" for k, n in step["dropped"].items()]
            lost_rows = ", ".join(losses + ([f"{step['quarantined']:,} quarantined"] if step["quarantined"] else []))
            table.add_row(label, f"{step['rows_out']:,}", megabytes(step["text_bytes"]), "", lost_rows)
        elif step["kind"] == "keep":
            counted = {"text_bytes": 0, **step["in"]}  # over no part at all nothing was counted
            gone = {w: sum(v.get(w, 0) for v in step["lost"].values()) for w in counted}
            tokens = f"{counted['tokens'] - gone['tokens']:,}" if "tokens" in counted else ""
            ranked = sorted(step["dropped"].items(), key=lambda kv: -kv[1])
            reasons = ", ".join(f"{k} {n:,}" for k, n in ranked[:3])
            if len(ranked) > 3:
                reasons += f", {len(ranked) - 3} more {sum(n for _, n in ranked[3:]):,}"
            table.add_row(
                label,
                f"{step['rows_out']:,}",
                megabytes(counted["text_bytes"] - gone["text_bytes"]),
                tokens,
                reasons or "nothing",
            )
    chosen = steps[entry["selection"]]["report"] if entry["selection"] else {}
    tokens = f"{chosen['cost']:,}" if chosen.get("unit") == "tokens" else ""
    table.add_row(
        f"[bold]mix {mix}[/]", f"[bold]{entry['rows']:,}[/]", f"[bold]{megabytes(entry['text_bytes'])}[/]", tokens, ""
    )
    return table


def contrasts(verdict: dict[str, Any]) -> Table:
    """Every comparison of a trial: bits per byte saved, with its interval and each seed's."""
    table = Table(title="trial: bits per byte of the target saved, percent", title_justify="left")
    for name in ("instrument", "comparison", "saved", "interval", "each seed", "could see"):
        table.add_column(name, justify="right" if name in {"saved", "could see"} else "left")
    for name, x in verdict["instruments"].items():
        rows = [(f"{mix} against {arm}", c) for mix, against in x["against"].items() for arm, c in against.items()]
        for what, c in [*rows, ("random' against random (A/A)", x["aa"])]:
            seeds = " ".join(f"{d:+.1f}" for d in c["deltas"])
            interval = f"{c['low']:+.1f} to {c['high']:+.1f} ({100 * c['level']:.3g} %)"
            seen = f"{c['detectable']:.1f}" if "detectable" in c else ""
            table.add_row(name, what, f"{c['estimate']:+.1f}", interval, seeds, seen)
        for key, kind in (("per_target", "target"), ("guards", "guard")):
            for which, by_mix in x.get(key, {}).items():
                for mix, c in by_mix.items():
                    interval = f"{c['low']:+.1f} to {c['high']:+.1f} ({100 * c['level']:.3g} %)"
                    cost = ", a cost" if c.get("cost") else ""
                    seeds = " ".join(f"{d:+.1f}" for d in c["deltas"])
                    what = f"{mix} on {kind} {which}{cost}"
                    table.add_row(name, what, f"{c['estimate']:+.1f}", interval, seeds, "", style="dim")
    return table


def megabytes(n: float) -> str:
    """Bytes for people."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:,.1f} {unit}"
    return f"{n:.0f} B"


def shown(store: Store, path: str) -> str:
    """A path of the store as the user can give it again: with the protocol of a store that is not on this machine."""
    return store.full(path) if store.local else f"{store.url.rstrip('/')}/{path}"


def show_lost(manifest: Mapping[str, Any], store: Store) -> None:
    """Why rows are in the quarantine, and where the first of them stood."""
    for step in manifest["steps"]:
        found = lost.causes(store, step)
        if found:
            console.print(f"{step['label']} could not use:", style="yellow", highlight=False, markup=False)
        for cause in found[:CAUSES]:
            said = f"  {lost.amount(cause.rows, cause.ranges)}: {cause.error}; first in {cause.where}"
            console.print(said, style="yellow", highlight=False, markup=False, soft_wrap=True)
        if len(found) > CAUSES:
            said = f"  and {len(found) - CAUSES} more causes: see the report"
            console.print(said, style="yellow", highlight=False, markup=False)


def show(outcome: Outcome, store: Store) -> None:
    """The end of a run: funnel, verdicts, where to look."""
    if outcome.computed == 0:
        console.print(f"[green]nothing to compute[/]: {outcome.folder} is complete", highlight=False)
    for mix in outcome.manifest["mixes"]:
        console.print(funnel(outcome.manifest, mix))
    show_lost(outcome.manifest, store)
    for verdict in outcome.manifest["trials"].values():
        console.print(contrasts(verdict))
        console.print(verdict["sentence"], style="bold", highlight=False, soft_wrap=True)
        for found in verdict.get("standing", {}).values():
            if found["sentence"]:
                console.print(found["sentence"], style="yellow", highlight=False, markup=False, soft_wrap=True)
        said = len(verdict["caveats"]) + len(verdict["not_tested"])
        console.print(f"{said} caveats and things that were not tested: see the report", style="dim", highlight=False)
    for label, path in outcome.manifest.get("artifacts", {}).items():
        console.print(f"{label}  {shown(store, path)}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"values  {outcome.manifest['values']}", highlight=False)
    console.print(f"report  {shown(store, outcome.folder)}/report.html", highlight=False, soft_wrap=True)


# ── plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def show_plan(file: Path, sets: list[str], config: Path | None, out: str, same_code: bool) -> None:
    """``curate plan``: the checked plan and its passes."""
    from curate.engines.local import Local

    store = store_at(out)
    name, _, plan = load_pipeline(file, sets, config, store)
    known = check(plan)
    runner = Runner(plan, store, Local, content)
    check_versions(runner, same_code)
    table = Table(title=f"{name}: {len(runner.nodes)} steps", title_justify="left")
    for column in ("pass", "step", "kind", "writes", "where"):
        table.add_column(column)
    passes = passes_of(runner)
    for node in runner.nodes:
        kind, writes = "", ""
        match node:
            case Read():
                kind = f"read, {listed(runner, node)}"
                writes = ", ".join(node.source.columns) or "id, text, source"
            case Apply():
                kind = node.stage.grain.name + BARRIERS.get(node.stage.grain, " + exchange")
                written = node.stage.writes(node.config)
                shown = [f"{n}{ARROWS[c.keep] if isinstance(c, Score) else ''}" for n, c in list(written.items())[:6]]
                writes = ", ".join(shown) + (f" … {len(written)} columns" if len(written) > 6 else "")
            case Keep():
                kind, writes = "keep", "; ".join(dict.fromkeys(r.because for r in node.rules))
            case Compact():
                kind, writes = "compact", "the same rows in new parts"
            case Gather():
                kind, writes = "sample", f"{node.amount:,} {node.cost or 'rows'}" if node.amount else "every row"
            case Fit():
                kind, writes = "fit", "an artifact"
            case Write():
                kind, writes = "write", ", ".join(node.mixes)
            case Conclude():
                kind, writes = "trial", f"{len(node.inputs)} inputs"
        table.add_row(
            passes.get(id(node), ""), *(escape(t) for t in (runner.labels[id(node)], kind, writes, node.where))
        )
    console.print(table)
    for node in runner.nodes:
        explain = getattr(node.config, "explain", None) if isinstance(node, Apply) else None
        if explain is not None:  # settings that have more to say than their values, such as a curve
            console.print(f"{runner.labels[id(node)]}: {explain()}", highlight=False, markup=False)
    last = plan.outputs[-1]
    console.print(
        f"the plan is sound: {len(known)} frames, {len(above(last))} inputs to {runner.labels[id(last)]!r}",
        highlight=False,
    )


def passes_of(runner: Runner) -> dict[int, str]:
    """The number of the pass of each EACH stage and keep; the half of a later step that is hoisted says so.

    A pass ends at a step that looks at other rows, and at a frame from which something else goes on.
    """
    number: dict[int, int] = {}
    found: dict[int, str] = {}
    count = 0
    for node in runner.nodes:
        if isinstance(node, Keep) or (isinstance(node, Apply) and node.stage.grain is Grain.EACH):
            upper = number.get(id(node.above))
            if upper is None or len(runner.below[id(node.above)]) > 1:
                count += 1
                upper = count
            number[id(node)] = upper
            found[id(node)] = str(upper)
    for node in runner.nodes:
        if isinstance(node, Apply) and node.stage.each is not None and isinstance(node.above, Apply):
            half, above_it = node.above, node.above.above
            while isinstance(above_it, Keep) or (
                isinstance(above_it, Apply) and above_it.stage.grain is not Grain.MANY
            ):
                first = number.get(id(above_it))
                above_it = above_it.above
                if first is not None and first < number[id(half)]:
                    found[id(half)] = f"{number[id(half)]} (in {first})"
    return found


def listed(runner: Runner, node: Read) -> str:
    """How many files a source has; a remote one that cannot be reached from here is no error of the plan."""
    try:
        return f"{len(runner.listing(node)):,} files"
    except BadInput as error:
        if "://" not in node.source.name:
            raise
        return f"not listed: {error.what}"


# ── after a run ──────────────────────────────────────────────────────────────────────────────────────────────────────


def find_run(store: Store, name: str) -> tuple[str, dict[str, Any]]:
    """A complete run's folder and manifest, by its name, its folder, or the beginning of one (the newest)."""
    wanted = name.rstrip("/").rsplit("/", 1)[-1]
    found = [f for f in store.names("runs") if f.startswith(wanted) and store.exists(f"runs/{f}/manifest.json")]
    if not found:
        known = ", ".join(store.names("runs")) or "none"
        raise BadInput(f"there is no complete run {name!r}", where=store.url, fix=f"runs here: {known}")
    manifests = [(f"runs/{f}", json.loads(store.read(f"runs/{f}/manifest.json"))) for f in found]
    return max(manifests, key=lambda m: m[1]["timing"]["began"])


def show_report(name: str, out: str) -> None:
    """``curate report``."""
    store = Store(out if "://" in out else str(Path(out).absolute()))
    folder, manifest = find_run(store, name)
    show(Outcome(folder, manifest, 1), store)


def explain(document: str, name: str, out: str) -> None:
    """``curate explain``: everything known of the rows with an id."""
    from curate.explain import stories

    store = Store(out if "://" in out else str(Path(out).absolute()))
    folder, manifest = find_run(store, name)
    found = stories(store, manifest, document)
    if not found:
        raise BadInput(
            f"no row of {folder} has the id {document!r}",
            where=folder,
            fix="ids are matched exactly; what could not be read has no id, and stands under Quarantine in the report",
        )
    for story in found:
        table = Table(title=escape(f"{document}  ({story.frame})"), title_justify="left", show_header=False)
        table.add_column("what", style="bold")
        table.add_column("value")
        for what, value in story.facts:
            table.add_row(escape(what), escape(value))
        console.print(table)


def export(mix: str, kind: str, tokenizer: str, out: Path, text: str, name: str, workers: int) -> None:
    """``curate export``: a mix as tokenised shards."""
    from curate import shards

    found = shards.export(mix, kind, tokenizer, out, text=text, name=name, workers=workers)
    table = Table(title=f"{kind}: {found.documents:,} documents, {found.tokens:,} tokens", title_justify="left")
    for column in ("shard", "documents", "tokens"):
        table.add_column(column, justify="left" if column == "shard" else "right")
    for shard in found.shards:
        table.add_row(escape(str(shard.path)), f"{shard.documents:,}", f"{shard.tokens:,}")
    console.print(table)


# ── doctor and init ──────────────────────────────────────────────────────────────────────────────────────────────────


def doctor() -> None:
    """``curate doctor``."""
    import os

    from curate.plan import packages_of

    table = Table(title="curate doctor", title_justify="left")
    for column in ("what", "found", "for"):
        table.add_column(column)
    core = ("numpy", "pyarrow", "polars", "numba", "fsspec", "dask", "distributed", "huggingface_hub")
    for package in core:
        table.add_row(package, _version(package), "core")
    for extra in ("train", "datatrove", "s3"):
        for package in packages_of(extra):
            version = _version(package)
            table.add_row(
                package, version if version != "missing" else f"[red]missing[/]: pip install 'curate\\[{extra}]'", extra
            )
    table.add_row("cores", str(os.cpu_count()), "")
    table.add_row("GPU", _devices(), "train, scorers")
    console.print(table)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _devices() -> str:
    if _version("torch") == "missing":
        return "unknown: torch is not installed"
    import torch

    if not torch.cuda.is_available():
        return "none; models run on the CPU"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def init(path: Path) -> None:
    """``curate init``."""
    if path.exists():
        raise BadInput(f"{path} exists", where=str(path), fix="choose another name")
    if not path.absolute().parent.is_dir():
        raise BadInput(f"there is no directory {path.absolute().parent}", where=str(path), fix="make it first")
    template = Path(__file__).parent / "data" / "pipeline.py.txt"
    path.write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    console.print(f"wrote {path}. Next: [bold]curate plan {path}[/], then [bold]curate run {path}[/]", highlight=False)
