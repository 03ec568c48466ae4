"""What a trial sees where there is nothing to see, and where something was planted; what its jobs cost.

    python benchmarks/trial_nulls.py DATA [--mb 0.8 2 4] [--trials 20] [--transformer] [--target math]

DATA is a folder with ``pool.parquet`` (id, text, source) and ``targets.parquet`` (with domain and split). Prints, for
the n-gram and, if asked for, the transformer: the SD of the A/A difference, the documents' part of the error, bits per
byte, CPU seconds a job; the verdicts of trials whose mix is one more random draw; and of one whose mix was planted (all
the pool's documents of a source of the target's domain) and of its inverse. Each trial draws anew.
"""

import argparse
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import trial
from curate.trial import Trial

RELEVANT = {"math": "math_", "medical": "medical_", "python": "python_"}  # how sources of the domain begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--mb", type=float, nargs="*", default=[0.8])
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--target", nargs="*", default=list(RELEVANT))
    parser.add_argument("--transformer", action="store_true")
    parser.add_argument("--tokens", type=int, default=Trial.tokens)
    args = parser.parse_args()
    pool = pq.read_table(args.data / "pool.parquet", columns=["id", "text", "source"])
    targets = pq.read_table(args.data / "targets.parquet", columns=["id", "text", "source", "domain", "split", "group"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if args.transformer:
            train_tokenizer(pool, folder)
        for domain in args.target:
            for mb in args.mb:
                config = Trial(
                    instruments=("ngram", "transformer") if args.transformer else ("ngram",),
                    ngram_bytes=int(mb * 1e6), tokens=args.tokens,
                )  # fmt: skip
                given = {"target:test": write(folder / "test.parquet", target(targets, domain, "test"))}
                if args.transformer:
                    given["tokenizer"] = folder
                nulls(config, pool, given, folder, domain, args.trials)
                planted(config, pool, given, folder, domain)


def nulls(
    config: Trial, pool: pa.Table, given: dict[str, Path], folder: Path, domain: str, trials: int
) -> None:
    """Trials whose mix is a third random draw."""
    verdicts: Counter[str] = Counter()
    aa: dict[str, list[np.ndarray]] = {name: [] for name in config.instruments}
    rest: dict[str, list[tuple[float, ...]]] = {name: [] for name in config.instruments}
    need = trial.sample_bytes(config) // 2
    for t in range(trials):
        one, two, three = draws(pool, 3, need, seed=t)
        arms = {"random": one, "random'": two, "mix": three}
        found = carry_out(config, {**given, **{f"arm:{k}": write(folder / f"{k}.parquet", v) for k, v in arms.items()}})
        verdicts[found["verdicts"]["mix"]["verdict"].split(",")[0]] += 1
        for name, x in found["instruments"].items():
            aa[name].append(np.array(x["aa"]["deltas"]))
            cost = found["timing"][name]
            c = x["against"]["mix"]["random"]
            excludes = float(not c["low"] <= 0 <= c["high"])
            rest[name].append((
                x["baseline_bpb"], x["ngram_orders_bpb"][2], x["aa"]["se_item"] * found["documents"]["scored"] ** 0.5,
                cost["cpu_seconds"] / cost["jobs"], c["detectable"], excludes,
            ))  # fmt: skip
    for name in config.instruments:
        sd = np.sqrt(np.mean([x.var(ddof=1) for x in aa[name]]))
        bpb, third, item, seconds, detectable, excludes = np.mean(rest[name], axis=0)
        print(
            f"{domain} {name} {config.budget(name):,} {trial.UNIT[name]}: {bpb:.3f} BPB (3-gram {third:.3f}); "
            f"A/A SD {sd:.2f} %; a document's SD {item:.2f} %; detectable {detectable:.2f} %; "
            f"interval excludes 0 in {excludes:.0%} of {trials}; {seconds:.2f} CPU s a job",
            flush=True,
        )
    print(f"  verdicts on a third random draw: {dict(verdicts)}", flush=True)


def planted(config: Trial, pool: pa.Table, given: dict[str, Path], folder: Path, domain: str) -> None:
    """A mix of the domain's documents alone, and one without any."""
    relevant = pc.starts_with(pool["source"], RELEVANT[domain])
    need = trial.sample_bytes(config) // 2
    one, two = draws(pool, 2, need, seed=1_000)
    arms = {
        "random": one, "random'": two,
        "planted": draws(pool.filter(relevant), 1, need, seed=1_001)[0],
        "inverse": draws(pool.filter(pc.invert(relevant)), 1, need, seed=1_002)[0],
    }  # fmt: skip
    found = carry_out(config, {**given, **{f"arm:{k}": write(folder / f"{k}.parquet", v) for k, v in arms.items()}})
    for x in found["verdicts"].values():
        print(f"  {x['sentence']}", flush=True)


def carry_out(config: Trial, given: dict[str, Path]) -> dict[str, Any]:
    jobs = trial.jobs(config, given)
    return trial.conclude(config, jobs, [trial.work(job, config, given) for job in jobs], given)


def draws(pool: pa.Table, n: int, size: int, seed: int) -> list[pa.Table]:
    """Disjoint uniform draws of about ``size`` bytes each, or an equal share of the pool."""
    shuffled = pool.take(np.random.default_rng(seed).permutation(len(pool)))
    ends = np.cumsum(pc.binary_length(shuffled["text"]).to_numpy())
    size = min(size, int(ends[-1]) // n)
    cuts = [0, *(int(np.searchsorted(ends, size * (i + 1))) for i in range(n))]
    return [shuffled.slice(a, b - a) for a, b in pairwise(cuts)]


def write(path: Path, rows: pa.Table) -> Path:
    """The columns that a machine's sample has."""
    keys = [i.encode()[-16:].rjust(16) for i in rows["id"].to_pylist()]
    rows = rows.append_column("key", pa.array(keys, pa.binary(16)))
    pq.write_table(rows.append_column("text_bytes", pc.binary_length(rows["text"]).cast(pa.int64())), path)
    return path


def target(targets: pa.Table, domain: str, split: str) -> pa.Table:
    return targets.filter(pc.and_(pc.equal(targets["domain"], domain), pc.equal(targets["split"], split)))


def train_tokenizer(pool: pa.Table, folder: Path) -> None:
    """2048 tokens, from documents of the pool at random: no arm's own."""
    from curate import tokens

    sample = draws(pool, 1, 4_000_000, seed=2_000)[0]
    tokens.train_bpe(sample.select(["text"]), tokens.Bpe(), folder)


if __name__ == "__main__":
    main()
