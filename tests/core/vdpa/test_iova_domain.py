"""A device that maps files itself: what it sees, what it holds, and what the owner's addresses are to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.rings import BUFFERS, IOVA, RAM, Board, Queue, inside, rules_hit
from tests.core.support import refused
from vdpasim.core.events import Kind, as_dict
from vdpasim.core.mm.memory import Memory, PhysicalMemory
from vdpasim.core.ports import PAGE_SIZE, Extent
from vdpasim.core.rules import KernelError
from vdpasim.core.vdpa.iova_domain import FILE_SIZE_MAX, IovaDomain
from vdpasim.core.vhost.iotlb import Iotlb
from vdpasim.core.vhost.vdpa_map import MapFile
from vdpasim.devices.profile import DeviceProfile, load
from vdpasim.sim import Region
from vdpasim.uapi import errno as E
from vdpasim.vmm.guest import Buffer, Used

if TYPE_CHECKING:
    from vdpasim.core.events import Event

BY_FILE: DeviceProfile = attrs.evolve(load("vdpasim_blk-6.12"), addresses="file", identity=0)
ID = b"vdpa_blk_sim".ljust(20, b"\0")


@pytest.fixture
def domain() -> IovaDomain:
    return IovaDomain("d.files")


@pytest.fixture
def phys() -> PhysicalMemory:
    return PhysicalMemory()


def memory(phys: PhysicalMemory, name: str = "ram", pages: int = 16) -> Memory:
    """An object whose bytes say where they are."""
    one = Memory(name, pages * PAGE_SIZE, phys)
    for page in range(pages):
        one.pwrite(page * PAGE_SIZE, f"{name}{page}".encode())
    return one


def table(*entries: tuple[int, int, Memory, int]) -> Iotlb:
    """A table of vhost-vdpa: (iova, size, file, offset) of each entry; its user address is of no use to anybody."""
    out = Iotlb(2048)
    for iova, size, file, offset in entries:
        out.add_range(iova, iova + size - 1, 0xDEAD_0000, 3, MapFile(file, offset))
    return out


def address(copy: Iotlb, iova: int) -> int:
    """Where the device has a byte."""
    ((_, addr, _),) = copy.translate(iova, 1, 3).pieces
    return addr


class TestAMap:
    def test_an_entry_shows_its_file_from_its_offset(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        ram, copy = memory(phys), Iotlb(2048)
        domain.set_map(0, table((0x1000, 0x2000, ram, 5 * PAGE_SIZE)), copy)
        at = address(copy, 0x2000)
        assert domain.read(at, 4) == b"ram6"
        assert domain.write(at, b"device") == 6
        assert ram.pread(6 * PAGE_SIZE, 6) == b"device"
        assert domain.extents(at, 8) == [Extent("ram", 6 * PAGE_SIZE, 8)]
        data = domain.frame(at, write=False)
        assert data is not None
        assert data[0][data[1] : data[1] + 6] == b"device"

    def test_an_access_ends_with_its_piece(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        ram, copy = memory(phys), Iotlb(2048)
        domain.set_map(0, table((0, PAGE_SIZE, ram, 0), (PAGE_SIZE, PAGE_SIZE, ram, PAGE_SIZE)), copy)
        at = address(copy, PAGE_SIZE - 2)
        assert len(domain.read(at, 4)) == 2, "one access is in one entry, the device's map sees to that"
        assert domain.write(at, b"abcd") == 2
        assert domain.read(address(copy, PAGE_SIZE), 4) == b"ram1"

    def test_the_copy_is_the_table_but_for_its_addresses(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        ram, whole, copy = memory(phys), Iotlb(2048), Iotlb(2048)
        for iova, perm in ((0x1000, 1), (0x2000, 2), (0x4000, 3)):
            whole.add_range(iova, iova + 0xFFF, 0xDEAD_0000, perm, MapFile(ram, 0))
        domain.set_map(0, whole, copy)
        told = [(entry.start, entry.last, entry.perm, entry.opaque) for entry in copy]
        assert told == [(entry.start, entry.last, entry.perm, entry.serial) for entry in whole]

    def test_to_look_gives_no_page_to_memory_that_nobody_wrote(
        self, domain: IovaDomain, phys: PhysicalMemory
    ) -> None:
        copy = Iotlb(2048)
        domain.set_map(0, table((0, PAGE_SIZE, Memory("fresh", PAGE_SIZE, phys), 0)), copy)
        assert domain.read(address(copy, 0), 4) == bytes(4)
        assert domain.frame(address(copy, 0), write=False) is None, "nobody wrote there, so there are no bytes to show"
        assert domain.frame(address(copy, 0), write=True) is not None

    @pytest.mark.parametrize("size", [1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 3 * PAGE_SIZE])
    @pytest.mark.parametrize("offset", [0, 1, PAGE_SIZE - 1])
    def test_no_two_share_a_page(self, domain: IovaDomain, phys: PhysicalMemory, size: int, offset: int) -> None:
        ram, copy = memory(phys), Iotlb(2048)
        domain.set_map(0, table((0, size, ram, offset), (size, size, ram, offset)), copy)
        first, last = address(copy, 0), address(copy, size - 1)
        assert (last - first, last // PAGE_SIZE < address(copy, size) // PAGE_SIZE) == (size - 1, True)

    def test_the_last_byte_of_a_file_has_a_frame(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        copy = Iotlb(2048)
        domain.set_map(0, table((0, PAGE_SIZE, memory(phys, pages=1), 0)), copy)
        data = domain.frame(address(copy, 0) + PAGE_SIZE - 1, write=True)
        assert data is not None
        assert (data[1] % PAGE_SIZE, domain.ident) == (PAGE_SIZE - 1, "d.files")

    def test_where_nothing_is_mapped_is_nothing(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        copy = Iotlb(2048)
        domain.set_map(0, table((0, PAGE_SIZE, memory(phys), 0)), copy)
        behind = address(copy, 0) + PAGE_SIZE
        for addr in (0, behind, 1 << 62):
            assert (domain.read(addr, 4), domain.write(addr, b"x"), domain.frame(addr, write=True)) == (b"", 0, None)
            assert domain.extents(addr, 4) == []

    def test_the_next_map_takes_the_place_however_often(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        ram, copy = memory(phys), Iotlb(2048)
        for page in range(8):
            domain.set_map(0, table((0, PAGE_SIZE, ram, page * PAGE_SIZE), (1 << 62, 1 << 62, ram, 0)), copy)
            assert domain.read(address(copy, 0), 4) == f"ram{page}".encode()
            assert domain.read(address(copy, (1 << 62) + PAGE_SIZE), 4) == b"ram1", "addresses do not run out"

    def test_address_spaces_are_mapped_apart(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        one, other = Iotlb(2048), Iotlb(2048)
        domain.set_map(0, table((0, PAGE_SIZE, memory(phys, "a"), 0)), one)
        domain.set_map(1, table((0, PAGE_SIZE, memory(phys, "b"), 0)), other)
        domain.set_map(0, table((0, PAGE_SIZE, memory(phys, "c"), 0)), one)
        assert (domain.read(address(one, 0), 2), domain.read(address(other, 0), 2)) == (b"c0", b"b0")
        domain.clear(1, other)
        assert len(other) == 0
        domain.set_map(2, table((0, PAGE_SIZE, memory(phys, "d"), 0)), other)
        assert (domain.read(address(one, 0), 2), domain.read(address(other, 0), 2)) == (b"c0", b"d0")

    def test_a_byte_keeps_its_place_in_the_page(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        ram, copy = memory(phys), Iotlb(2048)
        domain.set_map(0, table((0x1234, 0x100, ram, 0x2234)), copy)
        assert address(copy, 0x1234) % PAGE_SIZE == 0x234

    def test_an_offset_that_no_file_has_is_left_out(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        ram, copy = memory(phys), Iotlb(2048)
        wrapped = (1 << 64) - PAGE_SIZE  # of an entry that begins in a hole below its mapping
        end = FILE_SIZE_MAX - 0x1000
        entries = (0, 0x1000, ram, wrapped), (0x1000, 0x1000, ram, end), (0x2000, 0x1000, ram, end + 0x1000)
        domain.set_map(0, table(*entries), copy)
        assert [entry.start for entry in copy] == [0x1000]
        assert domain.read(address(copy, 0x1000), 4) == b"", "a mapping, and no file there"


class TestReferences:
    def test_it_holds_what_it_has_mapped(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        ram, copy = memory(phys), Iotlb(2048)
        domain.set_map(0, table((0, PAGE_SIZE, ram, 0), (PAGE_SIZE, PAGE_SIZE, ram, 0)), copy)
        assert ram.refs == 3
        ram.put()  # the last one of the program
        assert domain.read(address(copy, 0), 4) == b"ram0"
        domain.clear(0, copy)
        assert (ram.refs, phys.statistics().folios) == (0, 0)

    def test_the_files_of_the_map_before_go(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        a, b, copy = memory(phys, "a"), memory(phys, "b"), Iotlb(2048)
        domain.set_map(0, table((0, PAGE_SIZE, a, 0)), copy)
        domain.set_map(0, table((0, PAGE_SIZE, b, 0)), copy)
        assert (a.refs, b.refs) == (1, 2)

    def test_a_map_that_does_not_fit_leaves_none(self, domain: IovaDomain, phys: PhysicalMemory) -> None:
        ram, copy = memory(phys), Iotlb(1, enforce_limit=True)
        domain.set_map(0, table((0, PAGE_SIZE, ram, 0)), copy)
        with pytest.raises(KernelError):
            domain.set_map(0, table(*((page << 13, PAGE_SIZE, ram, 0) for page in range(2))), copy)
        assert (ram.refs, len(copy), domain.read(PAGE_SIZE, 1)) == (1, 0, b"")


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20000)), min_size=1, max_size=8),
    st.integers(0, 40000), st.integers(1, 6000),
)  # fmt: skip
def test_what_a_device_reads_through_its_map_is_what_the_files_hold(
    sizes: list[tuple[int, int]], iova: int, length: int
) -> None:
    phys, domain, copy = PhysicalMemory(), IovaDomain("d.files"), Iotlb(2048)
    ram = memory(phys, pages=8)
    entries: list[tuple[int, int, Memory, int]] = []
    flat = b""
    for size, offset in sizes:
        entries.append((len(flat), size, ram, offset))
        flat += ram.read(offset, size).ljust(size, b"\0")
    domain.set_map(0, table(*entries), copy)
    got = b""
    for _, addr, size in copy.translate(iova, length, 1).pieces:
        got += domain.read(addr, size).ljust(size, b"\0")
    assert got == flat[iova : iova + length]


# -- a device


def disk(kernel: str = "6.12", **how: Any) -> tuple[Board, Queue]:
    board = Board(BY_FILE, kernel, **how)
    return board, board.queues[0]


def ask(board: Board) -> int:
    """Post a GET_ID request; its head."""
    header = board.readable(0, (8).to_bytes(16, "little"))
    return board.queues[0].post(header, board.writable(0x1000, 21))


def answered(board: Board) -> bool:
    """Whether the answer is in RAM, as the process that looks sees it."""
    return board.ram.read(BUFFERS + 0x1000, 21) == ID + b"\0"


def behind(board: Board) -> Memory:
    """The object the board's RAM is."""
    vma = next(board.process.mm.vmas(board.ram.addr))
    assert isinstance(vma.file, Memory)
    return vma.file


@pytest.mark.parametrize("watched", [False, True])
def test_a_device_serves_its_queue(watched: bool) -> None:
    board, queue = disk()
    if watched:
        board.sim.listen(lambda event: None)
    head = ask(board)
    queue.kick()
    assert (queue.used(), queue.interrupts(), answered(board)) == ([Used(head, 21)], 1, True)


def test_where_the_owner_has_its_memory_is_nothing_to_it() -> None:
    board, queue = disk()
    to = board.process.mremap(board.ram.addr, RAM, RAM, to=0x6000_0000_0000)
    board.ram = queue.ring.region = Region(board.process, to, RAM)
    head = ask(board)
    queue.kick()
    assert (queue.used(), answered(board)) == ([Used(head, 21)], True)


def test_nor_is_the_owners_end() -> None:
    board, queue = disk()
    child = board.process.fork("child")
    head = ask(board)
    board.process.exit_nowait()
    board.ram = queue.ring.region = Region(child, board.ram.addr, RAM)
    inside(board).kick_vq(0)
    board.sim.run_idle()
    assert (queue.used(), answered(board)) == ([Used(head, 21)], True)


def test_an_access_is_told_by_its_file() -> None:
    board, queue = disk()
    heard: list[Event] = []
    board.sim.listen(heard.append)
    ask(board)
    queue.kick()
    rows = [as_dict(event) for event in heard]
    places = {(row["target"], row["place"][0].object) for row in rows if row["kind"] == Kind.DMA}
    assert places == {("file", behind(board).name)}
    assert [row["mm"] for row in rows if row["kind"] == Kind.SPACE] == [None], "it works in nobody's address space"


def test_a_file_cut_short_is_no_memory_for_it() -> None:
    board, queue = disk()
    ask(board)
    behind(board).truncate(BUFFERS + 0x1000)
    with rules_hit() as hit:
        queue.kick()
    assert "vringh.copy" in hit
    assert queue.interrupts() == 0


def test_a_reset_that_cleans_the_map_gives_the_files_back() -> None:
    board, queue = disk()
    before = behind(board).refs
    inside(board).reset(clean_map=True)
    assert behind(board).refs == before - 1
    assert len(inside(board).maps[0].table) == 0
    ask(board)
    queue.kick()
    assert queue.used() == []


@pytest.mark.parametrize(("within", "offset"), [(0, 0), (1, 0), (0, 2), (1, 2)])
def test_an_entry_knows_where_in_its_file_it_begins(within: int, offset: int) -> None:
    board, _ = disk()
    file = board.process.memfd("far", 8 * PAGE_SIZE)
    region = board.process.mmap(4 * PAGE_SIZE, file, offset=offset * PAGE_SIZE)
    region.write(within * PAGE_SIZE, b"here")
    board.update(IOVA + RAM, PAGE_SIZE, region.addr + within * PAGE_SIZE)
    ((entry, addr, _),) = inside(board).maps[0].table.translate(IOVA + RAM, 4, 1).pieces
    view = inside(board).memory
    assert view is not None
    assert (view.read(addr, 4), entry.perm) == (b"here", 3)
    assert view.extents(addr, 4) == [Extent("vmm/far", (within + offset) * PAGE_SIZE, 4)]


def test_an_entry_that_begins_in_a_hole_has_no_place_in_the_file() -> None:
    board, _ = disk()
    file = board.process.memfd("far", PAGE_SIZE)
    above = board.process.mmap(PAGE_SIZE, file, addr=0x5000_0000)
    board.update(IOVA + RAM, 2 * PAGE_SIZE, above.addr - PAGE_SIZE)
    opened = board.device.node.opened
    assert opened is not None
    *_, entry = opened.spaces.tables[0]
    assert (entry.start, entry.opaque.offset) == (IOVA + RAM, (1 << 64) - PAGE_SIZE)
    assert len(inside(board).maps[0].table) == 1, "the daemon could not map it"


@pytest.mark.parametrize("perm", [1, 2])
def test_a_permission_is_that_of_the_entry(perm: int) -> None:
    board, queue = disk()
    file = board.process.memfd("data", PAGE_SIZE)
    region = board.process.mmap(PAGE_SIZE, file)
    board.update(IOVA + RAM, PAGE_SIZE, region.addr, perm=perm)
    header = board.readable(0, (8).to_bytes(16, "little"))
    queue.post(header, Buffer(IOVA + RAM, 20, writable=True), board.writable(0x1000, 1))
    queue.kick()
    assert region.read(0, 20) == (bytes(20) if perm == 1 else ID)


def test_private_memory_is_no_file() -> None:
    board, _ = disk()
    private = board.process.mmap(PAGE_SIZE)
    board.update(IOVA + RAM, PAGE_SIZE, private.addr)
    assert len(inside(board).maps[0].table) == 1, "skipped, as for every device with user addresses"


def test_on_an_old_kernel_it_pins() -> None:
    board, queue = disk("6.1")
    assert (inside(board).use_va, inside(board).domain) == (False, None)
    head = ask(board)
    queue.kick()
    assert queue.used() == [Used(head, 21)]


def test_a_map_that_the_device_refuses_is_told() -> None:
    board, queue = disk(max_iotlb_entries=2)
    other = board.memory(4 * PAGE_SIZE)
    board.update(0, PAGE_SIZE, other.addr)
    with refused(E.EFAULT, inside=E.ENOSPC):
        board.update(2 * PAGE_SIZE, PAGE_SIZE, other.addr)
    head = ask(board)
    queue.kick()
    assert (queue.used(), answered(board)) == ([Used(head, 21)], True), "it was handed what it had before"
