"""A driver without the operation that tells backend features (LU20).

The operation is optional: GET_BACKEND_FEATURES leaves out what it would add. The posted series ask it whether the
device needs REMAP, and do not look whether it is there. That the kernel then dies is inferred from the patches, nobody
has recorded it.
"""

import errno
from typing import Any

import attrs

from vdpasim.devices.profile import load
from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.vhost_types import VHOST_BACKEND_F_IOTLB_REMAP
from vdpasim.vmm.blk import IOVA, RAM
from vdpasim.vmm.live_update import LiveVmm

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2", "6.12+live-update-fixed"


async def boot(sim: Simulator, **keys: Any) -> LiveVmm:
    """A running disk like vdpa_sim's, but for ``keys``."""
    profile = attrs.evolve(load("vdpasim_blk-6.12"), backend_features=0, **keys)
    return await LiveVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", profile=profile).path)


@scenario(kernel={V1: "kernel.oops", V2: "kernel.oops", FIXED: ()}, tags="LU20")
async def lu20_no_operation_to_ask(sim: Simulator) -> None:
    """A driver without get_backend_features gets a REMAP: v1 and v2 call what is not there."""
    vmm = await boot(sim, tells_backend_features=False)
    with refused(errno.EFAULT, inside=errno.EOPNOTSUPP):
        await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)


@scenario(kernel=(V1, V2, FIXED), tags="LU20:twin")
async def lu20_asked_first(sim: Simulator) -> None:
    """A program that sends REMAP only where bit 10 is offered is never in that place, whatever the driver has."""
    for tells in (True, False):
        vmm = await boot(sim, tells_backend_features=tells)
        if await vmm.device.get_backend_features() >> VHOST_BACKEND_F_IOTLB_REMAP & 1:
            await vmm.device.batch_begin()
            await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
            await vmm.device.batch_end()
        await vmm.write_sector(0, b"as before".ljust(512))
        await vmm.file.aclose()
        sim.vdpa.dev_del("disk")
