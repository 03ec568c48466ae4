"""CSV, Arrow, bzip2, xz, paths into objects, files that differ, and where files may be: the same rows, all of them."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import tracemalloc
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry as REGISTRY
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sources import bad_of, bad_rows, column, read, table_of, write_lines

from curate import sources
from curate.columns import FLOAT64, INT64, TEXT
from curate.errors import BadInput, BadPlan
from curate.reading import delimited, streams

PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
FEW = settings(max_examples=40, deadline=None)


# CSV.

CELLS = st.text(alphabet='ab"é,;\t\r\n \x00\ufeff', max_size=8)


def as_csv(rows, **options):
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n", **options).writerows(rows)
    return out.getvalue().encode()


@FEW
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=12), st.integers(1, 200), st.sampled_from(list(PACK)))
def test_rows_of_csv_are_what_was_written(rows, part_bytes, ending):
    content = as_csv([("id", "text", "n"), *rows])
    fsspec.filesystem("memory").pipe(f"/csv/a.csv{ending}", PACK[ending](content))
    pieces = read(sources.csv(f"memory://csv/a.csv{ending}", part_bytes=part_bytes))
    assert bad_of(pieces) == []
    expected = list(csv.reader(io.StringIO(content.decode(), newline="")))[1:]  # \r in quotes stays
    assert expected == [list(row) for row in rows]
    found = [row for piece in pieces for row in piece.table.to_pylist()]
    assert [(row["id"], row["text"]) for row in found] == [(a or f"a.csv{ending}:{i}", b) for i, (a, b, _) in
                                                           enumerate(rows)]  # fmt: skip
    assert [json.loads(row["extra"])["n"] if row["extra"] else "" for row in found] == [n for *_, n in rows]


def test_csv_columns(tmp_path):
    path = tmp_path / "a-01.csv"
    rows = [b"id,text,n,when,url", b'1,"two\nlines, ""quoted""",5,2024-05-06,', b",b,,,x", b"3,c,five,never,", b""]
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(rows))
    pieces = read(sources.csv(str(path), columns={"n": INT64, "when": pa.date32(), "url": TEXT}))
    rows = table_of(pieces).to_pylist()
    assert [row["id"] for row in rows] == ["1", "a-01.csv:1", "3"]
    assert [row["text"] for row in rows] == ['two\nlines, "quoted"', "b", "c"]
    assert [row["n"] for row in rows] == [5, None, None]
    assert [row["url"] for row in rows] == ["", "x", ""]
    assert {row["source"] for row in rows} == {"a"}
    assert bad_rows(pieces) == {
        2: "column 'n': large_string does not cast to int64; column 'when': large_string does not cast to date32[day]"
    }


def test_csv_dialects(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"text\tn\n'a, b'\t1\n")
    (tmp_path / "b.csv").write_bytes(b"'a;\n''b''';1\n")
    assert column(read(sources.csv(str(tmp_path / "a.tsv"))), "text") == ["'a, b'"]
    source = sources.csv(str(tmp_path / "b.csv"), delimiter=";", quote="'", header=("text", "n"))
    assert column(read(source), "text") == ["a;\n'b'"]
    assert source.identity() != sources.csv(str(tmp_path / "b.csv")).identity()
    assert column(read(sources.any_file(str(tmp_path / "a.tsv"))), "text") == ["'a, b'"]
    with pytest.raises(BadPlan, match="one character"):
        sources.csv("a.csv", delimiter="::")


def test_broken_csv_is_lost_by_its_bytes(tmp_path):
    good = [b"id,text\n", b"1,a\n", b"4,d\n", b'5,"e\ne"\n', b"8,h\n"]
    broken = {
        b"2,too,many\n": "3 values, where there are 2 columns",
        b'3,"a"b\n': "not CSV: ',' expected after '\"'",
        b"6,\xff\xfe\n": "not UTF-8",
        b"7\n": "1 values, where there are 2 columns",
    }
    lines = [*good[:2], *list(broken)[:2], b"\n", *good[2:4], *list(broken)[2:], good[4]]
    path = tmp_path / "a.csv"
    path.write_bytes(b"".join(lines))
    pieces = read(sources.csv(str(path)))
    assert column(pieces, "id") == ["1", "4", "5", "8"]
    content = path.read_bytes()
    found = {content[bad.offset : bad.offset + bad.length] + b"\n": (bad.error, bad.rows) for bad in bad_of(pieces)}
    assert found == {line: (why, 1) for line, why in broken.items()}


def test_a_quote_that_is_never_closed(tmp_path):
    """It takes what stands up to the next quote, or to the end, and not the file before it."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\n1,a\n2,"open\n3,c\n4,"d"\n5,e\n')
    pieces = read(sources.csv(str(path)))
    [bad] = bad_of(pieces)
    assert column(pieces, "id") == ["1", "5"]
    assert (path.read_bytes()[bad.offset :][: bad.length], bad.rows) == (b'2,"open\n3,c\n4,"d"', -1)
    path.write_bytes(b'id,text\n1,a\n2,"open\n3,c\n')
    pieces = read(sources.csv(str(path)))
    [bad] = bad_of(pieces)
    assert (column(pieces, "id"), bad.offset) == (["1"], 12)
    assert "unexpected end of data" in bad.error


def test_a_csv_row_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "ROW_BYTES", 2000)
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\n1,a\n2,"' + b"x" * 99 + (b"\n" + b"x" * 99) * 30 + b"\n3,c\n")
    pieces = read(sources.csv(str(path)))
    assert {"1", "3"} <= set(column(pieces, "id"))
    assert "more than 2000 bytes" in bad_of(pieces)[0].error


def test_csv_without_its_columns(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,content\n1,a\n")
    (tmp_path / "b.csv").write_bytes(b"text,x,x\na,b,c\n")
    with pytest.raises(BadInput, match="there is no column 'text'; its columns are id, content") as caught:
        read(sources.csv(str(tmp_path / "a.csv")))
    assert caught.value.where.endswith("a.csv")
    assert "two columns have one name" in bad_of(read(sources.csv(str(tmp_path / "b.csv"))))[0].error
    for content in (b"", b"\n", b"text\n"):
        (tmp_path / "c.csv").write_bytes(content)
        assert [len(piece.table) for piece in read(sources.csv(str(tmp_path / "c.csv")))] in ([], [0])


# Compressed streams.


@pytest.mark.parametrize("ending", [".bz2", ".xz", ".gz", ".zst"])
def test_several_streams_and_one_that_breaks_off(tmp_path, ending):
    lines = [json.dumps({"id": str(i), "text": f"text {i * i}"}).encode() + b"\n" for i in range(3000)]
    pack = PACK[ending]
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(pack(b"".join(lines[:1000])) + pack(b"".join(lines[1000:])))
    pieces = read(sources.jsonl(str(path)))
    assert column(pieces, "id") == [str(i) for i in range(3000)]
    assert bad_of(pieces) == []
    path.write_bytes(path.read_bytes()[:-30])
    pieces = read(sources.jsonl(str(path)))
    kept = len(column(pieces, "id"))
    [bad] = bad_of(pieces)
    assert 1000 <= kept <= 3000  # at the end of xz there is an index
    assert (bad.offset, bad.length, "breaks off" in bad.error) == (sum(map(len, lines[:kept])), -1, True)
    path.write_bytes(b"not compressed at all")
    assert [bad.rows for bad in bad_of(read(sources.jsonl(str(path))))] == [-1]


@pytest.mark.parametrize("ending", [".bz2", ".xz", ".gz"])
def test_a_stream_that_swells_is_never_held(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(PACK[ending](bytes(300_000_000)))
    with path.open("rb") as handle:
        tracemalloc.start()
        assert sum(map(len, streams.DECOMPRESS[ending](handle))) == 300_000_000
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 20_000_000


# Arrow.

ARROW = pa.table({
    "id": pa.array([f"d{i}" for i in range(100)]),
    "text": pa.array([None if i == 50 else f"text {i}" for i in range(100)]),
    "kind": pa.array(["a", "b"] * 50).dictionary_encode(),
    "meta": pa.array([{"url": f"http://h/{i}", "n": i} for i in range(100)]),
})


def write_arrow(path, table=ARROW, kind="file", **options):
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        for batch in table.to_batches(max_chunksize=10):
            out.write_batch(batch)
    return str(path)


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_is_as_parquet(tmp_path, kind, compression):
    declared = {"meta.url": TEXT, "kind": TEXT}
    pq.write_table(ARROW, tmp_path / "a.parquet")
    expected = table_of(read(sources.parquet(str(tmp_path / "a.parquet"), columns=declared)))
    url = write_arrow(tmp_path / "a.arrow", kind=kind, compression=compression)
    pieces = read(sources.arrow(url, columns=declared, part_bytes=100))
    assert table_of(pieces).equals(expected)
    assert len(pieces) > 5
    assert {piece.groups for piece in pieces} == {None}
    assert bad_rows(pieces) == {50: "text is null"}
    assert table_of(read(sources.any_file(url, columns=declared))).equals(expected)


def test_a_damaged_arrow_batch_is_lost_alone(tmp_path):
    """Offsets of the ids of one of ten batches point anywhere: Arrow itself would follow them."""
    path = tmp_path / "a.arrow"
    write_arrow(path, ARROW.select(["id", "text"]))
    content = bytearray(path.read_bytes())
    at = content.rindex(np.arange(0, 33, 3, dtype=np.int32).tobytes(), 0, content.index(b"d30d31d32"))
    content[at + 8 : at + 16] = b"\xff\xff\xff\x7f\xff\xff\xff\x7f"
    path.write_bytes(content)
    pieces = read(sources.arrow(str(path)))
    [bad] = bad_of(pieces)
    left = [int(name[1:]) // 10 for name in column(pieces, "id")]
    assert sorted({*left}) == [k for k in range(10) if left.count(k) == 10]
    assert len(left) == 90
    assert bad.rows == 10
    assert bad.offset <= at < bad.offset + bad.length < path.stat().st_size


def test_arrow_that_breaks_off(tmp_path):
    path = tmp_path / "a.arrow"
    write_arrow(path, kind="stream")
    whole = path.read_bytes()
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        pieces = read(sources.arrow(str(path)))
        kept = column(pieces, "id") if pieces else []
        assert kept == [f"d{i}" for i in range(len(kept))]
        assert all(bad.offset >= 0 and bad.offset + bad.length == cut for bad in bad_of(pieces))
        assert bad_of(pieces) or cut == 0 or len(kept) % 10 == 0


def test_arrow_names_and_lengths_that_are_damaged(tmp_path):
    """Found by changing bytes at random: a name that is no text, a length of which a buffer would be made first."""
    path = tmp_path / "a.arrow"
    write_arrow(path, kind="stream")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"kind", b"k\xffnd"))
    [bad] = bad_of(read(sources.arrow(str(path))))
    assert (bad.offset, bad.length, "not an Arrow file" in bad.error) == (0, len(whole), True)
    second = whole.index(b"\xff\xff\xff\xff", 8)
    path.write_bytes(whole[: second + 4] + b"\xff\xff\xff\x7f" + whole[second + 8 :])
    found = bad_of(read(sources.arrow(str(path))))
    assert {bad.rows for bad in found} == {-1}
    assert sum(bad.length for bad in found) == len(whole) - second


@FEW
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_no_byte_of_an_arrow_file_kills(tmp_path_factory, at, put):
    path = tmp_path_factory.getbasetemp() / "damaged.arrow"
    write_arrow(path)
    content = bytearray(path.read_bytes())
    at %= len(content)
    content[at : at + len(put)] = put
    path.write_bytes(content)
    try:
        pieces = read(sources.arrow(str(path)))
    except BadInput:  # a letter of a column's name
        return
    table_of(pieces).validate(full=True) if pieces else None


def test_arrow_text_that_is_not_utf8(tmp_path):
    texts = pa.array([b"good", b"\xff\xfe"], pa.binary()).view(pa.string())
    url = write_arrow(tmp_path / "a.arrow", pa.table({"text": texts}))
    assert bad_rows(read(sources.arrow(url))) == {1: "column 'text' is not valid UTF-8"}


# Paths into objects.

DEEP = [
    {"doc": {"body": "a", "id": 7}, "meta": {"url": "u", "from": "web"}},
    {"doc": {"body": "b", "id": None}, "meta": None},
]


def test_paths(tmp_path):
    pq.write_table(pa.Table.from_pylist(DEEP), tmp_path / "a.parquet")
    write_lines(tmp_path / "a.jsonl", *DEEP)
    asked = {"id": "doc.id", "text": "doc.body", "source": "meta.from", "columns": {"meta.url": TEXT}}
    for url, made in ((tmp_path / "a.parquet", "a.parquet:1"), (tmp_path / "a.jsonl", "a.jsonl:1")):
        source = sources.any_file(str(url), **asked)
        pieces = read(source)
        rows = table_of(pieces).to_pylist()
        extras = [json.loads(row.pop("extra")) for row in rows]
        assert rows == [
            {"id": "7", "text": "a", "source": "web", "meta.url": "u"},
            {"id": made, "text": "b", "source": "", "meta.url": None},
        ]
        assert extras[0] == DEEP[0]
        if url.suffix == ".parquet":
            [file] = source.listing()
            for name in pieces[0].table.column_names:
                assert source.reread(file, (0,), [name]).equals(pieces[0].table.select([name]))
    with pytest.raises(BadInput, match=r"there is no column 'doc\.text'"):
        read(sources.parquet(str(tmp_path / "a.parquet"), text="doc.text"))


def test_a_name_with_dots_that_is_a_name(tmp_path):
    rows = [{"text": "t", "a.b": 1, "a": {"b": 2}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    write_lines(tmp_path / "a.jsonl", *rows)
    for name in ("a.parquet", "a.jsonl"):
        assert column(read(sources.any_file(str(tmp_path / name), columns={"a.b": INT64})), "a.b") == [1]


# Files that differ.


def shards(tmp_path, kind, tables):
    """Files ``0``, ``1``, ... of one kind with the rows given for each."""
    for i, rows in enumerate(tables):
        path = tmp_path / f"{i}.{kind}"
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif kind == "arrow":
            write_arrow(path, pa.Table.from_pylist(rows))
        elif kind == "csv":
            path.write_bytes(as_csv([list(rows[0]), *([row[name] for name in rows[0]] for row in rows)]))
        else:
            write_lines(path, *rows)
    return str(tmp_path)


KINDS = pytest.mark.parametrize("kind", ["parquet", "arrow", "csv", "jsonl"])


@KINDS
def test_a_number_in_one_file_is_text_in_another(tmp_path, kind):
    """It is parsed; what cannot be is a bad row, and the others are not."""
    where = shards(tmp_path, kind, [[{"text": "a", "n": 1}], [{"text": "b", "n": "2"}, {"text": "c", "n": "two"}],
                                    [{"text": "d", "n": 3.0}]])  # fmt: skip
    pieces = read(sources.any_file(where, columns={"n": INT64}))
    assert column(pieces, "n") == [1, 2, None, None if kind == "csv" else 3]
    assert set(bad_rows(pieces)) == {2, 3} if kind == "csv" else {2}


@KINDS
def test_a_column_that_only_one_file_has_goes_to_extra(tmp_path, kind):
    where = shards(tmp_path, kind, [[{"text": "a"}], [{"text": "b", "new": "x"}], [{"text": "c", "new": 1.5}]])
    extras = [extra and json.loads(extra) for extra in column(read(sources.any_file(where)), "extra")]
    assert extras == [None, {"new": "x"}, {"new": "1.5" if kind == "csv" else 1.5}]


@KINDS
def test_a_file_without_a_declared_column_is_named(tmp_path, kind):
    where = shards(tmp_path, kind, [[{"text": "a", "n": 1}], [{"text": "b", "m": 1}]])
    source = sources.any_file(where, columns={"n": INT64})
    if kind == "jsonl":  # JSON has no columns to lack
        assert column(read(source), "n") == [1, None]
        return
    with pytest.raises(BadInput, match="there is no column 'n'; its columns are text, m") as caught:
        read(source)
    assert caught.value.where == str(tmp_path / f"1.{kind}")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_file_of_another_type_is_named(tmp_path, kind):
    where = shards(tmp_path, kind, [[{"text": "a", "n": 1.5}], [{"text": "b", "n": [1.5]}]])
    with pytest.raises(BadInput, match=r"column 'n' is list<.*, which does not cast to double") as caught:
        read(sources.any_file(where, columns={"n": FLOAT64}))
    assert caught.value.where == str(tmp_path / f"1.{kind}")
    where = shards(tmp_path, kind, [[{"text": "a"}], [{"text": ["b"]}]])
    with pytest.raises(BadInput, match=r"column 'text' is list<.*, not text") as caught:
        read(sources.any_file(where))
    assert caught.value.where == str(tmp_path / f"1.{kind}")


# Where files may be.


class Hub(MemoryFileSystem):
    """What ``hf://`` answers: paths with a revision, entries with a checksum, no modification time."""

    protocol = "hf"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("hf://").strip("/")

    def info(self, path, **options):
        return self._told(super().info(path, **options))

    def ls(self, path, detail=True, **options):
        return [self._told(each) if detail else each for each in super().ls(path, detail, **options)]

    def find(self, path, **options):
        found = super().find(path, **options)
        return {name: self._told(info) for name, info in found.items()} if options.get("detail") else found

    def _told(self, info):
        told = {name: value for name, value in info.items() if name != "created"}
        return told | ({"blob_id": "c0ffee"} if info["type"] == "file" else {})

    def unstrip_protocol(self, name):
        return f"hf://{name.removeprefix('hf://').lstrip('/')}"


def test_a_dataset_of_the_hub(monkeypatch):
    monkeypatch.setitem(REGISTRY, "hf", Hub)
    hub = fsspec.filesystem("hf")
    base = "/datasets/owner/name@main"
    for i in range(2):
        with hub.open(f"{base}/data/train-0000{i}-of-00002.parquet", "wb") as handle:
            pq.write_table(pa.table({"text": [f"text {i}"]}), handle)
    hub.pipe(f"{base}/README.md", b"# Card")
    hub.pipe(f"{base}/more/x.jsonl", b'{"text": "more"}\n')
    source = sources.any_file("hf://datasets/owner/name@main")
    assert [file.path for file in source.listing()] == [
        f"hf://datasets/owner/name@main/{name}"
        for name in ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "more/x.jsonl")
    ]
    assert {file.token for file in source.listing()} == {"blob_id=c0ffee"}
    assert column(read(source), "text") == ["text 0", "text 1", "more"]
    assert column(read(sources.parquet("hf://datasets/owner/name@main/data/*.parquet")), "source") == ["train"] * 2


def test_the_hubs_own_file_system_is_what_opens():
    import huggingface_hub

    fs, path = fsspec.core.url_to_fs("hf://datasets/owner/name@rev/data/*.parquet")
    assert isinstance(fs, huggingface_hub.HfFileSystem)
    assert path == "datasets/owner/name@rev/data/*.parquet"


def test_files_on_s3(s3):
    """Every kind, through s3fs."""
    fs = fsspec.filesystem("s3")
    fs.pipe("bucket/corpus/a.jsonl.bz2", bz2.compress(b'{"text": "bz2"}\n'))
    fs.pipe("bucket/corpus/b.csv", b"text\ncsv\n")
    out = io.BytesIO()
    write_arrow(out, pa.table({"text": ["arrow"]}))
    fs.pipe("bucket/corpus/c.arrow", out.getvalue())
    out = io.BytesIO()
    pq.write_table(pa.table({"text": ["parquet"]}), out)
    fs.pipe("bucket/corpus/d.parquet", out.getvalue())
    head = b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nwarc\r\n\r\n"
    fs.pipe("bucket/corpus/e.warc.gz", gzip.compress(head) + b"garbage" + gzip.compress(head))
    source = sources.any_file("s3://bucket/corpus")
    assert column(read(source), "text") == ["bz2", "csv", "arrow", "parquet"]
    assert all(file.token.startswith("ETag=") for file in source.listing())
    pieces = read(sources.warc("s3://bucket/corpus/*.warc.gz"))
    assert (column(pieces, "text"), [bad.length for bad in bad_of(pieces)]) == (["warc", "warc"], [7])


def test_links_are_the_files_that_they_lead_to(tmp_path):
    """As in the cache of the Hub, whose snapshots are links."""
    blob, snapshot = tmp_path / "blobs" / "1", tmp_path / "snapshot"
    blob.parent.mkdir()
    snapshot.mkdir()
    blob.write_text('{"text": "a"}\n')
    (snapshot / "a.jsonl").symlink_to(blob)
    for where in (snapshot, snapshot / "*.jsonl", snapshot / "a.jsonl"):
        source = sources.jsonl(str(where))
        assert column(read(source), "text") == ["a"]
        before = source.listing()[0].token
        times = blob.stat().st_mtime_ns
        os.utime(blob, ns=(times, times + 5_000_000_000))
        assert source.listing()[0].token != before  # of the file, and not of the link
    blob.unlink()
    with pytest.raises(BadInput, match="no file matches"):
        sources.jsonl(f"{snapshot}/*.jsonl").listing()


def test_a_path_is_listed_as_its_kind(tmp_path):
    for name in ("a.csv", "b.tsv.gz", "c.arrow", "d.feather", "e.jsonl.xz", "f.parquet", "g.warc", "h.txt"):
        (tmp_path / name).write_bytes(b"")

    def names(source):
        return "".join(Path(file.path).name[0] for file in source.listing())

    at = str(tmp_path)
    assert (names(sources.any_file(at)), names(sources.csv(at)), names(sources.arrow(at))) == ("abcdef", "ab", "cd")
    assert (names(sources.jsonl(at)), names(sources.warc(at))) == ("e", "g")
