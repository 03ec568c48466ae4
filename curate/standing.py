"""What a verdict is worth in the company of all others on the same test documents: the store's ledger.

Verdicts on the target's test split are put on record in ``STORE/ledger.jsonl`` when a run is complete, and the run says
how each stands among all that were given on those documents: how many there are, its p adjusted by Holm for all of
them, and its interval at the level that a new verdict would need. Verdicts on a validation split choose, and are not
recorded. A store behind a URL keeps no ledger, because it cannot be added to safely; the run says so.

Elsewhere: the ledger itself (curate/train/ledger.py); the verdict (trial.py).
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from curate.store import Store
from curate.train.ledger import Ledger, Verdict
from curate.train.statistics import Contrast, at

FILE = "ledger.jsonl"
DIRECTIONS = ("closer", "farther", "better", "worse")


def settle(store: Store, folder: str, manifest: Mapping[str, Any]) -> None:
    """Put a run's verdicts on record, and beside each trial's conclusion as ``standing``: mix to what is known."""
    for label, trial in manifest["trials"].items():
        tests = sorted(trial["test_sets"].values())
        if trial["settings"]["split"] != "test" or not tests:
            continue
        if not store.local:
            trial["standing"] = {}
            continue
        ledger = Ledger(Path(store.full(FILE)))
        name = f"{folder}, {label}"
        first = next(iter(trial["instruments"].values()))
        contrasts = {mix: against["random"] for mix, against in first["against"].items()}
        given = [
            Verdict(
                mix=mix, test_sets=tuple(tests), verdict=verdict["verdict"], estimate=contrasts[mix]["estimate"],
                low=contrasts[mix]["low"], high=contrasts[mix]["high"], level=contrasts[mix]["level"],
                p=contrasts[mix]["p"], directional=verdict["verdict"].startswith(DIRECTIONS),
            )
            for mix, verdict in trial["verdicts"].items()
        ]  # fmt: skip
        ledger.record(name, given)
        trial["standing"] = {v.mix: standing(ledger, name, v, contrasts[v.mix], len(given)) for v in given}


def standing(ledger: Ledger, trial: str, verdict: Verdict, contrast: Mapping[str, Any], mixes: int) -> dict[str, Any]:
    """A verdict among all on its test sets, the most used of which counts."""
    test = max(verdict.test_sets, key=ledger.uses)
    of_all = ledger.standing(test)
    mine = next(s for s in of_all if s.trial == trial and s.verdict.mix == verdict.mix)
    level = ledger.level(verdict.test_sets, mixes=mixes, trial=trial)
    names = {field.name for field in fields(Contrast)}
    widened = at(Contrast(**{k: v for k, v in contrast.items() if k in names}), level)
    before = ledger.uses(test, but=trial)
    out = {
        "verdicts_before": before,
        "adjusted_p": mine.adjusted,
        "stands": mine.stands,
        "level": level,
        "interval": [widened.low, widened.high],
    }
    return out | {"sentence": sentence(verdict, out)}


def sentence(verdict: Verdict, found: Mapping[str, Any]) -> str:
    """The same in words; empty for the first verdict on a test set, which is what it says it is."""
    before = found["verdicts_before"]
    if not before:
        return ""
    times = "once" if before == 1 else f"{before} times"
    low, high = found["interval"]
    said = (
        f"{verdict.mix}: these test documents were used {times} before; at the level that is left "
        f"({100 * found['level']:.4g} %) the interval is {low:+.2f} to {high:+.2f}"
    )
    if not verdict.directional:
        return f"{said}."
    p = f"(p {found['adjusted_p']:.3g} by Holm)"
    if found["stands"]:
        return f"{said}; among all verdicts on them this one stands {p}."
    return (
        f"{said}; among all verdicts on them this one does not stand {p}. Choose on validation documents, and keep the "
        "test documents for the last."
    )
