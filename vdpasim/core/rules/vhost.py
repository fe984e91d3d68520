"""Rules of the generic vhost device (``drivers/vhost/vhost.c``): owner, ring ioctls, memory table, messages."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

_RING = "vhost.c:vhost_vring_ioctl()"
_NUM = "vhost.c:vhost_vring_set_num()"
_ADDR = "vhost.c:vhost_vring_set_addr()"
_MEM = "vhost.c:vhost_set_memory()"
_WRITE = "vhost.c:vhost_chr_write_iter()"
_READ = "vhost.c:vhost_chr_read_iter()"
_MSG = "vhost.c:vhost_process_iotlb_msg()"

register(
    [
        Rule("vhost.owner.busy", "vhost.c:vhost_dev_set_owner()", E.EBUSY, "the device has an owner, also if it is the caller"),
        Rule("vhost.owner.perm", "vhost.c:vhost_dev_check_owner()", E.EPERM, "the caller's address space did not do SET_OWNER",
             "the owner is an address space: a forked child or an exec'd image is not the owner"),
        Rule("vhost.ioctl.unknown", "vhost.c:vhost_vring_ioctl()", E.ENOIOCTLCMD, "no such request",
             "the whole 32-bit number is compared; user space sees ENOTTY"),
        Rule("vhost.fork.busy", "vhost.c:vhost_dev_ioctl()", E.EBUSY, "SET_FORK_FROM_OWNER after SET_OWNER", switches=("fork-owner",)),
        Rule("vhost.fork.value", "vhost.c:vhost_dev_ioctl()", E.EINVAL, "fork owner mode above 1", switches=("fork-owner",)),
        Rule("vhost.vring.index", _RING, E.ENOBUFS, "the queue index, the first 32 bits behind the argument, is not a queue of the device",
             "an unknown request number is looked at this way too"),
        Rule("vhost.vring.num-busy", _NUM, E.EBUSY, "SET_VRING_NUM while the queue has a backend", "before the pointer is looked at"),
        Rule("vhost.vring.num", _NUM, E.EINVAL, "the ring size is 0, above 65535 or not a power of two"),
        Rule("vhost.vring.base-busy", _RING, E.EBUSY, "SET_VRING_BASE while the queue has a backend", "before the pointer is looked at"),
        Rule("vhost.vring.base-range", _RING, E.EINVAL, "a split ring's base is above 65535"),
        Rule("vhost.vring.addr-flags", _ADDR, E.EOPNOTSUPP, "a flag other than VHOST_VRING_F_LOG"),
        Rule("vhost.vring.addr-range", _ADDR, E.EFAULT, "an address does not fit the kernel's unsigned long"),
        Rule("vhost.vring.addr-align", _ADDR, E.EINVAL, "avail not a multiple of 2, or used or log_guest_addr not a multiple of 4",
             "the log address is checked without the log flag too; the descriptor table is never checked"),
        Rule("vhost.vring.addr-access", _ADDR, E.EINVAL, "the queue has a backend and a ring area is outside the user half"),
        Rule("vhost.vring.addr-log", _ADDR, E.EINVAL, "the queue has a backend, the log flag is set and the log does not cover the ring"),
        Rule("vhost.vring.kick-saturated", "vhost.c:vhost_poll_start()", E.EINVAL, "the kick eventfd's counter is saturated",
             "it stays installed"),
        Rule("vhost.log.fault", "vhost.c:log_write()", E.EFAULT, "the bitmap of the dirty log is not there"),
        Rule("vhost.log.unknown-hva", "vhost.c:log_write_hva()", E.EFAULT, "a byte that was written is in no region of the memory table"),
        Rule("vhost.log.used-lost", "vhost.c:log_used()", 0, "a write into the used ring could not be logged, and nobody is told"),
        Rule("vhost.log.buffer-lost", "vhost.c:vhost_log_write()", 0, "a frame that was received could not be logged, and nobody is told"),
        Rule("vhost.log.range", "vhost.c:vhost_dev_ioctl()", E.EFAULT, "SET_LOG_BASE: the log of an active queue is outside the user half",
             "the loop goes on, other queues may have been changed"),
        Rule("vhost.mem.padding", _MEM, E.EOPNOTSUPP, "the padding word of struct vhost_memory is not zero"),
        Rule("vhost.mem.regions", _MEM, E.E2BIG, "more than 64 regions"),
        Rule("vhost.mem.region", _MEM, E.EFAULT, "a region wraps, or is empty and not at address 0"),
        Rule("vhost.mem.access", _MEM, E.EFAULT, "a queue has a backend and a region is outside the user half"),
        Rule("vhost.msg.type-short", _WRITE, E.EINVAL, "fewer than 4 bytes of type word could be read",
             "a bad pointer looks the same: EINVAL, not EFAULT"),
        Rule("vhost.msg.type", _WRITE, E.EINVAL, "the type word is neither VHOST_IOTLB_MSG nor VHOST_IOTLB_MSG_V2"),
        Rule("vhost.msg.short", _WRITE, E.EINVAL, "the message is shorter than its header and struct vhost_iotlb_msg",
             "40 bytes are enough on x86-64; the rest of the 72 is never looked at"),
        Rule("vhost.msg.update-size", _WRITE, E.EINVAL, "UPDATE with size 0"),
        Rule("vhost.msg.handler", _WRITE, E.EFAULT, "the handler refused, whatever its errno"),
        Rule("vhost.msg.asid-ignored", _WRITE, 0, "the asid word of a v2 message is not read: IOTLB_ASID is not acked"),
        Rule("vhost.msg.asid", _MSG, E.EINVAL, "an address space other than 0 on a generic vhost device"),
        Rule("vhost.msg.no-iotlb", _MSG, E.EFAULT, "the device IOTLB is not initialised"),
        Rule("vhost.msg.update-access", _MSG, E.EFAULT, "uaddr and size wrap, or are outside the user half",
             "with neither RO nor WO in perm only the wrap is checked"),
        Rule("vhost.msg.unknown", _MSG, E.EINVAL, "an IOTLB message type the device does not handle"),
        Rule("vhost.read.small", _READ, 0, "the buffer is smaller than struct vhost_msg: read() returns 0 and keeps the message"),
        Rule("vhost.read.again", _READ, E.EAGAIN, "no message and O_NONBLOCK"),
        Rule("vhost.read.no-iotlb", _READ, E.EBADFD, "no message, and no device IOTLB that could produce one"),
        Rule("vhost.read.lost", _READ, 0, "the buffer faulted: the message is lost and the bytes copied are returned"),
        Rule("vhost.miss.woken", "vhost.c:vhost_iotlb_notify_vq()", 0, "an UPDATE covers the address of a pending miss: its queue runs again"),
        Rule("vhost.miss.unread", "vhost.c:vhost_iotlb_notify_vq()", 0, "an UPDATE covers a miss nobody has read yet: nothing is woken"),
    ]
)
