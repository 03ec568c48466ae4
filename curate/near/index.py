"""An index of signatures: what an earlier crawl had, so that a new one can be compared with it without its texts.

An index is a directory of segments, each a few flat arrays of at most ``SEGMENT`` documents (numpy's ``.npy``), and
``index.json``, which says how they were made. Arrays are memory-mapped where they are used: a worker holds the pages
that it touches. A larger index is made of an older one by adding segments; nothing is read or sorted again.

For each document, in the order of keys:

    always       key 16 bytes, id its bytes + 8, shingle count 4, and 12 a band: 220 bytes and the id with 16 bands
    "minima"     4 bytes a hash function (8 like datatrove) more: 448, or 896
    "shingles"   8 bytes a distinct shingle more: about 1.3 bytes a byte of English text

What can be said about a pair follows from what the index holds: with shingles its true Jaccard index; with minima an
estimate of it (the share of equal minima, standard error ``sqrt(s * (1 - s) / functions)``: 0.038 at 0.8 with 112);
with neither only in how many bands it agrees.

Limits: the partial results are held and sorted in the one process that makes the index, at about three times the sizes
above (1e7 new documents of 300 words with minima: 20 GB); make indexes of parts of a crawl and join them above that.
Every segment costs a look-up of its own: 200 of them (1e8 documents) cost about as much as signing. Of the rows that
share a band key, at most ``bucket_cap`` a segment are compared, the first by key: an index of documents that are
copies of each other finds fewer pairs than one that was deduplicated.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.columns import FLOAT64, INT32, TEXT, UINT64
from curate.errors import BadData, UnknownSetting
from curate.hashing import halves
from curate.near.clusters import distinct
from curate.near.curve import explain
from curate.near.settings import Signature, at_least_one, one_of, signature_of
from curate.near.signing import band_keys, minima_of, sets_of
from curate.near.verification import jaccard_index, lists
from curate.text import string_buffers

U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
Array: TypeAlias = npt.NDArray[Any]

SEGMENT = 1 << 18  # documents
MINIMA_AT_ONCE = 1 << 14  # documents of a part whose minima are made before they are folded
HOLDS = ("bands", "minima", "shingles")


@dataclass(frozen=True, kw_only=True)
class Index(Signature):
    """What an index of signatures holds of a document.

    Args:
        holds: ``"shingles"`` (pairs can be verified), ``"minima"`` (estimated) or ``"bands"`` (found); see the sizes in
            ``curate.near.index``.
    """

    holds: Literal["shingles", "minima", "bands"] = "shingles"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("holds", self.holds, HOLDS)


@dataclass(frozen=True, kw_only=True)
class Seen(Signature):
    """When a document counts as one that an index has.

    Args:
        by: how a candidate is judged: ``"shingles"`` (verified), ``"minima"`` (estimated), ``"bands"`` (shared bands).
        threshold: Jaccard index, true or estimated, that it must reach; by bands, nothing.
        bucket_cap: rows of one segment that share a band key and are compared.
    """

    by: Literal["shingles", "minima", "bands"] = "shingles"
    threshold: float = 0.8
    bucket_cap: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("by", self.by, HOLDS)
        at_least_one(self, "bucket_cap")
        if not 0 < self.threshold <= 1:
            raise UnknownSetting(
                f"threshold is {self.threshold}", where="Seen", fix="give a Jaccard index above 0 and at most 1"
            )

    def each(self) -> Signature:
        """The settings of ``minhash.signatures``."""
        return signature_of(self)

    def explain(self) -> str:
        """What ``curate plan`` says about these settings."""
        judged = {"shingles": "verified", "minima": "estimated by minima", "bands": "not verified"}[self.by]
        end = "" if self.by == "bands" else f" and count from {self.threshold:g}"
        return f"{explain(self.bands, self.rows)}; pairs are {judged}{end}"


# ---- making an index ----------------------------------------------------------------------------------------------


def entries(docs: pa.Table, config: Index) -> pa.Table:
    """The partial result of some documents: those with a signature, as narrow as the index is."""
    texts = docs["text"].combine_chunks()
    found = [_entries(docs.slice(at, MINIMA_AT_ONCE), texts.slice(at, MINIMA_AT_ONCE), config)
             for at in range(0, max(1, len(docs)), MINIMA_AT_ONCE)]  # fmt: skip
    return pa.concat_tables(found)


def _entries(docs: pa.Table, texts: pa.Array, config: Index) -> pa.Table:
    least, counts = minima_of(texts, config)
    signed = counts > 0
    at = pa.array(np.flatnonzero(signed))
    columns: dict[str, Any] = {
        "key": docs["key"].take(at),
        "id": docs["id"].take(at),
        "size": pa.array(counts[signed], INT32),
        "bands": _listed(band_keys(least[signed], config)),
    }
    if config.holds == "minima":
        columns["minima"] = _listed(least[signed])
    elif config.holds == "shingles":
        values, ends = sets_of(texts.take(at), config)
        columns["shingles"] = pa.LargeListArray.from_arrays(ends, pa.array(values))
    return pa.table(columns)


def _listed(rows: Array) -> pa.LargeListArray:
    ends = np.arange(len(rows) + 1, dtype=np.int64) * rows.shape[1]
    return pa.LargeListArray.from_arrays(ends, pa.array(rows.ravel()))


def build(found: pa.Table, config: Index, out: Path, old: Path | None) -> dict[str, float]:
    """Write an index of partial results, and of what an older index has."""
    segments: list[int] = []
    before: list[Segment] = []
    if old is not None:
        said = _said(old)
        _same(said, config, config.holds, f"the index {old}")
        if said["holds"] != config.holds:
            raise BadData(
                f"the index holds {said['holds']}, and the new one is to hold {config.holds}",
                where=f"the index {old}",
                fix=f"say holds={said['holds']!r}",
            )
        for path in sorted(old.glob("*.npy")):
            shutil.copyfile(path, out / path.name)
        segments = list(said["segments"])
        before = list(_segments(old, said))
    keys = halves(found["key"])
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys = keys[order]
    fresh = np.ones(len(keys), dtype=bool)
    fresh[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    for segment in before:
        fresh &= ~segment.has(keys)
    order, keys = order[fresh], keys[fresh]
    for first in range(0, len(order), SEGMENT):
        rows = found.take(pa.array(order[first : first + SEGMENT]))
        _write_segment(out, len(segments), rows, keys[first : first + SEGMENT], config)
        segments.append(len(rows))
    made = {"settings": _plain(config), "holds": config.holds, "segments": segments}
    (out / "index.json").write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return {"documents": float(sum(segments)), "added": float(len(order)), "segments": float(len(segments))}


def _write_segment(out: Path, number: int, rows: pa.Table, keys: U64, config: Index) -> None:
    band = rows["bands"].combine_chunks().flatten().to_numpy()
    by_band = np.argsort(band, kind="stable")
    id_at, id_bytes = string_buffers(rows["id"])
    arrays: dict[str, Array] = {
        "keys": keys,
        "sizes": rows["size"].to_numpy(),
        "bands": band[by_band],
        "rows": (by_band // config.bands).astype(np.uint32),
        "id_at": id_at - id_at[0],
        "ids": id_bytes[id_at[0] : id_at[-1]],
    }
    if config.holds == "minima":
        arrays["minima"] = rows["minima"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    elif config.holds == "shingles":
        arrays["set_at"], arrays["sets"] = lists(rows["shingles"])
    for name, array in arrays.items():
        np.save(out / f"{number:05d}.{name}.npy", np.ascontiguousarray(array))


def _plain(config: Signature) -> dict[str, Any]:
    """The settings that decide what a signature is."""
    names = ["like", "ngram", "bands", "rows", *(["hash", "words"] if config.like == "datatrove" else ["seed"])]
    return {name: getattr(config, name) for name in names}


# ---- using one ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """The arrays of one segment, memory-mapped; those that the index does not hold are missing."""

    arrays: Mapping[str, Array]

    def has(self, keys: U64) -> npt.NDArray[np.bool_]:
        """Which of some keys, (n, 2), are in it; sorted or not."""
        mine = self.arrays["keys"]
        first = np.ascontiguousarray(mine[:, 0])
        low, high = np.searchsorted(first, keys[:, 0], "left"), np.searchsorted(first, keys[:, 0], "right")
        found = np.zeros(len(keys), dtype=bool)
        for step in range(int((high - low).max(initial=0))):  # 1, unless two keys share their first half
            at = np.minimum(low + step, len(first) - 1)
            found |= (low + step < high) & (mine[at, 1] == keys[:, 1])
        return found

    def ids(self, rows: I64) -> list[str]:
        """The ids of some rows."""
        at, data = self.arrays["id_at"], self.arrays["ids"]
        return [bytes(data[at[r] : at[r + 1]]).decode() for r in rows]

    def candidates(self, bands: U64, cap: int) -> tuple[I64, I64, I64]:
        """Pairs that share a band: rows of ``bands``, (n, bands), rows of the segment, and how many they share."""
        flat = bands.ravel()
        order = np.argsort(flat, kind="stable")  # neighbouring look-ups touch neighbouring pages
        sorted_keys = flat[order]
        low = np.searchsorted(self.arrays["bands"], sorted_keys, "left")
        count = np.minimum(np.searchsorted(self.arrays["bands"], sorted_keys, "right") - low, cap)
        mine = np.repeat(order // bands.shape[1], count)
        at = np.repeat(low - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))
        pairs = mine << 32 | self.arrays["rows"][at].astype(np.int64)
        pairs.sort()
        found = distinct(pairs.copy())
        shared = np.diff(np.append(np.searchsorted(pairs, found), len(pairs)))
        return found >> 32, found & 0xFFFFFFFF, shared


@dataclass(frozen=True)
class Opened:
    """An index, ready to be asked."""

    segments: tuple[Segment, ...]


def open_index(config: Seen, index: Path) -> Opened:
    """Map the arrays of an index that was made with these settings.

    Raises:
        BadData: it was made with other settings, or holds too little.
    """
    said = _said(index)
    _same(said, config, config.by, f"the index {index}")
    return Opened(tuple(_segments(index, said)))


def _said(index: Path) -> dict[str, Any]:
    path = index / "index.json"
    if not path.is_file():
        raise BadData(
            f"{index} is no index of signatures: it has no index.json",
            where=str(index),
            fix="give the directory that fit(minhash.index, ...) published",
        )
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return said


def _same(said: Mapping[str, Any], config: Signature, needed: str, where: str) -> None:
    wanted = _plain(config)
    other = [f"{name}={said['settings'].get(name)!r}" for name in wanted if said["settings"].get(name) != wanted[name]]
    if other or set(said["settings"]) != set(wanted):
        raise BadData(
            f"the index was made with {', '.join(other) or said['settings']}, and is asked with other settings",
            where=where,
            fix=f"use the settings that it was made with: {said['settings']}",
        )
    if needed not in ("bands", said["holds"]):
        raise BadData(
            f"the index holds {said['holds']}, not {needed}",
            where=where,
            fix=f"use {said['holds']!r} or 'bands', or make an index that holds {needed!r}",
        )


def _segments(index: Path, said: Mapping[str, Any]) -> Iterator[Segment]:
    names = ["keys", "sizes", "bands", "rows", "id_at", "ids"]
    names += {"bands": [], "minima": ["minima"], "shingles": ["set_at", "sets"]}[said["holds"]]
    for number in range(len(said["segments"])):
        arrays = {}
        for name in names:
            path = index / f"{number:05d}.{name}.npy"
            try:
                arrays[name] = np.asarray(np.load(path, mmap_mode="r"))
            except ValueError:  # an array without elements cannot be mapped
                arrays[name] = np.load(path)
        yield Segment(arrays)


def ask(docs: pa.Table, config: Seen, index: Opened) -> pa.Table:
    """For each document the one of the index that is nearest: its id, and what is known of the pair."""
    n = len(docs)
    score, best_keys = np.full(n, -1.0), np.zeros((n, 2), np.uint64)
    best_id: list[str | None] = [None] * n
    signed = np.flatnonzero(np.asarray(docs["minhash"].is_valid()))
    if len(signed):
        bands = docs["minhash"].combine_chunks().drop_null().flatten().to_numpy().reshape(-1, config.bands)
        sizes = docs["shingles"].to_numpy()[signed]
        for segment in index.segments:
            mine, old, shared = segment.candidates(bands, config.bucket_cap)
            if config.by != "bands":
                small = np.minimum(sizes[mine], segment.arrays["sizes"][old])
                large = np.maximum(sizes[mine], segment.arrays["sizes"][old])
                possible = small >= config.threshold * large * (1 - 1e-9)
                mine, old = mine[possible], old[possible]
            near = _judge(docs, config, segment, signed, mine, old, shared)
            good = near >= (1 if config.by == "bands" else config.threshold)
            mine, old, near = signed[mine[good]], old[good], near[good]
            keys = segment.arrays["keys"][old]
            order = np.lexsort((keys[:, 1], keys[:, 0], -near, mine))
            first = order[np.diff(mine[order], prepend=-1) != 0]
            mine, old, near, keys = mine[first], old[first], near[first], keys[first]
            earlier = (keys[:, 0] < best_keys[mine, 0]) | (
                (keys[:, 0] == best_keys[mine, 0]) & (keys[:, 1] < best_keys[mine, 1])
            )
            better = (near > score[mine]) | ((near == score[mine]) & earlier)
            mine, old, near, keys = mine[better], old[better], near[better], keys[better]
            score[mine], best_keys[mine] = near, keys
            for row, name in zip(mine.tolist(), segment.ids(old), strict=True):
                best_id[row] = name
    known = pa.array(score, mask=score < 0)
    return pa.table({"seen_copy_of": pa.array(best_id, TEXT), **_score_column(config, known)})


def _score_column(config: Seen, score: pa.Array) -> dict[str, pa.Array]:
    (name, kind), = (item for item in seen_columns(config).items() if item[0] != "seen_copy_of")
    return {name: score.cast(kind)}


def seen_columns(config: Seen) -> dict[str, pa.DataType]:
    """What is written: the name says whether the Jaccard index is true or an estimate."""
    judged = {
        "shingles": {"seen_jaccard": FLOAT64},
        "minima": {"seen_jaccard_estimate": FLOAT64},
        "bands": {"seen_bands": INT32},
    }
    return {"seen_copy_of": TEXT, **judged[config.by]}


def seen_reads(config: Seen) -> dict[str, pa.DataType]:
    """What is read: the text only where pairs are judged by more than bands."""
    text = {} if config.by == "bands" else {"text": TEXT}
    return {**text, "minhash": pa.list_(UINT64), "shingles": INT32}


def _judge(
    docs: pa.Table, config: Seen, segment: Segment, signed: I64, mine: I64, old: I64, shared: I64
) -> npt.NDArray[np.float64]:
    """The similarity of candidate pairs, or the bands that they share; -1 below the threshold."""
    if config.by == "bands":
        return shared.astype(np.float64)
    asked, at = np.unique(mine, return_inverse=True)
    if not len(asked):
        return np.empty(0)
    texts = docs["text"].combine_chunks().take(pa.array(signed[asked]))
    if config.by == "minima":
        least, _ = minima_of(texts, config)
        return _agreement(least, at, segment.arrays["minima"], old)
    sets, ends = sets_of(texts, config)
    return _similarities(sets, ends, at, segment.arrays["sets"], segment.arrays["set_at"], old, config.threshold)


@njit(cache=True, nogil=True)
def _agreement(least, at, minima, old):  # type: ignore[no-untyped-def]
    """The share of equal minima of each pair (``at[k]``, ``old[k]``)."""
    share = np.empty(len(at), np.float64)
    for k in range(len(at)):
        same = 0
        for f in range(least.shape[1]):
            same += least[at[k], f] == minima[old[k], f]
        share[k] = same / least.shape[1]
    return share


@njit(cache=True, nogil=True)
def _similarities(sets, ends, at, old_sets, old_ends, old, threshold):  # type: ignore[no-untyped-def]
    """The Jaccard index of each pair (``at[k]``, ``old[k]``), or -1 below the threshold."""
    near = np.empty(len(at), np.float64)
    for k in range(len(at)):
        x = sets[ends[at[k]] : ends[at[k] + 1]]
        y = old_sets[old_ends[old[k]] : old_ends[old[k] + 1]]
        near[k] = jaccard_index(x, y, threshold)
    return near
