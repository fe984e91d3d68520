"""``dma.*`` of places: by events made by hand, and planted in stories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.dma_place import DmaPlace, Runs, cut, show, taken_along
from vdpasim.core.events import Kind
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import RAM, SECTOR

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


@pytest.fixture
def check() -> DmaPlace:
    """Entry 1 promised the first page of ``ram`` at iova 0x1000."""
    one = DmaPlace()
    promise = (("ram", 0, 0x1000),)
    feed(one, Kind.MAP, device="d", asid=0, serial=1, start=0x1000, last=0x1FFF, addr=0, perm=3, promise=promise)
    return one


def dma(
    check: DmaPlace, place: Runs, *, iova: int = 0x1010, length: int = 16, serial: int = 1, target: str = "va"
) -> list[str]:
    where = {"device": "d", "queue": 0, "iova": iova, "length": length}
    feed(check, Kind.DMA, **where, access=1, serial=serial, target=target, place=place)
    return [finding.id for finding in check.findings]


def test_bytes_on_the_promised_place_are_fine(check: DmaPlace) -> None:
    assert dma(check, (("ram", 0x10, 16),)) == []


def test_the_right_object_at_another_offset_is_wrong(check: DmaPlace) -> None:
    assert dma(check, (("ram", 0x20, 16),)) == ["dma.wrong-object"]


def test_another_object_is_wrong_and_named(check: DmaPlace) -> None:
    assert dma(check, (("heap", 0x10, 16),)) == ["dma.wrong-object"]
    assert "landed on heap+0x10 (16), promised was ram+0x10 (16)" in check.findings[0].text


def test_memory_that_is_not_there_is_a_fault(check: DmaPlace) -> None:
    assert dma(check, (("ram", 0x10, 4),)) == ["dma.fault"]


def test_passthrough_promises_nothing(check: DmaPlace) -> None:
    assert dma(check, (("anything", 7, 16),), serial=0) == []


@pytest.mark.parametrize(
    ("offset", "length", "wanted"),
    [
        (0, 4, (("a", 0, 4),)),
        (2, 4, (("a", 2, 2), ("b", 8, 2))),
        (4, 9, (("b", 8, 4),)),
        (9, 1, ()),
    ],
)
def test_a_part_of_the_runs_is_cut_out(offset: int, length: int, wanted: Runs) -> None:
    assert cut((("a", 0, 4), ("b", 8, 4)), offset, length) == wanted


def test_adjacent_runs_of_one_object_are_one() -> None:
    assert cut((("a", 0, 4), ("a", 4, 4)), 2, 6) == (("a", 2, 6),)


def test_nothing_is_shown_as_nothing() -> None:
    assert show(()) == "nothing"


# -- memory that moved


def moved(check: DmaPlace, old: str = "ram", new: str = "huge") -> int:
    return feed(check, Kind.MOVED, object=old, to=new)


@pytest.mark.parametrize("target", ["va", "file"])
def test_a_promise_moves_with_the_memory(check: DmaPlace, target: str) -> None:
    assert dma(check, (("ram", 0x10, 16),), target=target) == [], "before it moves"
    at = moved(check)
    assert dma(check, (("huge", 0x10, 16),), target=target) == []
    assert dma(check, (("ram", 0x10, 16),), target=target) == ["dma.wrong-object"]
    assert at in check.findings[0].steps


@pytest.mark.parametrize(
    ("target", "moves", "told"), [("file", True, True), ("va", True, False), ("file", False, False)]
)
def test_a_device_that_goes_by_files_is_told_to_have_the_old_one(
    check: DmaPlace, target: str, moves: bool, told: bool
) -> None:
    if moves:
        moved(check)
    dma(check, (("ram" if moves else "heap", 0x10, 16),), target=target)
    sentence = "the device goes by the file of the UPDATE, and the memory has moved since"
    assert (sentence in check.findings[0].text) is told


def test_each_run_of_a_promise_keeps_its_place() -> None:
    assert taken_along((("a", 8, 4), ("b", 16, 2), ("a", 0, 1)), "a", "c") == (("c", 8, 4), ("b", 16, 2), ("c", 0, 1))


def test_other_memory_stays(check: DmaPlace) -> None:
    moved(check, "rom", "huge")
    assert dma(check, (("ram", 0x10, 16),)) == []


def test_memory_may_move_twice(check: DmaPlace) -> None:
    moved(check)
    moved(check, "huge", "ram")
    assert dma(check, (("ram", 0x10, 16),)) == []


def test_what_is_mapped_behind_the_move_means_what_it_says(check: DmaPlace) -> None:
    moved(check)
    promise = (("ram", 0, 0x1000),)
    feed(check, Kind.MAP, device="d", asid=0, serial=9, start=0x1000, last=0x1FFF, addr=0, perm=3, promise=promise)
    assert dma(check, (("ram", 0x10, 16),), serial=9) == []


# -- why it missed


def owner(check: DmaPlace, old: str | None, new: str) -> int:
    return feed(check, Kind.OWNER, device="d", old=old, new=new)


def push(check: DmaPlace) -> int:
    return feed(check, Kind.PUSH, device="d", asid=0, maps=1, errno=0)


def remap(check: DmaPlace) -> int:
    return feed(check, Kind.REMAP, device="d", asid=0, serial=2, start=0, last=0xFFF, old=0x7000, new=0x8000)


@pytest.fixture
def owned() -> DmaPlace:
    """Entry 2 was mapped and pushed under the owner ``old``; ``new`` has taken over."""
    one = DmaPlace()
    owner(one, None, "old")
    promise = (("ram", 0, 0x1000),)
    feed(one, Kind.MAP, device="d", asid=0, serial=2, start=0, last=0xFFF, addr=0x7000, perm=3, promise=promise)
    push(one)
    owner(one, "old", "new")
    return one


@pytest.mark.parametrize("place", [(), (("heap", 0, 16),)])
def test_an_address_of_the_owner_before_is_stale(owned: DmaPlace, place: Runs) -> None:
    assert dma(owned, place, iova=0, serial=2) == ["dma.stale-va"]
    assert "one of old, the device is new's" in owned.findings[0].text
    assert len(owned.findings[0].steps) == 3, "the map, the new owner, the access"


def test_an_address_of_the_owner_before_may_lead_to_the_right_place(owned: DmaPlace) -> None:
    assert dma(owned, (("ram", 0, 16),), iova=0, serial=2) == []


def test_a_remap_that_was_pushed_is_the_new_owners_mistake(owned: DmaPlace) -> None:
    remap(owned)
    push(owned)
    assert dma(owned, (), iova=0, serial=2) == ["dma.fault"]


def test_a_remap_behind_the_push_is_not_in_the_device(owned: DmaPlace) -> None:
    push(owned)
    remap(owned)
    assert dma(owned, (), iova=0, serial=2) == ["dma.stale-va"]


def test_an_address_space_that_is_gone_is_stale_for_its_owner_too() -> None:
    one = DmaPlace()
    owner(one, None, "old")
    promise = (("ram", 0, 0x1000),)
    feed(one, Kind.MAP, device="d", asid=0, serial=2, start=0, last=0xFFF, addr=0x7000, perm=3, promise=promise)
    feed(one, Kind.GONE, what="mm", name="old")
    assert dma(one, (), iova=0, serial=2) == ["dma.stale-va"]


def test_a_user_address_in_an_entry_of_pinned_pages_is_bogus(owned: DmaPlace) -> None:
    remap(owned)
    push(owned)
    where = {"device": "d", "queue": 0, "iova": 0, "length": 16}
    feed(owned, Kind.DMA, **where, access=1, serial=2, target="pa", place=())
    assert [finding.id for finding in owned.findings] == ["dma.bogus-pa"]


# -- planted


async def remapped_to_another_object(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    other = vmm.process.mmap(RAM, vmm.process.memfd("other", RAM))
    await vmm.device.suspend()
    await stories.remap(vmm, other.addr)
    await vmm.device.resume()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    await sim.settle()


async def remapped_to_a_private_mapping(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    own = vmm.process.mmap(RAM, vmm.memfd, shared=False)
    await vmm.device.suspend()
    await stories.remap(vmm, own.addr)
    await vmm.device.resume()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    await sim.settle()


async def unmapped_under_the_device(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    vmm.process.munmap(vmm.ram.addr, RAM)
    await vmm.kick_device()
    await sim.settle()


async def remap_forgotten(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    await vmm.device.suspend()
    await vmm.exec(stories.NEW_ADDRESS)
    await vmm.device.new_owner()
    await vmm.device.resume()
    await vmm.kick_device()
    await sim.settle()


async def map_lost_at_a_reset(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    await vmm.device.set_status(0)
    await vmm.negotiate()
    await vmm.start()
    await vmm.kick_device()
    await sim.settle()


@pytest.mark.parametrize(
    ("story", "options", "wanted"),
    [
        (remapped_to_another_object, {}, "dma.wrong-object"),
        (unmapped_under_the_device, {}, "dma.fault"),
        (remap_forgotten, {}, "dma.stale-va"),
        (map_lost_at_a_reset, stories.PA, "dma.bogus-pa"),
    ],
)
def test_a_planted_mistake_is_caught(story: Any, options: dict[str, int | bool], wanted: str) -> None:
    found = stories.ids(story, stories.SERIES, options=options)
    assert {ident for ident in found if ident.startswith("dma.")} == {wanted}


def test_the_first_write_to_a_private_mapping_is_seen_already() -> None:
    found = stories.watch(remapped_to_a_private_mapping, stories.SERIES)
    wrong = [one.text for one in found if one.id == "dma.wrong-object"]
    assert "512 bytes" in wrong[0]


def test_a_handover_as_it_should_be_is_clean() -> None:
    assert stories.watch(stories.hand_over, stories.SERIES) == []
