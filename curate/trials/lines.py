"""A conclusion for the terminal."""

from collections.abc import Mapping
from typing import Any


def lines(verdict: Mapping[str, Any]) -> list[str]:
    """A conclusion for the terminal."""
    out = [x["sentence"] for x in (*verdict["verdicts"].values(), *verdict["methods"].values())]
    seen = verdict["foresight"]
    for name, x in verdict["instruments"].items():
        run = x["trained"]["random"][0]
        tokens = f"{run['tokens']:,} tokens" if run["tokens"] is not None else "tokens not counted: no tokenizer given"
        orders = ", ".join(f"{b:.3f}" for b in x["ngram_orders_bpb"])
        out += [
            "",
            f"{name}, {seen[name]['seeds']} runs an arm, each of {run['bytes']:,} bytes ({tokens})",
            f"  random: {x['baseline_bpb']:.3f} bits per byte; byte n-grams of order 1 to 6 on the same text: {orders}",
        ]
        out.append(f"  A/A test (99 %): {interval(x['aa'])}")
        for mix, against in x["against"].items():
            for arm, c in against.items():
                out += [
                    f"  {mix} against {arm}: {interval(c)}; could see {c['detectable']:.1f} %",
                    f"    SE {c['se']:.2f} = seeds {c['se_seed']:.2f} and documents {c['se_item']:.2f}; "
                    f"each seed {' '.join(f'{d:+.2f}' for d in c['deltas'])}",
                ]
        out += _beside(x)
    head = f"  {'composition':<24} {'documents':>9} {'bytes':>11} {'median length':>14} {'compression':>12}"
    out += ["", f"{head} {'copies':>8}  largest sources"]
    for name, x in verdict["composition"].items():
        if x["bytes"]:
            largest = sorted(x["sources"].items(), key=lambda kv: (-kv[1], kv[0]))[:3]
            top = ", ".join(f"{s} {100 * share:.0f} %" for s, share in largest)
            top += f"; {100 * x['masked']:.0f} % masked" if x.get("masked") else ""
            out.append(
                f"  {name:<24} {x['documents']:>9,} {x['bytes']:>11,} {x['length']['p50']:>14,.0f} "
                f"{x['compression']:>12.2f} {100 * x['copies']:>6.1f} %  {top}"
            )
    for arm, e in verdict["epochs"].items():
        if e["at_final"] is not None:
            out.append(
                f"  {arm}: {100 * e['of_random']:.3g} % of random's text, read {e['at_final']:.3g} times at the final "
                f"budget and {e['epochs']:.3g} times here"
            )
    out += ["", verdict["guard"]["sentence"]]
    if not verdict["leak"]["alarm"]:
        out += ["", f"none of the {verdict['documents']['scored']} test documents stands in what was searched for them"]
    return [*out, "", *(f"! {x}" for x in verdict["caveats"]), *(f"not tested: {x}" for x in verdict["not_tested"])]


def _beside(x: Mapping[str, Any]) -> list[str]:
    """What an instrument says beside its verdicts."""
    out = [f"  {c['arm']} (inverse of {mix}) against random: {interval(c)}" for mix, c in x["inverse"].items()]
    out += [f"  {arm} against random, for calibration: {interval(c)}" for arm, c in x["references"].items()]
    for key, what in (("per_target", "target"), ("transfer", "beside"), ("guards", "guard")):
        for name, by_mix in x.get(key, {}).items():
            for mix, c in by_mix.items():
                cost = ", a cost" if c.get("cost") else ""
                out.append(f"  {what} {name}, {mix} against random: {interval(c)}, Holm p {c['p_holm']:.2g}{cost}")
    for name, by_arm in x.get("tasks", {}).items():
        for arm, scores in by_arm.items():
            means = {k: sum(scores[k]) / len(scores[k]) for k in ("bpb", "probability", "accuracy") if scores[k]}
            said = ", ".join(f"{k} {v:.3f}" for k, v in means.items())
            out.append(f"  task {name} ({scores['items']} items), {arm}: {said}")
    for mix, m in x.get("multiplier", {}).items():
        out.append(f"  {mix}: as much as {m['text']} times the random data" if m["estimate"] else f"  {m['text']}")
    return out


def interval(c: Mapping[str, Any]) -> str:
    """A difference and its interval."""
    return f"{c['estimate']:+.2f} % ({c['low']:+.2f} to {c['high']:+.2f})"
