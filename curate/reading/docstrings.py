"""The documentation that any Python installation carries, found without importing anything.

1. ``packages`` lists the installed packages from their metadata, and the standard library. A package's files come from
   its RECORD, so that listing two hundred packages reads two hundred small files; a package without a RECORD (an
   editable install) has no files to show and is not listed.
2. A module's source is parsed (``ast``; the code is never run) for the docstrings of the module, its classes and its
   functions, nested ones included, with the indentation taken out as ``help`` does.
3. READMEs (the long description in METADATA), licences and text files are whole documents.

Cost: about 10 MB of source a second and core, nearly all of it CPython's parser.
"""

import ast
import csv
import gc
import importlib.metadata
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import xxhash

from curate.reading.rows import Broken

STDLIB = "stdlib"
FILE_BYTES = 5_000_000      # a longer file is data
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
TEXT_ENDINGS = (".rst", ".md", ".txt")
LICENCE = re.compile(r"(licen[cs]es?|copying|notice|copyright)\b", re.IGNORECASE)
NOT_IMPORTED = {"test", "tests", "doc", "docs", "examples", "benchmarks"}

DOCUMENTED: dict[type[ast.AST], str] = {
    ast.Module: "module", ast.ClassDef: "class", ast.FunctionDef: "function", ast.AsyncFunctionDef: "function",
}
BLOCKS = ("body", "handlers", "orelse", "finalbody")
HOLDERS = (
    ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.If, ast.Try, ast.TryStar, ast.ExceptHandler, ast.With,
    ast.For, ast.While,
)


@dataclass(frozen=True)
class Member:
    """A file of a package: its path below the package's root, bytes (-1 unknown), hash in its RECORD, and kind.

    ``kind`` is ``python``, ``metadata``, ``license`` or ``text``.
    """

    path: str
    size: int
    hash: str
    kind: str


@dataclass(frozen=True)
class Package:
    """An installed package, or the standard library.

    Args:
        name: the distribution's name as PEP 503 normalises it, or ``stdlib``.
        version: its version; for the standard library Python's.
        root: the folder that its files are below.
        record: its RECORD, or None for the standard library.
    """

    name: str
    version: str
    root: Path
    record: str | None

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """Its source and documentation files, sorted by path."""
        listed = _walked(self.root) if self.record is None else _recorded(self.record)
        found = [Member(path, size, hash_, kind) for path, size, hash_ in listed if (kind := _kind(path))]
        return tuple(sorted(found, key=lambda member: member.path))

    @property
    def size(self) -> int:
        """Bytes of those files, as far as they are known."""
        return sum(max(member.size, 0) for member in self.members)

    @property
    def token(self) -> str:
        """Changes with the version or any of those files."""
        listed = "\n".join(f"{member.path},{member.size},{member.hash}" for member in self.members)
        return f"{self.version}-{xxhash.xxh3_64_hexdigest(listed.encode())}"

    @property
    def import_names(self) -> set[str]:
        """Top-level packages and modules."""
        if self.record is None:
            return {STDLIB}
        tops = {member.path.split("/")[0].removesuffix(".py") for member in self.members if member.kind == "python"}
        return {top for top in tops if top.lower() not in NOT_IMPORTED}


def packages() -> dict[str, Package]:
    """Every package by name; of two with one name, the first on ``sys.path``, which is what is imported."""
    found: dict[str, Package] = {}
    for distribution in importlib.metadata.distributions():
        if (package := _package(distribution)) is not None:
            found.setdefault(package.name, package)
    if (library := _library()) is not None:
        found[STDLIB] = library
    return dict(sorted(found.items()))


def find(name: str) -> Package | None:
    """A package by the name of its distribution or by what it is imported as; only the latter has to list them all."""
    if name == STDLIB:
        return _library()
    try:
        found = _package(importlib.metadata.distribution(name))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return next((package for package in packages().values() if name in package.import_names), None)
    return found or packages().get(normal(name))


def normal(name: str) -> str:
    """The name of a distribution or folder as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def belongs_to(path: str, names: Iterable[str]) -> bool:
    """Whether a component of the path is one of these normalised names: the package, or a copy carried inside another.

    ``numpy/ma/core.py``, ``pip/_vendor/numpy/x.py`` and ``numpy-2.0.dist-info/METADATA`` all belong to ``numpy``.
    """
    parts = path.split("/")
    components = {normal(part.removesuffix(".py")) for part in parts}
    components |= {normal(part.split("-")[0]) for part in parts if part.endswith((".dist-info", ".data"))}
    return not components.isdisjoint(names)


def documents(path: Path, kind: str) -> list[tuple[str, str, str]]:
    """The documents of a file: (kind, qualified name or "", text).

    Raises:
        Broken: it is longer than FILE_BYTES, gone, not UTF-8, or not Python.
    """
    try:
        if path.stat().st_size > FILE_BYTES:
            raise Broken(f"longer than {FILE_BYTES} bytes")
        content = path.read_bytes()
        if kind == "python":
            return docstrings(content)
        text = content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise Broken("its package lists it, but it is not there") from error
    except UnicodeDecodeError as error:
        raise Broken(f"not UTF-8 at byte {error.start}") from error
    except SyntaxError as error:
        raise Broken(f"not Python {PYTHON}: line {error.lineno}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # as CPython's parser says that it gives up
        raise Broken(f"not Python {PYTHON}: {type(error).__name__}") from error
    return [("readme", "", description(text)) if kind == "metadata" else (kind, "", text)]


def docstrings(source: bytes) -> list[tuple[str, str, str]]:
    """The docstrings of a module in the order of the source: (kind, qualified name, cleaned text).

    ``kind`` is ``module`` (its name is empty), ``class`` or ``function``. Names are dotted, ``Class.method``.
    """
    with _undisturbed():
        return _found(ast.parse(source))


def _found(tree: ast.Module) -> list[tuple[str, str, str]]:
    """The docstrings of a tree, which is gone when this returns, before the collector is let loose again."""
    found: list[tuple[str, str, str]] = []
    waiting: list[tuple[ast.AST, str]] = [(tree, "")]
    while waiting:
        node, name = waiting.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{name}.{node.name}" if name else node.name
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            found += [(DOCUMENTED[type(node)], name, text)] if text else []
        below = [each for block in BLOCKS for each in getattr(node, block, ())]
        waiting.extend((each, name) for each in reversed(below) if isinstance(each, HOLDERS))
    return found


def description(metadata: str) -> str:
    """The long description in the text of a METADATA file, usually the README; empty where there is none."""
    headers, _, body = metadata.partition("\n\n")
    if body.strip():
        return body.strip()
    found = re.search(r"^Description: (.*(?:\n[ \t].*)*)", headers, re.MULTILINE)
    return re.sub(r"^ {7}[ |]", "", found[1], flags=re.MULTILINE).strip() if found else ""


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No warnings of somebody else's escapes; no cycle collector, which costs a third and finds nothing in trees."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if enabled:
            gc.enable()


def _package(distribution: importlib.metadata.Distribution) -> Package | None:
    record, name = distribution.read_text("RECORD"), distribution.metadata["Name"]
    if record is None or not name:
        return None
    return Package(normal(name), distribution.version, Path(str(distribution.locate_file(""))), record)


def _library() -> Package | None:
    root = Path(sysconfig.get_path("stdlib"))
    return Package(STDLIB, ".".join(map(str, sys.version_info[:3])), root, None) if root.is_dir() else None


def _kind(path: str) -> str:
    """What a file is to us; empty for what is not read."""
    if path.endswith((".pyc", ".so", ".h", ".hpp", ".json", ".pyi")) or path.startswith(("../", "/")):
        return ""
    if path.endswith(".py"):
        return "python"
    where = PurePosixPath(path)
    info = next((part for part in where.parts[:-1] if part.endswith(".dist-info")), None)
    if info is not None and where.name == "METADATA":
        return "metadata"
    plain = where.suffix in (*TEXT_ENDINGS, "")
    if plain and (LICENCE.match(where.name) or (info is not None and "licenses" in where.parts)):
        return "license"
    return "text" if info is None and (where.suffix in TEXT_ENDINGS or where.name.lower() == "readme") else ""


def _recorded(record: str) -> Iterator[tuple[str, int, str]]:
    for row in csv.reader(record.splitlines()):
        if len(row) == 3:
            yield row[0], int(row[2]) if row[2].isdigit() else -1, row[1]


def _walked(root: Path) -> Iterator[tuple[str, int, str]]:
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in ("site-packages", "dist-packages", "__pycache__")]
        for name in files:
            path = Path(folder) / name
            if path.is_file():
                yield path.relative_to(root).as_posix(), path.stat().st_size, ""
