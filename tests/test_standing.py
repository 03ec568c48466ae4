"""The ledger of a store: one file an entry, wherever the store is, and the single file of earlier versions with it."""

import itertools
import json
from dataclasses import replace

import pytest

from curate import standing
from curate.standing import FILE, FOLDER, Shelf, settle
from curate.store import Store
from curate.train import journal
from curate.train.ledger import Ledger, Verdict

CLOSER = Verdict(mix="mix", test_sets=("t1",), verdict="closer to the target", estimate=4.0, low=1.0, high=7.0,
                 level=0.95, p=0.02, directional=True)  # fmt: skip
NUMBER = itertools.count()


@pytest.fixture(params=["directory", "memory"])
def store(request, tmp_path):
    return Store(str(tmp_path / "store") if request.param == "directory" else f"memory://standing-{next(NUMBER)}")


def test_a_store_anywhere_counts_uses(store):
    ledger = Ledger(Shelf(store))
    assert ledger.uses("t1") == 0 and ledger.level(["t1"]) == pytest.approx(0.95)
    assert ledger.record("one", [CLOSER, replace(CLOSER, mix="other")]) == 2
    assert Ledger(Shelf(store)).record("one", [CLOSER, replace(CLOSER, mix="other")]) == 0  # the same trial again
    assert ledger.record("two", [replace(CLOSER, p=0.001)]) == 1
    assert ledger.uses("t1") == 3 and len(store.names(FOLDER)) == 3
    assert [s.trial for s in ledger.standing("t1")] == ["one", "one", "two"]  # in the order in which they were given
    assert [s.stands for s in ledger.standing("t1")] == [True, True, True]
    assert ledger.confirm(ledger.standing("t1")[2].id, held=True, scale="1B")


def test_the_file_of_earlier_versions_still_counts(tmp_path):
    store = Store(str(tmp_path / "store"))
    Ledger(tmp_path / "store" / FILE).record("before", [CLOSER])
    ledger = Ledger(Shelf(store))
    assert ledger.uses("t1") == 1
    assert ledger.record("before", [CLOSER]) == 0 and not store.names(FOLDER)  # it is there already
    assert ledger.record("after", [CLOSER]) == 1
    assert [s.trial for s in ledger.standing("t1")] == ["before", "after"]


def test_an_entry_that_was_changed_is_refused(store):
    Ledger(Shelf(store)).record("one", [CLOSER])
    [name] = store.names(FOLDER)
    told = json.loads(store.read(f"{FOLDER}/{name}"))
    store.remove(f"{FOLDER}/{name}")
    store.publish(f"{FOLDER}/{name}", (json.dumps({**told, "p": 0.9}) + "\n").encode())
    with pytest.raises(ValueError, match="does not say what it said when it was written"):
        Ledger(Shelf(store)).uses("t1")


def trial(word="closer to the target", split="test"):
    contrast = {
        "estimate": 4.0, "low": 1.0, "high": 7.0, "level": 0.95, "p": 0.02, "se": 1.4, "se_seed": 1.0, "se_item": 1.0,
        "sd": 2.2, "sd_degrees": 8.0, "item_degrees": 99.0, "degrees": 30.0, "noise": "own seeds",
        "deltas": [3.0, 5.0, 4.0],
    }  # fmt: skip
    return {"test_sets": {"target:x": "t1"}, "settings": {"split": split}, "verdicts": {"mix": {"verdict": word}},
            "instruments": {"ngram": {"against": {"mix": {"random": contrast}}}}}  # fmt: skip


def test_a_run_says_how_its_verdict_stands(store):
    first, second = {"trials": {"trial": trial()}}, {"trials": {"trial": trial()}}
    settle(store, "runs/a", first)
    settle(store, "runs/b", second)
    assert first["trials"]["trial"]["standing"]["mix"]["sentence"] == ""
    found = second["trials"]["trial"]["standing"]["mix"]
    assert found["verdicts_before"] == 1 and found["level"] == pytest.approx(0.975)
    assert found["interval"][0] < 1.0 and "were used once before" in found["sentence"]
    chosen = {"trials": {"trial": trial(split="validation")}}
    settle(store, "runs/c", chosen)
    assert "standing" not in chosen["trials"]["trial"] and Ledger(Shelf(store)).uses("t1") == 2
    assert standing.DIRECTIONS[0] == "closer"


def test_two_that_end_at_once_lose_nothing(store):
    """Both have read the same state before either writes."""
    one, two = Shelf(store), Shelf(store)
    entries = [{"kind": "verdict", "trial": t, "date": "2026-01-01"} for t in ("a", "b")]
    assert one.add([entries[0]]) and two.add([entries[1]]) and not two.add([entries[0]])
    assert {e["id"] for e in one.read()} == {journal.identity(e) for e in entries}
