"""Shards of other trainers: bytes worked out from the formats' definitions, and their own readers."""

import gzip
import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.train import data, shards, tokenising

THREE = [[1, 2, 3], [], [258]]
END = 7


# ------------------------------------------------------------------------------------- readers, from the definitions


def read_megatron(path):
    """ids of each sequence, and the document index."""
    index = path.with_suffix(".idx").read_bytes()
    magic, version, code, sequences, entries = struct.unpack_from("<9sQBQQ", index)
    assert magic == b"MMIDIDX\0\0" and version == 1
    kind = {4: "<i4", 8: "<u2"}[code]
    lengths = struct.unpack_from(f"<{sequences}i", index, 34)
    pointers = struct.unpack_from(f"<{sequences}q", index, 34 + 4 * sequences)
    documents = struct.unpack_from(f"<{entries}q", index, 34 + 12 * sequences)
    assert len(index) == 34 + 12 * sequences + 8 * entries
    ids = path.read_bytes()
    return [np.frombuffer(ids, kind, n, p).tolist() for n, p in zip(lengths, pointers, strict=True)], documents


def read_olmo(path):
    ids = np.fromfile(path, dtype="<u2")
    with gzip.open(path.with_suffix(".csv.gz"), "rt") as file:
        lines = [line.strip().split(",") for line in file]
    return [ids[int(a) : int(b)].tolist() for a, b, *_ in lines], lines


def read_nanotron(path):
    ends = np.frombuffer(path.with_name(path.name + ".index").read_bytes(), "<u8").astype(int)
    return [x.tolist() for x in np.split(np.fromfile(path, dtype="<u2"), ends[:-1])]


def documents_of(kind, path):
    return {"megatron": lambda p: read_megatron(p)[0], "olmo": lambda p: read_olmo(p)[0], "nanotron": read_nanotron}[
        kind
    ](path)


# --------------------------------------------------------------------------------------------------------------- bytes


def test_megatron_worked_out_by_hand(tmp_path):
    """Sequences of 4, 1 and 2 ids begin at bytes 0, 8 and 10; four entries close the document index."""
    [shard] = shards.write("megatron", data.pack(THREE, END), tmp_path / "out", name="web")
    assert shard == shards.Shard(tmp_path / "out" / "web-00000.bin", 3, 7)
    assert shard.path.read_bytes() == bytes.fromhex("0100 0200 0300 0700  0700  0201 0700")
    assert (tmp_path / "out" / "web-00000.idx").read_bytes() == bytes.fromhex(
        "4d4d49444944580000  0100000000000000  08  0300000000000000  0400000000000000"
        "04000000 01000000 02000000"
        "0000000000000000 0800000000000000 0a00000000000000"
        "0000000000000000 0100000000000000 0200000000000000 0300000000000000"
    )


def test_megatron_takes_large_ids_as_int32(tmp_path):
    [shard] = shards.write("megatron", data.pack([[70_000]], END), tmp_path / "out")
    assert shard.path.read_bytes() == bytes.fromhex("70110100 07000000")
    assert shard.path.with_suffix(".idx").read_bytes()[17] == 4


def test_olmo_worked_out_by_hand(tmp_path):
    tokens = data.pack(THREE, END)
    keys = np.array([[1, 2], [3, 4], [5, 255]], dtype=np.uint64)
    keyed = data.Tokens(tokens.ids, tokens.offsets, keys=keys)
    [shard] = shards.write("olmo", keyed, tmp_path / "out", name="web")
    assert shard.path.name == "token_ids_part_00000.npy"
    assert shard.path.read_bytes() == bytes.fromhex("0100 0200 0300 0700  0700  0201 0700")
    packed = (tmp_path / "out" / "token_ids_part_00000.csv.gz").read_bytes()
    assert packed[4:8] == bytes(4), "a time would make the bytes differ between runs"
    assert gzip.decompress(packed) == (
        b"0,4,00000000000000010000000000000002,web,1\r\n4,5,00000000000000030000000000000004,web,2\r\n"
        b"5,7,000000000000000500000000000000ff,web,3\r\n"
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "shards.json", "token_ids_part_00000.csv.gz", shard.path.name
    ]  # fmt: skip
    assert json.loads((tmp_path / "out" / "shards.json").read_text()) == {
        "kind": "olmo", "tokens": keyed.identity(), "tokenizer": "", "separator": 7,
        "shards": [{"file": shard.path.name, "documents": 3, "tokens": 7}],
    }  # fmt: skip


def test_nanotron_worked_out_by_hand(tmp_path):
    [shard] = shards.write("nanotron", data.pack(THREE, END), tmp_path / "out", name="web", tokenizer="gpt2")
    assert shard.path.name == "00000_web.ds"
    assert shard.path.read_bytes() == bytes.fromhex("0100 0200 0300 0700  0700  0201 0700")
    index = shard.path.with_name("00000_web.ds.index").read_bytes()
    assert index == bytes.fromhex("0400000000000000 0500000000000000 0700000000000000")
    assert shard.path.with_name("00000_web.ds.metadata").read_text() == "gpt2|2\n7\n7.00 T"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_kind_reads_back(tmp_path_factory, draw):
    """Copies and order as asked for, shards closed in time, and no document cut."""
    out = tmp_path_factory.mktemp("shards")
    lengths = draw.draw(st.lists(st.integers(0, 9), min_size=1, max_size=12))
    tokens = data.pack([list(range(100 * i + 10, 100 * i + 10 + n)) for i, n in enumerate(lengths)], END)
    order = draw.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=20))
    most = draw.draw(st.integers(1, 30))
    for kind in shards.KINDS:
        found = shards.write(kind, tokens, out / kind, order=np.array(order), shard_tokens=most)
        got = [documents_of(kind, shard.path) for shard in found]
        assert [d for some in got for d in some] == [
            [*range(100 * i + 10, 100 * i + 10 + lengths[i]), END] for i in order
        ]  # fmt: skip
        assert all(shard.tokens == sum(map(len, some)) for shard, some in zip(found, got, strict=True))
        assert all(shard.tokens <= most or shard.documents == 1 for shard in found)


def test_blocks_do_not_show(tmp_path, monkeypatch):
    tokens = data.pack([[1] * n for n in range(40)], END)
    [whole] = shards.write("nanotron", tokens, tmp_path / "a")
    monkeypatch.setattr(shards, "BLOCK_TOKENS", 7)
    [pieces] = shards.write("nanotron", tokens, tmp_path / "b")
    assert whole.path.read_bytes() == pieces.path.read_bytes()


def test_masks_are_kept_or_refused(tmp_path):
    """An end counts if the last token does: the first text ends with a masked turn, the second does not."""
    spans = pa.array([[{"start": 2, "stop": 4, "loss": False}], [{"start": 0, "stop": 1, "loss": False}], None])
    tokens = tokenising.encode(["abcd", "xy", ""], "bytes", spans=spans)
    with pytest.raises(ValueError, match="megatron shards hold no masks"):
        shards.write("megatron", tokens, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    expected = bytes([1, 1, 0, 0, 0, 0, 1, 1, 1])
    [olmo] = shards.write("olmo", tokens, tmp_path / "o")
    assert (tmp_path / "o" / "labels_mask_part_00000.npy").read_bytes() == expected
    [nanotron] = shards.write("nanotron", tokens, tmp_path / "n")
    assert nanotron.path.with_name(nanotron.path.name + ".loss").read_bytes() == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "llama"}, "no shards of kind 'llama'; use one of: megatron, olmo, nanotron"),
        ({"order": np.array([], dtype=int)}, "no documents to write"),
        ({"order": np.array([0, 3])}, "names document 3 of 3"),
        ({"order": np.array([-1])}, "the order names document"),
    ],
)
def test_what_cannot_be_written(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        shards.write(given.pop("kind", "olmo"), data.pack(THREE, END), tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------- their own programs


def test_datatrove_writes_the_same_files(tmp_path):
    """The same texts, tokenizer and order through datatrove's DocumentTokenizer: every byte of every file."""
    pytest.importorskip("datatrove")
    from datatrove.data import Document
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.utils.dataset import DatatroveFileDataset
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.BPE(vocab={c: i + 1 for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
                                | {"<|endoftext|>": 0}, merges=[]))  # fmt: skip
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>"])
    file = tmp_path / "tokenizer.json"
    made.save(str(file))
    texts = ["the cat", "naïve 🙂", "", "a b\nc " * 40]
    theirs = tmp_path / "theirs"
    step = DocumentTokenizer(str(theirs), str(file), eos_token="<|endoftext|>", shuffle_documents=False)
    step.run((Document(text=t, id=str(i)) for i, t in enumerate(texts)), rank=0)
    pq.write_table(pa.table({"text": texts}), tmp_path / "texts.parquet")
    tokens = tokenising.tokenise(tmp_path / "texts.parquet", file, tmp_path / "store")
    [shard] = shards.write("nanotron", tokens, tmp_path / "ours", name="unshuffled", tokenizer=str(file))
    ours = {p.name: p.read_bytes() for p in (tmp_path / "ours").iterdir() if p.name != "shards.json"}
    assert ours == {p.name: p.read_bytes() for p in theirs.iterdir()}
    reader = DatatroveFileDataset(str(shard.path), seq_len=9, token_size=2, return_positions=True)
    first = reader[0]
    assert first["input_ids"].tolist() == np.fromfile(shard.path, "<u2")[:10].tolist()
    assert first["positions"].tolist() == [*range(8), 0, 1]


@pytest.mark.parametrize("tokens", [1, 999, 1000, 1500, 12_345, 999_999, 1_234_567, 987_654_321_000])
def test_a_number_in_words_is_humanize_s(tokens):
    humanize = pytest.importorskip("humanize")
    assert shards.in_words(tokens) == humanize.metric(tokens, unit="T")
