"""Kernels that wait for numba: they are its own in all but the moment, and no run that needs none imports it."""

import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import xxhash
from numba import njit

from curate import kernels, xxh3
from curate.characters import next_character
from curate.columns import BYTES

QUIET = """
import sys
import curate.command
from curate import exact, select, sources
import pyarrow as pa
exact.content_hash.on(pa.table({"text": pa.array(["a", "b"], pa.large_string())}), exact.Content())
assert "numba" not in sys.modules, "numba was imported"
"""


def test_importing_and_hashing_a_little_leaves_numba_out():
    subprocess.run([sys.executable, "-c", QUIET], check=True)


@njit
def letters(data, size):
    count = i = 0
    while i < size:
        _, i = next_character(data, i, size)
        count += 1
    return count


def test_numbas_own_kernels_may_call_them():
    data = np.frombuffer("größe".encode(), dtype=np.uint8)
    assert letters(data, len(data)) == 5


def test_they_keep_name_and_place():
    assert pickle.loads(pickle.dumps(next_character)) is next_character
    assert next_character.__name__ == "next_character"
    assert next_character.py_func.__module__ == "curate.characters"


def test_one_by_one_or_by_a_kernel_the_hashes_are_the_same(monkeypatch):
    strings = pa.array([b"", b"a", None, b"x" * 17, b"y" * 500, b"z" * 100_000], BYTES)
    after = pa.array([b"b", b"", b"c", b"d" * 300, None, b"e" * 70_000], BYTES)
    for more in (None, after):
        behind = [None] * len(strings) if more is None else more.to_pylist()
        expected = [
            xxhash.xxh3_128_intdigest((a or b"") + (b or b"")) for a, b in zip(strings.to_pylist(), behind, strict=True)
        ]
        for answer in (True, False):
            monkeypatch.setattr(xxh3, "worth_loading", lambda _, answer=answer: answer)
            high, low = xxh3.hash_strings(strings, more)
            assert [(int(h) << 64) | int(x) for h, x in zip(high, low, strict=True)] == expected


def test_numba_is_loaded_where_it_is_paid_back(monkeypatch):
    monkeypatch.setattr(kernels, "_asked", 0)
    monkeypatch.setattr(kernels, "sys", type("Nothing", (), {"modules": {}}))
    assert not kernels.worth_loading(kernels.ENOUGH)
    assert kernels.worth_loading(1)
