"""vhost-vdpa+miss, the device kind that no kernel has; docs/vhost-vdpa-miss.md says what is tested here."""

from __future__ import annotations

import contextlib
import io
import re
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from vdpasim.core.events import Event, Kind
from vdpasim.core.uaccess import BytesBuffer
from vdpasim.sim import Simulator, WouldBlock
from vdpasim.uapi import errno as E
from vdpasim.uapi.abi import I386, X86_64
from vdpasim.uapi.fcntl import O_NONBLOCK, O_RDWR, POLLIN, POLLOUT
from vdpasim.uapi.message import Message, decode_message
from vdpasim.vmm.guest import Buffer, Used, Virtqueue
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.transport import NowaitTransport, run_sync

if TYPE_CHECKING:
    from pathlib import Path

    from vdpasim.sim import File

PAGE, IOVA = 4096, 0x100000
READ, WRITE = 1, 2
DESC, AVAIL, USED, HEADER, DATA, STATUS = (IOVA + i * 0x1000 for i in range(6))


class Machine:
    """A running device whose ring has each area, and each buffer, in a page of its own; nothing is mapped."""

    def __init__(self, mgmtdev: str = "vdpasim_blk+miss", *, queue: int = 0, features: int | None = None) -> None:
        self.sim = Simulator(extensions=("vhost-vdpa+miss",))
        self.events: list[Event] = []
        self.path = self.sim.vdpa.dev_add("foo", mgmtdev=mgmtdev).path
        self.process = self.sim.process("vmm")
        self.ram = self.process.mmap(64 * PAGE, self.process.memfd("ram", 64 * PAGE))
        self.file = self.process.open_nowait(self.path)
        self.vdpa = VhostVdpa(NowaitTransport(self.file))
        self.kick, self.call = self.process.eventfd(), self.process.eventfd()
        self.queue = queue
        self.vq = Virtqueue(self.ram, IOVA, 16)
        self.vq.avail_at, self.vq.used_at = AVAIL - IOVA, USED - IOVA
        run_sync(self._start(features))
        self.sim.listen(self.events.append)

    async def _start(self, features: int | None) -> None:
        vdpa = self.vdpa
        await vdpa.set_owner()
        await vdpa.set_features(await vdpa.get_features())
        await vdpa.set_backend_features(await vdpa.get_backend_features() if features is None else features)
        await vdpa.set_vring_num(self.queue, 16)
        await vdpa.set_vring_addr(self.queue, *self.vq.addresses())
        await vdpa.set_vring_kick(self.queue, self.kick.fd)
        await vdpa.set_vring_call(self.queue, self.call.fd)
        await vdpa.set_vring_enable(self.queue)
        await vdpa.set_status(0xF)

    def add_read(self) -> int:
        """One block request: header, 512 bytes, status."""
        return self.vq.add(Buffer(HEADER, 16), Buffer(DATA, 512, True), Buffer(STATUS, 1, True))

    def notify(self) -> None:
        self.kick.write_nowait((1).to_bytes(8, "little"))

    def miss(self) -> tuple[int, int]:
        """The next message: address and permission."""
        message = run_sync(self.vdpa.read_miss())
        assert (message.version, message.size, message.uaddr, message.type) == (2, 0, 0, 1)
        return message.iova, message.perm

    def no_miss(self) -> bool:
        return self.file.poll_nowait(POLLIN) == 0

    def map(self, *pages: int, perm: int = READ | WRITE) -> None:
        for page in pages:
            run_sync(self.vdpa.iotlb_update(page, PAGE, self.ram.addr + page - IOVA, perm))

    def unmap(self, page: int) -> None:
        run_sync(self.vdpa.iotlb_invalidate(page, PAGE))

    def kinds(self, *kinds: Kind) -> list[Kind]:
        return [event[3] for event in self.events if event[3] in kinds]

    def calls(self) -> int:
        return int.from_bytes(self.call.read_nowait(8), "little")


@pytest.fixture
def machine() -> Machine:
    made = Machine()
    made.add_read()
    return made


class TestSwitchedOn:
    def test_only_when_asked_for(self) -> None:
        with pytest.raises(OSError) as caught:
            Simulator().vdpa.dev_add("foo", mgmtdev="vdpasim_blk+miss")
        assert caught.value.errno == E.ENODEV

    def test_nodes_have_a_name_of_their_own(self) -> None:
        sim = Simulator(extensions=("vhost-vdpa+miss",))
        devices = [sim.vdpa.dev_add(name, mgmtdev=f"vdpasim_{name}") for name in ("blk+miss", "blk")]
        assert [device.path for device in devices] == ["/dev/vhost-vdpa+miss-0", "/dev/vhost-vdpa-0"]

    def test_the_kernel_s_own_devices_beside_it_are_unchanged(self) -> None:
        sim = Simulator(extensions=("vhost-vdpa+miss",))
        file = sim.process("vmm").open_nowait(sim.vdpa.dev_add("foo", mgmtdev="vdpasim_blk").path)
        with pytest.raises(OSError) as caught:
            file.read_nowait(72)
        assert (caught.value.errno, file.poll_nowait(POLLIN | POLLOUT)) == (E.EINVAL, POLLIN | POLLOUT)


class TestTheOrderOfMisses:
    def test_is_table_avail_used_then_the_buffers_of_the_chain(self, machine: Machine) -> None:
        machine.notify()
        order = []
        for _ in range(6):
            iova, perm = machine.miss()
            order.append((iova, perm))
            assert machine.no_miss()
            machine.map(iova)
        assert order == [(DESC, READ), (AVAIL, READ), (USED, WRITE), (HEADER, READ), (DATA, WRITE), (STATUS, WRITE)]
        assert (machine.no_miss(), machine.calls()) == (True, 1)
        assert machine.vq.used() == [Used(0, 513)]

    def test_what_is_mapped_beforehand_is_not_asked_for(self, machine: Machine) -> None:
        machine.map(DESC, AVAIL, USED, HEADER, STATUS)
        machine.notify()
        assert machine.miss() == (DATA, WRITE)
        machine.map(DATA)
        assert machine.vq.used() == [Used(0, 513)]

    def test_the_address_is_the_first_byte_that_is_missing(self, machine: Machine) -> None:
        machine.vq.add(Buffer(HEADER + 0x1010, 16), Buffer(STATUS + 0x1FF0, 0x20, True))
        machine.map(DESC, AVAIL, USED, HEADER, DATA, STATUS)
        machine.notify()
        assert machine.vq.used() == [Used(0, 513)]
        assert machine.miss() == (STATUS + 0x1FF0, WRITE)
        machine.map(STATUS + 0x1000)
        assert machine.miss() == (STATUS + 0x2000, WRITE)

    def test_a_kick_of_an_empty_ring_asks_for_the_ring_alone(self) -> None:
        machine = Machine()
        machine.notify()
        for expected in (DESC, AVAIL, USED):
            iova, _ = machine.miss()
            assert iova == expected
            machine.map(iova)
        assert machine.no_miss()


class TestAStoppedQueue:
    def test_has_taken_and_written_nothing(self, machine: Machine) -> None:
        machine.map(DESC, AVAIL, USED, HEADER, DATA)
        machine.ram.write(DATA - IOVA, b"\xee" * 512)
        machine.notify()
        assert machine.miss() == (STATUS, WRITE)
        assert machine.ram.read(DATA - IOVA, 512) == b"\xee" * 512
        assert run_sync(machine.vdpa.get_vring_base(0)) == 0
        assert machine.vq.used() == []

    def test_is_not_merged_with_itself(self, machine: Machine) -> None:
        machine.notify()
        machine.notify()
        assert [machine.miss(), machine.miss(), machine.no_miss()] == [(DESC, READ), (DESC, READ), True]

    def test_one_update_answers_both(self, machine: Machine) -> None:
        machine.notify()
        machine.notify()
        machine.miss()
        machine.miss()
        machine.map(DESC)
        assert machine.kinds(Kind.WAKE) == [Kind.WAKE, Kind.WAKE]
        assert machine.miss() == (AVAIL, READ)
        assert machine.no_miss()

    def test_goes_on_from_where_it_was(self, machine: Machine) -> None:
        machine.add_read()
        machine.map(DESC, AVAIL, USED, HEADER, DATA, STATUS)
        machine.notify()
        machine.unmap(DATA)
        machine.add_read()
        machine.notify()
        assert machine.miss() == (DATA, WRITE)
        machine.map(DATA)
        assert [used.head for used in machine.vq.used()] == [0, 3, 6]

    def test_is_freed_by_a_kick_too(self, machine: Machine) -> None:
        machine.notify()
        machine.map(DESC, AVAIL, USED, HEADER, DATA, STATUS)
        assert machine.vq.used() == []
        machine.notify()
        assert machine.vq.used() == [Used(0, 513)]


class TestAnswers:
    def test_too_early_wake_nobody_and_the_message_stays(self, machine: Machine) -> None:
        machine.notify()
        machine.map(DESC)
        assert machine.kinds(Kind.WAKE) == []
        assert machine.miss() == (DESC, READ)
        assert machine.no_miss()

    def test_beside_the_address_wake_nobody(self, machine: Machine) -> None:
        machine.notify()
        machine.miss()
        machine.map(AVAIL, USED)
        assert machine.kinds(Kind.WAKE) == []
        machine.map(DESC)
        assert machine.kinds(Kind.WAKE) == [Kind.WAKE]

    def test_are_consumed(self, machine: Machine) -> None:
        machine.notify()
        machine.miss()
        machine.map(DESC)
        machine.miss()
        machine.unmap(DESC)
        machine.map(DESC)
        assert machine.kinds(Kind.WAKE) == [Kind.WAKE]

    def test_that_are_too_weak_are_an_error_until_the_next_kick(self, machine: Machine) -> None:
        machine.map(DESC, AVAIL, USED, HEADER, DATA)
        machine.notify()
        assert machine.miss() == (STATUS, WRITE)
        machine.map(STATUS, perm=READ)
        assert machine.kinds(Kind.WAKE) == [Kind.WAKE]
        assert machine.no_miss()
        assert machine.ram.read(STATUS - IOVA, 1) == b"\0"

    def test_of_a_stranger_are_refused(self, machine: Machine) -> None:
        machine.notify()
        other = machine.sim.process("other")
        theirs = VhostVdpa(NowaitTransport(other.receive(machine.file)))
        assert run_sync(theirs.read_miss()).iova == DESC  # to read, nobody asks who owns the device
        with pytest.raises(OSError) as caught:
            run_sync(theirs.iotlb_update(DESC, PAGE, 0x400000))
        assert caught.value.rule == "vdpa.msg.owner"  # type: ignore[attr-defined]
        assert machine.kinds(Kind.WAKE) == []


class TestBatches:
    def test_the_end_of_the_batch_answers(self, machine: Machine) -> None:
        machine.notify()
        assert machine.miss() == (DESC, READ)
        run_sync(machine.vdpa.batch_begin())
        machine.map(DESC, AVAIL, USED, HEADER, DATA, STATUS)
        assert (machine.kinds(Kind.WAKE), machine.vq.used()) == ([], [])
        run_sync(machine.vdpa.batch_end())
        assert machine.kinds(Kind.WAKE) == [Kind.WAKE]
        assert machine.vq.used() == [Used(0, 513)]

    def test_a_batch_that_does_not_cover_the_miss_does_not(self, machine: Machine) -> None:
        machine.notify()
        machine.miss()
        run_sync(machine.vdpa.batch_begin())
        machine.map(AVAIL)
        run_sync(machine.vdpa.batch_end())
        assert machine.kinds(Kind.WAKE) == []


class TestInvalidate:
    def test_wakes_nobody(self, machine: Machine) -> None:
        machine.map(AVAIL)
        machine.notify()
        machine.miss()
        machine.unmap(DESC)
        machine.unmap(AVAIL)
        assert machine.kinds(Kind.WAKE) == []
        machine.map(DESC)
        assert machine.kinds(Kind.WAKE) == [Kind.WAKE]

    def test_what_was_taken_away_is_missed_at_the_next_chain(self, machine: Machine) -> None:
        machine.map(DESC, AVAIL, USED, HEADER, DATA, STATUS)
        machine.notify()
        assert len(machine.vq.used()) == 1
        machine.unmap(USED)
        machine.add_read()
        machine.notify()
        assert machine.miss() == (USED, WRITE)
        machine.map(USED)
        assert len(machine.vq.used()) == 1


class TestReading:
    def test_poll_says_pollin_and_never_more(self, machine: Machine) -> None:
        assert machine.file.poll_nowait(POLLIN | POLLOUT) == 0
        machine.notify()
        assert machine.file.poll_nowait(POLLIN | POLLOUT) == POLLIN
        machine.miss()
        assert machine.no_miss()

    def test_without_a_message_it_would_block(self, machine: Machine) -> None:
        with pytest.raises(WouldBlock, match=r"waits for vhost-vdpa\+miss-0\.wait"):
            machine.file.read_nowait(72)

    def test_without_a_message_it_is_eagain_when_nonblocking(self, machine: Machine) -> None:
        machine.file.open_file.flags |= O_NONBLOCK
        with pytest.raises(BlockingIOError):
            machine.file.read_nowait(72)

    @pytest.mark.parametrize("size", [0, 71])
    def test_a_small_buffer_gets_nothing_and_loses_nothing(self, machine: Machine, size: int) -> None:
        machine.notify()
        assert machine.file.read_nowait(size) == b""
        assert machine.miss() == (DESC, READ)

    def test_a_buffer_that_faults_loses_the_message(self, machine: Machine) -> None:
        machine.notify()
        last = machine.ram.addr + machine.ram.size - 10
        assert machine.file.read_nowait((last, 72)) == 10
        assert machine.no_miss()
        machine.map(DESC)
        assert machine.kinds(Kind.WAKE) == []

    def test_the_format_is_that_of_the_acked_features(self) -> None:
        machine = Machine(features=0)
        machine.notify()
        message = decode_message(X86_64, machine.file.read_nowait(72))
        assert message == Message(1, 0, DESC, 0, 0, READ, 1)

    def test_an_i386_kernel_s_first_format_has_no_hole(self) -> None:
        sim = Simulator(abi="i386", extensions=("vhost-vdpa+miss",))
        process = sim.process("vmm")
        file = process.open_nowait(sim.vdpa.dev_add("foo", mgmtdev="vdpasim_blk+miss").path)
        vdpa = VhostVdpa(NowaitTransport(file), abi=I386, version=1)
        kick = process.eventfd()

        async def start() -> None:
            await vdpa.set_owner()
            await vdpa.set_features(await vdpa.get_features())
            await vdpa.set_vring_num(0, 16)
            await vdpa.set_vring_addr(0, 0x1000, 0x2000, 0x3000)
            await vdpa.set_vring_kick(0, kick.fd)
            await vdpa.set_vring_enable(0)
            await vdpa.set_status(0xF)

        run_sync(start())
        kick.write_nowait((1).to_bytes(8, "little"))
        data = file.read_nowait(72)
        assert len(data) == 68
        assert decode_message(I386, data) == Message(1, 0, 0x1000, 0, 0, READ, 1)


class TestFeatures:
    def test_a_map_that_persists_is_not_offered(self, machine: Machine) -> None:
        assert not run_sync(machine.vdpa.get_backend_features()) >> 8 & 1
        with pytest.raises(OSError) as caught:
            run_sync(machine.vdpa.set_backend_features(1 << 8))
        assert caught.value.rule == "vdpa.backend.persist"  # type: ignore[attr-defined]

    def test_a_failure_of_the_device_s_own_is_no_miss(self, machine: Machine) -> None:
        # an entry whose memory has gone is an error, as on any device
        machine.map(DESC, AVAIL, USED, HEADER, DATA, STATUS)
        machine.process.munmap(machine.ram.addr + HEADER - IOVA, PAGE)
        machine.notify()
        assert machine.no_miss()
        assert [used.length for used in machine.vq.used()] == [0]


class TestClosing:
    def test_does_not_wake_a_reader_and_the_device_stays_open_until_it_ends(self, machine: Machine) -> None:
        kernel = machine.sim.kernel
        opened = machine.file.open_file
        call = kernel.submit(machine.process.task, opened, "read", (BytesBuffer(bytearray(72)),))
        kernel.run()
        machine.file.close_nowait()
        assert not call.done
        with pytest.raises(OSError) as caught:
            machine.process.open_nowait(machine.path)
        assert caught.value.errno == E.EBUSY
        kernel.interrupt(call)
        kernel.run()
        assert call.ret == -E.EINTR
        machine.process.open_nowait(machine.path)

    def test_drops_both_lists_and_the_map(self, machine: Machine) -> None:
        machine.notify()
        machine.notify()
        machine.miss()
        machine.file.close_nowait()
        file = machine.process.open_nowait(machine.path, O_RDWR | O_NONBLOCK)
        with pytest.raises(BlockingIOError):
            file.read_nowait(72)

    def test_a_reset_begins_with_an_empty_map_again_and_no_identity(self, machine: Machine) -> None:
        machine.map(DESC, AVAIL, USED, HEADER, DATA, STATUS)
        run_sync(machine.vdpa.set_status(0))
        device = machine.sim.vdpa.bus.devices["foo"]
        assert [len(one.table) for one in device.maps] == [0] * device.nas  # type: ignore[attr-defined]


async def both_queues(machine: Machine, receive: Virtqueue, kick: File) -> None:
    """Give a network device its RX queue and start it again."""
    vdpa = machine.vdpa
    await vdpa.set_status(0)
    await vdpa.set_features(await vdpa.get_features())
    for queue, vq, fd in ((0, receive, kick.fd), (1, machine.vq, machine.kick.fd)):
        await vdpa.set_vring_num(queue, 16)
        await vdpa.set_vring_addr(queue, *vq.addresses())
        await vdpa.set_vring_kick(queue, fd)
        await vdpa.set_vring_enable(queue)
    await vdpa.set_status(0xF)


class TestNet:
    def test_a_transmit_queue_alone_is_not_looked_at(self) -> None:
        machine = Machine("vdpasim_net+miss", queue=1)
        machine.vq.add(Buffer(HEADER, 12), Buffer(DATA, 60))
        machine.notify()
        assert machine.no_miss()
        assert machine.kinds(Kind.KICK, Kind.MISS) == [Kind.KICK]

    def test_with_both_queues_a_frame_is_looped_back_page_by_page(self) -> None:
        machine = Machine("vdpasim_net+miss", queue=1)
        receive = Virtqueue(machine.ram, IOVA, 16, offset=0x10000)
        kick = machine.process.eventfd()

        run_sync(both_queues(machine, receive, kick))
        frame = b"\xff" * 6 + bytes(6) + b"payload".ljust(48, b".")
        machine.ram.write(HEADER - IOVA, bytes(12))
        machine.ram.write(DATA - IOVA, frame)
        receive.add(Buffer(IOVA + 0x12000, 2048, True))
        machine.vq.add(Buffer(HEADER, 12), Buffer(DATA, 60))
        machine.notify()
        seen = []
        while not machine.no_miss():
            iova, perm = machine.miss()
            seen.append((iova & -PAGE, perm))
            machine.map(iova & -PAGE)
        assert [page for page, _ in seen[:5]] == [DESC, AVAIL, USED, HEADER, DATA]
        assert (IOVA + 0x12000, WRITE) in seen
        assert machine.ram.read(0x12000 + 12, 60) == frame
        assert [used.head for used in machine.vq.used()] == [0]
        assert [used.length for used in receive.used()] == [72]


class TestAMapThatChangesUnderARequest:
    """Between two schedule points of a pass an INVALIDATE takes a page away; nothing may be lost."""

    @staticmethod
    def taken_away(machine: Machine, point: str, page: int) -> None:
        hold = machine.sim.hold(point)
        machine.notify()
        assert hold.unit is not None
        machine.unmap(page)
        hold.release()
        machine.sim.run_idle()

    @pytest.mark.parametrize(
        ("point", "page"),
        [("data", DATA), ("data", STATUS), ("data", HEADER), ("used-element", USED), ("used-index", USED)],
    )
    def test_the_request_is_served_when_the_page_is_back(self, machine: Machine, point: str, page: int) -> None:
        machine.map(DESC, AVAIL, USED, HEADER, DATA, STATUS)
        self.taken_away(machine, f"foo.{point}", page)
        assert machine.miss()[0] // PAGE * PAGE == page
        assert run_sync(machine.vdpa.get_vring_base(0)) == 0, "nothing is consumed"
        machine.map(page)
        assert machine.vq.used() == [Used(0, 513)]
        assert (machine.calls(), run_sync(machine.vdpa.get_vring_base(0))) == (1, 1)

    def test_flags_that_are_gone_do_not_lose_the_interrupt(self, machine: Machine) -> None:
        machine.map(DESC, AVAIL, USED, HEADER, DATA, STATUS)
        self.taken_away(machine, "foo.signal", AVAIL)
        assert machine.vq.used() == [Used(0, 513)]
        assert machine.calls() == 1
        assert machine.miss() == (AVAIL, READ)

    @pytest.mark.parametrize(
        ("point", "passed", "page", "queue"),
        [
            ("data", 1, DATA, 1),
            ("used-element", 1, USED, 1),
            ("used-index", 1, USED, 1),
            ("used-element", 2, STATUS, 0),
            ("used-index", 2, STATUS, 0),
        ],
    )
    def test_a_frame_or_its_buffer_is_not_lost(self, point: str, passed: int, page: int, queue: int) -> None:
        wire = Machine("vdpasim_net+miss", queue=1)
        rx = Virtqueue(wire.ram, IOVA, 16, offset=5 * PAGE)
        rx.used_at = STATUS - IOVA + 0x800
        run_sync(both_queues(wire, rx, wire.process.eventfd()))
        wire.map(DESC, AVAIL, USED, HEADER, DATA, STATUS)
        wire.ram.write(DATA - IOVA, bytes(12) + b"\xff" * 52)
        wire.vq.add(Buffer(DATA, 64))
        rx.add(Buffer(HEADER, 128, True))
        hold = wire.sim.hold(f"foo.{point}")
        wire.notify()
        for _ in range(passed - 1):
            hold, old = wire.sim.hold(f"foo.{point}"), hold
            old.release()
            wire.sim.run_idle()
        assert hold.unit is not None
        wire.unmap(page)
        hold.release()
        wire.sim.run_idle()
        before = [run_sync(wire.vdpa.get_vring_base(index)) for index in (0, 1)]
        assert before == [0, 0 if queue else 1]
        wire.miss()
        wire.map(page)
        if not queue:  # TX was done with the frame, so it takes another one
            wire.vq.add(Buffer(DATA, 64))
            wire.notify()
        assert rx.used() == [Used(0, 64)]


class TestInTrio:
    async def test_a_reader_is_woken_by_the_miss(self, machine: Machine) -> None:
        got: list[Message] = []

        async def read() -> None:
            got.append(await VhostVdpa(machine.file).read_miss())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert got == []
            await machine.kick.write((1).to_bytes(8, "little"))
        assert [message.iova for message in got] == [DESC]

    async def test_a_cancelled_reader_takes_no_message(self, machine: Machine) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.file.read, 72)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        machine.notify()
        assert machine.miss() == (DESC, READ)


def test_the_example_of_the_page_prints_what_the_page_says(root: Path) -> None:
    page = (root / "docs" / "vhost-vdpa-miss.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    printed = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert code is not None
    assert printed is not None
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code[1], "docs/vhost-vdpa-miss.md", "exec"), {"__name__": "example"})
    assert out.getvalue() == printed[1]
