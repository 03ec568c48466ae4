r"""Multiple-choice and free-answer tasks, asked in cloze form: how many bits does a model need for the right answer?

A model that is too small to answer still shows which text helps it: the bits per byte of the *gold answer*, given its
question, order data sets as large models' accuracies do long before accuracy leaves chance (Magnusson et al. 2025,
DataDecide, find more than 80 % of pairs right with a ten-thousandth of the target's compute; so does Heineman et al.
2025, Signal and Noise). Every choice is scored as the full text of the answer, never as a letter.

    P1  gold-answer bits per byte:  sum of nats of the gold answers / (ln 2 * their UTF-8 bytes)
    S1  the probability of the gold answer among the choices, and its margin over the best other choice
    S2  accuracy: how often the gold answer is the most probable choice

Choices of different lengths are compared by nats a character, unless every choice of an item is scored in a context of
its own with the same words (schemas), or there is no question (minimal pairs): then the sums are compared.

A task is a file of JSON lines; a line is one item, in one of three forms:

    {"query": "Question: ...\nAnswer:", "choices": ["one", "two"], "gold": 1}
    {"context_options": ["The cup is big so the cup", ...], "continuation": "does not fit.", "gold": 0}
    {"question": "...", "answer": "..."}

``id`` names an item (else its line does), ``group`` (or ``paradigm``, ``subject``) what is drawn together by a
bootstrap. A choice is set off by a space where the context is not empty and does not end in white space; the space is
part of what is scored. ``from_lm_eval`` writes such files from the tasks of lm-evaluation-harness.

Elsewhere: the nats of a transformer (answers.py), of a document as a whole (score.py); noise and intervals
(statistics.py); which test items stand in a mix (curate/contamination.py).
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.train import ngram

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

GROUPS = ("group", "paradigm", "subject")
FORMS = (
    'an item has "query", "choices" and "gold", or "context_options", "continuation" and "gold", or "question" and '
    '"answer"'
)


@dataclass(frozen=True)
class Task:
    """Items as *requests*: one answer in one context each.

    Args:
        name: of the task.
        ids: of the items, (items,).
        contexts: what stands before each answer, (requests,).
        answers: what is scored, the space before it included, (requests,).
        item: the item of each request, int64 (requests,), from 0 and not decreasing.
        gold: the request of each item that is right, int64 (items,).
        cluster: items with equal numbers are drawn together by a bootstrap, int64 (items,), from 0, each used.
        normalise: how choices are compared, ``"characters"`` or ``"none"``.
    """

    name: str
    ids: tuple[str, ...]
    contexts: tuple[str, ...]
    answers: tuple[str, ...]
    item: Ints
    gold: Ints
    cluster: Ints
    normalise: str

    @cached_property
    def bytes(self) -> Ints:
        """UTF-8 bytes of each answer, int64 (requests,)."""
        return np.array([len(answer.encode()) for answer in self.answers], dtype=np.int64)

    @cached_property
    def characters(self) -> Ints:
        """Characters of each answer, int64 (requests,)."""
        return np.array([len(answer) for answer in self.answers], dtype=np.int64)

    def spread(self, items: int) -> "Task":
        """At most so many items, evenly over the file: the first ones of a file that is sorted by subject would be of
        few subjects.
        """
        n = len(self.ids)
        if items >= n:
            return self
        chosen = np.arange(items) * n // items
        requests = np.flatnonzero(np.isin(self.item, chosen))
        place = np.full(len(self.answers), -1)
        place[requests] = np.arange(len(requests))
        return replace(
            self, ids=tuple(self.ids[i] for i in chosen), contexts=tuple(self.contexts[i] for i in requests),
            answers=tuple(self.answers[i] for i in requests), gold=place[self.gold[chosen]],
            item=np.searchsorted(chosen, self.item[requests]),
            cluster=np.unique(self.cluster[chosen], return_inverse=True)[1].astype(np.int64),
        )  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """What a model makes of a task.

    Args:
        nats: of each item's gold answer, float64 (items,).
        bytes: of each item's gold answer, int64 (items,).
        probability: of the gold answer among the choices, float64 (items,); 1 where there is no other choice.
        margin: nats (a character, where choices are compared so) by which the gold answer is cheaper than the best
            other choice, float64 (items,); NaN where there is none.
        right: whether the gold answer is the cheapest choice, alone; bool (items,).
    """

    nats: Floats
    bytes: Ints
    probability: Floats
    margin: Floats
    right: npt.NDArray[np.bool_]

    @property
    def bpb(self) -> float:
        """P1: bits per byte of the gold answers."""
        return float(self.nats.sum() / (math.log(2) * self.bytes.sum()))

    @property
    def accuracy(self) -> float:
        """S2: the share of items whose gold answer is the cheapest choice."""
        return float(self.right.mean())


def read(path: Path) -> Task:
    """A task of a JSON-lines file; its name is the file's.

    Raises:
        ValueError: the file holds no item, or a line is none; the message names the line.
    """
    items = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                items.append(_item(line, f"{path}, line {number}", number))
    if not items:
        raise ValueError(f"{path} holds no item; {FORMS}")
    return _task(path.stem, items)


def read_folder(path: Path) -> dict[str, Task]:
    """The tasks of all ``*.jsonl`` files of a folder, by name.

    Raises:
        ValueError: there is none, or a file of no items.
    """
    files = sorted(path.glob("*.jsonl"))
    if not files:
        raise ValueError(f"{path} holds no task; give a folder of .jsonl files, in each of which {FORMS}")
    return {file.stem: read(file) for file in files}


def conclude(task: Task, nats: Floats) -> Scores:
    """P1, S1 and S2, given what each answer costs in its context.

    Args:
        task: what was asked.
        nats: -ln p of each answer, float64 (requests,).

    Raises:
        ValueError: another number of requests, or one that is not a number.
    """
    if nats.shape != (len(task.answers),) or not np.isfinite(nats).all():
        raise ValueError(
            f"{task.name} has {len(task.answers)} requests, and what came back has shape {nats.shape} or holds values "
            "that are not finite; score every request of the task, in order"
        )
    cost = nats / task.characters if task.normalise == "characters" else nats
    starts = np.searchsorted(task.item, np.arange(len(task.ids)))
    gold = cost[task.gold]
    others = cost.copy()
    others[task.gold] = np.inf
    best_other = np.minimum.reduceat(others, starts)
    least = np.minimum.reduceat(cost, starts)
    whole = np.add.reduceat(np.exp(least[task.item] - cost), starts)
    margin = np.where(np.isfinite(best_other), best_other - gold, np.nan)
    return Scores(
        nats=nats[task.gold],
        bytes=task.bytes[task.gold],
        probability=np.exp(least - gold) / whole,
        margin=margin,
        right=gold < best_other,
    )


def ngram_nats(model: ngram.Ngram, task: Task) -> Floats:
    """What each answer costs under a byte n-gram, given its context: -ln p, float64 (requests,)."""
    # A text is scored from left to right, so the answer costs what the whole costs beyond its context.
    before = [context.encode() for context in task.contexts]
    whole = [context + answer.encode() for context, answer in zip(before, task.answers, strict=True)]
    return _costs(model, whole) - _costs(model, before)


def _costs(model: ngram.Ngram, texts: Sequence[bytes]) -> Floats:
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return ngram.nats(model, offsets, np.frombuffer(b"".join(texts), dtype=np.uint8))[-1]


# -------------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Item:
    id: str
    group: str | None
    contexts: tuple[str, ...]
    answers: tuple[str, ...]
    gold: int
    sums: bool  # whether choices are compared by sums


def _item(line: str, where: str, number: int) -> _Item:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where} is no object; {FORMS}")
    contexts, answers, gold = _requests(row, where)
    group = next((str(row[name]) for name in GROUPS if row.get(name) is not None), None)
    sums = len(set(answers)) == 1 or not any(contexts)
    spaced = [_space(context) + answer for context, answer in zip(contexts, answers, strict=True)]
    return _Item(str(row.get("id", number)), group, tuple(contexts), tuple(spaced), gold, sums)


def _requests(row: Mapping[str, Any], where: str) -> tuple[list[str], list[str], int]:
    """Contexts and answers of an item, and which of them is right."""
    if "choices" in row:
        answers = _texts(row["choices"], where, "choices")
        contexts = [_text(row.get("query", ""), where, "query")] * len(answers)
    elif "context_options" in row:
        contexts = _texts(row["context_options"], where, "context_options")
        answers = [_text(row.get("continuation"), where, "continuation")] * len(contexts)
    elif "question" in row and "answer" in row:
        contexts, answers = [_text(row["question"], where, "question")], [_text(row["answer"], where, "answer")]
        row = {"gold": 0}
    else:
        raise ValueError(f"{where} has the names {', '.join(sorted(row))}; {FORMS}")
    gold = row.get("gold")
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(answers):
        raise ValueError(f'{where}: "gold" is {gold!r}; give the number of the right choice, 0 to {len(answers) - 1}')
    if not all(answers):
        raise ValueError(f"{where}: an answer is empty, and has no bits per byte")
    return contexts, answers, gold


def _text(value: Any, where: str, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f'{where}: "{name}" is {value!r}; give a text')
    return value


def _texts(value: Any, where: str, name: str) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ValueError(f'{where}: "{name}" is {value!r}; give a list of texts')
    return [_text(x, where, name) for x in value]


def _space(context: str) -> str:
    return " " if context and not context[-1].isspace() else ""


def _task(name: str, items: Iterable[_Item]) -> Task:
    items = list(items)
    sizes = np.array([len(item.answers) for item in items], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    groups: dict[str, int] = {}
    for i, item in enumerate(items):
        groups.setdefault(f"item {i}" if item.group is None else f"group {item.group}", len(groups))
    cluster = [groups[f"item {i}" if item.group is None else f"group {item.group}"] for i, item in enumerate(items)]
    return Task(
        name=name,
        ids=tuple(item.id for item in items),
        contexts=tuple(context for item in items for context in item.contexts),
        answers=tuple(answer for item in items for answer in item.answers),
        item=np.repeat(np.arange(len(items)), sizes),
        gold=starts + np.array([item.gold for item in items], dtype=np.int64),
        cluster=np.array(cluster, dtype=np.int64),
        normalise="none" if all(item.sums for item in items) else "characters",
    )


# -------------------------------------------------------------------------------------------------------------- lm-eval


def from_lm_eval(
    names: Sequence[str], out: Path, *, include: Path | None = None, limit: int | None = 1000
) -> list[Path]:
    """Write tasks of lm-evaluation-harness (``pip install lm-eval``) as files that ``read`` opens.

    Its multiple-choice tasks give a question and its choices, or contexts with a shared ending (schemas); free answers
    (``generate_until``) give a question and its target. Its own zero-shot prompt and delimiter are kept. The documents
    are those of the test split, or of the validation split where there is none; its data sets are loaded as it loads
    them, from the hub or from local files.

    Args:
        names: of tasks or groups, as the harness lists them.
        out: a folder, made where it does not exist; a file ``NAME.jsonl`` a task.
        include: a folder of task configurations of one's own.
        limit: items a task, the first ones; None for all.

    Raises:
        ModuleNotFoundError: the harness is not installed.
        ValueError: a task whose answers cannot be scored (perplexity alone), with its name.
    """
    from lm_eval.tasks import TaskManager, get_task_dict

    manager = TaskManager(include_path=None if include is None else str(include))
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, task in _leaves(get_task_dict(list(names), manager)):
        docs = task.test_docs() if task.has_test_docs() else task.validation_docs()
        path = out / f"{name}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number, doc in enumerate(docs):
                if limit is not None and number == limit:
                    break
                file.write(json.dumps({"id": f"{name}-{number}", **_of_harness(name, task, doc)}) + "\n")
        written.append(path)
    return written


def _leaves(tasks: Mapping[Any, Any]) -> Iterable[tuple[str, Any]]:
    for name, task in tasks.items():
        if isinstance(task, Mapping):
            yield from _leaves(task)
        else:
            yield str(name), task


def _of_harness(name: str, task: Any, doc: Mapping[str, Any]) -> dict[str, Any]:
    """One item, by the functions that the harness itself asks."""
    kind = task.OUTPUT_TYPE
    if kind == "multiple_choice":
        choices, target = task.doc_to_choice(doc), task.doc_to_target(doc)
        text = task.doc_to_text(doc)
        if isinstance(text, int):  # its sign of a schema: the text is one of the choices, the target the ending
            return {"context_options": list(choices), "continuation": str(target), "gold": int(text)}
        gold = choices.index(target) if isinstance(target, str) else int(target)
        return {"query": text, "choices": list(choices), "gold": gold}
    if kind == "generate_until":
        target = task.doc_to_target(doc)
        return {"question": task.doc_to_text(doc), "answer": str(target[0] if isinstance(target, list) else target)}
    raise ValueError(f"task {name!r} of lm-eval is of the kind {kind!r}; give multiple-choice or free-answer tasks")
