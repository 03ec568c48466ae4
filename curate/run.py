"""A run: a plan carried out on an engine against a store.

The run's folder is named by the plan and the listing of its inputs, so whether a run is complete is known before
anything is read. The outputs are evaluated in the order of the plan, mixes first; the manifest is published last, and a
run is complete when it stands there.
"""

import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from curate import __version__
from curate.engines import Engine
from curate.errors import StaleVersion
from curate.evaluate import Runner, Silent, Watch, quarantined
from curate.hashing import digest
from curate.identity import code_version, plain, source_hash, stable_name
from curate.outputs import conclude, content, write
from curate.plan import Apply, Compact, Conclude, Fit, Gather, Given, Keep, Plan, Read, Write, above
from curate.stage import Score
from curate.store import Store


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
                what = [
                    "apply",
                    stable_name(node.stage.fn),
                    code_version(node.stage.fn, node.stage.version),
                    plain(node.config),
                    list(node.artifacts),
                ]
            case Keep():
                what = ["keep", plain([[r.keep, r.because] for r in node.rules]), node.guard_share]
            case Gather():
                what = ["gather", node.label, node.cost, node.amount]
            case Fit():
                what = [
                    "fit",
                    stable_name(node.fitter.fn),
                    code_version(node.fitter.fn, node.fitter.version),
                    plain(node.config),
                    list(node.bases),
                ]
            case Compact():
                what = ["compact"]
            case Given():
                files = [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(node.path.rglob("*"))]
                what = ["given", files]
            case Write():
                what = [
                    "write",
                    [[k, c] for k, (_, c) in node.mixes.items()],
                    list(node.columns),
                    node.shard_bytes,
                    node.seed,
                    plain(dict(node.card)),
                    *([dict(node.orders)] if node.orders else []),
                ]
            case Conclude():
                e = node.experiment
                what = [
                    "conclude",
                    stable_name(e.conclude),
                    code_version(e.conclude, e.version),
                    plain(node.config),
                    list(node.inputs),
                ]
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
            functions = [(fn, node.fitter.version) for fn in (node.fitter.fn, node.fitter.part) if fn is not None]
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
                    f"the source of {stable_name(fn)} changed, its version is still {version!r}",
                    where=node.where,
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
    plan: Plan,
    *,
    name: str,
    store: Store,
    open_engine: Callable[[], Engine],
    watch: Watch | None = None,
    config: str = "",
    on_error: str = "quarantine",
    same_code: bool = False,
    finish: Callable[..., None] | None = None,
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
    watch = Silent() if watch is None else watch
    runner = Runner(plan, store, open_engine, content, watch, on_error, _latest(store, name))
    with store.together(either=True):
        check_versions(runner, same_code)
    folder = f"runs/{name}-{plan_identity(runner)}"
    if store.exists(f"{folder}/manifest.json"):
        manifest = dict(store.get_json(f"{folder}/manifest.json"))
        if on_error == "fail":
            for step in manifest["steps"]:
                if step.get("quarantine"):
                    raise quarantined(
                        store, step["label"], step["quarantined"], step["uncounted"], step["quarantine"][0]
                    )
        return Outcome(folder, manifest, 0)
    began = time.time()
    with store.together(either=True):
        store.publish(f"{folder}/config.toml", config.encode())
        store.put_json(f"{folder}/environment.json", environment())
        store.put_json(
            f"{folder}/plan.json",
            [
                {
                    "label": runner.labels[id(n)],
                    "where": n.where,
                    "kind": type(n).__name__.lower(),
                    "above": [runner.labels[id(a)] for a in above(n)],
                }
                for n in runner.nodes
            ],
        )
    try:
        mixes: dict[str, Any] = {}
        trials: dict[str, Any] = {}
        for node in plan.outputs:
            if isinstance(node, Write):
                mixes |= {mix: write(runner, node, mix) | {"card": dict(node.card)} for mix in node.mixes}
        for node in plan.outputs:
            if isinstance(node, Conclude):
                trials[runner.labels[id(node)]] = conclude(runner, node)
        artifacts = {
            runner.labels[id(node)]: content(runner, node)[1] for node in plan.outputs if isinstance(node, Fit)
        }
        for mix, entry in mixes.items():
            for shard in entry["shards"]:
                store.link(f"{entry['home']}/{shard['name']}", f"{folder}/mixes/{mix}/{shard['name']}")
        for label in trials:
            for table, path in runner.steps[label].pop("tables", {}).items():
                store.link(path, f"{folder}/records/{label.replace(' #', '-')}/{table}")
        with store.together(either=True):
            accounts = account(runner, folder)
        manifest = {
            "name": name,
            "folder": folder,
            "curate": __version__,
            "steps": list(runner.steps.values()),
            "mixes": mixes,
            "trials": trials,
            "artifacts": artifacts,
            "frames": accounts,
            "values": digest(
                [[s["label"], s.get("values")] for s in runner.steps.values()]
                + [[m, e["values"]] for m, e in mixes.items()]
            ),
            "timing": {
                "began": began,
                "seconds": time.time() - began,
                "engine": runner.opened.name if runner.opened else "none",
                "workers": runner.opened.workers if runner.opened else 0,
            },
        }
        if finish is not None:
            with store.together(either=True):
                finish(store, folder, manifest)
    finally:
        runner.close()
    return Outcome(folder, dict(store.put_json(f"{folder}/manifest.json", manifest)), max(1, runner.computed))


def account(runner: Runner, folder: str) -> list[dict[str, str]]:
    """Where rows can be looked up: the frames that mixes are chosen from, and those that nothing follows."""
    chosen = {id(frame) for node in runner.plan.outputs if isinstance(node, Write) for frame, _ in node.mixes.values()}
    entries = []
    for node in runner.nodes:
        state = runner.states.get(id(node))
        if state is None or (runner.continued(node) and id(node) not in chosen):
            continue
        label = runner.labels[id(node)]
        path = f"{folder}/frames/{digest(label)}.json"
        runner.store.put_json(
            path,
            {
                "label": label,
                "living": state.living,
                "places": dict(state.places),
                "funnel": runner.funnel(node),
                "scores": {
                    n: {"keep": c.keep.value, "unit": c.unit}
                    for n, c in runner.known[id(node)].columns.items()
                    if isinstance(c, Score)
                },
                "parts": [
                    {
                        "name": p.name,
                        "of": p.of,
                        "file": p.file.path,
                        "rows": p.rows,
                        "living": p.living,
                        "alive": n,
                        "groups": p.groups,
                        "text": p.source.identity().get("text", "text"),
                    }
                    for p, n in zip(state.parts, state.alive, strict=True)
                ],
            },
        )
        entries.append({"label": label, "path": path})
    return entries


def environment() -> dict[str, Any]:
    """What was installed and where it ran; no variable of the environment is recorded, for they hold secrets."""
    names = (
        "curate",
        "numpy",
        "pyarrow",
        "polars",
        "numba",
        "fsspec",
        "dask",
        "distributed",
        "torch",
        "tokenizers",
        "transformers",
        "datatrove",
        "spacy",
    )
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
