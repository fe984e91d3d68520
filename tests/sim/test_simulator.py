"""The simulated machine."""

from __future__ import annotations

from typing import Any

import pytest

from vdpasim.core.events import Kind
from vdpasim.core.kernel import Work, Worker
from vdpasim.core.net.tun import SocketFile
from vdpasim.core.profiles import ProfileError
from vdpasim.sim import Livelock, Simulator, UsageError, hosts
from vdpasim.uapi.fcntl import POLLIN


class TestBooting:
    def test_vhost_net_is_there_and_no_vdpa_device(self) -> None:
        assert list(Simulator().nodes) == ["/dev/vhost-net"]

    def test_the_profile_is_the_kernel_s(self) -> None:
        assert Simulator("6.1").kernel.on("va-mode") is False
        assert Simulator("6.12").kernel.on("va-mode") is True
        assert Simulator("6.12-va-mode").kernel.on("va-mode") is False

    def test_an_unknown_profile_is_refused(self) -> None:
        with pytest.raises(ProfileError, match=r"no kernel profile in '5\.4'"):
            Simulator("5.4")

    def test_an_unknown_abi_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(UsageError, match=r"unknown ABI 'vax'; known are .*x86_64"):
            Simulator(abi="vax")

    def test_a_misspelt_option_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(UsageError, match="no device here has an option 'use_vaa'; there is advertise, backing, "):
            Simulator(options={"use_vaa": True})

    def test_an_option_of_an_extension_needs_it(self) -> None:
        with pytest.raises(UsageError, match="no device here has an option 'peer_mac'"):
            Simulator(options={"peer_mac": 1})
        Simulator(options={"peer_mac": 1}, extensions=("net_peer",))

    def test_an_unknown_extension_is_refused_with_the_known_one(self) -> None:
        with pytest.raises(UsageError, match=r"unknown extension 'vhost-scsi'; there is 'vhost-vdpa\+miss'"):
            Simulator(extensions=("vhost-scsi",))

    def test_options_are_taken_by_devices_that_do_not_set_their_own(self) -> None:
        sim = Simulator(options={"use_va": False})
        sim.vdpa.dev_add("a", mgmtdev="vdpasim_blk")
        sim.vdpa.dev_add("b", mgmtdev="vdpasim_blk", use_va=True)
        assert [device.use_va for device in sim.vdpa.bus.devices.values()] == [False, True]


class TestANewProcess:
    def test_has_text_at_the_bottom_and_a_stack_at_the_top(self) -> None:
        vmas = list(Simulator().process("vmm").mm.vmas(0))
        assert len(vmas) == 2
        assert vmas[0].start == 0x400000
        assert vmas[1].last < 0x7FFF_FFFF_F000
        assert [vma.shared for vma in vmas] == [False, False]

    def test_has_the_memlock_it_was_given(self) -> None:
        assert Simulator().process("vmm", memlock=65536).limits.memlock == 65536

    def test_has_an_address_space_with_a_name_of_its_own(self) -> None:
        sim = Simulator()
        assert [sim.process("vmm").mm.ident for _ in range(2)] == ["mm:vmm-0", "mm:vmm-1"]


class TestWhatAStorySees:
    def test_is_a_violation_with_and_without_a_listener(self) -> None:
        sim = Simulator()
        sim.violation("history.seen", "with nobody listening")
        heard: list[Any] = []
        sim.listen(heard.append)
        sim.violation("history.seen", "as it was told")
        assert [text for _, text in sim.kernel.violations] == ["with nobody listening", "as it was told"]
        assert [event[3:] for event in heard] == [(Kind.VIOLATION, "history.seen", "as it was told")]


class TestMemoryThatMoved:
    def test_is_told_by_the_names_of_the_objects(self) -> None:
        sim = Simulator()
        process = sim.process("vmm")
        old, new = process.memfd("ram", 4096), process.memfd("huge", 4096)
        sim.memory_moved(old, new)  # nobody listens
        heard: list[Any] = []
        sim.listen(heard.append)
        sim.memory_moved(old, new)
        assert [event[3:] for event in heard] == [(Kind.MOVED, "vmm/ram", "vmm/huge")]

    def test_may_have_lost_its_descriptor(self) -> None:
        sim = Simulator()
        process = sim.process("vmm")
        old, new = process.memfd("ram", 4096), process.memfd("huge", 4096)
        memory = old.memory
        assert memory is not None
        old.close_nowait()
        heard: list[Any] = []
        sim.listen(heard.append)
        with pytest.raises(OSError, match="Bad file descriptor"):
            sim.memory_moved(old, new)
        sim.memory_moved(memory, new)
        assert [event[4:] for event in heard] == [("vmm/ram", "vmm/huge")]

    def test_goes_elsewhere_and_fits_there(self) -> None:
        sim = Simulator()
        process = sim.process("vmm")
        ram, small = process.memfd("ram", 8192), process.memfd("small", 4096)
        heard: list[Any] = []
        sim.listen(heard.append)
        for new in (ram, process.dup(ram), small):
            with pytest.raises(UsageError, match="vmm/ram has not moved to vmm/"):
                sim.memory_moved(ram, new)
        assert heard == []
        sim.memory_moved(small, ram)

    def test_lies_in_memfds(self) -> None:
        sim = Simulator()
        process = sim.process("vmm")
        with pytest.raises(UsageError, match="guest memory lies in memfds"):
            sim.memory_moved(process.memfd("ram", 4096), process.eventfd())


class TestTime:
    def test_begins_at_0_and_moves_when_told(self) -> None:
        sim = Simulator()
        sim.advance(5)
        sim.advance(7)
        assert sim.kernel.now == 12

    def test_who_becomes_ready_runs(self) -> None:
        sim = Simulator()
        process = sim.process("vmm")
        call = sim.kernel.submit(process.task, process.eventfd().open_file, "poll", (POLLIN, 10))
        sim.run_idle()
        assert not call.done
        sim.advance(10)
        assert call.done


class TestListening:
    def test_every_listener_gets_every_event(self) -> None:
        sim, one, two = Simulator(), list[Any](), list[Any]()
        sim.listen(one.append)
        file = sim.process("vmm").eventfd()
        file.poll_nowait(POLLIN)
        sim.listen(two.append)
        file.poll_nowait(POLLIN)
        assert len(one) == 4
        assert two == one[2:]


class TestChoice:
    def test_is_drawn_from_the_seed(self) -> None:
        draws = [[Simulator(seed=seed).choice(1000) for _ in range(1)] for seed in (1, 1, 2)]
        assert draws[0] == draws[1] != draws[2]

    def test_is_below_its_argument(self) -> None:
        sim = Simulator(seed=3)
        assert {sim.choice(3) for _ in range(60)} == {0, 1, 2}


class TestRunning:
    def test_main_gets_the_simulator_and_its_arguments(self) -> None:
        async def main(sim: Simulator, *args: int) -> tuple[Simulator, int]:
            return sim, sum(args)

        sim = Simulator()
        assert sim.run(main, 1, 2, 3) == (sim, 6)

    def test_every_actor_is_run_to_its_end(self) -> None:
        done: list[str] = []

        async def other(sim: Simulator) -> None:
            await sim.sleep(10)
            done.append("other")

        async def main(sim: Simulator) -> None:
            sim.spawn(other, sim)
            done.append("main")

        Simulator().run(main)
        assert done == ["main", "other"]

    def test_an_actor_is_named_for_its_function_or_as_told(self) -> None:
        async def some_function() -> None: ...

        sim = Simulator()
        assert [sim.spawn(some_function).name, sim.spawn(some_function, name="x").name] == ["some_function", "x"]
        sim.run_idle()

    def test_it_can_run_again(self) -> None:
        async def main(sim: Simulator) -> int:
            await sim.sleep(1)
            return sim.kernel.now

        sim = Simulator()
        assert [sim.run(main), sim.run(main)] == [1, 2]

    def test_a_livelock_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sim = Simulator()
        worker = Worker(sim.kernel, "spinning")

        def fn() -> Any:
            worker.queue(work)
            yield from ()

        work = Work(fn)
        worker.queue(work)
        monkeypatch.setattr(hosts.run_idle, "__defaults__", (100,))
        with pytest.raises(Livelock, match="spinning"):
            sim.run_idle()

    def test_it_stops_at_the_first_run_that_failed(self) -> None:
        async def bad(sim: Simulator) -> None:
            raise ZeroDivisionError

        async def good(sim: Simulator) -> int:
            return 1

        sim = Simulator()
        with pytest.raises(ZeroDivisionError):
            sim.run(bad)
        assert Simulator().run(good) == 1


class TestDaemons:
    def test_a_run_does_not_wait_for_them(self) -> None:
        ended: list[str] = []

        async def story(sim: Simulator) -> str:
            eventfd = sim.process("p").eventfd(flags=0)

            async def for_ever() -> None:
                try:
                    await eventfd.read(8)
                finally:
                    ended.append("stopped")

            actor = sim.spawn(for_ever, daemon=True)
            await sim.settle()
            assert not actor.done
            return "done"

        assert Simulator().run(story) == "done"
        assert ended == ["stopped"]

    def test_their_errors_are_the_run_s(self) -> None:
        async def story(sim: Simulator) -> None:
            async def fails() -> None:
                raise RuntimeError("daemon")

            sim.spawn(fails, daemon=True)
            await sim.settle()

        with pytest.raises(RuntimeError, match="daemon"):
            Simulator().run(story)

    def test_who_waits_for_one_waits(self) -> None:
        async def story(sim: Simulator) -> int:
            async def answer() -> int:
                await sim.sleep(5)
                return 42

            return int(await sim.spawn(answer, daemon=True).join())

        assert Simulator().run(story) == 42


class TestWire:
    def test_frames_go_out_and_in(self) -> None:
        sim = Simulator()
        tap = sim.process("vmm").tap("tap0", vnet_hdr=False).open_file.ops
        assert isinstance(tap, SocketFile)
        wire, tee = sim.wire("tap0"), sim.wire("tap0")
        tap.transmit(b"out")
        assert (wire.read_nowait(64), tee.read_nowait(64)) == (b"out", b"out")
        wire.write_nowait(b"in")
        assert tap.peek_frame() == b"in"
        assert wire.process is tee.process

    def test_a_tap_must_be_there(self) -> None:
        with pytest.raises(UsageError, match="no tap 'tap7'"):
            Simulator().wire("tap7")
