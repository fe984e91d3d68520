"""A disk over somebody's bytes: copied on write, or written through once a request has succeeded."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from tests.core.rings import UNMAPPED, Board
from vdpasim.sim import Simulator, UsageError
from vdpasim.sim.storage import FileStorage, MemoryStorage, storage
from vdpasim.vmm.guest import Buffer

if TYPE_CHECKING:
    from pathlib import Path

IN, OUT, ZEROES = 0, 1, 13
OK, IOERR = 0, 1
SECTOR, CHUNK = 512, 1 << 16


class Disk(Board):
    """A disk over a backing."""

    def __init__(self, backing: object, **how: Any) -> None:
        super().__init__("vdpasim_blk", backing=backing, **how)

    def request(self, kind: int, sector: int, *data: Buffer) -> int:
        header = self.readable(0, struct.pack("<IIQ", kind, 0, sector))
        status = self.writable(0x20, 1)
        self.queues[0].post(header, *data, status)
        self.queues[0].kick()
        return self.content(status)[0]

    def read(self, sector: int, length: int = SECTOR) -> bytes:
        space = self.writable(0x1000, length)
        assert self.request(IN, sector, space) == OK
        return self.content(space)

    def write(self, sector: int, data: bytes) -> int:
        return self.request(OUT, sector, self.readable(0x1000, data))

    def torn_write(self, sector: int) -> int:
        """A write whose second buffer is not mapped."""
        return self.request(OUT, sector, self.readable(0x1000, b"T" * SECTOR), Buffer(UNMAPPED, SECTOR))

    def zero(self, sector: int, sectors: int) -> int:
        return self.request(ZEROES, 0, self.readable(0x1000, struct.pack("<QII", sector, sectors, 0)))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(bytes([n]) * SECTOR for n in range(1, 6)))
    return path


def test_the_file_is_what_is_read_and_behind_its_end_is_zero(image: Path) -> None:
    disk = Disk(image)
    assert disk.read(1) == bytes([2]) * SECTOR
    assert disk.read(4, 2 * SECTOR) == bytes([5]) * SECTOR + bytes(SECTOR)
    assert disk.read(1000) == bytes(SECTOR)


def test_by_default_a_write_stays_in_the_disk(image: Path) -> None:
    before = image.read_bytes()
    disk = Disk(str(image))
    assert disk.write(1, b"x" * SECTOR) == OK
    assert disk.zero(2, 1) == OK
    assert [disk.read(n)[:1] for n in range(5)] == [b"\1", b"x", b"\0", b"\4", b"\5"]
    assert image.read_bytes() == before
    assert Disk(image).read(1) == bytes([2]) * SECTOR


def test_zeroing_whole_chunks_hides_what_is_behind_them(tmp_path: Path) -> None:
    path = tmp_path / "big.img"
    path.write_bytes(b"\xff" * (3 * CHUNK))
    disk = Disk(path)
    assert disk.zero(0, 2 * CHUNK // SECTOR) == OK
    assert (disk.read(0), disk.read(CHUNK // SECTOR)) == (bytes(SECTOR), bytes(SECTOR))
    assert disk.read(2 * CHUNK // SECTOR) == b"\xff" * SECTOR


def test_a_read_only_file_serves_a_copy_on_write_disk(image: Path) -> None:
    image.chmod(0o444)
    assert Disk(image).write(0, b"x" * SECTOR) == OK


def test_written_through_it_is_in_the_file_and_the_file_grows(image: Path) -> None:
    disk = Disk(image, write_through=True)
    assert disk.write(1, b"x" * SECTOR) == OK
    assert disk.write(9, b"y" * SECTOR) == OK
    assert disk.zero(0, 1) == OK
    data = image.read_bytes()
    assert (data[:SECTOR], data[SECTOR : 2 * SECTOR]) == (bytes(SECTOR), b"x" * SECTOR)
    assert (len(data), data[9 * SECTOR :]) == (10 * SECTOR, b"y" * SECTOR)


def test_a_request_that_fails_half_way_does_not_touch_the_file(image: Path) -> None:
    before = image.read_bytes()
    disk = Disk(image, write_through=True)
    assert disk.torn_write(1) == IOERR
    assert image.read_bytes() == before
    assert disk.read(1) == b"T" * SECTOR, "the simulated disk is as torn as the kernel's"
    assert disk.write(3, b"z" * SECTOR) == OK
    assert image.read_bytes()[SECTOR : 2 * SECTOR] == bytes([2]) * SECTOR, "nor does the next one that succeeds"


def test_a_memfd_is_seen_by_who_maps_it() -> None:
    sim = Simulator()
    host = sim.process("host")
    memfd = host.memfd("image", 1 << 20)
    region = host.mmap(1 << 20, memfd)
    region.write(0, b"hello")
    disk = Disk(memfd, write_through=True)
    assert disk.read(0)[:5] == b"hello"
    assert disk.write(1, b"x" * SECTOR) == OK
    assert region.read(SECTOR, 3) == b"xxx"


def test_anything_that_reads_and_writes_is_a_storage() -> None:
    class Pattern:
        def read(self, offset: int, length: int) -> bytes:
            return bytes((offset + n) // SECTOR & 0xFF for n in range(length))

        def write(self, offset: int, data: bytes) -> None:
            raise AssertionError("copied on write")

    disk = Disk(Pattern())
    assert disk.read(7) == bytes([7]) * SECTOR
    assert disk.write(7, b"x" * SECTOR) == OK
    assert disk.read(7) == b"x" * SECTOR


@pytest.mark.parametrize("given", [5, b"bytes", object()])
def test_what_has_no_bytes_is_refused_with_what_would_do(given: object) -> None:
    with pytest.raises(UsageError, match="it is a path, a memfd"):
        storage(given, writable=False)


def test_a_file_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        FileStorage(tmp_path / "none.img", writable=False)
    with pytest.raises(UsageError, match="not a regular file"):
        FileStorage(tmp_path, writable=False)


def test_writing_through_needs_something_to_write_to() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        Simulator().vdpa.dev_add("d", mgmtdev="vdpasim_blk", write_through=True)


def test_a_network_device_has_no_disk(image: Path) -> None:
    with pytest.raises(OSError, match="not supported"):
        Simulator().vdpa.dev_add("d", mgmtdev="vdpasim_net", backing=image)


def test_a_memory_storage_keeps_its_object() -> None:
    sim = Simulator()
    memfd = sim.process("p").memfd("m", 4096)
    memory = memfd.memory
    assert memory is not None
    kept = MemoryStorage(memory)
    memfd.close_nowait()
    kept.write(0, b"still here")
    assert kept.read(0, 10) == b"still here"
