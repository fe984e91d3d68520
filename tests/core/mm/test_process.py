"""Tasks and descriptor tables: fork, exec, exit, and who the owner is afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.core.rules import KernelError
from vdpasim.sim import Process, Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi.fcntl import O_CLOEXEC, O_RDWR
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.transport import NowaitTransport, run_sync

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from vdpasim.sim import File


def handle(file: File) -> VhostVdpa:
    return VhostVdpa(NowaitTransport(file))


def refusal(steps: Coroutine[Any, Any, Any]) -> tuple[int | None, int, str]:
    with pytest.raises(OSError) as caught:
        run_sync(steps)
    error = caught.value
    return error.errno, error.handler_errno, error.rule  # type: ignore[attr-defined]


@pytest.fixture
def sim() -> Simulator:
    made = Simulator()
    made.vdpa.dev_add("foo", mgmtdev="vdpasim_blk")
    return made


@pytest.fixture
def process(sim: Simulator) -> Process:
    return sim.process("vmm")


@pytest.fixture
def device(process: Process) -> File:
    """The vDPA device, opened and owned by the process."""
    file = process.open_nowait("/dev/vhost-vdpa-0")
    run_sync(handle(file).set_owner())
    return file


class TestFileTable:
    def test_numbers_begin_behind_the_standard_streams_and_fill_gaps(self, process: Process) -> None:
        files = [process.eventfd() for _ in range(3)]
        assert [file.fd for file in files] == [3, 4, 5]
        files[1].close_nowait()
        assert process.eventfd().fd == 4
        assert process.eventfd().fd == 6

    def test_a_number_can_be_asked_for(self, process: Process) -> None:
        file = process.eventfd()
        assert process.dup(file, at=900).fd == 900
        assert process.eventfd().fd == 4

    def test_an_eventfd_is_found_with_a_reference(self, process: Process) -> None:
        file = process.eventfd()
        ctx = process.task.files.eventfd(file.fd)
        assert ctx.refs == 2

    @pytest.mark.parametrize("fd", [-5, 0, 77])
    def test_a_closed_number_is_ebadf(self, process: Process, fd: int) -> None:
        with pytest.raises(KernelError) as caught:
            process.task.files.eventfd(fd)
        assert (caught.value.errno, caught.value.rule) == (E.EBADF, "eventfd.bad-fd")
        assert process.task.files.get(fd) is None
        assert process.task.files.remove(fd) is None

    def test_another_file_is_no_eventfd(self, process: Process) -> None:
        file = process.memfd("ram", 4096)
        with pytest.raises(KernelError) as caught:
            process.task.files.eventfd(file.fd)
        assert (caught.value.errno, caught.value.rule) == (E.EINVAL, "eventfd.not-eventfd")


class TestFork:
    def test_the_child_has_the_same_open_files(self, process: Process, device: File) -> None:
        child = process.fork("child")
        assert child.file(device.fd).open_file is device.open_file
        assert device.open_file.refs == 2

    def test_closing_in_the_child_does_not_close_in_the_parent(self, process: Process, device: File) -> None:
        child = process.fork("child")
        child.file(device.fd).close_nowait()
        assert run_sync(handle(device).get_device_id()) == 2

    def test_the_child_is_not_the_owner(self, process: Process, device: File) -> None:
        child = process.fork("child")
        theirs = handle(child.file(device.fd))
        assert refusal(theirs.iotlb_update(0, 4096, 0x1000)) == (E.EFAULT, E.EPERM, "vdpa.msg.owner")

    def test_numbers_taken_later_are_each_one_s_own(self, process: Process) -> None:
        child = process.fork("child")
        assert (process.eventfd().fd, child.eventfd().fd) == (3, 3)
        assert process.file(3).open_file is not child.file(3).open_file

    def test_limits_are_inherited_and_then_separate(self, process: Process) -> None:
        process.limits.memlock = 4096
        child = process.fork("child")
        assert child.limits.memlock == 4096
        child.limits.memlock = 8192
        assert process.limits.memlock == 4096

    def test_close_on_exec_is_copied(self, process: Process) -> None:
        file = process.eventfd()
        process.set_cloexec(file.fd, True)
        assert process.fork("child").task.files.slots[file.fd].cloexec


class TestExec:
    def test_the_address_space_is_a_new_one_and_the_old_one_dies(self, process: Process) -> None:
        old = process.mm
        process.exec_nowait()
        assert process.mm is not old
        assert (old.alive, process.mm.alive) == (False, True)

    def test_descriptors_stay_but_those_marked(self, process: Process) -> None:
        kept, marked = process.eventfd(), process.eventfd()
        process.set_cloexec(marked.fd, True)
        process.exec_nowait()
        assert list(process.task.files.slots) == [kept.fd]

    def test_the_new_program_holds_the_file_but_does_not_own_the_device(self, process: Process, device: File) -> None:
        process.exec_nowait()
        assert refusal(handle(device).iotlb_update(0, 4096, 0x1000))[1:] == (E.EPERM, "vdpa.msg.owner")
        assert refusal(handle(device).set_owner())[0] == E.EBUSY

    def test_closing_a_device_by_exec_resets_it(self, sim: Simulator, process: Process) -> None:
        file = process.open_nowait("/dev/vhost-vdpa-0", O_RDWR | O_CLOEXEC)
        run_sync(handle(file).set_owner())
        run_sync(handle(file).set_status(1))
        device = sim.vdpa.bus.devices["foo"]
        assert device.get_status() == 1
        process.exec_nowait()
        assert device.get_status() == 0
        process.open_nowait("/dev/vhost-vdpa-0")

    def test_the_release_finds_the_owner_s_memory_gone(self, sim: Simulator, process: Process) -> None:
        file = process.open_nowait("/dev/vhost-vdpa-0", O_RDWR | O_CLOEXEC)
        run_sync(handle(file).set_owner())
        owner, alive = process.mm, []
        bound = sim.vdpa.bus.devices["foo"]
        reset = type(bound).reset

        def watched(self: Any, *, clean_map: bool) -> None:
            alive.append(owner.alive)
            reset(self, clean_map=clean_map)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(bound), "reset", watched)
            process.exec_nowait()
        assert alive == [False]

    def test_a_holder_of_the_old_address_space_keeps_it_alive(self, process: Process) -> None:
        old = process.mm
        process.clone_vm("helper")
        process.exec_nowait()
        assert old.alive


class TestExit:
    def test_the_address_space_dies_and_every_file_is_closed(
        self, sim: Simulator, process: Process, device: File
    ) -> None:
        run_sync(handle(device).set_status(1))
        owner = process.mm
        process.exit_nowait()
        assert (owner.alive, process.task.alive, process.task.files.slots) == (False, False, {})
        assert sim.vdpa.bus.devices["foo"].get_status() == 0

    def test_a_file_that_somebody_else_has_stays_open(self, sim: Simulator, process: Process, device: File) -> None:
        other = sim.process("other")
        theirs = other.receive(device)
        process.exit_nowait()
        assert run_sync(handle(theirs).get_device_id()) == 2
        assert refusal(handle(theirs).set_owner())[0] == E.EBUSY

    def test_after_the_last_holder_the_device_can_be_opened_again(
        self, sim: Simulator, process: Process, device: File
    ) -> None:
        other = sim.process("other")
        other.receive(device)
        process.exit_nowait()
        other.exit_nowait()
        run_sync(handle(sim.process("third").open_nowait("/dev/vhost-vdpa-0")).set_owner())


def test_a_task_is_printed_by_its_name(process: Process) -> None:
    assert str(process.task) == "vmm"
