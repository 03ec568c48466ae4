"""Does ``urls.profile("datatrove")`` decide and reason as datatrove's URLFilter, and what do both cost?

    python benchmarks/urls.py POOL.parquet [--peers FOLDER] [--out FOLDER]

POOL.parquet needs a column ``url``. Its different addresses are compared with datatrove's own lists, and so are 40,000
made from a fixed seed out of those lists: listed domains with and without subdomains, ports, users and odd schemes,
listed addresses, words of the three lists set into real addresses in upper and lower case, and hosts that try the
public suffix list. datatrove runs in an environment that this script makes (``--peers``, kept for the next time).
Speeds are addresses a CPU second, lists loaded, compilation left out.
"""

import argparse
import json
import random
import subprocess
import tempfile
import time
import venv
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate import urls

HERE = Path(__file__).parent
PACKAGES = ("datatrove==0.10.0", "tldextract", "pyahocorasick", "fasteners", "regex", "nltk", "orjson")
MADE = 40_000
HOSTS = (
    "www.ck", "foo.ck", "ck", "city.kawasaki.jp", "a.b.kawasaki.jp", "x.kobe.jp", "b.c.co.uk", "co.uk", "localhost",
    "1.2.3.4", "[::1]", "[::1", "münchen.de", "xn--mnchen-3ya.de", "例え.jp", "食狮.公司.cn", "foo。bar．com",
    "foo.com.", "foo.com..", "a..com", ".com", "unknown.zzz", "EXAMPLE.Co.Uk", "x.github.io", "github.io",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "curate-peers-urls")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()

    real = sorted(set(pq.read_table(args.pool, columns=["url"])["url"].drop_null().to_pylist()) - {""})
    corpora = {"the pool": real, "made": made(real)}
    start = time.process_time()
    lists = urls.open_lists(urls.DATATROVE)
    loading = time.process_time() - start
    found = {"date": time.strftime("%Y-%m-%d"), "seconds_to_load_our_lists": round(loading, 1), "corpora": {}}
    for name, addresses in corpora.items():
        theirs, their_seconds = ask_datatrove(args.peers, addresses)
        ours, our_seconds = ask_us(addresses, lists)
        differing = [[a, o, t] for a, o, t in zip(addresses, ours, theirs, strict=True) if o != t]
        found["corpora"][name] = {
            "addresses": len(addresses),
            "same_reason": len(addresses) - len(differing),
            "differing": differing[:20],
            "reasons_of_datatrove": dict(Counter(reason or "kept" for reason in theirs).most_common()),
            "addresses_per_cpu_second": {
                "curate": round(len(addresses) / our_seconds), "datatrove": round(len(addresses) / their_seconds),
            },
        }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "urls.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for name, row in found["corpora"].items():
        speed = row["addresses_per_cpu_second"]
        print(f"{name:10}{row['addresses']:>8,} addresses, same reason {row['same_reason']:,}; "
              f"{speed['curate']:,} a CPU second here, {speed['datatrove']:,} there")  # fmt: skip


def made(real: list[str]) -> list[str]:
    rng = random.Random(20240607)
    blocks = shipped()
    words = [w.lower() for kind in ("hard", "soft", "substrings") for w in blocks[kind]]

    def shouted(text: str) -> str:
        return "".join(c.upper() if rng.random() < 0.3 else c for c in text)

    out = []
    while len(out) < MADE:
        scheme = rng.choice(["http://", "https://", "", "//", "ftp://", "HTTP://", "http:/", "://", "x:y//"])
        user, port = rng.choice([""] * 6 + ["u@", "u:p@"]), rng.choice([""] * 6 + [":80", ":"])
        path = rng.choice(["", "/", "/a/b.html", "?q=1", "#x", "/x@y/z", "/%20", "/a//b"])
        sub = rng.choice(["", "", "www.", "a.b.", ".", "..", " "])
        kind = rng.random()
        if kind < 0.3:
            address = scheme + user + sub + rng.choice(blocks["domains"]) + port + path
        elif kind < 0.5:
            address = rng.choice(["", "", scheme]) + rng.choice(blocks["urls"]) + rng.choice(["", path])
        elif kind < 0.8:
            base, gap = rng.choice(real), rng.choice(["", "-", "/", ".", "_", " ", "%20", "é"])
            at = rng.randrange(len(base) + 1)
            address = base[:at] + gap + gap.join(rng.choices(words, k=rng.randint(1, 2))) + gap + base[at:]
        else:
            address = scheme + user + rng.choice(HOSTS) + port + path
        address = shouted(address) if rng.random() < 0.1 else address
        if address:
            out.append(address)
    return out


def shipped() -> dict[str, list[str]]:
    """Items of datatrove's lists, as they are written."""
    import tarfile

    import datatrove

    assets = Path(datatrove.__file__).parent / "assets"
    blocks = {}
    with tarfile.open(assets / urls.DATATROVE_LISTS) as archive:
        for member in ("domains", "urls"):
            blocks[member] = archive.extractfile(member).read().decode().split("\n")[:-1]
    for name, kind in (("banned_words", "hard"), ("soft_banned_words", "soft"), ("banned_subwords", "substrings")):
        blocks[kind] = (assets / f"{name}.txt").read_text().split("\n")[:-1]
    return blocks


def ask_datatrove(folder: Path, addresses: list[str]) -> tuple[list[str | None], float]:
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        source, out = Path(scratch) / "urls.json", Path(scratch) / "out.json"
        source.write_text(json.dumps(addresses))
        subprocess.run([python, HERE / "peers" / "urls_datatrove.py", source, out], check=True)
        answer = json.loads(out.read_text())
    return answer["reasons"], answer["seconds"]


def ask_us(addresses: list[str], lists: urls.Lists) -> tuple[list[str | None], float]:
    docs = pa.table({"url": pa.array(addresses, pa.large_string())})
    urls.measure(docs[:10], urls.DATATROVE, lists)  # compile
    start = time.process_time()
    measured = urls.measure(docs, urls.DATATROVE, lists)
    seconds = time.process_time() - start
    failing = pl.lit(None, dtype=pl.String)
    for rule in reversed(urls.profile("datatrove")):
        failing = pl.when(rule.keep).then(failing).otherwise(pl.lit(rule.because))
    return pl.from_arrow(measured).select(because=failing)["because"].to_list(), seconds


if __name__ == "__main__":
    main()
