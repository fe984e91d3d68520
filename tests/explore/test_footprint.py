"""What makes two steps dependent."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.explore.bodies import PAGE, request_and_suspend, two_devices, two_writers
from vdpasim.explore import Target
from vdpasim.explore.execute import Simple, execute
from vdpasim.explore.footprint import ALL, ANY, MEMORY, Footprint, independent
from vdpasim.vmm.blk import IOVA
from vdpasim.vmm.vhost_net import VhostNetVmm

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

NOTHING: Footprint = frozenset()


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ({"disk"}, {"net"}, True),
        ({"disk", "memory"}, {"net", "memory"}, False),
        (ANY, {"disk"}, False),
        (ANY, ANY, False),
        (ANY, {"lock:m"}, True),
        (ANY | {"lock:m"}, {"lock:m"}, False),
        (ANY, NOTHING, True),
        (ALL, NOTHING, False),
        (ALL, {"lock:m"}, False),
        (NOTHING, NOTHING, True),
    ],
)
def test_independent(one: Footprint, other: Footprint, apart: bool) -> None:
    assert independent(frozenset(one), frozenset(other)) is apart
    assert independent(frozenset(other), frozenset(one)) is apart


class Noting(Simple):
    footprints = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, Footprint]] = []

    def choose(self, threads: list[str], labels: list[str]) -> int:
        return len(threads) - 1

    def stepped(self, thread: str, footprint: Footprint) -> None:
        self.seen.append((thread, footprint))


def touched(body: object) -> list[tuple[str, Footprint]]:
    policy = Noting()
    execute(Target("body", body), policy)  # type: ignore[arg-type]
    return policy.seen


def test_an_actor_may_touch_anything_and_a_lock_is_only_itself() -> None:
    seen = touched(two_writers)
    assert ANY in [footprint for _, footprint in seen]
    assert ("0.0", frozenset({"lock:vhost-net-0.mutex"})) in seen
    assert NOTHING in [footprint for _, footprint in seen], "the way to the next lock"


def test_a_worker_touches_its_device_and_memory() -> None:
    own = [footprint for thread, footprint in touched(request_and_suspend) if thread == "disk.worker"]
    assert any(footprint.issuperset({"disk", "memory"}) for footprint in own)
    assert not any("*" in footprint for footprint in own)


def test_messages_to_two_devices_are_apart() -> None:
    seen = touched(two_devices)
    first = [footprint for thread, footprint in seen if thread == "0.0" and "*" not in footprint]
    second = [footprint for thread, footprint in seen if thread == "0.1" and "*" not in footprint]
    assert all(independent(one, other) for one in first for other in second)


async def write_and_close(sim: Simulator) -> None:
    with sim.calm():
        vmm = await VhostNetVmm.create(sim)
        await vmm.negotiate()
    writer = sim.spawn(vmm.net.iotlb_update, IOVA, PAGE, vmm.ram.addr)
    await vmm.net.get_features()
    await vmm.file.aclose()
    with suppress(OSError):
        await writer.join()


class CloseInside(Noting):
    """Runs the writer up to its second choice, then whoever closes."""

    left = 2

    def choose(self, threads: list[str], labels: list[str]) -> int:
        self.left -= 1
        wanted = "0.0" if self.left >= 0 else "0"
        return threads.index(wanted) if wanted in threads else 0


def test_a_write_that_drops_the_last_reference_touches_what_a_close_does() -> None:
    policy = CloseInside()
    assert not execute(Target("body", write_and_close), policy).failed
    assert any("features:vhost-net-0" in one and MEMORY in one for thread, one in policy.seen if thread == "0.0")
