r"""Pages with a word from a list: C4's last rule, as datatrove, the original and DCLM carry it out.

    listed = badwords.words_from("en.txt")           # one word or phrase a line
    docs.then(badwords.find, badwords.BadWords(lists=(("en", listed),))).keep(badwords.profile("badwords@datatrove"))

C4 dropped every page with a word of the "List of Dirty, Naughty, Obscene or Otherwise Bad Words" (LDNOOBW, CC-BY-4.0),
which is not part of this package: give a file or the words. What counts as finding a word differs:

``datatrove``  in the text in lower case, between characters that are no word characters (``\W``), or its ends; in
               Japanese, Thai and Chinese anywhere. Some words of the Japanese and Chinese list are never looked for.
``original``   the preprocessing that made C4: in a line in lower case, between characters that are not a to z, so not
               at the start or end of a line. (Its later, multilingual version does as datatrove does, Japanese aside.)
``dclm``       in the page in lower case, between word boundaries (``\b``).

Words are taken literally; the original and DCLM put them into a pattern as they are. ``find`` writes how often; the
rule can keep a share of the pages with bad words, as datatrove can, but chooses by a keyed hash of the page's key and
not by a generator's state, so that the same pages are kept whatever runs beside them. A page in a language without a
list has none of its words, as with datatrove's ``fail_on_missing_language=False``.

How it is found: a kernel looks in the text in lower case where a letter of ASCII neither precedes nor follows, which
all three ask for; the few texts in which it finds something are searched by the pattern, made of the words they hold.

Cost: 40 MB of text a CPU second for 377 words. Elsewhere: C4's other rules (c4.py), bad words in URLs (urls.py).
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from numba import njit

from curate.columns import FLOAT64, INT64, KEY, TEXT
from curate.errors import BadInput, UnknownSetting
from curate.hashing import halves, keyed
from curate.stage import Grain, Rule, stage
from curate.text import Bytes, Offsets, string_buffers

TOOLS = ("datatrove", "original", "dclm")
ANYWHERE = ("ja", "th", "zh")                # languages without spaces, for datatrove
ALLOWED = ("sm", "グロ", "女の子", "性")      # never looked for by datatrove


@dataclass(frozen=True, kw_only=True)
class BadWords:
    """Which words, and what counts as finding one.

    Args:
        lists: pairs of a language and its words or phrases, in lower case (``words_from`` reads a file).
        tool: ``"datatrove"``, ``"original"`` or ``"dclm"``.
        language: the column that says a text's language; None: all are in ``default_language``.
        default_language: of texts where that column is null.
        label: names the draw by which a share of the pages with bad words can be kept.
        seed: of that draw.
    """

    lists: tuple[tuple[str, tuple[str, ...]], ...]
    tool: str = "datatrove"
    language: str | None = None
    default_language: str = "en"
    label: str = "bad_words"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tool not in TOOLS:
            raise UnknownSetting(f"nobody called {self.tool!r} looks for bad words", where="BadWords(tool=...)",
                                 fix=f"use one of: {', '.join(map(repr, TOOLS))}")  # fmt: skip
        if not self.lists or not all(words and all(words) for _, words in self.lists):
            raise UnknownSetting("a list of bad words is empty, or one of its words is", where="BadWords(lists=...)",
                                 fix='give lists=(("en", badwords.words_from(path)),)')  # fmt: skip


def words_from(path: str | Path) -> tuple[str, ...]:
    """Words or phrases from a file, one a line, without the whitespace around them; empty lines are left out.

    Raises:
        BadInput: the file cannot be read.
    """
    try:
        written = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"the list cannot be read: {error}", where=str(path), fix="name a text file") from error
    return tuple(dict.fromkeys(line.strip() for line in written.splitlines() if line.strip()))


def _reads(config: BadWords) -> Mapping[str, pa.DataType]:
    return {"text": TEXT, "key": KEY} | ({config.language: TEXT} if config.language else {})


@stage(reads=_reads, writes={"bad_words": INT64, "bad_words_draw": FLOAT64}, grain=Grain.EACH, version="1")
def find(docs: pa.Table, config: BadWords) -> pa.Table:
    """How many bad words a text has, and a number in [0, 1) that its key alone decides, to keep a share of such texts.

    Words that overlap, or share the character between them, count once. A null text has null words.
    """
    texts = docs["text"].to_pylist()
    languages = docs[config.language].to_pylist() if config.language else [None] * len(texts)
    found = np.zeros(len(texts), dtype=np.int64)
    for language, words in config.lists:
        mine = [i for i, said in enumerate(languages)
                if texts[i] is not None and (said or config.default_language) == language]  # fmt: skip
        if config.tool == "datatrove":
            words = tuple(word for word in words if word not in ALLOWED)
        if not mine or not words:
            continue
        low = [texts[i].lower() for i in mine]
        free = config.tool == "datatrove" and language in ANYWHERE
        may = np.zeros(len(low), dtype=np.bool_)
        offsets, data = string_buffers(pa.array(low, TEXT))
        letters, starts, firsts = _spelled(words)
        _look(offsets, data, letters, starts, firsts, free, may)
        for k in np.flatnonzero(may).tolist():
            text = low[k]
            pattern = _pattern(config.tool, language, tuple(word for word in words if word in text))
            found[mine[k]] = sum(1 for _ in pattern.finditer(text))
    draws = keyed(halves(docs["key"]), label=config.label, seed=config.seed)
    return pa.table({
        "bad_words": pa.array(found, mask=np.asarray(docs["text"].is_null())),
        "bad_words_draw": pa.array((draws >> np.uint64(11)) * 2.0**-53),
    })


@lru_cache(maxsize=16)
def _spelled(words: tuple[str, ...]) -> tuple[Bytes, Offsets, Offsets]:
    """Words in the order of their first bytes: all letters, where each starts, and the first word of each byte."""
    coded = sorted(word.encode() for word in words)
    starts = np.cumsum([0, *map(len, coded)])
    firsts = np.searchsorted(np.array([word[0] for word in coded]), np.arange(257))
    return np.frombuffer(b"".join(coded), dtype=np.uint8), starts, firsts


@njit(cache=True, nogil=True)
def _is_letter(byte: int) -> bool:
    return 0x61 <= byte <= 0x7A


@njit(cache=True, nogil=True)
def _look(
    offsets: Offsets,
    data: Bytes,
    letters: Bytes,
    starts: Offsets,
    firsts: Offsets,
    free: bool,
    may: npt.NDArray[np.bool_],
) -> None:
    """Mark the texts, in lower case, that may hold a word: not among letters, unless ``free`` or it has none."""
    for row in range(may.size):
        end = offsets[row + 1]
        for i in range(offsets[row], end):
            inside = i > offsets[row] and _is_letter(data[i - 1]) and _is_letter(data[i])
            if inside and not free:
                continue
            for word in range(firsts[data[i]], firsts[data[i] + 1]):
                size = starts[word + 1] - starts[word]
                if i + size > end:
                    continue
                k = 1
                while k < size and data[i + k] == letters[starts[word] + k]:
                    k += 1
                if k < size:
                    continue
                follows = i + size < end and _is_letter(data[i + size]) and _is_letter(data[i + size - 1])
                if free or not follows:
                    may[row] = True
                    break
            if may[row]:
                break


@lru_cache(maxsize=1 << 12)
def _pattern(tool: str, language: str, words: tuple[str, ...]) -> re.Pattern[str]:
    any_word = "|".join(map(re.escape, words))
    if tool == "dclm":
        return re.compile(rf"\b(?:{any_word})\b")
    if tool == "original":
        return re.compile(rf"(?:(?!{_LINE_ENDS})[^a-z])(?:{any_word})(?:(?!{_LINE_ENDS})[^a-z])")
    return re.compile(any_word if language in ANYWHERE else rf"(?:\W|^)(?:{any_word})(?:\W|$)")


_LINE_ENDS = r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]"      # where str.splitlines cuts
_BECAUSE = {
    "badwords@datatrove": "document_removed_with_badwords",
    "badwords@original": "badword",
    "badwords@dclm": "substring_filter_bad_words",
}


def profile(*names: str, keep_fraction: float = 0.0) -> tuple[Rule, ...]:
    """The rule of a name: a text with a bad word is dropped, but for a share of them.

    Args:
        names: ``badwords@datatrove``, ``badwords@original`` or ``badwords@dclm``, after ``find`` with that tool.
        keep_fraction: the share of the texts with bad words that is kept (datatrove has this setting).

    Raises:
        UnknownSetting: there is no such profile.
    """
    for name in names:
        if name not in _BECAUSE:
            near = difflib.get_close_matches(name, _BECAUSE, n=1)
            raise UnknownSetting(f"there is no profile of bad words {name!r}", where=f"badwords.profile({name!r})",
                                 fix=f"did you mean {near[0]!r}?" if near else
                                 f"use one of: {', '.join(_BECAUSE)}")  # fmt: skip
    passes = (pl.col("bad_words") == 0) | (pl.col("bad_words_draw") < keep_fraction)
    return tuple(Rule(passes & pl.col("bad_words").is_not_null(), _BECAUSE[name]) for name in names)
