"""Device models of one's own: requests, hooks, generators, and what a wrong class is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.devices.machine import IOVA, Machine
from vdpasim.core.kernel import InternalError
from vdpasim.devices.model import TRANSPORT, DeviceModel, Queue
from vdpasim.devices.profile import DeviceProfile
from vdpasim.sim import Simulator, UsageError
from vdpasim.vmm.guest import Buffer, Used
from vdpasim.vmm.transport import run_sync

if TYPE_CHECKING:
    from vdpasim.core.kernel import Steps


class Echo(DeviceModel):
    """Writes what it reads, backwards."""

    device_id = 42
    config = b"\x01\x02\x03\x04"
    features = 1 << 5
    resets = 0

    def handle_queue(self, queue: Queue) -> None:
        for request in queue:
            request.write(request.read()[::-1])

    def reset(self) -> None:
        self.resets += 1


class Slow(DeviceModel):
    """A generator that hands two requests back in the other order."""

    device_id = 42
    queues = 2
    queue_size = 64
    name = "slow"

    def handle_queue(self, queue: Queue) -> Steps:
        taken = []
        while (request := queue.pop()) is not None:
            yield self.point("taken")
            request.write(b"abc")
            taken.append(request)
        for request in reversed(taken):
            queue.done(request)


def started(model: type[DeviceModel], **how: Any) -> Machine:
    made = Machine(model=model, **how)
    made.start()
    return made


def refusal(model: type[DeviceModel], **how: Any) -> str:
    with pytest.raises(UsageError) as caught:
        Simulator().vdpa.dev_add("dev", model=model, **how)
    return str(caught.value)


class TestRequests:
    def test_a_model_reads_and_writes(self) -> None:
        made = started(Echo)
        made.ram.write(made.data(), b"hello")
        head = made.vqs[0].add(Buffer(made.at(), 5), Buffer(made.at(slot=1), 64, writable=True))
        made.kick()
        assert made.vqs[0].used() == [Used(head, 5)]
        assert made.ram.read(made.data(slot=1), 6) == b"olleh\0"

    def test_what_there_is_no_room_for_is_not_written(self) -> None:
        made = started(Echo)
        made.ram.write(made.data(), b"hello")
        made.vqs[0].add(Buffer(made.at(), 5), Buffer(made.at(slot=1), 2, writable=True))
        made.kick()
        assert made.vqs[0].used()[0].length == 2

    def test_memory_that_is_not_mapped_gives_and_takes_nothing(self) -> None:
        made = started(Echo)
        for chain in ([Buffer(0, 5), Buffer(made.at(), 5, writable=True)], [Buffer(made.at(), 5), Buffer(0, 5, True)]):
            made.vqs[0].add(*chain)
        made.kick()
        assert [used.length for used in made.vqs[0].used()] == [0, 0]

    def test_a_broken_chain_ends_the_pass(self) -> None:
        made = started(Echo)
        made.vqs[0].add(Buffer(made.at(), 1, writable=True), Buffer(made.at(), 1))
        made.kick()
        assert made.vqs[0].used() == []

    def test_a_driver_that_wants_no_interrupt_gets_none(self) -> None:
        made = started(Echo)
        made.ram.write(made.vqs[0].avail_at, b"\1\0")
        made.vqs[0].add(Buffer(made.at(), 4, writable=True))
        made.kick()
        assert (len(made.vqs[0].used()), made.device.interrupts) == (1, 0)


class TestGenerators:
    @pytest.mark.parametrize("points", [False, True])
    def test_may_stop_at_points_and_complete_in_any_order(self, points: bool) -> None:
        made = started(Slow, queues=2)
        made.sim.kernel.points = points
        heads = [made.vqs[1].add(Buffer(made.at(1, slot), 8, writable=True)) for slot in range(2)]
        made.kick(1)
        assert made.vqs[1].used() == [Used(heads[1], 3), Used(heads[0], 3)]

    def test_attributes_say_what_the_device_is(self) -> None:
        made = Machine(model=Slow, queues=2)
        assert run_sync(made.vdpa.get_vring_num()) == 64
        assert made.sim.vdpa.dev_show()["dev"]["mgmtdev"] == "slow"


class TestHooks:
    def test_features_are_the_model_s_and_the_transport_s(self) -> None:
        assert run_sync(Machine(model=Echo).vdpa.get_features()) == TRANSPORT | 1 << 5

    def test_config_is_stored_by_default(self) -> None:
        made = Machine(model=Echo)
        run_sync(made.vdpa.set_config(1, b"\xff"))
        assert run_sync(made.vdpa.get_config(0, 4)) == b"\x01\xff\x03\x04"

    def test_config_hooks_see_every_access(self) -> None:
        class Counting(Echo):
            reads = 0

            def get_config(self) -> None:
                self.reads += 1
                self.sim.config[0] = self.reads

            def set_config(self, offset: int, data: bytes) -> None:
                """Read-only."""

        made = Machine(model=Counting)
        run_sync(made.vdpa.set_config(0, b"\xff\xff\xff\xff"))
        assert [run_sync(made.vdpa.get_config(0, 2)) for _ in range(2)] == [b"\x01\x02", b"\x02\x02"]

    def test_a_change_of_config_interrupts(self) -> None:
        made = Machine(model=Echo)
        event = made.process.eventfd()
        run_sync(made.vdpa.set_config_call(event.fd))
        made.device.model().change_config(2, b"\x09")
        assert event.read_nowait(8) == (1).to_bytes(8, "little")
        assert run_sync(made.vdpa.get_config(0, 4)) == b"\x01\x02\x09\x04"

    def test_resets_are_told(self) -> None:
        made = Machine(model=Echo)
        assert made.device.model().resets == 1
        run_sync(made.vdpa.set_status(0))
        assert made.device.model().resets == 2

    def test_options_become_attributes(self) -> None:
        class Optional(Echo):
            options: ClassVar[dict[str, Any]] = {"speed": 10, "word": "x"}
            speed: int
            word: str

        model: Any = Machine(model=Optional, speed=3).device.model()
        assert (model.speed, model.word) == (3, "x")


class TestTheFramework:
    def test_options_of_vdpa_sim_hold_for_models(self) -> None:
        made = Machine(model=Echo, use_va=0, batch_mapping=0)
        assert (made.device.use_va, made.device.supports("dma_map")) == (False, True)

    def test_a_profile_says_what_the_device_is(self) -> None:
        profile = DeviceProfile(device_id=42, features=TRANSPORT, queues=3, config=b"abc", iova_range=(IOVA, IOVA * 2))
        made = Machine(model=Echo, profile=profile)
        assert run_sync(made.vdpa.get_vqs_count()) == 3
        assert run_sync(made.vdpa.get_config(0, 3)) == b"abc"
        assert run_sync(made.vdpa.get_iova_range()) == (IOVA, IOVA * 2)

    def test_a_mistake_in_a_model_is_told_with_the_model(self) -> None:
        class Broken(Echo):
            def handle_queue(self, queue: Queue) -> None:
                raise ZeroDivisionError

        made = started(Broken)
        with pytest.raises((ZeroDivisionError, InternalError)) as caught:
            made.kick()
        error = caught.value if isinstance(caught.value, ZeroDivisionError) else caught.value.__cause__
        assert error is not None
        assert error.__notes__ == ["in the device model Broken of dev, queue 0"]


class TestWrongModels:
    def test_without_an_id(self) -> None:
        class Nobody(Echo):
            device_id = 0

        assert refusal(Nobody).startswith("Nobody.device_id: say which virtio device it is")

    def test_with_a_wrong_size(self) -> None:
        class Odd(Echo):
            queue_size = 100

        assert refusal(Odd) == "Odd.queue_size: 100 is not a power of two from 1 to 32768"

    def test_with_too_many_queues(self) -> None:
        class Wide(Echo):
            queues = 65

        assert refusal(Wide) == "Wide.queues: 65 is not an integer from 1 to 64"

    def test_of_another_device_than_the_profile(self) -> None:
        assert refusal(Echo, profile="mlx5-like").endswith("the profile's is 1, but Echo is a model of 42")

    def test_without_a_method(self) -> None:
        class Empty(DeviceModel):
            device_id = 4

        made = started(Empty)
        with pytest.raises((NotImplementedError, InternalError)):
            made.kick()
