"""What a trial leaves of every run, so that its statistics can be made again without training.

One table a run (curate.train.records), in three groups that are read apart:

    primary    what decides: each target, or with ``primary="tasks"`` each task, by document or gold answer
    beside     everything else that was scored, likewise
    requests   of each task every answer, right or wrong; ``cluster`` is the item

Targets are named with their kind (``target:math``, ``guard:news``). A run at another budget, for the multiplier's
curve, is an arm of its own: ``random at 0.25``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.train import records
from curate.trials.measuring import flat
from curate.trials.metrics import Scored, primary_of, scored_of, split
from curate.trials.settings import Trial

PRIMARY, BESIDE, REQUESTS = "primary", "beside", "requests"


def kept(
    config: Trial, jobs: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], inputs: Mapping[str, Path]
) -> dict[str, pa.Table]:
    """The tables of all runs, by the path that each should have."""
    scored = scored_of(config, inputs)
    decides = primary_of(config, scored)
    names = [f"{s.kind}:{s.name}" for s in scored]
    hashes = [records.hashes(s.texts.to_pylist()) for s in scored]
    groups: dict[str, list[int]] = {
        PRIMARY: [i for i, s in enumerate(scored) if s in decides],
        BESIDE: [i for i, s in enumerate(scored) if s not in decides],
        REQUESTS: [i for i, s in enumerate(scored) if s.task is not None],
    }
    out = {}
    for instrument in config.instruments:
        for run, result in flat(jobs, results, instrument):
            nats = split(scored, np.array(result["nats"], dtype=np.float64))
            scale = run.get("scale", 1.0)
            arm = run["arm"] if scale == 1.0 else f"{run['arm']} at {scale:g}"
            about = {**result["trained"], "scale": scale}
            file = records.file_name(instrument, arm, run["seed"])
            for group, places in groups.items():
                if not places:
                    continue
                every = group == REQUESTS
                out[f"{group}/{file}"] = records.table(
                    {names[i]: _scores(scored[i], hashes[i], nats[i], every) for i in places},
                    instrument=instrument, arm=arm, seed=run["seed"], about=about,
                )  # fmt: skip
    return out


def _scores(s: Scored, hashes: Sequence[str], nats: np.ndarray, every: bool) -> records.Scores:
    """What a run paid for the items of something scored, or for every answer to a task."""
    if every and s.task is not None:
        return records.Scores(documents=hashes, clusters=s.task.item, nats=nats, size=s.sizes)
    return records.Scores(
        documents=[hashes[i] for i in s.items.tolist()], clusters=s.clusters, nats=nats[s.items], size=s.sizes[s.items]
    )
