"""A written mix as tokenised shards for other trainers, with its copies and its order.

    export("STORE/runs/RUN/mixes/color", "megatron", "tokenizer", "shards/color")

A written mix holds a row for each copy, in its order (docs/mix.md); so does what is made of it here. Any folder of
Parquet files with a column of texts will do; they are read in the order of their names. Spans and keys go along where
there are such columns, metadata where its column is named. The formats are those of curate/train/shards.py:
``megatron`` (``.bin`` and ``.idx``), ``olmo`` (``.npy`` and ``.csv.gz``), ``nanotron`` (``.ds`` with its index).

Cost: that of the tokenizer, 5 MB of text a second and worker, and twice the shards' size on disk while it goes on.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.errors import BadData, BadInput, MissingExtra
from curate.train import shards, tokenising
from curate.train.shards import KINDS as KINDS
from curate.train.shards import Shard


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        shards: files, with their documents and ids.
        documents: in all.
        tokens: ids in all, a separator a document included.
        identity: of the tokens; the same for every kind of shards.
    """

    shards: Sequence[Shard]
    documents: int
    tokens: int
    identity: str


def export(
    mix: str | Path, kind: str, tokenizer: str | Path, out: str | Path, *, name: str = "", text: str = "text",
    prefix: str | None = None, separator: int | None = None, shard_tokens: int = shards.SHARD_TOKENS, workers: int = 1,
) -> Exported:  # fmt: skip
    """Tokenise a mix and write it as shards into a new folder, whole or not at all.

    Args:
        mix: the folder of a written mix, or any Parquet file, folder or pattern on this machine.
        kind: one of KINDS.
        tokenizer: a directory with ``tokenizer.json``, or ``bytes``.
        out: the folder of the shards.
        name: of the dataset, in names of files; the mix's own without it.
        text: the column of texts.
        prefix: a column of metadata to put in front of each text.
        separator: the id that ends each document; None for the tokenizer's own.
        shard_tokens: ids a shard, at most, unless one document has more.
        workers: processes.

    Raises:
        BadInput: no mix, no tokenizer, a kind that does not exist, a folder that holds something.
        BadData: rows that cannot be tokenised, or a mask that the format cannot hold.
        MissingExtra: the tokenizer's package is not installed.
    """
    if kind not in KINDS:
        raise BadInput(f"there are no shards of kind {kind!r}", where="export", fix=f"use one of: {', '.join(KINDS)}")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} is there already", where="export", fix="name a new folder, or remove it")
    source = Path(mix)
    data = source / "data"
    where = data if data.is_dir() else mix
    try:
        files = tokenising.listed(where)
        tokenising.open_encoder(tokenizer, separator)
    except (FileNotFoundError, ValueError) as error:
        raise BadInput(str(error), where="export", fix="name a written mix and a tokenizer on this machine") from error
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"the package {error.name} is needed to open a tokenizer", where="export", fix="pip install 'curate[train]'"
        ) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tokens", dir=out.parent))
    try:
        tokens = tokenising.tokenise(
            files, tokenizer, folder, text=text, prefix=prefix, separator=separator, workers=workers
        )
        written = shards.write(
            kind, tokens, out, shard_tokens=shard_tokens, name=name or source.stem,
            tokenizer=str(tokenizer),
        )  # fmt: skip
        return Exported(written, tokens.documents, sum(s.tokens for s in written), tokens.identity())
    except ValueError as error:
        raise BadData(str(error), where=str(where), fix="mend the rows or columns named, and export again") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
