"""Repeated substrings: every byte as a naive search says, whatever the parts and buckets."""

import hashlib
from collections import defaultdict
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.columns import INT32, KEY, TEXT
from curate.cut import Cut, spans
from curate.errors import UnknownSetting
from curate.substring import Substring, anchors, repeated
from curate.testing import run_rounds

law = settings(deadline=None, max_examples=150)  # kernels compile once


def found(texts, config, cuts=(), buckets=3, sources=None):
    """The repeated spans of each text, as pairs."""
    ids = [f"doc{i:03d}" for i in range(len(texts))]
    table = pa.table(
        {
            "id": pa.array(ids, TEXT),
            "key": pa.array([hashlib.md5(i.encode()).digest() for i in ids], KEY),
            "source": pa.array(sources or ["web"] * len(ids), TEXT),
            "text": pa.array(texts, TEXT),
        }
    )
    table = table.append_column("anchors", anchors(table.select(["text"]), config.each())["anchors"])
    ends = [0, *sorted(min(c, len(texts)) for c in cuts), len(texts)]
    parts = [table.slice(a, b - a).select(list(repeated.reads(config))) for a, b in pairwise(ends)]
    answer, _ = run_rounds(repeated, parts, config, buckets)
    assert answer["repeated_spans"].type == pa.list_(INT32)
    flat = answer.sort_by("address")["repeated_spans"].to_pylist()
    return [list(zip(f[::2], f[1::2], strict=True)) for f in flat]


def naive(texts, config, safe=frozenset()):
    """Every window of every text looked up in a dictionary; documents in order, those in ``safe`` first."""
    size, places = config.min_bytes, defaultdict(list)
    raw = [t.encode() for t in texts]
    for i in sorted(range(len(raw)), key=lambda i: (i not in safe, i)):
        for s in range(len(raw[i]) - size + 1):
            places[raw[i][s : s + size]].append((i, s))
    later, first = [set() for _ in raw], [set() for _ in raw]
    for at in places.values():
        if len(at) > 1:
            for n, (i, s) in enumerate(at):
                (first if n == 0 and config.keep == "first" else later)[i].update(range(s, s + size))
    out = []
    for i, text in enumerate(raw):
        goes = sorted(later[i] - first[i]) if i not in safe else []
        runs = []
        for b in goes:
            if runs and runs[-1][1] == b:
                runs[-1][1] = b + 1
            else:
                runs.append([b, b + 1])
        kept = []
        for a, b in runs:
            while a < b and text[a] & 0xC0 == 0x80:
                a += 1
            while b > a and b < len(text) and text[b] & 0xC0 == 0x80:
                b -= 1
            kept += [(a, b)] if a < b else []
        out.append(kept)
    return out


def test_a_sentence_in_two_documents():
    shared = "the same words in both of them"
    texts = [f"First: {shared}!", f"Second, {shared}?"]
    size = len(shared) + 1  # the space before it is shared too
    first = Substring(min_bytes=size, keep_by=("id",))
    assert found(texts, first) == [[], [(7, 7 + size)]]
    assert found(texts, Substring(min_bytes=size, keep="none")) == [[(6, 6 + size)], [(7, 7 + size)]]
    assert found(texts, Substring(min_bytes=size + 1, keep="none")) == [[], []]


def test_a_document_that_repeats_itself():
    """Eight bytes in a row can be read in eight rotations, the last of which is over at byte 15."""
    text = "abcdefgh" * 4
    assert found([text], Substring(min_bytes=8)) == [[(15, 32)]]
    assert found([text], Substring(min_bytes=8, keep="none")) == [[(0, 32)]]


def test_one_character_over_and_over():
    assert found(["x" * 5000, "y" + "x" * 300], Substring(min_bytes=200, keep_by=("id",))) == [
        [(200, 5000)],
        [(1, 301)],
    ]


def test_spans_shrink_to_whole_characters():
    """Two characters that share their last bytes: the window ends, or begins, within them."""
    one, other = "é" + "abcdefg", "ũ" + "abcdefg"  # C3 A9 and C5 A9
    config = Substring(min_bytes=8, keep="none")
    assert one.encode()[1:] == other.encode()[1:]
    assert found([one, other], config) == [[(2, 9)], [(2, 9)]]
    one, other = "abcdefg" + "é", "abcdefg" + "è"
    assert found([one, other], config) == [[(0, 7)], [(0, 7)]]


def test_what_a_whole_source_has_goes_from_the_others():
    shared = "words that both of them have in common"
    texts = [f"a {shared} b", f"c {shared} d", f"e {shared} f"]
    config = Substring(min_bytes=30, keep_whole=("books",))
    got = found(texts, config, (1, 2), sources=["web", "books", "books"])
    assert [len(g) for g in got] == [1, 0, 0]
    assert got == naive(texts, config, {1, 2})


@law
@given(
    st.lists(st.text(alphabet="abé", max_size=25), max_size=6),
    st.integers(4, 9),
    st.sampled_from(["first", "none"]),
    st.lists(st.integers(0, 6), max_size=2),
    st.integers(1, 3),
)
def test_every_byte_as_a_naive_search_says(texts, size, keep, cuts, buckets):
    config = Substring(min_bytes=size, keep=keep, keep_by=("id",))
    assert found(texts, config, cuts, buckets) == naive(texts, config)


@law
@given(st.data())
def test_long_texts_with_copies_within(data):
    """Pieces pasted into random text, so that windows are longer than one anchor's reach."""
    random = data.draw(st.randoms(use_true_random=False))
    pieces = ["".join(random.choices("abcdefgh é猫", k=random.randrange(10, 90))) for _ in range(3)]
    texts = []
    for _ in range(4):
        mixed = ["".join(random.choices("abcdefgh é猫", k=random.randrange(0, 30))) for _ in range(4)]
        texts.append("".join(m + random.choice(pieces)[random.randrange(5) :] for m in mixed))
    config = Substring(min_bytes=data.draw(st.integers(12, 40)), keep=data.draw(st.sampled_from(["first", "none"])),
                       keep_by=("id",))  # fmt: skip
    assert found(texts, config, (2,)) == naive(texts, config)


@law
@given(st.lists(st.text(alphabet="ab", max_size=30), max_size=5), st.integers(4, 8))
def test_every_repeated_window_stays_whole_once(texts, size):
    config = Substring(min_bytes=size, keep_by=("id",))
    gone = [{b for a, e in at for b in range(a, e)} for at in found(texts, config)]
    places = defaultdict(list)
    for i, text in enumerate(texts):
        for s in range(len(text) - size + 1):
            places[text[s : s + size]].append(not gone[i] & set(range(s, s + size)))
    assert all(any(whole) for whole in places.values() if len(whole) > 1)


def test_cut_out():
    shared = "a notice that every page of this site carries at its end"
    texts = [f"Page {i} says something of its own. {shared}" for i in range(3)]
    at = found(texts, Substring(min_bytes=40, keep_by=("id",)))
    table = pa.table(
        {"text": pa.array(texts, TEXT), "s": pa.array([[b for pair in a for b in pair] for a in at], pa.list_(INT32))}
    )
    made = spans(table, Cut(column="s"))
    assert made["text"].to_pylist()[0] == texts[0]
    assert all(shared not in t for t in made["text"].to_pylist()[1:])


@pytest.mark.parametrize("wrong", [{"min_bytes": 3}, {"keep": "last"}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(UnknownSetting, match=next(iter(wrong))):
        Substring(**wrong)
