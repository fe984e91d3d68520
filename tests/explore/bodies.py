"""Small programs that are explored, importable by other processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdpasim.explore import Target
from vdpasim.scenario.loader import load
from vdpasim.vmm.blk import IOVA, BlkVmm
from vdpasim.vmm.vhost_net import VhostNetVmm

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

RACES = Path(__file__).parents[2] / "scenarios" / "races"
PAGE = 4096


def race(name: str) -> Target:
    """A planted race or its fixed twin."""
    path = RACES / f"{name.removesuffix('_fixed')}.py"
    found = load([f"{path}::{name}"])[0]
    return Target.of(found.scenario, found.ident, found.scenario.kernels[-1])


async def two_writers(sim: Simulator) -> Any:
    """Two threads map a page each of one vhost-net device; who was first."""
    with sim.calm():
        vmm = await VhostNetVmm.create(sim)
        await vmm.negotiate()
    order: list[int] = []

    async def one(n: int) -> None:
        await vmm.net.iotlb_update(IOVA + n * PAGE, PAGE, vmm.ram.addr)
        order.append(n)

    actors = [sim.spawn(one, n) for n in range(2)]
    for actor in actors:
        await actor.join()
    return order


async def request_and_suspend(sim: Simulator) -> Any:
    """A request against SUSPEND: whether the device answered before it stood still."""
    with sim.calm():
        vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    vmm.post(0, 0, 512)
    guest = sim.spawn(vmm.kick_device, name="guest")
    await vmm.device.suspend()
    base = await vmm.device.get_vring_base(0)
    await guest.join()
    await sim.settle()
    return base, len(vmm.vq.used())


async def two_devices(sim: Simulator) -> Any:
    """Each of two processes writes a message to a device of its own."""
    answers: list[int] = []
    with sim.calm():
        vmms = []
        for n in range(2):
            path = sim.vdpa.dev_add(f"disk{n}", mgmtdev="vdpasim_blk").path
            vmms.append(await BlkVmm.create(sim.process(f"vmm{n}"), path))
            await vmms[n].device.set_owner()

    async def one(n: int) -> None:
        await vmms[n].device.iotlb_update(IOVA, PAGE, vmms[n].ram.addr)
        answers.append(n)

    actors = [sim.spawn(one, n) for n in range(2)]
    for actor in actors:
        await actor.join()
    return answers


async def lost_order(sim: Simulator) -> None:
    """Fails in the runs in which the second was first."""
    assert await two_writers(sim) != [1, 0], "the second writer was first"


async def three_with_an_idle_one(sim: Simulator) -> None:
    """As :func:`lost_order`, beside an actor that does not matter."""

    async def idle() -> None:
        await sim.sleep(1)
        await sim.sleep(1)

    sim.spawn(idle)
    await lost_order(sim)


# -- under a series of somebody's own

UNBATCHED = '''\
from vdpasim.scenario import scenario
from vdpasim.vmm.live_update import LiveUpdate, LiveVmm


@scenario(kernel="6.12+live-update-v2+lu-advertise")
async def unbatched(sim):
    """Whether the last region is found depends on the series: a push before the store leaves it behind."""
    with sim.calm():
        disk = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk")
        vmm = await LiveVmm.boot(sim.process("vmm"), disk.path, blocks=2)
        await LiveUpdate(vmm, batched=False).run()
'''

AS_POSTED = """\
from vdpasim.core.series.live_update import V2

SERIES = V2.derive("as-posted", "v2, under another name")
"""

MENDED = """\
from vdpasim.core.series.live_update import REMAP_V2, V2
from vdpasim.uapi.vhost_types import VHOST_IOTLB_REMAP

MESSAGES = {VHOST_IOTLB_REMAP: REMAP_V2.moved("push", behind="store")}
SERIES = V2.derive("mended", "v2 with the push behind the store", messages=MESSAGES)
"""


def written(folder: Path) -> tuple[str, str, str]:
    """A story, a series under which it fails, and one under which it does not: files in a folder."""
    texts = {"unbatched.py": UNBATCHED, "as posted.py": AS_POSTED, "mended.py": MENDED}
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    story, *series = (str(folder / name) for name in texts)
    return f"{story}::unbatched", series[0], series[1]
