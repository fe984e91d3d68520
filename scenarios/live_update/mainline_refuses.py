"""Without the series there is no handover: the new image is nobody to the device until it closes and opens again."""

import errno

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.blk import IOVA, RAM, BlkVmm

NEW_ADDRESS = 0x6000_0000_0000


@scenario(kernel=("6.12", "7.1", "tip"))
async def mainline_refuses(sim: Simulator) -> None:
    """NEW_OWNER, REMAP and UPDATE fail in the new image; close, open and a full set-up work."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await BlkVmm.boot(sim.process("vmm"), path)
    await vmm.exec(NEW_ADDRESS)
    for refused, wanted in (
        (vmm.device.new_owner(), errno.EPERM),
        (vmm.device.set_owner(), errno.EBUSY),
        (vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr), errno.EFAULT),
        (vmm.map_ram(), errno.EFAULT),
    ):
        try:
            await refused
        except OSError as error:
            assert error.errno == wanted, f"{error} where {errno.errorcode[wanted]} was expected"
        else:
            raise AssertionError("a process that is not the owner got through")
    await vmm.file.aclose()
    again = await BlkVmm.boot(vmm.process, path)
    await again.write_sector(0, bytes(512))
