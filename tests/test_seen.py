"""Copies of what an earlier run had: an index of signatures against comparing all documents with all."""

import hashlib
import re

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_run import carry_out, mix
from toys import Lists

from curate import minhash, select
from curate.columns import KEY, TEXT
from curate.errors import BadData, UnknownSetting
from curate.hashing import halves
from curate.minhash import Index, Seen, open_index, seen_before, signatures
from curate.near import index as near_index
from curate.plan import fit, plan, read, write
from curate.plan import given as artifact
from curate.testing import run_fitter

law = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
EVERY = {"bands": 64, "rows": 1, "ngram": 2}  # a pair of similarity 0.5 is missed with probability 2**-64


def docs(texts, prefix="old"):
    ids = [f"{prefix}{i}" for i in range(len(texts))]
    return pa.table({
        "key": pa.array([hashlib.md5(i.encode()).digest() for i in ids], KEY),
        "id": pa.array(ids, TEXT),
        "text": pa.array(texts, TEXT),
    })  # fmt: skip


def asked(texts, config, index):
    table = docs(texts, "new").select(["text"])
    signed = signatures(table, config)
    for name in signed.column_names:
        table = table.append_column(name, signed[name])
    reads = list(near_index.seen_reads(config))
    return seen_before(table.select(reads), config, open_index(config, index=index))


def shingles(text):
    words = re.findall(r"\w+", (text or "").lower())
    return {tuple(words[i : i + 2]) for i in range(max(1, len(words) - 1))} if words else set()


def jaccard(a, b):
    x, y = shingles(a), shingles(b)
    return len(x & y) / len(x | y) if x or y else 0.0


WORDS = "a b c d e f g h i j k".split()


@st.composite
def variants(draw):
    words = list(WORDS)
    for _ in range(draw(st.integers(0, 5))):
        words[draw(st.integers(0, 10))] = draw(st.sampled_from("xyz"))
    return draw(st.sampled_from([" ".join(words)] * 6 + ["", None, "one"]))


# ---- against comparing all with all -------------------------------------------------------------------------------


@law
@given(st.lists(variants(), max_size=8), st.lists(variants(), max_size=6), st.integers(0, 8))
def test_the_nearest_document_is_found(tmp_path_factory, old, new, cut):
    config = Seen(**EVERY, threshold=0.5)
    table, where = docs(old), tmp_path_factory.mktemp("index")
    run_fitter(minhash.index, [table.slice(0, cut), table.slice(cut)], Index(**EVERY), where)
    keys = dict(zip(table["id"].to_pylist(), halves(table["key"]).tolist(), strict=True))
    for text, row in zip(new, asked(new, config, where).to_pylist(), strict=True):
        near = {i: jaccard(text, t) for i, t in zip(table["id"].to_pylist(), old, strict=True)}
        best = [i for i in near if near[i] == max(near.values()) and near[i] >= 0.5]
        if not best:
            assert row == {"seen_copy_of": None, "seen_jaccard": None}
        else:
            first = min(best, key=lambda i: keys[i])
            assert row == {"seen_copy_of": first, "seen_jaccard": near[first]}


@law
@given(st.lists(variants(), min_size=1, max_size=9), st.lists(variants(), min_size=1, max_size=4), st.integers(0, 9))
def test_an_index_of_an_index_is_that_of_all(tmp_path_factory, old, new, cut):
    """Neither segments, nor parts, nor the way by older indexes change an answer."""
    config, made = Seen(**EVERY, threshold=0.3), Index(**EVERY)
    table = docs(old)
    whole, first, both = (tmp_path_factory.mktemp(n) for n in ("whole", "first", "both"))
    run_fitter(minhash.index, [table], made, whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_index, "SEGMENT", 2)
        run_fitter(minhash.index, [table.slice(0, cut)], made, first)
        told = run_fitter(minhash.index, [table.slice(max(0, cut - 2))], made, both, old=first)
    assert told["documents"] == sum(bool(shingles(t)) for t in old)
    assert asked(new, config, both).equals(asked(new, config, whole))


def test_an_index_does_not_depend_on_parts(tmp_path):
    table = docs([f"{i} some words of a text {i * i}" for i in range(20)])
    for name, parts in (("a", [table]), ("b", [table.slice(13), table.slice(0, 13)])):
        run_fitter(minhash.index, parts, Index(holds="minima"), tmp_path / name)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


# ---- what an index holds ------------------------------------------------------------------------------------------


def test_an_estimate_says_so(tmp_path):
    """100 words of which 90 are shared, single words as shingles: 90/110 = 0.818; 400 minima are within 0.06."""
    common = [f"w{i}" for i in range(90)]
    old, new = ([*common, *(f"{side}{i}" for i in range(10))] for side in "ab")
    shape = {"bands": 100, "rows": 4, "ngram": 1}
    run_fitter(minhash.index, [docs([" ".join(old)])], Index(**shape, holds="minima"), tmp_path)
    [row] = asked([" ".join(new)], Seen(**shape, by="minima", threshold=0.5), tmp_path).to_pylist()
    assert set(row) == {"seen_copy_of", "seen_jaccard_estimate"}
    assert row["seen_copy_of"] == "old0"
    assert row["seen_jaccard_estimate"] == pytest.approx(90 / 110, abs=0.06)


def test_bands_are_counted(tmp_path):
    text = "a text of some words that is long enough"
    run_fitter(minhash.index, [docs([text, "another one"])], Index(holds="bands"), tmp_path)
    got = asked([text, "something else", None], Seen(by="bands"), tmp_path)
    assert got.to_pylist() == [{"seen_copy_of": "old0", "seen_bands": 16}] + [
        {"seen_copy_of": None, "seen_bands": None}
    ] * 2
    assert "text" not in near_index.seen_reads(Seen(by="bands"))


def test_like_datatrove(tmp_path):
    shape = {"like": "datatrove", "words": "whitespace"}
    text = "A text of some words: it costs 1,000 euros"
    for by, name in (("shingles", "seen_jaccard"), ("minima", "seen_jaccard_estimate")):
        run_fitter(minhash.index, [docs([text])], Index(**shape, holds=by), tmp_path / by)
        [row] = asked(["a text of some words it costs 5 euros!"], Seen(**shape, by=by), tmp_path / by).to_pylist()
        assert row == {"seen_copy_of": "old0", name: 1.0}


def test_other_settings_are_refused(tmp_path):
    run_fitter(minhash.index, [docs(["a b c"])], Index(holds="bands"), tmp_path / "old")
    for config in (Seen(by="bands", bands=20), Seen(by="bands", like="datatrove"), Seen(by="bands", seed=1), Seen()):
        with pytest.raises(BadData, match="fix: "):
            open_index(config, index=tmp_path / "old")
    with pytest.raises(BadData, match="no index"):
        open_index(Seen(), index=tmp_path)
    for other in (Index(), Index(holds="bands", rows=4)):
        with pytest.raises(BadData, match="fix: "):
            run_fitter(minhash.index, [docs(["a b c"])], other, tmp_path / "new", old=tmp_path / "old")


@pytest.mark.parametrize("setting", [{"threshold": 0.0}, {"by": "text"}, {"bucket_cap": 0}])
def test_settings_that_make_no_sense(setting):
    with pytest.raises(UnknownSetting, match="fix: "):
        Seen(**setting)


# ---- in runs ------------------------------------------------------------------------------------------------------

OLD = ("the cat sat on the mat and looked at the rain for a long time", "another text of the older crawl, all alone")
NEW = ("The cat sat on the mat and looked at the rain for a long time!", "a text that nobody has ever seen before")


def test_two_crawls_in_two_stores(tmp_path):
    """The first run leaves an index; the second, in another store, drops what the first had, and adds its own."""
    docs = read(Lists({"old": OLD}))
    mixes = {"most": docs.select(select.uniform(label="r"), rows=9)}
    first = carry_out(tmp_path / "first", plan(write(mixes), fit(minhash.index, Index(), docs)))
    [path] = first.manifest["artifacts"].values()
    earlier = artifact(tmp_path / "first" / path)

    new = read(Lists({"new": NEW})).then(minhash.seen_before, Seen(), index=earlier)
    new = new.keep(pl.col("seen_copy_of").is_null(), because="seen_before")
    mixes = {"most": new.select(select.uniform(label="r"), rows=9)}
    second = carry_out(tmp_path / "second", plan(write(mixes), fit(minhash.index, Index(), new, old=earlier)))
    assert mix(tmp_path / "second", second)["text"].to_pylist() == [NEW[1]]
    [path] = second.manifest["artifacts"].values()
    told = asked([*OLD, *NEW], Seen(), tmp_path / "second" / path)["seen_copy_of"].to_pylist()
    assert told == ["old:0", "old:1", "old:0", "new:1"]
