"""Archives of small compressed members: decompressed one member at a time, and never more than is asked for.

WARC files are gzip members or Zstandard frames, one a record, one after the other, so that a reader may begin at any of
them. ``Members`` opens one after the other and gives its bytes piecemeal: what a member would become is never held. A
member that cannot be read, or is given up, is left by looking for the next place where one begins and, so as not to be
fooled by bytes that only look alike, holds what it should (``begins``). An uncompressed file is one member.

Zstandard archives may begin with a dictionary in a skippable frame (the proposal for WARC of the IIPC, 2021).
"""

import struct
import zlib
from typing import IO, Any

import zstandard

from curate.reading.rows import Broken

BLOCK = 1 << 20                             # bytes read from the file at a time
GZIP_BLOCK = 1 << 14                        # compressed bytes at a time: zlib copies what it does not use
AT_ONCE = 1 << 16                           # bytes given at a time, at least, where the member has them
ZSTD_BLOCK = 1 << 9                         # compressed bytes at a time: 512 bytes of zeros become 16 MB
GZIP, ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
DICTIONARY = 0x184D2A5D
SKIPPABLE = range(0x184D2A50, 0x184D2A60)
DICTIONARY_BYTES = 100_000_000
WINDOW = 1 << 27                            # the most memory that a Zstandard frame may ask for


class Members:
    """The members of a file. ``start`` is the offset of the one that is open, ``offset`` of what is read next.

    Args:
        handle: a file that can seek.
        begins: what a member holds at its start, after blank lines.
        ending: of the file's name; it counts where the first bytes tell nothing.
    """

    def __init__(self, handle: IO[bytes], begins: bytes, ending: str = "") -> None:
        self._handle, self._begins = handle, begins
        self._held, self._at, self.offset, self.start = b"", 0, 0, 0
        self._opener: Any = None
        self._dictionary: zstandard.ZstdCompressionDict | None = None
        self._ended = False
        head = self._peek(len(begins))[: len(begins)]
        told = "gzip" if head[:3] == GZIP else "zstd" if head[:4] == ZSTD or self._skippable(head[:4]) else ""
        named = {".gz": "gzip", ".zst": "zstd"}.get(ending, "plain")
        self.kind = "plain" if head == begins else told or named

    def open(self) -> bool:
        """Begin the next member; False at the end of the file.

        Raises:
            Broken: what stands there is no member.
        """
        if self.kind == "gzip":
            while (head := self._peek(1)) == b"\0":  # zeros after a member are padding
                self._take(1)
        if self.kind == "zstd":
            self._skip_frames()
        self.start, self._ended = self.offset, False
        head = self._peek(4)
        if not head:
            return False
        if self.kind == "gzip":
            self._opener = zlib.decompressobj(wbits=31)
            if head[:3] != GZIP:
                raise Broken("no gzip member begins here")
        if self.kind == "zstd":
            self._opener = self._frame()
            if head != ZSTD:
                raise Broken("no Zstandard frame begins here")
        return True

    def read(self, most: int) -> bytes:
        """Some bytes of the member, at most ``most`` or AT_ONCE (Zstandard: up to 16 MB more); none at its end.

        Raises:
            Broken: they cannot be decompressed, or the file ends here.
        """
        most = max(most, AT_ONCE)
        while not self._ended:
            if self.kind == "plain":
                found = self._take(min(most, BLOCK))
                self._ended = not found
                return found
            given = self._take(GZIP_BLOCK if self.kind == "gzip" else ZSTD_BLOCK)
            try:
                if self.kind == "gzip":
                    found = self._opener.decompress(given, most)
                    # A member's end may be told only by a call that gives nothing.
                    rest = self._opener.unused_data if self._opener.eof else self._opener.unconsumed_tail
                else:
                    found, rest = self._opener.decompress(given), b""
                    rest = self._opener.unused_data if self._opener.eof else b""
            except (zlib.error, zstandard.ZstdError) as error:
                raise Broken(f"it cannot be decompressed: {error}") from error
            self._give_back(rest)
            self._ended = self._opener.eof
            if not given and not found and not self._ended:
                raise Broken("it has no end")
            if found:
                return bytes(found)
        return b""

    def next_after(self, offset: int) -> bool:
        """Go to the first place after ``offset`` where a member begins; False if there is none."""
        if self.kind == "plain":
            return False
        magic = GZIP if self.kind == "gzip" else ZSTD
        self._go(offset + 1)
        while self._peek(len(magic)):
            at = self._held.find(magic, self._at)
            if at < 0:
                self._take(max(1, len(self._held) - self._at - len(magic) + 1))
                continue
            self._take(at - self._at)
            here = self.offset
            try:
                found = self._try()
            except Broken:
                found = False
            self._go(here if found else here + 1)
            if found:
                return True
        return False

    def _try(self) -> bool:
        self.open()
        return self.read(1 << 10).lstrip(b"\r\n").startswith(self._begins)

    def _peek(self, count: int) -> bytes:
        while len(self._held) - self._at < count and (block := self._handle.read(BLOCK)):
            self._held, self._at = self._held[self._at :] + block, 0
        return self._held[self._at : self._at + count]

    def _take(self, count: int) -> bytes:
        if self._at == len(self._held):
            self._held, self._at = self._handle.read(BLOCK), 0
        found = self._held[self._at : self._at + count]
        self._at += len(found)
        self.offset += len(found)
        return found

    def _give_back(self, rest: bytes) -> None:
        """The end of what was taken last."""
        self._at -= len(rest)
        self.offset -= len(rest)

    def _go(self, offset: int) -> None:
        self._handle.seek(offset)
        self._held, self._at, self.offset = b"", 0, offset

    def _skippable(self, head: bytes) -> bool:
        return len(head) == 4 and struct.unpack("<I", head)[0] in SKIPPABLE

    def _skip_frames(self) -> None:
        while self._skippable(head := self._peek(4)):
            size = struct.unpack("<I", self._peek(8)[4:8].ljust(4, b"\0"))[0]
            if struct.unpack("<I", head)[0] == DICTIONARY and self.offset == 0 and size <= DICTIONARY_BYTES:
                self._take(8)
                found = bytearray()
                while len(found) < size and (piece := self._take(size - len(found))):
                    found += piece
                self._dictionary = self._learn(bytes(found))
            else:
                self._go(self.offset + 8 + size)

    def _learn(self, found: bytes) -> zstandard.ZstdCompressionDict:
        try:
            if found[:4] == ZSTD:
                found = zstandard.ZstdDecompressor().decompress(found, max_output_size=DICTIONARY_BYTES)
            return zstandard.ZstdCompressionDict(found)
        except zstandard.ZstdError as error:
            raise Broken(f"its dictionary cannot be read: {error}") from error

    def _frame(self) -> Any:
        return zstandard.ZstdDecompressor(dict_data=self._dictionary, max_window_size=WINDOW).decompressobj()
