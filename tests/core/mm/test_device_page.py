"""A device's page in a process: stores reach the device, nothing else may use it."""

from __future__ import annotations

import pytest

from vdpasim.core.mm.device_page import DevicePage
from vdpasim.core.mm.memory import PhysicalMemory
from vdpasim.core.mm.mm import AddressSpace
from vdpasim.core.ports import PAGE_SIZE, Extent, Fault
from vdpasim.uapi.mman import PROT_READ, PROT_WRITE


class Machine:
    def __init__(self) -> None:
        self.phys = PhysicalMemory()
        self.mm = AddressSpace("mm", self.phys)
        self.log: list[str] = []
        store, gone = (lambda: self.log.append("store")), (lambda: self.log.append("gone"))
        page = DevicePage("dev/page", self.phys, store, gone)
        self.at = self.mm.mmap(None, PAGE_SIZE, PROT_WRITE, shared=True, obj=page)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_store_anywhere_in_it_reaches_the_device(machine: Machine) -> None:
    assert machine.mm.write(machine.at + 64, b"\1\0") == 2
    assert machine.log == ["store"]


def test_nothing_is_kept(machine: Machine) -> None:
    machine.mm.write(machine.at, b"\xff" * 8)
    assert machine.mm.read(machine.at, 8) == bytes(8)
    assert machine.mm.frame(machine.at, write=True) is None


def test_it_cannot_be_pinned(machine: Machine) -> None:
    machine.mm.mprotect(machine.at, PAGE_SIZE, PROT_READ | PROT_WRITE)
    for write in (False, True):
        with pytest.raises(Fault):
            machine.mm.pin(machine.at, 1, write=write)


def test_a_driver_sees_that_it_is_no_ordinary_memory(machine: Machine) -> None:
    assert next(machine.mm.vmas(machine.at)).special
    assert machine.mm.extents(machine.at, 4) == [Extent("dev/page", 0, 4)]


def test_it_has_one_page(machine: Machine) -> None:
    vma = machine.mm.vma_at(machine.at)
    assert vma is not None
    assert vma.obj is not None
    assert vma.obj.page(1) is None


def test_it_is_gone_with_its_last_mapping(machine: Machine) -> None:
    child = machine.mm.fork("child")
    machine.mm.munmap(machine.at, PAGE_SIZE)
    assert machine.log == []
    child.put_user()
    assert machine.log == ["gone"]
