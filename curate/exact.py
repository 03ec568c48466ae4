"""Exact copies: documents with the same text, by 128-bit hash.

1. ``content_hash`` (EACH) hashes each text with XXH3-128 (Collet), as it is, or lower-cased with white space collapsed.
2. ``duplicates`` (GROUP) brings equal hashes together by their first half, compares both halves, and chooses the
   row to keep by a policy (``curate.keeper``).

Texts are never compared byte by byte: among 1e10 different texts, two share a 128-bit hash with probability 1.5e-19
(birthday bound, n**2 / 2**129). XXH3 is not cryptographic: whoever wants to have a document taken for a copy of another
could make one.

Cost: one pass over the text at several GB/s a core, and one exchange of 16 bytes, the address, the key and the policy's
columns a row. Elsewhere: near copies (``minhash``).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.columns import ADDRESS, INT64, TEXT, UINT64
from curate.keeper import keepers, policy, policy_reads
from curate.stage import Grain, stage
from curate.text import string_buffers


@dataclass(frozen=True, kw_only=True)
class Content:
    """What counts as the same text: the settings of ``content_hash``, which no other setting changes.

    Args:
        normalise: compare texts lower-cased, with runs of white space as one space and none at the ends.
    """

    normalise: bool = False


@dataclass(frozen=True, kw_only=True)
class Exact(Content):
    """What counts as the same text, and which copy is kept.

    Args:
        keep_by: policy of columns that chooses the row to keep, such as ``("-text_bytes",)``; see ``curate.keeper``.
        seed: the pipeline's seed.
        label: names the hash that breaks ties.
    """

    keep_by: tuple[str, ...] = ()
    seed: int = 0
    label: str = "exact"

    def __post_init__(self) -> None:
        policy(self.keep_by)

    def each(self) -> Content:
        """The settings of ``content_hash``: another policy hashes nothing again."""
        return Content(normalise=self.normalise)


@stage(reads={"text": TEXT}, writes={"content_hash": UINT64, "content_check": UINT64}, grain=Grain.EACH, version="1")
def content_hash(docs: pa.Table, config: Content) -> pa.Table:
    """The two halves of each text's 128-bit hash; texts are equal where both are. A null text is an empty one."""
    text = docs["text"].combine_chunks()
    if config.normalise:
        text = pc.utf8_trim(pc.replace_substring_regex(pc.utf8_lower(text), r"[\s\p{Z}]+", " "), " ")
    offsets, data = string_buffers(text)
    view = data.data
    hashes = b"".join(xxhash.xxh3_128_digest(view[start:end]) for start, end in pairwise(offsets.tolist()))
    both = np.frombuffer(hashes, ">u8").reshape(-1, 2).astype(np.uint64)
    return pa.table({"content_hash": both[:, 0].copy(), "content_check": both[:, 1].copy()})


def _duplicates_reads(config: Exact) -> dict[str, pa.DataType]:
    return {"content_hash": UINT64, "content_check": UINT64, **policy_reads(config.keep_by)}


@stage(
    reads=_duplicates_reads,
    writes={"exact_copy_of": UINT64, "exact_copies": INT64},
    grain=Grain.GROUP,
    by="content_hash",
    each=content_hash,
    version="1",
)
def duplicates(group: pa.Table, config: Exact) -> pa.Table:
    """Which row each row is a copy of, and how many rows have its text.

    ``exact_copy_of`` is the address of the row that is kept, null for that row itself and for a text without copies;
    ``exact_copies`` counts the rows with this text, the row itself included.
    """
    address = group[ADDRESS].to_numpy()
    both = [group["content_check"].to_numpy(), group["content_hash"].to_numpy()]
    order = np.lexsort(both)
    new = np.zeros(len(order), dtype=bool)
    for half in both:
        new[1:] |= half[order[1:]] != half[order[:-1]]
    same = np.empty(len(order), dtype=np.uint64)
    same[order] = np.cumsum(new, dtype=np.uint64)
    kept, size = keepers(group, same, config.keep_by, label=config.label, seed=config.seed)
    copy = kept != np.arange(len(kept))
    return pa.table(
        {
            ADDRESS: address,
            "exact_copy_of": pa.array(address[kept], UINT64, mask=~copy),
            "exact_copies": pa.array(size, INT64),
        }
    )
