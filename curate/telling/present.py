"""What a finished run is told as: numbers for people, the funnel, how a mix was chosen, and nothing that is secret.

The report (report.py), the dataset card (card.py) and explanations (explain.py) say the same things in three forms;
what they share is here. It reads the manifest only.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def megabytes(n: float) -> str:
    """Bytes for people: 12.3 MB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:,.1f} {unit}"
    return f"{n:.0f} B"


def number(x: Any) -> str:
    """A value for people: counts in full, other numbers to four digits."""
    if isinstance(x, bool) or x is None:
        return {True: "yes", False: "no", None: "–"}[x]
    if isinstance(x, int):
        return f"{x:,}"
    if isinstance(x, float):
        return f"{x:,.0f}" if x.is_integer() and abs(x) < 1e15 else f"{x:,.4g}" if abs(x) < 1e4 else f"{x:,.0f}"
    return str(x)


def percent(share: float) -> str:
    """A share for people: 12.3 %, and never 0 % or 100 % for what is not."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def brief(text: str | None, characters: int) -> str:
    """The beginning of a text, blank lines and trailing space closed up, with a sign where it goes on."""
    if text is None:
        return "(the text is not at hand: the input file is gone, or has changed)"
    head = re.sub(r"\n\s*\n\s*\n+", "\n\n", text[: 4 * characters]).strip()
    return head[:characters].rstrip() + " …" if len(head) > characters or len(text) > 4 * characters else head


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

HIDDEN = "(hidden)"
_SECRETS = [
    (re.compile(r"(?<=://)[^/\s@'\"]+:[^/\s@'\"]+(?=@)"), HIDDEN),  # user:password in a URL
    (
        re.compile(r"(?i)([?&](?:[\w-]*(?:signature|token|credential|secret|password|key)|sig)=)[^&\s'\"<>]+"),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(
            r"\b(?:hf_|sk-|gh[opsru]_|github_pat_|glpat-|xox[abprs]-)[\w-]{16,}|\bA[KS]IA[A-Z0-9]{16}\b|\bAIza[\w-]{35}"
        ),
        HIDDEN,
    ),
    (re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+"), HIDDEN),  # a signed JSON token
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
]
_NAMED = re.compile(
    r"""(?i)((?:\b|_)(?:password|passwd|passphrase|secret|token|api_?key|access_?key|secret_?key|private_?key|auth|"""
    r"""authorization|credentials?)["']?\s*[:=]\s*)("(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
)


def without_secrets(text: str) -> str:
    """A text with what has the form of a credential hidden: tokens, keys, passwords in URLs, signed queries."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def settings_for_show(toml: str) -> str:
    """Settings as TOML, with the values of what is called a password, a token or a key hidden."""
    return without_secrets(_NAMED.sub(rf'\1"{HIDDEN}"', toml))


# ── the funnel ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Amount:
    """Documents, their bytes of text, and their tokens where they were counted by then."""

    documents: int
    text_bytes: int
    tokens: int | None = None


@dataclass(frozen=True)
class Stop:
    """What is left after a step, and what it dropped, by reason."""

    label: str
    left: Amount
    dropped: Mapping[str, Amount] = field(default_factory=dict)
    note: str = ""


def funnel(manifest: Mapping[str, Any], line: Sequence[str]) -> list[Stop]:
    """What is left after reading, after every keep and every replacement of rows in a line (a mix's ``funnel``)."""
    steps = {s["label"]: s for s in manifest["steps"]}
    keeps = [steps[label] for label in line if steps[label]["kind"] == "keep"]
    out = []
    for label in line:
        step = steps[label]
        if step["kind"] == "read":
            before = keeps[0].get("in", {}).get("tokens") if keeps and keeps[0]["rows"] == step["rows_out"] else None
            note = [f"{step['quarantined']:,} rows quarantined"] if step["quarantined"] else []
            note += [f"byte ranges that cannot be counted: {step['uncounted']:,}"] if step["uncounted"] else []
            out.append(Stop(label, Amount(step["rows_out"], step["text_bytes"], before), {}, ", ".join(note)))
        elif step["kind"] == "keep":
            amounts, whole = step.get("lost", {}), step.get("in", {})  # a keep over no part at all has counted nothing
            lost = {
                because: Amount(n, amounts[because]["text_bytes"], amounts[because].get("tokens"))
                for because, n in sorted(step.get("dropped", {}).items(), key=lambda kv: (-kv[1], kv[0]))
            }
            left = {w: n - sum(v.get(w, 0) for v in amounts.values()) for w, n in whole.items()}
            kept = Amount(step.get("rows_out", 0), left.get("text_bytes", 0), left.get("tokens"))
            out.append(Stop(label, kept, lost))
        elif step["kind"] == "replace":
            childless = {because: Amount(n, 0) for because, n in step["dropped"].items()}
            said = f"{step['rows']:,} rows were replaced by {step['rows_out']:,}"
            said += f", {step['quarantined']:,} rows quarantined" if step["quarantined"] else ""
            out.append(Stop(label, Amount(step["rows_out"], step["text_bytes"]), childless, said))
    return out


def mix_amount(manifest: Mapping[str, Any], mix: str) -> Amount:
    """What a mix holds; its tokens where they were its budget."""
    entry, report = manifest["mixes"][mix], selection_step(manifest, mix).get("report", {})
    tokens = report["cost"] if report.get("unit") == "tokens" else None
    return Amount(entry["rows"], entry["text_bytes"], tokens)


# ── how a mix was chosen ─────────────────────────────────────────────────────────────────────────────────────────────


SELECTIONS = ("Top", "Uniform", "Matched")  # settings of the selections that are told in words


def selection_step(manifest: Mapping[str, Any], mix: str) -> Mapping[str, Any]:
    """The step that wrote a mix's column of copies; empty where the column came with the documents."""
    label = manifest["mixes"][mix]["selection"]
    return next((s for s in manifest["steps"] if s["label"] == label), {})


def settings_of(step: Mapping[str, Any]) -> Mapping[str, Any]:
    """A step's settings as they entered its identity."""
    return step.get("made_of", {}).get("settings") or {}


def selection(manifest: Mapping[str, Any], mix: str, unit: str = "") -> str:
    """How a mix was chosen, in a sentence.

    Args:
        manifest: of the run.
        mix: its name.
        unit: of the score, where it was chosen by one.
    """
    step = selection_step(manifest, mix)
    chosen, report = settings_of(step), step.get("report", {})
    kind = chosen.get("_")
    if kind == "Top":
        end = "highest" if chosen["keep"] == "HIGH" else "lowest"
        wrong = " (the wrong end on purpose: a negative control)" if chosen["inverse"] else ""
        rule = f"the rows with the {end} `{chosen['score']}`{wrong}"
        if "cut_value" in report:
            side = "at least" if chosen["keep"] == "HIGH" else "at most"
            rule += f", {side} {number(report['cut_value'])}{f' {unit}' if unit else ''}"
    elif kind == "Uniform":
        without = f", without the rows of `{chosen['without']}`" if chosen["without"] else ""
        rule = f"a random draw by keyed hash (label {chosen['label']!r}, seed {chosen['seed']}){without}"
    elif kind == "Matched":
        rule = f"a random draw with the shares of {chosen['by']} of `{chosen['to']}`"
    else:
        return f"rows that {manifest['mixes'][mix]['selection'] or 'the source'} chose"
    if chosen["share"] is not None:
        return f"{rule}, up to {percent(chosen['share'])} of all {report.get('unit', chosen['cost'] or 'rows')}"
    return f"{rule}, up to {number(chosen['amount'])} {report.get('unit', chosen['cost'] or 'rows')}"


def rules_of(step: Mapping[str, Any]) -> dict[str, str]:
    """Reason to rule of a step that drops rows, as people write it; a reason with several rules has all of them."""
    found: dict[str, list[str]] = {}
    for rule in step.get("rules", []):
        found.setdefault(rule["because"], []).append(readable(rule["keep"]))
    return {because: " and ".join(rules) for because, rules in found.items()}


def readable(rule: str) -> str:
    """A polars expression's own notation, ``[(col("words")) >= (dyn int: 50)]``, with fewer ornaments: words >= 50."""
    text = re.sub(r'col\("([^"]+)"\)', r"\1", re.sub(r"dyn (?:int|float): ", "", rule))
    text = re.sub(r"(?<![\w.])\((-?[\w.\"]+)\)", r"\1", text)  # an atom in parentheses, but not a call's argument
    text = re.sub(r"\(\[([^\[\]]*)\]\)", r"(\1)", text)
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def verdicts(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Arm to its verdict, over all trials of a run; the first trial that judged an arm counts."""
    found: dict[str, Mapping[str, Any]] = {}
    for trial in manifest["trials"].values():
        for arm, verdict in trial.get("verdicts", {}).items():
            found.setdefault(arm, verdict)
    return found
