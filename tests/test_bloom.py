"""Bloom filters: nothing put in is ever missed, and the rate of false alarms is the one that was asked for."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.bloom import Bloom, Items, build, contains, insert, open_filter, seen, seen_lines, size
from curate.columns import KEY, TEXT
from curate.errors import BadData, UnknownSetting
from curate.hashing import mix64
from curate.testing import run_fitter


def docs(texts):
    keys = [i.to_bytes(16, "big") for i in range(len(texts))]
    return pa.table({"text": pa.array(texts, TEXT), "key": pa.array(keys, KEY)})


def built(out, texts, config, cut=0, **bases):
    out.mkdir()
    table = docs(texts)
    return run_fitter(build, [table.slice(0, cut), table.slice(cut)], config, out, **bases)


def test_bits_and_hashes_by_hand():
    """-ln(0.01) / (ln 2)**2 = 9.585 bits an item, of which ln 2 are 6.64 hashes."""
    assert size(1000, 0.01) == (9586, 7)


@pytest.mark.parametrize("bits", [8 * 2**20, 5_000_000, 999_983, 1 << 16])
def test_a_true_modulus_reaches_every_bit(bits):
    """A mask with the number of bytes, as in datatrove 0.10, reaches 2 of the 8,388,608 positions of 2**20 bytes."""
    filter = np.zeros(-(-bits // 8), dtype=np.uint8)
    insert(filter, bits, 1, mix64(np.arange(3 * bits, dtype=np.uint64)))
    share = np.unpackbits(filter, bitorder="little")[:bits].mean()
    assert share == pytest.approx(1 - math.exp(-3), abs=0.003)  # balls into bins
    assert not np.unpackbits(filter, bitorder="little")[bits:].any()


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
def test_the_measured_rate_is_the_one_asked_for(rate):
    bits, hashes = size(20_000, rate)
    filter = np.zeros(-(-bits // 8), dtype=np.uint8)
    items = mix64(np.arange(20_000, dtype=np.uint64))
    insert(filter, bits, hashes, items)
    assert contains(filter, bits, hashes, items).all()
    others = mix64(np.arange(10**6, 10**6 + 200_000, dtype=np.uint64))
    assert contains(filter, bits, hashes, others).mean() == pytest.approx(rate, rel=0.25)


def test_the_report_tells_both_rates(tmp_path):
    numbers = built(tmp_path / "f", [f"text {i}" for i in range(5000)], Bloom(false_positive_rate=0.01))
    assert numbers["items"] == 5000
    assert numbers["false_positive_rate"] == pytest.approx(0.01, rel=0.1)
    assert numbers["measured_false_positive_rate"] == pytest.approx(0.01, rel=0.15)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(alphabet="ab \n", max_size=6), max_size=12), st.integers(0, 12))
def test_what_was_put_in_is_found_wherever_parts_are_cut(tmp_path_factory, texts, cut):
    folder = tmp_path_factory.mktemp("bloom")
    config = Bloom(expected_items=100, false_positive_rate=1e-6)
    built(folder / "one", texts, config, cut)
    built(folder / "two", texts[::-1], config)
    for name in ("filter.bin", "filter.json"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()
    items = Items()
    found = seen(docs([*texts, "never put in"]), items, open_filter(items, folder / "one"))["seen"].to_pylist()
    assert found == [bool(t.strip()) for t in texts] + [False]


def test_lines(tmp_path):
    config = Bloom(of="line", expected_items=1000, false_positive_rate=1e-9, min_characters=3)
    built(tmp_path / "f", ["Home | News\nA story", "ok"], config)
    items = Items(of="line", min_characters=3)
    filter = open_filter(items, tmp_path / "f")
    table = docs(["home  | news\nOther\nok\nA STORY", "A story", "ok", ""])
    assert seen_lines(table, items, filter)["seen_lines"].to_pylist() == [[0, 13, 22, 29], [0, 7], [], []]
    assert seen(table, items, filter)["seen"].to_pylist() == [False, True, False, False]


def test_a_filter_goes_on(tmp_path):
    config = Bloom(expected_items=100, false_positive_rate=1e-6)
    built(tmp_path / "a", ["one"], config)
    built(tmp_path / "b", ["two"], config, base=tmp_path / "a")
    built(tmp_path / "both", ["two", "one"], config)
    assert (tmp_path / "b" / "filter.bin").read_bytes() == (tmp_path / "both" / "filter.bin").read_bytes()
    with pytest.raises(BadData, match="built with"):
        built(tmp_path / "c", ["x"], Bloom(expected_items=100, fold="none"), base=tmp_path / "a")


def test_a_filter_that_is_too_full_is_an_error(tmp_path):
    with pytest.raises(BadData, match="unseen items"):
        built(tmp_path / "f", [str(i) for i in range(1000)], Bloom(expected_items=100))


def test_other_settings_or_a_torn_file_are_an_error(tmp_path):
    built(tmp_path / "f", ["one"], Bloom(expected_items=100))
    with pytest.raises(BadData, match="built with"):
        open_filter(Items(of="line"), tmp_path / "f")
    header = json.loads((tmp_path / "f" / "filter.json").read_text())
    (tmp_path / "f" / "filter.json").write_text(json.dumps(header | {"bits": 10**6}))
    with pytest.raises(BadData, match="bytes"):
        open_filter(Items(), tmp_path / "f")


@pytest.mark.parametrize("wrong", [{"of": "word"}, {"fold": "x"}, {"false_positive_rate": 0.0}, {"expected_items": -1}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(UnknownSetting, match=next(iter(wrong))):
        Bloom(**wrong)
