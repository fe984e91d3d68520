"""Flags of mmap and mprotect (mirrors asm-generic/mman.h and mman-common.h).

Not modelled: the other numbers of mips, alpha, parisc and xtensa.
"""

from __future__ import annotations

PROT_NONE = 0
PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4

MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
MAP_POPULATE = 0x8000
