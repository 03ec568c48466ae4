"""Every law of a run, on every engine: the same bytes from local and from Dask with any number of workers."""

import os
import signal
import threading
import time

import pytest
from distributed import LocalCluster
from test_run import carry_out, recipe

from curate.engines.dask import Dask
from curate.engines.local import Local
from curate.errors import BadInput
from curate.run import run
from curate.stage import Needs
from curate.store import Store


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return carry_out(tmp_path_factory.mktemp("local"), recipe()).manifest


def test_threads_give_the_same_bytes(reference, tmp_path):
    outcome = run(recipe(), name="toy", store=Store(str(tmp_path)), open_engine=lambda: Local(3))
    assert outcome.manifest["values"] == reference["values"]
    assert outcome.manifest["timing"]["workers"] == 3


def test_a_step_alone_has_no_thread_beside_it():
    threads = [dict(Local(2).map(thread, [("a", 1), ("b", 2)], label="", needs=Needs(alone=alone)))
               for alone in (True, False)]  # fmt: skip
    here = threading.get_ident()
    assert all(done["thread"] == here for done in threads[0].values())
    assert all(done["thread"] != here for done in threads[1].values())


def test_an_error_on_a_thread_ends_the_step():
    started = []

    def task(item):
        started.append(item)
        if item == 0:
            raise ValueError("the first item")
        time.sleep(0.05)
        return {}

    with pytest.raises(ValueError, match="the first item"):
        list(Local(2).map(task, [(str(i), i) for i in range(100)], label="", needs=Needs()))
    assert len(started) < 100, "what has not begun is not begun any more"


def thread(item):
    return {"thread": threading.get_ident()}


@pytest.mark.parametrize("workers", [1, 3])
def test_dask_gives_the_same_bytes(reference, tmp_path, workers):
    outcome = run(recipe(), name="toy", store=Store(str(tmp_path)), open_engine=lambda: Dask(workers=workers))
    assert outcome.manifest["values"] == reference["values"]
    assert outcome.manifest["timing"]["workers"] == workers


def test_a_scheduler_may_be_given_by_address(reference, tmp_path):
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        outcome = run(recipe(), name="toy", store=Store(str(tmp_path)), open_engine=lambda: Dask(address))
    assert outcome.manifest["values"] == reference["values"]


def test_a_cluster_may_be_named_in_a_file(tmp_path):
    file = tmp_path / "cluster.toml"
    file.write_text('class = "distributed.LocalCluster"\nworkers = 1\nn_workers = 0\nthreads_per_worker = 1\n')
    engine = Dask(str(file))
    done = dict(engine.map(double, [("a", 1), ("b", 2)], label="double", needs=Needs()))
    engine.close()
    assert done == {0: {"twice": 2}, 1: {"twice": 4}}


def double(item):
    return {"twice": 2 * item}


@pytest.mark.parametrize(
    ("text", "error"),
    [("workers = 1", "no `class`"), ('class = "nowhere.Cluster"', "not installed"), ('address = "x"', "names a class")],
)
def test_a_cluster_file_that_is_wrong(tmp_path, text, error):
    (tmp_path / "cluster.toml").write_text(text)
    with pytest.raises(BadInput, match=error):
        Dask(str(tmp_path / "cluster.toml"))


def test_a_step_that_needs_a_gpu_is_refused_where_there_is_none():
    engine = Dask(workers=1)
    with pytest.raises(BadInput, match="no worker has them"):
        list(engine.map(double, [("a", 1)], label="double", needs=Needs(gpus=1)))
    engine.close()


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
