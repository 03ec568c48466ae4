"""Settings: strict, with the place and the remedy in every error; dump and load are inverse."""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import settings
from curate.errors import BadInput, UnknownSetting
from curate.hashing import digest


class Device(Enum):
    CPU = "a processor"
    CUDA = "a card"


@dataclass(frozen=True, kw_only=True)
class Bands:
    bands: int = 14
    rows: int = 8


@dataclass(frozen=True, kw_only=True)
class Wide(Bands):
    width: int = 1


@dataclass(frozen=True, kw_only=True)
class Inner:
    share: float = 0.5
    bands: Bands = Bands(rows=9)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    source: str = "data/*.parquet"
    max_symbols: float = 0.1
    budget: int = 2_000_000
    shuffle: bool = True
    languages: tuple[str, ...] = ("en",)
    range: tuple[float, float] = (0.0, 1.0)
    out: Path = Path("out")
    cache: Path | None = None
    note: str | None = None
    limit: int | None = 5
    profile: Literal["gopher", "c4"] = "gopher"
    level: Literal[1, 2] = 1
    device: Device = Device.CPU
    amount: int | str = 3
    minhash: Bands = Bands(bands=20)
    inner: Inner = Inner()
    extra: Bands | None = None
    computed: int = field(default=7, init=False)


def load(*overrides: str, kind: Any = Recipe) -> Any:
    return settings.load(kind, overrides=overrides)


def fails(*overrides: str, toml: str | None = None, kind: Any = Recipe) -> UnknownSetting:
    read = partial(settings.loads, kind, toml, where="recipe.toml") if toml else partial(load, *overrides, kind=kind)
    with pytest.raises(UnknownSetting) as caught:
        read()
    return caught.value


def test_defaults() -> None:
    assert load() == Recipe()


@pytest.mark.parametrize(
    ("override", "change"),
    [
        ("source=s3://a/b=c,d.jsonl", {"source": "s3://a/b=c,d.jsonl"}),
        ("source=", {"source": ""}),
        ("max_symbols=1", {"max_symbols": 1.0}),
        ("max_symbols=-1e-3", {"max_symbols": -0.001}),
        ("max_symbols=inf", {"max_symbols": math.inf}),
        ("budget=1_000", {"budget": 1000}),
        ("budget=2M", {"budget": 2_000_000}),
        ("budget=-3", {"budget": -3}),
        ("shuffle=false", {"shuffle": False}),
        ("languages=de, fr", {"languages": ("de", "fr")}),
        ("languages=", {"languages": ()}),
        ('languages=["a,b", "c"]', {"languages": ("a,b", "c")}),
        ("range=0.25,2", {"range": (0.25, 2.0)}),
        ("out=/tmp/x", {"out": Path("/tmp/x")}),
        ("cache=c", {"cache": Path("c")}),
        ("note=hello", {"note": "hello"}),
        ("limit=none", {"limit": None}),
        ("limit=64KiB", {"limit": 65536}),
        ("profile=c4", {"profile": "c4"}),
        ("level=2", {"level": 2}),
        ("device=CUDA", {"device": Device.CUDA}),
        ("amount=7k", {"amount": 7000}),
        ("amount=all", {"amount": "all"}),
        ("minhash.rows=3", {"minhash": Bands(bands=20, rows=3)}),
        ("inner.bands.bands=3", {"inner": Inner(bands=Bands(bands=3, rows=9))}),
        ("extra.bands=3", {"extra": Bands(bands=3)}),
    ],
)
def test_override(override: str, change: dict[str, Any]) -> None:
    assert load(override) == dataclasses.replace(Recipe(), **change)


def test_types_are_exact() -> None:
    assert type(load("max_symbols=1").max_symbols) is float
    assert type(settings.loads(Recipe, "max_symbols = 1").max_symbols) is float


def test_later_wins(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('budget = "4M"\nlanguages = ["de"]\nextra = "none"\n[minhash]\nrows = 2\n[inner]\nbands.rows = 1\n')
    config = settings.load(Recipe, file, ["minhash.bands=3", "minhash.bands=4", "extra.rows=1", "limit=none"])
    assert config == Recipe(
        budget=4_000_000, languages=("de",), minhash=Bands(bands=4, rows=2), inner=Inner(bands=Bands(rows=1)),
        extra=Bands(rows=1), limit=None,
    )
    assert settings.load(Recipe, file, ["extra.rows=1", "extra=none"]).extra is None


def test_unknown_name_says_where_and_what_was_meant() -> None:
    error = fails("max_symbol=3")
    assert error.what == "Recipe has no setting 'max_symbol'"
    assert error.where == "--set max_symbol=3"
    assert error.fix == "did you mean 'max_symbols'?"


def test_unknown_nested_name() -> None:
    error = fails("minhash.band=3")
    assert error.what == "Bands has no setting 'band'"
    assert error.fix == "did you mean 'minhash.bands'?"


def test_unknown_name_without_a_neighbour_lists_all() -> None:
    assert fails("minhash.zzz=3").fix == "use one of: minhash.bands, minhash.rows"


def test_place_in_a_file() -> None:
    toml = 'budget = 3\n\n# a comment\n[minhash]\nbands = 3\nrow = 2\n'
    assert fails(toml=toml).where == "recipe.toml:6"
    assert fails(toml="budget = 3\nlimit = true").where == "recipe.toml:2"
    assert fails(toml="budget = 3\ninner.bands.rows = 0.5").where == "recipe.toml:2"
    assert fails(toml='inner = {bands = {rows = "x"}}').where == "recipe.toml:1"


@pytest.mark.parametrize(
    "override",
    [
        "budget=2.5", "budget=x", "budget=", "budget=true", "budget=1B", "max_symbols=x", "max_symbols=", "shuffle=yes",
        "shuffle=1", "shuffle=True", "range=1", "range=1,2,3", "range=a,b", "range=[1", "out=", "profile=c5", "level=3",
        "device=cuda", "minhash=3", "limit=x", "budget.x=3", "languages.x=3", "budget", "=3", ".x=3", "computed=8",
    ],
)
def test_wrong_values(override: str) -> None:
    error = fails(override)
    assert error.where == f"--set {override}"
    assert error.fix


@pytest.mark.parametrize(
    "toml",
    [
        "budget = 2.0", "budget = true", "max_symbols = '0.5'", "max_symbols = true", "shuffle = 1", "shuffle = 'true'",
        "languages = 'de,fr'", "languages = [1]", "range = [1.0]", "out = 3", "level = '1'", "level = true",
        "source = 3", "profile = ['c4']", "note = 2024-01-01", "minhash = 3", "budget = {a = 1}", "amount = 0.5",
    ],
)
def test_wrong_values_in_a_file(toml: str) -> None:
    assert fails(toml=toml).where == "recipe.toml:1"


def test_wrong_type_is_said_in_plain_words() -> None:
    error = fails("budget=many")
    assert error.what == "setting 'budget' of Recipe is a whole number, not 'many'"
    assert error.fix == "write budget=2000 or 2M"
    assert "one of gopher, c4" in fails("profile=c5").what
    assert fails("minhash=3").fix == "set what is in it: minhash.bands=..."
    assert "a whole number or none" in fails("limit=x").what
    assert "one of CPU, CUDA" in fails("device=GPU").what
    assert "a list of 2 (a number, a number)" in fails("range=1").what


def test_not_toml() -> None:
    assert "line 1" in fails(toml="budget == 3").what


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.toml"):
        settings.load(Recipe, tmp_path / "none.toml")


def test_required_and_checked_settings() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Strict:
        share: float

        def __post_init__(self) -> None:
            if not 0 <= self.share <= 1:
                raise ValueError(f"share is {self.share}; it must be between 0 and 1")

    assert load("share=0.5", kind=Strict) == Strict(share=0.5)
    assert fails(kind=Strict).fix == "--set share=..."
    error = fails("share=2", kind=Strict)
    assert (error.what, error.where) == ("share is 2.0; it must be between 0 and 1", "--set share=2")


@pytest.mark.parametrize(
    ("amount", "value"),
    [
        ("0", 0), ("20", 20), ("-20", -20), ("1_000", 1000), ("2k", 2000), ("2K", 2000), ("2M", 2_000_000),
        ("1.5G", 1_500_000_000), ("1.1G", 1_100_000_000), ("0.5k", 500), ("64MB", 64_000_000), ("64mb", 64_000_000),
        ("64MiB", 67_108_864), ("1GiB", 1 << 30), ("3Ti", 3 << 40), ("1e6", 1_000_000), (" 7 ", 7),
        ("64 MB", 64_000_000), (12, 12),
    ],
)
def test_amounts(amount: str | int, value: int) -> None:
    assert settings.parse_amount(amount) == value


@pytest.mark.parametrize(
    "amount", ["", "M", "1.5", "0.0001k", "2MM", "1B", "1.", "0x10", "1e999", "2 M B", "7i", True, 1.0]
)
def test_not_amounts(amount: Any) -> None:
    with pytest.raises(UnknownSetting):
        settings.parse_amount(amount, where="here")


BANDS = st.builds(Bands, bands=st.integers(), rows=st.integers())
TEXTS = st.text()
OPTIONAL_TEXTS = st.none() | TEXTS.filter(lambda text: text != "none")
PATHS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1).map(Path)
RECIPES = st.builds(
    Recipe, source=TEXTS, max_symbols=st.floats(allow_nan=False), budget=st.integers(), shuffle=st.booleans(),
    languages=st.lists(TEXTS).map(tuple), range=st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    out=PATHS, cache=st.none() | PATHS.filter(lambda path: str(path) != "none"), note=OPTIONAL_TEXTS,
    limit=st.none() | st.integers(), profile=st.sampled_from(["gopher", "c4"]), level=st.sampled_from([1, 2]),
    device=st.sampled_from(Device), amount=st.integers() | TEXTS, minhash=BANDS,
    inner=st.builds(Inner, share=st.floats(allow_nan=False), bands=BANDS), extra=st.none() | BANDS,
)


@given(RECIPES)
def test_dump_and_load_are_inverse(config: Recipe) -> None:
    text = settings.dump(config)
    text.encode()
    again = settings.loads(Recipe, text)
    assert again == config
    assert settings.dump(again) == text
    assert digest(settings.as_json(again)) == digest(settings.as_json(config))


@given(RECIPES)
def test_canonical_form_is_json(config: Recipe) -> None:
    form = settings.as_json(config)
    assert json.loads(json.dumps(form)) == form


def test_dump_reads_well() -> None:
    assert settings.dump(Inner(share=0.25)) == "share = 0.25\n\n[bands]\nbands = 14\nrows = 9\n"


def test_dump_refuses_what_it_could_not_load() -> None:
    for config in (Recipe(note="none"), Recipe(minhash=Wide()), Recipe(cache=Path("none"))):
        with pytest.raises(UnknownSetting):
            settings.dump(config)


def test_canonical_form() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd:
        share: float = 1
        shares: tuple[float, ...] = (1, 2)
        maybe: float | None = 2
        where: Path = Path("a") / "b"
        device: Device = Device.CUDA
        kinds: tuple[pa.DataType, ...] = (pa.large_string(),)
        bands: Bands = Wide()

    assert json.dumps(settings.as_json(Odd())) == (
        '{"share": 1.0, "shares": [1.0, 2.0], "maybe": 2.0, "where": "a/b", "device": "CUDA", '
        '"kinds": ["large_string"], "bands": {"is": "Wide", "bands": 14, "rows": 8, "width": 1}}'
    )


def test_what_has_no_identity() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Call:
        fn: Callable[..., Any]

    with pytest.raises(UnknownSetting, match=r"Call\.fn holds a function"):
        settings.as_json(Call(fn=lambda: None))


def test_identity_of_a_value_that_tells_it() -> None:
    class Tells:
        def identity(self) -> dict[str, object]:
            return {"b": Path("x"), "a": 1}

    assert settings.as_json(Tells()) == {"a": 1, "b": "x"}
