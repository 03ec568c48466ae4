"""Hashes that decide: keyed randomness, content identity, value hashes of tables.

Randomness is a keyed hash of (seed, label, key), never a generator's state, so that it does not depend on order or
partitioning. Labels are written by the author of a pipeline and unique in it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash


def mix64(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), a bijection on uint64 (n,)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def keyed(keys: np.ndarray, *, label: str, seed: int = 0, copy: np.ndarray | int = 0) -> np.ndarray:
    """A uniform uint64 for each key.

    Args:
        keys: uint64 (n, 2), the two halves of 128-bit keys (see ``halves``).
        label: what the randomness is for.
        seed: the pipeline's seed.
        copy: which copy of the row, for mixes that repeat rows.
    """
    start = np.uint64(xxhash.xxh3_64_intdigest(f"{seed}\x00{label}".encode()))
    x = mix64(keys[:, 0] ^ start)
    x = mix64(x + keys[:, 1])
    return mix64(x ^ (np.asarray(copy, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)))


def halves(keys: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """128-bit keys, an Arrow binary(16) array without nulls, as big-endian halves, uint64 (n, 2).

    Big-endian, so that ordering by the halves orders by the bytes.
    """
    if isinstance(keys, pa.ChunkedArray):
        keys = keys.combine_chunks()
    if len(keys) == 0:
        return np.empty((0, 2), dtype=np.uint64)
    raw = np.frombuffer(keys.buffers()[1], dtype=">u8", count=2 * len(keys), offset=16 * keys.offset)
    return raw.reshape(-1, 2).astype(np.uint64)


def digest(value: Any) -> str:
    """16 hex characters that identify a JSON-able value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def value_hash(table: pa.Table) -> str:
    """32 hex characters that identify a table's schema and values, however its buffers are chunked or encoded."""
    h = xxhash.xxh3_128()
    h.update(json.dumps([[f.name, str(f.type)] for f in table.schema]).encode())
    h.update(str(table.num_rows).encode())
    for name in table.column_names:
        column = table[name]
        _feed(h, column.chunk(0) if column.num_chunks == 1 else column.combine_chunks())  # to combine one is to copy it
    return h.hexdigest()


def _feed(h: "xxhash.xxh3_128", array: pa.Array) -> None:
    """Feed one array's logical values: validity, lengths and bytes, without padding or what lies under nulls."""
    valid = np.asarray(array.is_valid())
    h.update(np.packbits(valid).tobytes())
    kind = array.type
    if (
        pa.types.is_large_string(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_string(kind)
        or pa.types.is_binary(kind)
    ):
        array = array.drop_null()
        width = np.int64 if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) else np.int32
        if len(array) == 0:
            return
        offsets = np.frombuffer(
            array.buffers()[1], dtype=width, count=len(array) + 1, offset=array.offset * width().itemsize
        )
        h.update(np.diff(offsets).astype(np.int64).tobytes())
        data = array.buffers()[2]
        if data is not None:
            h.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        array = array.drop_null()
        offsets = np.asarray(array.offsets)
        h.update(np.diff(offsets).astype(np.int64).tobytes())
        _feed(h, array.flatten())
    elif pa.types.is_fixed_size_list(kind):
        _feed(h, array.drop_null().flatten())
    elif pa.types.is_fixed_size_binary(kind):
        array = array.drop_null()
        if len(array):
            start = array.offset * kind.byte_width
            h.update(memoryview(array.buffers()[1])[start : start + len(array) * kind.byte_width])
    elif pa.types.is_boolean(kind):
        h.update(np.packbits(np.asarray(array.drop_null())).tobytes())
    elif pa.types.is_struct(kind):
        for i in range(kind.num_fields):
            _feed(h, array.drop_null().flatten()[i])
    else:
        h.update(np.ascontiguousarray(array.drop_null().to_numpy(zero_copy_only=False)).tobytes())


def files_hash(root: Path) -> str:
    """32 hex characters that identify a directory's files by relative name and bytes."""
    h = xxhash.xxh3_128()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        h.update(f"{path.relative_to(root).as_posix()}\x00{path.stat().st_size}\x00".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                h.update(block)
    return h.hexdigest()


def merge(hashes: Sequence[str] | Mapping[str, str]) -> str:
    """One hash of several, in the order given (a mapping in the order of its names)."""
    return digest(dict(sorted(hashes.items())) if isinstance(hashes, Mapping) else list(hashes))
