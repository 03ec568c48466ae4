"""Overlap with evaluation items: by hand, against a reference in plain Python, and across scripts."""

import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.columns import TEXT
from curate.contamination import (
    ALONE_BLOCKS,
    FOLD_SIZE,
    POINT,
    SILENT,
    Contamination,
    Overlap,
    _distinct,
    folding,
    index,
    normalised,
    open_index,
    overlap,
)
from curate.errors import BadInput, UnknownSetting

NO_SPACES = {c for a, b in (x.split("-") for x in ALONE_BLOCKS.split()) for c in range(int(a, 16), int(b, 16) + 1)}
# Abraham Lincoln, second inaugural address, 1865
LINCOLN = "With malice toward none, with charity for all, with firmness in the right as God gives us to see the right"


def words_of(text: str) -> list[str]:
    """The definition, a character at a time."""
    found = [""]
    for character in text:
        if unicodedata.category(character)[0] == "M" or unicodedata.category(character) == "Cf":
            continue
        if not character.isalnum() or character == "ʼ":
            found.append("")
            continue
        letters = [c for c in unicodedata.normalize("NFKD", character) if unicodedata.category(c)[0] != "M"]
        if letters:
            letter = (letters[0] if len(letters) == 1 else character).lower()[0].replace("ς", "σ")
            if not letter.isalnum():                             # U+037A is an accent on a space
                found.append("")
            else:
                found += [letter, ""] if ord(letter) in NO_SPACES else [found.pop() + letter]
    return [word for word in found if word]


def column(*values: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, TEXT)])


def items(*rows: tuple[str, str, str | None]) -> pa.Table:
    """Rows of (source, id, text)."""
    return pa.table({
        "id": pa.array([r[1] for r in rows], TEXT),
        "source": pa.array([r[0] for r in rows], TEXT),
        "text": pa.array([r[2] for r in rows], TEXT),
    })  # fmt: skip


def find(home: Path, rows: pa.Table, texts: list[str | None], **config: Any) -> list[tuple[Any, ...]]:
    """(ngrams, item, ngram, share) of each text."""
    index(rows, Contamination(**config), home)
    table = overlap(pa.table({"text": column(*texts)}), Overlap(), open_index(Overlap(), against=home))
    assert table.schema == pa.schema(dict(Overlap().writes()))
    return list(zip(*(c.to_pylist() for c in table.columns), strict=True))


def test_a_copy_is_found_whatever_its_layout(tmp_path):
    """21 words have 9 runs of 13; each layout below has all of them."""
    copies = [
        LINCOLN,
        LINCOLN.upper(),
        "before. " + LINCOLN.replace(" ", "\n") + ". And after",
        "* " + " -- ".join(LINCOLN.replace(",", "").split()),
        LINCOLN.replace(",", "，").replace(" ", "\u00a0"),
    ]
    thirteen = "with malice toward none with charity for all with firmness in the right"
    for got in find(tmp_path, items(("speech", "lincoln-2", LINCOLN)), copies):
        assert got == (9, "lincoln-2", thirteen, 1.0)


def test_one_word_less_than_n_is_no_hit(tmp_path):
    words = words_of(LINCOLN)
    texts = [" ".join(words[2:14]), " ".join(words[2:15]), "x " + " ".join(words[2:15]) + " x"]
    got = find(tmp_path, items(("speech", "a", LINCOLN)), texts)
    hit = (1, "a", " ".join(words[2:15]), np.float32(1 / 9))
    assert got == [(0, None, None, 0.0), hit, hit]


def test_short_items_are_features_as_a_whole(tmp_path):
    """An item of 8 words is found as a whole and not in part; one of 4 is not tested and counted."""
    eight, four = "what has keys but cannot open any lock", "what gets always wetter"
    rows = items(("riddle", "keys", eight), ("riddle", "towel", four))
    texts = [f"Riddle: {eight}?", "has keys but cannot open any lock", four, f"{eight} {eight}"]
    assert find(tmp_path, rows, texts) == [
        (1, "keys", eight, 1.0), (0, None, None, 0.0), (0, None, None, 0.0), (2, "keys", eight, 1.0),
    ]  # fmt: skip
    assert index(rows, Contamination(), tmp_path) == {
        "items": 2, "texts": 2, "untestable": 1, "ngrams": 0, "wholes": 1, "wording": 0,
    }  # fmt: skip
    assert find(tmp_path, rows, [four], min_words=4) == [(1, "towel", four, 1.0)]


def test_rows_of_one_item_are_its_texts(tmp_path):
    """The question alone (3 words) is a feature, and so are the two runs of 3 words that only the answer makes."""
    rows = items(("t", "q", "where are you"), ("t", "q", "where are you at home"), ("t", "p", "where are you from"))
    got = find(tmp_path, rows, ["where are you?", "are you at home", "so where are you from"], n=3, min_words=3)
    assert got == [
        (1, "p", "where are you", 0.5),                    # p has 2 features, q has 3: one of each, and p comes first
        (2, "q", "are you at", np.float32(2 / 3)),
        (2, "p", "where are you", 1.0),
    ]
    table = pq.read_table(tmp_path / "items.parquet")
    assert table.to_pylist() == [
        {"id": "p", "source": "t", "texts": 1, "features": 2}, {"id": "q", "source": "t", "texts": 2, "features": 3},
    ]  # fmt: skip


def test_all_items_of_a_run_are_credited(tmp_path):
    """Two tasks share a question; a document with the words that follow in the second is the second's."""
    rows = items(("b", "1", "one two three four five"), ("a", "1", "one two three"), ("b", "0", "nine nine nine"))
    got = find(tmp_path, rows, ["one two three", "zero one two three four"], n=3, min_words=3)
    assert got[0] == (1, "1", "one two three", 1.0)        # ("a", "1") comes first
    assert got[1] == (2, "1", "one two three", np.float32(2 / 3))


def test_the_wording_of_a_task_is_no_feature(tmp_path):
    said = "true or false it is said that"
    rows = items(("t", "0", f"{said} ice burns"), ("t", "1", f"{said} fire cools"))
    texts = ["true or false it is said that water flows", "it is said that ice burns"]
    assert [g[:2] for g in find(tmp_path, rows, texts, n=4, min_words=4)] == [(4, "0"), (3, "0")]
    assert [g[:2] for g in find(tmp_path, rows, texts, n=4, min_words=4, most_items=1)] == [(0, None), (2, "0")]
    assert index(rows, Contamination(n=4, min_words=4, most_items=1), tmp_path)["wording"] == 4


def test_scripts_without_spaces_count_characters(tmp_path):
    """The first article of the Universal Declaration of Human Rights, in Chinese, Thai, Greek and Hindi."""
    chinese = "人人生而自由，在尊严和权利上一律平等。"
    thai = "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ"
    greek = "ΟΛΟΙ ΟΙ ΑΝΘΡΩΠΟΙ ΓΕΝΝΙΟΥΝΤΑΙ ΕΛΕΥΘΕΡΟΙ ΚΑΙ ΙΣΟΙ ΣΤΗΝ ΑΞΙΟΠΡΕΠΕΙΑ ΚΑΙ ΤΑ ΔΙΚΑΙΩΜΑΤΑ ΤΟΥΣ ΟΛΟΙ"
    rows = items(("udhr", "zh", chinese), ("udhr", "th", thai), ("udhr", "el", greek))
    texts = [f"第一条 {chinese}他们", thai, greek.lower().replace("σ ", "ς "), "人人生而自由"]
    assert [g[1] for g in find(tmp_path, rows, texts)] == ["zh", "th", "el", None]
    assert words_of("第1条 ab人") == ["第", "1", "条", "ab", "人"]


def test_no_items_and_no_text(tmp_path):
    nothing = (0, None, None, 0.0)
    assert find(tmp_path, items(), ["some text", None, ""]) == [nothing] * 3
    assert find(tmp_path, items(("t", "empty", None), ("t", "blank", " \n")), ["", None]) == [nothing] * 2
    assert find(tmp_path, items(("t", "a", LINCOLN)), []) == []
    assert index(items(("t", "empty", None)), Contamination(), tmp_path)["untestable"] == 1


# --- Laws -------------------------------------------------------------------------------------------------------------

WORD = st.sampled_from(["a", "b", "A'", "ß", "1_a", "人", "é", "e\u0301"])
TEXTS = st.lists(st.lists(WORD, max_size=12).map(" ".join) | st.text(max_size=20), max_size=5)


def reference(rows: list[tuple[str, str, str]], text: str, n: int, min_words: int) -> tuple[Any, ...]:
    """By sets of tuples of words."""
    features: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for source, name, item in rows:
        mine = features.setdefault((source, name), set())
        w = words_of(item)
        if len(w) >= n:
            mine |= {tuple(w[i : i + n]) for i in range(len(w) - n + 1)}
        elif len(w) >= min_words:
            mine.add(tuple(w))
    every = set().union(*features.values())
    w = words_of(text)
    runs = [(i, tuple(w[i : i + k])) for i in range(len(w)) for k in range(min_words, n + 1) if i + k <= len(w)]
    runs = [(i, run) for i, run in runs if run in every]
    ranked = sorted((-len(mine & {r for _, r in runs}), who) for who, mine in features.items())
    if not runs:
        return 0, None, None, 0.0
    hits, who = ranked[0]
    first = min(i for i, run in runs if run in features[who])
    starts = {" ".join(run) for i, run in runs if i == first and run in features[who]}
    return len({i for i, _ in runs}), who[1], starts, np.float32(-hits / len(features[who]))


@settings(max_examples=80, deadline=None)
@given(evaluation=TEXTS, documents=TEXTS, n=st.integers(1, 5), less=st.integers(0, 3), cut=st.integers(0, 5))
def test_it_agrees_with_sets_of_words(tmp_path_factory, evaluation, documents, n, less, cut):
    home = tmp_path_factory.mktemp("index")
    min_words = max(n - less, 1)
    rows = [("ab"[i % 2], str(i // 3), text) for i, text in enumerate(evaluation)]
    documents = [*documents, " ".join(evaluation)]
    got = find(home, items(*rows), documents, n=n, min_words=min_words)
    for text, (ngrams, item, ngram, share) in zip(documents, got, strict=True):
        want = reference(rows, text, n, min_words)
        assert (ngrams, item, share) == (want[0], want[1], want[3])
        assert ngram is None if item is None else ngram in want[2]
    table = pa.table({"text": column(*documents)})
    opened = open_index(Overlap(), against=home)
    parts = [overlap(t, Overlap(), opened) for t in (table[:cut], table[cut:])]
    assert pa.concat_tables(parts).combine_chunks() == overlap(table, Overlap(), opened).combine_chunks()


@given(st.lists(st.text() | st.none(), max_size=5))
def test_normalised_words_are_the_definition(values):
    assert normalised(column(*values)).to_pylist() == [" ".join(words_of(v or "")) for v in values]


def test_every_character_counts_as_python_says():
    fold = folding()
    assert not any(chr(c).isalnum() for c in range(FOLD_SIZE, sys.maxunicode + 1))
    text = " ".join(chr(c) for c in range(FOLD_SIZE) if not 0xD800 <= c < 0xE000)
    assert normalised(column(text)).to_pylist() == [" ".join(words_of(text))]
    folded = fold[(fold > 0) & (fold != SILENT)]
    assert (fold[folded & POINT] == folded).all()           # folding twice changes nothing


def test_one_letter_in_many_forms_is_one_letter():
    wide, hidden = "\uff23\uff21\uff26\uff25 n, \uff11\uff12", "ca\u00adfe\u200d _n_ **12**"
    forms = ["Caf\u00e9 n\u00b0 12", "cafe\u0301 N\u00b0 12", wide, hidden]
    assert normalised(column(*forms)).to_pylist() == ["cafe n 12"] * 4
    assert normalised(column("couldn't", "COULDN’T", "couldnʼt", "İstanbul ﬁn", "ガ", "か\u3099")).to_pylist() == [
        "couldn t", "couldn t", "couldn t", "istanbul ﬁn", "カ", "か",
    ]  # fmt: skip


def test_runs_that_share_a_hash_stay_apart():
    """With one hash for all, equal words still have one number and different words different ones."""
    data = np.frombuffer(b"aabbaacaa", dtype=np.uint8)
    starts, ends = np.array([0, 2, 4, 6, 7]), np.array([2, 4, 6, 7, 9])
    feature = np.empty(5, dtype=np.int64)
    assert _distinct(np.zeros(5, dtype=np.uint64), starts, ends, data, feature) == 3
    assert feature.tolist() == [0, 1, 0, 2, 0]


def test_two_indexes_on_one_frame(tmp_path):
    config = Overlap(name="in_trial")
    index(items(("t", "a", LINCOLN)), Contamination(), tmp_path)
    table = overlap(pa.table({"text": column(LINCOLN)}), config, open_index(config, against=tmp_path))
    assert table.column_names == ["in_trial_ngrams", "in_trial_item", "in_trial_ngram", "in_trial_share"]


def test_wrong_use_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="holds no index"):
        open_index(Overlap(), against=tmp_path)
    with pytest.raises(UnknownSetting, match="min_words=9"):
        Contamination(n=8, min_words=9)
