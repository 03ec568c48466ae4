"""What stands beside a verdict on the page: each number once, where it belongs, and nothing that was not concluded."""

import pytest
from finished import Reader

from curate.telling import beside

ARMS = {"random": "base", "mix": "c1"}


def contrast(estimate, **more):
    return {"estimate": estimate, "low": estimate - 1, "high": estimate + 1, "deltas": [estimate, estimate], **more}


def words(markup):
    return " ".join(" ".join(Reader(markup).said).split())


def test_targets_transfers_and_guards_in_one_plot():
    seen = {
        "per_target": {"math": {"mix": contrast(5.0)}, "code": {"mix": contrast(2.0)}},
        "transfer": {"exam": {"mix": contrast(1.0)}},
        "guards": {"news": {"mix": contrast(-9.0, cost=True)}, "law": {"mix": contrast(-1.0, cost=False)}},
    }
    text = words(beside.targets(seen, ARMS, 3.0))
    assert "mix on target math +5.00 % (+4.00 to +6.00)" in text
    assert "mix on transfer exam +1.00 %" in text and "mix on guard law -1.00 %" in text
    assert "mix on guard news a cost -9.00 %" in text and text.count("a cost") == 2  # and once in the explanation
    alone = beside.targets({"per_target": {"math": {"mix": contrast(5.0)}}}, ARMS, 3.0)
    assert alone is None  # the one target is the verdict itself


def test_the_gain_is_read_off_the_curve():
    seen = {
        "curve_baseline": [[0.25, 4.0, 0.1], [0.5, 3.5, 0.1], [1.0, 3.0, 0.1], [2.0, 2.5, 0.1]],
        "multiplier": {"mix": {"estimate": 1.5, "text": "1.50 (1.2 to > 2)"}},
        "bpb": {"mix": [2.7, 2.8], "random": [3.0, 3.0]},
    }
    markup = beside.gain(seen, ARMS)
    assert "mix : worth 1.50 (1.2 to > 2) times its data" in words(markup)
    curve, line = (value for name, value in Reader(markup).attributes if name == "points")
    assert len(curve.split()) == 4
    # from the left at the mix's height, to log2(1.5) = .585 of -2..1, which is 86 % of the way, and down
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line.split())
    assert (x0, y0) == (pytest.approx(0, abs=4), y1) and x1 == x2 and y2 > y1
    assert (x1 - x0) / (float(curve.split()[-1].split(",")[0]) - x0) == pytest.approx((2 + 0.585) / 3, abs=0.01)


def test_a_gain_that_cannot_be_told_is_not_told():
    seen = {
        "curve_baseline": [[0.5, 3.0, 0.1], [1.0, 3.0, 0.1]],
        "multiplier": {"mix": {"estimate": None, "text": "the baseline's curve does not fall"}},
        "bpb": {"mix": [2.7], "random": [3.0]},
    }
    text = words(beside.gain(seen, ARMS))
    assert "mix : the baseline's curve does not fall" in text and "times" not in text.split("The curve is")[0]
    assert beside.gain({"curve_baseline": [], "multiplier": {}}, ARMS) is None


def test_tasks_repetition_and_methods():
    one = {"items": 40, "bpb": [1.0, 2.0], "probability": [0.5, 0.5], "accuracy": [0.25, 0.75]}
    assert "mix 1.500 0.500 50.0 %" in words(beside.tasks({"tasks": {"exam": {"mix": one}}}))
    epochs = {"mix": {"whole_bytes": 2_000_000, "epochs": 4.0, "at_final": 4.2}}
    assert "mix 2.0 MB 4.00 4.20" in words(beside.repetition({"epochs": epochs}))
    assert beside.repetition({"epochs": {"mix": {"whole_bytes": 1, "epochs": 1.0, "at_final": None}}}) is None
    assert "three mixes agree" in words(beside.methods({"methods": {"m": {"sentence": "three mixes agree"}}}))
    assert beside.tasks({}) is None and beside.methods({}) is None
