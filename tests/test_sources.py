"""Sources: pieces are the rows of the file, whatever it is cut into; what is broken is lost alone, and counted."""

import base64
import datetime
import gzip
import hashlib
import json
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import sources
from curate.columns import FLOAT64, INT64, TEXT
from curate.dataset import Bad, File, Piece
from curate.errors import BadData, BadInput, BadPlan
from curate.reading import docstrings, jsonl, jsontext, listing, parquet, streams
from curate.reading.rows import stem

FEW = settings(max_examples=25, deadline=None)


def only(source: sources.Files | sources.Environment) -> File:
    [file] = source.listing()
    return file


def read(source: sources.Files | sources.Environment) -> list[Piece]:
    return [piece for file in source.listing() for piece in source.read(file)]


def table_of(pieces: Sequence[Piece]) -> pa.Table:
    return pa.concat_tables([piece.table for piece in pieces]).combine_chunks()


def bad_of(pieces: Sequence[Piece]) -> list[Bad]:
    return [bad for piece in pieces for bad in piece.bad]


def bad_rows(pieces: Sequence[Piece]) -> dict[int, str]:
    start, found = 0, {}
    for piece in pieces:
        found |= {start + row: why for row, why in piece.bad_rows.items()}
        start += len(piece.table)
    return found


def column(pieces: Sequence[Piece], name: str) -> list[Any]:
    return list(table_of(pieces)[name].to_pylist())


def write_lines(path: Path, *lines: bytes | dict[str, Any]) -> str:
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"".join(line + b"\n" for line in encoded))
    return str(path)


def not_utf8(values: list[bytes], kind: pa.DataType) -> pa.Array:
    """A string array that was never looked at, as Parquet's readers give."""
    return pa.array(values, pa.binary() if kind == pa.string() else pa.large_binary()).view(kind)


# Parquet.

TEXTS = st.none() | st.text(max_size=30)
TABLES = st.lists(
    st.fixed_dictionaries({"id": st.none() | st.text(max_size=5), "text": TEXTS, "n": st.none() | st.integers(-9, 9)}),
    max_size=40,
)
SCHEMA = pa.schema({"id": pa.string(), "text": pa.string(), "n": INT64})


@FEW
@given(TABLES, st.integers(1, 15), st.integers(1, 300), st.booleans())
def test_pieces_are_the_file(rows: list[dict[str, Any]], group: int, part_bytes: int, dictionary: bool) -> None:
    """Pieces one after the other are the naive read; read again, column by column, they are the same."""
    fs = fsspec.filesystem("memory")
    with fs.open("/laws/web-01.parquet", "wb") as handle:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), handle, row_group_size=group, use_dictionary=dictionary)
    source = sources.parquet("memory://laws/*.parquet", columns={"n": FLOAT64}, part_bytes=part_bytes)
    file = only(source)
    pieces = list(source.read(file))
    assert [row for piece in pieces for row in piece.table.to_pylist()] == [
        {
            "id": row["id"] if row["id"] is not None else f"web-01.parquet:{i}",
            "text": row["text"],
            "source": "web",
            "n": None if row["n"] is None else float(row["n"]),
            "extra": None,
        }
        for i, row in enumerate(rows)
    ]
    assert set(bad_rows(pieces)) == {i for i, row in enumerate(rows) if row["text"] is None}
    for piece in pieces:
        assert len(piece.table)
        if piece.groups is None:
            assert (
                len(piece.table) == 1
                or sum(len((t or "").encode()) for t in piece.table["text"].to_pylist()) <= part_bytes
            )
            continue
        for columns in (["id"], ["text"], ["n", "id"], ["extra", "source"], ["source", "text", "extra", "id", "n"]):
            assert source.reread(file, piece.groups, columns).equals(piece.table.select(columns))


@pytest.mark.parametrize(
    ("weights", "limit", "expected"),
    [
        ([], 10, []),
        ([8] * 9, 64, [[0, 1, 2, 3, 4], [5, 6, 7, 8]]),  # 72 = 40 + 32, not 64 + 8
        ([3, 3, 3, 3], 6, [[0, 1], [2, 3]]),
        ([10, 100, 10], 20, [[0], [1], [2]]),  # a giant is alone
        ([5, 1, 1, 1, 5], 9, [[0, 1, 2], [3, 4]]),  # heaviest 7; 8 + 5 would do too
        ([0, 0, 0], 1, [[0, 1, 2]]),
    ],
)
def test_runs_are_few_and_even(weights: list[int], limit: int, expected: list[list[int]]) -> None:
    assert parquet.runs(weights, limit) == expected


def write_groups(path: Path, count: int = 3, rows: int = 50, **options: Any) -> pa.Table:
    """``count`` row groups of ``rows`` documents that do not compress to nothing."""
    texts = [hashlib.sha256(str(i).encode()).hexdigest() * 3 for i in range(count * rows)]
    table = pa.table({"id": [f"d{i}" for i in range(len(texts))], "text": texts})
    pq.write_table(table, path, row_group_size=rows, **options)
    return table


def spoil(path: Path, group: int) -> tuple[int, int]:
    """Overwrite the middle of a row group's texts; its offset and compressed length by the footer."""
    footer = pq.read_metadata(path).row_group(group)
    columns = [footer.column(i) for i in range(footer.num_columns)]
    starts = [c.dictionary_page_offset if c.has_dictionary_page else c.data_page_offset for c in columns]
    content = bytearray(path.read_bytes())
    middle = starts[1] + columns[1].total_compressed_size // 2
    content[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(content)
    return min(starts), sum(c.total_compressed_size for c in columns)


def test_a_corrupt_row_group_is_lost_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = write_groups(path, compression="gzip")
    where = spoil(path, 1)
    source = sources.parquet(str(path))
    [piece] = read(source)
    assert piece.groups == (0, 2)
    assert piece.table["id"].to_pylist() == [f"d{i}" for i in [*range(50), *range(100, 150)]]
    assert piece.table["text"].to_pylist() == table["text"].to_pylist()[:50] + table["text"].to_pylist()[100:]
    [bad] = piece.bad
    assert (bad.file, bad.offset, bad.length, bad.rows) == (str(path), *where, 50)
    assert bad.error.startswith("row group 1 cannot be decoded: ")
    assert source.reread(only(source), (0, 2), ["text"]).equals(piece.table.select(["text"]))
    with pytest.raises(BadData, match="cannot be decoded"):
        source.reread(only(source), (1,), ["text"])


def test_a_flipped_bit_is_found_where_checksums_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    options = {"compression": "none", "use_dictionary": False}
    write_groups(path, write_page_checksum=True, **options)
    spoil(path, 2)
    assert [bad.rows for bad in bad_of(read(sources.parquet(str(path))))] == [50]


def test_all_row_groups_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_groups(path, compression="gzip")
    for group in range(3):
        spoil(path, group)
    [piece] = read(sources.parquet(str(path)))
    assert (len(piece.table), piece.groups, [bad.rows for bad in piece.bad]) == (0, None, [50, 50, 50])


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[:-100], lambda whole: whole[:200], lambda whole: b"", lambda whole: b"not parquet at all" * 9],
    ids=["no end", "a beginning", "empty", "something else"],
)
def test_what_is_not_parquet_is_lost_whole(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.parquet"
    write_groups(path)
    path.write_bytes(damage(path.read_bytes()))
    [piece] = read(sources.parquet(str(path)))
    assert piece.table.schema == pa.schema({"id": TEXT, "text": TEXT, "source": TEXT, "extra": TEXT})
    [bad] = piece.bad
    assert (len(piece.table), bad.offset, bad.length, bad.rows) == (0, 0, path.stat().st_size, -1)


def test_a_giant_row_group_is_rewritten(tmp_path: Path) -> None:
    """One group of 150 texts of 192 bytes, pieces of at most 1000: five texts each."""
    path = tmp_path / "a.parquet"
    table = write_groups(path, count=1, rows=150)
    pieces = read(sources.parquet(str(path), part_bytes=1000))
    assert [len(piece.table) for piece in pieces] == [5] * 30
    assert {piece.groups for piece in pieces} == {None}
    assert table_of(pieces)["text"].to_pylist() == table["text"].to_pylist()


def test_a_giant_that_breaks_off_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_groups(
        path,
        count=1,
        rows=3000,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
        data_page_size=10_000,
    )
    spoil(path, 0)
    pieces = read(sources.parquet(str(path), part_bytes=20_000))
    [bad] = bad_of(pieces)
    kept = sum(len(piece.table) for piece in pieces)
    assert 0 < kept < 3000
    assert kept + bad.rows == 3000
    assert column(pieces, "id") == [f"d{i}" for i in range(kept)]


def test_a_dictionary_does_not_hide_how_long_texts_are(tmp_path: Path) -> None:
    """4 groups of 100 equal texts of 1 kB: the footer tells 1 kB a group, they are 100 kB each."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x" * 1000] * 400}), path, row_group_size=100)
    in_place = read(sources.parquet(str(path), part_bytes="200kB"))
    assert [piece.groups for piece in in_place] == [(0, 1), (2, 3)]
    rewritten = read(sources.parquet(str(path), part_bytes="20kB"))
    assert [(piece.groups, len(piece.table)) for piece in rewritten] == [(None, 20)] * 20


def test_a_document_longer_than_a_piece(tmp_path: Path) -> None:
    long = "é" * 1_000_000
    rows = [{"text": text} for text in ("a", long, "b", "c")]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    pieces = read(sources.parquet(str(path), part_bytes=1000))
    assert [piece.table["text"].to_pylist() for piece in pieces] == [["a"], [long], ["b", "c"]]
    pieces = read(sources.jsonl(write_lines(tmp_path / "a.jsonl", *rows), part_bytes=1000))
    assert [piece.table["text"].to_pylist() for piece in pieces] == [["a"], [long], ["b", "c"]]


def write_table(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path, store_schema=True)
    return str(path)


def test_ids(tmp_path: Path) -> None:
    url = write_table(
        tmp_path / "a.parquet", id=["x", None, "x"], n=pa.array([3, None, 2**63], pa.uint64()), text=["a"] * 3
    )
    assert column(read(sources.parquet(url)), "id") == ["x", "a.parquet:1", "x"]
    assert column(read(sources.parquet(url, id="n")), "id") == ["3", "a.parquet:1", "9223372036854775808"]
    assert column(read(sources.parquet(url, id=None)), "id") == ["a.parquet:0", "a.parquet:1", "a.parquet:2"]
    assert json.loads(column(read(sources.parquet(url, id=None)), "extra")[0]) == {"id": "x", "n": 3}
    url = write_table(tmp_path / "b.parquet", text=["a"], key=["k"])
    assert column(read(sources.parquet(url)), "id") == ["b.parquet:0"]
    with pytest.raises(BadInput, match="there is no column 'key2'; its columns are text, key"):
        read(sources.parquet(url, id="key2"))
    with pytest.raises(BadInput, match="column 'f' is double, not text"):
        read(sources.parquet(write_table(tmp_path / "c.parquet", text=["a"], f=[0.5]), id="f"))


def test_sources(tmp_path: Path) -> None:
    named = write_table(tmp_path / "n-001.parquet", text=["a", "b"], source=["wiki", None], domain=["x", "y"])
    plain = write_table(tmp_path / "p-001.parquet", text=["a", "b"])
    assert column(read(sources.parquet(named)), "source") == ["wiki", ""]
    assert column(read(sources.parquet(named, source="domain")), "source") == ["x", "y"]
    assert column(read(sources.parquet(named, constant_source="c")), "source") == ["c", "c"]
    assert json.loads(column(read(sources.parquet(named, constant_source="c")), "extra")[0])["source"] == "wiki"
    assert column(read(sources.parquet(plain)), "source") == ["p", "p"]
    with pytest.raises(BadInput, match="constant_source"):
        read(sources.parquet(plain, source="domain"))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/a/web-00003-of-00100.parquet", "web"),
        ("/a/train-00000-of-00001-2e1f9a3b4c5d6e7f.parquet", "train"),
        ("wiki/0001.jsonl.gz", "wiki"),
        ("s3://b/c4.en.0042.json.zst", "c4.en"),
        ("/a/books3.parquet", "books3"),
        ("/a/part_12.PARQUET", "part"),
        ("https://h/data/x.jsonl?token=1.2", "x"),
        ("memory://7", "7"),
    ],
)
def test_a_source_by_the_name_of_its_file(path: str, source: str) -> None:
    assert stem(path) == source


def test_rows_that_may_not_live(tmp_path: Path) -> None:
    url = write_table(
        tmp_path / "a.parquet",
        id=["0", "1", "2", "3", "4", "5"],
        text=not_utf8([b"good", b"\xff\xfe", b"", b"c", b"d", b"e"], pa.string()),
        url=not_utf8([b"u", b"u", b"u", b"\xed\xa0\x80", b"u", b"u"], pa.large_string()),
        when=["2024-01-01", "2024-01-01", "x", "2024-01-01", "secret", None],
        n=pa.array([1, 2, 3, 4, 5, 2**40]),
    )
    source = sources.parquet(url, columns={"when": pa.date32(), "n": pa.int32()})
    [piece] = read(source)
    assert piece.bad_rows == {
        1: "column 'text' is not valid UTF-8",
        2: "column 'when': string does not cast to date32[day]",
        3: "column 'url' is not valid UTF-8",
        4: "column 'when': string does not cast to date32[day]",
        5: "column 'n': int64 does not cast to int32",
    }
    day = datetime.date(2024, 1, 1)
    assert piece.table.to_pydict() == {
        "id": ["0", "1", "2", "3", "4", "5"],
        "text": ["good", None, "", "c", "d", "e"],
        "source": ["a"] * 6,
        "when": [day, day, None, day, None, None],
        "n": [1, 2, 3, 4, 5, None],
        "extra": ['{"url":"u"}', '{"url":"u"}', '{"url":"u"}', None, '{"url":"u"}', '{"url":"u"}'],
    }
    for name in piece.table.column_names:
        assert source.reread(only(source), (0,), [name]).equals(piece.table.select([name]))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (pa.array([b"a", None, b"\xff"]), ["a", None, None]),
        (pa.array([b"a", None, b"\xff"], pa.large_binary()), ["a", None, None]),
        (pa.array(["a", None, "b"]).dictionary_encode(), ["a", None, "b"]),
        (pa.array(["a", None, "b"], pa.string_view()), ["a", None, "b"]),
        (pa.array([b"a", None, b"\xff"], pa.binary_view()), ["a", None, None]),
        (pa.nulls(3), [None, None, None]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_kinds_of_text(tmp_path: Path, texts: pa.Array, expected: list[str | None]) -> None:
    pieces = read(sources.parquet(write_table(tmp_path / "a.parquet", text=texts)))
    assert column(pieces, "text") == expected
    assert set(bad_rows(pieces)) == {i for i, text in enumerate(expected) if text is None}


def test_nested_text_that_is_not_utf8(tmp_path: Path) -> None:
    inner = not_utf8([b"a", b"\xff", b"b"], pa.string())
    tags = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), inner)
    pieces = read(sources.parquet(write_table(tmp_path / "a.parquet", text=["x"] * 3, tags=tags)))
    assert bad_rows(pieces) == {1: "column 'tags' is not valid UTF-8"}
    assert column(pieces, "extra") == ['{"tags":["a"]}', None, '{"tags":["b"]}']


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    url = write_table(tmp_path / "a.parquet", text=["a"], tags=[["b"]])
    with pytest.raises(BadInput, match="there is no column 'content'") as caught:
        read(sources.parquet(url, text="content"))
    assert caught.value.fix == "name the column of texts, perhaps text='text'"
    with pytest.raises(BadInput, match="there is no column 'score'"):
        read(sources.parquet(url, columns={"score": FLOAT64}))
    with pytest.raises(BadInput, match="does not cast to double"):
        read(sources.parquet(url, columns={"tags": FLOAT64}))
    with pytest.raises(BadInput, match="not text"):
        read(sources.parquet(url, text="tags"))


@pytest.mark.parametrize(
    ("columns", "fix"),
    [
        ({"Text": ["a"], "url": ["b"]}, "name the column of texts, perhaps text='Text'"),
        ({"url": ["b"], "content": ["a"]}, "name the column of texts, perhaps text='content'"),
        ({"doc": [{"url": "b", "body": "a"}]}, "name the column of texts, perhaps text='doc.body'"),
        ({"texts": ["a"]}, "name the column of texts, perhaps text='texts'"),
        ({"number": [1]}, "name the column of texts: text='...'"),
        ({"url": ["a"]}, "name the column of texts: text='...'"),
    ],
    ids=str,
)
def test_the_column_of_texts_is_guessed_for_the_error_alone(tmp_path: Path, columns: dict[str, Any], fix: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(sources.parquet(write_table(tmp_path / "a.parquet", **columns)))
    assert caught.value.fix == fix


def test_another_delimiter_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;text\n1;a\n", encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        read(sources.csv(str(tmp_path / "a.csv")))
    assert caught.value.fix == "say what stands between values: delimiter=';'"


@pytest.mark.parametrize(("kind", "spelt"), [(str, "TEXT"), (int, "INT64"), ("float64", "FLOAT64")])
def test_a_declared_type_is_an_arrow_type(kind: Any, spelt: str) -> None:
    with pytest.raises(BadPlan, match="which is no Arrow type") as caught:
        sources.jsonl("a.jsonl", columns={"n": kind})
    assert f"{{'n': {spelt}}}" in caught.value.fix


def test_a_folder_of_other_files_says_what_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(b"")
    with pytest.raises(BadInput, match=r"none of the 1 files in .* is named like parquet, jsonl, csv, arrow") as caught:
        sources.any_file(str(tmp_path)).listing()
    assert caught.value.where.endswith("a.warc.gz")


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([["a"], ["b"], ["c"]], names=["text", "x", "x"]), path)
    [bad] = bad_of(read(sources.parquet(str(path))))
    assert "two columns have one name" in bad.error


# What travels in extra.

INSTANT = datetime.datetime(2024, 5, 6, 7, 8, 9, 10, datetime.UTC)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (pa.array([1]), "1"),
        (pa.array([True]), "true"),
        (pa.array([0.1]), "0.1"),
        (pa.array([-0.0]), "-0.0"),
        (pa.array([1e300]), "1e+300"),
        (pa.array([0.5], pa.float16()), "0.5"),
        (pa.array([2**64 - 1], pa.uint64()), str(2**64 - 1)),
        (pa.array(['"\\\n\x01\x7fé\u2028']), '"\\"\\\\\\n\\u0001\x7fé\u2028"'),
        (pa.array([b"\xff\x00"]), f'"{base64.b64encode(bytes([255, 0])).decode()}"'),
        (pa.array([b"ab"], pa.binary(2)), '"YWI="'),
        (pa.array([INSTANT], pa.timestamp("us", "Europe/Paris")), '"2024-05-06T07:08:09.000010Z"'),
        (pa.array([INSTANT.replace(tzinfo=None)], pa.timestamp("s")), '"2024-05-06T07:08:09"'),
        (pa.array([datetime.date(2024, 5, 6)]), '"2024-05-06"'),
        (pa.array([datetime.time(7, 8, 9)], pa.time32("s")), '"07:08:09"'),
        (pa.array([3], pa.duration("s")), "3"),
        (pa.array([12], pa.decimal128(5, 2)), '"12.00"'),
        (pa.array([[1.5, None, float("nan")]]), "[1.5,null,null]"),
        (pa.array([[]], pa.list_(pa.string())), "[]"),
        (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), "[1,2]"),
        (pa.array([{"b": 1, "a": None}]), '{"a":null,"b":1}'),
        (pa.array([{}], pa.struct([])), "{}"),
        (
            pa.array([[("k", 1), ("l", None)]], pa.map_(pa.string(), pa.int64())),
            '[{"key":"k","value":1},{"key":"l","value":null}]',
        ),
        (pa.array([[{"x": ["y"]}]]), '[{"x":["y"]}]'),
        (pa.array(["a"]).dictionary_encode(), '"a"'),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_values_as_json(array: pa.Array, text: str) -> None:
    padded = pa.concat_arrays([pa.nulls(2, array.type), array, pa.nulls(1, array.type)])
    assert jsontext.values(padded).to_pylist() == [None, None, text, None]
    assert jsontext.values(padded.slice(1, 2)).to_pylist() == [None, text]
    assert jsontext.objects({'é"': array}, 1).to_pylist() == [f'{{"é\\"":{text}}}']


def test_objects_leave_nulls_out() -> None:
    columns = {
        "b": pa.array([1, None, None]),
        "a": pa.array([None, "x", None]),
        "f": pa.array([float("nan"), None, None]),
    }
    assert jsontext.objects(columns, 3).to_pylist() == ['{"b":1}', '{"a":"x"}', None]
    assert jsontext.objects({}, 2).to_pylist() == [None, None]


VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()
KEYS = st.text(min_size=1).filter(lambda name: name not in {"id", "text", "source"})


@FEW
@given(
    st.lists(
        st.fixed_dictionaries(
            {"a": st.text(), "n": st.integers(-5, 5), "f": st.floats(), "l": st.lists(st.none() | st.text())}
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_row_is_the_same_from_parquet_and_from_json(rows: list[dict[str, Any]]) -> None:
    fs = fsspec.filesystem("memory")
    rows = [{"text": "t", **row} for row in rows]
    with fs.open("/same/same.parquet", "wb") as handle:
        pq.write_table(pa.Table.from_pylist(rows), handle)
    fs.pipe("/same/same.jsonl", "\n".join(map(json.dumps, rows)).encode())
    declared: dict[str, pa.DataType] = {"n": FLOAT64}
    left = read(sources.parquet("memory://same/same.parquet", id="a", columns=declared))
    right = read(sources.jsonl("memory://same/same.jsonl", id="a", columns=declared))
    assert table_of(left).equals(table_of(right))
    for row, extra in zip(rows, column(left, "extra"), strict=True):
        expected = {"f": row["f"], "l": row["l"]} if abs(row["f"]) < float("inf") else {"l": row["l"]}
        assert json.loads(extra) == expected


# JSON Lines.


@FEW
@given(
    st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=12),
    st.integers(1, 400),
    st.sampled_from(["", ".gz", ".zst"]),
)
def test_lines_are_the_file(rows: list[dict[str, Any]], part_bytes: int, ending: str) -> None:
    """Pieces one after the other are the lines, however it is cut; what is not declared is found again in extra."""
    rows = [{"text": f"t{i}", **row} for i, row in enumerate(rows)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    content = {"": lambda b: b, ".gz": gzip.compress, ".zst": zstandard.compress}[ending](content)
    fsspec.filesystem("memory").pipe(f"/lines/a.jsonl{ending}", content)
    pieces = read(sources.any_file(f"memory://lines/a.jsonl{ending}", part_bytes=part_bytes))
    found = [row for piece in pieces for row in piece.table.to_pylist()]
    assert [row["text"] for row in found] == [row["text"] for row in rows]
    assert [row["id"] for row in found] == [f"a.jsonl{ending}:{i}" for i in range(len(rows))]
    for row, back in zip(rows, found, strict=True):
        rest = {k: v for k, v in row.items() if k != "text" and v is not None}
        rest = {k: v for k, v in rest.items() if not isinstance(v, float) or abs(v) < float("inf")}
        assert json.loads(back["extra"] or "{}") == rest
    assert not bad_of(pieces)
    assert all(piece.groups is None for piece in pieces)


DEEP = b'{"text":' + b"[" * 100_000


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"{", "not JSON: Expecting property name enclosed in double quotes at character 1"),
        (b'{"text": "a"} x', "not JSON: Extra data at character 14"),
        (b'[{"text": "a"}]', "a list, where one object a line is expected"),
        (b'"a"', "a text, where"),
        (b"3", "a number, where"),
        (b"null", "null, where"),
        (b"true", "true or false, where"),
        (b'{"text": "\xff"}', "not UTF-8 at byte 10"),
        (b'{"text": "\xed\xa0\x80"}', "not UTF-8 at byte 10"),
        (b'{"text": "\\ud800"}', "half of a surrogate pair"),
        (b'{"text": "a", "x": {"y": "\\uDC00 "}}', "half of a surrogate pair"),
        (b'{"text": "a\tb"}', "not JSON: Invalid control character at"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "a number of too many digits"),
        (DEEP, "nested too deeply"),
    ],
)
def test_a_broken_line_is_lost_alone(tmp_path: Path, line: bytes, error: str) -> None:
    good = b'{"text": "\xc3\xa9", "id": "%d"}'
    url = write_lines(tmp_path / "a.jsonl", good % 1, line, b"", good % 2)
    pieces = read(sources.jsonl(url))
    assert column(pieces, "id") == ["1", "2"]
    [bad] = bad_of(pieces)
    assert (bad.file, bad.offset, bad.length, bad.rows) == (url, len(good), len(line), 1)
    assert error in bad.error


def test_lines_that_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "bom"}\r\n\n  \t\r\n{"text": "", "n": NaN, "m": 1e999, "k": [Infinity, 1E999]}\n'
        b'{"text": "first", "text": "last", "id": 7}\n{"text": "\\ud83d\\ude00\\u0000", "id": null, "x": null}\n'
        b'{"text": "no newline", "source": "s", "big": 123456789012345678901234567890}'
    )
    pieces = read(sources.jsonl(str(path)))
    assert not bad_of(pieces)
    assert not bad_rows(pieces)
    assert table_of(pieces).to_pydict() == {
        "id": ["a.jsonl:0", "a.jsonl:3", "7", "a.jsonl:5", "a.jsonl:6"],
        "text": ["bom", "", "last", "😀\0", "no newline"],
        "source": ["a", "a", "a", "a", "s"],
        "extra": [None, '{"k":[null,null]}', None, None, '{"big":123456789012345678901234567890}'],
    }


def test_values_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    url = write_lines(
        tmp_path / "a.jsonl",
        {"text": "a", "id": 2**70},
        {"text": None},
        {},
        {"text": 3},
        {"text": ["a"], "id": 1.5},
        {"text": "a", "id": True, "source": {"x": 1}},
        {"text": "a", "source": 7},
        {"text": "a", "source": None},
    )
    pieces = read(sources.jsonl(url))
    assert bad_rows(pieces) == {
        1: "text is null",
        2: "there is no 'text'",
        3: "text is a number",
        4: "text is a list; id is a number",
        5: "id is true or false; source is an object",
    }
    assert column(pieces, "id") == [str(2**70), *(f"a.jsonl:{i}" for i in range(1, 8))]
    assert column(pieces, "source") == ["a"] * 5 + ["", "7", ""]
    assert column(read(sources.jsonl(url, source="who")), "source") == [""] * 8
    assert column(read(sources.jsonl(url, constant_source="c")), "source") == ["c"] * 8


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (INT64, [1, "2", True, None, 1.0, 1.5, "x", 2**63, [1]], [1, 2, 1, None, 1, "bad", "bad", "bad", "bad"]),
        (pa.uint64(), [2**64 - 1, -1, 2**64], [2**64 - 1, "bad", "bad"]),
        (FLOAT64, [1, 1.5, "2.5", 2**60 + 1], [1.0, 1.5, 2.5, "bad"]),
        (TEXT, ["a", 1, 1.5, True, None, ["a"], {"a": 1}], ["a", "1", "1.5", "true", None, "bad", "bad"]),
        (pa.bool_(), [True, "false", 0, "x"], [True, False, False, "bad"]),
        (pa.date32(), ["2024-05-06", "today"], [datetime.date(2024, 5, 6), "bad"]),
        (
            pa.list_(pa.float64()),
            [[1, 2], [1.5], [], None, "x", ["x"], [1, "x"]],
            [[1.0, 2.0], [1.5], [], None, *["bad"] * 3],
        ),
        (pa.struct([("a", INT64)]), [{"a": 1}, {"a": "2"}, {"a": "x"}], [{"a": 1}, {"a": 2}, "bad"]),
        (INT64, [], []),
    ],
)
def test_declared_columns_of_lines(kind: pa.DataType, values: list[Any], expected: list[Any]) -> None:
    array, lost = jsonl.cast_json(values, kind)
    assert array.type == kind
    assert ["bad" if i in lost else value for i, value in enumerate(array.to_pylist())] == expected
    for i, value in enumerate(values):  # what becomes of a value does not depend on the others
        alone, bad = jsonl.cast_json([value], kind)
        assert (alone.to_pylist(), bad) == ([array[i].as_py()], [0] if i in lost else [])


def test_declared_columns_that_do_not_cast_make_bad_rows(tmp_path: Path) -> None:
    url = write_lines(
        tmp_path / "a.jsonl", {"text": "a", "n": 1}, {"text": None, "n": "many"}, {"text": "c", "n": 1.5}, {"text": "d"}
    )
    pieces = read(sources.jsonl(url, columns={"n": INT64}))
    assert bad_rows(pieces) == {
        1: "text is null; column 'n': a text does not cast to int64",
        2: "column 'n': a number does not cast to int64",
    }
    assert column(pieces, "n") == [1, None, None, None]


def test_pieces_of_lines_are_cut_before_the_line_that_would_not_fit(tmp_path: Path) -> None:
    """Lines of 13 bytes: seven fit in 100."""
    url = write_lines(tmp_path / "a.jsonl", *[b'{"text":"ab"}'] * 16)
    assert [len(piece.table) for piece in read(sources.jsonl(url, part_bytes=100))] == [7, 7, 2]


def test_a_line_too_long_to_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LINE_BYTES", 1000)
    monkeypatch.setattr(streams, "BLOCK", 64)
    long = b"x" * 5000
    url = write_lines(tmp_path / "a.jsonl", {"text": "a"}, long, {"text": "b"}, {"text": "c" * 900}, long)
    pieces = read(sources.jsonl(url))
    assert [len(text) for text in column(pieces, "text")] == [1, 1, 900]
    assert [(bad.offset, bad.length, bad.rows) for bad in bad_of(pieces)] == [
        (14, 5000, 1),
        (14 + 5001 + 14 + 913, 5000, 1),
    ]


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
LINES = [
    json.dumps({"id": i, "text": hashlib.sha256(str(i).encode()).hexdigest() * 5}).encode() + b"\n" for i in range(2000)
]


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_several_members_are_one_stream(tmp_path: Path, ending: str) -> None:
    whole = b"".join(LINES)
    path = tmp_path / f"a.jsonl.{ending}"
    path.write_bytes(b"".join(COMPRESS[ending](whole[i : i + 100_001]) for i in range(0, len(whole), 100_001)))
    pieces = read(sources.jsonl(str(path)))
    assert column(pieces, "id") == [str(i) for i in range(2000)]
    assert not bad_of(pieces)
    path.write_bytes(b"")
    assert read(sources.jsonl(str(path))) == []


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage after"])
def test_a_compressed_file_that_breaks_off(tmp_path: Path, ending: str, damage: str) -> None:
    """The lines before the break live; the rest is one range that begins with the first line that is not whole."""
    whole = COMPRESS[ending](b"".join(LINES[:1000])) + COMPRESS[ending](b"".join(LINES[1000:]))
    if damage == "cut":
        whole = whole[:-1000]
    elif damage == "flipped":
        at = len(whole) * 3 // 4
        whole = whole[:at] + bytes(255 - byte for byte in whole[at : at + 200]) + whole[at + 200 :]
    else:
        whole += b"garbage" * 10
    path = tmp_path / f"a.jsonl.{ending}"
    path.write_bytes(whole)
    pieces = read(sources.jsonl(str(path)))
    kept = sum(len(piece.table) for piece in pieces)
    ranges = [bad for bad in bad_of(pieces) if bad.rows == -1]
    assert column(pieces, "id")[:1000] == [str(i) for i in range(1000)]
    assert (kept == 2000) == (damage == "garbage after")
    [bad] = ranges
    assert bad.length == -1
    assert "breaks off" in bad.error
    assert "decompressed offset" in bad.error
    if damage != "flipped":  # a flipped bit is found out when it has become something else that is no JSON
        assert column(pieces, "id") == [str(i) for i in range(kept)]
        assert bad.offset == sum(len(line) for line in LINES[:kept])
        assert len(bad_of(pieces)) == 1


def test_not_compressed_at_all(tmp_path: Path) -> None:
    for ending in COMPRESS:
        path = tmp_path / f"a.jsonl.{ending}"
        path.write_bytes(LINES[0])
        [piece] = read(sources.jsonl(str(path)))
        [bad] = piece.bad
        assert (len(piece.table), bad.offset, bad.rows) == (0, 0, -1)


def test_zeros_after_gzip_are_padding(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(LINES[0]) + bytes(5000) + gzip.compress(LINES[1]) + bytes(10))
    pieces = read(sources.jsonl(str(path)))
    assert column(pieces, "id") == ["0", "1"]
    assert not bad_of(pieces)


# Where files are.


def test_listing(tmp_path: Path) -> None:
    for name in (
        "b/1.jsonl",
        "a.parquet",
        "b/2.jsonl.gz",
        "b/c/3.pq",
        "b/_SUCCESS",
        "b/.part.parquet.crc",
        "b/notes.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"x" * len(name))

    def names(source: sources.Files) -> list[str]:
        return [str(Path(file.path).relative_to(tmp_path)) for file in source.listing()]

    at = str(tmp_path)
    assert names(sources.any_file(at)) == ["a.parquet", "b/1.jsonl", "b/2.jsonl.gz", "b/c/3.pq"]
    assert names(sources.parquet(at)) == ["a.parquet", "b/c/3.pq"]
    assert names(sources.jsonl(f"{at}/b")) == ["b/1.jsonl", "b/2.jsonl.gz"]
    assert names(sources.jsonl(f"{at}/b/*.jsonl*")) == ["b/1.jsonl", "b/2.jsonl.gz"]
    assert names(sources.jsonl(f"{at}/b/notes.txt")) == ["b/notes.txt"]
    assert names(sources.parquet(f"file://{at}/**/*.pq", f"{at}/a.parquet", f"{at}/?.parquet")) == [
        "a.parquet",
        "b/c/3.pq",
    ]
    [file] = sources.parquet(f"{at}/a.parquet").listing()
    assert (file.size, file.token.split("=")[0]) == (9, "mtime")
    for source in (
        sources.parquet(f"{at}/none*.parquet"),
        sources.parquet(f"{at}/none.parquet"),
        sources.parquet(f"{at}/b/notes.txt/x"),
        sources.jsonl(f"{at}/b/c"),
        sources.any_file(f"{at}/b/*.txt"),
        sources.parquet("nowhere://x"),
    ):
        with pytest.raises(BadInput):
            source.listing()


def test_a_name_with_brackets_is_not_a_pattern(tmp_path: Path) -> None:
    path = tmp_path / "a[1].jsonl"
    write_lines(path, {"text": "a"})
    assert [file.path for file in sources.jsonl(str(path)).listing()] == [str(path)]


def test_a_token_changes_with_the_file() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe("/token/a.jsonl", b'{"text": "a"}\n')
    before = only(sources.jsonl("memory://token/*"))
    fs.pipe("/token/a.jsonl", b'{"text": "b"}\n')
    after = only(sources.jsonl("memory://token/*"))
    assert before.path == after.path == "memory:///token/a.jsonl"
    assert before.token != after.token
    assert column(read(sources.jsonl("memory://token/*")), "text") == ["b"]


def test_where_a_store_tells_nothing_the_bytes_are_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "TIMES", ())
    fs = fsspec.filesystem("memory")
    tokens = []
    for content in (b"a", b"b", b"a"):
        fs.pipe("/told/a.jsonl", content)
        tokens.append(only(sources.jsonl("memory://told/*")).token)
    assert tokens[0] == tokens[2] != tokens[1]


def test_an_error_that_may_pass_is_raised(tmp_path: Path) -> None:
    """Never written down as bad data, or a lost connection would lose documents."""
    for source in (sources.parquet("gone.parquet"), sources.jsonl("gone.jsonl")):
        with pytest.raises(FileNotFoundError):
            list(source.read(File(str(tmp_path / source.name), 1, "")))


def test_a_source_is_a_value() -> None:
    source = sources.parquet("a.parquet", columns={"n": FLOAT64, "l": pa.list_(TEXT)}, part_bytes="1MiB")
    assert pickle.loads(pickle.dumps(source)) == source
    assert source.identity() == {
        "kind": "parquet",
        "id": "id",
        "text": "text",
        "source": None,
        "constant_source": None,
        "part_bytes": 1 << 20,
        "columns": {"n": "double", "l": "list<item: large_string>"},
    }
    assert source.name == "a.parquet"
    env = sources.environment(exclude=("b", "a"), split="test", package_bytes="1M")
    assert pickle.loads(pickle.dumps(env)) == env
    json.dumps([source.identity(), env.identity()])


def test_sources_that_make_no_sense() -> None:
    for build in (
        lambda: sources.parquet("a", columns={"text": TEXT}),
        lambda: sources.parquet("a", columns={"key": TEXT}),
        lambda: sources.parquet("a", source="a", constant_source="b"),
        lambda: sources.parquet(),
        lambda: sources.jsonl("a", part_bytes=0),
    ):
        with pytest.raises(BadPlan):
            build()


# The documentation of what is installed.

MODULE = b'''"""The module says what it is for, at some length, so that it counts as a document of its own."""
import os

class Tree:
    """A tree
        with an indented line, which stays indented against the others, as help shows it.
    that is all
    """

    def grow(self):
        "Grow, if the weather is fine and there is water, by at most one branch in a year, or two."

        def inner(): """An inner function, which has a docstring too, though nobody can see it from outside."""

    def _short(self):
        """Too short."""

if os.name == "posix":
    def plant(): r"""Plant it. \\d is no escape here. """ """This follows without a break, and is the same text."""
else:
    async def plant(): """Plant it, where there is no ground and one must wait for it, somewhere else, later."""
'''
NAMES = [
    "toy/tree.py",
    "toy/tree.py::Tree",
    "toy/tree.py::Tree.grow",
    "toy/tree.py::Tree.grow.inner",
    "toy/tree.py::plant",
    "toy/tree.py::plant",
]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two installed packages: ``Toy.Box`` imports as ``toy`` and carries a copy of ``other``."""
    long = b"x" * 90
    files = {
        "toy/__init__.py": b"",
        "toy/tree.py": MODULE,
        "toy/broken.py": b"def f(:\n" + long,
        "toy/null.py": b"a = 1\0" + long,
        "toy/deep.py": b"a = " + b"-" * 50_000 + b"1",
        "toy/latin.py": b'# coding: latin-1\n"""caf\xe9 ' + long + b'"""',
        "toy/half.py": b'"""\\ud800 ' + long + b'"""',
        "toy/escape.py": b'"""\\d ' + long + b'"""',
        "toy/_vendor/other/core.py": MODULE,
        "toy/notes.txt": b"n" * 100,
        "toy/data.bin": b"b" * 100,
        "toy/bad.md": b"\xff" * 100,
        "Toy_Box-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: Toy.Box\nVersion: 1.0\n\n# Toy\n\n"
        + b"r" * 100,
        "Toy_Box-1.0.dist-info/licenses/LICENSE": b"l" * 100,
        "Toy_Box-1.0.dist-info/entry_points.txt": b"e" * 100,
        "../../bin/toy.py": MODULE,
        "other/core.py": MODULE,
        "other-2.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: other\nVersion: 2.0\n",
    }
    site = tmp_path / "lib" / "site"
    for name, content in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for info, inside in (("Toy_Box-1.0.dist-info", ("toy/", "Toy", "..")), ("other-2.0.dist-info", ("other",))):
        listed = [f"{name},sha256=abc,{len(content)}" for name, content in files.items() if name.startswith(inside)]
        (site / info / "RECORD").write_text(
            "\n".join([*listed, f"{info}/RECORD,,", *(["toy/gone.py,,"] if "toy/" in inside else [])])
        )
    monkeypatch.syspath_prepend(str(site))
    return site


def test_environment(toy: Path) -> None:
    pieces = read(sources.environment(only=("toy",), min_chars=80))
    rows = {(row["id"], row["text"]): row for row in table_of(pieces).to_pylist()}
    assert sorted(name for name, _ in rows) == sorted(
        [
            *NAMES,
            *(name.replace("toy/", "toy/_vendor/other/").replace("tree.py", "core.py") for name in NAMES),
            "toy/latin.py",
            "toy/half.py",
            "toy/escape.py",
            "toy/notes.txt",
            "Toy_Box-1.0.dist-info/METADATA",
            "Toy_Box-1.0.dist-info/licenses/LICENSE",
        ]
    )
    texts = {name: text for name, text in rows if name != "toy/tree.py::plant"}
    assert texts["toy/tree.py::Tree"] == (
        "A tree\n    with an indented line, which stays indented against the others, as help shows it.\nthat is all"
    )
    assert texts["toy/latin.py"].startswith("café x")
    assert texts["Toy_Box-1.0.dist-info/METADATA"].startswith("# Toy\n\nrrr")
    assert {row["text"] for row in rows.values() if row["id"] == "toy/tree.py::plant"} == {
        r"Plant it. \d is no escape here. This follows without a break, and is the same text.",
        "Plant it, where there is no ground and one must wait for it, somewhere else, later.",
    }
    assert {row["source"] for row in rows.values()} == {"toy-box"}
    kinds = {row["id"]: row["kind"] for row in rows.values()}
    assert kinds["toy/tree.py"] == "module"
    assert kinds["toy/tree.py::Tree"] == "class"
    assert kinds["toy/tree.py::Tree.grow"] == "function"
    assert kinds["Toy_Box-1.0.dist-info/METADATA"] == "readme"
    assert kinds["Toy_Box-1.0.dist-info/licenses/LICENSE"] == "license"
    assert {row["module"] for row in rows.values() if row["id"].startswith("toy/tree.py")} == {"toy/tree.py"}
    assert list(bad_rows(pieces).values()) == ["text holds half of a surrogate pair"]
    errors = {bad.file.removeprefix("environment:toy/"): bad.error for bad in bad_of(pieces)}
    assert set(errors) == {"broken.py", "null.py", "deep.py", "bad.md", "gone.py"}
    assert errors["broken.py"].startswith("not Python")
    assert errors["bad.md"] == "not UTF-8 at byte 0"
    assert errors["gone.py"] == "its package lists it, but it is not there"


def test_excluded_packages_are_out_with_their_copies(toy: Path) -> None:
    source = sources.environment(only=("toy", "other"), exclude=("other",))
    assert [file.path for file in source.listing()] == ["environment:toy-box"]
    assert not any("other" in name for name in column(read(source), "id"))
    with pytest.raises(BadInput, match="no package is left"):
        sources.environment(only=("other",), exclude=("other",)).listing()
    with pytest.raises(BadInput, match="did you mean 'toy-box'"):
        sources.environment(exclude=("toy-bix",)).listing()


@pytest.mark.parametrize(
    ("path", "belongs"),
    [
        ("numpy/ma/core.py", True),
        ("pip/_vendor/numpy/x.py", True),
        ("numpy-2.0.dist-info/METADATA", True),
        ("a/numpy.py", True),
        ("numpy.libs/README.txt", False),
        ("torch/_numpy/x.py", False),
        ("a/numpydoc.py", False),
        ("scikit_learn/x.py", True),
        ("scikit_learn-1.0.dist-info/METADATA", True),
    ],
)
def test_what_belongs_to_a_package(path: str, belongs: bool) -> None:
    assert docstrings.belongs_to(path, {"numpy", "scikit-learn"}) is belongs


def test_splits_share_nothing_and_leave_nothing_out(toy: Path) -> None:
    def modules(**settings: Any) -> set[str]:
        return set(column(read(sources.environment(only=("toy",), min_chars=80, **settings)), "module"))

    parts = [modules(split=split) for split in ("train", "validation", "test")]
    assert set.union(*parts) == modules()
    assert sum(map(len, parts)) == len(modules())
    shares = [sources.split_of(f"m{i}.py") for i in range(2000)]
    assert [round(shares.count(split) / 2000, 1) for split in ("train", "validation", "test")] in (
        [0.6, 0.1, 0.2],
        [0.6, 0.2, 0.2],
        [0.6, 0.1, 0.3],
        [0.6, 0.2, 0.3],
    )


def test_a_package_is_cut_by_a_rule_that_sees_it_alone(toy: Path) -> None:
    def modules(limit: int | None) -> set[str]:
        return set(column(read(sources.environment(only=("toy",), package_bytes=limit, min_chars=80)), "module"))

    everything = modules(None)
    chosen = [modules(limit) for limit in (300, 2000, 3000, 10**6)]
    assert chosen[0] <= chosen[1] <= chosen[2] <= chosen[3] == everything
    assert chosen[1] != everything


def test_a_package_is_listed_anew_when_its_record_changes(toy: Path) -> None:
    before = only(sources.environment(only=("toy",)))
    assert before.size > 2 * len(MODULE)
    record = toy / "Toy_Box-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("toy/tree.py,sha256=abc", "toy/tree.py,sha256=abd"))
    assert only(sources.environment(only=("toy",))).token != before.token


def test_the_real_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources.environment(only=("pytest", "stdlib"), package_bytes="200kB")
    files = source.listing()
    assert [file.path for file in files] == ["environment:pytest", "environment:stdlib"]
    before = set(sys.modules)
    rows = table_of(read(source))
    assert not any(name.startswith(("_pytest.", "lib2to3")) for name in set(sys.modules) - before)
    assert set(rows["source"].to_pylist()) == {"pytest", "stdlib"}
    assert min(map(len, rows["text"].to_pylist())) >= 100
    assert all(
        name.startswith("stdlib/")
        for name, of in zip(rows["id"].to_pylist(), rows["source"].to_pylist(), strict=True)
        if of == "stdlib"
    )
    assert "environment:curate" not in {file.path for file in sources.environment().listing()}


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ("Name: a\n\n# Read me\n\nNow.\n", "# Read me\n\nNow."),
        ("Name: a\nDescription: Read\n        me\n       |now\nVersion: 1\n", "Read\nme\nnow"),
        ("Name: a\nVersion: 1\n", ""),
    ],
)
def test_long_descriptions(metadata: str, text: str) -> None:
    assert docstrings.description(metadata) == text
