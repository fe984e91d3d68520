"""Anything a process can do to the simulated devices, chosen at random from a seed.

One *case* is a machine of a random kernel and ABI with every kind of device, two processes, and up to sixty steps:
opens, messages, ioctls, reads, polls, maps, kicks, changes of memory, exec, close. Bytes are mostly near-valid, so
that they get past the first checks. The only exception a step may end in is an OSError with a kernel errno; afterwards
both processes exit, nothing may stay pinned, no file with anybody, and every device opens again.
"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.devices.profile import load
from vdpasim.sim import File, Process, Region, Simulator, WouldBlock
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.uapi.catalog import requests

if TYPE_CHECKING:
    from collections.abc import Callable

KERNELS = ("6.1", "6.12", "7.1", "tip", "6.12+live-update-v1", "6.12+live-update-v2", "tip-F1", "7.1+live-update-v1")
ABIS = ("x86_64", "x86_64", "i386", "s390x", "arm")
DEVICES: tuple[dict[str, Any], ...] = (
    {"mgmtdev": "vdpasim_net"},
    {"mgmtdev": "vdpasim_blk"},
    {"mgmtdev": "vdpasim_net+miss"},
    {"mgmtdev": "vdpasim_blk+miss"},
    {"mgmtdev": "net_peer"},
    {"mgmtdev": "net_peer", "packed": True, "mrg_rxbuf": True, "max_vqp": 2},
    {"profile": "mlx5-like"},
    {"profile": attrs.evolve(load("vdpasim_blk-6.12"), addresses="file", identity=0)},
)
FAULTS = ("kick:2:drop", "call:every:drop", "dma:3", "dma.write:5", "set_map:2:ENOMEM", "UPDATE:3:drop", "MISS:1")
REQUESTS = tuple(one.request() for one in requests().values())
ERRNOS = frozenset(value for name, value in vars(E).items() if name.startswith("E") and isinstance(value, int))
ACCESS_PLATFORM, VERSION_1, CTRL_VQ = 1 << 33, 1 << 32, 1 << 17
PAGE = 4096
O_RDWR, O_NONBLOCK = 2, 0o4000


class Case:
    """One machine and what is done to it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.log: list[str] = []
        pick = self.chance.choice
        options: dict[str, int | bool] = {"use_va": pick((True, False)), "batch_mapping": pick((True, True, False))}
        extensions = ("vhost-vdpa+miss", "net_peer")
        faults = tuple(self.chance.sample(FAULTS, k=pick((0, 0, 0, 1, 2))))
        self.sim = Simulator(pick(KERNELS), abi=pick(ABIS), options=options, extensions=extensions, faults=faults)
        self.order = ">" if self.sim.kernel.abi.byteorder == "big" else "<"
        self.paths = ["/dev/vhost-net"]
        self.paths += [self.sim.vdpa.dev_add(f"d{i}", **how).path for i, how in enumerate(DEVICES)]
        first = self.sim.process("first")
        second = first.fork("second") if pick((True, False)) else self.sim.process("second")
        self.processes: list[Process] = [first, second]
        self.regions: list[Region] = []
        for process in self.processes:
            self.regions.append(process.mmap(16 * PAGE, process.memfd("m", 16 * PAGE)))
            self.regions.append(process.mmap(4 * PAGE))
        self.eventfds = [first.eventfd(), first.eventfd(pick((0, 1, 2**64 - 2)))]
        self.tap = first.tap("tap0")
        self.files: list[File] = []

    def run(self) -> int:
        """Play the case; the number of steps.

        Raises:
            AssertionError: an errno no kernel has, or an invariant is broken.
            Exception: whatever else a step raised, which is a bug.
        """
        steps = self.chance.randrange(5, 60)
        for _ in range(steps):
            try:
                self._step()
            except OSError as error:
                assert error.errno in ERRNOS, f"errno {error.errno}"
            except WouldBlock:
                pass
        self._finish()
        return steps

    def _finish(self) -> None:
        for process in self.processes:
            process.exit_nowait()
            assert process.mm.pinned_vm >= 0
        self.sim.run_idle()
        last = self.sim.process("last")
        for path in self.paths:
            last.open_nowait(path).close_nowait()
        left = self.sim.pages.statistics()
        assert left.pins == 0, "something stayed pinned"
        assert left.folios == 0, "somebody still has a file"

    # -- steps

    def _step(self) -> None:
        steps: list[tuple[int, Callable[[], None]]] = [
            (6, self._open), (30, self._write), (46, self._ioctl), (4, self._read), (2, self._poll), (2, self._mmap),
            (4, self._kick), (2, self._close), (1, self._unmap), (1, self._exec), (2, self._fill),
        ]  # fmt: skip
        chosen = self.chance.choices([step for _, step in steps], [weight for weight, _ in steps])[0]
        (chosen if self.files else self._open)()

    def _open(self) -> None:
        process = self.chance.choice(self.processes)
        path = self.chance.choice(self.paths)
        self.log.append(f"{process.name} open {path}")
        file = process.open_nowait(path, self.chance.choice((O_RDWR, O_RDWR, O_RDWR | O_NONBLOCK, 0, 1)))
        self.files.append(file)
        if self.chance.random() < 0.8:
            file.ioctl_nowait(vhost.VHOST_SET_OWNER.request())
            features = ACCESS_PLATFORM | self.chance.choice((0, VERSION_1, VERSION_1 | CTRL_VQ))
            file.ioctl_nowait(vhost.VHOST_SET_FEATURES.request(), struct.pack(self.order + "Q", features))

    def _write(self) -> None:
        pick = self.chance.choice
        asid = pick((0, 0, 0, 1, 2, self._value() & 0xFFFF_FFFF))
        head = struct.pack(self.order + "II", pick((1, 2, 2, 2, 3)), asid)
        perm, kind = pick((0, 1, 2, 3, 3, 3, 255)), pick((2, 2, 2, *range(9)))
        fields = (self._value(), self._value(), self._value(), perm, kind)
        data = head + struct.pack(self.order + "QQQBB", *fields) + bytes(pick((6, 38, 38, 0, 20)))
        if self.chance.random() < 0.1:
            data = self.chance.randbytes(self.chance.randrange(90))
        place = (pick(self.regions).addr, pick((0, 4, 40, 72, 2**62)))
        what = data if self.chance.random() < 0.8 else place
        self.log.append(f"write {what!r}")
        pick(self.files).write_nowait(what)

    def _ioctl(self) -> None:
        request = self.chance.choice(REQUESTS) if self.chance.random() < 0.93 else self.chance.getrandbits(32)
        words = [struct.pack(self.order + self.chance.choice("QI"), self._value() & 0xFFFF_FFFF) for _ in range(8)]
        data = b"".join(words[: self.chance.randrange(9)])
        if self.chance.random() < 0.3:
            number = self.chance.choice((16, 0, 1, 256, self.eventfds[0].fd, self.tap.fd, 0xFFFF_FFFF))
            data = struct.pack(self.order + "II", self.chance.randrange(3), number) + data
        arg: Any = data if self.chance.random() < 0.85 else self._value()
        self.log.append(f"ioctl {request:#x} {arg!r}")
        self.chance.choice(self.files).ioctl_nowait(request, arg)

    def _read(self) -> None:
        size = self.chance.choice((0, 71, 72, 100, 4096, 1 << 45))
        self.log.append(f"read {size}")
        self.chance.choice(self.files).read_nowait(size)

    def _poll(self) -> None:
        self.log.append("poll")
        self.chance.choice(self.files).poll_nowait(self.chance.getrandbits(9))

    def _mmap(self) -> None:
        length = self.chance.choice((PAGE, 8192, 0, 100))
        args = (length, self.chance.randrange(8), self.chance.randrange(4), self._value())
        self.log.append(f"mmap {args}")
        self.chance.choice(self.files).mmap_nowait(*args)

    def _kick(self) -> None:
        self.log.append("kick")
        self.chance.choice(self.eventfds).write_nowait(self.chance.choice((b"\1" + bytes(7), bytes(8), b"\xff" * 8)))

    def _close(self) -> None:
        file = self.chance.choice(self.files)
        self.log.append(f"close {file.fd}")
        self.files.remove(file)
        file.close_nowait()

    def _unmap(self) -> None:
        region = self.chance.choice(self.regions)
        self.log.append(f"unmap {region.addr:#x}")
        region.process.munmap(region.addr, PAGE * self.chance.randrange(1, 5))

    def _exec(self) -> None:
        process = self.chance.choice(self.processes)
        self.log.append(f"{process.name} exec")
        process.exec_nowait()

    def _fill(self) -> None:
        # small numbers, so that rings sometimes make sense
        region = self.chance.choice(self.regions)
        mask = self.chance.choice((1, 3, 255))
        self.log.append(f"fill {region.addr:#x}")
        data = bytes(byte & mask for byte in self.chance.randbytes(256))
        region.write(PAGE * self.chance.randrange(3), data)

    def _value(self) -> int:
        pick, kind = self.chance.choice, self.chance.random()
        if kind < 0.3:
            return self.chance.randrange(6)
        if kind < 0.5:
            return pick((PAGE, 2 * PAGE, PAGE * self.chance.randrange(64), 0xFFFF, 0x10000, 256, 32768))
        if kind < 0.7:
            return pick(self.regions).addr + pick((0, 1, 0x800, PAGE, 8 * PAGE))
        if kind < 0.85:
            return pick((2**64 - 1, 2**63, 2**64 - PAGE, 2**32, 2**32 - 1, 2**31, self.eventfds[0].fd, self.tap.fd))
        return self.chance.getrandbits(pick((8, 16, 32, 64)))
