"""Personal data: a hand-written set with traps, the schemes' own rules, and datatrove's formatter as an oracle."""

import ipaddress
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import pii
from curate.errors import UnknownSetting

law = settings(deadline=None, max_examples=300)

# Numbers that follow their scheme and were given to nobody: made up, from documentation, or long withdrawn.
FOUND = {
    "email": [
        "Write to {jane.doe@acme-widgets.de}.",
        "{o'neil+lists@mail.some-host.co.uk}, please",
        "<{j_smith99@sub.domain.museum}>",
        "mailto:{info@firma-muster.at}?subject=x",
        "MAIL: {JANE@ACME-WIDGETS.COM}!",
        "write '{a.b@c-d.org}'",
        "Grüße an {jürgen@bücher-müller.de}",
        "邮箱{wang@acme-widgets.cn}谢谢",
        "**{bold@acme-widgets.io}**",
        "_{lean@acme-widgets.io}_",
        "{x@xn--bcher-kva.xn--p1ai} is international",
        "{почта@пример-сайт.рф} тоже",
        "two: {a1@host-a.net},{b2@host-b.net}",
        "({root@dsl-12-34.provider-x.net})",
    ],
    "ipv4": [
        "from {93.184.216.34} today",
        "http://{93.184.216.34}:8080/x",
        "{188.40.20.6}/24",
        "user@{93.184.216.34}",
        "a={93.184.216.34};",
        "{93.184.216.34} - - [12/May/2019:06:25:14]",
        "resolvers are {8.8.8.8} and {8.8.4.4}.",
    ],
    "ipv6": [
        "host {2606:4700:4700::1111} up",
        "http://[{2a00:1450:4001:814::200e}]:443/",
        "{2001:4860:4860:0:0:0:0:8888}, and so on",
        "{2A02:810D:8AC0:2D64:5C4F:3B5A:1:2}",
    ],
    "phone": [
        "call {+49 30 9018200} now",
        "{+44 (0)20 7946 0958}",
        "{+14152739164}",
        "{+1 (415) 273-9164}",
        "dial {(415) 273-9164} or {415-273-9164} or {415.273.9164}",
        "{1-800-273-9164}",
        "Tel.: {030 9018200}",
        "Telefon {0664/1234567}",
        "phone number: {020 7946 0958}",
        "Fax {2180 8188}",
        "{+86 138 0013 8000}",
        "call us at {415 273 9164}.",
    ],
    "iban": [
        "IBAN {DE89370400440532013000}",
        "{DE89 3704 0044 0532 0130 00}.",
        "pay to {GB82 WEST 1234 5698 7654 32}, please",
        "{FR14 2004 1010 0505 0001 3M02 606}",
        "{NL91ABNA0417164300}",
    ],
    "card": [
        "card {4111 1111 1111 1111} exp 12/27",
        "{4111-1111-1111-1111}",
        "{5555555555554444}",
        "{3782 822463 10005}",
        "{378282246310005}, amex",
        "{6011111111111117}",
        "{3530 1113 3330 0000}",
        "{30569309025904}",
        "{2223003122003222}",
        "no {4111 1111 1111 1111} 123",
    ],
    "ssn": [
        "SSN {536-22-8765}",
        "({001-01-0001})",
    ],
}
NOTHING = [
    # e-mail
    "user@localhost and a@b", "icon@2x.png", "lodash@4.17.21", "git@github.com:user/repo.git", "@handle on a site",
    "medium.com/@jane.doe", "x@@y.com", "jane@example.com", "jane@mail.example.org", "me@host.test", "price @ 3.50",
    "f@g(x).h", "\\@startsection@name.x1", "a@.b.com", "ends@ dot.com", "user@host.local",
    # IPv4: private, reserved, versions, sections, too long
    "10.0.0.1", "192.168.1.1", "172.16.254.1", "127.0.0.1", "169.254.1.1", "100.64.0.1", "192.0.2.7", "203.0.113.9",
    "198.51.100.1", "0.0.0.0", "255.255.255.255", "240.1.2.3", "1.2.3", "1.2.3.4.5", "version 4.2.1.33", "v4.2.1.33",
    "Chrome/88.12.44.150", "256.1.1.1", "08.8.8.8", "4.2.1.3 Heading", "## 3.1.2.4 Heading", "OID 1.3.6.1.4.1.311",
    "1.2.3.4-beta", "release 12.34.56.78", "build: 2.6.15.24", "3.5.0.0", "abc1.2.3.4", "0x1.2.3.4.",
    # IPv6: private, reserved, times, code
    "::1", "fe80::1", "fc00::1", "2001:db8::1", "12:34:56", "2010:10:12:05", "x[2000::2]", "std::string",
    "00:1A:2B:3C:4D:5E", "dead::beef", "a2606:4700:4700::1111", "2606:4700:4700:::1",
    # telephone
    "ISBN 978-3-16-148410-0", "2019-05-12 13:14:15", "123-456-7890", "415-211-9164", "111.222.3333", "+0 123 456 789",
    "1574265600000", "order 4152739164", "3.14159265358979", "$415.273.9164$", "2001-2010-2020", "12345-6789",
    "550e8400-e29b-41d4-a716-446655440000", "call 911", "+210 12", "x+4915112345678", "doi:10.415/273-9164",
    "0123-4567", "Tel Aviv 1948", "phone 7", "200 300 4000", "10.1000/415-273-9164", "f(415) 273",
    # IBAN
    "DE89370400440532013001", "DE8937040044053201300", "XX89370400440532013000", "de89370400440532013000",
    "ADE89370400440532013000", "GB82 WEST 1234 5698 7654 33", "AB12CD34",
    # card: no check digit, no issuer, wrong groups, within something
    "4111 1111 1111 1112", "1234 5678 9012 3452", "4111 111111 111111", "0.4111111111111111", "id=4111111111111111",
    "4111111111111111111111", "/4111111111111111", "41111111111111110000", "a4111111111111111", "5105105105105101",
    "1700000000000000", "9780306406157",
    # SSN
    "000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "1536-22-8765", "536-22-87654",
    "536 22 8765", "2536-22-8765-1",
]  # fmt: skip


def docs(*texts):
    return pa.table({"text": pa.array(texts, pa.large_string())})


def masked(*texts, **config):
    return pii.mask(docs(*texts), pii.Mask(**config))["text"].to_pylist()


CASES = [(kind, text) for kind, texts in FOUND.items() for text in texts]


@pytest.mark.parametrize(("kind", "text"), CASES, ids=[text for _, text in CASES])
def test_what_is_found(kind, text):
    """The braces stand around what has to go: all of it, and nothing else."""
    plain = text.replace("{", "").replace("}", "")
    token = "<IP>" if kind.startswith("ipv") else f"<{kind.upper()}>"
    assert masked(plain) == [re.sub(r"{.*?}", token, text)]
    assert pii.find(docs(plain), pii.Find())[f"pii_{kind}"].to_pylist() == [text.count("{")]


@pytest.mark.parametrize("text", NOTHING)
def test_what_is_not_found(text):
    assert masked(text) == [text]
    assert masked(f"see\n{text} there") == [f"see\n{text} there"]


def test_counts_by_kind_and_of_all():
    table = pii.find(docs("a@acme.de, b@acme.de, 93.184.216.34", None, ""), pii.Find(kinds=("email", "ipv4")))
    assert table.to_pylist() == [
        {"pii_email": 2, "pii_ipv4": 1, "pii": 3},
        {"pii_email": None, "pii_ipv4": None, "pii": None},
        {"pii_email": 0, "pii_ipv4": 0, "pii": 0},
    ]


def test_masked_rows_carry_what_was_replaced():
    rows = pii.mask(docs("a@acme.de", None), pii.Mask(kinds=("email",))).to_pylist()
    assert rows == [
        {"row": 0, "text": "<EMAIL>", "pii_email": 1, "pii": 1},
        {"row": 1, "text": None, "pii_email": None, "pii": None},
    ]


def test_replacements_take_turns_within_a_text():
    assert masked("a@acme.de b@acme.de c@acme.de", "d@acme.de", email=("X", "YY")) == ["X YY X", "X"]


def test_only_the_kinds_that_were_asked_for():
    assert masked("a@acme.de 93.184.216.34", kinds=("ipv4",)) == ["a@acme.de <IP>"]


def test_an_address_wins_over_the_number_in_it():
    assert masked("+14152739164@acme-widgets.com") == ["+<EMAIL>"]


@pytest.mark.parametrize(
    "wrong", [{"kinds": ("name",)}, {"kinds": ()}, {"like": "dolma"}, {"like": "datatrove"}, {"email": ()}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(UnknownSetting):
        pii.Mask(**wrong)


# ── the schemes ──────────────────────────────────────────────────────────────────────────────────────────────────────


@law
@given(st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([int(n.network_address) + d for n in map(
    ipaddress.ip_network, ["10.0.0.0/8", "11.0.0.0/8", "100.64.0.0/10", "100.128.0.0/16", "192.0.0.0/24",
                           "192.0.1.0/24", "172.16.0.0/12", "172.32.0.0/16", "198.18.0.0/15", "198.20.0.0/16",
                           "240.0.0.0/4"])
    for d in (1, 9, 10, 170)])))  # fmt: skip
def test_an_ipv4_address_is_public_as_python_says(value):
    address = ipaddress.IPv4Address(value)
    found = pii.find(docs(f"at ({address}) now"), pii.Find())["pii_ipv4"][0].as_py()
    assert found == (address.is_global and value % 65536 != 0)


@law
@given(st.integers(0x2000 << 112, (0x4000 << 112) - 1), st.integers(0, 2**128 - 1), st.booleans())
def test_an_ipv6_address_is_public_as_python_says(value, holes, upper):
    """Groups are zeroed at random, so that "::" stands everywhere."""
    for k in range(7):
        if holes >> (k * 8) & 3:
            value &= ~(0xFFFF << (16 * k))
    address = ipaddress.IPv6Address(value)
    text = str(address).upper() if upper else str(address)
    written = len([group for group in text.split(":") if group])
    found = pii.find(docs(f"at ({text}) now"), pii.Find())["pii_ipv6"][0].as_py()
    assert found == (address.is_global and written >= 3)


@law
@given(st.text("0123456789", min_size=12, max_size=19))
def test_a_card_has_an_issuer_and_a_check_digit(digits):
    """ISO 7812: double every second digit from the right, cast out nines; the sum ends in 0."""
    total = sum(sum(divmod(int(d) * (2 if k % 2 else 1), 10)) for k, d in enumerate(reversed(digits)))
    issued = len(digits) == 16 and (51 <= int(digits[:2]) <= 55 or 2221 <= int(digits[:4]) <= 2720)
    found = pii.find(docs(f"({digits})"), pii.Find(kinds=("card",)))["pii_card"][0].as_py()
    if issued:
        assert found == (total % 10 == 0)
    if total % 10:
        assert found == 0


@law
@given(st.text("0123456789ABCXYZ", min_size=18, max_size=18), st.integers(0, 99), st.booleans())
def test_an_iban_leaves_the_remainder_one(account, check, spaced):
    number = f"DE{check:02}{account}"
    rest = int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97
    text = " ".join(number[i : i + 4] for i in range(0, 22, 4)) if spaced else number
    assert pii.find(docs(f"({text})"), pii.Find(kinds=("iban",)))["pii_iban"][0].as_py() == (rest == 1)


# ── laws ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

PIECES = st.sampled_from([
    "a@b.c", "jane@acme.de", "@", ".", "-", "1.2.3.4", "93.184.216.34", "255", "256", "0", "[", "]", ":", " ", "é", "_",
    "x", "a@[1.2.3.4]", "a@[1.2.3.a:]", "+49 30 9018200", "(415) 273-9164", "4111111111111111",
    "DE89370400440532013000", "2606:4700:4700::1111", "536-22-8765", "猫", "\n", "b-", "tel ", "'", "/", "+", "%", "12",
    "ß@ü.org", "\u0301",
])  # fmt: skip
STREWN = st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=14).map("".join)


@law
@given(st.lists(STREWN, max_size=5))
def test_datatrove_writes_the_same_bytes(texts):
    formatters = pytest.importorskip("datatrove.pipeline.formatters")
    theirs = [formatters.PIIFormatter().format(text) for text in texts]
    assert pii.mask(docs(*texts), pii.DATATROVE)["text"].to_pylist() == theirs


@law
@given(st.lists(st.one_of(st.none(), STREWN), max_size=5), st.data())
def test_no_text_sees_another(texts, data):
    table = docs(*texts)
    cut = data.draw(st.integers(0, len(texts)))
    whole = pii.mask(table, pii.Mask()).drop_columns("row").to_pylist()
    pieces = [pii.mask(t, pii.Mask()).drop_columns("row").to_pylist() for t in (table[:cut], table[cut:])]
    assert pieces[0] + pieces[1] == whole
    assert [row["text"] is None for row in whole] == [text is None for text in texts]


def test_spans_of_a_slice_are_where_its_bytes_are():
    """A slice keeps the bytes before it: what is found and what is replaced must count from the same place."""
    table = pa.table({"text": pa.array([None, "b@c.org", "a@b.ca@b.c", "x d@e.org"], pa.large_string())})
    whole = pii.mask(table, pii.Mask())["text"].to_pylist()
    assert whole == [None, "<EMAIL>", "<EMAIL>@b.c", "x <EMAIL>"]
    for cut in range(5):
        assert pii.mask(table[cut:], pii.Mask())["text"].to_pylist() == whole[cut:]


@law
@given(STREWN)
def test_what_lies_between_stays(text):
    """Without the tokens, a masked text is the text without some of its parts."""
    rest = iter(text)
    out = masked(text, **{name: ("",) for name in ("email", "ip", "iban", "card", "ssn", "phone")})[0]
    assert all(c in rest for c in out)


@pytest.mark.parametrize("trap", ["a.", "a", "1.", "a@", "a@b-", "@", "255.", "+1 (", "2001:", "tel ", "4111 ", "é"])
def test_no_text_takes_more_than_its_length(trap):
    """Five megabytes of beginnings: a matcher that backtracks would not come back."""
    text = trap * (5_000_000 // len(trap.encode()))
    pii.find(docs("@" + text + "@x.de"), pii.Find())
    pii.mask(docs("a@" + text), pii.DATATROVE)
