"""The facts of a run, gathered in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.checks.diagnosis.support import boot
from vdpasim.checks.diagnosis.facts import END, gather
from vdpasim.sim import Simulator
from vdpasim.vmm.live_update import LiveUpdate

if TYPE_CHECKING:
    from vdpasim.core.events import Event


def events() -> list[Event]:
    sim = Simulator("6.12+live-update-v1")
    seen: list[Event] = []
    sim.listen(seen.append)

    async def story(sim: Simulator) -> None:
        await LiveUpdate(await boot(sim, 2)).run()

    sim.run(story)
    return seen


def test_a_device_has_its_life() -> None:
    facts = gather(events())
    (device,) = facts.devices.values()
    assert device.name == "vhost-vdpa-0"
    names = ["SUSPEND", "NEW_OWNER", "RESUME"]
    assert [call.name for call in device.granted(*names)] == names
    (taken,) = device.takeovers
    assert device.suspended(taken.seq)
    assert not device.running(taken.seq)
    assert device.owner(taken.seq) != device.owner(END) != ""
    assert facts.space("vmm", END) == device.owner(END)
    assert device.handed_over(0, taken.seq)
    assert device.offers_remap
    assert not facts.pinned(device)


def test_entries_have_lives() -> None:
    facts = gather(events())
    (device,) = facts.devices.values()
    (taken,) = device.takeovers
    assert len(device.at(END - 1)) == 2
    for entry in device.entries:
        assert entry.by is not None
        assert entry.exactly(entry.by)
        assert entry.remapped(taken.end)
        assert not entry.remapped(0, taken.end)


def test_a_batch_is_open_or_not() -> None:
    facts = gather(events())
    (device,) = facts.devices.values()
    begun, remap = device.granted("BATCH_BEGIN")[0], device.granted("REMAP")[0]
    assert device.batch(remap.seq) is begun
    assert device.batch(END) is None


def test_a_run_that_was_cut_short_is_read() -> None:
    seen = events()
    for number in range(0, len(seen), 7):
        gather(seen[:number])
        gather(seen[number:])
