"""Copies other than near ones: substrings beside a suffix array, bloom filters, lines, and exact copies beside polars.

    python benchmarks/dedup_others.py DATA_DIR [--megabytes 4] [--rounds 5]

DATA_DIR holds ``pool.parquet`` (columns ``id`` and ``text``).

Substrings: every byte that ours marks against those of a suffix array (pydivsufsort, with its array of common prefixes)
over the first ``--megabytes`` of the pool, documents apart; they must be equal. Speed of both, in MB of UTF-8 text per
CPU second on one thread, kernels compiled before; ours in memory over four parts, without files.

Bloom filters: the rate of false alarms that was asked for, that follows from the bits set, and measured with items that
were never put in, by rate and size.

Lines: hashing and finding lines, three-sentence runs and paragraphs of the pool.

Exact: the hashes and the answers of ``curate.exact`` in memory, beside ``polars.DataFrame.unique`` on the same texts in
memory; median of ``--rounds`` in turn. (Whole processes, from Parquet to Parquet: ``peers.py --only exact``.)
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate import bloom, exact, lines, substring
from curate.columns import KEY, TEXT, address
from curate.hashing import mix64
from curate.testing import run_rounds

PARTS = 4


def cpu(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and CPU seconds."""
    began = time.process_time()
    made = work()
    return made, time.process_time() - began


def pool(path: Path) -> pa.Table:
    """The pool's texts, with keys."""
    text = pq.read_table(path / "pool.parquet", columns=["text"])["text"].cast(TEXT).combine_chunks()
    keys = pa.array([i.to_bytes(16, "big") for i in range(len(text))], KEY)
    return pa.table({"text": text, "key": keys})


def parts_of(table: pa.Table) -> list[pa.Table]:
    """The table in PARTS parts."""
    size = -(-len(table) // PARTS)
    return [table.slice(i * size, size) for i in range(PARTS)]


def found_by_us(table: pa.Table, config: substring.Substring) -> list[np.ndarray]:
    """The spans of each text, by this project."""
    anchors = substring.anchors(table.select(["text"]), config.each())["anchors"]
    reads = list(substring.repeated.reads(config))
    answer, _ = run_rounds(substring.repeated, parts_of(table.append_column("anchors", anchors).select(reads)), config)
    flat = answer.sort_by("address")["repeated_spans"].to_pylist()
    return [np.array(spans, dtype=np.int64).reshape(-1, 2) for spans in flat]


def marked_by_suffix_array(raw: list[bytes], least: int) -> np.ndarray:
    """Bytes that lie in a window that occurs twice, over the texts one after the other, bool; by a suffix array.

    Texts are joined as they are: a window that crosses a border is left out by its position.
    """
    from pydivsufsort import divsufsort, kasai

    joined = np.frombuffer(b"".join(raw), dtype=np.uint8).copy()
    order = divsufsort(joined)
    common = kasai(joined, order)  # of neighbours in the order; a run of them is cut at borders below
    ends = np.cumsum([len(r) for r in raw])
    room = ends[np.searchsorted(ends, order, side="right")] - order  # bytes until the text ends
    whole = np.flatnonzero(room >= least)  # windows within one text, still in the order of their bytes
    gaps = np.minimum.reduceat(common, whole) if len(whole) else common[:0]
    twice = np.zeros(len(whole), dtype=bool)
    equal = gaps[:-1] >= least
    twice[:-1] |= equal
    twice[1:] |= equal
    covered = np.zeros(len(joined) + 1, dtype=np.int32)
    starts = order[whole[twice]]
    np.add.at(covered, starts, 1)
    np.add.at(covered, starts + least, -1)
    return np.asarray(np.cumsum(covered)[:-1] > 0)


def shrunk(raw: list[bytes], marked: np.ndarray) -> np.ndarray:
    """Marks without the bytes of characters that are marked in part."""
    data = np.frombuffer(b"".join(raw), dtype=np.uint8)
    begins = (data & 0xC0) != 0x80
    character = np.cumsum(begins) - 1
    whole = np.bitwise_and.reduceat(marked, np.flatnonzero(begins))
    return np.asarray(whole[character])


def substrings(table: pa.Table, megabytes: float) -> list[dict[str, Any]]:
    """Equal marks, and both speeds, by length of the window."""
    ends = np.cumsum(pa.compute.binary_length(table["text"]).to_numpy())
    table = table.slice(0, int(np.searchsorted(ends, megabytes * 1e6)))
    raw = [t.encode() for t in table["text"].to_pylist()]
    size = sum(map(len, raw)) / 1e6
    rows = []
    for least in (100, 200):
        config = substring.Substring(min_bytes=least, keep="none")
        found_by_us(table.slice(0, 50), config)
        spans, ours = cpu(lambda config=config: found_by_us(table, config))
        marks, theirs = cpu(lambda least=least: marked_by_suffix_array(raw, least))
        mine, start = np.zeros(len(marks), dtype=bool), 0
        for text, at in zip(raw, spans, strict=True):
            for a, b in at:
                mine[start + a : start + b] = True
            start += len(text)
        rows.append(
            {
                "min_bytes": least,
                "megabytes": round(size, 2),
                "marked_share": float(mine.mean()),
                "bytes_that_differ": int((mine != shrunk(raw, marks)).sum()),
                "ours_mb_s": size / ours,
                "suffix_array_mb_s": size / theirs,
            }
        )
    return rows


def filters() -> list[dict[str, Any]]:
    """Rates asked for, predicted and measured."""
    rows = []
    for items in (10_000, 1_000_000):
        for rate in (0.1, 0.01, 0.001):
            bits, hashes = bloom.size(items, rate)
            filter = np.zeros(-(-bits // 8), dtype=np.uint8)
            bloom.insert(filter, bits, hashes, mix64(np.arange(items, dtype=np.uint64)))
            probes = mix64(np.arange(1 << 40, (1 << 40) + 1_000_000, dtype=np.uint64))
            measured, seconds = cpu(lambda: float(bloom.contains(filter, bits, hashes, probes).mean()))  # noqa: B023
            fill = int(np.unpackbits(filter).sum()) / bits
            rows.append(
                {
                    "items": items,
                    "asked": rate,
                    "predicted": fill**hashes,
                    "measured": measured,
                    "bits_an_item": bits / items,
                    "lookups_per_cpu_s": len(probes) / seconds,
                }
            )
    return rows


def units(table: pa.Table) -> list[dict[str, Any]]:
    """Hashing and finding repeated units."""
    size = int(pa.compute.sum(pa.compute.binary_length(table["text"])).as_py()) / 1e6
    rows = []
    for unit, run in (("line", 1), ("paragraph", 1), ("sentence", 3)):
        config = lines.RepeatedLines(unit=unit, run=run, min_documents=2)
        for some in (table.slice(0, 50), table):
            hashed, first = cpu(
                lambda some=some, config=config: lines.line_hashes(some.select(["text"]), config.each())
            )
            whole = some.append_column("line_hashes", hashed["line_hashes"])
            whole = whole.append_column("line_ends", hashed["line_ends"])
            reads = list(lines.repeated.reads(config))
            (answer, _), second = cpu(
                lambda whole=whole, config=config, reads=reads: run_rounds(
                    lines.repeated, parts_of(whole.select(reads)), config
                )
            )
        spans = answer["repeated_lines"].combine_chunks().flatten().to_numpy()
        rows.append(
            {
                "unit": unit,
                "run": run,
                "hash_mb_s": size / first,
                "exchange_cpu_s": second,
                "share_of_bytes_repeated": float((spans[1::2] - spans[::2]).sum() / size / 1e6),
            }
        )
    return rows


def copies(table: pa.Table, rounds: int) -> dict[str, Any]:
    """Exact copies in memory, beside polars."""
    frame = pl.DataFrame({"text": table["text"]})
    config = exact.Exact()

    def ours() -> int:
        hashes = exact.content_hash(table.select(["text"]), config.each())
        group = pa.table({"address": address(0, np.arange(len(table))), "key": table["key"]})
        for name in hashes.column_names:
            group = group.append_column(name, hashes[name])
        return int(exact.duplicates(group, config)["exact_copy_of"].null_count)

    kept, times = ours(), {"ours": [], "polars": []}
    for _ in range(rounds):
        began = time.perf_counter()
        found = [ours()]
        times["ours"].append(time.perf_counter() - began)
        began = time.perf_counter()
        found.append(frame.unique("text", keep="first").height)
        times["polars"].append(time.perf_counter() - began)
        if found != [kept, kept]:
            raise SystemExit(f"kept {kept} rows, then {found[0]}, polars {found[1]}")
    ratios = [a / b for a, b in zip(times["ours"], times["polars"], strict=True)]
    return {
        "rows_kept": kept,
        "ours_s": statistics.median(times["ours"]),
        "polars_s": statistics.median(times["polars"]),
        "ratio": statistics.median(ratios),
    }


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """A table on the terminal."""
    print(f"\n{title}")
    print("  ".join(f"{name:>22}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{v:>22.5g}" if isinstance(v, float) else f"{v:>22}" for v in row.values()))


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    table = pool(given.data)
    result: dict[str, Any] = {
        "substring": substrings(table, given.megabytes),
        "bloom": filters(),
        "lines": units(table),
        "exact": [copies(table, given.rounds)],
    }
    for title, rows in result.items():
        show(title, rows)
    result["made"] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": f"{platform.processor() or platform.machine()}, one thread",
        "python": platform.python_version(),
        **{name: version(name) for name in ("numba", "numpy", "polars", "pyarrow", "pydivsufsort")},
    }
    out = Path(__file__).parent / "results" / "dedup_others.json"
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
