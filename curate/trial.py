"""The experiment: small models trained on a mix and on its baselines, and the verdict, with noise counted.

The question is narrow: at equal budgets, does training on this mix instead of a random draw lower the bits per byte on
documents of the target, by more than ``delta`` and by more than noise? What is measured is that a small model gets
closer to the target's text; nothing here says that a model is better.

Arms (inputs ``arm:NAME``; samples in keyed-hash order):

    random, random'            two uniform draws from the pool: their mean is the baseline, they are the A/A test
    length_matched             random, with the mix's distribution of lengths: is a score length in disguise?
    source_matched             random, with the mix's shares of sources: the mix, or the choice within sources?
    conditional_only           chosen by the conditional model's loss alone: is the contrast of two models needed?
    inverse                    the worst documents instead of the best: must not beat random, or an alarm is told
    reference, reference:NAME  another choice, shown beside the mix for calibration and never judged
    anything else              a mix. NAME@1, NAME@2, NAME@3: mixes that one method chose anew, by which it is judged

With several mixes a control or an inverse names its own: ``length_matched:MIX``. A control that cannot fill half of
what the other arms can is left out, and said.

What is scored (curate.trials.metrics); one primary number is declared before anything is trained, all else is Holm's:

    target:SPLIT               P2, documents of the target; or target:NAME/SPLIT, several, each counted once
    tasks                      P1, gold answers of a directory of JSON-lines tasks; primary with ``primary="tasks"``
    transfer:NAME              documents of what one hopes to gain as well, beside the verdict
    guard:NAME                 documents of other domains: one that loses more than 2 delta is a cost, named beside it

Other inputs: the target's other splits, searched for leaks; the directory ``tokenizer``; or the directory ``base``, a
model to start from with its own tokenizer, with ``replay``, documents that stand for what it was trained on.

Instruments:

    0  composition: lengths, sources, compression, copies; which test documents the arm holds. Always.
    1  an interpolated byte n-gram (curate.train.ngram). Budget in bytes; no training noise.
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

On a GPU (``device="cuda"``, presets ``screen``, ``standard``, ``deep``, ``curve``, ``anneal``) the words are better and
worse, and delta is .3 %.

Whatever is trained on or selected by is searched for the scored documents. One that stands in an arm as a whole is a
leak, and there is no verdict. The guard is stricter and is told with every verdict: it holds where no document of any
arm, or of ``target:train``, shares 13 words in a row with a scored document, and names how many do where it does not.

The first instrument decides and carries the controls, and the others must agree in sign, so a second instrument can
only take a verdict away. Several mixes share the 5 %: with k mixes each interval has level 1 - .05 / k. The ledger
counts how often a test set was used and asks for a higher ``level`` after the first.

Chats and the like: a sample may have a column ``spans`` (curate.trials.masks), and what its spans mask is read, and
neither learned nor scored.

*Epoch-matched trials*: see ``final_tokens`` and curate.trials.cutting. *Multiplier*: the first instrument also learns
from a quarter, half and twice as much of the baseline, and the gain is read off that curve as a multiple of data.

Cost, one core: about a second an n-gram job of 2 MB, 10 seconds a transformer job of 300,000 tokens; ``jobs`` tokenises
what the transformer will read, about a second an arm.
Beside the conclusion stands what every run paid for every document (curate.trials.keeping), so that all of this can be
computed again without training.

Elsewhere: which rows make an arm (select.py, and the recipe that calls it); all of the work (curate/trials).
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from curate.artifact import Experiment
from curate.errors import BadInput, BadPlan
from curate.stage import Needs, Numerics
from curate.trials import masks, told
from curate.trials.arms import BASELINES, arms_of
from curate.trials.composition import composition_job, searched
from curate.trials.cutting import REPLAY, Chunks, plan_of, repeated_of, share_of
from curate.trials.foresight import foresight, foresight_lines
from curate.trials.keeping import kept
from curate.trials.lines import lines
from curate.trials.measuring import SCALES, flat, measure
from curate.trials.metrics import primary_of, scored_of
from curate.trials.ngrams import ngram_job
from curate.trials.settings import PRESETS, Trial, check, sample_bytes, vocabulary
from curate.trials.transformers import BASE, check_base, transformer_job, transformer_jobs
from curate.trials.verdict import (
    GUARD_FIX,
    caveats_of,
    guard_of,
    leak_of,
    masked_of,
    methods_of,
    undrawn_of,
    unlike_of,
    untested_of,
    verdict_of,
)

__all__ = [
    "PRESETS", "Trial", "check", "conclude", "experiment", "experiment_for", "experiment_gpu", "foresight",
    "foresight_lines", "jobs", "lines", "sample_bytes", "vocabulary", "work",
]  # fmt: skip

log = logging.getLogger(__name__)


def jobs(config: Trial, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """One job a composition, then one an (instrument, seed, arm): every finished seed is a complete replicate.

    On a GPU a job holds all runs of a seed, so that a process starts and compiles once for them, and small ones train
    in lockstep (curate.train.stack).

    Raises:
        BadPlan: fewer than two seeds, an unknown instrument, an arm missing, a base without what belongs to it.
        BadInput: fewer than 50 documents to score, an arm too small to be cut, or spans that do not fit their text.
        MissingExtra: the transformer without its packages.
    """
    check(config)
    arms = arms_of(inputs)
    _check_base(config, inputs)
    told.check(config, arms.trained(True), inputs)
    masks.check(inputs)
    scored = scored_of(config, inputs)
    plans = {
        name: plan_of(
            name, config, arms.only(()).trained(i == 0), inputs, controls=[*arms.controls] if i == 0 else []
        )
        for i, name in enumerate(config.instruments)
    }  # fmt: skip
    if "transformer" in plans and plans["transformer"].budget <= config.batch * config.context:
        raise BadInput(
            f"{plans['transformer'].budget} tokens do not fill one step of the transformer", where="trial inputs",
            fix="give the arms more documents",
        )  # fmt: skip
    first = plans[config.instruments[0]]
    for arm in first.left_out:
        log.info("%s is left out: the pool holds too few such documents", arm)
    arms = arms.only(first.cuts)
    todo: list[dict[str, Any]] = []
    for name in sorted(inputs):
        kind, _, arm = name.partition(":")
        if arm in first.left_out and kind == "arm":
            continue
        if kind == "arm":
            rows = first.cuts[arm][-1][1]
            todo.append({"instrument": "composition", "input": name, "rows": rows, "without": first.without(arm)})
        elif kind == "target" or searched(name, config):
            todo.append({"instrument": "composition", "input": name, "rows": None, "without": 0})
    for name, plan in plans.items():
        curve = config.curve and plan is first and all(r.epochs == 1 for r in plan.repeated.values())
        for seed in range(config.repeats(name)):
            runs = _runs(arms.trained(plan is first), seed, plan, curve)
            shared = {"instrument": name, "seed": seed, "budget": plan.budget}
            todo += [{**shared, "runs": runs}] if config.device == "cuda" else [{**shared, **run} for run in runs]
    for line in foresight_lines(foresight(config, todo, sum(len(s.items) for s in primary_of(config, scored)))):
        log.info(line)
    return todo


def _check_base(config: Trial, inputs: Mapping[str, Path]) -> None:
    """A base needs its instrument, and a share of replay its documents."""
    if BASE in inputs and config.instruments != ("transformer",):
        raise BadPlan(
            "the n-gram cannot start from a base", where="Trial.instruments", fix='instruments=("transformer",)'
        )
    if BASE in inputs:
        check_base(config, inputs)
    if (config.share < 1) != (REPLAY in inputs) or (config.share < 1 and BASE not in inputs):
        raise BadPlan(
            f"share {config.share} with the inputs {', '.join(sorted(inputs))}", where="Trial.share",
            fix="a share below 1 needs the inputs 'base' and 'replay', and 'replay' needs a share below 1",
        )  # fmt: skip


def _runs(arms: list[str], seed: int, plan: Chunks, curve: bool) -> list[dict[str, Any]]:
    """What is trained at one seed: every arm, and the baseline at other scales of the budget."""
    runs = [plan.run(arm, seed) for arm in arms]
    if not curve:
        return runs
    random, again = (plan.run(arm, seed) for arm in BASELINES)
    for scale in SCALES:
        budget = int(plan.budget * scale)
        if scale < 1:
            runs += [{**run, "scale": scale, "budget": budget} for run in (random, again)]
        else:
            runs.append({**random, "and": again, "scale": scale, "budget": budget})
    return runs


def work(job: dict[str, Any], config: Trial, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Carry out one job; a run returns ``nats`` and ``bytes`` of everything scored (curate.trials.metrics)."""
    scored = scored_of(config, inputs)
    if job["instrument"] == "composition":
        return composition_job(job, config, inputs, scored)
    if "runs" not in job:
        return _run(job, job, config, inputs, scored)
    runs = [{**job, **run} for run in job["runs"]]
    if job["instrument"] == "ngram":
        return {"runs": [_run(job, run, config, inputs, scored) for run in runs]}
    started = time.process_time()
    shares = [(partial(share_of, run, config, inputs), run["budget"]) for run in runs]
    done = transformer_jobs(shares, job["seed"], config, inputs, scored)
    timing = {"cpu_seconds": (time.process_time() - started) / len(done)}
    return {"runs": [{**out, "timing": timing} for out in done]}


def _run(
    job: Mapping[str, Any], run: Mapping[str, Any], config: Trial, inputs: Mapping[str, Path], scored: Any
) -> dict[str, Any]:
    """Train and score one chunk."""
    started = time.process_time()
    share = share_of(run, config, inputs)
    if job["instrument"] == "ngram":
        out = ngram_job(share, run["budget"], config, inputs, scored)
    else:
        out = transformer_job(share, run["budget"], run["seed"], config, inputs, scored)
    return {**out, "timing": {"cpu_seconds": time.process_time() - started}}


def conclude(
    config: Trial, jobs: list[dict[str, Any]], results: list[dict[str, Any]], inputs: Mapping[str, Path]
) -> dict[str, Any]:
    """The verdict on every mix, with all that it rests on; JSON-able.

    Raises:
        BadData: results whose budgets differ between arms, or that scored other documents.
    """
    asked = arms_of(inputs)
    arms = asked.only({run["arm"] for run, _ in flat(jobs, results, config.instruments[0])})
    scored = scored_of(config, inputs)
    decides = primary_of(config, scored)
    items = sum(len(s.items) for s in decides)
    composition = {
        job["input"]: result for job, result in zip(jobs, results, strict=True) if job["instrument"] == "composition"
    }
    leak = leak_of(composition, items)
    guard = guard_of(leak["found"], config)
    runs = {name: flat(jobs, results, name) for name in config.instruments}
    instruments = {name: measure(name, config, arms, scored, runs[name]) for name in config.instruments}
    repeated = repeated_of(config, arms.trained(True), inputs)
    verdicts = {mix: verdict_of(mix, config, arms, instruments, leak) for mix in arms.mixes}
    failed = bool(leak["alarm"]) or any(x["no_verdict"] for x in instruments.values())
    methods = methods_of(config, instruments, failed)
    caveats = caveats_of(asked, arms, config, scored, instruments, leak, repeated)
    caveats += [*undrawn_of(asked, arms), *unlike_of(arms, composition), *masked_of(composition, scored)]
    caveats += told.caveats(config, inputs)
    caveats += [] if guard["guarded"] else [f"{guard['sentence']} {GUARD_FIX}"]
    sentences = [*(v["sentence"] for v in verdicts.values()), *(m["sentence"] for m in methods.values())]
    return {
        "sentence": " ".join(sentences),
        "verdicts": verdicts,
        "methods": methods,
        "alarms": [alarm for v in verdicts.values() for alarm in v["alarms"]],
        "foresight": foresight(config, jobs, items),
        "instruments": instruments,
        "composition": composition,
        "leak": leak,
        "guard": guard,
        "scored": [
            {"kind": s.kind, "name": s.name, "documents": s.count, "items": len(s.items), "bytes": int(s.sizes.sum())}
            for s in scored
        ],
        "test_sets": {f"{s.kind}:{s.name}": s.content() for s in decides},
        "epochs": {arm: asdict(r) for arm, r in repeated.items()},
        "documents": {"scored": items, "clusters": sum(int(s.clusters.max()) + 1 for s in decides)},
        "caveats": caveats,
        "not_tested": untested_of(scored, instruments),
        "settings": asdict(config),
        "timing": {
            name: {"jobs": len(done), "cpu_seconds": sum(result["timing"]["cpu_seconds"] for _, result in done)}
            for name, done in runs.items()
        },
    }


experiment = Experiment(
    jobs=jobs, work=work, conclude=conclude, reads={}, takes=(masks.SPANS, told.METADATA), tables=kept,
    needs=Needs(alone=True, extras=("train",)),
    numerics=Numerics(device="cpu", dtype="float32", threads=1, batch="one run a process"), version="10",
)  # fmt: skip
experiment_gpu = Experiment(
    jobs=jobs, work=work, conclude=conclude, reads={}, takes=(masks.SPANS, told.METADATA), tables=kept,
    needs=Needs(gpus=1, alone=True, extras=("train",)),
    numerics=Numerics(device="cuda", dtype="bfloat16", threads=1, batch="one seed a process"), version="10",
)  # fmt: skip


def experiment_for(config: Trial) -> Experiment:
    """The experiment of a trial's device: the same steps, with what they need and the numbers they compute in."""
    return experiment_gpu if config.device == "cuda" else experiment
