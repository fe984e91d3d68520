"""RLIMIT_MEMLOCK and capabilities, as setrlimit and prctl treat them."""

from __future__ import annotations

import pytest

from vdpasim.core.mm.rlimit import CAP_LAST_CAP, CAP_SYS_RESOURCE, MEMLOCK_DEFAULT, Rlimits
from vdpasim.core.ports import U64_MAX
from vdpasim.core.rules import KernelError
from vdpasim.uapi import errno as E

CAP_IPC_LOCK = 14
MIB = 1 << 20


def refused(errno: int) -> pytest.RaisesExc[KernelError]:
    return pytest.RaisesExc(KernelError, check=lambda error: error.errno == errno)


class TestLimit:
    def test_is_eight_mebibytes_unless_told_otherwise(self) -> None:
        assert (Rlimits().memlock, Rlimits().memlock_max) == (8 * MIB, MEMLOCK_DEFAULT)

    def test_a_given_limit_is_the_hard_one_too(self) -> None:
        assert Rlimits(memlock=MIB).memlock_max == MIB

    def test_soft_moves_freely_below_hard(self) -> None:
        limits = Rlimits(memlock=4 * MIB)
        limits.drop_cap(CAP_SYS_RESOURCE)
        limits.set_memlock(0, 4 * MIB)
        limits.set_memlock(4 * MIB, 4 * MIB)
        assert (limits.memlock, limits.memlock_max) == (4 * MIB, 4 * MIB)

    def test_soft_above_hard_is_einval_even_for_root_and_changes_nothing(self) -> None:
        limits = Rlimits(memlock=MIB)
        with refused(E.EINVAL):
            limits.set_memlock(2 * MIB, MIB)
        assert (limits.memlock, limits.memlock_max) == (MIB, MIB)

    def test_raising_hard_takes_cap_sys_resource(self) -> None:
        limits = Rlimits(memlock=MIB)
        limits.set_memlock(MIB, 2 * MIB)
        limits.drop_cap(CAP_SYS_RESOURCE)
        with refused(E.EPERM):
            limits.set_memlock(MIB, 3 * MIB)
        assert limits.memlock_max == 2 * MIB

    def test_einval_comes_before_eperm(self) -> None:
        limits = Rlimits(memlock=MIB)
        limits.drop_cap(CAP_SYS_RESOURCE)
        with refused(E.EINVAL):
            limits.set_memlock(3 * MIB, 2 * MIB)

    def test_a_lowered_hard_limit_stays_low_without_the_capability(self) -> None:
        limits = Rlimits()
        limits.drop_cap(CAP_SYS_RESOURCE)
        limits.set_memlock(0, 0)
        with refused(E.EPERM):
            limits.set_memlock(0, 1)

    def test_unlimited_is_a_limit_like_any_other(self) -> None:
        limits = Rlimits()
        limits.set_memlock(U64_MAX, U64_MAX)
        assert limits.memlock == U64_MAX


class TestCapabilities:
    def test_all_are_there_at_first_and_no_others(self) -> None:
        limits = Rlimits()
        assert all(limits.capable(cap) for cap in range(CAP_LAST_CAP + 1))
        assert not limits.capable(CAP_LAST_CAP + 1)

    def test_a_dropped_one_is_gone_and_the_others_stay(self) -> None:
        limits = Rlimits()
        limits.drop_cap(CAP_IPC_LOCK)
        limits.drop_cap(CAP_IPC_LOCK)
        assert not limits.capable(CAP_IPC_LOCK)
        assert limits.capable(CAP_SYS_RESOURCE)

    @pytest.mark.parametrize("cap", [-1, CAP_LAST_CAP + 1])
    def test_dropping_one_that_does_not_exist_is_einval(self, cap: int) -> None:
        with refused(E.EINVAL):
            Rlimits().drop_cap(cap)

    def test_can_be_given_from_the_start(self) -> None:
        assert not Rlimits(caps=frozenset({CAP_IPC_LOCK})).capable(CAP_SYS_RESOURCE)


def test_a_copy_begins_equal_and_goes_its_own_way() -> None:
    parent = Rlimits(memlock=MIB, memlock_max=2 * MIB)
    parent.drop_cap(CAP_IPC_LOCK)
    child = parent.copy()
    assert (child.memlock, child.memlock_max, child.capable(CAP_IPC_LOCK)) == (MIB, 2 * MIB, False)
    child.drop_cap(CAP_SYS_RESOURCE)
    child.set_memlock(0, 0)
    assert (parent.memlock, parent.capable(CAP_SYS_RESOURCE)) == (MIB, True)
