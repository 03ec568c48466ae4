"""Models of transformers as ours: the same losses and gradients as theirs, documents apart, and what is refused."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.train import data, directory, huggingface, score

VOCAB, CONTEXT = 320, 32
SMALL = {
    "vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "bos_token_id": 0,
    "eos_token_id": 0, "intermediate_size": 48,
}  # fmt: skip
LONG = {**SMALL, "max_position_embeddings": CONTEXT}
KINDS = {
    "Llama": {**LONG, "num_key_value_heads": 2},
    "Qwen3": {**LONG, "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True},
    "GPT2": {
        "vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, "bos_token_id": 0,
        "eos_token_id": 0,
    },
    "Gemma2": {**LONG, "num_key_value_heads": 2, "head_dim": 16, "final_logit_softcapping": 2.0},  # a cap that is felt
    "Granite": {**LONG, "num_key_value_heads": 2, "logits_scaling": 4.0},
    "Cohere": {**LONG, "num_key_value_heads": 2, "logit_scale": 0.5},
    "Mistral": {**LONG, "num_key_value_heads": 2, "sliding_window": 4},
    "Phi": LONG,  # its head has a bias
    "Olmoe": {**LONG, "num_experts": 4, "num_experts_per_tok": 2},
    "Mamba": {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "bos_token_id": 0},
    "Bloom": {"vocab_size": VOCAB, "hidden_size": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0},
}  # fmt: skip
PACKED = {"Llama", "Qwen3", "GPT2", "Gemma2", "Granite", "Cohere", "Mistral", "Phi", "Olmoe"}


def write_tokenizer(out: Path, separator: str = "<|endoftext|>") -> None:
    """A byte-level BPE of 300."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[separator], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(["the cat and the dog, and the words that they have in common"] * 4, trainer)
    out.mkdir(parents=True, exist_ok=True)
    made.save(str(out / "tokenizer.json"))


def write_model(out: Path, kind: str = "Llama", **changes):
    """A directory of a tiny model with large random weights, and the model of transformers."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(**{**KINDS[kind], **changes})
    name = {"GPT2": "GPT2LMHeadModel"}.get(kind, f"{kind}ForCausalLM")
    model = getattr(transformers, name)(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            drawn = torch.randn(p.shape, generator=generator) * 0.1
            p.copy_(drawn if p.ndim > 1 else p + drawn)
    write_tokenizer(out)
    model.save_pretrained(out)
    return model.eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Directories and models of transformers by kind, each made once."""
    known = {}

    def of(kind: str):
        if kind not in known:
            out = tmp_path_factory.mktemp(kind)
            known[kind] = (out, write_model(out, kind))
        return known[kind]

    return of


def some_rows(rows: int = 3, width: int = 20, seed: int = 5) -> torch.Tensor:
    return torch.randint(0, VOCAB, (rows, width + 1), generator=torch.Generator().manual_seed(seed))


def plain_nats(theirs, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Nats straight from the logits of transformers."""
    logits = theirs(input_ids=tokens, use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view(targets.shape)


def apart_nats(theirs, tokens: torch.Tensor, targets: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """The same, each run of equal numbers as a row of its own."""
    out = torch.zeros(targets.shape)
    for row in range(len(tokens)):
        edges = [0, *(np.flatnonzero(np.diff(documents[row].numpy())) + 1).tolist(), tokens.shape[1]]
        for start, end in pairwise(edges):
            cut = slice(row, row + 1), slice(start, end)
            out[cut] = plain_nats(theirs, tokens[cut], targets[cut])
    return out


# ----------------------------------------------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_those_of_transformers(made, kind, monkeypatch):
    monkeypatch.setattr(huggingface, "LOGITS", 1)  # 64 rows of logits at a time: no multiple of a row
    path, theirs = made(kind)
    ours = huggingface.open_model(path, context=CONTEXT)
    rows = some_rows(5)
    tokens, targets = rows[:, :-1], rows[:, 1:]
    with torch.no_grad():
        torch.testing.assert_close(ours.nats(tokens, targets), plain_nats(theirs, tokens, targets))
        torch.testing.assert_close(ours.logits(tokens), theirs(input_ids=tokens).logits.float())
    weights = torch.rand(targets.shape, generator=torch.Generator().manual_seed(0))
    weights[0, 3:9] = 0
    ours.train()
    loss = ours.mean_nats(ours(tokens), targets, weights)
    (3 * loss).backward()
    theirs.zero_grad()
    wanted = (plain_nats(theirs, tokens, targets) * weights).sum() / weights.sum()
    (3 * wanted).backward()
    torch.testing.assert_close(loss, wanted)
    for (name, mine), (_, other) in zip(ours.model.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
    torch.testing.assert_close(ours.mean_nats(ours(tokens), targets), plain_nats(theirs, tokens, targets).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_documents_of_a_row_do_not_see_each_other(made, kind):
    """By masks where the architecture has them, else each as a row of its own: the same numbers."""
    path, theirs = made(kind)
    ours = huggingface.open_model(path, context=CONTEXT)
    assert ours.packs == (kind in PACKED)
    rows = some_rows()
    documents = torch.tensor(
        [[0] * 7 + [1] + [2] * 8 + [-1] * 4, [4] * 20, [5] * 3 + [6] * 3 + [5] * 14], dtype=torch.int32
    )
    with torch.no_grad():
        wanted = apart_nats(theirs, rows[:, :-1], rows[:, 1:], documents)
    torch.testing.assert_close(ours.nats(rows[:, :-1], rows[:, 1:], documents), wanted)


@pytest.mark.parametrize("kind", ["Llama", "Bloom"])
def test_documents_apart_have_a_gradient(made, kind):
    path, theirs = made(kind)
    ours = huggingface.open_model(path, context=CONTEXT)
    rows = some_rows(2)
    documents = torch.tensor([[0] * 9 + [1] * 11, [2] * 4 + [3] * 16], dtype=torch.int32)
    ours.mean_nats(ours(rows[:, :-1], documents), rows[:, 1:]).backward()
    theirs.zero_grad()
    apart_nats(theirs, rows[:, :-1], rows[:, 1:], documents).mean().backward()
    for mine, other in zip(ours.model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_both_ways_to_keep_documents_apart_agree(made, lengths):
    path, _ = made("Qwen3")
    ours = huggingface.open_model(path)
    width = min(sum(lengths), CONTEXT)
    documents = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[:width].int().expand(2, -1)
    rows = some_rows(2, width)
    masked = ours.nats(rows[:, :-1], rows[:, 1:], documents)
    ours.packs = False
    torch.testing.assert_close(ours.nats(rows[:, :-1], rows[:, 1:], documents), masked, rtol=1e-4, atol=1e-4)


def test_only_wanted_targets_are_scored(made):
    ours = huggingface.open_model(made("Llama")[0])
    rows = some_rows()
    wanted = torch.rand(3, 20, generator=torch.Generator().manual_seed(2)) < 0.4
    got = ours.nats(rows[:, :-1], rows[:, 1:], wanted=wanted)
    torch.testing.assert_close(got, torch.where(wanted, ours.nats(rows[:, :-1], rows[:, 1:]), 0.0))
    assert ours.nats(rows[:, :-1], rows[:, 1:], wanted=torch.zeros_like(wanted)).abs().sum() == 0


def test_the_penalty_is_in_the_gradient_only(made):
    """z * logsumexp² (PaLM, Chowdhery et al. 2022, section 5, with z = 1e-4)."""
    ours = huggingface.open_model(made("Phi")[0])
    rows = some_rows()
    with torch.no_grad():
        stream = ours(rows[:, :-1])
    stream.requires_grad_()
    ours.mean_nats(stream, rows[:, 1:], z_loss=0.1).backward()
    mine, stream.grad = stream.grad, None
    weight, bias = ours.model.lm_head.weight, ours.model.lm_head.bias
    logits = (stream @ weight.T + bias).flatten(0, 1)
    penalised = F.cross_entropy(logits, rows[:, 1:].flatten()) + 0.1 * logits.logsumexp(1).square().mean()
    penalised.backward()
    torch.testing.assert_close(mine, stream.grad)
    plain = ours.mean_nats(stream, rows[:, 1:])
    torch.testing.assert_close(ours.mean_nats(stream, rows[:, 1:], z_loss=0.1), plain)


def test_nothing_that_counts_is_no_loss(made):
    ours = huggingface.open_model(made("Llama")[0])
    rows = some_rows()
    loss = ours.mean_nats(ours(rows[:, :-1]), torch.full((3, 20), -1), torch.zeros(3, 20))
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(float(p.grad.abs().sum()) == 0 for p in ours.parameters())


def test_recomputed_activations_give_the_same_gradient(made):
    path, _ = made("Llama")
    rows = some_rows()
    grads = []
    for checkpointing in (False, True):
        ours = huggingface.open_model(path, checkpointing=checkpointing).train()
        assert any(getattr(m, "gradient_checkpointing", False) for m in ours.modules()) == checkpointing
        ours.mean_nats(ours(rows[:, :-1]), rows[:, 1:]).backward()
        grads.append([p.grad for p in ours.parameters()])
    torch.testing.assert_close(grads[0], grads[1])
    ours.recompute(False)
    assert not any(getattr(m, "gradient_checkpointing", False) for m in ours.modules())


def test_dropout_is_off_in_training_and_kept_in_the_files(tmp_path, made):
    path, _ = made("GPT2")
    ours = huggingface.open_model(path).train()
    rows = some_rows()
    torch.testing.assert_close(ours(rows[:, :-1]), ours(rows[:, :-1]), rtol=0, atol=0)
    ours.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["resid_pdrop"] == 0.1


def test_half_precision_is_close(made):
    path, _ = made("Llama")
    rows = some_rows()
    exact = huggingface.open_model(path).nats(rows[:, :-1], rows[:, 1:])
    half = huggingface.open_model(path, dtype="bfloat16")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert half.packs
    torch.testing.assert_close(half.nats(rows[:, :-1], rows[:, 1:]).mean(), exact.mean(), rtol=1e-2, atol=0)
    half.mean_nats(half(rows[:, :-1]), rows[:, 1:]).backward()
    with torch.autocast("cpu", torch.bfloat16):
        cast = huggingface.open_model(path)
        torch.testing.assert_close(cast.nats(rows[:, :-1], rows[:, 1:]).mean(), exact.mean(), rtol=1e-2, atol=0)


def test_losses_of_documents(made):
    path, theirs = made("GPT2")
    ours = huggingface.open_model(path, context=8)
    documents = [some_rows(1, n, seed=n)[0, 1:].tolist() for n in (1, 8, 9, 20)]
    got = score.nll(ours, data.pack(documents, ours.config.separator))
    assert got.tokens.tolist() == [1, 8, 9, 20]
    for nats, document in zip(got.nats, documents, strict=True):
        stream = torch.tensor([[0, *document]])
        pieces = [stream[:, start : start + 9] for start in range(0, len(document), 8)]
        with torch.no_grad():
            wanted = sum(float(plain_nats(theirs, p[:, :-1], p[:, 1:]).sum()) for p in pieces)
        assert nats == pytest.approx(wanted, rel=1e-5)


# ------------------------------------------------------------------------------------------------ what a directory says


def test_what_a_directory_says(made):
    path, theirs = made("Llama")
    about = directory.inspect(path)
    assert about == directory.About(
        architecture="LlamaForCausalLM", vocab=VOCAB, context=CONTEXT, width=32, layers=2, separator=0
    )
    assert directory.inspect(path, context=7, separator=5).context == 7
    ours = huggingface.open_model(path)
    assert ours.weights == sum(p.numel() for p in theirs.parameters())
    # 2 layers of q, o 32 x 32, k, v 16 x 32, three 32 x 48, two norms; the head; the last norm
    multiplied = 2 * (2 * 1024 + 2 * 512 + 3 * 1536 + 64) + VOCAB * 32 + 32
    assert ours.flops_per_token == 6 * multiplied + 6 * 2 * CONTEXT * 32


@pytest.mark.parametrize(
    ("changes", "separator"),
    [
        ({"bos_token_id": 7, "eos_token_id": 9}, 7),
        ({"bos_token_id": None, "eos_token_id": [9, 4]}, 9),
        ({"bos_token_id": None, "eos_token_id": None}, 0),  # <|endoftext|> of the tokenizer
    ],
)
def test_the_separator_is_what_stands_before_a_text(tmp_path, changes, separator):
    write_model(tmp_path, **changes)
    assert directory.inspect(tmp_path).separator == separator


def test_rotary_positions_reach_further(tmp_path, made):
    path, _ = made("Llama")
    longer = huggingface.open_model(path, context=2 * CONTEXT)
    longer.save(tmp_path)
    assert directory.inspect(tmp_path).context == 2 * CONTEXT
    with pytest.raises(ValueError, match="65 positions do not fit a context of 64"):
        longer(torch.zeros((1, 65), dtype=torch.int64))
    with pytest.raises(ValueError, match="has 32 positions; a context of 64 is impossible"):
        directory.inspect(made("GPT2")[0], context=64)


@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_what_is_saved_is_an_ordinary_directory(tmp_path, made, kind):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path, theirs = made(kind)
    huggingface.open_model(path).save(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    for mine, other in zip(again.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert AutoTokenizer.from_pretrained(tmp_path)("the cat").input_ids
    assert (tmp_path / "tokenizer.json").read_bytes() == (path / "tokenizer.json").read_bytes()


def edit(path: Path, **changes) -> None:
    """Change config.json; None removes."""
    kept = json.loads((path / "config.json").read_text())
    kept.update(changes)
    (path / "config.json").write_text(json.dumps({k: v for k, v in kept.items() if v is not None}))


def only_pickles(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def a_shard_less(path: Path) -> None:
    (path / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "model-00001-of-00002.safetensors").touch()


def a_large_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer

    opened = Tokenizer.from_file(str(path / "tokenizer.json"))
    opened.add_tokens([f"word{i}" for i in range(330 - opened.get_vocab_size())])
    opened.save(str(path / "tokenizer.json"))


@pytest.mark.parametrize(
    ("spoil", "error", "match"),
    [
        (shutil.rmtree, FileNotFoundError, "is no directory.*nothing is fetched"),
        (lambda p: (p / "config.json").unlink(), FileNotFoundError, "holds no config.json"),
        (lambda p: (p / "config.json").rename(p / "adapter_config.json"), FileNotFoundError, "without its model"),
        (lambda p: edit(p, model_type=None), ValueError, "open a model of this trainer with checkpoint.load"),
        (lambda p: edit(p, model_type="mine", auto_map={"AutoModel": "m.M"}), ValueError, "own, which is not run"),
        (lambda p: edit(p, model_type="t5"), ValueError, "no causal language model"),
        (lambda p: edit(p, quantization_config={"bits": 4}), ValueError, "quantised"),
        (only_pickles, ValueError, "pickles only.*save_pretrained"),
        (lambda p: (p / "model.safetensors").unlink(), FileNotFoundError, "holds no model.safetensors"),
        (a_shard_less, FileNotFoundError, "lacks model-00002-of-00002.safetensors"),
        (lambda p: (p / "tokenizer.json").unlink(), ValueError, "holds no tokenizer.json; write one"),
        (a_large_tokenizer, ValueError, "330 tokens and the model 320 rows"),
    ],
)
def test_what_is_refused(tmp_path, made, spoil, error, match):
    path = tmp_path / "copy"
    shutil.copytree(made("Llama")[0], path)
    spoil(path)
    with pytest.raises(error, match=match):
        huggingface.open_model(path)


def test_more_that_is_refused(tmp_path, made):
    path, _ = made("Llama")
    with pytest.raises(ValueError, match="separator 320 is no token"):
        directory.inspect(path, separator=320)
    with pytest.raises(ValueError, match="dtype 'float16' does not exist"):
        huggingface.open_model(path, dtype="float16")
    with pytest.raises(ValueError, match="names no longest position; give the context"):
        directory.inspect(made("Mamba")[0])


def test_a_model_that_sees_the_future_is_refused(tmp_path):
    from transformers import BertConfig, BertLMHeadModel

    write_tokenizer(tmp_path)
    BertLMHeadModel(BertConfig(**LONG, is_decoder=True)).save_pretrained(tmp_path)
    edit(tmp_path, is_decoder=False)
    with pytest.raises(ValueError, match="a token sees the ones after it"):
        huggingface.open_model(tmp_path)


def test_weights_that_are_missing_are_not_drawn(tmp_path, made):
    from safetensors.torch import load_file, save_file

    shutil.copytree(made("Llama")[0], tmp_path / "copy")
    file = tmp_path / "copy" / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack weights of the model \(model.layers.1.mlp.up_proj.weight\)"):
        huggingface.open_model(tmp_path / "copy")


def test_an_unknown_form_of_logits_is_refused(tmp_path):
    """The head of BERT as a decoder is a matrix, a norm and another matrix."""
    from transformers import BertConfig, BertLMHeadModel

    write_tokenizer(tmp_path)
    BertLMHeadModel(BertConfig(**LONG, is_decoder=True)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="makes its logits in a way that is not known"):
        huggingface.open_model(tmp_path)
