"""The report of a run: one HTML page that says what was decided, shows it on examples, and proves it with its noise.

The page needs nothing but itself: no script, no font, no link outward (a policy in its head forbids them), charts are
inline SVG, and it follows light, dark and paper. Whatever comes from documents is escaped (markup.py): texts, ids and
sources were written by strangers.

The order is that of questions a reader has: what came out, what was dropped and why, where the cut runs, how the noise
compares, and with what it was made. Numbers come from the manifest; examples and distributions are looked up in the
store, in narrow columns and within stated limits; where a limit left something out the page says so.

Elsewhere: examples and distributions (telling/exhibits.py), the trial (telling/verdict.py), the style sheet
(data/report.css).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curate.hashing import digest
from curate.store import Store
from curate.telling import charts, lookup, lost
from curate.telling.exhibits import copies_section, dropped_section, scores_section, sources_section
from curate.telling.leaks import contamination_section
from curate.telling.lookup import Finished
from curate.telling.markup import Child, Html, details, h, join, note, raw, table
from curate.telling.present import (
    Amount,
    Stop,
    funnel,
    megabytes,
    mix_amount,
    number,
    percent,
    selection,
    selection_step,
    settings_for_show,
    settings_of,
    verdicts,
)
from curate.telling.verdict import headline as trial_headline
from curate.telling.verdict import trial_section

QUARANTINE_FILES, QUARANTINE_LINES = 500, 40
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(store: Store, folder: str, manifest: Mapping[str, Any]) -> str:
    """A finished run as one HTML page.

    Args:
        store: where it lies.
        folder: the run's, in the store.
        manifest: of the run, published or about to be.
    """
    run = lookup.opened(store, folder, manifest)
    funnels = "From source to mix", funnel_section(run)
    verdict = "Verdict", trial_section(run.manifest["trials"])
    if trial_alone(manifest):  # nothing was selected here, so the verdict is what one came for
        funnels = "What was read", funnels[1]
    sections = [
        *((verdict, funnels) if trial_alone(manifest) else (funnels, verdict)),
        ("Mixes", mixes_section(run)),
        ("Scores and the cut", scores_section(run)),
        ("What was dropped", dropped_section(run)),
        ("Copies", copies_section(run)),
        ("Evaluation items", contamination_section(run)),
        ("Sources", sources_section(run)),
        ("Quarantine", quarantine_section(run)),
        ("Steps", steps_section(run)),
        ("What was run", run_section(run)),
    ]
    shown = [(title, f"s{i}", body) for i, (title, body) in enumerate(sections) if body]
    nav = h("nav", [h("a", title, href=f"#{anchor}") for title, anchor, _ in shown])
    parts = [h("section", h("h2", title, id=anchor), body) for title, anchor, body in shown]
    style = raw((Path(__file__).parent / "data" / "report.css").read_text(encoding="utf-8"))
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", http_equiv="Content-Security-Policy", content=POLICY),
        h("meta", name="referrer", content="no-referrer"),
        h("title", f"{manifest['name']}: report"),
        h("style", style),
    )
    foot = h(
        "footer",
        "Run ",
        h("code", folder),
        ", values ",
        h("code", manifest["values"]),
        f", curate {manifest['curate']}. The values are the same on every engine and with any number of workers.",
    )
    body = h("body", h("main", headline(run, nav), parts, foot))
    return f"<!doctype html>\n{h('html', head, body, lang='en')}\n"


def trial_alone(manifest: Mapping[str, Any]) -> bool:
    """Whether a run judged mixes and wrote none."""
    return bool(manifest["trials"]) and not manifest["mixes"]


# ── the headline ─────────────────────────────────────────────────────────────────────────────────────────────────────


def headline(run: Finished, nav: Html) -> Html:
    """What came out, in a sentence, and the five numbers behind it."""
    manifest, timing = run.manifest, run.manifest["timing"]
    began = datetime.fromtimestamp(timing["began"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    about = (
        f"{manifest['name']}, {began}, {seconds(timing['seconds'])} on {timing['engine']} "
        f"with {timing['workers']} worker{'s' if timing['workers'] != 1 else ''}"
    )
    judged = verdicts(manifest)
    if len(judged) == 1:
        [verdict] = judged.values()
        title, _, numbers = verdict["sentence"].partition(". Bits per byte saved")
        said = [h("p", f"Bits per byte saved{numbers}", class_="lead")] if numbers else []
    elif judged:
        title = trial_headline(manifest["trials"])
        best = max(judged.values(), key=lambda v: v["estimate"])
        said = [h("p", "The most is saved by ", best["sentence"], class_="lead")]
    else:
        title, said = (
            selected_sentence(run),
            [h("p", "No trial was run, so nothing is claimed of how good this choice is.", class_="lead")],
        )
    return h("header", h("p", about, class_="eyebrow"), h("h1", title), said, tiles(run), nav)


def selected_sentence(run: Finished) -> str:
    """What was selected, for a run without a verdict."""
    mixes = run.manifest["mixes"]
    if not mixes:
        return f"{len(run.steps)} steps were carried out, and no mix was written"
    name = next(iter(mixes))
    amount, before = mix_amount(run.manifest, name), first_stop(run, mixes[name]["funnel"])
    tokens = f", {amount.tokens:,} tokens" if amount.tokens is not None else ""
    rest = f", and {len(mixes) - 1} other mix{'es' if len(mixes) > 2 else ''}" if len(mixes) > 1 else ""
    size = f"{megabytes(amount.text_bytes)} of text{tokens}"
    return f"{amount.documents:,} of {before.documents:,} documents were selected for {name} ({size}){rest}"


def first_stop(run: Finished, line: Sequence[str]) -> Amount:
    """What was read."""
    return funnel(run.manifest, line)[0].left


def tiles(run: Finished) -> Html:
    """Five numbers."""
    frames = run.told()
    stops = funnel(run.manifest, frames[0].funnel) if frames else []
    cells: list[tuple[str, str]] = []
    if trial_alone(run.manifest):
        cells += trial_tiles(run.manifest["trials"])
    elif stops:
        cells += [
            (f"{stops[0].left.documents:,}", f"documents read, {megabytes(stops[0].left.text_bytes)}"),
            (f"{stops[-1].left.documents:,}", f"left to choose from, {megabytes(stops[-1].left.text_bytes)}"),
        ]
    for name in list(run.manifest["mixes"])[:2]:
        amount = mix_amount(run.manifest, name)
        size = f"{amount.tokens:,} tokens" if amount.tokens is not None else megabytes(amount.text_bytes)
        cells.append((f"{amount.documents:,}", f"in the mix {name}, {size}"))
    stopped = [s for s in run.steps.values() if "quarantine" in s]
    cells.append((f"{sum(s['quarantined'] for s in stopped):,}", "rows could not be read or replaced"))
    return h("div", [h("div", h("b", big), h("span", small), class_="tile") for big, small in cells], class_="tiles")


def trial_tiles(trials: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What was judged, on what, and how much was trained for it."""
    mixes = sum(len(t["verdicts"]) for t in trials.values())
    scored = sum(t["documents"]["scored"] for t in trials.values())
    runs = [x for t in trials.values() for x in t["timing"].values()]
    spent = seconds(sum(x["cpu_seconds"] for x in runs))
    return [
        (f"{mixes:,}", f"mix{'es' if mixes != 1 else ''} judged"),
        (f"{scored:,}", "documents scored"),
        (f"{sum(x['jobs'] for x in runs):,}", f"small models trained, {spent} of CPU"),
    ]


def seconds(x: float) -> str:
    """A duration for people."""
    if x < 100:
        return f"{x:.1f} s"
    return f"{x / 60:.0f} min" if x < 5400 else f"{x / 3600:.1f} h"


# ── the funnel ───────────────────────────────────────────────────────────────────────────────────────────────────────


def funnel_section(run: Finished) -> Html:
    """Documents, text and tokens left after every step that drops rows, then the mixes, as bars."""
    out: list[Child] = []
    frames = run.told()
    lines = {tuple(s.label for s in funnel(run.manifest, f.funnel)): f for f in frames}
    for frame in lines.values():
        stops = funnel(run.manifest, frame.funnel)
        same = [
            f.label for f in frames if [s.label for s in funnel(run.manifest, f.funnel)] == [s.label for s in stops]
        ]
        ends = [
            Stop(f"mix {name}", mix_amount(run.manifest, name))
            for name, e in run.manifest["mixes"].items()
            if e["frame"] in same
        ]
        out.append(funnel_table(stops, ends))
    return join(out)


def funnel_table(stops: Sequence[Stop], ends: Sequence[Stop]) -> Html:
    """One funnel; what a bar is a share of stands in its first row."""
    first = stops[0].left
    tokens_of = next((s.left.tokens for s in stops if s.left.tokens is not None), None)
    rows = []
    for stop, colour in [*((s, "c2") for s in stops), *((s, "c1") for s in ends)]:
        cells: list[Child] = [h("td", join([h("b", stop.label) if colour == "c1" else stop.label, why(stop)]))]
        for what, value, whole, said in (
            ("documents", stop.left.documents, first.documents, f"{stop.left.documents:,}"),
            ("text", stop.left.text_bytes, first.text_bytes, megabytes(stop.left.text_bytes)),
            ("tokens", stop.left.tokens, tokens_of, number(stop.left.tokens)),
        ):
            share = value / whole if value is not None and whole else None
            cells.append(
                h(
                    "td",
                    said,
                    h("span", f"  {percent(share)}", class_="dim") if share is not None else None,
                    charts.bar(share, colour) if share is not None else None,
                    class_="n",
                    data_what=what,
                )
            )
        rows.append(h("tr", cells))
    head = h(
        "tr",
        [
            h("th", x, scope="col", class_="n" if i else None)
            for i, x in enumerate(("after", "documents", "text", "tokens"))
        ],
    )
    return h("div", h("table", h("thead", head), h("tbody", rows), class_="funnel"), class_="scroll")


def why(stop: Stop) -> Html | None:
    """The reasons of a step's drops, the most frequent first."""
    if stop.note:
        return h("div", stop.note, class_="note")
    if not stop.dropped:
        return None
    reasons = [f"{because} {a.documents:,}" for because, a in list(stop.dropped.items())[:6]]
    more = f", and {len(stop.dropped) - 6} more reasons" if len(stop.dropped) > 6 else ""
    return h("div", "dropped: ", ", ".join(reasons), more, class_="note")


# ── mixes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def mixes_section(run: Finished) -> Html | None:
    """How each mix was chosen, its budget and what it cost."""
    rows = []
    for name, entry in run.manifest["mixes"].items():
        step = selection_step(run.manifest, name)
        report, frame = step.get("report", {}), run.frames.get(entry["frame"])
        unit = frame.scores.get(settings_of(step).get("score", ""), {}).get("unit", "") if frame else ""
        rows.append(
            (
                h("b", name),
                ticked(selection(run.manifest, name, unit)),
                number(entry["rows"]),
                megabytes(entry["text_bytes"]),
                number(report.get("budget")),
                number(report.get("cost")),
                report.get("unit", "–"),
                percent(report["share"]) if "share" in report else "–",
                number(report.get("no_score")),
                len(entry["shards"]),
            )
        )
    if not rows:
        return None
    head = (
        "mix",
        "chosen by",
        "documents",
        "text",
        "budget",
        "cost",
        "unit",
        "of the pool",
        "without a score",
        "shards",
    )
    return join(
        [
            table(head, rows, numeric=(2, 3, 4, 5, 7, 8, 9)),
            note(
                "Rows are taken in the order (score, keyed hash, key) until the next would pass the budget, so a "
                "mix falls short of it by less than one document. A row without a score is never taken by score."
            ),
        ]
    )


def ticked(sentence: str) -> list[Child]:
    """A sentence in which names stand in backticks."""
    return [h("code", piece) if i % 2 else piece for i, piece in enumerate(sentence.split("`"))]


# ── quarantine ───────────────────────────────────────────────────────────────────────────────────────────────────────


def quarantine_section(run: Finished) -> Html | None:
    """What could not be read or replaced: steps, files, places, errors."""
    reads = [s for s in run.steps.values() if "quarantine" in s]
    paths = [(s["label"], p) for s in reads for p in s["quarantine"]]
    if not paths:
        return None
    counts: dict[tuple[str, str, str], list[int]] = {}
    for label, path in paths[:QUARANTINE_FILES]:
        for row in run.store.get_table(path).to_pylist():
            entry = counts.setdefault((label, row["file"], row["error"]), [0, 0, row["offset"], row["row"]])
            entry[0] += max(row["rows"], 0)
            entry[1] += row["rows"] < 0
    ranked = sorted(counts.items(), key=lambda kv: (-kv[1][0], -kv[1][1], kv[0]))
    rows = [
        (label, file, lost.place(offset, row) or "unknown", error, n, m or "–")
        for (label, file, error), (n, m, offset, row) in ranked[:QUARANTINE_LINES]
    ]
    total, uncounted = sum(s["quarantined"] for s in reads), sum(s["uncounted"] for s in reads)
    said = (
        f"{total:,} rows, and {uncounted:,} byte ranges whose rows cannot be counted. They are in no other number here."
    )
    if len(ranked) > QUARANTINE_LINES or len(paths) > QUARANTINE_FILES:
        looked = min(len(paths), QUARANTINE_FILES)
        said += f" Shown are {len(rows):,} of {len(ranked):,} errors, from {looked:,} of {len(paths):,} files."
    head = ("step", "file", "first at", "error", "rows", "ranges not counted")
    return join([table(head, rows, numeric=(4, 5)), note(said)])


# ── how it was made ──────────────────────────────────────────────────────────────────────────────────────────────────


def steps_section(run: Finished) -> Html:
    """Every step: what was computed, what was reused, how long it took, and what identifies it."""
    rows = []
    for step in run.steps.values():
        took = step.get("timing", {}).get("seconds")
        made = step.get("made_of")
        rows.append(
            (
                step["label"],
                step["kind"],
                number(step.get("rows", step.get("rows_in"))),
                number(step.get("computed")),
                number(step.get("reused")),
                f"{took:,.1f}" if took is not None else "–",
                h("code", digest(made) if made else "–"),
                h("span", step["where"], class_="dim"),
            )
        )
    head = ("step", "kind", "rows", "computed", "reused", "seconds", "identity", "where")
    return join(
        [
            table(head, rows, numeric=(2, 3, 4, 5)),
            note(
                "Seconds are summed over parts and workers, and were spent when the step was first computed. "
                "The identity covers code version, settings and all that a step reads; what has the same identity is "
                "never computed twice in a store."
            ),
        ]
    )


def run_section(run: Finished) -> Html:
    """Settings, environment and inputs."""
    config = run.store.read(f"{run.folder}/config.toml").decode()
    env = run.store.get_json(f"{run.folder}/environment.json")
    packages = [(name, version) for name, version in env["packages"].items()]
    reports = [
        (s["label"], ", ".join(f"{k} {number(v)}" for k, v in s["report"].items()))
        for s in run.steps.values()
        if s.get("report")
    ]
    return join(
        [
            details("Settings (TOML)", h("pre", settings_for_show(config) or "(the pipeline takes none)")),
            details(
                "Environment",
                h("p", f"Python {env['python']}, {env['platform']}"),
                table(("package", "version"), packages),
            ),
            details("Numbers that steps reported", table(("step", "numbers"), reports)) if reports else None,
        ]
    )
