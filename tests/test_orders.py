"""Orderings, on a few documents and by hand; randomness is known by its laws, never by what it gave once."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.train.orders import (
    Between,
    Folded,
    Interleaved,
    Mixture,
    Paced,
    Phase,
    Shuffled,
    Sorted,
    Subset,
    TwoSets,
    WarmUp,
    keyed,
    shares,
)

law = settings(deadline=None, max_examples=60)
TEN = np.array([3.0, 9.0, 1.0, 7.0, 5.0, 0.0, 8.0, 2.0, 6.0, 4.0])  # document 5 is the easiest, 1 the hardest
RUNGS = [5, 2, 7, 0, 9, 4, 8, 3, 6, 1]


def graded(kind, scores=TEN, **settings):
    return kind(documents=len(scores), scores=np.asarray(scores, dtype=float), **({"easy": "low"} | settings))


def scored(ordering, epoch=0):
    """What is read, by its score."""
    return ordering.scores[ordering.sequence(epoch)].astype(int).tolist()


def every_ordering(documents=12, seed=0, keys=None, scores=None):
    of = {"documents": documents, "seed": seed, "keys": keys}
    by = of | {"scores": np.arange(documents) % 5.0 if scores is None else scores, "easy": "low"}
    return {
        "shuffled": Shuffled(**of),
        "sorted": Sorted(**by),
        "paced": Paced(**by, groups=4),
        "interleaved": Interleaved(**by, sections=3, groups=2),
        "folded": Folded(**by),
        "warm-up": WarmUp(**of, first=Sorted(**by), share=0.5),
        "between": Between(of=Shuffled(**of), begin=0.25, end=0.75),
        "subset": Subset(**of, share=0.4),
        "subset again": Subset(**of, share=0.4, replacement=True),
        "two sets": TwoSets(**of, repeated=2, probability=0.5),
        "mixture": Mixture(
            **of, domains=np.arange(documents) % 2, lengths=np.full(documents, 10), tokens=10 * documents,
            phases=(Phase(share=1, domains={0: 1, 1: 3}),),
        ),
    }  # fmt: skip


NAMES = sorted(every_ordering())


# ── laws of all ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_is_decided_by_seed_and_number_alone(name):
    ordering, again, other = (every_ordering(seed=s)[name] for s in (3, 3, 4))
    alone = [again.sequence(e) for e in (2, 0, 1)]  # in another order, from an object of its own
    assert [ordering.sequence(e).tolist() for e in (2, 0, 1)] == [s.tolist() for s in alone]
    assert all(s.dtype == np.int64 and s.min() >= 0 and s.max() < 12 for s in alone)
    assert ordering.sequence(0).tolist() != other.sequence(0).tolist()
    assert ordering.identity() == again.identity() != other.identity()
    assert json.loads(json.dumps(ordering.identity())) == ordering.identity()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"sorted", "folded"}))
def test_epochs_differ(name):
    ordering = every_ordering(documents=30)[name]
    assert ordering.sequence(0).tolist() != ordering.sequence(1).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_with_keys_the_order_follows_the_documents_and_not_the_store(name):
    keys = keyed(np.arange(12, dtype=np.uint64), 0, "keys")
    scores = np.array([1.0, 1, 1, 2, 2, 2, np.nan, 3, 3, 4, 4, 4])
    moved = np.random.default_rng(0).permutation(12)
    here = every_ordering(keys=keys, scores=scores)[name]
    there = every_ordering(keys=keys[moved], scores=scores[moved])[name]
    if name == "mixture":
        there = Mixture(**{**vars(there), "domains": here.domains[moved]})
        # The places in a phase belong to no document, so that only what is read agrees.
        assert np.sort(keys[here.sequence(1)]).tolist() == np.sort(keys[moved][there.sequence(1)]).tolist()
    else:
        assert keys[here.sequence(1)].tolist() == keys[moved][there.sequence(1)].tolist()


@given(st.integers(1, 40), st.integers(0, 3), st.integers(0, 3))
@law
def test_what_reads_each_document_once_is_a_permutation(n, seed, epoch):
    scores = np.random.default_rng(n).integers(0, 4, n).astype(float)
    by = {"documents": n, "scores": scores, "easy": "high", "seed": seed}
    orderings = [Shuffled(documents=n, seed=seed), Sorted(**by), Interleaved(**by, sections=4), Folded(**by)]
    orderings += [Paced(**by, pace=p, groups=min(n, 5)) for p in ("linear", "inverse_quadratic", "root")]
    orderings += [WarmUp(documents=n, seed=seed, first=o, share=0.3) for o in list(orderings)]
    for ordering in orderings:
        assert np.sort(ordering.sequence(epoch)).tolist() == list(range(n)), ordering


# ── curricula ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sorted_runs_from_the_named_end():
    assert graded(Sorted).sequence(0).tolist() == RUNGS
    assert graded(Sorted, easy="high").sequence(0).tolist() == RUNGS[::-1]


def test_equal_scores_do_not_stand_in_the_order_of_the_store():
    twins = graded(Sorted, scores=np.repeat([0.0, 1.0], 50))
    for epoch in (0, 1):
        first = twins.sequence(epoch)[:50]
        assert sorted(first) == list(range(50))
        # Of 49 neighbours about 1 follows its predecessor in a random order, and all of them in the store's.
        assert (np.diff(first) == 1).sum() < 8


def test_a_document_without_a_score_is_neither_easy_nor_hard():
    scores = np.r_[np.arange(200.0), np.full(200, np.nan)]
    where = np.flatnonzero(graded(Sorted, scores=scores).sequence(0) >= 200)
    assert abs(where.mean() - 199.5) < 25  # 3 standard errors of a mean of 200 uniform places
    with pytest.raises(ValueError, match="no document has a score"):
        graded(Sorted, scores=[np.nan, np.nan])


def test_linear_pace_reads_group_after_group():
    paced = graded(Paced, groups=5)
    assert [sorted(scored(paced)[i : i + 2]) for i in range(0, 10, 2)] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert scored(graded(Paced, groups=10)) == list(range(10))
    assert scored(graded(Paced, groups=1)) != list(range(10))


def test_quadratic_pace_by_hand():
    """Eight documents, four stages of two: the pool holds 8 (s/4)^2 = 0.5 (at least 1), 2, 4.5 and 8 documents."""
    paced = graded(Paced, scores=np.arange(8.0), pace="quadratic", groups=4)
    for epoch in range(4):
        read = scored(paced, epoch)
        assert read[:4] == [0, 0, 1, 1]  # 1 is read twice: 0 has been, so 1 is behind
        assert sorted(read[4:6]) == [2, 3]
        assert read[6] != read[7]
        assert set(read[6:]) < {4, 5, 6, 7}


def test_inverse_quadratic_pace_by_hand():
    """The pool holds 8 (1 - (1 - s/4)^2) = 3.5, 6, 7.5 and 8 documents; two are read from each."""
    found = set()
    for epoch in range(60):
        read = scored(graded(Paced, scores=np.arange(8.0), pace="inverse_quadratic", groups=4), epoch)
        assert sorted(read) == list(range(8))
        assert max(read[:2]) < 3
        assert max(read[2:4]) < 6
        assert max(read[4:6]) < 7
        found.add(frozenset(read[:2]))
    assert found == {frozenset({0, 1}), frozenset({0, 2}), frozenset({1, 2})}


def test_root_opens_faster_than_any_and_quadratic_slower():
    pace = {p: graded(Paced, pace=p).open(0.25) for p in ("linear", "quadratic", "inverse_quadratic", "root")}
    assert pace == {"linear": 0.25, "quadratic": 0.0625, "inverse_quadratic": 0.4375, "root": 0.5}


def test_interleaved_sections_each_climb_the_ladder():
    """Twelve documents, three groups of four (0-3, 4-7, 8-11) dealt to two sections: two of each group in a section."""
    read = scored(graded(Interleaved, scores=np.arange(12.0), sections=2, groups=3))
    for section in (read[:6], read[6:]):
        assert [n // 4 for n in section] == [0, 0, 1, 1, 2, 2]
    assert sorted(read) == list(range(12))
    # One group is a shuffle, one section with as many groups as documents is the sorted order.
    assert scored(graded(Interleaved, scores=np.arange(12.0), sections=1, groups=12)) == list(range(12))


def test_sections_differ_by_one_document():
    """Seven documents, two groups (0-3, 4-6), three sections: 3 + 2 + 2."""
    read = scored(graded(Interleaved, scores=np.arange(7.0), sections=3, groups=2))
    assert [n // 4 for n in read] == [0, 0, 1, 0, 1, 0, 1]


def test_folding_by_both_conventions():
    """DELT: the released code's folds of ten, and eq. 10's (1-based rank j with j mod L = l, l from 0)."""
    assert scored(graded(Folded)) == [0, 3, 6, 9, 1, 4, 7, 2, 5, 8]
    assert scored(graded(Folded, convention="paper")) == [2, 5, 8, 0, 3, 6, 9, 1, 4, 7]
    assert scored(graded(Folded, folds=1)) == list(range(10))
    assert scored(graded(Folded, easy="high", folds=2)) == [9, 7, 5, 3, 1, 8, 6, 4, 2, 0]


def test_warm_up_is_its_curriculum_over_a_share_and_a_shuffle_after_it():
    ordering = WarmUp(documents=10, first=graded(Sorted), share=0.4, seed=1)
    before, after = ordering.sequence(0)[:4], ordering.sequence(0)[4:]
    assert TEN[before].tolist() == sorted(TEN[before])
    assert sorted([*before, *after]) == list(range(10))
    drawn = {frozenset(WarmUp(documents=10, first=graded(Sorted), share=0.4, seed=s).sequence(0)[:4]) for s in range(9)}
    assert len(drawn) > 5  # the documents of the warm-up are a random share
    assert TEN[ordering.sequence(1)].tolist() != sorted(TEN)
    assert WarmUp(documents=10, first=graded(Sorted), share=1.0).sequence(0).tolist() == RUNGS


def test_stretches_of_an_epoch_share_nothing():
    """MeCo's two legs: 90 % of the documents, then the rest."""
    of = Shuffled(documents=20, seed=3)
    legs = [Between(of=of, begin=0, end=0.9), Between(of=of, begin=0.9, end=1)]
    for epochs in ((0, 0), (1, 1), (3, 0)):
        first, second = (leg.sequence(e).tolist() for leg, e in zip(legs, epochs, strict=True))
        assert (len(first), len(second)) == (18, 2)
        assert sorted(first + second) == list(range(20))
    assert legs[0].sequence(0).tolist() == of.sequence(0)[:18].tolist()
    middle = Between(of=graded(Sorted), begin=0.3, end=0.6).sequence(5)
    assert TEN[middle].tolist() == [3, 4, 5]


# ── subsets and repetition ───────────────────────────────────────────────────────────────────────────────────────────


def test_subsets_without_replacement_walk_through_a_permutation():
    """Ten documents, four an epoch: epochs 0 and 1 and the first half of 2 are one permutation, then the next one."""
    ordering = Subset(documents=10, share=0.4, seed=5)
    read = np.concatenate([ordering.sequence(e) for e in range(5)])
    assert sorted(read[:10]) == list(range(10)) == sorted(read[10:])
    assert read[:10].tolist() != read[10:].tolist()
    for end in range(1, 21):
        counts = np.bincount(read[:end], minlength=10)
        assert counts.max() - counts.min() <= 1


def test_subsets_with_replacement_are_drawn_afresh():
    """Each epoch of 3 of 6 is one of 20 sets; a document is in half of them."""
    ordering = Subset(documents=6, share=0.5, replacement=True)
    sets = [frozenset(ordering.sequence(e).tolist()) for e in range(400)]
    assert {len(s) for s in sets} == {3}
    assert len(set(sets)) == 20
    counts = np.bincount([d for s in sets for d in s], minlength=6)
    assert abs(counts - 200).max() < 40  # four standard deviations of 10
    back = sum(bool(a & b) for a, b in itertools.pairwise(sets))
    assert back > 300  # 19 of 20 neighbours share one, none would without


def test_a_share_of_one_is_every_document():
    for replacement in (False, True):
        assert sorted(Subset(documents=5, share=1, replacement=replacement).sequence(3)) == list(range(5))


def test_two_sets_by_hand():
    """Ten documents, two of them repeated with a probability of 0.6: eight others need 8 * 0.6 / 0.4 = 12 beside."""
    ordering = TwoSets(documents=10, repeated=2, probability=0.6, seed=2)
    again = set(ordering.repeated_set.tolist())
    assert len(again) == 2
    for epoch in range(3):
        read = ordering.sequence(epoch).tolist()
        assert len(read) == 20
        assert [read.count(d) for d in sorted(again)] == [6, 6]
        assert all(read.count(d) == 1 for d in range(10) if d not in again)
    # They are mixed: of 100 epochs' places a fixed one holds the set's documents in about 60.
    held = np.mean([[d in again for d in ordering.sequence(e)] for e in range(100)], axis=0)
    assert (abs(held - 0.6) < 0.2).all()


def test_the_repeated_set_walks_on_over_epochs():
    """Three repeated, two of them an epoch: after three epochs each was read twice."""
    ordering = TwoSets(documents=5, repeated=3, probability=0.5)
    read = np.concatenate([ordering.sequence(e) for e in range(3)])
    assert np.bincount(read, minlength=5)[ordering.repeated_set].tolist() == [2, 2, 2]


# ── mixtures ─────────────────────────────────────────────────────────────────────────────────────────────────────────

DOMAINS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
LENGTHS = np.array([10, 10, 10, 10, 10, 10, 5, 5, 10, 20, 10, 10])  # 60, 20 and 40 tokens


def mixture(**settings):
    given = {"documents": 12, "domains": DOMAINS, "lengths": LENGTHS, "tokens": 120}
    return Mixture(**(given | {"phases": (Phase(share=1, domains={0: 1, 1: 1, 2: 1}),)} | settings))


def test_a_mixture_gives_each_domain_its_share_of_the_tokens():
    """A third of 120 tokens each: 4 of 6 documents of domain 0, domain 1 twice, domain 2 once."""
    ordering = mixture()
    assert ordering.quotas() == [{0: 40, 1: 40, 2: 40}]
    assert ordering.passes() == {0: 40 / 60, 1: 2.0, 2: 1.0}
    for seed in range(5):
        read = mixture(seed=seed).sequence(0)
        counts = np.bincount(read, minlength=12)
        assert sorted(counts[:6]) == [0, 0, 1, 1, 1, 1]
        assert counts[6:].tolist() == [2, 2, 2, 1, 1, 1]
        assert shares(read, DOMAINS, LENGTHS) == {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}


def test_a_walk_goes_on_from_epoch_to_epoch():
    """Domain 0 is read 2/3 an epoch, so that three epochs read it twice."""
    read = np.concatenate([mixture().sequence(e) for e in range(3)])
    assert np.bincount(read, minlength=12)[:6].tolist() == [2] * 6


def test_upsampling_in_two_phases():
    """80 % of the tokens from domain 0, then 20 % from domains 1 and 2 by 1 to 3: 96, 6 and 18 tokens."""
    phases = (Phase(share=0.8, domains={0: 1}), Phase(share=0.2, domains={1: 1, 2: 3, 0: 0}))
    ordering = mixture(phases=phases)
    assert ordering.quotas() == [{0: 96}, {1: 6, 2: 18}]
    read = ordering.sequence(0)
    border = int(np.flatnonzero(DOMAINS[read] != 0)[0])
    assert border == 10  # ten documents of 10 tokens start before token 96
    assert (DOMAINS[read[:border]] == 0).all()
    assert (DOMAINS[read[border:]] > 0).all()
    assert LENGTHS[read[border:]].sum() >= 24


def test_a_phase_walks_on_where_the_one_before_it_stopped():
    """Half and half of a domain's 60 tokens in two phases is each of its documents once."""
    phases = (Phase(share=0.5, domains={0: 1}), Phase(share=0.5, domains={0: 1}))
    read = mixture(tokens=60, phases=phases).sequence(0)
    assert sorted(read) == list(range(6))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30)), min_size=3, max_size=40), st.integers(20, 900))
@law
def test_a_mixture_is_off_by_less_than_a_document_a_domain_and_phase(documents, tokens):
    domains, lengths = (np.array(c) for c in zip(*documents, strict=True))
    present = sorted(set(domains.tolist()))
    phases = (Phase(share=3, domains=dict.fromkeys(present, 1.0)), Phase(share=1, domains={present[0]: 2.0}))
    ordering = Mixture(documents=len(domains), domains=domains, lengths=lengths, tokens=tokens, phases=phases)
    total = {d: 0 for d in present}
    for epoch in range(3):
        read = ordering.sequence(epoch)
        for d in present:
            total[d] += int(lengths[read[domains[read] == d]].sum())
            asked = (epoch + 1) * sum(q.get(d, 0) for q in ordering.quotas())
            assert 0 <= total[d] - asked < lengths[domains == d].max() or asked == total[d] == 0


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Shuffled(documents=0), "at least one"),
        (lambda: Shuffled(documents=3, keys=np.zeros(2, dtype=np.uint64)), "one each"),
        (lambda: graded(Sorted, easy="yes"), "which values are easy"),
        (lambda: Sorted(documents=4, scores=TEN, easy="low"), "one each"),
        (lambda: graded(Paced, pace="cubic"), "inverse_quadratic"),
        (lambda: graded(Paced, groups=11), "1 to 10"),
        (lambda: graded(Interleaved, sections=0), "at least one"),
        (lambda: graded(Folded, folds=0), "at least one"),
        (lambda: graded(Folded, convention="code"), "released"),
        (lambda: WarmUp(documents=9, first=graded(Sorted), share=0.1), "use the same"),
        (lambda: WarmUp(documents=10, first=graded(Sorted), share=1.1), "from 0 to 1"),
        (lambda: Between(of=graded(Sorted), begin=0.5, end=0.5), "smaller first"),
        (lambda: Subset(documents=3, share=0), "above 0"),
        (lambda: TwoSets(documents=3, repeated=3, probability=0.5), "1 to 2"),
        (lambda: TwoSets(documents=3, repeated=1, probability=1), "between 0 and 1"),
        (lambda: mixture(tokens=0), "at least one of each"),
        (lambda: mixture(phases=(Phase(share=1, domains={3: 1}),)), "domain 3, which has no text"),
        (lambda: mixture(phases=(Phase(share=1, domains={0: 0}),)), "give some above 0"),
        (lambda: mixture(lengths=LENGTHS[1:]), "one each"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
