"""The documentation is held to the code: links resolve, examples run, commands and tests that it names exist.

The Python blocks of a page, one after the other, are one module: it must import, and where it defines ``pipeline`` this
is carried out on a small corpus.
"""

import importlib.util
import inspect
import json
import re
import sys
from pathlib import Path

import pytest
import typer.main

from curate.commands import app
from curate.engines.local import Local
from curate.run import run
from curate.store import Store

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "configs" / "README.md"])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
COMMANDS = typer.main.get_command(app).commands


def each(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: f"{page.parent.name}-{page.stem}")


def text_of(page):
    return page.read_text(encoding="utf-8")


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def module_text(page):
    return "\n\n".join(code for language, code in BLOCK.findall(text_of(page)) if language == "python")


@each(PAGES)
def test_links_resolve(page):
    for link in LINK.findall(BLOCK.sub("", text_of(page))):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        assert not anchor or anchor in anchors(target), f"{page.name}: {target.name} has no heading #{anchor}"


@each(PAGES)
def test_files_and_tests_that_are_named_exist(page):
    folders = "curate|scorers|tests|benchmarks|pipelines|configs"
    for code in CODE.findall(BLOCK.sub("", text_of(page))):
        if found := re.fullmatch(rf"((?:{folders})/[\w./]+\w)(?:::(\w+))?", code):
            path = ROOT / found[1]
            assert path.exists(), f"{page.name} names {code}, which is not there"
            assert not found[2] or f"def {found[2]}(" in path.read_text(encoding="utf-8"), f"{page.name}: no {code}"


def command_lines(page):
    """Lines that are commands: in indented blocks, and whole code spans."""
    plain = BLOCK.sub("", text_of(page))
    yield from re.findall(r"^    (?:.*&& )?(curate .+)$", plain, re.MULTILINE)
    yield from (code for code in CODE.findall(plain) if code.startswith("curate "))


@each(PAGES)
def test_commands_exist(page):
    for line in command_lines(page):
        words = line.partition(" #")[0].split()
        assert words[1] in COMMANDS, f"{page.name}: there is no `{' '.join(words[:2])}`"
        options = {name for parameter in COMMANDS[words[1]].params for name in parameter.opts}
        for word in words[2:]:
            assert not word.startswith("--") or word in options, f"{page.name}: `curate {words[1]}` has no {word}"


def test_every_page_is_reached_from_the_index():
    linked = set(LINK.findall(text_of(ROOT / "docs" / "index.md")))
    assert {page.name for page in PAGES if page.parent.name == "docs"} - {"index.md"} <= linked


def test_every_word_of_the_machine_is_explained():
    words = "document key part address frame stage rule artifact score mix trial plan run store engine exchange".split()
    titles = " ".join(text_of(page).splitlines()[0].lower() for page in PAGES)
    assert not [word for word in words if word not in titles]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    lines = [
        {"id": str(i), "text": f"Sentence {i} of the même sample, with {i * 7} e.\n\nAnother one!" * (1 + i % 3)}
        for i in range(12)
    ]
    (tmp_path / "data" / "a.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


@each([page for page in PAGES if module_text(page)])
def test_examples_run(page, corpus, tmp_path, monkeypatch):
    name = f"example_{page.stem.replace('-', '_')}"
    path = tmp_path / f"{name}.py"
    path.write_text(module_text(page), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    if hasattr(module, "pipeline"):
        taken = list(inspect.signature(module.pipeline).parameters.values())
        made = module.pipeline(*(parameter.annotation() for parameter in taken))
        outcome = run(made, name=name, store=Store(str(tmp_path / "store")), open_engine=Local)
        assert all(mix["rows"] > 0 for mix in outcome.manifest["mixes"].values())
    for example in ("carry_out", "first_writer_wins"):
        if hasattr(module, example):
            given = [tmp_path / "there"] if example == "first_writer_wins" else [small_plan(), tmp_path / "there"]
            getattr(module, example)(*given)


def small_plan():
    from curate import select, sources
    from curate.plan import plan, read, write

    docs = read(sources.any_file("data/*.jsonl"))
    return plan(write({"m": docs.select(select.uniform(label="m"), rows=3)}))


def test_an_engine_of_ten_lines_gives_the_same_bytes(corpus, tmp_path):
    page = ROOT / "docs" / "engine.md"
    space = {}
    exec(compile(module_text(page), "engine.md", "exec"), space)
    here = run(small_plan(), name="here", store=Store(str(tmp_path / "a")), open_engine=Local)
    there = run(small_plan(), name="there", store=Store(str(tmp_path / "b")), open_engine=space["Threads"])
    assert here.manifest["values"] == there.manifest["values"]
