"""Minima, band keys and shingle sets of texts, for whichever signature the settings ask for."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.near import like_datatrove, words
from curate.near.settings import Signature
from curate.text import string_buffers

U64: TypeAlias = npt.NDArray[np.uint64]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]


def minima_of(
    texts: pa.Array | pa.ChunkedArray, config: Signature
) -> tuple[npt.NDArray[np.uint32] | npt.NDArray[np.uint64], I32]:
    """The minima of n texts and how many distinct shingles each has, int32 (n,).

    Minima are (n, bands * rows), uint32 for our own signatures and uint64 for datatrove's. Those of a text without
    shingles mean nothing.
    """
    offsets, data = string_buffers(texts)
    functions = config.bands * config.rows
    if config.like == "datatrove":
        return like_datatrove.minima(offsets, data, functions, config.ngram, config.hash, config.words)
    return words.minima(offsets, data, functions, config.ngram, config.seed)


def sets_of(texts: pa.Array | pa.ChunkedArray, config: Signature) -> tuple[U64, I64]:
    """The sorted distinct shingle hashes of n texts, one after the other, and their offsets, int64 (n + 1,)."""
    offsets, data = string_buffers(texts)
    if config.like == "datatrove":
        return like_datatrove.shingle_sets(offsets, data, config.ngram, config.hash, config.words)
    return words.shingle_sets(offsets, data, config.ngram)


def band_keys(minima: npt.NDArray[np.unsignedinteger], config: Signature) -> U64:
    """Minima, (n, bands * rows), folded into band keys, uint64 (n, bands); no two bands share a key."""
    keys = np.empty((len(minima), config.bands), dtype=np.uint64)
    words.fold_bands(minima, config.bands, config.rows, keys)
    return keys
