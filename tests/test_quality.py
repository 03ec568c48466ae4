"""Quality measures against a slow reference, the papers' definitions by hand, and datatrove's own filters."""

import re
from collections import Counter
from functools import lru_cache

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import text
from curate.errors import UnknownSetting
from curate.measuring import general, tables
from curate.quality import QualityMeasure, measure, profile
from curate.stage import Grain

law = settings(deadline=None)  # the first example waits for the compiler
SPLIT = QualityMeasure(words="whitespace")
SPACY = QualityMeasure(words="spacy")


def table(texts) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.large_string())})


def measured(value: str | None, config: QualityMeasure = SPLIT) -> dict:
    return measure(table([value]), config).to_pylist()[0]


def decide(texts, config: QualityMeasure, *names: str) -> list[str | None]:
    """The reason each text is dropped for, None where it is kept."""
    numbers = pl.from_arrow(measure(table(texts), config))
    failing = pl.lit(None, dtype=pl.String)
    for rule in reversed(profile(*names)):
        failing = pl.when(rule.keep.fill_null(False)).then(failing).otherwise(pl.lit(rule.because))
    return numbers.select(failing.alias("because"))["because"].to_list()


# --- A slow reference -------------------------------------------------------------------------------------------------

MARKS = {chr(p) for p in text.code_points(text.PUNCTUATION) + text.code_points(text.TERMINAL_MARKS)}
ENDS = tuple(chr(p) for p in text.code_points(text.TERMINAL_MARKS))


def repeats(items: list[str]) -> list[str]:
    return [item for i, item in enumerate(items) if item in items[:i]]


def reference(value: str, words: list[str]) -> dict[str, float]:
    """Every measure, word for word as the module defines it."""
    share = lambda a, b: a / b if b else 0.0  # noqa: E731
    plain = [w for w in words if not set(w) <= MARKS]
    lines = re.split("\n+", value)
    inked = [line for line in value.split("\n") if line.strip()]
    paragraphs = re.split("\n{2,}", value.strip())
    cut = value.splitlines()
    ellipses = value.count("...") + value.count("…")
    numbers = {
        "characters": len(value),
        "lines": len(inked),
        "bullet_line_share": share(sum(s.lstrip()[:1] in ("•", "-") and s.strip() != "" for s in cut), len(cut)),
        "ellipsis_line_share": share(sum(s.rstrip().endswith(("...", "…")) for s in cut), len(cut)),
        "duplicate_paragraph_share": share(len(repeats(paragraphs)), len(paragraphs)),
        "duplicate_paragraph_character_share": share(len("".join(repeats(paragraphs))), len(value)),
        "duplicate_line_share": share(len(repeats(lines)), len(lines)),
        "duplicate_line_character_share": share(len("".join(repeats(lines))), len(value)),
        "terminal_line_share": share(sum(s.endswith(ENDS) for s in inked), len(inked)),
        "short_line_share": share(sum(len(s) <= 30 for s in inked), len(inked)),
        "duplicate_inked_line_character_share": share(len("".join(repeats(inked))), len(value.replace("\n", ""))),
        "words": len(words),
        "plain_words": len(plain),
        "mean_word_length": share(sum(map(len, plain)), len(plain)),
        "hashes_per_word": share(value.count("#"), len(words)),
        "ellipses_per_word": share(ellipses, len(words)),
        "letter_word_share": share(sum(any(map(str.isalpha, w)) for w in words), len(words)),
        "stop_words": len({"the", "be", "to", "of", "and", "that", "have", "with"} & set(words)),
        "newlines_per_word": share(value.count("\n"), len(words)),
    }
    for n in (2, 3, 4):
        grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        gram, times = Counter(grams).most_common(1)[0] if grams else ("", 0)
        numbers[f"top_{n}_gram_character_share"] = share(len(gram) * times, len(value))
    for n in range(5, 11):
        met, characters, i = set(), 0, 0
        while i + n <= len(words):
            gram = "".join(words[i : i + n])
            if gram in met:
                characters += len(gram)
                i += n
            else:
                met.add(gram)
                i += 1
        numbers[f"duplicate_{n}_gram_character_share"] = share(characters, len(value))
    return numbers


@lru_cache(maxsize=1)
def english():
    spacy = pytest.importorskip("spacy", reason="the extra `datatrove` is not installed")
    return spacy.blank("en")


def spacy_words(value: str) -> list[str]:
    return [t.text for t in english()(value) if t.text.strip()]


any_character = st.characters(exclude_categories=["Cs"])
odd = st.sampled_from([*"\n\n\n\r\x0b\x1c\x85\xa0\u2028\u3000  \t.…•-#!?。", "\r\n", "\n\n", "...", "\n-", ".\n"])
few_words = st.sampled_from("a b ab ba aba the of and to é 中 1 12 2 . ... … don't data set dataset x,".split())
anything = st.lists(any_character | odd | few_words, max_size=30).map("".join)
repetitive = st.lists(few_words, min_size=1, max_size=60).map(" ".join)
phrases = st.lists(st.lists(few_words, min_size=1, max_size=12).map(" ".join), min_size=1, max_size=4).flatmap(
    lambda phrase: st.lists(st.sampled_from(phrase) | odd, max_size=16).map(" ".join)
)
texts = st.lists(anything | repetitive | phrases, min_size=1, max_size=3)


@law
@given(texts)
def test_measures_equal_the_reference_on_whitespace_words(values):
    assert measure(table(values), SPLIT).to_pylist() == [reference(v, v.split()) for v in values]


@law
@given(texts)
def test_measures_equal_the_reference_on_spacy_words(values):
    got = measure(table(values), SPACY).to_pylist()
    assert [{name.removeprefix("spacy_"): x for name, x in row.items()} for row in got] == [
        reference(v, spacy_words(v)) for v in values
    ]


@law
@given(st.lists(anything | st.none(), max_size=6), st.integers(0, 6))
def test_a_cut_changes_nothing(values, at):
    whole = table(values)
    halves = pa.concat_tables([measure(whole.slice(0, at), SPLIT), measure(whole.slice(at), SPLIT)])
    assert halves.to_pylist() == measure(whole, SPLIT).to_pylist()


# --- By hand ----------------------------------------------------------------------------------------------------------


def test_the_promised_columns_are_written():
    for config in (SPLIT, SPACY):
        got = measure(table(["a", None]), config)
        assert dict(zip(got.schema.names, got.schema.types, strict=True)) == measure.writes(config)
    assert set(measure.writes(SPACY)) & set(measure.writes(SPLIT)) == set(tables.LINE_COLUMNS)
    assert (measure.grain, measure.version) == (Grain.EACH, "1")
    assert measure(table([]), SPLIT).num_rows == 0


def test_symbols_are_counted_each_for_itself():
    """'a symbol-to-word ratio greater than 0.1 for either the hash symbol or the ellipsis' (Rae et al. 2021, A1.1)"""
    got = measured("a #b c d e f g h i ... j … k")
    assert (got["words"], got["hashes_per_word"], got["ellipses_per_word"]) == (13, 1 / 13, 2 / 13)


def test_an_ellipsis_is_three_full_stops_and_counted_without_overlap():
    assert measured("x..... y...... z..")["ellipses_per_word"] == 3 / 3


def test_lines_that_start_with_a_bullet_or_end_with_an_ellipsis():
    """'more than 90% of lines starting with a bullet point, or more than 30% ending with an ellipsis' (A1.1)"""
    got = measured(" • one\r\n- two...  \x0bthree …\x85four. ..\n\n")
    assert got["bullet_line_share"] == 2 / 5  # one, two, three, four and the empty line
    assert got["ellipsis_line_share"] == 2 / 5


def test_words_of_marks_count_as_words_but_not_in_the_mean_length():
    got = measured("— ab !? abcd")
    assert (got["words"], got["plain_words"], got["mean_word_length"], got["letter_word_share"]) == (4, 2, 3.0, 0.5)


def test_stop_words_are_distinct_and_in_lower_case():
    assert measured("the the The and And that")["stop_words"] == 3


def test_copies_of_a_line_after_the_first_count():
    got = measured("ab\nab\n\ncd\nab\n")  # lines: ab ab cd ab and the empty one at the end
    assert got["duplicate_line_share"] == 2 / 5
    assert got["duplicate_line_character_share"] == 4 / 13
    assert got["duplicate_inked_line_character_share"] == 4 / 8  # of the characters that are no newlines
    assert got["duplicate_paragraph_share"] == 0.0
    assert measured("\nab\n")["duplicate_line_share"] == 1 / 3  # an empty line at either end


def test_paragraphs_are_cut_at_empty_lines_after_stripping():
    got = measured("\n\n ab\n\n\nab\n\ncd\ne\n\n")
    assert got["duplicate_paragraph_share"] == 1 / 3
    assert got["duplicate_paragraph_character_share"] == 2 / 18


def test_the_top_gram_is_the_first_of_the_most_frequent():
    got = measured("a bb a bb ccc dd ccc dd")  # "a bb" and "ccc dd" occur twice; "bb a" once
    assert got["top_2_gram_character_share"] == 2 * 4 / 23
    assert got["top_3_gram_character_share"] == 6 / 23  # nothing occurs twice: "a bb a"
    assert measured("a")["top_2_gram_character_share"] == 0.0


def test_a_repeated_gram_is_jumped_over():
    got = measured(" ".join("abcde" * 3))  # the second abcde is a repeat, then the third
    assert got["duplicate_5_gram_character_share"] == 10 / 29
    assert got["duplicate_6_gram_character_share"] == 6 / 29  # abcdea to eabcde are new, then abcdea


def test_repeated_grams_are_compared_without_spaces():
    got = measured("data set of all things , dataset of all thin gs , !")
    assert got["duplicate_5_gram_character_share"] == len("datasetofallthings") / 51


def test_characters_are_code_points():
    assert measured("né 中文 🙂")["characters"] == 7


def test_empty_and_null():
    assert set(measured("").values()) == {0}
    assert set(measured(None).values()) == {None}
    blank = measured(" \n ")  # two lines, the second a copy of the first
    assert {name: x for name, x in blank.items() if x} == {
        "characters": 3,
        "duplicate_line_share": 1 / 2,
        "duplicate_line_character_share": 1 / 3,
    }


def test_a_text_with_more_words_than_the_first_room():
    got = measured("a b " * 5000)
    assert got["words"] == 10_000
    assert got["top_2_gram_character_share"] == 5000 * 3 / 20_000


def test_chunks_and_slices():
    first, second = pa.array(["a b", None], pa.large_string()), pa.array(["zz", "c #"], pa.large_string())
    whole = pa.chunked_array([first, second[1:]])
    assert measure(pa.table({"text": whole}), SPLIT)["words"].to_pylist() == [2, None, 2]


def test_two_threads_agree():
    from concurrent.futures import ThreadPoolExecutor

    values = [f"well{i}, don't {i % 7}..." for i in range(500)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: measure(table(values), SPACY), range(2))
    assert first == second == measure(table(values), SPACY)


# --- Profiles ---------------------------------------------------------------------------------------------------------

GOOD = "It is said that the people of the town have come to be with us , and nobody asked them why . "


def test_rules_in_order_with_reasons():
    assert [r.because for r in profile("gopher@datatrove")] == [
        "gopher_short_doc",
        "gopher_long_doc",
        "gopher_below_avg_threshold",
        "gopher_above_avg_threshold",
        "gopher_too_many_hashes",
        "gopher_too_many_ellipsis",
        "gopher_too_many_bullets",
        "gopher_too_many_end_ellipsis",
        "gopher_below_alpha_threshold",
        "gopher_enough_stop_words",
    ]
    assert len(profile("gopher_repetition@datatrove", "gopher@datatrove", "fineweb@datatrove")) == 14 + 10 + 5


def test_rules_read_what_was_measured():
    for name in ("light", "gopher", "gopher_repetition", "fineweb"):
        reads = {column for rule in profile(name) for column in rule.keep.meta.root_names()}
        assert reads <= set(measure.writes(SPLIT))
    for name in ("gopher@datatrove", "gopher_repetition@datatrove", "fineweb@datatrove"):
        reads = {column for rule in profile(name) for column in rule.keep.meta.root_names()}
        assert reads <= set(measure.writes(SPACY))
        assert not reads <= set(measure.writes(SPLIT))  # so a plan that measured other words is refused


def test_a_text_at_the_threshold_is_kept():
    ten = [f"Line {i} says that the hen and the fox." for i in range(10)]
    assert decide(["\n".join([*ten[:7], *ten[:3]])], SPLIT, "light") == [None]  # 3 of 10
    assert decide(["\n".join([*ten[:6], *ten[:4]])], SPLIT, "light") == ["dup_line_frac"]
    numbers = {"plain_words": [50], "mean_word_length": [10.0], "hashes_per_word": [0.1], "ellipses_per_word": [0.1]}
    shares = {"bullet_line_share": [0.9], "ellipsis_line_share": [0.3], "letter_word_share": [0.8], "stop_words": [2]}
    frame = pl.DataFrame(numbers | shares)
    assert all(frame.select(rule.keep).item() for rule in profile("gopher"))


def test_nothing_and_null_are_dropped_by_the_first_rule():
    for name in ("light", "gopher", "gopher_repetition", "fineweb"):
        assert decide(["", None], SPLIT, name) == [profile(name)[0].because] * 2
    assert decide([" \n "], SPLIT, "light") == ["empty"]


def test_unknown_profile():
    with pytest.raises(UnknownSetting, match="gofer") as error:
        profile("gofer@datatrove")
    assert error.value.fix == "did you mean 'gopher@datatrove'?"
    with pytest.raises(UnknownSetting):
        profile("light@datatrove")


def test_unknown_words():
    with pytest.raises(UnknownSetting, match="words"):
        QualityMeasure(words="tokens")


# --- datatrove's own filters ------------------------------------------------------------------------------------------

CASES = [
    "",
    " ",
    "\n",
    "\n\n \n",
    "word",
    GOOD,
    GOOD * 3,
    (GOOD + "\n") * 3,
    (GOOD + "\n\n") * 3 + "The end of the matter .",
    "\n".join(f"{i} . {GOOD}" for i in range(4)),
    "\n".join(f"- {i} . {GOOD}" for i in range(4)),
    "\n".join(f"{i} . {GOOD}..." for i in range(4)),
    "\r\n".join(f"{i} . {GOOD.strip()}" for i in range(4)),
    "".join(f"{w} # " for w in GOOD.split()) * 2,
    "".join(f"{w}{i} ... " for i, w in enumerate(GOOD.split() * 3)),
    " ".join(f"{i}" for i in range(300)),
    " ".join("abcdefghijklm"[i % 13 :] + f"{i}elevenish the of" for i in range(90)),
    " ".join(f"incomprehensibilities{i}" for i in range(60)),
    "the of " + " ".join(f"{chr(97 + i % 26)} {chr(97 + i // 26)}" for i in range(90)),
    "\n".join(f"This is line {i}" for i in range(60)),
    "\n".join(f"This is the line of number {i}, and it is not so short." for i in range(9)) + "\nThis is the line." * 2,
    "Der Hund und die Katze sind im Garten. " * 2 + " ".join(f"Wort{i} Garten{i * 7}" for i in range(60)),
    "これは文です。\n" * 3 + "別の文。",
    "Don't let's go (I said) — to N.Y.\u2028• that\x85- the\u3000have of…\n" * 4,
]


@pytest.mark.parametrize("name", ["gopher", "gopher_repetition", "fineweb"])
def test_decisions_and_reasons_are_those_of_datatrove(name):
    pytest.importorskip("datatrove", reason="the extra `datatrove` is not installed")
    from datatrove.data import Document
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    oracle = {
        "gopher": GopherQualityFilter,
        "gopher_repetition": GopherRepetitionFilter,
        "fineweb": FineWebQualityFilter,
    }[name]()

    def theirs(value: str) -> str | None:
        answer = oracle.filter(Document(text=value, id="0"))
        return None if answer is True else answer[1]

    got = decide(CASES, SPACY, f"{name}@datatrove")
    assert got == [theirs(value) for value in CASES]
    assert len(set(got)) >= 4, "the cases should reach several rules"


def test_counts_fit_the_matrix():
    counts = general.count(*text.string_buffers(pa.array(["a b a b a b"], pa.large_string())), "whitespace")
    assert counts.shape == (1, general.COUNTS) == (1, len(general.GROUP_OF))
    assert counts.dtype == np.int64
    assert counts[0, general.TOP_GRAMS : general.TOP_GRAMS + 3].tolist() == [9, 10, 14]  # 3 copies, 2, 2
