"""``vmm.wrong-request``: a request number that is not the one that was meant.

Theory. The number of an ioctl has the direction and the size of its argument in it, so a header that says _IOW for
_IOR, or a structure of the wrong length, makes a number that no kernel knows. What it is answered with says nothing of
the sort: ENOTTY, EPERM, EFAULT or ENOBUFS, by what its first bytes happen to be. A known request that this kernel does
not have is no mistake: programs probe. Nor is one of another ABI that packs numbers the same way: a 32-bit program on a
64-bit kernel is no typing error, whatever becomes of it.

A number that is known may be wrong as well, and the kernel does what it says. Three things give it away:

* *driver*: it belongs to another driver than the file's. To ask there is probing; to set something is not;
* *size*: the buffer has room for more than the number says, and exactly as much as one other request of this driver and
  direction takes: GET_IOVA_RANGE's 16 bytes under GET_VRING_NUM. A buffer that is told to the device must have
  something in the rest. Requests of any length, and buffers in the memory of an attached program, are not measured;
* *address space*: the device is told to run, memory is mapped in an address space that no group was bound to, and a
  request that only answers was given that number: SET_GROUP_ASID under GET_VRING_GROUP's number.

What no event tells: two requests with the same structure, both granted, whose effect shows nowhere in the calls, such
as SET_VRING_BASE for SET_VRING_NUM. What comes of that is told by other oracles, if anything does.
"""

from __future__ import annotations

from typing import Any

import attrs

from vdpasim.checks.oracle import Oracle, drop
from vdpasim.uapi import abi as abis
from vdpasim.uapi.abi import X86_64, Abi
from vdpasim.uapi.catalog import by_request, near, requests
from vdpasim.uapi.ioctl import Direction, Ioctl, decode
from vdpasim.uapi.vhost_types import vhost_features_array, vhost_memory, vhost_vdpa_config, vhost_vring_state
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK

VHOST = 0xAF
ABIS = tuple(value for value in vars(abis).values() if isinstance(value, Abi))
DRIVERS = ("VHOST_VDPA_", "VHOST_NET_", "VHOST_SCSI_", "VHOST_VSOCK_")
"""How the names of requests begin that one driver has."""
ANY_LENGTH = (vhost_memory, vhost_vdpa_config, vhost_features_array)
"""Arguments with an array behind them."""


@attrs.frozen
class Asked:
    """A call that has begun."""

    request: int
    data: bytes | None
    """The argument as the call found it; None: it is not in the trace."""


@attrs.frozen
class Question:
    """A request that answers in the field in which it was given a value."""

    seq: int
    name: str
    index: int
    value: int


class VmmRequest(Oracle):
    """Told by the number, the buffer that comes with it, and what follows; on a kernel of an ABI."""

    def __init__(self, abi: Abi = X86_64) -> None:
        super().__init__()
        self.abi = abi
        self.abis = [one for one in ABIS if one.ioc == abi.ioc]
        self.called: dict[tuple[str, str], Asked] = {}
        self.questions: dict[str, list[Question]] = {}
        self.mapped: dict[tuple[str, int], int] = {}
        """(device, address space) -> when something was mapped there."""
        self.bound: set[tuple[str, int]] = set()

    def forget(self, device: str) -> None:
        self.questions.pop(device, None)
        drop(self.mapped, device)
        self.bound = {key for key in self.bound if key[0] != device}

    def on_enter(self, seq: int, op: str, file: str, args: tuple[Any, ...]) -> None:
        """A call begins."""
        if op == "ioctl" and args and isinstance(args[0], int) and file.startswith("/dev/vhost-"):
            data = next((bytes(getattr(arg, "before", arg.data)) for arg in args if hasattr(arg, "data")), None)
            self.called[self.unit, file] = Asked(args[0] & 0xFFFF_FFFF, data)

    def on_exit(self, seq: int, op: str, file: str, ret: int, handler_errno: int, rule: str | None) -> None:
        """It has its line in the trace now."""
        asked = self.called.pop((self.unit, file), None) if op == "ioctl" else None
        if asked is None or asked.request >> 8 & 0xFF != VHOST:
            return
        known = by_request(asked.request, self.abi)
        if known is not None:
            self._known(seq, file, asked, known, granted=ret >= 0)
        elif not any(by_request(asked.request, abi) for abi in self.abis):
            for meant in near(asked.request, self.abi)[:1]:
                text = f"{asked.request:#x} is no request; {meant.ioctl.name} is another: {meant.difference}"
                self._wrong(seq, file, asked.request, text)

    def on_map(self, seq: int, device: str, asid: int, *rest: object) -> None:
        """Memory for an address space."""
        self.mapped.setdefault((device, asid), seq)

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """Told to run: what is mapped is to be used."""
        if new & ~old & VIRTIO_CONFIG_S_DRIVER_OK:
            for asked in self.questions.get(device, ()):
                space = device, asked.value
                if space in self.mapped and space not in self.bound:
                    text = f"{asked.name} was given index {asked.index} and {asked.value}, which it does not look at; "
                    text += f"address space {asked.value} has memory and no group: SET_GROUP_ASID binds one"
                    steps = (asked.seq, self.mapped[space], seq)
                    self.tell("vmm.wrong-request", f"{device}: {text}", *steps, once=space, where={"device": device})

    def _known(self, seq: int, file: str, asked: Asked, known: Ioctl, *, granted: bool) -> None:
        mine = driver(file)
        theirs = next((name for name in DRIVERS if known.name.startswith(name)), mine)
        if theirs != mine and known.direction is not Direction.READ:
            self._wrong(seq, file, asked.request, f"{known.name} is a request of another driver")
        elif asked.data is not None:
            meant = self._by_size(known, asked.data, mine)
            if meant is not None:
                text = f"{known.name} with the {len(asked.data)} bytes that only {meant.name} takes"
                self._wrong(seq, file, asked.request, text)
            if granted:
                self._remember(seq, file.rpartition("/")[2], known, asked.data)

    def _by_size(self, known: Ioctl, data: bytes, mine: str) -> Ioctl | None:
        # the one other request of this driver and direction whose argument fills the buffer
        size = self._size(known)
        surplus = data[size:]
        if known.arg in ANY_LENGTH or not size or not surplus or (told(known) and not any(surplus)):
            return None
        fits = [
            one
            for one in requests().values()
            if self._size(one) == len(data) and one.direction is known.direction and belongs(one, mine)
        ]
        return fits[0] if len(fits) == 1 and fits[0].arg not in ANY_LENGTH else None

    def _remember(self, seq: int, device: str, known: Ioctl, data: bytes) -> None:
        if known.arg is not vhost_vring_state or len(data) < self._size(known):
            return
        index, value = (int.from_bytes(data[at : at + 4], self.abi.byteorder) for at in (0, 4))
        if known.name == "VHOST_VDPA_SET_GROUP_ASID":
            self.bound.add((device, value))
        elif value and known.direction is Direction.READ_WRITE:
            self.questions.setdefault(device, []).append(Question(seq, known.name, index, value))

    def _size(self, one: Ioctl) -> int:
        return decode(one.request(self.abi), self.abi).size

    def _wrong(self, seq: int, file: str, request: int, text: str) -> None:
        where = {"file": file, "request": hex(request)}
        self.tell("vmm.wrong-request", f"{file}: {text}", seq, once=(file, request), where=where)


def driver(file: str) -> str:
    """How the names of requests begin that only the driver of a file has."""
    return next((name for name in DRIVERS if file.startswith(f"/dev/{name.lower().replace('_', '-')[:-1]}")), "")


def belongs(one: Ioctl, mine: str) -> bool:
    """Whether a driver, or every one, has a request."""
    return one.type == VHOST and (one.name.startswith(mine) or not one.name.startswith(DRIVERS))


def told(one: Ioctl) -> bool:
    """Whether the argument goes to the device."""
    return Direction.WRITE in one.direction
