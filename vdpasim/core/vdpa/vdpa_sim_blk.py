"""The simulated block device: a 128 MiB ramdisk (mirrors drivers/vdpa/vdpa_sim/vdpa_sim_blk.c).

Theory. One queue; a device with more, which is no vdpa_sim, has them served in order. A request is a 16-byte header
{type, ioprio, sector}, data, and a status byte that is *the last writable byte*. Requests too malformed to have a
header or a status complete with length 0, without status and **without interrupt**, and stop the pass. Everything else
gets a status and a used length of bytes written plus one. After five requests the worker re-schedules itself. The
config space is rebuilt at every read, so SET_CONFIG has no lasting effect.

Range checks count whole sectors while the copy moves every byte; at the very end of the disk a kernel would run over
by up to 511 bytes. That is reported (``kernel.oops``) and answered IOERR, never performed.

Not modelled: the shared buffer of the ``shared_backend`` option.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.core.kernel import Point, Steps
from vdpasim.core.ports import PAGE_SHIFT
from vdpasim.core.rules import KernelError, hit
from vdpasim.core.vdpa.ramdisk import CHUNK, SECTOR, Ramdisk
from vdpasim.core.vdpa.vdpa import Attributes, MgmtDev, VdpaBus, VdpaDevice, bad_value
from vdpasim.core.vdpa.vdpa_sim import SimAttr, VdpaSim, VdpasimVirtqueue
from vdpasim.core.vdpa.vdpa_sim_create import create, flag
from vdpasim.core.vhost.virtio_byteorder import LITTLE
from vdpasim.core.vhost.vringh import NOWHERE, IotlbMiss
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.virtio_config import (
    VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_F_ANY_LAYOUT,
    VIRTIO_F_VERSION_1,
)
from vdpasim.uapi.virtio_ring import VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE

if TYPE_CHECKING:
    from vdpasim.core.kernel import Kernel
    from vdpasim.core.vhost.vringh import Iov, Vringh

CAPACITY = 0x40000
"""Sectors."""
MAX_SECTORS = 0x20000
"""A longer IN or OUT is an IOERR."""
BUDGET = 5
HEADER, HEADER_BIG = Struct("<IIQ"), Struct(">IIQ")
RANGE = Struct("<QII")
THREE_DESCRIPTORS = Struct("<" + 3 * "QIHH").unpack_from
U16, PUT_U16, USED_ELEM = LITTLE.u16.unpack_from, LITTLE.u16.pack_into, LITTLE.used_elem.pack_into
NEXT, WRITE = VRING_DESC_F_NEXT, VRING_DESC_F_WRITE
STATUS = (b"\0", b"\1", b"\2")
U64_MAX = (1 << 64) - 1
ID = b"vdpa_blk_sim".ljust(blk.VIRTIO_BLK_ID_BYTES, b"\0")

_FEATURES = (
    blk.VIRTIO_BLK_F_SIZE_MAX,
    blk.VIRTIO_BLK_F_SEG_MAX,
    blk.VIRTIO_BLK_F_BLK_SIZE,
    blk.VIRTIO_BLK_F_FLUSH,
    blk.VIRTIO_BLK_F_TOPOLOGY,
    blk.VIRTIO_BLK_F_MQ,
    blk.VIRTIO_BLK_F_DISCARD,
    blk.VIRTIO_BLK_F_WRITE_ZEROES,
    VIRTIO_F_ANY_LAYOUT,
    VIRTIO_F_VERSION_1,
    VIRTIO_F_ACCESS_PLATFORM,
)

CONFIG: tuple[tuple[int, int, int], ...] = (
    (0, 8, CAPACITY),
    (8, 4, 4096),
    (12, 4, 32),
    (20, 4, SECTOR),
    (26, 2, 1),
    (28, 4, 1),
    (34, 2, 1),
    (36, 4, 0xFFFF_FFFF),
    (40, 4, 1),
    (44, 4, SECTOR),
    (48, 4, 0xFFFF_FFFF),
    (52, 4, 1),
)
"""(offset, size, value) of the config fields that are not zero."""


def attr(kernel: Kernel) -> SimAttr:
    """The constants of this device for a kernel."""
    features = sum(1 << bit for bit in _FEATURES)
    return SimAttr("vdpasim_blk", 2, 1, (0,), 1, features, 96 if kernel.on("blk-zoned") else 72)


@attrs.define(eq=False)
class VdpasimBlk:
    """The behaviour of ``vdpasim_blk``."""

    disk: Ramdisk = attrs.Factory(lambda: Ramdisk(CAPACITY))

    def get_config(self, sim: VdpaSim) -> None:
        """Rebuilt from the constants, every time."""
        sim.config[:] = bytes(len(sim.config))
        for offset, size, value in CONFIG:
            sim.config[offset : offset + size] = value.to_bytes(size, sim.structs.byteorder)

    def work(self, sim: VdpaSim) -> Steps:
        """``vdpasim_blk_work``, with a schedule point between any two things that others could see apart."""
        for vq in sim.vqs:
            if vq.ready:
                yield from self._queue(sim, vq)

    def _queue(self, sim: VdpaSim, vq: VdpasimVirtqueue) -> Steps:
        points = sim.kernel.points
        vring = vq.vring
        for _ in range(self._plain_reads(sim, vq), BUDGET):
            if points:
                yield Point(sim.name + ".descriptor")
            try:
                chain = vring.getdesc()
            except KernelError:
                hit("sim.blk.broken-chain")
                return
            if chain is None:
                return
            if points:
                yield Point(sim.name + ".data")
            try:
                handled, pushed = self._handle_req(sim, vring, *chain[1:])
                if points:
                    yield from sim.complete_in_steps(vring, chain[0], pushed)
                else:
                    sim.complete(vring, chain[0], pushed)
            except IotlbMiss:
                vring.abandon()  # an on-demand map changed under the request, which is served again
                raise
            if not handled:
                return
            if points:
                yield from sim.notify_in_steps(vq)
            else:
                sim.notify_if_wanted(vq)
        hit("sim.blk.budget")
        sim.schedule_work()

    def _plain_reads(self, sim: VdpaSim, vq: VdpasimVirtqueue) -> int:
        # The commonest request, an IN of one buffer with its descriptors in a row and every byte in a known place, in
        # as few steps as Python can: five times faster than the way round, which takes over at the first request that
        # is anything else. Returns how many were served.
        vring = vq.vring
        place = vring.placed()
        if place is None or vring.structs is not LITTLE or sim.structs is not LITTLE:
            return 0
        avail, avail_at, desc, desc_at, used, used_at, reads, writes = place
        num, notify, disk, done = vring.num, sim.notify, self.disk.chunks, 0
        chunks, backed = self.disk.capacity * SECTOR // CHUNK, self.disk.backing is not None
        while done < BUDGET:
            taken, used_idx = vring.last_avail_idx, vring.last_used_idx
            (head,) = U16(avail, avail_at + 4 + 2 * (taken & num - 1))
            if U16(avail, avail_at + 2)[0] == taken or head > num - 3:
                break
            iova, size, flags, n, data_iova, data_size, data_flags, n2, status_iova, status_size, status_flags, _ = (
                THREE_DESCRIPTORS(desc, desc_at + 16 * head)
            )
            shape = n - head, n2 - head, flags, data_flags, status_flags, size, status_size
            if shape != (1, 2, NEXT, NEXT | WRITE, WRITE, HEADER.size, 1):
                break
            first, last, memory, shift, _ = reads.get(iova >> PAGE_SHIFT, NOWHERE)
            if iova < first or iova + 15 > last:
                break
            kind, _, sector = HEADER.unpack_from(memory, iova + shift)
            chunk, at = divmod(sector * SECTOR, CHUNK)
            if kind != blk.VIRTIO_BLK_T_IN or at + data_size > CHUNK or chunk >= chunks:
                break
            first, last, memory, shift, _ = writes.get(status_iova >> PAGE_SHIFT, NOWHERE)
            data_first, data_last, target, data_shift, _ = writes.get(data_iova >> PAGE_SHIFT, NOWHERE)
            inside = first <= status_iova <= last and data_first <= data_iova and data_iova + data_size - 1 <= data_last
            data_at, stored = data_iova + data_shift, disk.get(chunk)
            if not inside or not data_size or (stored is None and backed):
                break
            target[data_at : data_at + data_size] = stored[at : at + data_size] if stored else bytes(data_size)
            memory[status_iova + shift] = blk.VIRTIO_BLK_S_OK
            USED_ELEM(used, used_at + 4 + 8 * (used_idx & num - 1), head, data_size + 1)
            vring.last_avail_idx, vring.last_used_idx = taken + 1 & 0xFFFF, used_idx + 1 & 0xFFFF
            PUT_U16(used, used_at + 2, vring.last_used_idx)
            if not U16(avail, avail_at)[0] & VRING_AVAIL_F_NO_INTERRUPT:
                notify(vq)
            done += 1
        return done

    def _handle_req(self, sim: VdpaSim, vring: Vringh, riov: Iov, wiov: Iov) -> tuple[bool, int]:
        # whether the request got a status, which is also whether there is an interrupt, and the used length
        if not riov.segments or not wiov.segments or not wiov.segments[-1][1]:
            hit("sim.blk.malformed")
            return False, 0
        to_pull, to_push = riov.total, wiov.total - 1
        try:
            header = vring.pull(riov, HEADER.size)
        except KernelError:
            header = b""
        if len(header) < HEADER.size:
            hit("sim.blk.malformed")
            return False, 0
        kind, _, sector = (HEADER if sim.structs is LITTLE else HEADER_BIG).unpack(header)
        if kind not in (blk.VIRTIO_BLK_T_IN, blk.VIRTIO_BLK_T_OUT) and sector:
            hit("sim.blk.sector")
            status, pushed = blk.VIRTIO_BLK_S_IOERR, 0
        else:
            limits = to_pull - HEADER.size, to_push, sector, self.disk.capacity
            request = _Request(sim, vring, riov, wiov, *limits)
            status, pushed = _HANDLERS.get(kind, _unknown)(self.disk, request)
            self.disk.end_request(succeeded=status == blk.VIRTIO_BLK_S_OK)
        return _put_status(vring, wiov, to_push - pushed, status, pushed)


@attrs.define
class _Request:
    sim: VdpaSim
    vring: Vringh
    riov: Iov
    wiov: Iov
    out_length: int
    in_length: int
    sector: int
    capacity: int

    def bad_range(self, sector: int, sectors: int, limit: int | None, length: int) -> bool:
        """Whether the range check refuses (``vdpasim_blk_check_range``), or should have as ``length`` bytes move."""
        capacity, fixed = self.capacity, self.sim.kernel.on("F10")
        too_long = limit is not None and sectors > limit
        # without F10 what is left behind a start beyond the capacity wraps around
        left = capacity - sector if fixed else capacity - sector & U64_MAX
        if too_long or sectors > left or (fixed and sector == capacity):
            hit("sim.blk.range")
            return True
        if sector <= capacity:
            return False
        hit("sim.blk.range-wrapped")
        if length:
            self.sim.kernel.violation("kernel.oops", f"access at sector {sector:#x} of a disk of {capacity:#x}")
        return bool(length)

    def overruns(self, length: int) -> bool:
        """Whether the bytes behind whole sectors leave the disk."""
        if not length or self.sector * SECTOR + length <= self.capacity * SECTOR:
            return False
        hit("sim.blk.overrun")
        self.sim.kernel.violation("kernel.oops", f"{length} bytes at sector {self.sector:#x} run over the disk")
        return True


def _put_status(vring: Vringh, wiov: Iov, skip: int, status: int, pushed: int) -> tuple[bool, int]:
    # the status goes to the last writable byte: what is left of the data space is skipped
    if skip:
        wiov.advance(skip)
    try:
        written = vring.push(wiov, STATUS[status])
    except KernelError:
        written = 0
    if written != 1:
        hit("sim.blk.no-status")
        return False, pushed
    return True, pushed + 1


def _in(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    length = request.in_length
    if request.bad_range(request.sector, length // SECTOR, MAX_SECTORS, length) or request.overruns(length):
        return blk.VIRTIO_BLK_S_IOERR, 0
    try:
        pushed = request.vring.push(request.wiov, disk.read(request.sector * SECTOR, length))
    except KernelError:
        hit("sim.blk.copy")
        return blk.VIRTIO_BLK_S_IOERR, 0
    return blk.VIRTIO_BLK_S_OK, pushed


def _out(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    length = request.out_length
    if request.bad_range(request.sector, length // SECTOR, MAX_SECTORS, length) or request.overruns(length):
        return blk.VIRTIO_BLK_S_IOERR, 0
    offset = request.sector * SECTOR
    try:
        for piece in request.vring.pull_pieces(request.riov, length):
            disk.write(offset, piece)
            offset += len(piece)
    except KernelError:
        hit("sim.blk.copy")
        return blk.VIRTIO_BLK_S_IOERR, 0
    return blk.VIRTIO_BLK_S_OK, 0


def _get_id(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    over = request.in_length < len(ID) and request.sim.kernel.on("bug-get-id-status")
    try:
        pushed = request.vring.push(request.wiov, ID if over else ID[: request.in_length])
    except KernelError:
        hit("sim.blk.copy")
        return blk.VIRTIO_BLK_S_IOERR, 0
    if over:
        hit("sim.blk.get-id-status")
    return blk.VIRTIO_BLK_S_OK, pushed


def _flush(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    return blk.VIRTIO_BLK_S_OK, 0


def _range(request: _Request) -> tuple[int, int, int] | None:
    # (sector, sectors, flags) of DISCARD and WRITE_ZEROES
    if request.out_length != RANGE.size:
        hit("sim.blk.payload")
        return None
    try:
        payload = request.vring.pull(request.riov, RANGE.size)
    except KernelError:
        hit("sim.blk.copy")
        return None
    sector, sectors, flags = RANGE.unpack(payload)
    return sector, sectors, flags


def _discard(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    given = _range(request)
    if given is None:
        return blk.VIRTIO_BLK_S_IOERR, 0
    sector, sectors, flags = given
    if flags:
        hit("sim.blk.flags")
        return blk.VIRTIO_BLK_S_UNSUPP, 0
    bad = request.bad_range(sector, sectors, None, 0)
    return (blk.VIRTIO_BLK_S_IOERR if bad else blk.VIRTIO_BLK_S_OK), 0


def _write_zeroes(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    given = _range(request)
    if given is None:
        return blk.VIRTIO_BLK_S_IOERR, 0
    sector, sectors, flags = given
    if flags & ~blk.VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP:
        hit("sim.blk.flags")
        return blk.VIRTIO_BLK_S_UNSUPP, 0
    if request.bad_range(sector, sectors, None, sectors * SECTOR):
        return blk.VIRTIO_BLK_S_IOERR, 0
    disk.zero(sector * SECTOR, sectors * SECTOR)
    return blk.VIRTIO_BLK_S_OK, 0


def _unknown(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    hit("sim.blk.unknown-type")
    return blk.VIRTIO_BLK_S_IOERR, 0


_HANDLERS = {
    blk.VIRTIO_BLK_T_IN: _in,
    blk.VIRTIO_BLK_T_OUT: _out,
    blk.VIRTIO_BLK_T_GET_ID: _get_id,
    blk.VIRTIO_BLK_T_FLUSH: _flush,
    blk.VIRTIO_BLK_T_DISCARD: _discard,
    blk.VIRTIO_BLK_T_WRITE_ZEROES: _write_zeroes,
}
"""Request type -> handler, which returns (status, bytes pushed before the status)."""


def make(bus: VdpaBus, name: str, attributes: Attributes) -> VdpaDevice:
    """``vdpa dev add … mgmtdev vdpasim_blk``."""
    return create(bus, name, attributes, attr(bus.kernel), VdpasimBlk(disk_of(attributes)))


def disk_of(attributes: Attributes, capacity: int = CAPACITY) -> Ramdisk:
    """The disk over the storage that was given, ``backing`` copied on write unless ``write_through`` is on.

    Raises:
        KernelError: EINVAL ``write_through`` without a ``backing``, or a malformed option.
    """
    given: Any = attributes.get("backing")
    write_through = flag(attributes, "write_through") if "write_through" in attributes else False
    if write_through and given is None:
        raise bad_value()
    return Ramdisk(capacity, given, write_through)


MGMTDEV = MgmtDev(
    "vdpasim_blk",
    2,
    frozenset({"device_features"}),
    frozenset({"use_va", "batch_mapping", "max_iotlb_entries", "advertise", "backing", "write_through"}),
    make,
)
