"""From results to a verdict: contrasts of each instrument, the gates, and the words."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from curate.errors import BadData
from curate.train import overlap, statistics
from curate.trials.arms import BASELINES, CONTROLS, trained
from curate.trials.composition import NEAR
from curate.trials.lines import interval
from curate.trials.metrics import bpb
from curate.trials.settings import ENOUGH, INSTRUMENTS, UNIT, Trial

TOLERANCE = 0.005  # arms whose budgets differ by more are refused
CAVEATS = (
    "A small model was asked which text is closer to the target's; nothing is said about tasks or about large models.",
    "Filters that win at small compute tend to be too strict at large; rankings of data sets change with scale.",
    "Each chunk was seen once: what it costs to repeat a small mix up to a large budget was not tested.",
    "Effects of what is read last, as in an annealing phase, do not show in a run of this size.",
)
GUARD_FIX = (
    "A gain may be due to them: fit contamination.index on the target's held-out documents, and keep what is clean "
    "before selecting."
)
UNTESTED = (
    "guard domains: no panel of other domains was scored, so a loss elsewhere would not be seen",
    "task accuracy, generation, a data multiplier, languages",
)


def leak_of(composition: Mapping[str, Mapping[str, Any]], documents: int) -> dict[str, Any]:
    """Test documents found in what was trained on or selected by."""
    found = {name: x["test_documents"] for name, x in composition.items() if "test_documents" in x}
    return {
        "alarm": [name for name, x in found.items() if x["whole"]],
        "found": {name: {**x, "of": documents} for name, x in found.items()},
    }


def guard_of(found: Mapping[str, Mapping[str, Any]], config: Trial) -> dict[str, Any]:
    """Whether the scored documents were kept out of all that was trained on or selected by, counted in these inputs."""
    inputs = {name: x for name, x in found.items() if name.startswith("arm:") or name == "target:train"}
    open_ = {name: x for name, x in inputs.items() if x["sharing"]}
    if not open_:
        sentence = f"guarded: no document of any arm shares {overlap.WORDS} words in a row with a test document"
    else:
        counts = [f"{x['sharing']:,} of {x['searched']:,} documents in {name}" for name, x in open_.items()]
        sentence = f"not guarded: {', '.join(counts)} share {overlap.WORDS} words in a row with a test document"
    return {"guarded": not open_, "split": config.split, "words": overlap.WORDS, "open": sorted(open_),
            "sentence": f"{sentence}."}  # fmt: skip


def measure(
    name: str,
    config: Trial,
    mixes: Sequence[str],
    controls: Mapping[str, str],
    cluster: np.ndarray,
    runs: Sequence[tuple[dict[str, Any], dict[str, Any]]],
) -> dict[str, Any]:
    """What one instrument saw: bits per byte, the A/A test, each mix against random and its controls."""
    arms = trained(name, mixes, controls)
    by_arm = {arm: [r for j, r in sorted(runs, key=lambda run: run[0]["seed"]) if j["arm"] == arm] for arm in arms}
    _equal(name, by_arm)
    nats = {arm: np.array([r["nats"] for r in by_arm[arm]]) for arm in arms}
    size = sum(by_arm[arms[0]][0]["bytes"])
    costs = {arm: bpb(x.sum(axis=1), size) for arm, x in nats.items()}
    orders = np.mean([r["orders"] for arm in BASELINES for r in by_arm[arm]], axis=0)
    baseline = float(np.mean([costs[arm] for arm in BASELINES]))

    aa_weights = {"random": 1.0, "random'": -1.0}
    pairs = {(mix, "random"): {"random": 0.5, "random'": 0.5, mix: -1.0} for mix in mixes}
    pairs |= {(mix, arm): {arm: 1.0, mix: -1.0} for arm, mix in controls.items() if arm in nats}
    errors = statistics.item_errors(
        nats, [aa_weights, *pairs.values()], BASELINES, clusters=cluster, resamples=config.resamples, seed=config.seed
    )
    clusters = int(cluster.max()) + 1
    aa_deltas = statistics.differences(nats, aa_weights, BASELINES)
    aa = statistics.contrast(aa_deltas, spread=2.0, item_se=errors[0], clusters=clusters, level=0.99)
    against: dict[str, dict[str, Any]] = {mix: {} for mix in mixes}
    for ((mix, arm), weights), error in zip(pairs.items(), errors[1:], strict=True):
        c = statistics.contrast(
            statistics.differences(nats, weights, BASELINES), spread=sum(w * w for w in weights.values()),
            item_se=error, clusters=clusters, aa=aa_deltas, level=1 - 0.05 / len(mixes),
        )  # fmt: skip
        detectable = statistics.detectable(c.sd, len(c.deltas), c.sd_degrees, c.se_item, clusters, c.level)
        against[mix][arm] = {**asdict(c), "deltas": list(c.deltas), "detectable": detectable}

    why = []
    if baseline > orders[2]:
        why.append(f"{baseline:.3f} bits per byte, worse than the byte 3-gram's {orders[2]:.3f} on the same text")
    if not aa.low <= 0 <= aa.high:
        why.append(f"the A/A test: two random draws differ by {aa.estimate:+.2f} %, beyond their own 99 % bound")
    if config.repeats(name) < ENOUGH[name]:
        why.append(f"{config.repeats(name)} seeds, and a verdict needs {ENOUGH[name]}")
    return {
        "unit": UNIT[name],
        "no_verdict": why,
        "verdicts": {mix: _word(against[mix]["random"], config.delta) for mix in mixes},
        "against": against,
        "aa": {**asdict(aa), "deltas": list(aa.deltas)},
        "bpb": {arm: x.tolist() for arm, x in costs.items()},
        "baseline_bpb": baseline,
        "ngram_orders_bpb": orders.tolist(),
        "trained": {arm: [r["trained"] for r in by_arm[arm]] for arm in arms},
        "curves": {arm: [r["curve"] for r in by_arm[arm]] for arm in arms if "curve" in by_arm[arm][0]},
    }


def _equal(name: str, by_arm: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Arms are compared only at equal budgets and on the same documents."""
    trained = {arm: [r["trained"][UNIT[name]] for r in runs] for arm, runs in by_arm.items()}
    every = [x for sizes in trained.values() for x in sizes]
    if max(every) - min(every) > TOLERANCE * max(every):
        raise BadData(
            f"the {name} was trained on unequal budgets ({UNIT[name]}): {trained}", where="results of a trial",
            fix="run the trial again from its jobs, which cut all arms alike",
        )  # fmt: skip
    if len({(tuple(r["bytes"]), len(r["nats"])) for runs in by_arm.values() for r in runs}) > 1:
        raise BadData(
            f"runs of the {name} scored different documents", where="results of a trial",
            fix="run the trial again from its jobs",
        )  # fmt: skip


def _word(c: Mapping[str, Any], delta: float) -> str:
    """What one interval says."""
    if c["low"] > 0 and c["estimate"] >= delta:
        return "closer"
    if c["high"] < 0 and c["estimate"] <= -delta:
        return "farther"
    if -delta < c["low"] and c["high"] < delta:
        return "equivalent"
    return "inconclusive"


def verdict_of(
    mix: str,
    config: Trial,
    controls: Mapping[str, str],
    instruments: Mapping[str, Mapping[str, Any]],
    leak: Mapping[str, Any],
) -> dict[str, Any]:
    """One mix's verdict in the words of the module's table, and as a sentence."""
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
            labels = {arm: CONTROLS[arm.partition(":")[0]] for arm in controls if arm in seen}
            explained = [label for arm, label in labels.items() if label and seen[arm]["low"] <= 0]
        verdict = {
            "closer": f"closer, explained by {' and '.join(explained)}" if explained else "closer to the target",
            "farther": "farther from the target",
            "equivalent": f"equivalent within {config.delta:g} %",
            "inconclusive": _inconclusive(mix, config, instruments),
        }[word]
    numbers = "; ".join(_numbers(name, x["against"][mix]["random"]) for name, x in instruments.items())
    because = [*reasons, *(f"the {name} disagrees with the {first}" for name in disagree)]
    alone = f" ({first} alone)" if not others else ""
    return {
        "verdict": verdict,
        "because": because,
        "explained_by": explained,
        "estimate": c["estimate"],
        "interval": [c["low"], c["high"]],
        "level": c["level"],
        "sentence": f"{mix}: {verdict}{alone}{' (' + '; '.join(because) + ')' if because else ''}. "
        f"Bits per byte saved against random: {numbers}.",
    }


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
        n = statistics.seeds_needed(c["sd"], c["se_item"], config.delta)
        if n is None:
            return "inconclusive, more evaluation documents needed"
        needed.append(max(n, len(c["deltas"]) + 1))
    return f"inconclusive, {max(needed)} seeds needed"


def caveats_of(
    mixes: Sequence[str],
    controls: Mapping[str, str],
    config: Trial,
    instruments: Mapping[str, Mapping[str, Any]],
    leak: Mapping[str, Any],
    composition: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """What this trial, in particular, leaves open."""
    out = []
    if missing := [name for name in INSTRUMENTS if name not in config.instruments]:
        out.append(f"Not run: the {' and the '.join(missing)}; no second instrument has confirmed the sign.")
    for mix in mixes:
        held = {arm.partition(":")[0] for arm, controlled in controls.items() if controlled == mix}
        for kind, label in CONTROLS.items():
            if kind not in held or "ngram" not in config.instruments:
                what = label or "the conditional model's loss alone"
                out.append(f"{mix}: no {kind} arm was trained, so {what} may be the whole explanation.")
        for arm, controlled in controls.items():
            c = instruments["ngram"]["against"][mix].get(arm) if "ngram" in instruments and controlled == mix else None
            if c and CONTROLS[arm.partition(":")[0]] is None and c["low"] <= 0:
                out.append(f"{mix} does not beat {arm}: {interval(c)}.")
    for name, x in leak["found"].items():
        if x["near"] > x["whole"]:
            out.append(
                f"{name} holds near copies of {x['near'] - x['whole']} of {x['of']} test documents "
                f"({100 * NEAR:.0f} % of their 13-grams)."
            )
    return out
