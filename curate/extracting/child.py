"""The far side of the sandbox: a process that turns pages into text, and may die of them.

It is started by its path, so that it imports nothing of the project, and is given four file descriptors: commands in,
replies out, and two pieces of shared memory, pages in and texts out. The first process imports the extractor, warms it
up on a small page and forks a *worker*; it then only waits, for the worker's end or the parent's. A worker that died is
replaced by a fork of the same warm process, which costs a few milliseconds instead of the import. So every page meets
an extractor in one of two states: fresh, or after other pages.

Before each page the worker sets ``ITIMER_PROF``, which counts processor time of all its threads and, when it runs out,
kills with SIGPROF: C code cannot catch it, and a busy machine does not bring it nearer. Its address space is limited,
its stack has one size everywhere.

    command     n pages, bytes of the first memory; -1 pages: die, so that the next command meets a fresh worker
    reply       (READY | DONE | DIED, bytes of the second memory | wait status)
    pages in    int64 offsets (n + 1), then the bytes of the pages, UTF-8
    texts out   int64 pages finished so far, int64 (n, 2) of state and end of each text, then their bytes
"""

import ctypes
import gc
import importlib
import json
import logging
import mmap
import os
import resource
import select
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, NoReturn

COMMAND, REPLY, INT = struct.Struct("<qq"), struct.Struct("<qq"), struct.Struct("<q")
ENTRY = struct.Struct("<qq")
READY, DONE, DIED = 0, 1, 2
TEXT, NOTHING, FAILED = 0, 1, 2             # states of a page: a text, no main text, an error's message
STACK = 8 << 20
ROOM = 1 << 20                              # by which the second memory grows, at least
SMALL = "<html><head><title>A title</title></head><body><h1>A heading</h1><p>Some words of a page.</p></body></html>"

Extract = Callable[[str], str | None]


def resiliparse(settings: dict[str, Any]) -> Extract:
    """The main text, or all text, by Resiliparse."""
    extract = importlib.import_module("resiliparse.extract.html2text").extract_plain_text
    return lambda page: str(extract(page, **settings))


def trafilatura(settings: dict[str, Any]) -> Extract:
    """The main text by Trafilatura; what it knows of repeated segments is forgotten after each page."""
    package = importlib.import_module("trafilatura")
    if not settings.pop("deduplicate"):
        return lambda page: package.extract(page, **settings)
    cache = importlib.import_module("trafilatura.deduplication").LRUCache
    return lambda page: package.extract(page, deduplicate=cache(maxsize=4096), **settings)


EXTRACTORS = {"resiliparse": resiliparse, "trafilatura": trafilatura}


def opened(name: str, settings: dict[str, Any]) -> Extract:
    """An extractor by its name, or any ``module:function`` that makes one of settings."""
    module, _, function = name.partition(":")
    make = getattr(importlib.import_module(module), function) if function else EXTRACTORS[name]
    extract: Extract = make(settings)
    return extract


def main(commands: int, replies: int, pages: int, texts: int, asked: dict[str, Any]) -> None:
    """Keep a worker alive until the parent goes away."""
    logging.disable(logging.CRITICAL)
    extract = opened(asked["extractor"], asked["settings"])
    extract(SMALL)
    gc.collect()
    gc.freeze()
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ended = select.poll()
    ended.register(commands, 0)  # its end alone; what it says is for the worker
    ended.register(wake, select.POLLIN)
    while True:
        worker = os.fork()
        if worker == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(wake)
            os.close(waker)
            _work(commands, replies, pages, texts, extract, asked)
        os.write(replies, REPLY.pack(READY, 0))
        status = None
        while status is None:
            found = dict(ended.poll())
            if found.get(commands):
                os.kill(worker, signal.SIGKILL)
                os.waitpid(worker, 0)
                return
            os.read(wake, 64)
            pid, state = os.waitpid(worker, os.WNOHANG)
            status = state if pid else None
        os.write(replies, REPLY.pack(DIED, status))


def _work(commands: int, replies: int, pages: int, texts: int, extract: Extract, asked: dict[str, Any]) -> NoReturn:
    """Answer commands until one says stop, or the parent goes away."""
    if sys.platform == "linux":  # so that it never outlives the process that it was forked from
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_STACK, STACK)
    _limit(resource.RLIMIT_AS, asked["memory_bytes"])
    given: mmap.mmap | None = None
    while True:
        command = os.read(commands, COMMAND.size)
        if len(command) < COMMAND.size:
            os._exit(0)
        count, size = COMMAND.unpack(command)
        if count < 0:
            os._exit(0)
        if given is None or len(given) < size:
            given = mmap.mmap(pages, 0, access=mmap.ACCESS_READ)
        written = _answer(given, count, texts, extract, asked)
        os.write(replies, REPLY.pack(DONE, written))


def _answer(given: mmap.mmap, count: int, texts: int, extract: Extract, asked: dict[str, Any]) -> int:
    """Extract ``count`` pages; returns the bytes written."""
    out = _Growing(texts, INT.size + ENTRY.size * count)
    whole = memoryview(given)
    start = INT.size * (count + 1)
    offsets = struct.unpack_from(f"<{count + 1}q", whole)
    for i in range(count):
        page = str(whole[start + offsets[i] : start + offsets[i + 1]], "utf-8")
        signal.setitimer(signal.ITIMER_PROF, asked["cpu_seconds"])
        try:
            text = extract(page)
            state = TEXT if text else NOTHING
            found = text.encode("utf-8", "replace") if text else b""
        except MemoryError:
            state, found = FAILED, f"the extractor needs more than {asked['memory_bytes']} bytes of memory".encode()
        except Exception as error:  # noqa: BLE001  whatever an extractor raises is the page's; the near side tells it
            state, found = FAILED, f"{type(error).__name__}: {error}"[:200].encode("utf-8", "replace")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        out.append(found)
        out.note(INT.size + ENTRY.size * i, state, out.size)
    return out.close()


class _Growing:
    """Shared memory that is written from its start and grows; the first ``head`` bytes are for notes."""

    def __init__(self, file: int, head: int) -> None:
        self.file, self.head, self.size = file, head, 0
        self.room = max(os.fstat(file).st_size, head + ROOM)
        os.ftruncate(file, self.room)
        self.memory = mmap.mmap(file, self.room)
        self.finished = 0
        INT.pack_into(self.memory, 0, 0)

    def append(self, found: bytes) -> None:
        end = self.head + self.size + len(found)
        if end > self.room:
            self.memory.close()
            self.room = max(end, 2 * self.room)
            os.ftruncate(self.file, self.room)
            self.memory = mmap.mmap(self.file, self.room)
        self.memory[end - len(found) : end] = found
        self.size += len(found)

    def note(self, at: int, state: int, end: int) -> None:
        ENTRY.pack_into(self.memory, at, state, end)
        self.finished += 1
        INT.pack_into(self.memory, 0, self.finished)  # last: what is counted is whole

    def close(self) -> int:
        self.memory.close()
        return self.head + self.size


def _limit(what: int, most: int) -> None:
    """A limit, or the one that is there, where that is lower."""
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    heard, told, first, second, settings = sys.argv[1:]
    main(int(heard), int(told), int(first), int(second), json.loads(settings))
