"""Texts as token ids for the models of this folder: which tokenizer, which separator, null and special tokens.

Cost: 4 to 5 MB of text a CPU-second (measured: a byte-level BPE of 2,048 on mixed web text), on one thread, because an
engine already runs one task a core. Elsewhere: fitting a tokenizer and counting tokens (curate/tokens.py).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import BadInput

TOKENIZER = "tokenizer.json"
SEPARATORS = ("<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "<bos>", "<s>", "</s>", "[SEP]")
BATCH_BYTES = 1 << 20    # of text that is encoded at a time


def open_tokenizer(path: Path, *, where: str) -> Any:
    """The tokenizer of a directory: no truncation, no padding, and a text that spells a special token is text.

    Raises:
        BadInput: the directory has none.
    """
    from tokenizers import Tokenizer

    if not (path / TOKENIZER).is_file():
        raise BadInput(
            f"{path} holds no {TOKENIZER}", where=where,
            fix="give a directory written by tokens.train_bpe, or by save_pretrained() of a fast tokenizer",
        )  # fmt: skip
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # read at every call
    opened = Tokenizer.from_file(str(path / TOKENIZER))
    opened.no_truncation()
    opened.no_padding()
    opened.encode_special_tokens = True
    return opened


def separator_of(tokenizer: Any, *, where: str) -> int:
    """The id of the special token that separates documents: the first of SEPARATORS, else the first special token.

    Raises:
        BadInput: the tokenizer has no special token.
    """
    special = {token.content: i for i, token in sorted(tokenizer.get_added_tokens_decoder().items()) if token.special}
    if not special:
        raise BadInput(
            "the tokenizer has no special token to separate documents with", where=where,
            fix="fit one with tokens.train_bpe, or add '<|endoftext|>' as a special token",
        )  # fmt: skip
    known = [name for name in SEPARATORS if name in special]
    return int(special[known[0]] if known else min(special.values()))


def encode(tokenizer: Any, texts: pa.ChunkedArray, characters: int | None = None) -> Iterator[np.ndarray]:
    """Token ids of each text, uint32 (tokens,), in order; none for null. Text is held 1 MB at a time.

    Args:
        tokenizer: see ``open_tokenizer``.
        texts: large_string.
        characters: of each text at most, from its start.
    """
    for chunk in texts.chunks:
        if characters is not None:
            chunk = pc.utf8_slice_codeunits(chunk, 0, characters)
        ends = np.cumsum(pc.fill_null(pc.binary_length(chunk), 0).to_numpy(zero_copy_only=False).astype(np.int64))
        start = 0
        while start < len(chunk):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
            batch = pc.fill_null(chunk[start:stop], "").to_pylist()
            for encoded in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                yield np.array(encoded.ids, dtype=np.uint32)
            start = stop
