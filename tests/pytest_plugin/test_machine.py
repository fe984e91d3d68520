"""The verdict on a machine, in this process."""

from __future__ import annotations

import pytest

from vdpasim.checks import Finding
from vdpasim.core.events import Kind
from vdpasim.pytest_plugin.machine import Machine, MachineError, complaint, rules_text
from vdpasim.pytest_plugin.settings import Settings
from vdpasim.uapi import vhost
from vdpasim.uapi.abi import X86_64

BROKEN = Finding("a.broken", "it broke", 3)


@pytest.mark.parametrize(
    ("found", "expected", "said"),
    [
        ([], (), ""),
        ([BROKEN], ("a.broken",), ""),
        ([BROKEN], (), "vdpasim: a.broken found\n  [3] a.broken: it broke"),
        ([], ("a.broken",), "vdpasim: a.broken was expected and not found"),
        (
            [BROKEN],
            ("b.broken",),
            "vdpasim: a.broken found\nvdpasim: b.broken was expected and not found\n  [3] a.broken: it broke",
        ),
    ],
)
def test_the_complaint_compares_found_with_expected(found: list[Finding], expected: tuple[str, ...], said: str) -> None:
    assert complaint(found, frozenset(expected)) == said


def test_refusals_are_collected_once_each_with_what_the_rule_says() -> None:
    machine = Machine(Settings())
    file = machine.vmm.open_nowait("/dev/vhost-net")
    for _ in range(2):
        with pytest.raises(PermissionError):
            file.ioctl_nowait(vhost.VHOST_SET_VRING_NUM.request(X86_64), bytes(8))
    assert machine.rules_text().count("vhost.owner.perm  EPERM  vhost.c:") == 1
    assert rules_text(["no.such-rule"]) == "no.such-rule"


def test_a_finding_is_complained_of_once() -> None:
    machine = Machine(Settings())
    machine.sim.violation("a.broken", "it broke")
    assert "a.broken" in machine.judge()
    assert machine.complaint() == ""
    machine.sim.violation("a.broken", "it broke again")
    assert "again" in machine.complaint()


def test_what_is_not_modelled_is_a_finding() -> None:
    machine = Machine(Settings())
    machine.sim.kernel.emit(Kind.UNMODELLED, "vhost-net", "teleport")
    assert "unmodelled: vhost-net: teleport" in machine.judge()


def test_settings_that_make_no_machine_are_refused() -> None:
    with pytest.raises(MachineError, match="z80"):
        Machine(Settings(abi="z80"))


def careless(machine: Machine) -> None:
    file = machine.vmm.open_nowait("/dev/vhost-net")
    with pytest.raises(PermissionError):
        file.ioctl_nowait(0x4008_AF26, bytes(8))


def test_a_mistake_of_the_program_is_a_note_unless_it_is_expected() -> None:
    machine = Machine(Settings())
    careless(machine)
    assert machine.judge() == ""
    assert "vmm.wrong-request: /dev/vhost-net: 0x4008af26" in machine.notes_text()

    machine = Machine(Settings(expect=frozenset({"vmm.wrong-request"})))
    careless(machine)
    assert machine.judge() == machine.notes_text() == ""
