"""Sources: where documents come from, as values.

    parquet("s3://bucket/web/*.parquet", text="content", columns={"score": FLOAT64, "meta.url": TEXT})
    jsonl("dumps/*.jsonl.gz", "dumps/*.jsonl.zst")
    csv("notes/*.tsv", id=None, text="body")
    arrow("cache/*.arrow")
    any_file("hf://datasets/owner/name@revision/data/")
    warc("crawl/*.warc.gz")
    environment(exclude=("numpy",))

A source lists files, cheaply, and reads one file into pieces of rows; how is told in curate/reading/. Every row has

``id``      the id column's value, integers as text. Where there is no such column, or no value, it is ``NAME:N``: the
            file's name without its folder and the number of the row in it (in JSON Lines, of the line), from 0. Ids may
            repeat.
``text``    null makes a bad row; an empty text is a row like any other, and rules drop it.
``source``  the column asked for, null as "". Unasked, a column called ``source`` where there is one, else the file's
            name without its ending and shard numbers (``web-00003-of-00100.parquet`` is ``web``), or its folder's name
            where nothing is left.
``extra``   every other column as one JSON object, names sorted and nulls left out; null where nothing is left.

and the columns that were declared. Where no column is called so, a name with dots is a path into objects or structs
(``text="doc.body"``, ``columns={"meta.url": TEXT}``), and what it is taken from stays in ``extra``.

A value that does not cast to its declared type makes a bad row, with a null in its place: Arrow's safe casts parse
text, and never cut or overflow. So does text that is not UTF-8.

Files of one source may differ. Their columns are found one file at a time: a number that is text in some of them is
parsed, a column that only some have travels in ``extra``, and a file that lacks a declared column, or has it of a type
that does not cast, stops the run by its name. JSON has no columns to lack: what is missing there is null.

Parquet stays where it is and is read again when a column is wanted; all other files are read once and rewritten.
``environment`` is the documentation of the installed packages: a real, if odd, corpus that is there without a network.

An error that may pass, such as a lost connection, is raised and never written down as bad data.
Elsewhere: keys, parts and the quarantine (the machine); the text of web pages (pages), repair of mojibake (repair).
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import accumulate
from typing import Literal

import pyarrow as pa
import xxhash

from curate.columns import STANDARD, TEXT
from curate.dataset import Bad, File, Piece
from curate.dataset import together as together
from curate.errors import BadData, BadInput, BadPlan, MissingExtra
from curate.reading import delimited, docstrings, ipc, listing
from curate.reading import jsonl as reading_jsonl
from curate.reading import parquet as reading_parquet
from curate.reading import warc as reading_warc
from curate.reading.delimited import Dialect
from curate.reading.rows import Broken, Rows, Wanted, cut_rows, file_kind
from curate.settings import parse_amount

PART_BYTES = "64MB"
PAGES = ("text/html", "application/xhtml+xml")
SPLITS = {"train": 60, "validation": 15, "test": 25}    # per cent of the modules of every package
SPELT: Mapping[object, str] = {  # what is written for a type of curate.columns
    int: "INT64", float: "FLOAT64", bool: "BOOL", "int": "INT64", "int64": "INT64", "float": "FLOAT64",
    "float64": "FLOAT64", "double": "FLOAT64", "bool": "BOOL",
}
HALF = re.compile("[\ud800-\udfff]")
BATCH = 1000                                            # documents of a package made into a table at a time
OWN = "curate"                                          # the running project is no document of its own corpus


def parquet(
    *urls: str,
    id: str | None = "id",
    text: str = "text",
    source: str | None = None,
    constant_source: str | None = None,
    columns: Mapping[str, pa.DataType] | None = None,
    part_bytes: str | int = PART_BYTES,
) -> "Files":
    """Parquet files.

    Args:
        urls: files, patterns (``*``, ``**``, ``?``, ``[...]``) or folders, local or behind any fsspec URL.
        id: the column of ids, of text or integers; None makes all ids. ``"id"`` need not be there.
        text: the column of texts.
        source: the column that tells where a document is from.
        constant_source: one source for all documents.
        columns: further columns to declare, with the types they are cast to. All others travel in ``extra``.
        part_bytes: text of a piece, at most, but for a single row or row group that is longer.

    Raises:
        BadPlan: a declared column that every document has anyway, both ``source`` and ``constant_source``, no file.
    """
    return Files("parquet", urls, _wanted(id, text, source, constant_source, columns, part_bytes))


def jsonl(
    *urls: str,
    id: str | None = "id",
    text: str = "text",
    source: str | None = None,
    constant_source: str | None = None,
    columns: Mapping[str, pa.DataType] | None = None,
    part_bytes: str | int = PART_BYTES,
) -> "Files":
    """JSON Lines files, plain, ``.gz``, ``.zst``, ``.bz2`` or ``.xz``; arguments as for ``parquet``."""
    return Files("jsonl", urls, _wanted(id, text, source, constant_source, columns, part_bytes))


def csv(
    *urls: str,
    id: str | None = "id",
    text: str = "text",
    source: str | None = None,
    constant_source: str | None = None,
    columns: Mapping[str, pa.DataType] | None = None,
    delimiter: str | None = None,
    quote: str = '"',
    header: Sequence[str] | None = None,
    part_bytes: str | int = PART_BYTES,
) -> "Files":
    """CSV files, plain or compressed as for ``jsonl``.

    Args:
        urls: as for ``parquet``, and so the next six.
        id: an empty value is none.
        text: the column of texts, which may be empty.
        source: the column that tells where a document is from.
        constant_source: one source for all documents.
        columns: all values are text, which is cast; an empty one is null.
        part_bytes: text of a piece, at most.
        delimiter: one character; without it a tab in files called ``.tsv``, a comma in others.
        quote: one character, doubled where it stands in a quoted text.
        header: names of the columns, where the first row does not tell them.
    """
    dialect = Dialect(delimiter=delimiter, quote=quote, header=None if header is None else tuple(header))
    return Files("csv", urls, _wanted(id, text, source, constant_source, columns, part_bytes), dialect)


def arrow(
    *urls: str,
    id: str | None = "id",
    text: str = "text",
    source: str | None = None,
    constant_source: str | None = None,
    columns: Mapping[str, pa.DataType] | None = None,
    part_bytes: str | int = PART_BYTES,
) -> "Files":
    """Arrow IPC files and streams, as Feather and ``datasets`` write them; arguments as for ``parquet``."""
    return Files("arrow", urls, _wanted(id, text, source, constant_source, columns, part_bytes))


def any_file(
    *urls: str,
    id: str | None = "id",
    text: str = "text",
    source: str | None = None,
    constant_source: str | None = None,
    columns: Mapping[str, pa.DataType] | None = None,
    part_bytes: str | int = PART_BYTES,
) -> "Files":
    """Files of any kind of table, told by their endings; arguments as for ``parquet``."""
    return Files(None, urls, _wanted(id, text, source, constant_source, columns, part_bytes))


def _wanted(
    id: str | None, text: str, source: str | None, constant_source: str | None,
    columns: Mapping[str, pa.DataType] | None, part_bytes: str | int,
) -> Wanted:
    return Wanted(id=id, text=text, source=source, constant_source=constant_source, columns=dict(columns or {}),
                  part_bytes=parse_amount(part_bytes, where="part_bytes"))


def warc(
    *urls: str,
    types: Sequence[str] | None = PAGES,
    constant_source: str | None = None,
    record_bytes: str | int = "32MB",
    part_bytes: str | int = PART_BYTES,
) -> "Archives":
    """WARC archives of web pages, and their WET texts; plain, gzip or Zstandard, whatever their name ends in.

    Args:
        urls: files, patterns or folders, as for ``parquet``.
        types: content types of documents; None takes all, images included.
        constant_source: one source for all documents, such as the crawl's name; else the file's name tells.
        record_bytes: records of more bytes, as they stand or decoded, are lost.
        part_bytes: text of a piece, at most, but for a single row that is longer.
    """
    kinds = None if types is None else tuple(sorted({kind.lower() for kind in types}))
    return Archives(urls, reading_warc.WantedPages(
        types=kinds, constant_source=constant_source, record_bytes=parse_amount(record_bytes, where="record_bytes"),
        part_bytes=parse_amount(part_bytes, where="part_bytes"),
    ))


@dataclass(frozen=True)
class Archives:
    """WARC archives; made by ``warc``. How they are read is told in curate/reading/warc.py.

    A document's id is its WARC-Record-ID, its text the page as characters, HTML as it is (``pages.extract`` takes the
    text out), or the text itself in WET. Declared beside: ``url``, ``date`` (as the archive writes it),
    ``content_type`` (without parameters), ``status`` (of HTTP, null for WET) and ``language`` (as WET tells it).
    Further WARC headers travel in ``extra``.
    """

    urls: tuple[str, ...]
    wanted: reading_warc.WantedPages

    def __post_init__(self) -> None:
        if not self.urls or min(self.wanted.part_bytes, self.wanted.record_bytes) < 1:
            raise BadPlan("there is nothing to read", where=f"the source {self.name!r}",
                          fix=f"name a file, and part_bytes as {PART_BYTES!r}")

    @property
    def name(self) -> str:
        """The locations as they were written."""
        return ", ".join(self.urls)

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """What is declared beside the standard columns."""
        return reading_warc.COLUMNS

    def listing(self) -> list[File]:
        """The files, each once, sorted by path. In a folder, only those count that are named like archives."""
        for package in ("fastwarc", "resiliparse"):
            if find_spec(package) is None:
                raise MissingExtra(f"WARC needs the package {package!r}, which is not installed", where=self.name,
                                   fix="pip install 'curate[web]'")
        return listing.listed(self.name, self.urls, "warc")

    def read(self, file: File) -> Iterator[Piece]:
        """The pieces of one file, in order."""
        return reading_warc.read(self.wanted, file)

    def reread(self, file: File, groups: tuple[int, ...], columns: list[str]) -> pa.Table:
        """Never asked for, because pages are always rewritten."""
        raise _never_in_place(file)

    def identity(self) -> Mapping[str, object]:
        """Everything that decides what ``read`` returns for a file, the versions of what decodes it included."""
        wanted = self.wanted
        return {
            "kind": "warc", "types": wanted.types, "constant_source": wanted.constant_source,
            "record_bytes": wanted.record_bytes, "part_bytes": wanted.part_bytes,
            "decoding": [f"{package} {version(package)}" for package in ("fastwarc", "resiliparse")],
        }


@dataclass(frozen=True)
class Files:
    """Files of tables; made by ``parquet``, ``jsonl``, ``csv``, ``arrow`` and ``any_file``.

    What ``read`` returns follows from ``identity()``, the file's bytes and, in made ids and sources, its name.
    """

    kind: Literal["parquet", "jsonl", "csv", "arrow"] | None
    urls: tuple[str, ...]
    wanted: Wanted
    dialect: Dialect = Dialect()

    def __post_init__(self) -> None:
        where = f"the source {self.name!r}"
        if len(self.dialect.delimiter or ",") != 1 or len(self.dialect.quote) != 1:
            raise BadPlan("delimiter and quote are one character each", where=where, fix="say delimiter=';', say")
        if not self.urls or self.wanted.part_bytes < 1:
            raise BadPlan("there is nothing to read", where=where, fix=f"name a file, and part_bytes as {PART_BYTES!r}")
        if taken := sorted({*STANDARD, "extra", "row", "address", "parent"}.intersection(self.columns)):
            raise BadPlan(f"column {taken[0]!r} cannot be declared, it has a meaning already", where=where,
                          fix="say where ids, texts and sources are with id=, text= and source=; leave out the others")
        for name, kind in self.columns.items():
            if not isinstance(kind, pa.DataType):
                raise BadPlan(f"column {name!r} is declared as {kind!r}, which is no Arrow type", where=where,
                              fix=f"write columns={{{name!r}: {SPELT.get(kind, 'TEXT')}}}, from curate.columns")
        if self.wanted.source is not None and self.wanted.constant_source is not None:
            raise BadPlan("sources are a column or a constant, not both", where=where, fix="leave one of them out")

    @property
    def name(self) -> str:
        """The locations as they were written."""
        return ", ".join(self.urls)

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """The declared columns."""
        return self.wanted.columns

    def listing(self) -> list[File]:
        """The files, each once, sorted by path. In a folder, only files of the kind count."""
        found = listing.listed(self.name, self.urls, self.kind)
        for file in found if self.kind is None else ():
            if file_kind(file.path) not in listing.KINDS:
                raise BadInput(f"the kind of {file.path} cannot be told from its ending", where=self.name,
                               fix="use sources.parquet, sources.jsonl, sources.csv, sources.arrow or sources.warc")
        return found

    def read(self, file: File) -> Iterator[Piece]:
        """The pieces of one file, in order; see curate/reading/."""
        kind = self.kind or file_kind(file.path)
        if kind == "csv":
            return delimited.read(self.wanted, file, self.dialect)
        reader = {"parquet": reading_parquet, "arrow": ipc}.get(kind or "jsonl", reading_jsonl)
        return reader.read(self.wanted, file)

    def reread(self, file: File, groups: tuple[int, ...], columns: list[str]) -> pa.Table:
        """Some columns of row groups of a Parquet file, exactly as ``read`` gave them.

        Raises:
            BadData: the file is not Parquet, or cannot be decoded any more.
        """
        if not self._is_parquet(file):
            raise _never_in_place(file)
        return reading_parquet.reread(self.wanted, file, groups, columns)

    def identity(self) -> Mapping[str, object]:
        """Everything that decides what ``read`` returns for a file, the file itself left out."""
        wanted = self.wanted
        return {
            "kind": self.kind, "id": wanted.id, "text": wanted.text, "source": wanted.source,
            "constant_source": wanted.constant_source, "part_bytes": wanted.part_bytes,
            "columns": {name: str(kind) for name, kind in wanted.columns.items()},
        } | ({} if self.dialect == Dialect() else {"dialect": vars(self.dialect)})

    def _is_parquet(self, file: File) -> bool:
        return (self.kind or file_kind(file.path)) == "parquet"


def _never_in_place(file: File) -> BadData:
    return BadData("only Parquet is left in place and read again", where=file.path, fix="use the rewritten part")


def environment(
    *,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    split: Literal["train", "validation", "test"] | None = None,
    package_bytes: str | int | None = "8MB",
    min_chars: int = 100,
    part_bytes: str | int = PART_BYTES,
) -> "Environment":
    """The documentation of the installed packages: docstrings, READMEs, licences, text files.

    Args:
        only: packages to read (names of distributions or of what they import as, or ``stdlib``); all if empty.
        exclude: packages to leave out, and with them every folder or module of that name in other packages, where
            copies are kept (``pip/_vendor/rich``).
        split: read only that part of the modules; each belongs to one, by a hash of its path.
        package_bytes: read at most that much of a package (None: all): its files in the order of a hash of their path,
            until the next would pass it. So no package makes up most of the corpus, or most of the time. The rule looks
            at one package alone: what else is installed changes nothing.
        min_chars: shorter documents are no documents.
        part_bytes: text of a piece, at most.
    """
    return Environment(
        only=tuple(only), exclude=tuple(exclude), split=split, min_chars=min_chars,
        package_bytes=None if package_bytes is None else parse_amount(package_bytes, where="package_bytes"),
        part_bytes=parse_amount(part_bytes, where="part_bytes"),
    )


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The documentation of the installed packages, one file a package; made by ``environment``.

    A document's id is the path of its file below ``site-packages``, followed for a docstring by ``::`` and its
    qualified name (``numpy/lib/_npyio_impl.py::savetxt``); its source is the package. Declared beside: ``kind``
    (module, class, function, readme, license, text), ``module`` (the path) and ``split`` (of the module). The running
    project's own is left out. A file that cannot be read or parsed, or is too long, is lost with its error; how many
    documents it had is not known.
    """

    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    split: Literal["train", "validation", "test"] | None = None
    package_bytes: int | None = None
    min_chars: int = 100
    part_bytes: int

    @property
    def name(self) -> str:
        """What it is, for people."""
        which = [", ".join(self.only), f"without {', '.join(self.exclude)}" if self.exclude else "", self.split or ""]
        return " ".join(["environment", *(each for each in which if each)])

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """What is declared beside the standard columns."""
        return {"kind": TEXT, "module": TEXT, "split": TEXT}

    def listing(self) -> list[File]:
        """One file a package that has any.

        Raises:
            BadInput: a package that is named and not installed, or nothing left.
        """
        wanted = [_installed(name) for name in self.only] or list(docstrings.packages().values())
        out = {OWN, *(_installed(name).name for name in self.exclude)}
        found = {f"environment:{each.name}": each for each in wanted if each.name not in out and each.members}
        if not found:
            raise BadInput("no package is left to read", where=self.name, fix="name others in only= or exclude=")
        return [File(path, package.size, package.token) for path, package in sorted(found.items())]

    def read(self, file: File) -> Iterator[Piece]:
        """A package's documents in the order of its files' paths, and what could not be read of them."""
        package = _installed(file.path.removeprefix("environment:"))
        bad: list[Bad] = []
        for rows in cut_rows(self._documents(package, bad), self.part_bytes):
            yield Piece(rows.table, rows.bad, tuple(bad))
            bad.clear()
        if bad:
            yield Piece(self._schema.empty_table(), bad=tuple(bad))

    def reread(self, file: File, groups: tuple[int, ...], columns: list[str]) -> pa.Table:
        """Never asked for, because documents are always rewritten."""
        raise _never_in_place(file)

    def identity(self) -> Mapping[str, object]:
        """Everything that decides what ``read`` returns for a package, the package itself left out."""
        return {
            "kind": "environment", "exclude": sorted(self.exclude), "split": self.split,
            "package_bytes": self.package_bytes, "min_chars": self.min_chars, "part_bytes": self.part_bytes,
            "python": docstrings.PYTHON,
        }

    @property
    def _schema(self) -> pa.Schema:
        return Wanted(columns=self.columns, part_bytes=self.part_bytes).schema

    def _members(self, package: docstrings.Package) -> list[docstrings.Member]:
        """The files to read, by path."""
        out = {OWN}
        for name in self.exclude:
            excluded = _installed(name)
            out |= {docstrings.normal(each) for each in (name, excluded.name, *excluded.import_names)}
        kept = [
            member for member in package.members
            if not docstrings.belongs_to(member.path, out) and self.split in (None, split_of(_path(package, member)))
        ]
        if self.package_bytes is None:
            return kept
        chosen, room = [], self.package_bytes
        for member in sorted(kept, key=lambda member: (_hash("package_bytes", _path(package, member)), member.path)):
            room -= max(member.size, 0)
            if room < 0:
                break
            chosen.append(member)
        return sorted(chosen, key=lambda member: member.path)

    def _documents(self, package: docstrings.Package, bad: list[Bad]) -> Iterator[Rows]:
        """The documents of one file after the other; files that cannot be read go to ``bad``."""
        taken: list[tuple[str, str, str, str]] = []
        for member in self._members(package):
            path = _path(package, member)
            try:
                found = docstrings.documents(package.root / member.path, member.kind)
            except Broken as why:
                bad.append(Bad(f"environment:{path}", 0, member.size, -1, str(why)))
                continue
            taken += [(path, kind, name, text) for kind, name, text in found if len(text) >= self.min_chars]
            if len(taken) >= BATCH:
                yield self._rows(package.name, taken)
                taken = []
        yield self._rows(package.name, taken)

    def _rows(self, package: str, taken: Sequence[tuple[str, str, str, str]]) -> Rows:
        halves = [row for row, (*_, text) in enumerate(taken) if not text.isascii() and HALF.search(text)]
        return Rows(pa.table({
            "id": [f"{path}::{name}" if name else path for path, _, name, _ in taken],
            "text": [None if row in halves else text for row, (*_, text) in enumerate(taken)],
            "source": [package] * len(taken), "kind": [kind for _, kind, _, _ in taken],
            "module": [path for path, *_ in taken], "split": [split_of(path) for path, *_ in taken],
            "extra": [None] * len(taken),
        }, schema=self._schema), dict.fromkeys(halves, "text holds half of a surrogate pair"))


def split_of(module: str) -> str:
    """The split that a module belongs to, by a hash of its path alone."""
    at = _hash("split", module) % 100
    return next(name for name, end in zip(SPLITS, accumulate(SPLITS.values()), strict=True) if at < end)


def _hash(label: str, path: str) -> int:
    return int(xxhash.xxh3_64_intdigest(f"{label}\0{path}".encode()))


def _path(package: docstrings.Package, member: docstrings.Member) -> str:
    """A file's path as ids have it."""
    return f"{docstrings.STDLIB}/{member.path}" if package.name == docstrings.STDLIB else member.path


def _installed(name: str) -> docstrings.Package:
    """An installed package by its own name, or by what it is imported as."""
    if (found := docstrings.find(name)) is not None:
        return found
    near = difflib.get_close_matches(docstrings.normal(name), list(docstrings.packages()), n=1)
    raise BadInput(f"package {name!r} is not installed, or is not a package with files of its own", where="environment",
                   fix=f"did you mean {near[0]!r}?" if near else "name one that `pip list` shows")
