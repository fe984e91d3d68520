"""A device that cannot take the map at BATCH_END: every write succeeds, and the device is left with no map at all.

The VMM plugs memory into a running guest, two pieces in a batch. The device has room for two entries and would need
three. What it says of that is thrown away; the ring and all the guest's memory are gone for it.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import IOVA, RAM, SECTOR, BlkVmm


@scenario(
    kernel=("6.12", "tip"),
    expect=("iotlb.divergence", "set-map.ignored-error", "queue.stalled"),
    options={"max_iotlb_entries": 2},
    demo=True,
)
async def batch_failing_device(sim: Simulator) -> None:
    """The disk works, memory is plugged with success, the disk is dead."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, bytes(SECTOR))
    await vmm.device.batch_begin()
    for i in (1, 2):
        dimm = vmm.process.mmap(RAM, vmm.process.memfd("dimm", RAM))
        await vmm.device.iotlb_update(IOVA + i * RAM, RAM, dimm.addr)
    await vmm.device.batch_end()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    assert await vmm.call.poll(POLLIN, timeout_ns=1_000_000) == 0
