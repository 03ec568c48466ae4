"""What every run paid for every document, on disk: the statistics of a trial can be made again without training.

One Parquet file a run, (instrument, arm, seed), with a row for each scored document:

    target    dictionary<string>   the target it belongs to
    document  string               16 hex digits of the SHA-256 of its text
    cluster   int64                documents of one number are drawn together by the bootstrap; from 0 within the target
    nats      float64              what the run paid for it, or its score where the target is one of scores
    bytes     int64                UTF-8 bytes of what was scored

The run is named in the schema's metadata, not by the file's name, so files can be gathered into one folder or left in
many. A name is made of the arm and a hash, and a file is published whole: written beside its name, then linked, so a
run told twice keeps the first telling. ``read`` puts runs together and refuses what cannot be compared: other
documents, other bytes, a seed that an arm lacks. ``recompute`` draws every contrast from them (panel.py).
A trial leaves such files in its run's folder.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.train.panel import AA, BASELINE, Compared, Target, compare, gate
from curate.train.statistics import Contrast, Floats, Ints, Prior, bits_per_byte

ABOUT = b"curate.run"
SCHEMA = pa.schema(
    [
        pa.field("target", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("document", pa.string(), nullable=False),
        pa.field("cluster", pa.int64(), nullable=False),
        pa.field("nats", pa.float64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One target as one run scored it.

    Args:
        documents: hashes of its documents, from ``hashes``.
        clusters: int64 (documents,), from 0 on, each used.
        nats: float64 (documents,).
        size: bytes, int64 (documents,).
    """

    documents: Sequence[str]
    clusters: Ints
    nats: Floats
    size: Ints


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """All runs of one instrument.

    Args:
        targets: by name, as ``panel.compare`` takes them.
        size: target to bytes, int64 (documents,).
        documents: target to the hashes of its documents.
        seeds: of every arm, sorted.
        about: what the runs said of themselves, the first's.
    """

    targets: dict[str, Target]
    size: dict[str, Ints]
    documents: dict[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    about: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """The statistics of one instrument.

    Args:
        contrasts: by name, over all targets of costs and over each alone; percent. Empty where there are none.
        scores: the same over targets of scores; points.
        gate: the A/A test, 99 %, on costs where there are any.
        bpb: target to arm to bits per byte at each seed; empty for targets of scores.
    """

    contrasts: dict[str, Compared]
    scores: dict[str, Compared]
    gate: Contrast
    bpb: dict[str, dict[str, list[float]]]


def hashes(texts: Sequence[str]) -> list[str]:
    """The names of documents: 16 hex digits of the SHA-256 of each text."""
    return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]


def table(
    scores: Mapping[str, Scores], *, instrument: str, arm: str, seed: int, about: Mapping[str, Any] | None = None
) -> pa.Table:
    """A run's scores as a table; arguments as for ``write``.

    Raises:
        ValueError: columns of unequal lengths, or a cost that is not a number.
    """
    columns: list[pa.Table] = []
    for target, x in scores.items():
        if len({len(x.documents), len(x.clusters), len(x.nats), len(x.size)}) > 1:
            raise ValueError(
                f"target {target!r} of {arm!r}, seed {seed}: {len(x.documents)} documents, {len(x.clusters)} clusters, "
                f"{len(x.nats)} costs, {len(x.size)} sizes; give one of each a document"
            )
        if not np.isfinite(x.nats).all():
            raise ValueError(
                f"target {target!r} of {arm!r}, seed {seed} has a cost that is not a number; train it anew"
            )
        name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(x.nats), np.int32)), pa.array([target]))
        values = [name, pa.array(x.documents, pa.string()), pa.array(x.clusters, pa.int64())]
        values += [pa.array(x.nats, pa.float64()), pa.array(x.size, pa.int64())]
        columns.append(pa.Table.from_arrays(values, schema=SCHEMA))
    run = {"instrument": instrument, "arm": arm, "seed": seed, "about": dict(about or {})}
    found = pa.concat_tables(columns) if columns else SCHEMA.empty_table()
    return found.unify_dictionaries().replace_schema_metadata({ABOUT: json.dumps(run, sort_keys=True).encode()})


def file_name(instrument: str, arm: str, seed: int) -> str:
    """The name of a run's file."""
    short = hashlib.sha256(json.dumps([instrument, arm, seed]).encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{instrument}-{arm}").strip("-")[:60]
    return f"{readable}-{seed}-{short}.nats.parquet"


def write(
    folder: Path,
    scores: Mapping[str, Scores],
    *,
    instrument: str,
    arm: str,
    seed: int,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Put a run's scores into a folder; returns the file.

    Args:
        folder: made where it does not exist.
        scores: target to what was paid.
        instrument: that was trained.
        arm: that it was trained on.
        seed: of the run.
        about: what else should be known of it: tokens, bytes, settings; JSON-able.

    Raises:
        ValueError: columns of unequal lengths, or a cost that is not a number.
    """
    found = table(scores, instrument=instrument, arm=arm, seed=seed, about=about)
    path = folder / file_name(instrument, arm, seed)
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{path.name}.{os.getpid()}"
    pq.write_table(found, scratch, compression="zstd")
    try:
        os.link(scratch, path)
    except FileExistsError:
        return path  # told before: the first telling stays
    finally:
        scratch.unlink()
    return path


def read(folder: Path, *, scores: Sequence[str] = ()) -> dict[str, Recorded]:
    """Every run below a folder, put together by instrument.

    Args:
        folder: searched with all that is below it.
        scores: targets whose ``nats`` are scores of which more is better, not costs.

    Raises:
        FileNotFoundError: no runs there.
        ValueError: runs that scored other documents, or arms that lack a seed.
    """
    files = sorted(folder.rglob("*.nats.parquet"))
    if not files:
        raise FileNotFoundError(f"no *.nats.parquet below {folder}; give the folder that the runs were written to")
    runs: dict[str, list[tuple[dict[str, Any], dict[str, Scores]]]] = {}
    for file in files:
        about, found = _open(file)
        runs.setdefault(about["instrument"], []).append((about, found))
    return {name: _together(name, found, scores) for name, found in sorted(runs.items())}


def recompute(
    folder: Path,
    *,
    pairs: Mapping[str, Mapping[str, float]] | None = None,
    scores: Sequence[str] = (),
    prior: Prior | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Recomputed]:
    """The statistics of every instrument below a folder, without training.

    Args:
        folder: as ``read``'s.
        pairs: comparisons as ``panel.compare`` takes them; None compares every arm with the mean of both random draws.
        scores: as ``read``'s.
        prior: noise on record of the mean over targets.
        level: of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    out = {}
    for name, found in read(folder, scores=scores).items():
        arms = sorted(set(next(iter(found.targets.values())).nats) - set(BASELINE))
        default = {arm: {**dict.fromkeys(BASELINE, 1 / len(BASELINE)), arm: -1.0} for arm in arms}
        wanted = default if pairs is None else pairs
        costs = {target: x for target, x in found.targets.items() if x.relative}
        points = {target: x for target, x in found.targets.items() if not x.relative}
        out[name] = Recomputed(
            contrasts=compare(costs, wanted, aa=AA, prior=prior, level=level, resamples=resamples, seed=seed)
            if costs else {},
            scores=compare(points, wanted, aa=AA, level=level, resamples=resamples, seed=seed) if points else {},
            gate=gate(costs or points, resamples=resamples, seed=seed),
            bpb={
                target: {arm: bits_per_byte(nats, found.size[target]).tolist() for arm, nats in x.nats.items()}
                for target, x in costs.items()
            },
        )  # fmt: skip
    return out


def _open(file: Path) -> tuple[dict[str, Any], dict[str, Scores]]:
    table = pq.read_table(file)
    metadata = table.schema.metadata or {}
    if ABOUT not in metadata:
        raise ValueError(
            f"{file} does not say which run it is of; it was not written by records.write, so move it away"
        )
    names = table["target"].cast(pa.string()).to_pylist()
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    found = {}
    for start, stop in zip(starts, [*starts[1:], len(names)], strict=True):
        rows = table.slice(start, stop - start)
        found[names[start]] = Scores(
            documents=rows["document"].to_pylist(), clusters=rows["cluster"].to_numpy(), nats=rows["nats"].to_numpy(),
            size=rows["bytes"].to_numpy(),
        )  # fmt: skip
    return {**json.loads(metadata[ABOUT]), "file": str(file)}, found


def _together(
    instrument: str, runs: Sequence[tuple[dict[str, Any], dict[str, Scores]]], scores: Sequence[str]
) -> Recorded:
    """Runs as arrays, arms and seeds in order, once they are known to be comparable."""
    by_run: dict[tuple[str, int], dict[str, Scores]] = {}
    first = runs[0][1]
    for about, found in runs:
        where = f"{about['file']} ({instrument}, {about['arm']!r}, seed {about['seed']})"
        if (about["arm"], about["seed"]) in by_run:
            raise ValueError(f"{where} is a run that another file holds too; keep one of them")
        if list(found) != list(first):
            raise ValueError(
                f"{where} scored the targets {list(found)}, others {list(first)}; keep trials in folders apart"
            )
        for target, x in found.items():
            same = first[target]
            equal = np.array_equal(x.size, same.size) and np.array_equal(x.clusters, same.clusters)
            if list(x.documents) != list(same.documents) or not equal:
                raise ValueError(
                    f"{where} scored other documents of {target!r} than {runs[0][0]['file']}; score it anew"
                )
        by_run[about["arm"], about["seed"]] = found
    arms = sorted({arm for arm, _ in by_run})
    seeds = sorted({seed for _, seed in by_run})
    if missing := [(arm, seed) for arm in arms for seed in seeds if (arm, seed) not in by_run]:
        raise ValueError(f"the {instrument} lacks runs (arm, seed): {missing}; a comparison is paired, so finish them")
    return Recorded(
        targets={
            target: Target(
                nats={arm: np.stack([by_run[arm, seed][target].nats for seed in seeds]) for arm in arms},
                clusters=x.clusters, relative=target not in scores,
            )
            for target, x in first.items()
        },
        size={target: x.size for target, x in first.items()},
        documents={target: tuple(x.documents) for target, x in first.items()},
        seeds=tuple(seeds),
        about=runs[0][0]["about"],
    )  # fmt: skip
