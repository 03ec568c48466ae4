"""What every stage makes of a fixed sample is recorded with its version: a digest may move only where the version does.

The digests lie in tests/data/outputs.json. After a deliberate change, bump the stage's version, then record anew:

    python tests/test_outputs.py --update

which refuses to overwrite the digest of a version that stands there already (remove the entry by hand where the record
itself was wrong). The sample is made of assigned, long-established characters, so that the Unicode version of the
interpreter does not matter; stages whose numbers depend on a model, a library's version or the processor are left out.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_contract import MODELS, SAMPLE, addressed, carried_out, cases, every_stage

from curate.columns import FLOAT32, FLOAT64, INT32, INT64, KEY, TEXT
from curate.controls import PIECES
from curate.hashing import digest, value_hash
from curate.identity import plain
from curate.stage import Grain

RECORD = Path(__file__).parent / "data" / "outputs.json"
LEFT_OUT = {
    "difficulty.compress": "what deflate makes of a text depends on the build of zlib that comes with pyarrow",
    "urls.parse": "the public suffix list comes with a package",
    "datatrove.filtered": "what a filter says depends on its package",
    "datatrove.edited": "what a step makes of a text depends on its package",
    "repair.text": "what is mended depends on the package ftfy",
    "pages.extract": "what an extractor makes of a page depends on its package",
    "language.fasttext": "a model's floats differ between processors",
    "language.identify": "CLD2's tables come with the package pycld2",
    "loss_ratio.color": "a model's floats differ between processors",
    "tokens.count": "the vocabulary depends on the tokenizers package",
}
LONG = "It is a truth universally acknowledged, that a single man in possession of a good fortune, must want a wife."
TEXTS = (
    LONG,
    LONG + " However little known!",
    LONG.upper(),
    "",
    None,
    "  \n\n ",
    "- one\n- two\n- two\n• three…\n\n\n- one",
    "Der Zug fährt. Straße, naïve, Ελλάς",
    SAMPLE[2] * 2,
    "#tag ... #tag ... 12 + 3 = 15",
    "word " * 40,
    LONG,
)
ROWS = len(TEXTS)
NUMBERS = [None if i % 5 == 4 else (i * 7) % 4 for i in range(ROWS)]
COLUMNS = {
    "id": pa.array([str(i) for i in range(ROWS)], TEXT),
    "key": pa.array([bytes([i * 37 % 256] * 16) for i in range(ROWS)], KEY),
    "source": pa.array(["web", "books", None] * (ROWS // 3), TEXT),
    "text": pa.array(TEXTS, TEXT),
    "text_bytes": pa.array([len((t or "").encode()) for t in TEXTS], INT64),
    "url": pa.array(["http://a.org/x", "https://www.a.org/x/", None] * (ROWS // 3), TEXT),
    "embedding": pa.array([[1, 0, 0], [0.9, 0.1, 0], [0, -1, 2], None] * (ROWS // 4), pa.list_(FLOAT32, 3)),
    "repeated_lines": pa.array([None, [], [0, 0]] * (ROWS // 3), pa.list_(INT32)),
    "messages": pa.array([[{"role": "user", "content": t}, {"role": "assistant", "content": t}] for t in TEXTS],
                         pa.list_(pa.struct({"role": TEXT, "content": TEXT}))),
    "rude": pa.array(
        [None if n is None else [{"start": i, "stop": i + 5, "score": n - i} for i in (0, 5)] for n in NUMBERS], PIECES
    ),
    "value": pa.array(NUMBERS, FLOAT64),
    "tokens": pa.array(NUMBERS, INT64),
    "other": pa.array(NUMBERS, INT32),
    "lang": pa.array(["en", "de", None] * (ROWS // 3), TEXT),
    "date": pa.array(["2019-05-12T10:00:00Z", "12 May 2019", "1557655200", "x"] * (ROWS // 4), TEXT),
    "size": pa.array(range(ROWS), INT64),
    "contaminated_items": pa.array([n if n is None else n % 3 for n in NUMBERS], INT32),
    "contaminated_found": pa.array([None, '[["a","1"]]', '[["a","1"],["b","2"]]'] * (ROWS // 3), TEXT),
}
SCORES = [None, np.nan, 0.5, -1.0, 0.5, 2.0, 0.0, -0.25, 3.0, 1.0, 0.5, -2.0]


def sample(case):
    """What the stage reads of the fixed sample; a score has the type that its settings say."""
    columns = dict(COLUMNS)
    reads = case.stage.reads(case.config)
    if "score" in reads:
        columns["score"] = pa.array(SCORES, {FLOAT32: FLOAT32, FLOAT64: FLOAT64}[reads["score"]])
    if "value" in reads:
        columns["value"] = columns["value"].cast(reads["value"])
    if case.stage.each is not None:
        half = case.stage.each
        written = half.on(pa.table(columns).select(list(half.reads(case.config))), case.config)
        columns |= {name: written[name] for name in written.column_names}
    return pa.table({name: columns[name] for name in reads})


def digest_of(case):
    table = sample(case)
    if case.stage.rounds:
        return digest(repr(carried_out(case, [table.slice(0, 5), table.slice(5)])))
    return value_hash(case(addressed(table) if case.stage.grain in (Grain.GROUP, Grain.WHOLE) else table))[:16]


RECORDED = [
    case
    for case in [*cases(), *cases(rounds=True)]
    if case.stage.name not in LEFT_OUT and not case.stage.name.startswith("toys.")
]


def version_of(case):
    """What decides the output: the stage's version, and the settings that it is tried with here."""
    return f"version {case.stage.version}, settings {digest(plain(case.config))[:8]}"


def entries():
    return json.loads(RECORD.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.id)
def test_an_output_moves_only_with_its_version(case):
    entry = entries().get(case.id, {})
    record = "python tests/test_outputs.py --update"
    assert version_of(case) in entry, f"{case.id}, {version_of(case)}, is not recorded yet: run {record}"
    moved = digest_of(case) != entry[version_of(case)]
    assert not moved, f"the output of {case.id} moved: bump the version of {case.stage.name}, then run {record}"


def test_the_record_has_no_strangers():
    assert set(entries()) == {case.id for case in RECORDED}
    assert set(LEFT_OUT) <= {found.name for found in every_stage()}
    packages = {found.name for found in every_stage() if found.needs.extras} | {"difficulty.compress"}
    assert set(LEFT_OUT) <= set(MODELS) | packages, "only what rests on a model or on a package may be left out"


def update():
    """Record what is new, keep the digests that stand, drop what has no stage any more."""
    old = entries() if RECORD.exists() else {}
    new = {case.id: {version_of(case): digest_of(case)} | old.get(case.id, {}) for case in RECORDED}
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(new, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        raise SystemExit(__doc__)
    update()
