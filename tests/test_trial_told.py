"""Arms that are told what they read: what their runs see, by hand, and whole trials of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_trial import SMALL, carry_out, documents, inputs, pool, tokenizer

from curate import trial
from curate.errors import BadInput, BadPlan
from curate.train import tokenising
from curate.train.spans import TYPE
from curate.trials import cutting, encoding, metrics, told, transformers

__all__ = ["tokenizer"]  # a fixture

NEURAL = replace(SMALL, instruments=("transformer",), context=64, batch=2, documents=60)


def with_column(path: Path, name: str, values: list[Any], kind: pa.DataType) -> None:
    table = pq.read_table(path)
    pq.write_table(table.append_column(name, pa.array(values, kind)), path)


def whole(row: dict[str, Any], role: str) -> list[dict[str, Any]]:
    return [{"start": 0, "stop": len(row["text"].encode()), "role": role}]


def test_streams_with_and_without_metadata_by_hand():
    """Documents of 6, 5 and 6 ids: the first stream ends inside the second, which the other does not begin with."""
    tokens = tokenising.encode(["abc", "de", "fgh"], "bytes", prefixes=["MN", "OP", "QR"])
    first, rest = told.stream(tokens, 8, 4)
    assert first.ids.tolist() == [256, *b"MNabc", 256, ord("O")]
    assert first.loss(np.arange(8)).tolist() == [1, 0, 0, 1, 1, 1, 1, 0]
    assert first.prefix is not None and first.prefix.tolist() == [2, 1]
    assert rest.ids.tolist() == [256, *b"fgh"]
    assert rest.offsets.tolist() == [0, 4]
    assert rest.loss(np.arange(4)).tolist() == [1] * 4


def test_an_arm_reads_metadata_and_then_none(tmp_path: Path, tokenizer: Path):
    rows = pool(900, 3)
    given = {**inputs(tmp_path, meco=rows, plain=rows), "tokenizer": tokenizer}
    with_column(given["arm:meco"], "metadata", [f"URL: {r['source']}.org\n\n" for r in rows], pa.large_string())
    config = replace(NEURAL, told=("meco",), cooldown=0.25)
    [run] = [j for j in trial.jobs(config, given) if j.get("arm") == "meco" and j["seed"] == 1]
    share = cutting.share_of(run, config, given)
    text = transformers._text(share, run["budget"], config, given)
    opened = encoding.open_tokenizer(given)
    assert text.border is not None and text.marks is not None
    assert (text.tokens, text.tokens % 128) == (7_936, 0)             # 62 steps, of which 16 are plain
    assert (text.border, len(text.ids)) == (46 * 128 + 1, 62 * 128 + 2)
    assert "URL: " in opened.decode(text.ids[: text.border].tolist())
    assert "URL: " not in opened.decode(text.ids[text.border :].tolist())
    assert not text.marks[text.border :].any()
    masked = opened.decode(text.ids[: text.border][text.marks[: text.border] == 1].tolist())
    assert masked.startswith(f"URL: {rows[run['start']]['source']}.org\n\nURL: ")
    feed = transformers._feed(text, config, 1)
    assert feed.borders == (0, 46, 62)
    assert all(feed.batch(step).tokens == 128 for step in range(46, 62))
    assert any(feed.batch(step).tokens < 128 for step in range(46))
    # An arm that is not told reads the same documents without.
    other = transformers._text(cutting.share_of({**run, "arm": "plain"}, config, given), run["budget"], config, given)
    assert other.marks is None and other.border is None
    assert other.tokens == text.tokens


def test_a_trial_of_metadata(tmp_path: Path, tokenizer: Path):
    rows = pool(900, 3)
    given = {**inputs(tmp_path, meco=rows), "tokenizer": tokenizer}
    with_column(given["arm:meco"], "metadata", [f"URL: {r['source']}.org\n\n" for r in rows], pa.large_string())
    found = carry_out(replace(NEURAL, told=("meco",), seeds=2, tokens=4_000), given)
    assert "meco" in found["verdicts"]
    assert any("none in the last 10%" in caveat for caveat in found["caveats"])
    assert found["instruments"]["transformer"]["bpb"]["meco"]


def test_an_arm_that_is_asked_for_the_good_half_is_closer(tmp_path: Path, tokenizer: Path):
    """Its documents are random ones, as the baseline's: a third of them is like the target, and is called good."""
    rows = pool(900, 3)
    given = {**inputs(tmp_path, controlled=rows), "tokenizer": tokenizer}
    spans = [whole(r, "good" if r["source"] == "target" else "bad") for r in rows]
    with_column(given["arm:controlled"], "spans", spans, TYPE)
    config = replace(NEURAL, told=("controlled",), controls=("good", "bad"), ask="good")
    run = {"arm": "controlled", "start": 0, "stop": 3, "without": 0, "seed": 0}
    size = encoding.open_tokenizer(given).get_vocab_size()
    text = transformers._text(cutting.share_of(run, config, given), 129, config, given)
    assert text.ids[1] == size + (rows[0]["source"] != "target")
    assert text.marks is None
    assert transformers._shape(config, given).vocab == size + 2
    assert transformers._shape(NEURAL, given).vocab == size
    scored = metrics.scored_of(config, given)
    run = {**run, "stop": 300}
    share = cutting.share_of(run, config, given)
    asked, wrong = (
        transformers.transformer_job(share, 8_000, 0, replace(config, ask=role), given, scored)["nats"]
        for role in ("good", "bad")
    )
    assert np.sum(asked) < np.sum(wrong)


def test_what_cannot_be_told_is_refused(tmp_path: Path, tokenizer: Path):
    given = {**inputs(tmp_path, mix=documents("other", 300, 3)), "tokenizer": tokenizer}
    with_column(given["arm:mix"], "metadata", [{"a": 1}] * 300, pa.struct({"a": pa.int64()}))  # as many sources have
    for config, error, says in (
        (replace(NEURAL, told=("mix",)), BadInput, "metadata.host or controls.mark"),
        (replace(NEURAL, told=("mixt",)), BadPlan, "no arm mixt"),
        (replace(SMALL, told=("mix",)), BadPlan, "n-gram cannot be told"),
        (replace(NEURAL, ask="good"), BadPlan, "ask for one of the controls"),
        (replace(NEURAL, told=("mix",), final_tokens=10), BadPlan, "repeated text"),
    ):
        with pytest.raises(error, match=says):
            carry_out(config, given)
