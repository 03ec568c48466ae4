"""Shapes to start from, 0.1 million to 1.2 billion weights, each with a learning rate and a batch.

    preset = PRESETS["standard"]
    model = Decoder(preset.config(vocab=16_384))

Where the numbers come from:

- ``smoke`` and ``cpu`` are for one core: bytes at width 64 (seconds; for tests), and the shape that reaches the lowest
  bits per byte in 10 to 15 CPU-seconds (model.Config's defaults, measured here).
- ``1M`` and ``5M`` are the widths 128 and 256 at which the trainer's speed on a CPU is measured
  (benchmarks/trainer.py).
- ``screen``, ``standard`` and ``deep`` are for trials in minutes on one large GPU: 8 layers, a vocabulary of 16,384 so
  that the head is not most of the model, about 3 tokens a weight.
- ``124M`` has the layers, width and heads of GPT-2 small (Radford et al. 2019), as nanoGPT and llm.c train it;
  ``350M`` and ``760M`` those of GPT-3 Medium and Large (Brown et al. 2020, table 2.1), with heads of 64 and 128;
  ``1.2B`` those of OLMo-1B (Groeneveld et al. 2024). Their SwiGLU is about 8/3 of the width (OLMo: 4), which has the
  weights of a GELU layer of 4; the vocabulary is GPT-2's, rounded up to 50,304.
- From ``124M`` on, the learning rate is 0.0047 (N / 108M)^(-1/3) and the batch 160 (N / 108M)^(2/3) sequences of 2,048
  tokens, N being the weights of the layers: the fit of Porian et al. (2024) as the OLMo ladder uses it (Bhagia et al.
  2024). It gives the 1.4e-2 and 4.2e-3 that DataDecide (Magnusson et al. 2025) trains its 4M and 150M with. Below, the
  rates are between 1e-2 at width 256 and 6e-3 at 512, with batches for runs of some hundred to some thousand steps.

Queries and keys are normalised from ``screen`` on, since such rates may diverge without. Betas (0.9, 0.95), weight
decay 0.1 and clipping at 1 are the defaults of loop.Training. None of the shapes for a GPU has been trained here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from curate.train.model import Config


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A shape and what to start its training with.

    Args:
        shape: the decoder's, with the vocabulary that it is meant for.
        lr: peak learning rate of the matrices.
        embedding_lr: how many times that for embedding and head.
        batch: windows of a context a step.
        tokens: of a run; about 20 a weight from 124M on (Hoffmann et al. 2022).
    """

    shape: Config
    lr: float
    embedding_lr: float
    batch: int
    tokens: int

    def config(self, vocab: int | None = None) -> Config:
        """The shape, with another vocabulary if one is given."""
        return self.shape if vocab is None else replace(self.shape, vocab=vocab)

    @property
    def steps(self) -> int:
        """Steps of a run."""
        return -(-self.tokens // (self.batch * self.shape.context))


def _large(width: int, layers: int, heads: int, hidden: int, tokens: int) -> Preset:
    """A shape whose learning rate and batch follow from its weights (see above); the batch in whole windows of 8."""
    context = 2048 if width >= 2048 else 1024
    size = layers * (4 * width**2 + 3 * width * hidden) / 108e6
    shape = Config(
        vocab=50_304, width=width, layers=layers, heads=heads, hidden=hidden, context=context, qk_norm=True
    )
    windows = 8 * round(160 * size ** (2 / 3) * 2048 / context / 8)
    lr = float(f"{0.0047 * size ** (-1 / 3):.1e}")
    return Preset(shape=shape, lr=lr, embedding_lr=1.0, batch=windows, tokens=tokens)


def _trial(width: int, heads: int, hidden: int, lr: float, batch: int, tokens: int) -> Preset:
    """A shape for trials on a GPU."""
    shape = Config(vocab=16_384, width=width, layers=8, heads=heads, hidden=hidden, context=1024, qk_norm=True)
    return Preset(shape=shape, lr=lr, embedding_lr=1.0, batch=batch, tokens=tokens)


_SMALL = {
    "smoke": Preset(
        shape=Config(vocab=257, width=64, layers=2, heads=2, hidden=192, context=256),
        lr=5e-3, embedding_lr=4.0, batch=16, tokens=400_000,
    ),
    "cpu": Preset(shape=Config(vocab=2048), lr=5e-3, embedding_lr=4.0, batch=16, tokens=500_000),
    "1M": Preset(
        shape=Config(vocab=4096, width=128, layers=4, heads=4, hidden=352, context=256),
        lr=5e-3, embedding_lr=4.0, batch=16, tokens=10_000_000,
    ),
    "5M": Preset(
        shape=Config(vocab=8192, width=256, layers=4, heads=4, hidden=704, context=512),
        lr=5e-3, embedding_lr=2.0, batch=16, tokens=50_000_000,
    ),
}  # fmt: skip
PRESETS: Mapping[str, Preset] = MappingProxyType({
    **_SMALL,
    "0.1M": _SMALL["smoke"],
    "screen": _trial(256, 4, 704, 1e-2, 64, 70_000_000),
    "standard": _trial(384, 6, 1024, 8e-3, 64, 55_000_000),
    "deep": _trial(512, 8, 1408, 6e-3, 64, 65_000_000),
    "124M": _large(768, 12, 12, 2048, 2_500_000_000),
    "350M": _large(1024, 24, 16, 2816, 7_000_000_000),
    "760M": _large(1536, 24, 12, 4096, 15_000_000_000),
    "1.2B": _large(2048, 16, 16, 8192, 24_000_000_000),
})  # fmt: skip
