"""What a plan refuses before a byte is read, with its place and its remedy."""

from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pytest
from toys import Count, Lists, letters, longest, most_frequent_first, share, words

from curate import identity, select
from curate.columns import INT64, TEXT
from curate.engines.local import Local
from curate.errors import (
    BadInput,
    BadPlan,
    CurateError,
    MissingColumn,
    MissingExtra,
    StaleVersion,
    UnknownSetting,
    WrongDirection,
)
from curate.evaluate import Runner
from curate.outputs import content
from curate.plan import Mix, check, conclude, fit, given, plan, read, write
from curate.run import check_versions, plan_identity
from curate.stage import Direction, Grain, stage
from curate.store import Store

FILES = {"f": ("apple", "pear")}


def docs():
    return read(Lists(FILES))


def refused(kind, frame, *needles):
    with pytest.raises(kind) as caught:
        check(plan(write({"m": Mix(frame.then(most_frequent_first), "copies")})))
    text = str(caught.value)
    for needle in (*needles, "test_plan.py:"):
        assert needle in text, text
    assert caught.value.exit_code == 2


def test_a_misspelt_column_in_a_rule():
    refused(
        MissingColumn,
        docs().then(letters).keep(pl.col("leters") > 1, because="few"),
        "leters",
        "did you mean 'letters'?",
    )


def test_a_rule_that_is_not_true_or_false():
    refused(BadPlan, docs().then(letters).keep(pl.col("letters") + 1, because="few"), "'few'", "compare it")


def test_a_rule_on_the_wrong_type():
    refused(BadPlan, docs().keep(pl.col("text") / 2 > 1, because="odd"), "cannot be evaluated")


@pytest.mark.parametrize(
    "rule", [lambda row: True, [lambda row: True], "letters > 1", 5], ids=["function", "list", "text", "number"]
)
def test_a_rule_is_an_expression(rule):
    with pytest.raises(BadPlan, match=r"keep\(\) takes a polars expression or rules, not a") as caught:
        docs().keep(rule)
    assert "pl.col('words') > 50" in caught.value.fix


@pytest.mark.parametrize(
    "rule",
    [
        pl.col("letters").map_elements(bool, return_dtype=pl.Boolean),
        pl.col("letters").map_batches(lambda n: n > 1, return_dtype=pl.Boolean) & (pl.col("letters") < 9),
        pl.fold(pl.lit(0), lambda a, b: a + b, [pl.col("letters")]) > 1,
    ],
    ids=["map_elements", "map_batches", "fold"],
)
def test_no_rule_calls_python(rule):
    """It could not be checked, and a pickled function is no identity."""
    refused(BadPlan, docs().then(letters).keep(rule, because="few"), "'few' calls a Python function", "EACH stage")


@pytest.mark.parametrize(
    "what", [len, print, lambda table: table, "words", pl.col("text")], ids=["len", "print", "lambda", "text", "rule"]
)
def test_only_a_stage_can_follow(what):
    with pytest.raises(BadPlan, match=r"then\(\) takes a stage, not (a|an|the) ") as caught:
        docs().then(what)
    assert "@stage(" in caught.value.fix


def test_a_column_that_was_measured_before_the_rows_were_replaced():
    """It was written, and then lost: the error does not claim that nobody wrote it."""
    frame = docs().then(letters).then(words).keep(pl.col("letters") > 1, because="few")
    refused(MissingColumn, frame, "'letters', which was lost when toys.words replaced the rows at", "measure again")
    refused(MissingColumn, docs().then(words).keep(pl.col("letters") > 1, because="few"), "no earlier step writes")


@stage(reads={"nothing_writes_this": INT64}, writes={"x": INT64}, grain=Grain.EACH)
def hopeful(table: pa.Table) -> pa.Table:
    return table


@stage(reads={"text": INT64}, writes={"x": INT64}, grain=Grain.EACH)
def wrong_type(table: pa.Table) -> pa.Table:
    return table


@stage(reads={"text": TEXT}, writes={"text": TEXT}, grain=Grain.EACH)
def overwrites(table: pa.Table) -> pa.Table:
    return table


@stage(reads={"text": TEXT}, writes={"x": INT64}, grain=Grain.EACH, extras=("gnome",))
def needs_gnomes(table: pa.Table) -> pa.Table:
    return table


def test_stages_are_held_to_what_they_read_and_write(monkeypatch):
    refused(MissingColumn, docs().then(hopeful), "nothing_writes_this", "known here")
    refused(MissingColumn, docs().then(wrong_type), "as int64, but it is large_string")
    refused(BadPlan, docs().then(overwrites), "only a MANY stage")
    monkeypatch.setattr("curate.plan.packages_of", lambda extra: ["gnomelib"])
    refused(MissingExtra, docs().then(needs_gnomes), "gnomelib", "pip install 'curate[gnome]'")


def scored():
    frame = docs()
    return frame.then(share, Count(), against=fit(longest, Count(), frame.sample(rows=1, label="one")))


def test_a_score_has_a_direction():
    chosen = scored().select(select.top("share", keep=Direction.LOW, column="low"), rows=1)
    refused(WrongDirection, chosen.frame, "keeps low values of 'share'", "inverse=True")
    inverse = scored().select(select.top("share", inverse=True, column="low"), rows=1)
    check(plan(write({"m": inverse})))


def test_ranking_by_what_is_no_score():
    chosen = docs().then(letters).select(select.top("letters", column="most"), rows=1)
    refused(CurateError, chosen.frame, "letters")


def test_settings_of_another_stage():
    @dataclass(frozen=True)
    class Other:
        x: int = 1

    with pytest.raises(UnknownSetting, match="takes Count, not Other"):
        docs().then(letters, Other())
    with pytest.raises(UnknownSetting, match="takes no settings"):
        docs().then(words, Other())


def test_labels_are_unique():
    frame = docs()
    one, two = frame.sample(rows=1, label="a"), frame.sample(rows=2, label="a")
    models = [fit(longest, Count(), s) for s in (one, two)]
    with pytest.raises(BadPlan, match="two samples are labelled 'a'"):
        check(plan(*models))


def test_a_sample_is_not_ordered_by_the_draw_it_is_taken_from():
    mix = docs().select(select.uniform(label="random"), rows=2)
    check(plan(fit(longest, Count(), mix.sample(bytes=9, label="arm random"))))
    with pytest.raises(BadPlan, match="labelled 'random', like a selection that its rows went through"):
        check(plan(fit(longest, Count(), mix.sample(bytes=9, label="random"))))


def test_mixes_have_safe_names():
    with pytest.raises(BadPlan, match="cannot be called"):
        write({"../up": Mix(docs().then(most_frequent_first), "copies")})


def test_where_is_the_pipelines_own_line():
    assert docs().then(letters).node.where.startswith("tests/test_plan.py:")


def test_the_identity_of_a_plan_is_known_before_anything_is_read(tmp_path):
    def identity(p):
        return plan_identity(Runner(p, Store(str(tmp_path)), Local, content))

    def recipe(least, files=FILES):
        frame = read(Lists(files)).then(letters).keep(pl.col("letters") >= least, because="few")
        return plan(write({"m": Mix(frame.then(most_frequent_first), "copies")}))

    assert identity(recipe(1)) == identity(recipe(1))
    assert len({identity(recipe(1)), identity(recipe(2)), identity(recipe(1, FILES | {"g": ("fig",)}))}) == 3
    assert list(tmp_path.iterdir()) == []


def test_edited_code_without_a_new_version_stops_the_plan(tmp_path, monkeypatch):
    def runner():
        p = plan(write({"m": Mix(docs().then(letters).then(most_frequent_first), "copies")}))
        return Runner(p, Store(str(tmp_path)), Local, content)

    check_versions(runner(), same_code=False)
    monkeypatch.setattr("curate.run.source_hash", lambda fn: "edited")
    with pytest.raises(StaleVersion, match="bump the version"):
        check_versions(runner(), same_code=False)
    check_versions(runner(), same_code=True)
    check_versions(runner(), same_code=False)


def test_a_source_hash_ignores_comments_and_follows_imports(tmp_path, monkeypatch):
    from curate.identity import _closure, _parsed

    def hash_of(text):
        (tmp_path / "m.py").write_text(text)
        _closure.cache_clear()
        _parsed.cache_clear()
        return _closure(str(tmp_path / "m.py"), "m")

    first = hash_of('def f(x):\n    """Doc."""\n    return x + 1\n')
    assert hash_of('# why\ndef f(x):\n    """Another."""\n    return x + 1   # note\n') == first
    assert hash_of("def f(x):\n    return x + 2\n") != first
    assert hash_of("from curate import select\ndef f(x):\n    return x + 1\n") != first


def test_conclude_takes_frames_too():
    from curate.artifact import Experiment

    node = conclude(Experiment(jobs=list, work=dict, conclude=dict, reads={}), None, {"a": docs()})
    assert node.inputs["a"].amount is None


def test_a_given_artifact_is_a_directory(tmp_path):
    file = tmp_path / "model.bin"
    file.write_bytes(b"")
    with pytest.raises(BadInput, match="is a file"):
        given(file)


def test_a_source_is_parsed_once_a_machine(tmp_path, monkeypatch):
    """What was remembered of a source is what parsing gives; a cache that is broken or missing changes nothing."""
    source = b'"""Story."""\nimport curate.store\nfrom curate.stage import stage as s\nx = 1  # why\n'
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    fresh = identity._read(source)
    assert fresh[1] == ["curate.stage", "curate.stage.stage", "curate.store"]
    [file] = (tmp_path / "sources").iterdir()
    with monkeypatch.context() as parsing:
        parsing.setattr(identity.ast, "parse", None)
        assert identity._read(source) == fresh
    file.write_text("[")
    assert identity._read(source) == fresh
    assert identity._read(source.replace(b"  # why", b"").replace(b"Story", b"Tale")) == fresh
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "nowhere"))
    assert identity._read(source) == fresh
