"""The bytes of a disk against a plain array, with and without storage behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.core.vdpa.ramdisk import CHUNK, SECTOR, Ramdisk

SIZE = 3 * CHUNK
CAPACITY = SIZE // SECTOR


class Array:
    """Storage in a bytearray that may be shorter than the disk."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.writes = 0

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        self.writes += 1
        self.data.extend(bytes(max(0, offset + len(data) - len(self.data))))
        self.data[offset : offset + len(data)] = data


offsets = st.one_of(st.integers(0, SIZE - 1), st.sampled_from([0, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK]))
lengths = st.sampled_from([0, 1, 511, 512, CHUNK - 1, CHUNK, CHUNK + 1, SIZE])
changes = st.lists(st.tuples(st.sampled_from("wz"), offsets, lengths, st.booleans()), max_size=8)


@pytest.mark.parametrize("behind", [None, b"", b"\xab" * (CHUNK + 100), b"\xcd" * SIZE])
@pytest.mark.parametrize("write_through", [False, True])
@given(script=changes, at=offsets, length=lengths)
def test_a_disk_is_an_array(
    behind: bytes | None,
    write_through: bool,
    script: list[tuple[str, int, int, bool]],
    at: int,
    length: int,
) -> None:
    backing = None if behind is None else Array(behind)
    disk = Ramdisk(CAPACITY, backing, write_through and backing is not None)
    model = bytearray((behind or b"").ljust(SIZE, b"\0"))
    through = bytearray(model)
    for n, (what, offset, size, succeeded) in enumerate(script):
        size = min(size, SIZE - offset)
        data = bytes(size) if what == "z" else bytes([n + 1]) * size
        if what == "z":
            disk.zero(offset, size)
        else:
            disk.write(offset, data)
        disk.end_request(succeeded=succeeded)
        model[offset : offset + size] = data
        if succeeded:
            through[offset : offset + size] = data
    length = min(length, SIZE - at)
    assert bytes(disk.read(at, length)) == model[at : at + length]
    if backing is None or not disk.write_through:
        assert backing is None or backing.writes == 0
    else:
        assert backing.data.ljust(SIZE, b"\0") == through


def test_what_nobody_wrote_costs_nothing() -> None:
    disk = Ramdisk(CAPACITY)
    assert bytes(disk.read(0, SIZE)) == bytes(SIZE)
    disk.write(CHUNK, b"x")
    disk.zero(0, SIZE)
    assert disk.chunks == {}
