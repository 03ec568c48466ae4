"""Where a page comes from: its host and registered domain, and whether its address is on somebody's list.

``parse`` (EACH) writes ``url_host`` and ``url_domain``, the domain that somebody registered (``bbc.co.uk`` for
``news.bbc.co.uk``) by the public suffix list, of which a copy ships in the packages tldextract and tld; nothing is
fetched. A host without a public suffix, an IP address or ``localhost``, has no domain.

``measure`` (EACH) compares addresses with lists of domains, whole addresses, hard and soft words, and substrings:

``url_domain_listed``    the registered domain is on the list of domains
``url_host_listed``      the host is
``url_listed``           the whole address is
``url_hard_words``       different words of the hard list in the address
``url_soft_words``       of the soft list
``url_substrings``       different strings of that list in the address

in one of three ways, because published filters agree in purpose and differ in decisions:

``curate``      without case. The host is listed where it or a domain above it is, and a whole address whatever its
                scheme, ``www.`` and final slash. No registered domain is needed: ``url_domain_listed`` equals
                ``url_host_listed``. Words are runs of ASCII letters and digits.
``datatrove``   as ``URLFilter`` (0.10): registered domain and host as written, the whole address as written, words with
                their case, substrings in lower case without anything between letters and digits.
``dclm``        as in dclm_baseline_refinedweb.yaml (Li et al. 2024; Penedo et al. 2023, G.1): the host with its port,
                without ``www`` wherever it stands; substrings without ``-`` and ``.``; words between word boundaries.

    lists = given("lists")                   # a folder: domains, urls, hard_words, soft_words, substrings
    docs = docs.then(urls.measure, urls.Urls(), lists=lists).keep(*urls.profile("curate"))
    docs = docs.then(urls.measure, urls.DATATROVE).keep(*urls.profile("datatrove"))      # its own lists, in its package

The folder may be deep: every file is taken by its name (``.txt`` and ``.gz`` allowed), so that UT1's
``CATEGORY/domains`` and ``CATEGORY/urls`` work as they are, and the lists of datatrove and DCLM under their own names.
One item a line; a line that starts with ``#`` is a comment, an empty one nothing. A document without an address is on
no list.

Domains and addresses are compared by 61-bit hashes (text.py): with 5 million on a list, one address in 400 thousand
million is taken for another. Cost: about 300,000 addresses a CPU second; 8 bytes an item of the long
lists in memory, and 7 s a worker to read datatrove's 4.6 million domains.
"""

import difflib
import gzip
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from numba import njit

from curate.columns import BOOL, INT64, TEXT
from curate.errors import BadInput, MissingExtra, UnknownSetting
from curate.stage import ColumnType, Grain, Rule, stage
from curate.text import BASE, PRIME, Bytes, Hashes, Int, Offsets, plus, string_buffers, times

# mypy: disable-error-code="assignment, return-value, arg-type, call-arg"
# integers in kernels are numba's

WAYS = ("curate", "datatrove", "dclm")


@dataclass(frozen=True, kw_only=True)
class Parse:
    """Which column holds the address.

    Args:
        column: its name; the written columns begin with it.
    """

    column: str = "url"


@dataclass(frozen=True, kw_only=True)
class Urls:
    """How addresses are compared with lists.

    Args:
        column: the column with the address; the written columns begin with its name.
        like: ``"curate"``, ``"datatrove"`` or ``"dclm"``: see the head of this module.
        datatrove_lists: use the lists that the package datatrove carries (UT1's domains and addresses, and words),
            beside those of a folder.
    """

    column: str = "url"
    like: str = "curate"
    datatrove_lists: bool = False

    def __post_init__(self) -> None:
        if self.like not in WAYS:
            raise UnknownSetting(f"like={self.like!r}", where="urls.Urls", fix=f"use one of: {', '.join(WAYS)}")


DATATROVE = Urls(like="datatrove", datatrove_lists=True)


def _reads(config: Parse | Urls) -> Mapping[str, pa.DataType]:
    return {config.column: TEXT}


def _writes_parts(config: Parse) -> Mapping[str, ColumnType]:
    return {f"{config.column}_host": TEXT, f"{config.column}_domain": TEXT}


def _writes_listed(config: Urls) -> Mapping[str, ColumnType]:
    flags = {f"{config.column}{part}": BOOL for part in ("_domain_listed", "_host_listed", "_listed")}
    return flags | {f"{config.column}_{part}": INT64 for part in ("hard_words", "soft_words", "substrings")}


# --- Hosts and domains ------------------------------------------------------------------------------------------------


@stage(reads=_reads, writes=_writes_parts, grain=Grain.EACH, extras=("web",), version="1")
def parse(docs: pa.Table, config: Parse) -> pa.Table:
    """The host in lower case without port and final dot, and the domain that was registered; null where none is."""
    host = _hosts(_series(docs[config.column])).str.to_lowercase()
    host = host.set(host == "", None)
    domain, _ = _registered(host.fill_null(""))
    return pa.table({
        f"{config.column}_host": host.to_arrow().cast(TEXT),
        f"{config.column}_domain": domain.set(domain == "", None).to_arrow().cast(TEXT),
    })


def _series(column: pa.ChunkedArray) -> pl.Series:
    return pl.Series(pl.from_arrow(column), dtype=pl.String) if len(column) else pl.Series([], dtype=pl.String)


def _hosts(url: pl.Series) -> pl.Series:
    """The host as written, of any string that looks like an address; a scheme may be missing."""
    rest = url.str.replace(r"^(?:[A-Za-z0-9+.\-]+:)?//", "")
    authority = rest.str.replace(r"(?s)[/?#].*$", "").str.replace(r"(?s)^.*@", "")
    host = authority.str.replace(r"(?s):.*$", "").str.strip_chars().str.strip_chars_end(".\u3002\uff0e\uff61")
    host = host.str.replace_all("[\u3002\uff0e\uff61]", ".")
    bracketed = authority.str.extract(r"(?s)^(\[[^\]]*\])")
    return pl.select(pl.coalesce(bracketed, host)).to_series()


@lru_cache(maxsize=1)
def _suffixes() -> tuple[Hashes, Hashes, Hashes]:
    """Hashes of the public suffixes: plain ones, those below which all are, and the exceptions to these; sorted."""
    for package, path in (("tldextract", ".tld_set_snapshot"), ("tld", "res/effective_tld_names.dat.txt")):
        found = find_spec(package)
        if found is not None and found.origin is not None:
            text = (Path(found.origin).parent / path).read_text(encoding="utf-8")
            break
    else:
        raise MissingExtra("the public suffix list is not installed", where="urls", fix="pip install tldextract")
    groups: tuple[set[int], set[int], set[int]] = (set(), set(), set())
    for line in text.partition("===END ICANN DOMAINS===")[0].splitlines():
        rule = line.split("//")[0].strip()
        if rule:
            which = 1 if rule.startswith("*.") else 2 if rule.startswith("!") else 0
            rule = rule.removeprefix("*.").removeprefix("!")
            groups[which].update((_hash(rule), _hash(rule.encode("idna").decode() if not rule.isascii() else rule)))
    return tuple(np.array(sorted(group), dtype=np.uint64) for group in groups)


def _hash(item: str) -> int:
    value = 0
    for byte in item.encode():
        value = (value * int(BASE) + byte + 1) % int(PRIME)
    return value


def _registered(host: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The registered domain and the full host, as written; both empty where there is no public suffix or only one."""
    offsets, data = string_buffers(host.to_arrow())
    starts, dotted = _find_domains(offsets, data, *_suffixes())
    frame = pl.DataFrame({"host": host, "start": starts, "dotted": dotted})
    has = pl.col("start") >= 0
    domain = pl.when(has).then(
        pl.col("host").cast(pl.Binary).bin.slice(pl.max_horizontal("start", 0)).cast(pl.String)
    ).otherwise(pl.lit(""))  # fmt: skip
    full = pl.when(has & pl.col("dotted")).then(domain).when(has).then("host").otherwise(pl.lit(""))
    out = frame.select(domain=domain, full=full)
    return out["domain"], out["full"]


@njit(cache=True, nogil=True)
def _lower_hash(data: Bytes, start: Int, end: Int) -> np.uint64:
    """``text.hash_bytes`` with ASCII letters in lower case."""
    value = np.uint64(0)
    for i in range(start, end):
        c = data[i]
        value = plus(times(value, BASE), np.uint64(c + 32 if 65 <= c <= 90 else c) + np.uint64(1))
    return value


@njit(cache=True, nogil=True)
def _has(values: Hashes, value: np.uint64) -> bool:
    at = np.searchsorted(values, value)
    return at < values.size and values[at] == value


@njit(cache=True, nogil=True)
def _find_domains(
    offsets: Offsets, data: Bytes, plain: Hashes, above: Hashes, exceptions: Hashes
) -> tuple[Offsets, npt.NDArray[np.bool_]]:
    """Where the registered domain of each host starts, -1 where there is none; if nothing but a dot is before it."""
    n = offsets.size - 1
    out = np.full(n, -1, dtype=np.int64)
    dotted = np.zeros(n, dtype=np.bool_)
    for row in range(n):
        start = offsets[row]
        end = offsets[row + 1]
        suffix: Int = -1
        right: Int = end + 1                 # start of the label to the right
        wild = False                         # all names under what lies to the right are suffixes
        while right > start:
            label: Int = right - 1
            while label > start and data[label - 1] != 46:
                label -= 1
            value = _lower_hash(data, label, end)
            if wild and _has(exceptions, value):
                suffix = right
                break
            known = _has(plain, value)
            if known or wild:
                suffix = label
            if wild and not known:
                break
            wild = _has(above, value)
            right = label
        if suffix > start + 1:               # there is a label before it
            first: Int = suffix - 1
            while first > start and data[first - 1] != 46:
                first -= 1
            if first < suffix - 1:
                out[row] = first - start
                dotted[row] = first == start + 1
    return out, dotted


# --- Lists ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lists:
    """What addresses are compared with: hashes, sorted, of the long lists; items of the short ones, without repeats."""

    domains: Hashes
    urls: Hashes
    hard: tuple[str, ...]
    soft: tuple[str, ...]
    substrings: tuple[str, ...]


# How a file's name says what it holds; the first that fits.
NAMED = (("soft", "soft"), ("strict", "substrings"), ("sub", "substrings"), ("hard", "hard"), ("words", "hard"),
         ("domains", "domains"), ("urls", "urls"))  # fmt: skip
DATATROVE_LISTS = "url_filterblacklistsv0_3_0.tar.gz"


def open_lists(config: Urls, lists: Path | None = None) -> Lists:
    """Read the lists of a folder, and datatrove's where the settings ask for them.

    Raises:
        BadInput: no file of the folder has the name of a list, or there are no lists at all.
        MissingExtra: datatrove is not installed.
    """
    found: dict[str, list[bytes]] = {kind: [] for _, kind in NAMED}
    if lists is not None:
        for path in sorted(p for p in lists.rglob("*") if p.is_file()):
            kind = next((kind for word, kind in NAMED if word in path.name.lower()), None)
            if kind is not None:
                raw = path.read_bytes()
                found[kind].append(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    if config.datatrove_lists:
        spec = find_spec("datatrove")
        if spec is None or spec.origin is None:
            raise MissingExtra("datatrove's lists are in its package", where="urls.measure",
                               fix="pip install 'curate[datatrove]'")  # fmt: skip
        assets = Path(spec.origin).parent / "assets"
        with tarfile.open(assets / DATATROVE_LISTS) as archive:
            for member in ("domains", "urls"):
                held = archive.extractfile(member)
                found[member].append(b"" if held is None else held.read())
        for name, kind in (("banned_words", "hard"), ("soft_banned_words", "soft"), ("banned_subwords", "substrings")):
            found[kind].append((assets / f"{name}.txt").read_bytes())
    if not any(found.values()):
        raise BadInput(
            "there is no list to compare addresses with" if lists is None else f"{lists} holds no list",
            where="urls.measure",
            fix="lists=given('folder') with files named domains, urls, hard_words, soft_words or substrings",
        )
    items = {kind: _items(blocks) for kind, blocks in found.items()}
    if config.like == "curate":
        items["domains"] = items["domains"].str.to_lowercase().str.strip_chars_end(".")
        items["urls"] = _bare(items["urls"])
    elif config.like == "dclm":
        items["domains"] = items["domains"].str.to_lowercase()
    return Lists(
        _hashes(items["domains"]), _hashes(items["urls"]),
        *(_words(items[kind], config.like) for kind in ("hard", "soft", "substrings")),
    )  # fmt: skip


def _items(blocks: Iterable[bytes]) -> pl.Series:
    text = b"\n".join(blocks).decode("utf-8", errors="replace")
    lines = pl.Series(text.split("\n"), dtype=pl.String).str.strip_chars()
    return lines.filter((lines != "") & ~lines.str.starts_with("#"))


def _hashes(items: pl.Series) -> Hashes:
    return np.unique(_hash_rows(*string_buffers(items.to_arrow())))


def _words(items: pl.Series, like: str) -> tuple[str, ...]:
    """The items in lower case; but for DCLM without anything between letters and digits."""
    if like != "dclm":
        items = items.str.replace_all("[^a-zA-Z0-9]+", "")
    return tuple(sorted(set(items.str.to_lowercase()) - {""}))


def _bare(url: pl.Series) -> pl.Series:
    """Without scheme, ``www.`` and final slash, in lower case."""
    url = url.str.to_lowercase().str.replace(r"^(?:[a-z0-9+.\-]+:)?//", "").str.replace(r"^www\.", "")
    return url.str.strip_chars_end("/")


@njit(cache=True, nogil=True)
def _hash_rows(offsets: Offsets, data: Bytes) -> Hashes:
    out = np.empty(offsets.size - 1, dtype=np.uint64)
    for row in range(out.size):
        value = np.uint64(0)
        for i in range(offsets[row], offsets[row + 1]):
            value = plus(times(value, BASE), np.uint64(data[i]) + np.uint64(1))
        out[row] = value
    return out


@njit(cache=True, nogil=True)
def _listed(values: Hashes, listed: Hashes) -> npt.NDArray[np.bool_]:
    out = np.empty(values.size, dtype=np.bool_)
    for row in range(values.size):
        out[row] = _has(listed, values[row])
    return out


@njit(cache=True, nogil=True)
def _under(offsets: Offsets, data: Bytes, listed: Hashes) -> npt.NDArray[np.bool_]:
    """Is a host or a domain above it on the list?"""
    out = np.zeros(offsets.size - 1, dtype=np.bool_)
    for row in range(out.size):
        value = np.uint64(0)
        weight = np.uint64(1)
        for i in range(offsets[row + 1] - 1, offsets[row] - 1, -1):   # from the right: every suffix in one walk
            if data[i] == 46 and _has(listed, value):
                out[row] = True
            value = plus(value, times(np.uint64(data[i]) + np.uint64(1), weight))
            weight = times(weight, BASE)
        out[row] |= offsets[row] < offsets[row + 1] and _has(listed, value)
    return out


def _on(strings: pl.Series, listed: Hashes) -> pl.Series:
    """Is each string on a list? An empty one never is."""
    return pl.Series(_listed(_hash_rows(*string_buffers(strings.to_arrow())), listed)) & (strings != "")


# --- Comparing --------------------------------------------------------------------------------------------------------


@stage(reads=_reads, writes=_writes_listed, grain=Grain.EACH, load=open_lists, version="1")
def measure(docs: pa.Table, config: Urls, lists: Lists) -> pa.Table:
    """What of an address is on which list; False and 0 for a document without one."""
    url = _series(docs[config.column]).fill_null("")
    if config.like == "datatrove":
        domain, full = _registered(_hosts(url))
        by_domain, by_host, whole = _on(domain, lists.domains), _on(full, lists.domains), _on(url, lists.urls)
        words = url
        solid = url.str.replace_all("[^a-zA-Z0-9]+", "").str.to_lowercase()
    elif config.like == "curate":
        host = _hosts(url).str.to_lowercase()
        by_domain = by_host = pl.Series(_under(*string_buffers(host.to_arrow()), lists.domains))
        whole = _on(_bare(url), lists.urls)
        words = url.str.to_lowercase()
        solid = words.str.replace_all("[^a-z0-9]+", "")
    else:
        words = url.str.to_lowercase()
        net = words.str.extract(r"^(?:[a-z][a-z0-9+.\-]*:)?//([^/?#]*)").fill_null("").str.replace_all("www", "")
        by_domain = by_host = _on(net, lists.domains)
        whole = _on(words, lists.urls)
        solid = words.str.replace_all("[-.]", "")
    columns = [by_domain, by_host, whole, _count_words(words, lists.hard, config.like),
               _count_words(words, lists.soft, config.like), _count_substrings(solid, lists.substrings)]  # fmt: skip
    names = _writes_listed(config)
    return pa.table({
        name: column.to_arrow().cast(kind) for (name, kind), column in zip(names.items(), columns, strict=True)
    })


def _count_words(url: pl.Series, items: tuple[str, ...], like: str) -> pl.Series:
    """How many different words of a list stand in each address."""
    if not items or not len(url):
        return pl.Series([0] * len(url), dtype=pl.Int64)
    word = r"\w+" if like == "dclm" else "[a-zA-Z0-9]+"
    plain = pl.Series([item for item in items if like != "dclm" or item.replace("_", "a").isalnum()], dtype=pl.String)
    # An address without any of the strings has none of the words: few are cut into words at all.
    near = url.str.contains_any(list(items)).arg_true()
    found = pl.DataFrame({"row": near, "word": url.gather(near).str.extract_all(word)})
    found = found.explode("word").filter(pl.col("word").is_in(plain.implode())).unique().group_by("row").len()
    counts = np.zeros(len(url), dtype=np.int64)
    counts[found["row"].to_numpy()] = found["len"].to_numpy()
    for item in set(items) - set(plain):     # several words, or marks
        edges = [r"\b" if c.isalnum() or c == "_" else r"\B" for c in (item[0], item[-1])]
        counts += url.str.contains(edges[0] + pl.escape_regex(item) + edges[1]).to_numpy()
    return pl.Series(counts)


def _count_substrings(text: pl.Series, items: tuple[str, ...]) -> pl.Series:
    """How many different strings of a list stand in each text."""
    if not items or not len(text):
        return pl.Series([0] * len(text), dtype=pl.Int64)
    near = text.str.contains_any(list(items)).arg_true()
    counts = np.zeros(len(text), dtype=np.int64)
    found = text.gather(near).str.extract_many(list(items), overlapping=True).list.n_unique()
    counts[near.to_numpy()] = found.to_numpy()
    return pl.Series(counts)


# --- Rules ------------------------------------------------------------------------------------------------------------

REASONS: Mapping[str, tuple[str, ...]] = {
    "curate": ("url_domain", "url_host", "url", "url_hard_words", "url_soft_words", "url_substrings"),
    "datatrove": ("domain", "subdomain", "url", "hard_blacklisted", "soft_blacklisted", "blacklisted_subword"),
    "dclm": ("banned_domain", "banned_host", "banned_url", "banned_hard_word", "banned_soft_words", "banned_substring"),
}


def profile(name: str, *, soft_words: int = 2, column: str = "url") -> tuple[Rule, ...]:
    """Rules over what ``measure`` writes: on no list, no hard word, fewer than two soft words, no substring.

    Args:
        name: ``curate``, ``datatrove`` or ``dclm``, the way in which it was measured; the rules are the same, in the
            same order, and ``datatrove`` gives the reasons of its URLFilter.
        soft_words: how many different soft words are too many.
        column: the column with the address.

    Raises:
        UnknownSetting: there is no such profile.
    """
    if name not in REASONS:
        near = difflib.get_close_matches(name, REASONS, n=1)
        raise UnknownSetting(
            f"there is no url profile {name!r}", where=f"urls.profile({name!r})",
            fix=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(REASONS)}",
        )  # fmt: skip
    rules = (
        ~pl.col(f"{column}_domain_listed"), ~pl.col(f"{column}_host_listed"), ~pl.col(f"{column}_listed"),
        pl.col(f"{column}_hard_words") == 0, pl.col(f"{column}_soft_words") < soft_words,
        pl.col(f"{column}_substrings") == 0,
    )  # fmt: skip
    return tuple(Rule(keep, because) for keep, because in zip(rules, REASONS[name], strict=True))
