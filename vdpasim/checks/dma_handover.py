"""``dma.after-handover`` and ``uaf.old-mm``: the device works in memory that is not its owner's any more.

Theory. OWNER says whose the device is, SPACE in which address space a queue's accesses are resolved. After a handover
the two must be the same: a device that goes on in the old owner's is *after handover*, and if that address space is
gone as well its memory is used after it was freed. Nor may a device work for an owner that is gone: between the exec
of the old program and NEW_OWNER of the new one nobody answers for what it touches, even if the pages are pinned.
A worker in the middle of a request holds the address space, so that it goes on being there; the program is gone for all
that. Which program an address space is follows from who became owner by it: exec and exit of that process end it.

vhost-net is left out: its worker holds the owner's address space itself.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle

LEAVING = frozenset({"exec", "exit"})


class DmaHandover(Oracle):
    """Compares the owner with the address space that is worked in."""

    def __init__(self) -> None:
        super().__init__()
        self.owners: dict[str, tuple[int, str]] = {}
        self.spaces: dict[tuple[str, int], tuple[int, str | None]] = {}
        self.programs: dict[str, str] = {}
        """Process -> the address space by which it became an owner."""
        self.left: dict[str, int] = {}
        """Address space -> when its process went on without it."""

    def on_owner(self, seq: int, device: str, old: str | None, new: str | None) -> None:
        """The device is somebody else's."""
        self.owners.pop(device, None)
        if new is not None:
            self.owners[device] = seq, new
            self.programs[self.unit] = new

    def on_exit(self, seq: int, op: str, file: str, ret: int, handler_errno: int, rule: str | None) -> None:
        """The program of an owner is another now, or none."""
        if op in LEAVING and ret >= 0 and self.unit in self.programs:
            self.left[self.programs.pop(self.unit)] = seq

    def on_space(self, seq: int, device: str, queue: int, mm: str | None) -> None:
        """A queue works in another address space."""
        self.spaces[self.file(device), queue] = seq, mm

    def forget(self, device: str) -> None:
        self.owners.pop(device, None)

    def on_dma(self, seq: int, device: str, queue: int, iova: int, length: int, *rest: object) -> None:
        """Whose memory is it?"""
        name = self.file(device)
        if name not in self.owners or self.families.get(name) == "vhost-net":
            return
        since, owner = self.owners[name]
        told, mm = self.spaces.get((name, queue), (0, None))
        where = {"device": device, "queue": queue, "iova": hex(iova), "owner": owner, "address space": mm or "physical"}
        what = f"{device} queue {queue}: {length} bytes at iova {iova:#x}"
        over = self.gone.get(("mm", owner)) or self.left.get(owner)
        steps = (since, told, self.gone.get(("mm", mm or "")), over, seq)
        if mm is not None and mm != owner:
            ident = "uaf.old-mm" if ("mm", mm) in self.gone else "dma.after-handover"
            state = "which is gone" if ident == "uaf.old-mm" else "the owner before"
            text = f"{what} in the memory of {mm}, {state}; the device is {owner}'s"
            self.tell(ident, text, *steps, once=name, where=where)
        elif over:
            self.tell("dma.after-handover", f"{what} for {owner}, which is gone", *steps, once=name, where=where)
