"""A pipeline as a value: frames, mixes and fits are built without I/O and checked before a byte is read.

    docs = read(source).then(quality.measure).keep(rules)
    prior = fit(lm.train, config, docs.sample(bytes=2_000_000, label="prior"))
    docs = docs.then(loss_ratio.color, prior=prior, conditional=conditional)
    mix = docs.select(select.top("color"), tokens=1_000_000)
    plan(write({"color": mix}), conclude(trial.experiment, config, {"arm:color": mix.sample(...)}))

Every call remembers its own file and line, so that a mistake is reported where it was made. ``check`` walks the nodes
with the columns known so far; what it promises is what a run returns.
"""

import importlib.metadata
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from curate import __file__ as package_file
from curate.artifact import Experiment, Fitter, names_after
from curate.columns import PARENT, QUARANTINED, STANDARD, TEXT
from curate.dataset import Source
from curate.declared import require_types
from curate.errors import BadInput, BadPlan, MissingColumn, MissingExtra, UnknownSetting, WrongDirection
from curate.stage import ColumnType, Direction, Grain, Needs, Rule, Score, Stage, arrow_type

OURS = Path(package_file).parent
IMPORTED_AS = {"fasttext_predict": "fasttext"}  # packages whose modules have another name


def here() -> str:
    """``file:line`` of the nearest caller outside the package: the pipeline's own line.

    A plan that the package itself makes is told by its command (``WRITTEN_BY`` of the module that makes it).
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and OURS in Path(frame.f_code.co_filename).parents:
        if "WRITTEN_BY" in frame.f_globals:
            return str(frame.f_globals["WRITTEN_BY"])
        frame = frame.f_back
    name = Path(frame.f_code.co_filename)
    if name.is_absolute() and name.is_relative_to(Path.cwd()):
        name = name.relative_to(Path.cwd())
    return f"{name}:{frame.f_lineno}"


@dataclass(frozen=True, eq=False)
class Node:
    """One step of a plan; nodes are compared by identity, and a plan is the graph that its outputs reach."""

    where: str


@dataclass(frozen=True, eq=False)
class Read(Node):
    """Documents of a source."""

    source: Source


@dataclass(frozen=True, eq=False)
class Apply(Node):
    """A stage over a frame, with the artifacts it opens."""

    above: Node
    stage: Stage
    config: Any
    artifacts: Mapping[str, "Fit | Given"] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Keep(Node):
    """Rules that drop rows; the first that fails gives the reason. ``guard`` is a frame they are tried on first."""

    above: Node
    rules: tuple[Rule, ...]
    guard: Node | None = None
    guard_share: float = 0.2


@dataclass(frozen=True, eq=False)
class Compact(Node):
    """The survivors of a frame in new parts, with their columns."""

    above: Node


@dataclass(frozen=True, eq=False)
class Gather(Node):
    """A sample of a frame with its texts, in keyed-hash order; ``amount`` None means every row."""

    above: Node
    label: str
    cost: str | None
    amount: int | None


@dataclass(frozen=True, eq=False)
class Fit(Node):
    """A fitter over a sample, with the artifacts that it starts from."""

    fitter: Fitter
    config: Any
    sample: Gather
    bases: Mapping[str, "Fit | Given"]


@dataclass(frozen=True, eq=False)
class Given(Node):
    """An artifact that exists already: a directory of files, such as a published tokenizer."""

    path: Path


@dataclass(frozen=True, eq=False)
class Write(Node):
    """Mixes to be written as sharded Parquet: name to (frame, column of copies)."""

    mixes: Mapping[str, tuple[Node, str]]
    columns: tuple[str, ...]
    shard_bytes: int
    seed: int
    card: Mapping[str, Any]
    orders: Mapping[str, str] = field(default_factory=dict)  # of the mixes that are not shuffled


@dataclass(frozen=True, eq=False)
class Conclude(Node):
    """An experiment over samples and artifacts."""

    experiment: Experiment
    config: Any
    inputs: Mapping[str, Gather | Fit | Given]


@dataclass(frozen=True)
class Frame:
    """Rows plus the columns known so far; lazy, a value."""

    node: Node

    def then(self, stage: Stage, config: Any = None, **artifacts: Fit | Given) -> "Frame":
        """Add the columns of a stage (or replace rows, for MANY). Settings default to the stage's own."""
        where = here()
        if not isinstance(stage, Stage):
            raise BadPlan(f"then() takes a stage, not {_called(stage)}", where=where,
                          fix="put @stage(reads=..., writes=..., grain=...) above the function; rules go to keep()")
        config = _settings(stage.name, stage.config_type, config, where)
        above = self.node
        if stage.each is not None:
            half = config.each() if hasattr(config, "each") else config
            if not _has(above, stage.each, half):
                above = Apply(where, above, stage.each, half)
        return Frame(Apply(where, above, stage, config, dict(artifacts)))

    def keep(
        self,
        rule: pl.Expr | Rule | Sequence[Rule],
        because: str | None = None,
        *,
        guard: "Frame | None" = None,
        guard_share: float = 0.2,
    ) -> "Frame":
        """Drop rows for which a rule is not true, with its reason.

        Args:
            rule: a polars expression with ``because``, or rules that carry their reasons; tried in order.
            because: the reason, for an expression.
            guard: a frame (the target) that the rules are tried on first; where they would drop more than
                ``guard_share`` of it, the run stops before it drops anything.
            guard_share: largest share of the guard that the rules may drop.
        """
        where = here()
        if isinstance(rule, pl.Expr):
            if not because:
                raise BadPlan("keep() needs a reason", where=where, fix="add because='why rows are dropped'")
            rules: tuple[Rule, ...] = (Rule(rule, because),)
        else:
            rules = (rule,) if isinstance(rule, Rule) else tuple(rule) if isinstance(rule, Iterable) else (rule,)
        if wrong := [each for each in rules if not isinstance(each, Rule)]:
            raise BadPlan(
                f"keep() takes a polars expression or rules, not {_called(wrong[0])}",
                where=where,
                fix="write keep(pl.col('words') > 50, because='short'); a Python function cannot be checked",
            )
        return Frame(Keep(where, self.node, rules, guard.node if guard else None, guard_share))

    def compact(self) -> "Frame":
        """Rewrite the survivors, with every column known so far, into new parts.

        Where few rows are left, what comes after reads their texts alone, and not those of all rows. It costs one
        reading and writing of the survivors. Rows stay what they are (key, id, columns); only their addresses change,
        and ``parent`` names the old one, where no earlier step has said what a row was made from.
        """
        return Frame(Compact(here(), self.node))

    def sample(
        self, *, label: str, bytes: int | None = None, tokens: int | None = None, rows: int | None = None
    ) -> Gather:
        """A uniform sample with its texts, until the next row would pass the budget; all rows where none is given."""
        budgets = {"text_bytes": bytes, "tokens": tokens, None: rows}
        given = [(cost, amount) for cost, amount in budgets.items() if amount is not None]
        if len(given) > 1:
            raise BadPlan("sample() takes one budget", where=here(), fix="give bytes=, tokens= or rows=")
        cost, amount = given[0] if given else (None, None)
        return Gather(here(), self.node, label, cost, amount)

    def select(self, selection: Any, **budget: float) -> "Mix":
        """A mix under a budget: ``tokens=``, ``bytes=``, ``rows=`` (amounts), or ``share=`` of the tokens."""
        where = here()
        if len(budget) != 1 or not set(budget) <= {"tokens", "bytes", "rows", "share"}:
            raise BadPlan("select() takes one budget", where=where, fix="give tokens=, bytes=, rows= or share=")
        chosen = selection.with_budget(**budget).with_columns(check(Plan((self.node,)))[id(self.node)].columns)
        return Mix(Frame(Apply(where, self.node, chosen.stage, chosen.config, {})), chosen.config.column)


@dataclass(frozen=True)
class Mix:
    """How many copies of each row of a frame to train on."""

    frame: Frame
    column: str
    order: str | None = None

    def ordered(self, by: str) -> "Mix":
        """The same mix, written in the order of a column instead of a shuffle; equal values are shuffled.

        Args:
            by: a column of numbers, from the smallest value up; with a ``-`` before its name from the largest down. A
                row without a value comes last.
        """
        return replace(self, order=by)

    def rows(self) -> Frame:
        """The rows that are in the mix, as a frame of their own."""
        return Frame(Keep(here(), self.frame.node, (Rule(pl.col(self.column) > 0, "not_selected"),)))

    def sample(self, *, label: str, bytes: int | None = None, tokens: int | None = None) -> Gather:
        """A uniform sample of the mix."""
        return self.rows().sample(label=label, bytes=bytes, tokens=tokens)


@dataclass(frozen=True)
class Plan:
    """The whole pipeline as a value."""

    outputs: tuple[Node, ...]


def read(source: Source) -> Frame:
    """Documents of a source."""
    return Frame(Read(here(), source))


def fit(fitter: Fitter, config: Any, sample: Frame | Gather, **bases: Fit | Given) -> Fit:
    """Learn an artifact from a sample (a frame stands for all its rows)."""
    where = here()
    if isinstance(sample, Frame):
        sample = Gather(where, sample.node, f"all:{fitter.name}", None, None)
    return Fit(where, fitter, _settings(fitter.name, fitter.config_type, config, where), sample, dict(bases))


def given(path: Path | str) -> Given:
    """An artifact that exists already: a directory of files, identified by their content."""
    where = here()
    if Path(path).is_file():
        raise BadInput(f"{path} is a file", where=where, fix="give the directory that it lies in")
    return Given(where, Path(path).absolute())


def write(
    mixes: Mapping[str, Mix],
    *,
    columns: Sequence[str] = (),
    shard_bytes: int = 128 << 20,
    seed: int = 0,
    card: Mapping[str, Any] | None = None,
) -> Write:
    """Write mixes as sharded Parquet, in a global shuffle that depends on nothing but the seed and the rows.

    Args:
        mixes: name to mix; the name becomes a folder and a configuration of the dataset.
        columns: columns to write beside id, text, source and the source's own (default: every score, and tokens).
        shard_bytes: bytes of text a shard.
        seed: of the shuffle.
        card: YAML fields for the dataset card (license, language, ...).

    A mix that is ``ordered`` is written in its order instead.
    """
    for name in mixes:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise BadPlan(f"a mix cannot be called {name!r}", where=here(), fix="use letters, digits, _ . and -")
    return Write(
        here(),
        {k: (m.frame.node, m.column) for k, m in mixes.items()},
        tuple(columns),
        shard_bytes,
        seed,
        dict(card or {}),
        {k: m.order for k, m in mixes.items() if m.order is not None},
    )


def conclude(experiment: Experiment, config: Any, inputs: Mapping[str, Gather | Fit | Given | Frame]) -> Conclude:
    """Carry out an experiment over samples and artifacts."""
    where = here()
    ready = {
        name: Gather(where, value.node, f"all:{name}", None, None) if isinstance(value, Frame) else value
        for name, value in inputs.items()
    }
    if is_dataclass(config) and not isinstance(config, type):
        require_types(config, where=where)
    return Conclude(where, experiment, config, ready)


def plan(*outputs: Node) -> Plan:
    """A plan is what its outputs need."""
    if not outputs:
        raise BadPlan("the plan has no output", where=here(), fix="give plan() a write(...) or a conclude(...)")
    return Plan(outputs)


def _settings(name: str, kind: type | None, config: Any, where: str) -> Any:
    if kind is None:
        if config is not None:
            raise UnknownSetting(f"{name} takes no settings", where=where, fix="leave them out")
        return None
    if config is None:
        return kind()
    if not isinstance(config, kind):
        raise UnknownSetting(
            f"{name} takes {kind.__name__}, not {type(config).__name__}",
            where=where,
            fix=f"give it {_a(kind.__name__)}(...)",
        )
    require_types(config, where=where)
    return config


def _called(thing: Any) -> str:
    """Something that was given in place of something else, for an error."""
    name = getattr(thing, "__name__", None)
    if inspect.isroutine(thing):
        return "a Python function" if name == "<lambda>" else f"the Python function {name}"
    if name is not None:
        return f"the {type(thing).__name__} {name}"
    return _a(type(thing).__name__)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


def _has(node: Node, stage: Stage, config: Any) -> bool:
    """Whether a stage with these settings stands above, with the text unchanged since."""
    while isinstance(node, Apply | Keep | Compact):
        if isinstance(node, Apply):
            if node.stage is stage and node.config == config:
                return True
            if node.stage.grain is Grain.MANY:
                return False
        node = node.above
    return False


def above(node: Node) -> list[Node]:
    """The nodes that a node needs, in the order of its arguments."""
    match node:
        case Apply():
            return [node.above, *node.artifacts.values()]
        case Keep():
            return [node.above, *([node.guard] if node.guard else [])]
        case Gather() | Compact():
            return [node.above]
        case Fit():
            return [node.sample, *node.bases.values()]
        case Write():
            return [frame for frame, _ in node.mixes.values()]
        case Conclude():
            return list(node.inputs.values())
    return []


def walk(plan: Plan) -> Iterator[Node]:
    """Every node once, what is needed first."""
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(plan.outputs)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(n, False) for n in reversed(above(node)) if id(n) not in seen]


# ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Known:
    """The columns of a frame at one point of the plan."""

    columns: Mapping[str, ColumnType]
    gone: Mapping[str, str] = field(default_factory=dict)
    """Columns that were known until a step replaced the rows: name to that step and its place."""

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Their Arrow types."""
        return {name: arrow_type(column) for name, column in self.columns.items()}

    def with_(self, more: Mapping[str, ColumnType]) -> "Known":
        """These and more."""
        return Known({**self.columns, **more}, self.gone)


def check(plan: Plan) -> dict[int, Known]:
    """Walk the plan without I/O; raise the first PlanError, or return the known columns by ``id(node)``."""
    known: dict[int, Known] = {}
    labels: dict[str, Node] = {}
    for node in walk(plan):
        match node:
            case Read():
                known[id(node)] = Known({**STANDARD, **node.source.columns, "extra": TEXT})
            case Apply():
                known[id(node)] = _check_apply(node, known[id(node.above)])
            case Keep():
                columns = known[id(node.above)]
                for rule in node.rules:
                    _check_rule(rule, columns, node.where)
                    if node.guard is not None:
                        _check_rule(rule, known[id(node.guard)], node.where)
                known[id(node)] = columns
            case Compact():
                before = known[id(node.above)]
                known[id(node)] = Known({PARENT: TEXT, **before.columns}, before.gone)
            case Gather():
                if node.amount is not None and (first := labels.setdefault(node.label, node)) is not node:
                    raise BadPlan(
                        f"two samples are labelled {node.label!r}",
                        where=node.where,
                        fix=f"labels decide the randomness; choose another (first used at {first.where})",
                    )
                if (drawn := _drawn_by(node.label, node.above)) is not None:
                    raise BadPlan(
                        f"a sample is labelled {node.label!r}, like a selection that its rows went through",
                        where=node.where,
                        fix="choose another label: in the order of that draw, what is rare in it stands at the end "
                        f"(drawn at {drawn.where})",
                    )
                if node.cost:
                    _need("sample()", {node.cost: pa.int64()}, known[id(node.above)], node.where)
            case Given():
                if not node.path.is_dir():
                    raise BadInput(
                        f"there is no directory {node.path}", where=node.where, fix="give the directory of the files"
                    )
            case Fit():
                check_extras(node.fitter.needs, node.fitter.name, node.where)
                _check_artifacts(node.fitter.name, node.fitter.fn, 3, node.bases, node.where)
                if node.fitter.part is not None:
                    named = {name: node.bases[name] for name in names_after(node.fitter.part, 2) if name in node.bases}
                    _check_artifacts(f"the part= of {node.fitter.name}", node.fitter.part, 2, named, node.where)
                _need(node.fitter.name, node.fitter.reads, known[id(node.sample.above)], node.where)
            case Write():
                for mix, (frame, column) in node.mixes.items():
                    _need("write()", {column: pa.int32()}, known[id(frame)], node.where)
                    if mix in node.orders:
                        _check_order(node.orders[mix].removeprefix("-"), known[id(frame)], node.where)
                    for name in node.columns:
                        if name not in known[id(frame)].columns:
                            _missing("write()", name, known[id(frame)], node.where)
            case Conclude():
                check_extras(node.experiment.needs, node.experiment.name, node.where)
                for value in node.inputs.values():
                    if isinstance(value, Gather):
                        _need(node.experiment.name, node.experiment.reads, known[id(value.above)], node.where)
    return known


def _check_order(name: str, columns: Known, where: str) -> None:
    if name not in columns.columns:
        _missing("ordered()", name, columns, where)
    kind = columns.types[name]
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise BadPlan(f"a mix cannot be ordered by {name!r}, which is {kind}", where=where, fix="order by a number")


def _drawn_by(label: str, node: Node) -> Apply | None:
    """The step among those above a frame whose randomness has this label."""
    while not isinstance(node, Read):
        if isinstance(node, Apply) and getattr(node.config, "label", None) == label:
            return node
        node = above(node)[0]
    return None


def _check_apply(node: Apply, columns: Known) -> Known:
    stage, config = node.stage, node.config
    check_extras(stage.needs, stage.name, node.where)
    _need(stage.name, stage.reads(config), columns, node.where)
    opens, before = (stage.fn, 1 + (stage.config_type is not None)) if stage.rounds else (stage.load, 1)
    _check_artifacts(stage.name, opens, before, node.artifacts, node.where)
    if stage.load is not None and stage.grain in (Grain.GROUP, Grain.WHOLE):
        raise BadPlan(f"{stage.name} opens a model, which only EACH and MANY stages can", where=node.where,
                      fix="let an EACH stage write what the model says, and read that column")  # fmt: skip
    if stage.grain is Grain.GROUP and not stage.rounds:
        by = stage.reads(config).get(str(stage.by))
        if by is None or not pa.types.is_integer(by):
            raise BadPlan(f"{stage.name} brings rows together by {stage.by!r}, read as {by}", where=node.where,
                          fix="read it as an integer; hash a text to uint64 first")  # fmt: skip
    directions: Mapping[str, Direction] = config.directions() if hasattr(config, "directions") else {}
    for name, wanted in directions.items():
        score = columns.columns.get(name)
        if not isinstance(score, Score):
            raise WrongDirection(
                f"{stage.name} ranks by {name!r}, which is not a score",
                where=node.where,
                fix=f"rank by one of: {_list(n for n, c in columns.columns.items() if isinstance(c, Score))}",
            )
        if wanted is not score.keep and not getattr(config, "inverse", False):
            raise WrongDirection(
                f"{stage.name} keeps {wanted.value} values of {name!r}, whose {score.keep.value} values are good "
                f"({score.unit})",
                where=node.where,
                fix="leave the direction out, or say inverse=True for a negative control",
            )
    writes = stage.writes(config)
    for name in writes:
        if name in STANDARD and stage.grain is not Grain.MANY:
            raise BadPlan(
                f"{stage.name} writes {name!r}, which every document has",
                where=node.where,
                fix="write another name; only a MANY stage replaces documents",
            )
    if stage.grain is Grain.MANY:
        if QUARANTINED in writes:
            raise BadPlan(f"{stage.name} writes {QUARANTINED!r}, which says why a row cannot be replaced",
                          where=node.where, fix="leave it out of `writes`; any MANY stage may return it")  # fmt: skip
        source = read_above(node).source
        gone = {**columns.gone, **dict.fromkeys(columns.columns, f"{stage.name} replaced the rows at {node.where}")}
        return Known({**STANDARD, **source.columns, "extra": TEXT, PARENT: TEXT, **writes}, gone)
    return columns.with_(writes)


def _check_artifacts(
    who: str, opens: Callable[..., Any] | None, before: int, given: Mapping[str, Node], where: str
) -> None:
    """Artifacts must be those that a function takes, after its first ``before`` parameters."""
    taken = list(inspect.signature(opens).parameters.values())[before:] if opens is not None else []
    needed = {p.name for p in taken if p.default is inspect.Parameter.empty}
    if needed - set(given) or set(given) - {p.name for p in taken}:
        raise BadPlan(
            f"{who} was given the artifacts {_list(given)}, and takes {_list(p.name for p in taken)}",
            where=where,
            fix=f"name them as keywords: {', '.join(f'{p.name}=…' for p in taken) or 'it takes none'}",
        )


def read_above(node: Node) -> Read:
    """The node that read a frame's documents."""
    while not isinstance(node, Read):
        node = above(node)[0]
    return node


def replaced(node: Node) -> bool:
    """Whether a step above replaced the rows that were read."""
    while not isinstance(node, Read):
        if isinstance(node, Apply) and node.stage.grain is Grain.MANY:
            return True
        node = above(node)[0]
    return False


def _check_rule(rule: Rule, columns: Known, where: str) -> None:
    for name in rule.keep.meta.root_names():
        if name not in columns.columns:
            _missing(f"the rule {rule.because!r}", name, columns, where)
    if _calls_python(rule.keep):
        raise BadPlan(
            f"the rule {rule.because!r} calls a Python function, which cannot be checked and has no stable identity",
            where=where,
            fix="write what it finds as a column, in an EACH stage, and compare that column",
        )
    names = {n: columns.columns[n] for n in rule.keep.meta.root_names()}
    empty = (
        pl.DataFrame(pa.table({n: pa.array([], arrow_type(c)) for n, c in names.items()})) if names else pl.DataFrame()
    )
    try:
        kind = empty.lazy().select(rule.keep.alias("keep")).collect_schema()["keep"]
    except pl.exceptions.PolarsError as error:
        raise BadPlan(
            f"the rule {rule.because!r} cannot be evaluated: {error}",
            where=where,
            fix="compare columns with values of their own type",
        ) from error
    if _looks_around(rule.keep):
        raise BadPlan(
            f"the rule {rule.because!r} looks at several rows, and a part does not hold them all",
            where=where,
            fix="compare a row with itself and with constants; a GROUP or WHOLE stage can write what needs more",
        )
    if kind != pl.Boolean:
        raise BadPlan(
            f"the rule {rule.because!r} gives {kind}, not true or false",
            where=where,
            fix="compare it with something, as in pl.col('words') > 50",
        )


def _calls_python(rule: pl.Expr) -> bool:
    """Whether an expression holds a function of Python's, as that of ``map_elements`` or ``fold`` does."""
    waiting = [json.loads(rule.meta.serialize(format="json"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "AnonymousFunction" in node or "callback" in node:
                return True
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return False


def _looks_around(rule: pl.Expr) -> bool:
    """Whether an expression's value at a row depends on other rows, as that of ``mean``, ``rank`` or ``over`` does."""
    if not rule.meta.is_row_separable():
        return True
    try:
        inner = rule.meta.pop()
    except pl.exceptions.ColumnNotFoundError:
        return False  # the inside of list.eval, whose rows are the elements of one list
    return any(_looks_around(e) for e in inner)


def _need(who: str, reads: Mapping[str, pa.DataType], columns: Known, where: str) -> None:
    for name, kind in reads.items():
        if name not in columns.columns:
            _missing(who, name, columns, where)
        found = arrow_type(columns.columns[name])
        if found != kind and not (pa.types.is_integer(found) and pa.types.is_integer(kind)):
            raise MissingColumn(
                f"{who} reads {name!r} as {kind}, but it is {found}",
                where=where,
                fix="change the stage that writes it, or the one that reads it",
            )


def _missing(who: str, name: str, columns: Known, where: str) -> None:
    import difflib

    if name in columns.gone:
        raise MissingColumn(
            f"{who} reads the column {name!r}, which was lost when {columns.gone[name]}",
            where=where,
            fix="what was measured on the old rows does not hold for new ones: measure again after that step, or "
            "move it behind this one",
        )
    close = difflib.get_close_matches(name, columns.columns, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    declared = "" if close else f"; if it is a column of the files, declare it: columns={{{name!r}: ...}} in the source"
    raise MissingColumn(
        f"{who} reads the column {name!r}, which no earlier step writes",
        where=where,
        fix=f"{hint}known here: {_list(columns.columns)}{declared}",
    )


def _list(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"


def check_extras(needs: Needs, who: str, where: str) -> None:
    """Raise MissingExtra where a package of a needed extra is not installed."""
    for extra in needs.extras:
        for package in packages_of(extra):
            if importlib.util.find_spec(package) is None:
                raise MissingExtra(
                    f"{who} needs the package {package!r}, which is not installed",
                    where=where,
                    fix=f"pip install 'curate[{extra}]'",
                )


def packages_of(extra: str) -> list[str]:
    """Import names of the packages in an optional dependency of this project."""
    found = []
    for requirement in importlib.metadata.requires("curate") or []:
        name, _, marker = requirement.partition(";")
        if re.search(rf"""extra\s*==\s*["']{re.escape(extra)}["']""", marker):
            package = re.split(r"[^A-Za-z0-9_.-]", name.strip())[0].replace("-", "_")
            found.append(IMPORTED_AS.get(package, package))
    return found
