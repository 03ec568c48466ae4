"""The trial on a page: verdicts in plain words, intervals, the A/A test, budgets, curves, leaks, what was not tested.

It reads a trial's conclusion (trial.py, ``conclude``) and nothing else, and draws no conclusion of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from curate.telling import beside, charts
from curate.telling.markup import Child, Html, h, join, note, table
from curate.telling.present import megabytes, number, percent

TONES = {
    "closer, ": "wary", "better, ": "wary", "closer": "good", "better": "good", "farther": "bad", "worse": "bad",
    "no verdict": "wary",
}  # fmt: skip
COLOURS = ("c1", "c3", "c4", "c5", "c6", "c7", "c8", "c9")
FADED = "c2"  # what there is no colour left for: controls, beside many mixes
SHORT = {  # verdicts that are told alike in a headline, whatever stands behind their first words
    "inconclusive": "inconclusive", "no verdict": "without a verdict",
    "closer, ": "closer for a reason other than the choice", "better, ": "better for a reason other than the choice",
}  # fmt: skip
RANKED = ("closer to", "better", "closer for", "farther", "worse", "equivalent", "inconclusive", "without")
NAMED = 4  # mixes of one verdict that a headline names


def headline(trials: Mapping[str, Mapping[str, Any]]) -> str:
    """The verdicts on several mixes in one sentence: how many are what."""
    found = {mix: v["verdict"] for trial in trials.values() for mix, v in trial.get("verdicts", {}).items()}
    groups: dict[str, list[str]] = {}
    for mix, word in found.items():
        start = next((start for start in SHORT if word.startswith(start)), None)
        groups.setdefault(SHORT[start] if start else word, []).append(mix)
    said = []
    for word, mixes in sorted(groups.items(), key=lambda kv: _rank(kv[0])):
        names = ", ".join(mixes[:NAMED]) + (f" and {len(mixes) - NAMED} more" if len(mixes) > NAMED else "")
        said.append(f"{len(mixes)} {'is' if len(mixes) == 1 else 'are'} {word} ({names})")
    return f"Of {len(found)} mixes {'; '.join(said)}"


def _rank(word: str) -> int:
    """Where a verdict stands in a list of several."""
    return next((i for i, start in enumerate(RANKED) if word.startswith(start)), len(RANKED))


def trial_section(trials: Mapping[str, Mapping[str, Any]]) -> Html | None:
    """All trials of a run, by label."""
    out: list[Child] = []
    for label, trial in trials.items():
        if len(trials) > 1:
            out.append(h("h3", label))
        out += [summary(trial), boxes(trial)]
        arms = colours(trial)
        for i, (name, seen) in enumerate(trial.get("instruments", {}).items()):
            out.append(instrument(name, seen, trial, arms, explain=i == 0))
        out += [beside.methods(trial), beside.repetition(trial), composition(trial), leak(trial), caveats(trial)]
    return join(out) if out else None


def summary(trial: Mapping[str, Any]) -> Html | None:
    """Several verdicts side by side, what saves most first."""
    verdicts = trial.get("verdicts", {})
    if len(verdicts) < 2:
        return None
    rows = []
    for mix, v in sorted(verdicts.items(), key=lambda kv: (-kv[1]["estimate"], kv[0])):
        low, high = v["interval"]
        worth = (v.get("multiplier") or {}).get("text", "–")
        rows.append((h("b", mix), v["verdict"], f"{v['estimate']:+.2f} %", f"{low:+.2f} to {high:+.2f}", worth))
    head = ("mix", "verdict", "saved against random", "interval", "worth, times its data")
    shared = (
        f"{len(verdicts)} mixes share the 5 %, so that no more than one trial in twenty calls any of them what it is "
        f"not: each interval has level {100 * next(iter(verdicts.values()))['level']:.3g} %."
    )
    return join([table(head, rows, numeric=(2, 3, 4)), note(shared)])


def boxes(trial: Mapping[str, Any]) -> list[Html]:
    """Each verdict in plain words; mixes of which the same is said share a box."""
    groups: dict[str, list[str]] = {}
    verdicts = trial.get("verdicts", {})
    for arm, verdict in verdicts.items():
        groups.setdefault(meaning(verdict, trial, arm), []).append(arm)
    out = []
    for said, arms in groups.items():
        word = verdicts[arms[0]]["verdict"]
        tone = next((t for start, t in TONES.items() if word.startswith(start)), "plain")
        inner: list[Child] = []
        for arm in arms:
            verdict, whose = verdicts[arm], f"{arm}: " if len(arms) > 1 else ""
            company = trial.get("standing", {}).get(arm, {}).get("sentence")
            inner += [h("p", whose, x) for x in verdict["because"]]
            inner += [h("p", whose, x[:1].upper() + x[1:], class_="bad") for x in verdict.get("costs", [])]
            inner += [h("p", whose, x, class_="wary") for x in verdict.get("alarms", [])]
            inner += [h("p", company, class_="wary")] if company else []
        same = word if len({verdicts[arm]["verdict"] for arm in arms}) == 1 else word.partition(",")[0]
        out.append(h("div", h("b", f"{', '.join(arms)}: {same}"), h("p", said), inner, class_=f"verdict {tone}"))
    return out


def meaning(verdict: Mapping[str, Any], trial: Mapping[str, Any], arm: str = "") -> str:
    """A verdict in plain words."""
    delta, word = f"{trial['settings']['delta']:g} %", verdict["verdict"]
    answers = verdict.get("metric") == "tasks"
    scored = "the right answers of the tasks" if answers else "held-out documents of the target"
    compared = f"Small models trained on equal amounts of this mix and of a random draw were compared on {scored}"
    clearly = f"by more than the noise and by at least {delta}"
    first: Mapping[str, Any] = next(iter(trial.get("instruments", {}).values()), {})
    controlled = len(first.get("against", {}).get(arm, {})) > 1
    if word.startswith(("closer to", "better")) and not verdict["explained_by"]:
        held = "and it beats its controls" if controlled else "and no control was there that could explain it"
        return f"{compared}: the mix makes them cheaper to predict, {clearly}, {held}."
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


def ordered(trial: Mapping[str, Any], arms: Sequence[str]) -> list[str]:
    """Arms as they are told: the baselines, the mixes, what belongs to each mix, the rest."""
    mixes = list(trial.get("verdicts", {}))

    def place(arm: str) -> tuple[int, int, str]:
        if arm.rstrip("'") == "random":
            return 0, 0, arm
        if arm in mixes:
            return 1, mixes.index(arm), arm
        owner = arm.partition(":")[2]
        return 2, mixes.index(owner) if owner in mixes else len(mixes), arm

    return sorted(arms, key=place)


def colours(trial: Mapping[str, Any]) -> dict[str, str]:
    """A colour for every arm: grey for the baselines, the first colours for the mixes, what is left for the rest."""
    arms = ordered(trial, list(dict.fromkeys(arm for x in trial.get("instruments", {}).values() for arm in x["bpb"])))
    others = [a for a in arms if a.rstrip("'") != "random"]
    mixes = [a for a in others if a in trial.get("verdicts", {})]
    out = {a: "base" for a in arms if a not in others}
    for i, arm in enumerate(others):
        left = len(others) <= len(COLOURS) or arm in mixes
        out[arm] = COLOURS[i % len(COLOURS)] if left else FADED
    return out


# ── instruments ──────────────────────────────────────────────────────────────────────────────────────────────────────


def instrument(
    name: str, seen: Mapping[str, Any], trial: Mapping[str, Any], arms: Mapping[str, str], *, explain: bool
) -> Html:
    """What one instrument saw."""
    delta = float(trial["settings"]["delta"])
    rows = [
        beside.contrast([h("b", mix), f" against {arm.removesuffix(f':{mix}')}"], c, arms.get(mix, "c1"))
        for mix, against in seen["against"].items()
        for arm, c in sorted(against.items(), key=lambda kv: (kv[0] != "random", kv[0]))
    ]
    for key, what in (("inverse", "its inverse"), ("references", "reference")):
        for mix, c in seen.get(key, {}).items():
            rows.append(beside.contrast(f"{what} {mix} against random", c, arms.get(mix, "c1")))
    rows.append(beside.contrast("A/A: random against random'", seen["aa"], "base"))
    said = []
    if explain:
        said.append(
            "Each thin line is a seed, the dot their mean, the thick line the interval; the band is "
            f"±{delta:g} %, below which a difference is not worth having. To the right of 0 the mix is closer to the "
            "target. The A/A row compares two random draws: its interval (99 %) should hold 0, and its width is noise."
        )
    if expected := trial.get("foresight", {}).get(name):
        each = [against["random"]["detectable"] for against in seen["against"].values()]
        ends = dict.fromkeys(f"{x:.1f} %" for x in (min(each), max(each)))
        said.append(
            f"Differences from {expected['detectable']:.1f} % on were expected to be visible; at the noise that was "
            f"measured they are from {' (or, by mix, up to '.join(ends)}{')' * (len(ends) - 1)} on (80 % power)."
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
            beside.tasks(seen, list(arms)),
            arms_table(seen, arms),
            note(check),
            curves(seen, arms),
        ]
    )


def arms_table(seen: Mapping[str, Any], arms: Mapping[str, str]) -> Html:
    """Bits per byte and budgets of every arm: equal in the instrument's own unit, or nothing may be compared."""
    rows: list[tuple[Child, ...]] = []
    for arm in (a for a in arms if a in seen["bpb"]):
        values = seen["bpb"][arm]
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
    found = {name: x for name, x in trial.get("composition", {}).items() if x.get("bytes")}
    if not found:
        return None
    masked = any("masked" in x for x in found.values())
    rows = []
    for name in inputs(trial, found):
        x = found[name]
        largest = sorted(x["sources"].items(), key=lambda kv: (-kv[1], kv[0]))[:3]
        top = ", ".join(f"{source or '(none)'} {percent(share)}" for source, share in largest)
        size = number(x["documents"]), megabytes(x["bytes"]), number(float(x["length"]["p50"]))
        hidden = [percent(x.get("masked", 0.0))] if masked else []
        rows.append((plain(name), *size, f"{x['compression']:.2f}", percent(x["copies"]), *hidden, top))
    head = (
        "input", "documents", "text", "median bytes", "compression", "exact copies", *(["masked"] if masked else []),
        "largest sources",
    )  # fmt: skip
    said = "Masked text is read and neither learned nor scored; budgets count what is read." if masked else None
    made = table(head, rows, numeric=range(1, len(head) - 1))
    return join([h("h3", "What the arms are made of"), made, note(said) if said else None])


def inputs(trial: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Inputs as they are told: arms in their order, then the others."""
    names = list(names)
    arms = ordered(trial, [name.partition(":")[2] for name in names if name.startswith("arm:")])
    return [*(f"arm:{arm}" for arm in arms), *(name for name in names if not name.startswith("arm:"))]


def plain(name: str) -> str:
    """An input's name without the word that says it is an arm."""
    return name.removeprefix("arm:")


def leak(trial: Mapping[str, Any]) -> Html | None:
    """Test documents found in what was trained on."""
    found = trial.get("leak", {}).get("found", {})
    if not found:
        return None
    rows = []
    for name in inputs(trial, found):
        x = found[name]
        sharing = f"{x['sharing']:,} of {x['searched']:,}" if "searched" in x else "–"
        counts = [number(x[k]) for k in ("whole", "near", "of")]
        rows.append((plain(name), *counts, percent(x["mean_share"]), sharing))
    alarm = ", ".join(plain(name) for name in trial["leak"]["alarm"])
    said = h("p", f"Test documents stand whole in {alarm}: no verdict is given.", class_="bad") if alarm else None
    guard = trial.get("guard")
    said_of_it = guard["sentence"][:1].upper() + guard["sentence"][1:] if guard else ""
    held = h("p", said_of_it, class_=None if guard["guarded"] else "wary") if guard else None
    head = (
        "input", "test documents found whole", "nearly whole", "of", "mean share of 13-grams found",
        "sharing 13 words",
    )  # fmt: skip
    return join([h("h3", "Leaks from the test documents"), held, said, table(head, rows, numeric=range(1, 6))])


def caveats(trial: Mapping[str, Any]) -> Html | None:
    """What this does not show."""
    lines = [*trial.get("caveats", []), *(f"Not tested: {x}." for x in trial.get("not_tested", []))]
    return join([h("h3", "What this does not show"), h("ul", [h("li", x) for x in lines])]) if lines else None
