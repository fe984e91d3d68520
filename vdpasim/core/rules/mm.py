"""Rules of memory management and limits as processes meet them (``mm/``, ``kernel/sys.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

register(
    [
        Rule("mm.mmap.invalid", "mmap.c:do_mmap()", E.EINVAL, "length 0, or an address or offset that is not page aligned"),
        Rule("mm.mmap.read-only-file", "mmap.c:do_mmap()", E.EACCES, "a writable shared mapping of a file opened read-only"),
        Rule("mm.mmap.no-room", "mmap.c:get_unmapped_area()", E.ENOMEM, "the range does not fit the user half"),
        Rule("mm.mmap.overflow", "mmap.c:do_mmap()", E.EOVERFLOW, "the mapping would reach beyond the largest file, 2^63-1 bytes"),
        Rule("mm.map-count", "mmap.c:do_mmap()", E.ENOMEM, "the process would have more than vm.max_map_count mappings"),
        Rule("mm.range.invalid", "mmap.c:do_munmap()", E.EINVAL, "unaligned; for munmap also length 0 or beyond the user half"),
        Rule("mm.mprotect.hole", "mprotect.c:do_mprotect_pkey()", E.ENOMEM, "part of the range is not mapped", "what lies below the hole is changed all the same"),
        Rule("mm.mprotect.access", "mprotect.c:do_mprotect_pkey()", E.EACCES, "PROT_WRITE for a shared mapping of a file opened read-only"),
        Rule("mm.mremap.invalid", "mremap.c:mremap_to()", E.EINVAL, "unaligned, new length 0, the new range overlaps the old or leaves the user half, or old length 0 of private memory"),
        Rule("mm.mremap.fault", "mremap.c:vma_to_resize()", E.EFAULT, "the old range is not inside one mapping"),
        Rule("mm.file.range", "read_write.c:ksys_pread64()", E.EINVAL, "a negative offset or size, or a hole without length"),
        Rule(
            "mm.unpin.not-pinned",
            "gup.c:unpin_user_page()",
            0,
            "a page is unpinned that was not pinned",
            "the reference taken away is somebody else's: the page may be freed under its user",
        ),
        Rule("rlimit.cap-unknown", "commoncap.c:cap_prctl_drop()", E.EINVAL, "there is no capability of that number"),
        Rule("rlimit.soft-above-hard", "sys.c:do_prlimit()", E.EINVAL, "the soft limit is above the hard one"),
        Rule("rlimit.raise-hard", "sys.c:do_prlimit()", E.EPERM, "raising the hard limit without CAP_SYS_RESOURCE"),
    ]
)
