"""WARC: whatever is done to an archive, the records that it leaves whole are read, the rest is lost by its bytes."""

import gzip
import io
import random
import zlib
from pathlib import Path

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from curate import sources
from curate.errors import BadInput, BadPlan
from curate.reading import members, warc


def record(body=b"<p>hello", *, number=0, kind="response", http=b"", headers=b"", length=None, mime="text/html"):
    """A record as it stands in an uncompressed archive."""
    if kind in ("response", "request"):
        head = b"HTTP/1.1 200 OK\r\n" if kind == "response" else b"GET / HTTP/1.1\r\n"
        block = head + f"Content-Type: {mime}\r\n".encode() + http + b"\r\n" + body
        own = f"application/http; msgtype={kind}"
    else:
        block, own = body, mime
    lines = [
        "WARC/1.0", f"WARC-Type: {kind}", f"WARC-Record-ID: <urn:uuid:{number}>", f"WARC-Target-URI: http://h/{number}",
        "WARC-Date: 2024-05-06T07:08:09Z", f"Content-Type: {own}",
        f"Content-Length: {len(block) if length is None else length}",
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n" + headers + b"\r\n" + block + b"\r\n\r\n"


PACK = {"": lambda each: each, ".gz": gzip.compress, ".zst": zstandard.compress}
KINDS = pytest.mark.parametrize("ending", list(PACK), ids=["plain", "gz", "zst"])


def read(tmp_path, content, ending="", **options):
    """(rows, bad) of an archive."""
    path = tmp_path / f"crawl.warc{ending}"
    path.write_bytes(content)
    source = sources.warc(str(path), **options)
    pieces = [piece for file in source.listing() for piece in source.read(file)]
    assert all(piece.table.column_names == ["id", "text", "source", *warc.COLUMNS, "extra"] for piece in pieces)
    assert all(piece.groups is None for piece in pieces)
    return [row for piece in pieces for row in piece.table.to_pylist()], [bad for piece in pieces for bad in piece.bad]


def numbers(rows):
    return [int(row["url"].rsplit("/", 1)[1]) for row in rows]


@KINDS
def test_records(tmp_path, ending):
    content = b"".join(PACK[ending](each) for each in [
        record(b"WARC-Filename: x\r\n", kind="warcinfo", mime="application/warc-fields"),
        record(b"", number=1, kind="request"),
        record("<p>caf\xe9".encode("latin-1"), number=2, mime="text/HTML; charset=ISO-8859-1"),
        record(b"\x89PNG", number=3, mime="image/png"),
        record(b"<p>from a file", number=4, kind="resource", mime="application/xhtml+xml"),
        record(b"", number=5, headers=b"WARC-Truncated: length\r\n"),
    ])  # fmt: skip
    rows, bad = read(tmp_path, content, ending)
    assert bad == []
    base = {"source": "crawl", "date": "2024-05-06T07:08:09Z", "language": None}
    assert rows == [
        base | {"id": "<urn:uuid:2>", "text": "<p>café", "url": "http://h/2", "content_type": "text/html",
                "status": 200, "extra": None},
        base | {"id": "<urn:uuid:4>", "text": "<p>from a file", "url": "http://h/4", "status": None,
                "content_type": "application/xhtml+xml", "extra": None},
        base | {"id": "<urn:uuid:5>", "text": "", "url": "http://h/5", "content_type": "text/html",
                "status": 200, "extra": '{"WARC-Truncated":"length"}'},
    ]  # fmt: skip
    assert numbers(read(tmp_path, content, ending, types=["image/png"])[0]) == [3]
    assert numbers(read(tmp_path, content, ending, types=None)[0]) == [2, 3, 4, 5]
    assert {row["source"] for row in read(tmp_path, content, ending, constant_source="CC")[0]} == {"CC"}


def test_wet(tmp_path):
    told = b"WARC-Identified-Content-Language: deu,eng\r\nWARC-Refers-To: <urn:uuid:9>\r\n"
    text = "Größe\nund Länge"
    content = gzip.compress(record(text.encode(), kind="conversion", mime="text/plain", headers=told))
    [row], bad = read(tmp_path, content, ".wet.gz")
    assert (row["text"], row["language"], row["status"], bad) == (text, "deu,eng", None, [])
    assert row["extra"] == '{"WARC-Refers-To":"<urn:uuid:9>"}'


def test_one_gzip_stream_for_all(tmp_path):
    whole = b"".join(record(b"<p>" + b"x" * 1000, number=i) for i in range(50))
    rows, bad = read(tmp_path, gzip.compress(whole), ".gz")
    assert (numbers(rows), bad) == (list(range(50)), [])


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_warcio_writes(tmp_path):
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True)
    for i in range(3):
        http = StatusAndHeaders("200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.1")
        page = io.BytesIO(f"<p>pagé {i}".encode())
        writer.write_record(writer.create_warc_record(f"http://h/{i}", "response", payload=page, http_headers=http))
    rows, bad = read(tmp_path, out.getvalue(), ".gz")
    assert ([row["text"] for row in rows], bad) == ([f"<p>pagé {i}" for i in range(3)], [])


def test_a_dictionary_in_front(tmp_path):
    """Zstandard with a shared dictionary in a skippable frame, itself compressed or not."""
    samples = [record(f"<p>page {i} of a crawl that repeats itself".encode(), number=i) for i in range(300)]
    shared = zstandard.train_dictionary(1024, samples)
    frames = b"".join(zstandard.ZstdCompressor(dict_data=shared).compress(each) for each in samples)
    for stored in (shared.as_bytes(), zstandard.compress(shared.as_bytes())):
        front = members.DICTIONARY.to_bytes(4, "little") + len(stored).to_bytes(4, "little") + stored
        rows, bad = read(tmp_path, front + frames, ".zst")
        assert (numbers(rows), bad) == (list(range(300)), [])


# The body.


def chunked(body):
    return b"3\r\n" + body[:3] + b"\r\n" + f"{len(body) - 3:x}".encode() + b"\r\n" + body[3:] + b"\r\n0\r\n\r\n"


BODY = "<p>schön, und länger als drei Zeichen</p>"
RAW = BODY.encode()


@pytest.mark.parametrize(("body", "http"), [
    (chunked(RAW), b"Transfer-Encoding: chunked\r\n"),
    (gzip.compress(RAW), b"Content-Encoding: gzip\r\n"),
    (zlib.compress(RAW), b"Content-Encoding: deflate\r\n"),
    (brotli.compress(RAW), b"Content-Encoding: br\r\n"),
    (chunked(gzip.compress(RAW)), b"Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n"),
    (RAW, b"Transfer-Encoding: chunked\r\n"),                              # the crawler undid it and kept the header
    (RAW, b"Content-Encoding: gzip\r\n"),
    (RAW, b"Content-Encoding: br\r\n"),
    (RAW, b"Content-Encoding: nonsense\r\n"),
    (gzip.compress(RAW), b"Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n"),
], ids="chunked gzip deflate br both no-chunks no-gzip no-br nonsense not-both".split())  # fmt: skip
def test_bodies(tmp_path, body, http):
    content = gzip.compress(record(body, http=http, mime="text/html; charset=utf-8"))
    rows, bad = read(tmp_path, content, ".gz")
    assert ([row["text"] for row in rows], bad) == ([BODY], [])


@pytest.mark.parametrize(("body", "charset", "text"), [
    ("<p>žluťoučký".encode("iso-8859-2"), "; charset=iso-8859-2", "<p>žluťoučký"),
    (b'<meta charset="windows-1251"><p>' + "привет".encode("cp1251"), "", '<meta charset="windows-1251"><p>привет'),
    (b'<meta charset="windows-1251"><p>' + "ü".encode(), "; charset=utf-8", '<meta charset="windows-1251"><p>ü'),
    ("<p>猫が座っている".encode("shift_jis") * 9, "; charset=Shift_JIS", "<p>猫が座っている" * 9),
    ("<p>\u20ac".encode("cp1252"), "; charset=iso-8859-1", "<p>\u20ac"),    # WHATWG: latin-1 means windows-1252
    (b"\xef\xbb\xbf<p>\xc3\xbc", "; charset=iso-8859-1", "<p>ü"),           # the mark goes before the header
    ("\ufeff<p>ü".encode("utf-16-le"), "", "<p>ü"),
    (b"<p>\xff\xfe\x81 broken \xc3", "; charset=utf-8", None),
    (b"<p>a\x00b", "", "<p>a\x00b"),
    (b"<p>plain", "; charset=no-such-charset", "<p>plain"),
    (b"<p>plain", '; charset="utf-8"', "<p>plain"),
], ids=str)  # fmt: skip
def test_characters(tmp_path, body, charset, text):
    [row], bad = read(tmp_path, record(body, mime="text/html" + charset))
    assert bad == []
    assert row["text"] == text or (text is None and "broken" in row["text"])
    row["text"].encode()


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300), st.sampled_from([None, "utf-8", "utf-16", "utf-7", "gbk", "euc-jp", "", "\0", "ü"]))
def test_any_bytes_become_text(body, charset):
    warc.characters(body, charset).encode()


# What is broken.


@KINDS
def test_a_wrong_length_costs_one_record(tmp_path, ending):
    """Too short by 3, too long by 3, longer than the file, and none at all: their neighbours are read."""
    broken = [record(length=n) for n in (len(record()) - 7, 10**6, 10**17)]
    broken.append(record().replace(b"Content-Length", b"Content-Width"))
    for each in broken:
        pieces = [PACK[ending](part) for part in (record(number=1), each, record(number=2))]
        rows, [bad] = read(tmp_path, b"".join(pieces), ending)
        assert numbers(rows) == [1, 2]
        assert (bad.offset, bad.offset + bad.length) == (len(pieces[0]), len(pieces[0]) + len(pieces[1]))


@KINDS
def test_a_file_that_breaks_off(tmp_path, ending):
    first, second = PACK[ending](record(number=1)), PACK[ending](record(b"<p>" + random.Random(1).randbytes(999)))
    for cut in (1, 5, len(second) // 2, len(second) - 20):
        rows, [bad] = read(tmp_path, first + second[:cut], ending)
        assert numbers(rows) == [1]
        assert (bad.offset, bad.length) == (len(first), cut)


@KINDS
def test_garbage_between_records(tmp_path, ending):
    first, second = PACK[ending](record(number=1)), PACK[ending](record(number=2))
    for garbage in (b"garbage" * 100, b"\x1f\x8b\x08 not gzip", b"\x28\xb5\x2f\xfd not zstd", bytes(range(1, 256))):
        garbage = garbage if ending else garbage + b"\n"
        rows, [bad] = read(tmp_path, first + garbage + second, ending)
        assert numbers(rows) == [1, 2]
        assert (bad.offset, bad.rows) == (len(first), -1)
        assert bad.length == len(garbage)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_flipped_bit_costs_its_member(tmp_path, ending):
    checked = zstandard.ZstdCompressor(write_checksum=True).compress if ending == ".zst" else gzip.compress
    dice = random.Random(3)
    pieces = [checked(record(b"<p>" + dice.randbytes(400).hex().encode(), number=i)) for i in range(9)]
    start = sum(map(len, pieces[:4]))
    for at in range(0, len(pieces[4]), 7):
        content = bytearray(b"".join(pieces))
        content[start + at] ^= 0x10
        rows, bad = read(tmp_path, bytes(content), ending)
        assert set(numbers(rows)) >= {0, 1, 2, 3, 5, 6, 7, 8}, at
        if len(rows) == 8:  # in a gzip header there are bits that mean nothing
            assert [(each.offset, each.length) for each in bad] == [(start, len(pieces[4]))], at


@KINDS
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_damage_is_local(tmp_path_factory, ending, data):
    """Bytes are overwritten, cut out or put in: what is before the damage and behind its neighbours is all read."""
    pieces = [PACK[ending](record(f"<p>{i}".encode() * 30, number=i)) for i in range(8)]
    content = b"".join(pieces)
    a = data.draw(st.integers(0, len(content)))
    b = data.draw(st.integers(a, min(a + 300, len(content))))
    put = data.draw(st.binary(max_size=50) | st.just(pieces[0][:40]))
    rows, bad = read(tmp_path_factory.mktemp("damage"), content[:a] + put + content[b:], ending)
    ends = [sum(map(len, pieces[: i + 1])) for i in range(8)]
    far = {i for i in range(8) if ends[i] < a - 4 or (i and ends[i - 1] - len(pieces[i - 1]) > b + 4)}
    assert {row["id"] for row in rows} >= {f"<urn:uuid:{i}>" for i in far}
    for each in bad:
        assert 0 <= each.offset <= each.offset + each.length <= len(content) + len(put)


# Bombs.


def zeros(head, megabytes, pack):
    """A member that begins with ``head`` and goes on with zeros."""
    if pack == ".gz":
        out = zlib.compressobj(9, wbits=31)
        parts = [out.compress(head)] + [out.compress(bytes(1_000_000)) for _ in range(megabytes)]
        return b"".join(parts) + out.flush()
    out = zstandard.ZstdCompressor().compressobj()
    parts = [out.compress(head)] + [out.compress(bytes(1_000_000)) for _ in range(megabytes)]
    return b"".join(parts) + out.flush()


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("length", [None, 10**9], ids=["small length", "great length"])
def test_a_member_that_swells(tmp_path, ending, length):
    bomb = zeros(record(b"<p>small", number=9, length=length), 200, ending)
    first, last = PACK[ending](record(number=1)), PACK[ending](record(number=2))
    rows, [bad] = read(tmp_path, first + bomb + last, ending, record_bytes="1MB")
    # A whole record stands before the zeros, or the zeros are told to be the record.
    assert (numbers(rows), bad.rows) == (([1, 9, 2], -1) if length is None else ([1, 2], 1))
    assert (bad.offset, bad.length) == (len(first), len(bomb))
    assert "1000000" in bad.error


def test_blank_lines_without_end(tmp_path):
    bomb = gzip.compress(b"\r\n" * 5_000_000)
    rows, [bad] = read(tmp_path, bomb + gzip.compress(record(number=2)), ".gz", record_bytes="1MB")
    assert (numbers(rows), bad.length) == ([2], len(bomb))


@pytest.mark.parametrize(("name", "pack"), [
    ("gzip", gzip.compress), ("br", brotli.compress), ("deflate", zlib.compress),
])  # fmt: skip
def test_a_body_that_swells(tmp_path, name, pack):
    http = f"Content-Encoding: {name}\r\n".encode()
    middle = gzip.compress(record(pack(bytes(50_000_000)), http=http))
    content = gzip.compress(record(number=1)) + middle + gzip.compress(record(number=2))
    rows, [bad] = read(tmp_path, content, ".gz", record_bytes="1MB")
    assert (numbers(rows), bad.length, bad.rows) == ([1, 2], len(middle), 1)
    assert "decoded" in bad.error


@KINDS
def test_a_record_that_is_too_long(tmp_path, ending):
    pieces = [PACK[ending](record(b"<p>" + b"x" * size, number=i)) for i, size in enumerate([10, 2_000_000, 10])]
    rows, [bad] = read(tmp_path, b"".join(pieces), ending, record_bytes="1MB")
    assert (numbers(rows), bad.rows) == ([0, 2], 1)
    assert abs(bad.offset - len(pieces[0])) + abs(bad.length - len(pieces[1])) <= 8  # the blank lines after it
    whole = PACK[ending](b"".join(record(b"<p>" + b"x" * size, number=i) for i, size in enumerate([10, 2_000_000, 10])))
    rows, [bad] = read(tmp_path, whole, ending, record_bytes="1MB")
    assert (numbers(rows), bad.rows) == ([0, 2], 1)


# Pieces and declarations.


def test_pieces_are_the_records(tmp_path):
    content = b"".join(gzip.compress(record(f"<p>{i}".encode() * 50, number=i)) for i in range(600))
    (tmp_path / "a.warc.gz").write_bytes(content)
    whole = sources.warc(str(tmp_path))
    cut = sources.warc(str(tmp_path), part_bytes=5000)
    [file] = cut.listing()
    tables = [piece.table for piece in cut.read(file)]
    assert len(tables) > 10
    assert [row for table in tables for row in table.to_pylist()] == [
        row for piece in whole.read(file) for row in piece.table.to_pylist()
    ]


def test_ids_are_made_where_there_are_none(tmp_path):
    content = record().replace(b"WARC-Record-ID: <urn:uuid:0>\r\n", b"") * 2
    assert [row["id"] for row in read(tmp_path, content)[0]] == ["crawl.warc:0", "crawl.warc:1"]


def test_an_empty_archive(tmp_path):
    for content in (b"", b"\r\n\r\n", bytes(0)):
        assert read(tmp_path, content) == ([], [])


def test_a_source_of_archives_is_a_value(tmp_path):
    for name in ("b.warc.gz", "a.warc.wet.gz", "c.jsonl"):
        (tmp_path / name).write_bytes(b"")
    source = sources.warc(str(tmp_path))
    assert [Path(file.path).name for file in source.listing()] == ["a.warc.wet.gz", "b.warc.gz"]
    told = source.identity()
    assert told["kind"] == "warc" and told["decoding"][0].startswith("fastwarc ")
    with pytest.raises(BadPlan):
        sources.warc()
    with pytest.raises(BadInput, match="cannot be told"):
        sources.any_file(str(tmp_path / "b.warc.gz")).listing()
