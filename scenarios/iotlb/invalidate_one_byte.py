"""INVALIDATE of one byte removes the whole mapping it touches; nothing is ever trimmed.

A VMM that means to take one page from a running guest takes all of what it once gave in one UPDATE, the ring included.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import IOVA, RAM, BlkVmm


@scenario(kernel=("6.12", "tip"))
async def invalidate_one_byte(sim: Simulator) -> None:
    """The disk stands still until the range is mapped again, from its first byte to its last."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, b"x" * 512)
    await vmm.device.iotlb_invalidate(IOVA + RAM - 1, 1)
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, 512)
    await vmm.kick_device()
    assert await vmm.call.poll(POLLIN, timeout_ns=1_000_000) == 0
    await vmm.map_ram()
    await vmm.kick_device()
    assert await vmm.wait() == blk.VIRTIO_BLK_S_OK
