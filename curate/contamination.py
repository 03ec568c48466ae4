"""Contamination: runs of words that a document shares with evaluation items, and whose they are.

A document that contains 13 words in a row of a test item has seen the item (Brown et al. 2020, appendix C). Words are
runs of letters and digits, without case and accents and without characters that do not show, so that layout,
punctuation, emphasis and the many ways to write one letter do not hide a copy. Scripts that write no spaces (Han,
kana, Thai, Lao, Burmese, Khmer) count one word a character.

1. ``index`` (a fitter) reads the items, a frame of ``id``, ``source`` (the task) and ``text``. Rows with the same
   source and id are one item in several texts: the question, and the question with its answer. Every run of ``n`` words
   of a text is a feature; a text of fewer words is one feature as a whole, if it has ``min_words``. What is shorter is
   not tested, for it would drown in false alarms; items left with no feature are counted. So are features that occur in
   more than ``most_items`` items: they are the wording of a task, not of an item, and are left out.
2. ``overlap`` (EACH) looks up every run of words of a document. A hit of the 64-bit hash is verified word by word, so
   none is an accident. It writes

   ``contaminated_ngrams``   positions in the document at which a feature begins
   ``contaminated_item``     the item of which most features were found (ties: the first by source, then id)
   ``contaminated_ngram``    the words of that item's first feature in the document
   ``contaminated_share``    how much of that item was found, as a share of its features

    found = fit(contamination.index, contamination.Contamination(), read(evaluation))
    docs = (docs.then(contamination.overlap, against=found)
                .keep(pl.col("contaminated_ngrams") == 0, because="contaminated"))

Limits: one changed word in every ``n`` hides a copy, a translation or a paraphrase always; a shared quotation of ``n``
words is a hit, though neither copied the other. The share tells the two apart.

Cost: 100 MB of text a second and core; every worker holds the index, about 50 bytes a feature.
Elsewhere: near copies within a corpus (minhash.py).
"""

import json
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from curate.artifact import fitter
from curate.columns import FLOAT32, INT32, INT64, TEXT, UINT64
from curate.errors import BadInput, UnknownSetting
from curate.stage import ColumnType, Grain, stage
from curate.text import next_character, string_buffers

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """How evaluation items are cut into features.

    Args:
        n: words in a run.
        min_words: a text of fewer words is not tested.
        most_items: a feature that occurs in more items is left out.
    """

    n: int = 13
    min_words: int = 5
    most_items: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.n or self.most_items < 1:
            raise UnknownSetting(
                f"n={self.n}, min_words={self.min_words}, most_items={self.most_items}", where="Contamination",
                fix="give 1 <= min_words <= n, and most_items of 1 or more",
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Where to write what was found.

    Args:
        name: begins the names of the columns; several evaluation sets on one frame need several.
    """

    name: str = "contaminated"

    def writes(self) -> dict[str, ColumnType]:
        """The four columns."""
        return {
            f"{self.name}_ngrams": INT32, f"{self.name}_item": TEXT,
            f"{self.name}_ngram": TEXT, f"{self.name}_share": FLOAT32,
        }  # fmt: skip


# --- Words ----------------------------------------------------------------------------------------------------------

# Blocks of scripts without spaces between words, in hexadecimal.
ALONE_BLOCKS = """
    E00-EFF 1000-109F 1780-17FF 3005-3007 3040-30FF 31F0-31FF 3400-4DBF 4E00-9FFF F900-FAFF FF66-FF9F 20000-3FFFF
"""
APOSTROPHE = "\u02bc"    # a letter to Unicode, and written in place of the two that are punctuation
SILENT_CATEGORIES = ("Mn", "Mc", "Me", "Cf")     # accents and vowel signs; joiners, soft hyphens, marks of direction
ALONE = 1 << 30          # a word by itself
SILENT = 1 << 29         # as if it were not there: it neither makes nor ends a word
POINT = (1 << 29) - 1
FOLD_SIZE = 0x40000      # no letter or digit has a code point from here on

_K1 = np.uint64(0x9E3779B97F4A7C15)        # odd constants: the golden ratio, and a prime of xxHash
_K2 = np.uint64(0xC2B2AE3D27D4EB4F)
_SPACE = np.uint8(32)


@cache
def folding() -> U32:
    """For each code point, uint32 (FOLD_SIZE,), the character it counts as, with ALONE; or SILENT; or 0: in no word.

    A character counts as the lower case of its compatibility decomposition (Unicode, normal form KD) without marks,
    where that is a single character, so that one letter is one letter in whatever form it comes.
    """
    table = np.zeros(FOLD_SIZE, dtype=np.uint32)
    for point in range(FOLD_SIZE):
        character = chr(point)
        if unicodedata.category(character) in SILENT_CATEGORIES:
            table[point] = SILENT
        elif character.isalnum() and character != APOSTROPHE:
            parts = unicodedata.normalize("NFKD", character) if point > 127 else character
            bare = [c for c in parts if unicodedata.category(c) not in SILENT_CATEGORIES]
            folded = (bare[0] if len(bare) == 1 else character).lower()[0]
            if not bare:
                table[point] = SILENT
            elif folded.isalnum():         # an accent that stands on a space is no letter
                table[point] = ord("σ" if folded == "ς" else folded)
    for block in ALONE_BLOCKS.split():
        first, last = (int(end, 16) for end in block.split("-"))
        table[(table >= first) & (table <= last)] |= ALONE
    table.flags.writeable = False
    return table


@njit(cache=True, nogil=True)
def _finish(x: np.uint64) -> np.uint64:
    """The finaliser of splitmix64, as in ``curate.hashing.mix64``."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _next_word(data: U8, i: int, end: int, fold: U32) -> tuple[int, int, np.uint64]:
    """The first byte of the next word, the byte after it, and its hash; the first byte is -1 if there is none."""
    value = np.uint64(0)
    start = -1
    while i < end:
        point, after = next_character(data, i, end)
        folded = fold[point] if point < FOLD_SIZE else np.uint32(0)
        if folded == 0:
            if start >= 0:
                break
            i = after
            continue
        if folded == SILENT:
            i = after
            continue
        if start >= 0 and folded & ALONE:
            break
        if start < 0:
            start = i
        value = (value ^ np.uint64(folded & POINT)) * _K2
        value ^= value >> np.uint64(32)
        i = after
        if folded & ALONE:
            break
    return start, i, _finish(value + _K1)


@njit(cache=True, nogil=True)
def _put(into: U8, at: int, point: np.int64) -> int:
    """Write a code point as UTF-8; the byte after it."""
    if point < 0x80:
        into[at] = point
        return at + 1
    if point < 0x800:
        into[at] = 0xC0 | (point >> 6)
        into[at + 1] = 0x80 | (point & 0x3F)
        return at + 2
    if point < 0x10000:
        into[at] = 0xE0 | (point >> 12)
        into[at + 1] = 0x80 | ((point >> 6) & 0x3F)
        into[at + 2] = 0x80 | (point & 0x3F)
        return at + 3
    into[at] = 0xF0 | (point >> 18)
    into[at + 1] = 0x80 | ((point >> 12) & 0x3F)
    into[at + 2] = 0x80 | ((point >> 6) & 0x3F)
    into[at + 3] = 0x80 | (point & 0x3F)
    return at + 4


@njit(cache=True, nogil=True)
def _normalise(offsets: I64, data: U8, fold: U32, starts: I64, into: U8) -> None:
    """Write each text's words, a space between two: text ``t`` becomes ``into[starts[t]:starts[t + 1]]``."""
    at = 0
    for t in range(offsets.size - 1):
        starts[t] = at
        i = offsets[t]
        while True:
            start, i, _ = _next_word(data, i, offsets[t + 1], fold)
            if start < 0:
                break
            if at > starts[t]:
                into[at] = _SPACE
                at += 1
            while start < i:
                point, start = next_character(data, start, i)
                if fold[point] != SILENT:
                    at = _put(into, at, np.int64(fold[point] & POINT))
    starts[offsets.size - 1] = at


def _buffers(texts: pa.ChunkedArray | pa.Array) -> tuple[I64, U8]:
    """``string_buffers``, always read-only: a kernel is compiled again for arrays that can be written to."""
    offsets, data = string_buffers(texts)
    offsets.flags.writeable = data.flags.writeable = False
    return offsets, data


def normalised(texts: pa.ChunkedArray) -> pa.Array:
    """The words of each text, lower-cased, a space between two; large_string (n,), "" for null."""
    offsets, data = _buffers(texts)
    starts = np.empty(len(offsets), dtype=np.int64)
    into = np.empty(2 * int(offsets[-1] - offsets[0]), dtype=np.uint8)     # three bytes may become four, with a space
    _normalise(offsets, data, folding(), starts, into)
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(into[: starts[-1]].copy())]
    return pa.Array.from_buffers(TEXT, len(starts) - 1, buffers)


# --- The index ------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _ring(words: int) -> int:
    """Slots of a ring for at least as many words: a power of two, so that word ``k`` is in slot ``k & (slots - 1)``."""
    slots = 1
    while slots < words:
        slots *= 2
    return slots


@njit(cache=True, nogil=True)
def _hash_of(hashes: U64, last: int, words: int) -> np.uint64:
    """The hash of a run of words that ends with word ``last``; ``hashes`` is a ring."""
    value = np.uint64(0)
    for k in range(last - words + 1, last + 1):
        value = value * _K1 + hashes[k & (hashes.size - 1)]
    return _finish(value + np.uint64(words) * _K2)


@njit(cache=True, nogil=True)
def _features(offsets, data, fold, n, min_words, out):  # type: ignore[no-untyped-def]
    """Every run of ``n`` words of each text, or the text as a whole where it has fewer, at least ``min_words``.

    It writes to ``out``, int64 (4, room), the text, the number of words, the first byte and the byte after of each, and
    returns their hashes, uint64 (room,), and how many there are.
    """
    found = np.empty(out.shape[1], dtype=np.uint64)
    hashes = np.empty(_ring(n), dtype=np.uint64)
    starts = np.empty(_ring(n), dtype=np.int64)
    last = hashes.size - 1
    count = 0
    for t in range(offsets.size - 1):
        words = 0
        i = offsets[t]
        end = i
        while True:
            start, i, value = _next_word(data, i, offsets[t + 1], fold)
            if start < 0:
                break
            hashes[words & last] = value
            starts[words & last] = start
            end = i
            words += 1
            if words >= n:
                out[0, count], out[1, count], out[2, count], out[3, count] = t, n, starts[(words - n) & last], end
                found[count] = _hash_of(hashes, words - 1, n)
                count += 1
        if min_words <= words < n:
            out[0, count], out[1, count], out[2, count], out[3, count] = t, words, starts[0], end
            found[count] = _hash_of(hashes, words - 1, words)
            count += 1
    return found, count


@njit(cache=True, nogil=True)
def _distinct(hashes: U64, starts: I64, ends: I64, data: U8, feature: I64) -> int:
    """Number runs of words, sorted by hash, so that equal ones have one number; returns how many numbers there are.

    Different words may share a hash: such runs are neighbours with numbers of their own.
    """
    count = 0
    first = 0                              # of the entries with this hash
    for k in range(hashes.size):
        if hashes[k] != hashes[first]:
            first = k
        feature[k] = -1
        for j in range(first, k):
            if ends[j] - starts[j] == ends[k] - starts[k]:
                same = True
                for b in range(ends[j] - starts[j]):
                    if data[starts[j] + b] != data[starts[k] + b]:
                        same = False
                        break
                if same:
                    feature[k] = feature[j]
                    break
        if feature[k] < 0:
            feature[k] = count
            count += 1
    return count


@fitter(reads={"id": TEXT, "source": TEXT, "text": TEXT}, version="1")
def index(docs: pa.Table, config: Contamination, out: Path) -> dict[str, Any]:
    """Cut evaluation items into features, and write who has which.

    Files: ``items.parquet`` (id, source, texts, features; by source, then id), ``words.parquet`` (the normalised
    texts), ``features.parquet`` (hash, words, text, start, end in bytes; by hash), ``postings.parquet`` (feature, item;
    by both) and ``index.json``.

    Returns:
        items, texts, untestable (items without a feature), ngrams and wholes (features of either kind), wording
        (features left out because too many items share them).
    """
    docs = docs.select(["id", "source", "text"]).combine_chunks()
    who = pa.table({"source": docs["source"].fill_null(""), "id": docs["id"].fill_null("")})
    items = who.group_by(["source", "id"], use_threads=False).aggregate([([], "count_all")])
    items = items.sort_by([("source", "ascending"), ("id", "ascending")])
    number = {pair: i for i, pair in enumerate(zip(items["source"].to_pylist(), items["id"].to_pylist(), strict=True))}
    item_of = np.array([number[p] for p in zip(*(who[c].to_pylist() for c in ("source", "id")), strict=True)], np.int64)

    words = normalised(docs["text"])
    offsets, data = _buffers(words)
    found = np.empty((4, len(data) // 2 + len(words) + 1), dtype=np.int64)
    hashes, count = _features(offsets, data, folding(), config.n, config.min_words, found)
    order = np.lexsort((found[2, :count], hashes[:count]))
    hashes, found = hashes[order], found[:, order]
    text, size, start, end = found
    feature = np.empty(count, dtype=np.int64)
    _distinct(hashes, start, end, data, feature)

    of, item = feature, item_of[text]
    at = np.lexsort((item, of))
    at = at[_firsts(of[at], item[at])]                                       # an item has a feature once
    of, item = of[at], item[at]
    shared = np.bincount(of)
    keep = shared <= config.most_items
    first = np.unique(feature, return_index=True)[1][keep]
    of, item = (np.cumsum(keep) - 1)[of[keep[of]]], item[keep[of]]
    in_item = np.bincount(item, minlength=len(items))

    write = {
        "items": {
            "id": items["id"], "source": items["source"],
            "texts": items["count_all"], "features": pa.array(in_item, INT64),
        },
        "words": {"words": words},
        "features": {
            "hash": pa.array(hashes[first], UINT64),
            "words": pa.array(size[first], INT32),
            "text": pa.array(text[first]),
            "start": pa.array(start[first] - offsets[text[first]]),
            "end": pa.array(end[first] - offsets[text[first]]),
        },
        "postings": {"feature": pa.array(of, INT32), "item": pa.array(item, INT32)},
    }  # fmt: skip
    for name, columns in write.items():
        pq.write_table(pa.table(columns), out / f"{name}.parquet", compression="zstd")
    (out / "index.json").write_text(json.dumps({"n": config.n, "min_words": config.min_words}))
    return {
        "items": len(items),
        "texts": docs.num_rows,
        "untestable": int((in_item == 0).sum()),
        "ngrams": int((size[first] == config.n).sum()),
        "wholes": int((size[first] < config.n).sum()),
        "wording": int((shared > config.most_items).sum()),
    }


def _firsts(*keys: I64) -> I64:
    """Where a run of equal keys begins, in sorted arrays (n,)."""
    new = np.ones(len(keys[0]), dtype=bool)
    if len(new):
        new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.flatnonzero(new)


class Table(NamedTuple):
    """Features as a kernel sees them, sorted by hash."""

    hashes: U64              # (features,)
    starts: I64              # first byte in ``words``
    ends: I64                # byte after
    words: U8                # the normalised texts
    directory: I64           # the first feature of each prefix of the hash
    bits: U64                # one bit a prefix that some feature has, of longer prefixes
    tails: U64               # the same for the last ``min_words`` words of the features shorter than ``n``
    sizes: I64               # numbers of words of these, largest first
    n: int
    min_words: int


@dataclass(frozen=True)
class Index:
    """An opened index: features, and the items that have them.

    Args:
        table: what the kernel looks up.
        first: postings of feature ``f`` are ``items[first[f]:first[f + 1]]``.
        items: items by posting.
        ids: of the items.
        features: number of each item's features.
    """

    table: Table
    first: I64
    items: I32
    ids: pa.Array
    features: I64


def open_index(config: Overlap, against: Path) -> Index:
    """Open what ``index`` wrote.

    Args:
        config: settings of the stage.
        against: its directory.
    """
    if not (against / "index.json").is_file():
        raise BadInput(
            f"{against} holds no index", where="contamination.overlap",
            fix="give against= an artifact made with fit(contamination.index, ...)",
        )  # fmt: skip
    settings = json.loads((against / "index.json").read_text())
    n, min_words = settings["n"], settings["min_words"]
    columns = pq.read_table(against / "features.parquet")
    hashes, size, text, start, end = (columns[c].to_numpy() for c in ("hash", "words", "text", "start", "end"))
    offsets, words = _buffers(pq.read_table(against / "words.parquet")["words"])
    starts, ends = start + offsets[text], end + offsets[text]
    hashes.flags.writeable = False         # it is already, but for several chunks
    short = np.flatnonzero(size < n)
    tails = np.array([_tail(words, starts[k], ends[k], folding(), min_words) for k in short.tolist()], dtype=np.uint64)
    prefix = max(len(hashes).bit_length(), 1)
    directory = np.searchsorted(hashes >> np.uint64(64 - prefix), np.arange((1 << prefix) + 1, dtype=np.uint64))
    postings = pq.read_table(against / "postings.parquet")
    items = pq.read_table(against / "items.parquet")
    return Index(
        table=Table(
            hashes, starts, ends, words, directory.astype(np.int64), _bits(hashes), _bits(tails),
            np.unique(size[short]).astype(np.int64)[::-1].copy(), n, min_words,
        ),
        first=np.searchsorted(postings["feature"].to_numpy(), np.arange(len(hashes) + 1)),
        items=postings["item"].to_numpy(),
        ids=items["id"].combine_chunks(),
        features=items["features"].to_numpy(),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _tail(data: U8, start: int, end: int, fold: U32, words: int) -> np.uint64:
    """The hash of the last ``words`` words of a text of at least as many."""
    hashes = np.empty(_ring(words), dtype=np.uint64)
    k = 0
    while True:
        first, start, value = _next_word(data, start, end, fold)
        if first < 0:
            return _hash_of(hashes, k - 1, words)
        hashes[k & (hashes.size - 1)] = value
        k += 1


def _bits(hashes: U64) -> U64:
    """A set of prefixes of hashes: about one of 32 that are not in it seems to be. A power of two of bits."""
    prefix = max((32 * len(hashes)).bit_length(), 6)
    bits = np.zeros(1 << (prefix - 6), dtype=np.uint64)
    at = hashes >> np.uint64(64 - prefix)
    np.bitwise_or.at(bits, (at >> np.uint64(6)).astype(np.int64), np.uint64(1) << (at & np.uint64(63)))
    return bits


# --- The search -----------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _may_hold(bits: U64, shift: np.uint64, value: np.uint64) -> bool:
    at = value >> shift
    return (bits[np.int64(at >> np.uint64(6))] >> (at & np.uint64(63))) & np.uint64(1) != 0


@njit(cache=True, nogil=True)
def _is_run(data: U8, i: int, end: int, fold: U32, words: U8, a: int, b: int) -> bool:
    """Whether the words of ``data[i:end]`` are ``words[a:b]``."""
    while True:
        start, i, _ = _next_word(data, i, end, fold)
        if start < 0:
            return a >= b
        while start < i:
            point, start = next_character(data, start, i)
            if fold[point] == SILENT:
                continue
            if a >= b:
                return False
            other, a = next_character(words, a, b)
            if np.int64(fold[point] & POINT) != other:
                return False
        if a < b:
            if words[a] != _SPACE:
                return False
            a += 1


@njit(cache=True, nogil=True)
def _look_up(table, shift, value, data, start, end, fold):  # type: ignore[no-untyped-def]
    """The feature with this hash whose words are those of ``data[start:end]``, or -1."""
    prefix = np.int64(value >> shift)
    for k in range(table.directory[prefix], table.directory[prefix + 1]):
        if table.hashes[k] == value and _is_run(data, start, end, fold, table.words, table.starts[k], table.ends[k]):
            return k
    return -1


@njit(cache=True, nogil=True)
def _shift(size: int) -> np.uint64:
    """How far a hash is shifted to become an index below ``size``, a power of two."""
    bits = 0
    while (1 << bits) < size:
        bits += 1
    return np.uint64(64 - bits)


@njit(cache=True, nogil=True)
def _search(offsets, data, fold, table):  # type: ignore[no-untyped-def]
    """Every feature in every text, int64 (3, found): the text, the position of its first word, the feature.

    Memory: a ring of ``n`` words, however long a text is.
    """
    found = np.empty((3, 1024), dtype=np.int64)
    count = 0
    n = table.n
    m = table.min_words
    bits, tails, sizes = table.bits, table.tails, table.sizes
    hashes = np.empty(_ring(n), dtype=np.uint64)
    starts = np.empty(_ring(n), dtype=np.int64)
    last = hashes.size - 1
    place = _shift(table.directory.size - 1)
    in_bits = _shift(bits.size * 64)
    in_tails = _shift(tails.size * 64)
    leaves_n = np.uint64(1)                # the weight of a word when it leaves the window of n words
    leaves_m = np.uint64(1)
    for k in range(n):
        leaves_n *= _K1
        if k < m:
            leaves_m *= _K1
    for t in range(offsets.size - 1):
        words = 0
        run = np.uint64(0)
        tail = np.uint64(0)
        i = offsets[t]
        while True:
            start, i, value = _next_word(data, i, offsets[t + 1], fold)
            if start < 0:
                break
            if sizes.size:
                tail = tail * _K1 + value
                if words >= m:
                    tail -= hashes[(words - m) & last] * leaves_m
            run = run * _K1 + value
            if words >= n:
                run -= hashes[(words - n) & last] * leaves_n
            hashes[words & last] = value
            starts[words & last] = start
            words += 1
            if found.shape[1] < count + 1 + sizes.size:
                larger = np.empty((3, 2 * found.shape[1] + sizes.size), dtype=np.int64)
                larger[:, :count] = found[:, :count]
                found = larger
            if words >= n:
                key = _finish(run + np.uint64(n) * _K2)
                if _may_hold(bits, in_bits, key):
                    k = _look_up(table, place, key, data, starts[(words - n) & last], i, fold)
                    if k >= 0:
                        found[0, count], found[1, count], found[2, count] = t, words - n, k
                        count += 1
            if sizes.size and words >= m and _may_hold(tails, in_tails, _finish(tail + np.uint64(m) * _K2)):
                for size in sizes:
                    if size <= words:
                        key = _hash_of(hashes, words - 1, size)
                        if _may_hold(bits, in_bits, key):
                            k = _look_up(table, place, key, data, starts[(words - size) & last], i, fold)
                            if k >= 0:
                                found[0, count], found[1, count], found[2, count] = t, words - size, k
                                count += 1
    return found[:, :count]


@stage(reads={"text": TEXT}, writes=Overlap.writes, grain=Grain.EACH, load=open_index, version="1")
def overlap(docs: pa.Table, config: Overlap, against: Index) -> pa.Table:
    """What of the evaluation items each document contains (see the module's story); no hit is 0, null, null, 0."""
    offsets, data = _buffers(docs["text"])
    text, position, feature = _search(offsets, data, folding(), against.table)
    n = docs.num_rows
    order = np.lexsort((position, text))
    positions = np.bincount(text[order][_firsts(text[order], position[order])], minlength=n)

    # the features of each document once, at their first position, then the items that have them
    order = np.lexsort((position, feature, text))
    order = order[_firsts(text[order], feature[order])]
    text, position, feature = text[order], position[order], feature[order]
    sharing = against.first[feature + 1] - against.first[feature]
    at = np.repeat(np.arange(len(feature)), sharing)
    nth = np.arange(len(at)) - np.repeat(np.cumsum(sharing) - sharing, sharing)
    item = against.items[against.first[feature[at]] + nth].astype(np.int64)

    # of each document's items, the one with most features; of that item's features, the first in the document
    order = np.lexsort((position[at], item, text[at]))
    text, item, feature = text[at[order]], item[order], feature[at[order]]
    starts = _firsts(text, item)
    hits = np.diff(starts, append=len(text))
    text, item, feature = text[starts], item[starts], feature[starts]
    best = np.lexsort((item, -hits, text))
    best = best[_firsts(text[best])]
    text, item, feature, hits = text[best], item[best], feature[best], hits[best]

    row = np.full(n, -1, dtype=np.int64)
    row[text] = np.arange(len(text))
    which = pa.array(row, mask=row < 0)
    table = against.table
    ngrams = pa.array([table.words[table.starts[f] : table.ends[f]].tobytes().decode() for f in feature.tolist()], TEXT)
    share = np.zeros(n, dtype=np.float32)
    share[text] = hits / against.features[item]
    return pa.table({
        f"{config.name}_ngrams": pa.array(positions, INT32),
        f"{config.name}_item": against.ids.take(pa.array(item)).take(which),
        f"{config.name}_ngram": ngrams.take(which),
        f"{config.name}_share": pa.array(share, FLOAT32),
    })  # fmt: skip
