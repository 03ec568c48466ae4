"""Do C4's and RefinedWeb's edits, reasons and texts equal those of the tools' own code, and what do they cost?

    python benchmarks/agreement_c4.py POOL.parquet [--dclm CHECKOUT] [--tfds C4_UTILS.py] [--rows N] [--out FOLDER]

POOL.parquet needs a column ``text``. Every document goes through each tool's own functions, as they are, and through
our stage and profile; counted are the documents with the same decision, the same reason and, byte for byte, the same
text.

- datatrove: ``C4QualityFilter`` by default and as FineWeb had it (lines need no end mark), ``C4ParagraphFilter``.
- DCLM, where ``--dclm`` names a checkout of mlfoundations/dclm: the steps of ``c4.yaml`` up to its de-duplication, and
  of ``dclm_baseline_refinedweb.yaml`` the URLs and newlines and the line corrections with their rule. What its modules
  import and these steps do not use is replaced by empty modules (its language and quality models, AWS); retrie,
  uniseg, unidecode, beautifulsoup4 and justext have to be importable (``pip install --target FOLDER --no-deps``, and
  FOLDER on PYTHONPATH).
- the original, where ``--tfds`` names ``tensorflow_datasets/text/c4_utils.py``: ``clean_page`` and
  ``paragraph_filter``, with TensorFlow and Beam replaced by empty modules and its counters by ours.

The last two split sentences with NLTK's Punkt and need its data ``punkt_tab`` (``NLTK_DATA`` says where). Times are CPU
seconds of one thread, compilation left out; "cold" starts with an empty memo. Also counted: how often the profile
``c4``, which splits sentences at end marks, decides as ``c4@original``. The table goes to the terminal, numbers and the
first differing documents (by row) to ``agreement_c4.json``.
"""

import argparse
import importlib
import json
import platform
import sys
import time
import types
import unicodedata
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import c4, edits, refinedweb, text

Answer = tuple[str | None, str | None]  # why the page is dropped, or None; what is left of its text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--dclm", type=Path, help="a checkout of mlfoundations/dclm")
    parser.add_argument("--tfds", type=Path, help="the file tensorflow_datasets/text/c4_utils.py")
    parser.add_argument("--rows", type=int, help="only the first so many documents")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()

    docs = pq.read_table(args.pool, columns=["text"])[: args.rows].combine_chunks()
    docs = pa.table({"text": docs["text"].cast(pa.large_string()).combine_chunks()})
    megabytes = pc.sum(pc.binary_length(docs["text"])).as_py() / 1e6
    found: dict[str, Any] = {
        "date": date.today().isoformat(),
        "documents": len(docs),
        "megabytes": round(megabytes, 3),
        "versions": {
            "python": platform.python_version(),
            "unicode": unicodedata.unidata_version,
            **{name: version(name) for name in ("datatrove", "spacy", "nltk", "numba", "polars")},
        },
        "agreement": {},
    }
    compare(found["agreement"], docs, megabytes, datatrove_cases())
    if args.tfds:
        compare(found["agreement"], docs, megabytes, original_cases(args.tfds))
        plain, own = (reasons(run(docs, c4.edit, c4.C4(tool=t)), c4.profile(n))
                      for t, n in ((None, "c4"), ("original", "c4@original")))  # fmt: skip
        same = sum((a is None) == (b is None) for a, b in zip(plain, own, strict=True))
        found["c4_decides_as_c4@original"] = same / len(docs)
    if args.dclm:
        compare(found["agreement"], docs, megabytes, dclm_cases(args.dclm))
    plain_speed(found, docs, megabytes)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "agreement_c4.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    show(found)


Case = tuple[str, Any, Any, tuple[Any, ...], Callable[[str], Answer]]  # name, stage, settings, rules, the tool


def compare(into: dict[str, Any], docs: pa.Table, megabytes: float, cases: list[Case]) -> None:
    for name, stage, config, rules, tool in cases:
        run(docs[:2], stage, config)  # compile
        text.word_memo("spacy").forget()
        times = []
        for _ in range(3):
            start = time.process_time()
            table = run(docs, stage, config)
            times.append(time.process_time() - start)
        ours = reasons(table, rules)
        edited = table["text"].to_list() if "text" in table.columns else [None] * len(docs)
        tool("The tool loads its tokenizers.")
        start = time.process_time()
        theirs = [tool(value.as_py()) for value in docs["text"]]
        seconds = time.process_time() - start
        counts = {"same_decision": 0, "same_reason": 0, "same_text": 0, "kept_by_the_tool": 0}
        differing = []
        for row, (because, left, (reason, result)) in enumerate(zip(ours, edited, theirs, strict=True)):
            counts["kept_by_the_tool"] += reason is None
            counts["same_decision"] += (because is None) == (reason is None)
            counts["same_reason"] += because == reason
            same_text = result is None or left is None or left == result
            counts["same_text"] += same_text
            if because != reason or not same_text:
                differing.append({"row": row, "ours": because, "theirs": reason, "same_text": same_text})
        into[name] = {
            **counts,
            "differing": differing[:50],
            "megabytes_per_cpu_second": {
                "ours, cold": round(megabytes / times[0], 1),
                "ours, warm": round(megabytes / min(times[1:]), 1),
                "theirs": round(megabytes / seconds, 2),
            },
        }


def run(docs: pa.Table, stage: Any, config: Any) -> pl.DataFrame:
    return pl.DataFrame(stage(docs) if config is None else stage(docs, config))


def reasons(numbers: pl.DataFrame, rules: tuple[Any, ...]) -> list[str | None]:
    failing = pl.lit(None, dtype=pl.String)
    for rule in reversed(rules):
        failing = pl.when(rule.keep.fill_null(False)).then(failing).otherwise(pl.lit(rule.because))
    return numbers.with_columns(failing.alias("because"))["because"].to_list()


# --- datatrove --------------------------------------------------------------------------------------------------------


def datatrove_cases() -> list[Case]:
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4ParagraphFilter, C4QualityFilter

    def ask(oracle: Any) -> Callable[[str], Answer]:
        def answer(value: str) -> Answer:
            doc = Document(text=value, id="")
            result = oracle.filter(doc)
            return (None, doc.text) if result is True else (result[1], None)

        return answer

    config, rules = c4.C4(tool="datatrove"), c4.profile("c4@datatrove")
    fineweb = c4.C4(tool="datatrove", end_marks=())
    return [
        ("c4@datatrove", c4.edit, config, rules, ask(C4QualityFilter())),
        ("c4@datatrove, FineWeb", c4.edit, fineweb, rules, ask(C4QualityFilter(filter_no_terminal_punct=False))),
        ("mc4@datatrove", c4.paragraphs, None, c4.profile("mc4@datatrove"), ask(C4ParagraphFilter())),
    ]


# --- The original -----------------------------------------------------------------------------------------------------


class Empty(types.ModuleType):
    """Stands for a module that is imported and not used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def original_cases(path: Path) -> list[Case]:
    from nltk.tokenize.punkt import PunktTokenizer

    for name in ("absl", "absl.logging", "tensorflow", "tensorflow.compat", "tensorflow.compat.v2",
                 "tensorflow_datasets", "tensorflow_datasets.public_api"):  # fmt: skip
        module = sys.modules.setdefault(name, Empty(name))
        if "." in name:
            setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], module)
    sys.path.insert(0, str(path.parent))
    module: Any = importlib.import_module(path.stem)
    punkt = PunktTokenizer("english")
    module._get_sentences = lambda value: list(punkt.tokenize(value))
    clean = module.get_clean_page_fn()
    counted: list[str] = []
    count = lambda name, amount=1: counted.append(name)  # noqa: E731
    module.get_counter_inc_fn = lambda namespace: count

    def ask(value: str) -> Answer:
        counted.clear()
        if not module.is_valid_length(("", {"text": value})):
            return "contenttoolong", None
        for _, features in clean(("", {"text": value})):
            return None, features["text"]
        return counted[-1].replace("filtered-page-", "").replace("filtered:", "").replace("_", ""), None

    def ask_paragraphs(value: str) -> Answer:
        return (None if module.paragraph_filter(("", {"text": value})) else "paragraph-filter"), None

    cases: list[Case] = [
        ("c4@original", c4.edit, c4.C4(tool="original"), c4.profile("c4@original"), ask),
    ]
    if hasattr(module, "paragraph_filter"):
        cases.append(("mc4@original", c4.paragraphs, None, c4.profile("mc4@original"), ask_paragraphs))
    return cases


# --- DCLM -------------------------------------------------------------------------------------------------------------


def dclm_cases(checkout: Path) -> list[Case]:
    from nltk.tokenize.punkt import PunktTokenizer

    sys.path[:0] = [str(checkout), str(checkout / "baselines")]
    missing = ("transformers", "kenlm", "sentencepiece", "langdetect", "boto3", "botocore", "jsonlines", "smart_open",
               "zstandard")  # fmt: skip
    before = {name: sys.modules.get(name) for name in missing}
    sys.modules.update({name: Empty(name) for name in missing})
    modify = importlib.import_module("baselines.mappers.modifiers")
    judge = importlib.import_module("baselines.mappers.filters.content_filters")
    enrich = importlib.import_module("baselines.mappers.enrichers.enrichers")
    core = importlib.import_module("baselines.mappers.core_utils")
    for name, module in before.items():
        if module is None:
            del sys.modules[name]
        else:
            sys.modules[name] = module
    core.sent_tokenizer = PunktTokenizer("english")
    core._prep_nltk_tokenizer = lambda language: None
    tlds = checkout / "baselines/mappers/iana_tlds.txt"

    def ask(steps: list[tuple[str, Callable[[dict[str, Any]], Any]]]) -> Callable[[str], Answer]:
        def answer(value: str) -> Answer:
            page = {"text": value}
            for because, step in steps:
                result = step(page)
                if not result:
                    return because, None
                page = result[0] if isinstance(result, list) else result
            return None, page["text"]

        return answer

    few = "page_length_filter_sentence"  # what is left is empty: no step of ours has a reason of its own for it
    cleaning = ask([
        ("page_length_filter_char", lambda p: judge.page_length_filter(p, length_type="char", max_length=190_000)),
        (few, lambda p: modify.word_length_modifier(p, max_length=1000, model="split")),
        (few, modify.citation_removal_modifier()),
        (few, modify.punctuation_line_modifier(remove_ellipses=True)),
        (few, lambda p: modify.line_length_modifier(p, min_length=5)),
        ("substring_filter_lorem_ipsum", judge.substring_filter(banlist=["lorem ipsum"])),
        (few, modify.substring_line_modifier(["javascript"])),
        ("substring_filter_curly_bracket", judge.substring_filter(banlist=["{"])),
        (few, modify.substring_line_modifier(list(c4.POLICY))),
        (few, lambda p: judge.page_length_filter(
            p, length_type="sentence", min_length=3, tokenizer="nltk", tokenizer_lang="english")),
    ])  # fmt: skip
    removed = "word_removal_ratio_filter"

    def cut(phrase: str, location: str) -> tuple[str, Callable[[dict[str, Any]], Any]]:
        return removed, modify.substring_line_modifier(
            phrase, max_length=10, location=location, remove_substring_only=True
        )

    correcting = ask([
        (removed, lambda p: enrich.word_counter_enricher(p, key="previous_word_count")),
        (removed, lambda p: modify.uppercase_ratio_line_modifier(p, max_ratio=0.5)),
        (removed, lambda p: modify.numeric_ratio_line_modifier(p, max_ratio=0.999999)),
        (removed, modify.counter_line_modifier()),
        (removed, lambda p: modify.line_length_modifier(p, min_length=2)),
        cut("items in cart", "any"),
        cut("Read more...", "suffix"),
        cut("Sign-in", "prefix"),
        (removed, lambda p: judge.word_removal_ratio_filter(
            p, prev_word_count_key="previous_word_count", max_removed_ratio=0.05)),
    ])  # fmt: skip
    tidying = ask([("", modify.url_removal_modifier(tlds_filepath=str(tlds))),
                   ("", modify.newline_removal_modifier(max_consecutive=2))])  # fmt: skip

    def tidy(value: str) -> Answer:
        because, left = tidying(value)
        return None, ("" if because == "" else left)

    url_settings = edits.Tidy(urls="dclm", tlds=edits.tlds_from(tlds))
    return [
        ("c4@dclm", c4.edit, c4.C4(tool="dclm"), c4.profile("c4@dclm"), cleaning),
        ("refinedweb@dclm", refinedweb.correct, refinedweb.RefinedWeb(), refinedweb.profile("refinedweb@dclm"),
         correcting),
        ("tidy as dclm", edits.tidy, url_settings, (), tidy),
    ]  # fmt: skip


# --- Telling ----------------------------------------------------------------------------------------------------------


def plain_speed(found: dict[str, Any], docs: pa.Table, megabytes: float) -> None:
    """What has no counterpart."""
    rule = edits.DropLines(where="words < 2 AND letters < 0.5", pattern="(?i)^share this")
    for name, stage, config in (("c4, end marks", c4.edit, c4.C4()), ("drop_lines", edits.drop_lines, rule)):
        run(docs[:2], stage, config)
        times = []
        for _ in range(3):
            start = time.process_time()
            run(docs, stage, config)
            times.append(time.process_time() - start)
        found.setdefault("megabytes_per_cpu_second", {})[name] = round(megabytes / sorted(times)[1], 1)


def show(found: dict[str, Any]) -> None:
    documents = found["documents"]
    print(f"{documents} documents, {found['megabytes']} MB, {found['versions']}\n")
    print(f"{'':24}{'kept':>8}{'decision':>10}{'reason':>10}{'text':>10}{'cold':>8}{'warm':>8}{'theirs':>8}")
    for name, row in found["agreement"].items():
        speed = row["megabytes_per_cpu_second"]
        shares = "".join(f"{row[k] / documents:>10.3%}" for k in ("same_decision", "same_reason", "same_text"))
        print(f"{name:24}{row['kept_by_the_tool']:>8}{shares}"
              f"{speed['ours, cold']:>8}{speed['ours, warm']:>8}{speed['theirs']:>8}")  # fmt: skip
    print("\nMB of text a CPU second:", found["megabytes_per_cpu_second"])
    if "c4_decides_as_c4@original" in found:
        print(f"the profile c4 decides as c4@original for {found['c4_decides_as_c4@original']:.2%} of the documents")


if __name__ == "__main__":
    main()
