"""What stands beside a trial's verdict: each target by itself, guards, tasks, the gain as data, repeated text, methods.

Like ``verdict`` it reads a trial's conclusion (trial.py, ``conclude``) and draws no conclusion of its own.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from curate.telling import charts
from curate.telling.markup import Child, Html, h, join, note, table
from curate.telling.present import megabytes, percent

Seen = Mapping[str, Any]


def contrast(name: Child, c: Seen, colour: str) -> charts.Interval:
    """A contrast as a row of a forest plot."""
    says = f"{c['estimate']:+.2f} % ({c['low']:+.2f} to {c['high']:+.2f})"
    return charts.Interval(name, c["low"], c["estimate"], c["high"], c["deltas"], says, colour)


def targets(seen: Seen, arms: Mapping[str, str], delta: float) -> Html | None:
    """A forest plot over targets, transfers and guards, one row a mix."""
    rows = []
    several = len(seen.get("per_target", {})) > 1
    for key, kind in (("per_target", "target"), ("transfer", "transfer"), ("guards", "guard")):
        for name, mixes in seen.get(key, {}).items():
            if key == "per_target" and not several:
                continue
            for mix, c in mixes.items():
                cost: list[Child] = [h("span", " a cost", class_="bad")] if c.get("cost") else []
                rows.append(contrast([h("b", mix), f" on {kind} {name}", *cost], c, arms.get(mix, "c1")))
    if not rows:
        return None
    said = (
        "Intervals are adjusted by Holm for how many there are of each kind. Targets make the verdict together; "
        "transfers only stand beside it; a guard that loses more than twice the band, beyond its noise, is a cost."
    )
    chart = charts.intervals(rows, delta=delta, x_label="bits per byte saved, percent of the baseline")
    return join([h("h3", "Every target by itself"), chart, note(said)])


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
    for mix, m in found.items():
        line = [(first, heights[mix]), (last, heights[mix])]
        if m["estimate"]:  # else no multiple can be told, and the line meets nothing
            at = min(max(math.log2(m["estimate"]), first), last)
            line = [line[0], (at, heights[mix]), (at, floor)]
        series.append((mix, arms.get(mix, "c1"), line))
    worth = [
        h("li", h("b", mix), f": worth {m['text']} times its data" if m["estimate"] else f": {m['text']}")
        for mix, m in found.items()
    ]
    said = (
        "The curve is random text, a quarter to twice as much; each mix starts at its own bits per byte, at the "
        "budget of the trial, and falls where random text would have reached the same. Read beyond a quarter or twice "
        "as much, a number would be a guess, and none is given."
    )
    chart = charts.lines(
        series, x_label="doublings of random text (0: as much as the mix has)", y_label="bits per byte of the target"
    )
    return join([h("h3", "What the gain is worth in data"), h("ul", worth), chart, note(said)])


def tasks(seen: Seen) -> Html | None:
    """Every task's gold answers, for every arm."""
    out: list[Child] = []
    for name, by_arm in seen.get("tasks", {}).items():
        rows = [
            (
                arm,
                *(f"{float(np.mean(x[key])):.3f}" for key in ("bpb", "probability")),
                percent(float(np.mean(x["accuracy"]))),
            )
            for arm, x in by_arm.items()
        ]
        items = next(iter(by_arm.values()))["items"]
        head = ("arm", "bits per byte of the right answer", "its probability among the choices", "right")
        out.append(table(head, rows, numeric=range(1, 4), caption=f"{name}, {items:,} items"))
    if not out:
        return None
    said = (
        "Small models are close to guessing, so how often they are right says little; how many bits the right answer "
        "takes is the number to read."
    )
    return join([h("h3", "Tasks"), *out, note(said)])


def repetition(trial: Seen) -> Html | None:
    """How often each arm's text was read, where the trial was matched to a larger budget."""
    epochs = trial.get("epochs") or {}
    if not any(x.get("at_final") for x in epochs.values()):
        return None
    rows = [
        (arm, megabytes(x["whole_bytes"]), *(f"{x[key]:.2f}" if x[key] else "–" for key in ("epochs", "at_final")))
        for arm, x in epochs.items()
    ]
    head = ("arm", "text of the whole mix", "times read here", "times read at the intended budget")
    said = "A small trial favours small mixes, which it need not repeat; so each arm's text was cut until it had to."
    return join([h("h3", "Repeated text"), table(head, rows, numeric=range(1, 4)), note(said)])


def methods(trial: Seen) -> Html | None:
    """Claims about methods, each from several mixes that it chose anew."""
    found = trial.get("methods") or {}
    return join([h("h3", "Methods"), h("ul", [h("li", x["sentence"]) for x in found.values()])]) if found else None
