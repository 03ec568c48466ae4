"""What a training run reads: batches by step number.

A *feed* answers one question, which rows of tokens a step sees, and answers it from the step's number alone. So a run
needs no state of its data to continue at any step, every rank of a distributed run can ask for its share, and a branch
of a run can read on in another feed. Packing, orders, curricula and metadata conditioning are all feeds.

    step -> Batch(ids, documents, weights)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Batch:
    """The rows of one step; position i of a row predicts position i + 1.

    Args:
        ids: integer (rows, width + 1), token ids. The width may differ between steps.
        documents: int32 (rows, width + 1), which document of its row a token belongs to: attention and positions stay
            inside a document, and a token is not predicted from another document's. Padding is -1. None where a row is
            one context, whatever borders it crosses.
        weights: float32 (rows, width), how much each predicted token counts in the loss; 0 where it is not trained on
            (padding, metadata, masked spans). None for all alike.
    """

    ids: np.ndarray
    documents: np.ndarray | None = None
    weights: np.ndarray | None = None

    @property
    def tokens(self) -> int:
        """Tokens that count in the loss."""
        if self.weights is not None:
            return int((self.weights > 0).sum())
        return self.ids.shape[0] * (self.ids.shape[1] - 1)


class Feed(Protocol):
    """Batches by step; the same step always gives the same batch."""

    @property
    def steps(self) -> int:
        """How many steps there are."""
        ...

    @property
    def epochs(self) -> float:
        """How often the text is read in all of them, on average."""
        ...

    def batch(self, step: int) -> Batch:
        """The batch of a step, 0 to steps - 1."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """What decides every batch, JSON-able: settings, seed, and a hash of the ids. Two feeds with equal identities
        give equal batches; a run does not continue from the checkpoint of another feed.
        """
        ...
