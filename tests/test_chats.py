"""Chats as documents: the template by hand, masks that are exact, and the way from messages to a trained row."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import chats, select, shards, sources
from curate.columns import QUARANTINED
from curate.engines.local import Local
from curate.errors import BadData, BadInput, UnknownSetting
from curate.plan import plan, read, write
from curate.run import run
from curate.store import Store
from curate.train import feeds, tokenising

HELLO = [{"role": "user", "content": "Qué?"}, {"role": "assistant", "content": "Sí."}]


def made(messages, **settings):
    config = chats.Chat(**settings)
    return chats.write(pa.table({config.column: pa.array(messages, chats.MESSAGES)}), config)


def test_a_chat_worked_out_by_hand():
    [row] = made([HELLO]).to_pylist()
    assert row["text"] == "<|user|>\nQué?\n<|assistant|>\nSí.\n"
    parts = [(row["text"].encode()[s["start"] : s["stop"]].decode(), s["role"], s["loss"]) for s in row["spans"]]
    assert parts == [
        ("<|user|>\nQué?\n", "user", False), ("<|assistant|>\n", "assistant", False), ("Sí.\n", "assistant", True)
    ]  # fmt: skip
    assert row[QUARANTINED] is None


def test_a_template_of_ones_own():
    [row] = made([HELLO], before="[{role}] ", after="</s>", train=("user",)).to_pylist()
    assert row["text"] == "[user] Qué?</s>[assistant] Sí.</s>"
    assert [(s["start"], s["stop"], s["loss"]) for s in row["spans"]] == [
        (0, 7, False), (7, 16, True), (16, 36, False)
    ]  # fmt: skip
    [bare] = made([HELLO], before="", after="").to_pylist()
    assert bare["text"] == "Qué?Sí."
    assert [(s["start"], s["stop"], s["loss"]) for s in bare["spans"]] == [(0, 5, False), (5, 9, True)]
    with pytest.raises(UnknownSetting, match="cannot be filled in"):
        chats.Chat(before="{name}")


def test_rows_that_are_no_chat():
    rows = made([None, [], [{"role": None, "content": "x"}], [None], [{"role": "tool", "content": None}]]).to_pylist()
    assert [row[QUARANTINED] for row in rows] == [
        "no messages", "no messages", "a message without a role", "a message without a role", None
    ]  # fmt: skip
    assert rows[4]["text"] == "<|tool|>\n\n"
    assert [row["row"] for row in rows] == list(range(5))


MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "é"]), "content": st.text(max_size=8)}),
    min_size=1, max_size=4,
)  # fmt: skip


@given(st.lists(MESSAGES, min_size=1, max_size=4))
def test_what_counts_is_what_the_assistant_said(messages):
    """Through tokens: the bytes that the loss counts are the contents of the assistant, each with what closes it."""
    table = made(messages)
    tokens = tokenising.encode(table["text"].combine_chunks(), "bytes", spans=table["spans"])
    counted = tokens.loss(np.arange(len(tokens.ids)))
    for i, turns in enumerate(messages):
        at = slice(tokens.offsets[i] + 1, tokens.offsets[i + 1])
        kept = np.ones(at.stop - at.start, dtype=bool) if counted is None else counted[at] > 0
        said = b"".join(t["content"].encode() + b"\n" for t in turns if t["role"] == "assistant")
        assert bytes(tokens.ids[at][kept].astype(np.uint8)) == said
        assert tokens.scored[i] == len(said)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_from_messages_to_shards(tmp_path, kind):
    """A pipeline reads chats, writes a mix of two copies; it is exported, tokenised and packed with its masks."""
    rows = [{"name": f"c{i}", "messages": [*HELLO, {"role": "user", "content": str(i)}]} for i in range(3)]
    rows.append({"name": "bad", "messages": [{"role": None, "content": "x"}]})
    if kind == "jsonl":
        (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        source = sources.jsonl(str(tmp_path / "chats.jsonl"), text="name", columns={"messages": chats.MESSAGES})
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "chats.parquet")
        source = sources.parquet(str(tmp_path / "chats.parquet"), text="name", columns={"messages": chats.MESSAGES})
    mix = read(source).then(chats.write).select(select.uniform(label="all"), rows=10)
    store = Store(str(tmp_path / "store"))
    outcome = run(plan(write({"sft": mix}, columns=("spans",))), name="sft", store=store, open_engine=Local)
    folder = next(Path(tmp_path / "store").glob("runs/*/mixes/sft"))
    assert outcome.manifest["mixes"]["sft"]["rows"] == 3
    done = shards.export(folder, "nanotron", "bytes", tmp_path / "shards")
    assert (done.documents, len(done.shards)) == (3, 1)
    assert done.shards[0].path == tmp_path / "shards" / "00000_sft.ds"
    text = pq.read_table(folder / "data")["text"].to_pylist()
    ids = np.fromfile(done.shards[0].path, dtype="<u2")
    assert ids.tolist() == [i for t in text for i in [*t.encode(), 256]]
    counts = np.fromfile(f"{done.shards[0].path}.loss", dtype=bool)
    assert bytes(ids[counts].astype(np.uint8)) == "Sí.\n".encode() * 3
    tokens = tokenising.tokenise(folder / "data", "bytes", tmp_path / "tokens")
    assert tokens.identity() == done.identity
    feed = feeds.BestFit(tokens, 128, 1)
    assert sum(feed.batch(s).tokens for s in range(feed.steps)) == 3 * len("Sí.\n".encode())
    with pytest.raises(BadData, match="megatron shards hold no masks"):
        shards.export(folder, "megatron", "bytes", tmp_path / "megatron")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_what_cannot_be_exported(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "spans": [[{"start": 0, "stop": 9}]]}), tmp_path / "a.parquet")
    for arguments, message in (
        ((tmp_path / "a.parquet", "gpt", "bytes", tmp_path / "out"), "no shards of kind 'gpt'"),
        ((tmp_path / "b.parquet", "olmo", "bytes", tmp_path / "out"), "no Parquet file at"),
        ((tmp_path / "a.parquet", "olmo", tmp_path, tmp_path / "out"), r"holds no tokenizer.json"),
        ((tmp_path / "a.parquet", "olmo", "bytes", tmp_path), "is there already"),
    ):
        with pytest.raises(BadInput, match=message):
            shards.export(*arguments)
    with pytest.raises(BadData, match=r"row 0: span 0 \(0 to 9 of 1 bytes\) reaches beyond the text"):
        shards.export(tmp_path / "a.parquet", "olmo", "bytes", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet"]
