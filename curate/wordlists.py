"""Words on a list: how many of somebody's unwanted words, or of any others, stand in a text.

No list ships here. The lists are files in a folder that the pipeline names, one for each language and called by its
code (``en``, ``de.txt``, ``pt-BR.gz``), one word or phrase a line, as in LDNOOBW, the list that C4 used (Raffel et al.
2020, 2.2). Other files are left alone, and so are lines that start with ``#``.

    lists = given("lists")
    docs = docs.then(language.identify).then(wordlists.measure, wordlists.WordLists(by="language"), lists=lists)
    docs = docs.keep(wordlists.at_most(per_1000=2.0))

``measure`` (EACH) writes

``listed``             how many words and phrases of the list stand in the text; of two that overlap, the first, and
                       of two that start together, the longest
``listed_distinct``    how many different ones
``listed_per_1000``    ``listed`` for 1,000 words of the text, 0 in a text without words
``listed_share``       of the text's words, how many belong to one

1. A text is read as words: runs of letters, digits, marks and ``_`` in any script. In scripts that put no spaces
   between words (Han, kana, Thai, Lao, Burmese, Khmer) every character with its marks is a word of its own, so that an
   item in them is found inside longer runs, as it must be, while ``ass`` is not found in ``class``.
2. Case does not count: code points are compared after Unicode's full case folding (``str.casefold``), ``ß`` as ``ss``.
   An item is found composed and decomposed (normal forms C and D).
3. Words are compared by 61-bit hashes of their folded code points (text.py): with 10,000 items, one word in 2e14 is
   taken for another.

A list of words knows no context: it counts a clinic's page and a novel like any other. That is why it writes numbers
and no verdict. Cost: 180 MB of text a CPU second. Elsewhere: words in addresses (urls.py).
"""

import gzip
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from numba import njit

from curate.columns import FLOAT64, INT64, TEXT
from curate.errors import BadInput, UnknownSetting
from curate.stage import ColumnType, Grain, Rule, stage
from curate.text import (
    BASE,
    PRIME,
    Bytes,
    Hashes,
    Int,
    Offsets,
    code_points,
    next_character,
    plus,
    string_buffers,
    times,
)

# mypy: disable-error-code="assignment, return-value, arg-type, call-arg"
# integers in kernels are numba's

# Blocks of scripts without spaces between words, in hexadecimal.
UNSPACED = """
    E00-EFF 1000-109F 1780-17FF 3005-3007 3040-30FF 31F0-31FF 3400-4DBF 4E00-9FFF F900-FAFF FF66-FF9F 20000-3FFFF
"""
WORD = 1 << 29           # part of a word
ALONE = 1 << 30          # begins a word, and ends the one before
MARK = 1 << 28           # part of a word, and of no other than the one before it
LONG = 1 << 27           # folds to several code points: the rest is a row of ``_Folding.more``
POINT = (1 << 27) - 1
FILE = re.compile(r"([a-z]{2,3}(?:-[A-Za-z0-9-]+)?)(?:\.txt)?(?:\.gz)?")


@dataclass(frozen=True, kw_only=True)
class WordLists:
    """Which lists count for a text.

    Args:
        languages: codes of the lists to use; none: all that are in the folder.
        by: a text column that holds each text's language; only that language's list counts then, and a text in a
            language without a list has nothing listed.
        name: begins the names of the columns; two sets of lists on one frame need two.
    """

    languages: tuple[str, ...] = ()
    by: str | None = None
    name: str = "listed"


def _reads(config: WordLists) -> Mapping[str, pa.DataType]:
    return {"text": TEXT} | ({} if config.by is None else {config.by: TEXT})


def _writes(config: WordLists) -> Mapping[str, ColumnType]:
    return {
        config.name: INT64, f"{config.name}_distinct": INT64,
        f"{config.name}_per_1000": FLOAT64, f"{config.name}_share": FLOAT64,
    }  # fmt: skip


# --- Characters and items ---------------------------------------------------------------------------------------------


class _Folding(NamedTuple):
    points: npt.NDArray[np.uint32]       # by code point: what it folds to, with the bits above; 0: in no word
    more: npt.NDArray[np.uint32]         # (m, 3): the code points of those that fold to several, 0 where fewer


@lru_cache(maxsize=1)
def _folding() -> _Folding:
    points = np.zeros(0x110000, dtype=np.uint32)
    more: list[list[int]] = []
    for point in range(0x110000):
        character = chr(point)
        mark = unicodedata.category(character) in ("Mn", "Mc", "Me")
        if not (mark or character.isalnum() or character == "_"):
            continue
        folded = [ord(c) for c in character.casefold()]
        value = folded[0] if len(folded) == 1 else LONG | len(more)
        if len(folded) > 1:
            more.append([*folded, 0, 0][:3])
        points[point] = value | (MARK if mark else WORD)
    alone = np.array(code_points(UNSPACED))
    points[alone[points[alone] & WORD > 0]] |= ALONE
    return _Folding(points, np.array(more, dtype=np.uint32).reshape(-1, 3))


class _Items(NamedTuple):
    """Words and phrases by hash: open addressing, at most half full."""

    slots: Hashes                        # hash of the whole item, 0 where free
    numbers: npt.NDArray[np.int32]       # which item
    firsts: Hashes                       # hashes of the first words of all items, in the same way
    longest: int                         # words in an item
    count: int


def _items(terms: list[str]) -> _Items:
    found: dict[int, int] = {}
    firsts, longest = set(), 1
    for number, term in enumerate(terms):
        for form in {unicodedata.normalize(form, term) for form in ("NFC", "NFD")}:
            raw = np.frombuffer(form.encode(), dtype=np.uint8)
            words = np.empty(len(raw) + 1, dtype=np.uint64)
            n = _read_words(raw, 0, len(raw), *_folding(), words)
            if n:
                whole = 0
                for word in words[:n]:
                    whole = (whole * int(STRIDE) + int(word)) % int(PRIME)
                found.setdefault(whole, number)
                firsts.add(int(words[0]))
                longest = max(longest, n)
    size = 1 << max(4, (2 * max(len(found), len(firsts))).bit_length())
    slots, numbers, first = np.zeros(size, np.uint64), np.zeros(size, np.int32), np.zeros(size, np.uint64)
    for value, number in found.items():
        at = _slot(slots, np.uint64(value))
        slots[at], numbers[at] = value, number
    for value in firsts:
        first[_slot(first, np.uint64(value))] = value
    return _Items(slots, numbers, first, longest, len(terms))


def open_lists(config: WordLists, lists: Path) -> dict[str, _Items]:
    """The lists of a folder by language; one under the name "" where the text's language does not choose.

    Raises:
        BadInput: the folder has no list, or lacks one that is asked for.
    """
    terms: dict[str, list[str]] = {}
    for path in sorted(lists.rglob("*")):
        named = FILE.fullmatch(path.name)
        if named and path.is_file() and (not config.languages or named[1] in config.languages):
            raw = path.read_bytes()
            text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", errors="replace")
            lines = [line.strip() for line in text.splitlines()]
            terms.setdefault(named[1], []).extend(line for line in lines if line and not line.startswith("#"))
    missing = [code for code in config.languages if code not in terms]
    if missing or not terms:
        raise BadInput(
            f"{lists} holds no list{' for ' + ', '.join(missing) if missing else ''}", where="wordlists.measure",
            fix="give a folder with one file a language, named by its code: lists=given('folder')",
        )  # fmt: skip
    if config.by is None:
        terms = {"": [term for code in sorted(terms) for term in terms[code]]}
    return {code: _items(list(dict.fromkeys(some))) for code, some in terms.items()}


# --- Counting ---------------------------------------------------------------------------------------------------------


@stage(reads=_reads, writes=_writes, grain=Grain.EACH, load=open_lists, version="1")
def measure(docs: pa.Table, config: WordLists, lists: dict[str, _Items]) -> pa.Table:
    """Items found, different ones, items for 1,000 words and the share of words in one; null for a null text."""
    offsets, data = string_buffers(docs["text"])
    counts = np.zeros((docs.num_rows, 4), dtype=np.int64)
    if config.by is None:
        groups = {"": np.arange(docs.num_rows)}
    else:
        codes = np.array(docs[config.by].to_pylist(), dtype=object)
        groups = {code: np.flatnonzero(codes == code) for code in lists}
    for code, rows in groups.items():
        _count(offsets, data, rows, *_folding(), *lists[code], counts)
    found, distinct, inside, words = counts.T
    null = np.asarray(docs["text"].is_null())
    below = np.maximum(words, 1)
    values = (found, distinct, 1000 * found / below, inside / below)
    return pa.table({
        name: pa.array(v, kind, mask=null) for (name, kind), v in zip(_writes(config).items(), values, strict=True)
    })


STRIDE = np.uint64(0x0B7E151628AED2A6)   # of the polynomial over words; any number below PRIME does
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)


@njit(cache=True, nogil=True)
def _slot(slots: Hashes, value: np.uint64) -> Int:
    """Where a hash is, or the free slot where it belongs."""
    mask = slots.size - 1
    at = np.int64((value * _SPREAD) >> np.uint64(32)) & mask
    while slots[at] != value and slots[at] != 0:
        at = (at + 1) & mask
    return at


@njit(cache=True, nogil=True)
def _read_words(
    data: Bytes, start: Int, end: Int, points: npt.NDArray[np.uint32], more: npt.NDArray[np.uint32], into: Hashes
) -> Int:
    """Write the hashes of the words of ``data[start:end]`` to ``into``, with room for one a byte; return how many."""
    n = 0
    value = np.uint64(0)
    open_word = False
    i: Int = start
    while i < end:
        point, i = next_character(data, i, end)
        folded = np.int64(points[point])
        begins = folded & ALONE
        if open_word and (folded == 0 or begins):
            into[n] = value
            n += 1
            open_word = False
        if folded == 0:
            continue
        if not open_word:
            value = np.uint64(0)
            open_word = True
        if folded & LONG:
            for k in range(3):
                extra = more[folded & POINT, k]
                if extra:
                    value = plus(times(value, BASE), np.uint64(extra) + _ONE)
        else:
            value = plus(times(value, BASE), np.uint64(folded & POINT) + _ONE)
        if begins:                       # a mark may follow, and nothing else
            while i < end:
                point, after = next_character(data, i, end)
                folded = np.int64(points[point])
                if not folded & MARK:
                    break
                value = plus(times(value, BASE), np.uint64(folded & POINT) + _ONE)
                i = after
            into[n] = value
            n += 1
            open_word = False
    if open_word:
        into[n] = value
        n += 1
    return n


@njit(cache=True, nogil=True)
def _count(
    offsets: Offsets,
    data: Bytes,
    rows: Offsets,
    points: npt.NDArray[np.uint32],
    more: npt.NDArray[np.uint32],
    slots: Hashes,
    numbers: npt.NDArray[np.int32],
    firsts: Hashes,
    longest: int,
    items: int,
    counts: Offsets,
) -> None:
    """Fill (found, different, words inside, words) of ``rows``."""
    most = 0
    for row in rows:
        most = max(most, offsets[row + 1] - offsets[row])
    words = np.empty(most + 1, dtype=np.uint64)
    seen = np.full(items, -1, dtype=np.int64)
    for row in rows:
        n = _read_words(data, offsets[row], offsets[row + 1], points, more, words)
        counts[row, 3] = n
        k = 0
        while k < n:
            length = 0
            if firsts[_slot(firsts, words[k])] != 0:
                whole = np.uint64(0)
                item = 0
                for size in range(1, min(longest, n - k) + 1):
                    whole = plus(times(whole, STRIDE), words[k + size - 1])
                    at = _slot(slots, whole)
                    if slots[at] != 0:
                        length = size
                        item = numbers[at]
                if length > 0:
                    counts[row, 0] += 1
                    counts[row, 2] += length
                    if seen[item] != row:
                        seen[item] = row
                        counts[row, 1] += 1
            k += max(length, 1)


def at_most(*, per_1000: float | None = None, found: int | None = None, name: str = "listed") -> Rule:
    """Keep texts with at most so many listed words; the reason is ``listed_words``.

    Args:
        per_1000: for 1,000 words.
        found: in all.
        name: of the columns, as in the settings of the stage.
    """
    if (per_1000 is None) == (found is None):
        raise UnknownSetting("give one of per_1000 and found", where="wordlists.at_most", fix="at_most(per_1000=2.0)")
    if per_1000 is not None:
        return Rule(pl.col(f"{name}_per_1000") <= per_1000, "listed_words")
    return Rule(pl.col(name) <= found, "listed_words")
