"""Extraction: what the libraries make of a page by themselves; and what a page does reaches no further than it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import trafilatura
from hypothesis import given, settings
from hypothesis import strategies as st
from resiliparse.extract.html2text import extract_plain_text
from trafilatura.deduplication import LRUCache

from curate import pages
from curate.columns import TEXT
from curate.engines.local import Local
from curate.errors import BadInput, PartFailed, UnknownSetting
from curate.extracting import child
from curate.extracting.sandbox import BATCH_PAGES, Sandbox, batches
from curate.pages import Extract
from curate.plan import plan, read, write
from curate.run import run
from curate.select import uniform
from curate.sources import jsonl
from curate.store import Store

ARTICLE = "<p>" + "The quick brown fox jumps over the lazy dog, as foxes do in every paragraph. " * 5 + "</p>"
PAGE = f"""<!DOCTYPE html><html><head><title>Foxes</title><script>var a = "<div>" < 3;</script></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/about">About us</a></li></ul></nav>
<article><h1>On foxes</h1>{ARTICLE}{ARTICLE.replace("fox", "cat")}
<table><tr><td>age</td><td>seven</td></tr></table></article>
<div id="comments"><div class="comment">Nice, thank you.</div></div>
<footer>Imprint and terms of use</footer></body></html>"""


def docs(*texts):
    return pa.table({"id": pa.array([str(i) for i in range(len(texts))], TEXT), "text": pa.array(texts, TEXT)})


def extracted(table, config):
    """(texts by row, reasons by row)."""
    sandbox = pages.open_sandbox(config)
    found = pages.extract(table, config, sandbox).to_pylist()
    sandbox.close()
    assert all((row["text"] is None) == (row["quarantined"] is not None) for row in found)
    texts = {row["row"]: row["text"] for row in found if row["quarantined"] is None}
    return texts, {row["row"]: row["quarantined"] for row in found if row["quarantined"] is not None}


@pytest.fixture
def hostile(monkeypatch):
    """A sandbox whose extractor does what pages ask for."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    sandbox = Sandbox("hostile_extractor:make", {"letters": 20}, cpu_seconds=0.5, memory_bytes=1 << 30)
    yield sandbox
    sandbox.close()


def answers(sandbox, texts):
    array = pa.array(texts, TEXT)
    offsets = np.frombuffer(array.buffers()[1], np.int64, len(array) + 1)
    found = sandbox.extract(memoryview(array.buffers()[2] or b""), offsets[:-1], offsets[1:])
    ends = found.offsets.tolist()
    return [(int(state), found.data[a:b].decode()) for state, a, b in zip(found.states, ends, ends[1:], strict=False)]


# What the libraries say.


@pytest.mark.parametrize("config", [
    Extract(), Extract(main_content=False), Extract(links=True, list_bullets=False), Extract(comments=False),
], ids=repr)  # fmt: skip
def test_resiliparse_by_itself(config):
    texts, _ = extracted(docs(PAGE, ARTICLE), config)
    options = {name: getattr(config, name) for name in ("main_content", "links", "list_bullets", "comments")}
    assert texts == {0: extract_plain_text(PAGE, **options), 1: extract_plain_text(ARTICLE, **options)}
    assert "quick brown fox" in texts[0]


@pytest.mark.parametrize(("config", "options"), [
    (Extract(extractor="trafilatura"), {}),
    (Extract(extractor="trafilatura", favor="precision", comments=False),
     {"favor_precision": True, "include_comments": False}),
    (Extract(extractor="trafilatura", fast=True, tables=False, links=True, formatting=True),
     {"fast": True, "include_tables": False, "include_links": True, "include_formatting": True}),
], ids=["default", "precision", "others"])  # fmt: skip
def test_trafilatura_by_itself(config, options):
    texts, _ = extracted(docs(PAGE, ARTICLE), config)
    expected = {i: trafilatura.extract(page, **options) for i, page in enumerate([PAGE, ARTICLE])}
    assert texts == {i: text for i, text in expected.items() if text}
    assert "quick brown fox" in texts[0]


def test_repeats_are_dropped_within_a_page_and_never_across():
    again = PAGE.replace(ARTICLE, ARTICLE * 8)
    config = Extract(extractor="trafilatura", deduplicate=True)
    texts, _ = extracted(docs(again, again, again, again), config)
    assert set(texts.values()) == {trafilatura.extract(again, deduplicate=LRUCache(maxsize=4096))}
    assert len(texts) == 4


def test_a_page_without_text_gives_no_row():
    texts, reasons = extracted(docs("", None, "<nav>menu</nav>", "<p>words</p>", "\0"), Extract())
    assert 3 in texts and 0 not in texts and 1 not in texts
    assert reasons == {}


# Limits that are a look at the bytes.


def test_limits_on_the_input():
    config = Extract(page_bytes=1000, depth=50)
    texts, reasons = extracted(docs(
        "<p>" + "a" * 997, "<p>" + "a" * 998, "<div>" * 50 + "deep", "<div>" * 51 + "deeper", "<p>fine</p>",
    ), config)  # fmt: skip
    assert reasons == {1: "a page of more than 1000 bytes", 3: "a page nested deeper than 50 elements"}
    assert {*texts} == {0, 2, 4}


def test_answers_stand_in_the_order_of_the_pages():
    config = Extract(page_bytes=10)
    sandbox = pages.open_sandbox(config)
    table = pages.extract(docs("<p>" + "a" * 8, "<p>one", None, "<p>" + "b" * 9, "<p>two"), config, sandbox)
    sandbox.close()
    assert table["row"].to_pylist() == [0, 1, 3, 4]
    assert table["text"].to_pylist() == [None, "one", None, "two"]


@pytest.mark.parametrize(("page", "depth"), [
    ("", 0), ("text", 0), ("<", 0), ("<<<<", 0), ("</", 0), ("<div", 1), ("<div>", 1), ("<div><div></div><div>", 2),
    ("<div></div><div></div>", 1), ("<p><p><p><br><img><li>", 0), ("<svg><path d='x'/><path/></svg>", 1),
    ("<script>'<div><div><div>'</script><b>", 1), ("<SCRIPT><div><div></sCript ><b>", 1), ("<script><div><div>", 0),
    ("<!-- <div><div> --><i>", 1), ("<!-- <div><div>", 0), ("</div></div><div>", 1), ("<my-element><my-element>", 2),
    ("<h1><h2><h3>", 3), ("<a<b<c>", 3), ("<é><div>", 1),
])  # fmt: skip
def test_depth_by_tags(page, depth):
    data = np.frombuffer(b"<div><div>" + page.encode() + b"<div><div></div>", np.uint8)
    starts, ends = np.array([10]), np.array([10 + len(page.encode())])
    assert pages.nesting(data, starts, ends, -1, pages._UNENDED, pages._RAW).tolist() == [depth]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(alphabet="<>/!-divscript 3", max_size=60), max_size=4), st.integers(0, 3))
def test_a_rough_look_never_hides_a_deep_page(texts, limit):
    data = np.frombuffer("".join(texts).encode(), np.uint8)
    ends = np.cumsum([len(text) for text in texts]).astype(np.int64)
    starts = ends - np.array([len(text) for text in texts], np.int64)
    exact = pages.nesting(data, starts, ends, -1, pages._UNENDED, pages._RAW)
    rough = pages.nesting(data, starts, ends, limit, pages._UNENDED, pages._RAW)
    assert ((exact > limit) == (rough > limit)).all()


def test_settings_that_make_no_sense():
    for options in ({"favor": "precision"}, {"extractor": "trafilatura", "main_content": False}, {"cpu_seconds": 0},
                    {"depth": 0}, {"page_bytes": "many"}):
        with pytest.raises(UnknownSetting):
            Extract(**options)


def test_another_version_is_another_result():
    config = Extract()
    assert config.library.startswith("resiliparse ")
    object.__setattr__(config, "library", "resiliparse 0.0.1")
    with pytest.raises(BadInput, match="the plan was made with resiliparse 0"):
        pages.open_sandbox(config)


# What a page does to its process.

OF_ALL_KINDS = {
    "segfault here": "the extractor crashed with SIGSEGV",
    "exit now": "the extractor ended with exit code 7",
    "hang on": "the extractor used more than 0.5 s of processor time",
    "memory": "the extractor needs more than 1073741824 bytes of memory",
    "raise an error": "ValueError: an error",
}


def test_a_page_that_kills_is_lost_alone(hostile):
    good = [f"good page number {i}" for i in range(20)]
    texts = [*good[:5], "segfault here", *good[5:9], "hang on", "exit now", "memory", *good[9:], "raise an error"]
    assert answers(hostile, texts) == [
        (child.FAILED, OF_ALL_KINDS[text]) if text in OF_ALL_KINDS else (child.TEXT, text[:20]) for text in texts
    ]


def test_recursion_is_an_error_of_the_page(hostile):
    [(state, why)] = answers(hostile, ["deep"])
    assert state == child.FAILED
    assert why.startswith(("RecursionError", "the extractor crashed"))


@pytest.mark.parametrize("text", ["only-fresh x", "raise-unless-fresh x"])
def test_what_a_page_does_after_others_is_no_reason(hostile, text):
    """It fails after other pages, for whatever they left behind; alone it does not, and alone is what counts."""
    assert answers(hostile, ["good", text, "good", text, text]) == [
        (child.TEXT, each[:20]) for each in ("good", text, "good", text, text)
    ]


@settings(deadline=None, max_examples=6)
@given(order=st.permutations([*OF_ALL_KINDS, "good page", "only-fresh x", "huge words", "surrogate", ""]),
       cut=st.integers(0, 10))
def test_company_changes_nothing(order, cut):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        sandbox = Sandbox("hostile_extractor:make", {"letters": 20}, cpu_seconds=0.3, memory_bytes=1 << 30)
        found = answers(sandbox, order[:cut]) + answers(sandbox, order[cut:])
        sandbox.close()
    assert [state for state, _ in found] == [
        child.FAILED if text in OF_ALL_KINDS else child.TEXT if text else child.NOTHING for text in order
    ]
    texts = dict(zip(order, (text for _, text in found), strict=True))
    assert (texts["huge words"], texts["surrogate"]) == ("words" * 1_000_000, "?")


def test_a_limit_of_the_real_extractor():
    """20,000 open elements take Resiliparse seconds: quadratic; 20 MB of text need more than 120 MB."""
    slow = "<div>" * 20_000 + "text" + "</div>" * 20_000
    texts, reasons = extracted(docs(PAGE, slow, PAGE), Extract(depth=10**6, cpu_seconds=0.3))
    assert {*texts} == {0, 2}
    assert reasons == {1: "the extractor used more than 0.3 s of processor time"}
    large = "<p>" + "words and words " * 1_250_000
    texts, reasons = extracted(docs(PAGE, large), Extract(page_bytes="100MB", memory="120MB"))
    assert ({*texts}, {*reasons}) == ({0}, {1})


def test_a_busy_machine_does_not_spend_a_pages_time(hostile):
    """The limit is processor time: stopped for longer than the limit, a page still gets through."""
    assert answers(hostile, ["good"])
    stopped = children(hostile)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)

    def later():
        time.sleep(0.5)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)

    threading.Thread(target=later).start()
    assert answers(hostile, ["good"]) == [(child.TEXT, "good")]


def children(sandbox):
    """The first process and its worker."""
    first = sandbox._far._process.pid
    listed = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return [first, *map(int, listed)]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids):
    for _ in range(1200):  # a minute, on a machine that has something else to do
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_no_process_is_left_behind(hostile):
    answers(hostile, ["good", "segfault", "good"])
    pids = children(hostile)
    hostile.close()
    assert gone(pids)
    assert not Path(f"/proc/{pids[0]}").exists(), "a zombie"
    assert answers(hostile, ["good"]) == [(child.TEXT, "good")]  # the next call starts another


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_the_child_dies_with_its_parent():
    code = """
import pyarrow as pa, sys, time
from curate import pages
sandbox = pages.open_sandbox(pages.Extract())
table = pa.table({"id": pa.array(["a"], pa.large_string()), "text": pa.array(["<p>words"], pa.large_string())})
pages.extract(table, pages.Extract(), sandbox)
print(sandbox._far._process.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    first = int(parent.stdout.readline())
    pids = [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]
    assert len(pids) == 2 and all(alive(pid) for pid in pids)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pids)


def test_a_process_that_is_killed_from_outside_is_an_error_and_not_bad_data(hostile):
    answers(hostile, ["good"])
    os.kill(hostile._far._process.pid, signal.SIGKILL)
    try:
        assert answers(hostile, ["good"]) == [(child.TEXT, "good")]  # it was seen to be dead
    except PartFailed:
        assert answers(hostile, ["good"]) == [(child.TEXT, "good")]


def test_an_extractor_that_is_not_there(monkeypatch):
    sandbox = Sandbox("no_such_module:make", {}, cpu_seconds=1, memory_bytes=1 << 30)
    with pytest.raises(PartFailed, match="No module named 'no_such_module'"):
        answers(sandbox, ["page"])


def test_batches():
    assert batches(np.array([], np.int64)) == []
    assert batches(np.array([10**9, 1, 1, 10**9])) == [(0, 1), (1, 3), (3, 4)]
    assert batches(np.ones(BATCH_PAGES + 1, np.int64)) == [(0, BATCH_PAGES), (BATCH_PAGES, BATCH_PAGES + 1)]


# In a run.


def test_rows_are_conserved(tmp_path):
    """Two pages, one without text, one too long: two rows, one dropped, one quarantined."""
    texts = [PAGE, "<nav></nav>", PAGE.replace("fox", "cow"), "<p>" + "long " * 2000]
    lines = [json.dumps({"id": f"page-{i}", "text": text, "url": f"http://h/{i}"}) for i, text in enumerate(texts)]
    (tmp_path / "pages.jsonl").write_text("\n".join(lines))
    source = read(jsonl(str(tmp_path / "pages.jsonl"), columns={"url": TEXT}))
    found = source.then(pages.extract, Extract(page_bytes=8000))
    store = Store(str(tmp_path / "store"))
    outcome = run(plan(write({"all": found.select(uniform(label="all"), rows=10)}, columns=["url"])), name="pages",
                  store=store, open_engine=Local)  # fmt: skip
    [step] = [step for step in outcome.manifest["steps"] if "pages.extract" in step["label"]]
    assert (step["rows"], step["rows_out"], step["quarantined"], step["dropped"]) == (4, 2, 1, {"no_rows_left": 1})
