"""A foreign object as settings: the class it is of and the arguments that make it, as JSON-able values, and back.

A stage travels by name and its settings decide what is computed again, so an object made at run time can do neither.
What it was made of can: ``described`` finds the class and its arguments, ``built`` makes the object again in any
worker. Where only the object is given its arguments are read from the attributes of the same names, and it is believed
only if an object made from them is in the same state; else the caller has to say them.

Functions and classes are arguments by name, with a hash of their source, so that a changed function is another
setting. A lambda, an open file, a random generator or any other object without a stable form is refused.
"""

import hashlib
import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from curate.errors import BadInput, BadPlan, MissingExtra

OPAQUE = "cannot be looked into"
KIND = "is"         # marks a JSON object that stands for a value of another kind


def described(thing: Any, arguments: Mapping[str, Any] | None, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings that make an object: ``of`` and ``with``, as ``built`` takes them.

    Args:
        thing: a class with its arguments, or an object without.
        arguments: what the class is called with.
        without: attributes that are no part of what the object does.

    Raises:
        BadPlan: an argument, or the object, has no stable form.
        MissingExtra: the class needs a package that is not installed.
    """
    if isinstance(thing, type):
        found = {"of": _name(thing), "with": {k: encoded(v, f"argument {k!r}") for k, v in (arguments or {}).items()}}
        built(found)
        return found
    kind = type(thing)
    if arguments is not None:
        raise BadPlan(f"a {kind.__name__} that is made already takes no arguments", where="bridges",
                      fix=f"give the class: {kind.__name__}, {{...}}")  # fmt: skip
    given, hidden = {}, False
    for name, parameter in inspect.signature(kind).parameters.items():
        hidden |= not hasattr(thing, name)
        if hasattr(thing, name) and name not in without and not _same(getattr(thing, name), parameter.default):
            given[name] = getattr(thing, name)
    held = state(thing, without)
    if not _makes(kind, given, held, without) or (hidden and OPAQUE in repr(held)):
        raise BadPlan(
            f"what this {kind.__name__} was made with cannot be read from its attributes", where="bridges",
            fix=f"give the class and its arguments instead: {kind.__name__}, {{'argument': value}}",
        )  # fmt: skip
    for name in list(given):                  # an attribute that the class sets by itself is no argument
        fewer = {other: value for other, value in given.items() if other != name}
        if _makes(kind, fewer, held, without):
            given = fewer
    return {"of": _name(kind), "with": {k: encoded(v, f"{k!r} of {kind.__name__}") for k, v in given.items()}}


def _makes(kind: type, given: Mapping[str, Any], held: Any, without: tuple[str, ...]) -> bool:
    """Whether these arguments make an object in this state."""
    try:
        inspect.signature(kind).bind(**given)
    except TypeError:
        return False
    return bool(state(kind(**given), without) == held)


def built(settings: Mapping[str, Any]) -> Any:
    """The object that settings describe.

    Raises:
        BadInput: its class is not there, or does not take the arguments.
        MissingExtra: it needs a package that is not installed.
    """
    kind = _found(settings["of"])
    try:
        return kind(**{name: decoded(value) for name, value in settings["with"].items()})
    except ImportError as error:
        raise MissingExtra(
            f"{kind.__name__} needs packages that are not installed: {error}", where=settings["of"],
            fix="install what the message names",
        ) from error  # fmt: skip
    except TypeError as error:
        raise BadInput(f"{kind.__name__} cannot be made: {error}", where=settings["of"],
                       fix=f"give the arguments of {inspect.signature(kind)}") from error  # fmt: skip


def encoded(value: Any, what: str) -> Any:
    """A value as JSON, the same in every process; ``what`` names it in errors."""
    if value is None or isinstance(value, bool | int | float | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, list):
        return [encoded(each, what) for each in value]
    if isinstance(value, tuple):
        return {KIND: "tuple", "of": [encoded(each, what) for each in value]}
    if isinstance(value, set | frozenset):
        return {KIND: "set", "of": sorted((encoded(each, what) for each in value), key=repr)}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {KIND: "dict", "of": {key: encoded(value[key], what) for key in sorted(value)}}
    if isinstance(value, re.Pattern):
        return {KIND: "pattern", "of": encoded(value.pattern, what), "flags": value.flags}
    if isinstance(value, Path):
        return {KIND: "path", "of": str(value)}
    if inspect.isfunction(value) or inspect.isclass(value):
        return {KIND: "name", "of": _name(value), "source": source(value)}
    if is_dataclass(value):
        held = {field.name: encoded(getattr(value, field.name), what) for field in fields(value) if field.init}
        return {KIND: "object", "of": _name(type(value)), "with": held}
    raise BadPlan(
        f"{what} is a {type(value).__name__}, which has no stable form", where="bridges",
        fix="use plain values, dataclasses, and functions that are defined with `def` at the top level of a file",
    )  # fmt: skip


def decoded(value: Any) -> Any:
    """The value that ``encoded`` was given."""
    if isinstance(value, list):
        return [decoded(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    kind, of = value[KIND], value["of"]
    match kind:
        case "tuple":
            return tuple(decoded(each) for each in of)
        case "set":
            return {decoded(each) for each in of}
        case "dict":
            return {key: decoded(each) for key, each in of.items()}
        case "pattern":
            return re.compile(decoded(of), value["flags"])
        case "path":
            return Path(of)
        case "name":
            found = _found(of)
            if source(found) != value["source"]:
                raise BadInput(f"{of} is not the one that the plan was made with", where=of,
                               fix="let every worker see the same files")  # fmt: skip
            return found
        case _:
            return built(value)


def source(thing: Any) -> str:
    """16 hex characters for a function's or a class's source."""
    try:
        text = inspect.getsource(thing)
    except (OSError, TypeError) as error:
        raise BadPlan(f"the source of {thing!r} cannot be found", where="bridges",
                      fix="define it in a .py file, not at a prompt") from error  # fmt: skip
    return hashlib.sha256(inspect.cleandoc(text).encode()).hexdigest()[:16]


def _name(thing: Any) -> str:
    """``module:name``, by which any process finds it."""
    module, name = thing.__module__, thing.__qualname__
    if "<" in name or "." in name:
        raise BadPlan(f"{name} cannot be found by name from another process", where=module,
                      fix="define it with `def` or `class` at the top level of a file")  # fmt: skip
    return f"{module}:{name}"


def _found(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"{name} is not there: {error}", where=name, fix="install or name the right one") from error


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def state(thing: Any, without: tuple[str, ...] = (), above: tuple[int, ...] = ()) -> Any:
    """What an object holds, in a form that can be compared; what Python cannot look into is OPAQUE."""
    if id(thing) in above or thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
        return repr(thing) if id(thing) not in above else "above"
    above = (*above, id(thing))

    def inner(each: Any) -> Any:
        return state(each, without, above)

    if isinstance(thing, list | tuple):
        return type(thing).__name__, [inner(each) for each in thing]
    if isinstance(thing, set | frozenset):
        return "set", sorted((inner(each) for each in thing), key=repr)
    if isinstance(thing, Mapping):
        return "dict", sorted(((inner(k), inner(v)) for k, v in thing.items()), key=repr)
    if isinstance(thing, re.Pattern):
        return "pattern", thing.pattern, thing.flags
    if isinstance(thing, partial):
        return "partial", inner(thing.func), inner(thing.args), inner(thing.keywords)
    if inspect.ismethod(thing):
        return "method", thing.__name__, inner(thing.__self__)
    if inspect.isbuiltin(thing) and not inspect.ismodule(thing.__self__):
        return "method", thing.__name__, inner(thing.__self__)
    if inspect.isroutine(thing) or inspect.isclass(thing) or inspect.ismodule(thing):
        return "name", getattr(thing, "__module__", ""), getattr(thing, "__qualname__", thing.__name__)
    if not hasattr(thing, "__dict__"):
        return OPAQUE, type(thing).__name__
    held = {name: value for name, value in vars(thing).items() if name not in without}
    return "object", f"{type(thing).__module__}:{type(thing).__qualname__}", [(k, inner(held[k])) for k in sorted(held)]
