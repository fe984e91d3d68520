"""Simulated processes: what a program does to itself."""

from __future__ import annotations

import pytest

from vdpasim.core.ports import PAGE_SIZE
from vdpasim.sim import Process, Simulator
from vdpasim.sim.file import MemfdFile
from vdpasim.uapi import errno as E
from vdpasim.uapi.fcntl import O_CLOEXEC, O_RDONLY, O_RDWR
from vdpasim.uapi.mman import PROT_NONE, PROT_READ, PROT_WRITE


@pytest.fixture
def sim() -> Simulator:
    return Simulator()


@pytest.fixture
def process(sim: Simulator) -> Process:
    return sim.process("vmm")


def errno_of(call: object, *args: object, **more: object) -> int | None:
    with pytest.raises(OSError) as caught:
        call(*args, **more)  # type: ignore[operator]
    return caught.value.errno


class TestMemory:
    def test_a_mapping_is_zero_and_keeps_what_is_stored(self, process: Process) -> None:
        region = process.mmap(2 * PAGE_SIZE)
        assert region.read(0, 16) == bytes(16)
        region.write(PAGE_SIZE - 2, b"abcd")
        assert process.read(region.addr + PAGE_SIZE - 2, 4) == b"abcd"

    def test_a_memfd_is_shared_by_its_mappings(self, process: Process) -> None:
        memfd = process.memfd("ram", 2 * PAGE_SIZE)
        one, two = process.mmap(2 * PAGE_SIZE, memfd), process.mmap(PAGE_SIZE, memfd, offset=PAGE_SIZE)
        one.write(PAGE_SIZE, b"seen")
        assert two.read(0, 4) == b"seen"

    def test_a_private_mapping_of_a_memfd_keeps_its_stores_to_itself(self, process: Process) -> None:
        memfd = process.memfd("ram", PAGE_SIZE)
        shared, private = process.mmap(PAGE_SIZE, memfd), process.mmap(PAGE_SIZE, memfd, shared=False)
        private.write(0, b"mine")
        assert (shared.read(0, 4), private.read(0, 4)) == (bytes(4), b"mine")

    def test_an_address_is_taken_as_it_is_and_replaces_what_was_there(self, process: Process) -> None:
        process.mmap(PAGE_SIZE, addr=0x10000).write(0, b"old")
        region = process.mmap(PAGE_SIZE, addr=0x10000)
        assert (region.addr, region.read(0, 3)) == (0x10000, bytes(3))

    def test_regions_without_an_address_do_not_touch(self, process: Process) -> None:
        one, two = process.mmap(PAGE_SIZE), process.mmap(PAGE_SIZE)
        assert abs(one.addr - two.addr) > PAGE_SIZE

    def test_unmapped_memory_is_a_fault(self, process: Process) -> None:
        region = process.mmap(2 * PAGE_SIZE)
        process.munmap(region.addr + PAGE_SIZE, PAGE_SIZE)
        assert errno_of(region.read, PAGE_SIZE - 1, 2) == E.EFAULT
        assert errno_of(region.write, PAGE_SIZE, b"x") == E.EFAULT
        assert region.read(PAGE_SIZE - 1, 1) == b"\0"

    def test_protection_holds_for_the_process_itself(self, process: Process) -> None:
        region = process.mmap(PAGE_SIZE)
        process.mprotect(region.addr, PAGE_SIZE, PROT_READ)
        assert errno_of(region.write, 0, b"x") == E.EFAULT
        process.mprotect(region.addr, PAGE_SIZE, PROT_NONE)
        assert errno_of(region.read, 0, 1) == E.EFAULT
        process.mprotect(region.addr, PAGE_SIZE, PROT_READ | PROT_WRITE)
        region.write(0, b"x")

    def test_a_moved_mapping_takes_its_bytes_along(self, process: Process) -> None:
        region = process.mmap(PAGE_SIZE, process.memfd("ram", PAGE_SIZE))
        region.write(0, b"moved")
        to = process.mremap(region.addr, PAGE_SIZE, PAGE_SIZE, 0x20000)
        assert (to, process.read(0x20000, 5)) == (0x20000, b"moved")
        assert errno_of(process.read, region.addr, 1) == E.EFAULT

    @pytest.mark.parametrize(
        ("call", "args"),
        [("munmap", (0x1001, PAGE_SIZE)), ("mprotect", (0x1000, PAGE_SIZE, PROT_READ)), ("mmap", (0,))],
    )
    def test_refusals_are_os_errors_with_a_rule(self, process: Process, call: str, args: tuple[int, ...]) -> None:
        with pytest.raises(OSError) as caught:
            getattr(process, call)(*args)
        assert str(caught.value.rule).startswith("mm.")  # type: ignore[attr-defined]

    def test_a_memory_object_can_be_mapped_without_a_descriptor(self, process: Process) -> None:
        memfd = process.memfd("ram", PAGE_SIZE)
        one, two = process.mmap(PAGE_SIZE, memfd), process.mmap(PAGE_SIZE, memfd.memory)
        one.write(0, b"x")
        assert two.read(0, 1) == b"x"

    def test_a_file_without_memory_cannot_be_mapped(self, process: Process) -> None:
        assert errno_of(process.mmap, PAGE_SIZE, process.eventfd()) == E.ENODEV

    def test_a_read_only_file_cannot_be_shared_writably(self, process: Process) -> None:
        memory = process.memfd("ram", PAGE_SIZE).memory
        assert memory is not None
        file = process.install("file", MemfdFile(memory), O_RDONLY)
        assert errno_of(process.mmap, PAGE_SIZE, file) == E.EACCES
        region = process.mmap(PAGE_SIZE, file, prot=PROT_READ)
        assert errno_of(process.mprotect, region.addr, PAGE_SIZE, PROT_READ | PROT_WRITE) == E.EACCES
        process.mmap(PAGE_SIZE, file, shared=False).write(0, b"x")

    def test_names_of_objects_are_unique(self, process: Process) -> None:
        names = [memfd.memory.name for memfd in (process.memfd("ram", 1), process.memfd("ram", 1)) if memfd.memory]
        assert names == ["vmm/ram", "vmm/ram#1"]


class TestPhysicalMemory:
    @pytest.mark.parametrize(
        ("options", "runs"), [({}, 4), ({"folio_pages": 2}, 2), ({"folio_pages": 4}, 1)], ids=["scattered", "2", "4"]
    )
    def test_neighbours_are_adjacent_as_far_as_the_memfd_says(
        self, process: Process, options: dict[str, int], runs: int
    ) -> None:
        region = process.mmap(4 * PAGE_SIZE, process.memfd("ram", 4 * PAGE_SIZE, **options))  # type: ignore[arg-type]
        assert len(process.mm.pin(region.addr, 4, write=True)) == runs

    def test_huge_pages_are_of_512(self, process: Process) -> None:
        size = 512 * PAGE_SIZE
        region = process.mmap(2 * size, process.memfd("ram", 2 * size, hugetlb=True))
        assert [run.npages for run in process.mm.pin(region.addr, 1024, write=True)] in ([512, 512], [1024])


class TestDescriptors:
    def test_open_with_o_cloexec_marks_the_number(self, process: Process) -> None:
        file = process.open_nowait("/dev/vhost-net", O_RDWR | O_CLOEXEC)
        assert process.task.files.slots[file.fd].cloexec
        process.set_cloexec(file.fd, False)
        process.exec_nowait()
        assert file.open_file.path == "/dev/vhost-net"

    def test_marking_a_closed_number_is_ebadf(self, process: Process) -> None:
        assert errno_of(process.set_cloexec, 44, True) == E.EBADF

    def test_a_duplicate_is_the_same_open_file(self, process: Process) -> None:
        file = process.eventfd()
        other = process.dup(file)
        file.write_nowait((3).to_bytes(8, "little"))
        assert other.read_nowait(8) == (3).to_bytes(8, "little")
        assert other.fd != file.fd

    def test_a_received_file_is_too_and_a_memfd_keeps_its_memory(self, sim: Simulator, process: Process) -> None:
        ram = process.memfd("ram", PAGE_SIZE)
        theirs = sim.process("other").receive(ram)
        process.mmap(PAGE_SIZE, ram).write(0, b"shared")
        process.exit_nowait()
        assert theirs.process.mmap(PAGE_SIZE, theirs).read(0, 6) == b"shared"

    def test_a_closed_file_cannot_be_sent(self, sim: Simulator, process: Process) -> None:
        file = process.eventfd()
        file.close_nowait()
        assert errno_of(sim.process("other").receive, file) == E.EBADF

    def test_a_number_gives_its_file(self, process: Process) -> None:
        file = process.eventfd(1)
        assert process.file(file.fd).read_nowait(8) == (1).to_bytes(8, "little")
        assert errno_of(process.file(99).read_nowait, 8) == E.EBADF

    def test_sockets_and_taps_say_what_they_are(self, process: Process) -> None:
        assert process.socket("packet-raw", "lo").open_file.path == "packet-raw:lo"
        assert process.tap("tap0").open_file.path == "tap:tap0"


class TestLife:
    def test_a_fork_has_a_copy_of_private_memory_and_shares_the_rest(self, process: Process) -> None:
        private, shared = process.mmap(PAGE_SIZE), process.mmap(PAGE_SIZE, process.memfd("ram", PAGE_SIZE))
        private.write(0, b"before")
        child = process.fork("child")
        private.write(0, b"parent")
        shared.write(0, b"both")
        assert child.read(private.addr, 6) == b"before"
        assert child.read(shared.addr, 4) == b"both"
        child.write(private.addr, b"child!")
        assert private.read(0, 6) == b"parent"

    def test_after_exec_the_old_mappings_are_gone(self, process: Process) -> None:
        region = process.mmap(PAGE_SIZE)
        process.exec_nowait()
        assert errno_of(region.read, 0, 1) == E.EFAULT

    def test_who_was_cloned_into_the_address_space_sees_the_same_memory_and_no_files(self, process: Process) -> None:
        process.eventfd()
        helper = process.clone_vm("helper")
        region = process.mmap(PAGE_SIZE)
        helper.write(region.addr, b"seen")
        assert (region.read(0, 4), helper.task.files.slots) == (b"seen", {})
        process.exit_nowait()
        assert helper.read(region.addr, 4) == b"seen"
        helper.exit_nowait()
        assert not helper.mm.alive

    async def test_the_awaitable_forms_do_the_same(self, process: Process) -> None:
        mm = process.mm
        await process.exec()
        assert (mm.alive, process.mm.alive) == (False, True)
        await process.exit()
        assert (process.mm.alive, process.task.alive) == (False, False)

    def test_a_process_prints_its_name(self, process: Process) -> None:
        assert repr(process) == "<Process vmm>"

    def test_every_process_has_a_number_of_its_own(self, sim: Simulator, process: Process) -> None:
        everybody = [process, process.fork("a"), process.clone_vm("b"), sim.process("c")]
        assert len({one.task.tid for one in everybody}) == 4
        assert sim.processes == everybody
