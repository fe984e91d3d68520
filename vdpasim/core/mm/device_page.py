"""A page of a device in a process: a store to it is an event for the device, not memory (mirrors vhost_vdpa_fault() of
drivers/vhost/vdpa.c and remap_pfn_range()).

Theory. A driver's mmap gives a VMA with VM_IO and VM_PFNMAP: nothing behind it can be pinned, no entry of a map of user
addresses is made of it, and nobody may keep its bytes. Here it is a memory object with one page whose ``write`` calls
the device. What a load from it gives depends on the hardware; here it is zeroes, and the drivers that use this refuse
PROT_READ anyway. The device file is held as long as any VMA of the page is left.

Not modelled: the size and alignment of a store, which hardware may care about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.mm.memory import Folio, Memory
from vdpasim.core.ports import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.core.mm.memory import PhysicalMemory


class _Registers(Folio):
    # nothing is stored, so there is no view of its bytes either
    def __init__(self, owner: str, store: Callable[[], None]) -> None:
        super().__init__(pfn=0, npages=1, owner=owner, offset=0)
        self.store = store

    def view(self, at: int, *, write: bool) -> tuple[bytearray, int] | None:
        return None

    def write(self, at: int, data: bytes | bytearray | memoryview) -> None:
        self.store()


class DevicePage(Memory):
    """One page of a device; ``store`` is called at each store, ``gone`` when the last mapping has gone."""

    special = True

    def __init__(self, name: str, phys: PhysicalMemory, store: Callable[[], None], gone: Callable[[], None]) -> None:
        super().__init__(name, PAGE_SIZE, phys)
        self.refs = 0
        self.gone = gone
        self._registers = _Registers(name, store)

    def put(self) -> None:
        super().put()
        if not self.refs:
            self.gone()

    def page(self, index: int) -> tuple[Folio, int] | None:
        return (self._registers, 0) if index == 0 else None
