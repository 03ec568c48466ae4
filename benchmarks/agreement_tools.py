"""Do the profiles ``...@dclm``, ``...@dolma`` and ``...@curator`` decide as those tools' own code does?

    python benchmarks/agreement_tools.py POOL.parquet [--rows N] [--out FOLDER]
        [--dolma PYTHON]             an interpreter with the package dolma (tried with 1.2.1; `uv pip install dolma`)
        [--dclm CHECKOUT PYTHON]     mlfoundations/dclm; an interpreter with fasttext, uniseg, nltk and unidecode
        [--curator CHECKOUT PYTHON]  NVIDIA-NeMo/Curator; an interpreter with regex and loguru

POOL.parquet needs a column ``text``. Every document goes through the tool's own functions, in a process of its own,
and through ``quality.measure`` with ``quality.profile``. Counted per profile: same keep or drop, same reason; documents
that differ are listed by row. DCLM's functions name no reason, so theirs is the first that returns nothing; a filter of
Curator that fails on a text without words counts as a drop (``empty``). Curator is run under two hash seeds, because
its choice among equally frequent n-grams depends on that: documents whose decision changes are counted, and those
where ours could not agree with both are listed with that cause. CPU seconds are those of one process each.

Each tool's part of ``agreement_tools.json`` is replaced by a run for that tool; the others stay.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.quality import QualityMeasure, measure, profile

# What runs in the tool's process: `texts` to reasons by profile, each a list with None for a kept text.
COMMON = """
import json, os, sys, time, types
texts = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
def packages(root, *names):  # without what their __init__ imports
    for name in names:
        sys.modules[name] = package = types.ModuleType(name)
        package.__path__ = [root + "/" + name.replace(".", "/")]
def answer(filters):
    start = time.process_time()
    found = {name: [first(text) for text in texts] for name, first in filters.items()}
    json.dump({"reasons": found, "seconds": time.process_time() - start, "tool": TOOL}, open(sys.argv[2], "w"))
"""
DOLMA = COMMON + """
from importlib.metadata import version
from dolma.taggers.gopher import get_attributes
TOOL = "dolma " + version("dolma")
TOP = {2: 0.20, 3: 0.18, 4: 0.16}
REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
def quality(a):
    yield "word_count", a.word_count < 50 or a.word_count > 100000
    yield "median_word_length", a.median_word_length < 3 or a.median_word_length > 10
    yield "symbol_to_word_ratio", a.symbol_to_word_ratio > 0.1
    yield "fraction_of_words_with_alpha_character", a.fraction_of_words_with_alpha_character < 0.8
    yield "required_word_count", a.required_word_count < 2
    yield "fraction_of_lines_starting_with_bullet_point", a.fraction_of_lines_starting_with_bullet_point > 0.9
    yield "fraction_of_lines_ending_with_ellipsis", a.fraction_of_lines_ending_with_ellipsis > 0.3
def repetition(a, top=True):
    yield "fraction_of_duplicate_lines", a.fraction_of_duplicate_lines > 0.3
    yield "fraction_of_characters_in_duplicate_lines", a.fraction_of_characters_in_duplicate_lines > 0.3
    for n, share in a.fraction_of_characters_in_most_common_ngram:
        if top:
            yield f"fraction_of_characters_in_most_common_{n}grams", share > TOP[n]
    for n, share in a.fraction_of_characters_in_duplicate_ngrams:
        yield f"fraction_of_characters_in_duplicate_{n}grams", share > REPEATED[n]
seen = {}
def attributes(text, v2):
    if (text, v2) not in seen:
        seen.clear()
        seen[text, v2] = get_attributes(text, ignore_empty_lines=v2)
    return seen[text, v2]
def first(rules, v2, **more):
    return lambda text: next((name for name, drops in rules(attributes(text, v2), **more) if drops), None)
answer({
    "gopher@dolma": first(quality, False),
    "gopher_repetition@dolma": first(repetition, False),
    "gopher_repetition@dolma-1.6": first(repetition, False, top=False),
    "gopher@dolma-v2": first(quality, True),
    "gopher_repetition@dolma-v2": first(repetition, True),
})
"""
DCLM = COMMON + """
packages(sys.argv[3], "baselines", "baselines.mappers", "baselines.mappers.filters")
packages(sys.argv[3] + "/baselines", "core")
try:
    import transformers
except ImportError:  # only for a filter on code
    sys.modules["transformers"] = types.SimpleNamespace(AutoTokenizer=None)
from baselines.mappers.filters import content_filters as f
from importlib.metadata import version
TOOL = "dclm with uniseg " + version("uniseg")
quality = {
    "page_length_filter": lambda page: f.page_length_filter(
        page, length_type="word", min_length=50, max_length=100000, ignore_punctuation=True),
    "word_length_filter": lambda page: f.word_length_filter(page, min_length=3, max_length=10),
    "symbol_ratio_filter": lambda page: f.symbol_ratio_filter(page, max_symbol_to_word_ratio=0.1),
    "bullet_count_filter": lambda page: f.bullet_count_filter(page, max_bullet_start_ratio=0.9),
    "ellipsis_count_filter": lambda page: f.ellipsis_count_filter(page, max_ellipsis_end_ratio=0.3),
    "alphabetic_word_ratio_filter": lambda page: f.alphabetic_word_ratio_filter(page, max_ratio=0.2),
    "stop_word_filter": lambda page: f.stop_word_filter(page, count_unique=False, min_stop_word=2),
}
# massive_web_repetition_filters with its own cache, step by step, so that the step that drops is known.
steps = [("repeated_lines", "line", 0.3, False), ("repeated_paragraphs", "paragraph", 0.3, False),
         ("repeated_line_characters", "line", 0.2, True), ("repeated_paragraph_characters", "paragraph", 0.2, True)]
steps += [(f"top_{n}_gram", n, most, True) for n, most in ((2, 0.2), (3, 0.18), (4, 0.16))]
steps += [(f"repeated_{n}_grams", n, most, True) for n, most in enumerate((0.15, 0.14, 0.13, 0.12, 0.11, 0.10), 5)]
def repetition(text):
    page, cache = {"text": text}, {}
    reason = None
    if text.strip() == "":
        reason = "empty"
    else:
        for name, what, most, characters in steps:
            if not f.repetition_filter(page, what, most, count_characters=characters, cache=cache):
                reason = name
                break
    assert bool(f.massive_web_repetition_filters(page)) == (reason is None) if len(text) < 2000 else True
    return reason
answer({
    "gopher@dclm": lambda text: next((name for name, keeps in quality.items() if not keeps({"text": text})), None),
    "gopher_repetition@dclm": repetition,
})
"""
CURATOR = COMMON + """
packages(sys.argv[3], "nemo_curator", "nemo_curator.stages", "nemo_curator.stages.text",
         "nemo_curator.stages.text.filters", "nemo_curator.stages.text.utils",
         "nemo_curator.stages.text.filters.heuristic")
from nemo_curator.stages.text.filters.heuristic import string as s
from nemo_curator.stages.text.filters.heuristic.repetition import repetition as r
TOOL = "NeMo Curator"
grams = [r.RepeatingTopNGramsFilter(n, most) for n, most in ((2, 0.2), (3, 0.18), (4, 0.16))]
repeated = enumerate((0.15, 0.14, 0.13, 0.12, 0.11, 0.10), 5)
grams += [r.RepeatingDuplicateNGramsFilter(n, most) for n, most in repeated]
copies = [r.RepeatedLinesFilter(0.7), r.RepeatedParagraphsFilter(0.7), r.RepeatedLinesByCharFilter(0.8),
          r.RepeatedParagraphsByCharFilter(0.8)]
symbols, count, mean = s.SymbolsToWordsFilter(0.1), s.WordCountFilter(50, 100000), s.MeanWordLengthFilter(3, 10)
alphabets, common = s.WordsWithoutAlphabetsFilter(0.8), s.CommonEnglishWordsFilter(2, True)
ellipsis, bullets = s.EllipsisFilter(0.3), s.BulletsFilter(0.9)
english = [s.NonAlphaNumericFilter(0.25), symbols, s.NumbersFilter(0.15), s.UrlsFilter(0.2), s.WhiteSpaceFilter(0.25),
           s.ParenthesesFilter(0.1), s.BoilerPlateStringFilter(True, 0.4), *copies, count, s.PunctuationFilter(0.85),
           alphabets, common, mean, s.LongWordFilter(1000), ellipsis, *grams, bullets]
scores = {}
def drops(filter, text):
    if (filter, text) not in scores:
        if scores and next(iter(scores))[1] != text:
            scores.clear()
        try:
            scores[filter, text] = not filter.keep_document(filter.score_document(text))
        except (ZeroDivisionError, ValueError):
            scores[filter, text] = True
    return scores[filter, text]
def first(filters):
    def reason(text):
        if not text.split():
            return "empty"
        return next((filter._name for filter in filters if drops(filter, text)), None)
    return reason
answer({
    "english@curator": first(english),
    "gopher@curator": first([symbols, count, alphabets, common, mean, ellipsis, bullets]),
    "gopher_repetition@curator": first(copies + grams),
})
"""


TIE = "theirs depends on the hash seed: several n-grams are equally frequent"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--rows", type=int, help="only the first so many documents")
    parser.add_argument("--dolma", nargs=1, metavar="PYTHON")
    parser.add_argument("--dclm", nargs=2, metavar=("CHECKOUT", "PYTHON"))
    parser.add_argument("--curator", nargs=2, metavar=("CHECKOUT", "PYTHON"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()

    docs = pq.read_table(args.pool, columns=["text"])[: args.rows]
    docs = pa.table({"text": docs["text"].cast(pa.large_string()).combine_chunks()})
    path = args.out / "agreement_tools.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    if args.dolma:
        found["dolma"] = compare(docs, [ask(DOLMA, docs, args.dolma[0])])
    if args.dclm:
        found["dclm"] = compare(docs, [ask(DCLM, docs, args.dclm[1], args.dclm[0])])
    if args.curator:
        checkout, python = args.curator
        found["curator"] = compare(docs, [ask(CURATOR, docs, python, checkout, seed=seed) for seed in (0, 1)])
    args.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for tool in found.values():
        show(tool)


def ask(program: str, docs: pa.Table, python: str, *arguments: str, seed: int = 0) -> dict:
    """The tool's reasons by profile, and CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        texts, answers, script = (Path(folder) / name for name in ("texts", "answers", "ask.py"))
        with texts.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(text) + "\n" for text in docs["text"].to_pylist())
        script.write_text(program, encoding="utf-8")
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": ""}
        subprocess.run([python, script, texts, answers, *arguments], check=True, env=environment)
        return json.loads(answers.read_text())


def compare(docs: pa.Table, theirs: list[dict]) -> dict:
    """Decisions and reasons beside ours; several answers where the tool's own depend on its hash seed."""
    names = tuple(theirs[0]["reasons"])
    config = QualityMeasure(profiles=names)
    measure(docs[:2], config)  # compile
    start = time.process_time()
    numbers = pl.from_arrow(measure(docs, config))
    seconds = time.process_time() - start
    megabytes = pc.sum(pc.binary_length(docs["text"])).as_py() / 1e6
    profiles = {}
    for name in names:
        ours = reasons(numbers, name)
        answers = [set(row) for row in zip(*(answer["reasons"][name] for answer in theirs), strict=True)]
        kept = [{reason is None for reason in row} for row in answers]
        differing = [
            {
                "row": i,
                "ours": a,
                "theirs": sorted(map(str, answers[i])),
                "cause": TIE if len(kept[i]) > 1 or hangs_on_a_tie(docs["text"][i].as_py()) else "unknown",
            }
            for i, a in enumerate(ours)
            if kept[i] != {a is None}
        ]
        causes = Counter(one["cause"] for one in differing)
        profiles[name] = {
            "dropped": sum(a is not None for a in ours),
            "same_decision": len(ours) - len(differing),
            "same_reason": sum({a} == b for a, b in zip(ours, answers, strict=True)),
            "decision_depends_on_their_hash_seed": sum(len(row) > 1 for row in kept),
            "causes": dict(causes),
            "differing": differing[:100],
        }
    versions = {name: version(name) for name in ("numba", "polars")}
    return {
        "tool": theirs[0]["tool"],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "documents": len(docs),
        "megabytes": round(megabytes, 3),
        "versions": {"python": platform.python_version(), **versions},
        "profiles": profiles,
        "megabytes_per_cpu_second": {
            "ours, every measure stored": round(megabytes / seconds, 2),
            "theirs, up to the first rule that drops": round(megabytes / theirs[0]["seconds"], 2),
        },
    }


def hangs_on_a_tie(text: str) -> bool:
    """Would Curator's share of a top n-gram pass for one of the most frequent n-grams and fail for another?"""
    words = text.split()
    for n, most in ((2, 0.20), (3, 0.18), (4, 0.16)):
        counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        top = [" ".join(gram) for gram, times in counts.items() if times == max(counts.values())]
        shares = [(len(text) - len(text.replace(gram, ""))) / len(text) for gram in top]
        if shares and min(shares) <= most < max(shares):
            return True
    return False


def reasons(numbers: pl.DataFrame, name: str) -> list[str | None]:
    failing = pl.lit(None, dtype=pl.String)
    for rule in reversed(profile(name)):
        failing = pl.when(rule.keep.fill_null(False)).then(failing).otherwise(pl.lit(rule.because))
    return numbers.select(failing.alias("because"))["because"].to_list()


def show(found: dict) -> None:
    n = found["documents"]
    print(f"\n{found['tool']}: {n:,} documents, {found['megabytes']:.1f} MB")
    print(f"{'profile':30}{'dropped':>10}{'same decision':>22}{'same reason':>22}{'by their hash seed':>20}")
    for name, a in found["profiles"].items():
        share = [f"{a[k]:,} ({100 * a[k] / n:.3f} %)" for k in ("same_decision", "same_reason")]
        unsure = a["decision_depends_on_their_hash_seed"]
        print(f"{name:30}{a['dropped']:>10,}{share[0]:>22}{share[1]:>22}{unsure:>20,}")
        for cause, count in a["causes"].items():
            print(f"  differs: {count:,}: {cause}")
    for name, value in found["megabytes_per_cpu_second"].items():
        print(f"{name:45}{value:>8.2f} MB a CPU second")


if __name__ == "__main__":
    main()
