"""The registry of rules: ids, errnos, who holds where."""

from __future__ import annotations

import re

import pytest

from vdpasim.core.profiles import PROFILES, parse
from vdpasim.core.rules import RULES, KernelError, Rule, fail, hit, load, observe, register
from vdpasim.core.switches import SWITCHES
from vdpasim.uapi import errno as E


def row(*switches: str) -> Rule:
    return Rule("test.rule", "test.c:test()", E.EINVAL, "always", switches=switches)


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_a_row_says_where_when_and_for_which_kernels(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(\.[a-z0-9-]+)+", rule.id)
    assert re.fullmatch(r"[a-z0-9_]+\.[ch]:\w+(\(\))?|vdpasim: [\w/]+\.py", rule.where), rule.where
    assert rule.when
    assert rule.errno == 0 or rule.errno in (E.ENOIOCTLCMD, E.ENOTSUPP) or E.name(rule.errno).startswith("E")
    assert set(rule.switch_names()) <= set(SWITCHES)


def test_every_row_holds_somewhere_but_the_series_and_what_no_kernel_has() -> None:
    kernels = [parse(name).names for name in PROFILES]
    kernels += [parse("6.12+live-update-v1").names, parse("6.12+live-update-v2+lu-advertise").names]
    kernels.append(parse("6.12+live-update-fixed+lu-guard-resume+lu-guard-same-object").names)
    assert [rule.id for rule in RULES.values() if not any(rule.holds(one) for one in kernels)] == []


@pytest.mark.parametrize(
    ("switches", "on", "holds"),
    [
        ((), set(), True),
        (("F1",), {"F1"}, True),
        (("F1",), set(), False),
        (("-F1",), set(), True),
        (("-F1",), {"F1"}, False),
        (("F1", "F2"), {"F1"}, False),
        (("F1|F2",), {"F2"}, True),
        (("F1|-F2",), {"F2"}, False),
    ],
)
def test_all_words_must_hold_and_of_alternatives_one(switches: tuple[str, ...], on: set[str], holds: bool) -> None:
    assert row(*switches).holds(on) is holds


def test_a_refusal_has_the_errno_of_its_row() -> None:
    error = fail("vhost.owner.busy")
    assert isinstance(error, KernelError)
    assert (error.errno, error.rule, error.handler_errno) == (E.EBUSY, "vhost.owner.busy", E.EBUSY)


def test_a_row_that_does_not_exist_is_a_bug() -> None:
    with pytest.raises(KeyError):
        fail("vhost.no-such-rule")


def test_observers_hear_refusals_and_quirks_until_they_stop() -> None:
    heard: list[str] = []
    stop = observe(heard.append)
    fail("vhost.owner.busy")
    hit("sim.net.budget")
    stop()
    hit("sim.net.budget")
    assert heard == ["vhost.owner.busy", "sim.net.budget"]


def test_an_id_is_used_once() -> None:
    with pytest.raises(ValueError, match="is used twice"):
        register([RULES["vhost.owner.busy"]])


def test_loading_again_adds_nothing() -> None:
    before = len(RULES)
    load()
    assert len(RULES) == before
