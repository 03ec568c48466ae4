r"""Main text of web pages: is it what the libraries reach by themselves, and what does the isolation cost?

    python benchmarks/extraction.py html_gold.parquet [--rounds 5] [--out FOLDER]

The file needs the columns ``html`` (bytes), ``gold_kind`` and, where that is ``full``, ``gold_text``, where it is
``segments``, ``gold_with`` and ``gold_without`` (lists of texts). Every page goes through ``pages.extract`` and, in
this process, through the library itself; the texts must be equal.

full        shingles of four words (``\w+``), as a multiset, as in scrapinghub/article-extraction-benchmark
            (evaluate.py at 11b407d): true and false positives and false negatives, divided by their sum for each page;
            precision and recall are means over the pages where they are defined, F1 is theirs; the interval is 1.96
            standard deviations over 1,000 bootstraps of pages (here from a fixed seed).
segments    pieces of text that must be in the result, and such that must not, as in trafilatura's own evaluation.

Speed: rounds of the library and the stage in turn. CPU seconds of the stage are those of this process and the child's,
start-up left out; wall time is of one thread of pages, the child working while this process waits.
"""

import argparse
import json
import platform
import random
import re
import statistics
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from curate import pages
from curate.columns import TEXT
from curate.extracting import child
from curate.reading.warc import characters

CONFIGS = {
    "resiliparse": pages.Extract(),
    "resiliparse, all text": pages.Extract(main_content=False),
    "trafilatura": pages.Extract(extractor="trafilatura"),
    "trafilatura, precision, no comments": pages.Extract(extractor="trafilatura", favor="precision", comments=False),
    "trafilatura, fast": pages.Extract(extractor="trafilatura", fast=True),
}
WORD = re.compile(r"\w+")
BOOTSTRAPS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("gold", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="some of the settings, by name")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()

    gold = pq.read_table(args.gold)
    texts = pa.array([characters(page, None) for page in gold["html"].to_pylist()], TEXT)
    docs = pa.table({"id": pa.array([str(i) for i in range(len(texts))], TEXT), "text": texts})
    rows = gold.drop_columns(["html"]).to_pylist()
    found = {"pages": len(docs), "megabytes": round(texts.nbytes / 1e6, 1), "versions": {
        "python": platform.python_version(),
        **{name: version(name) for name in ("resiliparse", "trafilatura", "lxml", "justext", "fastwarc")},
    }, "settings": {}}  # fmt: skip
    for name, config in CONFIGS.items():
        if args.only and name not in args.only:
            continue
        ours, theirs, speed = compare(docs, config, args.rounds)
        found["settings"][name] = {
            "equal": sum(a == b for a, b in zip(ours, theirs, strict=True)),
            "full": {"ours": shingle_scores(rows, ours), "library": shingle_scores(rows, theirs)},
            "segments": {"ours": segment_scores(rows, ours), "library": segment_scores(rows, theirs)},
            "speed": speed,
        }
        show(name, found["settings"][name], len(docs))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "extraction.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def compare(docs: pa.Table, config: pages.Extract, rounds: int) -> tuple[list[str], list[str], dict[str, object]]:
    """Texts by the stage and by the library, and pages a second of both."""
    library = child.opened(config.extractor, pages.arguments(config))
    sandbox = pages.open_sandbox(config)
    pages.extract(docs.slice(0, 3), config, sandbox)
    library(child.SMALL)
    cpu: dict[str, list[float]] = {"library": [], "ours": []}
    wall: dict[str, list[float]] = {"library": [], "ours": []}
    for _ in range(rounds):
        began, spent = time.perf_counter(), time.process_time()
        theirs = [library(page) or "" for page in docs["text"].to_pylist()]
        cpu["library"].append(time.process_time() - spent)
        wall["library"].append(time.perf_counter() - began)
        began, spent = time.perf_counter(), time.process_time() + below(sandbox)
        table = pages.extract(docs, config, sandbox)
        cpu["ours"].append(time.process_time() + below(sandbox) - spent)
        wall["ours"].append(time.perf_counter() - began)
    sandbox.close()
    ours = [""] * len(docs)
    for row, text in zip(table["row"].to_pylist(), table["text"].to_pylist(), strict=True):
        ours[row] = text or ""
    rates = {f"pages_per_{kind}_second": {who: len(docs) / statistics.median(t) for who, t in times.items()}
             for kind, times in (("cpu", cpu), ("wall", wall))}  # fmt: skip
    ratios = {f"{kind}_ratio": statistics.median(a / b for a, b in zip(t["ours"], t["library"], strict=True))
              for kind, t in (("cpu", cpu), ("wall", wall))}  # fmt: skip
    return ours, theirs, {"rounds": rounds, **rates, **ratios}


def below(sandbox: object) -> float:
    """CPU seconds of the child and its worker so far."""
    first = psutil.Process(sandbox._far._process.pid)
    return sum(sum(each.cpu_times()[:2]) for each in [first, *first.children(recursive=True)])


def shingle_scores(rows: list[dict], texts: list[str]) -> dict[str, float]:
    """Precision, recall and F1 of pages with a full text, with bootstrap intervals."""
    counts = [shares(row["gold_text"] or "", text) for row, text in zip(rows, texts, strict=True)
              if row["gold_kind"] == "full"]  # fmt: skip
    if not counts:
        return {}
    dice = random.Random(0)
    again = [means([counts[dice.randrange(len(counts))] for _ in counts]) for _ in range(BOOTSTRAPS)]
    found = means(counts)
    return {"pages": len(counts), **found, **{
        f"{name}_interval": 1.96 * statistics.stdev(each[name] for each in again) for name in found
    }}  # fmt: skip


def shares(gold: str, text: str) -> tuple[float, float, float]:
    """True positive, false positive and false negative shingles, as shares of all."""
    true, found = shingles(gold), shingles(text)
    both = sum((true & found).values())
    extra, missing = sum((found - true).values()), sum((true - found).values())
    total = both + extra + missing
    return (both / total, extra / total, missing / total) if total else (0.0, 0.0, 0.0)


def shingles(text: str) -> Counter:
    words = WORD.findall(text)
    if len(words) <= 4:
        return Counter([tuple(words)] if words else [])
    return Counter(zip(words, words[1:], words[2:], words[3:], strict=False))


def means(counts: list[tuple[float, float, float]]) -> dict[str, float]:
    """Of pages where something was found, or was to be found; 1 where nothing is wrong."""
    precision = statistics.fmean(1.0 if fp == fn == 0 else tp / (tp + fp) for tp, fp, fn in counts if tp + fp > 0)
    recall = statistics.fmean(1.0 if fp == fn == 0 else tp / (tp + fn) for tp, fp, fn in counts if tp + fn > 0)
    return {"f1": 2 * precision * recall / (precision + recall), "precision": precision, "recall": recall}


def segment_scores(rows: list[dict], texts: list[str]) -> dict[str, float]:
    """Counts over all segments of all pages that have some."""
    tp = fn = fp = tn = 0
    for row, text in zip(rows, texts, strict=True):
        if row["gold_kind"] == "segments":
            wanted = sum(segment in text for segment in row["gold_with"])
            unwanted = sum(segment in text for segment in row["gold_without"])
            tp, fn = tp + wanted, fn + len(row["gold_with"]) - wanted
            fp, tn = fp + unwanted, tn + len(row["gold_without"]) - unwanted
    if not tp:
        return {}
    return {"precision": tp / (tp + fp), "recall": tp / (tp + fn), "f1": 2 * tp / (2 * tp + fp + fn),
            "accuracy": (tp + tn) / (tp + tn + fp + fn)}  # fmt: skip


def show(name: str, found: dict, pages_: int) -> None:
    full, segments, speed = found["full"], found["segments"], found["speed"]
    print(f"\n{name}: {found['equal']} of {pages_} texts are the library's own")
    for who in ("library", "ours"):
        f, s = full[who], segments[who]
        if f:
            print(f"  {who:8} full      F1 {f['f1']:.3f} ± {f['f1_interval']:.3f}  precision {f['precision']:.3f}  "
                  f"recall {f['recall']:.3f}  ({f['pages']} pages)")  # fmt: skip
        if s:
            print(f"  {who:8} segments  F1 {s['f1']:.3f}  precision {s['precision']:.3f}  recall {s['recall']:.3f}  "
                  f"accuracy {s['accuracy']:.3f}")  # fmt: skip
    cpu, wall = speed["pages_per_cpu_second"], speed["pages_per_wall_second"]
    print(f"  pages a CPU second: {cpu['library']:.0f}, ours {cpu['ours']:.0f} (CPU x {speed['cpu_ratio']:.3f}); "
          f"a second: {wall['library']:.0f}, {wall['ours']:.0f} (wall x {speed['wall_ratio']:.3f})")  # fmt: skip


if __name__ == "__main__":
    main()
