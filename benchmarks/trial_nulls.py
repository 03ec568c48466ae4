"""What a trial says where there is nothing to see, and where something was planted, simulated and on real text.

    python benchmarks/trial_nulls.py [DATA] [--mb 2] [--rounds 25] [--trials 8] [--out results/trial_nulls.json]

Without DATA: simulated trials alone (two minutes). 12,000 nulls of each design go through ``statistics.contrast`` as
a trial does (two random draws, a mix; A/A noise pooled, with and without noise on record; item noise as a true
difference of the documents at hand). Told are how often the interval leaves 0 out, how often "closer" and "farther" are
said (it also takes delta), the coverage of a true effect, and what a mix noisier than random does to it. 4,000 more are
simulated down to their documents, and go through ``panel.compare`` with its bootstrap.

With DATA (``pool.parquet``, ``targets.parquet`` as for noise.py): the byte n-gram on real text. Each round shuffles the
pool, cuts it into chunks of --mb MB, trains on every chunk once, and makes --trials trials of 15 chunks each, drawn
anew for random, random' and a third random draw that plays the mix (chunks are shared between the trials of a round and
not between rounds). 25 rounds of 8 are 200 trials, for each target and for the mean over them. Noise on record is that
of the other rounds. From the first rounds also the data multiplier: two random draws of five seeds at 1/4, 1/2, 1 and
2 times half a chunk, read off by twice the data (the answer is 2; the median interval must lie within 1.4 to 2.9, and
all but one contain 2) and by half of the documents as random bytes (the median interval must end below 0.9, all but one
below 1).

Targets that are missed are named, and the exit status is then 1. Cost with DATA: about half a
CPU second a chunk, ten CPU minutes.
"""

import argparse
import json
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import noise as measured
import numpy as np

from curate.train import journal, multiplier, ngram, noise, panel
from curate.train.panel import AA, Target
from curate.train.statistics import Contrast, Prior, contrast, detectable

NULLS = 12_000
SEEDS = 5
MIX = {"random": 0.5, "random'": 0.5, "mix": -1.0}
# Seeds, SD of one arm's cost over seeds, SE over documents, delta: percent, as measured by noise.py and published.
DESIGNS: dict[str, tuple[int, float, float, float]] = {
    "n-gram, 2 MB": (5, 1.35, 0.3, 3.0),
    "transformer, 300k tokens": (3, 0.6, 0.3, 3.0),
    "20M weights on a GPU": (3, 0.11, 0.05, 0.3),
    "documents rule": (5, 0.3, 0.6, 1.5),
}
SCALES = np.array([0.25, 0.5, 1.0, 2.0])
PLANTED = 5  # rounds that the multiplier is read in


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--mb", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--real-only", action="store_true", help="keep the simulated part of an earlier run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "trial_nulls.json")
    given = parser.parse_args()
    result: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    result |= {
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "device": platform.processor() or platform.machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if not given.real_only:
        result |= {"simulated": simulated(), "documents": with_documents(), "method": method()}
    if given.data:
        result["real"], result["multiplier"] = real(given.data, int(given.mb * 1e6), given.rounds, given.trials)
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    missed = list(judged(result))
    print("missed: " + ", ".join(missed) if missed else "all targets met")
    return 1 if missed else 0


def judged(result: Mapping[str, Any]) -> list[str]:
    """What misses the targets that are promised."""
    out = []
    for name, x in [*result.get("simulated", {}).items(), *result.get("documents", {}).items()]:
        if "noisier" in name:
            continue
        if not 0.04 <= x["excludes 0"] <= 0.06:
            out.append(f"{name}: excludes 0 in {x['excludes 0']:.1%}")
        if max(x["closer"], x["farther"]) > 0.025:
            out.append(f"{name}: closer {x['closer']:.1%}, farther {x['farther']:.1%}")
        if not 0.93 <= x["coverage"] <= 0.97:
            out.append(f"{name}: coverage {x['coverage']:.1%}")
    for name, x in result.get("real", {}).items():
        if x["excludes 0"] > 0.09:
            out.append(f"real, {name}: excludes 0 in {x['excludes 0']:.1%}")
        if x["median half-width"] > 3:
            out.append(f"real, {name}: median half-width {x['median half-width']:.2f} %")
    for name, x in result.get("multiplier", {}).items():
        low, high = np.median(x["doubled"]["intervals"], axis=0)
        held = sum(low <= 2 <= high for low, high in x["doubled"]["intervals"])
        if not 1.4 <= low <= 2 <= high <= 2.9 or held < len(x["doubled"]["intervals"]) - 1:
            out.append(f"multiplier of doubled data, {name}: median {low:.2f} to {high:.2f}, {held} contain 2")
        ends = [high for _, high in x["noise"]["intervals"]]
        if np.median(ends) >= 0.9 or sum(high < 1 for high in ends) < len(ends) - 1:
            out.append(f"multiplier of noise, {name}: not clearly below 1")
    return out


# ----------------------------------------------------------------------------------------------------------- simulated


def simulated() -> dict[str, Any]:
    """Nulls of every design, with the A/A noise of the trial alone and with noise on record."""
    out = {}
    for number, (name, (seeds, sd, item, delta)) in enumerate(DESIGNS.items()):
        for recorded in (False, True):
            for ratio in (1.0, 1.5, 3.0):
                rng = np.random.default_rng([number, recorded, int(10 * ratio)])
                found = [
                    null(rng, seeds, sd, item, ratio, recorded) for _ in range(NULLS if ratio == 1 else NULLS // 3)
                ]
                label = f"{name}{', noise on record' if recorded else ''}"
                label += f", mix {ratio:g} times noisier" if ratio > 1 else ""
                out[label] = summary(found, delta)
                show(label, out[label])
    return out


def null(rng: np.random.Generator, seeds: int, sd: float, item: float, ratio: float, recorded: bool) -> Contrast:
    """One trial of nothing: Gaussian arms, and what the documents at hand happen to favour."""
    base, mix = rng.normal(0, sd, (2, seeds)), rng.normal(0, sd * ratio, seeds)
    prior = None
    if recorded:
        past = rng.normal(0, sd * math.sqrt(2), (5, 3))
        prior = Prior(math.sqrt(float(past.var(axis=1, ddof=1).mean())), 10)
    clusters = 300
    seen = item * math.sqrt(rng.chisquare(clusters - 1) / (clusters - 1))
    return contrast(
        base.mean(axis=0) - mix + rng.normal(0, item), spread=1.5, item_se=seen, clusters=clusters,
        aa=base[0] - base[1], prior=prior,
    )  # fmt: skip


def summary(found: Sequence[Contrast], delta: float) -> dict[str, float]:
    """Shares of trials; the coverage of 0 is that of any true effect, as intervals move with it."""
    low, high, estimate = (np.array([getattr(c, name) for c in found]) for name in ("low", "high", "estimate"))
    one = found[0]
    return {
        "trials": len(found),
        "excludes 0": float(((low > 0) | (high < 0)).mean()),
        "closer": float(((low > 0) & (estimate >= delta)).mean()),
        "farther": float(((high < 0) & (estimate <= -delta)).mean()),
        "coverage": float(((low <= 0) & (high >= 0)).mean()),
        "median half-width": float(np.median(high - low) / 2),
        "own seeds": float(np.mean([c.noise == "own seeds" for c in found])),
        "detectable": float(
            np.median(
                [detectable(c.sd, len(one.deltas), c.sd_degrees, c.se_item, c.item_degrees + 1) for c in found[:200]]
            )
        ),
    }


def show(label: str, x: Mapping[str, float]) -> None:
    print(
        f"{label:<70} excludes 0 {x['excludes 0']:6.2%}  closer {x['closer']:6.2%}  farther {x['farther']:6.2%}  "
        f"half-width {x['median half-width']:.2f}",
        flush=True,
    )


def with_documents() -> dict[str, Any]:
    """Trials down to their documents: long-tailed sizes, a true difference of each document, two targets, a bootstrap.

    The truth of a trial is 0 over all documents there are; those at hand favour one side by chance.
    """
    out = {}
    for name, count in (("one target of 200 documents", 1), ("two targets of 200 documents", 2)):
        rng = np.random.default_rng([7, count])
        found = []
        for i in range(NULLS // 3):
            targets = {str(t): documents(rng) for t in range(count)}
            found.append(panel.compare(targets, {"mix": MIX}, aa=AA, resamples=400, seed=i)["mix"].all)
        out[name] = summary(found, 3.0)
        show(name, out[name])
    return out


def documents(rng: np.random.Generator, n: int = 200, seeds: int = SEEDS) -> Target:
    """Costs of 200 documents: seeds move all of them (1.35 %), the mix moves each to either side (3 %)."""
    size = rng.lognormal(6, 0.8, n)
    taste = {"random": 0.0, "random'": 0.0, "mix": rng.normal(0, 0.03, n)}
    nats = {
        arm: size * (1 + rng.normal(0, 0.0135, (seeds, 1)) + rng.normal(0, 0.002, (seeds, n)) + mine)
        for arm, mine in taste.items()
    }
    return Target(nats=nats, clusters=np.arange(n))


def method() -> dict[str, Any]:
    """Coverage of a claim about a method, and of the plain interval, which leaves out that its mixes vary."""
    out = {}
    for mixes, between in ((3, 0.0), (3, 2.0), (3, 5.0), (5, 2.0)):
        rng = np.random.default_rng([11, mixes, int(between)])
        held = plain = 0
        for _ in range(1_000):
            shared = rng.normal(0, 1.35 * math.sqrt(0.5), (1, SEEDS))
            x = shared + rng.normal(0, between, (mixes, 1)) + rng.normal(0, 1.35, (mixes, SEEDS)) + rng.normal(0, 0.3)
            c = panel.method_contrast(x, item_se=0.3, clusters=300)
            held += c.low <= 0 <= c.high
            p = contrast(x.mean(axis=0), spread=1.5, item_se=0.3, clusters=300)
            plain += p.low <= 0 <= p.high
        label = f"{mixes} mixes whose means vary by {between:g} %"
        out[label] = {"coverage": held / 1_000, "coverage of seeds alone": plain / 1_000}
        print(f"method: {label}: coverage {held / 1_000:.1%}; of seeds alone {plain / 1_000:.1%}", flush=True)
    return out


# ----------------------------------------------------------------------------------------------------------- real text


def real(folder: Path, budget: int, rounds: int, trials: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A/A trials of the n-gram, and the multiplier's known answers."""
    pool, targets = measured.read_pool(folder), measured.read_targets(folder)
    drawn: list[tuple[int, dict[str, Target]]] = []
    answers: dict[str, list[multiplier.Multiplier]] = {}
    for round_ in range(rounds):
        chunks = measured.cut(pool, budget, seed=round_)
        runs = [measured.ngram_nats(chunk, targets) for chunk in chunks]
        rng = np.random.default_rng([round_, 1])
        for _ in range(trials):
            picked = rng.permutation(len(runs))[: 3 * SEEDS].reshape(3, SEEDS)
            drawn.append((round_, trial(runs, picked, targets)))
        if round_ < PLANTED:
            for name, m in planted(chunks, runs, targets, budget, round_).items():
                answers.setdefault(name, []).append(m)
        print(f"round {round_ + 1} of {rounds}: {len(chunks)} chunks", flush=True)
    return nulls(drawn, budget), told(answers)


def trial(runs: Sequence[Sequence[np.ndarray]], picked: np.ndarray, targets: Sequence[Any]) -> dict[str, Target]:
    arms = dict(zip(("random", "random'", "mix"), picked, strict=True))
    return {
        t.name: Target(nats={arm: np.array([runs[j][i] for j in at]) for arm, at in arms.items()}, clusters=t.clusters)
        for i, t in enumerate(targets)
    }


def nulls(drawn: Sequence[tuple[int, dict[str, Target]]], budget: int) -> dict[str, Any]:
    """What the trials say, with their own A/A noise, and with that of the other rounds on record."""
    setting = noise.Setting(
        metric="bpb", instrument="ngram", parameters=0, budget=budget, unit="bytes", hardware="any"
    )  # fmt: skip
    past = [panel.compare(targets, {"aa": AA}, resamples=50)["aa"] for _, targets in drawn]
    out: dict[str, Any] = {}
    for recorded in (False, True):
        found: dict[str, list[Contrast]] = {}
        for i, (round_, targets) in enumerate(drawn):
            priors: dict[str, Prior] = {}
            if recorded:
                others = {r: past[j] for j, (r, _) in enumerate(drawn) if r != round_}  # one of each other round
                for name in (*targets, "mean"):
                    entries = [
                        noise.record(setting, (x.all if name == "mean" else x.each[name]).deltas, of={"round": r})
                        for r, x in others.items()
                    ]
                    prior = noise.Registry([{**e, "id": journal.identity(e)} for e in entries]).prior(setting)
                    if prior is not None:
                        priors[name] = prior
            c = panel.compare(
                targets, {"mix": MIX}, aa=AA, prior=priors.get("mean"), priors=priors, resamples=1_000, seed=i
            )["mix"]  # fmt: skip
            for name, one in {**c.each, f"mean of {len(targets)}": c.all}.items():
                found.setdefault(name, []).append(one)
        for name, contrasts in found.items():
            label = f"{name}{', noise on record' if recorded else ''}"
            out[label] = summary(contrasts, 3.0)
            out[label]["A/A SD"] = float(
                np.sqrt(np.mean([np.var((x.each[name] if name in x.each else x.all).deltas, ddof=1) for x in past]))
            )
            show(label, out[label])
    return out


def planted(
    chunks: Sequence[Sequence[bytes]],
    runs: Sequence[Sequence[np.ndarray]],
    targets: Sequence[Any],
    budget: int,
    seed: int,
) -> dict[str, multiplier.Multiplier]:
    """The multiplier with D0 half a chunk, where the mix has a whole one, and where half of its documents are noise.

    As in a trial the baseline is the mean of two random draws, whose difference is pooled into the noise.
    """
    rng = np.random.default_rng([seed, 2])
    unit = budget // 2
    size = np.array([math.log(2) * t.size.sum() for t in targets])

    def bits(nats: Sequence[np.ndarray]) -> np.ndarray:
        """Bits per byte of each target, and their mean."""
        each = np.array([x.sum() for x in nats]) / size
        return np.append(each, each.mean())

    names = [*(t.name for t in targets), f"mean of {len(targets)}"]
    curves = np.empty((2, SEEDS, len(SCALES), len(names)))
    noisy, doubled = np.empty((SEEDS, len(names))), np.empty((SEEDS, len(names)))
    for s in range(SEEDS):
        for arm in range(2):
            j = arm * SEEDS + s
            for p, scale in enumerate(SCALES[:-1]):
                model = ngram.train(*measured.first(chunks[j], int(scale * unit)))
                curves[arm, s, p] = bits(measured.scored(model, targets))
            curves[arm, s, -1] = bits(runs[j])
        doubled[s] = bits(runs[2 * SEEDS + s])
        spoiled = [text if rng.random() < 0.5 else rng.bytes(len(text)) for text in chunks[3 * SEEDS + s]]
        noisy[s] = bits(measured.scored(ngram.train(*measured.first(spoiled, unit)), targets))
    out = {}
    both, here = curves.mean(axis=0), int(np.flatnonzero(SCALES == 1)[0])
    for i, target in enumerate(names):
        percent = 100 / both[:, here, i].mean()
        aa = percent * (curves[0, :, here, i] - curves[1, :, here, i])
        for name, mix in (("doubled", doubled[:, i]), ("noise", noisy[:, i])):
            like = contrast(percent * (both[:, here, i] - mix), spread=1.5, item_se=0.0, clusters=100, aa=aa)
            m = multiplier.from_seeds(SCALES, both[:, :, i], mix, like=like, seed=seed)
            out[f"{target}|{name}"] = m
            print(
                f"  multiplier, {target}, {name}: {m.estimate:.2f} ({m.low:.2f} to {m.high:.2f}), told as {m.text}; "
                f"{m.doubling:.1f} % a doubling",
                flush=True,
            )
    return out


def told(answers: Mapping[str, Sequence[multiplier.Multiplier]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, found in answers.items():
        target, kind = name.split("|")
        out.setdefault(target, {})[kind] = {
            "estimates": [m.estimate for m in found],
            "intervals": [[m.low, m.high] for m in found],
            "percent a doubling": float(np.mean([m.doubling for m in found])),
        }
    return out


if __name__ == "__main__":
    raise SystemExit(main())
