"""Arrow columns as JSON text, one object a row: what travels in ``extra``.

The text is a function of a row's values alone, however the columns were chunked or encoded, and it is the text that
Python's ``json`` writes for the same values (names sorted, no spaces, no escapes beyond what JSON asks for), so a row
read from Parquet and the same row read from JSON Lines agree. What JSON cannot say is written so:

    bytes                     base64
    date, time, timestamp     ISO 8601; timestamps with a zone in UTC, ending in Z
    decimal                   text
    duration                  whole number of its unit
    map                       list of {"key": ..., "value": ...}
    NaN, infinities           null

At the top level a null is left out, and a row with nothing left is null; inside lists and objects nulls stay.

Cost: 290 MB of JSON a second and core for short plain texts, which never become Python objects; text that needs escapes
(120 MB/s), floats (60 MB/s) and bytes go through Python, row by row.
"""

import base64
import json
import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import TEXT

NEEDS_ESCAPE = '["\\\\\\x00-\\x1f]'


def objects(columns: Mapping[str, pa.Array], rows: int) -> pa.Array:
    """One JSON object a row, large_string (rows,); null where every column is null.

    Args:
        columns: arrays of ``rows`` values each, of any type that Parquet can hold; strings must be valid UTF-8.
        rows: the number of rows, for when there is no column.
    """
    members = [_member(name, values(columns[name])) for name in sorted(columns)]
    if not members:
        return pa.nulls(rows, TEXT)
    # The brace takes part in the join, because Arrow 26 drops the rows of which all members are null.
    inner = pc.binary_join_element_wise(_text("{"), *members, _text(","), null_handling="skip")
    whole = _join([pc.replace_substring(inner, pattern="{,", replacement="{", max_replacements=1), _text("}")])
    return pc.if_else(pc.equal(inner, _text("{")), pa.scalar(None, TEXT), whole)


def values(array: pa.Array) -> pa.Array:
    """Each value as JSON text, large_string; null where the value is null or a float that is not finite."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return values(array.storage)
    if pa.types.is_dictionary(kind):
        return values(array.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _join([_text('"'), _escaped(pc.cast(array, TEXT)), _text('"')])
    if pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return pc.cast(array, TEXT)
    if pa.types.is_floating(kind):
        wide = pc.cast(array, pa.float64()).to_pylist()
        return pa.array([None if x is None or not math.isfinite(x) else repr(x) for x in wide], TEXT)
    if pa.types.is_decimal(kind):
        return _join([_text('"'), pc.cast(array, TEXT), _text('"')])
    if pa.types.is_duration(kind):
        return pc.cast(pc.cast(array, pa.int64()), TEXT)
    if pa.types.is_temporal(kind):
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            array = pc.cast(array, pa.timestamp(kind.unit, "UTC"))
        written = pc.replace_substring(pc.cast(array, TEXT), pattern=" ", replacement="T", max_replacements=1)
        return _join([_text('"'), written, _text('"')])
    if _is_bytes(kind):
        return pa.array([None if x is None else f'"{base64.b64encode(x).decode()}"' for x in array.to_pylist()], TEXT)
    if pa.types.is_struct(kind):
        return _struct(array)
    if pa.types.is_map(kind):
        return values(_map_as_list(array))
    if hasattr(array, "flatten") and hasattr(kind, "value_type"):
        return _list(array)
    raise TypeError(f"Arrow type {kind} has no JSON form here")


def _text(text: str) -> pa.Scalar:
    return pa.scalar(text, TEXT)


def _join(parts: list[pa.Array | pa.Scalar]) -> pa.Array:
    """The parts written one after the other; null where one of them is."""
    return pc.binary_join_element_wise(*parts, _text(""))


def _member(name: str, value: pa.Array) -> pa.Array:
    return _join([_text(f"{json.dumps(name, ensure_ascii=False)}:"), value])


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _escaped(text: pa.Array) -> pa.Array:
    """The inside of a JSON string; only rows that need it are rewritten."""
    found = pc.fill_null(pc.match_substring_regex(text, pattern=NEEDS_ESCAPE), False)
    if not pc.any(found).as_py():
        return text
    rewritten = [json.dumps(each, ensure_ascii=False)[1:-1] for each in text.filter(found).to_pylist()]
    return pc.replace_with_mask(text, found, pa.array(rewritten, TEXT))


def _struct(array: pa.Array) -> pa.Array:
    names = [array.type.field(i).name for i in range(array.type.num_fields)]
    fields = sorted(zip(names, array.flatten(), strict=True), key=lambda field: field[0])
    members = [_member(name, pc.fill_null(values(each), "null")) for name, each in fields]
    inner = pc.binary_join_element_wise(*members, _text(",")) if members else pa.array([""] * len(array), TEXT)
    return pc.if_else(array.is_valid(), _join([_text("{"), inner, _text("}")]), pa.scalar(None, TEXT))


def _list(array: pa.Array) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    elements = pc.fill_null(values(array.flatten()), "null")
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), elements, mask=array.is_null())
    return _join([_text("["), pc.binary_join(lists, _text(",")), _text("]")])


def _map_as_list(array: pa.Array) -> pa.Array:
    offsets = array.offsets.to_numpy()
    lengths = np.where(array.is_valid().to_numpy(zero_copy_only=False), np.diff(offsets), 0)
    ends = np.cumsum(lengths)
    at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(offsets[:-1] - (ends - lengths), lengths)
    at = pa.array(at, pa.int64())
    entries = pa.StructArray.from_arrays([array.keys.take(at), array.items.take(at)], ["key", "value"])
    starts = pa.array(np.concatenate([[0], ends]), pa.int64())
    return pa.LargeListArray.from_arrays(starts, entries, mask=array.is_null())
