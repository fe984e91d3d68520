"""Patch series: found by their switch, applied to a file when it is opened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.core.support import Machine, refused
from vdpasim.core import series
from vdpasim.core.profiles import IMPLIED, ProfileError, parse
from vdpasim.core.rules import RULES, Rule, fail
from vdpasim.core.series import Series
from vdpasim.core.series.handler import IotlbMessage, Request, SeriesError, handler, mainline
from vdpasim.core.switches import SWITCHES, Switch
from vdpasim.sim import Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.uapi.ioctl import Direction, Ioctl
from vdpasim.uapi.vhost_types import VHOST_IOTLB_REMAP, VHOST_IOTLB_UPDATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.core.vhost.vdpa import VhostVdpa


@pytest.mark.parametrize(
    ("kernel", "names"),
    [
        ("6.12", []),
        ("6.12+lu-advertise", []),
        ("6.12+live-update-v1", ["live-update-v1"]),
        ("tip+live-update-v2", ["live-update-v2"]),
        ("7.1+live-update-v2+live-update-v1", ["live-update-v1", "live-update-v2"]),
    ],
)
def test_a_series_is_active_when_its_switch_is_on(kernel: str, names: list[str]) -> None:
    assert [one.name for one in series.active(parse(kernel))] == names


def test_every_series_is_a_switch() -> None:
    series.active(parse("tip"))
    assert set(series.SERIES) <= set(SWITCHES)


@pytest.mark.parametrize(("kernel", "mask"), [("6.12", 0), ("6.12+live-update-v1", 3 << 9)])
def test_its_backend_feature_bits_become_known(kernel: str, mask: int) -> None:
    assert series.backend_features(parse(kernel)) == mask
    assert series.offered(parse(kernel)) == 0, "a device says so itself"


def test_a_file_opened_without_it_has_mainline_s_tables() -> None:
    with_it, without = (open_file(kernel) for kernel in ("6.12+live-update-v1", "6.12"))
    assert set(with_it.ioctls) - set(without.ioctls) == {vhost.VHOST_NEW_OWNER.request()}
    assert set(with_it.messages) - set(without.messages) == {VHOST_IOTLB_REMAP}


def test_a_request_of_its_own_waits_for_the_devices_pass_and_no_other_does() -> None:
    series_on = "", "+live-update-v1", "+live-update-fixed"
    plain, posted, fixed = (open_file("6.12" + more).quiescing for more in series_on)
    assert posted - plain == fixed - plain == {vhost.VHOST_NEW_OWNER.request()}
    assert vhost.VHOST_VDPA_RESUME.request() in fixed


def open_file(kernel: str) -> VhostVdpa:
    opened = Machine(kernel=kernel).device.node.opened
    assert opened is not None
    return opened


# -- a series of one's own


CLEAN_UP = Ioctl("VHOST_MY_CLEAN_UP", Direction.NONE, 0xAF, 0x90, None)
TOUCH = 42
MY_BIT = 20


def count(context: Request | IotlbMessage) -> None:
    """A step that both kinds of handlers can have."""
    context.kept["count"] = context.kept.get("count", 0) + 1


def twice_is_enough(message: IotlbMessage) -> None:
    if message.kept["count"] > 2:
        raise fail("my.enough")


@pytest.fixture
def registry() -> Iterator[None]:
    """What is registered within the test is forgotten behind it."""
    series.load()
    tables: list[dict[str, Any]] = [series.SERIES, SWITCHES, RULES, IMPLIED]
    saved = [dict(table) for table in tables]
    yield
    for table, before in zip(tables, saved, strict=True):
        table.clear()
        table.update(before)


MINE = Series(
    "my-series",
    "Counts",
    backend_features=1 << MY_BIT,
    offers=1 << MY_BIT,
    ioctls={CLEAN_UP: handler(count), vhost.VHOST_VDPA_GET_STATUS: handler(count, mainline)},
    messages={TOUCH: handler(count, twice_is_enough), VHOST_IOTLB_UPDATE: handler(mainline, count)},
    implies=frozenset({"my-option"}),
    switches=(Switch("my-option", "An option"),),
    rules=(Rule("my.enough", "my.c:touch()", E.EBUSY, "touched twice"),),
)


@pytest.mark.usefixtures("registry")
def test_a_series_brings_a_bit_a_message_an_ioctl_a_switch_and_a_rule() -> None:
    series.register(MINE)
    one = Machine(kernel="6.12+my-series")
    assert one.sim.kernel.on("my-option")
    assert one.number(vhost.VHOST_GET_BACKEND_FEATURES, 8) >> MY_BIT & 1
    one.call(vhost.VHOST_SET_BACKEND_FEATURES, 1 << MY_BIT, code="Q")
    one.call(CLEAN_UP)
    one.update(0, 4096, one.memory().addr)
    with refused(E.EFAULT, "my.enough", inside=E.EBUSY):
        one.message(TOUCH)
    one.status(1)
    assert one.number(vhost.VHOST_VDPA_GET_STATUS, 1) == 1, "mainline's answer, behind a step of its own"


@pytest.mark.usefixtures("registry")
def test_without_its_switch_nothing_of_it_is_there() -> None:
    series.register(MINE)
    one = Machine(kernel="6.12")
    one.update(0, 4096, one.memory().addr)
    with refused(E.EFAULT, "vdpa.msg.unknown"):
        one.message(TOUCH)
    with refused(E.EOPNOTSUPP, "vdpa.backend.unknown"):
        one.call(vhost.VHOST_SET_BACKEND_FEATURES, 1 << MY_BIT, code="Q")
    with pytest.raises(OSError):
        one.call(CLEAN_UP)


@pytest.mark.usefixtures("registry")
def test_what_it_remembers_is_the_open_file_s() -> None:
    series.register(MINE)
    one, other = Machine(kernel="6.12+my-series"), Machine(kernel="6.12+my-series")
    for machine in (one, one, other):
        machine.call(CLEAN_UP)
    with refused(E.EFAULT, "my.enough"):
        one.update(0, 4096, one.memory().addr)
        one.message(TOUCH)
    other.update(0, 4096, other.memory().addr)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    "taken",
    [
        Series("F1", "the name of a fix"),
        Series("another", "a switch that is there", switches=(Switch("my-option", ""),)),
        Series("another", "a rule that is there", rules=MINE.rules),
        Series("another", "a rule of the kernel's", rules=(Rule("vdpa.remap.args", "", E.EINVAL, "when"),)),
    ],
    ids=["name", "switch", "rule", "kernel's rule"],
)
def test_what_is_there_already_is_refused_and_nothing_is_registered(taken: Series) -> None:
    series.register(MINE)
    before = list(series.SERIES), list(SWITCHES)
    with pytest.raises(ValueError, match=r"there already|used twice"):
        series.register(taken)
    assert (list(series.SERIES), list(SWITCHES)) == before


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Series("a+b c", ""), "cannot stand in a profile string"),
        (Series("", ""), "cannot stand in a profile string"),
        (Series("mine", "", implies=frozenset({"no-such-switch"})), "implies 'no-such-switch'"),
        (Series("mine", "", messages={"seven": handler(count)}), "messages {number: Handler}"),  # type: ignore[dict-item]
        (Series("mine", "", ioctls={39: handler(count)}), "ioctls are {Ioctl: Handler}"),  # type: ignore[dict-item]
        (Series("mine", "", messages={7: count}), "Handler"),  # type: ignore[dict-item]
    ],
)
def test_what_makes_no_series_is_said(wrong: Series, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        series.register(wrong)


@pytest.mark.usefixtures("registry")
def test_a_step_that_fails_by_itself_is_not_our_bug() -> None:
    def divide(message: IotlbMessage) -> None:
        message.kept["x"] = 1 // 0

    series.register(Series("broken", "", messages={TOUCH: handler(divide)}))
    one = Machine(kernel="6.12+broken")
    one.update(0, 4096, one.memory().addr)
    with pytest.raises(SeriesError, match="series broken: its step divide failed: ZeroDivisionError"):
        one.message(TOUCH)


def test_a_derived_series_has_what_its_parent_has_but_for_what_it_changes() -> None:
    child = MINE.derive("child", "Touches for ever", backend_features=1, messages={TOUCH: handler(count)})
    assert child.backend_features == MINE.backend_features | 1
    assert child.offers == MINE.offers
    assert child.implies == MINE.implies
    assert child.ioctls == MINE.ioctls
    assert child.messages[TOUCH].names == ("count",)
    assert child.messages[VHOST_IOTLB_UPDATE] is MINE.messages[VHOST_IOTLB_UPDATE]


@pytest.mark.parametrize("kernel", ["6.1", "6.1+live-update-fixed"])
def test_a_request_that_the_kernel_lacks_is_refused_as_without_the_series(kernel: str) -> None:
    """live-update-fixed looks at RESUME first; 6.1 has none."""
    with refused(E.EFAULT):
        Machine(kernel=kernel).call(vhost.VHOST_VDPA_RESUME)


def test_a_name_is_registered_once() -> None:
    series.active(parse("tip"))
    with pytest.raises(ValueError, match="'live-update-v1' is registered twice"):
        series.register(series.SERIES["live-update-v1"])


@pytest.mark.parametrize("kernel", ["6.12+live-update-v1+live-update-fixed", "tip+live-update-v1+live-update-v2"])
def test_two_series_that_answer_one_request_are_refused(kernel: str) -> None:
    with pytest.raises(ProfileError, match="both answer VHOST_NEW_OWNER: a kernel has one of them"):
        Simulator(kernel)
