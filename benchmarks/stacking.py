"""Replicas in lockstep beside the same runs one after the other, and beside processes that share the device.

    python benchmarks/stacking.py [--device cuda] [--sizes S M G screen] [--tokens 1024 4096 16384 65536]
                                  [--replicas 9] [--rounds 5] [--seconds 1.0] [--skip processes compiled ...]
                                  [--out benchmarks/results/stacking.json]
    python benchmarks/stacking.py --device cpu --sizes smoke --tokens 256 --replicas 3 --seconds 0.05 --rounds 2

The second command shows on a CPU that all is in place; its rates say nothing of a GPU.

Each replica has its own weights, feed and order, in all variants the same. A turn trains every replica for equally many
steps, feeding included, and ends when the device is done; variants take turns, after one that does not count. Rates are
tokens of all replicas a second by the wall clock, the median of the turns with the least and the most.

one by one              loop's own step (steps.Run), replica after replica; float32 weights, bfloat16 arithmetic
compiled                the same with its layers compiled (compiling.py)
graphs                  the same captured as one CUDA graph a replica, optimizer included, compiled before; GPU only
processes               a process a replica, all at once, each "compiled" (on a GPU the driver takes turns between them)
stacked                 lockstep.Runs
stacked, compiled       all layers in one graph of the compiler
stacked, graphs         captured as one CUDA graph; GPU only, not part of the library

``ratio`` is the best of the library's stacked variants over the best of all that are not stacked: ``stack.pays`` says
where that should be above 1, and ``rule`` is what it says. The largest difference between a stacked replica's first
losses and those of the same run alone is beside it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curate.train import lockstep, stack
from curate.train.compiling import compiled, compiler
from curate.train.feeding import StreamFeed
from curate.train.hardware import environment, mfu, threads
from curate.train.model import Config, Decoder
from curate.train.optim import adamw
from curate.train.presets import PRESETS
from curate.train.stacked import Stacked
from curate.train.steps import Run
from curate.train.training import Training

SIZES = {
    "smoke": Config(vocab=257, width=32, layers=2, heads=2, hidden=64, context=64),
    "S": Config(vocab=256, width=64, layers=2, heads=2, hidden=192, context=256),
    "M": PRESETS["1M"].shape,
    "G": PRESETS["5M"].shape,
    "screen": PRESETS["screen"].shape,
}
NONE = ("one by one", "compiled", "graphs", "processes")
STACKED = ("stacked", "stacked, compiled")
FIRST = 5                # steps whose losses are compared
ENDLESS = 10**9
Turn = Callable[[int], None]


def settings(config: Config, device: str) -> Training:
    """The same for all: a constant rate, small enough that no replica breaks."""
    return Training(lr=1e-3, warmup=0.0, decay=0.0, device=device, precision="bfloat16")


def feed_of(config: Config, tokens: int, replica: int) -> StreamFeed:
    """Random ids, some for each replica; no side's time depends on them."""
    ids = np.random.default_rng(replica).integers(0, config.vocab, max(4 * tokens, 2_000_000)).astype(np.uint16)
    return StreamFeed(ids, config.context, max(1, tokens // config.context), replica, ENDLESS)


def wait(device: str) -> None:
    """Until the device is done."""
    if device != "cpu":
        torch.cuda.synchronize()


class Alone:
    """Replicas one after the other."""

    def __init__(self, config: Config, tokens: int, chosen: range, device: str, on: bool, stack_: ExitStack) -> None:
        training = settings(config, device)
        self.plan, self.device = training.over(ENDLESS), device
        self.runs = []
        for r in chosen:
            model = Decoder(config, seed=r).to(device)
            stack_.enter_context(compiled(model, on=on))
            self.runs.append(Run(model, training, feed_of(config, tokens, r), 0))
            stack_.callback(self.runs[-1].close)

    def __call__(self, steps: int) -> None:
        """So many steps of each replica."""
        for run in self.runs:
            first = run.done
            for number in range(first, first + steps):
                run.step(number, 1.0, ENDLESS)
        for run in self.runs:
            run.collect(self.plan)
        wait(self.device)

    def losses(self) -> np.ndarray:
        """Of the first steps, (replicas, FIRST)."""
        return np.stack([run.history.losses[:FIRST] for run in self.runs])


class Together:
    """Replicas in lockstep."""

    def __init__(self, config: Config, tokens: int, chosen: range, device: str, on: bool, stack_: ExitStack) -> None:
        training = settings(config, device)
        self.plan, self.device = training.over(ENDLESS), device
        self.runs = lockstep.Runs(
            [Decoder(config, seed=r).to(device) for r in chosen], training,
            [feed_of(config, tokens, r) for r in chosen], [training.lr] * len(chosen), [str(r) for r in chosen],
        )  # fmt: skip
        stack_.callback(self.runs.close)
        stack_.enter_context(compiled(self.runs.stacked, on=on))

    def __call__(self, steps: int) -> None:
        """So many steps of all."""
        first = len(self.runs.histories[0])
        for number in range(first, first + steps):
            self.runs.step(number, 1.0, ENDLESS)
        self.runs.collect(self.plan)
        wait(self.device)

    def losses(self) -> np.ndarray:
        """Of the first steps, (replicas, FIRST)."""
        return np.stack([history.losses[:FIRST] for history in self.runs.histories])


class Captured:
    """A step of a model as one CUDA graph: batch, loss, gradient, clipping and AdamW, whose rate stays.

    The rows are those of its feeds; they are copied into the memory that the graph reads.
    """

    def __init__(self, model: Decoder, feeds: list[StreamFeed], training: Training) -> None:
        replicas = len(feeds)
        names = [str(r) for r in range(replicas)]
        self.feeders = lockstep.Feeders(feeds, names, torch.device("cuda"), model.config.vocab, None)
        self.model, self.training, self.done = model, training, 0
        self.parameters = list(model.parameters())
        self.optimizer = adamw(
            model, lr=training.lr, embedding_lr=training.embedding_lr, betas=training.betas,
            weight_decay=training.weight_decay,
        )  # fmt: skip
        for group in self.optimizer.param_groups:
            group["capturable"] = True
        part = self.feeders.step(0, 1).parts[0]  # and no thread pins the next one meanwhile
        self.tokens, self.targets = part.tokens.clone(), part.targets.clone()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what is compiled or allocated at the first steps must be there before
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        for p in self.parameters:
            p.grad = None
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._step()

    def _step(self) -> None:
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            loss = self.model.mean_nats(self.model(self.tokens), self.targets).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        if isinstance(self.model, Stacked):
            lockstep.clip(self.parameters, self.training.clip)
        else:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.training.clip)
        self.optimizer.step()
        for p in self.parameters:
            p.grad = None

    def __call__(self, steps: int) -> None:
        """So many steps, replayed."""
        for _ in range(steps):
            part = self.feeders.step(self.done, ENDLESS).parts[0]
            self.tokens.copy_(part.tokens)
            self.targets.copy_(part.targets)
            self.graph.replay()
            self.done += 1
        torch.cuda.synchronize()


def captured(config: Config, tokens: int, replicas: int, stacked: bool, on: bool, stack_: ExitStack) -> Turn:
    """Steps as CUDA graphs: one of the stack, or one a replica."""
    training = settings(config, "cuda")
    models = [Decoder(config, seed=r).cuda() for r in range(replicas)]
    feeds = [feed_of(config, tokens, r) for r in range(replicas)]
    made = []
    groups = [(Stacked(models), feeds)] if stacked else [(m, [f]) for m, f in zip(models, feeds, strict=True)]
    for model, own in groups:
        with compiled(model, on=on):
            made.append(Captured(model, own, training))
        stack_.callback(made[-1].feeders.close)

    def turn(steps: int) -> None:
        for one in made:
            one(steps)

    return turn


def processes(args: argparse.Namespace, size: str, tokens: int, on: bool) -> dict[str, Any]:
    """Tokens a second of a process a replica, begun together once all are warm."""
    env = {k: v for k, v in os.environ.items() if k not in environment()} | environment()
    command = [sys.executable, __file__, "--job", "--device", args.device, "--sizes", size, "--tokens", str(tokens)]
    command += [] if on else ["--skip", "compiled"]
    rates = []
    many = [
        subprocess.Popen(
            [*command, "--first", str(r)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for r in range(args.replicas)
    ]  # fmt: skip
    try:
        for child in many:
            if child.stdout is None or child.stdout.readline().strip() != "ready":
                raise SystemExit(f"a process of {size} at {tokens} tokens did not begin; see its error above")
        for _ in range(args.rounds):
            for child in many:
                _tell(child, f"{args.seconds}\n")
            rates.append(sum(float(child.stdout.readline()) for child in many if child.stdout is not None))
    finally:
        for child in many:
            child.communicate("\n")
    return rates_of(rates)


def _tell(child: subprocess.Popen[str], text: str) -> None:
    if child.stdin is not None:
        child.stdin.write(text)
        child.stdin.flush()


def job(args: argparse.Namespace) -> None:
    """One of those processes: trains for as many seconds as a line says, and prints tokens a second; ends at an empty
    line.
    """
    config, tokens = SIZES[args.sizes[0]], args.tokens[0]
    with ExitStack() as stack_, threads(1):
        run = Alone(config, tokens, range(args.first, args.first + 1), args.device, "compiled" not in args.skip, stack_)
        run(FIRST)
        print("ready", flush=True)
        for line in iter(sys.stdin.readline, "\n"):
            begun, steps = time.perf_counter(), 0
            while time.perf_counter() - begun < float(line):
                run(FIRST)
                steps += FIRST
            print(steps * step_tokens(config, tokens) / (time.perf_counter() - begun), flush=True)


def step_tokens(config: Config, tokens: int) -> int:
    """Tokens of a replica's step, whole windows."""
    return max(1, tokens // config.context) * config.context


def rates_of(rates: list[float]) -> dict[str, Any]:
    """Median, least and most."""
    return {"tokens_per_second": [round(f(rates)) for f in (statistics.median, min, max)]}


def measured(args: argparse.Namespace, size: str, tokens: int) -> dict[str, Any]:
    """All variants of a size at so many tokens a replica and step."""
    config, device, chosen = SIZES[size], args.device, range(args.replicas)
    each = step_tokens(config, tokens)
    compiles = "compiled" not in args.skip and (device != "cpu" or compiler() is not None)
    table: dict[str, Any] = {}
    with ExitStack() as stack_, threads(1):
        turns: dict[str, Turn] = {
            "one by one": Alone(config, tokens, chosen, device, False, stack_),
            "stacked": Together(config, tokens, chosen, device, False, stack_),
        }
        if compiles:
            turns["compiled"] = Alone(config, tokens, chosen, device, True, stack_)
            turns["stacked, compiled"] = Together(config, tokens, chosen, device, True, stack_)
        if device != "cpu" and "graphs" not in args.skip:
            turns["graphs"] = captured(config, tokens, args.replicas, False, compiles, stack_)
            turns["stacked, graphs"] = captured(config, tokens, args.replicas, True, compiles, stack_)
        for turn in turns.values():
            turn(FIRST)
        alone = turns["one by one"].losses()  # type: ignore[attr-defined]
        for name in STACKED:
            if name in turns:
                apart = np.abs(turns[name].losses() - alone).max()  # type: ignore[attr-defined]
                table.setdefault("largest_difference", {})[name] = float(f"{apart:.1e}")
        steps = {}
        for name, turn in turns.items():  # as many steps as take the seconds that are asked for
            begun = time.perf_counter()
            turn(FIRST)
            steps[name] = max(1, round(args.seconds * FIRST / (time.perf_counter() - begun)))
        rates: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(args.rounds):
            for name, turn in turns.items():
                begun = time.perf_counter()
                turn(steps[name])
                rates[name].append(steps[name] * each * args.replicas / (time.perf_counter() - begun))
    table |= {name: rates_of(own) for name, own in rates.items()}
    if "processes" not in args.skip:
        table["processes"] = processes(args, size, tokens, compiles)
    flops = Decoder(config).flops_per_token
    for name in (*NONE, *STACKED, "stacked, graphs"):
        if name in table:
            table[name]["mfu"] = mfu(flops, table[name]["tokens_per_second"][0], device)
    best = {
        names: max((table[name]["tokens_per_second"][0], name) for name in names if name in table)
        for names in (NONE, STACKED)
    }  # fmt: skip
    return {
        "tokens": each, "replicas": args.replicas, **table, "best_alone": best[NONE][1],
        "ratio": round(best[STACKED][0] / best[NONE][0], 2),
        "rule": stack.pays(config, replicas=args.replicas, tokens=each, device=device),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--sizes", nargs="*", default=["S", "M", "G", "screen"], choices=list(SIZES))
    parser.add_argument("--tokens", nargs="*", type=int, default=[1024, 4096, 16384, 65536], help="of a replica's step")
    parser.add_argument("--replicas", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    parser.add_argument("--skip", nargs="*", default=[], choices=["processes", "compiled", "graphs"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU is seen here; --device cpu --sizes smoke shows that all is in place")
    if args.job:
        job(args)
        return
    name = platform.processor() or platform.machine() if args.device == "cpu" else torch.cuda.get_device_name()
    report: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"), "device": name, "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda},
        "rounds": args.rounds, "seconds": args.seconds, "sizes": {},
    }  # fmt: skip
    for size in args.sizes:
        rows = report["sizes"][size] = []
        for tokens in args.tokens:
            rows.append(measured(args, size, tokens))
            print(size, json.dumps(rows[-1]), flush=True)
            torch.compiler.reset()
            if args.out:
                args.out.parent.mkdir(parents=True, exist_ok=True)
                args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
