"""Candidate pairs of datasketch, word 5-grams as ours: python pairs_datasketch.py DOCS OUT BANDS ROWS (Parquet)."""

import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from datasketch import MinHash, MinHashLSH

source, out, bands, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
table = pq.read_table(source, columns=["id", "text"])
lsh = MinHashLSH(params=(bands, rows), num_perm=bands * rows)
pairs = []
for i, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
    words = re.findall(r"\w+", text.lower())
    if not words:
        continue
    sketch = MinHash(num_perm=bands * rows, seed=1)
    sketch.update_batch([" ".join(words[k : k + 5]).encode() for k in range(max(1, len(words) - 4))])
    pairs += [(other, i) for other in lsh.query(sketch)]
    lsh.insert(i, sketch)
pq.write_table(pa.table({"id_a": [a for a, _ in pairs], "id_b": [b for _, b in pairs]}), out)
