"""Which inputs are arms, and what each is for: baselines, mixes, and the controls of a mix."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from curate.errors import BadPlan

BASELINES = ("random", "random'")
CONTROLS = {"length_matched": "length", "source_matched": "source mix", "conditional_only": None}  # what each explains


def arms_of(inputs: Mapping[str, Path]) -> tuple[list[str], dict[str, str]]:
    """The mixes, and for each control arm the mix that it controls."""
    names = [name.partition(":")[2] for name in sorted(inputs) if name.startswith("arm:")]
    for name in BASELINES:
        if name not in names:
            raise BadPlan(f"a trial without the arm {name!r}", where="trial inputs", fix=f"give an input 'arm:{name}'")
    kind = {name: name.partition(":")[0] for name in names}
    mixes = [name for name in names if name not in BASELINES and kind[name] not in CONTROLS]
    if not mixes:
        raise BadPlan("a trial without a mix", where="trial inputs", fix="give an input 'arm:NAME'")
    controls = {}
    for name in names:
        if kind[name] in CONTROLS:
            mix = name.partition(":")[2] or (mixes[0] if len(mixes) == 1 else "")
            if mix not in mixes:
                raise BadPlan(
                    f"the control {name!r} does not say which mix it controls", where="trial inputs",
                    fix=f"name it '{kind[name]}:MIX', MIX one of: {', '.join(mixes)}",
                )  # fmt: skip
            controls[name] = mix
    return mixes, controls


def trained(instrument: str, mixes: Sequence[str], controls: Mapping[str, str]) -> list[str]:
    """The arms of an instrument, in the order of training; controls only on the cheap one."""
    return [*BASELINES, *mixes, *(controls if instrument == "ngram" else ())]
