"""Stages of control tokens: spans by a score, worked out by hand, and from a pipeline to a model that was told."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate import controls
from curate.columns import FLOAT64, INT64, KEY, TEXT
from curate.controls import PIECES, Marks, Shares, of_pieces
from curate.errors import UnknownSetting
from curate.testing import run_rounds

TEXTS = ["The cat sat. A damn dog! Was it só? damn", "", None, "damn", "Fine."]


def documents(texts, **columns):
    made = pa.array(texts, TEXT)
    keys = pa.array([i.to_bytes(16, "big") for i in range(len(texts))], KEY)
    return pa.table({"key": keys, "text": made, "text_bytes": pc.binary_length(made).cast(INT64), **columns})


def rude(pieces):
    """Rude words of each sentence; of an empty one it is not known."""
    return pa.array([text.count("damn") if text else None for text in pieces["text"].to_pylist()])


def marked(table, config):
    return [
        [(s["start"], s["stop"], s["role"]) for s in spans]
        for spans in controls.mark(table.select(list(config.reads())), config)["spans"].to_pylist()
    ]


def test_sentences_are_scored_and_marked():
    docs = documents(TEXTS)
    scores = of_pieces(docs.select(["text", "text_bytes"]), rude)
    assert scores.type == PIECES
    first = [(13, 0), (25, 1), (37, 0), (41, 1)]
    stops = [0, *(stop for stop, _ in first)]
    assert scores.to_pylist() == [
        [{"start": a, "stop": b, "score": s} for a, (b, s) in zip(stops[:-1], first, strict=True)],
        [], [], [{"start": 0, "stop": 4, "score": 1.0}], [{"start": 0, "stop": 5, "score": 0.0}],
    ]  # fmt: skip
    table = docs.append_column("rude", scores)
    of_first = [(0, 13, "good"), (13, 25, "bad"), (25, 37, "good"), (37, 41, "bad")]
    assert marked(table, Marks(column="rude", drop=0)) == [of_first, [], [], [(0, 4, "bad")], [(0, 5, "good")]]
    assert marked(table, Marks(column="rude", drop=1)) == [[]] * 5


def test_lines_and_the_columns_beside_them():
    """A measure sees each line beside its document's other columns; a slice of a table is as good as a whole one."""
    docs = documents(["x", "a\nbb\n", "c"], weight=pa.array([0.0, 10.0, 20.0]))
    seen = []

    def measure(pieces):
        seen.append(pieces.to_pydict())
        return pc.add(pieces["weight"], pieces["text_bytes"])

    scores = of_pieces(docs.slice(1).select(["text", "text_bytes", "weight"]), measure, by="lines")
    assert seen == [{"text": ["a\n", "bb\n", "c"], "text_bytes": [2, 3, 1], "weight": [10.0, 10.0, 20.0]}]
    assert [[p["score"] for p in row] for row in scores.to_pylist()] == [[12.0, 13.0], [21.0]]
    assert of_pieces(docs.slice(0, 0), lambda pieces: np.zeros(0)).to_pylist() == []
    with pytest.raises(ValueError, match="1 scores for 4 sentences"):
        of_pieces(docs, lambda pieces: np.zeros(1))
    with pytest.raises(UnknownSetting, match="words"):
        of_pieces(docs, rude, by="words")


def test_documents_by_three_buckets():
    """The best end is high; a score at an edge is on the better side, and a document without one has no token."""
    table = documents(["a"] * 5 + ["", None], value=pa.array([9, 5, 4, 1, None, 9, 9], INT64))
    config = Marks(column="value", type="int64", good="high", edges=(5, 2), roles=("best", "fair", "bad"), drop=0)
    roles = [spans[0][2] if spans else None for spans in marked(table, config)]
    assert roles == ["best", "best", "fair", "bad", None, None, None]


@pytest.mark.parametrize("parts", [1, 3])
def test_halves_and_quarters_are_of_the_whole_corpus(parts):
    values = [None, 3.0, float("nan"), 1.0, 4.0, 2.0, 8.0, 7.0, 6.0, 5.0]
    table = documents(["a"] * 10, value=pa.array(values, FLOAT64))
    cuts = [table.slice(i * 10 // parts, 10 // parts + (10 % parts if i == parts - 1 else 0)) for i in range(parts)]
    for config, expected in (
        (Shares(column="value", type="float64", drop=0), {1.0: "good", 4.0: "good", 5.0: "bad", 8.0: "bad"}),
        (
            Shares(column="value", type="float64", good="high", shares=(0.25, 0.5), roles=("a", "b", "c"), drop=0),
            {8.0: "a", 7.0: "a", 6.0: "b", 5.0: "b", 4.0: "c", 1.0: "c"},
        ),
    ):
        answer, rows = run_rounds(controls.mark_shares, cuts, config)
        spans = dict(zip(values, answer["spans"].to_pylist(), strict=True))
        assert {value: spans[value][0]["role"] for value in expected} == expected
        assert not spans[None]
        assert rows.reported["scores"] == 8
    assert rows.reported["edge a"] == 7.0


def test_a_piece_without_a_place_is_not_told():
    pieces = pa.array([[{"start": None, "stop": 3, "score": 1.0}, {"start": 3, "stop": 5, "score": 0.0}]], PIECES)
    assert marked(documents(["abcde"], rude=pieces), Marks(column="rude", drop=0)) == [[(3, 5, "good")]]
    nowhere = pa.array([[{"start": 0, "stop": None, "score": 1.0}], [None]], PIECES)
    assert marked(documents(["a", "b"], rude=nowhere), Marks(column="rude", drop=0)) == [[], []]


def test_a_corpus_without_scores_is_not_marked():
    pieces = pa.array([[], None], PIECES)
    answer, rows = run_rounds(controls.mark_shares, [documents(["a", "b"], rude=pieces)], Shares(column="rude"))
    assert answer["spans"].to_pylist() == [[], []]
    assert dict(rows.reported) == {"scores": 0}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Marks(column="x", type="text"),
        lambda: Marks(column="x", edges=(0.0, 1.0)),
        lambda: Marks(column="x", good="up"),
        lambda: Shares(column="x", shares=(0.5, 0.2), roles=("a", "b", "c")),
        lambda: Shares(column="x", shares=(0.5,), roles=("a", "b", "c")),
    ],
)
def test_settings_that_make_no_sense_are_refused(make):
    with pytest.raises(UnknownSetting):
        make()
