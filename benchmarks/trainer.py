"""The small trainer against ``transformers``' Llama of the same weights: tokens a CPU-second, training and scoring.

    python benchmarks/trainer.py [--sizes default medium] [--rounds 5] [--out benchmarks/results/trainer.json]

Both start from the same weights (``export_hf``), see the same windows, use the same fused AdamW and clip alike; the
benchmark stops if their first losses differ. One thread. The variants take turns in one process, A B A B, after one
round that does not count; a ratio is the median of the paired ratios, with the smallest and the largest.

Training: one step of 16 windows. Scoring: documents whose lengths are drawn from a log-normal (median 150 tokens),
every token predicted, block by block; the peer pads batches of 16 rows, in the order of the documents, to the longest.
Ids are random: neither side's time depends on them.

Times are CPU-seconds of the process, so that a neighbour on another core disturbs little; a machine whose cores share
a cache or are hyper-threads of one still drifts, which the turns cancel. Read ratios below 1.15 as equal.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from curate.train import data, score
from curate.train.hardware import autocast
from curate.train.model import Config, Decoder, export_hf
from curate.train.optim import adamw

SIZES = {
    "default": (Config(vocab=2048), ("float32", "bfloat16")),
    "medium": (
        Config(vocab=4096, width=128, layers=4, heads=4, hidden=352, context=256),
        ("float32", "bfloat16"),
    ),
}
ROWS = 16


def peer_of(ours: Decoder) -> Any:
    """The same weights in transformers."""
    with tempfile.TemporaryDirectory() as folder:
        export_hf(ours, Path(folder))
        return transformers.LlamaForCausalLM.from_pretrained(folder)


def training_steps(config: Config, precision: str) -> dict[str, Callable[[], float]]:
    """A step of each side; returns the loss."""
    ours = Decoder(config)
    theirs = peer_of(ours).train()
    ids = np.random.default_rng(0).integers(0, config.vocab, (8, ROWS, config.context + 1))
    windows = torch.from_numpy(ids)
    cpu = torch.device("cpu")
    mine = adamw(ours, lr=1e-3, embedding_lr=1.0, betas=(0.9, 0.95), weight_decay=0.1)
    other = torch.optim.AdamW(theirs.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    turn = {"curate": 0, "transformers": 0}

    def step(name: str) -> float:
        w = windows[turn[name] % len(windows)]
        turn[name] += 1
        model, optimizer = (ours, mine) if name == "curate" else (theirs, other)
        with autocast(cpu, precision):
            if name == "curate":
                loss = ours.mean_nats(ours(w[:, :-1]), w[:, 1:])
            else:
                logits = theirs(w[:, :-1], use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), w[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return {"curate": lambda: step("curate"), "transformers": lambda: step("transformers")}


def scorers(config: Config, precision: str, documents: data.Tokens) -> dict[str, Callable[[], float]]:
    """A pass over the documents of each side; returns nats a token."""
    ours = Decoder(config)
    theirs = peer_of(ours).eval()
    width = config.context
    rows = []
    for i, length in enumerate(documents.lengths.tolist()):
        stream = documents.ids[documents.offsets[i] : documents.offsets[i + 1]].astype(np.int64)
        rows += [stream[start : start + width + 1] for start in range(0, length, width)]

    def naive() -> float:
        total, count = 0.0, 0
        with torch.inference_mode(), autocast(torch.device("cpu"), precision):
            for start in range(0, len(rows), ROWS):
                batch = rows[start : start + ROWS]
                longest = max(len(r) for r in batch) - 1
                inputs = torch.zeros((len(batch), longest), dtype=torch.int64)
                labels = torch.full((len(batch), longest), -100)
                for i, row in enumerate(batch):
                    inputs[i, : len(row) - 1] = torch.from_numpy(row[:-1])
                    labels[i, : len(row) - 1] = torch.from_numpy(row[1:])
                logits = theirs(inputs, use_cache=False).logits.float()
                total += float(
                    torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
                )
                count += int((labels >= 0).sum())
        return total / count

    def mine() -> float:
        got = score.nll(ours, documents, precision=precision)
        return float(got.nats.sum() / got.tokens.sum())

    return {"curate": mine, "transformers": naive}


def alternate(variants: dict[str, Callable[[], float]], work: int, rounds: int, least: float) -> dict[str, Any]:
    """Take turns; ``work`` is tokens a call, and each turn lasts at least so many CPU-seconds."""
    first = {name: fn() for name, fn in variants.items()}
    if abs(first["curate"] - first["transformers"]) > 0.02 * first["transformers"]:
        raise SystemExit(f"the two sides do not compute the same loss: {first}")
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, fn in variants.items():
            calls, start = 0, time.process_time()
            while (spent := time.process_time() - start) < least:
                fn()
                calls += 1
            if turn:
                rates[name].append(calls * work / spent)
    kinds = (("median", statistics.median), ("least", min), ("most", max))
    ratios = [a / b for a, b in zip(rates["curate"], rates["transformers"], strict=True)]
    return {
        "tokens_per_cpu_second": {name: round(statistics.median(r)) for name, r in rates.items()},
        "ratio": {name: round(kind(ratios), 2) for name, kind in kinds},
        "first_loss": first,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--least", type=float, default=0.7, help="CPU-seconds of a turn")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "machine": {"processor": platform.machine(), "instructions": torch.backends.cpu.get_cpu_capability()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "rounds": args.rounds,
        "sizes": {},
    }  # fmt: skip
    rng = np.random.default_rng(1)
    for size in args.sizes:
        config, precisions = SIZES[size]
        lengths = np.clip(rng.lognormal(np.log(150), 1.0, 200), 1, 4000).astype(int)
        documents = data.pack([rng.integers(1, config.vocab, n) for n in lengths], 0)
        entry: dict[str, Any] = {"weights": Decoder(config).weights, "context": config.context}
        for precision in precisions:
            step = ROWS * config.context
            entry[precision] = {
                "training": alternate(training_steps(config, precision), step, args.rounds, args.least),
                "scoring": alternate(
                    scorers(config, precision, documents), int(documents.lengths.sum()), args.rounds, args.least
                ),
            }
            print(size, precision, json.dumps(entry[precision]), flush=True)
        report["sizes"][size] = entry
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
