"""Speed beside the peers: the same corpus, the same cores, in turn; wall time, CPU time and memory of whole processes.

    python benchmarks/corpus.py POOL CORPUS --bytes 256e6
    python benchmarks/peers.py CORPUS                       # about half an hour; --only near exact filters

Every program is a fresh process from Parquet (dolma: gzipped JSON Lines) to files, start-up included, and is told to
use two workers or threads where it can; Parquet is written with zstd at level 3 by all. Rounds alternate: A B C, A B C,
...; the table gives medians, and ratios of medians to ours in the same rounds. CPU seconds are the sum over the process
and all below it. Memory is the largest sum of proportional set sizes, sampled ten times a second in a run of its own
that is not timed, for the system stops a process while it counts its pages (a program that takes minutes is run once,
for both). Programs are installed, in the versions below and with nothing else, into virtual environments of their own
(--envs), this project too: where ``pandas`` and ``scipy`` lie about, pyarrow and numba import them, half a second a
process. (datatrove, and filters with its words, run in this one.) ``marginal`` runs near-duplicates on one file and on
two: what the second costs.
"""

import argparse
import gzip
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq

HERE = Path(__file__).parent
ROOT = HERE.absolute().parent
RESULT = HERE / "results" / "peers.json"
OURS = "curate"
CURATE = "from curate.cli import program; program()"


@dataclass(frozen=True)
class Program:
    """One program of a contest: its script, and the packages of its environment (none: the running one's)."""

    name: str
    script: str
    packages: tuple[str, ...] = ()
    installer: str = "pip"


# This project without extras, as its users install it, in the versions that were tested.
CORE = ("-c", str(ROOT / "constraints.txt"), "-e", str(ROOT))
CONTESTS: dict[str, tuple[Program, ...]] = {
    "near": (
        Program(OURS, "near_curate.py", CORE),
        Program("daft", "near_daft.py", ("daft==0.7.26", "numpy", "pyarrow")),
        Program("rensa", "near_rensa.py", ("rensa==0.5.0", "pyarrow")),
        Program("datasketch", "near_datasketch.py", ("datasketch==2.0.0", "pyarrow")),
        Program("datatrove", "near_datatrove.py"),
    ),
    "exact": (
        Program(OURS, "exact_curate.py", CORE),
        Program("polars", "exact_polars.py", (f"polars=={version('polars')}",)),
        Program("duckdb", "exact_duckdb.py", (f"duckdb=={version('duckdb')}",)),
    ),
    "filters": (
        Program(OURS, "filters_curate.py"),
        Program("dolma", "filters_dolma.py", ("dolma==1.2.1", "setuptools<80"), "uv"),
        Program("datatrove", "filters_datatrove.py"),
    ),
}
# Modules are compiled once: installed ones were when they were installed, and an editable one is as it is imported.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {
    "POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "2",
}
SLOW = {"datatrove", "datasketch", "dolma"}     # one round, and no marginal cost


class Watching(threading.Thread):
    """CPU seconds of every process of a tree as last seen, and the largest sum of their memory, if asked for."""

    def __init__(self, pid: int, memory: bool) -> None:
        super().__init__(daemon=True)
        self.memory = memory
        self.root = psutil.Process(pid)
        self.cpu: dict[int, float] = {}
        self.peak = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        """Sample until it is over."""
        while not self.over.wait(0.1):
            held = 0.0
            for process in self._tree():
                try:
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
                    held += process.memory_full_info().pss / 2**20 if self.memory else 0.0
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            self.peak = max(self.peak, held)

    def _tree(self) -> Iterator[psutil.Process]:
        yield self.root
        try:
            yield from self.root.children(recursive=True)
        except psutil.NoSuchProcess:
            return


def environment(program: Program, envs: Path) -> str:
    """The Python that runs a program; its environment is made where it is not there."""
    if not program.packages:
        return sys.executable
    home = envs / program.name
    python = home / "bin" / "python"
    marker = home / "installed"
    if not marker.exists() or marker.read_text() != repr(program.packages):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if program.installer == "uv":
            subprocess.run([*pip, "uv"], check=True)
            pip = [str(home / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([*pip, *program.packages], check=True)
        marker.write_text(repr(program.packages))
    return str(python)


def command(program: Program, python: str, source: Path, out: Path) -> list[str]:
    """How a program is called."""
    script = str(HERE / "peers" / program.script)
    if program.name != OURS:
        return [python, script, str(source), str(out)]
    return [python, "-c", CURATE, "run", script, "--set", f"source={source}", "--out", str(out), "--workers", "2"]


def carry(program: Program, python: str, source: Path, *, memory: bool) -> dict[str, float]:
    """Run a program once; its memory is looked at where that is asked for."""
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        before = os.times()
        began = time.perf_counter()
        with Path(scratch, "log").open("wb") as log:
            process = subprocess.Popen(
                command(program, python, source, Path(scratch)), stdout=log, stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
            )
            watching = Watching(process.pid, memory)
            watching.start()
            code = process.wait()
        wall = time.perf_counter() - began
        watching.over.set()
        watching.join()
        after = os.times()
        if code:
            raise SystemExit(f"{program.name} failed:\n{Path(scratch, 'log').read_text()[-3000:]}")
        # Children that were waited for are counted whole; those that were not, as they were last seen.
        reaped = after.children_user + after.children_system - before.children_user - before.children_system
        return {"wall": wall, "cpu": max(reaped, sum(watching.cpu.values())), "peak_mib": watching.peak}


def text_bytes(files: Sequence[Path]) -> int:
    """Bytes of text in files."""
    return sum(pc.sum(pc.binary_length(pq.read_table(f, columns=["text"])["text"])).as_py() for f in files)


def lay_out(files: Sequence[Path], home: Path) -> Path:
    """The input of a contest: the corpus cut into files of a quarter, and as gzipped JSON Lines."""
    home.mkdir(parents=True)
    (home / "documents").mkdir()
    for file in files:
        table = pq.read_table(file)
        step = -(-len(table) // 4)
        for k in range(4):
            piece = table.slice(k * step, step)
            pq.write_table(piece, home / f"{file.stem}-{k}.parquet", compression="zstd", row_group_size=4096)
            with gzip.open(home / "documents" / f"{file.stem}-{k}.json.gz", "wt", compresslevel=3) as lines:
                for row in piece.to_pylist():
                    lines.write(json.dumps(row) + "\n")
    return home


def medians(runs: Sequence[dict[str, float]], size: int) -> dict[str, float]:
    """The middle of several runs, and megabytes of text a CPU second."""
    middle = {name: statistics.median(r[name] for r in runs) for name in runs[0]}
    return {"runs": len(runs)} | {k: round(v, 2) for k, v in middle.items()} | {
        "mb_per_cpu_second": round(size / 1e6 / middle["cpu"], 2)
    }


def contest(
    name: str, programs: Sequence[Program], sources: Sequence[Path], sizes: Sequence[int], rounds: int, envs: Path
) -> dict[str, object]:
    """All rounds of one contest on the first source; for the fast, on the second too."""
    pythons = {p.name: environment(p, envs) for p in programs}
    found: dict[str, list[list[dict[str, float]]]] = {p.name: [[], []] for p in programs}
    carry(programs[0], pythons[OURS], sources[0], memory=False)      # kernels are compiled, files read into memory
    peaks = {p.name: carry(p, pythons[p.name], sources[0], memory=True)["peak_mib"]
             for p in programs if p.name not in SLOW}
    for k in range(rounds):
        for program in programs:
            if program.name in SLOW and k:
                continue
            for i, source in enumerate(sources[: 1 if program.name in SLOW or name != "near" else 2]):
                found[program.name][i].append(
                    carry(program, pythons[program.name], source, memory=program.name in SLOW)
                )
                print(f"{name} {program.name} {sizes[i] / 1e6:.0f} MB: {found[program.name][i][-1]}", flush=True)
    table: dict[str, dict[str, object]] = {}
    for program in programs:
        one, two = found[program.name]
        table[program.name] = dict(medians(one, sizes[0]))
        if program.name in peaks:
            table[program.name]["peak_mib"] = round(peaks[program.name], 2)
        if two:
            more = statistics.median(b["cpu"] - a["cpu"] for a, b in zip(one, two, strict=True))
            table[program.name]["marginal_mb_per_cpu_second"] = round((sizes[1] - sizes[0]) / 1e6 / more, 1)
    ours = table[OURS]
    for row in table.values():
        row["wall_over_ours"] = round(float(str(row["wall"])) / float(str(ours["wall"])), 2)
        row["cpu_over_ours"] = round(float(str(row["cpu"])) / float(str(ours["cpu"])), 2)
    return {"text_bytes": sizes[0], "programs": table}


def main() -> None:
    """Hold the contests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(CONTESTS), default=list(CONTESTS))
    parser.add_argument("--without", nargs="*", default=[], help="programs to leave out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--envs", type=Path, default=Path.home() / ".cache" / "curate-peers")
    arguments = parser.parse_args()
    files = sorted(arguments.corpus.glob("*.parquet"))[:2]
    if len(files) < 2:
        raise SystemExit(f"{arguments.corpus} needs two Parquet files; make them with benchmarks/corpus.py")
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    versions = {p.name: p.packages[0] for c in CONTESTS.values() for p in c if p.packages and p.name != OURS}
    results["machine"] = {
        "cores": os.cpu_count(), "python": platform.python_version(), "date": time.strftime("%Y-%m-%d"),
        "peers": versions,
    }
    with tempfile.TemporaryDirectory(prefix="peers-in-") as scratch:
        sources = [lay_out(files[:1], Path(scratch, "one")), lay_out(files, Path(scratch, "two"))]
        sizes = [text_bytes(files[:1]), text_bytes(files)]
        for name in arguments.only:
            programs = [p for p in CONTESTS[name] if p.name not in arguments.without]
            results[name] = contest(name, programs, sources, sizes, arguments.rounds, arguments.envs)
            RESULT.write_text(json.dumps(results, indent=1) + "\n")
    for name in arguments.only:
        print(f"\n{name}, {sizes[0] / 1e6:.0f} MB")
        for program, row in results[name]["programs"].items():
            print(f"  {program:12}", "  ".join(f"{k} {v}" for k, v in row.items()))
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
