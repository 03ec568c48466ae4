"""How many contaminated documents are found, by the kind of edit, how many clean ones are accused, and how fast.

    python benchmarks/decontamination.py DATA_DIR [--out benchmarks/results/decontamination.json]

DATA_DIR holds ``decontam_cases.parquet`` (id, text, kind, contaminated, item_ids, longest_common_run_words: documents
into which test items were pasted, whole, in part, reformatted, or with words replaced), ``mc/*.jsonl`` (the items of
eight tasks, read with ``contamination.items``) and ``pool.parquet`` (38,935 documents in which nothing was planted).

The rules:

  default      an item is found where 13 words in a row are shared, or a third of the words of one of its texts
  ngram13      GPT-3's: 13 words in a row, and shorter texts as a whole
  ngramN       the same with N words: the curve
  datatrove    NGramsDecontFilter (12-grams of spaCy's words that touch the answer), and with n-grams of the question;
               on the cases and on DATATROVE_BYTES of the pool, where it can be imported

For each: recall by kind, false alarms by kind of clean document, whether the reported item is one that was pasted, and
the documents of the pool that it flags. The cases fall into two halves by a hash of their id. The default was
developed on half 0; half 1 was looked at once, after it was fixed. ``answer_only`` is told apart: its clean documents
hold a gold answer of a few words and nothing of the question, which no rule over words can tell from chance; its
contaminated ones hold a whole solution.

``flags`` lists what the default flags in the pool, to be judged by hand; JUDGED is what that gave. ``sensitivity``
moves each setting of the default by itself. Speeds are of one thread, megabytes of text a CPU second.
"""

import argparse
import hashlib
import json
import platform
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from curate.columns import TEXT
from curate.contamination import NGRAM13, Contamination, Overlap, index, items, open_index, overlap

CURVE = (5, 6, 7, 8, 10, 13)
EXACT = ("verbatim", "verbatim_with_answer", "formatting", "split_by_newlines", "several_items")
SENSITIVITY = (
    {"share": 0.2}, {"share": 0.25}, {"share": 0.4}, {"share": 0.5}, {"run": 10}, {"run": 20}, {"gap": 0}, {"gap": 40},
)  # fmt: skip
DATATROVE_BYTES = 3_000_000
SLICE = 8_000       # documents in a call
JUDGED = {          # by reading the documents: the item, whether the document is a copy of it
    "gsm8k_test-0602": "a twin: the same problem with a train for the plane and other numbers, 19 words in a row",
    "gsm8k_test-0673": "no copy: 'more than twice the number of books that' in another problem",
    "gsm8k_test-0024": "no copy: 'the original price. What was the original price of the' in another problem, twice",
    "arc_easy-2262": "no copy: the planets in their order, three versions of one page",
    "arc_easy-0914": "no copy: 'rise in the East and set in the West' in a novel",
    "arc_easy-0334": "no copy: 'passed on from one generation to the next'",
    "arc_easy-1370": "no copy: 'the level of carbon dioxide in the blood'",
    "openbook_qa-0418": "no copy: 'to change an object's shape', the whole question",
}


def texts_of(home: Path) -> pa.Table:
    """All texts of all items."""
    source = items(str(home / "mc" / "*.jsonl"))
    return pa.concat_tables([piece.table for file in source.listing() for piece in source.read(file)])


class Rule:
    """An index with a rule, applied to texts."""

    def __init__(self, texts: pa.Table, config: Contamination, rule: Overlap, *, any_hit: bool) -> None:
        self.config, self.rule, self.any_hit = config, rule, any_hit
        with tempfile.TemporaryDirectory() as home:
            self.built = index(texts, config, Path(home))
            self.opened = open_index(rule, against=Path(home))

    def __call__(self, texts: pl.Series) -> pl.DataFrame:
        """``hit``, and what ``overlap`` writes."""
        table = pl.DataFrame(overlap(pa.table({"text": texts.to_arrow().cast(TEXT)}), self.rule, self.opened))
        return table.with_columns(hit=pl.col("contaminated_ngrams" if self.any_hit else "contaminated_items") > 0)


def half_of(name: str) -> int:
    """The half of a case, by a hash of its id."""
    return hashlib.sha256(name.encode()).digest()[-1] & 1


def by_kind(cases: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Recall, false alarms and attribution of a table with ``hit``."""
    guilty, clean = cases.filter("contaminated"), cases.filter(~pl.col("contaminated"))
    found = guilty.filter("hit")
    out = {
        "recall": round(guilty["hit"].mean(), 4),
        "recall_by_kind": dict(guilty.group_by("kind").agg(pl.col("hit").mean().round(4)).sort("kind").rows()),
        "false_alarms": int(clean["hit"].sum()),
        "clean_documents": len(clean),
        "false_alarms_by_kind": dict(clean.group_by("kind").agg(pl.col("hit").sum()).sort("kind").rows()),
    }
    if "contaminated_item" in cases.columns:
        named = found.select(pl.col("contaminated_item").is_in(pl.col("item_ids")).mean()).item()
        out["attribution"] = round(named, 4)
    return out


def measure(rule: Rule, cases: pl.DataFrame, pool: pl.DataFrame) -> tuple[dict[str, Any], pl.DataFrame]:
    """Everything about one rule, and what it flags in the pool."""
    result = cases.hstack(rule(cases["text"]))
    begun = time.process_time()
    marked = pool.hstack(pl.concat([rule(piece["text"]) for piece in pool.iter_slices(SLICE)]))
    seconds = time.process_time() - begun
    marked = marked.filter("hit")
    reach = result.filter(pl.col("contaminated") & (pl.col("longest_common_run_words") >= rule.config.n))
    return {
        "n": rule.config.n,
        "min_words": rule.config.min_words,
        "any_hit": rule.any_hit,
        "settings": asdict(rule.rule),
        "index": rule.built,
        **by_kind(result),
        "halves": [by_kind(result.filter(pl.col("half") == half)) for half in (0, 1)],
        "within_reach": {"documents": len(reach), "found": int(reach["hit"].sum())},
        "pool": {
            "documents": len(pool),
            "hits": len(marked),
            "hits_by_source": dict(sorted(Counter(marked["source"].to_list()).items())),
            "megabytes_a_second": round(pool["text"].str.len_bytes().sum() / 1e6 / seconds),
        },
    }, marked


def flagged(marked: pl.DataFrame) -> list[dict[str, Any]]:
    """What was flagged, with the words of the place."""
    out = []
    for row in marked.sort("contaminated_share", descending=True).to_dicts():
        place = row["text"].encode()[row["contaminated_start"] : row["contaminated_end"]].decode()
        out.append({
            "id": row["id"], "source": row["source"], "item": row["contaminated_item"],
            "share": round(row["contaminated_share"], 3), "run": row["contaminated_run"],
            "place": " ".join(place.split())[:160], "judged": JUDGED.get(row["contaminated_item"]),
        })  # fmt: skip
    return out


def datatrove_filters(home: Path, texts: pa.Table) -> dict[str, Any]:
    """The filter of datatrove by name, with its index of the same items.

    Its indexer is made for lighteval's tasks; here its own function hashes the same questions and answers, by SHA-1,
    because xxhash 4 refuses the strings that it is given.
    """
    from types import SimpleNamespace

    import numpy as np
    from datatrove.data import Document
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer
    from datatrove.utils.hashing import HashConfig

    by_item: dict[tuple[str, str], list[str]] = {}
    for row in texts.to_pylist():
        by_item.setdefault((row["source"], row["id"]), []).append(row["text"])
    out = {}
    for name, queries in (("datatrove", False), ("datatrove with questions", True)):
        config = NGramsDecontConfig(find_query_ngrams=queries, hash_config=HashConfig(hash_fc="sha1"))
        folder = home / name
        folder.mkdir()
        step = NGramsDecontFilter(str(folder), config)
        parts = SimpleNamespace(config=config, tokenizer=step.tokenizer, hash_func=step.hash_func)
        hashes: dict[str, set[int]] = {}
        for (task, _), found in by_item.items():
            question, whole = (found[0], found[1]) if len(found) > 1 else ("", found[0])
            answer = whole[len(question) :].strip()
            hashes.setdefault(task, set()).update(NGramsDecontIndexer.compute_hashes(parts, answer, question))
        for task, values in hashes.items():
            np.array(sorted(values), dtype=config.hash_config.np_descr).tofile(folder / f"{task}.index.hashes")

        def hit(text: str, step: Any = step) -> bool:
            return step.filter(Document(text=text, id="")) is not True

        out[name] = hit
    return out


def beside_datatrove(cases: pl.DataFrame, pool: pl.DataFrame, texts: pa.Table) -> dict[str, Any]:
    """The same cases and the head of the pool through datatrove's filter."""
    pool = pool.filter(pool["text"].str.len_bytes().cum_sum() <= DATATROVE_BYTES)
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        for name, hit in datatrove_filters(Path(home), texts).items():
            result = cases.with_columns(hit=pl.Series([hit(text) for text in cases["text"]]))
            begun = time.process_time()
            hits = sum(hit(text) for text in pool["text"])
            seconds = time.process_time() - begun
            rate = round(pool["text"].str.len_bytes().sum() / 1e6 / seconds, 2)
            out[name] = by_kind(result) | {
                "pool": {"documents": len(pool), "hits": hits, "megabytes_a_second": rate}
            }  # fmt: skip
    return out


def line(name: str, r: dict[str, Any]) -> str:
    kinds = r["recall_by_kind"]
    least = min(kinds[k] for k in EXACT)
    cells = [least, *(kinds[k] for k in ("words_5pct", "words_15pct", "first_half", "answer_only"))]
    alarms = f"{r['false_alarms']}/{r['clean_documents']}"
    shown = " ".join(f"{x:>6.2f}" for x in cells)
    named = f"{r['attribution']:.3f}" if "attribution" in r else "    –"
    pool = f"{r['pool']['hits']:>6} {r['pool']['megabytes_a_second']:>6}" if "pool" in r else ""
    return f"{name:<24} {shown} {alarms:>7} {named} {pool}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "decontamination.json")
    arguments = parser.parse_args()
    cases = pl.read_parquet(arguments.data / "decontam_cases.parquet")
    cases = cases.with_columns(half=pl.col("id").map_elements(half_of, return_dtype=pl.Int64))
    pool = pl.read_parquet(arguments.data / "pool.parquet", columns=["id", "text", "source"])
    texts = texts_of(arguments.data)

    default = Rule(texts, Contamination(), Overlap(), any_hit=False)
    default(cases["text"].head(3))                                                     # compiles
    first, marked = measure(default, cases, pool)
    modes = {"default": first}
    modes["ngram13"], _ = measure(Rule(texts, NGRAM13, Overlap(), any_hit=True), cases, pool)
    for n in CURVE:
        if f"ngram{n}" not in modes:
            rule = Rule(texts, Contamination(n=n, min_words=min(n, 5)), Overlap(), any_hit=True)
            modes[f"ngram{n}"], _ = measure(rule, cases, pool)
    sensitivity = []
    for change in SENSITIVITY:
        default.rule = Overlap(**change)
        sensitivity.append({"change": change} | measure(default, cases, pool)[0])
    try:
        theirs = beside_datatrove(cases, pool, texts)
    except ImportError as error:
        theirs = {}
        print(f"datatrove was not run: {error}")
    report = {
        "what": "recall and false alarms of curate.contamination on planted copies of test items",
        "machine": f"{platform.machine()}, 1 thread",
        "default": first,
        "ngram13": modes["ngram13"],
        "curve": [modes[f"ngram{n}"] for n in CURVE],
        "sensitivity": sensitivity,
        "datatrove": theirs,
        "flags": flagged(marked),
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{'':<24}  exact   5 %   15 %   half answer  alarms named   pool   MB/s")
    for name, r in (modes | theirs).items():
        print(line(name, r))
    for half, r in enumerate(first["halves"]):
        print(line(f"default, half {half}", r))
    for r in sensitivity:
        print(line(f"default, {', '.join(f'{k} {v}' for k, v in r['change'].items())}", r))
    print("\nflagged in the pool:")
    for flag in report["flags"]:
        print(f"  {flag['share']:.2f} {flag['run']:>3} {flag['item']:<18} {flag['source']:<18} {flag['place'][:90]}")
    print(f"items not testable: {first['index']['untestable']:,} of {first['index']['items']:,}")


if __name__ == "__main__":
    main()
