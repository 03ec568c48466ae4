"""Per-document costs on disk: what is read is what was written, and the statistics come out the same."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.train.panel import AA, compare
from curate.train.records import Scores, hashes, read, recompute, write

ARMS = ("random", "random'", "mix:odd/name@1")
TEXTS = {"math": ["a", "bé", "c c"], "news": ["d", "e", "f", "g"]}


def scores(rng: np.random.Generator) -> dict[str, Scores]:
    return {
        target: Scores(
            documents=hashes(texts), clusters=np.arange(len(texts)) // 2 if target == "news" else np.arange(len(texts)),
            nats=rng.normal(50, 1, len(texts)), size=np.array([10 * len(t.encode()) for t in texts]),
        )
        for target, texts in TEXTS.items()
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for seed in (2, 0, 1):
        for arm in ARMS:
            write(tmp_path / f"s{seed}", scores(rng), instrument="ngram", arm=arm, seed=seed, about={"bytes": 800_000})
    return tmp_path


def test_what_was_written_is_read(folder: Path):
    found = read(folder)["ngram"]
    rng = np.random.default_rng(0)
    want = {(arm, seed): scores(rng) for seed in (2, 0, 1) for arm in ARMS}
    assert found.seeds == (0, 1, 2)
    assert found.about == {"bytes": 800_000}
    assert found.documents["math"] == tuple(hashes(TEXTS["math"]))
    assert found.documents["math"][0] == "ca978112ca1bbdca"          # SHA-256 of "a", as in FIPS 180's examples
    for target in TEXTS:
        for arm in ARMS:
            got = found.targets[target].nats[arm]
            assert np.array_equal(got, [want[arm, seed][target].nats for seed in (0, 1, 2)])


def test_statistics_come_out_the_same(folder: Path):
    found = read(folder)["ngram"]
    [got] = recompute(folder, resamples=300).values()
    pair = {"mix:odd/name@1": {"random": 0.5, "random'": 0.5, "mix:odd/name@1": -1.0}}
    assert got.contrasts == compare(found.targets, pair, aa=AA, resamples=300)
    assert got.gate.level == 0.99
    nats, size = found.targets["math"].nats["random"], found.size["math"]
    assert got.bpb["math"]["random"] == pytest.approx((nats.sum(axis=1) / size.sum() / math.log(2)).tolist())
    other = recompute(folder, pairs={"draws": AA}, scores=["news"], resamples=50)["ngram"]
    assert [*other.contrasts["draws"].each] == ["math"]
    assert [*other.scores["draws"].each] == ["news"]
    assert list(other.bpb) == ["math"]


def test_a_run_told_twice_keeps_the_first_telling(tmp_path: Path):
    rng = np.random.default_rng(1)
    first = write(tmp_path, scores(rng), instrument="ngram", arm="random", seed=0)
    data = first.read_bytes()
    assert write(tmp_path, scores(rng), instrument="ngram", arm="random", seed=0) == first
    assert first.read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == [first.name]


def test_instruments_are_kept_apart(folder: Path):
    rng = np.random.default_rng(2)
    for seed in (0, 1):
        for arm in ("random", "random'", "other"):
            write(folder, scores(rng), instrument="transformer", arm=arm, seed=seed)
    got = recompute(folder, resamples=50)
    assert {name: [*x.contrasts] for name, x in got.items()} == {"ngram": ["mix:odd/name@1"], "transformer": ["other"]}


def test_what_cannot_be_compared_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    rng = np.random.default_rng(3)
    with pytest.raises(FileNotFoundError, match=r"no \*\.nats\.parquet"):
        read(tmp_path_factory.mktemp("empty"))
    write(folder, scores(rng), instrument="ngram", arm="random", seed=3)
    with pytest.raises(ValueError, match="lacks runs"):
        read(folder)
    changed = scores(rng)
    three = np.ones(3)
    changed["math"] = Scores(documents=hashes(["x", "y", "z"]), clusters=np.arange(3), nats=three, size=np.arange(3))
    write(folder / "other", changed, instrument="ngram", arm="late", seed=0)
    with pytest.raises(ValueError, match="other documents of 'math'"):
        read(folder)
    bad = scores(rng)
    bad["math"].nats[0] = math.nan
    with pytest.raises(ValueError, match="not a number"):
        write(folder, bad, instrument="ngram", arm="bad", seed=0)
    short = Scores(documents=["a"], clusters=np.arange(2), nats=np.ones(2), size=np.ones(2, int))
    with pytest.raises(ValueError, match="1 documents, 2 clusters"):
        write(folder, {"math": short}, instrument="ngram", arm="bad", seed=0)


def test_strange_files_are_refused(tmp_path: Path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.nats.parquet")
    with pytest.raises(ValueError, match="does not say which run"):
        read(tmp_path)
    path = write(tmp_path / "a", scores(np.random.default_rng(4)), instrument="ngram", arm="random", seed=0)
    (tmp_path / "x.nats.parquet").unlink()
    (tmp_path / "copy.nats.parquet").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="another file holds too"):
        read(tmp_path)
