"""``python -m curate.train``: texts in, a model out; a run goes on, and what cannot be is said in one line."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.train import __main__ as command
from curate.train import checkpoint, metrics, score, tokenising

WORDS = "the a cat dog sat on mat ran to house of and big small red blue".split()


@pytest.fixture
def texts(tmp_path):
    rng = np.random.default_rng(0)
    rows = [" ".join(rng.choice(WORDS, rng.integers(3, 60))) for _ in range(120)]
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, some in (("a", rows[:50]), ("b", rows[50:100])):
        pq.write_table(pa.table({"text": pa.array(some, pa.large_string())}), folder / f"{name}.parquet")
    pq.write_table(pa.table({"text": pa.array(rows[100:], pa.large_string())}), tmp_path / "heldout.parquet")
    return folder


def run(*arguments):
    return command.main([str(a) for a in arguments])


def test_texts_in_a_model_out(texts, tmp_path, capsys):
    out = tmp_path / "run"
    settings = ["--preset", "cpu", "--tokens", "12K", "--set", "batch=4", "--set", "checkpoint_every=5"]
    assert run(texts, "--out", out, *settings, "--evaluate", tmp_path / "heldout.parquet") == 0
    said = capsys.readouterr().err
    assert "0 tokens dropped" in said and "tokens/s" in said and "bits a byte" in said
    record = json.loads((out / "run.json").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == record["steps"]
    assert record["training"]["batch"] == 4
    assert lines[-1]["loss"] < lines[0]["loss"]
    # The model's directory opens, and costs the held-out texts what was told.
    model = checkpoint.load(out / "model")
    held = pq.read_table(tmp_path / "heldout.parquet")["text"].to_pylist()
    losses = score.nll(model, tokenising.encode(held, "bytes", 256))
    told = score.bits_per_byte(float(losses.nats.sum()), sum(len(t.encode()) for t in held))
    assert told == pytest.approx(record["bits_per_byte"])

    assert run(texts, "--out", out, *settings) == 1
    assert "go on with --resume" in capsys.readouterr().err
    before = [(out / name).read_bytes() for name in ("metrics.jsonl", "model/weights.safetensors")]
    assert run(texts, "--out", out, *settings, "--resume") == 0
    assert [(out / name).read_bytes() for name in ("metrics.jsonl", "model/weights.safetensors")] == before
    assert json.loads((out / "run.json").read_text()) == record, "a finished run keeps its own throughput"

    # A store is read as it is, and gives the same run; a model is trained further.
    assert run(out / "tokens", "--out", tmp_path / "again", *settings) == 0
    assert (tmp_path / "again" / "metrics.jsonl").read_bytes() == before[0]
    onward = [*settings, "--packing", "concatenate", "--init", out / "model"]
    assert run(texts, "--out", tmp_path / "on", *onward) == 1
    assert "give --set lr=RATE" in capsys.readouterr().err
    assert run(texts, "--out", tmp_path / "on", *onward, "--set", "lr=2e-3") == 0
    further = [json.loads(line) for line in (tmp_path / "on" / "metrics.jsonl").read_text().splitlines()]
    assert further[0]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "warmpu=1"], "there is no setting 'warmpu'"),
        (["--set", "lr=fast"], "--set lr=fast: not a value of type"),
        (["--set", "optimizer=sgd"], "optimizer 'sgd' does not exist"),
        (["--text", "body"], "body"),
        (["--tensorboard", "there", "--tokens", "2K"], "need the package tensorboard"),
    ],
)
def test_what_cannot_be(texts, tmp_path, capsys, arguments, message):
    assert run(texts, "--out", tmp_path / "run", "--preset", "cpu", *arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("text", "value"), [("500", 500), ("20M", 20_000_000), ("1.5k", 1500), ("1e6", 1_000_000)])
def test_counts(text, value):
    assert command.count(text) == value


def test_settings_from_text():
    asked = command._parser().parse_args(
        ["x", "--out", "y", "--set", "betas=0.8,0.9", "--set", "micro=16K", "--set", "compile=true", "--set", "clip=2"]
    )
    made = command._settings(asked, command.Training())
    assert (made.betas, made.micro, made.compile, made.clip) == ((0.8, 0.9), 16_000, True, 2.0)
    without = command._parser().parse_args(["x", "--out", "y", "--set", "micro=None"])
    assert command._settings(without, made).micro is None


def test_a_line_for_people():
    line = metrics.Line(
        step=400, steps=1000, tokens=5, lr=5e-3, loss=3.21549, norm=0.412, tokens_per_second=52_000.4, mfu=0.123,
        seconds_left=3725,
    )  # fmt: skip
    expected = "step 400/1,000  loss 3.2155  lr 5.0e-03  |g| 0.41  52,000 tokens/s  12.3 % MFU  1:02:05 left"
    assert metrics.shown(line) == expected


@pytest.mark.slow
def test_it_runs_alone(texts, tmp_path):
    """On a machine with torch, numpy, pyarrow and safetensors: nothing else of curate, no other package is opened."""
    script = (
        "import sys\nfrom curate.train.__main__ import main\nstatus = main(sys.argv[1:])\n"
        "ours = {m for m in sys.modules if m.startswith(('curate.', 'scorers'))}\n"
        "assert {m for m in ours if not m.startswith('curate.train')} == set(), ours\n"
        "for other in ('polars', 'numba', 'dask', 'transformers', 'tokenizers', 'typer', 'rich', 'fsspec'):\n"
        "    assert other not in sys.modules, other\n"
        "sys.exit(status)\n"
    )
    arguments = [texts, "--out", tmp_path / "run", "--preset", "cpu", "--tokens", "4K"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "model" / "weights.safetensors").exists()
