"""What the mappings of a process become in vhost-vdpa: one UPDATE, one entry per mapping that counts.

The layouts are those of the recorded topic va_map (facts 3 to 5 of its notes), three pages wide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.core.events import Kind
from vdpasim.core.ports import PAGE_SIZE
from vdpasim.sim import Simulator
from vdpasim.uapi.mman import PROT_READ, PROT_WRITE
from vdpasim.vmm.handles import VhostVdpa

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.core.events import Event
    from vdpasim.core.mm.mm import AddressSpace
    from vdpasim.sim import File, Process

    Build = Callable[["Layout"], None]

P = PAGE_SIZE
RW = PROT_READ | PROT_WRITE
AT = 0x1000_0000_0000
IOVA = 0x40000000


class Layout:
    """Puts mappings at pages from AT."""

    def __init__(self, process: Process) -> None:
        self.mm: AddressSpace = process.mm
        self.one: File = process.memfd("one", 8 * P)
        self.other: File = process.memfd("other", 8 * P)

    def share(self, at: int, page: int, *, pages: int = 1, file: File | None = None, prot: int = RW) -> None:
        memory = (file or self.one).memory
        self.mm.mmap(AT + at * P, pages * P, prot, shared=True, obj=memory, offset=page * P, fixed=True)

    def anon(self, at: int) -> None:
        self.mm.mmap(AT + at * P, P, RW, shared=False, fixed=True)

    def protect(self, at: int, prot: int) -> None:
        self.mm.mprotect(AT + at * P, P, prot)


def entries(build: Build, pages: int = 3, change: Build | None = None) -> list[str]:
    """The entries of one UPDATE of ``pages`` from AT, as ``first-last`` pages; ``change`` comes after it."""
    sim = Simulator("6.12")
    found: list[tuple[int, int]] = []

    def note(event: Event) -> None:
        fields = event[4:]
        if event[3] == Kind.MAP:
            found.append((fields[3], fields[4]))
        elif event[3] == Kind.UNMAP:
            found.remove((fields[3], fields[4]))

    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("vdpa0", mgmtdev="vdpasim_blk", use_va=True)
        process = sim.process("vmm")
        layout = Layout(process)
        build(layout)
        vdpa = VhostVdpa(await process.open(device.path))
        await vdpa.set_owner()
        await vdpa.iotlb_update(IOVA, pages * P, AT)
        if change is not None:
            change(layout)

    sim.listen(note)
    sim.run(main)
    return [f"{(start - IOVA) // P}-{(last - IOVA) // P}" for start, last in found]


def shared(layout: Layout) -> None:
    layout.share(0, 0, pages=3)


def shared_anon_shared(layout: Layout) -> None:
    layout.share(0, 0)
    layout.anon(1)
    layout.share(2, 2)


def shared_hole_shared(layout: Layout) -> None:
    layout.share(0, 0)
    layout.share(2, 2)


def hole_shared(layout: Layout) -> None:
    layout.share(2, 2)


def hole_then_far_shared(layout: Layout) -> None:
    layout.share(1 << 28, 0)


def hole_anon_shared(layout: Layout) -> None:
    layout.anon(1)
    layout.share(2, 2)


def anon(layout: Layout) -> None:
    for at in range(3):
        layout.anon(at)


def continuous(layout: Layout) -> None:
    for at in (2, 0, 1):
        layout.share(at, at + 1)


def jump(layout: Layout) -> None:
    layout.share(0, 0, pages=2)
    layout.share(2, 3)


def two_files(layout: Layout) -> None:
    layout.share(0, 0)
    layout.share(1, 1, pages=2, file=layout.other)


def middle_read_only(layout: Layout) -> None:
    shared(layout)
    layout.protect(1, PROT_READ)


def restored(layout: Layout) -> None:
    middle_read_only(layout)
    layout.protect(1, RW)


def private_file(layout: Layout) -> None:
    layout.mm.mmap(AT, 3 * P, RW, shared=False, obj=layout.one.memory, fixed=True)


def read_only_file(layout: Layout) -> None:
    layout.mm.mmap(AT, 3 * P, PROT_READ, shared=True, obj=layout.one.memory, fixed=True, file_writable=False)


def shared_anonymous(layout: Layout) -> None:
    for at in range(3):
        layout.mm.mmap(AT + at * P, P, RW, shared=True, fixed=True)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (shared, ["0-2"]),
        (shared_anon_shared, ["0-0", "2-2"]),
        (shared_hole_shared, ["0-0", "1-2"]),
        (hole_shared, ["0-2"]),
        (hole_then_far_shared, ["0-2"]),
        (hole_anon_shared, ["2-2"]),
        (anon, []),
        (continuous, ["0-2"]),
        (jump, ["0-1", "2-2"]),
        (two_files, ["0-0", "1-2"]),
        (middle_read_only, ["0-0", "1-1", "2-2"]),
        (restored, ["0-2"]),
        (private_file, []),
        (read_only_file, []),
        (shared_anonymous, ["0-0", "1-1", "2-2"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_update_makes_one_entry_per_shared_mapping(build: Build, expected: list[str]) -> None:
    assert entries(build) == expected


@pytest.mark.parametrize("prot", [0, PROT_READ])
def test_protection_changed_after_the_update_changes_no_entry(prot: int) -> None:
    assert entries(shared, change=lambda layout: layout.protect(1, prot)) == ["0-2"]


def test_the_update_ends_inside_a_mapping_where_it_is_told_to() -> None:
    assert entries(shared, pages=2) == ["0-1"]
