"""Engines carry out tasks; they know nothing of curation.

One verb: carry out a task on many items and yield (index, receipt) for each. Every item is carried out at least once,
perhaps twice at the same time, in any order; a receipt is a small JSON-able dict, everything else is in the store. An
item that kills its worker twice fails the run by its name.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from curate.stage import Needs


class Engine(Protocol):
    """Where tasks run.

    An engine whose tasks run in this process may also say, as ``holds``, how many bytes of decoded text the process may
    keep between steps (``held``).
    """

    name: str
    workers: int

    def map(
        self, task: Callable[[Any], dict[str, Any]], items: Sequence[tuple[str, Any]], *, label: str, needs: Needs
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Carry out ``task`` on every (name, item), in any order; yields (index, receipt)."""
        ...

    def close(self) -> None:
        """Let go of workers."""
        ...
