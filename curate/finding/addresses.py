"""E-mail and IP addresses in bytes, found in one walk: our way, and datatrove's.

Each function looks at one place (an ``@``, a digit, a colon) and answers with the span of the address there, or with
``NONE``. No place is looked at with a regular expression, so nothing can take more than linear time: what lies to the
left of an ``@`` ends at the ``@`` before it, what lies to the right is read once.

Our e-mail address is what people have: a local part of at most 64 bytes that starts with a letter or digit, ``@``, and
a domain whose last label is made of letters and is no file ending. Letters may be of any script that puts spaces
between words. Addresses at ``example.com`` and the other names that RFC 2606 reserves are nobody's, and ``git@`` is a
program's. An IP address must be public as Python's ``ipaddress`` says, stand alone, and not be a version or section
number.

The ``datatrove_...`` functions find what the regular expressions of datatrove's ``PIIFormatter`` match (0.10,
``formatters/pii.py``), alternatives, backtracking and word boundaries included.
"""

# mypy: disable-error-code="assignment, return-value, arg-type, call-arg"
# integers in kernels are numba's

import ipaddress
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.text import BASE, PRIME, Bytes, Int, code_points, hash_bytes, next_character

NONE = (-1, -1)
Flags = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]

# Classes of a code point.
WORD = 1                 # ``\w`` of Python's re: str.isalnum or "_"
JOINED = 2               # WORD, in a script that puts spaces between words: another such letter belongs to it
# Blocks of scripts that do not, in hexadecimal.
UNSPACED = """
    E00-EFF 1000-109F 1780-17FF 3005-3007 3040-30FF 31F0-31FF 3400-4DBF 4E00-9FFF F900-FAFF FF00-FFEF 20000-3FFFF
"""

AT, DOT, HYPHEN, COLON, SLASH, SPACE, NEWLINE, HASH, STAR, UNDERSCORE = (ord(c) for c in "@.-:/ \n#*_")
OPENING, CLOSING = ord("["), ord("]")


def _flags(characters: str) -> Flags:
    table = np.zeros(256, dtype=np.bool_)
    table[[ord(c) for c in characters]] = True
    return table


_DIGITS = "0123456789"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DIGIT = _flags(_DIGITS)
ALNUM = _flags(_DIGITS + _LETTERS)
LETTER = _flags(_LETTERS)
ATOM = _flags(_DIGITS + _LETTERS + "!#$%&'*+/=?^_`{|}~-")     # RFC 5322
LOCAL = _flags(_DIGITS + _LETTERS + "_%+-'.")
HEX = _flags(_DIGITS + "abcdefABCDEF")


@lru_cache(maxsize=1)
def characters() -> Bytes:
    """The classes of every code point, uint8 (0x110000,), filled by asking Python."""
    every = [chr(point) for point in range(0x110000)]
    table = np.fromiter(map(str.isalnum, every), dtype=np.uint8, count=len(every))
    table[ord("_")] = WORD
    table[table == WORD] |= JOINED
    table[code_points(UNSPACED)] &= WORD
    return table


def hashes(words: str) -> Hashes:
    """Hashes of words in lower case (``text.hash_bytes``, without compiling it), sorted."""
    values = []
    for word in words.split():
        value = 0
        for byte in word.encode():
            value = (value * int(BASE) + byte + 1) % int(PRIME)
        values.append(value)
    return np.array(sorted(values), dtype=np.uint64)


# Endings of files that are written like an address ("icon@2x.png"); RFC 2606 and RFC 6762; users that are programs.
FILE_ENDINGS = hashes("png jpg jpeg gif svg webp bmp ico css js jsx tsx json html htm php pdf xml txt yml yaml")
RESERVED = hashes("example.com example.net example.org")
RESERVED_LAST = hashes("example invalid test localhost local localdomain internal")
PROGRAMS = hashes("git")
NUMBERED = hashes("v ver vers version versions release build rev revision firmware driver section sec chapter clause")


@lru_cache(maxsize=1)
def public() -> tuple[Hashes, Flags, Hashes, Flags]:
    """Where public and other addresses take turns, as ``ipaddress.is_global`` says.

    Returns:
        for IPv4 the first address of every stretch, uint64 (n,), and whether the stretch is public, bool (n,); the same
        for IPv6, by the upper half of the address.
    """
    # Networks of the IANA registries of special-purpose addresses (RFC 6890 and its updates).
    four = """0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/29 192.0.0.0/24
        192.0.0.9/32 192.0.0.10/32 192.0.0.170/31 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24
        192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
        255.255.255.255/32"""
    six = """::/64 64:ff9b::/64 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001:1::/64 2001:2::/48 2001:3::/32
        2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
        5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8"""
    starts: list[set[int]] = [{0}, {0}]
    for which, (text, size) in enumerate(((four, 32), (six, 128))):
        for network in map(ipaddress.ip_network, text.split()):
            for border in (int(network.network_address), int(network.broadcast_address) + 1):
                if border < 1 << size:
                    starts[which].add(border if size == 32 else border >> 64)
    a, b = (sorted(s) for s in starts)
    return (
        np.array(a, dtype=np.uint64),
        np.array([ipaddress.IPv4Address(border).is_global for border in a]),
        np.array(b, dtype=np.uint64),
        np.array([ipaddress.IPv6Address(border << 64).is_global for border in b]),
    )


# --- Characters around a place ----------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def before(data: Bytes, i: Int, start: Int) -> Int:
    """The first byte of the character that ends before byte ``i > start``."""
    i -= 1
    while i > start and data[i] & 0xC0 == 0x80:
        i -= 1
    return i


@njit(cache=True, nogil=True)
def class_before(data: Bytes, i: Int, start: Int, table: Bytes) -> Int:
    """Classes of the character that ends before byte ``i``; 0 at the start of the text."""
    if i <= start:
        return 0
    point, _ = next_character(data, before(data, i, start), i)
    return np.int64(table[point])


@njit(cache=True, nogil=True)
def class_at(data: Bytes, i: Int, end: Int, table: Bytes) -> Int:
    """Classes of the character at byte ``i``; 0 at the end of the text."""
    if i >= end:
        return 0
    point, _ = next_character(data, i, end)
    return np.int64(table[point])


@njit(cache=True, nogil=True)
def lower_hash(data: Bytes, start: Int, end: Int) -> np.uint64:
    """``hash_bytes`` of the bytes with ASCII letters in lower case."""
    small = np.empty(end - start, dtype=np.uint8)
    for i in range(start, end):
        c = data[i]
        small[i - start] = c + 32 if 65 <= c <= 90 else c
    return hash_bytes(small, 0, small.size)


@njit(cache=True, nogil=True)
def among(value: np.uint64, words: Hashes) -> bool:
    """Is it one of these hashes?"""
    at = np.searchsorted(words, value)
    return at < words.size and words[at] == value


# --- E-mail -----------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def email(data: Bytes, at: Int, low: Int, start: Int, end: Int, table: Bytes) -> tuple[Int, Int]:
    """The address around the ``@`` at byte ``at``, which may not begin before ``low``."""
    first: Int = at
    i: Int = at
    while i > low and at - i <= 64:
        if data[i - 1] < 0x80:
            if not LOCAL[data[i - 1]] or (data[i - 1] == DOT and data[i] in (DOT, AT)):
                break
            i -= 1
            if ALNUM[data[i]]:
                first = i
        elif class_before(data, i, start, table) & JOINED:
            i = before(data, i, start)
            first = i
        else:
            break
    if first == at or at - first > 64 or among(lower_hash(data, first, at), PROGRAMS):
        return NONE
    # Labels; the address ends with the last one that may be the last.
    stop: Int = -1
    last_two: Int = at + 1                   # where the label before the last one starts
    label: Int = at + 1
    before_label: Int = at + 1
    labels = 0
    while True:
        i = label
        letters = True                       # all letters so far
        while i < end:
            if data[i] < 0x80:
                if not (ALNUM[data[i]] or data[i] == HYPHEN):
                    break
                letters &= LETTER[data[i]]
                i += 1
            elif class_at(data, i, end, table) & JOINED:
                _, i = next_character(data, i, end)
            else:
                break
        size = i - label
        if size == 0 or size > 63 or data[label] == HYPHEN:
            break
        trimmed: Int = i
        while data[trimmed - 1] == HYPHEN:
            trimmed -= 1
            letters = True
            for j in range(label, trimmed):
                letters &= LETTER[data[j]] or data[j] >= 0x80
        punycode = size > 4 and data[label] in (88, 120) and data[label + 1] in (78, 110) and data[label + 2] == HYPHEN
        labels += 1
        if labels > 1 and trimmed - label >= 2 and (letters or punycode):
            stop = trimmed
            last_two = before_label
        if trimmed != i or i + 1 >= end or data[i] != DOT:
            break
        before_label = label
        label = i + 1
    if stop < 0 or stop - at > 254:
        return NONE
    last: Int = stop
    while data[last - 1] != DOT:
        last -= 1
    name = lower_hash(data, last, stop)
    if among(name, FILE_ENDINGS) or among(name, RESERVED_LAST) or among(lower_hash(data, last_two, stop), RESERVED):
        return NONE
    return first, stop


@njit(cache=True, nogil=True)
def datatrove_email(data: Bytes, at: Int, low: Int, start: Int, end: Int, table: Bytes) -> tuple[Int, Int]:
    """What datatrove's expression for e-mail matches around the ``@`` at byte ``at``."""
    first: Int = -1
    i: Int = at
    while i > low:
        c = data[i - 1]
        if c == DOT:
            if data[i] in (DOT, AT):
                break
            i -= 1
            continue
        if not ATOM[c]:
            break
        i -= 1
        word = ALNUM[c] or c == UNDERSCORE
        if word != (class_before(data, i, start, table) & WORD != 0):
            first = i
    if first < 0:
        return NONE
    stop: Int = -1
    i = at + 1
    if i < end and data[i] == OPENING:
        stop = _literal(data, i + 1, end)
        return (first, stop) if stop > 0 else NONE
    labels = 0
    stop = -1
    while i < end and ALNUM[data[i]]:
        run: Int = i
        while run < end and (ALNUM[data[run]] or data[run] == HYPHEN):
            run += 1
        trimmed: Int = run
        while data[trimmed - 1] == HYPHEN:
            trimmed -= 1
        labels += 1
        if labels > 1:
            stop = trimmed
        if trimmed != run or run >= end or data[run] != DOT:
            break
        i = run + 1
    return (first, stop) if stop > 0 else NONE


@njit(cache=True, nogil=True)
def _literal(data: Bytes, i: Int, end: Int) -> Int:
    """Where ``1.2.3.4]`` or ``1.2.3.name:]`` at byte ``i`` ends, or -1."""
    for _ in range(3):
        size = _octet(data, i, end)
        if size < 0 or i + size >= end or data[i + size] != DOT:
            return -1
        i += size + 1
    size = _octet(data, i, end)
    if size > 0 and i + size < end and data[i + size] == CLOSING:
        return i + size + 1
    j: Int = i
    while j < end and (ALNUM[data[j]] or data[j] == HYPHEN):
        j += 1
    if j > i and ALNUM[data[j - 1]] and j + 1 < end and data[j] == COLON and data[j + 1] == CLOSING:
        return j + 2
    return -1


# --- IPv4 -------------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _octet(data: Bytes, i: Int, end: Int) -> Int:
    """Digits in the run at byte ``i``, if they are 1 to 3 and at most 255 (leading zeros allowed), else -1."""
    value = 0
    size = 0
    while i + size < end and DIGIT[data[i + size]]:
        value = 10 * value + np.int64(data[i + size]) - 48
        size += 1
        if size > 3:
            return -1
    return size if size > 0 and value <= 255 else -1


@njit(cache=True, nogil=True)
def _last_octet(data: Bytes, i: Int, end: Int) -> Int:
    """Digits that the last octet of datatrove's expression takes at byte ``i``; -1 where there is none."""
    n = 0
    while n < 3 and i + n < end and DIGIT[data[i + n]]:
        n += 1
    if n == 0:
        return -1
    if n == 3:
        value = 100 * (np.int64(data[i]) - 48) + 10 * (np.int64(data[i + 1]) - 48) + np.int64(data[i + 2]) - 48
        return 3 if value <= 255 else 2
    return n


@njit(cache=True, nogil=True)
def _is_public(value: np.uint64, starts: Hashes, flags: Flags) -> bool:
    return flags[np.searchsorted(starts, value, side="right") - 1]


@njit(cache=True, nogil=True)
def _value(data: Bytes, i: Int, stop: Int) -> Int:
    """The address written in ``data[i:stop]``; -1 where an octet has a leading zero."""
    value = 0
    octet = 0
    digits = 0
    for j in range(i, stop):
        if data[j] == DOT:
            value = value * 256 + octet
            octet = 0
            digits = 0
            continue
        if digits > 0 and octet == 0:
            return -1
        octet = 10 * octet + np.int64(data[j]) - 48
        digits += 1
    return value * 256 + octet


@njit(cache=True, nogil=True)
def datatrove_ipv4(data: Bytes, i: Int, end: Int, starts: Hashes, flags: Flags) -> tuple[Int, bool]:
    """Where datatrove's expression for IPv4 at the digit at byte ``i`` ends (-1: no match), and if it is public."""
    j: Int = i
    for _ in range(3):
        size = _octet(data, j, end)
        if size < 0 or j + size >= end or data[j + size] != DOT:
            return -1, False
        j += size + 1
    size = _last_octet(data, j, end)
    if size < 0:
        return -1, False
    value = _value(data, i, j + size)
    return j + size, value >= 0 and _is_public(np.uint64(value), starts, flags)


@njit(cache=True, nogil=True)
def ipv4(data: Bytes, i: Int, start: Int, end: Int, table: Bytes, starts: Hashes, flags: Flags) -> tuple[Int, Int]:
    """The public IPv4 address that begins with the digit at byte ``i``, where no digit stands before it."""
    j: Int = i
    small = True                             # like the number of a section
    for k in range(4):
        size = _octet(data, j, end)
        if size < 0 or (size > 1 and data[j] == 48):
            return NONE
        small &= size == 1 or (size == 2 and data[j] == 49)
        j += size
        if k < 3:
            if j >= end or data[j] != DOT:
                return NONE
            j += 1
    if class_at(data, j, end, table) & JOINED:
        return NONE
    if j + 1 < end and ((data[j] == DOT and DIGIT[data[j + 1]]) or (data[j] == HYPHEN and LETTER[data[j + 1]])):
        return NONE
    if i > start:
        c = data[i - 1]
        if c in (DOT, HYPHEN) or class_before(data, i, start, table) & JOINED:
            return NONE
        if c == SLASH and i - 1 > start and ALNUM[data[i - 2]]:  # a product and its version, as browsers write them
            return NONE
    value = _value(data, i, j)
    if value % 65536 == 0 or not _is_public(np.uint64(value), starts, flags):   # a version ends in ".0.0", no host does
        return NONE
    # "version 1.2.3.4", and "1.2.3.4 Title" at the start of a line
    k = i
    while k > start and data[k - 1] in (SPACE, DOT, COLON):
        k -= 1
    word: Int = k
    while word > start and LETTER[data[word - 1]] and k - word < 12:
        word -= 1
    if k > word and among(lower_hash(data, word, k), NUMBERED):
        return NONE
    k = i
    while k > start and data[k - 1] in (SPACE, HASH, STAR):
        k -= 1
    if small and (k == start or data[k - 1] == NEWLINE) and j + 1 < end and data[j] == SPACE:
        return NONE
    return i, j


# --- IPv6 -------------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def ipv6(data: Bytes, colon: Int, start: Int, end: Int, table: Bytes, starts: Hashes, flags: Flags) -> tuple[Int, Int]:
    """The public IPv6 address whose first colon is at byte ``colon``; of 2000::/3, the only space given out.

    Three groups at least must be written, so that a slice such as ``[2000::2]`` is none.
    """
    i: Int = colon - 4
    if i < start or data[i] not in (50, 51):
        return NONE
    for j in range(i, colon):
        if not HEX[data[j]]:
            return NONE
    if i > start and (data[i - 1] in (COLON, DOT, HYPHEN) or class_before(data, i, start, table) & JOINED):
        return NONE
    groups = np.zeros(8, dtype=np.uint64)
    n = 0
    gap = -1                                 # groups before "::"
    at: Int = i
    stop: Int = i
    while n < 8:
        size = 0
        value = 0
        while at + size < end and HEX[data[at + size]] and size < 5:
            c = np.int64(data[at + size])
            value = 16 * value + (c - 48 if c < 58 else (c & 0x5F) - 55)
            size += 1
        if size == 0 or size > 4:
            break
        if at + size < end and data[at + size] == DOT and n <= 6 and n > 0:
            tail, _ = datatrove_ipv4(data, at, end, starts, flags)
            if tail > 0:                     # the last two groups as an IPv4 address
                n += 2
                stop = tail
                at = tail
                break
        groups[n] = value
        n += 1
        at += size
        stop = at
        if at + 1 >= end or data[at] != COLON:
            break
        if data[at + 1] == COLON:
            if gap >= 0 or n == 8:
                break
            gap = n
            at += 2
            stop = at
        elif HEX[data[at + 1]]:
            at += 1
        else:
            break
    if n < 3 or (gap < 0 and n != 8) or (gap >= 0 and n > 7):
        return NONE
    if class_at(data, stop, end, table) & JOINED or (stop + 1 < end and data[stop] == COLON and HEX[data[stop + 1]]):
        return NONE
    high = np.uint64(0)
    for k in range(4):
        late = k - (8 - n)                   # of a group behind the gap
        group = groups[k] if gap < 0 or k < gap else (groups[late] if late >= gap else np.uint64(0))
        high = (high << np.uint64(16)) | group
    if not _is_public(high, starts, flags):
        return NONE
    return i, stop

