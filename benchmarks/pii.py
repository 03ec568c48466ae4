"""Does ``pii.mask`` write the same bytes as datatrove's PIIFormatter, and what do both cost?

    python benchmarks/pii.py POOL.parquet [--rows N] [--out FOLDER]

POOL.parquet needs a column ``text``. Three corpora: the pool; the pool with addresses of all shapes strewn into every
text at places drawn from a fixed seed (letters, marks and digits of the text touch them); and texts made to trap a
backtracking matcher. Every text goes through a fresh turn of datatrove's formatter (its turn of placeholders otherwise
goes on from document to document) and through ``pii.mask`` with ``pii.DATATROVE``. Counted: texts equal byte for byte.
Times are CPU seconds of one thread, compilation left out, the middle one of three, on the pool; our own finder, with
all its kinds, beside them. What our finder finds in the pool is counted by kind.
"""

import argparse
import json
import platform
import random
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datatrove.pipeline.formatters import PIIFormatter

from curate import pii

STREWN = (
    "jane.doe@acme-widgets.de", "a@b.c", "x+y@sub.host-name.co.uk.", ".a..b@c.d", "a@b-.c", "a@b.c-.d", "@a.b",
    "a@[1.2.3.4]", "a@[1.2.3.ab:]", "é+ü@x.org", "o'neil@x.org", "a@b@c.d", "_x_@y.zz", "93.184.216.34",
    "1.2.3.256", "1234.5.6.7", "01.2.3.4", "8.8.8.8.8", "10.0.0.1", "192.168.0.300", "256.256.256.256", "1.2.3",
    "0.0.0.0", "255.255.255.255", "100.64.1.1", "203.0.113.9", "8.8.4.4:53", "v4.3.2.1-beta", "a@1.2.3.4",
    "{}|~@x.y",
)  # fmt: skip
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--rows", type=int, help="only the first so many documents")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()

    pool = pq.read_table(args.pool, columns=["text"])[: args.rows]["text"].to_pylist()
    rng = random.Random(20240607)
    corpora = {"the pool": pool, "addresses strewn in": [strew(text, rng) for text in pool], "traps": traps()}
    agreement = {}
    for name, texts in corpora.items():
        ours = pii.mask(docs_of(texts), pii.DATATROVE)["text"].to_pylist()
        theirs, _ = ask_datatrove(texts)
        differing = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
        changed = sum(a != b for a, b in zip(texts, theirs, strict=True))
        agreement[name] = {
            "texts": len(texts), "changed_by_datatrove": changed, "equal": len(texts) - len(differing),
            "differing": differing[:20],
        }  # fmt: skip

    docs = docs_of(pool)
    megabytes = pc.sum(pc.binary_length(docs["text"])).as_py() / 1e6
    steps = {
        "datatrove PIIFormatter": lambda: ask_datatrove(pool)[1],
        "pii.mask, as datatrove": lambda: timed(lambda: pii.mask(docs, pii.DATATROVE)),
        "pii.mask, seven kinds": lambda: timed(lambda: pii.mask(docs, pii.Mask())),
        "pii.find, seven kinds": lambda: timed(lambda: pii.find(docs, pii.Find())),
    }
    seconds = {name: [] for name in steps}
    for _ in range(ROUNDS):  # in turn
        for name, step in steps.items():
            seconds[name].append(step())
    counts = pii.find(docs, pii.Find())
    found = {
        "documents": len(pool),
        "megabytes": round(megabytes, 3),
        "date": time.strftime("%Y-%m-%d"),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in ("datatrove", "numba")}},
        "agreement": agreement,
        "megabytes_per_cpu_second": {n: round(megabytes / float(np.median(s)), 1) for n, s in seconds.items()},
        "found_in_the_pool": {name: pc.sum(counts[name]).as_py() for name in counts.column_names},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "pii.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    show(found)


def docs_of(texts: list[str]) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.large_string())})


def strew(text: str, rng: random.Random) -> str:
    for _ in range(4):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(STREWN) + text[at:]
    return text


def traps() -> list[str]:
    """Long runs that look like the beginning of an address; short enough for the regular expressions to end."""
    return [
        "a." * 2000, "a" * 2000 + "!", "1." * 2000, "a@" * 2000, "a@" + "b-" * 2000, "a@" + "b." * 2000 + "-",
        "1.1.1." * 1000, "@" * 2000, "a..b@c.d " * 500, "255." * 1000 + "255", "+1 (" * 1000, "2001:" * 1000,
    ]  # fmt: skip


def ask_datatrove(texts: list[str]) -> tuple[list[str], float]:
    formatter = PIIFormatter()
    out = []
    start = time.process_time()
    for text in texts:
        formatter.emails_replacer._replace_i = formatter.ip_replacer._replace_i = 0
        out.append(formatter.format(text))
    return out, time.process_time() - start


def timed(step) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def show(found: dict) -> None:
    print(f"{found['documents']:,} documents, {found['megabytes']:.1f} MB")
    for name, a in found["agreement"].items():
        print(f"{name:24}{a['texts']:>8,} texts, {a['changed_by_datatrove']:>7,} changed by datatrove, "
              f"{a['equal']:>7,} equal byte for byte")  # fmt: skip
    for name, value in found["megabytes_per_cpu_second"].items():
        print(f"{name:28}{value:>9.1f} MB a CPU second")
    print("found in the pool:", ", ".join(f"{k} {v:,}" for k, v in found["found_in_the_pool"].items()))


if __name__ == "__main__":
    main()
