"""Web pages: HTML becomes text, by Resiliparse or Trafilatura, in a process of its own that a page may kill.

    docs = read(sources.warc("crawl/*.warc.gz")).then(pages.extract, pages.Extract(extractor="trafilatura"))

1. What is too long or nested too deeply is quarantined by a look at its bytes alone, so everywhere alike. (Resiliparse
   takes time quadratic in the depth: 20,000 open ``<div>`` cost 4 s, 100,000 cost 100 s.)
2. The other pages go, many at a time, to a child process that does nothing else (curate/extracting/). It has a limit on
   the processor time of a page and on its memory. A page at which it dies, hangs or raises is tried once more, alone,
   in a fresh process; if it fails again it is quarantined with what happened, and no other page is touched.
3. A page with no main text gives no row: it is dropped with the reason ``no_rows_left``, and counted.

The limit is processor time and not wall time, so that a busy machine changes nothing; it should be far above what pages
need (the slowest of 358 real pages took Trafilatura 0.5 s), because how fast a processor is remains in it.
The extractor's version, and that of the parser below it, are part of the settings and so of the identity of the result;
a worker that has another version refuses to work.

Sources: Resiliparse (Bevendorff et al., ECIR 2018), Trafilatura (Barbaresi, ACL 2021), whose names the settings keep.
Cost: the extractor's own, and under 10 % for taking pages there and back: docs/extraction.md.
Elsewhere: reading WARC, and characters from bytes (sources); repair of mojibake (repair).
"""

import difflib
from dataclasses import MISSING, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.columns import INT64, QUARANTINED, ROW, TEXT
from curate.errors import BadInput, UnknownSetting
from curate.extracting import child
from curate.extracting.sandbox import Sandbox
from curate.settings import parse_amount
from curate.stage import Grain, stage

LIBRARIES = {"resiliparse": ("resiliparse",), "trafilatura": ("trafilatura", "lxml", "justext")}
ONLY = {  # settings that the other extractor does not know
    "resiliparse": {"main_content", "list_bullets", "alt_texts", "form_fields", "noscript"},
    "trafilatura": {"tables", "images", "formatting", "favor", "fast", "deduplicate"},
}
# Start tags that may stand without an end tag (HTML standard, 13.1.2): they tell nothing about depth.
UNENDED = (
    "area base br col embed hr img input link meta param source track wbr "
    "li p dt dd tr td th thead tbody tfoot option optgroup colgroup caption rb rt rtc rp html head body"
)
RAW = ("script", "style", "textarea", "title", "xmp", "noembed", "noframes", "iframe")  # hold no tags


@dataclass(frozen=True, kw_only=True)
class Extract:
    """How to take the main text out of a page. Defaults are the libraries' own, but for the limits.

    A setting that the chosen extractor does not know must keep its default.
    """

    extractor: Literal["resiliparse", "trafilatura"] = "resiliparse"
    comments: bool = True
    """Keep comments of readers."""
    links: bool = False
    """Write the targets of links."""
    main_content: bool = True
    """Resiliparse: the main content; else all visible text."""
    list_bullets: bool = True
    """Resiliparse: write bullets and numbers of lists."""
    alt_texts: bool = True
    """Resiliparse: keep the texts that stand for images."""
    form_fields: bool = False
    """Resiliparse: keep form fields and their values."""
    noscript: bool = False
    """Resiliparse: keep what is shown without scripts."""
    tables: bool = True
    """Trafilatura: keep tables."""
    images: bool = False
    """Trafilatura: write images."""
    formatting: bool = False
    """Trafilatura: write headings and emphasis as Markdown."""
    favor: Literal["balanced", "precision", "recall"] = "balanced"
    """Trafilatura: less text or more, when in doubt. FineWeb (Penedo et al. 2024) uses ``precision``."""
    fast: bool = False
    """Trafilatura: no second opinion of other algorithms."""
    deduplicate: bool = False
    """Trafilatura: drop segments that repeat within the page. (By itself it remembers the segments of other pages.)"""
    page_bytes: str | int = "10MB"
    """Longer pages are quarantined."""
    depth: int = 4096
    """Pages with more elements open at once, as far as tags tell, are quarantined."""
    cpu_seconds: float = 10.0
    """Processor time for one page."""
    memory: str | int = "2GB"
    """Address space of the child process."""
    library: str = field(init=False)
    """Versions of the extractor's packages on this machine; part of the identity."""

    def __post_init__(self) -> None:
        if self.extractor not in LIBRARIES:
            near = difflib.get_close_matches(str(self.extractor), LIBRARIES, n=1)
            raise UnknownSetting(f"there is no extractor {self.extractor!r}", where="pages.Extract",
                                 fix=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(LIBRARIES)}")
        object.__setattr__(self, "library", installed(self.extractor))
        parse_amount(self.page_bytes, where="page_bytes"), parse_amount(self.memory, where="memory")
        if self.cpu_seconds <= 0 or self.depth < 1:
            raise UnknownSetting("a limit of nothing lets no page through", where="pages.Extract",
                                 fix="give a positive cpu_seconds and depth")
        other = "trafilatura" if self.extractor == "resiliparse" else "resiliparse"
        defaults = {each.name: each.default for each in fields(self) if each.default is not MISSING}
        for name in sorted(ONLY[other]):
            if getattr(self, name) != defaults[name]:
                raise UnknownSetting(
                    f"{self.extractor} has no setting {name!r}, which is {getattr(self, name)!r}",
                    where="pages.Extract", fix=f"set {name} back to {defaults[name]!r}, or use extractor={other!r}",
                )


def installed(extractor: str) -> str:
    """The extractor's packages with their versions, or what is missing."""
    found = []
    for package in LIBRARIES[extractor]:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:  # the plan says so before anything runs: the stage needs the extra
            found.append(f"no {package}")
    return ", ".join(found)


def open_sandbox(config: Extract) -> Sandbox:
    """The child process of a worker, started with its first page.

    Raises:
        BadInput: the extractor has another version here than where the plan was made.
    """
    if installed(config.extractor) != config.library:
        raise BadInput(f"this worker has {installed(config.extractor)}, the plan was made with {config.library}",
                       where="pages.extract", fix="install the same versions on all machines")
    return Sandbox(config.extractor, arguments(config), cpu_seconds=config.cpu_seconds,
                   memory_bytes=parse_amount(config.memory, where="memory"))


def arguments(config: Extract) -> dict[str, Any]:
    """What the library itself is called with."""
    if config.extractor == "resiliparse":
        names = ("main_content", "list_bullets", "alt_texts", "links", "form_fields", "noscript", "comments")
        return {name: getattr(config, name) for name in names}
    return {
        "include_comments": config.comments, "include_links": config.links, "include_tables": config.tables,
        "include_images": config.images, "include_formatting": config.formatting or None, "fast": config.fast,
        "favor_precision": config.favor == "precision", "favor_recall": config.favor == "recall",
        "deduplicate": config.deduplicate,
    }


@stage(
    reads={"id": TEXT, "text": TEXT}, writes={"id": TEXT, "text": TEXT},
    grain=Grain.MANY, load=open_sandbox, extras=("web",), version="2",
)
def extract(docs: pa.Table, config: Extract, sandbox: Sandbox) -> pa.Table:
    """The main text of each page, HTML as ``text``, under the page's ``id``; one row a page that has any.

    Pages beyond a limit, and pages that the extractor fails at, are ``quarantined`` with the reason.
    """
    pages = docs["text"].combine_chunks()
    pages = pages.chunk(0) if isinstance(pages, pa.ChunkedArray) and pages.num_chunks else pages
    rows = np.flatnonzero(pages.is_valid().to_numpy(zero_copy_only=False))
    if not len(rows):
        return _table(docs, rows, [], [])
    offsets = np.frombuffer(pages.buffers()[1], np.int64, len(pages) + 1, 8 * pages.offset)
    data = np.frombuffer(pages.buffers()[2] or b"", np.uint8)
    starts, ends = offsets[:-1][rows], offsets[1:][rows]
    longest = parse_amount(config.page_bytes, where="page_bytes")
    short = ends - starts <= longest
    depths = np.zeros(len(rows), np.int64)
    depths[short] = nesting(data, starts[short], ends[short], config.depth, _UNENDED, _RAW)
    good = short & (depths <= config.depth)
    found = sandbox.extract(data.data, starts[good], ends[good])
    texts = pa.LargeStringArray.from_buffers(
        len(found.states), pa.py_buffer(found.offsets.tobytes()), pa.py_buffer(found.data)
    )
    failed, nothing = found.states == child.FAILED, found.states == child.NOTHING
    reasons = [
        f"a page of more than {longest} bytes" if not within else f"a page nested deeper than {config.depth} elements"
        for within in short[~good].tolist()
    ]
    return _table(
        docs,
        np.concatenate([rows[good][~failed & ~nothing], rows[~good], rows[good][failed]]),
        texts.filter(pa.array(~failed & ~nothing)),
        [*reasons, *texts.filter(pa.array(failed)).to_pylist()],
    )


def _table(docs: pa.Table, rows: npt.NDArray[np.int64], texts: Any, errors: list[str]) -> pa.Table:
    """One row a page, in the order of the pages; given are rows with a text, then rows with an error."""
    told = len(rows) - len(errors)
    table = pa.table({
        ROW: pa.array(rows, INT64),
        "id": docs["id"].take(pa.array(rows, INT64)),
        "text": pa.concat_arrays([pa.array(texts, TEXT) if told == 0 else texts, pa.nulls(len(errors), TEXT)]),
        QUARANTINED: pa.concat_arrays([pa.nulls(told, TEXT), pa.array(errors, TEXT)]),
    })
    return table.take(pa.array(np.argsort(rows))) if errors else table


# --- Depth -----------------------------------------------------------------------------------------------------------


def _packed(names: list[str] | tuple[str, ...]) -> npt.NDArray[np.uint64]:
    """Names of at most eight letters as numbers, sorted, uint64 (n,)."""
    return np.sort(np.array([int.from_bytes(name.encode(), "big") for name in names], dtype=np.uint64))


_UNENDED, _RAW = _packed(UNENDED.split()), _packed(RAW)


@njit(cache=True, nogil=True)
def nesting(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], enough: int,
    unended: npt.NDArray[np.uint64], raw: npt.NDArray[np.uint64],
) -> npt.NDArray[np.int64]:
    """The most elements that are open at once, of each page ``data[starts[i]:ends[i]]``, int64 (n,).

    Counted by tags alone: a start tag opens an element unless its end tag may be left out or it ends in ``/>``, an end
    tag closes one whatever its name; comments and the insides of ``raw`` elements are passed over. It is a guess at the
    depth of the tree, above it where end tags are missing. Pages that cannot be deeper than ``enough``, because they
    have no more ``<`` that begin no end tag, are not looked at closely: the answer is that number.
    """
    found = np.zeros(len(starts), np.int64)
    for page in range(len(starts)):
        i, end = starts[page], ends[page]
        opening = _opening(data[i:end])
        if opening <= enough:
            found[page] = opening
            continue
        depth, deepest = 0, 0
        while i < end:
            if data[i] != 60:  # <
                i += 1
                continue
            i += 1
            closing = i < end and data[i] == 47  # /
            if closing:
                i += 1
            elif i + 2 < end and data[i] == 33 and data[i + 1] == 45 and data[i + 2] == 45:  # !--
                i += 3
                while i + 2 < end and not (data[i] == 45 and data[i + 1] == 45 and data[i + 2] == 62):
                    i += 1
                continue
            name, length = np.uint64(0), 0
            while i < end and (97 <= (data[i] | 32) <= 122 or (length > 0 and (48 <= data[i] <= 57 or data[i] == 45))):
                name = (name << np.uint64(8)) | np.uint64(data[i] | 32)
                length += 1
                i += 1
            if length == 0:
                continue
            if length > 8:
                name = np.uint64(0)
            if closing:
                if depth > 0 and not _among(unended, name):
                    depth -= 1
                continue
            if _among(unended, name):
                continue
            while i < end and data[i] != 62 and data[i] != 60:
                i += 1
            if i < end and data[i] == 62 and data[i - 1] == 47:
                continue
            if _among(raw, name):
                i = _after(data, i, end, name, length)
                continue
            depth += 1
            deepest = max(deepest, depth)
        found[page] = deepest
    return found


@njit(cache=True, nogil=True)
def _opening(page: npt.NDArray[np.uint8]) -> int:
    """The ``<`` that no slash follows; from index 0, because only then does the loop become vector instructions."""
    found = 0
    for i in range(len(page) - 1):
        found += int((page[i] == 60) & (page[i + 1] != 47))
    return found


@njit(cache=True, nogil=True)
def _among(names: npt.NDArray[np.uint64], name: np.uint64) -> bool:
    at = np.searchsorted(names, name)
    return bool(at < len(names) and names[at] == name)


@njit(cache=True, nogil=True)
def _after(data: npt.NDArray[np.uint8], i: int, end: int, name: np.uint64, length: int) -> int:
    """Where the end tag of a raw element is passed, or the end."""
    while i < end:
        if data[i] == 60 and i + 1 + length < end and data[i + 1] == 47:
            found = np.uint64(0)
            for j in range(i + 2, i + 2 + length):
                found = (found << np.uint64(8)) | np.uint64(data[j] | 32)
            if found == name:
                return i + 2 + length
        i += 1
    return end
