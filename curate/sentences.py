"""How many sentences a text has, by three definitions.

``marks``   a run of end marks (``text.TERMINAL_MARKS`` as far as spaCy's sentencizer knows them) ends a sentence, with
            the closing punctuation after it. ASCII marks count only before whitespace or at the end, so that "3.14" is
            one sentence; "Mr. Smith" is two. Needs no other package.
``spacy``   as spaCy's blank English pipeline with its rule-based sentencizer gives them, which is what datatrove
            counts. The sentencizer walks over tokens: one that *is* an end mark arms it, and the next one that is
            neither mark nor punctuation starts a new sentence. So only the pieces of text that hold an end mark have to
            be tokenised ("end." is two tokens, "Mr." one): those are looked up in the memo of text.py, and a piece
            without a mark starts a sentence exactly if one of its characters is no punctuation.
``punkt``   as NLTK's Punkt (Kiss and Strunk 2006) with its English parameters gives them, which is what made C4. What
            it decides about a full stop depends on the word before and the token after it, so each distinct pair is
            decided once a thread, by NLTK itself. Needs the package nltk and its data ``punkt_tab``; the
            decisions follow the version of both. It is counted only up to a number that the caller needs.

A sentence counts if something is written in it. Characters are classed by asking Python about each of them
(``str.isspace``, ``unicodedata.category``), as spaCy does.

Cost: 500 MB of text a CPU second for ``marks``, 120 for ``spacy`` with a warm memo, 60 while
most is new to it. Elsewhere: words (text.py), rules
that count sentences (c4.py).
"""

import copy
import importlib
import threading
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.errors import MissingExtra, UnknownSetting
from curate.text import (
    NO_ROOM,
    TOO_SMALL,
    UNSEEN,
    Bytes,
    Int,
    Memo,
    Offsets,
    classes,
    code_points,
    new_words,
    next_character,
    require_words,
    split_words,
    string_buffers,
    word_memo,
)

HOW = ("marks", "spacy", "punkt")

# What spaCy's sentencizer takes for the end of a sentence (spaCy 3, ``Sentencizer.default_punct_chars``).
END_MARKS = """
    21 2E 3F 589 61F 6D4 700-702 7F9 964-965 104A-104B 1362 1367-1368 166E 1735-1736 1803 1809 1944-1945 1AA8-1AAB
    1B5A-1B5B 1B5E-1B5F 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E 2E3C 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877
    A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 11047-11048
    110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3
    115C9-115D7 11641-11642 1173C-1173E 11A42-11A43 11A9B-11A9C 11C41-11C42 16A6E-16A6F 16AF5 16B37-16B38 16B44 1BC9F
    1DA88
"""
_SPACE = 1
_MARK = 2
_PUNCTUATION = 4         # Unicode category P
_OTHER = 8               # none of the three

Counts = npt.NDArray[np.int64]


@lru_cache(maxsize=1)
def _kinds() -> Bytes:
    """What each code point means for the end of a sentence, uint8 (0x110000,)."""
    characters = [chr(point) for point in range(0x110000)]
    kinds = np.full(len(characters), _OTHER, dtype=np.uint8)
    kinds[[i for i, c in enumerate(characters) if unicodedata.category(c)[0] == "P"]] = _PUNCTUATION
    kinds[code_points(END_MARKS)] |= _MARK
    kinds[[i for i, c in enumerate(characters) if c.isspace()]] = _SPACE
    kinds.flags.writeable = False
    return kinds


def require(how: str, *, where: str) -> None:
    """Raise UnknownSetting for an unknown definition of a sentence, MissingExtra for one whose package is missing."""
    if how not in HOW:
        raise UnknownSetting(f"there are no sentences of kind {how!r}", where=where,
                             fix=f"use one of: {', '.join(map(repr, HOW))}")  # fmt: skip
    if how == "spacy":
        require_words("spacy", where=where)
    if how == "punkt":
        if find_spec("nltk") is None:
            raise MissingExtra("sentences='punkt' needs the package nltk, which is not installed", where=where,
                               fix="pip install nltk, or use sentences='marks'")  # fmt: skip
        _punkt(where)


def count(texts: pa.Array | pa.ChunkedArray, how: str, *, by_line: bool, enough: int | None = None) -> Counts:
    r"""Sentences of each text, int64 (n,); a null is an empty text.

    Args:
        texts: an Arrow string column.
        how: one of HOW.
        by_line: each line (cut at ``"\n"``) is a text of its own, and their sentences are added up.
        enough: for ``punkt`` alone: where there are at least so many, this number is given.
    """
    offsets, data = string_buffers(texts)
    counts = np.zeros(len(offsets) - 1, dtype=np.int64)
    if how == "marks":
        _count_marks(offsets, data, by_line, _kinds(), counts)
    elif how == "spacy":
        memory = word_memo("spacy")
        rows = np.arange(len(counts))
        while len(rows):
            memo, waiting = memory.begin()
            rows = _count_spacy(offsets, data, rows, by_line, classes(), _kinds(), memo, waiting, counts)
            memory.learn(data, waiting)
    else:
        _count_punkt(offsets, data, by_line, enough, counts)
    return counts


# --- Marks ------------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _count_marks(offsets: Offsets, data: Bytes, by_line: bool, kinds: Bytes, counts: Counts) -> None:
    for row in range(len(counts)):
        i: Int = offsets[row]
        end = offsets[row + 1]
        total = 0
        written = False          # something stands in this sentence
        marked: Int = 0          # nothing but punctuation since the last mark
        armed: Int = 0           # the next character that is no punctuation starts a sentence
        while i < end:
            point, i = next_character(data, i, end)
            kind = kinds[point]
            if kind == _SPACE:
                armed |= marked
                if by_line and point == 0x0A:
                    written = False
                    marked = 0
                    armed = 0
                continue
            if kind & _MARK:
                marked = 1
                armed |= np.int64(point >= 0x80)
            elif kind == _OTHER:
                if armed:
                    written = False
                armed = 0
                marked = 0
            if not written:
                written = True
                total += 1
        counts[row] = total


# --- spaCy ------------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _count_spacy(
    offsets: Offsets,
    data: Bytes,
    rows: Offsets,
    by_line: bool,
    table: Bytes,
    kinds: Bytes,
    memo: Memo,
    waiting: Offsets,
    counts: Counts,
) -> Offsets:
    """Fill ``counts`` for ``rows``; return those that have to wait for words (see ``text.WordMemo``)."""
    late = np.empty(rows.size, dtype=np.int64)
    n_late = 0
    words = new_words(1 << 8)
    for k in range(rows.size):
        row = rows[k]
        end = offsets[row + 1]
        total = 0
        written = False          # something stands in this sentence
        armed = False            # a token that is an end mark has been seen in it
        unseen = False
        full = False
        i: Int = offsets[row]
        while i < end:
            # A run of whitespace is a token, after the one space that belongs to the token before it.
            run = i
            first = np.int64(data[i])
            line = False
            while i < end:
                point, after = next_character(data, i, end)
                if kinds[point] != _SPACE:
                    break
                line |= point == 0x0A
                i = after
            if by_line and line:
                written = False
                armed = False
            elif armed and i - run > (1 if first == 0x20 else 0):
                written = False
                armed = False
            piece = i
            seen: Int = 0
            while i < end:
                point, after = next_character(data, i, end)
                kind = np.int64(kinds[point])
                if kind == _SPACE:
                    break
                seen |= kind
                i = after
            if i == piece:
                continue
            if not seen & _MARK:
                if armed and seen & _OTHER:
                    written = False
                    armed = False
                total += not written
                written = True
                continue
            n = split_words(data, piece, i, table, memo, waiting, words)
            while n == TOO_SMALL:
                words = new_words(2 * words.sizes.size)
                n = split_words(data, piece, i, table, memo, waiting, words)
            if n == NO_ROOM:
                full = True
                break
            if n == UNSEEN:
                unseen = True
                continue
            at = piece
            for token in range(n):
                stop = at + words.sizes[token]
                point, after = next_character(data, at, stop)
                if after == stop and kinds[point] & _MARK:
                    armed = True
                elif armed:
                    punctuation = True
                    while at < stop:
                        point, at = next_character(data, at, stop)
                        punctuation &= (kinds[point] & _PUNCTUATION) != 0
                    if not punctuation:
                        written = False
                        armed = False
                total += not written
                written = True
                at = stop
        if full:
            while k < rows.size:
                late[n_late] = rows[k]
                n_late += 1
                k += 1
            break
        if unseen:
            late[n_late] = row
            n_late += 1
            continue
        counts[row] = total
    return late[:n_late]


# --- Punkt ------------------------------------------------------------------------------------------------------------

_PUNKT = threading.Lock()
_threads = threading.local()
_MOST_DECISIONS = 1 << 18


@lru_cache(maxsize=1)
def _punkt(where: str) -> Any:
    """NLTK's Punkt with its English parameters, which it reads from tables."""
    nltk = importlib.import_module("nltk")
    if not hasattr(nltk.tokenize.punkt, "PunktTokenizer"):
        raise MissingExtra(
            f"sentences='punkt' needs a later NLTK than {nltk.__version__}, which loads its parameters as a pickle",
            where=where,
            fix="pip install 'nltk>=3.9'",
        )
    with _PUNKT:
        try:
            return nltk.tokenize.punkt.PunktTokenizer("english")
        except LookupError:
            pass
    raise MissingExtra(
        "sentences='punkt' needs NLTK's parameters for English, which are not installed",
        where=where,
        fix="python -m nltk.downloader punkt_tab, or use sentences='marks'",
    )


def _remembering() -> Any:
    """Punkt for this thread, which decides about each distinct context once."""
    known = _threads.__dict__
    if "punkt" not in known:
        model = _punkt("sentences='punkt'")
        thinker = copy.copy(model)
        decisions: dict[str, bool] = {}
        ask: Callable[[str], bool] = model.text_contains_sentbreak

        def remember(context: str) -> bool:
            answer = decisions.get(context)
            if answer is None:
                if len(decisions) >= _MOST_DECISIONS:
                    decisions.clear()
                answer = decisions[context] = ask(context)
            return answer

        thinker.text_contains_sentbreak = remember
        known["punkt"] = thinker
    return known["punkt"]


def _count_punkt(offsets: Offsets, data: Bytes, by_line: bool, enough: int | None, counts: Counts) -> None:
    punkt = _remembering()
    first = int(offsets[0])
    raw = data[first : offsets[-1]].tobytes()
    for row, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        text = raw[start - first : end - first].decode()
        lines = [line for line in (text.split("\n") if by_line else [text]) if line and not line.isspace()]
        total = 0
        for k, line in enumerate(lines):
            if enough is not None and total + len(lines) - k >= enough:  # each of them has one at least
                total = enough
                break
            left = None if enough is None else enough - total
            total += sum(1 for begin, stop in islice(punkt.span_tokenize(line), left) if line[begin:stop].strip())
        counts[row] = total
