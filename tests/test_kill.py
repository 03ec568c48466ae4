"""A run that is killed at any moment is taken up where it was, and ends with the bytes of an undisturbed one."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_run import carry_out, recipe

from curate.store import Store

# Dies at the n-th publication: after the file is written to scratch and before it has its name.
PROGRAM = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from curate.store import Store
from test_run import carry_out, recipe
link, left = Store._link, [{n}]
def dying(self, target, data):
    left[0] -= 1
    if left[0] == 0:
        os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
    return link(self, target, data)
Store._link = dying
carry_out({store!r}, recipe())
"""


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return carry_out(tmp_path_factory.mktemp("undisturbed"), recipe()).manifest["values"]


def test_killed_again_and_again(reference, tmp_path):
    deaths = 0
    for n in (1, 2, 4, 7, 12, 19):
        program = PROGRAM.format(tests=str(Path(__file__).parent), n=n, store=str(tmp_path))
        died = subprocess.run([sys.executable, "-c", program], check=False)
        assert died.returncode in (0, -signal.SIGKILL)
        deaths += died.returncode != 0
    assert deaths >= 5
    outcome = carry_out(tmp_path, recipe())
    assert outcome.manifest["values"] == reference
    assert carry_out(tmp_path, recipe()).computed == 0
    assert Store(str(tmp_path)).names("runs") == [outcome.folder.removeprefix("runs/")]
