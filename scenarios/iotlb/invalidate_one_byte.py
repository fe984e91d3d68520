"""INVALIDATE of one byte removes the whole mapping it touches; nothing is ever trimmed."""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.handles import VhostVdpa

SIZE = 1 << 20


@scenario(kernel=("6.12", "tip"))
async def invalidate_one_byte(sim: Simulator) -> None:
    """Afterwards the range can be mapped again, from its first byte to its last."""
    process = sim.process("vmm")
    ram = process.mmap(SIZE, process.memfd("ram", SIZE))
    device = VhostVdpa(await process.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
    await device.set_owner()
    await device.iotlb_update(0, SIZE, ram.addr)
    await device.iotlb_invalidate(SIZE // 2, 1)
    await device.iotlb_update(0, SIZE, ram.addr)
