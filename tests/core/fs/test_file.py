"""Open files: what every driver inherits from the system-call layer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pytest

from vdpasim.core.fs.file import (
    DEFAULT_POLLMASK,
    FIOCLEX,
    FIONBIO,
    FIONCLEX,
    ClosedFd,
    DriverFile,
    OpenFile,
    unmodelled,
    write_atomic,
)
from vdpasim.core.kernel import Mutex, Sleep, Steps, WaitQueue, Woken
from vdpasim.core.rules import KernelError, fail
from vdpasim.core.uaccess import BytesBuffer, MmBuffer
from vdpasim.sim import Process, Simulator, WouldBlock
from vdpasim.uapi import errno as E
from vdpasim.uapi.fcntl import (
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.core.events import Event
    from vdpasim.core.kernel import Call
    from vdpasim.core.ports import Caller
    from vdpasim.core.uaccess import UserBuffer
    from vdpasim.sim import File


@contextmanager
def refused(errno: int, rule: str) -> Iterator[None]:
    with pytest.raises(OSError) as caught:
        yield
    assert (caught.value.errno, getattr(caught.value, "rule", None)) == (errno, rule)


class Gate(DriverFile):
    """A driver that has every operation: reads sleep until something was written, polls say so."""

    def __init__(self) -> None:
        self.queue = WaitQueue("gate")
        self.poll_queue = self.queue
        self.data = b""
        self.mask = 0
        self.seen: list[tuple[str, object]] = []

    def read(self, call: Call, buffer: UserBuffer, nonblock: bool) -> Steps:
        self.seen.append(("read", nonblock))
        while not self.data:
            if nonblock:
                raise fail("vhost.read.again")
            if (yield Sleep(self.queue, interruptible=True)) is Woken.SIGNAL:
                raise fail("vfs.signal")
        return buffer.poke(0, self.data)

    def write(self, call: Call, buffer: UserBuffer) -> Steps:
        self.data = buffer.peek(0, 100)
        self.mask = POLLIN
        self.queue.wake_up()
        yield from ()
        return len(self.data)

    def ioctl(self, call: Call, request: int, arg: UserBuffer) -> Steps:
        self.seen.append(("ioctl", request))
        yield from ()
        if request == 1:
            return arg.poke(0, b"done")
        if request == 2:
            raise fail("net.backend.not-socket")
        raise KernelError(E.ENOIOCTLCMD, "vhost.ioctl.unknown")

    def poll(self) -> int:
        return self.mask

    def release(self, call: Call) -> Steps:
        self.seen.append(("release", call.name))
        yield from ()
        return 0


class Bare(DriverFile):
    """A driver that has no operation at all."""


@pytest.fixture
def process() -> Process:
    return Simulator().process("vmm")


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def file(process: Process, gate: Gate) -> File:
    return process.install("gate", gate)


class TestModes:
    @pytest.mark.parametrize(("flags", "reads", "writes"), [(O_RDONLY, 1, 0), (O_WRONLY, 0, 1), (O_RDWR, 1, 1)])
    def test_a_file_goes_the_ways_it_was_opened_for(
        self, process: Process, gate: Gate, flags: int, reads: int, writes: int
    ) -> None:
        gate.data = b"x"
        file = process.install("gate", gate, flags)
        if reads:
            assert file.read_nowait(4) == b"x"
        else:
            with refused(E.EBADF, "vfs.bad-mode"):
                file.read_nowait(4)
        if writes:
            assert file.write_nowait(b"y") == 1
        else:
            with refused(E.EBADF, "vfs.bad-mode"):
                file.write_nowait(b"y")

    def test_the_mode_is_looked_at_before_the_buffer(self, process: Process, gate: Gate) -> None:
        file = process.install("gate", gate, O_WRONLY)
        with refused(E.EBADF, "vfs.bad-mode"):
            file.read_nowait((1 << 63, 8))

    def test_a_kernel_address_does_not_reach_the_driver(self, file: File, gate: Gate) -> None:
        with refused(E.EFAULT, "uaccess.range"):
            file.read_nowait((0xFFFF_8000_0000_0000, 8))
        with refused(E.EFAULT, "uaccess.range"):
            file.write_nowait((0x7FFF_FFFF_F000, 1))
        assert gate.seen == []

    def test_an_unmapped_user_address_does(self, file: File, gate: Gate) -> None:
        gate.data = b"abc"
        assert file.read_nowait((0x1000, 8)) == 0
        assert gate.seen == [("read", False)]


class TestADriverWithoutOperations:
    def test_says_what_the_kernel_says_for_it(self, process: Process) -> None:
        file = process.install("bare", Bare())
        with refused(E.EINVAL, "vfs.no-read"):
            file.read_nowait(8)
        with refused(E.EINVAL, "vfs.no-write"):
            file.write_nowait(b"x")
        with refused(E.ENOTTY, "vfs.no-ioctl"):
            file.ioctl_nowait(0x1234)
        with refused(E.ENODEV, "vfs.no-mmap"):
            file.mmap_nowait(4096, 1, 1)
        file.close_nowait()

    def test_has_no_short_way_to_write_either(self) -> None:
        with pytest.raises(KernelError) as caught:
            Bare().write_atomic(cast("Caller", None), b"x")
        assert caught.value.rule == "vfs.no-write"

    def test_is_always_ready(self, process: Process) -> None:
        file = process.install("bare", Bare())
        assert file.poll_nowait(POLLIN | POLLOUT) == POLLIN | POLLOUT
        assert DEFAULT_POLLMASK & (POLLIN | POLLOUT) == POLLIN | POLLOUT

    def test_cannot_be_watched_by_epoll(self, process: Process, file: File) -> None:
        kernel = process.sim.kernel
        calls = [
            kernel.submit(process.task, one.open_file, "epoll_ctl", ()) for one in (process.install("b", Bare()), file)
        ]
        kernel.run()
        assert [(call.ret, call.rule) for call in calls] == [(-E.EPERM, "vfs.no-epoll"), (0, None)]


class TestIoctl:
    def test_no_such_ioctl_is_enotty_outside_and_keeps_its_rule(self, file: File) -> None:
        with refused(E.ENOTTY, "vhost.ioctl.unknown"):
            file.ioctl_nowait(3)

    def test_another_refusal_passes_as_it_is(self, file: File) -> None:
        with refused(E.ENOTSOCK, "net.backend.not-socket"):
            file.ioctl_nowait(2)

    def test_the_request_is_32_bits(self, file: File, gate: Gate) -> None:
        file.ioctl_nowait(0xFFFF_FFFF_0000_0001, bytes(8))
        assert gate.seen == [("ioctl", 1)]

    def test_fionbio_is_the_file_system_s_and_concerns_the_open_file(
        self, process: Process, file: File, gate: Gate
    ) -> None:
        other = process.dup(file)
        file.ioctl_nowait(FIONBIO, (1).to_bytes(4, "little"))
        assert other.open_file.flags & O_NONBLOCK
        with refused(E.EAGAIN, "vhost.read.again"):
            other.read_nowait(8)
        file.ioctl_nowait(FIONBIO, bytes(4))
        assert not other.open_file.flags & O_NONBLOCK
        assert [what for what, _ in gate.seen] == ["read"]

    def test_fionbio_of_a_bad_address_is_efault(self, file: File) -> None:
        with refused(E.EFAULT, "uaccess.from-user"):
            file.ioctl_nowait(FIONBIO, 0x1000)

    def test_fioclex_marks_the_numbers_of_the_file(self, process: Process, file: File) -> None:
        other, foreign = process.dup(file), process.eventfd()
        file.ioctl_nowait(FIOCLEX)
        slots = process.task.files.slots
        assert [slots[one.fd].cloexec for one in (file, other, foreign)] == [True, True, False]
        file.ioctl_nowait(FIONCLEX)
        assert [slots[one.fd].cloexec for one in (file, other)] == [False, False]


class TestPoll:
    def test_a_mask_that_is_there_is_returned_at_once(self, file: File, gate: Gate) -> None:
        gate.mask = POLLIN | POLLOUT
        assert file.poll_nowait(POLLIN) == POLLIN

    def test_hang_up_is_reported_unasked(self, file: File, gate: Gate) -> None:
        gate.mask = POLLHUP | POLLOUT
        assert file.poll_nowait(POLLIN) == POLLHUP

    def test_nothing_is_zero_without_waiting(self, file: File) -> None:
        assert file.poll_nowait(POLLIN) == 0

    def test_it_sleeps_until_the_driver_wakes_it(self, process: Process, file: File) -> None:
        kernel = process.sim.kernel
        call = kernel.submit(process.task, file.open_file, "poll", (POLLIN, None))
        kernel.run()
        assert not call.done
        file.write_nowait(b"x")
        assert (call.done, call.ret) == (True, POLLIN)

    def test_a_wake_up_without_news_is_slept_through(self, process: Process, file: File, gate: Gate) -> None:
        kernel = process.sim.kernel
        call = kernel.submit(process.task, file.open_file, "poll", (POLLIN, 100))
        kernel.run()
        gate.queue.wake_up()
        kernel.run()
        assert not call.done
        process.sim.advance(99)
        assert not call.done
        process.sim.advance(1)
        assert (call.done, call.ret) == (True, 0)

    def test_a_signal_ends_it(self, process: Process, file: File) -> None:
        kernel = process.sim.kernel
        call = kernel.submit(process.task, file.open_file, "poll", (POLLIN, None))
        kernel.run()
        kernel.interrupt(call)
        kernel.run()
        assert (call.ret, call.rule) == (-E.EINTR, "vfs.signal")

    def test_a_file_that_is_released_meanwhile_is_no_file(self, process: Process, file: File, gate: Gate) -> None:
        kernel, opened = process.sim.kernel, file.open_file
        call = kernel.submit(process.task, opened, "poll", (POLLIN, None))
        kernel.run()
        opened.released = True
        gate.queue.wake_up()
        kernel.run()
        assert call.ret == POLLNVAL


class TestTheLastReference:
    def test_close_releases_the_driver_in_the_closing_call(self, file: File, gate: Gate) -> None:
        file.close_nowait()
        assert gate.seen == [("release", "vmm")]

    def test_a_duplicate_keeps_it_open(self, process: Process, file: File, gate: Gate) -> None:
        other = process.dup(file)
        file.close_nowait()
        assert gate.seen == []
        other.close_nowait()
        assert gate.seen == [("release", "vmm")]

    def test_close_of_a_number_that_is_closed_is_ebadf(self, file: File) -> None:
        file.close_nowait()
        with refused(E.EBADF, "vfs.closed"):
            file.close_nowait()
        with refused(E.EBADF, "vfs.closed"):
            file.read_nowait(1)

    def test_close_does_not_end_a_read_and_the_release_waits_for_it(
        self, process: Process, file: File, gate: Gate
    ) -> None:
        kernel = process.sim.kernel
        opened, data = file.open_file, bytearray(8)
        read = kernel.submit(process.task, opened, "read", (BytesBuffer(data),))
        kernel.run()
        file.close_nowait()
        assert (read.done, gate.seen) == (False, [("read", False)])
        gate.data = b"late"
        gate.queue.wake_up()
        kernel.run()
        assert (read.ret, bytes(data), gate.seen[-1]) == (4, b"late\0\0\0\0", ("release", "vmm"))

    def test_a_call_on_a_released_file_is_ebadf(self, process: Process, file: File, gate: Gate) -> None:
        kernel, opened = process.sim.kernel, file.open_file
        file.close_nowait()
        call = kernel.submit(process.task, opened, "write", (BytesBuffer(b"x"),))
        kernel.run()
        assert (call.ret, call.rule, gate.seen) == (-E.EBADF, "vfs.closed", [("release", "vmm")])

    def test_a_number_that_no_file_has_is_a_call_like_any_other(self, process: Process, gate: Gate) -> None:
        kernel = process.sim.kernel
        call = kernel.submit(process.task, ClosedFd(7), "write", (BytesBuffer(b"x"),))
        kernel.run()
        assert (str(call.file), call.ret, call.rule, gate.seen) == ("fd:7", -E.EBADF, "vfs.closed", [])


class TestOpen:
    def test_no_node_is_enoent(self, process: Process) -> None:
        with refused(E.ENOENT, "vfs.no-device"):
            process.open_nowait("/dev/vhost-vdpa-0")

    def test_a_node_s_own_refusal_passes(self, process: Process) -> None:
        process.sim.vdpa.dev_add("foo", mgmtdev="vdpasim_net")
        process.open_nowait("/dev/vhost-vdpa-0")
        with refused(E.EBUSY, "vdpa.open.busy"):
            process.open_nowait("/dev/vhost-vdpa-0")

    def test_flags_are_the_file_s(self, process: Process) -> None:
        file = process.open_nowait("/dev/vhost-net", O_RDWR | O_NONBLOCK)
        assert (file.open_file.nonblock, str(file.open_file)) == (True, "/dev/vhost-net")


class Locked(Gate):
    """A driver with the short way: its write takes a mutex."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.lock = Mutex(process.sim.kernel, "m")
        self.mutex = self.lock
        self.short: list[bytes] = []

    def write_atomic(self, task: Caller, data: bytes) -> int:
        self.short.append(data)
        return 99


class TestTheShortWayOfAWrite:
    """It may be taken only when nobody could tell it from the long one."""

    @pytest.fixture
    def driver(self, process: Process) -> Locked:
        return Locked(process)

    @pytest.fixture
    def opened(self, process: Process, driver: Locked) -> OpenFile:
        return process.install("locked", driver).open_file

    def test_is_taken_when_all_is_quiet(self, process: Process, opened: OpenFile, driver: Locked) -> None:
        assert write_atomic(opened, process.task, b"x") == 99
        assert driver.short == [b"x"]

    def test_not_while_somebody_watches(self, process: Process, opened: OpenFile, driver: Locked) -> None:
        process.sim.listen(list["Event"]().append)
        assert write_atomic(opened, process.task, b"x") is None

    def test_not_while_schedule_points_are_asked_for(self, process: Process, opened: OpenFile) -> None:
        process.sim.kernel.points = True
        assert write_atomic(opened, process.task, b"x") is None

    def test_not_while_anything_is_ready(self, process: Process, opened: OpenFile) -> None:
        process.sim.kernel.submit(process.task, opened, "poll", (POLLIN, 0))
        assert write_atomic(opened, process.task, b"x") is None

    def test_not_while_the_mutex_is_held(self, process: Process, opened: OpenFile, driver: Locked) -> None:
        kernel, queue = process.sim.kernel, WaitQueue("q")

        class Holder(Gate):
            def read(self, call: Call, buffer: UserBuffer, nonblock: bool) -> Steps:
                yield from driver.lock.lock()
                yield Sleep(queue)
                driver.lock.unlock()
                return 0

        kernel.submit(process.task, process.install("h", Holder()).open_file, "read", (BytesBuffer(b""),))
        kernel.run()
        assert write_atomic(opened, process.task, b"x") is None
        queue.wake_up()
        kernel.run()
        assert write_atomic(opened, process.task, b"x") == 99

    def test_not_on_a_file_opened_for_reading_or_released(self, process: Process, driver: Locked) -> None:
        reading = process.install("locked", driver, O_RDONLY)
        assert write_atomic(reading.open_file, process.task, b"x") is None
        opened = reading.open_file
        reading.close_nowait()
        assert write_atomic(opened, process.task, b"x") is None

    def test_not_by_a_driver_without_a_mutex(self, process: Process, file: File) -> None:
        assert write_atomic(file.open_file, process.task, b"x") is None
        assert file.write_nowait(b"long") == 4


def test_what_is_not_modelled_is_said_aloud(process: Process) -> None:
    events: list[Event] = []
    unmodelled(process.sim.kernel, "file", "nobody hears")
    process.sim.listen(events.append)
    unmodelled(process.sim.kernel, "file", "this option")
    assert [event[4:] for event in events] == [("file", "this option")]


def test_a_blocking_read_without_waiting_is_wouldblock_and_leaves_nothing_behind(file: File, gate: Gate) -> None:
    with pytest.raises(WouldBlock, match=r"vmm: read\(gate\) waits for gate"):
        file.read_nowait(8)
    assert (gate.queue.sleepers, file.open_file.refs) == ([], 1)


def test_an_address_argument_is_in_the_caller_s_memory(process: Process, file: File) -> None:
    region = process.mmap(4096)
    assert file.ioctl_nowait(1, region.addr) == 4
    assert region.read(0, 4) == b"done"
    assert isinstance(MmBuffer(process.mm, region.addr).peek(0, 4), bytes)
