"""Mapping and pinning: one entry per VMA or per physical run, what failure undoes, who is charged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core.support import Machine, refused
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from vdpasim.core.vhost.vdpa_map import AddressSpaces

PAGE = 4096


def spaces(machine: Machine) -> AddressSpaces:
    assert machine.device.node.opened is not None
    return machine.device.node.opened.spaces


def entries(machine: Machine) -> list[tuple[int, int]]:
    return [(entry.start, entry.last) for entry in spaces(machine).tables[0]]


def device_entries(machine: Machine) -> int:
    return len(machine.device.device.maps[0].table)  # type: ignore[attr-defined]


@pytest.fixture
def va() -> Machine:
    return Machine()


@pytest.fixture
def pa() -> Machine:
    return Machine(use_va=False)


# -- by address


def test_a_shared_mapping_is_one_entry_of_exactly_its_bytes(va: Machine) -> None:
    ram = va.memory()
    va.update(0x123, 0x2001, ram.addr + 0x10)
    assert entries(va) == [(0x123, 0x2123)]


def test_private_memory_is_skipped_without_a_word(va: Machine) -> None:
    private = va.process.mmap(PAGE)
    assert va.update(0, PAGE, private.addr) == 72
    assert entries(va) == []


def test_each_mapping_becomes_an_entry_and_a_hole_belongs_to_the_next(va: Machine) -> None:
    base = 0x6000_0000_0000
    first = va.process.memfd("a", PAGE)
    va.process.mmap(PAGE, first, addr=base)
    va.process.mmap(PAGE, first, addr=base + 2 * PAGE)
    va.update(0, 3 * PAGE, base)
    assert entries(va) == [(0, PAGE - 1), (PAGE, 3 * PAGE - 1)]


def test_nothing_above_the_address_is_refused_and_undone(va: Machine) -> None:
    with refused(E.EFAULT, "vdpa.va.no-vma", inside=E.EINVAL):
        va.update(PAGE, PAGE, 0x7FFF_FFFF_F000)
    assert entries(va) == []


def test_a_failure_at_iova_0_that_mapped_nothing_wipes_the_table(va: Machine) -> None:
    ram = va.memory()
    va.update(0x10000, PAGE, ram.addr)
    with refused(E.EFAULT, "vdpa.va.no-vma"):
        va.update(0, PAGE, 0x7FFF_FFFF_F000)
    assert entries(va) == []


def test_nothing_is_pinned_or_charged(va: Machine) -> None:
    ram = va.memory()
    va.update(0, 1 << 16, ram.addr)
    assert va.process.mm.pinned_vm == 0


# -- by page


def test_adjacent_frames_are_one_entry_scattered_ones_are_many(pa: Machine) -> None:
    whole = pa.memory(folio_pages=16)
    scattered = pa.memory(4 * PAGE)
    pa.update(0, 16 * PAGE, whole.addr)
    pa.update(1 << 20, 4 * PAGE, scattered.addr)
    assert len(entries(pa)) == 1 + 4
    assert pa.process.mm.pinned_vm == 20


def test_entries_cover_whole_pages(pa: Machine) -> None:
    ram = pa.memory()
    pa.update(0x800, 0x100, ram.addr + 0x123)
    assert entries(pa) == [(0, PAGE - 1)]
    with refused(E.EFAULT, "vdpa.iotlb.update-overlap", inside=E.EEXIST):
        pa.update(0, 0x10, ram.addr)


def test_the_limit_is_the_callers_and_is_inclusive(pa: Machine) -> None:
    ram = pa.memory(folio_pages=16)
    pa.process.limits.set_memlock(2 * PAGE, 2 * PAGE)
    with refused(E.EFAULT, "vdpa.pa.memlock", inside=E.ENOMEM):
        pa.update(0, 3 * PAGE, ram.addr)
    pa.update(0, 2 * PAGE, ram.addr)


@pytest.mark.parametrize(("perm", "fails"), [(1, False), (2, True), (3, True), (0, False)])
def test_read_only_memory_is_pinned_for_reading_only(pa: Machine, perm: int, fails: bool) -> None:
    memfd = pa.process.memfd("ro", PAGE)
    ram = pa.process.mmap(PAGE, memfd, prot=1)
    if fails:
        with refused(E.EFAULT, "vdpa.pa.pin", inside=E.EFAULT):
            pa.update(0, PAGE, ram.addr, perm=perm)
    else:
        pa.update(0, PAGE, ram.addr, perm=perm)


def test_a_partial_pin_is_undone_whole(pa: Machine) -> None:
    ram = pa.memory(2 * PAGE)
    with refused(E.EFAULT, "vdpa.pa.pin-partial", inside=E.ENOMEM):
        pa.update(0, 3 * PAGE, ram.addr)
    assert (entries(pa), pa.process.mm.pinned_vm, pa.sim.pages.statistics().pins) == ([], 0, 0)


def test_close_unpins_everything(pa: Machine) -> None:
    ram = pa.memory()
    pa.update(0, 1 << 16, ram.addr)
    pa.file.close_nowait()
    assert (pa.process.mm.pinned_vm, pa.sim.pages.statistics().pins) == (0, 0)


# -- range, limit, push


@pytest.mark.parametrize(("iova", "size"), [(2**64 - PAGE, 2 * PAGE), (2**64 - 1, 2)])
def test_a_range_that_wraps_is_refused(va: Machine, iova: int, size: int) -> None:
    with refused(E.EFAULT, "vdpa.iotlb.update-range", inside=E.EINVAL):
        va.update(iova, size, va.memory().addr)


@pytest.mark.parametrize(("kernel", "limited"), [("6.12", True), ("7.1", False)])
def test_the_2049th_entry(kernel: str, limited: bool) -> None:
    machine = Machine(kernel=kernel)
    ram = machine.memory(PAGE)
    for i in range(2048):
        machine.update(i * PAGE, 1, ram.addr)
    if limited:
        with refused(E.EFAULT, "iotlb.add.full", inside=E.ENOSPC):
            machine.update(1 << 40, 1, ram.addr)
    else:
        machine.update(1 << 40, 1, ram.addr)


def test_outside_a_batch_the_device_has_it_at_once_inside_at_the_end(va: Machine) -> None:
    ram = va.memory()
    va.update(0, PAGE, ram.addr)
    assert device_entries(va) == 1
    va.message(5)
    va.update(PAGE, PAGE, ram.addr)
    assert device_entries(va) == 1
    va.message(6)
    assert device_entries(va) == 2


def test_a_device_that_maps_one_by_one_ignores_batches() -> None:
    machine = Machine(batch_mapping=False)
    ram = machine.memory()
    machine.message(5)
    machine.update(0, PAGE, ram.addr)
    assert device_entries(machine) == 1
    machine.invalidate(0, 1)
    assert device_entries(machine) == 0


def test_the_result_of_the_push_at_batch_end_is_thrown_away() -> None:
    machine = Machine(max_iotlb_entries=2)
    machine.message(5)
    for i in range(3):
        machine.update(i * PAGE, PAGE, machine.memory(PAGE).addr)
    assert machine.message(6) == 72
    assert (len(entries(machine)), device_entries(machine)) == (3, 0)
