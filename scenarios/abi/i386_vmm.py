"""A 32-bit VMM on a 64-bit kernel: messages of the first format are misread both ways, the second was made for it.

An i386 compiler lays v1 out without the four bytes of padding behind the type word. The kernel skips them all the
same, so every field of an UPDATE is taken four bytes too late, and the type, which comes last, is 0. In the other
direction the kernel's padding is taken for the lower half of the address. Nothing on the way translates, as it does
for the ioctls of 32-bit programs.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.abi import I386
from vdpasim.uapi.message import encode_message
from vdpasim.uapi.vhost_types import VHOST_IOTLB_MISS
from vdpasim.vmm.blk import IOVA, RAM
from vdpasim.vmm.guest import Virtqueue
from vdpasim.vmm.handles import VhostNet, VhostVdpa

TX = 1
ACCESS_PLATFORM = 1 << 33
MSG_V2 = 1 << 1
U64_MAX = (1 << 64) - 1
KERNELS = ("6.1", "6.12", "7.1", "tip")


async def vdpa(sim: Simulator, version: int) -> tuple[VhostVdpa, int]:
    """A program built for i386 with a vDPA device, and the address of its memory."""
    vmm = sim.process("vmm32")
    ram = vmm.mmap(RAM, vmm.memfd("ram", RAM))
    path = sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path
    device = VhostVdpa(await vmm.open(path), abi=I386, version=version)
    await device.set_owner()
    return device, ram.addr


async def missing(sim: Simulator, backend_features: int) -> tuple[VhostNet, int]:
    """A program built for i386 with vhost-net that maps nothing, and the address of the used ring the kernel missed."""
    vmm = sim.process("vmm32")
    ring = Virtqueue(vmm.mmap(RAM, vmm.memfd("ram", RAM)), IOVA)
    tap = vmm.tap("tap0")
    net = VhostNet(await vmm.open("/dev/vhost-net"), abi=I386)
    await net.set_owner()
    await net.set_features(ACCESS_PLATFORM)
    await net.set_backend_features(backend_features)
    await net.set_mem_table([])
    await net.set_vring_num(TX, ring.num)
    await net.set_vring_addr(TX, *ring.addresses())
    with refused(errno.EFAULT):  # it wants to write the used ring's flags, and queues a miss
        await net.set_backend(TX, tap.fd)
    return net, ring.addresses()[2]


@scenario(kernel=KERNELS, demo=True)
async def i386_writes_v1(sim: Simulator) -> None:
    """The 68 bytes of an UPDATE are a message of type 0 for the kernel: EINVAL inside, EFAULT outside."""
    device, addr = await vdpa(sim, 1)
    with refused(errno.EFAULT, inside=errno.EINVAL):
        await device.iotlb_update(IOVA, RAM, addr)


@scenario(kernel=KERNELS)
async def i386_writes_v2(sim: Simulator) -> None:
    """The same program with v2 is understood: the range is taken now."""
    device, addr = await vdpa(sim, 2)
    await device.iotlb_update(IOVA, RAM, addr)
    with refused(errno.EFAULT, inside=errno.EEXIST):
        await device.iotlb_update(IOVA, RAM, addr)


@scenario(kernel=KERNELS)
async def i386_reads_v1(sim: Simulator) -> None:
    """A buffer of the program's own 68 bytes gets nothing, as if at the end of a file; 72 bytes are a garbled miss."""
    net, missed = await missing(sim, 0)
    assert await net.file.read(68) == b""
    garbled = await net.read_miss()
    assert garbled.iova == missed << 32 & U64_MAX, "the address stands in the upper half, below it the padding"
    assert garbled.type != VHOST_IOTLB_MISS


@scenario(kernel=KERNELS)
async def i386_reads_v2(sim: Simulator) -> None:
    """With MSG_V2 acked the kernel asks in v2, and the question is what was asked."""
    net, missed = await missing(sim, MSG_V2)
    miss = await net.read_miss()
    assert (miss.version, miss.type, miss.iova) == (2, VHOST_IOTLB_MISS, missed)
    assert len(encode_message(I386, miss)) == 72
