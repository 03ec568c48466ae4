"""What a trial will be able to see, said before it trains."""

from collections.abc import Mapping, Sequence
from typing import Any

from curate.train import statistics
from curate.train.noise import Registry, Setting
from curate.trials.settings import UNIT, Trial

# Noise assumed where none is on record: SD of the A/A difference in percent at a budget, falling with its square root;
# and SD of one document's difference. The transformer's is that of 18 comparisons by one target (benchmarks/noise.py).
EXPECTED = {"ngram": (3.0, 800_000), "transformer": (1.8, 300_000)}
EXPECTED_ITEM = 5.0


def foresight(config: Trial, jobs: Sequence[Mapping[str, Any]], documents: int) -> dict[str, dict[str, float]]:
    """What can be seen, said before training: the minimum detectable effect of each instrument, percent.

    It rests on noise that was measured elsewhere (curate.train.noise, else ``EXPECTED``), scaled to these budgets.
    """
    out = {}
    for name in config.instruments:
        budget = next(job["budget"] for job in jobs if job["instrument"] == name)
        noise = _noise(name, budget)
        n = config.repeats(name)
        effect = statistics.detectable(
            noise * (1.5 / 2) ** 0.5, n, 2 * (n - 1), EXPECTED_ITEM / documents**0.5, documents
        )
        out[name] = {"detectable": effect, "noise": noise, "seeds": n, "budget": budget, "asked": config.budget(name)}
    return out


def _noise(name: str, budget: int) -> float:
    """SD of the A/A difference to plan with, percent: what is on record, else what is assumed."""
    setting = Setting(metric="bpb", instrument=name, parameters=0, budget=budget, unit=UNIT[name], hardware="any")
    on_record = Registry.open().expected(setting)
    if on_record is not None:
        return on_record.sd
    noise, at = EXPECTED[name]
    return float(noise * (at / budget) ** 0.5)


def foresight_lines(seen: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The same as lines for the terminal."""
    out = []
    for name, x in seen.items():
        cut = f" (asked: {x['asked']:,.0f}; the smallest arm allows no more)" if x["budget"] < x["asked"] else ""
        out.append(
            f"{name}: {x['seeds']} runs an arm of {x['budget']:,.0f} {UNIT[name]}{cut}; the minimum detectable effect "
            f"is {x['detectable']:.1f} % (80 % power, A/A noise of {x['noise']:.1f} % assumed)"
        )
    return out
