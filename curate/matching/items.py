"""Evaluation items as a source: the files that benchmarks come in, read as the texts to look for.

    read(contamination.items("evals/*.jsonl"))

A row of a file is an item. Its texts are the question, and the question with its answer, without the words that frame a
prompt (``Question:``, ``Answer:``); each becomes a document of the same id and source. What is a question and an answer
is told by the names that are in use:

    question      question, query, problem, prompt, question_stem, goal, ctx, input, instruction, sentence, text
    answer        solution, canonical_solution, answer, target, completion, output, response, best_answer
    choices       choices, options, endings (a list, or ``{"text": [...], "label": [...]}``), or sol1 and sol2,
                  option1 and option2, ending0 to ending3
    gold          gold, answerKey, label, answer, answer_idx, correct, correct_option (a number, or a letter)
    two contexts  context_options with a continuation (schemas: the context of the gold option, and the continuation)
    minimal pair  sentence_good

Where ``answer`` names one of the choices, as a number or a letter, it is the gold choice. A blank (``_``) in a question
with choices is filled with the gold one. The items' ``id`` (or task_id, question_id, idx, ind, uid, example_id) is
their id, else ``FILE:N``; their ``task``, else the file's name without endings, is their source. A row that fits no
form is a bad row, and its error says which names were seen.
"""

import gzip
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from fsspec.core import url_to_fs

from curate.columns import TEXT
from curate.dataset import Bad, File, Piece
from curate.errors import BadData, BadInput

QUESTION = (
    "question", "query", "problem", "prompt", "question_stem", "goal", "ctx", "input", "instruction", "sentence",
    "text",
)  # fmt: skip
ANSWER = (
    "solution", "canonical_solution", "answer", "target", "completion", "output", "response", "best_answer",
)  # fmt: skip
CHOICES = ("choices", "options", "endings")
NUMBERED = (("sol1", "sol2"), ("option1", "option2"), ("ending0", "ending1", "ending2", "ending3"))
GOLD = ("gold", "answerKey", "label", "answer", "answer_idx", "correct", "correct_option")
NAMES = ("id", "task_id", "question_id", "idx", "ind", "uid", "example_id")
FRAME = re.compile(r"^\s*(question|problem|q)\s*:\s*|\s*\b(answer|solution|a)\s*:\s*$", re.IGNORECASE)
ITEM_FILE = re.compile(r"(^|/)[^/._][^/]*\.(jsonl|ndjson|json|parquet|pq)(\.gz|\.zst)?$")  # of a folder
BATCH = 5_000               # items made into a piece at a time
LINE_BYTES = 64_000_000     # a longer line is no item
SCHEMA = pa.schema({"id": TEXT, "text": TEXT, "source": TEXT, "extra": TEXT})


def items(*urls: str, task: str | None = None, every_choice: bool = False) -> "Items":
    """Files of evaluation items: JSON Lines (plain, ``.gz``, ``.zst``) or Parquet; patterns and folders of such.

    Args:
        urls: files or patterns, local or behind any fsspec URL.
        task: the source of all items; else each item's ``task``, or its file's name.
        every_choice: the question with every choice is a text, not only with the gold one.
    """
    return Items(urls=urls, task=task, every_choice=every_choice)


class Unknown(Exception):
    """An item in a form that is not known; the message names what was seen."""


def texts_of(item: Mapping[str, Any], *, every_choice: bool = False) -> list[str]:
    """The texts of one item, at least one, none of them empty.

    Raises:
        Unknown: no question, or a gold answer that is none of the choices.
    """
    if "context_options" in item and "continuation" in item:
        wanted = item["context_options"] if every_choice else [_gold(item, item["context_options"])]
        return _texts([f"{context} {item['continuation']}" for context in wanted])
    if isinstance(item.get("sentence_good"), str):
        return _texts([item["sentence_good"]])
    question = _bare(next((item[n] for n in QUESTION if isinstance(item.get(n), str)), ""))
    choices = _choices(item)
    if choices:
        gold = _gold(item, choices)
        answers = choices if every_choice else [gold]
        if "_" in question:
            return _texts([re.sub("_+", lambda _, a=a: a, question, count=1) for a in answers])  # type: ignore[misc]
    else:
        answers = [str(item[n]) for n in ANSWER if isinstance(item.get(n), str | int | float)][:1]
    return _texts([question, *(f"{question}\n{answer}" for answer in answers)])


def _texts(texts: list[str]) -> list[str]:
    texts = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not texts:
        raise Unknown("neither a question nor an answer")
    return texts


def _bare(question: str) -> str:
    """A question without the words that frame it."""
    return FRAME.sub("", question)


def _choices(item: Mapping[str, Any]) -> list[str]:
    for name in CHOICES:
        value = item.get(name)
        value = value.get("text") if isinstance(value, Mapping) else value
        if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            return value
    for names in NUMBERED:
        if all(isinstance(item.get(name), str) for name in names):
            return [item[name] for name in names]
    return []


def _gold(item: Mapping[str, Any], choices: list[str]) -> str:
    """The choice that is right: by position, by its letter or label, or by its words."""
    held: Mapping[str, Any] = next((item[name] for name in CHOICES if isinstance(item.get(name), Mapping)), {})
    labels = [str(label) for label in held.get("label", ())]
    from_one = "option1" in item and not any(name in item for name in CHOICES)
    for name in GOLD:
        gold = item.get(name)
        if gold is None or isinstance(gold, list | Mapping):
            continue
        if str(gold) in labels and labels.index(str(gold)) < len(choices):
            return choices[labels.index(str(gold))]
        if isinstance(gold, str) and gold in choices:
            return gold
        at = int(gold) if str(gold).isdigit() else -1
        if isinstance(gold, str) and re.fullmatch("[A-Za-z]", gold):
            at = ord(gold.upper()) - ord("A")
        at -= from_one
        if 0 <= at < len(choices):
            return choices[at]
    raise Unknown("choices, and no gold one among them")


@dataclass(frozen=True, kw_only=True)
class Items:
    """Files of evaluation items; made by ``items``."""

    urls: tuple[str, ...]
    task: str | None = None
    every_choice: bool = False

    @property
    def name(self) -> str:
        """The locations as they were written."""
        return ", ".join(self.urls)

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """No further columns."""
        return {}

    def listing(self) -> list[File]:
        """The files, each once.

        Raises:
            BadInput: no file, or a location that cannot be listed.
        """
        found: dict[str, File] = {}
        for url in self.urls:
            fs, path = url_to_fs(url)
            try:
                paths = fs.glob(path) if re.search(r"[*?\[]", path) else [path]
                infos = [fs.info(each) for each in sorted(paths)]
                if len(infos) == 1 and infos[0]["type"] == "directory":
                    found_below = fs.find(path, detail=True)
                    infos = [found_below[each] for each in sorted(found_below) if ITEM_FILE.search(each)]
            except OSError as error:
                raise BadInput(
                    f"{url} cannot be listed: {error}", where=self.name, fix="correct the location or access"
                ) from error
            files = [info for info in infos if info["type"] == "file"]
            if not files:
                raise BadInput(f"no file matches {url}", where=self.name,
                               fix="name files, a pattern, or a folder of .jsonl or .parquet files")
            for info in files:
                token = next((f"{n}={info[n]}" for n in ("ETag", "sha256", "mtime", "LastModified") if info.get(n)), "")
                whole = info["name"] if "file" in fs.protocol else fs.unstrip_protocol(info["name"])
                found[whole] = File(whole, int(info.get("size") or 0), token)
        return [found[path] for path in sorted(found)]

    def read(self, file: File) -> Iterator[Piece]:
        """The texts of one file's items, in order; an item in no known form is lost with its error."""
        name = PurePosixPath(file.path).name
        task = self.task or re.sub(r"(\.(jsonl|ndjson|json|parquet|pq|gz|zst))+$", "", name)
        rows: list[dict[str, str | None]] = []
        bad: list[Bad] = []
        for number, (offset, length, item) in enumerate(_rows(file)):
            try:
                if isinstance(item, str):
                    raise Unknown(item)
                texts = texts_of(item, every_choice=self.every_choice)
            except Unknown as why:
                seen = f" (it has {', '.join(sorted(item)[:12])})" if isinstance(item, dict) else ""
                bad.append(Bad(file.path, offset, length, 1, f"no evaluation item: {why}{seen}"))
                continue
            named = next((str(item[n]) for n in NAMES if item.get(n) not in (None, "")), f"{name}:{number}")
            whose = self.task or (item["task"] if isinstance(item.get("task"), str) else task)
            rows += [{"id": named, "text": text, "source": whose, "extra": None} for text in texts]
            if len(rows) >= BATCH:
                yield Piece(pa.Table.from_pylist(rows, SCHEMA), bad=tuple(bad))
                rows, bad = [], []
        yield Piece(pa.Table.from_pylist(rows, SCHEMA), bad=tuple(bad))

    def reread(self, file: File, groups: tuple[int, ...], columns: list[str]) -> pa.Table:
        """Never asked for, because items are always rewritten."""
        raise BadData("items are read once and rewritten", where=file.path, fix="use the rewritten part")

    def identity(self) -> Mapping[str, object]:
        """Everything that decides what ``read`` returns for a file; ``form`` counts changes of the known forms."""
        return {"kind": "evaluation items", "task": self.task, "every_choice": self.every_choice, "form": 1}


def _rows(file: File) -> Iterator[tuple[int, int, dict[str, Any] | str]]:
    """Offset, length and item of every row; in place of an item, what is wrong with it."""
    fs, path = url_to_fs(file.path)
    with fs.open(path, "rb") as handle:
        if path.endswith((".parquet", ".pq")):
            for batch in pq.ParquetFile(handle).iter_batches(1_000):
                yield from ((-1, -1, row) for row in batch.to_pylist())
            return
        at = 0
        for line in _lines(handle, path):
            if line.strip():
                yield at, len(line), _parsed(line)
            at += len(line)


def _lines(handle: IO[bytes], path: str) -> Iterator[bytes]:
    opened: IO[bytes] = handle
    if path.endswith(".gz"):
        opened = gzip.open(handle)  # type: ignore[assignment]
    elif path.endswith(".zst"):
        opened = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(handle, read_across_frames=True))
    try:
        while line := opened.readline(LINE_BYTES):
            yield line
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise BadInput(f"{path} cannot be decompressed: {error}", where=path, fix="fetch the file again") from error


def _parsed(line: bytes) -> dict[str, Any] | str:
    try:
        value = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        return "the line is not JSON"
    return value if isinstance(value, dict) else "the line is no JSON object"
