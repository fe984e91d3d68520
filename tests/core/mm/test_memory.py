"""Frames and the objects made of them: contiguity, sparseness, truncation, and pins that outlive the object."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.core import rules
from vdpasim.core.mm.memory import Folio, Memory, PhysicalMemory
from vdpasim.core.mm.mm import AddressSpace
from vdpasim.core.ports import PAGE_SIZE, Extent, MemoryObject, Run
from vdpasim.core.rules import KernelError
from vdpasim.uapi import errno as E
from vdpasim.uapi.mman import PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from vdpasim.core.ports import Pages

HUGE = 512 * PAGE_SIZE


def refused(errno: int) -> pytest.RaisesExc[KernelError]:
    return pytest.RaisesExc(KernelError, check=lambda error: error.errno == errno)


@pytest.fixture
def phys() -> PhysicalMemory:
    return PhysicalMemory()


def paddr(memory: Memory, index: int) -> int:
    """Physical address of a page, faulted in."""
    found = memory.page(index)
    assert found is not None
    folio, page = found
    return folio.paddr + page * PAGE_SIZE


def pin(memory: Memory, index: int) -> Run:
    """Hold the frame of a page as a driver does."""
    found = memory.page(index)
    assert found is not None
    found[0].pins += 1
    return Run(paddr(memory, index), 1)


class TestContiguity:
    def test_single_pages_are_never_neighbours(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 64 * PAGE_SIZE, phys)
        at = [paddr(memory, index) for index in range(64)]
        assert all(b - a > PAGE_SIZE for a, b in pairwise(at))

    def test_pages_of_a_huge_page_are_all_neighbours_and_it_is_aligned(self, phys: PhysicalMemory) -> None:
        paddr(Memory("other", PAGE_SIZE, phys), 0)
        memory = Memory("ram", HUGE, phys, folio_pages=512)
        first = paddr(memory, 0)
        assert first % HUGE == 0
        assert [paddr(memory, index) - first for index in (1, 2, 511)] == [PAGE_SIZE, 2 * PAGE_SIZE, 511 * PAGE_SIZE]

    def test_two_huge_pages_are_not_neighbours(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 2 * HUGE, phys, folio_pages=512)
        below, above = paddr(memory, 511), paddr(memory, 512)
        assert above - below > PAGE_SIZE

    @given(shift=st.integers(0, 9), pages=st.integers(1, 64))
    def test_is_what_folio_pages_says(self, shift: int, pages: int) -> None:
        memory = Memory("ram", pages * PAGE_SIZE, PhysicalMemory(), folio_pages=1 << shift)
        for index in range(1, pages):
            adjacent = paddr(memory, index) == paddr(memory, index - 1) + PAGE_SIZE
            assert adjacent == (index % (1 << shift) != 0)

    @pytest.mark.parametrize("folio_pages", [0, -1, 3, 511])
    def test_comes_in_powers_of_two_only(self, phys: PhysicalMemory, folio_pages: int) -> None:
        with pytest.raises(ValueError, match="power of two"):
            Memory("ram", PAGE_SIZE, phys, folio_pages=folio_pages)

    def test_one_frame_is_behind_every_page(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 8 * PAGE_SIZE, phys, one_frame=True)
        assert len({paddr(memory, index) for index in (5, 0, 7)}) == 1
        memory.pwrite(3 * PAGE_SIZE + 1, b"x")
        assert memory.pread(7 * PAGE_SIZE + 1, 1) == b"x"

    def test_one_frame_stays_one_when_a_page_of_it_goes(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 8 * PAGE_SIZE, phys, one_frame=True)
        before = paddr(memory, 4)
        memory.punch_hole(0, PAGE_SIZE)
        assert {paddr(memory, 0), paddr(memory, 4), paddr(memory, 6)} == {before}

    def test_the_same_story_gives_the_same_addresses(self) -> None:
        def story() -> list[int]:
            phys = PhysicalMemory()
            small, huge = Memory("a", HUGE, phys), Memory("b", HUGE, phys, folio_pages=512)
            return [paddr(small, 3), paddr(huge, 9), paddr(small, 0), paddr(huge, 0)]

        assert story() == story()


class TestSparseness:
    def test_untouched_memory_has_no_frames(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 64 << 30, phys)
        assert memory.pread((64 << 30) - 8, 8) == bytes(8)
        assert phys.statistics().folios == 0

    def test_a_hole_of_the_whole_object_costs_what_was_there(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 1 << 60, phys)
        memory.pwrite(1 << 59, b"x")
        memory.punch_hole(0, 1 << 60)
        assert phys.statistics().folios == 0

    def test_a_frame_nobody_wrote_has_no_bytes(self, phys: PhysicalMemory) -> None:
        found = Memory("ram", HUGE, phys, folio_pages=512).page(7)
        assert found is not None
        assert found[0].data is None
        assert found[0].read(0, 16) == bytes(16)

    def test_writing_takes_the_frames_that_are_written(self, phys: PhysicalMemory) -> None:
        Memory("ram", 1 << 40, phys).pwrite((1 << 39) - 1, b"ab")
        assert phys.statistics().pages == 2


class TestAMappingOfTheWhole:
    @given(st.binary(min_size=1, max_size=9000), st.integers(0, 5 * PAGE_SIZE), st.integers(1, 4 * PAGE_SIZE))
    def test_is_what_a_process_that_maps_all_of_it_sees(self, data: bytes, offset: int, size: int) -> None:
        phys = PhysicalMemory()
        mapped, direct = Memory("mapped", size, phys), Memory("direct", size, phys)
        mm = AddressSpace("mm", phys)
        at = mm.mmap(None, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE, shared=True, obj=mapped)
        for length in (len(data), 1):
            # behind the mapping is no object's business
            room = max(0, min(length, 4 * PAGE_SIZE - offset))
            assert direct.write(offset, data[:room]) == mm.write(at + offset, data[:room])
            assert direct.read(offset, room) == mm.read(at + offset, room)
            theirs, ours = mm.frame(at + offset, write=True) if room else None, direct.frame(offset, write=True)
            if theirs is None or ours is None:
                assert not room or theirs is ours is None
            else:
                assert ours[0][ours[1] : ours[1] + 16] == theirs[0][theirs[1] : theirs[1] + 16]

    def test_a_page_that_nobody_touched_is_there(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 2 * PAGE_SIZE, phys)
        assert memory.read(PAGE_SIZE - 2, 4) == bytes(4)
        assert memory.frame(5, write=True) == (bytearray(PAGE_SIZE), 5)

    def test_a_frame_of_a_huge_page_is_its_own_part_of_it(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", HUGE, phys, folio_pages=512)
        memory.pwrite(7 * PAGE_SIZE, b"seventh")
        data = memory.frame(7 * PAGE_SIZE + 3, write=False)
        assert data is not None
        assert data[0][data[1] : data[1] + 4] == b"enth"

    def test_nothing_is_behind_its_last_page(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", PAGE_SIZE + 1, phys)
        assert memory.write(2 * PAGE_SIZE - 2, b"abcd") == 2
        assert (memory.read(2 * PAGE_SIZE - 2, 4), memory.read(2 * PAGE_SIZE, 1)) == (b"ab", b"")
        assert memory.frame(2 * PAGE_SIZE, write=True) is None
        assert memory.size == PAGE_SIZE + 1, "a store makes no file longer"


class TestFile:
    def test_reads_back_what_is_written_across_pages(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 0, phys)
        text = bytes(range(256)) * 40
        assert memory.pwrite(PAGE_SIZE - 100, text) == len(text)
        assert memory.pread(PAGE_SIZE - 100, len(text)) == text
        assert memory.pread(0, PAGE_SIZE - 100) == bytes(PAGE_SIZE - 100)

    def test_writing_grows_it_and_writing_nothing_does_not(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 10, phys)
        memory.pwrite(100, b"")
        assert memory.size == 10
        memory.pwrite(100, b"x")
        assert memory.size == 101

    def test_reading_stops_at_the_last_byte(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 10, phys)
        assert len(memory.pread(4, 100)) == 6
        assert memory.pread(10, 1) == memory.pread(500, 1) == b""

    def test_a_mapping_reaches_to_the_end_of_the_last_page(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", PAGE_SIZE + 1, phys)
        assert memory.page(1) is not None
        assert memory.page(2) is None
        assert memory.page(-1) is None

    def test_an_empty_file_has_no_page(self, phys: PhysicalMemory) -> None:
        assert Memory("ram", 0, phys).page(0) is None

    def test_negative_offsets_and_sizes_are_einval(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", PAGE_SIZE, phys)
        with refused(E.EINVAL):
            memory.pread(-1, 1)
        with refused(E.EINVAL):
            memory.pwrite(-1, b"x")
        with refused(E.EINVAL):
            memory.truncate(-1)
        for offset, length in ((-1, 10), (0, 0), (0, -1)):
            with refused(E.EINVAL):
                memory.punch_hole(offset, length)
        assert memory.size == PAGE_SIZE


class TestTruncateAndPunch:
    def test_growing_again_shows_zeroes(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 0, phys)
        memory.pwrite(0, b"\xff" * 3 * PAGE_SIZE)
        memory.truncate(PAGE_SIZE + 5)
        memory.truncate(3 * PAGE_SIZE)
        assert memory.pread(0, 3 * PAGE_SIZE) == (b"\xff" * (PAGE_SIZE + 5)).ljust(3 * PAGE_SIZE, b"\0")

    def test_pages_beyond_are_gone(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 4 * PAGE_SIZE, phys)
        memory.pwrite(0, b"x" * 4 * PAGE_SIZE)
        memory.truncate(PAGE_SIZE)
        assert memory.page(1) is None
        assert phys.statistics().folios == 1

    def test_a_hole_leaves_the_size_and_the_bytes_around_it(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 0, phys)
        memory.pwrite(0, b"x" * (3 * PAGE_SIZE - 7))
        memory.punch_hole(10, 3 * PAGE_SIZE)
        assert memory.size == 3 * PAGE_SIZE - 7
        assert memory.pread(0, memory.size) == (b"x" * 10).ljust(memory.size, b"\0")

    def test_a_hole_inside_a_page_clears_just_it(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 0, phys)
        memory.pwrite(0, b"x" * 100)
        memory.punch_hole(20, 30)
        assert memory.pread(0, 100) == b"x" * 20 + bytes(30) + b"x" * 50

    @pytest.mark.parametrize(("offset", "length"), [(1, PAGE_SIZE - 1), (0, PAGE_SIZE - 1)])
    def test_a_hole_of_all_but_one_byte_keeps_it_and_the_frame(
        self, phys: PhysicalMemory, offset: int, length: int
    ) -> None:
        memory = Memory("ram", 0, phys)
        memory.pwrite(0, b"x" * PAGE_SIZE)
        before = paddr(memory, 0)
        memory.punch_hole(offset, length)
        assert memory.pread(0, PAGE_SIZE).strip(b"\0") == b"x"
        assert paddr(memory, 0) == before

    def test_a_large_hole_takes_its_first_and_its_last_page(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 64 * PAGE_SIZE, phys)
        for index in (9, 10, 50, 51):
            memory.pwrite(index * PAGE_SIZE, b"x")
        memory.punch_hole(10 * PAGE_SIZE, 41 * PAGE_SIZE)
        assert [index for index, _, _ in memory.populated()] == [9, 51]

    def test_a_punched_page_comes_back_as_another_frame(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", PAGE_SIZE, phys)
        before = paddr(memory, 0)
        memory.punch_hole(0, PAGE_SIZE)
        assert paddr(memory, 0) != before

    @given(
        shift=st.integers(0, 3),
        steps=st.lists(
            st.one_of(
                st.tuples(st.just("write"), st.integers(0, 40000), st.binary(min_size=1, max_size=9000)),
                st.tuples(st.just("punch"), st.integers(0, 40000), st.integers(1, 30000)),
                st.tuples(st.just("truncate"), st.integers(0, 50000), st.just(0)),
            ),
            max_size=8,
        ),
    )
    def test_behaves_like_an_array_of_bytes(self, shift: int, steps: list[tuple[str, int, int | bytes]]) -> None:
        phys = PhysicalMemory()
        memory, model = Memory("ram", 0, phys, folio_pages=1 << shift), bytearray()
        for op, at, arg in steps:
            if op == "write" and isinstance(arg, bytes):
                memory.pwrite(at, arg)
                model.extend(bytes(max(0, at + len(arg) - len(model))))
                model[at : at + len(arg)] = arg
            elif op == "punch" and isinstance(arg, int):
                memory.punch_hole(at, arg)
                model[at : at + arg] = bytes(len(model[at : at + arg]))
            else:
                memory.truncate(at)
                model = model[:at].ljust(at, b"\0")
            assert memory.size == len(model)
            assert memory.pread(0, 1 << 20) == model
        memory.put()
        assert phys.statistics().folios == 0


class TestReferences:
    def test_the_last_one_frees_the_frames(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", PAGE_SIZE, phys)
        memory.pwrite(0, b"x")
        memory.get()
        memory.put()
        assert memory.pread(0, 1) == b"x"
        memory.put()
        assert phys.statistics().folios == 0

    def test_it_is_what_drivers_call_a_memory_object(self, phys: PhysicalMemory) -> None:
        assert isinstance(Memory("ram", 0, phys), MemoryObject)


class TestPhysicalAddresses:
    def test_reach_the_bytes_of_the_object(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", HUGE, phys, folio_pages=512)
        at = paddr(memory, 2) + 5
        assert phys.write(at, b"hello") == 5
        assert memory.pread(2 * PAGE_SIZE + 5, 5) == b"hello"
        assert phys.read(at, 5) == b"hello"

    def test_come_up_short_behind_the_folio(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 2 * PAGE_SIZE, phys)
        at = paddr(memory, 0) + PAGE_SIZE - 3
        paddr(memory, 1)
        assert phys.read(at, 10) == bytes(3)
        assert phys.write(at, b"0123456789") == 3
        assert phys.extents(at, 10) == [Extent("ram", PAGE_SIZE - 3, 3)]

    @pytest.mark.parametrize("at", [0, 0xFFF, 1 << 40, 2**64 - 1])
    def test_lead_nowhere_where_no_memory_is(self, phys: PhysicalMemory, at: int) -> None:
        paddr(Memory("ram", PAGE_SIZE, phys), 0)
        assert (phys.read(at, 8), phys.write(at, b"x"), phys.extents(at, 8)) == (b"", 0, [])

    def test_are_never_given_to_other_memory(self, phys: PhysicalMemory) -> None:
        seen: set[int] = set()
        for _ in range(20):
            memory = Memory("ram", PAGE_SIZE, phys)
            seen.add(paddr(memory, 0))
            memory.put()
        assert len(seen) == 20

    def test_name_the_object_and_its_offset(self, phys: PhysicalMemory) -> None:
        memory = Memory("qemu/ram", 2 * HUGE, phys, folio_pages=512)
        assert phys.extents(paddr(memory, 513) + 1, 10) == [Extent("qemu/ram", HUGE + PAGE_SIZE + 1, 10)]


class TestPinnedFrames:
    @pytest.mark.parametrize("how", ["truncate", "punch", "put"])
    def test_outlive_the_page_and_are_nobody_elses(self, phys: PhysicalMemory, how: str) -> None:
        memory = Memory("ram", PAGE_SIZE, phys)
        memory.pwrite(0, b"old")
        run = pin(memory, 0)
        {"truncate": lambda: memory.truncate(0), "punch": lambda: memory.punch_hole(0, PAGE_SIZE), "put": memory.put}[
            how
        ]()
        assert phys.read(run.paddr, 3) == b"old"
        assert phys.write(run.paddr, b"new") == 3
        assert phys.read(run.paddr, 3) == b"new"
        assert phys.statistics().orphans == 1
        if how == "punch":
            assert memory.pread(0, 3) == bytes(3)

    def test_go_with_the_last_pin(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", PAGE_SIZE, phys)
        run, again = pin(memory, 0), pin(memory, 0)
        memory.put()
        phys.unpin(run, dirty=True)
        assert phys.read(run.paddr, 1) == b"\0"
        phys.unpin(again, dirty=False)
        assert phys.read(run.paddr, 1) == b""

    def test_stay_with_the_object_when_unpinned(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", PAGE_SIZE, phys)
        memory.pwrite(0, b"x")
        phys.unpin(pin(memory, 0), dirty=True)
        assert memory.pread(0, 1) == b"x"
        assert phys.statistics().pins == 0

    def test_unpinning_what_is_not_pinned_is_counted_and_harms_nobody(self, phys: PhysicalMemory) -> None:
        memory = Memory("ram", 2 * PAGE_SIZE, phys)
        seen: list[str] = []
        stop = rules.observe(seen.append)
        phys.unpin(Run(paddr(memory, 0), 1), dirty=False)
        phys.unpin(Run(0, 1), dirty=False)
        stop()
        assert phys.statistics().wrong_unpins == 2
        assert seen == ["mm.unpin.not-pinned"] * 2
        assert memory.page(0) is not None


def test_statistics_count_what_there_is(phys: PhysicalMemory) -> None:
    small, huge = Memory("a", PAGE_SIZE, phys), Memory("b", HUGE, phys, folio_pages=512)
    pin(small, 0)
    pin(huge, 0)
    pin(huge, 1)
    small.put()
    found = phys.statistics()
    assert (found.folios, found.pages, found.pins, found.orphans, found.wrong_unpins) == (2, 513, 3, 1, 0)


def test_statistics_count_every_pin_and_unpin(phys: PhysicalMemory) -> None:
    mm = AddressSpace("mm", phys)
    mm.mmap(PAGE_SIZE, 3 * PAGE_SIZE, PROT_READ | PROT_WRITE, shared=False, fixed=True)
    runs = mm.pin(PAGE_SIZE, 3, write=True)
    phys.unpin(runs[0], dirty=False)
    phys.unpin(Run(0, 1), dirty=False)
    assert (phys.statistics().pinned, phys.statistics().unpinned, phys.statistics().wrong_unpins) == (3, 1, 1)


def test_names_are_numbered_from_the_second_on(phys: PhysicalMemory) -> None:
    assert [phys.unique("a"), phys.unique("b"), phys.unique("a"), phys.unique("a")] == ["a", "b", "a#1", "a#2"]


def test_a_folio_is_zero_until_written() -> None:
    folio = Folio(0x1000, 2, "ram", 0)
    assert folio.read(PAGE_SIZE, 4) == bytes(4)
    folio.write(PAGE_SIZE, b"abcd")
    assert folio.read(PAGE_SIZE - 1, 6) == b"\0abcd\0"


def test_physical_memory_is_what_drivers_call_pages(phys: PhysicalMemory) -> None:
    pages: Pages = phys
    assert pages.read(0, 1) == b""
