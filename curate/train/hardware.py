"""Where a model runs, with how many threads and in which precision.

On a CPU one thread is the default. Independent processes of one thread each are worth more than threads, and threads
of GNU OpenMP spin while they wait: with a neighbour on the other core, two of them were measured to run ten times
slower than one. A worker that wants several threads should have OMP_WAIT_POLICY=passive in its environment before
torch is imported.

Weights are float32 always. "bfloat16" means bfloat16 arithmetic in matrix products and attention (autocast): on a GPU,
and on CPUs that have it (AVX-512 BF16, AMX) from a width of about 128 on.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads here, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Arithmetic in ``precision``, one of PRECISIONS, on a device.

    Raises:
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} does not exist; use one of: {', '.join(PRECISIONS)}")
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "float32")
