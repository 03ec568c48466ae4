"""Sentences: three definitions, each against its own tool or a plain reference, over odd Unicode."""

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import sentences
from curate.columns import TEXT
from curate.errors import MissingExtra, UnknownSetting

WORDS = ("Mr.", "e.g.", "U.S.", "3.14", "end.", "end.)", '"Ah!"', "?!", "...", "…", "a", "The", "。", "no。yes", "(",
         "):", "*", "http://a.b/c.", "it's", "$5.", "\x85", "\u3000", "\xa0", "\n", "\t", "  ", " ", "Ünï.", "۔",
         "''", "—",
         "A.", "J.", "No.", "1.", "\u200b", ":)", "«", "»", "¿")  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=4), st.just(" ")), max_size=14).map("".join)
law = settings(deadline=None, max_examples=150)


def count(values, how, **options):
    return sentences.count(pa.array(values, TEXT), how, **{"by_line": False, **options}).tolist()


def test_the_end_marks_are_spacys():
    from spacy.pipeline import Sentencizer

    marks = {chr(i) for i in np.flatnonzero(sentences._kinds() & sentences._MARK)}
    assert marks == set(Sentencizer.default_punct_chars)


@pytest.fixture(scope="module")
def english():
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    return pipeline


def test_spacy(english):
    @law
    @given(st.lists(texts, min_size=1, max_size=4))
    def agrees(values):
        expected = [sum(not s.text.isspace() for s in english(value).sents) if value else 0 for value in values]
        assert count(values, "spacy") == expected

    agrees()


def test_spacy_by_hand():
    assert count(["Mr. Smith is here. He has 3.14 apples! \"Really?\" \"Yes.\"", "no end", " ", "", None], "spacy") \
        == [4, 1, 0, 0, 0]  # fmt: skip
    assert count(["one. two.\nthree"], "spacy", by_line=True) == [3]
    assert count(["one\ntwo"], "spacy", by_line=True) == [2]
    assert count(["one\ntwo"], "spacy") == [1]


def test_a_long_text_waits_for_its_words_more_than_once():
    many = " ".join(f"w{i}." for i in range(70_000))  # more new pieces than the memo takes at once
    assert count([many, "one. two."], "spacy") == [70_000, 2]


def by_marks(text):
    """Sentences by end marks, character by character."""
    kind = {c: "space" if c.isspace() else
            "mark" if sentences._kinds()[ord(c)] & sentences._MARK else
            "punctuation" if unicodedata.category(c)[0] == "P" else "other" for c in text}  # fmt: skip
    letters = "".join({"space": " ", "mark": "m" if c.isascii() else "M", "punctuation": "p", "other": "o"}[kind[c]]
                      for c in text)  # fmt: skip
    # A sentence ends after a mark, then punctuation, then whitespace (none is needed after a mark beyond ASCII), and
    # more whitespace and punctuation, where an "other" character begins the next one.
    cut = re.sub(r"((?:[mM][mMp]*[ ]|M)[mMp ]*)(?=o)", r"\1|", letters)
    return sum(bool(part.strip(" ")) for part in cut.split("|"))


@law
@given(st.lists(texts, min_size=1, max_size=4))
def test_marks(values):
    assert count(values, "marks") == [by_marks(value) for value in values]


def test_marks_by_hand():
    assert count(["It is 3.14. Mr. Smith (the 1st.) \"Why?\" he said. 终于。好", "...", "a", " ", None], "marks") \
        == [7, 1, 1, 0, 0]  # fmt: skip


@pytest.fixture
def untrained(monkeypatch):
    """Punkt without parameters stands for the English one, whose data does not come with NLTK."""
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    model = PunktSentenceTokenizer()
    model._params.abbrev_types.update({"mr", "e.g"})
    monkeypatch.setattr(sentences, "_punkt", lambda where: model)
    sentences._threads.__dict__.pop("punkt", None)
    yield model
    sentences._threads.__dict__.pop("punkt", None)


def test_punkt(untrained):
    @law
    @given(st.lists(texts, min_size=1, max_size=4), st.one_of(st.none(), st.integers(1, 4)))
    def agrees(values, enough):
        for by_line in (False, True):
            expected = []
            for value in values:
                lines = value.split("\n") if by_line else [value]
                total = sum(bool(s.strip()) for line in lines for s in untrained.tokenize(line))
                expected.append(total if enough is None else min(total, enough))
            assert count(values, "punkt", by_line=by_line, enough=enough) == expected

    agrees()


def test_what_is_missing(monkeypatch):
    with pytest.raises(UnknownSetting, match="sentences of kind 'nltk'"):
        sentences.require("nltk", where="here")
    monkeypatch.setattr(sentences, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="nltk"):
        sentences.require("punkt", where="here")
