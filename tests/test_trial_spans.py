"""Spans in a trial: what is masked is read, and neither learned nor scored; and what a trial keeps of its runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_trial import CONFIG, SMALL, carry_out, documents, inputs, pool, tokenizer, write
from test_trial_panel import questions, write_tasks

from curate import chats, trial
from curate.engines.local import Local
from curate.errors import BadData, BadInput
from curate.plan import conclude, plan, read
from curate.run import run
from curate.sources import parquet
from curate.store import Store
from curate.train import records
from curate.train.spans import TYPE
from curate.trials import cutting, encoding, keeping, masks, metrics, transformers

__all__ = ["tokenizer"]  # a fixture

QUICK = replace(CONFIG, curve=False)


def chat(asked: list[dict[str, Any]], said: list[dict[str, Any]], masked: str = "user") -> list[dict[str, Any]]:
    """Documents of two turns, one of which is masked."""
    out = []
    for one, two in zip(asked, said, strict=True):
        first, text = len(one["text"].encode()) + 1, f"{one['text']}\n{two['text']}"
        out.append({
            "id": f"{one['id']} {two['id']}", "source": one["source"], "text": text, "spans": [
                {"start": 0, "stop": first, "loss": masked != "user"},
                {"start": first, "stop": len(text.encode()), "loss": masked == "user"},
            ],
        })  # fmt: skip
    return out


def write_spans(path: Path, rows: list[dict[str, Any]], kind: pa.DataType | None = TYPE) -> Path:
    """Rows with their spans; the column has another type, or is not there, where ``kind`` says so."""
    write(path, rows)
    if kind is not None:
        table = pq.read_table(path)
        column = pa.array([r.get("spans") for r in rows], kind)
        pq.write_table(table.append_column("spans", column), path, row_group_size=100)
    return path


def given_spans(folder: Path, test: list[dict[str, Any]], **arms: list[dict[str, Any]]) -> dict[str, Path]:
    out = inputs(folder, **arms)
    for i, (name, rows) in enumerate(arms.items()):
        if any("spans" in row for row in rows):
            out[f"arm:{name}"] = write_spans(folder / f"spans-{i}.parquet", rows)
    out["target:test"] = write_spans(folder / "spans-test.parquet", test)
    return out


TEST = chat(documents("other", 120, 98, (10, 20)), documents("target", 120, 99, (10, 20)))


# ------------------------------------------------------------------------------------------------------ what is scored


def test_a_chat_by_hand(tmp_path: Path):
    """Of a user turn that is masked nothing counts; an untrained model costs ln 256 a byte of the assistant's."""
    from curate.train import ngram

    rows = chat([{"id": "u", "source": "s", "text": "Qué?"}] * 60, [{"id": "a", "source": "s", "text": "Sí."}] * 60)
    silent = {"id": "x", "source": "s", "text": "Allô?", "spans": [{"start": 0, "stop": 6, "loss": False}]}
    plain = {"id": "p", "source": "s", "text": "Ja.", "spans": None}
    empty = {"id": "e", "source": "s", "text": "", "spans": None}
    path = write_spans(tmp_path / "t.parquet", [*rows[:2], silent, empty, plain, *rows[2:]])
    [scored] = metrics.scored_of(QUICK, {"target:test": path})
    assert scored.count == 61
    assert scored.left_out == 1                                       # nothing of it counts
    assert scored.sizes.tolist() == [4, 4, 3, *[4] * 58]              # "Sí." is four bytes
    [nats] = metrics.ngram_nats(ngram.train(np.zeros(1, np.int64), np.empty(0, np.uint8)), [scored])
    assert nats[-1] == pytest.approx(np.log(256) * scored.sizes)
    assert scored.counted is not None
    assert scored.counted[:10].tolist() == [False] * 6 + [True] * 4   # "Qué?\n" and "Sí."
    one = write_spans(tmp_path / "o.parquet", [*rows[:2], plain, *rows[2:]], None)
    [whole] = metrics.scored_of(QUICK, {"target:test": one})
    assert whole.content() != scored.content()                        # another mask is another test set
    assert whole.counted is None
    with pytest.raises(BadInput, match="1 documents to score"):
        metrics.scored_of(QUICK, {"target:test": write_spans(tmp_path / "f.parquet", [rows[0], *[silent] * 80])})


def test_the_transformer_scores_the_same_bytes(tmp_path: Path, tokenizer: Path):
    """Its nats are the sums over the assistant's tokens, each predicted from all that stands before it."""
    import torch

    from curate.train import model

    given = {**given_spans(tmp_path, TEST, mix=pool(300, 3)), "tokenizer": tokenizer}
    config = replace(SMALL, context=256)
    [scored] = metrics.scored_of(config, given)
    opened = encoding.open_tokenizer(given)
    separator = encoding.separator_of(opened)
    net = model.Decoder(model.Config(
        vocab=opened.get_vocab_size(), width=32, layers=1, heads=2, hidden=64, context=256
    ), seed=3)  # fmt: skip
    [nats] = transformers._score(net, opened, separator, config, given, [scored])
    tokens = encoding.encode_spans(given, scored.texts, scored.spans, "here", separator)
    assert tokens.scored.tolist() == scored.sizes.tolist()
    for i in (0, 7):
        said = TEST[i]["text"].partition("\n")
        asked, answer = encoding.encode(opened, ["".join(said[:2]), said[2]])
        ids = torch.tensor([[separator, *asked, *answer]])
        with torch.no_grad():
            logits = net.logits(ids[:, :-1])[0].double().log_softmax(-1)
        cost = -logits[torch.arange(len(logits)), ids[0, 1:]][len(asked) :].sum()
        assert nats[i] == pytest.approx(float(cost), rel=1e-5)
        assert scored.sizes[i] == len(said[2].encode())


# ---------------------------------------------------------------------------------------------------- what is learned


def test_an_assistant_of_the_target_is_closer_and_a_user_is_not(tmp_path: Path, tokenizer: Path):
    """Two mixes of the same words: what counts in one is masked in the other."""
    asked, said = documents("other", 450, 3, (15, 30)), documents("target", 450, 4, (15, 30))
    given = given_spans(
        tmp_path, TEST, mix=chat(asked, said), wrong=chat(asked, said, masked="assistant"),
    ) | {"tokenizer": tokenizer}  # fmt: skip
    found = carry_out(replace(SMALL, curve=False), given)
    for seen in found["instruments"].values():
        assert seen["against"]["mix"]["random"]["low"] > 0
        assert seen["against"]["wrong"]["random"]["estimate"] < seen["against"]["mix"]["random"]["estimate"] - 5
        counts = [x["predicted"] / x[seen["unit"]] for x in seen["trained"]["mix"]]
        assert all(0.3 < share < 0.7 for share in counts)
        assert all("predicted" not in x for x in seen["trained"]["random"])
    assert found["verdicts"]["mix"]["verdict"] == "closer to the target"
    assert 0.3 < found["composition"]["arm:mix"]["masked"] < 0.7
    assert "masked" not in found["composition"]["arm:random"]
    assert any("Budgets count what is read" in line and "% of mix" in line for line in found["caveats"])
    assert "% masked" in "\n".join(trial.lines(found))


def test_masked_windows_are_those_of_the_plain_feed(tmp_path: Path):
    """The same ids in the same order; weights are 0 exactly at what is masked."""
    from curate.train import feeding

    rng = np.random.default_rng(0)
    config = replace(SMALL, context=16, batch=4)
    ids = rng.integers(0, 300, 16 * 4 * 9 + 1).astype(np.uint16)
    marks = (rng.random(len(ids)) < 0.4).astype(np.uint8)
    ids[marks == 1] = 7
    ids[marks == 0] = np.where(ids[marks == 0] == 7, 8, ids[marks == 0])
    text = transformers._Text("mix", 1.0, ids, len(ids) - 1, np.zeros(1), np.zeros(0), 0, 0, marks)
    masked, plain = transformers._feed(text, config, 5), feeding.StreamFeed(ids, 16, 4, 5, 9)
    assert masked.steps == plain.steps == 9
    for step in range(9):
        one, two = masked.batch(step), plain.batch(step)
        assert np.array_equal(one.ids, two.ids)
        assert np.array_equal(one.weights, (two.ids[:, 1:] != 7).astype(np.float32))
    nothing = replace(config, batch=9 * 4)
    with pytest.raises(BadData, match="masked so much"):
        transformers._feed(replace(text, marks=np.ones(len(ids), np.uint8)), nothing, 5)


@pytest.mark.parametrize("epochs", [1.0, 3.0])
def test_a_stream_with_its_marks(tmp_path: Path, tokenizer: Path, epochs: float):
    """Every id is marked as its bytes are, however often the text is read; separators count."""
    rows = chat(documents("other", 40, 3, (4, 9)), documents("target", 40, 4, (4, 9)))
    given = {**given_spans(tmp_path, TEST, mix=rows), "tokenizer": tokenizer}
    opened = encoding.open_tokenizer(given)
    separator = encoding.separator_of(opened)
    loaded = {"arm": "mix", "start": 0, "stop": 40, "without": 0, "epochs": epochs}
    share = cutting.share_of(loaded, SMALL, given)
    ids, marks, texts = transformers._stream(share, 900, opened, separator, given)
    assert marks is not None
    assert len(ids) == len(marks) == 901
    wanted: list[tuple[int, int]] = []
    for row in rows:
        asked, _, said = row["text"].partition("\n")
        first, second = encoding.encode(opened, [asked + "\n", said])
        wanted += [(separator, 0), *((i, 1) for i in first), *((i, 0) for i in second)]
    unique = wanted[: int(np.ceil(900 / epochs)) + 1]
    again = [unique[i % len(unique)] for i in range(901)]
    assert list(zip(ids.tolist(), marks.tolist(), strict=True)) == again
    assert [row["text"] for row in rows[: len(texts) - 1]] == texts[:-1]
    assert rows[len(texts) - 1]["text"].startswith(texts[-1])
    assert sum(i == separator for i, _ in unique) == len(texts)


def test_masked_runs_in_lockstep(tmp_path: Path, tokenizer: Path):
    """Stacked, a run whose text is masked and one whose text is not end where each ends alone."""
    rows = chat(documents("other", 200, 3), documents("target", 200, 4))
    given = {**given_spans(tmp_path, TEST, mix=rows), "tokenizer": tokenizer}
    runs = [{"arm": arm, "start": 0, "stop": 150, "without": 0} for arm in ("mix", "random")]
    config = replace(SMALL, layers=1)
    texts = [transformers._text(cutting.share_of(r, config, given), 3_000, config, given) for r in runs]
    assert [text.marks is None for text in texts] == [False, True]
    together = transformers._together(texts, 0, config, given)
    for text, (_, losses) in zip(texts, together, strict=True):
        alone = transformers._train(text, 0, config, given)[1]
        assert losses == pytest.approx(alone, rel=1e-4)


def test_every_prefix_of_a_document_with_spans(tokenizer: Path):
    given = {"tokenizer": tokenizer}
    opened = encoding.open_tokenizer(given)
    [row] = chat([{"id": "u", "source": "s", "text": "kalo miter"}], [{"id": "a", "source": "s", "text": "é🙂 x"}])
    spans = pa.chunked_array([pa.array([row["spans"]], TYPE)])
    stream = encoding.encode_spans(given, pa.array([row["text"]], pa.large_string()), spans, "here")
    pieces = masks.pieces(row["text"], spans, "here")
    assert pieces == ["kalo miter\n", "é🙂 x"]
    seen = []
    for count in range(1, len(stream.ids) + 1):
        [read] = encoding.read_so_far(opened, [row["text"]], stream.first(count).lengths, pieces)
        assert row["text"].startswith(read)
        seen.append(read)
    assert seen[0] == ""
    assert seen[-1] == row["text"]
    assert seen == sorted(seen, key=len)


def test_spans_of_some_inputs_only(tmp_path: Path):
    """A chunk of random and one of random', of which one has spans, with fewer fields than it could."""
    config = replace(CONFIG, ngram_bytes=8_000)
    given = given_spans(tmp_path, TEST, mix=pool(300, 3))
    rows = chat(pool(600, 6), pool(600, 7))
    short = pa.list_(pa.struct({"start": pa.int64(), "stop": pa.int64(), "loss": pa.bool_()}))
    given["arm:random'"] = write_spans(tmp_path / "again.parquet", rows, short)
    job = next(j for j in trial.jobs(config, given) if j.get("scale") == 2.0)
    share = cutting.share_of(job, config, given)
    counted = share.counted()
    assert counted is not None
    assert len(counted) == sum(len(t.encode()) for t in share.texts())
    first = cutting.share_of({k: v for k, v in job.items() if k != "and"}, config, given)
    head = sum(len(t.encode()) for t in first.texts())
    assert counted[:head].all()
    assert not counted[head:].all()
    found = trial.work(job, config, given)
    assert found["trained"]["predicted"] < found["trained"]["bytes"]


def test_spans_that_do_not_fit_are_refused_before_training(tmp_path: Path):
    given = given_spans(tmp_path, TEST, mix=pool(300, 3))
    rows = [{**r, "spans": [{"start": 0, "stop": len(r["text"]) + (i == 170)}]} for i, r in enumerate(pool(300, 3))]
    wrong = {**given, "arm:mix": write_spans(tmp_path / "wrong.parquet", rows)}
    with pytest.raises(BadInput, match=r"input 'arm:mix', row 170: span 0 .* reaches beyond the text"):
        trial.jobs(QUICK, wrong)
    wrong = {**given, "target:test": write_spans(tmp_path / "test-wrong.parquet", rows)}
    with pytest.raises(BadInput, match=r"target target, row 170"):
        trial.jobs(QUICK, wrong)
    column = pa.array(["0-5"] * 300, pa.large_string())
    pq.write_table(pq.read_table(given["arm:mix"]).append_column("spans", column), tmp_path / "text.parquet")
    with pytest.raises(BadInput, match="spans are of type large_string"):
        trial.jobs(QUICK, {**given, "arm:mix": tmp_path / "text.parquet"})


# ----------------------------------------------------------------------------------------- from a pipeline, and kept


def test_chats_reach_the_trial_and_its_runs_are_kept(tmp_path: Path):
    """A stage writes spans; the samples carry them; the run's folder holds what makes every number again."""
    def turns(asked: list[dict[str, Any]], said: list[dict[str, Any]]) -> list[list[dict[str, str]]]:
        return [
            [{"role": "user", "content": a["text"]}, {"role": "assistant", "content": b["text"]}]
            for a, b in zip(asked, said, strict=True)
        ]

    def messages(name: str, every: list[list[dict[str, str]]]) -> Any:
        ids = [f"{name}-{i}" for i in range(len(every))]
        pq.write_table(
            pa.table({"id": ids, "messages": pa.array(every, chats.MESSAGES)}), tmp_path / f"{name}.parquet"
        )
        source = parquet(str(tmp_path / f"{name}.parquet"), text="id", columns={"messages": chats.MESSAGES})
        return read(source).then(chats.write)

    web = messages("web", turns(pool(1200, 1), pool(1200, 2)))
    sft = messages("sft", turns(documents("other", 300, 3), documents("target", 300, 4)))
    held = messages("held", turns(documents("other", 80, 5), documents("target", 80, 6)))
    news = messages("news", turns(documents("third", 60, 8), documents("other", 60, 9)))
    config = replace(CONFIG, ngram_bytes=12_000)
    write_tasks(tmp_path / "tasks", words=questions("target", 60, 95))
    arms = {f"arm:{name}": web.sample(bytes=150_000, label=name) for name in ("random", "random'")}
    from curate.plan import given

    made = plan(conclude(trial.experiment, config, {
        **arms, "arm:sft": sft.sample(bytes=150_000, label="sft"), "target:test": held, "guard:news": news,
        "tasks": given(str(tmp_path / "tasks")),
    }))  # fmt: skip
    outcome = run(made, name="chat", store=Store(str(tmp_path / "store")), open_engine=Local)
    [found] = outcome.manifest["trials"].values()
    assert found["verdicts"]["sft"]["verdict"] == "closer to the target"
    assert found["composition"]["arm:sft"]["masked"] > 0.4
    size = sum(len(t[1]["content"].encode()) + 1 for t in turns(documents("other", 80, 5), documents("target", 80, 6)))
    assert found["scored"][0]["bytes"] == size                        # what the assistant says, and what closes it

    folder = tmp_path / "store" / outcome.folder / "records" / "trial"
    seen = found["instruments"]["ngram"]
    again = records.recompute(folder / keeping.PRIMARY, resamples=config.resamples)["ngram"]
    for key in ("estimate", "low", "high", "se", "se_item", "sd"):
        told = seen["against"]["sft"]["random"][key]
        assert getattr(again.contrasts["sft"].all, key) == pytest.approx(told, rel=1e-12)
    assert again.contrasts["sft"].all.noise == seen["against"]["sft"]["random"]["noise"]
    assert again.gate.estimate == pytest.approx(seen["aa"]["estimate"], rel=1e-12)
    assert again.bpb["target:target"]["sft"] == pytest.approx(seen["bpb"]["sft"], rel=1e-12)
    curve = [np.mean(again.bpb["target:target"][f"random{at}"]) for at in (" at 0.25", " at 0.5", " at 2")]
    means = [x[1] for x in seen["curve_baseline"]]
    assert curve[2] == pytest.approx(means[3], rel=1e-12)
    assert curve == sorted(curve, reverse=True)
    beside = records.recompute(folder / keeping.BESIDE, resamples=config.resamples)["ngram"]
    guard = beside.contrasts["sft"].each["guard:news"]
    assert guard.estimate == pytest.approx(seen["guards"]["news"]["sft"]["estimate"], rel=1e-12)
    assert beside.bpb["task:words"]["sft"] == pytest.approx(seen["tasks"]["words"]["sft"]["bpb"], rel=1e-12)
    requests = records.read(folder / keeping.REQUESTS)["ngram"]
    assert requests.targets["task:words"].clusters.tolist() == np.repeat(np.arange(60), 2).tolist()
    from curate.train import tasks

    scores = tasks.conclude(
        tasks.read(tmp_path / "tasks" / "words.jsonl"), requests.targets["task:words"].nats["sft"][0]
    )
    assert scores.accuracy == seen["tasks"]["words"]["sft"]["accuracy"][0]
    assert requests.about["bytes"] == pytest.approx(12_000, abs=3)

    other = run(made, name="other", store=Store(str(tmp_path / "store")), open_engine=Local)    # all of it is there
    files = [
        sorted(p.relative_to(home) for p in home.rglob("*.parquet"))
        for home in (tmp_path / "store" / o.folder / "records" for o in (outcome, other))
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 3 * 5 * (3 + 5)                           # groups, seeds, arms and the curve's runs
