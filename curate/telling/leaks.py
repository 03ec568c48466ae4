"""What a run found of evaluation items, by task: the report of a gate (contamination.py) as a table."""

from collections.abc import Mapping
from typing import Any

from curate.telling.lookup import Finished
from curate.telling.markup import Child, Html, h, join, note, table
from curate.telling.present import number, percent, settings_of

COLUMNS = (
    "items", "items tested", "items not testable", "items found", "documents", "share of documents", "share of bytes",
    "share of tokens", "most often",
)  # fmt: skip


def contamination_section(run: Finished) -> Html | None:
    """A table for every gate; None where there is none."""
    gates = [step for step in run.steps.values() if is_gate(settings_of(step)) and step.get("report")]
    out: list[Child] = []
    for step in gates:
        if len(gates) > 1:
            out.append(h("h3", step["label"]))
        out += [by_task(step["report"]), note(said(step["report"]))]
    return join(out) if out else None


def is_gate(settings: Any) -> bool:
    """Whether a step's settings, as the manifest has them, are a gate's."""
    return isinstance(settings, Mapping) and settings.get("_") == "Gate"


def by_task(report: Mapping[str, Any]) -> Html:
    """One row a task; columns that nobody counted are left out."""
    tasks: dict[str, dict[str, Any]] = {}
    for key, value in report.items():
        task, colon, what = key.rpartition(": ")
        if colon and what in COLUMNS:
            tasks.setdefault(task, {})[what] = value
    shown = [name for name in COLUMNS if any(name in held for held in tasks.values())]
    rows = [(task, *(cell(name, held.get(name)) for name in shown)) for task, held in tasks.items()]
    return table(("task", *shown), rows, numeric=range(1, len(shown) + 1))


def cell(name: str, value: Any) -> str:
    """A number, or the share that it is."""
    if value is None or isinstance(value, str):
        return value or "–"
    return percent(value) if name.startswith("share") else number(value)


def said(report: Mapping[str, Any]) -> str:
    """What was found in all, and what that cannot tell."""
    gone, whole = report["contaminated documents"], report["documents"]
    shares = [f"{percent(report[f'share of {unit}'])} of the {unit}" for unit in ("bytes", "tokens")
              if f"share of {unit}" in report]  # fmt: skip
    return (
        f"{gone:,} of {whole:,} documents hold an item ({', '.join(shares)}). Of items that are too short to be looked "
        "for nothing is known, and a paraphrase is never found."
    )
