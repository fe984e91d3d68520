"""Who asked for the device."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.checks.diagnosis.support import SERIES, boot, numbers, read
from vdpasim.uapi.vhost import VHOST_RESET_OWNER
from vdpasim.vmm.blk import IOVA, RAM
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.live_update import BLOCK, LiveUpdate

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


def test_the_owner_itself() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        with suppress(OSError):
            await vmm.device.new_owner()

    assert numbers(story) == [29]


def test_nobodys_device() -> None:
    async def story(sim: Simulator) -> None:
        file = await sim.process("vmm").open(sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
        with suppress(OSError):
            await VhostVdpa(file).new_owner()

    assert numbers(story) == [30]


def test_a_small_limit() -> None:
    async def story(sim: Simulator) -> None:
        with suppress(OSError):
            await LiveUpdate(await boot(sim), memlock=4096).run()

    assert 31 in numbers(story, use_va=False)[:3]


def test_the_old_ways() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        await vmm.device.suspend()
        await vmm.process.exec()
        with suppress(OSError):
            await vmm.device.call(VHOST_RESET_OWNER, bytes(8))
        with suppress(OSError):
            await vmm.device.set_owner()
        with suppress(OSError):
            await vmm.device.iotlb_invalidate(IOVA, RAM)
        with suppress(OSError):
            await vmm.device.iotlb_remap(IOVA, RAM, 0)

    assert numbers(story) == [38, 37, 3, 33]


def test_a_third_process() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        await VhostVdpa(sim.process("helper").receive(vmm.file)).new_owner()
        await read(sim, vmm)

    assert numbers(story)[0] == 35


def test_the_new_owner_goes() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        held = VhostVdpa(sim.process("helper").receive(vmm.file))
        new = (await LiveUpdate(vmm, way="transfer").run(until="new-owner")).process
        await new.exit()
        with suppress(OSError):
            await held.iotlb_invalidate(IOVA, RAM)

    assert 36 in numbers(story, use_va=False)[:2]


def test_pins_for_another_device() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        new = sim.process("new", memlock=RAM + 3 * BLOCK)
        other = VhostVdpa(await new.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
        await other.set_owner()
        await other.iotlb_update(0, RAM, new.mmap(RAM, new.memfd("own", RAM)).addr)
        with suppress(OSError):
            await VhostVdpa(new.receive(vmm.file)).new_owner()

    assert numbers(story, use_va=False)[:2] == [32, 31]


def test_who_only_asks() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        await VhostVdpa(sim.process("helper").receive(vmm.file)).get_status()
        await read(sim, vmm)

    assert numbers(story) == []


async def cleared(plan: LiveUpdate) -> None:
    with suppress(OSError):
        await plan.vmm.device.iotlb_invalidate(IOVA, RAM)


def test_a_stranger_of_a_second_update_has_lost_nothing() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await LiveUpdate(await boot(sim)).run()
        there = [0x5000_0000_0000 + (number << 32) for number in range(3)]
        await LiveUpdate(vmm, way="transfer", addresses=there).before("new-owner", cleared).run()

    assert numbers(story) == [33], "nobody took from it what it never had"


def test_a_third_process_after_an_exec() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await LiveUpdate(await boot(sim)).run()
        await VhostVdpa(sim.process("helper").receive(vmm.file)).new_owner()
        await read(sim, vmm)

    assert numbers(story)[0] == 35


def test_pages_of_an_old_image_whose_successor_was_refused() -> None:
    async def story(sim: Simulator) -> None:
        with suppress(OSError):
            await LiveUpdate(await boot(sim), memlock=4096, variant="reset").run()

    assert numbers(story, use_va=False) == [31, 36]


@pytest.mark.parametrize("kernel", [SERIES, "6.12"])
def test_nobody_asks_for_the_device(kernel: str) -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        await vmm.device.get_backend_features()
        await vmm.device.suspend()
        await vmm.process.exec()
        await vmm.device.resume()
        await vmm.kick_device()
        await sim.settle()

    assert numbers(story, kernel) == ([33] if kernel == SERIES else []), "mainline has nothing to ask for"
