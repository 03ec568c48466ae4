"""The ledger of verdicts: uses are counted, levels widen, verdicts are withdrawn, accuracy is told from 20 on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curate.train.ledger import Ledger, Verdict

CLOSER = Verdict(mix="mix", test_sets=("t1",), verdict="closer to the target", estimate=4.0, low=1.0, high=7.0,
                 level=0.95, p=0.02, directional=True)  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.jsonl")


def test_a_trial_told_twice_counts_once(ledger: Ledger):
    assert ledger.record("trial-1", [CLOSER, replace(CLOSER, mix="other")]) == 2
    assert ledger.record("trial-1", [CLOSER, replace(CLOSER, mix="other")]) == 0
    assert ledger.uses("t1") == 2
    assert ledger.uses("t1", but="trial-1") == 0
    assert ledger.uses("t2") == 0


def test_levels_widen_with_use(ledger: Ledger):
    """First .95; after one verdict 1 - .05 / 2; after three, for two mixes, 1 - .05 / 5."""
    assert ledger.level(["t1"]) == pytest.approx(0.95)
    assert ledger.level(["t1"], mixes=2) == pytest.approx(0.975)
    ledger.record("a", [CLOSER])
    assert ledger.level(["t1"]) == pytest.approx(0.975)
    assert ledger.level(["t1"], trial="a") == pytest.approx(0.95)    # the trial itself, made again
    assert ledger.level(["t2"]) == pytest.approx(0.95)
    ledger.record("b", [CLOSER, replace(CLOSER, mix="x")])
    assert ledger.level(["t2", "t1"], mixes=2) == pytest.approx(0.99)   # the most used of its test sets


def test_verdicts_are_withdrawn_in_company(ledger: Ledger):
    """p .02 stands alone; with .03 and .5 beside it Holm makes it .06, and neither stands."""
    ledger.record("a", [CLOSER])
    assert [s.stands for s in ledger.standing("t1")] == [True]
    ledger.record("b", [replace(CLOSER, p=0.03)])
    ledger.record("c", [replace(CLOSER, p=0.5, directional=False, verdict="inconclusive")])
    assert [s.adjusted for s in ledger.standing("t1")] == pytest.approx([0.06, 0.06, 0.5])
    assert not any(s.stands for s in ledger.standing("t1"))
    ledger.record("d", [replace(CLOSER, p=0.001)])
    assert [s.stands for s in ledger.standing("t1")] == [False, False, False, True]


def test_what_stands_is_rarely_false(tmp_path: Path):
    """Forty ledgers of ten null verdicts each, p uniform: at most some 5 % of them hold one that stands."""
    rng = np.random.default_rng(0)
    false = 0
    for i in range(40):
        ledger = Ledger(tmp_path / f"{i}.jsonl")
        for j in range(10):
            ledger.record(f"{j}", [replace(CLOSER, p=float(rng.random()))])
        false += any(s.stands for s in ledger.standing("t1"))
    assert false <= 6


def test_accuracy_is_told_from_twenty_on(ledger: Ledger):
    """16 of 20: 80 %, exact interval 56.3 to 94.3 % (Clopper and Pearson's, as printed)."""
    ids = []
    for i in range(20):
        ledger.record(f"trial-{i}", [CLOSER])
        ids.append(ledger.standing("t1")[-1].id)
    for i, name in enumerate(ids[:-1]):
        assert ledger.confirm(name, held=i >= 4, scale="1.2B")
    assert ledger.accuracy() is None
    assert "19 verdicts were checked" in ledger.lines()[-1]
    assert ledger.confirm(ids[-1], held=True, scale="1.2B")
    assert not ledger.confirm(ids[-1], held=True, scale="1.2B")
    found = ledger.accuracy()
    assert found is not None
    assert (found.held, found.checked) == (16, 20)
    assert (found.low, found.high) == pytest.approx((0.5634, 0.9427), abs=1e-4)
    assert "16 held: 80 % (95 % interval 56 to 94 %)" in ledger.lines()[-1]
    ledger.confirm(ids[0], held=True, scale="7B")                    # the latest word counts
    again = ledger.accuracy()
    assert again is not None and again.held == 17


def test_only_a_direction_can_hold(ledger: Ledger):
    ledger.record("a", [replace(CLOSER, directional=False, verdict="inconclusive")])
    with pytest.raises(ValueError, match="claimed no direction"):
        ledger.confirm(ledger.standing("t1")[0].id, held=True, scale="1B")
    with pytest.raises(ValueError, match="no verdict 'x'"):
        ledger.confirm("x", held=True, scale="1B")


def test_what_is_no_verdict_is_refused(ledger: Ledger):
    with pytest.raises(ValueError, match="no probability"):
        ledger.record("a", [replace(CLOSER, p=float("nan"))])
    with pytest.raises(ValueError, match="no test set"):
        ledger.record("a", [replace(CLOSER, test_sets=())])
    assert ledger.lines() == ["0 verdicts were checked at a larger scale; how often they hold is told from 20 on"]
