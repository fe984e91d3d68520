"""The small VMM with a vhost-net queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.sim import Simulator
from vdpasim.vmm.blk import IOVA
from vdpasim.vmm.guest import Buffer
from vdpasim.vmm.vhost_net import RX, VhostNetVmm

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any


def play(kernel: str, story: Callable[[Simulator], Coroutine[Any, Any, Any]]) -> Any:
    return Simulator(kernel).run(story)


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.1", "tip"])
def test_a_frame_comes_out_on_the_host_without_its_header(kernel: str) -> None:
    async def story(sim: Simulator) -> list[bytes]:
        vmm = await VhostNetVmm.boot(sim)
        return [await vmm.send(frame) for frame in (b"one", b"two")]

    assert play(kernel, story) == [b"one", b"two"]


def test_a_frame_of_the_host_reaches_the_guest() -> None:
    async def story(sim: Simulator) -> bytes:
        vmm = await VhostNetVmm.boot(sim, queue=RX)
        vmm.ring.add(Buffer(IOVA + 0x8000, 64, writable=True))
        await vmm.wire.write(b"hello")
        await sim.settle()
        (used,) = vmm.ring.used()
        return vmm.ram.read(0x8000, used.length)[10:]

    assert play("tip", story) == b"hello"


def test_a_detached_queue_sends_nothing() -> None:
    async def story(sim: Simulator) -> int:
        vmm = await VhostNetVmm.boot(sim)
        await vmm.detach()
        vmm.post(b"lost")
        await vmm.kick_device()
        await sim.settle()
        return len(vmm.ring.used())

    assert play("tip", story) == 0
