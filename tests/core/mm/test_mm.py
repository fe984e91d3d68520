"""Address spaces: what is mapped where, what an access reaches, which mappings are one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from vdpasim.core.mm import mm as mm_module
from vdpasim.core.mm.memory import Memory, PhysicalMemory
from vdpasim.core.mm.mm import AddressSpace
from vdpasim.core.ports import PAGE_SIZE, Extent
from vdpasim.core.rules import KernelError
from vdpasim.uapi import errno as E
from vdpasim.uapi.abi import I386, X86_64
from vdpasim.uapi.mman import PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from vdpasim.core.ports import Mm

RW = PROT_READ | PROT_WRITE
P = PAGE_SIZE
TASK_SIZE_MAX = X86_64.task_size
AT = 0x40000000
HUGE_GAP = 1 << 30


def refused(errno: int) -> pytest.RaisesExc[KernelError]:
    return pytest.RaisesExc(KernelError, check=lambda error: error.errno == errno)


@pytest.fixture
def phys() -> PhysicalMemory:
    return PhysicalMemory()


@pytest.fixture
def mm(phys: PhysicalMemory) -> AddressSpace:
    return AddressSpace("mm", phys)


@pytest.fixture
def memfd(phys: PhysicalMemory) -> Memory:
    return Memory("memfd", 16 * P, phys)


def anon(mm: AddressSpace, at: int = AT, pages: int = 1, prot: int = RW) -> None:
    mm.mmap(at, pages * P, prot, shared=False, fixed=True)


def share(mm: AddressSpace, memfd: Memory, at: int = AT, pages: int = 1, page: int = 0, prot: int = RW) -> None:
    mm.mmap(at, pages * P, prot, shared=True, obj=memfd, offset=page * P, fixed=True)


def layout(mm: AddressSpace) -> list[tuple[int, int]]:
    """The mappings in pages from AT, as [first, last]."""
    return [((vma.start - AT) // P, (vma.last - AT) // P) for vma in mm.vmas(0)]


class TestAccess:
    def test_reads_back_what_was_written_across_pages_and_mappings(self, mm: AddressSpace, memfd: Memory) -> None:
        anon(mm, pages=2)
        share(mm, memfd, AT + 2 * P, 2)
        text = bytes(range(1, 251)) * 40
        assert mm.write(AT + 100, text) == len(text)
        assert mm.read(AT + 100, len(text)) == text
        assert memfd.pread(0, 100) == text[2 * P - 100 : 2 * P]

    def test_comes_up_short_at_a_hole(self, mm: AddressSpace) -> None:
        anon(mm)
        assert mm.read(AT + P - 3, 10) == bytes(3)
        assert mm.write(AT + P - 3, b"0123456789") == 3
        assert mm.read(AT + P - 3, 3) == b"012"

    def test_of_nothing_is_nothing(self, mm: AddressSpace) -> None:
        assert (mm.read(AT, 0), mm.write(AT, b""), mm.read(AT, 5), mm.write(AT, b"x")) == (b"", 0, b"", 0)

    @pytest.mark.parametrize(
        ("prot", "reads", "writes"),
        [(PROT_NONE, 0, 0), (PROT_READ, 1, 0), (PROT_WRITE, 1, 1), (PROT_EXEC, 1, 0), (RW, 1, 1)],
    )
    @pytest.mark.parametrize("shared", [False, True])
    def test_follows_the_protection_of_x86(
        self, mm: AddressSpace, prot: int, reads: int, writes: int, shared: bool
    ) -> None:
        mm.mmap(AT, P, prot, shared=shared, fixed=True)
        assert (len(mm.read(AT, 1)), mm.write(AT, b"x")) == (reads, writes)

    def test_stops_in_the_middle_where_the_protection_does(self, mm: AddressSpace) -> None:
        anon(mm, pages=3)
        mm.mprotect(AT + P, P, PROT_READ)
        assert mm.write(AT, b"x" * 3 * P) == P
        assert mm.read(AT, 3 * P) == b"x" * P + bytes(2 * P)

    def test_beyond_the_last_page_of_the_file_is_a_fault(self, mm: AddressSpace, phys: PhysicalMemory) -> None:
        memory = Memory("short", P + 1, phys)
        share(mm, memory, pages=4)
        assert len(mm.read(AT, 4 * P)) == 2 * P
        assert mm.write(AT + 2 * P, b"x") == 0
        memory.truncate(3 * P)
        assert mm.write(AT + 2 * P, b"x") == 1

    def test_of_the_same_object_at_two_places_meets(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, AT, 2)
        share(mm, memfd, AT + 8 * P, 1, page=1)
        mm.write(AT + P, b"here")
        assert mm.read(AT + 8 * P, 4) == b"here"

    def test_takes_any_kind_of_bytes(self, mm: AddressSpace) -> None:
        anon(mm)
        assert mm.write(AT, bytearray(b"ab")) == 2
        assert mm.write(AT + 2, memoryview(b"xcdx")[1:3]) == 2
        assert mm.read(AT, 4) == b"abcd"


class TestTheEndsOfUserSpace:
    def test_address_0_can_be_mapped(self, mm: AddressSpace) -> None:
        anon(mm, 0)
        assert mm.write(0, b"null") == 4
        assert mm.read(0, 4) == b"null"
        assert mm.vma_at(0) is not None

    def test_the_last_page_ends_one_page_below_two_to_the_47(self, mm: AddressSpace) -> None:
        anon(mm, TASK_SIZE_MAX - P)
        assert mm.write(0x7FFF_FFFF_EFFF, b"ab") == 1
        assert mm.read(0x7FFF_FFFF_EFF0, 100) == bytes(15) + b"a"

    def test_nothing_can_be_mapped_behind_it(self, mm: AddressSpace) -> None:
        for at, length in ((TASK_SIZE_MAX, P), (TASK_SIZE_MAX - P, P + 1), (2**63, P), (0, 2**64)):
            with refused(E.ENOMEM):
                mm.mmap(at, length, RW, shared=False, fixed=True)

    @pytest.mark.parametrize("addr", [TASK_SIZE_MAX, 0xFFFF_8000_0000_0000, 2**64 - 1])
    def test_kernel_addresses_fault(self, mm: AddressSpace, addr: int) -> None:
        assert (mm.read(addr, 8), mm.write(addr, b"x"), mm.extents(addr, 8)) == (b"", 0, [])
        assert list(mm.vmas(addr)) == []


class TestPrivateFile:
    def test_shows_the_file_until_it_is_written(self, mm: AddressSpace, memfd: Memory) -> None:
        mm.mmap(AT, 2 * P, RW, shared=False, obj=memfd, fixed=True)
        memfd.pwrite(0, b"one")
        assert mm.read(AT, 3) == b"one"
        memfd.pwrite(0, b"two")
        assert mm.read(AT, 3) == b"two"
        mm.write(AT + 10, b"mine")
        memfd.pwrite(0, b"new")
        memfd.pwrite(P, b"new")
        assert (mm.read(AT, 3), mm.read(AT + P, 3)) == (b"two", b"new")
        assert memfd.pread(10, 4) == bytes(4)

    def test_a_write_changes_which_object_lies_there_and_so_the_sequence(self, mm: AddressSpace, memfd: Memory) -> None:
        mm.mmap(AT, 3 * P, RW, shared=False, obj=memfd, offset=P, fixed=True)
        before = mm.seq
        mm.write(AT + P, b"x")
        assert mm.seq > before
        after = mm.seq
        mm.write(AT + P, b"y")
        assert mm.seq == after
        assert mm.extents(AT + 5, 3 * P - 5) == [
            Extent("memfd", P + 5, P - 5),
            Extent("mm/anon", AT + P, P),
            Extent("memfd", 3 * P, P),
        ]

    def test_the_page_is_not_to_be_had_where_the_file_no_longer_reaches(self, mm: AddressSpace, memfd: Memory) -> None:
        mm.mmap(AT, P, RW, shared=False, obj=memfd, fixed=True)
        mm.write(AT, b"mine")
        memfd.truncate(0)
        assert (mm.read(AT, 4), mm.write(AT, b"x")) == (b"", 0)


class TestAnonymous:
    def test_private_memory_begins_with_zeroes_each_time(self, mm: AddressSpace) -> None:
        anon(mm)
        mm.write(AT, b"old")
        mm.munmap(AT, P)
        anon(mm)
        assert mm.read(AT, 3) == bytes(3)

    def test_shared_memory_is_a_file_to_drivers(self, mm: AddressSpace) -> None:
        mm.mmap(AT, P, RW, shared=True, fixed=True)
        (vma,) = mm.vmas(0)
        assert vma.shared
        assert vma.file is not None
        assert vma.offset == 0

    def test_two_shared_ones_are_two_objects(self, mm: AddressSpace) -> None:
        for at in (AT, AT + P):
            mm.mmap(at, P, RW, shared=True, fixed=True)
        names = [extent.object for extent in mm.extents(AT, 2 * P)]
        assert len(set(names)) == 2
        assert layout(mm) == [(0, 0), (1, 1)]

    def test_shared_memory_goes_with_its_last_mapping(self, mm: AddressSpace, phys: PhysicalMemory) -> None:
        mm.mmap(AT, 2 * P, RW, shared=True, fixed=True)
        mm.write(AT, b"x" * 2 * P)
        mm.munmap(AT, P)
        assert phys.statistics().folios == 2
        mm.munmap(AT + P, P)
        assert phys.statistics().folios == 0

    def test_unmapped_private_pages_give_their_frames_back(self, mm: AddressSpace, phys: PhysicalMemory) -> None:
        anon(mm, pages=4)
        mm.write(AT, b"x" * 4 * P)
        mm.munmap(AT + P, 2 * P)
        assert phys.statistics().folios == 2

    def test_frames_can_be_made_adjacent(self, mm: AddressSpace, phys: PhysicalMemory) -> None:
        anon(mm, pages=8)
        mm.write(AT, b"x")
        mm.populate_runs(AT, 8 * P, 4)
        assert phys.statistics().folios == 2
        assert [run.npages for run in mm.pin(AT, 8, write=True)] == [4, 4]


class TestMmap:
    def test_rounds_the_length_up_to_pages(self, mm: AddressSpace) -> None:
        mm.mmap(AT, 1, RW, shared=False, fixed=True)
        assert layout(mm) == [(0, 0)]

    def test_fixed_replaces_what_was_there(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=3)
        anon(mm, AT + P)
        assert layout(mm) == [(0, 0), (1, 1), (2, 2)]
        assert [vma.offset for vma in mm.vmas(0) if vma.file] == [0, 2 * P]

    def test_a_hint_is_taken_if_free_and_rounded_up(self, mm: AddressSpace) -> None:
        assert mm.mmap(AT + 1, P, RW, shared=False) == AT + P
        assert mm.mmap(AT, P, RW, shared=False) == AT

    def test_a_hint_that_is_taken_or_too_high_is_forgotten(self, mm: AddressSpace) -> None:
        anon(mm)
        for hint in (AT, TASK_SIZE_MAX - P, 2**63):
            got = mm.mmap(hint, 2 * P, RW, shared=False)
            assert got not in (AT, hint)
            assert mm.write(got, b"x" * 2 * P) == 2 * P

    def test_without_address_never_overlaps_and_is_the_same_every_time(self) -> None:
        def story() -> list[int]:
            mm = AddressSpace("mm", PhysicalMemory())
            anon(mm, 0x7F00_0001_1000, 3)
            return [mm.mmap(None, pages * P, RW, shared=False) for pages in (1, 1000, 3, 1 << 20, 1)]

        taken = sorted(zip(story(), (1, 1000, 3, 1 << 20, 1), strict=True))
        assert all(at + pages * P <= above for (at, pages), (above, _) in pairwise(taken))
        assert story() == story()

    def test_room_that_is_given_back_is_used_again(self, mm: AddressSpace) -> None:
        for _ in range(600):
            mm.munmap(mm.mmap(None, 1 << 40, RW, shared=False), 1 << 40)
        assert layout(mm) == []

    def test_the_whole_of_user_space_can_be_filled_but_for_the_bottom(self, mm: AddressSpace) -> None:
        low = mm_module.MMAP_MIN_ADDR
        assert mm.mmap(None, TASK_SIZE_MAX - low, RW, shared=False) == low
        with refused(E.ENOMEM):
            mm.mmap(None, P, RW, shared=False)

    def test_a_gap_must_be_large_enough(self, mm: AddressSpace) -> None:
        mm.mmap(None, TASK_SIZE_MAX - mm_module.MMAP_MIN_ADDR, PROT_NONE, shared=False)
        mm.munmap(AT, 2 * P)
        mm.munmap(AT + HUGE_GAP, 8 * P)
        assert mm.mmap(None, 4 * P, RW, shared=False) == AT + HUGE_GAP + 4 * P
        with refused(E.ENOMEM):
            mm.mmap(None, 5 * P, RW, shared=False)
        assert mm.mmap(None, 4 * P, RW, shared=False) == AT + HUGE_GAP
        assert mm.mmap(None, 2 * P, RW, shared=False) == AT

    @pytest.mark.parametrize(
        ("how", "errno"),
        [
            ({"length": 0}, E.EINVAL),
            ({"length": -P}, E.EINVAL),
            ({"offset": 1}, E.EINVAL),
            ({"offset": -P}, E.EINVAL),
            ({"addr": AT + 1, "fixed": True}, E.EINVAL),
            ({"addr": -P, "fixed": True}, E.ENOMEM),
            ({"length": 2**47}, E.ENOMEM),
            ({"offset": 2**63 - P}, E.EOVERFLOW),
            ({"offset": 2**64 - P}, E.EOVERFLOW),
        ],
    )
    def test_refuses(self, mm: AddressSpace, memfd: Memory, how: dict[str, int], errno: int) -> None:
        arguments = {"addr": None, "length": P, "offset": 0, "fixed": False} | how
        before = mm.seq
        with refused(errno):
            mm.mmap(
                arguments["addr"],
                arguments["length"] or 0,
                RW,
                shared=True,
                obj=memfd,
                offset=arguments["offset"] or 0,
                fixed=bool(arguments["fixed"]),
            )
        assert (layout(mm), mm.seq, memfd.refs) == ([], before, 1)

    def test_a_writable_shared_mapping_takes_a_writable_file(self, mm: AddressSpace, memfd: Memory) -> None:
        with refused(E.EACCES):
            mm.mmap(AT, P, RW, shared=True, obj=memfd, fixed=True, file_writable=False)
        mm.mmap(AT, P, PROT_READ, shared=True, obj=memfd, fixed=True, file_writable=False)
        (vma,) = mm.vmas(0)
        assert not vma.shared

    def test_a_private_one_does_not(self, mm: AddressSpace, memfd: Memory) -> None:
        mm.mmap(AT, P, RW, shared=False, obj=memfd, fixed=True, file_writable=False)
        assert mm.write(AT, b"x") == 1

    def test_there_is_a_limit_to_the_number_of_mappings(
        self, mm: AddressSpace, memfd: Memory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mm_module, "MAX_MAP_COUNT", 3)
        share(mm, memfd, pages=3)
        for page in (10, 12):
            anon(mm, AT + page * P)
        with refused(E.ENOMEM):
            mm.munmap(AT + P, P)
        with refused(E.ENOMEM):
            mm.mprotect(AT + P, P, PROT_READ)
        assert len(layout(mm)) == 3
        mm.munmap(AT, P)
        anon(mm, AT + 14 * P)
        with refused(E.ENOMEM):
            anon(mm, AT + 16 * P)


class TestMunmap:
    def test_splits_a_mapping_and_its_offsets(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=5, page=3)
        mm.munmap(AT + P, 2 * P)
        assert layout(mm) == [(0, 0), (3, 4)]
        assert [vma.offset for vma in mm.vmas(0)] == [3 * P, 6 * P]

    def test_of_nothing_is_no_error(self, mm: AddressSpace) -> None:
        mm.munmap(AT, 10 * P)
        assert layout(mm) == []

    @pytest.mark.parametrize(("addr", "length"), [(AT + 1, P), (AT, 0), (TASK_SIZE_MAX, P), (AT, 2**47), (-P, P)])
    def test_refuses_what_is_no_range_of_pages(self, mm: AddressSpace, addr: int, length: int) -> None:
        with refused(E.EINVAL):
            mm.munmap(addr, length)

    def test_drops_the_reference_on_the_object_with_the_last_piece(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=3)
        mm.munmap(AT + P, P)
        assert memfd.refs == 3
        mm.munmap(AT, 3 * P)
        assert memfd.refs == 1


class TestMprotect:
    def test_splits_and_restoring_joins_again(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=3)
        mm.mprotect(AT + P, P, PROT_READ)
        assert layout(mm) == [(0, 0), (1, 1), (2, 2)]
        mm.mprotect(AT + P, P, RW)
        assert layout(mm) == [(0, 2)]

    def test_reaches_over_several_mappings(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=2)
        anon(mm, AT + 2 * P, 2)
        mm.mprotect(AT + P, 2 * P, PROT_READ)
        assert [mm.write(AT + page * P, b"x") for page in range(4)] == [1, 0, 0, 1]

    def test_keeps_private_pages(self, mm: AddressSpace) -> None:
        anon(mm)
        mm.write(AT, b"kept")
        mm.mprotect(AT, P, PROT_NONE)
        mm.mprotect(AT, P, PROT_READ)
        assert mm.read(AT, 4) == b"kept"

    def test_of_no_bytes_changes_nothing_even_inside_a_mapping(self, mm: AddressSpace) -> None:
        anon(mm, pages=4)
        mm.mprotect(AT + P, 0, PROT_NONE)
        assert layout(mm) == [(0, 3)]
        assert len(mm.read(AT, 4 * P)) == 4 * P

    def test_stops_at_a_hole_with_what_lies_below_changed(self, mm: AddressSpace) -> None:
        anon(mm)
        anon(mm, AT + 2 * P)
        with refused(E.ENOMEM):
            mm.mprotect(AT, 3 * P, PROT_READ)
        assert [mm.write(AT + page * P, b"x") for page in (0, 2)] == [0, 1]

    def test_stops_at_a_read_only_file_with_what_lies_below_changed(self, mm: AddressSpace, memfd: Memory) -> None:
        anon(mm, prot=PROT_READ)
        mm.mmap(AT + P, P, PROT_READ, shared=True, obj=memfd, fixed=True, file_writable=False)
        with refused(E.EACCES):
            mm.mprotect(AT, 2 * P, RW)
        assert [mm.write(AT + page * P, b"x") for page in (0, 1)] == [1, 0]

    @pytest.mark.parametrize(
        ("addr", "length", "errno"),
        [(AT + 1, P, E.EINVAL), (AT, P, E.ENOMEM), (TASK_SIZE_MAX, P, E.ENOMEM), (AT, -1, E.EINVAL)],
    )
    def test_refuses(self, mm: AddressSpace, addr: int, length: int, errno: int) -> None:
        with refused(errno):
            mm.mprotect(addr, length, PROT_READ)


class TestMremap:
    def test_moves_the_pages_of_an_object(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=4)
        mm.write(AT + P, b"here")
        assert mm.mremap(AT + P, 2 * P, 2 * P, AT + 8 * P) == AT + 8 * P
        assert layout(mm) == [(0, 0), (3, 3), (8, 9)]
        assert mm.read(AT + 8 * P, 4) == b"here"
        assert mm.read(AT + P, 4) == b""

    def test_moves_private_pages_with_their_frames(self, mm: AddressSpace, phys: PhysicalMemory) -> None:
        anon(mm, pages=2)
        mm.write(AT + P, b"mine")
        (run,) = mm.pin(AT + P, 1, write=True)
        mm.mremap(AT, 2 * P, 2 * P, AT + 8 * P)
        phys.write(run.paddr, b"dma!")
        assert mm.read(AT + 9 * P, 4) == b"dma!"

    def test_replaces_what_lies_at_the_target(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd)
        anon(mm, AT + 8 * P, 3)
        mm.write(AT + 8 * P, b"x" * 3 * P)
        mm.mremap(AT, P, P, AT + 9 * P)
        assert mm.read(AT + 8 * P, 3 * P) == b"x" * P + bytes(P) + b"x" * P

    def test_same_size_without_target_stays(self, mm: AddressSpace) -> None:
        anon(mm)
        assert mm.mremap(AT, P, P) == AT
        assert layout(mm) == [(0, 0)]

    def test_shrinks_in_place(self, mm: AddressSpace) -> None:
        anon(mm, pages=3)
        assert mm.mremap(AT, 3 * P, P) == AT
        assert layout(mm) == [(0, 0)]

    def test_grows_in_place_if_there_is_room(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd)
        assert mm.mremap(AT, P, 3 * P) == AT
        assert layout(mm) == [(0, 2)]
        memfd.pwrite(2 * P, b"third")
        assert mm.read(AT + 2 * P, 5) == b"third"

    def test_moves_to_grow_if_there_is_none(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=2)
        anon(mm, AT + 2 * P)
        mm.write(AT, b"first")
        at = mm.mremap(AT, 2 * P, 3 * P)
        assert at != AT
        assert mm.read(at, 5) == b"first"
        assert layout(mm)[0] == (2, 2)

    def test_a_part_from_the_middle_cannot_grow_in_place(self, mm: AddressSpace) -> None:
        anon(mm, pages=3)
        assert mm.mremap(AT, P, 2 * P) != AT
        assert layout(mm)[0] == (1, 2)

    def test_shrinks_while_it_moves(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=3)
        mm.mremap(AT, 3 * P, P, AT + 8 * P)
        assert layout(mm) == [(8, 8)]

    def test_of_no_length_maps_shared_memory_a_second_time(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=2)
        mm.mremap(AT + P, 0, P, AT + 8 * P)
        mm.write(AT + P, b"both")
        assert mm.read(AT + 8 * P, 4) == b"both"
        assert layout(mm) == [(0, 1), (8, 8)]

    @pytest.mark.parametrize(
        ("addr", "length", "new_length", "to", "errno"),
        [
            (AT + 1, P, P, None, E.EINVAL),
            (AT, P, 0, None, E.EINVAL),
            (AT, P, P, AT + 8 * P + 1, E.EINVAL),
            (AT, 2 * P, 2 * P, AT + P, E.EINVAL),
            (AT, P, P, TASK_SIZE_MAX, E.EINVAL),
            (AT, P, P, -P, E.EINVAL),
            (AT, 0, P, AT + 8 * P, E.EINVAL),
            (AT + 4 * P, P, 2 * P, None, E.EFAULT),
            (AT, 3 * P, 4 * P, None, E.EFAULT),
            (AT, 3 * P, 3 * P, AT + 8 * P, E.EFAULT),
        ],
    )
    def test_refuses(
        self, mm: AddressSpace, addr: int, length: int, new_length: int, to: int | None, errno: int
    ) -> None:
        anon(mm, pages=2)
        mm.write(AT, b"kept")
        with refused(errno):
            mm.mremap(addr, length, new_length, to)
        assert layout(mm) == [(0, 1)]
        assert mm.read(AT, 4) == b"kept"

    def test_references_follow(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=3)
        mm.mremap(AT + P, P, P, AT + 8 * P)
        assert memfd.refs == 4
        mm.mremap(AT + 8 * P, P, P, AT + P)
        assert memfd.refs == 2
        assert layout(mm) == [(0, 2)]


class TestWhatIsOneMapping:
    """One UPDATE in VA mode makes one entry per mapping."""

    def test_continuous_pieces_of_one_memfd(self, mm: AddressSpace, memfd: Memory) -> None:
        for page in (2, 0, 1):
            share(mm, memfd, AT + page * P, page=page)
        assert layout(mm) == [(0, 2)]

    def test_not_with_a_jump_in_the_offset(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd)
        share(mm, memfd, AT + P, page=2)
        assert layout(mm) == [(0, 0), (1, 1)]

    def test_not_of_two_memfds(self, mm: AddressSpace, memfd: Memory, phys: PhysicalMemory) -> None:
        share(mm, memfd)
        share(mm, Memory("other", 4 * P, phys), AT + P, page=1)
        assert layout(mm) == [(0, 0), (1, 1)]

    def test_not_shared_and_private(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd)
        mm.mmap(AT + P, P, RW, shared=False, obj=memfd, offset=P, fixed=True)
        assert layout(mm) == [(0, 0), (1, 1)]

    def test_anonymous_neighbours(self, mm: AddressSpace) -> None:
        for page in (0, 2, 1):
            anon(mm, AT + page * P)
        assert layout(mm) == [(0, 2)]

    def test_what_was_cut_out_and_put_back(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=3)
        mm.munmap(AT + P, P)
        share(mm, memfd, AT + P, page=1)
        assert layout(mm) == [(0, 2)]
        assert memfd.refs == 2


class TestLooking:
    def test_begins_with_the_first_mapping_that_ends_at_or_above(self, mm: AddressSpace) -> None:
        anon(mm, AT, 2)
        anon(mm, AT + 4 * P)
        starts = {addr: [vma.start for vma in mm.vmas(addr)] for addr in (0, AT + 2 * P - 1, AT + 2 * P, AT + 5 * P)}
        assert starts == {
            0: [AT, AT + 4 * P],
            AT + 2 * P - 1: [AT, AT + 4 * P],
            AT + 2 * P: [AT + 4 * P],
            AT + 5 * P: [],
        }

    def test_extents_name_objects_and_stop_at_a_hole(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, page=3)
        anon(mm, AT + P)
        anon(mm, AT + 3 * P)
        assert mm.extents(AT + 5, 3 * P) == [Extent("memfd", 3 * P + 5, P - 5), Extent("mm/anon", AT + P, P)]
        assert mm.extents(AT + 2 * P, P) == []

    def test_extents_are_as_long_as_can_be(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=3)
        mm.mprotect(AT + P, P, PROT_READ)
        assert mm.extents(AT, 3 * P) == [Extent("memfd", 0, 3 * P)]

    def test_extents_of_huge_mappings_cost_what_is_there(self, mm: AddressSpace, phys: PhysicalMemory) -> None:
        sparse = Memory("sparse", 1 << 46, phys)
        mm.mmap(AT, 1 << 45, RW, shared=False, obj=sparse, fixed=True)
        mm.write(AT + (1 << 44), b"x")
        found = mm.extents(AT, 1 << 45)
        assert [extent.object for extent in found] == ["sparse", "mm/anon", "sparse"]
        assert sum(extent.length for extent in found) == 1 << 45

    def test_every_change_of_the_map_shows_in_the_sequence(self, mm: AddressSpace, memfd: Memory) -> None:
        seen = [mm.seq]
        share(mm, memfd, pages=4)
        seen.append(mm.seq)
        mm.mprotect(AT, P, PROT_READ)
        seen.append(mm.seq)
        mm.mremap(AT + P, P, P, AT + 8 * P)
        seen.append(mm.seq)
        mm.munmap(AT, P)
        seen.append(mm.seq)
        assert seen == sorted(set(seen))

    def test_reading_writing_and_changes_of_the_object_do_not(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd, pages=4)
        before = mm.seq
        mm.write(AT, b"x" * P)
        mm.read(AT, P)
        memfd.punch_hole(0, P)
        memfd.truncate(P)
        assert mm.seq == before


class TestUsers:
    def test_the_last_takes_the_mappings_along(self, mm: AddressSpace, memfd: Memory, phys: PhysicalMemory) -> None:
        share(mm, memfd)
        anon(mm, AT + P)
        mm.write(AT + P, b"x")
        assert mm.get_user()
        mm.put_user()
        assert (mm.alive, mm.read(AT + P, 1)) == (True, b"x")
        mm.put_user()
        after = (mm.alive, mm.read(AT + P, 1), layout(mm), memfd.refs, phys.statistics().folios)
        assert after == (False, b"", [], 1, 0)

    def test_those_who_asked_are_told_once_and_after_the_mappings_went(self, mm: AddressSpace) -> None:
        anon(mm)
        told: list[tuple[bool, int]] = []
        mm.on_gone.append(lambda: told.append((mm.alive, len(layout(mm)))))
        mm.get_user()
        mm.put_user()
        assert told == []
        mm.put_user()
        assert told == [(False, 0)]

    def test_what_has_gone_cannot_be_joined(self, mm: AddressSpace) -> None:
        mm.put_user()
        assert not mm.get_user()
        assert not mm.alive

    def test_nobody_can_leave_who_is_not_there(self, mm: AddressSpace) -> None:
        mm.put_user()
        with pytest.raises(RuntimeError, match="mm has no user"):
            mm.put_user()

    def test_the_sequence_shows_the_end(self, mm: AddressSpace) -> None:
        before = mm.seq
        mm.put_user()
        assert mm.seq > before


class TestFork:
    def test_shared_memory_stays_shared(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd)
        child = mm.fork("child")
        child.write(AT, b"child")
        assert mm.read(AT, 5) == b"child"

    @pytest.mark.parametrize("of_file", [False, True])
    def test_private_memory_is_copied(self, mm: AddressSpace, memfd: Memory, of_file: bool) -> None:
        mm.mmap(AT, P, RW, shared=False, obj=memfd if of_file else None, fixed=True)
        mm.write(AT, b"before")
        child = mm.fork("child")
        assert child.read(AT, 6) == b"before"
        child.write(AT, b"child!")
        mm.write(AT + 6, b"parent")
        assert mm.read(AT, 12) == b"beforeparent"
        assert child.read(AT, 12) == b"child!" + bytes(6)

    def test_changes_of_the_map_are_each_ones_own(self, mm: AddressSpace) -> None:
        anon(mm, pages=2)
        child = mm.fork("child")
        child.munmap(AT, P)
        mm.mprotect(AT + P, P, PROT_NONE)
        assert (layout(mm), layout(child)) == ([(0, 0), (1, 1)], [(1, 1)])
        assert child.write(AT + P, b"x") == 1

    def test_nothing_pinned_is_accounted_to_the_child(self, mm: AddressSpace) -> None:
        mm.pinned_vm = 7
        assert (mm.fork("child").pinned_vm, mm.pinned_vm) == (0, 7)

    def test_references_are_taken_and_given_back(self, mm: AddressSpace, memfd: Memory) -> None:
        share(mm, memfd)
        child = mm.fork("child")
        assert memfd.refs == 3
        child.put_user()
        assert memfd.refs == 2
        assert mm.alive

    def test_children_of_one_name_can_be_told_apart(self, mm: AddressSpace) -> None:
        idents = [mm.fork("child").ident for _ in range(3)]
        assert idents[0] == "child"
        assert len(set(idents)) == 3

    def test_new_mappings_do_not_land_on_inherited_ones(self, mm: AddressSpace) -> None:
        at = mm.mmap(None, P, RW, shared=False)
        child = mm.fork("child")
        assert child.mmap(None, P, RW, shared=False) != at


def test_an_address_space_is_what_drivers_call_an_mm(mm: AddressSpace) -> None:
    port: Mm = mm
    assert (port.ident, port.alive, port.pinned_vm) == ("mm", True, 0)


class TestOnA32BitKernel:
    @pytest.fixture
    def mm(self, phys: PhysicalMemory) -> AddressSpace:
        return AddressSpace("mm", phys, I386.task_size)

    def test_mappings_are_placed_below_three_gibibytes(self, mm: AddressSpace) -> None:
        places = [mm.mmap(None, 1 << 28, RW, shared=False) for _ in range(10)]
        assert max(places) + (1 << 28) <= I386.task_size
        with refused(E.ENOMEM):
            mm.mmap(None, 1 << 31, RW, shared=False)

    def test_nothing_is_above(self, mm: AddressSpace) -> None:
        with refused(E.ENOMEM):
            mm.mmap(I386.task_size, P, RW, shared=False, fixed=True)
        assert mm.read(I386.task_size, 1) == b""

    def test_a_child_has_the_same(self, mm: AddressSpace) -> None:
        assert mm.fork("child").task_size == I386.task_size
