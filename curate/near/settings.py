"""Settings of near-duplicates: what a signature is made of, how near is near, and which copy is kept.

Kept apart from the stages so that the index of an earlier crawl (``index``) can say which settings it was made with.
"""

import difflib
from dataclasses import dataclass
from typing import Literal

from curate.errors import UnknownSetting
from curate.keeper import policy
from curate.near.curve import explain
from curate.text import require_words


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a signature is made of: the settings of ``minhash.signatures``, which no other setting changes.

    FineWeb (Penedo et al. 2024) has 14 bands of 8, which finds 92.4 % of the pairs of similarity 0.8. The default has
    16 of 7, with as many hash functions: 97.7 % there. The candidates that it adds are taken out by verification.

    Args:
        ngram: words in a shingle.
        bands: band keys a document has; one shared key makes a candidate pair.
        rows: minima in a band key. ``(1 / bands) ** (1 / rows)`` is near the similarity where the curve is steepest.
        seed: chooses the hash functions (those of ``like="curate"``), and breaks ties.
        like: whose words, shingles and hash functions: ``"curate"``, or ``"datatrove"`` for minima that are those of
            datatrove's ``MinhashDedupSignature``, bit for bit (see ``curate.near.like_datatrove``).
        hash: with ``like="datatrove"``, the hash of a shingle: ``"xxhash64"`` (its default) or ``"sha1"`` (FineWeb's).
        words: with ``like="datatrove"``, ``"spacy"`` (its words for English) or ``"whitespace"``.
    """

    ngram: int = 5
    bands: int = 16
    rows: int = 7
    seed: int = 0
    like: Literal["curate", "datatrove"] = "curate"
    hash: Literal["xxhash64", "sha1"] = "xxhash64"
    words: Literal["spacy", "whitespace"] = "spacy"

    def __post_init__(self) -> None:
        at_least_one(self, "ngram", "bands", "rows")
        one_of("like", self.like, ("curate", "datatrove"))
        one_of("hash", self.hash, ("xxhash64", "sha1"))
        one_of("words", self.words, ("spacy", "whitespace"))
        if self.like == "datatrove":
            require_words(self.words, where=f"Signature(words={self.words!r})")


@dataclass(frozen=True, kw_only=True)
class MinHash(Signature):
    """How near two documents must be, and which copy is kept.

    Args:
        threshold: Jaccard index that a pair must reach.
        verify: compare the shingles of each candidate pair. Without it every candidate pair joins its documents, as in
            tools that do not verify, and ``threshold`` says nothing; false positives are joined too.
        bucket_cap: rows of a bucket up to which all its pairs are candidates.
        neighbours: in a larger bucket, the rows that each row is paired with, next in the order of signatures.
        keep_by: policy of columns that chooses the row to keep, such as ``("-text_bytes",)``; see ``curate.keeper``.
        keep_whole: sources none of whose rows is ever a copy: others in a cluster with such a row are copies of it.
        keep_where: the name of a boolean column; rows where it is true are never a copy, as those of ``keep_whole``.
        label: names the hash that breaks ties.
    """

    threshold: float = 0.8
    verify: bool = True
    bucket_cap: int = 128
    neighbours: int = 16
    keep_by: tuple[str, ...] = ()
    keep_whole: tuple[str, ...] = ()
    keep_where: str = ""
    label: str = "minhash"

    def __post_init__(self) -> None:
        super().__post_init__()
        policy(self.keep_by)
        at_least_one(self, "bucket_cap", "neighbours")
        if not 0 < self.threshold <= 1:
            raise UnknownSetting(
                f"threshold is {self.threshold}", where="MinHash", fix="give a Jaccard index above 0 and at most 1"
            )

    def each(self) -> Signature:
        """The settings of ``minhash.signatures``: another threshold signs nothing again."""
        return signature_of(self)

    def explain(self) -> str:
        """What ``curate plan`` says about these settings: the curve, and what is done with pairs that meet."""
        after = f"pairs are verified and kept from {self.threshold:g}" if self.verify else "pairs are not verified"
        return f"{explain(self.bands, self.rows)}; {after}"


def signature_of(config: Signature) -> Signature:
    """The part of some settings that decides signatures."""
    return Signature(
        ngram=config.ngram,
        bands=config.bands,
        rows=config.rows,
        seed=config.seed,
        like=config.like,
        hash=config.hash,
        words=config.words,
    )


def at_least_one(config: Signature, *names: str) -> None:
    """Raise UnknownSetting for a count below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise UnknownSetting(
                f"{name} is {getattr(config, name)}",
                where=type(config).__name__,
                fix=f"give {name} a value of 1 or more",
            )


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise UnknownSetting for a word that is not known."""
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1)
        raise UnknownSetting(
            f"{name} is {value!r}",
            where="Signature",
            fix=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(map(repr, known))}",
        )
