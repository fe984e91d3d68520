"""An UPDATE that comes before the miss was read wakes nobody; the queue waits for the next kick."""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import BlkVmm


@scenario(kernel="tip", extensions=("vhost-vdpa+miss",))
async def answered_too_early(sim: Simulator) -> None:
    """The miss stays readable, the request stays where it is, a kick brings it home."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk+miss").path
    vmm = await BlkVmm.create(sim.process("vmm"), path)
    await vmm.device.set_owner()
    await vmm.negotiate()
    await vmm.start()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, 512)
    await vmm.kick_device()
    await sim.settle()
    await vmm.map_ram()  # right, but nobody has read the question yet
    await sim.settle()
    assert not vmm.vq.used(), "the queue ran without being woken"
    late = await vmm.device.read_miss()
    assert late.iova == vmm.vq.iova(vmm.vq.desc_at)
    await vmm.kick_device()
    assert await vmm.wait() == blk.VIRTIO_BLK_S_OK
