"""The texts of evaluation items cut into features, and the features as a kernel looks them up.

A feature is a run of ``n`` words, or a text of fewer words as a whole. ``write`` makes the files of an index,
``opened`` reads them. In memory an index has about 90 bytes for every word of the items' texts.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from curate.columns import INT32, INT64, TEXT, UINT64
from curate.errors import BadInput
from curate.matching.words import I32, I64, U8, U32, U64, buffers, folding, hash_of, next_word, normalised, ring


@njit(cache=True, nogil=True)
def cut(offsets, data, fold, n, min_words, out, words_of):  # type: ignore[no-untyped-def]
    """Every run of ``n`` words of each text, or the text as a whole where it has fewer, at least ``min_words``.

    It writes to ``out``, int64 (5, room), the text, the number of words, the first byte, the byte after and the number
    of the first word of each; to ``words_of`` how many words each text has. It returns their hashes, uint64 (room,),
    and how many there are.
    """
    found = np.empty(out.shape[1], dtype=np.uint64)
    hashes = np.empty(ring(n), dtype=np.uint64)
    starts = np.empty(ring(n), dtype=np.int64)
    last = hashes.size - 1
    count = 0
    for t in range(offsets.size - 1):
        words = 0
        i = offsets[t]
        end = i
        while True:
            start, i, value = next_word(data, i, offsets[t + 1], fold)
            if start < 0:
                break
            hashes[words & last] = value
            starts[words & last] = start
            end = i
            words += 1
            if words >= n:
                out[0, count], out[1, count], out[2, count], out[3, count] = t, n, starts[(words - n) & last], end
                out[4, count] = words - n
                found[count] = hash_of(hashes, words - 1, n)
                count += 1
        words_of[t] = words
        if min_words <= words < n:
            out[0, count], out[1, count], out[2, count], out[3, count] = t, words, starts[0], end
            out[4, count] = 0
            found[count] = hash_of(hashes, words - 1, words)
            count += 1
    return found, count


@njit(cache=True, nogil=True)
def distinct(hashes: U64, starts: I64, ends: I64, data: U8, feature: I64) -> int:
    """Number runs of words, sorted by hash, so that equal ones have one number; returns how many numbers there are.

    Different words may share a hash: such runs are neighbours with numbers of their own.
    """
    count = 0
    first = 0                              # of the entries with this hash
    for k in range(hashes.size):
        if hashes[k] != hashes[first]:
            first = k
        feature[k] = -1
        for j in range(first, k):
            if ends[j] - starts[j] == ends[k] - starts[k]:
                same = True
                for b in range(ends[j] - starts[j]):
                    if data[starts[j] + b] != data[starts[k] + b]:
                        same = False
                        break
                if same:
                    feature[k] = feature[j]
                    break
        if feature[k] < 0:
            feature[k] = count
            count += 1
    return count


def firsts(*keys: I64) -> I64:
    """Where a run of equal keys begins, in sorted arrays (n,)."""
    new = np.ones(len(keys[0]), dtype=bool)
    if len(new):
        new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.flatnonzero(new)


def write(docs: pa.Table, out: Path, *, n: int, min_words: int, most_items: int) -> dict[str, int]:
    """Cut texts into features, and write who has which, and where.

    Files: ``items.parquet`` (id, source, texts, features; by source, then id), ``texts.parquet`` (item, words, units:
    the words that some feature covers), ``words.parquet`` (the normalised texts), ``features.parquet`` (hash, words,
    text, start, end in bytes; by hash), ``postings.parquet`` (feature, text, at: the word it begins with; by all
    three) and ``index.json``.

    Args:
        docs: ``id``, ``source`` and ``text`` of the items; rows with the same source and id are texts of one item.
        out: an empty folder.
        n: words in a run.
        min_words: a text of fewer words is not tested.
        most_items: a feature that occurs in more items is left out.

    Returns:
        items, texts, untestable (items without a feature), ngrams and wholes (features of either kind), wording
        (features left out because too many items share them).
    """
    docs = docs.select(["id", "source", "text"]).combine_chunks()
    who = pa.table({"source": docs["source"].fill_null(""), "id": docs["id"].fill_null("")})
    items = who.group_by(["source", "id"], use_threads=False).aggregate([([], "count_all")])
    items = items.sort_by([("source", "ascending"), ("id", "ascending")])
    number = {pair: i for i, pair in enumerate(zip(items["source"].to_pylist(), items["id"].to_pylist(), strict=True))}
    item_of = np.array([number[p] for p in zip(*(who[c].to_pylist() for c in ("source", "id")), strict=True)], np.int64)

    words = normalised(docs["text"])
    offsets, data = buffers(words)
    found = np.empty((5, len(data) // 2 + len(words) + 1), dtype=np.int64)
    counts = np.zeros(len(words), dtype=np.int64)
    hashes, count = cut(offsets, data, folding(), n, min_words, found, counts)
    order = np.lexsort((found[4, :count], found[2, :count], hashes[:count]))
    hashes, found = hashes[order], found[:, order]
    text, size, start, end, at = found
    feature = np.empty(count, dtype=np.int64)
    distinct(hashes, start, end, data, feature)

    of, item = feature, item_of[text]
    once = np.lexsort((item, of))
    once = once[firsts(of[once], item[once])]                                # an item has a feature once
    shared = np.bincount(of[once])
    keep = shared <= most_items
    in_item = np.bincount(item[once][keep[of[once]]], minlength=len(items))
    first = np.unique(feature, return_index=True)[1][keep]
    kept = np.flatnonzero(keep[of])
    kept = kept[np.lexsort((at[kept], text[kept], of[kept]))]
    feature, text_of, at = (np.cumsum(keep) - 1)[of[kept]], text[kept], at[kept]

    tables = {
        "items": {
            "id": items["id"], "source": items["source"],
            "texts": items["count_all"], "features": pa.array(in_item, INT64),
        },
        "texts": {
            "item": pa.array(item_of, INT32), "words": pa.array(counts, INT32),
            "units": pa.array(_covered(counts, text_of, at, size[kept]), INT32),
        },
        "words": {"words": words},
        "features": {
            "hash": pa.array(hashes[first], UINT64),
            "words": pa.array(size[first], INT32),
            "text": pa.array(text[first]),
            "start": pa.array(start[first] - offsets[text[first]]),
            "end": pa.array(end[first] - offsets[text[first]]),
        },
        "postings": {"feature": pa.array(feature, INT32), "text": pa.array(text_of, INT32), "at": pa.array(at, INT32)},
    }  # fmt: skip
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), out / f"{name}.parquet", compression="zstd")
    (out / "index.json").write_text(json.dumps({"n": n, "min_words": min_words}))
    return {
        "items": len(items),
        "texts": docs.num_rows,
        "untestable": int((in_item == 0).sum()),
        "ngrams": int((size[first] == n).sum()),
        "wholes": int((size[first] < n).sum()),
        "wording": int((shared > most_items).sum()),
    }


def _covered(words: I64, text: I64, at: I64, size: I64) -> I64:
    """How many words of each text some feature covers, int64 (texts,)."""
    base = np.cumsum(words) - words
    steps = np.zeros(int(words.sum()) + 1, dtype=np.int64)
    np.add.at(steps, base[text] + at, 1)
    np.add.at(steps, base[text] + at + size, -1)
    inside = np.cumsum(steps)[:-1] > 0
    ends = np.concatenate([[0], np.cumsum(inside)])
    return np.asarray(ends[base + words] - ends[base])


class Table(NamedTuple):
    """Features as a kernel sees them, sorted by hash."""

    hashes: U64              # (features,)
    starts: I64              # first byte in ``words``
    ends: I64                # byte after
    words: U8                # the normalised texts
    directory: I64           # the first feature of each prefix of the hash
    bits: U64                # one bit a prefix that some feature has, of longer prefixes
    tails: U64               # the same for the last ``min_words`` words of the features shorter than ``n``
    sizes: I64               # numbers of words of these, largest first
    n: int
    min_words: int


@dataclass(frozen=True)
class Index:
    """An opened index: features, the texts that have them, and whose these are.

    Args:
        table: what the kernel looks up.
        first: postings of feature ``f`` are ``texts[first[f]:first[f + 1]]``.
        texts: texts by posting.
        at: the word of the text with which the feature begins, by posting.
        sizes: number of words of each feature.
        base: words of the texts before each text.
        units: words of each text that some feature covers.
        words: words of all texts.
        item: each text's item.
        ids: of the items.
        tasks: the items' sources.
    """

    table: Table
    first: I64
    texts: I32
    at: I32
    sizes: I32
    base: I64
    units: I32
    words: int
    item: I32
    ids: pa.Array
    tasks: pa.Array

    def words_of(self, features: I64) -> pa.Array:
        """The words of features, a space between two."""
        words, starts, ends = self.table.words, self.table.starts, self.table.ends
        return pa.array([words[starts[f] : ends[f]].tobytes().decode() for f in features.tolist()], TEXT)


def opened(home: Path, *, where: str) -> Index:
    """Open what ``write`` wrote under ``home``; ``where`` names who asks.

    Raises:
        BadInput: there is no index.
    """
    if not (home / "index.json").is_file():
        raise BadInput(
            f"{home} holds no index", where=where,
            fix="give against= an artifact made with fit(contamination.index, ...)",
        )  # fmt: skip
    settings = json.loads((home / "index.json").read_text())
    n, min_words = settings["n"], settings["min_words"]
    columns = pq.read_table(home / "features.parquet")
    hashes, size, text, start, end = (columns[c].to_numpy() for c in ("hash", "words", "text", "start", "end"))
    offsets, words = buffers(pq.read_table(home / "words.parquet")["words"])
    starts, ends = start + offsets[text], end + offsets[text]
    hashes.flags.writeable = False         # it is already, but for several chunks
    short = np.flatnonzero(size < n)
    tails = np.array([_tail(words, starts[k], ends[k], folding(), min_words) for k in short.tolist()], dtype=np.uint64)
    prefix = max(len(hashes).bit_length(), 1)
    directory = np.searchsorted(hashes >> np.uint64(64 - prefix), np.arange((1 << prefix) + 1, dtype=np.uint64))
    postings = pq.read_table(home / "postings.parquet")
    texts, items = pq.read_table(home / "texts.parquet"), pq.read_table(home / "items.parquet")
    lengths = texts["words"].to_numpy().astype(np.int64)
    return Index(
        table=Table(
            hashes, starts, ends, words, directory.astype(np.int64), _bits(hashes), _bits(tails),
            np.unique(size[short]).astype(np.int64)[::-1].copy(), n, min_words,
        ),
        first=np.searchsorted(postings["feature"].to_numpy(), np.arange(len(hashes) + 1)).astype(np.int64),
        texts=_fixed(postings["text"]), at=_fixed(postings["at"]), sizes=_fixed(columns["words"]),
        base=np.cumsum(lengths) - lengths, units=_fixed(texts["units"]), words=int(lengths.sum()),
        item=_fixed(texts["item"]),
        ids=items["id"].combine_chunks(), tasks=items["source"].combine_chunks(),
    )  # fmt: skip


def _fixed(column: pa.ChunkedArray) -> I32:
    """Integers that can be written to in every case: a kernel is compiled once for each kind of array."""
    return np.array(column.to_numpy(), dtype=np.int32)


@njit(cache=True, nogil=True)
def _tail(data: U8, start: int, end: int, fold: U32, words: int) -> np.uint64:
    """The hash of the last ``words`` words of a text of at least as many."""
    hashes = np.empty(ring(words), dtype=np.uint64)
    k = 0
    while True:
        first, start, value = next_word(data, start, end, fold)
        if first < 0:
            return hash_of(hashes, k - 1, words)
        hashes[k & (hashes.size - 1)] = value
        k += 1


def _bits(hashes: U64) -> U64:
    """A set of prefixes of hashes: about one of 32 that are not in it seems to be. A power of two of bits."""
    prefix = max((32 * len(hashes)).bit_length(), 6)
    bits = np.zeros(1 << (prefix - 6), dtype=np.uint64)
    at = hashes >> np.uint64(64 - prefix)
    np.bitwise_or.at(bits, (at >> np.uint64(6)).astype(np.int64), np.uint64(1) << (at & np.uint64(63)))
    return bits
