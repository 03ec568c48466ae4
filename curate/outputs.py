"""What a plan is for: samples, artifacts, conclusions and written mixes, made from evaluated frames.

An artifact is identified by its content from the moment it is published; a sample by the rows it holds; a mix by the
selection and the columns it carries.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import held
from curate.artifact import names_after
from curate.buckets import layout, shelve
from curate.columns import PARENT, STANDARD
from curate.errors import BadInput, BadPlan, RowsLost
from curate.evaluate import NARROW, Runner
from curate.exchange import WITHIN, StoredRows, groups
from curate.hashing import digest, files_hash, merge
from curate.identity import code_version, plain, stable_name
from curate.learn import STANDARD_SAMPLE, Learn, Partial, Texts, Work, in_order, without_timing
from curate.mixes import (
    Marks,
    Placing,
    Scatter,
    Shard,
    Straight,
    add_weights,
    cut_shards,
    fewest,
    mark,
    marks_for,
    ordered_by,
    route,
    weigh,
)
from curate.order import Cut, sample_cut
from curate.parts import BASE, Part
from curate.plan import Conclude, Fit, Gather, Given, Write, read_above, replaced
from curate.stage import Score
from curate.store import encode

STRAIGHT_READS = 256  # parts read for all shards together, where a mix is written without an exchange
STRAIGHT_BYTES = 256 << 20  # of text decoded for it, where it is not in memory
EMPTY = "the files that were read hold no document: give others, or see the quarantine of the step that read them"


def gather(runner: Runner, node: Gather, reads: Iterable[str]) -> str:
    """The path of a sample's Parquet file."""
    state = runner.state(node.above)
    label = runner.labels[id(node)]
    columns = tuple(dict.fromkeys([*STANDARD_SAMPLE, *read_above(node.above).source.columns, *reads]))
    made_of = {
        "living": state.who,
        "parts": merge([p.name for p in state.parts]),
        "label": node.label,
        "budget": [node.cost, node.amount],
        "columns": {c: state.ids[c] for c in columns},
    }
    home = f"steps/sample-{digest(made_of)}"
    path = f"{home}/sample.parquet"
    if not runner.store.exists(path):
        views = state.views()
        if not views:
            raise BadInput(f"{label}: there is nothing to draw from", where=node.where, fix=EMPTY)
        cut: Cut | None = None
        if node.amount is not None:
            types = runner.known[id(node.above)].types
            rows = StoredRows(runner.store, home, views, types, state.rows, runner.carry, label)
            cut = sample_cut(rows, cost=node.cost, budget=node.amount, label=node.label, seed=0)
        receipts = runner.carry(
            Texts(runner.store, home, cut, columns),
            groups(views),
            label=label,
            receipts=f"{home}/receipts",
            why=runner.why(node, made_of),
        )
        table = in_order(pa.concat_tables([runner.store.get_table(r["path"]) for r in receipts]), node.label, 0)
        if (whole := _whole(table, cut)) is not None:  # a sample says what it is a sample of
            table = table.replace_schema_metadata({"curate.of": json.dumps(whole)})
        runner.store.put_table(path, table)
    else:
        runner.watch.end(label, "reused")
    meta = f"{home}/sample.json"
    if not runner.store.exists(meta):
        table = runner.store.get_table(path)
        published = runner.store.put_table(path, table)
        runner.store.put_json(
            meta,
            {
                "rows": table.num_rows,
                "values": published.values,
                "text_bytes": int(pc.sum(table["text_bytes"]).as_py() or 0),
            },
        )
    runner.note(node, {"kind": "sample", "made_of": made_of, "path": path, **runner.store.get_json(meta)})
    return path


def _whole(table: pa.Table, cut: Cut | None) -> dict[str, int] | None:
    """Rows and bytes of text of all that a sample was drawn from; None where the draw did not count bytes."""
    if cut is None:
        return {"rows": table.num_rows, "bytes": int(pc.sum(table["text_bytes"]).as_py() or 0)}
    if cut.cost != "text_bytes":
        return None
    return {"rows": sum(t.all_rows for t in cut.taken), "bytes": sum(t.all_cost for t in cut.taken)}


def partial(runner: Runner, node: Fit, bases: Mapping[str, tuple[str, str]]) -> tuple[tuple[str, ...], str]:
    """The paths of a fitter's partial results, in part order, and one hash of their values."""
    sample, fitter, part = node.sample, node.fitter, node.fitter.part
    if part is None:
        raise BadPlan(f"{fitter.name} has no partial results", where=node.where, fix="declare part=")
    state = runner.state(sample.above)
    label = f"{runner.labels[id(node)]}{WITHIN}parts"
    cost = [sample.cost] if sample.cost and sample.amount is not None else []
    made_of = {
        "code": f"{stable_name(part)} {code_version(part, fitter.version)}",
        "settings": plain(node.config),
        "numerics": plain(fitter.numerics),
        "living": state.who,
        "columns": {c: state.ids[c] for c in dict.fromkeys(["key", *fitter.reads, *cost])},
        "bases": {name: found for name, (found, _) in bases.items() if name in names_after(part, 2)},
    }
    if sample.amount is not None:  # which rows a sample takes follows from all of them
        made_of |= {
            "parts": merge([p.name for p in state.parts]),
            "label": sample.label,
            "budget": [sample.cost, sample.amount],
        }
    home = f"steps/{fitter.name}-part-{digest(made_of)}"
    views = state.views()
    cut: Cut | None = None
    if sample.amount is not None:
        types = runner.known[id(sample.above)].types
        rows = StoredRows(runner.store, home, views, types, state.rows, runner.carry, label)
        cut = sample_cut(rows, cost=sample.cost, budget=sample.amount, label=sample.label, seed=0)
    wide = "text" in fitter.reads
    receipts = runner.carry(
        Partial(runner.store, home, fitter, node.config, cut, {n: path for n, (_, path) in bases.items()}),
        [(v.part.name, v) for v in views],
        label=label,
        receipts=f"{home}/receipts",
        needs=fitter.needs,
        weights=[v.part.text_bytes if wide else 1 + v.part.text_bytes // NARROW for v in views],
        why=runner.why(node, made_of),
    )
    seen = sum(r["rows"] for r in receipts)
    if cut is None and tuple(r["rows"] for r in receipts) != state.alive:
        raise RowsLost(
            f"{label}: {seen} rows seen, {state.rows} before",
            where=node.where,
            fix="files of the store were removed; use a new one",
        )
    runner.note(sample, {"kind": "partial", "made_of": made_of, "rows": seen})
    return tuple(r["path"] for r in receipts), merge([r["values"] for r in receipts])


def content(runner: Runner, node: Fit | Given) -> tuple[str, str]:
    """An artifact's content hash and the directory of its files."""
    if id(node) in runner.contents:
        return runner.contents[id(node)]
    if isinstance(node, Given):
        found = files_hash(node.path)
        home = f"artifacts/given-{found}"
        for path in sorted(p for p in node.path.rglob("*") if p.is_file()):
            runner.store.publish(f"{home}/{path.relative_to(node.path).as_posix()}", path.read_bytes())
        runner.note(node, {"kind": "given", "path": str(node.path), "values": found})
        runner.contents[id(node)] = found, home
        return found, home
    bases = {name: content(runner, base) for name, base in node.bases.items()}
    sample: str | tuple[str, ...]
    if node.fitter.part is None:
        sample = gather(runner, node.sample, node.fitter.reads)
        seen = runner.steps[runner.labels[id(node.sample)]]["values"]
    else:
        sample, seen = partial(runner, node, bases)
    label = runner.labels[id(node)]
    made_of = {
        "code": f"{stable_name(node.fitter.fn)} {code_version(node.fitter.fn, node.fitter.version)}",
        "settings": plain(node.config),
        "numerics": plain(node.fitter.numerics),
        "sample": seen,
        "bases": {name: content for name, (content, _) in bases.items()},
    }
    home = f"artifacts/{node.fitter.name}-{digest(made_of)}"
    task = Learn(runner.store, home, node.fitter, node.config, sample, {n: path for n, (_, path) in bases.items()})
    [receipt] = runner.carry(
        task, [("artifact", label)], label=label, receipts=home, needs=node.fitter.needs, why=runner.why(node, made_of)
    )
    runner.note(node, {"kind": "fit", "made_of": made_of, "values": receipt["content"], "report": receipt["metrics"]})
    runner.contents[id(node)] = receipt["content"], f"{home}/{receipt['content']}"
    return runner.contents[id(node)]


def conclude(runner: Runner, node: Conclude) -> dict[str, Any]:
    """Carry out an experiment."""
    inputs, contents = {}, {}
    for name, value in node.inputs.items():
        if isinstance(value, Fit | Given):
            contents[name], inputs[name] = content(runner, value)
        else:
            known = runner.known[id(value.above)].columns
            inputs[name] = gather(
                runner, value, [*node.experiment.reads, *(c for c in node.experiment.takes if c in known)]
            )
            contents[name] = runner.steps[runner.labels[id(value)]]["values"]
    label = runner.labels[id(node)]
    experiment = node.experiment
    made_of = {
        "code": f"{stable_name(experiment.conclude)} {code_version(experiment.conclude, experiment.version)}",
        "settings": plain(node.config),
        "numerics": plain(experiment.numerics),
        "inputs": contents,
    }
    home = f"steps/{experiment.name}-{digest(made_of)}"
    local = {k: runner.store.local_copy(path) for k, path in inputs.items()}
    done = f"{home}/conclusion.json"
    if runner.store.exists(done):
        runner.watch.end(label, "reused")
    else:
        jobs = experiment.jobs(node.config, local)
        receipts = runner.carry(
            Work(runner.store, home, experiment, node.config, inputs),
            [(digest(j), j) for j in jobs],
            label=label,
            receipts=f"{home}/receipts",
            needs=experiment.needs,
            why=runner.why(node, made_of),
        )
        results = [runner.store.get_json(r["path"]) for r in receipts]
        if experiment.tables is not None:
            tables = experiment.tables(node.config, jobs, results, local)
            for path, table in tables.items():
                runner.store.publish(f"{home}/tables/{path}", encode(table))
            runner.store.put_json(f"{home}/tables.json", sorted(tables))
        runner.store.put_json(done, experiment.conclude(node.config, jobs, results, local))
    conclusion = dict(runner.store.get_json(done))
    entry = {"kind": "trial", "made_of": made_of, "path": done, "values": digest(without_timing(conclusion))}
    if experiment.tables is not None:
        entry["tables"] = {path: f"{home}/tables/{path}" for path in runner.store.get_json(f"{home}/tables.json")}
    runner.note(node, entry)
    return conclusion


def straight(parts: Sequence[Part], shards: int) -> bool:
    """Whether the shards of a mix are taken straight from its parts, with the same result as through an exchange.

    Each shard reads all parts: that pays where texts are in memory still, or few are decoded more than once.
    """
    if len(parts) * shards > STRAIGHT_READS:
        return False
    size = sum(part.text_bytes for part in parts)
    return size * shards <= STRAIGHT_BYTES or all(held.get(part.of, "text") is not None for part in parts)


def write(runner: Runner, node: Write, name: str) -> dict[str, Any]:
    """Write one mix; returns what the manifest says of it."""
    frame, column = node.mixes[name]
    state = runner.state(frame)
    known = runner.known[id(frame)].columns
    scores = [n for n, kind in known.items() if isinstance(kind, Score) or n == "tokens"]
    told = STANDARD if replaced(frame) else {*STANDARD, PARENT}  # of compact() alone, it says nothing to a reader
    declared = [n for n, place in state.places.items() if place == BASE and n not in told]
    columns = tuple(dict.fromkeys(["id", "text", "source", *declared, "extra", *(node.columns or scores)]))
    made_of = {
        "living": state.who,
        "parts": merge([p.name for p in state.parts]),
        "mix": state.ids[column],
        "columns": {c: state.ids[c] for c in columns},
        "shard_bytes": node.shard_bytes,
        "seed": node.seed,
    }
    order = node.orders.get(name)
    if order is not None:
        made_of["order"] = [order, state.ids[ordered_by(order)]]
    home = f"steps/write-{digest(made_of)}"
    label = f"{runner.labels[id(node)]} {name}"
    done = f"{home}/done.json"
    if runner.store.exists(done):
        entry = dict(runner.store.get_json(done))
        runner.watch.end(label, "reused")
    else:
        views = state.views()
        types = runner.known[id(frame)].types
        rows = StoredRows(runner.store, home, views, types, state.rows, runner.carry, label)
        placing = Placing(column, node.seed, order)
        marks: Marks | None = None
        if order is not None:
            most = marks_for(sum(part.text_bytes for part in state.parts), node.shard_bytes)
            found = rows.map(mark, reads=placing.reads, label="mark", given=(placing, most), merge=fewest)
            marks = Marks.among(found)
        reads = list(dict.fromkeys([*placing.reads, "text_bytes"]))
        tables = rows.map(weigh, reads=reads, label="weigh", given=(placing, marks), merge=add_weights)
        starts, count, _ = cut_shards(tables, node.shard_bytes)
        cut = route(starts, marks)
        publish: Straight | Shard
        if straight(state.parts, len(starts)):
            publish = Straight(runner.store, home, placing, columns, tuple(views), cut)
            wanted = list(range(len(starts))) if count else []
        else:
            pieces = groups(views)
            plan = layout(cut, len(pieces))
            sent = runner.carry(
                Scatter(runner.store, f"{home}/scatter", placing, columns, plan),
                pieces,
                label=f"{label}{WITHIN}scatter",
                receipts=f"{home}/scatter-receipts",
                why=runner.why(node, made_of),
            )
            shelf = shelve(runner.store, f"{home}/scatter", [r["path"] for r in sent], plan, runner.carry, label)
            publish = Shard(runner.store, home, columns, shelf, len(starts))
            wanted = np.flatnonzero(shelf.sizes()[1]).tolist()
        items = [(f"{shard:05d}", shard) for shard in wanted]
        shards = runner.carry(publish, items, label=f"{label}{WITHIN}shards", receipts=f"{home}/receipts")
        written = sum(s["rows"] for s in shards)
        if written != count:
            raise RowsLost(
                f"{label}: {count} copies selected, {written} written",
                where=node.where,
                fix="files of the store were removed; use a new one",
            )
        entry = dict(
            runner.store.put_json(
                done,
                {"rows": count, "shards": shards, "home": home, "text_bytes": sum(s["text_bytes"] for s in shards)},
            )
        )
    entry |= {
        "frame": runner.labels[id(frame)],
        "columns": list(columns),
        "column": column,
        "order": order,
        "selection": runner.chosen(frame, column),
        "funnel": runner.funnel(frame),
        "values": merge([s["values"] for s in entry["shards"]]),
    }
    runner.steps[label] = {
        "label": label,
        "where": node.where,
        "kind": "write",
        "made_of": made_of,
        "rows": entry["rows"],
        "values": entry["values"],
    }
    return entry
