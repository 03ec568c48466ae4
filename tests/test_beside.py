"""What stands beside a verdict on the page: each number once, where it belongs, and nothing that was not concluded."""

import pytest
from finished import Reader

from curate.telling import beside, verdict

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
    targets, rest = text.split("Transfers")
    transfers, guards = rest.split("Guards")
    assert "mix on math +5.00 % (+4.00 to +6.00)" in targets and "mix on code" in targets
    assert "mix on exam +1.00 %" in transfers and "mix on law -1.00 %" in guards
    assert "mix on news a cost -9.00 %" in guards and text.count("a cost") == 2  # and once in the explanation
    alone = beside.targets({"per_target": {"math": {"mix": contrast(5.0)}}}, ARMS, 3.0)
    assert alone is None  # the one target is the verdict itself


def test_what_stands_beside_is_called_what_it_is():
    """Tasks that do not decide are no transfers, and many comparisons are folded away."""
    beside_it = {"exam": {"mix": contrast(1.0, kind="task")}, "other": {"mix": contrast(2.0, kind="transfer")}}
    text = words(beside.targets({"transfer": beside_it}, ARMS, 3.0))
    tasks, transfers = text.split("Transfers")
    assert "Tasks" in tasks and "mix on exam" in tasks and "mix on other" in transfers
    many = {f"task{i}": {"mix": contrast(1.0, kind="task")} for i in range(30)}
    assert "30 comparisons" in words(beside.targets({"transfer": many}, ARMS, 3.0))


def test_one_wide_interval_does_not_make_dots_of_all_others():
    rows = {f"t{i}": {"mix": contrast(2.0, kind="transfer")} for i in range(4)}
    rows["wide"] = {"mix": {"estimate": 0.0, "low": -90.0, "high": 90.0, "deltas": [-80.0, 80.0], "kind": "transfer"}}
    page = Reader(beside.targets({"transfer": rows}, ARMS, 3.0))
    assert [value for name, value in page.attributes if name == "class" and "beyond" in value] == 2 * [
        "curve beyond c1"
    ]
    ends = [float(value) for name, value in page.attributes if name == "x2"]
    assert max(ends) == 100 and min(ends) == 0
    zero, *whiskers = [float(v) for name, v in page.attributes if name == "x1"][:6]
    assert 45 < zero < 55 and "0.00 % (-90.00 to +90.00)" in words(beside.targets({"transfer": rows}, ARMS, 3.0))
    # 1 to 3 percent of a scale that ends at 12 (four times the median reach of 3), and not of one that ends at 90
    spans = [b - a for (a, b) in zip([float(v) for n, v in page.attributes if n == "x1"], ends, strict=True) if b > a]
    assert min(span for span in spans if span > 0) == pytest.approx(100 * 2 / (2 * 12 * 1.06), rel=0.1)


def test_the_gain_is_read_off_the_curve():
    seen = {
        "curve_baseline": [[0.25, 4.0, 0.1], [0.5, 3.5, 0.1], [1.0, 3.0, 0.1], [2.0, 2.5, 0.1]],
        "multiplier": {"mix": {"estimate": 1.5, "text": "1.50 (1.2 to > 2)"}},
        "bpb": {"mix": [2.7, 2.8], "random": [3.0, 3.0]},
    }
    markup = beside.gain(seen, ARMS)
    assert "mix : worth 1.50 (1.2 to > 2) times its data" in words(markup)
    assert [x for x in ("0.25×", "0.5×", "1×", "2×") if x not in words(markup)] == []
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
    free = {"items": 7, "bpb": [3.0, 3.0], "probability": None, "accuracy": None}
    found = {"exam": {"mix": one, "random": one}, "open": {"mix": free}}
    text = words(beside.tasks({"tasks": found}, ["random", "mix"]))
    bits, probability, accuracy = text.split("arm exam (40) open (7)")[1:]
    assert bits.split("Its")[0].split() == ["random", "1.500", "–", "mix", "1.500", "3.000", "probability", "and",
                                            "accuracy"]  # fmt: skip
    assert "mix 0.500 –" in probability and "mix 50.0 % –" in accuracy  # nothing was chosen, so nothing was right
    epochs = {"mix": {"whole_bytes": 2_000_000, "epochs": 4.0, "at_final": 4.2, "of_random": 0.25}}
    assert "mix 2.0 MB 25.0 % 4.00 4.20 1.00" in words(beside.repetition({"epochs": epochs}))
    assert beside.repetition({"epochs": {"mix": {"whole_bytes": 1, "epochs": 1.0, "at_final": None}}}) is None
    assert "three mixes agree" in words(beside.methods({"methods": {"m": {"sentence": "three mixes agree"}}}))
    assert beside.tasks({}, []) is None and beside.methods({}) is None


def trial_of(**verdicts):
    """A trial with the verdicts of mixes, as a page reads it."""
    given = {
        mix: {"verdict": word, "because": [], "explained_by": [], "estimate": float(i), "interval": [0.0, 1.0],
              "level": 0.99, "metric": "text", "multiplier": None}
        for i, (mix, word) in enumerate(verdicts.items())
    }  # fmt: skip
    bpb = {arm: [1.0, 1.0] for arm in sorted(["random", "random'", *given, *(f"length_matched:{m}" for m in given)])}
    return {"verdicts": given, "settings": {"delta": 3.0}, "instruments": {"ngram": {"bpb": bpb, "against": {}}}}


def test_several_mixes_are_one_sentence():
    found = trial_of(a="closer to the target", b="inconclusive, 6 seeds needed", c="inconclusive, 9 seeds needed",
                     d="closer, explained by length", e="farther from the target")  # fmt: skip
    assert verdict.headline({"trial": found}) == (
        "Of 5 mixes 1 is closer to the target (a); 1 is closer for a reason other than the choice (d); "
        "1 is farther from the target (e); 2 are inconclusive (b, c)"
    )
    rows = words(verdict.summary(found))
    assert rows.index(" e ") < rows.index(" a ") and "5 mixes share the 5 %" in rows  # the most saved first
    boxes = [words(box) for box in verdict.boxes(found)]
    assert len(boxes) == 4 and any(box.startswith("b, c: inconclusive Small models") for box in boxes)
    assert verdict.summary(trial_of(a="closer to the target")) is None


def test_colours_are_of_one_arm_each():
    few = verdict.colours(trial_of(a="closer", b="worse"))
    assert list(few) == ["random", "random'", "a", "b", "length_matched:a", "length_matched:b"]
    assert len(set(few.values())) == 5 and few["random"] == few["random'"] == "base"
    many = verdict.colours(trial_of(**{f"m{i}": "closer" for i in range(8)}))
    assert len({many[f"m{i}"] for i in range(8)}) == 8 and {many[f"length_matched:m{i}"] for i in range(8)} == {"c2"}


def test_words_of_a_verdict_fit_what_was_done():
    alone = trial_of(a="closer to the target")
    assert "no control was there" in verdict.meaning(alone["verdicts"]["a"], alone, "a")
    alone["instruments"]["ngram"]["against"] = {"a": {"random": {}, "length_matched": {}}}
    assert "it beats its controls" in verdict.meaning(alone["verdicts"]["a"], alone, "a")
    answers = {**alone["verdicts"]["a"], "metric": "tasks"}
    assert "compared on the right answers of the tasks" in verdict.meaning(answers, alone, "a")


def test_what_is_masked_stands_with_the_composition():
    of = {"documents": 3, "bytes": 100, "length": {"p50": 5.0}, "compression": 2.0, "copies": 0.0}
    of["sources"] = {"s": 1.0}
    text = words(verdict.composition({"composition": {"arm:random": of, "arm:chats": {**of, "masked": 0.4}}}))
    assert "exact copies masked largest sources" in text and "chats 3 100 B 5 2.00 0.0 % 40.0 % s 100.0 %" in text
    assert "random 3 100 B 5 2.00 0.0 % 0.0 % s" in text and "neither learned nor scored" in text
    assert "masked" not in words(verdict.composition({"composition": {"arm:random": of}}))
