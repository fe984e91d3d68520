"""The bytes of a simulated disk: sparse, and over somebody's storage if there is one.

Theory. The disk is kept in chunks that exist once they were written. What was never written reads as zero, or, with a
*backing*, as what the backing has there. Nothing is ever written to a backing while a request runs: the chunk is copied
first (copy-on-write). A *write-through* disk hands the backing what a request changed when that request has succeeded,
so a request that fails half-way leaves the disk as a kernel would leave it and the backing as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from vdpasim.core.ports import Storage

CHUNK = 1 << 16
"""The disk is stored in pieces of this many bytes."""
SECTOR = 512


@attrs.define(eq=False)
class Ramdisk:
    """Sparse storage of ``capacity`` sectors."""

    capacity: int
    backing: Storage | None = None
    write_through: bool = False
    chunks: dict[int, bytearray] = attrs.Factory(dict["int", "bytearray"])
    """Chunk number -> its bytes; the others are the backing's, or zero."""
    _changed: list[tuple[int, int]] = attrs.Factory(list["tuple[int, int]"])

    def read(self, offset: int, length: int) -> bytes | memoryview:
        """Bytes of the disk, to be used before the next write."""
        at = offset % CHUNK
        if at + length <= CHUNK:
            chunk = self.chunks.get(offset // CHUNK)
            if chunk is not None:
                return memoryview(chunk)[at : at + length]
            return self._behind(offset, length)
        parts: list[bytes | memoryview] = []
        while length:
            part = min(length, CHUNK - offset % CHUNK)
            parts.append(self.read(offset, part))
            offset, length = offset + part, length - part
        return b"".join(parts)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Store bytes."""
        if self.write_through:
            self._changed.append((offset, len(data)))
        done = 0
        while done < len(data):
            at = (offset + done) % CHUNK
            part = min(len(data) - done, CHUNK - at)
            self._chunk((offset + done) // CHUNK)[at : at + part] = data[done : done + part]
            done += part

    def zero(self, offset: int, length: int) -> None:
        """Write zeroes; a whole chunk with nothing behind it goes."""
        if self.write_through:
            self._changed.append((offset, length))
        last = offset + length
        while offset < last:
            number, at = divmod(offset, CHUNK)
            part = min(last - offset, CHUNK - at)
            if part == CHUNK and self.backing is None:
                self.chunks.pop(number, None)
            elif number in self.chunks or self.backing is not None:
                self._chunk(number)[at : at + part] = bytes(part)
            offset += part

    def end_request(self, *, succeeded: bool) -> None:
        """A request is over: a write-through disk hands on what it changed, if it succeeded."""
        if not self._changed:
            return
        changed, self._changed = self._changed, []
        if succeeded and self.backing is not None:
            for offset, length in changed:
                self.backing.write(offset, bytes(self.read(offset, length)))

    def _chunk(self, number: int) -> bytearray:
        chunk = self.chunks.get(number)
        if chunk is None:
            chunk = self.chunks[number] = bytearray(self._behind(number * CHUNK, CHUNK))
        return chunk

    def _behind(self, offset: int, length: int) -> bytes:
        if self.backing is None:
            return bytes(length)
        return self.backing.read(offset, length).ljust(length, b"\0")
