"""The index of SET_VRING_NUM changes while the kernel reads it (history 47).

vhost-vdpa reads the index to choose the queue it tells the device about; the generic handler reads it anew to choose
the queue whose size it stores. A thread of the program that writes to the argument in between has one queue's size
stored, and the device told another's: the call succeeds and neither queue of the device has the size that was asked
for. With F4 the index is fetched once.
"""

from struct import pack

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import vhost
from vdpasim.vmm.handles import VhostVdpa

OLD, NEW = 16, 64
ARGUMENT_AT = 0x100
DRIVER_OK = 0xF


async def resize(sim: Simulator) -> None:
    """One thread sets a size, another one changes its mind about the queue."""
    with sim.calm():
        vmm = sim.process("vmm")
        node = sim.vdpa.dev_add("foo", mgmtdev="vdpasim_net", batch_mapping=False)  # which has GET_VRING_SIZE
        file = await vmm.open(node.path)
        device, ram = VhostVdpa(file), vmm.mmap(4096)
        await device.set_owner()
        for queue in range(2):
            await device.set_vring_num(queue, OLD)
        ram.write(ARGUMENT_AT, pack("<II", 0, NEW))

    async def flip() -> None:
        ram.write(ARGUMENT_AT, pack("<I", 1))

    flipping = sim.spawn(flip)
    await file.ioctl(vhost.VHOST_SET_VRING_NUM.request(sim.kernel.abi), ram.addr + ARGUMENT_AT)
    await flipping.join()
    with sim.calm():
        await device.set_status(DRIVER_OK)
        sizes = [await device.get_vring_size(queue) for queue in range(2)]
    if NEW not in sizes:
        sim.violation("vring.size-lost", f"a size of {NEW} was set, and the device's queues have {sizes}")


@scenario(kernel=("tip-F4", "7.1"))
async def vring_num(sim: Simulator) -> None:
    """The index is read twice."""
    await resize(sim)


@scenario()
async def vring_num_fixed(sim: Simulator) -> None:
    """F4."""
    await resize(sim)
