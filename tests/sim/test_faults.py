"""The notation of faults, the plan that counts occurrences, and the simulator that has one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vdpasim.core.ports import Strike
from vdpasim.sim import Simulator, UsageError
from vdpasim.sim.faults import GRAMMAR, OPS, PLACES, Fault, FaultPlan, Op, errnos, nearest, parse
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.uapi.catalog import requests

if TYPE_CHECKING:
    from vdpasim.sim import File

MAX = 10**18 - 1


def test_every_vhost_request_is_an_operation() -> None:
    assert {name for name in requests() if name.startswith("VHOST_")} <= set(OPS)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("kick", Fault("kick", drop=True)),
        ("MISS:every", Fault("MISS", last=None, drop=True)),
        ("VHOST_SET_OWNER", Fault("VHOST_SET_OWNER", errno=E.EIO)),
        ("dma", Fault("dma", errno=E.EFAULT)),
        ("VHOST_VDPA_SUSPEND@foo:2:EBUSY", Fault("VHOST_VDPA_SUSPEND", "foo", 2, 2, E.EBUSY)),
        ("UPDATE@/dev/vhost-vdpa-0:3-5:delay=20us", Fault("UPDATE", "/dev/vhost-vdpa-0", 3, 5, delay_ns=20_000)),
        ("UPDATE:delay=7", Fault("UPDATE", delay_ns=7)),
        ("call:every:delay=1s", Fault("call", last=None, delay_ns=10**9)),
        ("set_map:drop", Fault("set_map", drop=True)),
        ("open@vhost-net:1:EWOULDBLOCK", Fault("open", "vhost-net", errno=E.EAGAIN)),
        ("VHOST_SET_OWNER:1:ENOIOCTLCMD", Fault("VHOST_SET_OWNER", errno=E.ENOIOCTLCMD)),
    ],
)
def test_a_fault_is_read(text: str, fault: Fault) -> None:
    assert parse(text) == fault


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no operation ''; `vdpasim faults` lists them"),
        ("suspend", "there is no operation 'suspend'; nearest: VHOST_VDPA_SUSPEND"),
        ("Kick", "nearest: kick"),
        ("kick@", "behind @ comes a device"),
        ("kick@a b", "behind @ comes a device"),
        ("kick:0", "'0' is no count: the first one is 1"),
        ("kick:5-3", "'5-3' is no count: the first one is 1, and a range goes up"),
        ("kick:1x", "'1x' is no count: 3, 3-5 or every"),
        ("kick:\N{ARABIC-INDIC DIGIT ONE}", "is no count"),
        ("kick:1" + 5000 * "0", "is no count"),
        ("kick:drop:2", "'2' is too much"),
        ("kick:2:drop:drop", "'drop' is too much"),
        ("kick:1:EIO", "kick cannot fail with EIO; it takes drop, delay=T"),
        ("UPDATE:", "'' is no errno, delay=T or drop"),
        ("UPDATE:ENOSUCH", "'ENOSUCH' is no errno"),
        ("UPDATE:EINVALL", "nearest: EINVAL "),
        ("UPDATE:evry", "nearest: every "),
        ("UPDATE:ERESTARTSYS", "is no errno"),
        ("UPDATE:delay", "'delay' is no delay"),
        ("UPDATE:delay=0us", "is no delay"),
        ("UPDATE:delay=-1", "is no delay"),
        ("UPDATE:delay=1.5ms", "is no delay"),
        ("UPDATE:delay=1h", "is no delay"),
        ("dma:drop", "dma cannot be dropped; it takes EFAULT"),
        ("dma.read:delay=5us", "dma.read cannot be delayed; it takes EFAULT"),
        ("dma.write:EIO", "dma.write cannot fail with EIO; it takes EFAULT"),
        ("set_map:delay=5us", "set_map cannot be delayed; it takes ERRNO, drop"),
        ("open:drop", "open cannot be dropped; it takes ERRNO, delay=T"),
        ("MISS:delay=5us", "MISS cannot be delayed; it takes drop"),
    ],
)
def test_what_is_no_fault_is_refused_with_the_reason_and_the_grammar(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert why in str(caught.value)
    assert GRAMMAR in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_nearest_finds_words_inside_names_first() -> None:
    assert nearest("SET_OWNER")[0] == "VHOST_SET_OWNER"
    assert nearest("VHOST_SET_VRING_NUMM")[0] == "VHOST_SET_VRING_NUM"
    assert nearest("?") == []


def fates(op: Op) -> st.SearchStrategy[dict[str, object]]:
    place = op.place
    ways: list[st.SearchStrategy[dict[str, object]]] = []
    if place.errno:
        ways.append(st.sampled_from([place.errno] if place.only_errno else sorted(errnos().values())).map(errno))
    if place.delay:
        ways.append(st.integers(1, MAX).map(lambda ns: {"delay_ns": ns}))
    if place.drop:
        ways.append(st.just({"drop": True}))
    return st.one_of(ways)


def errno(number: int) -> dict[str, object]:
    return {"errno": number}


@st.composite
def all_faults(draw: st.DrawFn) -> Fault:
    op = OPS[draw(st.sampled_from(sorted(OPS)))]
    device = draw(st.sampled_from(["", "vhost-vdpa-0", "foo", "/dev/vhost-vdpa+miss-1", "a@b"]))
    first = draw(st.integers(1, MAX))
    last = draw(st.integers(first, MAX))
    every = draw(st.booleans())
    return Fault(op.name, device, *((1, None) if every else (first, last)), **draw(fates(op)))  # type: ignore[arg-type]


@given(all_faults())
def test_a_fault_reads_back_what_it_prints(fault: Fault) -> None:
    assert parse(str(fault)) == fault
    assert "{" not in fault.words()


PARTS = st.sampled_from(
    ["kick", "UPDATE", "dma", "@", ":", "-", "every", "drop", "delay=", "5us", "1", "0", "EIO", "E", " ", "²"]
)


@given(st.text() | st.lists(PARTS).map("".join))
@example("kick:1\n")
@example("UPDATE:delay=5us\n")
def test_any_text_is_a_fault_or_refused(text: str) -> None:
    try:
        fault = parse(text)
    except UsageError:
        return
    assert parse(str(fault)) == fault


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_each_place_has_operations_and_words_for_what_can_befall_them(place: object) -> None:
    assert [op for op in OPS.values() if op.place is place]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("VHOST_VDPA_SUSPEND@foo:2:EIO", "the 2nd VHOST_VDPA_SUSPEND at foo fails with EIO (Input/output error)"),
        ("kick:11-23", "the 11th to 23rd kick at each device is lost"),
        ("UPDATE:every:delay=5000us", "every UPDATE at each device happens 5ms later"),
        ("INVALIDATE:drop", "the 1st INVALIDATE at each device is swallowed: nothing is done and success is returned"),
        ("dma.read:3", "the 3rd dma.read at each device moves no byte: the device meets EFAULT (Bad address)"),
    ],
)
def test_a_fault_in_words(text: str, words: str) -> None:
    assert parse(text).words() == words


class TestPlan:
    @pytest.fixture
    def plan(self) -> FaultPlan:
        return FaultPlan({"foo": "/dev/vhost-vdpa-0", "bar": "/dev/vhost-vdpa-1"})

    def test_strikes_the_occurrences_it_names_on_each_device(self, plan: FaultPlan) -> None:
        one = plan.add("kick:2-3")
        struck = [bool(plan.strike("kick", "vhost-vdpa-0")) for _ in range(4)]
        assert struck == [False, True, True, False]
        assert [bool(plan.strike("kick", "vhost-vdpa-1")) for _ in range(2)] == [False, True]
        assert one.fired == 3
        assert plan.unfired == []

    @pytest.mark.parametrize("device", ["foo", "vhost-vdpa-0", "/dev/vhost-vdpa-0"])
    @pytest.mark.parametrize("called", ["foo", "vhost-vdpa-0"])
    def test_a_device_has_three_names_and_one_count(self, plan: FaultPlan, device: str, called: str) -> None:
        one = plan.add(f"dma@{device}:2")
        assert plan.strike("dma.read", "vhost-vdpa-1") is None
        assert plan.strike("dma.read", "vhost-vdpa-0") is None
        assert plan.strike("dma.write", called) == Strike(E.EFAULT)
        assert one.seen == {"vhost-vdpa-0": 2, "vhost-vdpa-1": 1}

    def test_a_device_may_be_called_like_the_node_of_another(self) -> None:
        plan = FaultPlan({"vhost-vdpa-1": "/dev/vhost-vdpa-0", "bar": "/dev/vhost-vdpa-1"})
        assert plan.names("vhost-vdpa-1")[1] == "bar"

    @pytest.mark.parametrize("device", ["vhost-net-0", "vhost-net", "/dev/vhost-net"])
    def test_vhost_net_is_meant_by_its_node_or_by_one_open(self, plan: FaultPlan, device: str) -> None:
        plan.add(f"VHOST_SET_OWNER@{device}")
        assert plan.strike("VHOST_SET_OWNER", "vhost-net-0")
        assert plan.strike("VHOST_SET_OWNER", "vhost-vdpa-0") is None

    def test_other_operations_do_not_count(self, plan: FaultPlan) -> None:
        one = plan.add("dma.read")
        assert plan.strike("dma.write", "foo") is None
        assert plan.strike("kick", "foo") is None
        assert not one.seen

    def test_faults_that_meet_add_up(self, plan: FaultPlan) -> None:
        for text in ("UPDATE:delay=5", "UPDATE:drop", "UPDATE:delay=6", "UPDATE:EIO", "UPDATE:ENOMEM"):
            plan.add(text)
        assert plan.strike("UPDATE", "foo") == Strike(E.EIO, 11, drop=True)
        assert plan.unfired == []

    def test_a_fault_counts_from_when_it_is_added_and_until_it_is_lifted(self, plan: FaultPlan) -> None:
        plan.add("call:9")
        plan.strike("kick", "foo")
        one = plan.add("kick:every")
        assert plan.strike("kick", "foo")
        one.lift()
        assert plan.strike("kick", "foo") is None
        assert (one.fired, one.seen["vhost-vdpa-0"]) == (1, 1)

    def test_a_fault_that_never_fired_says_what_came_instead(self, plan: FaultPlan) -> None:
        one = plan.add("kick@foo:3:drop")
        assert one.complaint() == "fault kick@foo:3:drop never fired: kick came at no device"
        for device in ("foo", "bar", "bar"):
            plan.strike("kick", device)
        assert plan.unfired == [one]
        assert one.complaint().endswith("never fired: kick came once at vhost-vdpa-0, 2 times at vhost-vdpa-1")


class TestSimulator:
    def opened(self, sim: Simulator) -> File:
        device = sim.vdpa.dev_add("foo", mgmtdev="vdpasim_blk")
        return sim.process("vmm").open_nowait(device.path)

    def test_has_no_port_without_a_fault(self) -> None:
        assert Simulator().kernel.faults is None

    def test_is_made_with_faults(self) -> None:
        sim = Simulator(faults=("VHOST_SET_OWNER@foo:2:EBUSY",))
        file = self.opened(sim)
        file.ioctl_nowait(vhost.VHOST_SET_OWNER.request())
        with pytest.raises(OSError, match="busy") as caught:
            file.ioctl_nowait(vhost.VHOST_SET_OWNER.request())
        assert getattr(caught.value, "rule", None) == "fault.injected"
        assert sim.faults.unfired == []

    def test_takes_faults_while_it_runs(self) -> None:
        sim = Simulator()
        file = self.opened(sim)
        fault = sim.inject("VHOST_SET_OWNER@vhost-vdpa-0:every:drop")
        assert fault.fired == 0
        for _ in range(3):
            file.ioctl_nowait(vhost.VHOST_SET_OWNER.request())
        assert fault.fired == 3
        fault.lift()
        file.ioctl_nowait(vhost.VHOST_SET_OWNER.request())
        assert fault.fired == 3

    def test_refuses_what_is_no_fault(self) -> None:
        with pytest.raises(UsageError, match=re.escape("nearest: VHOST_SET_OWNER")):
            Simulator(faults=["SET_OWNER"])
        with pytest.raises(UsageError, match="no operation"):
            Simulator().inject("teleport")

    def test_a_device_added_later_is_known_by_its_name(self) -> None:
        sim = Simulator(faults=["open@foo:1:EPERM"])
        sim.vdpa.dev_add("other", mgmtdev="vdpasim_blk")
        with pytest.raises(PermissionError):
            self.opened(sim)
