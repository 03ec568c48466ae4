"""The architecture is a test: imports only point down, none is hidden in a function, every module tells its story."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    {
        "curate", "scorers", "curate.errors", "curate.columns", "curate.characters", "curate.english", "curate.text",
        "curate.sentences", "curate.folding", "curate.hashing", "curate.xxh3", "curate.kernels",
    },
    {"curate.stage"},
    {
        "curate.artifact", "curate.dataset", "curate.declared", "curate.settings", "curate.order", "curate.keeper",
        "curate.train",
    },
    {"DOMAIN", "MACHINE"},
    {
        "curate.run", "curate.testing", "curate.report", "curate.card", "curate.explain", "curate.comparison",
        "curate.standing",
    },
    {"curate.command"},
    {"curate.trying"},
    {"curate.commands"},
    {"curate.cli"},
]
# The machine's modules, lowest first: each may import those before it.
MACHINE = [
    "curate.identity",
    "curate.store",
    "curate.held",
    "curate.parts",
    "curate.engines",
    "curate.engines.local",
    "curate.engines.dask",
    "curate.plan",
    "curate.passes",
    "curate.ingest",
    "curate.buckets",
    "curate.exchange",
    "curate.learn",
    "curate.mixes",
    "curate.evaluate",
    "curate.outputs",
]
# A room is a sub-package that only its owners enter; inside it, modules may use each other.
ROOMS = {
    "curate.editing": {"curate.edits", "curate.refinedweb"},
    "curate.measuring": {"curate.quality"},
    "curate.reading": {"curate.sources"},
    "curate.near": {"curate.minhash"},
    "curate.extracting": {"curate.pages"},
    "curate.bridges": set(),
    "curate.matching": {"curate.contamination"},
    "curate.finding": {"curate.pii"},
    "curate.trials": {"curate.trial"},
    "curate.telling": {"curate.report", "curate.card", "curate.explain", "curate.command"},
}
MODULES = sorted(p for folder in ("curate", "scorers") for p in (ROOT / folder).rglob("*.py"))


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(p) for p in MODULES}


def layer(name):
    for i, names in enumerate(LAYERS):
        if (
            name in names
            or (name.startswith("curate.telling") and "curate.report" in names)
            or (name.startswith("curate.train") and "curate.train" in names)
        ):
            return i
    return next(i for i, names in enumerate(LAYERS) if "DOMAIN" in names)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [f if f in NAMES else node.module for f in full]
        else:
            continue
        for name in found:
            if name.split(".")[0] in {"curate", "scorers"}:
                yield name, node.lineno


def allowed(module, imported):
    if imported in {"curate", "scorers"}:
        return True
    if module.startswith("curate.train"):
        return imported.startswith("curate.train")
    if module in MACHINE and imported in MACHINE:
        return MACHINE.index(imported) < MACHINE.index(module)
    room = next((r for r in ROOMS if imported.startswith(r)), None)
    if room is not None:
        return module.startswith(room) or module in ROOMS[room]
    if module.startswith("scorers.") and imported.startswith("scorers."):
        return True
    same = layer(module) == layer(imported)
    low = same and layer(module) in (0, 2, 4)  # small rooms, whose cycles the second test finds
    return layer(imported) < layer(module) or low


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_go_down(path):
    module = name_of(path)
    bad = [
        f"{path.name}:{line} imports {imported}" for imported, line in imports(path) if not allowed(module, imported)
    ]
    assert not bad


def test_there_is_no_cycle():
    edges = {name_of(p): {i for i, _ in imports(p) if i in NAMES and i != name_of(p)} for p in MODULES}
    edges = {m: {i for i in found if not m.startswith(f"{i}.")} for m, found in edges.items()}  # a package's own room
    while edges:
        free = {m for m, found in edges.items() if not found & set(edges)}
        assert free, f"a cycle among {sorted(edges)}"
        edges = {m: found for m, found in edges.items() if m not in free}


@pytest.mark.parametrize("path", [p for p in MODULES if p.read_text(encoding="utf-8").strip()], ids=name_of)
def test_a_module_opens_with_its_story(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_core_does_not_import_heavy_packages(tmp_path):
    import subprocess
    import sys

    code = """
import sys
for heavy in ("torch", "transformers", "tokenizers", "spacy", "datatrove", "vllm"):
    sys.modules[heavy] = None
import curate.cli, curate.command, curate.run, curate.sources, curate.quality, curate.minhash, curate.exact
import curate.select, curate.tokens, curate.contamination, curate.trial, scorers.lm, scorers.loss_ratio
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_imports_nothing_heavy():
    import subprocess
    import sys

    heavy = "('numpy', 'pyarrow', 'polars', 'dask', 'numba')"
    code = f"import sys, curate.cli; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"
