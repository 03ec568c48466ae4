"""The figures in README.md, written from benchmarks/results/ and nothing else.

``python benchmarks/figures.py`` rewrites what stands between the markers in README.md; with ``--check`` it changes
nothing and exits with 1 where README.md says something else.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def result(name: str) -> dict[str, Any]:
    """A benchmark's result."""
    return dict(json.loads((RESULTS / f"{name}.json").read_text()))


def saved(c: dict[str, float]) -> str:
    """An estimate with its interval."""
    return f"{c['estimate']:+.1f} % ({c['low']:+.1f} to {c['high']:+.1f})"


def quickstart() -> str:
    """What came out of the quickstart."""
    q, harder = result("quickstart"), result("quickstart.numpy")
    ngram, transformer = (q["instruments"][name]["against"] for name in ("ngram", "transformer"))
    verdict, size = q["sentence"].partition(": ")[2].partition(". ")[0], f"{q['text_bytes'] / 1e6:.1f} MB"
    return f"""
> **{verdict}.** From {q["documents"]:,} documents ({size}), a mix of {q["mix"]["rows"]:,} documents,
> 10 % of the tokens. Bits per byte saved on `huggingface_hub`'s held-out documentation, against random draws
> of equal size: {saved(ngram["random"])} for the byte n-gram, {saved(transformer["random"])} for the small transformer;
> against a random draw from the same packages: {saved(ngram["source_matched"])}; against the conditional model's loss
> alone: {saved(ngram["conditional_only"])}. Expected, from a trial run on another day: +8.8 ± 1.8 % and +5.9 ± 2.2 %.
> It took {q["wall_seconds"]:.0f} seconds and {q["total_peak_mib"] / 1024:.1f} GiB on two cores.
>
> The harder target, `--set target=numpy`: {harder["sentence"].partition(": ")[2]}
"""


def table() -> str:
    """One row a figure: what, the figure, the script."""
    targets, kill, same = result("targets"), result("kill"), result("same_bytes")
    agreement, near, scale = result("agreement_datatrove"), result("near_dup_gold"), result("scale")["runs"]
    decontamination, trainer = result("decontamination")["default"], result("trainer")["sizes"]["default"]
    rates = agreement["megabytes_per_cpu_second"]
    names = ("gopher@datatrove", "gopher_repetition@datatrove", "fineweb@datatrove")
    profiles = [agreement["agreement"][name] for name in names]
    least = min(p["same_reason"] for p in profiles) / agreement["documents"]
    recall = near["gold"]["recall"]
    kinds = decontamination["recall_by_kind"]
    exact = ("verbatim", "verbatim_with_answer", "several_items", "split_by_newlines")
    away = "; ".join(
        f"{domain} {saved(t['mix_against']['random'])} over random, {saved(t['mix_against']['source_matched'])} over "
        f"source-matched, {saved(t['mix_against']['conditional_only'])} over conditional-only"
        for domain, t in targets.items()
    )
    rows = [
        ("Three targets, their own kind of source left out of the pool, 10 % budget, n-gram", away, "targets"),
        ("AUROC of CoLoR for the target's own kind of source",
         ", ".join(f"{d} {t['auroc_own_kind']:.4f}" for d, t in targets.items()), "targets"),
        ("The same bytes: local, Dask with 1, 2 and 4 workers, files listed backwards, models included",
         "equal" if same["same"] else "DIFFERENT", "same_bytes"),
        (f"Killed at {kill['engines']['local']['kills']} instants on each engine, resumed",
         "equal to an undisturbed run" if all(e["same"] for e in kill["engines"].values()) else "DIFFERENT", "kill"),
        (f"{scale[-1]['text_bytes'] / 1e9:.1f} GB cleaned and deduplicated, 2 workers",
         f"{scale[-1]['wall_seconds']:.0f} s; {scale[-1]['worker_peak_mib']} MiB a worker at most; CPU seconds a GB: "
         + ", ".join(f"{r['cpu_seconds'] / r['text_bytes'] * 1e9:.0f} at {r['text_bytes'] / 1e9:.1f}" for r in scale),
         "scale"),
        ("Decisions and reasons equal to datatrove's own filters, three profiles, every document of the pool",
         f"{100 * least:.3f} %", "agreement_datatrove"),
        ("Quality measures, MB of text a CPU second",
         f"{rates['measure, whitespace words, warm']:.0f}; spaCy's words {rates['measure, spacy words, warm']:.0f} "
         f"warm, {rates['measure, spacy words, cold']:.1f} cold; datatrove {rates['datatrove, three filters']:.2f}",
         "agreement_datatrove"),
        ("Near-duplicates: precision; recall of pairs at Jaccard ≥ 0.9, ≥ 0.8",
         f"{near['gold']['precision']:.1f}; {recall['0.90-1.00']['directly']:.3f}, "
         f"{recall['0.80-1.00']['directly']:.3f}",
         "near_dup_gold"),
        (f"Contamination, {decontamination['n']}-grams: recall, false alarms",
         f"exact and split copies {min(kinds[k] for k in exact):.2f}, reformatted {kinds['formatting']:.2f}, 5 % of "
         f"words changed {kinds['words_5pct']:.2f}, first half only {kinds['first_half']:.2f}; "
         f"{decontamination['false_alarms']} of {decontamination['clean_documents']}", "decontamination"),
        ("The small trainer beside transformers' Llama of the same weights, tokens a CPU second",
         f"training {trainer['float32']['training']['ratio']['median']:.1f}×, scoring "
         f"{trainer['float32']['scoring']['ratio']['median']:.1f}× (float32)", "trainer"),
    ]  # fmt: skip
    lines = ["| what | figure | script |", "|---|---|---|"]
    lines += [f"| {what} | {figure} | [{script}.py](benchmarks/{script}.py) |" for what, figure, script in rows]
    return "\n" + "\n".join(lines) + "\n"


def filled(text: str) -> str:
    """README's text with both sections anew."""
    for name, section in (("quickstart", quickstart()), ("figures", table())):
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{section}\n{end}{after}"
    return text


def main() -> int:
    """Write, or check."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        return int(filled(text) != text)
    path.write_text(filled(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
