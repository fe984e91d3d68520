"""The driver side of a packed ring: what it writes, and what it makes of what a device writes."""

from __future__ import annotations

import struct

import pytest

from vdpasim.sim import Region, Simulator
from vdpasim.vmm.guest import Buffer, Used, Virtqueue
from vdpasim.vmm.packed import DESC, PackedVirtqueue

NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 1 << 7, 1 << 15


@pytest.fixture
def region() -> Region:
    return Simulator().process("guest").mmap(0x4000)


def slot(vq: PackedVirtqueue, index: int) -> tuple[int, int, int, int]:
    address, length, ident, flags = DESC.unpack(vq.region.read(vq.desc_at + 16 * index, 16))
    return address, length, ident, flags


def give_back(vq: PackedVirtqueue, at: int, ident: int, length: int, *, wrap: bool = True, wrote: bool = True) -> None:
    """What a device writes."""
    flags = (WRITE if wrote else 0) | (AVAIL | USED if wrap else 0)
    vq.region.write(vq.desc_at + 16 * at + 8, struct.pack("<IHH", length, ident, flags))


class TestLayout:
    @pytest.mark.parametrize("num", [1, 2, 16, 256])
    @pytest.mark.parametrize("indirect", [False, True])
    def test_areas_follow_the_table(self, region: Region, num: int, indirect: bool) -> None:
        vq = PackedVirtqueue(Simulator().process("p").mmap(0x20000), 0x100000, num, offset=0x1000, indirect=indirect)
        desc, driver, device = vq.addresses()
        assert (desc, driver, device) == (0x101000, 0x101000 + 16 * num, 0x101004 + 16 * num)
        assert vq.last_offset >= device + 3 - 0x100000

    def test_a_new_ring_is_empty_whatever_was_in_memory(self, region: Region) -> None:
        region.write(0, b"\xff" * 0x1000)
        vq = PackedVirtqueue(region, 0, 4)
        assert vq.used() == []
        assert (vq.free, vq.in_flight, vq.first_base) == (4, 0, 0x80008000)


class TestAdding:
    def test_a_chain_has_its_flags_and_one_id(self, region: Region) -> None:
        vq = PackedVirtqueue(region, 0, 8)
        ident = vq.add(Buffer(0x1000, 16), Buffer(0x2000, 512, True), Buffer(0x3000, 1, True))
        assert slot(vq, 0) == (0x1000, 16, ident, AVAIL | NEXT)
        assert slot(vq, 1) == (0x2000, 512, ident, AVAIL | NEXT | WRITE)
        assert slot(vq, 2) == (0x3000, 1, ident, AVAIL | WRITE)
        assert (vq.free, vq.in_flight) == (5, 1)

    def test_the_flags_turn_round_with_the_ring(self, region: Region) -> None:
        vq = PackedVirtqueue(region, 0, 2)
        first = vq.add(Buffer(0, 1), Buffer(1, 1))
        give_back(vq, 0, first, 0)
        assert vq.used() == [Used(first, 0)]
        vq.add(Buffer(2, 1))
        assert slot(vq, 0)[3] == USED

    def test_a_full_ring_says_so(self, region: Region) -> None:
        vq = PackedVirtqueue(region, 0, 2)
        vq.add(Buffer(0, 1))
        with pytest.raises(ValueError, match="2 slots are wanted, 1 of 2 are free"):
            vq.add(Buffer(0, 1), Buffer(1, 1))
        with pytest.raises(ValueError, match="0 slots are wanted"):
            vq.add()

    def test_indirect_a_chain_takes_a_table_and_one_slot(self, region: Region) -> None:
        vq = PackedVirtqueue(region, 0x100000, 4, indirect=True)
        vq.add(Buffer(1, 1))
        ident = vq.add(Buffer(0x1000, 16), Buffer(0x2000, 8, True))
        address, length, found, flags = slot(vq, 1)
        assert (length, found, flags) == (32, ident, AVAIL | INDIRECT)
        table = region.read(address - 0x100000, 32)
        assert DESC.unpack(table[:16]) == (0x1000, 16, 0, 0)
        assert DESC.unpack(table[16:]) == (0x2000, 8, 0, WRITE)
        assert vq.last_offset >= address - 0x100000 + 31

    def test_a_chain_longer_than_a_table_is_laid_out_in_the_ring(self, region: Region) -> None:
        vq = PackedVirtqueue(region, 0, 16, indirect=True)
        vq.add(*[Buffer(i, 1) for i in range(9)])
        assert vq.free == 7


class TestTaking:
    def test_in_any_order(self, region: Region) -> None:
        vq = PackedVirtqueue(region, 0, 8)
        first, second = vq.add(Buffer(0, 1), Buffer(1, 1)), vq.add(Buffer(2, 1, True))
        give_back(vq, 0, second, 9)
        assert vq.used() == [Used(second, 9)]
        give_back(vq, 1, first, 0, wrote=False)
        assert vq.used() == [Used(first, 0)]
        assert (vq.free, vq.used()) == (8, [])

    def test_a_length_without_the_flag_is_none(self, region: Region) -> None:
        vq = PackedVirtqueue(region, 0, 8)
        ident = vq.add(Buffer(0, 1))
        give_back(vq, 0, ident, 77, wrote=False)
        assert vq.used() == [Used(ident, 0)]

    def test_what_it_does_not_have_the_device_cannot_give_back(self, region: Region) -> None:
        vq = PackedVirtqueue(region, 0, 8)
        give_back(vq, 0, 5, 0)
        with pytest.raises(ValueError, match="gave back 5"):
            vq.used()


class TestEvents:
    @pytest.mark.parametrize(("flags", "kick"), [(0, True), (1, False), (2, True)])
    def test_without_the_feature_the_device_wants_all_or_none(self, region: Region, flags: int, kick: bool) -> None:
        vq = PackedVirtqueue(region, 0, 8)
        region.write(vq.device_at + 2, bytes([flags, 0]))
        assert not vq.need_kick(), "nothing was added"
        vq.add(Buffer(0, 1))
        assert vq.need_kick() is kick

    def test_the_device_names_a_slot(self, region: Region) -> None:
        vq = PackedVirtqueue(region, 0, 4, event_idx=True)
        kicks = []
        region.write(vq.device_at, (1).to_bytes(2, "little") + b"\2\0")  # slot 1 of the second lap
        for at in range(7):
            ident = vq.add(Buffer(0, 1))
            kicks.append(vq.need_kick())
            give_back(vq, at % 4, ident, 0, wrap=at < 4)
            vq.used()
        assert [at for at, kick in enumerate(kicks) if kick] == [5]

    def test_the_driver_s_area(self, region: Region) -> None:
        def area(vq: PackedVirtqueue) -> tuple[int, int]:
            off_wrap, flags = struct.unpack("<HH", region.read(vq.driver_at, 4))
            return off_wrap, flags

        plain = PackedVirtqueue(region, 0, 4)
        plain.want_interrupt(None)
        assert area(plain) == (0, 1)
        plain.want_interrupt(3)
        assert area(plain) == (0, 0)
        vq = PackedVirtqueue(region, 0, 4, event_idx=True)
        vq.want_interrupt()
        assert area(vq) == (0x8000, 2)
        vq.want_interrupt(3)
        assert area(vq) == (0x8003, 2)
        vq._used = 2
        vq.want_interrupt(3)
        assert area(vq) == (1, 2)
        vq.want_interrupt(100)
        assert area(vq) == (1, 2), "no further than around the ring"


class TestSplitRing:
    """What vmm/guest.py got with the packed one: event index and indirect tables."""

    def test_an_indirect_chain_is_linked_inside_its_table(self, region: Region) -> None:
        vq = Virtqueue(region, 0x100000, 4, indirect=True)
        assert vq.add(Buffer(0x1000, 16), Buffer(0x2000, 8, True)) == 0
        address, length, flags, _ = DESC.unpack(region.read(0, 16))
        assert (length, flags) == (32, INDIRECT)
        table = region.read(address - 0x100000, 32)
        assert DESC.unpack(table[:16]) == (0x1000, 16, NEXT, 1)
        assert DESC.unpack(table[16:])[2] == WRITE
        assert vq.used_at + 6 + 8 * 4 <= address - 0x100000 <= vq.last_offset - 31

    def test_the_device_s_event_decides_about_kicks(self, region: Region) -> None:
        vq = Virtqueue(region, 0, 8, event_idx=True)
        region.write(vq.used_at + 4 + 8 * 8, (2).to_bytes(2, "little"))
        kicks = []
        for _ in range(5):
            vq.add(Buffer(0, 1))
            kicks.append(vq.need_kick())
        assert kicks == [False, False, True, False, False]
        assert not vq.need_kick()

    def test_interrupts_are_asked_for_by_index(self, region: Region) -> None:
        vq = Virtqueue(region, 0, 8, event_idx=True)
        for after, event in ((0, 0), (3, 3), (None, 0xFFFF)):
            vq.want_interrupt(after)
            assert int.from_bytes(region.read(vq.avail_at + 4 + 2 * 8, 2), "little") == event
            assert region.read(vq.avail_at, 2) == b"\0\0"
