"""The driver side of a split ring."""

from __future__ import annotations

import pytest

from vdpasim.sim import Region, Simulator
from vdpasim.uapi.virtio_ring import VRING_DESC_F_NEXT, VRING_DESC_F_WRITE
from vdpasim.vmm.guest import DESC, USED, Buffer, Used, Virtqueue


@pytest.fixture
def region() -> Region:
    process = Simulator().process("guest")
    return process.mmap(0x4000)


def u16(region: Region, offset: int) -> int:
    return int.from_bytes(region.read(offset, 2), "little")


def descriptor(vq: Virtqueue, slot: int) -> tuple[int, int, int, int]:
    addr, length, flags, following = DESC.unpack(vq.region.read(vq.desc_at + 16 * slot, 16))
    return addr, length, flags, following


def complete(vq: Virtqueue, *elements: tuple[int, int]) -> None:
    """What a device does."""
    idx = u16(vq.region, vq.used_at + 2)
    for head, length in elements:
        vq.region.write(vq.used_at + 4 + 8 * (idx % vq.num), USED.pack(head, length))
        idx = (idx + 1) & 0xFFFF
        vq.region.write(vq.used_at + 2, idx.to_bytes(2, "little"))


class TestLayout:
    @pytest.mark.parametrize("num", [1, 2, 4, 16, 256])
    def test_areas_are_aligned_and_do_not_overlap(self, region: Region, num: int) -> None:
        vq = Virtqueue(region, 0x100000, num)
        assert (vq.desc_at, vq.avail_at) == (0, 16 * num)
        assert vq.avail_at % 2 == vq.used_at % 4 == 0
        assert vq.used_at >= vq.avail_at + 6 + 2 * num
        assert vq.last_offset == vq.used_at + 6 + 8 * num - 1

    def test_addresses_are_the_device_s(self, region: Region) -> None:
        vq = Virtqueue(region, 0x100000, 16, offset=0x1000)
        assert vq.addresses() == (0x101000, 0x101100, 0x101128)
        assert vq.iova(0x2000) == 0x102000

    def test_a_new_ring_is_empty_whatever_was_in_memory(self, region: Region) -> None:
        region.write(0, b"\xff" * 0x1000)
        vq = Virtqueue(region, 0, 16)
        assert (u16(region, vq.avail_at + 2), u16(region, vq.used_at + 2), vq.used()) == (0, 0, [])


class TestAdding:
    def test_a_chain_is_linked_by_next(self, region: Region) -> None:
        vq = Virtqueue(region, 0, 16)
        assert vq.add(Buffer(0x1000, 16), Buffer(0x2000, 512, True), Buffer(0x3000, 1, True)) == 0
        assert descriptor(vq, 0) == (0x1000, 16, VRING_DESC_F_NEXT, 1)
        assert descriptor(vq, 1) == (0x2000, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2)
        assert descriptor(vq, 2)[:3] == (0x3000, 1, VRING_DESC_F_WRITE)

    def test_the_head_is_put_into_the_ring_before_the_index(self, region: Region) -> None:
        vq = Virtqueue(region, 0, 16)
        vq.add(Buffer(0x1000, 1), Buffer(0x1000, 1))
        assert vq.add(Buffer(0x1000, 1)) == 2
        assert [u16(region, vq.avail_at + 4 + 2 * i) for i in range(2)] == [0, 2]
        assert u16(region, vq.avail_at + 2) == 2

    def test_table_and_ring_wrap_around(self, region: Region) -> None:
        vq = Virtqueue(region, 0, 4)
        heads = [vq.add(Buffer(i, 1), Buffer(i, 1, True)) for i in range(5)]
        assert heads == [0, 2, 0, 2, 0]
        assert u16(region, vq.avail_at + 2) == 5
        assert u16(region, vq.avail_at + 4) == 0
        three = Virtqueue(region, 0, 4)
        three.add(*[Buffer(i, 1) for i in range(3)])
        assert three.add(Buffer(8, 1), Buffer(9, 1)) == 3
        assert descriptor(three, 3) == (8, 1, VRING_DESC_F_NEXT, 0)
        assert descriptor(three, 0)[0] == 9

    def test_the_index_wraps_at_16_bits(self, region: Region) -> None:
        vq = Virtqueue(region, 0, 4)
        vq._avail_idx = 0xFFFF
        vq.add(Buffer(0, 1))
        assert u16(region, vq.avail_at + 2) == 0


class TestTaking:
    def test_used_elements_come_once_in_order(self, region: Region) -> None:
        vq = Virtqueue(region, 0, 4)
        complete(vq, (2, 17), (0, 0))
        assert vq.used() == [Used(2, 17), Used(0, 0)]
        assert vq.used() == []
        complete(vq, (3, 1), (1, 1), (0, 9))
        assert [used.head for used in vq.used()] == [3, 1, 0]

    def test_they_come_over_the_wrap_of_the_index(self, region: Region) -> None:
        vq = Virtqueue(region, 0, 4)
        vq._used_idx = 0xFFFF
        region.write(vq.used_at + 2, b"\xff\xff")
        complete(vq, (1, 5), (2, 6))
        assert vq.used() == [Used(1, 5), Used(2, 6)]
