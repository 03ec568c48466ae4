"""Bad words: against datatrove's own filter, and against the patterns of the original and DCLM."""

import re

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import badwords
from curate.columns import KEY, TEXT
from curate.errors import BadInput, UnknownSetting

law = settings(deadline=None, max_examples=100)
LISTED = ("darn", "heck", "what the", "2g", "dårn", "c+", "sm")
PIECES = (*LISTED, "DARN", "darns", "x", " ", "_", "-", "\n", ".", "é", "The darn.", "\u2028", "İ", "darn heck darn")
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=2)), max_size=8).map("".join)


def find(values, languages=None, **config):
    table = pa.table({
        "text": pa.array(values, TEXT),
        "key": pa.array([i.to_bytes(16, "big") for i in range(len(values))], KEY),
        **({"language": pa.array(languages, TEXT)} if languages else {}),
    })
    lists = config.pop("lists", (("en", LISTED),))
    return pl.from_arrow(badwords.find(table, badwords.BadWords(lists=lists, **config)))


def kept(table, name, **options):
    (rule,) = badwords.profile(name, **options)
    return table.select(keep=rule.keep)["keep"].to_list()


def test_datatrove(tmp_path, monkeypatch):
    from datatrove.data import Document
    from datatrove.pipeline.filters import c4_filters

    for language in ("en", "ja"):
        (tmp_path / language).write_text("\n".join(LISTED))
    monkeypatch.setattr(c4_filters, "cached_asset_path_or_download",
                        lambda url, **_: tmp_path / url.rsplit("/", 1)[1])  # fmt: skip
    oracle = c4_filters.C4BadWordsFilter()

    @law
    @given(st.lists(st.tuples(texts, st.sampled_from(["en", "ja"])), min_size=1, max_size=4))
    def agrees(rows):
        values, languages = zip(*rows, strict=True)
        got = find(values, languages, lists=(("en", LISTED), ("ja", LISTED)), language="language")
        answers = [oracle.filter(Document(text=v, id="x", metadata={"language": k})) for v, k in rows]
        assert kept(got, "badwords@datatrove") == [answer is True for answer in answers]

    agrees()


@law
@given(st.lists(texts, min_size=1, max_size=4))
def test_original_and_dclm(values):
    any_word = "|".join(map(re.escape, LISTED))
    lines = [[line.lower() for line in value.splitlines()] for value in values]
    original = [any(re.search(f"[^a-z]({any_word})[^a-z]", line) for line in page) for page in lines]
    assert kept(find(values, tool="original"), "badwords@original") == [not bad for bad in original]
    dclm = [bool(re.search(rf"\b(?:{any_word})\b", value.lower())) for value in values]
    assert kept(find(values, tool="dclm"), "badwords@dclm") == [not bad for bad in dclm]


def test_by_hand():
    values = ["a darn b", "darning", "Darn! Heck!", None, "darn"]
    got = find(values, ["en", "en", None, "en", "fr"], language="language")
    assert got["bad_words"].to_list() == [1, 0, 2, None, 0]
    assert kept(got, "badwords@datatrove") == [False, True, False, False, True]


def test_a_share_may_stay():
    got = find(["darn"] * 4000)
    share = sum(kept(got, "badwords@datatrove", keep_fraction=0.25)) / 4000
    assert abs(share - 0.25) < 0.03
    assert find(["darn"] * 4000)["bad_words_draw"].to_list() == got["bad_words_draw"].to_list()
    assert find(["darn"] * 4000, seed=1)["bad_words_draw"].to_list() != got["bad_words_draw"].to_list()
    assert all(kept(got, "badwords@datatrove", keep_fraction=1.0))


def test_lists_and_settings(tmp_path):
    (tmp_path / "en").write_text("darn\n\n what the \ndarn\n")
    assert badwords.words_from(tmp_path / "en") == ("darn", "what the")
    with pytest.raises(BadInput, match="cannot be read"):
        badwords.words_from(tmp_path / "none")
    with pytest.raises(UnknownSetting, match="empty"):
        badwords.BadWords(lists=())
    with pytest.raises(UnknownSetting, match="nobody called 'dolma'"):
        badwords.BadWords(lists=(("en", LISTED),), tool="dolma")
    with pytest.raises(UnknownSetting, match="did you mean"):
        badwords.profile("badwords@datatrov")
