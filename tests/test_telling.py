"""Numbers for people, secrets, markup that cannot be injected, charts, and rows of a finished run looked up again."""

import numpy as np
import polars as pl
import pytest
from finished import Reader
from hypothesis import given
from hypothesis import strategies as st

from curate.telling import charts, lookup, present
from curate.telling.lookup import FrameRecord, PartRecord
from curate.telling.markup import h, join, raw


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (1234567, "1,234,567"), (0.5, "0.5"), (2.0, "2"), (1234.56, "1,235"), (12345.6, "12,346"), (True, "yes"),
     (None, "–"), (1e-7, "1e-07"), ("x", "x"), (float("nan"), "nan")],
)  # fmt: skip
def test_numbers(value, said):
    assert present.number(value) == said


def test_sizes_and_shares():
    assert [present.megabytes(n) for n in (0, 999, 1000, 72_019_099, 2.5e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "72.0 MB",
        "2.5 TB",
    ]
    shares = (0, 1e-6, 0.1234, 0.99999, 1)
    assert [present.percent(x) for x in shares] == ["0.0 %", "< 0.1 %", "12.3 %", "> 99.9 %", "100.0 %"]


def test_a_text_is_cut_where_it_is_said():
    assert present.brief("  one\n\n\n\n\ntwo  ", 20) == "one\n\ntwo"
    assert present.brief("abcdef", 3) == "abc …"
    assert "not at hand" in present.brief(None, 3)


SECRETS = {
    "s3://key:secret@bucket/a": "s3://(hidden)@bucket/a",
    "https://h/x?X-Amz-Signature=abc&a=1": "https://h/x?X-Amz-Signature=(hidden)&a=1",
    "https://h/x?a=1&sig=abc": "https://h/x?a=1&sig=(hidden)",
    "use hf_abcdefghijklmnopqrst now": "use (hidden) now",
    "AKIAABCDEFGHIJKLMNOP": "(hidden)",
    "ghp_0123456789abcdef0123": "(hidden)",
    "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nafter": "(hidden)\nafter",
}


@pytest.mark.parametrize(("text", "said"), SECRETS.items())
def test_what_looks_like_a_credential_is_hidden(text, said):
    assert present.without_secrets(text) == said


@pytest.mark.parametrize(
    "text", ["mail me@home.org", "https://host:8080/x?page=2", "sk-learn", "half_of_it", "a: b @ c"]
)
def test_what_does_not_is_not(text):
    assert present.without_secrets(text) == text


def test_settings_hide_what_is_called_a_secret():
    toml = 'tokens = 5\nhub_token = "a"\n[db]\napi_key=\'d\' # c\ntokenizer = "bpe"\nkey = "id"'
    hidden = 'tokens = 5\nhub_token = "(hidden)"\n[db]\napi_key="(hidden)" # c\ntokenizer = "bpe"\nkey = "id"'
    assert present.settings_for_show(toml) == hidden


RULES = [
    (pl.col("words") >= 50, "words >= 50"),
    ((pl.col("a") > 0.1) & (pl.col("b") <= -3), "(a > 0.1) & (b <= -3)"),
    (pl.col("a") / pl.col("b") <= 0.2, "(a / b) <= 0.2"),
    (pl.col("exact_copy_of").is_null(), "exact_copy_of.is_null()"),
    (~pl.col("source").is_in(["a", "b"]), 'source.is_in([["a", "b"]]).not()'),
]


@pytest.mark.parametrize(("rule", "said"), RULES, ids=str)
def test_rules_are_said_as_people_write_them(rule, said):
    assert present.readable(str(rule)) == said


def test_a_reason_has_all_its_rules():
    step = {
        "rules": [
            {"because": "short", "keep": "a"},
            {"because": "long", "keep": "b"},
            {"because": "short", "keep": "c"},
        ]
    }
    assert present.rules_of(step) == {"short": "a and c", "long": "b"}
    assert present.rules_of({}) == {}


# ── markup ───────────────────────────────────────────────────────────────────────────────────────────────────────────


HOSTILE = st.text(st.sampled_from("<>&\"'/=!- scriptonerimgx;#\n")) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><script>", "<!--", "]]>", "&lt;b&gt;"]
)


@given(HOSTILE, HOSTILE)
def test_nothing_can_be_injected(child, attribute):
    page = Reader(h("p", child, h("b", [child]), title=attribute))
    assert page.tags == ["p", "b"]
    assert page.attributes == [("title", attribute)]
    assert "".join(page.said) == child + child


def test_control_characters_are_shown_as_a_sign():
    assert h("p", "a\x00b\u202ec\td\n") == "<p>a\ufffdb\ufffdc\td\n</p>"


def test_markup_is_only_what_was_made_here():
    assert join(["<", raw("<br>"), 3, None, [h("i")]]) == "&lt;<br>3<i></i>"
    assert h("meta", name="a", http_equiv="b", class_=None) == '<meta name="a" http-equiv="b">'


# ── charts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ticks_are_round():
    assert charts.ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert charts.ticks(-0.31, 0.52) == [-0.2, 0, 0.2, 0.4]
    assert charts.ticks(3, 3) == [3]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_lie_inside_and_are_few(low, width):
    found = charts.ticks(low, low + width)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 * width <= t <= low + width * (1 + 1e-6) for t in found)
    assert found == sorted(set(found))


def test_a_histogram_stacks_and_marks():
    figure = charts.histogram([0, 1, 2], [("in", [3, 0], "c1"), ("out", [1, 4], "c2")], [(0.5, "cut <")], x_label="x")
    page = Reader(figure)
    assert page.tags.count("rect") == 3
    assert ("aria-label", "histogram of x, 8 documents") in page.attributes
    assert "cut <" in page.said
    assert "0 to 1: 3 in" in page.said


def test_an_interval_lies_on_one_scale():
    rows = [charts.Interval("a", -1, 0, 1, [0.5], "says"), charts.Interval("b", 2, 3, 4, [], "says", "base")]
    page = Reader(charts.intervals(rows, delta=3, x_label="percent"))
    assert page.tags.count("svg") == 2
    assert all(0 <= float(v) <= 100 for k, v in page.attributes if k in ("x1", "x2", "y1", "y2", "x", "width"))


def test_lines_of_one_name_are_one_entry_of_the_legend():
    page = Reader(
        charts.lines([("a", "c1", [(0, 1), (1, 0)]), ("a", "c1", [(0, 2), (1, 1)])], x_label="x", y_label="y")
    )
    assert page.tags.count("polyline") == 2
    assert page.said.count("a") == 1


# ── lookup ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def frame(alive):
    parts = tuple(PartRecord(f"{i}", f"{i}", "f", n, n, n, None) for i, n in enumerate(alive))
    return FrameRecord("f", None, {}, (), {}, parts)


@given(st.lists(st.integers(0, 1000), max_size=50), st.integers(0, 20_000), st.integers(1, 60))
def test_parts_are_spread_below_the_limit(alive, rows, most):
    chosen = lookup.spread(frame(alive), rows, most)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= most
    assert sum(alive[i] for i in chosen) <= rows or len(chosen) == 1
    if sum(alive) <= rows and len(alive) <= most:
        assert chosen == list(range(len(alive)))


def test_addresses_are_part_and_row():
    assert lookup.addresses(2, np.array([0, 7])) == [2 << 32, (2 << 32) + 7]
