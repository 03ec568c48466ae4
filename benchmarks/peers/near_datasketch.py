"""datasketch's MinHash and MinHashLSH; shingles are made in Python, as it asks.

python near_datasketch.py INPUT OUTPUT
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasketch import MinHash, MinHashLSH


def main() -> None:
    """Near-duplicates of INPUT/*.parquet to OUTPUT/*.parquet; the first of a cluster is kept."""
    index = MinHashLSH(num_perm=112, params=(14, 8))
    for path in sorted(Path(sys.argv[1]).glob("*.parquet")):
        table = pq.read_table(path)
        kept = []
        for i, text in enumerate(table["text"].to_pylist()):
            words = text.lower().split()
            hashed = MinHash(num_perm=112, seed=1)
            hashed.update_batch([" ".join(words[k : k + 5]).encode() for k in range(max(1, len(words) - 4))])
            kept.append(not index.query(hashed))
            if kept[-1]:
                index.insert(f"{path.name}:{i}", hashed, check_duplication=False)
        left = table.filter(pa.array(kept))
        pq.write_table(left, Path(sys.argv[2]) / path.name, compression="zstd", compression_level=3)


if __name__ == "__main__":
    main()
