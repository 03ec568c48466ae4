"""Candidate pairs of rensa, word 5-grams as ours: python pairs_rensa.py DOCS OUT BANDS ROWS (Parquet)."""

import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from rensa import RMinHash, RMinHashLSH

source, out, bands, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
table = pq.read_table(source, columns=["id", "text"])
ids = table["id"].to_pylist()
lsh = RMinHashLSH(threshold=0.8, num_perm=bands * rows, num_bands=bands)
pairs = []
for k, text in enumerate(table["text"].to_pylist()):
    words = re.findall(r"\w+", text.lower())
    if not words:
        continue
    sketch = RMinHash(num_perm=bands * rows, seed=1)
    sketch.update([" ".join(words[j : j + 5]) for j in range(max(1, len(words) - 4))])
    pairs += [(ids[other], ids[k]) for other in lsh.query(sketch)]
    lsh.insert(k, sketch)
pq.write_table(pa.table({"id_a": [a for a, _ in pairs], "id_b": [b for _, b in pairs]}), out)
