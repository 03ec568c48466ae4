"""A large corpus out of a small one, by edits from a fixed seed; every document is a function of its number.

    python benchmarks/corpus.py pool.parquet OUT --bytes 2e9
    python benchmarks/corpus.py environment OUT             # of the documentation that this Python installation carries

Of a hundred documents 65 are new: as long as a document of the pool, spliced from runs of 20 to 120 words of several,
one word in ten replaced, dropped or repeated. The others are copies of a new one before them: 10 exact, 20 with 0.5 to
10 % of their words edited, 5 with 20 to 50 %. One copy in ten is of one of the first 1,000 documents, so that a few
clusters are large. Files hold about 128 MB of text; those that are there are not written again.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from curate import sources

FILE_BYTES = 128_000_000
NEW, EXACT, NEAR = 65, 75, 95
POPULAR = 1000


@njit(cache=True, nogil=True)
def _mix(x):  # type: ignore[no-untyped-def]
    """SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _draw(seed, document, what):  # type: ignore[no-untyped-def]
    return _mix(_mix(np.uint64(seed) + _mix(np.uint64(document))) + np.uint64(what))


@njit(cache=True, nogil=True)
def _copy(data, start, end, out, at):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        out[at + k - start] = data[k]
    return at + end - start


@njit(cache=True, nogil=True)
def _edit(seed, key, word, words, data, share, out, at):  # type: ignore[no-untyped-def]
    """Write one word, perhaps replaced, dropped or written twice."""
    h = _draw(seed, key, 1 << 20)
    if h % np.uint64(100_000) >= np.uint64(share * 100_000):
        return _copy(data, words[word], words[word + 1], out, at)
    what = (h >> np.uint64(32)) % np.uint64(3)
    if what == 0:
        other = np.int64((h >> np.uint64(34)) % np.uint64(len(words) - 1))
        return _copy(data, words[other], words[other + 1], out, at)
    if what == 1:
        at = _copy(data, words[word], words[word + 1], out, at)
        return _copy(data, words[word], words[word + 1], out, at)
    return at


@njit(cache=True, nogil=True)
def _new(seed, document, first, words, data, plan):  # type: ignore[no-untyped-def]
    """The runs of words of a new document, (start, end) pairs in ``plan``; their number."""
    like = np.int64(_draw(seed, document, 1) % np.uint64(len(first) - 1))
    left = min(first[like + 1] - first[like], 8000)
    runs = 0
    while left > 0 and runs < len(plan):
        h = _draw(seed, document, 2 + runs)
        size = min(left, np.int64(20 + h % np.uint64(101)))
        start = np.int64((h >> np.uint64(16)) % np.uint64(len(words) - 1 - size))
        plan[runs, 0], plan[runs, 1] = start, start + size
        left -= size
        runs += 1
    return runs


@njit(cache=True, nogil=True)
def _base(seed, document):  # type: ignore[no-untyped-def]
    """The new document that a document is a copy of; its own number for a new one."""
    while document > 0 and _draw(seed, document, 0) % np.uint64(100) >= NEW:
        h = _draw(seed, document, 1)
        reach = POPULAR if h % np.uint64(10) == 0 else document
        document = np.int64((h >> np.uint64(8)) % np.uint64(min(document, reach)))
    return document


@njit(cache=True, nogil=True)
def documents(seed, low, high, first, words, data, room):  # type: ignore[no-untyped-def]
    """Documents ``low`` to ``high``: offsets int64 (n + 1,) and bytes uint8."""
    offsets = np.zeros(high - low + 1, np.int64)
    out = np.empty(room, np.uint8)
    plan = np.empty((1000, 2), np.int64)
    longest = 0
    for word in range(len(words) - 1):
        longest = max(longest, words[word + 1] - words[word])
    at = 0
    for document in range(low, high):
        kind = _draw(seed, document, 0) % np.uint64(100)
        base = _base(seed, document)
        runs = _new(seed, base, first, words, data, plan)
        share = 0.0
        if document != base and kind >= EXACT:
            h = np.int64(_draw(seed, document, 3) % np.uint64(1000))
            share = 0.005 + 0.095 * h / 1000 if kind < NEAR else 0.2 + 0.3 * h / 1000
        for run in range(runs):
            for word in range(plan[run, 0], plan[run, 1]):
                if at + 2 * longest >= len(out):
                    grown = np.empty(2 * len(out) + 2 * longest, np.uint8)
                    grown[:at] = out[:at]
                    out = grown
                # The base's own edits come first: a copy of it repeats them, but for the words it edits itself.
                key = np.int64(base) * 1_000_003 + word
                if share and _draw(seed, np.int64(document) * 1_000_003 + word, 7) % np.uint64(100_000) < np.uint64(
                    share * 100_000
                ):
                    at = _edit(seed, np.int64(document) * 1_000_003 + word, word, words, data, 1.0, out, at)
                else:
                    at = _edit(seed, key, word, words, data, 0.1, out, at)
        offsets[document - low + 1] = at
    return offsets, out[:at]


def words_of(texts: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Where each document's words begin, (documents + 1,), where each word begins, (words + 1,), and the bytes.

    A word is what follows a space, up to and with the next one.
    """
    joined = pa.chunked_array([texts.cast(pa.large_string())]).combine_chunks()
    spaced = pa.array([f"{text.as_py()} " for text in joined], pa.large_string())
    _, offsets, data = spaced.buffers()
    ends = np.frombuffer(offsets, np.int64)
    found = np.frombuffer(data, np.uint8)
    words = np.concatenate([[0], np.flatnonzero(found == 0x20) + 1])
    return np.searchsorted(words, ends), words, found


def pool_of(name: str) -> pa.Table:
    """The documents to start from: a Parquet file with ``text`` and ``source``, or the environment's documentation."""
    if name != "environment":
        return pq.read_table(name, columns=["text", "source"])
    source = sources.environment(package_bytes="2MB")
    pieces = [piece.table for file in source.listing() for piece in source.read(file)]
    return pa.concat_tables(pieces).select(["text", "source"])


def main() -> None:
    """Write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool")
    parser.add_argument("out", type=Path)
    parser.add_argument("--bytes", type=float, default=2e9)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pool = pool_of(arguments.pool)
    pool = pool.filter(pool["text"].is_valid())
    first, words, data = words_of(pool["text"])
    names = pool["source"].to_pylist()
    each = round(FILE_BYTES / (len(data) / len(pool)))
    for number in range(round(arguments.bytes / FILE_BYTES)):
        path = arguments.out / f"part-{number:05d}.parquet"
        if path.exists():
            continue
        low, high = number * each, (number + 1) * each
        offsets, out = documents(arguments.seed, low, high, first, words, data, FILE_BYTES)
        text = pa.LargeStringArray.from_buffers(high - low, pa.py_buffer(offsets), pa.py_buffer(out))
        columns = {
            "id": [f"doc-{i}" for i in range(low, high)],
            "text": text,
            "source": [names[i % len(names)] for i in range(low, high)],
        }
        unfinished = path.with_suffix(".tmp")
        pq.write_table(pa.table(columns), unfinished, compression="zstd", row_group_size=4096)
        unfinished.rename(path)
        print(f"{path}: {high - low} documents, {len(out) / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
