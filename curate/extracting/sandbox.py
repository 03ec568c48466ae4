"""The near side of the sandbox: hands pages over, takes texts back, and finds the page that killed.

Pages go through shared memory, many at a time, straight from Arrow's buffer; no text becomes a Python object here. If
the far side dies of a batch, the pages that were finished keep their texts, the next one is tried again, alone, in a
fresh worker, and the batch goes on after it. So a page is given up only for what it does alone, and never for what the
pages before it left behind; and an error that the extractor raises is tried again in the same way.

What is not limited: a page that waits without using the processor would wait for ever. Extractors wait for nothing.
"""

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from curate.errors import PartFailed
from curate.extracting import child

Offsets = npt.NDArray[np.int64]
BATCH_PAGES = 512
BATCH_BYTES = 4_000_000             # so that a batch stays in the cache; a longer page is a batch of its own


class Texts(NamedTuple):
    """What became of some pages: state of each (child.TEXT, ...), int64 (n,); texts as offsets (n + 1,) and bytes."""

    states: Offsets
    offsets: Offsets
    data: bytes


class Sandbox:
    """A process, started when first needed and ended with this object or this process.

    Args:
        extractor: a name as ``child.opened`` takes it.
        settings: what that is called with, JSON-able.
        cpu_seconds: processor time for a page.
        memory_bytes: address space of the process.
    """

    def __init__(self, extractor: str, settings: Mapping[str, Any], *, cpu_seconds: float, memory_bytes: int) -> None:
        self._asked = {
            "extractor": extractor, "settings": dict(settings), "cpu_seconds": cpu_seconds, "memory_bytes": memory_bytes
        }
        self._far: _Far | None = None
        self._lock = threading.Lock()

    def extract(self, data: memoryview, starts: Offsets, ends: Offsets) -> Texts:
        """The texts of pages ``data[starts[i]:ends[i]]``, UTF-8; state FAILED comes with the reason for a text."""
        with self._lock:
            if self._far is None or not self._far.lives():
                self._far = _Far(self._asked)
            try:
                found = [self._batch(self._far, data, starts[a:b], ends[a:b]) for a, b in batches(ends - starts)]
            except BaseException:  # an interrupt, say: what is on its way would be taken for the next answer
                self._far.close()
                self._far = None
                raise
        lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(each.offsets) for each in found)])
        return Texts(
            np.concatenate([np.empty(0, np.int64), *(each.states for each in found)]),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            b"".join(each.data for each in found),
        )

    def close(self) -> None:
        """End the process; the next call starts another."""
        with self._lock:
            if self._far is not None:
                self._far.close()
                self._far = None

    def _batch(self, far: "_Far", data: memoryview, starts: Offsets, ends: Offsets) -> Texts:
        found: list[tuple[int, bytes]] = []
        while len(found) < len(starts):
            at = len(found)
            finished, status = far.ask(data, starts[at:], ends[at:])
            suspect = next((i for i, (state, _) in enumerate(finished) if state == child.FAILED), None)
            if suspect is None:
                found += finished
                if status is None:
                    continue
            else:
                found += finished[:suspect]
            if status is None:
                far.renew()
            at = len(found)
            alone, status = far.ask(data, starts[at : at + 1], ends[at : at + 1])
            found += alone if status is None else [(child.FAILED, _why(status, self._asked).encode())]
            if status is None and alone[0][0] == child.FAILED:
                far.renew()
        offsets = np.concatenate([[0], np.cumsum([len(text) for _, text in found])]).astype(np.int64)
        return Texts(np.array([state for state, _ in found], np.int64), offsets, b"".join(text for _, text in found))


def batches(sizes: Offsets) -> list[tuple[int, int]]:
    """Runs of pages to hand over together."""
    found: list[tuple[int, int]] = []
    start, weight = 0, 0
    for i, size in enumerate(sizes.tolist()):
        if i > start and (i - start >= BATCH_PAGES or weight + size > BATCH_BYTES):
            found.append((start, i))
            start, weight = i, 0
        weight += size
    return [*found, (start, len(sizes))] if len(sizes) else []


def _why(status: int, asked: Mapping[str, Any]) -> str:
    """What a wait status says, in words."""
    if not os.WIFSIGNALED(status):
        return f"the extractor ended with exit code {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    if number == signal.SIGPROF:
        return f"the extractor used more than {asked['cpu_seconds']:g} s of processor time"
    return f"the extractor crashed with {signal.Signals(number).name}"


class _Far:
    """A running process and the two pieces of memory shared with it."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self._pages, self._texts = _memory(), _memory()
        self._into: mmap.mmap | None = None
        self._said: IO[bytes] = tempfile.TemporaryFile()
        heard, commands = os.pipe()
        replies, told = os.pipe()
        inherited = (heard, told, self._pages, self._texts)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(child.__file__)), *map(str, inherited), json.dumps(asked)],
            pass_fds=inherited, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said,
            start_new_session=True,
        )
        os.close(heard)
        os.close(told)
        self._commands, self._replies = commands, replies
        self._end = weakref.finalize(
            self, _end, self._process, (commands, replies, self._pages, self._texts), self._said
        )
        self._hear(child.READY)

    def lives(self) -> bool:
        return self._end.alive and self._process.poll() is None

    def close(self) -> None:
        self._end()

    def renew(self) -> None:
        """Replace the worker by a fresh one."""
        os.write(self._commands, child.COMMAND.pack(-1, 0))
        self._hear(child.DIED)
        self._hear(child.READY)

    def ask(self, data: memoryview, starts: Offsets, ends: Offsets) -> tuple[list[tuple[int, bytes]], int | None]:
        """(state, text) of the pages that were finished, and the wait status if the worker died of the next.

        After a death a fresh worker stands ready.
        """
        count, offsets = len(starts), np.concatenate([[0], np.cumsum(ends - starts)]).astype("<i8")
        size = offsets.nbytes + int(offsets[-1])
        if self._into is None or len(self._into) < size:
            os.ftruncate(self._pages, size + BATCH_BYTES)
            self._into = mmap.mmap(self._pages, 0)
        into, at = self._into, offsets.nbytes
        into[:at] = offsets.tobytes()
        # Neighbours in memory go over in one piece: without nulls, that is the whole batch.
        breaks = np.flatnonzero(starts[1:] != ends[:-1]) + 1
        for a, b in zip([0, *breaks.tolist()], [*breaks.tolist(), count], strict=True):
            piece = data[int(starts[a]) : int(ends[b - 1])]
            into[at : at + len(piece)] = piece
            at += len(piece)
        os.pwrite(self._texts, child.INT.pack(0), 0)
        os.write(self._commands, child.COMMAND.pack(count, size))
        kind, value = self._hear(child.DONE, child.DIED)
        if kind == child.DIED:
            self._hear(child.READY)
        return self._finished(count), value if kind == child.DIED else None

    def _finished(self, count: int) -> list[tuple[int, bytes]]:
        head = child.INT.size + child.ENTRY.size * count
        if os.fstat(self._texts).st_size < head:
            return []
        with mmap.mmap(self._texts, 0, access=mmap.ACCESS_READ) as memory:
            done = child.INT.unpack_from(memory)[0]
            entries = list(child.ENTRY.iter_unpack(memory[child.INT.size : child.INT.size + child.ENTRY.size * done]))
            start, found = head, []
            for state, end in entries:
                found.append((state, memory[start : head + end]))
                start = head + end
        return found

    def _hear(self, *expected: int) -> tuple[int, int]:
        reply = os.read(self._replies, child.REPLY.size)
        kind, value = child.REPLY.unpack(reply) if len(reply) == child.REPLY.size else (-1, 0)
        if kind in expected:
            return kind, value
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        code = self._process.wait(10) if kind < 0 else None
        raise PartFailed(
            f"the extractor's process ended by itself (exit code {code}): {said[-1][:300]}", where="pages.extract",
            fix="free memory and run again; if it says that a package is missing: pip install 'curate[web]'",
        )


def _memory() -> int:
    """A file descriptor of memory that processes can share."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pages")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _end(process: "subprocess.Popen[bytes]", descriptors: Sequence[int], said: IO[bytes]) -> None:
    """Close the pipe of commands, at which the far side ends; wait, so that no zombie is left."""
    for each in descriptors:
        os.close(each)
    said.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
