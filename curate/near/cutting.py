r"""The words of a text, hashed, as a kernel that looks at 64 bytes at a time.

A word is a run of letters, digits and underscores of the lower-cased text (Python's ``\w+``).

1. Of 64 bytes, vector instructions tell at once which may belong to a word: ASCII's letters, digits and underscore, and
   every byte outside ASCII. That is one bit a byte; where the bit changes, a piece starts or ends.
2. A piece of ASCII is a word. Its hash absorbs up to eight characters at a time, lower-cased together in one register,
   so that short words have distinct hashes.
3. A piece with other bytes is read character by character, with a table (``folding``): it may hold several words
   (between which Chinese marks lie), or none.

Simplified: final sigma counts as sigma, and which characters are letters follows the Unicode tables of the running
Python. Cost: about 1 ns a byte of English, 4 ns of other scripts.
"""

from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from curate.kernels import intrinsic, njit
from curate.text import next_character
from curate.xxh3 import load64

U32: TypeAlias = npt.NDArray[np.uint32]

_K2 = np.uint64(0xC2B2AE3D27D4EB4F)  # an odd constant: a prime of xxHash
_WIDE = np.uint64(1 << 40)  # marks a character outside ASCII; no run of ASCII word bytes has this byte
_ENDS = np.uint32(1 << 31)  # in the folding table: the word ends after this character
_HIGH = 0x40000  # no letter or digit lies in the planes from here on

_BLOCK = 64
_ONE, _TWO, _EIGHT, _LAST = np.uint64(1), np.uint64(2), np.uint64(8), np.uint64(63)
_TOP_BITS = np.uint64(0x8080808080808080)  # of eight bytes
_FROM_A = np.uint64(0x0101010101010101 * (0x80 - ord("A")))  # added to bytes below 128: the top bit says "A" or more
_PAST_Z = np.uint64(0x0101010101010101 * (0x7F - ord("Z")))  # and this one, more than "Z"


@cache
def folding() -> U32:
    """For each code point, uint32 (0x40000,), its lower-case form, or 0 where it is no part of a word."""
    points = np.arange(_HIGH, dtype="<u4")
    text = points.tobytes().decode("utf-32-le", "surrogatepass")
    inside = np.fromiter(map(str.isalnum, text), dtype=bool, count=_HIGH)
    table = np.where(inside, points, np.uint32(0))
    for start in range(0, _HIGH, 256):  # most hold nothing that has cases
        some = text[start : start + 256]
        if some.lower() != some:
            table[start : start + 256] = [ord(c.lower()[0]) if c.isalnum() else 0 for c in some]
    table[ord("_")] = ord("_")
    table[0x130] |= _ENDS  # dotted capital I is lower-cased as i and a combining dot, which is no letter
    table[ord("ς")] = ord("σ")  # str.lower chooses between them by context
    return table


@intrinsic
def _may_be_words(_context: Any, data: Any, at: Any) -> Any:
    """One bit for each of the 64 bytes from ``at`` on, the lowest for the first: whether it may belong to a word."""
    from llvmlite import ir
    from numba import types

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        wide = ir.VectorType(ir.IntType(8), _BLOCK)

        def every(byte: int) -> Any:
            return ir.Constant(wide, [byte] * _BLOCK)

        def between(values: Any, first: str, last: str) -> Any:
            return builder.icmp_unsigned("<=", builder.sub(values, every(ord(first))), every(ord(last) - ord(first)))

        found = builder.load(builder.bitcast(builder.gep(array.data, [index]), wide.as_pointer()))
        found.align = 1
        letter = between(builder.or_(found, every(0x20)), "a", "z")
        other = builder.or_(between(found, "0", "9"), between(found, "_", "_"))
        outside = builder.icmp_signed("<", found, every(0))
        return builder.bitcast(builder.or_(builder.or_(letter, other), outside), ir.IntType(_BLOCK))

    return types.uint64(data, at), build


@intrinsic
def _lowest_bit(_context: Any, bits: Any) -> Any:
    """The number of the lowest bit that is set; the caller answers for there being one."""
    from llvmlite import ir
    from numba import types

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), build


@intrinsic
def _swapped(_context: Any, bits: Any) -> Any:
    """Eight bytes in the opposite order."""
    from numba import types

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bswap(arguments[0])

    return types.uint64(types.uint64), build


may_be_words: Any = _may_be_words  # the type of an intrinsic still counts its context as an argument
lowest_bit: Any = _lowest_bit
swapped: Any = _swapped


@njit(cache=True, nogil=True, inline="always")
def absorb(h: np.uint64, x: np.uint64) -> np.uint64:
    """The next eight bytes into a hash."""
    h = (h ^ x) * _K2
    return h ^ (h >> np.uint64(32))


@njit(cache=True, nogil=True, inline="always")
def _lower(x: np.uint64) -> np.uint64:
    """Eight characters of ASCII in lower case."""
    return x | (((x + _FROM_A) & ~(x + _PAST_Z) & _TOP_BITS) >> _TWO)


@njit(cache=True, nogil=True)
def hash_words(data, start, end, fold, last, out):  # type: ignore[no-untyped-def]
    """Write the hash of each word of a text to ``out``.

    Args:
        data: bytes, uint8.
        start: first byte of the text.
        end: byte after its last.
        fold: ``folding()``.
        last: scratch, uint8 (64,).
        out: uint64 (>= (end - start + 1) // 2,): a word and what ends it are two bytes or more.

    Returns:
        How many words there are.
    """
    count = 0
    changes = np.uint64(0)  # of the block at ``at``: where pieces start and end
    open_ = np.uint64(0)  # whether the block before ended within a piece
    first = -1  # byte of the piece that is open
    at = start - _BLOCK
    while True:
        if changes == 0:
            at += _BLOCK
            if at > end:
                return count
            if at + _BLOCK <= end:
                inside = may_be_words(data, at)
            else:
                for k in range(end - at):
                    last[k] = data[at + k]
                inside = may_be_words(last, 0) & ((_ONE << np.uint64(end - at)) - _ONE)
            changes = inside ^ ((inside << _ONE) | open_)
            open_ = inside >> _LAST
            continue
        stop = at + lowest_bit(changes)
        changes &= changes - _ONE
        if first < 0:
            first = stop
            continue
        i = first
        first = -1
        if stop < 8:  # there are no eight bytes to look at
            count = _one_by_one(data, i, stop, fold, out, count)
            continue
        begin = i
        h = np.uint64(0)
        seen = np.uint64(0)
        while stop - i >= 8:
            x = swapped(load64(data, i))
            seen |= x
            h = absorb(h, _lower(x))
            i += 8
        x = swapped(load64(data, stop - 8)) & ((_ONE << np.uint64(8 * (stop - i))) - _ONE)
        if (seen | x) & _TOP_BITS:
            count = _one_by_one(data, begin, stop, fold, out, count)
            continue
        out[count] = absorb(h, _lower(x))
        count += 1


@njit(cache=True, nogil=True)
def _one_by_one(data, i, end, fold, out, count):  # type: ignore[no-untyped-def]
    """The words of ``data[i:end]``, character by character, to ``out[count:]``; the count with them."""
    while i < end:
        h = np.uint64(0)
        held = np.uint64(0)  # ASCII characters not yet absorbed, one a byte
        holds = 0
        inside = False
        while i < end:
            c = data[i]
            if c < 128:
                i += 1
                char = fold[c]
                if char == 0:
                    if inside:
                        break
                    continue
                inside = True
                held = (held << _EIGHT) | np.uint64(char)
                holds += 1
                if holds == 8:
                    h = absorb(h, held)
                    held = np.uint64(0)
                    holds = 0
                continue
            point, i = next_character(data, i, end)
            char = fold[point] if point < _HIGH else np.uint32(0)
            if char == 0:
                if inside:
                    break
                continue
            inside = True
            if holds:
                h = absorb(h, held)
                held = np.uint64(0)
                holds = 0
            h = absorb(h, np.uint64(char & ~_ENDS) | _WIDE)
            if char & _ENDS:
                break
        if inside:
            out[count] = absorb(h, held)
            count += 1
    return count
