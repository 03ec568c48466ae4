"""What a trial is asked to do: its instruments, their budgets, and the difference worth having."""

import importlib.util
from dataclasses import dataclass

from curate.errors import BadPlan, MissingExtra

INSTRUMENTS = ("ngram", "transformer")
UNIT = {"ngram": "bytes", "transformer": "tokens"}
ENOUGH = {"ngram": 5, "transformer": 3}  # seeds below which an instrument gives no verdict


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Settings of a trial.

    Args:
        instruments: which are run; the first decides, the others must agree in sign.
        subsamples: chunks an arm for the n-gram; a verdict needs 5.
        ngram_bytes: bytes of each.
        seeds: transformer runs an arm; a verdict needs 3. Seed s fixes weights and order, and takes chunk s.
        tokens: tokens of each run.
        delta: the smallest difference worth having, percent of the baseline's bits per byte.
        split: the target's documents to score: input ``target:SPLIT``.
        documents: the most of them that are scored, from the first on; at least 50.
        width: of the transformer's residual stream.
        layers: of the transformer.
        heads: attention heads.
        hidden: width inside the SwiGLU.
        context: tokens of a training window.
        batch: windows a step.
        lr: peak learning rate, the same for all arms; tune it on random alone.
        resamples: of the bootstrap over documents.
        seed: begins the numbering of weights and orders, and seeds the bootstrap.
    """

    instruments: tuple[str, ...] = INSTRUMENTS
    subsamples: int = 5
    ngram_bytes: int = 2_000_000
    seeds: int = 3
    tokens: int = 300_000
    delta: float = 3.0
    split: str = "test"
    documents: int = 1_000
    width: int = 64
    layers: int = 2
    heads: int = 2
    hidden: int = 192
    context: int = 64
    batch: int = 16
    lr: float = 5e-3
    resamples: int = 10_000
    seed: int = 0

    def repeats(self, instrument: str) -> int:
        """Chunks an arm for an instrument."""
        return self.subsamples if instrument == "ngram" else self.seeds

    def budget(self, instrument: str) -> int:
        """What is asked for each chunk, in the instrument's unit."""
        return self.ngram_bytes if instrument == "ngram" else self.tokens


def sample_bytes(config: Trial) -> int:
    """Bytes of text that an arm's sample should hold so that no budget has to shrink.

    Twice what is trained on, because random' gives up what random has used already, with room for the documents that
    are cut at the end of a chunk; a token is taken as 4 bytes.
    """
    each = {"ngram": config.ngram_bytes, "transformer": 4 * config.tokens}
    return int(2.2 * max(config.repeats(name) * each[name] for name in config.instruments))


def check(config: Trial) -> None:
    """Refuse settings that cannot give a verdict, before anything is read."""
    unknown = [name for name in config.instruments if name not in INSTRUMENTS]
    if unknown or not config.instruments or len(set(config.instruments)) < len(config.instruments):
        raise BadPlan(
            f"instruments {config.instruments!r} of a trial", where="Trial.instruments",
            fix=f"some of: {', '.join(INSTRUMENTS)}",
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
