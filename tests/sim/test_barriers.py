"""Barriers: a unit is kept at a named point until the story says go on."""

from __future__ import annotations

import pytest

from tests.explore.bodies import RACES
from vdpasim.scenario.loader import load
from vdpasim.sim import Simulator, UsageError
from vdpasim.uapi.vhost import VHOST_SET_OWNER


def test_a_window_is_opened_by_hand() -> None:
    """The race of scenarios/races/read_update.py, without a chooser."""
    story = load([f"{RACES}/read_update.py::read_update"])[0].scenario.body
    boot, map_frame = story.__globals__["boot"], story.__globals__["map_frame"]

    async def main(sim: Simulator) -> tuple[str, int, int, int]:
        vmm = await boot(sim)
        hold = sim.hold("vhost-net-0.read.copied")
        reader = sim.spawn(vmm.net.read_miss, name="reader")
        who = await hold.reached()
        await map_frame(vmm)
        await sim.settle()
        inside = len(vmm.ring.used())
        hold.release()
        await reader.join()
        await sim.settle()
        stalled = len(vmm.ring.used())
        await map_frame(vmm)
        await sim.settle()
        return who, inside, stalled, len(vmm.ring.used())

    assert Simulator().run(main) == ("vmm", 0, 0, 1)


def test_a_hold_keeps_one_and_lets_the_next_pass() -> None:
    async def main(sim: Simulator) -> list[str]:
        done: list[str] = []

        async def owner(name: str) -> None:
            file = await sim.process(name).open("/dev/vhost-net")
            await file.ioctl(VHOST_SET_OWNER.request())
            done.append(name)

        with sim.hold("vhost_net.open") as hold:
            actors = [sim.spawn(owner, name, name=name) for name in ("one", "two")]
            assert await hold.reached() == "one"
            await actors[1].join()
        await actors[0].join()
        return done

    assert Simulator().run(main) == ["two", "one"]


def test_who_waits_for_a_hold_that_is_over_is_told() -> None:
    async def main(sim: Simulator) -> None:
        hold = sim.hold("nowhere")
        hold.release()
        hold.release()
        await hold.reached()

    with pytest.raises(UsageError, match="released before anybody came"):
        Simulator().run(main)


def test_holds_that_are_over_are_gone() -> None:
    async def main(sim: Simulator) -> bool:
        for _ in range(1200):
            sim.hold("vhost_net.open").release()
        with sim.hold("nowhere"), sim.hold("vhost_net.open"):
            pass
        await sim.process("vmm").open("/dev/vhost-net")
        return sim.kernel.barrier is None

    assert Simulator().run(main)
