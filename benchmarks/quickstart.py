"""What the quickstart takes and what comes out, in a fresh store.

    python benchmarks/quickstart.py                                          # as declared in configs/quickstart.toml
    python benchmarks/quickstart.py --config configs/quickstart.numpy.toml   # the harder target

Runs the pipeline on 2 Dask workers, samples the memory of all its processes, and writes
benchmarks/results/NAME.json, NAME being the configuration's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scale import PROGRAM, RESULTS, Watching


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/quickstart.toml"))
    parser.add_argument("--store", type=Path, help="keep the run here (default: a temporary directory)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quickstart-") as scratch:
        store = arguments.store or Path(scratch)
        command = [sys.executable, "-c", PROGRAM, "run", "pipelines/quickstart.py", "--config", str(arguments.config),
                   "--engine", "dask", "--workers", "2", "--out", str(store)]  # fmt: skip
        began = time.perf_counter()
        process = subprocess.Popen(command)
        watching = Watching(process.pid)
        watching.start()
        if process.wait():
            raise SystemExit(f"the run failed with exit code {process.returncode}")
        seconds = time.perf_counter() - began
        watching.over.set()
        watching.join()
        [path] = store.glob("runs/*/manifest.json")
        manifest = json.loads(path.read_text())
    verdict = manifest["trials"]["trial"]
    steps = manifest["steps"]
    reading = steps[0]
    found = {
        "wall_seconds": round(seconds, 1), "cpu_seconds": round(sum(watching.cpu.values()), 1),
        "total_peak_mib": round(watching.total), "documents": reading["rows_out"], "text_bytes": reading["text_bytes"],
        "mix": {k: manifest["mixes"]["color"][k] for k in ("rows", "text_bytes")}, "sentence": verdict["sentence"],
        "instruments": {
            name: {
                "against": {arm: {k: round(c[k], 2) for k in ("estimate", "low", "high", "detectable")}
                            for arm, c in x["against"]["color"].items()},
                "aa": {k: round(x["aa"][k], 2) for k in ("estimate", "low", "high")},
            }
            for name, x in verdict["instruments"].items()
        },
    }  # fmt: skip
    RESULTS.joinpath(f"{arguments.config.stem}.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
