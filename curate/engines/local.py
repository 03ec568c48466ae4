"""In this process: with one worker items in order, the reference that the other engines must equal; or on threads.

Threads pay because what is slow releases the interpreter's lock: Parquet, compression, the kernels. A step with a
model takes one item after the other all the same: torch counts its threads and draws its random numbers per process.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from curate.errors import BadInput
from curate.stage import Needs

HOLDS = 256 << 20  # bytes of decoded text a worker, and all of them at most
SHARE = 8  # of the machine's memory is the one part that they may take


class Local:
    """The running process.

    Args:
        workers: threads; each holds a part at a time.
    """

    name = "local"

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self.holds = min(workers * HOLDS, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // SHARE)

    def map(
        self, task: Callable[[Any], dict[str, Any]], items: Sequence[tuple[str, Any]], *, label: str, needs: Needs
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See ``Engine.map``."""
        if needs.gpus:
            require_cuda(needs.gpus, label)
        if self.workers == 1 or len(items) < 2 or needs.alone:
            for index, (_, item) in enumerate(items):
                yield index, task(item)
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="curate") as pool:
            running = {pool.submit(task, item): index for index, (_, item) in enumerate(items)}
            try:
                for done in as_completed(running):
                    yield running.pop(done), done.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Nothing is held."""


def require_cuda(count: int, label: str) -> None:
    """Raise BadInput where this machine has fewer CUDA devices than a step needs."""
    import torch

    if torch.cuda.device_count() < count:
        raise BadInput(
            f"{label} needs {count} GPU(s), this machine has {torch.cuda.device_count()}",
            where="--engine local",
            fix="run it where there are devices, or choose a step that needs none",
        )
