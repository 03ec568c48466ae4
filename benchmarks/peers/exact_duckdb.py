"""DuckDB: one row for each hash of the text.

python exact_duckdb.py INPUT OUTPUT
"""

import sys

import duckdb


def main() -> None:
    """Distinct texts of INPUT/*.parquet to OUTPUT/kept.parquet, on two threads."""
    source, out = sys.argv[1:3]
    duckdb.sql("set threads = 2")
    duckdb.sql(
        f"copy (select distinct on (md5(text)) * from read_parquet('{source}/*.parquet')) "
        f"to '{out}/kept.parquet' (format parquet, compression zstd, compression_level 3)"
    )


if __name__ == "__main__":
    main()
