"""LoRA: nothing changes at first, only adapters learn, merged is the same, and the files are PEFT's."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_exporting import SHAPES, random_model
from test_huggingface import CONTEXT, some_rows, write_model, write_tokenizer
from torch import nn

from curate.train import exporting, huggingface, loop, lora
from curate.train.feed import Batch


class Two(nn.Module):
    """x of two to one of three, without bias: small enough for a pencil."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(2, 3, bias=False)
        self.down = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(x))


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model after its adapters have learned something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0.0, 0.3, generator=generator)
    return model


@pytest.fixture(scope="module", params=["Decoder", "Decoder, normalised", "Llama", "GPT2"])
def fresh(request, tmp_path_factory):
    """A function that opens the same model anew."""
    if request.param.startswith("Decoder"):
        return lambda: random_model(SHAPES["normalised" if "," in request.param else "tied"])
    out = tmp_path_factory.mktemp(request.param)
    write_model(out, request.param)
    return lambda: huggingface.open_model(out, context=CONTEXT)


def nats(model: nn.Module) -> torch.Tensor:
    rows = some_rows(3, 12)
    return model.nats(rows[:, :-1], rows[:, 1:])


def test_by_hand():
    """h = W x + alpha / r B A x with W = [[1, 0], [0, 1], [1, 1]], A = [1, 2], B = [3, 0, -1], alpha / r = 1/2.

    At x = (2, 1): W x = (2, 1, 3), A x = 4, B A x / 2 = (6, 0, -2).
    """
    model = Two()
    assert lora.attach(model, lora.Lora(r=1, alpha=0.5, targets=("up",))) == ["up"]
    with torch.no_grad():
        model.up.base.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        model.up.lora_A.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.up.lora_B.weight.copy_(torch.tensor([[3.0], [0.0], [-1.0]]))
    assert model.up(torch.tensor([2.0, 1.0])).tolist() == [8.0, 1.0, 1.0]
    assert model.up.weight.tolist() == [[2.5, 3.0], [0.0, 1.0], [0.5, 0.0]]
    lora.merge(model)
    assert model.up.weight.tolist() == [[2.5, 3.0], [0.0, 1.0], [0.5, 0.0]]
    assert type(model.up) is nn.Linear


def test_how_it_starts():
    """'We use a random Gaussian initialization for A and zero for B' (section 4.1); the authors' code and PEFT draw A
    as nn.Linear does, uniform within sqrt(6 / ((1 + a²) inputs)) with a = sqrt 5: within inputs^-1/2."""
    model = nn.ModuleDict({"wide": nn.Linear(400, 50), "other": nn.Linear(400, 50)})
    lora.attach(model, lora.Lora(r=16))
    a = model["wide"].lora_A.weight.detach()
    assert float(a.abs().max()) <= 400**-0.5
    assert float(a.abs().max()) > 0.99 * 400**-0.5
    assert float(a.std()) == pytest.approx(400**-0.5 / 3**0.5, rel=0.02)
    assert not model["wide"].lora_B.weight.any()
    assert not torch.equal(a, model["other"].lora_A.weight)
    again = nn.ModuleDict({"wide": nn.Linear(400, 50), "other": nn.Linear(400, 50)})
    lora.attach(again, lora.Lora(r=16, targets=("wide",)))
    assert torch.equal(a, again["wide"].lora_A.weight), "a layer's start depends on more than its name and the seed"
    other = nn.ModuleDict({"wide": nn.Linear(400, 50)})
    lora.attach(other, lora.Lora(r=16), seed=1)
    assert not torch.equal(a, other["wide"].lora_A.weight)


def test_nothing_changes_at_first(fresh):
    model = fresh()
    before = nats(model)
    lora.attach(model)
    assert torch.equal(nats(model), before)


def test_only_adapters_learn(fresh):
    model = fresh()
    lora.attach(model, lora.Lora(r=4))
    learn = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learn == {name for name, _ in model.named_parameters() if ".lora_A." in name or ".lora_B." in name}
    kept = {name: p.detach().clone() for name, p in model.named_parameters() if name not in learn}
    rows = some_rows(4, 12)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model.mean_nats(model(rows[:, :-1]), rows[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.equal(p, kept[name]) for name, p in model.named_parameters() if name in kept)
    assert all(p.grad is None for name, p in model.named_parameters() if name in kept)


def test_merged_is_the_same(fresh):
    model = fresh()
    names = [name for name, _ in model.named_parameters()]
    lora.attach(model, lora.Lora(r=4))
    with_adapters = nats(shaken(model))
    assert not torch.allclose(with_adapters, nats(fresh()), atol=0.1)
    lora.merge(model)
    torch.testing.assert_close(nats(model), with_adapters, rtol=1e-4, atol=1e-4)
    assert [name for name, _ in model.named_parameters()] == names
    assert all(p.requires_grad for p in model.parameters())


def test_files_bring_it_back(fresh, tmp_path):
    model = fresh()
    lora.attach(model, lora.Lora(r=4, alpha=6.0))
    shaken(model)
    lora.save(model, tmp_path, base="somewhere")
    again = fresh()
    names = lora.load(again, tmp_path)
    assert torch.equal(nats(again), nats(model))
    assert names
    kept = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (kept["r"], kept["lora_alpha"], kept["base_model_name_or_path"]) == (4, 6.0, "somewhere")


def test_an_adapter_of_a_decoder_is_one_of_its_exported_form(tmp_path):
    """The same losses from decoder and adapter, and from the exported directory and the adapter's files."""
    for number, shape in enumerate(SHAPES.values()):
        ours = random_model(shape)
        out, adapter = tmp_path / f"{number}", tmp_path / f"adapter{number}"
        write_tokenizer(out)
        exporting.export(ours, out, tokenizer=out)
        lora.attach(ours, lora.Lora(r=3, targets=("qkv", "down")))
        lora.save(shaken(ours), adapter)
        theirs = huggingface.open_model(out)
        assert len(lora.load(theirs, adapter)) == 4 * shape.layers
        torch.testing.assert_close(nats(theirs), nats(ours), rtol=1e-4, atol=1e-4)
        # and an adapter that learned there, where queries and keys have an A each, is no Decoder's
        with torch.no_grad():
            theirs.model.model.layers[1].self_attn.k_proj.lora_A.weight.add_(0.1)
        lora.save(theirs, adapter)
        with pytest.raises(ValueError, match=r"layer 1's qkv .* do not share A"):
            lora.load(random_model(shape), adapter)


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (("qkv",), ["blocks.0.qkv", "blocks.1.qkv"]),
        (("blocks.1.*",), ["blocks.1.qkv", "blocks.1.out", "blocks.1.gate_up", "blocks.1.down"]),
        (("*.0.out", "dow?"), ["blocks.0.out", "blocks.0.down", "blocks.1.down"]),
    ],
)
def test_layers_by_name(targets, names):
    assert lora.attach(random_model(SHAPES["tied"]), lora.Lora(targets=targets)) == names


def test_the_head_is_left_alone(tmp_path):
    write_model(tmp_path, "Llama")
    names = lora.attach(huggingface.open_model(tmp_path))
    assert len(names) == 2 * 7
    assert "lm_head" not in names


def test_recomputed_activations_reach_the_adapters(tmp_path):
    write_model(tmp_path, "Llama")
    rows, grads = some_rows(), []
    for checkpointing in (False, True):
        model = huggingface.open_model(tmp_path, checkpointing=checkpointing).train()
        lora.attach(model)
        shaken(model)
        model.mean_nats(model(rows[:, :-1]), rows[:, 1:]).backward()
        grads.append([p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(grads[0], grads[1])


def test_half_precision_below_adapters_in_full(tmp_path):
    write_model(tmp_path, "Llama")
    model = huggingface.open_model(tmp_path, dtype="bfloat16")
    lora.attach(model)
    shaken(model)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    rows = some_rows()
    model.mean_nats(model(rows[:, :-1]), rows[:, 1:]).backward()
    before = nats(model)
    lora.merge(model)
    torch.testing.assert_close(nats(model).mean(), before.mean(), rtol=1e-2, atol=0)


def test_dropout_is_felt_in_training_only():
    model = Two()
    lora.attach(model, lora.Lora(r=2, dropout=0.5, targets=("up",)))
    shaken(model)
    x = torch.ones(64, 2)
    assert len({tuple(row) for row in model.up(x).tolist()}) > 1
    model.eval()
    assert len({tuple(row) for row in model.up(x).tolist()}) == 1


def test_what_is_refused(tmp_path):
    model = random_model(SHAPES["tied"])
    with pytest.raises(ValueError, match="layer is called q_proj; layers here end in: down, gate_up, out, qkv"):
        lora.attach(model, lora.Lora(targets=("q_proj",)))
    with pytest.raises(ValueError, match="no adapters to merge"):
        lora.merge(model)
    with pytest.raises(ValueError, match="no adapters to save"):
        lora.save(model, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds no adapter_config\.json"):
        lora.load(model, tmp_path)
    lora.attach(model)
    with pytest.raises(ValueError, match="has adapters already"):
        lora.attach(model)
    for wrong in ({"r": 0}, {"dropout": 1.0}, {"targets": ()}, {"alpha": float("nan")}):
        with pytest.raises(ValueError, match="is no adapter"):
            lora.Lora(**wrong)


def test_adapters_that_are_refused(tmp_path):
    model = random_model(SHAPES["tied"])
    lora.attach(model, lora.Lora(targets=("qkv",)))
    lora.save(model, tmp_path)
    config, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    described, tensors = json.loads(config.read_text()), load_file(weights)
    for change in ({"use_dora": True}, {"peft_type": "IA3"}, {"bias": "all"}, {"rank_pattern": {"q_proj": 3}}):
        config.write_text(json.dumps({**described, **change}))
        with pytest.raises(ValueError, match=f"sets {next(iter(change))}, which is not read here"):
            lora.load(random_model(SHAPES["tied"]), tmp_path)
    config.write_text(json.dumps(described))
    without = {name: t for name, t in tensors.items() if "layers.1.self_attn.v_proj.lora_B" not in name}
    save_file(without, weights)
    with pytest.raises(ValueError, match=r"lacks model\.layers\.1\.self_attn\.v_proj\.lora_B"):
        lora.load(random_model(SHAPES["tied"]), tmp_path)
    save_file({**tensors, "base_model.model.model.layers.7.mlp.down_proj.lora_A.weight": torch.ones(8, 40)}, weights)
    with pytest.raises(ValueError, match="has layers that the model lacks"):
        lora.load(random_model(SHAPES["tied"]), tmp_path)
    write_model(tmp_path / "other", "GPT2")
    with pytest.raises(ValueError, match="has layers that the model lacks"):
        lora.load(huggingface.open_model(tmp_path / "other"), tmp_path)
    save_file({name: t if "lora_A" in name else t[:5].clone() for name, t in tensors.items()}, weights)
    write_tokenizer(tmp_path / "export")
    exporting.export(random_model(SHAPES["tied"]), tmp_path / "export", tokenizer=tmp_path / "export")
    with pytest.raises(ValueError, match=r"has the shape \(5, 8\), the model needs \(24, 8\)"):
        lora.load(huggingface.open_model(tmp_path / "export"), tmp_path)


def test_rank_stabilised_scale_is_read(tmp_path):
    """alpha / sqrt(r) instead of alpha / r (Kalajdzievski 2023)."""
    model = random_model(SHAPES["tied"])
    lora.attach(model, lora.Lora(r=4, alpha=8.0))
    lora.save(shaken(model), tmp_path)
    described = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**described, "use_rslora": True, "lora_alpha": 4.0}))
    again = random_model(SHAPES["tied"])
    lora.load(again, tmp_path)
    assert torch.equal(nats(again), nats(model))


class Documents:
    """A feed of rows that hold two documents each."""

    steps, epochs = 12, 1.0

    def batch(self, step: int) -> Batch:
        ids = np.random.default_rng(step).integers(0, 8, (4, 13))
        return Batch(ids, documents=np.repeat([[0] * 6 + [1] * 7], 4, axis=0).astype(np.int32))

    def identity(self) -> dict[str, int]:
        return {"documents": 2}


def test_a_killed_run_of_adapters_continues_bit_by_bit(fresh, tmp_path):
    """The loop trains adapters alone, keeps nothing else in its checkpoint, and continues where it was."""
    settings = loop.Training(lr=1e-2, checkpoint_every=5, line=1)

    def begun() -> nn.Module:
        model = fresh()
        lora.attach(model, lora.Lora(r=2))
        return model

    def kill(line) -> None:
        if line.step >= 7:
            raise KeyboardInterrupt

    whole = loop.fit(begun(), settings, Documents())
    assert whole.losses[-1] < whole.losses[0] - 0.1
    saved = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        loop.fit(begun(), settings, Documents(), checkpoint=saved, watch=kill)
    assert not [name for name in load_file(saved) if ".base." in name or "embed" in name]
    again = loop.fit(begun(), settings, Documents(), checkpoint=saved)
    assert again.losses.tobytes() == whole.losses.tobytes()
    for mine, other in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_all_weights_of_a_wrapped_model_train_in_the_loop(tmp_path):
    """In one pass or in parts, with recomputed activations or without: the same curve."""
    write_model(tmp_path, "Llama")
    plain, parts = loop.Training(lr=3e-3, embedding_lr=1.0), {"micro": 16, "recompute": True}
    curves = [
        loop.fit(huggingface.open_model(tmp_path), settings, Documents()).losses
        for settings in (plain, replace(plain, **parts))
    ]
    assert curves[0][-1] < curves[0][0] - 0.5
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)


PEFT = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, rows = sys.argv[1], sys.argv[2], torch.tensor(json.loads(sys.argv[3]))
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
with torch.no_grad():
    logits = model(input_ids=rows[:, :-1]).logits
nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
if len(sys.argv) > 4:
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data.mul_(1.5)
    model.save_pretrained(sys.argv[4])
print(json.dumps(nats.view(rows.shape[0], -1).tolist()))
"""


@pytest.mark.slow
@pytest.mark.skipif("CURATE_PEFT" not in os.environ, reason="CURATE_PEFT names no python that has peft")
@pytest.mark.parametrize("kind", ["Decoder", "Llama", "GPT2"])
def test_peft_opens_it(kind, tmp_path):
    """PEFT computes the same losses from our files, and we from its."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    if kind == "Decoder":
        write_tokenizer(base)
        model = random_model(SHAPES["normalised"])
        exporting.export(model, base, tokenizer=base)
    else:
        write_model(base, kind)
        model = huggingface.open_model(base)
    lora.attach(model, lora.Lora(r=4))
    lora.save(shaken(model), adapter, base=str(base))
    rows = some_rows(3, 12)
    arguments = [str(base), str(adapter), json.dumps(rows.tolist()), str(tmp_path / "back")]
    command = [os.environ["CURATE_PEFT"], "-c", PEFT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), nats(model), rtol=1e-4, atol=1e-4)
    again = huggingface.open_model(base)
    lora.load(again, Path(tmp_path / "back"))
    ours = dict(again.named_parameters())
    assert sum(".lora_A." in name for name in ours) > 0
    for name, value in load_file(tmp_path / "back" / "adapter_model.safetensors").items():
        assert torch.equal(value, ours[name.replace("base_model.model.", "model.", 1)])
