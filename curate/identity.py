"""What a step is, never where it ran: identities from names, versions, settings and what is read.

A stage's *code version* is its declared ``version``, guarded by a hash of its source and of the project modules that
its module imports. The store remembers which source a version had; the same version with other source stops the plan
(``StaleVersion``), because results computed by the old code would be taken for results of the new. A stage without a
version (a user's) is versioned by that hash alone. Docstrings, comments and layout do not count: the hash is over the
syntax tree.

The modules that only carry the contract (errors, columns, stage, ...) are left out of the hash: they compute nothing.
"""

import ast
import hashlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from curate.errors import BadPlan
from curate.hashing import digest

OURS = {"curate", "scorers"}
CONTRACT = {
    "curate",
    "scorers",
    "curate.errors",
    "curate.columns",
    "curate.stage",
    "curate.artifact",
    "curate.dataset",
    "curate.settings",
    "curate.plan",
}


def plain(value: Any) -> Any:
    """A JSON-able form of settings, expressions and types, the same in every process."""
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        return {"_": type(value).__qualname__} | {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in sorted(value.items(), key=lambda kv: str(kv[0]))}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(v) for v in value)
    if isinstance(value, pl.Expr):
        return value.meta.serialize(format="json")
    if isinstance(value, pa.DataType | Path):
        return str(value)
    if callable(value):
        return stable_name(value)
    return value


def stable_name(fn: Callable[..., Any]) -> str:
    """``module:qualname``; a lambda or an inner function has no name that another process could find."""
    module, name = getattr(fn, "__module__", ""), getattr(fn, "__qualname__", "")
    if "<" in name or not name:
        raise BadPlan(
            f"{name or fn!r} has no stable name", where=module, fix="define it with `def` at the top level of a module"
        )
    return f"{module}:{name}"


def source_hash(fn: Callable[..., Any]) -> str:
    """16 hex characters for the code that ``fn`` runs: its module and the project modules that this imports."""
    stable_name(fn)
    module = inspect.getmodule(fn)
    if module is None or not getattr(module, "__file__", None):
        raise BadPlan(
            f"the source of {fn.__qualname__} cannot be found",
            where=fn.__module__,
            fix="define stages in a .py file, not at a prompt",
        )
    return _closure(str(module.__file__), fn.__module__)


@cache
def _closure(path: str, module: str) -> str:
    seen: dict[str, str] = {}
    todo = [(module, path)]
    beside = Path(path).parent
    while todo:
        name, file = todo.pop()
        if name in seen or (name in CONTRACT and name != module):
            continue
        seen[name], imported = _parsed(file, name, beside)
        todo += [(child, where) for child in imported if (where := _file_of(child, beside))]
    own = seen.pop(module)
    return digest([own, sorted(seen.items())])


@cache
def _parsed(file: str, name: str, beside: Path) -> tuple[str, tuple[str, ...]]:
    """A file's hash, and the modules that it imports: this project's, and those that lie ``beside`` a user's."""
    found, mentioned = _read(Path(file).read_bytes())
    own = {n for n in mentioned if n != name and (n.split(".")[0] in OURS or _lies(beside, n.split(".")[0]))}
    return found, tuple(sorted(own))


def _read(source: bytes) -> tuple[str, list[str]]:
    """The hash of a source's bare tree and the modules that it mentions; parsed once a machine, for it takes time."""
    known = hashlib.sha256(source + sys.version.encode()).hexdigest()[:32]  # what a tree looks like follows Python
    cache = Path(os.environ["NUMBA_CACHE_DIR"]) / "sources" / f"{known}.json"
    try:
        found, mentioned = json.loads(cache.read_text())
    except (OSError, ValueError):  # not there yet, or written half
        tree = ast.parse(source)
        mentioned = sorted(_imports(tree))
        found = hashlib.sha256(ast.dump(_bare(tree)).encode()).hexdigest()[:16]
        with suppress(OSError):  # a cache that cannot be written only costs time
            cache.parent.mkdir(exist_ok=True)
            cache.write_text(json.dumps([found, mentioned]))
    return str(found), list(mentioned)


def _bare(tree: ast.AST) -> ast.AST:
    """The tree without docstrings."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(
            body, list
        ):
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                if isinstance(body[0].value.value, str):
                    node.body = body[1:] or [ast.Pass()]
    return tree


def _imports(tree: ast.AST) -> set[str]:
    """Modules that a module imports, inside functions too, and the names in them that may be modules."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _lies(beside: Path, top: str) -> bool:
    return (beside / f"{top}.py").is_file() or (beside / top / "__init__.py").is_file()


@cache
def _file_of(module: str, beside: Path) -> str | None:
    """Where a module lies, found without importing anything; None for a name in a module, as ``stage.Rule`` is."""
    top, *rest = module.split(".")
    found = importlib.util.find_spec(top) if top in OURS else None
    root = Path(str(found.origin)).parent if found else beside / top
    path = root.joinpath(*rest)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return str(candidate)
    return None


def code_version(fn: Callable[..., Any], declared: str | None) -> str:
    """What stands for a function's code in an identity."""
    return f"v{declared}" if declared is not None else f"source-{source_hash(fn)}"
