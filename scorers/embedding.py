"""Embeddings of documents by a sentence-transformers model from a local folder, for ``curate.semantic`` and neighbours.

    model = given("models/all-MiniLM-L6-v2")
    docs.then(embedding.embed, Embedding(dimensions=384), model=model)

A text is cut after ``max_tokens`` tokens: the vector says what its beginning means. Vectors have length 1. Nothing is
fetched: the folder holds weights, tokenizer, pooling and modules.json, as ``SentenceTransformer.save`` writes them.

Texts of a part are run in batches of similar length, so that little padding is computed. Padding is masked, but sums in
another order round otherwise: a vector moves by about 1e-6 with its neighbours in a batch, in float32.

Cost: on one CPU core about 10 ms a document of 256 tokens with MiniLM-L6; 4 bytes a dimension stored. Elsewhere: what
is done with the vectors (``curate.semantic``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.columns import FLOAT32, TEXT
from curate.errors import BadInput, MissingExtra, UnknownSetting
from curate.stage import Grain, Numerics, stage

PRECISIONS = ("float32", "bfloat16")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """How documents are embedded.

    Args:
        dimensions: numbers in an embedding; the model's own number.
        max_tokens: tokens of a text that are read, the model's special ones included; the model may read fewer.
        prompt: put before every text, for models that were trained with one.
        batch: texts run at a time.
        precision: of the weights and the arithmetic, ``"float32"`` or ``"bfloat16"``. Vectors are float32.
        device: ``"cpu"``, or ``"cuda"`` on workers with a GPU.
        threads: of the CPU; an engine already runs a task a core.
    """

    dimensions: int = 384
    max_tokens: int = 256
    prompt: str = ""
    batch: int = 32
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("device", DEVICES)):
            if getattr(self, name) not in known:
                raise UnknownSetting(
                    f"{name} is {getattr(self, name)!r}", where="Embedding", fix=f"use one of: {', '.join(known)}"
                )
        for name in ("dimensions", "max_tokens", "batch", "threads"):
            if getattr(self, name) < 1:
                raise UnknownSetting(f"{name} is {getattr(self, name)}", where="Embedding", fix="give 1 or more")


def open_model(config: Embedding, model: Path) -> Any:
    """The model in a folder, ready to embed.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        BadInput: the folder holds no such model, or one with another number of dimensions.
    """
    if find_spec("sentence_transformers") is None:
        raise MissingExtra(
            "embeddings need the package sentence-transformers, which is not installed",
            where="embedding.embed",
            fix="pip install 'curate[embed]'",
        )
    import torch
    from sentence_transformers import SentenceTransformer

    if not (model / "modules.json").is_file():
        raise BadInput(
            f"{model} holds no modules.json",
            where="embedding.embed, model=",
            fix="give a folder that SentenceTransformer.save wrote: model=given('folder')",
        )
    opened = SentenceTransformer(
        str(model),
        device=config.device,
        local_files_only=True,
        model_kwargs={"torch_dtype": torch.bfloat16 if config.precision == "bfloat16" else torch.float32},
    )
    opened.eval()
    opened.max_seq_length = min(config.max_tokens, opened.max_seq_length or config.max_tokens)
    found = len(opened.encode(["x"], show_progress_bar=False)[0])
    if found != config.dimensions:
        raise BadInput(
            f"the model in {model} gives {found} dimensions, the settings say {config.dimensions}",
            where="embedding.embed, model=",
            fix=f"Embedding(dimensions={found})",
        )
    return opened


def _writes(config: Embedding) -> Mapping[str, pa.DataType]:
    return {"embedding": pa.list_(FLOAT32, config.dimensions)}


@stage(
    reads={"text": TEXT},
    writes=_writes,
    grain=Grain.EACH,
    load=open_model,
    extras=("embed",),
    numerics=Numerics(
        device="the setting device",
        dtype="the setting precision",
        threads=1,
        batch="rows of the part, by length, as many as the setting batch",
    ),
    version="1",
)
def embed(docs: pa.Table, config: Embedding, model: Any) -> pa.Table:
    """The embedding of each text, float32 of length 1; null where the text is null or only white space."""
    from curate.train.hardware import threads

    texts = docs["text"].to_pylist()
    rows = [i for i, text in enumerate(texts) if text and text.strip()]
    vectors = np.zeros((len(texts), config.dimensions), dtype=np.float32)
    if rows:
        with threads(config.threads):
            found = model.encode(
                [config.prompt + texts[i] for i in rows],
                batch_size=config.batch,
                show_progress_bar=False,
                convert_to_tensor=True,
            )
        found = found.float().cpu().numpy().astype(np.float64)
        vectors[rows] = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    missing = np.ones(len(texts), dtype=bool)
    missing[rows] = False
    lists = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.ravel(), FLOAT32), config.dimensions, mask=pa.array(missing)
    )
    return pa.table({"embedding": lists})
