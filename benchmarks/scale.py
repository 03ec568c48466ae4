"""Memory and cost at several sizes: read, quality, exact, minhash, select, write on 2 Dask workers.

    python benchmarks/corpus.py pool.parquet CORPUS --bytes 20e9
    python benchmarks/scale.py CORPUS --sizes 1e9 5e9 20e9 --kill

Runs ``pipelines/clean.py`` on as many files as each size needs, in a fresh store under ``--scratch``, and samples the
memory of every process of the run once a second: resident, and proportional (PSS), in which what processes share counts
once. What lies in the store afterwards is counted by kind. With ``--kill`` each size is run a second time, ended by
SIGKILL (the whole process group) in the middle, and taken up again: the values must be those of the first run.

Prints a line a size; writes benchmarks/results/scale.json after every one, and scale.svg. What was measured the same
day at other sizes stays in it. A first run on one file, which compiles the kernels, is not counted.
``benchmarks/hundred_terabytes.py`` reckons with these figures.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
PROGRAM = "from curate.cli import main; main()"
PACKAGES = ("curate", "numpy", "numba", "pyarrow", "polars", "distributed")
MB = 1 << 20


class Watching(threading.Thread):
    """Peaks of memory: the driver's, the largest worker's, all together; CPU seconds as last seen."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.driver = self.worker = self.total = self.worker_pss = self.total_pss = 0.0
        self.cpu: dict[int, float] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Sample until it is over."""
        while not self.over.wait(1.0):
            resident, shared = {}, {}
            for process in [self.root, *self._children()]:
                try:
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
                    full = process.memory_full_info()
                    resident[process.pid], shared[process.pid] = full.rss / MB, getattr(full, "pss", full.rss) / MB
                except psutil.Error:
                    continue
            self.total = max(self.total, sum(resident.values()))
            self.total_pss = max(self.total_pss, sum(shared.values()))
            self.driver = max(self.driver, resident.pop(self.root.pid, 0.0))
            shared.pop(self.root.pid, 0.0)
            self.worker = max([self.worker, *resident.values()])
            self.worker_pss = max([self.worker_pss, *shared.values()])

    def _children(self) -> list[psutil.Process]:
        try:
            return self.root.children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def start(inputs: Path, store: Path, workers: int, memory: str) -> "subprocess.Popen[str]":
    """The run as a process group of its own."""
    command = [sys.executable, "-c", PROGRAM, "run", "pipelines/clean.py", "--set", f"source={inputs}"]
    command += ["--engine", "dask", "--workers", str(workers), "--memory", memory, "--out", str(store)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def link(files: list[Path], folder: Path) -> Path:
    """A folder with these files."""
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file.absolute())
    return folder


def manifest_of(store: Path) -> dict[str, Any]:
    """The manifest of the only run."""
    [path] = store.glob("runs/*/manifest.json")
    return dict(json.loads(path.read_text()))


def values_of(manifest: dict[str, Any]) -> str:
    """One hash of every step's values and the mix's; labels are left out, for they name the folder of the inputs."""
    found = [step.get("values") for step in manifest["steps"]] + [manifest["mixes"]["clean"]["values"]]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def stored(store: Path) -> dict[str, dict[str, int]]:
    """Files and bytes of a store by kind; of exchanges, by step, label and phase."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: {"files": 0, "bytes": 0})
    seen: set[int] = set()
    for path in sorted(store.rglob("*"), key=lambda p: "/runs/" in p.as_posix()):
        if path.is_file() and path.stat().st_ino not in seen:  # a run's shards are links to those of its step
            seen.add(path.stat().st_ino)
            kind = kind_of(path.relative_to(store).as_posix())
            found[kind]["files"] += 1
            found[kind]["bytes"] += path.stat().st_size
    return dict(sorted(found.items()))


def kind_of(path: str) -> str:
    """What a file of a store is for."""
    step = re.match(r"steps/(.+?)-[0-9a-f]{16}/(.*)", path)
    if step is None:
        top = path.split("/")[0]
        return f"parts {Path(path).stem}" if top == "parts" else top
    name, inside = step.groups()
    if "receipts" in inside:
        return "receipts"
    exchanged = re.match(r"exchange/([^/]+)/(?:home/)?(map|out|mid|lot|run|alongside|merged|answers|schema)", inside)
    if exchanged:
        return f"exchange {name} {exchanged[1]} {exchanged[2]}"
    if name == "write":
        return f"write {inside.split('/')[0]}"
    return f"sidecar {name}"


def measure(files: list[Path], workers: int, memory: str, scratch: Path) -> dict[str, Any]:
    """One run in a fresh store."""
    with tempfile.TemporaryDirectory(prefix="scale-", dir=scratch) as folder:
        inputs, store = link(files, Path(folder) / "inputs"), Path(folder) / "store"
        began = time.perf_counter()
        process = start(inputs, store, workers, memory)
        watching = Watching(process.pid)
        watching.start()
        out, _ = process.communicate()
        seconds = time.perf_counter() - began
        watching.over.set()
        watching.join()
        if process.returncode:
            raise SystemExit(out)
        manifest = manifest_of(store)
        text, cpu = manifest["steps"][0]["text_bytes"], sum(watching.cpu.values())
        kinds = stored(store)
        reports = {s["label"]: s["report"] for s in manifest["steps"] if s.get("report")}
        return {
            "text_bytes": text,
            "documents": manifest["steps"][0]["rows_out"],
            "parts": manifest["steps"][0]["parts"],
            "kept": manifest["mixes"]["clean"]["rows"],
            "kept_bytes": manifest["mixes"]["clean"]["text_bytes"],
            "values": values_of(manifest),
            "wall_seconds": round(seconds, 1),
            "cpu_seconds": round(cpu, 1),
            "cpu_seconds_a_gb": round(cpu / text * 1e9, 1),
            "mb_per_cpu_second": round(text / 1e6 / cpu, 1),
            "worker_peak_mib": round(watching.worker),
            "worker_peak_pss_mib": round(watching.worker_pss),
            "driver_peak_mib": round(watching.driver),
            "total_peak_mib": round(watching.total),
            "total_peak_pss_mib": round(watching.total_pss),
            "store_files": sum(kind["files"] for kind in kinds.values()),
            "store_bytes": sum(kind["bytes"] for kind in kinds.values()),
            "stored": kinds,
            "reports": {label: report for label, report in reports.items() if "minhash" in label},
        }


def killed(files: list[Path], workers: int, memory: str, scratch: Path, after: float, values: str) -> dict[str, Any]:
    """Killed after so many seconds and taken up again; what was done before is not done again."""
    with tempfile.TemporaryDirectory(prefix="scale-", dir=scratch) as folder:
        inputs, store = link(files, Path(folder) / "inputs"), Path(folder) / "store"
        first = start(inputs, store, workers, memory)
        time.sleep(after)
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
        began = time.perf_counter()
        second = start(inputs, store, workers, memory)
        out, _ = second.communicate()
        if second.returncode:
            raise SystemExit(out)
        if values_of(manifest_of(store)) != values:
            raise SystemExit("a run that was killed and taken up again ended with other values")
        return {"killed_after_seconds": round(after, 1), "resumed_wall_seconds": round(time.perf_counter() - began, 1)}


def picture(found: list[dict[str, Any]], workers: int) -> str:
    """Wall and CPU seconds against bytes of text, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    import io

    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6))
    sizes = [f["text_bytes"] / 1e9 for f in found]
    for name, label in (("wall_seconds", "wall"), ("cpu_seconds", "CPU")):
        axes.plot(sizes, [f[name] for f in found], marker="o", label=label)
    title = f"pipelines/clean.py, {workers} workers"
    axes.set(xlabel="text, GB", ylabel="seconds", xlim=(0, None), ylim=(0, None), title=title)
    axes.legend()
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight")
    return text.getvalue()


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e9, 5e9, 20e9])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="1.5GiB")
    parser.add_argument("--kill", action="store_true", help="run each size again, killed in the middle and resumed")
    parser.add_argument("--scratch", type=Path, default=None, help="where stores are made (about the size of the text)")
    parser.add_argument("--name", default="scale", help="of the result, if not scale.json")
    arguments = parser.parse_args()
    files = sorted(arguments.corpus.glob("*.parquet"))
    out = RESULTS / f"{arguments.name}.json"
    stands = json.loads(out.read_text()) if out.exists() else {}
    settings = {"workers": arguments.workers, "memory_limit": arguments.memory}
    same = all(stands.get(name) == value for name, value in settings.items())
    found: list[dict[str, Any]] = stands["runs"] if same and stands.get("date") == time.strftime("%Y-%m-%d") else []
    measure(files[:1], arguments.workers, arguments.memory, arguments.scratch)  # compiles the kernels
    for size in arguments.sizes:
        count = max(1, round(size / 128e6))
        if count > len(files):
            raise SystemExit(f"{arguments.corpus} holds {len(files)} files, {size:.1e} bytes need {count}")
        run = measure(files[:count], arguments.workers, arguments.memory, arguments.scratch)
        if arguments.kill:
            half = run["wall_seconds"] / 2
            run |= killed(files[:count], arguments.workers, arguments.memory, arguments.scratch, half, run["values"])
        found = sorted(
            [*(r for r in found if r["text_bytes"] != run["text_bytes"]), run], key=lambda r: float(r["text_bytes"])
        )
        print({k: v for k, v in run.items() if k not in ("stored", "reports")}, flush=True)
        result = {
            "date": time.strftime("%Y-%m-%d"),
            **settings,
            "versions": {name: version(name) for name in PACKAGES},
            "runs": found,
        }
        out.write_text(json.dumps(result, indent=1) + "\n")
    RESULTS.joinpath(f"{arguments.name}.svg").write_text(picture(found, arguments.workers))


if __name__ == "__main__":
    main()
