"""Do the profiles ``...@datatrove`` decide as datatrove's own filters do, and what does a decision cost?

    python benchmarks/agreement_datatrove.py POOL.parquet [--rows N] [--out FOLDER]

POOL.parquet needs a column ``text``. Every document goes through datatrove's filters as they are (one process; they
share the words of a document through datatrove's own cache) and through ``quality.measure`` with ``quality.profile``.
Counted per profile: same keep or drop, same reason, and what lies behind each document that differs. The profiles
without ``@datatrove``, on words cut at whitespace, are compared too: they are meant to differ. Times are CPU seconds of
one thread, compilation left out; "cold" starts with an empty memo of words. The table goes to the terminal, numbers
and the differing documents (by row) to ``agreement_datatrove.json``.
"""

import argparse
import json
import platform
import time
import unicodedata
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.utils.text import split_into_words

from curate import text
from curate.quality import QualityMeasure, measure, profile

FILTERS = {"gopher": GopherQualityFilter, "gopher_repetition": GopherRepetitionFilter, "fineweb": FineWebQualityFilter}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--rows", type=int, help="only the first so many documents")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()

    docs = pq.read_table(args.pool, columns=["text"])[: args.rows].combine_chunks()
    docs = pa.table({"text": docs["text"].cast(pa.large_string()).combine_chunks()})
    megabytes = pc.sum(pc.binary_length(docs["text"])).as_py() / 1e6
    ours, speed = measure_both(docs, megabytes)
    theirs, words, seconds = ask_datatrove(docs["text"])
    speed["datatrove, three filters"] = megabytes / seconds

    agreement, differing = {}, []
    for name in FILTERS:
        for profile_name in (f"{name}@datatrove", name):
            got = ours[profile_name]
            agreement[profile_name] = {
                "dropped_by_datatrove": sum(reason is not None for reason in theirs[name]),
                "same_decision": sum((a is None) == (b is None) for a, b in zip(got, theirs[name], strict=True)),
                "same_reason": sum(a == b for a, b in zip(got, theirs[name], strict=True)),
            }
        for row, (a, b) in enumerate(zip(ours[f"{name}@datatrove"], theirs[name], strict=True)):
            if a != b:
                cause = why(docs["text"][row].as_py(), ours["words"][row], words[row])
                differing.append({"profile": f"{name}@datatrove", "row": row, "ours": a, "theirs": b, "cause": cause})
    found = {
        "documents": len(docs),
        "megabytes": round(megabytes, 3),
        "versions": {
            "python": platform.python_version(),
            "unicode": unicodedata.unidata_version,
            **{name: version(name) for name in ("datatrove", "spacy", "numba")},
        },
        "same_number_of_words": int(np.sum(np.array(ours["words"]) == np.array(words))),
        "agreement": agreement,
        "differing": differing,
        "megabytes_per_cpu_second": {name: round(value, 2) for name, value in speed.items()},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "agreement_datatrove.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    show(found)


def measure_both(docs: pa.Table, megabytes: float) -> tuple[dict[str, list], dict[str, float]]:
    """Our reasons by profile, the number of spaCy words, and megabytes a CPU second."""
    ours, speed = {}, {}
    for words in text.WORDS:
        config = QualityMeasure(words=words)
        measure(docs[:2], config)  # compile
        text.word_memo(words).forget()
        times = []
        for _ in range(4):
            start = time.process_time()
            numbers = pl.from_arrow(measure(docs, config))
            times.append(time.process_time() - start)
        if words == "spacy":
            speed["measure, spacy words, cold"] = megabytes / times[0]
            ours["words"] = numbers["spacy_words"].to_list()
        speed[f"measure, {words} words, warm"] = megabytes / sorted(times[1:])[1]
        for name in FILTERS:
            whole = name + ("@datatrove" if words == "spacy" else "")
            ours[whole] = reasons(numbers, whole)
    return ours, speed


def reasons(numbers: pl.DataFrame, name: str) -> list[str | None]:
    failing = pl.lit(None, dtype=pl.String)
    for rule in reversed(profile(name)):
        failing = pl.when(rule.keep.fill_null(False)).then(failing).otherwise(pl.lit(rule.because))
    return numbers.select(failing.alias("because"))["because"].to_list()


def ask_datatrove(texts: pa.ChunkedArray) -> tuple[dict[str, list], list[int], float]:
    """Reasons by filter, the number of words, and CPU seconds."""
    filters = {name: make() for name, make in FILTERS.items()}
    theirs: dict[str, list] = {name: [] for name in FILTERS}
    words = []
    split_into_words("Load the tokenizer.")
    start = time.process_time()
    for i, value in enumerate(texts):
        doc = Document(text=value.as_py(), id=str(i))
        for name, oracle in filters.items():
            answer = oracle.filter(doc)
            theirs[name].append(None if answer is True else answer[1])
        words.append(len(split_into_words(doc.text)))  # from its cache
        if i % 2000 == 1999:
            print(f"{i + 1:,} documents in {time.process_time() - start:.0f} s", flush=True)
    return theirs, words, time.process_time() - start


def why(value: str, ours: int, theirs: int) -> str:
    """What lies behind a difference."""
    if ours == theirs:
        return "same number of words: rule"
    if "IS_ALPHA" in value:
        return "words: datatrove cuts IS_ALPHA out"
    if max(len(piece.encode()) for piece in value.split()) > text.LONGEST_PIECE:
        return "words: a piece longer than LONGEST_PIECE"
    return "words: a special case that spaCy finds over whitespace"


def show(found: dict) -> None:
    n = found["documents"]
    print(f"\n{n:,} documents, {found['megabytes']:.1f} MB; same number of words: {found['same_number_of_words']:,}")
    print(f"{'profile':30}{'dropped there':>15}{'same decision':>22}{'same reason':>22}")
    for name, a in found["agreement"].items():
        share = [f"{a[k]:,} ({100 * a[k] / n:.3f} %)" for k in ("same_decision", "same_reason")]
        print(f"{name:30}{a['dropped_by_datatrove']:>15,}{share[0]:>22}{share[1]:>22}")
    for (name, cause), count in sorted(Counter((d["profile"], d["cause"]) for d in found["differing"]).items()):
        print(f"  differs: {name}, {cause}: {count}")
    for name, value in found["megabytes_per_cpu_second"].items():
        print(f"{name:40}{value:>8.2f} MB a CPU second")


if __name__ == "__main__":
    main()
