"""What the modules that edit text share: classes of a character, a page's whitespace, texts as an Arrow column.

The classes are filled by asking Python about every code point, so that kernels and Python's own methods and patterns
cannot disagree.
"""

import re
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.text import Bytes, Int, Offsets, next_character

Counts = npt.NDArray[np.int64]


def column(out: Bytes, ends: Offsets) -> pa.Array:
    """Texts written one after the other, of which text ``i`` ends at ``ends[i + 1]``, as an Arrow column."""
    return pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]].copy()))


SPACE = 1               # str.isspace
UPPER = 2               # str.isupper
DIGIT = 4               # str.isdigit
WORDLY = 8              # str.isalnum
NO_WORD = 16            # \W, in lower case
DECIMAL = 32            # \d, in lower case
URL_HOST = 64           # may stand before the dot of a top-level domain
LETTER = 128            # str.isalpha


@lru_cache(maxsize=1)
def kinds_of_characters() -> tuple[Bytes, Bytes, Bytes]:
    """Of every code point the classes; the ASCII letter that it is in lower case; that it equals by re.IGNORECASE."""
    characters = [chr(point) for point in range(0x110000)]
    kinds = np.zeros(len(characters), dtype=np.uint8)
    tests: tuple[tuple[int, Callable[[str], bool]], ...] = (
        (SPACE, str.isspace), (UPPER, str.isupper), (DIGIT, str.isdigit), (WORDLY, str.isalnum),
        (LETTER, str.isalpha),
    )  # fmt: skip
    for bit, test in tests:
        kinds[np.fromiter(map(test, characters), dtype=bool, count=len(characters))] |= bit
    lowered = [c.lower() for c in characters]
    kinds[[i for i, c in enumerate(lowered) if not any(part.isalnum() or part == "_" for part in c)]] |= NO_WORD
    kinds[[i for i, c in enumerate(lowered) if c.isdecimal()]] |= DECIMAL
    kinds[[i for i in range(0x80) if re.fullmatch(r"[-a-zA-Z0-9@:%._+~#=]", chr(i))]] |= URL_HOST
    lower = np.full(len(characters), 0xFF, dtype=np.uint8)
    for i, c in enumerate(lowered):
        if len(c) == 1 and c.isascii():
            lower[i] = ord(c)
    folds = lower.copy()
    for letter in "abcdefghijklmnopqrstuvwxyz":
        folds[[m.start() for m in re.finditer(letter, "".join(characters[:0x2200]), re.IGNORECASE)]] = ord(letter)
    for table in (kinds, lower, folds):
        table.flags.writeable = False
    return kinds, lower, folds


@njit(cache=True, nogil=True)
def strip_page(data: Bytes, starts: Offsets, stops: Offsets, first: Int, last: Int, kinds: Bytes) -> tuple[Int, Int]:
    """Take the whitespace around a page of lines ``first..last - 1`` away; which lines are left."""
    while first < last:
        while starts[first] < stops[first]:
            point, after = next_character(data, starts[first], stops[first])
            if not kinds[point] & SPACE:
                break
            starts[first] = after
        if starts[first] < stops[first]:
            break
        first += 1
    while last > first:
        begin = starts[last - 1]
        end = stops[last - 1]
        while end > begin:
            lead = end - 1
            while lead > begin and data[lead] & 0xC0 == 0x80:
                lead -= 1
            point, _ = next_character(data, lead, end)
            if not kinds[point] & SPACE:
                break
            end = lead
        stops[last - 1] = end
        if end > begin:
            break
        last -= 1
    return first, last
