"""Reading what a process shows of itself."""

from __future__ import annotations

import os
import sys

import pytest

from vdpasim.attach.procfs import (
    AttachError,
    fields,
    open_object,
    open_proc,
    parse_maps,
    pidfd_getfd,
    read_whole,
    require_linux,
)
from vdpasim.uapi import errno as E

MAPS = """\
55d0c0a00000-55d0c0a21000 rw-p 00000000 00:00 0                          [heap]
7f10a0000000-7f10a0010000 rw-s 00002000 00:01 1036                       /memfd:my ram (deleted)
7f10a0020000-7f10a0021000 ---p 00000000 00:00 0
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""

SMAPS = """\
7f10a0000000-7f10a0010000 r--s 00000000 00:01 1036                       /memfd:ram (deleted)
Size:                 64 kB
VmFlags: rd mr me ms
7f10a0020000-7f10a0030000 rw-s 00000000 00:05 9                          /dev/mem
VmFlags: rd wr sh mr mw me ms io pf
7f10a0040000-7f10a0050000 rw-s 00000000 00:01 1037                       /memfd:ram (deleted)
VmFlags: rd wr sh mr mw me ms
"""


class TestMaps:
    def test_ranges_are_inclusive(self) -> None:
        heap = parse_maps(MAPS)[0]
        assert (heap.start, heap.last) == (0x55D0C0A00000, 0x55D0C0A20FFF)

    def test_a_path_may_contain_blanks(self) -> None:
        ram = parse_maps(MAPS)[1]
        assert (ram.path, ram.device, ram.inode) == ("/memfd:my ram (deleted)", "00:01", 1036)
        assert (ram.shared, ram.readable, ram.writable, ram.offset) == (True, True, True, 0x2000)

    def test_a_guard_page_is_neither_readable_nor_writable(self) -> None:
        guard = parse_maps(MAPS)[2]
        assert (guard.readable, guard.writable, guard.path) == (False, False, "")

    def test_the_last_page_of_the_address_space_is_understood(self) -> None:
        assert parse_maps(MAPS)[3].last == 0xFFFFFFFFFF600FFF

    def test_smaps_says_that_a_shared_mapping_of_a_read_only_file_is_not_vm_shared(self) -> None:
        assert [mapping.shared for mapping in parse_maps(SMAPS)] == [False, True, True]

    def test_smaps_says_which_mappings_are_no_ordinary_pages(self) -> None:
        assert [mapping.special for mapping in parse_maps(SMAPS)] == [False, True, False]

    def test_nothing_is_nothing(self) -> None:
        assert parse_maps("") == []


class TestOpening:
    def test_another_system_is_refused_by_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(AttachError, match="Linux only, and this is darwin"):
            require_linux()

    def test_a_process_that_is_not_there_is_named(self) -> None:
        with pytest.raises(AttachError, match="/proc/4194999/mem: No such file or directory"):
            open_proc(4194999, "mem", os.O_RDWR)

    def test_a_file_longer_than_one_read_is_read_whole(self) -> None:
        fd = os.memfd_create("long")
        os.write(fd, b"x" * 200_000)
        assert len(read_whole(fd)) == 200_000
        os.close(fd)

    def test_fields_are_names_and_values(self) -> None:
        assert dict(fields("/proc/self/status"))["Pid"] == str(os.getpid())

    def test_no_way_to_the_file_of_a_mapping_is_none(self) -> None:
        mapping = parse_maps(MAPS)[1]._replace(inode=0xFFFFFFFFFFF)
        assert open_object(os.getpid(), mapping) is None


class TestTakingADescriptor:
    def test_the_duplicate_is_the_same_open_file(self) -> None:
        pidfd, (reading, writing) = os.pidfd_open(os.getpid()), os.pipe()
        taken = pidfd_getfd(pidfd, writing)
        os.write(taken, b"same")
        assert os.read(reading, 4) == b"same"
        for fd in (pidfd, reading, writing, taken):
            os.close(fd)

    @pytest.mark.parametrize("fd", [-1, 987654])
    def test_a_closed_number_is_ebadf(self, fd: int) -> None:
        pidfd = os.pidfd_open(os.getpid())
        with pytest.raises(OSError) as refused:
            pidfd_getfd(pidfd, fd)
        os.close(pidfd)
        assert refused.value.errno == E.EBADF
