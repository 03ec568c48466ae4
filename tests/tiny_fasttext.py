"""A fastText model small enough to compute by hand, written in fastText's own binary format (version 12).

Words are vectors of two numbers, a text is the mean of the words it knows, and the two labels are the softmax of that
vector: ``cat`` is (2, 0) and speaks for the first label, ``hund`` is (0, 2) and speaks for the second.
"""

import struct

WORDS = {"cat": (2.0, 0.0), "hund": (0.0, 2.0)}
MAGIC, VERSION = 793712314, 12
SOFTMAX, SUPERVISED = 3, 3


def write(path, labels=("__label__en", "__label__de")):
    """Write the model to ``path``."""
    #                     dim, ws, epoch, min_count, neg, word_ngrams, loss, model, bucket, minn, maxn, update_rate
    settings = struct.pack("<12id", 2, 5, 1, 1, 5, 1, SOFTMAX, SUPERVISED, 0, 0, 0, 100, 0.0)
    entries = [(word, 0) for word in WORDS] + [(label, 1) for label in labels]
    vocabulary = struct.pack("<3i2q", len(entries), len(WORDS), len(labels), 2, -1)
    for word, kind in entries:
        vocabulary += word.encode() + b"\0" + struct.pack("<qb", 1, kind)
    words = struct.pack("<?2q4f", False, 2, 2, *WORDS["cat"], *WORDS["hund"])
    outputs = struct.pack("<?2q4f", False, 2, 2, 1.0, 0.0, 0.0, 1.0)
    path.write_bytes(struct.pack("<2i", MAGIC, VERSION) + settings + vocabulary + words + outputs)
