"""Candidate pairs: rows that share a band key meet in a bucket.

A bucket of more than ``bucket_cap`` rows pairs each row with ``neighbours`` rows in the order of their signatures; the
pairs left out are counted and reported. A pair whose shingle counts alone rule out the threshold is no candidate.

Cost: 28 bytes a row and band are exchanged.
"""

import numpy as np
import pyarrow as pa
from numba import njit

from curate.columns import ADDRESS
from curate.hashing import mix64
from curate.near.settings import MinHash


def band_records(docs: pa.Table, config: MinHash) -> pa.Table:
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


def meet(records: pa.Table, config: MinHash) -> pa.Table:
    """Candidate pairs of whole buckets: ``a`` < ``b``, and ``n``, the larger of their shingle counts.

    A bucket that leaves pairs out adds one record with ``a`` = ``b`` and their number as ``n``.
    """
    band, address, order, shingles = (records[name].to_numpy() for name in ("band", ADDRESS, "order", "shingles"))
    threshold = config.threshold if config.verify else 0.0  # 0 rules no pair out
    a, b, n = _pair(band, address, order, shingles, threshold, config.bucket_cap, config.neighbours)
    return pa.table({"a": a, "b": b, "n": n})


@njit(cache=True, nogil=True)
def _pair(band, address, order, shingles, threshold, cap, neighbours):  # type: ignore[no-untyped-def]
    """See ``meet``; records with equal ``band`` lie next to each other."""
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
