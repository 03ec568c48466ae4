"""dolma's Gopher and C4 taggers, two processes; gzipped JSON Lines in, as it asks, attributes out.

python filters_dolma.py INPUT OUTPUT
"""

import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Attributes of INPUT/documents/*.json.gz to OUTPUT."""
    source, out = (Path(a).absolute() for a in sys.argv[1:3])
    program = Path(sys.executable).parent / "dolma"
    subprocess.run(
        [
            str(program), "tag", "--documents", f"{source}/documents/*.json.gz", "--destination", str(out / "tags"),
            "--experiment", "rules", "--taggers", "gopher_v2", "c4_v2", "--processes", "2",
        ],
        check=True,
    )


if __name__ == "__main__":
    main()
