"""A store publishes once: whoever comes second uses what the first published; nothing is ever half there."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pytest
from test_run import recipe

from curate.engines.local import Local
from curate.errors import BadInput, StoreFailed
from curate.evaluate import Recorded
from curate.run import run
from curate.store import Overtaken, Store, decode, encode


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


def test_what_is_published_together_is_seen_here_at_once_and_by_others_when_it_is_safe(tmp_path, monkeypatch):
    store, other = Store(str(tmp_path)), []
    safe = []
    monkeypatch.setattr("os.fsync", lambda handle: safe.append(Path(f"/proc/self/fd/{handle}").readlink().name))
    linked = []
    link = os.link
    monkeypatch.setattr("os.link", lambda a, b: (linked.append((Path(a).name in safe, Path(b).name)), link(a, b)))

    def look():
        other.append((store.exists("d/b"), store.names("d")))

    with store.together():
        assert store.publish("d/b", b"first")
        assert not store.publish("d/b", b"second")
        assert store.put_json("d/a", [1]) == store.get_json("d/a") == [1]
        assert store.read("d/b") == b"first"
        assert store.read_range("d/b", 1, 3) == b"ir"
        assert store.names("d") == ["a", "b"]
        assert store.exists("d/b")
        watching = threading.Thread(target=look)
        watching.start()
        watching.join()
    assert other == [(False, [])]
    assert linked == [(True, "b"), (True, "a")]
    assert store.names("d") == ["a", "b"]
    assert not list((tmp_path / "tmp").iterdir())


def test_what_was_published_before_an_error_stays(tmp_path):
    store = Store(str(tmp_path))

    def task():
        with store.together():
            store.publish("a", b"1")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        task()
    assert store.read("a") == b"1"


def test_a_block_is_told_that_others_published_something_else(tmp_path):
    store = Store(str(tmp_path))

    def others(path, data):
        thread = threading.Thread(target=store.publish, args=(path, data))
        thread.start()
        thread.join()

    with store.together():
        store.publish("same", b"1")
        others("same", b"1")

    def task():
        with store.together():
            store.publish("a", b"ours")
            others("a", b"theirs")
            store.publish("b", b"made of ours")

    with pytest.raises(Overtaken):
        task()
    assert store.read("a") == b"theirs"
    assert not store.exists("b")
    with store.together(either=True):
        store.publish("c", b"ours")
        others("c", b"theirs")
    assert store.read("c") == b"theirs"


@pytest.mark.parametrize("either", [True, False])
def test_a_table_that_was_overtaken_is_not_remembered(tmp_path, either):
    ours, theirs = pa.table({"n": [1]}), pa.table({"n": [2]})
    store = Store(str(tmp_path))

    def task():
        with store.together(either=either):
            store.put_table("t.parquet", ours)
            thread = threading.Thread(target=lambda: Store(str(tmp_path)).put_table("t.parquet", theirs))
            thread.start()
            thread.join()

    if either:
        task()
    else:
        with pytest.raises(Overtaken):
            task()
        assert store.put_table("t.parquet", ours).rows == 1  # as a task that is done again
    assert store.get_table("t.parquet").equals(theirs)


@pytest.mark.parametrize("together", [True, False])
def test_a_full_disk_is_the_stores_fault(tmp_path, monkeypatch, together):
    store = Store(str(tmp_path))
    store.publish("before", b"1")

    def full(_handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(StoreFailed, match="cannot be written to: No space left") as said,
        store.together() if together else nullcontext(),
    ):
        store.publish("a", b"2")
    assert said.value.where == store.url and "--out" in said.value.fix
    assert not store.exists("a") and list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(StoreFailed):  # as it is, and not as the fault of a part
        run(recipe(), name="toy", store=Store(str(tmp_path / "new")), open_engine=Local)


def test_after_a_while_files_are_published_one_by_one(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    with store.together():
        store.publish("a", b"1")
        assert not (tmp_path / "a").exists()
        monkeypatch.setattr("curate.store.PATIENCE", 0.0)
        store.publish("b", b"2")
        assert (tmp_path / "a").exists()
        assert (tmp_path / "b").exists()
        (tmp_path / "c").write_bytes(b"theirs")
        assert not store.publish("c", b"ours")


def test_a_task_that_was_overtaken_rests_on_what_others_published(tmp_path):
    store = Store(str(tmp_path))
    raced = []

    def task(item):
        made = store.put_json("score", {"by": "us"})
        if not raced:
            raced.append(1)
            thread = threading.Thread(target=store.publish, args=("score", b'{"by": "them"}'))
            thread.start()
            thread.join()
        return {"score": made}

    assert Recorded(task, store, "receipts")([("one", None)]) == {"receipts": [{"score": {"by": "them"}}]}
    assert store.get_json("receipts/one.json") == {"score": {"by": "them"}}


def test_a_table_is_remembered_as_it_would_be_decoded(tmp_path):
    store = Store(str(tmp_path))
    table = pa.table({
        "n": pa.array([1, None, 3], pa.uint64()), "text": pa.array(["a", None, "b"], pa.large_string()),
        "key": pa.array([b"x" * 16] * 3, pa.binary(16)), "yes": pa.array([True, None, False]),
    }).replace_schema_metadata({"curate.values": "v"})  # fmt: skip
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    store.put_table("t", chunked)
    for columns in (None, ["text", "n", "none"]):
        remembered = store.get_table("t", columns)
        assert remembered.equals(Store(str(tmp_path)).get_table("t", columns), check_metadata=True)
        assert [c.num_chunks for c in remembered.columns] == [1] * remembered.num_columns
    assert pickle.loads(pickle.dumps(store)).get_table("t").equals(table)
    lists = pa.table({"lists": pa.array([[1], None, []], pa.large_list(pa.uint64()))})
    store.put_table("lists", lists)
    assert store.get_table("lists").equals(Store(str(tmp_path)).get_table("lists"), check_metadata=True)
    store.remove("t")
    with pytest.raises(FileNotFoundError):
        store.get_table("t")


def test_what_is_remembered_is_bounded(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    monkeypatch.setattr("curate.store.REMEMBERED", 100)
    monkeypatch.setattr("curate.store.REMEMBERED_MOST", 60)
    for name, size in (("a", 40), ("b", 80), ("c", 40), ("d", 40)):
        store.put_table(name, pa.table({"n": pa.array(bytes(size), pa.uint8())}))
    assert list(store._remembered.tables) == ["c", "d"]
    assert store.get_table("b").num_rows == 80
