"""How many contaminated documents the overlap finds, by the kind of edit, and how many clean ones it accuses.

    python benchmarks/decontamination.py DATA_DIR [--out benchmarks/results/decontamination.json]

DATA_DIR holds ``decontam_cases.parquet`` (id, text, kind, contaminated, item_ids, longest_common_run_words: documents
into which test items were pasted, whole, in part, reformatted, or with words replaced), ``mc/*.jsonl`` (the items of
eight tasks) and ``pool.parquet`` (documents in which nothing was planted).

Every item enters the index as its question and as its question with the answer. For each rule the result holds

  recall by kind        contaminated documents with a hit
  within reach          those of them whose longest common run with the item has ``n`` words; all must be found
  false alarms          clean documents with a hit
  attribution           documents found whose reported item is one that was pasted
  the pool              hits by source in documents where nothing was planted (real overlaps are among them)

and the speed of ``overlap`` on one thread.
"""

import argparse
import json
import platform
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from curate.columns import TEXT
from curate.contamination import Contamination, Index, Overlap, index, open_index, overlap

RULES = [(5, 5), (8, 5), (8, 8), (10, 5), (10, 8), (10, 10), (13, 5), (13, 8), (13, 10), (13, 13)]
DEFAULT = (Contamination().n, Contamination().min_words)
POOL_BYTES = 20_000_000


def texts_of(item: dict[str, Any]) -> list[str]:
    """The question, and the question with its answer, without the words that frame a prompt."""
    if "solution" in item:
        return [item["question"], f"{item['question']}\n{item['solution']}"]
    if "context_options" in item:
        return [f"{item['context_options'][item['gold']]} {item['continuation']}"]
    question = item["query"].removeprefix("Question:").removesuffix("Answer:").strip()
    answer = item["choices"][item["gold"]]
    return [f"{question} {answer}"] if not question else [question, f"{question}\n{answer}"]


def evaluation(home: Path) -> pa.Table:
    rows = [
        {"id": item["id"], "source": item["task"], "text": text}
        for path in sorted((home / "mc").glob("*.jsonl"))
        for item in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        for text in texts_of(item)
    ]
    return pa.Table.from_pylist(rows, pa.schema({"id": TEXT, "source": TEXT, "text": TEXT}))


def find(texts: pl.Series, opened: Index) -> pl.DataFrame:
    return pl.DataFrame(overlap(pa.table({"text": texts.to_arrow().cast(TEXT)}), Overlap(), opened))


def measure(cases: pl.DataFrame, pool: pl.DataFrame, items: pa.Table, n: int, min_words: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        built = index(items, Contamination(n=n, min_words=min_words), Path(home))
        opened = open_index(Overlap(), against=Path(home))
    result = cases.hstack(find(cases["text"], opened)).with_columns(hit=pl.col("contaminated_ngrams") > 0)
    guilty, clean = result.filter("contaminated"), result.filter(~pl.col("contaminated"))
    reach = guilty.filter(pl.col("longest_common_run_words") >= n)
    named = guilty.filter("hit").select(pl.col("contaminated_item").is_in(pl.col("item_ids")).mean()).item()
    begun = time.process_time()
    marked = pool.hstack(find(pool["text"], opened)).filter(pl.col("contaminated_ngrams") > 0)
    seconds = time.process_time() - begun
    return {
        "n": n,
        "min_words": min_words,
        "index": built,
        "recall": round(guilty["hit"].mean(), 4),
        "recall_by_kind": dict(guilty.group_by("kind").agg(pl.col("hit").mean().round(4)).sort("kind").rows()),
        "within_reach": {"documents": len(reach), "found": int(reach["hit"].sum())},
        "false_alarms": int(clean["hit"].sum()),
        "clean_documents": len(clean),
        "false_alarms_by_kind": dict(clean.group_by("kind").agg(pl.col("hit").sum()).sort("kind").rows()),
        "attribution": round(named, 4),
        "pool": {
            "documents": len(pool),
            "hits": len(marked),
            "hits_by_source": dict(sorted(Counter(marked["source"].to_list()).items())),
            "hits_with_half_of_an_item": int((marked["contaminated_share"] >= 0.5).sum()),
            "megabytes_a_second": round(pool["text"].str.len_bytes().sum() / 1e6 / seconds),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "decontamination.json")
    arguments = parser.parse_args()
    cases = pl.read_parquet(arguments.data / "decontam_cases.parquet")
    pool = pl.read_parquet(arguments.data / "pool.parquet", columns=["text", "source"])
    pool = pool.filter(pool["text"].str.len_bytes().cum_sum() <= POOL_BYTES)
    items = evaluation(arguments.data)
    measure(cases, pool.head(1), items, 13, 5)                              # compiles
    rules = [measure(cases, pool, items, n, min_words) for n, min_words in RULES]
    report = {
        "what": "recall and false alarms of curate.contamination on planted copies of test items",
        "machine": f"{platform.machine()}, 1 thread",
        "default": next(r for r in rules if (r["n"], r["min_words"]) == DEFAULT),
        "curve": [r for r in rules if (r["n"], r["min_words"]) != DEFAULT],
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print("  n  min  recall     reach  false  named   pool  MB/s  untestable")
    for r in sorted(rules, key=lambda r: (r["n"], r["min_words"])):
        reach, in_pool = f"{r['within_reach']['found']}/{r['within_reach']['documents']}", r["pool"]
        print(
            f"{r['n']:>3} {r['min_words']:>4} {r['recall']:>7.3f} {reach:>9} {r['false_alarms']:>6}"
            f" {r['attribution']:>6.3f} {in_pool['hits']:>6} {in_pool['megabytes_a_second']:>5}"
            f"  {r['index']['untestable']}"
        )


if __name__ == "__main__":
    main()
