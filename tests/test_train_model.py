"""The decoder: documents that share a row are alone in it, and every fast way computes what the plain one computes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.train import attention, compiling, crossentropy, hardware, model, score
from curate.train.data import pack
from curate.train.presets import PRESETS

SHAPES = {
    "tied": model.Config(vocab=97, width=16, layers=2, heads=2, hidden=24, context=40),
    "untied": model.Config(vocab=97, width=24, layers=2, heads=3, hidden=40, context=40, tied=False),
    "qk_norm": model.Config(vocab=97, width=16, layers=2, heads=2, hidden=24, context=40, qk_norm=True),
}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))


def random_model(config, seed=0):
    """A decoder with no zero matrices, so that every part has a say."""
    made = model.Decoder(config, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0.0, 0.3, generator=generator)
    return made


def random_rows(*size, seed=3):
    return torch.randint(0, 97, size, generator=torch.Generator().manual_seed(seed))


def gradients(ours, loss):
    ours.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in ours.named_parameters()}


def assert_same(one, other, rtol=1e-4, atol=1e-6):
    assert one.keys() == other.keys()
    for name, grad in one.items():
        torch.testing.assert_close(other[name], grad, rtol=rtol, atol=atol, msg=lambda text, n=name: f"{n}: {text}")


# ----------------------------------------------------------------------------------------------------------- documents


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(2, 12), min_size=1, max_size=3), min_size=1, max_size=3), st.data())
def test_a_document_has_the_losses_that_it_has_alone(lengths, data):
    """Whatever shares its row, whatever the numbers: equal numbers apart are two documents, -1 is padding."""
    ours = random_model(SHAPES[data.draw(st.sampled_from(list(SHAPES)))])
    width = 40
    tokens, targets = random_rows(len(lengths), width), random_rows(len(lengths), width, seed=4)
    documents = torch.full((len(lengths), width), -1, dtype=torch.int32)
    for row, sizes in enumerate(lengths):
        start = 0
        for i, size in enumerate(sizes):
            documents[row, start : start + size] = i % 2
            start += size
    packed = ours.nats(tokens, targets, documents)
    for row, sizes in enumerate(lengths):
        start = 0
        for size in sizes:
            here = slice(start, start + size)
            alone = ours.nats(tokens[row : row + 1, here], targets[row : row + 1, here])[0]
            torch.testing.assert_close(packed[row, here], alone, rtol=1e-4, atol=1e-4)
            start += size


@each_shape
@pytest.mark.parametrize("half", [False, True])
def test_packed_documents_train_as_documents_alone(shape, half):
    """The loss and every gradient of two documents in a row of padding are those of two rows."""
    ours = random_model(shape)
    tokens, targets = random_rows(1, 30), random_rows(1, 30, seed=4)
    documents = torch.tensor([[0] * 11 + [1] * 13 + [-1] * 6])
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        packed = ours.mean_nats(ours(tokens, documents), targets, (documents >= 0).float())
        one, two = ((tokens[:, s], targets[:, s]) for s in (slice(0, 11), slice(11, 24)))
        apart = (11 * ours.mean_nats(ours(one[0]), one[1]) + 13 * ours.mean_nats(ours(two[0]), two[1])) / 24
    torch.testing.assert_close(packed, apart, rtol=1e-2 if half else 1e-5, atol=0)
    if not half:
        assert_same(gradients(ours, apart), gradients(ours, packed))


def test_the_layout_of_a_row():
    got = attention.rows(torch.tensor([[5, 5, 5, 2, 2, 5, -1, -1]]))
    assert got.positions.tolist() == [[0, 1, 2, 0, 1, 0, 0, 1]]
    expected = torch.block_diag(*[torch.ones(n, n) for n in (3, 2, 1, 2)]).tril().bool()
    assert torch.equal(got.mask[0, 0], expected)


def test_one_document_is_one_context():
    ours = random_model(SHAPES["tied"])
    tokens, targets = random_rows(2, 40), random_rows(2, 40, seed=4)
    alone = ours.nats(tokens, targets)
    torch.testing.assert_close(ours.nats(tokens, targets, torch.zeros_like(tokens)), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("heads", "flex"), [(2, None), (4, False)])
def test_heads_that_are_too_small_for_flex_attention_have_a_whole_mask(heads, flex, monkeypatch):
    """Its kernel for a GPU refuses heads below 16."""
    asked = []
    original = attention.rows
    monkeypatch.setattr(attention, "rows", lambda d, *, flex=None: asked.append(flex) or original(d))
    ours = model.Decoder(model.Config(vocab=97, width=32, layers=1, heads=heads, hidden=24, context=12))
    ours(random_rows(2, 12), torch.zeros((2, 12), dtype=torch.int32))
    assert asked == [flex]


@pytest.mark.filterwarnings("ignore:flex_attention called without")  # slow, and said so, where nothing compiles it
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("queries", [3, 8, 128])
def test_all_kernels_attend_alike(monkeypatch, masked, queries):
    """The formula in blocks, torch's kernel and flex attention (here as torch writes it out) agree."""
    monkeypatch.setattr(attention, "QUERIES", queries)
    q, k, v = torch.randn(3, 2, 3, 11, 4, generator=torch.Generator().manual_seed(0))
    documents = torch.tensor([[0] * 5 + [1] * 6, [3] * 2 + [4] * 7 + [-1] * 2])
    mask = attention.rows(documents).mask if masked else None
    formula = attention.by_formula(q, k, v, mask)
    torch.testing.assert_close(formula, attention.attend(q, k, v, mask))
    with torch.no_grad():
        torch.testing.assert_close(attention.forward_by_formula(q, k, v, mask), formula)
        half = attention.attend(*(x.bfloat16() for x in (q, k, v)), mask)
    torch.testing.assert_close(half.float(), formula, rtol=0.02, atol=0.02)
    if masked:
        torch.testing.assert_close(attention.attend(q, k, v, attention.rows(documents, flex=True).mask), formula)


# ---------------------------------------------------------------------------------------------------------------- loss


def plain_loss(x, head, targets, weights, z_loss):
    """The formula, for autograd: the penalty is in the gradient and not in the value."""
    logits = x @ head.t()
    nats = F.cross_entropy(logits, targets, reduction="none")
    weights = torch.ones_like(nats) if weights is None else weights
    mean = (weights * nats).sum() / weights.sum()
    penalty = (weights * z_loss * torch.logsumexp(logits, 1).square()).sum() / weights.sum()
    return mean + penalty - penalty.detach()


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_the_loss_is_that_of_the_formula(monkeypatch, z_loss, weighted, fused):
    """Value and gradients, over blocks of which the last is short; ``fused`` is what a compiler is given."""
    monkeypatch.setattr(crossentropy, "ROWS", 4)
    monkeypatch.setattr(crossentropy, "LOGITS", 0)
    monkeypatch.setattr(crossentropy, "translated", lambda fn, dynamic=False: fn)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(11, 5, generator=generator).requires_grad_()
    head = torch.randn(13, 5, generator=generator).requires_grad_()
    targets = torch.randint(0, 13, (11,), generator=generator)
    weights = torch.tensor([1.0, 0, 2, 0.5, 0, 0, 1, 3, 1, 0, 1]) if weighted else None
    ours = crossentropy.mean_nats(x, head, targets, weights, z_loss=z_loss, compiled=fused)
    got = torch.autograd.grad(3 * ours, (x, head))
    plain = plain_loss(x, head, targets, weights, z_loss)
    torch.testing.assert_close(ours, plain)
    for mine, theirs in zip(got, torch.autograd.grad(3 * plain, (x, head)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_batch_without_weight_has_no_loss_and_no_gradient():
    ours = random_model(SHAPES["tied"])
    tokens = random_rows(2, 8)
    loss = ours.mean_nats(ours(tokens), tokens, torch.zeros(2, 8))
    assert float(loss.detach()) == 0.0
    assert all(bool((g == 0).all()) for g in gradients(ours, loss).values())


def test_nats_where_they_are_wanted(monkeypatch):
    """They are the same whatever else is wanted, and 0 elsewhere."""
    monkeypatch.setattr(crossentropy, "ROWS", 8)
    ours = random_model(SHAPES["tied"])
    tokens, targets = random_rows(2, 12), random_rows(2, 12, seed=4)
    every = ours.nats(tokens, targets)
    wanted = torch.zeros(2, 12, dtype=torch.bool)
    wanted[0, 3:8] = wanted[1, 11] = True
    some = ours.nats(tokens, targets, wanted=wanted)
    assert torch.equal(some != 0, wanted)
    torch.testing.assert_close(some[wanted], every[wanted], rtol=1e-6, atol=1e-6)
    assert float(ours.nats(tokens, targets, wanted=torch.zeros_like(wanted)).abs().max()) == 0.0


@each_shape
def test_gradients_by_finite_differences(shape):
    """Along a random direction, the loss changes as the gradient says: documents, weights and all."""
    ours = random_model(shape)
    tokens, targets = random_rows(2, 20), random_rows(2, 20, seed=4)
    documents = torch.tensor([[0] * 9 + [1] * 11, [0] * 16 + [-1] * 4])
    weights = torch.rand(2, 20, generator=torch.Generator().manual_seed(5)) * (documents >= 0)

    def loss():
        return ours.mean_nats(ours(tokens, documents), targets, weights)

    grads = gradients(ours, loss())
    norm = math.sqrt(sum(float(g.square().sum()) for g in grads.values()))
    step = 1e-2 / norm
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for name, p in ours.named_parameters():
                p += sign * step * grads[name] / norm
            values.append(float(loss()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(norm, rel=0.01)


# -------------------------------------------------------------------------------------------------------------- options


def test_normalised_queries_and_keys_bound_the_scores():
    """However large the weights, no score exceeds sqrt(size of a head): with size 8 the largest weight of two tokens
    is at most e^(2 sqrt 8) times the smaller."""
    ours = random_model(SHAPES["qk_norm"])
    with torch.no_grad():
        for block in ours.blocks:
            block.qkv.weight.mul_(1000.0)
    seen = []
    original = attention.attend

    def watch(q, k, v, mask=None):
        seen.append(float((q @ k.transpose(-1, -2)).detach().abs().max()) * q.shape[-1] ** -0.5)
        return original(q, k, v, mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "attend", watch)
        ours(random_rows(2, 40))
    assert len(seen) == 2
    assert max(seen) <= math.sqrt(8) * 1.001
    assert max(seen) > 1.5


def test_normalised_queries_do_not_care_for_their_scale():
    ours = random_model(SHAPES["qk_norm"])
    tokens, targets = random_rows(2, 40), random_rows(2, 40, seed=4)
    before = ours.nats(tokens, targets)
    with torch.no_grad():
        for block in ours.blocks:
            block.qkv.weight[: 2 * 16] *= 7.0
    torch.testing.assert_close(ours.nats(tokens, targets), before, rtol=1e-3, atol=1e-3)


@each_shape
def test_computing_again_changes_nothing(shape):
    ours = random_model(shape)
    tokens, targets = random_rows(2, 40), random_rows(2, 40, seed=4)
    documents = torch.arange(40).div(13, rounding_mode="floor").expand(2, 40)
    kept = ours.mean_nats(ours(tokens, documents), targets)
    before = gradients(ours, kept)
    ours.recompute(True)
    again = ours.mean_nats(ours(tokens, documents), targets)
    assert torch.equal(kept, again)
    for name, grad in gradients(ours, again).items():
        assert torch.equal(grad, before[name])


@each_shape
def test_half_precision_is_close(shape):
    """bfloat16 keeps 8 bits: a loss of some nats is right to a percent, and gradients point the same way."""
    ours = random_model(shape)
    tokens, targets = random_rows(4, 40), random_rows(4, 40, seed=4)
    exact = ours.mean_nats(ours(tokens), targets)
    expected = gradients(ours, exact)
    with torch.autocast("cpu", torch.bfloat16):
        half = ours.mean_nats(ours(tokens), targets)
    assert float(half.detach()) == pytest.approx(float(exact.detach()), rel=0.01)
    for name, grad in gradients(ours, half).items():
        assert grad.dtype == torch.float32
        assert float(F.cosine_similarity(grad.flatten(), expected[name].flatten(), dim=0)) > 0.99


def test_the_rows_of_stacked_matrices():
    ours = random_model(SHAPES["untied"])
    assert ours.row_parts["blocks.1.qkv.weight"] == (24, 24, 24)
    named = dict(ours.named_parameters())
    for name, parts in ours.row_parts.items():
        assert sum(parts) == len(named[name])
    assert len(ours.row_parts) == 4


def test_arithmetic_of_a_step():
    """By hand: width 16, two layers of 4 * 16² + 3 * 16 * 24 = 2,176 weights, a head of 97 * 16 = 1,552."""
    ours = model.Decoder(SHAPES["tied"])
    assert ours.flops_per_token == 6 * (2 * 2176 + 1552) + 6 * 2 * 40 * 16
    assert ours.flops_per_token_published - ours.flops_per_token == 6 * 2 * 40 * 16
    assert ours.weights == 2 * 2176 + 1552


# ------------------------------------------------------------------------------------------------------------ compiling

needs_compiler = pytest.mark.skipif(compiling.compiler() is None, reason="torch.compile needs a C++ compiler")


@pytest.mark.slow
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")  # torch's compiler's own
@pytest.mark.parametrize(("half", "packed"), [(False, True), (True, False)])
def test_a_compiled_model_computes_alike(half, packed):
    """Loss and gradients; one translation serves all layers and a second model."""
    shape = model.Config(vocab=97, width=16, layers=2, heads=2, hidden=24, context=40, qk_norm=True, tied=False)
    ours = random_model(shape)
    tokens, targets = random_rows(4, 40), random_rows(4, 40, seed=4)
    documents = torch.arange(40).div(13, rounding_mode="floor").expand(4, 40) if packed else None
    weights = torch.rand(4, 40, generator=torch.Generator().manual_seed(5)).round() if packed else None

    def loss(made):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return made.mean_nats(made(tokens, documents), targets, weights)

    plain = loss(ours)
    expected = gradients(ours, plain)
    with compiling.compiled(ours, on=True) as on:
        assert on
        fast = loss(ours)
        torch.testing.assert_close(fast, plain, rtol=1e-2 if half else 1e-5, atol=0)
        got = gradients(ours, fast)
    if half:
        for name, grad in got.items():
            assert float(F.cosine_similarity(grad.flatten(), expected[name].flatten(), dim=0)) > 0.99
    else:
        assert_same(expected, got, rtol=1e-3, atol=1e-5)
    torch._dynamo.utils.counters.clear()
    other = random_model(shape, seed=8)
    with compiling.compiled(other, on=True):
        loss(other).backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0, "it was translated anew"
    assert [b.compiled for b in ours.blocks] == ["", ""]


def test_compiling_pays_in_long_runs_only():
    """Ten CPU-seconds of the default shape: no. A gigabyte of text: yes. The rule knows sizes, no clock."""
    flops = model.Decoder(model.Config(vocab=2048)).flops_per_token
    run = {"tokens": 1024, "precision": "float32", "device": "cpu"}
    assert not compiling.worth(flops, steps=500, **run)
    assert compiling.worth(flops, steps=300_000, **run) == (compiling.compiler() is not None)
    assert compiling.worth(flops, steps=30_000_000, **(run | {"device": "cuda:1", "precision": "bfloat16"}))


def test_without_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    ours = model.Decoder(SHAPES["tied"])
    assert not compiling.worth(10**9, steps=10**6, tokens=10**4, precision="float32", device="cpu")
    with pytest.raises(ValueError, match="install g\\+\\+"), compiling.compiled(ours, on=True):
        pytest.fail("it compiled")
    with compiling.compiled(ours, on="auto", steps=10**9, tokens=10**6) as on:
        assert not on
    with pytest.raises(ValueError, match="compile='never' is no choice"), compiling.compiled(ours, on="never"):
        pytest.fail("it compiled")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, when it is imported
def test_models_of_others_are_compiled_whole_and_left_as_they_were(monkeypatch):
    monkeypatch.setattr(compiling, "compiler", lambda: "g++")
    other = torch.nn.Linear(3, 3)
    with compiling.compiled(other, on=True):
        assert other._compiled_call_impl is not None
    assert other._compiled_call_impl is None
    np.testing.assert_allclose(other(torch.zeros(1, 3)).detach().numpy()[0], other.bias.detach().numpy(), rtol=1e-6)


# ---------------------------------------------------------------------------------------------------- sizes and devices


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        # layers * (4 width² + 3 width hidden) + vocab * width, by hand
        ("smoke", 2 * (4 * 4096 + 3 * 64 * 192) + 257 * 64),
        ("0.1M", 122_944),
        ("cpu", 153_600),
        ("1M", 1_327_104),
        ("5M", 5_308_416),
        ("screen", 10_616_832),
        ("standard", 20_447_232),
        ("deep", 34_078_720),
        ("124M", 123_568_128),
        ("350M", 359_792_640),
        ("760M", 756_744_192),
        ("1.2B", 1_176_764_416),
    ],
)
def test_a_preset_has_its_weights(name, weights):
    """Counted in the model itself, on a device that has no memory."""
    with torch.device("meta"):
        made = model.Decoder(PRESETS[name].shape)
    assert made.weights == weights
    assert set(PRESETS) == {
        "smoke", "0.1M", "cpu", "1M", "5M", "screen", "standard", "deep", "124M", "350M", "760M", "1.2B",
    }  # fmt: skip


def test_a_preset_takes_another_vocabulary():
    preset = PRESETS["standard"]
    assert preset.config().vocab == 16_384
    assert preset.config(vocab=300).vocab == 300
    assert preset.config(vocab=300).width == preset.shape.width


def test_learning_rates_and_batches_follow_the_fit():
    """0.0047 (N / 108M)^(-1/3), and 160 (N / 108M)^(2/3) sequences of 2,048 tokens; N of 124M is 84,934,656."""
    size = 84_934_656 / 108e6
    assert PRESETS["124M"].lr == pytest.approx(0.0047 / size ** (1 / 3), rel=0.01)
    assert PRESETS["124M"].batch * 1024 == pytest.approx(160 * size ** (2 / 3) * 2048, rel=0.02)
    assert PRESETS["1.2B"].lr == pytest.approx(0.0022, rel=1e-6)
    assert PRESETS["124M"].steps == math.ceil(2_500_000_000 / (272 * 1024))


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("NVIDIA H200", "bfloat16", 989.4e12),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA GH200 480GB", "bfloat16", 989.4e12),
        ("NVIDIA A100-SXM4-80GB", "float32", 19.5e12),
        ("NVIDIA GeForce RTX 4090", "bfloat16", 165.2e12),
        ("NVIDIA L40S", "bfloat16", 362e12),
        ("NVIDIA GeForce GTX 1080", "bfloat16", None),
        ("NVIDIA H200", "int4", None),
    ],
)
def test_the_peak_of_a_device(name, precision, peak):
    assert hardware.peak_of(name, precision) == peak


def test_mfu(monkeypatch):
    """llm.c's 468 thousand tokens a second of GPT-2 124M are 40.7 % of an H100 when attention is counted whole:
    6 * 124.5M + 12 * 12 * 1,024 * 768 = 860 MFLOP a token."""
    assert hardware.mfu(860e6, 468e3, "cpu") is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert hardware.mfu(860e6, 468e3, "cuda") == pytest.approx(0.407, abs=0.001)


def test_the_environment_of_a_worker(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    got = hardware.environment(threads=2)
    assert got["OMP_WAIT_POLICY"] == "passive"
    assert got["OMP_NUM_THREADS"] == "2"
    assert got["TORCHINDUCTOR_CACHE_DIR"].startswith(str(tmp_path))
    assert torch.__version__ in got["TORCHINDUCTOR_CACHE_DIR"]
    assert all(isinstance(value, str) for value in got.values())


# -------------------------------------------------------------------------------------------------------------- scoring


@pytest.mark.parametrize(
    ("width", "sizes", "widths"),
    [
        (48, [1, 12, 13, 48], [12, 12, 24, 48]),  # quarters of a short window
        (512, [1, 64, 65, 300, 512], [64, 64, 128, 320, 512]),
        (1000, [1, 961, 1000], [64, 1000, 1000]),
    ],
)
def test_widths_of_batches(width, sizes, widths):
    got = dict.fromkeys(range(len(sizes)), 0)
    for some, rows, columns in score._batches(np.array(sizes), width, 4096):
        assert len(some) <= rows == 4096 // columns
        got |= dict.fromkeys(some.tolist(), columns)
    assert list(got.values()) == widths


def test_the_head_is_computed_for_real_tokens_only(monkeypatch):
    """Documents of 5, 20 and 33 tokens: 58 rows of the head, in blocks of 16 for each of three widths."""
    monkeypatch.setattr(crossentropy, "ROWS", 16)
    products = []
    original = crossentropy._product
    monkeypatch.setattr(crossentropy, "_product", lambda a, b, out: (products.append(len(a)), original(a, b, out)))
    ours = random_model(SHAPES["tied"])
    ids = random_rows(58).tolist()
    got = score.nll(ours, pack([ids[:5], ids[5:25], ids[25:]], 0), batch=80)
    assert sum(products) == 16 + 32 + 48
    alone = score.nll(ours, pack([ids[5:25]], 0), batch=80)
    np.testing.assert_allclose(got.nats[1], alone.nats[0], rtol=1e-6)


@pytest.mark.slow
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")
def test_compiled_scores_are_close():
    ours = random_model(SHAPES["tied"])
    ids = random_rows(58).tolist()
    documents = pack([ids[:5], ids[5:25], ids[25:]], 0)
    plain, fast = score.nll(ours, documents), score.nll(ours, documents, compile=True)
    np.testing.assert_allclose(fast.nats, plain.nats, rtol=1e-5)
