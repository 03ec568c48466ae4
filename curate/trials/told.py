"""Arms that are told what they read: metadata in front of documents (MeCo), control tokens in front of spans.

The arms that ``Trial.told`` names read the columns ``metadata`` and ``spans`` of their samples (curate.metadata,
curate.controls); all others, the baseline among them, read plain text, and may be drawn from the very same frame. What
is told takes part in the budget, which counts what is read, and metadata is not predicted (train/conditioning.py).

*Metadata*: documents come with it until the last ``cooldown`` of the tokens, which are other documents, plain. The arm
is scored plain, as all are. *Control tokens*: one new token for each role in ``Trial.controls``, so every arm's model
knows that many more; the arm is scored behind ``Trial.ask``, which counts in no bits per byte.

Windows cross the borders of documents as in every arm. A window that begins inside a document does not hold what the
document's head said: ``Trial.context`` should hold most documents.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import BadInput, BadPlan
from curate.train import conditioning, encoders, tokenising
from curate.train.data import Tokens
from curate.trials.encoding import tokenizer_file
from curate.trials.masks import spans_of
from curate.trials.settings import Trial

METADATA = "metadata"


def check(config: Trial, arms: Sequence[str], inputs: Mapping[str, Path]) -> None:
    """Refuse arms that have nothing to be told.

    Raises:
        BadPlan: an arm that there is not, or new tokens for a base.
        BadInput: an arm without the columns.
    """
    if unknown := sorted(set(config.told) - set(arms)):
        raise BadPlan(
            f"there is no arm {', '.join(unknown)} to tell", where="Trial.told", fix=f"some of: {', '.join(arms)}"
        )
    for arm in config.told:
        path = Path(inputs[f"arm:{arm}"])
        if not has_metadata(path) and not (config.controls and spans_of(path)):
            raise BadInput(
                f"the arm {arm!r} is to be told what it reads, and has neither a column 'metadata' of text nor spans "
                "with Trial.controls",
                where=f"input 'arm:{arm}'", fix="write one with metadata.host or controls.mark",
            )  # fmt: skip
    if config.told and config.controls and "base" in inputs:
        folder = tokenizer_file(inputs).parent
        if encoders.vocabulary_of(folder, ids_of(config, inputs)) > encoders.vocabulary_of(folder):
            raise BadPlan(
                f"the base knows no tokens for {', '.join(config.controls)}", where="Trial.controls",
                fix="add them to its tokenizer and its weights first (encoders.add_controls), as <|ROLE|>",
            )  # fmt: skip


def has_metadata(path: Path) -> bool:
    """Whether a sample has the column of metadata, as text; another one of this name says nothing to a model."""
    schema = pq.read_schema(path)
    kind = schema.field(METADATA).type if METADATA in schema.names else None
    return kind in (pa.string(), pa.large_string())


def ids_of(config: Trial, inputs: Mapping[str, Path]) -> dict[str, int]:
    """The control token of each role; none where no arm is told."""
    if not (config.told and config.controls):
        return {}
    return encoders.controls_of(tokenizer_file(inputs).parent, config.controls)


def encode(
    config: Trial, inputs: Mapping[str, Path], texts: pa.Array | pa.ChunkedArray,
    spans: pa.Array | pa.ChunkedArray | None, metadata: pa.Array | pa.ChunkedArray | None, where: str,
    separator: int = 0,
) -> Tokens:  # fmt: skip
    """Documents of an arm that is told, with all that it is told.

    Raises:
        BadInput: spans that do not fit their text.
    """
    one, of, named = (_one(column) for column in (texts, spans, metadata))
    try:
        return tokenising.encode(
            one, tokenizer_file(inputs).parent, separator, spans=of, prefixes=named, controls=ids_of(config, inputs)
        )
    except ValueError as error:
        raise BadInput(
            f"{where}: {error}", where="trial inputs", fix="make spans last, for the very text that they stand beside"
        ) from error


def _one(column: pa.Array | pa.ChunkedArray | None) -> pa.Array | None:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def stream(tokens: Tokens, with_it: int, without: int) -> tuple[Tokens, Tokens]:
    """What an arm with metadata reads of its documents: those that come with it, and those behind them, without.

    Args:
        tokens: the documents with metadata, more than enough.
        with_it: ids of the first stream.
        without: ids of the second.

    Returns:
        Two streams, of which the last document is cut.
    """
    begin = tokens.first(with_it)
    rest = tokens.take(np.arange(begin.documents, tokens.documents))
    prefix = np.zeros(rest.documents, dtype=np.int64) if rest.prefix is None else rest.prefix
    place = np.arange(len(rest.ids)) - np.repeat(rest.offsets[:-1], np.diff(rest.offsets))
    keep = (place == 0) | (place > np.repeat(prefix, np.diff(rest.offsets)))
    offsets = rest.offsets - np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(prefix)])
    marks = None if rest.marks is None else rest.marks[keep]
    return begin, Tokens(rest.ids[keep], offsets, marks=marks, labels=rest.labels).first(without)


def asked(config: Trial, inputs: Mapping[str, Path], arm: str) -> list[int]:
    """The ids that an arm is scored behind: none, or one control token."""
    told = arm in config.told and config.ask and spans_of(Path(inputs[f"arm:{arm}"]))
    return [ids_of(config, inputs)[config.ask]] if told else []


def ask(documents: Tokens, ids: Sequence[int]) -> Tokens:
    """Documents to score, behind these ids."""
    return conditioning.ask(documents, ids) if ids else documents


def caveats(config: Trial, inputs: Mapping[str, Path]) -> list[str]:
    """What was told to whom."""
    out = []
    for arm in config.told:
        path = Path(inputs[f"arm:{arm}"])
        if has_metadata(path):
            last = f"{config.cooldown:.0%}"
            out.append(f"{arm} read metadata in front of its documents, and none in the last {last} of its tokens.")
        if config.controls and spans_of(path):
            behind = f" It is scored behind the one of {config.ask!r}." if config.ask else ""
            out.append(f"{arm} read control tokens ({', '.join(config.controls)}) in front of its spans.{behind}")
    return out
