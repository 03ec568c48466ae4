"""A small finished run with all that a report tells: scores, drops, copies, bad data, a trial, and hostile texts."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from toys import letters

from curate import exact, select, trial
from curate.artifact import Experiment
from curate.columns import FLOAT32, INT64, TEXT
from curate.dataset import Bad, File, Piece
from curate.engines.local import Local
from curate.plan import Mix, conclude, plan, read, write
from curate.run import Outcome, run
from curate.stage import Direction, Grain, Score, stage
from curate.store import Store
from curate.telling import markup

SCRIPT = "<script>alert('pwned')</script>"
IMAGE = "<img src=x onerror=alert(1)>"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"
CONFIG = f'source = "s3://user:pass@bucket/x"\napi_key = "hunter2"\nbudget = 12\nhub = "{TOKEN}"\n'


@dataclass(frozen=True)
class Mixed:
    """Parquet files left in place (``*.parquet``, two row groups), and one file of rows that are rewritten."""

    folder: str
    name: str = "mixed"
    columns: Mapping[str, pa.DataType] = field(default_factory=lambda: {"grade": INT64})

    def listing(self) -> list[File]:
        paths = sorted(Path(self.folder).glob("*"))
        return [File(str(p), p.stat().st_size, "t") for p in paths]

    def read(self, file: File) -> Iterator[Piece]:
        if file.path.endswith(".parquet"):
            groups = tuple(range(pq.ParquetFile(file.path).num_row_groups))
            yield Piece(self.reread(file, groups, ["id", "text", "source", "grade", "extra"]), {}, (), groups)
        else:
            rows = json.loads(Path(file.path).read_text())
            table = pa.Table.from_pylist(rows, pa.schema({"id": TEXT, "text": TEXT, "source": TEXT, "grade": INT64}))
            bad = {i: "text is null" for i, r in enumerate(rows) if r["text"] is None}
            yield Piece(
                table.append_column("extra", pa.nulls(len(rows), TEXT)),
                bad,
                (Bad(file.path, 77, 5, 2, f"not JSON: {SCRIPT}"), Bad(file.path, 90, -1, -1, "cut off")),
            )

    def reread(self, file: File, groups: tuple[int, ...], columns: list[str]) -> pa.Table:
        table = pq.ParquetFile(file.path).read_row_groups(list(groups))
        return table.append_column("extra", pa.nulls(len(table), TEXT)).select(columns)

    def identity(self) -> Mapping[str, object]:
        return {}


class Reader(HTMLParser):
    """Tags, attributes and text of a page; a tag that is not closed in order is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.said, self.open = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in markup.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


def documents() -> list[dict[str, Any]]:
    """30 documents whose score is their number of letters a, from 0 to 29; two that have none; two copies of one."""
    out = [
        {"id": f"doc {i:02}", "text": f"number {i}: " + "a" * i, "source": ("web", "books", "forum")[i % 3], "grade": i}
        for i in range(30)
    ]
    out[12] |= {"id": SCRIPT, "text": f"{SCRIPT} {'a' * 9}", "source": IMAGE}
    out[20] |= {"text": f"see https://user:secret@host/x?token=abc123 and {TOKEN} " + "a" * 9}
    out += [{"id": "copy", "text": out[25]["text"], "source": "web", "grade": i} for i in range(2)]
    return out


@stage(
    reads={"text": TEXT},
    writes={"score": Score(FLOAT32, Direction.HIGH, "letters", "sum"), "tokens": INT64},
    grain=Grain.EACH,
    version="1",
)
def score(docs: pa.Table) -> pa.Table:
    """The number in the text, null where there is none; a token is four bytes."""
    found = pa.compute.extract_regex(docs["text"], r"number (?P<n>\d+)")
    values = pa.compute.struct_field(found.combine_chunks(), "n").cast(pa.int64()).cast(FLOAT32)
    tokens = pa.compute.divide(pa.compute.binary_length(docs["text"]), 4)
    return pa.table({"score": values, "tokens": tokens.cast(INT64)})


ARMS = ("top", "random", "random'", "length_matched", "source_matched", "inverse")


def conclusion(folder: Path, scale: float = 0.9) -> dict[str, Any]:
    """What a trial concludes, in its own words, from made-up results: the mix costs ``scale`` times random's."""
    rng, others = np.random.default_rng(1), np.random.default_rng(2)

    def rows(name: str, n: int) -> Path:
        path = folder / f"{name}.parquet"
        pq.write_table(pa.table({
            "key": pa.array([f"{name[-9:]:>9}{i:>7}".encode() for i in range(n)], pa.binary(16)),
            "id": pa.array([f"{name}{i}" for i in range(n)], TEXT), "source": pa.array([name] * n, TEXT),
            "text": pa.array([f"{name} text {i}" for i in range(n)], TEXT), "text_bytes": pa.array([40] * n, INT64),
        }), path)  # fmt: skip
        return path

    inputs = {f"arm:{a}": rows(a, 400) for a in ARMS}
    inputs["target:test"] = rows("test", 60)
    config = trial.Trial(instruments=("ngram",), ngram_bytes=2_000, resamples=200)
    jobs = trial.jobs(config, inputs)
    results = []
    nats = rng.uniform(40, 60, 60)
    for job in jobs:
        if job["instrument"] == "composition":
            seen = {"whole": 0, "near": 1, "mean_share": 0.01, "touched": 1, "sharing": 2, "searched": 400}
            leaks = {"test_documents": seen} if job["input"] != "target:test" else {}
            results.append(
                {
                    "documents": 3,
                    "bytes": 400,
                    "length": {f"p{q}": 9.0 for q in (10, 25, 50, 75, 90)},
                    "sources": {IMAGE: 0.2, "zz": 0.8},
                    "compression": 2.0,
                    "copies": 0.0,
                    **leaks,
                }
            )
        else:
            costs = {"top": scale, "inverse": 1.2}
            noise = (others if job["arm"] == "inverse" else rng).normal(1, 0.002, 60)
            mine = nats * costs.get(job["arm"], 1.0) * noise
            results.append(
                {
                    "nats": mine.tolist(),
                    "bytes": [30] * 60,
                    "orders": [9.0, 8.0, 7.0, 6.5, 6.2, 6.1],
                    "trained": {"bytes": 2000, "tokens": None, "documents": 50},
                    "timing": {"cpu_seconds": 1.0},
                    "curve": [[100.0 * k, 5.0 / k] for k in range(1, 6)],
                }
            )
    return json.loads(json.dumps(trial.conclude(config, jobs, results, inputs)))


def no_jobs(config: Any, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    return []


def no_work(job: dict[str, Any], config: Any, inputs: Mapping[str, Path]) -> dict[str, Any]:
    return {}


def made_up(config: Any, jobs: Any, results: Any, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """The conclusion above, in place of an experiment."""
    return conclusion(Path(config))


MADE_UP = Experiment(jobs=no_jobs, work=no_work, conclude=made_up, reads={}, version="1")


def finished(where: Path, *, judged: bool = True, card: Mapping[str, Any] | None = None) -> tuple[Store, Outcome]:
    """Carry it out: read, drop, find copies, score, select two mixes, write, and conclude."""
    data = where / "data"
    data.mkdir()
    docs = documents()
    pq.write_table(
        pa.Table.from_pylist(docs[:20], pa.schema({"id": TEXT, "text": TEXT, "source": TEXT, "grade": INT64})),
        data / "a.parquet",
        row_group_size=10,
    )
    bad = {"id": "null", "text": None, "source": "web", "grade": 1}
    (data / "b.json").write_text(json.dumps([*docs[20:24], bad, *docs[24:]]))
    frame = read(Mixed(str(data))).then(score).then(letters).keep(pl.col("letters") >= 3, because="too_few_letters")
    frame = frame.then(exact.duplicates).keep(pl.col("exact_copy_of").is_null(), because="exact_duplicate")
    top = frame.select(select.top("score", column="copies_top"), rows=8)
    both = top.frame.select(select.uniform(label="random", column="copies_random"), rows=5)
    mixes = {"top": Mix(both.frame, "copies_top"), "random": both}
    outputs = [write(mixes, columns=["score", "tokens"], card=card or {})]
    scratch = where / "trial"
    scratch.mkdir()
    if judged:
        outputs.append(conclude(MADE_UP, str(scratch), {"arm:top": mixes["top"].sample(label="arm top", bytes=10**6)}))
    store = Store(str(where / "store"))
    return store, run(plan(*outputs), name="toy", store=store, open_engine=Local, config=CONFIG)
