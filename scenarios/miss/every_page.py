"""Real traffic with nothing mapped: every page of every request is asked for, answered, and given back.

The strictest way to run a guest: a page is mapped when the device stumbles over it and unmapped when its request is
done, so no request finds anything of the one before but the ring. What must come out of it is what comes out of a guest
whose memory is all there.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import HEADER, HEADER_AT, IOVA, KICK, RAM, STATUS_AT, BlkVmm
from vdpasim.vmm.guest import Buffer
from vdpasim.vmm.vhost_net import VhostNetVmm

PAGE = 4096
DATA_AT = 0x2_0000
REQUESTS, PAGES = 6, 4
ACCESS_PLATFORM, MSG_V2, MISS = 1 << 33, 1 << 1, "vhost-vdpa+miss"
KERNELS = ("6.1", "6.12", "7.1", "tip")


@scenario(kernel=KERNELS, extensions=(MISS,))
async def disk_with_a_miss_on_every_page(sim: Simulator) -> None:
    """Writes and reads of four pages each: data, status and order are right, and each page was asked for each time."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk+miss").path
    vmm = await BlkVmm.create(sim.process("vmm"), path)
    await vmm.device.set_owner()
    await vmm.device.set_backend_features(MSG_V2)
    await vmm.negotiate()
    await vmm.start()
    asked: list[int] = []

    async def answer() -> None:
        while True:
            miss = await vmm.device.read_miss()
            page = miss.iova & -PAGE
            asked.append(page)
            await vmm.device.iotlb_update(page, PAGE, vmm.ram.addr + page - IOVA)

    sim.spawn(answer, daemon=True)
    for n in range(REQUESTS):
        asked.clear()
        at = DATA_AT + 0x8000 * n
        data = bytes([n + 1]) * (PAGES * PAGE)
        write = n % 2 == 0
        if write:
            vmm.ram.write(at, data)
        vmm.ram.write(HEADER_AT, HEADER.pack(blk.VIRTIO_BLK_T_OUT if write else blk.VIRTIO_BLK_T_IN, 0, 64 * (n // 2)))
        vmm.ram.write(STATUS_AT, b"\xff")
        parts = [Buffer(vmm.vq.iova(at + PAGE * i), PAGE, writable=not write) for i in range(PAGES)]
        vmm.vq.add(
            Buffer(vmm.vq.iova(HEADER_AT), HEADER.size), *parts, Buffer(vmm.vq.iova(STATUS_AT), 1, writable=True)
        )
        await vmm.kick_device()
        assert await vmm.wait() == blk.VIRTIO_BLK_S_OK
        if not write:
            assert vmm.ram.read(at, PAGES * PAGE) == bytes([n]) * (PAGES * PAGE)
        wanted = {IOVA + offset & -PAGE for offset in (0, HEADER_AT, STATUS_AT)} | {part.iova for part in parts}
        assert set(asked) == wanted, "each page of the request, and no other"
        assert len(asked) == len(wanted), "once each"
        await vmm.device.iotlb_invalidate(IOVA, RAM)


@scenario(kernel=KERNELS)
async def network_with_a_miss_on_every_page(sim: Simulator) -> None:
    """vhost-net sends frames that lie across pages: each comes out whole, however often it had to ask."""
    vmm = await VhostNetVmm.create(sim)
    await vmm.negotiate(ACCESS_PLATFORM)
    await vmm.net.set_backend_features(MSG_V2)
    await vmm.set_up_ring()
    ring = vmm.ring.addresses()[2] & -PAGE
    await vmm.net.iotlb_update(ring, PAGE, vmm.ram.addr + ring - IOVA)
    await vmm.attach()
    asked: list[int] = []

    async def answer() -> None:
        while True:
            miss = await vmm.net.read_miss()
            page = miss.iova & -PAGE
            asked.append(page)
            await vmm.net.iotlb_update(page, PAGE, vmm.ram.addr + page - IOVA)

    sim.spawn(answer, daemon=True)
    for n in range(REQUESTS):
        frame = bytes([n]) * (PAGE + 500)
        at = DATA_AT + 0x4000 * n + PAGE - 300
        vmm.ram.write(at, bytes(10) + frame)
        vmm.ring.add(Buffer(IOVA + at, 10 + len(frame)))
        await vmm.kick.write(KICK)
        assert await vmm.wire.read(1 << 16) == frame
        pages = {IOVA + at + i * PAGE & -PAGE for i in range(3)}
        assert pages <= set(asked)
        for page in pages:
            await vmm.net.iotlb_invalidate(page, PAGE)
    assert len(asked) >= 3 * REQUESTS
