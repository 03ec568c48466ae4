"""Models and interrupted runs as files: safetensors for numbers, JSON for the rest, never pickle.

A model is a directory with ``weights.safetensors`` and ``config.json``.

An interrupted run is its weights, the state of its optimizers, its curve so far, and which run it is. It is one file,
put in place whole or not at all. Where the weights are split over ranks (FSDP2) it is a directory beside that file,
``NAME.shards``, into which every rank writes its part by ``torch.distributed.checkpoint``, in safetensors too; a small
JSON file, written last, says which of its folders is the whole one. Either form continues on any number of ranks.
"""

import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from curate.train.distributed import barrier, like, ranks, whole
from curate.train.model import Config, Decoder

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
SHARDS = ".shards"
LATEST = "latest.json"

Optimizers = Sequence[torch.optim.Optimizer]


# -------------------------------------------------------------------------------------------------------------- models


def save(model: Decoder, out: Path, **about: Any) -> None:
    """Write a model into a directory; ``about`` is kept beside its shape in ``config.json`` (see ``read_about``).

    On several ranks all of them call it, and the first one writes.
    """
    tensors = {name: whole(p.detach()).cpu().contiguous() for name, p in model.named_parameters()}
    if ranks().first:
        out.mkdir(parents=True, exist_ok=True)
        save_file(tensors, out / WEIGHTS)
        described = {"model": asdict(model.config), **about}
        (out / CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    barrier()


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


# ---------------------------------------------------------------------------------------------------- interrupted runs


def state(model: nn.Module, optimizers: Optimizers) -> dict[str, Tensor]:
    """What a run's next step depends on: ``weight.NAME`` of each trained parameter, and ``KEY.NAME`` of each entry that
    an optimizer keeps for it. The tensors are the run's own, not copies.
    """
    out: dict[str, Tensor] = {}
    for name, p in trained(model).items():
        out[f"weight.{name}"] = p.detach()
        for optimizer in optimizers:
            out |= {f"{key}.{name}": value for key, value in optimizer.state.get(p, {}).items()}
    return out


@torch.no_grad()
def restore(tensors: Mapping[str, Tensor], model: nn.Module, optimizers: Optimizers) -> None:
    """Put a run into the state that ``state`` gave; the optimizers keep copies.

    Raises:
        ValueError: the state is of another model or of other optimizers.
    """
    mine = trained(model)
    shapes = {name[7:]: value.shape for name, value in tensors.items() if name.startswith("weight.")}
    if shapes != {name: p.shape for name, p in mine.items()}:
        raise ValueError("the checkpoint holds the weights of another model; build the one that was trained")
    for name, p in mine.items():
        p.copy_(fitted(tensors[f"weight.{name}"], p))
        for optimizer in optimizers:
            if any(p is q for group in optimizer.param_groups for q in group["params"]):
                missing = [key for key in _keys(optimizer) if f"{key}.{name}" not in tensors]
                if missing:
                    raise ValueError(
                        f"the checkpoint is of another optimizer (no {missing[0]} of {name}); train with the same one"
                    )
                optimizer.state[p] = {key: fitted(tensors[f"{key}.{name}"], p).clone() for key in _keys(optimizer)}


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _keys(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    return ("step", "exp_avg", "exp_avg_sq") if isinstance(optimizer, torch.optim.AdamW) else ("momentum",)


def fitted(value: Tensor, p: Tensor) -> Tensor:
    """A kept tensor on the device of its parameter, and split like it where it is whole and the parameter is not."""
    there = value.to(p.device)
    return like(p, there) if there.shape == p.shape and not hasattr(value, "full_tensor") else there


def save_run(path: Path, tensors: Mapping[str, Tensor], step: int, run: Mapping[str, Any]) -> None:
    """Write an interrupted run, in place of an earlier state of it. On several ranks all of them call it.

    Args:
        path: of the file; split tensors go into the directory beside it.
        tensors: by name.
        step: how many steps are done.
        run: which run it is, as JSON would give it back.
    """
    shards = path.with_name(path.name + SHARDS)
    if any(hasattr(value, "full_tensor") for value in tensors.values()):
        _save_shards(shards, tensors, step, run)
        if ranks().first:
            path.unlink(missing_ok=True)
    elif ranks().first:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(plain, unfinished, metadata={"run": json.dumps(run, sort_keys=True), "step": str(step)})
        before = path.stat().st_mtime if path.exists() else 0.0
        _in_place(unfinished, path)
        for left in path.parent.glob(f"{path.name}.*.tmp"):
            with suppress(FileNotFoundError):  # another process finished with it just now
                if left.stat().st_mtime < before:  # of a process that was killed in the middle of it
                    left.unlink()
        shutil.rmtree(shards, ignore_errors=True)
    barrier()


def load_run(path: Path, run: Mapping[str, Any], model: nn.Module) -> dict[str, Tensor] | None:
    """The tensors of an interrupted run; None where there is none.

    Args:
        path: as it was saved.
        run: which run it must be: what is said here must be so there.
        model: whose parameters say how split tensors are split.

    Raises:
        ValueError: it is of another run.
    """
    shards = path.with_name(path.name + SHARDS)
    found: list[tuple[int, Path, Any]] = []  # both forms are there where a run was killed between two writes
    if path.exists():
        with safe_open(path, "pt") as file:
            about = file.metadata()
        found.append((int(about["step"]), path, json.loads(about["run"])))
    if (shards / LATEST).exists():
        latest = json.loads((shards / LATEST).read_text())
        found.append((latest["step"], shards / latest["folder"], latest["run"]))
    if not found:
        return None
    _, newest, kept = max(found, key=lambda entry: entry[0])
    if other := sorted(key for key in run if kept.get(key) != run[key]):
        raise ValueError(f"{path} is of another run (other {', '.join(other)}); remove it, or name another checkpoint")
    return load_file(newest) if newest == path else _load_shards(newest, model)


def _in_place(unfinished: Path, path: Path) -> None:
    """Give a finished file its name."""
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def _save_shards(shards: Path, tensors: Mapping[str, Tensor], step: int, run: Mapping[str, Any]) -> None:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save as save_parts

    folder = f"step-{step}"
    if ranks().first:
        shutil.rmtree(shards / folder, ignore_errors=True)  # of a run that was killed while it wrote
        (shards / folder).mkdir(parents=True)
    barrier()
    writer = HuggingFaceStorageWriter(str(shards / folder), save_distributed=True)
    save_parts({name: value.detach() for name, value in tensors.items()}, storage_writer=writer)
    barrier()
    if ranks().first:
        unfinished = shards / f"{LATEST}.tmp"
        unfinished.write_text(json.dumps({"step": step, "folder": folder, "run": run}, sort_keys=True))
        _in_place(unfinished, shards / LATEST)
        for older in shards.glob("step-*"):
            if older.name != folder:
                shutil.rmtree(older)
    barrier()


def _load_shards(folder: Path, model: nn.Module) -> dict[str, Tensor]:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load as load_parts

    reader = HuggingFaceStorageReader(str(folder))
    parameters = trained(model)
    out: dict[str, Tensor] = {}
    for name, about in reader.read_metadata().state_dict_metadata.items():
        p = parameters.get(name.partition(".")[2])
        if isinstance(about, TensorStorageMetadata):
            if p is not None and about.size == p.shape:
                out[name] = torch.empty_like(p)
            else:
                out[name] = torch.empty(about.size, dtype=about.properties.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process reads alone, and means to
        load_parts(out, storage_reader=reader, no_dist=ranks().count == 1)
    return out
