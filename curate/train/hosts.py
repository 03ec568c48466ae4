"""Hosts of web addresses, as metadata in front of documents (MeCo; see conditioning.py)."""

import re

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:?//|//", re.IGNORECASE)
_OTHER = re.compile(
    r"[a-z][a-z0-9+.-]*:(?!\d*(?:[/?#]|$))", re.IGNORECASE
)  # mailto:, data: and their like; not host:80
_PORT = re.compile(r":\d*$")
_NAME = re.compile(r"[a-z0-9_.-]+")
_END = re.compile(r"[/?#\\]")


def host(url: str | None) -> str | None:
    """The host of a web address as one spelling: in lower case, international names in their ASCII form (``xn--``).

    The scheme, user, port, path and a final dot are left out; ``www.`` stays. An address need not have a scheme. None
    where there is no host: an empty address, a path, ``mailto:`` and the like. MeCo's own code cuts ``http://`` and
    what follows the first slash, and keeps ports and capitals.
    """
    address = (url or "").strip()
    scheme = _SCHEME.match(address)
    if scheme is None and _OTHER.match(address):
        return None
    name = _END.split(address[scheme.end() if scheme else 0 :], maxsplit=1)[0]
    name = name.rpartition("@")[2]
    if name.startswith("["):  # an IPv6 address
        return name.partition("]")[0].lower() + "]" if "]" in name else None
    name = _PORT.sub("", name).rstrip(".").lower()
    if not name or any(c.isspace() for c in name) or name.startswith("."):
        return None
    return ".".join(_ascii(label) for label in name.split("."))


def _ascii(label: str) -> str:
    """A label in ASCII (IDNA 2003), or as it is written where that is no name that could be registered."""
    if label.isascii():
        return label
    try:
        name = label.encode("idna").decode("ascii")
    except UnicodeError:
        return label
    return name if _NAME.fullmatch(name) else label


def metadata(url: str | None, form: str = "URL: {host}\n\n") -> str:
    """What is put in front of a document from this address; empty where it has no host.

    Args:
        url: the document's address.
        form: the words around ``{host}``.
    """
    name = host(url)
    return "" if name is None else form.replace("{host}", name)
