"""Tokens: a tokenizer of one's own, and how many tokens a text has under any tokenizer.

``train_bpe`` fits a byte-level BPE (Sennrich et al. 2016; on bytes, Radford et al. 2019) to a sample: text is cut into
words by GPT-2's rule, words into bytes, and the most frequent pair of neighbours is merged until the vocabulary is
full. Every text can be encoded, and nothing is lost: there is no unknown token. It is small by default, because the
models of a trial are small: their embedding should not outweigh the rest.

``count`` writes the number of tokens of each text, without special tokens, for budgets. It reads the ``tokenizer.json``
of an artifact, which may be one fitted here or a directory of a published model. Truncation and padding that such a
file carries are switched off, and a text that spells out a special token (``<|endoftext|>``) is counted as text.

Cost: counting, 5 MB of text a second and core (measured: a vocabulary of 2,048 on mixed web text); fitting, 1 MB a
second, in memory. Both run on one thread, because an engine already runs one task a core.
Elsewhere: packing of tokens (train/).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.artifact import fitter
from curate.columns import INT64, TEXT
from curate.errors import BadInput, BadPlan
from curate.stage import ColumnType, Grain, stage

FILE = "tokenizer.json"
BATCH_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Bpe:
    """A byte-level BPE.

    Args:
        vocabulary: tokens in all; at least 256 bytes and the special token.
        min_frequency: a pair that occurs less often is not merged.
        end_of_text: the special token that separates documents; its id is 0.
    """

    vocabulary: int = 2048
    min_frequency: int = 2
    end_of_text: str = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class Count:
    """Where to write the number of tokens.

    Args:
        column: the column to write, int64.
    """

    column: str = "tokens"

    def writes(self) -> dict[str, ColumnType]:
        """The column of counts."""
        return {self.column: INT64}


@fitter(reads={"text": TEXT}, extras=("train",), version="1")
def train_bpe(docs: pa.Table, config: Bpe, out: Path) -> dict[str, Any]:
    """Fit a tokenizer to the texts and write ``tokenizer.json``; the same texts in the same order give the same file.

    Raises:
        BadPlan: the vocabulary cannot hold the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if config.vocabulary < 257:
        raise BadPlan(
            f"a vocabulary of {config.vocabulary} cannot hold 256 bytes and a special token",
            where="tokens.train_bpe", fix="set vocabulary to 257 or more",
        )  # fmt: skip
    _one_thread()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        min_frequency=config.min_frequency,
        special_tokens=[config.end_of_text],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_batches(docs["text"]), trainer)
    tokenizer.save(str(out / FILE))
    seen = pc.sum(pc.binary_length(docs["text"]), min_count=0).as_py()
    tokens = int(lengths(tokenizer, docs["text"]).sum())
    return {
        "vocabulary": tokenizer.get_vocab_size(),
        "sample_bytes": seen,
        "bytes_per_token": seen / tokens if tokens else 0.0,
    }


def open_tokenizer(config: Count, tokenizer: Path) -> Any:
    """The tokenizer of a directory, to be used for counting alone.

    Args:
        config: settings of the stage.
        tokenizer: a directory that holds ``tokenizer.json``.

    Raises:
        BadInput: it does not.
    """
    from tokenizers import Tokenizer

    if not (tokenizer / FILE).is_file():
        raise BadInput(
            f"{tokenizer} holds no {FILE}", where="tokens.count",
            fix="give a directory written by tokens.train_bpe, or by save_pretrained() of a fast tokenizer",
        )  # fmt: skip
    _one_thread()
    opened = Tokenizer.from_file(str(tokenizer / FILE))
    opened.no_truncation()
    opened.no_padding()
    opened.encode_special_tokens = True
    return opened


@stage(
    reads={"text": TEXT}, writes=Count.writes, grain=Grain.EACH, load=open_tokenizer, extras=("train",), version="1"
)
def count(docs: pa.Table, config: Count, tokenizer: Any) -> pa.Table:
    """Tokens of each text, without special tokens, int64; null where the text is null."""
    counted = lengths(tokenizer, docs["text"])
    missing = np.asarray(docs["text"].is_null())
    return pa.table({config.column: pa.array(counted, INT64, mask=missing)})


def lengths(tokenizer: Any, texts: pa.ChunkedArray) -> np.ndarray:
    """Tokens of each text, int64 (n,); 0 for null."""
    counts = [
        np.array([len(e) for e in tokenizer.encode_batch_fast(batch, add_special_tokens=False)], dtype=np.int64)
        for batch in _batches(texts)
    ]
    return np.concatenate([np.empty(0, dtype=np.int64), *counts])


def _batches(texts: pa.ChunkedArray) -> Iterator[list[str]]:
    """Texts in order, in lists of about 1 MB, so that few encodings are held at once; null as the empty text."""
    for chunk in texts.chunks:
        chunk = chunk.fill_null("")
        ends = np.cumsum(np.asarray(pc.binary_length(chunk), dtype=np.int64))
        start = 0
        while start < len(chunk):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
            yield chunk[start:stop].to_pylist()
            start = stop


def _one_thread() -> None:
    """Keep the library from starting a thread a core; it reads this variable at every call."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
