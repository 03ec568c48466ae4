"""In which language a text is written, and how much of it.

``identify`` asks CLD2 (Sites 2013, compact language detector 2), whose tables of letter groups ship inside the package
``pycld2``: 165 detected languages, one per run of text, then added up over the document. It writes

``language``            ISO 639 code (two letters where there are any, else three), ``und`` where it found none
``language_score``      the share of the text's bytes that is in this language, 0 to 1: no probability
``language_script``     ``Hans`` or ``Hant`` for Chinese, else null
``language_reliable``   CLD2 is sure of its answer

``fasttext`` asks a fastText model (Joulin et al. 2017) in a folder that the pipeline names: lid.176 (176 languages,
codes as above), GlotLID (Kargaran et al. 2023; labels such as ``eng_Latn`` are cut into ``eng`` and the script) or one
trained at home. Its ``language_score`` is the model's probability of its first label. A text reaches it as it does in
datatrove (0.10, ``utils/lid.py``): newlines become spaces and the model sees the whole text.

    docs = docs.then(language.identify).keep(language.only("en", above=0.5))

    lid = given("models/lid176")                             # a folder that holds lid.176.bin or lid.176.ftz
    docs = docs.then(language.fasttext, model=lid).keep(*language.profile("fineweb"))

Why CLD2 is the default: on 4,545 texts in 52 languages it answers 50,000 texts a CPU second, seven times as many as the
most accurate detector (py3langid), and is less than a point behind it: 95.2 to 96.0 % of all texts, 98.2 to 98.4 % of
those whose label is sure (benchmarks/language.py, docs/language.md).
Web addresses read as English to it, so they are taken out first; ``links=True`` leaves them in. Markup is read as text.

Limits: both are weak below some twenty letters, in transcription, and between close relatives (Bosnian and Croatian,
Malay and Indonesian). CLD2 answers one of Bosnian, Croatian and Serbian by spelling. A mixed text has one answer, the
language with most bytes. Elsewhere: thresholds by language (quality.py).
"""

import difflib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from curate.columns import BOOL, FLOAT64, TEXT
from curate.errors import BadInput, MissingExtra, UnknownSetting
from curate.stage import ColumnType, Grain, Numerics, Rule, stage

UNKNOWN = "und"          # ISO 639: undetermined
CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
SPOKEN = {"english": "en", "french": "fr", "german": "de", "spanish": "es", "italian": "it", "portuguese": "pt",
          "dutch": "nl", "russian": "ru", "chinese": "zh", "japanese": "ja", "korean": "ko", "arabic": "ar"}

LINKS = r"(?i)\b(?:https?|ftp)://[^\s<>\"'\])}]+|\bwww\.[^\s<>\"'\])}]+"

# What CLD2's reader refuses: control characters and the code points that are no characters.
REFUSED = (
    r"[\x00-\x08\x0B\x0E-\x1F\x7F-\x9F\x{FDD0}-\x{FDEF}"
    + "".join(rf"\x{{{plane:X}FFFE}}\x{{{plane:X}FFFF}}" for plane in range(17))
    + "]"
)

# CLD2's codes that ISO 639 has replaced or that name a script too.
RENAMED = {"iw": "he", "jw": "jv", "in": "id", "mo": "ro", "bh": "bho", "sr-ME": "cnr", "un": UNKNOWN}
CHINESE = {"zh": "Hans", "zh-Hant": "Hant"}


@dataclass(frozen=True, kw_only=True)
class Language:
    """How ``identify`` reads a text.

    Args:
        characters: judge by the first so many characters; None: by the whole text.
        links: let web addresses count, which are mostly English to a detector.
        name: begins the names of the columns; two detectors on one frame need two.
    """

    characters: int | None = None
    links: bool = False
    name: str = "language"

    def __post_init__(self) -> None:
        _require_positive(self.characters, "Language")


@dataclass(frozen=True, kw_only=True)
class FastText:
    """How ``fasttext`` reads a text.

    Args:
        characters: judge by the first so many characters; None: by the whole text.
        name: begins the names of the columns; two detectors on one frame need two.
    """

    characters: int | None = None
    name: str = "language"

    def __post_init__(self) -> None:
        _require_positive(self.characters, "FastText")


def _require_positive(characters: int | None, who: str) -> None:
    if characters is not None and characters < 1:
        raise UnknownSetting(f"characters={characters}", where=who, fix="give 1 or more, or leave it out")


def _columns(config: Language | FastText) -> dict[str, ColumnType]:
    return {config.name: TEXT, f"{config.name}_score": FLOAT64, f"{config.name}_script": TEXT}


def _writes_reliable(config: Language) -> Mapping[str, ColumnType]:
    return _columns(config) | {f"{config.name}_reliable": BOOL}


# --- CLD2 -------------------------------------------------------------------------------------------------------------


@stage(reads={"text": TEXT}, writes=_writes_reliable, grain=Grain.EACH, extras=("language",), version="1")
def identify(docs: pa.Table, config: Language) -> pa.Table:
    """Language, its share of the bytes, script and reliability, a row a text; null for a null text.

    A text without letters is ``und``, with a share of 0 and not reliable.
    """
    import pycld2

    texts = _head(docs["text"], config.characters)
    if not config.links:
        texts = texts.str.replace_all(LINKS, " ")
    answers: list[tuple[str, int, bool] | None] = []
    for text in texts:
        if text is None:
            answers.append(None)
            continue
        try:
            reliable, _, found = pycld2.detect(text, bestEffort=True)
        except pycld2.error:
            text = pl.Series([text]).str.replace_all(REFUSED, " ")[0]
            reliable, _, found = pycld2.detect(text, bestEffort=True)
        answers.append((found[0][1], found[0][2], reliable))
    codes = [None if a is None else _code(a[0]) for a in answers]
    return pa.table({
        config.name: pa.array([None if c is None else c[0] for c in codes], TEXT),
        f"{config.name}_score": pa.array([
            None if a is None or c is None else (0.0 if c[0] == UNKNOWN else a[1] / 100)
            for a, c in zip(answers, codes, strict=True)
        ], FLOAT64),
        f"{config.name}_script": pa.array([None if c is None else c[1] for c in codes], TEXT),
        f"{config.name}_reliable": pa.array([
            None if a is None or c is None else bool(a[2]) and c[0] != UNKNOWN
            for a, c in zip(answers, codes, strict=True)
        ], BOOL),
    })  # fmt: skip


@cache
def _code(label: str) -> tuple[str, str | None]:
    """CLD2's code as an ISO 639 code and a script."""
    if label in CHINESE:
        return "zh", CHINESE[label]
    if label.startswith(("xx", "zz")):  # a script without a language, and jokes
        return UNKNOWN, None
    return RENAMED.get(label, label), None


def _head(texts: pa.ChunkedArray, characters: int | None) -> pl.Series:
    series = pl.Series(pl.from_arrow(texts), dtype=pl.String) if len(texts) else pl.Series([], dtype=pl.String)
    return series if characters is None else series.str.head(characters)


# --- fastText ---------------------------------------------------------------------------------------------------------


def open_model(config: FastText, model: Path) -> Any:
    """The fastText model of a folder: its one ``.bin`` or ``.ftz`` file. Loading reads numbers and runs no code of it.

    Raises:
        MissingExtra: there is no fastText to read it with.
        BadInput: the folder holds no such file, or several, or one that is not of this format.
    """
    # fastText's own Python layer breaks with numpy 2; the module below it has all that is needed, in every edition.
    if find_spec("fasttext_pybind") is None:
        raise MissingExtra("fastText is not installed", where="language.fasttext", fix="pip install fasttext-predict")
    fasttext_pybind = importlib.import_module("fasttext_pybind")

    files = sorted(p for p in model.rglob("*") if p.suffix in (".bin", ".ftz"))
    if len(files) != 1:
        raise BadInput(
            f"a fastText model is one .bin or .ftz file in a folder of its own; {model} holds {len(files)}",
            where="language.fasttext", fix="give that folder: model=given('folder')",
        )  # fmt: skip
    opened = fasttext_pybind.fasttext()
    try:
        opened.loadModel(str(files[0]))
    except (ValueError, RuntimeError) as error:
        raise BadInput(
            f"{files[0].name} is not a fastText model: {error}", where="language.fasttext",
            fix="give a supervised model that fastText saved as .bin or .ftz",
        ) from error  # fmt: skip
    return opened


@stage(
    reads={"text": TEXT},
    writes=_columns,
    grain=Grain.EACH,
    load=open_model,
    extras=("language",),
    numerics=Numerics(batch="one text at a time"),
    version="1",
)
def fasttext(docs: pa.Table, config: FastText, model: Any) -> pa.Table:
    """The model's first label for each text, its probability and the script that the label names, if it names one.

    Null for a null text. The probability is a float32 written as float64, as fastText's own Python layer gives it.
    """
    texts = _head(docs["text"], config.characters).str.replace_all("\n", " ", literal=True)
    labels: list[str | None] = []
    scores: list[float | None] = []
    for text in texts:
        # The newline ends the line, and is a word of its own to the model.
        found = [] if text is None else model.predict(f"{text}\n", 1, 0.0, "strict")
        labels.append(found[0][1] if found else None if text is None else UNKNOWN)
        scores.append(found[0][0] if found else None if text is None else 0.0)
    cut = [None if label is None else _cut(label) for label in labels]
    return pa.table({
        config.name: pa.array([None if c is None else c[0] for c in cut], TEXT),
        f"{config.name}_score": pa.array(scores, FLOAT64),
        f"{config.name}_script": pa.array([None if c is None else c[1] for c in cut], TEXT),
    })


@cache
def _cut(label: str) -> tuple[str, str | None]:
    """``__label__eng_Latn`` as ("eng", "Latn"), ``__label__en`` as ("en", None)."""
    language, _, script = label.removeprefix("__label__").partition("_")
    return language, script or None


# --- Rules ------------------------------------------------------------------------------------------------------------


def only(*languages: str, above: float = 0.0, name: str = "language") -> Rule:
    """Keep texts in one of these languages whose score is greater than ``above``; the reason is ``language``.

    Args:
        languages: codes as the detector writes them (CLD2 and lid.176: ``en``; GlotLID: ``eng``).
        above: of ``language_score``, 0 to 1. What it means depends on the detector: see the head of this module.
        name: of the columns, as in the settings of the stage.

    Raises:
        UnknownSetting: no language, a name in place of a code, or a score that no text exceeds: all would be dropped.
    """
    where = "language.only"
    if not languages:
        raise UnknownSetting("no language is to be kept", where=where, fix="name one, as in language.only('en')")
    for each in languages:
        if not CODE.fullmatch(each):
            code = SPOKEN.get(each.lower())
            hint = f"{code!r} is its code" if code else "en, fr and haw are such codes"
            raise UnknownSetting(
                f"{each!r} is no code of ISO 639 as the detectors write them", where=where,
                fix=f"{hint}; a script stands in {name}_script; for a label of your own model say "
                f"keep(pl.col({name!r}) == {each!r}, because='language')",
            )  # fmt: skip
    if not above < 1:
        raise UnknownSetting(f"above={above}, and scores are shares from 0 to 1", where=where,
                             fix=f"write above={above / 100:g}" if 1 < above < 100 else "give a share below 1")
    return Rule(pl.col(name).is_in(languages) & (pl.col(f"{name}_score") > above), "language")


PROFILES: Mapping[str, tuple[tuple[str, ...], float]] = {
    "fineweb": (("en",), 0.65),
    "dclm": (("en",), 0.65),
}


def profile(name: str) -> tuple[Rule, ...]:
    """The rule of a published corpus, meant for ``fasttext`` with lid.176.

    Args:
        name: ``fineweb`` (Penedo et al. 2024, section 3.2; datatrove's LanguageFilter) or ``dclm`` (Li et al. 2024,
            dclm_baseline_refinedweb.yaml): English with a probability greater than 0.65.

    Raises:
        UnknownSetting: there is no such profile.
    """
    if name not in PROFILES:
        near = difflib.get_close_matches(name, PROFILES, n=1)
        raise UnknownSetting(
            f"there is no language profile {name!r}", where=f"language.profile({name!r})",
            fix=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(PROFILES)}",
        )  # fmt: skip
    languages, above = PROFILES[name]
    return (only(*languages, above=above),)
