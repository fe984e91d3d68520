"""A real process to attach to, and what to do where that is not allowed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.attach.live import LiveTask, Loop
from vdpasim.attach.memory import LivePages
from vdpasim.core import profiles
from vdpasim.core.kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vdpasim.core.events import Event

REQUIRED = "live" in re.split(r"[ ,]+", os.environ.get("VDPASIM_REQUIRE", ""))


class RealProgram:
    """tests/attach/program.py as a process; every command is a method call over there."""

    def __init__(self, root: Path) -> None:
        path = os.pathsep.join([str(root), *(entry for entry in sys.path if entry)])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.attach.program"],
            cwd=root,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.at: dict[str, int] = self.answer()

    @property
    def pid(self) -> int:
        return self.process.pid

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def do(self, name: str, *args: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, *args]) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class Machine:
    """A kernel that serves a real process."""

    def __init__(self, program: RealProgram) -> None:
        self.kernel = Kernel(profiles.parse("tip"), live=True)
        self.events: list[Event] = []
        self.kernel.sink = self.events.append
        self.pages = LivePages(self.kernel)
        self.loop = Loop()
        self.task = LiveTask.attach(self.kernel, program.pid, "vmm", self.pages, self.loop)

    def close(self) -> None:
        self.task.close()
        self.loop.close()


@pytest.fixture
def program(root: Path) -> Iterator[RealProgram]:
    """A running program, or a skip with the reason why there cannot be one here."""
    reason = _why_not()
    if reason is not None:
        if REQUIRED:
            pytest.fail(f"VDPASIM_REQUIRE asks for live: {reason}")
        pytest.skip(reason)
    running = RealProgram(root)
    yield running
    running.close()


@pytest.fixture
def machine(program: RealProgram) -> Iterator[Machine]:
    made = Machine(program)
    yield made
    made.close()


@cache
def _why_not() -> str | None:
    if sys.platform != "linux":
        return "a real process can be attached on Linux only"
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        os.close(os.open(f"/proc/{child.pid}/mem", os.O_RDWR))
    except OSError as error:
        return f"/proc/PID/mem of a child cannot be opened: {error.strerror}"
    finally:
        child.communicate(b"\n")
    return None
