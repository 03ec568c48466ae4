"""A trained model as a directory of transformers: the same losses there, and the same weights when it comes back."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_huggingface import write_tokenizer

from curate.train import checkpoint, exporting, huggingface, model, opening

SHAPE = {"vocab": 320, "width": 24, "layers": 2, "heads": 3, "hidden": 40, "context": 12}
SHAPES = {
    "tied": model.Config(**SHAPE),
    "untied": model.Config(**SHAPE, tied=False, rope_base=500.0, eps=1e-6),
    "normalised": model.Config(**SHAPE, qk_norm=True),
    "normalised and untied": model.Config(**SHAPE, qk_norm=True, tied=False, eps=1e-3),
}


def random_model(config: model.Config, seed: int = 0) -> model.Decoder:
    """A decoder with no zero matrices, so that every part has a say."""
    made = model.Decoder(config, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0.0, 0.3, generator=generator)
    return made


@pytest.mark.parametrize("name", SHAPES)
def test_losses_are_the_same_in_transformers(name, tmp_path):
    """Logits to 1e-4, mean losses to 1e-5, and documents of one row apart in both."""
    from transformers import AutoModelForCausalLM

    ours = random_model(SHAPES[name])
    exporting.export(ours, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(theirs).__name__ == ("Qwen3ForCausalLM" if ours.config.qk_norm else "LlamaForCausalLM")
    rows = torch.randint(0, 320, (3, 12), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        there = theirs(rows, labels=rows)
        torch.testing.assert_close(ours.logits(rows), there.logits, rtol=1e-4, atol=1e-4)
    assert float(ours.nats(rows[:, :-1], rows[:, 1:]).mean()) == pytest.approx(float(there.loss), rel=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_what_comes_back_is_equal_to_the_bit(name, tmp_path):
    ours = random_model(SHAPES[name])
    exporting.export(ours, tmp_path)
    assert exporting.is_export(tmp_path)
    again = exporting.load(tmp_path)
    assert again.config == ours.config
    mine, other = dict(ours.named_parameters()), dict(again.named_parameters())
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[key], other[key]) for key in mine)


@settings(max_examples=30)
@given(heads=st.integers(1, 5), pairs=st.integers(1, 4), columns=st.integers(1, 3))
def test_halves_go_apart_and_together(heads, pairs, columns):
    rows = torch.arange(heads * 2 * pairs * columns).view(-1, columns)
    moved = exporting.halves_apart(rows, heads)
    assert torch.equal(exporting.halves_together(moved, heads), rows)


def test_where_rows_go():
    """Two heads of four: a head's even rows, then its odd ones."""
    moved = exporting.halves_apart(torch.arange(8)[:, None], 2)
    assert moved.flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_text_goes_in_and_comes_out(tmp_path):
    """With a tokenizer the directory is complete: AutoTokenizer, generation that stops at the separator, no pickle."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    write_tokenizer(tmp_path / "tokenizer")
    out = tmp_path / "out"
    exporting.export(random_model(SHAPES["tied"]), out, tokenizer=tmp_path / "tokenizer")
    assert {p.name for p in out.iterdir()} == {
        "config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json",
    }  # fmt: skip
    tokens = AutoTokenizer.from_pretrained(out)
    assert tokens.decode(tokens("the cat and the dog").input_ids) == "the cat and the dog"
    assert tokens.bos_token == tokens.eos_token == tokens.pad_token == "<|endoftext|>"
    assert tokens.model_max_length == 12
    assert GenerationConfig.from_pretrained(out).eos_token_id == 0
    opened = AutoModelForCausalLM.from_pretrained(out)
    made = opened.generate(**tokens("the", return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert made.shape[1] > 1


@pytest.mark.parametrize("name", SHAPES)
def test_the_wrapper_opens_it_too(name, tmp_path):
    ours = random_model(SHAPES[name])
    write_tokenizer(tmp_path / "tokenizer")
    exporting.export(ours, tmp_path / "out", tokenizer=tmp_path / "tokenizer", separator=5)
    wrapped = huggingface.open_model(tmp_path / "out")
    assert wrapped.config.separator == 5
    assert wrapped.packs
    rows = torch.randint(0, 320, (3, 12), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        wrapped.nats(rows[:, :-1], rows[:, 1:]), ours.nats(rows[:, :-1], rows[:, 1:]), rtol=1e-5, atol=1e-4
    )
    exporting.export(wrapped, tmp_path / "again")
    again = exporting.load(tmp_path / "again")
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), again.parameters(), strict=True))


def edit(path: Path, **changes) -> None:
    kept = json.loads((path / "config.json").read_text())
    kept.update(changes)
    (path / "config.json").write_text(json.dumps({k: v for k, v in kept.items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_key_value_heads": 1}, "holds no Decoder .num_key_value_heads differ.*huggingface.open_model"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"model_type": "gpt2"}, "model_type"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters"),
        ({"hidden_size": None}, "describes no Decoder .KeyError..hidden_size"),
        ({"num_hidden_layers": 3}, "has no model.layers.2.input_layernorm.weight"),
        ({"num_hidden_layers": 1}, "is no weight of a Decoder"),
    ],
)
def test_other_models_are_not_taken_for_ours(changes, match, tmp_path):
    exporting.export(random_model(SHAPES["tied"]), tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(ValueError, match=match):
        exporting.load(tmp_path)


def test_gains_that_learned_are_not_dropped(tmp_path):
    from safetensors.torch import load_file, save_file

    exporting.export(random_model(SHAPES["normalised"]), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.self_attn.q_norm.weight"][3] = 1.01
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model.layers.1.self_attn.q_norm in .* has gains that are not one"):
        exporting.load(tmp_path)


def test_what_cannot_be_exported(tmp_path):
    ours = random_model(SHAPES["tied"])
    with pytest.raises(ValueError, match=r"holds no tokenizer\.json"):
        exporting.export(ours, tmp_path / "out", tokenizer=tmp_path)
    with pytest.raises(ValueError, match="separator 320 is no token"):
        exporting.export(ours, tmp_path / "out", separator=320)
    write_tokenizer(tmp_path)
    small = random_model(model.Config(**{**SHAPE, "vocab": 100}))
    with pytest.raises(ValueError, match="tokens and the model 100"):
        exporting.export(small, tmp_path / "out", tokenizer=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        exporting.load(tmp_path)
    assert not exporting.is_export(tmp_path)


def test_one_way_to_open_all_kinds(tmp_path):
    """What we save and what we export open as a Decoder; the same files without our mark as a model of transformers."""
    ours = random_model(SHAPES["tied"])
    checkpoint.save(ours, tmp_path / "saved", separator=3)
    write_tokenizer(tmp_path / "exported")
    exporting.export(ours, tmp_path / "exported", tokenizer=tmp_path / "exported", separator=4)
    exporting.export(ours, tmp_path / "theirs", tokenizer=tmp_path / "exported", separator=5)
    edit(tmp_path / "theirs", curate=None)
    rows = torch.randint(0, 320, (3, 9), generator=torch.Generator().manual_seed(3))
    wanted = ours.nats(rows[:, :-1], rows[:, 1:])
    kinds = {"saved": model.Decoder, "exported": model.Decoder, "theirs": huggingface.HuggingFace}
    for separator, (name, kind) in enumerate(kinds.items(), 3):
        assert opening.is_model(tmp_path / name)
        opened = opening.open_any(tmp_path / name)
        assert type(opened) is kind
        torch.testing.assert_close(opened.nats(rows[:, :-1], rows[:, 1:]), wanted, rtol=1e-4, atol=1e-4)
        assert opening.separator_of(tmp_path / name) == separator
        assert opened.config.context == 12
    assert opening.open_any(tmp_path / "theirs", context=7).config.context == 7
    assert opening.open_any(tmp_path / "theirs", most=7).config.context == 7
    assert opening.open_any(tmp_path / "theirs", most=70).config.context == 12
    assert opening.open_any(tmp_path / "exported", context=7).config.context == 12
    with pytest.raises(ValueError, match="has 12 positions; a context of 13 is impossible"):
        opening.open_any(tmp_path / "saved", context=13)
    assert not opening.is_model(tmp_path)
    checkpoint.save(ours, tmp_path / "saved")
    with pytest.raises(ValueError, match="names no separator"):
        opening.separator_of(tmp_path / "saved")
