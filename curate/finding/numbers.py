"""Telephone, account, card and social security numbers in bytes, each held to the checks that its scheme has.

IBAN         two capital letters, two check digits and an account of the country's length (SWIFT's IBAN registry), in
             one piece or in groups of four; the remainder by 97 is 1 (ISO 13616).
card         12 to 19 digits in one piece or in the groups in which cards are printed, the prefix and length of an
             issuer (Visa, Mastercard, American Express, Discover, JCB, Diners, UnionPay, Maestro), Luhn's check digit
             (ISO 7812).
SSN          ``AAA-GG-SSSS`` of the United States, with an area, group and serial that may be given out.
telephone    ``+`` with a country code that exists and 8 to 15 digits (ITU-T E.164); a number of North America, written
             ``(415) 273-9164``, ``415-273-9164`` or ``415.273.9164``, whose area and exchange may be given out; or 7 to
             15 digits behind a word such as "Tel." or "phone number".

A digit that belongs to a longer number, a word, a path, a decimal or a formula starts none of them.
"""

# mypy: disable-error-code="assignment, return-value, arg-type, call-arg"
# integers in kernels are numba's

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.finding.addresses import (
    ALNUM,
    DIGIT,
    DOT,
    HYPHEN,
    JOINED,
    LETTER,
    NONE,
    SLASH,
    SPACE,
    among,
    class_at,
    class_before,
    hashes,
    lower_hash,
)
from curate.text import Bytes, Int

PLUS, OPEN, CLOSE = (ord(c) for c in "+()")
PERCENT = ord("%")

# Letters of the country, and characters of its account numbers.
IBAN_LENGTHS = """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24
    FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32
    LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24
    RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
# Country codes of two digits (ITU-T E.164); 1 and 7 have one, all others three.
TWO_DIGIT_CODES = """
    20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90
    91 92 93 94 95 98
"""
# First two digits of codes with three digits.
THREE_DIGIT_CODES = "21 22 23 24 25 26 29 35 37 38 42 50 59 67 68 69 80 85 87 88 96 97 99"
# What announces a telephone number, in ASCII lower case; and words that may stand between.
ANNOUNCING = hashes("""
    tel tél telephone telefon telefono teléfono téléphone telefone telefoon telefax phone ph fax mobile mobil móvil cell
    cellphone mob handy call whatsapp hotline rufnummer тел телефон
""")
BETWEEN = hashes("number no nr num nummer numero número office home work us at is")


def _iban_lengths() -> npt.NDArray[np.int64]:
    lengths = np.zeros(26 * 26, dtype=np.int64)
    for word in IBAN_LENGTHS.split():
        lengths[(ord(word[0]) - 65) * 26 + ord(word[1]) - 65] = int(word[2:])
    return lengths


def _code_digits() -> npt.NDArray[np.int64]:
    """By the first two digits: digits of the country code, 0 where there is none."""
    digits = np.zeros(100, dtype=np.int64)
    digits[10:20] = 1
    digits[70:80] = 1
    digits[[int(code) for code in TWO_DIGIT_CODES.split()]] = 2
    digits[[int(code) for code in THREE_DIGIT_CODES.split()]] = 3
    return digits


_LENGTHS = _iban_lengths()
_CODES = _code_digits()
_GROUPS = np.array([[4, 4, 4, 4, 3], [4, 4, 4, 4, 0], [4, 6, 5, 0, 0], [4, 6, 4, 0, 0]])   # as cards are printed
_NOT_BEFORE = np.zeros(256, dtype=np.bool_)
_NOT_BEFORE[[ord(c) for c in ".,-+/\\$%&=#^{<>~"]] = True


@njit(cache=True, nogil=True)
def opens(data: Bytes, i: Int, start: Int, table: Bytes) -> bool:
    """May a number start at byte ``i``?"""
    return i == start or not (_NOT_BEFORE[data[i - 1]] or class_before(data, i, start, table) & JOINED)


@njit(cache=True, nogil=True)
def closes(data: Bytes, i: Int, end: Int, table: Bytes) -> bool:
    """May a number end before byte ``i``?"""
    if i >= end:
        return True
    if class_at(data, i, end, table) & JOINED or data[i] == PERCENT:
        return False
    return not (i + 1 < end and data[i] in (DOT, HYPHEN, SLASH, 44, 58) and DIGIT[data[i + 1]])


@njit(cache=True, nogil=True)
def iban(data: Bytes, digit: Int, start: Int, end: Int, table: Bytes) -> tuple[Int, Int]:
    """The account number whose check digits begin at byte ``digit``."""
    i: Int = digit - 2
    if i < start or not (65 <= data[i] <= 90 and 65 <= data[i + 1] <= 90) or not opens(data, i, start, table):
        return NONE
    length = _LENGTHS[(np.int64(data[i]) - 65) * 26 + np.int64(data[i + 1]) - 65]
    if length == 0 or digit + 1 >= end or not DIGIT[data[digit + 1]]:
        return NONE
    value = np.empty(length, dtype=np.int64)
    at: Int = i
    for k in range(length):
        if k > 0 and k % 4 == 0 and at < end and data[at] == SPACE:
            at += 1
        if at >= end or not ALNUM[data[at]] or data[at] >= 97:
            return NONE
        value[k] = np.int64(data[at]) - (48 if data[at] < 58 else 55)
        at += 1
    rest = 0
    for k in range(length):
        v = value[(k + 4) % length]
        rest = (rest * (100 if v > 9 else 10) + v) % 97
    return (i, at) if rest == 1 and closes(data, at, end, table) else NONE


@njit(cache=True, nogil=True)
def _issued(digits: npt.NDArray[np.int64], n: int) -> bool:
    """Does an issuer give out cards with this prefix and so many digits?"""
    two = 10 * digits[0] + digits[1]
    three = 10 * two + digits[2]
    four = 10 * three + digits[3]
    if digits[0] == 4:
        return n in (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return n == 16
    if two in (34, 37):
        return n == 15
    if two in (36, 38, 39) or 300 <= three <= 305:
        return n == 14
    if four == 6011 or 644 <= three <= 649 or two in (65, 62) or 3528 <= four <= 3589:
        return 16 <= n <= 19
    return four in (5018, 5020, 5038, 5893, 6304, 6759, 6761, 6762, 6763) and 12 <= n <= 19


@njit(cache=True, nogil=True)
def _luhn(digits: npt.NDArray[np.int64], n: int) -> bool:
    total = 0
    for k in range(n):
        d = digits[n - 1 - k]
        if k % 2 == 1:
            d = 2 * d - 9 if d > 4 else 2 * d
        total += d
    return total % 10 == 0


@njit(cache=True, nogil=True)
def card(data: Bytes, i: Int, start: Int, end: Int, table: Bytes) -> tuple[Int, Int]:
    """The card number that starts at the digit at byte ``i``."""
    if not 50 <= data[i] <= 54:              # 2 to 6
        return NONE
    if not opens(data, i, start, table):
        return NONE
    digits = np.empty(19, dtype=np.int64)
    sizes = np.zeros(5, dtype=np.int64)
    ends = np.zeros(5, dtype=np.int64)       # byte after each group
    groups = 0
    n = 0
    at: Int = i
    separator = 0
    while groups < 5:
        size = 0
        while at < end and DIGIT[data[at]]:
            if n == 19:
                return NONE
            digits[n] = np.int64(data[at]) - 48
            n += 1
            size += 1
            at += 1
        sizes[groups] = size
        ends[groups] = at
        groups += 1
        if at + 1 >= end or data[at] not in (SPACE, HYPHEN) or not DIGIT[data[at + 1]] or size > 6:
            break
        if separator == 0:
            separator = np.int64(data[at])
        elif separator != data[at]:
            break
        if groups < 5:
            at += 1
    if n < 12:
        return NONE
    if groups == 1:
        good = _issued(digits, n) and _luhn(digits, n) and closes(data, at, end, table)
        return (i, at) if good else NONE
    for row in range(len(_GROUPS)):
        m = 0
        fits = True
        k = 0
        while k < 5 and _GROUPS[row, k] > 0:
            fits &= sizes[k] == _GROUPS[row, k]
            m += sizes[k]
            k += 1
        if fits and _issued(digits, m) and _luhn(digits, m) and closes(data, ends[k - 1], end, table):
            return i, ends[k - 1]
    return NONE


@njit(cache=True, nogil=True)
def _run(data: Bytes, i: Int, end: Int, size: int) -> bool:
    """Are the bytes from ``i`` on so many digits and no more?"""
    for k in range(size):
        if i + k >= end or not DIGIT[data[i + k]]:
            return False
    return i + size >= end or not DIGIT[data[i + size]]


@njit(cache=True, nogil=True)
def ssn(data: Bytes, i: Int, start: Int, end: Int, table: Bytes) -> tuple[Int, Int]:
    """The social security number that starts at the digit at byte ``i``."""
    stop = i + 11
    if stop > end or data[i + 3] != HYPHEN or data[i + 6] != HYPHEN:
        return NONE
    if not (_run(data, i, end, 3) and _run(data, i + 4, end, 2) and _run(data, i + 7, end, 4)):
        return NONE
    area = 100 * np.int64(data[i]) + 10 * np.int64(data[i + 1]) + np.int64(data[i + 2]) - 111 * 48
    if area == 0 or area == 666 or area >= 900:
        return NONE
    zeros = (data[i + 4] == 48 and data[i + 5] == 48) or (
        data[i + 7] == 48 and data[i + 8] == 48 and data[i + 9] == 48 and data[i + 10] == 48
    )
    if zeros or not opens(data, i, start, table) or not closes(data, stop, end, table):
        return NONE
    return i, stop


# --- Telephone --------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _given_out(data: Bytes, i: Int) -> bool:
    """May these three digits be an area or exchange in North America? The first is 2 to 9, and N11 is for services."""
    return 50 <= data[i] <= 57 and not (data[i + 1] == 49 and data[i + 2] == 49)


@njit(cache=True, nogil=True)
def _north_american(data: Bytes, i: Int, end: Int, table: Bytes, spaces: bool) -> Int:
    """Where a number that starts at byte ``i`` with the area, or "(" before it, ends; -1 where it is none."""
    bracket = data[i] == OPEN
    at: Int = i + 1 if bracket else i
    if not _run(data, at, end, 3) or not _given_out(data, at):
        return -1
    at += 3
    if at >= end:
        return -1
    between = data[at]
    if bracket:
        if between != CLOSE:
            return -1
        at += 1
        if at < end and data[at] == SPACE:
            at += 1
        between = HYPHEN
    else:
        if between not in (HYPHEN, DOT) and not (spaces and between == SPACE):
            return -1
        at += 1
    if not _run(data, at, end, 3) or not _given_out(data, at) or at + 3 >= end:
        return -1
    last = data[at + 3]
    if last != between and not (bracket and last in (DOT, SPACE)):
        return -1
    at += 4
    return at + 4 if _run(data, at, end, 4) and closes(data, at + 4, end, table) else -1


@njit(cache=True, nogil=True)
def _loose(data: Bytes, i: Int, end: Int) -> tuple[Int, int, int]:
    """A run of digits with single spaces, dots, hyphens, slashes or brackets between them.

    Returns:
        the byte after its last digit, its digits, the most digits in a group.
    """
    stop: Int = i
    digits = 0
    group = 0
    longest = 0
    at: Int = i
    gap = 0
    while at < end and digits <= 16:
        c = data[at]
        if DIGIT[c]:
            digits += 1
            group += 1
            longest = max(longest, group)
            gap = 0
            stop = at + 1
        elif c in (SPACE, DOT, HYPHEN, SLASH, OPEN, CLOSE):
            gap += 1
            group = 0
            if gap > 2 or (gap == 2 and c not in (OPEN, SPACE)):
                break
        else:
            break
        at += 1
    return stop, digits, longest


@njit(cache=True, nogil=True)
def _announced(data: Bytes, i: Int, start: Int) -> bool:
    """Does a word before byte ``i`` say that a telephone number follows?"""
    at: Int = i
    for _ in range(3):
        gap: Int = at
        while gap > start and at - gap < 5 and data[gap - 1] < 128 and not ALNUM[data[gap - 1]]:
            if data[gap - 1] == 10:
                return False
            gap -= 1
        word: Int = gap
        while word > start and gap - word < 24 and (LETTER[data[word - 1]] or data[word - 1] >= 128):
            word -= 1
        if word == gap:
            return False
        name = lower_hash(data, word, gap)
        if among(name, ANNOUNCING):
            return True
        if not among(name, BETWEEN):
            return False
        at = word
    return False


@njit(cache=True, nogil=True)
def phone(data: Bytes, i: Int, start: Int, end: Int, table: Bytes) -> tuple[Int, Int]:
    """The telephone number that starts at byte ``i``, a digit, ``+`` or ``(``."""
    if not opens(data, i, start, table):
        return NONE
    if data[i] == PLUS:
        if i + 2 >= end or not DIGIT[data[i + 1]] or data[i + 1] == 48:
            return NONE
        if data[i + 1] == 49:
            at = i + 2 if DIGIT[data[i + 2]] or data[i + 2] == OPEN else i + 3
            stop = _north_american(data, at, end, table, True) if at < end else -1
            if stop > 0:
                return i, stop
            whole = _run(data, i + 1, end, 11) and _given_out(data, i + 2) and _given_out(data, i + 5)
            return (i, i + 12) if whole and closes(data, i + 12, end, table) else NONE
        stop, digits, _ = _loose(data, i + 1, end)
        lead = 10 * (np.int64(data[i + 1]) - 48)
        lead += np.int64(data[i + 2]) - 48 if DIGIT[data[i + 2]] else 0
        code = _CODES[lead]
        good = code > 0 and _run_at_least(data, i + 1, code) and 8 <= digits <= 15 and closes(data, stop, end, table)
        return (i, stop) if good else NONE
    at = i
    if data[i] == 49 and i + 2 < end and data[i + 1] in (SPACE, HYPHEN, DOT):    # the trunk prefix
        at = i + 2
    announced = _announced(data, i, start)
    stop = _north_american(data, at, end, table, announced)
    if stop > 0:
        return i, stop
    if announced:
        stop, digits, longest = _loose(data, i, end)
        if 7 <= digits <= 15 and longest >= 2 and closes(data, stop, end, table):
            return i, stop
    return NONE


@njit(cache=True, nogil=True)
def _run_at_least(data: Bytes, i: Int, size: int) -> bool:
    """Are the bytes from ``i`` on so many digits, or more?"""
    for k in range(size):
        if i + k >= data.size or not DIGIT[data[i + k]]:
            return False
    return True
