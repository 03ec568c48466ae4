"""In which order a training run reads its documents: shuffles, curricula, folds, mixes of domains, repeated sets.

An *ordering* answers one question, which documents an epoch reads and in which order, and answers it from the number
of the epoch alone. A packer asks it and turns the documents, in that order, into rows; it must not shuffle them again.

    epoch -> document numbers, int64

``Shuffled``      every document once, at random.
``Sorted``        from one end of a score to the other: the vanilla curriculum (Zhang et al. 2025, arXiv 2506.11300).
``Paced``         drawn at random from a pool that opens from the easy end as the epoch goes on.
``Interleaved``   the epoch is cut into sections, and each climbs the whole ladder from easy to hard.
``Folded``        every n-th document of the sorted ones, n times (DELT, arXiv 2506.21545; n = 3 was its best).
``WarmUp``        any of these over a random share of the documents, then a shuffle of the others, and of all later on.
``Between``       a stretch of another ordering's epoch: what one leg of a run reads, so that the next reads the rest.
``Subset``        RS2 (Okanovic et al. 2023, arXiv 2305.18424): each epoch a fresh random share of the documents.
``TwoSets``       a small random set repeated among all the others (Charton and Kempe 2024, arXiv 2410.07041).
``Mixture``       domains by their share of the tokens, in phases: annealing and domain upsampling (Blakeney et al.
                  2024, arXiv 2406.03476).

An ordering has no state and no generator: randomness is a hash of (seed, purpose, epoch, document), so that an epoch is
found without the ones before it. Documents with equal scores stand in the order of that hash, never in the order of the
store, which would put near-duplicates, and whole sources, side by side. A document is known to the hash by ``keys``, or
by its number where a store has none; with keys the order does not depend on how the store was filled. A document
without a score (NaN) is neither easy nor hard: it is given the score of a random other one, and so spread evenly.

Two warnings that hold for every curriculum. Scores of texts go along with length and language, so an order by a score
is also an order by those. And where the learning rate falls at the end, what is read last is read with the smallest
steps: compare with a shuffle under the same schedule.

Cost: a sort or two of as many numbers as there are documents, each epoch; 2 (a shuffle) to 8 CPU seconds for 10
million. Elsewhere: difficulty (curate/difficulty.py), rows (packing.py), feeds one after the other (phases.py).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

PACES = ("linear", "quadratic", "inverse_quadratic", "root")
Easy = Literal["low", "high"]


class Ordering(Protocol):
    """Documents by epoch; the same epoch always gives the same documents."""

    @property
    def documents(self) -> int:
        """How many documents there are to choose from."""
        ...

    def sequence(self, epoch: int) -> np.ndarray:
        """Document numbers in reading order, int64 (n,), each from 0 to ``documents`` - 1. Some orderings leave
        documents out or repeat them, and n may differ between epochs.
        """
        ...

    def identity(self) -> Mapping[str, Any]:
        """What decides every epoch, JSON-able."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawn:
    """What all orderings share.

    Args:
        documents: how many there are.
        seed: of everything random.
        keys: uint64 (documents,), what the hash knows a document by; None for its number.
    """

    documents: int
    seed: int = 0
    keys: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.documents < 1:
            raise ValueError(f"{type(self).__name__}: {self.documents} documents cannot be ordered; give at least one")
        if self.keys is not None and self.keys.shape != (self.documents,):
            raise ValueError(
                f"{type(self).__name__}: keys of shape {self.keys.shape} for {self.documents} documents; give one each"
            )

    def identity(self) -> Mapping[str, Any]:
        """The settings; arrays by their hash."""
        found: dict[str, Any] = {"ordering": type(self).__name__}
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                found[name] = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
            elif hasattr(value, "identity"):
                found[name] = value.identity()
            else:
                found[name] = value
        return found

    def _hash(self, among: np.ndarray, purpose: str, *numbers: int) -> np.ndarray:
        """A uniform uint64 for each of some documents, (n,)."""
        keys = among if self.keys is None else self.keys[among]
        return keyed(keys.astype(np.uint64), self.seed, purpose, *numbers)

    def _shuffled(self, among: np.ndarray, purpose: str, *numbers: int) -> np.ndarray:
        """Some documents by their hash, int64 (n,)."""
        return among[np.argsort(self._hash(among, purpose, *numbers), kind="stable")]

    @property
    def _all(self) -> np.ndarray:
        return np.arange(self.documents)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shuffled(_Drawn):
    """Every document once an epoch, at random."""

    def sequence(self, epoch: int) -> np.ndarray:
        """A permutation, int64 (documents,)."""
        return self._shuffled(self._all, "shuffle", epoch)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Graded(_Drawn):
    """An ordering by difficulty.

    Args:
        scores: float (documents,), NaN where a document has none.
        easy: which values are easy and come first. To begin with the hard ones, name the other end.
    """

    scores: np.ndarray
    easy: Easy

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scores.shape != (self.documents,):
            raise ValueError(
                f"{type(self).__name__}: scores of shape {self.scores.shape} for {self.documents} documents; "
                "give one each, NaN where a document has none"
            )
        if np.isnan(self.scores).all():
            raise ValueError(f"{type(self).__name__}: no document has a score; measure one first, or use Shuffled")
        if self.easy not in ("low", "high"):
            raise ValueError(f"{type(self).__name__}: easy={self.easy!r}; say which values are easy, 'low' or 'high'")

    def _ladder(self, epoch: int) -> np.ndarray:
        """Documents from easy to hard, int64 (documents,)."""
        scores = self.scores.astype(np.float64)
        missing = np.flatnonzero(np.isnan(scores))
        if len(missing):
            known = np.sort(scores[~np.isnan(scores)])
            scores[missing] = known[(self._hash(missing, "score", epoch) % np.uint64(len(known))).astype(np.int64)]
        return np.lexsort((self._hash(self._all, "ties", epoch), scores if self.easy == "low" else -scores))


@dataclass(frozen=True, kw_only=True, eq=False)
class Sorted(_Graded):
    """From easy to hard; among equal scores at random."""

    def sequence(self, epoch: int) -> np.ndarray:
        """A permutation, int64 (documents,)."""
        return self._ladder(epoch)


@dataclass(frozen=True, kw_only=True, eq=False)
class Paced(_Graded):
    """From a pool that grows from the easy end.

    An epoch has as many places as there are documents and is cut into ``groups`` stages of equal length. In stage s of
    S the pool holds the easiest share f(s / S) of the documents, and the stage reads from it what has been read least
    often so far, at random among equals. f is the pace:

    ``linear``              p: each stage reads the next group of difficulty, and every document is read once.
    ``inverse_quadratic``   1 - (1 - p)^2: the pool opens fast, the hard end waits for less long; each once.
    ``root``                the square root of p, the pace of Platanios et al. (2019); each once.
    ``quadratic``           p^2: easy documents are read several times before the pool opens, and some hard ones are
                            not read at all in an epoch.

    A pace that is nowhere below p reads every document exactly once an epoch. Zhang et al. name the first, the second
    and the last; the formulas are ours.

    Args:
        pace: one of PACES.
        groups: stages of an epoch.
    """

    pace: str = "linear"
    groups: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pace not in PACES:
            raise ValueError(f"Paced: pace={self.pace!r} is unknown; choose one of {', '.join(PACES)}")
        if not 1 <= self.groups <= self.documents:
            raise ValueError(f"Paced: {self.groups} groups of {self.documents} documents; give 1 to {self.documents}")

    def open(self, share: float) -> float:
        """The share of the documents that is open when this share of the epoch has been read."""
        return {
            "linear": share,
            "quadratic": share**2,
            "inverse_quadratic": 1 - (1 - share) ** 2,
            "root": share**0.5,
        }[self.pace]

    def sequence(self, epoch: int) -> np.ndarray:
        """int64 (documents,)."""
        ladder = self._ladder(epoch)
        reads = np.zeros(self.documents, dtype=np.int64)  # by rung of the ladder
        out: list[np.ndarray] = []
        for stage in range(self.groups):
            begin, end = (self.documents * s // self.groups for s in (stage, stage + 1))
            share = self.open((stage + 1) / self.groups)
            pool = max(int(share * self.documents + 1e-9), 1)  # 0.3 * 10 falls short of 3 in floats
            value = self._hash(ladder[:pool], "pace", epoch, stage)
            left = end - begin
            while left:
                least = np.flatnonzero(reads[:pool] == reads[:pool].min())
                taken = least[np.argsort(value[least], kind="stable")][:left]
                reads[taken] += 1
                out.append(ladder[taken])
                left -= len(taken)
        return np.concatenate(out)


@dataclass(frozen=True, kw_only=True, eq=False)
class Interleaved(_Graded):
    """Sections that each climb from easy to hard.

    The sorted documents are cut into ``groups`` of difficulty, each group is shuffled and dealt out to the sections;
    a section reads its share of the first group, then of the second, and so on. Every document is read once.

    Args:
        sections: ladders an epoch.
        groups: steps of a ladder.
    """

    sections: int = 10
    groups: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.sections, self.groups) < 1:
            raise ValueError(f"Interleaved: {self.sections} sections, {self.groups} groups; give at least one of each")

    def sequence(self, epoch: int) -> np.ndarray:
        """A permutation, int64 (documents,)."""
        ladder = self._ladder(epoch)
        group = np.arange(self.documents) * self.groups // self.documents
        within = np.lexsort((self._hash(ladder, "deal", epoch), group))
        ladder = ladder[within]  # group stays as it is: it is sorted
        # Dealing goes on from group to group, so that sections differ by one document at most.
        section = np.arange(self.documents) % self.sections
        return ladder[np.lexsort((group, section))]


@dataclass(frozen=True, kw_only=True, eq=False)
class Folded(_Graded):
    """Every n-th of the sorted documents, n times; one fold is the sorted order.

    DELT's paper (eq. 10) and its released code (data_ordering/folding.py) hold the same folds and begin with different
    ones. Of ten documents, 0 the easiest, in three folds:

    ``released``   0 3 6 9, 1 4 7, 2 5 8
    ``paper``      2 5 8, 0 3 6 9, 1 4 7

    DELT sorts from low to high values of its score, which is ``easy="low"``.

    Args:
        folds: how many.
        convention: which fold is first.
    """

    folds: int = 3
    convention: Literal["released", "paper"] = "released"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds < 1:
            raise ValueError(f"Folded: {self.folds} folds; give at least one")
        if self.convention not in ("released", "paper"):
            raise ValueError(f"Folded: convention={self.convention!r}; choose 'released' or 'paper'")

    def sequence(self, epoch: int) -> np.ndarray:
        """A permutation, int64 (documents,)."""
        ladder = self._ladder(epoch)
        rungs = np.arange(self.documents)
        fold = (rungs if self.convention == "released" else rungs + 1) % self.folds
        return ladder[np.argsort(fold, kind="stable")]


@dataclass(frozen=True, kw_only=True, eq=False)
class WarmUp(_Drawn):
    """Another ordering first, over a random share of the documents; then the others, shuffled.

    In the first epoch the documents of the share are read as ``first`` orders them, repeats included. Later epochs are
    shuffles of all.

    Args:
        first: of the same documents.
        share: of the documents, 0 to 1.
    """

    first: Ordering
    share: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first.documents != self.documents:
            raise ValueError(
                f"WarmUp: the first ordering has {self.first.documents} documents, not {self.documents}; use the same"
            )
        if not 0 <= self.share <= 1:
            raise ValueError(f"WarmUp: a share of {self.share}; give a number from 0 to 1")

    def sequence(self, epoch: int) -> np.ndarray:
        """int64 (n,): a permutation where ``first`` gives one."""
        if epoch > 0:
            return self._shuffled(self._all, "shuffle", epoch)
        chosen = np.zeros(self.documents, dtype=bool)
        chosen[self._shuffled(self._all, "warm-up")[: round(self.share * self.documents)]] = True
        before = self.first.sequence(0)
        return np.concatenate([before[chosen[before]], self._shuffled(np.flatnonzero(~chosen), "shuffle", 0)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Between:
    """A stretch of each epoch of another ordering.

    Args:
        of: the ordering; its first epoch alone decides what is read, so that two stretches never share a document that
            it reads once. Later epochs read the same documents in the order that it gives them then.
        begin: where the stretch begins, a share of the epoch.
        end: where it ends.
    """

    of: Ordering
    begin: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end <= 1:
            raise ValueError(
                f"Between: from {self.begin} to {self.end}; give two shares from 0 to 1, the smaller first"
            )

    @property
    def documents(self) -> int:
        """How many documents there are to choose from."""
        return self.of.documents

    def sequence(self, epoch: int) -> np.ndarray:
        """int64 (n,)."""
        first = self.of.sequence(0)
        mine = first[round(self.begin * len(first)) : round(self.end * len(first))]
        if epoch == 0:
            return mine
        chosen = np.zeros(self.documents, dtype=bool)
        chosen[mine] = True
        later = self.of.sequence(epoch)
        return later[chosen[later]]

    def identity(self) -> Mapping[str, Any]:
        """The ordering's identity and the shares."""
        return {"ordering": "Between", "of": dict(self.of.identity()), "begin": self.begin, "end": self.end}


@dataclass(frozen=True, kw_only=True, eq=False)
class Subset(_Drawn):
    """A fresh random share of the documents each epoch.

    The learning rate's schedule must cover the shortened epochs. A static random subset of the same size, which this
    should be compared with, is ``Shuffled`` over a mix of that size.

    Args:
        share: of the documents that an epoch reads, above 0, at most 1.
        replacement: whether a document may come back before all others have been read. With it each epoch is drawn
            from all documents. Without it the epochs walk on through a permutation, and through a new one where it
            ends; so at any time no document was read more than once more often than another (an epoch that lies
            across that border may hold a document twice).
    """

    share: float
    replacement: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise ValueError(f"Subset: a share of {self.share}; give a number above 0, at most 1")

    def sequence(self, epoch: int) -> np.ndarray:
        """int64 (n,), n the same in every epoch."""
        size = max(round(self.share * self.documents), 1)
        if self.replacement:
            return self._shuffled(self._all, "subset", epoch)[:size]
        return _walked(lambda r: self._shuffled(self._all, "round", r), self.documents, epoch * size, size)


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoSets(_Drawn):
    """A small random set that is repeated among all the others.

    An epoch reads every document outside the set once. Among these, at random places, stand documents of the set, so
    many that they are ``probability`` of all that is read; they walk on through permutations of the set. Both kinds
    share a batch: the paper found that repeated examples in batches of their own do not help, nor does a set that is
    chosen instead of drawn. Its results are on arithmetic; none is known for language.

    Args:
        repeated: documents in the set.
        probability: how much of what is read comes from it, 0 to 1, both excluded.
    """

    repeated: int
    probability: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.repeated < self.documents:
            raise ValueError(
                f"TwoSets: a set of {self.repeated} of {self.documents} documents; give 1 to {self.documents - 1}"
            )
        if not 0 < self.probability < 1:
            raise ValueError(f"TwoSets: a probability of {self.probability}; give a number between 0 and 1")

    @property
    def repeated_set(self) -> np.ndarray:
        """The set, int64 (repeated,), sorted."""
        return np.sort(self._shuffled(self._all, "set")[: self.repeated])

    def sequence(self, epoch: int) -> np.ndarray:
        """int64 (n,), n the same in every epoch."""
        chosen = self.repeated_set
        others = np.setdiff1d(np.arange(self.documents), chosen, assume_unique=True)
        count = round(len(others) * self.probability / (1 - self.probability))
        again = _walked(lambda r: self._shuffled(chosen, "round", r), len(chosen), epoch * count, count)
        total = len(others) + count
        places = np.argsort(keyed(np.arange(total, dtype=np.uint64), self.seed, "places", epoch), kind="stable")
        out = np.empty(total, dtype=np.int64)
        out[np.sort(places[:count])] = again
        out[np.sort(places[count:])] = self._shuffled(others, "shuffle", epoch)
        return out


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of an epoch.

    Args:
        share: of its tokens.
        domains: domain number to its weight; a domain that is not named is not read. Weights are divided by their sum.
    """

    share: float
    domains: Mapping[int, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture(_Drawn):
    """Domains by their share of the tokens, phase after phase.

    A domain's documents are read in a random order, all once before any again, and the walk goes on from phase to
    phase and from epoch to epoch. So a domain with little text is repeated as often as its share asks for, and one
    with much is read in part; ``passes`` tells how often. Within a phase the domains are mixed evenly at random.

    Upsampling in two phases, as Blakeney et al.: the base mix for 80 % of the tokens, then the same with the domains of
    interest weighed up. At 7B weights and 1T tokens they tried the last 5, 10, 20 and 30 %: MMLU was best with 10 %,
    GSM8K still rose at 30 %, and language understanding lost; one run each.

    Args:
        domains: int (documents,), the number of each document's domain, not negative.
        lengths: int (documents,), tokens.
        tokens: what an epoch reads, in all. A phase ends with the document that reaches its share.
        phases: in order; shares are divided by their sum.
    """

    domains: np.ndarray
    lengths: np.ndarray
    tokens: int
    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in (("domains", self.domains), ("lengths", self.lengths)):
            if values.shape != (self.documents,):
                raise ValueError(
                    f"Mixture: {name} of shape {values.shape} for {self.documents} documents; give one each"
                )
        if self.tokens < 1 or not self.phases or any(p.share <= 0 for p in self.phases):
            raise ValueError(
                f"Mixture: {self.tokens} tokens in {len(self.phases)} phases with shares "
                f"{[p.share for p in self.phases]}; give at least one of each, and shares above 0"
            )
        for number, phase in enumerate(self.phases):
            weights = list(phase.domains.values())
            if not weights or min(weights) < 0 or sum(weights) <= 0:
                raise ValueError(f"Mixture: phase {number} has the weights {weights}; give some above 0, none below")
            for domain, weight in phase.domains.items():
                if weight > 0 and not self.lengths[self.domains == domain].sum():
                    raise ValueError(
                        f"Mixture: phase {number} asks for domain {domain}, which has no text; "
                        "leave it out, or check the numbers of the domains"
                    )

    def identity(self) -> Mapping[str, Any]:
        """The settings; arrays by their hash."""
        weights = [[p.share, sorted([int(d), float(w)] for d, w in p.domains.items())] for p in self.phases]
        return {**super().identity(), "phases": weights}

    def quotas(self) -> list[dict[int, int]]:
        """Tokens of each domain in each phase of an epoch."""
        total = sum(p.share for p in self.phases)
        found = []
        for phase in self.phases:
            of_phase = self.tokens * phase.share / total / sum(phase.domains.values())
            found.append({d: round(of_phase * w) for d, w in sorted(phase.domains.items()) if w > 0})
        return found

    def passes(self) -> dict[int, float]:
        """How often each domain is read in an epoch."""
        asked: dict[int, int] = {}
        for quota in self.quotas():
            for domain, tokens in quota.items():
                asked[domain] = asked.get(domain, 0) + tokens
        return {d: n / int(self.lengths[self.domains == d].sum()) for d, n in sorted(asked.items())}

    def sequence(self, epoch: int) -> np.ndarray:
        """int64 (n,)."""
        quotas = self.quotas()
        # Where each domain's walk stands, in tokens: its quotas of all earlier epochs, and phase by phase its own.
        at = {d: epoch * sum(q.get(d, 0) for q in quotas) for d in {d for q in quotas for d in q}}
        members = {d: np.flatnonzero(self.domains == d) for d in at}
        out = []
        for number, quota in enumerate(quotas):
            found = []
            for domain, tokens in quota.items():
                found.append(self._walk(members[domain], domain, at[domain], at[domain] + tokens))
                at[domain] += tokens
            phase = np.concatenate(found)
            places = keyed(np.arange(len(phase), dtype=np.uint64), self.seed, "mix", epoch, number)
            out.append(phase[np.argsort(places, kind="stable")])
        return np.concatenate(out)

    def _walk(self, members: np.ndarray, domain: int, begin: int, end: int) -> np.ndarray:
        """A domain's documents that start at or after token ``begin`` of its endless walk, and before ``end``."""
        size = int(self.lengths[members].sum())
        out = [members[:0]]
        for number in range(begin // size, (end - 1) // size + 1 if end > begin else 0):
            order = self._shuffled(members, "domain", domain, number)
            starts = number * size + np.cumsum(self.lengths[order], dtype=np.int64) - self.lengths[order]
            out.append(order[(starts >= begin) & (starts < end) & (self.lengths[order] > 0)])
        return np.concatenate(out)


def keyed(keys: np.ndarray, seed: int, purpose: str, *numbers: int) -> np.ndarray:
    """A uniform uint64 for each key, uint64 (n,): splitmix64 (Steele, Lea and Flood 2014) started by the rest."""
    label = "\x00".join([str(seed), purpose, *map(str, numbers)])
    start = np.frombuffer(hashlib.sha256(label.encode()).digest()[:16], dtype="<u8").astype(np.uint64)
    return _mixed(_mixed(keys ^ start[0]) + start[1])


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _walked(of_round: Callable[[int], np.ndarray], size: int, begin: int, count: int) -> np.ndarray:
    """Places ``begin`` to ``begin + count`` of permutations of ``size`` documents, written one after the other."""
    if not count:
        return np.empty(0, dtype=np.int64)
    first, last = begin // size, (begin + count - 1) // size
    rounds = np.concatenate([of_round(r) for r in range(first, last + 1)])
    return rounds[begin - first * size :][:count]


def shares(sequence: Sequence[int] | np.ndarray, domains: np.ndarray, lengths: np.ndarray) -> dict[int, float]:
    """The share of the tokens that each domain has in what is read."""
    read = np.asarray(sequence)
    tokens = np.bincount(domains[read], weights=lengths[read])
    return {d: float(n / tokens.sum()) for d, n in enumerate(tokens.tolist()) if n}
