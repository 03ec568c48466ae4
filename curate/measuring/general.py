"""Counts of words, lines and repetition as Gopher and FineWeb define them and datatrove takes them, on any words.

Top 2..4-grams are n words that occur most often, the first of them where several do. An n-gram can occur twice only
if both (n-1)-grams in it do, so each longer n looks at survivors only. Duplicate 5..10-grams are found by walking from
left to right: an n-gram seen before adds its characters and is jumped over. They are compared as strings without
separators ("data set" equals "dataset"), which is why they are not pruned by shorter n-grams but by the 16 bytes with
which they begin: only where those occur twice can n-grams of 16 bytes or more.

Only the groups of counts that are asked for are filled; without one that needs words, the text is not cut into words.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.characters import has_byte, load64
from curate.measuring.pieces import between_runs
from curate.text import (
    INK,
    LETTER,
    LINE_END,
    NO_ROOM,
    PLAIN,
    PRIME,
    SPACE,
    TERMINAL,
    TOO_SMALL,
    UNSEEN,
    Bytes,
    Hashes,
    Int,
    Memo,
    Offsets,
    Words,
    classes,
    first_equal,
    hash_bytes,
    new_words,
    next_character,
    plus,
    power,
    split_words,
    times,
    word_memo,
)

SHORT_LINE = 30          # characters (FineWeb)
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher, A1.1

# The columns of the count matrix that the kernel fills.
CHARACTERS = 0           # code points
NEWLINES = 1
HASHES = 2               # "#"
ELLIPSES = 3             # "..." and "…"
SPLIT_LINES = 4          # as str.splitlines cuts
BULLET_LINES = 5         # of those, the ones that start with "•" or "-" after whitespace
ELLIPSIS_LINES = 6       # of those, the ones that end in an ellipsis before whitespace
PARAGRAPHS = 7           # of the text without whitespace around it, cut at runs of two or more newlines
REPEATED_PARAGRAPHS = 8  # the first copy not counted
REPEATED_PARAGRAPH_CHARACTERS = 9
LINES = 10               # cut at runs of newlines; a text that starts or ends with one has an empty line there
REPEATED_LINES = 11
REPEATED_LINE_CHARACTERS = 12
INKED_LINES = 13         # lines with something in them
TERMINAL_LINES = 14      # of those, the ones whose last character ends a sentence
SHORT_LINES = 15         # of those, the ones with at most SHORT_LINE characters
REPEATED_INKED_CHARACTERS = 16
WORDS = 17
PLAIN_WORDS = 18         # with a character that is no punctuation
PLAIN_CHARACTERS = 19    # in those
LETTER_WORDS = 20        # with a letter
DISTINCT_STOP_WORDS = 21
TOP_GRAMS = 22           # three columns: characters of all copies of the most frequent 2-, 3-, 4-gram, joined by spaces
REPEATED_GRAMS = 25      # six columns: characters of repeated 5- to 10-grams
COUNTS = 31

# Groups of counts, bits of what is asked for.
SINGLE = 1               # characters, and lines as str.splitlines cuts
PARAGRAPH = 2
LINE = 4
WORD = 8
TOP = 16
REPEATED = 32
GROUP_OF = [SINGLE] * 7 + [PARAGRAPH] * 3 + [LINE] * 7 + [WORD] * 5 + [TOP] * 3 + [REPEATED] * 6  # by count
OF_WORDS = WORD | TOP | REPEATED
EVERYTHING = SINGLE | PARAGRAPH | LINE | OF_WORDS

Counts = npt.NDArray[np.int64]

WINDOW = 16              # bytes


def count(
    offsets: Offsets, data: Bytes, words: str, stop_words: tuple[str, ...] = STOP_WORDS, groups: int = EVERYTHING
) -> Counts:
    """Counts, int64 (n, COUNTS), in the columns named above; those of groups that are not asked for are 0.

    Args:
        offsets: of the texts (``text.string_buffers``).
        data: their bytes.
        words: one of ``text.WORDS``, or ``"spacy:xx"`` for another language.
        stop_words: distinct ones among the words are counted.
        groups: sum of the groups that are asked for.
    """
    counts = np.zeros((len(offsets) - 1, COUNTS), dtype=np.int64)
    memory = word_memo(words if groups & OF_WORDS else "whitespace")
    spelled = [np.frombuffer(word.encode(), dtype=np.uint8) for word in dict.fromkeys(stop_words)]
    stops = np.array([hash_bytes(letters, 0, len(letters)) for letters in spelled], dtype=np.uint64)
    rows = np.arange(len(counts))
    while len(rows):
        memo, waiting = memory.begin()
        rows = _count_rows(offsets, data, rows, classes(), memo, waiting, stops, groups, counts)
        memory.learn(data, waiting)
    return counts


@njit(cache=True, nogil=True)
def _count_rows(
    offsets: Offsets,
    data: Bytes,
    rows: Offsets,
    table: Bytes,
    memo: Memo,
    waiting: Offsets,
    stops: Hashes,
    groups: int,
    counts: Counts,
) -> Offsets:
    """Fill ``counts`` for ``rows``; return those that have to wait for words (see ``text.WordMemo``)."""
    late = np.empty(rows.size, dtype=np.int64)
    n_late = 0
    words = new_words(1 << 12)
    filters = np.uint64(0)       # one bit of each stop word's hash: most words match none
    for stop in stops:
        filters |= np.uint64(1) << (stop & np.uint64(63))
    for k in range(rows.size):
        row = rows[k]
        start = offsets[row]
        end = offsets[row + 1]
        n: Int = 0
        if groups & OF_WORDS:
            n = split_words(data, start, end, table, memo, waiting, words)
            while n == TOO_SMALL:
                words = new_words(2 * words.sizes.size)
                n = split_words(data, start, end, table, memo, waiting, words)
        if n == NO_ROOM:
            while k < rows.size:
                late[n_late] = rows[k]
                n_late += 1
                k += 1
            break
        if n == UNSEEN:
            late[n_late] = row
            n_late += 1
            continue
        out = counts[row]
        if groups & (SINGLE | PARAGRAPH):
            inked_start, inked_end = _count_characters(data, start, end, table, out)
            if groups & PARAGRAPH:
                _count_paragraphs(data, inked_start, inked_end, out)
        if groups & LINE:
            _count_lines(data, start, end, table, out)
        if groups & WORD:
            _count_words(words, n, stops, filters, out)
        if groups & TOP:
            _count_top_grams(words, n, out)
        if groups & REPEATED:
            _count_repeated_grams(data, start, end, table, words, n, out)
    return late[:n_late]


@njit(cache=True, nogil=True)
def _count_characters(data: Bytes, start: Int, end: Int, table: Bytes, out: Counts) -> tuple[Int, Int]:
    """Single characters, and how the lines of ``str.splitlines`` start and end.

    Returns the bytes between which the text lies without the whitespace around it.
    """
    inked_start: Int = end
    inked_end: Int = end
    open_line = False        # a character since the last line end
    first: Int = 0           # of the line's characters, the first that is not whitespace; 0 before there is one
    dots = 0                 # full stops just before this place
    tail = 0                 # full stops that end the line, whitespace left aside; an ellipsis character is three
    before: Int = 0
    i: Int = start
    last_load = min(end, data.size) - 8
    while i <= end:
        if i <= last_load:       # eight bytes of ASCII without a control character, "#" or "."
            eight = load64(data, i)
            found = (((eight - _SPACES) | eight) & _HIGHS) | has_byte(eight, _NUMBER_SIGNS) | has_byte(eight, _STOPS)
            if found == 0:
                out[CHARACTERS] += 8
                open_line = True
                dots = 0
                before = 0x20
                if eight != _SPACES:
                    tail = 0
                    if first == 0:
                        k = i
                        while data[k] == 0x20:
                            k += 1
                        first = np.int64(data[k])
                        if inked_start == end:
                            inked_start = k
                    inked_end = i + 8
                    while data[inked_end - 1] == 0x20:
                        inked_end -= 1
                i += 8
                continue
        at_end = i == end
        point: Int = 0
        kind: Int = 0
        after: Int = i + 1
        if not at_end:
            point = np.int64(data[i])
            if point >= 0x80:
                point, after = next_character(data, i, end)
            kind = np.int64(table[point])
            out[CHARACTERS] += 1
            out[NEWLINES] += point == 0x0A
            out[HASHES] += point == 0x23
            dots = dots + 1 if point == 0x2E else 0
            out[ELLIPSES] += point == 0x2026 or (dots > 0 and dots % 3 == 0)
        if (at_end and open_line) or (kind & LINE_END and not (point == 0x0A and before == 0x0D)):
            out[SPLIT_LINES] += 1
            out[BULLET_LINES] += first == 0x2022 or first == 0x2D
            out[ELLIPSIS_LINES] += tail >= 3
        if kind & LINE_END:
            open_line = False
            first = 0
            tail = 0
        elif not at_end:
            open_line = True
        if kind & INK:
            if inked_start == end:
                inked_start = i
            inked_end = after
            if first == 0:
                first = point if point > 0 else 1
            tail = 3 if point == 0x2026 else dots
        before = point
        i = after
    return inked_start, inked_end


@njit(cache=True, nogil=True)
def _characters(data: Bytes, start: Int, end: Int) -> Int:
    """Code points of a text in UTF-8: bytes that do not go on with one."""
    count: Int = 0
    for i in range(start, end):
        count += (data[i] & 0xC0) != 0x80
    return count


@njit(cache=True, nogil=True)
def _count_paragraphs(data: Bytes, start: Int, end: Int, out: Counts) -> None:
    spans = between_runs(data, start, end, 2)
    m = len(spans)
    out[PARAGRAPHS] = m
    if m == 1:
        return
    keys = np.empty(m, dtype=np.uint64)
    lengths = np.empty(m, dtype=np.int64)
    for k in range(m):
        keys[k] = hash_bytes(data, spans[k, 0], spans[k, 1])
        lengths[k] = _characters(data, spans[k, 0], spans[k, 1])
    first = np.empty(m, dtype=np.int32)
    first_equal(keys, first)
    for k in range(m):
        if first[k] != k:
            out[REPEATED_PARAGRAPHS] += 1
            out[REPEATED_PARAGRAPH_CHARACTERS] += lengths[k]


@njit(cache=True, nogil=True)
def _count_lines(data: Bytes, start: Int, stop: Int, table: Bytes, out: Counts) -> None:
    spans = between_runs(data, start, stop, 1)
    m = len(spans)
    out[LINES] = m
    keys = np.empty(m, dtype=np.uint64)
    lengths = np.empty(m, dtype=np.int64)
    inked = np.empty(m, dtype=np.bool_)
    for k in range(m):
        i = spans[k, 0]
        end = spans[k, 1]
        keys[k] = hash_bytes(data, i, end)
        lengths[k] = _characters(data, i, end)
        inked[k] = False
        while i < end and not inked[k]:  # most lines begin with something
            point, i = next_character(data, i, end)
            inked[k] = (table[point] & INK) != 0
        if inked[k]:
            last = end - 1
            while last > spans[k, 0] and data[last] & 0xC0 == 0x80:
                last -= 1
            point, _ = next_character(data, last, end)
            out[INKED_LINES] += 1
            out[TERMINAL_LINES] += (table[point] & TERMINAL) != 0
            out[SHORT_LINES] += lengths[k] <= SHORT_LINE
    first = np.empty(m, dtype=np.int32)
    first_equal(keys, first)
    for k in range(m):
        if first[k] != k:
            out[REPEATED_LINES] += 1
            out[REPEATED_LINE_CHARACTERS] += lengths[k]
            if inked[k]:
                out[REPEATED_INKED_CHARACTERS] += lengths[k]


@njit(cache=True, nogil=True)
def _count_words(words: Words, n: Int, stops: Hashes, filters: np.uint64, out: Counts) -> None:
    hashes, _, lengths, kinds = words
    out[WORDS] = n
    found = np.zeros(stops.size, dtype=np.bool_)
    for i in range(n):
        kind = kinds[i]
        out[LETTER_WORDS] += (kind & LETTER) != 0
        if kind & PLAIN:
            out[PLAIN_WORDS] += 1
            out[PLAIN_CHARACTERS] += lengths[i]
        if (filters >> (hashes[i] & np.uint64(63))) & np.uint64(1):
            for j in range(stops.size):
                if hashes[i] == stops[j]:
                    found[j] = True
    for j in range(stops.size):
        out[DISTINCT_STOP_WORDS] += found[j]


_EIGHT = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_SPACES = _EIGHT * np.uint64(0x20)
_NUMBER_SIGNS = _EIGHT * np.uint64(0x23)
_STOPS = _EIGHT * np.uint64(0x2E)
_STRIDE = np.uint64(0x0B7E151628AED2A6)          # of the polynomial over words; any number below PRIME does


@njit(cache=True, nogil=True)
def _count_top_grams(words: Words, n: Int, out: Counts) -> None:
    """Characters of all copies of the most frequent 2-, 3- and 4-gram; of the first one, where none occurs twice."""
    places = np.arange(n)                        # where a gram may start that occurs twice
    keys = np.empty(n, dtype=np.uint64)
    first = np.empty(n, dtype=np.int32)
    copies = np.empty(n, dtype=np.int32)
    twice = np.ones(n + 1, dtype=np.bool_)       # by place: the shorter gram there occurs twice
    m = n
    hashes, _, lengths, _ = words
    for size in range(2, 5):
        if n < size:
            return
        kept = 0
        for k in range(m):
            i = places[k]
            if i + size <= n and twice[i] and twice[i + 1]:
                places[kept] = i
                kept += 1
        m = kept
        for k in range(m):
            i = places[k]
            key = hashes[i]
            for j in range(i + 1, i + size):
                key = plus(times(key, _STRIDE), hashes[j])
            keys[k] = key
        first_equal(keys[:m], first)
        copies[:m] = 0
        for k in range(m):
            copies[first[k]] += 1
        most = 1
        best = 0
        twice[:] = False
        for k in range(m):
            if copies[first[k]] > 1:
                twice[places[k]] = True
            if copies[k] > most:
                most = copies[k]
                best = places[k]
        length = size - 1
        for j in range(best, best + size):
            length += lengths[j]
        out[TOP_GRAMS + size - 2] = most * length


_MIX_LEFT = np.uint64(0x9E3779B97F4A7C15)
_MIX_RIGHT = np.uint64(0xC2B2AE3D27D4EB4F)


@njit(cache=True, nogil=True)
def _repeating_places(data: Bytes, start: Int, end: Int, table: Bytes, byte: Offsets, n: Int) -> tuple[Offsets, int]:
    """Words where a 5-gram or a longer one may start that occurs twice; how many.

    Equal grams of at least WINDOW bytes begin with the same WINDOW bytes; shorter ones are all let through.
    """
    letters = np.empty(byte[n] + 1, dtype=np.uint8)  # a space at the end is written, and not counted
    filled = 0
    i: Int = start
    while i < end:
        point: Int = np.int64(data[i])
        if point < 0x80:
            letters[filled] = point
            filled += not table[point] & SPACE
            i += 1
            continue
        point, after = next_character(data, i, end)
        if not table[point] & SPACE:
            for j in range(i, after):
                letters[filled] = data[j]
                filled += 1
        i = after
    keys = np.empty(n, dtype=np.uint64)
    m = 0
    while m < n and byte[m] + WINDOW <= filled:
        left = load64(letters, byte[m]) * _MIX_LEFT
        right = load64(letters, byte[m] + 8)
        keys[m] = (left ^ (left >> np.uint64(29))) + right * _MIX_RIGHT
        m += 1
    first = np.empty(m, dtype=np.int32)
    first_equal(keys[:m], first)
    twice = np.zeros(m, dtype=np.bool_)
    for i in range(m):
        if first[i] != i:
            twice[i] = True
            twice[first[i]] = True
    places = np.empty(n, dtype=np.int64)
    kept = 0
    for i in range(n - 4):
        if byte[i + 5] - byte[i] < WINDOW or twice[i]:
            places[kept] = i
            kept += 1
    return places, kept


@njit(cache=True, nogil=True)
def _count_repeated_grams(data: Bytes, start: Int, end: Int, table: Bytes, words: Words, n: Int, out: Counts) -> None:
    """Characters of repeated 5- to 10-grams, written without spaces."""
    if n < 6:
        return
    byte = np.empty(n + 1, dtype=np.int64)       # of the text without whitespace, where word i starts
    character = np.empty(n + 1, dtype=np.int64)
    hashed = np.empty(n + 1, dtype=np.uint64)    # hash of all words before word i
    hashes, sizes, lengths, _ = words
    byte[0] = 0
    character[0] = 0
    hashed[0] = 0
    for i in range(n):
        byte[i + 1] = byte[i] + sizes[i]
        character[i + 1] = character[i] + lengths[i]
        hashed[i + 1] = plus(times(hashed[i], power(sizes[i])), hashes[i])
    places, m = _repeating_places(data, start, end, table, byte, n)
    keys = np.empty(m, dtype=np.uint64)
    first = np.empty(m, dtype=np.int32)
    met = np.empty(m, dtype=np.bool_)
    for size in range(5, 11):
        while m > 0 and places[m - 1] + size > n:
            m -= 1
        for k in range(m):
            i = places[k]
            before = times(hashed[i], power(byte[i + size] - byte[i]))
            keys[k] = plus(hashed[i + size], PRIME - before)
        first_equal(keys[:m], first)
        met[:m] = False
        resume = 0
        for k in range(m):
            i = places[k]
            if i < resume:
                continue
            if met[first[k]]:
                out[REPEATED_GRAMS + size - 5] += character[i + size] - character[i]
                resume = i + size
            else:
                met[first[k]] = True
