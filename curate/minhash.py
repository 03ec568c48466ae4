r"""Near copies by MinHash and banding (Broder 1997; Leskovec, Rajaraman and Ullman 2014, chapter 3), pairs verified.

A word is a run of letters, digits and underscores of the lower-cased text (Python's ``\w+``); a document's shingles
are its distinct runs of five words, or all its words as one shingle where it has fewer. The similarity of two
documents is the Jaccard index of their shingles.

1. ``signatures`` (EACH): 112 minima of hashed shingles, folded into 14 band keys of 8 minima each. Documents of
   similarity s share a band with probability ``1 - (1 - s**8)**14``: 0.924 at 0.8, 0.9996 at 0.9 (``collision_table``).
2. Rows that share a band key meet and become candidate pairs. A bucket of more than ``bucket_cap`` rows pairs each row
   with ``neighbours`` rows in the order of their signatures; the pairs left out are counted and reported. A pair whose
   shingle counts alone rule out the threshold is not a candidate.
3. Components over candidate pairs say who must meet whom: each row's shingle hashes travel once to its component, where
   every pair is verified by its true Jaccard index (64-bit hashes). A component with more than ``BLOCK`` shingles is
   verified in blocks, and rows with partners in several blocks travel to each of them.
4. Clusters are components over verified pairs: two rows of one cluster are joined by a chain of pairs that all reach
   the threshold, though they themselves may lie below it.
5. A policy (``curate.keeper``) chooses the row of each cluster that is kept.

Cost: signatures run at over 150 MB of text a second and core; 28 bytes a row and band are exchanged; the shingles of
candidate rows are exchanged once, 8 bytes each. The pairs are gathered in the process that runs the pipeline, at about
90 bytes a pair *and band* that they share; 1e8 rows with a partner are its stated limit, and it stops with an error
above.

Simplified: final sigma counts as sigma, and which characters are letters follows the Unicode tables of the running
Python. Elsewhere: exact copies (``exact``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.columns import ADDRESS, FLOAT64, INT32, INT64, TEXT, UINT64
from curate.errors import RunError, UnknownSetting
from curate.hashing import mix64
from curate.keeper import keepers, policy, policy_reads
from curate.stage import Grain, Rows, stage
from curate.text import next_character, string_buffers

U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

LIMIT = 10**8  # rows with a partner that one process joins
BLOCK = 1 << 23  # shingles verified at once: 64 MB


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a signature is made of: the settings of ``signatures``, which no other setting changes.

    Args:
        ngram: words in a shingle.
        bands: band keys a document has; one shared key makes a candidate pair.
        rows: minima in a band key. ``(1 / bands) ** (1 / rows)`` is near the similarity where the curve is steepest.
        seed: chooses the hash functions, and breaks ties.
    """

    ngram: int = 5
    bands: int = 14
    rows: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least_one(self, "ngram", "bands", "rows")


@dataclass(frozen=True, kw_only=True)
class MinHash(Signature):
    """How near two documents must be, and which copy is kept.

    The defaults are those of FineWeb (Penedo et al. 2024) for shingles and bands; the verification is ours.

    Args:
        threshold: Jaccard index that a pair must reach.
        bucket_cap: rows of a bucket up to which all its pairs are candidates.
        neighbours: in a larger bucket, the rows that each row is paired with, next in the order of signatures.
        keep_by: policy of columns that chooses the row to keep, such as ``("-text_bytes",)``; see ``curate.keeper``.
        label: names the hash that breaks ties.
    """

    threshold: float = 0.8
    bucket_cap: int = 128
    neighbours: int = 16
    keep_by: tuple[str, ...] = ()
    label: str = "minhash"

    def __post_init__(self) -> None:
        super().__post_init__()
        policy(self.keep_by)
        _at_least_one(self, "bucket_cap", "neighbours")
        if not 0 < self.threshold <= 1:
            raise UnknownSetting(
                f"threshold is {self.threshold}", where="MinHash", fix="give a Jaccard index above 0 and at most 1"
            )

    def each(self) -> Signature:
        """The settings of ``signatures``: another threshold signs nothing again."""
        return Signature(ngram=self.ngram, bands=self.bands, rows=self.rows, seed=self.seed)


def _at_least_one(config: Signature, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise UnknownSetting(
                f"{name} is {getattr(config, name)}", where="MinHash", fix=f"give {name} a value of 1 or more"
            )


# ---- the curve ----------------------------------------------------------------------------------------------------


def collision(similarity: float, bands: int, rows: int) -> float:
    """Probability that documents of this Jaccard index share a band: ``1 - (1 - s**rows)**bands``."""
    return float(1 - (1 - similarity**rows) ** bands)


def half_point(bands: int, rows: int) -> float:
    """The Jaccard index at which half of the pairs share a band.

    It lies below the often quoted ``(1 / bands) ** (1 / rows)``, where about 64 % do.
    """
    return float((1 - 0.5 ** (1 / bands)) ** (1 / rows))


def collision_table(bands: int, rows: int) -> pa.Table:
    """The curve as a table: ``similarity``, in steps of 0.05 and at the 50 % point, and ``probability`` (float64)."""
    points = sorted([*(step / 20 for step in range(21)), half_point(bands, rows)])
    chances = [collision(s, bands, rows) for s in points]
    return pa.table({"similarity": pa.array(points, FLOAT64), "probability": pa.array(chances, FLOAT64)})


# ---- words and shingles -------------------------------------------------------------------------------------------

_K1 = np.uint64(0x9E3779B97F4A7C15)  # odd constants: the golden ratio, and primes of xxHash
_K2 = np.uint64(0xC2B2AE3D27D4EB4F)
_K3 = np.uint64(0x165667B19E3779F9)
_WIDE = np.uint64(1 << 40)  # marks a character outside ASCII; no run of ASCII word bytes has this byte
_ENDS = np.uint32(1 << 31)  # in the folding table: the word ends after this character
_HIGH = 0x40000  # no letter or digit lies in the planes from here on


@cache
def _folding() -> npt.NDArray[np.uint32]:
    """For each code point, uint32 (0x40000,), its lower-case form, or 0 where it is no part of a word."""
    table = np.zeros(_HIGH, dtype=np.uint32)
    for point in range(_HIGH):
        char = chr(point)
        if char.isalnum() or char == "_":
            table[point] = ord(char.lower()[0])
    table[0x130] |= _ENDS  # dotted capital I is lower-cased as i and a combining dot, which is no letter
    table[ord("ς")] = ord("σ")  # str.lower chooses between them by context
    return table


@njit(cache=True, nogil=True, inline="always")
def _absorb(h: np.uint64, x: np.uint64) -> np.uint64:
    h = (h ^ x) * _K2
    return h ^ (h >> np.uint64(32))


@njit(cache=True, nogil=True, inline="always")
def _finish(x: np.uint64) -> np.uint64:
    """The finaliser of splitmix64, as in ``curate.hashing.mix64``."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _shingle(data, start, end, fold, ngram, ring, out):  # type: ignore[no-untyped-def]
    """Hash every shingle of one text, repeats included.

    A word's hash absorbs up to eight ASCII characters at a time, so that short words have distinct hashes. A shingle's
    hash is a polynomial of its words' hashes, rolled from one to the next, and finished.

    Args:
        data: bytes, uint8.
        start: first byte of the text.
        end: byte after its last.
        fold: ``_folding()``.
        ngram: words in a shingle.
        ring: scratch, uint64 (ngram,).
        out: scratch, uint64, for the hashes; a larger one takes its place where it is too small.

    Returns:
        The hashes' array and how many it holds.
    """
    oldest = np.uint64(1)  # the weight of the word that leaves the window: _K1 ** ngram
    for _ in range(ngram):
        oldest *= _K1
    ring[:] = 0
    window = np.uint64(0)
    words = 0
    count = 0
    slot = 0
    i = start
    while i < end:
        h = np.uint64(0)
        held = np.uint64(0)  # ASCII characters not yet absorbed, one a byte
        holds = 0
        inside = False
        while i < end:
            c = data[i]
            if c < 128:
                i += 1
                char = fold[c]
                if char == 0:
                    if inside:
                        break
                    continue
                inside = True
                held = (held << np.uint64(8)) | np.uint64(char)
                holds += 1
                if holds == 8:
                    h = _absorb(h, held)
                    held = np.uint64(0)
                    holds = 0
                continue
            point, i = next_character(data, i, end)
            char = fold[point] if point < _HIGH else np.uint32(0)
            if char == 0:
                if inside:
                    break
                continue
            inside = True
            if holds:
                h = _absorb(h, held)
                held = np.uint64(0)
                holds = 0
            h = _absorb(h, np.uint64(char & ~_ENDS) | _WIDE)
            if char & _ENDS:
                break
        if not inside:
            break
        word = _absorb(h, held)
        window = window * _K1 + word - ring[slot] * oldest
        ring[slot] = word
        slot = slot + 1 if slot + 1 < ngram else 0
        words += 1
        if words >= ngram:
            if count == len(out):
                grown = np.empty(2 * count, np.uint64)
                grown[:count] = out
                out = grown
            out[count] = _finish(window)
            count += 1
    if 0 < words < ngram:
        out[0] = _finish(window + np.uint64(words) * _K3)
        count = 1
    return out, count


@njit(cache=True, nogil=True)
def _sign(offsets, data, fold, ngram, rows, scale, shift, keys, counts):  # type: ignore[no-untyped-def]
    """Band keys, uint64 (n, bands), and distinct shingles, int32 (n,), of n texts, written into the last two arguments.

    The minima are of ``h * scale + shift`` modulo 2**32 over the high halves h of the shingles' hashes, (bands * rows,)
    functions. One function at a time runs over a stretch of hashes that stays in the nearest cache.
    """
    ring = np.empty(ngram, np.uint64)
    out = np.empty(1 << 12, np.uint64)
    seen = np.empty(1 << 13, np.uint64)
    distinct = np.empty(1 << 12, np.uint32)
    least = np.empty(len(scale), np.uint32)
    for doc in range(len(offsets) - 1):
        out, count = _shingle(data, offsets[doc], offsets[doc + 1], fold, ngram, ring, out)
        counts[doc] = 0
        if count == 0:
            continue
        size = 16
        while size < 2 * count:
            size *= 2
        if size > len(seen):
            seen = np.empty(size, np.uint64)
            distinct = np.empty(size // 2, np.uint32)
        seen[:size] = 0
        mask = np.uint64(size - 1)
        unique = 0
        for j in range(count):
            h = out[j]
            if h == 0:  # 0 marks a free slot
                h = np.uint64(1)
            at = h & mask
            while seen[at] != 0 and seen[at] != h:
                at = (at + np.uint64(1)) & mask
            distinct[unique] = np.uint32(h >> np.uint64(32))  # written over by the next one where it is known
            unique += seen[at] == 0
            seen[at] = h
        counts[doc] = unique
        least[:] = 0xFFFFFFFF
        for first in range(0, unique, 2048):
            stretch = distinct[first : min(first + 2048, unique)]  # a loop from 0 is vectorised
            for k in range(len(scale)):
                m = least[k]
                by = scale[k]
                plus = shift[k]
                for j in range(len(stretch)):
                    m = min(m, np.uint32(stretch[j] * by + plus))
                least[k] = m
        for band in range(keys.shape[1]):
            key = _finish(np.uint64(band + 1) * _K1)  # so that no two bands share a key
            for k in range(band * rows, (band + 1) * rows):
                key = _absorb(key, np.uint64(least[k]))
            keys[doc, band] = _finish(key)


@njit(cache=True, nogil=True)
def _shingle_sets(offsets, data, fold, ngram):  # type: ignore[no-untyped-def]
    """The sorted distinct shingle hashes of each text, one after the other, and their offsets, int64 (n + 1,)."""
    ring = np.empty(ngram, np.uint64)
    out = np.empty(1 << 12, np.uint64)
    sets = np.empty(1 << 12, np.uint64)
    ends = np.zeros(len(offsets), np.int64)
    total = 0
    for doc in range(len(offsets) - 1):
        out, count = _shingle(data, offsets[doc], offsets[doc + 1], fold, ngram, ring, out)
        if total + count > len(sets):
            grown = np.empty(2 * (total + count), np.uint64)
            grown[:total] = sets[:total]
            sets = grown
        ordered = np.sort(out[:count])
        for j in range(count):
            if j == 0 or ordered[j] != ordered[j - 1]:
                sets[total] = ordered[j]
                total += 1
        ends[doc + 1] = total
    return sets[:total], ends


# ---- signatures: EACH ---------------------------------------------------------------------------------------------


@stage(reads={"text": TEXT}, writes={"minhash": pa.list_(UINT64), "shingles": INT32}, grain=Grain.EACH, version="1")
def signatures(docs: pa.Table, config: Signature) -> pa.Table:
    """Band keys and the number of distinct shingles. A text without a word has null and 0 and is never a near copy."""
    offsets, data = string_buffers(docs["text"])
    n = len(offsets) - 1
    seed = mix64(np.full(1, config.seed % 2**64, dtype=np.uint64))
    functions = np.arange(1, 2 * config.bands * config.rows + 1, dtype=np.uint64)
    constants = (mix64(functions * _K1 ^ seed) >> np.uint64(32)).astype(np.uint32)
    scale, shift = constants[0::2] | np.uint32(1), constants[1::2]
    keys = np.empty((n, config.bands), dtype=np.uint64)
    counts = np.empty(n, dtype=np.int32)
    _sign(offsets, data, _folding(), config.ngram, config.rows, scale, shift, keys, counts)
    signed = counts > 0
    ends = np.concatenate([np.zeros(1, np.int32), np.cumsum(signed * config.bands, dtype=np.int32)])
    minhash = pa.ListArray.from_arrays(ends, pa.array(keys[signed].ravel()), mask=pa.array(~signed))
    return pa.table({"minhash": minhash, "shingles": pa.array(counts, INT32)})


# ---- candidate pairs: by band -------------------------------------------------------------------------------------


def _bands(docs: pa.Table, config: MinHash) -> pa.Table:
    """One record for each row and band: the key, the address, the place in signature order and the shingle count.

    ``order`` puts rows together that also share the next band, within these the next but one and the one after that
    (16 bits each), and last the whole signature (16 bits).
    """
    docs = docs.filter(docs["minhash"].is_valid())
    keys = docs["minhash"].combine_chunks().flatten().to_numpy().reshape(-1, config.bands)
    whole = np.zeros(len(keys), dtype=np.uint64)
    for band in range(config.bands):
        whole = mix64(whole ^ keys[:, band])
    order = np.empty_like(keys)
    high, bits = np.uint64(0xFFFF << 48), [np.uint64(16 * k) for k in range(4)]
    for band in range(config.bands):
        following = [keys[:, (band + k) % config.bands] for k in (1, 2, 3)] + [whole]
        order[:, band] = sum((key & high) >> shift for key, shift in zip(following, bits, strict=True))
    return pa.table(
        {
            "band": keys.ravel(),
            ADDRESS: np.repeat(docs[ADDRESS].to_numpy(), config.bands),
            "order": order.ravel(),
            "shingles": np.repeat(docs["shingles"].to_numpy(), config.bands),
        }
    )


def _meet(records: pa.Table, config: MinHash) -> pa.Table:
    """Candidate pairs of whole buckets: ``a`` < ``b``, and ``n``, the larger of their shingle counts.

    A bucket that leaves pairs out adds one record with ``a`` = ``b`` and their number as ``n``.
    """
    band, address, order, shingles = (records[name].to_numpy() for name in ("band", ADDRESS, "order", "shingles"))
    a, b, n = _pair(band, address, order, shingles, config.threshold, config.bucket_cap, config.neighbours)
    return pa.table({"a": a, "b": b, "n": n})


@njit(cache=True, nogil=True)
def _pair(band, address, order, shingles, threshold, cap, neighbours):  # type: ignore[no-untyped-def]
    """See ``_meet``; records with equal ``band`` lie next to each other."""
    pairs = np.empty((1 << 10, 2), np.uint64)
    n = np.empty(1 << 10, np.int64)
    count = 0
    high = 0
    while high < len(band):
        low = high
        while high < len(band) and band[high] == band[low]:
            high += 1
        size = high - low
        if size == 1:
            continue
        most = count + 1 + (size * size // 2 if size <= cap else size + max(cap * cap // 2, size * neighbours))
        if most > len(n):
            most = max(most, 2 * len(n))
            grown_pairs, grown_n = np.empty((most, 2), np.uint64), np.empty(most, np.int64)
            grown_pairs[:count], grown_n[:count] = pairs[:count], n[:count]
            pairs, n = grown_pairs, grown_n
        rows = np.arange(low, high)
        reach = size
        if size > cap:
            # Rows of one signature are stood for by the first of them: it meets each of them, and alone meets others.
            rows = rows[np.argsort(address[low:high])]
            rows = rows[np.argsort(order[rows], kind="mergesort")]
            first = np.empty(size, np.int64)
            firsts = 0
            for row in rows:
                if firsts == 0 or order[row] != order[first[firsts - 1]]:
                    first[firsts] = row
                    firsts += 1
                else:
                    count = _add(pairs, n, count, address, shingles, first[firsts - 1], row, threshold)
            rows = first[:firsts]
            reach = firsts if firsts <= cap else neighbours
        left_out = 0
        for i in range(len(rows)):
            last = min(i + 1 + reach, len(rows))
            for j in range(i + 1, last):
                count = _add(pairs, n, count, address, shingles, rows[i], rows[j], threshold)
            left_out += len(rows) - last
        if left_out:
            pairs[count] = address[low]
            n[count] = left_out
            count += 1
    return pairs[:count, 0].copy(), pairs[:count, 1].copy(), n[:count]


@njit(cache=True, nogil=True)
def _add(pairs, n, count, address, shingles, i, j, threshold):  # type: ignore[no-untyped-def]
    """Write one pair at ``count`` unless the shingle counts rule it out: Jaccard is at most smaller / larger."""
    small, large = min(shingles[i], shingles[j]), max(shingles[i], shingles[j])
    if address[i] == address[j] or small / large < threshold:
        return count
    pairs[count, 0], pairs[count, 1] = min(address[i], address[j]), max(address[i], address[j])
    n[count] = large
    return count + 1


# ---- components ---------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _join(a, b, n):  # type: ignore[no-untyped-def]
    """The smallest row of each row's component, (n,): union-find with path halving (Tarjan and van Leeuwen 1984)."""
    parent = np.arange(n)
    for k in range(len(a)):
        x, y = a[k], b[k]
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        while parent[y] != y:
            parent[y] = parent[parent[y]]
            y = parent[y]
        if x < y:
            parent[y] = x
        elif y < x:
            parent[x] = y
    for x in range(n):  # a parent is never larger than its child, so that it is final before it
        parent[x] = parent[parent[x]]
    return parent


def _distinct(values: Any) -> Any:
    """What ``np.unique`` gives, by sorting in place; numpy 2.3 and later hash, ten times slower for millions."""
    values.sort()
    first = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def components(a: U64, b: U64) -> tuple[U64, I64, I64, I64]:
    """Connected components of the rows that occur in pairs.

    Args:
        a: addresses, uint64 (pairs,).
        b: addresses, uint64 (pairs,).

    Returns:
        The distinct addresses in order, (n,); the positions of ``a`` and of ``b`` among them, (pairs,); and for each
        address the position of the smallest one of its component, (n,).

    Raises:
        RunError: more than ``LIMIT`` rows have a partner.
    """
    rows = _distinct(np.concatenate([a, b]))
    if len(rows) > LIMIT:
        raise RunError(
            f"{len(rows):,} rows have a candidate partner; one process joins at most {LIMIT:,}",
            where="minhash.near_duplicates",
            fix="drop exact copies first (exact.duplicates), raise `threshold` or `rows`, or curate sources one by one",
        )
    at_a, at_b = np.searchsorted(rows, a), np.searchsorted(rows, b)
    return rows, at_a, at_b, _join(at_a, at_b, len(rows))


# ---- verification: by component -----------------------------------------------------------------------------------


def _itinerary(pairs: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Which row travels to which blocks, and with which partners it is compared there.

    Args:
        pairs: as ``_meet`` makes them; a pair may repeat.

    Returns:
        A table with ``address``, ``blocks`` (list) and ``partners`` (list: addresses to be compared with in the first
        of the blocks), and numbers for the report.
    """
    a, b, n = (pairs[name].to_numpy() for name in ("a", "b", "n"))
    left_out = a == b
    numbers = {"buckets_over_cap": int(left_out.sum()), "pairs_not_compared": int(n[left_out].sum())}
    a, b, n = a[~left_out], b[~left_out], n[~left_out]
    rows, at_a, at_b, root = components(a, b)
    weight = np.zeros(len(rows), dtype=np.int64)  # shingles of each row, or somewhat more
    np.maximum.at(weight, at_a, n)
    np.maximum.at(weight, at_b, n)
    distinct = _distinct(at_a << 32 | at_b)
    at_a, at_b = distinct >> 32, distinct & 0xFFFFFFFF
    by_component = np.argsort(root[at_a], kind="stable")
    at_a, at_b = at_a[by_component], at_b[by_component]

    # All pairs of one `a` lie together and share a block. A component within the limit is one block; a larger one is
    # cut where the shingles of its rows, counted again for every pair they are in, reach the limit.
    start = np.flatnonzero(np.diff(at_a, prepend=-1))
    home = at_a[start]
    cost = weight[home] + np.add.reduceat(weight[at_b], start) if len(start) else weight[home]
    before = np.cumsum(cost) - cost
    opens = np.diff(root[home], prepend=-1) != 0
    before -= np.maximum.accumulate(np.where(opens, before, 0))
    large = np.bincount(root, weights=weight, minlength=len(rows))[root[home]] > BLOCK
    slab = np.where(large, before // BLOCK, 0)
    block = np.cumsum(opens | (np.diff(slab, prepend=0) != 0)) - 1
    numbers |= {
        "candidate_pairs": len(at_a),
        "candidate_rows": len(rows),
        "components": int(opens.sum()),
        "largest_component": int(np.bincount(root).max(initial=0)),
    }

    # Each row's blocks, its home first where it has one: there it meets its partners.
    pair_block = np.repeat(block, np.diff(start, append=len(at_a)))
    home_block = np.full(len(rows), -1)
    home_block[home] = block
    row, to = np.concatenate([home, at_b]), np.concatenate([block, pair_block])
    trips = _distinct(row << 32 | np.where(to == home_block[row], 0, to + 1))  # by row, home first
    row, to = trips >> 32, trips & 0xFFFFFFFF
    to = np.where(to == 0, home_block[row], to - 1)
    each = np.arange(len(rows) + 1)
    blocks = pa.LargeListArray.from_arrays(np.searchsorted(row, each), pa.array(to.astype(np.uint64)))
    by_home = np.argsort(at_a, kind="stable")
    met = pa.array(rows[at_b[by_home]])
    partners = pa.LargeListArray.from_arrays(np.searchsorted(at_a[by_home], each), met)
    return pa.table({ADDRESS: rows, "blocks": blocks, "partners": partners}), numbers


def _lists(column: pa.ChunkedArray) -> tuple[I64, npt.NDArray[np.generic]]:
    """A list column without nulls as offsets, int64 (n + 1,) from 0, and values."""
    array = column.combine_chunks()
    if len(array) == 0:
        return np.zeros(1, np.int64), np.empty(0, np.uint64)
    offsets = array.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], array.flatten().to_numpy()


def _pack(docs: pa.Table, config: MinHash) -> pa.Table:
    """One record for each row and block: the row's shingle hashes, and in its first block its partners."""
    text_offsets, data = string_buffers(docs["text"])
    values, offsets = _shingle_sets(text_offsets, data, _folding(), config.ngram)
    first, blocks = _lists(docs["blocks"])
    row = np.repeat(np.arange(len(docs)), np.diff(first))
    sets = pa.LargeListArray.from_arrays(offsets, pa.array(values))
    if len(row) > len(docs):
        sets = sets.take(pa.array(row))
    partner_at, partners = _lists(docs["partners"])
    met = np.zeros(len(row) + 1, dtype=np.int64)  # partners of each record: all of the row's in its first block
    met[first[:-1] + 1] = np.diff(partner_at)
    met = np.cumsum(met)
    return pa.table(
        {
            "block": blocks,
            ADDRESS: docs[ADDRESS].to_numpy()[row],
            "set": sets,
            "partners": pa.LargeListArray.from_arrays(met, pa.array(partners)),
        }
    )


def _verify(records: pa.Table, config: MinHash) -> pa.Table:
    """The pairs of whole blocks that reach the threshold: ``a`` < ``b``, and ``jaccard``."""
    a, b, jaccard, lost = _compare(
        records["block"].to_numpy(),
        records[ADDRESS].to_numpy(),
        *_lists(records["set"]),
        *_lists(records["partners"]),
        config.threshold,
    )
    if lost:
        raise RunError(
            f"{lost} candidate partners did not arrive in the block of their pair",
            where="minhash.near_duplicates",
            fix="report it: an exchange lost records",
        )
    return pa.table({"a": a, "b": b, "jaccard": jaccard})


@njit(cache=True, nogil=True)
def _compare(block, address, set_at, sets, partner_at, partners, threshold):  # type: ignore[no-untyped-def]
    """See ``_verify``; records with equal ``block`` lie next to each other."""
    a = np.empty(len(partners), np.uint64)
    b = np.empty(len(partners), np.uint64)
    jaccard = np.empty(len(partners), np.float64)
    count = 0
    lost = 0
    high = 0
    while high < len(block):
        low = high
        while high < len(block) and block[high] == block[low]:
            high += 1
        by_address = low + np.argsort(address[low:high])
        known = address[by_address]
        for i in range(low, high):
            for k in range(partner_at[i], partner_at[i + 1]):
                found = np.searchsorted(known, partners[k])
                if found == len(known) or known[found] != partners[k]:
                    lost += 1
                    continue
                j = by_address[found]
                similarity = _jaccard(sets[set_at[i] : set_at[i + 1]], sets[set_at[j] : set_at[j + 1]], threshold)
                if similarity >= threshold:
                    a[count], b[count], jaccard[count] = address[i], address[j], similarity
                    count += 1
    return a[:count], b[:count], jaccard[:count], lost


@njit(cache=True, nogil=True)
def _jaccard(x, y, threshold):  # type: ignore[no-untyped-def]
    """The Jaccard index of two sorted sets, or -1 as soon as it cannot reach the threshold."""
    total = len(x) + len(y)
    need = np.int64(threshold / (1 + threshold) * total)
    while need > 0 and (need - 1) / (total - need + 1) >= threshold:
        need -= 1
    while need / (total - need) < threshold:
        need += 1
    spare_x, spare_y = len(x) - need, len(y) - need  # elements of each that may be missing from the other
    i = j = shared = 0
    while i < len(x) and j < len(y) and spare_x >= 0 and spare_y >= 0:
        if x[i] == y[j]:
            shared += 1
            i += 1
            j += 1
        elif x[i] < y[j]:
            spare_x -= 1
            i += 1
        else:
            spare_y -= 1
            j += 1
    if shared < need:
        return -1.0
    return shared / (total - shared)


def near_pairs(rows: Rows, config: MinHash) -> tuple[pa.Table, dict[str, int]]:
    """The verified pairs (``a`` < ``b``: addresses, ``jaccard``: float64), in order, and numbers for the report."""
    pairs = rows.exchange(_bands, _meet, reads=("minhash", "shingles"), by="band", label="bands", given=config)
    itinerary, numbers = _itinerary(pairs)
    verified = rows.exchange(
        _pack, _verify, reads=("text",), by="block", label="pairs", given=config, alongside=itinerary
    )
    return verified.sort_by([("a", "ascending"), ("b", "ascending")]), numbers | {"verified_pairs": len(verified)}


# ---- the row to keep: by cluster ----------------------------------------------------------------------------------


def _near_duplicates_reads(config: MinHash) -> Mapping[str, pa.DataType]:
    return {"text": TEXT, "minhash": pa.list_(UINT64), "shingles": INT32, **policy_reads(config.keep_by)}


@stage(
    reads=_near_duplicates_reads,
    writes={"near_copy_of": UINT64, "near_cluster": UINT64, "near_cluster_size": INT64},
    grain=Grain.GROUP,
    rounds=True,
    each=signatures,
    version="1",
)
def near_duplicates(rows: Rows, config: MinHash) -> pa.Table:
    """Which row each row is a near copy of, and its cluster.

    ``near_copy_of`` is the address of the row that is kept, null for that row itself. ``near_cluster`` names the
    cluster by its smallest address and ``near_cluster_size`` counts its rows. All three are null for a row without a
    near copy.

    The report counts candidate pairs (distinct), pairs verified, pairs that buckets over the cap left out (summed over
    bands: a pair may be left out in one and compared in another), components and clusters.

    Raises:
        RunError: more than ``LIMIT`` rows have a candidate partner.
    """
    pairs, numbers = near_pairs(rows, config)
    members, _, _, root = components(pairs["a"].to_numpy(), pairs["b"].to_numpy())
    sizes = np.bincount(root)
    numbers |= {
        "clusters": int((sizes > 0).sum()),
        "clustered_rows": len(members),
        "largest_cluster": int(sizes.max(initial=0)),
    }
    rows.report(numbers)
    clusters = pa.table({ADDRESS: members, "near_cluster": members[root]})
    return rows.exchange(
        _emit,
        _keep,
        reads=tuple(policy_reads(config.keep_by)),
        by="near_cluster",
        label="clusters",
        given=config,
        alongside=clusters,
    )


def _emit(docs: pa.Table, config: MinHash) -> pa.Table:
    return docs


def _keep(records: pa.Table, config: MinHash) -> pa.Table:
    address, cluster = records[ADDRESS].to_numpy(), records["near_cluster"].to_numpy()
    kept, size = keepers(records, cluster, config.keep_by, label=config.label, seed=config.seed)
    return pa.table(
        {
            ADDRESS: address,
            "near_copy_of": pa.array(address[kept], UINT64, mask=kept == np.arange(len(kept))),
            "near_cluster": cluster,
            "near_cluster_size": pa.array(size, INT64),
        }
    )
