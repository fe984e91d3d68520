"""Bugs that were: the control requests of vhost-vdpa and vhost-net.

Each story is told on a kernel that has the bug and on one that has not, and reports what it sees go wrong, by bytes,
counts and errnos. The number is that of the list in docs/history.md.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.abi import I386, X86_64, Abi
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.mman import MAP_SHARED, PROT_READ, PROT_WRITE
from vdpasim.uapi.vhost import VHOST_GET_FEATURES_ARRAY
from vdpasim.uapi.vhost_types import VHOST_BACKEND_F_IOTLB_PERSIST
from vdpasim.uapi.virtio_config import VIRTIO_F_RING_PACKED
from vdpasim.vmm.blk import FEATURES, IOVA, QUEUE_NUM, RAM, SECTOR, BlkVmm
from vdpasim.vmm.guest import Virtqueue
from vdpasim.vmm.handles import VhostVdpa

PAGE = 4096


async def opened(sim: Simulator, *, abi: Abi = X86_64) -> VhostVdpa:
    """The block device, opened by a VMM of an ABI."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    return VhostVdpa(await sim.process("vmm").open(path), abi=abi)


async def boot(sim: Simulator) -> BlkVmm:
    """A VMM with a running disk."""
    return await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)


@scenario(kernel={"tip+bug-config-ctx-dangles": "kernel.oops", "tip": ()})
async def config_eventfd_of_the_last_open(sim: Simulator) -> None:
    """History 42: one VMM closes the device with a config eventfd set, the next one opens and closes it."""
    disk = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk")
    vmm = sim.process("first")
    async with await vmm.open(disk.path) as file:
        await VhostVdpa(file).set_config_call(vmm.eventfd().fd)
    async with await sim.process("second").open(disk.path):
        pass


@scenario(
    kernel={
        "7.1": ("history.config-eventfd-lost", "irq.config-lost"),
        "tip-F5": ("history.config-eventfd-lost", "irq.config-lost"),
        "6.1": (),
        "6.12": (),
        "tip": (),
    }
)
async def config_eventfd_after_a_bad_one(sim: Simulator) -> None:
    """History 43: SET_CONFIG_CALL is refused for a bad descriptor, and takes the eventfd that was there with it."""
    disk = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk")
    vmm = sim.process("vmm")
    device, event = VhostVdpa(await vmm.open(disk.path)), vmm.eventfd()
    await device.set_config_call(event.fd)
    with refused(errno.EBADF):
        await device.set_config_call(999)
    disk.config_changed()
    if not await event.poll(POLLIN, timeout_ns=0):
        sim.violation("history.config-eventfd-lost", "a config interrupt reaches nobody after a request that failed")


@scenario(kernel={"tip+bug-config-underflow": "history.config-beyond-the-end", "tip": ()}, abi="i386")
async def config_beyond_the_end(sim: Simulator) -> None:
    """History 46: GET_CONFIG from one byte behind the end; in 32 bits there is plenty of room left."""
    device = await opened(sim, abi=I386)
    size = await device.get_config_size()
    try:
        await device.get_config(size + 1, 4)
    except OSError as error:
        assert error.errno == errno.EINVAL
    else:
        sim.violation("history.config-beyond-the-end", f"4 bytes from {size + 1} on, of {size}")


@scenario(
    kernel={
        "6.1": "history.oversized-ring",
        "7.1": "history.oversized-ring",
        "tip-F4": "history.oversized-ring",
        "6.12": (),
        "tip": (),
    }
)
async def ring_beyond_the_maximum(sim: Simulator) -> None:
    """History 47: SET_VRING_NUM takes more than the device says it can."""
    device = await opened(sim)
    await device.set_owner()
    most = await device.get_vring_num()
    try:
        await device.set_vring_num(0, 2 * most)
    except OSError as error:
        assert error.errno == errno.EINVAL
    else:
        sim.violation("history.oversized-ring", f"a ring of {2 * most} for a device that has {most}")


@scenario(kernel={"tip-F15": "kernel.oops", "6.1": (), "6.12": (), "7.1": (), "tip": ()})
async def doorbell_of_a_wild_queue(sim: Simulator) -> None:
    """History 48: the doorbell of a queue the device has not; its driver is asked where that is."""
    vmm = sim.process("vmm")
    file = await vmm.open(sim.vdpa.dev_add("card", profile="mlx5-like").path)
    queues = await VhostVdpa(file).get_vqs_count()
    with refused(errno.EINVAL):
        await file.mmap(PAGE, PROT_WRITE, MAP_SHARED, (queues + 67) * PAGE)


@scenario(kernel={"tip+bug-packed-base": "history.packed-state-lost", "tip": ()}, extensions=("net_peer",))
async def state_of_a_packed_ring(sim: Simulator) -> None:
    """History 50: a packed ring's state is two indices, each with a wrap counter; only a number of 16 bits is taken."""
    path = sim.vdpa.dev_add("net", mgmtdev="net_peer", packed=1).path
    device = VhostVdpa(await sim.process("vmm").open(path))
    await device.set_owner()
    await device.set_features(FEATURES | 1 << VIRTIO_F_RING_PACKED)
    state = 0x8001_8001
    try:
        await device.set_vring_base(0, state)
    except OSError as error:
        assert error.errno == errno.EINVAL
    told = await device.get_vring_base(0)
    if told != state:
        sim.violation("history.packed-state-lost", f"{state:#x} was to be set, {told:#x} is there")


async def replayed(vmm: BlkVmm) -> bool:
    """Move the ring of a running disk back to its first request; whether that is executed once more."""
    await vmm.write_sector(0, b"1" * SECTOR)
    try:
        await vmm.device.set_vring_base(0, 0)
    except OSError as error:
        assert error.errno == errno.EINVAL
    await vmm.kick_device()
    return bool(await vmm.call.poll(POLLIN, timeout_ns=1_000_000))


@scenario(
    kernel={
        "6.1": ("history.request-replayed", "ring.replay"),
        "tip-ring-needs-suspend": ("history.request-replayed", "ring.replay"),
        "6.12": (),
        "7.1": (),
        "tip": (),
    }
)
async def base_of_a_running_ring(sim: Simulator) -> None:
    """History 51: SET_VRING_BASE under a running device; a write that was done is done again."""
    if await replayed(await boot(sim)):
        sim.violation("history.request-replayed", "the device completed a request that nobody had posted")


@scenario(
    kernel={
        "tip-suspend-needs-driver-ok": ("history.suspended-while-running", "ring.replay"),
        "6.1": ("history.suspended-while-running", "ring.replay"),
        "6.12": (),
        "tip": (),
    }
)
async def suspend_before_the_start(sim: Simulator) -> None:
    """History 52: SUSPEND of a device nobody has started; it runs later and counts as suspended."""
    vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.set_owner()
    await vmm.negotiate()
    await vmm.map_ram()
    await vmm.device.suspend()
    await vmm.start()
    if await replayed(vmm):
        sim.violation("history.suspended-while-running", "a running device let its ring be set as if it stood still")


@scenario(
    kernel={
        "6.1": ("history.map-lost-at-reset", "iotlb.divergence"),
        "tip-iotlb-persist": ("history.map-lost-at-reset", "iotlb.divergence"),
        "6.12": (),
        "7.1": (),
        "tip": (),
    }
)
async def map_across_a_reset(sim: Simulator) -> None:
    """History 55: the device is reset and started again; its map is gone, and mapping anew is refused as overlap."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await BlkVmm.create(sim.process("vmm"), path)
    await vmm.device.set_owner()
    wanted = await vmm.device.get_backend_features() & 1 << VHOST_BACKEND_F_IOTLB_PERSIST
    await vmm.device.set_backend_features(wanted)
    await vmm.negotiate()
    await vmm.map_ram()
    await vmm.start()
    await vmm.write_sector(0, b"1" * SECTOR)
    await vmm.device.set_status(0)

    vmm.vq = Virtqueue(vmm.ram, IOVA, QUEUE_NUM)
    await vmm.negotiate()
    with refused(errno.EFAULT, inside=errno.EEXIST):
        await vmm.map_ram()
    await vmm.start()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    if not await vmm.call.poll(POLLIN, timeout_ns=1_000_000):
        sim.violation("history.map-lost-at-reset", "the guest's requests are not served, and no UPDATE can change it")
    await vmm.device.set_status(0)  # what the request would have met differs: nothing, or an identity map


@scenario(
    kernel={
        "7.1": "history.feature-word-cleared",
        "tip": "history.feature-word-cleared",
        "7.1-bug-features-array-zero-fill": (),
        "tip-bug-features-array-zero-fill": (),
    }
)
async def three_feature_words(sim: Simulator) -> None:
    """History 65: GET_FEATURES_ARRAY with room for three words; the third stays as it was, the first is zeroed."""
    net = await sim.process("vmm").open("/dev/vhost-net")
    try:
        out = await net.ioctl(VHOST_GET_FEATURES_ARRAY.request(), (3).to_bytes(8, "little") + b"\xff" * 24)
    except OSError:
        return  # a kernel without the request
    if not any(out[8:16]):
        sim.violation("history.feature-word-cleared", "the device seems to offer none of the first 64 features")


@scenario(
    kernel={
        "6.12": "history.address-space-wiped",
        "7.1": "history.address-space-wiped",
        "tip": "history.address-space-wiped",
        "6.1": (),
        "tip-bug-va-undo-wipes-all": (),
    }
)
async def failed_update_at_0(sim: Simulator) -> None:
    """History 65: an UPDATE at iova 0 for an address without memory is refused, and everything else is unmapped."""
    vmm = await boot(sim)
    above = sim.kernel.abi.task_size - PAGE
    assert not vmm.process.mm.read(above, 1)
    with refused(errno.EFAULT):
        await vmm.device.iotlb_update(0, PAGE, above, perm=PROT_READ)
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    if not await vmm.call.poll(POLLIN, timeout_ns=1_000_000):
        await vmm.device.iotlb_update(IOVA, RAM, vmm.ram.addr)  # nothing overlaps any more
        sim.violation("history.address-space-wiped", "the guest's memory was unmapped by a request that failed")
