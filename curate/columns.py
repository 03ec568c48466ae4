"""The Arrow types and standard column names that every module shares.

Strings are ``large_string`` everywhere: 2 GiB of text overflows the offsets of the small kind.
An *address* packs (part ordinal, row) in one uint64, so that global steps can work on flat arrays; ordinals follow the
sorted names of the parts, which are content hashes, so they do not depend on how files were listed.
"""

import numpy as np
import pyarrow as pa

TEXT = pa.large_string()
BYTES = pa.large_binary()
KEY = pa.binary(16)
BOOL = pa.bool_()
INT32 = pa.int32()
INT64 = pa.int64()
UINT64 = pa.uint64()
FLOAT32 = pa.float32()
FLOAT64 = pa.float64()
HASH128 = pa.binary(16)

ROW = "row"  # position in the part, int64
ADDRESS = "address"  # uint64, (part ordinal << 32) | row
QUARANTINED = "quarantined"  # what a MANY stage may return beside its columns: why a row cannot be replaced
PARENT = "parent"  # address text "part:row" of the row that a replaced row came from

# What every document carries from reading on; a pipeline may read these without writing them.
STANDARD: dict[str, pa.DataType] = {
    "id": TEXT,
    "key": KEY,  # 128-bit hash of (id, all source columns)
    "source": TEXT,
    "text": TEXT,
    "text_bytes": INT64,  # UTF-8 bytes of text
}

ROW_BITS = 32
ROW_MASK = np.uint64((1 << ROW_BITS) - 1)


def address(part: int, rows: np.ndarray) -> np.ndarray:
    """Pack a part's ordinal and row numbers, int64 (n,), into addresses, uint64 (n,)."""
    return (np.uint64(part) << np.uint64(ROW_BITS)) | rows.astype(np.uint64)


def unpack(addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Addresses, uint64 (n,), as (part ordinals, row numbers), both int64 (n,)."""
    return (addresses >> np.uint64(ROW_BITS)).astype(np.int64), (addresses & ROW_MASK).astype(np.int64)
