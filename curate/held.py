"""Columns that this process has decoded and will want again: texts are signed, verified, then written.

Where tasks run in the process that runs the pipeline (the local engine), a part's columns are kept as they are first
read, up to a bound in bytes, and later steps take them from memory instead of decoding Parquet again: those that every
document carries by the part's content, those of a sidecar by the file's path (a published file never changes). What is
kept is the same Arrow data that would be decoded, so nothing depends on it but time.

What came first stays. Every step goes through the parts in the same order, and of a cycle that is longer than the
memory, the least recently used part is always the next one wanted: evicting it would leave nothing to find. A part
whose rows were replaced is let go. Nothing is kept outside ``keeping``, as in the workers of a cluster, where the next
step's task would find another process.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa

_lock = threading.Lock()
_columns: dict[tuple[str, str], pa.ChunkedArray] = {}
_bound = _bytes = 0


@contextmanager
def keeping(most: int) -> Iterator[None]:
    """Keep up to ``most`` bytes until the end of the block; all of it is let go then."""
    global _bound
    before, _bound = _bound, most
    try:
        yield
    finally:
        with _lock:
            _bound = before
            if not _bound:
                _drop(list(_columns))


def put(of: str, columns: Mapping[str, pa.ChunkedArray]) -> None:
    """Keep columns of the part whose content is ``of``, or of the file ``of``, all rows, where there is room."""
    global _bytes
    with _lock:
        new = {(of, name): column for name, column in columns.items() if (of, name) not in _columns}
        size = sum(column.get_total_buffer_size() for column in new.values())
        if _bytes + size <= _bound:
            _columns.update(new)
            _bytes += size


def get(of: str, name: str) -> pa.ChunkedArray | None:
    """A column of a part or a file, or None."""
    return _columns.get((of, name))


def forget(of: str) -> None:
    """Let go of a part."""
    with _lock:
        _drop([key for key in _columns if key[0] == of])


def _drop(keys: list[tuple[str, str]]) -> None:
    global _bytes
    for key in keys:
        _bytes -= _columns.pop(key).get_total_buffer_size()
