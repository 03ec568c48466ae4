"""The trial: what it must find, what it must not find, and what it must refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import trial
from curate.errors import BadData, BadInput, BadPlan
from curate.trial import Trial
from curate.trials import composition, cutting, encoding, metrics, verdict

CONFIG = Trial(instruments=("ngram",), ngram_bytes=16_000, resamples=1_000)
SYLLABLES = ["ka", "lo", "mi", "ter", "an", "sul", "ve", "ond", "ri", "pha", "gu", "ster", "ne", "bol", "ix", "tor"]


def vocabulary(domain: str) -> list[str]:
    """300 words that look like a language of their own."""
    rng = np.random.default_rng(list(domain.encode()))
    mine = rng.choice(SYLLABLES, 8, replace=False)
    return ["".join(rng.choice(mine, rng.integers(1, 4))) for _ in range(300)]


WORDS = {domain: vocabulary(domain) for domain in ("target", "other", "third")}


def documents(domain: str, n: int, seed: int, words: tuple[int, int] = (30, 60)) -> list[dict[str, Any]]:
    """Documents of a domain: words by Zipf's law; each text its own, as the numbers are drawn from (domain, seed)."""
    rng = np.random.default_rng([seed, *domain.encode()])
    out = []
    for i in range(n):
        rank = np.minimum(rng.zipf(1.3, rng.integers(*words)) - 1, 299)
        out.append({"id": f"{domain}-{seed}-{i}", "source": domain, "text": " ".join(WORDS[domain][r] for r in rank)})
    return out


def pool(n: int, seed: int) -> list[dict[str, Any]]:
    """One document in three is of the target's domain."""
    mixed = [d for domain in WORDS for d in documents(domain, n // 3, seed)]
    return [mixed[i] for i in np.random.default_rng(seed).permutation(len(mixed))]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    table = pa.table({
        "key": pa.array([trial_key(r["id"]) for r in rows], pa.binary(16)),
        "id": pa.array([r["id"] for r in rows], pa.large_string()),
        "source": pa.array([r["source"] for r in rows], pa.large_string()),
        "text": pa.array([r["text"] for r in rows], pa.large_string()),
        "text_bytes": pa.array([len(r["text"].encode()) for r in rows], pa.int64()),
        **({"group": pa.array([r["group"] for r in rows], pa.large_string())} if rows and "group" in rows[0] else {}),
    })  # fmt: skip
    pq.write_table(table, path, row_group_size=100)
    return path


def trial_key(name: str) -> bytes:
    return name.encode().rjust(16, b"\0")[-16:]


def inputs(folder: Path, test: list[dict[str, Any]] | None = None, **arms: list[dict[str, Any]]) -> dict[str, Path]:
    """Inputs of a trial: two random draws, and what is given; an arm's name is its keyword."""
    arms = {"random": pool(900, 1), "random'": pool(900, 2), **arms}
    out = {f"arm:{name}": write(folder / f"{i}.parquet", rows) for i, (name, rows) in enumerate(arms.items())}
    out["target:test"] = write(folder / "test.parquet", documents("target", 120, 99) if test is None else test)
    return out


def carry_out(config: Trial, given: dict[str, Path]) -> dict[str, Any]:
    """Every job, one after the other, all values through JSON."""
    todo = json.loads(json.dumps(trial.jobs(config, given)))
    results = [json.loads(json.dumps(trial.work(job, config, given))) for job in todo]
    return json.loads(json.dumps(trial.conclude(config, todo, results, given), allow_nan=False))


def test_a_planted_target_is_closer_and_its_inverse_farther(tmp_path: Path):
    others = documents("other", 250, 3) + documents("third", 250, 3)
    found = carry_out(
        CONFIG, inputs(tmp_path, planted=documents("target", 450, 3), worst=others, **{"inverse:planted": others})
    )
    assert found["verdicts"]["planted"]["verdict"] == "closer to the target"
    assert found["verdicts"]["planted"]["estimate"] >= 3
    assert found["verdicts"]["planted"]["inverse"]["high"] < 0
    assert found["alarms"] == []
    assert found["verdicts"]["worst"]["verdict"] == "farther from the target"
    assert found["verdicts"]["planted"]["level"] == pytest.approx(0.975)      # two mixes share the 5 %
    text = "\n".join(trial.lines(found))
    assert "planted: closer to the target (ngram alone)" in text
    assert "better" not in text


def test_a_third_random_draw_is_neither(tmp_path: Path):
    found = carry_out(CONFIG, inputs(tmp_path, third=pool(900, 3)))
    assert found["verdicts"]["third"]["verdict"].split(",")[0] in ("equivalent within 3 %", "inconclusive")
    assert found["instruments"]["ngram"]["no_verdict"] == []


def test_noise_in_the_mix_shows_by_dose(tmp_path: Path):
    rng = np.random.default_rng(5)
    def spoilt(share: float) -> list[dict[str, Any]]:
        rows = pool(900, 3)
        for i in rng.permutation(len(rows))[: int(share * len(rows))]:
            n = len(rows[i]["text"])
            rows[i] = {**rows[i], "text": "".join(map(chr, rng.integers(33, 127, n)))}
        return rows

    found = carry_out(CONFIG, inputs(tmp_path, **{f"noise{p}": spoilt(p / 100) for p in (0, 10, 30, 60)}))
    estimate = [found["verdicts"][f"noise{p}"]["estimate"] for p in (0, 10, 30, 60)]
    assert estimate[0] > estimate[1] > estimate[2] > estimate[3]
    assert estimate[3] < 0
    assert found["verdicts"]["noise60"]["verdict"] == "farther from the target"


def test_test_documents_in_the_mix_are_a_leak(tmp_path: Path):
    test = documents("target", 120, 99)
    shouted = [{**d, "id": "copy " + d["id"], "text": d["text"].upper().replace(" ", "  ")} for d in test[:3]]
    found = carry_out(CONFIG, inputs(tmp_path, test, leaky=documents("target", 450, 3) + shouted))
    assert found["verdicts"]["leaky"]["verdict"] == "no verdict"
    assert found["leak"]["alarm"] == ["arm:leaky"]
    assert found["leak"]["found"]["arm:leaky"]["whole"] == 3
    assert not found["guard"]["guarded"]
    assert found["guard"]["open"] == ["arm:leaky"]
    assert "3 of 453 documents in arm:leaky share 13 words in a row" in found["guard"]["sentence"]
    assert any(found["guard"]["sentence"] in line for line in found["caveats"])
    assert found["guard"]["sentence"] in trial.lines(found)
    assert "test documents stand in arm:leaky" in found["sentence"]


def test_a_mix_without_the_test_documents_is_guarded(tmp_path: Path):
    """13 words in a row are enough to open the guard, in an arm or in what was selected by; 12 are not."""
    words = documents("target", 120, 99)
    said = [" ".join(words[i]["text"].split()[:n]) for i, n in ((0, 12), (1, 13))]
    rows = documents("target", 450, 3)
    for quoted, guarded in zip(said, (True, False), strict=True):
        home = tmp_path / str(guarded)
        home.mkdir()
        extra = [{**rows[0], "id": "quoting", "text": f"It began: {quoted}, and so on"}]
        given = inputs(home, words, mix=rows)
        given["target:train"] = write(home / "train.parquet", extra)
        found = carry_out(CONFIG, given)
        assert found["guard"]["guarded"] is guarded
        assert found["guard"]["open"] == ([] if guarded else ["target:train"])
        assert found["leak"]["found"]["target:train"]["touched"] == (not guarded)
        assert found["verdicts"]["mix"]["verdict"] == "closer to the target"
    assert "no document of any arm" not in found["guard"]["sentence"]


def test_a_guard_that_is_open_everywhere_is_said_in_one_line():
    held = {"sharing": 1, "searched": 10, "whole": 0}
    found = {f"arm:{name}": held for name in ("random", "a", "b")} | {"arm:c": {**held, "sharing": 5, "searched": 20}}
    assert verdict.guard_of(found, CONFIG)["sentence"] == (
        "not guarded: 8 of 50 documents in 4 inputs, the largest share of them in arm:c (5 of 20), share 13 words in a "
        "row with a test document."
    )


def test_near_copies_are_said(tmp_path: Path):
    test = documents("target", 120, 99)
    near = [{**d, "id": "copy " + d["id"], "text": d["text"] + " and more"} for d in test[:2]]
    found = carry_out(CONFIG, inputs(tmp_path, test, mix=documents("target", 450, 3) + near))
    assert found["verdicts"]["mix"]["verdict"] == "closer to the target"
    assert any("near copies of 2 of 120 test documents" in line for line in found["caveats"])


def long_and_short(n: int, seed: int) -> list[dict[str, Any]]:
    """Documents whose length says nothing but which domain they are of: the target's are long."""
    rows = documents("target", n // 4, seed, (80, 100)) + documents("other", n, seed, (15, 25))
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]


def test_length_in_disguise(tmp_path: Path):
    """The mix is the longest documents; a random draw of the same lengths does as well."""
    longest = [r for r in long_and_short(2_000, 3) if len(r["text"]) > 200]
    matched = [r for r in long_and_short(2_000, 4) if len(r["text"]) > 200]
    found = carry_out(CONFIG, inputs(
        tmp_path, longest=longest, length_matched=matched,
        **{"random": long_and_short(900, 1), "random'": long_and_short(900, 2)},
    ))  # fmt: skip
    assert found["verdicts"]["longest"]["verdict"] == "closer, explained by length"
    assert found["instruments"]["ngram"]["verdicts"]["longest"] == "closer"
    assert set(found["instruments"]["ngram"]["against"]["longest"]) == {"random", "length_matched"}


def test_controls_that_the_mix_beats_explain_nothing(tmp_path: Path):
    found = carry_out(CONFIG, inputs(
        tmp_path, mix=documents("target", 450, 3), length_matched=pool(900, 4), source_matched=pool(900, 5),
        conditional_only=documents("target", 450, 6),
    ))  # fmt: skip
    assert found["verdicts"]["mix"]["verdict"] == "closer to the target"
    assert any(line.startswith("mix does not beat conditional_only") for line in found["caveats"])


def test_a_control_that_cannot_be_drawn_is_left_out_and_said(tmp_path: Path):
    mix = documents("target", 500, 4)
    given = inputs(tmp_path, mix=mix, length_matched=pool(900, 5), source_matched=[])
    found = carry_out(CONFIG, given)
    assert found["verdicts"]["mix"]["verdict"] == "closer to the target"
    seen = found["instruments"]["ngram"]
    assert set(seen["against"]["mix"]) == {"random", "length_matched"}
    assert "arm:source_matched" not in found["composition"]
    [said] = [x for x in found["caveats"] if "source_matched" in x]
    assert said == (
        "mix: there is no source_matched arm, because the pool holds too few such documents, so source mix may be the "
        "whole explanation."
    )
    whole = carry_out(CONFIG, {name: path for name, path in given.items() if name != "arm:source_matched"})
    assert seen["trained"] == whole["instruments"]["ngram"]["trained"]  # and costs the others nothing of their budget


def test_a_control_with_other_sources_than_its_mix_is_said(tmp_path: Path):
    halves = zip(documents("target", 250, 4), documents("third", 250, 4), strict=True)
    mix = [document for pair in halves for document in pair]
    given = inputs(tmp_path, mix=mix, source_matched=documents("third", 500, 6))
    said = [x for x in carry_out(CONFIG, given)["caveats"] if "has other sources" in x]
    assert len(said) == 1 and said[0].startswith("source_matched has other sources than mix for "), said
    assert int(said[0].split(" for ")[1].split(" %")[0]) == pytest.approx(50, abs=15)


def test_the_same_inputs_give_the_same_json(tmp_path: Path):
    given = inputs(tmp_path, mix=documents("target", 450, 3))
    one, two = (carry_out(CONFIG, given) for _ in range(2))
    for found in (one, two):
        del found["timing"]
    assert json.dumps(one) == json.dumps(two)


def test_budgets_are_equal_and_shrink_together(tmp_path: Path):
    small = documents("target", 150, 3)                               # holds less than five chunks of 16 kB
    given = inputs(tmp_path, small=small)
    found = carry_out(CONFIG, given)
    trained = found["instruments"]["ngram"]["trained"]
    sizes = [x["bytes"] for runs in trained.values() for x in runs]
    assert len(sizes) == 3 * 5
    assert max(sizes) - min(sizes) <= 3
    assert 5 * max(sizes) < sum(len(d["text"]) for d in small)
    assert max(sizes) == found["foresight"]["ngram"]["budget"] < found["foresight"]["ngram"]["asked"] == 16_000
    assert any("the smallest arm allows no more" in line for line in trial.foresight_lines(found["foresight"]))


def test_chunks_are_disjoint_and_random_again_leaves_out_what_random_used(tmp_path: Path):
    rows = pool(1_800, 1)
    config = Trial(instruments=("ngram",), ngram_bytes=8_000)
    given = inputs(tmp_path, mix=pool(900, 3), **{"random": rows, "random'": rows})   # the same draw twice
    jobs = [job for job in trial.jobs(config, given) if job["instrument"] == "ngram"]
    used = {}
    for job in jobs:
        used[job["arm"], job["seed"]] = cutting.read(
            given, f"arm:{job['arm']}", ["id"], job["start"], job["stop"], job["without"]
        )["id"].to_pylist()
    for arm in ("random", "random'", "mix"):
        ids = [i for (a, _), ids in used.items() if a == arm for i in ids]
        assert len(ids) == len(set(ids))
    first, second = ({i for (a, _), ids in used.items() if a == arm for i in ids} for arm in ("random", "random'"))
    assert first
    assert second
    assert not first & second


def test_a_chunk_ends_between_characters():
    texts = pa.chunked_array([pa.array(["left out", "aé", "🙂🙂", "x"], pa.large_string())]).slice(1)
    for budget, kept in [(1, "a"), (2, "a"), (3, "aé"), (6, "aé"), (7, "aé🙂"), (99, "aé🙂🙂x")]:
        offsets, data = cutting.first_bytes(texts, budget)
        assert data[offsets[0] : offsets[-1]].tobytes() == kept.encode()
        assert len(offsets) == 4


def test_composition_says_what_the_arms_are(tmp_path: Path):
    found = carry_out(CONFIG, inputs(tmp_path, mix=documents("target", 450, 3), length_matched=pool(900, 4)))
    of = found["composition"]
    assert of["arm:mix"]["sources"] == {"target": 1.0}
    assert set(of["arm:random"]["sources"]) == set(WORDS)
    assert sum(of["arm:random"]["sources"].values()) == pytest.approx(1)
    assert of["arm:random"]["compression"] > 1
    assert of["arm:mix"]["copies"] == 0
    assert "test_documents" not in of["target:test"]
    assert any("no source_matched arm was trained" in line for line in found["caveats"])
    assert not any("no length_matched arm" in line for line in found["caveats"])


def test_copies_and_empty_documents_are_counted(tmp_path: Path):
    rows = [{"id": str(i), "source": "s", "text": t} for i, t in enumerate(["a b", "a b", "", "c"])]
    path = write(tmp_path / "rows.parquet", rows)
    assert composition.describe(pq.read_table(path))["copies"] == pytest.approx(1 / 4)
    assert composition.describe(pq.read_table(path).slice(2, 1)) == {"documents": 1, "bytes": 0}


def test_groups_are_clusters(tmp_path: Path):
    test = [{**d, "group": f"g{i // 2}"} for i, d in enumerate(documents("target", 120, 99))]
    test[7]["group"] = None                                           # its own cluster, and g3 keeps the other
    found = carry_out(CONFIG, inputs(tmp_path, test, mix=documents("target", 450, 3)))
    assert found["documents"] == {"scored": 120, "clusters": 61}


# ------------------------------------------------------------------------------------------- the table of verdicts


def synthetic(
    tmp_path: Path, effects: dict[str, dict[str, float]], *, noise: float = 0.3, aa: float = 0.0, order3: float = 3.0,
    seeds: int = 5, delta: float = 3.0,
) -> dict[str, Any]:
    """A conclusion from made-up results.

    Args:
        tmp_path: for the files of the inputs.
        effects: instrument to arm to percent saved against random.
        noise: SD of one run, percent.
        aa: percent by which random' is cheaper than random.
        order3: bits per byte of the byte 3-gram; random has 2.
        seeds: runs of each arm.
        delta: of the settings.
    """
    rng = np.random.default_rng(7)
    arms = {arm for by_arm in effects.values() for arm in by_arm}
    given = inputs(tmp_path, **{arm: pool(3, 5) for arm in arms})
    size = [len(d["text"]) for d in documents("target", 120, 99)]
    config = Trial(instruments=tuple(effects), subsamples=seeds, seeds=seeds, delta=delta, resamples=500)
    jobs, results = [], []
    hardness = rng.normal(1, 0.1, len(size))
    for instrument, by_arm in effects.items():
        for arm, saved in {"random": 0.0, "random'": aa, **by_arm}.items():
            for seed in range(seeds):
                cost = 2 * np.log(2) * np.array(size) * hardness * (1 - (saved + noise * rng.normal()) / 100)
                jobs.append({"instrument": instrument, "arm": arm, "seed": seed, "budget": 1_000})
                results.append({
                    "nats": cost.tolist(), "bytes": size, "orders": [5.0, 4.0, order3, 2.9, 2.8, 2.7],
                    "trained": {"bytes": 1_000, "tokens": 1_000, "documents": 3}, "timing": {"cpu_seconds": 1.0},
                })  # fmt: skip
    found = trial.conclude(config, jobs, results, given)
    assert "could see" in "\n".join(trial.lines(found))
    return found


@pytest.mark.parametrize(
    ("ngram", "transformer", "verdict"),
    [
        (6.0, 2.0, "closer to the target"),
        (6.0, -2.0, "inconclusive, 6 seeds needed"),                  # the instruments disagree in sign
        (-6.0, -2.0, "farther from the target"),
        (-6.0, 2.0, "inconclusive, 6 seeds needed"),
        (0.5, 0.5, "equivalent within 3 %"),
        (0.5, 6.0, "inconclusive, 6 seeds needed"),                   # one sees nothing, the other a lot
        (1.5, 6.0, "inconclusive, 6 seeds needed"),
        (2.6, 2.6, "inconclusive, 6 seeds needed"),                   # surely above 0, and not worth delta
        (-2.6, -2.6, "inconclusive, 6 seeds needed"),
    ],
)
def test_the_table_of_verdicts(tmp_path: Path, ngram: float, transformer: float, verdict: str):
    found = synthetic(tmp_path, {"ngram": {"mix": ngram}, "transformer": {"mix": transformer}}, noise=0.6)
    assert found["verdicts"]["mix"]["verdict"] == verdict
    assert found["verdicts"]["mix"]["estimate"] == pytest.approx(ngram, abs=0.9)


def test_noise_says_how_many_seeds(tmp_path: Path):
    found = synthetic(tmp_path, {"ngram": {"mix": 1.0}}, noise=9.0)
    c = found["instruments"]["ngram"]["against"]["mix"]["random"]
    n = int(found["verdicts"]["mix"]["verdict"].split()[1])
    assert n == pytest.approx((2.8 * c["sd"] / 3) ** 2, abs=1.5)


def test_controls_explain(tmp_path: Path):
    arms = {"mix": 6.0, "length_matched": 6.2, "source_matched": 1.0}
    found = synthetic(tmp_path, {"ngram": arms})
    assert found["verdicts"]["mix"]["verdict"] == "closer, explained by length"
    found = synthetic(tmp_path, {"ngram": {**arms, "length_matched": 0.0, "source_matched": 6.1}})
    assert found["verdicts"]["mix"]["verdict"] == "closer, explained by source mix"
    found = synthetic(tmp_path, {"ngram": {**arms, "source_matched": 6.1}})
    assert found["verdicts"]["mix"]["verdict"] == "closer, explained by length and source mix"
    found = synthetic(tmp_path, {"ngram": {"one": 6.0, "two": 6.0, "length_matched:two": 6.1}})
    assert [found["verdicts"][m]["explained_by"] for m in ("one", "two")] == [[], ["length"]]


def test_the_aa_gate(tmp_path: Path):
    found = synthetic(tmp_path, {"ngram": {"mix": 6.0}}, aa=4.0)
    assert found["verdicts"]["mix"]["verdict"] == "no verdict"
    assert "two random draws differ by" in found["sentence"]


def test_an_instrument_worse_than_a_byte_trigram_gives_no_verdict(tmp_path: Path):
    found = synthetic(tmp_path, {"ngram": {"mix": 6.0}, "transformer": {"mix": 6.0}}, order3=1.9)
    assert found["verdicts"]["mix"]["verdict"] == "no verdict"
    assert "worse than the byte 3-gram's 1.900" in found["sentence"]
    assert found["instruments"]["transformer"]["verdicts"]["mix"] == "closer"      # shown, and not concluded from


def test_too_few_seeds_give_no_verdict(tmp_path: Path):
    found = synthetic(tmp_path, {"ngram": {"mix": 6.0}}, seeds=2)
    assert found["verdicts"]["mix"]["verdict"] == "no verdict"
    assert "2 seeds, and a verdict needs 5" in found["sentence"]


# -------------------------------------------------------------------------------------------------------- refusals


def test_refusals(tmp_path: Path):
    given = inputs(tmp_path, mix=pool(300, 3))
    with pytest.raises(BadPlan, match="noise cannot be measured"):
        trial.jobs(Trial(instruments=("ngram",), subsamples=1), given)
    with pytest.raises(BadPlan, match="instruments"):
        trial.jobs(Trial(instruments=("oracle",)), given)
    with pytest.raises(BadPlan, match="without the arm \"random'\""):
        trial.jobs(CONFIG, {k: v for k, v in given.items() if k != "arm:random'"})
    with pytest.raises(BadPlan, match="without a mix"):
        trial.jobs(CONFIG, {k: v for k, v in given.items() if k != "arm:mix"})
    with pytest.raises(BadPlan, match="target:validation"):
        trial.jobs(Trial(instruments=("ngram",), split="validation"), given)
    with pytest.raises(BadPlan, match="does not say which mix"):
        trial.jobs(CONFIG, {**given, "arm:two": given["arm:mix"], "arm:length_matched": given["arm:mix"]})
    few = [*documents("target", 49, 99), {"id": "empty", "source": "target", "text": ""}]
    with pytest.raises(BadInput, match="49 documents to score"):
        trial.jobs(CONFIG, {**given, "target:test": write(tmp_path / "few.parquet", few)})
    with pytest.raises(BadInput, match=r"mix \(3 documents\): too small to be cut into 5 chunks"):
        trial.jobs(CONFIG, {**given, "arm:mix": write(tmp_path / "tiny.parquet", pool(3, 4))})


def test_unequal_budgets_and_other_documents_are_refused(tmp_path: Path):
    given = inputs(tmp_path, mix=pool(900, 3))
    jobs = trial.jobs(CONFIG, given)
    results = [trial.work(job, CONFIG, given) for job in jobs]
    at = next(i for i, job in enumerate(jobs) if job.get("arm") == "mix")
    more = [*results[:at], {**results[at], "trained": {**results[at]["trained"], "bytes": 17_000}}, *results[at + 1 :]]
    with pytest.raises(BadData, match="unequal budgets"):
        trial.conclude(CONFIG, jobs, more, given)
    other = [*results[:at], {**results[at], "bytes": results[at]["bytes"][::-1]}, *results[at + 1 :]]
    with pytest.raises(BadData, match="different documents"):
        trial.conclude(CONFIG, jobs, other, given)


# --------------------------------------------------------------------------------------------- the transformer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE of 320 tokens, trained on documents that are in no arm."""
    pytest.importorskip("torch")
    from curate import tokens

    out = tmp_path_factory.mktemp("tokenizer")
    table = pa.table({"text": pa.array([d["text"] for d in pool(300, 77)], pa.large_string())})
    tokens.train_bpe(table, tokens.Bpe(vocabulary=320), out)
    return out


SMALL = Trial(
    ngram_bytes=16_000, seeds=3, tokens=8_000, width=32, hidden=64, context=32, batch=4, lr=1e-2, resamples=1_000
)


def test_both_instruments_find_a_planted_target(tmp_path: Path, tokenizer: Path):
    given = {**inputs(tmp_path, planted=documents("target", 450, 3)), "tokenizer": tokenizer}
    found = carry_out(SMALL, given)
    transformer = found["instruments"]["transformer"]
    assert found["verdicts"]["planted"]["verdict"] == "closer to the target"
    assert "alone" not in found["sentence"]
    assert transformer["against"]["planted"]["random"]["estimate"] > 0
    assert {x["tokens"] for runs in transformer["trained"].values() for x in runs} == {7_936}     # 62 steps of 128
    assert all(x["tokens"] > 0 for runs in found["instruments"]["ngram"]["trained"].values() for x in runs)
    for runs in transformer["curves"].values():
        assert len(runs) == 3
        assert runs[0][-1][0] == 7_936
        assert runs[0][-1][1] < runs[0][0][1]                        # it learns


def test_a_run_repeats(tmp_path: Path, tokenizer: Path):
    given = {**inputs(tmp_path, mix=pool(900, 3)), "tokenizer": tokenizer}
    job = next(j for j in trial.jobs(SMALL, given) if j["instrument"] == "transformer")
    one, two = (trial.work(job, SMALL, given) for _ in range(2))
    assert one["nats"] == pytest.approx(two["nats"], rel=1e-6)
    assert one["orders"] == two["orders"]


def test_a_cut_stream_reads_so_much_text(tokenizer: Path):
    """Every prefix of a document's tokens stands for the text that they encode; a split character is left out."""
    from curate.train import data

    opened = encoding.open_tokenizer({"tokenizer": tokenizer})
    texts = ["kalo miter", "é🙂 x"]
    ids = encoding.encode(opened, texts)
    stream = data.pack(ids, encoding.separator_of(opened))
    for count in range(2, len(stream.ids) + 1):
        cut = stream.first(count)
        read = encoding.read_so_far(opened, texts, cut.lengths)
        assert len(read) == len(cut.lengths)
        assert texts[len(read) - 1].startswith(read[-1])
    assert encoding.read_so_far(opened, texts, stream.lengths) == texts


def test_two_tokenizers_give_a_degenerate_model_the_same_bits_per_byte(tokenizer: Path):
    """A model that gives each byte 1/256 costs ln 256 a byte, by byte or by BPE token; special tokens have no bytes."""
    opened = encoding.open_tokenizer({"tokenizer": tokenizer})
    text = "kalo <|endoftext|>\r\n🙂 e\u0301"
    size = len(text.encode())
    words = [opened.id_to_token(i) for i in encoding.encode(opened, [text])[0]]     # one character stands for one byte
    assert metrics.bpb(sum(len(word) * np.log(256) for word in words), size) == pytest.approx(8.0)


def test_a_tokenizer_that_loses_text_is_refused(tmp_path: Path):
    pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers

    lossy = Tokenizer(models.WordLevel({"[UNK]": 0, "kalo": 1}, unk_token="[UNK]"))
    lossy.pre_tokenizer = pre_tokenizers.Whitespace()
    lossy.add_special_tokens(["<|endoftext|>"])
    lossy.save(str(tmp_path / "tokenizer.json"))
    given = {**inputs(tmp_path, mix=pool(900, 3)), "tokenizer": tmp_path}
    job = next(j for j in trial.jobs(SMALL, given) if j["instrument"] == "transformer")
    with pytest.raises(BadInput, match="loses text"):
        trial.work(job, SMALL, given)
