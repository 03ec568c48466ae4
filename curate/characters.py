"""Characters as bytes: the one place where a character is defined, and hashes of spans.

Kernels never see a Python string. They walk the two buffers of an Arrow column (``string_buffers``), decode UTF-8 as
they go (``next_character``) and look every code point up in one table of classes (``classes``). The table is filled by
asking Python itself (``str.isspace``, ``str.isalpha``, ``str.splitlines``) about every code point there is, so a kernel
and a slow reference in Python cannot disagree; it follows the Unicode version of the interpreter.

Hashes are polynomials over the bytes modulo 2**61 - 1 (Karp and Rabin 1987), because then the hash of two spans
written one after the other follows from their two hashes. Two different spans of L bytes share a hash with a
probability of at most L / 2**61: for a million pieces in a memo and a thousand million distinct ones looked up, of
8 bytes, one may be mistaken for another with a probability of 0.3 %.

Everything here is also found in ``curate.text``, which is where others take it from. Cost: about 3 ns a byte for
decoding and hashing.
"""

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.kernels import intrinsic, njit

Offsets: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Int: TypeAlias = int | np.int64

# Classes of a code point, bits of the table's entries.
SPACE = 1                # str.isspace: what str.split, str.strip and spaCy cut at
INK = 2                  # not SPACE
LINE_END = 4             # what str.splitlines cuts at
LETTER = 8               # str.isalpha
PLAIN = 16               # in neither PUNCTUATION nor TERMINAL_MARKS: a word without one is a symbol
TERMINAL = 32            # in TERMINAL_MARKS

# Code points, in hexadecimal, that end a sentence in any script: Unicode's property Sentence_Terminal (version 15) and
# three Khmer signs. Quotes and brackets are not among them. FineWeb (Penedo et al. 2024) counts lines that end in one.
TERMINAL_MARKS = """
    21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D6
    17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E
    2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52
    FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6
    111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944
    11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F
    1DA88
"""
# Marks that datatrove takes for punctuation: ASCII's, control characters, Latin and East Asian marks.
PUNCTUATION = """
    0-8 B-1F 21-2F 3A-40 5B-60 7B-9F AB B4 BB 2013-2014 2019 201C-201E 2026 2236 2501 25BA 3001-3002 3008-300D 3010-3011
    FF01 FF05 FF08-FF09 FF0C FF0E FF11 FF1A-FF1B FF1F FF5E
"""
_CODE_POINTS = 0x110000
_UNREADABLE = 0xFFFD     # stands for bytes that are not UTF-8


def string_buffers(strings: pa.Array | pa.ChunkedArray) -> tuple[Offsets, Bytes]:
    """An Arrow string or binary column as flat arrays that a kernel can walk; a null is an empty string.

    Returns:
        ``offsets``, int64 (n + 1,), and ``data``, uint8: string ``i`` is ``data[offsets[i]:offsets[i + 1]]``. Offsets
        of a sliced array do not start at 0. Both are read-only, and views that keep the column's memory alive where
        it is one ``large_string`` chunk without nulls.
    """
    if isinstance(strings, pa.ChunkedArray):
        strings = strings.chunk(0) if strings.num_chunks == 1 else strings.combine_chunks()  # to combine one copies it
        if isinstance(strings, pa.ChunkedArray):  # several chunks that one array could not hold, or none
            strings = strings.cast(pa.large_string()).combine_chunks()
    kind = strings.type
    if not (pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)):
        binary = pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind)
        strings = strings.cast(pa.large_binary() if binary else pa.large_string())
    if strings.null_count:
        strings = strings.fill_null(b"" if pa.types.is_large_binary(strings.type) else "")
    if len(strings) == 0:
        return np.frombuffer(bytes(8), dtype=np.int64), np.frombuffer(b"", dtype=np.uint8)
    _, offsets, data = strings.buffers()
    at = np.frombuffer(offsets, dtype=np.int64, count=len(strings) + 1, offset=8 * strings.offset)
    return at, np.frombuffer(data if data is not None else b"", dtype=np.uint8)


def code_points(ranges: str) -> list[int]:
    """The code points of ranges written like ``"21 2E 1735-1736"``, in hexadecimal."""
    ends = [[int(end, 16) for end in part.split("-")] for part in ranges.split()]
    return [point for part in ends for point in range(part[0], part[-1] + 1)]


@lru_cache(maxsize=1)
def classes() -> Bytes:
    """The classes of every code point, uint8 (0x110000,): one bit a class."""
    characters = [chr(point) for point in range(_CODE_POINTS)]
    table = np.full(_CODE_POINTS, INK | PLAIN, dtype=np.uint8)
    table[np.fromiter(map(str.isalpha, characters), dtype=bool, count=_CODE_POINTS)] |= LETTER
    spaces = [point for point, character in enumerate(characters) if character.isspace()]
    table[spaces] = SPACE | PLAIN
    table[[point for point in spaces if len(f"a{chr(point)}b".splitlines()) == 2]] |= LINE_END
    table[code_points(PUNCTUATION) + code_points(TERMINAL_MARKS)] &= np.uint8(0xFF ^ PLAIN)
    table[code_points(TERMINAL_MARKS)] |= TERMINAL
    table.flags.writeable = False
    return table


# --- Hashes ---------------------------------------------------------------------------------------------------------

PRIME = np.uint64((1 << 61) - 1)
BASE = np.uint64(0x1D3C5A7F19E4B2C7)        # any number below PRIME does
SPREAD = np.uint64(0x9E3779B97F4A7C15)     # 2**64 / golden ratio (Knuth, volume 3, section 6.4)
_LOW_BITS = np.uint64(61)
_HIGH_BITS = np.uint64(3)
_ONE = np.uint64(1)


@intrinsic
def _high_half(context: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of the 128-bit product of two uint64."""
    from llvmlite import ir
    from numba import types

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), build


@njit(cache=True, nogil=True)
def times(a: np.uint64, b: np.uint64) -> np.uint64:
    """``a * b`` modulo 2**61 - 1, for factors below it."""
    low = a * b
    high: np.uint64 = _high_half(a, b)
    total = (low & PRIME) + ((low >> _LOW_BITS) | (high << _HIGH_BITS))
    return total - PRIME if total >= PRIME else total


@njit(cache=True, nogil=True)
def plus(a: np.uint64, b: np.uint64) -> np.uint64:
    """``a + b`` modulo 2**61 - 1, for terms below it."""
    total = a + b
    return total - PRIME if total >= PRIME else total


def _powers(most: int) -> Hashes:
    values = [1]
    for _ in range(most - 1):
        values.append(values[-1] * int(BASE) % int(PRIME))
    return np.array(values, dtype=np.uint64)


_POWERS = _powers(1 << 9)


@njit(cache=True, nogil=True)
def power(exponent: int) -> np.uint64:
    """``BASE ** exponent`` modulo 2**61 - 1: what moves a hash over that many bytes."""
    if exponent < _POWERS.size:
        return _POWERS[exponent]
    value = _ONE
    square = _POWERS[-1]
    rest = exponent // (_POWERS.size - 1)
    while rest > 0:
        if rest & 1:
            value = times(value, square)
        square = times(square, square)
        rest >>= 1
    return times(value, _POWERS[exponent % (_POWERS.size - 1)])


# By the bytes after it, and by byte: the term of a byte in a hash.
_TERMS = np.array([[(b + 1) * int(_POWERS[k]) % int(PRIME) for b in range(256)] for k in range(8)], dtype=np.uint64)
_BLOCK = _POWERS[8]


@njit(cache=True, nogil=True)
def reduced(value: np.uint64) -> np.uint64:
    """A uint64 modulo 2**61 - 1."""
    total = (value & PRIME) + (value >> _LOW_BITS)
    return total - PRIME if total >= PRIME else total


@njit(cache=True, nogil=True)
def hash_bytes(data: Bytes, start: Int, end: Int) -> np.uint64:
    """The hash of ``data[start:end]``: sum of (byte + 1) * BASE**(bytes after it), modulo 2**61 - 1.

    So hash(xy) = hash(x) * power(len(y)) + hash(y).
    """
    value = np.uint64(0)
    i = start
    left = (end - start) & 7
    while left > 0:          # seven terms below 2**61 are below 2**64
        left -= 1
        value += _TERMS[left, data[i]]
        i += 1
    value = reduced(value)
    while i < end:           # eight bytes a multiplication: the multiplications wait for each other
        terms = _TERMS[7, data[i]] + _TERMS[6, data[i + 1]] + _TERMS[5, data[i + 2]] + _TERMS[4, data[i + 3]]
        terms += _TERMS[3, data[i + 4]] + _TERMS[2, data[i + 5]] + _TERMS[1, data[i + 6]]
        terms = (terms & PRIME) + (terms >> _LOW_BITS) + np.uint64(data[i + 7]) + _ONE
        value = reduced(times(value, _BLOCK) + terms)
        i += 8
    return value


# --- Eight bytes at once --------------------------------------------------------------------------------------------
# These take numbers where they can: an array that is handed to a function may cost two atomic counts of its references.

_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_FIRST_INK = _ONES * np.uint64(0x21)
_CASE = _ONES * np.uint64(0x20)
_FROM_A = _ONES * np.uint64(0x80 - ord("a"))
_PAST_Z = _ONES * np.uint64(0x7F - ord("z"))
_GATHER = np.uint64(0x0102040810204080)
_BITS = np.uint64(8)
AT_ONCE = 16             # bytes of a piece that need no loop
# As _TERMS, without a term for the byte 0.
_INK_TERMS = _TERMS.copy()
_INK_TERMS[:, 0] = 0


@intrinsic
def load64(context: Any, data: Any, at: Any) -> Any:
    """Eight bytes of a uint8 array from ``at`` on, the first one lowest; bounds are the caller's care."""
    from llvmlite import ir
    from numba import types
    from numba.np.arrayobj import make_array

    def build(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base = make_array(signature.args[0])(_context, builder, arguments[0]).data  # type: ignore[no-untyped-call]
        value = builder.load(builder.bitcast(builder.gep(base, [arguments[1]]), ir.IntType(64).as_pointer()))
        value.align = 1
        return value

    return types.uint64(data, types.int64), build


@intrinsic
def trailing_zeros(context: Any, value: Any) -> Any:
    """Zero bits of a uint64 below its lowest one; 64 for 0."""
    from llvmlite import ir
    from numba import types

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), build


@njit(cache=True, nogil=True)
def stops(eight: np.uint64) -> np.uint64:
    """A high bit for each byte that is no visible ASCII character; those above the lowest one may be wrong."""
    return ((eight - _FIRST_INK) | eight) & _HIGHS


@njit(cache=True, nogil=True)
def has_byte(eight: np.uint64, repeated: np.uint64) -> np.uint64:
    """A high bit for each byte that is the one that ``repeated`` holds eight times; see ``stops``."""
    x = eight ^ repeated
    return (x - _ONES) & ~x & _HIGHS


@njit(cache=True, nogil=True)
def letters_of(eight: np.uint64) -> np.uint64:
    """A bit for each byte that is an ASCII letter, the first byte's lowest, up to the first byte beyond ASCII."""
    lower = eight | _CASE
    found = (lower + _FROM_A) & ~(lower + _PAST_Z) & _HIGHS
    return ((found >> np.uint64(7)) * _GATHER) >> np.uint64(56)


@njit(cache=True, nogil=True)
def visible(eight: np.uint64, more: np.uint64) -> Int:
    """How many of 16 bytes are visible ASCII characters, up to the first that is not."""
    found = stops(eight)
    if found != 0:
        return np.int64(trailing_zeros(found) >> np.uint64(3))
    return 8 + np.int64(trailing_zeros(stops(more)) >> np.uint64(3))


@njit(cache=True, nogil=True)
def letters_among(eight: np.uint64, more: np.uint64, size: Int) -> np.uint64:
    """A bit for each of the first ``size`` bytes, all of them ASCII, that is a letter; the first byte's is lowest."""
    return (letters_of(eight) | (letters_of(more) << _BITS)) & ((_ONE << np.uint64(size)) - _ONE)


@njit(cache=True, nogil=True)
def byte_of(eight: np.uint64, more: np.uint64, k: Int) -> np.uint64:
    """Byte ``k`` of 16."""
    x = eight if k < 8 else more
    return (x >> np.uint64(8 * (k & 7))) & np.uint64(0xFF)


@njit(cache=True, nogil=True)
def _hash_eight(eight: np.uint64, size: Int) -> np.uint64:
    x = eight << np.uint64(64 - 8 * size)
    low = np.uint64(0xFF)
    total = _INK_TERMS[7, x & low] + _INK_TERMS[6, (x >> np.uint64(8)) & low]
    total += _INK_TERMS[5, (x >> np.uint64(16)) & low] + _INK_TERMS[4, (x >> np.uint64(24)) & low]
    total += _INK_TERMS[3, (x >> np.uint64(32)) & low] + _INK_TERMS[2, (x >> np.uint64(40)) & low]
    return reduced(total + _INK_TERMS[1, (x >> np.uint64(48)) & low] + _INK_TERMS[0, x >> np.uint64(56)])


@njit(cache=True, nogil=True)
def hash_sixteen(eight: np.uint64, more: np.uint64, size: Int) -> np.uint64:
    """``hash_bytes`` of the first 1 to 16 bytes, none of which is 0."""
    if size <= 8:
        return _hash_eight(eight, size)
    return plus(times(_hash_eight(eight, 8), _POWERS[size - 8]), _hash_eight(more, size - 8))


@njit(cache=True, nogil=True)
def first_equal(keys: Hashes, first: npt.NDArray[np.int32]) -> None:
    """Write to ``first[i]`` the smallest ``j`` with ``keys[j] == keys[i]``: who repeats whom."""
    bits = 2
    while (1 << bits) < 2 * keys.size:
        bits += 1
    table = np.full(1 << bits, -1, dtype=np.int32)
    shift = np.uint64(64 - bits)
    for i in range(keys.size):
        at = np.int64((keys[i] * SPREAD) >> shift)
        while True:
            j = table[at]
            if j < 0:
                table[at] = i
                first[i] = i
                break
            if keys[j] == keys[i]:
                first[i] = j
                break
            at = (at + 1) & (table.size - 1)


# --- Characters and spans -------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def next_character(data: Bytes, i: Int, end: Int) -> tuple[Int, Int]:
    """The code point that starts at byte ``i < end`` and the byte after it; never looks at or past ``end``."""
    lead = np.int64(data[i])
    if lead < 0x80:
        return lead, i + 1
    if lead < 0xE0:
        size = 2
        point = lead & 0x1F
    elif lead < 0xF0:
        size = 3
        point = lead & 0x0F
    else:
        size = 4
        point = lead & 0x07
    if i + size > end:
        return _UNREADABLE, end
    for j in range(i + 1, i + size):
        point = (point << 6) | (np.int64(data[j]) & 0x3F)
    return (point if point < _CODE_POINTS else _UNREADABLE), i + size


@njit(cache=True, nogil=True)
def read_span(data: Bytes, start: Int, end: Int, table: Bytes) -> tuple[np.uint64, int, Int, Int]:
    """Of ``data[start:end]``: the hash, the code points, all classes that occur, those of the last character."""
    length = 0
    seen: Int = 0
    last: Int = 0
    i = start
    while i < end:
        point, i = next_character(data, i, end)
        last = np.int64(table[point])
        seen |= last
        length += 1
    return hash_bytes(data, start, end), length, seen, last
