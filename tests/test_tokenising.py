"""Stores of tokens: the same for any cut and any number of workers, whole or not there, and exact to the byte."""

import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.train import data, feeds, spans, tokenising
from curate.train.data import Label

TEXTS = ["hello", "", "naïve 🙂", "a b\nc", "x" * 300, "<|endoftext|>", "日本語"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A byte-level BPE with a few merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["the cat sat on the mat, the hat that sat"] * 10, trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    return folder


def written(folder, tables):
    folder.mkdir(parents=True, exist_ok=True)
    for i, table in enumerate(tables):
        pq.write_table(table, folder / f"part-{i}.parquet", row_group_size=2)
    return folder


def text_of(tokens, i):
    return bytes(tokens.ids[tokens.offsets[i] + 1 : tokens.offsets[i + 1]].astype(np.uint8)).decode()


def same(a, b):
    assert a.identity() == b.identity()
    assert a.labels == b.labels
    for (name, x), (other, y) in zip(a.arrays(), b.arrays(), strict=True):
        assert name == other
        assert x.dtype == y.dtype
        assert np.array_equal(x, y), name


# --------------------------------------------------------------------------------------------------------------- files


def test_bytes_are_their_own_ids(tmp_path):
    folder = written(tmp_path / "texts", [pa.table({"text": TEXTS[:3]}), pa.table({"text": [*TEXTS[3:], None]})])
    tokens = tokenising.tokenise(folder, "bytes", tmp_path / "out")
    assert [text_of(tokens, i) for i in range(8)] == [*TEXTS, ""]
    assert (tokens.ids[tokens.offsets[:-1]] == 256).all()
    assert tokens.separator == 256
    assert tokens.sizes.tolist() == [len(t.encode()) for t in TEXTS] + [0]
    assert tokens.scored.tolist() == tokens.sizes.tolist()
    assert tokens.prefix is None and tokens.marks is None
    assert tokens.loss(np.arange(4)) is None
    same(tokens, tokenising.encode([*TEXTS, ""], "bytes"))


def test_a_tokenizer_reads_text_as_text(tmp_path, tokenizer):
    from tokenizers import Tokenizer

    folder = written(tmp_path / "texts", [pa.table({"text": TEXTS})])
    tokens = tokenising.tokenise(folder, tokenizer, tmp_path / "out")
    theirs = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    theirs.encode_special_tokens = True
    for i, text in enumerate(TEXTS):
        mine = tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]].tolist()
        assert mine == [0, *theirs.encode(text, add_special_tokens=False).ids]
    same(tokens, tokenising.encode(TEXTS, tokenizer / "tokenizer.json"))
    assert tokenising.separator_of(tokenizer) == 0
    with pytest.raises(ValueError, match="the separator 300 is no token"):
        tokenising.tokenise(folder, tokenizer, tmp_path / "other", separator=300)


def test_the_store_does_not_depend_on_workers_or_cuts(tmp_path, monkeypatch):
    keys = pa.array([bytes([i]) * 16 for i in range(7)], pa.binary(16))
    whole = pa.table({"text": TEXTS, "key": keys, "more": range(7)})
    folder = written(tmp_path / "texts", [whole[:5], whole[5:5], whole[5:]])
    one = tokenising.tokenise(folder, "bytes", tmp_path / "one")
    monkeypatch.setattr(tokenising, "JOB_BYTES", 1)  # a job for each row group
    monkeypatch.setattr(tokenising, "READ_BYTES", 1)  # a batch for each row
    two = tokenising.tokenise(str(folder / "*.parquet"), "bytes", tmp_path / "two", workers=2)
    same(one, two)
    same(one, tokenising.encode(TEXTS, "bytes", keys=keys))
    assert one.keys[3].tolist() == [0x0303030303030303] * 2
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == [
        "about.json", "ids.npy", "keys.npy", "offsets.npy", "scored.npy", "sizes.npy"
    ]  # fmt: skip


def test_a_store_is_opened_again_or_refused(tmp_path, monkeypatch):
    folder = written(tmp_path / "texts", [pa.table({"text": TEXTS})])
    first = tokenising.tokenise(folder, "bytes", tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(tokenising, "_work", lambda job: pytest.fail("tokenised again"))
        same(first, tokenising.tokenise(folder, "bytes", tmp_path / "out"))
    with pytest.raises(ValueError, match="was made from other columns"):
        tokenising.tokenise(folder, "bytes", tmp_path / "out", key="")
    written(folder, [pa.table({"text": ["other"]})])
    with pytest.raises(ValueError, match="was made from other files; name another folder"):
        tokenising.tokenise(folder, "bytes", tmp_path / "out")


def test_the_first_of_two_writers_wins(tmp_path, monkeypatch):
    """Another process makes the same store meanwhile: it is opened. Another one makes a different store: an error."""
    folder = written(tmp_path / "texts", [pa.table({"text": TEXTS})])
    join = tokenising._join
    for meanwhile, message in (("bytes", None), ("other", "was made from other columns")):
        out = tmp_path / meanwhile

        def race(*arguments, out=out, meanwhile=meanwhile):
            monkeypatch.setattr(tokenising, "_join", join)
            tokenising.tokenise(folder, "bytes", out, key="" if meanwhile == "other" else "key")
            join(*arguments)

        monkeypatch.setattr(tokenising, "_join", race)
        if message is None:
            same(tokenising.tokenise(folder, "bytes", out), tokenising.encode(TEXTS, "bytes"))
        else:
            with pytest.raises(ValueError, match=message):
                tokenising.tokenise(folder, "bytes", out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bytes", "other", "texts"]


def test_it_is_there_whole_or_not_at_all(tmp_path):
    folder = written(tmp_path / "texts", [pa.table({"text": TEXTS}), pa.table({"text": [1, 2]})])
    with pytest.raises(ValueError, match=r"part-1\.parquet, batch of rows from 0: the texts are of type int64"):
        tokenising.tokenise(folder, "bytes", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["texts"]
    with pytest.raises(FileNotFoundError, match="holds no tokens"):
        data.Tokens.open(tmp_path / "out")
    with pytest.raises(ValueError, match="has no column 'body'; it has: text"):
        tokenising.tokenise(folder, "bytes", tmp_path / "out", text="body")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("here before")
    with pytest.raises(FileNotFoundError, match="holds no tokens"):
        tokenising.tokenise(folder, "bytes", tmp_path / "out")
    with pytest.raises(ValueError, match="is there already"):
        data.pack([[1]], 0).save(tmp_path / "out")


def test_a_store_of_another_format(tmp_path):
    data.pack([[1]], 0).save(tmp_path / "out")
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    (tmp_path / "out" / "about.json").write_text(json.dumps({**about, "format": 0}))
    with pytest.raises(ValueError, match="is of format 0, read here is 1"):
        data.Tokens.open(tmp_path / "out")


def test_which_files_there_are(tmp_path):
    folder = written(tmp_path / "texts", [pa.table({"text": ["a"]})] * 2)
    written(folder / "_hidden", [pa.table({"text": ["no"]})])
    written(folder / "b", [pa.table({"text": ["c"]})])
    names = lambda found: [str(p.relative_to(folder)) for p in found]  # noqa: E731
    assert names(tokenising.listed(folder)) == ["b/part-0.parquet", "part-0.parquet", "part-1.parquet"]
    assert names(tokenising.listed([folder / "part-1.parquet", str(folder / "p*.parquet")])) == [
        "part-0.parquet", "part-1.parquet"
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"no Parquet file at .*/\*.csv"):
        tokenising.listed(str(folder / "*.csv"))


@pytest.mark.parametrize(
    ("keys", "message"), [(["a", "b"], "a key is not of 16 bytes"), ([b"x" * 16, None], "a key is not of 16 bytes")]
)
def test_keys_that_are_none(tmp_path, keys, message):
    folder = written(tmp_path / "texts", [pa.table({"text": ["a", "b"], "key": keys})])
    with pytest.raises(ValueError, match=message):
        tokenising.tokenise(folder, "bytes", tmp_path / "out")
    assert tokenising.tokenise(folder, "bytes", tmp_path / "out", key="").documents == 2


def test_a_tokenizer_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"holds no tokenizer.json"):
        tokenising.open_encoder(tmp_path)
    with pytest.raises(ValueError, match="bytes are separated by 256, not 0"):
        tokenising.open_encoder("bytes", 0)


def test_no_documents(tmp_path):
    folder = written(tmp_path / "texts", [pa.table({"text": pa.array([], pa.string())})])
    tokens = tokenising.tokenise(folder, "bytes", tmp_path / "out")
    assert tokens.documents == 0
    with pytest.raises(ValueError, match="without documents has no separator"):
        _ = tokens.separator


@given(st.lists(st.text(max_size=12), max_size=8), st.data())
def test_what_is_taken_is_as_if_encoded(texts, draw):
    tokens = tokenising.encode(texts, "bytes")
    if not texts:
        return
    some = draw.draw(st.lists(st.integers(0, len(texts) - 1), max_size=8))
    taken = tokens.take(np.array(some, dtype=np.int64))
    again = tokenising.encode([texts[i] for i in some], "bytes")
    same(taken, again)


@pytest.mark.parametrize("block", [1, 7, 1 << 22])
def test_what_is_taken_does_not_depend_on_blocks(monkeypatch, block):
    monkeypatch.setattr(data, "BLOCK", block)
    column = spanned([[{"start": 1, "stop": 3, "role": "r"}], None, [], None])
    tokens = tokenising.encode(["abc", "", "defghijk", "l"], "bytes", spans=column, prefixes=["x", None, "yz", ""])
    taken = tokens.take(np.array([2, 0, 1, 2, 3]))
    assert taken.ids.tolist() == [256, *b"yzdefghijk", 256, *b"xabc", 256, 256, *b"yzdefghijk", 256, *b"l"]
    assert [taken.labels[m].role for m in taken.marks[11:17]] == ["", "metadata", "", "r", "r", ""]
    assert taken.prefix.tolist() == [2, 1, 0, 2, 0]
    assert tokens.take(np.empty(0, dtype=np.int64)).documents == 0


def test_a_cut_document_has_no_more_metadata_than_tokens():
    tokens = tokenising.encode(["ab", "cd"], "bytes", prefixes=["xyz", "uvw"])
    assert tokens.first(8).prefix.tolist() == [3, 1]
    assert feeds.BestFit(tokens.first(8), 4, 1, plain=True).report.tokens == 4  # "ab", and two ends


# --------------------------------------------------------------------------------------------------------------- spans


def spanned(rows):
    return pa.array(rows, spans.TYPE)


def test_segments_worked_out_by_hand():
    column = spanned([[{"start": 0, "stop": 3, "role": "user", "loss": False}, {"start": 5, "stop": 7}], None, []])
    cut = spans.read(column, pa.array(["abcdefgh", "xy", ""]))
    assert cut.document.tolist() == [0, 0, 0, 0, 1]
    assert list(zip(cut.start.tolist(), cut.stop.tolist(), strict=True)) == [(0, 3), (3, 5), (5, 7), (7, 8), (0, 2)]
    assert cut.labels == (Label(), Label(role="user", loss=False))
    assert cut.label.tolist() == [1, 0, 0, 0, 0]


@settings(max_examples=100)
@given(st.data())
def test_segments_are_the_text(draw):
    texts = draw.draw(st.lists(st.text(max_size=10), max_size=6))
    rows, expected = [], []
    for i, text in enumerate(texts):
        borders = [len(text[:j].encode()) for j in range(len(text) + 1)]
        cuts = sorted(draw.draw(st.sets(st.sampled_from(borders), max_size=6)))
        row, at = [], 0
        for start, stop in zip(cuts[::2], cuts[1::2], strict=False):
            kind = draw.draw(st.sampled_from([("a", True), ("b", False), ("", True)]))
            row.append({"start": start, "stop": stop, "role": kind[0], "loss": kind[1]})
            expected += [(i, at, start, Label())] * (start > at) + [(i, start, stop, Label(role=kind[0], loss=kind[1]))]
            at = stop
        expected += [(i, at, len(text.encode()), Label())] * (len(text.encode()) > at)
        rows.append(row if row or draw.draw(st.booleans()) else None)
    padded = spanned([[{"start": 0, "stop": 1}], *rows])[1:]  # a slice
    for column in (spanned(rows), padded, pa.chunked_array([spanned(rows[:2]), spanned(rows[2:])])):
        cut = spans.read(column, pa.array(["?", *texts], pa.large_string())[1:])
        found = zip(cut.document.tolist(), cut.start.tolist(), cut.stop.tolist(), cut.label.tolist(), strict=True)
        assert [(d, a, b, cut.labels[n]) for d, a, b, n in found] == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([{"start": -1, "stop": 2}], r"row 1: span 0 \(-1 to 2 of 6 bytes\) begins before the text"),
        ([{"start": 0, "stop": 2}, {"start": 3, "stop": 3}], "row 1: span 1 .3 to 3 of 6 bytes. is empty"),
        ([{"start": 2, "stop": 7}], "reaches beyond the text"),
        ([{"start": 0, "stop": 4}, {"start": 3, "stop": 6}], "span 1 .* overlaps the one before"),
        ([{"start": 3, "stop": 4}, {"start": 0, "stop": 1}], "span 1 .* stands before it"),
        ([{"start": 0, "stop": 5}], "cuts a character in two; offsets are bytes of UTF-8"),
        ([{"start": 5, "stop": 6}], "cuts a character in two"),
        ([{"start": 0, "stop": None}], "1 spans have no 'stop'"),
    ],
)
def test_spans_that_cannot_be(row, message):
    with pytest.raises(ValueError, match=f"a.parquet, .*{message}"):
        spans.read(spanned([[{"start": 0, "stop": 1}], row]), pa.array(["z", "abcdé"]), where="a.parquet")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[0, 1]]), "spans are of type list<"),
        (pa.array([[{"start": 0}]]), r"spans have the fields \['start'\]; give each at least start and stop"),
        (pa.array([[{"start": "a", "stop": 1}]]), "the field 'start' of spans is string; write it as int64"),
    ],
)
def test_a_column_that_is_none_of_spans(column, message):
    with pytest.raises(ValueError, match=message):
        spans.read(column, pa.array(["abc"]))


def test_a_mask_is_exact_to_the_byte(tmp_path, tokenizer):
    """The turn of the user is read and not predicted, wherever the tokenizer would have cut; its bytes do not count."""
    text = "the cat sat on the mat, the hat that sat"
    cut = text.index("t on")
    column = spanned([[{"start": 0, "stop": cut, "role": "user", "loss": False}], None])
    folder = written(tmp_path / "texts", [pa.table({"text": [text, "the mat"], "spans": column})])
    tokens = tokenising.tokenise(folder, tokenizer, tmp_path / "out")
    same(tokens, tokenising.encode([text, "the mat"], tokenizer, spans=column))
    assert tokens.scored.tolist() == [len(text) - cut, 7]
    assert tokens.sizes.tolist() == [len(text), 7]
    assert tokens.labels == (Label(), Label(role="user", loss=False))
    whole = tokenising.encode([text[:cut], text[cut:]], tokenizer)
    user, rest = whole.lengths.tolist()
    assert tokens.ids[: tokens.offsets[1]].tolist() == [*whole.ids[: user + 1], *whole.ids[user + 2 :]]
    expected = [1] + [0] * user + [1] * rest + [1] * int(tokens.lengths[1] + 1)
    assert tokens.loss(np.arange(len(tokens.ids))).tolist() == expected
    batch = feeds.BestFit(tokens, 100, 1).batch(0)
    assert batch.tokens == rest + 1 + tokens.lengths[1] + 1


def test_metadata_is_marked(tmp_path):
    folder = written(tmp_path / "texts", [pa.table({"text": ["ab", "c"], "meta": ["URL: x\n\n", None]})])
    tokens = tokenising.tokenise(folder, "bytes", tmp_path / "out", prefix="meta")
    assert tokens.prefix.tolist() == [8, 0]
    assert text_of(tokens, 0) == "URL: x\n\nab"
    assert tokens.labels == (Label(), tokenising.METADATA)
    assert tokens.marks.tolist() == [0, *[1] * 8, 0, 0, 0, 0]
    assert tokens.sizes.tolist() == tokens.scored.tolist() == [2, 1]
    same(tokens, tokenising.encode(["ab", "c"], "bytes", prefixes=["URL: x\n\n", ""]))
    plain = feeds.BestFit(tokens, 6, 1, plain=True)
    assert plain.batch(0).ids[0].tolist() == [256, *b"ab", 256, 256, ord("c"), 256]


def test_metadata_that_is_no_text(tmp_path):
    folder = written(tmp_path / "texts", [pa.table({"text": ["ab"], "meta": [{"host": "x"}]})])
    with pytest.raises(ValueError, match=r"column 'meta': the texts are of type struct.* with prefix="):
        tokenising.tokenise(folder, "bytes", tmp_path / "out", prefix="meta")


def test_many_prefixes_take_no_longer_each(tmp_path):
    """Cost grows with the documents and not with their square: 20,000 took half a minute once."""
    texts = pa.array(["a"] * 20_000)
    begun = time.process_time()
    tokens = tokenising.encode(texts, "bytes", prefixes=pa.array(["b"] * 20_000))
    assert time.process_time() - begun < 5
    assert tokens.ids.reshape(-1, 3).tolist() == [[256, ord("b"), ord("a")]] * 20_000


def test_columns_of_another_length():
    with pytest.raises(ValueError, match="1 prefixes for 2 texts"):
        tokenising.encode(["a", "b"], "bytes", prefixes=["x"])


def test_control_tokens_are_part_of_the_store(tmp_path):
    """The same store for any cut; asked for with other control tokens, it is another one."""
    column = spanned([[{"start": 0, "stop": 1, "role": "good"}], None, [{"start": 1, "stop": 2, "role": "bad"}]])
    table = pa.table({"text": ["ab", "c", "de"], "spans": column})
    folder = written(tmp_path / "texts", [table.slice(0, 2), table.slice(2)])
    controls = {"good": 257, "bad": 70_000}
    tokens = tokenising.tokenise(folder, "bytes", tmp_path / "out", controls=controls)
    same(tokens, tokenising.encode(table["text"].combine_chunks(), "bytes", spans=column, controls=controls))
    assert tokens.ids.tolist() == [256, 257, *b"ab", 256, ord("c"), 256, ord("d"), 70_000, ord("e")]
    for other in (None, {"good": 257}):
        with pytest.raises(ValueError, match="other controls"):
            tokenising.tokenise(folder, "bytes", tmp_path / "out", controls=other)
    same(tokens, tokenising.tokenise(folder, "bytes", tmp_path / "out", controls=controls))


def test_labels_of_several_files_are_one_list(tmp_path):
    of = lambda *roles: spanned([[{"start": i, "stop": i + 1, "role": r} for i, r in enumerate(roles)]])  # noqa: E731
    folder = written(
        tmp_path / "texts",
        [
            pa.table({"text": ["abc"], "spans": of("z", "m", "z")}),
            pa.table({"text": ["abc"], "spans": of("b", "z", "m")}),
            pa.table({"text": ["abc"]}),
        ],
    )  # fmt: skip
    tokens = tokenising.tokenise(folder, "bytes", tmp_path / "out")
    assert [label.role for label in tokens.labels] == ["", "b", "m", "z"]
    assert tokens.marks.tolist() == [0, 3, 2, 3, 0, 1, 3, 2, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="257 kinds of spans, a store holds 256"):
        tokenising.encode(["a" * 256], "bytes", spans=of(*map(str, range(256))))


def test_the_first_tokens_keep_what_is_known():
    column = spanned([[{"start": 0, "stop": 1, "loss": False}], None])
    cut = tokenising.encode(["abc", "de"], "bytes", spans=column).first(5)
    assert cut.offsets.tolist() == [0, 4, 5]
    assert cut.loss(np.arange(5)).tolist() == [1, 0, 1, 1, 1]
    assert len(cut.keys) == 2
    assert cut.sizes is None


def test_identities_name_the_content():
    base = tokenising.encode(["abc", "de"], "bytes")
    others = [
        tokenising.encode(["abc", "df"], "bytes"), tokenising.encode(["abcd", "e"], "bytes"),
        tokenising.encode(["abc", "de"], "bytes", prefixes=["", ""]),
        tokenising.encode(["abc", "de"], "bytes", spans=spanned([[{"start": 0, "stop": 1, "role": "a"}], None])),
        tokenising.encode(["abc", "de"], "bytes", spans=spanned([[{"start": 0, "stop": 1, "role": "b"}], None])),
    ]  # fmt: skip
    assert len({t.identity() for t in [base, *others]}) == 6
    assert base.take(np.arange(2)).identity() == base.identity()
