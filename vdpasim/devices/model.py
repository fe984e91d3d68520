"""A device of your own: one class with one method, over the framework vdpa_sim's devices stand on (no kernel file).

Theory. A subclass of :class:`DeviceModel` says what the device is in class attributes and does its work in
``handle_queue``, which is called for each ready queue whenever the device's worker runs. Everything else (rings, maps,
status, suspend, interrupts, DMA in the owner's memory) is the framework's, so a model meets the same bugs of a VMM as
vdpa_sim does, and its accesses are in the trace. A model sees requests, chains of buffers taken from a queue::

    class Zeroes(DeviceModel):
        device_id = 4

        def handle_queue(self, queue: Queue) -> None:
            for request in queue:
                request.write(bytes(request.writable))

A request is handed back when the next one is asked for, with the number of bytes written, and the driver is interrupted
if it wants to be. ``handle_queue`` may also be a generator; what it yields are schedule points
(:meth:`DeviceModel.point`) at which, when schedules are explored, somebody else may run. A model draws nothing from
clocks or random numbers: the same calls must give the same bytes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from vdpasim.core.kernel import Point
from vdpasim.core.rules import KernelError, Rule, hit, register
from vdpasim.core.vdpa.vdpa import MgmtDev
from vdpasim.core.vdpa.vdpa_sim import SimAttr, VdpaSim
from vdpasim.core.vdpa.vdpa_sim_create import create
from vdpasim.devices.profile_keys import QUEUES_MAX, RING_MAX, DeviceProfileError
from vdpasim.devices.stock import sim_attr
from vdpasim.uapi.virtio_config import VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vdpasim.core.kernel import Steps
    from vdpasim.core.vdpa.vdpa import Attributes, VdpaBus, VdpaDevice
    from vdpasim.core.vdpa.vdpa_sim import VdpasimVirtqueue
    from vdpasim.core.vhost.vringh import Iov
    from vdpasim.devices.profile import DeviceProfile

TRANSPORT = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_F_ACCESS_PLATFORM
"""Features that every device here offers."""

_WHERE = "vdpasim: devices/model.py"

register(
    [
        Rule(
            "model.chain.broken",
            _WHERE,
            0,
            "a model meets a chain that cannot be read: the pass over the queue ends",
            source="inferred",
        ),
        Rule(
            "model.copy",
            _WHERE,
            0,
            "a model's buffer lies in memory that is not there: nothing, or not all, was copied",
            source="inferred",
        ),
    ]
)


class Request:
    """One chain of buffers that the driver made available."""

    def __init__(self, queue: Queue, head: int, readable: Iov, writable: Iov) -> None:
        self._vq = queue.vq
        self._readable, self._writable = readable, writable
        self.head = head
        """The chain's first descriptor."""
        self.readable = readable.left
        """Bytes the driver gave."""
        self.writable = writable.left
        """Bytes there is room for."""
        self.written = 0
        """Bytes written so far, which the driver is told."""

    def read(self, length: int | None = None) -> bytes:
        """The next bytes the driver gave, by default all that are left; fewer where its memory is not there."""
        parts: list[bytes] = []
        try:
            parts.extend(self._vq.vring.pull_pieces(self._readable, self._readable.left if length is None else length))
        except KernelError:
            hit("model.copy")
        return b"".join(parts)

    def write(self, data: bytes) -> int:
        """Store bytes behind those written before; how many: fewer where there is no room, or no memory."""
        try:
            done = self._vq.vring.push(self._writable, data)
        except KernelError:
            hit("model.copy")
            return 0
        self.written += done
        return done


class Queue:
    """A ready queue, as ``handle_queue`` sees it: iterate for its requests."""

    def __init__(self, sim: VdpaSim, index: int) -> None:
        self.sim = sim
        self.index = index

    @property
    def vq(self) -> VdpasimVirtqueue:
        """The framework's queue."""
        return self.sim.vqs[self.index]

    def __iter__(self) -> Iterator[Request]:
        while (request := self.pop()) is not None:
            yield request
            self.done(request)

    def pop(self) -> Request | None:
        """Take a request, None if there is none; it stays with the device until :meth:`done`."""
        try:
            chain = self.vq.vring.getdesc()
        except KernelError:
            hit("model.chain.broken")
            return None
        return Request(self, *chain) if chain is not None else None

    def done(self, request: Request) -> None:
        """Hand a request back, and interrupt the driver unless it asked for none."""
        self.sim.complete(self.vq.vring, request.head, request.written)
        self.sim.notify_if_wanted(self.vq)


class DeviceModel:
    """Base class of a device of your own; options of ``dev_add`` are arguments of the constructor.

    ``self.sim`` is the framework's device; it is there from ``start`` on.
    """

    name: ClassVar[str] = ""
    """How ``dev show`` calls it; the class's name unless given."""
    device_id: ClassVar[int] = 0
    queues: ClassVar[int] = 1
    queue_size: ClassVar[int] = 256
    features: ClassVar[int] = 0
    """Features beside VERSION_1 and ACCESS_PLATFORM, which are always offered."""
    config: ClassVar[bytes] = b""
    """The config space at the start."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Options of ``dev_add`` that the model takes, with their defaults; each becomes an attribute."""
    sim: VdpaSim

    def __init__(self, **options: Any) -> None:
        for name, default in self.options.items():
            setattr(self, name, options.get(name, default))

    def start(self) -> None:
        """The device has been made."""

    def handle_queue(self, queue: Queue) -> Steps | None:
        """Serve one queue: the only method a model must have."""
        raise NotImplementedError

    def get_config(self) -> None:
        """A driver reads the config space: bring ``self.sim.config`` up to date, if that is needed."""

    def set_config(self, offset: int, data: bytes) -> None:
        """A driver writes the config space; by default it is stored."""
        self.sim.config[offset : offset + len(data)] = data

    def reset(self) -> None:
        """The device was reset: at every open, at the last close, and when the driver says so."""

    def change_config(self, offset: int, data: bytes) -> None:
        """Change the config space from the device's side, with an interrupt."""
        self.sim.change_config(offset, data)

    def point(self, name: str) -> Point:
        """A place where somebody else may run, to be yielded by a ``handle_queue`` that is a generator."""
        return Point(f"{self.sim.name}.{name}")


@attrs.define(eq=False)
class ModelBehaviour:
    """A model as the framework's behaviour."""

    model: DeviceModel

    def get_config(self, sim: VdpaSim) -> None:
        """The model's hook."""
        self.model.get_config()

    def work(self, sim: VdpaSim) -> Steps:
        """Every ready queue, in order."""
        for index, vq in enumerate(sim.vqs):
            if not vq.ready:
                continue
            if sim.kernel.points:
                yield Point(f"{sim.name}.queue{index}")
            try:
                steps = self.model.handle_queue(Queue(sim, index))
                if isinstance(steps, Generator):
                    yield from steps
            except Exception as error:
                error.add_note(f"in the device model {type(self.model).__name__} of {sim.name}, queue {index}")
                raise


@attrs.define(eq=False)
class ModelSim(VdpaSim):
    """The framework's device with a model's other hooks."""

    def model(self) -> DeviceModel:
        """The model behind it."""
        assert isinstance(self.behaviour, ModelBehaviour)
        return self.behaviour.model

    def reset(self, *, clean_map: bool) -> None:
        super().reset(clean_map=clean_map)
        self.model().reset()

    def set_config(self, offset: int, data: bytes) -> None:
        self.model().set_config(offset, data)


def mgmtdev(model: type[DeviceModel], profile: DeviceProfile | None = None) -> MgmtDev:
    """What makes devices of a model; with a profile, what the device is comes from there.

    Raises:
        DeviceProfileError: the model's attributes make no device, or not that profile's.
    """
    attr = _own_attr(model) if profile is None else sim_attr(profile)
    if profile is not None and model.device_id and model.device_id != profile.device_id:
        raise DeviceProfileError(
            f"device_id: the profile's is {profile.device_id}, but {model.__name__} is a model of {model.device_id}"
        )
    config = model.config if profile is None else profile.config
    framework = frozenset({"max_iotlb_entries"} | (set() if profile else {"use_va", "batch_mapping", "advertise"}))

    def make(bus: VdpaBus, name: str, attributes: Attributes) -> VdpaDevice:
        given = {key: value for key, value in attributes.items() if key in model.options}
        instance = model(**given)
        sim = create(bus, name, attributes, attr, ModelBehaviour(instance), config, ModelSim)
        instance.sim = sim
        instance.start()
        return sim

    return MgmtDev(attr.kind, attr.device_id, frozenset({"device_features", *model.options}), framework, make)


def _own_attr(model: type[DeviceModel]) -> SimAttr:
    name = model.__name__
    if not model.device_id > 0:
        raise DeviceProfileError(f"{name}.device_id: say which virtio device it is, as linux/virtio_ids.h has them")
    if not 1 <= model.queues <= QUEUES_MAX:
        raise DeviceProfileError(f"{name}.queues: {model.queues} is not an integer from 1 to {QUEUES_MAX}")
    size = model.queue_size
    if not 1 <= size <= RING_MAX or size & (size - 1):
        raise DeviceProfileError(f"{name}.queue_size: {size} is not a power of two from 1 to {RING_MAX}")
    return SimAttr(
        kind=model.name or name.lower(),
        device_id=model.device_id,
        nvqs=model.queues,
        groups=(0,) * model.queues,
        nas=1,
        features=model.features | TRANSPORT,
        config_size=len(model.config),
        queue_size=size,
        config_interrupts=True,
    )
