"""Signatures like datatrove's: simplified text, hashes and minima against definitions, and against datatrove itself."""

import hashlib
import re
import sys
import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curate import text as curate_text
from curate.columns import TEXT
from curate.errors import UnknownSetting
from curate.minhash import MinHash, Signature, minima_of, near_duplicates, signatures
from curate.near import like_datatrove
from curate.near.signing import sets_of
from curate.testing import run_rounds

law = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])  # compiles
NEWER = frozenset(curate_text.code_points(like_datatrove.NEWER_DIGITS))
PUNCTUATION = "".join(map(chr, curate_text.code_points(curate_text.PUNCTUATION)))
DIGITS = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) == "Nd" or ord(c) in NEWER)
NUMBER = re.compile(f"[{DIGITS}]+(?:[.,،٫⎖⎗⎘][{DIGITS}]+)?")


def simplified(text: str) -> list[str]:
    """The words of a simplified text, step by step as datatrove takes them (utils/text.py, simplify_text)."""
    text = NUMBER.sub("0", text.lower())
    text = text.translate({ord(c): " " for c in PUNCTUATION})
    text = re.sub(r"\s+", " ", text.strip())
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn").split()


def kernel(texts: list[str]) -> list[list[str]]:
    offsets, data = curate_text.string_buffers(pa.array(texts, TEXT))
    ends, simple = like_datatrove.simplify(offsets, data, 0, len(texts))
    return [bytes(simple[a:b]).decode().split(" ") if b > a else [] for a, b in pairwise(ends.tolist())]


# ---- simplified text ----------------------------------------------------------------------------------------------

BY_CATEGORY: dict[str, list[str]] = {}
for _point in range(sys.maxunicode + 1):
    BY_CATEGORY.setdefault(unicodedata.category(chr(_point)), []).append(chr(_point))
del BY_CATEGORY["Cs"]  # UTF-8 has no surrogates
TRICKY = "ΣσςİıſKÅ'.’·:,،٫⎖_`\u0301\u0345\u0307\u0327\u1b44\ua9c0\u302e\u16ff0\U0001d165\u1fef\u037e가힣각\ufb01ﬀ١۲1２0"
characters = (
    st.sampled_from(sorted(BY_CATEGORY)).flatmap(lambda category: st.sampled_from(BY_CATEGORY[category]))
    | st.sampled_from(TRICKY + "aZ \n\t")
    | st.sampled_from(DIGITS)
    | st.sampled_from("\U000e0001\U000e0041\U000e0100\U000e01ef\U000f0000\U0010fffd")
)


@law
@given(st.lists(st.text(characters, max_size=30), min_size=1, max_size=5))
@example(["ΟΔΟΣ ΟΔΟΣ. ΟΔΟΣ'Α Σ ΣΑ 1Σ a\u0301Σ\u0301 A'Σ\U000e0100b", "İSTANBUL İ\u0301"])
@example(["a \u0301 b", "1\u03012 1.2.3 ١٫٢ 3⎖4"])
@example(["\u0327\u0301 e\u0301\u0327 \ua9c0\u302e \u302e\ua9c0 a\u1b44\u302eb"])
@example(["Σ" * 40, "A" + "'" * 30 + "Σ" + "'" * 30 + "B"])
def test_simplified_text_is_that_of_the_definition(texts):
    assert kernel(texts) == [simplified(t) for t in texts]


def test_every_code_point_becomes_what_it_should():
    """Each on its own, before a letter, and between letters and digits."""
    texts = [f"a{chr(p)}b {chr(p)} 1{chr(p)}2 {chr(p)}Σ" for p in range(0x31400) if not 0xD800 <= p < 0xE000]
    assert kernel(texts) == [simplified(t) for t in texts]


@law
@given(st.text(characters, max_size=40))
def test_the_slow_path_is_the_definition_too(text):
    assert like_datatrove.simplify_slowly(text).split() == simplified(text)


def test_numbers_by_hand():
    assert kernel(["In 1,234.50 of 3.14 cases; v1.2.3 ٣٫٥ and 7."]) == [
        ["in", "0", "0", "of", "0", "cases", "v0", "0", "0", "and", "0"]
    ]


# ---- hashes -------------------------------------------------------------------------------------------------------


@law
@given(st.binary(max_size=200), st.integers(0, 20))
@example(b"", 0)
@example(b"x" * 32, 0)
@example(b"x" * 55, 0)
@example(b"x" * 56, 0)
@example(b"x" * 64, 0)
@example(b"x" * 130, 3)
def test_hashes_are_those_of_the_standard_libraries(data, start):
    start = min(start, len(data))
    padded = np.frombuffer(data + bytes(8), np.uint8)
    assert like_datatrove.xxhash64(padded, start, len(data)) == xxhash.xxh64_intdigest(data[start:])
    out = np.empty(1, np.uint64)
    like_datatrove.sha1(padded, np.array([start]), np.array([len(data)]), out)
    assert out[0] == int.from_bytes(hashlib.sha1(data[start:]).digest()[:8], "little")


def test_many_messages_side_by_side():
    data = np.random.default_rng(0).integers(0, 256, 4000, np.uint8)
    starts = np.arange(0, 370, 10)
    ends = starts + np.arange(37) * 7
    out = np.empty(37, np.uint64)
    like_datatrove.sha1(data, starts, ends, out)
    spans = [data[a:b].tobytes() for a, b in zip(starts, ends, strict=True)]
    assert out.tolist() == [int.from_bytes(hashlib.sha1(s).digest()[:8], "little") for s in spans]


# ---- minima -------------------------------------------------------------------------------------------------------


def reference(text: str, by: str, functions: int = 112, ngram: int = 5) -> tuple[list[int], int]:
    """Minima by whole numbers of any size, on words between white space; and the number of distinct shingles."""
    most = 2**61 - 1
    draw = np.random.RandomState(1)
    a = draw.randint(1, most, dtype=np.uint64, size=(1, functions))[0].tolist()
    b = draw.randint(0, most, dtype=np.uint64, size=(1, functions))[0].tolist()
    words = simplified(text)
    joined = {" ".join(words[i : i + ngram]).encode() for i in range(len(words) - ngram + 1)}
    if by == "sha1":
        hashes = [int.from_bytes(hashlib.sha1(s).digest()[:8], "little") for s in joined]
    else:
        hashes = [xxhash.xxh64_intdigest(s) for s in joined]
    least = [min(((h * x + y) % 2**64 % most for h in hashes), default=most) for x, y in zip(a, b, strict=True)]
    return least, len(joined)


texts = st.lists(st.sampled_from(["one", "two", "three", "Four", "5,5", "six-seven", "é", "e\u0301", "Σ"]), max_size=60)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(texts.map(" ".join), min_size=1, max_size=4), st.sampled_from(["xxhash64", "sha1"]))
def test_minima_against_whole_numbers(docs, by):
    config = Signature(like="datatrove", hash=by, words="whitespace")
    least, counts = minima_of(pa.array(["x", *docs], TEXT)[1:], config)
    assert [(m, c) for m, c in zip(least.tolist(), counts.tolist(), strict=True)] == [reference(d, by) for d in docs]


def test_the_modulus_is_taken_exactly():
    """A hash whose image is the modulus or a little more becomes 0 or a little more, and is the minimum."""
    p = 2**61 - 1
    hashes = np.array([p + 5, 7 * (p + 1) + p - 3, 2**63], np.uint64)
    least = np.array([p], np.uint64)
    like_datatrove._lower_minima(hashes, 3, np.array([1], np.uint64), np.array([0], np.uint64), least)
    assert least[0] == min(h % p for h in hashes.tolist())


def test_sets_are_the_distinct_hashes_in_order():
    text = "one two three four five six one two three four five six one two"
    for by in ("xxhash64", "sha1"):
        values, ends = sets_of(pa.array([text, "", text + " end"], TEXT), Signature(like="datatrove", hash=by))
        words = text.split()
        spans = {" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)}
        true = [xxhash.xxh64_intdigest(s) if by == "xxhash64" else
                int.from_bytes(hashlib.sha1(s).digest()[:8], "little") for s in spans]  # fmt: skip
        assert values[: ends[1]].tolist() == sorted(true)
        assert ends.tolist() == [0, len(true), len(true), 2 * len(true) + 1]


def test_fewer_words_than_a_shingle_have_no_signature():
    got = signatures(pa.table({"text": pa.array(["a b c d", "a b c d e", None], TEXT)}), Signature(like="datatrove"))
    assert got["minhash"].is_null().to_pylist() == [True, False, True]
    assert got["shingles"].to_pylist() == [0, 1, 0]


def test_batches_change_nothing(monkeypatch):
    table = pa.array([f"text number {i} of a batch with some words {'and more ' * (i % 7)}" for i in range(50)], TEXT)
    config = Signature(like="datatrove")
    whole, sets = minima_of(table, config), sets_of(table, config)
    monkeypatch.setattr(like_datatrove, "BATCH", 100)
    assert all(np.array_equal(a, b) for a, b in zip(minima_of(table, config), whole, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(sets_of(table, config), sets, strict=True))


def test_clusters_with_verification_and_without():
    """The first two have the same simplified words; the third shares 7 of their 11 shingles (Jaccard 7/15)."""
    first = "The Café of 1,234 people, it’s said, had been here since the year 1900 or so"
    second = "the cafe of 99 people it s said had been here since the year 5 or so!"
    other = "the cafe of 99 people it s said had been here since the war began again now"
    keys = [hashlib.md5(t.encode()).digest() for t in (first, second, other)]
    texts = pa.array([first, second, other], TEXT)
    docs = pa.table({"id": pa.array(["a", "b", "c"], TEXT), "key": pa.array(keys, pa.binary(16)), "text": texts})
    for verify, clustered in ((True, 2), (False, 3)):
        config = MinHash(like="datatrove", bands=60, rows=1, verify=verify)
        signed = signatures(docs.select(["text"]), config)
        table = docs.append_column("minhash", signed["minhash"]).append_column("shingles", signed["shingles"])
        answer, _ = run_rounds(near_duplicates, [table], config)
        assert len(answer) == clustered


@pytest.mark.parametrize("setting", [{"like": "datatrov"}, {"hash": "md5"}, {"words": "bpe"}])
def test_settings_that_make_no_sense(setting):
    with pytest.raises(UnknownSetting, match="fix: "):
        Signature(**setting)


# ---- the tool itself ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def datatrove(tmp_path_factory):
    pytest.importorskip("datatrove")
    pytest.importorskip("spacy")
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    step = MinhashDedupSignature(str(tmp_path_factory.mktemp("signatures")), MinhashConfig())
    step._hash_func = lambda s: xxhash.xxh64_intdigest(s.encode())  # newer xxhash refuses str
    return step


PROSE = [
    "I'm sure you'll agree that it's gonna be 10km, isn't it? Mr. O'Neill didn't think so; he'd said so (twice).",
    "Price: $1,299.99 (50% off!) — visit http://www.example.com/a_b?q=1 or mail me@example.org at 10am, U.S. time…",
    "ΟΔΟΣ ΟΔΥΣΣΕΩΣ, İstanbul’da naïve café; ١٢٣٫٤٥ كتاب 中文字符测试 हिन्दी भाषा में लिखा हुआ 😀👍🏽 c++ & c#",
    "cannot dont im wont shouldntve 5pm 12° 3€ x² ½ ≠ a≠b ‘quoted’ •bullet ●another →arrow ©2024 ™ #hash @name",
    "e\u0301 \u0301 e\u0301 a\u0308\u0323b one two three four five six \u0301 seven",
]


def test_minima_are_those_of_datatrove(datatrove):
    least, _ = minima_of(pa.array(PROSE, TEXT), Signature(like="datatrove"))
    for text, row in zip(PROSE, least, strict=True):
        theirs = datatrove.get_signature(datatrove.get_shingles(text))
        assert np.concatenate(theirs).tolist() == row.tolist()


@law
@given(st.text(characters, max_size=60))
def test_words_are_those_of_datatrove(datatrove, text):
    from datatrove.utils.text import simplify_text

    assert kernel([text]) == [simplify_text(text).split()]
