"""Decide which tokens a language model is trained on, and prove the decision."""

import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

__version__ = "0.1.0"
UNUSED = 30 * 24 * 3600


def _kernel_cache() -> str:
    """A directory for compiled kernels that is named by their sources.

    numba looks only at the file that a kernel is defined in, so that a kernel would keep running what it once inlined
    from another file; with the sources in the name, a change of any of them compiles all anew. Where the user's own
    cache cannot be written, the directory is a private one: others must not be able to put code into it. Whoever makes
    a new one removes those that no process has started with for UNUSED seconds.
    """
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    kernels = [text for path in sources if b"njit" in (text := path.read_bytes())]
    name = f"kernels-{hashlib.sha256(b''.join(kernels)).hexdigest()[:12]}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curate" / name
    try:
        new = not cache.exists()
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return tempfile.mkdtemp(prefix="curate-kernels-")
    with suppress(OSError):  # another process may do the same
        os.utime(cache)
        for other in cache.parent.glob("kernels-*") if new else ():
            if other.stat().st_mtime < time.time() - UNUSED:
                shutil.rmtree(other, ignore_errors=True)
    return str(cache)


os.environ.setdefault("NUMBA_CACHE_DIR", _kernel_cache())
