"""The small trainer: a Llama to the letter, resumable bit by bit, and losses that do not depend on company."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.train import attention, checkpoint, crossentropy, data, hardware, loop, model, optim, schedule, score

TINY = model.Config(vocab=97, width=16, layers=2, heads=2, hidden=24, context=12)
SHORT = loop.Training(tokens=12 * 4 * 30, batch=4, checkpoint_every=7)


def random_model(config: model.Config = TINY, seed: int = 0) -> model.Decoder:
    """A decoder with no zero matrices, so that every part has a say."""
    made = model.Decoder(config, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0.0, 0.3, generator=generator)
    return made


def some_ids(n: int, seed: int = 0, vocab: int = 97) -> np.ndarray:
    """Ids with something to learn: mostly each is twice the one before plus one."""
    rng = np.random.default_rng(seed)
    ids = np.empty(n, dtype=np.uint16)
    ids[0] = 1
    for i in range(1, n):
        ids[i] = (2 * int(ids[i - 1]) + 1) % vocab if rng.random() < 0.9 else rng.integers(vocab)
    return ids


# --------------------------------------------------------------------------------------------------------------- model


def test_gradients_are_those_of_the_formulas(monkeypatch):
    """What is written out by hand (norm, gate, head) agrees with autograd on the plain formulas."""
    monkeypatch.setattr(crossentropy, "ROWS", 7)
    ours = random_model()
    rows = torch.randint(0, 97, (3, 13), generator=torch.Generator().manual_seed(3))
    by_hand = ours.mean_nats(ours(rows[:, :-1]), rows[:, 1:])
    by_hand.backward()
    grads = {name: p.grad.clone() for name, p in ours.named_parameters()}
    ours.zero_grad()
    plain_norm = lambda x, eps: x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)  # noqa: E731
    monkeypatch.setattr(model, "rms_norm", plain_norm)
    monkeypatch.setattr(model, "swiglu", lambda x: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1])
    plain = F.cross_entropy(ours.logits(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
    plain.backward()
    torch.testing.assert_close(by_hand, plain)
    for name, p in ours.named_parameters():
        torch.testing.assert_close(grads[name], p.grad, rtol=1e-4, atol=1e-6)


def test_both_ways_to_rotate_agree(monkeypatch):
    turns = random_model().turns
    x = torch.randn(2, 12, 2, 2, 8, generator=torch.Generator().manual_seed(0))
    complex_product = attention.rotate(x, turns)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(attention.rotate(x, turns), complex_product)


def test_a_rotated_product_knows_distances_only():
    """q at m and k at n meet in a product that depends on m - n alone (Su et al. 2021, section 3.1)."""
    turns = random_model().turns
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    both = torch.stack((q, k))[None, None, :, None].expand(1, 12, 2, 2, 8)
    turned = attention.rotate(both, turns)[0, :, :, 0]
    products = turned[:, 0] @ turned[:, 1].T
    torch.testing.assert_close(products[5, 3], products[9, 7], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(products[0, 0], q @ k, rtol=1e-5, atol=1e-5)


def test_both_ways_to_attend_agree():
    q, k, v = torch.randn(3, 2, 3, 7, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attention.by_formula(q, k, v), attention.attend(q, k, v))


def test_no_token_sees_the_future():
    ours = random_model()
    rows = torch.randint(0, 97, (1, 13), generator=torch.Generator().manual_seed(3))
    other = rows.clone()
    other[0, 8:] = (other[0, 8:] + 1) % 97
    before, after = (ours.nats(r[:, :-1], r[:, 1:])[0, :7] for r in (rows, other))
    torch.testing.assert_close(before, after)


def test_weights_come_from_the_seed_alone():
    torch.manual_seed(5)
    first = model.Decoder(TINY, seed=1)
    torch.manual_seed(6)
    again, other = model.Decoder(TINY, seed=1), model.Decoder(TINY, seed=2)
    assert torch.equal(first.embedding.weight, again.embedding.weight)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    assert first.weights == 97 * 16 + 2 * (4 * 16 * 16 + 3 * 16 * 24)


@pytest.mark.parametrize("wrong", [{"width": 18, "heads": 4}, {"layers": 0}, {"vocab": 0}])
def test_a_shape_that_is_none(wrong):
    with pytest.raises(ValueError, match="no decoder"):
        model.Config(**{"vocab": 97, **wrong})


def test_too_many_positions():
    with pytest.raises(ValueError, match="do not fit a context of 12"):
        random_model()(torch.zeros((1, 13), dtype=torch.int64))


# ---------------------------------------------------------------------------------------------------------------- data


def test_documents_stand_behind_separators():
    packed = data.pack([[5, 6], [], [7]], separator=9)
    assert packed.ids.tolist() == [9, 5, 6, 9, 9, 7]
    assert packed.offsets.tolist() == [0, 3, 4, 6]
    assert packed.lengths.tolist() == [2, 0, 1]
    assert packed.ids.dtype == np.uint16
    assert data.pack([[70_000]], 0).ids.dtype == np.uint32
    assert data.pack([], 0).lengths.tolist() == []


@pytest.mark.parametrize(
    ("count", "offsets"),
    [(6, [0, 3, 4, 6]), (99, [0, 3, 4, 6]), (5, [0, 3, 4, 5]), (4, [0, 3, 4]), (2, [0, 2]), (0, [0])],
)
def test_the_first_tokens(count, offsets):
    cut = data.pack([[5, 6], [], [7]], separator=9).first(count)
    assert cut.offsets.tolist() == offsets
    assert len(cut.ids) == offsets[-1]


def test_tokens_as_files(tmp_path):
    packed = data.pack([[5, 6], [7]], separator=9)
    packed.save(tmp_path)
    opened = data.Tokens.open(tmp_path)
    assert opened.ids.tolist() == packed.ids.tolist()
    assert opened.offsets.tolist() == packed.offsets.tolist()


@given(ids=st.integers(9, 300), context=st.integers(1, 8), batch=st.integers(1, 7), seed=st.integers(0, 99))
def test_an_epoch_holds_every_window_once(ids, context, batch, seed):
    order = data.Order(ids, context, batch, seed)
    steps = -(-3 * order.windows // batch)
    seen = np.concatenate([order.starts(step) for step in range(steps)])[: 3 * order.windows]
    for epoch in seen.reshape(3, -1):
        assert sorted(epoch.tolist()) == list(range(0, order.windows * context, context))
    assert int(seen.max()) + context + 1 <= ids
    backwards = data.Order(ids, context, batch, seed)
    assert all(
        (backwards.starts(step) == order.starts(step)).all() for step in reversed(range(steps))
    ), "the order of a step depends on what was asked before"


def test_too_little_text():
    with pytest.raises(ValueError, match="12 ids do not fill a window of 12"):
        loop.train(TINY, SHORT, some_ids(12))


# ------------------------------------------------------------------------------------------------------------ schedule


def test_warm_up_constant_linear_to_zero():
    """100 steps, 5 % up, the last 20 % down: 1/5 at first, 1 from the fifth step to the 81st, 1/20 at last."""
    wsd = schedule.Schedule(steps=100, warmup=5, decay=20)
    rates = [wsd.factor(step) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:81] == [1.0] * 76
    assert rates[81:] == pytest.approx([k / 20 for k in range(19, 0, -1)])
    assert schedule.Schedule(steps=100).factor(0) == 1.0


def test_embeddings_learn_faster_and_are_not_decayed():
    groups = optim.adamw(random_model(), lr=0.1, embedding_lr=4.0, betas=(0.9, 0.95), weight_decay=0.3).param_groups
    assert [(len(g["params"]), g["peak"], g["weight_decay"]) for g in groups] == [(8, 0.1, 0.3), (1, 0.4, 0.0)]


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        (loop.Training(tokens=1000, batch=4), 21),  # 48 tokens a step
        (loop.Training(tokens=1008, batch=4), 21),
        (loop.Training(epochs=2.0, batch=4), 50),  # 100 windows, 4 a step
        (loop.Training(epochs=0.001, batch=4), 1),
    ],
)
def test_a_budget_is_whole_steps(training, steps):
    assert training.steps(context=12, windows=100) == steps


# ---------------------------------------------------------------------------------------------------------------- loop


def test_it_learns():
    """Nine of ten ids follow from the one before: the best loss is about 0.9 ln(1/0.9) + 0.1 ln(97/0.1) = 0.78."""
    result = loop.train(TINY, loop.Training(tokens=60_000, batch=8, lr=1e-2), some_ids(40_000))
    assert result.losses[0] == pytest.approx(math.log(97), rel=0.02)
    assert 0.7 < result.tail() < 1.1
    assert result.tokens == 625 * 8 * 12
    assert result.tokens_per_cpu_second > 0


def test_a_killed_run_continues_bit_by_bit(tmp_path):
    """The curve and the weights of a run that was killed are those of one that was left alone."""
    ids = some_ids(2000)
    whole = loop.train(TINY, SHORT, ids, seed=3, metrics=tmp_path / "whole.jsonl")

    def kill(done: int, steps: int, loss: float) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    saved = tmp_path / "run" / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        loop.train(TINY, SHORT, ids, seed=3, checkpoint=saved, metrics=tmp_path / "killed.jsonl", progress=kill)
    assert saved.exists()
    steps_done = []
    again = loop.train(
        TINY, SHORT, ids, seed=3, checkpoint=saved, metrics=tmp_path / "killed.jsonl",
        progress=lambda done, steps, loss: steps_done.append(done),
    )  # fmt: skip
    assert steps_done[0] == 20, "it began after step 14, the last checkpoint"
    assert len(whole.losses) == 30
    assert again.losses.tobytes() == whole.losses.tobytes()
    for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "killed.jsonl").read_text() == (tmp_path / "whole.jsonl").read_text()
    lines = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[0]["loss"] == pytest.approx(float(whole.losses[:10].mean()))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    ids = some_ids(2000)
    saved = tmp_path / "checkpoint.safetensors"
    loop.train(TINY, SHORT, ids, seed=3, checkpoint=saved)
    with pytest.raises(ValueError, match="another run \\(other initial weights, seed\\)"):
        loop.train(TINY, SHORT, ids, seed=4, checkpoint=saved)
    with pytest.raises(ValueError, match="another run \\(other text\\)"):
        loop.train(TINY, SHORT, some_ids(2000, seed=1), seed=3, checkpoint=saved)


def test_a_finished_run_is_not_run_again(tmp_path):
    ids = some_ids(2000)
    saved = tmp_path / "checkpoint.safetensors"
    training = loop.Training(tokens=12 * 4 * 20, batch=4, checkpoint_every=20)
    whole = loop.train(TINY, training, ids, checkpoint=saved)
    again = loop.train(TINY, training, ids, checkpoint=saved, progress=lambda *_: pytest.fail("it trained"))
    assert again.losses.tobytes() == whole.losses.tobytes()


def test_finetuning_starts_from_weights_with_a_new_optimizer(tmp_path):
    ids = some_ids(2000)
    before = loop.train(TINY, SHORT, ids)
    checkpoint.save(before.model, tmp_path, separator=7)
    assert checkpoint.read_about(tmp_path)["separator"] == 7
    after = loop.train(TINY, SHORT, ids, seed=9, init=tmp_path)
    order = data.Order(len(ids), TINY.context, SHORT.batch, 9)
    windows = torch.from_numpy(ids[order.starts(0)[:, None] + np.arange(13)].astype(np.int64))
    expected = before.model.nats(windows[:, :-1], windows[:, 1:]).mean()
    assert float(after.losses[0]) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(ValueError, match="has the shape"):
        loop.train(model.Config(vocab=97, width=32), SHORT, ids, init=tmp_path)


def test_a_loss_that_is_no_number_stops_the_run():
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        loop.train(TINY, loop.Training(tokens=9600, batch=4, lr=1e38), some_ids(2000))


def test_an_id_outside_the_vocabulary():
    with pytest.raises(ValueError, match="id 97 is outside a vocabulary of 97"):
        loop.train(TINY, SHORT, np.append(some_ids(100), 97).astype(np.uint16))


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with hardware.threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_half_precision_is_close():
    ids = some_ids(3000)
    training = {"tokens": 12 * 4 * 60, "batch": 4, "lr": 1e-2}
    exact = loop.train(TINY, loop.Training(**training), ids)
    half = loop.train(TINY, loop.Training(**training, precision="bfloat16"), ids)
    assert half.losses[0] == pytest.approx(exact.losses[0], rel=2e-3)
    assert half.tail() == pytest.approx(exact.tail(), rel=0.05)
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    with pytest.raises(ValueError, match="precision 'half' does not exist"):
        loop.train(TINY, loop.Training(**training, precision="half"), ids)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")  # torch's compiler's own
def test_a_compiled_model_trains_alike():
    ids = some_ids(3000)
    plain = loop.train(TINY, SHORT, ids)
    compiled = loop.train(TINY, loop.Training(tokens=SHORT.tokens, batch=SHORT.batch, compile=True), ids)
    np.testing.assert_allclose(compiled.losses, plain.losses, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "within"), [("float32", 1e-3), ("bfloat16", 2e-2)])
def test_a_gpu_trains_alike(precision, within):
    ids = some_ids(3000)
    here = loop.train(TINY, SHORT, ids)
    there = loop.train(
        TINY, loop.Training(tokens=SHORT.tokens, batch=SHORT.batch, device="cuda", precision=precision), ids
    )
    np.testing.assert_allclose(there.losses, here.losses, rtol=within)
    documents = data.pack([some_ids(30), some_ids(5)], 0)
    mine, theirs = score.nll(here.model, documents), score.nll(there.model, documents, precision=precision)
    np.testing.assert_allclose(theirs.nats, mine.nats, rtol=5 * within)


# --------------------------------------------------------------------------------------------------------------- score


@pytest.mark.parametrize(
    ("window", "lengths", "expected"),
    [
        # (document, first predicted token, how many)
        (("blocks", 4), [9, 0, 4], [(0, 0, 4), (0, 4, 4), (0, 8, 1), (2, 0, 4)]),
        (("head", 4), [9, 0, 3], [(0, 0, 4), (2, 0, 3)]),
        (("blocks", 4, 2), [17, 5], [(0, 0, 4), (0, 8, 4), (1, 0, 4), (1, 4, 1)]),  # blocks 0 and 2 of five
        # "Selection unit = block": T - 1 predicted, the tail of 9 is dropped, 3 is one short block, 1 predicts nothing
        (("chunk", 4), [9, 3, 1, 0, 4], [(0, 1, 3), (0, 5, 3), (1, 1, 2), (4, 1, 3)]),
    ],
)
def test_what_a_window_predicts(window, lengths, expected):
    got = score.spans(np.array(lengths), *window)
    assert list(zip(*(column.tolist() for column in got), strict=True)) == expected


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(2, 9), st.none() | st.integers(1, 4))
def test_blocks_predict_each_token_once(lengths, tokens, most):
    got = score.spans(np.array(lengths, dtype=np.int64), "blocks", tokens, most)
    seen = [(d, f + i) for d, f, c in zip(*(x.tolist() for x in got), strict=True) for i in range(c)]
    assert len(set(seen)) == len(seen)
    for document, length in enumerate(lengths):
        mine = [place for d, place in seen if d == document]
        assert all(0 <= place < length for place in mine)
        if most is None or -(-length // tokens) <= most:
            assert sorted(mine) == list(range(length))
        else:
            assert len(mine) > (most - 1) * tokens


@pytest.mark.parametrize("window", [("neck", 4), ("blocks", 1), ("blocks", 4, 0)])
def test_a_window_that_does_not_exist(window):
    with pytest.raises(ValueError, match="there is no window"):
        score.spans(np.array([5]), *window)
    with pytest.raises(ValueError, match="longer than the model's context of 12"):
        score.nll(random_model(), data.pack([[1]], 0), window=score.Window(tokens=13))


def naive(ours: model.Decoder, document: list[int], separator: int, width: int) -> float:
    """Nats of a document block by block, straight from the logits."""
    stream = torch.tensor([[separator, *document]])
    total = 0.0
    for start in range(0, len(document), width):
        piece = stream[:, start : start + width + 1]
        with torch.no_grad():
            total += float(F.cross_entropy(ours.logits(piece[:, :-1])[0], piece[0, 1:], reduction="sum"))
    return total


def test_losses_of_documents():
    ours = random_model()
    documents = [some_ids(n, seed=n).tolist() for n in (1, 5, 12, 13, 40, 7)] + [[]]
    got = score.nll(ours, data.pack(documents, 3))
    assert got.tokens.tolist() == [1, 5, 12, 13, 40, 7, 0]
    np.testing.assert_allclose(got.nats, [naive(ours, d, 3, 12) for d in documents], rtol=1e-5)
    head = score.nll(ours, data.pack(documents, 3), window=score.Window(kind="head", tokens=5))
    np.testing.assert_allclose(head.nats, [naive(ours, d[:5], 3, 5) for d in documents], rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.data())
def test_losses_do_not_depend_on_company(lengths, draw):
    """Any subset, in any order, gets what it gets among all."""
    ours = random_model()
    documents = [some_ids(n + 1, seed=i)[:n] for i, n in enumerate(lengths)]
    together = score.nll(ours, data.pack(documents, 0), batch=48)
    some = draw.draw(st.permutations(range(len(lengths))))[: draw.draw(st.integers(1, len(lengths)))]
    apart = score.nll(ours, data.pack([documents[i] for i in some], 0), batch=48)
    np.testing.assert_allclose(apart.nats, together.nats[some], rtol=1e-6)
    assert apart.tokens.tolist() == together.tokens[some].tolist()


def test_a_uniform_model_of_bytes_needs_eight_bits():
    uniform = model.Decoder(model.Config(vocab=256, width=4, layers=1, heads=1, hidden=4, context=8))
    with torch.no_grad():
        uniform.embedding.weight.zero_()
    text = "naïve 🙂 é\r\n".encode()
    got = score.nll(uniform, data.pack([list(text)], 0))
    assert score.bits_per_byte(got.nats[0], len(text)) == pytest.approx(8.0, rel=1e-6)


def test_no_documents():
    got = score.nll(random_model(), data.pack([], 0))
    assert got.nats.tolist() == got.tokens.tolist() == []
