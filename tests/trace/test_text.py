"""The text trace: what a line looks like, and that nothing in it can be forged or differ from run to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.core.events import Event, Kind
from vdpasim.sim import Simulator
from vdpasim.trace.text import TextTrace
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.uapi.abi import S390X, X86_64
from vdpasim.uapi.message import Message, encode_message

if TYPE_CHECKING:
    from vdpasim.uapi.abi import Abi

HEAD = (7, 1500, "vmm")


def line(kind: Kind, *fields: Any) -> str:
    trace = TextTrace()
    trace.event((*HEAD, kind, *fields))
    (only,) = trace.lines
    return only


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        (Kind.KICK, ("vhost-vdpa-0", 1), "kick device=vhost-vdpa-0 queue=1"),
        (Kind.MISS, ("vhost-net-0", 0, 0x2FFF, 1), "miss device=vhost-net-0 queue=0 iova=0x2fff perm=1"),
        (Kind.PUSH, ("d", 0, -1, 0), "push device=d asid=0 maps=-1 errno=0"),
        (Kind.SIGNAL, ("d", 0, "call", 3), "signal device=d queue=0 what=call count=3"),
        (Kind.OWNER, ("d", None, "mm:a"), "owner device=d old=None new=mm:a"),
        (Kind.UNMODELLED, ("/dev/x", "a thing"), "unmodelled file=/dev/x what=a thing"),
        (
            Kind.REMAP,
            ("d", 0, 5, 0x1000, 0x1FFF, 0x7000, 0x8000),
            "remap device=d asid=0 serial=5 start=0x1000 last=0x1fff old=0x7000 new=0x8000",
        ),
        (
            Kind.DMA,
            ("d", 0, 0x1000, 20, 2, 5, "va", (("ram", 0x10, 16), ("ram2", 0, 4))),
            "dma device=d queue=0 iova=0x1000 length=20 access=2 serial=5 target=va place=[ram+0x10:16,ram2+0x0:4]",
        ),
        (Kind.USED, ("d", 1, 9, 10, None, 10), "used device=d queue=1 old=9 new=10 found=None taken=10"),
        (Kind.RING, ("d", 0, "call", "eventfd-0"), "ring device=d queue=0 what=call value=eventfd-0"),
        (Kind.RING, ("d", 0, "addr", (0x10, 0x20, 0)), "ring device=d queue=0 what=addr value=[0x10,0x20,0x0]"),
        (Kind.STATUS, ("d", 0xB, 0xF), "status device=d old=0xb new=0xf"),
        (Kind.SUSPEND, ("d", 0, 1), "suspend device=d old=0 new=1"),
        (Kind.FEATURES, ("d", "backend", 0x36), "features device=d what=backend mask=0x36"),
        (Kind.UNPIN, ("d", 5, 0x5000, 2), "unpin device=d serial=5 addr=0x5000 pages=2"),
        (Kind.STILL, (), "still"),
        (Kind.FAULT, ("d", "kick:drop", 0), "*** fault kick:drop at d"),
        (Kind.VIOLATION, ("kernel.oops", "boom"), "violation id=kernel.oops text=boom"),
    ],
)
def test_an_event_is_its_kind_and_its_fields_by_name(kind: Kind, fields: tuple[Any, ...], text: str) -> None:
    assert line(kind, *fields) == f"[7] 1500 vmm: {text}"


def call(op: str, args: tuple[Any, ...], *answer: Any, abi: Abi = X86_64, file: str = "/dev/vhost-vdpa-0") -> str:
    trace = TextTrace(abi)
    trace.event((1, 0, "vmm", Kind.ENTER, op, file, args))
    assert not trace.lines, "a call is one line, when it returns"
    trace.event((4, 9, "vmm", Kind.EXIT, op, file, *answer))
    (only,) = trace.lines
    return only


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ((0, 0, None), "= 0"),
        ((72, 0, None), "= 72"),
        ((-E.EPERM, E.EPERM, "vhost.owner.perm"), "= -1 EPERM  # vhost.owner.perm"),
        ((-E.EFAULT, E.EEXIST, "a.b"), "= -1 EFAULT (EEXIST inside)  # a.b"),
        ((-E.EIO, 0, None), "= -1 EIO"),
    ],
)
def test_a_result_has_both_errnos_and_the_rule(answer: tuple[Any, ...], shown: str) -> None:
    assert call("poll", (1, 5), *answer) == f"[4] 9 vmm: poll(/dev/vhost-vdpa-0, 0x1, 0x5) {shown}"


def test_a_request_goes_by_its_name_or_its_number() -> None:
    assert "ioctl(/dev/vhost-vdpa-0, VHOST_SET_OWNER, 0x0)" in call(
        "ioctl", (vhost.VHOST_SET_OWNER.request(), 0), 0, 0, None
    )
    assert "ioctl(/dev/vhost-vdpa-0, 0xdead)" in call("ioctl", (0xDEAD,), 0, 0, None)
    assert "VHOST_GET_FEATURES" in call("ioctl", (vhost.VHOST_GET_FEATURES.request(S390X),), 0, 0, None, abi=S390X)


class Buffer:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __str__(self) -> str:
        return self.data.hex()


@pytest.mark.parametrize("abi", [X86_64, S390X])
def test_a_message_is_read_as_the_kernel_reads_it(abi: Abi) -> None:
    message = Message(version=2, asid=1, iova=0x1000, size=0x2000, uaddr=0x7000, perm=3, type=2)
    shown = call("write", (Buffer(encode_message(abi, message)),), 72, 0, None, abi=abi)
    assert "v2 UPDATE asid=0x1 iova=0x1000 size=0x2000 uaddr=0x7000 perm=0x3 (72 bytes)" in shown


def test_bytes_that_are_no_message_stay_bytes_and_so_does_what_other_files_get() -> None:
    assert "write(/dev/vhost-vdpa-0, ffff)" in call("write", (Buffer(b"\xff\xff"),), -E.EINVAL, E.EINVAL, "r")
    message = encode_message(X86_64, Message(version=2, asid=0, iova=1, size=1, uaddr=1, perm=1, type=2))
    assert f"write(eventfd-0, {message.hex()})" in call("write", (Buffer(message),), 8, 0, None, file="eventfd-0")


def test_calls_of_one_name_are_found_oldest_first_and_open_ones_stand_at_the_end() -> None:
    trace = TextTrace()
    for seq, size in ((1, 10), (2, 20), (3, 30)):
        trace.event((seq, 0, "vmm", Kind.ENTER, "read", "f", (size,)))
    trace.event((4, 0, "vmm", Kind.EXIT, "read", "f", 0, 0, None))
    assert trace.text().splitlines() == [
        "[4] 0 vmm: read(f, 0xa) = 0",
        "[2] 0 vmm: read(f, 0x14) = ?",
        "[3] 0 vmm: read(f, 0x1e) = ?",
    ]


def test_a_call_made_before_anybody_listened_has_no_arguments() -> None:
    trace = TextTrace()
    trace.event((4, 0, "vmm", Kind.EXIT, "read", "f", 72, 0, None))
    assert trace.text() == "[4] 0 vmm: read(f) = 72\n"


def test_what_the_limit_cut_off_is_counted() -> None:
    trace = TextTrace(limit=2)
    for seq in range(5):
        trace.event((seq, 0, "u", Kind.KICK, "d", 0))
    assert trace.dropped == 3
    assert trace.text().splitlines() == [
        "... 3 earlier events were not kept",
        "[3] 0 u: kick device=d queue=0",
        "[4] 0 u: kick device=d queue=0",
    ]


def test_equal_runs_give_equal_bytes() -> None:
    def run() -> str:
        sim = Simulator("6.12")
        trace = TextTrace()

        def take(event: Event) -> None:
            trace.event(event)

        sim.kernel.sink = take
        vmm = sim.process("vmm")
        file = vmm.open_nowait(sim.vdpa.dev_add("d", mgmtdev="vdpasim_net").path)
        file.ioctl_nowait(vhost.VHOST_SET_OWNER.request())
        vmm.exec_nowait()
        file.close_nowait()
        return trace.text()

    assert run() == run()
    assert "0x7f" not in run().replace("exec(", ""), "no address of this program"


def test_a_refusal_whose_handler_said_the_same_or_nothing_shows_one_errno() -> None:
    assert "inside" not in call("read", (), -E.EFAULT, E.EFAULT, "a.b")
    assert call("read", (), 5, E.EEXIST, None).endswith("= 5"), "only a refusal has a second errno"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.VIOLATION, ("id", "x\n[8] 0 vmm: kick device=d queue=0")),
        (Kind.UNMODELLED, ("tap:\r[8] 0 root", "w")),
        (Kind.KICK, ("d\x1b[2J", 0)),
    ],
)
def test_a_hostile_string_stays_in_its_line(kind: Kind, fields: tuple[Any, ...]) -> None:
    shown = line(kind, *fields)
    assert shown.isprintable()
