"""datatrove's four MinHash executors with its defaults for bands and words and FineWeb's hash, SHA-1, two workers.

python near_datatrove.py INPUT OUTPUT
"""

import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.hashing import HashConfig

TASKS = 4


def main() -> None:
    """Near-duplicates of INPUT/*.parquet to OUTPUT/*.parquet."""
    source, out = sys.argv[1:3]
    sha1 = HashConfig(hash_fc="sha1", precision=64)  # the default needs an xxhash that takes text
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8, hash_config=sha1)
    read = ParquetReader(source, glob_pattern="*.parquet")

    def carry(*steps: object, tasks: int, name: str) -> None:
        LocalPipelineExecutor(list(steps), tasks=tasks, workers=2, logging_dir=f"{out}/logs/{name}").run()

    carry(read, MinhashDedupSignature(f"{out}/signatures", config=config), tasks=TASKS, name="signatures")
    carry(MinhashDedupBuckets(f"{out}/signatures", f"{out}/buckets", config=config), tasks=14, name="buckets")
    carry(MinhashDedupCluster(f"{out}/buckets", f"{out}/remove", config=config), tasks=1, name="clusters")
    carry(
        read, MinhashDedupFilter(f"{out}/remove"), ParquetWriter(f"{out}/kept", compression="zstd"),
        tasks=TASKS, name="filter",
    )


if __name__ == "__main__":
    main()
