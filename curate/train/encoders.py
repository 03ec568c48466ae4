"""What turns texts into token ids: a tokenizer, or the bytes themselves; and control tokens beside them.

The tokenizer is a directory with ``tokenizer.json``, or ``bytes``: each byte is its own id, and 256 separates. Special
tokens are not added, and a text that spells one out is text. A *control token* is an id that no text gives; it stands
for a role (spans.py), in front of whose spans tokenising puts it.

    controls = controls_of("tokenizer", ["good", "bad"])                # new ids behind the tokenizer's own
    controls = add_controls("tokenizer", ["good", "bad"], Path("told")) # or a tokenizer that has <|good|> and <|bad|>
    vocabulary_of("tokenizer", controls)                                # what a model must know

Elsewhere: batches of texts, spans and stores (tokenising.py), what the tokens are for (conditioning.py).
"""

import os
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from curate.train.directory import TOKENIZER, known_separator, open_tokenizer

BYTES = "bytes"
SEPARATOR_OF_BYTES = 256


class Encoder(Protocol):
    """What turns texts into ids."""

    vocabulary: int
    separator: int
    special: Mapping[str, int]  # its special tokens

    def __call__(self, texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of UTF-8 texts, uint32, one text after the other, and how many each has, int64 (texts,)."""
        ...


class _Bytes:
    vocabulary, separator = SEPARATOR_OF_BYTES + 1, SEPARATOR_OF_BYTES
    special: Mapping[str, int] = {}

    def __call__(self, texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        ids = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.uint32)
        return ids, np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))


class _Tokenizer:
    def __init__(self, path: Path, separator: int | None) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are processes
        self._tokenizer = open_tokenizer(path)
        self.vocabulary = int(self._tokenizer.get_vocab_size())
        found = known_separator(self._tokenizer) if separator is None else separator
        if found is None:
            raise ValueError(f"{path} has no special token to stand between documents; give the id of the separator")
        if not 0 <= found < self.vocabulary:
            raise ValueError(f"the separator {found} is no token of {path}; give an id below {self.vocabulary}")
        self.separator = found
        added = self._tokenizer.get_added_tokens_decoder().items()
        self.special: Mapping[str, int] = {str(t.content): int(i) for i, t in sorted(added) if t.special}

    def __call__(self, texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        encoded = self._tokenizer.encode_batch_fast([t.decode() for t in texts], add_special_tokens=False)
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(texts))
        ids = np.fromiter(chain.from_iterable(e.ids for e in encoded), dtype=np.uint32, count=int(lengths.sum()))
        return ids, lengths


def open_encoder(tokenizer: str | Path, separator: int | None = None) -> Encoder:
    """The encoder of a directory with ``tokenizer.json``, or of ``bytes``.

    Raises:
        ValueError: no such file, or no token that could separate documents.
    """
    if str(tokenizer) == BYTES:
        if separator not in (None, SEPARATOR_OF_BYTES):
            raise ValueError(f"bytes are separated by {SEPARATOR_OF_BYTES}, not {separator}; leave the separator out")
        return _Bytes()
    path = Path(tokenizer)
    return _Tokenizer(path.parent if path.name == TOKENIZER else path, separator)


def separator_of(tokenizer: str | Path) -> int:
    """The token that stands before each document where none is given."""
    return open_encoder(tokenizer).separator


def controls_of(tokenizer: str | Path, roles: Sequence[str]) -> dict[str, int]:
    """A control token for each role: the tokenizer's special token ``<|ROLE|>``, or a new id behind all that it has.

    New ids make a model's vocabulary that much larger. ``add_controls`` writes a tokenizer that has them all.
    """
    encoder = open_encoder(tokenizer)
    new = [role for role in roles if f"<|{role}|>" not in encoder.special]
    behind = {role: encoder.vocabulary + i for i, role in enumerate(new)}
    return {role: behind[role] if role in behind else encoder.special[f"<|{role}|>"] for role in roles}


def add_controls(tokenizer: str | Path, roles: Sequence[str], out: Path) -> dict[str, int]:
    """Write a tokenizer that has ``<|ROLE|>`` as a special token for each role into a directory; their ids.

    So a model that is exported with it can be asked with these tokens, and told not to write them.
    """
    path = Path(tokenizer)
    opened = open_tokenizer(path.parent if path.name == TOKENIZER else path)
    opened.add_special_tokens([f"<|{role}|>" for role in roles])
    out.mkdir(parents=True, exist_ok=True)
    opened.save(str(out / TOKENIZER))
    return controls_of(out, roles)


def vocabulary_of(tokenizer: str | Path, controls: Mapping[str, int] | None = None) -> int:
    """How many ids a model must know that reads this tokenizer's tokens and these control tokens."""
    return max([open_encoder(tokenizer).vocabulary, *(i + 1 for i in (controls or {}).values())])


def checked_controls(controls: Mapping[str, int] | None, encoder: Encoder) -> Mapping[str, int]:
    """Control tokens by role.

    Raises:
        ValueError: an id that is the separator's, a text's, or another control's.
    """
    controls = dict(controls or {})
    free = set(encoder.special.values()) - {encoder.separator}
    for role, i in controls.items():
        if (i < encoder.vocabulary and i not in free) or list(controls.values()).count(i) > 1:
            raise ValueError(
                f"the control token {i} of {role!r} is used already; give each role an id of its own from "
                f"{encoder.vocabulary} on, or one of the tokenizer's special tokens: see controls_of"
            )
    return controls
