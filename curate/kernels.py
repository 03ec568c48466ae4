"""Kernels without the wait: numba is imported when the first kernel is called, and not where none is.

``njit`` and ``intrinsic`` take what numba's take, and what they decorate can be called by, and call, any kernel of
numba. Only the moment differs: numba costs 0.25 s to import and 0.35 s more to load its first compiled kernel, a third
of a run that finds exact copies among 128 MB of text, and such a run has hardly a use for it.

``worth_loading`` says whether a kernel should do what Python can do too, one value at a time: where numba is there
already, or so much has been asked for that the wait is paid back.
"""

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

ENOUGH = 1_000_000  # values a process, at 0.4 us more for each that is not handed to a kernel

_lock = threading.RLock()
_asked = 0


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit(**options)``, made when it is first called or met by another kernel."""

    def later(function: Callable[..., Any]) -> Any:
        return Later(function, "numba", "njit", options)

    return later


def intrinsic(function: Callable[..., Any]) -> Any:
    """``numba.extending.intrinsic``, made when a kernel meets it; what it imports of numba, it imports inside."""
    return Later(function, "numba.extending", "intrinsic", {})


def worth_loading(values: int) -> bool:
    """Whether so many more values should go through a kernel."""
    global _asked
    _asked += values
    return "numba.core.dispatcher" in sys.modules or _asked > ENOUGH


class Later:
    """A function that numba will compile: it has the function's name and place, and all else of what numba makes."""

    def __init__(self, function: Callable[..., Any], module: str, decorator: str, options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._made_of = function, module, decorator, options

    @functools.cached_property
    def made(self) -> Any:
        """What numba makes of the function; one thread makes it."""
        function, module, decorator, options = self._made_of
        with _lock:
            if "made" not in self.__dict__:
                decorate = getattr(__import__(module, fromlist=[decorator]), decorator)
                self.__dict__["made"] = decorate(**options)(function) if options else decorate(function)
        return self.__dict__["made"]

    @property
    def _numba_type_(self) -> Any:
        """How numba asks for the type of a value that it does not know: that of what it would have made itself."""
        from numba.core.registry import cpu_target

        made = self.made
        cpu_target.typing_context.refresh()  # an intrinsic may have been registered only now
        return cpu_target.typing_context.resolve_value_type(made)

    def __call__(self, *arguments: Any) -> Any:
        """Call the kernel."""
        return self.made(*arguments)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.made, name)

    def __reduce__(self) -> str:
        return str(self.__qualname__)  # as functions are pickled: by name
