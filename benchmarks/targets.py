"""The real test: the quickstart towards three targets, with the target's own kind of source in the pool, and without.

    python benchmarks/targets.py DATA [--domains math medical python]

DATA holds pool.parquet (id, text, source, ...) and targets.parquet (id, text, source, domain, split, group). For every
domain, (a) with the whole pool: the AUROC of CoLoR for rows of the target's own kind of source (RELEVANT below);
(b) with these sources left out, at a 10 % budget: what the n-gram instrument says of CoLoR against random draws and its
controls. Settings only, through ``--set``. Prints a table, writes benchmarks/results/targets.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.parts import Columns, View, living_rows
from curate.store import Store

RESULTS = Path(__file__).parent / "results"
PROGRAM = "from curate.cli import main; main()"
RELEVANT = {"math": ("math_gsm8k_train", "math_competition"), "medical": ("medical_qa",), "python": ("python_peps",)}
# The math target holds GSM8K problems only; competition problems in LaTeX are relevant to it, but not of its kind.
KIND = {"math": "math_gsm8k_train", "medical": "medical_qa", "python": "python_peps"}


def run(data: Path, domain: str, store: Path, *more: str) -> dict:
    """The manifest of one run of the quickstart."""
    sets = [
        f"source={data / 'pool.parquet'}",
        f"target={data / 'targets.parquet'}",
        f"target_domain={domain}",
        "target_groups=true",
        "trial.instruments=ngram",
        *more,
    ]
    command = [sys.executable, "-c", PROGRAM, "run", "pipelines/quickstart.py", "--engine", "dask", "--workers", "2"]
    sets = [part for s in sets for part in ("--set", s)]
    out = subprocess.run([*command, *sets, "--out", str(store)], check=True, stdout=subprocess.PIPE, text=True).stdout
    report = next(line for line in out.splitlines() if line.startswith("report "))
    return json.loads(Path(report.removeprefix("report ").strip()).with_name("manifest.json").read_text())


def auroc(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Probability that a relevant row scores above another one; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(relevant.sum())
    return float((ranks[relevant].sum() - positives * (positives + 1) / 2) / (positives * (len(scores) - positives)))


def scores_of(manifest: dict, store: Store) -> pa.Table:
    """Source and score of every living row of the frame that the mix was chosen from."""
    from curate.dataset import File
    from curate.parts import Part

    label = manifest["mixes"]["color"]["frame"]
    frame = store.get_json(next(f["path"] for f in manifest["frames"] if f["label"] == label))
    tables = []
    for i, p in enumerate(frame["parts"]):
        part = Part(p["name"], p["of"], None, File(p["file"], 0, ""), None, p["rows"], p["living"], 0)
        view = View(part, i, f"{frame['living']}/{p['name']}.parquet" if frame["living"] else None, frame["places"])
        tables.append(Columns(store, view).get(["source", "color"], living_rows(store, view)))
    return pa.concat_tables(tables).drop_null()


def main() -> None:
    """Run all domains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--store", type=Path, help="keep the runs here (default: a temporary directory)")
    parser.add_argument("--domains", nargs="+", default=list(RELEVANT))
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(prefix="targets-") as scratch:
        store = arguments.store or Path(scratch)
        for domain in arguments.domains:
            table = scores_of(run(arguments.data, domain, store), Store(str(store)))
            sources, color = np.array(table["source"].to_pylist()), table["color"].to_numpy().astype(np.float64)
            kind, relevant = sources == KIND[domain], np.isin(sources, RELEVANT[domain])
            others = ~relevant
            manifest = run(arguments.data, domain, store, f"without={','.join(RELEVANT[domain])}")
            verdict = manifest["trials"]["trial"]
            against = verdict["instruments"]["ngram"]["against"]["color"]
            steps = {s["label"]: s for s in manifest["steps"]}
            mix, controls = {}, {}
            for arm, c in against.items():
                mix[arm] = {k: round(c[k], 3) for k in ("estimate", "low", "high")}
            # Controls are compared with the mix; against random they are the difference of two comparisons.
            for arm in ("source_matched", "conditional_only", "length_matched"):
                controls[arm] = round(against["random"]["estimate"] - against[arm]["estimate"], 2)
            found[domain] = {
                "auroc_own_kind": round(auroc(color[kind | others], kind[kind | others]), 4),
                "auroc_all_relevant": round(auroc(color, relevant), 4),
                "mix_against": mix,
                "controls_over_random_about": controls,
                "interval_above_zero": against["random"]["low"] > 0,
                "beats_source_matched": against["source_matched"]["estimate"] > 0,
                "beats_conditional_only": against["conditional_only"]["estimate"] > 0,
                "sentence": verdict["sentence"],
                "documents": steps["read " + str(arguments.data / "pool.parquet")]["rows_out"],
            }
            print(domain, json.dumps(found[domain], indent=1), flush=True)
            RESULTS.joinpath("targets.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
