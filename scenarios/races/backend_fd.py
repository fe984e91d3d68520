"""A backend's descriptor that becomes another file while SET_BACKEND looks at it (history 33).

Until 5.18 vhost-net looked the descriptor of an RX backend up twice: once for the socket, which it holds from then on,
and once for the ring of the tap, which it does not. A thread that does dup2() in between gives it the ring of another
tap, and when that is closed the ring is freed under the worker. Now the ring is taken of the file of the socket.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.vhost_net import RX, VhostNetVmm


async def attach(sim: Simulator) -> None:
    """One thread attaches the tap, another puts a different one under its number."""
    with sim.calm():
        vmm = await VhostNetVmm.create(sim, queue=RX)
        await vmm.negotiate(0)
        await vmm.net.set_vring_num(RX, vmm.ring.num)
        await vmm.net.set_vring_addr(RX, *(vmm.ram.addr + area for area in (0, 0x1000, 0x2000)))
        other = vmm.process.tap("tap1")

    async def swap() -> None:
        vmm.process.dup(other, at=vmm.tap.fd)

    swapping = sim.spawn(swap)
    await vmm.attach()
    await swapping.join()


@scenario(kernel="tip+bug-backend-fd-twice")
async def backend_fd(sim: Simulator) -> None:
    """Two look-ups."""
    await attach(sim)


@scenario()
async def backend_fd_fixed(sim: Simulator) -> None:
    """One."""
    await attach(sim)
