"""The command line as people meet it: a first pipeline from ``curate init`` to a report, and every mistake's answer.

A mistake is answered in three lines, never with a traceback: what, where, how to fix it. Exit code 2 says that nothing
was read, 1 that the run stopped, 0 that it is done.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate import cli, command, commands, sources
from curate.errors import BadInput

WORDS = "river stone light morning window letter harbour winter engine copper garden thread market bridge".split()
COPIED = "The same text again and again, as it is found on many pages of the web, word for word."


def sentences():
    """Sixty texts, a third of them copies: 10 exact, and 10 that differ in the last of 90 words."""
    long = " ".join(WORDS[(i * i + i // 7) % len(WORDS)] + str(i) for i in range(90))
    for i in range(60):
        if i % 6 == 0:
            yield COPIED
        elif i % 6 == 1:
            yield f"{long} {i}"
        else:
            yield " ".join(f"{WORDS[(i + k) % len(WORDS)]} {i * k}" for k in range(4 + i % 9))


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "web.jsonl").open("w", encoding="utf-8") as file:
        for i, text in enumerate(sentences()):
            file.write(json.dumps({"id": f"doc-{i}", "text": text, "lang": "en"}) + "\n")
        file.write("this line is not JSON\n")
        file.write(json.dumps({"id": "empty", "text": ""}) + "\n")


@pytest.fixture
def first(curate, corpus):
    """What ``curate init`` writes, beside a small corpus."""
    assert curate("init")[0] == 0
    return Path("pipeline.py")


def test_the_first_pipeline_runs(curate, first):
    code, out, _ = curate("plan", str(first))
    assert code == 0
    assert "the plan is sound" in out and "read, 1 files" in out and "pipeline.py:" in out
    assert not Path(".curate/parts").exists(), "a plan reads nothing"

    code, out, err = curate("run", str(first))
    assert (code, err) == (0, "")
    assert "quarantined: 1 row" in out
    assert re.search(r"1 row: not JSON: .*; first in .*web\.jsonl, byte \d", out)
    [manifest_path] = Path(".curate/runs").glob("pipeline-*/manifest.json")
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    steps = {s["label"]: s for s in manifest["steps"]}
    assert steps["read data/*.jsonl"]["rows_in"] == 62 and steps["read data/*.jsonl"]["rows_out"] == 61
    assert steps["keep (empty, …)"]["dropped"] == {"empty": 1}
    assert steps["keep (exact_duplicate)"]["dropped"] == {"exact_duplicate": 9}
    assert steps["keep (near_duplicate)"]["dropped"] == {"near_duplicate": 9}
    assert steps["tokens.count"]["rows"] == 42
    [shard] = manifest_path.parent.glob("mixes/random/data/*.parquet")
    mix = pq.read_table(shard)
    chosen = steps["select.take_uniform"]["report"]
    assert mix.num_rows == chosen["rows"]
    assert sum(mix["tokens"].to_pylist()) == chosen["cost"] <= chosen["budget"]
    assert {"id", "text", "source", "extra", "tokens", "words", "near_cluster_size"} == set(mix.column_names)
    assert set(mix["source"].to_pylist()) == {"web"}

    code, again, _ = curate("run", str(first))
    assert code == 0 and "nothing to compute" in again
    code, out, _ = curate("report", "pipeline")
    assert code == 0 and "exact_duplicate 9" in out and manifest["values"] in out


def test_a_changed_share_measures_nothing_again(curate, first):
    assert curate("run", str(first))[0] == 0
    code, out, _ = curate("run", str(first), "--set", "share=0.5")
    assert code == 0
    assert re.search(r"quality\.measure.*: 0 computed", out)
    assert re.search(r"select\.take_uniform: 1 computed, 0 reused \(settings changed\)", out)


def test_settings_come_from_a_file_too(curate, first):
    Path("mine.toml").write_text('share = 0.5\nsource = "data/web.jsonl"\n', encoding="utf-8")
    code, out, _ = curate("plan", str(first), "--config", "mine.toml")
    assert code == 0 and "read data/web.jsonl" in out


def test_a_remote_source_need_not_be_reached_by_a_plan(curate, first, monkeypatch):
    def unreachable(self):
        raise BadInput(f"{self.name} cannot be listed: no network", where=self.name, fix="connect")

    monkeypatch.setattr(sources.Files, "listing", unreachable)
    code, out, _ = curate("plan", str(first), "--set", "source=hf://datasets/owner/name/*.parquet")
    assert code == 0 and "not listed" in out and "the plan is sound" in out
    code, _, err = curate("run", str(first), "--set", "source=hf://datasets/owner/name/*.parquet")
    assert code == 2 and "no network" in err


def test_bad_data_stops_a_run_that_says_so(curate, first):
    code, _, err = curate("run", str(first), "--on-error", "fail")
    assert code == 1
    assert "1 row cannot be read, the first: not JSON" in err
    assert "where" in err and "web.jsonl, byte" in err and "--on-error quarantine" in err


def test_why_rows_were_lost_is_told_at_once(curate, first):
    """Texts under another name are the whole corpus, and a broken file is more than "0 rows"."""
    lines = [json.dumps({"id": str(i), "body": "a text"}) + "\n" for i in range(30)]
    lines += ["[1]\n"] * 2 + ["{1\n"] + ["x\n"] * 3 + ['"\n', "3\n"]
    Path("data/web.jsonl").write_text("".join(lines), encoding="utf-8")
    Path("data/broken.jsonl").write_bytes(b"")
    (Path("data") / "cut.jsonl.gz").write_bytes(b"this is no gzip")
    code, out, _ = curate("run", str(first), "--set", "source=data/*")
    assert code == 0
    assert "quarantined: 38 rows and 1 byte range (rows not known)" in out
    assert "30 rows: there is no 'text'; first in" in out and "web.jsonl, row 0" in out
    assert "2 rows: a list, where one object a line is expected; first in" in out
    assert "more causes: see the report" in out


NOTHING = """
import polars as pl

from curate import select, sources
from curate.plan import plan, read, write


def pipeline():
    docs = read(sources.jsonl("nothing.jsonl")).keep(pl.col("text_bytes") > 5, because="short")
    return plan(write({"all": docs.select(select.uniform(label="all"), rows=5)}))
"""


def test_a_corpus_of_nothing_is_told_too(curate):
    """A rule over no part at all has counted nothing: the funnel says 0, and the run is complete."""
    Path("nothing.jsonl").write_text("", encoding="utf-8")
    Path("none.py").write_text(NOTHING, encoding="utf-8")
    code, out, err = curate("run", "none.py")
    assert (code, err) == (0, "")
    assert re.search(r"keep \(short\)\W+0\W+0 B", out)


def test_paths_of_a_remote_store_can_be_given_again(tmp_path):
    from curate.command import shown
    from curate.store import Store

    assert shown(Store("memory://bucket/store/"), "runs/a") == "memory://bucket/store/runs/a"
    assert shown(Store(str(tmp_path)), "runs/a") == f"{tmp_path}/runs/a"


def test_a_misspelt_keyword_is_answered_with_the_right_one(curate, first):
    right = "minhash.MinHash("
    text = first.read_text(encoding="utf-8")
    assert right in text
    first.write_text(text.replace(right, "minhash.MinHash(treshold=0.8, "), encoding="utf-8")
    code, _, err = curate("plan", str(first))
    assert code == 2 and "unexpected keyword argument 'treshold'" in err and "did you mean 'threshold'?" in err
    first.write_text(text.replace(right, "minhash.MinHash(xyz=1, "), encoding="utf-8")
    code, _, err = curate("plan", str(first))
    assert code == 2 and "MinHash takes " in err and "bands" in err


def test_ctrl_c_says_how_to_go_on(curate, first, monkeypatch):
    """typer answers Ctrl-C itself, with an exit and without a word."""
    from curate import command

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupted)
    code, _, err = curate("run", str(first))
    assert code == 130 and "stopped; run the same command again to go on from here" in err


MISTAKES = {
    "unknown setting": (["run", "pipeline.py", "--set", "shar=0.2"], "has no setting 'shar'", "did you mean 'share'?"),
    "wrong type": (["run", "pipeline.py", "--set", "share=lots"], "not 'lots'", "write share=0.5"),
    "out of range": (["run", "pipeline.py", "--set", "share=2"], "a share of 2.0", "from 0 to 1"),
    "no such profile": (["run", "pipeline.py", "--set", "profile=liht"], "profile 'liht'", "did you mean 'light'?"),
    "no file matches": (["run", "pipeline.py", "--set", "source=no/*.jsonl"], "no file matches no/*.jsonl", "correct"),
    "no pipeline file": (["run", "nothing.py"], "there is no file nothing.py", "curate init"),
    "no settings file": (["run", "pipeline.py", "--config", "no.toml"], "no.toml", "give a UTF-8 file"),
    "unwritable store": (["run", "pipeline.py", "--out", "pipeline.py"], "cannot write to", "choose another --out"),
    "unknown store": (["run", "pipeline.py", "--out", "nofs://x"], "cannot write to nofs://x", "choose another --out"),
    "no such engine": (["run", "pipeline.py", "--engine", "spark"], "no engine 'spark'", "say local or dask"),
    "neither": (["run", "pipeline.py", "--on-error", "maybe"], "--on-error 'maybe'", "say quarantine or fail"),
    "no such run": (["report", "nothing"], "no complete run 'nothing'", "runs here: none"),
    "init twice": (["init"], "pipeline.py exists", "choose another name"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered(curate, first, mistake):
    arguments, what, fix = MISTAKES[mistake]
    code, _, err = curate(*arguments)
    assert code == 2
    said, where, how = err.rstrip("\n").split("\n")
    assert what in said and where.startswith("  where  ") and how.startswith("  fix  ") and fix in how
    assert not Path(".curate/parts").exists(), "nothing was read"


WRONG_FILES = {
    "syntax": ("x = (", "cannot be imported", "repair"),
    "import": ("import nothing_of_that_name", "No module named 'nothing_of_that_name'", "repair"),
    "no function": ("x = 1", "defines no function pipeline(config)", "curate init"),
}


@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_a_file_that_is_no_pipeline(curate, wrong):
    text, what, fix = WRONG_FILES[wrong]
    Path("odd.py").write_text(text, encoding="utf-8")
    code, _, err = curate("plan", "odd.py")
    assert code == 2 and what in err and "odd.py" in err and fix in err and "Traceback" not in err


def test_a_misspelt_column_names_the_line(curate, first):
    text = first.read_text(encoding="utf-8").replace('pl.col("words")', 'pl.col("wrods")')
    Path("misspelt.py").write_text(text, encoding="utf-8")
    line = next(i for i, each in enumerate(text.splitlines(), 1) if "wrods" in each)
    code, _, err = curate("plan", "misspelt.py")
    assert code == 2
    assert "reads the column 'wrods'" in err and f"misspelt.py:{line}" in err and "did you mean 'words'?" in err


def test_the_place_of_a_setting_is_its_line(curate, first):
    Path("mine.toml").write_text('share = 0.5\nsorce = "data/web.jsonl"\n', encoding="utf-8")
    code, _, err = curate("plan", str(first), "--config", "mine.toml")
    assert code == 2 and "mine.toml:2" in err and "did you mean 'source'?" in err


def test_a_mistyped_command_is_a_usage_error(curate):
    for arguments in (["fly"], ["run"], ["run", "x.py", "--wrokers", "2"]):
        code, _, err = curate(*arguments)
        assert code == 2 and "Traceback" not in err


def test_help_names_every_command(curate):
    code, out, _ = curate("--help")
    assert code == 0
    for verb in ("run", "plan", "report", "explain", "doctor", "init"):
        assert re.search(rf"\b{verb}\b", out)


def test_doctor_says_what_is_installed(curate):
    code, out, _ = curate("doctor")
    assert code == 0 and "pyarrow" in out and "cores" in out


def test_the_program_ends_with_its_code_and_does_what_is_due_at_exit(tmp_path):
    def call(*arguments):
        code = "import atexit; from curate.cli import program; atexit.register(print, 'due'); program()"
        return subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)

    shown, wrong = call("--help"), call("plan", "missing.py")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Usage" in shown.stdout and shown.stdout.endswith("due\n")
    assert wrong.returncode == 2 and "missing.py" in wrong.stderr and wrong.stdout == "due\n"


def test_kernels_that_no_process_has_used_for_a_month_are_removed(tmp_path):
    def start():
        environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
        code = "import curate, os; print(os.environ['NUMBA_CACHE_DIR'])"
        started = subprocess.run(
            [sys.executable, "-c", code], env=environment | {"XDG_CACHE_HOME": str(tmp_path)}, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return Path(started.stdout.strip())

    mine = start()
    old, recent = mine.parent / "kernels-old", mine.parent / "kernels-recent"
    for other in (old, recent):
        other.mkdir()
    for unused in (old, mine):
        os.utime(unused, (0, 0))
    assert start() == mine and mine.stat().st_mtime > 0  # used again, and nothing is looked through
    assert old.exists()
    mine.rmdir()
    start()
    assert mine.exists() and recent.exists() and not old.exists()


PLAIN = [
    ["run", "p.py", "--out", "o"],
    ["run", "p.py", "--set", "a=1", "--set", "b=[2, 3]", "--workers", "2", "--same-code", "--on-error", "fail"],
    ["run", "--engine", "dask", "--cluster", "tcp://x:1", "--memory", "1GiB", "p.py", "--config", "c.toml"],
]
NOT_PLAIN = [
    [], ["run"], ["run", "--help"], ["run", "a.py", "b.py"], ["run", "p.py", "--workers", "two"], ["plan", "p.py"],
    ["run", "p.py", "--workers"], ["run", "p.py", "--out=x"], ["run", "p.py", "--set", "--out"],
]  # fmt: skip


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_plain_words_mean_what_typer_takes_them_for(words, monkeypatch):
    taken = []
    signature = inspect.signature(command.run)
    monkeypatch.setattr(command, "run", lambda *a, **k: taken.append(signature.bind(*a, **k).arguments))
    monkeypatch.setattr(sys, "argv", ["curate", *words])
    with pytest.raises(SystemExit):
        cli.start()
    commands.app(words, standalone_mode=False)
    assert taken[0] == taken[1]
    assert {k: type(v) for k, v in taken[0].items()} == {k: type(v) for k, v in taken[1].items()}


@pytest.mark.parametrize("words", NOT_PLAIN, ids=" ".join)
def test_typer_looks_at_all_other_words(words):
    assert cli.plain_run(words) is None
