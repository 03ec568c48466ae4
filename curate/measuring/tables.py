"""Which counts make which column: a count, or the share of two.

A family is a set of columns that one kernel counts. Columns that mean the same in several families have one name, and
are then taken from a family that is needed anyway. ``measured`` runs the families that the asked-for columns need, and
of their kernels only the groups of counts that those columns need.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from curate.measuring import curator, dclm, dolma, fineweb2, general
from curate.text import Bytes, Offsets

Counts = npt.NDArray[np.int64]

THREADS = int(os.environ.get("CURATE_THREADS", "1"))  # that measure one table; results do not depend on it


@dataclass(frozen=True)
class Share:
    """A quotient of counts; 0 where the denominator is 0.

    Args:
        above: a count.
        below: another.
        less: a count to take off the denominator.
        rest: take ``above`` off the denominator and divide that instead: the share of what is not ``above``.
        at_least: the denominator is at least so much.
    """

    above: int
    below: int
    less: int | None = None
    rest: bool = False
    at_least: int = 0


@dataclass(frozen=True)
class Half:
    """Half of a count, as a float."""

    count: int


Of = int | Share | Half


@dataclass(frozen=True)
class Family:
    """Columns by name, and the function that counts what is needed for some of them."""

    columns: Mapping[str, Of]
    count: Callable[[Offsets, Bytes, Mapping[str, Of]], Counts]


LINE_COLUMNS: dict[str, Of] = {
    "characters": general.CHARACTERS,
    "lines": general.INKED_LINES,
    "bullet_line_share": Share(general.BULLET_LINES, general.SPLIT_LINES),
    "ellipsis_line_share": Share(general.ELLIPSIS_LINES, general.SPLIT_LINES),
    "duplicate_paragraph_share": Share(general.REPEATED_PARAGRAPHS, general.PARAGRAPHS),
    "duplicate_paragraph_character_share": Share(general.REPEATED_PARAGRAPH_CHARACTERS, general.CHARACTERS),
    "duplicate_line_share": Share(general.REPEATED_LINES, general.LINES),
    "duplicate_line_character_share": Share(general.REPEATED_LINE_CHARACTERS, general.CHARACTERS),
    "terminal_line_share": Share(general.TERMINAL_LINES, general.INKED_LINES),
    "short_line_share": Share(general.SHORT_LINES, general.INKED_LINES),
    "duplicate_inked_line_character_share": Share(
        general.REPEATED_INKED_CHARACTERS, general.CHARACTERS, less=general.NEWLINES
    ),
}
WORD_COLUMNS: dict[str, Of] = {
    "words": general.WORDS,
    "plain_words": general.PLAIN_WORDS,
    "mean_word_length": Share(general.PLAIN_CHARACTERS, general.PLAIN_WORDS),
    "hashes_per_word": Share(general.HASHES, general.WORDS),
    "ellipses_per_word": Share(general.ELLIPSES, general.WORDS),
    "letter_word_share": Share(general.LETTER_WORDS, general.WORDS),
    "stop_words": general.DISTINCT_STOP_WORDS,
    "newlines_per_word": Share(general.NEWLINES, general.WORDS),
    **{f"top_{n}_gram_character_share": Share(general.TOP_GRAMS + n - 2, general.CHARACTERS) for n in range(2, 5)},
    **{
        f"duplicate_{n}_gram_character_share": Share(general.REPEATED_GRAMS + n - 5, general.CHARACTERS)
        for n in range(5, 11)
    },
}
_DCLM_BASICS: dict[str, Of] = {
    "words": dclm.WORDS,
    "letter_word_share": Share(dclm.LETTER_WORDS, dclm.WORDS),
    "mean_length_all_words": Share(dclm.WORD_CHARACTERS, dclm.WORDS),
    "stop_word_occurrences_any_case": dclm.STOP_WORDS,
    "dclm_words": dclm.FASTTEXT_WORDS,
    "dclm_symbols_per_word": Share(dclm.SYMBOLS, dclm.WORDS),
    "dclm_bullet_line_share": Share(dclm.BULLET_LINES, dclm.LINES),
    "dclm_ellipsis_line_share": Share(dclm.ELLIPSIS_LINES, dclm.LINES),
}
_DCLM_REPETITION: dict[str, Of] = {
    "lines": dclm.LINE_COPIES,
    "dclm_repeated_line_share": Share(dclm.LINE_COPIES + 2, dclm.LINE_COPIES),
    "dclm_repeated_line_character_share": Share(dclm.LINE_COPIES + 3, dclm.LINE_COPIES + 1),
    "dclm_repeated_paragraph_share": Share(dclm.PARAGRAPH_COPIES + 2, dclm.PARAGRAPH_COPIES),
    "dclm_repeated_paragraph_character_share": Share(dclm.PARAGRAPH_COPIES + 3, dclm.PARAGRAPH_COPIES + 1),
    **{
        f"dclm_top_{n}_gram_character_share": Share(dclm.TOP_GRAMS + n - 2, dclm.CHARACTERS_UAX29)
        for n in range(2, 5)
    },
    **{
        f"dclm_repeated_{n}_gram_character_share": Share(dclm.REPEATED_GRAMS + n - 5, dclm.CHARACTERS_UAX29)
        for n in range(5, 11)
    },
}
_DOLMA_BASICS: dict[str, Of] = {
    "words": dolma.WORDS,
    "letter_word_share": Share(dolma.LETTER_WORDS, dolma.WORDS),
    "mean_length_all_words": Share(dolma.WORD_CHARACTERS, dolma.WORDS),
    "median_word_length": Half(dolma.TWICE_MEDIAN),
    "stop_word_occurrences": dolma.STOP_WORDS,
    "dolma_symbol_word_share": Share(dolma.SYMBOL_WORDS, dolma.WORDS),
    **{
        f"{prefix}_{name}": share
        for prefix, first in (("dolma", dolma.LINES), ("dolma_v2", dolma.LINES_V2))
        for name, share in {
            "bullet_line_share": Share(first + dolma.BULLET_LINES - dolma.LINES, first),
            "ellipsis_line_share": Share(first + dolma.ELLIPSIS_LINES - dolma.LINES, first),
            "repeated_line_share": Share(first + 2, first),
            "repeated_line_character_share": Share(first + 3, dolma.WORD_CHARACTERS, at_least=1),
        }.items()
    },
}
_DOLMA_REPETITION: dict[str, Of] = {
    **{
        f"dolma_top_{n}_gram_character_share": Share(dolma.TOP_GRAMS + n - 2, dolma.WORD_CHARACTERS)
        for n in range(2, 5)
    },
    **{
        f"dolma_repeated_{n}_gram_character_share": Share(
            dolma.REPEATED_GRAMS + n - 5, dolma.ALL_GRAMS_CHARACTERS + n - 5
        )
        for n in range(5, 11)
    },
}
_CURATOR_BASICS: dict[str, Of] = {
    "characters": curator.CHARACTERS,
    "words": curator.WORDS,
    "mean_length_all_words": Share(curator.WORD_CHARACTERS, curator.WORDS),
    "longest_word": curator.LONGEST_WORD,
    "stop_word_occurrences": curator.STOP_WORDS,
    "ascii_digit_share": Share(curator.DIGITS, curator.CHARACTERS),
    "curator_other_character_share": Share(curator.PLAIN, curator.CHARACTERS, rest=True),
    "curator_symbol_word_share": Share(curator.SYMBOL_WORDS, curator.WORDS),
    "curator_url_character_share": Share(curator.URL_CHARACTERS, curator.CHARACTERS),
    "curator_blank_share": Share(curator.BLANKS, curator.CHARACTERS),
    "curator_bracket_share": Share(curator.BRACKETS, curator.CHARACTERS),
    "curator_boilerplate_paragraph_share": Share(curator.BOILERPLATE, curator.PARAGRAPHS),
    "curator_alphabetic_word_share": Share(curator.ALPHABETIC_WORDS, curator.WORDS),
    "curator_unended_line_share": Share(curator.UNENDED_LINES, curator.LINES),
    "curator_ellipsis_line_share": Share(curator.ELLIPSIS_LINES, curator.LINES),
    "curator_bullet_line_share": Share(curator.BULLET_LINES, curator.LINES),
}
_CURATOR_REPETITION: dict[str, Of] = {
    "curator_distinct_line_share": Share(curator.LINES + 4, curator.LINES),
    "curator_distinct_line_character_share": Share(curator.LINES + 5, curator.LINES + 1),
    "curator_distinct_paragraph_share": Share(curator.PARAGRAPHS + 4, curator.PARAGRAPHS),
    "curator_distinct_paragraph_character_share": Share(curator.PARAGRAPHS + 5, curator.PARAGRAPHS + 1),
    **{
        f"curator_top_{n}_gram_character_share": Share(curator.TOP_GRAMS + n - 2, curator.CHARACTERS)
        for n in range(2, 5)
    },
    **{
        f"curator_repeated_{n}_gram_character_share": Share(curator.LATER_GRAMS + n - 5, curator.CHARACTERS)
        for n in range(5, 11)
    },
}


def prefix(words: str) -> str:
    """What names of columns begin with that depend on which words are counted."""
    return "" if words == "whitespace" else words.replace(":", "_") + "_"


def general_columns(words: str) -> dict[str, Of]:
    """The columns of the general family on some words."""
    return {**LINE_COLUMNS, **{prefix(words) + name: of for name, of in WORD_COLUMNS.items()}}


def _general(words: str, language: str | None = None) -> Family:
    stop_words = general.STOP_WORDS if language is None else fineweb2.thresholds(language).stop_words

    def count(offsets: Offsets, data: Bytes, columns: Mapping[str, Of]) -> Counts:
        groups = 0
        for of in columns.values():
            for index in _counts_of(of):
                groups |= general.GROUP_OF[index]
        return general.count(offsets, data, words, stop_words, groups)

    columns = general_columns(words)
    if language is not None:
        columns[f"{prefix(words)}stop_words_{language}"] = columns.pop(f"{prefix(words)}stop_words")
    return Family(columns, count)


def _of_a_tool(
    kernel: Callable[..., Counts], basics: Mapping[str, Of], repetition: Mapping[str, Of], *, halves: bool
) -> Family:
    def count(offsets: Offsets, data: Bytes, columns: Mapping[str, Of]) -> Counts:
        asked = {"basics": any(name in basics for name in columns)} if halves else {}
        return kernel(offsets, data, repetition=any(name in repetition for name in columns), **asked)

    return Family({**basics, **repetition}, count)


@lru_cache(maxsize=64)
def families(words: tuple[str, ...], languages: tuple[str, ...]) -> tuple[Family, ...]:
    """All families there are, the general one on these words and for these languages of FineWeb-2."""
    return (
        *(_general(kind) for kind in dict.fromkeys(("whitespace", *words))),
        *(_general(fineweb2.thresholds(language).words, language) for language in languages),
        _of_a_tool(dclm.count, _DCLM_BASICS, _DCLM_REPETITION, halves=True),
        _of_a_tool(dolma.count, _DOLMA_BASICS, _DOLMA_REPETITION, halves=False),
        _of_a_tool(curator.count, _CURATOR_BASICS, _CURATOR_REPETITION, halves=True),
    )


def choose(columns: Iterable[str], among: tuple[Family, ...]) -> list[tuple[Family, dict[str, Of]]]:
    """Which family counts which columns: as few families as it takes, taken in order.

    Raises:
        KeyError: no family has such a column.
    """
    asked = list(dict.fromkeys(columns))
    homes = {name: [i for i, family in enumerate(among) if name in family.columns] for name in asked}
    for name, where in homes.items():
        if not where:
            raise KeyError(name)
    needed = {where[0] for where in homes.values() if len(where) == 1}
    chosen: dict[int, dict[str, Of]] = {}
    for name in asked:
        home = next((i for i in homes[name] if i in needed), homes[name][0])
        needed.add(home)
        chosen.setdefault(home, {})[name] = among[home].columns[name]
    return [(among[i], chosen[i]) for i in sorted(chosen)]


def measured(
    offsets: Offsets, data: Bytes, columns: Sequence[str], among: tuple[Family, ...]
) -> dict[str, npt.NDArray[np.int64 | np.float64]]:
    """The columns, in the order asked for, counted by several threads where the module is told to."""
    threads = min(THREADS, len(offsets) - 1)
    if threads > 1:
        cuts = np.searchsorted(offsets, np.linspace(offsets[0], offsets[-1], threads + 1))
        cuts[0], cuts[-1] = 0, len(offsets) - 1
        pieces = [(offsets[a : b + 1], data, list(columns), among) for a, b in itertools.pairwise(cuts.tolist())]
        found = list(_pool(THREADS).map(lambda piece: _measured(*piece), pieces))
        return {name: np.concatenate([one[name] for one in found]) for name in columns}
    return _measured(offsets, data, columns, among)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Kept, because a thread keeps what it knows about words."""
    return ThreadPoolExecutor(threads, thread_name_prefix="measure")


def _measured(
    offsets: Offsets, data: Bytes, columns: Sequence[str], among: tuple[Family, ...]
) -> dict[str, npt.NDArray[np.int64 | np.float64]]:
    values: dict[str, npt.NDArray[np.int64 | np.float64]] = {}
    for family, mine in choose(columns, among):
        counts = family.count(offsets, data, mine)
        for name, of in mine.items():
            values[name] = _value(counts, of)
    return {name: values[name] for name in columns}


def _value(counts: Counts, of: Of) -> npt.NDArray[np.int64 | np.float64]:
    if isinstance(of, int):
        return counts[:, of]
    if isinstance(of, Half):
        return counts[:, of.count] / 2
    below = counts[:, of.below]
    if of.less is not None:
        below = below - counts[:, of.less]
    above = below - counts[:, of.above] if of.rest else counts[:, of.above]
    below = np.maximum(below, of.at_least)
    return np.where(below > 0, above / np.maximum(below, 1), 0.0)


def _counts_of(of: Of) -> list[int]:
    if isinstance(of, int):
        return [of]
    if isinstance(of, Half):
        return [of.count]
    return [of.above, of.below, *([] if of.less is None else [of.less])]
