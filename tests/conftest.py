"""What the tests of the command line share, and the one S3 of all tests that need one."""

import os
import sys

import fsspec
import pytest
from hypothesis import HealthCheck, settings

from curate.cli import main

# How long an example takes says how busy the machine is: no verdict of a test may hang on it. Where CI is set the same
# examples are tried in every run, so that a red run means the change and not the draw; everywhere else new ones are.
settings.register_profile(
    "curate", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("curate")


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


@pytest.fixture(scope="session")
def s3():
    """An S3 with the empty bucket `bucket`, for the whole process: s3fs remembers its endpoint between tests."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1",
                            "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():  # fmt: skip
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()
