"""The address space of a real process as a device's driver sees it."""

from __future__ import annotations

import fcntl
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from vdpasim.attach.memory import WINDOW, LiveMm, LiveObject, LivePages, page_pieces
from vdpasim.core.events import Kind
from vdpasim.core.ports import PAGE_SIZE, Extent, Fault, MemoryObject, Run
from vdpasim.core.rules import KernelError
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attach.conftest import Machine, RealProgram
    from vdpasim.attach.procfs import Mapping

PROT_NONE, PROT_READ, PROT_RW = 0, 1, 3
F_SEAL_FUTURE_WRITE = 0x10
"""linux/fcntl.h; Python has no name for it."""


class TestAccess:
    def test_what_the_program_stores_is_read(self, machine: Machine, program: RealProgram) -> None:
        program.do("poke", 0x1234, b"hello".hex())
        assert machine.task.mm.read(program.at["addr"] + 0x1234, 5) == b"hello"

    def test_what_is_written_the_program_sees(self, machine: Machine, program: RealProgram) -> None:
        assert machine.task.mm.write(program.at["addr"] + 0xFFE, b"over a page") == 11
        assert bytes.fromhex(program.do("peek", 0xFFE, 11)) == b"over a page"

    def test_a_read_stops_at_the_first_page_that_is_not_there(self, machine: Machine, program: RealProgram) -> None:
        program.do("protect", 0x4000, 0x1000, PROT_NONE)
        assert len(machine.task.mm.read(program.at["addr"] + 0x3F00, 0x200)) == 0x100
        assert machine.task.mm.read(program.at["addr"] + 0x4000, 1) == b""

    def test_a_write_respects_a_read_only_page(self, machine: Machine, program: RealProgram) -> None:
        program.do("protect", 0x4000, 0x1000, PROT_READ)
        assert machine.task.mm.write(program.at["addr"] + 0x3FFF, b"ab") == 1
        assert bytes.fromhex(program.do("peek", 0x3FFF, 2)) == b"a\0"

    def test_a_write_respects_a_private_read_only_page(self, machine: Machine, program: RealProgram) -> None:
        text = next(m for m in machine.task.mm.mappings() if m.readable and not m.writable and not m.shared)
        before = machine.task.mm.read(text.start, 4)
        assert machine.task.mm.write(text.start, b"\xcc" * 4) == 0
        assert machine.task.mm.read(text.start, 4) == before

    def test_a_page_behind_the_last_of_its_file_is_a_fault(self, machine: Machine, program: RealProgram) -> None:
        program.do("truncate", 0x4000)
        assert len(machine.task.mm.read(program.at["addr"] + 0x3F00, 0x200)) == 0x100
        assert machine.task.mm.read(program.at["addr"] + 0x4000, 8) == b""
        assert machine.task.mm.write(program.at["addr"] + 0x3FFF, b"ab") == 1

    @pytest.mark.parametrize("addr", [0, 0x7FFF_FFFF_F000, 1 << 63, (1 << 64) - 1])
    def test_addresses_that_no_program_has_are_faults(self, machine: Machine, addr: int) -> None:
        assert machine.task.mm.read(addr, 8) == b""
        assert machine.task.mm.write(addr, b"x") == 0

    def test_nothing_is_read_of_nothing(self, machine: Machine, program: RealProgram) -> None:
        assert machine.task.mm.read(program.at["addr"], 0) == b""


class TestTheMap:
    def test_seq_stands_still_while_the_map_does(self, machine: Machine, program: RealProgram) -> None:
        seq = machine.task.mm.seq
        program.do("poke", 0, "00")
        assert machine.task.mm.seq == seq

    def test_seq_changes_with_the_map(self, machine: Machine, program: RealProgram) -> None:
        seq = machine.task.mm.seq
        program.do("protect", 0x4000, 0x1000, PROT_READ)
        assert machine.task.mm.seq != seq

    def test_a_shared_mapping_is_a_vma_with_its_file(self, machine: Machine, program: RealProgram) -> None:
        vma = next(machine.task.mm.vmas(program.at["addr"]))
        assert (vma.start, vma.last) == (program.at["addr"], program.at["addr"] + 0xFFFF)
        assert (vma.shared, vma.special, vma.offset) == (True, False, 0)
        assert isinstance(vma.file, MemoryObject)
        assert vma.file.name.startswith("/memfd:ram (deleted)[")

    def test_a_split_mapping_knows_its_offset(self, machine: Machine, program: RealProgram) -> None:
        program.do("protect", 0x4000, 0x1000, PROT_READ)
        vmas = [vma for vma in machine.task.mm.vmas(program.at["addr"]) if vma.last < program.at["addr"] + 0x10000]
        assert [vma.offset for vma in vmas] == [0, 0x4000, 0x5000]
        assert len({id(vma.file) for vma in vmas}) == 1

    def test_private_anonymous_memory_has_no_file(self, machine: Machine, program: RealProgram) -> None:
        vma = next(machine.task.mm.vmas(program.at["private"]))
        assert (vma.shared, vma.file) == (False, None)

    def test_an_extent_names_the_object_across_a_split(self, machine: Machine, program: RealProgram) -> None:
        program.do("protect", 0x4000, 0x1000, PROT_READ)
        (extent,) = machine.task.mm.extents(program.at["addr"] + 0x3000, 0x3000)
        assert (extent.offset, extent.length) == (0x3000, 0x3000)

    def test_extents_stop_at_a_hole(self, machine: Machine) -> None:
        assert machine.task.mm.extents(0, 4096) == []

    def test_private_memory_is_named_for_its_address_space(self, machine: Machine, program: RealProgram) -> None:
        at = program.at["private"]
        assert machine.task.mm.extents(at, 16) == [Extent("mm:vmm-0/private", at, 16)]

    def test_two_address_spaces_agree_on_the_name_of_an_object(self, machine: Machine, program: RealProgram) -> None:
        other = LiveMm(program.pid, machine.pages)
        assert other.extents(program.at["addr"], 1) == machine.task.mm.extents(program.at["addr"], 1)
        assert other.ident == f"mm:{program.pid}"
        other.close()


class TestTheEndOfAnAddressSpace:
    def test_it_dies_with_its_process(self, machine: Machine, program: RealProgram) -> None:
        mm = machine.task.mm
        before = mm.alive
        program.kill()
        assert (before, mm.alive) == (True, False)
        assert mm.read(program.at["addr"], 4) == b""
        assert mm.write(program.at["addr"], b"x") == 0
        assert list(mm.vmas(0)) == []
        assert mm.extents(program.at["addr"], 4) == []

    def test_it_dies_at_exec(self, machine: Machine, program: RealProgram) -> None:
        program.do("exec")
        assert not machine.task.mm.alive
        assert machine.task.mm.read(program.at["addr"], 4) == b""


class TestPinning:
    def test_pinned_pages_are_the_object_s(self, machine: Machine, program: RealProgram) -> None:
        runs = machine.task.mm.pin(program.at["addr"] + 0x2000, 2, write=True)
        assert [run.npages for run in runs] == [1, 1]
        program.do("poke", 0x2000, b"pinned".hex())
        assert machine.pages.read(runs[0].paddr, 6) == b"pinned"
        assert machine.pages.write(runs[1].paddr + 8, b"dma") == 3
        assert bytes.fromhex(program.do("peek", 0x3008, 3)) == b"dma"
        (extent,) = machine.pages.extents(runs[0].paddr, PAGE_SIZE)
        assert (extent.offset, extent.length) == (0x2000, PAGE_SIZE)
        for run in runs:
            machine.pages.unpin(run, dirty=True)

    def test_pages_are_physically_adjacent_to_nothing(self, machine: Machine, program: RealProgram) -> None:
        runs = machine.task.mm.pin(program.at["addr"], 2, write=False)
        assert machine.pages.read(runs[0].paddr + PAGE_SIZE - 1, 2) == b"\0"
        assert machine.pages.extents(runs[0].paddr + PAGE_SIZE - 1, 2)[0].length == 1

    def test_a_page_stays_until_its_last_pin_goes(self, machine: Machine, program: RealProgram) -> None:
        (run,) = machine.task.mm.pin(program.at["addr"], 1, write=True)
        (again,) = machine.task.mm.pin(program.at["addr"], 1, write=True)
        assert run == again
        program.do("poke", 0, b"kept".hex())
        program.kill()
        machine.pages.unpin(run, dirty=True)
        assert machine.pages.read(run.paddr, 4) == b"kept"
        machine.pages.unpin(run, dirty=True)
        assert machine.pages.read(run.paddr, 4) == b""
        assert machine.pages.write(run.paddr, b"x") == 0

    def test_the_first_page_that_cannot_be_had_is_a_fault(self, machine: Machine, program: RealProgram) -> None:
        program.do("protect", 0x1000, 0x1000, PROT_READ)
        with pytest.raises(Fault):
            machine.task.mm.pin(program.at["addr"] + 0x1000, 1, write=True)
        with pytest.raises(Fault):
            machine.task.mm.pin(0x1000, 1, write=False)

    def test_a_later_page_that_cannot_be_had_ends_the_list(self, machine: Machine, program: RealProgram) -> None:
        program.do("protect", 0x1000, 0x1000, PROT_READ)
        assert len(machine.task.mm.pin(program.at["addr"], 3, write=True)) == 1
        assert len(machine.task.mm.pin(program.at["addr"], 3, write=False)) == 3

    def test_a_page_behind_the_last_of_its_file_cannot_be_had(self, machine: Machine, program: RealProgram) -> None:
        program.do("truncate", 0x1000)
        assert len(machine.task.mm.pin(program.at["addr"], 3, write=True)) == 1
        with pytest.raises(Fault):
            machine.task.mm.pin(program.at["addr"] + 0x1000, 1, write=True)

    def test_private_pages_are_refused_loudly(self, machine: Machine, program: RealProgram) -> None:
        with pytest.raises(KernelError) as refused:
            machine.task.mm.pin(program.at["private"], 1, write=True)
        assert (refused.value.errno, refused.value.rule) == (E.EOPNOTSUPP, "attach.pin-private")
        assert [event[3] for event in machine.events] == [Kind.UNMODELLED]

    def test_a_physical_address_of_nobody_is_no_memory(self, machine: Machine) -> None:
        assert machine.pages.read(5 << WINDOW, 4) == b""
        assert machine.pages.extents(5 << WINDOW, 4) == []
        machine.pages.unpin(Run(5 << WINDOW, 1), dirty=False)


class TestObjects:
    def test_a_write_behind_the_last_byte_does_not_make_the_file_longer(self, machine: Machine) -> None:
        pages = LivePages(machine.kernel)
        fd = os.memfd_create("short")
        os.ftruncate(fd, 100)
        obj = LiveObject("short", 1, fd=fd)
        pages.objects["00:00", 1] = obj
        paddr = pages.pin(obj, 0)
        assert pages.write(paddr + 90, b"x" * 20) == 20, "the page is whole"
        assert os.fstat(fd).st_size == 100
        assert pages.read(paddr + 90, 20) == b"x" * 10 + bytes(10), "and its rest is nobody's"
        pages.unpin(Run(paddr, 1), dirty=True)
        assert obj.fd is None

    def test_references_are_counted_and_keep_no_pages(self) -> None:
        obj = LiveObject("ram", 1)
        obj.get()
        obj.get()
        obj.put()
        assert (obj.refs, obj.fd) == (1, None)

    def test_a_reference_is_a_descriptor_and_a_mapping_of_the_whole(
        self, machine: Machine, program: RealProgram
    ) -> None:
        obj = self.object_at(machine, program)
        program.do("poke", 0x1234, b"hello".hex())
        obj.get()
        program.kill()
        assert obj.read(0x1234, 5) == b"hello"
        assert obj.write(0x1234, memoryview(b"world")) == 5
        assert obj.read(0xFFFE, 100) == bytes(2), "what is behind the last page is no memory"
        assert (obj.write(0xFFFE, b"abc"), obj.write(0x20000, b"x")) == (2, 0)
        obj.put()
        assert (obj.refs, obj.fd) == (0, None)
        assert machine.events == []
        assert (obj.read(0x1234, 5), obj.write(0x1234, b"x")) == (b"", 0)
        assert [(event[3], event[5]) for event in machine.events] == [
            (Kind.UNMODELLED, "reading a file without a descriptor"),
            (Kind.UNMODELLED, "writing a file without a descriptor"),
        ]

    def test_the_last_page_is_whole_and_its_rest_is_nobodys(self, machine: Machine, program: RealProgram) -> None:
        obj = self.object_at(machine, program)
        program.do("truncate", 0x1800)
        obj.get()
        assert obj.read(0x17FE, 0x1000) == bytes(0x802)
        assert obj.write(0x17FE, b"abcd") == 4
        assert obj.fd is not None
        assert os.fstat(obj.fd).st_size == 0x1800
        assert obj.read(0x17FE, 4) == b"ab\0\0"
        obj.put()

    def test_where_no_descriptor_leads_to_it_nothing_is_read(self, machine: Machine, program: RealProgram) -> None:
        obj = self.object_at(machine, program)
        program.kill()
        obj.get()
        assert (obj.fd, obj.read(0, 4), obj.write(0, b"x")) == (None, b"", 0)

    def test_a_later_mapping_may_lead_to_it(self, machine: Machine, program: RealProgram) -> None:
        pages, mapping = LivePages(machine.kernel), self.mapping_at(machine, program)
        gone = subprocess.Popen(["/bin/true"])
        gone.wait()
        obj = pages.object_of(gone.pid, mapping)
        obj.get()
        assert (obj.fd, obj.seen) == (None, None), "looked for once, and not again for each reference"
        assert pages.object_of(program.pid, mapping) is obj
        obj.get()
        assert obj.read(0, 4) == bytes(4)
        obj.put()
        assert obj.fd is not None
        obj.put()
        assert obj.fd is None

    def test_a_pin_keeps_it_beside_a_reference(self, machine: Machine, program: RealProgram) -> None:
        obj = self.object_at(machine, program)
        obj.get()
        (run,) = machine.task.mm.pin(program.at["addr"], 1, write=True)
        machine.pages.unpin(run, dirty=True)
        assert obj.fd is not None
        (run,) = machine.task.mm.pin(program.at["addr"], 1, write=True)
        obj.put()
        assert obj.fd is not None
        machine.pages.unpin(run, dirty=True)
        assert obj.fd is None

    def test_what_cannot_be_written_by_a_descriptor_is_said_aloud(
        self, machine: Machine, program: RealProgram
    ) -> None:
        obj = self.object_at(machine, program)
        obj.get()
        assert obj.fd is not None
        fcntl.fcntl(obj.fd, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
        assert obj.write(0, b"x") == 0
        assert [event[3:] for event in machine.events] == [
            (Kind.UNMODELLED, obj.name, "pwrite: Operation not permitted")
        ]
        obj.put()

    def test_nor_what_cannot_be_read(self, machine: Machine, tmp_path: Path) -> None:
        path = tmp_path / "disk"
        path.write_bytes(bytes(PAGE_SIZE))
        obj = LiveObject("disk", 1, fd=os.open(path, os.O_WRONLY), kernel=machine.kernel)
        assert obj.read(0, 4) == b""
        assert [event[3:] for event in machine.events] == [(Kind.UNMODELLED, "disk", "pread: Bad file descriptor")]
        obj.let_go()

    @staticmethod
    def mapping_at(machine: Machine, program: RealProgram) -> Mapping:
        return next(one for one in machine.task.mm.mappings() if one.start == program.at["addr"])

    @staticmethod
    def object_at(machine: Machine, program: RealProgram) -> LiveObject:
        file = next(machine.task.mm.vmas(program.at["addr"])).file
        assert isinstance(file, LiveObject)
        return file


def test_a_range_falls_apart_at_page_borders() -> None:
    assert list(page_pieces(0xFFE, 0x1004)) == [(0xFFE, 2), (0x1000, 0x1000), (0x2000, 2)]
    assert list(page_pieces(0x1000, 0)) == []
