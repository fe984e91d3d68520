"""Files of simulated processes: bytes in, bytes out, OSError with the kernel's errno."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.core.events import Kind
from vdpasim.sim import File, Process, Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi.abi import X86_64
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.message import Message, encode_message
from vdpasim.uapi.vhost import VHOST_GET_FEATURES, VHOST_SET_FEATURES, VHOST_SET_OWNER
from vdpasim.uapi.vhost_types import VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_UPDATE

if TYPE_CHECKING:
    from vdpasim.core.events import Event

GET_FEATURES = VHOST_GET_FEATURES.request(X86_64)
SET_FEATURES = VHOST_SET_FEATURES.request(X86_64)
SET_OWNER = VHOST_SET_OWNER.request(X86_64)


def word(value: int) -> bytes:
    return value.to_bytes(8, "little")


def message(kind: int, *, iova: int = 0, size: int = 4096, uaddr: int = 0, asid: int = 0) -> bytes:
    return encode_message(X86_64, Message(2, asid, iova, size, uaddr, 3, kind))


@pytest.fixture
def process() -> Process:
    sim = Simulator()
    sim.vdpa.dev_add("foo", mgmtdev="vdpasim_blk")
    return sim.process("vmm")


@pytest.fixture
def device(process: Process) -> File:
    return process.open_nowait("/dev/vhost-vdpa-0")


class TestIoctl:
    """The argument is treated as fcntl.ioctl treats it."""

    def test_bytes_are_copied_and_the_changed_copy_returned(self, device: File) -> None:
        given = bytes(8)
        features = device.ioctl_nowait(GET_FEATURES, given)
        assert int.from_bytes(features, "little") >> 32 & 1
        assert given == bytes(8)

    def test_a_bytearray_is_changed_in_place_and_the_number_returned(self, device: File) -> None:
        given = bytearray(8)
        assert device.ioctl_nowait(GET_FEATURES, given) == 0
        assert int.from_bytes(given, "little") >> 32 & 1

    def test_an_int_is_an_address_in_the_process(self, process: Process, device: File) -> None:
        region = process.mmap(4096)
        assert device.ioctl_nowait(GET_FEATURES, region.addr + 8) == 0
        assert region.read(8, 8) == device.ioctl_nowait(GET_FEATURES, bytes(8))

    def test_a_bad_address_is_efault(self, device: File) -> None:
        for bad in (0, 0x1000, 1 << 63, -1):
            with pytest.raises(OSError) as caught:
                device.ioctl_nowait(GET_FEATURES, bad)
            assert (caught.value.errno, caught.value.rule) == (E.EFAULT, "uaccess.to-user")  # type: ignore[attr-defined]

    def test_bytes_that_are_too_few_are_efault(self, device: File) -> None:
        with pytest.raises(OSError) as caught:
            device.ioctl_nowait(SET_FEATURES, bytes(7))
        assert caught.value.errno == E.EFAULT

    def test_no_argument_is_number_0(self, device: File) -> None:
        assert device.ioctl_nowait(SET_OWNER) == 0
        with pytest.raises(OSError) as caught:
            device.ioctl_nowait(SET_OWNER, None)
        assert caught.value.errno == E.EBUSY


class TestWrite:
    def test_the_driver_s_number_comes_back_though_more_was_offered(self, device: File) -> None:
        device.ioctl_nowait(SET_OWNER)
        data = message(VHOST_IOTLB_UPDATE, uaddr=0x400000)
        assert device.write_nowait(data + bytes(40)) == 72
        # it may also be more than was offered: 40 bytes hold a whole message
        assert device.write_nowait(message(VHOST_IOTLB_INVALIDATE)[:40]) == 72

    def test_a_place_in_memory_is_read_there(self, process: Process, device: File) -> None:
        device.ioctl_nowait(SET_OWNER)
        region = process.mmap(4096)
        region.write(16, message(VHOST_IOTLB_UPDATE, uaddr=region.addr))
        assert device.write_nowait((region.addr + 16, 72)) == 72

    @pytest.mark.parametrize("watched", [False, True], ids=["short way", "long way"])
    def test_both_ways_of_a_message_refuse_alike(self, process: Process, device: File, watched: bool) -> None:
        events: list[Event] = []
        if watched:
            process.sim.listen(events.append)
        device.ioctl_nowait(SET_OWNER)
        invalid = [
            (message(VHOST_IOTLB_INVALIDATE, asid=0), (E.EFAULT, "vdpa.msg.asid", E.EINVAL)),
            (b"", (E.EINVAL, "vhost.msg.type-short", E.EINVAL)),
            (b"\x07" * 72, (E.EINVAL, "vhost.msg.type", E.EINVAL)),
            (message(VHOST_IOTLB_UPDATE, size=0), (E.EINVAL, "vhost.msg.update-size", E.EINVAL)),
        ]
        for data, expected in invalid:
            with pytest.raises(OSError) as caught:
                device.write_nowait(data)
            error = caught.value
            assert (error.errno, error.rule, error.handler_errno) == expected  # type: ignore[attr-defined]

    def test_a_vector_is_one_message(self, device: File) -> None:
        device.ioctl_nowait(SET_OWNER)
        data = message(VHOST_IOTLB_UPDATE, uaddr=0x400000)
        assert device.writev_nowait([data[:4], data[4:30], data[30:]]) == 72

    def test_a_vector_of_nothing_does_not_reach_the_driver(self, device: File) -> None:
        assert device.writev_nowait([]) == 0
        assert device.writev_nowait([b"", b""]) == 0
        with pytest.raises(OSError):
            device.write_nowait(b"")

    def test_a_bytearray_and_a_memoryview_are_bytes_too(self, process: Process) -> None:
        file = process.eventfd()
        assert file.write_nowait(bytearray(word(1))) == 8
        assert file.write_nowait(memoryview(word(2))) == 8
        assert file.read_nowait(8) == word(3)


class TestRead:
    def test_a_number_asks_for_bytes(self, process: Process) -> None:
        assert process.eventfd(6).read_nowait(100) == word(6)

    def test_a_place_asks_for_their_number(self, process: Process) -> None:
        region = process.mmap(4096)
        assert process.eventfd(6).read_nowait((region.addr + 4, 8)) == 8
        assert region.read(4, 8) == word(6)


class TestTheAwaitableFaceIsTheSame:
    async def test_for_every_call(self, process: Process) -> None:
        device = await process.open("/dev/vhost-vdpa-0")
        features = await device.ioctl(GET_FEATURES, bytes(8))
        assert features == device.ioctl_nowait(GET_FEATURES, bytes(8))
        assert await device.ioctl(SET_OWNER) == 0
        assert await device.write(message(VHOST_IOTLB_UPDATE, uaddr=0x400000)) == 72
        with pytest.raises(OSError) as caught:
            await device.mmap(4096, 1, 1)
        assert caught.value.rule == "vdpa.mmap.read"  # type: ignore[attr-defined]
        with pytest.raises(OSError) as caught:
            device.mmap_nowait(4096, 1, 1)
        assert caught.value.rule == "vdpa.mmap.read"  # type: ignore[attr-defined]
        await device.aclose()
        with pytest.raises(OSError) as caught:
            await device.poll(POLLIN, 0)
        assert caught.value.errno == E.EBADF

    def test_in_an_actor(self, process: Process) -> None:
        async def main(sim: Simulator) -> tuple[bytes, int]:
            async with await process.open("/dev/vhost-vdpa-0") as device:
                features = await device.ioctl(GET_FEATURES, bytes(8))
                file = process.eventfd(1)
                return features, await file.poll(POLLIN, 0)

        features, mask = process.sim.run(main)
        assert (len(features), mask) == (8, POLLIN)
        assert process.open_nowait("/dev/vhost-vdpa-0").ioctl_nowait(GET_FEATURES, bytes(8)) == features


class TestAClosedNumber:
    CALLS = (
        ("read", 72), ("write", b"x"), ("ioctl", SET_OWNER), ("poll", POLLIN), ("mmap", 4096, 3, 1), ("close",),
    )  # fmt: skip

    @pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0])
    @pytest.mark.parametrize("watched", [True, False])
    def test_is_refused_whatever_is_asked_and_the_trace_says_so(
        self, process: Process, device: File, call: tuple[Any, ...], watched: bool
    ) -> None:
        device.close_nowait()
        heard: list[Event] = []
        if watched:
            process.sim.listen(heard.append)
        name, *args = call
        with pytest.raises(OSError) as caught:
            getattr(device, name + "_nowait")(*args)
        assert (caught.value.errno, caught.value.rule) == (E.EBADF, "vfs.closed")  # type: ignore[attr-defined]
        told = [event[3:] for event in heard]
        assert [row[:3] for row in told] == [(Kind.ENTER, name, "fd:3"), (Kind.EXIT, name, "fd:3")] * watched
        assert [row[3:] for row in told[1:]] == [(-E.EBADF, E.EBADF, "vfs.closed")] * watched

    def test_is_refused_to_an_actor_too_and_stays_free(self, process: Process, device: File) -> None:
        async def main(sim: Simulator) -> File:
            await device.aclose()
            for call in (device.aclose, lambda: device.ioctl(SET_OWNER), lambda: device.mmap(4096, 3, 1)):
                with pytest.raises(OSError, match="Bad file descriptor"):
                    await call()
            return await process.open("/dev/vhost-vdpa-0")

        assert process.sim.run(main).fd == device.fd
        assert device.ioctl_nowait(SET_OWNER) == 0, "the number is that of the new file"


class TestIdentity:
    def test_a_file_prints_process_and_number(self, device: File) -> None:
        assert repr(device) == "<File vmm:3>"

    def test_a_memfd_knows_its_memory(self, process: Process, device: File) -> None:
        memory = process.memfd("ram", 8192).memory
        assert memory is not None
        assert memory.name == "vmm/ram"
        assert device.memory is None

    def test_every_descriptor_of_a_memfd_knows_it(self, process: Process) -> None:
        memfd = process.memfd("ram", 8192)
        others = [process.file(memfd.fd), process.dup(memfd), process.fork("child").file(memfd.fd)]
        assert [other.memory for other in others] == [memfd.memory] * 3

    def test_a_closed_one_knows_nothing(self, process: Process) -> None:
        memfd = process.memfd("ram", 8192)
        memfd.close_nowait()
        with pytest.raises(OSError) as caught:
            _ = memfd.memory
        assert caught.value.errno == E.EBADF
