"""What stands beside a trial's verdict: each target by itself, guards, tasks, the gain as data, repeated text, methods.

Like ``verdict`` it reads a trial's conclusion (trial.py, ``conclude``) and draws no conclusion of its own.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curate.telling import charts
from curate.telling.markup import Child, Html, details, h, join, note, table
from curate.telling.present import megabytes, percent

Seen = Mapping[str, Any]


def contrast(name: Child, c: Seen, colour: str) -> charts.Interval:
    """A contrast as a row of a forest plot."""
    says = f"{c['estimate']:+.2f} % ({c['low']:+.2f} to {c['high']:+.2f})"
    return charts.Interval(name, c["low"], c["estimate"], c["high"], c["deltas"], says, colour)


MANY = 24  # rows beside the verdict from which on they are folded away
KINDS = {  # of what stands beside a verdict: its heading, and what it is for
    "target": ("Targets", "They make the verdict together, each counted once."),
    "task": ("Tasks", "Bits per byte of the right answers; beside the verdict, unless they decide it."),
    "transfer": ("Transfers", "What one hopes to gain as well; beside the verdict."),
    "guard": ("Guards", "What must not suffer. One that loses more than twice the band, beyond its noise, is a cost."),
}


def targets(seen: Seen, arms: Mapping[str, str], delta: float) -> Html | None:
    """Forest plots over targets, tasks, transfers and guards, each kind on a scale of its own, one row a mix."""
    found: dict[str, list[charts.Interval]] = {}
    for key, plain in (("per_target", "target"), ("transfer", "transfer"), ("guards", "guard")):
        for name, mixes in seen.get(key, {}).items():
            if key == "per_target" and len(seen[key]) == 1:
                continue  # it is the verdict itself
            for mix, c in mixes.items():
                kind = c.get("kind", plain)
                if key == "per_target" and name in seen.get("tasks", {}):
                    kind = "task"
                cost: list[Child] = [h("span", " a cost", class_="bad")] if c.get("cost") else []
                row = contrast([h("b", mix), f" on {name}", *cost], c, arms.get(mix, "c1"))
                found.setdefault(kind, []).append(row)
    if not found:
        return None
    out: list[Child] = []
    for kind, (title, said) in KINDS.items():
        if rows := found.get(kind):
            scale = "bits per byte saved, percent of the baseline"
            chart = charts.intervals(rows, delta=delta, x_label=scale)
            folded = len(rows) > MANY and kind in ("task", "transfer")
            out += [h("h4", title), details(f"{len(rows)} comparisons", chart) if folded else chart, note(said)]
    adjusted = "Intervals are adjusted by Holm for how many stand together."
    return join([h("h3", "Each by itself"), *out, note(adjusted)])


def gain(seen: Seen, arms: Mapping[str, str]) -> Html | None:
    """The baseline's learning curve, and where each mix meets it."""
    points = seen.get("curve_baseline") or []
    found = seen.get("multiplier") or {}
    if len(points) < 2 or not found:
        return None
    curve = [(math.log2(scale), bits) for scale, bits, *_ in points]
    first, last = curve[0][0], max(1.0, curve[-1][0])
    lowest = min(bits for _, bits in curve)
    heights = {mix: float(np.mean(seen["bpb"][mix])) for mix in found}
    floor = min([lowest, *heights.values()])
    series: list[tuple[str, str, list[tuple[float, float]]]] = [("random", "base", curve)]
    dots = [(x, y, "base") for x, y in curve]
    for mix, m in found.items():
        line = [(first, heights[mix]), (last, heights[mix])]
        if m["estimate"]:  # else no multiple can be told, and the line meets nothing
            at = min(max(math.log2(m["estimate"]), first), last)
            line = [line[0], (at, heights[mix]), (at, floor)]
            dots.append((at, heights[mix], arms.get(mix, "c1")))
        series.append((mix, arms.get(mix, "c1"), line))
    worth = [
        h("li", h("b", mix), f": worth {m['text']} times its data" if m["estimate"] else f": {m['text']}")
        for mix, m in found.items()
    ]
    said = (
        "The curve is random text, with dots at the amounts that were trained; each mix starts at its own bits per "
        "byte, at the budget of the trial, and falls where random text would have reached the same. Read beyond "
        "these amounts, a number would be a guess, and none is given."
    )
    chart = charts.lines(
        series, x_label="amount of random text (1: as much as each mix was given)",
        y_label="bits per byte of the target", x_ticks=[(x, f"{2**x:g}×") for x, _ in curve], dots=dots,
    )  # fmt: skip
    return join([h("h3", "What the gain is worth in data"), h("ul", worth), chart, note(said)])


ASKED = (("bpb", "Bits per byte of the right answer"), ("probability", "Its probability among the choices"),
         ("accuracy", "How often it is the most probable choice"))  # fmt: skip


def tasks(seen: Seen, arms: Sequence[str]) -> Html | None:
    """Every task's answers, one row an arm and one column a task."""
    found = seen.get("tasks", {})
    if not found:
        return None
    arms = [arm for arm in arms if any(arm in by_arm for by_arm in found.values())]
    names = [f"{name} ({next(iter(by_arm.values()))['items']:,})" for name, by_arm in found.items()]
    tables = []
    for key, title in ASKED:
        rows = [(arm, *(_answer(key, by_arm.get(arm, {}).get(key)) for by_arm in found.values())) for arm in arms]
        tables.append(table(("arm", *names), rows, numeric=range(1, len(names) + 1), caption=title))
    said = (
        "In brackets, the items asked. Small models are close to guessing, so how often they are right says little; "
        "how many bits the right answer takes is the number to read. A free answer has no other choice beside it."
    )
    return join([h("h3", "Tasks"), tables[0], details("probability and accuracy", *tables[1:]), note(said)])


def _answer(key: str, values: Any) -> str:
    """The mean over seeds; a dash where nothing could be chosen."""
    if not values:
        return "–"
    mean = float(np.mean(values))
    return percent(mean) if key == "accuracy" else f"{mean:.3f}"


def repetition(trial: Seen) -> Html | None:
    """How often each arm's text was read, where the trial was matched to a larger budget."""
    epochs = trial.get("epochs") or {}
    if not any(x.get("at_final") for x in epochs.values()):
        return None
    rows = []
    for arm, x in epochs.items():
        keeps = x.get("of_random")
        rows.append((
            arm, megabytes(x["whole_bytes"]), percent(keeps) if keeps else "–",
            *(f"{x[key]:.2f}" if x[key] else "–" for key in ("epochs", "at_final")),
            f"{keeps * x['epochs']:.2f}" if keeps else "–",
        ))  # fmt: skip
    head = (
        "arm", "text of the mix", "share of random's pool", "times read here", "at the final budget",
        "share × times read",
    )  # fmt: skip
    said = (
        "A small trial favours small mixes, which it need not repeat; so each arm's text was cut until it had to, 16 "
        "times at most. A stricter mix keeps less and is read more often."
    )
    return join([h("h3", "Repeated text"), table(head, rows, numeric=range(1, 6)), note(said)])


def methods(trial: Seen) -> Html | None:
    """Claims about methods, each from several mixes that it chose anew."""
    found = trial.get("methods") or {}
    return join([h("h3", "Methods"), h("ul", [h("li", x["sentence"]) for x in found.values()])]) if found else None
