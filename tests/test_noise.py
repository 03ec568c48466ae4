"""Noise on record: journals that do not lose or repeat a fact, and the degrees that scattered variances are worth."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curate.train import journal
from curate.train.noise import Registry, Setting, agreement, digamma, pool, trigamma, trigamma_inverse
from curate.train.statistics import Prior, contrast

NGRAM = Setting(metric="bpb", instrument="ngram", parameters=0, budget=1_000_000, unit="bytes", hardware="any")


# ------------------------------------------------------------------------------------------------------------- journal


def test_the_same_fact_is_one_entry(tmp_path: Path):
    path = tmp_path / "deep" / "facts.jsonl"
    assert journal.read(path) == []
    one = {"a": 1, "b": [1.5, "ü"], "date": "2026-01-01"}
    [name] = journal.add(path, [one])
    assert journal.add(path, [{"b": [1.5, "ü"], "a": 1, "date": "2027-01-01"}, {"a": 2}, {"a": 2}]) == [
        journal.identity({"a": 2})
    ]
    assert [e["id"] for e in journal.read(path)] == [name, journal.identity({"a": 2})]
    assert journal.read(path)[0] == {**one, "id": name}


def test_a_cut_off_line_was_never_written(tmp_path: Path):
    path = tmp_path / "facts.jsonl"
    journal.add(path, [{"a": 1}])
    whole = path.read_bytes()
    for cut in range(1, 20):
        path.write_bytes(whole + b'{"a": 2, "id": "0123456789abcdef"}'[:cut])
        assert [e["a"] for e in journal.read(path)] == [1]
    assert journal.add(path, [{"a": 3}])
    assert [e["a"] for e in journal.read(path)] == [1, 3]


def test_a_line_that_was_changed_is_refused(tmp_path: Path):
    path = tmp_path / "facts.jsonl"
    journal.add(path, [{"a": 1}, {"a": 2}])
    path.write_text(path.read_text().replace('"a": 2', '"a": 7'))
    with pytest.raises(ValueError, match=r"line 2 of .* does not say what it said"):
        journal.read(path)
    path.write_text("nonsense\n")
    with pytest.raises(ValueError, match=r"line 1 of .* no entry"):
        journal.read(path)
    with pytest.raises(ValueError, match="JSON"):
        journal.add(tmp_path / "other.jsonl", [{"a": math.nan}])


def test_many_who_write_at_once_lose_nothing(tmp_path: Path):
    path = tmp_path / "facts.jsonl"
    with ThreadPoolExecutor(8) as threads:
        new = list(threads.map(lambda i: journal.add(path, [{"a": i % 20, "text": "x" * 5_000}]), range(60)))
    assert sum(len(x) for x in new) == 20
    assert sorted(e["a"] for e in journal.read(path)) == list(range(20))


# --------------------------------------------------------------------------------------------------------------- noise


def test_an_empty_registry_knows_nothing():
    registry = Registry([])
    with pytest.raises(ValueError, match="no file"):
        registry.add(NGRAM, [1.0, 2.0], of={})
    assert registry.prior(NGRAM) is None
    assert registry.expected(NGRAM) is None


def test_a_registry_remembers_and_counts_once(tmp_path: Path):
    """Variances 2 and 8 of one degree each: SD sqrt 5, worth the two degrees that it has."""
    path = tmp_path / "noise.jsonl"
    registry = Registry.open(path, shipped=False)
    assert registry.add(NGRAM, [0.0, 2.0], of={"draws": "a", "target": "t"})
    assert not registry.add(NGRAM, [0.0, 2.0], of={"target": "t", "draws": "a"})
    assert registry.add(NGRAM, [-2.0, 2.0], of={"draws": "b", "target": "t"})
    again = Registry.open(path, shipped=False)
    for r in (registry, again):
        prior = r.prior(NGRAM)
        assert prior == (pytest.approx(math.sqrt(5)), 2)
        assert r.prior(NGRAM, but={"draws": "b", "target": "t"}) == (pytest.approx(math.sqrt(2)), 1)
    assert not again.add(NGRAM, [0.0, 2.0], of={"draws": "a", "target": "t"})
    assert "SD 2.24 %, worth 2 degrees, from 2 comparisons" in again.lines()[0]


def test_only_what_is_comparable_is_pooled(tmp_path: Path):
    registry = Registry.open(tmp_path / "noise.jsonl", shipped=False)
    registry.add(NGRAM, [0.0, 2.0], of={"draws": "a"})
    other = {"metric": "accuracy", "instrument": "transformer", "parameters": 7, "unit": "tokens", "hardware": "cuda"}
    for field, value in other.items():
        assert registry.prior(replace(NGRAM, **{field: value})) is None
        assert registry.expected(replace(NGRAM, **{field: value})) is None
    near = registry.prior(replace(NGRAM, budget=1_200_000))
    assert near is not None and near.sd == pytest.approx(math.sqrt(2) / math.sqrt(1.2))
    assert registry.prior(replace(NGRAM, budget=2_000_000)) is None
    far = registry.expected(replace(NGRAM, budget=4_000_000))
    assert far is not None and far.sd == pytest.approx(math.sqrt(2) / 2)   # a quarter of the variance


def test_what_is_no_comparison_is_refused(tmp_path: Path):
    registry = Registry.open(tmp_path / "noise.jsonl", shipped=False)
    for deltas in ([1.0], [1.0, math.inf]):
        with pytest.raises(ValueError, match="two numbers"):
            registry.add(NGRAM, deltas, of={})
    with pytest.raises(ValueError, match="budget of 0"):
        registry.add(replace(NGRAM, budget=0), [1.0, 2.0], of={})


def test_trigamma_and_digamma():
    """trigamma(1) = pi^2 / 6, (1/2) = pi^2 / 2; digamma(1) = -gamma, (1/2) = -gamma - 2 ln 2."""
    assert trigamma(1) == pytest.approx(math.pi**2 / 6, rel=1e-12)
    assert trigamma(0.5) == pytest.approx(math.pi**2 / 2, rel=1e-12)
    assert digamma(1) == pytest.approx(-0.5772156649015329, rel=1e-12)
    assert digamma(0.5) == pytest.approx(-0.5772156649015329 - 2 * math.log(2), rel=1e-12)
    assert trigamma_inverse(trigamma(3.7)) == pytest.approx(3.7)


def test_variances_that_scatter_are_worth_less():
    """Variances drawn from a scaled inverse chi-square of d0 degrees, each then estimated with 4: d0 comes back."""
    rng = np.random.default_rng(0)
    for d0 in (3, 8):
        true = d0 / rng.chisquare(d0, 4_000)
        seen = true * rng.chisquare(4, 4_000) / 4
        assert agreement(seen, np.full(4_000, 4.0)) == pytest.approx(d0, rel=0.25)
    alike = rng.chisquare(4, 4_000) / 4
    assert agreement(alike, np.full(4_000, 4.0)) > 50
    assert agreement(np.array([1.0, 9.0, 100.0]), np.full(3, 4.0)) == math.inf


def test_a_registry_of_unlike_corpora_lends_few_degrees(tmp_path: Path):
    rng = np.random.default_rng(1)
    registry = Registry.open(tmp_path / "noise.jsonl", shipped=False)
    for i in range(30):
        registry.add(NGRAM, rng.normal(size=5) * (0.3 if i % 2 else 3.0), of={"i": i})
    prior = registry.prior(NGRAM)
    assert prior is not None and prior.degrees < 4
    alike = Registry.open(tmp_path / "alike.jsonl", shipped=False)
    for i in range(30):
        alike.add(NGRAM, rng.normal(size=5), of={"i": i})
    found = alike.prior(NGRAM)
    assert found == (pytest.approx(1.0, abs=0.15), 10)
    assert alike.prior(NGRAM, degrees=5) == (found.sd, 5)
    assert pool([], 1) is None


def test_intervals_with_noise_on_record_cover():
    """Three seeds, noise pooled with a registry of 10 degrees: coverage is kept and the interval is half as wide."""
    rng = np.random.default_rng(2)
    hits, widths = 0, []
    for _ in range(1_500):
        past = [rng.normal(size=3) * math.sqrt(2) for _ in range(5)]
        sd = math.sqrt(np.mean([x.var(ddof=1) for x in past]))
        base, mix = rng.normal(size=(2, 3)), rng.normal(size=3)
        c = contrast(
            base.mean(axis=0) - mix, spread=1.5, item_se=0.0, clusters=300, aa=base[0] - base[1], prior=Prior(sd, 10)
        )  # fmt: skip
        hits += c.low <= 0 <= c.high
        widths.append((c.high - c.low) / 2)
    assert 0.935 <= hits / 1_500 <= 0.97
    assert np.median(widths) < 0.65 * 2.48 * math.sqrt(1.5)


def test_the_shipped_registry_opens_and_is_as_measured():
    registry = Registry.open()
    for entry in registry.entries.values():
        assert 2 <= len(entry.deltas) and entry.variance > 0
    assert all(json.dumps(line) for line in registry.lines())


def test_what_comes_with_the_package():
    """docs/statistics.md says so: the trial's transformer, 18 comparisons of each target and of their mean."""
    shipped = Registry.open()
    neural = Setting(
        metric="bpb", instrument="transformer", parameters=237_568, budget=300_000, unit="tokens", hardware="cpu"
    )
    one, mean = shipped.prior(neural), shipped.prior(replace(neural, metric="bpb mean of 3"))
    assert one is not None and mean is not None
    assert (round(one.sd, 1), one.degrees) == (1.8, 10)
    assert (round(mean.sd, 1), mean.degrees) == (1.0, 10)
    entries = [x for x in shipped.entries.values() if x.setting == replace(neural, metric="bpb mean of 3")]
    assert len(entries) == len({x.of["round"] for x in entries}) == 18
