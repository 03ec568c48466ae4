"""Other tools' counts against slow references, golden documents by hand, and the tables of profiles."""

import re
from collections import Counter

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import UnknownSetting
from curate.measuring import fineweb2, rules, tables
from curate.measuring.unicode import split_unicode_words, word_breaks
from curate.quality import PROFILES, QualityMeasure, measure, profile
from curate.text import new_words

law = settings(deadline=None, max_examples=60)
STOPS = {"the", "be", "to", "of", "and", "that", "have", "with"}


def table(texts) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.large_string())})


def measured(value: str | None, *columns: str) -> dict:
    return measure(table([value]), QualityMeasure(columns=columns)).to_pylist()[0]


def decide(texts, *names: str) -> list[str | None]:
    numbers = pl.from_arrow(measure(table(texts), QualityMeasure(profiles=names)))
    failing = pl.lit(None, dtype=pl.String)
    for rule in reversed(profile(*names)):
        failing = pl.when(rule.keep.fill_null(False)).then(failing).otherwise(pl.lit(rule.because))
    return numbers.select(failing.alias("because"))["because"].to_list()


def share(above, below):
    return above / below if below else 0.0


def grams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def length(words):
    return sum(map(len, words))


# --- Slow references --------------------------------------------------------------------------------------------------


def unicode_words(value: str) -> list[str]:
    data = np.frombuffer(value.encode(), dtype=np.uint8)
    into = new_words(max(1, len(data)))
    n = split_unicode_words(data, 0, len(data), word_breaks(), into)
    rest, found = value, []
    for k in range(n):  # words are in order; between them is what begins with no letter or digit
        while True:
            piece = rest.encode()[: into.sizes[k]]
            word = piece.decode(errors="ignore")
            if word and word[0].isalnum() and len(word) == into.lengths[k] and len(word.encode()) == into.sizes[k]:
                break
            rest = rest[1:]
        found.append(word)
        rest = rest[len(word) :]
    return found


def as_dclm(value: str) -> dict[str, float]:
    words, lines = value.split(), [s.strip() for s in value.split("\n") if s.strip()]
    marks = ("#", "...", ". . .", "…")
    numbers = {
        "words": len(words),
        "letter_word_share": share(sum(any(map(str.isalpha, w)) for w in words), len(words)),
        "mean_length_all_words": share(length(words), len(words)),
        "stop_word_occurrences_any_case": sum(w.lower() in STOPS for w in words),
        "dclm_words": sum(w[0].isalnum() for w in re.split("[ \n\r\t\v\f\0]+", value) if w),
        "dclm_symbols_per_word": share(sum(value.count(m) for m in marks), len(words)),
        "dclm_bullet_line_share": share(sum(s.startswith(("●", "•", "*", "-")) for s in lines), len(lines)),
        "dclm_ellipsis_line_share": share(sum(s.endswith(marks[1:]) for s in lines), len(lines)),
    }
    for name, pieces in (("line", lines), ("paragraph", [s.strip() for s in value.split("\n\n") if s.strip()])):
        copies = [s for s in pieces if pieces.count(s) > 1]
        numbers[f"dclm_repeated_{name}_share"] = share(len(copies), len(pieces))
        numbers[f"dclm_repeated_{name}_character_share"] = share(length(copies), length(pieces))
    words = unicode_words(value)
    for n in range(2, 11):
        counts = Counter(grams(words, n))
        most = max(counts.values(), default=0)
        if n < 5:
            top = most * max((length(g) for g, c in counts.items() if c == most > 1), default=0)
            numbers[f"dclm_top_{n}_gram_character_share"] = share(top, length(words))
        else:
            inside = {j for i, g in enumerate(grams(words, n)) if counts[g] > 1 for j in range(i, i + n)}
            covered = length(words[j] for j in inside)
            numbers[f"dclm_repeated_{n}_gram_character_share"] = share(covered, length(words))
    return numbers


def as_dolma(value: str) -> dict[str, float]:
    words = value.split()
    sizes = sorted(map(len, words))
    numbers = {
        "median_word_length": (sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2 if sizes else 0.0,
        "stop_word_occurrences": sum(w in STOPS for w in words),
        "dolma_symbol_word_share": share(sum("#" in w or "…" in w for w in words), len(words)),
    }
    for name, lines in (("dolma", value.split("\n")), ("dolma_v2", re.split("\n+", value))):
        copies = [s for s in lines if lines.count(s) > 1]
        numbers |= {
            f"{name}_bullet_line_share": share(sum(s.startswith(("*", "-")) for s in lines), len(lines)),
            f"{name}_ellipsis_line_share": share(sum(s.endswith("…") for s in lines), len(lines)),
            f"{name}_repeated_line_share": share(len(copies), len(lines)),
            f"{name}_repeated_line_character_share": length(copies) / max(length(words), 1),
        }
    for n in range(2, 11):
        counts = Counter(grams(words, n))
        if n < 5:
            gram, times = counts.most_common(1)[0] if counts else ((), 0)
            numbers[f"dolma_top_{n}_gram_character_share"] = share(times * length(gram), length(words))
        else:
            several = sum(c * length(g) for g, c in counts.items() if c > 1)
            every = sum(c * length(g) for g, c in counts.items())
            numbers[f"dolma_repeated_{n}_gram_character_share"] = share(several, every)
    return numbers


def as_curator(value: str) -> dict[str, float]:
    words, n_characters = value.split(), len(value)
    lines, paragraphs = [s for s in value.split("\n") if s.strip()], value.split("\n\n")
    marks = {"...", "[...]", "…", "(...)", "[…]", "-»"}
    ends = (*marks, "read more..", "read more")
    bullets = tuple("•‣⁃⁌⁍∙○●◘◦⦾⦿")
    urls = re.findall(r"https?://(?:[A-Za-z0-9$\-_@.&+/:=?#~!*(),]|%[0-9A-Fa-f]{2})+", value)
    policy = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "privacy overview", "use of cookies",
              "use cookies", "privacy & cookies policy", "privacy and cookies policy")  # fmt: skip
    boilerplate = sum(any(p in s.lower() for p in policy) for s in paragraphs)
    if "lorem ipsum" in value.lower():
        boilerplate = len(paragraphs)
    numbers = {
        "characters": n_characters,
        "longest_word": max(map(len, words), default=0),
        "ascii_digit_share": share(len(re.findall("[0-9]", value)), n_characters),
        "curator_other_character_share": share(len(re.findall("[^a-zA-Z0-9\n?!,.]", value)), n_characters),
        "curator_symbol_word_share": share(
            sum(w in marks or len(re.findall("#+", w)) / len(w) > 0.5 for w in words), len(words)
        ),
        "curator_url_character_share": share(length(urls), n_characters),
        "curator_blank_share": share(sum(c in "\t\n\r\b " for c in value), n_characters),
        "curator_bracket_share": share(sum(c in "{}⟨⟩[]()" for c in value), n_characters),
        "curator_boilerplate_paragraph_share": share(boilerplate, len(paragraphs)),
        "curator_unended_line_share": share(
            sum(not s.strip().endswith((".", "?", "!", '"', "'")) for s in lines), len(lines)
        ),
        "curator_ellipsis_line_share": share(sum(s.strip().lower().endswith(ends) for s in lines), len(lines)),
        "curator_bullet_line_share": share(sum(s.strip().startswith(bullets) for s in lines), len(lines)),
        "curator_distinct_line_share": share(len(set(lines)), len(lines)),
        "curator_distinct_line_character_share": share(length(set(lines)), length(lines)),
        "curator_distinct_paragraph_share": share(len(set(paragraphs)), len(paragraphs)),
        "curator_distinct_paragraph_character_share": share(length(set(paragraphs)), length(paragraphs)),
    }
    for n in range(2, 11):
        if n < 5:
            counts = Counter(grams(words, n))
            top = " ".join(counts.most_common(1)[0][0]) if counts else "\0"
            removed = n_characters - len(value.replace(top, "")) if counts else 0
            numbers[f"curator_top_{n}_gram_character_share"] = share(removed, n_characters)
        else:
            seen, total, covered = set(), 0, 0
            for i, gram in enumerate(grams(words, n)):
                if gram in seen:
                    fresh = words[max(i, covered) : i + n]
                    total += length(fresh) + min(len(fresh), n - 1)
                    covered = i + n
                seen.add(gram)
            numbers[f"curator_repeated_{n}_gram_character_share"] = share(total, n_characters)
    return numbers


any_character = st.characters(exclude_categories=["Cs"])
odd = st.sampled_from([*"\n\n\n\r\x0b\x1c\x85\xa0\u2028  \t\0\b.…•●*-#!?。'\"(){}⟨%", "\r\n", "\n\n", "...", ". . .",
                       "\n-",
                       "[...]", "-»", "Read More", "http://a.b/%4f?c ", "https://", "Lorem Ipsum", "Use Cooᴷies",
                       "use coo\u212aies", "Privacy policy", "##", "#a#", "٣"])  # fmt: skip
few_words = st.sampled_from("a b ab ba aba the The of and to é 中 1 12 . ... … don't 3.5 x_y data set x,".split())
anything = st.lists(any_character | odd | few_words, max_size=30).map("".join)
repetitive = st.lists(few_words, min_size=1, max_size=60).map(" ".join)
phrases = st.lists(st.lists(few_words, min_size=1, max_size=12).map(" ".join), min_size=1, max_size=4).flatmap(
    lambda phrase: st.lists(st.sampled_from(phrase) | odd, max_size=16).map(" ".join)
)
texts = st.lists(anything | repetitive | phrases, min_size=1, max_size=3)


@law
@pytest.mark.parametrize("reference", [as_dclm, as_dolma, as_curator])
@given(values=texts)
def test_counts_equal_the_reference(reference, values):
    expected = [reference(v) for v in values]
    assert measure(table(values), QualityMeasure(columns=tuple(expected[0]))).to_pylist() == expected


# --- Words of Unicode's annex 29 --------------------------------------------------------------------------------------


def test_unicode_words_by_hand():
    """The rules' own examples (UAX #29, section 4.1); pieces that begin with no letter or digit are left out."""
    assert unicode_words("The quick (“brown”) fox can’t jump 32.3 feet, right?") == (
        ["The", "quick", "brown", "fox", "can’t", "jump", "32.3", "feet", "right"]
    )
    assert unicode_words("3a A3 x_y 1,5 1,a a.b a..b") == ["3a", "A3", "x_y", "1,5", "1", "a", "a.b", "a", "b"]
    assert unicode_words("カタカナ 中文 e\u0301a א\"ב") == ["カタカナ", "中", "文", "e\u0301a", 'א"ב']
    assert unicode_words("a\u200db 🇦🇧 12\u202f34 a\nb") == ["a\u200db", "12\u202f34", "a", "b"]
    assert unicode_words("") == []


def test_properties_are_those_of_unicode():
    regex = pytest.importorskip("regex", reason="only an oracle")
    from curate.measuring.unicode import ALPHABETIC, marks

    alphabetic = regex.compile("[[:alpha:]]")
    for point in [*range(0x3000), *range(0xA000, 0xAC00), *range(0x10000, 0x20000, 7)]:
        assert bool(marks()[point] & ALPHABETIC) == bool(alphabetic.match(chr(point))), hex(point)
    assert regex.findall("[[:digit:]]", "1٣२") == ["1"]  # why numbers are ASCII's


# --- Golden documents: the same name, different decisions -------------------------------------------------------------

GOOD = "It is said that the people of the town have come to be with us, and nobody asked them why, they say. "
FOUR = ("gopher", "gopher@dclm", "gopher@dolma", "gopher@curator")
TEXT = "\n".join(GOOD + f"Number {i} came late." for i in range(4))


def test_a_plain_text_is_kept_by_all():
    names = [name for name in PROFILES if name.startswith("gopher") and "repetition" not in name]
    spoken = "\n".join(f"{word} people came to the old town with {word}, and nobody said why." for word in
                       "Seven eleven many young several hungry tired curious friendly".split())  # fmt: skip
    for name in names:
        assert decide([spoken], name) == [None], name


def test_bullets_are_four_lists():
    """datatrove • -, DCLM ● • * -, dolma * -, Curator twelve others without - and *."""
    def bulleted(mark):
        return "\n".join(f"{mark} {line}" for line in TEXT.split("\n"))  # fmt: skip

    reasons = {
        "-": ["gopher_too_many_bullets", "bullet_count_filter", "fraction_of_lines_starting_with_bullet_point", None],
        "*": [None, "bullet_count_filter", "fraction_of_lines_starting_with_bullet_point", None],
        "•": ["gopher_too_many_bullets", "bullet_count_filter", None, "bullet_ratio"],
        "◦": [None, None, None, "bullet_ratio"],
    }
    for mark, expected in reasons.items():
        got = [decide([bulleted(mark)], name)[0] for name in FOUR]
        assert got == expected, mark


def test_ellipses_are_four_lists():
    def ended(mark):
        return "\n".join(f"{line} {mark}" for line in TEXT.split("\n"))

    for mark, expected in {
        "...": [True, True, False, True],
        "…": [True, True, True, True],
        ". . .": [False, True, False, False],
        "Read more": [False, False, False, True],
    }.items():
        got = [decide([ended(mark)], name)[0] for name in FOUR]
        assert [reason is not None and "ellipsis" in reason for reason in got] == expected, mark


def test_which_copies_count():
    """Two of six lines are equal: one repeats (datatrove, Curator), two are repeated (DCLM, dolma)."""
    lines = "\n".join(["a b", "a b", "c", "d", "e", "f"])
    got = measured(lines, "duplicate_line_share", "dclm_repeated_line_share", "dolma_repeated_line_share",
                   "curator_distinct_line_share")  # fmt: skip
    assert list(got.values()) == [1 / 6, 2 / 6, 2 / 6, 5 / 6]


def test_stop_words_occurrences_or_distinct():
    one = "The the the " + " ".join(f"word{i}" for i in range(60))
    assert decide([one], "gopher") == ["gopher_enough_stop_words"]
    assert decide([one], "gopher@dolma") == decide([one], "gopher@dclm") == decide([one], "gopher@curator") == [None]
    got = measured(one, "stop_words", "stop_word_occurrences", "stop_word_occurrences_any_case")
    assert list(got.values()) == [1, 2, 3]


def test_mean_or_median_word_length():
    words = "a " * 40 + "incomprehensibility " * 30 + "the of"  # median 1, mean above 3
    assert decide([words], "gopher@dolma") == ["median_word_length"]
    assert decide([words], "gopher@dclm") == [None]


def test_the_most_frequent_gram_when_there_are_two():
    """First (datatrove, dolma, here Curator) or longest (DCLM); with spaces, without, or cut out of the text."""
    text = "a b a b cccc dddd cccc dddd"
    got = measured(text, "top_2_gram_character_share", "dclm_top_2_gram_character_share",
                   "dolma_top_2_gram_character_share", "curator_top_2_gram_character_share")  # fmt: skip
    assert list(got.values()) == [2 * 3 / 27, 2 * 8 / 20, 2 * 2 / 20, 2 * 3 / 27]
    assert measured("the cat bathe cats", "curator_top_2_gram_character_share") == {
        "curator_top_2_gram_character_share": 2 * 7 / 18  # once inside other words
    }


def test_fewer_words_than_the_gram():
    assert decide(["one"], "gopher_repetition", "gopher_repetition@dclm", "gopher_repetition@dolma") == [None]
    assert decide(["one"], "gopher_repetition@curator") == ["repeating_top_2grams"]


def test_rules_that_never_took_effect_in_dolma():
    top = " ".join(["x y"] * 20 + [f"w{i}" for i in range(20)])
    assert decide([top], "gopher_repetition@dolma") == ["fraction_of_characters_in_most_common_2grams"]
    assert len(profile("gopher_repetition@dolma")) == len(profile("gopher_repetition@dolma-1.6")) + 3


def test_a_text_with_nothing_in_it_is_dropped():
    for name in PROFILES:
        assert decide([None], name) != [None], name
        if not name.startswith("gopher_repetition@dolma"):  # which finds nothing to object to
            assert decide([""], name) != [None], name


# --- What is measured -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PROFILES, "fineweb2@fra_Latn"])
def test_exactly_what_a_profile_reads_is_measured(name):
    config = QualityMeasure(profiles=(name,))
    reads = {column for rule in profile(name) for column in rule.keep.meta.root_names()}
    assert set(measure.writes(config)) == reads
    got = measure(table(["A text.", None]), config)
    assert dict(zip(got.schema.names, got.schema.types, strict=True)) == measure.writes(config)


def test_the_same_numbers_whoever_counts_them():
    """A column that several kernels count is one number."""
    families = tables.families((), ())
    values = [TEXT, "a\u3000b c# …", "", " \n ", "1 23\x1c é"]
    homes = Counter(name for family in families for name in family.columns)
    shared = [name for name, times in homes.items() if times > 1]
    assert {"words", "letter_word_share", "lines", "characters"} <= set(shared)
    for name in shared:
        offsets = np.cumsum([0, *(len(v.encode()) for v in values)])
        data = np.frombuffer("".join(values).encode(), dtype=np.uint8)
        found = [tables.measured(offsets, data, [name], (f,))[name].tolist() for f in families if name in f.columns]
        assert all(one == found[0] for one in found), name


def test_threads_change_nothing(monkeypatch):
    values = [TEXT, None, "", "don't " * 30, *(f"text {i}, of {i % 3}..." for i in range(40))]
    for config in (QualityMeasure(), QualityMeasure(profiles=("gopher@datatrove", "english@curator"))):
        alone = measure(table(values), config)
        for threads in (2, 3, 100):
            monkeypatch.setattr(tables, "THREADS", threads)
            assert measure(table(values)[:2], config) == alone[:2]
            assert measure(table(values), config) == alone
            assert measure(table(values)[3:], config) == alone[3:]
            tables._pool.cache_clear()
        monkeypatch.setattr(tables, "THREADS", 1)


def test_columns_are_added_to_profiles():
    config = QualityMeasure(profiles=("light",), columns=("ascii_digit_share", "lines"))
    assert list(measure.writes(config)) == ["lines", "duplicate_line_share", "ascii_digit_share"]
    with pytest.raises(UnknownSetting, match="ascii_digit_sharp") as error:
        QualityMeasure(columns=("ascii_digit_sharp",))
    assert error.value.fix == "did you mean 'ascii_digit_share'?"
    with pytest.raises(UnknownSetting, match="words"):
        QualityMeasure(words="spacy", profiles=("light",))


# --- FineWeb-2 --------------------------------------------------------------------------------------------------------


def test_thresholds_are_those_of_the_configuration():
    """configs/fra_Latn.yml."""
    french = fineweb2.thresholds("fra_Latn")
    assert (french.words, french.dup_line_frac, french.line_punct_thr) == ("spacy:fr", 0.264, 0.1)
    assert (french.min_avg_word_length, french.max_avg_word_length) == (2, 11)
    assert (french.max_non_alpha_words_ratio, french.new_line_ratio, french.language_score) == (0.812, 0.185, 0.824)
    assert french.top_n_grams == (0.161, 0.149, 0.134)
    assert french.dup_n_grams == (0.15, 0.141, 0.131, 0.121, 0.111, 0.1)
    assert {"de", "la", "à", "l'"} <= set(french.stop_words)
    assert len(fineweb2.languages()) == 1929


def test_languages_without_words_are_refused():
    for language, why in (("cmn_Hani", "zh"), ("tha_Thai", "Thai"), ("fra_Latin", "did you mean 'fra_Latn'")):
        with pytest.raises(UnknownSetting) as error:
            profile(f"fineweb2@{language}")
        assert why in str(error.value) + error.value.fix


def test_decisions_are_those_of_datatrove_with_the_thresholds():
    pytest.importorskip("datatrove", reason="the extra `datatrove` is not installed")
    from datatrove.data import Document
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    of = fineweb2.thresholds("fra_Latn")
    filters = [
        GopherRepetitionFilter(
            language="fra_Latn", dup_para_frac=0, dup_line_char_frac=0, dup_para_char_frac=0,
            dup_line_frac=of.dup_line_frac, top_n_grams=tuple(enumerate(of.top_n_grams, 2)),
            dup_n_grams=tuple(enumerate(of.dup_n_grams, 5)),
        ),
        FineWebQualityFilter(
            language="fra_Latn", short_line_thr=999, char_duplicates_ratio=0.1, line_punct_thr=of.line_punct_thr,
            new_line_ratio=of.new_line_ratio,
        ),
        GopherQualityFilter(
            language="fra_Latn", max_avg_word_length=of.max_avg_word_length,
            min_avg_word_length=of.min_avg_word_length, stop_words=list(of.stop_words),
            max_non_alpha_words_ratio=of.max_non_alpha_words_ratio, min_stop_words=2,
        ),
    ]  # fmt: skip

    def theirs(value):
        for each in filters:
            answer = each.filter(Document(text=value, id="0"))
            if answer is not True:
                return answer[1]
        return None

    said = "L'homme qui est venu hier soir n'a pas dit qu'il était de la ville, et personne ne l'a demandé."
    many = " ".join(f"Le numéro {i} est arrivé dans la maison avec l'ami de Paul{i}." for i in range(12))
    values = ["", " \n", said, said * 2, many, many.replace(" ", "\n"), "\n".join([said] * 5), TEXT,
              many.replace(".", ""), "\n".join(f"{i} {said}" for i in range(6)), many + " - " * 60]  # fmt: skip
    got = decide(values, "fineweb2@fra_Latn")
    assert got == [theirs(value) for value in values]
    assert len(set(got)) >= 4


def test_every_rule_of_every_table_is_reachable_by_name():
    assert set(rules.PROFILES) == set(PROFILES)
    assert len(profile("english@curator")) == 29
