"""Columns of a file, Arrow's, as rows: ids, texts, sources, declared columns, and the others as one JSON object.

``layout_of`` finds the columns of one file and refuses it by name where one is missing, or of a type that cannot become
what was declared; ``Layout.rows`` makes rows of some of its values, a column at a time, by rules that see a row alone.
So files may differ: a number that is text in one of them is parsed, a column that only one of them has goes to
``extra``. A name with dots that is no column leads into structs.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import TEXT
from curate.dataset import File
from curate.errors import BadInput
from curate.reading import jsontext
from curate.reading.rows import Rows, Wanted, cast_values, file_name, stem

TEXT_FIX = "name the column of texts: text='...'"
USUAL = ("text", "content", "body", "raw_content", "document")  # what columns of texts are called

@dataclass(frozen=True)
class Layout:
    """Which column of a file becomes what; None for what is made. Names may be paths into structs (``meta.url``)."""

    wanted: Wanted
    file: File
    id: str | None
    text: str
    source: str | None
    others: tuple[str, ...]
    tops: Mapping[str, str] = field(default_factory=dict)
    """The file's own column that each path begins with."""

    def made_of(self, columns: Sequence[str]) -> list[str]:
        """The file's columns that some columns of a piece are made of."""
        made_of: dict[str, Sequence[str | None]] = {
            "id": [self.id], "text": [self.text], "source": [self.source], "extra": self.others,
            **{name: [name] for name in self.wanted.columns},
        }
        return list(dict.fromkeys(self.tops.get(name, name) for each in columns for name in made_of[each] if name))

    def rows(self, raw: Mapping[str, pa.Array], at: range, columns: Sequence[str]) -> Rows:
        """The rows ``at`` of the file; each column follows from those that it is made of, and from the row alone."""
        bad: dict[int, str] = {}
        raw = {**raw, **{path: _below(raw[top], path, top) for path, top in self.tops.items() if top in raw}}

        def spoil(rows: Iterable[int], why: str) -> None:
            for row in rows:
                bad[row] = f"{bad[row]}; {why}" if row in bad else why

        def clean(name: str) -> pa.Array:
            array = raw[name]
            array, invalid = valid(_as_text(array) if _is_text(array.type) else array)
            spoil(invalid, f"column {name!r} is not valid UTF-8")
            return array

        made: dict[str, pa.Array] = {}
        for name in columns:
            if name == "text":
                made[name] = clean(self.text)
                spoil([row for row in np.flatnonzero(made[name].is_null()).tolist() if row not in bad], "text is null")
            elif name == "id":
                own = None if self.id is None else _integers_as_text(clean(self.id))
                if own is None or own.null_count:
                    file = file_name(self.file.path)
                    numbered = pa.array([f"{file}:{row}" for row in at], TEXT)
                    own = numbered if own is None else pc.coalesce(own, numbered)
                made[name] = own
            elif name == "source":
                constant = self.wanted.constant_source
                made[name] = pa.repeat(pa.scalar(stem(self.file.path) if constant is None else constant, TEXT), len(at))
                if self.source is not None:
                    made[name] = pc.fill_null(_integers_as_text(clean(self.source)), "")
            elif name == "extra":
                made[name] = jsontext.objects({other: clean(other) for other in self.others}, len(at))
            else:
                kind = self.wanted.columns[name]
                made[name], lost = cast_values(clean(name), kind)
                spoil(lost, f"column {name!r}: {raw[name].type} does not cast to {kind}")
        return Rows(pa.table(made, schema=pa.schema([self.wanted.schema.field(name) for name in columns])), bad)


def layout_of(wanted: Wanted, schema: pa.Schema, file: File) -> Layout:
    """Find the columns; raises BadInput for one that is asked for and not there, or cannot be what it should."""
    def wrong(what: str, fix: str) -> BadInput:
        return BadInput(f"{what}; its columns are {', '.join(schema.names)}", where=file.path, fix=fix)

    tops: dict[str, str] = {}

    def type_of(name: str, fix: str) -> pa.DataType:
        top, kind = _resolved(schema, name)
        if kind is None:
            raise wrong(f"there is no column {name!r}", fix)
        if top != name:
            tops[name] = top
        return kind

    def checked(name: str, fix: str, *, integers: bool) -> str:
        kind = type_of(name, fix)
        if not (_is_text(kind) or (integers and _is_integer(kind))):
            raise wrong(f"column {name!r} is {kind}, not text", fix)
        return name

    text = checked(wanted.text, _text_fix(schema, wanted.text), integers=False)
    id_ = wanted.id if wanted.id != "id" or "id" in schema.names else None
    if id_ is not None:
        checked(id_, "name the column of ids, id='...', or let them be made, id=None", integers=True)
    source = wanted.source
    if source is None and wanted.constant_source is None and "source" in schema.names:
        source = "source"
    if source is not None:
        fix = "name the column of sources: source='...', or one source for all: constant_source='...'"
        checked(source, fix, integers=True)
    for name, kind in wanted.columns.items():
        found = type_of(name, "declare one of its columns, or write it as a null into this file")
        try:
            pc.cast(pa.array([], found), kind)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise wrong(f"column {name!r} is {found}, which does not cast to {kind}", "declare another type") from error
    used = {id_, text, source, *wanted.columns}
    return Layout(wanted, file, id_, text, source, tuple(name for name in schema.names if name not in used), tops)


def _text_fix(schema: pa.Schema, name: str) -> str:
    """What to write for a column of texts that is not there, or is none."""
    if len(schema) == 1 and (cut := next((each for each in ";\t|" if each in schema.names[0]), None)):
        return f"say what stands between values: delimiter={cut!r}"
    texts = [field.name for field in schema if _is_text(field.type)]
    texts += [f"{top.name}.{each.name}" for top in schema if pa.types.is_struct(top.type)
              for each in top.type if _is_text(each.type)]
    texts = [each for each in texts if each != name]
    spelt = {each.rpartition(".")[2].casefold(): each for each in reversed(texts)}
    usual = (name.casefold(), *difflib.get_close_matches(name.casefold(), spelt, n=1), *USUAL)
    found = next((spelt[each] for each in usual if each in spelt), None)
    return f"name the column of texts, perhaps text={found!r}" if found else TEXT_FIX


def _resolved(schema: pa.Schema, name: str) -> tuple[str, pa.DataType | None]:
    """The column that a name or a path begins with, and the type of what it leads to; None where it leads nowhere."""
    if name in schema.names:
        return name, schema.field(name).type
    top, *steps = name.split(".")
    kind = schema.field(top).type if top in schema.names else None
    for step in steps:
        at = kind.get_field_index(step) if kind is not None and pa.types.is_struct(kind) else -1
        kind = kind.field(at).type if kind is not None and at >= 0 else None
    return top, kind


def _below(array: pa.Array, path: str, top: str) -> pa.Array:
    """The field of a struct that a path leads to; null where a struct on the way is null."""
    return pc.struct_field(array, path.removeprefix(f"{top}.").split("."))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    asked = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
             pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_null)
    return any(is_it(kind) for is_it in asked)


def _is_integer(kind: pa.DataType) -> bool:
    return _is_integer(kind.value_type) if pa.types.is_dictionary(kind) else bool(pa.types.is_integer(kind))


def _as_text(array: pa.Array) -> pa.Array:
    """Text or bytes as large_string, not looked at."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type) or pa.types.is_binary_view(array.type):
        return pc.cast(array, pa.large_binary()).view(TEXT)
    return pc.cast(array, TEXT)


def _integers_as_text(array: pa.Array) -> pa.Array:
    return pc.cast(array.dictionary_decode() if pa.types.is_dictionary(array.type) else array, TEXT)


def valid(array: pa.Array) -> tuple[pa.Array, list[int]]:
    """The array with null where a string, nested ones included, is not UTF-8; and where that is."""
    if _is_valid(array):
        return array, []
    invalid = [at for at in range(len(array)) if not _is_valid(array.take(pa.array([at])))]
    lost = set(invalid)
    return array.take(pa.array([None if at in lost else at for at in range(len(array))], pa.int64())), invalid


def _is_valid(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
