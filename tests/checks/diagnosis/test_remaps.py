"""What REMAP was told, and when the device heard of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.checks.diagnosis.support import boot, numbers, read, told, update
from vdpasim.uapi.vhost_types import VHOST_IOTLB_REMAP
from vdpasim.vmm.blk import IOVA, RAM
from vdpasim.vmm.live_disk import by_file, in_another_file
from vdpasim.vmm.live_update import BLOCK, LiveUpdate, LiveVmm

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

PAGE = 4096
Wrong = Callable[[LiveVmm], Awaitable[object]]


def refused(wrong: Wrong, kernel: str = "6.12+live-update-v1") -> list[int]:
    async def before(plan: LiveUpdate) -> None:
        with suppress(OSError):
            await wrong(plan.vmm)

    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.before("remap", before))

    return numbers(story, kernel)


@pytest.mark.parametrize(
    ("number", "wrong"),
    [
        (7, lambda vmm: vmm.device.iotlb_remap(IOVA, PAGE, vmm.ram.addr)),
        (8, lambda vmm: vmm.device.iotlb_remap(IOVA, RAM + 4 * BLOCK, vmm.ram.addr)),
        (9, lambda vmm: vmm.device.iotlb_remap(0, PAGE, vmm.ram.addr)),
        (10, lambda vmm: vmm.device.iotlb(VHOST_IOTLB_REMAP, iova=IOVA, size=RAM, uaddr=vmm.ram.addr, perm=3)),
        (11, lambda vmm: vmm.device.iotlb_remap((1 << 64) - PAGE, 2 * PAGE, vmm.ram.addr)),
        (21, lambda vmm: vmm.device.iotlb_update(IOVA, RAM, vmm.ram.addr)),
        (26, lambda vmm: vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr, asid=1)),
    ],
)
def test_a_wrong_message_is_told_by_its_range(number: int, wrong: Wrong) -> None:
    assert refused(wrong)[0] == number


def test_outside_of_a_batch() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan, block=2, batched=False)

    assert numbers(story)[0] == 12
    assert numbers(story, "6.12+live-update-fixed") == []


def test_a_push_that_fails() -> None:
    async def story(sim: Simulator) -> None:
        async def failing(plan: LiveUpdate) -> None:
            sim.inject("set_map:1")

        await update(sim, lambda plan: plan.before("remap", failing))

    assert numbers(story)[0] == 13


def test_a_batch_from_before() -> None:
    async def story(sim: Simulator) -> None:
        async def begin(plan: LiveUpdate) -> None:
            await plan.vmm.device.batch_begin()

        await update(sim, lambda plan: plan.replace("end-batch", begin), batched=False)

    assert numbers(story)[0] == 14


def test_swapped_blocks() -> None:
    async def story(sim: Simulator) -> None:
        async def swapped(plan: LiveUpdate) -> None:
            first, *rest = plan.vmm.blocks
            device = plan.vmm.device
            await device.batch_begin()
            await device.iotlb_remap(first.iova, first.size, first.region.addr)
            for block, other in zip(rest, reversed(rest), strict=True):
                await device.iotlb_remap(block.iova, block.size, other.region.addr)
            await device.batch_end()

        await update(sim, lambda plan: plan.replace("remap", swapped), block=1)

    assert numbers(story)[0] == 6


def test_taken_away_between_the_list_and_its_remap() -> None:
    async def gone(vmm: LiveVmm) -> None:
        block = vmm.blocks.pop()
        await vmm.device.iotlb_invalidate(block.iova, block.size)
        await vmm.device.iotlb_remap(block.iova, block.size, block.region.addr)

    assert refused(gone)[0] == 23


def test_taken_away_and_given_anew() -> None:
    async def anew(vmm: LiveVmm) -> None:
        for block in vmm.blocks:
            await vmm.device.iotlb_invalidate(block.iova, block.size)
            await vmm.device.iotlb_update(block.iova, block.size, block.region.addr)

    assert refused(anew) == [22]


def test_a_device_of_single_entries() -> None:
    async def story(sim: Simulator) -> None:
        with suppress(OSError):
            await update(sim, lambda plan: plan)

    assert numbers(story, "6.12+live-update-v2+lu-advertise", batch_mapping=False)[0] == 19


def test_an_update_that_mapped_nothing() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim, 1)
        await vmm.device.iotlb_update(1 << 40, PAGE, vmm.process.mmap(PAGE).addr)

    assert numbers(story) == [17]


@pytest.mark.parametrize("own", [True, False])
def test_a_kernel_that_looks_is_asked_whose_memory_it_is(own: bool) -> None:
    async def other(vmm: LiveVmm) -> None:
        first, second, third = vmm.blocks
        mine = vmm.process.mmap(second.size, vmm.process.memfd("mine", second.size)).addr
        await vmm.device.iotlb_remap(first.iova, first.size, first.region.addr)
        await vmm.device.iotlb_remap(second.iova, second.size, mine if own else third.region.addr)

    async def rest(vmm: LiveVmm) -> None:
        with suppress(OSError):
            await other(vmm)
        for block in vmm.blocks:
            await vmm.device.iotlb_remap(block.iova, block.size, block.region.addr)

    assert refused(rest, "6.12+live-update-fixed+lu-guard-same-object")[:2] == ([27, 6] if own else [6, 27])


@pytest.mark.parametrize("kernel", ["6.12+live-update-v1", "6.12+live-update-fixed+lu-guard-same-object"])
def test_guest_memory_in_another_file(kernel: str) -> None:
    async def story(sim: Simulator) -> None:
        plan = LiveUpdate(await by_file(sim)).after("map-memory", in_another_file(1))
        with suppress(OSError):
            await plan.run()
            await read(sim, plan.vmm, 1)

    assert numbers(story, kernel)[0] == 24


def test_guest_memory_in_another_file_and_nobody_told() -> None:
    async def story(sim: Simulator) -> None:
        plan = LiveUpdate(await by_file(sim)).after("map-memory", in_another_file(1)).skip("remap")
        await read(sim, await plan.run(), 1)

    (one,) = told(story)
    assert (one.number, "the one of the UPDATE" in one.why) == (24, True)


def test_a_device_that_goes_by_addresses_follows() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.after("map-memory", in_another_file(1)), block=1)

    assert numbers(story) == []


def test_pages_that_are_pinned_again_are_a_cost() -> None:
    async def anew(plan: LiveUpdate) -> None:
        for block in plan.vmm.blocks:
            await plan.vmm.device.iotlb_invalidate(block.iova, block.size)
            await plan.vmm.device.iotlb_update(block.iova, block.size, block.region.addr)

    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.replace("remap", anew))

    (one,) = told(story, use_va=False)
    assert (one.number, one.score) == (22, 90)
    assert "pages were pinned again" in one.why


def test_memory_of_the_programs_own_may_be_made_anew() -> None:
    async def mine(plan: LiveUpdate) -> None:
        *guests, own = plan.vmm.blocks
        for block in guests:
            await plan.vmm.device.iotlb_remap(block.iova, block.size, block.region.addr)
        await plan.vmm.device.iotlb_invalidate(own.iova, own.size)
        region = plan.vmm.process.mmap(own.size, plan.vmm.process.memfd("mine", own.size))
        await plan.vmm.device.iotlb_update(own.iova, own.size, region.addr)

    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.replace("remap", mine))

    assert numbers(story, "6.12+live-update-fixed") == []


async def never_ended(plan: LiveUpdate) -> None:
    await plan.vmm.device.batch_begin()
    for block in plan.vmm.blocks:
        await plan.vmm.device.iotlb_remap(block.iova, block.size, block.region.addr)


def test_a_batch_of_the_new_image_that_is_never_ended() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.replace("remap", never_ended))

    assert numbers(story) == [14]


def test_a_kernel_that_looks_refuses_to_run_in_a_batch() -> None:
    async def story(sim: Simulator) -> None:
        with suppress(OSError):
            await update(sim, lambda plan: plan.replace("remap", never_ended), variant="reset")

    assert numbers(story, "6.12+live-update-fixed+lu-guard-resume") == [14]


@pytest.mark.parametrize("use_va", [False, True])
def test_memory_that_is_unplugged_and_plugged_after_the_update(use_va: bool) -> None:
    async def story(sim: Simulator) -> None:
        vmm = await update(sim, lambda plan: plan)
        block = vmm.blocks[2]
        await vmm.device.iotlb_invalidate(block.iova, block.size)
        await vmm.device.iotlb_update(block.iova, block.size, block.region.addr)
        await read(sim, vmm, 2)

    assert numbers(story, use_va=use_va) == []


def test_a_shadow_buffer_of_the_second_update() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await update(sim, lambda plan: plan)
        shadow = vmm.process.mmap(4096, vmm.process.memfd("shadow", 4096))
        await vmm.device.iotlb_update(0x900_0000, 4096, shadow.addr)
        await vmm.device.iotlb_invalidate(0x900_0000, 4096)

        async def told(plan: LiveUpdate) -> None:
            with suppress(OSError):
                await plan.vmm.device.iotlb_remap(0x900_0000, 4096, 0)

        await LiveUpdate(vmm, addresses=[0x5000_0000_0000 + (n << 32) for n in range(3)]).after("remap", told).run()

    assert numbers(story) == [27], "the old image took it away, before this update"
