"""Every law of a run, on every engine: the same bytes from local and from Dask with any number of workers."""

import os
import signal

import pytest
from test_run import carry_out, recipe

from curate.engines.dask import Dask
from curate.engines.local import Local
from curate.run import run
from curate.store import Store


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return carry_out(tmp_path_factory.mktemp("local"), recipe()).manifest


@pytest.mark.parametrize("workers", [1, 3])
def test_dask_gives_the_same_bytes(reference, tmp_path, workers):
    outcome = run(recipe(), name="toy", store=Store(str(tmp_path)), open_engine=lambda: Dask(workers=workers))
    assert outcome.manifest["values"] == reference["values"]
    assert outcome.manifest["timing"]["workers"] == workers


def test_local_is_one_worker():
    assert Local().workers == 1


def test_a_worker_may_die(reference, tmp_path):
    """SIGKILL to one worker in mid-run changes nothing but time."""
    engine = Dask(workers=2)
    killed = []

    class Watch:
        def begin(self, label, items, weight):
            if "rank" in label and not killed:
                pid = min(engine._client.run(os.getpid).values())
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

        def advance(self, *_):
            pass

        def end(self, *_):
            pass

    outcome = run(recipe(), name="toy", store=Store(str(tmp_path)), open_engine=lambda: engine, watch=Watch())
    assert killed
    assert outcome.manifest["values"] == reference["values"]
