"""A 32-bit VMM on a 64-bit kernel: v1 messages are misread because of a hole, v2 was made for it.

i386 lays a v1 message out without the four bytes of padding behind the type word. The kernel skips them all the same,
so every field is read four bytes too late and the message's type comes out as 0.
"""

import errno

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.abi import I386
from vdpasim.vmm.handles import VhostVdpa

SIZE = 1 << 16


async def send(sim: Simulator, version: int) -> OSError | None:
    """One UPDATE of a program built for i386."""
    process = sim.process("vmm32")
    ram = process.mmap(SIZE, process.memfd("ram", SIZE))
    path = sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path
    device = VhostVdpa(await process.open(path), abi=I386, version=version)
    await device.set_owner()
    try:
        await device.iotlb_update(0x1000, SIZE, ram.addr)
    except OSError as error:
        return error
    return None


@scenario(kernel=("6.1", "6.12", "7.1", "tip"), demo=True)
async def i386_vmm_v1(sim: Simulator) -> None:
    """The handler saw message type 0: EINVAL inside, EFAULT outside."""
    error = await send(sim, 1)
    assert error is not None
    assert error.errno == errno.EFAULT
    assert error.handler_errno == errno.EINVAL  # type: ignore[attr-defined]


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def i386_vmm_v2(sim: Simulator) -> None:
    """The same program with v2 is understood."""
    assert await send(sim, 2) is None
