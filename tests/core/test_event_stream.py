"""What a device tells of itself, from open to close, in the kinds that are not of the IOTLB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.core.events import Kind, as_dict
from vdpasim.sim import Simulator
from vdpasim.vmm.blk import IOVA, RAM, BlkVmm
from vdpasim.vmm.vhost_net import VhostNetVmm

if TYPE_CHECKING:
    from vdpasim.core.events import Event

class Heard:
    """A machine and its events."""

    def __init__(self, kernel: str = "tip", **machine: Any) -> None:
        self.sim = Simulator(kernel, **machine)
        self.events: list[Event] = []
        self.sim.listen(self.events.append)

    def of(self, kind: Kind, **wanted: object) -> list[dict[str, Any]]:
        """The events of a kind with these fields, without what is common to all."""
        rows = [as_dict(event) for event in self.events if event[3] == kind]
        bare = [{name: row[name] for name in row if name not in ("seq", "time", "unit", "kind")} for row in rows]
        return [row for row in bare if all(row[name] == value for name, value in wanted.items())]


async def life(sim: Simulator) -> None:
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, bytes(512))
    await vmm.device.suspend()
    await vmm.kick_device()
    assert await vmm.device.get_vring_base(0) == 1
    await vmm.device.resume()
    await vmm.process.exit()


def test_a_device_says_what_it_was_set_to_and_what_became_of_it() -> None:
    heard = Heard()
    heard.sim.run(life)
    dev = "vhost-vdpa-0"
    assert heard.of(Kind.OPEN) == [{"device": dev, "below": "disk", "family": "vhost-vdpa"}]
    rings = [(row["what"], row["value"]) for row in heard.of(Kind.RING, device=dev, queue=0)]
    assert [what for what, _ in rings] == ["num", "addr", "base", "call", "kick", "ready", "get-base"]
    assert rings[-1] == ("get-base", 1)
    assert dict(rings)["addr"][3] == 0, "I/O addresses are none of the program's"
    assert [row["what"] for row in heard.of(Kind.FEATURES)] == ["backend", "virtio"]
    assert heard.of(Kind.SPACE) == [{"device": "disk", "queue": 0, "mm": "mm:vmm-0"}]
    used = {"device": "disk", "queue": 0, "old": 0, "new": 1, "found": 0, "taken": 1}
    assert heard.of(Kind.USED) == [used]
    assert [(row["old"], row["new"]) for row in heard.of(Kind.SUSPEND)] == [(0, 1), (1, 0)]
    assert heard.of(Kind.IDLE) == [{"device": "disk", "queue": 0, "why": "remembered"}]
    gone = [(row["what"], row["name"]) for row in heard.of(Kind.GONE)]
    assert gone[0] == ("mm", "mm:vmm-0")
    assert set(gone) == {("mm", "mm:vmm-0"), ("file", dev), ("eventfd", "eventfd-0"), ("eventfd", "eventfd-1")}


def test_pins_are_told_with_the_count_they_leave() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
        await vmm.device.iotlb_invalidate(IOVA, RAM)

    heard = Heard(options={"use_va": False})
    heard.sim.run(story)
    pins = heard.of(Kind.PIN)
    assert sum(row["pages"] for row in pins) == 0
    assert pins[-1]["total"] == 0
    assert max(row["total"] for row in pins) == RAM // 4096
    assert sum(row["pages"] for row in heard.of(Kind.UNPIN)) == RAM // 4096


def test_the_reasons_for_no_interrupt() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
        for flags, call in ((1, vmm.call.fd), (0, -1)):
            await vmm.device.set_vring_call(0, call)
            vmm.ram.write(vmm.vq.avail_at, flags.to_bytes(2, "little"))
            vmm.post(0, 0, 512)
            await vmm.kick_device()
            await sim.settle()

    heard = Heard()
    heard.sim.run(story)
    assert [row["why"] for row in heard.of(Kind.QUIET)] == ["driver", "no-callback"]


def test_vhost_net_tells_of_its_rings_and_its_backend() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await VhostNetVmm.boot(sim)
        assert await vmm.send(b"x" * 60)
        await vmm.detach()
        await vmm.file.aclose()

    heard = Heard()
    heard.sim.run(story)
    assert heard.of(Kind.OPEN) == [{"device": "vhost-net-0", "below": "vhost-net-0", "family": "vhost-net"}]
    assert [row["value"] for row in heard.of(Kind.RING, what="backend")] == ["tap0", None]
    assert [(row["old"], row["new"], row["found"]) for row in heard.of(Kind.USED)] == [(0, 1, None)]
    assert heard.of(Kind.GONE, what="file") == [{"what": "file", "name": "vhost-net-0"}]


def test_misses_that_are_dropped_are_counted() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await VhostNetVmm.boot(sim)
        await vmm.net.iotlb_invalidate(IOVA, RAM)
        vmm.post(b"x" * 60)
        await vmm.kick_device()
        await sim.settle()
        await vmm.detach()

    heard = Heard()
    heard.sim.run(story)
    assert heard.of(Kind.CLEAR) == [{"device": "vhost-net-0", "count": len(heard.of(Kind.MISS))}]


@pytest.mark.parametrize("close", [False, True])
def test_a_removal_is_told_with_its_answer(close: bool) -> None:
    heard = Heard()
    disk = heard.sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk")
    file = heard.sim.process("vmm").open_nowait(disk.path)
    if close:
        file.close_nowait()
        heard.sim.vdpa.dev_del("disk")
    else:
        with pytest.raises(OSError, match="busy"):
            heard.sim.vdpa.dev_del("disk")
    assert [bool(row["errno"]) for row in heard.of(Kind.REMOVE)] == [not close]


def test_what_was_not_looked_at_is_told() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
        await vmm.device.iotlb_update(0x100_0000, 4096, vmm.process.mmap(4096).addr)
        await vmm.device.batch_begin(asid=1)
        await vmm.device.batch_end(asid=1)

    heard = Heard()
    heard.sim.run(story)
    assert [row["what"] for row in heard.of(Kind.IGNORED)] == ["update", "asid", "asid"]
    assert [(row["asid"], row["open"]) for row in heard.of(Kind.BATCH)] == [(0, 1), (0, 0)]


def test_a_machine_nobody_listens_to_tells_nothing() -> None:
    sim = Simulator()
    sim.run(life)
    assert sim.kernel.seq == 0
