"""Text as buffers: the one place where a character, a word and a line are defined.

Kernels never see a Python string. They walk the two buffers of an Arrow column (``string_buffers``), decode UTF-8 as
they go (``next_character``) and look every code point up in one table of classes (``classes``). The table is filled by
asking Python itself (``str.isspace``, ``str.isalpha``, ``str.splitlines``) about every code point there is, so a kernel
and a slow reference in Python cannot disagree; it follows the Unicode version of the interpreter.

A *line* ends where the caller says: at newlines, or at whatever ``str.splitlines`` cuts at (``LINE_END``).

A *word* is one of two things:

``whitespace``   a run of characters that are not whitespace, as ``str.split`` gives them.
``spacy``        a token of spaCy's blank English pipeline, whitespace tokens left out, as datatrove gives them.

spaCy cuts a text at whitespace first and then each piece by rules that see that piece alone. So each distinct piece
needs to be tokenised only once: a ``WordMemo`` keeps, for the hash of a piece, the words it falls into, and spaCy is
called in bulk for the pieces of a table that it has not seen. Two exceptions. spaCy takes quadratic time for a long run
of brackets or marks (256 s for 64,000 of them), so a piece of more than LONGEST_PIECE bytes is one word here. And its
special cases (emoticons, abbreviations) are searched for over whitespace too, where a find changes nothing but can
hide another that overlaps it: in 1 of 38,935 documents (benchmarks/agreement_datatrove.py) that moved one word.

Hashes are polynomials over the bytes modulo 2**61 - 1 (Karp and Rabin 1987), because then the hash of two spans
written one after the other follows from their two hashes. Two different spans of L bytes share a hash with a
probability of at most L / 2**61: for a million pieces in the memo and a thousand million distinct ones looked up, of
8 bytes, one may be mistaken for another with a probability of 0.3 %.

Cost: about 3 ns a byte for decoding and hashing, 15 us for a piece that spaCy has not seen. Elsewhere: what is
measured on words and lines (quality.py), normalised words and shingles (minhash.py).
"""

import difflib
import threading
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from curate.errors import MissingExtra, UnknownSetting

Offsets: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Int: TypeAlias = int | np.int64

WORDS = ("whitespace", "spacy")

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
        strings = strings.combine_chunks()
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
_SPREAD = np.uint64(0x9E3779B97F4A7C15)     # 2**64 / golden ratio (Knuth, volume 3, section 6.4)
_LOW_BITS = np.uint64(61)
_HIGH_BITS = np.uint64(3)
_ONE = np.uint64(1)


@intrinsic
def _high_half(context: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of the 128-bit product of two uint64."""

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


# By byte: its term in a block of four, before the last byte (whose term is the byte plus one).
_TERMS = np.array([[(b + 1) * int(_POWERS[k]) % int(PRIME) for b in range(256)] for k in (3, 2, 1)], dtype=np.uint64)
_BLOCK = _POWERS[4]


@njit(cache=True, nogil=True)
def hash_bytes(data: Bytes, start: Int, end: Int) -> np.uint64:
    """The hash of ``data[start:end]``: sum of (byte + 1) * BASE**(bytes after it), modulo 2**61 - 1.

    So hash(xy) = hash(x) * power(len(y)) + hash(y).
    """
    value = np.uint64(0)
    i = start
    while i + 4 <= end:  # four bytes a multiplication: the multiplications wait for each other
        value = times(value, _BLOCK) + (_TERMS[0, data[i]] + _TERMS[1, data[i + 1]] + _TERMS[2, data[i + 2]])
        value += np.uint64(data[i + 3]) + _ONE
        value = (value & PRIME) + (value >> _LOW_BITS)
        if value >= PRIME:
            value -= PRIME
        i += 4
    while i < end:
        value = plus(times(value, BASE), np.uint64(data[i]) + _ONE)
        i += 1
    return value


@njit(cache=True, nogil=True)
def first_equal(keys: Hashes, first: npt.NDArray[np.int32]) -> None:
    """Write to ``first[i]`` the smallest ``j`` with ``keys[j] == keys[i]``: who repeats whom."""
    bits = 2
    while (1 << bits) < 2 * keys.size:
        bits += 1
    table = np.full(1 << bits, -1, dtype=np.int32)
    shift = np.uint64(64 - bits)
    for i in range(keys.size):
        at = np.int64((keys[i] * _SPREAD) >> shift)
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


# --- Words ----------------------------------------------------------------------------------------------------------


class Words(NamedTuple):
    """Words in order, one row of each array a word."""

    hashes: Hashes                       # of the bytes
    sizes: npt.NDArray[np.int32]         # bytes
    lengths: npt.NDArray[np.int32]       # code points
    kinds: Bytes                         # classes that occur


class Memo(NamedTuple):
    """What pieces of text fall into, by their hash: open addressing over ``slots``, at most half full.

    Without slots every piece is a word. The arrays are interleaved, so that a look-up touches few cache lines.
    """

    slots: Hashes        # (m, 2): key, 0 where free; first word and number of words, or _WAITS while spaCy is not asked
    words: Hashes        # (k, 2): hash; bytes, code points and classes. Not for pieces that are one word


_WAITS = np.uint64((1 << 64) - 1)
_IS_A_WORD = np.uint64(1)
_COUNT_BITS = np.uint64(24)                  # of a slot's second half; a piece has at most LONGEST_PIECE words
_COUNT_MASK = np.uint64((1 << 24) - 1)
_KIND_MASK = np.uint64((1 << 8) - 1)         # of a word's second half: classes, then code points, then bytes
_LENGTH_BITS = np.uint64(8)
_LENGTH_MASK = np.uint64((1 << 24) - 1)
_SIZE_BITS = np.uint64(32)
UNSEEN = -1              # a piece of the text is not in the memo; it waits now
NO_ROOM = -2             # the list of waiting pieces is full
TOO_SMALL = -3           # the text has more words than `into` can hold
LONGEST_PIECE = 1 << 15  # bytes
_TAKEN = np.uint64(1 << 63)                 # set in every key, so that none is 0


@njit(cache=True, nogil=True)
def new_words(room: int) -> Words:
    """Room for words."""
    return Words(
        np.empty(room, dtype=np.uint64),
        np.empty(room, dtype=np.int32),
        np.empty(room, dtype=np.int32),
        np.empty(room, dtype=np.uint8),
    )


@njit(cache=True, nogil=True)
def _slot(slots: Hashes, key: np.uint64) -> Int:
    """Where ``key`` is, or the free slot where it belongs."""
    mask = len(slots) - 1
    at = np.int64((key * _SPREAD) >> np.uint64(32)) & mask
    while slots[at, 0] != key and slots[at, 0] != 0:
        at = (at + 1) & mask
    return at


@njit(cache=True, nogil=True)
def split_words(data: Bytes, start: Int, end: Int, table: Bytes, memo: Memo, waiting: Offsets, into: Words) -> Int:
    """Write the words of ``data[start:end]`` to ``into``.

    Args:
        data: the bytes of a column.
        start: first byte of the text.
        end: the byte after it.
        table: see ``classes``.
        memo: see ``Memo``.
        waiting: int64 (m, 2), takes (start, end) of pieces that the memo lacks; row 0 holds how many rows are used.
        into: room for the words.

    Returns:
        the number of words, or one of UNSEEN, NO_ROOM, TOO_SMALL.
    """
    # An array is taken out of its tuple once: each time costs an atomic count of its references.
    slots, known = memo
    hashes, sizes, lengths, kinds = into
    remembers = len(slots) > 0
    room = sizes.size
    count: Int = 0
    unseen = False
    i: Int = start
    while i < end:
        stop = i
        length = 0
        seen: Int = 0
        while stop < end:
            point, after = next_character(data, stop, end)
            kind = np.int64(table[point])
            if kind & SPACE:
                break
            seen |= kind
            length += 1
            stop = after
        if length == 0:
            _, i = next_character(data, i, end)
            continue
        value = hash_bytes(data, i, stop)
        found = _IS_A_WORD
        if remembers and stop - i <= LONGEST_PIECE:
            at = _slot(slots, value | _TAKEN)
            if slots[at, 0] == 0:
                used = waiting[0, 0]
                if used == len(waiting):
                    return NO_ROOM
                waiting[used, 0] = i
                waiting[used, 1] = stop
                waiting[0, 0] = used + 1
                slots[at, 0] = value | _TAKEN
                slots[at, 1] = _WAITS
            found = slots[at, 1]
            unseen |= found == _WAITS
        if unseen:
            i = stop
            continue
        parts = np.int64(found & _COUNT_MASK)
        if count + parts > room:
            return TOO_SMALL
        if parts == 1:
            hashes[count] = value
            sizes[count] = stop - i
            lengths[count] = length
            kinds[count] = seen
        else:
            first = np.int64(found >> _COUNT_BITS)
            for k in range(parts):
                packed = known[first + k, 1]
                hashes[count + k] = known[first + k, 0]
                sizes[count + k] = packed >> _SIZE_BITS
                lengths[count + k] = (packed >> _LENGTH_BITS) & _LENGTH_MASK
                kinds[count + k] = packed & _KIND_MASK
        count += parts
        i = stop
    return UNSEEN if unseen else count


@njit(cache=True, nogil=True)
def _join(data: Bytes, pieces: Offsets) -> Bytes:
    """The pieces, int64 (m, 2), one a line."""
    out = np.empty(np.sum(pieces[:, 1] - pieces[:, 0]) + len(pieces), dtype=np.uint8)
    at = 0
    for k in range(len(pieces)):
        for i in range(pieces[k, 0], pieces[k, 1]):
            out[at] = data[i]
            at += 1
        out[at] = 10
        at += 1
    return out


@njit(cache=True, nogil=True)
def _learn(lines: Bytes, lengths: Offsets, table: Bytes, memo: Memo, used: int) -> int:
    """Store the words of pieces, one a line of ``lines``, given the code points of each token; return words stored.

    A line feed is a token of its own. ``used`` words are stored already.
    """
    slots, known = memo
    line: Int = 0
    i: Int = 0
    first = used
    for length in lengths:
        if lines[i] == 10:
            at = _slot(slots, hash_bytes(lines, line, i) | _TAKEN)
            if used == first + 1:
                used = first
                slots[at, 1] = _IS_A_WORD
            else:
                slots[at, 1] = (np.uint64(first) << _COUNT_BITS) | np.uint64(used - first)
            first = used
            i += 1
            line = i
            continue
        end = i
        for _ in range(length):
            _, end = next_character(lines, end, lines.size)
        value, _, seen, _ = read_span(lines, i, end, table)
        known[used, 0] = value
        known[used, 1] = (np.uint64(end - i) << _SIZE_BITS) | (np.uint64(length) << _LENGTH_BITS) | np.uint64(seen)
        used += 1
        i = end
    return used


@njit(cache=True, nogil=True)
def _rehash(old: Hashes, new: Hashes) -> None:
    """Move the slots of a memo to a larger array."""
    for i in range(len(old)):
        if old[i, 0] != 0:
            at = _slot(new, old[i, 0])
            new[at, 0] = old[i, 0]
            new[at, 1] = old[i, 1]


class WordMemo:
    """What a thread knows about words. Results never depend on what it has seen before.

        memory = word_memo(words)                # once a table
        rows = np.arange(n)
        while len(rows):
            memo, waiting = memory.begin()
            rows = kernel(offsets, data, rows, table, memo, waiting, ...)   # returns the rows that have to wait
            memory.learn(data, waiting)

    When a table begins it holds at most MOST_PIECES pieces (about 80 bytes each), or else it starts afresh.

    Args:
        words: one of WORDS, or ``"spacy:xx"``.
    """

    MOST_PIECES = 1 << 20
    AT_ONCE = 1 << 16

    def __init__(self, words: str) -> None:
        self._spacy = words != "whitespace"
        self._language = words.removeprefix("spacy").removeprefix(":") or "en"
        self.forget()

    @property
    def full(self) -> bool:
        """It is time to forget, before the next table."""
        return self._pieces > self.MOST_PIECES

    def forget(self) -> None:
        """Start afresh."""
        slots = 4 * self.AT_ONCE if self._spacy else 0
        self._memo = Memo(np.zeros((slots, 2), dtype=np.uint64), np.empty((0, 2), dtype=np.uint64))
        self._pieces = 0
        self._used = 0
        self._waits = False

    def begin(self) -> tuple[Memo, Offsets]:
        """The memo, and an empty list for what it lacks."""
        waiting = np.empty((1 + self.AT_ONCE if self._spacy else 1, 2), dtype=np.int64)
        waiting[0] = 1
        if self._spacy:
            if self._waits:  # an error left pieces that nobody asked for
                self.forget()
            self._waits = True
            slots, words = self._memo
            if 2 * (self._pieces + self.AT_ONCE) > len(slots):
                larger = np.zeros((2 * len(slots), 2), dtype=np.uint64)
                _rehash(slots, larger)
                self._memo = Memo(larger, words)
        return self._memo, waiting

    def learn(self, data: Bytes, waiting: Offsets) -> None:
        """Ask spaCy for the pieces that a kernel did not find."""
        pieces = waiting[1 : waiting[0, 0]]
        if len(pieces):
            lines = _join(data, pieces)
            lengths = _spacy_lengths(lines.tobytes().decode(), self._language)
            slots, words = self._memo
            lacking = self._used + len(lengths) - len(words)
            if lacking > 0:
                words = np.concatenate([words, np.empty((max(lacking, len(words)), 2), dtype=np.uint64)])
            self._memo = Memo(slots, words)
            self._used = _learn(lines, lengths, classes(), self._memo, self._used)
            self._pieces += len(pieces)
        self._waits = False


_SPACY = threading.Lock()
_threads = threading.local()


def word_memo(words: str) -> WordMemo:
    """The memo of this thread for one of WORDS, or ``"spacy:xx"``, for a new table."""
    memos = _threads.__dict__.setdefault("memos", {})
    if words not in memos:
        require_words(words, where=f"word_memo({words!r})")
        memos[words] = WordMemo(words)
    memo: WordMemo = memos[words]
    if memo.full:
        memo.forget()
    return memo


def require_words(words: str, *, where: str) -> None:
    """Raise UnknownSetting for an unknown definition of a word, MissingExtra for one whose package is missing."""
    kind, _, language = words.partition(":")
    if kind not in WORDS or (language and kind != "spacy") or words.endswith(":"):
        near = difflib.get_close_matches(words, WORDS, n=1)
        raise UnknownSetting(
            f"there are no words of kind {words!r}",
            where=where,
            fix=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(map(repr, WORDS))}, or 'spacy:fr'",
        )
    if kind == "spacy" and find_spec("spacy") is None:
        raise MissingExtra(
            f"words={words!r} needs the package spacy, which is not installed",
            where=where,
            fix="pip install 'curate[datatrove]', or use words='whitespace'",
        )
    if language and not _cuts_at_whitespace(language):
        raise UnknownSetting(
            f"spaCy has no tokenizer for {language!r} that cuts at whitespace first",
            where=where,
            fix="use another language, or 'spacy:xx', which is for no language",
        )


@lru_cache(maxsize=64)
def _cuts_at_whitespace(language: str) -> bool:
    """Is the tokenizer of this language spaCy's own, and not one that looks at whole sentences?"""
    from spacy.util import get_lang_class

    try:
        settings = get_lang_class(language).Defaults.config
    except ImportError:  # spaCy has no such language
        return False
    return "tokenizer" not in settings.get("nlp", {})


@lru_cache(maxsize=64)
def _spacy_tokenizer(language: str) -> Any:
    """The tokenizer of a blank spaCy pipeline, on a vocabulary that does not work out attributes of words."""
    import spacy
    from spacy.tokenizer import Tokenizer
    from spacy.vocab import Vocab

    rules: Any = spacy.blank(language).tokenizer
    return Tokenizer(
        Vocab(),
        rules=rules.rules,
        prefix_search=rules.prefix_search,
        suffix_search=rules.suffix_search,
        infix_finditer=rules.infix_finditer,
        token_match=rules.token_match,
        url_match=rules.url_match,
    )


def _spacy_lengths(text: str, language: str) -> Offsets:
    """The code points of each token of a text, whitespace tokens included, a space that follows a token not."""
    # spaCy numbers this name 1, which its hash map takes for "deleted": a later memory zone would read freed memory.
    text = text.replace("IS_ALPHA", "IS_ALPHB")
    with _SPACY:
        tokenizer = _spacy_tokenizer(language)
        with tokenizer.vocab.memory_zone():  # else the vocabulary would keep every string ever seen
            lengths: Offsets = tokenizer(text).to_array("LENGTH").astype(np.int64)
            return lengths
