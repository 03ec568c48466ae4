"""Settings made in Python are held to the types that they declare."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest

from curate import c4, exact, minhash, pages, pii, quality, select, sources
from curate.declared import require_types
from curate.errors import UnknownSetting
from curate.plan import read


class Colour(Enum):
    RED = 1


@dataclass(frozen=True, kw_only=True)
class Inner:
    amount: int = 1


@dataclass(frozen=True, kw_only=True)
class Outer:
    how: Literal["fast", "slow"] = "fast"
    share: float = 0.5
    rows: int = 3
    names: tuple[str, ...] = ()
    size: str | int = "10MB"
    most: int | None = None
    flag: bool = False
    colour: Colour = Colour.RED
    path: Path = Path()
    inner: Inner = Inner()
    sloppy: str = None  # type: ignore[assignment]
    made: int = field(init=False, default="not checked")  # type: ignore[assignment]


@pytest.mark.parametrize(
    "right",
    [{}, {"how": "slow"}, {"share": 1}, {"rows": 7}, {"names": ("a",)}, {"names": ["a", "b"]}, {"size": 5}, {"most": 4},
     {"flag": True}, {"inner": Inner(amount=2)}, {"sloppy": "text"}],
    ids=str,
)  # fmt: skip
def test_values_of_their_types_are_taken(right):
    require_types(Outer(**right), where="here")


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        ({"how": "slwo"}, "did you mean 'slow'?"),
        ({"how": 3}, "write how='fast' or 'slow'"),
        ({"share": "0.5"}, "write share=0.5"),
        ({"share": True}, "write share=0.5"),
        ({"rows": 0.5}, "write rows=2000"),
        ({"rows": "3"}, "write rows=2000"),
        ({"names": "abc"}, "write names=('a', 'b')"),
        ({"names": (1, 2)}, "write names=('a', 'b')"),
        ({"size": 0.5}, "write size='text'"),
        ({"most": "4"}, "write most=2000"),
        ({"flag": "yes"}, "write flag=True or False"),
        ({"inner": Inner(amount="2")}, "write amount=2000"),
    ],
    ids=str,
)
def test_other_values_are_refused_with_what_to_write(wrong, fix):
    with pytest.raises(UnknownSetting) as told:
        require_types(Outer(**wrong), where="here")
    assert (told.value.where, told.value.fix) == ("here", fix)


@pytest.mark.parametrize(
    ("stage", "config"),
    [
        (pages.extract, lambda: pages.Extract(extractor="trafilatura", favor="precison")),
        (pages.extract, lambda: pages.Extract(extractor="trafilatur")),
        (exact.duplicates, lambda: exact.Exact(keep_by="-text_bytes")),
        (minhash.near_duplicates, lambda: minhash.MinHash(verify="no")),
        (quality.measure, lambda: quality.QualityMeasure(profiles="gopher")),
        (c4.edit, lambda: c4.C4(tool="datatrov")),
        (pii.mask, lambda: pii.Mask(kinds="email")),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_a_slip_in_a_pipeline_is_no_silent_change(stage, config):
    """Each of these would otherwise have been made, and meant something else than what was written."""
    with pytest.raises(UnknownSetting):
        read(sources.jsonl("nothing.jsonl")).then(stage, config()).select(select.uniform(label="x"), rows=1)
