"""Address spaces, mapping and pinning of vhost-vdpa (mirrors the map/unmap half of drivers/vhost/vdpa.c).

Theory. Each address space id has a table of its own, created when it is first used and kept until release. An UPDATE is
exclusive: any overlap is EEXIST. How it is mapped depends on the device, not on the caller:

* VA mode (``use_va``): the owner's VMAs are walked; a MAP_SHARED file-backed piece becomes one entry holding a *user
  address* and a reference to the file, anything else is skipped without a word. Holes are not noticed.
* PA mode: whole pages are pinned and accounted, one entry per physically contiguous run.

Then the device gets its copy: incremental devices one ``dma_map`` per entry, whole-map devices the complete table, at
once or, inside a batch, at BATCH_END. Of a device with neither the domain of the platform's IOMMU is filled, entry by
entry as for an incremental one (``iommu_map``); no reset of the device touches it. The table and the
device's copy therefore differ inside a batch, after a failed push and after a reset.

Not modelled: what else an IOMMU may refuse, and its warning about an entry without permission.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.core.events import Kind
from vdpasim.core.faults import swallow
from vdpasim.core.ports import PAGE_MASK, PAGE_SIZE, U64_MAX, Fault, Run
from vdpasim.core.rules import KernelError, fail, hit
from vdpasim.core.vhost.iotlb import Iotlb, IotlbMap
from vdpasim.core.vhost.vhost import IOTLB_LIMIT
from vdpasim.uapi.vhost_types import VHOST_ACCESS_WO

if TYPE_CHECKING:
    from vdpasim.core.kernel import Kernel
    from vdpasim.core.ports import MemoryObject, Mm, Pages
    from vdpasim.core.vdpa.vdpa import VdpaDevice
    from vdpasim.core.vhost.vhost_msg import IotlbMsg

PIN_CHUNK = PAGE_SIZE // 8
"""Pages pinned at a time: as many as fit a page of pointers."""


@attrs.frozen(eq=False)
class MapFile:
    """The file behind an entry of user addresses (``struct vdpa_map_file``)."""

    file: MemoryObject
    offset: int
    """Where in it the entry begins, in bytes; an entry that begins in a hole has one that wrapped."""



@attrs.define(eq=False)
class AddressSpaces:
    """The tables of one open vhost-vdpa device, and the way to the device's copy."""

    kernel: Kernel
    device: VdpaDevice
    pages: Pages
    name: str
    tables: dict[int, Iotlb] = attrs.Factory(dict["int", "Iotlb"])
    in_batch: bool = False
    batch_asid: int = 0
    pinned_pages: int = 0
    """Pages this device pins (``vdpa->pinned_vm`` of the live-update series)."""

    def find_alloc(self, asid: int) -> None:
        """See that an address space has a table (``vhost_vdpa_find_alloc_as``)."""
        if asid in self.tables:
            return
        if asid >= self.device.nas:
            raise fail("vdpa.msg.asid")
        enforce = self.kernel.on("F1")
        self.tables[asid] = Iotlb(IOTLB_LIMIT if enforce else 0, enforce_limit=enforce, serials=self.kernel.serials)

    # -- map

    def update(self, mm: Mm, memlock: int, asid: int, msg: IotlbMsg) -> None:
        """UPDATE (``vhost_vdpa_process_iotlb_update``); a failure leaves none of its own entries.

        Raises:
            KernelError: EINVAL range, EEXIST overlap, then those of the mapping mode.
        """
        first, last = self.device.get_iova_range()
        if msg.iova < first or not msg.size or msg.iova > U64_MAX - msg.size + 1 or msg.iova + msg.size - 1 > last:
            self._check_wrapped(msg, first, last)
        if self.tables[asid].itree_first(msg.iova, msg.iova + msg.size - 1 & U64_MAX) is not None:
            raise fail("vdpa.iotlb.update-overlap")
        if self.device.use_va:
            self.va_map(mm, asid, msg)
        else:
            self.pa_map(mm, memlock, asid, msg)

    def _check_wrapped(self, msg: IotlbMsg, first: int, last: int) -> None:
        # of old only the sum was compared, and that may have wrapped
        wrapped = msg.size and msg.iova >= first and msg.iova + msg.size - 1 & U64_MAX <= last
        if not wrapped or not self.kernel.on("bug-update-wrap"):
            raise fail("vdpa.iotlb.update-range")

    def va_map(self, mm: Mm, asid: int, msg: IotlbMsg) -> None:
        """Map by VMA (``vhost_vdpa_va_map``)."""
        iova, uaddr, size = msg.iova, msg.uaddr, msg.size
        before = len(self.tables[asid])
        try:
            while size:
                vma = next(mm.vmas(uaddr), None)
                if vma is None:
                    raise fail("vdpa.va.no-vma")
                piece = min(size, vma.last - uaddr + 1)
                if vma.shared and vma.file is not None and not vma.special:
                    if uaddr < vma.start:
                        hit("vdpa.va.hole")
                    vma.file.get()
                    behind = MapFile(vma.file, vma.offset + uaddr - vma.start & U64_MAX)
                    try:
                        self.map(mm, asid, iova, piece, uaddr, msg.perm, behind)
                    except KernelError:
                        vma.file.put()
                        raise
                else:
                    hit("vdpa.va.skipped")
                size -= piece
                uaddr = uaddr + piece & U64_MAX
                iova += piece
        except KernelError:
            self._undo(mm, asid, msg.iova, iova - msg.iova)
            raise
        if self.kernel.sink and len(self.tables[asid]) == before:
            self.kernel.emit(Kind.IGNORED, self.name, "update", msg.iova)

    def _undo(self, mm: Mm, asid: int, iova: int, done: int) -> None:
        # to remove nothing, at 0, is to remove [0, 2^64-1]
        if done or self.kernel.on("bug-va-undo-wipes-all"):
            if not done and not iova:
                hit("vdpa.va.undo-all")
            self.unmap(mm, asid, iova, done)

    def pa_map(self, mm: Mm, memlock: int, asid: int, msg: IotlbMsg) -> None:
        """Pin and map by physical run (``vhost_vdpa_pa_map``); in-page offsets of iova and uaddr are dropped unseen."""
        word = 1 << self.kernel.abi.bits
        reach = msg.size + (msg.iova & ~PAGE_MASK)
        npages = (reach + PAGE_SIZE - 1 & U64_MAX) // PAGE_SIZE
        if self.kernel.on("F2") and (npages >= word or reach + PAGE_SIZE - 1 > U64_MAX):
            raise fail("vdpa.pa.overflow")
        npages %= word
        if not npages:
            raise fail("vdpa.pa.npages")
        if npages + mm.pinned_vm > memlock // PAGE_SIZE:
            raise fail("vdpa.pa.memlock")
        iova = msg.iova & PAGE_MASK
        pending: list[Run] = []
        try:
            for run in self._pin(mm, msg.uaddr & PAGE_MASK, npages, msg.perm, pending):
                self.map(mm, asid, iova, run.npages * PAGE_SIZE, run.paddr, msg.perm, None)
                pending.remove(run)
                iova = iova + run.npages * PAGE_SIZE & U64_MAX
        except KernelError:
            for run in () if self.kernel.on("bug-pin-leak") else pending:
                self.pages.unpin(run, dirty=False)
            self.unmap(mm, asid, msg.iova, msg.size)
            raise

    def _pin(self, mm: Mm, uaddr: int, npages: int, perm: int, pending: list[Run]) -> list[Run]:
        # all runs of the range, contiguous across chunks; what is pinned but not mapped yet stays in `pending`
        write = bool(perm & VHOST_ACCESS_WO)
        while npages:
            want = min(npages, PIN_CHUNK)
            try:
                runs = mm.pin(uaddr, want, write=write)
            except Fault:
                raise fail("vdpa.pa.pin") from None
            for run in runs:
                before = pending[-1] if pending else None
                if before and before.paddr + before.npages * PAGE_SIZE == run.paddr:
                    pending[-1] = Run(before.paddr, before.npages + run.npages)
                else:
                    pending.append(run)
            if sum(run.npages for run in runs) < want:
                raise fail("vdpa.pa.pin-partial")
            uaddr += want * PAGE_SIZE
            npages -= want
        return list(pending)

    def map(
        self, mm: Mm, asid: int, iova: int, size: int, addr: int, perm: int, behind: MapFile | None
    ) -> None:
        """Add one entry and tell the device (``vhost_vdpa_map``); a refusal takes the entry out again."""
        table = self.tables[asid]
        (entry,) = table.add_range(iova, iova + size - 1 & U64_MAX, addr, perm, behind)
        if self.kernel.sink:
            space = mm if self.device.use_va else self.pages
            promise = tuple(space.extents(addr, size))
            self._emit(Kind.MAP, asid, entry.serial, entry.start, entry.last, addr, perm, promise)
        try:
            if not self.device.supports("set_map"):
                self._dma_map(asid, entry, size)
            elif not self.in_batch:
                self.push(asid)
        except KernelError:
            table.del_range(iova, iova + size - 1)
            self._emit(Kind.UNMAP, asid, entry.serial, entry.start, entry.last)
            raise
        if not self.device.use_va:
            mm.pinned_vm += size // PAGE_SIZE
            self.pinned_pages += size // PAGE_SIZE
            self._account(mm, size // PAGE_SIZE)

    def _account(self, mm: Mm, pages: int) -> None:
        if self.kernel.sink:
            self.kernel.emit(Kind.PIN, self.name, mm.ident, pages, mm.pinned_vm)

    def _dma_map(self, asid: int, entry: IotlbMap, size: int) -> None:
        if self.kernel.faults is not None and swallow(self.kernel, "dma_map", self.name):
            return
        self.device.dma_map(asid, entry.start, size, entry.addr, entry.perm, entry.serial)
        self._pushed(asid, 0)

    # -- unmap

    def unmap(self, mm: Mm | None, asid: int, iova: int, size: int) -> None:
        """Remove what overlaps and tell a whole-map device (``vhost_vdpa_unmap``)."""
        self.iotlb_unmap(mm, asid, iova, (iova + size - 1) & U64_MAX)
        if self.device.supports("set_map") and not self.in_batch:
            try:
                self.push(asid)
            except KernelError:
                hit("vdpa.batch.push-ignored")

    def iotlb_unmap(self, mm: Mm | None, asid: int, start: int, last: int) -> None:
        """Remove entries whole: unpin or drop the file, one dma_unmap each for incremental devices."""
        for entry in self.tables[asid].del_range(start, last):
            self._release(mm, entry)
            self._emit(Kind.UNMAP, asid, entry.serial, entry.start, entry.last)
            if not self.device.supports("set_map"):
                self._dma_unmap(asid, entry)

    def replace(self, asid: int, entry: IotlbMap) -> None:
        """Take one entry from a device that has single ones, and give it anew with the address it has now.

        Raises:
            KernelError: the device did not take it back.
        """
        self._dma_unmap(asid, entry)
        self._dma_map(asid, entry, entry.size)

    def _dma_unmap(self, asid: int, entry: IotlbMap) -> None:
        # what the device says is ignored: it may go on with an entry the table no longer has
        try:
            if self.kernel.faults is not None and swallow(self.kernel, "dma_unmap", self.name):
                return
        except KernelError:
            return
        self.device.dma_unmap(asid, entry.start, entry.last - entry.start + 1)
        self._pushed(asid, 0)

    def _release(self, mm: Mm | None, entry: IotlbMap) -> None:
        if self.device.use_va:
            entry.opaque.file.put()
            return
        npages = (entry.last - entry.start + 1) // PAGE_SIZE
        if self.kernel.sink:
            self.kernel.emit(Kind.UNPIN, self.name, entry.serial, entry.addr, npages)
        self.pages.unpin(Run(entry.addr, npages), dirty=bool(entry.perm & VHOST_ACCESS_WO))
        self.pinned_pages -= npages
        if mm is not None:
            mm.pinned_vm -= npages
            self._account(mm, -npages)

    def push(self, asid: int) -> None:
        """Hand the device the whole table (``set_map``).

        Raises:
            KernelError: the device refused; it is left with an empty map, or by a fault plan with the one it had.
        """
        if self.kernel.faults is not None and swallow(self.kernel, "set_map", self.name):
            return
        try:
            self.device.set_map(asid, self.tables[asid])
        except KernelError as error:
            self._pushed(asid, error.errno)
            raise
        self._pushed(asid, 0)

    def _pushed(self, asid: int, errno: int) -> None:
        self._emit(Kind.PUSH, asid, len(self.tables[asid]), errno)

    def device_map_lost(self) -> None:
        """The device's copies went back to their default behind the tables' back (a reset)."""
        for asid in sorted(self.tables):
            self._emit(Kind.PUSH, asid, -1, 0)

    def _emit(self, kind: Kind, asid: int, *fields: object) -> None:
        if self.kernel.sink:
            self.kernel.emit(kind, self.name, asid, *fields)

    def remove_all(self, mm: Mm | None) -> None:
        """Empty and drop every address space, then let the device restore its default map
        (``vhost_vdpa_remove_as``).
        """
        for asid in sorted(self.tables):
            if not asid or not self.kernel.on("bug-close-leaks-asid"):
                self.iotlb_unmap(mm, asid, 0, U64_MAX)
            if self.device.supports("reset_map"):
                self.device.reset_map(asid)
        self.tables.clear()
