"""The settings of a training run and its result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curate.train.schedule import Schedule

OPTIMIZERS = ("adamw", "muon")
# What may change between two sessions of one run: none of it decides more than the order of a sum.
FREE = ("checkpoint_every", "keep_every", "line", "parallel")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained. The defaults suit the default shape on a CPU.

    Args:
        tokens: tokens to predict, rounded up to whole steps; None for whole epochs. More than the text has means that
            it is read again. (``train`` only: a feed has its own steps.)
        epochs: how often the text is read, where ``tokens`` is None. (``train`` only.)
        batch: windows a step. (``train`` only.)
        lr: peak learning rate of the matrices.
        embedding_lr: how many times that for embedding and head.
        schedule: ``wsd`` or ``cosine`` (schedule.py).
        warmup: share of the steps in which the rate rises.
        decay: share of the steps, the last ones, in which it falls (``wsd``).
        floor: share of the peak towards which it falls.
        optimizer: ``adamw``, or ``muon`` for the matrices and AdamW for the rest (optim.py).
        muon_momentum: of Muon.
        weight_decay: of matrices, as in AdamW.
        betas: of AdamW.
        clip: largest norm of a gradient.
        z_loss: weight of the square of the log of the softmax's sum, which keeps logits from drifting (Chowdhery et al.
            2022, section 5; 1e-4 there), where the model offers it.
        average: over how many states near the end of the decay the weights are averaged; 1 for the last alone.
        micro: at most so many tokens (rows times width) in one forward pass; a batch, or a rank's share of it, that is
            larger is computed in parts, with the same result. None for one pass.
        recompute: keep no activations inside a layer and compute them again on the way back, where the model can.
        precision: ``float32`` or ``bfloat16`` (hardware.py).
        device: ``cpu`` or ``cuda``.
        threads: of torch on a CPU; results repeat for the same number only.
        compile: translate the model with torch.compile: 15 to 50 seconds first, then 1.2 to 1.5 times as fast; ``auto``
            for where the run is long enough (compiling.py).
        parallel: ``ddp`` or ``fsdp``, on several ranks (distributed.py).
        checkpoint_every: steps between checkpoints, where one is asked for.
        keep_every: steps between checkpoints of the constant phase that stay, to branch from: NAME.step-N.safetensors
            beside NAME.safetensors. None for none.
        line: steps a line of metrics.
    """

    tokens: int | None = None
    epochs: float = 1.0
    batch: int = 16
    lr: float = 5e-3
    embedding_lr: float = 4.0
    schedule: str = "wsd"
    warmup: float = 0.05
    decay: float = 0.2
    floor: float = 0.0
    optimizer: str = "adamw"
    muon_momentum: float = 0.95
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    z_loss: float = 0.0
    average: int = 1
    micro: int | None = None
    recompute: bool = False
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 1
    compile: bool | str = False
    parallel: str = "ddp"
    checkpoint_every: int = 200
    keep_every: int | None = None
    line: int = 10

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer {self.optimizer!r} does not exist; use one of: {', '.join(OPTIMIZERS)}")
        counts = (self.average, self.line, self.checkpoint_every, self.keep_every, self.micro)
        if any(count is not None and count < 1 for count in counts):
            raise ValueError(f"{self}: average, line, micro, checkpoint_every and keep_every are at least 1")

    def steps(self, context: int, windows: int) -> int:
        """Steps of a run over a text of so many windows."""
        asked = self.tokens if self.tokens is not None else self.epochs * windows * context
        return max(1, -(-int(asked) // (self.batch * context)))

    def over(self, steps: int) -> Schedule:
        """The schedule of a run of so many steps."""
        return Schedule(
            steps=steps, warmup=self.warmup * steps, decay=self.decay * steps, shape=self.schedule, floor=self.floor
        )


@dataclass(frozen=True, kw_only=True)
class Result:
    """A trained model and how it went.

    Args:
        model: on the device it was trained on.
        losses: mean nats of each step's tokens, float32 (steps,), those before an interruption included.
        norms: of each step's gradient before clipping, float32 (steps,).
        tokens: tokens that counted in the loss, in all.
        epochs: how often the text was read.
        seconds: wall-clock seconds, of this process.
        cpu_seconds: CPU seconds, of this process.
        tokens_per_second: by the wall clock, of this process.
        tokens_per_cpu_second: the same by CPU time.
        mfu: share of the device's peak arithmetic that was used, by the model's ``flops_per_token`` and the tokens that
            counted (hardware.py); None where the peak is not known.
        evaluations: steps done, and what ``evaluate`` gave there.
    """

    model: Any
    losses: np.ndarray
    norms: np.ndarray
    tokens: int
    epochs: float
    seconds: float
    cpu_seconds: float
    tokens_per_second: float
    tokens_per_cpu_second: float
    mfu: float | None = None
    evaluations: Mapping[int, np.ndarray] = field(default_factory=dict)

    def tail(self, share: float = 0.1) -> float:
        """Mean loss over the last steps, a share of all."""
        return float(self.losses[-max(1, int(share * len(self.losses))) :].mean(dtype=np.float64))

    @property
    def evaluation(self) -> np.ndarray:
        """The mean of the evaluations, float64."""
        return np.asarray(np.stack(list(self.evaluations.values())).mean(axis=0, dtype=np.float64))

