"""What is measured: the documents and answers that are scored, and bits per byte.

    targets     P2: held-out documents of what the mix is for; the unweighted mean over several
    tasks       P1: gold answers in cloze form, their questions as context (curate.train.tasks)
    transfers   documents of what one hopes to gain beside; reported, never decisive
    guards      a panel of other domains, where nothing should be lost

Everything scored is one flat list of numbers a run, in the order of ``scored_of``: a document's nats, or an answer's.
Where a document has spans that do not count (curate.trials.masks), its nats and bytes are those of the rest, and one of
which nothing counts is left out.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import BadInput, BadPlan
from curate.hashing import digest
from curate.text import string_buffers
from curate.train import ngram, tasks
from curate.trials import masks
from curate.trials.settings import Trial

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FEWEST_DOCUMENTS = 50
TASKS = "tasks"
ALONE = "target"  # the name of a target that was given none


@dataclass(frozen=True, eq=False)
class Scored:
    """Documents of one target, transfer or guard, or the requests of one task.

    Args:
        kind: ``target``, ``task``, ``transfer`` or ``guard``.
        name: of the target, and so on.
        texts: documents, or of each request context and answer.
        clusters: equal numbers are drawn together by the bootstrap; int64 (items,), from 0, each used.
        task: what was asked.
        spans: of the documents; None where they have none.
        left_out: documents that were not taken, because nothing of them counts.
    """

    kind: str
    name: str
    texts: pa.ChunkedArray
    clusters: Ints
    task: tasks.Task | None = None
    spans: pa.ChunkedArray | None = None
    left_out: int = 0

    @property
    def count(self) -> int:
        """Numbers that a run gives for it."""
        return len(self.texts)

    @cached_property
    def sizes(self) -> Ints:
        """UTF-8 bytes of what each number is about, int64 (count,)."""
        if self.task:
            return self.task.bytes
        if self.spans is not None:
            return masks.sizes(self.texts, self.spans, self.name)
        return np.diff(string_buffers(self.texts)[0])

    @cached_property
    def counted(self) -> masks.Bools | None:
        """Which bytes of the documents count, bool (bytes of all of them,); None where all do."""
        return masks.counted(self.texts, self.spans, self.name)

    @cached_property
    def items(self) -> Ints:
        """Which of the numbers count: all documents, or the gold answer of each item; int64 (items,)."""
        return self.task.gold if self.task else np.arange(self.count)

    @cached_property
    def quoted(self) -> pa.ChunkedArray:
        """The texts that must stand in no arm: each document, or each item with its right answer."""
        return self.texts.take(pa.array(self.items))

    def content(self) -> str:
        """A hash of what is scored: 16 hex characters."""
        mask = [] if self.counted is None else [hashlib.sha256(np.packbits(self.counted).tobytes()).hexdigest()]
        return digest([self.kind == "task", self.texts.to_pylist(), self.items.tolist(), *mask])[:16]


def scored_of(config: Trial, inputs: Mapping[str, Path]) -> list[Scored]:
    """Everything that a trial scores, in its order.

    Raises:
        BadPlan: what decides was not given, or targets with and without a name.
        BadInput: fewer than 50 documents or items of what decides; a task that cannot be read.
    """
    found = []
    for name, target in _targets(config, inputs).items():
        found.append(_documents("target", target, inputs[name], config.documents))
    if TASKS in inputs:
        try:
            given = tasks.read_folder(Path(inputs[TASKS]))
        except ValueError as error:
            raise BadInput(str(error), where=f"input '{TASKS}'", fix="repair the file, or leave it out") from error
        found += [_requests(task.spread(config.items)) for task in given.values()]
    for kind in ("transfer", "guard"):
        for name in sorted(inputs):
            if name.startswith(f"{kind}:"):
                found.append(_documents(kind, name.partition(":")[2], inputs[name], config.beside))
    if not primary_of(config, found):
        wanted = TASKS if config.primary == TASKS else f"target:{config.split}"
        raise BadPlan(f"a trial without {wanted!r}", where="trial inputs", fix="give the target's held-out documents")
    for scored in primary_of(config, found):
        if len(scored.items) < FEWEST_DOCUMENTS:
            raise BadInput(
                f"{len(scored.items)} documents to score of {scored.name!r}, and fewer than {FEWEST_DOCUMENTS} say "
                "nothing", where="trial inputs",
                fix=f"give at least {FEWEST_DOCUMENTS} documents that are not empty (200 or more is better)",
            )  # fmt: skip
    for scored in found:
        if len(set(scored.clusters.tolist())) < 2:
            raise BadInput(
                f"{scored.kind} {scored.name!r}: {len(scored.items)} documents or items to score, all of one group, "
                "and the noise of a single one cannot be measured", where="trial inputs",
                fix="give more, of several groups, or leave it out",
            )  # fmt: skip
    return found


def primary_of(config: Trial, scored: Sequence[Scored]) -> list[Scored]:
    """What decides: it was declared before anything was trained."""
    return [s for s in scored if s.kind == ("task" if config.primary == TASKS else "target")]


def beside_of(config: Trial, scored: Sequence[Scored]) -> list[Scored]:
    """What is reported beside the primary metric: transfers, and whichever of targets and tasks does not decide."""
    kinds = {"transfer", "target" if config.primary == TASKS else "task"}
    return [s for s in scored if s.kind in kinds]


def _targets(config: Trial, inputs: Mapping[str, Path]) -> dict[str, str]:
    """Inputs to score, to the names of their targets."""
    named = {name: name.partition(":")[2].rpartition("/") for name in sorted(inputs) if name.startswith("target:")}
    found = {name: target or ALONE for name, (target, _, split) in named.items() if split == config.split}
    if ALONE in found.values() and len(found) > 1:
        raise BadPlan(
            f"targets with and without a name: {', '.join(found)}", where="trial inputs",
            fix="name all of them: target:NAME/SPLIT",
        )  # fmt: skip
    return found


def _documents(kind: str, name: str, path: Path, most: int) -> Scored:
    """Documents of which something counts, from the first on; the file's ``group`` (or ``module``) makes clusters."""
    names = pq.read_schema(path).names
    grouped = next((c for c in ("group", "module") if c in names), None)
    columns = ["text", *([grouped] if grouped else []), *masks.spans_of(path)]
    table = pq.read_table(path, columns=columns)
    full = pc.fill_null(pc.greater(pc.binary_length(table["text"]), 0), False)
    taken = full
    if masks.SPANS in columns:
        taken = pc.and_(full, pa.chunked_array([masks.sizes(table["text"], table[masks.SPANS], f"{kind} {name}") > 0]))
    left_out = int(pc.sum(full).as_py() or 0) - int(pc.sum(taken).as_py() or 0)
    table = table.filter(taken).slice(0, most)
    alone = pa.array([f"\x00{i}" for i in range(len(table))])
    group = pc.coalesce(table[grouped].cast(pa.string()), alone) if grouped else alone
    cluster = pc.index_in(group, value_set=pc.unique(group)).cast(pa.int64())
    return Scored(
        kind, name, table["text"].cast(pa.large_string()), cluster.to_numpy(zero_copy_only=False),
        spans=table[masks.SPANS] if masks.SPANS in columns else None, left_out=left_out,
    )  # fmt: skip


def _requests(task: tasks.Task) -> Scored:
    texts = [context + answer for context, answer in zip(task.contexts, task.answers, strict=True)]
    return Scored("task", task.name, pa.chunked_array([pa.array(texts, pa.large_string())]), task.cluster, task)


def ngram_nats(model: ngram.Ngram, scored: Sequence[Scored]) -> list[Floats]:
    """What each number of everything scored costs under each order, float64 (orders, count) each."""
    return [_ngram_nats(model, s) for s in scored]


def _ngram_nats(model: ngram.Ngram, scored: Scored) -> Floats:
    nats = ngram.nats(model, *string_buffers(scored.texts), scored.counted)
    if scored.task is None:
        return nats
    # Text is scored from left to right, so an answer costs what the whole costs beyond its context.
    return nats - ngram.nats(model, *string_buffers(pa.array(scored.task.contexts, pa.large_string())))


def outcome(
    config: Trial, scored: Sequence[Scored], nats: Sequence[Floats], orders: Sequence[Floats]
) -> dict[str, Any]:
    """A run's numbers as they are stored: nats and bytes of everything, and what byte n-grams reach on what decides.

    Args:
        config: settings.
        scored: what was scored.
        nats: of each, float64 (count,).
        orders: of each under byte n-grams of the same text, float64 (orders, count).
    """
    decides = [i for i, s in enumerate(scored) if s in primary_of(config, scored)]
    reached = [bpb(orders[i][:, scored[i].items].sum(axis=1), scored[i].sizes[scored[i].items].sum()) for i in decides]
    return {
        "nats": np.concatenate(nats).tolist(),
        "bytes": np.concatenate([s.sizes for s in scored]).tolist(),
        "orders": np.mean(reached, axis=0).tolist(),
    }


def split(scored: Sequence[Scored], numbers: npt.NDArray[Any]) -> dict[int, npt.NDArray[Any]]:
    """The last axis of numbers, count of everything, as one array of each thing scored, by its place."""
    ends = np.cumsum([s.count for s in scored])[:-1]
    return dict(enumerate(np.split(numbers, ends, axis=-1)))


def bpb(nats: Any, size: Any) -> Any:
    """Bits per byte."""
    return nats / (np.log(2) * size)
