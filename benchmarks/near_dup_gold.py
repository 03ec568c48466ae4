"""Near copies against exact truth: precision and recall by Jaccard band, and the speed of signatures.

    python benchmarks/near_dup_gold.py DATA_DIR

DATA_DIR holds ``near_dup_gold.parquet`` (edited copies of real documents) with ``near_dup_gold_pairs.parquet``, and
``pool.parquet`` (a mixed pool whose near copies are natural) with ``pool_near_pairs.parquet``. The documents have
``id`` and ``text``; the pairs ``id_a``, ``id_b`` and ``jaccard_w5``, the exact Jaccard index of their word 5-grams,
for every pair from 0.5 up at least.

A verified pair is right when its Jaccard index, computed again from Python strings, reaches the threshold. A true pair
is found *directly* when it was verified itself, and *in a cluster* when a chain of verified pairs joins it. *Expected*
is what the bands promise: the mean of 1 - (1 - s**rows)**bands over the true pairs.

Speed is MB of UTF-8 text per CPU second on one thread, compiled before, median of five passes over the pool.
"""

import argparse
import hashlib
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.columns import KEY, TEXT
from curate.exact import Exact, content_hash
from curate.minhash import MinHash, collision, components, near_pairs, signatures
from curate.testing import MemoryRows

BANDS = ((0.8, 0.85), (0.85, 0.9), (0.9, 0.95), (0.95, 1.01), (0.8, 1.01), (0.9, 1.01))
TARGETS = {"0.80-1.00": 0.92, "0.90-1.00": 0.99}
PARTS = 4


def load(path: Path) -> pa.Table:
    table = pq.read_table(path, columns=["id", "text"])
    keys = pa.array([hashlib.md5(i.encode()).digest() for i in table["id"].to_pylist()], KEY)
    return pa.table({"id": table["id"].cast(TEXT), "text": table["text"].cast(TEXT), "key": keys}).combine_chunks()


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def seconds(fn: Callable[[], object]) -> float:
    start = time.process_time()
    fn()
    return time.process_time() - start


def quality(docs: pa.Table, truth: pa.Table, config: MinHash) -> dict[str, Any]:
    """Precision, recall and costs of one set."""
    for name, column in zip(("minhash", "shingles"), signatures(docs, config).columns, strict=True):
        docs = docs.append_column(name, column)
    cuts = np.linspace(0, len(docs), PARTS + 1).astype(int)
    rows = MemoryRows([docs.slice(low, high - low) for low, high in pairwise(cuts)])
    near_pairs(rows, config)
    start = time.process_time()
    pairs, numbers = near_pairs(rows, config)
    spent = time.process_time() - start

    text = dict(zip(docs["id"].to_pylist(), docs["text"].to_pylist(), strict=True))
    name = {a: i for t in rows.parts for a, i in zip(t["address"].to_pylist(), t["id"].to_pylist(), strict=True)}
    members, _, _, root = components(pairs["a"].to_numpy(), pairs["b"].to_numpy())
    cluster = {name[a]: int(c) for a, c in zip(members.tolist(), root, strict=True)}
    sets = {i: shingles(text[i]) for i in cluster}

    found, right, furthest = set(), 0, 0.0
    for pair in pairs.to_pylist():
        a, b = name[pair["a"]], name[pair["b"]]
        exact = len(sets[a] & sets[b]) / len(sets[a] | sets[b])
        right += exact >= config.threshold
        furthest = max(furthest, abs(exact - pair["jaccard"]))
        found.add(frozenset((a, b)))
    true = {
        frozenset((a, b)): j
        for a, b, j in zip(*(truth[c].to_pylist() for c in ("id_a", "id_b", "jaccard_w5")), strict=True)
        if j >= config.threshold
    }
    recall = {}
    for low, high in BANDS:
        within = [(pair, j) for pair, j in true.items() if low <= j < high]
        together = sum(len({cluster.get(i, i) for i in pair}) == 1 for pair, _ in within)
        recall[f"{low:.2f}-{min(high, 1):.2f}"] = {
            "pairs": len(within),
            "directly": round(sum(pair in found for pair, _ in within) / len(within), 4),
            "in_a_cluster": round(together / len(within), 4),
            "expected": round(statistics.fmean(collision(j, config.bands, config.rows) for _, j in within), 4),
        }
    return {
        "documents": len(docs),
        "verified_pairs": len(pairs),
        "precision": right / len(pairs),
        "largest_difference_to_exact_jaccard": furthest,
        "verified_pairs_missing_from_truth": sum(pair not in true for pair in found),
        "recall": recall,
        "report": numbers,
        "pairs_and_verification_cpu_s": round(spent, 3),
    }


def speed(docs: pa.Table, config: MinHash) -> dict[str, Any]:
    """MB per CPU second of the EACH halves."""
    text = docs.select(["text"])
    megabytes = text["text"].combine_chunks().buffers()[2].size / 1e6
    result: dict[str, Any] = {"text_mb": round(megabytes, 1)}
    halves = {"signatures": lambda: signatures(text, config), "content_hash": lambda: content_hash(text, Exact())}
    for label, fn in halves.items():
        fn()
        rates = [round(rate, 1) for rate in sorted(megabytes / seconds(fn) for _ in range(5))]
        result[label] = {"mb_per_cpu_s": rates[2], "lowest": rates[0], "highest": rates[4]}
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "near_dup_gold.json")
    given = parser.parse_args()
    wanted = ("near_dup_gold", "near_dup_gold_pairs", "pool", "pool_near_pairs")
    if missing := [n for n in wanted if not (given.data / f"{n}.parquet").is_file()]:
        print(f"skipped: {', '.join(missing)} not in DATA_DIR")
        return 0
    config = MinHash()
    pool = load(given.data / "pool.parquet")
    gold = load(given.data / "near_dup_gold.parquet")
    result = {
        "config": {n: getattr(config, n) for n in ("ngram", "bands", "rows", "threshold", "bucket_cap", "neighbours")},
        "versions": {"python": platform.python_version(), "numba": numba.__version__, "pyarrow": pa.__version__},
        "gold": quality(gold, pq.read_table(given.data / "near_dup_gold_pairs.parquet"), config),
        "pool": quality(pool, pq.read_table(given.data / "pool_near_pairs.parquet"), config),
        "speed": speed(pool, config),
    }
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    missed = [
        f"{name}: {what}"
        for name in ("gold", "pool")
        for what, good in [
            ("precision", result[name]["precision"] == 1),
            *((f"recall {b}", result[name]["recall"][b]["directly"] >= least) for b, least in TARGETS.items()),
        ]
        if not good
    ]
    print("below target: " + ", ".join(missed) if missed else "all targets met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
