"""The kernel that knows spaCy's English rules, against spaCy itself."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import english, text
from curate.text import WordMemo, string_buffers

pytest.importorskip("spacy", reason="the extra `datatrove` is not installed")

law = settings(deadline=None)
FRAGMENTS = """
    a b Z Q é É 中 1 12 . .. ... … …… , ; : ! ? - -- --- – — —— ~ ' ’ " “ ” ( ) [ ] { } < > = / + * ^ _ # & $ US$ C$ A$
    € % °C ° km km/h m² kg T 's ’S @ :// http:// www. .com .org/x co.uk a.b x.COM 10.0.0.1 1.2.3.4 :80 :8 /x ?q #f ² ½
    🙂 © | ?: ` ´ « » ß я Я ١ ａ ﷺ ا 𠀀 don't cannot gonna Mr. a.m. 10am :) o.O e.g. U.S. I'm It’s IS_ALPHA ünder ǅ
    b.asia user@host.net ftp://é.de:21/a?b#c 256.1.1.1 x_y.za -a.bc a-.bc
""".split()
visible = st.characters(exclude_categories=["Cs"]).filter(lambda c: not c.isspace())
pieces = st.lists(st.sampled_from(FRAGMENTS) | visible | st.text("abcXYZ", min_size=1), min_size=1, max_size=7)


def ours(values: list[str]) -> list[list[str] | None]:
    """Tokens by the kernel; None where it wants spaCy to be asked."""
    offsets, data = string_buffers(pa.array(values, pa.large_string()))
    rules = text._english_rules()
    assert rules is not None, "the installed spaCy has other rules: see english.KNOWN_RULES"
    scratch = english.new_scratch()
    _, at, _, bounds = scratch
    found: list[list[str] | None] = []
    for i in range(len(values)):
        start, end = offsets[i], offsets[i + 1]
        n = english.cut(data, start, end, np.uint64(text.hash_bytes(data, start, end)), rules, scratch)
        if n == 1:
            at[:2], bounds[:2] = (start, end), (0, 1)
        tokens = [bytes(data[at[bounds[j]] : at[bounds[j + 1]]]).decode() for j in range(n)]
        found.append(None if n == english.ASK_SPACY else tokens)
    return found


def theirs(value: str) -> list[str]:
    return [token.text for token in text._spacy_tokenizer("en")(value.replace("IS_ALPHA", "IS_ALPHB"))]


@settings(deadline=None, max_examples=1000)
@given(pieces.map("".join))
def test_a_piece_is_cut_as_spacy_cuts_it(piece):
    (tokens,) = ours([piece])
    if tokens is not None:
        assert [t.replace("IS_ALPHA", "IS_ALPHB") for t in tokens] == theirs(piece)


def test_by_hand():
    """Prefixes, suffixes and infixes, one example a rule ("Linguistic features", "Tokenization")."""
    cases = {
        "word": ["word"],
        "(word).": ["(", "word", ")", "."],
        "“Well,”": ["“", "Well", ",", "”"],
        "a-b--c": ["a", "-", "b", "--", "c"],
        "x/y=z": ["x", "/", "y", "=", "z"],
        "end.Next": ["end", ".", "Next"],
        "$9.50": ["$", "9.50"],
        "10km": ["10", "km"],
        "5+": ["5", "+"],
        "wait...what": ["wait", "...", "what"],
        "AB.": ["AB", "."],
        "A.": ["A."],
        "http://a.bc/d-e": ["http://a.bc/d-e"],  # a URL is whole, its hyphen too
        "a.bcd-e": ["a.bcd", "-", "e"],
        "dog's": ["dog", "'s"],
        "12-13": ["12", "-", "13"],
        "x🙂y": ["x", "🙂", "y"],
    }
    assert ours(list(cases)) == list(cases.values())


def test_special_cases_are_left_to_spacy():
    assert ours(["don't", "(gonna)", "10am", "x1" * english.LONGEST]) == [None] * 4
    assert ours(["Mr.", "a.m.", ":)"]) == [["Mr."], ["a.m."], [":)"]]  # special cases that are one token


def test_classes_are_those_of_spacy_for_every_code_point():
    """Read in bulk from its lists, compared one by one with its compiled patterns."""
    tokenizer = text._spacy_tokenizer("en")
    kinds = text._english_rules().kinds
    for point in [*range(0x2E), *range(0x2F, 0x3100), *range(0xFF00, 0x10000, 3), *range(0x1F000, 0x1FB00, 3)]:
        character = chr(point)
        assert bool(kinds[point] & english.PREFIX) == (tokenizer.find_prefix(character) > 0), hex(point)
        assert bool(kinds[point] & english.SUFFIX) == (tokenizer.find_suffix(character) > 0), hex(point)
        assert bool(kinds[point] & english.BEFORE_DOT) == (tokenizer.find_suffix(character + ".") > 0), hex(point)


def test_other_rules_go_to_spacy(monkeypatch):
    monkeypatch.setattr(english, "KNOWN_RULES", frozenset())
    english.rules.cache_clear()
    assert english.rules(text._spacy_tokenizer("en")) is None
    english.rules.cache_clear()
    assert english.fingerprint([len]) == ""


def test_other_languages_have_their_own_rules():
    memory = WordMemo("spacy:fr")
    offsets, data = string_buffers(pa.array(["l'homme don't"], pa.large_string()))
    memo, waiting = memory.begin()
    words = text.new_words(16)
    assert text.split_words(data, offsets[0], offsets[1], text.classes(), memo, waiting, words) == text.UNSEEN
    memory.learn(data, waiting)
    memo, waiting = memory.begin()
    n = text.split_words(data, offsets[0], offsets[1], text.classes(), memo, waiting, words)
    assert words.lengths[:n].tolist() == [2, 5, 4, 1]  # l' homme don' t: in French an apostrophe ends a word


# ---- letters and marks, without the memo -----------------------------------------------------------------------------

marks = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
ascii_letters = st.text("abcdmnorstuxyzADGIMSUX", min_size=1, max_size=14)
simple = st.builds("".join, st.tuples(marks | st.just(""), ascii_letters, marks | st.just("")))
known = st.sampled_from(
    "cannot dont Mr Mrs. (Mr.) a.m xD :D :p i.e. 'em 'Cause US$ id. Ill its 'Tis (im) \"wont\" Jan. A.".split()
)


def words_of(value: str) -> list[tuple[int, int, int]]:
    """Hash, bytes and classes of the words that ``split_words`` finds with spaCy's rules, with room for wide loads."""
    memory, raw = WordMemo("spacy"), value.encode()
    data, words = np.frombuffer(raw + b" " * 32, np.uint8), text.new_words(4 * len(raw) + 4)
    n = -1
    while n < 0:
        memo, waiting = memory.begin()
        n = text.split_words(data, 0, len(raw), text.classes(), memo, waiting, words)
        memory.learn(data, waiting)
    return list(zip(words.hashes[:n].tolist(), words.sizes[:n].tolist(), words.kinds[:n].tolist(), strict=True))


def expected(value: str) -> list[tuple[int, int, int]]:
    found = []
    for token in [t for piece in value.split() for t in theirs(piece)]:
        raw = np.frombuffer(token.encode(), np.uint8)
        kinds = int(np.bitwise_or.reduce(text.classes()[[ord(c) for c in token]]))
        found.append((int(text.hash_bytes(raw, 0, len(raw))), len(raw), kinds))
    return found


@settings(deadline=None, max_examples=400)
@given(st.lists(simple | known | pieces.map("".join), max_size=6))
def test_words_are_those_of_spacy_with_their_hashes_and_classes(values):
    value = " ".join(values).replace("IS_ALPHA", "alpha")
    assert words_of(value) == expected(value)


def test_every_mark_around_letters_and_every_special_case():
    """All of ASCII before and after letters of either case, and all special cases alone and between marks."""
    visible = [chr(c) for c in range(0x21, 0x7F)]
    around = [f"{a}{w}{b}" for a in ["", *visible] for w in ("a", "Ab", "US", "wxyz") for b in ["", *visible]]
    specials = [s for s in text._spacy_tokenizer("en").rules if s.isascii() and not any(c.isspace() for c in s)]
    among = [f"{a}{s}{b}" for s in specials for a in ("", "(", "'") for b in ("", ")", ".", ",")]
    data = " ".join([*around, *among])
    assert words_of(data) == expected(data)
