"""Too early, too late, never."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from tests.checks.diagnosis.support import boot, made, numbers, read, update
from vdpasim.checks.diagnosis import diagnose
from vdpasim.core.events import Kind
from vdpasim.sim import Simulator
from vdpasim.vmm.blk import BlkVmm
from vdpasim.vmm.live_disk import by_file
from vdpasim.vmm.live_update import LiveUpdate, remap


async def but_the_last(plan: LiveUpdate) -> None:
    for block in plan.vmm.blocks[:-1]:
        await plan.vmm.device.iotlb_remap(block.iova, block.size, block.region.addr)
    await plan.vmm.device.batch_begin()
    await plan.vmm.device.batch_end()


def test_run_before_remap() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.move("remap", before="start-vcpus"))

    assert numbers(story)[0] == 1


def test_no_remap_at_all() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.skip("remap"))

    assert numbers(story)[0] == 4


def test_a_device_that_pins_needs_none() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan)

    assert numbers(story, use_va=False) == []


def test_a_device_that_maps_files_itself_needs_none() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await LiveUpdate(await by_file(sim)).skip("remap").run()
        await read(sim, vmm, 1)

    assert numbers(story) == []


def test_one_forgotten() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.replace("remap", but_the_last), block=2)

    assert numbers(story)[0] == 25


def test_forgotten_and_never_used_is_not_told() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.replace("remap", but_the_last), block=0)

    assert 25 not in numbers(story)


def test_forgotten_twice() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await update(sim, lambda plan: plan.replace("remap", but_the_last))
        plan = LiveUpdate(vmm, addresses=[0x1000_0000_0000 * n for n in (1, 2, 3)]).replace("remap", but_the_last)
        await read(sim, await plan.run(), 2)

    assert numbers(story)[0] == 64


def test_handed_over_as_it_runs() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.skip("suspend", "run"))

    assert 2 in numbers(story)


def test_moves_bytes_while_it_is_suspended() -> None:
    async def story(sim: Simulator) -> None:
        await (await boot(sim, 1)).device.suspend()

    sim = Simulator()
    events: list[tuple[object, ...]] = []
    sim.listen(events.append)
    sim.run(story)
    assert diagnose(events) == []
    dma = next(event for event in events if event[3] == Kind.DMA)
    events.append((sim.kernel.seq + 1, *dma[1:]))
    assert [one.number for one in diagnose(events)] == [5]


def test_events_without_their_calls_are_read() -> None:
    assert diagnose(made(("w", Kind.DMA, "disk", 0, 0, 1, 1, 9, "va", ()), ("w", Kind.KICK, "x", 0))) == []


def test_a_kick_that_crosses_suspend() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim, 1)
        await vmm.device.suspend()
        await vmm.device.resume()

    sim = Simulator()
    events: list[tuple[Any, ...]] = []
    sim.listen(events.append)
    sim.run(story)
    at = next(number for number, event in enumerate(events) if event[3] == Kind.SUSPEND)
    device = events[at][4]
    events.insert(at, (events[at][0], 0, "guest", Kind.KICK, device, 0))
    events.insert(at + 2, (events[at + 1][0], 0, "disk.worker", Kind.IDLE, "disk", -1, "not-running"))
    renumbered = [(number, *event[1:]) for number, event in enumerate(events, 1)]
    assert diagnose(renumbered) == [], "the worker may look yet"
    still = (len(renumbered) + 1, 0, "-", Kind.STILL)
    assert [one.number for one in diagnose([*renumbered, still])] == [5]


def test_a_device_that_is_given_back_is_not_handed_over() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim, 1)
        path = vmm.file.open_file.path
        await vmm.process.exec()
        await vmm.file.aclose()
        await BlkVmm.boot(sim.process("other"), path)

    assert numbers(story) == []


def test_without_suspend_and_resumed() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.skip("suspend"))

    assert numbers(story) == [2, 49], "RESUME shows that it was to be suspended"


def test_transferred_without_suspend() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.skip("suspend"), way="transfer")

    assert numbers(story) == [2, 49, 35], "the old process is heard of no more, so nothing was taken from it"


async def refused(plan: LiveUpdate) -> None:
    with suppress(OSError):
        await remap(plan)


@pytest.mark.parametrize("way", ["exec", "transfer"])
def test_refused_before_new_owner_and_never_again(way: str) -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.replace("remap", refused).move("remap", before="new-owner"), way=way)

    assert numbers(story) == [3, 4]


def test_what_was_tried_with_update() -> None:
    async def story(sim: Simulator) -> None:
        async def again(plan: LiveUpdate) -> None:
            for block in plan.vmm.blocks:
                with suppress(OSError):
                    await plan.vmm.device.iotlb_update(block.iova, block.size, block.region.addr)

        await update(sim, lambda plan: plan.replace("remap", again))

    assert numbers(story) == [21, 4]


def test_a_range_of_nobodys_explains_one_entry() -> None:
    async def story(sim: Simulator, blocks: int) -> None:
        async def astray(plan: LiveUpdate) -> None:
            await plan.vmm.begin_batch()
            for number, block in enumerate(plan.vmm.blocks[:blocks]):
                iova = block.iova if number < blocks - 1 else 0x700_0000
                with suppress(OSError):
                    await plan.vmm.device.iotlb_remap(iova, block.size, block.region.addr)
            await plan.vmm.close_batch()

        await update(sim, lambda plan: plan.replace("remap", astray), block=2)

    assert numbers(partial(story, blocks=3)) == [9, 25], "what was meant for the last went elsewhere"
    assert numbers(partial(story, blocks=2)) == [25, 9], "the last one was forgotten as well"


def test_runs_in_the_midst_of_the_batch() -> None:
    async def story(sim: Simulator) -> None:
        async def unended(plan: LiveUpdate) -> None:
            await plan.vmm.begin_batch()
            for block in plan.vmm.blocks:
                await plan.vmm.device.iotlb_remap(block.iova, block.size, block.region.addr)

        vmm = await update(sim, lambda plan: plan.replace("remap", unended))
        await vmm.close_batch()

    assert numbers(story) == [1]
