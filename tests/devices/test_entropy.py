"""The worked example of a device model, docs/examples/entropy.py, driven as a guest does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.devices.machine import IOVA, NUM, PAGE, Machine
from vdpasim.vmm.guest import Buffer, Used, Virtqueue
from vdpasim.vmm.transport import run_sync

EXAMPLE = Path(__file__).parent.parent.parent / "docs" / "examples" / "entropy.py"


def machine(**options: Any) -> Machine:
    made = Machine(model=EXAMPLE, **options)
    made.start()
    return made


def draw(made: Machine, *lengths: int) -> list[bytes]:
    """What the device puts into one chain with buffers of these lengths."""
    chain = [Buffer(made.at(slot=slot), length, writable=True) for slot, length in enumerate(lengths)]
    head = made.vqs[0].add(*chain)
    made.kick()
    assert made.vqs[0].used() == [Used(head, sum(lengths))]
    return [made.ram.read(made.data(slot=slot), length) for slot, length in enumerate(lengths)]


def test_is_a_virtio_entropy_device() -> None:
    made = machine()
    assert run_sync(made.vdpa.get_device_id()) == 4
    assert run_sync(made.vdpa.get_config_size()) == 0
    assert run_sync(made.vdpa.get_vqs_count()) == 1


def test_fills_the_buffer_and_interrupts() -> None:
    made = machine()
    (data,) = draw(made, 64)
    assert len(set(data)) > 16
    assert made.calls[0].read_nowait(8) == (1).to_bytes(8, "little")


def test_fills_every_buffer_of_a_chain_and_nothing_more() -> None:
    made = machine()
    first, second = draw(made, 5, 100)
    assert first != bytes(5)
    assert second != bytes(100)
    assert made.ram.read(made.data() + 5, 16) == bytes(16)


def test_gives_other_bytes_the_next_time() -> None:
    made = machine()
    assert draw(made, 32) != draw(made, 32)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    assert draw(machine(seed=7), 96) == draw(machine(seed=7), 96)
    assert draw(machine(seed=7), 96) != draw(machine(seed=8), 96)


def test_goes_on_where_it_was_after_a_reset() -> None:
    made = machine()
    run_sync(made.vdpa.set_backend_features(1 << 1 | 1 << 8))  # else the reset would take the device's map along
    (before,) = draw(made, 32)
    run_sync(made.vdpa.set_status(0))
    made.vqs = [Virtqueue(made.ram, IOVA, NUM)]
    made.start()
    assert draw(made, 32) != [before]


def test_several_requests_for_one_kick_come_back_in_order() -> None:
    made = machine()
    heads = [made.vqs[0].add(Buffer(made.at(slot=slot), 16, writable=True)) for slot in range(3)]
    made.kick()
    assert made.vqs[0].used() == [Used(head, 16) for head in heads]


def test_a_readable_buffer_gets_nothing() -> None:
    made = machine()
    head = made.vqs[0].add(Buffer(made.at(), PAGE))
    made.kick()
    assert made.vqs[0].used() == [Used(head, 0)]


def test_the_command_line_s_grammar_takes_it_too() -> None:
    made = Machine(model=EXAMPLE)
    device = made.sim.vdpa.command(f"dev add name rng model {EXAMPLE} seed 3")
    assert device.device.behaviour.model.seed == 3
    assert made.sim.vdpa.dev_show()["rng"]["mgmtdev"] == "entropy"


def test_loading_it_leaves_no_module_behind() -> None:
    before = set(sys.modules)
    machine()
    assert {name for name in set(sys.modules) - before if "entropy" in name} == set()


def test_an_option_it_does_not_take_is_refused() -> None:
    with pytest.raises(OSError, match="Operation not supported"):
        machine(speed=7)
