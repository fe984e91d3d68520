"""One mapping, and what makes two of them one (mirrors struct vm_area_struct and vma_merge() of mm/vma.c).

Theory. A VMA is an inclusive range with a protection and what lies behind it: a memory object at an offset, or nothing
for private anonymous memory. Private pages, the copies of a file's pages and anonymous ones alike, live beside it in a
:class:`~vdpasim.core.mm.memory.Memory` of its own, by virtual page number, so cutting and joining mappings moves no
page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.core.ports import VmaView
from vdpasim.uapi.mman import PROT_EXEC, PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from vdpasim.core.mm.memory import Memory

READABLE = PROT_READ | PROT_WRITE | PROT_EXEC
"""Any of these lets a load through, as on x86."""


@attrs.define(eq=False)
class Vma:
    """A mapping of ``[start, last]``."""

    start: int
    last: int
    prot: int
    shared: bool
    """MAP_SHARED."""
    file_writable: bool
    """The file was open for writing; a shared mapping without it is not VM_SHARED."""
    obj: Memory | None
    """The object behind it, None for private anonymous memory."""
    offset: int
    """Offset of ``start`` in the object, in bytes."""

    @property
    def readable(self) -> bool:
        """A load from it does not fault."""
        return bool(self.prot & READABLE)

    @property
    def writable(self) -> bool:
        """A store to it does not fault."""
        return bool(self.prot & PROT_WRITE)

    def view(self) -> VmaView:
        """As drivers look at it."""
        special = self.obj is not None and self.obj.special
        return VmaView(self.start, self.last, self.shared and self.file_writable, self.obj, self.offset, special)

    def part(self, start: int, last: int) -> Vma:
        """The piece inside ``[start, last]``."""
        first = max(self.start, start)
        return attrs.evolve(
            self, start=first, last=min(self.last, last), offset=self.offset + first - self.start
        )

    def joins(self, after: Vma) -> bool:
        """Whether the mapping that follows can be one with this."""
        return (
            self.last + 1 == after.start
            and self.obj is after.obj
            and (self.prot, self.shared, self.file_writable) == (after.prot, after.shared, after.file_writable)
            and (self.obj is None or self.offset + after.start - self.start == after.offset)
        )
