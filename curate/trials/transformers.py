"""Instrument 2: a small transformer trained on one chunk of an arm, over the tokenizer that all arms share.

From scratch, or from the model in the input ``base``: then its own tokenizer is the shared one, and of what a run
reads only a share comes from the arm, the rest from ``replay``, which stands for what the base was trained on. With
``warmup=0, decay=1`` from a checkpoint of the constant phase this is the annealing test: what a source is worth at the
end of a training, which runs from scratch cannot show.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import BadData, BadInput
from curate.train import ngram
from curate.trials.cutting import Share, first_bytes
from curate.trials.encoding import encode, open_tokenizer, read_so_far, separator_of, tokenizer_hash
from curate.trials.metrics import Floats, Scored, ngram_nats, outcome
from curate.trials.settings import Trial

BASE = "base"
COMPARED = 4_000_000  # bytes of a run's text on which byte n-grams are trained beside it


def transformer_job(
    share: Share, budget: int, seed: int, config: Trial, inputs: Mapping[str, Path], scored: Sequence[Scored]
) -> dict[str, Any]:
    """Train on the first tokens of one chunk and score everything; the same for byte n-grams of its text.

    Raises:
        BadData: the training diverged.
        BadInput: a tokenizer that loses text, a base that cannot be opened.
    """
    tokenizer = open_tokenizer(inputs)
    separator = _separator(inputs, tokenizer)
    step = config.batch * config.context
    tokens = (budget - 1) // step * step
    ids, read = _stream(share, tokens, tokenizer, separator)
    model, losses = _train(ids, tokens, share.arm, seed, config, inputs, tokenizer.get_vocab_size())
    nats = _score(model, tokenizer, separator, config, scored)
    offsets, data = first_bytes(pa.chunked_array([pa.array(read, pa.large_string())]), COMPARED)
    size = sum(len(text.encode()) for text in read)
    return {
        **outcome(config, scored, nats, ngram_nats(ngram.train(offsets, data), scored)),
        "trained": {
            "bytes": size, "tokens": tokens, "documents": len(read), "epochs": share.epochs, "steps": tokens // step,
            "tokenizer": tokenizer_hash(inputs), "parameters": sum(p.numel() for p in model.parameters()),
            "base": BASE in inputs,
        },
        "curve": _curve(losses, step),
    }  # fmt: skip


def _stream(share: Share, tokens: int, tokenizer: Any, separator: int) -> tuple[np.ndarray, list[str]]:
    """The ids that a run reads, tokens + 1 of them, and the text that its arm gave to them, once."""
    from curate.train import data

    texts = share.texts()
    mine = round(tokens * share.part)
    unique = data.pack(encode(tokenizer, texts), separator).first(int(np.ceil(mine / share.epochs)) + 1)
    read = read_so_far(tokenizer, texts, unique.lengths)
    ids = np.resize(unique.ids, mine + 1)
    if mine < tokens:
        replay = data.pack(encode(tokenizer, share.replayed()), separator).first(tokens - mine)
        ids = np.concatenate([ids, np.resize(replay.ids, tokens - mine)])
    return ids, read


def _train(
    ids: np.ndarray, tokens: int, arm: str, seed: int, config: Trial, inputs: Mapping[str, Path], vocab: int
) -> tuple[Any, np.ndarray]:
    """A trained model and its losses."""
    import torch

    from curate.train import feeding, loop, model

    if config.device == "cuda" and not torch.cuda.is_available():
        raise BadInput(
            "the trial asks for a GPU, and none is seen here", where="Trial.device",
            fix='device="cpu", or an engine whose workers have a GPU',
        )  # fmt: skip

    training = loop.Training(
        tokens=tokens, batch=config.batch, lr=config.lr, embedding_lr=config.embedding_lr, warmup=config.warmup,
        decay=config.decay,
        average=config.average, precision=config.precision, device=config.device, compile=config.compile,
    )  # fmt: skip
    try:
        if BASE in inputs:
            base = _base(Path(inputs[BASE]), config)
            steps = tokens // (config.batch * config.context)
            feed = feeding.StreamFeed(ids, config.context, config.batch, config.seed + seed, steps)
            result = loop.fit(base, training, feed)
        else:
            shape = model.Config(
                vocab=vocab, width=config.width, layers=config.layers, heads=config.heads, hidden=config.hidden,
                context=config.context,
                qk_norm=config.qk_norm,
            )  # fmt: skip
            result = loop.train(shape, training, ids, seed=config.seed + seed)
    except FloatingPointError as error:
        raise BadData(
            f"the transformer diverged on arm {arm!r}, seed {seed}: {error}",
            where="work of a trial",
            fix="lower Trial.lr; every arm is then trained again, as none may be dropped for one bad seed",
        ) from error
    return result.model, result.losses


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


def _score(model: Any, tokenizer: Any, separator: int, config: Trial, scored: Sequence[Scored]) -> list[Floats]:
    """Nats of everything scored."""
    from curate.train import answers, data, score

    window = score.Window(tokens=config.context)
    out = []
    for s in scored:
        if s.task is not None:
            contexts, given = (_ids(tokenizer, list(texts)) for texts in (s.task.contexts, s.task.answers))
            out.append(answers.answer_nats(model, contexts, given, separator, precision=config.precision))
        else:
            documents = data.pack(_ids(tokenizer, s.texts.to_pylist()), separator)
            out.append(score.nll(model, documents, window=window, precision=config.precision).nats)
    return out


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Ids of texts to score, from which they must come back whole."""
    ids = encode(tokenizer, texts)
    if tokenizer.decode_batch(ids, skip_special_tokens=False) != texts:
        raise BadInput(
            "the tokenizer loses text, so that its bits per byte mean nothing", where="input 'tokenizer'",
            fix="use a byte-level one, such as tokens.train_bpe fits",
        )  # fmt: skip
    return ids


def _curve(losses: np.ndarray, step: int, points: int = 20) -> list[list[float]]:
    """The learning curve: tokens seen, and the mean nats a token of the steps up to there since the point before."""
    ends = np.unique(np.linspace(0, len(losses), points + 1).round().astype(int))
    return [[float(b * step), float(losses[a:b].mean(dtype=np.float64))] for a, b in pairwise(ends.tolist())]
