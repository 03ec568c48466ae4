"""Settings: a frozen dataclass, overridden by a TOML file, overridden by ``--set key=value``. Strictly.

    @dataclass(frozen=True, kw_only=True)
    class Quickstart:
        source: str = "data/*.parquet"
        budget: int = 2_000_000
        minhash: MinHash = MinHash()

    config = load(Quickstart, Path("quickstart.toml"), ["minhash.bands=20", "budget=4M"])

1. The TOML file and every ``--set`` are laid into one tree of names, each value with the place it was written.
2. The tree is read against the dataclass, name by name: what is not set keeps its default; an unknown name, or a value
   of another type, is an ``UnknownSetting`` that names the place and what was perhaps meant.
3. ``dump`` writes every setting as TOML, so that what was run can be run again.
4. ``as_json`` gives the canonical form that identities are made of.

Field types: ``str``, ``int``, ``float``, ``bool``, ``Path``, an ``Enum`` (by member name), ``Literal``,
``tuple[T, ...]``, ``tuple[T, U]``, ``T | None`` (the word ``none``), unions of these (the first member that accepts the
value, text last), and dataclasses (TOML tables; dotted names in ``--set``). Integers may be written as amounts: ``2M``,
``1.5G``, ``64MB``, ``64MiB``. In ``--set``, a tuple is comma separated, or a TOML array where a text holds a comma.
TOML has no null, so ``"none"`` stands for it, and an optional text cannot hold that word itself. A field of dataclasses
keeps the class of its default, or the first that it declares: TOML does not say classes.

Elsewhere: settings that were made in Python (declared).
"""

import dataclasses
import difflib
import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar, Union

import pyarrow as pa

from curate.declared import default_of, hints_of, options_of, say
from curate.errors import BadInput, UnknownSetting

T = TypeVar("T")

DECIMAL_STEPS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
AMOUNT = re.compile(r"([+-]?[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?) ?([kKmMgGtT]?)(i?)([bB]?)")
NONE = "none"


def parse_amount(amount: str | int, *, where: str = "an amount") -> int:
    """A whole number written for people: ``2M``, ``1.5G``, ``64MB`` (powers of 1000), ``64MiB`` (powers of 1024).

    ``k``, ``M``, ``G`` and ``T`` in either case; a ``B`` after one of them says bytes, for the reader alone.
    A bare ``1B`` is refused: it is one byte to some and a billion tokens to others.

    Args:
        amount: the text, or an int, which is handed back.
        where: the place to name in an error.

    Raises:
        UnknownSetting: not a number, not whole, or ``B`` alone.
    """
    if isinstance(amount, int) and not isinstance(amount, bool):
        return amount
    match = AMOUNT.fullmatch(amount.strip()) if isinstance(amount, str) else None
    if match is None or (match[3] and not match[2]):
        raise UnknownSetting(
            f"{amount!r} is not a whole number", where=where, fix="write for example 2000000, 2M, 1.5G, 64MB or 64MiB"
        )
    number, step, binary, unit = match.groups()
    if unit and not step:
        raise UnknownSetting(
            f"{amount!r} could be bytes or billions",
            where=where,
            fix=f"write {number} for bytes, {number}G for billions",
        )
    value = Fraction(number.replace("_", "")) * (1024 if binary else 1000) ** DECIMAL_STEPS[step.lower()]
    if value.denominator != 1:
        raise UnknownSetting(f"{amount!r} is not a whole number", where=where, fix="write an amount without remainder")
    return int(value)


def load(kind: type[T], toml: Path | None = None, overrides: Sequence[str] = ()) -> T:
    """An instance of the dataclass ``kind``: its defaults, then the TOML file, then the overrides in their order.

    Args:
        kind: a dataclass.
        toml: a settings file, or None.
        overrides: ``"name=value"`` or ``"outer.inner=value"``, as ``--set`` gives them.

    Raises:
        UnknownSetting: a name that does not exist, a value of another type or missing, text that is not TOML.
        BadInput: the file cannot be read.
    """
    tree: dict[str, Any] = {}
    if toml is not None:
        try:
            text = toml.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"settings cannot be read: {error}", where=str(toml), fix="give a UTF-8 file") from error
        tree = _tree(text, str(toml))
    for override in overrides:
        _lay(tree, override)
    return typing.cast(T, _build(kind, tree, None, ""))


def loads(kind: type[T], text: str, *, where: str = "TOML") -> T:
    """The same from TOML text, for example what ``dump`` wrote."""
    return typing.cast(T, _build(kind, _tree(text, where), None, ""))


def dump(config: Any) -> str:
    """Every setting as TOML text, which ``loads`` turns into an equal instance.

    Raises:
        UnknownSetting: a value that TOML cannot say: an optional text that is the word ``none``, a type or class that
            the module's story does not list.
    """
    return "".join(f"{line}\n" for line in _lines(config, ""))


def as_json(config: Any) -> Any:
    """The canonical JSON-able form of settings, for identities.

    Dataclasses become objects of their fields (with ``"is"``, the class, where a field holds another class than it
    declares), tuples arrays, enums their member's name, paths text with ``/``, Arrow types their name; an int in a
    field declared ``float`` becomes that float; an object with an ``identity()`` method stands for what it returns.

    Raises:
        UnknownSetting: a value without a stable identity, such as a function.
    """
    return _canonical(config, type(config), type(config).__name__)


# The tree of what was set: dicts of names down to leaves that remember where they were written.


@dataclass(frozen=True)
class _Leaf:
    """A value as it was written, its place, and whether it came as text from the command line."""

    value: Any
    where: str
    typed: bool


def _tree(text: str, where: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnknownSetting(f"settings are not TOML: {error}", where=where, fix="correct that line") from error
    lines = _places(text)

    def leaves(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {name: leaves(inner, (*path, name)) for name, inner in value.items()}
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
        return _Leaf(value, f"{where}:{line}" if line else where, typed=True)

    return typing.cast(dict[str, Any], leaves(values, ()))


def _places(text: str) -> dict[tuple[str, ...], int]:
    """The line of each name written plainly; the rest is reported by file alone."""
    places: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([\w.\- ]+)\]", line):
            table = tuple(part.strip() for part in header[1].split("."))
        elif name := re.match(r"\s*([\w.\- ]+?)\s*=", line):
            places.setdefault((*table, *(part.strip() for part in name[1].split("."))), number)
    return places


def _lay(tree: dict[str, Any], override: str) -> None:
    """Put one ``name=value`` into the tree, over what was there."""
    where = f"--set {override}"
    name, equals, value = override.partition("=")
    path = name.strip().split(".")
    if not equals or not all(path):
        raise UnknownSetting(f"{override!r} does not set anything", where=where, fix="write --set name=value")
    for part in path[:-1]:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    tree[path[-1]] = _Leaf(value, where, typed=False)


# Reading the tree against a dataclass.


def _build(kind: type, tree: Mapping[str, Any], base: Any, prefix: str) -> Any:
    """An instance of ``kind``: what the tree sets, else what ``base`` holds, else the field's own default."""
    hints = hints_of(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for name, below in tree.items():
        if name not in fields:
            raise UnknownSetting(
                f"{kind.__name__} has no setting {name!r}", where=_where(below), fix=_meant(name, list(fields), prefix)
            )
    given: dict[str, Any] = {}
    for name, field in fields.items():
        if name in tree:
            default = default_of(field) if base is None else getattr(base, name)
            given[name] = _read(hints[name], tree[name], default, prefix + name, kind.__name__)
        elif base is not None:
            given[name] = getattr(base, name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UnknownSetting(
                f"{kind.__name__} needs a value for {name!r}", where=prefix + name, fix=f"--set {prefix}{name}=..."
            )
    try:
        return kind(**given)
    except ValueError as error:  # a settings class that checks its own values
        where = "; ".join(dict.fromkeys(_where(below) for below in tree.values())) or kind.__name__
        raise UnknownSetting(str(error), where=where, fix=f"see the settings of {kind.__name__}") from error


def _where(below: Any) -> str:
    """The place of a leaf, or of the first leaf under a table."""
    while isinstance(below, dict):
        if not below:
            return "an empty table"
        below = next(iter(below.values()))
    return str(below.where)


def _meant(name: str, known: list[str], prefix: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {prefix + close[0]!r}?"
    return f"use one of: {', '.join(prefix + each for each in known)}" if known else "it has no settings at all"


class _NotThisType(Exception):
    """A value that the type at hand does not accept; becomes an UnknownSetting with the setting's name."""


def _read(hint: Any, below: Any, default: Any, name: str, owner: str) -> Any:
    """The value of one setting, a leaf or a table."""
    if isinstance(below, dict):
        kind = _nested(hint, default)
        if kind is None:
            raise UnknownSetting(
                f"setting {name!r} of {owner} is {say(hint)}, not a group of settings",
                where=_where(below), fix=f"set {name!r} itself",
            )
        return _build(kind, below, default if isinstance(default, kind) else None, name + ".")
    try:
        return _value(hint, below.value, below.typed)
    except _NotThisType:
        raise UnknownSetting(
            f"setting {name!r} of {owner} is {say(hint)}, not {below.value!r}",
            where=below.where,
            fix=_example(hint, name),
        ) from None


def _nested(hint: Any, default: Any) -> type | None:
    """The class of a group of settings: that of its default, else the first dataclass that is declared."""
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return type(default)
    return next((each for each in options_of(hint) if isinstance(each, type) and dataclasses.is_dataclass(each)), None)


def _value(hint: Any, value: Any, typed: bool) -> Any:
    """``value`` as the type ``hint``: ``typed`` from TOML, else text from the command line."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _first_that_accepts(typing.get_args(hint), value, typed)
    if origin is Literal:
        for choice in typing.get_args(hint):
            if (type(choice) is type(value) and choice == value) or (not typed and str(choice) == value):
                return choice
        raise _NotThisType
    if origin is tuple:
        return _tuple(typing.get_args(hint), value, typed)
    if hint is type(None):
        if isinstance(value, str) and value == NONE:
            return None
        raise _NotThisType
    if isinstance(hint, type) and issubclass(hint, Enum):
        if isinstance(value, str) and value in hint.__members__:
            return hint[value]
        raise _NotThisType
    if isinstance(hint, type) and issubclass(hint, PurePath):
        if isinstance(value, str) and value:
            return hint(value)
        raise _NotThisType
    return _scalar(hint, value, typed)


def _scalar(hint: Any, value: Any, typed: bool) -> Any:
    text = isinstance(value, str)
    if hint is str and text:
        return value
    if hint is bool:
        if typed and isinstance(value, bool):
            return value
        if not typed and value in ("true", "false"):
            return value == "true"
    elif hint is int and not isinstance(value, bool) and (text or isinstance(value, int)):
        try:
            return parse_amount(value)
        except UnknownSetting:
            raise _NotThisType from None
    elif hint is float and not isinstance(value, bool) and (isinstance(value, int | float) or (text and not typed)):
        try:
            return float(value)
        except (ValueError, OverflowError):
            raise _NotThisType from None
    raise _NotThisType


def _first_that_accepts(options: Sequence[Any], value: Any, typed: bool) -> Any:
    """``none`` first and text last, because text accepts everything; a TOML value keeps its own type if it may."""
    if typed and type(value) in options and value != NONE:
        return value
    for option in sorted(options, key=lambda option: (option is not type(None), option is str)):
        try:
            return _value(option, value, typed)
        except _NotThisType:
            continue
    raise _NotThisType


def _tuple(kinds: tuple[Any, ...], value: Any, typed: bool) -> tuple[Any, ...]:
    if not typed and value.lstrip().startswith("["):
        try:
            value, typed = tomllib.loads(f"value = {value}")["value"], True
        except tomllib.TOMLDecodeError:
            raise _NotThisType from None
    elif not typed:
        value = [part.strip() for part in value.split(",")] if value.strip() else []
    if not isinstance(value, list):
        raise _NotThisType
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_value(kinds[0], each, typed) for each in value)
    if len(kinds) != len(value):
        raise _NotThisType
    return tuple(_value(kind, each, typed) for kind, each in zip(kinds, value, strict=True))


def _example(hint: Any, name: str) -> str:
    option = next(option for option in options_of(hint) if option is not type(None))
    origin, args = typing.get_origin(option), typing.get_args(option)
    if dataclasses.is_dataclass(option):
        first = next((field.name for field in dataclasses.fields(typing.cast(Any, option)) if field.init), "name")
        return f"set what is in it: {name}.{first}=..."
    if origin is Literal:
        return f"write {name}={args[0]}"
    if origin is tuple:
        return f"write --set {name}=a,b or, in TOML, {name} = [...]"
    if isinstance(option, type) and issubclass(option, Enum):
        return f"write {name}={next(iter(option.__members__))}"
    examples = {int: "2000 or 2M", float: "0.5", bool: "true or false", str: "text (quoted in TOML)"}
    return f"write {name}={examples.get(option, 'a value of that type')}"


# Writing.


def _lines(config: Any, table: str) -> list[str]:
    """TOML lines: plain settings first, then one table for each nested dataclass."""
    owner, hints = type(config).__name__, hints_of(type(config))
    plain, tables = [], []
    for field in dataclasses.fields(config):
        if not field.init:
            continue
        name, value = field.name, getattr(config, field.name)
        if not dataclasses.is_dataclass(value):
            plain.append(f"{name} = {_toml(value, hints[name], name, owner)}")
        elif type(value) is _nested(hints[name], default_of(field)):
            inner = f"{table}.{name}" if table else name
            tables += ["", f"[{inner}]", *_lines(value, inner)]
        else:
            raise _unsayable(name, owner, f"is a {type(value).__name__}, which the declaration does not tell")
    return plain + tables


def _toml(value: Any, hint: Any, name: str, owner: str) -> str:
    if value is None:
        return f'"{NONE}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and not isinstance(value, Enum):
        return int.__repr__(value) if isinstance(value, int) else float.__repr__(value)
    if isinstance(value, tuple | list):
        kinds = _element_hints(hint, len(value))
        return f"[{', '.join(_toml(each, kind, name, owner) for each, kind in zip(value, kinds, strict=True))}]"
    if isinstance(value, Enum):
        text = value.name
    elif isinstance(value, PurePath):
        text = value.as_posix()
    elif isinstance(value, str):
        text = value
    else:
        raise _unsayable(name, owner, f"holds a {type(value).__name__}")
    if text == NONE and type(None) in options_of(hint):
        raise _unsayable(name, owner, f"is optional and holds the word {NONE!r}")
    return _toml_text(text)


def _unsayable(name: str, owner: str, why: str) -> UnknownSetting:
    return UnknownSetting(
        f"setting {name!r} of {owner} {why}: TOML cannot say it", where=owner,
        fix="use the types that curate/settings.py lists",
    )


def _element_hints(hint: Any, count: int) -> Sequence[Any]:
    """The declared type of each element of a tuple, as far as it is declared."""
    args = typing.get_args(next((option for option in options_of(hint) if typing.get_origin(option) is tuple), None))
    if Ellipsis in args:
        return [args[0]] * count
    return args if len(args) == count else [Any] * count


def _toml_text(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's, but for DEL, which TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _canonical(value: Any, hint: Any, name: str) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, int | float):
        options = options_of(hint)
        return float(value) if isinstance(value, float) or (float in options and int not in options) else int(value)
    if isinstance(value, PurePath):
        return value.as_posix()
    if callable(getattr(value, "identity", None)) and not isinstance(value, type):
        return _canonical(value.identity(), Any, name)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = hints_of(type(value))
        fields = {
            field.name: _canonical(getattr(value, field.name), hints[field.name], f"{name}.{field.name}")
            for field in dataclasses.fields(value)
        }
        return fields if type(value) is hint else {"is": type(value).__qualname__, **fields}
    if isinstance(value, tuple | list):
        kinds = _element_hints(hint, len(value))
        return [_canonical(each, kind, name) for each, kind in zip(value, kinds, strict=True)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _canonical(value[key], Any, f"{name}.{key}") for key in sorted(value)}
    if isinstance(value, set | frozenset) and all(isinstance(each, str) for each in value):
        return sorted(value)
    if isinstance(value, pa.DataType):
        return str(value)
    raise UnknownSetting(
        f"{name} holds a {type(value).__name__}, which has no stable identity", where=name,
        fix="use text, numbers, paths, enums, tuples or dataclasses of these",
    )
