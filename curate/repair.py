"""Repair of text that was decoded wrongly somewhere: "donâ€™t" becomes "don’t" again.

    docs = docs.then(repair.text)                        # before anything is measured

It is ftfy (Speer 2019, zenodo.2591652) that decides and repairs, with its own names of settings. Its defaults are made
for reading; ours leave alone what was not broken by encoding: quotes stay curly, ligatures, widths, line breaks and the
normal form stay. (These are also the defaults with which datatrove wraps it.)

ftfy mends a text line by line, so a line without anything to mend need not reach it: printable ASCII without ``&``,
tabs and newlines. A kernel finds the texts that hold more, and of these only the other lines are handed over; what
comes out is what ftfy makes of the whole text. 26 MB of mixed documents a CPU second, where ftfy alone takes 8.

The versions of ftfy and of its tables are part of the settings, and so of the identity of the result.
"""

import re
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.columns import INT64, ROW, TEXT
from curate.errors import BadInput
from curate.stage import Grain, stage

PLAIN = np.zeros(256, dtype=np.bool_)
PLAIN[0x20:0x7F] = True
PLAIN[[0x09, 0x0A]] = True
PLAIN[ord("&")] = False
PLAIN_LINE = re.compile(r"[\t\n -%'-~]*")              # the same, of text
LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")               # only these end a line to ftfy


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What to mend; each field is ftfy's of the same name."""

    unescape_html: Literal["auto", "always", "never"] = "auto"
    """HTML entities; ``auto`` stops at the first ``<``, because what follows is HTML."""
    remove_terminal_escapes: bool = True
    fix_encoding: bool = True
    restore_byte_a0: bool = True
    replace_lossy_sequences: bool = True
    decode_inconsistent_utf8: bool = True
    fix_c1_controls: bool = True
    fix_latin_ligatures: bool = False
    fix_character_width: bool = False
    uncurl_quotes: bool = False
    fix_line_breaks: bool = False
    fix_surrogates: bool = True
    remove_control_chars: bool = True
    normalization: Literal["NFC", "NFKC"] | None = None
    library: str = field(init=False)
    """ftfy's version on this machine; part of the identity."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "library", installed())


def installed() -> str:
    """Ftfy with its version, or that it is missing."""
    try:
        return f"ftfy {version('ftfy')}, wcwidth {version('wcwidth')}"
    except PackageNotFoundError:  # the plan says so before anything runs: the stage needs the extra
        return "no ftfy"


def open_fixer(config: Repair) -> Any:
    """Ftfy's settings.

    Raises:
        BadInput: ftfy has another version here than where the plan was made.
    """
    if installed() != config.library:
        raise BadInput(f"this worker has {installed()}, the plan was made with {config.library}", where="repair.text",
                       fix="install the same version on all machines")
    from ftfy import TextFixerConfig

    names = {each.name for each in fields(config)} - {"unescape_html", "library"}
    entities: Any = {"auto": "auto", "always": True, "never": False}[config.unescape_html]
    chosen = {name: getattr(config, name) for name in names}
    return TextFixerConfig(unescape_html=entities, explain=False, **chosen)


@stage(
    reads={"id": TEXT, "text": TEXT}, writes={"id": TEXT, "text": TEXT},
    grain=Grain.MANY, load=open_fixer, extras=("web",), version="1",
)
def text(docs: pa.Table, config: Repair, fixer: Any) -> pa.Table:
    """Each text as ftfy mends it, under the same ``id``; one row a row."""
    texts = docs["text"].combine_chunks()
    texts = texts.chunk(0) if isinstance(texts, pa.ChunkedArray) and texts.num_chunks else texts
    rows = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
    if len(rows):
        offsets = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, 8 * texts.offset)
        data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
        look = rows[needs_a_look(data, offsets[:-1][rows], offsets[1:][rows], PLAIN)]
        mended = [mend(each, fixer) for each in texts.take(pa.array(look)).to_pylist()]
        mask = np.zeros(len(texts), dtype=np.bool_)
        mask[look] = True
        if len(look):
            texts = pa.compute.replace_with_mask(texts, pa.array(mask), pa.array(mended, TEXT))
    at = pa.array(rows, INT64)
    return pa.table({ROW: at, "id": docs["id"].take(at), "text": texts.take(at)})


def mend(whole: str, fixer: Any) -> str:
    """What ftfy makes of a text, given only the lines that are not plain."""
    import ftfy

    html = whole.find("<") if fixer.unescape_html == "auto" else -1
    no_entities = fixer._replace(unescape_html=False)
    lines = LINE.findall(whole)
    at = 0
    for i, line in enumerate(lines):
        if not PLAIN_LINE.fullmatch(line):
            lines[i] = ftfy.fix_text(line, no_entities if 0 <= html < at else fixer)
        at += len(line)
    return "".join(lines)


@njit(cache=True, nogil=True)
def needs_a_look(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64],
    plain: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Whether a text ``data[starts[i]:ends[i]]`` holds a byte that is not plain, bool (n,)."""
    found = np.zeros(len(starts), np.bool_)
    for i in range(len(starts)):
        for j in range(starts[i], ends[i]):
            if not plain[data[j]]:
                found[i] = True
                break
    return found
