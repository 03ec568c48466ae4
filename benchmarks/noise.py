"""Noise of the trial's instruments on real text: A/A differences, as the registry that comes with the package has them.

    python benchmarks/noise.py DATA [--mb 0.8 2 4] [--rounds 6] [--transformer 4] [--write] [--record FILE]

DATA is a folder with ``pool.parquet`` (text) and ``targets.parquet`` (text, domain, split, group). The pool is shuffled
anew each round and cut into chunks of equal bytes, none twice in a round; one comparison takes two draws of five chunks
each (n-gram) or of three (transformer, ``curate.trials.settings.Trial``'s shape and budget), and is scored on the test
documents of every target. An entry is the difference of the two draws at each seed, percent of their mean cost: of
each target alone, and of the mean over targets.

Prints each setting's SD, the degrees that the registry would give it, bits per byte and CPU seconds a job. --write
adds each comparison to ``curate/train/noise.jsonl`` (or to FILE) as soon as it is made, and takes none away. What the
record holds already, of the same instrument, size, budget, pool and round, is not measured again: so a run that was
stopped goes on where it was, and a larger number of rounds adds the new ones. To replace a comparison, remove its lines
first. ``--mb`` without a number leaves the n-gram out.

Cost: 100 CPU seconds a comparison of the transformer (six runs, on a busy machine), scoring included.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.text import string_buffers
from curate.train import journal, ngram, noise, panel, statistics
from curate.train.panel import Target

SEEDS = {"ngram": 5, "transformer": 3}
# A setting, and the nats of each document of each target that the runs of a round pay: first one draw's, then the
# other's.
Instrument = tuple[dict[str, Any], Callable[[int], list[list[np.ndarray]]]]


@dataclass(frozen=True)
class Documents:
    """The test documents of one target."""

    name: str
    texts: list[str]
    offsets: np.ndarray
    data: np.ndarray
    size: np.ndarray
    clusters: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--mb", type=float, nargs="*", default=[0.8, 2, 4])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--transformer", type=int, default=0, help="comparisons of the transformer")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--record", type=Path, default=noise.SHIPPED, help="the journal to read and write")
    given = parser.parse_args()
    pool, targets = read_pool(given.data), read_targets(given.data)
    known = journal.read(given.record)
    corpus = digest(pool)
    measured: list[dict[str, Any]] = []
    plans: list[tuple[Callable[[], Instrument], int]] = [
        (partial(ngrams, pool, targets, int(mb * 1e6)), given.rounds) for mb in given.mb
    ]
    plans += [(partial(transformers, pool, targets), given.transformer)] if given.transformer else []
    for plan, rounds in plans:
        setting, compare = plan()
        for round_ in sorted(set(range(rounds)) - on_record(known, setting, corpus)):
            started = time.process_time()
            runs = compare(round_)
            seconds = time.process_time() - started
            made = compared(runs, targets, setting, {"corpus": corpus, "round": round_}, seconds)
            measured += made
            if given.write:
                journal.add(given.record, made)
    registry = noise.Registry([*known, *({**e, "id": journal.identity(e)} for e in measured)])
    print("\n".join(registry.lines()))
    print(f"{len(measured)} entries measured beside {len(known)} on record in {given.record}")


def on_record(entries: Sequence[Mapping[str, Any]], setting: Mapping[str, Any], corpus: str) -> set[int]:
    """The rounds of a pool that a record holds at a setting."""
    return {
        e["of"]["round"]
        for e in entries
        if all(e[name] == value for name, value in setting.items()) and e["of"].get("corpus") == corpus
    }


def compared(
    runs: Sequence[Sequence[np.ndarray]], targets: Sequence[Documents], setting: dict[str, Any], of: dict[str, Any],
    seconds: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """Entries of one comparison: the first half of the runs against the second, on each target and on their mean."""
    half = len(runs) // 2
    panels = {
        t.name: Target(
            nats={"random": np.array([r[i] for r in runs[:half]]), "random'": np.array([r[i] for r in runs[half:]])},
            clusters=t.clusters,
        )
        for i, t in enumerate(targets)
    }
    found = panel.compare(panels, {"aa": panel.AA}, resamples=200)["aa"]
    out = []
    mean = {f"mean of {len(targets)}": found.all} if len(targets) > 1 else {}
    for name, c in {**found.each, **mean}.items():
        metric = "bpb" if name in found.each else f"bpb {name}"
        print(
            f"{setting['instrument']} {setting['budget']:>9,} {setting['unit']} {name:<10} SD {c.sd:.2f} %, documents "
            f"{c.se_item:.2f} %; round {of['round']}, {seconds:.0f} CPU s for {len(runs)} runs",
            flush=True,
        )
        deltas = [round(x, 6) for x in c.deltas]
        out.append(noise.record(noise.Setting(metric=metric, **setting), deltas, of={**of, "target": name}))
    return out


# --------------------------------------------------------------------------------------------- chunks, targets, n-gram


def read_pool(folder: Path) -> list[bytes]:
    """The pool's documents as bytes, in the order of the file."""
    offsets, data = string_buffers(pq.read_table(folder / "pool.parquet", columns=["text"])["text"])
    return [data[a:b].tobytes() for a, b in pairwise(offsets.tolist()) if b > a]


def read_targets(folder: Path, split: str = "test") -> list[Documents]:
    """The test documents of every target, with their groups as clusters."""
    table = pq.read_table(folder / "targets.parquet", columns=["text", "domain", "split", "group"])
    table = table.filter(pc.and_(pc.equal(table["split"], split), pc.greater(pc.binary_length(table["text"]), 0)))
    out = []
    for name in sorted(pc.unique(table["domain"]).to_pylist()):
        rows = table.filter(pc.equal(table["domain"], name))
        offsets, data = string_buffers(rows["text"])
        group = pc.coalesce(rows["group"].cast(pa.string()), pa.array([f"\x00{i}" for i in range(len(rows))]))
        clusters = pc.index_in(group, value_set=pc.unique(group)).to_numpy().astype(np.int64)
        out.append(Documents(name, rows["text"].to_pylist(), offsets, data, np.diff(offsets), clusters))
    return out


def digest(pool: Sequence[bytes]) -> str:
    whole = hashlib.sha256()
    for text in pool:
        whole.update(hashlib.sha256(text).digest())
    return whole.hexdigest()[:16]


def cut(pool: Sequence[bytes], budget: int, seed: int) -> list[list[bytes]]:
    """Disjoint chunks of exactly ``budget`` bytes of the shuffled pool; the last document of each is cut."""
    out: list[list[bytes]] = []
    chunk: list[bytes] = []
    left = budget
    for i in np.random.default_rng(seed).permutation(len(pool)):
        text = pool[i][:left]
        chunk.append(text)
        left -= len(text)
        if left == 0:
            out.append(chunk)
            chunk, left = [], budget
    return out


def joined(chunk: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and data of documents."""
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in chunk])]).astype(np.int64)
    return offsets, np.frombuffer(b"".join(chunk), dtype=np.uint8)


def first(chunk: Sequence[bytes], budget: int) -> tuple[np.ndarray, np.ndarray]:
    """The first bytes of a chunk."""
    offsets, data = joined(chunk)
    return np.minimum(offsets, budget), data


def ngrams(pool: Sequence[bytes], targets: Sequence[Documents], budget: int) -> Instrument:
    """The n-gram of order 6 at a budget of bytes."""
    n = 2 * SEEDS["ngram"]

    def compare(round_: int) -> list[list[np.ndarray]]:
        chunks = cut(pool, budget, seed=round_)[:n]
        if len(chunks) < n:
            raise SystemExit(f"the pool holds {len(chunks)} chunks of {budget:,} bytes, and a comparison takes {n}")
        return [ngram_nats(chunk, targets) for chunk in chunks]

    return {
        "instrument": "ngram", "parameters": 0, "budget": budget, "unit": "bytes", "hardware": "any"
    }, compare  # fmt: skip


def ngram_nats(chunk: Sequence[bytes], targets: Sequence[Documents]) -> list[np.ndarray]:
    """What a chunk's n-gram of order 6 pays for each document of each target."""
    return scored(ngram.train(*joined(chunk)), targets)


def scored(model: ngram.Ngram, targets: Sequence[Documents]) -> list[np.ndarray]:
    return [ngram.nats(model, t.offsets, t.data)[-1] for t in targets]


# --------------------------------------------------------------------------------------------------------- transformer


def transformers(pool: Sequence[bytes], targets: Sequence[Documents]) -> Instrument:
    """The small transformer at the trial's own settings; it reads 5 bytes of text for each token that it may need."""
    from tokenizers import Tokenizer

    from curate import tokens
    from curate.train import data, loop, model, score
    from curate.trials.settings import Trial

    config = Trial()
    step = config.batch * config.context
    length = (config.tokens - 1) // step * step
    with tempfile.TemporaryDirectory() as scratch:
        sample = b"".join(cut(pool, 4_000_000, seed=2_000)[0]).decode(errors="ignore")
        tokens.train_bpe(pa.table({"text": pa.array([sample], pa.large_string())}), tokens.Bpe(), Path(scratch))
        tokenizer = Tokenizer.from_file(str(Path(scratch) / "tokenizer.json"))
    shape = model.Config(
        vocab=tokenizer.get_vocab_size(), width=config.width, layers=config.layers, heads=config.heads,
        hidden=config.hidden, context=config.context, qk_norm=config.qk_norm,
    )  # fmt: skip
    training = loop.Training(
        tokens=length, batch=config.batch, lr=config.lr, embedding_lr=config.embedding_lr, warmup=config.warmup,
        decay=config.decay, average=config.average,
    )  # fmt: skip

    def ids(texts: Sequence[str]) -> Any:
        return data.pack([e.ids for e in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)], 0)

    wanted = [ids(t.texts) for t in targets]
    n = SEEDS["transformer"]

    def compare(round_: int) -> list[list[np.ndarray]]:
        runs = []
        for i, chunk in enumerate(cut(pool, 5 * length, seed=1_000 + round_)[: 2 * n]):
            stream = ids([text.decode(errors="ignore") for text in chunk]).first(length + 1)
            if len(stream.ids) <= length:
                raise SystemExit(f"{5 * length:,} bytes hold {len(stream.ids):,} tokens, and a run reads {length:,}")
            trained = loop.train(shape, training, stream.ids, seed=i % n).model
            runs.append([score.nll(trained, w).nats for w in wanted])
        bits = [float(statistics.bits_per_byte(r[0][None], targets[0].size)[0]) for r in runs]
        print(f"transformer: {np.mean(bits):.3f} bits per byte on {targets[0].name}", flush=True)
        return runs

    parameters = sum(p.numel() for p in model.Decoder(shape, seed=0).parameters())
    return {
        "instrument": "transformer", "parameters": parameters, "budget": config.tokens, "unit": "tokens",
        "hardware": "cpu",
    }, compare  # fmt: skip


if __name__ == "__main__":
    main()
