"""The command line: where ``curate`` starts, and how it ends.

Errors of the user are printed in three lines, without a traceback: exit code 2 before the start, 1 during a run.

The commands are declared with typer (``commands``), which takes 0.1 s to import what it checks values with. A ``curate
run`` that says what it means in plain words is understood without it; typer sees all other commands, abbreviations,
requests for help and mistakes.
"""

import atexit
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The options of ``curate run`` that take a value, the argument of ``command.run`` that each is for, and its type.
OPTIONS: dict[str, tuple[str, type]] = {
    "--engine": ("engine", str),
    "--cluster": ("cluster", str),
    "--workers": ("workers", int),
    "--memory": ("memory", str),
    "--config": ("config", Path),
    "--out": ("out", str),
    "--on-error": ("on_error", str),
}
DEFAULTS: dict[str, Any] = {
    "engine": "local", "cluster": None, "workers": None, "memory": "auto", "sets": [], "config": None,
    "out": ".curate", "on_error": "quarantine", "same_code": False,
}  # fmt: skip
INTERRUPTED = 130  # what a shell calls a command that Ctrl-C ended
OBJECTS = 50_000  # new objects after which Python looks for garbage; its 700 are met some 500 times by imports alone


def plain_run(words: Sequence[str]) -> dict[str, Any] | None:
    """What ``command.run`` is to be called with, or None where typer should look at the words."""
    if not words or words[0] != "run":
        return None
    found: dict[str, Any] = DEFAULTS | {"sets": []}
    rest = iter(words[1:])
    for word in rest:
        if word == "--same-code":
            found["same_code"] = True
        elif word == "--set" or word in OPTIONS:
            value = next(rest, "-")
            if value.startswith("-"):
                return None
            if word == "--set":
                found["sets"].append(value)
                continue
            name, kind = OPTIONS[word]
            if kind is int and not (value.isascii() and value.isdecimal()):
                return None
            found[name] = kind(value)
        elif word.startswith("-") or "file" in found:
            return None
        else:
            found["file"] = Path(word)
    return found if "file" in found else None


def start() -> None:
    """Carry out what the command line says."""
    plain = plain_run(sys.argv[1:])
    if plain is not None:
        from curate import command

        command.run(**plain)
        sys.exit(0)  # as typer ends
    from curate.commands import app

    app()


def main() -> None:
    """The entry point: errors of the user become three lines and an exit code."""
    from curate.errors import CurateError

    # Before torch is imported: waiting threads that spin cost a shared machine a factor of ten.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        start()
    except CurateError as error:
        from rich.console import Console
        from rich.text import Text

        console = Console(stderr=True, soft_wrap=True)
        if error.__cause__ is not None and error.exit_code == 1:
            traceback.print_exception(error.__cause__)
        console.print(Text(error.what, style="bold red"))
        console.print(Text(f"  where  {error.where}"))
        console.print(Text(f"  fix    {error.fix}", style="green"))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as left:  # typer makes an exit with INTERRUPTED of Ctrl-C
        if isinstance(left, SystemExit) and left.code != INTERRUPTED:
            raise
        print("stopped; run the same command again to go on from here", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read the output has gone, and nobody is left to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def program() -> None:
    """``main`` as a process of its own, which ends as soon as it is done.

    What was registered to be done at exit is done. Only modules and memory are not taken down one by one, which takes
    a process with a corpus in memory a third of a second, and the system does it anyway.
    """
    gc.set_threshold(OBJECTS, 20, 20)
    code: int | None = None
    try:
        main()
    except SystemExit as left:
        if not isinstance(left.code, int | None):
            raise
        code = left.code
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
