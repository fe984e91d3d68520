"""Flags of open, poll, lseek and eventfd (mirrors asm-generic/fcntl.h, asm-generic/poll.h and linux/eventfd.h).

Theory. CAP_IPC_LOCK of linux/capability.h is here too, the one capability drivers ask for. These are arguments of
system calls, which the simulated kernel sees as the numbers of the generic headers; x86, arm, riscv and s390 share
them.

Not modelled: the other numbers of powerpc, mips, sparc and alpha (O_DIRECTORY and friends).
"""

from __future__ import annotations

from vdpasim.uapi import mman

# open(2), fcntl(2)
O_ACCMODE = 0o3
O_RDONLY = 0o0
O_WRONLY = 0o1
O_RDWR = 0o2
O_CREAT = 0o100
O_EXCL = 0o200
O_TRUNC = 0o1000
O_APPEND = 0o2000
O_NONBLOCK = 0o4000
O_CLOEXEC = 0o2000000
FD_CLOEXEC = 1
F_DUPFD = 0
F_GETFD = 1
F_SETFD = 2
F_GETFL = 3
F_SETFL = 4
F_DUPFD_CLOEXEC = 1030

# mmap(2): drivers take these together with the flags of poll.
MAP_SHARED = mman.MAP_SHARED
MAP_PRIVATE = mman.MAP_PRIVATE
PROT_READ = mman.PROT_READ
PROT_WRITE = mman.PROT_WRITE
PROT_EXEC = mman.PROT_EXEC

# poll(2)
POLLIN = 0x0001
POLLPRI = 0x0002
POLLOUT = 0x0004
POLLERR = 0x0008
POLLHUP = 0x0010
POLLNVAL = 0x0020
POLLRDNORM = 0x0040
POLLRDBAND = 0x0080
POLLWRNORM = 0x0100
POLLWRBAND = 0x0200

# eventfd(2)
EFD_SEMAPHORE = 1
EFD_NONBLOCK = O_NONBLOCK
EFD_CLOEXEC = O_CLOEXEC

# lseek(2)
SEEK_SET = 0
SEEK_CUR = 1
SEEK_END = 2

# capability(7)
CAP_IPC_LOCK = 14
"""Exempt from RLIMIT_MEMLOCK."""
