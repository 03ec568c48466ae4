"""The files behind locations: paths, patterns and folders on any file system that fsspec knows, each with a token.

A token changes with the file: the first of a store's checksums and times that is told, else a hash of the bytes.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import xxhash
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from curate.dataset import File
from curate.errors import BadInput, MissingExtra
from curate.reading.rows import file_kind

EXTRAS = {"s3": "'curate[s3]'", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "hf": "huggingface_hub"}
KINDS = ("parquet", "jsonl", "csv", "arrow")            # of tables, which any_file tells by their endings
CHECKSUMS = ("sha256", "blob_id", "xet_hash", "ETag", "etag", "Content-MD5", "Digest", "md5Hash", "crc32c")
TIMES = ("mtime", "LastModified", "Last-Modified", "last_modified", "updated", "created")


def listed(name: str, urls: Sequence[str], kind: str | None) -> list[File]:
    """The files at some locations, each once, sorted by path; of a folder those of the kind, or of any of KINDS."""
    found: dict[str, File] = {}
    for url in urls:
        files, in_folder = _matches(url)
        if in_folder and files:
            there = files
            files = [file for file in there if file_kind(file.path) in ([kind] if kind else KINDS)]
            if not files:
                raise BadInput(
                    f"none of the {len(there):,} files in {url} is named like {', '.join(KINDS) if not kind else kind}",
                    where=there[0].path, fix="read them with the source for their kind, or name them by a pattern",
                )
        if not files:
            raise BadInput(f"no file matches {url}", where=name, fix="correct the location or the pattern")
        found |= {file.path: file for file in files}
    return [found[path] for path in sorted(found)]


def _matches(url: str) -> tuple[list[File], bool]:
    """The files that a location means, and whether it is a folder."""
    try:
        fs, path = url_to_fs(url)
        fs.invalidate_cache()
        if re.search(r"[*\[]" if url.startswith("http") else r"[*?\[]", path) and not fs.exists(path):
            found = [_followed(fs, info) for info in fs.glob(path, detail=True).values()]
            return [_file(fs, info) for info in found if info["type"] == "file"], False
        info = fs.info(path)
        if info["type"] != "directory":
            return [_file(fs, info)], False
        below = [_followed(fs, info) for info in fs.find(path, detail=True).values()]
        return [_file(fs, i) for i in below if not PurePosixPath(i["name"]).name.startswith((".", "_"))], True
    except FileNotFoundError:
        return [], False
    except ImportError as error:
        raise MissingExtra(f"{url} needs a package that is not installed: {error}", where=url,
                           fix=f"pip install {EXTRAS.get(url.partition('://')[0], 'that package')}") from error
    except _storage_errors() as error:
        raise BadInput(f"{url} cannot be listed: {error}", where=url, fix="correct the location or access") from error


def _followed(fs: Any, info: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a link leads to, under the link's name; the Hub's cache is full of them.

    fsspec lists a link as neither file nor folder, with a time that does not change with the file.
    """
    return {**fs.info(info["name"]), "name": info["name"]} if info.get("islink") else info


def _storage_errors() -> tuple[type[Exception], ...]:
    """What file systems raise, ValueError for an unknown protocol; classes of packages not loaded cannot be raised."""
    named = [("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError"), ("httpx", "HTTPError"),
             ("httpx2", "HTTPError")]
    loaded = [(sys.modules[module], name) for module, name in named if module in sys.modules]
    return (OSError, ValueError, *(getattr(module, name) for module, name in loaded))


def _file(fs: Any, info: Mapping[str, Any]) -> File:
    """A listed file; its token is the first of a store's checksums and times that is told, else a hash of the bytes."""
    path, size = str(info["name"]), info.get("size")
    token = next((f"{name}={info[name]}" for name in (*CHECKSUMS, *TIMES) if info.get(name)), None)
    whole = path if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(path)
    return File(whole, -1 if size is None else int(size), token or _hashed(fs, path))


def _hashed(fs: Any, path: str) -> str:
    """A token for a web server that tells neither a checksum nor a time: it is read once to be listed."""
    hashed = xxhash.xxh3_128()
    with fs.open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            hashed.update(block)
    return f"xxh3={hashed.hexdigest()}"
