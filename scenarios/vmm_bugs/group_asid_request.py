"""SET_GROUP_ASID sent under GET_VRING_GROUP's number.

Source: no public report; the numbers are neighbours, 0x7C and 0x7B, and the argument is the same structure. The kernel
answers a question nobody asked, with success, and the control queue stays in the address space of the guest's memory.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.vhost import VHOST_VDPA_GET_VRING_GROUP
from vdpasim.uapi.vhost_types import vhost_vring_state
from vdpasim.vmm.guest import Buffer
from vdpasim.vmm.net import IOVA, KICK, RAM, NetVmm

KERNELS = ("6.1", "6.12", "7.1", "tip")
CONTROL, SHADOW = 1, 1
MAC = b"\x52\x54\x00\x12\x34\x56"
ASID = 1 << 3


async def shadowed(sim: Simulator, *, wrong: bool) -> bool:
    """The control queue is to work on memory of the VMM, which is mapped in space 1 only; whether it answers."""
    vmm = await NetVmm.create(sim.process("vmm"), sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path)
    await vmm.device.set_owner()
    await vmm.device.set_backend_features(await vmm.device.get_backend_features() | ASID)
    await vmm.negotiate()
    if wrong:
        await vmm.device.put_struct(VHOST_VDPA_GET_VRING_GROUP, vhost_vring_state, index=CONTROL, num=SHADOW)
    else:
        await vmm.device.set_group_asid(CONTROL, SHADOW)
    await vmm.device.iotlb_update(IOVA, RAM, vmm.ram.addr, asid=SHADOW)
    elsewhere = vmm.process.mmap(RAM, vmm.process.memfd("guest", RAM))
    await vmm.device.iotlb_update(IOVA, RAM, elsewhere.addr)
    await vmm.start()
    queue = vmm.queues[2]
    assert vmm.control == queue.index
    vmm.ram.write(vmm.ram.size - 0x1000, b"\1\1" + MAC + b"\xff")
    from_here = IOVA + vmm.ram.size - 0x1000
    queue.ring.add(Buffer(from_here, 8), Buffer(from_here + 8, 1, writable=True))
    await queue.kick.write(KICK)
    await sim.settle()
    return await vmm.mac() == MAC


@scenario(kernel=dict.fromkeys(KERNELS, "vmm.wrong-request"))
async def group_asid_request(sim: Simulator) -> None:
    """The control queue looks into the guest's memory, where its commands are not."""
    assert not await shadowed(sim, wrong=True), "the control queue answers"


@scenario(kernel=KERNELS)
async def group_asid_request_fixed(sim: Simulator) -> None:
    """SET_GROUP_ASID: the command is found, and done."""
    assert await shadowed(sim, wrong=False)
