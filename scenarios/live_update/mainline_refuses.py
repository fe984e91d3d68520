"""Without the series there is no handover: the new image is nobody to the device until it closes and opens again.

The descriptor survives exec, the owner does not: it was an address space, and that is gone. NEW_OWNER is an unknown
request, REMAP an unknown message. What is left is a cold start: close, open, and the whole set-up. On a kernel with a
series the story ends otherwise: the device is taken over.
"""

import errno

from vdpasim.core.series import active
from vdpasim.scenario import perhaps_refused, refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.vhost_types import VHOST_BACKEND_F_IOTLB_REMAP
from vdpasim.vmm.blk import IOVA, RAM, BlkVmm

NEW_ADDRESS = 0x6000_0000_0000
TEXT = b"on the disk, so it is still there".ljust(512, b".")


async def taken_over(vmm: BlkVmm) -> None:
    """The new image tells the device where guest memory is, if it must, and its disk works."""
    if await vmm.device.get_backend_features() >> VHOST_BACKEND_F_IOTLB_REMAP & 1:
        await vmm.device.batch_begin()
        await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
        await vmm.device.batch_end()
    assert await vmm.read_sector(0) == TEXT


@scenario(kernel=("6.12", "7.1", "tip"), demo=True)
async def mainline_refuses(sim: Simulator) -> None:
    """NEW_OWNER, SET_OWNER, REMAP and UPDATE fail in the new image, kicks do nothing; a cold start works."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await BlkVmm.boot(sim.process("vmm"), path)
    await vmm.write_sector(0, TEXT)
    with perhaps_refused(errno.EFAULT) as remap:  # the owner itself: no such message
        await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)

    await vmm.exec(NEW_ADDRESS)
    known = bool(active(sim.kernel.switches))
    with perhaps_refused(errno.EOPNOTSUPP if known else errno.EPERM) as handover:
        await vmm.device.new_owner()
    if not handover.refused:
        await taken_over(vmm)
        return
    assert remap.refused
    with refused(errno.EBUSY):
        await vmm.device.set_owner()
    with refused(errno.EFAULT, inside=errno.EPERM):
        await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
    with refused(errno.EFAULT, inside=errno.EPERM):
        await vmm.map_ram()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, 512)
    await vmm.kick_device()
    assert await vmm.call.poll(POLLIN, timeout_ns=1_000_000) == 0, "a device worked for an address space that is gone"

    await vmm.file.aclose()
    again = await BlkVmm.boot(vmm.process, path)
    assert await again.read_sector(0) == TEXT
