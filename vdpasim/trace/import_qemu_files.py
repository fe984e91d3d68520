"""Which file each line of a log of QEMU is about.

Theory. The lines name objects of QEMU by their addresses: a request the ``vhost_dev`` of a queue pair, a message the
``vhost_vdpa`` of it (up to 8.2) or what all pairs of a file share (9.0 on) together with the file's descriptor. Several
``vhost_dev`` are one file: a NIC has one for each pair of queues and one for the control queue. What joins them:

* ``init`` names an object, its ``vhost_vdpa``, and (9.0 on) what its file shares;
* messages with one descriptor are of one file;
* up to 8.2: only the first object of a file takes the device (status ACKNOWLEDGE, SET_OWNER), and those of one NIC are
  made one behind the other, so an object that is made and takes nothing is of the file before it;
* in a log that begins later: the only file of its process is meant. That is a guess, and said aloud.

Where this does not suffice, an object is a device of its own, and that is said, too. An address or a descriptor may
come again for another device: a file whose objects have all been cleaned up is over, and whatever is made then is not
of it. (Its last unmaps come behind the cleanup.) Lines bear the number of a thread; threads that name one object are
one process, whose name is that of the thread that was seen first.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vdpasim.trace.import_qemu_lines import Line

ACKNOWLEDGE = 1
BEGINS = frozenset({"init", "set_owner"})
"""What a log has first of a file that it has from the beginning."""
STARTS = frozenset({"dev_start", "init", "set_features", "set_vring_addr", "set_vring_num"})
"""Events before which the first object of a file has taken the device."""
MESSAGES = frozenset({"dma_batch_end", "dma_map", "dma_unmap", "listener_begin_batch", "listener_commit"}) | {
    "map_batch_begin"
}
NEEDED = {"dma_map": {"iova", "size", "uaddr", "perm", "msg_type"}, "dma_unmap": {"iova", "size", "msg_type"}}


@attrs.define(eq=False)
class File:
    """One descriptor of a vhost-vdpa device, as far as it is known."""

    process: str
    first: int
    """The number of its first line,"""
    begun: bool
    """and whether that is the beginning."""
    pointer: int = 0
    """The first object it was named by; 0: no line has one."""
    fd: int | None = None
    life: int = 1
    """The descriptor's number was that of so many files."""
    devs: list[int] = attrs.Factory(list[int])
    cleaned: set[int] = attrs.Factory(set[int])
    made: bool = False
    """The log has an ``init`` of it."""
    mapped: bool = False
    guessed: list[int] = attrs.Factory(list[int])
    """Objects that no line says are of it."""
    name: str = ""
    whole: bool = False
    """The log has everything that was asked of it: what is not there was not asked for."""
    into: File | None = None
    """It turned out to be this one."""

    @property
    def over(self) -> bool:
        """Its objects have been cleaned up."""
        return bool(self.devs) and self.cleaned.issuperset(self.devs)

    def saw(self, dev: int) -> None:
        """A request of an object of it."""
        if dev not in self.devs:
            self.devs.append(dev)


class Files:
    """The files of a log, and what is to be said of them."""

    def __init__(self, lines: Sequence[Line], *, torn: bool = False) -> None:
        self.process = processes(lines)
        self.user: dict[str, list[tuple[int, int]]] = {}
        """Process -> what of its memory was ever mapped, [start, end)."""
        self.notes: list[str] = []
        self._torn = torn
        """Messages are missing, of nobody knows whom."""
        self._objects: dict[tuple[str, int], File] = {}
        self._fds: dict[tuple[str, int], File] = {}
        self._taken: dict[str, File] = {}
        """Process -> the file whose first object was made last."""
        self._new: dict[str, File] = {}
        """Process -> what was made last, and may be of the file before it."""
        self._of = [self._line(number, line) for number, line in enumerate(lines)]
        for process in list(self._new):
            self._settle(process)
        self._guess()
        self._finish()

    def of(self, number: int) -> File:
        """The file of a line."""
        return _last(self._of[number])

    def inside(self, process: str, addresses: Iterable[int]) -> int:
        """How many addresses are of memory that the process mapped for a device, at any time."""
        ranges = self.user.get(process, ())
        return sum(any(start <= one < end for start, end in ranges) for one in addresses)

    def _line(self, number: int, line: Line) -> File:
        process = self.process[line.pid]
        if line.name in STARTS:
            self._settle(process)
        if line.name == "init":
            return self._made(process, number, line)
        file = self._named(process, number, line)
        dev = line.values.get("dev")
        if dev is not None:
            file.saw(dev)
            if line.name == "cleanup":
                file.cleaned.add(dev)
        if file is self._new.get(process) and _takes(line):
            self._taken[process] = self._new.pop(process)
        if line.name in MESSAGES:
            self._message(process, file, line)
        return file

    def _named(self, process: str, number: int, line: Line) -> File:
        for pointer in line.pointers().values():
            if (process, pointer) in self._objects:
                return _last(self._objects[process, pointer])
        fresh = File(process, number, line.name in BEGINS, next(iter(line.pointers().values()), 0))
        self._objects.update(((process, pointer), fresh) for pointer in line.pointers().values())
        return fresh

    def _made(self, process: str, number: int, line: Line) -> File:
        file = File(process, number, begun=True, pointer=line.values.get("dev", 0), made=True)
        file.saw(file.pointer)
        for key, pointer in line.pointers().items():
            there = self._objects.get((process, pointer))
            if key == "shared" and there is not None and not _last(there).over:
                file = _join(_last(there), file)
        self._objects.update(((process, pointer), file) for pointer in line.pointers().values())
        if "shared" not in line.values:
            self._new[process] = file
        return file

    def _settle(self, process: str) -> None:
        new, before = self._new.pop(process, None), self._taken.get(process)
        if new is not None and before is not None and not _last(before).over:
            _join(_last(before), _last(new))

    def _message(self, process: str, file: File, line: Line) -> None:
        if not NEEDED.get(line.name, set()) <= line.values.keys():
            self._torn = True
        elif line.name == "dma_map":
            file.mapped = True
            self.user.setdefault(process, []).append((line["uaddr"], line["uaddr"] + line["size"]))
        if "fd" not in line.values:
            return
        key = process, line["fd"]
        known = _last(self._fds[key]) if key in self._fds else None
        if known is not None and known is not file and not file.over:
            if known.over:
                file.life = known.life + 1
            else:
                file = _join(known, file)
        if known is None or not file.over:
            file.fd = line["fd"]
            self._fds[key] = file

    def _files(self) -> list[File]:
        files = {id(file): file for file in map(_last, self._of)}
        return sorted(files.values(), key=lambda file: file.first)

    def _guess(self) -> None:
        for process in dict.fromkeys(self.process.values()):
            files = [file for file in self._files() if file.process == process]
            told = [file for file in files if file.fd is not None]
            rest = [file for file in files if file.fd is None and file.pointer]
            if len(told) == 1:
                alone = len(rest) == 1 and not told[0].devs
                for file in rest:
                    if alone or not file.made:
                        guessed = list(file.devs)
                        _join(told[0], file)
                        _last(told[0]).guessed += guessed
            elif told and rest and any(not file.devs for file in told):
                fds = ", ".join(str(file.fd) for file in told if not file.devs)
                objects = ", ".join(f"{dev:#x}" for file in rest for dev in file.devs) or "other objects"
                self.notes.append(f"the messages of fd {fds} and the requests of {objects} may be of one device")

    def _finish(self) -> None:
        several = len({file.process for file in self._files() if file.devs or file.fd is not None}) > 1
        names = Counter[str]()
        for file in self._files():
            whose = f"{file.process or 'qemu'}-" if several else ""
            again = f".{file.life}" if file.life > 1 else ""
            place = f"{file.pointer:#x}" if file.fd is None else f"fd{file.fd}{again}"
            name = f"vhost-vdpa-{whose}{place}"
            names[name] += 1
            file.name = name if names[name] == 1 else f"{name}.{names[name]}"
            file.whole = file.begun and file.mapped and not self._torn
            if file.guessed:
                objects = ", ".join(f"{dev:#x}" for dev in file.guessed)
                self.notes.append(f"{file.name} is taken for the file of {objects}, for there is no other")
        if self._torn:
            self.notes.append("messages are missing: what was mapped is unknown")
        for file in self._files():
            if file.mapped and file.devs and not file.begun:
                self.notes.append(f"{file.name} is older than the log: what was mapped before is unknown")


def processes(lines: Iterable[Line]) -> dict[str, str]:
    """Thread -> its process."""
    whose: dict[str, str] = {}
    seen: dict[int, str] = {}
    for line in lines:
        whose.setdefault(line.pid, line.pid)
        for pointer in line.pointers().values():
            one, other = whose[seen.setdefault(pointer, line.pid)], whose[line.pid]
            if one != other:
                whose.update((thread, one) for thread, process in list(whose.items()) if process == other)
    named = {process for process in whose.values() if process}
    if "" in whose and len(named) == 1:
        whose[""] = named.pop()  # a line that was cut into
    return whose


def _takes(line: Line) -> bool:
    return line.name == "set_owner" or (line.name == "add_status" and bool(line.values.get("status", 0) & ACKNOWLEDGE))


def _last(file: File) -> File:
    while file.into is not None:
        file = file.into
    return file


def _join(one: File, other: File) -> File:
    """Two that turned out to be one."""
    if one is other:
        return one
    if other.first < one.first:
        one.first, one.begun = other.first, other.begun
    for dev in other.devs:
        one.saw(dev)
    one.cleaned |= other.cleaned
    one.guessed += other.guessed
    one.made, one.mapped = one.made or other.made, one.mapped or other.mapped
    one.fd, one.life = (other.fd if one.fd is None else one.fd), max(one.life, other.life)
    other.into = one
    return one
