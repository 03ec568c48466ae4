"""torch.compile where it pays: one layer is translated, once, for all layers of all models of a shape.

    with compiling.compiled(model, on="auto", steps=steps, tokens=16_384, precision="bfloat16"):
        ...                                                 # train; the model's names and structure do not change

What is translated is the function of one layer and the softmax of the loss, not the model: layers share the result,
so the wait does not grow with depth, and data parallelism may wrap the model as usual. On a CPU this loses nothing
against the whole step in one graph (there are no launches to save). Passes without gradients stay as they are, unless
``scoring`` is asked for: their widths vary, and each new one would be translated anew.

**When it pays.** Translating costs about WAIT seconds with an empty cache (g++ for a CPU, Triton for a GPU), and a
fifth to a third of a step is saved. So ``auto`` translates where the steps would take at least PAYS seconds without,
by the arithmetic they need and the rates of RATES. The rule knows sizes only, never a clock: which arithmetic a run
uses, and so its last bits, must not depend on how busy a machine was.

Translations are kept in ``cache()``, so the next process of the same versions on the same kind of CPU waits for a
few seconds only. A CPU needs a C++ compiler; without one, ``auto`` leaves the model as it is.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache as once
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

WAIT = 30.0              # seconds, one shape, empty cache: 15 to 60 measured, on two busy cores
PAYS = 8 * WAIT          # seconds of steps: a quarter saved is twice the wait
RATES = {                # what steps reach before they are translated, FLOP/s; those of small models
    ("cpu", "float32"): 0.5e11,
    ("cpu", "bfloat16"): 1.5e11,
    ("cuda", "float32"): 2e13,
    ("cuda", "bfloat16"): 1e14,
}
SHAPES = 64              # translations of one function that are kept in a process


@once
def translated(fn: Callable[..., Any], dynamic: bool = False) -> Callable[..., Any]:
    """A function, compiled at its first call for each shape (``dynamic``: for all shapes at once)."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache()))
    import torch._dynamo.config as limits

    limits.recompile_limit = max(limits.recompile_limit, SHAPES)
    return torch.compile(fn, dynamic=dynamic)


def worth(flops_per_token: int, *, steps: int, tokens: int, precision: str, device: str) -> bool:
    """Whether a run is long enough for torch.compile.

    Args:
        flops_per_token: of a training step (Decoder.flops_per_token).
        steps: of the run.
        tokens: of a step.
        precision: ``float32`` or ``bfloat16``.
        device: ``cpu`` or ``cuda``.
    """
    kind = device.partition(":")[0]
    if kind == "cpu" and compiler() is None:
        return False
    return flops_per_token * tokens * steps >= PAYS * RATES.get((kind, precision), RATES["cpu", "float32"])


def compiler() -> str | None:
    """The C++ compiler that torch.compile would use on a CPU; None where there is none."""
    return next((found for name in (os.environ.get("CXX"), "g++") if name and (found := shutil.which(name))), None)


@contextmanager
def compiled(
    model: nn.Module,
    *,
    on: bool | str = True,
    steps: int = 0,
    tokens: int = 0,
    precision: str = "float32",
    scoring: bool = False,
) -> Iterator[bool]:
    """Inside, the parts of a model that can be are compiled; says whether they are. Afterwards it is as before.

    Parts say that they can with an attribute ``compiled`` (Decoder and its blocks have it: "", "training" or
    "always"). A model without such parts is compiled as a whole.

    Args:
        model: on its device.
        on: True, False, or ``auto`` for where it pays (see above).
        steps: of the run, for ``auto``.
        tokens: of a step, for ``auto``.
        precision: ``float32`` or ``bfloat16``, for ``auto``.
        scoring: passes without gradients too.

    Raises:
        ValueError: another ``on``, or a CPU without a C++ compiler.
    """
    if on not in (True, False, "auto"):
        raise ValueError(f"compile={on!r} is no choice; use True, False or 'auto'")
    device = next(model.parameters()).device.type
    if on == "auto":
        flops = getattr(model, "flops_per_token", 0)
        on = worth(flops, steps=steps, tokens=tokens, precision=precision, device=device)
    if not on:
        yield False
        return
    if device == "cpu" and compiler() is None:
        raise ValueError("torch.compile needs a C++ compiler and finds none; install g++, or use compile=False")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache()))
    parts: list[Any] = [part for part in model.modules() if hasattr(part, "compiled")]
    before = [part.compiled for part in parts]
    for part in parts:
        part.compiled = "always" if scoring else "training"
    if not parts:
        model.compile()
    try:
        yield True
    finally:
        for part, was in zip(parts, before, strict=True):
            part.compiled = was
        if not parts:
            model._compiled_call_impl = None  # what Module.compile sets, and nothing takes back


def cache() -> Path:
    """Where translations are kept: the user's cache, by the versions of torch and Python."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "curate" / "inductor" / f"torch-{version('torch')}-python-{sys.version_info[0]}.{sys.version_info[1]}"
