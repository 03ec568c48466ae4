"""Models and interrupted runs as files: safetensors for numbers, JSON for the rest, never pickle.

A model is a directory with ``weights.safetensors`` and ``config.json``. An interrupted run is one file: weights, both
moments of the optimizer, the losses so far, and in its header which run it is; it is put in place whole or not at all.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from curate.train.model import Config, Decoder

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"


def save(model: Decoder, out: Path, **about: Any) -> None:
    """Write a model into a directory; ``about`` is kept beside its shape in ``config.json`` (see ``read_about``)."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    save_file(tensors, out / WEIGHTS)
    (out / CONFIG).write_text(json.dumps({"model": asdict(model.config), **about}, indent=2, sort_keys=True) + "\n")


def read_about(path: Path) -> dict[str, Any]:
    """What ``save`` wrote into ``config.json``."""
    kept: dict[str, Any] = json.loads((path / CONFIG).read_text())
    return kept


def load(path: Path, device: str = "cpu") -> Decoder:
    """The model of a directory that ``save`` wrote, on a device."""
    model = Decoder(Config(**read_about(path)["model"]))
    with torch.no_grad():
        tensors = load_file(path / WEIGHTS)
        for name, p in model.named_parameters():
            p.copy_(tensors[name])
    return model.to(device)


def save_run(
    path: Path, model: Decoder, optimizer: torch.optim.Optimizer, losses: Tensor, run: Mapping[str, Any]
) -> None:
    """Write an interrupted run; ``run``, as JSON would give it back, says which one it is."""
    tensors = {"losses": losses.contiguous()}
    for name, p in model.named_parameters():
        state = optimizer.state[p]
        tensors |= {f"weight.{name}": p, f"step.{name}": state["step"]}
        tensors |= {f"first.{name}": state["exp_avg"], f"second.{name}": state["exp_avg_sq"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(plain, unfinished, metadata={"run": json.dumps(run, sort_keys=True)})
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def load_run(path: Path, model: Decoder, optimizer: torch.optim.Optimizer, run: Mapping[str, Any]) -> Tensor:
    """Put the state of an interrupted run into a model and its optimizer; return the losses so far, float32 (steps,).

    Raises:
        ValueError: the file is of another run.
    """
    with safe_open(path, "pt") as file:
        kept = json.loads(file.metadata()["run"])
    if kept != run:
        other = sorted(key for key in kept.keys() | run.keys() if kept.get(key) != run.get(key))
        raise ValueError(f"{path} is of another run (other {', '.join(other)}); remove it, or name another checkpoint")
    tensors = load_file(path)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(tensors[f"weight.{name}"])
            optimizer.state[p] = {
                "step": tensors[f"step.{name}"].to(p.device),
                "exp_avg": tensors[f"first.{name}"].to(p.device),
                "exp_avg_sq": tensors[f"second.{name}"].to(p.device),
            }
    return tensors["losses"]
