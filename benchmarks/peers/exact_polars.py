"""polars: distinct texts, streamed from Parquet to Parquet.

python exact_polars.py INPUT OUTPUT
"""

import sys

import polars as pl


def main() -> None:
    """Distinct texts of INPUT/*.parquet to OUTPUT/kept.parquet."""
    docs = pl.scan_parquet(f"{sys.argv[1]}/*.parquet").unique("text", keep="any")
    docs.sink_parquet(f"{sys.argv[2]}/kept.parquet", compression="zstd", compression_level=3)


if __name__ == "__main__":
    main()
