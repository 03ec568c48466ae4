"""Runs that were killed, branched and annealed are the runs that were left alone."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from curate.train import branches, checkpoint, feeding, loop, model
from curate.train.schedule import Schedule

TINY = model.Config(vocab=97, width=16, layers=2, heads=2, hidden=24, context=12)
IDS = np.random.default_rng(0).integers(0, 97, 3000).astype(np.uint16)


def stream(steps, seed=0, ids=IDS):
    return feeding.StreamFeed(ids, TINY.context, 4, seed, steps)


def weights(made):
    return torch.cat([p.detach().flatten() for p in made.parameters()])


class Killed(BaseException):
    """As sudden as a signal, without the process."""


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "muon"},
        {"average": 3, "decay": 0.5, "micro": 24},
        {"schedule": "cosine", "precision": "bfloat16", "optimizer": "muon"},
    ],
    ids=str,
)
def test_a_killed_run_is_exact(tmp_path, settings):
    """Killed after steps 12, 13 and 29, with a checkpoint every 4 steps: curve, weights and evaluations bit by bit."""
    rows = torch.from_numpy(IDS[:130].astype(np.int64)).view(10, 13)
    training = loop.Training(checkpoint_every=4, line=1, **settings)
    asked = {"evaluate": lambda made: made.nats(rows[:, :-1], rows[:, 1:]).mean(1), "evaluations": 3}
    whole_model = model.Decoder(TINY)
    whole = loop.fit(whole_model, training, stream(30), metrics=tmp_path / "whole.jsonl", **asked)
    saved = tmp_path / "run.safetensors"
    for at in (12, 13, 29):

        def kill(line, at=at):
            if line.step == at:
                raise Killed

        with pytest.raises(Killed):
            loop.fit(model.Decoder(TINY), training, stream(30), checkpoint=saved, watch=kill, **asked)
    again_model = model.Decoder(TINY)
    again = loop.fit(
        again_model, training, stream(30), checkpoint=saved, metrics=tmp_path / "again.jsonl", **asked
    )
    for _ in range(2):  # the second time it is finished already
        assert again.losses.tobytes() == whole.losses.tobytes()
        assert again.norms.tobytes() == whole.norms.tobytes()
        assert again.tokens == whole.tokens
        assert torch.equal(weights(again_model), weights(whole_model))
        assert list(again.evaluations) == list(whole.evaluations)
        assert all(np.array_equal(again.evaluations[at], whole.evaluations[at]) for at in whole.evaluations)
        assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "whole.jsonl").read_text()
        again_model = model.Decoder(TINY)
        again = loop.fit(again_model, training, stream(30), checkpoint=saved, **asked)


VICTIM = """
import sys
from pathlib import Path
import numpy as np
from curate.train import feeding, loop, model

ids = np.random.default_rng(0).integers(0, 97, 3000).astype(np.uint16)
shape = model.Config(vocab=97, width=16, layers=2, heads=2, hidden=24, context=12)
training = loop.Training(checkpoint_every=7, line=1, optimizer="muon")
feed = feeding.StreamFeed(ids, 12, 4, 0, 200)
out = Path(sys.argv[1])
result = loop.fit(
    model.Decoder(shape), training, feed, checkpoint=out / "run.safetensors", metrics=out / "metrics.jsonl",
    watch=lambda line: print(line.step, flush=True),
)
np.save(out / "losses.npy", result.losses)
"""


def killed_at(tmp_path, steps):
    """Start the run, SIGKILL it at each of the steps, and let it end; its losses."""
    script = tmp_path / "victim.py"
    script.write_text(textwrap.dedent(VICTIM))
    for at in [*steps, None]:
        child = subprocess.Popen([sys.executable, script, tmp_path], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        for line in child.stdout:
            if at is not None and int(line) >= at:
                child.send_signal(signal.SIGKILL)
                break
        child.stdout.close()
        assert child.wait() == (0 if at is None else -signal.SIGKILL)
    return np.load(tmp_path / "losses.npy")


def undisturbed():
    training = loop.Training(line=1, optimizer="muon")
    return loop.fit(model.Decoder(TINY), training, stream(200)).losses


def test_a_process_that_is_killed_outright(tmp_path):
    assert killed_at(tmp_path, [60]).tobytes() == undisturbed().tobytes()


def test_what_a_killed_writer_left_is_removed(tmp_path):
    """A half-written file older than the last whole one is of the dead; a newer one may be another process's."""
    saved = tmp_path / "run.safetensors"
    dead, alive = tmp_path / "run.safetensors.1.tmp", tmp_path / "run.safetensors.2.tmp"
    loop.fit(model.Decoder(TINY), loop.Training(), stream(30), stop=5, checkpoint=saved)
    for left in (dead, alive):
        left.write_bytes(b"half")
    os.utime(dead, (0, 0))
    loop.fit(model.Decoder(TINY), loop.Training(), stream(30), stop=10, checkpoint=saved)
    assert not dead.exists() and alive.exists()


@pytest.mark.slow
def test_a_process_that_is_killed_outright_ten_times(tmp_path):
    steps = sorted(np.random.default_rng(1).integers(5, 195, 10).tolist())
    assert killed_at(tmp_path, steps).tobytes() == undisturbed().tobytes()


# -------------------------------------------------------------------------------------------------------- other runs


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"training": loop.Training(lr=1e-3)}, "settings"),
        ({"feed": stream(30, seed=1)}, "seed"),
        ({"feed": stream(30, ids=IDS[:-1])}, "text"),
        ({"model": model.Decoder(TINY, seed=1)}, "initial weights"),
        ({"schedule": Schedule(steps=30)}, "schedule"),
        ({"seed": 2}, "dropout"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_checkpoint_of_another_run(tmp_path, changes, other):
    base = {"model": model.Decoder(TINY), "training": loop.Training(), "feed": stream(30)}
    loop.fit(**base, stop=5, checkpoint=tmp_path / "run.safetensors")
    again = {"model": model.Decoder(TINY), "training": loop.Training(), "feed": stream(30), **changes}
    with pytest.raises(ValueError, match=rf"another run \(other {other}\)"):
        loop.fit(**again, checkpoint=tmp_path / "run.safetensors")


def test_what_decides_nothing_may_change(tmp_path):
    saved = tmp_path / "run.safetensors"
    loop.fit(model.Decoder(TINY), loop.Training(), stream(30), stop=5, checkpoint=saved)
    free = loop.Training(checkpoint_every=3, keep_every=4, line=2, parallel="fsdp")
    again = loop.fit(model.Decoder(TINY), free, stream(30), checkpoint=saved)
    assert again.losses.tobytes() == loop.fit(model.Decoder(TINY), loop.Training(), stream(30)).losses.tobytes()


# ---------------------------------------------------------------------------------------------------------- branches


def test_points_of_a_curve_are_runs_of_their_length(tmp_path):
    """Each is, bit by bit, the run that was trained to that length alone; the trunk's steps are done once."""
    training = loop.Training(warmup=0.1, decay=0.25, line=1)
    rows = torch.from_numpy(IDS[:130].astype(np.int64)).view(10, 13)
    steps_done = []
    points = branches.curve(
        model.Decoder(TINY), training, stream(80), steps=40, folder=tmp_path,
        evaluate=lambda made: made.nats(rows[:, :-1], rows[:, 1:]).mean(1), watch=lambda line: steps_done.append(line),
    )  # fmt: skip
    assert [(p.share, p.steps, p.tokens) for p in points] == [
        (0.25, 10, 480), (0.5, 20, 960), (1.0, 40, 1920), (2.0, 80, 3840)
    ]  # fmt: skip
    # The first falling step is one after the constant phase's end: 8, 16, 31 and 61; branches do 2, 4, 9, 19 steps.
    assert len(steps_done) == 61 + 2 + 4 + 9 + 19
    for point in points:
        alone = model.Decoder(TINY)
        plan = Schedule(steps=point.steps, warmup=4.0, decay=0.25 * point.steps)
        run = loop.fit(alone, training, stream(80), schedule=plan)
        assert run.losses.tobytes() == point.losses.tobytes()
        with torch.no_grad():
            assert np.array_equal(point.evaluation, alone.nats(rows[:, :-1], rows[:, 1:]).mean(1).double().numpy())
    whole = loop.fit(model.Decoder(TINY), training, stream(40))
    assert whole.losses.tobytes() == points[2].losses.tobytes()


def test_a_curve_that_was_killed_goes_on(tmp_path):
    training = loop.Training(line=1, checkpoint_every=5)
    done = []

    def kill(line):
        done.append(line.step)
        if len(done) == 30:
            raise Killed

    asked = {"steps": 40, "shares": (0.5, 1)}
    whole = branches.curve(model.Decoder(TINY), training, stream(40), **asked)
    with pytest.raises(Killed):
        branches.curve(model.Decoder(TINY), training, stream(40), folder=tmp_path, watch=kill, **asked)
    again = branches.curve(
        model.Decoder(TINY), training, stream(40), folder=tmp_path, watch=lambda line: done.append(line.step), **asked
    )
    # trunk 17, branch 3, trunk 16 more, branch 7; at most a checkpoint's 5 steps are done again
    assert len(done) <= 43 + 5
    for a, b in zip(again, whole, strict=True):
        assert a.losses.tobytes() == b.losses.tobytes()


def test_a_curve_that_cannot_be():
    with pytest.raises(ValueError, match="no constant phase"):
        branches.curve(model.Decoder(TINY), loop.Training(schedule="cosine"), stream(40), steps=20)
    with pytest.raises(ValueError, match="before it is warm"):
        branches.curve(model.Decoder(TINY), loop.Training(warmup=0.5), stream(40), steps=20)


def test_an_anneal_starts_from_a_kept_checkpoint(tmp_path):
    """Weights and momenta are the kept ones, the rate falls from the peak, the curve and the feed are new."""
    saved = tmp_path / "run.safetensors"
    training = loop.Training(keep_every=10, decay=0.2)
    loop.fit(model.Decoder(TINY), training, stream(50), checkpoint=saved)
    assert sorted(p.name for p in tmp_path.glob("run.*")) == [
        "run.safetensors", *(f"run.step-{n}.safetensors" for n in (10, 20, 30, 40))
    ]  # fmt: skip
    start = loop.kept_path(saved, 20)
    other = model.Decoder(TINY, seed=5)
    lines = []
    result = branches.anneal(other, loop.Training(line=1, keep_every=3), stream(10, seed=7), start, watch=lines.append)
    assert len(result.losses) == 10
    assert [line.lr for line in lines] == pytest.approx([5e-3 * (10 - i) / 10 for i in range(10)])
    # By hand: the state of the kept checkpoint, put into a fresh run, and its first loss.
    kept = checkpoint.load_run(start, {}, other)
    fresh = model.Decoder(TINY)
    with torch.no_grad():
        for name, p in fresh.named_parameters():
            p.copy_(kept[f"weight.{name}"])
    batch = torch.from_numpy(stream(10, seed=7).batch(0).ids.astype(np.int64))
    assert result.losses[0] == pytest.approx(float(fresh.nats(batch[:, :-1], batch[:, 1:]).mean()), rel=1e-6)
    # A branch that goes on in the same feed, as a run with that decay: the optimizers' momenta were kept too.
    onward = loop.fit(
        model.Decoder(TINY), loop.Training(), stream(50), schedule=Schedule(steps=30, decay=10.0), start=start,
        onward=True,
    )  # fmt: skip
    straight = loop.fit(
        model.Decoder(TINY), loop.Training(), stream(50), schedule=Schedule(steps=30, warmup=2.5, decay=10.0)
    )
    assert onward.losses.tobytes() == straight.losses.tobytes()
    with pytest.raises(ValueError, match=r"another run \(other seed\)"):
        loop.fit(model.Decoder(TINY), loop.Training(), stream(50, seed=2), start=start, onward=True)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        branches.anneal(other, loop.Training(), stream(10), tmp_path / "nothing.safetensors")


def test_a_checkpoint_of_another_shape(tmp_path):
    saved = tmp_path / "run.safetensors"
    loop.fit(model.Decoder(TINY), loop.Training(), stream(5), checkpoint=saved)
    wider = model.Decoder(model.Config(vocab=97, width=32, layers=1, heads=2, hidden=24, context=12))
    with pytest.raises(ValueError, match="weights of another model"):
        loop.fit(wider, loop.Training(), stream(5), start=saved)
    deeper = model.Decoder(model.Config(vocab=97, width=16, layers=3, heads=2, hidden=24, context=12))
    with pytest.raises(ValueError, match="weights of another model"):
        loop.fit(deeper, loop.Training(), stream(5), start=saved)
    with pytest.raises(ValueError, match="another optimizer"):
        loop.fit(model.Decoder(TINY), loop.Training(optimizer="muon"), stream(5), start=saved)


def test_nothing_is_pickled(tmp_path):
    """A checkpoint is safetensors: a header of JSON, then numbers."""
    saved = tmp_path / "run.safetensors"
    loop.fit(model.Decoder(TINY), loop.Training(), stream(5), checkpoint=saved)
    raw = saved.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["run"])["text"][0] == len(IDS)
    assert int(header["__metadata__"]["step"]) == 5
