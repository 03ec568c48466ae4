"""The tokenizer that all arms share: text to ids, ids to text, and the token between documents."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import BadInput, BadPlan
from curate.train import tokenising
from curate.train.data import Tokens


def separator_of(tokenizer: Any) -> int:
    """The special token that stands between documents: the tokenizer's first, 0 where it is ``tokens.train_bpe``'s."""
    special = [i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    if not special:
        raise BadInput(
            "the tokenizer has no special token to stand between documents", where="input 'tokenizer'",
            fix="fit one with tokens.train_bpe, or add a special token such as <|endoftext|>",
        )  # fmt: skip
    return int(min(special))


def tokenizer_file(inputs: Mapping[str, Path]) -> Path:
    """The file of the shared tokenizer: the base's own where there is a base.

    Raises:
        BadPlan: neither a tokenizer nor a base was given.
        BadInput: the directory holds none.
    """
    name = "base" if "base" in inputs else "tokenizer"
    if name not in inputs:
        raise BadPlan("a transformer without a tokenizer", where="trial inputs", fix="give an input 'tokenizer'")
    path = Path(inputs[name]) / "tokenizer.json"
    if not path.exists():
        raise BadInput(
            f"{inputs[name]} holds no tokenizer.json", where=f"input '{name}'",
            fix="save the model's tokenizer beside it, as a fast tokenizer",
        )  # fmt: skip
    return path


def tokenizer_hash(inputs: Mapping[str, Path]) -> str:
    """16 hex characters for the shared tokenizer: bits per byte are compared only where it is the same."""
    return hashlib.sha256(tokenizer_file(inputs).read_bytes()).hexdigest()[:16]


def open_tokenizer(inputs: Mapping[str, Path]) -> Any:
    """The shared tokenizer, which encodes what it is given and nothing else."""
    from tokenizers import Tokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # an engine already runs one task a core
    tokenizer = Tokenizer.from_file(str(tokenizer_file(inputs)))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # a text that spells <|endoftext|> is text
    return tokenizer


def encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Ids of texts, without special tokens."""
    return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def encode_spans(
    inputs: Mapping[str, Path], texts: pa.Array | pa.ChunkedArray, spans: pa.Array | pa.ChunkedArray, where: str,
    separator: int = 0,
) -> Tokens:  # fmt: skip
    """Texts with spans as documents: cut at every border of a span, so that what is masked is masked to the byte.

    Raises:
        BadInput: spans that do not fit their text.
    """
    one = pa.concat_arrays(texts.chunks) if isinstance(texts, pa.ChunkedArray) else texts
    try:
        return tokenising.encode(one, tokenizer_file(inputs).parent, separator, spans=spans)
    except ValueError as error:
        raise BadInput(
            f"{where}: {error}", where="trial inputs", fix="make spans last, for the very text that they stand beside"
        ) from error


def read_so_far(
    tokenizer: Any, texts: Sequence[str], lengths: np.ndarray, pieces: Sequence[str] | None = None
) -> list[str]:
    """The text behind a cut stream of tokens: whole documents, and the last one as far as its tokens go.

    Args:
        tokenizer: that made them.
        texts: the documents.
        lengths: how many tokens of each were kept, int64; of the last one maybe not all.
        pieces: in which the last one was tokenised; None for all of it at once.
    """
    read = list(texts[: len(lengths)])
    kept = int(lengths[-1])
    if pieces is None:
        return [*read[:-1], _head(tokenizer, read[-1], kept)[0]]
    last = ""
    for piece in pieces:
        text, of_it = _head(tokenizer, piece, kept)
        kept -= of_it
        last += text if kept == 0 else piece
        if kept == 0:
            break
    return [*read[:-1], last]


def _head(tokenizer: Any, text: str, kept: int) -> tuple[str, int]:
    """A text as far as its first tokens go, and how many of them it has."""
    encoded = tokenizer.encode(text, add_special_tokens=False)
    kept = min(kept, len(encoded.ids))
    return text[: encoded.offsets[kept - 1][1] if kept else 0], kept
