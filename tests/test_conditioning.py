"""Metadata and control tokens, on written-out examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.train.conditioning import Controls, lines, meco, sentences, threshold
from curate.train.hosts import host, metadata
from curate.train.loop import Training, fit
from curate.train.model import Config, Decoder
from curate.train.orders import Sorted
from curate.train.tokenising import encode

HOSTS = {
    "https://en.wikipedia.org/wiki/Cat": "en.wikipedia.org",
    "http://WWW.Example.ORG": "www.example.org",
    "https://example.org:8443/a?b=c": "example.org",
    "http://example.org:/": "example.org",
    "example.org/path": "example.org",                       # no scheme
    "example.org:80": "example.org",
    "localhost:8080/x": "localhost",
    "//cdn.example.org/x.js": "cdn.example.org",
    "https://user:pass@example.org/": "example.org",
    "https://example.org?q=/a/b": "example.org",
    "https://example.org#top": "example.org",
    "https://example.org./": "example.org",
    "https://bücher.example/x": "xn--bcher-kva.example",     # RFC 3492's own kind of example
    "https://xn--bcher-kva.example/": "xn--bcher-kva.example",
    "https://例え.テスト/": "xn--r8jz45g.xn--zckzah",        # IANA's test domain
    "https://[2001:DB8::1]:443/": "[2001:db8::1]",
    "ftp://files.example.org/a": "files.example.org",
    "  https://example.org/  ": "example.org",
    "https:\\\\example.org": None,
    "mailto:cat@example.org": None,
    "data:text/plain,x": None,
    "about:blank": None,
    "/wiki/Cat": None,
    "https://": None,
    "https:///path": None,
    "two words/x": None,
    "https://[2001:db8::1": None,
    "": None,
    None: None,
}  # fmt: skip


@pytest.mark.parametrize(("url", "name"), HOSTS.items(), ids=repr)
def test_hosts(url, name):
    assert host(url) == name


@given(st.text(max_size=40))
def test_a_host_of_anything_is_a_host_again(url):
    name = host(url)
    assert name is None or host(name) in (name, None)
    assert name is None or not any(c in name for c in "/?#@ \n")


def test_metadata_is_the_host_and_an_empty_line():
    assert metadata("https://en.wikipedia.org/wiki/Cat") == "URL: en.wikipedia.org\n\n"
    assert metadata(None) == metadata("about:blank") == ""
    assert metadata("https://a.org/x", form="<{host}> ") == "<a.org> "


# ── metadata, then plain ─────────────────────────────────────────────────────────────────────────────────────────────

URLS = ("https://a.org/1", None, "b.de/x?y")
SEPARATOR = 256


def told(texts, urls):
    return encode(texts, "bytes", SEPARATOR, prefixes=[metadata(url) for url in urls])


def test_tokens_and_masks_of_three_documents():
    """A separator, ``URL: a.org`` and an empty line are read; the text and its end are predicted.

    Of rows of 20 predicted tokens the first document needs 12 + 2 + 1 and a separator, the second 1 + 1 and one, the
    third 11 + 2 + 1 and one: the second stands in the row of the first.
    """
    feed = meco(told(["ab", "c", "de"] * 2, URLS * 2), context=20, batch=2, steps=4, share=0.5, order=in_turn(6))
    batch = feed.batch(0)
    assert batch.ids.tolist() == [
        [SEPARATOR, *b"URL: a.org\n\n", *b"ab", SEPARATOR, SEPARATOR, *b"c", SEPARATOR, *[SEPARATOR] * 2],
        [SEPARATOR, *b"URL: b.de\n\n", *b"de", SEPARATOR, *[SEPARATOR] * 6],
    ]
    assert batch.weights.tolist() == [[0] * 12 + [1] * 3 + [0] + [1] * 2 + [0] * 2, [0] * 11 + [1] * 3 + [0] * 6]
    assert batch.documents.tolist() == [[0] * 16 + [1] * 3 + [-1] * 2, [0] * 15 + [-1] * 6]
    assert feed.batch(2).ids[0, :4].tolist() == [SEPARATOR, *b"ab", SEPARATOR]  # the second leg is plain


def test_the_cool_down_is_plain_and_reads_other_documents():
    texts, urls = [f"text {i:02d}." for i in range(20)], [f"https://{i:02d}.org" for i in range(20)]
    feed = meco(told(texts, urls), context=60, batch=1, steps=10, seed=1)
    read = ["".join(chr(i) for i in feed.batch(s).ids.ravel() if i < 256) for s in range(10)]
    assert [("URL" in r) for r in read] == [True] * 9 + [False]
    early = {t for t in texts if any(t in r for r in read[:9])}
    late = {t for t in texts if t in read[9]}
    assert (len(early), len(late)) == (18, 2)
    assert not early & late
    assert feed.borders == (0, 9, 10)
    again = meco(told(texts, urls), context=60, batch=1, steps=10, seed=1)
    assert again.identity() == feed.identity()
    assert again.batch(9).ids.tolist() == feed.batch(9).ids.tolist()


def test_a_run_without_metadata_or_without_a_leg_is_refused():
    with pytest.raises(ValueError, match="no metadata"):
        meco(encode(["ab"] * 4, "bytes", SEPARATOR), 8, 1, steps=4)
    with pytest.raises(ValueError, match="a step for both"):
        meco(told(["ab"] * 4, ["a.org"] * 4), 8, 1, steps=4)


def in_turn(documents):
    """The order of the store."""
    return Sorted(documents=documents, scores=np.arange(float(documents)), easy="low")


# ── control tokens ───────────────────────────────────────────────────────────────────────────────────────────────────

FIVE = "The cat sat. A damn dog barked! Was it so?\nYes.  It was."


def rude(pieces):
    """A stub of a scorer: how many rude words."""
    return [sum(word.strip("!.") == "damn" for word in piece.split()) for piece in pieces]


def test_the_annotated_text_of_five_sentences():
    pieces = sentences(FIVE)
    assert pieces == ["The cat sat. ", "A damn dog barked! ", "Was it so?\n", "Yes.  ", "It was."]
    controls = Controls(threshold=0, good=300, bad=301, drop=0)
    assert controls.annotate(pieces, rude(pieces), key=1) == (
        "<|good|>The cat sat. <|bad|>A damn dog barked! <|good|>Was it so?\n<|good|>Yes.  <|good|>It was."
    )


def test_the_ids_are_those_of_the_sentences_behind_control_tokens():
    controls = Controls(threshold=0, good=300, bad=301, drop=0)
    ids = controls.encode(["ab", "c", ""], [0.0, 0.5, 0.0], lambda s: list(s.encode()), key=1)
    assert ids.tolist() == [300, 97, 98, 301, 99, 300]
    assert ids.dtype == np.uint32


def test_a_score_at_the_threshold_is_good_and_none_gets_nothing():
    assert Controls(threshold=0.5, good=1, bad=2, drop=0).marks([0.5, 0.51, -1, np.nan], 0).tolist() == [1, -1, 1, 0]


def test_tokens_are_left_out_by_hash():
    controls = Controls(threshold=0, good=1, bad=2, drop=0.1)
    marks = np.concatenate([controls.marks(np.zeros(50), key) for key in range(200)])
    assert abs((marks == 0).mean() - 0.1) < 0.01  # 10,000 draws: three standard errors of 0.003
    assert controls.marks(np.zeros(50), 7).tolist() == controls.marks(np.zeros(50), 7).tolist()
    assert Controls(threshold=0, good=1, bad=2, drop=1).marks(np.zeros(9), 0).any() == False  # noqa: E712
    # What is left out does not depend on the scores, so that it tells nothing about them.
    assert ((controls.marks(np.ones(50), 7) == 0) == (controls.marks(np.zeros(50), 7) == 0)).all()


def test_a_threshold_is_a_quantile_of_the_corpus():
    scores = np.array([0.1, 0.2, 0.2, 0.9])
    assert [threshold(scores, share) for share in (0.25, 0.5, 0.75, 1.0)] == [0.1, 0.2, 0.2, 0.9]
    for share in (0.25, 0.5, 0.75, 1.0):
        assert (scores <= threshold(scores, share)).mean() >= share
    with pytest.raises(ValueError, match="not a number"):
        threshold(np.array([0.1, np.nan]), 0.5)


@given(st.text(alphabet="ab .!?\n。」'\r\u2028", max_size=60))
def test_pieces_are_the_text_again(text):
    assert "".join(sentences(text)) == text == "".join(lines(text))
    assert "" not in sentences(text)


def test_sentences_end_at_marks_before_white_space():
    assert sentences('It is 3.14 km. "So?" she said.') == ["It is 3.14 km. ", '"So?" ', "she said."]
    assert sentences("猫。犬！「雨。」空") == ["猫。", "犬！", "「雨。」", "空"]
    assert sentences("") == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: Controls(threshold=0, good=3, bad=3),
        lambda: Controls(threshold=0, good=-1, bad=3),
        lambda: Controls(threshold=0, good=1, bad=2, drop=1.5),
        lambda: Controls(threshold=0, good=1, bad=2).annotate(["a"], [], 0),
    ],
)
def test_settings_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match="give"):
        make()


def test_a_run_trains_across_its_border_and_no_other_goes_on_from_it(tmp_path):
    """The loss covers the text and its ends alone, whichever leg it is in; another share is another run."""
    texts = [f"Document {i} says {'very ' * (i % 5)}little of {i * 7}." for i in range(40)]
    tokens = told(texts, [f"https://{i % 4}.example.org/x" for i in range(40)])
    feed = meco(tokens, context=64, batch=2, steps=6, share=0.5)

    def train(feed):
        model = Decoder(Config(vocab=257, width=32, layers=1, heads=2, context=64), seed=0)
        return fit(model, Training(batch=2), feed, checkpoint=tmp_path / "run")

    result = train(feed)
    assert result.tokens == sum(feed.batch(step).tokens for step in range(6))
    assert np.isfinite(result.losses).all()
    with pytest.raises(ValueError, match="run"):
        train(meco(tokens, context=64, batch=2, steps=6, share=0.34))
