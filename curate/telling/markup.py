"""HTML in which nothing can be injected: whatever is not made here is escaped.

    h("p", "from ", h("code", source), class_="note")

A child that is not ``Html`` is text: secrets are hidden, control characters that have no place on a page are shown as
a sign, and ``& < > " '`` are escaped; attributes likewise. Markup comes into being only through ``h``, ``join`` and
``raw``, and ``raw`` is for constants of this project.
"""

import html
import re
from collections.abc import Iterable
from typing import TypeAlias

from curate.telling.present import without_secrets

VOID = {"meta", "br"}
# Control characters but tab and newline, and the marks that turn the direction of all that follows.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


class Html(str):
    """Text that is markup already."""


Child: TypeAlias = "str | int | float | Html | Iterable[Child] | None"


def text(value: object) -> Html:
    """A value as text of a page."""
    return value if isinstance(value, Html) else Html(html.escape(_CONTROL.sub("\ufffd", without_secrets(str(value)))))


def h(name: str, /, *children: Child, **attributes: object) -> Html:
    """An element; ``class_`` is the attribute class, ``aria_label`` is aria-label, None leaves an attribute out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Children one after the other; lists are opened, None is left out."""
    out = []
    for child in children:
        if child is None:
            continue
        out.append(text(child) if isinstance(child, str | int | float) else join(child))
    return Html("".join(out))


def raw(markup: str) -> Html:
    """Markup that this project wrote itself: a constant, never data."""
    return Html(markup)


def table(
    head: Iterable[Child],
    rows: Iterable[Iterable[Child]],
    numeric: Iterable[int] = (),
    caption: str | None = None,
    class_: str | None = None,
) -> Html:
    """A table that scrolls sideways where the page is narrow.

    Args:
        head: names of the columns.
        rows: their cells.
        numeric: columns that hold numbers, set to the right.
        caption: what it shows.
        class_: of the table.
    """
    right = set(numeric)
    style = ["n" if i in right else None for i in range(1000)]
    titles = [h("th", name, scope="col", class_=style[i]) for i, name in enumerate(head)]
    body = [h("tr", [h("td", cell, class_=style[i]) for i, cell in enumerate(row)]) for row in rows]
    inner = h(
        "table",
        h("caption", caption) if caption else None,
        h("thead", h("tr", titles)),
        h("tbody", body),
        class_=class_,
    )
    return h("div", inner, class_="scroll")


def details(title: Child, *children: Child) -> Html:
    """What is folded away until it is asked for."""
    return h("details", h("summary", title), *children)


def note(*children: Child) -> Html:
    """A remark."""
    return h("p", *children, class_="note")
