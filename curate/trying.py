"""``curate trial``, ``curate sweep``, ``curate ledger``: a verdict on mixes, the best of settings, all verdicts.

Choosing and confirming are apart. A sweep carries out the pipeline's trial for every value on the target's validation
split, and calls none of these a verdict; the value whose mix came closest is run once more, as it is written, and only
that run is scored on the test split. Whatever does not depend on the value (measures, scores, models) is in the store
and is not computed again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from curate.command import carried_out, console, engine_of, find_run, load_pipeline, show, store_at
from curate.comparison import Comparison, pipeline
from curate.engines.local import require_cuda
from curate.errors import BadInput, BadPlan
from curate.plan import Conclude, Plan
from curate.run import Outcome
from curate.settings import load
from curate.standing import Shelf
from curate.store import Store
from curate.train.ledger import Ledger
from curate.trial import Trial

NAME = "trial"
PRESET = "quick"
VALIDATION = "validation"


def trial(
    preset: str | None,
    sets: list[str],
    config: Path | None,
    engine: str | None,
    workers: int | None,
    out: str,
    same_code: bool = False,
) -> None:
    """``curate trial``: settings are those of ``comparison.Comparison``, the trial's own those of a preset.

    Without an engine it is Dask's, whose processes train a model a core at the same time, but where a GPU is asked for.
    """
    store = store_at(out)
    if preset is None and config is None:
        preset = PRESET
    settings = load(Comparison, config, [*(preset_of(preset) if preset else []), *sets])
    steps = pipeline(settings)
    engine = engine or ("local" if settings.trial.device == "cuda" else "dask")
    if engine == "local" and settings.trial.device == "cuda":  # said now, and not when all samples are drawn
        require_cuda(1, f"the trial{f' {preset!r}' if preset else ''}")
    how = engine_of(engine, None, workers, "auto", Path(__file__))
    outcome = carried_out(NAME, settings, steps, store, how, on_error="quarantine", same_code=same_code)
    show(outcome, store)


def preset_of(name: str) -> list[str]:
    """What a preset sets, as ``--set`` would say it."""
    chosen, plain = Trial.preset(name), Trial()
    values = {field.name: getattr(chosen, field.name) for field in fields(Trial)}
    return [
        f"trial.{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items() if value != getattr(plain, name)
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One value of a sweep, seen on the validation split.

    Args:
        value: as it was written.
        mix: the mix that came closest.
        estimate: percent of bits per byte saved against random, by the deciding instrument.
        low: lower end of its interval.
        high: upper end.
        budget: what each run was trained on, in the instrument's unit.
        unit: of ``budget``.
    """

    value: str
    mix: str
    estimate: float
    low: float
    high: float
    budget: float
    unit: str


def sweep(
    what: str,
    choice: str,
    sets: list[str],
    config: Path | None,
    engine: str,
    workers: int | None,
    out: str,
    same_code: bool = False,
) -> None:
    """``curate sweep``: try every value on the validation split, confirm the best on the test split.

    Args:
        what: a pipeline's file, or a complete run, which is tried with its own settings.
        choice: ``KEY=VALUE,VALUE,...``, a setting and what it is tried with.
        sets: further settings.
        config: settings as TOML.
        engine: as for ``curate run``.
        workers: as for ``curate run``.
        out: the store.
        same_code: as for ``curate run``.
    """
    store = store_at(out)
    key, equals, listed = choice.partition("=")
    values = [value for value in listed.split(",") if value]
    if not equals or len(values) < 2:
        raise BadPlan(
            f"{choice!r} names no values to choose from", where="curate sweep", fix="write KEY=VALUE,VALUE,..."
        )
    make, name, file = opened(what, store, config)
    how = engine_of(engine, None, workers, "auto", file)

    tried = []
    for value in values:
        chosen = [*sets, f"{key}={value}"]
        settings, _ = make(chosen)
        path = trial_of(settings)
        settings, plan = make([*chosen, f"{path}.split={VALIDATION}"])
        only = Plan(tuple(node for node in plan.outputs if isinstance(node, Conclude)))
        if not only.outputs:
            raise BadPlan(f"{what} concludes nothing", where="curate sweep", fix="add a trial to its plan")
        console.print(f"{key} = {value}, on the validation split", style="bold", highlight=False, markup=False)
        outcome = carried_out(name, settings, only, store, how, on_error="quarantine", same_code=same_code)
        tried += seen(value, outcome)
    if not tried:
        raise BadInput("no value has a mix to be ranked", where="curate sweep", fix="see the trials' own reasons above")
    best = max(tried, key=lambda t: t.estimate)
    console.print(table(key, tried, best))
    console.print(
        f"{key} = {best.value} came closest on the validation split; it alone is now scored on the test split",
        style="bold", highlight=False, markup=False,
    )  # fmt: skip
    settings, plan = make([*sets, f"{key}={best.value}"])
    show(carried_out(name, settings, plan, store, how, on_error="quarantine", same_code=same_code), store)


def ledger(confirm: str | None, held: bool | None, scale: str, note: str, out: str) -> None:
    """``curate ledger``: every verdict on record and how it stands; or what became of one at a larger scale."""
    kept = Ledger(Shelf(store_at(out)))
    if confirm is not None:
        if held is None or not scale:
            raise BadPlan(
                "a verdict is confirmed or refuted at a scale", where="curate ledger --confirm",
                fix="add --held or --refuted, and --scale '1.2B, 30B tokens'",
            )  # fmt: skip
        try:
            new = kept.confirm(confirm, held=held, scale=scale, note=note)
        except ValueError as error:
            raise BadInput(str(error), where="curate ledger", fix="give an id that `curate ledger` lists") from error
        console.print("put on record" if new else "it was on record already", highlight=False)
    tests = dict.fromkeys(test for entry in kept.kept.read() for test in entry.get("test_sets", ()))
    if tests:
        console.print(on_record(kept, list(tests)))
    for line in kept.lines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def on_record(kept: Ledger, tests: Sequence[str]) -> Table:
    """All verdicts, each once, as it stands on the most used of its test sets."""
    out = Table(title="verdicts on record", title_justify="left")
    for name in ("id", "mix", "verdict", "saved", "p by Holm", "stands", "run"):
        side: Any = "right" if name in ("saved", "p by Holm") else "left"
        out.add_column(name, justify=side, overflow="fold", no_wrap=name == "id")
    shown = set()
    for test in sorted(tests, key=kept.uses, reverse=True):
        for s in kept.standing(test):
            if s.id not in shown:
                shown.add(s.id)
                stands = "" if not s.verdict.directional else "yes" if s.stands else "no"
                out.add_row(
                    s.id, s.verdict.mix, s.verdict.verdict, f"{s.verdict.estimate:+.2f} %", f"{s.adjusted:.2g}", stands,
                    s.trial.removeprefix("runs/"),
                )  # fmt: skip
    return out


Make = Callable[[Sequence[str]], tuple[Any, Plan]]


def opened(what: str, store: Store, config: Path | None) -> tuple[Make, str, Path]:
    """How to make the plan of a pipeline, or of a run's pipeline with the run's settings, from further settings."""
    file = Path(what)
    if not file.is_file():
        folder, manifest = find_run(store, what)
        name = str(manifest["name"])
        if config is None:
            config = Path(store.full(f"{folder}/config.toml"))
        if name == NAME:
            return comparing(config), name, Path(__file__)
        file = pipeline_of(store, folder, name)

    def make(sets: Sequence[str]) -> tuple[Any, Plan]:
        _, settings, plan = load_pipeline(file, list(sets), config, store)
        return settings, plan

    return make, file.stem, file


def comparing(config: Path | None) -> Make:
    """The plan of ``curate trial``."""

    def make(sets: Sequence[str]) -> tuple[Any, Plan]:
        settings = load(Comparison, config, sets)
        return settings, pipeline(settings)

    return make


def pipeline_of(store: Store, folder: str, name: str) -> Path:
    """The file of a run's pipeline: every step of its plan tells where it was written."""
    steps = json.loads(store.read(f"{folder}/plan.json"))
    files = {Path(step["where"].rpartition(":")[0]) for step in steps}
    found = [file for file in files if file.stem == name and file.is_file()]
    if len(found) != 1:
        raise BadInput(
            f"the pipeline {name!r} of {folder} is not where it was", where="curate sweep",
            fix="give the pipeline's file in place of the run, and --config RUN/config.toml",
        )  # fmt: skip
    return found[0]


def trial_of(settings: Any) -> str:
    """The dotted name of the one setting that is a trial."""
    found = trials_in(settings)
    if len(found) != 1:
        raise BadPlan(
            f"the settings hold {len(found)} trials", where="curate sweep",
            fix="sweep a pipeline whose settings have one field of the type curate.trial.Trial",
        )  # fmt: skip
    return found[0]


def trials_in(settings: Any, before: str = "") -> list[str]:
    """Dotted names of all settings that are trials."""
    if isinstance(settings, Trial):
        return [before.rstrip(".")]
    if not is_dataclass(settings):
        return []
    within = [(getattr(settings, field.name), f"{before}{field.name}.") for field in fields(settings)]
    return [name for value, place in within for name in trials_in(value, place)]


def seen(value: str, outcome: Outcome) -> list[Tried]:
    """The closest mix of each trial; none where the trial's own checks failed."""
    out = []
    for conclusion in outcome.manifest["trials"].values():
        name, instrument = next(iter(conclusion["instruments"].items()))
        against: Mapping[str, Any] = {
            mix: x["random"] for mix, x in instrument["against"].items()
            if conclusion["verdicts"][mix]["verdict"] != "no verdict"
        }  # fmt: skip
        if not against:
            console.print(f"{value}: {conclusion['sentence']}", style="yellow", highlight=False, markup=False)
            continue
        mix = max(against, key=lambda m: against[m]["estimate"])
        budget = conclusion["foresight"][name]["budget"]
        c = against[mix]
        shown = {name: c[name] for name in ("estimate", "low", "high")}
        out.append(Tried(value=value, mix=mix, budget=budget, unit=instrument["unit"], **shown))
    return out


def table(key: str, tried: Sequence[Tried], best: Tried) -> Table:
    """What was seen of every value."""
    out = Table(title="sweep: bits per byte of the validation split saved, percent", title_justify="left")
    out.add_column(key)
    out.add_column("mix")
    for name in ("saved", "interval", "each run"):
        out.add_column(name, justify="right")
    for t in tried:
        out.add_row(
            t.value, t.mix, f"{t.estimate:+.2f}", f"{t.low:+.2f} to {t.high:+.2f}", f"{t.budget:,.0f} {t.unit}",
            style="bold green" if t is best else None,
        )  # fmt: skip
    return out
