"""Steps that remember: what a foreign step carries from one document to the next, put back or refused.

A stage may not let one document change what is made of another, for a corpus is cut as the engine likes. Some steps of
other tools count (datatrove's PIIFormatter takes its replacements in turn) or draw random numbers. Counters, integers
that are attributes of the step or of what it holds, are put back before every document, so that each is treated as the
first. A random generator that was drawn from is an error: documents would be chosen by their place in the corpus.

Caches (what was loaded or computed once) stay. A step that remembers in any other way, such as in a set of hashes seen,
is not found out; it is no filter of single documents and does not belong into a stage.
"""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from curate.errors import BadData

LOOKED_INTO = 4     # objects within objects


class Memory:
    """The counters and generators of an object as they were when this was made."""

    def __init__(self, thing: Any) -> None:
        self.counters: list[tuple[Any, str, int]] = []
        self.generators: list[tuple[Any, Any]] = []
        for holder, name, value in _attributes(thing, LOOKED_INTO, set()):
            held = getattr(value, "__self__", value)
            if type(value) is int:
                self.counters.append((holder, name, value))
            elif isinstance(held, np.random.Generator | np.random.RandomState | random.Random):
                self.generators.append((held, _position(held)))

    def restore(self) -> None:
        """Put the counters back."""
        for holder, name, value in self.counters:
            setattr(holder, name, value)

    def check(self, who: str) -> None:
        """Raise where a random number was drawn."""
        if any(_position(held) != at for held, at in self.generators):
            raise BadData(
                f"{who} draws random numbers in the order of documents, so its answers depend on how the corpus is cut",
                where="bridges", fix="turn that off in its settings, and sample by key: docs.sample, select.uniform",
            )  # fmt: skip


def _attributes(thing: Any, depth: int, seen: set[int]) -> Iterator[tuple[Any, str, Any]]:
    """Attributes of an object and of the objects that it holds; statistics are left out."""
    if depth == 0 or id(thing) in seen:
        return
    seen.add(id(thing))
    for name, value in list(getattr(thing, "__dict__", {}).items()):
        if name == "stats":
            continue
        yield thing, name, value
        if not callable(value) and hasattr(value, "__dict__"):
            yield from _attributes(value, depth - 1, seen)


def _position(generator: Any) -> str:
    if isinstance(generator, np.random.Generator):
        return repr(generator.bit_generator.state)
    return repr(generator.get_state() if isinstance(generator, np.random.RandomState) else generator.getstate())
