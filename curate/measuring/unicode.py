"""Code point properties beyond Python's, and words as Unicode's annex 29 cuts them (UAX #29, section 4).

DCLM counts n-grams over those words (it calls the package uniseg for them), and NeMo Curator asks which words hold a
character with the property Alphabetic, which is wider than ``str.isalpha``: numerals and dependent vowel signs have it
too. The properties lie in ``curate/data/unicode.txt`` with their source.

Rules WB1 to WB999 of the annex are applied as written, none tailored. A word here is a piece between two boundaries
that begins with a letter or a digit (``str.isalnum``); the pieces between words are left out.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numba import njit

from curate.text import Bytes, Int, Words, classes, code_points, hash_bytes, next_character

# Values of Word_Break. ALetter and Hebrew_Letter are HEBREW or LETTER; those that WB4 looks through are the last three.
OTHER, LETTER, HEBREW, NUMERIC, KATAKANA, EXTEND_NUM_LET = range(6)
SINGLE_QUOTE, DOUBLE_QUOTE, MID_NUM_LET, MID_LETTER, MID_NUM = range(6, 11)
CR, LF, NEWLINE, SEGMENT_SPACE, REGIONAL, FORMAT, EXTEND, ZWJ = range(11, 19)
_NAMES = {
    "ALetter": LETTER,
    "Hebrew_Letter": HEBREW,
    "Numeric": NUMERIC,
    "Katakana": KATAKANA,
    "ExtendNumLet": EXTEND_NUM_LET,
    "Single_Quote": SINGLE_QUOTE,
    "Double_Quote": DOUBLE_QUOTE,
    "MidNumLet": MID_NUM_LET,
    "MidLetter": MID_LETTER,
    "MidNum": MID_NUM,
    "CR": CR,
    "LF": LF,
    "Newline": NEWLINE,
    "WSegSpace": SEGMENT_SPACE,
    "Regional_Indicator": REGIONAL,
    "Format": FORMAT,
    "Extend": EXTEND,
    "ZWJ": ZWJ,
}
_VALUE = 31              # the bits of a table entry that hold the value of Word_Break
PICTURE = 32             # Extended_Pictographic
ALNUM = 64               # str.isalnum

# Classes of a code point in `marks`.
ALPHABETIC = 1
STARTS_WORD = 2          # str.isalnum


@lru_cache(maxsize=1)
def _properties() -> dict[str, list[int]]:
    text = (Path(__file__).parent.parent / "data" / "unicode.txt").read_text(encoding="utf-8")
    lines = [line.partition(": ") for line in text.splitlines() if not line.startswith("#")]
    return {name: code_points(ranges) for name, _, ranges in lines}


@lru_cache(maxsize=1)
def marks() -> Bytes:
    """The classes ALPHABETIC and STARTS_WORD of every code point, uint8 (0x110000,): one bit a class."""
    table = np.zeros(len(classes()), dtype=np.uint8)
    table[[point for point in range(table.size) if chr(point).isalnum()]] = STARTS_WORD
    table[_properties()["Alphabetic"]] |= ALPHABETIC
    table.flags.writeable = False
    return table


@lru_cache(maxsize=1)
def word_breaks() -> Bytes:
    """Of every code point the value of Word_Break, with the bits PICTURE and ALNUM, uint8 (0x110000,)."""
    table = np.zeros(len(classes()), dtype=np.uint8)
    for name, value in _NAMES.items():
        table[_properties()[name]] = value
    table[_properties()["Extended_Pictographic"]] |= PICTURE
    table[(marks() & STARTS_WORD) > 0] |= ALNUM
    table.flags.writeable = False
    return table


@njit(cache=True, nogil=True)
def _following(data: Bytes, i: Int, end: Int, table: Bytes) -> Int:
    """The value of the next code point that WB4 does not look through; OTHER at the end."""
    while i < end:
        point, i = next_character(data, i, end)
        value = np.int64(table[point]) & _VALUE
        if value < FORMAT:
            return value
    return OTHER


@njit(cache=True, nogil=True)
def _joined(before: Int, left: Int, right: Int, data: Bytes, after: Int, end: Int, table: Bytes) -> bool:
    """WB5 to WB13b: is there no boundary between ``left`` and ``right``; ``before`` comes before ``left``."""
    left_letter = left == LETTER or left == HEBREW
    right_letter = right == LETTER or right == HEBREW
    if left_letter and right_letter:
        return True
    if (left_letter and right == NUMERIC) or (left == NUMERIC and (right == NUMERIC or right_letter)):
        return True
    if left == KATAKANA and right == KATAKANA:
        return True
    if right == EXTEND_NUM_LET:
        return left_letter or left == NUMERIC or left == KATAKANA or left == EXTEND_NUM_LET
    if left == EXTEND_NUM_LET:
        return right_letter or right == NUMERIC or right == KATAKANA
    if left == HEBREW and right == SINGLE_QUOTE:
        return True
    if left_letter and (right == MID_LETTER or right == MID_NUM_LET or right == SINGLE_QUOTE):
        following = _following(data, after, end, table)
        return following == LETTER or following == HEBREW
    if left == HEBREW and right == DOUBLE_QUOTE:
        return _following(data, after, end, table) == HEBREW
    if left == NUMERIC and (right == MID_NUM or right == MID_NUM_LET or right == SINGLE_QUOTE):
        return _following(data, after, end, table) == NUMERIC
    if right_letter and (left == MID_LETTER or left == MID_NUM_LET or left == SINGLE_QUOTE):
        return before == LETTER or before == HEBREW
    if right == HEBREW and left == DOUBLE_QUOTE:
        return before == HEBREW
    if right == NUMERIC and (left == MID_NUM or left == MID_NUM_LET or left == SINGLE_QUOTE):
        return before == NUMERIC
    return False


@njit(cache=True, nogil=True)
def split_unicode_words(data: Bytes, start: Int, end: Int, table: Bytes, into: Words) -> Int:
    """Write the words of ``data[start:end]`` to ``into``, which has room for a word a byte; return how many.

    ``table`` is ``word_breaks()``; the classes of the words are not written.
    """
    hashes, sizes, lengths, _ = into
    count: Int = 0
    word: Int = start        # where the current piece starts
    length: Int = 0          # its code points
    counts = False           # it begins with a letter or a digit
    previous: Int = OTHER    # value of the code point before this place
    left: Int = OTHER        # that, or of the one before those which WB4 looks through
    before: Int = OTHER      # the one before `left`
    flags: Int = 0           # regional indicators in a row up to here
    i: Int = start
    while i < end:
        point, after = next_character(data, i, end)
        entry = np.int64(table[point])
        right = entry & _VALUE
        together = False
        if i > start:
            ended = previous == NEWLINE or previous == CR or previous == LF
            if previous == CR and right == LF:
                together = True
            elif ended or right == NEWLINE or right == CR or right == LF:
                together = False
            elif (
                (previous == ZWJ and entry & PICTURE)
                or (previous == SEGMENT_SPACE and right == SEGMENT_SPACE)
                or right >= FORMAT
            ):
                together = True
            elif left == REGIONAL and right == REGIONAL:
                together = flags % 2 == 1
            else:
                together = _joined(before, left, right, data, after, end, table)
        if not together:
            if counts:
                hashes[count] = hash_bytes(data, word, i)
                sizes[count] = i - word
                lengths[count] = length
                count += 1
            word = i
            length = 0
            counts = bool(entry & ALNUM)
        length += 1
        ended = previous == NEWLINE or previous == CR or previous == LF
        if right < FORMAT or i == start or ended:
            flags = flags + 1 if right == REGIONAL else 0
            before = left
            left = right
        previous = right
        i = after
    if counts:
        hashes[count] = hash_bytes(data, word, end)
        sizes[count] = end - word
        lengths[count] = length
        count += 1
    return count


