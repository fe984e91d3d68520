"""All backend features that are offered are acked, those included that the VMM does not know.

Source: cloud-hypervisor #3849 acks what GET_BACKEND_FEATURES answers as it is. A bit that is acked is a promise: MSG_V2
says which messages the VMM reads. One that knows the first format only gets its misses in the second, takes them for
nothing, and the guest's queue waits. No harm was reported of the bits that exist today.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.vhost_types import VHOST_IOTLB_MSG
from vdpasim.vmm.blk import IOVA
from vdpasim.vmm.vhost_net import VhostNetVmm

KERNELS = ("6.1", "6.12", "7.1", "tip")
PAGE = 4096
FRAME = b"a frame on a page that must be asked for".ljust(60, b".")
PATIENCE = 1_000_000_000
"""How long it waits for the next message, in nanoseconds."""
KNOWN = 0
"""The backend features this VMM was written for: none."""


async def served(sim: Simulator, *, blindly: bool) -> bool:
    """A VMM that reads the first format serves misses; whether the guest's frame comes out."""
    vmm = await VhostNetVmm.create(sim)
    await vmm.negotiate()
    offered = await vmm.net.get_backend_features()
    await vmm.net.set_backend_features(offered if blindly else offered & KNOWN)
    await vmm.net.iotlb_update(IOVA, PAGE, vmm.ram.addr)
    await vmm.set_up_ring()
    await vmm.attach()
    vmm.post(FRAME)
    await vmm.kick_device()
    await sim.settle()
    while await vmm.file.poll(POLLIN, timeout_ns=PATIENCE):
        message = await vmm.net.read_miss()
        if message.version == VHOST_IOTLB_MSG:
            page = message.iova & -PAGE
            await vmm.net.iotlb_update(page, PAGE, vmm.ram.addr + page - IOVA)
        await sim.settle()
    return bool(vmm.ring.used())


@scenario(kernel=dict.fromkeys(KERNELS, "miss.unanswered"))
async def features_acked_blindly(sim: Simulator) -> None:
    """The miss is of a format the VMM does not know, so it drops it."""
    assert not await served(sim, blindly=True), "a miss was read, not understood, and the frame was sent"


@scenario(kernel=KERNELS)
async def features_acked_blindly_fixed(sim: Simulator) -> None:
    """What is offered and known."""
    assert await served(sim, blindly=False)
