"""The facts of a run that diagnosis looks at: calls with their outcomes, map entries with their lives, who owns what.

Theory. One pass over the events. A call is its ENTER and its EXIT; what happened between the two in the same unit is
the call's. An entry lives from MAP to UNMAP and may be remapped on the way. A *handover* is an exec of a process that
uses the device, or the first request of another process that does more than ask; a *takeover* is a NEW_OWNER that was
granted. Events of a device below bear another name than those of its file; OPEN joins the two, and entries do by their
serials. The log of another program may have calls alone: what SUSPEND did is told by its event in a trace that has an
OPEN, and by its outcome elsewhere.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs

from vdpasim.checks.dma_place import Runs, taken_along
from vdpasim.checks.standard import standard
from vdpasim.core.events import Event, Kind, OpenCalls
from vdpasim.uapi.abi import X86_64, Abi
from vdpasim.uapi.catalog import by_request, requests
from vdpasim.uapi.message import Message, decode_message
from vdpasim.uapi.vhost_types import VHOST_BACKEND_F_IOTLB_REMAP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vdpasim.checks import Finding

DEVICE = "/dev/vhost-"
CLOSED = "fd:"
"""Before the number of a descriptor that is not open."""
OF_A_DEVICE = frozenset(
    {
        Kind.PUSH, Kind.STATUS, Kind.KICK, Kind.MISS, Kind.FAULT, Kind.SUSPEND, Kind.BATCH, Kind.IDLE, Kind.PIN,
        Kind.RING, Kind.QUIET,
    }
)  # fmt: skip
"""Events that name a device and are kept with it."""
REQUESTS = frozenset(name.removeprefix("VHOST_").removeprefix("VDPA_") for name in requests())
END = 1 << 62
"""Behind every sequence number."""
DRIVER_OK = 4
REMAP = 1 << VHOST_BACKEND_F_IOTLB_REMAP


@attrs.define(eq=False)
class Call:
    """One system call."""

    seq: int
    """Of its ENTER."""
    unit: str
    op: str
    file: str
    args: tuple[Any, ...]
    before: bytes
    """The first buffer, as the call found it."""
    data: bytes = b""
    """The same as the call left it."""
    end: int = END
    """Of its EXIT; what never returned ends behind everything."""
    ret: int = 0
    inside: int = 0
    """What the handler said, a positive errno."""
    rule: str = ""
    """Which check refused it."""
    name: str = ""
    """Of the request, without VHOST_ and VDPA_."""
    message: Message | None = None

    @property
    def ok(self) -> bool:
        """It was granted."""
        return self.ret >= 0 and self.end != END

    @property
    def refused(self) -> int:
        """The errno it was refused with, that of the handler if there is one; 0: it was not."""
        return (self.inside or -self.ret) if self.ret < 0 else 0

    def refusable(self, rule: str) -> bool:
        """Whether a rule is one about this request."""
        return self.name.partition("_")[0].lower() in rule

    def word(self, at: int, size: int = 4) -> int:
        """An integer of the argument, as the call found it."""
        return int.from_bytes(self.before[at : at + size], "little")

    @property
    def known(self) -> bool:
        """Whether it is a request to a vhost device, to whatever file it was made."""
        return bool(self.message) or (self.op == "ioctl" and self.name in REQUESTS)

    @property
    def last(self) -> int:
        """Of a message: the last address it names, beyond 2^64-1 if it wraps."""
        return self.message.iova + self.message.size - 1 if self.message else -1


@attrs.define(eq=False)
class Entry:
    """One entry of a table."""

    device: str
    asid: int
    serial: int
    start: int
    last: int
    addr: int
    promise: Runs
    made: int
    by: Call | None
    """The UPDATE that made it."""
    gone: int = END
    remaps: list[int] = attrs.Factory(list[int])

    def alive(self, seq: int) -> bool:
        """Whether it was there then."""
        return self.made <= seq < self.gone

    def remapped(self, first: int, last: int = END) -> bool:
        """Whether it was remapped between two events."""
        return any(first < seq < last for seq in self.remaps)

    def overlaps(self, call: Call) -> bool:
        """Whether a message names some of it."""
        return call.message is not None and self.start <= call.last and call.message.iova <= self.last

    def exactly(self, call: Call) -> bool:
        """Whether a message names it."""
        return call.message is not None and (self.start, self.last) == (call.message.iova, call.last)


@attrs.define(eq=False)
class Device:
    """What happened to one vhost file's device."""

    name: str
    calls: list[Call] = attrs.Factory(list[Call])
    entries: list[Entry] = attrs.Factory(list[Entry])
    pushes: list[tuple[int, int, int]] = attrs.Factory(list["tuple[int, int, int]"])
    """(seq, maps, errno)."""
    status: list[tuple[int, int, int]] = attrs.Factory(list["tuple[int, int, int]"])
    """(seq, old, new)."""
    owners: list[tuple[int, str]] = attrs.Factory(list["tuple[int, str]"])
    """(seq, address space)."""
    kicks: list[int] = attrs.Factory(list[int])
    misses: list[tuple[int, int]] = attrs.Factory(list["tuple[int, int]"])
    """(seq, iova)."""
    batch_ends: list[int] = attrs.Factory(list[int])
    """Where a batch was closed, by a BATCH_END that was refused too."""
    suspends: list[tuple[int, bool]] = attrs.Factory(list["tuple[int, bool]"])
    """(seq, suspended from here on)."""
    handovers: list[int] = attrs.Factory(list[int])
    idles: list[tuple[int, str]] = attrs.Factory(list["tuple[int, str]"])
    """(seq, why a kick was declined)."""
    pins: list[tuple[int, int]] = attrs.Factory(list["tuple[int, int]"])
    """(seq, pages), negative where they were given back."""
    released: list[int] = attrs.Factory(list[int])
    """Where its last descriptor went."""
    eventfds: list[tuple[int, int, str, str]] = attrs.Factory(list["tuple[int, int, str, str]"])
    """(seq, queue or -1, kick, call or config, name), as they were given."""
    user_rings: list[int] = attrs.Factory(list[int])
    """Where a ring was given by addresses of which some are mapped in the owner's address space."""
    unheard: list[tuple[int, int]] = attrs.Factory(list["tuple[int, int]"])
    """(seq, queue or -1): an interrupt was due, and the device had no eventfd for it."""

    @property
    def offers_remap(self) -> bool:
        """It said so, or nobody asked."""
        return not self.granted("GET_BACKEND_FEATURES") or self.offers(VHOST_BACKEND_F_IOTLB_REMAP)

    def offers(self, bit: int) -> bool:
        """It said so."""
        asked = self.granted("GET_BACKEND_FEATURES")
        return any(int.from_bytes(call.data[:8], "little") >> bit & 1 for call in asked)

    def named(self, *names: str) -> Iterator[Call]:
        """The requests of some names, in order."""
        return (call for call in self.calls if call.name in names)

    def granted(self, *names: str) -> list[Call]:
        """Those of them that were granted."""
        return [call for call in self.named(*names) if call.ok]

    @property
    def takeovers(self) -> list[Call]:
        """NEW_OWNERs that were granted."""
        return self.granted("NEW_OWNER")

    @property
    def runs(self) -> list[int]:
        """Where it began to run, or was to go on: DRIVER_OK, and RESUME."""
        started = [seq for seq, old, new in self.status if new & ~old & DRIVER_OK]
        return sorted([*started, *(call.end for call in self.granted("RESUME"))])

    def running(self, seq: int) -> bool:
        """DRIVER_OK is set and it is not suspended."""
        before = [new for at, _, new in self.status if at < seq]
        return bool(before and before[-1] & DRIVER_OK) and not self.suspended(seq)

    def suspended(self, seq: int) -> bool:
        """SUSPEND was the last word."""
        before = [state for at, state in self.suspends if at < seq]
        return bool(before and before[-1])

    def owner(self, seq: int) -> str:
        """The owner's address space then, empty if it has none."""
        before = [mm for at, mm in self.owners if at < seq]
        return before[-1] if before else ""

    def at(self, seq: int) -> list[Entry]:
        """The entries that were there then."""
        return [entry for entry in self.entries if entry.alive(seq)]

    def given(self, queue: int, what: str, seq: int) -> tuple[int, str]:
        """When an eventfd was given last, and which; empty if none was, or it was taken away."""
        known = [(at, name) for at, one, kind, name in self.eventfds if (one, kind) == (queue, what) and at < seq]
        return known[-1] if known else (0, "")

    def handed_over(self, first: int, last: int = END) -> bool:
        """Whether it changed hands between two events."""
        return any(first < seq < last for seq in self.handovers)

    def batch(self, seq: int) -> Call | None:
        """The BATCH_BEGIN that is open at some moment."""
        begun = [call for call in self.granted("BATCH_BEGIN") if call.end < seq]
        if not begun:
            return None
        closed = [call.end for call in self.granted("BATCH_END")] + self.batch_ends
        return None if any(begun[-1].end < end < seq for end in closed) else begun[-1]


@attrs.define
class Facts:
    """What :func:`gather` found."""

    devices: dict[str, Device] = attrs.Factory(dict[str, Device])
    opened: set[str] = attrs.Factory(set[str])
    """Devices of which the trace has the beginning."""
    others: list[Call] = attrs.Factory(list[Call])
    """Calls on what is no vhost device: eventfds, processes."""
    dmas: list[Event] = attrs.Factory(list[Event])
    signals: list[Event] = attrs.Factory(list[Event])
    findings: list[tuple[str, int]] = attrs.Factory(list["tuple[str, int]"])
    """(id, seq), of the oracles and of the story."""
    entries: dict[int, Entry] = attrs.Factory(dict[int, Entry])
    """By serial."""
    gone: dict[str, int] = attrs.Factory(dict[str, int])
    """Eventfd -> where its last descriptor went."""
    spaces: list[tuple[int, str, str]] = attrs.Factory(list["tuple[int, str, str]"])
    """(seq, process, the address space it has from here on)."""
    moves: list[tuple[int, str, str]] = attrs.Factory(list["tuple[int, str, str]"])
    """(seq, object, object): guest memory that moved from one to the other."""

    def found(self, *ids: str, after: int = 0) -> list[int]:
        """Where findings of some ids are."""
        return [seq for ident, seq in self.findings if ident in ids and seq > after]

    def space(self, unit: str, seq: int) -> str:
        """The address space of a process then, as far as it is known."""
        known = [mm for at, name, mm in self.spaces if name == unit and at < seq]
        return known[-1] if known else ""

    def pinned(self, device: Device) -> bool:
        """Whether a device works with physical addresses."""
        return self._goes_by(device, "pa")

    def by_file(self, device: Device) -> bool:
        """Whether a device maps the files behind its entries itself."""
        return self._goes_by(device, "file")

    def _goes_by(self, device: Device, target: str) -> bool:
        return any(dma[10] == target and self.of(dma) in device.entries for dma in self.dmas)

    def promise(self, entry: Entry, seq: int) -> tuple[Runs, list[int]]:
        """What an entry promises then, and where its memory had moved to another object."""
        runs, moved = entry.promise, list[int]()
        for at, old, new in self.moves:
            if entry.made < at < seq and any(name == old for name, _, _ in runs):
                runs = taken_along(runs, old, new)
                moved.append(at)
        return runs, moved

    def of(self, dma: Event) -> Entry | None:
        """The entry a DMA went by."""
        return self.entries.get(dma[9])


def gather(events: Iterable[Event], abi: Abi = X86_64) -> Facts:
    """The facts of a run, with what the standard oracles find in it."""
    reader = _Reader(abi)
    oracles = standard()
    for event in events:
        reader.event(event)
        for oracle in oracles:
            oracle.event(event)
    for oracle in oracles:
        oracle.finish()
    facts = reader.facts
    found: list[Finding] = [finding for oracle in oracles for finding in oracle.findings]
    facts.findings += [(finding.id, finding.seq) for finding in found]
    return facts


class _Reader:
    def __init__(self, abi: Abi) -> None:
        self.abi = abi
        self.facts = Facts()
        self.open = OpenCalls()
        self.closed: dict[tuple[str, str, str], Call] = {}
        """The last one of its kind that ended."""
        self.current: dict[str, Call] = {}
        self.users: dict[str, set[str]] = {}
        """Device -> processes that have used it, since its last exec."""
        self.files: dict[str, str] = {}
        """Device below -> its file."""
        self.handlers = {
            Kind.ENTER: self._enter,
            Kind.EXIT: self._exit,
            Kind.MAP: self._map,
            Kind.UNMAP: self._unmap,
            Kind.REMAP: self._remap,
            Kind.OWNER: self._owner,
            Kind.OPEN: self._opened,
            Kind.GONE: self._gone,
        }

    def event(self, event: Event) -> None:
        seq, kind = event[0], event[3]
        facts = self.facts
        handler = self.handlers.get(kind)
        if handler is not None:
            handler(event)
        elif kind == Kind.DMA:
            facts.dmas.append(event)
        elif kind == Kind.SIGNAL:
            facts.signals.append(event)
        elif kind == Kind.VIOLATION:
            facts.findings.append((event[4], seq))
        elif kind == Kind.MOVED:
            facts.moves.append((seq, event[4], event[5]))
        elif kind in OF_A_DEVICE:
            self._of_device(event, self._below(event))

    @staticmethod
    def _of_device(event: Event, device: Device) -> None:
        seq, kind = event[0], event[3]
        if kind == Kind.PUSH:
            device.pushes.append((seq, event[6], event[7]))
        elif kind == Kind.FAULT and event[5].startswith("set_map"):
            device.pushes.append((seq, 0, event[6] or -1))  # a push that failed, or was dropped
        elif kind == Kind.STATUS:
            device.status.append((seq, event[5], event[6]))
            if not event[6] or event[6] & ~event[5] & DRIVER_OK:
                device.suspends.append((seq, False))
        elif kind == Kind.SUSPEND:
            device.suspends.append((seq, bool(event[6])))
        elif kind == Kind.BATCH and not event[6]:
            device.batch_ends.append(event[0])
        elif kind == Kind.IDLE:
            device.idles.append((seq, event[6]))
        elif kind == Kind.RING:
            _of_ring(event, device)
        elif kind == Kind.QUIET and event[6] == "no-callback":
            device.unheard.append((seq, event[5]))
        elif kind == Kind.PIN:
            device.pins.append((seq, event[6]))
        elif kind == Kind.KICK:
            device.kicks.append(seq)
        elif kind == Kind.MISS:
            device.misses.append((seq, event[6]))

    def device(self, name: str) -> Device:
        return self.facts.devices.setdefault(name, Device(name))

    def _below(self, event: Event) -> Device:
        # the device an event names; what a call on /dev/vhost-net touches is vhost-net-0
        name: str = self.files.get(str(event[4])) or event[4]
        call = self.current.get(event[2])
        if name not in self.facts.devices and call is not None and call.end == END:
            above = call.file.removeprefix("/dev/")
            if name.startswith(above) and above in self.facts.devices:
                self.facts.devices[name] = self.facts.devices[above]
        return self.device(name)

    def _enter(self, event: Event) -> None:
        seq, _, unit, _, op, file, args = event
        before = next((bytes(getattr(arg, "before", arg.data)) for arg in args if hasattr(arg, "data")), b"")
        call = Call(seq, unit, op, file, args, before)
        call.name, call.message = self._meaning(call)
        self.open.enter(event, call)
        self.current[unit] = call
        if file.startswith(DEVICE):
            self._use(self.device(file.removeprefix("/dev/")), call)
        else:
            self.facts.others.append(call)

    def _use(self, device: Device, call: Call) -> None:
        users = self.users.setdefault(device.name, set())
        asks = call.op in ("open", "close", "poll") or call.name.startswith("GET_")
        if users and call.unit not in users and not asks:
            device.handovers.append(call.seq)
        if not users or not asks:
            users.add(call.unit)
        device.calls.append(call)

    def _opened(self, event: Event) -> None:
        self.files[event[5]] = event[4]
        self.facts.opened.add(event[4])

    def _gone(self, event: Event) -> None:
        what, name = event[4:]
        if what == "eventfd":
            self.facts.gone[name] = event[0]
        if what == "file" and name in self.facts.devices:
            self.users.pop(name, None)
            self.device(name).released.append(event[0])

    def _meaning(self, call: Call) -> tuple[str, Message | None]:
        if call.op == "ioctl" and call.args and isinstance(call.args[0], int):
            known = by_request(call.args[0] & 0xFFFF_FFFF, self.abi)
            name = known.name if known else f"{call.args[0]:#x}"
            return name.removeprefix("VHOST_").removeprefix("VDPA_"), None
        if call.op == "write" and call.file.startswith((DEVICE, CLOSED)):
            return self._decoded(call.before)
        return call.op, None

    def _decoded(self, data: bytes) -> tuple[str, Message | None]:
        try:
            message = decode_message(self.abi, data)
        except ValueError:
            return "write", None
        return MESSAGES.get(message.type, "write"), message

    def _exit(self, event: Event) -> None:
        seq, _, unit, _, op, file, ret, inside, rule = event
        call: Call | None = self.open.exit(event, partial(_refused_by, rule or ""))
        if call is None:
            return
        call = self._swapped(call, rule or "")
        call.end, call.ret, call.inside, call.rule = seq, ret, inside, rule or ""
        self.closed[unit, op, file] = call
        call.data = next((bytes(arg.data) for arg in call.args if hasattr(arg, "data")), b"")
        if op == "read" and call.ok and file.startswith(DEVICE):
            call.name, call.message = self._decoded(call.data)
        if op == "exec" and call.ok:
            self._exec(call)
        elif call.ok and call.name in ("SUSPEND", "RESUME") and not self.files:
            self.device(file.removeprefix("/dev/")).suspends.append((seq, call.name == "SUSPEND"))

    def _swapped(self, call: Call, rule: str) -> Call:
        # the other outcome may have come first, and was taken for this one's
        other = self.closed.get((call.unit, call.op, call.file))
        if rule and other and other.end > call.seq and other.refusable(rule) and not call.refusable(rule):
            call.end, call.ret, call.inside, call.rule = other.end, other.ret, other.inside, other.rule
            return other
        return call

    def _exec(self, call: Call) -> None:
        space = str(getattr(call.args[0], "ident", "")) if call.args else ""
        self.facts.spaces.append((call.end, call.unit, space))
        for name, users in self.users.items():
            if call.unit in users:
                self.device(name).handovers.append(call.end)

    def _map(self, event: Event) -> None:
        seq, _, unit, _, device, asid, serial, start, last, addr, _, promise = event
        by = self._update(unit, start, last)
        space = by.message.asid if asid < 0 and by and by.message else asid
        entry = Entry(device, space, serial, start, last, addr, promise, seq, by)
        self._below(event).entries.append(entry)
        self.facts.entries[serial] = entry

    def _update(self, unit: str, start: int, last: int) -> Call | None:
        # the UPDATE of a process that is under way there; its other threads may be in calls, too
        for call in self.open.rest():
            covers = call.message is not None and call.message.iova <= start and last <= call.last
            if (call.unit, call.op, call.name) == (unit, "write", "UPDATE") and covers:
                return cast("Call", call)
        return None

    def _unmap(self, event: Event) -> None:
        entry = self.facts.entries.get(event[6])
        if entry is not None:
            entry.gone = event[0]

    def _remap(self, event: Event) -> None:
        entry = self.facts.entries.get(event[6])
        if entry is not None:
            entry.remaps.append(event[0])
            entry.addr = event[10]

    def _owner(self, event: Event) -> None:
        device, new = self._below(event), event[6] or ""
        device.owners.append((event[0], new))
        if new:
            self.facts.spaces.append((event[0], event[2], new))


def _of_ring(event: Event, device: Device) -> None:
    seq, _, _, _, _, queue, what, value = event
    if what in ("kick", "call", "config"):
        device.eventfds.append((seq, queue, what, value or ""))
    elif what == "addr" and isinstance(value, tuple) and any(cast("tuple[int, ...]", value)[3:]):
        device.user_rings.append(seq)


MESSAGES = {1: "MISS", 2: "UPDATE", 3: "INVALIDATE", 4: "ACCESS_FAIL", 5: "BATCH_BEGIN", 6: "BATCH_END", 7: "REMAP"}


def _refused_by(rule: str, waiting: list[Call]) -> Call:
    # which of a process's calls of one kind on one file ends: threads that are in two of them have one name, so the
    # rule of a refusal decides
    return next((one for one in waiting if one.refusable(rule)), waiting[0])
