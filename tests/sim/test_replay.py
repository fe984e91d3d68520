"""Replay: the same events from the journal alone, and what happens to files that are cut or damaged."""

from __future__ import annotations

import io
import json
from inspect import isfunction
from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.sim import Simulator
from vdpasim.sim.replay import OPERATIONS, JournalError, Replay, UnknownSeriesError
from vdpasim.vmm.blk import RAM, BlkVmm

if TYPE_CHECKING:
    from vdpasim.sim.replay import Outcome


@pytest.fixture(scope="module")
def journal() -> str:
    sim, stream = Simulator("6.12+live-update-v1"), io.StringIO()

    async def story(sim: Simulator) -> None:
        vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
        await vmm.write_sector(0, b"words".ljust(512, b"\0"))
        with sim.hold("disk.next"):
            await vmm.device.suspend()
        await vmm.exec(0x6000_0000_0000)
        await vmm.device.new_owner()
        sim.violation("test.said", "so")
        sim.memory_moved(vmm.memfd, vmm.process.memfd("huge", RAM))

    with sim.journal(stream):
        sim.run(story)
    return stream.getvalue()


def play(text: str) -> Outcome:
    return Replay(io.StringIO(text)).run()


def refused(text: str) -> str:
    with pytest.raises(JournalError) as caught:
        play(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_same_comes_out(journal: str) -> None:
    outcome = play(journal)
    assert (outcome.different, outcome.complete, outcome.lost, outcome.other_version) == ("", True, [], False)
    assert json.loads(journal.splitlines()[-1]) == ["end", outcome.events]


def test_every_operation_is_one_that_is_recorded() -> None:
    from vdpasim.sim.barriers import Hold
    from vdpasim.sim.file import File
    from vdpasim.sim.process import Process
    from vdpasim.sim.vdpa import Device, Vdpa

    kinds = {"sim": Simulator, "vdpa": Vdpa, "device": Device, "process": Process, "fd": File, "hold": Hold}
    for kind, cls in kinds.items():
        marked = {name for name, value in vars(cls).items() if isfunction(value) and hasattr(value, "__wrapped__")}
        assert OPERATIONS[kind] == marked - {"install", "calm"}


class TestDifferences:
    def test_another_event(self, journal: str) -> None:
        lines = journal.splitlines(keepends=True)
        at = next(number for number, line in enumerate(lines) if line.startswith('["check"'))
        lines[at] = '["check","00000000"]\n'
        outcome = play("".join(lines))
        assert outcome.different == "is another one than was recorded"
        assert outcome.event is not None
        assert outcome.seq == 1

    def test_one_too_many(self, journal: str) -> None:
        lines = [line for line in journal.splitlines(keepends=True) if not line.startswith('["check"')]
        assert play("".join(lines)).different == "was not recorded"

    def test_one_that_does_not_come(self, journal: str) -> None:
        lines = journal.splitlines(keepends=True)
        lines.insert(1, '["check","00000000"]\n')
        outcome = play("".join(lines))
        assert outcome.different == "was recorded and does not come"
        assert outcome.event is None

    def test_another_kernel(self, journal: str) -> None:
        assert play(journal.replace('"6.12+live-update-v1"', '"6.12"', 1)).different

    def test_another_version_is_told(self, journal: str) -> None:
        assert play(journal.replace('"program":"vdpasim', '"program":"vdpasim 0.0.1', 1)).other_version


class TestDamage:
    def test_cut_anywhere(self, journal: str) -> None:
        # as a recording that was killed is
        first = journal.index("\n") + 1
        for at in range(first, len(journal) - 1, max(1, len(journal) // 150)):
            outcome = play(journal[:at])
            assert not outcome.different
            assert not outcome.complete

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "not a journal"),
            ("[]\n", "not a journal"),
            ('{"format":"vdpasim-trace","version":1}\n', "not a journal"),
            ('{"format":"vdpasim-journal"}\n', "no version"),
            ('{"format":"vdpasim-journal","version":2}\n', "reads up to 1"),
            ('{"format":"vdpasim-journal","version":1}\n', "no kernel"),
        ],
    )
    def test_of_the_header(self, text: str, said: str) -> None:
        assert said in refused(text)

    def test_a_series_that_is_not_here_is_named(self, journal: str) -> None:
        with pytest.raises(UnknownSeriesError, match="recorded under my-v3, which is no series or switch here"):
            play(journal.replace('"6.12+live-update-v1"', '"6.12+my-v3+lu-advertise"', 1))
        assert "no kernel profile" in refused(journal.replace('"6.12+live-update-v1"', '"6.13"', 1))

    @pytest.mark.parametrize(
        "line",
        [
            "no json", "{}", "[]", "[1]", '["nonsense"]', '["step",0]', '["step",-1]', '["step","a"]',
            '["call",0,0,"ioctl",[]]', '["call",0,null,"fork",[]]', '["op",["sim"],"run",[],{},null]',
            '["op",["sim"],"process",[],{},null]', '["op",["process",0],"exit",[],{},null]', '["op",["x"],"a",[],{},0]',
            '["op",["sim"],"process",[{"odd":1}],{},null]', '["signal",3]', '["check","xyz"]', '["time","a"]',
            '["op",["sim"],"process",[{"bytes":"0","length":3}],{},null]', '["state",{"limits":[1]}]',
            '["op",["vdpa"],"dev_add",["a"],{"model":{"model":"/no/such.py","digest":"00"}},null]',
            '["state",{"lifted":[9]}]', '["call",0,{},"ioctl",[]]', '["call",0,{"closed":1e400},"ioctl",[]]',
            '["call",0,{"closed":"7"},"ioctl",[]]', '["call",0,{"closed":3.5},"ioctl",[]]',
            '["op",["sim"],"process",[{"bytes":"00","length":99999999999}],{},null]',
        ],
    )  # fmt: skip
    def test_of_a_line(self, journal: str, line: str) -> None:
        head = journal.splitlines(keepends=True)[0]
        made = '["op",["sim"],"process",["vmm"],{},null]\n' if "limits" in line or "closed" in line else ""
        number = 3 if made else 2
        assert refused(head + made + line + "\n").startswith(f"journal:{number}: ")

    def test_a_line_behind_the_last(self, journal: str) -> None:
        assert "behind the last" in refused(journal + '["time",1]\n')

    def test_every_line_changed_is_the_same_different_or_one_error(self, journal: str) -> None:
        lines = journal.splitlines(keepends=True)
        for at in range(1, len(lines), 3):
            changed: list[Any] = json.loads(lines[at])
            changed[-1] = "odd"
            text = "".join([*lines[:at], json.dumps(changed) + "\n", *lines[at + 1 :]])
            try:
                play(text)
            except JournalError as error:
                assert "\n" not in str(error)
