"""datatrove's steps as stages against datatrove itself, and stages of ours in datatrove's executor."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

pytest.importorskip("datatrove")

from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import (
    C4ParagraphFilter,
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LambdaFilter,
    RegexFilter,
    SamplerFilter,
    URLFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters import PIIFormatter, SymbolLinesFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

from curate import contamination, exact, quality, sources
from curate.bridges import datatrove, settings
from curate.columns import BOOL, INT64, ROW, TEXT
from curate.engines.local import Local
from curate.errors import BadData, BadInput, BadPlan, MissingExtra
from curate.identity import plain
from curate.plan import check, plan, read, write
from curate.run import run
from curate.select import uniform
from curate.stage import Grain, Rule, stage
from curate.store import Store

LINE = "The people of the town have to be with that river and the bridge over it"
TEXTS = [
    f"{LINE}. " * 12,
    "short",
    "",
    "\n".join(f"{LINE}, number {i}." for i in range(6)) + "\nno end of a sentence here\ntwo words",
    "# # # # #\n" * 20,
    "lorem ipsum dolor sit amet and so on to the end of it all.",
    "• one thing\n• another thing\n" * 30,
    f"{LINE} again and again and again and again. " * 9,
    "\n".join([f"{LINE}, it says here. " * 3] * 3),
]


def table(texts=TEXTS, **columns):
    return pa.table({
        "id": pa.array([f"d{i}" for i in range(len(texts))], TEXT), "text": pa.array(texts, TEXT),
        **{name: pa.array(values) for name, values in columns.items()},
    })  # fmt: skip


def ask(step, texts=TEXTS, arguments=None, **more):
    """The rows that the stage of a step writes, and its settings."""
    apply, config = datatrove.as_stage(step, arguments, **more)
    columns = {n: [f"{n}-{i}" for i in range(len(texts))] for n in more.get("metadata", {})}
    return apply(table(texts, **columns), config, datatrove.open_step(config)).to_pylist(), config


def long_enough(doc: Document) -> bool:
    return len(doc.text) > 100


class Marks(BaseFilter):
    """Adds to the metadata, reads it, and cannot do without a text."""

    name = "marks"

    def __init__(self, least: int = 3, exclusion_writer=None):
        super().__init__(exclusion_writer)
        self.least = least

    def filter(self, doc: Document):
        doc.metadata["per_letter"] = np.float64(doc.text.count("e") / len(doc.text))
        doc.metadata["address"] = f"{doc.metadata['url']}#{doc.id}"
        return (True, "fine") if len(doc.text) >= self.least else (False, "too_short")


class Odd(PipelineStep):
    """Neither a filter nor a formatter."""

    def run(self, data, rank=0, world_size=1):
        yield from data


# ── filters as stages ────────────────────────────────────────────────────────────────────────────────────────────────

FILTERS = [
    GopherQualityFilter(min_doc_words=5), GopherRepetitionFilter(), FineWebQualityFilter(), C4ParagraphFilter(),
    LambdaFilter(long_enough),
]  # fmt: skip


@pytest.mark.parametrize("step", FILTERS, ids=lambda step: type(step).__name__)
def test_a_filter_decides_as_it_does_in_datatrove(step):
    got, config = ask(step)
    name = config.name
    for text, row in zip(TEXTS, got, strict=True):
        result = step.filter(Document(text=text, id="x"))
        keep, reason = result if isinstance(result, tuple) else (result, None)
        assert (row[f"{name}_keep"], row[f"{name}_reason"]) == (keep, reason)
        assert row[f"{name}_error"] is row[f"{name}_metadata"] is None
    assert len({row[f"{name}_keep"] for row in got}) == 2, "the texts try both answers"


def test_a_filter_that_edits_says_so_before_its_edit_is_lost():
    with pytest.raises(BadData, match="changed a text"):
        ask(C4QualityFilter())
    got, config = ask(C4QualityFilter(), edits=True)
    kept = [i for i, row in enumerate(got) if row["c4_quality_filter_keep"]]
    rows = datatrove.edited(table(), config, datatrove.open_step(config)).to_pylist()
    assert [row[ROW] for row in rows] == kept == [0, 3, 7, 8]
    for row in rows:
        document = Document(text=TEXTS[row[ROW]], id="x")
        assert C4QualityFilter().filter(document) is True
        assert row["text"] == document.text
    assert rows[1]["text"] == "\n".join(TEXTS[3].split("\n")[:6])
    assert got[5]["c4_quality_filter_reason"] == "lorem_ipsum"


def test_metadata_goes_in_and_comes_out():
    more = {"metadata": {"url": "text"}, "adds": {"per_letter": "float", "language": "text"}}
    got, _ = ask(Marks(), ["eee", "ab"], **more)
    assert got == [
        {"marks_keep": True, "marks_reason": None, "marks_metadata": '{"address": "url-0#d0", "per_letter": 1.0}',
         "marks_error": None, "marks_per_letter": 1.0, "marks_language": None},
        {"marks_keep": False, "marks_reason": "too_short",
         "marks_metadata": '{"address": "url-1#d1", "per_letter": 0.0}', "marks_error": None, "marks_per_letter": 0.0,
         "marks_language": None},
    ]  # fmt: skip
    with pytest.raises(BadData, match="no int"):
        ask(Marks(), ["eee", "eeb"], metadata={"url": "text"}, adds={"per_letter": "int"})


def test_an_error_names_the_document_or_marks_it():
    with pytest.raises(BadData, match=r"document 'd0': KeyError: 'url'"):
        ask(Marks(), ["eee"])
    with pytest.raises(BadData, match=r"document 'd1': ZeroDivisionError"):
        ask(Marks(), ["eee", ""], metadata={"url": "text"})
    got, config = ask(Marks(), ["eee", ""], metadata={"url": "text"}, errors="mark")
    assert [row["marks_keep"] for row in got] == [True, None]
    assert got[1]["marks_error"] == "ZeroDivisionError: division by zero"
    made = datatrove.edited(table(["eee", ""], url=["x", "y"]), config, datatrove.open_step(config)).to_pylist()
    assert [(row[ROW], row["quarantined"]) for row in made] == [(0, None), (1, "ZeroDivisionError: division by zero")]


def test_rules_tell_reasons_apart():
    got, config = ask(GopherQualityFilter(min_doc_words=5))
    rules = datatrove.rules(config, "gopher_short_doc", "gopher_bullet_ratio")
    why = []
    for row in got:
        frame = pl.DataFrame([row], schema_overrides={"gopher_quality_filter_reason": pl.String})
        held = [frame.select(rule.keep).item() for rule in rules]
        why.append(next((rule.because for rule, ok in zip(rules, held, strict=True) if not ok), None))
    short = "gopher_quality_filter:gopher_short_doc"
    assert why[:3] == [None, short, short]
    assert "gopher_quality_filter" in why, "reasons that are not named"


# ── formatters as stages ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_formatter_edits():
    got, _ = ask(SymbolLinesFormatter(), ["a\n***\nb", "c"])
    assert got == [{ROW: 0, "text": "a\nb", "quarantined": None}, {ROW: 1, "text": "c", "quarantined": None}]


def test_what_a_step_counts_is_put_back():
    """PIIFormatter takes its two replacements in turn; here every document is the first."""
    texts = ["me@x.org", "you@x.org and we@x.org"] * 2
    step = PIIFormatter()
    assert [step.format(t) for t in texts[:2]] != [PIIFormatter().format(t) for t in texts[:2]]
    got, config = ask(PIIFormatter(), texts)
    assert [row["text"] for row in got] == [PIIFormatter().format(t) for t in texts]
    opened = datatrove.open_step(config)
    parts = [datatrove.edited(table(texts[a:b]), config, opened)["text"].to_pylist() for a, b in ((0, 1), (1, 4))]
    assert parts[0] + parts[1] == [row["text"] for row in got]


def test_random_numbers_are_refused():
    with pytest.raises(BadData, match="random numbers"):
        ask(SamplerFilter, arguments={"rate": 0.5, "seed": 1})


# ── identity ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_settings_are_values():
    """Only what differs from the class's own defaults is an argument; another argument is another identity."""
    _, config = datatrove.as_stage(GopherQualityFilter(min_doc_words=5, stop_words=["a", "b"]))
    assert config.of == "datatrove.pipeline.filters.gopher_quality_filter:GopherQualityFilter"
    assert config.arguments == {"min_doc_words": 5, "stop_words": {"is": "set", "of": ["a", "b"]}}
    assert pickle.loads(pickle.dumps(config)) == config
    assert json.loads(json.dumps(plain(config))) == plain(config)
    _, same = datatrove.as_stage(GopherQualityFilter, {"min_doc_words": 5, "stop_words": {"b", "a"}})
    assert plain(same) == plain(config)
    _, other = datatrove.as_stage(GopherQualityFilter(min_doc_words=6, stop_words=["a", "b"]))
    assert plain(other) != plain(config)


def test_settings_are_the_same_in_every_process():
    code = (
        "import json; from datatrove.pipeline.filters import *; from curate.bridges import datatrove;"
        "from curate.identity import plain;"
        "steps = (FineWebQualityFilter(), GopherQualityFilter(), C4QualityFilter(language='de'));"
        "print(json.dumps([plain(datatrove.as_stage(s)[1]) for s in steps]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert [x["arguments"] for x in json.loads(said.pop())] == [{}, {}, {"language": "de"}]


def test_a_function_is_an_argument_with_its_source():
    _, config = datatrove.as_stage(LambdaFilter(long_enough))
    function = config.arguments["filter_function"]
    assert function == {"is": "name", "of": f"{__name__}:long_enough", "source": settings.source(long_enough)}
    changed = replace(config, arguments={"filter_function": {**function, "source": "0" * 16}})
    with pytest.raises(BadInput, match="is not the one"):
        datatrove.open_step(changed)
    with pytest.raises(BadInput, match="plan was made with datatrove 0"):
        datatrove.open_step(replace(config, version="datatrove 0"))
    with pytest.raises(BadInput, match="is not there"):
        datatrove.open_step(replace(config, of="datatrove:Nothing"))


@pytest.mark.parametrize(("step", "message"), [
    (LambdaFilter(lambda doc: True), "cannot be found by name"),
    (PIIFormatter(email_replacement="x"), "cannot be read from its attributes"),
    (RegexFilter("x"), "cannot be read from its attributes"),
    (SamplerFilter(0.5, seed=1), "cannot be read from its attributes"),
    (Odd(), "neither a filter nor a formatter"),
    (LambdaFilter(long_enough, exclusion_writer="a writer"), "exclusion_writer"),
], ids=lambda x: x if isinstance(x, str) else type(x).__name__)  # fmt: skip
def test_what_has_no_stable_identity_is_refused(step, message):
    with pytest.raises(BadPlan, match=message):
        datatrove.as_stage(step)


def test_wrong_settings_are_refused():
    with pytest.raises(BadPlan, match="takes no arguments"):
        datatrove.as_stage(Marks(), {"least": 3})
    with pytest.raises(BadInput, match="cannot be made"):
        datatrove.as_stage(Marks, {"most": 3})
    with pytest.raises(BadPlan, match="'bytes'"):
        datatrove.as_stage(Marks(), metadata={"url": "bytes"})
    with pytest.raises(BadPlan, match="has no stable form"):
        datatrove.as_stage(LambdaFilter, {"filter_function": object()})
    got, config = ask(RegexFilter, arguments={"regex_exp": "lorem"})
    assert [i for i, row in enumerate(got) if not row["regex_filter_keep"]] == [5]


def test_a_filter_whose_packages_are_missing():
    if find_spec("ahocorasick") and find_spec("tldextract"):
        pytest.skip("URLFilter's packages are installed")
    with pytest.raises(MissingExtra, match="pip install pyahocorasick"):
        datatrove.as_stage(URLFilter, {"use_integrated_lists": False})


VALUES = [None, True, 3, 0.5, "x", [1, (2, "y")], {"a": {1, 2}, "is": "set"}, Path("a/b"), long_enough, Marks]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back(value):
    form = json.loads(json.dumps(settings.encoded(value, "x")))
    assert settings.decoded(form) == value


# ── in a plan ────────────────────────────────────────────────────────────────────────────────────────────────────────


def corpus(folder: Path) -> str:
    rows = [{"id": f"d{i}", "text": text, "url": f"http://a.org/{i}"} for i, text in enumerate(TEXTS)]
    (folder / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "docs.jsonl")


def test_filters_and_formatters_in_a_run(tmp_path):
    """Dropped with reasons, edited, and the same decisions as datatrove's own executor."""
    c4, config = datatrove.as_stage(C4QualityFilter(min_num_sentences=1), name="c4", edits=True)
    docs = read(sources.jsonl(corpus(tmp_path), columns={"url": TEXT}))
    docs = docs.then(*datatrove.as_stage(Marks(), name="m", metadata={"url": "text"}, errors="mark"))
    docs = docs.then(c4, config).keep(datatrove.rules(config, "lorem_ipsum")).then(datatrove.edited, config)
    docs = docs.then(*datatrove.as_stage(PIIFormatter()))
    written = plan(write({"all": docs.select(uniform(label="all"), rows=99)}))
    assert check(written)
    outcome = run(written, name="test", store=Store(str(tmp_path / "store")), open_engine=Local)
    dropped = {b: n for step in outcome.manifest["steps"] for b, n in step.get("dropped", {}).items()}
    made = pl.read_parquet(tmp_path / "store" / outcome.folder / "mixes" / "all" / "**" / "*.parquet")["text"].to_list()

    executed = LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(tmp_path), glob_pattern="docs.jsonl"),
            C4QualityFilter(min_num_sentences=1),
            PIIFormatter(),
            JsonlWriter(str(tmp_path / "theirs"), compression=None),
        ],
        logging_dir=str(tmp_path / "log"), skip_completed=False,
    )  # fmt: skip
    executed.run()
    [lines] = (tmp_path / "theirs").glob("*.jsonl")
    theirs = {row["id"]: row["text"] for row in map(json.loads, lines.read_text().splitlines())}
    assert sorted(made) == sorted(theirs.values())
    assert dropped == {"c4:lorem_ipsum": 1, "c4": len(TEXTS) - len(theirs) - 1}


# ── stages of ours as steps ──────────────────────────────────────────────────────────────────────────────────────────


@stage(reads={"text": TEXT}, writes={"text": TEXT}, grain=Grain.MANY)
def lines(docs: pa.Table) -> pa.Table:
    """One row a line; a text that begins with # cannot be read; an empty one has no line."""
    rows = [(i, line) for i, text in enumerate(docs["text"].to_pylist()) for line in text.split("\n") if line]
    bad = ["a comment" if docs["text"][i].as_py().startswith("#") else None for i, _ in rows]
    return pa.table({ROW: pa.array([i for i, _ in rows], INT64), "text": pa.array([t for _, t in rows], TEXT),
                     "quarantined": pa.array(bad, TEXT)})  # fmt: skip


@stage(reads={"url": TEXT, "text_bytes": INT64, "source": TEXT}, writes={"secure": BOOL}, grain=Grain.EACH)
def secure(docs: pa.Table) -> pa.Table:
    """Whether the address is, and the text is not empty."""
    pairs = zip(docs["url"].to_pylist(), docs["text_bytes"].to_pylist(), strict=True)
    return pa.table({"secure": pa.array([None if u is None else u[:5] == "https" and n > 0 for u, n in pairs], BOOL)})


def documents(texts=TEXTS, **metadata):
    return [
        Document(text=t, id=f"d{i}", metadata={k: v[i] for k, v in metadata.items()}) for i, t in enumerate(texts)
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_a_stage_with_rules_as_a_step(batch):
    rules = [Rule(pl.col("words") >= 20, because="short"), Rule(pl.col("quality_ok"), because="by_metadata")]
    step = datatrove.as_step(quality.measure, None, rules, batch=batch)
    given = documents(quality_ok=[True] * 7 + [None] * 2)
    kept = list(pickle.loads(pickle.dumps(step)).run(iter(given)))
    counts = [len(text.split()) for text in TEXTS]
    assert [d.id for d in kept] == [f"d{i}" for i, n in enumerate(counts) if n >= 20 and i < 7]
    assert [d.metadata["words"] for d in kept] == [counts[int(d.id[1:])] for d in kept]
    assert [d.text for d in kept] == [TEXTS[int(d.id[1:])] for d in kept]


def test_statistics_are_counted_by_reason():
    step = datatrove.as_step(secure, rules=[Rule(pl.col("secure"), because="not_secure")], write=False)
    kept = list(step.run(iter(documents(["a", "", "c", "d"], url=["https://x", "https://x", "http://x", None]))))
    assert [(d.id, d.metadata) for d in kept] == [("d0", {"url": "https://x"})]
    stats = step.stats.to_dict()["stats"]
    count = {name: value if isinstance(value, int) else value["total"] for name, value in stats.items()}
    assert {n: count[n] for n in ("total", "dropped", "dropped_not_secure", "forwarded")} == {
        "total": 4, "dropped": 3, "dropped_not_secure": 3, "forwarded": 1,
    }  # fmt: skip


def test_a_stage_that_replaces_rows_as_a_step():
    step = datatrove.as_step(lines, rules=[Rule(pl.col("text").str.len_bytes() > 1, because="letter")], batch=2)
    given = documents(["one\ntwo", "#\nx", "", "a\nlast"], kind=["k"] * 4)
    made = list(step.run(iter(given)))
    assert [(d.id, d.text, d.metadata) for d in made] == [
        ("d0#0", "one", {"kind": "k"}), ("d0#1", "two", {"kind": "k"}), ("d3#1", "last", {"kind": "k"}),
    ]  # fmt: skip
    names = {name for name in step.stats.to_dict()["stats"] if name.startswith("dropped_")}
    assert names == {"dropped_quarantined", "dropped_no_rows_left", "dropped_letter"}


def test_a_stage_with_a_model_as_a_step(tmp_path):
    rows = pa.table({"id": ["i"], "source": ["t"], "text": [LINE]}).cast(
        pa.schema(dict.fromkeys(("id", "source", "text"), TEXT))
    )
    contamination.index(rows, contamination.Contamination(), tmp_path)
    clean = Rule(pl.col("contaminated_items") == 0, because="contaminated")
    step = datatrove.as_step(contamination.overlap, rules=[clean], against=str(tmp_path))
    step = pickle.loads(pickle.dumps(step))
    assert [d.id for d in step.run(iter(documents()))] == ["d1", "d2", "d4", "d5", "d6"]


def test_what_needs_all_rows_is_no_step():
    with pytest.raises(BadPlan, match="many documents at once"):
        datatrove.as_step(exact.duplicates)
    with pytest.raises(BadPlan, match="batches of 0"):
        datatrove.as_step(lines, batch=0)
    step = datatrove.as_step(secure)
    with pytest.raises(BadData, match="metadata 'url'"):
        list(step.run(iter(documents(["a"], url=[3]))))


def test_a_step_in_an_executor(tmp_path):
    """Two tasks, dropped documents written with their reason, statistics merged."""
    for half in (0, 1):
        rows = [{"id": f"d{i}", "text": TEXTS[i]} for i in range(half, len(TEXTS), 2)]
        (tmp_path / f"{half}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rules = [Rule(pl.col("words") >= 20, because="short")]
    out = JsonlWriter(str(tmp_path / "dropped"), compression=None)
    executor = LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(tmp_path), glob_pattern="*.jsonl"),
            datatrove.as_step(quality.measure, rules=rules, batch=3, exclusion_writer=out),
            JsonlWriter(str(tmp_path / "kept"), compression=None),
        ],
        tasks=2, logging_dir=str(tmp_path / "log"), skip_completed=False,
    )  # fmt: skip
    stats = executor.run()

    def rows_in(folder):
        found = [json.loads(x) for f in sorted((tmp_path / folder).glob("*.jsonl")) for x in f.read_text().splitlines()]
        return {row["id"]: row["metadata"] for row in found}

    short = {f"d{i}" for i, text in enumerate(TEXTS) if 0 < len(text.split()) < 20}    # the reader skips empty ones
    assert set(rows_in("dropped")) == short
    assert {m["filter_reason"] for m in rows_in("dropped").values()} == {"short"}
    assert set(rows_in("kept")) == {f"d{i}" for i, text in enumerate(TEXTS) if text} - short
    assert all(m["words"] >= 20 for m in rows_in("kept").values())
    mine = next(s for s in stats.stats if "curate" in s.name)
    assert mine.stats["dropped_short"].total == len(short)
