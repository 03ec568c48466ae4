"""Which columns decide in which profile: rules in the tools' own order, with the tools' own names for reasons.

A rule is true for a text to keep. Where a tool compares with "greater than", a text at the threshold is kept here too.
"""

from collections.abc import Callable, Mapping

import polars as pl

from curate.measuring.fineweb2 import Thresholds
from curate.measuring.tables import prefix
from curate.stage import Rule

_TOP = (0.20, 0.18, 0.16)                              # n = 2, 3, 4 (Rae et al. 2021, table A1)
_REPEATED = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)       # n = 5..10


# --- As datatrove decides, on any words -------------------------------------------------------------------------------


def gopher(words: str) -> tuple[Rule, ...]:
    """Gopher's quality heuristics (A1.1)."""
    return _gopher(words, length=(3, 10), letters=0.8, stop_words="stop_words")


def gopher_repetition(words: str) -> tuple[Rule, ...]:
    """Gopher's repetition heuristics (table A1)."""
    return (
        Rule(pl.col("characters") > 0, "empty"),
        Rule(pl.col("duplicate_paragraph_share") <= 0.3, "dup_para_frac"),
        Rule(pl.col("duplicate_paragraph_character_share") <= 0.2, "dup_para_char_frac"),
        Rule(pl.col("duplicate_line_share") <= 0.3, "dup_line_frac"),
        Rule(pl.col("duplicate_line_character_share") <= 0.2, "dup_line_char_frac"),
        *_grams(words, _TOP, _REPEATED),
    )


def fineweb(words: str) -> tuple[Rule, ...]:
    """FineWeb's own heuristics (Penedo et al. 2024, section 3.6)."""
    return (
        Rule(pl.col("lines") > 0, "empty"),
        Rule(pl.col("terminal_line_share") >= 0.12, "line_punct_ratio"),
        Rule(pl.col("short_line_share") <= 0.67, "short_line_ratio"),
        Rule(pl.col("duplicate_inked_line_character_share") <= 0.01, "char_dup_ratio"),
        Rule(_of(words, "newlines_per_word") <= 0.3, "list_ratio"),
    )


def light(_words: str) -> tuple[Rule, ...]:
    """Something is written in it, and at most 30 % of its lines repeat another."""
    return (
        Rule(pl.col("lines") > 0, "empty"),
        Rule(pl.col("duplicate_line_share") <= 0.3, "dup_line_frac"),
    )


def fineweb2(of: Thresholds) -> tuple[Rule, ...]:
    """The filters of FineWeb-2 for one language, in its order: repetition, FineWeb, quality.

    Paragraphs and characters of duplicate lines are left out of the first, short lines out of the second, as there; a
    threshold of 0 turns a rule off.
    """
    lines = [Rule(pl.col("duplicate_line_share") <= of.dup_line_frac, "dup_line_frac")] if of.dup_line_frac else []
    return (
        Rule(pl.col("characters") > 0, "empty"),
        *lines,
        *_grams(of.words, of.top_n_grams, of.dup_n_grams),
        Rule(pl.col("lines") > 0, "empty"),
        Rule(pl.col("terminal_line_share") >= of.line_punct_thr, "line_punct_ratio"),
        Rule(pl.col("duplicate_inked_line_character_share") <= 0.1, "char_dup_ratio"),
        Rule(_of(of.words, "newlines_per_word") <= of.new_line_ratio, "list_ratio"),
        *_gopher(
            of.words,
            length=(of.min_avg_word_length, of.max_avg_word_length),
            letters=of.max_non_alpha_words_ratio,
            stop_words=f"stop_words_{of.language}",
        ),
    )


def _of(words: str, name: str) -> pl.Expr:
    return pl.col(prefix(words) + name)


def _gopher(words: str, *, length: tuple[float, float], letters: float, stop_words: str) -> tuple[Rule, ...]:
    return (
        Rule(_of(words, "plain_words") >= 50, "gopher_short_doc"),
        Rule(_of(words, "plain_words") <= 100_000, "gopher_long_doc"),
        Rule(_of(words, "mean_word_length") >= length[0], "gopher_below_avg_threshold"),
        Rule(_of(words, "mean_word_length") <= length[1], "gopher_above_avg_threshold"),
        Rule(_of(words, "hashes_per_word") <= 0.1, "gopher_too_many_hashes"),
        Rule(_of(words, "ellipses_per_word") <= 0.1, "gopher_too_many_ellipsis"),
        Rule(pl.col("bullet_line_share") <= 0.9, "gopher_too_many_bullets"),
        Rule(pl.col("ellipsis_line_share") <= 0.3, "gopher_too_many_end_ellipsis"),
        Rule(_of(words, "letter_word_share") >= letters, "gopher_below_alpha_threshold"),
        Rule(_of(words, stop_words) >= 2, "gopher_enough_stop_words"),
    )


def _grams(words: str, top: tuple[float, ...], repeated: tuple[float, ...]) -> list[Rule]:
    return [
        *(
            Rule(_of(words, f"top_{n}_gram_character_share") <= most, f"top_{n}_gram")
            for n, most in enumerate(top, start=2)
        ),
        *(
            Rule(_of(words, f"duplicate_{n}_gram_character_share") <= most, f"duplicated_{n}_n_grams")
            for n, most in enumerate(repeated, start=5)
        ),
    ]


# --- As DCLM decides --------------------------------------------------------------------------------------------------


def gopher_dclm() -> tuple[Rule, ...]:
    """The steps of ``dclm_baseline_refinedweb.yaml`` from page length to stop words; reasons are their functions."""
    return (
        Rule(pl.col("dclm_words").is_between(50, 100_000), "page_length_filter"),
        Rule(pl.col("mean_length_all_words").is_between(3, 10), "word_length_filter"),
        Rule(pl.col("dclm_symbols_per_word") <= 0.1, "symbol_ratio_filter"),
        Rule(pl.col("dclm_bullet_line_share") <= 0.9, "bullet_count_filter"),
        Rule(pl.col("dclm_ellipsis_line_share") <= 0.3, "ellipsis_count_filter"),
        Rule(pl.col("letter_word_share") >= 0.8, "alphabetic_word_ratio_filter"),
        Rule(pl.col("stop_word_occurrences_any_case") >= 2, "stop_word_filter"),
    )


def gopher_repetition_dclm() -> tuple[Rule, ...]:
    """``massive_web_repetition_filters``, in its order."""
    return (
        Rule(pl.col("lines") > 0, "empty"),
        Rule(pl.col("dclm_repeated_line_share") <= 0.3, "repeated_lines"),
        Rule(pl.col("dclm_repeated_paragraph_share") <= 0.3, "repeated_paragraphs"),
        Rule(pl.col("dclm_repeated_line_character_share") <= 0.2, "repeated_line_characters"),
        Rule(pl.col("dclm_repeated_paragraph_character_share") <= 0.2, "repeated_paragraph_characters"),
        *(
            Rule(pl.col(f"dclm_top_{n}_gram_character_share") <= most, f"top_{n}_gram")
            for n, most in enumerate(_TOP, start=2)
        ),
        *(
            Rule(pl.col(f"dclm_repeated_{n}_gram_character_share") <= most, f"repeated_{n}_grams")
            for n, most in enumerate(_REPEATED, start=5)
        ),
    )


# --- As dolma decides -------------------------------------------------------------------------------------------------


def gopher_dolma(tagger: str = "dolma") -> tuple[Rule, ...]:
    """The word and line rules of ``configs/dolma-v1_6/mixing/cc-head.yaml``; reasons are the tagger's attributes."""
    return (
        Rule(pl.col("words").is_between(50, 100_000), "word_count"),
        Rule(pl.col("median_word_length").is_between(3, 10), "median_word_length"),
        Rule(pl.col("dolma_symbol_word_share") <= 0.1, "symbol_to_word_ratio"),
        Rule(pl.col("letter_word_share") >= 0.8, "fraction_of_words_with_alpha_character"),
        Rule(pl.col("stop_word_occurrences") >= 2, "required_word_count"),
        Rule(pl.col(f"{tagger}_bullet_line_share") <= 0.9, "fraction_of_lines_starting_with_bullet_point"),
        Rule(pl.col(f"{tagger}_ellipsis_line_share") <= 0.3, "fraction_of_lines_ending_with_ellipsis"),
    )


def gopher_repetition_dolma(tagger: str = "dolma", *, top: bool = True) -> tuple[Rule, ...]:
    """The repetition rules of the same file; without ``top`` only those that ever took effect there."""
    return (
        Rule(pl.col(f"{tagger}_repeated_line_share") <= 0.3, "fraction_of_duplicate_lines"),
        Rule(pl.col(f"{tagger}_repeated_line_character_share") <= 0.3, "fraction_of_characters_in_duplicate_lines"),
        *(
            Rule(
                pl.col(f"dolma_top_{n}_gram_character_share") <= most,
                f"fraction_of_characters_in_most_common_{n}grams",
            )
            for n, most in enumerate(_TOP if top else (), start=2)
        ),
        *(
            Rule(
                pl.col(f"dolma_repeated_{n}_gram_character_share") <= most,
                f"fraction_of_characters_in_duplicate_{n}grams",
            )
            for n, most in enumerate(_REPEATED, start=5)
        ),
    )


# --- As NeMo Curator decides ------------------------------------------------------------------------------------------

_CURATOR_EMPTY = Rule(pl.col("words") > 0, "empty")    # there the filters divide by 0
_CURATOR_SYMBOLS = Rule(pl.col("curator_symbol_word_share") <= 0.1, "symbol_to_word")
_CURATOR_WORDS = Rule(pl.col("words").is_between(50, 100_000), "word_count")
_CURATOR_ALPHABETIC = Rule(pl.col("curator_alphabetic_word_share") >= 0.8, "words_without_alphabets")
_CURATOR_STOP_WORDS = Rule(pl.col("stop_word_occurrences") >= 2, "common_english_words")
_CURATOR_MEAN = Rule(pl.col("mean_length_all_words").is_between(3, 10), "mean_word_length")
_CURATOR_ELLIPSIS = Rule(pl.col("curator_ellipsis_line_share") <= 0.3, "ellipsis")
_CURATOR_BULLETS = Rule(pl.col("curator_bullet_line_share") <= 0.9, "bullet_ratio")
_CURATOR_COPIES = (
    Rule(pl.col("curator_distinct_line_share") >= 0.7, "repeated_lines"),
    Rule(pl.col("curator_distinct_paragraph_share") >= 0.7, "repeated_paragraphs"),
    Rule(pl.col("curator_distinct_line_character_share") >= 0.8, "repeated_lines_char"),
    Rule(pl.col("curator_distinct_paragraph_character_share") >= 0.8, "repeated_paragraphs_char"),
)
# A text with fewer than n words counts as one n-gram repeated throughout.
_CURATOR_GRAMS = (
    *(
        Rule(
            (pl.col("words") >= n) & (pl.col(f"curator_top_{n}_gram_character_share") <= most),
            f"repeating_top_{n}grams",
        )
        for n, most in enumerate(_TOP, start=2)
    ),
    *(
        Rule(
            (pl.col("words") >= n) & (pl.col(f"curator_repeated_{n}_gram_character_share") <= most),
            f"repeating_dup_{n}gram",
        )
        for n, most in enumerate(_REPEATED, start=5)
    ),
)


def gopher_curator() -> tuple[Rule, ...]:
    """Of Curator's filters for English those that are Gopher's quality heuristics."""
    return (
        _CURATOR_EMPTY,
        _CURATOR_SYMBOLS,
        _CURATOR_WORDS,
        _CURATOR_ALPHABETIC,
        _CURATOR_STOP_WORDS,
        _CURATOR_MEAN,
        _CURATOR_ELLIPSIS,
        _CURATOR_BULLETS,
    )


def gopher_repetition_curator() -> tuple[Rule, ...]:
    """Of Curator's filters for English those that are Gopher's repetition heuristics."""
    return (_CURATOR_EMPTY, *_CURATOR_COPIES, *_CURATOR_GRAMS)


def english_curator() -> tuple[Rule, ...]:
    """All of ``heuristic_filter_english_pipeline.yaml``, in its order."""
    return (
        _CURATOR_EMPTY,
        Rule(pl.col("curator_other_character_share") <= 0.25, "alpha_numeric"),
        _CURATOR_SYMBOLS,
        Rule(pl.col("ascii_digit_share") <= 0.15, "numbers_ratio"),
        Rule(pl.col("curator_url_character_share") <= 0.2, "urls_ratio"),
        Rule(pl.col("curator_blank_share") <= 0.25, "white_space"),
        Rule(pl.col("curator_bracket_share") <= 0.1, "parentheses_ratio"),
        Rule(pl.col("curator_boilerplate_paragraph_share") <= 0.4, "boilerplate_string_ratio"),
        *_CURATOR_COPIES,
        _CURATOR_WORDS,
        Rule(pl.col("curator_unended_line_share") <= 0.85, "punctuation"),
        _CURATOR_ALPHABETIC,
        _CURATOR_STOP_WORDS,
        _CURATOR_MEAN,
        Rule(pl.col("longest_word") <= 1000, "max_word_length"),
        _CURATOR_ELLIPSIS,
        *_CURATOR_GRAMS,
        _CURATOR_BULLETS,
    )


PROFILES: Mapping[str, Callable[[], tuple[Rule, ...]]] = {
    "light": lambda: light("whitespace"),
    "gopher": lambda: gopher("whitespace"),
    "gopher_repetition": lambda: gopher_repetition("whitespace"),
    "fineweb": lambda: fineweb("whitespace"),
    "gopher@datatrove": lambda: gopher("spacy"),
    "gopher_repetition@datatrove": lambda: gopher_repetition("spacy"),
    "fineweb@datatrove": lambda: fineweb("spacy"),
    "gopher@dclm": gopher_dclm,
    "gopher_repetition@dclm": gopher_repetition_dclm,
    "gopher@dolma": gopher_dolma,
    "gopher_repetition@dolma": gopher_repetition_dolma,
    "gopher_repetition@dolma-1.6": lambda: gopher_repetition_dolma(top=False),
    "gopher@dolma-v2": lambda: gopher_dolma("dolma_v2"),
    "gopher_repetition@dolma-v2": lambda: gopher_repetition_dolma("dolma_v2"),
    "gopher@curator": gopher_curator,
    "gopher_repetition@curator": gopher_repetition_curator,
    "english@curator": english_curator,
}
