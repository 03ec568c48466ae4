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
CONTESTS = {
    "near": "Near-duplicates, 128 MB Parquet to Parquet, start-up included, our pairs verified",
    "exact": "Exact duplicates, 128 MB Parquet to Parquet, start-up included",
    "filters": "Gopher, repetition, C4 and FineWeb, 128 MB, every number stored",
}


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


def beside(contest: str) -> str:
    """What a contest took, ours first, and the ratio to ours of every other program."""
    programs = result("peers")[contest]["programs"]
    ours = programs["curate"]
    others = "; ".join(
        f"{name} {p['wall']:.1f} s ({p['wall_over_ours']:.1f}× our wall time, {p['cpu_over_ours']:.1f}× our CPU time)"
        for name, p in programs.items() if name != "curate"
    )
    return f"{ours['wall']:.1f} s, {ours['peak_mib']:.0f} MiB; {others}"


def shares(tool: dict[str, Any]) -> str:
    """The share of equal decisions, by profile where they differ."""
    found = {name: f"{100 * p['same_decision'] / tool['documents']:.2f} %" for name, p in tool["profiles"].items()}
    alike = len(set(found.values())) == 1
    return next(iter(found.values())) if alike else ", ".join(f"{name} {share}" for name, share in found.items())


def over(sizes: dict[str, Any], what: str, peer: str) -> str:
    """By how much the trainer is faster than a peer, size by size (medians)."""
    ratios = [size[what][peer]["curate_over_this"][0] for size in sizes.values()]
    return f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}× {peer}"


def nulls(found: dict[str, Any]) -> str:
    """What trials say of mixes that do not differ."""
    made = ", ".join(
        f"{name} {100 * found['simulated'][name]['excludes 0']:.1f} %"
        for name in ("n-gram, 2 MB", "transformer, 300k tokens")
    )
    real = [found["real"][name] for name in ("math", "medical", "python")]
    shares, widths = ([each[what] for each in real] for what in ("excludes 0", "median half-width"))
    return (f"{made}; {100 * min(shares):.1f} to {100 * max(shares):.1f} %, "
            f"{min(widths):.1f} to {max(widths):.1f} %")  # fmt: skip


def packed(rows: dict[str, float]) -> str:
    """How best fit does."""
    speed, waste = rows["documents_per_second"] / 1e6, 100 * rows["waste"]
    return f"{speed:.0f} million documents a second, {waste:.2f} % padding, {rows['truncated']} cut that would fit"


def table() -> str:
    """One row a figure: what, the figure, the script."""
    targets, kill, same = result("targets"), result("kill"), result("same_bytes")
    agreement, near, scale = result("agreement_datatrove"), result("near_dup_gold"), result("scale")["runs"]
    decontamination, trainer = result("decontamination"), result("trainer")["sizes"]
    signed, pages, detectors = result("signatures_datatrove"), result("extraction")["settings"], result("language")
    edits, tools, pii, urls = result("agreement_c4"), result("agreement_tools"), result("pii"), result("urls")
    away = "; ".join(
        f"{domain} {saved(t['mix_against']['random'])} over random, {saved(t['mix_against']['source_matched'])} over "
        f"source-matched, {saved(t['mix_against']['conditional_only'])} over conditional-only"
        for domain, t in targets.items()
    )
    costs = ", ".join(
        f"{r['cpu_seconds'] / r['text_bytes'] * 1e9:.0f} at {r['text_bytes'] / 1e9:.0f}" for r in scale
    )
    marginal = ", ".join(
        f"{name} {p['marginal_mb_per_cpu_second']:.0f}" for name, p in result("peers")["near"]["programs"].items()
        if "marginal_mb_per_cpu_second" in p
    )
    names = ("gopher@datatrove", "gopher_repetition@datatrove", "fineweb@datatrove")
    least = min(agreement["agreement"][n]["same_reason"] for n in names) / agreement["documents"]
    alike = min(min(a["same_reason"], a["same_text"]) for a in edits["agreement"].values()) / edits["documents"]
    decided = "; ".join(f"{name} {shares(t)} of {t['documents']:,} documents" for name, t in tools.items())
    rates, minhash = agreement["megabytes_per_cpu_second"], signed["megabytes_per_cpu_second"]
    found = "; ".join(
        f"{name} {n['precision']:.2f}, {n['recall']['0.80-0.85']['directly']:.3f} and "
        f"{n['recall']['0.85-0.90']['directly']:.3f}"
        for name, n in near["gold"].items() if "recall" in n
    )
    kinds, plain = (decontamination[name]["recall_by_kind"] for name in ("default", "ngram13"))
    exact = ("verbatim", "verbatim_with_answer", "several_items", "split_by_newlines", "formatting")
    alarms = decontamination["default"]
    extracted = "; ".join(
        f"{name} {pages[name]['full']['ours']['f1']:.3f}, "
        f"{pages[name]['speed']['pages_per_cpu_second']['ours']:.0f} beside "
        f"{pages[name]['speed']['pages_per_cpu_second']['library']:.0f}"
        for name in ("resiliparse", "trafilatura")
    )
    ours, py3langid = (detectors["detectors"][name] for name in ("curate language.identify", "py3langid"))
    masked = pii["agreement"]["the pool"]
    rows = [
        ("Three targets, their own kind of source left out of the pool, 10 % budget, n-gram", away, "targets"),
        ("AUROC of CoLoR for the target's own kind of source",
         ", ".join(f"{d} {t['auroc_own_kind']:.4f}" for d, t in targets.items()), "targets"),
        ("The same bytes: local, Dask with 1, 2 and 4 workers, files listed backwards, models included",
         "equal" if same["same"] else "DIFFERENT", "same_bytes"),
        (f"Killed at {kill['engines']['local']['kills']} instants on each engine, resumed",
         "equal to an undisturbed run" if all(e["same"] for e in kill["engines"].values()) else "DIFFERENT", "kill"),
        (f"{scale[-1]['text_bytes'] / 1e9:.0f} GB cleaned and deduplicated, 2 workers",
         f"{scale[-1]['wall_seconds'] / 60:.0f} minutes; {scale[-1]['worker_peak_pss_mib']} MiB a worker at most; CPU "
         f"seconds a GB: {costs}", "scale"),
        *((what, beside(contest), "peers") for contest, what in CONTESTS.items() if contest in result("peers")),
        ("The next 128 MB of near-duplicates, MB a CPU second", marginal, "peers"),
        ("Decisions and reasons equal to datatrove's own filters, three profiles, every document of the pool",
         f"{100 * least:.3f} %", "agreement_datatrove"),
        ("Decisions, reasons and edited texts equal: C4 by datatrove, the original and DCLM, RefinedWeb by DCLM",
         f"{100 * alike:.2f} % of {edits['documents']:,} documents", "agreement_c4"),
        ("Decisions equal to DCLM's, dolma's and NeMo Curator's own rules (Curator's choice among equally frequent "
         "n-grams depends on the hash seed)", decided, "agreement_tools"),
        ("Quality measures, MB of text a CPU second",
         f"{rates['measure, whitespace words, warm']:.0f}; spaCy's words {rates['measure, spacy words, warm']:.0f} "
         f"warm, {rates['measure, spacy words, cold']:.0f} cold; datatrove {rates['datatrove, three filters']:.2f}",
         "agreement_datatrove"),
        (f"Signatures that are datatrove's in all 112 minima of {signed['documents']:,} documents, MB a CPU second",
         f"{minhash['xxhash64, warm']:.0f} warm, {minhash['xxhash64, cold']:.0f} cold; datatrove "
         f"{minhash['datatrove, xxhash64']:.2f}; our own default {minhash['own default, warm']:.0f}",
         "signatures_datatrove"),
        ("Near-duplicates: precision, and the share found of pairs at Jaccard 0.80 to 0.85 and 0.85 to 0.90", found,
         "near_dup_gold"),
        ("Contamination: recall, false alarms",
         f"exact, split and reformatted copies {min(kinds[k] for k in exact):.2f}, 5 % of words changed "
         f"{kinds['words_5pct']:.2f}, first half only {kinds['first_half']:.2f} (plain 13-grams "
         f"{plain['words_5pct']:.2f} and {plain['first_half']:.2f}); {alarms['false_alarms']} of "
         f"{alarms['clean_documents']}", "decontamination"),
        ("Web pages: F1 on the article extraction benchmark, pages a CPU second beside the library alone", extracted,
         "extraction"),
        ("Languages: accuracy on texts with sure labels, texts a CPU second",
         f"{ours['accuracy']['sure labels']:.3f}, {ours['texts_per_cpu_second']:,}; py3langid "
         f"{py3langid['accuracy']['sure labels']:.3f}, {py3langid['texts_per_cpu_second']:,}", "language"),
        ("Personal data masked byte for byte as datatrove masks it, MB a CPU second",
         f"{masked['equal']:,} of {masked['texts']:,}; "
         f"{pii['megabytes_per_cpu_second']['pii.mask, as datatrove']:.0f}, datatrove "
         f"{pii['megabytes_per_cpu_second']['datatrove PIIFormatter']:.0f}", "pii"),
        ("Addresses judged as datatrove judges them", ", ".join(
            f"{c['same_reason']:,} of {c['addresses']:,} ({name})" for name, c in urls["corpora"].items()), "urls"),
        ("Random mixes with 1, 2, 5, 10 and 25 % of their bytes replaced by relevant documents: bits per byte saved, "
         "and how often the 10 % dose is called closer", "; ".join(
             f"{name} {', '.join(f'{x:.1f}' for x in d['response'])} %, {100 * d['improved']:.0f} %"
             for name, d in result("doses").items() if "response" in d), "doses"),
        ("Where there is nothing to see: intervals that exclude 0 in 12,000 simulated trials of each instrument; in "
         "204 of the n-gram on real text, and their half-width", nulls(result("trial_nulls")), "trial_nulls"),
        ("A million real documents packed into rows of 2,048 tokens", packed(result("packing")["rows"]["2048"]),
         "packing"),
        ("`curate trial` of one mix and its controls, by the clock", ", ".join(
            f"preset `{name}` {p['seconds']:.0f} s" for name, p in result("presets")["presets"].items()), "presets"),
        ("The small trainer on one CPU thread, bfloat16, widths 64, 128 and 256: tokens a CPU second over "
         "transformers' Llama of the same weights and over nanoGPT's loop",
         f"training {over(trainer, 'training', 'transformers')} and {over(trainer, 'training', 'nanoGPT')}; scoring "
         f"{over(trainer, 'scoring', 'transformers')}", "trainer"),
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
