"""C4's cleaning (Raffel et al. 2020, section 2.2), as three programs carry it out: lines are edited, pages are judged.

    docs.then(c4.edit, c4.C4(tool="datatrove")).keep(c4.profile("c4@datatrove"))

The paper names the heuristics; the programs differ in numbers, order and details, and give different corpora:
``original``   the preprocessing that made C4 (tensorflow_datasets, ``text/c4_utils.py``, ``clean_page``).
``datatrove``  ``C4QualityFilter`` (datatrove 0.10, ``filters/c4_filters.py``), with the minimum of words in a line and
               of sentences in a page the other way round; FineWeb was made with it, without the end mark rule.
``dclm``       the steps of ``baselines_configs/c4.yaml`` (DCLM) up to its de-duplication: a page keeps its empty lines
               and the whitespace of its lines.

For each line, in this order: a line with a word that is too long goes; Wikipedia's citation marks are taken out; a line
that does not end in an end mark, or ends in an ellipsis, goes; one with too few words goes; "lorem ipsum" condemns the
page; a line with "javascript" goes; "{" condemns the page; a line with one of six phrases about policies goes. What is
left is joined by newlines. ``edit`` is one stage, because the judgement looks at edited lines: it writes the edited
text and, for each page, how many lines each rule removed, what condemned it, and how many sentences were left. It
drops nothing. ``profile`` gives the rules, with the program's reasons. A condemned page is handed on as it came, its
counts taken up to the line that condemned it.

The original and DCLM count sentences with NLTK's Punkt, datatrove with spaCy's sentencizer (sentences.py), so each of
these counts has a column of its own, which only the profile of its program reads. Without a program (``C4()`` and the
profile ``c4``) edits and numbers are the original's and sentences are counted at end marks, which needs no other
package. Elsewhere: lines that repeat across documents, which C4 removed next; bad words (badwords.py); language
identification.

Cost: 200 MB of text a CPU second for the edits, and what the sentences cost: 150 together for end marks, 85 for spaCy
with a warm memo, 45 and 30 for Punkt as the original and DCLM ask it (benchmarks/agreement_c4.py).
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from numba import njit

from curate import sentences
from curate.columns import INT64, ROW, TEXT
from curate.errors import UnknownSetting
from curate.stage import Grain, Rule, stage
from curate.text import Bytes, Int, Offsets, next_character, string_buffers

POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
ENOUGH = 10              # Punkt counts sentences up to this number


@dataclass(frozen=True, kw_only=True)
class C4:
    """Whose edits, and what to change in them. A field that is None is as the tool has it by default.

    Args:
        tool: ``"original"``, ``"datatrove"`` or ``"dclm"``; None: as the original, with sentences by end marks.
        sentences: how sentences are counted: ``"marks"``, ``"spacy"`` (as datatrove; needs the extra ``datatrove``) or
            ``"punkt"`` (as the original and DCLM; needs nltk and its data). It names the column that they are written
            to: ``c4_sentences``, ``c4_spacy_sentences`` or ``c4_punkt_sentences``.
        end_marks: characters of which a line must end in one; ``()`` for no such rule, and then an ellipsis is
            allowed too.
        min_words: a line has at least so many words, cut at whitespace (datatrove counts before citations are removed).
        max_word_length: characters; a line with a longer word goes. 0: no such rule.
        citations: take out "[12]", "[]", "[edit]" and "[citation needed]".
        lorem_ipsum: "lorem ipsum" condemns the page.
        javascript: lines with "javascript" go.
        curly_bracket: "{" condemns the page.
        policy: lines with a phrase of POLICY go.
    """

    tool: str | None = None
    sentences: str | None = None
    end_marks: tuple[str, ...] | None = None
    min_words: int | None = None
    max_word_length: int = 1000
    citations: bool = True
    lorem_ipsum: bool = True
    javascript: bool = True
    curly_bracket: bool = True
    policy: bool = True

    def __post_init__(self) -> None:
        where = f"C4(tool={self.tool!r})"
        if self.tool not in _DEFAULTS:
            raise UnknownSetting(f"there is no C4 of {self.tool!r}", where=where,
                                 fix=f"use one of: {', '.join(map(repr, filter(None, _DEFAULTS)))}")  # fmt: skip
        sentences.require(self.splitter, where=where)
        for mark in self.end_marks or ():
            if len(mark) != 1:
                raise UnknownSetting(f"the end mark {mark!r} is not one character", where=where,
                                     fix="list single characters")  # fmt: skip

    @property
    def splitter(self) -> str:
        """How sentences are counted."""
        return self.sentences or _DEFAULTS[self.tool][0]

    @property
    def marks(self) -> tuple[str, ...]:
        """The end marks of a line."""
        return _DEFAULTS[self.tool][1] if self.end_marks is None else self.end_marks

    @property
    def words(self) -> int:
        """The fewest words of a line."""
        return _DEFAULTS[self.tool][2] if self.min_words is None else self.min_words


# How sentences are counted, what a line ends in, and its fewest words. ("…" ends a line for DCLM, but as an ellipsis.)
_DEFAULTS: Mapping[str | None, tuple[str, tuple[str, ...], int]] = {
    None: ("marks", (".", "?", "!", '"'), 5),
    "original": ("punkt", (".", "?", "!", '"'), 5),
    "datatrove": ("spacy", (".", "?", "!", '"', "'"), 3),
    "dclm": ("punkt", (".", "?", "!", '"'), 5),
}
_SENTENCES = {"marks": "c4_sentences", "spacy": "c4_spacy_sentences", "punkt": "c4_punkt_sentences"}

# The columns of the count matrix that the kernel fills, in the order in which they are written.
CHARACTERS, LINES, LONG_WORD, UNMARKED, SHORT, JAVASCRIPT, POLICY_LINES, KEPT, CITATIONS, LOREM, CURLY = range(11)
_NAMES = (
    "c4_characters",         # code points of the page as it came
    "c4_lines",              # lines looked at
    "c4_long_word_lines",    # of those, removed for a word that is too long
    "c4_unmarked_lines",     # ... for their end
    "c4_short_lines",        # ... for too few words
    "c4_javascript_lines",
    "c4_policy_lines",
    "c4_kept_lines",
    "c4_citations",          # citation marks taken out
    "c4_lorem_ipsum",        # 1 if this condemned the page
    "c4_curly_bracket",      # 1 if this condemned the page
)


def _writes(config: C4) -> Mapping[str, pa.DataType]:
    return {"text": TEXT, **dict.fromkeys((*_NAMES, _SENTENCES[config.splitter], "c4_bytes_removed"), INT64)}


@stage(reads={"text": TEXT}, writes=_writes, grain=Grain.MANY, version="1")
def edit(docs: pa.Table, config: C4) -> pa.Table:
    """The text as the tool leaves it, and what was counted on the way; a row a page, none dropped.

    ``c4_sentences`` (see ``C4.sentences``) are those of the edited text, up to ENOUGH with Punkt; ``c4_bytes_removed``
    is the difference in UTF-8 bytes; for the other columns see the names above. A null text is an empty one.
    """
    offsets, data = string_buffers(docs["text"])
    n = len(offsets) - 1
    counts = np.zeros((n, len(_NAMES)), dtype=np.int64)
    out = np.empty(offsets[-1] - offsets[0], dtype=np.uint8)
    ends = np.zeros(n + 1, dtype=np.int64)
    page = config.tool == "dclm"
    flags = (page, config.tool == "datatrove", config.citations, bool(config.marks), config.lorem_ipsum,
             config.javascript, config.curly_bracket, config.policy)  # fmt: skip
    table, folds = _kinds(page, config.marks)
    _edit(offsets, data, table, folds, flags, config.words, config.max_word_length, counts, out, ends)
    edited = pa.LargeStringArray.from_buffers(n, pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]].copy()))
    found = sentences.count(edited, config.splitter, by_line=not page, enough=ENOUGH)
    return pa.table({
        ROW: pa.array(np.arange(n)),
        "text": edited,
        **{name: pa.array(counts[:, i]) for i, name in enumerate(_NAMES)},
        _SENTENCES[config.splitter]: pa.array(found),
        "c4_bytes_removed": pa.array(np.diff(offsets) - np.diff(ends)),
    })  # fmt: skip


@stage(reads={"text": TEXT}, writes={"c4_long_paragraphs": INT64}, grain=Grain.EACH, version="1")
def paragraphs(docs: pa.Table) -> pa.Table:
    """Lines (cut at newlines) of at least 200 characters; mC4 kept pages with three (Xue et al. 2021, section 3.1)."""
    offsets, data = string_buffers(docs["text"])
    counts = np.zeros(len(offsets) - 1, dtype=np.int64)
    _count_long(offsets, data, 200, counts)
    return pa.table({"c4_long_paragraphs": pa.array(counts, mask=np.asarray(docs["text"].is_null()))})


# --- Kernels ----------------------------------------------------------------------------------------------------------

_SPACE = 1
_END = 2                 # ends a line
_OPEN = 4                # "["
_CURLY = 8
_MARK = 16               # ends a line that may stay
_DIGIT = 32              # what \d matches
_ODD = 64                # not ASCII, but equal to an ASCII letter when case is ignored
_ANCHOR = 128            # a letter at which a phrase is looked for
_DOTS = 256              # an ellipsis that is one character
_HAS_JAVASCRIPT = 512    # of a line, not of a character
_HAS_LOREM = 1024
_HAS_POLICY = 2048

Kinds = npt.NDArray[np.int16]
Flags = tuple[bool, bool, bool, bool, bool, bool, bool, bool]


def _letters(text: str) -> Bytes:
    return np.frombuffer(text.encode(), dtype=np.uint8)


_PHRASES = ("javascript", "lorem ipsum", *POLICY)
_SPELLED = np.frombuffer("".join(_PHRASES).encode(), dtype=np.uint8)
_STARTS = np.cumsum([0, *map(len, _PHRASES)])
# Each phrase is looked for at one rare letter of it: the letter, and where it stands.
_ANCHORS = ("j", "m", "m", "v", "k", "k", "k", "k")
_ANCHOR_BYTE = _letters("".join(_ANCHORS))
_ANCHOR_AT = np.array([p.index(a) for p, a in zip(_PHRASES, _ANCHORS, strict=True)])
_CITED = _letters("[edit][citation needed]")
_EDIT = 6                # bytes of the first


@lru_cache(maxsize=16)
def _kinds(page: bool, marks: tuple[str, ...]) -> tuple[Kinds, Bytes]:
    """Classes of every code point, int16 (0x110000,), and what the odd ones equal, uint8 (0x110000,).

    The original and datatrove compare ``str.lower``; DCLM searches with ``re.IGNORECASE``, by which "ſ" is "s". Both
    take the Kelvin sign for "k". ("İ" lowers to two characters, of which the second stands in no phrase.)
    """
    characters = [chr(point) for point in range(0x110000)]
    kinds = np.zeros(len(characters), dtype=np.int16)
    folds = np.full(len(characters), 0xFF, dtype=np.uint8)
    kinds[[i for i, c in enumerate(characters) if c.isdecimal()]] |= _DIGIT
    spaces = [i for i, c in enumerate(characters) if c.isspace()]
    kinds[spaces] |= _SPACE
    kinds[[0x0A] if page else [i for i in spaces if len(f"a{chr(i)}b".splitlines()) == 2]] |= _END
    kinds[ord("[")] |= _OPEN
    kinds[ord("{")] |= _CURLY
    kinds[list(map(ord, marks))] |= _MARK
    for letter in set("".join(_ANCHORS)):
        kinds[[ord(letter), ord(letter.upper())]] |= _ANCHOR
    if page:
        kinds[0x2026] |= _DOTS
        for letter in sorted(set("".join(_PHRASES)) - {" "}):
            for found in re.finditer(letter, "".join(characters[0x80:0x2200]), re.IGNORECASE):
                folds[0x80 + found.start()] = ord(letter)
    else:
        for i in range(0x80, len(characters)):
            if characters[i].lower().isascii():
                folds[i] = ord(characters[i].lower())
    kinds[np.flatnonzero(folds != 0xFF)] |= _ODD
    folds[:0x80] = [ord(c.lower()) for c in characters[:0x80]]
    kinds.flags.writeable = folds.flags.writeable = False
    return kinds, folds


@njit(cache=True, nogil=True)
def _spelled(data: Bytes, at: Int, start: Int, end: Int, phrase: Int) -> bool:
    """Whether a phrase stands at ``data[at]``, within a line, in any case."""
    first = _STARTS[phrase]
    size = _STARTS[phrase + 1] - first
    if at < start or at + size > end:
        return False
    for k in range(size):
        byte = data[at + k]
        if 0x41 <= byte <= 0x5A:
            byte |= 0x20
        if byte != _SPELLED[first + k]:
            return False
    return True


@njit(cache=True, nogil=True)
def _meaning(phrase: Int) -> int:
    return _HAS_JAVASCRIPT if phrase == 0 else (_HAS_LOREM if phrase == 1 else _HAS_POLICY)


@njit(cache=True, nogil=True)
def _scan(data: Bytes, start: Int, end: Int, table: Kinds) -> tuple[Int, Int, Int, Int, Int, Int, Int, Int, Int]:
    """The line that starts at ``start``.

    Returns where its line end is, its first character that is not whitespace and the byte after the last such one, its
    words, the characters of the longest, all of it, all classes that occur and phrases that stand in it, and the
    classes of the last character and of the last one that is not whitespace.
    """
    inked: Int = -1
    inked_end: Int = start
    words: Int = 0
    length: Int = 0
    longest: Int = 0
    characters: Int = 0
    seen: Int = 0
    last: Int = 0
    last_ink: Int = 0
    i: Int = start
    while i < end:
        point, after = next_character(data, i, end)
        kind = np.int64(table[point])
        if kind & (_SPACE | _END | _ANCHOR):
            if kind & _END:
                break
            if kind & _SPACE:
                if length > longest:
                    longest = length
                length = 0
                characters += 1
                last = kind
                i = after
                continue
            letter = data[i] | 0x20
            for phrase in range(_ANCHOR_BYTE.size):
                if _ANCHOR_BYTE[phrase] == letter and _spelled(data, i - _ANCHOR_AT[phrase], start, end, phrase):
                    seen |= _meaning(phrase)
        if length == 0:
            words += 1
            if inked < 0:
                inked = i
        length += 1
        inked_end = after
        seen |= kind
        last = kind
        last_ink = kind
        characters += 1
        i = after
    if length > longest:
        longest = length
    return i, (inked if inked >= 0 else i), inked_end, words, longest, characters, seen, last, last_ink


@njit(cache=True, nogil=True)
def _look_odd(data: Bytes, start: Int, end: Int, folds: Bytes) -> Int:
    """The phrases of a line in which a character beyond ASCII counts as a letter of ASCII."""
    folded = np.empty(end - start, dtype=np.uint8)
    n = 0
    i = start
    while i < end:
        point, i = next_character(data, i, end)
        folded[n] = folds[point]
        n += 1
    seen: Int = 0
    for at in range(n):
        for phrase in range(_ANCHOR_BYTE.size):
            if _spelled(folded, at, 0, n, phrase):
                seen |= _meaning(phrase)
    return seen


@njit(cache=True, nogil=True)
def _uncited(out: Bytes, start: Int, end: Int, table: Kinds) -> tuple[Int, Int]:
    """Take the citation marks out of ``out[start:end]`` in place; the new end, and how many there were."""
    to: Int = start
    found: Int = 0
    i: Int = start
    while i < end:
        if out[i] == 0x5B:
            stop: Int = 0
            j = i + 1
            while j < end:
                point, after = next_character(out, j, end)
                if not table[point] & _DIGIT:
                    break
                j = after
            if j < end and out[j] == 0x5D:
                stop = j + 1
            else:
                for k in range(2):
                    first = 0 if k == 0 else _EDIT
                    last = _EDIT if k == 0 else _CITED.size
                    if i + last - first <= end:
                        same = True
                        for m in range(last - first):
                            same &= out[i + m] == _CITED[first + m]
                        if same:
                            stop = i + last - first
            if stop > 0:
                found += 1
                i = stop
                continue
        out[to] = out[i]
        to += 1
        i += 1
    return to, found


@njit(cache=True, nogil=True)
def _edit(
    offsets: Offsets,
    data: Bytes,
    table: Kinds,
    folds: Bytes,
    flags: Flags,
    min_words: int,
    max_word_length: int,
    counts: npt.NDArray[np.int64],
    out: Bytes,
    ends: Offsets,
) -> None:
    """Fill ``counts`` and write the edited texts one after the other to ``out``; text ``i`` ends at ``ends[i + 1]``."""
    page, words_before, citations, marked, lorem, javascript, curly, policy = flags
    w: Int = 0
    for row in range(len(counts)):
        start = offsets[row]
        end = offsets[row + 1]
        count = counts[row]
        first = w                    # where this text starts in `out`
        braced = False               # a line that stays had "{", which condemns only after the last line was read
        condemned = False
        any_line = False
        i: Int = start
        while not condemned and (i < end or (page and i == end)):
            stop, inked, inked_end, words, longest, characters, seen, last, last_ink = _scan(data, i, end, table)
            count[CHARACTERS] += characters
            a = i if page else inked
            b = stop if page else inked_end
            i = stop + 1
            if stop < end:           # a line end is a character, "\r\n" is two
                _, i = next_character(data, stop, end)
                count[CHARACTERS] += 1
                if not page and data[stop] == 0x0D and i < end and data[i] == 0x0A:
                    count[CHARACTERS] += 1
                    i += 1
            count[LINES] += 1
            if max_word_length > 0 and longest > max_word_length:
                count[LONG_WORD] += 1
                continue
            to = w + (1 if any_line else 0)
            e = to + b - a
            for k in range(b - a):
                out[to + k] = data[a + k]
            if not page:
                last = last_ink      # whitespace around the line is gone
            if citations and seen & _OPEN:
                e, cited = _uncited(out, to, e, table)
                count[CITATIONS] += cited
                if cited:
                    before = words
                    _, _, _, words, _, _, seen, last, last_ink = _scan(out, to, e, table)
                    if words_before:
                        words = before
            empty = page and e == to
            if marked and not empty:
                tail = e
                if page:             # whitespace may follow the mark
                    last = last_ink
                    _, tail = _stripped(out, to, e, table)
                dots = tail - to >= 3 and out[tail - 1] == 0x2E and out[tail - 2] == 0x2E and out[tail - 3] == 0x2E
                if e == to or not last & _MARK or dots or last & _DOTS:
                    count[UNMARKED] += 1
                    continue
            if words < min_words and not empty:
                count[SHORT] += 1
                continue
            if seen & _ODD:
                seen |= _look_odd(out, to, e, folds)
            if lorem and seen & _HAS_LOREM:
                count[LOREM] = 1
                condemned = True
                continue
            if javascript and seen & _HAS_JAVASCRIPT:
                count[JAVASCRIPT] += 1
                continue
            if curly and seen & _CURLY:
                braced = True
                condemned = not page
                if condemned:
                    count[CURLY] = 1
                    continue
            if policy and seen & _HAS_POLICY:
                count[POLICY_LINES] += 1
                continue
            count[KEPT] += 1
            if any_line:
                out[w] = 0x0A
            any_line = True
            w = e
        while i < end:               # of what follows the line that condemned it only the length is counted
            count[CHARACTERS] += (data[i] & 0xC0) != 0x80
            i += 1
        if page and braced and not condemned:
            condemned = True
            count[CURLY] = 1
        if condemned:
            for k in range(end - start):
                out[first + k] = data[start + k]
            w = first + end - start
        elif w > first:
            inked, inked_end = _stripped(out, first, w, table)
            for k in range(inked_end - inked):
                out[first + k] = out[inked + k]
            w = first + inked_end - inked
        ends[row + 1] = w


@njit(cache=True, nogil=True)
def _stripped(data: Bytes, start: Int, end: Int, table: Kinds) -> tuple[Int, Int]:
    """``data[start:end]`` without the whitespace around it."""
    while start < end:
        point, after = next_character(data, start, end)
        if not table[point] & _SPACE:
            break
        start = after
    while end > start:
        lead = end - 1
        while lead > start and data[lead] & 0xC0 == 0x80:
            lead -= 1
        point, _ = next_character(data, lead, end)
        if not table[point] & _SPACE:
            break
        end = lead
    return start, end


@njit(cache=True, nogil=True)
def _count_long(offsets: Offsets, data: Bytes, least: int, counts: npt.NDArray[np.int64]) -> None:
    for row in range(len(counts)):
        length = 0
        for i in range(offsets[row], offsets[row + 1]):
            if data[i] == 0x0A:
                counts[row] += length >= least
                length = 0
            else:
                length += (data[i] & 0xC0) != 0x80
        counts[row] += length >= least


# --- Profiles ---------------------------------------------------------------------------------------------------------


def _is_zero(name: str, because: str) -> Rule:
    return Rule(pl.col(name) == 0, because)


_LONGEST = 190_000       # characters of a page, before it is edited

PROFILES: Mapping[str, tuple[Rule, ...]] = {
    "c4": (
        Rule(pl.col("c4_characters") <= _LONGEST, "too_long"),
        _is_zero("c4_lorem_ipsum", "lorem_ipsum"),
        _is_zero("c4_curly_bracket", "curly_bracket"),
        Rule(pl.col("c4_sentences") >= 3, "too_few_sentences"),
    ),
    "c4@original": (
        Rule(pl.col("c4_characters") <= _LONGEST, "contenttoolong"),
        _is_zero("c4_lorem_ipsum", "loremipsum"),
        _is_zero("c4_curly_bracket", "squigglybracket"),
        Rule(pl.col("c4_punkt_sentences") >= 3, "toofewsentences"),
    ),
    "c4@datatrove": (
        _is_zero("c4_lorem_ipsum", "lorem_ipsum"),
        _is_zero("c4_curly_bracket", "curly_bracket"),
        Rule(pl.col("c4_spacy_sentences") >= 5, "too_few_sentences"),
    ),
    "c4@dclm": (
        Rule(pl.col("c4_characters").is_between(1, _LONGEST), "page_length_filter_char"),
        _is_zero("c4_lorem_ipsum", "substring_filter_lorem_ipsum"),
        _is_zero("c4_curly_bracket", "substring_filter_curly_bracket"),
        Rule(pl.col("c4_punkt_sentences") >= 3, "page_length_filter_sentence"),
    ),
    "mc4@original": (Rule(pl.col("c4_long_paragraphs") >= 3, "paragraph-filter"),),
    "mc4@datatrove": (Rule(pl.col("c4_long_paragraphs") >= 3, "< 3 paragraphs"),),
}


def profile(*names: str) -> tuple[Rule, ...]:
    """The rules of named profiles, in order; the first that fails is the reason a page is dropped for.

    Args:
        names: ``c4`` after ``edit``; ``c4@original``, ``c4@datatrove`` and ``c4@dclm`` after ``edit`` with that tool;
            ``mc4@original`` and ``mc4@datatrove`` after ``paragraphs``.

    Raises:
        UnknownSetting: there is no such profile.
    """
    rules: list[Rule] = []
    for name in names:
        if name not in PROFILES:
            near = difflib.get_close_matches(name, PROFILES, n=1)
            raise UnknownSetting(f"there is no C4 profile {name!r}", where=f"c4.profile({name!r})",
                                 fix=f"did you mean {near[0]!r}?" if near else
                                 f"use one of: {', '.join(PROFILES)}")  # fmt: skip
        rules.extend(PROFILES[name])
    return tuple(rules)
