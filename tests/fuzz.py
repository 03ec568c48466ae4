"""Fuzzing for as long as one likes: every stage under its laws on wild texts, every reader on damaged files.

    python tests/fuzz.py --minutes 60 --seed 1
    python tests/fuzz.py --again fuzz-failures/stage-….json       # one case that failed, once more

Cases are carried out in a child process, which says what it is about to do before it does it: what kills the child, or
takes more CPU seconds than --patience, is a failure like a broken law. Half of the children check every index that a
kernel uses (NUMBA_BOUNDSCHECK). A failure is kept as a file from which it can be carried out again, until it has become
a test beside the others of its module. A few cases of every target are part of the default tests (tests/test_fuzz.py).

Stages    EACH and MANY: a cut of the table changes no row. All: the result is what was declared, and nothing is raised
          but a CurateError.
Readers   a valid file of every format, damaged (bytes flipped, cut, doubled, zeroed, spliced with another file):
          pieces and bad ranges come back, or a CurateError; row numbers of bad rows lie within their piece.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ALPHABETS = (
    "ab \n", "aA.,;:!? \n\t", "the of and to a\n", "0123456789.,:-/ ()+", "éüßſŒœİıΣσςﬁ\u0301\u0308 \u00a0",
    "اَلعربية \u200d\u200e", "日本語。、「」 ", "ไทยกก็", "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r\n a", "#•-*…...\n ",
    "\U0001f600\u200d\U0001f469\ufe0f ", "\x00\ufeff\ufffd\U0010ffff a",
    "<>/=\"'& abdivp\n", "{}[]lorem ipsum javascript\n. ", "a@b.co 192.168.0.1 8.8.8.8 ", "http://a.b/c?d=e&f#g ",
)  # fmt: skip


def wild_text(rng: random.Random) -> str | None:
    """A text: of one odd alphabet or several, short or long, with repetition."""
    kind = rng.random()
    if kind < 0.04:
        return None
    if kind < 0.1:
        return "".join(chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)]))
                       for _ in range(rng.randrange(40)))  # fmt: skip
    pieces = []
    for _ in range(rng.randrange(1, 6)):
        letters = rng.choice(ALPHABETS)
        piece = "".join(rng.choice(letters) for _ in range(int(2 ** rng.uniform(0, 8))))
        pieces.append(piece * (rng.randrange(2, 20) if rng.random() < 0.2 else 1))
    return rng.choice(["", " ", "\n", "\n\n"]).join(pieces)


# ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def wild_table(case: Any, rng: random.Random) -> Any:
    """What a stage reads: some rows."""
    import pyarrow as pa
    import test_contract as laws

    size = rng.choice([0, 1, 2, 5, 17, 60])
    half = None if case.stage.each is None else laws.Case(case.stage.each, case.config, "")
    made = set(half.stage.writes(case.config)) if half else set()
    reads = case.stage.reads(case.config)
    wanted = {n: t for n, t in reads.items() if n not in made} | (half.stage.reads(case.config) if half else {})
    columns = {name: pa.array([wild_value(name, kind, rng) for _ in range(size)], kind)
               for name, kind in wanted.items()}  # fmt: skip
    if "text_bytes" in columns and "text" in columns:
        columns["text_bytes"] = pa.array([len((t or "").encode()) for t in columns["text"].to_pylist()], pa.int64())
    table = pa.table(columns)
    if half:
        written = half(table.select(list(half.stage.reads(case.config))))
        for name in made:
            table = table.append_column(name, written[name])
    return table.select(list(reads))


def wild_value(name: str, kind: Any, rng: random.Random) -> Any:
    """A value of a column."""
    import pyarrow as pa

    if name == "key" or pa.types.is_fixed_size_binary(kind):
        return bytes([rng.choice([0, 1, 255])] * 15 + [rng.randrange(4)])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        size = kind.list_size if pa.types.is_fixed_size_list(kind) else rng.randrange(4)
        return [wild_value("", kind.value_type, rng) for _ in range(size)]
    if pa.types.is_struct(kind):
        return {field.name: wild_value(field.name, field.type, rng) for field in kind}
    if pa.types.is_large_string(kind):
        return wild_text(rng) if name != "id" else str(rng.randrange(9))
    if pa.types.is_large_binary(kind):
        return (wild_text(rng) or "").encode()
    if rng.random() < 0.1 and not pa.types.is_unsigned_integer(kind):
        return None
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    if pa.types.is_integer(kind):
        return rng.randrange(5)
    return rng.choice([0.0, 1.0, -0.5, float("nan"), float("inf"), rng.random()])


def stage_case(name: str, seed: int) -> None:
    """Hold a stage to its laws on one wild table."""
    import pyarrow as pa
    import test_contract as laws

    from curate.errors import CurateError
    from curate.stage import Grain

    case = next(c for c in laws.cases() if c.id == name)
    rng = random.Random(seed)
    table = wild_table(case, rng)
    at = rng.randrange(table.num_rows + 1)
    try:
        if case.stage.grain is Grain.EACH:
            whole = laws.held(case, case(table), table.num_rows)
            pieces = [laws.held(case, case(p), p.num_rows) for p in laws.cut_at(table, at)]
            assert laws.rows_of(pa.concat_tables(pieces)) == laws.rows_of(whole), "a cut changed a row"
        elif case.stage.grain is Grain.MANY:
            whole = case(table).to_pylist()
            first, second = (case(p).to_pylist() for p in laws.cut_at(table, at))
            moved = [row | {"row": row["row"] + at} for row in second]
            assert repr([*first, *moved]) == repr(whole), "a cut changed a row"
        else:
            addressed = table.append_column("address", pa.array(range(table.num_rows), pa.uint64()))
            case(addressed)
    except CurateError:
        return


# ── readers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def valid_file(kind: str, rng: random.Random) -> bytes:
    """A small file of a format."""
    import bz2
    import gzip
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    rows = [{"id": str(i), "text": wild_text(rng), "n": rng.choice([None, 1, -5, 2**40]), "nested": {"a": [i, None]}}
            for i in range(rng.randrange(1, 40))]  # fmt: skip
    sink = io.BytesIO()
    if kind.startswith("jsonl"):
        data = b"".join(json.dumps(r, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass") + b"\n"
                        for r in rows)  # fmt: skip
        squeeze = {"jsonl.gz": gzip.compress, "jsonl.zst": zstandard.compress, "jsonl.bz2": bz2.compress}
        return squeeze.get(kind, bytes)(data)
    table = pa.Table.from_pylist(rows)
    if kind == "parquet":
        pq.write_table(table, sink, row_group_size=rng.choice([3, 1000]), compression=rng.choice(["zstd", "none"]),
                       write_page_checksum=rng.random() < 0.5)  # fmt: skip
    elif kind == "arrow":
        with rng.choice([pa.ipc.new_file, pa.ipc.new_stream])(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    elif kind == "csv":
        import csv

        text = io.StringIO()
        writing = csv.writer(text)
        writing.writerows([["id", "text", "n"], *([r["id"], r["text"] or "", r["n"]] for r in rows)])
        return text.getvalue().encode("utf-8", "replace")
    else:
        for row in rows:
            record = archived(row["id"], f"<html><p>{row['text']}</p>".encode("utf-8", "replace"))
            sink.write(gzip.compress(record) if kind == "warc.gz" else record)
    return sink.getvalue()


def archived(name: str, page: bytes) -> bytes:
    """A WARC record of a page."""
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Date: 2020-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:{name}>\r\nWARC-Target-URI: http://a.b/{name}\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


FORMATS = ("jsonl", "jsonl.gz", "jsonl.zst", "jsonl.bz2", "parquet", "arrow", "csv", "warc", "warc.gz")


def damaged(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Bytes after some accidents."""
    data = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2, 8])):
        at = rng.randrange(len(data) + 1)
        length = min(len(data) - at, int(2 ** rng.uniform(0, 9)))
        match rng.randrange(6):
            case 0:
                del data[at:]
            case 1:
                data[at : at + length] = b""
            case 2:
                data[at : at + length] = bytes(length)
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                data[at:at] = other[: int(2 ** rng.uniform(0, 12))]
            case _:
                for k in range(at, at + min(length, 4)):
                    data[k] = rng.randrange(256)
    return bytes(data)


def reader_case(kind: str, seed: int) -> None:
    """Read one damaged file."""
    import pyarrow as pa

    from curate import sources
    from curate.errors import CurateError

    rng = random.Random(seed)
    data = damaged(valid_file(kind, rng), valid_file(rng.choice(FORMATS), rng), rng)
    make = getattr(sources, kind.partition(".")[0])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"file.{kind}"
        path.write_bytes(data)
        try:
            source = make(str(path))
            for file in source.listing():
                for piece in source.read(file):
                    rows = piece.table.num_rows
                    assert all(0 <= row < rows for row in piece.bad_rows), "a bad row outside its piece"
                    piece.table.validate(full=True)
                    living = pa.array([i for i in range(rows) if i not in piece.bad_rows], pa.int64())
                    assert piece.table["text"].take(living).null_count == 0, "a living row without a text"
        except CurateError:
            return


# ── children ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def targets() -> list[tuple[str, str]]:
    """Everything that can be fuzzed: (sort, name)."""
    import test_contract as laws

    from curate import sources

    formats = [f for f in FORMATS if f.startswith("jsonl") or f == "parquet" or hasattr(sources, f.partition(".")[0])]
    stages = [case for case in laws.cases() if not case.stage.name.startswith("toys.")]
    return [*(("stage", case.id) for case in stages), *(("reader", name) for name in formats)]


def carry(sort: str, name: str, seed: int) -> None:
    """One case."""
    (stage_case if sort == "stage" else reader_case)(name, seed)


def child(seed: int, seconds: float, patience: int) -> None:
    """Carry out cases until time is up, each announced before; the first broken law ends it."""
    rng = random.Random(seed)
    found = targets()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sort, name = rng.choice(found)
        number = rng.randrange(1 << 48)
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + patience
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        print(f"{sort}\t{name}\t{number}", flush=True)
        carry(sort, name, number)


def rounds(seed: int, minutes: float, patience: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Children, one after the other; what each did last, where it failed."""
    until = time.monotonic() + 60 * minutes
    caches = Path(tempfile.gettempdir()) / "curate-fuzz-kernels"     # compiled with and without checks
    number = 0
    while (left := until - time.monotonic()) > 1:
        number += 1
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [sys.executable, __file__, "--child", str(seed * 1_000_003 + number), str(min(left, 120)),
                 "--patience", str(patience)],
                stdout=subprocess.PIPE, stderr=errors, text=True,
                env=os.environ | {"NUMBA_BOUNDSCHECK": str(number % 2), "NUMBA_CACHE_DIR": f"{caches}/{number % 2}"},
            )  # fmt: skip
            assert process.stdout is not None
            last = ""
            for line in process.stdout:
                last = line.rstrip("\n")
                yield last.partition("\t")[0] + " " + last.split("\t")[1], {}
            if process.wait():
                errors.seek(0)
                sort, name, case_seed = last.split("\t") if last else ("", "start", "0")
                yield name, {"sort": sort, "name": name, "seed": int(case_seed), "code": process.returncode,
                             "error": errors.read()[-2000:]}  # fmt: skip


def main() -> None:
    """Fuzz, or carry out one case again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=int, default=60, help="CPU seconds of one case")
    parser.add_argument("--child", nargs=2)
    parser.add_argument("--again", type=Path)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    arguments = parser.parse_args()
    if arguments.child:
        child(int(arguments.child[0]), float(arguments.child[1]), arguments.patience)
        return
    if arguments.again:
        case = json.loads(arguments.again.read_text())
        carry(case["sort"], case["name"], case["seed"])
        return
    done: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for name, failure in rounds(arguments.seed, arguments.minutes, arguments.patience):
        if not failure:
            done[name] += 1
            continue
        failures[f"{failure['sort']} {name}"] += 1
        path = arguments.keep / f"{failure['sort']}-{name}-{failure['seed']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(failure, indent=1) + "\n")
        print(f"FAILED {path}: {failure['error'].strip().splitlines()[-1:]}", flush=True)
    for name in sorted(done):
        print(f"{name:50} {done[name]:8,} cases, {failures[name]} failures")
    print(f"{sum(done.values()):,} cases, {sum(failures.values())} failures, {arguments.minutes:g} minutes")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
