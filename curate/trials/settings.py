"""What a trial is asked to do: its instruments, their budgets, the difference worth having; and presets by name."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from curate.errors import BadPlan, MissingExtra, UnknownSetting

INSTRUMENTS = ("ngram", "transformer")
UNIT = {"ngram": "bytes", "transformer": "tokens"}
ENOUGH = {"ngram": 5, "transformer": 3}  # seeds below which an instrument gives no verdict
PRIMARY = ("text", "tasks")
DEVICES = ("cpu", "cuda")
MOST_EPOCHS = 16  # beyond it, repeated text is worth next to nothing (Muennighoff et al. 2023)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Settings of a trial.

    Args:
        instruments: which are run; the first decides and carries the controls, the others must agree in sign.
        primary: what decides: ``text``, the bits per byte of the targets' documents, or ``tasks``, those of the gold
            answers of the input ``tasks``. The other, where it is given, is reported beside it.
        subsamples: chunks an arm for the n-gram; a verdict needs 5.
        ngram_bytes: bytes of each.
        curve: whether the n-gram also learns from a quarter, half and twice as much of the baseline, so that the gain
            can be read as a multiple of data.
        seeds: transformer runs an arm; a verdict needs 3. Seed s fixes weights and order, and takes chunk s.
        tokens: tokens of each run.
        final_tokens: tokens of the training that the mix is meant for. Each arm's text is then cut so that it is
            repeated in the trial as often as it would be there, 16 times at most. None: everything is read once.
        share: of a run's tokens that come from the arm, the rest from the input ``replay``; below 1 only with a
            ``base`` to start from.
        told: arms that are told what they read (curate.trials.told): the column ``metadata`` in front of documents,
            and control tokens in front of spans; the others are not.
        controls: roles of spans that stand behind a control token.
        ask: one of them: arms with control tokens are scored behind it.
        cooldown: of the tokens of an arm with metadata, the share, at the end, that it reads without.
        delta: the smallest difference worth having, percent of the baseline's bits per byte.
        level: of all verdicts together that are drawn on these test sets; the ledger raises it after the first use.
        split: the target's documents to score: input ``target:SPLIT``.
        documents: the most of them that are scored, from the first on; at least 50.
        beside: the most documents that are scored of a transfer target or a guard.
        items: the most items of a task that are scored, evenly over its file.
        width: of the transformer's residual stream.
        layers: of the transformer.
        heads: attention heads.
        hidden: width inside the SwiGLU.
        context: tokens of a training window; with a ``base`` too.
        batch: windows a step.
        qk_norm: whether queries and keys are normalised, without which high rates may diverge in larger shapes.
        lr: peak learning rate, the same for all arms; tune it on random alone.
        embedding_lr: how many times that for embedding and head.
        warmup: share of the steps in which the rate rises.
        decay: share of the steps, the last ones, in which it falls to zero; 1 is an annealing run.
        average: weights are averaged over so many states of the decay.
        device: ``cpu`` or ``cuda``; it decides the words of a verdict too.
        precision: ``float32`` or ``bfloat16``.
        compile: whether the transformer is compiled before it trains.
        resamples: of the bootstrap over documents.
        seed: begins the numbering of weights and orders, and seeds the bootstrap.
    """

    instruments: tuple[str, ...] = INSTRUMENTS
    primary: str = "text"
    subsamples: int = 5
    ngram_bytes: int = 2_000_000
    curve: bool = True
    seeds: int = 3
    tokens: int = 300_000
    final_tokens: int | None = None
    share: float = 1.0
    told: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    ask: str = ""
    cooldown: float = 0.1
    delta: float = 3.0
    level: float = 0.95
    split: str = "test"
    documents: int = 1_000
    beside: int = 200
    items: int = 500
    width: int = 64
    layers: int = 2
    heads: int = 2
    hidden: int = 192
    context: int = 64
    batch: int = 16
    qk_norm: bool = False
    lr: float = 5e-3
    embedding_lr: float = 4.0
    warmup: float = 0.05
    decay: float = 0.2
    average: int = 1
    device: str = "cpu"
    precision: str = "float32"
    compile: bool = False
    resamples: int = 10_000
    seed: int = 0

    @staticmethod
    def preset(name: str, **changes: Any) -> "Trial":
        """One of PRESETS, with changes.

        Raises:
            UnknownSetting: a preset that does not exist.
        """
        if name not in PRESETS:
            raise UnknownSetting(
                f"a trial has no preset {name!r}", where="Trial.preset", fix=f"one of: {', '.join(PRESETS)}"
            )
        return replace(PRESETS[name], **changes)

    def repeats(self, instrument: str) -> int:
        """Chunks an arm for an instrument."""
        return self.subsamples if instrument == "ngram" else self.seeds

    def budget(self, instrument: str) -> int:
        """What is asked for each chunk, in the instrument's unit."""
        return self.ngram_bytes if instrument == "ngram" else self.tokens


# On a CPU, two cores. `smoke` only shows that all is in place; `quick` takes up to 3 minutes, `cpu` up to 8.
_GPU = Trial(
    instruments=("transformer",), curve=False, delta=0.3, context=1024, batch=64, average=4, device="cuda",
    precision="bfloat16", compile=True, qk_norm=True, embedding_lr=1.0,
)  # fmt: skip
PRESETS: Mapping[str, Trial] = {
    "smoke": Trial(instruments=("ngram",), subsamples=2, ngram_bytes=200_000, documents=200, curve=False),
    "quick": Trial(instruments=("ngram",)),
    "cpu": Trial(),
    # On one H200 in ten minutes; the shapes and rates of curate.train.presets. Weights that count, 12 layers width² +
    # width vocabulary: 10.5, 20 and 34 million.
    "screen": replace(_GPU, width=256, layers=8, heads=4, hidden=704, tokens=70_000_000, lr=1e-2),
    "standard": replace(_GPU, width=384, layers=8, heads=6, hidden=1024, tokens=55_000_000, lr=8e-3),
    "deep": replace(_GPU, width=512, layers=8, heads=8, hidden=1408, tokens=65_000_000, lr=6e-3),
    "curve": replace(_GPU, width=384, layers=8, heads=6, hidden=1024, tokens=40_000_000, lr=8e-3, curve=True),
    # From a checkpoint of the constant phase: a third of the mix, and the rate falls to zero (Nemotron used 34 %).
    "anneal": replace(_GPU, tokens=50_000_000, lr=1e-3, share=0.34, warmup=0.0, decay=1.0, average=1),
}


def vocabulary(config: Trial) -> int:
    """How many tokens the BPE of a trial should have, so that the head is not most of the model."""
    return 2_048 if config.width < 256 else 16_384


def sample_bytes(config: Trial) -> int:
    """Bytes of text that an arm's sample should hold so that no budget has to shrink.

    Twice what is trained on, because random' gives up what random has used already, with room for the documents that
    are cut at the end of a chunk; a token is taken as 4 bytes.
    """
    each = {"ngram": config.ngram_bytes, "transformer": 4 * config.tokens}
    return int(2.2 * max(config.repeats(name) * each[name] for name in config.instruments))


def check(config: Trial) -> None:
    """Refuse settings that cannot give a verdict, before anything is read.

    Raises:
        BadPlan: an unknown instrument, metric or device, fewer than two seeds, shares and levels that are none.
        MissingExtra: the transformer without its packages.
    """
    unknown = [name for name in config.instruments if name not in INSTRUMENTS]
    if unknown or not config.instruments or len(set(config.instruments)) < len(config.instruments):
        raise BadPlan(
            f"instruments {config.instruments!r} of a trial", where="Trial.instruments",
            fix=f"some of: {', '.join(INSTRUMENTS)}",
        )  # fmt: skip
    for value, known, name in ((config.primary, PRIMARY, "primary"), (config.device, DEVICES, "device")):
        if value not in known:
            raise BadPlan(f"{name} {value!r} of a trial", where=f"Trial.{name}", fix=f"one of: {', '.join(known)}")
    if not (0 < config.share <= 1 and 0.5 < config.level < 1 and config.delta > 0):
        raise BadPlan(
            f"share {config.share}, level {config.level}, delta {config.delta} of a trial", where="Trial",
            fix="share above 0 and at most 1, level between .5 and 1, delta above 0",
        )  # fmt: skip
    if config.told and "ngram" in config.instruments:
        raise BadPlan(
            f"an n-gram cannot be told what it reads, and the arms {', '.join(config.told)} are", where="Trial.told",
            fix='instruments=("transformer",)',
        )  # fmt: skip
    if config.told and (config.share < 1 or config.final_tokens is not None):
        raise BadPlan(
            "arms that are told what they read, together with replay or repeated text", where="Trial.told",
            fix="leave share at 1 and final_tokens at None",
        )  # fmt: skip
    if (config.ask and config.ask not in config.controls) or not 0 < config.cooldown < 1:
        raise BadPlan(
            f"ask {config.ask!r} of the controls {config.controls}, cooldown {config.cooldown} of a trial",
            where="Trial", fix="ask for one of the controls; a cooldown above 0 and below 1",
        )  # fmt: skip
    if config.final_tokens is not None and config.final_tokens < 1:
        raise BadPlan(
            f"final_tokens {config.final_tokens}", where="Trial.final_tokens",
            fix="the tokens of the training that the mix is meant for, at least 1; or leave it out",
        )  # fmt: skip
    for name in config.instruments:
        if config.repeats(name) < 2:
            raise BadPlan(
                f"{config.repeats(name)} run of the {name} an arm: noise cannot be measured", where="Trial",
                fix=f"at least 2; a verdict needs {ENOUGH[name]}",
            )  # fmt: skip
    if "transformer" in config.instruments:
        for package in ("torch", "tokenizers"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtra(
                    f"the transformer of a trial needs {package}", where="Trial.instruments",
                    fix='pip install "curate[train]", or instruments=("ngram",)',
                )  # fmt: skip
