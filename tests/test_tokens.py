"""A tokenizer fitted here, and counts that no setting of a published file can change."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.columns import INT64, TEXT
from curate.errors import BadInput, BadPlan
from curate.tokens import Bpe, Count, count, open_tokenizer, train_bpe

tokenizers = pytest.importorskip("tokenizers", reason="the extra `train` is not installed")

SAMPLE = [
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must want a wife.",
    "However little known the feelings or views of such a man may be on his first entering a neighbourhood.",
] * 3                                                      # after Jane Austen, Pride and Prejudice, 1813


def texts(*values: str | None) -> pa.Table:
    return pa.table({"text": pa.array(values, TEXT)})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer")
    train_bpe(texts(*SAMPLE), Bpe(vocabulary=300), out)
    return out


def counted(home: Path, table: pa.Table, config: Count = Count()) -> list[int | None]:      # noqa: B008
    result = count(table, config, open_tokenizer(config, tokenizer=home))
    assert result.schema == pa.schema({config.column: INT64})
    return result[config.column].to_pylist()


def test_one_merge_by_hand(tmp_path):
    """'ab ab ab ab' holds the words 'ab' and three times ' ab': the pair a,b occurs 4 times, space,a 3 times."""
    report = train_bpe(texts("ab ab ab ab"), Bpe(vocabulary=258), tmp_path)
    assert report == {"vocabulary": 258, "sample_bytes": 11, "bytes_per_token": 11 / 7}
    assert counted(tmp_path, texts("ab", "ab ab", "abba", "b a", "")) == [1, 3, 3, 3, 0]


def test_a_null_has_no_count_and_slices_are_themselves(fitted):
    table = texts("one man", None, "", "x\0y")
    assert counted(fitted, table)[1:3] == [None, 0]
    assert counted(fitted, table[2:]) == counted(fitted, table)[2:]
    assert counted(fitted, pa.concat_tables([table, table])) == counted(fitted, table) * 2
    assert counted(fitted, table[:0]) == []
    assert counted(fitted, table[:0], Count(column="small_tokens")) == []


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text()))
def test_every_text_comes_back(fitted, values):
    tokenizer = open_tokenizer(Count(), fitted)
    encoded = [tokenizer.encode(v, add_special_tokens=False).ids for v in values]
    assert [tokenizer.decode(ids) for ids in encoded] == values
    assert counted(fitted, texts(*values)) == [len(ids) for ids in encoded]


def test_special_tokens_are_neither_added_nor_found(fitted):
    home = tokenizers.Tokenizer.from_file(str(fitted / "tokenizer.json"))
    assert home.token_to_id("<|endoftext|>") == 0
    assert counted(fitted, texts("<|endoftext|>"))[0] > 1


def test_truncation_and_padding_of_a_published_file_do_not_count(fitted, tmp_path):
    published = tokenizers.Tokenizer.from_file(str(fitted / "tokenizer.json"))
    published.enable_truncation(4)
    published.enable_padding(length=16)
    published.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    published.save(str(tmp_path / "tokenizer.json"))
    table = texts("a", "the feelings or views of such a man")
    assert counted(tmp_path, table) == counted(fitted, table)


def test_texts_larger_than_a_batch(fitted):
    """Batches are cut by bytes; a text of more than a batch is a batch of its own."""
    long = "a man of good fortune " * 60_000                  # 1.3 MB
    one = counted(fitted, texts("a man of good fortune "))[0]
    table = texts("x", long, "a man", *["y"] * 5)
    got = counted(fitted, table)
    assert got == [c for v in table["text"] for c in counted(fitted, pa.table({"text": pa.array([v.as_py()], TEXT)}))]
    assert abs(got[1] - 60_000 * one) <= 60_000


def test_the_same_sample_gives_the_same_file_in_another_process(fitted, tmp_path):
    code = (
        "import sys, pyarrow as pa; from pathlib import Path; from curate.tokens import Bpe, train_bpe\n"
        "texts = pa.table({'text': pa.array(sys.argv[2:], pa.large_string())})\n"
        "train_bpe(texts, Bpe(vocabulary=300), Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "3"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path), *SAMPLE], check=True, env=environment)
    ours, theirs = (hashlib.sha256((p / "tokenizer.json").read_bytes()).hexdigest() for p in (fitted, tmp_path))
    assert ours == theirs


def test_wrong_use_is_an_error(tmp_path):
    with pytest.raises(BadInput, match=r"holds no tokenizer\.json"):
        open_tokenizer(Count(), tmp_path)
    with pytest.raises(BadPlan, match="256 bytes"):
        train_bpe(texts("a"), Bpe(vocabulary=256), tmp_path)
