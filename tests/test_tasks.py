"""Tasks in cloze form: reading, P1, S1 and S2 by hand, and what a model's answers cost."""

import json
import math

import numpy as np
import pytest

from curate.train import ngram, tasks

ITEMS = [
    {"id": "a", "query": "Two and two?", "choices": ["four", "fifteen"], "gold": 0, "group": "sums"},
    {"query": "The sky is\n", "choices": ["red", "blue", "on"], "gold": 1},
    {"id": "c", "query": "One and one?", "choices": ["two", "one"], "gold": 1, "group": "sums"},
]


def write(folder, name, items):
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(json.dumps(item) for item in items) + "\n\n")
    return path


@pytest.fixture
def task(tmp_path):
    return tasks.read(write(tmp_path, "sums", ITEMS))


def test_a_task_is_requests_in_order(task):
    assert task.name == "sums" and task.ids == ("a", "2", "c")
    assert task.answers == (" four", " fifteen", "red", "blue", "on", " two", " one")  # a line feed needs no space
    assert task.contexts[0] == task.contexts[1] == "Two and two?"
    assert task.item.tolist() == [0, 0, 1, 1, 1, 2, 2] and task.gold.tolist() == [0, 3, 6]
    assert task.cluster.tolist() == [0, 1, 0]
    assert task.bytes.tolist() == [5, 8, 3, 4, 2, 4, 4] and task.normalise == "characters"


def test_some_items_are_taken_all_over_the_file(task, tmp_path):
    two = task.spread(2)  # of three: at 0 and at 3 // 2
    assert two.ids == ("a", "2") and two.answers == task.answers[:5]
    assert two.cluster.tolist() == [0, 1] and two.gold.tolist() == [0, 3]
    assert task.spread(99) is task and task.spread(3) is task
    by_subject = [
        {"id": f"{s}{i}", "query": "q", "choices": ["x"] * i + ["right"], "gold": i, "group": s}
        for s in "abcd" for i in range(3)
    ]  # fmt: skip
    some = tasks.read(write(tmp_path, "sorted", by_subject)).spread(4)
    assert some.ids == ("a0", "b0", "c0", "d0") and some.cluster.tolist() == [0, 1, 2, 3]  # and not a, a, a, b
    five = tasks.read(write(tmp_path, "sorted", by_subject)).spread(5)
    assert five.ids == ("a0", "a2", "b1", "c1", "d0")
    assert five.item.tolist() == [0, 1, 1, 1, 2, 2, 3, 3, 4]
    assert [five.answers[i] for i in five.gold] == [" right"] * 5


def test_scores_by_hand(task):
    # nats a character: item a 2 and 1; item 2 1, 2 and 3; item c 1 and .5
    nats = np.array([10.0, 8.0, 3.0, 8.0, 6.0, 4.0, 2.0])
    scores = tasks.conclude(task, nats)
    assert scores.nats.tolist() == [10, 8, 2] and scores.bytes.tolist() == [5, 4, 4]
    assert scores.bpb == pytest.approx(20 / (math.log(2) * 13))
    assert scores.right.tolist() == [False, False, True] and scores.accuracy == pytest.approx(1 / 3)
    assert scores.margin.tolist() == [-1, -1, 0.5]
    e = math.exp
    assert scores.probability == pytest.approx(
        [e(-2) / (e(-2) + e(-1)), e(-2) / (e(-1) + e(-2) + e(-3)), e(-0.5) / (e(-1) + e(-0.5))]
    )


def test_a_tie_is_not_right(task):
    assert not tasks.conclude(task, task.characters.astype(float)).right.any()


def test_schemas_and_minimal_pairs_compare_sums(tmp_path):
    schema = {"context_options": ["The cup is big so it", "so the bag"], "continuation": "does not fit.", "gold": 0}
    task = tasks.read(write(tmp_path, "schema", [schema]))
    assert task.normalise == "none" and task.answers == (" does not fit.", " does not fit.")
    pairs = tasks.read(write(tmp_path, "pairs", [{"query": "", "choices": ["He is", "He are here"], "gold": 0}]))
    assert pairs.normalise == "none" and pairs.answers == ("He is", "He are here") and pairs.contexts == ("", "")
    assert tasks.conclude(pairs, np.array([5.0, 6.0])).right.tolist() == [True]  # a character it would be 1 to .55


def test_a_free_answer_has_bits_and_no_rivals(tmp_path):
    task = tasks.read(write(tmp_path, "free", [{"question": "Why?", "answer": "Because."}]))
    scores = tasks.conclude(task, np.array([9.0]))
    assert scores.bpb == pytest.approx(9 / (math.log(2) * 9)) and scores.probability.tolist() == [1.0]
    assert math.isnan(scores.margin[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 is no object"),
        ('{"text": "x"}', "line 2 has the names text; an item has"),
        ('{"query": "x", "choices": ["a"], "gold": 1}', r'"gold" is 1; give the number of the right choice, 0 to 0'),
        ('{"query": "x", "choices": ["a"], "gold": true}', '"gold" is True'),
        ('{"query": "x", "choices": ["a", ""], "gold": 0}', "an answer is empty"),
        ('{"query": 3, "choices": ["a"], "gold": 0}', '"query" is 3; give a text'),
        ('{"query": "x", "choices": [], "gold": 0}', '"choices" is \\[\\]; give a list of texts'),
    ],
)
def test_lines_that_are_no_items_are_refused_by_name(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(ITEMS[0]) + "\n" + line)
    with pytest.raises(ValueError, match=message):
        tasks.read(path)


def test_folders(tmp_path):
    with pytest.raises(ValueError, match="holds no task"):
        tasks.read_folder(tmp_path)
    write(tmp_path, "b", ITEMS)
    write(tmp_path, "a", ITEMS[:1])
    assert list(tasks.read_folder(tmp_path)) == ["a", "b"]
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no item"):
        tasks.read_folder(tmp_path)


def test_every_request_must_be_scored(task):
    with pytest.raises(ValueError, match="has 7 requests"):
        tasks.conclude(task, np.ones(6))
    with pytest.raises(ValueError, match="not finite"):
        tasks.conclude(task, np.full(7, np.nan))


def test_an_untrained_ngram_takes_eight_bits_a_byte(task):
    model = ngram.train(np.zeros(1, np.int64), np.empty(0, np.uint8))
    assert tasks.conclude(task, tasks.ngram_nats(model, task)).bpb == pytest.approx(8)


def test_an_ngram_reads_the_context(tmp_path):
    text = b"the sky is blue. the sky is blue. the rose is red. the rose is red."
    model = ngram.train(np.array([0, len(text)]), np.frombuffer(text, np.uint8))
    contexts = ["the sky is", "the rose is"]
    items = [{"query": q, "choices": ["blue.", "red."], "gold": i} for i, q in enumerate(contexts)]
    task = tasks.read(write(tmp_path, "colours", items))
    costs = tasks.ngram_nats(model, task)
    assert tasks.conclude(task, costs).accuracy == 1
    near = [{**item, "query": item["query"][-5:]} for item in items]  # five bytes are all that it looks back
    assert tasks.ngram_nats(model, tasks.read(write(tmp_path, "near", near))) == pytest.approx(costs, abs=1e-9)


# ---------------------------------------------------------------------------------------------- a transformer's answers


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("torch")
    from curate.train.model import Config, Decoder

    decoder = Decoder(Config(vocab=50, width=16, layers=1, heads=2, hidden=16, context=16), seed=1)
    import torch

    with torch.no_grad():
        for p in decoder.parameters():  # layers start as the identity, and would not see the context
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    return decoder


def naive(model, ids, first):
    """Nats of ids[first:], each token from all before it."""
    import torch

    with torch.no_grad():
        logits = model.logits(torch.tensor([ids[:-1]]))[0].double().log_softmax(-1)
    return -sum(float(logits[i - 1, ids[i]]) for i in range(first, len(ids)))


def test_answers_cost_what_they_cost_one_by_one(model):
    from curate.train.answers import answer_nats

    rng = np.random.default_rng(0)
    contexts = [rng.integers(1, 50, n).tolist() for n in (0, 3, 7, 9, 1)]
    answers = [rng.integers(1, 50, n).tolist() for n in (1, 4, 8, 2, 0)]
    found = answer_nats(model, contexts, answers, 0)
    expected = [naive(model, [0, *c, *a], 1 + len(c)) for c, a in zip(contexts, answers, strict=True)]
    assert found == pytest.approx(expected, rel=1e-5)
    assert found[-1] == 0
    assert answer_nats(model, contexts, answers, 0, batch=20) == pytest.approx(expected, rel=1e-5)


def test_the_head_of_a_long_context_is_lost(model):
    from curate.train.answers import answer_nats

    ids = np.random.default_rng(1).integers(1, 50, 40).tolist()
    found = answer_nats(model, [ids[:35]], [ids[35:]], 0)
    assert found == pytest.approx([naive(model, ids[-17:], 12)], rel=1e-5)  # 16 positions predict the last 5 of 17


def test_a_long_answer_is_scored_in_pieces_of_half_a_context(model):
    from curate.train.answers import answer_nats

    ids = np.random.default_rng(2).integers(1, 50, 20).tolist()
    whole = [0, *ids]  # the answer is all of it: 20 tokens in pieces of 8, 8 and 4
    expected = naive(model, whole[:9], 1) + naive(model, whole[:17], 9) + naive(model, whole[4:21], 13)
    assert answer_nats(model, [[]], [ids], 0) == pytest.approx([expected], rel=1e-5)
