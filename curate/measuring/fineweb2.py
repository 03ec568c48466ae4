"""Thresholds and stop words by language, as FineWeb-2 was filtered with them (Penedo et al. 2025).

The table ``curate/data/fineweb2.parquet`` holds the 1,929 files ``configs/*.yml`` of huggingface/fineweb-2 (commit
d0defb24f193), a row a language and script, and which words datatrove 0.10 counts for it
(``assets/tokenizer_assignment.csv``). 1,742 of them are tokens of a blank spaCy pipeline that cuts at whitespace first.
The others need segmenters or models of their own (Chinese, Japanese, Korean, Thai, Vietnamese, the languages of India
that datatrove gives to the IndicNLP library, and those of Stanza): there the rules could not be measured on the same
words, so there is no profile.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


@dataclass(frozen=True)
class Thresholds:
    """One language's row; names follow the configuration files.

    ``top_n_grams`` are for n = 2, 3, 4, ``dup_n_grams`` for 5 to 10. ``words`` names the words (``"spacy:fr"``), or is
    empty where they are not supported; ``tokenizer`` is what datatrove uses.
    """

    language: str
    tokenizer: str
    words: str
    language_score: float
    dup_line_frac: float
    line_punct_thr: float
    new_line_ratio: float
    min_avg_word_length: float
    max_avg_word_length: float
    max_non_alpha_words_ratio: float
    top_n_grams: tuple[float, ...]
    dup_n_grams: tuple[float, ...]
    stop_words: tuple[str, ...]


@lru_cache(maxsize=1)
def _table() -> dict[str, Thresholds]:
    table: dict[str, Thresholds] = {}
    for row in pq.read_table(Path(__file__).parent.parent / "data" / "fineweb2.parquet").to_pylist():
        code = row.pop("spacy")
        row |= {"words": f"spacy:{code}" if code else "", "stop_words": row.pop("stopwords")}
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in row.items()}
        table[values["language"]] = Thresholds(**values)
    return table


def languages() -> tuple[str, ...]:
    """Every language of FineWeb-2, like ``fra_Latn``: ISO 639-3 and the script."""
    return tuple(_table())


def thresholds(language: str) -> Thresholds:
    """The row of a language like ``"fra_Latn"``.

    Raises:
        KeyError: there is none.
    """
    return _table()[language]
