"""What was perhaps meant by a keyword that a function or a settings class does not take.

Python says that ``MinHash.__init__() got an unexpected keyword argument 'treshold'`` and leaves the user to look up
what it does take. The callable is looked for by its name among what the pipeline's file imports.
"""

import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

UNEXPECTED = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")


def meant(error: Exception, module: ModuleType | None) -> str | None:
    """How to mend a call with an unknown keyword; None for other errors, and where the callable is not found."""
    said = UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
    if said is None or module is None:
        return None
    name, keyword = said.groups()
    for found in _called(name, module):
        known = [each.name for each in inspect.signature(found).parameters.values()
                 if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]  # fmt: skip
        close = difflib.get_close_matches(keyword, known, n=1)
        return f"did you mean {close[0]!r}?" if close else f"{name} takes {', '.join(known) or 'no arguments'}"
    return None


def _called(name: str, module: ModuleType) -> Iterator[Callable[..., Any]]:
    """The functions and classes of a name, in a module and in what it imports; only those with a signature."""
    for holder in (module, *(each for each in vars(module).values() if isinstance(each, ModuleType | type))):
        found = getattr(holder, name, None)
        if callable(found) and (inspect.isfunction(found) or isinstance(found, type)):
            yield found
