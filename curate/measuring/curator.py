"""Counts as NeMo Curator takes them (NVIDIA-NeMo/Curator, ``nemo_curator/stages/text/filters/heuristic``).

Words are runs without whitespace. A line has something in it and is compared as it stands; a paragraph is what
``str.split`` cuts at two newlines, empty ones among them. A top n-gram's share is what the text loses when every copy
of the n-gram, written with single spaces, is cut out of it, inside other words too; across a line end it is not found.

Where several n-grams are most frequent, Curator takes the one that its Python process happens to list first, which
changes with PYTHONHASHSEED. Here it is the one that comes first in the text.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.measuring.grams import GRAMS, LATER_COPIES, TOP_PLACE, count_grams
from curate.measuring.pieces import between, count_copies, ends_with, inked
from curate.measuring.unicode import ALPHABETIC, marks
from curate.text import (
    INK,
    TOO_SMALL,
    Bytes,
    Hashes,
    Int,
    Memo,
    Offsets,
    classes,
    code_points,
    hash_bytes,
    new_words,
    next_character,
    split_words,
    word_memo,
)

CHARACTERS = 0
PLAIN = 1                # A-Z a-z 0-9 ! ? , . and newlines
DIGITS = 2               # 0-9
BLANKS = 3               # tab, newline, carriage return, backspace, space
BRACKETS = 4             # ( ) [ ] { } and mathematical angle brackets
URL_CHARACTERS = 5
WORDS = 6
WORD_CHARACTERS = 7
LONGEST_WORD = 8
ALPHABETIC_WORDS = 9     # with a character of the property Alphabetic
STOP_WORDS = 10          # occurrences, in lower case
SYMBOL_WORDS = 11        # an ellipsis, or more than half as many runs of "#" as characters
LINES = 12               # six columns: see pieces.count_copies
UNENDED_LINES = 18       # without . ? ! " ' at the end
ELLIPSIS_LINES = 19
BULLET_LINES = 20
PARAGRAPHS = 21          # six columns
BOILERPLATE = 27         # paragraphs with a policy phrase; all of them, if "lorem ipsum" is in one
TOP_GRAMS = 28           # three columns
LATER_GRAMS = 31         # six
COUNTS = 37

_STOPS = ("the", "be", "to", "of", "and", "that", "have", "with")
_ELLIPSES = ("...", "[...]", "…", "(...)", "[…]", "-»")           # a whole word
_ELLIPSIS_ENDS = tuple(
    np.frombuffer(mark.encode(), dtype=np.uint8)
    for mark in ("...", "[...]", "…", "(...)", "[…]", "-»", "read more..", "read more")
)
_BULLETS = tuple(code_points("2022 2023 2043 204C 204D 2219 25CB 25CF 25D8 25E6 29BE 29BF"))
# Curator looks for longer sentences too; those that hold one of these phrases are found by it, and the three others,
# of a common cookie notice, by their hash: bytes, hash of the whole in lower case.
_PHRASES = tuple(
    np.frombuffer(phrase.encode(), dtype=np.uint8)
    for phrase in (
        "terms of use",
        "privacy policy",
        "cookie policy",
        "uses cookies",
        "privacy overview",
        "use of cookies",
        "use cookies",
        "privacy & cookies policy",
        "privacy and cookies policy",
    )
)
_LOREM = np.frombuffer(b"lorem ipsum", dtype=np.uint8)
_NOTICES = np.array(
    [(242, 498901148819132364), (302, 1121851014530417884), (113, 782020829581403436)], dtype=np.uint64
)
_NOTICE_STARTS = tuple(
    np.frombuffer(words.encode(), dtype=np.uint8) for words in ("necessary cookies", "any cookies", "if you continue")
)


def count(offsets: Offsets, data: Bytes, *, basics: bool, repetition: bool) -> Offsets:
    """Counts, int64 (n, COUNTS): ``basics`` are the characters, words and lines, ``repetition`` copies and n-grams."""
    counts = np.zeros((len(offsets) - 1, COUNTS), dtype=np.int64)
    memo, waiting = word_memo("whitespace").begin()
    hashes = _hashes(_STOPS), _hashes(_ELLIPSES)
    _count(offsets, data, classes(), marks(), memo, waiting, *hashes, basics, repetition, counts)
    return counts


def _hashes(words: tuple[str, ...]) -> Hashes:
    spelled = [np.frombuffer(word.encode(), dtype=np.uint8) for word in words]
    return np.array([hash_bytes(letters, 0, len(letters)) for letters in spelled], dtype=np.uint64)


@njit(cache=True, nogil=True)
def _count(
    offsets: Offsets,
    data: Bytes,
    table: Bytes,
    marked: Bytes,
    memo: Memo,
    waiting: Offsets,
    stops: Hashes,
    ellipses: Hashes,
    basics: bool,
    repetition: bool,
    counts: Offsets,
) -> None:
    words = new_words(1 << 12)
    starts = np.empty(1 << 12, dtype=np.int64)
    grams = np.empty(GRAMS, dtype=np.int64)
    for row in range(len(counts)):
        start = offsets[row]
        end = offsets[row + 1]
        out = counts[row]
        n = split_words(data, start, end, table, memo, waiting, words)
        while n == TOO_SMALL:
            words = new_words(2 * words.sizes.size)
            n = split_words(data, start, end, table, memo, waiting, words)
        while starts.size < words.sizes.size:
            starts = np.empty(2 * starts.size, dtype=np.int64)
        _count_characters(data, start, end, table, marked, starts, out)
        _, sizes, lengths, _ = words
        out[WORDS] = n
        for i in range(n):
            out[WORD_CHARACTERS] += lengths[i]
            out[LONGEST_WORD] = max(out[LONGEST_WORD], lengths[i])
        lines = inked(data, between(data, start, end, 1), table)
        paragraphs = between(data, start, end, 2)
        count_copies(data, lines, table, out[LINES:])
        count_copies(data, paragraphs, table, out[PARAGRAPHS:])
        if basics:
            for i in range(n):
                if sizes[i] <= 6:
                    for j in range(stops.size):
                        out[STOP_WORDS] += words.hashes[i] == stops[j]
                    for j in range(ellipses.size):
                        out[SYMBOL_WORDS] += words.hashes[i] == ellipses[j]
            out[URL_CHARACTERS] = _url_characters(data, start, end)
            _count_lines(data, lines, table, out)
            out[BOILERPLATE] = _boilerplate(data, paragraphs)
        if repetition:
            grams[:] = 0
            count_grams(words, n, grams)
            for size in range(2, min(n, 4) + 1):
                place = grams[TOP_PLACE + size - 2]
                characters = size - 1
                for i in range(place, place + size):
                    characters += lengths[i]
                found = _occurrences(data, start, end, starts, sizes, place, size)
                out[TOP_GRAMS + size - 2] = found * characters
            out[LATER_GRAMS : LATER_GRAMS + 6] = grams[LATER_COPIES : LATER_COPIES + 6]


@njit(cache=True, nogil=True)
def _count_characters(
    data: Bytes, start: Int, end: Int, table: Bytes, marked: Bytes, starts: Offsets, out: Offsets
) -> None:
    """Single characters, words of marks, and where each word starts."""
    n = 0
    inside = False
    alphabetic = False
    runs = 0                 # of "#" in the word
    length = 0
    before: Int = 0
    i: Int = start
    while i < end:
        point, after = next_character(data, i, end)
        out[CHARACTERS] += 1
        if point < 0x80:
            letter = 0x41 <= (point & 0xDF) <= 0x5A
            digit = 0x30 <= point <= 0x39
            mark = point == 0x0A or point == 0x21 or point == 0x2C or point == 0x2E or point == 0x3F
            out[PLAIN] += letter or digit or mark
            out[DIGITS] += digit
            out[BLANKS] += point == 0x20 or 0x08 <= point <= 0x0A or point == 0x0D
            out[BRACKETS] += (
                point == 0x28 or point == 0x29 or point == 0x5B or point == 0x5D or point == 0x7B or point == 0x7D
            )
        else:
            out[BRACKETS] += point == 0x27E8 or point == 0x27E9
        if table[point] & INK:
            if not inside:
                starts[n] = i
                n += 1
                inside = True
                alphabetic = False
                runs = 0
                length = 0
                before = 0
            length += 1
            runs += point == 0x23 and before != 0x23
            alphabetic |= (marked[point] & ALPHABETIC) != 0
            before = point
        if inside and (not table[point] & INK or after == end):
            inside = False
            out[ALPHABETIC_WORDS] += alphabetic
            out[SYMBOL_WORDS] += 2 * runs > length
        i = after


@njit(cache=True, nogil=True)
def _in_url(data: Bytes, i: Int, end: Int) -> int:
    """How many bytes at ``i`` go on with a URL: 0, 1, or 3 for a percent sign and two hexadecimal digits."""
    byte = data[i]
    if 0x30 <= byte <= 0x39 or 0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A:
        return 1
    if byte == 0x25:
        for j in (i + 1, i + 2):
            if j >= end:
                return 0
            digit = data[j]
            if not (0x30 <= digit <= 0x39 or 0x41 <= digit <= 0x46 or 0x61 <= digit <= 0x66):
                return 0
        return 3
    for mark in _URL_MARKS:
        if byte == mark:
            return 1
    return 0


_URL_MARKS = np.frombuffer(b"$-_@.&+/:=?#~!*(),", dtype=np.uint8)


@njit(cache=True, nogil=True)
def _url_characters(data: Bytes, start: Int, end: Int) -> Int:
    """Characters (all ASCII) of what follows ``http://`` or ``https://``, that included."""
    total: Int = 0
    i: Int = start
    while i + 8 <= end:
        if data[i] != 0x68 or data[i + 1] != 0x74 or data[i + 2] != 0x74 or data[i + 3] != 0x70:
            i += 1
            continue
        at = i + 4
        if data[at] == 0x73:
            at += 1
        if at + 3 >= end or data[at] != 0x3A or data[at + 1] != 0x2F or data[at + 2] != 0x2F:
            i += 1
            continue
        at += 3
        rest = at
        while at < end:
            size = _in_url(data, at, end)
            if size == 0:
                break
            at += size
        if at > rest:
            total += at - i
            i = at
        else:
            i += 1
    return total


@njit(cache=True, nogil=True)
def _count_lines(data: Bytes, lines: Offsets, table: Bytes, out: Offsets) -> None:
    for k in range(len(lines)):
        first: Int = -1
        first_end: Int = -1
        last: Int = lines[k, 0]
        i = lines[k, 0]
        while i < lines[k, 1]:
            point, after = next_character(data, i, lines[k, 1])
            if table[point] & INK:
                if first < 0:
                    first = i
                    first_end = after
                last = after
            i = after
        point, _ = next_character(data, first, first_end)
        for bullet in _BULLETS:
            out[BULLET_LINES] += point == bullet
        mark = data[last - 1]
        out[UNENDED_LINES] += not (mark == 0x2E or mark == 0x3F or mark == 0x21 or mark == 0x22 or mark == 0x27)
        for suffix in _ELLIPSIS_ENDS:
            if ends_with(data, first, last, suffix):
                out[ELLIPSIS_LINES] += 1
                break


@njit(cache=True, nogil=True)
def _starts_with(data: Bytes, at: Int, end: Int, prefix: Bytes) -> bool:
    if end - at < prefix.size:
        return False
    for k in range(prefix.size):
        if data[at + k] != prefix[k]:
            return False
    return True


@njit(cache=True, nogil=True)
def _boilerplate(data: Bytes, paragraphs: Offsets) -> Int:
    """Paragraphs with a policy phrase; all of them, if "lorem ipsum" is in one."""
    # In lower case as str.lower writes it, as far as ASCII letters come out of it: those of the Kelvin sign too.
    size = paragraphs[-1, 1] - paragraphs[0, 0]
    lower = np.empty(size, dtype=np.uint8)
    found = 0
    for k in range(len(paragraphs)):
        n: Int = 0
        i = paragraphs[k, 0]
        while i < paragraphs[k, 1]:
            byte = data[i]
            if 0x41 <= byte <= 0x5A:
                byte += np.uint8(0x20)
            elif byte == 0xE2 and i + 2 < paragraphs[k, 1] and data[i + 1] == 0x84 and data[i + 2] == 0xAA:
                byte = np.uint8(0x6B)
                i += 2
            lower[n] = byte
            n += 1
            i += 1
        policy = False
        for at in range(n):
            byte = lower[at]
            if byte == 0x6C and _starts_with(lower, at, n, _LOREM):
                return len(paragraphs)
            known = byte == 0x74 or byte == 0x70 or byte == 0x63 or byte == 0x75
            if policy or not (known or byte == 0x6E or byte == 0x61 or byte == 0x69):
                continue  # no phrase begins with it
            for phrase in _PHRASES:
                policy |= _starts_with(lower, at, n, phrase)
            for j, words in enumerate(_NOTICE_STARTS):
                if _starts_with(lower, at, n, words):
                    length = np.int64(_NOTICES[j, 0])
                    if at + length <= n and hash_bytes(lower, at, at + length) == _NOTICES[j, 1]:
                        policy = True
        found += policy
    return found


@njit(cache=True, nogil=True)
def _occurrences(
    data: Bytes, start: Int, end: Int, starts: Offsets, sizes: npt.NDArray[np.int32], place: Int, words: int
) -> Int:
    """How often words from ``place`` on, joined by a space, occur in the text without overlap."""
    size = words - 1
    for i in range(place, place + words):
        size += sizes[i]
    needle = np.empty(size, dtype=np.uint8)
    n = 0
    for i in range(place, place + words):
        if i > place:
            needle[n] = 0x20
            n += 1
        for j in range(sizes[i]):
            needle[n] = data[starts[i] + j]
            n += 1
    found: Int = 0
    at: Int = start
    while at + size <= end:
        if data[at] == needle[0] and _starts_with(data, at, end, needle):
            found += 1
            at += size
        else:
            at += 1
    return found
