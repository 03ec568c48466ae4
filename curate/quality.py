"""Heuristic quality: what a text's words, lines and repetitions look like, and named rules over those numbers.

``measure`` makes no decision. It writes numbers about a text: the quality and repetition heuristics of Gopher (Rae et
al. 2021, A1.1 and table A1), those of FineWeb (Penedo et al. 2024, section 3.6), and where other tools count the same
things otherwise, theirs. ``profile`` returns the rules of a name, so that a threshold is changed without measuring
again.

Published rules agree in name and differ in decisions (which words, which lines, does the first copy count), so a
profile's name says whose they are: ``gopher@dclm`` decides as DCLM's code does. docs/quality.md has the table of
differences, benchmarks/agreement_datatrove.py and benchmarks/agreement_tools.py compare every document of a pool with
the tools' own code. Without ``@`` the rules are datatrove's on words cut at whitespace, which needs no spaCy and is
another decision: spaCy's marks are words of their own and have no letter, so ``gopher@datatrove`` drops 52 % of a pool
of 38,935 documents for too few words with letters, and ``gopher`` keeps two thirds of those.

A column is named for what it counts. Where only one tool counts so, its name begins with the tool's; numbers that
depend on which words are counted begin with ``spacy_`` where these are spaCy's. ``measure`` counts only what it is
asked for: without settings the columns of ``gopher``, ``gopher_repetition`` and ``fineweb``.

Every share has a denominator; where it is 0, so is the share. A null text has null numbers, and so fails the first
rule of every profile.

Cost, MB of text a CPU second: 60 on whitespace words and 36 on spaCy's (27 while every word is new) for all that Gopher
and FineWeb ask for; about 100 bytes of memory a word of the longest text. CURATE_THREADS threads may share a table.
Elsewhere: what a word and a line are (text.py), the kernels (measuring), C4's rules and edits (c4.py), exact copies
(exact.py), near copies (minhash.py).
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from curate.columns import FLOAT64, INT64, TEXT
from curate.errors import UnknownSetting
from curate.measuring import fineweb2, rules, tables
from curate.stage import Grain, Rule, stage
from curate.text import require_words, string_buffers

PROFILES: tuple[str, ...] = tuple(rules.PROFILES)
_FINEWEB2 = "fineweb2@"


@dataclass(frozen=True, kw_only=True)
class QualityMeasure:
    """What ``measure`` writes.

    Args:
        words: without ``profiles`` and ``columns``, all that Gopher and FineWeb ask for is measured on these words.
            ``"whitespace"``: cut at whitespace. ``"spacy"``: the tokens of spaCy's blank English pipeline, as
            datatrove takes them; needs the extra ``datatrove``, and the columns that depend on words are then called
            ``spacy_...``. The profiles ``...@datatrove`` read those. ``"spacy:fr"``: another of spaCy's languages that
            cuts at whitespace first; the columns are then called ``spacy_fr_...``.
        profiles: write the columns that the rules of these profiles read, on whatever words they need.
        columns: write these columns too (docs/quality.md lists them).
    """

    words: str = "whitespace"
    profiles: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_words(self.words, where=f"QualityMeasure(words={self.words!r})")
        if self.words != "whitespace" and (self.profiles or self.columns):
            raise UnknownSetting(
                f"words={self.words!r} beside profiles or columns, which name their words themselves",
                where="QualityMeasure(...)",
                fix="leave `words` out",
            )
        _written(self)


@lru_cache(maxsize=256)
def _written(config: QualityMeasure) -> tuple[tuple[str, ...], tuple[tables.Family, ...]]:
    """The columns, and the families that they are found in."""
    if not config.profiles and not config.columns:
        return tuple(tables.general_columns(config.words)), tables.families((config.words,), ())
    languages = tuple(name.removeprefix(_FINEWEB2) for name in config.profiles if name.startswith(_FINEWEB2))
    reads = [
        column for name in config.profiles for rule in profile(name) for column in sorted(rule.keep.meta.root_names())
    ]
    columns = tuple(dict.fromkeys([*reads, *config.columns]))
    families = tables.families(("spacy",), languages)
    for name in columns:
        if not any(name in family.columns for family in families):
            known = sorted({column for family in families for column in family.columns})
            raise UnknownSetting(
                f"there is no measure {name!r}", where="QualityMeasure(columns=...)", fix=_did_you_mean(name, known)
            )
    if any(column.startswith("spacy_") for column in columns):
        require_words("spacy", where="QualityMeasure(...)")
    return columns, families


def _writes(config: QualityMeasure) -> Mapping[str, pa.DataType]:
    columns, families = _written(config)
    found = {name: of for _, mine in tables.choose(columns, families) for name, of in mine.items()}
    return {name: INT64 if isinstance(found[name], int) else FLOAT64 for name in columns}


@stage(reads={"text": TEXT}, writes=_writes, grain=Grain.EACH, version="1")
def measure(docs: pa.Table, config: QualityMeasure) -> pa.Table:
    """Numbers about words, lines and repetition, a row a text; no decision.

    Counts are int64, shares float64. docs/quality.md says how each is defined; ``duplicate_...`` never counts the
    first copy, ``repeated_...`` all copies, and characters are code points.
    """
    columns, families = _written(config)
    offsets, data = string_buffers(docs["text"])
    null = np.asarray(docs["text"].is_null())
    values = tables.measured(offsets, data, columns, families)
    return pa.table({name: pa.array(values[name], mask=null) for name in columns})


def profile(*names: str) -> tuple[Rule, ...]:
    """The rules of named profiles, in order; the first that fails is the reason a text is dropped for.

    Args:
        names: of PROFILES, or ``fineweb2@`` with a language of FineWeb-2 and its script, like ``fineweb2@fra_Latn``.
            ``light`` asks that something is written in a text and at most 30 % of its lines repeat another. ``gopher``,
            ``gopher_repetition`` and ``fineweb`` are rules on the words of ``QualityMeasure(words="whitespace")``.
            Those with ``@`` decide as a tool does, mostly with its reasons: ``@datatrove`` as datatrove's filters for
            English do by default (FineWeb applied them in the order gopher_repetition, gopher, fineweb); ``@dclm`` as
            the steps of DCLM's baseline; ``@dolma`` as dolma's tagger ``gopher_v1`` with the thresholds of the mix of
            Dolma 1.6, ``@dolma-v2`` with ``gopher_v2``, and ``gopher_repetition@dolma-1.6`` without the three rules
            that never took effect in that mix because they misspell their attributes; ``@curator`` as NeMo Curator's,
            of which ``english@curator`` are all that it has for English by default.

    Raises:
        UnknownSetting: there is no such profile, or its language needs words that are not supported.
    """
    found: list[Rule] = []
    for asked in names:
        if asked in rules.PROFILES:
            found.extend(rules.PROFILES[asked]())
        elif asked.startswith(_FINEWEB2):
            found.extend(rules.fineweb2(_thresholds(asked)))
        else:
            raise UnknownSetting(
                f"there is no quality profile {asked!r}",
                where=f"quality.profile({asked!r})",
                fix=_did_you_mean(asked, [*PROFILES, "fineweb2@fra_Latn"]),
            )
    return tuple(found)


def _thresholds(asked: str) -> fineweb2.Thresholds:
    where = f"quality.profile({asked!r})"
    language = asked.removeprefix(_FINEWEB2)
    if language not in fineweb2.languages():
        raise UnknownSetting(
            f"FineWeb-2 has no language {language!r}", where=where, fix=_did_you_mean(language, fineweb2.languages())
        )
    found = fineweb2.thresholds(language)
    if not found.words:
        raise UnknownSetting(
            f"the words of {language} are those of {found.tokenizer}, which curate cannot count",
            where=where,
            fix="write rules of your own on measures that need no words, such as duplicate_line_share",
        )
    return found


def _did_you_mean(asked: str, known: "list[str] | tuple[str, ...]") -> str:
    near = difflib.get_close_matches(asked, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"use one of: {', '.join(known[:20])}" + (", ..." if len(known) > 20 else "")


