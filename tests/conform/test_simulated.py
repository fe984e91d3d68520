"""The floor of the simulator: what the recorder's machine had, buffers, processes, time."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.conform.cases import Case, Setting
from vdpasim.conform.floor import ARGUMENT_SIZE, Answer, Floor, Interrupted, Unsupported
from vdpasim.conform.simulated import DATA_AT, DEVICES, SHARED_AT, SimulatedFloor
from vdpasim.uapi.vhost import VHOST_GET_BACKEND_FEATURES, VHOST_SET_OWNER, VHOST_VDPA_GET_DEVICE_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[..., dict[str, Any]]
    Make = Callable[..., Case]

PAGE = 4096
AT = 0x1000_0000_0000


@pytest.fixture
def floor(case: Make) -> SimulatedFloor:
    return SimulatedFloor(case(), Setting("6.12", use_va=False))


def nothing() -> Answer:
    return Answer({})


def refused(error: pytest.ExceptionInfo[OSError]) -> str:
    return errno.errorcode[error.value.errno or 0]


def test_is_a_floor(floor: SimulatedFloor) -> None:
    checked: Floor = floor
    assert all(callable(getattr(checked, name)) for name in vars(Floor) if not name.startswith("_"))


class TestMachine:
    @pytest.mark.parametrize(
        ("kind", "node", "number"),
        [
            ("vhost-vdpa-net", "/dev/vhost-vdpa-0", 1),
            ("vhost-vdpa-blk", "/dev/vhost-vdpa-1", 2),
            ("vhost-vdpa-net-mac", "/dev/vhost-vdpa-2", 1),
        ],
    )
    def test_has_the_recorders_devices(self, floor: SimulatedFloor, kind: str, node: str, number: int) -> None:
        floor.open("dev", kind, "", "rw")
        addr = floor.argument(b"")
        assert floor.ioctl("dev", VHOST_VDPA_GET_DEVICE_ID.request(), addr) == 0
        assert floor.peek(addr, 8) == number.to_bytes(4, "little") + b"\xaa" * 4
        with pytest.raises(OSError) as error:
            floor.open("again", "", node, "rw")
        assert refused(error) == "EBUSY"

    def test_has_vhost_net(self, floor: SimulatedFloor) -> None:
        floor.open("dev", "vhost-net", "", "rw")
        assert floor.ioctl("dev", VHOST_SET_OWNER.request(), 0) == 0

    def test_has_the_mode_of_the_setting(self, case: Make) -> None:
        offered = []
        for use_va in (False, True):
            floor = SimulatedFloor(case(), Setting("6.12+live-update-v1", use_va=use_va))
            floor.open("dev", "vhost-vdpa-net", "", "rw")
            addr = floor.argument(b"")
            floor.ioctl("dev", VHOST_GET_BACKEND_FEATURES.request(), addr)
            offered.append(int.from_bytes(floor.peek(addr, 8), "little"))
        assert offered == [0x37E, 0x77E]

    def test_has_only_the_recorders_mappings_above_the_buffers(self, floor: SimulatedFloor) -> None:
        vmas = list(floor.proc.mm.vmas(AT))
        assert [(vma.start, vma.shared) for vma in vmas[:2]] == [(DATA_AT, False), (SHARED_AT, True)]
        assert len(vmas) == 3
        assert not vmas[2].shared

    def test_a_device_can_be_made_anew(self, case: Make) -> None:
        floor = SimulatedFloor(case(dev="vhost-vdpa-blk"), Setting("6.12", use_va=False))
        before = floor.sim.vdpa.bus.devices[DEVICES["vhost-vdpa-blk"][0]]
        floor.recreate_device()
        assert floor.sim.vdpa.bus.devices[DEVICES["vhost-vdpa-blk"][0]] is not before
        floor.open("dev", "vhost-vdpa-blk", "", "rw")

    def test_recreating_vhost_net_is_nothing(self, case: Make) -> None:
        floor = SimulatedFloor(case(dev="vhost-net"), Setting("6.12", use_va=False))
        before = dict(floor.sim.vdpa.bus.devices)
        floor.recreate_device()
        assert floor.sim.vdpa.bus.devices == before


class TestBuffers:
    @pytest.mark.parametrize("kind", ["anon", "shm", "huge", "frag"])
    def test_hold_what_is_stored(self, floor: SimulatedFloor, kind: str) -> None:
        floor.buf(kind, 2 << 20, AT)
        floor.poke(AT + PAGE - 1, b"ab")
        assert floor.peek(AT + PAGE - 1, 2)[:1] == b"a"

    def test_frag_is_one_page_again_and_again(self, floor: SimulatedFloor) -> None:
        floor.buf("frag", 4 * PAGE, AT)
        floor.poke(AT + 5, b"x")
        assert [floor.peek(AT + 5 + n * PAGE, 1) for n in range(4)] == [b"x"] * 4

    @pytest.mark.parametrize("kind", ["ro", "roshm"])
    def test_read_only_ones_cannot_be_written(self, floor: SimulatedFloor, kind: str) -> None:
        floor.buf(kind, PAGE, AT)
        assert floor.peek(AT, 1) == b"\0"
        with pytest.raises(OSError) as error:
            floor.poke(AT, b"x")
        assert refused(error) == "EFAULT"

    @pytest.mark.parametrize("kind", ["none", "hole"])
    def test_of_nothing_cannot_be_read(self, floor: SimulatedFloor, kind: str) -> None:
        floor.buf(kind, PAGE, AT)
        with pytest.raises(OSError) as error:
            floor.peek(AT, 1)
        assert refused(error) == "EFAULT"

    def test_edge_ends_in_the_middle(self, floor: SimulatedFloor) -> None:
        floor.buf("edge", 2 * PAGE, AT)
        assert floor.peek(AT + PAGE - 1, 1) == b"\0"
        with pytest.raises(OSError):
            floor.peek(AT + PAGE - 1, 2)

    def test_of_an_unknown_kind_are_refused(self, floor: SimulatedFloor) -> None:
        with pytest.raises(Unsupported):
            floor.buf("gold", PAGE, AT)

    def test_the_argument_buffer_is_filled_up(self, floor: SimulatedFloor) -> None:
        addr = floor.argument(b"\1\2")
        assert floor.peek(addr, 4) == b"\1\2\xaa\xaa"
        assert floor.peek(addr + ARGUMENT_SIZE - 1, 1) == b"\xaa"

    def test_a_memfd_is_seen_through_every_mapping(self, floor: SimulatedFloor) -> None:
        floor.memfd("m", 2 * PAGE, hugetlb=False)
        floor.map(AT, PAGE, 3, "shared", "m", PAGE)
        floor.poke(AT, b"new")
        assert floor.pread("m", PAGE, 3) == b"new"
        floor.map(AT, PAGE, 3, "private", "m", PAGE)
        floor.poke(AT, b"own")
        assert floor.pread("m", PAGE, 3) == b"new"
        floor.pwrite("m", 0, b"abc")
        floor.punch_hole("m", 0, PAGE)
        assert floor.pread("m", 0, 3) == bytes(3)
        floor.ftruncate("m", 1)
        assert floor.pread("m", 0, 3) == b"\0"

    def test_mappings_can_be_moved_protected_and_removed(self, floor: SimulatedFloor) -> None:
        floor.map(AT, PAGE, 3, "shanon", "", 0)
        floor.poke(AT, b"x")
        floor.mremap(AT, PAGE, PAGE, AT + 8 * PAGE)
        assert floor.peek(AT + 8 * PAGE, 1) == b"x"
        floor.mprotect(AT + 8 * PAGE, PAGE, 1)
        with pytest.raises(OSError):
            floor.poke(AT + 8 * PAGE, b"y")
        floor.munmap(AT + 8 * PAGE, PAGE)
        with pytest.raises(OSError) as error:
            floor.mprotect(AT + 8 * PAGE, PAGE, 3)
        assert refused(error) == "ENOMEM"


class TestFiles:
    def test_an_eventfd_counts(self, floor: SimulatedFloor) -> None:
        floor.eventfd("e", 2)
        assert floor.eventfd_write("e", 3) == 8
        assert floor.poll("e", 5, 0) == 5
        assert floor.eventfd_read("e", 0) == 5
        with pytest.raises(BlockingIOError):
            floor.eventfd_read("e", 10)

    def test_a_closed_name_is_ebadf_and_keeps_its_number(self, floor: SimulatedFloor) -> None:
        floor.eventfd("e", 0)
        number = floor.number("e")
        floor.close("e")
        assert floor.number("e") == number
        with pytest.raises(OSError) as error:
            floor.eventfd_write("e", 1)
        assert refused(error) == "EBADF"

    def test_dup_is_the_same_open_file(self, floor: SimulatedFloor) -> None:
        floor.eventfd("e", 0)
        floor.dup("f", "e")
        floor.eventfd_write("e", 1)
        assert floor.eventfd_read("f", 0) == 1
        assert floor.number("e") != floor.number("f")

    def test_a_blocking_read_is_interrupted_after_virtual_time(self, floor: SimulatedFloor) -> None:
        floor.open("dev", "vhost-net", "", "rw")
        addr = floor.argument((1 << 33).to_bytes(8, "little"))
        floor.ioctl("dev", VHOST_SET_OWNER.request(), 0)
        floor.ioctl("dev", 0x4008AF00, addr)
        before = floor.sim.kernel.now
        with pytest.raises(Interrupted):
            floor.read("dev", 72)
        assert floor.sim.kernel.now - before == 400_000_000

    def test_the_sockets_of_the_recorder_are_there(self, floor: SimulatedFloor) -> None:
        floor.tap("tap", "tap0", 0x4000)
        floor.tun_unattached("tun")
        floor.packet_socket("pk", "tap0", 0)
        floor.socket("sk", 1, 1)
        floor.open("null", "", "/dev/null", "rw")
        assert len({floor.number(name) for name in ("tap", "tun", "pk", "sk", "null")}) == 5

    def test_the_regular_file_is_shared_only_when_it_can_be_written(self, floor: SimulatedFloor) -> None:
        for name, flags in (("reader", "ro"), ("writer", "rw")):
            floor.open(name, "", "/init", flags)
        floor.map(AT, PAGE, 1, "shared", "reader", 0)
        floor.map(AT + 16 * PAGE, PAGE, 1, "shared", "writer", 0)
        vmas = {vma.start: vma for vma in floor.proc.mm.vmas(AT)}
        assert (vmas[AT].shared, vmas[AT + 16 * PAGE].shared) == (False, True)
        with pytest.raises(OSError) as error:
            floor.map(AT, PAGE, 3, "shared", "reader", 0)
        assert refused(error) == "EACCES"

    def test_only_files_with_memory_can_be_mapped_and_cut(self, floor: SimulatedFloor) -> None:
        floor.eventfd("e", 0)
        with pytest.raises(OSError) as error:
            floor.map(AT, PAGE, 3, "shared", "e", 0)
        assert refused(error) == "ENODEV"
        with pytest.raises(OSError) as error:
            floor.ftruncate("e", 0)
        assert refused(error) == "EINVAL"

    def test_the_kernels_refusals_are_os_errors(self, floor: SimulatedFloor) -> None:
        floor.memfd("m", PAGE, hugetlb=False)
        for refusal in (
            lambda: floor.ftruncate("m", -1),
            lambda: floor.punch_hole("m", 0, 0),
            lambda: floor.pread("m", -1, 1),
            lambda: floor.pwrite("m", -1, b"x"),
        ):
            with pytest.raises(OSError) as error:
                refusal()
            assert refused(error) == "EINVAL"


class TestProcesses:
    def test_a_child_shares_files_but_not_memory(self, floor: SimulatedFloor) -> None:
        floor.eventfd("e", 0)
        floor.buf("anon", PAGE, AT)

        def act() -> Answer:
            floor.poke(AT, b"x")
            floor.eventfd_write("e", 2)
            floor.eventfd("mine", 0)
            return Answer({"ret": 7})

        assert floor.child(act, stay=False) == Answer({"ret": 7})
        assert floor.peek(AT, 1) == b"\0"
        assert floor.eventfd_read("e", 0) == 2
        with pytest.raises(KeyError):
            floor.number("mine")

    def test_a_child_that_stays_keeps_its_address_space(self, floor: SimulatedFloor) -> None:
        floor.child(nothing, stay=True)
        child = floor._stays[-1]
        assert child.mm.alive
        mm = child.mm
        floor.stay_kill()
        assert not mm.alive

    def test_exec_keeps_descriptors_and_loses_memory(self, floor: SimulatedFloor) -> None:
        floor.memfd("m", PAGE, hugetlb=False)
        floor.eventfd("e", 0)
        floor.buf("anon", PAGE, AT)
        floor.pwrite("m", 0, b"ab")
        old = floor.proc.mm
        floor.exec(["e"], None, 0)  # type: ignore[arg-type]
        assert not old.alive
        assert floor.pread("m", 0, 2) == b"ab"
        assert floor.argument(b"") == DATA_AT
        for call in (lambda: floor.eventfd_write("e", 1), lambda: floor.peek(AT, 1)):
            with pytest.raises(OSError):
                call()

    def test_a_holder_keeps_the_old_memory_alive(self, floor: SimulatedFloor) -> None:
        floor.mm_holder()
        old = floor.proc.mm
        floor.exec([], None, 0)  # type: ignore[arg-type]
        assert old.alive
        floor.mm_holder_kill()
        assert not old.alive

    @pytest.mark.parametrize("parent", ["exit", "wait"])
    def test_an_heir_does_the_rest(self, floor: SimulatedFloor, parent: str) -> None:
        floor.eventfd("e", 1)
        floor.buf("anon", PAGE, AT)
        floor.poke(AT, b"x")
        old = floor.proc.mm
        floor.handover(parent, ["e"] if parent == "wait" else [])
        assert floor.proc.mm is not old
        assert old.alive is (parent == "wait")
        assert floor.eventfd_read("e", 0) == 1
        assert floor.peek(AT, 1) == b"x"

    def test_limits_are_the_processs(self, floor: SimulatedFloor) -> None:
        floor.rlimit_memlock(4096, 8192)
        assert floor.proc.limits.memlock == 4096
        assert floor.proc.limits.capable(14)
        floor.dropcap(14)
        assert not floor.proc.limits.capable(14)
        assert floor.vmpin() == 0


class TestTime:
    def test_is_virtual(self, floor: SimulatedFloor) -> None:
        before = floor.sim.kernel.now
        floor.sleep(60)
        assert floor.sim.kernel.now - before == 60_000_000

    def test_wait_u16_gives_up_after_its_timeout(self, floor: SimulatedFloor) -> None:
        floor.buf("anon", PAGE, AT)
        floor.poke(AT, b"\2\1")
        assert floor.wait_u16(AT, 0x102, 1000) == 0x102
        before = floor.sim.kernel.now
        assert floor.wait_u16(AT, 3, 5) == 0x102
        assert floor.sim.kernel.now - before == 5_000_000
