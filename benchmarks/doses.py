"""Dose and response on real data: what a trial says of random mixes with a known share of relevant documents.

    python benchmarks/doses.py DATA [--domains math medical python] [--repeats 30] [--workers 2] [--mb 0.8]

DATA holds pool.parquet (id, text, source, ...) and targets.parquet (id, text, domain, split, group). Half of the
documents of the sources that are relevant to a domain (RELEVANT) stay in the pool, from which random draws come; a dose
of x % replaces x % of the bytes of such a draw by documents of the other half. For every domain, with the n-gram
instrument, 5 chunks of --mb MB an arm, through ``trial.jobs``, ``work`` and ``conclude`` as a recipe runs them:

    doses       trials of 1, 2, 5, 10 and 25 %: their mean gains are to rise with the dose
    power       trials of 10 % alone, drawn anew --repeats times: "closer to the target" in at least 80 %
    controls    one trial of the whole pool: a half of the relevant documents against the other half as its source
                control ("closer, explained by source mix"), and documents chosen by the difference of two n-grams'
                bits per byte (Moore and Lewis 2010) with the worst by it as their inverse (farther than random)

Prints a table, writes benchmarks/results/doses.json, a domain at a time; the exit status is 1 where a target is missed.
Cost: about 12 CPU minutes for all.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from targets import RELEVANT

from curate import trial
from curate.text import string_buffers
from curate.train import ngram
from curate.trial import Trial

RESULTS = Path(__file__).parent / "results"
DOSES = (1, 2, 5, 10, 25)
ROUNDS = 3  # trials of all doses
POWER, WANTED = 10, 0.8
SCORED = 20_000_000  # bytes of the pool that are ranked for the inverse


def main() -> int:
    """All domains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--domains", nargs="+", default=list(RELEVANT), choices=list(RELEVANT))
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--mb", type=float, default=0.8)
    parser.add_argument("--out", type=Path, default=RESULTS / "doses.json")
    given = parser.parse_args()
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    config = Trial(instruments=("ngram",), ngram_bytes=int(given.mb * 1e6), curve=False)
    missed = []
    # One process a job at a time, started afresh: a forked child of a process with threads may hang.
    with ProcessPoolExecutor(given.workers, get_context("spawn")) as pool:
        for domain in given.domains:
            began = time.perf_counter()
            found[domain] = one = domain_of(given.data, domain, config, given.repeats, pool)
            one |= {
                "seconds": round(time.perf_counter() - began), "settings": {"mb": given.mb, "repeats": given.repeats},
                "device": f"{platform.machine()}, {given.workers} workers", "python": platform.python_version(),
                "numpy": np.__version__, "experiment": trial.experiment.version,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
            }  # fmt: skip
            given.out.write_text(json.dumps(found, indent=1) + "\n")
            missed += [f"{domain}: {what}" for what, held in one["held"].items() if not held]
            tell(domain, one)
    for line in missed:
        print("MISSED", line)
    return 1 if missed else 0


def domain_of(data: Path, domain: str, config: Trial, repeats: int, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """All trials towards one domain."""
    documents = prepared(pq.read_table(data / "pool.parquet", columns=["id", "text", "source"]))
    is_relevant = pc.is_in(documents["source"], value_set=pa.array(RELEVANT[domain]))
    relevant = documents.filter(is_relevant)
    shares = shuffled(relevant, np.random.default_rng(3))
    doses, kept = shares.slice(0, len(shares) // 2), shares.slice(len(shares) // 2)
    others = pa.concat_tables([documents.filter(pc.invert(is_relevant)), kept])
    targets = pq.read_table(data / "targets.parquet", columns=["id", "text", "source", "domain", "split", "group"])
    targets = prepared(targets.filter(pc.equal(targets["domain"], domain)))
    test = targets.filter(pc.equal(targets["split"], "test"))
    size = int(1.1 * config.subsamples * config.ngram_bytes)

    def dosed(dose: int, draw: Iterator[pa.Table], rng: np.random.Generator) -> pa.Table:
        extra = take(shuffled(doses, rng), int(size * dose / 100)) if dose else doses.slice(0, 0)
        rest = take(next(draw), size - int(pc.sum(extra["text_bytes"]).as_py() or 0))
        return shuffled(pa.concat_tables([extra, rest]), rng)

    def one(percents: Sequence[int], seed: int) -> dict[str, Any]:
        rng = np.random.default_rng([seed, len(percents)])
        draw = disjoint(shuffled(others, rng), size)
        arms = {"random": dosed(0, draw, rng), "random'": dosed(0, draw, rng)}
        arms |= {f"dose{d:02}": dosed(d, draw, rng) for d in percents}
        return carry_out(config, arms, test, pool)

    responses = []
    for seed in range(ROUNDS):
        verdicts = one(DOSES, seed)["verdicts"]
        responses.append([verdicts[f"dose{d:02}"]["estimate"] for d in DOSES])
    response = np.mean(responses, axis=0)
    power = [one((POWER,), 1_000 + seed) for seed in range(repeats)]
    words = [c["verdicts"][f"dose{POWER}"]["verdict"] for c in power]
    controls = controls_of(config, documents, relevant, targets, test, pool)
    improved = sum(word == "closer to the target" for word in words) / len(words)
    return {
        "doses": list(DOSES), "response": response.round(2).tolist(), "rounds": np.round(responses, 2).tolist(),
        "improved": improved, "estimates": [round(c["verdicts"][f"dose{POWER}"]["estimate"], 2) for c in power],
        "words": {word: words.count(word) for word in sorted(set(words))},
        "aa_sd": round(float(np.sqrt(np.mean([np.var(aa(c), ddof=1) for c in power]))), 2), **controls,
        "held": {
            "the response rises with the dose": bool((np.diff(response) > 0).all() and response[0] > 0),
            f"{POWER} % is improved in at least {WANTED:.0%}": improved >= WANTED,
            "all relevant is explained by source mix": controls["all"] == "closer, explained by source mix",
            "the inverse is farther": controls["inverse"][2] < 0,
        },
    }  # fmt: skip


def controls_of(
    config: Trial, documents: pa.Table, relevant: pa.Table, targets: pa.Table, test: pa.Table, pool: ProcessPoolExecutor
) -> dict[str, Any]:
    """All relevant documents against their source control; the best and the worst by a score against random."""
    rng = np.random.default_rng(7)
    halves = shuffled(relevant, rng)
    middle = int(np.searchsorted(np.cumsum(halves["text_bytes"].to_numpy()), halves["text_bytes"].to_numpy().sum() / 2))
    size = int(1.1 * config.subsamples * config.ngram_bytes)
    draw = disjoint(shuffled(documents, rng), SCORED)
    ranked, rest = next(draw), next(draw)
    train = targets.filter(pc.equal(targets["split"], "train"))
    sample = take(shuffled(ranked, rng), int(pc.sum(train["text_bytes"]).as_py()))
    near, far = (ngram.train(*string_buffers(t["text"])) for t in (train, sample))
    text = string_buffers(ranked["text"])
    saved = (ngram.nats(far, *text)[-1] - ngram.nats(near, *text)[-1]) / ranked["text_bytes"].to_numpy()
    order = np.argsort(-saved, kind="stable")
    apart = disjoint(shuffled(rest, rng), size)
    arms = {
        "random": next(apart), "random'": next(apart), "all": halves.slice(0, middle),
        "source_matched:all": halves.slice(middle), "chosen": shuffled(take(ranked.take(order), size), rng),
        "inverse:chosen": shuffled(take(ranked.take(order[::-1]), size), rng),
    }  # fmt: skip
    found = carry_out(config, arms, test, pool)
    inverse = found["verdicts"]["chosen"]["inverse"]
    return {
        "all": found["verdicts"]["all"]["verdict"], "all_saved": round(found["verdicts"]["all"]["estimate"], 2),
        "chosen": found["verdicts"]["chosen"]["verdict"],
        "chosen_saved": round(found["verdicts"]["chosen"]["estimate"], 2),
        "inverse": [round(inverse[k], 2) for k in ("estimate", "low", "high")], "alarms": found["alarms"],
        "controls_budget": found["foresight"]["ngram"]["budget"],
    }  # fmt: skip


def carry_out(config: Trial, arms: Mapping[str, pa.Table], test: pa.Table, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """One trial, its jobs in several processes."""
    with tempfile.TemporaryDirectory(prefix="doses-") as folder:
        inputs = {"target:test": Path(folder) / "test.parquet"}
        pq.write_table(test, inputs["target:test"])
        for i, (name, table) in enumerate(arms.items()):
            inputs[f"arm:{name}"] = Path(folder) / f"{i}.parquet"
            pq.write_table(table, inputs[f"arm:{name}"], row_group_size=2_000)
        jobs = trial.jobs(config, inputs)
        results = list(pool.map(trial.work, jobs, [config] * len(jobs), [inputs] * len(jobs)))
        return trial.conclude(replace(config), jobs, results, inputs)


def aa(conclusion: Mapping[str, Any]) -> list[float]:
    """The A/A differences of a trial's seeds."""
    return list(conclusion["instruments"]["ngram"]["aa"]["deltas"])


def prepared(table: pa.Table) -> pa.Table:
    """Rows as a sample has them; the key is the row's number, as ids may repeat."""
    keys = pa.array([i.to_bytes(16, "big") for i in range(len(table))], pa.binary(16))
    table = table.set_column(table.schema.get_field_index("text"), "text", table["text"].cast(pa.large_string()))
    table = table.append_column("key", keys)
    return table.append_column("text_bytes", pc.binary_length(table["text"]).cast(pa.int64()))


def shuffled(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Rows in a random order."""
    return table.take(pa.array(rng.permutation(len(table))))


def take(table: pa.Table, size: int) -> pa.Table:
    """The first rows, until they hold so many bytes."""
    return table.slice(0, int(np.searchsorted(np.cumsum(table["text_bytes"].to_numpy()), size)) + 1)


def disjoint(table: pa.Table, size: int) -> Iterator[pa.Table]:
    """Consecutive pieces of so many bytes, the last one smaller; after the end it begins anew."""
    at = 0
    while True:
        piece = take(table.slice(at), size)
        yield piece
        at = at + len(piece) if at + len(piece) < len(table) else 0


def tell(domain: str, one: Mapping[str, Any]) -> None:
    """A domain's lines."""
    response = ", ".join(f"{d} % {r:+.2f} %" for d, r in zip(one["doses"], one["response"], strict=True))
    print(f"{domain}: {response}; A/A noise {one['aa_sd']} %; {one['seconds']} s")
    said = ", ".join(f"{n} x {w}" for w, n in one["words"].items())
    print(f"  {POWER} %: {said}")
    print(f"  all relevant: {one['all']} ({one['all_saved']:+.2f} %)")
    print(f"  chosen: {one['chosen']} ({one['chosen_saved']:+.2f} %)")
    print(f"  inverse: {one['inverse'][0]:+.2f} % ({one['inverse'][1]:+.2f} to {one['inverse'][2]:+.2f})", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
