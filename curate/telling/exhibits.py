"""Exhibits from the store: score distributions with their cut, documents at the cut, what was dropped, copies, sources.

Everything here is bounded. Narrow columns are read of at most ``SCORE_ROWS`` rows, from parts spread evenly; texts are
decoded of at most ``TEXT_PARTS`` parts, one at a time; where a limit left something out the exhibit says so.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import ROW, unpack
from curate.hashing import digest
from curate.parts import DOCUMENT
from curate.telling import charts, lookup
from curate.telling.lookup import Finished, FrameRecord
from curate.telling.markup import Child, Html, details, h, join, note, table
from curate.telling.present import brief, funnel, megabytes, number, percent, rules_of, selection_step, settings_of

SCORE_ROWS = 2_000_000  # rows whose scores, sources or clusters are read
TEXT_PARTS = 24  # parts whose texts are decoded for one exhibit
DROP_PARTS = 200  # parts whose lists of dropped rows are read
DROP_TEXT_PARTS = 8  # and whose texts are decoded for them
PER_REASON = 2  # examples a reason
BORDER = 3  # examples on each side of a cut
CLUSTERS = 5  # largest clusters of copies
SOURCES = 15
BINS = 48
LONG, SHORT, SNIPPET = 600, 200, 120  # characters of a text

# ── documents ────────────────────────────────────────────────────────────────────────────────────────────────────────


def documents(run: Finished, frame: FrameRecord, wanted: Mapping[int, str], characters: int) -> dict[int, Html]:
    """Documents by address as cards: id, source, size, what ``wanted`` says of each, the beginning of its text."""
    addresses = list(wanted)
    parts = list(dict.fromkeys(part_of(a) for a in addresses))[:TEXT_PARTS]
    texts = lookup.texts(run.store, frame, [a for a in addresses if part_of(a) in parts])
    named = lookup.at(run.store, frame, addresses, ["id", "source", "text_bytes"])
    out = {}
    for address, row in zip(addresses, named, strict=True):
        text = brief(texts[address], characters) if address in texts else "(not read: too many parts)"
        about = f" · {row['source'] or 'no source'} · {megabytes(row['text_bytes'])}"
        about += f" · {wanted[address]}" if wanted[address] else ""
        out[address] = h(
            "div", h("header", h("b", row["id"]), about), h("blockquote", text or "(empty)", dir="auto"), class_="doc"
        )
    return out


def part_of(address: int) -> int:
    """The ordinal of an address' part."""
    return int(unpack(np.array([address], dtype=np.uint64))[0][0])


def limited(parts: Sequence[int], frame: FrameRecord) -> str:
    """What a limit left out."""
    if len(parts) == len(frame.parts):
        return ""
    return f" Read from {len(parts):,} of {len(frame.parts):,} parts, evenly spread."


# ── scores ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def scores_section(run: Finished) -> Html | None:
    """The distribution of every score, what each mix took of it, and documents at the cut."""
    out: list[Child] = []
    for frame in run.told():
        if not frame.scores:
            continue
        chosen = run.chosen(frame)
        parts = lookup.spread(frame, SCORE_ROWS)
        held = hold(run, frame, [*frame.scores, *chosen.values()], parts)
        for score, about in frame.scores.items():
            by_it = {
                mix: column
                for mix, column in chosen.items()
                if settings_of(selection_step(run.manifest, mix)).get("score") == score
            }
            for mix, column in (by_it or dict(list(chosen.items())[:1]) or {"": ""}).items():
                out.append(score_figure(run, score, about, held, mix, column, decided=bool(by_it)))
                if by_it:
                    out.append(border(run, frame, score, held, mix, column))
        if said := limited(parts, frame):
            out.append(note(f"{said.strip()} The documents at the cut are the nearest among these."))
    return join(out) if out else None


def hold(run: Finished, frame: FrameRecord, names: Iterable[str], parts: Sequence[int]) -> dict[str, np.ndarray]:
    """Narrow columns of the living rows of some parts, with ``address``; nulls of floats are NaN, of integers 0."""
    names = list(dict.fromkeys(names))
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("address", *names)}
    for part in parts:
        rows = lookup.living(run.store, frame, part)
        values = lookup.columns(run.store, frame, part, names, rows)
        found["address"].append(np.array(lookup.addresses(part, rows), dtype=np.uint64))
        for name in names:
            column = values[name].combine_chunks()
            kind, null = (pa.int64(), 0) if pa.types.is_integer(column.type) else (pa.float64(), math.nan)
            found[name].append(pc.fill_null(column.cast(kind), null).to_numpy(zero_copy_only=False))
    return {name: np.concatenate(arrays) if arrays else np.empty(0) for name, arrays in found.items()}


def score_figure(
    run: Finished,
    score: str,
    about: Mapping[str, str],
    held: Mapping[str, np.ndarray],
    mix: str,
    column: str,
    *,
    decided: bool,
) -> Html:
    """One histogram: rows in the mix under rows that are not, and the cut where the score ``decided``."""
    values = held[score]
    there = np.isfinite(values)
    whose = f", and the mix {mix}" if mix else None
    title = h("h3", h("code", score), f" ({about['unit']}; {about['keep']} values are kept)", whose)
    if not there.any():
        return join([title, note("No row has this score.")])
    known = values[there]
    inside = held[column][there] > 0 if mix else np.zeros(len(known), dtype=bool)
    cut = selection_step(run.manifest, mix).get("report", {}).get("cut_value") if decided else None
    low, high = np.quantile(known, [0.002, 0.998]).tolist()
    if cut is not None:
        low, high = min(low, cut), max(high, cut)
    if high <= low:
        low, high = low - 0.5, low + 0.5
    edges = np.linspace(low, high, BINS + 1)
    bins = np.clip(np.searchsorted(edges, known, side="right") - 1, 0, BINS - 1)
    counts = [np.bincount(bins[which], minlength=BINS).tolist() for which in (inside, ~inside)]
    stacks = [(f"in {mix}", counts[0], "c1"), ("not in it", counts[1], "c2")] if mix else [("", counts[1], "c2")]
    marks = [(float(cut), f"cut {number(float(cut))}")] if cut is not None else []
    chart = charts.histogram(edges.tolist(), stacks, marks, x_label=f"{score}, {about['unit']}")
    points = np.quantile(known, [0.01, 0.25, 0.5, 0.75, 0.99]).tolist()
    said = f"{len(known):,} documents; percentiles 1, 25, 50, 75, 99: {', '.join(number(p) for p in points)}."
    if len(known) < len(values):
        said += f" {len(values) - len(known):,} have no score."
    said += " The outermost bins hold what lies beyond them."
    if mix and not decided:
        said += f" The mix {mix} was not chosen by this score."
    legend = charts.legend([(name, colour) for name, _, colour in stacks]) if mix else None
    return join([title, h("figure", chart, legend, h("figcaption", said))])


def border(
    run: Finished, frame: FrameRecord, score: str, held: Mapping[str, np.ndarray], mix: str, column: str
) -> Html:
    """Documents on both sides of a mix's cut, and at both ends of the score."""
    high = settings_of(selection_step(run.manifest, mix)).get("keep") == "HIGH"
    rank = -held[score] if high else held[score]  # the best first
    order = np.lexsort((held["address"], rank))
    order = order[np.isfinite(rank[order])]
    taken = held[column][order] > 0
    groups = [
        ("In the mix, just above the cut", order[taken][::-1][:BORDER].tolist()),
        ("Not in the mix, just below the cut", order[~taken][:BORDER].tolist()),
        ("The best by this score", order[:2].tolist()),
        ("The worst by this score", order[::-1][:2].tolist()),
    ]
    address = held["address"].tolist()
    said = {address[i]: f"{score} {number(float(held[score][i]))}" for _, rows in groups for i in rows}
    cards = documents(run, frame, said, LONG)
    columns = [h("div", h("h3", title), [cards[address[i]] for i in rows] or note("none")) for title, rows in groups]
    ends = details("The best and the worst by this score", h("div", columns[2:], class_="pair"))
    return join([h("div", columns[:2], class_="pair"), ends])


# ── what was dropped ─────────────────────────────────────────────────────────────────────────────────────────────────


def dropped_section(run: Finished) -> Html | None:
    """Every reason with what it cost, and two documents that it dropped."""
    out: list[Child] = []
    for frame in {f.living: f for f in reversed(run.told())}.values():
        stops = [s for s in funnel(run.manifest, frame.funnel) if s.dropped]
        if not stops:
            continue
        rules = {(s.label, because): rule for s in stops for because, rule in rules_of(run.steps[s.label]).items()}
        rows: list[tuple[Child, ...]] = []
        for stop in stops:
            for label, (because, amount) in zip(chain([stop.label], repeat("")), stop.dropped.items(), strict=False):
                size = megabytes(amount.text_bytes), number(amount.tokens)
                rule = (h("code", rules.get((stop.label, because), "")),) if rules else ()
                rows.append((label, because, *rule, number(amount.documents), *size))
        head = ("step", "reason", *(("kept are rows with",) if rules else ()), "documents", "text", "tokens")
        out.append(table(head, rows, numeric=range(len(head) - 3, len(head))))
        out += drop_examples(run, frame, [(s.label, because) for s in stops for because in s.dropped])
    return join(out) if out else None


def drop_examples(run: Finished, frame: FrameRecord, wanted: Sequence[tuple[str, str]]) -> list[Child]:
    """Two documents for every (step, reason), folded away."""
    if frame.living is None:
        return []
    found, parts = dropped_rows(run, frame, wanted)
    near = list(dict.fromkeys(part_of(a) for rows in found.values() for a in rows))[:DROP_TEXT_PARTS]
    found = {key: [a for a in rows if part_of(a) in near] for key, rows in found.items()}
    said = {a: what for (step, _), rows in found.items() for a, what in seen_by_rule(run, frame, step, rows).items()}
    cards = documents(run, frame, said, SHORT)
    out: list[Child] = [
        details(f"Dropped as {because}", h("div", [cards[a] for a in found[step, because]], class_="pair"))
        for step, because in wanted
        if found.get((step, because))
    ]
    if text := limited(parts, frame):
        out.append(note(f"Examples:{text}"))
    return out


def dropped_rows(
    run: Finished, frame: FrameRecord, wanted: Sequence[tuple[str, str]]
) -> tuple[dict[tuple[str, str], list[int]], list[int]]:
    """A few addresses for every (step, reason), from as few parts as possible, and the parts that may be looked at."""
    found: dict[tuple[str, str], list[int]] = {key: [] for key in wanted}
    parts = lookup.spread(frame, 1 << 62, DROP_PARTS)
    for part in parts:
        short = [key for key, rows in found.items() if len(rows) < PER_REASON]
        if not short:
            break
        gone = lookup.dropped(run.store, frame, part)
        for step, because in short if gone.num_rows else ():
            mine = gone.filter(pc.and_(pc.equal(gone["step"], step), pc.equal(gone["because"], because)))
            rows = mine[ROW].to_numpy()
            room = min(PER_REASON - len(found[step, because]), len(rows))
            pick = rows[[(2 * i + 1) * len(rows) // (2 * room) for i in range(room)]]  # evenly spread over the part
            found[step, because] += lookup.addresses(part, pick)
    return found, parts


def seen_by_rule(run: Finished, frame: FrameRecord, step: str, addresses: Sequence[int]) -> dict[int, str]:
    """For every row the columns that its step decided by, where these are few."""
    reads = run.steps[step].get("made_of", {}).get("reads", {})
    names = [n for n in reads if frame.places.get(n, DOCUMENT) != DOCUMENT]
    if not 0 < len(names) <= 4:
        return dict.fromkeys(addresses, "")
    rows = lookup.at(run.store, frame, addresses, names)
    return {
        address: ", ".join(f"{n} {value_of(run, frame, n, v)}" for n, v in row.items() if v is not None)
        for address, row in zip(addresses, rows, strict=True)
    }


def value_of(run: Finished, frame: FrameRecord, name: str, value: Any) -> str:
    """A column's value; the address of a row as that row's id."""
    if name.endswith("_copy_of"):
        return str(lookup.at(run.store, frame, [value], ["id"])[0]["id"])
    return number(value)


# ── copies ───────────────────────────────────────────────────────────────────────────────────────────────────────────

COPIES = (("near_copy_of", "near_cluster_size", "Near copies"), ("exact_copy_of", "exact_copies", "Exact copies"))


def copies_section(run: Finished) -> Html | None:
    """The largest clusters of near and of exact copies."""
    out: list[Child] = []
    seen: set[str] = set()
    for frame in run.told():
        for copy_of, size, title in COPIES:
            place = frame.places.get(copy_of)
            if place is None or place in seen or frame.places.get(size) != place:
                continue
            seen.add(place)
            out += [h("h3", title), clusters(run, frame, copy_of, size)]
            identity = place.rsplit("-", 1)[-1]
            for step in run.steps.values():
                if step["kind"] == "global" and step["report"] and digest(step["made_of"]) == identity:
                    rows = [(name.replace("_", " "), number(n)) for name, n in step["report"].items()]
                    out.append(details(f"Numbers of {step['label']}", table(("what", "number"), rows, numeric=(1,))))
    return join(out) if out else None


def clusters(run: Finished, frame: FrameRecord, copy_of: str, size: str) -> Html:
    """The largest clusters: their size, the row that is kept, some of its copies."""
    parts = lookup.spread(frame, SCORE_ROWS)
    addresses, heads, sizes = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for part in parts:
        for table_ in lookup.sidecar(run.store, frame, part, frame.places[copy_of], [copy_of, size]):
            rows = table_.filter(pc.greater(pc.fill_null(table_[size], 0), 1))
            mine = np.array(lookup.addresses(part, rows[ROW].to_numpy()), dtype=np.uint64)
            addresses.append(mine)
            heads.append(np.where(rows[copy_of].is_null().to_numpy(), mine, rows[copy_of].fill_null(0).to_numpy()))
            sizes.append(rows[size].to_numpy())
    where, kept, counts = np.concatenate(addresses), np.concatenate(heads), np.concatenate(sizes)
    if not len(where):
        return note("There are none.")
    names, first = np.unique(kept, return_index=True)
    largest = np.lexsort((names, -counts[first]))[:CLUSTERS]
    members = {int(names[i]): where[(kept == names[i]) & (where != names[i])][:4].tolist() for i in largest}
    wanted = [a for head, copies in members.items() for a in (head, *copies)]
    known = dict(zip(wanted, lookup.at(run.store, frame, wanted, ["id", "source"]), strict=True))
    texts = lookup.texts(run.store, frame, members)
    out = []
    for i, (head, copies) in zip(largest.tolist(), members.items(), strict=True):
        count, own = int(counts[first[i]]), known[head]["source"]
        about = [h("b", known[head]["id"]), " ", h("span", own, class_="dim")]
        others: list[Child] = []
        for a in copies:
            elsewhere = f" ({known[a]['source']})" if known[a]["source"] != own else ""
            others += [", " if others else "", h("span", known[a]["id"], class_="id"), elsewhere]
        more = count - 1 - len(copies)
        kept_row = [about, h("div", brief(texts[head], SNIPPET), class_="note")]
        out.append((count, kept_row, [others, f" and {more:,} more" if more else ""]))
    by_size = Counter(size_class(int(n)) for n in counts[first])
    said = "Clusters by size: " + ", ".join(f"{label} rows: {by_size[label]:,}" for label in SIZES if by_size[label])
    body = table(("rows", "kept", "copies"), out, numeric=(0,), class_="copies")
    return join([body, note(f"{said}.{limited(parts, frame)}")])


SIZES = ("2", "3 to 5", "6 to 10", "11 to 100", "over 100")


def size_class(n: int) -> str:
    """The label of a cluster's size."""
    return SIZES[sum(n > limit for limit in (2, 5, 10, 100))]


# ── sources ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def sources_section(run: Finished) -> Html | None:
    """The share of each source in what was read and in every mix, by bytes of text."""
    out: list[Child] = []
    for frame in run.told():
        chosen = dict(list(run.chosen(frame).items())[:4])
        if not chosen:
            continue
        parts = lookup.spread(frame, SCORE_ROWS)
        found = lookup.by_source(run.store, frame, chosen, parts)
        totals = {name: sum(x.text_bytes for x in held.values()) or 1 for name, held in found.items()}
        shares = {name: {s: x.text_bytes / totals[name] for s, x in held.items()} for name, held in found.items()}
        every = sorted(dict.fromkeys(s for held in shares.values() for s in held))
        peak = {s: max(held.get(s, 0.0) for held in shares.values()) for s in every}
        largest = sorted(every, key=peak.__getitem__, reverse=True)[:SOURCES]
        rows = []
        for source in largest:
            before = shares[""].get(source, 0.0)
            cells: list[Child] = [source or "(none)", [percent(before), charts.bar(before, "c2")]]
            for name in chosen:
                share = shares[name].get(source, 0.0)
                times = h("span", f"  × {share / before:.2f}", class_="dim") if before else None
                cells.append([percent(share), times, charts.bar(share, "c1")])
            rows.append(cells)
        head = ("source", "read", *chosen)
        out.append(table(head, rows, numeric=range(1, len(head))))
        said = "Shares of bytes of text, and how many times the share in what was read; "
        said += f"{len(largest)} of {len(every):,} sources, by their largest share."
        out.append(note(said + limited(parts, frame)))
    return join(out) if out else None
