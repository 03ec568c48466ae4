"""datatrove's filters in FineWeb's order: repetition, Gopher, C4, FineWeb; two workers.

python filters_datatrove.py INPUT OUTPUT
"""

import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter


def main() -> None:
    """Documents of INPUT/*.parquet that pass to OUTPUT/kept/*.parquet."""
    source, out = sys.argv[1:3]
    LocalPipelineExecutor(
        [
            ParquetReader(source, glob_pattern="*.parquet"),
            GopherRepetitionFilter(),
            GopherQualityFilter(),
            C4QualityFilter(filter_no_terminal_punct=False),
            FineWebQualityFilter(),
            ParquetWriter(f"{out}/kept", compression="zstd"),
        ],
        tasks=4, workers=2, logging_dir=f"{out}/logs",
    ).run()


if __name__ == "__main__":
    main()
