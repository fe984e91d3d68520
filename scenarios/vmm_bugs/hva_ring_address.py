"""Ring addresses as the VMM sees them, where the device wants those of the guest.

Source: rust-vmm/vhost #164. The crate translated the addresses of SET_VRING_ADDR to its own, as vhost-user and
vhost-net without a virtual IOMMU want them. vhost-vdpa wants I/O addresses, takes any number, and the device finds
nothing there. It was shipped in a release and found by the tests of another project.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import QUEUE_NUM, SECTOR, BlkVmm

KERNELS = ("6.1", "6.12", "7.1", "tip")


async def start(sim: Simulator, *, translated: bool) -> bool:
    """Start a disk with its ring given either way; whether it answers."""
    vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.set_owner()
    await vmm.negotiate()
    await vmm.map_ram()
    desc, avail, used = vmm.vq.addresses()
    there = vmm.ram.addr - vmm.vq.base if translated else 0
    await vmm.device.set_vring_num(0, QUEUE_NUM)
    await vmm.device.set_vring_addr(0, desc + there, avail + there, used + there)
    await vmm.device.set_vring_base(0, 0)
    await vmm.device.set_vring_call(0, vmm.call.fd)
    await vmm.device.set_vring_kick(0, vmm.kick.fd)
    await vmm.device.set_vring_enable(0)
    await vmm.device.set_status(await vmm.device.get_status() | 4)
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    return bool(await vmm.call.poll(POLLIN, timeout_ns=1_000_000))


@scenario(kernel=dict.fromkeys(KERNELS, "vmm.hva-ring-address"))
async def hva_ring_address(sim: Simulator) -> None:
    """Nothing is refused, and the disk never answers."""
    assert not await start(sim, translated=True)


@scenario(kernel=KERNELS)
async def hva_ring_address_fixed(sim: Simulator) -> None:
    """The guest's own addresses."""
    assert await start(sim, translated=False)
