r"""Signatures that are datatrove's, bit for bit (``MinhashDedupSignature``, version 0.10, English, default settings).

1. *Simplified text* (datatrove's ``utils/text.py``, ``simplify_text``): lower case; each number (decimal digits of any
   script, perhaps with one decimal separator and more digits) becomes ``0``; punctuation becomes a space; canonical
   decomposition (NFD) without nonspacing marks. Runs of white space, which part words, are one space here.
2. *Words*: those of spaCy's blank English pipeline (``curate.text``), or simply the pieces between white space.
3. *Shingles*: ``ngram`` words joined by single spaces, hashed by XXH64 or by the first eight bytes of SHA-1 (little
   endian). A text with fewer words has none, and no signature.
4. *Minima*: of ``(h * a + b) mod 2**64 mod (2**61 - 1)``, where a and b come from numpy's ``RandomState(1)``.

How: one table says of every code point what it becomes (lower-cased, decomposed, marks dropped) and which class it has,
filled by asking Python; a kernel writes the simplified text of many documents, looking around only for numbers and for
the capital sigma, whose lower case depends on its neighbours. Words are then kept in one buffer with single spaces
between them, so that a shingle is a span of it. Minima are taken four to eight hashes at a time (AVX2, AVX-512).

The digits of scripts added to Unicode after the running Python (up to 17) are listed here, because datatrove takes
digits from the newer tables of the package ``regex``. Documents with a spacing mark that has a combining class
(Balinese, Javanese, musical signs), where the order of marks may change, go through the slow path.

Differs: a piece of more than ``text.LONGEST_PIECE`` bytes without white space is one word; and see ``curate.text`` on
special cases that spaCy finds over white space.
"""

import unicodedata
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from curate.near.words import unique
from curate.text import (
    NO_ROOM,
    PUNCTUATION,
    TOO_SMALL,
    UNSEEN,
    Int,
    classes,
    code_points,
    new_words,
    next_character,
    split_words,
    word_memo,
)

U8: TypeAlias = npt.NDArray[np.uint8]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]
U64: TypeAlias = npt.NDArray[np.uint64]

BATCH = 4 << 20  # bytes of text that are simplified at once
SEPARATORS = ".,\u060c\u066b\u2396\u2397\u2398"  # between the digits of one number
# Decimal digits of Unicode 15 to 17, hexadecimal.
NEWER_DIGITS = """
    10D40-10D49 116D0-116E3 11BF0-11BF9 11DE0-11DE9 11F50-11F59 16130-16139 16D70-16D79 1CCF0-1CCF9 1E4F0-1E4F9
    1E5F1-1E5FA
"""

# ---- what a code point becomes ------------------------------------------------------------------------------------

_DIGIT = 1  # of any script
_BLANK = 2  # white space or punctuation
_SEPARATOR = 4  # may stand within a number
_IGNORABLE = 8  # skipped when looking for the neighbours of a capital sigma
_CASED = 16  # a neighbour that makes it a final one, or keeps it from being one
_AWKWARD = 32  # not dropped, and may change places with its neighbours
_HIGH = 0x40000  # above: nothing assigned but tags, variation selectors and private use
_SELECTORS = range(0xE0100, 0xE01F0)  # nonspacing marks
_SIGMA = 0x3A3


class Simplification(NamedTuple):
    """For code points below ``_HIGH``: their classes, and the UTF-8 bytes that they become, a span of ``pool``."""

    kind: U8
    at: I32
    size: U8
    pool: U8


def punctuation() -> frozenset[int]:
    """Code points that become a space."""
    return frozenset(code_points(PUNCTUATION))


@cache
def _simplification() -> Simplification:
    blank, digits = punctuation(), frozenset(code_points(NEWER_DIGITS))
    kind, at, size = np.zeros(_HIGH, np.uint8), np.zeros(_HIGH, np.int32), np.zeros(_HIGH, np.uint8)
    pool = bytearray()
    for point in range(_HIGH):
        if 0xD800 <= point < 0xE000:
            continue
        char = chr(point)
        lower = char.lower()
        found = 0
        if unicodedata.category(char) == "Nd" or point in digits:
            found |= _DIGIT
        if char.isspace() or point in blank:
            found |= _BLANK
        if char in SEPARATORS:
            found |= _SEPARATOR
        alone = f"{char}Σ".lower()[-1] == "ς"
        found |= _CASED if alone else 0
        found |= _IGNORABLE if not alone and f"A{char}Σ".lower()[-1] == "ς" else 0
        kept = [c for c in unicodedata.normalize("NFD", lower) if unicodedata.category(c) != "Mn"]
        found |= _AWKWARD if any(unicodedata.combining(c) for c in kept) else 0
        written = "".join(kept).encode()
        kind[point], at[point], size[point] = found, len(pool), len(written)
        pool += written
    return Simplification(kind, at, size, np.frombuffer(bytes(pool), np.uint8))


def simplify_slowly(text: str) -> str:
    """The simplified text of one document, by definition; for documents that the kernel leaves out."""
    digits = frozenset(code_points(NEWER_DIGITS))
    blank = punctuation()

    def is_digit(i: int) -> bool:
        return i < len(text) and (unicodedata.category(text[i]) == "Nd" or ord(text[i]) in digits)

    text = text.lower()
    out = []
    i = 0
    while i < len(text):
        if is_digit(i):
            while is_digit(i):
                i += 1
            if i < len(text) and text[i] in SEPARATORS and is_digit(i + 1):
                i += 1
                while is_digit(i):
                    i += 1
            out.append("0")
            continue
        out.append(" " if ord(text[i]) in blank else text[i])
        i += 1
    spaced = " ".join("".join(out).split())
    kept = "".join(c for c in unicodedata.normalize("NFD", spaced) if unicodedata.category(c) != "Mn")
    return " ".join(kept.split())


@njit(cache=True, nogil=True)
def _simplify(offsets, data, first, last, table, out, ends, awkward):  # type: ignore[no-untyped-def]
    """Write the simplified texts of rows first to last - 1 to ``out``, one after the other.

    Args:
        offsets: of the texts, int64.
        data: their bytes.
        first: a row.
        last: the row after the last.
        table: see ``Simplification``.
        out: uint8, room for four bytes a byte.
        ends: int64 (last - first + 1,), takes the offsets of the simplified texts.
        awkward: bool (last - first,), says which rows the kernel cannot do.
    """
    kind, where, size, pool = table
    at: Int = 0
    ends[0] = 0
    for row in range(first, last):
        i, end = offsets[row], offsets[row + 1]
        begin = at
        gap = False  # a space is due before the next character
        cased = False  # the character before, ignorable ones left out, has a case
        odd: bool | np.bool_ = False
        while i < end:
            point: Int = np.int64(data[i])
            after: Int = i + 1
            if point >= 128:
                point, after = next_character(data, i, end)
                if point >= _HIGH:
                    if not 0xE0100 <= point < 0xE01F0:
                        if gap and at > begin:
                            out[at] = 32
                            at += 1
                        gap = False
                        for j in range(i, after):
                            out[at] = data[j]
                            at += 1
                        if not _is_tag(point):
                            cased = False
                    i = after
                    continue
            found = kind[point]
            if found & (_DIGIT | _BLANK) == 0:
                length = np.int64(size[point])
                if length > 0:
                    if gap:
                        if at > begin:
                            out[at] = 32
                            at += 1
                        gap = False
                    here = where[point]
                    if length == 1:
                        out[at] = pool[here]
                    else:
                        for j in range(length):
                            out[at + j] = pool[here + j]
                    if point == _SIGMA and cased and not _cased_after(data, after, end, kind):
                        out[at + 1] = 0x82  # final sigma
                    at += length
                odd |= found & _AWKWARD != 0
            elif found & _DIGIT:
                after = _after_digits(data, after, end, kind)
                if after < end:
                    separator, beyond = next_character(data, after, end)
                    if separator < _HIGH and kind[separator] & _SEPARATOR and beyond < end:
                        digit, past = next_character(data, beyond, end)
                        if digit < _HIGH and kind[digit] & _DIGIT:
                            after = _after_digits(data, past, end, kind)
                if gap and at > begin:
                    out[at] = 32
                    at += 1
                gap = False
                out[at] = 48
                at += 1
            else:
                gap = True
            if found & _IGNORABLE == 0:
                cased = found & _CASED != 0
            i = after
        ends[row - first + 1] = at
        awkward[row - first] = odd


@njit(cache=True, nogil=True, inline="always")
def _is_tag(point):  # type: ignore[no-untyped-def]
    """Whether a code point from ``_HIGH`` on is a format character, which is ignorable."""
    return point == 0xE0001 or 0xE0020 <= point < 0xE0080


@njit(cache=True, nogil=True)
def _after_digits(data, i, end, kind):  # type: ignore[no-untyped-def]
    """The first byte from ``i`` on where no digit stands."""
    while i < end:
        point, after = next_character(data, i, end)
        if point >= _HIGH or kind[point] & _DIGIT == 0:
            return i
        i = after
    return i


@njit(cache=True, nogil=True)
def _cased_after(data, i, end, kind):  # type: ignore[no-untyped-def]
    """Whether the next character that is not ignorable has a case."""
    while i < end:
        point, i = next_character(data, i, end)
        if point >= _HIGH:
            if not _is_tag(point) and not 0xE0100 <= point < 0xE01F0:
                return False
            continue
        if kind[point] & _IGNORABLE == 0:
            return kind[point] & _CASED != 0
    return False


def simplify(offsets: I64, data: U8, first: int, last: int) -> tuple[I64, U8]:
    """The simplified texts of rows first to last - 1: offsets, int64 (last - first + 1,), and bytes."""
    out = np.empty(4 * int(offsets[last] - offsets[first]) + SLACK, np.uint8)
    ends, awkward = np.empty(last - first + 1, np.int64), np.zeros(last - first, np.bool_)
    _simplify(offsets, data, first, last, _simplification(), out, ends, awkward)
    if awkward.any():
        pieces = [bytes(out[ends[k] : ends[k + 1]]) for k in range(last - first)]
        for k in np.flatnonzero(awkward):
            text = bytes(data[offsets[first + k] : offsets[first + k + 1]]).decode()
            pieces[k] = simplify_slowly(text).encode()
        ends[1:] = np.cumsum([len(p) for p in pieces])
        return ends, np.frombuffer(b"".join([*pieces, bytes(SLACK)]), np.uint8)[: ends[-1]]
    simple = out[: ends[-1]]
    simple.flags.writeable = False  # as columns are: one compilation serves both
    return ends, simple


# ---- hashes of a span ---------------------------------------------------------------------------------------------


def _eight_bytes(context: Any, array: Any, at: Any) -> Any:
    """Eight bytes of a uint8 array from ``at`` on, as they lie in memory; bounds are the caller's care."""

    def build(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base = make_array(signature.args[0])(_context, builder, arguments[0]).data  # type: ignore[no-untyped-call]
        place = builder.gep(base, [arguments[1]])
        value = builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()))
        value.align = 1
        return value

    return types.uint64(array, types.int64), build


def _write_eight_bytes(context: Any, array: Any, at: Any, value: Any) -> Any:
    """Write eight bytes to a uint8 array from ``at`` on; bounds are the caller's care."""

    def build(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base = make_array(signature.args[0])(_context, builder, arguments[0]).data  # type: ignore[no-untyped-call]
        place = builder.gep(base, [arguments[1]])
        builder.store(arguments[2], builder.bitcast(place, ir.IntType(64).as_pointer())).align = 1
        return _context.get_dummy_value()

    return types.void(array, types.int64, types.uint64), build


_load64: Any = intrinsic(_eight_bytes)
_store64: Any = intrinsic(_write_eight_bytes)
SLACK = 8  # bytes that may be read past the simplified texts, and written past a word

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)


@njit(cache=True, nogil=True, inline="always")
def _left(x: np.uint64, by: int) -> np.uint64:
    return (x << np.uint64(by)) | (x >> np.uint64(64 - by))


@njit(cache=True, nogil=True, inline="always")
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    return _left(lane + word * _P2, 31) * _P1


@njit(cache=True, nogil=True)
def xxhash64(data, start, end):  # type: ignore[no-untyped-def]
    """XXH64 with seed 0 of ``data[start:end]`` (Collet, the specification of XXH64)."""
    i = np.int64(start)
    length = np.uint64(end - start)
    if end - start >= 32:
        a, b, c, d = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
        while i + 32 <= end:
            a = _round(a, _load64(data, i))
            b = _round(b, _load64(data, i + 8))
            c = _round(c, _load64(data, i + 16))
            d = _round(d, _load64(data, i + 24))
            i += 32
        h = _left(a, 1) + _left(b, 7) + _left(c, 12) + _left(d, 18)
        h = (h ^ _round(np.uint64(0), a)) * _P1 + _P4
        h = (h ^ _round(np.uint64(0), b)) * _P1 + _P4
        h = (h ^ _round(np.uint64(0), c)) * _P1 + _P4
        h = (h ^ _round(np.uint64(0), d)) * _P1 + _P4
    else:
        h = _P5
    h += length
    while i + 8 <= end:
        h = _left(h ^ _round(np.uint64(0), _load64(data, i)), 27) * _P1 + _P4
        i += 8
    if i + 4 <= end:
        word = np.uint64(0)
        for k in range(4):
            word |= np.uint64(data[i + k]) << np.uint64(8 * k)
        h = _left(h ^ (word * _P1), 23) * _P2 + _P3
        i += 4
    while i < end:
        h = _left(h ^ (np.uint64(data[i]) * _P5), 11) * _P1
        i += 1
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))


_LANES = 16  # messages that SHA-1 takes side by side


@njit(cache=True, nogil=True)
def sha1(data, starts, ends, out):  # type: ignore[no-untyped-def]
    """The first eight bytes, little endian, of SHA-1 of many spans (FIPS 180-4), written to ``out``, uint64.

    ``_LANES`` spans go side by side, so that each step is one vector instruction.
    """
    w = np.empty((80, _LANES), np.uint32)
    state = np.empty((5, _LANES), np.uint32)
    a, b, c = np.empty(_LANES, np.uint32), np.empty(_LANES, np.uint32), np.empty(_LANES, np.uint32)
    d, e = np.empty(_LANES, np.uint32), np.empty(_LANES, np.uint32)
    blocks = np.empty(_LANES, np.int64)
    for first in range(0, len(starts), _LANES):
        lanes = min(_LANES, len(starts) - first)
        most = 0
        blocks[:] = 0
        for lane in range(lanes):
            blocks[lane] = (ends[first + lane] - starts[first + lane] + 8) // 64 + 1
            most = max(most, blocks[lane])
        for lane in range(_LANES):
            state[0, lane], state[1, lane], state[2, lane] = 0x67452301, 0xEFCDAB89, 0x98BADCFE
            state[3, lane], state[4, lane] = 0x10325476, 0xC3D2E1F0
        for block in range(most):
            for lane in range(lanes):
                if block < blocks[lane]:
                    start, end = starts[first + lane], ends[first + lane]
                    _fill(data, start, end, block, block == blocks[lane] - 1, w, lane)
            for t in range(16, 80):
                row, r3, r8, r14, r16 = w[t], w[t - 3], w[t - 8], w[t - 14], w[t - 16]
                for lane in range(_LANES):
                    x = r3[lane] ^ r8[lane] ^ r14[lane] ^ r16[lane]
                    row[lane] = (x << np.uint32(1)) | (x >> np.uint32(31))
            a[:], b[:], c[:], d[:], e[:] = state[0], state[1], state[2], state[3], state[4]
            for t in range(80):
                row = w[t]
                for lane in range(_LANES):
                    x, y, z = b[lane], c[lane], d[lane]
                    if t < 20:
                        f = ((x & y) | (~x & z)) + np.uint32(0x5A827999)
                    elif t < 40:
                        f = (x ^ y ^ z) + np.uint32(0x6ED9EBA1)
                    elif t < 60:
                        f = ((x & y) | (x & z) | (y & z)) + np.uint32(0x8F1BBCDC)
                    else:
                        f = (x ^ y ^ z) + np.uint32(0xCA62C1D6)
                    turned = (a[lane] << np.uint32(5)) | (a[lane] >> np.uint32(27))
                    total = np.uint32(turned + f + e[lane] + row[lane])
                    e[lane] = z
                    d[lane] = y
                    c[lane] = (x << np.uint32(30)) | (x >> np.uint32(2))
                    b[lane] = a[lane]
                    a[lane] = total
            for lane in range(lanes):
                if block < blocks[lane]:
                    state[0, lane] += a[lane]
                    state[1, lane] += b[lane]
                    state[2, lane] += c[lane]
                    state[3, lane] += d[lane]
                    state[4, lane] += e[lane]
        for lane in range(lanes):
            value = np.uint64(0)
            for k in range(8):
                half = state[k // 4, lane]
                value |= np.uint64((half >> np.uint32(24 - 8 * (k % 4))) & np.uint32(0xFF)) << np.uint64(8 * k)
            out[first + lane] = value


@njit(cache=True, nogil=True)
def _fill(data, start, end, block, is_last, w, lane):  # type: ignore[no-untyped-def]
    """One 64-byte block of a padded message as 16 big-endian words, in a lane of ``w``."""
    at = start + 64 * block
    for t in range(16):
        word = np.uint32(0)
        for k in range(4):
            here = at + 4 * t + k
            byte = np.uint32(0)
            if here < end:
                byte = np.uint32(data[here])
            elif here == end:
                byte = np.uint32(0x80)
            word = np.uint32(word << np.uint32(8)) | byte
        w[t, lane] = word
    if is_last:
        bits = np.uint64(8 * (end - start))
        w[14, lane] = np.uint32(bits >> np.uint64(32))
        w[15, lane] = np.uint32(bits & np.uint64(0xFFFFFFFF))


# ---- shingles and minima ------------------------------------------------------------------------------------------

_P = np.uint64((1 << 61) - 1)


@cache
def functions(count: int) -> tuple[U64, U64]:
    """Factors and terms of the hash functions, uint64 (count,) each; the stream of numpy's old generator is frozen."""
    draw = np.random.RandomState(1)
    most = int(_P)
    factors = draw.randint(1, most, dtype=np.uint64, size=(1, count))[0]
    return factors, draw.randint(0, most, dtype=np.uint64, size=(1, count))[0]


@njit(cache=True, nogil=True)
def _words_of(data, start, end, table, memo, waiting, words, buffer, starts, ends):  # type: ignore[no-untyped-def]
    """Write the words of a simplified text to ``buffer`` with one space after each, and where they lie.

    Returns:
        The number of words, or UNSEEN or NO_ROOM (see ``text.split_words``); and the scratch, larger where it had
        to be: ``words``, ``buffer`` and the spans.
    """
    count = split_words(data, start, end, table, memo, waiting, words)
    while count == TOO_SMALL:
        words = new_words(2 * words.sizes.size)
        count = split_words(data, start, end, table, memo, waiting, words)
    if count < 0:
        return count, words, buffer, starts, ends
    if len(starts) < count:
        starts, ends = np.empty(2 * count, np.int64), np.empty(2 * count, np.int64)
    if len(buffer) < end - start + count + SLACK:
        buffer = np.empty(2 * (end - start + count + SLACK), np.uint8)
    sizes = words.sizes
    at: Int = 0
    i = start
    for k in range(count):
        while data[i] == 32:
            i += 1
        starts[k] = at
        size = np.int64(sizes[k])
        for j in range(0, size, 8):  # eight bytes at once; what is too many is written over
            _store64(buffer, at + j, _load64(data, i + j))
        at += size
        i += size
        ends[k] = at
        buffer[at] = 32
        at += 1
    return count, words, buffer, starts, ends


@njit(cache=True, nogil=True)
def _shingles(buffer, starts, ends, count, ngram, by_sha1, hashes):  # type: ignore[no-untyped-def]
    """Hashes of the shingles of ``count`` words, repeats included; and their number."""
    n = max(0, count - ngram + 1)
    if len(hashes) < n:
        hashes = np.empty(2 * n, np.uint64)
    if by_sha1:
        sha1(buffer, starts[:n], ends[ngram - 1 : ngram - 1 + n], hashes)
    else:
        for k in range(n):
            hashes[k] = xxhash64(buffer, starts[k], ends[k + ngram - 1])
    return hashes, n


@njit(cache=True, nogil=True)
def _lower_minima(hashes, found, a, b, least):  # type: ignore[no-untyped-def]
    """Take minima over ``hashes[:found]`` into ``least``, uint64 (functions,)."""
    for first in range(0, found, 1024):
        stretch = hashes[first : min(first + 1024, found)]
        for k in range(len(a)):
            m = least[k]
            by, plus = a[k], b[k]
            for j in range(len(stretch)):
                x = stretch[j] * by + plus
                x = (x & _P) + (x >> np.uint64(61))
                m = min(m, min(x, x - _P))  # below the modulus the difference wraps, and is the larger one
            least[k] = m


@njit(cache=True, nogil=True)
def _minima_rows(offsets, data, rows, table, memo, waiting, ngram, by_sha1, a, b, minima, counts):  # type: ignore[no-untyped-def]
    """Fill ``minima`` and ``counts`` for ``rows``; return those that have to wait for words (see ``text.WordMemo``)."""
    late = np.empty(len(rows), np.int64)
    n_late = 0
    words = new_words(1 << 12)
    buffer = np.empty(1 << 15, np.uint8)
    starts, ends = np.empty(1 << 12, np.int64), np.empty(1 << 12, np.int64)
    hashes, distinct, seen = np.empty(1 << 12, np.uint64), np.empty(1 << 12, np.uint64), np.empty(1 << 13, np.uint64)
    for r in range(len(rows)):
        row = rows[r]
        count, words, buffer, starts, ends = _words_of(
            data, offsets[row], offsets[row + 1], table, memo, waiting, words, buffer, starts, ends
        )
        if count == NO_ROOM:
            for k in range(r, len(rows)):
                late[n_late] = rows[k]
                n_late += 1
            break
        if count == UNSEEN:
            late[n_late] = row
            n_late += 1
            continue
        hashes, n = _shingles(buffer, starts, ends, count, ngram, by_sha1, hashes)
        if len(distinct) < n:
            distinct = np.empty(len(hashes), np.uint64)
        seen, found = unique(hashes, n, seen, distinct)
        counts[row] = found
        minima[row, :] = _P
        _lower_minima(distinct, found, a, b, minima[row])
    return late[:n_late]


def _batches(offsets: I64) -> Any:
    """Rows (first, last) with about BATCH bytes of text each."""
    first, n = 0, len(offsets) - 1
    while first < n:
        last = int(np.searchsorted(offsets, offsets[first] + BATCH, side="right")) - 1
        last = min(n, max(last, first + 1))
        yield first, last
        first = last


def minima(offsets: I64, data: U8, count: int, ngram: int, hash: str, words: str) -> tuple[U64, I32]:
    """Minima, uint64 (n, count), and numbers of distinct shingles, int32 (n,), of n texts.

    A text with fewer words than a shingle has none; its minima are all 2**61 - 1.
    """
    a, b = functions(count)
    n = len(offsets) - 1
    least, counts = np.empty((n, count), np.uint64), np.zeros(n, np.int32)
    for first, last in _batches(offsets):
        ends, simple = simplify(offsets, data, first, last)
        memory = word_memo(words)
        rows = np.arange(last - first)
        while len(rows):
            memo, waiting = memory.begin()
            rows = _minima_rows(
                ends, simple, rows, classes(), memo, waiting, ngram, hash == "sha1", a, b, least[first:last],
                counts[first:last],
            )  # fmt: skip
            memory.learn(simple, waiting)
    return least, counts


@njit(cache=True, nogil=True)
def _set_rows(offsets, data, rows, table, memo, waiting, ngram, by_sha1, room, sets, counts):  # type: ignore[no-untyped-def]
    """As ``_minima_rows``, for the sorted distinct hashes themselves: those of a row begin at ``sets[room[row]]``."""
    late = np.empty(len(rows), np.int64)
    n_late = 0
    words = new_words(1 << 12)
    buffer = np.empty(1 << 15, np.uint8)
    starts, ends = np.empty(1 << 12, np.int64), np.empty(1 << 12, np.int64)
    hashes = np.empty(1 << 12, np.uint64)
    for r in range(len(rows)):
        row = rows[r]
        count, words, buffer, starts, ends = _words_of(
            data, offsets[row], offsets[row + 1], table, memo, waiting, words, buffer, starts, ends
        )
        if count == NO_ROOM:
            for k in range(r, len(rows)):
                late[n_late] = rows[k]
                n_late += 1
            break
        if count == UNSEEN:
            late[n_late] = row
            n_late += 1
            continue
        hashes, n = _shingles(buffer, starts, ends, count, ngram, by_sha1, hashes)
        ordered = np.sort(hashes[:n])
        found = 0
        for j in range(n):
            if j == 0 or ordered[j] != ordered[j - 1]:
                sets[room[row] + found] = ordered[j]
                found += 1
        counts[row] = found
    return late[:n_late]


def shingle_sets(offsets: I64, data: U8, ngram: int, hash: str, words: str) -> tuple[U64, I64]:
    """The sorted distinct shingle hashes of n texts, one after the other, and their offsets, int64 (n + 1,)."""
    pieces, sizes = [np.empty(0, np.uint64)], [np.zeros(1, np.int64)]
    for first, last in _batches(offsets):
        ends, simple = simplify(offsets, data, first, last)
        room = np.append(0, np.cumsum(np.diff(ends) + 1))
        sets, counts = np.empty(room[-1], np.uint64), np.zeros(last - first, np.int64)
        memory = word_memo(words)
        rows = np.arange(last - first)
        while len(rows):
            memo, waiting = memory.begin()
            rows = _set_rows(
                ends, simple, rows, classes(), memo, waiting, ngram, hash == "sha1", room, sets, counts
            )  # fmt: skip
            memory.learn(simple, waiting)
        within = np.arange(len(sets)) - np.repeat(room[:-1], np.diff(room)) < np.repeat(counts, np.diff(room))
        pieces.append(sets[within])
        sizes.append(counts)
    return np.concatenate(pieces), np.cumsum(np.concatenate(sizes))
