"""A batch that is open when the device is reset stays open: every later message for another address space fails."""

import errno

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.handles import VhostVdpa

SIZE = 1 << 12


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def batch_across_reset(sim: Simulator) -> None:
    """SET_STATUS(0) does not end it; BATCH_END does."""
    process = sim.process("vmm")
    ram = process.mmap(SIZE, process.memfd("ram", SIZE))
    device = VhostVdpa(await process.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
    await device.set_owner()
    await device.set_backend_features(1 << 1 | 1 << 2 | 1 << 3)
    await device.batch_begin(asid=1)
    await device.set_status(0)
    try:
        await device.iotlb_update(0, SIZE, ram.addr, asid=0)
    except OSError as error:
        assert error.errno == errno.EFAULT
        assert error.rule == "vdpa.msg.batch-asid"  # type: ignore[attr-defined]
    else:
        raise AssertionError("the batch was gone after the reset")
    await device.batch_end(asid=1)
    await device.iotlb_update(0, SIZE, ram.addr, asid=0)
