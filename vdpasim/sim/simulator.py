"""The simulator: one machine with a kernel, memory, a vDPA bus and processes.

Theory. ``Simulator(kernel="6.12")`` is a machine that has just booted: /dev/vhost-net is there, vDPA devices are added
as on a real one. Everything observable is ordered by the kernel's ready queue and sequence counter; names, numbers and
addresses come from counters; so one scenario gives one trace, byte for byte.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from random import Random
from typing import IO, TYPE_CHECKING, Any

from vdpasim.core import profiles, series
from vdpasim.core.events import Kind
from vdpasim.core.kernel import Kernel, Sleep, Unit
from vdpasim.core.mm import process as core
from vdpasim.core.mm.memory import Memory, PhysicalMemory
from vdpasim.core.mm.mm import AddressSpace
from vdpasim.core.mm.rlimit import Rlimits
from vdpasim.core.vhost.net import VhostNetNode
from vdpasim.sim import hosts
from vdpasim.sim.barriers import Hold
from vdpasim.sim.errors import Deadlock, UsageError
from vdpasim.sim.faults import Fault, FaultPlan, Injected
from vdpasim.sim.journal import Recorder, journaled
from vdpasim.sim.process import Process
from vdpasim.sim.vdpa import Vdpa
from vdpasim.uapi.abi import ABIS
from vdpasim.uapi.mman import PROT_EXEC, PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable

    from vdpasim.core.events import Event
    from vdpasim.core.fs.file import CharDev
    from vdpasim.core.net.tun import SocketFile
    from vdpasim.sim.file import File

TEXT = 0x400000
TEXT_SIZE = 0x2000
STACK_GAP = 0x1000
STACK_SIZE = 0x21000


class Simulator:
    """A simulated machine.

    Args:
        kernel: profile string, ``6.1``, ``6.12``, ``7.1`` or ``tip`` with ``+switch`` and ``-switch``.
        abi: name of the kernel's ABI, see :data:`vdpasim.uapi.abi.ABIS`.
        seed: what :meth:`choice` draws from.
        options: module options of vdpa_sim for devices that do not set their own (``use_va``, ``batch_mapping``,
            ``max_iotlb_entries``, or another one that a management device here has).
        extensions: what no kernel has, ``vhost-vdpa+miss`` and ``net_peer``.
        faults: what goes wrong, in the notation of :mod:`vdpasim.sim.faults`: ``VHOST_VDPA_SUSPEND:2:EIO``.

    Raises:
        ProfileError: the profile string, or two series in it that answer the same request.
        UsageError: unknown ABI, extension or option, a fault that is none.
    """

    def __init__(
        self,
        kernel: str = "tip",
        *,
        abi: str = "x86_64",
        seed: int = 0,
        options: dict[str, int | bool] | None = None,
        extensions: tuple[str, ...] = (),
        faults: Iterable[Fault | str] = (),
    ) -> None:
        if abi not in ABIS:
            raise UsageError(f"unknown ABI {abi!r}; known are {', '.join(ABIS)}")
        self.seed = seed
        self.extensions = tuple(extensions)
        self._random = Random(seed)
        switches = profiles.parse(kernel)
        series.check(switches)
        self.kernel = Kernel(switches, ABIS[abi])
        self.pages = PhysicalMemory()
        self.nodes: dict[str, CharDev] = {}
        net = VhostNetNode(self.kernel)
        self.nodes[net.path] = net
        self.vdpa = Vdpa(self.kernel, self.pages, self.nodes, options or {}, extensions)
        self.faults = FaultPlan(self.vdpa.bus.paths)
        for fault in faults:
            self.inject(fault)
        self.processes: list[Process] = []
        self.taps: dict[str, SocketFile] = {}
        """Taps by interface name."""
        self.holds = 0
        """Holds so far."""
        self._tid = 100
        self._actors: list[hosts.Actor] = []
        self._sinks: list[Callable[[Event], None]] = []

    # -- recording

    def journal(self, stream: IO[str], scenario: str = "") -> Recorder:
        """Write down everything that goes into this machine, for ``vdpasim replay``; see :mod:`.journal`.

        Raises:
            UsageError: something has happened on it already.
        """
        return Recorder(self, stream, scenario)

    @property
    def recorder(self) -> Recorder | None:
        """Who writes the journal."""
        journal = self.kernel.journal
        return journal if isinstance(journal, Recorder) else None

    @property
    def key(self) -> list[Any]:
        """What a journal calls it."""
        return ["sim"]

    # -- processes

    @journaled
    def process(self, name: str, *, memlock: int = 8 << 20) -> Process:
        """A new process with an empty address space but for its stack; ``memlock`` is RLIMIT_MEMLOCK in bytes."""
        limits = Rlimits(memlock=memlock)
        task = core.Task(name, self.next_tid(), self.new_mm(name), core.FileTable(), limits)
        return self.adopt(task)

    def adopt(self, task: core.Task) -> Process:
        """Wrap a task made by fork."""
        process = Process(self, task)
        self.processes.append(process)
        return process

    def next_tid(self) -> int:
        """The next task number."""
        self._tid += 1
        return self._tid

    def new_mm(self, name: str) -> AddressSpace:
        """A fresh address space with a program's text at the bottom and a stack near the top, both private.

        They matter to a driver that looks for "the next mapping above".
        """
        task_size = self.kernel.abi.task_size
        stack = task_size - STACK_GAP - STACK_SIZE
        mm = AddressSpace(self.kernel.name("mm:" + name), self.pages, task_size)
        mm.mmap(TEXT, TEXT_SIZE, PROT_READ | PROT_EXEC, shared=False, fixed=True)
        mm.mmap(stack, STACK_SIZE, PROT_READ | PROT_WRITE, shared=False, fixed=True)
        return mm

    def wire(self, ifname: str) -> File:
        """The other end of a tap: read() a frame the guest sent, write() one for it; a process ``host`` has it open.

        Raises:
            UsageError: there is no such tap (yet).
        """
        if ifname not in self.taps:
            raise UsageError(f"no tap {ifname!r}: Process.tap() makes one")
        host = next((one for one in self.processes if one.name == "host"), None) or self.process("host")
        return host.socket("packet-raw", ifname)

    # -- running

    def spawn(
        self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, name: str | None = None, daemon: bool = False
    ) -> hosts.Actor:
        """Start an actor: an ``async def`` that awaits only what this package gives it.

        A run ends when every actor has ended but the daemons, which are stopped then; who answers misses for ever is
        one.
        """
        actor = hosts.spawn(self.kernel, main, args, name or str(getattr(main, "__name__", "actor")))
        actor.daemon = daemon
        self._actors.append(actor)
        return actor

    def run(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """Run ``main(sim, *args)`` as an actor, and every actor it starts, to the end; its result.

        Raises:
            Deadlock: an actor waits for something that cannot come.
            Livelock: work feeds itself.
        """
        first = self.spawn(main, self, *args, name="main")
        try:
            hosts.run_until(self.kernel, lambda: not self._waiting(), self._waiting)
        except Deadlock as deadlock:
            # an actor that failed is why the others wait
            for error in self._errors():
                error.add_note(f"then: {deadlock}")
                raise error from error.__cause__
            raise
        for error in self._errors():
            raise error
        self.abandon()
        return first.result

    def abandon(self) -> None:
        """Give up every actor that has not ended: the daemons at the end of a run, all of them after a failure."""
        for actor in self._actors:
            if not actor.done and actor.gen is not None:
                with suppress(RuntimeError, UsageError):  # it awaits once more in a `finally`, which nobody answers
                    actor.gen.close()
                actor.done = True

    def _errors(self) -> list[BaseException]:
        return [actor.error for actor in self._actors if actor.error is not None]

    def _waiting(self) -> list[Unit]:
        return [actor for actor in self._actors if not actor.done and not actor.daemon]

    def run_idle(self) -> None:
        """Let calls and devices run to completion at the present virtual time.

        Raises:
            Livelock: work feeds itself.
        """
        hosts.run_idle(self.kernel)

    async def settle(self) -> None:
        """Let calls and devices run to completion, from inside an actor."""
        while any(not isinstance(unit, hosts.Actor) for unit in self.kernel.ready):
            await hosts.suspend(hosts.SETTLE)

    def advance(self, ns: int) -> None:
        """Move virtual time forward by nanoseconds, and run what becomes ready."""
        self.kernel.advance(self.kernel.now + ns)
        self.run_idle()

    async def sleep(self, ns: int) -> None:
        """Sleep for virtual nanoseconds, from inside an actor."""
        await hosts.suspend(Sleep(None, deadline=self.kernel.now + ns))

    # -- faults

    @journaled
    def inject(self, fault: Fault | str) -> Injected:
        """Let something go wrong from now on; the answer counts how often it did (``.fired``).

        Raises:
            UsageError: the notation.
        """
        injected = self.faults.add(fault)
        self.kernel.faults = self.faults
        return injected

    # -- schedules

    @journaled
    def hold(self, point: str) -> Hold:
        """Keep the next unit that reaches this schedule point there, until it is released; see :mod:`.barriers`."""
        self.holds += 1
        return Hold(self.kernel, point, self.holds - 1)

    @contextmanager
    def calm(self) -> Generator[None]:
        """Set-up that nobody needs to see in every order: inside there are no schedule points and no choices."""
        kernel = self.kernel
        points, chooser = kernel.points, kernel.chooser
        kernel.points, kernel.chooser = False, None
        try:
            yield
        finally:
            kernel.points, kernel.chooser = points, chooser

    # -- observing and choosing

    def listen(self, sink: Callable[[Event], None]) -> None:
        """Hand every event to ``sink`` from now on."""
        self._sinks.append(sink)
        self.kernel.sink = self._sinks[0] if len(self._sinks) == 1 else self._fan_out

    def _fan_out(self, event: Event) -> None:
        for sink in self._sinks:
            sink(event)

    @journaled
    def violation(self, ident: str, text: str) -> None:
        """Report what a story itself saw go wrong, in bytes, counts or errnos; it is a finding like those of checks."""
        self.kernel.violation(ident, text)

    @journaled
    def memory_moved(self, old: File | Memory, new: File | Memory) -> None:
        """Say that guest memory which lay in one object lies in another now, every byte at the offset it had.

        Promises of the entries made for the old one are about the new one from here on, wherever a device goes on.
        What a story does not say, checks take for a mistake: the same guest memory in another file is other memory.

        Args:
            old: a memfd, or what is behind one that was closed (:attr:`File.memory`).
            new: as ``old``.

        Raises:
            OSError: EBADF the descriptor is closed.
            UsageError: one of them is no memfd, both are the same, or the new one has no room for all of it.
        """
        objects: list[Memory] = []
        for one in (old, new):
            memory = one if isinstance(one, Memory) else one.memory
            if memory is None:
                raise UsageError(f"{one}: guest memory lies in memfds")
            objects.append(memory)
        source, target = objects
        if source is target or target.size < source.size:
            raise UsageError(f"{source.name} has not moved to {target.name}: that is the same one, or smaller")
        if self.kernel.sink:
            self.kernel.emit(Kind.MOVED, source.name, target.name)

    def choice(self, n: int) -> int:
        """A number from 0 to n-1 drawn from the seed."""
        return self._random.randrange(n)
