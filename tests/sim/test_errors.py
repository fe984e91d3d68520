"""The errors users meet."""

from __future__ import annotations

import pytest

from vdpasim.core.rules import RULES, KernelError
from vdpasim.sim.errors import (
    Deadlock,
    Livelock,
    UsageError,
    VdpasimError,
    WouldBlock,
    kernel_error,
    os_error,
    os_errors,
)
from vdpasim.uapi import errno as E


class TestRefusals:
    def test_are_plain_os_errors_of_python_s_own_types(self) -> None:
        assert type(os_error(E.EAGAIN)) is BlockingIOError
        assert type(os_error(E.EINTR)) is InterruptedError
        assert type(os_error(E.ENOENT)) is FileNotFoundError
        assert type(os_error(E.EINVAL)) is OSError

    def test_have_the_kernel_s_text(self) -> None:
        assert str(os_error(E.EBUSY)) == f"[Errno {E.EBUSY}] {E.strerror(E.EBUSY)}"

    def test_carry_the_rule_as_attribute_and_note(self) -> None:
        error = os_error(E.EPERM, "vfs.no-epoll")
        rule = RULES["vfs.no-epoll"]
        assert error.rule == "vfs.no-epoll"  # type: ignore[attr-defined]
        assert error.__notes__ == [f"vfs.no-epoll: {rule.where}: {rule.when}"]

    def test_say_what_the_handler_said_when_that_was_something_else(self) -> None:
        error = os_error(E.EFAULT, "vdpa.iotlb.update-overlap", E.EEXIST)
        assert (error.errno, error.handler_errno) == (E.EFAULT, E.EEXIST)  # type: ignore[attr-defined]
        assert error.__notes__[-1] == "the handler said EEXIST"

    def test_have_their_own_errno_as_the_handler_s_otherwise(self) -> None:
        error = os_error(E.EBUSY, "vhost.owner.busy")
        assert error.handler_errno == E.EBUSY  # type: ignore[attr-defined]
        assert len(error.__notes__) == 1

    def test_without_a_rule_have_no_note(self) -> None:
        assert not hasattr(os_error(E.EIO), "__notes__")

    def test_are_made_of_kernel_errors(self) -> None:
        error = kernel_error(KernelError(E.ENOMEM, "vdpa.pa.memlock"))
        assert (error.errno, error.rule) == (E.ENOMEM, "vdpa.pa.memlock")  # type: ignore[attr-defined]

    def test_are_what_comes_out_of_a_block_that_makes_no_call(self) -> None:
        with pytest.raises(OSError) as caught, os_errors():
            raise KernelError(E.ENOMEM, "vdpa.pa.memlock")
        assert (caught.value.errno, caught.value.rule) == (E.ENOMEM, "vdpa.pa.memlock")  # type: ignore[attr-defined]


class TestFamilies:
    @pytest.mark.parametrize("kind", [UsageError, WouldBlock, Deadlock, Livelock])
    def test_misuse_is_no_os_error(self, kind: type[Exception]) -> None:
        assert issubclass(kind, VdpasimError)
        assert not issubclass(kind, OSError)
