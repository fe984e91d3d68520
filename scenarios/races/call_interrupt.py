"""A queue's interrupt against the replacement of its call eventfd (history 45).

The device's callback reads the call eventfd and signals it, and SET_VRING_CALL puts it in between: the same as for the
config eventfd, only that this one is raised for every request. With F7 the callback is taken from the device before
the eventfd is put. close() needs no fix where vdpa_sim is below: its reset waits for the worker.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.vhost_types import VHOST_FILE_UNBIND
from vdpasim.vmm.blk import SECTOR, BlkVmm


async def request_under_way(sim: Simulator) -> None:
    """The device completes a request while the VMM takes the call eventfd away."""
    with sim.calm():
        vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
        await vmm.call.aclose()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    await vmm.device.set_vring_call(0, VHOST_FILE_UNBIND)


@scenario(kernel=("tip-F7", "6.12"))
async def call_interrupt(sim: Simulator) -> None:
    """Nothing is between the device and SET_VRING_CALL."""
    await request_under_way(sim)


@scenario()
async def call_interrupt_fixed(sim: Simulator) -> None:
    """F7."""
    await request_under_way(sim)
