"""What a settings class declares: its fields' types, for people and for the values that a pipeline gives them.

Python checks no annotation. ``Extract(favor="precison")`` would be made, and a slip of the finger be a silent change of
the corpus. So every stage, fitter and experiment holds its settings to ``require_types`` when a pipeline names them;
those from TOML and ``--set`` are read by type in the first place (settings).
"""

import dataclasses
import difflib
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union

from curate.errors import UnknownSetting


def require_types(config: Any, *, where: str) -> None:
    """Refuse values that a settings class made in Python would not have been given by TOML or ``--set``.

    Fields that hold their own default are believed, and types that this module does not know.

    Raises:
        UnknownSetting: a value of another type, with what was perhaps meant.
    """
    kind, hints = type(config), hints_of(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name, None)
        if not field.init or _same(value, default_of(field)):
            continue
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            require_types(value, where=where)
        if not _fits(hints[field.name], value):
            raise UnknownSetting(
                f"{field.name} of {kind.__name__} is {say(hints[field.name])}, not {value!r}", where=where,
                fix=_nearest(hints[field.name], value) or f"write {field.name}={_sample(hints[field.name])}",
            )  # fmt: skip


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and isinstance(value, str | int | float | tuple)
                                and value == default)


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value made in Python is of a declared type; True for types that settings do not list."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(option, value) for option in args)
    if origin is Literal:
        return any(type(choice) is type(value) and choice == value for choice in args)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        return Ellipsis not in args or all(_fits(args[0], each) for each in value)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (str, bool, type(None)) else True


def _nearest(hint: Any, value: Any) -> str | None:
    """What a misspelt choice was perhaps meant to be."""
    choices = [choice for each in options_of(hint) for choice in typing.get_args(each)
               if typing.get_origin(each) is Literal and isinstance(choice, str)]
    close = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    return f"did you mean {close[0]!r}?" if close else None


def _sample(hint: Any) -> str:
    """A value of a type, as Python writes it."""
    option = next(option for option in options_of(hint) if option is not type(None))
    if typing.get_origin(option) is Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(option))
    if typing.get_origin(option) is tuple:
        return "('a', 'b')"
    return {int: "2000", float: "0.5", bool: "True or False", str: "'text'"}.get(option, "a value of that type")


def hints_of(kind: type) -> dict[str, Any]:
    """The types of a class's fields, names resolved."""
    try:
        return typing.get_type_hints(kind)
    except NameError as error:
        raise UnknownSetting(
            f"the field types of {kind.__name__} cannot be resolved: {error}",
            where=f"{kind.__module__}.{kind.__qualname__}",
            fix="import that name at the top of the module that defines the class",
        ) from error


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """A field's default, None where it has none."""
    if field.default is not dataclasses.MISSING:
        return field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def options_of(hint: Any) -> tuple[Any, ...]:
    """The members of a union; of any other type itself alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def say(hint: Any) -> str:
    """A type as people say it."""
    options = options_of(hint)
    if len(options) > 1:
        return " or ".join(say(option) for option in options)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(str(choice) for choice in args)}"
    if origin is tuple:
        inner = [say(each) for each in args if each is not Ellipsis]
        return f"a list (each {inner[0]})" if Ellipsis in args else f"a list of {len(inner)} ({', '.join(inner)})"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(hint.__members__)}"
    if dataclasses.is_dataclass(hint):
        return f"a group of settings ({getattr(hint, '__name__', hint)})"
    names: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    names |= {type(None): "none", Path: "a path"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))
