"""Where a model runs: with how many threads, in which precision, how near to the device's peak.

**On a CPU** one thread is the default. Independent processes of one thread each are worth more than threads, and
threads of GNU OpenMP spin while they wait: with a neighbour on the other core, two of them were measured to run ten
times slower than one. ``environment`` is what a worker should have in its environment *before* torch is imported: its
threads sleep while they wait, and the C library keeps large blocks of memory instead of giving each back to the kernel
and faulting it in again at the next layer (1.1 to 1.3 times as fast; the process stays as large as it once was).

Weights are float32 always. "bfloat16" means bfloat16 arithmetic in matrix products and attention (autocast): on a GPU,
and on CPUs that have it (AVX-512 BF16, AMX).

**MFU**, the share of the peak that a run's necessary arithmetic is (Chowdhery et al. 2022, appendix B), is told for
known GPUs only. It depends on what is counted: Decoder.flops_per_token counts causal attention once (6N + 6LTd), most
published figures count it whole (6N + 12LTd, Decoder.flops_per_token_published).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from curate.train.compiling import cache

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KEEP = 1 << 30           # bytes: an allocation up to this size comes from memory that the process keeps
# Dense peak of matrix products, in FLOP/s, by a part of the device's name; the makers' data sheets, without sparsity.
# float32 is what torch multiplies with by default, without TF32.
PEAKS = {
    "B200": {"bfloat16": 2250e12, "float32": 75e12},
    "GH200": {"bfloat16": 989.4e12, "float32": 66.9e12},
    "H200": {"bfloat16": 989.4e12, "float32": 66.9e12},
    "H100 PCIe": {"bfloat16": 756e12, "float32": 51e12},
    "H100 NVL": {"bfloat16": 835e12, "float32": 60e12},
    "H100": {"bfloat16": 989.4e12, "float32": 66.9e12},
    "A100": {"bfloat16": 312e12, "float32": 19.5e12},
    "L40S": {"bfloat16": 362e12, "float32": 91.6e12},
    "L4": {"bfloat16": 121e12, "float32": 30.3e12},
    "A10": {"bfloat16": 125e12, "float32": 31.2e12},
    "RTX 4090": {"bfloat16": 165.2e12, "float32": 82.6e12},
    "RTX 3090": {"bfloat16": 71e12, "float32": 35.6e12},
}


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


def environment(threads: int = 1) -> dict[str, str]:
    """Environment variables for a process that trains on a CPU; torch must not be imported there before they are set.

    Args:
        threads: of torch in that process.
    """
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "MALLOC_MMAP_THRESHOLD_": str(KEEP),
        "MALLOC_TRIM_THRESHOLD_": str(4 * KEEP),
        "MALLOC_TOP_PAD_": str(KEEP // 16),
        "TORCHINDUCTOR_CACHE_DIR": str(cache()),
    }


def peak(device: torch.device | str, precision: str) -> float | None:
    """FLOP/s of a device in dense matrix products; None where it is not known, which is every CPU."""
    device = torch.device(device)
    return None if device.type != "cuda" else peak_of(torch.cuda.get_device_name(device), precision)


def peak_of(name: str, precision: str) -> float | None:
    """The same by the device's name, "NVIDIA H200" say."""
    words = name.replace("-", " ").split()
    for known, peaks in PEAKS.items():
        parts = known.split()
        if all(part in words for part in parts):
            return peaks.get(precision)
    return None


def mfu(
    flops_per_token: float, tokens_per_second: float, device: torch.device | str, precision: str = "bfloat16"
) -> float | None:
    """The share of a device's peak that a run's arithmetic is, 0 to 1; None where the peak is not known.

    Args:
        flops_per_token: of a training step (Decoder.flops_per_token).
        tokens_per_second: by the wall clock, on this one device.
        device: the device.
        precision: ``float32`` or ``bfloat16``.
    """
    most = peak(device, precision)
    return None if most is None else flops_per_token * tokens_per_second / most
