"""Exact copies: documents with the same text, the same normalised text or the same URL, by 128-bit hash.

1. ``content_hash`` (EACH) hashes each text with XXH3-128 (Collet), as it is, or lower-cased with white space collapsed;
   ``url_hash`` (EACH) hashes each canonical URL.
2. ``duplicates`` and ``url_duplicates`` (GROUP) bring equal hashes together by their first half, compare both halves,
   and choose the row to keep by a policy (``curate.keeper``).

A *canonical URL* is what is left after these steps (RFC 3986, section 6.2, and what crawlers do beside it):

- white space around it, the fragment, the scheme where it is http or https (or missing), user name and password go;
- the host is lower-cased, loses ``www.``, a final dot and the ports 80 and 443;
- in path and query, what RFC 3986 calls unreserved is written as it is, any other byte that was escaped or may not
  stand in a URL as ``%XX`` in capitals; dot segments are resolved, and final slashes go;
- parameters that only track visitors go (``TRACKING``), the others are sorted, or all go (``query``).

A text or URL is never compared byte by byte: among 1e10 different ones, two share a 128-bit hash with probability
1.5e-19 (birthday bound, n**2 / 2**129). XXH3 is not cryptographic: whoever wants to have a document taken for a copy of
another could make one.

Cost: one pass over the text at several GB/s a core (0.4 GB/s normalised; 7 us a URL), and one exchange of 16 bytes, the
address, the key and the policy's columns a row. Elsewhere: near copies (``minhash``), repeated lines (``lines``),
repeated spans (``substring``), streams (``bloom``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from curate.columns import ADDRESS, INT64, TEXT, UINT64
from curate.errors import UnknownSetting
from curate.folding import Folding, fold, folding
from curate.hashing import halves
from curate.keeper import keepers, policy, policy_reads
from curate.kernels import njit
from curate.stage import Grain, stage
from curate.text import Bytes, Hashes, Offsets, string_buffers
from curate.xxh3 import hash128, hash_strings

QUERIES = ("sorted", "as_it_is", "none")
# Parameters that say how a visitor came: names, and beginnings of names (with a star).
TRACKING = (
    "utm_*", "gclid", "gclsrc", "dclid", "fbclid", "msclkid", "yclid", "igshid", "mc_cid", "mc_eid", "_ga", "_gl",
    "phpsessid", "jsessionid",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Content:
    """What counts as the same text: the settings of ``content_hash``, which no other setting changes.

    Args:
        normalise: compare texts lower-cased, with runs of white space as one space and none at the ends.
    """

    normalise: bool = False


@dataclass(frozen=True, kw_only=True)
class Exact(Content):
    """What counts as the same text, and which copy is kept.

    Args:
        keep_by: policy of columns that chooses the row to keep, such as ``("-text_bytes",)``; see ``curate.keeper``.
        keep_whole: sources whose rows are never copies: what they have is removed from the others.
        keep_where: a boolean column whose true rows are never copies.
        seed: the pipeline's seed.
        label: names the hash that breaks ties.
    """

    keep_by: tuple[str, ...] = ()
    keep_whole: tuple[str, ...] = ()
    keep_where: str = ""
    seed: int = 0
    label: str = "exact"

    def __post_init__(self) -> None:
        policy(self.keep_by)

    def each(self) -> Content:
        """The settings of ``content_hash``: another policy hashes nothing again."""
        return Content(normalise=self.normalise)


@dataclass(frozen=True, kw_only=True)
class Url:
    """What counts as the same URL: the settings of ``url_hash``.

    Args:
        column: the column that holds URLs, of type TEXT.
        query: what the part after the question mark decides: its parameters in any order (``"sorted"``), as they are
            (``"as_it_is"``), or nothing (``"none"``).
        tracking: parameters that are left out, in lower case; a star at the end stands for any ending.
    """

    column: str = "url"
    query: str = "sorted"
    tracking: tuple[str, ...] = TRACKING

    def __post_init__(self) -> None:
        if self.query not in QUERIES:
            raise UnknownSetting(f"query is {self.query!r}", where="exact.Url", fix=f"use one of {', '.join(QUERIES)}")


@dataclass(frozen=True, kw_only=True)
class ExactUrl(Url):
    """What counts as the same URL, and which copy is kept; settings as in ``Url`` and ``Exact``."""

    keep_by: tuple[str, ...] = ()
    keep_whole: tuple[str, ...] = ()
    keep_where: str = ""
    seed: int = 0
    label: str = "exact_url"

    def __post_init__(self) -> None:
        super().__post_init__()
        policy(self.keep_by)

    def each(self) -> Url:
        """The settings of ``url_hash``."""
        return Url(column=self.column, query=self.query, tracking=self.tracking)


# ---- texts --------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _hash_folded(offsets: Offsets, data: Bytes, table: Folding, high: Hashes, low: Hashes) -> None:
    """Hash each text as it is folded."""
    out = np.empty(1 << 16, np.uint8)
    scratch = np.empty(8, np.uint64)
    for row in range(len(high)):
        start, end = offsets[row], offsets[row + 1]
        if 2 * (end - start) + 8 > len(out):
            out = np.empty(4 * (end - start), np.uint8)
        size, _ = fold(data, start, end, table, out)
        high[row], low[row] = hash128(out, 0, size, scratch)


@stage(reads={"text": TEXT}, writes={"content_hash": UINT64, "content_check": UINT64}, grain=Grain.EACH, version="2")
def content_hash(docs: pa.Table, config: Content) -> pa.Table:
    """The two halves of each text's 128-bit hash; texts are equal where both are. A null text is an empty one."""
    if config.normalise:
        offsets, data = string_buffers(docs["text"])
        high, low = np.empty(docs.num_rows, np.uint64), np.empty(docs.num_rows, np.uint64)
        _hash_folded(offsets, data, folding("space"), high, low)
    else:
        high, low = hash_strings(docs["text"])
    return pa.table({"content_hash": high, "content_check": low})


def _duplicates_reads(config: Exact) -> dict[str, pa.DataType]:
    return {"content_hash": UINT64, "content_check": UINT64, **_kept_by(config)}


@stage(
    reads=_duplicates_reads,
    writes={"exact_copy_of": UINT64, "exact_copies": INT64},
    grain=Grain.GROUP,
    by="content_hash",
    each=content_hash,
    version="1",
)
def duplicates(group: pa.Table, config: Exact) -> pa.Table:
    """Which row each row is a copy of, and how many rows have its text.

    ``exact_copy_of`` is the address of the row that is kept, null for that row itself and for a text without copies;
    ``exact_copies`` counts the rows with this text, the row itself included.
    """
    same = _same(group["content_hash"].to_numpy(), group["content_check"].to_numpy())
    return _answer(group, same, config, "exact_copy_of", "exact_copies")


def _same(first: Hashes, second: Hashes) -> Hashes:
    """A number for each pair of hashes, equal where both are: the position of the first such pair; uint64 (n,).

    Rows come sorted by the first hash, if they come from an exchange; then nothing has to be sorted here.
    """
    order = np.arange(len(first)) if (first[1:] >= first[:-1]).all() else np.argsort(first, kind="stable")
    sorted_first, sorted_second = first[order], second[order]
    new = np.ones(len(first), dtype=bool)
    new[1:] = sorted_first[1:] != sorted_first[:-1]
    if (~new[1:] & (sorted_second[1:] != sorted_second[:-1])).any():  # two texts share one half of their hashes
        order = np.lexsort((second, first))
        sorted_first, sorted_second = first[order], second[order]
        new[1:] = (sorted_first[1:] != sorted_first[:-1]) | (sorted_second[1:] != sorted_second[:-1])
    same = np.empty(len(first), np.uint64)
    same[order] = order[np.flatnonzero(new)][np.cumsum(new) - 1] if len(first) else 0
    return same


def _kept_by(config: Exact | ExactUrl) -> dict[str, pa.DataType]:
    return policy_reads(config.keep_by, keep_whole=config.keep_whole, keep_where=config.keep_where)


def _answer(group: pa.Table, same: Hashes, config: Exact | ExactUrl, copy_of: str, copies: str) -> pa.Table:
    """Of rows that share a number in ``same``, the one that is kept, and how many they are."""
    kept, size = keepers(
        group,
        same,
        config.keep_by,
        label=config.label,
        seed=config.seed,
        keep_whole=config.keep_whole,
        keep_where=config.keep_where,
    )
    address = group[ADDRESS].to_numpy()
    return pa.table(
        {
            ADDRESS: address,
            copy_of: pa.array(address[kept], UINT64, mask=kept == np.arange(len(kept))),
            copies: pa.array(size, INT64),
        }
    )


# ---- URLs ---------------------------------------------------------------------------------------------------------

_PARTS = re.compile(r"(?:([a-z][a-z0-9+.\-]*):(?!\d+(?:[/?]|$)))?(?://)?([^/?]*)([^?]*)\??(.*)", re.I | re.S)
_ESCAPED = re.compile(r"%([0-9a-fA-F]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_LEAVE = "!$%&'()*+,-./:;=?@_~"
_AS_IT_IS = re.compile(r"[A-Za-z0-9!$%&'()*+,\-./:;=?@_~]*")


def canonical_url(url: str, query: str = "sorted", tracking: tuple[str, ...] = TRACKING) -> str:
    """A URL in the one form that is compared (see the module's story); settings as in ``Url``."""
    scheme, host, path, after = _PARTS.match(url.strip().partition("#")[0]).groups()  # type: ignore[union-attr]
    scheme = (scheme or "http").lower()
    host = (host if scheme == "mailto" else host.rpartition("@")[2]).lower()
    name, colon, port = host.rpartition(":")
    if colon and port in {"", "80", "443"}:
        host = name
    host = host.rstrip(".").removeprefix("www.")
    path = _without_dots(_escape(path)).rstrip("/")
    if query == "none":
        after = ""
    elif after:
        whole = {name for name in tracking if not name.endswith("*")}
        begins = tuple(name[:-1] for name in tracking if name.endswith("*"))
        pieces = [p for p in after.split("&") if p]
        names = [p.partition("=")[0].lower() for p in pieces]
        pieces = [_escape(p) for p, n in zip(pieces, names, strict=True) if n not in whole and not n.startswith(begins)]
        after = "&".join(sorted(pieces) if query == "sorted" else pieces)
    before = "" if scheme in {"http", "https"} else f"{scheme}:"
    return f"{before}{host}{path}{'?' if after else ''}{after}"


def _escape(text: str) -> str:
    """Escapes in capitals, none for what RFC 3986 calls unreserved, one for every byte that no URL may hold."""
    if "%" in text:
        text = _ESCAPED.sub(_escaped, text)
    return text if _AS_IT_IS.fullmatch(text) else quote(text, safe=_LEAVE)


def _escaped(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if character in _UNRESERVED else f"%{found[1].upper()}"


def _without_dots(path: str) -> str:
    """The path with its segments ``.`` and ``..`` resolved (RFC 3986, section 5.2.4)."""
    if "/." not in path:
        return path
    out: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del out[-1:]
        elif segment != ".":
            out.append(segment)
    ends = path.endswith(("/.", "/.."))
    return "".join(f"/{s}" for s in out) + ("/" if ends else "")


def _url_hash_reads(config: Url) -> Mapping[str, pa.DataType]:
    return {config.column: TEXT, "key": policy_reads(())["key"]}


@stage(reads=_url_hash_reads, writes={"url_hash": UINT64, "url_check": UINT64}, grain=Grain.EACH, version="1")
def url_hash(docs: pa.Table, config: Url) -> pa.Table:
    """The two halves of each canonical URL's 128-bit hash; a row without a URL has a null ``url_check``.

    The first half of such a row comes from its key, so that rows without a URL do not all meet in one place.
    """
    urls = docs[config.column].to_pylist()
    known = np.array([bool(url and url.strip()) for url in urls], dtype=bool)
    canonical = [canonical_url(url, config.query, config.tracking) if url else "" for url in urls]
    high, low = hash_strings(pa.array(canonical, TEXT))
    high = np.where(known, high, halves(docs["key"])[:, 0])
    return pa.table({"url_hash": high, "url_check": pa.array(low, UINT64, mask=~known)})


def _url_duplicates_reads(config: ExactUrl) -> dict[str, pa.DataType]:
    return {"url_hash": UINT64, "url_check": UINT64, **_kept_by(config)}


@stage(
    reads=_url_duplicates_reads,
    writes={"url_copy_of": UINT64, "url_copies": INT64},
    grain=Grain.GROUP,
    by="url_hash",
    each=url_hash,
    version="1",
)
def url_duplicates(group: pa.Table, config: ExactUrl) -> pa.Table:
    """Which row each row shares its URL with, and how many rows have this URL.

    ``url_copy_of`` is the address of the row that is kept, null for that row itself and for a URL that occurs once;
    ``url_copies`` counts the rows with this URL. A row without a URL is a copy of nothing: null and 1.
    """
    check = group["url_check"].combine_chunks()
    same = _same(group["url_hash"].to_numpy(), check.fill_null(0).to_numpy())
    alone = np.flatnonzero(np.asarray(check.is_null()))
    same[alone] = len(same) + np.arange(len(alone), dtype=np.uint64)
    return _answer(group, same, config, "url_copy_of", "url_copies")
