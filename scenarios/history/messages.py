"""Bugs that were: messages, the IOTLB and misses.

Each story is told on a kernel that has the bug and on one that has not, and reports what it sees go wrong, by bytes,
counts and errnos. The number is that of the list in docs/history.md.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.abi import I386
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.vhost import VHOST_SET_LOG_BASE
from vdpasim.uapi.virtio_config import VHOST_F_LOG_ALL
from vdpasim.vmm.blk import IOVA, RAM, BlkVmm
from vdpasim.vmm.guest import Buffer
from vdpasim.vmm.handles import VhostNet, VhostVdpa
from vdpasim.vmm.vhost_net import ACCESS_PLATFORM, RX, TX, VhostNetVmm

PAGE = 4096
TOP = 1 << 64
ASID = 1 << 3


async def blk(sim: Simulator, **options: int) -> BlkVmm:
    """A VMM that owns a block device and has told it nothing."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk", **options).path
    vmm = await BlkVmm.create(sim.process("vmm", memlock=64 << 20), path)
    await vmm.device.set_owner()
    return vmm


@scenario(kernel={"tip+bug-message-without-iotlb": "kernel.oops", "tip": ()})
async def message_without_iotlb(sim: Simulator) -> None:
    """History 1: an UPDATE for a vhost-net that never heard of ACCESS_PLATFORM; it has no table to put it in."""
    net = VhostNet(await sim.process("vmm").open("/dev/vhost-net"))
    with refused(errno.EFAULT):
        await net.iotlb_update(IOVA, PAGE, PAGE)


@scenario(kernel={"tip+bug-message-padding": "kernel.leak", "tip": ()})
async def message_padding(sim: Simulator) -> None:
    """History 2: a miss is read; more than half of its bytes are no field, and nobody had written them."""
    vmm = await VhostNetVmm.create(sim)
    await vmm.negotiate()
    await vmm.set_up_ring()
    with refused(errno.EFAULT):  # the used ring is not mapped, which makes a miss
        await vmm.attach()
    data = await vmm.file.read(72)
    assert not any(data[4:8])
    assert not any(data[8 + 32 :])


@scenario(kernel={"tip+bug-no-msg-v2": "history.shut-out", "tip": ()})
async def program_of_32_bits(sim: Simulator) -> None:
    """History 3: a 32-bit VMM under a 64-bit kernel; of its messages of the first format none is understood."""
    vmm = await VhostNetVmm.create(sim)
    await vmm.negotiate()
    program = VhostNet(vmm.file, abi=I386, version=1)
    with refused(errno.EFAULT):
        await program.iotlb_update(IOVA, RAM, vmm.ram.addr)
    program.version = 2
    try:
        await program.iotlb_update(IOVA, RAM, vmm.ram.addr)
    except OSError:
        sim.violation("history.shut-out", "there is no second format, so a 32-bit program cannot map anything")


@scenario(kernel={"tip+bug-miss-last-byte": ("history.queue-sleeps", "miss.unanswered"), "tip": ()})
async def miss_of_the_last_byte(sim: Simulator) -> None:
    """History 5: a frame begins with the last byte of a page; mapping that page is the answer, and wakes nobody."""
    vmm = await VhostNetVmm.create(sim)
    await vmm.negotiate()
    await vmm.net.iotlb_update(IOVA, PAGE, vmm.ram.addr)
    await vmm.set_up_ring()
    await vmm.attach()
    first = IOVA + 2 * PAGE - 1
    vmm.ring.add(Buffer(first, 60))
    await vmm.kick_device()
    miss = await vmm.net.read_miss()
    assert miss.iova == first
    await vmm.net.iotlb_update(first - PAGE + 1, PAGE, vmm.ram.addr + PAGE)
    await sim.settle()
    if not await vmm.file.poll(POLLIN, timeout_ns=0):
        sim.violation("history.queue-sleeps", "the queue did not come to ask for the frame's second byte")


@scenario(kernel={"tip+bug-iotlb-recreate-cache": "kernel.oops", "tip": ()})
async def iotlb_made_anew(sim: Simulator) -> None:
    """History 6: SET_FEATURES a second time makes a new IOTLB; the ring is reached through entries of the old."""
    vmm = await VhostNetVmm.boot(sim)
    assert await vmm.send(b"one") == b"one"
    await vmm.net.set_features(ACCESS_PLATFORM)
    vmm.post(b"two")
    await vmm.kick_device()
    await sim.settle()


@scenario(kernel={"tip+bug-log-iova": "history.dirty-page-lost", "tip": ()})
async def dirty_page_behind_an_iommu(sim: Simulator) -> None:
    """History 7: a frame arrives while the VMM migrates its guest; the page it lies in is not marked, another is."""
    vmm = await VhostNetVmm.create(sim, queue=RX)
    await vmm.negotiate()
    await vmm.net.set_mem_table([(0, RAM, vmm.ram.addr)])
    log = vmm.process.mmap(PAGE)
    await vmm.net.put_int(VHOST_SET_LOG_BASE, 8, log.addr)
    await vmm.net.set_features(ACCESS_PLATFORM | 1 << VHOST_F_LOG_ALL)
    await vmm.map_ram()
    await vmm.set_up_ring()
    await vmm.attach()
    page = 8
    vmm.ring.add(Buffer(IOVA + page * PAGE, 64, writable=True))
    await vmm.wire.write(b"a frame")
    await sim.settle()
    assert vmm.ring.used()
    marked = int.from_bytes(log.read(0, PAGE), "little")
    if not marked >> page & 1:
        sim.violation("history.dirty-page-lost", f"guest page {page} was written, the log says {marked:#x}")


@scenario(kernel={"tip+bug-update-size-zero": "kernel.hang", "tip": ()})
async def update_of_everything(sim: Simulator) -> None:
    """History 8: UPDATE {0, 0} maps the whole address space with a size of 0, and the worker walks on the spot."""
    vmm = await VhostNetVmm.create(sim)
    await vmm.negotiate()
    try:
        await vmm.net.iotlb_update(0, 0, 0)
    except OSError as error:
        assert error.errno == errno.EINVAL
        return
    _, avail, used = (vmm.ram.addr + at for at in (0, vmm.ring.avail_at, vmm.ring.used_at))
    await vmm.net.set_vring_num(TX, vmm.ring.num)
    await vmm.net.set_vring_addr(TX, 0, avail, used)
    await vmm.attach()
    await sim.settle()


@scenario(kernel={"tip+bug-batch-size-zero": "history.batch-refused", "tip": ()})
async def batch_without_size(sim: Simulator) -> None:
    """History 9: BATCH_BEGIN has no size, and a check that was made for UPDATE wants one of every message."""
    vmm = await blk(sim)
    try:
        await vmm.device.batch_begin()
    except OSError as error:
        assert error.errno == errno.EINVAL
        sim.violation("history.batch-refused", "a VMM that batches cannot map guest memory any more")
        return
    await vmm.map_ram()
    await vmm.device.batch_end()


@scenario(kernel={"tip+bug-invalidate-size-zero": "history.flush-refused", "tip": ()})
async def flush_with_size_zero(sim: Simulator) -> None:
    """History 10: INVALIDATE {0, 0} is how a user flushes everything; refused, what was mapped stays."""
    vmm = await VhostNetVmm.boot(sim)
    try:
        await vmm.net.iotlb_invalidate(0, 0)
    except OSError as error:
        assert error.errno == errno.EINVAL
    vmm.post(b"from memory that was taken away")
    await vmm.kick_device()
    await sim.settle()
    if vmm.ring.used():
        sim.violation("history.flush-refused", "the frame was sent from memory that the VMM had flushed")


@scenario(kernel={"tip+bug-lookup-grows": "history.missed-though-mapped", "tip": ()})
async def look_up_that_grows(sim: Simulator) -> None:
    """History 11: a frame in two mappings at the very top; the look-up for the second reaches beyond the end."""
    vmm = await VhostNetVmm.boot(sim)
    for at in (0, PAGE):
        await vmm.net.iotlb_update(TOP - 2 * PAGE + at, PAGE, vmm.ram.addr + 0x10000 + 2 * at)
    vmm.ring.add(Buffer(TOP - 2 * PAGE, PAGE + 1000))
    await vmm.kick_device()
    await sim.settle()
    if await vmm.file.poll(POLLIN, timeout_ns=0):
        miss = await vmm.net.read_miss()
        assert miss.iova == TOP - PAGE
        sim.violation("history.missed-though-mapped", f"a miss at {miss.iova:#x}, which is mapped")
    else:
        assert vmm.ring.used()


@scenario(kernel={"tip+bug-stale-misses": "history.stale-miss", "tip": ()})
async def miss_of_a_removed_backend(sim: Simulator) -> None:
    """History 12: the backend goes and comes back for a ring with nothing in it, and an old question is read."""
    vmm = await VhostNetVmm.boot(sim)
    vmm.ring.add(Buffer(IOVA + 2 * RAM, 60))
    await vmm.kick_device()
    await sim.settle()
    await vmm.detach()
    await vmm.net.set_vring_base(TX, 1)  # the guest's driver took the frame back
    await vmm.attach()
    await sim.settle()
    if await vmm.file.poll(POLLIN, timeout_ns=0):
        miss = await vmm.net.read_miss()
        sim.violation("history.stale-miss", f"somebody asks for {miss.iova:#x}, of a frame that is in no ring")


@scenario(kernel={"tip+bug-update-wrap": "history.wrapped-update", "tip": ()}, options={"use_va": False})
async def update_that_wraps(sim: Simulator) -> None:
    """History 14: two pages from the last page of the address space on; the second is mapped at 0."""
    vmm = await blk(sim)
    try:
        await vmm.device.iotlb_update(TOP - PAGE, 2 * PAGE, vmm.ram.addr)
    except OSError:
        pass
    try:
        await vmm.device.iotlb_update(0, PAGE, vmm.ram.addr)
    except OSError as error:
        assert getattr(error, "handler_errno", 0) == errno.EEXIST
        sim.violation("history.wrapped-update", "there is something at iova 0, where nothing was mapped")


@scenario(kernel={"tip+bug-user-range-off-by-one": "history.last-page-refused", "tip": ()})
async def last_page_of_all(sim: Simulator) -> None:
    """History 15: a range that ends with the last byte of the address space does not overflow; refused all the same."""
    vmm = await VhostNetVmm.create(sim)
    await vmm.negotiate()
    try:
        await vmm.net.iotlb_update(IOVA, PAGE, TOP - PAGE, perm=0)  # with a permission it would have to be user memory
    except OSError as error:
        assert error.errno == errno.EFAULT
        sim.violation("history.last-page-refused", "the sum of address and size was compared, not the last byte")


@scenario(
    kernel={"7.1": "history.pages-overflow", "tip-F2": "history.pages-overflow", "6.1": (), "6.12": (), "tip": ()},
    abi="i386",
    options={"use_va": False},
)
async def number_of_pages(sim: Simulator) -> None:
    """History 16: 2^32 pages and one more, counted in 32 bits: the UPDATE succeeds and one page is mapped."""
    vmm = await blk(sim)
    device = VhostVdpa(vmm.file, abi=I386)
    try:
        await device.iotlb_update(IOVA, (PAGE << 32) + PAGE, vmm.ram.addr)
    except OSError:
        return
    await device.iotlb_update(IOVA + PAGE, PAGE, vmm.ram.addr)  # it would overlap if all had been mapped
    sim.violation("history.pages-overflow", "16 TiB were promised and one page was mapped")


@scenario(
    kernel={"7.1": "history.unlimited-entries", "tip-F1": "history.unlimited-entries", "6.1": (), "6.12": (), "tip": ()}
)
async def entries_without_limit(sim: Simulator) -> None:
    """History 17: the 2049th entry of an address space is taken like any other; each is kernel memory."""
    vmm = await blk(sim)
    await vmm.device.batch_begin()
    taken = 0
    try:
        for i in range(2049):
            await vmm.device.iotlb_update(i * PAGE, 1, vmm.ram.addr)
            taken += 1
    except OSError as error:
        assert getattr(error, "handler_errno", 0) == errno.ENOSPC
    await vmm.device.batch_end()
    if taken > 2048:
        sim.violation("history.unlimited-entries", f"{taken} entries, and nothing to stop the next")


@scenario(
    kernel={"tip+bug-pin-leak": "history.pinned-for-ever", "tip": ()},
    options={"use_va": False, "max_iotlb_entries": 2},
)
async def pins_of_a_failed_update(sim: Simulator) -> None:
    """History 19: the device takes two of four pages; the UPDATE fails and some of them stay pinned."""
    vmm = await blk(sim)
    try:
        await vmm.device.iotlb_update(IOVA, 4 * PAGE, vmm.ram.addr)
    except OSError as error:
        assert getattr(error, "handler_errno", 0) == errno.ENOSPC
    else:
        return  # before F1 the device has room for everything
    pins = sim.pages.statistics().pins
    if pins:
        sim.violation("history.pinned-for-ever", f"{pins} pages are pinned and no entry knows of them")


@scenario(
    kernel={"tip+bug-close-leaks-asid": ("history.pinned-after-close", "iotlb.divergence"), "tip": ()},
    options={"use_va": False},
)
async def address_space_behind_the_first(sim: Simulator) -> None:
    """History 21: memory mapped for address space 1 is still pinned when the device has been closed."""
    vmm = sim.process("vmm")
    ram = vmm.mmap(RAM, vmm.memfd("ram", RAM))
    async with await vmm.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path) as file:
        net = VhostVdpa(file)
        await net.set_owner()
        await net.set_backend_features(ASID)
        await net.iotlb_update(IOVA, 4 * PAGE, ram.addr, asid=1)
    pins = sim.pages.statistics().pins
    if pins:
        sim.violation("history.pinned-after-close", f"{pins} pages are pinned for a device that nobody has open")


@scenario(kernel={"tip-F16": "history.no-such-group", "6.1": (), "6.12": (), "7.1": (), "tip": ()})
async def group_beyond_the_last(sim: Simulator) -> None:
    """History 22: SET_GROUP_ASID for group 2 of a device with two; the number was held against that of the queues."""
    net = VhostVdpa(await sim.process("vmm").open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
    await net.set_owner()
    groups = await net.get_group_num()
    try:
        await net.set_group_asid(groups, 0)
    except OSError as error:
        assert error.errno == errno.EINVAL
    else:
        sim.violation("history.no-such-group", f"group {groups} was bound, the last one is {groups - 1}")
