"""Pages and archives that were made to break readers, each a function of its number alone."""

import gzip
import random
from functools import cache

MARK = "This paragraph of page number {} must come out whole, whatever stands before and behind it in the archive."
TAGS = (
    "div span p b i a font table tr td ul li dl dt h1 h2 form select option svg math g path style script title "
    "textarea template noscript iframe object center marquee article section nav button label pre"
).split()


def good(i: int) -> bytes:
    """A page whose main text is known."""
    words = " ".join(f"Sentence {k} tells that nothing happened here." for k in range(12))
    return f"<html><body><article><h1>Page</h1><p>{MARK.format(i)} {words}</p></article></body></html>".encode()


def page(i: int, large: bool = False) -> tuple[str, bytes]:
    """A kind, and a page of it. ``large`` allows 100 MB."""
    dice = random.Random(f"page {i}")
    size = dice.choice([10, 300, 5000, 30_000])
    tag = dice.choice(TAGS)
    kinds = {
        "deep": lambda: f"<{tag}>" * size + "text" + f"</{tag}>" * dice.choice([0, size // 2, size]),
        "deep, two tags": lambda: f"<{tag}><{dice.choice(TAGS)}>" * size + "text",
        "misnested": lambda: "".join(f"<{dice.choice(TAGS)}>x</{dice.choice(TAGS)}>" for _ in range(size // 10)),
        "soup": lambda: "".join(dice.choice(["<", ">", "</", "=", '"', "'", "&", "#", "!", "-", "a", tag, " ", "\n"])
                                for _ in range(size)),
        "unclosed tag": lambda: "<p>text " + f"<{tag} a='" + "x" * size,
        "unclosed comment": lambda: "text" + "<!--" * size,
        "unclosed raw": lambda: f"<p>text<{dice.choice(['script', 'style', 'title', 'textarea', 'plaintext'])}>" * size,
        "cdata": lambda: "<svg><![CDATA[" * size,
        "long attribute": lambda: f"<p title='{'x' * size * 20}'>text",
        "many attributes": lambda: "<p " + " ".join(f"a{k}={k}" for k in range(size)) + ">text",
        "one attribute again": lambda: "<p " + "a=1 " * size + ">text",
        "entities": lambda: "".join(dice.choice(["&amp;", "&#0;", "&#xD800;", "&#x110000;", "&#99999999;", "&x", "&"])
                                    for _ in range(size)),
        "nulls": lambda: ("<p>te\0xt" * size).replace("p", "p\0" if i % 2 else "p"),
        "one long word": lambda: "<p>" + "x" * size * 30,
        "controls": lambda: "<p>" + "".join(map(chr, range(32))) * (size // 32 + 1),
        "unicode": lambda: "<p>" + "".join(chr(dice.choice([0x202E, 0xFEFF, 0x300, 0x10FFFF, 0x1F3F3, 0xE000, 0xFFFE]))
                                           for _ in range(size)),
        "doctypes": lambda: "<!DOCTYPE html [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]>" * (size // 10) + "&b;",
        "tables": lambda: "<table><tr><td>" * size + "text",
        "foreign": lambda: "<math><mi><svg><foreignObject><p>" * (size // 4) + "text",
        "frames": lambda: "<frameset><frame>" * size + "<noframes>text",
        "forms": lambda: "<form><input value='x'><select><optgroup><option>" * (size // 4) + "text",
        "lists": lambda: "<ul><li><ol><li><dl><dd>" * (size // 4) + "text",
        "declared charset": lambda: f"<meta charset={dice.choice(['utf-7', 'utf-16', chr(0), 'hz-gb-2312'])}><p>+A-",
    }  # fmt: skip
    if large:
        return "100 MB attribute", b"<p a='" + b"x" * 100_000_000 + b"'>text"
    kind = list(kinds)[i % (len(kinds) + 2)] if i % (len(kinds) + 2) < len(kinds) else "bytes"
    if kind == "bytes":
        return kind, dice.randbytes(size)
    return kind, kinds[kind]().encode("utf-8", "surrogatepass")


def record(i: int, body: bytes, http: bytes = b"", length: int | None = None) -> bytes:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + http + b"\r\n" + body
    head = (f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:page:{i}>\r\nWARC-Target-URI: http://h/{i}\r\n"
            f"Content-Type: application/http\r\nContent-Length: {len(block) if length is None else length}\r\n\r\n")
    return head.encode() + block + b"\r\n\r\n"


@cache
def bomb() -> bytes:
    """A member that breaks off its record and goes on with zeros."""
    return gzip.compress(record(5, good(5))[:-50] + bytes(200_000_000))


@cache
def body_bomb() -> bytes:
    """A record whose body swells."""
    return gzip.compress(record(5, gzip.compress(bytes(200_000_000)), b"Content-Encoding: gzip\r\n"))


def member(i: int) -> tuple[str, bytes]:
    """A kind, and the bytes of an archive at place ``i``: a good page, a hostile page, or a hostile member."""
    if i % 10 == 0:
        return "good", gzip.compress(record(i, good(i)), 1)
    dice = random.Random(f"member {i}")
    if i % 10 != 5:
        kind, body = page(i, large=i % 5000 == 77)
        return kind, gzip.compress(record(i, body), 1)
    whole = record(i, good(i))
    kinds = {
        "bomb": bomb,
        "body bomb": body_bomb,
        "cut off": lambda: gzip.compress(whole)[: dice.randrange(1, 200)],
        "garbage": lambda: dice.randbytes(dice.randrange(1, 3000)),
        "flipped": lambda: bytes(each ^ (255 if k == 60 else 0) for k, each in enumerate(gzip.compress(whole))),
        "length too long": lambda: gzip.compress(record(i, good(i), length=10**9)),
        "length too short": lambda: gzip.compress(record(i, good(i), length=100)),
        "no length": lambda: gzip.compress(whole.replace(b"Content-Length", b"Content-Weight")),
        "no header": lambda: gzip.compress(b"x" * 100_000),
        "not chunked": lambda: gzip.compress(record(i, dice.randbytes(99), b"Transfer-Encoding: chunked\r\n")),
        "endless header": lambda: gzip.compress(b"WARC/1.0\r\n" + b"A: b\r\n" * 100_000),
    }  # fmt: skip
    kind = list(kinds)[(i // 10) % len(kinds)]
    return kind, kinds[kind]()
