"""The training loop: parts of a batch are the batch, Muon by hand, and no run forgets what it was."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from curate.train import data, feeding, feeds, hardware, loop, metrics, model, optim, schedule
from curate.train.feed import Batch

TINY = model.Config(vocab=97, width=16, layers=2, heads=2, hidden=24, context=12)


def some_ids(n, seed=0, vocab=97):
    """Ids with something to learn: mostly each is twice the one before plus one."""
    rng = np.random.default_rng(seed)
    ids = np.empty(n, dtype=np.uint16)
    ids[0] = 1
    for i in range(1, n):
        ids[i] = (2 * int(ids[i - 1]) + 1) % vocab if rng.random() < 0.9 else rng.integers(vocab)
    return ids


IDS = some_ids(3000)


def stream(steps, batch=4, seed=0):
    return feeding.StreamFeed(IDS, TINY.context, batch, seed, steps)


class Bigram(nn.Module):
    """The smallest model of the interface: a table of logits, which knows weights and documents."""

    class Shape:
        vocab, context = 97, 12

    config = Shape()

    def __init__(self, dropout=0.0):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(97, 97))
        self.bias = nn.Parameter(torch.zeros(97))
        self.dropout = nn.Dropout(dropout)
        self.seen = []

    def forward(self, tokens, documents=None):
        self.seen.append(documents)
        return self.dropout(self.table[tokens] + self.bias)

    def mean_nats(self, stream, targets, weights=None):
        nats = -stream.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        return nats.mean() if weights is None else (nats * weights).sum() / weights.sum()


class Given:
    """A feed of batches that are given, over and over."""

    def __init__(self, *batches, steps=None):
        self.batches, self.steps, self.epochs = batches, steps or len(batches), 1.0

    def batch(self, step):
        return self.batches[step % len(self.batches)]

    def identity(self):
        return {"given": len(self.batches)}


def weighted_batches(count, rows=6, seed=0):
    """Batches whose rows count unequally, some rows not at all."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        ids = rng.integers(0, 97, (rows, 13))
        weights = (rng.random((rows, 12)) * (rng.random((rows, 12)) < 0.5)).astype(np.float32)
        weights[rng.integers(rows)] = 0
        weights[rng.integers(rows)] *= 20
        yield Batch(ids, None, weights)


# ------------------------------------------------------------------------------------------------------------ schedule


def test_a_cosine():
    """Half of the rate is left half-way between the end of the warm-up and the end (Loshchilov and Hutter, eq. 5)."""
    cosine = schedule.Schedule(steps=110, warmup=10, shape="cosine", floor=0.1)
    assert cosine.factor(4) == pytest.approx(0.5)
    assert cosine.factor(10) == 1.0
    assert cosine.factor(60) == pytest.approx(0.1 + 0.9 * 0.5)
    assert cosine.factor(109) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 0.99)) / 2)
    assert cosine.falling == 11
    assert not cosine.constant(50)


@given(st.integers(1, 300), st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 1))
def test_what_falls_is_below_the_peak(steps, warmup, decay, floor):
    """``falling`` is the first step of the decay: none before it is reduced by it, and all from there on are."""
    plan = schedule.Schedule(steps=steps, warmup=warmup * steps, decay=decay * steps, floor=floor)
    without = schedule.Schedule(steps=steps, warmup=warmup * steps)
    for step in range(steps):
        assert 0 < plan.factor(step) <= 1 or floor == 0
        if step < plan.falling:
            assert plan.factor(step) == without.factor(step)
        elif floor < 1:
            assert (steps - step) / (decay * steps) < 1
    late = plan.late(4)
    assert late == sorted(set(late)) and late[-1] == steps and late[0] >= 1


def test_late_states_are_in_the_last_quarter_of_the_fall():
    """100 steps, the last 40 fall, a quarter of them is 10: five states, 2 apart."""
    assert schedule.Schedule(steps=100, decay=40).late(5) == [92, 94, 96, 98, 100]
    assert schedule.Schedule(steps=3).late(5) == [1, 2, 3]


@pytest.mark.parametrize("wrong", [{"shape": "square"}, {"floor": 2.0}, {"steps": 0}, {"decay": -1.0}])
def test_a_schedule_that_is_none(wrong):
    with pytest.raises(ValueError, match=r"schedule"):
        schedule.Schedule(**{"steps": 10, **wrong})


# ---------------------------------------------------------------------------------------------------------------- muon


def test_newton_schulz_by_hand():
    """diag(3, 4) has norm 5. A step takes a singular value s to 3.4445 s - 4.775 s^3 + 2.0315 s^5:
    .6 to 2.0667 - 1.0314 + .15797 = 1.19327, and .8 to 2.7556 - 2.4448 + .66568 = .97648.
    """
    once = optim.newton_schulz(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]), steps=1)
    assert once.flatten().tolist() == pytest.approx([1.19327, 0, 0, 0.97648], abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 99))
def test_singular_values_come_near_one(rows, columns, seed):
    """Five steps keep the singular vectors and bring every value above a hundredth of the norm between .65 and 1.25."""
    g = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(seed))
    u, s, v = torch.linalg.svd(g, full_matrices=False)
    inside = u.mT @ optim.newton_schulz(g) @ v.mT
    values = inside.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(inside, torch.diag_embed(values), atol=2e-3, rtol=0)
    large = s / s.norm(dim=-1, keepdim=True) > 0.01
    assert values[large].min() > 0.65 and values[large].max() < 1.25


def muon_by_hand(w, grads, *, lr, momentum, decay, parts):
    """Muon in NumPy, one matrix at a time."""
    kept = np.zeros_like(w)
    for g in grads:
        kept = momentum * kept + g
        ahead = g + momentum * kept
        moves, at = [], 0
        for rows in parts:
            x = ahead[at : at + rows].copy()
            at += rows
            x /= np.sqrt((x**2).sum()) + 1e-7
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            moves.append(x * 0.2 * np.sqrt(max(x.shape)))
        w = w * (1 - lr * decay) - lr * np.concatenate(moves)
    return w


def test_muon_by_hand():
    """Three steps of three matrices, two of one shape and one in two parts, agree with the formulas."""
    rng = np.random.default_rng(0)
    shapes, parts = [(4, 6), (4, 6), (10, 6)], [(4,), (4,), (4, 6)]
    start = [rng.normal(size=s) for s in shapes]
    grads = [[rng.normal(size=s) for s in shapes] for _ in range(3)]
    weights = [nn.Parameter(torch.tensor(w, dtype=torch.float32)) for w in start]
    mine = optim.Muon(
        [{"params": weights, "lr": 0.1, "weight_decay": 0.5}], momentum=0.9, parts={weights[2]: (4, 6)}
    )  # fmt: skip
    for step in grads:
        for p, g in zip(weights, step, strict=True):
            p.grad = torch.tensor(g, dtype=torch.float32)
        mine.step()
    for i, p in enumerate(weights):
        expected = muon_by_hand(
            start[i], [step[i] for step in grads], lr=0.1, momentum=0.9, decay=0.5, parts=parts[i]
        )
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_muon_is_torchs():
    """torch.optim.Muon, where torch has it, moves a matrix alike; it computes in bfloat16."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    start = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = optim.Muon([{"params": [mine], "lr": 0.1, "weight_decay": 0.1}], momentum=0.95)
    other = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for seed in range(3):
        mine.grad = torch.randn(8, 20, generator=torch.Generator().manual_seed(seed + 1))
        theirs.grad = mine.grad.clone()
        ours.step()
        other.step()
    moved = (mine - start).norm()
    assert (mine - theirs).norm() < 0.02 * moved


def test_kinds_of_parameters():
    """Embeddings and heads are tables by what they are or are called; frozen parameters are nothing."""
    made = nn.ModuleDict({"wte": nn.Embedding(7, 4), "up": nn.Linear(4, 3), "lm_head": nn.Linear(4, 7, bias=False)})
    made["up"].bias.requires_grad_(False)
    matrices, tables, vectors = optim.kinds(made)
    assert [tuple(p.shape) for p in tables] == [(7, 4), (7, 4)]
    assert [tuple(p.shape) for p in matrices] == [(3, 4)]
    assert vectors == []
    made["up"].bias.requires_grad_(True)
    groups = optim.adamw(made, lr=0.1, embedding_lr=2.0, betas=(0.9, 0.95), weight_decay=0.3).param_groups
    assert [(g["peak"], g["weight_decay"]) for g in groups] == [(0.1, 0.3), (0.2, 0.0), (0.1, 0.0)]
    both = optim.muon(made, lr=0.1, embedding_lr=2.0, betas=(0.9, 0.95), weight_decay=0.3, momentum=0.9)
    assert [len(g["params"]) for o in both for g in o.param_groups] == [1, 2, 1]


def test_muon_learns():
    made = model.Decoder(TINY)
    result = loop.fit(made, loop.Training(optimizer="muon", lr=1e-2), stream(300, batch=8))
    assert result.tail() < 1.2
    with pytest.raises(ValueError, match="muon needs matrices"):
        optim.muon(nn.Embedding(3, 3), lr=1, embedding_lr=1, betas=(0.9, 0.9), weight_decay=0, momentum=0.9)


# --------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("micro", [12, 13, 24, 36, 60, 1000])
def test_parts_of_a_batch_are_the_batch(micro):
    """Rows count unequally, one not at all; the losses and the weights after 8 steps do not depend on the parts."""
    feed = Given(*weighted_batches(8))
    whole, apart = Bigram(), Bigram()
    one = loop.fit(whole, loop.Training(lr=0.1), feed)
    many = loop.fit(apart, loop.Training(lr=0.1, micro=micro), feed)
    np.testing.assert_allclose(many.losses, one.losses, rtol=1e-6)
    np.testing.assert_allclose(many.norms, one.norms, rtol=1e-5)
    torch.testing.assert_close(apart.table, whole.table, rtol=1e-4, atol=1e-6)


def test_parts_of_a_decoders_batch():
    runs = [loop.fit(model.Decoder(TINY), loop.Training(micro=micro), stream(20)) for micro in (None, 12, 36)]
    for run in runs[1:]:
        np.testing.assert_allclose(run.losses, runs[0].losses, rtol=1e-5)
        assert run.tokens == runs[0].tokens == 20 * 4 * 12


@pytest.mark.parametrize("settings", [{}, {"recompute": True}, {"z_loss": 1e-3}, {"optimizer": "muon"}], ids=str)
def test_parts_of_packed_rows(settings):
    """Documents, padding and prefixes included, by the model itself."""
    rng = np.random.default_rng(0)
    tokens = data.pack([rng.integers(1, 97, n) for n in rng.integers(1, 30, 80)], 0)
    feed = feeds.BestFit(tokens, context=12, batch=6, steps=12)
    runs = [loop.fit(model.Decoder(TINY), loop.Training(micro=m, **settings), feed) for m in (None, 12, 30)]
    for run in runs[1:]:
        np.testing.assert_allclose(run.losses, runs[0].losses, rtol=1e-5)
        np.testing.assert_allclose(run.norms, runs[0].norms, rtol=1e-4)
        assert run.tokens == sum(feed.batch(step).tokens for step in range(12))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_ranks_share_a_batch(count):
    """All parts of all ranks hold each row once, as many parts on each; their shares sum to 1."""
    batch = next(iter(weighted_batches(1, rows=4)))
    steps = []
    for rank in range(count):
        me = feeding.Ranks(rank, count)
        steps.append(feeding.Feeder(Given(batch), torch.device("cpu"), 97, micro=12, me=me).step(0, 1))
    assert len({len(step.parts) for step in steps}) == 1
    parts = [part for step in steps for part in step.parts]
    assert sum(part.share for part in parts) == pytest.approx(1)
    rows = [row for part in parts if part.share for row in part.tokens.tolist()]
    counting = [row.tolist() for row, w in zip(batch.ids[:, :-1], batch.weights, strict=True) if w.sum()]
    assert sorted(rows) == sorted(counting)
    assert all(step.tokens == int((batch.weights > 0).sum()) for step in steps)


def test_no_token_is_predicted_across_documents():
    """Two documents and padding: the first token of the second, and padding, count for nothing."""
    documents = np.array([[0, 0, 1, 1, -1]], dtype=np.int32)
    assert feeding.counting(Batch(np.ones((1, 5)), documents)).tolist() == [[1, 0, 1, 0]]
    weights = np.array([[0.5, 9, 2, 9]], dtype=np.float32)
    assert feeding.counting(Batch(np.ones((1, 5)), documents, weights)).tolist() == [[0.5, 0, 2, 0]]
    assert feeding.counting(Batch(np.ones((1, 5)), np.zeros((1, 5), dtype=np.int32))) is None
    assert feeding.counting(Batch(np.ones((1, 5)))) is None


def test_documents_reach_the_model():
    ids = np.arange(10).reshape(2, 5) % 7
    documents = np.array([[0, 0, 1, 1, 1], [0, 0, 0, -1, -1]], dtype=np.int32)
    made = Bigram()
    result = loop.fit(made, loop.Training(), Given(Batch(ids, documents)))
    assert made.seen[0].tolist() == documents[:, :-1].tolist()
    assert result.tokens == 3 + 2
    assert result.losses[0] == pytest.approx(math.log(97))


def test_batches_that_cannot_be():
    nothing = Batch(np.ones((2, 5), dtype=int), None, np.zeros((2, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="no token of step 0 counts"):
        loop.fit(Bigram(), loop.Training(), Given(nothing))
    with pytest.raises(ValueError, match="id 97 in step 0 is outside a vocabulary of 97"):
        loop.fit(Bigram(), loop.Training(), Given(Batch(np.full((2, 5), 97))))


# ---------------------------------------------------------------------------------------------------------------- loop


def test_only_what_asks_for_a_gradient_is_trained():
    made = Bigram()
    made.table.requires_grad_(False)
    loop.fit(made, loop.Training(), Given(*weighted_batches(3)))
    assert not made.table.any()
    assert made.bias.any()
    made.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        loop.fit(made, loop.Training(), Given(*weighted_batches(3)))


def test_where_the_loss_breaks():
    """Step and rate are named, in the middle of a line too."""
    batches = list(weighted_batches(6))
    made = Bigram()
    with pytest.raises(FloatingPointError, match=r"at step 2 of 6, learning rate 1.00e\+38; lower the learning rate"):
        loop.fit(made, loop.Training(lr=1e38, warmup=0), Given(*batches))


def test_lines_of_metrics(tmp_path):
    lines = []
    training = loop.Training(line=4, warmup=0.2)
    result = loop.fit(Bigram(), training, Given(*weighted_batches(10)), metrics=tmp_path / "m", watch=lines.append)
    kept = [json.loads(line) for line in (tmp_path / "m").read_text().splitlines()]
    assert [line["step"] for line in kept] == [4, 8, 10]
    assert kept[0]["loss"] == pytest.approx(result.losses[:4].mean(), rel=1e-6)
    assert kept[2]["grad_norm"] == pytest.approx(result.norms[8:].mean(), rel=1e-6)
    assert kept[2]["tokens"] == result.tokens
    assert kept[2]["lr"] == pytest.approx(0.5 * training.lr)  # the last of two falling steps
    assert [line.step for line in lines] == [4, 8, 10]
    assert lines[-1].seconds_left == 0 and lines[0].seconds_left > 0
    assert "step 10/10  loss" in metrics.shown(lines[-1])


def test_the_share_of_the_peak(monkeypatch):
    """A device of 1e9 FLOP/s: flops a token times tokens a second over that; a CPU's peak is not known."""
    made = model.Decoder(TINY)
    assert loop.fit(made, loop.Training(), stream(3)).mfu is None
    monkeypatch.setattr(hardware, "peak", lambda device, precision: 1e9)
    result = loop.fit(made, loop.Training(), stream(3))
    assert result.mfu == pytest.approx(made.flops_per_token * result.tokens_per_second / 1e9)


def test_dropout_is_drawn_from_seed_and_step():
    """Whatever was drawn before, and it leaves torch's generator as it was."""
    torch.manual_seed(1)
    feed = Given(*weighted_batches(5))
    first = loop.fit(Bigram(0.5), loop.Training(), feed, seed=3)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    assert loop.fit(Bigram(0.5), loop.Training(), feed, seed=3).losses.tobytes() == first.losses.tobytes()
    assert loop.fit(Bigram(0.5), loop.Training(), feed, seed=4).losses.tobytes() != first.losses.tobytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "sgd"}, "optimizer 'sgd' does not exist"),
        ({"parallel": "pipeline"}, "parallel 'pipeline' does not exist"),
        ({"schedule": "square"}, "schedule 'square' does not exist"),
        ({"micro": 0}, "at least 1"),
        ({"recompute": True}, "Bigram cannot compute activations again"),
        ({"keep_every": 3}, "name one"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        loop.fit(Bigram(), loop.Training(**settings), Given(*weighted_batches(3)))


def test_more_steps_than_the_feed_has():
    with pytest.raises(ValueError, match="a run of 9 steps reads a feed of 3"):
        loop.fit(Bigram(), loop.Training(), Given(*weighted_batches(3)), steps=9)


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{}, {"optimizer": "muon", "micro": 30}, {"recompute": True}], ids=str)
def test_a_gpu_reads_the_same_feed(settings, tmp_path):
    """Batches made ahead by a thread, pinned and sent, are those that a CPU computes; a run goes on there too."""
    rng = np.random.default_rng(0)
    tokens = data.pack([rng.integers(1, 97, n) for n in rng.integers(1, 30, 80)], 0)
    feed = feeds.BestFit(tokens, context=12, batch=6, steps=12)
    here = loop.fit(model.Decoder(TINY), loop.Training(**settings), feed)
    there = loop.Training(device="cuda", **settings)
    loop.fit(model.Decoder(TINY), there, feed, stop=7, checkpoint=tmp_path / "run.safetensors")
    result = loop.fit(model.Decoder(TINY), there, feed, checkpoint=tmp_path / "run.safetensors")
    np.testing.assert_allclose(result.losses, here.losses, rtol=5e-3)
    assert result.tokens == here.tokens


# ---------------------------------------------------------------------------------------------- averages, evaluations


def test_averaged_weights_are_the_mean_of_the_late_states():
    """40 steps, the last 20 fall, states at 38, 39 and 40 and so on: the mean of runs that stop there."""
    training = loop.Training(decay=0.5, average=3)
    assert training.over(40).late(3) == [37, 38, 40]
    states = []
    for stop in (37, 38, 40):
        made = model.Decoder(TINY)
        loop.fit(made, loop.Training(decay=0.5), stream(40), stop=stop)
        states.append(made.blocks[0].qkv.weight.detach())
    averaged = model.Decoder(TINY)
    loop.fit(averaged, training, stream(40))
    torch.testing.assert_close(averaged.blocks[0].qkv.weight.detach(), torch.stack(states).mean(0))


def test_evaluations_of_late_states():
    rows = torch.from_numpy(IDS[:130].astype(np.int64)).view(10, 13)

    def evaluate(made):
        assert not made.training
        return made.nats(rows[:, :-1], rows[:, 1:]).mean(1)

    several = loop.fit(model.Decoder(TINY), loop.Training(decay=0.5), stream(40), evaluate=evaluate, evaluations=3)
    assert list(several.evaluations) == [37, 38, 40]
    last = loop.fit(model.Decoder(TINY), loop.Training(decay=0.5), stream(40), evaluate=evaluate)
    np.testing.assert_array_equal(several.evaluations[40], last.evaluations[40])
    np.testing.assert_allclose(several.evaluation, np.mean(list(several.evaluations.values()), axis=0))
    assert several.losses.tobytes() == last.losses.tobytes(), "looking at a run changes it"
