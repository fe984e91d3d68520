"""A QEMU that writes trace events: what it logs as it boots, stops, goes on, migrates and unplugs a NIC.

The order of the lines and their formats are those of three versions: 7.2; 8.2, which suspends before it asks where the
queues are, and enables them behind DRIVER_OK; 9.2, where messages name what the queue pairs share.
"""

from __future__ import annotations

from itertools import count

import attrs

UADDR = 0x7F00_0000_0000
RAM = 0x8000_0000
VERSIONS = ("7.2", "8.2", "9.2")
_EVENTFDS = count(30)


@attrs.define
class Nic:
    """A NIC of so many queue pairs, and perhaps a control queue; its lines gather in ``log``."""

    version: str = "9.2"
    fd: int = 12
    at: int = 0x55D0_0000
    pairs: int = 1
    cvq: bool = False
    ring: int = 0x10_0000
    """Where the driver puts its first ring."""
    ids: dict[int, int] = attrs.Factory(dict[int, int])
    """Queue -> where it is to go on."""
    shadow: frozenset[int] = frozenset()
    """Queues that QEMU carries itself."""
    log: list[str] = attrs.Factory(list[str])

    @property
    def objects(self) -> list[tuple[int, int, list[int]]]:
        """(vhost_dev, vhost_vdpa, its queues)."""
        sizes = [2] * self.pairs + [1] * self.cvq
        return [
            (self.at + 0x100 * number, self.at + 0x100 * number + 0x80, list(range(2 * number, 2 * number + size)))
            for number, size in enumerate(sizes)
        ]

    @property
    def new(self) -> bool:
        """What pairs share is an object of its own."""
        return self.version >= "9"

    def say(self, event: str, obj: int = -1, rest: str = "") -> None:
        """A line about one of the objects, by default the last."""
        self.log.append(f"vhost_vdpa_{event} dev: {self.objects[obj][0]:#x}{' ' + rest if rest else ''}")

    def message(self, event: str, rest: str) -> None:
        """A line about the file."""
        where = f"vdpa_shared:{self.at + 0xF00:#x}" if self.new else f"vdpa:{self.objects[-1][1]:#x}"
        self.log.append(f"vhost_vdpa_{event} {where} fd: {self.fd} msg_type: 2 {rest}")

    def boot(self) -> Nic:
        """The netdev is made."""
        for number, (dev, vdpa, queues) in enumerate(self.objects):
            shared = f", common dev: {self.at + 0xF00:#x}" if self.new else ""
            self.log.append(f"vhost_vdpa_init dev: {dev:#x}{shared} vdpa: {vdpa:#x}")
            if number == 0:
                self.say("add_status", 0, "status: 0x3")
                self.say("set_owner", 0)
            self.say("get_features", number, "features: 0x300830028")
            self.say("memslots_limit", number, "= 0x7fffffff")
            for queue in queues:
                self.say("set_vring_call", number, f"index: {queue} fd: -1")
        return self

    def start(self) -> Nic:
        """The guest's driver says DRIVER_OK, or the machine goes on."""
        self.say("set_features", 0, "features: 0x300830020")
        self.say("add_status", 0, "status: 0x8")
        if self.new and self.shadow:
            self.log.append(f"vhost_vdpa_set_address_space_id vhost_vdpa: {self.objects[-1][1]:#x} vq_group: 1 asid: 1")
        for number, (_, _, queues) in enumerate(self.objects):
            for queue in queues:
                self._queue(number, queue)
            self.say("dev_start", number, "started: 1")
            for queue in queues:
                if queue in self.shadow:
                    self._shadow(number, queue)
            if self.version < "8":
                self.say("set_vring_ready", number)
        self.map()
        self.say("add_status", rest="status: 0x4")
        for number, (_, _, queues) in enumerate(self.objects):
            for queue in queues if self.version >= "8" else []:
                rest = f"idx: {queue}, enable: 1, r: 0" if self.new else f"idx: {queue}, r: 0"
                self.log.append(
                    f"vhost_vdpa_set_vring_{'enable_one' if self.new else 'ready'} dev: "
                    f"{self.objects[number][0]:#x}, {rest}"
                )
        return self

    def _queue(self, number: int, queue: int) -> None:
        self.say("set_vring_num", number, f"index: {queue} num: 256")
        if queue in self.shadow:
            return
        self.base(number, queue, self.ids.get(queue, 0), svq=0)
        desc = self.ring + 0x4000 * queue
        self.addr(number, queue, desc)
        self.say("set_vring_kick", number, f"index: {queue} fd: {next(_EVENTFDS)}")
        self.say("set_vring_call", number, f"index: {queue} fd: {next(_EVENTFDS)}")

    def addr(self, number: int, queue: int, desc: int) -> None:
        """SET_VRING_ADDR."""
        rest = f"desc_user_addr: {desc:#x} used_user_addr: {desc + 0x2000:#x} avail_user_addr: {desc + 0x1000:#x}"
        self.say("set_vring_addr", number, f"index: {queue} flags: 0x0 {rest} log_guest_addr: 0x0")

    def base(self, number: int, queue: int, num: int, svq: int) -> None:
        """SET_VRING_BASE."""
        event, more = ("set_dev_vring_base", f" svq: {svq}") if self.new else ("set_vring_base", "")
        self.say(event, number, f"index: {queue} num: {num}{more}")

    def _shadow(self, number: int, queue: int) -> None:
        self.base(number, queue, 0, svq=1)
        self.say("set_vring_kick", number, f"index: {queue} fd: {next(_EVENTFDS)}")
        self.say("set_vring_call", number, f"index: {queue} fd: {next(_EVENTFDS)}")
        iova = 0x40_0000_0000 + 0x4000 * queue
        self.update(iova, 0x2000, UADDR + 0x10_0000_0000 + iova, 1, asid=1)
        self.update(iova + 0x2000, 0x1000, UADDR + 0x10_0000_2000 + iova, 3, asid=1)
        self.addr(number, queue, iova)

    def update(self, iova: int, size: int, uaddr: int, perm: int, asid: int = 0) -> None:
        """UPDATE."""
        space = f"asid: {asid} " if self.version >= "8" else ""
        where = f"iova: {iova:#x} size: {size:#x} uaddr: {uaddr:#x} perm: {perm:#x}"
        self.message("dma_map", f"{space}{where} type: 2")

    def invalidate(self, iova: int, size: int, asid: int = 0) -> None:
        """INVALIDATE."""
        space = f"asid: {asid} " if self.version >= "8" else ""
        self.message("dma_unmap", f"{space}iova: {iova:#x} size: {size:#x} type: 3")

    def map(self) -> None:
        """All of guest memory."""
        self.message("listener_begin_batch", "type: 5")
        self.update(0, 0xA_0000, UADDR, 3)
        self.update(0xC_0000, RAM - 0xC_0000, UADDR + 0xC_0000, 3)
        self.message("listener_commit", "type: 6")

    def unmap(self) -> None:
        """It is taken away again."""
        self.message("listener_begin_batch", "type: 5")
        self.invalidate(0, 0xA_0000)
        self.invalidate(0xC_0000, RAM - 0xC_0000)
        self.message("listener_commit", "type: 6")

    def stop(self, **ids: int) -> Nic:
        """The machine stops; what the queues came to, ``q0=17``, is kept for the next start."""
        self.ids = {int(name[1:]): at for name, at in ids.items()}
        for number, (_, _, queues) in enumerate(self.objects):
            self.say("dev_start", number, "started: 0")
            if number == 0 and self.version >= "8":
                self.say("suspend", 0)
            last = number == len(self.objects) - 1
            for queue in queues:
                if queue in self.shadow:
                    self.invalidate(0x40_0000_0000 + 0x4000 * queue, 0x2000, asid=1)
                    self.invalidate(0x40_0000_2000 + 0x4000 * queue, 0x1000, asid=1)
            if last and self.version < "8":
                self.reset()
            for queue in queues:
                more = f" svq: {int(queue in self.shadow)}" if self.new else ""
                self.say("get_vring_base", number, f"index: {queue} num: {self.ids.get(queue, 0)}{more}")
            if last and self.version >= "8":
                self.reset()
        return self

    def reset(self) -> Nic:
        """The device forgets everything."""
        self.say("reset_device", rest="status: 0x0" if self.version < "8" else "")
        self.say("add_status", rest="status: 0x3")
        self.unmap()
        return self

    def unplug(self) -> Nic:
        """The netdev is deleted."""
        for dev, vdpa, _ in self.objects:
            self.log.append(f"vhost_vdpa_cleanup dev: {dev:#x} vdpa: {vdpa:#x}")
        return self


def stamped(log: list[str], thread: int, start: int = 1_700_000_000) -> list[str]:
    """The lines as ``-msg timestamp=on`` writes them."""
    return [f"{thread}@{start}.{number:06}:{line}" for number, line in enumerate(log)]


def simple(log: list[str], pid: int) -> list[str]:
    """The lines as simpletrace.py writes them, 1.5 microseconds from each other."""
    words = {"vdpa_shared": "vdpa", "idx": "i", "vhost_vdpa": "v", "common": "s"}
    lines = []
    for number, line in enumerate(log):
        name, _, rest = line.replace("common dev:", "common:").partition(" ")
        parts = rest.replace(":", " ").replace(",", " ").split()
        pairs = zip(parts[::2], parts[1::2], strict=False)
        fields = " ".join(f"{words.get(key, key)}={int(value, 0) & (1 << 64) - 1:#x}" for key, value in pairs)
        lines.append(f"{name} {1.5 if number else 0:.3f} pid={pid} {fields}")
    return lines
