"""A larger corpus out of a small one: every document again and again, each time edited, from a fixed seed.

    python benchmarks/corpus.py pool.parquet OUT --bytes 2e9

A copy replaces, drops or repeats a share of its words (0 to 50 %, drawn per copy), so that exact copies, near copies
above and below any threshold, and unrelated texts all occur. Written as zstd Parquet files of about 128 MB of text.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FILE_BYTES = 128_000_000
SHARES = (0.0, 0.01, 0.03, 0.1, 0.3, 0.5)


def edited(text: str, share: float, rng: np.random.Generator, words: np.ndarray) -> str:
    """A text with about ``share`` of its words replaced, dropped or repeated."""
    found = text.split(" ")
    hits = np.flatnonzero(rng.random(len(found)) < share)
    for at, what in zip(hits, rng.integers(3, size=len(hits)), strict=True):
        found[at] = "" if what == 1 else str(rng.choice(words)) if what == 0 else f"{found[at]} {found[at]}"
    return " ".join(found)


def main() -> None:
    """Write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bytes", type=float, default=2e9)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(arguments.seed)
    pool = pq.read_table(arguments.pool, columns=["id", "text", "source"])
    ids, texts, sources = (pool[name].to_pylist() for name in ("id", "text", "source"))
    words = np.array(sorted({w for t in texts[:500] for w in t.split()}), dtype=object)
    written, number, generation = 0.0, 0, 0
    rows: list[tuple[str, str, str]] = []
    held = 0
    while written + held < arguments.bytes:
        for at in rng.permutation(len(texts)):
            share = SHARES[int(rng.integers(len(SHARES)))] if generation else 0.0
            text = edited(texts[at], share, rng, words) if share else texts[at]
            rows.append((f"{ids[at]}~{generation}", text, sources[at]))
            held += len(text)
            if held >= FILE_BYTES or written + held >= arguments.bytes:
                columns = [pa.array(c, pa.large_string()) for c in zip(*rows, strict=True)]
                path = arguments.out / f"part-{number:04d}.parquet"
                pq.write_table(
                    pa.table(columns, ["id", "text", "source"]), path, compression="zstd", row_group_size=4096
                )
                print(f"{path}: {len(rows)} documents, {held / 1e6:.0f} MB", flush=True)
                written, number, rows, held = written + held, number + 1, [], 0
                if written >= arguments.bytes:
                    return
        generation += 1


if __name__ == "__main__":
    main()
