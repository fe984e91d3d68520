"""A batch that is open when the device is reset stays open, and nobody says so.

A VMM that gave up between BATCH_BEGIN and BATCH_END and starts over with SET_STATUS(0) sends its UPDATEs into the old
batch. They are stored and answered with success; the device does not get them until somebody ends the batch.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import BlkVmm
from vdpasim.vmm.handles import VhostVdpa

PAGE = 4096
WITH_ASID = 1 << 1 | 1 << 2 | 1 << 3


@scenario(kernel=("6.1", "6.12", "7.1", "tip"), expect="iotlb.divergence")
async def batch_across_reset(sim: Simulator) -> None:
    """The disk is started without a map; BATCH_END brings it, and the request that waited is served."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await BlkVmm.create(sim.process("vmm"), path)
    await vmm.device.set_owner()
    await vmm.ack()
    await vmm.device.batch_begin()
    await vmm.device.set_status(0)

    await vmm.negotiate()
    await vmm.map_ram()
    await vmm.start()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, 512)
    await vmm.kick_device()
    assert await vmm.call.poll(POLLIN, timeout_ns=1_000_000) == 0
    await vmm.device.batch_end()
    await vmm.kick_device()
    assert await vmm.wait() == blk.VIRTIO_BLK_S_OK


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def batch_across_reset_asid(sim: Simulator) -> None:
    """With an open batch for address space 1, every message for address space 0 is refused."""
    vmm = sim.process("vmm")
    ram = vmm.mmap(PAGE, vmm.memfd("ram", PAGE))
    net = VhostVdpa(await vmm.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
    await net.set_owner()
    await net.set_backend_features(WITH_ASID)
    await net.batch_begin(asid=1)
    await net.set_status(0)
    with refused(errno.EFAULT, inside=errno.EINVAL):
        await net.iotlb_update(0, PAGE, ram.addr, asid=0)
    await net.batch_end(asid=1)
    await net.iotlb_update(0, PAGE, ram.addr, asid=0)
