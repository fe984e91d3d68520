"""What a handle talks to: the simulator, or a real descriptor."""

from __future__ import annotations

import mmap
import os
import sys
import termios
from typing import TYPE_CHECKING

import pytest

from vdpasim.sim import Simulator, UsageError
from vdpasim.uapi import errno as E
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.transport import FdTransport, Transport, run_sync

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from vdpasim.sim import File

    def judged_by_the_type_checkers(file: File, fd: FdTransport) -> list[Transport]:
        return [file, fd]


@pytest.fixture
def pipe() -> Iterator[tuple[FdTransport, FdTransport]]:
    reading, writing = os.pipe()
    yield FdTransport(reading), FdTransport(writing)
    os.close(reading)
    os.close(writing)


class TestARealDescriptor:
    def test_writes_and_reads(self, pipe: tuple[FdTransport, FdTransport]) -> None:
        assert run_sync(pipe[1].write(b"seven..")) == 7
        assert run_sync(pipe[0].read(4)) == b"seve"

    def test_gives_an_ioctl_s_bytes_back_changed(self, pipe: tuple[FdTransport, FdTransport]) -> None:
        run_sync(pipe[1].write(b"12345"))
        given = bytes(4)
        waiting = run_sync(pipe[0].ioctl(termios.FIONREAD, given))
        assert int.from_bytes(waiting, sys.byteorder) == 5
        assert given == bytes(4)

    def test_changes_a_bytearray_in_place(self, pipe: tuple[FdTransport, FdTransport]) -> None:
        run_sync(pipe[1].write(b"12345"))
        given = bytearray(4)
        assert run_sync(pipe[0].ioctl(termios.FIONREAD, given)) == 0
        assert int.from_bytes(given, sys.byteorder) == 5

    def test_takes_arguments_longer_than_python_copies(self, pipe: tuple[FdTransport, FdTransport]) -> None:
        run_sync(pipe[1].write(b"123"))
        waiting = run_sync(pipe[0].ioctl(termios.FIONREAD, bytes(5000)))
        assert (len(waiting), waiting[0 if sys.byteorder == "little" else 3]) == (5000, 3)

    def test_takes_no_argument(self, pipe: tuple[FdTransport, FdTransport]) -> None:
        assert run_sync(pipe[0].ioctl(termios.FIOCLEX)) == 0
        assert not os.get_inheritable(pipe[0].fd)

    def test_refuses_as_the_kernel_does(self, pipe: tuple[FdTransport, FdTransport]) -> None:
        with pytest.raises(OSError) as caught:
            run_sync(VhostVdpa(pipe[0]).get_features())
        assert caught.value.errno == E.ENOTTY

    @pytest.mark.skipif(sys.platform != "linux", reason="memfds are Linux's")
    def test_maps(self) -> None:
        fd = os.memfd_create("page")
        os.ftruncate(fd, 4096)
        found = run_sync(FdTransport(fd).mmap(4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED))
        found[:5] = b"there"
        assert os.pread(fd, 5, 0) == b"there"
        found.close()
        os.close(fd)

    @pytest.mark.skipif(sys.platform != "linux", reason="eventfds are Linux's")
    def test_may_be_an_eventfd(self) -> None:
        fd = os.eventfd(2)
        file = FdTransport(fd)
        assert run_sync(file.write((5).to_bytes(8, sys.byteorder))) == 8
        assert int.from_bytes(run_sync(file.read(8)), sys.byteorder) == 7
        os.close(fd)


class TestRunSync:
    def test_a_result_comes_back(self) -> None:
        async def steps() -> int:
            return 4

        assert run_sync(steps()) == 4

    def test_an_error_comes_back(self) -> None:
        async def steps() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            run_sync(steps())

    def test_a_coroutine_that_suspends_is_refused_and_cleaned_up(self) -> None:
        cleaned: list[str] = []

        class Suspend:
            def __await__(self) -> Generator[None, None, None]:
                yield

        async def steps() -> None:
            try:
                await Suspend()
            finally:
                cleaned.append("up")

        with pytest.raises(RuntimeError, match="run this handle as an actor or a trio task"):
            run_sync(steps())
        assert cleaned == ["up"]

    def test_a_simulated_file_is_not_for_it(self) -> None:
        sim = Simulator()
        sim.vdpa.dev_add("foo", mgmtdev="vdpasim_net")
        file = sim.process("vmm").open_nowait("/dev/vhost-vdpa-0")
        with pytest.raises(UsageError, match="_nowait"):
            run_sync(VhostVdpa(file).get_device_id())
