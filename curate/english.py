"""spaCy's English tokenizer for one piece of text without whitespace, as a kernel.

spaCy (``spacy/tokenizer.pyx``, ``spacy/lang/punctuation.py``, explained in its guide "Linguistic features") strips
prefixes and suffixes off a piece, one of each in turn, until a special case is left or nothing changes; a rest that is
no URL is cut at infixes; special cases found in the result are put in place. Here the same is done by looking classes
of code points up, for pieces that hold no special case of several tokens ("don't", "gonna", "10am"): ``cut`` says so
where one might be, and the caller asks spaCy. That is 1 % of the distinct pieces of a pool of 38,935 documents; the
other 99 % cost 1 us each instead of 15.

Which code points are letters, marks, quotes and icons is read from spaCy when the tables are built, its special cases
too. The shape of its rules is known here by a hash of its patterns: with another version of spaCy, whose rules differ,
there are no tables, and every piece goes to spaCy. Whether both agree on every piece is tested in tests/test_english.py
and by benchmarks/agreement_datatrove.py.
"""

import hashlib
import re
import sys
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from curate.characters import (
    BASE,
    PRIME,
    SPREAD,
    Bytes,
    Hashes,
    Int,
    Offsets,
    byte_of,
    hash_bytes,
    hash_sixteen,
    next_character,
    plus,
    power,
    times,
)
from curate.kernels import njit

# The rules that the kernel follows: SHA-256 of the patterns for prefixes, suffixes, infixes and URLs (spaCy 3.8).
KNOWN_RULES = frozenset({"3b070276bf3e6482b0d0ccbff90352272746e94226d145bd983372cbe52b197f"})
LONGEST = 1 << 12        # code points of a piece that is looked at
ASK_SPACY = -1

# Classes of a code point.
PREFIX = 1               # is one
SUFFIX = 2
ICON = 4                 # is an infix
LETTER = 8
LOWER = 16               # lower case, or of a script without case
UPPER = 32
BEFORE_DOT = 64          # a full stop after it is a suffix
BEFORE_INNER_DOT = 128   # a full stop after it may be an infix,
AFTER_INNER_DOT = 256    # before one of these

Kinds = npt.NDArray[np.uint16]

FILTER = np.uint64((1 << 16) - 1)         # of a hash: which bit of Rules.filtered,
WORD = np.uint64(6)                       # in which of its numbers,
IN_WORD = np.uint64(63)                   # and where there
_ONE = np.uint64(1)
_BYTE = np.uint64(0xFF)


class Rules(NamedTuple):
    """What the kernel looks up: classes of code points, hashes of special cases and of units that follow a digit."""

    kinds: Kinds
    specials: Hashes     # open addressing, 0 where free: special cases of several tokens,
    wholes: Hashes       # and of one, which only keep it from being cut
    units: Hashes
    longest: int         # bytes of the longest special case
    filtered: Hashes     # a bit for each special case, by its hash: what has none here is none


class Scratch(NamedTuple):
    """Room for one piece, LONGEST + 1 of each."""

    points: Offsets      # its code points
    at: Offsets          # the byte where each starts, and the end
    hashed: Hashes       # the hash of all bytes before
    bounds: Offsets      # where tokens start, as indices into the others, and the end


def new_scratch() -> Scratch:
    """Room for one piece."""
    room = LONGEST + 1
    return Scratch(
        np.empty(room, dtype=np.int64),
        np.empty(room, dtype=np.int64),
        np.empty(room, dtype=np.uint64),
        np.empty(room, dtype=np.int64),
    )


@lru_cache(maxsize=1)
def rules(tokenizer: Any) -> Rules | None:
    """The tables for spaCy's English tokenizer, or None where its rules are not those that the kernel knows."""
    found = [tokenizer.prefix_search, tokenizer.suffix_search, tokenizer.infix_finditer, tokenizer.url_match]
    if tokenizer.token_match is not None or fingerprint(found) not in KNOWN_RULES:
        return None
    from spacy.lang import char_classes as of
    from spacy.lang.punctuation import TOKENIZER_PREFIXES

    kinds = np.zeros(sys.maxunicode + 1, dtype=np.uint16)
    points = "".join(map(chr, range(sys.maxunicode + 1)))

    def mark(pattern: str, kind: int) -> None:
        matches = re.compile(pattern).finditer(points)
        kinds[[match.start() for match in matches if match.end() == match.start() + 1]] |= np.uint16(kind)

    marks = [*of.LIST_PUNCT, "…", *of.LIST_QUOTES]
    mark("|".join(entry for entry in TOKENIZER_PREFIXES if entry.strip()), PREFIX)
    mark("|".join(["[" + of.ICONS + "]", "—", "–", *(entry for entry in marks if entry.strip())]), SUFFIX)
    mark(f"[{of.ICONS}]|…", ICON)
    mark(f"[{of.ALPHA}]", LETTER)
    mark(f"[{of.ALPHA_LOWER}]", LOWER)
    mark(f"[{of.ALPHA_UPPER}]", UPPER)
    mark(rf"[0-9{of.ALPHA_LOWER}%²\-\+{of.PUNCT}(?:{of.CONCAT_QUOTES})]", BEFORE_DOT)
    mark(f"[{of.ALPHA_LOWER}{of.CONCAT_QUOTES}]", BEFORE_INNER_DOT)
    mark(f"[{of.ALPHA_UPPER}{of.CONCAT_QUOTES}]", AFTER_INNER_DOT)
    units = [*of.UNITS.split("|"), *of.CURRENCY.replace("\\", "").split("|")]
    specials = [key for key, tokens in tokenizer.rules.items() if len(tokens) > 1]
    wholes = [key for key, tokens in tokenizer.rules.items() if len(tokens) == 1]
    longest = max(len(key.encode()) for key in (*specials, *wholes))
    hashed = _hashed(specials), _hashed(wholes)
    filtered = np.zeros(int(FILTER + 1) // 64, dtype=np.uint64)
    for key in np.concatenate(hashed):
        if key:
            filtered[(key & FILTER) >> WORD] |= _ONE << (key & IN_WORD)
    return Rules(kinds, *hashed, _hashed(units), longest, filtered)


def fingerprint(searches: list[Any]) -> str:
    """SHA-256 of the patterns behind these functions; empty where one is not a pattern's."""
    patterns = [getattr(getattr(search, "__self__", None), "pattern", None) for search in searches]
    if None in patterns:
        return ""
    return hashlib.sha256("\n".join(map(str, patterns)).encode()).hexdigest()


def _hashed(strings: list[str]) -> Hashes:
    slots = np.zeros(1 << (2 * len(strings)).bit_length(), dtype=np.uint64)
    for string in strings:
        data = np.frombuffer(string.encode(), dtype=np.uint8)
        key = hash_bytes(data, 0, len(data))
        slots[_find(slots, key)] = key
    return slots


@njit(cache=True, nogil=True)
def _find(slots: Hashes, key: np.uint64) -> Int:
    """Where ``key`` is, or the free slot where it belongs."""
    mask = slots.size - 1
    at = np.int64((key * SPREAD) >> np.uint64(32)) & mask
    while slots[at] != key and slots[at] != 0:
        at = (at + 1) & mask
    return at


@njit(cache=True, nogil=True)
def hash_part(hashed: Hashes, at: Offsets, low: Int, high: Int) -> np.uint64:
    """The hash of a piece's code points from ``low`` to ``high``."""
    return plus(hashed[high], PRIME - times(hashed[low], power(at[high] - at[low])))


@njit(cache=True, nogil=True)
def _digit(point: Int) -> bool:
    return bool(0x30 <= point <= 0x39)


@njit(cache=True, nogil=True)
def _prefix(points: Offsets, kinds: Kinds, low: Int, high: Int) -> Int:
    """Code points of the prefix of ``points[low:high]``, which is not empty."""
    first = points[low]
    following: Int = points[low + 1] if low + 1 < high else 0
    if kinds[first] & PREFIX:
        return 0 if first == 0x2B and _digit(following) else 1
    if first == 0x2E and following == 0x2E:
        end = low + 2
        while end < high and points[end] == 0x2E:
            end += 1
        return end - low
    if following == 0x24 and (first == 0x43 or first == 0x41):  # C$ A$
        return 2
    if first == 0x55 and following == 0x53 and low + 2 < high and points[low + 2] == 0x24:  # US$
        return 3
    return 0


@njit(cache=True, nogil=True)
def _suffix(points: Offsets, kinds: Kinds, at: Offsets, hashed: Hashes, units: Hashes, low: Int, high: Int) -> Int:
    """Code points of the suffix of ``points[low:high]``, which is not empty: the longest that a rule gives."""
    last = points[high - 1]
    before: Int = points[high - 2] if high - 2 >= low else -1
    found: Int = 1 if kinds[last] & SUFFIX else 0
    if last == 0x2E and before == 0x2E:
        start = high - 2
        while start > low and points[start - 1] == 0x2E:
            start -= 1
        found = high - start
    if last == 0x2026 and before == 0x2026:
        found = 2
    if (last == 0x73 or last == 0x53) and (before == 0x27 or before == 0x2019):  # 's
        found = 2
    if found == 0 and before >= 0:
        if last == 0x2B and _digit(before):
            found = 1
        elif last == 0x2E:
            kind = kinds[before]
            two = high - 3 >= low
            if kind & BEFORE_DOT:
                found = 1
            elif two and kind & UPPER and kinds[points[high - 3]] & UPPER:
                found = 1
            elif two and points[high - 3] == 0xB0:  # degrees
                found = 1 if before in (0x46, 0x66, 0x43, 0x63, 0x4B, 0x6B) else 0
    # A unit or a currency right after the last digit.
    start = high
    while start > low and high - start < 8 and not _digit(points[start - 1]):
        start -= 1
    if low < start < high and _digit(points[start - 1]) and high - start > found:
        key = hash_part(hashed, at, start, high)
        if units[_find(units, key)] == key:
            found = high - start
    return found


@njit(cache=True, nogil=True)
def _infix(points: Offsets, kinds: Kinds, i: Int, low: Int, high: Int) -> Int:
    """Code points of the infix at ``i``; a rest from ``low`` to ``high`` is cut."""
    point = points[i]
    if kinds[point] & ICON:
        return 1
    following: Int = points[i + 1] if i + 1 < high else -1
    if point == 0x2E and following == 0x2E:
        end = i + 2
        while end < high and points[end] == 0x2E:
            end += 1
        return end - i
    if i == low or following < 0:
        return 0
    before = points[i - 1]
    if point == 0x2E:
        return 1 if kinds[before] & BEFORE_INNER_DOT and kinds[following] & AFTER_INNER_DOT else 0
    if point == 0x2C:
        return 1 if kinds[before] & LETTER and kinds[following] & LETTER else 0
    if (point == 0x2B or point == 0x2D or point == 0x2A or point == 0x5E) and _digit(before):
        if _digit(following) or following == 0x2D:
            return 1
    if point == 0x2D or point == 0x2013 or point == 0x2014 or point == 0x7E:
        if not (kinds[before] & LETTER or _digit(before)):
            return 0
        most = 3 if point == 0x2D else 2 if point == 0x2014 else 1
        for size in range(1, most + 1):
            if size > 1 and (i + size > high or points[i + size - 1] != point):
                return 0
            if i + size < high and kinds[points[i + size]] & LETTER:
                return size
        return 0
    if point == 0x3A or point == 0x3C or point == 0x3E or point == 0x3D or point == 0x2F:
        return 1 if (kinds[before] & LETTER or _digit(before)) and kinds[following] & LETTER else 0
    return 0


NO, YES, PERHAPS = range(3)


@njit(cache=True, nogil=True)
def _in_label(point: Int) -> bool:
    return bool(_digit(point) or 0x41 <= point <= 0x5A or 0x61 <= point <= 0x7A or 0xA1 <= point <= 0xFFFF)


@njit(cache=True, nogil=True)
def _is_host(points: Offsets, kinds: Kinds, low: Int, high: Int) -> Int:
    """Is it labels, a top-level domain, perhaps a port, perhaps a path? PERHAPS where it begins like an IP address."""
    end = low
    dots = 0
    digits = True
    label: Int = low         # where the current label starts
    while end < high:
        point = points[end]
        if point == 0x2F or point == 0x3F or point == 0x23 or point == 0x3A:  # / ? # :
            break
        if point == 0x2E:
            if end == label or end - label > 64 or not (_in_label(points[label]) and _in_label(points[end - 1])):
                return NO
            label = end + 1
            dots += 1
        elif not (_in_label(point) or point == 0x2D or point == 0x5F or kinds[point] & LOWER):
            return NO
        digits &= _digit(point) or point == 0x2E
        end += 1
    if dots == 0:
        return NO
    if digits and dots == 3:
        return PERHAPS
    if not 2 <= end - label <= 63:
        return NO
    for k in range(label, end):
        if not kinds[points[k]] & LOWER:
            return NO
    for k in range(low, label):
        point = points[k]
        if not (_in_label(point) or point == 0x2D or point == 0x5F or point == 0x2E):
            return NO
    if end < high and points[end] == 0x3A:
        port = end + 1
        end = port
        while end < high and not (points[end] == 0x2F or points[end] == 0x3F or points[end] == 0x23):
            if points[end] >= 0x80:
                return PERHAPS  # a digit of another script
            if not _digit(points[end]):
                return NO
            end += 1
        if not 2 <= end - port <= 5:
            return NO
    return YES


@njit(cache=True, nogil=True)
def _is_url(points: Offsets, kinds: Kinds, low: Int, high: Int) -> Int:
    """Is it a host, perhaps after a scheme or after anything that ends in an at sign?"""
    answer = _is_host(points, kinds, low, high)
    if answer != NO:
        return answer
    scheme = True            # all so far may be in a scheme
    sure = True              # and is so in ASCII
    for i in range(low, high - 1):
        point = points[i]
        if point == 0x40 and i > low:
            answer = _is_host(points, kinds, i + 1, high)
            if answer != NO:
                return answer
        if point == 0x3A and scheme and i >= low + 2 and i + 3 < high and points[i + 1] == points[i + 2] == 0x2F:
            answer = _is_host(points, kinds, i + 3, high)
            if answer != NO:
                return answer if sure else PERHAPS
        if point >= 0x80:
            sure = False
        elif not (_in_label(point) or point == 0x5F or point == 0x2B or point == 0x2D or point == 0x2E):
            scheme = False
    return NO


ONE_TOKEN = 1
WITH_PREFIX = 2
WITH_SUFFIX = 4


@njit(cache=True, nogil=True)
def cut_marks(eight: np.uint64, more: np.uint64, size: Int, letters: np.uint64, kinds: Kinds, filtered: Hashes) -> Int:
    """What ``cut`` would say, for ASCII letters with a mark before them, one after them, or both.

    Letters match no rule. So a mark before them is a prefix if it can be one, and so for one after them, and nothing
    else can be cut: no rule for infixes is tried at the ends, and those for suffixes that look further back want
    another mark or a digit there. Unless what is left at some step is a special case, which ``filtered`` rules out.

    Args:
        eight: the first bytes of the piece (``characters.load64``),
        more: and the next.
        size: its bytes, at most AT_ONCE.
        letters: ``characters.letters_among`` of them, at least one lacking.
        kinds: see ``Rules``.
        filtered: see ``Rules``.

    Returns:
        WITH_PREFIX, WITH_SUFFIX or their sum; 0 where ``cut`` has to be asked.
    """
    before = 1 - np.int64(letters & _ONE)
    after = 1 - np.int64((letters >> np.uint64(size - 1)) & _ONE)
    inner = size - before - after
    if inner < 1 or letters != ((_ONE << np.uint64(inner)) - _ONE) << np.uint64(before):
        return 0
    if before and not kinds[eight & _BYTE] & PREFIX:
        return 0
    if after:
        last = np.int64(byte_of(eight, more, size - 1))
        if not kinds[last] & SUFFIX and not (last == 0x2E and kinds[byte_of(eight, more, size - 2)] & BEFORE_DOT):
            return 0
    for end in range(size - after, size + 1):
        key = hash_sixteen(eight, more, end)
        if (filtered[(key & FILTER) >> WORD] >> (key & IN_WORD)) & _ONE:
            return 0
        if before:           # the same without the first byte
            key = plus(key, PRIME - times((eight & _BYTE) + _ONE, power(end - 1)))
            if (filtered[(key & FILTER) >> WORD] >> (key & IN_WORD)) & _ONE:
                return 0
    return before * WITH_PREFIX + after * WITH_SUFFIX


@njit(cache=True, nogil=True)
def cut(data: Bytes, start: Int, end: Int, value: np.uint64, rules: Rules, scratch: Scratch) -> Int:
    """Cut ``data[start:end]``, which holds no whitespace and whose hash is ``value``, into tokens.

    Returns:
        the number of tokens, or ASK_SPACY. Where it is more than 1, ``scratch`` says where they are.
    """
    kinds, specials, wholes, units, longest, filtered = rules
    points, at, hashed, bounds = scratch
    n: Int = 0
    i: Int = start
    while i < end:           # letters alone match no rule
        point, after = next_character(data, i, end)
        if kinds[point] & (LETTER | PREFIX | SUFFIX | ICON) != LETTER:
            break
        i = after
    if i == end:
        return ASK_SPACY if specials[_find(specials, value)] == value else 1
    i = start
    hashed[0] = 0
    while i < end:
        if n == LONGEST:
            return ASK_SPACY
        points[n], after = next_character(data, i, end)
        at[n] = i
        total = hashed[n]
        for k in range(i, after):
            total = plus(times(total, BASE), np.uint64(data[k]) + np.uint64(1))
        n += 1
        hashed[n] = total
        i = after
    at[n] = end
    bounds[0] = 0

    low: Int = 0
    high: Int = n
    count: Int = 0           # tokens before `low`
    tails: Int = 0           # suffixes; where they start stands at the end of bounds
    room = bounds.size
    whole = False            # what is left is a special case of one token
    while low < high and not whole:
        key = hash_part(hashed, at, low, high)
        if specials[_find(specials, key)] == key:
            return ASK_SPACY
        if wholes[_find(wholes, key)] == key:
            whole = True
            break
        prefix = _prefix(points, kinds, low, high)
        if 0 < prefix < high - low:
            key = hash_part(hashed, at, low + prefix, high)
            if specials[_find(specials, key)] == key:
                return ASK_SPACY
            whole = wholes[_find(wholes, key)] == key
        suffix: Int = 0
        if not whole and low + prefix < high:
            suffix = _suffix(points, kinds, at, hashed, units, low + prefix, high)
        if 0 < suffix < high - low:
            key = hash_part(hashed, at, low, high - suffix)
            if specials[_find(specials, key)] == key:
                return ASK_SPACY
            if wholes[_find(wholes, key)] == key:
                whole = True
                prefix = 0
        if prefix == 0 and suffix == 0:
            break
        if suffix > 0:
            high -= suffix
            tails += 1
            bounds[room - tails] = high
        if prefix > 0:
            bounds[count] = low
            count += 1
            low += prefix
    if low < high:
        bounds[count] = low
        count += 1
    if low < high and not whole:
        before = count
        token = low
        i = low
        while i < high:
            if _digit(points[i]) or kinds[points[i]] & (LETTER | ICON) == LETTER:
                i += 1
                continue
            size = _infix(points, kinds, i, low, high)
            if size == 0:
                i += 1
                continue
            if i > low:      # one at the start is left where it is
                if i > token:
                    bounds[count] = i
                    count += 1
                token = i + size
                if token < high:
                    bounds[count] = token
                    count += 1
            i += size
        if count > before:
            answer = _is_url(points, kinds, low, high)
            if answer == PERHAPS:
                return ASK_SPACY
            if answer == YES:
                count = before
    for k in range(tails):
        bounds[count] = bounds[room - tails + k]
        count += 1
    bounds[count] = n
    # Special cases are also looked for in the tokens.
    for k in range(count):
        for j in range(k + 1, count + 1):
            if at[bounds[j]] - at[bounds[k]] > longest:
                break
            size = at[bounds[j]] - at[bounds[k]]
            key = plus(hashed[bounds[j]], PRIME - times(hashed[bounds[k]], power(size)))  # hash_part
            if not (filtered[(key & FILTER) >> WORD] >> (key & IN_WORD)) & _ONE:
                continue
            if specials[_find(specials, key)] == key or (j > k + 1 and wholes[_find(wholes, key)] == key):
                return ASK_SPACY
    return count
