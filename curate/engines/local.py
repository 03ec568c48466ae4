"""In this process, items in order: the reference that the other engines must equal."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from curate.errors import BadInput
from curate.stage import Needs


class Local:
    """One process, one item after the other."""

    name = "local"
    workers = 1

    def map(
        self, task: Callable[[Any], dict[str, Any]], items: Sequence[tuple[str, Any]], *, label: str, needs: Needs
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See ``Engine.map``."""
        if needs.gpus:
            require_cuda(needs.gpus, label)
        for index, (_, item) in enumerate(items):
            yield index, task(item)

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
