"""Repair: what ftfy makes of the whole text, and nothing is touched that needs nothing."""

import ftfy
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import repair
from curate.columns import TEXT
from curate.errors import BadInput
from curate.repair import PLAIN, PLAIN_LINE, Repair

EVERYTHING = Repair(
    unescape_html="always", fix_latin_ligatures=True, fix_character_width=True, uncurl_quotes=True,
    fix_line_breaks=True, normalization="NFKC",
)  # fmt: skip


def repaired(*texts, config=None):
    config = config or Repair()
    table = pa.table({"id": pa.array([str(i) for i in range(len(texts))], TEXT), "text": pa.array(texts, TEXT)})
    found = repair.text(table, config, repair.open_fixer(config))
    assert found["id"].to_pylist() == [str(row) for row in found["row"].to_pylist()]
    return found["text"].to_pylist()


@pytest.mark.parametrize(("broken", "mended"), [
    ("donâ€™t", "don’t"),  # ftfy's own first example, and its README's others
    ("âœ” No problems", "✔ No problems"),
    ("Ã©tÃ©", "été"),
    ("plain\nand Ã¼ber\nplain", "plain\nand über\nplain"),
    ("&lt;b&gt; and &amp;", "<b> and &"),
    ("<p>&amp;", "<p>&amp;"),
    ("&amp;\n<p>\n&amp;", "&\n<p>\n&amp;"),                          # from the first < on it is HTML
    ("\x1b[36;44mblue\x1b[0m", "blue"),
    ("a\x00b\x08", "ab"),
    ("“curly” ﬁ Ａ e\u0301\r\n", "“curly” ﬁ Ａ e\u0301\r\n"),         # nothing is wrong with these
    ("", ""), ("\n", "\n"), ("plain ASCII\twith\ntabs", "plain ASCII\twith\ntabs"),
], ids=repr)  # fmt: skip
def test_examples(broken, mended):
    assert repaired(broken) == [mended]


PARTS = ["donâ€™t ", "Ã©", "é", "&amp;", "&eacute;", "<", "\n", "\r\n", "\x85", "\u2028", "\x1b[0m", "\x00", "a b",
         "Ã ", "’", "ﬁ", "Ａ", "\ufeff", "\u200b", "\x0c", "â€", "ä½ å¥½", "\x7f", "e\u0301", "\n\n"]  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=4), max_size=12).map("".join),
       st.sampled_from([Repair(), EVERYTHING, Repair(unescape_html="never", normalization="NFC")]))  # fmt: skip
def test_lines_alone_are_the_whole(text, config):
    assert repaired(text, config=config) == [ftfy.fix_text(text, repair.open_fixer(config))]


def test_rows_stay_rows():
    assert repaired("a", None, "Ã©", "b", None) == ["a", "é", "b"]
    assert repaired() == []


def test_plain_is_one_thing_to_both():
    assert [bool(PLAIN_LINE.fullmatch(chr(i))) for i in range(128)] == PLAIN[:128].tolist()
    assert not PLAIN[128:].any()
    for i in np.flatnonzero(PLAIN):  # and ftfy leaves it alone, whatever it is asked
        assert ftfy.fix_text(chr(i), repair.open_fixer(EVERYTHING)) == chr(i)


def test_another_version_is_another_result():
    config = Repair()
    object.__setattr__(config, "library", "ftfy 1")
    with pytest.raises(BadInput, match="the plan was made with ftfy 1"):
        repair.open_fixer(config)
