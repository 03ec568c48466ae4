"""A file of facts that is only ever added to: one JSON object a line, each with the hash of what it says.

An entry's ``id`` is the hash of its content without the fields that say when and by whom it was written, so the same
fact told twice is one entry, however often a run is repeated or resumed. Adding takes a lock, reads what is there, and
appends the new lines in one write that reaches the disk before it returns. A line that a crash cut off has no line
end; it was never reported as written, so readers pass over it and the next addition removes it.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OUTSIDE = ("id", "date")  # fields that do not make a fact another one


def identity(entry: Mapping[str, Any]) -> str:
    """The hash of what an entry says, 16 hex digits; keys in any order, numbers as JSON has them.

    Raises:
        ValueError: a value that JSON does not have, such as NaN.
    """
    content = {key: value for key, value in entry.items() if key not in OUTSIDE}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: Path) -> list[dict[str, Any]]:
    """All entries in the order in which they were added, each once; none where there is no file.

    Raises:
        ValueError: a line that is no JSON object, or whose hash is not that of its content.
    """
    return entries(str(path), path.read_bytes()) if path.exists() else []


def entries(name: str, data: bytes) -> list[dict[str, Any]]:
    """All entries of a journal's bytes; ``name`` is for errors, which are those of ``read``."""
    return list(_entries(name, data))


def line(entry: Mapping[str, Any]) -> tuple[str, bytes]:
    """An entry's id, and the line that says it."""
    name = identity(entry)
    return name, (json.dumps({**entry, "id": name}, ensure_ascii=False, allow_nan=False) + "\n").encode()


def add(path: Path, facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Append those entries that are not there yet; returns the ids of what was new, in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path) as file:
        data = _all(file)
        end = data.rfind(b"\n") + 1
        known = {entry["id"] for entry in _entries(str(path), data[:end])}
        lines, new = [], []
        for entry in facts:
            name, said = line(entry)
            if name not in known:
                known.add(name)
                new.append(name)
                lines.append(said)
        if lines:
            os.ftruncate(file, end)
            os.lseek(file, end, os.SEEK_SET)
            left = b"".join(lines)
            while left:
                left = left[os.write(file, left) :]
            os.fsync(file)
    return new


def _entries(path: str, data: bytes) -> Iterator[dict[str, Any]]:
    seen = set()
    for number, said in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            entry = json.loads(said)
            told = entry["id"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} of {path} is no entry of a journal; remove the line") from error
        if told != identity(entry):
            raise ValueError(
                f"line {number} of {path} does not say what it said when it was written; restore it, or remove the line"
            )
        if told not in seen:
            seen.add(told)
            yield entry


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The open file, alone: others who add wait."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _all(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    parts = []
    while part := os.read(file, 1 << 20):
        parts.append(part)
    return b"".join(parts)
