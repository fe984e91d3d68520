"""The simulated disk: what each request does, which status it gets, and the used length that goes with it."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import pytest

from tests.core.rings import BUFFERS, IOVA, UNMAPPED, Board, inside, rules_hit
from vdpasim.core.vdpa.ramdisk import CHUNK, Ramdisk
from vdpasim.core.vdpa.vdpa_sim_blk import CAPACITY, MAX_SECTORS, VdpasimBlk
from vdpasim.vmm.guest import Buffer, Used

IN, OUT, FLUSH, GET_ID, DISCARD, ZEROES, SECURE_ERASE = 0, 1, 4, 8, 11, 13, 14
OK, IOERR, UNSUPP = 0, 1, 2
UNTOUCHED = 0xEE
KERNELS = ["6.1", "6.12", "7.1", "tip"]
UNMAPPED_IN, UNMAPPED_OUT = Buffer(UNMAPPED, 512, writable=True), Buffer(UNMAPPED, 512)


class Answer(NamedTuple):
    """What the driver learns of one request."""

    status: int
    length: int
    interrupts: int


class Disk(Board):
    """A running block device."""

    def __init__(self, kernel: str = "6.12", **how: Any) -> None:
        super().__init__("vdpasim_blk", kernel, **how)
        self.queue = self.queues[0]

    def header(self, kind: int, sector: int = 0) -> Buffer:
        return self.readable(0, struct.pack("<IIQ", kind, 0, sector))

    def request(self, kind: int, sector: int = 0, *data: Buffer) -> Answer:
        """A request with its status byte in a buffer of its own, from kick to completion."""
        status = self.writable(0x100, 1)
        return self.chain(self.header(kind, sector), *data, status)

    def chain(self, *buffers: Buffer) -> Answer:
        """A request as given; the status is the last byte of the last buffer."""
        self.queue.post(*buffers)
        self.queue.kick()
        ((_, length),) = self.queue.used()
        last = buffers[-1]
        at = last.iova + last.length - 1 - IOVA
        status = self.ram.read(at, 1)[0] if 0 <= at < self.ram.size else UNTOUCHED
        return Answer(status, length, self.queue.interrupts())

    def write(self, sector: int, data: bytes) -> Answer:
        return self.request(OUT, sector, self.readable(0x1000, data))

    def read(self, sector: int, length: int = 512) -> bytes:
        space = self.writable(0x8000, length)
        assert self.request(IN, sector, space) == Answer(OK, length + 1, 1)
        return self.content(space)

    def span(self, kind: int, sector: int, sectors: int, flags: int = 0) -> Answer:
        """DISCARD or WRITE_ZEROES of one range."""
        return self.request(kind, 0, self.readable(0x1000, struct.pack("<QII", sector, sectors, flags)))

    @property
    def oopses(self) -> int:
        return len(self.sim.kernel.violations)


@pytest.fixture
def disk() -> Disk:
    return Disk()


# -- IN and OUT


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_was_written_is_read_back(kernel: str) -> None:
    disk = Disk(kernel)
    data = bytes(range(256)) * 4
    assert disk.write(5, data) == Answer(OK, 1, 1)
    assert disk.read(5, 1024) == data
    assert disk.read(4) + disk.read(7) == bytes(1024)


def test_the_disk_starts_as_zeroes_and_is_the_devices_own(disk: Disk) -> None:
    disk.write(0, b"x" * 512)
    other = disk.sim.vdpa.dev_add("other", mgmtdev="vdpasim_blk").device
    assert disk.read(CAPACITY - 1) == bytes(512)
    assert other.behaviour.disk.read(0, 512) == bytes(512)  # type: ignore[attr-defined]


def test_the_disk_outlives_a_reset(disk: Disk) -> None:
    disk.write(9, b"y" * 512)
    disk.status(0)
    behaviour = inside(disk).behaviour
    assert isinstance(behaviour, VdpasimBlk)
    assert behaviour.disk.read(9 * 512, 512) == b"y" * 512


def test_data_may_be_scattered_and_share_a_buffer_with_header_and_status(disk: Disk) -> None:
    data = bytes(range(256)) * 2
    whole = disk.readable(0, struct.pack("<IIQ", OUT, 0, 3) + data[:100])
    assert disk.chain(whole, disk.readable(0x1000, data[100:]), disk.writable(0x100, 1)) == Answer(OK, 1, 1)
    first, last = disk.writable(0x2000, 200), disk.writable(0x3000, 313)
    assert disk.chain(disk.header(IN, 3), first, last) == Answer(OK, 513, 1)
    assert disk.content(first) + disk.content(last) == data + b"\0"


@pytest.mark.parametrize("length", [0, 1, 511, 513, 700])
def test_a_length_need_not_be_whole_sectors(disk: Disk, length: int) -> None:
    assert disk.write(8, b"z" * length) == Answer(OK, 1, 1)
    assert disk.read(8, 1024) == b"z" * length + bytes(1024 - length)
    assert disk.read(8, length) == b"z" * length


def test_out_with_writable_room_puts_the_status_last_and_says_1(disk: Disk) -> None:
    room = disk.writable(0x2000, 10)
    assert disk.chain(disk.header(OUT, 0), disk.readable(0x1000, b"a" * 512), room) == Answer(OK, 1, 1)
    assert disk.content(room) == b"\xee" * 9 + b"\0"


def test_the_header_may_be_in_pieces(disk: Disk) -> None:
    head = struct.pack("<IIQ", GET_ID, 0, 0)
    pieces = [disk.readable(0x100 * n, head[4 * n : 4 * n + 4]) for n in range(4)]
    assert disk.chain(*pieces, disk.writable(0x1000, 21)) == Answer(OK, 21, 1)


# -- ranges


@pytest.mark.parametrize(
    ("sector", "length", "status"),
    [
        (CAPACITY - 1, 512, OK),
        (CAPACITY - 2, 1024, OK),
        (CAPACITY - 1, 1024, IOERR),
        (CAPACITY, 512, IOERR),
        (CAPACITY, 0, IOERR),
        (CAPACITY, 511, IOERR),
        (CAPACITY + 1, 0, IOERR),
        (CAPACITY + 1, 512, IOERR),
        (2**63, 512, IOERR),
        (2**64 - 1, 512, IOERR),
    ],
)
@pytest.mark.parametrize("kind", [IN, OUT])
def test_a_range_must_lie_on_the_disk(disk: Disk, kind: int, sector: int, length: int, status: int) -> None:
    data = disk.writable(0x1000, length) if kind == IN else disk.readable(0x1000, bytes(length))
    pushed = length if kind == IN and status == OK else 0
    with rules_hit() as hit:
        assert disk.request(kind, sector, data) == Answer(status, pushed + 1, 1)
    assert ("sim.blk.range" in hit, disk.oopses) == (status == IOERR, 0)


@pytest.mark.parametrize(("sector", "reported"), [(CAPACITY, 0), (CAPACITY + 1, 1), (2**64 - 1, 1)])
@pytest.mark.parametrize(("kernel", "fixed"), [("6.1", True), ("6.12", True), ("6.12-F10", False), ("7.1", False)])
def test_a_start_beyond_the_end_is_an_oops_where_the_check_wraps(
    kernel: str, fixed: bool, sector: int, reported: int
) -> None:
    disk = Disk(kernel)
    assert disk.request(IN, sector, disk.writable(0x1000, 512)).status == IOERR
    assert disk.oopses == (0 if fixed else reported)


@pytest.mark.parametrize(("kernel", "status"), [("6.12", IOERR), ("6.12-F10", OK), ("7.1", OK)])
def test_nothing_at_the_very_end_was_allowed_once(kernel: str, status: int) -> None:
    disk = Disk(kernel)
    assert disk.request(IN, CAPACITY).status == status
    assert disk.oopses == 0


@pytest.mark.parametrize("kind", [IN, OUT])
@pytest.mark.parametrize(("sector", "length"), [(CAPACITY - 1, 513), (CAPACITY - 1, 1023), (CAPACITY - 3, 1537)])
def test_the_bytes_behind_whole_sectors_would_run_over_the_end_and_are_reported(
    disk: Disk, kind: int, sector: int, length: int
) -> None:
    data = disk.writable(0x1000, length) if kind == IN else disk.readable(0x1000, b"x" * length)
    assert disk.request(kind, sector, data) == Answer(IOERR, 1, 1)
    assert disk.oopses == 1
    assert disk.read(sector) == bytes(512), "nothing was written"


@pytest.mark.parametrize(("sectors", "refused"), [(MAX_SECTORS, False), (MAX_SECTORS + 1, True)])
def test_a_request_of_more_than_131072_sectors_is_too_long(disk: Disk, sectors: int, refused: bool) -> None:
    with rules_hit() as hit:
        answer = disk.request(OUT, 0, Buffer(UNMAPPED, 512 * sectors))
    assert answer == Answer(IOERR, 1, 1)
    assert ("sim.blk.range" in hit, "sim.blk.copy" in hit) == (refused, not refused)


# -- copies that fail


def test_in_whose_first_buffer_is_missing_is_an_ioerr(disk: Disk) -> None:
    with rules_hit() as hit:
        assert disk.request(IN, 0, UNMAPPED_IN, disk.writable(0x2000, 512)) == Answer(IOERR, 1, 1)
    assert "sim.blk.copy" in hit


def test_in_that_fails_behind_a_filled_buffer_gets_no_status_at_all(disk: Disk) -> None:
    disk.write(0, b"q" * 512)
    first = disk.writable(0x2000, 256)
    with rules_hit() as hit:
        assert disk.request(IN, 0, first, UNMAPPED_IN) == Answer(UNTOUCHED, 0, 0)
    assert {"sim.blk.copy", "sim.blk.no-status"} <= hit
    assert disk.content(first) == b"q" * 256


def test_out_that_fails_half_way_leaves_the_first_half_on_the_disk(disk: Disk) -> None:
    assert disk.request(OUT, 0, disk.readable(0x1000, b"h" * 512), UNMAPPED_OUT) == Answer(IOERR, 1, 1)
    assert disk.read(0, 1024) == b"h" * 512 + bytes(512)


def test_a_status_that_cannot_be_written_is_none_and_no_interrupt(disk: Disk) -> None:
    with rules_hit() as hit:
        answer = disk.chain(disk.header(FLUSH), Buffer(UNMAPPED, 1, writable=True))
    assert (answer, "sim.blk.no-status" in hit) == (Answer(UNTOUCHED, 0, 0), True)


def test_in_whose_status_cannot_be_written_still_counts_its_bytes(disk: Disk) -> None:
    space = disk.writable(0x2000, 512)
    answer = disk.chain(disk.header(IN), space, Buffer(UNMAPPED, 1, writable=True))
    assert (answer.length, answer.interrupts, disk.content(space)) == (512, 0, bytes(512))


# -- malformed requests


@pytest.mark.parametrize("case", ["no readable", "no writable", "empty status", "short header", "unreadable header"])
def test_a_malformed_request_is_completed_with_0_without_interrupt_and_stops_the_pass(disk: Disk, case: str) -> None:
    status = disk.writable(0x100, 1)
    chains = {
        "no readable": [status],
        "no writable": [disk.header(FLUSH)],
        "empty status": [disk.header(FLUSH), status, Buffer(IOVA + BUFFERS, 0, writable=True)],
        "short header": [disk.readable(0, bytes([FLUSH]) + bytes(14)), status],
        "unreadable header": [Buffer(UNMAPPED, 16), status],
    }
    good = disk.writable(0x200, 1)
    disk.queue.post(*chains[case])
    disk.queue.post(disk.readable(0x300, struct.pack("<IIQ", FLUSH, 0, 0)), good)
    with rules_hit() as hit:
        disk.queue.kick()
    assert "sim.blk.malformed" in hit
    assert (disk.queue.used(), disk.queue.interrupts()) == ([Used(0, 0)], 0)
    assert disk.content(status) + disk.content(good) == b"\xee\xee"
    disk.queue.kick()
    assert (disk.queue.used(), disk.content(good)) == ([Used(len(chains[case]), 1)], b"\0")


def test_a_broken_chain_stops_the_pass_and_never_comes_back(disk: Disk) -> None:
    disk.queue.post(disk.writable(0x100, 1), disk.header(FLUSH))
    disk.queue.post(disk.header(FLUSH), disk.writable(0x200, 1))
    with rules_hit() as hit:
        disk.queue.kick()
    assert {"vringh.chain.order", "sim.blk.broken-chain"} <= hit
    assert (disk.queue.used(), disk.queue.base) == ([], 1)
    disk.queue.kick()
    assert disk.queue.used() == [Used(2, 1)]


# -- the other types


def test_flush_has_nothing_to_do(disk: Disk) -> None:
    assert disk.request(FLUSH) == Answer(OK, 1, 1)


@pytest.mark.parametrize("kind", [FLUSH, GET_ID, DISCARD, ZEROES, 99])
def test_a_sector_belongs_to_in_and_out_only(disk: Disk, kind: int) -> None:
    room = disk.writable(0x2000, 30)
    with rules_hit() as hit:
        assert disk.chain(disk.header(kind, 1), disk.readable(0x1000, bytes(16)), room) == Answer(IOERR, 1, 1)
    assert "sim.blk.sector" in hit
    assert disk.content(room) == b"\xee" * 29 + b"\1"


@pytest.mark.parametrize("kind", [2, 3, 5, 9, 10, 12, SECURE_ERASE, 15, 17, 0xFFFFFFFF])
def test_unknown_types_are_ioerr_and_not_unsupp(disk: Disk, kind: int) -> None:
    with rules_hit() as hit:
        assert disk.request(kind) == Answer(IOERR, 1, 1)
    assert "sim.blk.unknown-type" in hit


@pytest.mark.parametrize("space", [20, 21, 64])
def test_get_id_tells_20_bytes(disk: Disk, space: int) -> None:
    name = disk.writable(0x1000, space)
    assert disk.request(GET_ID, 0, name) == Answer(OK, 21, 1)
    assert disk.content(name) == (b"vdpa_blk_sim" + bytes(8)).ljust(space, b"\xee")


@pytest.mark.parametrize("space", [1, 12, 19, 20])
def test_get_id_without_room_eats_the_status(disk: Disk, space: int) -> None:
    room = disk.writable(0x1000, space)
    with rules_hit() as hit:
        answer = disk.chain(disk.header(GET_ID), room)
    assert (answer.length, answer.interrupts) == (space, 0)
    assert "sim.blk.get-id-status" in hit
    assert disk.content(room) == (b"vdpa_blk_sim" + bytes(8))[:space]


def test_get_id_that_cannot_be_written_is_an_ioerr(disk: Disk) -> None:
    assert disk.request(GET_ID, 0, UNMAPPED_IN) == Answer(IOERR, 1, 1)


# -- DISCARD and WRITE_ZEROES


@pytest.mark.parametrize(
    ("kind", "flags", "status"),
    [
        (DISCARD, 0, OK),
        (DISCARD, 1, UNSUPP),
        (DISCARD, 2, UNSUPP),
        (ZEROES, 0, OK),
        (ZEROES, 1, OK),
        (ZEROES, 2, UNSUPP),
        (ZEROES, 3, UNSUPP),
        (ZEROES, 1 << 31, UNSUPP),
    ],
)
def test_only_the_unmap_flag_of_write_zeroes_is_known(disk: Disk, kind: int, flags: int, status: int) -> None:
    disk.write(2, b"k" * 1536)
    assert disk.span(kind, 3, 1, flags) == Answer(status, 1, 1)
    zeroed = kind == ZEROES and status == OK
    assert disk.read(2, 1536) == b"k" * 512 + (bytes(512) if zeroed else b"k" * 512) + b"k" * 512


@pytest.mark.parametrize("kind", [DISCARD, ZEROES])
@pytest.mark.parametrize(
    ("sector", "sectors", "status"),
    [
        (0, CAPACITY, OK),
        (0, MAX_SECTORS + 1, OK),
        (CAPACITY - 1, 1, OK),
        (0, 0, OK),
        (0, CAPACITY + 1, IOERR),
        (CAPACITY - 1, 2, IOERR),
        (CAPACITY, 0, IOERR),
        (CAPACITY, 1, IOERR),
        (2**64 - 1, 1, IOERR),
        (1, 0xFFFFFFFF, IOERR),
    ],
)
def test_their_range_must_lie_on_the_disk_and_may_be_all_of_it(
    disk: Disk, kind: int, sector: int, sectors: int, status: int
) -> None:
    assert disk.span(kind, sector, sectors) == Answer(status, 1, 1)


@pytest.mark.parametrize(
    ("kind", "sector", "sectors", "status", "oops"),
    [
        (DISCARD, CAPACITY + 1, 8, OK, False),
        (ZEROES, CAPACITY + 1, 0, OK, False),
        (ZEROES, CAPACITY + 1, 1, IOERR, True),
        (DISCARD, 2**64 - 1, CAPACITY + 1, OK, False),
        (DISCARD, 2**64 - 1, CAPACITY + 2, IOERR, False),
    ],
)
def test_a_start_beyond_the_disk_that_was_not_refused_does_harm_only_where_bytes_move(
    kind: int, sector: int, sectors: int, status: int, oops: bool
) -> None:
    disk = Disk("7.1")
    with rules_hit() as hit:
        assert disk.span(kind, sector, sectors) == Answer(status, 1, 1)
    assert bool(disk.sim.kernel.violations) == oops
    assert ("sim.blk.range-wrapped" in hit) == (oops or status == OK)


@pytest.mark.parametrize(("length", "status"), [(0, OK), ((MAX_SECTORS + 1) * 512, IOERR)])
def test_the_length_of_a_read_beyond_the_disk_decides_whether_it_gets_there(length: int, status: int) -> None:
    disk = Disk("7.1")
    space = [Buffer(IOVA + BUFFERS, length, writable=True)] if length else []
    assert disk.request(IN, CAPACITY + 1, *space) == Answer(status, 1, 1)
    assert not disk.sim.kernel.violations


def test_flags_are_looked_at_before_the_range(disk: Disk) -> None:
    assert disk.span(DISCARD, CAPACITY + 1, 1, 1).status == UNSUPP


@pytest.mark.parametrize("kind", [DISCARD, ZEROES])
@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_their_payload_is_exactly_one_range(disk: Disk, kind: int, length: int) -> None:
    with rules_hit() as hit:
        assert disk.request(kind, 0, disk.readable(0x1000, bytes(length))) == Answer(IOERR, 1, 1)
    assert "sim.blk.payload" in hit


@pytest.mark.parametrize("kind", [DISCARD, ZEROES])
def test_a_range_that_cannot_be_read_is_an_ioerr(disk: Disk, kind: int) -> None:
    with rules_hit() as hit:
        assert disk.request(kind, 0, Buffer(UNMAPPED, 16)) == Answer(IOERR, 1, 1)
    assert "sim.blk.copy" in hit


# -- passes


@pytest.mark.parametrize(("requests", "passes"), [(4, 1), (5, 2), (9, 2), (10, 3)])
def test_after_five_requests_the_worker_comes_again(disk: Disk, requests: int, passes: int) -> None:
    for _ in range(requests):
        disk.queue.post(disk.header(FLUSH), disk.writable(0x100, 1))
    disk.queue.kick()
    assert len(disk.queue.used()) == disk.queue.interrupts() == requests
    assert inside(disk).statistics().passes == passes, "a full pass looks once more"


def test_interrupts_can_be_switched_off(disk: Disk) -> None:
    disk.queue.no_interrupts()
    assert disk.request(FLUSH) == Answer(OK, 1, 0)


def test_no_feature_but_the_platforms_need_be_negotiated() -> None:
    disk = Disk(negotiated=1 << 33)
    assert disk.span(ZEROES, 0, 1).status == disk.request(FLUSH).status == OK


# -- config


@pytest.mark.parametrize(("kernel", "size"), [("6.1", 72), ("6.12", 96), ("7.1", 96)])
def test_the_config_space_is_all_constants(kernel: str, size: int) -> None:
    fields = [(0, 8, 0x40000), (8, 4, 4096), (12, 4, 32), (20, 4, 512), (26, 2, 1), (28, 4, 1), (34, 2, 1)]
    fields += [(36, 4, 0xFFFFFFFF), (40, 4, 1), (44, 4, 512), (48, 4, 0xFFFFFFFF), (52, 4, 1)]
    expected = bytearray(size)
    for offset, width, value in fields:
        expected[offset : offset + width] = value.to_bytes(width, "little")
    assert inside(Disk(kernel)).get_config(0, size) == bytes(expected)


def test_writing_the_config_space_has_no_lasting_effect(disk: Disk) -> None:
    before = inside(disk).get_config(0, 96)
    inside(disk).set_config(0, b"\xff" * 96)
    assert inside(disk).get_config(0, 96) == before
    assert disk.write(CAPACITY - 1, b"e" * 512).status == OK


# -- the ramdisk


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (CHUNK - 1, 2), (CHUNK, CHUNK), (100, 3 * CHUNK)])
def test_storage_is_seamless_over_its_pieces(offset: int, length: int) -> None:
    disk, model = Ramdisk(CAPACITY), bytearray(5 * CHUNK)
    data = bytes(n % 251 for n in range(length))
    disk.write(offset, data)
    model[offset : offset + length] = data
    assert bytes(disk.read(0, len(model))) == bytes(model)
    disk.zero(offset + 1, length - 1)
    model[offset + 1 : offset + length] = bytes(length - 1)
    assert bytes(disk.read(0, len(model))) == bytes(model)


def test_zeroed_pieces_cost_nothing() -> None:
    disk = Ramdisk(CAPACITY)
    disk.write(10, b"x" * 3 * CHUNK)
    disk.zero(0, 2 * CHUNK)
    disk.zero(8 * CHUNK, CHUNK + 5)
    assert sorted(disk.chunks) == [2, 3]
