"""One way to open a model, whoever wrote its directory.

Three kinds of directories hold a causal language model: what ``checkpoint.save`` writes (weights by our own names),
what ``exporting.export`` writes (the same decoder in the files of transformers), and what transformers writes. The
first two give a ``Decoder``, which is the faster one; the third a ``HuggingFace``, which offers the same.
"""

from pathlib import Path

from curate.train import checkpoint, exporting, huggingface
from curate.train.directory import inspect, is_huggingface
from curate.train.huggingface import HuggingFace
from curate.train.model import Decoder

__all__ = ["is_huggingface", "is_model", "open_any", "separator_of"]


def open_any(
    path: Path, device: str = "cpu", dtype: str = "float32", *, context: int | None = None, most: int | None = None
) -> Decoder | HuggingFace:
    """Open a model on a device.

    Args:
        path: a directory of one of the three kinds.
        device: ``cpu`` or ``cuda``.
        dtype: of the weights of a model of transformers (a ``Decoder``'s are float32 always).
        context: positions that will be used; a ``Decoder`` has as many as it was made with, whether used or not.
        most: positions to use at most of a model of transformers, where ``context`` is None and it has more.

    Raises:
        FileNotFoundError: no such directory, or a file of it is missing.
        ValueError: a directory that cannot be used, see ``directory.inspect``; or a context that it has not.
    """
    if is_model(path) and not is_huggingface(path):
        model = checkpoint.load(path, device)
    elif exporting.is_export(path):
        model = exporting.load(path, device)
    else:
        if context is None and most is not None:
            context = min(inspect(path).context, most)
        return huggingface.open_model(path, device, dtype, context=context)
    if context is not None and context > model.config.context:
        raise ValueError(
            f"the model in {path} has {model.config.context} positions; a context of {context} is impossible, use less"
        )
    return model


def is_model(path: Path) -> bool:
    """Whether a directory holds weights and a configuration of one of the three kinds (they are not read)."""
    if is_huggingface(path):
        return True
    return (path / checkpoint.CONFIG).is_file() and (path / checkpoint.WEIGHTS).is_file()


def separator_of(path: Path) -> int:
    """The id of the token that stands before each document.

    Raises:
        FileNotFoundError: no such directory, or a file of it is missing.
        ValueError: it names none.
    """
    if is_model(path) and not is_huggingface(path):
        kept = checkpoint.read_about(path).get("separator")
        if kept is None:
            raise ValueError(f"{path}/config.json names no separator; save it with checkpoint.save(separator=...)")
        return int(kept)
    return inspect(path).separator
