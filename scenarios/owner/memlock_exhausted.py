"""Pinning beyond RLIMIT_MEMLOCK: ENOMEM inside, EFAULT outside, and CAP_IPC_LOCK does not help.

A device that wants physical addresses pins what it is given. The limit is the calling process's, the count its address
space's (VmPin of /proc/PID/status), and unlike mlock() nobody asks for capabilities: root is refused too.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.handles import VhostVdpa

PAGE = 4096
LIMIT = 16 * PAGE
CAP_IPC_LOCK = 14


@scenario(kernel=("6.1", "6.12", "7.1", "tip"), options={"use_va": False})
async def memlock_exhausted(sim: Simulator) -> None:
    """Up to the limit it works, one page more does not; what was pinned stays, and INVALIDATE makes room."""
    vmm = sim.process("vmm", memlock=LIMIT)
    assert vmm.limits.capable(CAP_IPC_LOCK)
    ram = vmm.mmap(2 * LIMIT, vmm.memfd("ram", 2 * LIMIT))
    device = VhostVdpa(await vmm.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
    await device.set_owner()
    await device.iotlb_update(0, LIMIT, ram.addr)
    with refused(errno.EFAULT, inside=errno.ENOMEM):
        await device.iotlb_update(LIMIT, PAGE, ram.addr + LIMIT)
    await device.iotlb_invalidate(0, LIMIT)
    await device.iotlb_update(LIMIT, LIMIT, ram.addr + LIMIT)


@scenario(kernel=("6.12", "7.1", "tip"))
async def memlock_unused(sim: Simulator) -> None:
    """A device that works with user addresses pins nothing, so a limit of 0 is enough."""
    vmm = sim.process("vmm", memlock=0)
    ram = vmm.mmap(LIMIT, vmm.memfd("ram", LIMIT))
    device = VhostVdpa(await vmm.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
    await device.set_owner()
    await device.iotlb_update(0, LIMIT, ram.addr)
