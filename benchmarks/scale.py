"""Memory and cost at three sizes: read, quality, exact, minhash, select, write on 2 Dask workers.

    python benchmarks/corpus.py pool.parquet CORPUS --bytes 2e9
    python benchmarks/scale.py CORPUS --sizes 0.5e9 1e9 2e9

Runs ``pipelines/clean.py`` on as many files as each size needs, in a fresh store, and samples the resident
memory of every process of the run twice a second. Prints a table, writes benchmarks/results/scale.json and scale.svg.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

RESULTS = Path(__file__).parent / "results"
PROGRAM = "from curate.cli import main; main()"
MB = 1 << 20


class Watching(threading.Thread):
    """Peaks of resident memory: the driver's, the largest worker's, all together; CPU seconds as last seen."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.driver = self.worker = self.total = 0.0
        self.cpu: dict[int, float] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Sample until it is over."""
        while not self.over.wait(0.5):
            sizes = {}
            for process in [self.root, *self._children()]:
                try:
                    sizes[process.pid] = process.memory_info().rss / MB
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
                except psutil.NoSuchProcess:
                    continue
            own = sizes.pop(self.root.pid, 0.0)
            self.driver = max(self.driver, own)
            self.worker = max([self.worker, *sizes.values()])
            self.total = max(self.total, own + sum(sizes.values()))

    def _children(self) -> list[psutil.Process]:
        try:
            return self.root.children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def measure(files: list[Path], workers: int, memory: str) -> dict[str, float]:
    """One run in a fresh store."""
    with tempfile.TemporaryDirectory(prefix="scale-") as scratch:
        inputs = Path(scratch) / "inputs"
        inputs.mkdir()
        for file in files:
            (inputs / file.name).symlink_to(file.absolute())
        command = [
            sys.executable,
            "-c",
            PROGRAM,
            "run",
            "pipelines/clean.py",
            "--set",
            f"source={inputs}",
            "--engine",
            "dask",
            "--workers",
            str(workers),
            "--memory",
            memory,
            "--out",
            f"{scratch}/store",
        ]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        watching = Watching(process.pid)
        watching.start()
        out, _ = process.communicate()
        watching.over.set()
        watching.join()
        if process.returncode:
            raise SystemExit(out)
        [path] = Path(scratch).glob("store/runs/*/manifest.json")
        manifest = json.loads(path.read_text())
        text = manifest["steps"][0]["text_bytes"]
        seconds = time.perf_counter() - began
        return {
            "text_bytes": text,
            "documents": manifest["steps"][0]["rows_out"],
            "kept": manifest["mixes"]["clean"]["rows"],
            "wall_seconds": round(seconds, 1),
            "cpu_seconds": round(sum(watching.cpu.values()), 1),
            "mb_per_cpu_second": round(text / 1e6 / sum(watching.cpu.values()), 1),
            "worker_peak_mib": round(watching.worker),
            "driver_peak_mib": round(watching.driver),
            "total_peak_mib": round(watching.total),
        }


def picture(found: list[dict[str, float]]) -> str:
    """Wall and CPU seconds against bytes of text, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    import io

    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6))
    sizes = [f["text_bytes"] / 1e9 for f in found]
    for name, label in (("wall_seconds", "wall"), ("cpu_seconds", "CPU")):
        axes.plot(sizes, [f[name] for f in found], marker="o", label=label)
    axes.set(xlabel="text, GB", ylabel="seconds", xlim=(0, None), ylim=(0, None), title="pipelines/clean.py, 2 workers")
    axes.legend()
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight")
    return text.getvalue()


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.5e9, 1e9, 2e9])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="1.5GiB")
    arguments = parser.parse_args()
    files = sorted(arguments.corpus.glob("*.parquet"))
    found = []
    for size in arguments.sizes:
        count = max(1, round(size / 128e6))
        if count > len(files):
            raise SystemExit(f"{arguments.corpus} holds {len(files)} files, {size:.1e} bytes need {count}")
        found.append(measure(files[:count], arguments.workers, arguments.memory))
        print(found[-1], flush=True)
    RESULTS.joinpath("scale.json").write_text(
        json.dumps({"workers": arguments.workers, "memory_limit": arguments.memory, "runs": found}, indent=1)
    )
    RESULTS.joinpath("scale.svg").write_text(picture(found))


if __name__ == "__main__":
    main()
