"""Training on several processes, one a device, started by ``torchrun``.

Every rank asks the feed for the same batch and takes its own rows, so a run is decided by its feed and not by how many
ranks share it: the gradient is that of the whole batch, and the result that of one process, within floating point.
Losses are weighted by what counts in them, so ranks may hold unequal shares; a rank without a row left computes one
that counts for nothing, because all ranks must meet at every exchange.

    ddp     every rank holds the model; gradients are averaged (Li et al. 2020)
    fsdp    weights, gradients and optimizer state are split over the ranks (FSDP2, torch.distributed.fsdp.fully_shard;
            Zhao et al. 2023); the layers, the children of the model's outermost ModuleLists, are gathered one by one

Arithmetic is autocast's, with float32 weights, under both: that is what one process computes.
Elsewhere: checkpoints of split models (checkpoint.py).
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

PARALLEL = ("ddp", "fsdp")


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Args:
        rank: 0 to count - 1.
        count: of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.rank == 0


ALONE = Ranks()


def ranks() -> Ranks:
    """The place of this process among those that were joined (see ``joined``), or alone."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return ALONE


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that ``torchrun`` started, for as long as this lasts; alone where it started none.

    Gives the device of this process: ``cuda`` becomes the GPU of its local rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 and "TORCHELASTIC_RUN_ID" not in os.environ:
        yield device
        return
    mine = device
    if torch.device(device).type == "cuda":
        mine = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(mine)
    dist.init_process_group("nccl" if mine.startswith("cuda") else "gloo")
    try:
        yield mine
    finally:
        dist.destroy_process_group()


def spread(step: nn.Module, model: nn.Module, parallel: str, me: Ranks) -> nn.Module:
    """``step``, a module that computes the loss of ``model``, made one of several ranks; as it is where there is one.

    Raises:
        ValueError: a way that does not exist.
    """
    if parallel not in PARALLEL:
        raise ValueError(f"parallel {parallel!r} does not exist; use one of: {', '.join(PARALLEL)}")
    if me.count == 1:
        return step
    if parallel == "ddp":
        device = next(model.parameters()).device
        return nn.parallel.DistributedDataParallel(
            step, device_ids=[device.index] if device.type == "cuda" else None, broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )  # fmt: skip
    split(model)
    return step


def split(model: nn.Module) -> None:
    """Split the parameters of a model over the ranks, in place (FSDP2); nothing where they are split already."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if isinstance(model, FSDPModule):
        return
    mesh = init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
    for layer in layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    for method in ("mean_nats", "nats", "logits"):
        if hasattr(model, method):
            register_fsdp_forward_method(model, method)


def layers(model: nn.Module) -> list[nn.Module]:
    """The children of the outermost ModuleLists of a model."""
    out: list[nn.Module] = []
    inside: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in inside):
            inside.append(name)
            out += list(module)
    return out


def unsynced(step: nn.Module, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Where a part of a batch is computed: gradients are exchanged with the last part only."""
    if isinstance(step, nn.parallel.DistributedDataParallel):
        return nullcontext() if last else step.no_sync()
    switch = getattr(model, "set_requires_gradient_sync", None)  # FSDP2's
    if switch is not None:
        switch(last)
    return nullcontext()


def summed(values: Tensor) -> Tensor:
    """The sum of a tensor over the ranks, on every rank."""
    if ranks().count > 1:
        dist.all_reduce(values)
    return values


def barrier() -> None:
    """Wait for all ranks."""
    if ranks().count > 1:
        dist.barrier()


def whole(value: Tensor) -> Tensor:
    """A tensor as it is, or gathered where it is split over ranks (all ranks must ask)."""
    gather = getattr(value, "full_tensor", None)
    return value if gather is None else gather()


def like(pattern: Tensor, value: Tensor) -> Tensor:
    """A whole tensor split as ``pattern`` is, each rank keeping its part; as it is where that is not split."""
    if not hasattr(pattern, "full_tensor"):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(pattern, DTensor):
        raise ValueError(f"{type(pattern).__name__} is split in a way that is not known here; use FSDP2's tensors")
    return distribute_tensor(value, pattern.device_mesh, pattern.placements, src_data_rank=None)
