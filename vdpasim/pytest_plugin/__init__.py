"""The pytest plugin: a machine for each test, judged by the standard checks, and what it takes to repeat a failure.

Theory. pytest loads this module in every run of everybody who has vdpasim installed, so it imports nothing but pytest
and two small modules; the simulator comes with the first fixture that is used. A test gets its machine from the fixture
``vdpasim``, opened devices from ``vhost_vdpa`` and ``vhost_net``, a campaign over schedules from ``explore``. What the
checks found fails the test when its body is over, and in the teardown what they found after that. A failure is reported
with the last events, the rules that refused, and the command that runs the test again.

No fixture needs an event loop: the same test works under pytest-trio, without it, and in a worker of xdist.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vdpasim.pytest_plugin import report, settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from vdpasim.pytest_plugin.exploring import Explorer
    from vdpasim.pytest_plugin.handles import OpenNet, OpenVdpa
    from vdpasim.pytest_plugin.machine import Machine
    from vdpasim.sim import Simulator

MARKER = (
    "vdpasim(kernel=, abi=, seed=, device=, expect=, options=, extensions=, faults=): the machine of a test: a profile"
    " string or several, the kernel's ABI, what choices are drawn from, the vDPA device that vhost_vdpa opens, the"
    " findings that must be there, and what Simulator() takes"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options and their defaults in the ini file."""
    group = parser.getgroup("vdpasim", "simulated vhost and vDPA devices")
    group.addoption(
        "--vdpasim-kernel",
        action="append",
        metavar="PROFILE",
        help="kernel of tests that do not name one: 6.1, tip, 6.12+live-update-v1; several: each test runs on each",
    )
    group.addoption(
        "--vdpasim-series",
        metavar="NAME|FILE",
        help="a patch series, put on the kernel of every test in the place of the one that is there",
    )
    group.addoption("--vdpasim-seed", type=_number, metavar="N", help="seed of tests that do not name one")
    group.addoption("--vdpasim-schedule", metavar="TEXT", help="explore() replays this schedule instead of searching")
    group.addoption("--vdpasim-trace-dir", metavar="DIR", help="write the trace of every test into this folder")
    parser.addini("vdpasim_kernel", "default of --vdpasim-kernel, one a line", type="linelist", default=[])
    parser.addini("vdpasim_series", "default of --vdpasim-series, a file seen from the root folder", default="")
    parser.addini("vdpasim_seed", "default of --vdpasim-seed", default="0")
    parser.addini("vdpasim_trace_dir", "default of --vdpasim-trace-dir, seen from the root folder", default="")


def _number(text: str) -> int:
    return int(text, 0)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; refuse a wrong option before anything is collected."""
    config.addinivalue_line("markers", MARKER)
    # absolute, for workers that may run elsewhere
    here, given = config.invocation_params.dir, config.option
    if given.vdpasim_trace_dir:
        given.vdpasim_trace_dir = str(Path(here, given.vdpasim_trace_dir))
    if given.vdpasim_series and Path(here, given.vdpasim_series).is_file():
        given.vdpasim_series = str(Path(here, given.vdpasim_series))
    try:
        settings.check_options(config)
    except ValueError as error:
        raise pytest.UsageError(f"vdpasim: {error}") from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Several kernels: a run of the test for each."""
    if settings.KERNEL not in metafunc.fixturenames:
        return
    if settings.parametrized(metafunc.definition):
        return  # the test does it by itself
    marked = settings.marked(metafunc.definition)
    kernels = settings.kernels(metafunc.config, marked)
    if len(kernels) > 1 or settings.is_list(marked.get("kernel")):
        metafunc.parametrize(settings.KERNEL, kernels)


# ------------------------------------------------------------------------------------------------------------ fixtures


def _refusal(reason: object) -> BaseException:
    # of a marker: one line, without a traceback through this package
    return pytest.fail.Exception(f"vdpasim: {reason}", pytrace=False)


@pytest.fixture
def vdpasim_kernel(request: pytest.FixtureRequest) -> str:
    """The kernel's profile string; parametrize it, or let marker and options do so."""
    first, *others = settings.kernels(request.config, settings.marked(request.node))
    if others:
        raise _refusal("there are several kernels, so the test must name the fixture as a parameter")
    return first


@pytest.fixture
def _vdpasim_settings(request: pytest.FixtureRequest, vdpasim_kernel: str) -> Iterator[settings.Settings]:
    # resolved once a test
    try:
        found = settings.resolve(request, vdpasim_kernel)
    except ValueError as error:
        raise _refusal(error) from None
    report.begin(request.node, found)
    yield found
    report.conclude(request.node)


@pytest.fixture
def _vdpasim_machine(request: pytest.FixtureRequest, _vdpasim_settings: settings.Settings) -> Iterator[Machine]:
    from vdpasim.pytest_plugin.machine import Machine, MachineError  # noqa: PLC0415 - the simulator, on first use

    try:
        machine = Machine(_vdpasim_settings, keep_all=settings.trace_dir(request.config) is not None)
    except MachineError as error:
        raise _refusal(error) from None
    report.add(request.node, machine)
    report.rests_on(request.node, machine.unconfirmed)
    yield machine
    complaint = machine.complaint() if machine.judged else ""
    machine.close()
    if complaint:
        pytest.fail(complaint, pytrace=False)


@pytest.fixture
def vdpasim(_vdpasim_machine: Machine) -> Simulator:
    """A fresh machine that the standard checks watch."""
    return _vdpasim_machine.sim


@pytest.fixture
def vhost_vdpa(_vdpasim_machine: Machine) -> OpenVdpa:
    """/dev/vhost-vdpa-0, opened by the process "vmm"; the device is the marker's, ``vdpasim_net`` by default."""
    from vdpasim.pytest_plugin.handles import open_vdpa  # noqa: PLC0415 - the simulator, on first use

    try:
        return open_vdpa(_vdpasim_machine)
    except ValueError as error:
        raise _refusal(error) from None


@pytest.fixture
def vhost_net(_vdpasim_machine: Machine) -> OpenNet:
    """/dev/vhost-net, opened by the process "vmm"."""
    from vdpasim.pytest_plugin.handles import open_net  # noqa: PLC0415 - the simulator, on first use

    return open_net(_vdpasim_machine)


@pytest.fixture
def explore(request: pytest.FixtureRequest, _vdpasim_settings: settings.Settings) -> Explorer:
    """``explore(body)``: run ``async def body(sim)`` under many schedules, each on a fresh machine."""
    from vdpasim.pytest_plugin.exploring import Explorer  # noqa: PLC0415 - the simulator, on first use

    return Explorer(request.node, _vdpasim_settings)


# ------------------------------------------------------------------------------------------------------------- reports


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """A test that went through is judged by the checks."""
    yield
    complaint = report.judge(item)
    if complaint:
        pytest.fail(complaint, pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what led to a failure, and how to get there again."""
    if call.excinfo is not None:
        report.shorten(item, call.excinfo)
    made = yield
    if made.failed:
        made.sections += report.sections(item)
    return made
