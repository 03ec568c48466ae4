"""Two processes give what one gives: losses, norms, weights, evaluations; and each continues the other's run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from curate.train import branches, checkpoint, data, distributed, feeding, feeds, loop, model

SCRIPT = '''
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, sys.argv[1])
from test_distributed import CASES, evaluate, feed, settings, shape

from curate.train import branches, checkpoint, distributed, loop, model

out = Path(sys.argv[2])
with distributed.joined("cpu"):
    for name, case in CASES.items():
        made, saved = model.Decoder(shape(case)), out / name / "run.safetensors"
        loop.fit(made, settings(case), feed(case), stop=10, checkpoint=saved)  # or on from what one process began
        if case.get("half"):
            continue
        made = model.Decoder(shape(case))
        result = loop.fit(made, settings(case), feed(case), checkpoint=saved, evaluate=evaluate)
        checkpoint.save(made, out / name / "model")
        points = []
        if case.get("curve"):
            made = model.Decoder(shape(case))
            points = branches.curve(made, settings(case), feed(case), steps=20, shares=(0.5, 1), folder=out / name)
        if distributed.ranks().first:
            if points:
                np.save(out / name / "half.npy", points[0].losses)
                np.save(out / name / "whole.npy", points[1].losses)
            np.savez(out / name / "result.npz", losses=result.losses, norms=result.norms, seen=result.evaluation)
'''
IDS = np.random.default_rng(0).integers(0, 97, 3000).astype(np.uint16)
CASES = {
    "ddp": {"parallel": "ddp", "micro": 24},
    "ddp without a row": {"parallel": "ddp", "rows": 1},
    "fsdp": {"parallel": "fsdp", "micro": 24, "average": 3},
    "fsdp muon": {"parallel": "fsdp", "optimizer": "muon", "tied": False, "curve": True},
    "ddp packed": {"parallel": "ddp", "packed": True, "micro": 12},
    "fsdp packed": {"parallel": "fsdp", "packed": True, "recompute": True, "optimizer": "muon"},
    "fsdp from one process": {"parallel": "fsdp", "begun": True},
    "ddp from one process": {"parallel": "ddp", "begun": True},
    "one process from fsdp": {"parallel": "fsdp", "half": True, "optimizer": "muon"},
}


def shape(case):
    return model.Config(vocab=97, width=16, layers=2, heads=2, hidden=24, context=12, tied=case.get("tied", True))


def settings(case):
    chosen = {key: case[key] for key in ("parallel", "micro", "average", "optimizer", "recompute") if key in case}
    return loop.Training(checkpoint_every=7, **chosen)


def feed(case):
    if case.get("packed"):  # documents, padding, rows that count unequally
        rng = np.random.default_rng(0)
        tokens = data.pack([rng.integers(1, 97, n) for n in rng.integers(1, 30, 80)], 0)
        return feeds.BestFit(tokens, context=12, batch=5, steps=20)
    return feeding.StreamFeed(IDS, 12, case.get("rows", 5), 0, 20)


def evaluate(made):
    rows = torch.from_numpy(IDS[:130].astype(np.int64)).view(10, 13)
    return made.nats(rows[:, :-1], rows[:, 1:]).mean(1)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two processes made of the cases."""
    out = tmp_path_factory.mktemp("ranks")
    (out / "script.py").write_text(SCRIPT)
    for name, case in CASES.items():
        if case.get("begun"):
            saved = out / name / "run.safetensors"
            loop.fit(model.Decoder(shape(case)), settings(case), feed(case), stop=6, checkpoint=saved)
    here = Path(__file__).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parent)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, out / "script.py", here, out], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.get("half")])
def test_two_processes_are_one(together, name):
    case = CASES[name]
    alone = model.Decoder(shape(case))
    expected = loop.fit(alone, settings(case), feed(case), evaluate=evaluate)
    got = np.load(together / name / "result.npz")
    np.testing.assert_allclose(got["losses"], expected.losses, rtol=1e-5)
    np.testing.assert_allclose(got["norms"], expected.norms, rtol=1e-4)
    np.testing.assert_allclose(got["seen"], expected.evaluation, rtol=1e-4)
    saved = checkpoint.load(together / name / "model")
    for a, b in zip(saved.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_curve_on_two_processes(together):
    """The model stays split from one branch to the next."""
    case = CASES["fsdp muon"]
    points = branches.curve(model.Decoder(shape(case)), settings(case), feed(case), steps=20, shares=(0.5, 1))
    for name, point in zip(("half", "whole"), points, strict=True):
        got = np.load(together / "fsdp muon" / f"{name}.npy")
        np.testing.assert_allclose(got, point.losses, rtol=1e-5)


def test_one_process_continues_a_split_run(together):
    name = "one process from fsdp"
    case, saved = CASES[name], together / name / "run.safetensors"
    assert not saved.exists()
    alone, onward = model.Decoder(shape(case)), model.Decoder(shape(case))
    expected = loop.fit(alone, settings(case), feed(case))
    got = loop.fit(onward, settings(case), feed(case), checkpoint=saved)
    np.testing.assert_allclose(got.losses, expected.losses, rtol=1e-5)
    assert saved.exists() and not saved.with_name(saved.name + ".shards").exists()


def test_parts_of_a_split_run_are_not_pickled(together):
    folder = together / "fsdp" / "run.safetensors.shards"
    assert sorted(p.name for p in folder.iterdir()) == ["latest.json", "step-20"]
    assert {p.suffix for p in (folder / "step-20").iterdir()} == {".safetensors"}


def test_layers_that_are_split():
    made = model.Decoder(shape({}))
    assert distributed.layers(made) == list(made.blocks)
    nested = torch.nn.ModuleDict({"a": torch.nn.ModuleList([torch.nn.ModuleList([torch.nn.Linear(1, 1)])])})
    assert distributed.layers(nested) == list(nested["a"])


def test_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.joined("cpu") as device:
        assert device == "cpu"
        assert distributed.ranks() == distributed.Ranks(0, 1)
