"""Text as buffers: what a character, a line and a word are.

Characters, their classes and hashes of spans come from characters.py and are found here too.

A *line* ends where the caller says: at newlines, or at whatever ``str.splitlines`` cuts at (``LINE_END``).

A *word* is one of these things:

``whitespace``   a run of characters that are not whitespace, as ``str.split`` gives them.
``spacy``        a token of spaCy's blank English pipeline, whitespace tokens left out, as datatrove gives them.
``spacy:fr``     the same for another of spaCy's languages, if its tokenizer cuts at whitespace first.

spaCy cuts a text at whitespace first and then each piece by rules that see that piece alone. So each distinct piece
needs to be cut only once: a ``WordMemo`` keeps, for the hash of a piece, the words it falls into. English pieces of at
most 16 ASCII letters, perhaps with a mark before or after them (84 % of a pool's), need no memo: a filter of special
cases says that the rules are simple there. Most others that it has not seen are cut by a kernel that knows spaCy's
English rules (english.py); spaCy itself is called in bulk for what is left. Two exceptions. spaCy takes quadratic time
for a long run of brackets or marks (256 s for 64,000 of them), so a piece of more than LONGEST_PIECE bytes is one word
here. And its special cases (emoticons, abbreviations) are searched for over whitespace too, where a find changes
nothing but can hide another that overlaps it: in 1 of 38,935 documents (benchmarks/agreement_datatrove.py) that moved
one word. In a language whose special cases hold spaces ("и др.") those are not applied.

Cost: about 3 ns a byte for decoding and hashing; for a piece not seen before 1 us, 15 us if spaCy has to be asked.
Elsewhere: what is measured on words and lines (quality.py), normalised words and shingles (minhash.py).
"""

import difflib
import threading
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from curate.characters import (
    AT_ONCE,
    BASE,
    INK,
    LETTER,
    LINE_END,
    PLAIN,
    PRIME,
    PUNCTUATION,
    SPACE,
    SPREAD,
    TERMINAL,
    TERMINAL_MARKS,
    Bytes,
    Hashes,
    Int,
    Offsets,
    byte_of,
    classes,
    code_points,
    first_equal,
    hash_bytes,
    hash_sixteen,
    letters_among,
    load64,
    next_character,
    plus,
    power,
    read_span,
    string_buffers,
    times,
    visible,
)
from curate.english import (
    FILTER,
    IN_WORD,
    LONGEST,
    ONE_TOKEN,
    WITH_PREFIX,
    WITH_SUFFIX,
    WORD,
    Rules,
    Scratch,
    cut,
    cut_marks,
    hash_part,
    new_scratch,
)
from curate.english import rules as english_rules
from curate.errors import MissingExtra, UnknownSetting
from curate.kernels import njit

__all__ = [
    "BASE",
    "INK",
    "LETTER",
    "LINE_END",
    "LONGEST_PIECE",
    "NO_ROOM",
    "PLAIN",
    "PRIME",
    "PUNCTUATION",
    "SPACE",
    "TERMINAL",
    "TERMINAL_MARKS",
    "TOO_SMALL",
    "UNSEEN",
    "WORDS",
    "Bytes",
    "Hashes",
    "Int",
    "Memo",
    "Offsets",
    "WordMemo",
    "Words",
    "classes",
    "code_points",
    "first_equal",
    "hash_bytes",
    "new_words",
    "next_character",
    "plus",
    "power",
    "read_span",
    "require_words",
    "split_words",
    "string_buffers",
    "times",
    "word_memo",
]

WORDS = ("whitespace", "spacy")

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
    state: Offsets       # how many words are used, how many pieces are new, how many may be
    rules: Rules         # of spaCy's English, or empty tables: then spaCy is asked for every new piece
    scratch: Scratch


_USED, _NEW, _MOST_NEW = range(3)
_NONE = np.zeros(0, dtype=np.uint64)
_NO_RULES = Rules(np.zeros(0, dtype=np.uint16), _NONE, _NONE, _NONE, 0, _NONE)
_WAITS = np.uint64((1 << 64) - 1)
_IS_A_WORD = np.uint64(1)
_ONE = np.uint64(1)
_BYTE = np.uint64(0xFF)
_UPPER_HALF = np.uint64(32)
_NO_ROOM = np.uint64(0)
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
    at = np.int64((key * SPREAD) >> np.uint64(32)) & mask
    while slots[at, 0] != key and slots[at, 0] != 0:
        at = (at + 1) & mask
    return at


@njit(cache=True, nogil=True)
def _meet(data: Bytes, start: Int, end: Int, value: np.uint64, table: Bytes, memo: Memo, waiting: Offsets) -> np.uint64:
    """What to store of a new piece, whose hash is ``value``: _WAITS if spaCy has to be asked, or _NO_ROOM."""
    _, known, state, rules, scratch = memo
    if state[_NEW] == state[_MOST_NEW]:
        return _NO_ROOM
    if rules.kinds.size > 0:
        used = state[_USED]
        if used + LONGEST > len(known):
            return _NO_ROOM
        n = cut(data, start, end, value, rules, scratch)
        if n > 0:
            state[_NEW] += 1
            if n == 1:
                return _IS_A_WORD
            points, at, hashed, bounds = scratch
            for j in range(n):
                low = bounds[j]
                high = bounds[j + 1]
                seen = np.uint64(0)
                for k in range(low, high):
                    seen |= np.uint64(table[points[k]])
                size = np.uint64(at[high] - at[low])
                known[used + j, 0] = hash_part(hashed, at, low, high)
                known[used + j, 1] = (size << _SIZE_BITS) | (np.uint64(high - low) << _LENGTH_BITS) | seen
            state[_USED] = used + n
            return (np.uint64(used) << _COUNT_BITS) | np.uint64(n)
    line = waiting[0, 0]
    if line == len(waiting):
        return _NO_ROOM
    waiting[line, 0] = start
    waiting[line, 1] = end
    waiting[0, 0] = line + 1
    state[_NEW] += 1
    return _WAITS


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
    slots = memo.slots
    known = memo.words
    points = memo.rules.kinds
    filtered = memo.rules.filtered
    hashes, sizes, lengths, kinds = into
    remembers = len(slots) > 0
    knows_rules = points.size > 0
    letter = np.int64(table[0x61])
    last_load = data.size - AT_ONCE
    room = sizes.size
    count: Int = 0
    unseen = False
    i: Int = start
    while i < end:
        if data[i] == 0x20 or data[i] == 0x0A:
            i += 1
            continue
        stop = i
        length = 0
        seen: Int = 0
        value = np.uint64(0)
        if i <= last_load:       # visible ASCII characters, at most AT_ONCE: most pieces
            eight = load64(data, i)
            more = load64(data, i + 8)
            length = visible(eight, more)
            stop = i + length
            if stop >= end:
                length = end - i
            elif length == AT_ONCE or not (data[stop] == 0x20 or data[stop] == 0x0A):
                length = 0
            stop = i + length
        if length > 0:
            value = hash_sixteen(eight, more, length)
            letters = letters_among(eight, more, length)
            marks = 0
            if letters == (_ONE << np.uint64(length)) - _ONE:
                seen = letter
                if knows_rules:  # letters match no rule
                    marks = ONE_TOKEN if not (filtered[(value & FILTER) >> WORD] >> (value & IN_WORD)) & _ONE else 0
            else:
                for k in range(i, stop):
                    seen |= np.int64(table[data[k]])
                if knows_rules:
                    marks = cut_marks(eight, more, length, letters, points, filtered)
            if marks > 0:
                if count + 3 > room:
                    return TOO_SMALL
                size = length
                if marks & WITH_SUFFIX:
                    size -= 1
                    value = hash_sixteen(eight, more, size)
                if marks & WITH_PREFIX:
                    size -= 1
                    mark = eight & _BYTE
                    value = plus(value, PRIME - times(mark + _ONE, power(size)))
                    hashes[count] = mark + _ONE
                    sizes[count] = 1
                    lengths[count] = 1
                    kinds[count] = table[mark]
                    count += 1
                hashes[count] = value
                sizes[count] = size
                lengths[count] = size
                kinds[count] = letter
                count += 1
                if marks & WITH_SUFFIX:
                    mark = byte_of(eight, more, length - 1)
                    hashes[count] = mark + _ONE
                    sizes[count] = 1
                    lengths[count] = 1
                    kinds[count] = table[mark]
                    count += 1
                i = stop
                continue
        else:
            while stop < end:
                point = np.int64(data[stop])
                after = stop + 1
                if point >= 0x80:
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
            key = value | _TAKEN
            at = np.int64((key * SPREAD) >> _UPPER_HALF) & (len(slots) - 1)
            while slots[at, 0] != key and slots[at, 0] != 0:  # as _slot does
                at = (at + 1) & (len(slots) - 1)
            if slots[at, 0] == 0:
                found = _meet(data, i, stop, value, table, memo, waiting)
                if found == _NO_ROOM:
                    return NO_ROOM
                slots[at, 0] = key
                slots[at, 1] = found
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
    slots = memo.slots
    known = memo.words
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


def _with_room(words: Hashes, used: int, room: int) -> Hashes:
    """The array, or a larger one that begins with it, with room for so many more than are used."""
    lacking = used + room - len(words)
    if lacking <= 0:
        return words
    return np.concatenate([words, np.empty((max(lacking, len(words)), 2), dtype=np.uint64)])


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
        rules = _english_rules() if self._spacy and self._language == "en" else None
        self._memo = Memo(
            np.zeros((slots, 2), dtype=np.uint64),
            np.empty((0, 2), dtype=np.uint64),
            np.zeros(3, dtype=np.int64),
            rules or _NO_RULES,
            new_scratch(),
        )
        self._pieces = 0
        self._waits = False

    def begin(self) -> tuple[Memo, Offsets]:
        """The memo, and an empty list for what it lacks."""
        waiting = np.empty((1 + self.AT_ONCE if self._spacy else 1, 2), dtype=np.int64)
        waiting[0] = 1
        if self._spacy:
            if self._waits:  # an error left pieces that nobody asked for
                self.forget()
            self._waits = True
            memo = self._memo
            memo.state[_NEW] = 0
            memo.state[_MOST_NEW] = self.AT_ONCE
            if 2 * (self._pieces + self.AT_ONCE) > len(memo.slots):
                larger = np.zeros((4 * len(memo.slots), 2), dtype=np.uint64)
                _rehash(memo.slots, larger)
                memo = memo._replace(slots=larger)
            if memo.rules.kinds.size:
                memo = memo._replace(words=_with_room(memo.words, int(memo.state[_USED]), LONGEST))
            self._memo = memo
        return self._memo, waiting

    def learn(self, data: Bytes, waiting: Offsets) -> None:
        """Ask spaCy for the pieces that a kernel could not cut."""
        pieces = waiting[1 : waiting[0, 0]]
        memo = self._memo
        self._pieces += int(memo.state[_NEW])
        if len(pieces):
            lines = _join(data, pieces)
            lengths = _spacy_lengths(lines.tobytes().decode(), self._language)
            used = int(memo.state[_USED])
            self._memo = memo = memo._replace(words=_with_room(memo.words, used, len(lengths)))
            memo.state[_USED] = _learn(lines, lengths, classes(), memo, used)
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


@lru_cache(maxsize=1)
def _english_rules() -> Rules | None:
    with _SPACY:
        return english_rules(_spacy_tokenizer("en"))


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
