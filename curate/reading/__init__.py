"""From the bytes of a file to rows: Parquet, JSON Lines, the documentation of installed packages.

Each module knows one kind of bytes and gives ``Piece``s of the same columns (rows.py). Which files there are, and the
values that people write in a pipeline, are in curate/sources.py.
"""
