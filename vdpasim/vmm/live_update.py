"""A live update, step by step: a VMM hands its running device to its successor.

Theory. The old process stops the device and saves what it must; the descriptors reach the new process, by exec or over
a socket; the new process has guest memory at other addresses, becomes the owner, tells the device the new addresses and
lets it run. :data:`STEPS` is that sequence, once, with the requests of each step; :class:`LiveUpdate` plays it. A story
that wants to see what goes wrong skips, replaces, moves or surrounds a step by its name::

    update = LiveUpdate(await LiveVmm.boot(sim.process("vmm"), disk.path, blocks=3))
    update.skip("remap")
    vmm = await update.run()

Two variants: *resume* stops the device by SUSPEND and lets it go on by RESUME; *reset* resets it in between and sets it
up again from what was saved. The order of the steps is hard in three places: ``suspend`` before any old address goes
away, ``new-owner`` before ``rings`` and ``remap`` (EPERM), ``remap`` before ``run``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, get_args

import attrs

from vdpasim.uapi import errno as E
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.vhost_types import (
    VHOST_BACKEND_F_IOTLB_PERSIST,
    VHOST_BACKEND_F_IOTLB_REMAP,
    VHOST_BACKEND_F_NEW_OWNER,
    VHOST_BACKEND_F_SUSPEND,
)
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK
from vdpasim.vmm.blk import DATA_AT, FEATURES, HEADER, HEADER_AT, IOVA, QUEUE_NUM, RAM, SECTOR, STATUS_AT, BlkVmm
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.handles import VhostVdpa

if TYPE_CHECKING:
    from vdpasim.sim import File, Process, Region

Variant = Literal["resume", "reset"]
SystemEvent = Literal["reset", "shutdown", "crash"]
"""What a guest does to its machine (KVM_EXIT_SYSTEM_EVENT)."""
Way = Literal["exec", "transfer"]
Order = Literal["forward", "reverse"]

NEW_ADDRESS = 0x6000_0000_0000
"""Where the new image has its first block of guest memory, unless told otherwise."""
GAP = 1 << 32
"""Between blocks of the new image."""
BLOCK = 1 << 16
"""Size of each block of guest memory behind the first."""


@attrs.frozen
class Step:
    """One step of the sequence."""

    name: str
    who: Literal["old", "new"]
    """Which process makes it."""
    requests: str
    """What is sent, for people."""
    doc: str
    """Why."""
    variant: Variant | None = None
    """The variant that has it; None: both."""


STEPS: tuple[Step, ...] = (
    Step("check", "old", "GET_BACKEND_FEATURES", "refuse early where the device cannot do what the sequence needs"),
    Step("stop-vcpus", "old", "", "the guest makes no more requests"),
    Step("suspend", "old", "SUSPEND", "requests in flight complete, the device stands still"),
    Step("save", "old", "GET_STATUS, GET_FEATURES, GET_VRING_BASE", "what only the device knows"),
    Step("end-batch", "old", "BATCH_END if one is open", "it would stay open, and the successor's maps unseen"),
    Step("reset", "old", "SET_STATUS 0", "the device forgets its rings, and its map unless that persists", "reset"),
    Step("hand-over", "old", "exec, or SCM_RIGHTS", "the descriptors reach the successor; no INVALIDATE"),
    Step("map-memory", "new", "mmap", "guest memory, at other addresses"),
    Step("new-owner", "new", "NEW_OWNER", "the device works in this address space from here on"),
    Step("backend-features", "new", "SET_BACKEND_FEATURES", "what the program can do, this one"),
    Step("negotiate", "new", "SET_STATUS, SET_FEATURES", "up to FEATURES_OK", "reset"),
    Step("rings", "new", "SET_VRING_NUM, _ADDR, _BASE, _CALL, _KICK, SET_GROUP_ASID", "after RESUME only the eventfds"),
    Step("config-call", "new", "SET_CONFIG_CALL", "config interrupts come here"),
    Step("remap", "new", "BATCH_BEGIN, REMAP of each entry, BATCH_END", "if the device offers IOTLB_REMAP it needs it"),
    Step("enable", "new", "SET_VRING_ENABLE", "the queues", "reset"),
    Step("events", "new", "SET_STATUS 0 if the guest was reset", "what the guest did last, before its rings are used"),
    Step("run", "new", "RESUME, or SET_STATUS DRIVER_OK", "the device goes on"),
    Step("kick", "new", "kick", "each queue once: a notification may have been lost"),
    Step("start-vcpus", "new", "", "the guest goes on"),
)


@attrs.define
class Block:
    """A block of guest memory: one object, mapped into the VMM and given to the device by one UPDATE."""

    iova: int
    size: int
    memfd: File
    region: Region
    asid: int = 0


@attrs.define
class LiveVmm(BlkVmm):
    """:class:`BlkVmm` with more blocks of guest memory; the ring is in the first, data may be in any."""

    blocks: list[Block] = attrs.Factory(list[Block])
    events: list[SystemEvent] = attrs.Factory(list["SystemEvent"])
    """What was reported and nobody has acted upon; it is in the image's memory, so exec loses what is not saved."""
    guest: Literal["runs", "reset", "stopped"] = "runs"
    """What the VMM believes."""
    groups: dict[int, int] = attrs.Factory(dict["int", "int"])
    """Group -> the address space it was given; a reset of the device forgets it."""
    open_batch: int | None = None
    """The address space of the batch that is open."""

    @classmethod
    async def boot(
        cls,
        process: Process,
        path: str,
        *,
        blocks: int = 1,
        asid: int = 0,
        backend_features: int | None = None,
    ) -> LiveVmm:
        """Bring a device up; its queue and all blocks are in address space ``asid``.

        ``backend_features`` is what is acked; None: all that is offered.
        """
        vmm = await cls.create(process, path)
        vmm.blocks = [Block(IOVA, RAM, vmm.memfd, vmm.ram, asid)]
        for number in range(1, blocks):
            memfd = process.memfd(f"block{number}", BLOCK)
            vmm.blocks.append(Block(IOVA + RAM + number * 2 * BLOCK, BLOCK, memfd, process.mmap(BLOCK, memfd), asid))
        await vmm.device.set_owner()
        offered = await vmm.device.get_backend_features()
        await vmm.device.set_backend_features(offered if backend_features is None else backend_features)
        await vmm.negotiate()
        if asid:
            await vmm.assign(0, asid)
        await vmm.map_ram()
        await vmm.start()
        return vmm

    async def map_ram(self) -> None:
        """One UPDATE a block."""
        for block in self.blocks:
            await self.device.iotlb_update(block.iova, block.size, block.region.addr, asid=block.asid)

    async def assign(self, group: int, asid: int) -> None:
        """SET_GROUP_ASID."""
        await self.device.set_group_asid(group, asid)
        self.groups[group] = asid

    async def begin_batch(self, asid: int = 0) -> None:
        """BATCH_BEGIN."""
        await self.device.batch_begin(asid=asid)
        self.open_batch = asid

    async def close_batch(self) -> None:
        """BATCH_END, if a batch is open."""
        asid, self.open_batch = self.open_batch, None
        if asid is not None:
            await self.device.batch_end(asid=asid)

    async def act_on(self, event: SystemEvent) -> None:
        """What the guest did to its machine: its device stops, and what was known of its rings is worth nothing."""
        await self.device.set_status(0)
        self.guest = "reset" if event == "reset" else "stopped"

    async def boot_guest(self) -> None:
        """The guest's driver begins again, with an empty ring."""
        self.vq = Virtqueue(self.ram, IOVA, QUEUE_NUM)
        await self.negotiate()
        for group, asid in self.groups.items():
            await self.assign(group, asid)
        await self.start()
        self.guest = "runs"

    def post_into(self, block: int, kind: int, sector: int, data: bytes | int) -> int:
        """As :meth:`BlkVmm.post`, with the data in any block, at :data:`DATA_AT`."""
        where = self.blocks[block]
        self.ram.write(HEADER_AT, HEADER.pack(kind, 0, sector))
        self.ram.write(STATUS_AT, b"\xff")
        if isinstance(data, bytes):
            where.region.write(DATA_AT, data)
        length = data if isinstance(data, int) else len(data)
        middle = Buffer(where.iova + DATA_AT, length, writable=isinstance(data, int))
        header = Buffer(self.vq.iova(HEADER_AT), HEADER.size)
        return self.vq.add(header, middle, Buffer(self.vq.iova(STATUS_AT), 1, writable=True))

    async def read_into(self, block: int, sector: int, length: int = SECTOR) -> bytes:
        """Read sectors into a block, and what is there then.

        Raises:
            AssertionError: the device answered anything but OK.
        """
        self.post_into(block, blk.VIRTIO_BLK_T_IN, sector, length)
        await self.kick_device()
        status = await self.wait()
        assert status == blk.VIRTIO_BLK_S_OK, f"IN answered {status}"
        return self.blocks[block].region.read(DATA_AT, length)


Action = Callable[["LiveUpdate"], Awaitable[None]]


@attrs.define
class LiveUpdate:
    """Plays :data:`STEPS` for one VMM; change them before :meth:`run`."""

    vmm: LiveVmm
    """The VMM, the new one from ``hand-over`` on."""
    variant: Variant = "resume"
    way: Way = "exec"
    addresses: list[int] | None = None
    """Where the new image has the blocks; None: at :data:`NEW_ADDRESS`, one :data:`GAP` apart."""
    batched: bool = True
    """REMAPs are in a batch."""
    order: Order = "forward"
    """Of the REMAPs."""
    memlock: int | None = None
    """RLIMIT_MEMLOCK of the new process in bytes; None: the old one's."""
    old: LiveVmm | None = None
    """After ``hand-over`` by transfer: the VMM that gave the device away, still alive."""
    base: int = 0
    """Index of the next request, as it was saved."""
    features: int = FEATURES
    """Virtio features that were acked, as far as the device still offers them."""
    status: int = 0
    """Device status, as it was saved."""
    events: list[SystemEvent] = attrs.Factory(list["SystemEvent"])
    """Events that were saved for the new image."""
    done: list[str] = attrs.Factory(list[str])
    """Names of the steps that were made."""
    _order: list[str] = attrs.field(init=False)
    _actions: dict[str, Action] = attrs.Factory(dict[str, Action])
    _before: dict[str, list[Action]] = attrs.Factory(dict[str, "list[Action]"])
    _after: dict[str, list[Action]] = attrs.Factory(dict[str, "list[Action]"])

    def __attrs_post_init__(self) -> None:
        for word, known in ((self.variant, Variant), (self.way, Way), (self.order, Order)):
            if word not in get_args(known):
                raise ValueError(f"{word!r} is none of {', '.join(get_args(known))}")
        self._order = [step.name for step in STEPS if step.variant in (None, self.variant)]

    # -- changing the sequence

    def skip(self, *names: str) -> LiveUpdate:
        """Leave steps out.

        Raises:
            ValueError: this variant has no such step.
        """
        for name in names:
            self.at(name)
        self._order = [name for name in self._order if name not in names]
        return self

    def move(self, name: str, *, before: str) -> LiveUpdate:
        """Make a step earlier, or later. Raises as :meth:`skip`."""
        if name == before:
            raise ValueError(f"step {name!r} cannot stand before itself")
        self.at(before)
        self.skip(name)
        self._order.insert(self.at(before), name)
        return self

    def replace(self, name: str, action: Action) -> LiveUpdate:
        """Do something else in the place of a step. Raises as :meth:`skip`."""
        self.at(name)
        self._actions[name] = action
        return self

    def before(self, name: str, action: Action) -> LiveUpdate:
        """Do something before a step. Raises as :meth:`skip`."""
        self.at(name)
        self._before.setdefault(name, []).append(action)
        return self

    def after(self, name: str, action: Action) -> LiveUpdate:
        """Do something behind a step. Raises as :meth:`skip`."""
        self.at(name)
        self._after.setdefault(name, []).append(action)
        return self

    def at(self, name: str) -> int:
        """The position of a step. Raises as :meth:`skip`."""
        if name not in self._order:
            raise ValueError(f"no step {name!r} here; there are {', '.join(self._order)}")
        return self._order.index(name)

    # -- playing it

    async def run(self, until: str | None = None) -> LiveVmm:
        """Make the steps, up to and with ``until``; a second call goes on behind it. The VMM that has the device then.

        Raises:
            OSError: a step was refused; :attr:`done` says how far it came.
        """
        if until is not None:
            self.at(until)
        for name in [name for name in self._order if name not in self.done]:
            for action in self._before.get(name, []):
                await action(self)
            await self._actions.get(name, ACTIONS[name])(self)
            for action in self._after.get(name, []):
                await action(self)
            self.done.append(name)
            if name == until:
                break
        return self.vmm

    async def undo(self) -> None:
        """Let the device go on in the old process, where a step before ``hand-over`` was refused, or that one was.

        Raises:
            ValueError: there is no old image any more, or the successor is the owner already.
        """
        if "new-owner" in self.done:
            raise ValueError("NEW_OWNER has been done: the old process cannot recover the device")
        if "hand-over" in self.done and self.way == "exec":
            raise ValueError("exec has been done: the old image, whose addresses the device has, is gone")
        vmm = self.old or self.vmm
        if "reset" in self.done:
            await vmm.negotiate(self.features)
            await set_up(self, vmm)
            await vmm.device.set_vring_enable(0)
            await vmm.device.set_status(await vmm.device.get_status() | VIRTIO_CONFIG_S_DRIVER_OK)
        elif "suspend" in self.done:
            await vmm.device.resume()
        self.vmm, self.old, self.done = vmm, None, []

    def place(self, block: int) -> int:
        """The new address of a block."""
        if self.addresses is not None:
            return self.addresses[block]
        return NEW_ADDRESS + block * GAP


# -- the steps


async def check(update: LiveUpdate) -> None:
    """Refuse early."""
    offered = await update.vmm.device.get_backend_features()
    needed = {VHOST_BACKEND_F_NEW_OWNER: "NEW_OWNER", VHOST_BACKEND_F_SUSPEND: "SUSPEND"}
    if update.variant == "reset":
        needed[VHOST_BACKEND_F_IOTLB_PERSIST] = "IOTLB_PERSIST"
    for bit, name in needed.items():
        if not offered >> bit & 1:
            raise OSError(E.EOPNOTSUPP, f"the device does not offer {name}")


async def nothing(update: LiveUpdate) -> None:
    """A step of the guest's alone."""


async def suspend(update: LiveUpdate) -> None:
    """Stand still."""
    await update.vmm.device.suspend()


async def save(update: LiveUpdate) -> None:
    """Status, features and index, and what the guest did last; rings and eventfds the VMM knows itself."""
    device = update.vmm.device
    update.status = await device.get_status()
    update.features = FEATURES & await device.get_features()
    update.base = await device.get_vring_base(0)
    update.events = list(update.vmm.events)


async def end_batch(update: LiveUpdate) -> None:
    """None is left open."""
    await update.vmm.close_batch()


async def reset(update: LiveUpdate) -> None:
    """Forget everything but the owner and the tables."""
    await update.vmm.device.set_status(0)


async def hand_over(update: LiveUpdate) -> None:
    """Exec in place, or the descriptors over a socket to a process of its own."""
    vmm = update.vmm
    if update.way == "exec":
        if update.memlock is not None:
            vmm.process.limits.memlock = update.memlock
        await vmm.process.exec()
        vmm.events = []
        return
    sim = vmm.process.sim
    new = sim.process("new", memlock=vmm.process.limits.memlock if update.memlock is None else update.memlock)
    file, kick, call = (new.receive(one) for one in (vmm.file, vmm.kick, vmm.call))
    blocks = [attrs.evolve(block, memfd=new.receive(block.memfd)) for block in vmm.blocks]
    update.old = vmm
    device = VhostVdpa(file, abi=vmm.device.abi)
    update.vmm = LiveVmm(new, file, device, blocks[0].memfd, vmm.ram, vmm.vq, kick, call, blocks, groups=vmm.groups)


async def map_memory(update: LiveUpdate) -> None:
    """Every block at its new address."""
    vmm = update.vmm
    for number, block in enumerate(vmm.blocks):
        block.region = vmm.process.mmap(block.size, block.memfd, addr=update.place(number))
    vmm.moved(vmm.blocks[0].region)


async def new_owner(update: LiveUpdate) -> None:
    """In place of SET_OWNER, which is EBUSY."""
    await update.vmm.device.new_owner()


async def backend_features(update: LiveUpdate) -> None:
    """All that is offered."""
    device = update.vmm.device
    await device.set_backend_features(await device.get_backend_features())


async def negotiate(update: LiveUpdate) -> None:
    """Status and features again."""
    await update.vmm.negotiate(update.features)


async def rings(update: LiveUpdate) -> None:
    """The ring as it was; without a reset the device still has all of it but the eventfds."""
    vmm = update.vmm
    if update.variant == "reset":
        await set_up(update, vmm)
        return
    await vmm.device.set_vring_call(0, vmm.call.fd)
    await vmm.device.set_vring_kick(0, vmm.kick.fd)


async def set_up(update: LiveUpdate, vmm: LiveVmm) -> None:
    """What a reset of the device has forgotten of its ring and its groups."""
    await vmm.set_up_ring(update.base)
    for group, asid in vmm.groups.items():
        await vmm.assign(group, asid)


async def config_call(update: LiveUpdate) -> None:
    """One eventfd for both."""
    await update.vmm.device.set_config_call(update.vmm.call.fd)


async def remap(update: LiveUpdate) -> None:
    """Each block's new address, a batch for each address space that has one."""
    vmm = update.vmm
    if not await vmm.device.get_backend_features() >> VHOST_BACKEND_F_IOTLB_REMAP & 1:
        return
    for asid in sorted({block.asid for block in vmm.blocks}):
        blocks = [block for block in vmm.blocks if block.asid == asid]
        if update.batched:
            await vmm.begin_batch(asid)
        for block in blocks if update.order == "forward" else reversed(blocks):
            await vmm.device.iotlb_remap(block.iova, block.size, block.region.addr, asid=asid)
        if update.batched:
            await vmm.close_batch()


async def events(update: LiveUpdate) -> None:
    """Act on what was saved; a guest that was reset has no rings that could be used."""
    for event in update.events:
        await update.vmm.act_on(event)


async def enable(update: LiveUpdate) -> None:
    """The queue."""
    await update.vmm.device.set_vring_enable(0)


async def run(update: LiveUpdate) -> None:
    """Let it go on."""
    device = update.vmm.device
    if update.vmm.guest != "runs":
        return
    if update.variant == "resume":
        await device.resume()
    else:
        await device.set_status(update.status or await device.get_status() | VIRTIO_CONFIG_S_DRIVER_OK)


async def kick(update: LiveUpdate) -> None:
    """A kick that was lost costs a stall, one too many nothing."""
    if update.vmm.guest == "runs":
        await update.vmm.kick_device()


async def start_vcpus(update: LiveUpdate) -> None:
    """A guest that was reset boots."""
    if update.vmm.guest == "reset":
        await update.vmm.boot_guest()


ACTIONS: dict[str, Action] = {
    "check": check,
    "stop-vcpus": nothing,
    "suspend": suspend,
    "save": save,
    "end-batch": end_batch,
    "reset": reset,
    "hand-over": hand_over,
    "map-memory": map_memory,
    "new-owner": new_owner,
    "backend-features": backend_features,
    "negotiate": negotiate,
    "rings": rings,
    "config-call": config_call,
    "remap": remap,
    "enable": enable,
    "events": events,
    "run": run,
    "kick": kick,
    "start-vcpus": start_vcpus,
}
"""What each step does."""
