"""Requests wait for the pass or round that is under way: with schedule points on, nothing comes in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core.support import KICK, Machine
from tests.core.test_switch_effects import RX, TX, loopback
from vdpasim.core.uaccess import BytesBuffer
from vdpasim.sim import File, Simulator
from vdpasim.uapi import vhost
from vdpasim.vmm.guest import Buffer, Virtqueue

if TYPE_CHECKING:
    from vdpasim.core.kernel import Call, Kernel
    from vdpasim.uapi.ioctl import Ioctl

IOVA = 0x10_0000


def submit(file: File, op: str, *args: object) -> Call:
    kernel = file.process.sim.kernel
    return kernel.submit(file.process.task, file.open_file, op, args)


def step(kernel: Kernel, name: str) -> None:
    """One step of the unit of this name."""
    kernel.step(next(i for i, unit in enumerate(kernel.ready) if unit.name == name))


def mid_pass(board: loopback, frames: int = 2) -> Kernel:
    """The worker of a loopback device has taken its first frame and stands before the next."""
    kernel = board.machine.sim.kernel
    board.ram.write(0x8000, bytes(12) + b"\xff" * 52)
    for n in range(frames):
        board.rings[TX].add(Buffer(IOVA + 0x8000, 64))
        board.rings[RX].add(Buffer(IOVA + 0x9000 + 64 * n, 64, writable=True))
    kernel.points = True
    call = submit(board.machine.file, "ioctl", vhost.VHOST_VDPA_GET_VRING_NUM.request(), BytesBuffer(bytearray(2)))
    while not call.done:
        step(kernel, "vmm")
    board.machine.device.device.kick_vq(TX)
    while not board.rings[RX].used():
        step(kernel, "dev.worker")
    return kernel


def finish(kernel: Kernel, call: Call, first: str) -> int:
    """Run, this unit whenever it can; how many steps the worker made before the call ended."""
    worked = 0
    while not call.done:
        names = [unit.name for unit in kernel.ready]
        at = names.index(first) if first in names else 0
        worked += names[at] == "dev.worker"
        kernel.step(at)
    return worked


@pytest.mark.parametrize(
    ("request_", "size"),
    [
        (vhost.VHOST_VDPA_SUSPEND, 0),
        (vhost.VHOST_VDPA_RESUME, 0),
        (vhost.VHOST_VDPA_GET_STATUS, 1),
        (vhost.VHOST_VDPA_SET_STATUS, 1),
        (vhost.VHOST_VDPA_SET_VRING_ENABLE, 8),
    ],
)
def test_a_request_that_takes_the_device_s_lock_waits_for_the_pass(request_: Ioctl, size: int) -> None:
    board = loopback("6.12")
    kernel = mid_pass(board)
    call = submit(board.machine.file, "ioctl", request_.request(), BytesBuffer(bytearray(size)))
    assert finish(kernel, call, "vmm") > 0
    assert call.ret == 0
    assert len(board.rings[RX].used()) == 1, "the second frame was delivered before the request"


def test_one_that_does_not_take_it_goes_between_two_frames() -> None:
    board = loopback("6.12")
    kernel = mid_pass(board)
    call = submit(board.machine.file, "ioctl", vhost.VHOST_VDPA_GET_CONFIG_SIZE.request(), BytesBuffer(bytearray(4)))
    assert finish(kernel, call, "vmm") == 0
    assert not board.rings[RX].used()


def test_close_waits_for_the_pass_and_a_reopen_finds_the_device_free() -> None:
    board = loopback("6.12")
    kernel = mid_pass(board)
    file = board.machine.file
    opened = file.open_file
    file.process.task.files.remove(file.fd)
    call = kernel.submit(file.process.task, opened, "close", ())
    finish(kernel, call, "vmm")
    assert board.machine.device.node.opened is None
    kernel.run()
    board.machine.process.open_nowait(board.machine.path)


@pytest.mark.parametrize("message", [False, True])
def test_vhost_net_holds_messages_and_the_backend_back_while_it_walks_a_ring(message: bool) -> None:
    sim = Simulator("6.12")
    one = Machine("vhost-net")
    sim = one.sim
    kernel = sim.kernel
    ram = one.memory()
    tap, kick = one.process.tap("tap0"), one.process.eventfd()
    wire = sim.process("host").socket("packet-raw", "tap0")
    one.call(vhost.VHOST_SET_MEM_TABLE, 1, 0, ram.addr, 1 << 16, ram.addr, 0, code="IIQQQQ")
    ring = Virtqueue(ram, ram.addr)
    desc, avail, used = ring.addresses()
    one.call(vhost.VHOST_SET_VRING_NUM, TX, 16)
    one.call(vhost.VHOST_SET_VRING_ADDR, TX, 0, desc, used, avail, 0, code="IIQQQQ")
    one.call(vhost.VHOST_SET_VRING_KICK, TX, kick.fd)
    one.call(vhost.VHOST_NET_SET_BACKEND, TX, tap.fd)
    ram.write(0x8000, bytes(10) + b"frame")
    for _ in range(2):
        ring.add(Buffer(ram.addr + 0x8000, 15))
    kernel.points = True
    kick_call = submit(kick, "write", BytesBuffer(KICK))
    while not kick_call.done:
        step(kernel, "vmm")
    while not wire.open_file.ops.inbox:  # type: ignore[attr-defined]
        step(kernel, "vhost-net-0.worker")
    if message:
        call = submit(one.file, "write", BytesBuffer(one_message()))
    else:
        unbind = BytesBuffer(bytearray(TX.to_bytes(4, "little") + b"\xff" * 4))
        call = submit(one.file, "ioctl", vhost.VHOST_NET_SET_BACKEND.request(), unbind)
    while not call.done:
        names = [unit.name for unit in kernel.ready]
        kernel.step(names.index("vmm") if "vmm" in names else 0)
    assert len(wire.open_file.ops.inbox) == 2, "the round went to its end"  # type: ignore[attr-defined]


def one_message() -> bytes:
    """An INVALIDATE, which this device without an IOTLB refuses; what matters is when."""
    return (2).to_bytes(4, "little") + bytes(28) + b"\0\3" + bytes(38)
