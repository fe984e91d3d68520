"""The floor of real descriptors, on what every Linux has: eventfd, memfd, mappings, poll, limits."""

from __future__ import annotations

import errno
import os
import resource
import select
from typing import TYPE_CHECKING

import pytest

from vdpasim.conform.floor import ARGUMENT_SIZE, Floor, Interrupted, Unsupported
from vdpasim.conform.live import OWN_FDS, LiveFloor, high

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = 4096
AT = 0x2A00_0000_0000
"""Where these tests map things: no address of the interpreter's slots, nor one the C library takes."""


@pytest.fixture
def floor() -> Iterator[LiveFloor]:
    made = LiveFloor({})
    yield made
    for number in made.numbers.values():
        with_suppressed_close(number)
    made.munmap(AT, 64 * PAGE)


def with_suppressed_close(number: int) -> None:
    try:
        os.close(number)
    except OSError as error:
        assert error.errno == errno.EBADF


def refused(error: pytest.ExceptionInfo[OSError]) -> str:
    return errno.errorcode[error.value.errno or 0]


def test_is_a_floor(floor: LiveFloor) -> None:
    checked: Floor = floor
    assert all(callable(getattr(checked, name)) for name in vars(Floor) if not name.startswith("_"))


class TestDescriptors:
    def test_an_eventfd_counts(self, floor: LiveFloor) -> None:
        floor.eventfd("e", 2)
        assert floor.eventfd_write("e", 3) == 8
        assert floor.eventfd_read("e", 0) == 5

    def test_an_empty_eventfd_does_not_block(self, floor: LiveFloor) -> None:
        floor.eventfd("e", 0)
        with pytest.raises(BlockingIOError):
            floor.eventfd_read("e", 1)

    def test_poll_says_what_is_there(self, floor: LiveFloor) -> None:
        floor.eventfd("e", 0)
        assert floor.poll("e", select.POLLIN, 0) == 0
        floor.eventfd_write("e", 1)
        assert floor.poll("e", select.POLLIN | select.POLLOUT, 0) == select.POLLIN | select.POLLOUT

    def test_a_closed_number_stays_closed(self, floor: LiveFloor) -> None:
        floor.eventfd("e", 0)
        floor.close("e")
        floor.buf("shm", PAGE, AT)
        with pytest.raises(OSError) as error:
            floor.eventfd_write("e", 1)
        assert refused(error) == "EBADF"

    def test_descriptors_of_our_own_lie_high(self) -> None:
        source, sink = map(high, os.pipe())
        try:
            assert min(source, sink) >= OWN_FDS
            assert not os.get_inheritable(source)
        finally:
            os.close(source)
            os.close(sink)

    def test_dup_is_the_same_open_file(self, floor: LiveFloor) -> None:
        floor.eventfd("e", 0)
        floor.dup("f", "e")
        floor.eventfd_write("e", 1)
        assert floor.eventfd_read("f", 0) == 1

    def test_a_path_can_be_opened_and_written_to(self, floor: LiveFloor, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"")
        floor.open("f", "", str(path), "rw")
        assert floor.write("f", b"ab") == 2
        assert floor.writev("f", [b"c", b"de"]) == 3
        assert path.read_bytes() == b"abcde"

    def test_a_mode_is_the_one_asked_for(self, floor: LiveFloor, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"abc")
        floor.open("f", "", str(path), "ro")
        assert floor.read("f", 2) == b"ab"
        with pytest.raises(OSError) as error:
            floor.write("f", b"x")
        assert refused(error) == "EBADF"

    def test_a_device_is_opened_by_its_kind(self) -> None:
        floor = LiveFloor({"vhost-net": os.devnull})
        floor.open("dev", "vhost-net", "", "rw")
        assert floor.read("dev", 8) == b""
        floor.close("dev")

    def test_a_read_that_blocks_is_ended_by_a_signal(self, floor: LiveFloor, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        floor.open("f", "", str(tmp_path / "fifo"), "rw")
        with pytest.raises(Interrupted):
            floor.read("f", 1)

    def test_an_unknown_ioctl_is_enotty(self, floor: LiveFloor) -> None:
        floor.eventfd("e", 0)
        with pytest.raises(OSError) as error:
            floor.ioctl("e", 0xAF01, 0)
        assert refused(error) == "ENOTTY"

    def test_a_socket_is_a_socket(self, floor: LiveFloor) -> None:
        floor.socket("s", 1, 1)
        assert floor.poll("s", select.POLLOUT | select.POLLHUP, 0) & select.POLLHUP


class TestMemory:
    @pytest.mark.parametrize("kind", ["anon", "shm"])
    def test_buffers_hold_what_is_stored(self, floor: LiveFloor, kind: str) -> None:
        floor.buf(kind, 2 * PAGE, AT)
        floor.poke(AT + PAGE - 1, b"ab")
        assert floor.peek(AT + PAGE - 2, 4) == b"\0ab\0"

    @pytest.mark.parametrize("kind", ["ro", "roshm"])
    def test_read_only_buffers_can_be_read(self, floor: LiveFloor, kind: str) -> None:
        floor.buf(kind, PAGE, AT)
        assert floor.peek(AT, 1) == b"\0"
        with pytest.raises(OSError) as error:
            floor.poke(AT, b"x")
        assert refused(error) == "EFAULT"

    @pytest.mark.parametrize("kind", ["none", "hole"])
    def test_nothing_can_be_read_where_nothing_is(self, floor: LiveFloor, kind: str) -> None:
        floor.buf(kind, PAGE, AT)
        with pytest.raises(OSError) as error:
            floor.peek(AT, 1)
        assert refused(error) == "EFAULT"

    def test_the_second_half_of_an_edge_is_missing(self, floor: LiveFloor) -> None:
        floor.buf("edge", 2 * PAGE, AT)
        assert floor.peek(AT + PAGE - 1, 1) == b"\0"
        for call in (lambda: floor.peek(AT + PAGE - 1, 2), lambda: floor.poke(AT + PAGE - 1, b"ab")):
            with pytest.raises(OSError) as error:
                call()
            assert refused(error) == "EFAULT"

    def test_every_page_of_a_frag_is_the_same(self, floor: LiveFloor) -> None:
        floor.buf("frag", 4 * PAGE, AT)
        floor.poke(AT + 5, b"x")
        assert [floor.peek(AT + 5 + n * PAGE, 1) for n in range(4)] == [b"x"] * 4

    def test_an_unknown_kind_is_refused(self, floor: LiveFloor) -> None:
        with pytest.raises(Unsupported):
            floor.buf("gold", PAGE, AT)

    def test_a_buffer_does_not_replace_what_is_there(self, floor: LiveFloor) -> None:
        floor.buf("anon", PAGE, AT)
        with pytest.raises(FileExistsError):
            floor.buf("anon", PAGE, AT)

    def test_the_argument_buffer_is_filled_up(self, floor: LiveFloor) -> None:
        addr = floor.argument(b"\1\2")
        assert floor.peek(addr, 4) == b"\1\2\xaa\xaa"
        assert floor.peek(addr + ARGUMENT_SIZE - 1, 1) == b"\xaa"
        assert floor.argument(b"") == addr
        assert floor.peek(addr, 2) == b"\xaa\xaa"

    def test_mappings_of_a_memfd_share_it(self, floor: LiveFloor) -> None:
        floor.memfd("m", 2 * PAGE, hugetlb=False)
        floor.map(AT, PAGE, 3, "shared", "m", PAGE)
        floor.poke(AT, b"new")
        assert floor.pread("m", PAGE, 3) == b"new"
        floor.map(AT, PAGE, 3, "private", "m", PAGE)
        floor.poke(AT, b"own")
        assert floor.pread("m", PAGE, 3) == b"new"
        floor.map(AT, PAGE, 3, "anon", "", 0)
        assert floor.peek(AT, 3) == bytes(3)

    def test_mappings_can_be_moved_protected_and_removed(self, floor: LiveFloor) -> None:
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

    def test_a_file_can_shrink_and_have_holes(self, floor: LiveFloor) -> None:
        floor.memfd("m", 2 * PAGE, hugetlb=False)
        assert floor.pwrite("m", 0, b"abc") == 3
        floor.punch_hole("m", 0, PAGE)
        assert floor.pread("m", 0, 3) == bytes(3)
        floor.ftruncate("m", 1)
        assert floor.pread("m", 0, 3) == b"\0"

    def test_a_device_without_mmap_is_enodev(self, floor: LiveFloor) -> None:
        floor.eventfd("e", 0)
        with pytest.raises(OSError) as error:
            floor.mmap("e", PAGE, 1, 1, 0)
        assert refused(error) == "ENODEV"

    def test_wait_u16_returns_what_it_saw(self, floor: LiveFloor) -> None:
        floor.buf("anon", PAGE, AT)
        floor.poke(AT, b"\2\1")
        assert floor.wait_u16(AT, 0x102, 1000) == 0x102
        assert floor.wait_u16(AT, 3, 1) == 0x102

    def test_nothing_is_pinned_here(self, floor: LiveFloor) -> None:
        assert floor.vmpin() == 0


def test_the_memlock_limit_can_be_lowered(floor: LiveFloor) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        floor.rlimit_memlock(4096, hard)
        assert resource.getrlimit(resource.RLIMIT_MEMLOCK) == (4096, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))


class TestWhatItCannotDo:
    def test_is_said(self, floor: LiveFloor) -> None:
        for call in (floor.mm_holder, floor.mm_holder_kill, floor.recreate_device):
            with pytest.raises(Unsupported):
                call()

    def test_recreating_runs_the_command_it_was_given(self, tmp_path: Path) -> None:
        LiveFloor({}, f"touch {tmp_path}/done").recreate_device()
        assert (tmp_path / "done").exists()
