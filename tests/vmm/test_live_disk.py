"""A disk for stories of live update."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import DATA_AT, SECTOR
from vdpasim.vmm.live_disk import UNANSWERED, attempt, by_file, disk, in_another_file, occupy, text, two_spaces, works
from vdpasim.vmm.live_update import LiveUpdate

if TYPE_CHECKING:
    from vdpasim.vmm.live_update import LiveVmm

V1 = "6.12+live-update-v1"


def test_a_disk_works_until_it_does_not() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await disk(sim, blocks=2)
        await works(vmm)
        assert await attempt(vmm, 1) == blk.VIRTIO_BLK_S_OK
        await works(vmm, 1)
        await vmm.device.iotlb_invalidate(vmm.blocks[1].iova, vmm.blocks[1].size)
        assert await attempt(vmm, 1) == blk.VIRTIO_BLK_S_IOERR
        await works(vmm, 0)
        await vmm.device.suspend()
        assert await attempt(vmm) == UNANSWERED

    Simulator(V1).run(story)


def test_what_is_not_there_does_not_work() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await disk(sim, blocks=2)
        await vmm.write_sector(1, bytes(512))
        await works(vmm)

    with pytest.raises(AssertionError, match="block 1 has something else"):
        Simulator(V1).run(story)


@pytest.mark.parametrize("second", [True, False])
def test_a_second_space_has_the_same_addresses_and_memory_of_its_own(second: bool) -> None:
    async def story(sim: Simulator) -> LiveVmm:
        vmm = await two_spaces(sim, second=second)
        await works(vmm, 0, 1, 2)
        return vmm

    vmm = Simulator(V1).run(story)
    doubles = vmm.blocks[3:]
    assert [block.asid for block in doubles] == [1, 1] * second
    assert [block.iova for block in doubles] == [block.iova for block in vmm.blocks[1:3]] * second


def test_a_disk_may_be_in_another_space_with_all_it_has() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await LiveUpdate(await disk(sim, blocks=2, asid=1), "reset").run()
        assert ([block.asid for block in vmm.blocks], vmm.groups) == ([1, 1], {0: 1})
        await works(vmm)
        await vmm.device.iotlb_invalidate(vmm.blocks[1].iova, vmm.blocks[1].size, asid=1)
        assert await attempt(vmm, 1) == blk.VIRTIO_BLK_S_IOERR

    Simulator(V1).run(story)


def test_what_occupies_a_place_is_new_memory() -> None:
    process = Simulator(V1).process("vmm")
    assert occupy(process, 1 << 32, 4096).read(0, 4) == bytes(4)
    with pytest.raises(OSError, match="Bad address"):
        process.read((1 << 32) + 4096, 1)


def test_a_disk_by_files_works_and_needs_no_addresses() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await by_file(sim)
        await works(vmm)
        await works(await LiveUpdate(vmm).skip("remap").run())

    Simulator(V1).run(story)


def test_a_block_in_another_file_has_what_it_had() -> None:
    async def story(sim: Simulator) -> LiveVmm:
        vmm = await disk(sim)
        await works(vmm)
        return await LiveUpdate(vmm).after("map-memory", in_another_file(1)).run()

    vmm = Simulator(V1).run(story)
    assert [block.memfd.memory.name for block in vmm.blocks] == ["vmm/ram", "vmm/huge", "vmm/block2"]
    assert vmm.blocks[1].region.read(DATA_AT, SECTOR) == text(1)
