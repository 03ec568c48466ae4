"""Are signatures like datatrove's its own, bit for bit, and what do they cost beside it?

    python benchmarks/signatures_datatrove.py POOL.parquet [--rows N] [--out FOLDER]

POOL.parquet needs a column ``text``. Every document goes through datatrove's ``MinhashDedupSignature`` (its methods
``get_shingles`` and ``get_signature``, one process, spaCy's words) and through ``minhash.minima_of`` with
``like="datatrove"``; all 112 minima of every document are compared, for XXH64 and for SHA-1. Where the installed xxhash
refuses the ``str`` that datatrove hands it, its hash function is wrapped to hand it the UTF-8 bytes, which older
versions hashed.

Times are CPU seconds of one thread, compilation left out, median of five passes; "cold" starts with an empty memo of
words (on more text than the pool a memo costs less, since it meets ever fewer new words).
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.hashing import HashConfig

from curate import text
from curate.minhash import Signature, minima_of

CONFIGS = {
    "xxhash64": Signature(like="datatrove", bands=14, rows=8),
    "sha1": Signature(like="datatrove", bands=14, rows=8, hash="sha1"),
    "xxhash64, whitespace words": Signature(like="datatrove", bands=14, rows=8, words="whitespace"),
    "own default": Signature(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--rows", type=int, help="only the first so many documents")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    docs = pq.read_table(args.pool, columns=["text"])["text"][: args.rows].combine_chunks().cast(pa.large_string())
    megabytes = pc.sum(pc.binary_length(docs)).as_py() / 1e6

    speed: dict[str, float] = {}
    for name, config in CONFIGS.items():
        minima_of(docs[:50], config)  # compile
        if "spacy" in config.words and config.like == "datatrove":
            text.word_memo("spacy").forget()
            speed[f"{name}, cold"] = megabytes / cpu(lambda c=config: minima_of(docs, c))
        rates = [megabytes / cpu(lambda c=config: minima_of(docs, c)) for _ in range(5)]
        speed[f"{name}, warm"] = statistics.median(rates)

    differing: dict[str, list[int]] = {}
    for name, kind in (("xxhash64", "xxhash"), ("sha1", "sha1")):
        theirs, seconds = ask_datatrove(docs, kind)
        ours, _ = minima_of(docs, CONFIGS[name])
        differing[name] = np.flatnonzero((ours != theirs).any(axis=1)).tolist()
        speed[f"datatrove, {name}"] = megabytes / seconds
    found = {
        "documents": len(docs),
        "megabytes": round(megabytes, 3),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("datatrove", "spacy", "xxhash", "regex", "numba", "numpy")},
        "device": platform.processor() or platform.machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "documents_that_differ": differing,
        "megabytes_per_cpu_second": {name: round(value, 2) for name, value in speed.items()},
        "times_datatrove": {
            name: round(speed[name] / speed["datatrove, xxhash64"], 1) for name in speed if name.startswith("xxhash64")
        },
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "signatures_datatrove.json").write_text(json.dumps(found, indent=1) + "\n")
    for name, rows in differing.items():
        print(f"{name}: {len(docs):,} documents, {len(rows)} differ")
    for name, value in found["megabytes_per_cpu_second"].items():
        print(f"{name:40}{value:>9.2f} MB a CPU second")


def cpu(fn: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    fn()
    return time.process_time() - start


def ask_datatrove(docs: pa.Array, kind: str) -> tuple[np.ndarray, float]:
    """Minima, uint64 (n, 112), all 2**61 - 1 where a document has none, and CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        step = MinhashDedupSignature(folder, MinhashConfig(hash_config=HashConfig(hash_fc=kind)))
    if kind == "xxhash":
        try:
            xxhash.xxh64_intdigest("a")
        except TypeError:
            step._hash_func = lambda s: xxhash.xxh64_intdigest(s.encode())
    minima = np.full((len(docs), step.num_hashes), (1 << 61) - 1, np.uint64)
    step.get_shingles("Load the tokenizer, please, now.")
    start = time.process_time()
    for i, value in enumerate(docs):
        shingles = step.get_shingles(value.as_py())
        if shingles.size:
            minima[i] = np.concatenate(step.get_signature(shingles))
        if i % 5000 == 4999:
            print(f"{i + 1:,} documents in {time.process_time() - start:.0f} s", flush=True)
    return minima, time.process_time() - start


if __name__ == "__main__":
    main()
