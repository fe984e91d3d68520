"""Misses that are under way when the VMM is replaced (LU52-LU56).

A miss is in one of two lists: not read yet, or read and not answered. Neither is the process's; both outlive exec with
the file. A queue that waits for an answer is woken by an UPDATE that covers a miss in the second list, or by a kick,
and by nothing else. The device kind that maps on demand (vhost-vdpa+miss, which no kernel has) shows what that means
for a device that can change owners; vhost-net, which cannot, has the same lists.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.message import Message
from vdpasim.uapi.vhost_types import VHOST_IOTLB_REMAP
from vdpasim.vmm.blk import IOVA, RAM, SECTOR, BlkVmm
from vdpasim.vmm.vhost_net import FRAME_AT, VhostNetVmm

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
SERIES = (V1, V2, FIXED)
MAINLINE = ("6.1", "6.12", "7.1", "tip")
MISS = ("vhost-vdpa+miss",)
PAGE = 4096
MSG_V2 = 1 << 1
NEW_ADDRESS = 0x6000_0000_0000
PATIENCE = 1_000_000_000
"""How long a reader waits, in nanoseconds."""
LOOKS = 10
"""How often it looks meanwhile."""


async def boot(sim: Simulator) -> BlkVmm:
    """A disk with nothing mapped; the guest has posted a request and kicked, and one miss is there to be read."""
    vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk+miss").path)
    await vmm.device.set_owner()
    await vmm.device.set_backend_features(MSG_V2)
    await vmm.negotiate()
    await vmm.start()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    await sim.settle()
    return vmm


async def take_over(vmm: BlkVmm) -> None:
    """Suspend, exec, NEW_OWNER, RESUME; nothing is mapped, so there is nothing to remap."""
    await vmm.device.suspend()
    await vmm.exec(NEW_ADDRESS)
    await vmm.device.new_owner()
    await vmm.device.resume()


async def answer(vmm: BlkVmm, miss: Message) -> None:
    """Map the page that was asked for."""
    page = miss.iova & -PAGE
    await vmm.device.iotlb_update(page, PAGE, vmm.ram.addr + page - IOVA)


async def serve(sim: Simulator, vmm: BlkVmm) -> None:
    """Answer what can be read until nothing comes any more."""
    await sim.settle()
    while await vmm.file.poll(POLLIN, timeout_ns=0):
        await answer(vmm, await vmm.device.read_miss())
        await sim.settle()


async def waits_in_vain(vmm: BlkVmm) -> None:
    """Nothing more comes to be read, however long one waits, and the request is in the ring still."""
    assert not await vmm.file.poll(POLLIN, timeout_ns=PATIENCE)
    assert not vmm.vq.used(), "the queue was not asleep"


# -- LU52: not read


async def wait_for_edge(sim: Simulator, vmm: BlkVmm) -> bool:
    """Wait until the file *becomes* readable, as an edge-triggered loop does that has not read it empty before."""
    before = await vmm.file.poll(POLLIN, timeout_ns=0)
    for _ in range(LOOKS):
        await sim.sleep(PATIENCE // LOOKS)
        now = await vmm.file.poll(POLLIN, timeout_ns=0)
        if now and not before:
            return True
        before = now
    return False


@scenario(kernel=dict.fromkeys(SERIES, "miss.unanswered"), extensions=MISS, tags="LU52")
async def lu52_waits_for_a_new_one(sim: Simulator) -> None:
    """The new image believes the file empty and waits for an edge of poll(): the miss was there before it came."""
    vmm = await boot(sim)
    await take_over(vmm)
    await sim.settle()
    assert not await wait_for_edge(sim, vmm), "the level was there, and no edge came"
    assert not vmm.vq.used()


@scenario(kernel=SERIES, extensions=MISS, tags="LU52:twin")
async def lu52_drains_first(sim: Simulator) -> None:
    """Whoever takes over reads what is there before it waits for more."""
    vmm = await boot(sim)
    await take_over(vmm)
    await serve(sim, vmm)
    assert len(vmm.vq.used()) == 1


# -- LU53: read and not answered


@scenario(kernel=dict.fromkeys(SERIES, "miss.unanswered"), extensions=MISS, tags="LU53", domain={"others": (0, 1, 5)})
async def lu53_read_and_not_answered(sim: Simulator, *, others: int = 1) -> None:
    """The old image had read the question; the new one finds nothing to read, and maps other pages in vain."""
    vmm = await boot(sim)
    await vmm.device.read_miss()
    await take_over(vmm)
    for number in range(others):
        await vmm.device.iotlb_update(IOVA + RAM + number * PAGE, PAGE, vmm.ram.addr)
    await serve(sim, vmm)
    await waits_in_vain(vmm)


@scenario(kernel=SERIES, extensions=MISS, tags="LU53:twin")
async def lu53_answer_handed_over(sim: Simulator) -> None:
    """The old image hands the open question over with the rest of its state, and the new one answers it."""
    vmm = await boot(sim)
    miss = await vmm.device.read_miss()
    await take_over(vmm)
    await answer(vmm, miss)
    await serve(sim, vmm)
    assert len(vmm.vq.used()) == 1


@scenario(kernel=SERIES, extensions=MISS, tags="LU53:twin")
async def lu53_asked_again(sim: Simulator) -> None:
    """Or it kicks each queue once, and the device asks again."""
    vmm = await boot(sim)
    await vmm.device.read_miss()
    await take_over(vmm)
    await vmm.kick_device()
    await serve(sim, vmm)
    assert len(vmm.vq.used()) == 1


# -- LU54: the wrong answer


@scenario(kernel=dict.fromkeys(SERIES, "miss.unanswered"), extensions=MISS, tags="LU54", domain={"others": (0, 1)})
async def lu54_answered_by_remap(sim: Simulator, *, others: int = 1) -> None:
    """REMAP changes an entry and a miss is that there is none: refused, and the queue sleeps on."""
    vmm = await boot(sim)
    miss = await vmm.device.read_miss()
    await take_over(vmm)
    for _ in range(others):
        await vmm.device.iotlb_update(IOVA + RAM, PAGE, vmm.ram.addr)
    page = miss.iova & -PAGE
    with refused(errno.EFAULT, inside=errno.ENOENT if others else errno.EINVAL):  # no entry, or no table yet
        await vmm.device.iotlb_remap(page, PAGE, vmm.ram.addr + page - IOVA)
    await serve(sim, vmm)
    await waits_in_vain(vmm)


@scenario(kernel=(*MAINLINE, *SERIES), tags="LU54")
async def lu54_remap_to_vhost_net(sim: Simulator) -> None:
    """vhost-net does not know REMAP with any series: refused, nothing is sent, and UPDATE still answers."""
    vmm = await miss_on_frame(sim)
    await vmm.net.read_miss()
    page = IOVA + FRAME_AT & -PAGE
    with refused(errno.EFAULT, inside=errno.EINVAL):
        await vmm.net.iotlb(VHOST_IOTLB_REMAP, iova=page, size=PAGE, uaddr=vmm.ram.addr + FRAME_AT)
    await sim.settle()
    assert not vmm.ring.used()
    await vmm.net.iotlb_update(page, PAGE, vmm.ram.addr + FRAME_AT)
    assert await vmm.wire.read(PAGE) == FRAME


@scenario(kernel=SERIES, extensions=MISS, tags="LU54:twin")
async def lu54_answered_by_update(sim: Simulator) -> None:
    """UPDATE is the answer to a miss, before and after a change of owners."""
    vmm = await boot(sim)
    miss = await vmm.device.read_miss()
    await take_over(vmm)
    await answer(vmm, miss)
    await serve(sim, vmm)
    assert len(vmm.vq.used()) == 1


# -- LU55: an answer that is too old

FRAME = b"the frame the guest means".ljust(60, b".")
SECRET = b"the page that was taken away".ljust(60, b".")
ELSEWHERE = 0x2_0000


async def miss_on_frame(sim: Simulator) -> VhostNetVmm:
    """vhost-net with its ring mapped; the guest's frame is on a page that is not."""
    vmm = await VhostNetVmm.create(sim)
    await vmm.negotiate()
    await vmm.net.set_backend_features(MSG_V2)
    await vmm.net.iotlb_update(IOVA, PAGE, vmm.ram.addr)
    await vmm.set_up_ring()
    await vmm.attach()
    vmm.post(FRAME)
    await vmm.kick_device()
    await sim.settle()
    return vmm


async def guest_moves_page(vmm: VhostNetVmm) -> None:
    """The guest's IOMMU: the page leads elsewhere now, and the VMM invalidates what the device may have."""
    header = bytes(10)
    vmm.ram.write(ELSEWHERE, header + FRAME)
    vmm.ram.write(FRAME_AT, header + SECRET)
    await vmm.net.iotlb_invalidate(IOVA + FRAME_AT & -PAGE, PAGE)


@scenario(kernel={**dict.fromkeys(MAINLINE, "miss.stale-answer"), V1: "miss.stale-answer"}, tags="LU55")
async def lu55_answered_with_an_old_translation(sim: Simulator) -> None:
    """Translated, then invalidated, then answered: the mapping that was taken away comes back, and stays."""
    vmm = await miss_on_frame(sim)
    await vmm.net.read_miss()
    translated = vmm.ram.addr + FRAME_AT
    await guest_moves_page(vmm)
    await vmm.net.iotlb_update(IOVA + FRAME_AT & -PAGE, PAGE, translated)
    if await vmm.wire.read(PAGE) == SECRET:
        sim.violation("miss.stale-answer", "the device read a page that the guest had taken away from it")


@scenario(kernel=(*MAINLINE, V1), tags="LU55:twin")
async def lu55_translated_again(sim: Simulator) -> None:
    """Whoever answers looks after the last INVALIDATE, under the lock that it takes as well."""
    vmm = await miss_on_frame(sim)
    await vmm.net.read_miss()
    await guest_moves_page(vmm)
    translated = vmm.ram.addr + ELSEWHERE
    await vmm.net.iotlb_update(IOVA + FRAME_AT & -PAGE, PAGE, translated)
    assert await vmm.wire.read(PAGE) == FRAME


# -- LU56: two formats in one stream


async def two_formats(sim: Simulator, *, first: bool) -> list[int]:
    """Misses in one format, SET_BACKEND_FEATURES, and then in the other; the type word of each as it is read.

    There are two, and more where the worker looks in between: every look that misses is a message.
    """
    vmm = await VhostNetVmm.create(sim)
    await vmm.negotiate()
    await vmm.net.set_backend_features(MSG_V2 if first else 0)
    await vmm.net.iotlb_update(IOVA, PAGE, vmm.ram.addr)
    await vmm.set_up_ring()
    await vmm.attach()
    vmm.post(FRAME)
    await vmm.kick_device()
    await sim.settle()
    await vmm.net.set_backend_features(0 if first else MSG_V2)
    await vmm.kick_device()
    await sim.settle()
    found: list[int] = []
    while await vmm.file.poll(POLLIN, 0):
        found.append(int.from_bytes((await vmm.file.read(72))[:4], "little"))
    return found


@scenario(kernel=dict.fromkeys(MAINLINE, "vmm.message-misread"), tags="LU56", domain={"second_first": (False, True)})
async def lu56_format_by_what_was_acked(sim: Simulator, *, second_first: bool = False) -> None:
    """A reader that takes all messages for the format it acked last: the older ones are of the other."""
    formats = await two_formats(sim, first=second_first)
    acked = 1 if second_first else 2
    if any(one != acked for one in formats):
        sim.violation("vmm.message-misread", f"formats {formats} were read as format {acked}")


@scenario(kernel=MAINLINE, tags="LU56:twin", domain={"second_first": (False, True)})
async def lu56_format_by_the_type_word(sim: Simulator, *, second_first: bool = False) -> None:
    """The first word of a message says which it is, whatever was acked since it was queued."""
    formats = await two_formats(sim, first=second_first)
    assert list(dict.fromkeys(formats)) == ([2, 1] if second_first else [1, 2])
