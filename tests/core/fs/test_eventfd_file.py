"""The file side of an eventfd."""

from __future__ import annotations

import pytest

from vdpasim.core.fs.eventfd_file import EventFdFile
from vdpasim.core.uaccess import BytesBuffer
from vdpasim.sim import File, Process, Simulator, WouldBlock
from vdpasim.uapi import errno as E
from vdpasim.uapi.fcntl import O_NONBLOCK, POLLERR, POLLIN, POLLOUT

MAX = (1 << 64) - 2


def word(value: int) -> bytes:
    return value.to_bytes(8, "little")


@pytest.fixture
def process() -> Process:
    return Simulator().process("vmm")


def ops(file: File) -> EventFdFile:
    found = file.open_file.ops
    assert isinstance(found, EventFdFile)
    return found


def errno_of(call: object, *args: object) -> tuple[int | None, str | None]:
    with pytest.raises(OSError) as caught:
        call(*args)  # type: ignore[operator]
    return caught.value.errno, getattr(caught.value, "rule", None)


class TestNonblocking:
    def test_a_read_takes_everything(self, process: Process) -> None:
        file = process.eventfd(5)
        file.write_nowait(word(2))
        assert file.read_nowait(8) == word(7)
        assert errno_of(file.read_nowait, 8) == (E.EAGAIN, "eventfd.empty")

    def test_a_longer_buffer_gets_eight_bytes(self, process: Process) -> None:
        assert process.eventfd(1).read_nowait(100) == word(1)

    @pytest.mark.parametrize("size", [0, 7])
    def test_a_shorter_one_is_einval_and_takes_nothing(self, process: Process, size: int) -> None:
        file = process.eventfd(1)
        assert errno_of(file.read_nowait, size) == (E.EINVAL, "eventfd.short")
        assert errno_of(file.write_nowait, bytes(size)) == (E.EINVAL, "eventfd.short")
        assert ops(file).ctx.count == 1

    def test_a_write_that_would_overflow_is_eagain(self, process: Process) -> None:
        file = process.eventfd(1)
        assert errno_of(file.write_nowait, word(MAX)) == (E.EAGAIN, "eventfd.full")
        assert file.write_nowait(word(MAX - 1)) == 8
        assert ops(file).ctx.count == MAX

    def test_the_largest_number_is_no_value(self, process: Process) -> None:
        assert errno_of(process.eventfd().write_nowait, word(MAX + 1)) == (E.EINVAL, "eventfd.value")

    def test_a_buffer_that_faults_is_efault_and_the_count_is_gone(self, process: Process) -> None:
        # the counter was taken before the copy
        file = process.eventfd(3)
        assert errno_of(file.read_nowait, (0x1000, 8)) == (E.EFAULT, "uaccess.to-user")
        assert ops(file).ctx.count == 0
        assert errno_of(file.write_nowait, (0x1000, 8)) == (E.EFAULT, "uaccess.from-user")


class TestBlocking:
    def test_a_read_sleeps_until_a_write(self, process: Process) -> None:
        file, kernel = process.eventfd(flags=0), process.sim.kernel
        data = bytearray(8)
        call = kernel.submit(process.task, file.open_file, "read", (BytesBuffer(data),))
        kernel.run()
        assert not call.done
        file.write_nowait(word(4))
        assert (call.ret, bytes(data)) == (8, word(4))

    def test_a_read_sleeps_until_a_driver_signals(self, process: Process) -> None:
        file, kernel = process.eventfd(flags=0), process.sim.kernel
        call = kernel.submit(process.task, file.open_file, "read", (BytesBuffer(bytearray(8)),))
        kernel.run()
        ops(file).ctx.signal()
        kernel.run()
        assert call.ret == 8

    def test_a_write_of_nothing_wakes_nobody_for_good(self, process: Process) -> None:
        file, kernel = process.eventfd(flags=0), process.sim.kernel
        call = kernel.submit(process.task, file.open_file, "read", (BytesBuffer(bytearray(8)),))
        kernel.run()
        file.write_nowait(word(0))
        assert not call.done

    def test_one_count_serves_one_of_two_readers(self, process: Process) -> None:
        file, kernel = process.eventfd(flags=0), process.sim.kernel
        calls = [kernel.submit(process.task, file.open_file, "read", (BytesBuffer(bytearray(8)),)) for _ in range(2)]
        kernel.run()
        file.write_nowait(word(1))
        assert [call.done for call in calls] == [True, False]

    def test_a_write_to_a_full_counter_sleeps_until_a_read(self, process: Process) -> None:
        file, kernel = process.eventfd(MAX, flags=0), process.sim.kernel
        call = kernel.submit(process.task, file.open_file, "write", (BytesBuffer(word(6)),))
        kernel.run()
        assert not call.done
        assert file.read_nowait(8) == word(MAX)
        kernel.run()
        assert (call.ret, ops(file).ctx.count) == (8, 6)

    @pytest.mark.parametrize(("op", "init"), [("read", 0), ("write", MAX)])
    def test_a_signal_ends_the_wait_and_moves_nothing(self, process: Process, op: str, init: int) -> None:
        file, kernel = process.eventfd(init, flags=0), process.sim.kernel
        call = kernel.submit(process.task, file.open_file, op, (BytesBuffer(bytearray(word(1))),))
        kernel.run()
        kernel.interrupt(call)
        kernel.run()
        assert (call.ret, call.rule, ops(file).ctx.count) == (-E.EINTR, "vfs.signal", init)

    def test_without_waiting_it_is_wouldblock(self, process: Process) -> None:
        with pytest.raises(WouldBlock, match="waits for eventfd"):
            process.eventfd(flags=0).read_nowait(8)


class TestPoll:
    @pytest.mark.parametrize(
        ("count", "mask"), [(0, POLLOUT), (1, POLLIN | POLLOUT), (MAX - 1, POLLIN | POLLOUT), (MAX, POLLIN)]
    )
    def test_readable_above_0_and_writable_below_the_maximum(self, process: Process, count: int, mask: int) -> None:
        assert process.eventfd(count).poll_nowait(POLLIN | POLLOUT) == mask

    def test_a_counter_that_drivers_overflowed_is_an_error(self, process: Process) -> None:
        file = process.eventfd(MAX)
        ops(file).ctx.signal()
        assert file.poll_nowait(POLLIN | POLLOUT) == POLLIN | POLLERR


class TestLifetime:
    def test_the_context_outlives_the_file(self, process: Process) -> None:
        file = process.eventfd()
        ctx = process.task.files.eventfd(file.fd)
        file.close_nowait()
        ctx.signal()
        assert ctx.count == 1

    def test_a_closed_file_does_not_listen_any_more(self, process: Process) -> None:
        file = process.eventfd()
        ctx = process.task.files.eventfd(file.fd)
        before = len(ctx.watchers)
        file.close_nowait()
        assert (before, len(ctx.watchers)) == (1, 0)

    def test_nonblocking_is_the_open_file_s(self, process: Process) -> None:
        assert (process.eventfd(flags=O_NONBLOCK).open_file.nonblock, process.eventfd(flags=0).open_file.nonblock) == (
            True,
            False,
        )
