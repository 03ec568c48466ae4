"""Characters, words and hashes: kernels against Python's own functions and spaCy's own tokenizer."""

import re
import threading
import unicodedata
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from curate import text
from curate.errors import MissingExtra, UnknownSetting
from curate.text import (
    BASE,
    INK,
    LETTER,
    LINE_END,
    NO_ROOM,
    PLAIN,
    PRIME,
    SPACE,
    TERMINAL,
    TOO_SMALL,
    UNSEEN,
    WordMemo,
    classes,
    first_equal,
    hash_bytes,
    new_words,
    next_character,
    plus,
    power,
    read_span,
    split_words,
    string_buffers,
    times,
    word_memo,
)

ODD_SPACES = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2007\u2028\u2029\u202f\u205f\u3000"
law = settings(deadline=None)  # the first example waits for the compiler
any_text = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(ODD_SPACES + " aZ.é"), max_size=40)
mod = st.integers(0, int(PRIME) - 1)


def bytes_of(value: str | bytes) -> np.ndarray:
    return np.frombuffer(value.encode() if isinstance(value, str) else value, dtype=np.uint8)


# --- Buffers ---


KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.large_binary(), pa.binary()]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_buffers_hold_what_the_column_holds(kind):
    values = ["ab", None, "", "é"]
    if "binary" in str(kind):
        values = [None if v is None else v.encode() for v in values]
    array = pa.array(values, kind)

    def back(column):
        offsets, data = string_buffers(column)
        assert (offsets.dtype, data.dtype) == (np.int64, np.uint8)
        return [bytes(data[a:b]).decode() for a, b in pairwise(offsets)]

    assert back(array) == ["ab", "", "", "é"]
    assert back(array[2:]) == ["", "é"]
    assert back(pa.chunked_array([array, array[3:]])) == ["ab", "", "", "é", "é"]
    assert back(pa.chunked_array([], kind)) == back(array[:0]) == []


def test_buffers_are_views_where_nothing_has_to_change():
    array = pa.array(["abc", "d"], pa.large_string())
    assert string_buffers(array)[1].ctypes.data == array.buffers()[2].address


# --- Classes ---


def test_classes_follow_python_for_every_code_point():
    table = classes()
    for point in range(0, 0x110000, 7):
        character = chr(point)
        kind = table[point]
        assert bool(kind & SPACE) == character.isspace() == (not kind & INK) == (character.strip() == ""), hex(point)
        assert bool(kind & LETTER) == character.isalpha(), hex(point)
    ends = [c for c in map(chr, range(0x110000)) if table[ord(c)] & LINE_END]
    assert "".join(ends) == "\n\x0b\x0c\r\x1c\x1d\x1e\x85\u2028\u2029"  # as the documentation of str.splitlines lists


def test_marks():
    table = classes()
    assert all(table[ord(c)] & TERMINAL for c in ".!?…"[:3] + "。？！؟।")
    assert not any(table[ord(c)] & TERMINAL for c in "…\"'”);:,a ")
    assert not any(table[ord(c)] & PLAIN for c in ".,;:!?#-…“”'@\x00")
    assert all(table[ord(c)] & PLAIN for c in "aé1中ß•")


def test_marks_are_those_of_datatrove():
    theirs = pytest.importorskip("datatrove.utils.text", reason="the extra `datatrove` is not installed")
    table = classes()
    assert {chr(p) for p in range(0x110000) if table[p] & TERMINAL} == theirs.TERMINAL_PUNCTUATION
    assert {chr(p) for p in range(0x110000) if not table[p] & PLAIN} == theirs.PUNCTUATION_SET


# --- Characters and hashes ---


@law
@given(any_text)
def test_characters_are_decoded(value):
    data = bytes_of(value)
    points, i = [], 0
    while i < len(data):
        point, i = next_character(data, i, len(data))
        points.append(point)
    assert points == [ord(c) for c in value]


@law
@given(st.binary(max_size=12))
def test_bytes_that_are_no_text_are_read_in_bounds(raw):
    data = bytes_of(raw)
    i = 0
    while i < len(data):
        point, after = next_character(data, i, len(data))
        assert i < after <= len(data)
        assert 0 <= point < 0x110000
        i = after


@law
@given(mod, mod, st.integers(0, 5000))
def test_arithmetic_is_modulo_the_prime(a, b, exponent):
    a64, b64 = np.uint64(a), np.uint64(b)
    assert int(times(a64, b64)) == a * b % int(PRIME)
    assert int(plus(a64, b64)) == (a + b) % int(PRIME)
    assert int(power(exponent)) == pow(int(BASE), exponent, int(PRIME))


@law
@given(st.binary(max_size=30), st.binary(max_size=30))
def test_a_hash_is_the_polynomial_and_joins(x, y):
    value = 0
    for byte in x:
        value = (value * int(BASE) + byte + 1) % int(PRIME)
    hashed = hash_bytes(bytes_of(x), 0, len(x))
    assert int(hashed) == value
    moved = times(np.uint64(hashed), np.uint64(power(len(y))))
    joined = plus(np.uint64(moved), np.uint64(hash_bytes(bytes_of(y), 0, len(y))))
    assert joined == hash_bytes(bytes_of(x + y), 0, len(x + y))


@law
@given(any_text)
def test_a_span_is_summarised(value):
    data = bytes_of(value)
    hashed, length, seen, last = read_span(data, 0, len(data), classes())
    kinds = [int(classes()[ord(c)]) for c in value]
    assert hashed == hash_bytes(data, 0, len(data))
    assert length == len(value)
    assert seen == np.bitwise_or.reduce(np.array(kinds, dtype=np.int64), initial=0)
    assert last == (kinds[-1] if kinds else 0)


@law
@given(st.lists(st.sampled_from([0, 1, 2, 3, 1 << 32, 1 << 63, (1 << 64) - 1])))
def test_equal_keys_point_to_the_first(keys):
    first = np.empty(len(keys), dtype=np.int32)
    first_equal(np.array(keys, dtype=np.uint64), first)
    assert first.tolist() == [keys.index(key) for key in keys]


# --- Words ---


@njit
def _split(offsets, data, row, table, memo, waiting, room):
    words = new_words(room)
    n = split_words(data, offsets[row], offsets[row + 1], table, memo, waiting, words)
    return n, words


def words_of(texts: list[str], memory: WordMemo) -> list[list[str]]:
    """The words of each text, as strings; checks what else is known of them."""
    offsets, data = string_buffers(pa.array(texts, pa.large_string()))
    answers: list[list[str] | None] = [None] * len(texts)
    rows = list(range(len(texts)))
    while rows:
        memo, waiting = memory.begin()
        late = []
        for row in rows:
            n, words = _split(offsets, data, row, classes(), memo, waiting, 1 << 9)
            if n in (UNSEEN, NO_ROOM):
                late.append(row)
                continue
            written = "".join(texts[row].split())
            found = []
            for k in range(n):
                word = written[: words.lengths[k]]
                written = written[len(word) :]
                kinds = [int(classes()[ord(c)]) for c in word]
                assert words.sizes[k] == len(word.encode())
                assert words.hashes[k] == hash_bytes(bytes_of(word), 0, len(word.encode()))
                assert words.kinds[k] == np.bitwise_or.reduce(np.array(kinds))
                found.append(word)
            assert written == ""
            answers[row] = found
        assert len(late) < len(rows) or memo.state[1] > 0
        memory.learn(data, waiting)
        rows = late
    return answers


@law
@given(st.lists(any_text, max_size=3))
def test_whitespace_words_are_those_of_split(texts):
    assert words_of(texts, WordMemo("whitespace")) == [t.split() for t in texts]


@lru_cache(maxsize=1)
def english():
    spacy = pytest.importorskip("spacy", reason="the extra `datatrove` is not installed")
    return spacy.blank("en")


def spacy_words(value: str) -> list[str]:
    """Tokens without the whitespace around them, empty ones left out."""
    return [t.text.strip() for t in english()(value) if t.text.strip()]


SEEN_BEFORE = WordMemo("spacy")
bits = st.sampled_from(
    """. ... … , 's n't ’ll I'm don't U.S. a.m. 9a.m. 10km $ US$5 ( ) [ “ ” " - -- — / :) : o.O (: x-y e.g. # IS_ALPHA
    http://a.bc/d?e=f a@b.org é 中文。 ab Ab 1 2,000.50 \u200b 🙂 \x00""".split()
) | st.sampled_from(["  ", *" \n\t\xa0\u2028\x1c"])


@law
@given(st.lists(any_text | st.lists(bits, max_size=12).map("".join), min_size=1, max_size=3))
def test_spacy_words_are_those_of_the_whole_text(texts):
    expected = [spacy_words(t) for t in texts]
    assert words_of(texts, SEEN_BEFORE) == expected
    assert words_of(texts, WordMemo("spacy")) == expected


def test_spacy_words_by_hand():
    """Contractions, marks and currencies are cut off; abbreviations are whole (spaCy 101, "Tokenization")."""
    said = "“Let’s go to N.Y., don't you?”\xa0he said ($9)."
    assert words_of([said], SEEN_BEFORE) == [
        ["“", "Let", "’s", "go", "to", "N.Y.", ",", "do", "n't", "you", "?", "”", "he", "said", "(", "$", "9", ")", "."]
    ]


def test_more_pieces_than_fit_at_once(monkeypatch):
    monkeypatch.setattr(WordMemo, "AT_ONCE", 4)
    texts = [" ".join(f"w{i}x{j}," for j in range(9)) for i in range(7)] + ["", "w0x0, w6x8,"]
    assert words_of(texts, WordMemo("spacy")) == [spacy_words(t) for t in texts]


def test_a_full_memo_is_forgotten_before_the_next_table(monkeypatch):
    monkeypatch.setattr(text, "_threads", threading.local())
    monkeypatch.setattr(WordMemo, "MOST_PIECES", 2)
    for _ in range(3):
        memory = word_memo("spacy")
        assert not memory.full
        assert words_of(["a, b, c,", "a,"], memory) == [["a", ",", "b", ",", "c", ","], ["a", ","]]
        assert memory.full


def test_a_memo_survives_an_error(monkeypatch):
    memory = WordMemo("spacy")
    with monkeypatch.context() as broken:
        broken.setattr(text, "_spacy_lengths", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            words_of(["well, don't"], memory)
    assert words_of(["well, don't"], memory) == [["well", ",", "do", "n't"]]


def test_a_very_long_piece_is_one_word():
    memory = WordMemo("spacy")
    longest = "ab" * (text.LONGEST_PIECE // 2)
    found = words_of(["((", longest, longest + "!", "x y!"], memory)
    assert found == [["(", "("], [longest], [longest + "!"], ["x", "y", "!"]]


def test_too_many_words_for_the_room_is_told():
    offsets, data = string_buffers(pa.array(["a b c"], pa.large_string()))
    memo, waiting = WordMemo("whitespace").begin()
    assert _split(offsets, data, 0, classes(), memo, waiting, 2)[0] == TOO_SMALL


def test_a_thread_keeps_its_memo():
    assert word_memo("whitespace") is word_memo("whitespace")


def test_unknown_words():
    with pytest.raises(UnknownSetting, match="spacey") as error:
        word_memo("spacey")
    assert error.value.fix == "did you mean 'spacy'?"


def test_spacy_missing(monkeypatch):
    monkeypatch.setattr(text, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="spacy") as error:
        text.require_words("spacy", where="here")
    assert "curate[datatrove]" in error.value.fix


def test_ranges():
    assert text.code_points("21 2E-30") == [0x21, 0x2E, 0x2F, 0x30]
    assert re.fullmatch(r"[0-9A-F\s-]+", text.TERMINAL_MARKS + text.PUNCTUATION)
    assert unicodedata.category(chr(text.code_points(text.TERMINAL_MARKS)[0])) == "Po"
