"""The byte n-gram against its formula: by hand, by brute force, and by what a probability must obey."""

from collections import Counter
from itertools import chain
from math import log

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.text import string_buffers
from curate.train import ngram

LN2 = log(2)


def buffers(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    return string_buffers(pa.array(texts, pa.large_binary()))


def nats(train: list[bytes], test: list[bytes], order: int = 6, discount: float = 0.75) -> np.ndarray:
    return ngram.nats(ngram.train(*buffers(train), order=order, discount=discount), *buffers(test))


def brute_force(train: list[bytes], test: list[bytes], order: int, discount: float) -> np.ndarray:
    """The formula of the module's docstring, read aloud, one byte at a time."""
    count = Counter(d[i : i + k] for d in train for k in range(1, order + 1) for i in range(len(d) - k + 1))

    def p(h: bytes, w: int) -> float:
        followers = [count[h + bytes([x])] for x in range(256) if count[h + bytes([x])]]
        below = p(h[1:], w) if h else 1 / 256
        if not followers:
            return below
        seen = max(count[h + bytes([w])] - discount, 0) / sum(followers)
        return seen + discount * len(followers) / sum(followers) * below

    return np.array([
        [-sum(log(p(d[max(0, i - k + 1) : i], d[i])) for i in range(len(d))) for d in test] for k in range(1, order + 1)
    ])  # fmt: skip


def test_by_hand():
    """Of "abab": c(a) = c(b) = 2 of 4, two types; a is followed by b twice, b by a once."""
    p1 = (2 - 0.75) / 4 + 0.75 * 2 / 4 / 256
    b_after_a = (2 - 0.75) / 2 + 0.75 * 1 / 2 * p1
    a_after_b = (1 - 0.75) / 1 + 0.75 * 1 / 1 * p1
    a_after_a = 0 + 0.75 * 1 / 2 * p1
    z = 0.75 * 2 / 4 / 256                    # never seen: what the discount left over, spread over 256 bytes
    got = nats([b"abab"], [b"ab", b"ba", b"aa", b"za"], order=2)
    assert got[0] == pytest.approx([-2 * log(p1), -2 * log(p1), -2 * log(p1), -log(z) - log(p1)], rel=1e-12)
    assert got[1] == pytest.approx(
        [-log(p1) - log(b_after_a), -log(p1) - log(a_after_b), -log(p1) - log(a_after_a), -log(z) - log(p1)], rel=1e-12
    )


texts = st.lists(st.binary(max_size=12) | st.lists(st.sampled_from(b"\x00ab\xff"), max_size=24).map(bytes), max_size=6)


@settings(deadline=None)
@given(texts, texts, st.integers(1, 6), st.sampled_from([0.25, 0.75]))
def test_equals_brute_force(train: list[bytes], test: list[bytes], order: int, discount: float):
    np.testing.assert_allclose(
        nats(train, test, order, discount), brute_force(train, test, order, discount).reshape(order, len(test)),
        rtol=1e-9
    )


@settings(deadline=None)
@given(texts, st.lists(st.sampled_from(b"\x00ab\xff"), max_size=7).map(bytes))
def test_next_bytes_sum_to_one(train: list[bytes], history: bytes):
    every = nats(train, [history + bytes([w]) for w in range(256)] + [history])
    assert np.exp(every[:, 256:] - every[:, :256]).sum(axis=1) == pytest.approx(np.ones(6), rel=1e-9)


def test_an_untrained_model_is_uniform_and_counts_bytes():
    """8 bits a byte, whatever a character is: emoji (4 bytes), a combining mark (1 + 2), CRLF (2)."""
    documents = ["🙂".encode(), "e\u0301".encode(), b"\r\n", b""]
    got = nats([], documents)
    size = np.array([4, 3, 2, 0])
    assert got == pytest.approx(np.tile(8 * LN2 * size, (6, 1)), rel=1e-14)


def test_documents_do_not_touch():
    together, apart = nats([b"abcd"], [b"bc"], order=2), nats([b"ab", b"cd"], [b"bc"], order=2)
    assert together[0] == pytest.approx(apart[0])
    assert together[1] < apart[1]
    alone = [nats([b"xyz"], [document]) for document in (b"ab", b"cd")]
    assert nats([b"xyz"], [b"ab", b"cd"]) == pytest.approx(np.hstack(alone))


def test_the_order_of_documents_changes_no_bit():
    documents = [bytes([97 + i % 5, 98 + i % 3, 32]) * (1 + i % 4) for i in range(50)]
    assert (nats(documents, documents) == nats(documents[::-1], documents)).all()


def test_a_slice_of_a_column():
    column = pa.array(["left out", "abab", "aba", "left out"], pa.large_string()).slice(1, 2)
    got = ngram.nats(ngram.train(*string_buffers(column)), *string_buffers(column))
    assert (got == nats([b"abab", b"aba"], [b"abab", b"aba"])).all()


def masked_brute_force(
    train: list[bytes], learned: list[list[bool]], test: list[bytes], scored: list[list[bool]], order: int
) -> np.ndarray:
    """The formula over the bytes that count: a window counts where its last byte does, whatever stands before it."""
    count = Counter(
        d[i : i + k] for d, keep in zip(train, learned, strict=True)
        for k in range(1, order + 1) for i in range(len(d) - k + 1) if keep[i + k - 1]
    )  # fmt: skip

    def p(h: bytes, w: int) -> float:
        followers = [count[h + bytes([x])] for x in range(256) if count[h + bytes([x])]]
        below = p(h[1:], w) if h else 1 / 256
        if not followers:
            return below
        seen = max(count[h + bytes([w])] - 0.75, 0) / sum(followers)
        return seen + 0.75 * len(followers) / sum(followers) * below

    return np.array([
        [-sum(log(p(d[max(0, i - k + 1) : i], d[i])) for i in range(len(d)) if keep[i])
         for d, keep in zip(test, scored, strict=True)]
        for k in range(1, order + 1)
    ])  # fmt: skip


masked_texts = st.lists(st.lists(st.tuples(st.sampled_from(b"\x00ab\xff"), st.booleans()), max_size=14), max_size=4)


@settings(deadline=None)
@given(masked_texts, masked_texts, st.integers(1, 6))
def test_masked_bytes_are_history_alone(train, test, order):  # type: ignore[no-untyped-def]
    (texts, learned), (others, scored) = (
        ([bytes(b for b, _ in d) for d in some], [[keep for _, keep in d] for d in some]) for some in (train, test)
    )
    model = ngram.train(*buffers(texts), order=order, counted=np.array([*chain(*learned)], dtype=bool))
    got = ngram.nats(model, *buffers(others), np.array([*chain(*scored)], dtype=bool))
    wanted = masked_brute_force(texts, learned, others, scored, order).reshape(order, len(others))
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


def test_a_mask_of_nothing_changes_no_bit():
    documents = [bytes([97 + i % 5, 98 + i % 3, 32]) * (1 + i % 4) for i in range(50)]
    every = np.ones(sum(map(len, documents)), dtype=bool)
    model = ngram.train(*buffers(documents), counted=every)
    assert (ngram.nats(model, *buffers(documents), every) == nats(documents, documents)).all()


def test_refuses_what_it_cannot_pack():
    with pytest.raises(ValueError, match="order must be 1 to 6"):
        ngram.train(*buffers([b"a"]), order=7)
    with pytest.raises(ValueError, match="discount"):
        ngram.train(*buffers([b"a"]), discount=1.0)
