"""Long-term pins (mirrors pin_user_pages() and FOLL_LONGTERM of mm/gup.c).

Theory. A pin faults the page in and holds its frame. For a long-term pin the frame must be the one the process goes on
using, so a page shared with a file or not yet copied is given to the process first, for reading too. Adjacent frames
come back as one run. A page that cannot be pinned ends the pin; what came before stays pinned and is the caller's to
release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.ports import PAGE_SIZE, Fault, Run
from vdpasim.uapi.mman import PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from vdpasim.core.mm.memory import Folio
    from vdpasim.core.mm.mm import AddressSpace


def pin_user_pages(mm: AddressSpace, addr: int, npages: int, *, write: bool) -> list[Run]:
    """Pin pages from ``addr``; see :meth:`vdpasim.core.ports.Mm.pin`.

    Raises:
        Fault: the first page cannot be pinned.
    """
    runs: list[Run] = []
    for i in range(npages):
        found = _page(mm, addr + i * PAGE_SIZE, write)
        if found is None:
            if i == 0:
                raise Fault
            break
        folio, page = found
        folio.pins += 1
        mm.phys.pinned += 1
        paddr = folio.paddr + page * PAGE_SIZE
        before = runs[-1] if runs else None
        if before is not None and before.paddr + before.npages * PAGE_SIZE == paddr:
            runs[-1] = Run(before.paddr, before.npages + 1)
        else:
            runs.append(Run(paddr, 1))
    return runs


def _page(mm: AddressSpace, addr: int, write: bool) -> tuple[Folio, int] | None:
    vma = mm.vma_at(addr)
    if vma is None or not vma.prot & (PROT_WRITE if write else PROT_READ):
        return None
    if vma.obj is not None and vma.obj.special:
        return None
    return mm.page(vma, addr, write=not vma.shared)
