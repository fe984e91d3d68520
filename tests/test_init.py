"""The public names of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vdpasim


@pytest.mark.parametrize("name", vdpasim.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(vdpasim, name) is not None
    assert name in dir(vdpasim)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Simulatr"):
        vdpasim.Simulatr  # noqa: B018


def test_importing_the_package_loads_nothing_else() -> None:
    program = "import sys, vdpasim; print(sorted(name for name in sys.modules if name.startswith('vdpasim')))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['vdpasim']"
