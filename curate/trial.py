"""The experiment: small models trained on a mix and on its baselines, and the verdict, with noise counted.

The question is narrow: at equal budgets, does training on this mix instead of a random draw lower the bits per byte on
documents of the target, by more than ``delta`` and by more than noise? What is measured is that a small model gets
closer to the target's text; nothing here says that a model is better.

Arms (inputs ``arm:NAME``; samples in keyed-hash order):

    random, random'            two uniform draws from the pool: their mean is the baseline, they are the A/A test
    length_matched             random, with the mix's distribution of lengths: is a score length in disguise?
    source_matched             random, with the mix's shares of sources: the mix, or the choice within sources?
    conditional_only           chosen by the conditional model's loss alone: is the contrast of two models needed?
    anything else              a mix. With several mixes a control names its own: ``length_matched:MIX``

Other inputs: ``target:test`` (and ``target:train``, ``target:validation``), which are scored or searched for leaks, and
the directory ``tokenizer``.

Instruments:

    0  composition: lengths, sources, compression, copies; which test documents the arm holds. Always.
    1  an interpolated byte n-gram (curate.train.ngram). Budget in bytes; no training noise; carries the controls.
    2  a small transformer over a shared BPE tokenizer. Budget in tokens. Byte n-grams trained on the very same text
       stand beside it, and an instrument that is worse than order 3 gives no verdict.

The steps: ``jobs`` cuts each arm into disjoint consecutive chunks, one a seed, of equal bytes (equal tokens) across
arms; an arm that cannot fill its chunks shrinks the budget of all. ``work`` trains on one chunk and returns every
test document's nats. ``conclude`` draws the verdict (curate.train.statistics): interval from both error sources, A/A
noise pooled in.

    no verdict                     the A/A test, the leak check or an instrument failed, or there are too few seeds
    closer to the target           interval above 0, estimate at least delta, and the mix beats its controls
    closer, explained by ...       the same without beating the length-matched or source-matched control
    farther from the target        interval below 0, estimate at most -delta
    equivalent within delta        interval inside (-delta, delta)
    inconclusive, n seeds needed   anything else; also where the other instrument has the other sign

Whatever is trained on or selected by is searched for the scored documents. One that stands in an arm as a whole is a
leak, and there is no verdict. The guard is stricter and is told with every verdict: it holds where no document of any
arm, or of ``target:train``, shares 13 words in a row with a scored document, and names how many do where it does not.

The first instrument decides and the others must agree in sign, so a second instrument can only take a verdict away.
Several mixes share the 5 %: with k mixes each interval has level 1 - .05 / k.

Cost, one core: about a second an n-gram job of 2 MB, 10 seconds a transformer job of 300,000 tokens; ``jobs`` tokenises
what the transformer will read, about a second an arm.
Elsewhere: which rows make an arm (select.py, and the recipe that calls it).
"""

import importlib.util
import logging
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.artifact import Experiment
from curate.errors import BadData, BadInput, BadPlan, MissingExtra
from curate.stage import Needs, Numerics
from curate.text import string_buffers
from curate.train import ngram, overlap, statistics

BASELINES = ("random", "random'")
CONTROLS = {"length_matched": "length", "source_matched": "source mix", "conditional_only": None}  # what each explains
INSTRUMENTS = ("ngram", "transformer")
UNIT = {"ngram": "bytes", "transformer": "tokens"}
ENOUGH = {"ngram": 5, "transformer": 3}  # seeds below which an instrument gives no verdict
FEWEST_DOCUMENTS = 50
TOLERANCE = 0.005  # arms whose budgets differ by more are refused
NEAR = 0.8  # share of a document's 13-grams above which it is called a near copy
# Noise assumed before training (benchmarks/trial_nulls.py measures it): SD of the A/A difference in percent at a
# budget, falling with its square root, and SD of one document's difference.
EXPECTED = {"ngram": (3.0, 800_000), "transformer": (1.3, 300_000)}
EXPECTED_ITEM = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Settings of a trial.

    Args:
        instruments: which are run; the first decides, the others must agree in sign.
        subsamples: chunks an arm for the n-gram; a verdict needs 5.
        ngram_bytes: bytes of each.
        seeds: transformer runs an arm; a verdict needs 3. Seed s fixes weights and order, and takes chunk s.
        tokens: tokens of each run.
        delta: the smallest difference worth having, percent of the baseline's bits per byte.
        split: the target's documents to score: input ``target:SPLIT``.
        documents: the most of them that are scored, from the first on; at least 50.
        width: of the transformer's residual stream.
        layers: of the transformer.
        heads: attention heads.
        hidden: width inside the SwiGLU.
        context: tokens of a training window.
        batch: windows a step.
        lr: peak learning rate, the same for all arms; tune it on random alone.
        resamples: of the bootstrap over documents.
        seed: begins the numbering of weights and orders, and seeds the bootstrap.
    """

    instruments: tuple[str, ...] = INSTRUMENTS
    subsamples: int = 5
    ngram_bytes: int = 2_000_000
    seeds: int = 3
    tokens: int = 300_000
    delta: float = 3.0
    split: str = "test"
    documents: int = 1_000
    width: int = 64
    layers: int = 2
    heads: int = 2
    hidden: int = 192
    context: int = 64
    batch: int = 16
    lr: float = 5e-3
    resamples: int = 10_000
    seed: int = 0

    def repeats(self, instrument: str) -> int:
        """Chunks an arm for an instrument."""
        return self.subsamples if instrument == "ngram" else self.seeds

    def budget(self, instrument: str) -> int:
        """What is asked for each chunk, in the instrument's unit."""
        return self.ngram_bytes if instrument == "ngram" else self.tokens


def sample_bytes(config: Trial) -> int:
    """Bytes of text that an arm's sample should hold so that no budget has to shrink.

    Twice what is trained on, because random' gives up what random has used already, with room for the documents that
    are cut at the end of a chunk; a token is taken as 4 bytes.
    """
    each = {"ngram": config.ngram_bytes, "transformer": 4 * config.tokens}
    return int(2.2 * max(config.repeats(name) * each[name] for name in config.instruments))


# ---------------------------------------------------------------------------------------------------------------- jobs


def jobs(config: Trial, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """One job a composition, then one an (instrument, seed, arm): every finished seed is a complete replicate.

    Raises:
        BadPlan: fewer than two seeds, an unknown instrument, an arm missing.
        BadInput: fewer than 50 documents to score, or an arm too small to be cut.
        MissingExtra: the transformer without its packages.
    """
    _check(config)
    mixes, controls = _arms(inputs)
    documents = _evaluation(config, inputs)
    plans = {name: _plan(name, config, _trained(name, mixes, controls), inputs) for name in config.instruments}
    if "transformer" in plans and plans["transformer"].budget <= config.batch * config.context:
        raise BadInput(
            f"{plans['transformer'].budget} tokens do not fill one step of the transformer", where="trial inputs",
            fix="give the arms more documents",
        )  # fmt: skip
    first = plans[config.instruments[0]]
    todo: list[dict[str, Any]] = []
    for name in sorted(inputs):
        kind, _, arm = name.partition(":")
        if kind == "arm":
            cuts = first.cuts.get(arm)
            rows = cuts[-1][1] if cuts else 0  # a control that the first instrument does not train on is only searched
            todo.append({"instrument": "composition", "input": name, "rows": rows, "without": first.without(arm)})
        elif kind == "target":
            todo.append({"instrument": "composition", "input": name, "rows": None, "without": 0})
    for name, plan in plans.items():
        for seed in range(config.repeats(name)):
            for arm, cuts in plan.cuts.items():
                start, stop = cuts[seed]
                todo.append({
                    "instrument": name, "arm": arm, "seed": seed, "start": start, "stop": stop,
                    "budget": plan.budget, "without": plan.without(arm),
                })  # fmt: skip
    for line in foresight_lines(foresight(config, todo, len(documents))):
        log.info(line)
    return todo


def foresight(config: Trial, jobs: Sequence[Mapping[str, Any]], documents: int) -> dict[str, dict[str, float]]:
    """What can be seen, said before training: the minimum detectable effect of each instrument, percent.

    It rests on the noise that was measured elsewhere (``EXPECTED``), scaled to the budgets of these jobs.
    """
    out = {}
    for name in config.instruments:
        budget = next(job["budget"] for job in jobs if job["instrument"] == name)
        noise, at = EXPECTED[name]
        noise *= (at / budget) ** 0.5
        n = config.repeats(name)
        effect = statistics.detectable(
            noise * (1.5 / 2) ** 0.5, n, 2 * (n - 1), EXPECTED_ITEM / documents**0.5, documents
        )
        out[name] = {"detectable": effect, "noise": noise, "seeds": n, "budget": budget, "asked": config.budget(name)}
    return out


def foresight_lines(seen: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The same as lines for the terminal."""
    out = []
    for name, x in seen.items():
        cut = f" (asked: {x['asked']:,.0f}; the smallest arm allows no more)" if x["budget"] < x["asked"] else ""
        out.append(
            f"{name}: {x['seeds']} runs an arm of {x['budget']:,.0f} {UNIT[name]}{cut}; the minimum detectable effect "
            f"is {x['detectable']:.1f} % (80 % power, A/A noise of {x['noise']:.1f} % assumed)"
        )
    return out


def _check(config: Trial) -> None:
    unknown = [name for name in config.instruments if name not in INSTRUMENTS]
    if unknown or not config.instruments or len(set(config.instruments)) < len(config.instruments):
        raise BadPlan(
            f"instruments {config.instruments!r} of a trial", where="Trial.instruments",
            fix=f"some of: {', '.join(INSTRUMENTS)}",
        )  # fmt: skip
    for name in config.instruments:
        if config.repeats(name) < 2:
            raise BadPlan(
                f"{config.repeats(name)} run of the {name} an arm: noise cannot be measured", where="Trial",
                fix=f"at least 2; a verdict needs {ENOUGH[name]}",
            )  # fmt: skip
    if "transformer" in config.instruments:
        for package in ("torch", "tokenizers"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtra(
                    f"the transformer of a trial needs {package}", where="Trial.instruments",
                    fix='pip install "curate[train]", or instruments=("ngram",)',
                )  # fmt: skip


def _arms(inputs: Mapping[str, Path]) -> tuple[list[str], dict[str, str]]:
    """The mixes, and for each control arm the mix that it controls."""
    names = [name.partition(":")[2] for name in sorted(inputs) if name.startswith("arm:")]
    for name in BASELINES:
        if name not in names:
            raise BadPlan(f"a trial without the arm {name!r}", where="trial inputs", fix=f"give an input 'arm:{name}'")
    kind = {name: name.partition(":")[0] for name in names}
    mixes = [name for name in names if name not in BASELINES and kind[name] not in CONTROLS]
    if not mixes:
        raise BadPlan("a trial without a mix", where="trial inputs", fix="give an input 'arm:NAME'")
    controls = {}
    for name in names:
        if kind[name] in CONTROLS:
            mix = name.partition(":")[2] or (mixes[0] if len(mixes) == 1 else "")
            if mix not in mixes:
                raise BadPlan(
                    f"the control {name!r} does not say which mix it controls", where="trial inputs",
                    fix=f"name it '{kind[name]}:MIX', MIX one of: {', '.join(mixes)}",
                )  # fmt: skip
            controls[name] = mix
    return mixes, controls


def _trained(instrument: str, mixes: Sequence[str], controls: Mapping[str, str]) -> list[str]:
    """The arms of an instrument, in the order of training; controls only on the cheap one."""
    return [*BASELINES, *mixes, *(controls if instrument == "ngram" else ())]


def _evaluation(config: Trial, inputs: Mapping[str, Path]) -> pa.Table:
    """The documents to score: ``text`` and ``cluster``, int64 from 0 (the file's ``group``, or one a document)."""
    name = f"target:{config.split}"
    if name not in inputs:
        raise BadPlan(f"a trial without {name!r}", where="trial inputs", fix="give the target's held-out documents")
    path = Path(inputs[name])
    columns = [c for c in ("text", "group", "module") if c in pq.read_schema(path).names][:2]
    table = pq.read_table(path, columns=columns)
    table = table.filter(pc.greater(pc.binary_length(table["text"]), 0)).slice(0, config.documents)
    if len(table) < FEWEST_DOCUMENTS:
        raise BadInput(
            f"{len(table)} documents to score, and fewer than {FEWEST_DOCUMENTS} say nothing", where=str(path),
            fix=f"give at least {FEWEST_DOCUMENTS} documents that are not empty (200 or more is better)",
        )  # fmt: skip
    alone = pa.array([f"\x00{i}" for i in range(len(table))])
    group = pc.coalesce(table[columns[1]].cast(pa.string()), alone) if len(columns) > 1 else alone
    cluster = pc.index_in(group, value_set=pc.unique(group))
    return pa.table({"text": table["text"].cast(pa.large_string()), "cluster": cluster.cast(pa.int64())})


@dataclass(frozen=True)
class _Plan:
    """Where arms are cut for one instrument.

    Args:
        budget: bytes or tokens of every chunk.
        cuts: arm to the row ranges of its chunks.
        used: rows at the head of random whose documents random' may not hold.
    """

    budget: int
    cuts: dict[str, list[tuple[int, int]]]
    used: int

    def without(self, arm: str) -> int:
        return self.used if arm == "random'" else 0


class _Sizes:
    """Sizes of an arm's documents, in its order; counted only as far as they are asked for."""

    def __init__(self, batches: Iterator[np.ndarray]) -> None:
        self.batches = batches
        self.sizes = np.empty(0, dtype=np.int64)

    def cut(self, budget: int, chunks: int, leave: np.ndarray | None = None) -> list[tuple[int, int]] | None:
        """Row ranges of consecutive chunks, each the fewest rows that hold the budget; None where there are too few.

        Args:
            budget: size of each chunk.
            chunks: how many.
            leave: rows that do not count, bool, for all rows of the arm.
        """
        while (out := self._cut(budget, chunks, leave)) is None:
            more = next(self.batches, None)
            if more is None:
                return None
            self.sizes = np.concatenate([self.sizes, more])
        return out

    def _cut(self, budget: int, chunks: int, leave: np.ndarray | None) -> list[tuple[int, int]] | None:
        sizes = self.sizes if leave is None else np.where(leave[: len(self.sizes)], 0, self.sizes)
        ends = np.cumsum(sizes)
        out = []
        start = 0
        for _ in range(chunks):
            stop = int(np.searchsorted(ends, (ends[start - 1] if start else 0) + budget)) + 1
            if stop > len(ends):
                return None
            out.append((start, stop))
            start = stop
        return out


def _plan(instrument: str, config: Trial, arms: Sequence[str], inputs: Mapping[str, Path]) -> _Plan:
    """Cut all arms alike: the asked budget, or the largest that every arm can fill."""
    sizes = {arm: _Sizes(_sizes(instrument, arm, inputs)) for arm in arms}
    first, second = (pq.read_table(inputs[f"arm:{arm}"], columns=["key"])["key"].combine_chunks() for arm in BASELINES)
    place = pc.index_in(second, value_set=first).fill_null(len(first)).to_numpy(zero_copy_only=False)
    chunks = config.repeats(instrument)

    def attempt(budget: int) -> _Plan | None:
        cuts: dict[str, list[tuple[int, int]]] = {}
        used = 0
        for arm in arms:
            ranges = sizes[arm].cut(budget, chunks, place < used if arm == "random'" else None)
            if ranges is None:
                return None
            cuts[arm] = ranges
            used = ranges[-1][1] if arm == "random" else used
        return _Plan(budget, cuts, used)

    low, high = 0, config.budget(instrument)
    best = attempt(high)
    if best is None:
        while high - low > max(1, low // 1_000):
            middle = (low + high) // 2
            if (found := attempt(middle)) is None:
                high = middle
            else:
                best, low = found, middle
    if best is None:
        raise BadInput(
            f"an arm is too small to be cut into {chunks} chunks for the {instrument}", where="trial inputs",
            fix="give the arms more documents: random, random' (beside those of random) and each mix",
        )  # fmt: skip
    return best


def _sizes(instrument: str, arm: str, inputs: Mapping[str, Path]) -> Iterator[np.ndarray]:
    """Bytes, or tokens, of an arm's documents, batch by batch, int64."""
    file = pq.ParquetFile(inputs[f"arm:{arm}"])
    if instrument == "ngram":
        for batch in file.iter_batches(columns=["text_bytes"]):
            yield batch["text_bytes"].to_numpy()
    else:
        tokenizer = _tokenizer(inputs)
        for batch in file.iter_batches(batch_size=1_000, columns=["text"]):
            # one more for the separator that stands before each document
            yield np.array([len(ids) + 1 for ids in _encode(tokenizer, batch["text"].to_pylist())], dtype=np.int64)


# ---------------------------------------------------------------------------------------------------------------- work


def work(job: dict[str, Any], config: Trial, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Carry out one job; one that trains returns ``nats`` and ``bytes`` of every test document."""
    started = time.process_time()
    if job["instrument"] == "composition":
        return _composition(job, config, inputs)
    rows = _read(inputs, f"arm:{job['arm']}", ["text"], job["start"], job["stop"], job["without"])["text"]
    documents = _evaluation(config, inputs)["text"]
    out = (_ngram_job if job["instrument"] == "ngram" else _transformer_job)(job, config, inputs, rows, documents)
    return {**out, "timing": {"cpu_seconds": time.process_time() - started}}


def _read(
    inputs: Mapping[str, Path], name: str, columns: list[str], start: int, stop: int | None, without: int
) -> pa.Table:
    """Rows [start, stop) of an input, without those whose key stands in the first ``without`` rows of random."""
    extra = ["key"] if without else []
    schema = pq.read_schema(inputs[name])
    batches = list(_batches(inputs[name], [*columns, *extra], start, stop))
    table = pa.Table.from_batches(batches, pa.schema([schema.field(c) for c in [*columns, *extra]]))
    if without:
        taken = pa.Table.from_batches(list(_batches(inputs["arm:random"], ["key"], 0, without)))["key"]
        table = table.filter(pc.invert(pc.is_in(table["key"], value_set=taken.combine_chunks())))
    return table.select(columns)


def _batches(path: Path, columns: list[str], start: int, stop: int | None) -> Iterator[pa.RecordBatch]:
    """Rows [start, stop) of a Parquet file, to its end where ``stop`` is None."""
    at = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=columns):
        if stop is not None and at >= stop:
            return
        end = len(batch) if stop is None else min(stop - at, len(batch))
        if at + len(batch) > start:
            first = max(start - at, 0)
            yield batch.slice(first, end - first)
        at += len(batch)


def _first_bytes(texts: pa.ChunkedArray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and data of the documents, cut to ``budget`` bytes, or up to 3 less: no character is split."""
    offsets, data = string_buffers(texts)
    end = min(int(offsets[0]) + budget, int(offsets[-1]))
    while offsets[0] < end < offsets[-1] and data[end] & 0xC0 == 0x80:  # in the middle of a UTF-8 character
        end -= 1
    return np.minimum(offsets, end), data


def _ngram_job(
    job: dict[str, Any], config: Trial, inputs: Mapping[str, Path], rows: pa.ChunkedArray, documents: pa.ChunkedArray
) -> dict[str, Any]:
    """Count one chunk's n-grams and score the documents with them."""
    offsets, data = _first_bytes(rows, job["budget"])
    test = string_buffers(documents)
    costs = ngram.nats(ngram.train(offsets, data), *test)
    size = np.diff(test[0])
    tokens = None
    if "tokenizer" in inputs:
        texts = [data[a:b].tobytes().decode() for a, b in pairwise(offsets.tolist())]
        tokens = sum(len(ids) for ids in _encode(_tokenizer(inputs), texts))
    return {
        "nats": costs[-1].tolist(),
        "bytes": size.tolist(),
        "orders": _bpb(costs.sum(axis=1), size.sum()).tolist(),
        "trained": {
            "bytes": int(offsets[-1] - offsets[0]), "tokens": tokens, "documents": int((np.diff(offsets) > 0).sum()),
        },
    }  # fmt: skip


def _transformer_job(
    job: dict[str, Any], config: Trial, inputs: Mapping[str, Path], rows: pa.ChunkedArray, documents: pa.ChunkedArray
) -> dict[str, Any]:
    """Train on the first tokens of one chunk, each once, and score the documents; the same for n-grams of its text."""
    from curate.train import data, loop, model, score

    tokenizer = _tokenizer(inputs)
    separator = _separator(tokenizer)
    texts = rows.to_pylist()
    step = config.batch * config.context
    tokens = (job["budget"] - 1) // step * step
    stream = data.pack(_encode(tokenizer, texts), separator).first(tokens + 1)
    shape = model.Config(
        vocab=tokenizer.get_vocab_size(), width=config.width, layers=config.layers, heads=config.heads,
        hidden=config.hidden, context=config.context,
    )  # fmt: skip
    training = loop.Training(tokens=tokens, batch=config.batch, lr=config.lr)
    try:
        result = loop.train(shape, training, stream.ids, seed=config.seed + job["seed"])
    except FloatingPointError as error:
        raise BadData(
            f"the transformer diverged on arm {job['arm']!r}, seed {job['seed']}: {error}", where="work of a trial",
            fix="lower Trial.lr; every arm is then trained again, as none may be dropped for one bad seed",
        ) from error
    wanted = documents.to_pylist()
    ids = _encode(tokenizer, wanted)
    if tokenizer.decode_batch(ids, skip_special_tokens=False) != wanted:
        raise BadInput(
            "the tokenizer loses text, so that its bits per byte mean nothing", where="input 'tokenizer'",
            fix="use a byte-level one, such as tokens.train_bpe fits",
        )  # fmt: skip
    nats = score.nll(result.model, data.pack(ids, separator)).nats
    read = _read_so_far(tokenizer, texts, stream.lengths)
    offsets, bytes_read = string_buffers(pa.array(read, pa.large_string()))
    test = string_buffers(documents)
    size = np.diff(test[0])
    orders = ngram.nats(ngram.train(offsets, bytes_read), *test).sum(axis=1)
    return {
        "nats": nats.tolist(),
        "bytes": size.tolist(),
        "orders": _bpb(orders, size.sum()).tolist(),
        "trained": {"bytes": int(offsets[-1]), "tokens": tokens, "documents": len(read)},
        "curve": _curve(result.losses, step),
    }


def _read_so_far(tokenizer: Any, texts: Sequence[str], lengths: np.ndarray) -> list[str]:
    """The text behind a cut stream of tokens: whole documents, and the last one as far as its tokens go."""
    read = list(texts[: len(lengths)])
    kept = int(lengths[-1])
    end = tokenizer.encode(read[-1], add_special_tokens=False).offsets[kept - 1][1] if kept else 0
    return [*read[:-1], read[-1][:end]]


def _curve(losses: np.ndarray, step: int, points: int = 20) -> list[list[float]]:
    """The learning curve: tokens seen, and the mean nats a token of the steps up to there since the point before."""
    ends = np.unique(np.linspace(0, len(losses), points + 1).round().astype(int))
    return [[float(b * step), float(losses[a:b].mean(dtype=np.float64))] for a, b in pairwise(ends.tolist())]


def _separator(tokenizer: Any) -> int:
    """The special token that stands between documents: the tokenizer's first, 0 where it is ``tokens.train_bpe``'s."""
    special = [i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    if not special:
        raise BadInput(
            "the tokenizer has no special token to stand between documents", where="input 'tokenizer'",
            fix="fit one with tokens.train_bpe, or add a special token such as <|endoftext|>",
        )  # fmt: skip
    return int(min(special))


def _tokenizer(inputs: Mapping[str, Path]) -> Any:
    """The shared tokenizer, which encodes what it is given and nothing else."""
    from tokenizers import Tokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # an engine already runs one task a core
    tokenizer = Tokenizer.from_file(str(Path(inputs["tokenizer"]) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # a text that spells <|endoftext|> is text
    return tokenizer


def _encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _bpb(nats: Any, size: Any) -> Any:
    """Bits per byte."""
    return nats / (np.log(2) * size)


def _composition(job: dict[str, Any], config: Trial, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Instrument 0: what an arm's trained rows are, and what of the test documents stands in all of its rows."""
    search = None
    sharing = searched = 0
    if job["input"] != f"target:{config.split}":
        search = overlap.Search(overlap.prints(*string_buffers(_evaluation(config, inputs)["text"])))
        for batch in pq.ParquetFile(inputs[job["input"]]).iter_batches(batch_size=10_000, columns=["text"]):
            sharing += search.look(overlap.prints(*string_buffers(batch["text"])))
            searched += len(batch)
    out = _describe(_read(inputs, job["input"], ["text", "source"], 0, job["rows"], job["without"]))
    if search is not None:
        share = search.share()
        out["test_documents"] = {
            "whole": int(search.whole.sum()), "near": int((share >= NEAR).sum()), "mean_share": float(share.mean()),
            "touched": int((share > 0).sum()), "sharing": sharing, "searched": searched,
        }  # fmt: skip
    return out


def _describe(rows: pa.Table) -> dict[str, Any]:
    """Lengths, shares of sources by bytes, compressed size, exact copies."""
    offsets, data = string_buffers(rows["text"])
    size = np.diff(offsets)
    total = int(size.sum())
    if total == 0:
        return {"documents": len(rows), "bytes": 0}
    shares = pa.table({"source": rows["source"], "bytes": size}).group_by("source").aggregate([("bytes", "sum")])
    shares = shares.sort_by([("bytes_sum", "descending"), ("source", "ascending")])
    named = zip(shares["source"].to_pylist(), shares["bytes_sum"].to_pylist(), strict=True)
    head = data[int(offsets[0]) : int(offsets[0]) + min(total, 1_000_000)].tobytes()
    return {
        "documents": len(rows),
        "bytes": total,
        "length": {f"p{q}": float(np.percentile(size, q)) for q in (10, 25, 50, 75, 90)},
        "sources": {str(name): n / total for name, n in named},
        "compression": len(head) / len(zlib.compress(head, 6)),
        "copies": 1 - pc.count_distinct(rows["text"]).as_py() / len(rows),
    }


# ------------------------------------------------------------------------------------------------------------ conclude

CAVEATS = (
    "A small model was asked which text is closer to the target's; nothing is said about tasks or about large models.",
    "Filters that win at small compute tend to be too strict at large; rankings of data sets change with scale.",
    "Each chunk was seen once: what it costs to repeat a small mix up to a large budget was not tested.",
    "Effects of what is read last, as in an annealing phase, do not show in a run of this size.",
)
GUARD_FIX = (
    "A gain may be due to them: fit contamination.index on the target's held-out documents, and keep what is clean "
    "before selecting."
)
UNTESTED = (
    "guard domains: no panel of other domains was scored, so a loss elsewhere would not be seen",
    "task accuracy, generation, a data multiplier, languages",
)


def conclude(
    config: Trial, jobs: list[dict[str, Any]], results: list[dict[str, Any]], inputs: Mapping[str, Path]
) -> dict[str, Any]:
    """The verdict on every mix, with all that it rests on; JSON-able.

    Raises:
        BadData: results whose budgets differ between arms, or that scored other documents.
    """
    mixes, controls = _arms(inputs)
    cluster = _evaluation(config, inputs)["cluster"].to_numpy()
    composition = {
        job["input"]: result for job, result in zip(jobs, results, strict=True) if job["instrument"] == "composition"
    }
    leak = _leak(composition, len(cluster))
    guard = _guard(leak["found"], config)
    instruments = {
        name: _measure(
            name, config, mixes, controls, cluster,
            [(job, result) for job, result in zip(jobs, results, strict=True) if job["instrument"] == name],
        )
        for name in config.instruments
    }  # fmt: skip
    verdicts = {mix: _verdict(mix, config, controls, instruments, leak) for mix in mixes}
    caveats = [*CAVEATS, *_caveats(mixes, controls, config, instruments, leak, composition)]
    caveats += [] if guard["guarded"] else [f"{guard['sentence']} {GUARD_FIX}"]
    return {
        "sentence": " ".join(v["sentence"] for v in verdicts.values()),
        "verdicts": verdicts,
        "foresight": foresight(config, jobs, len(cluster)),
        "instruments": instruments,
        "composition": composition,
        "leak": leak,
        "guard": guard,
        "documents": {"scored": len(cluster), "clusters": int(cluster.max()) + 1},
        "caveats": caveats,
        "not_tested": list(UNTESTED),
        "settings": asdict(config),
        "timing": {
            name: {"jobs": len(seconds), "cpu_seconds": sum(seconds)}
            for name in config.instruments
            for seconds in [
                [r["timing"]["cpu_seconds"] for j, r in zip(jobs, results, strict=True) if j["instrument"] == name]
            ]
        },
    }


def _leak(composition: Mapping[str, Mapping[str, Any]], documents: int) -> dict[str, Any]:
    """Test documents found in what was trained on or selected by."""
    found = {name: x["test_documents"] for name, x in composition.items() if "test_documents" in x}
    return {
        "alarm": [name for name, x in found.items() if x["whole"]],
        "found": {name: {**x, "of": documents} for name, x in found.items()},
    }


def _guard(found: Mapping[str, Mapping[str, Any]], config: Trial) -> dict[str, Any]:
    """Whether the scored documents were kept out of all that was trained on or selected by, counted in these inputs."""
    inputs = {name: x for name, x in found.items() if name.startswith("arm:") or name == "target:train"}
    open_ = {name: x for name, x in inputs.items() if x["sharing"]}
    if not open_:
        sentence = f"guarded: no document of any arm shares {overlap.WORDS} words in a row with a test document"
    else:
        counts = [f"{x['sharing']:,} of {x['searched']:,} documents in {name}" for name, x in open_.items()]
        sentence = f"not guarded: {', '.join(counts)} share {overlap.WORDS} words in a row with a test document"
    return {"guarded": not open_, "split": config.split, "words": overlap.WORDS, "open": sorted(open_),
            "sentence": f"{sentence}."}  # fmt: skip


def _measure(
    name: str,
    config: Trial,
    mixes: Sequence[str],
    controls: Mapping[str, str],
    cluster: np.ndarray,
    runs: Sequence[tuple[dict[str, Any], dict[str, Any]]],
) -> dict[str, Any]:
    """What one instrument saw: bits per byte, the A/A test, each mix against random and its controls."""
    arms = _trained(name, mixes, controls)
    by_arm = {arm: [r for j, r in sorted(runs, key=lambda run: run[0]["seed"]) if j["arm"] == arm] for arm in arms}
    _equal(name, by_arm)
    nats = {arm: np.array([r["nats"] for r in by_arm[arm]]) for arm in arms}
    size = sum(by_arm[arms[0]][0]["bytes"])
    bpb = {arm: _bpb(x.sum(axis=1), size) for arm, x in nats.items()}
    orders = np.mean([r["orders"] for arm in BASELINES for r in by_arm[arm]], axis=0)
    baseline = float(np.mean([bpb[arm] for arm in BASELINES]))

    aa_weights = {"random": 1.0, "random'": -1.0}
    pairs = {(mix, "random"): {"random": 0.5, "random'": 0.5, mix: -1.0} for mix in mixes}
    pairs |= {(mix, arm): {arm: 1.0, mix: -1.0} for arm, mix in controls.items() if arm in nats}
    errors = statistics.item_errors(
        nats, [aa_weights, *pairs.values()], BASELINES, clusters=cluster, resamples=config.resamples, seed=config.seed
    )
    clusters = int(cluster.max()) + 1
    aa_deltas = statistics.differences(nats, aa_weights, BASELINES)
    aa = statistics.contrast(aa_deltas, spread=2.0, item_se=errors[0], clusters=clusters, level=0.99)
    against: dict[str, dict[str, Any]] = {mix: {} for mix in mixes}
    for ((mix, arm), weights), error in zip(pairs.items(), errors[1:], strict=True):
        c = statistics.contrast(
            statistics.differences(nats, weights, BASELINES), spread=sum(w * w for w in weights.values()),
            item_se=error, clusters=clusters, aa=aa_deltas, level=1 - 0.05 / len(mixes),
        )  # fmt: skip
        detectable = statistics.detectable(c.sd, len(c.deltas), c.sd_degrees, c.se_item, clusters, c.level)
        against[mix][arm] = {**asdict(c), "deltas": list(c.deltas), "detectable": detectable}

    why = []
    if baseline > orders[2]:
        why.append(f"{baseline:.3f} bits per byte, worse than the byte 3-gram's {orders[2]:.3f} on the same text")
    if not aa.low <= 0 <= aa.high:
        why.append(f"the A/A test: two random draws differ by {aa.estimate:+.2f} %, beyond their own 99 % bound")
    if config.repeats(name) < ENOUGH[name]:
        why.append(f"{config.repeats(name)} seeds, and a verdict needs {ENOUGH[name]}")
    return {
        "unit": UNIT[name],
        "no_verdict": why,
        "verdicts": {mix: _word(against[mix]["random"], config.delta) for mix in mixes},
        "against": against,
        "aa": {**asdict(aa), "deltas": list(aa.deltas)},
        "bpb": {arm: x.tolist() for arm, x in bpb.items()},
        "baseline_bpb": baseline,
        "ngram_orders_bpb": orders.tolist(),
        "trained": {arm: [r["trained"] for r in by_arm[arm]] for arm in arms},
        "curves": {arm: [r["curve"] for r in by_arm[arm]] for arm in arms if "curve" in by_arm[arm][0]},
    }


def _equal(name: str, by_arm: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Arms are compared only at equal budgets and on the same documents."""
    trained = {arm: [r["trained"][UNIT[name]] for r in runs] for arm, runs in by_arm.items()}
    every = [x for sizes in trained.values() for x in sizes]
    if max(every) - min(every) > TOLERANCE * max(every):
        raise BadData(
            f"the {name} was trained on unequal budgets ({UNIT[name]}): {trained}", where="results of a trial",
            fix="run the trial again from its jobs, which cut all arms alike",
        )  # fmt: skip
    if len({(tuple(r["bytes"]), len(r["nats"])) for runs in by_arm.values() for r in runs}) > 1:
        raise BadData(
            f"runs of the {name} scored different documents", where="results of a trial",
            fix="run the trial again from its jobs",
        )  # fmt: skip


def _word(c: Mapping[str, Any], delta: float) -> str:
    """What one interval says."""
    if c["low"] > 0 and c["estimate"] >= delta:
        return "closer"
    if c["high"] < 0 and c["estimate"] <= -delta:
        return "farther"
    if -delta < c["low"] and c["high"] < delta:
        return "equivalent"
    return "inconclusive"


def _verdict(
    mix: str,
    config: Trial,
    controls: Mapping[str, str],
    instruments: Mapping[str, Mapping[str, Any]],
    leak: Mapping[str, Any],
) -> dict[str, Any]:
    """One mix's verdict in the words of the module's table, and as a sentence."""
    first, *others = instruments
    seen = instruments[first]["against"][mix]
    c = seen["random"]
    word = instruments[first]["verdicts"][mix]
    sign = {name: np.sign(x["against"][mix]["random"]["estimate"]) for name, x in instruments.items()}
    reasons = [f"test documents stand in {', '.join(leak['alarm'])}"] if leak["alarm"] else []
    reasons += [f"{name}: {reason}" for name, x in instruments.items() for reason in x["no_verdict"]]
    explained: list[str] = []
    disagree: list[str] = []
    if reasons:
        verdict = "no verdict"
    else:
        if word in ("closer", "farther"):
            disagree = [name for name in others if sign[name] != sign[first]]
        elif word == "equivalent":
            disagree = [name for name in others if instruments[name]["verdicts"][mix] in ("closer", "farther")]
        if disagree:
            word = "inconclusive"
        if word == "closer":
            labels = {arm: CONTROLS[arm.partition(":")[0]] for arm in controls if arm in seen}
            explained = [label for arm, label in labels.items() if label and seen[arm]["low"] <= 0]
        verdict = {
            "closer": f"closer, explained by {' and '.join(explained)}" if explained else "closer to the target",
            "farther": "farther from the target",
            "equivalent": f"equivalent within {config.delta:g} %",
            "inconclusive": _inconclusive(mix, config, instruments),
        }[word]
    numbers = "; ".join(_numbers(name, x["against"][mix]["random"]) for name, x in instruments.items())
    because = [*reasons, *(f"the {name} disagrees with the {first}" for name in disagree)]
    alone = f" ({first} alone)" if not others else ""
    return {
        "verdict": verdict,
        "because": because,
        "explained_by": explained,
        "estimate": c["estimate"],
        "interval": [c["low"], c["high"]],
        "level": c["level"],
        "sentence": f"{mix}: {verdict}{alone}{' (' + '; '.join(because) + ')' if because else ''}. "
        f"Bits per byte saved against random: {numbers}.",
    }


def _numbers(name: str, c: Mapping[str, Any]) -> str:
    return (
        f"{name} {c['estimate']:+.2f} % ({100 * c['level']:.3g} % interval {c['low']:+.2f} to {c['high']:+.2f}, "
        f"{len(c['deltas'])} seeds, noise {c['noise']})"
    )


def _inconclusive(mix: str, config: Trial, instruments: Mapping[str, Mapping[str, Any]]) -> str:
    """How many seeds it would take, at the noise that was measured; more than were run."""
    needed = []
    for x in instruments.values():
        c = x["against"][mix]["random"]
        n = statistics.seeds_needed(c["sd"], c["se_item"], config.delta)
        if n is None:
            return "inconclusive, more evaluation documents needed"
        needed.append(max(n, len(c["deltas"]) + 1))
    return f"inconclusive, {max(needed)} seeds needed"


def _caveats(
    mixes: Sequence[str],
    controls: Mapping[str, str],
    config: Trial,
    instruments: Mapping[str, Mapping[str, Any]],
    leak: Mapping[str, Any],
    composition: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """What this trial, in particular, leaves open."""
    out = []
    if missing := [name for name in INSTRUMENTS if name not in config.instruments]:
        out.append(f"Not run: the {' and the '.join(missing)}; no second instrument has confirmed the sign.")
    for mix in mixes:
        held = {arm.partition(":")[0] for arm, controlled in controls.items() if controlled == mix}
        for kind, label in CONTROLS.items():
            if kind not in held or "ngram" not in config.instruments:
                what = label or "the conditional model's loss alone"
                out.append(f"{mix}: no {kind} arm was trained, so {what} may be the whole explanation.")
        for arm, controlled in controls.items():
            c = instruments["ngram"]["against"][mix].get(arm) if "ngram" in instruments and controlled == mix else None
            if c and CONTROLS[arm.partition(":")[0]] is None and c["low"] <= 0:
                out.append(f"{mix} does not beat {arm}: {_interval(c)}.")
    for name, x in leak["found"].items():
        if x["near"] > x["whole"]:
            out.append(
                f"{name} holds near copies of {x['near'] - x['whole']} of {x['of']} test documents "
                f"({100 * NEAR:.0f} % of their 13-grams)."
            )
    return out


# --------------------------------------------------------------------------------------------------------------- lines


def lines(verdict: Mapping[str, Any]) -> list[str]:
    """A conclusion for the terminal."""
    out = [x["sentence"] for x in verdict["verdicts"].values()]
    seen = verdict["foresight"]
    for name, x in verdict["instruments"].items():
        run = x["trained"]["random"][0]
        tokens = f"{run['tokens']:,} tokens" if run["tokens"] is not None else "tokens not counted: no tokenizer given"
        orders = ", ".join(f"{b:.3f}" for b in x["ngram_orders_bpb"])
        out += [
            "",
            f"{name}, {seen[name]['seeds']} runs an arm, each of {run['bytes']:,} bytes ({tokens})",
            f"  random: {x['baseline_bpb']:.3f} bits per byte; byte n-grams of order 1 to 6 on the same text: {orders}",
        ]
        out.append(f"  A/A test (99 %): {_interval(x['aa'])}")
        for mix, against in x["against"].items():
            for arm, c in against.items():
                out += [
                    f"  {mix} against {arm}: {_interval(c)}; could see {c['detectable']:.1f} %",
                    f"    SE {c['se']:.2f} = seeds {c['se_seed']:.2f} and documents {c['se_item']:.2f}; "
                    f"each seed {' '.join(f'{d:+.2f}' for d in c['deltas'])}",
                ]
    head = f"  {'composition':<24} {'documents':>9} {'bytes':>11} {'median length':>14} {'compression':>12}"
    out += ["", f"{head} {'copies':>8}  largest sources"]
    for name, x in verdict["composition"].items():
        if x["bytes"]:
            largest = sorted(x["sources"].items(), key=lambda kv: (-kv[1], kv[0]))[:3]
            top = ", ".join(f"{s} {100 * share:.0f} %" for s, share in largest)
            out.append(
                f"  {name:<24} {x['documents']:>9,} {x['bytes']:>11,} {x['length']['p50']:>14,.0f} "
                f"{x['compression']:>12.2f} {100 * x['copies']:>6.1f} %  {top}"
            )
    out += ["", verdict["guard"]["sentence"]]
    if not verdict["leak"]["alarm"]:
        out += ["", f"none of the {verdict['documents']['scored']} test documents stands in what was searched for them"]
    return [*out, "", *(f"! {x}" for x in verdict["caveats"]), *(f"not tested: {x}" for x in verdict["not_tested"])]


def _interval(c: Mapping[str, Any]) -> str:
    return f"{c['estimate']:+.2f} % ({c['low']:+.2f} to {c['high']:+.2f})"


experiment = Experiment(
    jobs=jobs, work=work, conclude=conclude, reads={}, needs=Needs(alone=True, extras=("train",)),
    numerics=Numerics(device="cpu", dtype="float32", threads=1, batch="one run a process"), version="2",
)  # fmt: skip
