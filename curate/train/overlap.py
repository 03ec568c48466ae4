"""How much of one corpus stands in another: whole documents, and shares of their 13-grams of words.

13-grams are the field's measure of leaked evaluation text (Brown et al. 2020, appendix C). A word is a run of ASCII
letters, digits and non-ASCII bytes, its ASCII letters in lower case, so that spacing, punctuation and case make no
difference. A document of fewer than 13 words is one gram of all its words.

Grams and documents are compared as 64-bit polynomial hashes, finished by a bijection. Cost: one pass over the bytes,
about 100 MB a second, and a look-up a word; memory is 16 bytes a byte of the table at hand, so hand over tables.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

WORDS = 13
FACTOR = np.uint64(0x9E3779B97F4A7C15)
OTHER = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class Prints:
    """Hashes of documents.

    Args:
        whole: of all words of each document (of its bytes where it has no word), uint64 (documents,).
        grams: of all 13-grams, document by document, uint64 (m,).
        owner: the document of each gram, int64 (m,).
    """

    whole: Keys
    grams: Keys
    owner: Ints


def prints(offsets: Ints, data: Bytes) -> Prints:
    """Hash documents; document ``i`` is ``data[offsets[i]:offsets[i + 1]]``."""
    documents = len(offsets) - 1
    room = int(offsets[-1] - offsets[0]) // 2 + documents + 1  # a word and a gap take two bytes
    whole = np.empty(documents, dtype=np.uint64)
    grams, owner = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.int64)
    used = _hash(np.ascontiguousarray(offsets), data, whole, grams, owner)
    return Prints(whole, grams[:used].copy(), owner[:used].copy())


class Search:
    """Looks for documents, hashed once, in any number of tables."""

    def __init__(self, wanted: Prints) -> None:
        self.wanted = wanted
        self.grams, self.of = np.unique(wanted.grams, return_inverse=True)
        self.seen = np.zeros(len(self.grams), dtype=bool)
        self.whole = np.zeros(len(wanted.whole), dtype=bool)

    def look(self, table: Prints) -> int:
        """Note what of the wanted documents stands in these; returns how many of these share a gram with any."""
        self.whole |= np.isin(self.wanted.whole, table.whole)
        if not len(self.grams):
            return 0
        at = np.minimum(np.searchsorted(self.grams, table.grams), len(self.grams) - 1)
        hit = self.grams[at] == table.grams
        self.seen[at[hit]] = True
        return len(np.unique(table.owner[hit]))

    def share(self) -> npt.NDArray[np.float64]:
        """Share of each wanted document's 13-grams that were seen, float64 (documents,); 0 where it has none."""
        n = len(self.wanted.whole)
        hits = np.bincount(self.wanted.owner, weights=self.seen[self.of].astype(np.float64), minlength=n)
        return hits / np.maximum(np.bincount(self.wanted.owner, minlength=n), 1)


@njit(cache=True, nogil=True)
def _mix(x):  # type: ignore[no-untyped-def]  # numba infers
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _hash(offsets, data, whole, grams, owner):  # type: ignore[no-untyped-def]  # numba infers
    oldest = np.uint64(1)  # FACTOR ** WORDS: what the word that leaves a gram was multiplied by
    for _ in range(WORDS):
        oldest *= FACTOR
    recent = np.zeros(WORDS, dtype=np.uint64)
    used = 0
    for d in range(len(offsets) - 1):
        words, gram, document = 0, np.uint64(0), np.uint64(0)
        word, inside = np.uint64(0), False
        for i in range(offsets[d], offsets[d + 1] + 1):
            byte = data[i] if i < offsets[d + 1] else np.uint8(0)
            if 65 <= byte <= 90:
                byte += np.uint8(32)
            if byte >= 128 or 97 <= byte <= 122 or 48 <= byte <= 57:
                word = (word + np.uint64(byte) + np.uint64(1)) * OTHER
                inside = True
            elif inside:
                h = _mix(word)
                document = document * FACTOR + h
                gram = gram * FACTOR + h
                if words >= WORDS:
                    gram -= recent[words % WORDS] * oldest
                recent[words % WORDS] = h
                words += 1
                if words >= WORDS:
                    grams[used], owner[used] = _mix(gram), d
                    used += 1
                word, inside = np.uint64(0), False
        if 0 < words < WORDS:
            grams[used], owner[used] = _mix(gram ^ np.uint64(words)), d
            used += 1
        if words == 0:
            for i in range(offsets[d], offsets[d + 1]):
                document = (document + np.uint64(data[i]) + np.uint64(1)) * OTHER
        whole[d] = _mix(document ^ (np.uint64(words) << np.uint64(32)))
    return used
