"""Rules of memory management and limits as processes meet them (``mm/``, ``kernel/sys.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

register(
    [
        Rule("mm.mmap.invalid", "mmap.c:do_mmap()", E.EINVAL, "length 0, or an address or offset that is not page aligned"),
        Rule("mm.mmap.read-only-file", "mmap.c:do_mmap()", E.EACCES, "a writable shared mapping of a file opened read-only"),
        Rule("mm.mmap.no-room", "mmap.c:get_unmapped_area()", E.ENOMEM, "the range does not fit the user half"),
        Rule("mm.range.invalid", "mmap.c:do_munmap()", E.EINVAL, "length 0, unaligned, or beyond the user half"),
        Rule("mm.mprotect.hole", "mprotect.c:do_mprotect_pkey()", E.ENOMEM, "part of the range is not mapped"),
        Rule("mm.mprotect.access", "mprotect.c:do_mprotect_pkey()", E.EACCES, "PROT_WRITE for a shared mapping of a file opened read-only"),
        Rule("mm.mremap.invalid", "mremap.c:mremap_to()", E.EINVAL, "unaligned, length 0, or old and new range overlap"),
        Rule("mm.mremap.fault", "mremap.c:vma_to_resize()", E.EFAULT, "the old range is not inside one mapping"),
        Rule("rlimit.soft-above-hard", "sys.c:do_prlimit()", E.EINVAL, "the soft limit is above the hard one"),
        Rule("rlimit.raise-hard", "sys.c:do_prlimit()", E.EPERM, "raising the hard limit without CAP_SYS_RESOURCE"),
    ]
)
