"""Every file in configs/ says what it claims: settings load strictly, plans are sound offline, clusters open."""

import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

from curate import sources
from curate.engines import dask as dask_engine
from curate.plan import check
from curate.settings import dump, load, loads

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
QUICKSTART = sorted([*CONFIGS.glob("quickstart*.toml"), CONFIGS / "fineweb_sample.toml"])


@pytest.fixture
def quickstart(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "pipelines")
    import quickstart

    return quickstart


def listing(self):
    raise AssertionError("a plan is built and checked without I/O")


@pytest.mark.parametrize("path", QUICKSTART, ids=lambda path: path.stem)
def test_settings_load_and_the_plan_is_sound(quickstart, monkeypatch, path):
    monkeypatch.setattr(sources.Files, "listing", listing)
    monkeypatch.setattr(sources.Environment, "listing", listing)
    config = load(quickstart.Quickstart, path)
    assert loads(quickstart.Quickstart, dump(config)) == config
    assert check(quickstart.pipeline(config))


def test_what_the_quickstart_declares(quickstart):
    config = load(quickstart.Quickstart, CONFIGS / "quickstart.toml")
    assert (config.target, config.budget, config.trial.delta) == ("huggingface_hub", 0.1, 3.0)
    assert config.trial.instruments[0] == "ngram", "the first instrument decides"
    assert set(config.trial.instruments) == {"ngram", "transformer"}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_file_says_how_it_is_used(path):
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert head.startswith("#") and re.search(rf"--(config|cluster) configs/{re.escape(path.name)}", head)
    assert f"({path.name})" in (CONFIGS / "README.md").read_text(encoding="utf-8")


def test_a_cluster_is_opened_as_its_file_says(monkeypatch):
    asked = {}

    class SLURMCluster:
        def __init__(self, **arguments):
            asked.update(arguments)

        def scale(self, workers):
            asked["scaled to"] = workers

    monkeypatch.setitem(sys.modules, "dask_jobqueue", types.SimpleNamespace(SLURMCluster=SLURMCluster))
    path = CONFIGS / "dask_cluster.toml"
    dask_engine._open(str(path), None, "auto")
    said = tomllib.loads(path.read_text(encoding="utf-8"))
    assert asked.pop("scaled to") == said.pop("workers")
    assert said.pop("class") == "dask_jobqueue.SLURMCluster"
    assert asked == said


def test_a_store_elsewhere_is_found_by_the_environment(monkeypatch):
    from fsspec.config import conf, set_conf_env

    assert "export FSSPEC_S3_ENDPOINT_URL=" in (CONFIGS / "README.md").read_text(encoding="utf-8")
    found = {}
    set_conf_env(found, {"FSSPEC_S3_ENDPOINT_URL": "https://minio.example.org"})
    assert found == {"s3": {"endpoint_url": "https://minio.example.org"}} and isinstance(conf, dict)
