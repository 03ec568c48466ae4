"""On a Dask cluster: a LocalCluster by default, any scheduler address, or a cluster class named in a TOML file.

Dask does the scheduling, retrying and placement. Submission is bounded: at most a few tasks a worker are in the
scheduler at any time, so that 100,000 parts do not choke it. Task keys carry the step's label, so that the dashboard
shows words that a person recognises.

    curate run FILE --engine dask                                  # as many processes as cores
    curate run FILE --engine dask --workers 4
    curate run FILE --engine dask --cluster tcp://scheduler:8786
    curate run FILE --engine dask --cluster configs/cluster.toml   # class = "dask_jobqueue.SLURMCluster", its arguments

Workers must have the same curate, pyarrow, polars and numba; the pipeline file is sent to them.
"""

import importlib
import logging
import os
import sys
import tomllib
import uuid
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa
from distributed import Client, KilledWorker, LocalCluster, as_completed

import curate
from curate.errors import BadInput, PartFailed
from curate.stage import Needs

log = logging.getLogger(__name__)

AHEAD = 4  # tasks a worker that wait in the scheduler
SAME = ("curate", "pyarrow", "polars", "numba")


class Dask:
    """Tasks on the workers of a cluster.

    Args:
        cluster: a scheduler address, the path of a TOML file, or None for a LocalCluster.
        workers: processes of a LocalCluster (default: one a core).
        pipeline: the pipeline's file, sent to the workers.
        memory: memory limit of a LocalCluster's worker, as Dask writes it ("1.5GiB"), or "auto".
    """

    name = "dask"

    def __init__(
        self, cluster: str | None = None, workers: int | None = None, pipeline: Path | None = None, memory: str = "auto"
    ) -> None:
        # One more death than allowed fails the item: the second.
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": 1,
                "distributed.logging.distributed": "error",
                "distributed.worker.daemon": False,
                "distributed.admin.log-format": "%(message)s",
            }
        )
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # As the local engine has it (command.take_pages); workers that are started here take it from the environment.
        if "jemalloc" in pa.supported_memory_backends():
            os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
        self._cluster = _open(cluster, workers, memory)
        self._client = Client(self._cluster if self._cluster is not None else cluster)
        self._check_versions()
        if pipeline is not None:
            self._client.upload_file(str(pipeline))
        if find_spec("bokeh"):
            log.info(f"dashboard  {self._client.dashboard_link}")
        self.workers = max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))

    def _check_versions(self) -> None:
        mine = versions()
        for address, theirs in self._client.run(versions).items():
            if theirs != mine:
                raise BadInput(
                    f"worker {address} has {theirs}, this machine {mine}",
                    where="--cluster",
                    fix="install the same versions on workers; constraints.txt pins them",
                )

    def map(
        self, task: Callable[[Any], dict[str, Any]], items: Sequence[tuple[str, Any]], *, label: str, needs: Needs
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See ``Engine.map``."""
        if not items:
            return
        resources = {"GPU": needs.gpus} if needs.gpus else None
        if resources and not self._client.run_on_scheduler(_can_meet, needs.gpus):
            raise BadInput(
                f"{label} needs {needs.gpus} GPU(s) a worker and no worker has them",
                where="--cluster",
                fix="start workers with --resources GPU=1",
            )
        run = uuid.uuid4().hex[:8]
        # Sent once; as a task's result, and not as scattered data, it survives the worker that holds it.
        shared = self._client.submit(_hold, task, key=f"hold-{run}", pure=False)
        waiting = iter(enumerate(items))
        names = {}
        done = as_completed()

        def submit() -> bool:
            for index, (name, item) in waiting:
                future = self._client.submit(
                    _carry_out,
                    shared,
                    item,
                    key=(f"{label} {run}", index),
                    pure=False,
                    resources=resources,
                    priority=-index,
                )
                names[future.key] = (index, name)
                done.add(future)
                return True
            return False

        for _ in range(AHEAD * self.workers):
            if not submit():
                break
        for future in done:
            index, name = names.pop(future.key)
            try:
                receipt = future.result()
            except KilledWorker as error:
                raise PartFailed(
                    f"{label}: item {name} killed its worker twice",
                    where=str(name),
                    fix="give workers more memory, or look at that item",
                ) from error
            future.release()
            submit()
            yield index, receipt

    def close(self) -> None:
        """Leave the cluster; a LocalCluster ends with it."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _carry_out(task: Callable[[Any], dict[str, Any]], item: Any) -> dict[str, Any]:
    return task(item)


def _hold(task: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    return task


def _can_meet(gpus: int, dask_scheduler: Any = None) -> bool:
    return any(w.resources.get("GPU", 0) >= gpus for w in dask_scheduler.workers.values())


def versions() -> dict[str, str]:
    """Versions that must agree between this machine and the workers."""
    found = {name: importlib.import_module(name).__version__ for name in SAME[1:]}
    # Python, for what a letter or a digit is follows its Unicode tables.
    return {"curate": curate.__version__, "python": "{}.{}".format(*sys.version_info), **found}


def _open(cluster: str | None, workers: int | None, memory: str) -> Any:
    if cluster is None:
        return LocalCluster(
            n_workers=workers or os.cpu_count() or 1,
            threads_per_worker=1,
            memory_limit=memory,
            dashboard_address="127.0.0.1:0",  # another cluster of this machine may hold the usual port
            scheduler_kwargs={"dashboard": find_spec("bokeh") is not None},
            silence_logs=50,
        )
    if "://" in cluster:
        return None
    path = Path(cluster)
    if not path.exists():
        raise BadInput(f"no cluster file {cluster}", where="--cluster", fix="give tcp://HOST:PORT or a TOML file")
    settings = tomllib.loads(path.read_text(encoding="utf-8"))
    if "address" in settings:
        raise BadInput("a cluster file names a class", where=cluster, fix="give the address itself: --cluster tcp://…")
    name = settings.pop("class", None)
    if not name or "." not in name:
        raise BadInput("the cluster file has no `class`", where=cluster, fix='class = "dask_jobqueue.SLURMCluster"')
    scale = settings.pop("workers", workers or 1)
    module, _, kind = name.rpartition(".")
    try:
        opened = getattr(importlib.import_module(module), kind)(**settings)
    except ImportError as error:
        raise BadInput(
            f"{module} is not installed", where=cluster, fix=f"pip install {module.replace('_', '-')}"
        ) from error
    opened.scale(scale)
    return opened
