"""XXH3-128 (Collet, specification of xxHash 0.2.0, section XXH3) as a kernel: the hash of every string of a column.

The package ``xxhash`` hashes one Python object at a time and holds the interpreter's lock; here a column's buffers are
hashed in one call without it. Where numba is not loaded, the package is asked for the first million values all the
same: 0.4 us each is less than the wait for a kernel (``kernels``).

The values are those of ``xxhash.xxh3_128`` with seed 0. Its first half, as the bytes of the digest go, is the high one.

Five ways by length (0, up to 16, 128, 240, longer), all from the specification: short inputs are folded by 64 x 64 bit
products with the secret, long ones go through eight accumulators in stripes of 64 bytes that are scrambled every 1,024.

Cost: about 10 ns a short string, several GB/s for long ones. Not cryptographic: whoever wants to can make two texts
with one hash. For rolling hashes see ``text.hash_bytes``.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from curate.characters import Bytes, Hashes, Int, Offsets, string_buffers
from curate.kernels import intrinsic, njit, worth_loading

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_KEYS = np.array([int.from_bytes(_SECRET[i : i + 8], "little") for i in range(185)], dtype=np.uint64)  # at every byte

_P32_1, _P32_2, _P32_3 = np.uint64(0x9E3779B1), np.uint64(0x85EBCA77), np.uint64(0xC2B2AE3D)
_P1, _P2, _P3 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9)
_P4, _P5 = np.uint64(0x85EBCA77C2B2AE63), np.uint64(0x27D4EB2F165667C5)
_MX1, _MX2 = np.uint64(0x165667919E3779F9), np.uint64(0x9FB21C651E98DF25)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


@intrinsic
def _load64(_context: Any, data: Any, at: Any) -> Any:
    """The eight bytes of an array of bytes from ``at`` on, little-endian; the caller answers for the bounds."""
    from llvmlite import ir
    from numba import types

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        pointer = builder.gep(array.data, [index])
        value = builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()))
        value.align = 1
        return value

    return types.uint64(data, at), build


load64: Any = _load64


@intrinsic
def _product64(_context: Any, a: Any, b: Any) -> Any:
    """The low and the high 64 bits of a product of two uint64."""
    from llvmlite import ir
    from numba import types

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        low = builder.trunc(product, ir.IntType(64))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))
        return context.make_tuple(builder, signature.return_type, (low, high))

    return types.Tuple((types.uint64, types.uint64))(types.uint64, types.uint64), build  # type: ignore[no-untyped-call]


_product: Any = _product64


@njit(cache=True, nogil=True, inline="always")
def _fold(a, b):  # type: ignore[no-untyped-def]
    low, high = _product(a, b)
    return low ^ high


@njit(cache=True, nogil=True, inline="always")
def _avalanche(h):  # type: ignore[no-untyped-def]
    h = (h ^ (h >> np.uint64(37))) * _MX1
    return h ^ (h >> _32)


@njit(cache=True, nogil=True)
def _avalanche64(h):  # type: ignore[no-untyped-def]
    """The finaliser of XXH64."""
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> _32)


@njit(cache=True, nogil=True)
def _swap32(x):  # type: ignore[no-untyped-def]
    x = ((x & np.uint64(0x00FF00FF)) << np.uint64(8)) | ((x >> np.uint64(8)) & np.uint64(0x00FF00FF))
    return ((x << np.uint64(16)) | (x >> np.uint64(16))) & _LOW


@njit(cache=True, nogil=True)
def _swap64(x):  # type: ignore[no-untyped-def]
    return (_swap32(x & _LOW) << _32) | _swap32(x >> _32)


@njit(cache=True, nogil=True)
def _tiny(data, start, size):  # type: ignore[no-untyped-def]
    """Up to 16 bytes: (high, low)."""
    if size == 0:
        return _avalanche64(_KEYS[80] ^ _KEYS[88]), _avalanche64(_KEYS[64] ^ _KEYS[72])
    n = np.uint64(size)
    if size < 4:
        first, middle, last = data[start], data[start + (size >> 1)], data[start + size - 1]
        low = (np.uint64(first) << np.uint64(16)) | (np.uint64(middle) << np.uint64(24))
        low |= np.uint64(last) | (n << np.uint64(8))
        high = _swap32(low)
        high = ((high << np.uint64(13)) | (high >> np.uint64(19))) & _LOW
        low ^= (_KEYS[0] ^ _KEYS[4]) & _LOW
        high ^= (_KEYS[8] ^ _KEYS[12]) & _LOW
        return _avalanche64(high), _avalanche64(low)
    if size <= 8:
        x = np.uint64(0)
        y = np.uint64(0)
        for k in range(4):
            x |= np.uint64(data[start + k]) << np.uint64(8 * k)
            y |= np.uint64(data[start + size - 4 + k]) << np.uint64(8 * k)
        low, high = _product((x | (y << _32)) ^ (_KEYS[16] ^ _KEYS[24]), _P1 + (n << np.uint64(2)))
        high += low << np.uint64(1)
        low ^= high >> np.uint64(3)
        low = (low ^ (low >> np.uint64(35))) * _MX2
        return _avalanche(high), low ^ (low >> np.uint64(28))
    x, y = load64(data, start), load64(data, start + size - 8)
    low, high = _product(x ^ y ^ (_KEYS[32] ^ _KEYS[40]), _P1)
    low += (n - np.uint64(1)) << np.uint64(54)
    y ^= _KEYS[48] ^ _KEYS[56]
    high += y + (y & _LOW) * (_P32_2 - np.uint64(1))
    low ^= _swap64(high)
    low2, high2 = _product(low, _P2)
    return _avalanche(high2 + high * _P2), _avalanche(low2)


@njit(cache=True, nogil=True, inline="always")
def _mix(data, low, high, at, other, key):  # type: ignore[no-untyped-def]
    """Two pieces of 16 bytes into the accumulators."""
    a, b, c, d = load64(data, at), load64(data, at + 8), load64(data, other), load64(data, other + 8)
    low = (low + _fold(a ^ _KEYS[key], b ^ _KEYS[key + 8])) ^ (c + d)
    high = (high + _fold(c ^ _KEYS[key + 16], d ^ _KEYS[key + 24])) ^ (a + b)
    return low, high


@njit(cache=True, nogil=True)
def _middling(data, start, size):  # type: ignore[no-untyped-def]
    """17 to 240 bytes: (high, low)."""
    n = np.uint64(size)
    end = start + size
    low, high = n * _P1, np.uint64(0)
    if size <= 128:
        for k in range((size - 1) // 32, -1, -1):
            low, high = _mix(data, low, high, start + 16 * k, end - 16 * (k + 1), 32 * k)
    else:
        for k in range(4):
            low, high = _mix(data, low, high, start + 32 * k, start + 32 * k + 16, 32 * k)
        low, high = _avalanche(low), _avalanche(high)
        for k in range(4, size // 32):
            low, high = _mix(data, low, high, start + 32 * k, start + 32 * k + 16, 3 + 32 * (k - 4))
        low, high = _mix(data, low, high, end - 16, end - 32, 103)
    return np.uint64(0) - _avalanche(low * _P1 + high * _P4 + n * _P2), _avalanche(low + high)


@njit(cache=True, nogil=True)
def _stripes(data, at, count, key, acc):  # type: ignore[no-untyped-def]
    """``count`` stripes of 64 bytes into the eight accumulators; each takes the next eight bytes of the secret."""
    a0, a1, a2, a3, a4, a5, a6, a7 = acc[0], acc[1], acc[2], acc[3], acc[4], acc[5], acc[6], acc[7]
    for s in range(count):
        i = at + 64 * s
        j = key + 8 * s
        d0, d1, d2, d3 = load64(data, i), load64(data, i + 8), load64(data, i + 16), load64(data, i + 24)
        d4, d5, d6, d7 = load64(data, i + 32), load64(data, i + 40), load64(data, i + 48), load64(data, i + 56)
        k0, k1, k2, k3 = d0 ^ _KEYS[j], d1 ^ _KEYS[j + 8], d2 ^ _KEYS[j + 16], d3 ^ _KEYS[j + 24]
        k4, k5, k6, k7 = d4 ^ _KEYS[j + 32], d5 ^ _KEYS[j + 40], d6 ^ _KEYS[j + 48], d7 ^ _KEYS[j + 56]
        a0 += d1 + (k0 & _LOW) * (k0 >> _32)
        a1 += d0 + (k1 & _LOW) * (k1 >> _32)
        a2 += d3 + (k2 & _LOW) * (k2 >> _32)
        a3 += d2 + (k3 & _LOW) * (k3 >> _32)
        a4 += d5 + (k4 & _LOW) * (k4 >> _32)
        a5 += d4 + (k5 & _LOW) * (k5 >> _32)
        a6 += d7 + (k6 & _LOW) * (k6 >> _32)
        a7 += d6 + (k7 & _LOW) * (k7 >> _32)
    acc[0], acc[1], acc[2], acc[3], acc[4], acc[5], acc[6], acc[7] = a0, a1, a2, a3, a4, a5, a6, a7


@njit(cache=True, nogil=True)
def _long(data, start, size, acc):  # type: ignore[no-untyped-def]
    """More than 240 bytes: (high, low); ``acc`` is scratch, uint64 (8,)."""
    acc[0], acc[1], acc[2], acc[3] = _P32_3, _P1, _P2, _P3
    acc[4], acc[5], acc[6], acc[7] = _P4, _P32_2, _P5, _P32_1
    blocks = (size - 1) // 1024
    for b in range(blocks):
        _stripes(data, start + 1024 * b, 16, 0, acc)
        for k in range(8):
            x = acc[k]
            acc[k] = (x ^ (x >> np.uint64(47)) ^ _KEYS[128 + 8 * k]) * _P32_1
    _stripes(data, start + 1024 * blocks, (size - 1 - 1024 * blocks) // 64, 0, acc)
    _stripes(data, start + size - 64, 1, 121, acc)
    n = np.uint64(size)
    low, high = n * _P1, ~(n * _P2)
    for k in range(4):
        low += _fold(acc[2 * k] ^ _KEYS[11 + 16 * k], acc[2 * k + 1] ^ _KEYS[19 + 16 * k])
        high += _fold(acc[2 * k] ^ _KEYS[117 + 16 * k], acc[2 * k + 1] ^ _KEYS[125 + 16 * k])
    return _avalanche(high), _avalanche(low)


@njit(cache=True, nogil=True)
def hash128(data: Bytes, start: Int, end: Int, scratch: Hashes) -> tuple[np.uint64, np.uint64]:
    """XXH3-128 of ``data[start:end]`` as (high, low); ``scratch`` is uint64 (8,)."""
    size = end - start
    if size <= 16:
        return _tiny(data, start, size)
    if size <= 240:
        return _middling(data, start, size)
    return _long(data, start, size, scratch)


@njit(cache=True, nogil=True)
def _hash_all(offsets: Offsets, data: Bytes, high: Hashes, low: Hashes) -> None:
    scratch = np.empty(8, np.uint64)
    for i in range(len(high)):
        high[i], low[i] = hash128(data, offsets[i], offsets[i + 1], scratch)


@njit(cache=True, nogil=True)
def _hash_pairs(
    offsets: Offsets, data: Bytes, after: Offsets, more: Bytes, high: Hashes, low: Hashes
) -> None:
    """Hash each string followed by another, which are laid side by side in memory that stays in the cache."""
    scratch = np.empty(8, np.uint64)
    both = np.empty(1 << 16, np.uint8)
    for i in range(len(high)):
        first, second = offsets[i + 1] - offsets[i], after[i + 1] - after[i]
        if first + second > len(both):
            both = np.empty(2 * (first + second), np.uint8)
        both[:first] = data[offsets[i] : offsets[i + 1]]
        both[first : first + second] = more[after[i] : after[i + 1]]
        high[i], low[i] = hash128(both, 0, first + second, scratch)


def hash_strings(
    strings: pa.Array | pa.ChunkedArray, followed_by: pa.Array | pa.ChunkedArray | None = None
) -> tuple[Hashes, Hashes]:
    """XXH3-128 of each string or binary value: high and low halves, uint64 (n,). A null is hashed as an empty one.

    With ``followed_by``, of the same length, each value is hashed as if that one's bytes stood behind it.
    """
    columns = [string_buffers(each) for each in (strings, followed_by) if each is not None]
    count = len(columns[0][0]) - 1
    if not worth_loading(count):
        return _hash_one_by_one(columns, count)
    high, low = np.empty(count, np.uint64), np.empty(count, np.uint64)
    if followed_by is None:
        _hash_all(*columns[0], high, low)
    else:
        _hash_pairs(*columns[0], *columns[1], high, low)
    return high, low


def _hash_one_by_one(
    columns: Sequence[tuple[Offsets, Bytes]], count: int
) -> tuple[Hashes, Hashes]:
    """The same by the package, without a kernel."""
    if len(columns) == 1:
        (offsets, data), digest = columns[0], xxhash.xxh3_128_digest
        at, bytes_of = offsets.tolist(), memoryview(data.data)
        digests = [digest(bytes_of[start:end]) for start, end in pairwise(at)]
    else:
        digests = []
        (offsets, data), (after, more) = columns
        first, second = memoryview(data.data), memoryview(more.data)
        for (start, end), (begin, stop) in zip(pairwise(offsets.tolist()), pairwise(after.tolist()), strict=True):
            state = xxhash.xxh3_128(first[start:end])
            state.update(second[begin:stop])
            digests.append(state.digest())
    halves = np.frombuffer(b"".join(digests), dtype=">u8").reshape(count, 2).astype(np.uint64)
    return halves[:, 0], halves[:, 1]
