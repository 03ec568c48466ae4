"""The laws that every stage keeps, tried on every stage of the package, on the tests' own, and on odd tables.

A stage found in ``curate.*`` or ``scorers.*`` is tested here without being registered. One that opens a model needs an
entry in ``MODELS`` (where its artifact can be made in a second) or in ``ELSEWHERE`` (which test covers it); a stage in
neither fails ``test_every_stage_is_covered``. Texts are null, empty, without words, repeated, and in many scripts;
numbers are null, NaN and infinite. A stage is handed exactly the columns that it declares.
"""

import functools
import importlib
import itertools
import json
import pickle
import pkgutil
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny_fasttext
import toys
from datatrove.pipeline.filters import C4ParagraphFilter, C4QualityFilter
from datatrove.pipeline.formatters import PIIFormatter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import curate
import scorers
from curate import (
    attributes,
    badwords,
    bloom,
    c4,
    contamination,
    controls,
    cut,
    difficulty,
    edits,
    exact,
    language,
    lines,
    metadata,
    minhash,
    pages,
    pii,
    quality,
    repair,
    select,
    semantic,
    substring,
    tokens,
    urls,
    wordlists,
)
from curate.artifact import Fitter, fitter
from curate.bridges import datatrove
from curate.columns import ADDRESS, HASH128, INT64, KEY, QUARANTINED, ROW, TEXT, UINT64, address
from curate.errors import CurateError, RowsLost
from curate.hashing import files_hash, value_hash
from curate.identity import plain, stable_name
from curate.passes import conform
from curate.stage import Direction, Grain, Stage, arrow_type, stage
from curate.testing import run_fitter, run_rounds
from scorers import lm, loss_ratio

law = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])  # kernels compile once

# Settings to try beside a stage's own defaults, or in place of them where it has none.
SETTINGS: dict[str, tuple[Any, ...]] = {
    "datatrove.filtered": (
        datatrove.as_stage(C4ParagraphFilter(), name="p")[1],
        datatrove.as_stage(C4QualityFilter(min_num_sentences=-1), name="c4", edits=True, adds={"x": "int"})[1],
    ),
    "datatrove.edited": (
        datatrove.as_stage(PIIFormatter())[1],
        datatrove.as_stage(C4QualityFilter(min_num_sentences=-1), name="c4", edits=True, adds={"x": "int"})[1],
    ),
    "badwords.find": (
        badwords.BadWords(lists=(("en", ("cat", "the dog")), ("zh", ("猫",)))),
        badwords.BadWords(lists=(("en", ("cat",)),), tool="original", language="source"),
    ),
    "c4.edit": (c4.C4(), c4.C4(tool="datatrove"), c4.C4(tool="dclm", sentences="marks", min_words=2)),
    "contamination.gate": (contamination.Gate(), contamination.Gate(tokens="tokens")),
    "contamination.overlap": (contamination.Overlap(), contamination.Overlap(run=6, share=0.2, gap=0)),
    "controls.mark": (
        controls.Marks(column="rude"),
        controls.Marks(column="value", type="float64", good="high", roles=("a", "b", "c"), edges=(1.0, -1.0), drop=0.5),
    ),
    "controls.mark_shares": (
        controls.Shares(column="rude"),
        controls.Shares(column="value", type="float32", shares=(0.2, 0.5), roles=("a", "b", "c")),
    ),
    "difficulty.compress": (difficulty.Compression(), difficulty.Compression(level=1)),
    "difficulty.read": (difficulty.Reading(), difficulty.Reading(min_words=1, by_line=True, tokens="tokens")),
    "edits.drop_lines": (edits.DropLines(where="words < 2", pattern="(?i)^the"), edits.DropLines(where="digits > 0")),
    "exact.content_hash": (exact.Exact(), exact.Exact(normalise=True)),
    "exact.duplicates": (exact.Exact(), exact.Exact(keep_by=("-text_bytes", "id"))),
    "minhash.signatures": (
        minhash.Signature(),
        minhash.Signature(like="datatrove", ngram=2),
        minhash.Signature(like="datatrove", ngram=2, hash="sha1", words="whitespace"),
    ),
    "bloom.seen": (bloom.Items(), bloom.Items(of="line")),
    "bloom.seen_lines": (bloom.Items(of="line"),),
    "cut.spans": (cut.Cut(column="repeated_lines", counted="lines"),),
    "lines.line_hashes": (
        lines.Lines(),
        lines.Lines(unit="sentence", run=3, fold="ccnet"),
        lines.Lines(unit="paragraph", fold="none", min_characters=5),
    ),
    "lines.repeated": (
        lines.RepeatedLines(min_documents=2),
        lines.RepeatedLines(min_documents=2, keep="none", within=True, keep_whole=("web",)),
    ),
    "metadata.host": (metadata.Host(), metadata.Host(url="id", form="<{host}>", column="said")),
    "minhash.seen_before": (
        minhash.Seen(ngram=1, bands=40, rows=1, threshold=0.1),
        minhash.Seen(ngram=1, bands=40, rows=1, threshold=0.1, by="minima"),
        minhash.Seen(ngram=1, bands=40, rows=1, by="bands", bucket_cap=1),
    ),
    "minhash.near_duplicates": (
        minhash.MinHash(threshold=0.5),
        minhash.MinHash(like="datatrove", ngram=1, bands=20, rows=1, words="whitespace", threshold=0.3),
        minhash.MinHash(ngram=1, bands=9, rows=2, verify=False, keep_whole=("web",), keep_by=("source in books, web",)),
        minhash.MinHash(ngram=1, bands=20, rows=1, threshold=0.3, bucket_cap=2, neighbours=1, keep_by=("-text_bytes",)),
    ),
    "language.identify": (language.Language(), language.Language(characters=9, links=True, name="cld2")),
    "language.fasttext": (language.FastText(), language.FastText(characters=9, name="lid")),
    "semantic.duplicates": (
        semantic.Semantic(dimensions=3, clusters=1),
        semantic.Semantic(dimensions=3, clusters=3, eps=0.2, keep="easy", against="kept", most=2),
    ),
    "substring.anchors": (substring.Windows(), substring.Windows(min_bytes=6)),
    "substring.repeated": (
        substring.Substring(min_bytes=12, keep_by=("-text_bytes",)),
        substring.Substring(min_bytes=5, keep="none"),
        substring.Substring(min_bytes=7, keep_whole=("books",)),
    ),
    "loss_ratio.color": (
        loss_ratio.Color(),
        loss_ratio.Color(window="head", tokens=8),
        loss_ratio.Color(window="chunk", tokens=4, most=None),
    ),
    "pages.extract": (pages.Extract(), pages.Extract(extractor="trafilatura", fast=True, page_bytes=200, depth=3)),
    "repair.text": (repair.Repair(), repair.Repair(unescape_html="always", normalization="NFKC")),
    "quality.measure": (
        quality.QualityMeasure(),
        quality.QualityMeasure(words="spacy"),
        quality.QualityMeasure(profiles=("gopher_repetition@dclm", "gopher@dclm", "gopher@dolma", "english@curator")),
        quality.QualityMeasure(profiles=("gopher_repetition@dolma-v2", "fineweb2@fra_Latn"), columns=("longest_word",)),
    ),
    "attributes.date": (attributes.Dates(), attributes.Dates(urls=(), dates=("date",), earliest=1, name="said")),
    "pii.mask": (pii.Mask(), pii.DATATROVE),
    "wordlists.measure": (wordlists.WordLists(), wordlists.WordLists(languages=("de", "en"), by="lang")),
    "urls.measure": tuple(urls.Urls(like=like) for like in urls.WAYS),
    "select.take_top": (
        select.Top(label="a", score="score", keep=Direction.HIGH, amount=20),
        select.Top(label="b", score="score", score_type="float64", keep=Direction.LOW, share=0.5),
    ),
    "select.take_uniform": (
        select.Uniform(label="c", cost=None, amount=3),
        select.Uniform(label="d", without="other", share=0.4),
    ),
    "select.take_matched": (
        select.Matched(label="e", to="other"),
        select.Matched(label="f", to="other", by="length", amount=15),
    ),
    "select.take_like": (
        select.Like(label="source", amount=40),
        select.Like(label="length", amount=25),
    ),
}


# ── artifacts ────────────────────────────────────────────────────────────────────────────────────────────────────────

SAMPLE = (
    "The cat sat on the mat and looked at the rain until the rain was over at last.",
    "Ein Hund schläft. The dog sleeps while the cat sat on the mat and looked at the rain until dawn.",
    "猫坐在垫子上看雨。",
    "naïve café, Σίσυφος; 12 monkeys + 3 = 15",
)
SAMPLED = pa.table({
    "key": pa.array([bytes([i]) * 16 for i in range(len(SAMPLE))], KEY),
    "id": pa.array([str(i) for i in range(len(SAMPLE))], TEXT),
    "source": pa.array(["sample"] * len(SAMPLE), TEXT),
    "text": pa.array(SAMPLE, TEXT),
    "text_bytes": pa.array([len(text.encode()) for text in SAMPLE], INT64),
})


@functools.cache
def scratch() -> Path:
    keep.append(tempfile.TemporaryDirectory(prefix="contract-"))
    return Path(keep[-1].name)


keep: list["tempfile.TemporaryDirectory[str]"] = []


def fitted(fitter, config, name, **bases):
    out = scratch() / name
    if not out.exists():
        run_fitter(fitter, [SAMPLED.select(list(dict.fromkeys(["key", *fitter.reads])))], config, out, **bases)
    return out


def length_model(config):
    return toys.open_length(config, against=fitted(toys.longest, toys.Count(), "longest"))


def bpe(config):
    return tokens.open_tokenizer(config, tokenizer=fitted(tokens.train_bpe, tokens.Bpe(vocabulary=300), "bpe"))


def overlap_index(config):
    chosen = contamination.Contamination(n=6, min_words=2)
    return contamination.open_index(config, against=fitted(contamination.index, chosen, "index"))


def two_models(config):
    base = fitted(tokens.train_bpe, tokens.Bpe(vocabulary=300), "bpe")
    tiny = lm.LanguageModel(width=8, layers=1, heads=1, hidden=16, context=16, tokens=256, batch=2)
    prior = fitted(lm.train, tiny, "prior", tokenizer=base)
    conditional = fitted(lm.finetune, lm.Finetune(batch=2), "conditional", base=prior)
    return loss_ratio.open_pair(config, prior=prior, conditional=conditional)


def signature_index(config):
    made = minhash.Index(bands=config.bands, rows=config.rows, ngram=config.ngram, holds=config.by)
    return minhash.open_index(config, index=fitted(minhash.index, made, f"signatures-{config.by}-{config.bands}"))


def tiny_lid(config):
    if not (scratch() / "lid").exists():
        (scratch() / "lid").mkdir()
        tiny_fasttext.write(scratch() / "lid" / "tiny.bin")
    return language.open_model(config, scratch() / "lid")


def seen_before(config):
    return bloom.open_filter(config, filter=fitted(bloom.build, bloom.Bloom(**vars(config)), f"bloom-{config.of}"))


def url_lists(config):
    if not (scratch() / "lists").exists():
        (scratch() / "lists").mkdir()
        for name in ("domains", "urls", "hard_words", "soft_words", "substrings"):
            (scratch() / "lists" / name).write_text("a\nthe\nb.com\none\n", encoding="utf-8")
    return urls.open_lists(config, scratch() / "lists")


def word_lists(config):
    if not (scratch() / "words").exists():
        (scratch() / "words").mkdir()
        for name, words in (("en", "the cat\na\nrain\n"), ("de", "hund\nstraße\n"), ("zh", "看雨\n")):
            (scratch() / "words" / name).write_text(words, encoding="utf-8")
    return wordlists.open_lists(config, scratch() / "words")


def shape(config):
    """The sources, or the lengths (the label says which), of a few documents."""
    return {"like": fitted(select.shape, select.Shape(by=config.label), f"shape-{config.label}")}


MODELS = {
    "bloom.seen": seen_before,
    "bloom.seen_lines": seen_before,
    "datatrove.filtered": datatrove.open_step,
    "datatrove.edited": datatrove.open_step,
    "minhash.seen_before": signature_index,
    "toys.share": length_model,
    "tokens.count": bpe,
    "contamination.overlap": overlap_index,
    "language.fasttext": tiny_lid,
    "urls.measure": url_lists,
    "wordlists.measure": word_lists,
    "loss_ratio.color": two_models,
    "pages.extract": pages.open_sandbox,
    "repair.text": repair.open_fixer,
}
ELSEWHERE: dict[str, str] = {
    "embedding.embed": "test_embedding.py::test_neighbours_in_a_batch_change_little",
}
# Artifacts of a ``rounds`` stage, by parameter: a function of its settings gives their directories (see ``fitted``).
ARTIFACTS: dict[str, Callable[[Any], dict[str, Path]]] = {"select.take_like": shape}


# ── finding stages ───────────────────────────────────────────────────────────────────────────────────────────────────


def modules():
    for package in (curate, scorers):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith("curate.train"):  # the trainer's room knows no stages
                yield importlib.import_module(found.name)


def every_stage(*grains):
    found = {}
    for module in (toys, *modules()):
        for thing in vars(module).values():
            if isinstance(thing, Stage) and thing.fn.__module__ == module.__name__ and thing.grain in (grains or Grain):
                found[thing.name] = thing
    return [found[name] for name in sorted(found)]


@dataclass(frozen=True, eq=False)
class Case:
    """A stage with settings to try it with."""

    stage: Stage
    config: Any
    id: str

    @property
    def model(self):
        return [] if self.stage.load is None else [opened(self)]

    def __call__(self, table):
        return self.stage.on(table, self.config, *self.model)


@functools.cache
def opened(case):
    return MODELS[case.stage.name](case.config)


def cases(*grains, rounds=False):
    for found in every_stage(*grains):
        if found.name in ELSEWHERE or found.rounds != rounds or (rounds and found.name.startswith("toys.")):
            continue
        for i, config in enumerate(SETTINGS.get(found.name) or defaults(found)):
            yield Case(found, config, f"{found.name}-{i}" if i else found.name)


def defaults(found):
    kind = found.config_type
    try:
        return (None if kind is None else kind(),)
    except TypeError as error:
        raise AssertionError(f"say in SETTINGS how to try {found.name}: {error}") from error


def over(*grains, rounds=False):
    return pytest.mark.parametrize("case", list(cases(*grains, rounds=rounds)), ids=lambda case: case.id)


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

ODD = (
    None, "", " ", "\n\n", "\r\n\x85\u2028\u2029", "\x00", "\ufeff", "\u200d\u200d", "e\u0301", "İ", "ß", "ﬁ", "ς Σ",
    "\U0010ffff\ufffd", "🏳️‍🌈🏳️‍🌈", "اَلْعَرَبِيَّةُ", "ไทย", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "<|endoftext|>", "a", "A", "a b", "a  b", "- ...\n• …",
    "x" * 300, "the cat sat on the mat " * 9, "one\n\none\n\none", "#" * 20, *SAMPLE,
)  # fmt: skip
TEXTS = st.one_of(st.sampled_from(ODD), st.text(max_size=30), st.text(alphabet="ab \n", max_size=60))
BY_NAME = {
    "text": TEXTS,
    "id": st.sampled_from(["", "1", "2", "ü", "1#0"]),
    "source": st.one_of(st.none(), st.sampled_from(["", "web", "books"])),
    "key": st.binary(min_size=16, max_size=16),
    "text_bytes": st.integers(0, 3000),
    "lang": st.sampled_from([None, "", "en", "de", "fr"]),
    "embedding": st.one_of(st.none(), st.lists(st.floats(width=32), min_size=3, max_size=3)),
    "messages": st.none() | st.lists(st.fixed_dictionaries({"role": st.none() | TEXTS, "content": TEXTS}), max_size=3),
    "repeated_lines": st.sampled_from([None, [], [0, 0]]),  # spans that fit any text
    "rude": st.none() | st.lists(
        st.fixed_dictionaries({"start": st.integers(0, 3), "stop": st.integers(0, 9), "score": st.none() | st.floats()})
    ),
    "contaminated_found": st.sampled_from([None, '[["a","1"]]', '[["a","1"],["b","1"]]', '[["b","2"]]']),
}
COUNTS = st.one_of(st.none(), st.integers(0, 9))
BY_TYPE = {
    pa.int32(): COUNTS,
    pa.int64(): COUNTS,
    pa.uint64(): st.integers(0, 3),
    pa.float32(): st.one_of(st.none(), st.floats(width=32), st.sampled_from([0.0, 1.0])),
    pa.float64(): st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 1.0])),
    pa.bool_(): st.one_of(st.none(), st.booleans()),
    TEXT: TEXTS,
    HASH128: st.binary(min_size=16, max_size=16),
}


@st.composite
def tables(draw, case, min_size=0):
    """What a stage reads, up to twelve rows; columns of its EACH half are computed, not drawn."""
    size = draw(st.integers(min_size, 12))
    reads = case.stage.reads(case.config)
    half = None if case.stage.each is None else Case(case.stage.each, case.config, "")
    made = set(half.stage.writes(case.config)) if half else set()
    wanted = {n: t for n, t in reads.items() if n not in made} | (half.stage.reads(case.config) if half else {})
    drawn = {}
    for name, kind in wanted.items():
        values = BY_NAME.get(name, BY_TYPE.get(kind))
        assert values is not None, f"say in BY_TYPE what a column of {kind} may hold"
        drawn[name] = pa.array(draw(st.lists(values, min_size=size, max_size=size)), kind)
        if case.stage.name.startswith("toys."):  # they expect no nulls
            drawn[name] = drawn[name].fill_null("" if kind == TEXT else 0)
    table = pa.table(drawn)
    if half:
        written = half(table.select(list(half.stage.reads(case.config))))
        for name in made:
            table = table.append_column(name, written[name])
    return table.select(list(reads))


def cut_at(table, *at):
    """A table in pieces; the later ones start within their buffers."""
    ends = [0, *sorted(at), table.num_rows]
    return [table.slice(a, b - a) for a, b in itertools.pairwise(ends)]


def rows_of(table):
    """Rows to compare: NaN equals itself, 0.0 does not equal -0.0, 1 does not equal 1.0."""
    return [repr(row) for row in table.to_pylist()]


def promised(case, *more):
    return dict(more) | {name: arrow_type(kind) for name, kind in case.stage.writes(case.config).items()}


def held(case, result, rows, *more):
    """A result that is what was declared."""
    beside = {QUARANTINED: TEXT} if case.stage.grain is Grain.MANY else {}
    return conform(result, promised(case, *more), rows, case.stage.name, "here", beside)


# ── declarations ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_stage_is_covered():
    opening = {s.name for s in every_stage() if s.load is not None}
    missing = opening - set(MODELS) - set(ELSEWHERE)
    assert not missing, f"add {sorted(missing)} to MODELS, or to ELSEWHERE with the test that covers it"
    here = Path(__file__).parent
    for name, where in ELSEWHERE.items():
        file, test = where.split("::")
        assert f"def {test}(" in (here / file).read_text(encoding="utf-8"), f"{name}: there is no {where}"
    known = {s.name for s in every_stage()}
    assert (set(MODELS) | set(ELSEWHERE) | set(SETTINGS) | set(ARTIFACTS)) <= known, "an entry without a stage"


def test_stages_of_every_grain_are_found():
    assert {s.grain for s in every_stage()} == set(Grain)
    assert {"quality.measure", "exact.duplicates", "minhash.near_duplicates", "select.take_top", "tokens.count",
            "contamination.overlap"} <= {s.name for s in every_stage()}


@pytest.mark.parametrize("found", every_stage(), ids=lambda found: found.name)
def test_a_declaration_is_whole(found):
    assert found.version, "every stage of the package has a version"
    assert pickle.loads(pickle.dumps(found)) is found
    assert stable_name(found.fn)
    project = tomllib.loads((Path(curate.__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(found.needs.extras) <= set(project["project"]["optional-dependencies"])
    if found.each is not None:
        assert found.each.grain is Grain.EACH
        half = found.each.config_type
        assert half is found.config_type or issubclass(found.config_type, half)
    assert found.fn.__doc__, "the docstring says what the columns mean"


@pytest.mark.parametrize("case", [*cases(), *cases(rounds=True)], ids=lambda case: case.id)
def test_a_declaration_is_a_value(case):
    declared, config = case.stage, case.config
    assert declared.reads(config) == declared.reads(config) and declared.writes(config) == declared.writes(config)
    assert all(isinstance(kind, pa.DataType) for kind in declared.reads(config).values())
    assert promised(case) and not set(promised(case)) & {ROW, ADDRESS}
    assert not any(pa.types.is_string(t) or pa.types.is_binary(t) for t in promised(case).values()), "large types only"
    assert json.loads(json.dumps(plain(config))) == plain(config)
    assert pickle.loads(pickle.dumps(config)) == config


# ── EACH and MANY ────────────────────────────────────────────────────────────────────────────────────────────────────


@over(Grain.EACH)
@law
@given(data=st.data())
def test_a_cut_changes_nothing(case, data):
    table = data.draw(tables(case))
    at = data.draw(st.integers(0, table.num_rows))
    whole = held(case, case(table), table.num_rows)
    pieces = [held(case, case(piece), piece.num_rows) for piece in cut_at(table, at)]
    assert rows_of(pa.concat_tables(pieces)) == rows_of(whole)
    chunked = pa.concat_tables(cut_at(table, at))
    assert rows_of(case(chunked).select(whole.column_names)) == rows_of(whole)


@over(Grain.MANY)
@law
@given(data=st.data())
def test_a_cut_changes_no_replaced_row(case, data):
    table = data.draw(tables(case))
    at = data.draw(st.integers(0, table.num_rows))
    whole = held(case, case(table), None, (ROW, INT64))
    assert all(0 <= row < table.num_rows for row in whole[ROW].to_pylist())
    pieces = []
    for start, piece in zip((0, at), cut_at(table, at), strict=True):
        got = held(case, case(piece), None, (ROW, INT64))
        pieces.append(got.set_column(0, ROW, pa.compute.add(got[ROW], start)))
    assert rows_of(pa.concat_tables(pieces).sort_by(ROW)) == rows_of(whole.sort_by(ROW))


@over(Grain.EACH, Grain.MANY)
def test_an_empty_table(case):
    empty = pa.table({name: pa.array([], kind) for name, kind in case.stage.reads(case.config).items()})
    more = [(ROW, INT64)] if case.stage.grain is Grain.MANY else []
    held(case, case(empty), 0, *more)


@over(Grain.EACH, Grain.MANY, Grain.GROUP, Grain.WHOLE)
@law
@given(data=st.data())
def test_a_stage_is_pure(case, data):
    table = data.draw(tables(case))
    if case.stage.grain in (Grain.GROUP, Grain.WHOLE):
        table = addressed(table)
    before = value_hash(table)
    first = value_hash(case(table))
    assert value_hash(case(table)) == first
    assert value_hash(table) == before


# ── GROUP and WHOLE ──────────────────────────────────────────────────────────────────────────────────────────────────


def addressed(table):
    return table.add_column(0, ADDRESS, pa.array(address(7, np.arange(table.num_rows)), UINT64))


def answered(case, table):
    """What a stage answers, in the order of the rows, every row once."""
    result = held(case, case(table), table.num_rows, (ADDRESS, UINT64)).sort_by(ADDRESS)
    assert result[ADDRESS].to_pylist() == sorted(table[ADDRESS].to_pylist())
    return rows_of(result)


@over(Grain.GROUP)
@law
@given(data=st.data())
def test_groups_may_arrive_in_any_calls(case, data):
    table = addressed(data.draw(tables(case)))
    by = table[case.stage.by].to_pylist()
    call_of = data.draw(st.fixed_dictionaries({value: st.integers(0, 2) for value in sorted(set(by))}))
    found = []
    for call in range(3):
        at = [i for i, value in enumerate(by) if call_of[value] == call]
        mine = table.take(pa.array(sorted(at, key=lambda i: by[i]), INT64))  # as an exchange hands them over
        found += answered(case, mine)
    assert sorted(found) == sorted(answered(case, table))


@over(Grain.WHOLE)
@law
@given(data=st.data())
def test_every_row_is_answered_once(case, data):
    answered(case, addressed(data.draw(tables(case))))


def carried_out(case, parts, buckets=3):
    """The answers of a ``rounds`` stage, a row of the whole table each, addresses told as row numbers; or its error."""
    starts = np.cumsum([0, *(t.num_rows for t in parts)])
    number = {int(a): int(start) + i for p, start in enumerate(starts[:-1])
              for i, a in enumerate(address(p, np.arange(parts[p].num_rows)))}
    try:
        artifacts = ARTIFACTS[case.stage.name](case.config) if case.stage.name in ARTIFACTS else {}
        answer, rows = run_rounds(case.stage, parts, case.config, buckets, **artifacts)
    except CurateError as error:
        return type(error).__name__, error.what
    answer = answer.select([ADDRESS, *promised(case)])
    assert {n: answer[n].type for n in promised(case)} == promised(case)
    table = {ADDRESS: [number[a] for a in answer[ADDRESS].to_pylist()]}  # a KeyError: an address that nobody has
    assert len(set(table[ADDRESS])) == len(table[ADDRESS]), "a row was answered twice"
    for name, kind in promised(case).items():
        values = answer[name].to_pylist()
        table[name] = [None if v is None else number[v] for v in values] if kind == UINT64 else values
    by_row = {row: tuple(repr(table[n][i]) for n in promised(case)) for i, row in enumerate(table[ADDRESS])}
    return sorted(by_row.items()), sorted(rows.reported.items())


@over(Grain.GROUP, Grain.WHOLE, rounds=True)
@law
@given(data=st.data())
def test_parts_and_buckets_change_nothing(case, data):
    table = data.draw(tables(case))
    cuts = data.draw(st.lists(st.integers(0, table.num_rows), max_size=3))
    buckets = data.draw(st.integers(1, 5))
    before = value_hash(table)
    whole = carried_out(case, [table])
    assert carried_out(case, cut_at(table, *cuts)) == whole
    assert carried_out(case, [table], buckets) == whole
    assert value_hash(table) == before


@over(Grain.GROUP, Grain.WHOLE, rounds=True)
def test_no_rows_at_all(case):
    empty = pa.table({name: pa.array([], kind) for name, kind in case.stage.reads(case.config).items()})
    found = carried_out(case, [empty])
    assert found[0] == [] or found[0] == "BadData"


# ── fitters in partial results ───────────────────────────────────────────────────────────────────────────────────────


def fitters():
    for module in modules():
        for thing in vars(module).values():
            if isinstance(thing, Fitter) and thing.fn.__module__ == module.__name__ and thing.part is not None:
                yield thing


# Settings and bases of a fitter with partial results that cannot be tried with its defaults, by its name.
FITTED: dict[str, Callable[[], tuple[Any, dict[str, Path]]]] = {}


def check_fitter(fitter, config, bases, folder):
    """The artifact does not depend on where parts are cut, and a partial result only on the rows it is given."""
    table = SAMPLED.select(list(dict.fromkeys(["key", *fitter.reads])))
    found = set()
    for i, parts in enumerate((cut_at(table), cut_at(table, 1), cut_at(table, 0, 2, 3))):
        run_fitter(fitter, parts, config, folder / str(i), **bases)
        found.add(files_hash(folder / str(i)))
    assert len(found) == 1


def test_parts_do_not_show_in_what_is_learned(tmp_path):
    for found in fitters():
        config, bases = FITTED[found.name]() if found.name in FITTED else (found.config_type(), {})
        check_fitter(found, config, bases, tmp_path / found.name)


def counts_parts(docs, config):
    return pa.table({"rows": pa.array([docs.num_rows], INT64)})


@fitter(reads={"text": TEXT}, part=counts_parts, version="1")
def counts_its_parts(found: pa.Table, config: toys.Count, out: Path) -> None:
    (out / "parts").write_text(str(found.num_rows))


def test_the_law_of_partial_results_catches(tmp_path):
    with pytest.raises(AssertionError):
        check_fitter(counts_its_parts, toys.Count(), {}, tmp_path)


# ── the laws can be broken ───────────────────────────────────────────────────────────────────────────────────────────


@stage(reads={"text": TEXT}, writes={"x": INT64}, grain=Grain.EACH)
def numbers_its_call(docs: pa.Table) -> pa.Table:
    return pa.table({"x": pa.array(range(docs.num_rows), INT64)})


@stage(reads={"text": TEXT}, writes={"x": INT64}, grain=Grain.EACH)
def measures_nothing(docs: pa.Table) -> pa.Table:
    return pa.table({"x": pa.compute.utf8_length(docs["text"]).cast(INT64).drop_null()})


@stage(reads={"size": UINT64}, writes={"x": INT64}, grain=Grain.GROUP, by="size")
def counts_its_call(docs: pa.Table) -> pa.Table:
    return pa.table({ADDRESS: docs[ADDRESS], "x": pa.array([docs.num_rows] * docs.num_rows, INT64)})


@pytest.mark.parametrize(("broken", "test"), [
    (numbers_its_call, test_a_cut_changes_nothing),
    (measures_nothing, test_a_cut_changes_nothing),
    (counts_its_call, test_groups_may_arrive_in_any_calls),
], ids=lambda each: getattr(each, "__name__", ""))
def test_the_laws_catch(broken, test):
    with pytest.raises((AssertionError, RowsLost)):
        test(case=Case(broken, None, "broken"))
