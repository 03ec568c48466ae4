"""datatrove's URLFilter with the lists in its package, an address at a time.

python urls_datatrove.py URLS.json OUTPUT.json

OUTPUT gets the reason for every address (null: kept) and the CPU seconds.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path

os.environ["TLDEXTRACT_PUBLIC_SUFFIX_LIST_URLS"] = ""    # the list in the package, no download

from datatrove.data import Document
from datatrove.pipeline.filters import URLFilter


def main() -> None:
    warnings.simplefilter("ignore")
    addresses = json.loads(Path(sys.argv[1]).read_text())
    oracle = URLFilter()
    docs = [Document(text="", id=str(i), metadata={"url": a}) for i, a in enumerate(addresses)]
    oracle.filter(docs[0])
    start = time.process_time()
    answers = [oracle.filter(doc) for doc in docs]
    seconds = time.process_time() - start
    reasons = [None if answer is True else answer[1] for answer in answers]
    Path(sys.argv[2]).write_text(json.dumps({"reasons": reasons, "seconds": seconds}))


if __name__ == "__main__":
    main()
