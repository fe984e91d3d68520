"""The decorator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.scenario import scenario

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


async def story(sim: Simulator) -> None:
    """A story."""


def test_one_kernel_or_several() -> None:
    assert scenario(kernel="6.1")(story).kernels == ("6.1",)
    assert scenario(kernel=("6.1", "tip"))(story).kernels == ("6.1", "tip")


def test_no_expectation_one_or_several() -> None:
    assert scenario()(story).expect == frozenset()
    assert scenario(expect="a")(story).expect == {"a"}
    assert scenario(expect=("a", "b"))(story).expect == {"a", "b"}


def test_an_expectation_for_each_kernel() -> None:
    one = scenario(kernel={"6.1": "a", "7.1": ("a", "b"), "tip": ()}, expect="c")(story)
    assert one.kernels == ("6.1", "7.1", "tip")
    assert [one.expected(kernel) for kernel in one.kernels] == [{"a"}, {"a", "b"}, set()]
    assert one.expected("6.12") == {"c"}, "a kernel it does not name"


def test_the_name_and_the_docstring_are_the_functions() -> None:
    one = scenario(demo=True)(story)
    assert (one.name, one.doc, one.demo) == ("story", "A story.", True)
