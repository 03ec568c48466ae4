"""From what the instruments saw to a verdict: the gates, the words, and what stays open."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curate.train import overlap, statistics
from curate.trials.arms import CONTROLS, REFERENCE, Arms, kind_of
from curate.trials.composition import NEAR
from curate.trials.cutting import Repeated
from curate.trials.lines import interval
from curate.trials.metrics import FEWEST_DOCUMENTS, TASKS, Scored, primary_of
from curate.trials.settings import INSTRUMENTS, MOST_EPOCHS, Trial

CAVEATS = (
    "Filters that win at small compute tend to be too strict at large; rankings of data sets change with scale.",
    "A verdict is about these documents. A claim about the method that chose them takes at least three mixes that it "
    "chose anew (arms NAME@1, NAME@2, NAME@3).",
)
SMALL = {
    "cpu": "A small model was asked which text is closer to the target's; nothing is said about tasks or about large "
    "models.",
    "cuda": "Models of some ten million weights were trained for minutes: below the scale at which small runs were "
    "shown to order data sets as large ones do in four pairs of five (Magnusson et al. 2025).",
}
ONCE = "Each chunk was seen once: what it costs to repeat a small mix up to a large budget was not tested."
LAST = "Effects of what is read last, as in an annealing phase, do not show in a run of this size."
APART = 0.1  # share of text by which a draw's sources may differ from the mix's before it is said
WORST = (
    "The n-gram takes nothing from reading text again, where a network takes almost as much from four readings as from "
    "new text (Muennighoff et al. 2023): it shows repetition at its worst. Where mixes differ in it, let the "
    'transformer decide: instruments=("transformer",).'
)
FEW = 3  # inputs that are named one by one where they hold words of test documents
GUARD_FIX = (
    "A gain may be due to them: fit contamination.index on the target's held-out documents, and keep what is clean "
    "before selecting."
)
WORDS = {  # on a CPU nothing is ever called better
    "cpu": {"closer": "closer to the target", "farther": "farther from the target", "gain": "closer"},
    "cuda": {"closer": "better", "farther": "worse", "gain": "better"},
}


# ------------------------------------------------------------------------------------------------- what was held out


def leak_of(composition: Mapping[str, Mapping[str, Any]], documents: int) -> dict[str, Any]:
    """Test documents found in what was trained on or selected by; a reference is not judged, so there they are told."""
    found = {name: x["test_documents"] for name, x in composition.items() if "test_documents" in x}
    judged = [name for name in found if kind_of(name.partition(":")[2]) != REFERENCE]
    return {
        "alarm": [name for name in judged if found[name]["whole"]],
        "found": {name: {**x, "of": documents} for name, x in found.items()},
        "beside": {name: x["beside"] for name, x in composition.items() if "beside" in x},
    }


def guard_of(found: Mapping[str, Mapping[str, Any]], config: Trial) -> dict[str, Any]:
    """Whether the scored documents were kept out of all that was trained on or selected by, counted in these inputs."""
    inputs = {n: x for n, x in found.items() if not n.startswith("target:") or n.rpartition("/")[2].endswith("train")}
    open_ = {name: x for name, x in inputs.items() if x["sharing"]}
    if not open_:
        sentence = f"guarded: no document of any arm shares {overlap.WORDS} words in a row with a test document"
    else:
        counts = [f"{x['sharing']:,} of {x['searched']:,} documents in {name}" for name, x in open_.items()]
        said = ", ".join(counts)
        if len(counts) > FEW:
            together = [sum(x[what] for x in open_.values()) for what in ("sharing", "searched")]
            most = max(open_, key=lambda name: open_[name]["sharing"] / open_[name]["searched"])
            said = (
                f"{together[0]:,} of {together[1]:,} documents in {len(open_)} inputs, the largest share of them in "
                f"{most} ({counts[list(open_).index(most)].partition(' documents')[0]}),"
            )
        sentence = f"not guarded: {said} share {overlap.WORDS} words in a row with a test document"
    return {"guarded": not open_, "split": config.split, "words": overlap.WORDS, "open": sorted(open_),
            "sentence": f"{sentence}."}  # fmt: skip


# -------------------------------------------------------------------------------------------------------- the words


def verdict_of(
    mix: str,
    config: Trial,
    arms: Arms,
    instruments: Mapping[str, Mapping[str, Any]],
    leak: Mapping[str, Any],
) -> dict[str, Any]:
    """One mix's verdict in the words of the trial's table, and as a sentence."""
    first, *others = instruments
    seen = instruments[first]["against"][mix]
    c = seen["random"]
    word = instruments[first]["verdicts"][mix]
    sign = {name: np.sign(x["against"][mix]["random"]["estimate"]) for name, x in instruments.items()}
    reasons = [f"test documents stand in {', '.join(leak['alarm'])}"] if leak["alarm"] else []
    reasons += [f"{name}: {reason}" for name, x in instruments.items() for reason in x["no_verdict"]]
    explained: list[str] = []
    disagree: list[str] = []
    if reasons:
        verdict = "no verdict"
    else:
        if word in ("closer", "farther"):
            disagree = [name for name in others if sign[name] != sign[first]]
        elif word == "equivalent":
            disagree = [name for name in others if instruments[name]["verdicts"][mix] in ("closer", "farther")]
        if disagree:
            word = "inconclusive"
        if word == "closer":
            labels = {arm: CONTROLS[kind_of(arm)] for arm in arms.controls if arm in seen}
            explained = [label for arm, label in labels.items() if label and seen[arm]["low"] <= 0]
        said = WORDS[config.device]
        verdict = {
            "closer": f"{said['gain']}, explained by {' and '.join(explained)}" if explained else said["closer"],
            "farther": said["farther"],
            "equivalent": f"equivalent within {config.delta:g} %",
            "inconclusive": _inconclusive(mix, config, instruments),
        }[word]
    numbers = "; ".join(_numbers(name, x["against"][mix]["random"]) for name, x in instruments.items())
    because = [*reasons, *(f"the {name} disagrees with the {first}" for name in disagree)]
    alarms = [] if reasons else _alarms(mix, word, instruments[first]["inverse"].get(mix))
    costs = _costs(mix, instruments[first].get("guards", {}))
    multiple = instruments[first].get("multiplier", {}).get(mix)
    alone = f" ({first} alone)" if not others else ""
    sentence = f"{mix}: {verdict}{alone}{' (' + '; '.join(because) + ')' if because else ''}. "
    what = "Bits per byte of gold answers" if config.primary == TASKS else "Bits per byte"
    sentence += f"{what} saved against random: {numbers}."
    sentence += "".join(f" {x[:1].upper()}{x[1:]}." for x in (*alarms, *costs))
    return {
        "verdict": verdict,
        "because": because,
        "explained_by": explained,
        "alarms": alarms,
        "costs": costs,
        "metric": config.primary,
        "multiplier": multiple,
        "inverse": instruments[first]["inverse"].get(mix),
        "estimate": c["estimate"],
        "interval": [c["low"], c["high"]],
        "level": c["level"],
        "sentence": sentence,
    }


def _alarms(mix: str, word: str, inverse: Mapping[str, Any] | None) -> list[str]:
    """The negative control: documents that the score likes least must not beat a random draw."""
    if inverse is None or inverse["low"] <= 0:
        return []
    if word == "closer":
        why = "the score is confounded with something that both ends of it share"
    else:
        why = "the score is inverted, or confounded with something else"
    return [f"inverted-score alarm: the inverse of {mix} beats random by {interval(inverse)}, so {why}"]


def _costs(mix: str, guards: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Guards that the mix loses on by more than twice delta."""
    return [f"at a cost: {name} {interval(by_mix[mix])}" for name, by_mix in guards.items() if by_mix[mix]["cost"]]


def _numbers(name: str, c: Mapping[str, Any]) -> str:
    return (
        f"{name} {c['estimate']:+.2f} % ({100 * c['level']:.3g} % interval {c['low']:+.2f} to {c['high']:+.2f}, "
        f"{len(c['deltas'])} seeds, noise {c['noise']})"
    )


def _inconclusive(mix: str, config: Trial, instruments: Mapping[str, Mapping[str, Any]]) -> str:
    """How many seeds it would take, at the noise that was measured; more than were run."""
    needed = []
    for x in instruments.values():
        c = x["against"][mix]["random"]
        n = statistics.seeds_needed(c["sd"], c["se_item"], config.delta, c["level"])
        if n is None:
            return "inconclusive, more evaluation documents needed"
        needed.append(max(n, len(c["deltas"]) + 1))
    return f"inconclusive, {max(needed)} seeds needed"


def methods_of(config: Trial, instruments: Mapping[str, Mapping[str, Any]], failed: bool) -> dict[str, Any]:
    """What may be said of methods: the first instrument's word, where the others agree in sign."""
    first, *others = instruments
    out = {}
    for method, c in instruments[first]["methods"].items():
        word = c["word"]
        signs = {np.sign(instruments[name]["methods"][method]["estimate"]) for name in (first, *others)}
        if len(signs) > 1 and word in ("closer", "farther"):
            word = "inconclusive"
        said = {**WORDS[config.device], "equivalent": f"equivalent within {config.delta:g} %"}
        verdict = "no verdict" if failed else said.get(word, word)
        out[method] = {
            "mixes": c["mixes"], "means": c["means"], "estimate": c["estimate"], "interval": [c["low"], c["high"]],
            "level": c["level"], "sd_mix": c["sd_mix"], "verdict": verdict,
            "sentence": f"The method {method}, over {len(c['mixes'])} mixes that it chose anew: {verdict}; {first} "
            f"{interval(c)}, the spread between mixes counted.",
        }  # fmt: skip
    return out


# ------------------------------------------------------------------------------------------------- what stays open


def caveats_of(
    asked: Arms,
    arms: Arms,
    config: Trial,
    scored: Sequence[Scored],
    instruments: Mapping[str, Mapping[str, Any]],
    leak: Mapping[str, Any],
    repeated: Mapping[str, Repeated],
) -> list[str]:
    """What this trial, in particular, leaves open.

    Args:
        asked: the arms that were given.
        arms: those of them that were trained.
        config: settings.
        scored: what was scored.
        instruments: what each saw.
        leak: test documents that were found.
        repeated: arm to how often it was read.
    """
    first = config.instruments[0]
    out = [SMALL[config.device], *CAVEATS]
    out += [] if config.final_tokens else [ONCE]
    out += [] if config.decay == 1 else [LAST]
    if len(config.instruments) == 1 and config.device == "cpu":
        missing = [name for name in INSTRUMENTS if name not in config.instruments]
        out.append(f"Not run: the {' and the '.join(missing)}; no second instrument has confirmed the sign.")
    scores_known = bool(arms.inverses) or any(CONTROLS[kind_of(arm)] is None for arm in asked.controls)
    for mix in arms.mixes:
        held = {kind_of(arm) for arm, controlled in asked.controls.items() if controlled == mix}
        for kind, label in CONTROLS.items():
            # Whether half of a score does as well can only be asked where the score is known.
            if kind not in held and (label or scores_known):
                what = label or "the conditional model's loss alone"
                out.append(f"{mix}: no {kind} arm was trained, so {what} may be the whole explanation.")
        for arm, controlled in arms.controls.items():
            c = instruments[first]["against"][mix].get(arm) if controlled == mix else None
            if c and CONTROLS[kind_of(arm)] is None and c["low"] <= 0:
                out.append(f"{mix} does not beat {arm}: {interval(c)}.")
    for name, x in leak["found"].items():
        if x["near"] > x["whole"]:
            out.append(
                f"{name} holds near copies of {x['near'] - x['whole']} of {x['of']} test documents "
                f"({100 * NEAR:.0f} % of their 13-grams)."
            )
    for name, by_panel in leak["beside"].items():
        for what, x in by_panel.items():
            if x["whole"]:
                out.append(f"{name} holds {x['whole']} documents of {what} whole: what is reported of it flatters.")
    decides = primary_of(config, scored)
    for s in scored:
        if s not in decides and len(s.items) < FEWEST_DOCUMENTS:
            out.append(f"{s.kind} {s.name}: {len(s.items)} documents only, too few to see much.")
    if config.final_tokens:
        out += _repetition(repeated)
        if "ngram" in config.instruments and len({r.epochs for r in repeated.values()}) > 1:
            out.append(WORST)
    return out


def undrawn_of(asked: Arms, trained: Arms) -> list[str]:
    """Controls that were asked for and could not be drawn."""
    out = []
    for arm, mix in asked.controls.items():
        if arm not in trained.controls:
            what = CONTROLS[kind_of(arm)] or "the conditional model's loss alone"
            out.append(
                f"{mix}: there is no {kind_of(arm)} arm, because the pool holds too few such documents, so {what} may "
                "be the whole explanation."
            )
    return out


def unlike_of(arms: Arms, composition: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Draws with a mix's sources that did not come out with its sources, as a pool may not hold enough of each."""
    out = []
    for arm, mix in arms.controls.items():
        mine, other = (composition.get(f"arm:{name}", {}).get("sources", {}) for name in (mix, arm))
        apart = sum(abs(mine.get(name, 0) - other.get(name, 0)) for name in {*mine, *other}) / 2
        fewest = min(composition.get(f"arm:{name}", {}).get("documents", 0) for name in (mix, arm))
        by_chance = (len({*mine, *other}) / (np.pi * max(1, fewest))) ** 0.5  # of two draws of one collection
        if kind_of(arm) == "source_matched" and apart > APART + by_chance:
            out.append(
                f"{arm} has other sources than {mix} for {100 * apart:.0f} % of its text, as the pool holds too little "
                "of them: it controls for less than its name says."
            )
    return out


def masked_of(composition: Mapping[str, Mapping[str, Any]], scored: Sequence[Scored]) -> list[str]:
    """What spans that do not count change in what the numbers mean."""
    out = []
    shares = {name.partition(":")[2]: x["masked"] for name, x in composition.items() if "masked" in x}
    shares = {arm: share for arm, share in shares.items() if f"arm:{arm}" in composition and share}
    if shares:
        said = ", ".join(f"{100 * share:.0f} % of {arm}" for arm, share in shares.items())
        out.append(f"Budgets count what is read, and some of it is masked and not learned: {said}.")
    for s in scored:
        if s.left_out:
            out.append(f"{s.kind} {s.name}: {s.left_out} documents are masked as a whole and were left out.")
    return out


def _repetition(repeated: Mapping[str, Repeated]) -> list[str]:
    """What was said of repetition, and where it could not be tested."""
    out = []
    for arm, r in repeated.items():
        if r.at_final is not None and r.at_final > MOST_EPOCHS:
            out.append(f"{arm} would be read {r.at_final:.0f} times, and was read {MOST_EPOCHS} times in the trial.")
        if not r.known:
            out.append(f"The sample of {arm} does not say how large its mix is, so it was taken to be all of it.")
    return out


def untested_of(scored: Sequence[Scored], instruments: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What no number of this trial is about."""
    kinds = {s.kind for s in scored}
    out = []
    if "guard" not in kinds:
        out.append("guard domains: no panel of other domains was scored, so a loss elsewhere would not be seen")
    names = [] if "task" in kinds else ["task accuracy"]
    names += ["generation", "languages other than the target's"]
    names += [] if any("multiplier" in x for x in instruments.values()) else ["a data multiplier"]
    return [*out, ", ".join(names)]
