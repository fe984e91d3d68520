"""The sequence of a live update: whole, and with steps skipped, moved, replaced and surrounded."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from vdpasim.checks.standard import standard
from vdpasim.core.events import Kind
from vdpasim.devices.profile import load
from vdpasim.sim import Simulator
from vdpasim.uapi.abi import X86_64
from vdpasim.uapi.vhost import VHOST_VDPA_SET_GROUP_ASID
from vdpasim.vmm.live_update import ACTIONS, STEPS, LiveUpdate, LiveVmm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
BLOCKS = 3
NEW_OWNER, IOTLB_REMAP = 1 << 9, 1 << 10


def play(story: Callable[[LiveVmm], Awaitable[Any]], kernel: str = V1, **options: Any) -> tuple[Any, list[str]]:
    """A VMM with three blocks of memory, and a sector on disk for each; what the story says, what the checks found."""
    sim = Simulator(kernel)
    checks = standard()
    for check in checks:
        sim.listen(check.event)

    async def body(machine: Simulator) -> Any:
        path = machine.vdpa.dev_add("disk", mgmtdev="vdpasim_blk", **options).path
        vmm = await LiveVmm.boot(machine.process("vmm"), path, blocks=BLOCKS)
        for number in range(BLOCKS):
            await vmm.write_sector(number, bytes([number + 1]) * 512)
        return await story(vmm)

    answer = sim.run(body)
    for check in checks:
        check.finish()
    return answer, sorted({finding.id for check in checks for finding in check.findings})


async def sectors(vmm: LiveVmm) -> list[int]:
    """The sectors, each read into a block of its own."""
    return [(await vmm.read_into(number, number))[0] for number in range(BLOCKS)]


ALL = list(range(1, BLOCKS + 1))


def test_every_step_has_an_action_and_the_other_way_round() -> None:
    assert [step.name for step in STEPS] == list(ACTIONS)
    assert {step.who for step in STEPS} == {"old", "new"}


@pytest.mark.parametrize("kernel", [V1, V2, FIXED])
@pytest.mark.parametrize("variant", ["resume", "reset"])
@pytest.mark.parametrize("way", ["exec", "transfer"])
@pytest.mark.parametrize("use_va", [True, False])
def test_the_whole_of_it_leaves_a_device_that_works(kernel: str, variant: Any, way: Any, use_va: bool) -> None:
    async def story(vmm: LiveVmm) -> list[int]:
        return await sectors(await LiveUpdate(vmm, variant=variant, way=way).run())

    assert play(story, kernel, use_va=use_va) == (ALL, [])


def test_the_new_image_has_memory_where_it_was_told() -> None:
    places = [0x6000_0000_0000, 0x7000_0000_0000, 0x5000_0000_0000]

    async def story(vmm: LiveVmm) -> list[int]:
        after = await LiveUpdate(vmm, addresses=places).run()
        return [block.region.addr for block in after.blocks]

    assert play(story) == (places, [])


@pytest.mark.parametrize(("order", "stale"), [("forward", 2), ("reverse", 0)])
def test_without_a_batch_the_last_block_sent_is_stale(order: Any, stale: int) -> None:
    async def story(vmm: LiveVmm) -> None:
        await LiveUpdate(vmm, batched=False, order=order).run(until="run")

    assert play(story)[1] == ["iotlb.divergence"]


def test_a_step_that_is_skipped_is_not_made() -> None:
    async def story(vmm: LiveVmm) -> list[str]:
        update = LiveUpdate(vmm).skip("remap", "kick")
        await update.run()
        return update.done

    done, _ = play(story)
    assert "remap" not in done
    assert "run" in done


def test_a_step_that_is_moved_is_made_there() -> None:
    async def story(vmm: LiveVmm) -> list[str]:
        update = LiveUpdate(vmm).move("remap", before="new-owner")
        with pytest.raises(OSError) as refused:
            await update.run()
        assert refused.value.errno == errno.EFAULT
        return update.done

    done, _ = play(story)
    assert done[-1] == "map-memory"


def test_actions_before_instead_and_after() -> None:
    log: list[str] = []

    def note(word: str) -> Callable[[LiveUpdate], Awaitable[None]]:
        async def action(update: LiveUpdate) -> None:
            log.append(word)

        return action

    async def story(vmm: LiveVmm) -> None:
        update = LiveUpdate(vmm).before("save", note("before")).after("save", note("after"))
        await update.replace("save", note("instead")).run(until="save")

    play(story)
    assert log == ["before", "instead", "after"]


def test_it_goes_on_where_it_stopped() -> None:
    async def story(vmm: LiveVmm) -> list[str]:
        update = LiveUpdate(vmm)
        await update.run(until="suspend")
        await update.run()
        return update.done

    done, found = play(story)
    assert (done, found) == ([step.name for step in STEPS if step.variant is None], [])


def test_a_transfer_leaves_the_old_process_alive_and_without_the_device() -> None:
    async def story(vmm: LiveVmm) -> int:
        update = LiveUpdate(vmm, way="transfer")
        await update.run()
        assert update.old is vmm
        with pytest.raises(OSError) as refused:
            await vmm.device.get_vring_base(0)
        return refused.value.errno or 0

    assert play(story) == (errno.EPERM, [])


@pytest.mark.parametrize("way", ["exec", "transfer"])
def test_the_new_process_has_a_limit_of_its_own(way: Any) -> None:
    async def story(vmm: LiveVmm) -> int:
        with pytest.raises(OSError) as refused:
            await LiveUpdate(vmm, way=way, memlock=4096).run()
        return refused.value.errno or 0

    assert play(story, use_va=False)[0] == errno.ENOMEM


@pytest.mark.parametrize(("kernel", "options"), [("6.12", {}), (V2, {"advertise": 0})])
def test_a_device_that_cannot_is_refused_before_anything_was_done(kernel: str, options: dict[str, Any]) -> None:
    async def story(vmm: LiveVmm) -> list[int]:
        update = LiveUpdate(vmm)
        with pytest.raises(OSError, match="does not offer NEW_OWNER"):
            await update.run()
        assert not update.done
        return await sectors(vmm)

    assert play(story, kernel, **options) == (ALL, [])


@pytest.mark.parametrize("name", ["resurrect", "reset"])
def test_a_step_this_variant_does_not_have_is_refused(name: str) -> None:
    async def story(vmm: LiveVmm) -> None:
        update = LiveUpdate(vmm)
        for change in (lambda: update.skip(name), lambda: update.move(name, before="run"), lambda: update.at(name)):
            with pytest.raises(ValueError, match=f"no step '{name}' here; there are check,"):
                change()

    play(story)


def test_a_refused_change_changes_nothing() -> None:
    async def story(vmm: LiveVmm) -> None:
        update = LiveUpdate(vmm)
        with pytest.raises(ValueError, match="no step 'typo'"):
            update.skip("save", "typo")
        for before in ("typo", "save"):
            with pytest.raises(ValueError, match="step '"):
                update.move("save", before=before)
        assert update.at("save") == [step.name for step in STEPS if step.variant is None].index("save")

    play(story)


@pytest.mark.parametrize("words", [{"variant": "hop"}, {"way": "post"}, {"order": "sideways"}])
def test_a_word_it_does_not_know_is_refused(words: dict[str, Any]) -> None:
    async def story(vmm: LiveVmm) -> None:
        with pytest.raises(ValueError, match="is none of"):
            LiveUpdate(vmm, **words)

    play(story)


@pytest.mark.parametrize(("variant", "until"), [("resume", "suspend"), ("resume", "end-batch"), ("reset", "reset")])
def test_before_the_handover_it_can_be_undone(variant: Any, until: str) -> None:
    async def story(vmm: LiveVmm) -> list[int]:
        update = LiveUpdate(vmm, variant=variant)
        await update.run(until=until)
        await update.undo()
        assert update.done == []
        found = await sectors(vmm)
        again = await sectors(await update.run())
        assert again == found, "and made from the beginning"
        return found

    assert play(story) == (ALL, [])


def test_what_was_not_stopped_needs_no_undoing() -> None:
    async def story(vmm: LiveVmm) -> list[int]:
        update = LiveUpdate(vmm)
        await update.run(until="check")
        await update.undo()
        return await sectors(vmm)

    assert play(story) == (ALL, [])


def test_a_transfer_can_be_undone_until_the_other_is_the_owner() -> None:
    async def story(vmm: LiveVmm) -> list[int]:
        update = LiveUpdate(vmm, way="transfer")
        await update.run(until="hand-over")
        await update.undo()
        assert update.vmm is vmm
        return await sectors(vmm)

    assert play(story) == (ALL, [])


@pytest.mark.parametrize(
    ("way", "until", "why"),
    [("exec", "hand-over", "is gone"), ("exec", "new-owner", "recover"), ("transfer", "new-owner", "recover")],
)
def test_where_the_old_image_is_gone_or_owns_nothing_it_cannot_be_undone(way: Any, until: str, why: str) -> None:
    async def story(vmm: LiveVmm) -> None:
        update = LiveUpdate(vmm, way=way)
        await update.run(until=until)
        with pytest.raises(ValueError, match=why):
            await update.undo()
        assert update.done[-1] == until, "nothing was sent, nothing forgotten"

    play(story)


def test_a_batch_that_is_open_is_closed_before_the_handover() -> None:
    async def story(vmm: LiveVmm) -> list[int]:
        await vmm.begin_batch()
        update = LiveUpdate(vmm, batched=False)
        after = await update.run(until="end-batch")
        assert after.open_batch is None
        return await sectors(await update.run())

    assert play(story, FIXED) == (ALL, [])


def test_a_reset_wants_a_map_that_persists() -> None:
    async def story(vmm: LiveVmm) -> None:
        with pytest.raises(OSError, match="does not offer IOTLB_PERSIST"):
            await LiveUpdate(vmm, variant="reset").run()

    assert play(story, V1 + "-iotlb-persist") == (None, [])


@pytest.mark.parametrize("variant", ["resume", "reset"])
def test_groups_are_where_they_were(variant: Any) -> None:
    grouped = attrs.evolve(
        load("vdpasim_blk-6.12"),
        queues=2,
        queue_groups=(0, 1),
        groups=2,
        address_spaces=2,
        backend_features=NEW_OWNER | IOTLB_REMAP,
    )
    sim = Simulator(FIXED)

    async def story(machine: Simulator) -> tuple[int, int]:
        node = machine.vdpa.dev_add("disk", profile=grouped).path
        vmm = await LiveVmm.boot(machine.process("vmm"), node)
        await vmm.assign(1, 1)
        device = machine.vdpa.bus.devices["disk"]
        asked = machine.kernel.seq
        events: list[Any] = []
        machine.listen(events.append)
        await LiveUpdate(vmm, variant=variant).run()
        sent = [event[6][0] for event in events if event[0] > asked and event[3] == Kind.ENTER and event[4] == "ioctl"]
        return device.nas, sent.count(VHOST_VDPA_SET_GROUP_ASID.request(X86_64))

    assert sim.run(story) == (2, 1 if variant == "reset" else 0)
