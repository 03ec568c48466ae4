"""The commands: ``curate run FILE``, ``plan``, ``trial``, ``sweep``, ``export``, ``report``, ``explain`` and more.

A pipeline file defines ``pipeline(config) -> Plan``; the annotation of its parameter is the dataclass of its settings.
It may define ``calibrate(config) -> config``, which fills in what depends on the machine's speed; what it chose is
remembered in the store, so that the next run has the same plan.

A command imports what it needs when it is called, so that ``--help`` answers at once. Elsewhere: the entry point, and
how errors end (``cli``); what the commands do (``command``, ``trying``).
"""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Decide which tokens a language model is trained on, and prove the decision.",
)

File = Annotated[Path, typer.Argument(help="The pipeline: a Python file with a function pipeline(config).")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: --set budget=0.2 (repeatable).")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings as TOML; --set overrides them.")]
Out = Annotated[str, typer.Option("--out", help="The store: a directory or any fsspec URL.")]
SameCode = Annotated[bool, typer.Option("--same-code", help="Sources changed, what they compute did not.")]


@app.command()
def run(
    file: File,
    engine: Annotated[str, typer.Option(help="local or dask.")] = "local",
    cluster: Annotated[str | None, typer.Option(help="tcp://HOST:PORT, or a TOML file that names a class.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Threads of the local engine (default: up to 4), or processes of a local Dask cluster."),
    ] = None,
    memory: Annotated[str, typer.Option(help="Memory limit of each of them, as in 1.5GiB.")] = "auto",
    sets: Sets = None,
    config: Config = None,
    out: Out = ".curate",
    on_error: Annotated[str, typer.Option(help="quarantine or fail, for what cannot be read.")] = "quarantine",
    same_code: SameCode = False,
) -> None:
    """Carry out a pipeline; finished work is reused, whatever interrupted it."""
    from curate import command

    command.run(file, engine, cluster, workers, memory, sets or [], config, out, on_error, same_code)


@app.command()
def plan(
    file: File, sets: Sets = None, config: Config = None, out: Out = ".curate", same_code: SameCode = False
) -> None:
    """Check a pipeline and show its passes; nothing is read or computed."""
    from curate import command

    command.show_plan(file, sets or [], config, out, same_code)


@app.command()
def trial(
    mixes: Annotated[list[str], typer.Argument(metavar="MIX...", help="What is judged: PATH or NAME=PATH.")],
    against: Annotated[str, typer.Option(help="The pool, or the mix in use: what random draws are taken from.")],
    target: Annotated[list[str], typer.Option(help="What to be good at: PATH or NAME=PATH (repeatable).")],
    transfer: Annotated[list[str] | None, typer.Option(help="Reported beside the verdict (repeatable).")] = None,
    guard: Annotated[list[str] | None, typer.Option(help="What must not suffer (repeatable).")] = None,
    tasks: Annotated[str | None, typer.Option(help="A folder of tasks, one .jsonl file each.")] = None,
    split_column: Annotated[str | None, typer.Option(help="The target's column of train, validation, test.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="The column of texts (default: text); NAME=COLUMN for a single input.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="A model to start from; takes a transformer alone, as the preset anneal.")
    ] = None,
    replay: Annotated[str | None, typer.Option(help="With --base: documents like those it was trained on.")] = None,
    final_tokens: Annotated[
        int | None, typer.Option(help="Tokens of the training that the mixes are meant for: repeat text as it would.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="smoke, quick (the default), cpu; with a GPU screen, standard, deep, curve, anneal."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="dask (the default, without a GPU): models train side by side; or local.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes at once (default: one a core).")] = None,
    sets: Sets = None,
    config: Config = None,
    out: Out = ".curate",
    same_code: SameCode = False,
) -> None:
    """Judge mixes by training small models on them: any files of documents, made by curate or not."""
    from curate import trying

    given = {
        "mixes": mixes, "targets": target, "transfers": transfer, "guards": guard,
        "texts": [name for name in text or [] if "=" in name],
    }  # fmt: skip
    chosen = [f"{name}={json.dumps(values)}" for name, values in given.items() if values]
    once = {
        "against": against, "tasks": tasks, "split_column": split_column, "base": base, "replay": replay,
        "trial.final_tokens": final_tokens, "text": next((name for name in text or [] if "=" not in name), None),
    }  # fmt: skip
    chosen += [f"{name}={value}" for name, value in once.items() if value is not None]
    trying.trial(preset, [*chosen, *(sets or [])], config, engine, workers, out, same_code)


@app.command()
def sweep(
    what: Annotated[str, typer.Argument(metavar="RUN", help="A complete run, or a pipeline's file.")],
    choice: Annotated[str, typer.Argument(metavar="KEY=VALUE,VALUE,...", help="A setting, and what to try.")],
    engine: Annotated[str, typer.Option(help="local or dask.")] = "local",
    workers: Annotated[int | None, typer.Option(help="As for run.")] = None,
    sets: Sets = None,
    config: Config = None,
    out: Out = ".curate",
    same_code: SameCode = False,
) -> None:
    """Try settings on the target's validation split, and confirm the best one on its test split."""
    from curate import trying

    trying.sweep(what, choice, sets or [], config, engine, workers, out, same_code)


@app.command()
def ledger(
    confirm: Annotated[str | None, typer.Option(help="A verdict's id: what became of it at larger scale.")] = None,
    held: Annotated[bool | None, typer.Option("--held/--refuted", help="Whether its direction held there.")] = None,
    scale: Annotated[str, typer.Option(help="Of that comparison: '1.2B, 30B tokens'.")] = "",
    note: Annotated[str, typer.Option(help="Where it is written down.")] = "",
    out: Out = ".curate",
) -> None:
    """Every verdict on record, how it stands among all on its test documents, and how often they held."""
    from curate import trying

    trying.ledger(confirm, held, scale, note, out)


@app.command()
def export(
    mix: Annotated[str, typer.Argument(help="A written mix, or any Parquet file or folder on this machine.")],
    to: Annotated[str, typer.Option(help="megatron, olmo or nanotron.")],
    tokenizer: Annotated[str, typer.Option(help="A folder with tokenizer.json, or bytes.")],
    out: Annotated[Path, typer.Option(help="A new folder for the shards.")],
    text: Annotated[str, typer.Option(help="The column of texts.")] = "text",
    name: Annotated[str, typer.Option(help="Of the dataset, in names of files (default: the mix's).")] = "",
    workers: Annotated[int, typer.Option(help="Processes that tokenise.")] = 1,
) -> None:
    """Write a mix as the tokenised shards of another trainer."""
    from curate import command

    command.export(mix, to, tokenizer, out, text, name, workers)


@app.command()
def report(run: Annotated[str, typer.Argument(help="A run's name or folder.")], out: Out = ".curate") -> None:
    """Show a run's funnel and verdict, and where its page lies."""
    from curate import command

    command.show_report(run, out)


@app.command()
def explain(
    document: Annotated[str, typer.Argument(metavar="ID", help="A document's id.")],
    run: Annotated[str, typer.Argument(help="A run's name or folder.")],
    out: Out = ".curate",
) -> None:
    """Tell what became of a document: every number, every decision, and why."""
    from curate import command

    command.explain(document, run, out)


@app.command()
def doctor() -> None:
    """Say what is installed, which devices there are, and what would not work."""
    from curate import command

    command.doctor()


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("pipeline.py"),
) -> None:
    """Write a commented pipeline to start from."""
    from curate import command

    command.init(path)
