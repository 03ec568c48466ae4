"""Overlap with evaluation items: by hand, against a reference in plain Python, and across scripts."""

import gzip
import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import sources
from curate.columns import INT32, INT64, TEXT
from curate.contamination import (
    NGRAM13,
    Contamination,
    Gate,
    Overlap,
    gate,
    index,
    open_index,
    overlap,
)
from curate.contamination import (
    items as files_of_items,
)
from curate.engines.local import Local
from curate.errors import BadData, BadInput, UnknownSetting
from curate.hashing import files_hash
from curate.matching.features import distinct
from curate.matching.items import Unknown, texts_of
from curate.matching.words import ALONE_BLOCKS, FOLD_SIZE, POINT, SILENT, folding, normalised
from curate.plan import fit, plan, read, write
from curate.report import page
from curate.run import run
from curate.select import uniform
from curate.store import Store
from curate.testing import run_rounds

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


RULE = Overlap()


def find(home: Path, rows: pa.Table, texts: list[str | None], rule: Overlap = RULE, **config: Any) -> list[dict]:
    """What is written of each text, without the name before each column."""
    index(rows, Contamination(**config), home)
    table = overlap(pa.table({"text": column(*texts)}), rule, open_index(rule, against=home))
    assert table.schema == pa.schema(dict(rule.writes()))
    return [{k.removeprefix("contaminated_"): v for k, v in row.items()} for row in table.to_pylist()]


def only(found: list[dict], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in found]


NOTHING = {
    "items": 0, "found": None, "share": 0.0, "run": 0, "task": None, "item": None, "ngram": None, "start": None,
    "end": None, "ngrams": 0,
}  # fmt: skip


def test_a_copy_is_found_whatever_its_layout(tmp_path):
    """21 words have 14 runs of 8; each layout below has all of them."""
    copies = [
        LINCOLN,
        LINCOLN.upper(),
        "before. " + LINCOLN.replace(" ", "\n") + ". And after",
        "* " + " -- ".join(LINCOLN.replace(",", "").split()),
        LINCOLN.replace(",", "，").replace(" ", "\u00a0"),
    ]
    for got, text in zip(find(tmp_path, items(("speech", "lincoln-2", LINCOLN)), copies), copies, strict=True):
        start, end = got.pop("start"), got.pop("end")
        assert normalised(column(text.encode()[start:end].decode())).to_pylist() == [" ".join(words_of(LINCOLN))]
        assert got == {
            "items": 1, "found": '[["speech","lincoln-2"]]', "share": 1.0, "run": 21, "task": "speech",
            "item": "lincoln-2", "ngram": "with malice toward none with charity for all", "ngrams": 14,
        }  # fmt: skip


def test_the_rule_of_thirteen_words(tmp_path):
    """GPT-3's rule: 13 words in a row are a copy, 12 are none, whatever share of the item they are."""
    words = words_of(LINCOLN)
    texts = [" ".join(words[2:14]), " ".join(words[2:15]), "x " + " ".join(words[2:15]) + " x"]
    got = find(tmp_path, items(("speech", "a", LINCOLN)), texts, n=NGRAM13.n)
    assert only(got, "items", "run", "ngram") == [(0, 0, None), *[(1, 13, " ".join(words[2:15]))] * 2]
    assert only(got, "share") == [(0.0,), *[(np.float32(13 / 21),)] * 2]


def test_a_run_counts_by_its_share_of_the_item(tmp_path):
    """8 words are a third of 24 and less of 25; 12 words of a long text are no copy, and 13 are."""
    letters = [f"w{i}" for i in range(100)]
    rows = items(*(("t", str(n), " ".join(f"x{n}{w}" for w in letters[:n])) for n in (24, 25, 100)))
    texts = [" ".join(f"x{n}{w}" for w in letters[:many]) for n, many in ((24, 8), (25, 8), (100, 12), (100, 13))]
    got = find(tmp_path, rows, texts)
    assert only(got, "items", "run", "item") == [(1, 8, "24"), (0, 8, "25"), (0, 12, "100"), (1, 13, "100")]
    assert only(got, "share") == [(np.float32(x),) for x in (8 / 24, 8 / 25, 0.12, 0.13)]
    strict = find(tmp_path, rows, texts, Overlap(share=1.0, run=100))
    assert only(strict, "items", "share") == [(0, np.float32(x)) for x in (8 / 24, 8 / 25, 0.12, 0.13)]


def test_a_place_ends_at_a_gap(tmp_path):
    """Two runs of 8 of an item of 40 words: 16 of 40 where they stand together, 8 where 13 words part them."""
    words = [f"w{i}" for i in range(40)]
    first, second = " ".join(words[:8]), " ".join(words[20:28])
    texts = [f"{first} {'- and ' * 12} {second}", f"{first} {'and ' * 13} {second}", f"{second} {first} {second}"]
    got = find(tmp_path, items(("t", "a", " ".join(words))), texts)
    assert only(got, "items", "share", "run") == [
        (1, np.float32(16 / 40), 8), (0, np.float32(8 / 40), 8), (1, np.float32(16 / 40), 8),
    ]  # fmt: skip
    assert only(got, "start", "end") == [(0, len(texts[0])), (0, len(first)), (0, len(f"{second} {first}"))]


def test_short_items_are_features_as_a_whole(tmp_path):
    """An item of 7 words is found as a whole and not in part; one of 4 is not tested and counted."""
    seven, four = "what has keys but opens no lock", "what gets always wetter"
    rows = items(("riddle", "keys", seven), ("riddle", "towel", four))
    texts = [f"Riddle: {seven}?", "has keys but opens no lock", four, f"{seven} {seven}"]
    got = find(tmp_path, rows, texts)
    assert only(got, "items", "item", "ngrams", "run") == [(1, "keys", 1, 7), (0, None, 0, 0), (0, None, 0, 0),
                                                           (1, "keys", 2, 7)]  # fmt: skip
    assert got[1] == got[2] == NOTHING
    assert index(rows, Contamination(), tmp_path) == {
        "items": 2, "texts": 2, "untestable": 1, "ngrams": 0, "wholes": 1, "wording": 0,
    }  # fmt: skip
    assert only(find(tmp_path, rows, [four], min_words=4), "item", "share") == [("towel", 1.0)]


def test_rows_of_one_item_are_its_texts(tmp_path):
    """A question is found alone; with its answer, the text that both make is found."""
    rows = items(("t", "q", "where are you"), ("t", "q", "where are you at home"), ("t", "p", "where are you from"))
    got = find(tmp_path, rows, ["where are you?", "are you at home", "so where are you from"], n=3, min_words=3)
    assert only(got, "item", "share", "ngram", "found") == [
        ("q", 1.0, "where are you", '[["t","p"],["t","q"]]'),           # the question; and three of the four words of p
        ("q", np.float32(0.8), "are you at", '[["t","q"]]'),
        ("p", 1.0, "where are you", '[["t","p"],["t","q"]]'),           # 4 words, where q has 3
    ]
    assert pq.read_table(tmp_path / "items.parquet").to_pylist() == [
        {"id": "p", "source": "t", "texts": 1, "features": 2}, {"id": "q", "source": "t", "texts": 2, "features": 3},
    ]  # fmt: skip


def test_the_first_of_equal_items_is_named(tmp_path):
    rows = items(("b", "1", "one two three"), ("a", "2", "one two three"), ("a", "1", "nine nine nine"))
    [got] = find(tmp_path, rows, ["one two three"], n=3, min_words=3)
    assert (got["task"], got["item"], got["found"], got["items"]) == ("a", "2", '[["a","2"],["b","1"]]', 2)


def test_the_wording_of_a_task_is_no_feature(tmp_path):
    """Words that stand in no other feature do not count in shares either."""
    said = "true or false it is said that"
    rows = items(("t", "0", f"{said} ice burns"), ("t", "1", f"{said} fire cools"))
    texts = ["true or false it is said that water flows", "it is said that ice burns", "is said that ice burns"]
    got = find(tmp_path, rows, texts, n=4, min_words=4)
    assert only(got, "ngrams", "item") == [(4, "0"), (3, "0"), (2, "0")]
    got = find(tmp_path, rows, texts, n=4, min_words=4, most_items=1)
    assert only(got, "ngrams", "item", "share") == [(0, None, 0.0), (2, "0", 1.0), (2, "0", 1.0)]
    assert index(rows, Contamination(n=4, min_words=4, most_items=1), tmp_path)["wording"] == 4
    texts = pq.read_table(tmp_path / "texts.parquet").to_pylist()
    assert texts == [{"item": i, "words": 9, "units": 5} for i in (0, 1)]


def test_scripts_without_spaces_count_characters(tmp_path):
    """The first article of the Universal Declaration of Human Rights, in Chinese, Thai, Greek and Hindi."""
    chinese = "人人生而自由，在尊严和权利上一律平等。"
    thai = "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ"
    greek = "ΟΛΟΙ ΟΙ ΑΝΘΡΩΠΟΙ ΓΕΝΝΙΟΥΝΤΑΙ ΕΛΕΥΘΕΡΟΙ ΚΑΙ ΙΣΟΙ ΣΤΗΝ ΑΞΙΟΠΡΕΠΕΙΑ ΚΑΙ ΤΑ ΔΙΚΑΙΩΜΑΤΑ ΤΟΥΣ ΟΛΟΙ"
    rows = items(("udhr", "zh", chinese), ("udhr", "th", thai), ("udhr", "el", greek))
    texts = [f"第一条 {chinese}他们", thai, greek.lower().replace("σ ", "ς "), "人人生而自由"]
    assert only(find(tmp_path, rows, texts), "item") == [("zh",), ("th",), ("el",), (None,)]
    assert words_of("第1条 ab人") == ["第", "1", "条", "ab", "人"]


def test_no_items_and_no_text(tmp_path):
    assert find(tmp_path, items(), ["some text", None, ""]) == [NOTHING] * 3
    assert find(tmp_path, items(("t", "empty", None), ("t", "blank", " \n")), ["", None]) == [NOTHING] * 2
    assert find(tmp_path, items(("t", "a", LINCOLN)), []) == []
    assert index(items(("t", "empty", None)), Contamination(), tmp_path)["untestable"] == 1


# --- Laws -------------------------------------------------------------------------------------------------------------

WORD = st.sampled_from(["a", "b", "A'", "ß", "1_a", "人", "é", "e\u0301"])
TEXTS = st.lists(st.lists(WORD, max_size=12).map(" ".join) | st.text(max_size=20), max_size=5)


def reference(rows: list[tuple[str, str, str]], text: str, n: int, min_words: int, rule: Overlap) -> dict[str, Any]:
    """By lists of words, text by text."""
    w, best, run, found, begins = words_of(text), None, 0, set(), set()
    for source, name, item in rows:
        mine = words_of(item)
        size = n if len(mine) >= n else len(mine)
        if size < min_words:
            continue
        hits = [
            (p, at) for p in range(len(w) - size + 1) for at in range(len(mine) - size + 1)
            if w[p : p + size] == mine[at : at + size]
        ]  # fmt: skip
        begins |= {p for p, _ in hits}
        longest = max((k for k in range(len(w) + 1) for p, at in hits
                       if {(p + i, at + i) for i in range(k - size + 1)} <= set(hits) and k >= size), default=0)
        run = max(run, longest)
        places: list[list[tuple[int, int]]] = []
        for p, at in hits:
            if not places or p - (places[-1][-1][0] + size) > rule.gap:
                places.append([])
            places[-1].append((p, at))
        for place in places:
            covered = len({at + i for _, at in place for i in range(size)})
            best = min(best or (1,), (-covered / len(mine), -covered, source, name))
            if covered >= rule.share * len(mine) or longest >= rule.run:
                found.add((source, name))
    pairs = "[" + ",".join(f'["{a}","{b}"]' for a, b in sorted(found)) + "]" if found else None
    share, _, task, name = best or (0.0, 0, None, None)
    return {
        "items": len(found), "found": pairs, "share": np.float32(-share), "run": run, "task": task, "item": name,
        "ngrams": len(begins),
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    evaluation=TEXTS, documents=TEXTS, n=st.integers(1, 5), less=st.integers(0, 3), gap=st.integers(0, 3),
    run=st.integers(1, 6), share=st.sampled_from([0.3, 0.5, 1.0]), cut=st.integers(0, 5),
)  # fmt: skip
def test_it_agrees_with_lists_of_words(tmp_path_factory, evaluation, documents, n, less, gap, run, share, cut):
    home = tmp_path_factory.mktemp("index")
    min_words = max(n - less, 1)
    rule = Overlap(gap=gap, run=run, share=share)
    rows = [("ab"[i % 2], str(i // 3), text) for i, text in enumerate(evaluation)]
    documents = [*documents, " ".join(evaluation), " and ".join(reversed(evaluation))]
    got = find(home, items(*rows), documents, rule, n=n, min_words=min_words)
    for text, row in zip(documents, got, strict=True):
        want = reference(rows, text, n, min_words, rule)
        assert {name: row[name] for name in want} == want
        if row["item"] is not None:
            place = text.encode()[row["start"] : row["end"]].decode()
            assert " ".join(words_of(place)).startswith(row["ngram"])
    table = pa.table({"text": column(*documents)})
    opened = open_index(rule, against=home)
    parts = [overlap(t, rule, opened) for t in (table[:cut], table[cut:])]
    assert pa.concat_tables(parts).combine_chunks() == overlap(table, rule, opened).combine_chunks()


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
    assert distinct(np.zeros(5, dtype=np.uint64), starts, ends, data, feature) == 3
    assert feature.tolist() == [0, 1, 0, 2, 0]


def test_two_indexes_on_one_frame(tmp_path):
    config = Overlap(name="in_trial")
    index(items(("t", "a", LINCOLN)), Contamination(), tmp_path)
    table = overlap(pa.table({"text": column(LINCOLN)}), config, open_index(config, against=tmp_path))
    assert set(table.column_names) == {f"in_trial_{name}" for name in NOTHING}


def test_wrong_use_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="holds no index"):
        open_index(Overlap(), against=tmp_path)
    with pytest.raises(UnknownSetting, match="min_words=9"):
        Contamination(n=8, min_words=9)
    with pytest.raises(UnknownSetting, match=r"share=1\.5"):
        Overlap(share=1.5)


# --- The gate ---------------------------------------------------------------------------------------------------------


def test_the_gate_counts_by_task(tmp_path):
    """Four items of two tasks, one too short; two documents of five hold some of them, in two parts."""
    keys, comb, short = "what has keys but opens no lock", "what has many teeth and cannot bite", "who am i"
    rows = items(("riddle", "keys", keys), ("riddle", "comb", comb), ("riddle", "i", short), ("speech", "l", LINCOLN))
    texts = ["nothing", f"{keys} {LINCOLN}", comb[:-5], f"{keys}, {keys}", "also nothing"]
    index(rows, Contamination(), tmp_path)
    seen = overlap(pa.table({"text": column(*texts)}), Overlap(), open_index(Overlap(), against=tmp_path))
    table = seen.select(["contaminated_items", "contaminated_found"]).append_column(
        "text_bytes", pa.array([10, 40, 20, 20, 10], INT64)
    )
    table = table.append_column("tokens", pa.array([1, 4, None, 2, 1], INT64))
    config = Gate(tokens="tokens")
    answer, ran = run_rounds(gate, [table[:2], table[2:]], config, index=tmp_path)
    assert answer["contaminated"].to_pylist() == [False, True, False, True, False]
    assert ran.reported == {
        "documents": 5, "contaminated documents": 2,
        "share of documents": 0.4, "share of bytes": 0.6, "share of tokens": 0.75,
        "riddle: items": 3, "riddle: items tested": 2, "riddle: items not testable": 1, "riddle: items found": 1,
        "riddle: documents": 2, "riddle: share of documents": 0.4, "riddle: share of bytes": 0.6,
        "riddle: share of tokens": 0.75, "riddle: most often": "keys, in 2",
        "speech: items": 1, "speech: items tested": 1, "speech: items not testable": 0, "speech: items found": 1,
        "speech: documents": 1, "speech: share of documents": 0.2, "speech: share of bytes": 0.4,
        "speech: share of tokens": 0.5, "speech: most often": "l, in 1",
    }  # fmt: skip


def test_what_was_not_looked_at_does_not_pass():
    table = pa.table({
        "contaminated_items": pa.array([0, None], INT32), "contaminated_found": pa.array([None, None], TEXT),
        "text_bytes": pa.array([1, 1], INT64),
    })  # fmt: skip
    answer, ran = run_rounds(gate, [table], Gate())
    assert answer["contaminated"].to_pylist() == [False, True]
    assert ran.reported["contaminated documents"] == 1
    other = table.set_column(1, "contaminated_found", pa.array([None, "[1]"], TEXT))
    with pytest.raises(BadData, match="did not write"):
        run_rounds(gate, [other], Gate())


# --- Items from files -------------------------------------------------------------------------------------------------

FORMS = [
    ({"query": "Question: Why?\nAnswer:", "choices": ["a b", "c"], "gold": 0}, ["Why?", "Why?\na b"]),
    ({"query": "", "choices": ["He ran.", "He runned."], "gold": 0}, ["He ran."]),
    ({"question": "2+2?", "answer": "4", "solution": "2 and 2 is 4"}, ["2+2?", "2+2?\n2 and 2 is 4"]),
    ({"context_options": ["As Bob", "As Al"], "continuation": "won.", "gold": 1}, ["As Al won."]),
    # as on the Hugging Face Hub: ARC, MMLU, HellaSwag, WinoGrande, PIQA, GSM8K, HumanEval, OpenBookQA, BLiMP
    ({"question": "Why?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}, ["Why?", "Why?\ny"]),
    ({"question": "Why?", "choices": ["w", "x", "y", "z"], "answer": 3}, ["Why?", "Why?\nz"]),
    ({"ctx": "She", "endings": ["sat.", "it."], "label": "0", "activity_label": "x"}, ["She", "She\nsat."]),
    ({"sentence": "Now _ won.", "option1": "Al", "option2": "Bo", "answer": "1"}, ["Now Al won."]),
    ({"goal": "Open it", "sol1": "push", "sol2": "pull", "label": 1}, ["Open it", "Open it\npull"]),
    ({"question": "2+2?", "answer": "It is 4. #### 4"}, ["2+2?", "2+2?\nIt is 4. #### 4"]),
    ({"prompt": "def f():", "canonical_solution": " return 1"}, ["def f():", "def f():\n return 1"]),
    ({"question_stem": "Why?", "choices": {"text": ["x"], "label": ["A"]}, "answerKey": "A"}, ["Why?", "Why?\nx"]),
    ({"sentence_good": "He ran.", "sentence_bad": "He runned."}, ["He ran."]),
    ({"text": "just a text"}, ["just a text"]),
]  # fmt: skip


@pytest.mark.parametrize(("item", "texts"), FORMS, ids=lambda x: ",".join(x) if isinstance(x, dict) else None)
def test_forms_of_items(item, texts):
    assert texts_of(item) == texts


def test_every_choice_of_an_item():
    item = {"query": "Why?", "choices": ["x", "y"], "gold": 0}
    assert texts_of(item, every_choice=True) == ["Why?", "Why?\nx", "Why?\ny"]
    for odd in ({"query": "Why?", "choices": ["x"], "gold": 3}, {"x": 1}, {"question": " "}):
        with pytest.raises(Unknown):
            texts_of(odd)


def test_items_of_files(tmp_path):
    lines = ['{"id":7,"task":"t","query":"Why?","choices":["x"],"gold":0}', "", "[1]", '{"b":1}', '{"question":"Who?"}']
    (tmp_path / "quiz.jsonl").write_text("\n".join(lines))
    with gzip.open(tmp_path / "more.jsonl.gz", "wt") as file:
        file.write(lines[0])
    pq.write_table(pa.table({"question": ["Q"], "answer": ["A"]}), tmp_path / "p.parquet")
    source = files_of_items(str(tmp_path / "*"))
    pieces = {Path(f.path).name: list(source.read(f)) for f in source.listing()}
    rows = {name: [tuple(r.values())[:3] for p in found for r in p.table.to_pylist()] for name, found in pieces.items()}
    assert rows == {
        "more.jsonl.gz": [("7", "Why?", "t"), ("7", "Why?\nx", "t")],
        "p.parquet": [("p.parquet:0", "Q", "p"), ("p.parquet:0", "Q\nA", "p")],
        "quiz.jsonl": [("7", "Why?", "t"), ("7", "Why?\nx", "t"), ("quiz.jsonl:3", "Who?", "quiz")],
    }
    bad = [(b.offset, b.length, b.rows, b.error) for p in pieces["quiz.jsonl"] for b in p.bad]
    at = len(lines[0]) + 2
    assert bad == [
        (at, 4, 1, "no evaluation item: the line is no JSON object"),
        (at + 4, 8, 1, "no evaluation item: neither a question nor an answer (it has b)"),
    ]
    renamed = files_of_items(str(tmp_path / "p.parquet"), task="mine")
    assert next(iter(renamed.read(renamed.listing()[0]))).table["source"].to_pylist() == ["mine", "mine"]
    assert renamed.identity() != files_of_items("x").identity()
    with pytest.raises(BadInput, match="no file matches"):
        files_of_items(str(tmp_path / "*.none")).listing()


def test_items_of_a_folder(tmp_path):
    """Files of items at any depth; what is called otherwise, and what is hidden, is none."""
    (tmp_path / "evals" / "more").mkdir(parents=True)
    for name in ("a.jsonl", "more/b.parquet", "c.jsonl.gz", "README.md", ".hidden.jsonl"):
        (tmp_path / "evals" / name).write_bytes(b"")
    listed = files_of_items(str(tmp_path / "evals")).listing()
    assert [Path(file.path).name for file in listed] == ["a.jsonl", "c.jsonl.gz", "b.parquet"]
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInput, match="no file matches"):
        files_of_items(str(tmp_path / "none")).listing()


def test_the_index_does_not_depend_on_how_rows_are_chunked(tmp_path):
    rows = items(("t", "a", LINCOLN), ("t", "b", "another text of at least eight words or more"))
    index(rows, Contamination(), tmp_path)
    before = files_hash(tmp_path)
    index(pa.concat_tables([rows[:1], rows[1:]]), Contamination(), tmp_path)
    assert files_hash(tmp_path) == before


def test_a_run_with_a_gate_reports_by_task(tmp_path):
    """Read, index, search, gate and rule; the report's page tells what was found of each task."""
    (tmp_path / "evals").mkdir()
    quiz = [
        {"id": "q1", "question": "Which river runs through the town of the seven old bridges?", "answer": "the Pregel"},
        {"id": "q2", "question": "Who?", "answer": "I"},
    ]
    (tmp_path / "evals" / "quiz.jsonl").write_text("\n".join(map(json.dumps, quiz)))
    texts = [f"number {i} of some documents with words that are in no quiz" for i in range(8)]
    texts[3] = "Trivia: which river runs through the town of the seven old BRIDGES..."
    rows = [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = fit(index, Contamination(), read(files_of_items(str(tmp_path / "evals" / "*.jsonl"))))
    docs = read(sources.jsonl(str(tmp_path / "docs.jsonl"))).then(overlap, against=found).then(gate, index=found)
    docs = docs.keep(~pl.col("contaminated"), because="contaminated")
    made = plan(write({"all": docs.select(uniform(label="all"), rows=99)}))
    store = Store(str(tmp_path / "store"))
    outcome = run(made, name="gated", store=store, open_engine=Local)
    [report] = [s["report"] for s in outcome.manifest["steps"] if "quiz: items" in s.get("report", {})]
    wanted = {"items": 2, "items tested": 1, "items not testable": 1, "items found": 1, "documents": 1,
              "share of documents": 1 / 8, "most often": "q1, in 1"}  # fmt: skip
    assert {name: report[f"quiz: {name}"] for name in wanted} == wanted
    assert [s["dropped"] for s in outcome.manifest["steps"] if s.get("dropped")] == [{"contaminated": 1}]
    shown = page(store, outcome.folder, outcome.manifest)
    assert "Evaluation items" in shown and "1 of 8 documents hold an item" in shown and "q1, in 1" in shown
