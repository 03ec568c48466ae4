"""JSON Lines, plain or compressed: rows that are read once and rewritten.

1. The bytes are decompressed block by block (streams.py). A stream that breaks off
   gives what it held until then, and then one ``Bad`` of unknown length. (A checksum stands at the end of a stream. If
   it fails, something before was wrong, and the ``Bad`` says so, but the lines that could be parsed are rows by then.)
2. They are cut at newlines, and a piece ends before the line that would take it over ``part_bytes`` of lines.
3. Each line is parsed by itself, with the standard library's parser, so that nothing about a row (its types, its
   timestamps, its big integers) is guessed from other rows. Blank lines are no rows. A line that is not one JSON object
   in UTF-8 is lost, one row. NaN and the infinities, which Python writes and JSON does not know, are nulls; of a
   repeated name the last value counts.
4. Declared columns are cast for a whole piece at once, by Arrow, from the type that each value has in JSON.

Offsets in a compressed file are offsets in what it decompresses to, and the error says so.
"""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec.core import url_to_fs

from curate.columns import TEXT
from curate.dataset import Bad, File, Piece
from curate.reading import streams
from curate.reading.rows import Broken, Wanted, cast_values, compression, file_name, stem

PIECE_LINES = 1 << 18       # a file of empty objects must not become one piece

DECODER = json.JSONDecoder(parse_constant=lambda _: None)
ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
KINDS = {
    dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false",
    type(None): "null",
}


def read(wanted: Wanted, file: File) -> Iterator[Piece]:
    """The pieces of a JSON Lines file, none of them left in place."""
    fs, path = url_to_fs(file.path)
    taken = _Taken(wanted, file)
    with fs.open(path, "rb") as handle:
        blocks = streams.DECOMPRESS[compression(file.path)](handle)
        for number, (offset, length, line) in enumerate(streams.lines(blocks)):
            if len(taken) and (taken.bytes + length > wanted.part_bytes or len(taken) >= PIECE_LINES):
                yield taken.piece()
                taken = _Taken(wanted, file)
            if isinstance(line, Broken):
                taken.lose(offset, -1, -1, f"the file breaks off: {line}")
            elif line is None:
                taken.lose(offset, length, 1, f"a line of more than {streams.LINE_BYTES} bytes")
            else:
                taken.add(number, offset, line)
    if len(taken):
        yield taken.piece()


# Objects.


def parse(line: bytes) -> dict[str, Any]:
    """The object on a line; raises Broken, whose message does not hold the data."""
    try:
        value = DECODER.decode(line.decode())
        if b"\\ud" in line or b"\\uD" in line:  # halves of surrogate pairs, which have no UTF-8 where they are alone
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise Broken(f"not UTF-8 at byte {error.start} of the line") from error
    except UnicodeEncodeError as error:
        raise Broken("a string holds half of a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise Broken(f"not JSON: {error.msg} at character {error.pos} of the line") from error
    except ValueError as error:
        raise Broken("a number of too many digits") from error
    except RecursionError as error:
        raise Broken("nested too deeply") from error
    if not isinstance(value, dict):
        raise Broken(f"{KINDS[type(value)]}, where one object a line is expected")
    return value


def value_at(found: dict[str, Any], name: str) -> Any:
    """The value of a name, or of a path such as ``meta.url`` where no name is so; null where there is none."""
    if name in found or "." not in name:
        return found.get(name)
    below: Any = found
    for step in name.split("."):
        below = below.get(step) if isinstance(below, dict) else None
    return below


def encode(rest: dict[str, Any]) -> str | None:
    """Names and values as in ``jsontext.objects``: sorted, nulls left out, null where nothing is left."""
    try:
        try:
            rest = {name: value for name, value in rest.items() if value is not None}
            return ENCODER.encode(rest) if rest else None
        except ValueError:  # an infinity: 1e999 is read as one
            rest = {name: value for name, value in _finite(rest).items() if value is not None}
            return ENCODER.encode(rest) if rest else None
    except RecursionError as error:
        raise Broken("nested too deeply") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return {name: _finite(each) for name, each in value.items()} if isinstance(value, dict) else value


class _Taken:
    """A piece in the making."""

    def __init__(self, wanted: Wanted, file: File) -> None:
        self.wanted, self.file = wanted, file
        self.made_name = file_name(file.path)
        self.made_source = stem(file.path) if wanted.constant_source is None else wanted.constant_source
        self.source = wanted.source or ("source" if wanted.constant_source is None else None)
        self.used = {wanted.id, wanted.text, self.source, *wanted.columns}
        self.rows: dict[str, list[Any]] = {name: [] for name in wanted.schema.names}
        self.bad_rows: dict[int, str] = {}
        self.bad: list[Bad] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.rows["text"]) + len(self.bad)

    def add(self, number: int, offset: int, line: bytes) -> None:
        """A line, counted from 0; blank ones are nothing, and broken ones are lost."""
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line or line.isspace():
            return
        try:
            found = parse(line)
            extra = encode({name: value for name, value in found.items() if name not in self.used})
        except Broken as why:
            self.lose(offset, len(line), 1, str(why))
            return
        text = value_at(found, self.wanted.text)
        if not isinstance(text, str):
            there = text is not None or self.wanted.text.partition(".")[0] in found
            self.spoil(len(self.rows["text"]), f"text is {KINDS[type(text)]}" if there else
                       f"there is no {self.wanted.text!r}")  # fmt: skip
            text = None
        given: dict[str, Any] = {name: value_at(found, name) for name in self.wanted.columns}
        given |= {"text": text, "extra": extra, "source": self.made_source}
        given["id"] = self._name("id", None if self.wanted.id is None else value_at(found, self.wanted.id))
        if given["id"] is None:
            given["id"] = f"{self.made_name}:{number}"
        if self.source is not None and (self.wanted.source is not None or self.source in found):
            given["source"] = self._name("source", value_at(found, self.source)) or ""
        for name, values in self.rows.items():
            values.append(given[name])
        self.bytes += len(line)

    def lose(self, offset: int, length: int, rows: int, why: str) -> None:
        """Bytes that give no row."""
        where = " (decompressed offset)" if compression(self.file.path) else ""
        self.bad.append(Bad(self.file.path, offset, length, rows, why + where))
        self.bytes += max(length, 0)

    def spoil(self, row: int, why: str) -> None:
        """A row that may not live."""
        self.bad_rows[row] = f"{self.bad_rows[row]}; {why}" if row in self.bad_rows else why

    def piece(self) -> Piece:
        """The piece; declared columns are cast here, all rows at once."""
        made = {}
        for name, values in self.rows.items():
            kind = self.wanted.columns.get(name)
            if kind is None:
                made[name] = pa.array(values, TEXT)
                continue
            made[name], lost = cast_json(values, kind)
            for row in lost:
                self.spoil(row, f"column {name!r}: {KINDS[type(values[row])]} does not cast to {kind}")
        return Piece(pa.table(made, schema=self.wanted.schema), self.bad_rows, tuple(self.bad))

    def _name(self, what: str, value: Any) -> str | None:
        """An id or a source: text, or an integer as text."""
        if value is None or isinstance(value, str):
            return value
        if type(value) is not int:
            self.spoil(len(self.rows["text"]), f"{what} is {KINDS[type(value)]}")
            return None
        return str(value)


def cast_json(values: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """JSON values as an Arrow array, and where they do not cast.

    Each is taken as the Arrow type that it has itself and then cast safely. Values of one type go together; lists,
    objects and integers beyond 64 bits go one by one: what becomes of a value never depends on the others.
    """
    alike: dict[tuple[pa.DataType | None, int], list[int]] = {}
    for at, value in enumerate(values):
        alike.setdefault(_own_type(value, at), []).append(at)
    places = np.array([at for group in alike.values() for at in group], np.int64)
    arrays, lost = [pa.array([], kind)], []
    for (own, _), group in alike.items():
        try:
            cast, bad = cast_values(pa.array([values[at] for at in group], own), kind)
        except (pa.ArrowException, OverflowError):  # a list of unlike values, or a cast that does not exist
            cast, bad = pa.nulls(len(group), kind), list(range(len(group)))
        arrays.append(cast)
        lost += [group[at] for at in bad]
    return pa.concat_arrays(arrays).take(pa.array(np.argsort(places))), sorted(lost)


def _own_type(value: Any, at: int) -> tuple[pa.DataType | None, int]:
    """The Arrow type of a JSON value, None for Arrow's guess; and its position where it is to be kept apart."""
    if isinstance(value, list | dict):
        return None, at
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return pa.uint64(), at
    own = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: TEXT, type(None): pa.null()}[type(value)]
    return own, -1
