"""One REMAP outside a batch leaves the device on the old address.

The VMM suspends its disk, becomes a new image by exec, takes the device over and tells it where guest memory is now.
The write succeeds. But the series hands the device its table before the new address is stored in it, so the device
goes on with the address of an image that is gone.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.blk import IOVA, RAM, BlkVmm

NEW_ADDRESS = 0x6000_0000_0000


@scenario(
    kernel={
        "6.12+live-update-v1": "iotlb.divergence",
        "6.12+live-update-v2+lu-advertise": "iotlb.divergence",
        "6.12+live-update-fixed": (),
    },
    demo=True,
    tags="LU12",
)
async def unbatched_remap(sim: Simulator) -> None:
    """Suspend, exec, NEW_OWNER, REMAP without a batch: the device keeps the old address."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, b"before".ljust(512, b"\0"))
    await vmm.device.suspend()
    await vmm.exec(NEW_ADDRESS)
    await vmm.device.new_owner()
    await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
    await vmm.device.resume()
