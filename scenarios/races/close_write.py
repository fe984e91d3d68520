"""A message that is being handled while the device is given up: the table goes from under it (history 4).

Until 4.17 the handler of an IOTLB message took no lock, so RESET_OWNER, which drops the device IOTLB, could come while
an UPDATE was working on it. A close alone cannot: a write() holds the file. With the lock the message comes before, or
it finds no IOTLB and is refused.
"""

import errno

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.blk import IOVA
from vdpasim.vmm.vhost_net import VhostNetVmm

PAGE = 4096


async def give_up(sim: Simulator) -> None:
    """One thread maps, another resets and closes."""
    with sim.calm():
        vmm = await VhostNetVmm.create(sim)
        await vmm.negotiate()

    async def mapper() -> None:
        try:
            await vmm.net.iotlb_update(IOVA, PAGE, vmm.ram.addr)
        except OSError as error:
            assert error.errno in (errno.EFAULT, errno.EBADF)

    mapping = sim.spawn(mapper)
    await vmm.net.reset_owner()
    await vmm.file.aclose()
    await mapping.join()


@scenario(kernel="tip+bug-message-unlocked")
async def close_write(sim: Simulator) -> None:
    """No lock."""
    await give_up(sim)


@scenario()
async def close_write_fixed(sim: Simulator) -> None:
    """The device's mutex."""
    await give_up(sim)
