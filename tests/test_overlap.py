"""Leak search: whole documents whatever their spacing, and shares of 13-grams."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.text import string_buffers
from curate.train.overlap import Prints, Search, prints


def of(*texts: str | None) -> Prints:
    return prints(*string_buffers(pa.array(texts, pa.large_string())))


def numbers(start: int, stop: int) -> str:
    return " ".join(f"w{i}" for i in range(start, stop))


def test_spacing_case_and_punctuation_do_not_matter():
    texts = ["One two: three!", "one\n two three", "one two thre e", "onetwo three", "", "!?", "!!", "Üben", "üben"]
    whole = of(*texts).whole
    assert whole[0] == whole[1]
    assert len(set(whole.tolist())) == len(whole) - 1          # 'Ü' is no ASCII letter and keeps its case


def test_grams_are_counted_per_document():
    """20 words hold 8 13-grams; 12 words are one gram; no word, none."""
    got = of(numbers(0, 20), numbers(0, 12), "", numbers(0, 13))
    assert np.bincount(got.owner, minlength=4).tolist() == [8, 1, 0, 1]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 10))
def test_a_gram_is_the_same_wherever_it_stands(before: int, inside: int, after: int):
    one, other = of(numbers(100, 113 + inside)), of(
        " ".join(filter(None, [numbers(0, before), numbers(100, 113 + inside), numbers(200, 200 + after)]))
    )
    assert set(one.grams.tolist()) <= set(other.grams.tolist())


def test_shares():
    wanted = of(numbers(0, 25), "short text", numbers(50, 70), "")
    search = Search(wanted)
    assert search.look(of(numbers(5, 25), "SHORT, text", "neither")) == 2    # grams 5..12 of 0..12
    assert search.look(of(numbers(0, 13))) == 1                              # gram 0
    assert search.look(of()) == search.look(of(numbers(90, 120))) == 0
    assert search.share() == pytest.approx([9 / 13, 1.0, 0.0, 0.0])
    assert search.whole.tolist() == [False, True, False, False]


def test_an_empty_document_is_found_only_in_another():
    search = Search(of("a b"))
    search.look(of("", None))
    assert not search.whole.any()
