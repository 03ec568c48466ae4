"""Explanations: every row that has the id, what was written of it, what dropped it, where it went."""

import pyarrow.parquet as pq
import pytest
from finished import SCRIPT, finished
from toys import Lists, words

from curate import select
from curate.engines.local import Local
from curate.explain import stories
from curate.plan import plan, read, write
from curate.run import run
from curate.store import Store


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("explain"))


def facts(done, document):
    """The facts of the only row with an id."""
    [story] = stories(done[0], done[1].manifest, document)
    assert story.frame == "read mixed"
    return dict(story.facts)


def test_a_row_that_was_taken(done):
    found = facts(done, "doc 27")
    assert found["file"].endswith("b.json, row 8")  # 20 to 23, the null row, then 24 to 27
    assert len(found["key"]) == 32
    assert found["source"] == "web"
    assert found["grade"] == "27"
    assert found["finished.score"] == "score 27\ntokens 9"  # "number 27: " and 27 letters are 38 bytes
    assert found["toys.letters"] == "letters 27"
    assert found["fate"] == "lives"
    assert found["score score"] == ("27 letters: 2 of 25 rows are better (high values are kept); the cut of top is 22")
    assert found["sample arm top"] == "holds it, one of 8 documents"


def test_its_place_in_the_mix_is_where_it_is_said_to_be(done):
    store, outcome = done
    said = facts(done, "doc 27")["mix top"]
    assert said.startswith("1 copy: data/train-00000-of-00001.parquet, row ")
    table = pq.read_table(store.full(f"{outcome.folder}/mixes/top/data/train-00000-of-00001.parquet"))
    assert table["id"][int(said.rsplit(" ", 1)[1])].as_py() == "doc 27"


def test_a_row_that_a_rule_dropped_has_no_later_numbers(done):
    found = facts(done, "doc 02")
    assert found["file"].endswith("a.parquet, row 2 of row groups 0 to 1")
    assert found["fate"] == "dropped by keep (too_few_letters): too_few_letters"
    assert found["toys.letters"] == "letters 2"
    assert "exact.duplicates" not in found
    assert "score score" not in found
    assert found["mix top"] == "not in it"


def test_copies_name_the_row_that_is_kept(done):
    """Three rows have one text; two of them have one id; one of the three is kept."""
    found = [dict(s.facts) for name in ("copy", "doc 25") for s in stories(done[0], done[1].manifest, name)]
    assert len(found) == 3
    assert sorted(f["fate"] for f in found) == ["dropped by keep (exact_duplicate): exact_duplicate"] * 2 + ["lives"]
    assert len({f["key"] for f in found}) == 3
    [kept] = [f for f in found if f["fate"] == "lives"]
    assert "exact_copies 3" in kept["exact.duplicates"]
    assert "exact_copy_of –" in kept["exact.duplicates"]
    for copy in (f for f in found if f["fate"] != "lives"):
        assert (
            "exact_copy_of copy  (part" in copy["exact.duplicates"]
            or "exact_copy_of doc 25  (part" in copy["exact.duplicates"]
        )


def test_a_row_without_a_score(done):
    found = facts(done, SCRIPT)
    assert found["finished.score"] == "score –\ntokens 10"
    assert "score score" not in found
    assert found["mix top"] == "not in it"


def test_an_unknown_id_has_no_story(done):
    assert stories(done[0], done[1].manifest, "doc 99") == []
    assert stories(done[0], done[1].manifest, "null") == []  # quarantined: its text is null


def test_a_replaced_row_knows_what_it_was_made_from(tmp_path):
    frame = read(Lists({"one": ("an apple", "b")})).then(words)
    store = Store(str(tmp_path))
    mixes = {"m": frame.select(select.uniform(label="u"), rows=2)}
    outcome = run(plan(write(mixes)), name="w", store=store, open_engine=Local)
    [story] = stories(store, outcome.manifest, "one:0#1")
    assert story.frame == "toys.words"
    assert dict(story.facts)["word"] == "1"
    assert dict(story.facts)["made from"].startswith("one:0  (part ")
