"""CoLoR: the paper's order, HF's loss, rows that stand alone, and a target that is found."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import tokens
from curate.columns import TEXT
from curate.errors import BadInput, BadPlan
from curate.stage import Direction, arrow_type
from curate.train import checkpoint, directory, exporting, opening, score
from scorers import encoding, lm, loss_ratio

SHAPE = lm.LanguageModel(width=16, layers=1, heads=2, hidden=32, context=16, tokens=60_000, lr=1e-2)


def texts(*values):
    return pa.table({"text": pa.chunked_array([pa.array(values, TEXT)])})


def sums(n, seed):
    """The target's kind: arithmetic, whose digits nobody can guess."""
    numbers = np.random.default_rng(seed).integers(2, 900, (n, 6, 2)).tolist()
    return ["; ".join(f"{a} + {b} = {a + b}" for a, b in row) for row in numbers]


def prose(n, seed):
    """The corpus at large."""
    words = "the river wind over hill a grey stone house stood where old roads met under dark pines at dusk".split()
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, 18)) + "." for _ in range(n)]


def drill(n, seed):
    """Off target, and easier than anything: short phrases again and again."""
    rng = np.random.default_rng(seed)
    return [" ".join(["row row row your boat"] * int(rng.integers(3, 6))) for _ in range(n)]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A tokenizer, a prior and a conditional model of a corpus that holds a little of everything."""
    out = tmp_path_factory.mktemp("models")
    corpus = texts(*(sums(60, 1) + prose(300, 2) + drill(100, 3)))
    corpus = corpus.take(np.random.default_rng(0).permutation(len(corpus)))
    for name in ("tokenizer", "prior", "conditional"):
        (out / name).mkdir()
    tokens.train_bpe(corpus, tokens.Bpe(vocabulary=320), out / "tokenizer")
    lm.train(corpus, SHAPE, out / "prior", tokenizer=out / "tokenizer")
    lm.finetune(texts(*sums(150, 4)), lm.Finetune(batch=4, lr=5e-4), out / "conditional", base=out / "prior")
    return out


def pair_of(learned, config=None, prior="prior", conditional="conditional"):
    return loss_ratio.open_pair(
        config or loss_ratio.Color(), prior=learned / prior, conditional=learned / conditional
    )


def scored(docs, learned, config=None):
    config = config or loss_ratio.Color()
    return loss_ratio.color(docs, config, pair_of(learned, config))


# ---------------------------------------------------------------------------------------------------------- the method


def test_the_papers_order(learned, monkeypatch):
    """s = L(prior) - L(cond), highest first (Brandfonbrener et al. 2024, algorithm 1, with the other sign).

    Worked by hand: s = .15, -.05, .40, .05, .05, -.30; ties in the order of the rows. By L(cond) alone, lowest first,
    the order is another.
    """
    prior, conditional = [3.20, 2.90, 3.50, 4.00, 2.50, 3.10], [3.05, 2.95, 3.10, 3.95, 2.45, 3.40]
    opened = pair_of(learned)

    def given_losses(of, documents, *, window, precision):
        means = prior if of is opened.prior else conditional
        return score.Losses(511 * np.array(means), np.full(6, 511))

    monkeypatch.setattr(score, "nll", given_losses)
    got = loss_ratio.color(texts(*["a b c"] * 6), loss_ratio.Color(), opened)
    np.testing.assert_allclose(got["color"].to_numpy(), [0.15, -0.05, 0.40, 0.05, 0.05, -0.30], atol=1e-6)
    ranked = np.argsort(-got["color"].to_numpy().round(5), kind="stable")
    assert ranked.tolist() == [2, 0, 3, 4, 1, 5]
    assert np.argsort(got["conditional_loss"].to_numpy(), kind="stable").tolist() == [4, 1, 0, 2, 5, 3]
    assert got["color_tokens"].to_pylist() == [511] * 6


def test_directions():
    writes = loss_ratio.color.writes(loss_ratio.Color())
    assert {name: getattr(kind, "keep", None) for name, kind in writes.items()} == {
        "color": Direction.HIGH, "conditional_loss": Direction.LOW, "prior_loss": Direction.LOW,
        "color_tokens": None, "color_share": None,
    }  # fmt: skip


def test_the_mean_is_that_of_transformers(learned, tmp_path):
    """'chunk' on a row of T tokens is the model's own loss in transformers: the mean over T - 1 predictions."""
    import torch
    from transformers import LlamaForCausalLM

    opened = pair_of(learned)
    text = sums(1, 9)[0]
    row = next(encoding.encode(opened.tokenizer, texts(text)["text"]))[:16]
    assert len(row) == 16
    exporting.export(opened.prior, tmp_path)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        ids = torch.from_numpy(row.astype(np.int64))[None]
        expected = float(theirs(ids, labels=ids).loss)
    got = scored(texts(opened.tokenizer.decode(row.tolist())), learned, loss_ratio.Color(window="chunk", most=None))
    assert got["color_tokens"].to_pylist() == [15]
    assert got["prior_loss"][0].as_py() == pytest.approx(expected, rel=1e-5)


def test_the_target_is_found_and_ease_is_not_mistaken_for_it(learned):
    """CoLoR puts the target's kind on top; the conditional loss alone prefers what is easiest."""
    docs = texts(*(sums(40, 11) + prose(40, 12) + drill(40, 13)))
    got = scored(docs, learned)
    by_color = np.argsort(-got["color"].to_numpy(), kind="stable")[:40]
    by_ease = np.argsort(got["conditional_loss"].to_numpy(), kind="stable")[:40]
    assert (by_color < 40).mean() >= 0.9
    assert (by_ease < 40).mean() < 0.5
    off_target = got["color"].to_numpy()[40:]
    assert np.median(off_target) < 0, "a rank, not a sign: most of the rest is below zero"


def test_equal_models_tell_nothing(learned):
    same = loss_ratio.open_pair(loss_ratio.Color(), prior=learned / "prior", conditional=learned / "prior")
    got = loss_ratio.color(texts(*sums(3, 1)), loss_ratio.Color(), same)
    assert got["color"].to_pylist() == [0.0, 0.0, 0.0]


# -------------------------------------------------------------------------------------------------------------- tables

SOME = st.lists(st.none() | st.sampled_from(["", " ", "a", "row boat", "é🙂", *sums(2, 1), *prose(3, 2)]), max_size=7)
WINDOWS = st.sampled_from(
    [
        loss_ratio.Color(), loss_ratio.Color(most=None), loss_ratio.Color(window="chunk", most=None),
        loss_ratio.Color(window="head"), loss_ratio.Color(window="head", tokens=4), loss_ratio.Color(tokens=5, most=1),
    ]
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(docs=SOME, config=WINDOWS, cut=st.integers(0, 7))
def test_a_cut_changes_nothing(learned, docs, config, cut):
    """A part may be cut anywhere, sliced or chunked: each row stands alone."""
    table = texts(*docs)
    whole = scored(table, learned, config)
    assert whole.column_names == list(loss_ratio.color.writes(config))
    assert whole.schema.types == [arrow_type(kind) for kind in loss_ratio.color.writes(config).values()]
    assert len(whole) == len(docs)
    halves = pa.concat_tables([scored(table[:cut], learned, config), scored(table[cut:], learned, config)])
    chunked = scored(pa.concat_tables([table[:cut], table[cut:]]), learned, config)
    for other in (halves, chunked):
        for name in whole.column_names:
            ours, theirs = (t[name].to_numpy(zero_copy_only=False).astype(float) for t in (whole, other))
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_nothing_to_predict_is_no_score(learned):
    got = scored(texts(None, "", "row"), learned)
    assert got["color"].is_null().to_pylist() == [True, True, False]
    assert got["prior_loss"].is_null().to_pylist() == [True, True, False]
    assert got["color_share"].to_pylist() == [None, None, 1.0]
    assert got["color_tokens"].to_pylist()[:2] == [0, 0]
    chunk = scored(texts("a"), learned, loss_ratio.Color(window="chunk"))
    assert (chunk["color"].to_pylist(), chunk["color_tokens"].to_pylist()) == ([None], [0])


def test_share_and_tokens(learned):
    text = " ".join(prose(12, 5))
    length = len(next(encoding.encode(pair_of(learned).tokenizer, texts(text)["text"])))
    some = scored(texts(text), learned, loss_ratio.Color(most=2))
    assert some["color_tokens"].to_pylist() == [32]
    assert some["color_share"][0].as_py() == pytest.approx(32 / length)
    whole = scored(texts(text), learned, loss_ratio.Color(most=None))
    assert (whole["color_tokens"].to_pylist(), whole["color_share"].to_pylist()) == ([length], [1.0])
    head = scored(texts(text), learned, loss_ratio.Color(window="head"))
    assert head["color_tokens"].to_pylist() == [16]
    assert head["color_share"][0].as_py() == pytest.approx(16 / length, rel=0.25), "estimated from the text's start"


def test_a_special_token_in_a_text_is_text(learned):
    ids = next(encoding.encode(pair_of(learned).tokenizer, texts("a<|endoftext|>b")["text"]))
    assert 0 not in ids.tolist()


# --------------------------------------------------------------------------------------------------------- the fitters


def test_an_artifact_is_whole_and_repeats(learned, tmp_path):
    """Same sample, same settings: the same files, byte by byte; no pickle among them."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        config = lm.LanguageModel(width=16, layers=1, hidden=16, context=16, tokens=4000)
        lm.train(texts(*sums(40, 1), None, ""), config, tmp_path / name, tokenizer=learned / "tokenizer")
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert files == ["config.json", "metrics.jsonl", "tokenizer.json", "weights.safetensors"]
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)
    about = json.loads((tmp_path / "one" / "config.json").read_text())
    assert (about["separator"], about["model"]["vocab"]) == (0, 320)
    assert checkpoint.load(tmp_path / "one").config.context == 16


def test_finetuning_begins_at_the_priors_loss(learned):
    """Weights are the prior's: its loss on the first batch is that of the prior, far below chance, ln 320 = 5.8."""
    first = json.loads((learned / "conditional" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] < 4.0


# ------------------------------------------------------------------------------------------- models of transformers


@pytest.fixture(scope="module")
def theirs(learned, tmp_path_factory):
    """Directories that transformers wrote: the prior's weights, and a GPT-2 and a Qwen3 of random ones."""
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

    out = tmp_path_factory.mktemp("theirs")
    ends = {"vocab_size": 320, "bos_token_id": 0, "eos_token_id": 0}
    GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **ends)).save_pretrained(out / "GPT2")
    qwen = Qwen3Config(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, max_position_embeddings=4096, **ends,
    )  # fmt: skip
    Qwen3ForCausalLM(qwen).save_pretrained(out / "Qwen3")
    for name in ("GPT2", "Qwen3"):
        shutil.copyfile(learned / "tokenizer" / "tokenizer.json", out / name / "tokenizer.json")
    exporting.export(checkpoint.load(learned / "prior"), out / "exported", tokenizer=learned / "prior")
    shutil.copytree(out / "exported", out / "Llama")
    described = json.loads((out / "Llama" / "config.json").read_text())
    del described["curate"]  # as if transformers had trained it
    (out / "Llama" / "config.json").write_text(json.dumps(described))
    return out


def test_a_prior_of_transformers_gives_the_same_scores(learned, theirs):
    """Ours, its exported form, and the same weights through transformers: the same losses to 1e-5."""
    docs = texts(*(sums(5, 21) + prose(5, 22)), "", None)
    losses = []
    for name in ("Llama", "exported"):
        pair = loss_ratio.open_pair(loss_ratio.Color(), prior=theirs / name, conditional=theirs / name)
        losses.append(loss_ratio.color(docs, loss_ratio.Color(), pair))
        assert losses[-1]["color"].to_pylist() == [0.0] * 10 + [None] * 2
    ours = scored(docs, learned)
    for got in losses:
        np.testing.assert_allclose(got["prior_loss"].to_numpy(), ours["prior_loss"].to_numpy(), rtol=1e-5)
        assert got["color_tokens"].equals(ours["color_tokens"])
    with pytest.raises(BadInput, match="different shapes"):
        loss_ratio.open_pair(loss_ratio.Color(), prior=theirs / "Llama", conditional=learned / "conditional")


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        ("Llama", lm.Finetune(batch=4, lr=5e-4)),
        ("exported", lm.Finetune(batch=4, lr=5e-4)),
        ("Qwen3", lm.Finetune(batch=2, lr=3e-3, context=32)),
        ("GPT2", lm.Finetune(batch=4, lr=1e-2, rank=4, targets=("c_attn", "c_proj"))),
        ("Llama", lm.Finetune(batch=4, lr=1e-2, rank=4)),
    ],
)
def test_finetuning_a_model_of_transformers(learned, theirs, tmp_path, base, settings):
    """All weights, or adapters alone: the target becomes easier, and what is written opens in transformers."""
    from transformers import AutoModelForCausalLM

    report = lm.finetune(texts(*sums(150, 4)), settings, tmp_path, base=theirs / base)
    assert report["last_loss"] < report["first_loss"]
    pair = loss_ratio.open_pair(loss_ratio.Color(), prior=theirs / base, conditional=tmp_path)
    got = loss_ratio.color(texts(*(sums(20, 31) + prose(20, 32))), loss_ratio.Color(), pair)["color"].to_numpy()
    assert np.median(got[:20]) > 0
    assert np.median(got[:20]) > np.median(got[20:])
    files = {p.name for p in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "metrics.jsonl", "finetune.json"} <= files
    assert ("adapter" in files) == bool(settings.rank)
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]
    AutoModelForCausalLM.from_pretrained(tmp_path)
    about = json.loads((tmp_path / "finetune.json").read_text())
    assert about["settings"]["rank"] == settings.rank
    whole = opening.open_any(theirs / base).weights
    assert report["weights"] < whole if settings.rank else report["weights"] == whole


def test_adapters_on_a_small_model(learned, tmp_path):
    settings = lm.Finetune(batch=4, lr=1e-2, rank=4, targets=("qkv", "down"))
    report = lm.finetune(texts(*sums(150, 4)), settings, tmp_path, base=learned / "prior")
    # rank times (rows + columns): 16 to 48 and 32 to 16, in one layer
    assert report["weights"] == 4 * (16 + 48) + 4 * (32 + 16)
    assert report["last_loss"] < report["first_loss"]
    before, after = (checkpoint.load(path) for path in (learned / "prior", tmp_path))
    assert (before.embedding.weight == after.embedding.weight).all()
    assert not (before.blocks[0].qkv.weight == after.blocks[0].qkv.weight).all()


def test_windows_of_a_long_context_are_short(theirs, tmp_path):
    """4,096 positions: 1,024 are used where nothing else is asked for, in training and in scores."""
    pair = loss_ratio.open_pair(loss_ratio.Color(), prior=theirs / "Qwen3", conditional=theirs / "Qwen3")
    assert pair.window.tokens == 1024
    assert directory.inspect(theirs / "Qwen3").context == 4096
    with pytest.raises(BadPlan, match="does not fill one window of 1024 tokens"):
        lm.finetune(texts(*sums(2, 4)), lm.Finetune(), tmp_path, base=theirs / "Qwen3")


def test_models_of_transformers_that_are_refused(theirs, tmp_path):
    shutil.copytree(theirs / "GPT2", tmp_path / "pickles")
    (tmp_path / "pickles" / "model.safetensors").rename(tmp_path / "pickles" / "pytorch_model.bin")
    with pytest.raises(BadInput, match="pickles only"):
        lm.finetune(texts("a"), lm.Finetune(), tmp_path, base=tmp_path / "pickles")
    with pytest.raises(BadInput, match="pickles only"):
        loss_ratio.open_pair(loss_ratio.Color(), prior=tmp_path / "pickles", conditional=tmp_path / "pickles")
    with pytest.raises(BadInput, match="context of 128 is impossible"):
        lm.finetune(texts("a"), lm.Finetune(context=128), tmp_path, base=theirs / "GPT2")
    with pytest.raises(BadPlan, match="no linear layer is called q_proj"):
        lm.finetune(texts(*sums(30, 1)), lm.Finetune(rank=2, targets=("q_proj",)), tmp_path, base=theirs / "GPT2")
    with pytest.raises(BadPlan, match="is no adapter"):
        lm.finetune(texts(*sums(30, 1)), lm.Finetune(rank=-1), tmp_path, base=theirs / "GPT2")


@pytest.mark.parametrize("sample", [texts(), texts(None, ""), texts("a")])
def test_a_sample_that_is_too_small(learned, tmp_path, sample):
    with pytest.raises(BadPlan, match="does not fill one window"):
        lm.finetune(sample, lm.Finetune(), tmp_path, base=learned / "prior")


def test_a_shape_that_is_none(learned, tmp_path):
    with pytest.raises(BadPlan, match="multiple of 2"):
        lm.train(texts(*sums(9, 1)), lm.LanguageModel(width=17), tmp_path, tokenizer=learned / "tokenizer")


def test_models_that_cannot_be_compared(learned, tmp_path):
    other = texts(*prose(200, 8))
    (tmp_path / "tokenizer").mkdir()
    tokens.train_bpe(other, tokens.Bpe(vocabulary=320), tmp_path / "tokenizer")
    small = lm.LanguageModel(width=16, layers=1, hidden=16, context=16, tokens=1000)
    for name, tokenizer in (("tokens", tmp_path / "tokenizer"), ("shape", learned / "tokenizer")):
        (tmp_path / name).mkdir()
        lm.train(other, small, tmp_path / name, tokenizer=tokenizer)
    with pytest.raises(BadInput, match="different tokenizers"):
        loss_ratio.open_pair(loss_ratio.Color(), prior=learned / "prior", conditional=tmp_path / "tokens")
    with pytest.raises(BadInput, match="different shapes"):
        loss_ratio.open_pair(loss_ratio.Color(), prior=learned / "prior", conditional=tmp_path / "shape")
    with pytest.raises(BadInput, match="holds no model"):
        loss_ratio.open_pair(loss_ratio.Color(), prior=learned / "prior", conditional=tmp_path / "nothing")
    with pytest.raises(BadInput, match="holds no model"):
        lm.finetune(other, lm.Finetune(), tmp_path, base=tmp_path / "nothing")
    with pytest.raises(BadInput, match=r"holds no tokenizer\.json"):
        lm.train(other, small, tmp_path, tokenizer=tmp_path / "nothing")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (loss_ratio.Color(window="tail"), "there is no window 'tail'"),
        (loss_ratio.Color(tokens=17), "longer than the models' context of 16"),
        (loss_ratio.Color(most=0), "0 at most"),
        (loss_ratio.Color(precision="half"), "precision 'half' does not exist"),
    ],
)
def test_a_window_that_does_not_exist(learned, config, says):
    with pytest.raises(BadPlan, match=says):
        pair_of(learned, config)


def test_half_precision_is_close(learned):
    docs = texts(*(sums(20, 11) + prose(20, 12)))
    exact, half = (scored(docs, learned, loss_ratio.Color(precision=p)) for p in ("float32", "bfloat16"))
    np.testing.assert_allclose(half["color"].to_numpy(), exact["color"].to_numpy(), atol=0.03)


def test_the_separator():
    from tokenizers import AddedToken, Tokenizer, models

    def tokenizer(*special):
        made = Tokenizer(models.BPE())
        made.add_special_tokens([AddedToken(s, special=True) for s in special])
        return made

    assert encoding.separator_of(tokenizer("[PAD]", "<s>", "<|endoftext|>"), where="here") == 2
    assert encoding.separator_of(tokenizer("[A]", "[B]"), where="here") == 0
    with pytest.raises(BadInput, match="no special token"):
        encoding.separator_of(tokenizer(), where="here")
