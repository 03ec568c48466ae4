"""Telling a model what it reads: metadata in front of documents (MeCo), control tokens in front of sentences.

*Metadata conditioning then cool-down* (Gao et al. 2025, arXiv 2501.01956; princeton-pli/MeCo). A document is read as
``URL: `` and its host, an empty line, and the text; separator and metadata are in the input and never in the loss.
After 90 % of the steps the same run goes on with plain documents that it has not read before, so that the model also
works without metadata; leaving that out makes unconditional use much worse. At 1.6B weights and 160B tokens the average
over tasks rose from 55.7 to 56.7, as with half as many tokens again, while perplexity got worse; single runs.

    prefixes = [hosts.metadata(url) for url in urls]
    tokens = tokenising.encode(texts, tokenizer, separator, prefixes=prefixes)
    feed = meco(tokens, context=1024, batch=64, steps=4000)

*Conditional training* (Korbak et al. 2023, arXiv 2302.08582; tomekkorbak/pretraining-with-human-feedback). Documents
are cut into sentences (code into lines), each is scored, low being good, and a token ``good`` is put in front of those
at or below a threshold and a token ``bad`` in front of the others. A small part of these tokens is left out, so that
the model also reads text without them. The loss covers all; at use one begins with ``good`` and forbids both in what is
generated. The thresholds are quantiles of one corpus and one scorer: ``threshold`` finds one's own. Published: 0.00056
for a toxicity model and 0 for personal data, tokens left out with a probability of 0.01; 0 for errors of style a
character of code, 0.1.

    controls = Controls(threshold=threshold(scores, share=0.95), good=2048, bad=2049)
    ids = controls.encode(sentences(text), scores, lambda s: tokenizer.encode(s).ids, key=number)

A prefix belongs in front of the text when it is tokenised and no earlier: as part of the text it would enter its
duplicates, its contamination and its length.

Elsewhere: hosts (hosts.py), the prefix as a column of a pipeline (curate/metadata.py), legs of a run (phases.py).
"""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from curate.train.data import Tokens
from curate.train.feeds import BestFit, Concatenated
from curate.train.orders import Between, Ordering, Shuffled, keyed
from curate.train.phases import Leg, Relay

# A sentence ends with a run of end marks and closing punctuation that white space follows, or with lines' ends.
_SENTENCE = re.compile(r"""[.!?。！？…]+["'”’)\]»]*\s+|[。！？]+["'”’」』）]*|\n\s*""")


def meco(
    tokens: Tokens,
    context: int,
    batch: int,
    *,
    steps: int,
    share: float = 0.9,
    order: Ordering | None = None,
    pack: type[BestFit] | type[Concatenated] = BestFit,
    seed: int = 0,
) -> Relay:
    """Documents behind their metadata, then a cool-down on others without it.

    The first leg reads the first ``share`` of the documents, the second the rest, each as often as its steps ask for.
    A document without metadata is read plain in both.

    Args:
        tokens: documents with a prefix.
        context: tokens predicted in a row.
        batch: rows a step.
        steps: of the whole run.
        share: of the steps and of the documents that come with metadata; 0.9 in the paper.
        order: which documents are read, in which order; by default a shuffle.
        pack: how rows are made. The paper's own rows begin with a document and hold no others' attention.
        seed: of the shuffle.

    Raises:
        ValueError: documents without a prefix, or a share that leaves a leg without a step.
    """
    if tokens.prefix is None:
        raise ValueError("meco: the tokens have no metadata; name the column of the prefix when they are tokenised")
    first = round(share * steps)
    if not 0 < first < steps:
        raise ValueError(f"meco: a share of {share} of {steps} steps is {first}; leave a step for both legs")
    if order is None:
        keys = None if tokens.keys is None else tokens.keys[:, 0]
        order = Shuffled(documents=tokens.documents, seed=seed, keys=keys)
    told = pack(tokens, context, batch, steps=first, order=Between(of=order, begin=0, end=share))
    plain = pack(tokens, context, batch, steps=steps - first, order=Between(of=order, begin=share, end=1), plain=True)
    return Relay([Leg(feed=told, share=first), Leg(feed=plain, share=steps - first)], steps)


def sentences(text: str) -> list[str]:
    """A text cut into sentences, which together are the text again: white space belongs to the sentence before it.

    A sentence ends where a run of end marks is followed by white space, at East Asian marks, and at line ends.
    "Mr. Smith" is two.
    """
    ends = [found.end() for found in _SENTENCE.finditer(text)]
    cuts = [0, *ends, len(text)]
    return [text[a:b] for a, b in itertools.pairwise(cuts) if b > a]


def lines(text: str) -> list[str]:
    """A text cut into lines, which together are the text again."""
    return text.splitlines(keepends=True)


def threshold(scores: np.ndarray, share: float) -> float:
    """The smallest score that at least this share of the scores does not exceed.

    Args:
        scores: float (n,), of sentences of one corpus.
        share: of the sentences that are to be good, above 0, at most 1.
    """
    if len(scores) == 0 or np.isnan(scores).any():
        raise ValueError(
            f"threshold: {len(scores)} scores, {int(np.isnan(scores).sum())} of them not a number; fix them"
        )
    return float(np.quantile(scores, share, method="inverted_cdf"))


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Which control tokens stand in front of what.

    Args:
        threshold: a sentence with a score at or below it is good.
        good: the token id of the good ones; beside the tokenizer's own ids, so that the model's vocabulary grows by 2.
        bad: of the others.
        good_text: how ``annotate`` writes it.
        bad_text: the same of the other.
        drop: how many of the tokens are left out, 0 to 1.
        seed: which ones.
    """

    threshold: float
    good: int
    bad: int
    good_text: str = "<|good|>"
    bad_text: str = "<|bad|>"
    drop: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.good == self.bad or min(self.good, self.bad) < 0:
            raise ValueError(f"Controls: tokens {self.good} and {self.bad}; give two different ids, 0 or more")
        if not 0 <= self.drop <= 1:
            raise ValueError(f"Controls: drop={self.drop}; give a number from 0 to 1")

    def marks(self, scores: Sequence[float] | np.ndarray, key: int) -> np.ndarray:
        """What stands in front of each sentence of a document: int8 (n,), 1 good, -1 bad, 0 nothing.

        Args:
            scores: float (n,), of its sentences, low being good. One that is not a number gets nothing.
            key: what randomness knows the document by.
        """
        values = np.asarray(scores, dtype=np.float64)
        drawn = keyed(np.arange(len(values), dtype=np.uint64), self.seed, "control", key)
        out = np.where(values <= self.threshold, 1, -1).astype(np.int8)
        # The upper 53 bits, a float in [0, 1).
        out[(drawn >> np.uint64(11)).astype(np.float64) / 2.0**53 < self.drop] = 0
        out[np.isnan(values)] = 0
        return out

    def annotate(self, pieces: Sequence[str], scores: Sequence[float] | np.ndarray, key: int) -> str:
        """The text with its control tokens written out, to look at."""
        written = {1: self.good_text, -1: self.bad_text, 0: ""}
        marks = self._of(pieces, scores, key)
        return "".join(written[m] + piece for m, piece in zip(marks.tolist(), pieces, strict=True))

    def encode(
        self,
        pieces: Sequence[str],
        scores: Sequence[float] | np.ndarray,
        encode: Callable[[str], Sequence[int]],
        key: int,
    ) -> np.ndarray:
        """The document's token ids with its control tokens, uint32 (n,), for ``data.pack``.

        Args:
            pieces: its sentences.
            scores: float, one each.
            encode: the ids of a text, without special tokens.
            key: what randomness knows the document by.
        """
        control = {1: [self.good], -1: [self.bad], 0: []}
        ids: list[int] = []
        for mark, piece in zip(self._of(pieces, scores, key).tolist(), pieces, strict=True):
            ids += control[mark]
            ids += encode(piece)
        return np.asarray(ids, dtype=np.uint32)

    def _of(self, pieces: Sequence[str], scores: Sequence[float] | np.ndarray, key: int) -> np.ndarray:
        if len(pieces) != len(scores):
            raise ValueError(f"Controls: {len(scores)} scores for {len(pieces)} sentences; give one each")
        return self.marks(scores, key)
