"""The dataset card of a mix: a README that datasets.load_dataset, the Hub and people can read.

Its header is YAML that the Hub knows (license, language, size, which files are the data), its body says what the mix
is, with which verdict and which caveats, how it came out of the source, and how to load it; at the end stand the
settings and the environment, so that the run can be done again. What comes from documents or settings is escaped, and
what has the form of a credential is hidden: a card is made to be published.

Elsewhere: examples, charts and intervals (report.py), for a card travels alone and quotes no document.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from curate.hashing import digest
from curate.store import Store
from curate.telling import lookup
from curate.telling.lookup import FrameRecord
from curate.telling.present import (
    SELECTIONS,
    Amount,
    funnel,
    megabytes,
    mix_amount,
    number,
    percent,
    rules_of,
    selection,
    selection_step,
    settings_for_show,
    settings_of,
    verdicts,
    without_secrets,
)

DATA = "data/train-*.parquet"
SOURCE_ROWS = 5_000_000  # rows whose sources are read
SOURCES = 20
SIZES = (
    "n<1K",
    "1K<n<10K",
    "10K<n<100K",
    "100K<n<1M",
    "1M<n<10M",
    "10M<n<100M",
    "100M<n<1B",
    "1B<n<10B",
    "10B<n<100B",
    "100B<n<1T",
    "n>1T",
)
# Arrow types that the Hub's feature names spell the same way.
PLAIN = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "string", "large_string"}
FLOATS = {"halffloat": "float16", "float": "float32", "double": "float64"}


def card(manifest: Mapping[str, Any], mix: str, store: Store) -> str:
    """The card of one mix, for ``mixes/MIX/README.md`` beside its ``data``.

    Args:
        manifest: of the run, published or about to be.
        mix: its name.
        store: where the run lies.
    """
    frame = frame_of(manifest, mix, store)
    body = [
        *about(manifest, mix, frame),
        *how_it_came(manifest, mix),
        *removed(manifest, mix),
        *sources(manifest, mix, frame, store),
        *loading(mix, manifest["mixes"][mix].get("order")),
        *columns(manifest, mix, frame, store),
        *made_with(manifest, store),
    ]
    return header(manifest, mix, store) + "\n" + "\n".join(body).rstrip() + "\n"


# ── the header ───────────────────────────────────────────────────────────────────────────────────────────────────────


def header(manifest: Mapping[str, Any], mix: str, store: Store) -> str:
    """The YAML between two lines of dashes; what the pipeline gave for the card counts, but for where the data are."""
    entry = manifest["mixes"][mix]
    given = dict(entry.get("card", {}))
    tags = list(dict.fromkeys(["curate", *(given.pop("tags", None) or [])]))
    fields: dict[str, Any] = {
        "pretty_name": f"{manifest['name']}: {mix}",
        "size_categories": [size_category(entry["rows"])],
        "task_categories": ["text-generation"],
    }
    features = features_of(schema_of(manifest, mix, store))
    size = sum(s["bytes"] for s in entry["shards"])
    # The Hub wants the bytes of the loaded table; those of the texts are nearly all of them, and are known.
    split = {"name": "train", "num_bytes": entry["text_bytes"], "num_examples": entry["rows"]}
    sizes = {"download_size": size, "dataset_size": entry["text_bytes"]}
    info = ({"features": features} if features else {}) | {"splits": [split]} | sizes
    data = {
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": DATA}]}],
        "dataset_info": info,
    }
    text = yaml.safe_dump(fields | given | {"tags": tags} | data, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{without_secrets(text)}---\n"


def size_category(rows: int) -> str:
    """The Hub's name for a number of rows."""
    return SIZES[min(len(SIZES) - 1, max(0, len(str(rows)) - 3 if rows >= 1000 else 0))]


def schema_of(manifest: Mapping[str, Any], mix: str, store: Store) -> pa.Schema | None:
    """The columns of a mix, from its first shard; None where it is empty."""
    entry = manifest["mixes"][mix]
    if not entry["shards"]:
        return None
    path = store.full(f"{entry['home']}/{entry['shards'][0]['name']}")
    with store._at[0].open(path, "rb") as file:
        return pq.read_schema(file)


def features_of(schema: pa.Schema | None) -> list[dict[str, str]]:
    """The columns as the Hub writes them; none where one has a type that has no plain name there."""
    if schema is None:
        return []
    names = {f.name: FLOATS.get(str(f.type), str(f.type)) for f in schema}
    known = PLAIN | set(FLOATS.values())
    return [{"name": n, "dtype": t} for n, t in names.items()] if set(names.values()) <= known else []


# ── the body ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def about(manifest: Mapping[str, Any], mix: str, frame: FrameRecord) -> list[str]:
    """What it is, and what was proved of it."""
    entry = manifest["mixes"][mix]
    amount, stops = mix_amount(manifest, mix), funnel(manifest, entry["funnel"])
    read = stops[0].left
    out = [f"# {line(manifest['name'])}: {line(mix)}", ""]
    unit = frame.scores.get(settings_of(selection_step(manifest, mix)).get("score", ""), {}).get("unit", "")
    out += [
        f"{amount.documents:,} documents ({sized(amount)}) for training language models, chosen from "
        f"{read.documents:,} documents ({sized(read)}): {selection(manifest, mix, unit)}.",
        "",
    ]
    judged = verdicts(manifest).get(mix)
    trial: Mapping[str, Any] = next((t for t in manifest["trials"].values() if mix in t.get("verdicts", {})), {})
    out += ["## Verdict", ""]
    if judged is None:
        where = "The run's trial did not judge this mix" if manifest["trials"] else "No trial was run"
        return [*out, f"{where}, so nothing is claimed of how it compares with a random draw.", ""]
    out += [f"**{line(judged['sentence'])}**", ""]
    out += [f"- {line(x)}" for x in trial.get("caveats", [])] + [
        f"- Not tested: {line(x)}." for x in trial.get("not_tested", [])
    ]
    return [*out, ""]


def frame_of(manifest: Mapping[str, Any], mix: str, store: Store) -> FrameRecord:
    """The frame that a mix was chosen from."""
    label = manifest["mixes"][mix]["frame"]
    return lookup.frame_of(store.get_json(next(f["path"] for f in manifest["frames"] if f["label"] == label)))


def how_it_came(manifest: Mapping[str, Any], mix: str) -> list[str]:
    """The funnel in documents, text and tokens."""
    stops = funnel(manifest, manifest["mixes"][mix]["funnel"])
    end = mix_amount(manifest, mix)
    rows = [(stop.label, *cells(stop.left), dropped(stop.dropped) or stop.note) for stop in stops]
    rows.append((Md(f"**mix {line(mix)}**"), *cells(end), ""))
    return [
        "## From source to mix",
        "",
        *table(("left after", "documents", "text", "tokens", "dropped"), rows, "lrrrl"),
        "",
    ]


def removed(manifest: Mapping[str, Any], mix: str) -> list[str]:
    """Thresholds and settings: the selection, the rules, copies and contamination."""
    entry = manifest["mixes"][mix]
    steps = {s["label"]: s for s in manifest["steps"]}
    told: dict[str, str] = {}  # by settings: a global step repeats those of its EACH half, and is told
    if report := selection_step(manifest, mix).get("report"):
        told[""] = f"- Selection: {numbers(report)}."
    for step in (steps[label] for label in entry["funnel"]):
        if step["kind"] == "keep":
            rules = rules_of(step)
            for because, n in sorted(step.get("dropped", {}).items(), key=lambda kv: (-kv[1], kv[0])):
                rule = f"; kept are rows with {code(rules[because])}" if because in rules else ""
                told[f"{step['label']} {because}"] = (
                    f"- {code(because)} dropped {n:,} of {step['rows']:,} documents{rule}."
                )
        elif settings_of(step).get("_") not in (None, *SELECTIONS):
            said = ", ".join(f"{k.replace('_', ' ')} {value(v)}" for k, v in settings_of(step).items() if k != "_")
            found = f" Found: {numbers(step['report'])}." if step.get("report") else ""
            told[digest(settings_of(step))] = f"- {code(step['label'])}: {said}.{found}"
    return ["## Thresholds and settings", "", *told.values(), ""]


def numbers(report: Mapping[str, Any]) -> str:
    """What a step reported; thresholds in full, so that they can be used again."""
    return ", ".join(
        f"{k.replace('_', ' ')} {f'{v:.9g}' if isinstance(v, float) else number(v)}" for k, v in report.items()
    )


def sources(manifest: Mapping[str, Any], mix: str, frame: FrameRecord, store: Store) -> list[str]:
    """The share of each source in what was read and in the mix."""
    entry = manifest["mixes"][mix]
    parts = lookup.spread(frame, SOURCE_ROWS)
    found = lookup.by_source(store, frame, {mix: entry["column"]}, parts)
    pool, mine = (sum(x.text_bytes for x in found[n].values()) or 1 for n in ("", mix))
    rows = [
        (
            source or "(none)",
            number(x.documents),
            megabytes(x.text_bytes),
            percent(x.text_bytes / mine),
            percent(found[""][source].text_bytes / pool) if source in found[""] else "–",
        )
        for source, x in list(found[mix].items())[:SOURCES]
    ]
    if not rows:
        return []
    left = len(found[mix]) - len(rows)
    said = [f"{left:,} smaller sources are left out."] if left else []
    said += [f"Counted on {len(parts):,} of {len(frame.parts):,} parts."] if len(parts) < len(frame.parts) else []
    head = ("source", "documents", "text", "share of the mix", "share of what was read")
    return ["## Sources", "", *table(head, rows, "lrrrr"), "", *([" ".join(said), ""] if said else [])]


def loading(mix: str, order: str | None = None) -> list[str]:
    """How to open it; each of these is carried out by the project's tests."""
    if order is None:
        said = "are one global shuffle, which depends on nothing but the rows and a seed"
    else:
        end = "the largest value down" if order.startswith("-") else "the smallest value up"
        said = f"are in the order of {code(order.removeprefix('-'))}, from {end}, equal values shuffled"
    return [
        "## Loading",
        "",
        f"In the folder that holds this one, {code(mix)}:",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'documents = load_dataset("{mix}", split="train")',
        "```",
        "",
        "```python",
        "import polars as pl",
        "",
        f'documents = pl.scan_parquet("{mix}/{DATA}").collect()',
        "```",
        "",
        "```python",
        "import duckdb",
        "",
        f"documents = duckdb.sql(\"SELECT id, source, text FROM '{mix}/{DATA}'\").fetchall()",
        "```",
        "",
        'From the Hub, once it was pushed, `load_dataset("OWNER/NAME")` does the same. '
        f"The shards {said}: read them in the order of their names.",
        "",
    ]


def columns(manifest: Mapping[str, Any], mix: str, frame: FrameRecord, store: Store) -> list[str]:
    """The columns with their types; scores with their direction."""
    schema = schema_of(manifest, mix, store)
    if schema is None:
        return []
    known = {
        "id": "the source's id, or made at reading; it may repeat",
        "text": "the document",
        "source": "where it is from",
        "extra": "the source's other columns as one JSON object",
        "tokens": "tokens of the text, by the run's tokenizer",
    }
    known |= {
        n: f"a score ({x['unit']}; {x['keep']} values are kept; null where there is none)"
        for n, x in frame.scores.items()
    }
    rows = [(code(f.name), FLOATS.get(str(f.type), str(f.type)), known.get(f.name, "")) for f in schema]
    return ["## Columns", "", *table(("column", "type", "what it is"), rows, "lll"), ""]


def made_with(manifest: Mapping[str, Any], store: Store) -> list[str]:
    """What was run, exactly."""
    folder, timing = manifest["folder"], manifest["timing"]
    config = settings_for_show(store.read(f"{folder}/config.toml").decode()).strip()
    env = store.get_json(f"{folder}/environment.json")
    packages = "\n".join(f"{name} {version}" for name, version in env["packages"].items())
    return [
        "## How it was made",
        "",
        f"By curate {line(manifest['curate'])}, run {code(folder)}, engine {line(timing['engine'])}. The values of all "
        f"its outputs have the hash {code(manifest['values'])}, the same on every engine and with any number of "
        "workers.",
        "",
        "<details><summary>Settings</summary>",
        "",
        *fenced(config or "# the pipeline takes none", "toml"),
        "",
        "</details>",
        "",
        "<details><summary>Environment</summary>",
        "",
        *fenced(f"python {env['python']}\n{env['platform']}\n{packages}", "text"),
        "",
        "</details>",
        "",
    ]


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Md(str):
    """Text that is Markdown already."""


def line(text: object) -> str:
    """A text on one line, with nothing in it that Markdown or HTML would read as markup."""
    text = re.sub(r"\s+", " ", without_secrets(str(text))).strip()
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", escaped(text))


def escaped(text: str) -> str:
    """A text without markup of HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: object) -> Md:
    """A text as code on one line."""
    text = re.sub(r"\s+", " ", without_secrets(str(text))).strip().replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    ticks, space = "`" * (longest + 1), " " if longest else ""
    return Md(f"{ticks}{space}{text}{space}{ticks}")


def fenced(text: str, language: str) -> list[str]:
    """A block of code, fenced by more backticks than it holds."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *text.split("\n"), fence]


def table(head: Sequence[str], rows: Iterable[Sequence[object]], align: str) -> list[str]:
    """A table."""
    rule = {"l": ":--", "r": "--:"}
    return [
        f"| {' | '.join(head)} |",
        f"| {' | '.join(rule[a] for a in align)} |",
        *(f"| {' | '.join(x if isinstance(x, Md) else line(x) for x in row)} |" for row in rows),
    ]


def sized(amount: Amount) -> str:
    """Text, and tokens where they are known."""
    return megabytes(amount.text_bytes) + (f", {amount.tokens:,} tokens" if amount.tokens is not None else "")


def cells(amount: Amount) -> tuple[str, str, str]:
    """An amount as three cells."""
    return number(amount.documents), megabytes(amount.text_bytes), number(amount.tokens)


def dropped(reasons: Mapping[str, Amount]) -> str:
    """Reasons with their documents, the most frequent first."""
    return ", ".join(f"{because} {a.documents:,}" for because, a in reasons.items())


def value(x: Any) -> str:
    """A setting's value on one line."""
    if isinstance(x, list):
        return f"({', '.join(value(v) for v in x)})"
    return line(number(x) if not isinstance(x, str) else repr(x))
