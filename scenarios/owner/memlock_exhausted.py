"""Pinning beyond RLIMIT_MEMLOCK: ENOMEM inside, EFAULT outside, and CAP_IPC_LOCK is not asked."""

import errno

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.handles import VhostVdpa

LIMIT = 1 << 16
CAP_IPC_LOCK = 14


@scenario(kernel=("6.1", "6.12", "tip"), options={"use_va": False})
async def memlock_exhausted(sim: Simulator) -> None:
    """Up to the limit it works; one page more does not, and what was pinned stays."""
    process = sim.process("vmm", memlock=LIMIT)
    assert process.limits.capable(CAP_IPC_LOCK)
    ram = process.mmap(2 * LIMIT, process.memfd("ram", 2 * LIMIT, folio_pages=16))
    device = VhostVdpa(await process.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
    await device.set_owner()
    await device.iotlb_update(0, LIMIT, ram.addr)
    try:
        await device.iotlb_update(LIMIT, 4096, ram.addr + LIMIT)
    except OSError as error:
        assert error.errno == errno.EFAULT
        assert error.handler_errno == errno.ENOMEM  # type: ignore[attr-defined]
    else:
        raise AssertionError("the limit was not enforced")
    assert process.mm.pinned_vm == LIMIT // 4096
    await device.iotlb_invalidate(0, LIMIT)
    assert process.mm.pinned_vm == 0
