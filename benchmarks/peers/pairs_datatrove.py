"""Candidate pairs of datatrove: python pairs_datatrove.py DOCS.parquet OUT.parquet BANDS ROWS.

Its signature step is carried out as it is, and documents with equal rows in the signature files of a bucket are pairs;
its bucket and cluster steps join exactly these. The hash is SHA-1 (FineWeb's): newer xxhash refuses the texts that
datatrove hands it.
"""

import itertools
import struct
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.hashing import HashConfig

source, out, bands, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
table = pq.read_table(source, columns=["id", "text"])
ids = table["id"].to_pylist()
config = MinhashConfig(num_buckets=bands, hashes_per_bucket=rows, hash_config=HashConfig(hash_fc="sha1"))
pairs = set()
with tempfile.TemporaryDirectory() as folder:
    docs = (Document(text=t, id=i) for i, t in zip(ids, table["text"].to_pylist(), strict=True))
    MinhashDedupSignature(folder, config).run(docs)
    for path in sorted(Path(folder).glob("bucket_*/*.minhash.sig")):
        record = struct.Struct(f"<{rows}QI")
        for _, group in itertools.groupby(record.iter_unpack(path.read_bytes()), key=lambda r: r[:-1]):
            members = sorted(r[-1] for r in group)
            pairs |= set(itertools.combinations(members, 2))
ordered = sorted(pairs)
pq.write_table(pa.table({"id_a": [ids[a] for a, _ in ordered], "id_b": [ids[b] for _, b in ordered]}), out)
