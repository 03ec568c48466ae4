"""Text as buffers: the one place where a character, a word and a line are defined."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def string_buffers(strings: pa.Array | pa.ChunkedArray) -> tuple[Offsets, Bytes]:
    """An Arrow string or binary column as flat arrays that a kernel can walk; a null is an empty string.

    Returns:
        ``offsets``, int64 (n + 1,), and ``data``, uint8: string ``i`` is ``data[offsets[i]:offsets[i + 1]]``. Offsets of
        a sliced array do not start at 0. Both are read-only views where the column is one ``large_string`` chunk
        without nulls, and they keep its memory alive.
    """
    if isinstance(strings, pa.ChunkedArray):
        strings = strings.combine_chunks()
        if isinstance(strings, pa.ChunkedArray):  # several chunks that one array could not hold, or none
            strings = strings.cast(pa.large_string()).combine_chunks()
    kind = strings.type
    if not (pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)):
        binary = pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind)
        strings = strings.cast(pa.large_binary() if binary else pa.large_string())
    if strings.null_count:
        strings = strings.fill_null(b"" if pa.types.is_large_binary(strings.type) else "")
    if len(strings) == 0:
        return np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.uint8)
    _, offsets, data = strings.buffers()
    at = np.frombuffer(offsets, dtype=np.int64, count=len(strings) + 1, offset=8 * strings.offset)
    return at, np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
