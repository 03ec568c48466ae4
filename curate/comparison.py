"""A trial of any documents: mixes in folders, the pool that they are compared with, and a target. ``curate trial``.

    curate trial mixes/edu mixes/near --against 'web/*.parquet' --target math.parquet
    curate trial new=a.parquet --against old/ --target math=math.parquet --target code=code.jsonl --guard news/

No pipeline has to be written and nothing has to be made by ``curate``: a mix is a folder, a pattern or a file of
documents. The plan that is made here is one like any other: it is checked before anything is read, its run is reused
and resumed, and its settings are in the run's folder.

Arms: two random draws from the pool, the mixes, and for each mix draws from the pool with its lengths and its sources
(``controls``). What a mix's score was is not known here, so there is no inverse arm.

Elsewhere: arms, instruments and verdicts (trial.py); scoring and selection in one go with the trial (pipelines/).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from curate import select, sources, tokens
from curate.columns import TEXT
from curate.errors import BadPlan
from curate.plan import Fit, Frame, Gather, Given, Mix, Plan, conclude, fit, given, plan, read
from curate.train.spans import TYPE as SPANS
from curate.trial import Trial, check, experiment_for, sample_bytes, vocabulary

WRITTEN_BY = "curate trial"  # where its steps were written, for errors and reports
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
CONTROLS = ("length", "source")
MASKED = ("mixes", "against", "targets", "transfers", "guards")
RESERVED = ("random", "reference", "inverse", "length_matched", "source_matched", "conditional_only")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Settings of ``curate trial``. Inputs are paths, or ``NAME=PATH``; a path is a file, folder, pattern or URL.

    Args:
        mixes: what is judged.
        against: the documents that random draws are taken from: the pool of the mixes, or the mix in use so far.
        targets: what the model should be good at; with several, the mean over them decides.
        transfers: further targets, reported beside the verdict.
        guards: domains that should not suffer.
        tasks: a folder of tasks in JSON Lines (``curate.train.tasks``), or none.
        tokenizer: a folder with ``tokenizer.json``; without it one is fitted to the pool.
        split_column: a column of the target's files that says ``train``, ``validation`` or ``test``; without it all of
            them are scored.
        groups: whether the target's files have a column ``group``, whose rows are one item for the trial's noise.
        spans: which of the inputs have a column ``spans``, whose masks the trial honours: some of ``mixes``,
            ``against``, ``targets``, ``transfers``, ``guards``.
        base: a model to start from (a directory of Hugging Face's, or of one of ours, with its ``tokenizer.json``), or
            none. It takes ``trial.instruments=["transformer"]``.
        replay: documents that stand for what the base was trained on; ``trial.share`` is the part that is not theirs.
        text: the column of texts.
        texts: the column of single inputs where it has another name, as ``NAME=COLUMN``; ``against`` and ``replay`` are
            called so.
        source: the column that tells where a document is from; by default ``source``, where there is one.
        controls: draws from the pool shaped like each mix, by ``length``, by ``source``.
        bpe: the tokenizer to fit; by default one of the size that suits the trial's models.
        tokenizer_bytes: size of its sample.
        trial: the trial itself.
    """

    mixes: tuple[str, ...] = ()
    against: str = ""
    targets: tuple[str, ...] = ()
    transfers: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    tasks: str | None = None
    tokenizer: str | None = None
    base: str | None = None
    replay: str | None = None
    split_column: str | None = None
    groups: bool = False
    spans: tuple[str, ...] = ()
    text: str = "text"
    texts: tuple[str, ...] = ()
    source: str | None = None
    controls: tuple[str, ...] = CONTROLS
    bpe: tokens.Bpe | None = None
    tokenizer_bytes: int = 2_000_000
    trial: Trial = Trial()


def named(inputs: Sequence[str], what: str) -> dict[str, str]:
    """Paths by name; a path without one is called after its last part that says something.

    Raises:
        BadPlan: a name that is taken, or that is no name.
    """
    out: dict[str, str] = {}
    for given_as in inputs:
        name, equals, path = given_as.partition("=")
        if not equals:
            name, path = called(given_as), given_as
        if not NAME.fullmatch(name) or name in RESERVED:
            raise BadPlan(
                f"a {what} cannot be called {name!r}", where=f"curate trial, {given_as}",
                fix=f"write NAME={path}, the name of letters, digits, _ . and -, and none of {', '.join(RESERVED)}",
            )  # fmt: skip
        if name in out:
            raise BadPlan(
                f"{name!r} is the name of more than one {what}", where=f"curate trial, {given_as}",
                fix=f"write NAME={path}",
            )  # fmt: skip
        out[name] = path
    return out


def called(path: str) -> str:
    """The last part of a path that is not a pattern or ``data``, without its endings."""
    parts = [part for part in re.split(r"[/\\]+", path) if part and not set(part) & set("*?[]")]
    telling = [part for part in parts if part not in ("data", ".", "..")] or [""]
    return re.sub(r"(\.[A-Za-z0-9]{1,7}){1,2}$", "", telling[-1]) or telling[-1]


def pipeline(config: Comparison) -> Plan:
    """Arms, targets and the conclusion.

    Raises:
        BadPlan: no mix, no pool or no target, names that clash, or settings of the trial that give no verdict.
    """
    check(config.trial)
    mixes = named(config.mixes, "mix")
    for given_, what, option in (
        (mixes, "mix", "MIX..."), (config.against, "pool", "--against"), (config.targets, "target", "--target"),
    ):  # fmt: skip
        if not given_:
            raise BadPlan(f"a trial without a {what}", where="curate trial", fix=f"give {option} (a file or folder)")
    unknown = sorted(set(config.controls) - set(CONTROLS))
    if unknown:
        raise BadPlan(
            f"there is no control by {', '.join(unknown)}", where="curate trial", fix=f"some of: {', '.join(CONTROLS)}"
        )
    if unknown := sorted(set(config.spans) - set(MASKED)):
        raise BadPlan(
            f"no inputs are called {', '.join(unknown)}", where="curate trial, spans",
            fix=f"some of: {', '.join(MASKED)}",
        )  # fmt: skip
    if config.split_column is None and config.trial.split != "test":
        raise BadPlan(
            f"there is no split {config.trial.split!r}: the targets' files say nothing of splits", where="curate trial",
            fix="give --split-column, so that what chooses a mix is not what confirms it",
        )  # fmt: skip
    check_base(config)
    columns_of(config)
    pool = documents(config, *next(iter(named([config.against], "pool").items())), "against")
    size = sample_bytes(config.trial)
    inputs: dict[str, Gather | Fit | Given | Frame] = {
        f"arm:{name}": pool.sample(bytes=size, label=f"arm {name}") for name in ("random", "random'")
    }
    for name, path in mixes.items():
        mix = documents(config, name, path, "mixes")
        inputs[f"arm:{name}"] = mix.sample(bytes=size, label=f"arm {name}")
        for by in config.controls:
            inputs[f"arm:{by}_matched:{name}"] = like(pool, mix, by, size, name)
    inputs |= scored(config)
    if config.tasks:
        inputs["tasks"] = given(config.tasks)
    if config.base:
        inputs["base"] = given(config.base)
        if config.replay:
            [(name, path)] = named([config.replay], "replay").items()
            inputs["replay"] = documents(config, name, path, "replay").sample(bytes=size, label="replay")
    elif config.tokenizer:
        inputs["tokenizer"] = given(config.tokenizer)
    elif "transformer" in config.trial.instruments:
        bpe = config.bpe or tokens.Bpe(vocabulary=vocabulary(config.trial))
        inputs["tokenizer"] = fit(
            tokens.train_bpe, bpe, pool.sample(bytes=config.tokenizer_bytes, label="tokenizer")
        )
    return plan(conclude(experiment_for(config.trial), config.trial, inputs))


def check_base(config: Comparison) -> None:
    """A base and what belongs to it.

    Raises:
        BadPlan: replay or a share without a base, a tokenizer beside it, or an instrument that cannot start from one.
    """
    trial = config.trial
    for wrong, what, fix in (
        (config.replay and not config.base, "replay without a base", "give --base, or leave --replay out"),
        (config.base and config.tokenizer, "a tokenizer beside a base", "leave it out: a base has its own"),
        (
            config.base and trial.instruments != ("transformer",),
            f"a trial from a base by {', '.join(trial.instruments)}", "--set 'trial.instruments=[\"transformer\"]'",
        ),
        (
            bool(config.replay) != (trial.share < 1),
            f"share {trial.share:g} {'with' if config.replay else 'without'} replay",
            "give --replay DOCUMENTS and --set trial.share=0.34 (the part that comes from the mix), or neither",
        ),
    ):  # fmt: skip
        if wrong:
            raise BadPlan(what, where="curate trial", fix=fix)


def columns_of(config: Comparison) -> dict[str, str]:
    """The columns of texts of single inputs.

    Raises:
        BadPlan: what is not NAME=COLUMN, or no input has that name.
    """
    given_ = [("against", config.against), ("replay", config.replay or "")]
    known = {what for what, path in given_ if path}
    for inputs, what in ((config.mixes, "mix"), (config.targets, "target"), (config.transfers, "transfer"),
                         (config.guards, "guard")):  # fmt: skip
        known |= set(named(inputs, what))
    out = {}
    for said in config.texts:
        name, equals, column = said.partition("=")
        if not (equals and column) or name not in known:
            raise BadPlan(
                f"{said!r} names no input's column of texts", where="curate trial, --text",
                fix=f"NAME=COLUMN, NAME one of: {', '.join(sorted(known))}",
            )  # fmt: skip
        out[name] = column
    return out


def text_of(config: Comparison, name: str) -> str:
    """The column of texts of an input."""
    return columns_of(config).get(name, config.text)


def documents(config: Comparison, name: str, path: str, what: str) -> Frame:
    """The documents of a mix, of the pool or to replay; ``what`` is one of MASKED, or ``replay``."""
    text = text_of(config, name if what == "mixes" else what)
    return read(sources.any_file(path, text=text, source=config.source, columns=masks(config, what)))


def masks(config: Comparison, what: str) -> dict[str, pa.DataType]:
    """The column of spans, where these inputs have one."""
    return {"spans": SPANS} if what in config.spans else {}


def like(pool: Frame, mix: Frame, by: str, size: int, name: str) -> Gather:
    """Documents of the pool with the lengths, or the sources, of a mix."""
    shape = fit(select.shape, select.Shape(by="length" if by == "length" else "source"), mix)
    draw = select.Like(label=f"like {by} {name}", amount=size, column="taken")
    # A label of its own: in the order of the draw, what is rare in the pool would stand at the sample's end.
    return Mix(pool.then(select.take_like, draw, like=shape), "taken").sample(bytes=size, label=f"arm {by} {name}")


def scored(config: Comparison) -> dict[str, Frame | Gather]:
    """What is scored: targets by split, transfers, guards."""
    columns = {name: TEXT for name in (config.split_column, "group" if config.groups else None) if name}
    columns |= masks(config, "targets")
    targets = named(config.targets, "target")
    out: dict[str, Frame | Gather] = {}
    for name, path in targets.items():
        docs = read(sources.any_file(path, text=text_of(config, name), columns=columns))
        # One target needs no name of its own: its splits are the trial's.
        place = "target:" if len(targets) == 1 else f"target:{name}/"
        if config.split_column is None:
            out[f"{place}{config.trial.split}"] = docs.sample(rows=config.trial.documents, label=f"target {name}")
        else:
            for split in SPLITS:
                mine = docs.keep(pl.col(config.split_column) == split, because="other_split")
                out[f"{place}{split}"] = (
                    mine.sample(rows=config.trial.documents, label=f"target {name}")  # not the file's first
                    if split == config.trial.split else mine
                )  # fmt: skip
    for kind, given_ in (("transfer", config.transfers), ("guard", config.guards)):
        for name, path in named(given_, kind).items():
            text = text_of(config, name)
            docs = read(sources.any_file(path, text=text, columns=masks(config, f"{kind}s")))
            out[f"{kind}:{name}"] = docs.sample(rows=config.trial.beside, label=f"{kind} {name}")
    return out
