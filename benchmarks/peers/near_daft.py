"""Daft: ``normalize`` and ``minhash``, and the banding, joining and removal that its user has to write.

python near_daft.py INPUT OUTPUT
"""

import sys

import daft
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from daft import col

BANDS, ROWS = 14, 8


def main() -> None:
    """Near-duplicates of INPUT/*.parquet to OUTPUT/kept.parquet; the first row of a cluster is kept."""
    docs = daft.read_parquet(f"{sys.argv[1]}/*.parquet")
    clean = col("text").normalize(remove_punct=True, lowercase=True, nfd_unicode=True, white_space=True)
    hashed = clean.minhash(num_hashes=BANDS * ROWS, ngram_size=5, seed=1, hash_function="xxhash64")
    table = docs.with_column("signature", hashed).to_arrow()
    lists = table["signature"].combine_chunks()
    values = lists.flatten() if hasattr(lists, "flatten") else lists.values
    signatures = np.asarray(values, dtype=np.uint32).reshape(len(table), BANDS * ROWS)
    parent = np.arange(len(table))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for band in range(BANDS):
        part = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
        order = np.lexsort(part.T)
        same = (part[order[1:]] == part[order[:-1]]).all(axis=1)
        for k in np.flatnonzero(same):
            a, b = root(order[k]), root(order[k + 1])
            parent[max(a, b)] = min(a, b)
    kept = np.array([root(i) == i for i in range(len(table))])
    left = table.drop_columns("signature").filter(pa.array(kept))
    pq.write_table(left, f"{sys.argv[2]}/kept.parquet", compression="zstd", compression_level=3)


if __name__ == "__main__":
    main()
