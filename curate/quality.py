"""Heuristic quality: what a text's words, lines and repetitions look like, and named rules over those numbers.

``measure`` makes no decision. In one pass over the text it writes every number that the profiles ask for: the quality
and repetition heuristics of Gopher (Rae et al. 2021, A1.1 and table A1) and those of FineWeb (Penedo et al. 2024,
section 3.6). ``profile`` returns the rules of a name, so that a threshold is changed without measuring again.

Published rules agree in name and differ in decisions (which words, which lines, does the first copy count), so a
profile's name says whose they are. Those of ``@datatrove`` decide as datatrove's filters do, reason included, and read
columns that are measured on spaCy's words; a text exactly at a threshold is kept. Without ``@`` the same rules read the
columns that are measured on words cut at whitespace, which needs no spaCy and is another decision. spaCy's marks are
words of their own and have no letter, so ``gopher@datatrove`` drops 52 % of a pool of 38,935 documents for too few
words with letters, and ``gopher`` keeps two thirds of those. The decisions of ``gopher_repetition`` differ for 7 % of
all documents, those of ``fineweb`` for 1 % (benchmarks/agreement_datatrove.py).

How the repetitions are counted
    Top 2..4-grams are n words that occur most often, the first of them where several do. An n-gram can occur twice only
    if both (n-1)-grams in it do, so each longer n looks at survivors only.
    Duplicate 5..10-grams are found by walking from left to right: an n-gram seen before adds its characters and is
    jumped over. They are compared as strings without separators ("data set" equals "dataset"), which is why they are
    not pruned by shorter n-grams but by the 16 bytes with which they begin: only where those occur twice can n-grams of
    16 bytes or more.

Every share has a denominator that is written too or is named below; where it is 0, so is the share. A null text has
null numbers, and so fails the first rule of every profile.

Cost, MB of text a CPU second: 50 on whitespace words, 29 on spaCy's, 5 as long as most pieces are new to spaCy; about
100 bytes of memory a word of the longest text. Elsewhere: what a word and a line are (text.py), exact copies
(exact.py), near copies (minhash.py).
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from numba import njit

from curate.columns import FLOAT64, INT64, TEXT
from curate.errors import UnknownSetting
from curate.stage import Grain, Rule, stage
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
    read_span,
    require_words,
    split_words,
    string_buffers,
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

Counts = npt.NDArray[np.int64]

WINDOW = 16              # bytes


@dataclass(frozen=True, kw_only=True)
class QualityMeasure:
    """What ``measure`` takes for a word.

    Args:
        words: ``"whitespace"``: cut at whitespace. ``"spacy"``: the tokens of spaCy's blank English pipeline, as
            datatrove takes them; needs the extra ``datatrove``, and the columns that depend on words are then called
            ``spacy_...``. The profiles ``...@datatrove`` read those.
    """

    words: str = "whitespace"

    def __post_init__(self) -> None:
        require_words(self.words, where=f"QualityMeasure(words={self.words!r})")


# --- What is written: a count, or the share of two counts ------------------------------------------------------------

_OF_LINES: dict[str, int | tuple[int, int]] = {
    "characters": CHARACTERS,
    "lines": INKED_LINES,
    "bullet_line_share": (BULLET_LINES, SPLIT_LINES),
    "ellipsis_line_share": (ELLIPSIS_LINES, SPLIT_LINES),
    "duplicate_paragraph_share": (REPEATED_PARAGRAPHS, PARAGRAPHS),
    "duplicate_paragraph_character_share": (REPEATED_PARAGRAPH_CHARACTERS, CHARACTERS),
    "duplicate_line_share": (REPEATED_LINES, LINES),
    "duplicate_line_character_share": (REPEATED_LINE_CHARACTERS, CHARACTERS),
    "terminal_line_share": (TERMINAL_LINES, INKED_LINES),
    "short_line_share": (SHORT_LINES, INKED_LINES),
    "duplicate_inked_line_character_share": (REPEATED_INKED_CHARACTERS, CHARACTERS),  # newlines are taken off below
}
_OF_WORDS: dict[str, int | tuple[int, int]] = {
    "words": WORDS,
    "plain_words": PLAIN_WORDS,
    "mean_word_length": (PLAIN_CHARACTERS, PLAIN_WORDS),
    "hashes_per_word": (HASHES, WORDS),
    "ellipses_per_word": (ELLIPSES, WORDS),
    "letter_word_share": (LETTER_WORDS, WORDS),
    "stop_words": DISTINCT_STOP_WORDS,
    "newlines_per_word": (NEWLINES, WORDS),
    **{f"top_{n}_gram_character_share": (TOP_GRAMS + n - 2, CHARACTERS) for n in range(2, 5)},
    **{f"duplicate_{n}_gram_character_share": (REPEATED_GRAMS + n - 5, CHARACTERS) for n in range(5, 11)},
}
_PREFIX = {"whitespace": "", "spacy": "spacy_"}


def _columns(config: QualityMeasure) -> dict[str, int | tuple[int, int]]:
    return {**_OF_LINES, **{_PREFIX[config.words] + name: of for name, of in _OF_WORDS.items()}}


def _writes(config: QualityMeasure) -> Mapping[str, pa.DataType]:
    return {name: INT64 if isinstance(of, int) else FLOAT64 for name, of in _columns(config).items()}


@stage(reads={"text": TEXT}, writes=_writes, grain=Grain.EACH, version="1")
def measure(docs: pa.Table, config: QualityMeasure) -> pa.Table:
    """Numbers about words, lines and repetition, a row a text; no decision.

    Counts are int64, shares float64. See the head of this module for how they are defined and the table of
    counts above for each; ``duplicate_...`` never counts the first copy, and characters are code points.
    """
    counts = count(docs["text"], config.words)
    null = np.asarray(docs["text"].is_null())
    written = {}
    for name, of in _columns(config).items():
        if isinstance(of, int):
            values = counts[:, of]
        else:
            above, below = counts[:, of[0]], counts[:, of[1]]
            if of[0] == REPEATED_INKED_CHARACTERS:
                below = below - counts[:, NEWLINES]
            values = np.where(below > 0, above / np.maximum(below, 1), 0.0)
        written[name] = pa.array(values, mask=null)
    return pa.table(written)


def count(texts: pa.Array | pa.ChunkedArray, words: str) -> Counts:
    """All counts, int64 (n, COUNTS), in the columns named at the head of this module. A null is an empty text."""
    offsets, data = string_buffers(texts)
    counts = np.zeros((len(offsets) - 1, COUNTS), dtype=np.int64)
    memory = word_memo(words)
    rows = np.arange(len(counts))
    while len(rows):
        memo, waiting = memory.begin()
        rows = _count_rows(offsets, data, rows, classes(), memo, waiting, _stop_hashes(), counts)
        memory.learn(data, waiting)
    return counts


@lru_cache(maxsize=1)
def _stop_hashes() -> Hashes:
    spelled = [np.frombuffer(word.encode(), dtype=np.uint8) for word in STOP_WORDS]
    return np.array([hash_bytes(letters, 0, len(letters)) for letters in spelled], dtype=np.uint64)


# --- Kernels ----------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _count_rows(
    offsets: Offsets,
    data: Bytes,
    rows: Offsets,
    table: Bytes,
    memo: Memo,
    waiting: Offsets,
    stops: Hashes,
    counts: Counts,
) -> Offsets:
    """Fill ``counts`` for ``rows``; return those that have to wait for words (see ``text.WordMemo``)."""
    late = np.empty(rows.size, dtype=np.int64)
    n_late = 0
    words = new_words(1 << 12)
    for k in range(rows.size):
        row = rows[k]
        start = offsets[row]
        end = offsets[row + 1]
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
        inked_start, inked_end = _count_characters(data, start, end, table, out)
        _count_paragraphs(data, inked_start, inked_end, table, out)
        _count_lines(data, start, end, table, out)
        _count_words(words, n, stops, out)
        _count_top_grams(words, n, out)
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
    while i <= end:
        at_end = i == end
        point: Int = 0
        kind: Int = 0
        after: Int = i + 1
        if not at_end:
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
def _spans(data: Bytes, start: Int, end: Int, newlines: int) -> Offsets:
    """The pieces, int64 (m, 2), between runs of at least so many newlines; at least one, perhaps empty."""
    most = 1
    for k in range(start, end):
        most += data[k] == 0x0A
    spans = np.empty((most, 2), dtype=np.int64)
    spans[0, 0] = start
    m = 0
    i: Int = start
    while i < end:
        if data[i] != 0x0A:
            i += 1
            continue
        run = i
        while i < end and data[i] == 0x0A:
            i += 1
        if i - run >= newlines:
            spans[m, 1] = run
            m += 1
            spans[m, 0] = i
    spans[m, 1] = end
    return spans[: m + 1]


@njit(cache=True, nogil=True)
def _count_paragraphs(data: Bytes, start: Int, end: Int, table: Bytes, out: Counts) -> None:
    spans = _spans(data, start, end, 2)
    m = len(spans)
    out[PARAGRAPHS] = m
    if m == 1:
        return
    keys = np.empty(m, dtype=np.uint64)
    lengths = np.empty(m, dtype=np.int64)
    for k in range(m):
        keys[k], lengths[k], _, _ = read_span(data, spans[k, 0], spans[k, 1], table)
    first = np.empty(m, dtype=np.int32)
    first_equal(keys, first)
    for k in range(m):
        if first[k] != k:
            out[REPEATED_PARAGRAPHS] += 1
            out[REPEATED_PARAGRAPH_CHARACTERS] += lengths[k]


@njit(cache=True, nogil=True)
def _count_lines(data: Bytes, start: Int, end: Int, table: Bytes, out: Counts) -> None:
    spans = _spans(data, start, end, 1)
    m = len(spans)
    out[LINES] = m
    keys = np.empty(m, dtype=np.uint64)
    lengths = np.empty(m, dtype=np.int64)
    inked = np.empty(m, dtype=np.bool_)
    for k in range(m):
        keys[k], lengths[k], seen, last = read_span(data, spans[k, 0], spans[k, 1], table)
        inked[k] = (seen & INK) != 0
        if inked[k]:
            out[INKED_LINES] += 1
            out[TERMINAL_LINES] += (last & TERMINAL) != 0
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
def _count_words(words: Words, n: Int, stops: Hashes, out: Counts) -> None:
    hashes, sizes, lengths, kinds = words
    out[WORDS] = n
    found = 0
    for i in range(n):
        kind = kinds[i]
        out[LETTER_WORDS] += (kind & LETTER) != 0
        if kind & PLAIN:
            out[PLAIN_WORDS] += 1
            out[PLAIN_CHARACTERS] += lengths[i]
        if sizes[i] <= 4:  # no stop word is longer
            for j in range(stops.size):
                if hashes[i] == stops[j]:
                    found |= 1 << j
    for j in range(stops.size):
        out[DISTINCT_STOP_WORDS] += (found >> j) & 1


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
_BYTE = np.uint64(8)


@njit(cache=True, nogil=True)
def _repeating_places(data: Bytes, start: Int, end: Int, table: Bytes, byte: Offsets, n: Int) -> tuple[Offsets, int]:
    """Words where a 5-gram or a longer one may start that occurs twice; how many.

    Equal grams of at least WINDOW bytes begin with the same WINDOW bytes; shorter ones are all let through.
    """
    letters = np.empty(byte[n], dtype=np.uint8)
    filled = 0
    i: Int = start
    while i < end:
        point, after = next_character(data, i, end)
        if not table[point] & SPACE:
            for j in range(i, after):
                letters[filled] = data[j]
                filled += 1
        i = after
    keys = np.empty(n, dtype=np.uint64)
    m = 0
    while m < n and byte[m] + WINDOW <= filled:
        left = np.uint64(0)
        right = np.uint64(0)
        at = byte[m]
        for j in range(8):
            left = (left << _BYTE) | np.uint64(letters[at + j])
            right = (right << _BYTE) | np.uint64(letters[at + 8 + j])
        left *= _MIX_LEFT
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


# --- Profiles ---------------------------------------------------------------------------------------------------------


def _gopher(prefix: str) -> tuple[Rule, ...]:
    word = _reader(prefix)
    return (
        Rule(word("plain_words") >= 50, "gopher_short_doc"),
        Rule(word("plain_words") <= 100_000, "gopher_long_doc"),
        Rule(word("mean_word_length") >= 3, "gopher_below_avg_threshold"),
        Rule(word("mean_word_length") <= 10, "gopher_above_avg_threshold"),
        Rule(word("hashes_per_word") <= 0.1, "gopher_too_many_hashes"),
        Rule(word("ellipses_per_word") <= 0.1, "gopher_too_many_ellipsis"),
        Rule(pl.col("bullet_line_share") <= 0.9, "gopher_too_many_bullets"),
        Rule(pl.col("ellipsis_line_share") <= 0.3, "gopher_too_many_end_ellipsis"),
        Rule(word("letter_word_share") >= 0.8, "gopher_below_alpha_threshold"),
        Rule(word("stop_words") >= 2, "gopher_enough_stop_words"),
    )


def _gopher_repetition(prefix: str) -> tuple[Rule, ...]:
    word = _reader(prefix)
    top = {2: 0.20, 3: 0.18, 4: 0.16}
    repeated = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    return (
        Rule(pl.col("characters") > 0, "empty"),
        Rule(pl.col("duplicate_paragraph_share") <= 0.3, "dup_para_frac"),
        Rule(pl.col("duplicate_paragraph_character_share") <= 0.2, "dup_para_char_frac"),
        Rule(pl.col("duplicate_line_share") <= 0.3, "dup_line_frac"),
        Rule(pl.col("duplicate_line_character_share") <= 0.2, "dup_line_char_frac"),
        *(Rule(word(f"top_{n}_gram_character_share") <= most, f"top_{n}_gram") for n, most in top.items()),
        *(
            Rule(word(f"duplicate_{n}_gram_character_share") <= most, f"duplicated_{n}_n_grams")
            for n, most in repeated.items()
        ),
    )


def _fineweb(prefix: str) -> tuple[Rule, ...]:
    word = _reader(prefix)
    return (
        Rule(pl.col("lines") > 0, "empty"),
        Rule(pl.col("terminal_line_share") >= 0.12, "line_punct_ratio"),
        Rule(pl.col("short_line_share") <= 0.67, "short_line_ratio"),
        Rule(pl.col("duplicate_inked_line_character_share") <= 0.01, "char_dup_ratio"),
        Rule(word("newlines_per_word") <= 0.3, "list_ratio"),
    )


def _light(_prefix: str) -> tuple[Rule, ...]:
    return (
        Rule(pl.col("lines") > 0, "empty"),
        Rule(pl.col("duplicate_line_share") <= 0.3, "dup_line_frac"),
    )


def _reader(prefix: str) -> Callable[[str], pl.Expr]:
    return lambda name: pl.col(prefix + name)


PROFILES: Mapping[str, Callable[[str], tuple[Rule, ...]]] = {
    "light": _light,
    "gopher": _gopher,
    "gopher_repetition": _gopher_repetition,
    "fineweb": _fineweb,
}
_WHOSE = {"": "", "@datatrove": _PREFIX["spacy"]}


def profile(*names: str) -> tuple[Rule, ...]:
    """The rules of named profiles, in order; the first that fails is the reason a text is dropped for.

    Args:
        names: of ``light`` (something is written in it, at most 30 % of its lines repeat another), ``gopher``,
            ``gopher_repetition`` and ``fineweb``, on the words of ``QualityMeasure(words="whitespace")``; or of
            ``gopher@datatrove``, ``gopher_repetition@datatrove`` and ``fineweb@datatrove``, which decide and give
            reasons as datatrove's filters for English do by default, and need ``QualityMeasure(words="spacy")``.
            FineWeb applied them in the order gopher_repetition, gopher, fineweb.

    Raises:
        UnknownSetting: there is no such profile.
    """
    rules: list[Rule] = []
    known = {name + whose: (name, prefix) for name in PROFILES for whose, prefix in _WHOSE.items()}
    del known["light@datatrove"]
    for asked in names:
        if asked not in known:
            near = difflib.get_close_matches(asked, known, n=1)
            raise UnknownSetting(
                f"there is no quality profile {asked!r}",
                where=f"quality.profile({asked!r})",
                fix=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(known)}",
            )
        name, prefix = known[asked]
        rules.extend(PROFILES[name](prefix))
    return tuple(rules)
