"""SUSPEND at the start of a migration instead of its end.

Source: cloud-hypervisor #7738 and #7743. The device was suspended when the migration began, and the guest ran on for
the minutes in which its memory was copied, without its network. The device must stand still when the guest does.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import SECTOR, BlkVmm

KERNELS = ("6.1", "6.12", "7.1", "tip")
ROUND = 1_000_000_000
"""One round of copying, in nanoseconds."""
PATIENCE = 30 * ROUND
"""How long the guest's driver waits for a request."""


async def migrate(sim: Simulator, *, early: bool, rounds: int) -> bool:
    """Copy memory in rounds while the guest reads a sector in each; whether all were answered in time."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    if early:
        await vmm.device.suspend()
    for _ in range(rounds):
        vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
        await vmm.kick_device()
        if not await vmm.call.poll(POLLIN, timeout_ns=PATIENCE):
            return False
        assert await vmm.wait() == blk.VIRTIO_BLK_S_OK
        await sim.sleep(ROUND)
    if not early:
        await vmm.device.suspend()
    return True


@scenario(kernel=dict.fromkeys(KERNELS, "vmm.left-suspended"), domain={"rounds": (1, 2, 10)})
async def suspend_too_early(sim: Simulator, *, rounds: int = 2) -> None:
    """The guest runs, its disk does not."""
    assert not await migrate(sim, early=True, rounds=rounds), "the guest's driver gives no request up"


@scenario(kernel=KERNELS, domain={"rounds": (1, 2, 10)})
async def suspend_too_early_fixed(sim: Simulator, *, rounds: int = 2) -> None:
    """SUSPEND behind the last round, when the guest stands still."""
    assert await migrate(sim, early=False, rounds=rounds)
