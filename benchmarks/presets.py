"""How long a trial takes by the clock, preset by preset, on real documents.

    python benchmarks/presets.py --pool POOL.parquet --targets TARGETS.parquet [--domain medical] [--presets quick cpu]
                                 [--workers 2]

``POOL`` has the columns ``text`` and ``domain``, ``TARGETS`` those and ``split``. The mix that is judged is the pool's
documents of one domain, against the pool, on the target's documents of that domain: a verdict that is known beforehand,
so a run that decides otherwise is wrong. Each preset has a fresh store, and is the command of docs/trial.md:

    curate trial mix=MIX --against POOL --target TARGET --split-column split --preset PRESET --workers N

Prints a line a preset and writes benchmarks/results/presets.json: seconds by the clock and of CPU, workers, versions.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

RESULTS = Path(__file__).parent / "results"
PROGRAM = "from curate.cli import main; main()"


def timed(inputs: Path, pool: Path, preset: str, workers: int) -> dict[str, Any]:
    """One run in a fresh store."""
    with tempfile.TemporaryDirectory(prefix="preset-") as store:
        command = [
            sys.executable, "-c", PROGRAM, "trial", f"mix={inputs / 'mix.parquet'}", "--against", str(pool),
            "--target", str(inputs / "target.parquet"), "--split-column", "split", "--preset", preset,
            "--workers", str(workers), "--out", store,
        ]  # fmt: skip
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{preset} failed with exit code {done.returncode}:\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = ("ngram:", "transformer:", "mix:")
    said = [line.strip() for line in done.stdout.splitlines() if line.startswith(told)]
    return {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), "said": said}


def main() -> None:
    """Every preset once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--targets", type=Path, required=True)
    parser.add_argument("--domain", default="medical")
    parser.add_argument("--presets", nargs="+", default=["quick", "cpu"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "presets.json")
    args = parser.parse_args()
    report: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": {"machine": platform.machine(), "cores": os.cpu_count(), "load_before": os.getloadavg()[0]},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("curate", "torch")}},
        "domain": args.domain, "workers": args.workers, "presets": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="presets-") as scratch:
        inputs = Path(scratch)
        of_domain = pl.col("domain") == args.domain
        pl.read_parquet(args.pool).filter(of_domain).write_parquet(inputs / "mix.parquet")
        pl.read_parquet(args.targets).filter(of_domain).write_parquet(inputs / "target.parquet")
        for preset in args.presets:
            found = timed(inputs, args.pool, preset, args.workers)
            report["presets"][preset] = found
            print(f"{preset:10s} {found['seconds']:8.1f} s by the clock {found['cpu_seconds']:8.1f} of CPU", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
