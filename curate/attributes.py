"""How old a document is: a date from a column or from its address, as plain columns to filter on.

``date`` (EACH) reads the columns that the settings name, in their order, and takes the first that says a plausible
date:

``date``          ``YYYY-MM-DD``, ``YYYY-MM`` or ``YYYY``: as much as was said
``year``          its year
``date_from``     the column that said it

A date column may hold a date in one of the forms that corpora carry: ISO 8601 with or without a time
(``2019-05-12T10:00:00Z``, as in WARC-Date; ``2019-05``; ``2019``; ``20190512``), an HTTP date
(``Sun, 12 May 2019 10:00:00 GMT``, RFC 9110) or seconds since 1970. A time of day is dropped without a change of zone.
An address says one in its path: ``/2019/05/12/``, ``/2019/05/``, ``/2019-05-12-title``, ``/20190512/``; a number in its
query or a lone year says nothing. The date of an address is when the page was first put there, that of a crawl when it
was fetched: only the first is an age, so the address is asked first by default.

    docs = docs.then(attributes.date, attributes.Dates(urls=("url",), dates=("date",)))
    docs = docs.keep(pl.col("year") >= 2015, because="old")

Plausible are dates of the calendar from the first of the year ``earliest`` to the last of the year ``latest``; an
address that says another says none. Elsewhere: hosts and domains (urls.py), languages (language.py), lengths and line
shapes (quality.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from curate.columns import INT32, TEXT
from curate.errors import UnknownSetting
from curate.stage import ColumnType, Grain, stage

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

# (pattern, which group is year, month, day; 0: none), the first that fits; of addresses, on the path alone.
FORMS = (
    (r"^\s*(\d{4})-(\d{2})-(\d{2})(?:[T ].*)?\s*$", 1, 2, 3),
    (r"^\s*(\d{4})-(\d{2})\s*$", 1, 2, 0),
    (r"^\s*(\d{4})\s*$", 1, 0, 0),
    (r"^\s*(\d{4})(\d{2})(\d{2})(?:\d{6})?\s*$", 1, 2, 3),
    (r"(?i)^\s*(?:[a-z]{3,9},\s+)?(\d{1,2})[ -]([a-z]{3})[a-z]*[ -](\d{4})(?:\s.*)?$", 3, 2, 1),
)
URL_FORMS = (
    (r"/(\d{4})/(\d{1,2})/(\d{1,2})(?:/|$|-|_)", 1, 2, 3),
    (r"[/_-](\d{4})[-_](\d{2})[-_](\d{2})(?:[/._-]|$)", 1, 2, 3),
    (r"/((?:19|20)\d{2})(\d{2})(\d{2})(?:[/._-]|$)", 1, 2, 3),
    (r"/(\d{4})/(\d{1,2})(?:/|$)", 1, 2, 0),
)


@dataclass(frozen=True, kw_only=True)
class Dates:
    """Where dates may stand.

    Args:
        urls: text columns that hold addresses, asked first.
        dates: text columns that hold dates, asked then.
        earliest: the first plausible year.
        latest: the last plausible year. It is a setting and not today's, so that a run gives the same tomorrow.
        name: begins the names of the columns but ``year``'s, which is ``year`` for ``date``, else ``<name>_year``.
    """

    urls: tuple[str, ...] = ("url",)
    dates: tuple[str, ...] = ()
    earliest: int = 1990
    latest: int = 2030
    name: str = "date"

    def __post_init__(self) -> None:
        if not self.urls and not self.dates:
            raise UnknownSetting("no column to look at", where="attributes.Dates", fix="name one in urls or dates")
        if not 1 <= self.earliest <= self.latest <= 9999:
            raise UnknownSetting(
                f"earliest={self.earliest}, latest={self.latest}", where="attributes.Dates",
                fix="give years with earliest <= latest",
            )  # fmt: skip


def _reads(config: Dates) -> Mapping[str, pa.DataType]:
    return {name: TEXT for name in (*config.urls, *config.dates)}


def _writes(config: Dates) -> Mapping[str, ColumnType]:
    year = "year" if config.name == "date" else f"{config.name}_year"
    return {config.name: TEXT, year: INT32, f"{config.name}_from": TEXT}


@stage(reads=_reads, writes=_writes, grain=Grain.EACH, version="1")
def date(docs: pa.Table, config: Dates) -> pa.Table:
    """The first plausible date that a column says, its year, and which column it was; null where none says one."""
    columns = list(dict.fromkeys((*config.urls, *config.dates)))
    frame = pl.DataFrame(
        {name: pl.Series(pl.from_arrow(docs[name])) if docs.num_rows else [] for name in columns},
        schema=dict.fromkeys(columns, pl.String),
    )
    said = [(name, _said(_path(name), URL_FORMS, config)) for name in config.urls]
    said += [(name, pl.coalesce(_said(pl.col(name), FORMS, config), _seconds(name, config))) for name in config.dates]
    text = pl.coalesce([value for _, value in said])
    by = pl.coalesce([pl.when(value.is_not_null()).then(pl.lit(name)) for name, value in said])
    out = frame.select(text=text, year=text.str.slice(0, 4).cast(pl.Int32), by=by)
    names = _writes(config)
    return pa.table({
        name: out[column].to_arrow().cast(kind)
        for (name, kind), column in zip(names.items(), ("text", "year", "by"), strict=True)
    })


def _path(name: str) -> pl.Expr:
    """An address without scheme, host, query and fragment."""
    rest = pl.col(name).str.replace(r"(?s)[?#].*$", "").str.replace(r"^(?:[A-Za-z0-9+.\-]+:)?//", "")
    return rest.str.extract(r"(?s)(/.*)$")


def _said(text: pl.Expr, forms: tuple[tuple[str, int, int, int], ...], config: Dates) -> pl.Expr:
    """The date that the first fitting form gives, as text; null where none fits or the date is not plausible."""
    return pl.coalesce([_plausible(text, *form, config) for form in forms])


def _plausible(text: pl.Expr, pattern: str, year: int, month: int, day: int, config: Dates) -> pl.Expr:
    groups = text.str.extract_groups(pattern).struct
    parts = [groups[year - 1]]
    if month:
        word = groups[month - 1]
        named = word.str.to_lowercase().replace_strict(
            list(MONTHS), [f"{i + 1:02}" for i in range(12)], default=None, return_dtype=pl.String
        )
        parts.append(pl.coalesce(named, word.str.zfill(2)))
    if day:
        parts.append(groups[day - 1].str.zfill(2))
    said = pl.concat_str(parts, separator="-")
    whole = pl.concat_str([said, pl.lit("-01" * (3 - len(parts)))])
    years = parts[0].cast(pl.Int32, strict=False).is_between(config.earliest, config.latest)
    on_calendar = whole.str.to_date("%Y-%m-%d", strict=False).is_not_null()
    return pl.when(years & on_calendar).then(said)


def _seconds(name: str, config: Dates) -> pl.Expr:
    """Nine or ten digits, with or without a fraction, as seconds since 1970."""
    digits = pl.col(name).str.extract(r"^\s*(\d{9,10})(?:\.\d*)?\s*$").cast(pl.Int64)
    when = pl.from_epoch(digits, time_unit="s")
    plausible = when.dt.year().is_between(config.earliest, config.latest)
    return pl.when(plausible).then(when.dt.strftime("%Y-%m-%d"))
