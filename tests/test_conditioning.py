"""Metadata and control tokens, on written-out examples."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.train import score
from curate.train.conditioning import Controls, ask, edges_of, lines, meco, sentences
from curate.train.encoders import add_controls, controls_of, vocabulary_of
from curate.train.feeds import BestFit
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
    texts, order = told(["ab", "c", "de"] * 2, URLS * 2), in_turn(6)
    feed = meco(texts, context=20, batch=2, steps=4, share=0.5, order=order, pack=BestFit)
    batch = feed.batch(0)
    assert batch.ids.tolist() == [
        [SEPARATOR, *b"URL: a.org\n\n", *b"ab", SEPARATOR, SEPARATOR, *b"c", SEPARATOR, *[SEPARATOR] * 2],
        [SEPARATOR, *b"URL: b.de\n\n", *b"de", SEPARATOR, *[SEPARATOR] * 6],
    ]
    assert batch.weights.tolist() == [[0] * 12 + [1] * 3 + [0] + [1] * 2 + [0] * 2, [0] * 11 + [1] * 3 + [0] * 6]
    assert batch.documents.tolist() == [[0] * 16 + [1] * 3 + [-1] * 2, [0] * 15 + [-1] * 6]
    assert feed.batch(2).ids[0, :4].tolist() == [SEPARATOR, *b"ab", SEPARATOR]  # the second leg is plain


def test_the_papers_own_rows_begin_with_documents_and_throw_their_tails_away():
    """Rows of 20 tokens and the id before: 16 ids of the first document with its end, 3 of the second, and two of the
    third, whose metadata and text are lost; the next row begins with another document.
    """
    texts, order = told(["ab", "c", "de"] * 2, URLS * 2), in_turn(6)
    feed = meco(texts, context=20, batch=1, steps=4, share=0.5, order=order)
    batch = feed.batch(0)
    assert batch.ids.tolist() == [
        [SEPARATOR, *b"URL: a.org\n\n", *b"ab", SEPARATOR, SEPARATOR, *b"c", SEPARATOR, SEPARATOR, *b"U"]
    ]
    assert batch.weights.tolist() == [[0] * 12 + [1] * 3 + [0] + [1] * 2 + [0] * 2]
    assert batch.documents.tolist() == [[0] * 16 + [1] * 3 + [2] * 2]
    plain = feed.batch(2)  # one leg has the first three documents, the other the last three
    assert plain.ids[0, :11].tolist() == [
        SEPARATOR, *b"ab", SEPARATOR, SEPARATOR, *b"c", SEPARATOR, SEPARATOR, *b"de", SEPARATOR
    ]  # fmt: skip
    assert plain.weights[0].tolist() == [1, 1, 1, 0, 1, 1, 0, 1, 1, 1] + [0] * 10
    assert meco(texts, 20, 1, steps=4, share=0.5, order=order, pack=BestFit).identity() != feed.identity()


def test_the_cool_down_is_plain_and_reads_other_documents():
    texts, urls = [f"text {i:02d}." for i in range(20)], [f"https://{i:02d}.org" for i in range(20)]
    feed = meco(told(texts, urls), context=60, batch=1, steps=10, seed=1, pack=BestFit)
    read = ["".join(chr(i) for i in feed.batch(s).ids.ravel() if i < 256) for s in range(10)]
    assert [("URL" in r) for r in read] == [True] * 9 + [False]
    early = {t for t in texts if any(t in r for r in read[:9])}
    late = {t for t in texts if t in read[9]}
    assert (len(early), len(late)) == (18, 2)
    assert not early & late
    assert feed.borders == (0, 9, 10)
    again = meco(told(texts, urls), context=60, batch=1, steps=10, seed=1, pack=BestFit)
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
    controls = Controls(edges=(0,), drop=0)
    assert controls.annotate(pieces, rude(pieces), key=1) == (
        "<|good|>The cat sat. <|bad|>A damn dog barked! <|good|>Was it so?\n<|good|>Yes.  <|good|>It was."
    )


def test_the_ids_are_those_of_the_sentences_behind_control_tokens():
    """The text is what it was, byte for byte; a control token is predicted, as its sentence is, and has no bytes."""
    controls = Controls(edges=(0,), drop=0)
    pieces = ["a\u00e4", "c", ""]
    spans = controls.spans(pieces, [0.0, 0.5, 0.0], key=1)
    assert spans == [{"start": 0, "stop": 3, "role": "good"}, {"start": 3, "stop": 4, "role": "bad"}]
    told = encode(["".join(pieces), "d"], "bytes", spans=pa.array([spans, None]), controls={"good": 300, "bad": 301})
    assert told.ids.tolist() == [256, 300, *"a\u00e4".encode(), 301, ord("c"), 256, ord("d")]
    assert told.offsets.tolist() == [0, 7, 9]
    assert told.scored.tolist() == told.sizes.tolist() == [4, 1]
    assert [told.labels[m].role for m in told.marks] == ["", "good", "good", "good", "good", "bad", "bad", "", ""]
    assert told.loss(np.arange(9)) is None  # the loss covers all


def test_controls_and_metadata_stand_together():
    """Metadata first, not predicted; a masked span's control token is masked too."""
    spans = pa.array([[{"start": 0, "stop": 1, "role": "good", "loss": False}], None])
    told = encode(["ab", "c"], "bytes", spans=spans, prefixes=["M", None], controls={"good": 257})
    assert told.ids.tolist() == [256, ord("M"), 257, *b"ab", 256, ord("c")]
    assert told.prefix.tolist() == [1, 0]
    assert told.loss(np.arange(7)).tolist() == [1, 0, 0, 0, 1, 1, 1]


def test_a_score_at_an_edge_is_on_the_better_side_and_none_gets_nothing():
    assert Controls(edges=(0.5,), drop=0).buckets([0.5, 0.51, -1, np.nan], 0).tolist() == [0, 1, 0, -1]
    three = Controls(edges=(0.9, 0.5), roles=("best", "good", "bad"), good="high", drop=0)
    assert three.buckets([1, 0.9, 0.89, 0.5, 0.49, -np.inf], 0).tolist() == [0, 0, 1, 1, 2, 2]


def test_tokens_are_left_out_by_hash():
    controls = Controls(edges=(0,), drop=0.1)
    drawn = np.concatenate([controls.buckets(np.zeros(50), key) for key in range(200)])
    assert abs((drawn == -1).mean() - 0.1) < 0.01  # 10,000 draws: three standard errors of 0.003
    at_once = controls.buckets(np.zeros(10_000), np.repeat(np.arange(200), 50), np.tile(np.arange(50), 200))
    assert at_once.tolist() == drawn.tolist()
    assert (Controls(edges=(0,), drop=1).buckets(np.zeros(9), 0) == -1).all()
    # What is left out does not depend on the scores, so that it tells nothing about them.
    assert ((controls.buckets(np.ones(50), 7) == -1) == (controls.buckets(np.zeros(50), 7) == -1)).all()


def test_edges_are_quantiles_of_the_corpus():
    scores = np.array([0.1, 0.2, np.nan, 0.2, 0.9])
    assert edges_of(scores, (0.25, 0.5, 0.75, 1.0)) == (0.1, 0.2, 0.2, 0.9)
    assert edges_of(scores, (0.25, 0.5, 1.0), "high") == (0.9, 0.2, 0.1)
    assert edges_of(np.array([0.9, 0.1, 0.2]), (0.25, 0.5), counts=np.array([1, 1, 2])) == (0.1, 0.2)
    assert edges_of(np.arange(100), (0.07, 0.29, 0.57)) == (6, 28, 56)  # 7 of 100 scores lie up to the seventh
    halves = Controls(edges=edges_of(np.arange(10), (0.5,)), drop=0)
    assert np.bincount(halves.buckets(np.arange(10), 0)).tolist() == [5, 5]
    with pytest.raises(ValueError, match="none of 2"):
        edges_of(np.array([np.nan, np.nan]), (0.5,))
    with pytest.raises(ValueError, match="rise"):
        edges_of(scores, (0.5, 0.5))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), st.sampled_from(["low", "high"]), st.floats(0.01, 1))
def test_at_least_its_share_is_good_and_less_without_the_edge(scores, good, share):
    (edge,) = edges_of(np.array(scores), (share,), good)
    signed = np.array(scores) * (1 if good == "low" else -1)
    assert (signed <= (edge if good == "low" else -edge)).mean() >= share * (1 - 1e-9)
    assert (signed < (edge if good == "low" else -edge)).mean() < share


def test_what_a_model_is_asked_with_is_read_and_not_scored():
    plain = encode(["ab", "c"], "bytes")
    asked = ask(plain, [300])
    assert asked.ids.tolist() == [256, 300, *b"ab", 256, 300, ord("c")]
    assert asked.offsets.tolist() == [0, 4, 7]
    assert asked.loss(np.arange(7)).tolist() == [1, 0, 1, 1, 1, 0, 1]
    assert asked.scored.tolist() == [2, 1]
    assert ask(plain, [70_000]).ids[1] == 70_000
    named = ask(plain, list(b"URL: a\n\n"))
    same = encode(["ab", "c"], "bytes", prefixes=["URL: a\n\n"] * 2)
    assert named.ids.tolist() == same.ids.tolist()
    assert named.prefix.tolist() == same.prefix.tolist()
    decoder = Decoder(Config(vocab=301, width=16, layers=1, heads=2, context=32), seed=0)
    told = score.nll(decoder, asked)
    assert told.tokens.tolist() == [2, 1]
    assert (told.nats != score.nll(decoder, plain).nats).all()
    with pytest.raises(ValueError, match="metadata already"):
        ask(asked, [1])


def test_control_tokens_of_a_tokenizer(tmp_path):
    """New ids behind all others, or special tokens that are added to it; none that stands for text."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(["<|endoftext|>"])
    made.save(str(tmp_path / "tokenizer.json"))
    assert controls_of("bytes", ["good", "bad"]) == {"good": 257, "bad": 258}
    assert vocabulary_of("bytes", controls_of("bytes", ["good", "bad"])) == 259
    assert controls_of(tmp_path, ["good", "bad"]) == {"good": 3, "bad": 4}
    added = add_controls(tmp_path, ["good", "bad"], tmp_path / "told")
    assert added == {"good": 3, "bad": 4}
    assert vocabulary_of(tmp_path / "told", added) == vocabulary_of(tmp_path / "told") == 5
    assert controls_of(tmp_path / "told", ["bad", "new"]) == {"bad": 4, "new": 5}
    spans = pa.array([[{"start": 0, "stop": 1, "role": "bad"}]])
    for folder in (tmp_path, tmp_path / "told"):
        assert encode(["ab"], folder, spans=spans, controls=added).ids.tolist() == [2, 4, 0, 1]
    for wrong in ({"good": 1}, {"good": 2}, {"good": 7, "bad": 7}):
        with pytest.raises(ValueError, match="used already"):
            encode(["ab"], tmp_path, spans=spans, controls=wrong)


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
        lambda: Controls(edges=(0,), roles=("a", "a")),
        lambda: Controls(edges=(0, 1)),
        lambda: Controls(edges=(0,), good="left"),
        lambda: Controls(edges=(1, 0), roles=("a", "b", "c")),
        lambda: Controls(edges=(0,), drop=1.5),
        lambda: Controls(edges=(0,)).annotate(["a"], [], 0),
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
