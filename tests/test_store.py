"""A store publishes once: whoever comes second uses what the first published; nothing is ever half there."""

import signal
import subprocess
import sys
import textwrap
import threading

import pyarrow as pa
import pytest
from test_run import recipe

from curate.engines.local import Local
from curate.errors import BadInput
from curate.run import run
from curate.store import Store, decode, encode


@pytest.fixture(params=["local", "memory", "s3"])
def store(request, tmp_path):
    if request.param == "local":
        return Store(str(tmp_path))
    if request.param == "memory":
        return Store(f"memory://{tmp_path.name}")
    return Store(f"{request.getfixturevalue('s3')}/store")


def test_the_first_writer_wins(store):
    assert store.publish("a/b", b"first")
    assert not store.publish("a/b", b"second")
    assert store.read("a/b") == b"first"
    assert store.read_range("a/b", 1, 3) == b"ir"
    assert store.names("a") == ["b"]
    assert store.names("nothing") == []


def test_json_and_tables_return_what_stands_there(store):
    assert store.put_json("x.json", {"a": 1}) == store.put_json("x.json", {"a": 2}) == {"a": 1}
    one, two = pa.table({"n": [1, 2]}), pa.table({"n": [3]})
    first = store.put_table("t.parquet", one)
    assert store.put_table("t.parquet", two) == first
    assert store.get_table("t.parquet").equals(one)


def test_a_link_is_the_same_file(store):
    store.publish("one", b"data")
    store.link("one", "d/two")
    store.link("one", "d/two")
    assert store.read("d/two") == b"data"
    assert store.local_copy("d/two").read_bytes() == b"data"


def test_parquet_is_canonical():
    table = pa.table({"text": pa.array(["x" * 100] * 50, pa.large_string())})
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7)])
    assert encode(table) == encode(chunked)
    assert decode(encode(table)).equals(table)
    assert encode(table.slice(0, 0))


def test_many_writers_leave_one_whole_file(tmp_path):
    store = Store(str(tmp_path))
    wins = []
    threads = [
        threading.Thread(target=lambda i=i: wins.append(store.publish("x", bytes([i]) * 100_000))) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = store.read("x")
    assert sum(wins) == 1 and len(data) == 100_000 and len(set(data)) == 1


def test_a_killed_writer_leaves_no_file(tmp_path):
    code = f"""
        import os, signal
        from curate.store import Store
        os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)
        Store({str(tmp_path)!r}).publish("x", b"half")
    """
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert not (tmp_path / "x").exists()


def test_an_unwritable_place_is_refused():
    with pytest.raises(BadInput, match="cannot write"):
        Store("/proc/nowhere").check_writable()


def test_a_run_on_an_object_store_is_the_same(s3, tmp_path):
    on_s3 = run(recipe(), name="toy", store=Store(s3), open_engine=Local)
    on_disk = run(recipe(), name="toy", store=Store(str(tmp_path)), open_engine=Local)
    assert on_s3.manifest["values"] == on_disk.manifest["values"]
    shard = on_s3.manifest["mixes"]["most"]["shards"][0]
    assert Store(s3).get_table(f"{on_s3.folder}/mixes/most/{shard['name']}").num_rows == shard["rows"]
