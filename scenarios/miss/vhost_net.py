"""The misses of a real kernel: vhost-net asks for ring and frame, a thread of the VMM answers until the frame is out.

This is how QEMU serves a guest whose virtio device sits behind a virtual IOMMU. Little is mapped when the guest kicks:
only the used ring, which SET_BACKEND itself wants to touch. Each read() gives one question, each UPDATE that covers it
lets the ring run until the next byte that is missing.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.vhost_types import VHOST_ACCESS_RO
from vdpasim.vmm.blk import IOVA, KICK, RAM
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.handles import VhostNet

TX = 1
PAGE = 4096
FRAME_AT = 0x8000
ACCESS_PLATFORM = 1 << 33
MSG_V2 = 1 << 1


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def vhost_net_misses(sim: Simulator) -> None:
    """The descriptor table, then the frame; then the frame is on the wire."""
    vmm = sim.process("vmm")
    ram = vmm.mmap(RAM, vmm.memfd("ram", RAM))
    tap, kick = vmm.tap("tap0"), vmm.eventfd()
    wire = sim.wire("tap0")
    net = VhostNet(await vmm.open("/dev/vhost-net"))
    ring = Virtqueue(ram, IOVA, num=256)  # avail and used ring are in the second page
    await net.set_owner()
    await net.set_features(ACCESS_PLATFORM)
    await net.set_backend_features(MSG_V2)
    await net.set_mem_table([])
    await net.set_vring_num(TX, ring.num)
    await net.set_vring_addr(TX, *ring.addresses())
    await net.set_vring_kick(TX, kick.fd)
    await net.iotlb_update(IOVA + PAGE, PAGE, ram.addr + PAGE)
    await net.set_backend(TX, tap.fd)
    asked: list[tuple[int, int]] = []

    async def answer_misses() -> None:
        while ring.iova(FRAME_AT) not in [iova for iova, _ in asked]:
            miss = await net.read_miss()
            asked.append((miss.iova, miss.perm))
            page = miss.iova & -PAGE
            await net.iotlb_update(page, PAGE, ram.addr + page - IOVA)

    sim.spawn(answer_misses)
    ram.write(FRAME_AT, bytes(10) + b"a frame")
    ring.add(Buffer(ring.iova(FRAME_AT), 17))
    await kick.write(KICK)
    assert await wire.read(PAGE) == b"a frame"
    each = list(dict.fromkeys(asked))  # SET_BACKEND looked at the ring too, and nobody merges questions
    assert each == [(ring.iova(ring.desc_at), VHOST_ACCESS_RO), (ring.iova(FRAME_AT), VHOST_ACCESS_RO)]
