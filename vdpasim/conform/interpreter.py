"""Performing the steps of a golden case on a floor, and comparing what they gave with what was recorded.

Theory. One function per operation turns inputs into a call of :class:`~vdpasim.conform.floor.Floor` and its result
into outputs; errors become ``ret`` -1 and a name. Buffers lie where the recorder put them: at the recorded address,
else each in a slot of 1 TiB of its own, so that nothing follows one but unmapped space.

A case that goes wrong in the floor itself (an exception that is no OSError) ends there: the step's answer is that
error.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import attrs

from vdpasim.conform.cases import Symbols, TraceFormatError
from vdpasim.conform.floor import PROT_LETTERS, Answer, Interrupted
from vdpasim.uapi import errno
from vdpasim.uapi.catalog import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vdpasim.conform.cases import Case, Step, Value
    from vdpasim.conform.floor import Floor

SLOT = 1 << 40
"""Distance of two buffers whose address was not recorded."""

FIRST_SLOT = 0x1000_0000_0000


@attrs.frozen
class StepResult:
    """One performed step."""

    number: int
    """Counted from 1."""
    step: Step
    answer: Answer

    @property
    def differing(self) -> list[str]:
        """The outputs that are not as recorded, ``ret`` and ``errno`` first."""
        expected, got = self.step.outputs, self.answer.outputs
        keys = [*expected, *(key for key in got if key not in expected)]
        keys.sort(key=lambda key: key not in ("ret", "errno"))
        return [key for key in keys if _plain(expected.get(key)) != _plain(got.get(key))]


def _plain(value: Value) -> Value:
    return value.lower() if isinstance(value, str) and not value.startswith("E") else value


class Interpreter:
    """One run of a case on a floor."""

    def __init__(self, case: Case, floor: Floor, symbols: Symbols | None = None) -> None:
        self.case = case
        self.floor = floor
        self.symbols = symbols or Symbols()
        self._following = 0

    def run(self, first: int = 0) -> Iterator[StepResult]:
        """Perform the steps from index ``first`` on; ends after a step that could not be performed at all."""
        for index in range(first, len(self.case.steps)):
            step = self.case.steps[index]
            self._following = index + 1
            answer = self._perform(step)
            yield StepResult(index + 1, step, answer)
            if "ret" not in answer.outputs:
                return

    def _perform(self, step: Step) -> Answer:
        if step.proc:
            return self.floor.child(lambda: self.attempt(step), stay=step.proc == "child_stay")
        answer = self.attempt(step)
        if "fd" in step.inputs and answer.outputs.get("ret") == 0 and step.op in _MAKES_FD:
            self.symbols.descriptors[step.text("fd")] = self.floor.number(step.text("fd"))
        return answer

    def attempt(self, step: Step) -> Answer:
        """Perform one step in the present process."""
        try:
            outputs = _OPERATIONS[step.op](self, step)
        except Interrupted:
            return Answer({"ret": -1, "errno": "EINTR", "blocked": True})
        except OSError as error:
            return _refusal(step, error)
        except TraceFormatError:
            raise
        except Exception as error:  # noqa: BLE001 - a case must not take the others with it
            return Answer({"errno": f"{type(error).__name__}: {error}"})
        return Answer({"ret": 0, "errno": 0, **outputs})

    # -- descriptors --------------------------------------------------------------------------------------------------

    def open(self, step: Step) -> dict[str, Value]:
        """Open."""
        self.floor.open(step.text("fd"), step.text("dev"), step.text("path"), step.text("flags"))
        return {}

    def ioctl(self, step: Step) -> dict[str, Value]:
        """Ioctl: bytes go through the argument buffer, of which ``outlen`` bytes come back."""
        name = step.text("name")
        request = step.number("cmd") if name == "RAW" else _request(name)
        if "in" not in step.inputs:
            return {"ret": self.floor.ioctl(step.text("fd"), request, self.symbols.address(step.inputs.get("arg")))}
        addr = self.floor.argument(self.symbols.assemble(step.text("in")))
        ret = self.floor.ioctl(step.text("fd"), request, addr)
        length = step.number("outlen")
        return {"ret": ret, "out": self.floor.peek(addr, length).hex()} if length else {"ret": ret}

    def write(self, step: Step) -> dict[str, Value]:
        """Write: data cut or extended with zeroes to ``len``."""
        length = step.number("len")
        if "ptr" in step.inputs:
            addr = self.symbols.address(step.inputs["ptr"])
            return {"ret": self.floor.write_from(step.text("fd"), addr, length)}
        data = self.symbols.assemble(step.text("data"))[:length]
        return {"ret": self.floor.write(step.text("fd"), data.ljust(length, b"\0"))}

    def writev(self, step: Step) -> dict[str, Value]:
        """Writev."""
        parts = [self.symbols.assemble(part) for part in step.names("parts")]
        return {"ret": self.floor.writev(step.text("fd"), parts)}

    def read(self, step: Step) -> dict[str, Value]:
        """Read."""
        size = step.number("size")
        if "ptr" in step.inputs:
            return {"ret": self.floor.read_into(step.text("fd"), self.symbols.address(step.inputs["ptr"]), size)}
        return _bytes(self.floor.read(step.text("fd"), size))

    def poll(self, step: Step) -> dict[str, Value]:
        """Poll."""
        revents = self.floor.poll(step.text("fd"), step.number("events"), step.number("timeout_ms"))
        return {"ret": int(revents != 0), "revents": revents}

    def eventfd_read(self, step: Step) -> dict[str, Value]:
        """The counter."""
        return {"ret": 8, "value": self.floor.eventfd_read(step.text("fd"), step.number("timeout_ms"))}

    # -- memory -------------------------------------------------------------------------------------------------------

    def addr(self, step: Step, key: str = "addr") -> int:
        """An address input."""
        return self.symbols.address(step.inputs[key])

    def buf(self, step: Step) -> dict[str, Value]:
        """A buffer, at the recorded address or in the next free slot."""
        slots = self.symbols.addresses
        free = next(addr for addr in count(FIRST_SLOT, SLOT) if addr not in slots.values())
        addr = self.symbols.address(step.inputs["at"]) if "at" in step.inputs else free
        self.floor.buf(step.text("kind"), step.number("len"), addr)
        slots[step.text("name")] = addr
        return {}

    def wait_u16(self, step: Step) -> dict[str, Value]:
        """Wait for a ring index."""
        value = step.number("value")
        seen = self.floor.wait_u16(self.addr(step), value, step.number("timeout_ms"))
        return {"ret": int(seen != value), "seen": seen}

    def map(self, step: Step) -> dict[str, Value]:
        """Mmap with MAP_FIXED."""
        prot = sum(PROT_LETTERS[letter] for letter in step.text("prot"))
        place = self.addr(step), step.number("len"), prot
        self.floor.map(*place, step.text("kind"), step.text("fd"), step.number("off"))
        return {}

    def mremap(self, step: Step) -> dict[str, Value]:
        """Mremap."""
        self.floor.mremap(self.addr(step), step.number("len"), step.number("new_len"), self.addr(step, "to"))
        return {}

    def exec(self, step: Step) -> dict[str, Value]:
        """A new image."""
        self.floor.exec(step.names("cloexec"), self.symbols, self._following)
        return {}


def _bytes(data: bytes) -> dict[str, Value]:
    return {"ret": len(data), "out": data.hex()} if data else {"ret": 0}


def _refusal(step: Step, error: OSError) -> Answer:
    outputs: dict[str, Value] = {"ret": -1, "errno": errno.name(error.errno or 0)}
    if step.op == "eventfd_read":
        outputs["value"] = 0
    return Answer(outputs, getattr(error, "rule", None) or "", getattr(error, "handler_errno", None) or 0)


def _request(name: str) -> int:
    if name not in requests():
        raise TraceFormatError(f"the case uses an unknown request {name!r}")
    return requests()[name].request()


def _simple(
    call: Callable[[Interpreter, Step], object], output: str = ""
) -> Callable[[Interpreter, Step], dict[str, Value]]:
    # An operation whose call has one result (`output` names it) or none.
    def perform(run: Interpreter, step: Step) -> dict[str, Value]:
        value = call(run, step)
        return {output: value} if output and isinstance(value, int | str) else {}

    return perform


_MAKES_FD = frozenset({"open", "dup", "eventfd", "memfd", "tap", "tun_unattached", "packet_socket", "socket"})

_OPERATIONS: dict[str, Callable[[Interpreter, Step], dict[str, Value]]] = {
    "open": Interpreter.open,
    "close": _simple(lambda run, s: run.floor.close(s.text("fd"))),
    "dup": _simple(lambda run, s: run.floor.dup(s.text("fd"), s.text("from"))),
    "ioctl": Interpreter.ioctl,
    "write": Interpreter.write,
    "writev": Interpreter.writev,
    "read": Interpreter.read,
    "poll": Interpreter.poll,
    "eventfd": _simple(lambda run, s: run.floor.eventfd(s.text("fd"), s.number("init"))),
    "eventfd_write": _simple(lambda run, s: run.floor.eventfd_write(s.text("fd"), s.number("value")), "ret"),
    "eventfd_read": Interpreter.eventfd_read,
    "buf": Interpreter.buf,
    "poke": _simple(lambda run, s: run.floor.poke(run.addr(s), run.symbols.assemble(s.text("data")))),
    "fill": _simple(lambda run, s: run.floor.poke(run.addr(s), bytes([s.number("byte")]) * s.number("len"))),
    "peek": _simple(lambda run, s: run.floor.peek(run.addr(s), s.number("len")).hex(), "out"),
    "wait_u16": Interpreter.wait_u16,
    "sleep": _simple(lambda run, s: run.floor.sleep(s.number("ms"))),
    "rlimit_memlock": _simple(lambda run, s: run.floor.rlimit_memlock(s.number("soft"), s.number("hard"))),
    "dropcap": _simple(lambda run, s: run.floor.dropcap(s.number("cap"))),
    "vmpin": _simple(lambda run, s: run.floor.vmpin(), "kb"),
    "tap": _simple(lambda run, s: run.floor.tap(s.text("fd"), s.text("ifname"), s.number("iff_flags"))),
    "tun_unattached": _simple(lambda run, s: run.floor.tun_unattached(s.text("fd"))),
    "packet_socket": _simple(lambda run, s: run.floor.packet_socket(s.text("fd"), s.text("ifname"), s.number("dgram"))),
    "socket": _simple(lambda run, s: run.floor.socket(s.text("fd"), s.number("domain"), s.number("type"))),
    "mmap": _simple(
        lambda run, s: run.floor.mmap(
            s.text("fd"), s.number("len"), s.number("prot"), s.number("flags"), s.number("off")
        )
    ),
    "map": Interpreter.map,
    "munmap": _simple(lambda run, s: run.floor.munmap(run.addr(s), s.number("len"))),
    "mprotect": _simple(lambda run, s: run.floor.mprotect(run.addr(s), s.number("len"), s.number("prot"))),
    "mremap": Interpreter.mremap,
    "memfd": _simple(
        lambda run, s: run.floor.memfd(s.text("fd"), s.number("len"), hugetlb=bool(s.inputs.get("hugetlb", False)))
    ),
    "ftruncate": _simple(lambda run, s: run.floor.ftruncate(s.text("fd"), s.number("len"))),
    "punch_hole": _simple(lambda run, s: run.floor.punch_hole(s.text("fd"), s.number("off"), s.number("len"))),
    "pread": lambda run, s: _bytes(run.floor.pread(s.text("fd"), s.number("off"), s.number("len"))),
    "pwrite": _simple(
        lambda run, s: run.floor.pwrite(s.text("fd"), s.number("off"), run.symbols.assemble(s.text("data"))), "ret"
    ),
    "exec": Interpreter.exec,
    "handover": _simple(lambda run, s: run.floor.handover(s.text("parent"), s.names("parent_closes"))),
    "mm_holder": _simple(lambda run, s: run.floor.mm_holder()),
    "mm_holder_kill": _simple(lambda run, s: run.floor.mm_holder_kill()),
    "stay_kill": _simple(lambda run, s: run.floor.stay_kill()),
    "recreate_device": _simple(lambda run, s: run.floor.recreate_device()),
}
