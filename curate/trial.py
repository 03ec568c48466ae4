"""The experiment: small models trained on a mix and on its baselines, and the verdict, with noise counted.

The question is narrow: at equal budgets, does training on this mix instead of a random draw lower the bits per byte on
documents of the target, by more than ``delta`` and by more than noise? What is measured is that a small model gets
closer to the target's text; nothing here says that a model is better.

Arms (inputs ``arm:NAME``; samples in keyed-hash order):

    random, random'            two uniform draws from the pool: their mean is the baseline, they are the A/A test
    length_matched             random, with the mix's distribution of lengths: is a score length in disguise?
    source_matched             random, with the mix's shares of sources: the mix, or the choice within sources?
    conditional_only           chosen by the conditional model's loss alone: is the contrast of two models needed?
    anything else              a mix. With several mixes a control names its own: ``length_matched:MIX``

Other inputs: ``target:test`` (and ``target:train``, ``target:validation``), which are scored or searched for leaks, and
the directory ``tokenizer``.

Instruments:

    0  composition: lengths, sources, compression, copies; which test documents the arm holds. Always.
    1  an interpolated byte n-gram (curate.train.ngram). Budget in bytes; no training noise; carries the controls.
    2  a small transformer over a shared BPE tokenizer. Budget in tokens. Byte n-grams trained on the very same text
       stand beside it, and an instrument that is worse than order 3 gives no verdict.

The steps: ``jobs`` cuts each arm into disjoint consecutive chunks, one a seed, of equal bytes (equal tokens) across
arms; an arm that cannot fill its chunks shrinks the budget of all. ``work`` trains on one chunk and returns every
test document's nats. ``conclude`` draws the verdict (curate.train.statistics): interval from both error sources, A/A
noise pooled in.

    no verdict                     the A/A test, the leak check or an instrument failed, or there are too few seeds
    closer to the target           interval above 0, estimate at least delta, and the mix beats its controls
    closer, explained by ...       the same without beating the length-matched or source-matched control
    farther from the target        interval below 0, estimate at most -delta
    equivalent within delta        interval inside (-delta, delta)
    inconclusive, n seeds needed   anything else; also where the other instrument has the other sign

Whatever is trained on or selected by is searched for the scored documents. One that stands in an arm as a whole is a
leak, and there is no verdict. The guard is stricter and is told with every verdict: it holds where no document of any
arm, or of ``target:train``, shares 13 words in a row with a scored document, and names how many do where it does not.

The first instrument decides and the others must agree in sign, so a second instrument can only take a verdict away.
Several mixes share the 5 %: with k mixes each interval has level 1 - .05 / k.

Cost, one core: about a second an n-gram job of 2 MB, 10 seconds a transformer job of 300,000 tokens; ``jobs`` tokenises
what the transformer will read, about a second an arm.
Elsewhere: which rows make an arm (select.py, and the recipe that calls it).
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curate.artifact import Experiment
from curate.errors import BadInput
from curate.stage import Needs, Numerics
from curate.trials.arms import arms_of, trained
from curate.trials.composition import describe_input
from curate.trials.cutting import plan_of, read
from curate.trials.foresight import foresight, foresight_lines
from curate.trials.lines import lines
from curate.trials.metrics import evaluation
from curate.trials.ngrams import ngram_job
from curate.trials.settings import Trial, check, sample_bytes
from curate.trials.transformers import transformer_job
from curate.trials.verdict import CAVEATS, GUARD_FIX, UNTESTED, caveats_of, guard_of, leak_of, measure, verdict_of

__all__ = ["Trial", "conclude", "experiment", "foresight", "foresight_lines", "jobs", "lines", "sample_bytes", "work"]

log = logging.getLogger(__name__)


def jobs(config: Trial, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """One job a composition, then one an (instrument, seed, arm): every finished seed is a complete replicate.

    Raises:
        BadPlan: fewer than two seeds, an unknown instrument, an arm missing.
        BadInput: fewer than 50 documents to score, or an arm too small to be cut.
        MissingExtra: the transformer without its packages.
    """
    check(config)
    mixes, controls = arms_of(inputs)
    documents = evaluation(config, inputs)
    plans = {name: plan_of(name, config, trained(name, mixes, controls), inputs) for name in config.instruments}
    if "transformer" in plans and plans["transformer"].budget <= config.batch * config.context:
        raise BadInput(
            f"{plans['transformer'].budget} tokens do not fill one step of the transformer", where="trial inputs",
            fix="give the arms more documents",
        )  # fmt: skip
    first = plans[config.instruments[0]]
    todo: list[dict[str, Any]] = []
    for name in sorted(inputs):
        kind, _, arm = name.partition(":")
        if kind == "arm":
            cuts = first.cuts.get(arm)
            rows = cuts[-1][1] if cuts else 0  # a control that the first instrument does not train on is only searched
            todo.append({"instrument": "composition", "input": name, "rows": rows, "without": first.without(arm)})
        elif kind == "target":
            todo.append({"instrument": "composition", "input": name, "rows": None, "without": 0})
    for name, plan in plans.items():
        for seed in range(config.repeats(name)):
            for arm, cuts in plan.cuts.items():
                start, stop = cuts[seed]
                todo.append({
                    "instrument": name, "arm": arm, "seed": seed, "start": start, "stop": stop,
                    "budget": plan.budget, "without": plan.without(arm),
                })  # fmt: skip
    for line in foresight_lines(foresight(config, todo, len(documents))):
        log.info(line)
    return todo


def work(job: dict[str, Any], config: Trial, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Carry out one job; one that trains returns ``nats`` and ``bytes`` of every test document."""
    started = time.process_time()
    if job["instrument"] == "composition":
        return describe_input(job, config, inputs)
    rows = read(inputs, f"arm:{job['arm']}", ["text"], job["start"], job["stop"], job["without"])["text"]
    documents = evaluation(config, inputs)["text"]
    out = (ngram_job if job["instrument"] == "ngram" else transformer_job)(job, config, inputs, rows, documents)
    return {**out, "timing": {"cpu_seconds": time.process_time() - started}}


def conclude(
    config: Trial, jobs: list[dict[str, Any]], results: list[dict[str, Any]], inputs: Mapping[str, Path]
) -> dict[str, Any]:
    """The verdict on every mix, with all that it rests on; JSON-able.

    Raises:
        BadData: results whose budgets differ between arms, or that scored other documents.
    """
    mixes, controls = arms_of(inputs)
    cluster = evaluation(config, inputs)["cluster"].to_numpy()
    composition = {
        job["input"]: result for job, result in zip(jobs, results, strict=True) if job["instrument"] == "composition"
    }
    leak = leak_of(composition, len(cluster))
    guard = guard_of(leak["found"], config)
    instruments = {
        name: measure(
            name, config, mixes, controls, cluster,
            [(job, result) for job, result in zip(jobs, results, strict=True) if job["instrument"] == name],
        )
        for name in config.instruments
    }  # fmt: skip
    verdicts = {mix: verdict_of(mix, config, controls, instruments, leak) for mix in mixes}
    caveats = [*CAVEATS, *caveats_of(mixes, controls, config, instruments, leak, composition)]
    caveats += [] if guard["guarded"] else [f"{guard['sentence']} {GUARD_FIX}"]
    return {
        "sentence": " ".join(v["sentence"] for v in verdicts.values()),
        "verdicts": verdicts,
        "foresight": foresight(config, jobs, len(cluster)),
        "instruments": instruments,
        "composition": composition,
        "leak": leak,
        "guard": guard,
        "documents": {"scored": len(cluster), "clusters": int(cluster.max()) + 1},
        "caveats": caveats,
        "not_tested": list(UNTESTED),
        "settings": asdict(config),
        "timing": {
            name: {"jobs": len(seconds), "cpu_seconds": sum(seconds)}
            for name in config.instruments
            for seconds in [
                [r["timing"]["cpu_seconds"] for j, r in zip(jobs, results, strict=True) if j["instrument"] == name]
            ]
        },
    }


experiment = Experiment(
    jobs=jobs, work=work, conclude=conclude, reads={}, needs=Needs(alone=True, extras=("train",)),
    numerics=Numerics(device="cpu", dtype="float32", threads=1, batch="one run a process"), version="3",
)  # fmt: skip
