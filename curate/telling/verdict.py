"""The trial on a page: verdicts in plain words, intervals, the A/A test, budgets, curves, leaks, what was not tested.

It reads a trial's conclusion (trial.py, ``conclude``) and nothing else, and draws no conclusion of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curate.telling import beside, charts
from curate.telling.markup import Child, Html, h, join, note, table
from curate.telling.present import megabytes, number, percent

TONES = {
    "closer, ": "wary", "better, ": "wary", "closer": "good", "better": "good", "farther": "bad", "worse": "bad",
    "no verdict": "wary",
}  # fmt: skip
COLOURS = ("c1", "c3", "c4", "c5", "c6")


def trial_section(trials: Mapping[str, Mapping[str, Any]]) -> Html | None:
    """All trials of a run, by label."""
    out: list[Child] = []
    for label, trial in trials.items():
        if len(trials) > 1:
            out.append(h("h3", label))
        for arm, verdict in trial.get("verdicts", {}).items():
            tone = next((t for word, t in TONES.items() if verdict["verdict"].startswith(word)), "plain")
            because = [h("p", x) for x in verdict["because"]]
            costs = [h("p", x[:1].upper() + x[1:], class_="bad") for x in verdict.get("costs", [])]
            alarms = [h("p", x, class_="wary") for x in verdict.get("alarms", [])]
            company = trial.get("standing", {}).get(arm, {}).get("sentence")
            used = [h("p", company, class_="wary")] if company else []
            title = h("b", f"{arm}: {verdict['verdict']}")
            said = h("p", meaning(verdict, trial))
            out.append(h("div", title, said, because, costs, alarms, used, class_=f"verdict {tone}"))
        arms = colours(trial)
        for i, (name, seen) in enumerate(trial.get("instruments", {}).items()):
            out.append(instrument(name, seen, trial, arms, explain=i == 0))
        out += [beside.methods(trial), beside.repetition(trial), composition(trial), leak(trial), caveats(trial)]
    return join(out) if out else None


def meaning(verdict: Mapping[str, Any], trial: Mapping[str, Any]) -> str:
    """A verdict in plain words."""
    delta, word = f"{trial['settings']['delta']:g} %", verdict["verdict"]
    compared = (
        "Small models trained on equal amounts of this mix and of a random draw were compared on held-out documents "
        "of the target"
    )
    clearly = f"by more than the noise and by at least {delta}"
    if word.startswith(("closer to", "better")) and not verdict["explained_by"]:
        return f"{compared}: the mix makes them cheaper to predict, {clearly}, and it beats its controls."
    if word.startswith(("closer", "better")):
        same = " and ".join(verdict["explained_by"])
        return (
            f"{compared}: the mix makes them cheaper to predict, {clearly}, but a random draw of the same {same} does "
            f"as well. Nothing shows that the choice beyond its {same} helps."
        )
    if word.startswith(("farther", "worse")):
        return f"{compared}: the mix makes them dearer to predict, {clearly}."
    if word.startswith("equivalent"):
        return f"{compared}: whatever difference there is, it is smaller than {delta}."
    if word.startswith("no verdict"):
        return "The comparison did not pass its own checks, so its numbers decide nothing:"
    return f"{compared}: the noise leaves open whether there is a difference of {delta}."


def colours(trial: Mapping[str, Any]) -> dict[str, str]:
    """A colour for every arm: grey for the baselines, the first colours for the mixes, then the controls."""
    arms = dict.fromkeys(arm for x in trial.get("instruments", {}).values() for arm in x["bpb"])
    rest = dict.fromkeys([*(a for a in trial.get("verdicts", {}) if a in arms), *arms])
    baselines = [a for a in rest if a.rstrip("'") == "random"]
    others = [a for a in rest if a not in baselines]
    return dict.fromkeys(baselines, "base") | {a: COLOURS[i % len(COLOURS)] for i, a in enumerate(others)}


# ── instruments ──────────────────────────────────────────────────────────────────────────────────────────────────────


def instrument(
    name: str, seen: Mapping[str, Any], trial: Mapping[str, Any], arms: Mapping[str, str], *, explain: bool
) -> Html:
    """What one instrument saw."""
    delta = float(trial["settings"]["delta"])
    rows = [
        beside.contrast([h("b", mix), f" against {arm}"], c, arms.get(mix, "c1"))
        for mix, against in seen["against"].items()
        for arm, c in sorted(against.items(), key=lambda kv: (kv[0] != "random", kv[0]))
    ]
    for key, what in (("inverse", "its inverse"), ("references", "reference")):
        for name, c in seen.get(key, {}).items():
            rows.append(beside.contrast(f"{what} {name} against random", c, arms.get(name, "c1")))
    rows.append(beside.contrast("A/A: random against random'", seen["aa"], "base"))
    said = []
    if explain:
        said.append(
            "Each thin line is a seed, the dot their mean, the thick line the interval; the band is "
            f"±{delta:g} %, below which a difference is not worth having. To the right of 0 the mix is closer to the "
            "target. The A/A row compares two random draws: its interval (99 %) should hold 0, and its width is noise."
        )
    if expected := trial.get("foresight", {}).get(name):
        seen_from = [f"{against['random']['detectable']:.1f} %" for against in seen["against"].values()]
        said.append(
            f"Differences from {expected['detectable']:.1f} % on were expected to be visible; at the noise that was "
            f"measured they are from {', '.join(seen_from)} on (80 % power)."
        )
    orders = seen["ngram_orders_bpb"]
    check = (
        f"Byte n-grams of order 1 to {len(orders)} on the same text: {', '.join(f'{x:.3f}' for x in orders)} bits per "
        "byte. An instrument that is worse than order 3 gives no verdict."
    )
    return join(
        [
            h("h3", f"Instrument: {name}"),
            [h("p", "No verdict: ", reason, class_="wary") for reason in seen["no_verdict"]],
            charts.intervals(rows, delta=delta, x_label="bits per byte saved, percent of the baseline"),
            note(" ".join(said)),
            beside.targets(seen, arms, delta),
            beside.gain(seen, arms),
            beside.tasks(seen),
            arms_table(seen, arms),
            note(check),
            curves(seen, arms),
        ]
    )


def arms_table(seen: Mapping[str, Any], arms: Mapping[str, str]) -> Html:
    """Bits per byte and budgets of every arm: equal in the instrument's own unit, or nothing may be compared."""
    rows: list[tuple[Child, ...]] = []
    for arm, values in seen["bpb"].items():
        trained = seen["trained"][arm]
        spread = f" ± {float(np.std(values, ddof=1)):.4f}" if len(values) > 1 else ""
        name = h("span", h("i", class_=f"key {arms.get(arm, 'c1')}"), arm, class_="id")
        counts = [between([t.get(unit) for t in trained]) for unit in ("bytes", "tokens", "documents")]
        rows.append((name, f"{float(np.mean(values)):.4f}{spread}", len(values), *counts))
    head = ("arm", "bits per byte, mean ± SD", "seeds", "bytes a seed", "tokens a seed", "documents a seed")
    return table(head, rows, numeric=range(1, 6), caption=f"Budgets: every arm is trained on equal {seen['unit']}")


def between(values: Sequence[int | None]) -> str:
    """One count, or the range of several."""
    known = [v for v in values if v is not None]
    if not known:
        return "–"
    return number(known[0]) if min(known) == max(known) else f"{min(known):,} to {max(known):,}"


def curves(seen: Mapping[str, Any], arms: Mapping[str, str]) -> Html | None:
    """Learning curves: one line a seed, one colour an arm."""
    series = [
        (arm, arms.get(arm, "c1"), points)
        for arm, seeds in seen.get("curves", {}).items()
        for points in seeds
        if len(points) > 1
    ]
    if not series:
        return None
    said = (
        "Loss on what is being read, one line a seed. Each arm reads its own text, so the curves show that training "
        "went well, not which arm is better."
    )
    chart = charts.lines(series, x_label=f"{seen['unit']} seen", y_label="nats a token")
    return join([h("h3", "Learning curves"), chart, note(said)])


# ── what it rests on ─────────────────────────────────────────────────────────────────────────────────────────────────


def composition(trial: Mapping[str, Any]) -> Html | None:
    """What each arm was made of."""
    rows = []
    for name, x in trial.get("composition", {}).items():
        if x.get("bytes"):
            largest = sorted(x["sources"].items(), key=lambda kv: (-kv[1], kv[0]))[:3]
            top = ", ".join(f"{source or '(none)'} {percent(share)}" for source, share in largest)
            size = number(x["documents"]), megabytes(x["bytes"]), number(float(x["length"]["p50"]))
            rows.append((name, *size, f"{x['compression']:.2f}", percent(x["copies"]), top))
    if not rows:
        return None
    head = ("input", "documents", "text", "median bytes", "compression", "exact copies", "largest sources")
    return join([h("h3", "What the arms are made of"), table(head, rows, numeric=range(1, 6))])


def leak(trial: Mapping[str, Any]) -> Html | None:
    """Test documents found in what was trained on."""
    found = trial.get("leak", {}).get("found", {})
    if not found:
        return None
    rows = [(n, *(number(x[k]) for k in ("whole", "near", "of")), percent(x["mean_share"])) for n, x in found.items()]
    alarm = ", ".join(trial["leak"]["alarm"])
    said = h("p", f"Test documents stand whole in {alarm}: no verdict is given.", class_="bad") if alarm else None
    guard = trial.get("guard")
    said_of_it = guard["sentence"][:1].upper() + guard["sentence"][1:] if guard else ""
    held = h("p", said_of_it, class_=None if guard["guarded"] else "wary") if guard else None
    head = ("input", "test documents found whole", "nearly whole", "of", "mean share of 13-grams found")
    return join([h("h3", "Leaks from the test documents"), held, said, table(head, rows, numeric=range(1, 5))])


def caveats(trial: Mapping[str, Any]) -> Html | None:
    """What this does not show."""
    lines = [*trial.get("caveats", []), *(f"Not tested: {x}." for x in trial.get("not_tested", []))]
    return join([h("h3", "What this does not show"), h("ul", [h("li", x) for x in lines])]) if lines else None
