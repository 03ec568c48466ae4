"""rensa's R-MinHash and its own deduplicator, document by document; shingles are made in Python, as it asks.

python near_rensa.py INPUT OUTPUT
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rensa import RMinHash, RMinHashDeduplicator


def main() -> None:
    """Near-duplicates of INPUT/*.parquet to OUTPUT/*.parquet; the first of a cluster is kept."""
    seen = RMinHashDeduplicator(threshold=0.8, num_perm=112, use_lsh=True, num_bands=14, seed=42)
    for path in sorted(Path(sys.argv[1]).glob("*.parquet")):
        table = pq.read_table(path)
        kept = []
        for i, text in enumerate(table["text"].to_pylist()):
            words = text.lower().split()
            hashed = RMinHash(num_perm=112, seed=42)
            hashed.update([" ".join(words[k : k + 5]) for k in range(max(1, len(words) - 4))])
            kept.append(seen.add(f"{path.name}:{i}", hashed))
        left = table.filter(pa.array(kept))
        pq.write_table(left, Path(sys.argv[2]) / path.name, compression="zstd", compression_level=3)


if __name__ == "__main__":
    main()
