"""The rules of ``net_peer`` and of its rings: what a device does where a driver breaks the standard; of no kernel.

Theory. As in ``core/rules``: a refusal is raised by id, the errno is the row's. A rule of a ring stops the queue that
met it, and nothing else; see ``net_peer.py``.
"""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

_ROWS = (
    ("packed.loop", "packed.py", E.ELOOP, "a chain of a packed ring is longer than the ring"),
    ("packed.order", "packed.py", E.EINVAL, "a readable descriptor of a packed ring behind a writable one"),
    ("packed.direction", "packed.py", E.EINVAL, "a descriptor of a direction the queue does not take"),
    ("packed.indirect.unknown", "packed.py", E.EINVAL, "an indirect table that was not negotiated"),
    ("packed.indirect.length", "packed.py", E.EINVAL, "an indirect table of no, too many or not whole descriptors"),
    ("packed.indirect.nested", "packed.py", E.EINVAL, "an indirect table in a chain or in another table"),
    ("packed.id", "packed.py", E.EINVAL, "the buffer id of a chain is that of one still in flight"),
    ("split.avail-idx", "split_event.py", E.EINVAL, "the avail index is more than a ring ahead of what was taken"),
    ("features.version-1", "peer_device.py", E.EINVAL, "features without VERSION_1"),
    ("features.ctrl-vq", "peer_device.py", E.EINVAL, "a feature of the control queue without CTRL_VQ"),
    ("enable.refused", "peer_device.py", 0, "a queue has no size or a base outside the ring: it stays disabled"),
    ("config.read-only", "peer_device.py", 0, "SET_CONFIG changes nothing"),
    ("link.deferred", "peer_device.py", 0, "the link changes under a suspended device: it is seen after RESUME"),
    ("rx.backlog", "peer_device.py", 0, "too many frames wait for RX buffers: the newest is lost"),
    ("rx.small", "net_peer.py", 0, "the next RX buffer is too small for the frame, which is lost; the buffer is not"),
    ("queue.error", "net_peer.py", 0, "a ring or a chain cannot be read: nothing is consumed, the queue stands"),
)
"""(id behind ``peer.``, file, errno, condition)."""

register(
    Rule("peer." + ident, "vdpasim: devices/" + file, errno, when, source="inferred")
    for ident, file, errno, when in _ROWS
)
