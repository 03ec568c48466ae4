"""Where results live: one place, shared by all runs, immutable, published atomically.

A final name is never opened for writing. A file is encoded in memory (or scratch) in one canonical layout and published
by one create-if-absent put: locally a temporary file, fsync, link; on object stores a conditional put. Whoever comes
second uses what the first published. Only pruning removes.

A task publishes several small files, and each would wait for the disk, 1 to 5 ms that a task of 30 ms feels. So files
are published ``together``: written and synced side by side as they come, linked in their order at the end. No link is
made before its file is safe, nor before those of the files that came earlier, whatever happens in between.

The last small tables that a process published are remembered, for the next step reads what the one before wrote.

    inputs/DIGEST.json                what a file was read as: its parts
    parts/NAME/…                      what every document carries; the rows of parts that had to be rewritten
    steps/NAME-IDENTITY/PART/K.parquet  sidecars: fragment K of a step's columns for a part
    living/IDENTITY/PART.parquet      rows of a part that were dropped so far, with reasons
    receipts/IDENTITY/PART.json       what a task did; its existence means done
    artifacts/NAME-IDENTITY/          what was learned
    runs/NAME-IDENTITY/               what was asked for, and the manifest, last
"""

import errno
import io
import json
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from curate.columns import PARENT
from curate.errors import BadInput, StoreFailed
from curate.hashing import value_hash


def _umask() -> int:
    """The process's mask for new files; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


UMASK = _umask()
PATIENCE = 1.0  # seconds for which a task's files are published together
SYNCS = 4  # files that are written and synced at once
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
REMEMBERED = 32 << 20  # bytes of small tables that a process remembers, and of the largest of them
REMEMBERED_MOST = 4 << 20


def storage_errors() -> tuple[type[Exception], ...]:
    """What file systems raise; the error classes of packages that are not loaded cannot be raised."""
    named = [("botocore.exceptions", "BotoCoreError"), ("botocore.exceptions", "ClientError")]
    loaded = [getattr(sys.modules[module], name) for module, name in named if module in sys.modules]
    return (OSError, ValueError, *loaded)


@dataclass(frozen=True)
class Published:
    """A file as published: bytes, a hash of the bytes, and for tables rows and a hash of the values."""

    path: str
    bytes: int
    bytes_hash: str
    rows: int = 0
    values: str = ""


@dataclass(frozen=True)
class Store:
    """A directory at any fsspec URL; paths are relative to it."""

    url: str

    @cached_property
    def _at(self) -> tuple[Any, str]:
        # Other processes publish too, so a remembered listing would hide what they did.
        fs, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        return fs, root.rstrip("/")

    @cached_property
    def _remembered(self) -> "_Remembered":
        return _Remembered()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_remembered"}

    @property
    def local(self) -> bool:
        """Whether the store is a directory of this machine."""
        protocol = self._at[0].protocol
        return "file" in (protocol if isinstance(protocol, tuple) else (protocol,))

    def full(self, path: str) -> str:
        """The path as the file system knows it."""
        return f"{self._at[1]}/{path}" if path else self._at[1]

    def check_writable(self) -> None:
        """Raise BadInput where nothing can be written."""
        probe = f"tmp/probe-{uuid.uuid4().hex}"
        try:
            first, second = self.publish(probe, b""), self.publish(probe, b"")
            self.remove(probe)
        except storage_errors() as error:
            raise BadInput(f"cannot write to {self.url}: {error}", where="--out", fix="choose another --out") from error
        if not first or second:
            raise BadInput(
                f"{self.url} has no create-if-absent puts, which results are published by",
                where="--out",
                fix="choose a local directory, S3, GCS, or another store with conditional puts",
            )

    def exists(self, path: str) -> bool:
        """Whether a file was published (or a directory holds one)."""
        full = self.full(path)
        return full in _waiting() or bool(self._at[0].exists(full))

    @contextmanager
    def together(self, *, either: bool = False) -> Iterator[None]:
        """Publish what this thread publishes in the block at its end, in that order; on object stores, at once.

        Inside, the thread sees it as if it were published; others see it when it is. After PATIENCE seconds files are
        published one by one, as without the block: a long task which is killed keeps what it finished, and is told at
        once where others were first. Where the block ends in an error, what came before is published all the same.

        Args:
            either: where others published something else under one of the names meanwhile, theirs will do.

        Raises:
            Overtaken: they did, and what was made in the block may rest on ours. Done again, it rests on theirs.
        """
        if not self.local or _here.group is not None:
            yield
            return
        with ThreadPoolExecutor(SYNCS, thread_name_prefix="curate-sync") as pool:
            _here.group = group = _Group(pool, either, self._remembered)
            try:
                yield
            finally:
                _here.group = None
                with self._room():
                    group.settle()

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Say where there is no room, or none for us: it is not the fault of what was to be written."""
        try:
            yield
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise StoreFailed(
                f"the store cannot be written to: {error.strerror}", where=self.url,
                fix="make room there, or name another store with --out; run again, finished parts are kept",
            ) from None  # fmt: skip

    def publish(self, path: str, data: bytes) -> bool:
        """Put bytes under a name, once; False where somebody was first."""
        fs, _ = self._at
        target = self.full(path)
        if self.local:
            with self._room():
                return self._link(target, data)
        if fs.exists(target):
            return False
        if "memory" in fs.protocol:
            fs.pipe_file(target, data)
            return True
        try:
            fs.pipe_file(target, data, mode="create")
        except FileExistsError:
            return False
        return True

    def _link(self, target: str, data: bytes) -> bool:
        if target in _waiting() or os.path.lexists(target):
            return False
        scratch = Path(self.full("tmp"))
        scratch.mkdir(parents=True, exist_ok=True)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=scratch)
        group = _here.group
        if group is not None and time.monotonic() - group.began < PATIENCE:
            group.add(target, handle, temporary, data)
            return True
        try:
            if group is not None:
                group.settle()
            _write(handle, data)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            return True
        finally:
            Path(temporary).unlink()

    def _place(self, path: str) -> str:
        """Where the bytes of a file lie now."""
        full = self.full(path)
        if full not in _waiting():
            return full
        temporary, written = _waiting()[full]
        written.result()
        return temporary

    def read(self, path: str) -> bytes:
        """All bytes of a file."""
        return bytes(self._at[0].cat_file(self._place(path)))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of a file."""
        return bytes(self._at[0].cat_file(self._place(path), start=start, end=end))

    def open(self, path: str) -> Any:
        """A file to read from, at any position."""
        return self._at[0].open(self._place(path), "rb")

    def names(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty where there is none."""
        full = self.full(path)
        waiting = [name for where, _, name in (each.rpartition("/") for each in _waiting()) if where == full]
        try:
            found = self._at[0].ls(full, detail=False)
        except FileNotFoundError:
            found = []
        return sorted([*waiting, *(str(f).rstrip("/").rsplit("/", 1)[-1] for f in found)])

    def remove(self, path: str) -> None:
        """Remove a file or a directory; only for scratch and pruning."""
        self._remembered.clear()
        self._at[0].rm(self.full(path), recursive=True)

    def put_json(self, path: str, value: Any) -> Any:
        """Publish a JSON value once, and return what stands there."""
        if self.publish(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()):
            return value
        return self.get_json(path)

    def get_json(self, path: str) -> Any:
        """A JSON value."""
        return json.loads(self.read(path))

    def get_jsons(self, paths: Sequence[str]) -> list[Any]:
        """Several JSON values, fetched side by side where the store is remote."""
        if self.local or not paths:
            return [self.get_json(path) for path in paths]
        full = [self.full(path) for path in paths]
        found = self._at[0].cat(full)
        return [json.loads(found[path]) for path in full]

    def put_table(self, path: str, table: pa.Table, level: int = 1) -> Published:
        """Publish a table as Parquet, in the one canonical layout; what stands there counts.

        ``level`` is zstd's: 1 for what a later step reads once or twice; 3 is a fifth smaller and takes twice the time.
        """
        table = combined(table)
        data = encode(table, level)
        if not self.publish(path, data):
            data = self.read(path)
            table = decode(data)
        self._remembered.put(path, table)
        return Published(path, len(data), xxhash.xxh3_128_hexdigest(data), table.num_rows, value_hash(table))

    def get_table(self, path: str, columns: Iterable[str] | None = None) -> pa.Table:
        """A table, or those of the named columns that it has, in the order named."""
        wanted = None if columns is None else list(columns)
        known = self._remembered.get(path)
        if known is not None:
            return known if wanted is None else known.select([name for name in wanted if name in known.column_names])
        return decode(self._place(path) if self.local else self.read(path), wanted)

    def link(self, source: str, target: str) -> None:
        """The same file under a second name: a link locally, a server-side copy elsewhere."""
        fs, _ = self._at
        if self.local:
            Path(self.full(target)).parent.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(self.full(target)):
                os.link(self._place(source), self.full(target))
        elif not fs.exists(self.full(target)):
            fs.copy(self.full(source), self.full(target))

    def local_copy(self, path: str) -> Path:
        """A directory or file of the store as a local path: itself, or a copy made once per process.

        The path may be sent to another process, which then makes its own copy.
        """
        if self.local:
            if _here.group is not None:
                _here.group.settle()
            return Path(self.full(path))
        target = _copies().joinpath(xxhash.xxh3_64_hexdigest(self.full(path).encode()), Path(path).name)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            self._at[0].get(self.full(path), str(target), recursive=True)
        _COPIED[str(target)] = self, path
        return Copied(target)


class _Remembered:
    """Tables by their path, as they would be decoded; what came first goes first."""

    def __init__(self) -> None:
        self.tables: dict[str, pa.Table] = {}
        self.size = 0
        self.lock = threading.Lock()

    def put(self, path: str, table: pa.Table) -> None:
        """Remember a small table, where Parquet changes nothing in it, as it does to the names inside lists."""
        size = table.get_total_buffer_size()
        if size > REMEMBERED_MOST or not all(_is_flat(kind) for kind in table.schema.types):
            return
        with self.lock:
            if path not in self.tables:
                self.tables[path] = table
                self.size += size
            while self.size > REMEMBERED:
                self.size -= self.tables.pop(next(iter(self.tables))).get_total_buffer_size()

    def get(self, path: str) -> pa.Table | None:
        """A table, or None where it is not remembered."""
        return self.tables.get(path)

    def clear(self) -> None:
        """Forget all."""
        with self.lock:
            self.tables.clear()
            self.size = 0


def _is_flat(kind: pa.DataType) -> bool:
    asks = ("integer", "float32", "float64", "boolean", "string", "large_string", "binary", "large_binary")
    return any(getattr(pa.types, f"is_{ask}")(kind) for ask in asks) or pa.types.is_fixed_size_binary(kind)


class Overtaken(Exception):
    """Somebody else published other bytes under a name that was waiting to be published."""


class _Group:
    """Files that are published together: their final paths, where they lie so far, and whether they are written."""

    def __init__(self, pool: ThreadPoolExecutor, either: bool, remembered: _Remembered) -> None:
        self.pool, self.either, self.remembered = pool, either, remembered
        self.waiting: dict[str, tuple[str, Future[None]]] = {}
        self.began = time.monotonic()

    def add(self, target: str, handle: int, temporary: str, data: bytes) -> None:
        """Start to write a file."""
        self.waiting[target] = temporary, self.pool.submit(_write, handle, data)

    def settle(self) -> None:
        """Publish what waits, each file after those before it."""
        waiting, self.waiting = self.waiting, {}
        try:
            for target, (temporary, written) in waiting.items():
                written.result()
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    if Path(target).read_bytes() != Path(temporary).read_bytes():
                        self.remembered.clear()  # ours is not what stands there
                        if not self.either:
                            raise Overtaken(target) from None
        finally:
            wait([written for _, written in waiting.values()])
            for temporary, _ in waiting.values():
                Path(temporary).unlink()


class _Here(threading.local):
    """What a thread is about to publish."""

    group: _Group | None = None


_here = _Here()


def _waiting() -> dict[str, tuple[str, "Future[None]"]]:
    return {} if _here.group is None else _here.group.waiting


def _write(handle: int, data: bytes) -> None:
    """Write a new file and see it onto the disk."""
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), 0o666 & ~UMASK)  # mkstemp's files are for their owner alone
        if data:
            os.fsync(file.fileno())


class Copied(type(Path())):  # type: ignore[misc]
    """A path in (or of) a local copy; where it is sent to, it is opened from that process's own copy."""

    def __reduce__(self) -> tuple[Any, ...]:
        for above in (self, *self.parents):
            if str(above) in _COPIED:
                store, path = _COPIED[str(above)]
                return _reopened, (store, path, self.relative_to(above).as_posix())
        return Path, (str(self),)


def _reopened(store: Store, path: str, inside: str) -> Path:
    return store.local_copy(path) / inside


_COPIED: dict[str, tuple[Store, str]] = {}
_HELD: list["tempfile.TemporaryDirectory[str]"] = []


def _copies() -> Path:
    if not _HELD:
        _HELD.append(tempfile.TemporaryDirectory(prefix="curate-"))
    return Path(_HELD[0].name)


def combined(table: pa.Table) -> pa.Table:
    """A table with one chunk a column; columns that have one are not copied, as ``combine_chunks`` would."""
    columns = [c if c.num_chunks == 1 else pa.chunked_array([c.combine_chunks()], c.type) for c in table.columns]
    return pa.Table.from_arrays(columns, schema=table.schema)


def encode(table: pa.Table, level: int = 1, row_group_bytes: int = 32 << 20) -> bytes:
    """A table as Parquet bytes: zstd, statistics, page index, row groups of about ``row_group_bytes``.

    Columns whose values are long and all different (texts, ids, keys) are not tried as dictionaries first.
    """
    table = combined(table)
    dictionaries = [n for n in table.column_names if n not in ("text", "id", "key", "extra", PARENT)]
    rows = table.num_rows
    per_group = max(1, min(rows, int(rows * row_group_bytes / max(1, table.nbytes)))) if rows else 1
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=level,
        write_page_index=True,
        version="2.6",
        use_dictionary=dictionaries or False,
    ) as writer:
        writer.write_table(table, row_group_size=per_group)
    return sink.getvalue()


def decode(data: str | bytes, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file (a local path, or its bytes) as a table.

    Without the dataset layer of ``pq.read_table``, which costs as much again for a small file.
    """
    local = isinstance(data, str)
    with pq.ParquetFile(data if local else pa.BufferReader(data), memory_map=local) as file:
        table = file.read(columns=columns, use_threads=False)
    return table if columns is None else table.select([name for name in columns if name in table.column_names])
