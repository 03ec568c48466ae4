"""Packing: best fit is a naive best fit's, no document that fits is broken, and batches hold what they say."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.train import data, decomposition, feeds, loop, model, packing, score, tokenising
from curate.train.orders import Shuffled, Sorted, Subset

SEP = 99


def naive_best_fit(sizes, capacity):
    """The definition (Ding et al. 2024, section 3), item by item: what is left in each bin."""
    bins = []
    for size in sorted(sizes, reverse=True):
        fullest = min((b for b in range(len(bins)) if bins[b] >= size), key=bins.__getitem__, default=None)
        if fullest is None:
            bins.append(capacity - size)
        else:
            bins[fullest] -= size
    return Counter(bins)


# ------------------------------------------------------------------------------------------------------------ best fit


@settings(max_examples=300)
@given(st.data())
def test_it_is_a_naive_best_fit(draw):
    capacity = draw.draw(st.integers(1, 40))
    largest = draw.draw(st.integers(1, capacity))
    sizes = draw.draw(st.lists(st.integers(1, largest), max_size=80))
    bins, count = packing.best_fit(np.array(sizes, dtype=np.int64), capacity)
    held = np.bincount(bins, weights=sizes, minlength=count).astype(int) if sizes else np.zeros(0, dtype=int)
    assert Counter((capacity - held).tolist()) == naive_best_fit(sizes, capacity)


def test_a_packing_worked_out_by_hand():
    """Bins of 10: 7 opens one, each 6 another; the 4 fills the first 6, the 3 the 7, the two 2s the second 6."""
    bins, count = packing.best_fit(np.array([2, 6, 3, 7, 2, 6, 4]), 10)
    assert bins.tolist() == [2, 1, 0, 0, 2, 2, 1]
    assert count == 3


def test_equal_sizes_fill_bins():
    bins, count = packing.best_fit(np.full(7, 3), 10)
    assert bins.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert count == 3


@pytest.mark.parametrize("sizes", [[0], [11], [-1, 3]])
def test_items_that_fit_no_bin(sizes):
    with pytest.raises(ValueError, match="do not fit bins of 10"):
        packing.best_fit(np.array(sizes), 10)


def test_nothing_to_pack():
    assert packing.best_fit(np.empty(0, dtype=np.int64), 10)[1] == 0
    rows = packing.best_fit_rows(np.zeros(3, dtype=np.int64), 8)
    assert len(rows) == 0
    assert packing.report(np.zeros(3, dtype=np.int64), rows, 8).waste == 0.0


@settings(max_examples=200)
@given(
    lengths=st.lists(st.integers(0, 60), max_size=60), context=st.integers(1, 20),
    window=st.none() | st.integers(1, 20),
)  # fmt: skip
def test_every_token_is_in_one_row_and_no_short_document_is_cut(lengths, context, window):
    lengths = np.array(lengths, dtype=np.int64)
    rows = packing.best_fit_rows(lengths, context, window)
    pieces = rows.pieces
    seen = Counter()
    for r in range(len(rows)):
        mine = range(rows.offsets[r], rows.offsets[r + 1])
        assert 0 < sum(int(pieces.size[i]) + 1 for i in mine) <= context + 1
        for i in mine:
            seen.update((int(pieces.document[i]), int(pieces.first[i]) + j) for j in range(int(pieces.size[i])))
    assert set(seen.values()) <= {1}
    assert set(seen) == {(d, t) for d, n in enumerate(lengths.tolist()) for t in range(n)}
    whole = Counter(pieces.document.tolist())
    assert all(whole[d] == -(-n // context) for d, n in enumerate(lengths.tolist()))
    report = packing.report(lengths, rows, context)
    assert report.truncated == report.dropped == 0
    assert report.rows >= report.fewest
    assert report.tokens == lengths.sum()


def test_a_window_keeps_the_order():
    """Rows of a later window come after those of an earlier one, and within one by first document."""
    lengths = np.random.default_rng(0).integers(1, 30, 400)
    rows = packing.best_fit_rows(lengths, 40, window=50)
    first = rows.pieces.document[rows.offsets[:-1]]
    assert (np.diff(first) > 0).all()
    last = np.maximum.reduceat(rows.pieces.document, rows.offsets[:-1])
    assert (first // 50 == last // 50).all()


@settings(max_examples=200)
@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 12))
def test_rows_that_begin_with_documents_are_those_of_the_definition(lengths, context):
    """Documents go into a buffer; when it holds a row, the row is written and the rest of it is thrown away."""
    rows, buffer, room = [], [], context + 1
    for number, length in enumerate(lengths):
        held = min(length + 1, room)
        buffer.append((number, held - 1))
        room -= held
        if room == 0:
            rows.append(buffer)
            buffer, room = [], context + 1
    rows += [buffer] if buffer else []
    found = packing.cut_heads(np.array(lengths, dtype=np.int64), context)
    ends = found.offsets.tolist()
    pieces = list(zip(found.pieces.document.tolist(), found.pieces.size.tolist(), strict=True))
    assert [pieces[a:b] for a, b in pairwise(ends)] == rows
    assert not found.pieces.first.any()


def test_a_report_in_words():
    rows = packing.best_fit_rows(np.array([3, 9]), 4)
    assert str(packing.report(np.array([3, 9]), rows, 4)) == (
        "2 documents in 4 rows (at least 4): 20.000% padding, 0 truncated, 1 longer than a row, 0 tokens dropped"
    )  # pieces of 3, 4, 4 and 1 tokens and one id before each: 16 ids in 4 rows of 5


# --------------------------------------------------------------------------------------------------------------- feeds


def numbered(lengths, seed=0):
    """Documents whose ids are all different, so that a token can be told from every other."""
    ids = np.random.default_rng(seed).permutation(np.arange(100, 100 + sum(lengths)))
    return data.pack(np.split(ids, np.cumsum(lengths)[:-1]), SEP)


def predicted(batch):
    """(id before, id) of every token that counts, in all rows."""
    weights = np.ones(batch.ids[:, 1:].shape) if batch.weights is None else batch.weights
    at = weights > 0
    return list(zip(batch.ids[:, :-1][at].tolist(), batch.ids[:, 1:][at].tolist(), strict=True))


def pairs(tokens, end):
    """The same from the definition: within a document, from its separator to its end."""
    out = []
    for i in range(tokens.documents):
        document = tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]].tolist() + [SEP] * end
        out += list(pairwise(document))
    return Counter(out)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_epoch_predicts_every_token_from_the_one_before(draw):
    lengths = draw.draw(st.lists(st.integers(0, 30), min_size=1, max_size=20).filter(sum))
    end = draw.draw(st.booleans())
    tokens = numbered(lengths)
    feed = feeds.BestFit(tokens, draw.draw(st.integers(1, 16)), 1, epochs=2, end=end, seed=draw.draw(st.integers(0, 9)))
    assert feed.steps == 2 * feed.report.rows
    for epoch in range(2):
        steps = range(epoch * feed.report.rows, (epoch + 1) * feed.report.rows)
        assert Counter(p for s in steps for p in predicted(feed.batch(s))) == pairs(tokens, end)


def test_a_row_worked_out_by_hand():
    tokens = data.pack([[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11]], SEP)
    feed = feeds.BestFit(tokens, 6, 3)
    rows = {tuple(r): (d.tolist(), w.tolist()) for r, d, w in zip(*vars(feed.batch(0)).values(), strict=True)}
    # with its end a document has 4, 2 and 8 tokens to predict; the last one is cut after 6, and goes on from its 10
    assert rows[99, 5, 6, 7, 8, 9, 10] == ([0] * 7, [1] * 6)
    assert rows[99, 1, 2, 3, 99, 99, 99] == ([0] * 5 + [-1] * 2, [1] * 4 + [0] * 2)
    assert rows[99, 4, 99, 10, 11, 99, 99] == ([0] * 3 + [1] * 3 + [-1], [1, 1, 0, 1, 1, 0])


def test_rows_that_begin_with_documents_by_hand():
    """Rows of 8 tokens and the id before: of the third text only its first token fits; the fourth begins a row."""
    tokens = data.pack([[1, 2], [3], [4, 5, 6, 7], [8]], SEP)
    order = Sorted(documents=4, scores=np.arange(4.0), easy="low")
    feed = feeds.Headed(tokens, 8, 2, order=order)
    batch = feed.batch(0)
    assert batch.ids.tolist() == [[99, 1, 2, 99, 99, 3, 99, 99, 4], [99, 8, 99, 99, 99, 99, 99, 99, 99]]
    assert batch.documents.tolist() == [[0] * 4 + [1] * 3 + [2] * 2, [0] * 3 + [-1] * 6]
    assert batch.weights.tolist() == [[1, 1, 1, 0, 1, 1, 0, 1], [1, 1] + [0] * 6]
    assert feed.report.dropped == 4  # 5, 6, 7 and the end
    assert (feed.report.truncated, feed.report.split) == (1, 0)
    assert feed.epochs == 1
    told = tokenising.encode(["abcdefgh", "i"], "bytes", prefixes=["me", "you"])
    ordered = Sorted(documents=2, scores=np.arange(2.0), easy="low")
    assert feeds.Headed(told, 6, 1, order=ordered).batch(0).ids[0].tolist() == [256, *b"meabcd"]
    assert feeds.Headed(told, 6, 1, order=ordered).report.dropped == 5
    assert feeds.Headed(told, 6, 1, order=ordered, plain=True).batch(0).ids[0].tolist() == [256, *b"abcdef"]


def test_concatenated_are_the_windows_of_the_stream():
    tokens = numbered([5, 0, 17, 3, 40, 1])
    feed = feeds.Concatenated(tokens, 7, 3, epochs=3, seed=5)
    order = data.Order(len(tokens.ids), 7, 3, 5)
    for step in range(feed.steps):
        batch = feed.batch(step)
        assert (batch.ids == tokens.ids[order.starts(step)[:, None] + np.arange(8)]).all()
        assert batch.documents is None
        assert batch.weights is None


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=20), context=st.integers(1, 16))
def test_masked_windows_predict_nothing_across_a_border(lengths, context):
    tokens = numbered(lengths)
    total = sum(lengths) + 2 * len(lengths)
    if (total - 1) // context < 1:
        with pytest.raises(ValueError, match="do not fill a row"):
            feeds.Concatenated(tokens, context, 1, masked=True)
        return
    feed = feeds.Concatenated(tokens, context, 1, masked=True)
    seen = Counter()
    for step in range(feed.steps):
        batch = feed.batch(step)
        inside = batch.documents[:, 1:] == batch.documents[:, :-1]
        assert (inside == (batch.weights > 0)).all()
        seen += Counter(predicted(batch))
    assert seen <= pairs(tokens, True)
    assert (pairs(tokens, True) - seen).total() <= feed.report.dropped


@pytest.mark.parametrize("kind", ["best fit", "concatenated", "masked", "headed"])
@pytest.mark.parametrize("order", ["none", "shuffled", "subset"])
def test_a_step_is_known_by_its_number(kind, order):
    tokens = numbered(np.random.default_rng(1).integers(0, 30, 60).tolist())
    of = {"none": None, "shuffled": Shuffled(documents=60, seed=3), "subset": Subset(documents=60, share=0.3)}[order]

    def make():
        if kind == "best fit":
            return feeds.BestFit(tokens, 16, 5, epochs=2.5, order=of, seed=7, window=20)
        if kind == "headed":
            return feeds.Headed(tokens, 16, 5, epochs=2.5, order=of, seed=7)
        return feeds.Concatenated(tokens, 16, 5, epochs=2.5, order=of, seed=7, masked=kind == "masked")

    forward, backward = make(), make()
    assert forward.identity() == backward.identity()
    steps = [forward.batch(s) for s in range(forward.steps)]
    for step in reversed(range(forward.steps)):
        for name, value in vars(backward.batch(step)).items():
            before = getattr(steps[step], name)
            assert (value is None and before is None) or np.array_equal(value, before)
    low, high = {"subset": (0.7, 0.85)}.get(order, (2.4, 2.9))
    assert low < forward.epochs < high


def test_an_order_is_kept():
    """Documents sorted by length: the first row starts with the shortest, and the rows of an epoch grow."""
    lengths = np.random.default_rng(1).permutation(np.arange(1, 200))
    tokens = numbered(lengths.tolist())
    order = Sorted(documents=199, scores=lengths.astype(float), easy="low")
    stream = feeds.Concatenated(tokens, 50, 1, order=order)
    ids = np.concatenate([stream.batch(s).ids[0, :-1] for s in range(stream.steps)])
    assert np.diff(np.flatnonzero(ids == SEP)).tolist() == list(range(2, 2 + len(np.flatnonzero(ids == SEP)) - 1))
    packed = feeds.BestFit(tokens, 250, 1, order=order, window=10)
    mean = [np.diff(np.flatnonzero(packed.batch(s).ids[0] == SEP)).max() for s in range(packed.steps)]
    assert mean[0] < 15 and mean[-1] > 190
    with pytest.raises(ValueError, match="the order is of 199 documents, the tokens are 3"):
        feeds.BestFit(numbered([1, 2, 3]), 50, 1, order=order)


def test_identities_differ_by_what_matters():
    tokens = numbered([5, 9, 30])
    base = {"context": 8, "batch": 2, "seed": 0}
    variants = [
        feeds.BestFit(tokens, **base), feeds.BestFit(tokens, **{**base, "seed": 1}),
        feeds.BestFit(tokens, **base, end=False),
        feeds.BestFit(numbered([5, 9, 30], seed=4), **base), feeds.BestFit(tokens, **base, order=Shuffled(documents=3)),
        feeds.Concatenated(tokens, **base), feeds.Concatenated(tokens, **base, masked=True),
    ]  # fmt: skip
    identities = [repr(sorted(f.identity().items())) for f in variants]
    assert len(set(identities)) == len(identities)
    assert feeds.BestFit(tokens, **base, epochs=3).identity() == variants[0].identity()


def test_metadata_is_read_and_not_predicted_or_left_out():
    """MeCo (Gao et al. 2025, section 2): the loss leaves metadata out; the cool-down reads plain documents."""
    labels = (data.PLAIN, data.Label(role="metadata", loss=False))
    stream = data.pack([[1, 2, 3, 4], [5, 6]], SEP)
    tokens = data.Tokens(
        stream.ids, stream.offsets, prefix=np.array([2, 0]), labels=labels,
        marks=np.array([0, 1, 1, 0, 0, 0, 0, 0], dtype=np.uint8),
    )  # fmt: skip
    batch = feeds.BestFit(tokens, 10, 1).batch(0)
    assert batch.ids[0].tolist() == [99, 1, 2, 3, 4, 99, 99, 5, 6, 99, 99]
    assert batch.weights[0].tolist() == [0, 0, 1, 1, 1, 0, 1, 1, 1, 0]
    assert batch.tokens == 6
    plain = feeds.BestFit(tokens, 8, 1, plain=True).batch(0)
    assert plain.ids[0].tolist() == [99, 3, 4, 99, 99, 5, 6, 99, 99]
    assert plain.weights[0].tolist() == [1, 1, 1, 0, 1, 1, 1, 0]
    assert feeds.Concatenated(tokens, 7, 1).batch(0).weights[0].tolist() == [0, 0, 1, 1, 1, 1, 1]


def test_rows_that_hold_nothing():
    for context, batch in ((0, 1), (4, 0)):
        with pytest.raises(ValueError, match="hold nothing"):
            feeds.BestFit(numbered([3]), context, batch)
    with pytest.raises(ValueError, match="do not fill a row of 9"):
        feeds.Concatenated(numbered([3]), 9, 1)


@dataclass(frozen=True)
class Nothing:
    documents: int = 3

    def sequence(self, epoch):
        return np.arange(3 if epoch == 0 else 0)

    def identity(self):
        return {}


def test_an_epoch_without_documents():
    with pytest.raises(ValueError, match="epoch 1 of the order fills no row"):
        feeds.BestFit(numbered([3, 4, 5]), 8, 1, order=Nothing(), epochs=2)


# ---------------------------------------------------------------------------------------------------- through the model


def lively(vocab, context):
    ours = model.Decoder(model.Config(vocab=vocab, width=16, layers=2, heads=2, hidden=24, context=context))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in ours.parameters():
            p.normal_(0.0, 0.3, generator=generator)
    return ours


def test_a_packed_document_is_scored_as_if_alone():
    """The losses of a packed row are those of its documents, each from its separator."""
    ours, tokens = lively(200, 24), numbered([5, 9, 3])
    batch = feeds.BestFit(tokens, 24, 1, end=False).batch(0)
    rows = torch.from_numpy(batch.ids.astype(np.int64))
    documents = torch.from_numpy(batch.documents[:, :-1])
    together = ours.nats(rows[:, :-1], rows[:, 1:], documents)[0].numpy()
    inside = batch.documents[0, 1:][batch.weights[0] > 0]
    sums = np.bincount(inside, weights=together[batch.weights[0] > 0])
    np.testing.assert_allclose(sums, score.nll(ours, tokens).nats, rtol=1e-5)


def test_masked_spans_are_read_and_not_scored():
    """Nats of what counts, given all that stands before it: those of the whole text less those of its beginning."""
    ours = lively(257, 64)
    spans = pa.array([[{"start": 0, "stop": 7, "loss": False}], None])
    masked = tokenising.encode(["the cat sat", "on"], "bytes", spans=spans)
    plain = tokenising.encode(["the cat sat", "on"], "bytes")
    begins = tokenising.encode(["the cat", "on"], "bytes")
    found, whole, begin = (score.nll(ours, tokens) for tokens in (masked, plain, begins))
    assert found.tokens.tolist() == [4, 2]
    assert masked.scored.tolist() == [4, 2]
    np.testing.assert_allclose(found.nats, [whole.nats[0] - begin.nats[0], whole.nats[1]], rtol=1e-5)


def test_a_stream_cuts_fewer_than_it_touches():
    """Rows of 4 tokens and the id before: [SEP a b c SEP] [SEP d e SEP f] [f g h SEP i]: only the third text is cut."""
    rows = packing.cut_stream(np.array([3, 2, 3, 3]), 4)
    assert rows.pieces.document.tolist() == [0, 1, 1, 2, 2, 3]
    assert rows.pieces.size.tolist() == [3, 0, 2, 1, 2, 1]
    assert packing.report(np.array([3, 2, 3, 3]), rows, 4).truncated == 1


@pytest.mark.parametrize("kind", ["best fit", "headed", "masked", "stream", "powers of two"])
def test_a_model_learns_from_every_feed(kind):
    """Each token follows from the one before: the loss falls to what the first tokens and ends cost."""
    rng = np.random.default_rng(0)
    tokens = data.pack([(np.arange(n) * 3 + rng.integers(50)) % 61 for n in rng.integers(1, 60, 400)], 61)
    feed = {
        "best fit": lambda: feeds.BestFit(tokens, 32, 16, steps=60),
        "headed": lambda: feeds.Headed(tokens, 32, 16, steps=60),
        "masked": lambda: feeds.Concatenated(tokens, 32, 16, steps=60, masked=True),
        "stream": lambda: feeds.Concatenated(tokens, 32, 16, steps=60),
        "powers of two": lambda: decomposition.Decomposed(tokens, 512, smallest=4, largest=32, cycles=2, steps=60),
    }[kind]()
    decoder = model.Decoder(model.Config(vocab=62, width=32, layers=1, heads=2, hidden=64, context=32))
    result = loop.fit(decoder, loop.Training(lr=1e-2), feed)
    assert result.losses[0] == pytest.approx(np.log(62), rel=0.03)
    assert result.tail() < 1.0
    assert result.tokens == sum(feed.batch(s).tokens for s in range(60))
    assert result.epochs == pytest.approx(feed.epochs)
