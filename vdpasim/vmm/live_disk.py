"""A disk for stories of live update: what is on it is known, so that a story can ask whether the device still works.

Theory. :func:`disk` brings a VMM up and writes a text into one sector for each block of guest memory. After the
handover :func:`works` reads each sector into its block and compares; :func:`attempt` makes one such request and tells
how it ended, for stories in which it need not end well. With ``asid=1`` it is a disk with a second address space, and
all of it is there; :func:`two_spaces` is in the first and has doubles of its memory in the second. :func:`occupy` lets
the new image have something of its own where the old one had a block. :func:`by_file` is a disk that maps files itself,
and :func:`in_another_file` moves a block of guest memory to another file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.devices.profile import load
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.vhost_types import VHOST_BACKEND_F_IOTLB_REMAP, VHOST_BACKEND_F_NEW_OWNER
from vdpasim.vmm.blk import SECTOR, STATUS_AT
from vdpasim.vmm.live_update import GAP, Block, LiveVmm

if TYPE_CHECKING:
    from vdpasim.devices.profile import DeviceProfile
    from vdpasim.sim import Process, Region, Simulator
    from vdpasim.vmm.live_update import Action, LiveUpdate

UNANSWERED = 0xFF
"""The status byte of a request that the device has not written."""


def text(number: int) -> bytes:
    """What the sector of a block holds."""
    return f"the sector of block {number} ".encode().ljust(SECTOR, b".")


async def disk(sim: Simulator, *, blocks: int = 3, asid: int = 0, **attributes: Any) -> LiveVmm:
    """A VMM with a running disk; ``attributes`` are those of ``dev_add``, of vdpa_sim's disk unless they say another.

    Raises:
        AssertionError: the device did not take the texts.
    """
    if asid:
        attributes.setdefault("profile", _profile(address_spaces=2))
    if "profile" not in attributes:
        attributes["mgmtdev"] = "vdpasim_blk"
    path = sim.vdpa.dev_add("disk", **attributes).path
    vmm = await LiveVmm.boot(sim.process("vmm"), path, blocks=blocks, asid=asid)
    for number in range(blocks):
        await vmm.write_sector(number, text(number))
    return vmm


def _profile(**keys: Any) -> DeviceProfile:
    # vdpa_sim's disk with other keys; it offers what a live update needs
    offers = 1 << VHOST_BACKEND_F_NEW_OWNER | 1 << VHOST_BACKEND_F_IOTLB_REMAP
    return attrs.evolve(load("vdpasim_blk-6.12"), backend_features=offers, **keys)


async def two_spaces(sim: Simulator, *, second: bool = True) -> LiveVmm:
    """A disk with two address spaces; in the second the blocks but the first have a double, with memory of its own.

    The doubles are further blocks of the VMM, which no request reaches: its queue is in address space 0.
    """
    vmm = await disk(sim, profile=_profile(address_spaces=2))
    for block in vmm.blocks[1:] if second else []:
        memfd = vmm.process.memfd("double", block.size)
        double = Block(block.iova, block.size, memfd, vmm.process.mmap(block.size, memfd), asid=1)
        await vmm.device.iotlb_update(double.iova, double.size, double.region.addr, asid=1)
        vmm.blocks.append(double)
    return vmm


async def by_file(sim: Simulator) -> LiveVmm:
    """A disk that goes by files, as VDUSE does, and says that it needs REMAP."""
    return await disk(sim, profile=_profile(addresses="file", identity=0))


async def works(vmm: LiveVmm, *blocks: int) -> None:
    """The device reads each sector into the block of that number, into all of them if none is named.

    Raises:
        AssertionError: it does not.
    """
    for number in blocks or range(len(vmm.blocks)):
        assert await vmm.read_into(number, number) == text(number), f"block {number} has something else"


async def attempt(vmm: LiveVmm, block: int = 0) -> int:
    """Ask the device to read a sector into a block; the status byte when nothing moves any more."""
    vmm.post_into(block, blk.VIRTIO_BLK_T_IN, block, SECTOR)
    await vmm.kick_device()
    await vmm.process.sim.settle()
    if vmm.vq.used():
        await vmm.call.read(8)
    return vmm.ram.read(STATUS_AT, 1)[0]


def occupy(process: Process, addr: int, size: int) -> Region:
    """Give a process memory of its own at an address."""
    return process.mmap(size, process.memfd("heap", size), addr=addr)


def in_another_file(number: int) -> Action:
    """For :meth:`LiveUpdate.after` ``map-memory``: the new image copies a block into huge pages, and uses those."""

    async def copied(update: LiveUpdate) -> None:
        vmm, block = update.vmm, update.vmm.blocks[number]
        memfd = vmm.process.memfd("huge", block.size, folio_pages=block.size // 4096)
        region = vmm.process.mmap(block.size, memfd, addr=update.place(number) + GAP // 2)
        region.write(0, block.region.read(0, block.size))
        vmm.process.sim.memory_moved(block.memfd, memfd)
        block.memfd, block.region = memfd, region
        vmm.moved(vmm.blocks[0].region)

    return copied
