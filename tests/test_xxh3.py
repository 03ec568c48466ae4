"""XXH3-128 in a kernel: the values of the package xxhash, at every length where the method changes."""

import random

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.xxh3 import hash_strings

BORDERS = sorted({0, *range(1, 70), 95, 96, 97, 127, 128, 129, 159, 160, 161, 191, 192, 193, 239, 240, 241, 255, 256,
                  257, 319, 320, 321, 1023, 1024, 1025, 1087, 1088, 1089, 2047, 2048, 2049, 5000, 70001})  # fmt: skip


def expected(values):
    whole = [xxhash.xxh3_128_intdigest(v or b"") for v in values]
    return [w >> 64 for w in whole], [w & (2**64 - 1) for w in whole]


def test_every_way_by_length():
    values = [random.Random(n).randbytes(n) for n in BORDERS]
    high, low = hash_strings(pa.array(values, pa.large_binary()))
    assert (high.tolist(), low.tolist()) == expected(values)


def test_the_specification_s_hash_of_nothing():
    """XXH3-128 of no bytes, seed 0, from the test vectors of xxHash's specification."""
    high, low = hash_strings(pa.array([""], pa.large_string()))
    assert (int(high[0]), int(low[0])) == (0x99AA06D3014798D8, 0x6001C324468D497F)


@settings(deadline=None)  # the kernel compiles once
@given(st.lists(st.one_of(st.none(), st.binary(max_size=300)), max_size=8), st.integers(0, 8))
def test_the_package_agrees(values, cut):
    array = pa.array(values, pa.large_binary())
    assert tuple(half.tolist() for half in hash_strings(array)) == expected(values)
    assert tuple(half.tolist() for half in hash_strings(array.slice(cut))) == expected(values[cut:])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.binary(3)], ids=str)
def test_any_kind_of_string(kind):
    high, _ = hash_strings(pa.chunked_array([pa.array([b"abc"], pa.binary()).cast(kind), pa.array([], kind)]))
    assert high.dtype == np.uint64
    assert high.tolist() == expected([b"abc"])[0]
