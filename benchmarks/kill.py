"""The kill test: SIGKILL to the whole process group at instants spread over a run, then resume, on both engines.

    python benchmarks/kill.py pipelines/quickstart.py --instants 20 --set source=pool.parquet ...

An undisturbed run gives the reference and its duration. Then, for each engine, one store is used: the run is started
and killed at a random-looking instant, again and again, each time a little further in; after the last kill it is
resumed to the end. The value hashes must equal the reference's, and one more run must compute nothing, in under 3
seconds. Writes benchmarks/results/kill.json.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PROGRAM = "from curate.cli import main; main()"


def start(pipeline: str, sets: list[str], engine: str, store: Path) -> subprocess.Popen:
    """A run in a process group of its own."""
    flags = ["--engine", engine, *(["--workers", "2"] if engine == "dask" else [])]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", pipeline, *flags, *sets, "--out", str(store)],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """Wait for the end of a run that must succeed; what it printed."""
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a run failed with exit code {process.returncode}:\n{out}")
    return out


def values_of(store: Path) -> str:
    """The value hash of the only run in a store."""
    [path] = store.glob("runs/*/manifest.json")
    return json.loads(path.read_text())["values"]


def without_folders(setting: str) -> str:
    """A setting without the folders of a path in it, which are this machine's own."""
    name, _, value = setting.partition("=")
    return f"{name}={value.rsplit('/', 1)[-1]}"


def main() -> int:
    """0 where every engine ends with the reference's hashes and a further run computes nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--instants", type=int, default=20)
    arguments = parser.parse_args()
    sets = [part for s in arguments.sets for part in ("--set", s)]
    report, good = {}, True
    with tempfile.TemporaryDirectory(prefix="kill-") as scratch:
        began = time.perf_counter()
        finish(start(arguments.pipeline, sets, "local", Path(scratch) / "reference"))
        duration = time.perf_counter() - began
        reference = values_of(Path(scratch) / "reference")
        print(f"undisturbed: {reference}, {duration:.0f} s", flush=True)
        for engine in ("local", "dask"):
            store = Path(scratch) / engine
            killed = 0
            for i in range(arguments.instants):
                # Progress survives each kill, so equal pieces of the run's own time sweep over all of it.
                wait = 2.5 + duration / arguments.instants * (0.5 + (i * 7 % 10) / 10)
                process = start(arguments.pipeline, sets, engine, store)
                try:
                    process.wait(timeout=wait)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    killed += 1
            finish(start(arguments.pipeline, sets, engine, store))
            values = values_of(store)
            began = time.perf_counter()
            again = finish(start(arguments.pipeline, sets, engine, store))
            seconds = time.perf_counter() - began
            said = "nothing to compute" in again
            good &= values == reference and said and seconds < 3
            report[engine] = {
                "kills": killed,
                "values": values,
                "same": values == reference,
                "further_run_computes_nothing": said,
                "further_run_seconds": round(seconds, 2),
            }
            print(f"{engine}: {report[engine]}", flush=True)
    RESULTS.joinpath("kill.json").write_text(
        json.dumps(
            {
                "pipeline": arguments.pipeline,
                "sets": [without_folders(s) for s in arguments.sets],
                "undisturbed_seconds": round(duration, 1),
                "reference": reference,
                "engines": report,
            },
            indent=1,
        )
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
