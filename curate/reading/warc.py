"""WARC and WET: archived responses as rows of decoded pages, read once and rewritten.

1. Members are decompressed piecemeal (members.py), and records are found in them by their header and Content-Length. A
   record counts only if blank lines, the next one, or the end follow it: else its length is wrong, it is lost, and the
   search for ``WARC/1.`` goes on behind its header, so that a length that is too long swallows nothing.
2. Records of type ``response`` and ``resource`` with a wanted content type, and ``conversion`` (the texts of WET), are
   documents. Other records (``request``, ``warcinfo``, ``revisit``, ...) and other content types are not.
3. FastWARC reads the headers and undoes chunks and compression of the HTTP body, no further than ``record_bytes``.
   Where what is declared is not so (crawlers undo it and keep the header), the body is taken as it stands.
4. Bytes become text by the byte order mark, else the charset of the HTTP header, else that of ``<meta>``, else what
   Resiliparse's detector says, with names meant as in the WHATWG encoding standard; what is not valid in that charset
   is tried as UTF-8 and windows-1252, and at last left out.

Lost, with its byte range in the file as it lies there, one member or record at a time: a member that breaks, garbage, a
length that is wrong, a record of more than ``record_bytes`` as it stands or decoded. A giant is not decompressed to
its end, if it has a member to itself; the next member is looked for in the compressed bytes.

Cost: 400 MB of HTML a CPU second where nothing is compressed, 170 from gzip. FastWARC's own reader inflates several
times as fast as Python's zlib, but it would not tell where a broken member begins, or stop within one that swells.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from fsspec.core import url_to_fs

from curate.columns import INT64, TEXT
from curate.dataset import Bad, File, Piece
from curate.reading.jsonl import encode
from curate.reading.members import Members
from curate.reading.rows import Broken, Rows, compression, cut_rows, file_name, stem

COLUMNS = {"url": TEXT, "date": TEXT, "content_type": TEXT, "status": INT64, "language": TEXT}
SCHEMA = pa.schema({"id": TEXT, "text": TEXT, "source": TEXT, **COLUMNS, "extra": TEXT})
HEADER_BYTES = 1 << 16
SKIPPED = 64                                # times record_bytes that are decompressed to get past a giant
BATCH_ROWS, BATCH_CHARS = 256, 8_000_000
BEGINS = b"WARC/1."
LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
TYPE = re.compile(rb"^warc-type[ \t]*:[ \t]*([a-z]+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
TYPES = {b"response", b"resource", b"conversion"}
COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
TOLD = {  # headers that have a column, or tell of the record and not of the document
    "warc-record-id", "warc-type", "warc-target-uri", "warc-date", "warc-identified-content-language", "content-length",
    "content-type", "warc-block-digest", "warc-warcinfo-id", "warc-concurrent-to",
}


@dataclass(frozen=True, kw_only=True)
class WantedPages:
    """Which records make a row.

    Args:
        types: content types, lower case, without parameters; None for all.
        constant_source: one source for all rows, or None for the file's name.
        record_bytes: longer records are lost.
        part_bytes: text of a piece, at most, but for a single row that is longer.
    """

    types: tuple[str, ...] | None
    constant_source: str | None
    record_bytes: int
    part_bytes: int


def read(wanted: WantedPages, file: File) -> Iterator[Piece]:
    """The pieces of an archive, none of them left in place."""
    bad: list[Bad] = []
    for rows in cut_rows(_batches(wanted, file, bad), wanted.part_bytes):
        yield Piece(rows.table, rows.bad, tuple(bad))
        bad.clear()
    if bad:
        yield Piece(SCHEMA.empty_table(), bad=tuple(bad))


def _batches(wanted: WantedPages, file: File, bad: list[Bad]) -> Iterator[Rows]:
    fs, path = url_to_fs(file.path)
    taken: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    chars, number = 0, 0
    made_source = stem(file.path) if wanted.constant_source is None else wanted.constant_source
    with fs.open(path, "rb") as handle:
        for found in records(handle, wanted.record_bytes, compression(file.path)):
            if isinstance(found, Lost):
                bad.append(Bad(file.path, found.offset, found.length, found.rows, found.why))
                continue
            try:
                row = document(found.content, wanted)
            except Broken as why:
                bad.append(Bad(file.path, found.offset, found.length, 1, str(why) + found.inside))
                row = None
            if row is None:
                continue
            row["id"] = row["id"] or f"{file_name(file.path)}:{number}"
            row["source"] = made_source
            number += 1
            chars += len(row["text"])
            for name, values in taken.items():
                values.append(row[name])
            if len(taken["text"]) >= BATCH_ROWS or chars >= BATCH_CHARS:
                yield Rows(pa.table(taken, schema=SCHEMA), {})
                taken, chars = {name: [] for name in SCHEMA.names}, 0
    yield Rows(pa.table(taken, schema=SCHEMA), {})


# Records.


class Record(NamedTuple):
    """A whole record, header and body, and the bytes of the file in which it lies."""

    content: bytes
    offset: int
    length: int
    inside: str


class Lost(NamedTuple):
    """Bytes of the file that gave no record; rows as in ``Bad``."""

    offset: int
    length: int
    rows: int
    why: str


@dataclass
class _Open:
    """What is held of the open member: decompressed bytes from ``at`` on."""

    held: bytearray = field(default_factory=bytearray)
    at: int = 0
    ended: bool = False


def records(handle: Any, record_bytes: int, ending: str = "") -> Iterator[Record | Lost]:
    """The documents' records of an archive in order, and what could not be read between them."""
    members = Members(handle, BEGINS, ending)
    while True:
        try:
            if not members.open():
                return
        except Broken as why:
            offset = members.start
            more = members.next_after(offset)
            yield Lost(offset, members.offset - offset, -1, str(why))
            if not more:
                return
            continue
        given_up = yield from _of_member(members, record_bytes)
        if given_up is not None:
            start = members.start
            more = members.next_after(start)
            yield given_up._replace(offset=start, length=members.offset - start)
            if not more:
                return


def _of_member(members: Members, record_bytes: int) -> Generator[Record | Lost, None, Lost | None]:
    """The records of the open member; returns what was lost where the member must be given up."""
    plain = members.kind == "plain"
    state = _Open()
    rows = -1

    def fill(count: int) -> bool:
        """Hold ``count`` bytes, if there are as many."""
        while len(state.held) < count and not state.ended:
            more = members.read(count - len(state.held) + 1)
            state.held += more
            state.ended = not more
        return len(state.held) >= count

    def drop(count: int) -> None:
        del state.held[:count]
        state.at += count

    def lost(begun: int, rows: int, why: str) -> Lost:
        """Bytes from ``begun`` to here: of a compressed member its range is told, and where in it they are."""
        if plain:
            return Lost(begun, state.at - begun, rows, why)
        return Lost(members.start, members.offset - members.start, rows, why + _inside(begun))

    def find(most: int) -> bool:
        """Drop up to the next line that begins a record; False if none follows."""
        begun = state.at
        while True:
            at = state.held.find(b"\n" + BEGINS)
            if at >= 0:
                drop(at + 1)
                return True
            drop(max(0, len(state.held) - len(BEGINS)))
            if not fill(len(state.held) + (1 << 16)) and state.ended and b"\n" + BEGINS not in state.held:
                drop(len(state.held))
                return False
            if not plain and state.at - begun > most:
                raise Broken(f"more than {most} bytes without a record")

    try:
        while True:
            blank = state.at
            while fill(1) and state.held[0] in b"\r\n":
                drop(len(state.held) - len(state.held.lstrip(b"\r\n")))
                if state.at - blank > record_bytes:
                    raise Broken(f"more than {record_bytes} bytes of blank lines")
            if not state.held:
                return None
            begun, rows = state.at, -1
            end = _header_end(state, fill)
            header = bytes(state.held[:end])
            length = LENGTH.search(header)
            if not header.startswith(BEGINS) or length is None:
                why = "a header without Content-Length" if header.startswith(BEGINS) else "garbage between records"
                drop(1)
                find(record_bytes)
                yield lost(begun, -1, why)
                continue
            kind = TYPE.search(header)
            is_document = kind is not None and kind[1].lower() in TYPES
            rows = 1 if is_document else 0
            size = end + int(length[1])
            if size > record_bytes:
                why = f"a record of more than {record_bytes} bytes"
                if begun == 0 and not plain:  # it has the member to itself: the next is found without decompressing
                    raise Broken(why)
                drop(end)
                find(min(size, SKIPPED * record_bytes) + record_bytes)
                yield lost(begun, rows, why)
                continue
            whole = fill(size)
            fill(size + 4 + len(BEGINS))
            if not whole or not _ends(bytes(state.held[size : size + 4 + len(BEGINS)])):
                why = "Content-Length is wrong" if whole else "the record breaks off"
                drop(end)
                find(record_bytes)
                yield lost(begun, rows, why)
                continue
            content = bytes(state.held[:size]) if is_document else b""
            drop(size)
            if is_document and plain:
                yield Record(content, begun, size, "")
            elif is_document:
                yield Record(content, members.start, members.offset - members.start, _inside(begun))
    except Broken as why:
        return Lost(0, 0, rows, str(why) + _inside(state.at))


def _ends(after: bytes) -> bool:
    """Whether what follows a record is what should: blank lines, the next record, or the end."""
    rest = after.lstrip(b"\r\n")
    return after.startswith((b"\r\n\r\n", b"\n\n")) or rest.startswith(BEGINS) or BEGINS.startswith(rest)


def _inside(at: int) -> str:
    return f" (at byte {at} of what the member decompresses to)" if at else ""


def _header_end(state: _Open, fill: Any) -> int:
    """Where the header ends, its blank line included; 0 if there is none."""
    have = 1 << 10
    while True:
        complete = fill(have)
        for blank in (b"\r\n\r\n", b"\n\n"):
            at = state.held.find(blank, 0, HEADER_BYTES)
            if at >= 0:
                return at + len(blank)
        if not complete or have >= HEADER_BYTES:
            return 0
        have = min(4 * have, HEADER_BYTES)


# Documents.


def document(content: bytes, wanted: WantedPages) -> dict[str, Any] | None:
    """The row of a record, None where its content type is not wanted; raises Broken."""
    from fastwarc.warc import WarcRecord
    from fastwarc.warc import conversion as converted

    try:
        record = WarcRecord.from_bytes(content)
        headers = record.headers
        told = headers.get("WARC-Identified-Payload-Type")
        status, charset = None, None
        if record.is_http:
            record.parse_http(auto_decode="none", quirks_mode=True)
            status, charset = record.http_headers.status_code, record.http_charset
            told = record.http_content_type or told
        else:
            told = headers.get("Content-Type") or told
        kind = None if told is None else told.split(";")[0].strip().lower()
        if record.record_type != converted and wanted.types is not None and kind not in wanted.types:
            return None
        body = _body(record, content, wanted.record_bytes)
    except OSError as error:
        raise Broken(f"the record cannot be read: {error}") from error
    except (ValueError, UnicodeError) as error:
        raise Broken(f"a header cannot be read: {error}") from error
    url = headers.get("WARC-Target-URI")
    rest = {name: value for name, value in headers.items() if name.lower() not in TOLD}
    return {
        "id": headers.get("WARC-Record-ID"),
        "text": characters(body, "utf-8" if record.record_type == converted else charset),
        "url": None if url is None else url.removeprefix("<").removesuffix(">"), "date": headers.get("WARC-Date"),
        "content_type": kind,
        "status": status, "language": headers.get("WARC-Identified-Content-Language"), "extra": encode(rest),
    }


def _body(record: Any, content: bytes, most: int) -> bytes:
    """The body of a record, without chunks and compression; raises Broken where it is too long."""
    from fastwarc.warc import WarcRecord

    body: bytes = b""
    coded = record.is_http and any(
        record.http_headers.get(name) for name in ("Transfer-Encoding", "Content-Encoding")
    )
    if coded:
        for how in ("all", "content", "transfer"):
            again = WarcRecord.from_bytes(content)
            try:
                again.parse_http(auto_decode=how, quirks_mode=True)
                body = again.reader.read(most + 1)
            except OSError:  # it is not what the header says
                continue
            if body or how == "all":
                break
        else:
            body = record.reader.read(most + 1)
            if body.startswith(COMPRESSED):
                raise Broken("the body cannot be decompressed")
    else:
        body = record.reader.read(most + 1)
    if len(body) > most:
        raise Broken(f"a body of more than {most} bytes, decoded")
    return body


def characters(body: bytes, charset: str | None) -> str:
    """Bytes of a page as text; see the module's story."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    name = next((name for mark, name in MARKS.items() if body.startswith(mark)), None)
    if name is None and charset is not None:
        name = map_encoding_to_html5(charset.strip("\"' \t"), fallback_utf8=False)
    if name is None:
        name = detect_encoding(body, from_html_meta=True)
    return str(bytes_to_str(body, name or "utf-8", errors="ignore"))
