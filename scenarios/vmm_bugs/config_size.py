"""The size of the config space taken from the headers the VMM was built with.

Source: no public report; struct virtio_blk_config grew from 72 to 96 bytes in 6.3. A VMM that asks for all of the
structure it knows is refused by a device that has less, and one that knows less never sees the rest.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.handles import VhostVdpa

KERNELS = ("6.1", "6.12", "7.1", "tip")
BUILT_WITH = 96


async def device(sim: Simulator) -> VhostVdpa:
    """A disk that was opened."""
    return VhostVdpa(await sim.process("vmm").open(sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path))


@scenario(kernel={"6.1": "vmm.config-size", "6.12": (), "7.1": (), "tip": ()})
async def config_size(sim: Simulator) -> None:
    """96 bytes, wherever it runs: refused with EINVAL where the device has 72, so it does not start there."""
    disk = await device(sim)
    if sim.kernel.on("blk-zoned"):
        assert len(await disk.get_config(0, BUILT_WITH)) == BUILT_WITH
        return
    with refused(errno.EINVAL):
        await disk.get_config(0, BUILT_WITH)
    sim.violation("vmm.config-size", f"{BUILT_WITH} bytes were asked for, there are {await disk.get_config_size()}")


@scenario(kernel=KERNELS)
async def config_size_fixed(sim: Simulator) -> None:
    """GET_CONFIG_SIZE first; what is not there reads as zeros for the guest."""
    disk = await device(sim)
    size = min(await disk.get_config_size(), BUILT_WITH)
    assert len((await disk.get_config(0, size)).ljust(BUILT_WITH, b"\0")) == BUILT_WITH
