"""Personal data in texts: how much of which kind (``find``), and texts with it replaced (``mask``).

``find`` (EACH) writes a column of counts for each kind, ``pii_email`` and so on, and their sum ``pii``:

``email``          addresses, at any domain but those reserved for examples
``ipv4``, ``ipv6`` public addresses only: private, loopback, link-local and reserved ones are nobody's
``phone``          international and North American numbers, and others behind a word such as "Tel."
``iban``, ``card`` account and card numbers with valid check digits
``ssn``            social security numbers of the United States, in the form AAA-GG-SSSS

``mask`` (MANY) rewrites the texts: every span becomes a token such as ``<EMAIL>``, and the same counts are columns of
the new rows.

    docs = docs.then(pii.mask)                                   # tokens
    docs = docs.then(pii.mask, pii.DATATROVE)                    # as datatrove's PIIFormatter does

``DATATROVE`` finds and replaces byte for byte as datatrove's ``PIIFormatter`` (0.10) does with its defaults: e-mail
and public IPv4 addresses, by a few placeholders in turn. datatrove's turn goes on from one document to the next, so
that its output depends on the order of documents; here every text starts with the first placeholder, as a new
formatter would.

How each kind is recognised, and what is deliberately not, is told in finding/addresses.py and finding/numbers.py; how
often that is right on a hand-written set is in docs/pii.md. All of it is patterns and check digits: names, postal
addresses, handles and obfuscated addresses ("jane at home dot org") are not found.

Cost: no regular expression is used and every byte is looked at a bounded number of times, so time grows with length
and with nothing else; benchmarks/pii.py has MB a second.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import INT64, ROW, TEXT
from curate.errors import UnknownSetting
from curate.finding import spans
from curate.stage import ColumnType, Grain, stage

KINDS = spans.KINDS


@dataclass(frozen=True, kw_only=True)
class Find:
    """What to count.

    Args:
        kinds: of ``email``, ``ipv4``, ``ipv6``, ``iban``, ``card``, ``ssn``, ``phone``.
        like: ``"curate"``, or ``"datatrove"``: what the expressions of its PIIFormatter match, e-mail and IPv4 only.
    """

    kinds: tuple[str, ...] = KINDS
    like: str = "curate"

    def __post_init__(self) -> None:
        _check(self.kinds, self.like, "pii.Find")


@dataclass(frozen=True, kw_only=True)
class Mask:
    """What to replace, and by what: several replacements of a kind are taken in turn within a text.

    Args:
        kinds: as for ``Find``.
        like: as for ``Find``.
        email: replacements of e-mail addresses.
        ip: of IPv4 and IPv6 addresses.
        iban: of account numbers.
        card: of card numbers.
        ssn: of social security numbers.
        phone: of telephone numbers.
    """

    kinds: tuple[str, ...] = KINDS
    like: str = "curate"
    email: tuple[str, ...] = ("<EMAIL>",)
    ip: tuple[str, ...] = ("<IP>",)
    iban: tuple[str, ...] = ("<IBAN>",)
    card: tuple[str, ...] = ("<CARD>",)
    ssn: tuple[str, ...] = ("<SSN>",)
    phone: tuple[str, ...] = ("<PHONE>",)

    def __post_init__(self) -> None:
        _check(self.kinds, self.like, "pii.Mask")
        for kind, by in self.replacements().items():
            if not by:
                raise UnknownSetting(f"no replacement for {kind}", where="pii.Mask", fix="give one, '' to leave out")

    def replacements(self) -> dict[str, tuple[str, ...]]:
        """Kind to replacements."""
        return {
            "email": self.email, "ipv4": self.ip, "ipv6": self.ip, "iban": self.iban, "card": self.card,
            "ssn": self.ssn, "phone": self.phone,
        }  # fmt: skip


def _check(kinds: tuple[str, ...], like: str, where: str) -> None:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise UnknownSetting(f"kinds={kinds}", where=where, fix=f"choose from: {', '.join(KINDS)}")
    if like not in ("curate", "datatrove"):
        raise UnknownSetting(f"like={like!r}", where=where, fix="use 'curate' or 'datatrove'")
    if like == "datatrove" and not set(kinds) <= {"email", "ipv4"}:
        raise UnknownSetting(f"datatrove finds no {kinds}", where=where, fix="kinds=('email', 'ipv4')")


# The placeholders are datatrove's defaults: names that RFC 2606 reserves, and addresses that answered nobody.
DATATROVE = Mask(
    kinds=("email", "ipv4"),
    like="datatrove",
    email=("email@example.com", "firstname.lastname@example.org"),
    ip=(
        "22.214.171.124", "126.96.36.199", "188.8.131.52",
        "184.108.40.206", "220.127.116.11", "18.104.22.168",
    ),
)  # fmt: skip


def _counts(config: Find | Mask) -> dict[str, ColumnType]:
    return {**{f"pii_{kind}": INT64 for kind in config.kinds}, "pii": INT64}


def _writes_text(config: Mask) -> Mapping[str, ColumnType]:
    return {"text": TEXT, **_counts(config)}


def _columns(found: spans.Spans, texts: pa.ChunkedArray, kinds: tuple[str, ...]) -> dict[str, pa.Array]:
    counts = spans.count(found, len(texts))
    null = np.asarray(texts.is_null())
    columns = {f"pii_{kind}": pa.array(counts[:, KINDS.index(kind)], mask=null) for kind in kinds}
    return {**columns, "pii": pa.array(counts.sum(axis=1), mask=null)}


@stage(reads={"text": TEXT}, writes=_counts, grain=Grain.EACH, version="1")
def find(docs: pa.Table, config: Find) -> pa.Table:
    """How many spans of each kind a text has, and of all of them; null for a null text."""
    found, _ = spans.find(docs["text"], config.kinds, datatrove=config.like == "datatrove")
    return pa.table(_columns(found, docs["text"], config.kinds))


@stage(reads={"text": TEXT}, writes=_writes_text, grain=Grain.MANY, version="1")
def mask(docs: pa.Table, config: Mask) -> pa.Table:
    """Every text with its spans replaced, and what was replaced as counts; a null text stays null."""
    found, n = spans.find(docs["text"], config.kinds, datatrove=config.like == "datatrove")
    masked = spans.replace(docs["text"], found, config.replacements())
    return pa.table({
        ROW: pa.array(np.arange(n), INT64),
        "text": pc.cast(masked, TEXT),
        **_columns(found, docs["text"], config.kinds),
    })
