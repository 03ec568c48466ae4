"""What one instrument saw: every comparison with its interval, from the nats that its runs stored.

The contrasts of a mix: against random (the mean of both draws), against each of its controls. Beside them the inverse
and the references against random, each target, transfer and guard alone (Holm), tasks in their own units, a method over
its rescored mixes, and the gain as a multiple of data, read off the baseline's own curve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from curate.errors import BadData
from curate.train import multiplier, noise, panel, statistics, tasks
from curate.trials.arms import BASELINES, Arms
from curate.trials.metrics import TASKS, Floats, Scored, beside_of, bpb, primary_of, split
from curate.trials.settings import ENOUGH, UNIT, Trial

TOLERANCE = 0.005  # arms whose budgets differ by more are refused
SCALES = (0.25, 0.5, 2.0)  # of the budget, at which the baseline is trained beside it
RANDOM = {"random": 0.5, "random'": 0.5}

Runs = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]


def flat(jobs: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """The runs of an instrument as (run, result); a job may hold several."""
    found: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    for job, result in zip(jobs, results, strict=True):
        if job["instrument"] == name:
            found += zip(job["runs"], result["runs"], strict=True) if "runs" in job else [(job, result)]
    return found


def measure(name: str, config: Trial, arms: Arms, scored: Sequence[Scored], runs: Runs) -> dict[str, Any]:
    """All comparisons of one instrument; JSON-able.

    Args:
        name: of the instrument.
        config: settings.
        arms: what was trained on.
        scored: what was scored.
        runs: each run, as planned and as it came out.

    Raises:
        BadData: arms that were trained on unequal budgets, steps or tokenizers, or that scored other documents.
    """
    trained = arms.trained(name == config.instruments[0])
    plain = sorted((run for run in runs if run[0].get("scale", 1.0) == 1.0), key=lambda run: run[0]["seed"])
    by_arm = {arm: [result for run, result in plain if run["arm"] == arm] for arm in trained}
    _equal(name, by_arm)
    nats = {arm: split(scored, np.array([r["nats"] for r in results])) for arm, results in by_arm.items()}
    decides, beside = primary_of(config, scored), beside_of(config, scored)
    guards = [s for s in scored if s.kind == "guard"]

    def target(s: Scored) -> panel.Target:
        at = next(i for i, other in enumerate(scored) if other is s)
        return panel.Target(nats={arm: x[at][:, s.items] for arm, x in nats.items()}, clusters=s.clusters)

    primary = {s.name: target(s) for s in decides}
    level = 1 - (1 - config.level) / len(arms.mixes)
    pairs = _pairs(arms, trained)
    compared = panel.compare(
        primary, {what: weights for what, (_, _, weights) in pairs.items()}, aa=panel.AA,
        prior=_on_record(name, config, len(decides), by_arm["random"][0]["trained"]), level=level,
        resamples=config.resamples, seed=config.seed,
    )  # fmt: skip
    aa = panel.gate(primary, resamples=config.resamples, seed=config.seed)
    clusters = sum(int(s.clusters.max()) + 1 for s in decides)
    bits = {arm: _bits(decides, primary, arm) for arm in trained}
    orders = np.mean([r["orders"] for arm in BASELINES for r in by_arm[arm]], axis=0)
    baseline = float(np.mean([bits[arm] for arm in BASELINES]))

    against: dict[str, dict[str, Any]] = {mix: {} for mix in arms.mixes}
    for what, (mix, arm, _) in pairs.items():
        if mix in against:
            against[mix][arm] = _told(compared[what].all, clusters)
    alone = {what: c for what, c in compared.items() if pairs[what][1] == "random"}
    out: dict[str, Any] = {
        "unit": UNIT[name],
        "no_verdict": _failures(name, config, baseline, orders, aa),
        "verdicts": {mix: word_of(against[mix]["random"], config.delta) for mix in arms.mixes},
        "against": against,
        "inverse": _of(alone, pairs, arms.inverses, clusters),
        "references": _of(alone, pairs, arms.references, clusters),
        "aa": asdict(aa) | {"deltas": list(aa.deltas)},
        "bpb": {arm: x.tolist() for arm, x in bits.items()},
        "baseline_bpb": baseline,
        "ngram_orders_bpb": orders.tolist(),
        "trained": {arm: [r["trained"] for r in results] for arm, results in by_arm.items()},
        "curves": {arm: [r["curve"] for r in results] for arm, results in by_arm.items() if "curve" in results[0]},
    }
    if len(decides) > 1:
        mixes = {what: c for what, c in alone.items() if pairs[what][0] in against}
        each = {(s.name, pairs[what][0]): c.each[s.name] for what, c in mixes.items() for s in decides}
        out["per_target"] = _family(each, {s.name: int(s.clusters.max()) + 1 for s in decides})
        out["target_bpb"] = {s.name: {arm: _bits([s], primary, arm).tolist() for arm in trained} for s in decides}
    for key, group in (("transfer", beside), ("guards", guards)):
        if group:
            wanted = {mix: RANDOM | {mix: -1.0} for mix in arms.mixes}
            named = _named(group)
            found = {
                (named[s], mix): c.all
                for s in group
                for mix, c in panel.compare(
                    {s.name: target(s)}, wanted, aa=panel.AA, resamples=config.resamples, seed=config.seed
                ).items()
            }
            out[key] = _family(found, {named[s]: int(s.clusters.max()) + 1 for s in group})
            for s in group:
                for told in out[key][named[s]].values():
                    told["kind"] = s.kind  # beside the verdict stand transfers, and tasks or targets that do not decide
            if key == "guards":
                pairwise = {f"{guard}\0{mix}": c for (guard, mix), c in found.items()}
                for pair, cost in panel.costs(pairwise, config.delta).items():
                    guard, _, mix = pair.partition("\0")
                    out[key][guard][mix]["cost"] = bool(cost)
    if asked := [(i, s.task) for i, s in enumerate(scored) if s.task is not None]:
        out["tasks"] = {task.name: {arm: _answers(task, nats[arm][i]) for arm in trained} for i, task in asked}
    out["methods"] = _methods(arms, config, primary, against, clusters)
    if curve := _curve(config, decides, scored, runs):
        out["curve_baseline"] = curve.told()
        out["multiplier"] = {
            mix: curve.multiple(
                bits[mix], [primary[s.name].nats[mix] for s in decides], decides, alone[_vs(mix)].all, config.seed
            )
            for mix in arms.mixes
        }
    return out


def _named(group: Sequence[Scored]) -> dict[Scored, str]:
    """A name for each of what is told together: its own, with its kind where another one has the same."""
    names = [s.name for s in group]
    return {s: s.name if names.count(s.name) == 1 else f"{s.kind} {s.name}" for s in group}


def _on_record(name: str, config: Trial, targets: int, trained: Mapping[str, Any]) -> statistics.Prior | None:
    """The noise of A/A comparisons on record at this setting; what reads its text again or starts from a base has
    another noise.
    """
    if trained.get("epochs", 1.0) != 1.0 or trained.get("base", False):
        return None
    metric = "answer bpb" if config.primary == TASKS else "bpb"
    setting = noise.Setting(
        metric=metric if targets == 1 else f"{metric} mean of {targets}", instrument=name,
        parameters=trained.get("parameters", 0), budget=trained[UNIT[name]], unit=UNIT[name],
        hardware="any" if name == "ngram" else config.device,
    )  # fmt: skip
    return noise.Registry.open().prior(setting)


def word_of(c: Mapping[str, Any], delta: float) -> str:
    """What one interval says."""
    if c["low"] > 0 and c["estimate"] >= delta:
        return "closer"
    if c["high"] < 0 and c["estimate"] <= -delta:
        return "farther"
    if -delta < c["low"] and c["high"] < delta:
        return "equivalent"
    return "inconclusive"


def _pairs(arms: Arms, trained: Sequence[str]) -> dict[str, tuple[str, str, dict[str, float]]]:
    """Comparisons by name: what, with what it is compared, and the weights."""
    found = [(arm, "random", RANDOM | {arm: -1.0}) for arm in (*arms.mixes, *arms.inverses, *arms.references)]
    found += [(mix, arm, {arm: 1.0, mix: -1.0}) for arm, mix in arms.controls.items()]
    known = set(trained)
    return {_vs(what, arm): (what, arm, w) for what, arm, w in found if {what, arm} <= known}


def _vs(what: str, arm: str = "random") -> str:
    """The name of a comparison."""
    return f"{what} against {arm}"


def _told(c: statistics.Contrast, clusters: int) -> dict[str, Any]:
    """A contrast as JSON, with the effect that it could have seen."""
    detectable = statistics.detectable(c.sd, len(c.deltas), c.sd_degrees, c.se_item, clusters, c.level)
    return {**asdict(c), "deltas": list(c.deltas), "detectable": detectable}


def _of(
    compared: Mapping[str, panel.Compared], pairs: Mapping[str, tuple[str, str, Any]], wanted: Any, clusters: int
) -> dict[str, Any]:
    """The contrasts of some arms against random, each at its own 95 %; of an inverse by the name of its mix."""
    found = {pairs[what][0]: statistics.at(c.all, 0.95) for what, c in compared.items() if pairs[what][0] in wanted}
    by_mix = isinstance(wanted, Mapping)
    return {wanted[arm] if by_mix else arm: {**_told(c, clusters), "arm": arm} for arm, c in found.items()}


def _family(
    found: Mapping[tuple[str, str], statistics.Contrast], clusters: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Contrasts by (name, mix), adjusted together: Holm's p and the interval at the level at which it decided."""
    adjusted = panel.adjust({f"{name}\0{mix}": c for (name, mix), c in found.items()})
    out: dict[str, dict[str, Any]] = {}
    for (name, mix), c in found.items():
        a = adjusted[f"{name}\0{mix}"]
        told = {**_told(statistics.at(c, a.level), clusters[name]), "p_holm": a.p}
        out.setdefault(name, {})[mix] = told
    return out


def _failures(name: str, config: Trial, baseline: float, orders: Floats, aa: statistics.Contrast) -> list[str]:
    """Why the instrument gives no verdict."""
    why = []
    if baseline > orders[2]:
        why.append(f"{baseline:.3f} bits per byte, worse than the byte 3-gram's {orders[2]:.3f} on the same text")
    if not aa.low <= 0 <= aa.high:
        why.append(f"the A/A test: two random draws differ by {aa.estimate:+.2f} %, beyond their own 99 % bound")
    if config.repeats(name) < ENOUGH[name]:
        why.append(f"{config.repeats(name)} seeds, and a verdict needs {ENOUGH[name]}")
    return why


def _bits(scored: Sequence[Scored], targets: Mapping[str, panel.Target], arm: str) -> Floats:
    """Bits per byte of each seed, the mean over targets, float64 (seeds,)."""
    each = [bpb(targets[s.name].nats[arm].sum(axis=1), s.sizes[s.items].sum()) for s in scored]
    return np.asarray(np.mean(each, axis=0), dtype=np.float64)


def _answers(task: tasks.Task, nats: Floats) -> dict[str, Any]:
    """What an arm makes of a task, a number a seed; what is about a choice is null where there was none (S1, S2)."""
    scores = [tasks.conclude(task, x) for x in nats]
    chosen = np.isfinite(scores[0].margin)  # items with more than one answer to choose from
    return {
        "bpb": [s.bpb for s in scores],
        "accuracy": [float(s.right[chosen].mean()) for s in scores] if chosen.any() else None,
        "probability": [float(s.probability[chosen].mean()) for s in scores] if chosen.any() else None,
        "margin": [float(s.margin[chosen].mean()) for s in scores] if chosen.any() else None,
        "items": len(task.ids),
    }


def _methods(
    arms: Arms,
    config: Trial,
    primary: Mapping[str, panel.Target],
    against: Mapping[str, Mapping[str, Any]],
    clusters: int,
) -> dict[str, Any]:
    """What a method does, from its rescored mixes; the spread between them is in the interval."""
    found = {}
    for method, mixes in arms.methods.items():
        mean = RANDOM | dict.fromkeys(mixes, -1.0 / len(mixes))
        together = panel.compare(primary, {method: mean}, resamples=config.resamples, seed=config.seed)[method].all
        c = panel.method_contrast(
            np.array([against[mix]["random"]["deltas"] for mix in mixes]), item_se=together.se_item, clusters=clusters,
            level=config.level,
        )  # fmt: skip
        told = asdict(c) | {"means": list(c.mixes), "mixes": list(mixes)}
        found[method] = told | {"word": word_of(told, config.delta)}
    return found


def _curve(config: Trial, decides: Sequence[Scored], scored: Sequence[Scored], runs: Runs) -> "_Curve | None":
    """The baseline at fractions and multiples of its budget; None where it was trained at one budget only."""
    scales = sorted({run.get("scale", 1.0) for run, _ in runs})
    if len(scales) == 1:
        return None
    places = [next(i for i, other in enumerate(scored) if other is s) for s in decides]
    seeds = 1 + max(run["seed"] for run, _ in runs)
    nats = [np.empty((seeds, len(scales), len(s.items))) for s in decides]
    for k, scale in enumerate(scales):
        for seed in range(seeds):
            found = [
                split(scored, np.array(result["nats"])) for run, result in runs
                if run.get("scale", 1.0) == scale and run["seed"] == seed and run["arm"] in BASELINES
            ]  # fmt: skip
            for target, place, s in zip(nats, places, decides, strict=True):
                target[seed, k] = np.mean([x[place][s.items] for x in found], axis=0)
    each = [bpb(x.sum(axis=2), s.sizes[s.items].sum()) for x, s in zip(nats, decides, strict=True)]
    return _Curve(scales, np.mean(each, axis=0), [x.mean(axis=0) for x in nats])


class _Curve(NamedTuple):
    """The baseline at several budgets: bits per byte (seeds, scales), and nats of each target (scales, items)."""

    scales: list[float]
    losses: Floats
    nats: list[Floats]

    def told(self) -> list[list[float]]:
        """Scale, mean bits per byte and its standard error over seeds."""
        mean, se = self.losses.mean(axis=0), self.losses.std(axis=0, ddof=1) / np.sqrt(len(self.losses))
        return [[s, float(x), float(e)] for s, x, e in zip(self.scales, mean, se, strict=True)]

    def multiple(
        self, mix: Floats, nats: Sequence[Floats], decides: Sequence[Scored], like: statistics.Contrast, seed: int
    ) -> dict[str, Any]:
        """A mix's bits per byte (seeds,) as a multiple of data, with the noise that its contrast with random
        has pooled; infinite ends are null, and so is all where the baseline does not learn from more.
        """
        mean = self.losses.mean(axis=0)
        if mean[0] <= mean[-1]:
            return {"estimate": None, "low": None, "high": None, "text": "the baseline's curve does not fall"}
        item = sum(
            multiplier.item_covariance(
                np.vstack([mine, x.mean(axis=0)]), s.sizes[s.items], clusters=s.clusters, seed=seed
            )
            for mine, x, s in zip(self.nats, nats, decides, strict=True)
        )
        m = multiplier.from_seeds(
            self.scales, self.losses, mix, like=like, item=np.asarray(item) / len(decides) ** 2, seed=seed
        )
        ends = {k: float(getattr(m, k)) for k in ("estimate", "low", "high")}
        finite = {k: v if np.isfinite(v) else None for k, v in ends.items()}
        return {**finite, "text": m.text, "method": m.method, "doubling": m.doubling}


def _equal(name: str, by_arm: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Arms are compared only at equal budgets, steps and tokenizers, and on the same documents."""
    trained = {arm: [r["trained"][UNIT[name]] for r in runs] for arm, runs in by_arm.items()}
    every = [x for sizes in trained.values() for x in sizes]
    if max(every) - min(every) > TOLERANCE * max(every):
        raise BadData(
            f"the {name} was trained on unequal budgets ({UNIT[name]}): {trained}", where="results of a trial",
            fix="run the trial again from its jobs, which cut all arms alike",
        )  # fmt: skip
    for what in ("steps", "tokenizer"):
        if len({r["trained"].get(what) for runs in by_arm.values() for r in runs}) > 1:
            raise BadData(
                f"runs of the {name} differ in their {what}", where="results of a trial",
                fix="run the trial again from its jobs, with one tokenizer for all arms",
            )  # fmt: skip
    if len({(tuple(r["bytes"]), len(r["nats"])) for runs in by_arm.values() for r in runs}) > 1:
        raise BadData(
            f"runs of the {name} scored different documents", where="results of a trial",
            fix="run the trial again from its jobs",
        )  # fmt: skip
