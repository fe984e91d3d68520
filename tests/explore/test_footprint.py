"""What makes two steps dependent."""

from __future__ import annotations

import pytest

from tests.explore.bodies import request_and_suspend, two_devices, two_writers
from vdpasim.explore import Target
from vdpasim.explore.execute import Simple, execute
from vdpasim.explore.footprint import ALL, ANY, Footprint, independent

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
