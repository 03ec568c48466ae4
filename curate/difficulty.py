"""How hard a text is to learn: numbers to order the documents of a mix by.

``compress`` (EACH) writes ``compression_ratio``, ``read`` (EACH) the others. Zhang et al. (2025, arXiv 2506.11300)
ordered pre-training by these and others, and found the first three to be the most useful.

``compression_ratio``     bytes after deflate at level 6 (gzip's 18 bytes of header and checks not counted) by bytes
                          before. Easy is low: what repeats itself. A null or empty text has none.
``mtld``                  lexical diversity: how many words a stretch has, on average, before its share of different
                          words falls to 0.72 (McCarthy and Jarvis 2010). Easy is low.
``flesch_reading_ease``   206.835 - 1.015 words a sentence - 84.6 syllables a word (Flesch 1948). Easy is high. English.
``fertility``             tokens a word, where a column of token counts is named. Easy is low.

``EASY`` names the easy end of each, for the orders of a trainer and of a mix. Length is a difficulty too
(``text_bytes`` or ``tokens``, short being easy), and so is perplexity, which a language model's scorer gives.

*Words* are runs of characters that are not white space, without the marks and symbols at both ends, in lower case; what
holds no letter, digit or combining mark is none. MTLD walks through them: a stretch ends with the word at which
different words / words <= 0.72, and the next begins with nothing seen. What is left at the end counts as the part
(1 - share) / (1 - 0.72) of a stretch. Words by stretches, taken forward and backward, are averaged. Below 50 words it
says nothing and is null; so it is where no word occurs twice, because then there is no stretch to divide by.

*Syllables* of a word, by rule: its letters without apostrophes are cut at everything else; a piece has as many as it
has runs of the vowels a, e, i, o, u, y (with or without accents). One is taken off for a silent e at the end, as long
as one is left: ``e`` after a consonant, unless that is an l after a consonant that is no l (ta-ble); ``ed`` after a
consonant that is not t or d (wan-ted), ``es`` after one that is none of c, g, s, x, z, h (ro-ses), and neither after
such an l (set-tled); ``ely`` after a consonant, as long as two are left (like-ly, re-ly). One is added for ``ing``
after a vowel (be-ing). A word has at least one. The rule agrees with the CMU pronouncing dictionary on 89 % of its
words and on 97 % of the words of running text (docs/orders.md). Sentences are those of sentences.py by their marks; a
text has at least one.

All of these also measure length, language and format: a curriculum by any of them is in part one by those. Scripts
without spaces have words of many characters, and syllables outside English mean nothing.

Cost, MB of text a CPU second: 50 for ``compress``, 110 for ``read``. Elsewhere: orders (train/orders.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from unicodedata import category, normalize

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.characters import SPREAD
from curate.columns import FLOAT64, INT64, TEXT
from curate.errors import UnknownSetting
from curate.folding import folding
from curate.sentences import count
from curate.stage import ColumnType, Grain, stage
from curate.text import Bytes, Hashes, Int, Offsets, first_equal, next_character, string_buffers

# mypy: disable-error-code="assignment, return-value, arg-type, call-arg"
# integers in kernels are numba's

EASY = {"compression_ratio": "low", "mtld": "low", "flesch_reading_ease": "high", "fertility": "low"}
_HEADER = 18  # bytes of gzip around what deflate gives
_POINT = np.uint32((1 << 21) - 1)  # of an entry: the code point in lower case
_SPACE = np.uint32(1 << 21)
_INSIDE = np.uint32(1 << 22)  # a letter, digit or combining mark
_LETTER = np.uint32(1 << 23)
_VOWEL = np.uint32(1 << 24)
_APOSTROPHE = np.uint32(1 << 25)


@dataclass(frozen=True, kw_only=True)
class Compression:
    """How a text is compressed.

    Args:
        level: of deflate, 1 (fast) to 9. From 6 on hardly anything changes.
    """

    level: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.level <= 9:
            raise UnknownSetting(f"level={self.level}", where="Compression(...)", fix="give a level from 1 to 9")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is measured on words.

    Args:
        threshold: of MTLD, the share of different words at which a stretch ends.
        min_words: below it MTLD is null.
        by_line: every line ends a sentence, marks or not: for texts with a paragraph a line, not for wrapped ones.
        tokens: a column of token counts to write ``fertility`` from; None to leave that out.
    """

    threshold: float = 0.72
    min_words: int = 50
    by_line: bool = False
    tokens: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1 or self.min_words < 1:
            raise UnknownSetting(
                f"threshold={self.threshold}, min_words={self.min_words}",
                where="Reading(...)",
                fix="give a threshold between 0 and 1 (published: 0.72) and at least one word",
            )


def _reads(config: Reading) -> Mapping[str, pa.DataType]:
    return {"text": TEXT} | ({config.tokens: INT64} if config.tokens else {})


def _writes(config: Reading) -> Mapping[str, ColumnType]:
    names = ["mtld", "flesch_reading_ease", *(["fertility"] if config.tokens else [])]
    return dict.fromkeys(names, FLOAT64)


@stage(reads={"text": TEXT}, writes={"compression_ratio": FLOAT64}, grain=Grain.EACH, version="1")
def compress(docs: pa.Table, config: Compression) -> pa.Table:
    """Bytes after compression by bytes before; above 1 for very short texts.

    The codec is the one that comes with pyarrow, whose version an engine holds equal on all workers: other builds of
    zlib may give other sizes at the same level.
    """
    codec = pa.Codec("gzip", compression_level=config.level)
    offsets, data = string_buffers(docs["text"])
    whole = pa.py_buffer(data)
    sizes = np.diff(offsets)
    ratios = np.zeros(len(sizes))
    for row, (start, size) in enumerate(zip(offsets[:-1].tolist(), sizes.tolist(), strict=True)):
        if size:
            ratios[row] = (codec.compress(whole.slice(start, size)).size - _HEADER) / size
    return pa.table({"compression_ratio": pa.array(ratios, mask=sizes == 0)})


@stage(reads=_reads, writes=_writes, grain=Grain.EACH, version="1")
def read(docs: pa.Table, config: Reading) -> pa.Table:
    """Lexical diversity, reading ease and, with token counts, fertility; a row a text."""
    offsets, data = string_buffers(docs["text"])
    words, syllables = (np.zeros(len(offsets) - 1, dtype=np.int64) for _ in range(2))
    diversity = np.zeros(len(offsets) - 1)
    _measure(offsets, data, _table(), config.threshold, config.min_words, words, syllables, diversity)
    sentences = np.maximum(count(docs["text"], "marks", by_line=config.by_line), 1)
    none = words == 0
    some = np.maximum(words, 1)
    ease = 206.835 - 1.015 * (words / sentences) - 84.6 * (syllables / some)
    out = {
        "mtld": pa.array(diversity, mask=diversity == 0),
        "flesch_reading_ease": pa.array(ease, mask=none),
    }
    if config.tokens:
        tokens = docs[config.tokens]
        lacking = none | np.asarray(tokens.is_null())
        out["fertility"] = pa.array(tokens.fill_null(0).to_numpy() / some, mask=lacking)
    return pa.table(out)


@lru_cache(maxsize=1)
def _table() -> npt.NDArray[np.uint32]:
    """Of every code point, uint32 (0x110000,): its lower case, and what it is in a word."""
    lower = folding("none").copy()
    for point in range(len(lower)):
        character = chr(point)
        lower[point] = ord(character.lower()[0])
        if character.isspace():
            lower[point] |= _SPACE
            continue
        kind = category(character)[0]
        if kind in "LMN":
            lower[point] |= _INSIDE
        base = normalize("NFD", character.lower())[0]
        if kind == "L" or kind == "M":
            lower[point] |= _LETTER
        if kind == "L" and base in "aeiouy":
            lower[point] |= _VOWEL
    for mark in "'\u2019\u02bc":
        lower[ord(mark)] |= _APOSTROPHE
    lower.flags.writeable = False
    return lower


@njit(cache=True, nogil=True)
def _measure(
    offsets: Offsets,
    data: Bytes,
    table: npt.NDArray[np.uint32],
    threshold: float,
    min_words: int,
    words: Offsets,
    syllables: Offsets,
    diversity: npt.NDArray[np.float64],
) -> None:
    longest = 0
    for row in range(len(words)):
        longest = max(longest, offsets[row + 1] - offsets[row])
    room = longest // 2 + 1
    hashes = np.empty(room, dtype=np.uint64)
    first = np.empty(room, dtype=np.int32)
    seen = np.empty(room, dtype=np.int32)
    for row in range(len(words)):
        n, total = _walk(data, offsets[row], offsets[row + 1], table, hashes)
        words[row] = n
        syllables[row] = total
        if n >= min_words:
            first_equal(hashes[:n], first[:n])
            seen[:n] = 0
            stretches = _stretches(first[:n], seen, threshold, False)
            if stretches > 0:
                back = _stretches(first[:n], seen, threshold, True)
                diversity[row] = (n / stretches + n / back) / 2


@njit(cache=True, nogil=True)
def _stretches(first: npt.NDArray[np.int32], seen: npt.NDArray[np.int32], threshold: float, backward: bool) -> float:
    """Stretches of the words, the last one in part; ``seen`` holds in which stretch a word was met last.

    Forward they are numbered 1, 2, ..., backward -1, -2, ..., so that one array serves both.
    """
    n = len(first)
    step = -1 if backward else 1
    number = step
    whole = 0.0
    types = 0
    length = 0
    for k in range(n):
        word = first[n - 1 - k if backward else k]
        length += 1
        if seen[word] != number:
            seen[word] = number
            types += 1
        if types / length <= threshold:
            whole += 1.0
            number += step
            types = 0
            length = 0
    if length > 0:
        whole += (1.0 - types / length) / (1.0 - threshold)
    return whole


@njit(cache=True, nogil=True)
def _walk(data: Bytes, start: Int, end: Int, table: npt.NDArray[np.uint32], hashes: Hashes) -> tuple[Int, Int]:
    """Write the hash of each word; return how many words there are, and syllables."""
    n = 0
    total = 0
    ending = np.zeros(4, dtype=np.uint32)  # entries of the last four letters of a piece, the last one first
    i = start
    while i < end:
        inside = False  # something of the word has been met
        value = np.uint64(0)  # of all that was met since
        kept = np.uint64(0)  # of what was met up to the last character that may end a word
        of_word = 0
        runs = 0  # of vowels, in this piece of letters
        vowel = False
        ending[:] = 0
        while i < end:
            point, i = next_character(data, i, end)
            entry = table[point]
            if entry & _SPACE:
                break
            if entry & _INSIDE:
                inside = True
            if not inside:
                continue
            value = (value ^ np.uint64(entry & _POINT)) * SPREAD
            value ^= value >> np.uint64(29)
            if entry & _INSIDE:
                kept = value
            if entry & _LETTER:
                if entry & _VOWEL:
                    runs += np.int64(not vowel)
                    vowel = True
                else:
                    vowel = False
                ending[3] = ending[2]
                ending[2] = ending[1]
                ending[1] = ending[0]
                ending[0] = entry
            elif not entry & _APOSTROPHE:
                of_word += _of_piece(runs, ending)
                runs = 0
                vowel = False
                ending[:] = 0
        if inside:
            of_word += _of_piece(runs, ending)
            total += max(of_word, 1)
            hashes[n] = kept
            n += 1
    return n, total


@njit(cache=True, nogil=True)
def _of_piece(runs: Int, ending: npt.NDArray[np.uint32]) -> Int:
    """Syllables of a piece of letters, by its runs of vowels and its last letters; see the module."""
    last = ending[0] & _POINT
    before = ending[1] & _POINT
    third = ending[2] & _POINT
    fourth = ending[3] & _POINT
    vowel_before = ending[1] & _VOWEL
    vowel_third = ending[2] & _VOWEL
    vowel_fourth = ending[3] & _VOWEL
    if last == ord("g") and before == ord("n") and third == ord("i") and vowel_fourth:
        return runs + 1
    if runs < 2:
        return runs
    if last == ord("e") and before != 0 and not vowel_before:
        return runs if before == ord("l") and third != 0 and third != ord("l") and not vowel_third else runs - 1
    if last == ord("y") and before == ord("l") and third == ord("e") and fourth != 0 and not vowel_fourth:
        return max(runs - 1, 2)
    if before != ord("e") or third == 0 or vowel_third:
        return runs
    if third == ord("l") and fourth != 0 and fourth != ord("l") and not vowel_fourth:
        return runs
    if last == ord("d"):
        return runs if third == ord("t") or third == ord("d") else runs - 1
    if last == ord("s"):
        # "ch" and "sh" are told by their h, before which few other words have another letter.
        for sound in (ord("c"), ord("g"), ord("s"), ord("x"), ord("z"), ord("h")):
            if third == sound:
                return runs
        return runs - 1
    return runs
