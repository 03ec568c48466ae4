"""Spans taken out of texts: what is left, what is refused."""

import pyarrow as pa
import pytest

from curate import cut
from curate.columns import INT32, TEXT
from curate.errors import BadData

CUT = cut.Cut(column="found")


def docs(*rows):
    texts, found = zip(*rows, strict=True)
    return pa.table({"text": pa.array(texts, TEXT), "found": pa.array(found, pa.list_(INT32))})


def test_what_is_left_of_a_text():
    # "one two three": bytes 4 to 8 are "two "; where a cut joins words without white space, a line feed stands
    rows = [("one two three", [4, 8]), ("abcdef", [2, 4]), ("kept as it is ", None), ("gone", [0, 4])]
    out = cut.spans(docs(*rows), CUT)
    assert out["text"].to_pylist() == ["one three", "ab\nef", "kept as it is "]
    assert out["row"].to_pylist() == [0, 1, 2]
    assert out["spans_removed"].to_pylist() == [1, 1, 0]
    assert out["bytes_removed"].to_pylist() == [4, 1, 0]


def test_short_fragments_go_too():
    rows = [("a long beginning, x, and an end", [17, 18, 20, 21])]  # both blanks beside "x,"
    out = cut.spans(docs(*rows), cut.Cut(column="found", min_fragment=5))
    assert out["text"].to_pylist() == ["a long beginning,\nand an end"]


@pytest.mark.parametrize(
    "spans", [[1], [0, 1, 2], [3, 2], [0, 5], [2, 3, 1, 2], [-1, 2], [1, 3]], ids=lambda x: ",".join(map(str, x))
)
def test_spans_of_another_text_are_refused_with_their_row(spans):
    # "é" is two bytes, 1 and 2 of "aéb": [1, 3] is whole, so the text of the last case is of another kind
    text = "日" if spans == [1, 3] else "aéb"
    with pytest.raises(BadData, match="row 1 of a part"):
        cut.spans(docs(("fine", None), (text, spans)), CUT)
