"""A ring index of before the guest's driver reset the device, set after it.

Source: cloud-hypervisor #7964. At each start of the device the VMM took the avail index it found in guest memory for
the base: 0, then 16, then 256, and that was the driver before. A driver that resets its device begins its rings at 0; a
device that begins elsewhere takes a ring that was just filled for an empty one, or reports where nobody looks.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.net import NetVmm

KERNELS = ("6.1", "6.12", "7.1", "tip")
FRAME = bytes.fromhex("ffffffffffff 525400000001 88b5") + b"to everybody".ljust(50, b".")
RX = 0


async def restart(sim: Simulator, base: int) -> int:
    """The driver resets its device and starts again, the VMM sets this base for RX; the used index after one frame."""
    vmm = await NetVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path)
    await vmm.device.set_status(0)
    await vmm.device.iotlb_invalidate(0, 2**64 - 1)
    vmm.queues.clear()
    await vmm.negotiate()
    await vmm.device.iotlb_update(0x10_0000, vmm.ram.size, vmm.ram.addr)
    for index in vmm.indices():
        vmm.queues[index] = vmm.new_queue(index)
    vmm.refill(vmm.queues[RX])
    await vmm.set_up({index: base if index == RX else 0 for index in vmm.queues})
    await vmm.set_driver_ok()
    await vmm.send(FRAME)
    await sim.settle()
    return int.from_bytes(vmm.ram.read(vmm.queues[RX].ring.addresses()[2] - 0x10_0000 + 2, 2), "little")


@scenario(kernel=dict.fromkeys(KERNELS, "vmm.stale-ring-base"), domain={"base": (16, 256)})
async def stale_ring_base(sim: Simulator, *, base: int = 16) -> None:
    """The index of before: the frame is lost, or reported at a place of the used ring where nobody looks."""
    assert await restart(sim, base) != 1


@scenario(kernel=KERNELS)
async def stale_ring_base_fixed(sim: Simulator) -> None:
    """A reset by the driver forgets what was saved: 0."""
    assert await restart(sim, 0) == 1
