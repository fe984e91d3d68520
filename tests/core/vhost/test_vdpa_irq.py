"""The window between reading an eventfd and signalling it, opened by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.sim import Simulator
from vdpasim.vmm.blk import SECTOR, BlkVmm
from vdpasim.vmm.handles import VhostVdpa

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

POINT = "vhost-vdpa-0.interrupt"
UNBIND = -1
ONE = (1).to_bytes(8, "little")


def run(kernel: str, story: Callable[[Simulator], Awaitable[Any]]) -> tuple[Any, list[str]]:
    """What the story returns, and the violations of the kernel."""
    sim = Simulator(kernel)

    async def main(sim: Simulator) -> Any:
        return await story(sim)

    result = sim.run(main)
    return result, [ident for ident, _ in sim.kernel.violations]


async def replaced(sim: Simulator, *, keep: bool) -> tuple[bool, int, int]:
    """Another call eventfd comes while an interrupt is under way; whether it was, and what both count in the end."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    other, context = vmm.process.eventfd(), vmm.call.open_file.ops.ctx  # type: ignore[attr-defined]
    if not keep:
        await vmm.call.aclose()
    with sim.hold(POINT) as hold:
        vmm.post(0, 0, SECTOR)
        await vmm.kick_device()
        await sim.settle()
        held = hold.unit is not None
        await vmm.device.set_vring_call(0, other.fd)
    await sim.settle()
    return held, context.count, other.open_file.ops.ctx.count  # type: ignore[attr-defined]


async def link_down(sim: Simulator, take_away: Callable[[VhostVdpa, Any], Awaitable[Any]]) -> bool:
    """The config eventfd is taken away while a config interrupt is under way; whether it was."""
    card = sim.vdpa.dev_add("card", profile="mlx5-like")
    file = await sim.process("vmm").open(card.path)
    device, event = VhostVdpa(file), file.process.eventfd()
    await device.set_config_call(event.fd)
    await event.aclose()
    with sim.hold(POINT) as hold:
        card.device.change_config(6, b"\0\0")  # type: ignore[attr-defined]
        await sim.settle()
        held = hold.unit is not None
        await take_away(device, file)
    await sim.settle()
    return held


class TestQueue:
    def test_a_freed_eventfd_is_reported_and_not_touched(self) -> None:
        assert run("7.1", lambda sim: replaced(sim, keep=False)) == ((True, 0, 0), ["kernel.oops"])

    def test_one_that_somebody_keeps_gets_the_interrupt_in_place_of_the_new_one(self) -> None:
        assert run("7.1", lambda sim: replaced(sim, keep=True)) == ((True, 1, 0), [])

    @pytest.mark.parametrize("keep", [True, False])
    def test_with_f7_there_is_no_window(self, keep: bool) -> None:
        assert run("tip", lambda sim: replaced(sim, keep=keep)) == ((False, 1, 0), [])


class TestConfig:
    @pytest.mark.parametrize(
        "take_away", [lambda device, file: device.set_config_call(UNBIND), lambda device, file: file.aclose()]
    )
    def test_a_freed_eventfd_is_reported(self, take_away: Any) -> None:
        assert run("6.1", lambda sim: link_down(sim, take_away)) == (True, ["kernel.oops"])
        assert run("6.12", lambda sim: link_down(sim, take_away)) == (False, [])

    def test_without_a_callback_nobody_is_told(self) -> None:
        async def story(sim: Simulator) -> None:
            card = sim.vdpa.dev_add("card", profile="mlx5-like")
            with sim.hold(POINT):
                card.device.change_config(6, b"\0\0")  # type: ignore[attr-defined]
                await sim.settle()

        assert run("6.1", story) == (None, [])

    def test_without_schedule_points_it_is_raised_at_once(self) -> None:
        async def story(sim: Simulator) -> bytes:
            card = sim.vdpa.dev_add("card", profile="mlx5-like")
            file = await sim.process("vmm").open(card.path)
            event = file.process.eventfd()
            await VhostVdpa(file).set_config_call(event.fd)
            card.device.change_config(6, b"\0\0")  # type: ignore[attr-defined]
            count: bytes = event.read_nowait(8)
            return count

        assert run("6.1", story) == (ONE, [])
