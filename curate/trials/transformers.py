"""Instrument 2: a small transformer trained on one chunk of an arm, over the tokenizer that all arms share.

From scratch, or from the model in the input ``base``: then its own tokenizer is the shared one, and of what a run
reads only a share comes from the arm, the rest from ``replay``, which stands for what the base was trained on. With
``warmup=0, decay=1`` from a checkpoint of the constant phase this is the annealing test: what a source is worth at the
end of a training, which runs from scratch cannot show.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import BadData, BadInput
from curate.train import ngram
from curate.trials import masks, told
from curate.trials.cutting import Share, first_bytes
from curate.trials.encoding import encode, encode_spans, open_tokenizer, read_so_far, separator_of, tokenizer_hash
from curate.trials.metrics import Floats, Scored, ngram_nats, outcome
from curate.trials.settings import Trial

BASE = "base"
COMPARED = 4_000_000  # bytes of a run's text on which byte n-grams are trained beside it


@dataclass(frozen=True)
class _Text:
    """What one run reads.

    Args:
        arm: whose.
        epochs: how often the arm's text is read.
        ids: of it, one more than ``tokens``.
        tokens: that are predicted.
        offsets: of the documents that byte n-grams learn from beside it.
        data: their bytes.
        size: bytes of the arm's text in it.
        documents: of the arm in it.
        marks: 1 where an id is masked and 0 elsewhere, uint8; None where all count.
        counted: which bytes of ``data`` count, bool; None where all do.
        border: where the ids without metadata begin, in an arm that is told some.
    """

    arm: str
    epochs: float
    ids: np.ndarray
    tokens: int
    offsets: np.ndarray
    data: np.ndarray
    size: int
    documents: int
    marks: np.ndarray | None = None
    counted: np.ndarray | None = None
    border: int | None = None


def transformer_job(
    share: Share, budget: int, seed: int, config: Trial, inputs: Mapping[str, Path], scored: Sequence[Scored]
) -> dict[str, Any]:
    """Train on the first tokens of one chunk and score everything; the same for byte n-grams of its text.

    Raises:
        BadData: the training diverged.
        BadInput: a tokenizer that loses text, a base that cannot be opened.
    """
    _check_device(config)
    text = _text(share, budget, config, inputs)
    model, losses = _train(text, seed, config, inputs)
    return _outcome(text, model, losses, config, inputs, scored)


def transformer_jobs(
    shares: Sequence[tuple[Callable[[], Share], int]], seed: int, config: Trial, inputs: Mapping[str, Path],
    scored: Sequence[Scored],
) -> list[dict[str, Any]]:  # fmt: skip
    """The runs of a seed: in lockstep where that pays (curate.train.stack), one after the other otherwise.

    Args:
        shares: what each run reads, to be asked for, and its budget.
        seed: of all of them.
        config: settings.
        inputs: the trial's.
        scored: what is scored.
    """
    from curate.train import stack

    _check_device(config)
    tokens = config.batch * config.context
    if BASE in inputs or not stack.pays(
        _shape(config, inputs), replicas=len(shares), tokens=tokens, device=config.device
    ):
        return [transformer_job(share(), budget, seed, config, inputs, scored) for share, budget in shares]
    texts = [_text(share(), budget, config, inputs) for share, budget in shares]
    trained: dict[int, tuple[Any, np.ndarray]] = {}
    for length in dict.fromkeys(text.tokens for text in texts):
        some = [i for i, text in enumerate(texts) if text.tokens == length]
        trained |= dict(zip(some, _together([texts[i] for i in some], seed, config, inputs), strict=True))
    return [_outcome(text, *trained[i], config, inputs, scored) for i, text in enumerate(texts)]


def _text(share: Share, budget: int, config: Trial, inputs: Mapping[str, Path]) -> _Text:
    """What a run of a budget reads of a share."""
    tokenizer = open_tokenizer(inputs)
    step = config.batch * config.context
    tokens = (budget - 1) // step * step
    separator = _separator(inputs, tokenizer)
    border = None
    if share.told:
        ids, marks, read, border = _told(share, tokens, separator, config, inputs)
    else:
        ids, marks, read = _stream(share, tokens, tokenizer, separator, inputs)
    offsets, data = first_bytes(pa.chunked_array([pa.array(read, pa.large_string())]), COMPARED)
    counted = share.counted()
    return _Text(
        share.arm, share.epochs, ids, tokens, offsets, data, sum(len(text.encode()) for text in read), len(read),
        marks, None if counted is None else counted[: int(offsets[-1] - offsets[0])], border,
    )  # fmt: skip


def _outcome(
    text: _Text, model: Any, losses: np.ndarray, config: Trial, inputs: Mapping[str, Path], scored: Sequence[Scored]
) -> dict[str, Any]:
    """What a run returns."""
    tokenizer = open_tokenizer(inputs)
    step = config.batch * config.context
    behind = told.asked(config, inputs, text.arm)
    nats = _score(model, tokenizer, _separator(inputs, tokenizer), config, inputs, scored, behind)
    beside = ngram.train(text.offsets, text.data, counted=text.counted)
    trained = {
        "bytes": text.size, "tokens": text.tokens, "documents": text.documents, "epochs": text.epochs,
        "steps": text.tokens // step, "tokenizer": tokenizer_hash(inputs),
        "parameters": sum(p.numel() for p in model.parameters()), "base": BASE in inputs,
    }  # fmt: skip
    if text.marks is not None:
        trained["predicted"] = text.tokens - int(text.marks[1:].sum())
    return {
        **outcome(config, scored, nats, ngram_nats(beside, scored)), "trained": trained, "curve": _curve(losses, step)
    }


def _stream(
    share: Share, tokens: int, tokenizer: Any, separator: int, inputs: Mapping[str, Path]
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """What a run reads: the ids, tokens + 1 of them; their marks, 1 where they are masked and None where none is; and
    the text that its arm gave to them, once.
    """
    from curate.train import data

    def packed(texts: list[str], rows: pa.ChunkedArray, spans: pa.ChunkedArray | None, where: str) -> data.Tokens:
        if spans is None:
            return data.pack(encode(tokenizer, texts), separator)
        return encode_spans(inputs, rows, spans, where, separator)

    texts = share.texts()
    mine = round(tokens * share.part)
    unique = packed(texts, share.rows, share.spans, share.named).first(int(np.ceil(mine / share.epochs)) + 1)
    last = len(unique.lengths) - 1
    pieces = None if share.spans is None else masks.pieces(texts[last], share.spans[last : last + 1], share.named)
    read = read_so_far(tokenizer, texts, unique.lengths, pieces)
    ids, marks = np.resize(unique.ids, mine + 1), np.resize(_marks(unique), mine + 1)
    if mine < tokens and share.replay is not None:
        replay = packed(share.replayed(), share.replay, share.replay_spans, "input 'replay'").first(tokens - mine)
        ids = np.concatenate([ids, np.resize(replay.ids, tokens - mine)])
        marks = np.concatenate([marks, np.resize(_marks(replay), tokens - mine)])
    return ids, marks if marks.any() else None, read


def _told(
    share: Share, tokens: int, separator: int, config: Trial, inputs: Mapping[str, Path]
) -> tuple[np.ndarray, np.ndarray | None, list[str], int | None]:
    """The same of an arm that is told what it reads, and where the ids without metadata begin; its last text is not
    cut.
    """
    of = told.encode(config, inputs, share.rows, share.spans, share.metadata, share.named, separator)
    legs = [of.first(tokens + 1)]
    if share.metadata is not None:
        last = _cooldown(tokens, config)
        legs = list(told.stream(of, tokens - last + 1, last + 1))
    ids, marks = np.concatenate([leg.ids for leg in legs]), np.concatenate([_marks(leg) for leg in legs])
    read = share.texts()[: sum(leg.documents for leg in legs)]
    return ids, marks if marks.any() else None, read, len(legs[0].ids) if len(legs) > 1 else None


def _marks(tokens: Any) -> np.ndarray:
    """1 for the ids that do not count, 0 for the others, uint8 (ids,)."""
    counts = tokens.loss(np.arange(len(tokens.ids)))
    return np.zeros(len(tokens.ids), np.uint8) if counts is None else (counts == 0).astype(np.uint8)


def _feed(text: _Text, config: Trial, start: int) -> Any:
    """The windows of a run in the order of a seed; what is masked is read in them and not predicted."""
    from curate.train import data, feeding, feeds, phases

    steps = text.tokens // (config.batch * config.context)
    if text.border is not None:
        begin, rest = (replace(text, ids=ids, marks=marks, border=None) for ids, marks in _at(text, text.border))
        last = _cooldown(text.tokens, config)
        legs = [(begin, text.tokens - last), (rest, last)]
        of = [phases.Leg(feed=_feed(replace(leg, tokens=n), config, start), share=n) for leg, n in legs]
        return phases.Relay(of, steps)
    if text.marks is None:
        return feeding.StreamFeed(text.ids, config.context, config.batch, start, steps)
    stream = data.Tokens(
        text.ids, np.array([0, len(text.ids)]), marks=text.marks, labels=(data.PLAIN, data.Label(loss=False))
    )
    feed = feeds.Concatenated(stream, config.context, config.batch, steps=steps, seed=start)
    if any(feed.batch(step).tokens == 0 for step in range(steps)):
        raise BadData(
            f"arm {text.arm!r} is masked so much that nothing counts in one of its {steps} steps",
            where="work of a trial", fix="set a larger Trial.batch, or give documents of which more counts",
        )  # fmt: skip
    return feed


def _cooldown(tokens: int, config: Trial) -> int:
    """How many of a run's tokens are read without metadata, in an arm that is told some: whole steps, one at least."""
    step = config.batch * config.context
    return min(max(1, round(tokens // step * config.cooldown)), max(1, tokens // step - 1)) * step


def _at(text: _Text, border: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Ids and marks of a run on both sides of a border."""
    marks = [None, None] if text.marks is None else np.split(text.marks, [border])
    return list(zip(np.split(text.ids, [border]), marks, strict=True))


def _train(text: _Text, seed: int, config: Trial, inputs: Mapping[str, Path]) -> tuple[Any, np.ndarray]:
    """A trained model and its losses."""
    from curate.train import loop, model

    start = config.seed + seed
    whole = _base(Path(inputs[BASE]), config) if BASE in inputs else model.Decoder(_shape(config, inputs), seed=start)
    try:
        result = loop.fit(whole, _training(text.tokens, config), _feed(text, config, start))
    except FloatingPointError as error:
        raise _diverged(f"on {_name(text, seed)}: {error}") from error
    return result.model, result.losses


def _together(
    texts: Sequence[_Text], seed: int, config: Trial, inputs: Mapping[str, Path]
) -> list[tuple[Any, np.ndarray]]:
    """The same for runs of one length, which have the same initial weights and order, in lockstep."""
    from curate.train import model, stack

    tokens, start = texts[0].tokens, config.seed + seed
    models = [model.Decoder(_shape(config, inputs), seed=start) for _ in texts]
    feeds = [_feed(text, config, start) for text in texts]
    names = [_name(text, seed) for text in texts]
    try:
        results = stack.together(models, _training(tokens, config), feeds, on=True, names=names, patient=False)
    except stack.Diverged as error:
        raise _diverged(f"on {error}") from error
    return [(result.model, result.losses) for result in results]


def _name(text: _Text, seed: int) -> str:
    """A run, in words."""
    return f"arm {text.arm!r}, seed {seed}"


def _diverged(what: str) -> BadData:
    """The error of a trial whose training diverged."""
    return BadData(
        f"the transformer diverged {what}",
        where="work of a trial",
        fix="lower Trial.lr; every arm is then trained again, as none may be dropped for one bad seed",
    )  # fmt: skip


def _training(tokens: int, config: Trial) -> Any:
    """The trainer's settings."""
    from curate.train.training import Training

    return Training(
        tokens=tokens, batch=config.batch, lr=config.lr, embedding_lr=config.embedding_lr, warmup=config.warmup,
        decay=config.decay, average=config.average, precision=config.precision, device=config.device,
        compile=config.compile,
    )  # fmt: skip


def _shape(config: Trial, inputs: Mapping[str, Path]) -> Any:
    """The transformer that is trained from scratch."""
    from curate.train.model import Config

    return Config(
        vocab=_vocabulary(config, inputs), width=config.width, layers=config.layers, heads=config.heads,
        hidden=config.hidden, context=config.context, qk_norm=config.qk_norm,
    )  # fmt: skip


def _vocabulary(config: Trial, inputs: Mapping[str, Path]) -> int:
    """The tokenizer's, and one for each control token that it does not know."""
    return max([int(open_tokenizer(inputs).get_vocab_size()), *(i + 1 for i in told.ids_of(config, inputs).values())])


def _check_device(config: Trial) -> None:
    """Refuse a GPU that is not there."""
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise BadInput(
            "the trial asks for a GPU, and none is seen here", where="Trial.device",
            fix='device="cpu", or an engine whose workers have a GPU',
        )  # fmt: skip


def check_base(config: Trial, inputs: Mapping[str, Path]) -> None:
    """Refuse a base that cannot be trained, before anything is; no weight is read.

    Raises:
        BadInput: no model, one whose context is shorter than the trial's windows, or another tokenizer's.
    """
    from curate.train import checkpoint, directory, opening

    path = Path(inputs[BASE])
    try:
        if directory.is_huggingface(path):
            vocab = directory.inspect(path, context=config.context).vocab
        elif opening.is_model(path):
            shape = checkpoint.read_about(path)["model"]
            vocab = shape["vocab"]
            if shape["context"] < config.context:
                raise ValueError(f"it sees {shape['context']} tokens at once, and the trial's windows {config.context}")
        else:
            raise ValueError("it holds no weights and configuration of a model")
        if (tokens := open_tokenizer(inputs).get_vocab_size()) > vocab:
            raise ValueError(f"its tokenizer has {tokens} tokens and the model {vocab}")
    except (ValueError, FileNotFoundError) as error:
        raise BadInput(
            f"the base in {path} cannot be used: {error}", where=f"input '{BASE}'",
            fix="give the directory of a causal language model with its tokenizer.json, and set Trial.context",
        ) from error  # fmt: skip


def _base(path: Path, config: Trial) -> Any:
    """The model to start from; one of transformers may be trained on longer windows than before."""
    from curate.train import directory, opening

    longer = directory.is_huggingface(path) and directory.inspect(path).context < config.context
    return opening.open_any(path, config.device, context=config.context if longer else None)


def _separator(inputs: Mapping[str, Path], tokenizer: Any) -> int:
    """The token before each document: the base's own, else the tokenizer's."""
    from curate.train import directory, opening

    if BASE in inputs and directory.is_huggingface(Path(inputs[BASE])):
        return opening.separator_of(Path(inputs[BASE]))
    return separator_of(tokenizer)


def _score(
    model: Any, tokenizer: Any, separator: int, config: Trial, inputs: Mapping[str, Path], scored: Sequence[Scored],
    behind: Sequence[int] = (),
) -> list[Floats]:  # fmt: skip
    """Nats of everything scored, behind these ids, which do not count."""
    from curate.train import answers, data, score

    window = score.Window(tokens=config.context)
    out = []
    for s in scored:
        if s.task is not None:
            contexts, given = (_ids(tokenizer, list(texts)) for texts in (s.task.contexts, s.task.answers))
            contexts = [[*behind, *context] for context in contexts]
            out.append(answers.answer_nats(model, contexts, given, separator, precision=config.precision))
            continue
        texts = s.texts.to_pylist()
        if s.spans is None:
            documents = data.pack(_ids(tokenizer, texts), separator)
        else:
            documents = encode_spans(inputs, s.texts, s.spans, f"{s.kind} {s.name}", separator)
            ends = documents.offsets.tolist()
            _check_whole(tokenizer, texts, [documents.ids[a + 1 : b].tolist() for a, b in pairwise(ends)])
        documents = told.ask(documents, behind)
        out.append(score.nll(model, documents, window=window, precision=config.precision).nats)
    return out


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Ids of texts to score, from which they must come back whole."""
    ids = encode(tokenizer, texts)
    _check_whole(tokenizer, texts, ids)
    return ids


def _check_whole(tokenizer: Any, texts: list[str], ids: list[list[int]]) -> None:
    """Refuse ids from which their texts do not come back."""
    if tokenizer.decode_batch(ids, skip_special_tokens=False) != texts:
        raise BadInput(
            "the tokenizer loses text, so that its bits per byte mean nothing", where="input 'tokenizer'",
            fix="use a byte-level one, such as tokens.train_bpe fits",
        )  # fmt: skip


def _curve(losses: np.ndarray, step: int, points: int = 20) -> list[list[float]]:
    """The learning curve: tokens seen, and the mean nats a token of the steps up to there since the point before."""
    ends = np.unique(np.linspace(0, len(losses), points + 1).round().astype(int))
    return [[float(b * step), float(losses[a:b].mean(dtype=np.float64))] for a, b in pairwise(ends.tolist())]
