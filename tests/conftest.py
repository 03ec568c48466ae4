"""What the tests of the command line share."""

import sys

import pytest

from curate.cli import main


@pytest.fixture
def curate(tmp_path, monkeypatch, capsys):
    """Run a command in an empty directory; returns (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["curate", *arguments])
        try:
            with pytest.raises(SystemExit) as left:
                main()
        finally:
            for path in tmp_path.glob("*.py"):  # as in a new process
                sys.modules.pop(path.stem, None)
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return call
