"""The small trainer on a CPU, beside ``transformers``' Llama of the same weights and beside nanoGPT's loop.

    python benchmarks/trainer.py [--nanogpt CHECKOUT] [--sizes S M G] [--rounds 5] [--also ...] [--skip ...]
                                 [--out benchmarks/results/trainer.json]

``CHECKOUT`` is a checkout of github.com/karpathy/nanoGPT (its model.py and its own optimizer are used). All run in one
process with one thread, in the environment that ``hardware.environment`` gives, so the peers have the same memory
settings. They see windows of the same shape, clip alike and take turns, A B C A B C, after one that does not count.
Rates are tokens a CPU second, so that a neighbour on another core disturbs little; a ratio is the median of the paired
ratios, with the least and the most. Read ratios below 1.15 as equal. Ids are random: no side's time depends on them.

S is width 64 and bytes, M width 128 and 4,096 words, G width 256, 8,192 words and a context of 512. A step is 4,096
tokens. The first loss of the trainer must be that of ``transformers`` with the same weights.

training   a step: forward, backward, clip, AdamW (fused, but nanoGPT's own). bfloat16 by autocast unless said.
scoring    200 documents, of size M 1,000 too, their lengths log-normal (median 150 tokens), every token predicted,
           block by block; the peer pads batches of 16 rows, in the order of the documents, to the longest.
waiting    seconds from the first step's start to its end when it is compiled, with an empty cache and with a full one,
           each in a process of its own, beside an eager step's: what a long run must gain back.
neighbour  steps of size M, not compiled, in a process of each side, alone and beside one process a core that does
           nothing but spin, in turn: tokens a second by the clock and by the CPU. Fair scheduling leaves one thread
           half of a core or more, and two threads half of the machine; what is far below has collapsed. ``curate`` has
           one thread or two with ``environment``; peers have two as torch starts them (they spin while they wait), and
           one.

``--also`` adds variants: ``eager``, the trainer not compiled; ``float32`` and ``compiled``, the peers so. With none of
them, all sizes and all parts take some ten minutes on two quiet cores, the compiler's cold cache included.
"""

import argparse
import contextlib
import io
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from curate.train import data, score
from curate.train.compiling import compiled
from curate.train.exporting import export
from curate.train.hardware import autocast, environment
from curate.train.model import Config, Decoder
from curate.train.presets import PRESETS

SIZES = {
    "S": Config(vocab=256, width=64, layers=2, heads=2, hidden=192, context=256),
    "M": PRESETS["1M"].shape,
    "G": PRESETS["5M"].shape,
}
TOKENS = 4096
ROWS = 16                # of the peer's batches in scoring
DOCUMENTS = 200
MANY = 1000
CPU = torch.device("cpu")
Step = Callable[[], float]


def peer_of(ours: Decoder) -> Any:
    """The same weights in transformers."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        export(ours, Path(folder))
        return transformers.LlamaForCausalLM.from_pretrained(folder)


def nanogpt(checkout: Path, config: Config) -> tuple[Any, Any]:
    """The model of nanoGPT in a size, and the optimizer that it gives itself."""
    sys.path.insert(0, str(checkout))
    import model as theirs  # type: ignore[import-not-found]

    with contextlib.redirect_stdout(io.StringIO()):
        made = theirs.GPT(
            theirs.GPTConfig(
                block_size=config.context, vocab_size=config.vocab, n_layer=config.layers, n_head=config.heads,
                n_embd=config.width, dropout=0.0, bias=False,
            )
        )  # fmt: skip
        return made, made.configure_optimizers(0.1, 1e-3, (0.9, 0.95), "cpu")


def stepping(config: Config, weights: Any, optimizer: Any, loss_of: Callable[[Any, Any], Any], precision: str) -> Step:
    """A training step; returns the loss."""
    rows = TOKENS // config.context
    windows = torch.from_numpy(np.random.default_rng(0).integers(0, config.vocab, (8, rows, config.context + 1)))
    turn = 0

    def step() -> float:
        nonlocal turn
        w = windows[turn % len(windows)]
        turn += 1
        with autocast(CPU, precision):
            loss = loss_of(w[:, :-1].contiguous(), w[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def adamw(model: Any) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)


def ours_stepping(config: Config, precision: str, stack: ExitStack, compile: bool) -> Step:
    """A step of the trainer."""
    ours = Decoder(config)
    stack.enter_context(compiled(ours, on=compile))
    return stepping(config, list(ours.parameters()), adamw(ours), lambda x, y: ours.mean_nats(ours(x), y), precision)


def transformers_stepping(config: Config, precision: str, compile: bool) -> Step:
    """A step of transformers."""
    made = peer_of(Decoder(config)).train()
    run = torch.compile(made) if compile else made

    def loss(x: Any, y: Any) -> Any:
        logits = run(x, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), y.flatten())

    return stepping(config, list(made.parameters()), adamw(made), loss, precision)


def nanogpt_stepping(config: Config, checkout: Path, precision: str, compile: bool) -> Step:
    """A step of nanoGPT."""
    made, optimizer = nanogpt(checkout, config)
    run = torch.compile(made) if compile else made
    return stepping(config, list(made.parameters()), optimizer, lambda x, y: run(x, y)[1], precision)


def training_steps(config: Config, checkout: Path | None, stack: ExitStack, kinds: set[str]) -> dict[str, Step]:
    """A step of each side."""
    steps = {"curate": ours_stepping(config, "bfloat16", stack, True)}
    if "eager" in kinds:
        steps["curate, not compiled"] = ours_stepping(config, "bfloat16", stack, False)

    peers: dict[str, Callable[[str, bool], Step]] = {"transformers": partial(transformers_stepping, config)}
    if checkout is not None:
        peers["nanoGPT"] = partial(nanogpt_stepping, config, checkout)
    for name, make in peers.items():
        steps[name] = make("bfloat16", False)
        if "float32" in kinds:
            steps[f"{name}, float32"] = make("float32", False)
        if "compiled" in kinds:
            steps[f"{name}, compiled"] = make("bfloat16", True)
    return steps


def scorers(config: Config, documents: data.Tokens, kinds: set[str]) -> dict[str, Step]:
    """A pass over the documents of each side; returns nats a token."""
    ours = Decoder(config)
    theirs = peer_of(ours).eval()
    width = config.context
    rows = []
    for i, length in enumerate(documents.lengths.tolist()):
        stream = documents.ids[documents.offsets[i] : documents.offsets[i + 1]].astype(np.int64)
        rows += [stream[start : start + width + 1] for start in range(0, length, width)]

    def naive(precision: str) -> float:
        total, count = 0.0, 0
        with torch.inference_mode(), autocast(CPU, precision):
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

    def mine(compile: bool) -> float:
        got = score.nll(ours, documents, precision="bfloat16", compile=compile)
        return float(got.nats.sum() / got.tokens.sum())

    passes = {"curate": lambda: mine(True), "transformers": lambda: naive("bfloat16")}
    if "eager" in kinds:
        passes["curate, not compiled"] = lambda: mine(False)
    if "float32" in kinds:
        passes["transformers, float32"] = lambda: naive("float32")
    return passes


def alternate(variants: dict[str, Step], work: int, rounds: int, least: float) -> dict[str, Any]:
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
    table: dict[str, Any] = {}
    for name, own in rates.items():
        ratios = [a / b for a, b in zip(rates["curate"], own, strict=True)]
        table[name] = {
            "tokens_per_cpu_second": [round(f(own)) for f in (statistics.median, min, max)],
            "curate_over_this": [round(f(ratios), 2) for f in (statistics.median, min, max)],
            "first_loss": round(first[name], 4),
        }
        print(f"    {name:24s}", *table[name].values(), flush=True)
    return table


def child(job: str, variables: dict[str, str], *more: str) -> Any:
    """What a process of this script with other variables prints."""
    env = {k: v for k, v in os.environ.items() if k not in environment()} | variables
    command = [sys.executable, __file__, "--job", job, *more]
    return json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)


def job_wait() -> dict[str, float]:
    """Wall-clock seconds of the first two steps of size M, compiled; CPU seconds of later steps, compiled and not."""
    with ExitStack() as stack:
        step = ours_stepping(SIZES["M"], "bfloat16", stack, True)
        eager = ours_stepping(SIZES["M"], "bfloat16", stack, False)
        begun = time.perf_counter()
        step()
        step()
        waited = time.perf_counter() - begun
        for _ in range(2):
            eager()
        timed = {}
        for name, fn in (("compiled", step), ("eager", eager)):
            start = time.process_time()
            for _ in range(5):
                fn()
            timed[name] = (time.process_time() - start) / 5
    return {"seconds": waited, "step": timed["compiled"], "eager_step": timed["eager"]}


def job_speed(side: str, checkout: Path | None, threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Tokens a second of size M, not compiled, by the clock and by the CPU: alone and beside neighbours, in turn."""
    torch.set_num_threads(threads)
    config = SIZES["M"]
    rates: dict[str, list[tuple[float, float]]] = {"alone": [], "beside": []}
    with ExitStack() as stack:
        if side == "nanoGPT":
            assert checkout is not None  # noqa: S101
            step = nanogpt_stepping(config, checkout, "bfloat16", False)
        elif side == "transformers":
            step = transformers_stepping(config, "bfloat16", False)
        else:
            step = ours_stepping(config, "bfloat16", stack, False)
        for _ in range(3):
            step()
        for _ in range(rounds):
            for place, neighbours in (("alone", 0), ("beside", len(os.sched_getaffinity(0)))):
                with busy(neighbours):
                    begun, begun_cpu, steps = time.perf_counter(), time.process_time(), 0
                    while time.perf_counter() - begun < seconds:
                        step()
                        steps += 1
                    spent, spent_cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
                rates[place].append((steps * TOKENS / spent, steps * TOKENS / spent_cpu))
    return rates


def waiting() -> dict[str, Any]:
    """What compiling costs, cold and warm, and after how many steps it is paid."""
    with tempfile.TemporaryDirectory() as folder:
        variables = environment() | {"TORCHINDUCTOR_CACHE_DIR": folder}
        cold, warm = child("wait", variables), child("wait", variables)
    out: dict[str, Any] = {"cold": cold, "warm": warm}
    for one in (cold, warm):
        saved = one["eager_step"] - one["step"]
        one["paid_after_steps"] = math.ceil(one["seconds"] / saved) if saved > 0 else None
    print("   ", json.dumps(out), flush=True)
    return out


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that keep so many cores busy."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in spinning:
            one.kill()
            one.wait()


def neighbour(checkout: Path | None, rounds: int, seconds: float) -> dict[str, Any]:
    """Speeds alone and beside neighbours; each side in a process of its own."""
    spinning = {name: str(count) for name, count in (("OMP_NUM_THREADS", 2), ("MKL_NUM_THREADS", 2))}
    variants = {
        "curate, 1 thread": ("curate", 1, environment(1)),
        "curate, 2 threads": ("curate", 2, environment(2)),
        "curate, 2 threads, torch's defaults": ("curate", 2, spinning),
        "transformers, 1 thread": ("transformers", 1, environment(1)),
        "transformers, 2 threads, torch's defaults": ("transformers", 2, spinning),
    }
    more: list[str] = []
    if checkout is not None:
        variants["nanoGPT, 1 thread"] = ("nanoGPT", 1, environment(1))
        variants["nanoGPT, 2 threads, torch's defaults"] = ("nanoGPT", 2, spinning)
        more = ["--nanogpt", str(checkout)]
    table: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "neighbours": len(os.sched_getaffinity(0))}
    for name, (side, threads, variables) in variants.items():
        rates = child(
            "speed", variables, "--side", side, "--threads", str(threads), "--rounds", str(rounds), "--least",
            str(seconds), *more,
        )  # fmt: skip
        table[name] = {}
        for i, unit in enumerate(("tokens_per_second", "tokens_per_cpu_second")):
            alone, beside = ([pair[i] for pair in rates[place]] for place in ("alone", "beside"))
            ratios = [b / a for a, b in zip(alone, beside, strict=True)]
            table[name][unit] = {
                "alone": [round(f(alone)) for f in (statistics.median, min, max)],
                "beside": [round(f(beside)) for f in (statistics.median, min, max)],
                "beside_over_alone": [round(f(ratios), 2) for f in (statistics.median, min, max)],
            }
        print(f"    {name:42s}", json.dumps(table[name]), flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--least", type=float, default=1.0, help="CPU-seconds of a turn")
    parser.add_argument(
        "--skip", nargs="*", default=[],
        choices=["training", "scoring", "waiting", "neighbour"], help="parts",
    )  # fmt: skip
    parser.add_argument("--also", nargs="*", default=[], choices=["float32", "compiled", "eager"], help="variants")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", choices=["wait", "speed"], help=argparse.SUPPRESS)
    parser.add_argument("--side", default="curate", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job == "wait":
        print(json.dumps(job_wait()))
        return
    if args.job == "speed":
        print(json.dumps(job_speed(args.side, args.nanogpt, args.threads, args.rounds, args.least)))
        return
    wanted = environment()
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)
    torch.set_num_threads(1)
    kinds, begun = set(args.also), time.perf_counter()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    report: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": {
            "processor": next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), None),
            "instructions": sorted({w for line in lines for w in line.split() if w.startswith(("avx512_bf16", "amx"))}),
            "cores": os.cpu_count(),
            "load_before": [round(x, 1) for x in os.getloadavg()],
        },
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        },
        "rounds": args.rounds,
        "sizes": {},
    }  # fmt: skip
    rng = np.random.default_rng(1)
    for size in args.sizes:
        config = SIZES[size]
        made = Decoder(config)
        entry: dict[str, Any] = {
            "width": config.width, "context": config.context, "vocab": config.vocab, "weights": made.weights,
            "flops_per_token": made.flops_per_token,
        }  # fmt: skip
        print(size, json.dumps(entry), flush=True)
        if "training" not in args.skip:
            with ExitStack() as stack:
                print("  training", flush=True)
                steps = training_steps(config, args.nanogpt, stack, kinds)
                entry["training"] = alternate(steps, TOKENS, args.rounds, args.least)
        if "scoring" not in args.skip:
            for count in (DOCUMENTS, MANY) if size == "M" else (DOCUMENTS,):
                print(f"  scoring {count} documents", flush=True)
                lengths = np.clip(rng.lognormal(np.log(150), 1.0, count), 1, 4000).astype(int)
                documents = data.pack([rng.integers(1, config.vocab, n) for n in lengths], 0)
                passes = scorers(config, documents, kinds)
                rounds = args.rounds if count == DOCUMENTS else min(args.rounds, 3)
                work = int(documents.lengths.sum())
                name = "scoring" if count == DOCUMENTS else f"scoring {count}"
                entry[name] = alternate(passes, work, rounds, args.least)
        report["sizes"][size] = entry
        torch.compiler.reset()
    if "waiting" not in args.skip:
        print("  waiting", flush=True)
        report["waiting"] = waiting()
    if "neighbour" not in args.skip:
        print("  neighbour", flush=True)
        report["neighbour"] = neighbour(args.nanogpt, min(args.rounds, 3), 2.0)
    report["minutes"] = round((time.perf_counter() - begun) / 60, 1)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
