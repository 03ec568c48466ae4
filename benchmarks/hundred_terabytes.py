"""What 100 TB on 1,000 cores would take, reckoned from what benchmarks/scale.py measured.

    python benchmarks/hundred_terabytes.py                    # from benchmarks/results/scale.json
    python benchmarks/hundred_terabytes.py --write            # and puts the tables into docs/scale.md

Everything that follows from the amount of data is taken in proportion from the largest run measured (CPU from the
difference of the two largest, so that starting up does not count); how many files, buckets, levels and tasks there are
is computed by the project's own rules (``curate.buckets.layout`` and the constants of ``curate.exchange``). Nothing
here was run at that size.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate import exchange, minhash
from curate.buckets import MOST, ByKey, ByPart, Layout, layout
from curate.settings import parse_amount
from curate.sources import PART_BYTES

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "scale.md"
DASK = 200  # of our tasks a second through one scheduler
PUT, GET = 5.0, 0.4  # dollars a million requests, the list price of the usual object stores
RECEIPT = 700  # bytes of a receipt in the process that runs the pipeline
TASKS_A_PART = 6  # of pipelines/clean.py: three passes, and three times answers come home


@dataclass(frozen=True)
class Sent:
    """One exchange at full size."""

    label: str
    files: int
    plan: Layout
    moved: float

    @property
    def lots(self) -> int:
        """Lots of files of the first level."""
        return -(-self.files // MOST)

    @property
    def between(self) -> int:
        """Tasks, and files, between the levels."""
        return 0 if self.plan.run is None else self.lots * self.plan.firsts

    @property
    def tasks(self) -> int:
        """Tasks in all."""
        lots = 0 if self.plan.run is None else self.lots + self.plan.firsts
        return self.files + self.between + lots + self.plan.route.buckets

    @property
    def puts(self) -> int:
        """Files written: each with its index, and a receipt a task."""
        return 2 * (self.files + self.between + self.plan.route.buckets) + self.tasks

    @property
    def gets(self) -> int:
        """Ranges and indexes read."""
        buckets = self.plan.route.buckets
        if self.plan.run is None:
            return self.files + self.files * buckets + 2 * buckets
        ranges = self.files * self.plan.firsts + self.lots * buckets
        return ranges + self.files + 2 * self.between + 2 * buckets


def constants(found: dict[str, Any]) -> dict[str, float]:
    """What is taken from the measurements."""
    runs = sorted(found["runs"], key=lambda r: r["text_bytes"])
    last = runs[-1]
    text = last["text_bytes"]
    first = runs[-2] if len(runs) > 1 else {"cpu_seconds": 0.0, "text_bytes": 0}
    told = [r for r in runs if "reports" in r][-1]  # what was sent and found; the largest run that recorded it
    near = told["reports"]["minhash.near_duplicates"]
    out = {
        "text_bytes": text,
        "cpu_a_byte": (last["cpu_seconds"] - first["cpu_seconds"]) / (text - first["text_bytes"]),
        "documents_a_byte": last["documents"] / text,
        "kept_share": last["kept_bytes"] / text,
        "candidate_rows_a_byte": near["candidate_rows"] / told["text_bytes"],
        "candidate_pairs_a_byte": near["candidate_pairs"] / told["text_bytes"],
        "worker_pss_mib": last["worker_peak_pss_mib"],
        "store_a_byte": last["store_bytes"] / text,
    }
    for label in ("exact.duplicates rows", "minhash.near_duplicates bands", "minhash.near_duplicates pairs"):
        out[f"sent {label}"] = told["stored"][f"exchange {label} map"]["bytes"] / told["text_bytes"]
    out["sent write"] = told["stored"]["write scatter"]["bytes"] / told["text_bytes"]
    return out


def exchanges(measured: dict[str, float], text: float) -> list[Sent]:
    """The exchanges of pipelines/clean.py whose records grow with the corpus."""
    documents = measured["documents_a_byte"] * text
    wide, narrow = (
        round(text / max(times * exchange.GROUP_BYTES, min(text / MOST, times * exchange.GROUP_MOST)))
        for times in (1, exchange.NARROW)
    )
    share = measured["candidate_rows_a_byte"] / measured["documents_a_byte"]
    sizes = {
        "exact.duplicates rows": (narrow, 512 * documents),
        "minhash.near_duplicates bands": (narrow, 512 * documents),
        "minhash.near_duplicates pairs": (wide, 2 * share * text),
    }
    out = []
    for label, (files, size) in sizes.items():
        route = ByKey("key", max(1, round(size / exchange.BUCKET_BYTES)))
        out.append(Sent(label, files, layout(route, files), measured[f"sent {label}"] * text))
    shards = max(1, round(measured["kept_share"] * text / (128 << 20)))
    out.append(Sent("write", wide, layout(ByPart(shards), wide), measured["sent write"] * text))
    return out


def tables(found: dict[str, Any], text: float, cores: int) -> str:
    """The page's tables, as Markdown."""
    measured = constants(found)
    parts = round(text / parse_amount(PART_BYTES, where="part_bytes"))
    documents = measured["documents_a_byte"] * text
    sent = exchanges(measured, text)
    homes = [layout(ByPart(parts), s.plan.route.buckets) for s in sent[:2]]
    home = sum(-(-s.plan.route.buckets // MOST) * (1 + h.firsts) for s, h in zip(sent, homes, strict=False))
    tasks = TASKS_A_PART * parts + sum(s.tasks for s in sent) + home
    puts = sum(s.puts for s in sent) + 3 * TASKS_A_PART * parts
    gets = sum(s.gets for s in sent) + 6 * TASKS_A_PART * parts
    cpu = measured["cpu_a_byte"] * text
    candidates = measured["candidate_rows_a_byte"] * text
    pairs = measured["candidate_pairs_a_byte"] * text
    limit = minhash.AT_ONCE / measured["documents_a_byte"]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    lines = [
        f"Measured: {measured['text_bytes'] / 1e9:,.1f} GB on {found['workers']} workers, {found['date']}, {versions}.",
        "",
        "| measured | |",
        "|---|---|",
        f"| CPU seconds a GB of text | {measured['cpu_a_byte'] * 1e9:,.0f} |",
        f"| documents a GB | {measured['documents_a_byte'] * 1e9:,.0f} |",
        f"| rows with a candidate partner | {measured['candidate_rows_a_byte'] / measured['documents_a_byte']:.1%} |",
        f"| text kept | {measured['kept_share']:.1%} |",
        f"| store, bytes a byte of text | {measured['store_a_byte']:.2f} |",
        f"| peak of a worker (PSS) | {measured['worker_pss_mib']:,.0f} MiB |",
        "",
        f"| {text / 1e12:,.0f} TB on {cores:,} cores | |",
        "|---|---|",
        f"| documents | {documents:,.2g} |",
        f"| parts of {PART_BYTES} | {parts:,} |",
        f"| CPU | {cpu / 3600:,.0f} core hours, {cpu / cores / 3600:,.1f} hours on the cluster |",
        f"| tasks | {tasks:,} |",
        f"| at {DASK} tasks a second through one Dask scheduler | {tasks / DASK / 3600:,.1f} hours |",
        f"| store | {measured['store_a_byte'] * text / 1e12:,.0f} TB |",
        f"| requests | {puts / 1e6:,.0f} million writes, {gets / 1e6:,.0f} million reads "
        f"({puts / 1e6 * PUT + gets / 1e6 * GET:,.0f} dollars at list price) |",
        f"| receipts of the largest step in the driver | {max(parts, *(s.plan.route.buckets for s in sent)) * RECEIPT / 1e9:,.1f} GB |",  # noqa: E501
        f"| rows with a candidate partner | {candidates:,.2g}, in {pairs:,.2g} pairs |",
        "",
        "| exchange | map files | levels | tasks between | buckets | sent | reads |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for s in sent:
        levels = 1 if s.plan.run is None else 2
        lines.append(
            f"| {s.label} | {s.files:,} | {levels} | {s.between:,} | {s.plan.route.buckets:,} | "
            f"{s.moved / 1e12:,.1f} TB | {s.gets / 1e6:,.0f} million |"
        )
    lines += ["", f"The pairs of near-duplicates stay in files from {limit / 1e9:,.0f} GB of this text on."]
    return "\n".join(lines)


def main() -> None:
    """Reckon and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=HERE / "results" / "scale.json")
    parser.add_argument("--text", type=float, default=100e12, help="bytes")
    parser.add_argument("--cores", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    arguments = parser.parse_args()
    told = tables(json.loads(arguments.measured.read_text()), arguments.text, arguments.cores)
    print(told)
    if arguments.write:
        before, rest = PAGE.read_text().split("<!-- reckoned -->\n")
        after = rest.split("<!-- end -->\n")[1]
        PAGE.write_text(f"{before}<!-- reckoned -->\n{told}\n<!-- end -->\n{after}")


if __name__ == "__main__":
    main()
