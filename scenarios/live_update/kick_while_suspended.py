"""A guest that kicks while its disk is suspended loses nothing: RESUME in the new image replays the kick.

The device remembers one kick, through exec and NEW_OWNER. The request it is for was posted by the old image and is
served by way of the new one's addresses.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import DATA_AT, IOVA, RAM, SECTOR, BlkVmm

NEW_ADDRESS = 0x6000_0000_0000
TEXT = b"posted before the handover".ljust(SECTOR, b".")


@scenario(kernel=("6.12+live-update-v1", "6.12+live-update-v2+lu-advertise"))
async def kick_while_suspended(sim: Simulator) -> None:
    """Posted and kicked before exec, answered after RESUME."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(9, TEXT)
    vmm.ram.write(DATA_AT, bytes(SECTOR))
    await vmm.device.suspend()
    vmm.post(blk.VIRTIO_BLK_T_IN, 9, SECTOR)
    await vmm.kick_device()
    assert await vmm.call.poll(POLLIN, timeout_ns=1_000_000) == 0, "a suspended disk worked"

    await vmm.exec(NEW_ADDRESS)
    await vmm.device.new_owner()
    await vmm.device.batch_begin()
    await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
    await vmm.device.batch_end()
    await vmm.device.resume()
    assert await vmm.wait() == blk.VIRTIO_BLK_S_OK
    assert vmm.ram.read(DATA_AT, SECTOR) == TEXT
