"""Two UPDATEs for the same addresses: vhost-vdpa refuses the second, vhost-net takes it and goes on with the first.

A VMM that changes a mapping by sending the new one is told so by vhost-vdpa, in an errno that says nothing. By
vhost-net it is told nothing at all, and its guest's frames go on coming from the old memory until somebody sends an
INVALIDATE.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.blk import IOVA, KICK, RAM, BlkVmm
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.handles import VhostNet

TX = 1
PAGE = 4096
BUFFER = IOVA + RAM
"""Where the guest has its frame: mapped twice."""
ACCESS_PLATFORM = 1 << 33
HEADER = bytes(10)


@scenario(kernel=("6.1", "6.12", "7.1", "tip"), demo=True)
async def overlap_on_vdpa(sim: Simulator) -> None:
    """EEXIST inside, EFAULT outside, and the first mapping goes on working."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    other = vmm.process.mmap(RAM, vmm.process.memfd("other", RAM))
    with refused(errno.EFAULT, inside=errno.EEXIST):
        await vmm.device.iotlb_update(IOVA + RAM - 1, 2, other.addr)
    await vmm.write_sector(1, b"1" * 512)
    assert await vmm.read_sector(1) == b"1" * 512


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def overlap_on_net(sim: Simulator) -> None:
    """Both are accepted; the frame that is sent is the one in the older mapping, until that is invalidated."""
    vmm = sim.process("vmm")
    ram = vmm.mmap(RAM, vmm.memfd("ram", RAM))
    older, newer = (vmm.mmap(PAGE, vmm.memfd(name, PAGE)) for name in ("older", "newer"))
    older.write(0, HEADER + b"frame in the older mapping")
    newer.write(0, HEADER + b"frame in the newer mapping")
    tap, kick = vmm.tap("tap0"), vmm.eventfd()
    wire = sim.wire("tap0")

    net = VhostNet(await vmm.open("/dev/vhost-net"))
    ring = Virtqueue(ram, IOVA)
    await net.set_owner()
    await net.set_features(ACCESS_PLATFORM)
    await net.set_mem_table([])
    await net.set_vring_num(TX, ring.num)
    await net.set_vring_addr(TX, *ring.addresses())
    await net.set_vring_kick(TX, kick.fd)
    await net.iotlb_update(IOVA, RAM, ram.addr)
    await net.iotlb_update(BUFFER, PAGE, older.addr)
    await net.iotlb_update(BUFFER, PAGE, newer.addr)
    await net.set_backend(TX, tap.fd)

    ring.add(Buffer(BUFFER, 36))
    await kick.write(KICK)
    assert await wire.read(PAGE) == b"frame in the older mapping"

    await net.iotlb_invalidate(BUFFER, 1)
    await net.iotlb_update(BUFFER, PAGE, newer.addr)
    ring.add(Buffer(BUFFER, 36))
    await kick.write(KICK)
    assert await wire.read(PAGE) == b"frame in the newer mapping"
