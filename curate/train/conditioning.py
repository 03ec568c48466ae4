"""Telling a model what it reads: metadata in front of documents (MeCo), control tokens in front of sentences.

*Metadata conditioning then cool-down* (Gao et al. 2025, arXiv 2501.01956; princeton-pli/MeCo). A document is read as
``URL: `` and its host, an empty line, and the text; separator and metadata are in the input and never in the loss.
After 90 % of the steps the same run goes on, under the same schedule, with plain documents that it has not read before,
so that the model also works without metadata; leaving that out makes unconditional use much worse. A row begins with a
document and loses what it cannot hold of its last one (feeds.Headed), so nothing is read without its host. At 1.6B
weights and 160B tokens the average over tasks rose from 55.7 to 56.7, as with half as many tokens again, while
perplexity got worse; single runs.

    prefixes = [hosts.metadata(url) for url in urls]
    tokens = tokenising.encode(texts, tokenizer, separator, prefixes=prefixes)
    feed = meco(tokens, context=1024, batch=64, steps=4000)

*Conditional training* (Korbak et al. 2023, arXiv 2302.08582; tomekkorbak/pretraining-with-human-feedback). Documents
are cut into sentences (code into lines), each is scored, low being good, and a token ``good`` is put in front of those
at or below a threshold and a token ``bad`` in front of the others. A small part of these tokens is left out, so that
the model also reads text without them. The loss covers all; at use one begins with ``good`` and forbids both in what is
generated. The thresholds are quantiles of one corpus and one scorer: ``edges_of`` finds one's own. Published: 0.00056
for a toxicity model and 0 for personal data, tokens left out with a probability of 0.01; 0 for errors of style a
character of code, 0.1. Sentences are there those of spaCy's rule-based sentencizer; here see ``sentences``.

Any number of buckets can be told apart, of documents as well as of sentences. A bucket is a role of spans (spans.py)
and tokenising puts its token in front of them, so that the text stays what it is:

    controls = Controls(edges=edges_of(all_scores, (0.5,)))             # the better half is good, the other bad
    spans = [controls.spans(sentences(text), scores, key) for ...]      # curate/controls.py is the stage of a pipeline
    ids = encoders.controls_of(tokenizer, controls.roles)
    tokens = tokenising.tokenise("mix/data", tokenizer, Path("tokens"), controls=ids)
    asked = ask(held_out, [ids["good"]])                                # scored as what follows ``good``

A prefix or a control belongs in front of the text when it is tokenised and no earlier: as part of the text it would
enter its duplicates, its contamination and its length.

Elsewhere: hosts (hosts.py), the prefix as a column of a pipeline (curate/metadata.py), legs of a run (phases.py).
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from curate.train.data import Label, Tokens
from curate.train.feeds import BestFit, Concatenated, Headed, shuffled
from curate.train.orders import Between, Ordering, keyed
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
    pack: type[Headed] | type[BestFit] | type[Concatenated] = Headed,
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
        pack: how rows are made: the paper's own, whose documents lose what does not fit; or one that keeps all of a
            text, but cuts long documents into pieces of which only the first stands behind its metadata.
        seed: of the shuffle.

    Raises:
        ValueError: documents without a prefix, or a share that leaves a leg without a step.
    """
    if tokens.prefix is None:
        raise ValueError("meco: the tokens have no metadata; name the column of the prefix when they are tokenised")
    first = round(share * steps)
    if not 0 < first < steps:
        raise ValueError(f"meco: a share of {share} of {steps} steps is {first}; leave a step for both legs")
    order = shuffled(tokens, seed) if order is None else order
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


CUTS: Mapping[str, Callable[[str], list[str]]] = {"sentences": sentences, "lines": lines}


def edges_of(
    scores: np.ndarray, shares: Sequence[float], good: Literal["low", "high"] = "low", counts: np.ndarray | None = None
) -> tuple[float, ...]:
    """Between which scores buckets lie: each edge is the score nearest to the good end up to which its share lies.

    Args:
        scores: float (n,), of documents or sentences of one corpus; what is not a number is left out.
        shares: of all scores, from the good end up to each edge: (0.5,) for halves, (0.25, 0.5, 0.75) for quarters.
        good: the good end.
        counts: int (n,), how often each score occurs; None for once.

    Raises:
        ValueError: no score, or shares that do not rise between 0 and 1.
    """
    rising = all(a < b for a, b in itertools.pairwise([0.0, *shares]))
    if not shares or not rising or shares[-1] > 1:
        raise ValueError(f"edges at the shares {tuple(shares)}; give some that rise, above 0 and at most 1")
    values = np.asarray(scores, dtype=np.float64)
    known = ~np.isnan(values)
    if not known.any():
        raise ValueError(f"none of {len(values)} scores is a number, so there are no edges; score the text first")
    values = values[known] if good == "low" else -values[known]
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(np.ones(len(order), dtype=np.int64) if counts is None else np.asarray(counts)[known][order])
    # Half a count less, or less still, than the share asks for is rounding: 0.07 * 100 is above 7 in floats.
    at = np.searchsorted(reached, np.array(shares) * reached[-1] * (1 - 1e-12), side="left")
    found = values[order][np.minimum(at, len(order) - 1)]
    return tuple((found if good == "low" else -found).tolist())


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Which control tokens stand in front of what.

    Args:
        edges: between the buckets, from the good end on; a score at an edge belongs to the better side.
        roles: names of the buckets, one more than edges, the best first.
        good: which scores are good.
        drop: how many of the tokens are left out, 0 to 1.
        seed: which ones.
    """

    edges: tuple[float, ...]
    roles: tuple[str, ...] = ("good", "bad")
    good: Literal["low", "high"] = "low"
    drop: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.good not in ("low", "high"):
            raise ValueError(f"Controls: good={self.good!r}; give 'low' or 'high'")
        if len(self.roles) != len(self.edges) + 1 or len(set(self.roles)) != len(self.roles) or "" in self.roles:
            raise ValueError(
                f"Controls: roles {self.roles} for {len(self.edges)} edges; give a name of its own to each bucket, "
                "one more than edges"
            )
        if any(a > b for a, b in itertools.pairwise(self._signed(np.array(self.edges)).tolist())):
            raise ValueError(f"Controls: edges {self.edges} with good={self.good!r}; give them from the good end on")
        if not 0 <= self.drop <= 1:
            raise ValueError(f"Controls: drop={self.drop}; give a number from 0 to 1")

    def _signed(self, scores: np.ndarray) -> np.ndarray:
        return scores if self.good == "low" else -scores

    def buckets(
        self, scores: Sequence[float] | np.ndarray, keys: int | np.ndarray, numbers: np.ndarray | None = None
    ) -> np.ndarray:
        """Which control token stands in front of each sentence: int64 (n,), an index into ``roles``, -1 for none.

        Args:
            scores: float (n,). One that is not a number gets none.
            keys: what randomness knows the documents by, uint64 (n,) or one for all.
            numbers: int (n,), which sentence of its document it is; None for 0, 1, 2, ….
        """
        values = np.asarray(scores, dtype=np.float64)
        out = np.searchsorted(self._signed(np.array(self.edges)), self._signed(values), side="left").astype(np.int64)
        among = np.arange(len(values)) if numbers is None else numbers
        document = keyed(np.broadcast_to(np.asarray(keys, dtype=np.uint64), values.shape), self.seed, "control")
        drawn = keyed(document + among.astype(np.uint64), self.seed, "sentence")
        # The upper 53 bits, a float in [0, 1).
        out[(drawn >> np.uint64(11)).astype(np.float64) / 2.0**53 < self.drop] = -1
        out[np.isnan(values)] = -1
        return out

    def annotate(self, pieces: Sequence[str], scores: Sequence[float] | np.ndarray, key: int) -> str:
        """The text with its control tokens written out, to look at."""
        written = [*(f"<|{role}|>" for role in self.roles), ""]
        return "".join(written[m] + piece for m, piece in zip(self._of(pieces, scores, key), pieces, strict=True))

    def spans(self, pieces: Sequence[str], scores: Sequence[float] | np.ndarray, key: int) -> list[dict[str, Any]]:
        """A document's spans (spans.py): its sentences by their roles; one without a token is in none.

        Args:
            pieces: its sentences, which together are its text.
            scores: float, one each.
            key: what randomness knows the document by.
        """
        ends = list(itertools.accumulate(len(piece.encode()) for piece in pieces))
        return [
            {"start": start, "stop": stop, "role": self.roles[bucket]}
            for start, stop, bucket in zip([0, *ends], ends, self._of(pieces, scores, key), strict=False)
            if bucket >= 0 and stop > start
        ]

    def _of(self, pieces: Sequence[str], scores: Sequence[float] | np.ndarray, key: int) -> list[int]:
        if len(pieces) != len(scores):
            raise ValueError(f"Controls: {len(scores)} scores for {len(pieces)} sentences; give one each")
        return list(self.buckets(scores, key).tolist())


ASKED = Label(role="asked", loss=False)


def ask(tokens: Tokens, ids: Sequence[int]) -> Tokens:
    """The same documents behind these ids, which are read and neither predicted nor scored: text to score a model with
    that was trained to be told something. A control token, or the tokens of ``URL: `` and a host.

    Args:
        tokens: documents without metadata, in memory.
        ids: what stands behind each separator.
    """
    if tokens.prefix is not None:
        raise ValueError("ask: these documents have metadata already; tokenise them without a prefix")
    many = len(ids)
    starts = tokens.offsets[:-1]
    at = np.repeat(starts + 1, many)
    kind = np.promote_types(tokens.ids.dtype, np.min_scalar_type(max(ids, default=0)))
    labels = tokens.labels if ASKED in tokens.labels else (*tokens.labels, ASKED)
    marks = np.zeros(len(tokens.ids), dtype=np.uint8) if tokens.marks is None else tokens.marks
    return replace(
        tokens,
        ids=np.insert(tokens.ids.astype(kind), at, np.tile(np.asarray(ids, dtype=kind), tokens.documents)),
        offsets=tokens.offsets + many * np.arange(tokens.documents + 1),
        prefix=np.full(tokens.documents, many, dtype=np.int64),
        marks=np.insert(marks, at, labels.index(ASKED)), labels=labels, digest=None,
    )  # fmt: skip
