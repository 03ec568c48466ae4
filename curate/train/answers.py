"""What an answer costs a model, given what stands before it: nats of a continuation in its context.

A request reads ``separator, context, answer``; context and answer are encoded apart, so that the same tokens are scored
whatever the context ends with. Where the whole is longer than the model's context, the head of the context is lost, as
in other harnesses. An answer longer than half of the model's context is scored in pieces of half a context, each after
as much as fits, so that no token of it is predicted from a few tokens only.

Cost: one forward pass over every window, and the head for the answers' tokens alone; windows of like lengths share a
batch.
Elsewhere: what is asked and what follows from the nats (tasks.py); whole documents (score.py).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from curate.train.hardware import autocast, threads
from curate.train.model import Decoder


def answer_nats(
    model: Decoder,
    contexts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    separator: int,
    *,
    precision: str = "float32",
    cpu_threads: int = 1,
    batch: int | None = None,
) -> npt.NDArray[np.float64]:
    """-ln p(answer | context) of each request, float64 (requests,).

    Args:
        model: on its device.
        contexts: token ids, without special tokens; may be empty.
        answers: token ids of what is scored; 0 nats for an empty one.
        separator: the token that stands before every document the model was trained on.
        precision: ``float32`` or ``bfloat16``.
        cpu_threads: of torch, where the model is on a CPU.
        batch: tokens of a batch; None for 4,096 on a CPU and 131,072 on a GPU.
    """
    width = model.config.context
    device = next(model.parameters()).device
    if batch is None:
        batch = 4096 if device.type == "cpu" else 131_072
    owner: list[int] = []
    windows: list[list[int]] = []
    scored: list[int] = []
    for i, (context, answer) in enumerate(zip(contexts, answers, strict=True)):
        ids = [separator, *context, *answer]
        first = len(ids) - len(answer)
        for start in range(first, len(ids), max(1, width // 2)):
            end = min(start + max(1, width // 2), len(ids))
            owner.append(i)
            windows.append(ids[max(0, end - 1 - width) : end])
            scored.append(end - start)
    sums = np.zeros(len(windows))
    lengths = np.array([len(window) - 1 for window in windows], dtype=np.int64)
    by_length = np.argsort(lengths, kind="stable")
    with threads(cpu_threads), autocast(device, precision):
        at = 0
        while at < len(by_length):
            # The longest of a batch stands last, so its size follows from the width that this many rows would have.
            rows = 1
            while at + rows < len(by_length) and (rows + 1) * lengths[by_length[at + rows]] <= batch:
                rows += 1
            some = by_length[at : at + rows]
            ids_there = np.full((rows, int(lengths[some].max()) + 1), separator, dtype=np.int64)
            wanted = np.zeros((rows, ids_there.shape[1] - 1), dtype=bool)
            for row, k in enumerate(some.tolist()):
                ids_there[row, : len(windows[k])] = windows[k]
                wanted[row, lengths[k] - scored[k] : lengths[k]] = True
            there = torch.from_numpy(ids_there).to(device)
            nats = model.nats(there[:, :-1], there[:, 1:], wanted=torch.from_numpy(wanted).to(device))
            sums[some] = np.where(wanted, nats.double().cpu().numpy(), 0.0).sum(axis=1)
            at += rows
    out = np.zeros(len(contexts))
    np.add.at(out, owner, sums)
    return out
