"""The journal: what it holds, what it refuses, what it cannot hold."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.core.fs.file import DriverFile
from vdpasim.sim import Simulator, UsageError
from vdpasim.sim.journal import DISK_MAX
from vdpasim.sim.replay import Replay
from vdpasim.uapi.mman import MAP_SHARED, PROT_WRITE
from vdpasim.uapi.vhost import VHOST_SET_OWNER

if TYPE_CHECKING:
    from pathlib import Path

    from vdpasim.sim.replay import Outcome

PAGE = 4096


def rows(stream: io.StringIO) -> list[Any]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def again(stream: io.StringIO) -> Outcome:
    return Replay(io.StringIO(stream.getvalue())).run()


def recorded() -> tuple[Simulator, io.StringIO]:
    sim, stream = Simulator(), io.StringIO()
    sim.journal(stream)
    return sim, stream


class TestBeginning:
    def test_header_says_what_makes_the_machine(self) -> None:
        sim = Simulator(
            "6.12", abi="i386", seed=7, options={"use_va": 0}, extensions=("net_peer",), faults=["kick:3:drop"]
        )
        stream = io.StringIO()
        sim.journal(stream, "a.py::b")
        (header,) = rows(stream)
        assert header.pop("program").startswith("vdpasim ")
        assert header == {
            "format": "vdpasim-journal", "version": 1, "scenario": "a.py::b", "kernel": "6.12", "abi": "i386",
            "seed": 7, "options": {"use_va": 0}, "extensions": ["net_peer"], "faults": ["kick:3:drop"],
        }  # fmt: skip

    @pytest.mark.parametrize("what", ["process", "device", "journal"])
    def test_wants_a_fresh_machine(self, what: str) -> None:
        sim = Simulator()
        if what == "process":
            sim.process("vmm")
        elif what == "device":
            sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk")
        else:
            sim.journal(io.StringIO())
        with pytest.raises(UsageError, match="fresh machine"):
            sim.journal(io.StringIO())


class TestOperations:
    def test_what_follows_from_an_operation_is_not_written(self) -> None:
        sim, stream = recorded()
        sim.process("vmm").eventfd()
        assert [row[2] for row in rows(stream)[1:] if row[0] == "op"] == ["process", "eventfd"]

    def test_is_written_before_it_happens(self) -> None:
        sim, stream = recorded()
        with pytest.raises(OSError, match="No such device"):
            sim.vdpa.dev_add("disk", mgmtdev="nothing")
        assert rows(stream)[-1][:3] == ["op", ["vdpa"], "dev_add"]

    def test_zeros_at_the_end_of_a_buffer_cost_nothing(self) -> None:
        sim, stream = recorded()
        vmm = sim.process("vmm")
        region = vmm.mmap(PAGE)
        region.write(0, b"\1" + bytes(PAGE - 1))
        assert rows(stream)[-1][3] == [region.addr, {"bytes": "01", "length": PAGE}]

    def test_limits_are_seen_before_the_next_step(self) -> None:
        sim, stream = recorded()
        vmm = sim.process("vmm")
        vmm.limits.memlock = 12345
        vmm.open_nowait("/dev/vhost-net")
        limits = [row[1]["limits"] for row in rows(stream)[1:] if row[0] == "state" and "limits" in row[1]]
        assert limits[-1][0][0] == 12345

    def test_a_fault_that_was_lifted_strikes_no_more(self) -> None:
        sim, stream = recorded()
        fault = sim.inject("open:every")
        fault.lift()
        assert sim.recorder
        with sim.recorder:
            sim.process("vmm").open_nowait("/dev/vhost-net")
        outcome = again(stream)
        assert not outcome.different
        assert outcome.complete

    def test_nothing_is_written_behind_the_end(self) -> None:
        sim, stream = recorded()
        assert sim.recorder
        sim.recorder.finish()
        sim.process("vmm")
        assert rows(stream)[-1] == ["end", 0]

    def test_a_doorbell_is_unmapped_as_it_was(self) -> None:
        sim, stream = recorded()
        assert sim.recorder
        with sim.recorder:
            vmm = sim.process("vmm")
            file = vmm.open_nowait(sim.vdpa.dev_add("net", profile="mlx5-like").path)
            file.ioctl_nowait(VHOST_SET_OWNER.request())
            address = file.mmap_nowait(PAGE, PROT_WRITE, MAP_SHARED)
            file.close_nowait()
            vmm.write(address, b"\0\0\0\0")
            vmm.munmap(address, PAGE)
        outcome = again(stream)
        assert (outcome.different, outcome.complete, outcome.events) == ("", True, sim.kernel.seq)

    def test_a_number_that_no_file_has_is_used_again_in_vain(self) -> None:
        sim, stream = recorded()
        assert sim.recorder
        with sim.recorder:
            file = sim.process("vmm").open_nowait(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path)
            file.close_nowait()
            for call in (lambda: file.read_nowait(72), lambda: file.write_nowait(b"x"), file.close_nowait):
                with pytest.raises(OSError, match="Bad file descriptor"):
                    call()
        calls = [row[2] for row in rows(stream) if isinstance(row, list) and row[0] == "call"]
        assert calls.count({"closed": 3}) == 3
        outcome = again(stream)
        assert (outcome.different, outcome.complete, outcome.events) == ("", True, sim.kernel.seq)


class TestLost:
    def test_a_file_made_in_python(self) -> None:
        sim, stream = recorded()
        sim.process("vmm").install("odd", DriverFile())
        assert rows(stream)[-1] == ["lost", "install: a DriverFile is nothing a journal can hold"]
        assert again(stream).lost == ["install: a DriverFile is nothing a journal can hold"]

    def test_a_disk_that_is_too_large(self, tmp_path: Path) -> None:
        sim, stream = recorded()
        disk = tmp_path / "disk"
        with disk.open("wb") as file:
            file.truncate(DISK_MAX + 1)
        sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk", backing=disk)
        assert "larger" in rows(stream)[-1][1]


def test_a_disk_comes_along(tmp_path: Path) -> None:
    sim, stream = recorded()
    disk = tmp_path / "disk"
    disk.write_bytes(b"words")
    sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk", backing=disk)
    disk.unlink()
    replay = Replay(io.StringIO(stream.getvalue()))
    replay.run()
    assert "disk" in replay.sim.vdpa.bus.devices


def test_a_trio_program_is_replayed_too() -> None:
    trio = pytest.importorskip("trio")
    sim, stream = recorded()

    async def main() -> None:
        vmm = sim.process("vmm")
        event = vmm.eventfd()
        await event.write((1).to_bytes(8, "little"))
        with trio.move_on_after(0.01):
            await vmm.eventfd(flags=0).read(8)
        await event.aclose()

    trio.run(main)
    assert sim.recorder
    sim.recorder.finish()
    outcome = again(stream)
    assert (outcome.different, outcome.complete, outcome.events) == ("", True, sim.kernel.seq)
