"""Stories of a live update, and what diagnosis says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vdpasim.checks.diagnosis import diagnose
from vdpasim.core.events import Event, Kind
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.live_update import LiveUpdate, LiveVmm

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from vdpasim.checks.diagnosis.pattern import Match

SERIES = "6.12+live-update-v1"


def told(story: Callable[[Simulator], Coroutine[Any, Any, None]], kernel: str = SERIES, **options: Any) -> list[Match]:
    """What a story's events show."""
    sim = Simulator(kernel, options=options)
    events: list[Event] = []
    sim.listen(events.append)
    sim.run(story)
    return diagnose(events)


def numbers(story: Callable[[Simulator], Coroutine[Any, Any, None]], kernel: str = SERIES, **options: Any) -> list[int]:
    """The numbers alone, best first."""
    return [one.number for one in told(story, kernel, **options)]


async def boot(sim: Simulator, blocks: int = 3) -> LiveVmm:
    """A VMM whose disk has answered a request."""
    disk = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk")
    vmm = await LiveVmm.boot(sim.process("vmm"), disk.path, blocks=blocks)
    await vmm.write_sector(0, b"words".ljust(512, b"\0"))
    return vmm


async def read(sim: Simulator, vmm: LiveVmm, block: int = 0) -> None:
    """A request that may or may not be answered."""
    vmm.post_into(block, blk.VIRTIO_BLK_T_IN, 0, 512)
    await vmm.kick_device()
    await vmm.call.poll(POLLIN, timeout_ns=1_000_000)
    await sim.settle()


async def update(sim: Simulator, change: Callable[[LiveUpdate], object], block: int = 0, **how: Any) -> LiveVmm:
    """A live update with a change, and a request behind it."""
    plan = LiveUpdate(await boot(sim), **how)
    change(plan)
    vmm = await plan.run()
    await read(sim, vmm, block)
    return vmm


def made(*events: tuple[Any, ...]) -> list[Event]:
    """Events from (unit, kind, fields...), numbered from 1."""
    return [(number, 0, unit, Kind(kind), *fields) for number, (unit, kind, *fields) in enumerate(events, 1)]
