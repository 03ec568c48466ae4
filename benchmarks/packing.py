"""Best-fit packing on a million real document lengths: waste, truncations, speed; beside TRL's and a naive one.

    python benchmarks/packing.py POOL [--documents 1000000] [--trl FOLDER]

POOL is a Parquet file with ``text``. Lengths in tokens are its documents' UTF-8 bytes over 4.3, drawn with replacement,
so that a pool of any size gives as many documents as are asked for, in the distribution of real ones.

For each length of rows: packing all documents (seconds of CPU, the best of five, from lengths to rows sorted by bin),
padding, documents that fit a row and were cut, rows beyond the lower bound; for contrast the documents that fit a row
and that concatenation cuts; what windows of an ordering cost (feeds.BestFit with ``order``); and what dataset
decomposition drops. Then the same pieces through TRL's ``bfd_split`` (``pip install --no-deps --target FOLDER trl``,
beside this environment's torch and datasets) and, on the first 20,000, through a naive best fit in Python: both must
fill rows to the same multiset of lengths. TRL's time includes moving its (empty) sequences of ids, which it cannot
leave out; they are bytes here.

Last the whole way from text to batches, tokens a CPU second: the first --mb of the pool through a BPE of 2,048 (and as
bytes), packed and fed in rows of 1,024, beside what the trainer's ``cpu`` preset takes in.
"""

import argparse
import bisect
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import tokens
from curate.train import decomposition, feeds, loop, packing, tokenising
from curate.train.feeds import WINDOW_ROWS
from curate.train.model import Decoder
from curate.train.orders import Shuffled
from curate.train.presets import PRESETS
from curate.train.training import Training

BYTES_PER_TOKEN = 4.3
CONTEXTS = (1024, 2048, 4096, 8192, 32_768)
PEER_CONTEXT = 2048
NAIVE = 20_000
GOALS = {"waste": 0.01, "documents_per_second": 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--mb", type=float, default=10.0, help="of text that is tokenised and fed")
    parser.add_argument("--trl", type=Path, help="folder that holds the package trl")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    sizes = pc.binary_length(pq.read_table(given.pool, columns=["text"])["text"]).to_numpy()
    real = np.ceil(sizes / BYTES_PER_TOKEN).astype(np.int64)
    lengths = np.random.default_rng(0).choice(real, given.documents)
    found = {
        "documents": given.documents, "tokens": int(lengths.sum()), "mean_tokens": float(lengths.mean()),
        "bytes_per_token": BYTES_PER_TOKEN, "goals": GOALS,
        "rows": {context: measured(lengths, context) for context in CONTEXTS},
        "decomposition": decomposed(lengths),
        "end_to_end": end_to_end(given.pool, int(given.mb * 1e6)),
        "peers": peers(lengths, given.trl),
        "versions": {name: version(name) for name in ("numpy", "pyarrow")} | {"python": platform.python_version()},
        "processor": platform.processor() or platform.machine(), "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }  # fmt: skip
    show(found)
    given.out.mkdir(exist_ok=True)
    (given.out / "packing.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if any(r["waste"] > GOALS["waste"] or r["truncated"] for r in found["rows"].values()):
        raise SystemExit("a goal is missed")


def measured(lengths: np.ndarray, context: int) -> dict[str, float | int]:
    seconds = []
    for _ in range(5):
        start = time.process_time()
        rows = packing.best_fit_rows(lengths, context)
        seconds.append(time.process_time() - start)
    report = packing.report(lengths, rows, context)
    stream = packing.report(lengths, packing.cut_stream(lengths, context), context)
    windows = packing.best_fit_rows(lengths, context, max(1, int(WINDOW_ROWS * (context + 1) / (lengths.mean() + 1))))
    return {
        "seconds": min(seconds), "documents_per_second": len(lengths) / min(seconds), "rows": report.rows,
        "fewest": report.fewest, "waste": report.waste, "truncated": report.truncated, "longer": report.split,
        "truncated_by_concatenation": stream.truncated,
        "waste_in_windows": packing.report(lengths, windows, context).waste,
    }  # fmt: skip


def decomposed(lengths: np.ndarray) -> dict[str, float]:
    start = time.process_time()
    buckets = decomposition.decompose(lengths + 1, 256, 8192)
    seconds = time.process_time() - start
    small = decomposition.decompose(lengths + 1, 64, 8192)
    total = int(lengths.sum()) + len(lengths)
    return {
        "seconds": seconds, "dropped_256_to_8192": buckets.dropped / total, "dropped_64_to_8192": small.dropped / total,
    }  # fmt: skip


def end_to_end(pool: Path, size: int) -> dict[str, dict[str, float]]:
    """Tokens a CPU second of each step, by tokenizer, and of training."""
    texts = pq.read_table(pool, columns=["text"])["text"]
    ends = np.cumsum(pc.binary_length(texts).fill_null(0).to_numpy())
    table = pa.table({"text": texts.slice(0, int(np.searchsorted(ends, size)) + 1).cast(pa.large_string())})
    out: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pq.write_table(table, folder / "texts.parquet", row_group_size=5_000)
        tokens.train_bpe(table.slice(0, 2_000), tokens.Bpe(), folder)
        for name, tokenizer in (("bytes", "bytes"), ("bpe_2048", str(folder))):
            store, seconds = timed(lambda t=tokenizer, n=name: tokenising.tokenise(
                folder / "texts.parquet", t, folder / n
            ))  # fmt: skip
            many = len(store.ids)
            found = {
                "tokens": many,
                "tokenising": many / seconds,
                "mb_per_second": ends[len(table) - 1] / 1e6 / seconds,
            }
            order = Shuffled(documents=store.documents)
            for kind, make in (
                ("best_fit", lambda s=store: feeds.BestFit(s, 1024, 16)),
                ("best_fit_in_order", lambda s=store, o=order: feeds.BestFit(s, 1024, 16, order=o)),
                ("headed", lambda s=store: feeds.Headed(s, 1024, 16)),
                ("concatenated", lambda s=store: feeds.Concatenated(s, 1024, 16)),
            ):
                feed, packed = timed(make)
                read, fed = timed(lambda f=feed: sum(f.batch(step).ids.size for step in range(f.steps)))
                found |= {f"packing_{kind}": many / max(packed, 1e-3), f"feeding_{kind}": read / max(fed, 1e-3)}
            out[name] = found
        preset = PRESETS["cpu"]
        vocab = tokenising.open_encoder(folder).vocabulary
        model = Decoder(preset.config(vocab=vocab))
        rate = Training(lr=preset.lr, embedding_lr=preset.embedding_lr, batch=preset.batch)
        feed = feeds.BestFit(store, model.config.context, preset.batch, steps=60)
        out["training_cpu_preset"] = {
            "weights": model.weights, "tokens_per_cpu_second": loop.fit(model, rate, feed).tokens_per_cpu_second
        }  # fmt: skip
    return out


def peers(lengths: np.ndarray, trl: Path | None) -> dict[str, dict[str, float | int | bool | str]]:
    """Each with our time on the very same pieces, measured in turn."""
    out: dict[str, dict[str, float | int | bool | str]] = {}
    some = lengths[:NAIVE]
    theirs, seconds = timed(lambda: naive(packing.cut_documents(some, PEER_CONTEXT).size.tolist(), PEER_CONTEXT))
    out["naive"] = against(some, theirs, seconds)
    if trl is not None:
        sys.path.append(str(trl))
        from trl import __version__ as trl_version  # type: ignore[import-not-found]
        from trl.data_utils import _pack_bfd  # type: ignore[import-not-found]

        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
        values = pa.array(np.zeros(int(lengths.sum()), dtype=np.int8))
        table = pa.table({"input_ids": pa.LargeListArray.from_arrays(offsets, values)})
        packed, seconds = timed(lambda: _pack_bfd(table, PEER_CONTEXT, "split"))
        filled = pc.list_value_length(packed["input_ids"]).to_numpy()
        out["trl"] = against(lengths, Counter(filled.tolist()), seconds) | {"version": trl_version}
    return out


def naive(sizes: list[int], capacity: int) -> Counter[int]:
    """Best fit item by item, the fullest bin found in a sorted list; how full the bins are."""
    left: list[int] = []
    for size in sorted(sizes, reverse=True):
        at = bisect.bisect_left(left, size)
        residual = left.pop(at) if at < len(left) else capacity
        bisect.insort(left, residual - size)
    return Counter(capacity - residual for residual in left)


def against(lengths: np.ndarray, theirs: Counter[int], seconds: float) -> dict[str, float | int | bool | str]:
    def ours() -> Counter[int]:
        pieces = packing.cut_documents(lengths, PEER_CONTEXT)
        bins, count = packing.best_fit(pieces.size, PEER_CONTEXT)
        return Counter(np.bincount(bins, weights=pieces.size, minlength=count).astype(int).tolist())

    mine, own = timed(ours)
    return {
        "documents": len(lengths), "seconds": seconds, "our_seconds": own, "times_as_fast": seconds / max(own, 1e-3),
        "same_rows": mine == theirs,
    }  # fmt: skip


def timed(step):
    start = time.process_time()
    made = step()
    return made, time.process_time() - start


def show(found: dict) -> None:
    print(f"{found['documents']:,} documents, {found['mean_tokens']:.0f} tokens on average")
    print(f"{'row':>6}{'documents/s':>13}{'padding':>9}{'cut':>5}{'cut by concatenation':>22}{'padding, windows':>20}")
    for context, r in found["rows"].items():
        print(f"{context:>6}{r['documents_per_second']:>13,.0f}{r['waste']:>9.3%}{r['truncated']:>5}"
              f"{r['truncated_by_concatenation']:>22,}{r['waste_in_windows']:>20.2%}")  # fmt: skip
    d = found["decomposition"]
    print(f"decomposition drops {d['dropped_256_to_8192']:.1%} (rows from 256), {d['dropped_64_to_8192']:.1%} (64)")
    for name, rates in found["end_to_end"].items():
        print(name, ", ".join(f"{step} {value:,.0f}" for step, value in rates.items()))
    for name, p in found["peers"].items():
        print(f"{name}: {p['documents']:,} documents in {p['seconds']:.2f} s, ours {p['our_seconds']:.3f} s; "
              f"the same rows: {p['same_rows']}")  # fmt: skip


if __name__ == "__main__":
    main()
