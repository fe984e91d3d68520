"""A device that cannot take the map at BATCH_END: the write succeeds, and the device is left with no map at all.

vdpa_sim is given room for two entries and asked for three. Nobody is told: the result of the push is thrown away.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.handles import VhostVdpa

SIZE = 1 << 12


@scenario(kernel=("6.12", "tip"), expect="iotlb.divergence", options={"max_iotlb_entries": 2}, demo=True)
async def batch_failing_device(sim: Simulator) -> None:
    """Three mappings in a batch, a device for two."""
    process = sim.process("vmm")
    device = VhostVdpa(await process.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
    await device.set_owner()
    await device.batch_begin()
    for i in range(3):
        memory = process.mmap(SIZE, process.memfd(f"ram{i}", SIZE))
        await device.iotlb_update(i * SIZE, SIZE, memory.addr)
    await device.batch_end()
