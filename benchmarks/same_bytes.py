"""The same bytes: a pipeline in fresh stores on every engine, with 1, 2 and 4 workers, and files listed the other way.

    python benchmarks/same_bytes.py pipelines/quickstart.py --set source=pool.parquet --set target=targets.parquet ...

Runs the pipeline once a variant and compares the manifests' value hashes, which cover every step's values, artifacts,
the mixes and the verdict. Prints a table, writes benchmarks/results/same_bytes.json, and exits with 1 where two differ.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
VARIANTS = {
    "local": ["--engine", "local"],
    "dask, 1 worker": ["--engine", "dask", "--workers", "1"],
    "dask, 2 workers": ["--engine", "dask", "--workers", "2"],
    "dask, 4 workers": ["--engine", "dask", "--workers", "4"],
    "local, listed backwards": ["--engine", "local"],
}
BACKWARDS = """
import sys
import curate.sources as s
listing = s.Files.listing
s.Files.listing = lambda self: listing(self)[::-1]
from curate.cli import main
main()
"""


def manifest_of(store: Path) -> dict:
    """The manifest of the only run in a store."""
    [path] = store.glob("runs/*/manifest.json")
    return json.loads(path.read_text())


def without_folders(setting: str) -> str:
    """A setting without the folders of a path in it, which are this machine's own."""
    name, _, value = setting.partition("=")
    return f"{name}={value.rsplit('/', 1)[-1]}"


def main() -> int:
    """Run every variant; 0 where all agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--name", default="same_bytes")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(prefix="same-bytes-") as scratch:
        for name, flags in VARIANTS.items():
            store = Path(scratch) / name.replace(" ", "-").replace(",", "")
            program = BACKWARDS if "backwards" in name else "from curate.cli import main; main()"
            sets = [part for s in arguments.sets for part in ("--set", s)]
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", program, "run", arguments.pipeline, *flags, *sets, "--out", str(store)],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            manifest = manifest_of(store)
            steps = {s["label"]: s.get("values") for s in manifest["steps"]}
            found[name] = {"values": manifest["values"], "steps": steps, "seconds": time.perf_counter() - began}
            print(f"{name:26} {manifest['values']}  {found[name]['seconds']:.0f} s", flush=True)
    first = next(iter(found.values()))
    differ = sorted(
        {label for f in found.values() for label in f["steps"] if f["steps"][label] != first["steps"][label]}
    )
    same = len({f["values"] for f in found.values()}) == 1
    print("all the same" if same else f"different steps: {', '.join(differ)}")
    RESULTS.joinpath(f"{arguments.name}.json").write_text(
        json.dumps(
            {
                "pipeline": arguments.pipeline,
                "sets": [without_folders(s) for s in arguments.sets],
                "same": same,
                "different_steps": differ,
                "variants": {n: {"values": f["values"], "seconds": round(f["seconds"], 1)} for n, f in found.items()},
            },
            indent=1,
        )
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
