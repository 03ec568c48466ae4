"""What a document's address says of it, as words to put in front of its text in training (MeCo).

``host`` (EACH) writes a column of text like ``URL: en.wikipedia.org`` and an empty line, null where a document has no
address with a host. The text itself stays as it is, so that duplicates, overlaps and lengths are not those of prefixes.
A mix that is written with the column can be tokenised with it:

    docs = docs.then(metadata.host)
    write({"mix": docs.select(...)}, columns=["metadata"])
    tokens = tokenise(mix, tokenizer, out, prefix="metadata")               # curate.train.tokenising

Cost: 300,000 addresses a CPU second. Elsewhere: what a host is (train/hosts.py), the run that reads metadata first and
then none (train/conditioning.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from curate.columns import TEXT
from curate.errors import UnknownSetting
from curate.stage import ColumnType, Grain, stage
from curate.train.hosts import metadata


@dataclass(frozen=True, kw_only=True)
class Host:
    """The words around a host.

    Args:
        url: the column of addresses.
        form: the words, with ``{host}`` in their midst.
        column: the column to write.
    """

    url: str = "url"
    form: str = "URL: {host}\n\n"
    column: str = "metadata"

    def __post_init__(self) -> None:
        if "{host}" not in self.form:
            raise UnknownSetting(f"form={self.form!r} has no host", where="Host(...)", fix="write {host} where it goes")


def _reads(config: Host) -> Mapping[str, pa.DataType]:
    return {config.url: TEXT}


def _writes(config: Host) -> Mapping[str, ColumnType]:
    return {config.column: TEXT}


@stage(reads=_reads, writes=_writes, grain=Grain.EACH, version="1")
def host(docs: pa.Table, config: Host) -> pa.Table:
    """The host in its words; null where there is none."""
    words = [metadata(url, config.form) or None for url in docs[config.url].to_pylist()]
    return pa.table({config.column: pa.array(words, TEXT)})
