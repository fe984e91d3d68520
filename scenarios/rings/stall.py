"""A permission too small stops a queue without a word; a bad chain is met again, or eaten, depending on the driver.

Two drivers walk rings in the kernel. vhost-net asks for what is missing, and gives a chain it cannot serve back to the
ring, so the guest meets its mistake at every kick. vDPA devices use vringh, which counts a chain as taken before it
looks at it, so the mistake happens once and the request is gone. Neither tells the guest anything.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator, WouldBlock
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.vhost_types import VHOST_ACCESS_RO, VHOST_ACCESS_WO
from vdpasim.vmm.blk import DATA_AT, HEADER, HEADER_AT, IOVA, RAM, SECTOR, STATUS_AT, BlkVmm
from vdpasim.vmm.guest import Buffer
from vdpasim.vmm.vhost_net import FRAME_AT, VhostNetVmm

PAGE = 4096
KERNELS = ("6.1", "6.12", "7.1", "tip")
ACCESS_PLATFORM, MSG_V2 = 1 << 33, 1 << 1
FRAME = b"a frame".ljust(60, b".")


@scenario(kernel=KERNELS)
async def vhost_net_frame_not_readable(sim: Simulator) -> None:
    """The frame's page may only be written: no frame, no question, nothing used; only the error eventfd knows."""
    vmm = await VhostNetVmm.create(sim)
    error = vmm.process.eventfd()
    await vmm.negotiate(ACCESS_PLATFORM)
    await vmm.net.set_backend_features(MSG_V2)
    await vmm.net.iotlb_update(IOVA, FRAME_AT, vmm.ram.addr)
    await vmm.net.iotlb_update(IOVA + FRAME_AT, PAGE, vmm.ram.addr + FRAME_AT, perm=VHOST_ACCESS_WO)
    await vmm.set_up_ring()
    await vmm.net.set_vring_err(vmm.queue, error.fd)
    await vmm.attach()
    vmm.post(FRAME)
    await vmm.kick_device()
    await sim.settle()
    assert not vmm.ring.used()
    assert await error.read(8)
    try:
        question = vmm.file.read_nowait(72)
    except WouldBlock:
        question = None
    assert question is None, "a permission is nothing to ask for"
    # the VMM finds out, maps the page properly, and the next kick sends what was there all the time
    await vmm.net.iotlb_invalidate(IOVA + FRAME_AT, PAGE)
    await vmm.net.iotlb_update(IOVA + FRAME_AT, PAGE, vmm.ram.addr + FRAME_AT)
    await vmm.kick_device()
    assert await vmm.wire.read(PAGE) == FRAME


@scenario(kernel=KERNELS)
async def disk_buffer_not_writable(sim: Simulator) -> None:
    """The disk may not write where the guest wants its data: IOERR, and not a byte of the buffer is touched."""
    vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.set_owner()
    await vmm.negotiate()
    await vmm.device.iotlb_update(IOVA, DATA_AT, vmm.ram.addr)
    await vmm.device.iotlb_update(IOVA + DATA_AT, PAGE, vmm.ram.addr + DATA_AT, perm=VHOST_ACCESS_RO)
    await vmm.device.iotlb_update(IOVA + DATA_AT + PAGE, RAM - DATA_AT - PAGE, vmm.ram.addr + DATA_AT + PAGE)
    await vmm.start()
    vmm.ram.write(DATA_AT, b"\xee" * SECTOR)
    status, data = await vmm.request(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    assert (status, data) == (blk.VIRTIO_BLK_S_IOERR, b"\xee" * SECTOR)


@scenario(kernel=KERNELS)
async def vhost_net_meets_a_bad_chain_again(sim: Simulator) -> None:
    """A descriptor that leads out of the table: nothing is sent until the guest mends it, then everything is."""
    vmm = await VhostNetVmm.boot(sim)
    error = vmm.process.eventfd()
    await vmm.net.set_vring_err(vmm.queue, error.fd)
    vmm.post(FRAME)
    flags_and_next = vmm.ring.desc_at + 12
    vmm.ram.write(flags_and_next, b"\1\0\xff\xff")
    for _ in range(3):
        await vmm.kick_device()
        await sim.settle()
        assert await error.read(8)
        assert not vmm.ring.used()
        assert await vmm.net.get_vring_base(vmm.queue) == 0
    vmm.ram.write(flags_and_next, bytes(4))
    await vmm.kick_device()
    assert await vmm.wire.read(PAGE) == FRAME
    assert await vmm.net.get_vring_base(vmm.queue) == 1


@scenario(kernel=KERNELS)
async def disk_eats_a_bad_chain(sim: Simulator) -> None:
    """The same at a vDPA disk: the request is counted as taken and never answered, those behind it are served."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    vmm.ram.write(vmm.vq.desc_at + 14, b"\xff\xff")
    await vmm.kick_device()
    await sim.settle()
    assert not vmm.vq.used()
    assert await vmm.device.get_vring_base(0) == 1
    vmm.ram.write(HEADER_AT, HEADER.pack(blk.VIRTIO_BLK_T_GET_ID, 0, 0))
    head = vmm.vq.add(
        Buffer(vmm.vq.iova(HEADER_AT), HEADER.size),
        Buffer(vmm.vq.iova(DATA_AT), 20, writable=True),
        Buffer(vmm.vq.iova(STATUS_AT), 1, writable=True),
    )
    await vmm.kick_device()
    await vmm.call.read(8)
    assert [used.head for used in vmm.vq.used()] == [head]
    assert vmm.ram.read(DATA_AT, 12) == b"vdpa_blk_sim"
