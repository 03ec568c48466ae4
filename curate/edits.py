"""Edits that any pipeline may want: URLs and long runs of newlines taken out, lines dropped by a rule of one's own.

    docs.then(edits.tidy, edits.Tidy(urls="dclm", tlds=edits.tlds_from("iana_tlds.txt")))
    docs.then(edits.drop_lines, edits.DropLines(where="words < 2 AND letters < 0.5", pattern="(?i)^share this"))

Both are MANY stages: rows are replaced, none dropped, and what was removed is counted in columns.

How URLs are found: by DCLM's patterns (``url_removal_modifier``), asked about pieces of text between whitespace, so
that a piece without a dot inside is never looked at; up to ten characters of whitespace before a URL go with it. As
DCLM writes it, URLs are looked for only in pages whose very first characters spell a top-level domain in any case
("The": th; but not "Hello"), because its guard matches at the start instead of searching. ``urls="dclm"`` keeps that,
``urls="all"`` looks in every page. IP addresses are looked for in every page by both.

Cost, MB of text a CPU second: 45 for ``tidy``, 200 for ``drop_lines``. Elsewhere: RefinedWeb's and C4's line rules
(refinedweb.py, c4.py), lines that repeat across documents (lines.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from numba import njit

from curate.columns import INT64, ROW, TEXT
from curate.editing.characters import (
    DIGIT,
    LETTER,
    SPACE,
    UPPER,
    URL_HOST,
    Counts,
    column,
    kinds_of_characters,
    strip_page,
)
from curate.errors import BadInput, UnknownSetting
from curate.stage import Grain, stage
from curate.text import Bytes, Hashes, Int, Offsets, hash_bytes, next_character, string_buffers

# --- URLs and newlines ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Tidy:
    """What ``tidy`` takes out.

    Args:
        urls: ``"all"``: URLs and IP addresses. ``"dclm"``: URLs only in pages that begin with a top-level domain, as
            DCLM's code has it (see the head of this module), IP addresses in all. ``"none"``: nothing.
        tlds: top-level domains without their dot, in lower case: what makes a word with a dot in it a URL. To decide
            exactly as DCLM does, give its list (``tlds_from`` reads a file, one a line).
        newlines: longer runs of newlines become so many; 0 leaves them.
    """

    urls: str = "all"
    tlds: tuple[str, ...] = ("com", "org", "net", "edu", "gov", "int", "mil", "info", "biz", "io", "co", "us", "uk",
                             "de", "fr", "eu", "ca", "au", "in", "jp", "cn", "ru", "br", "it", "nl", "es", "ch", "tv",
                             "me", "ai", "app", "dev", "xyz", "online", "site", "shop", "blog")  # fmt: skip
    newlines: int = 2

    def __post_init__(self) -> None:
        if self.urls not in ("all", "dclm", "none"):
            raise UnknownSetting(f"there is no way {self.urls!r} of taking URLs out", where=f"Tidy(urls={self.urls!r})",
                                 fix="use 'all', 'dclm' or 'none'")  # fmt: skip
        if not self.tlds or not all(self.tlds):
            raise UnknownSetting("without top-level domains nothing is a URL", where="Tidy(tlds=...)",
                                 fix="list some, or say urls='none'")  # fmt: skip


def tlds_from(path: str | Path) -> tuple[str, ...]:
    """Top-level domains from a file, one a line, for ``Tidy``; lines that are empty or begin with "#" are left out.

    Raises:
        BadInput: the file cannot be read.
    """
    return _lines_of(path)


def _lines_of(path: str | Path) -> tuple[str, ...]:
    try:
        written = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"the list cannot be read: {error}", where=str(path), fix="name a text file") from error
    return tuple(line.strip().lower() for line in written.splitlines() if line.strip() and not line.startswith("#"))


@stage(
    reads={"text": TEXT},
    writes={"text": TEXT, "tidy_urls": INT64, "tidy_addresses": INT64, "tidy_newlines": INT64,
            "tidy_bytes_removed": INT64},
    grain=Grain.MANY,
    version="1",
)  # fmt: skip
def tidy(docs: pa.Table, config: Tidy) -> pa.Table:
    """The text without URLs, IP addresses and long runs of newlines; a row a page, and how many of each were removed.

    A null text is an empty one.
    """
    offsets, data = string_buffers(docs["text"])
    n = len(offsets) - 1
    before = np.diff(offsets)
    urls, addresses = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    if config.urls != "none":
        pattern, at_start, known = _url_patterns(config.tlds)
        offsets, data = _take_out(offsets, data, known, pattern, at_start if config.urls == "dclm" else None, urls)
        offsets, data = _take_out(offsets, data, _NONE, _ADDRESS, None, addresses)
    newlines = np.zeros(n, dtype=np.int64)
    out = np.empty(offsets[-1] - offsets[0], dtype=np.uint8)
    ends = np.zeros(n + 1, dtype=np.int64)
    _shorten(offsets, data, config.newlines, newlines, out, ends)
    return pa.table({
        ROW: pa.array(np.arange(n)),
        "text": column(out, ends),
        "tidy_urls": pa.array(urls),
        "tidy_addresses": pa.array(addresses),
        "tidy_newlines": pa.array(newlines),
        "tidy_bytes_removed": pa.array(before - np.diff(ends)),
    })


_ADDRESS = re.compile(
    r"\b(?:(?:https?|ftp)://)?(?:[0-2]?[0-9]{1,2}\.){3}[0-2]?[0-9]{1,2}[-a-zA-Z0-9()@:%_+.~#?&/=]*"
)
_NONE = np.empty(0, dtype=np.uint64)
_MOST_BEFORE = 10        # characters of whitespace that go with a URL


@lru_cache(maxsize=4)
def _url_patterns(tlds: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str], Hashes]:
    """What a URL is within a piece of text without whitespace; what a page begins with that DCLM looks into; hashes."""
    grouped: dict[str, list[str]] = {}           # by their first letter: far fewer alternatives to try
    for tld in sorted(set(tlds)):
        grouped.setdefault(tld[0], []).append(re.escape(tld[1:]))
    known = "|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in grouped.items())
    url = rf"(?:(?:https?|ftp)://)?[-a-zA-Z0-9@:%._+~#=]{{1,256}}\.(?:{known})\b[-a-zA-Z0-9()@:%_+.~#?&/=]*"
    spelled = [np.frombuffer(tld.encode(), dtype=np.uint8) for tld in set(tlds)]
    hashes = np.array(sorted(hash_bytes(letters, 0, len(letters)) for letters in spelled), dtype=np.uint64)
    return re.compile(url), re.compile(known, re.IGNORECASE), hashes


def _take_out(
    offsets: Offsets,
    data: Bytes,
    tlds: Hashes,
    pattern: re.Pattern[str],
    at_start: re.Pattern[str] | None,
    counts: Counts,
) -> tuple[Offsets, Bytes]:
    """Texts without what ``pattern`` finds in their pieces, and up to ten characters of whitespace before it."""
    kinds, _, _ = kinds_of_characters()
    pieces = _candidates(offsets, data, tlds, kinds)
    if at_start is not None and len(pieces):
        looked = np.unique(pieces[:, 0])
        heads = [data[offsets[row] : min(offsets[row + 1], offsets[row] + 256)].tobytes() for row in looked]
        asked = [at_start.match(head.decode(errors="ignore")) is not None for head in heads]
        pieces = pieces[np.isin(pieces[:, 0], looked[np.array(asked, dtype=bool)])]
    found: list[tuple[int, int, int, int]] = []
    known: dict[bytes, list[tuple[int, int]]] = {}
    for row, start, stop in pieces.tolist():
        piece = data[start:stop].tobytes()
        spans = known.get(piece)
        if spans is None:
            word = piece.decode()
            ends = [m.span() for m in pattern.finditer(word)]
            spans = known[piece] = [(len(word[:a].encode()), len(word[:b].encode())) for a, b in ends]
        found.extend((row, start + a, start + b, a == 0) for a, b in spans)
    if not found:
        return offsets, data
    spans_found = np.array(found, dtype=np.int64)
    counts += np.bincount(spans_found[:, 0], minlength=len(counts))
    out = np.empty(offsets[-1] - offsets[0], dtype=np.uint8)
    new = np.zeros(len(offsets), dtype=np.int64)
    _leave_out(offsets, data, spans_found, kinds, _MOST_BEFORE, out, new)
    return new, out


@njit(cache=True, nogil=True)
def _may_be_tld(data: Bytes, start: Int, end: Int, tlds: Hashes) -> bool:
    """Whether a top-level domain may stand at ``data[start]``; surely not, if its first letters and digits are none."""
    stop = start
    while stop < end and (0x61 <= data[stop] <= 0x7A or 0x30 <= data[stop] <= 0x39):
        stop += 1
    if stop < end and (data[stop] >= 0x80 or data[stop] == 0x2D):
        return True
    value = hash_bytes(data, start, stop)
    at = np.searchsorted(tlds, value)
    return bool(at < tlds.size and tlds[at] == value)


@njit(cache=True, nogil=True)
def _is_digit(data: Bytes, at: Int, end: Int) -> bool:
    return bool(at < end and 0x30 <= data[at] <= 0x39)


@njit(cache=True, nogil=True)
def _may_be_address(data: Bytes, dot: Int, start: Int, end: Int) -> bool:
    """Whether the first dot of an IP address may stand at ``data[dot]``."""
    if dot == start or not _is_digit(data, dot - 1, end):
        return False
    at = dot + 1
    for _ in range(2):
        digits = 0
        while _is_digit(data, at, end):
            digits += 1
            at += 1
        if not 1 <= digits <= 3 or at >= end or data[at] != 0x2E:
            return False
        at += 1
    return _is_digit(data, at, end)


@njit(cache=True, nogil=True)
def _candidates(offsets: Offsets, data: Bytes, tlds: Hashes, kinds: Bytes) -> Offsets:
    """Pieces between whitespace, int64 (m, 3): text, first byte, byte after, that may hold a URL.

    Without top-level domains: an IP address.
    """
    found = np.empty((1 << 8, 3), dtype=np.int64)
    m = 0
    for row in range(len(offsets) - 1):
        start = offsets[row]
        end = offsets[row + 1]
        i: Int = start
        while i < end:
            if data[i] != 0x2E:
                i += 1
                continue
            if tlds.size:
                host = i > start and data[i - 1] < 0x80 and kinds[data[i - 1]] & URL_HOST
                may = host and _may_be_tld(data, i + 1, end, tlds)
            else:
                may = _may_be_address(data, i, start, end)
            if not may:
                i += 1
                continue
            piece = i
            while piece > start:
                lead = piece - 1
                while lead > start and data[lead] & 0xC0 == 0x80:
                    lead -= 1
                point, _ = next_character(data, lead, end)
                if kinds[point] & SPACE:
                    break
                piece = lead
            while i < end:
                point, after = next_character(data, i, end)
                if kinds[point] & SPACE:
                    break
                i = after
            if m == len(found):
                larger = np.empty((2 * m, 3), dtype=np.int64)
                larger[:m] = found
                found = larger
            found[m, 0] = row
            found[m, 1] = piece
            found[m, 2] = i
            m += 1
    return found[:m]


@njit(cache=True, nogil=True)
def _leave_out(
    offsets: Offsets, data: Bytes, spans: Offsets, kinds: Bytes, most_before: int, out: Bytes, ends: Offsets
) -> None:
    """Copy texts without ``spans``, int64 (m, 4): text, first byte, byte after, whether whitespace before it goes."""
    w: Int = 0
    k = 0
    for row in range(len(offsets) - 1):
        i: Int = offsets[row]
        while k < len(spans) and spans[k, 0] == row:
            start = spans[k, 1]
            if spans[k, 3] == 1:
                for _ in range(most_before):
                    lead = start - 1
                    while lead > i and data[lead] & 0xC0 == 0x80:
                        lead -= 1
                    if lead < i:
                        break
                    point, _ = next_character(data, lead, start)
                    if not kinds[point] & SPACE:
                        break
                    start = lead
            while i < start:
                out[w] = data[i]
                w += 1
                i += 1
            i = spans[k, 2]
            k += 1
        while i < offsets[row + 1]:
            out[w] = data[i]
            w += 1
            i += 1
        ends[row + 1] = w


@njit(cache=True, nogil=True)
def _shorten(offsets: Offsets, data: Bytes, most: int, counts: Counts, out: Bytes, ends: Offsets) -> None:
    """Copy texts with runs of newlines cut to ``most``."""
    w: Int = 0
    for row in range(len(counts)):
        run = 0
        for i in range(offsets[row], offsets[row + 1]):
            run = run + 1 if data[i] == 0x0A else 0
            if most > 0 and run > most:
                counts[row] += 1
                continue
            out[w] = data[i]
            w += 1
        ends[row + 1] = w


# --- Rules of one's own -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DropLines:
    """Which lines go, cut at newlines: those for which ``where`` is true and those in which ``pattern`` is found.

    Args:
        where: a condition in SQL, as ``polars.sql_expr`` reads it, over the columns ``line`` (text), ``characters``,
            ``words`` (cut at whitespace), ``uppercase``, ``digits``, ``letters`` (shares of the characters; 0 for an
            empty line), ``number`` (from 0) and ``of`` (lines in the page). Empty: no condition. A null is not true.
        pattern: a regular expression as polars reads it (Rust's syntax: no look-around). Empty: none.
        name: begins the names of the columns that are written.
        strip: take the whitespace around what is left of a page away.
    """

    where: str = ""
    pattern: str = ""
    name: str = "dropped"
    strip: bool = False

    def __post_init__(self) -> None:
        if not self.where and not self.pattern:
            raise UnknownSetting("nothing says which lines to drop", where="DropLines()",
                                 fix="give where='words < 2', or a pattern")  # fmt: skip
        try:
            pl.DataFrame(schema=_OF_A_LINE).select(_condition(self))
        except pl.exceptions.PolarsError as error:
            raise UnknownSetting(f"the rule for lines cannot be read: {error}", where="DropLines(...)",
                                 fix=f"use the columns {', '.join(_OF_A_LINE)}") from error  # fmt: skip


_OF_A_LINE = {"line": pl.String, "characters": pl.Int64, "words": pl.Int64, "uppercase": pl.Float64,
              "digits": pl.Float64, "letters": pl.Float64, "number": pl.Int64, "of": pl.Int64}  # fmt: skip


def _condition(config: DropLines) -> pl.Expr:
    parts = [pl.sql_expr(config.where).cast(pl.Boolean)] if config.where else []
    if config.pattern:
        parts.append(pl.col("line").str.contains(config.pattern))
    return pl.any_horizontal(*(part.fill_null(False) for part in parts)).alias("drops")


def _dropped(config: DropLines) -> Mapping[str, pa.DataType]:
    return {"text": TEXT, f"{config.name}_lines": INT64, f"{config.name}_line_bytes": INT64}


@stage(reads={"text": TEXT}, writes=_dropped, grain=Grain.MANY, version="1")
def drop_lines(docs: pa.Table, config: DropLines) -> pa.Table:
    """The text without some of its lines; a row a page, with ``NAME_lines`` and ``NAME_line_bytes`` that went.

    Bytes are those of the lines themselves, newlines left out. A null text is an empty one.
    """
    offsets, data = string_buffers(docs["text"])
    n = len(offsets) - 1
    kinds, _, _ = kinds_of_characters()
    m = n + _newlines(offsets, data)
    out = np.empty(offsets[-1] - offsets[0], dtype=np.uint8)
    starts = np.zeros(m + 1, dtype=np.int64)
    numbers = np.zeros((m, 7), dtype=np.int64)
    _cut_lines(offsets, data, kinds, out, starts, numbers)
    shares = numbers[:, 2:5] / np.maximum(numbers[:, :1], 1)
    lines = pa.table({
        "line": column(out, starts),
        "characters": numbers[:, 0],
        "words": numbers[:, 1],
        "uppercase": shares[:, 0],
        "digits": shares[:, 1],
        "letters": shares[:, 2],
        "number": numbers[:, 5],
        "of": numbers[:, 6],
    })
    frame = pl.from_arrow(lines)
    drops = frame.select(_condition(config))["drops"].to_numpy() if m else np.zeros(0, dtype=bool)  # type: ignore[union-attr]
    counts = np.zeros((n, 2), dtype=np.int64)
    ends = np.zeros(n + 1, dtype=np.int64)
    left = np.empty(len(out), dtype=np.uint8)
    _rejoin(offsets, data, drops, kinds, config.strip, counts, left, ends)
    return pa.table({
        ROW: pa.array(np.arange(n)),
        "text": column(left, ends),
        f"{config.name}_lines": pa.array(counts[:, 0]),
        f"{config.name}_line_bytes": pa.array(counts[:, 1]),
    })


@njit(cache=True, nogil=True)
def _newlines(offsets: Offsets, data: Bytes) -> Int:
    found = 0
    for i in range(offsets[0], offsets[-1]):
        found += data[i] == 0x0A
    return found


@njit(cache=True, nogil=True)
def _cut_lines(offsets: Offsets, data: Bytes, kinds: Bytes, out: Bytes, starts: Offsets, numbers: Counts) -> None:
    """Write all lines one after the other to ``out``, and what is measured on each."""
    w: Int = 0
    m = 0
    for row in range(len(offsets) - 1):
        end = offsets[row + 1]
        first = m
        i: Int = offsets[row]
        while i <= end:
            inside = False
            after = end + 1
            while i < end:
                point, after = next_character(data, i, end)
                if point == 0x0A:
                    break
                kind = kinds[point]
                space = (kind & SPACE) != 0
                numbers[m, 0] += 1
                numbers[m, 1] += not space and not inside
                numbers[m, 2] += (kind & UPPER) != 0
                numbers[m, 3] += (kind & DIGIT) != 0
                numbers[m, 4] += (kind & LETTER) != 0
                inside = not space
                while i < after:
                    out[w] = data[i]
                    w += 1
                    i += 1
            numbers[m, 5] = m - first
            m += 1
            starts[m] = w
            i = i + 1
        for k in range(first, m):
            numbers[k, 6] = m - first


@njit(cache=True, nogil=True)
def _rejoin(
    offsets: Offsets,
    data: Bytes,
    drops: npt.NDArray[np.bool_],
    kinds: Bytes,
    strip: bool,
    counts: Counts,
    out: Bytes,
    ends: Offsets,
) -> None:
    w: Int = 0
    m = 0
    starts = np.empty(1, dtype=np.int64)
    stops = np.empty(1, dtype=np.int64)
    for row in range(len(counts)):
        end = offsets[row + 1]
        begin = w
        any_line = False
        i = offsets[row]
        while i <= end:
            stop = i
            while stop < end and data[stop] != 0x0A:
                stop += 1
            if drops[m]:
                counts[row, 0] += 1
                counts[row, 1] += stop - i
            else:
                if any_line:
                    out[w] = 0x0A
                    w += 1
                any_line = True
                for k in range(i, stop):
                    out[w] = data[k]
                    w += 1
            m += 1
            i = stop + 1
        if strip:
            starts[0] = begin
            stops[0] = w
            first, last = strip_page(out, starts, stops, 0, 1, kinds)
            w = begin
            if first < last:
                for k in range(starts[0], stops[0]):
                    out[w] = out[k]
                    w += 1
        ends[row + 1] = w
