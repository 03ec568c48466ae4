"""Contamination: what a document shares with evaluation items, whose it is, and what of each task was found.

A document that holds the question of a test item has seen the item, and a score on that item means less. Exact copies
are not the difficulty: items are short, copies are reformatted and edited, and most words that a document shares with
some item are phrases that belong to nobody. Two rules are in use for telling a copy from a phrase.

*Length.* 13 words in a row are a copy (Brown et al. 2020, appendix C). Hardly ever wrong, and blind to whatever has
fewer: a short question, half a question, one word in ten exchanged.

*Share.* Shorter runs count where together they make up enough of one item (allenai/decon: overlap of 5-token n-grams
in a cluster of hits, at least 0.8; Marin's datakit/decon.py: half of a paragraph's 13-grams).

Here both are measured, on runs of ``n`` words, 8 by default, and an item is found where either says so: 13 words in a
row, or a third of the words of one of its texts in one place of the document. A phrase of 8 words is a third of an item
only where the item has no more than 24, so what long items share with everybody (the wording of solutions, of
instructions) is no copy, and half of a question of 20 words is one. What a word is, is told in matching/words.py:
layout, case, accents and punctuation do not count.

1. ``index`` (a fitter) reads the items, a frame of ``id``, ``source`` (the task) and ``text``, which ``items`` makes of
   the usual files. Rows with the same source and id are one item in several texts: the question, and the question with
   its answer. Every run of ``n`` words of a text is a feature; a text of fewer words is one feature as a whole, if it
   has ``min_words``. What is shorter is not tested, for it would drown in false alarms; items left with no feature are
   counted. Features that occur in more than ``most_items`` items are the wording of a task, not of an item, and are
   left out; words that stand in no other feature do not count when shares are taken.
2. ``overlap`` (EACH) looks up every run of words of a document. A hit of the 64-bit hash is verified word by word. It
   writes

   ``contaminated_items``    how many items were found, by the rule above; 0 is clean
   ``contaminated_found``    which: a JSON list of [task, id], by task and id; null where there is none
   ``contaminated_share``    the largest share of the words of one text that stands in one place of the document
   ``contaminated_run``      words of the longest run shared with one text; 0 where no ``n`` words are shared
   ``contaminated_task``     the task of the item with that share (ties: the one with more words, then the first
   ``contaminated_item``     by task and id), and its id
   ``contaminated_ngram``    the words of the n-gram with which that place begins
   ``contaminated_start``    the place in the document: its first byte
   ``contaminated_end``      and the byte after it
   ``contaminated_ngrams``   positions in the document at which any feature begins

3. ``gate`` (two passes over narrow columns) counts what was found by task and writes ``contaminated``: items of each
   task that were found, tested and not testable, documents and bytes removed because of it.

    found = fit(contamination.index, contamination.Contamination(), read(contamination.items("evals/*.jsonl")))
    docs = docs.then(contamination.overlap, against=found)
    docs = docs.then(contamination.gate, index=found).keep(~pl.col("contaminated"), because="contaminated")

The rule of GPT-3 alone is an index of runs of 13 words, ``NGRAM13``: then whatever is shared is a copy.

Limits: a paraphrase or a translation shares no run of words and is never found, and neither is an answer of a few words
without its question; a shared quotation is found, though neither copied the other.

Cost: 80 MB of text a second and core; every worker holds the index, about 90 bytes a word of the items.
Elsewhere: the features, the search (matching/); near copies within a corpus (minhash.py); test documents in the arms
of a trial (trial.py).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.artifact import fitter
from curate.columns import BOOL, FLOAT32, INT32, INT64, TEXT
from curate.errors import BadData, UnknownSetting
from curate.matching import features
from curate.matching.features import Index
from curate.matching.items import Items, items
from curate.matching.search import evidence
from curate.matching.words import buffers
from curate.stage import ColumnType, Grain, PerPart, Rows, stage

__all__ = ["NGRAM13", "Contamination", "Gate", "Index", "Items", "Overlap", "gate", "index", "items", "overlap"]


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """How evaluation items are cut into features.

    Args:
        n: words in a run.
        min_words: a text of fewer words is not tested.
        most_items: a feature that occurs in more items is left out.
    """

    n: int = 8
    min_words: int = 5
    most_items: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.n or self.most_items < 1:
            raise UnknownSetting(
                f"n={self.n}, min_words={self.min_words}, most_items={self.most_items}", where="Contamination",
                fix="give 1 <= min_words <= n, and most_items of 1 or more",
            )  # fmt: skip


NGRAM13 = Contamination(n=13)
"""The rule of GPT-3 (Brown et al. 2020, appendix C), and shorter texts as a whole."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """When an item counts as found, and where to write it.

    Args:
        name: begins the names of the columns; several evaluation sets on one frame need several.
        run: an item is found where so many words in a row are shared,
        share: or this share of the words of one of its texts, in one place.
        gap: a place ends where more words than these stand between two shared runs.
    """

    name: str = "contaminated"
    run: int = 13
    share: float = 1 / 3
    gap: int = 12

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.run < 1 or self.gap < 0:
            raise UnknownSetting(
                f"run={self.run}, share={self.share}, gap={self.gap}", where="Overlap",
                fix="give 0 < share <= 1, run of 1 or more and gap of 0 or more",
            )  # fmt: skip

    def writes(self) -> dict[str, ColumnType]:
        """The ten columns."""
        kinds = {
            "items": INT32, "found": TEXT, "share": FLOAT32, "run": INT32, "task": TEXT, "item": TEXT, "ngram": TEXT,
            "start": INT64, "end": INT64, "ngrams": INT32,
        }  # fmt: skip
        return {f"{self.name}_{what}": kind for what, kind in kinds.items()}


@fitter(reads={"id": TEXT, "source": TEXT, "text": TEXT}, version="2")
def index(docs: pa.Table, config: Contamination, out: Path) -> dict[str, Any]:
    """Cut evaluation items into features, and write who has which; the files are told in matching/features.py.

    Returns:
        items, texts, untestable (items without a feature), ngrams and wholes (features of either kind), wording
        (features left out because too many items share them).
    """
    return features.write(docs, out, n=config.n, min_words=config.min_words, most_items=config.most_items)


def open_index(config: Overlap, against: Path) -> Index:
    """Open what ``index`` wrote.

    Args:
        config: settings of the stage.
        against: its directory.
    """
    return features.opened(against, where="contamination.overlap")


@stage(reads={"text": TEXT}, writes=Overlap.writes, grain=Grain.EACH, load=open_index, version="2")
def overlap(docs: pa.Table, config: Overlap, against: Index) -> pa.Table:
    """What of the evaluation items each document contains (see the module's story); no hit is 0 or null."""
    offsets, data = buffers(docs["text"])
    seen = evidence(offsets, data, against, gap=config.gap, run=config.run, share=config.share)
    hit = np.flatnonzero(seen.text >= 0)
    row = np.full(docs.num_rows, -1, dtype=np.int64)
    row[hit] = np.arange(len(hit))
    which = pa.array(row, mask=row < 0)                                # a document's row among those with a hit
    item = pa.array(against.item[seen.text[hit]])
    share = np.zeros(docs.num_rows, dtype=np.float32)
    share[hit] = seen.covered[hit] / against.units[seen.text[hit]]
    return pa.table({
        f"{config.name}_items": pa.array(np.bincount(seen.found[0], minlength=docs.num_rows), INT32),
        f"{config.name}_found": _named(seen.found, docs.num_rows, against),
        f"{config.name}_share": pa.array(share, FLOAT32),
        f"{config.name}_run": pa.array(seen.run, INT32),
        f"{config.name}_task": against.tasks.take(item).take(which),
        f"{config.name}_item": against.ids.take(item).take(which),
        f"{config.name}_ngram": against.words_of(seen.feature[hit]).take(which),
        f"{config.name}_start": pa.array(seen.start[hit], INT64).take(which),
        f"{config.name}_end": pa.array(seen.end[hit], INT64).take(which),
        f"{config.name}_ngrams": pa.array(seen.ngrams, INT32),
    })  # fmt: skip


def _named(found: np.ndarray, documents: int, against: Index) -> pa.Array:
    """Items found in each document as a JSON list of [task, id]."""
    named: list[str | None] = [None] * documents
    whose, which = found
    tasks, ids = (column.take(pa.array(which)).to_pylist() for column in (against.tasks, against.ids))
    ends = np.flatnonzero(np.diff(whose, append=-1)) + 1
    start = 0
    for end in ends.tolist():
        pairs = list(zip(tasks[start:end], ids[start:end], strict=True))
        named[int(whose[start])] = json.dumps(pairs, ensure_ascii=False, separators=(",", ":"))
        start = end
    return pa.array(named, TEXT)


# --- The gate -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What to count.

    Args:
        name: as in ``Overlap``; the column that is written.
        tokens: a column of token counts, to tell what was removed in tokens too.
    """

    name: str = "contaminated"
    tokens: str | None = None

    def reads(self) -> dict[str, pa.DataType]:
        """What was found, and what each document weighs."""
        more = {} if self.tokens is None else {self.tokens: INT64}
        return {f"{self.name}_items": INT32, f"{self.name}_found": TEXT, "text_bytes": INT64, **more}

    def writes(self) -> dict[str, ColumnType]:
        """The decision."""
        return {self.name: BOOL}


@stage(reads=Gate.reads, writes=Gate.writes, grain=Grain.WHOLE, rounds=True, version="1")
def gate(rows: Rows, config: Gate, index: Path | None = None) -> PerPart:
    """Whether each document holds an item; and in the report, by task, what was found and what it costs.

    Reported are ``documents``, ``contaminated documents``, ``share of documents`` and ``share of bytes`` (of tokens,
    where they are counted), and for every task TASK

    ``TASK: items``                 items of the task; told with ``index``, as the next two
    ``TASK: items tested``          those long enough to be looked for
    ``TASK: items not testable``    the others: of these nothing is known
    ``TASK: items found``           in at least one document
    ``TASK: documents``             that hold one; a document with items of two tasks counts for both
    ``TASK: share of bytes``        of these documents in all text (and of tokens)

    A null in ``NAME_items`` counts as contaminated: nothing passes that was not looked at.

    Args:
        rows: the frame.
        config: what to count.
        index: the folder of the index that ``overlap`` used.
    """
    tables = rows.map(_counted, reads=list(config.reads()), label="count", given=config)
    rows.report(_told(pa.concat_tables(tables) if tables else _counted(_nothing(config), config), index, config))
    return PerPart(_decided, (f"{config.name}_items",), config)


def _decided(docs: pa.Table, config: Gate) -> pa.Table:
    return pa.table({config.name: pc.greater(pc.fill_null(docs[f"{config.name}_items"], 1), 0)})


def _nothing(config: Gate) -> pa.Table:
    return pa.schema(config.reads()).empty_table()


def _counted(docs: pa.Table, config: Gate) -> pa.Table:
    """What a part adds: rows of (task, item, documents, bytes, tokens); the part's total has no task."""
    size = docs["text_bytes"].fill_null(0).to_pylist()
    tokens = docs[config.tokens].fill_null(0).to_pylist() if config.tokens else [0] * docs.num_rows
    sums: dict[tuple[str | None, str | None], list[int]] = {(None, None): [docs.num_rows, sum(size), sum(tokens)]}

    def add(task: str | None, item: str | None, row: int) -> None:
        entry = sums.setdefault((task, item), [0, 0, 0])
        for i, more in enumerate((1, size[row], tokens[row])):
            entry[i] += more

    gone = pc.greater(pc.fill_null(docs[f"{config.name}_items"], 1), 0)
    found = docs[f"{config.name}_found"]
    for row in np.flatnonzero(gone.to_numpy()).tolist():
        pairs = _pairs(found[row].as_py())
        add(None, "", row)
        for task in sorted({task for task, _ in pairs}):
            add(task, None, row)
        for task, item in pairs:
            add(task, item, row)
    keys, values = list(sums), list(sums.values())
    return pa.table({
        "task": pa.array([task for task, _ in keys], TEXT), "item": pa.array([item for _, item in keys], TEXT),
        **{name: pa.array([v[i] for v in values], INT64) for i, name in enumerate(("documents", "bytes", "tokens"))},
    })  # fmt: skip


def _pairs(found: str | None) -> list[list[str]]:
    """The [task, id] of a document, as ``overlap`` wrote them."""
    try:
        pairs = json.loads(found or "[]")
    except json.JSONDecodeError:
        pairs = None
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        raise BadData(
            "a list of found items that contamination.overlap did not write", where="contamination.gate",
            fix="give Gate the name that Overlap was given",
        )  # fmt: skip
    return pairs


def _told(counted: pa.Table, index: Path | None, config: Gate) -> dict[str, float | int | str]:
    """The report of all parts' counts."""
    sums = counted.group_by(["task", "item"], use_threads=False)
    names = ("documents", "bytes", "tokens")
    table = sums.aggregate([(name, "sum") for name in names]).to_pylist()
    by = {(row["task"], row["item"]): [row[f"{name}_sum"] for name in names] for row in table}
    whole = by[None, None]
    units = {"documents": 0, "bytes": 1} | ({"tokens": 2} if config.tokens else {})

    def shares(entry: list[int], prefix: str = "") -> dict[str, float | int | str]:
        return {f"{prefix}share of {unit}": entry[i] / whole[i] if whole[i] else 0.0 for unit, i in units.items()}

    gone = by.get((None, ""), [0, 0, 0])
    out: dict[str, float | int | str] = {"documents": whole[0], "contaminated documents": gone[0], **shares(gone)}
    known = _tested(index) if index is not None else {}
    found: dict[str, dict[str, int]] = {}
    for (task, item), entry in by.items():
        if task is not None and item is not None:
            found.setdefault(task, {})[item] = entry[0]
    for task in sorted({*known, *found}):
        if task in known:
            total, tested = known[task]
            out |= {f"{task}: items": total, f"{task}: items tested": tested}
            out[f"{task}: items not testable"] = total - tested
        entry = by.get((task, None), [0, 0, 0])
        out |= {f"{task}: items found": len(found.get(task, {})), f"{task}: documents": entry[0]}
        out |= shares(entry, f"{task}: ")
        if task in found:
            item, documents = min(found[task].items(), key=lambda pair: (-pair[1], pair[0]))
            out[f"{task}: most often"] = f"{item}, in {documents:,}"
    return out


def _tested(index: Path) -> Mapping[str, tuple[int, int]]:
    """Items of each task, and how many of them have a feature."""
    table = pq.read_table(index / "items.parquet", columns=["source", "features"])
    out: dict[str, tuple[int, int]] = {}
    for task, count in zip(table["source"].to_pylist(), table["features"].to_pylist(), strict=True):
        total, tested = out.get(task, (0, 0))
        out[task] = total + 1, tested + (count > 0)
    return out
