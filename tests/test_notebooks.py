"""Notebooks are tests with prose: they store no output, run from start to end, and end in an assert."""

import json
import os
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")  # or importing Jupyter warns, and a warning is an error here

import nbformat
from nbclient import NotebookClient
from toys import Count, letters

import curate
from curate import select, sources
from curate.columns import FLOAT32, TEXT
from curate.engines.local import Local
from curate.plan import plan, read, write
from curate.run import run
from curate.stage import Direction, Grain, Score, stage
from curate.store import Store

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@stage(
    reads={"text": TEXT},
    writes={"vowels": Score(FLOAT32, Direction.HIGH, "share", "mean")},
    grain=Grain.EACH,
    version="1",
)
def vowels(docs: pa.Table) -> pa.Table:
    """The share of vowels in a text; no score for an empty one."""
    size = pc.utf8_length(docs["text"]).cast(FLOAT32)
    count = pc.count_substring_regex(docs["text"], "[aeiou]").cast(FLOAT32)
    return pa.table({"vowels": pc.if_else(pc.greater(size, 0), pc.divide(count, size), None).cast(FLOAT32)})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store with one complete run: something quarantined, something dropped, a score, a mix."""
    home = tmp_path_factory.mktemp("notebooks")
    words = "apple banana cherry date elderberry fig grape".split()
    texts = [" ".join(words[(i * k) % 7] for k in range(1 + i % 5)) for i in range(40)] + [""]
    lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(texts)]
    (home / "fruit.jsonl").write_text("\n".join([*lines, "not JSON"]), encoding="utf-8")
    docs = read(sources.jsonl(str(home / "fruit.jsonl"))).then(vowels).then(letters, Count(letter="b"))
    docs = docs.keep(pl.col("letters") > 0, because="without_b")
    mix = docs.select(select.top("vowels"), rows=5)
    run(plan(write({"vowels": mix})), name="fruit", store=Store(str(home / "store")), open_engine=Local)
    return home / "store"


@every_notebook
def test_a_notebook_stores_no_output_and_ends_in_an_assert(path):
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "clear all outputs before saving"
    assert book.cells[-1].cell_type == "code" and "assert " in book.cells[-1].source
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith("# ")


@every_notebook
def test_a_notebook_runs(path, finished, tmp_path, monkeypatch):
    monkeypatch.setenv("CURATE_STORE", str(finished))
    monkeypatch.setenv("CURATE_RUN", "fruit")
    monkeypatch.setenv("PYTHONPATH", str(Path(curate.__file__).parent.parent))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert "runs/fruit-" in "".join(output.get("text", "") for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
