"""The address space against a dictionary of pages: every operation in any order, forks and pins included.

The model knows no mappings, folios or references: a page of an address space is a cell of 4 KiB with a protection, and
cells are shared or copied by hand. A pinned cell is remembered by its physical address.
"""

from __future__ import annotations

from itertools import pairwise

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vdpasim.core.mm.memory import Memory, PhysicalMemory
from vdpasim.core.mm.mm import AddressSpace
from vdpasim.core.ports import PAGE_SIZE, Fault, Run
from vdpasim.core.rules import KernelError
from vdpasim.uapi import errno as E
from vdpasim.uapi.mman import PROT_NONE, PROT_READ, PROT_WRITE

P = PAGE_SIZE
AT = 0x40000000
PAGES = 12
RW = PROT_READ | PROT_WRITE
FILE_PAGES = 8

spaces = st.integers(0, 2)
page_numbers = st.integers(0, PAGES - 1)
lengths = st.integers(1, 5)
places = st.integers(0, PAGES * P)
prots = st.sampled_from([PROT_NONE, PROT_READ, PROT_WRITE, RW, RW, RW])
file_numbers = st.integers(0, 2)
FOLIO_PAGES = (1, 4, 1)
"""The third file is one frame behind every page."""


@attrs.define(eq=False)
class Cell:
    """The bytes of one page."""

    data: bytearray = attrs.Factory(lambda: bytearray(P))


@attrs.define(eq=False)
class File:
    """An object: cells by page number."""

    size: int = FILE_PAGES
    one: bool = False
    cells: dict[int, Cell] = attrs.Factory(dict[int, Cell])

    def cell(self, index: int) -> Cell | None:
        if index >= self.size:
            return None
        return self.cells.setdefault(0 if self.one else index, Cell())


@attrs.define(eq=False)
class Page:
    """One mapped page."""

    prot: int
    shared: bool
    file: File | None
    index: int
    own: Cell | None = None
    """The private page, once there is one."""

    def there(self) -> bool:
        return self.file is None or self.index < self.file.size

    def for_reading(self) -> Cell | None:
        if not self.there():
            return None
        if self.own is None and self.file is not None:
            return self.file.cell(self.index)
        return self.for_writing()

    def for_writing(self) -> Cell | None:
        if not self.there():
            return None
        if self.shared:
            assert self.file is not None
            return self.file.cell(self.index)
        if self.own is None:
            source = self.file.cell(self.index) if self.file else None
            self.own = Cell(bytearray(source.data)) if source else Cell()
        return self.own

    def copy(self) -> Page:
        return attrs.evolve(self, own=Cell(bytearray(self.own.data)) if self.own else None)


class AddressSpaceMachine(RuleBasedStateMachine):
    """Up to three address spaces over one physical memory."""

    @initialize()
    def begin(self) -> None:
        self.phys = PhysicalMemory()
        self.mms = [AddressSpace("mm", self.phys)]
        self.models: list[dict[int, Page]] = [{}]
        self.memories = [
            Memory(f"file{i}", FILE_PAGES * P, self.phys, folio_pages=pages, one_frame=i == 2)
            for i, pages in enumerate(FOLIO_PAGES)
        ]
        self.files = [File(one=i == 2) for i in range(3)]
        self.pinned: list[tuple[Run, Cell]] = []

    def pick(self, space: int) -> tuple[AddressSpace, dict[int, Page]]:
        which = space % len(self.mms)
        return self.mms[which], self.models[which]

    @rule(
        space=spaces,
        at=page_numbers,
        n=lengths,
        prot=prots,
        number=file_numbers,
        index=st.integers(0, 5),
        shared=st.booleans(),
    )
    def map_file(self, space: int, at: int, n: int, prot: int, number: int, index: int, shared: bool) -> None:
        mm, model = self.pick(space)
        mm.mmap(AT + at * P, n * P, prot, shared=shared, obj=self.memories[number], offset=index * P, fixed=True)
        for i in range(n):
            model[at + i] = Page(prot, shared, self.files[number], index + i)

    @rule(space=spaces, at=page_numbers, n=lengths, prot=prots, shared=st.booleans())
    def map_anonymous(self, space: int, at: int, n: int, prot: int, shared: bool) -> None:
        mm, model = self.pick(space)
        mm.mmap(AT + at * P, n * P, prot, shared=shared, fixed=True)
        behind = File(size=n) if shared else None
        for i in range(n):
            model[at + i] = Page(prot, shared, behind, i)

    @rule(space=spaces, at=page_numbers, n=lengths)
    def unmap(self, space: int, at: int, n: int) -> None:
        mm, model = self.pick(space)
        mm.munmap(AT + at * P, n * P)
        for i in range(n):
            model.pop(at + i, None)

    @rule(space=spaces, at=page_numbers, n=st.integers(0, 5), prot=prots)
    def protect(self, space: int, at: int, n: int, prot: int) -> None:
        mm, model = self.pick(space)
        errno = 0
        try:
            mm.mprotect(AT + at * P, n * P, prot)
        except KernelError as error:
            errno = error.errno
        hole = next((i for i in range(at, at + n) if i not in model), None)
        assert errno == (0 if hole is None else E.ENOMEM)
        for i in range(at, at + n if hole is None else hole):
            model[i].prot = prot

    @rule(space=spaces, at=page_numbers, n=lengths, to=page_numbers, new=lengths)
    def remap(self, space: int, at: int, n: int, to: int, new: int) -> None:
        # of private anonymous memory or within a file: whether the old range is one mapping is asked of the real one
        mm, model = self.pick(space)
        if to < at + n and at < to + new:
            return
        size = min(n, new)
        vma = mm.vma_at(AT + at * P)
        if vma is None or AT + (at + size) * P - 1 > vma.last:
            return
        mm.mremap(AT + at * P, n * P, new * P, AT + to * P)
        first = model[at]
        for i in range(new):
            model.pop(to + i, None)
        moved = [model[at + i] for i in range(size)]
        for i in range(n):
            model.pop(at + i, None)
        moved += [attrs.evolve(first, index=first.index + i, own=None) for i in range(size, new)]
        model.update({to + i: page for i, page in enumerate(moved)})

    @rule(space=spaces, at=places, data=st.binary(min_size=1, max_size=30), times=st.integers(1, 400))
    def write(self, space: int, at: int, data: bytes, times: int) -> None:
        mm, model = self.pick(space)
        text = data * times
        done = 0
        while done < len(text):
            page = model.get((at + done) // P)
            cell = page.for_writing() if page is not None and page.prot & PROT_WRITE else None
            if cell is None:
                break
            place = (at + done) % P
            part = text[done : done + P - place]
            cell.data[place : place + len(part)] = part
            done += len(part)
        assert mm.write(AT + at, text) == done

    @rule(space=spaces, at=places, length=st.integers(0, 3 * P))
    def read(self, space: int, at: int, length: int) -> None:
        mm, model = self.pick(space)
        expected = b""
        while len(expected) < length:
            page = model.get((at + len(expected)) // P)
            cell = page.for_reading() if page is not None and page.prot != PROT_NONE else None
            if cell is None:
                break
            place = (at + len(expected)) % P
            expected += cell.data[place : place + length - len(expected)]
        assert mm.read(AT + at, length) == expected

    @rule(number=file_numbers, at=st.integers(0, FILE_PAGES * P - 1), data=st.binary(min_size=1, max_size=20))
    def write_file(self, number: int, at: int, data: bytes) -> None:
        file = self.files[number]
        if at + len(data) > file.size * P:
            return
        self.memories[number].pwrite(at, data)
        for i, byte in enumerate(data):
            cell = file.cell((at + i) // P)
            assert cell is not None
            cell.data[(at + i) % P] = byte

    @rule(number=st.integers(0, 1), at=st.integers(0, FILE_PAGES - 1), n=lengths)
    def punch(self, number: int, at: int, n: int) -> None:
        self.memories[number].punch_hole(at * P, n * P)
        for i in range(n):
            self.files[number].cells.pop(at + i, None)

    @rule(number=st.integers(0, 1), size=st.integers(0, FILE_PAGES))
    def truncate(self, number: int, size: int) -> None:
        self.memories[number].truncate(size * P)
        file = self.files[number]
        file.size = size
        file.cells = {index: cell for index, cell in file.cells.items() if index < size}

    @precondition(lambda self: len(self.mms) < 3)
    @rule(space=spaces)
    def fork(self, space: int) -> None:
        mm, model = self.pick(space)
        self.mms.append(mm.fork("child"))
        self.models.append({at: page.copy() for at, page in model.items()})

    @precondition(lambda self: len(self.mms) > 1)
    @rule(space=spaces)
    def exit(self, space: int) -> None:
        which = space % len(self.mms)
        mm = self.mms.pop(which)
        self.models.pop(which)
        mm.put_user()
        assert mm.read(AT, 1) == b""

    @rule(space=spaces, at=page_numbers, n=lengths, write=st.booleans())
    def pin(self, space: int, at: int, n: int, write: bool) -> None:
        mm, model = self.pick(space)
        cells: list[Cell] = []
        for i in range(at, at + n):
            page = model.get(i)
            if page is None or not page.prot & (PROT_WRITE if write else PROT_READ):
                break
            cell = page.for_writing()
            if cell is None:
                break
            cells.append(cell)
        try:
            runs = mm.pin(AT + at * P, n, write=write)
        except Fault:
            runs = []
        single = [Run(run.paddr + i * P, 1) for run in runs for i in range(run.npages)]
        assert len(single) == len(cells)
        self.pinned += list(zip(single, cells, strict=True))

    @precondition(lambda self: self.pinned)
    @rule(which=st.integers(0, 50))
    def unpin(self, which: int) -> None:
        run, _ = self.pinned.pop(which % len(self.pinned))
        self.phys.unpin(run, dirty=True)

    @precondition(lambda self: self.pinned)
    @rule(which=st.integers(0, 50), data=st.binary(min_size=1, max_size=8))
    def dma(self, which: int, data: bytes) -> None:
        run, cell = self.pinned[which % len(self.pinned)]
        assert self.phys.write(run.paddr + 64, data) == len(data)
        cell.data[64 : 64 + len(data)] = data

    @invariant()
    def pinned_pages_are_those_of_the_model(self) -> None:
        for run, cell in self.pinned:
            assert self.phys.read(run.paddr, P) == cell.data
        assert self.phys.statistics().pins == len(self.pinned)
        assert self.phys.statistics().wrong_unpins == 0

    @invariant()
    def mappings_are_in_order_disjoint_and_as_large_as_can_be(self) -> None:
        for mm, model in zip(self.mms, self.models, strict=True):
            vmas = [mm.vma_at(view.start) for view in mm.vmas(0)]
            found = [vma for vma in vmas if vma is not None]
            assert len(found) == len(vmas)
            for below, above in pairwise(found):
                assert below.last < above.start
                assert not below.joins(above)
            mapped = {(addr - AT) // P for vma in found for addr in range(vma.start, vma.last, P)}
            assert mapped == set(model)

    @invariant()
    def every_mapping_holds_one_reference(self) -> None:
        for memory in self.memories:
            held = sum(view.file is memory for mm in self.mms for view in mm.vmas(0))
            assert memory.refs == 1 + held

    def teardown(self) -> None:
        for mm in self.mms:
            mm.put_user()
        for memory in self.memories:
            memory.put()
        for run, _ in self.pinned:
            self.phys.unpin(run, dirty=False)
        assert self.phys.statistics().folios == 0, "frames are left over"


TestAddressSpaceModel = AddressSpaceMachine.TestCase
TestAddressSpaceModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
