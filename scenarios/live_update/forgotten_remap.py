"""Taking the device over is not enough: without any REMAP it goes on with the addresses of the image that is gone.

The table and the device agree, so nothing is out of step. They agree on an address at which the new image has nothing.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import BlkVmm

NEW_ADDRESS = 0x6000_0000_0000


@scenario(kernel="6.12+live-update-v1", expect="dma.stale-va", tags="LU04")
async def forgotten_remap(sim: Simulator) -> None:
    """The first look at the ring faults, the request is never answered."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.suspend()
    await vmm.exec(NEW_ADDRESS)
    await vmm.device.new_owner()
    await vmm.device.resume()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, 512)
    await vmm.kick_device()
    assert await vmm.call.poll(POLLIN, timeout_ns=1_000_000) == 0
