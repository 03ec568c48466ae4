"""What a trial tells beside its verdict: targets, tasks, guards, inverses, methods, repeated text, a base."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_trial import CONFIG, WORDS, carry_out, documents, inputs, pool, tokenizer, write

from curate import trial
from curate.errors import BadData, BadInput, BadPlan, UnknownSetting
from curate.trial import Trial
from curate.trials import cutting, measuring, metrics

__all__ = ["tokenizer"]  # a fixture

QUICK = replace(CONFIG, curve=False)


def questions(domain: str, n: int, seed: int) -> list[dict[str, Any]]:
    """Items whose right answer is in the words of a domain, and whose wrong one is letters of none."""
    out = []
    for i, d in enumerate(documents(domain, n, seed, (8, 12))):
        words = d["text"].split()
        wrong = " ".join("qwjx"[(i + j) % 4] * 5 for j in range(len(words[5:])))
        out.append({"query": " ".join(words[:5]), "choices": [wrong, " ".join(words[5:])], "gold": 1})
    return out


def write_tasks(folder: Path, **tasks: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    for name, items in tasks.items():
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    return folder


def with_more(tmp_path: Path, given: dict[str, Path], **rows: list[dict[str, Any]]) -> dict[str, Path]:
    """Inputs with further files; ``guard_news`` becomes ``guard:news``."""
    more = {
        name.replace("_", ":", 1).replace("__", "/"): write(tmp_path / f"{name}.parquet", r) for name, r in rows.items()
    }
    return {**given, **more}


def test_everything_beside_the_verdict(tmp_path: Path):
    given = with_more(
        tmp_path, inputs(
            tmp_path, mix=documents("target", 450, 3), inverse=documents("other", 450, 4), reference=pool(900, 5),
            **{"reference:all": documents("target", 450, 6)},
        ),
        guard_other=documents("other", 80, 98), guard_target=documents("target", 80, 97),
        transfer_third=documents("third", 80, 96), transfer_same=documents("third", 60, 94),
    )  # fmt: skip
    answers = questions("target", 60, 95)
    given["tasks"] = write_tasks(tmp_path / "tasks", words=answers, same=answers)
    found = carry_out(QUICK, given)
    seen = found["instruments"]["ngram"]
    verdict = found["verdicts"]["mix"]
    assert verdict["verdict"] == "closer to the target"
    assert seen["guards"]["other"]["mix"]["cost"] is True
    assert seen["guards"]["target"]["mix"]["cost"] is False
    assert seen["guards"]["other"]["mix"]["p_holm"] < 0.05
    assert len(verdict["costs"]) == 1
    assert verdict["costs"][0].startswith("at a cost: other -")
    assert "At a cost: other" in found["sentence"]
    assert seen["transfer"]["third"]["mix"]["high"] < 0
    assert seen["transfer"]["words"]["mix"]["low"] > 0                # the task does not decide, and is told
    assert set(seen["transfer"]) == {"third", "words", "task same", "transfer same"}
    answers = seen["tasks"]["words"]
    assert answers["mix"]["items"] == 60
    assert len(answers["mix"]["bpb"]) == 5
    assert np.mean(answers["mix"]["bpb"]) < np.mean(answers["random"]["bpb"])
    assert np.mean(answers["mix"]["accuracy"]) > 0.9
    assert set(seen["references"]) == {"reference", "reference:all"}
    assert seen["references"]["reference:all"]["low"] > 0
    assert set(found["verdicts"]) == {"mix"}
    assert verdict["inverse"]["high"] < 0
    assert [s["kind"] for s in found["scored"]] == ["target", *2 * ["task"], *2 * ["transfer"], *2 * ["guard"]]
    assert set(found["test_sets"]) == {"target:target"}
    assert not any(line.startswith("guard domains") for line in found["not_tested"])
    text = "\n".join(trial.lines(found))
    for said in ("guard other, mix", "a cost", "inverse of mix", "for calibration", "task words (60 items)"):
        assert said in text


def test_free_answers_are_never_right_or_wrong(tmp_path: Path):
    """They have no other choice, so there is nothing to choose: bits per byte, and no accuracy of 100 %."""
    free = [{"question": f"How many? {i}", "answer": WORDS["target"][i]} for i in range(40)]
    given = inputs(tmp_path, mix=documents("target", 450, 3))
    given["tasks"] = write_tasks(tmp_path / "tasks", free=free)
    found = carry_out(QUICK, given)
    answers = found["instruments"]["ngram"]["tasks"]["free"]["mix"]
    assert len(answers["bpb"]) == 5 and answers["items"] == 40
    assert answers["accuracy"] is None and answers["probability"] is None and answers["margin"] is None
    [line] = [x for x in trial.lines(found) if "task free (40 items), mix" in x]
    assert "accuracy" not in line
    assert found["instruments"]["ngram"]["transfer"]["free"]["mix"]["kind"] == "task"


def test_an_inverse_that_beats_random_is_an_alarm(tmp_path: Path):
    good = documents("target", 450, 3)
    found = carry_out(QUICK, inputs(tmp_path, mix=documents("other", 450, 4), inverse=good))
    assert found["verdicts"]["mix"]["verdict"] == "farther from the target"
    [alarm] = found["alarms"]
    assert alarm.startswith("inverted-score alarm: the inverse of mix beats random by +")
    assert alarm.endswith("so the score is inverted, or confounded with something else")
    assert alarm[1:] in found["sentence"]
    (tmp_path / "both").mkdir()
    found = carry_out(QUICK, inputs(tmp_path / "both", mix=documents("target", 450, 5), inverse=good))
    assert found["verdicts"]["mix"]["verdict"] == "closer to the target"
    assert "confounded with something that both ends" in found["alarms"][0]


def test_several_targets_count_once_each(tmp_path: Path):
    given = inputs(tmp_path, mix=documents("target", 450, 3))
    one = given.pop("target:test")
    big = [d for seed in (91, 92) for d in documents("other", 120, seed)]
    given = with_more(tmp_path, given, target_big__test=big, target_big__train=documents("other", 60, 90))
    given["target:one/test"] = one
    found = carry_out(QUICK, given)
    seen = found["instruments"]["ngram"]
    each = {t: by_mix["mix"]["estimate"] for t, by_mix in seen["per_target"].items()}
    assert set(each) == {"one", "big"}
    assert each["one"] > 0 > each["big"]
    assert found["verdicts"]["mix"]["estimate"] == pytest.approx(sum(each.values()) / 2)
    assert seen["bpb"]["mix"] == pytest.approx(
        [(a + b) / 2 for a, b in zip(*(seen["target_bpb"][t]["mix"] for t in each), strict=True)]
    )
    assert set(found["test_sets"]) == {"target:one", "target:big"}
    assert "target:big/train" in found["leak"]["found"]               # searched, as it may have been selected by
    with pytest.raises(BadPlan, match="with and without a name"):
        trial.jobs(QUICK, {**given, "target:test": one})


def test_tasks_may_decide(tmp_path: Path):
    given = inputs(tmp_path, mix=documents("target", 450, 3))
    given["tasks"] = write_tasks(tmp_path / "tasks", a=questions("target", 60, 95), b=questions("target", 70, 94))
    found = carry_out(replace(QUICK, primary="tasks"), given)
    assert found["verdicts"]["mix"]["verdict"] == "closer to the target"
    assert found["verdicts"]["mix"]["metric"] == "tasks"
    assert set(found["test_sets"]) == {"task:a", "task:b"}
    assert found["documents"]["scored"] == 130
    assert set(found["instruments"]["ngram"]["transfer"]) == {"target"}
    with pytest.raises(BadPlan, match="without 'tasks'"):
        trial.jobs(replace(QUICK, primary="tasks"), {k: v for k, v in given.items() if k != "tasks"})
    (tmp_path / "tasks" / "c.jsonl").write_text('{"question": 3}')
    with pytest.raises(BadInput, match="line 1"):
        trial.jobs(QUICK, given)


def test_an_answer_costs_what_it_adds_to_its_context(tmp_path: Path):
    """By hand: an untrained n-gram gives ln 256 nats a byte, whatever stands before the answer."""
    given = {**inputs(tmp_path, mix=pool(3, 3)), "tasks": write_tasks(tmp_path / "t", t=questions("target", 55, 95))}
    task = next(s for s in metrics.scored_of(QUICK, given) if s.kind == "task")
    from curate.train import ngram

    empty = ngram.train(np.zeros(1, np.int64), np.empty(0, np.uint8))
    [nats] = metrics.ngram_nats(empty, [task])
    assert nats[-1] == pytest.approx(np.log(256) * task.sizes)
    assert task.sizes[1] == len(" " + questions("target", 55, 95)[0]["choices"][1])
    assert task.items.tolist() == list(range(1, 110, 2))


def test_a_method_takes_three_mixes(tmp_path: Path):
    mixes = {f"method@{i}": documents("target", 450, 10 + i) for i in range(3)}
    found = carry_out(QUICK, inputs(tmp_path, **mixes, other=pool(900, 6)))
    method = found["methods"]["method"]
    assert method["mixes"] == sorted(mixes)
    assert method["estimate"] == pytest.approx(np.mean([found["verdicts"][m]["estimate"] for m in mixes]))
    assert method["verdict"] == "closer to the target"
    assert "The method method, over 3 mixes" in found["sentence"]
    (tmp_path / "two").mkdir()
    two = carry_out(QUICK, inputs(tmp_path / "two", **dict(list(mixes.items())[:2])))
    assert two["methods"] == {}


# ------------------------------------------------------------------------------------------------- the multiplier


def test_the_multiplier_knows_twice_the_data(tmp_path: Path):
    """The mix is the baseline trained on twice its budget; the other has two thirds of its documents made noise."""
    config = replace(CONFIG, ngram_bytes=32_000)
    given = inputs(tmp_path, mix=pool(1_500, 3), noise=[
        {**d, "text": "".join(map(chr, np.random.default_rng(i).integers(33, 127, len(d["text"]))))} if i % 3 else d
        for i, d in enumerate(pool(1_500, 4))
    ], **{"random": pool(1_500, 1), "random'": pool(1_500, 2)})  # fmt: skip
    jobs = trial.jobs(config, given)
    results = [trial.work(job, config, given) for job in jobs]
    double = {j["seed"]: r for j, r in zip(jobs, results, strict=True) if j.get("scale") == 2.0}
    for i, job in enumerate(jobs):
        if job.get("arm") == "mix":
            results[i] = {**results[i], "nats": double[job["seed"]]["nats"]}
    seen = trial.conclude(config, jobs, results, given)["instruments"]["ngram"]
    m = seen["multiplier"]["mix"]
    assert m["low"] <= 2 <= (m["high"] or np.inf)
    assert 1.6 < m["estimate"] < 2.5
    assert seen["multiplier"]["noise"]["high"] < 1
    scales, losses, _ = zip(*seen["curve_baseline"], strict=True)
    assert scales == (0.25, 0.5, 1.0, 2.0)
    assert list(losses) == sorted(losses, reverse=True)
    assert seen["curve_baseline"][2][1] == pytest.approx(seen["baseline_bpb"])


# ------------------------------------------------------------------------------------------------- repeated text


def declare(path: Path, size: int) -> None:
    """Write into a sample how large the mix is that it was drawn from."""
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({cutting.OF: json.dumps({"bytes": size})}), path, row_group_size=100)


def test_epochs_are_those_of_the_final_training(tmp_path: Path):
    """A mix that would be read four times there is a quarter as much text here, read four times."""
    given = inputs(tmp_path, strict=documents("target", 450, 3), loose=pool(900, 4))
    for arm, size in {"random": 10**9, "random'": 10**9, "strict": 10**6, "loose": 10**9}.items():
        declare(given[f"arm:{arm}"], size)
    config = replace(QUICK, final_tokens=1_000_000)                   # 4 MB without a tokenizer
    found = carry_out(config, given)
    expected = {"whole_bytes": 10**6, "known": True, "of_random": 0.001, "at_final": 4.0, "epochs": 4.0}
    assert found["epochs"]["strict"] == expected
    assert "  strict: 0.1 % of random's text, read 4 times at the final budget and 4 times here" in trial.lines(found)
    assert found["epochs"]["loose"]["epochs"] == 1.0
    trained = found["instruments"]["ngram"]["trained"]
    assert {r["epochs"] for r in trained["strict"]} == {4.0}
    assert max(r["documents"] for r in trained["strict"]) < min(r["documents"] for r in trained["loose"]) / 2
    sizes = [r["bytes"] for runs in trained.values() for r in runs]
    assert max(sizes) - min(sizes) <= 3
    assert not any("was not tested" in c and "repeat" in c for c in found["caveats"])
    more = carry_out(replace(config, final_tokens=10**8), given)
    assert more["epochs"]["strict"]["epochs"] == 16.0
    assert any("strict would be read 400 times, and was read 16 times" in c for c in more["caveats"])
    once = carry_out(QUICK, given)
    assert once["verdicts"]["strict"]["estimate"] > found["verdicts"]["strict"]["estimate"]
    assert found["verdicts"]["strict"]["estimate"] > more["verdicts"]["strict"]["estimate"]


def test_a_sample_that_does_not_say_so_is_the_whole_mix(tmp_path: Path):
    given = inputs(tmp_path, mix=documents("target", 450, 3))
    found = carry_out(replace(QUICK, final_tokens=50_000), given)
    size = sum(len(d["text"]) for d in documents("target", 450, 3))
    assert found["epochs"]["mix"]["whole_bytes"] == size
    assert found["epochs"]["mix"]["at_final"] == pytest.approx(200_000 / size)
    assert any("The sample of mix does not say how large" in c for c in found["caveats"])


def test_an_ngram_counts_repeated_text_once(tmp_path: Path):
    """Twice the counts would make an n-gram too sure of itself; read four times, a quarter is worth a quarter."""
    given = inputs(tmp_path, mix=documents("target", 450, 3))
    declare(given["arm:mix"], 10**6)
    for arm in ("random", "random'"):
        declare(given[f"arm:{arm}"], 10**9)
    found = carry_out(replace(QUICK, final_tokens=1_000_000), given)
    quarter = carry_out(replace(QUICK, ngram_bytes=CONFIG.ngram_bytes // 4), given)
    bits = found["instruments"]["ngram"]["bpb"]["mix"]
    assert bits == pytest.approx(quarter["instruments"]["ngram"]["bpb"]["mix"], rel=1e-3)
    assert {r["bytes"] for r in found["instruments"]["ngram"]["trained"]["mix"]} == {CONFIG.ngram_bytes}
    assert any("repetition at its worst" in c for c in found["caveats"])
    assert not any("repetition at its worst" in c for c in quarter["caveats"])


def test_a_control_is_repeated_as_its_mix_is(tmp_path: Path):
    """It is drawn as a sample, and the size of that sample is nobody's mix."""
    given = inputs(tmp_path, mix=documents("target", 450, 3), source_matched=documents("target", 450, 4))
    for arm, size in {"random": 10**9, "random'": 10**9, "mix": 10**6, "source_matched": 10**5}.items():
        declare(given[f"arm:{arm}"], size)
    found = carry_out(replace(QUICK, final_tokens=1_000_000), given)
    assert found["epochs"]["mix"]["epochs"] == found["epochs"]["source_matched"]["epochs"] == 4.0
    assert found["verdicts"]["mix"]["explained_by"] == ["source mix"]  # the same words, repeated as often


# ------------------------------------------------------------------------------------------------- a GPU, a base


def test_on_a_gpu_a_job_is_a_seed_and_the_words_are_others(tmp_path: Path):
    config = replace(QUICK, device="cuda", delta=0.3)
    given = inputs(tmp_path, mix=documents("target", 450, 3), worse=documents("other", 450, 4))
    trained = [job for job in trial.jobs(config, given) if job["instrument"] == "ngram"]
    assert [len(job["runs"]) for job in trained] == [4] * 5
    found = carry_out(config, given)
    assert found["verdicts"]["mix"]["verdict"] == "better"
    assert found["verdicts"]["worse"]["verdict"] == "worse"
    assert trial.experiment_for(config).needs.gpus == 1
    assert trial.experiment_for(QUICK) is trial.experiment


def test_without_a_gpu_a_run_says_so(tmp_path: Path, tokenizer: Path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    small = {"tokens": 2_000, "context": 32, "batch": 4, "width": 32, "hidden": 64, "layers": 1, "compile": False}
    config = Trial.preset("standard", **small)
    given = {**inputs(tmp_path, mix=pool(300, 3)), "tokenizer": tokenizer}
    job = next(j for j in trial.jobs(config, given) if j["instrument"] == "transformer")
    assert [run["arm"] for run in job["runs"]] == ["random", "random'", "mix"]
    with pytest.raises(BadInput, match="none is seen here"):
        trial.work(job, config, given)


def test_runs_of_a_seed_may_train_in_lockstep(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch):
    """What a job of a GPU returns is what its runs return alone, in their order, a shorter budget among them."""
    from curate.train import stack

    small = {"tokens": 2_000, "context": 32, "batch": 4, "width": 32, "heads": 2, "hidden": 64, "layers": 1}
    config = Trial.preset("standard", **small, compile=False, device="cpu", precision="float32", average=2)
    given = {**inputs(tmp_path, mix=pool(300, 3)), "tokenizer": tokenizer}
    alone = [job for job in trial.jobs(config, given) if job["instrument"] == "transformer" and job["seed"] == 1]
    alone[1]["budget"] = 1_000
    names = ("instrument", "seed", "budget")
    job = {**{name: alone[0][name] for name in names}, "runs": [dict(run) for run in alone]}
    one_by_one = trial.work(job, config, given)["runs"]
    untimed = [{**run, "timing": None} for run in one_by_one]
    assert untimed == [{**trial.work(j, config, given), "timing": None} for j in alone]

    held: list[int] = []
    original = stack.fit

    def noted(models: Any, *args: Any, **more: Any) -> Any:
        held.append(len(models))
        return original(models, *args, **more)

    monkeypatch.setattr(stack, "pays", lambda *args, **more: True)
    monkeypatch.setattr(stack, "fit", noted)
    together = trial.work(job, config, given)["runs"]
    assert held == [2]                                                          # and the shorter one alone
    for ours, theirs in zip(together, one_by_one, strict=True):
        assert ours.keys() == theirs.keys()
        assert ours["trained"] == theirs["trained"]
        np.testing.assert_allclose(ours["nats"], theirs["nats"], rtol=1e-5)
        np.testing.assert_allclose(ours["curve"], theirs["curve"], rtol=1e-5)

    wild = replace(config, lr=1e30, average=1)
    with pytest.raises(BadData, match="the transformer diverged on arm 'random', seed 1: the loss is no longer"):
        trial.work(job, wild, given)


def test_a_guard_that_stands_in_an_arm_is_told(tmp_path: Path):
    guard = documents("other", 60, 98)
    given = with_more(tmp_path, inputs(tmp_path, mix=documents("target", 450, 3) + guard[:2]), guard_other=guard)
    found = carry_out(QUICK, given)
    assert found["verdicts"]["mix"]["verdict"] == "closer to the target"       # no leak: it does not decide
    assert found["leak"]["beside"]["arm:mix"]["guard:other"]["whole"] == 2
    assert any("arm:mix holds 2 documents of guard:other whole" in line for line in found["caveats"])


def test_presets_are_trials():
    for name, config in trial.PRESETS.items():
        assert Trial.preset(name, resamples=7) == replace(config, resamples=7)
        assert (config.device == "cuda") == (config.delta == 0.3)
    sizes = {
        name: 12 * c.layers * c.width**2 + c.width * trial.vocabulary(c)
        for name in ("screen", "standard", "deep") for c in [trial.PRESETS[name]]
    }  # fmt: skip
    assert {name: round(size / 1e6, 1) for name, size in sizes.items()} == {
        "screen": 10.5, "standard": 20.4, "deep": 33.6,
    }  # fmt: skip
    pytest.importorskip("torch")
    from curate.train import presets

    for name in sizes:
        theirs, ours = presets.PRESETS[name], trial.PRESETS[name]
        shape = theirs.shape
        assert (shape.width, shape.layers, shape.heads) == (ours.width, ours.layers, ours.heads)
        assert (shape.hidden, shape.context, shape.qk_norm) == (ours.hidden, ours.context, ours.qk_norm)
        assert (theirs.lr, theirs.embedding_lr, theirs.batch) == (ours.lr, ours.embedding_lr, ours.batch)
        assert (shape.vocab, theirs.tokens) == (trial.vocabulary(ours), ours.tokens)
    with pytest.raises(UnknownSetting, match="no preset 'deeper'"):
        Trial.preset("deeper")


def test_settings_that_say_nothing_are_refused(tmp_path: Path):
    given = inputs(tmp_path, mix=pool(300, 3))
    wrong = {"primary": "hope", "device": "tpu", "share": 0.0, "level": 1.0, "delta": 0.0, "final_tokens": 0}
    for name, value in wrong.items():
        with pytest.raises(BadPlan, match=name):
            trial.jobs(replace(CONFIG, **{name: value}), given)  # type: ignore[arg-type]
    with pytest.raises(BadPlan, match="n-gram cannot start from a base"):
        trial.jobs(CONFIG, {**given, "base": tmp_path})
    with pytest.raises(BadPlan, match=r"share 0\.5"):
        trial.jobs(replace(CONFIG, share=0.5), given)


def test_a_trial_from_a_base_with_replay(tmp_path: Path, tokenizer: Path):
    """A model of the pool anneals on a third of each arm: the target's documents still show."""
    import shutil

    from curate.train import checkpoint, data, loop, model
    from curate.trials import encoding

    opened = encoding.open_tokenizer({"tokenizer": tokenizer})
    ids = encoding.encode(opened, [d["text"] for d in pool(900, 50)])
    stream = data.pack(ids, encoding.separator_of(opened))
    shape = model.Config(vocab=opened.get_vocab_size(), width=32, layers=2, heads=2, hidden=64, context=32)
    base = tmp_path / "base"
    training = loop.Training(tokens=10_000, batch=4, lr=1e-2, decay=0.0)
    checkpoint.save(loop.train(shape, training, stream.ids).model, base)
    shutil.copy(tokenizer / "tokenizer.json", base)

    given = {**inputs(tmp_path, mix=documents("target", 450, 3)), "base": base}
    given["replay"] = write(tmp_path / "replay.parquet", pool(1_500, 51))
    config = Trial(
        instruments=("transformer",), tokens=3_000, context=32, batch=4, lr=3e-3, warmup=0.0, decay=1.0, share=0.34,
        resamples=1_000, curve=False,
    )  # fmt: skip
    found = carry_out(config, given)
    seen = found["instruments"]["transformer"]
    trained = seen["trained"]["mix"][0]
    assert trained["base"] is True
    assert trained["tokens"] == 23 * 128
    text = sum(len(d["text"]) for d in documents("target", 450, 3)[: trained["documents"]])
    assert trained["bytes"] == pytest.approx(text, abs=400)
    assert 0 < seen["against"]["mix"]["random"]["estimate"]
    assert "arm:random" in found["leak"]["found"]
    assert "replay" in found["leak"]["found"]
    assert found["verdicts"]["mix"]["verdict"].split(",")[0] in ("closer to the target", "inconclusive")
    with pytest.raises(BadInput, match="sees 32 tokens at once"):
        trial.jobs(replace(config, context=64), given)
    from curate.train import exporting

    # the same model, as others read it
    exporting.export(checkpoint.load(base), tmp_path / "llama", tokenizer=tokenizer)
    theirs = {**given, "base": tmp_path / "llama"}
    job = next(j for j in trial.jobs(config, theirs) if j["instrument"] == "transformer" and j["arm"] == "mix")
    one, two = (trial.work(job, config, x) for x in (theirs, given))
    assert one["nats"] == pytest.approx(two["nats"], rel=1e-3)
    (tmp_path / "llama" / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="cannot be used"):
        trial.jobs(config, theirs)
    (base / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match=r"no tokenizer\.json"):
        trial.jobs(config, given)


def test_steps_and_tokenizers_must_be_equal(tmp_path: Path):
    given = inputs(tmp_path, mix=pool(900, 3))
    jobs = trial.jobs(QUICK, given)
    results = [trial.work(job, QUICK, given) for job in jobs]
    for what in ("steps", "tokenizer"):
        other = [
            {**r, "trained": {**r["trained"], what: job["arm"]}} if "arm" in job else r
            for job, r in zip(jobs, results, strict=True)
        ]
        with pytest.raises(Exception, match=f"differ in their {what}"):
            trial.conclude(QUICK, jobs, other, given)


def test_runs_of_jobs_are_one_list():
    jobs = [{"instrument": "x", "runs": [{"arm": "a"}, {"arm": "b"}]}, {"instrument": "y"}, {"instrument": "x"}]
    results = [{"runs": [{"n": 1}, {"n": 2}]}, {"n": 3}, {"n": 4}]
    assert [r["n"] for _, r in measuring.flat(jobs, results, "x")] == [1, 2, 4]

