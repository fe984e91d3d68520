"""Eventfds, descriptors and limits of a real process."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from vdpasim.attach.live import EVENTFD_MAX, LiveEventFd, LiveTask, Loop
from vdpasim.attach.procfs import AttachError
from vdpasim.core.events import Kind
from vdpasim.core.rules import KernelError
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attach.conftest import Machine, RealProgram
    from vdpasim.core.fs.file import OpenFile


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def eventfd(loop: Loop, init: int = 0) -> LiveEventFd:
    return LiveEventFd(os.eventfd(init, os.EFD_NONBLOCK), loop)


class Heard:
    """A watcher that counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


class TestLoop:
    def test_a_write_is_heard_once(self, loop: Loop) -> None:
        kick, heard = eventfd(loop), Heard()
        kick.watch(heard)
        os.eventfd_write(kick.fd, 1)
        assert (loop.poll(10), heard.times) == (1, 1)
        assert (loop.poll(), heard.times) == (0, 1)
        kick.put()

    def test_the_counter_is_never_read(self, loop: Loop) -> None:
        kick, heard = eventfd(loop), Heard()
        kick.watch(heard)
        for expected in (1, 2, 3):
            os.eventfd_write(kick.fd, 1)
            assert (loop.poll(10), heard.times, kick.count) == (1, expected, expected)
        kick.put()

    def test_writes_between_two_polls_are_one(self, loop: Loop) -> None:
        kick, heard = eventfd(loop), Heard()
        kick.watch(heard)
        os.eventfd_write(kick.fd, 1)
        os.eventfd_write(kick.fd, 1)
        assert (loop.poll(10), heard.times) == (1, 1)
        kick.put()

    def test_an_eventfd_that_is_readable_when_watched_is_not_an_edge(self, loop: Loop) -> None:
        kick, heard = eventfd(loop, 5), Heard()
        kick.watch(heard)
        assert (loop.poll(), heard.times) == (0, 0)
        os.eventfd_write(kick.fd, 1)
        assert (loop.poll(10), heard.times) == (1, 1)
        kick.put()

    def test_watching_a_second_one_does_not_lose_the_write_to_the_first(self, loop: Loop) -> None:
        first, second, heard = eventfd(loop), eventfd(loop, 1), Heard()
        first.watch(heard)
        os.eventfd_write(first.fd, 1)
        second.watch(Heard())
        assert (loop.poll(), heard.times) == (1, 1)
        first.put()
        second.put()

    def test_who_stops_watching_hears_nothing(self, loop: Loop) -> None:
        kick, one, other = eventfd(loop), Heard(), Heard()
        kick.watch(one)
        kick.watch(other)
        kick.unwatch(one)
        os.eventfd_write(kick.fd, 1)
        loop.poll(10)
        kick.unwatch(other)
        os.eventfd_write(kick.fd, 1)
        assert (loop.poll(), one.times, other.times) == (0, 0, 1)
        kick.put()

    def test_a_write_heard_of_before_the_watch_ended_calls_nobody(self, loop: Loop) -> None:
        kick, second, heard = eventfd(loop), eventfd(loop), Heard()
        kick.watch(heard)
        os.eventfd_write(kick.fd, 1)
        second.watch(Heard())
        kick.unwatch(heard)
        assert (loop.poll(), heard.times) == (0, 0)
        kick.put()
        second.put()


class TestEventFd:
    def test_a_signal_adds_one(self, loop: Loop) -> None:
        call = eventfd(loop, 3)
        call.signal()
        assert call.count == 4
        assert os.eventfd_read(call.fd) == 4
        call.put()

    def test_a_full_counter_stays_and_nobody_waits(self, loop: Loop) -> None:
        call = LiveEventFd(os.eventfd(0), loop)
        os.eventfd_write(call.fd, EVENTFD_MAX)
        call.signal()
        assert call.count == EVENTFD_MAX
        call.put()

    def test_the_last_reference_closes_the_duplicate(self, loop: Loop) -> None:
        call = eventfd(loop)
        call.get()
        call.put()
        assert call.count == 0
        call.put()
        with pytest.raises(OSError) as refused:
            os.fstat(call.fd)
        assert refused.value.errno == E.EBADF


class TestFiles:
    def test_an_eventfd_of_the_program_is_the_same_counter(self, machine: Machine, program: RealProgram) -> None:
        kick = machine.task.files.eventfd(program.at["kick"])
        program.do("kick")
        assert kick.count == 1
        kick.put()

    def test_a_kick_of_the_program_is_heard(self, machine: Machine, program: RealProgram) -> None:
        kick, heard = machine.task.files.eventfd(program.at["kick"]), Heard()
        kick.watch(heard)
        program.do("kick")
        assert (machine.loop.poll(10), heard.times) == (1, 1)
        kick.put()

    @pytest.mark.parametrize("fd", [-2, 4321])
    def test_a_closed_number_is_ebadf(self, machine: Machine, fd: int) -> None:
        with pytest.raises(KernelError) as refused:
            machine.task.files.eventfd(fd)
        assert (refused.value.errno, refused.value.rule) == (E.EBADF, "eventfd.bad-fd")
        assert machine.task.files.get(fd) is None

    @pytest.mark.parametrize("name", ["ram", "pipe"])
    def test_another_file_is_einval(self, machine: Machine, program: RealProgram, name: str) -> None:
        with pytest.raises(KernelError) as refused:
            machine.task.files.eventfd(program.at[name])
        assert (refused.value.errno, refused.value.rule) == (E.EINVAL, "eventfd.not-eventfd")

    def test_other_descriptors_are_refused_loudly(self, machine: Machine, program: RealProgram) -> None:
        with pytest.raises(KernelError) as refused:
            machine.task.files.get(program.at["pipe"])
        assert (refused.value.errno, refused.value.rule) == (E.EOPNOTSUPP, "attach.descriptor")
        assert [event[3] for event in machine.events] == [Kind.UNMODELLED]

    def test_close_on_exec_is_refused_loudly(self, machine: Machine) -> None:
        with pytest.raises(KernelError) as refused:
            machine.task.files.set_cloexec_of(cast("OpenFile", None), True)
        assert refused.value.rule == "attach.descriptor"

    def test_nothing_is_left_open(self, machine: Machine, program: RealProgram) -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        machine.task.files.eventfd(program.at["kick"]).put()
        with pytest.raises(KernelError):
            machine.task.files.eventfd(program.at["ram"])
        with pytest.raises(KernelError):
            machine.task.files.get(program.at["ram"])
        assert len(list(Path("/proc/self/fd").iterdir())) == before


class TestLimits:
    def test_memlock_is_asked_anew_every_time(self, machine: Machine, program: RealProgram) -> None:
        _, hard = resource.prlimit(program.pid, resource.RLIMIT_MEMLOCK)
        resource.prlimit(program.pid, resource.RLIMIT_MEMLOCK, (65536, hard))
        assert machine.task.limits.memlock == 65536
        resource.prlimit(program.pid, resource.RLIMIT_MEMLOCK, (0, hard))
        assert machine.task.limits.memlock == 0

    def test_capabilities_are_those_of_the_process(self, machine: Machine) -> None:
        found = re.search(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
        assert found is not None
        effective = int(found[1], 16)
        assert [machine.task.limits.capable(cap) for cap in (14, 62)] == [bool(effective >> 14 & 1), False]


class TestTask:
    def test_it_is_alive_until_it_ends(self, machine: Machine, program: RealProgram) -> None:
        assert machine.task.alive
        program.kill()
        assert not machine.task.alive

    def test_after_exec_it_has_another_address_space(self, machine: Machine, program: RealProgram) -> None:
        old = machine.task.mm
        program.do("exec")
        machine.task.exec_seen()
        assert (old.ident, machine.task.mm.ident) == ("mm:vmm-0", "mm:vmm-1")
        assert (machine.task.alive, old.alive, machine.task.mm.alive) == (True, False, True)
        old.close()

    def test_a_process_that_is_not_there_cannot_be_attached(self, machine: Machine) -> None:
        with pytest.raises(AttachError, match="No such file"):
            LiveTask.attach(machine.kernel, 4194999, "ghost", machine.pages, machine.loop)
