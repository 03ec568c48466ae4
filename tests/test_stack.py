"""Replicas in lockstep: what each learns is what it learns alone, whatever happens to the others."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_loop import Given, some_ids
from test_train_model import assert_same, gradients, needs_compiler, random_model, random_rows

from curate.train import feeding, feeds, lockstep, loop, lora, model, optim, stack, stacked
from curate.train.data import pack
from curate.train.feed import Batch
from curate.train.hardware import autocast
from curate.train.presets import PRESETS

CPU = torch.device("cpu")
SHAPES = {
    "tied": model.Config(vocab=97, width=16, layers=2, heads=2, hidden=24, context=12),
    "untied": model.Config(vocab=97, width=24, layers=2, heads=3, hidden=40, context=12, tied=False),
    "qk_norm": model.Config(vocab=97, width=16, layers=2, heads=2, hidden=24, context=12, qk_norm=True),
}
TINY = SHAPES["tied"]
TRAINING = loop.Training(lr=3e-3, clip=0.5, line=7)
STEPS = 20
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))


def decoders(shape=TINY, seeds=(0, 1, 2)):
    return [model.Decoder(shape, seed=seed) for seed in seeds]


def streams(steps=STEPS, count=3, batch=4):
    """A text and an order of its own for each."""
    return [feeding.StreamFeed(some_ids(1500, seed=i), TINY.context, batch, i, steps) for i in range(count)]


def weighted(seed, count=5, documents=False, rows=4):
    """Batches in which tokens count unequally, some rows not at all, and not alike in all replicas."""
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(count):
        weights = (rng.random((rows, 12)) * (rng.random((rows, 12)) < 0.6)).astype(np.float32)
        weights[rng.integers(rows)] = 0
        weights[rng.integers(rows)] = 3
        ends = np.sort(rng.integers(0, 3, (rows, 13)), axis=1).astype(np.int32)
        ends[:, 11:] = -1
        batches.append(Batch(rng.integers(0, 97, (rows, 13)), ends if documents else None, weights))
    return Given(*batches, steps=STEPS)


def alone(models, training, feeds, **more):
    """What ``loop.fit`` makes of copies of the models."""
    return [
        loop.fit(copy.deepcopy(one), training, feed, **more) for one, feed in zip(models, feeds, strict=True)
    ]  # fmt: skip


def assert_runs(ours, theirs, tolerance=1e-5):
    """Losses, norms and weights are the same; and norms show whether gradients were clipped."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(one.norms, other.norms, rtol=tolerance, atol=tolerance)
        assert (one.tokens, one.epochs) == (other.tokens, other.epochs)
        assert_same(
            {name: p.detach() for name, p in other.model.named_parameters()},
            {name: p.detach() for name, p in one.model.named_parameters()}, rtol=tolerance, atol=tolerance,
        )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- the model


@each_shape
@pytest.mark.parametrize("documents", [False, True], ids=["plain", "documents"])
def test_one_replica_is_the_model(shape, documents):
    plain = random_model(shape)
    one = stacked.Stacked([plain])
    assert {n: (1, *p.shape) for n, p in plain.named_parameters()} == {n: p.shape for n, p in one.named_parameters()}
    tokens, targets = random_rows(5, 12), random_rows(5, 12, seed=4)
    within = torch.tensor([[0] * 5 + [1] * 4 + [-1] * 3] * 5, dtype=torch.int32) if documents else None
    weights = torch.rand((5, 12), generator=torch.Generator().manual_seed(1)) * (tokens > 30)
    torch.testing.assert_close(one(tokens, within), plain(tokens, within), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.logits(tokens, within), plain.logits(tokens, within), rtol=1e-5, atol=1e-5)
    asked = tokens > 20
    torch.testing.assert_close(one.nats(tokens, targets, within, asked), plain.nats(tokens, targets, within, asked))
    for z_loss in (0.0, 1e-2):
        ours = one.mean_nats(one(tokens, within), targets, weights, z_loss=z_loss)
        theirs = plain.mean_nats(plain(tokens, within), targets, weights, z_loss=z_loss)
        torch.testing.assert_close(ours, theirs.reshape(1), rtol=1e-6, atol=1e-6)
        expected = {name: grad[None] for name, grad in gradients(plain, theirs).items()}
        assert_same(expected, gradients(one, ours.sum()), rtol=1e-5, atol=1e-6)


@each_shape
def test_replicas_are_the_models(shape):
    """Values and gradients of each, with heads in blocks of which the last is short; and none depends on another."""
    plain = [random_model(shape, seed=seed) for seed in range(3)]
    three = stacked.Stacked(plain)
    tokens, targets = random_rows(3 * 21, 12), random_rows(3 * 21, 12, seed=4)
    assert 21 * 12 % stacked._rows(3, 97, "cpu", False)
    losses = three.mean_nats(three(tokens), targets)
    theirs = [m.mean_nats(m(x), y) for m, x, y in zip(plain, tokens.chunk(3), targets.chunk(3), strict=True)]
    torch.testing.assert_close(losses, torch.stack(theirs), rtol=1e-6, atol=1e-6)
    ours = gradients(three, losses.sum())
    for r, (one, loss) in enumerate(zip(plain, theirs, strict=True)):
        assert_same(gradients(one, loss), {name: grad[r] for name, grad in ours.items()}, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        for p in three.parameters():
            p[1] = torch.nan
    spoilt = three.mean_nats(three(tokens), targets)
    assert spoilt[[0, 2]].tolist() == losses[[0, 2]].tolist()
    assert spoilt[1].isnan()
    again = gradients(three, spoilt.sum())
    assert all(torch.equal(again[name][[0, 2]], grad[[0, 2]]) for name, grad in ours.items())


def test_the_formula_for_a_compiler_is_the_softmax():
    logits, targets = torch.randn((2, 9, 31)) * 3, torch.randint(0, 31, (2, 9))
    for weight in (None, torch.rand((2, 9))):
        plain = stacked._softmax(logits.clone(), targets, weight, 1e-2)
        for ours, theirs in zip(stacked._formula(logits, targets, weight, 1e-2), plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_tables_stay_tables_and_matrices_matrices():
    for shape, count in ((TINY, 1), (SHAPES["untied"], 2)):
        matrices, tables, vectors = optim.kinds(stacked.Stacked(decoders(shape)))
        assert [len(tables), len(matrices), len(vectors)] == [count, 8, 0]


def test_other_shapes_are_no_stack_and_nothing_random_is_drawn():
    with pytest.raises(ValueError, match="2 shapes cannot be stacked"):
        stacked.Stacked([*decoders(), model.Decoder(SHAPES["qk_norm"])])
    three = decoders()
    before = torch.get_rng_state()
    stacked.Stacked(three)
    assert torch.equal(torch.get_rng_state(), before)


def test_clipping_is_each_replicas_own():
    p, q = torch.zeros(3, 2, 2), torch.zeros(3, 5)
    p.grad, q.grad = torch.randn(3, 2, 2), torch.randn(3, 5)
    p.grad[0] *= 0.01
    q.grad[0] *= 0.01
    p.grad[2] *= torch.nan
    own = [[torch.zeros_like(x[r]) for x in (p, q)] for r in range(3)]
    for r, some in enumerate(own):
        for mine, x in zip(some, (p, q), strict=True):
            mine.grad = x.grad[r].clone()
    norms = [torch.nn.utils.clip_grad_norm_(some, 0.5) for some in own]
    torch.testing.assert_close(lockstep.clip([p, q], 0.5), torch.stack(norms), equal_nan=True)
    assert norms[0] < 0.5 < norms[1]
    for i, x in enumerate((p, q)):
        torch.testing.assert_close(x.grad, torch.stack([some[i].grad for some in own]), equal_nan=True)


# ------------------------------------------------------------------------------------------------------------ the runs


@each_shape
def test_three_runs_in_lockstep_are_three_runs(shape):
    models, given = decoders(shape), streams()
    free = alone(models, replace(TRAINING, clip=1e9), given)
    training = replace(TRAINING, clip=float(np.median([run.norms for run in free])))
    theirs = alone(models, training, given)
    clipped = [tuple(run.norms > training.clip) for run in theirs]
    assert len(set(clipped)) > 1                                        # clipping is active, and not alike in all
    assert 0.2 < np.mean(clipped) < 0.8
    assert_runs(stack.fit(models, training, given), theirs)


@pytest.mark.parametrize("documents", [False, True], ids=["weights", "documents"])
@pytest.mark.parametrize("micro", [None, 24], ids=["whole", "parts"])
def test_weights_documents_and_parts(documents, micro):
    """Replicas of which one knows no weights, parts of unequal shares, a penalty, activations computed again."""
    training = replace(TRAINING, micro=micro, z_loss=1e-3, recompute=True)
    given = [weighted(0, documents=documents), weighted(1), Given(*(Batch(b.ids) for b in weighted(2).batches))]
    given[2].steps = STEPS
    models = decoders()
    theirs = alone(models, training, given)
    ours = stack.fit(models, training, given)
    assert_runs(ours, theirs)
    assert ours[0].tokens < ours[2].tokens == STEPS * 48


def test_packed_documents():
    texts = [pack([some_ids(n, seed=n) for n in range(3, 60, 2 + i)], separator=0) for i in range(3)]
    given = [feeds.BestFit(t, context=12, batch=4, steps=STEPS, seed=i) for i, t in enumerate(texts)]
    models = decoders()
    theirs = alone(models, TRAINING, given)
    assert_runs(stack.fit(models, TRAINING, given), theirs)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_may_have_its_own_rate(optimizer):
    """Two share one; a schedule of another length than the feeds'."""
    training, rates = replace(TRAINING, optimizer=optimizer), [3e-3, 1e-3, 3e-3]
    models, given = decoders(SHAPES["untied"]), streams(steps=30)
    theirs = [
        loop.fit(copy.deepcopy(m), replace(training, lr=rate), f, steps=STEPS)
        for m, f, rate in zip(models, given, rates, strict=True)
    ]
    assert_runs(stack.fit(models, training, given, lr=rates, steps=STEPS), theirs, tolerance=2e-5)
    assert_runs(stack.fit(decoders(), training, given, steps=STEPS), alone(decoders(), training, given, steps=STEPS))


def test_averages_and_evaluations():
    """Of states near the end, or of the model as it is returned."""
    def measure(one):
        assert not one.training
        tokens = random_rows(3, 12)
        return one.nats(tokens, tokens.roll(1, 1)).mean(1).numpy()

    for training, evaluations in ((replace(TRAINING, average=3), 1), (TRAINING, 3)):
        models, given = decoders(), streams()
        theirs = alone(models, training, given, evaluate=measure, evaluations=evaluations)
        ours = stack.fit(models, training, given, evaluate=measure, evaluations=evaluations)
        assert_runs(ours, theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert list(one.evaluations) == list(other.evaluations)
            np.testing.assert_allclose(one.evaluation, other.evaluation, rtol=1e-5)


def test_half_precision_is_that_of_the_loop():
    training = replace(TRAINING, precision="bfloat16")
    models, given = decoders(), streams()
    for one, other in zip(stack.fit(models, training, given), alone(decoders(), training, given), strict=True):
        np.testing.assert_allclose(one.losses, other.losses, atol=0.02)
    with autocast(CPU, "bfloat16"):
        three = stacked.Stacked(models)
        assert three(random_rows(6, 12)).dtype == torch.float32


def test_lines_and_shares():
    lines = []
    models, given = decoders(), streams()
    results = stack.fit(models, TRAINING, given, watch=lines.append)
    assert [line.step for line in lines] == [7, 14, 20]
    assert lines[-1].tokens == sum(r.tokens for r in results) == 3 * STEPS * 48
    assert lines[0].loss == pytest.approx(np.mean([r.losses[:7] for r in results]))
    assert lines[-1].lr == TRAINING.lr * TRAINING.over(STEPS).factor(STEPS - 1)
    assert lines[-1].seconds_left == 0
    assert len({r.seconds for r in results}) == len({r.cpu_seconds for r in results}) == 1
    assert results[0].model is models[0]
    assert results[0].mfu is None


# ------------------------------------------------------------------------------------------------------------ breaking


def test_a_replica_that_diverges_is_named_and_harms_no_other():
    models, given = decoders(), streams()
    with torch.no_grad():
        models[1].blocks[0].qkv.weight[0, 0] = torch.inf
    before = copy.deepcopy(models[1].state_dict())
    theirs = alone([models[0], models[2]], TRAINING, [given[0], given[2]])
    with pytest.raises(stack.Diverged, match=r"^arm b, seed 1: the loss is no longer a number at step 1 of 20") as told:
        stack.fit(models, TRAINING, given, names=["arm a", "arm b, seed 1", "arm c"])
    assert told.value.results[1] is None
    assert_runs([told.value.results[0], told.value.results[2]], theirs)
    assert isinstance(told.value, FloatingPointError)

    models[1].load_state_dict(before)
    weights = {name: p.clone() for name, p in models[0].named_parameters()}
    with pytest.raises(stack.Diverged, match="replica 2 of 3: the loss") as told:
        stack.fit(models, TRAINING, given, patient=False)
    assert told.value.results == [None] * 3
    assert all(torch.equal(p, weights[name]) for name, p in models[0].named_parameters())   # stopped: as it was


def test_where_all_diverge_it_ends():
    lines = []
    with pytest.raises(stack.Diverged, match=r"replica 1 of 2: .* replica 2 of 2: "):
        stack.fit(decoders(seeds=(0, 1)), replace(TRAINING, lr=1e30), streams(200, 2), watch=lines.append)
    assert not lines


def test_what_cannot_be_stacked_says_why():
    models, given = decoders(), streams()
    adapted = decoders(seeds=(0,))[0]
    lora.attach(adapted, lora.Lora())
    frozen = decoders(seeds=(0,))[0]
    frozen.embedding.weight.requires_grad = False
    cases = [
        ([*models[:2], model.Decoder(SHAPES["qk_norm"])], TRAINING, given, "shapes differ"),
        ([*models[:2], adapted], TRAINING, given, "plain decoders"),
        ([*models[:2], frozen], TRAINING, given, "plain decoders"),
        (models, TRAINING, [*given[:2], *streams(21, 1)], "different numbers of steps"),
        (models, replace(TRAINING, keep_every=3), given, "keep_every"),
    ]
    for some, training, feed, why in cases:
        assert why in stack.apart(some, training, feed)
        with pytest.raises(ValueError, match=f"cannot be stacked: .*{why}"):
            stack.fit(some, training, feed)
    assert stack.apart(models, TRAINING, given) is None
    with pytest.raises(ValueError, match="3 models and 2 feeds"):
        stack.together(models, TRAINING, given[:2])
    with pytest.raises(ValueError, match="2 learning rates for 3 replicas"):
        stack.fit(models, TRAINING, given, lr=[1, 2])
    with pytest.raises(ValueError, match="1 names for 3 replicas"):
        stack.fit(models, TRAINING, given, names=["a"])
    with pytest.raises(ValueError, match="40 steps reads feeds of 20"):
        stack.fit(models, TRAINING, given, steps=40)
    wrong = Given(Batch(np.full((4, 13), 97)), steps=STEPS)
    with pytest.raises(ValueError, match="replica 3 of 3: token id 97 in step 0"):
        stack.fit(models, TRAINING, [*given[:2], wrong])


# ----------------------------------------------------------------------------------------------- stacked, or one by one


def test_it_pays_on_a_gpu_that_one_replica_does_not_fill():
    """The rule, as it is derived: width and tokens of a step."""
    small, screen, large = PRESETS["5M"].shape, PRESETS["screen"], PRESETS["deep"].shape
    assert stack.pays(small, replicas=9, tokens=8_192, device="cuda")
    assert stack.pays(small, replicas=2, tokens=16_384, device="cuda:1")
    assert not stack.pays(small, replicas=9, tokens=8_192, device="cpu")
    assert not stack.pays(small, replicas=1, tokens=8_192, device="cuda")
    assert not stack.pays(large, replicas=9, tokens=8_192, device="cuda")
    assert not stack.pays(screen.shape, replicas=9, tokens=screen.batch * screen.shape.context, device="cuda")


@pytest.fixture
def calls(monkeypatch):
    """How many runs each stack held, and 1 for each run alone."""
    seen = []
    for module, name, size in ((loop, "fit", lambda m: 1), (stack, "fit", len)):
        original = getattr(module, name)

        def noted(models, *args, _original=original, _size=size, **more):
            seen.append(_size(models))
            return _original(models, *args, **more)

        monkeypatch.setattr(module, name, noted)
    return seen


def test_together_stacks_where_it_pays(calls, monkeypatch):
    theirs = alone(decoders(), TRAINING, streams())
    calls.clear()
    assert_runs(stack.together(decoders(), TRAINING, streams()), theirs)                    # a CPU
    assert calls == [1, 1, 1]
    calls.clear()
    assert_runs(stack.together(decoders(), TRAINING, streams(), on=True), theirs)
    assert calls == [3]
    calls.clear()
    monkeypatch.setattr(stack, "pays", lambda *args, **more: True)
    assert_runs(stack.together(decoders(), TRAINING, streams(), on=False), theirs)
    assert calls == [1, 1, 1]
    calls.clear()
    monkeypatch.setattr(stack, "FULL", 2 * 48)
    assert_runs(stack.together(decoders(), TRAINING, streams()), theirs)                    # cut: no more than two
    assert calls == [2, 1]
    with pytest.raises(ValueError, match="on='no'"):
        stack.together(decoders(), TRAINING, streams(), on="no")


def test_together_falls_back(calls):
    """Shapes that differ, feeds that differ in length, and batches that turn out to differ on the way."""
    shapes = [*decoders(seeds=(0, 1)), model.Decoder(SHAPES["untied"])]
    assert_runs(stack.together(shapes, TRAINING, streams(), on=True), alone(shapes[:0], TRAINING, []) + [
        loop.fit(m, TRAINING, f)
        for m, f in zip([*decoders(seeds=(0, 1)), model.Decoder(SHAPES["untied"])], streams(), strict=True)
    ])  # fmt: skip
    assert calls == [1] * 6
    calls.clear()
    rates = [1e-3, 2e-3, 3e-3]
    lengths = [*streams(count=2), *streams(9, 1)]
    ours = stack.together(decoders(), TRAINING, lengths, on=True, lr=rates)
    assert [len(run.losses) for run in ours] == [STEPS, STEPS, 9]
    assert calls == [1] * 3
    theirs = [loop.fit(m, replace(TRAINING, lr=r), f) for m, f, r in zip(decoders(), lengths, rates, strict=True)]
    assert_runs(ours, theirs)

    calls.clear()
    late = weighted(2)
    late.batches = [*late.batches[:3], *weighted(2, rows=3).batches]
    given = [weighted(0), weighted(1), late]
    models = decoders()
    ours = stack.together(models, TRAINING, given, on=True, evaluate=lambda m: np.zeros(1))
    assert calls == [3, 1, 1, 1]
    assert_runs(ours, alone(decoders(), TRAINING, given))


def test_together_tells_who_diverged(calls):
    rates = [3e-3, 1e30, 3e-3]
    for on, held in ((True, [3]), (False, [1, 1, 1])):
        calls.clear()
        with pytest.raises(stack.Diverged, match=r"^b: the \w+ is no longer a number at step \d+ of 20") as told:
            stack.together(decoders(), TRAINING, streams(), on=on, lr=rates, names=["a", "b", "c"])
        assert calls == held
        assert [result is None for result in told.value.results] == [False, True, False]
        calls.clear()
        with pytest.raises(stack.Diverged, match=r"^b: ") as told:
            stack.together(decoders(), TRAINING, streams(), on=on, lr=rates, names=["a", "b", "c"], patient=False)
        assert calls == (held if on else [1, 1])
        assert len(told.value.results) == 3


# ------------------------------------------------------------------------------------------------- compiled, on a GPU


@pytest.mark.slow
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")  # torch's compiler's own
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_runs_are_the_same(precision):
    """All layers are one graph, and with documents, which need a mask, another; the loss has a penalty."""
    training = replace(TRAINING, precision=precision, z_loss=1e-3)
    tolerance = 1e-4 if precision == "float32" else 0.02
    for given in (streams(), [weighted(i, documents=True) for i in range(3)]):
        ours = stack.fit(decoders(), replace(training, compile=True), given)
        for one, other in zip(ours, alone(decoders(), training, given), strict=True):
            np.testing.assert_allclose(one.losses, other.losses, atol=tolerance)


WIDE = replace(TINY, width=64, hidden=96, qk_norm=True)  # heads of 32; TINY's are too small for flex attention


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")
@pytest.mark.parametrize("shape", [TINY, WIDE], ids=["small", "wide"])
@pytest.mark.parametrize("documents", [False, True], ids=["plain", "documents"])
@pytest.mark.parametrize("more", [{}, {"compile": True}, {"optimizer": "muon", "micro": 24}], ids=str)
def test_three_runs_in_lockstep_on_a_gpu(shape, documents, more):
    """Batches that a thread makes ahead, pinned and sent; as on the GPU alone, and as on a CPU."""
    given = [weighted(i, documents=True) for i in range(3)] if documents else streams()
    on_gpu = replace(TRAINING, device="cuda", **more)
    ours = stack.fit(decoders(shape), on_gpu, given)
    here = {name: value for name, value in more.items() if name != "compile"}
    for theirs in (alone(decoders(shape), on_gpu, given), alone(decoders(shape), replace(TRAINING, **here), given)):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one.losses, other.losses, rtol=5e-3)
            assert one.tokens == other.tokens


@pytest.mark.gpu
def test_together_stacks_on_a_gpu(calls):
    training = replace(TRAINING, device="cuda", precision="bfloat16")
    ours = stack.together(decoders(), training, streams())
    assert calls == [3]
    for one, other in zip(ours, alone(decoders(), training, streams()), strict=True):
        np.testing.assert_allclose(one.losses, other.losses, atol=0.02)
        assert one.model.embedding.weight.device.type == "cuda"
