"""``curate trial`` and ``curate sweep`` as people meet them: folders in, a verdict out; choose, then confirm."""

import gzip
import json
import random
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import comparison
from curate.comparison import Comparison, called, named, pipeline
from curate.errors import BadPlan
from curate.trial import Trial

LAND = "river stone meadow harvest orchard granite valley heather sheep barley plough furrow hedge".split()
SEA = "harbour anchor tide lantern rope mast gull current keel storm beacon cargo compass sail".split()


def write(path, texts, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": [f"{path.stem}-{i}" for i in range(len(texts))], "text": texts, **columns}), path)


def documents(words, n, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choice(words) for _ in range(rng.randrange(20, 60))) for _ in range(n)]


@pytest.fixture
def corpus(tmp_path):
    """A pool of the land with a sixth of the sea, a target of the sea, and a mix that is a half of the sea."""
    land, sea = documents(LAND, 1500, 1), documents(SEA, 300, 2)
    texts, relevant = [*land, *sea], [0.0] * 1500 + [1.0] * 300
    write(tmp_path / "pool.parquet", texts, source=["land"] * 1500 + ["sea"] * 300, relevant=relevant)
    half = tmp_path / "mixes" / "half" / "data" / "train-0.parquet"
    write(half, [*land[:300], *sea], source=["land"] * 300 + ["sea"] * 300)
    write(tmp_path / "guard" / "farm.parquet", documents(LAND, 60, 3))
    splits = ["train", "validation", "test"]
    write(tmp_path / "target.parquet", documents(SEA, 180, 4), split=[splits[i % 3] for i in range(180)])
    (tmp_path / "tasks").mkdir()
    items = [{"query": f"The {a}", "choices": [a, LAND[0]], "gold": 0} for a in SEA]
    (tmp_path / "tasks" / "words.jsonl").write_text("\n".join(json.dumps(item) for item in items))


SMALL = ["--set", "trial.ngram_bytes=15000", "--set", "trial.resamples=500", "--set", "trial.curve=false"]
SMALL += ["--engine", "local"]  # as quick as it gets, without processes


def conclusions(folder):
    return {
        path.parent.name: json.loads(path.read_text())["trials"] for path in folder.glob(".curate/runs/*/manifest.json")
    }


def test_folders_in_a_verdict_out(curate, corpus, tmp_path):
    code, out, err = curate(
        "trial", "mixes/half", "--against", "pool.parquet", "--target", "target.parquet", "--split-column", "split",
        "--guard", "farm=guard", "--tasks", "tasks", *SMALL,
    )  # fmt: skip
    assert code == 0, err
    assert "half: closer, explained by" in out, out
    (trials,) = conclusions(tmp_path).values()
    (trial,) = trials.values()
    assert trial["settings"]["split"] == "test" and trial["settings"]["ngram_bytes"] == 15000
    verdict = trial["verdicts"]["half"]
    assert verdict["estimate"] > 20 and "source mix" in verdict["explained_by"]
    matched = trial["instruments"]["ngram"]["against"]["half"]["source_matched:half"]
    assert abs(matched["estimate"]) < 5  # the draw has the mix's sources, in every part of it
    assert trial["instruments"]["ngram"]["guards"]["farm"]["half"]["estimate"] < 0  # the land is read less
    assert set(trial["instruments"]["ngram"]["tasks"]) == {"words"}
    assert (next(tmp_path.glob(".curate/runs/*/report.html"))).read_text().count("half") > 3

    code, again, _ = curate(
        "trial", "mixes/half", "--against", "pool.parquet", "--target", "target.parquet", "--split-column", "split",
        "--guard", "farm=guard", "--tasks", "tasks", *SMALL,
    )  # fmt: skip
    assert code == 0 and "nothing to compute" in again


def test_mistakes_are_answered(curate, corpus):
    for arguments, message in (
        (["mixes/half", "pool.parquet", "b/pool.parquet"], "'pool' is the name of more than one mix"),
        (["random=pool.parquet"], "a mix cannot be called 'random'"),
        (["*.parquet"], "a mix cannot be called ''"),
        (["mixes/half", "--set", "controls=size"], "there is no control by size"),
        (["mixes/half", "--preset", "huge"], "a trial has no preset 'huge'"),
    ):
        code, _, err = curate("trial", *arguments, "--against", "pool.parquet", "--target", "target.parquet")
        assert code == 2 and message in err, err
    with pytest.raises(BadPlan, match="a trial without a mix"):
        pipeline(Comparison())


def test_mistakes_are_answered_before_anything_is_read(curate, corpus):
    for arguments, message, fix in (
        (["--set", 'trial.instruments=["oracle"]'], "instruments ('oracle',)", "some of: ngram, transformer"),
        (["--final-tokens", "0"], "final_tokens 0", "the tokens of the training that the mix is meant for"),
        (["--replay", "guard"], "replay without a base", "give --base"),
        (["--base", "guard"], "a trial from a base by ngram", 'trial.instruments=["transformer"]'),
        (["--base", "guard", "--preset", "anneal"], "share 0.34 without replay", "give --replay"),
        (["--text", "body=x"], "'body=x' names no input's column", "NAME one of: against, half, target"),
        (["--preset", "standard"], "the trial 'standard' needs 1 GPU(s)", "run it where there are devices"),
    ):
        code, _, err = curate("trial", "mixes/half", "--against", "pool.parquet", "--target", "target.parquet",
                              *arguments)  # fmt: skip
        assert code == 2 and message in err and fix in err, err


@pytest.mark.parametrize(("said", "engine"), [([], "dask"), (["--engine", "local"], "local")])
def test_models_train_side_by_side_unless_told_otherwise(curate, corpus, monkeypatch, said, engine):
    asked = []

    def engine_of(name, *_):
        asked.append(name)
        raise BadPlan("far enough", where="here", fix="nothing")

    monkeypatch.setattr("curate.trying.engine_of", engine_of)
    code, _, err = curate("trial", "mixes/half", "--against", "pool.parquet", "--target", "target.parquet", *said)
    assert (code, asked) == (2, [engine]) and "far enough" in err


def test_folders_as_people_have_them(curate, corpus, tmp_path):
    """No column of sources, other names for the text, gzipped JSON lines; a pool with files of its own."""
    land, sea = documents(LAND, 900, 11), documents(SEA, 300, 12)
    (tmp_path / "web").mkdir()
    pq.write_table(pa.table({"body": [*land, *sea]}), tmp_path / "web" / "a b.parquet")
    with gzip.open(tmp_path / "new.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": t}) + "\n" for t in [*sea, *documents(SEA, 100, 13)])
    arguments = ["--against", "web", "--target", "target.parquet", "--text", "against=body", *SMALL]
    code, out, err = curate("trial", "new.jsonl.gz", *arguments, "--set", "trial.ngram_bytes=8000")
    assert code == 0, err
    assert "source_matched:new is left out: the pool holds too few such documents" in out + err
    assert "new: closer to the target" in out
    ((trial,),) = (ts.values() for ts in conclusions(tmp_path).values())
    assert set(trial["instruments"]["ngram"]["against"]["new"]) == {"random", "length_matched:new"}


def test_a_folder_without_a_document_is_said(curate, corpus, tmp_path):
    write(tmp_path / "empty.parquet", pa.array([], pa.string()))
    arguments = ["--against", "pool.parquet", "--target", "target.parquet", *SMALL]
    code, _, err = curate("trial", "empty.parquet", *arguments)
    assert code == 2 and "sample arm empty: there is nothing to draw from" in err, err
    write(tmp_path / "one.parquet", documents(SEA, 1, 1))
    code, _, err = curate("trial", "mixes/half", *arguments, "--guard", "one.parquet")
    assert code == 2 and "guard 'one': 1 documents or items to score, all of one group" in err, err


def test_settings_of_a_file_hold_where_nothing_else_is_said(curate, corpus, tmp_path):
    (tmp_path / "mine.toml").write_text('guards = ["farm=guard"]\ntext = "text"\n[trial]\ninstruments = ["ngram"]\n')
    code, _, err = curate(
        "trial", "mixes/half", "--against", "pool.parquet", "--target", "target.parquet", "--config", "mine.toml",
        *SMALL, "--set", "trial.subsamples=2",
    )  # fmt: skip
    assert code == 0, err
    ((trial,),) = (ts.values() for ts in conclusions(tmp_path).values())
    assert set(trial["instruments"]["ngram"]["guards"]) == {"farm"}


def test_a_trial_from_a_base(curate, corpus, tmp_path):
    """From a checkpoint with its own tokenizer, a part replayed: what the plan asks for."""
    config = Comparison(
        mixes=("a",), against="p", targets=("x.parquet",), base="model", replay="old", tokenizer=None,
        trial=Trial.preset("cpu", instruments=("transformer",), share=0.5),
    )  # fmt: skip
    (node,) = pipeline(config).outputs
    assert {"base", "replay"} <= set(node.inputs) and "tokenizer" not in node.inputs
    with pytest.raises(BadPlan, match="a tokenizer beside a base"):
        pipeline(replace(config, tokenizer="t"))


def test_names():
    for path in ("mixes/a", "mixes/a/data/*.parquet", "a.jsonl.gz", "s3://b/a/x-*.parquet"):
        assert called(path) == "a"
    assert called("/data/") == "" and called("hf://datasets/me/a@main/data") == "a@main"
    assert named(["x=mixes/a", "mixes/b"], "mix") == {"x": "mixes/a", "b": "mixes/b"}


def test_several_targets_and_their_names():
    config = Comparison(
        mixes=("a",), against="p", targets=("x.parquet", "y.parquet"), transfers=("t=z.parquet",), guards=("g/",),
    )  # fmt: skip
    assert list(comparison.scored(config)) == ["target:x/test", "target:y/test", "transfer:t", "guard:g"]
    one = Comparison(mixes=("a",), against="p", targets=("x.parquet",), split_column="split")
    assert list(comparison.scored(one)) == ["target:train", "target:validation", "target:test"]


PIPELINE = '''
"""Shares of a score, tried."""
from dataclasses import dataclass

import polars as pl

from curate import select, sources
from curate.columns import FLOAT64, TEXT
from curate.plan import Mix, conclude, plan, read, write
from curate.trial import Trial, experiment, sample_bytes


@dataclass(frozen=True, kw_only=True)
class Settings:
    share: float = 0.5
    trial: Trial = Trial(instruments=("ngram",), ngram_bytes=8000, curve=False, resamples=500)


def pipeline(config: Settings):
    pool = read(sources.parquet("pool.parquet", columns={"relevant": FLOAT64}))
    best = pool.keep(pl.col("relevant") >= 1 - config.share, because="not_relevant")
    size = sample_bytes(config.trial)
    arms = {f"arm:{name}": pool.sample(bytes=size, label=name) for name in ("random", "random'")}
    arms["arm:best"] = best.sample(bytes=size, label="best")
    target = read(sources.parquet("target.parquet", columns={"split": TEXT}))
    splits = {f"target:{s}": target.keep(pl.col("split") == s, because="other") for s in ("validation", "test")}
    mix = best.select(select.uniform(label="all"), bytes=1 << 40)
    return plan(write({"best": mix}), conclude(experiment, config.trial, {**arms, **splits}))
'''


def test_a_sweep_chooses_on_validation_and_confirms_on_test(curate, corpus, tmp_path):
    (tmp_path / "shares.py").write_text(PIPELINE)
    code, out, err = curate("sweep", "shares.py", "share=1,0.5")
    assert code == 0, err
    assert "share = 0.5 came closest on the validation split" in out
    found = [(t["settings"]["split"], name) for name, ts in conclusions(tmp_path).items() for t in ts.values()]
    assert sorted(split for split, _ in found) == ["test", "validation", "validation"]
    (confirmed,) = [name for split, name in found if split == "test"]
    assert 'share = 0.5' in (tmp_path / ".curate" / "runs" / confirmed / "config.toml").read_text()
    # only what is confirmed is written
    assert [path.parts[-3] for path in tmp_path.glob(".curate/runs/*/mixes/best")] == [confirmed]

    code, out, err = curate("sweep", confirmed, "share=1,0.5")  # of a run, with its settings: all of it is there
    assert code == 0, err
    assert "computed, 0 reused" not in out and out.count("nothing to compute") == 1


def test_sweeps_that_make_no_sense(curate, corpus, tmp_path):
    (tmp_path / "shares.py").write_text(PIPELINE)
    for choice, message in (("share=1", "no values to choose from"), ("other=1,2", "no setting")):
        code, _, err = curate("sweep", "shares.py", choice)
        assert code == 2 and message in err, err
    code, _, err = curate("sweep", "gone", "share=1,2")
    assert code == 2 and "there is no complete run 'gone'" in err


def test_a_sweep_never_chooses_on_what_it_confirms_on(curate, corpus, tmp_path):
    """Folders without splits: their validation documents would be the test documents."""
    arguments = ["--against", "pool.parquet", "--target", "target.parquet", *SMALL, "--set", "trial.subsamples=2"]
    assert curate("trial", "mixes/half", *arguments)[0] == 0
    [run] = conclusions(tmp_path)
    code, _, err = curate("sweep", run, "trial.delta=2,3")
    assert code == 2 and "there is no split 'validation'" in err and "--split-column" in err, err


def test_a_test_set_that_is_used_again_asks_for_more(curate, corpus, tmp_path):
    def judge(*more):
        code, out, err = curate(
            "trial", *more, "--against", "pool.parquet", "--target", "target.parquet", "--split-column", "split",
            *SMALL,
        )  # fmt: skip
        assert code == 0, err
        return out

    assert "were used" not in judge("mixes/half")
    assert "were used" not in judge("mixes/half")  # the same trial again is no second look
    assert "half: these test documents were used once before; at the level that is left (97.5 %)" in judge(
        "mixes/half", "--set", "trial.delta=4"
    )
    ledger = [json.loads(path.read_text()) for path in (tmp_path / ".curate" / "ledger").iterdir()]
    assert [entry["mix"] for entry in ledger] == ["half", "half"]
    # choosing on the validation split is no use of the test documents
    assert "were used" not in judge("mixes/half", "--set", "trial.split=validation")
    assert len(list((tmp_path / ".curate" / "ledger").iterdir())) == 2


def test_the_ledger_is_read_and_told_what_became_of_a_verdict(curate, corpus, tmp_path):
    arguments = ["--against", "pool.parquet", "--target", "target.parquet", "--split-column", "split"]
    assert "0 verdicts were checked" in curate("ledger")[1]
    assert curate("trial", "mixes/half", *arguments, *SMALL)[0] == 0
    code, out, err = curate("ledger")
    assert code == 0, err
    assert "half" in out and "1 with a direction, of which 1 stand" in out
    [entry] = [json.loads(path.read_text()) for path in (tmp_path / ".curate" / "ledger").iterdir()]
    assert entry["id"] in out
    code, _, err = curate("ledger", "--confirm", entry["id"])
    assert code == 2 and "add --held or --refuted, and --scale" in err
    code, _, err = curate("ledger", "--confirm", "gone", "--held", "--scale", "1B")
    assert code == 2 and "no verdict 'gone' is on record" in err
    for said in ("put on record", "it was on record already"):
        code, out, _ = curate("ledger", "--confirm", entry["id"], "--held", "--scale", "1B")
        assert code == 0 and said in out and "1 verdicts were checked" in out


def test_a_mix_leaves_as_shards_of_another_trainer(curate, corpus, tmp_path):
    code, out, err = curate("export", "mixes/half", "--to", "olmo", "--tokenizer", "bytes", "--out", "shards")
    assert code == 0, err
    assert "olmo: 600 documents" in out
    text = pq.read_table(tmp_path / "mixes" / "half")["text"].to_pylist()
    ids = [n for path in sorted(tmp_path.glob("shards/**/*.npy")) for n in memoryview(path.read_bytes()).cast("H")]
    assert len(ids) == sum(len(t) + 1 for t in text)  # a separator a document
    code, _, err = curate("export", "mixes/half", "--to", "gpt", "--tokenizer", "bytes", "--out", "more")
    assert code == 2 and "there are no shards of kind 'gpt'" in err


def test_a_mix_of_chats_is_judged_by_what_its_assistant_says(curate, corpus, tmp_path):
    """The sea is asked about in words of the land, which are masked; the files of the mix alone have spans."""
    asked, said = documents(LAND, 300, 7), documents(SEA, 300, 8)
    spans = [[{"start": 0, "stop": len(a) + 1, "loss": False}] for a in asked]
    texts = [f"{a}\n{b}" for a, b in zip(asked, said, strict=True)]
    write(tmp_path / "sft.parquet", texts, source=["land"] * 300, spans=spans)
    arguments = ["trial", "sft.parquet", "--against", "pool.parquet", "--target", "target.parquet", *SMALL]
    arguments += ["--set", "trial.subsamples=2"]
    code, out, err = curate(*arguments, "--set", "spans=mixes")
    assert code == 0, err
    ((trial,),) = (ts.values() for ts in conclusions(tmp_path).values())
    assert 0.4 < trial["composition"]["arm:sft"]["masked"] < 0.6
    assert "masked" not in trial["composition"]["arm:random"]
    assert sorted(p.name for p in tmp_path.glob(".curate/runs/*/records/trial/*")) == ["primary"]
    code, _, err = curate(*arguments, "--set", "spans=pool")
    assert code == 2 and "no inputs are called pool" in err
