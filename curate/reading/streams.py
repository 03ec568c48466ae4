"""Bytes of a file, plain or compressed, block by block; and lines.

gzip, Zstandard, bzip2 and xz, several members or frames one after the other. A block is never much longer than asked
for, whatever a stream would swell to; a stream that breaks off gives what it held until then, and then ``Broken``.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import zstandard

from curate.reading.rows import Broken

BLOCK = 1 << 20             # bytes read or decompressed at a time
ZSTD_BLOCK = 1 << 13        # compressed bytes at a time: of zeros, these become 256 MB
XZ_MEMORY = 1 << 30         # what a stream may ask for; `xz -9` asks for 65 MB
LINE_BYTES = 256_000_000    # a longer line is not read


def _plain(handle: IO[bytes]) -> Iterator[bytes]:
    while block := handle.read(BLOCK):
        yield block


def _gunzip(handle: IO[bytes]) -> Iterator[bytes]:
    """The members of a gzip file, one after the other; zeros after one are padding."""
    member, begun = zlib.decompressobj(wbits=31), False
    for compressed in _plain(handle):
        while compressed:
            if not begun and not (compressed := compressed.lstrip(b"\0")):
                break
            begun = True
            try:
                yield member.decompress(compressed, BLOCK)
            except zlib.error as error:
                raise Broken(str(error)) from error
            compressed = member.unconsumed_tail
            if member.eof:
                compressed, member, begun = member.unused_data, zlib.decompressobj(wbits=31), False
    while begun and (block := member.decompress(b"", BLOCK)):
        yield block
    if begun and not member.eof:
        raise Broken("the gzip stream has no end")


def _unzstd(handle: IO[bytes]) -> Iterator[bytes]:
    """The frames of a Zstandard file, one after the other."""
    opener = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    frame, begun = opener.decompressobj(), False
    while compressed := handle.read(ZSTD_BLOCK):
        while compressed:
            begun = True
            try:
                yield frame.decompress(compressed)
            except zstandard.ZstdError as error:
                raise Broken(str(error)) from error
            compressed = b""
            if frame.eof:
                compressed, frame, begun = frame.unused_data, opener.decompressobj(), False
    if begun:
        raise Broken("the Zstandard stream has no end")


def _streams(handle: IO[bytes], make: Callable[[], Any], error: type[Exception], padding: bytes) -> Iterator[bytes]:
    """The streams of a bzip2 or xz file, one after the other."""
    stream, begun = make(), False
    for compressed in _plain(handle):
        while compressed or (begun and not stream.eof and not stream.needs_input):
            if not begun and not (compressed := compressed.lstrip(padding)):
                break
            begun = True
            try:
                yield stream.decompress(compressed, BLOCK)
            except error as why:
                raise Broken(str(why)) from why
            compressed = b""
            if stream.eof:
                compressed, stream, begun = stream.unused_data, make(), False
    if begun:
        raise Broken("the stream has no end")


def _bunzip(handle: IO[bytes]) -> Iterator[bytes]:
    return _streams(handle, bz2.BZ2Decompressor, OSError, b"")


def _unxz(handle: IO[bytes]) -> Iterator[bytes]:
    return _streams(handle, lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY), lzma.LZMAError, b"\0")


DECOMPRESS: dict[str, Callable[[IO[bytes]], Iterator[bytes]]] = {
    "": _plain, ".gz": _gunzip, ".zst": _unzstd, ".bz2": _bunzip, ".xz": _unxz,
}


def lines(blocks: Iterator[bytes]) -> Iterator[tuple[int, int, bytes | Broken | None]]:
    """(offset, length, line) of every line, without its newline.

    The line is None where it is longer than LINE_BYTES. After a break, the last is what was wrong, from the first line
    that is not whole.
    """
    offset, length = 0, 0
    begun: list[bytes] = []
    try:
        for block in blocks:
            first, *rest = block.split(b"\n")
            for following in rest:
                length += len(first)
                begun.append(first)
                yield offset, length, b"".join(begun) if length <= LINE_BYTES else None
                offset, length, begun, first = offset + length + 1, 0, [], following
            length += len(first)
            begun = [*begun, first] if length <= LINE_BYTES else []
    except Broken as why:
        yield offset, -1, why
        return
    if length:
        yield offset, length, b"".join(begun) if length <= LINE_BYTES else None
