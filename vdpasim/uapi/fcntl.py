"""Flags of open and poll (mirrors asm-generic/fcntl.h and asm-generic/poll.h).

Theory. These are arguments of system calls, which the simulated kernel sees as the numbers of the generic headers;
x86, arm, riscv and s390 share them.

Not modelled: the other numbers of powerpc, mips, sparc and alpha.
"""

from __future__ import annotations

# open(2)
O_ACCMODE = 0o3
O_RDONLY = 0o0
O_WRONLY = 0o1
O_RDWR = 0o2
O_NONBLOCK = 0o4000
O_CLOEXEC = 0o2000000

# poll(2)
POLLIN = 0x0001
POLLOUT = 0x0004
POLLERR = 0x0008
POLLHUP = 0x0010
POLLNVAL = 0x0020
POLLRDNORM = 0x0040
POLLWRNORM = 0x0100
