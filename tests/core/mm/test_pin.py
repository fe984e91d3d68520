"""Long-term pins: which pages can be had, in which runs, and whose they are afterwards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.core.mm.memory import Memory, PhysicalMemory
from vdpasim.core.mm.mm import AddressSpace
from vdpasim.core.ports import PAGE_SIZE, Extent, Fault, Run
from vdpasim.uapi.mman import PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE

RW = PROT_READ | PROT_WRITE
HUGE = 512 * PAGE_SIZE
AT = 0x40000000


class World:
    """An address space, and objects mapped at AT."""

    def __init__(self) -> None:
        self.phys = PhysicalMemory()
        self.mm = AddressSpace("mm", self.phys)

    def anon(self, pages: int = 1, prot: int = RW, at: int = AT) -> None:
        self.mm.mmap(at, pages * PAGE_SIZE, prot, shared=False, fixed=True)

    def file(
        self,
        pages: int = 1,
        prot: int = RW,
        *,
        shared: bool = True,
        at: int = AT,
        size: int | None = None,
        folio_pages: int = 1,
        one_frame: bool = False,
        file_writable: bool = True,
    ) -> Memory:
        length = pages * PAGE_SIZE
        memory = Memory(
            "file", length if size is None else size, self.phys, folio_pages=folio_pages, one_frame=one_frame
        )
        self.mm.mmap(at, length, prot, shared=shared, obj=memory, fixed=True, file_writable=file_writable)
        return memory

    def pins(self) -> int:
        return self.phys.statistics().pins


@pytest.fixture
def world() -> World:
    return World()


def pages(runs: list[Run]) -> int:
    return sum(run.npages for run in runs)


class TestRuns:
    def test_scattered_pages_are_a_run_each(self, world: World) -> None:
        world.file(5)
        assert [run.npages for run in world.mm.pin(AT, 5, write=True)] == [1] * 5

    def test_a_huge_page_is_one_run(self, world: World) -> None:
        world.file(512, folio_pages=512)
        assert [run.npages for run in world.mm.pin(AT, 512, write=True)] == [512]

    def test_two_huge_pages_are_two(self, world: World) -> None:
        world.file(1024, folio_pages=512)
        runs = world.mm.pin(AT + 2 * PAGE_SIZE, 1000, write=True)
        assert [run.npages for run in runs] == [510, 490]

    def test_a_run_goes_on_from_one_mapping_to_the_next(self, world: World) -> None:
        world.file(512, folio_pages=512)
        world.mm.mprotect(AT + PAGE_SIZE, PAGE_SIZE, PROT_READ)
        assert [run.npages for run in world.mm.pin(AT, 512, write=False)] == [512]

    def test_one_frame_behind_all_pages_is_a_run_for_each(self, world: World) -> None:
        world.file(4, one_frame=True)
        runs = world.mm.pin(AT, 4, write=True)
        assert [run.npages for run in runs] == [1] * 4
        assert len({run.paddr for run in runs}) == 1

    def test_begin_at_the_bytes_of_the_page(self, world: World) -> None:
        memory = world.file(512, folio_pages=512)
        memory.pwrite(3 * PAGE_SIZE, b"here")
        (run,) = world.mm.pin(AT + 3 * PAGE_SIZE, 1, write=False)
        assert world.phys.read(run.paddr, 4) == b"here"

    def test_none_are_asked_for_none_come(self, world: World) -> None:
        assert world.mm.pin(AT, 0, write=True) == []

    @given(shift=st.integers(0, 5), first=st.integers(0, 40), count=st.integers(1, 40))
    def test_are_cut_where_folios_end(self, shift: int, first: int, count: int) -> None:
        world = World()
        world.file(80, folio_pages=1 << shift)
        model: list[int] = []
        for index in range(first, first + count):
            if model and index % (1 << shift):
                model[-1] += 1
            else:
                model.append(1)
        assert [run.npages for run in world.mm.pin(AT + first * PAGE_SIZE, count, write=True)] == model
        assert world.pins() == count


class TestWhatCanBePinned:
    @pytest.mark.parametrize(
        ("prot", "reading", "writing"),
        [
            (PROT_NONE, False, False),
            (PROT_READ, True, False),
            (PROT_WRITE, False, True),
            (PROT_EXEC, False, False),
            (RW, True, True),
        ],
    )
    @pytest.mark.parametrize("private", [False, True])
    def test_is_what_the_protection_says_letter_by_letter(
        self, prot: int, reading: bool, writing: bool, private: bool
    ) -> None:
        for write, allowed in ((False, reading), (True, writing)):
            world = World()
            if private:
                world.anon(prot=prot)
            else:
                world.file(prot=prot)
            if allowed:
                assert pages(world.mm.pin(AT, 1, write=write)) == 1
            else:
                with pytest.raises(Fault):
                    world.mm.pin(AT, 1, write=write)
            assert world.pins() == allowed

    def test_not_unmapped_memory(self, world: World) -> None:
        with pytest.raises(Fault):
            world.mm.pin(AT, 1, write=False)

    def test_not_what_lies_beyond_the_last_page_of_the_file(self, world: World) -> None:
        world.file(4, size=PAGE_SIZE + 1)
        assert pages(world.mm.pin(AT, 4, write=True)) == 2
        with pytest.raises(Fault):
            world.mm.pin(AT + 2 * PAGE_SIZE, 1, write=True)

    def test_not_kernel_addresses(self, world: World) -> None:
        for addr in (0x7FFF_FFFF_F000, 0xFFFF_8000_0000_0000, 2**64 - PAGE_SIZE):
            with pytest.raises(Fault):
                world.mm.pin(addr, 1, write=False)

    @pytest.mark.parametrize("what", ["hole", "prot", "eof"])
    def test_a_later_page_that_cannot_be_had_leaves_those_before_it_pinned(self, world: World, what: str) -> None:
        world.file(4, size=2 * PAGE_SIZE if what == "eof" else None)
        if what == "hole":
            world.mm.munmap(AT + 2 * PAGE_SIZE, PAGE_SIZE)
        elif what == "prot":
            world.mm.mprotect(AT + 2 * PAGE_SIZE, PAGE_SIZE, PROT_READ)
        assert pages(world.mm.pin(AT, 4, write=True)) == 2
        assert world.pins() == 2

    def test_nothing_in_a_dead_address_space(self, world: World) -> None:
        world.anon()
        world.mm.put_user()
        with pytest.raises(Fault):
            world.mm.pin(AT, 1, write=True)


class TestTheProcessKeepsUsingThePinnedPage:
    """What the device writes the process must see, and the other way round."""

    @pytest.mark.parametrize("write", [False, True])
    @pytest.mark.parametrize("kind", ["anon", "touched", "shared", "private", "cowed"])
    def test_whatever_the_mapping(self, world: World, kind: str, write: bool) -> None:
        if kind in ("anon", "touched"):
            world.anon()
        else:
            world.file(shared=kind == "shared").pwrite(0, b"file")
        if kind in ("touched", "cowed"):
            world.mm.write(AT + 8, b"mine")
        (run,) = world.mm.pin(AT, 1, write=write)
        assert world.phys.read(run.paddr, PAGE_SIZE) == world.mm.read(AT, PAGE_SIZE)
        world.phys.write(run.paddr + 100, b"device")
        assert world.mm.read(AT + 100, 6) == b"device"
        world.mm.write(AT + 200, b"cpu")
        assert world.phys.read(run.paddr + 200, 3) == b"cpu"

    @pytest.mark.parametrize("write", [False, True])
    def test_a_private_mapping_gets_its_copy_at_once(self, world: World, write: bool) -> None:
        memory = world.file(shared=False)
        memory.pwrite(0, b"before")
        (run,) = world.mm.pin(AT, 1, write=write)
        memory.pwrite(0, b"after!")
        assert world.phys.read(run.paddr, 6) == b"before"
        assert world.mm.extents(AT, 4) == [Extent("mm/anon", AT, 4)]

    def test_a_shared_mapping_of_a_read_only_file_keeps_the_file(self, world: World) -> None:
        memory = world.file(prot=PROT_READ, file_writable=False)
        (run,) = world.mm.pin(AT, 1, write=False)
        memory.pwrite(0, b"late")
        assert world.phys.read(run.paddr, 4) == b"late"

    def test_a_forked_child_gets_the_copy_and_the_parent_keeps_the_page(self, world: World) -> None:
        world.anon()
        (run,) = world.mm.pin(AT, 1, write=True)
        child = world.mm.fork("child")
        world.phys.write(run.paddr, b"dma")
        assert (world.mm.read(AT, 3), child.read(AT, 3)) == (b"dma", bytes(3))


class TestPinsOutlive:
    @pytest.mark.parametrize("how", ["munmap", "mmap over", "mremap", "exit", "madvise-like hole"])
    @pytest.mark.parametrize("shared", [False, True])
    def test_the_mapping(self, world: World, how: str, shared: bool) -> None:
        memory = world.file(shared=shared)
        world.mm.write(AT, b"data")
        (run,) = world.mm.pin(AT, 1, write=True)
        if how == "munmap":
            world.mm.munmap(AT, PAGE_SIZE)
        elif how == "mmap over":
            world.anon()
        elif how == "mremap":
            world.mm.mremap(AT, PAGE_SIZE, PAGE_SIZE, AT + HUGE)
        elif how == "exit":
            world.mm.put_user()
        else:
            memory.punch_hole(0, PAGE_SIZE)
        memory.put()
        assert world.phys.read(run.paddr, 4) == b"data"
        assert world.phys.write(run.paddr, b"late") == 4
        assert world.phys.read(run.paddr, 4) == b"late"
        if how == "mmap over":
            assert world.mm.read(AT, 4) == bytes(4)
        if how == "mremap":
            assert world.mm.read(AT + HUGE, 4) == b"late"

    def test_until_the_last_is_taken_back(self, world: World) -> None:
        world.anon()
        first, second = world.mm.pin(AT, 1, write=True)[0], world.mm.pin(AT, 1, write=False)[0]
        assert first == second
        world.mm.munmap(AT, PAGE_SIZE)
        world.phys.unpin(first, dirty=True)
        assert len(world.phys.read(first.paddr, 1)) == 1
        world.phys.unpin(second, dirty=False)
        assert world.phys.read(first.paddr, 1) == b""
        assert world.phys.statistics().folios == 0

    def test_a_huge_page_by_its_part_that_is_pinned(self, world: World) -> None:
        memory = world.file(512, folio_pages=512)
        (run,) = world.mm.pin(AT + 7 * PAGE_SIZE, 2, write=True)
        memory.put()
        world.mm.munmap(AT, HUGE)
        assert world.phys.write(run.paddr, b"x") == 1
        world.phys.unpin(Run(run.paddr, 1), dirty=True)
        assert world.phys.read(run.paddr, 1) == b"x"
        world.phys.unpin(Run(run.paddr + PAGE_SIZE, 1), dirty=True)
        assert world.phys.read(run.paddr, 1) == b""


def test_pinning_accounts_nothing_by_itself(world: World) -> None:
    world.anon(3)
    world.mm.pin(AT, 3, write=True)
    assert world.mm.pinned_vm == 0
