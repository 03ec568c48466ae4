"""Which inputs are arms, and what each is for: baselines, mixes, controls, inverses, references."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from curate.errors import BadPlan

BASELINES = ("random", "random'")
CONTROLS = {"length_matched": "length", "source_matched": "source mix", "conditional_only": None}  # what each explains
INVERSE = "inverse"
REFERENCE = "reference"
RESCORED = 3  # mixes of one method from which on something is said of the method


@dataclass(frozen=True)
class Arms:
    """What is trained on.

    Args:
        mixes: those that are judged.
        controls: control arm to the mix that it controls.
        inverses: arm of the worst documents to the mix of the best.
        references: arms that are shown beside the mixes.
    """

    mixes: tuple[str, ...]
    controls: Mapping[str, str]
    inverses: Mapping[str, str]
    references: tuple[str, ...]

    @property
    def methods(self) -> dict[str, tuple[str, ...]]:
        """Methods with enough rescored mixes (METHOD@1, METHOD@2, ...) to say something of them."""
        found: dict[str, list[str]] = {}
        for mix in self.mixes:
            method, at, _ = mix.rpartition("@")
            if at:
                found.setdefault(method, []).append(mix)
        return {method: tuple(mixes) for method, mixes in found.items() if len(mixes) >= RESCORED}

    def only(self, trained: Collection[str]) -> "Arms":
        """The same without the controls that were not trained."""
        return replace(self, controls={arm: mix for arm, mix in self.controls.items() if arm in trained})

    def trained(self, first: bool) -> list[str]:
        """The arms of an instrument, in the order of training; only the first instrument takes more than the mixes."""
        more = (*self.controls, *self.inverses, *self.references) if first else ()
        return [*BASELINES, *self.mixes, *more]


def kind_of(arm: str) -> str:
    """What stands before the colon of an arm's name."""
    return arm.partition(":")[0]


def arms_of(inputs: Mapping[str, Path]) -> Arms:
    """What each arm among the inputs is for.

    Raises:
        BadPlan: a baseline or every mix is missing, or a control does not say which mix it controls.
    """
    names = [name.partition(":")[2] for name in sorted(inputs) if name.startswith("arm:")]
    for name in BASELINES:
        if name not in names:
            raise BadPlan(f"a trial without the arm {name!r}", where="trial inputs", fix=f"give an input 'arm:{name}'")
    tied = [name for name in names if kind_of(name) in {*CONTROLS, INVERSE}]
    references = tuple(name for name in names if kind_of(name) == REFERENCE)
    mixes = tuple(name for name in names if name not in {*BASELINES, *tied, *references})
    if not mixes:
        raise BadPlan("a trial without a mix", where="trial inputs", fix="give an input 'arm:NAME'")
    controls = {name: _owner(name, mixes) for name in tied if kind_of(name) != INVERSE}
    inverses = {name: _owner(name, mixes) for name in tied if kind_of(name) == INVERSE}
    return Arms(mixes, controls, inverses, references)


def _owner(arm: str, mixes: tuple[str, ...]) -> str:
    """The mix that a control belongs to."""
    mix = arm.partition(":")[2] or (mixes[0] if len(mixes) == 1 else "")
    if mix not in mixes:
        raise BadPlan(
            f"the control {arm!r} does not say which mix it controls", where="trial inputs",
            fix=f"name it '{kind_of(arm)}:MIX', MIX one of: {', '.join(mixes)}",
        )  # fmt: skip
    return mix
